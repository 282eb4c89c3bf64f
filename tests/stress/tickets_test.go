// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"errors"
	"os"
	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
	"sync"
	"testing"
	"time"
)

// TestTicketTorture: many connections call all hooks at once, while the context changes.
func TestTicketTorture(t *testing.T) {
	d := tlstest.TortureTime(t)
	defer tlstest.Watchdog(d + 30*time.Second)()
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		live := ossltest.LiveSessions()
		func() {
			e := tlstest.NewEnds(t, v)
			defer func() { _, _ = e.Server.Close(), e.Client.Close() }()
			until := time.Now().Add(d / 2)
			key := sslctx.NewTicketKey()
			change := func(i int) {
				var ring *sslctx.TicketKeyRing
				if i%3 > 0 {
					ring = &sslctx.TicketKeyRing{Current: key, Old: []sslctx.TicketKey{sslctx.NewTicketKey()}}
				}
				tlstest.Must(t, e.Server.SetTicketKeyRing(ring))
				tlstest.Must(t, e.Server.SetNumTickets(i%4))
				tlstest.Must(t, e.Server.SetSessionIDPrefix([]byte{byte(i)}))
				if i%2 > 0 {
					tlstest.Must(t, e.Server.SetSessionIDGenerator(func(_ context.Context, c *sslctx.Conn, n int) ([]byte, error) {
						id := sslctx.NewTicketKey().Bytes()[:n]
						_, err := c.HasMatchingSessionID(id)
						return id, err
					}))
				}
				tlstest.Must(t, e.Server.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { return i%5 == 0 }))
				tlstest.Must(t, e.Server.SetSessionTicketCallback(func(_ context.Context, k sslctx.SessionTicket) ([]byte, error) {
					return append(k.AppData, byte(i)), k.Session.Close()
				}, func(_ context.Context, k sslctx.SessionTicket) sslctx.TicketReturn {
					_ = k.Session.Close()
					switch {
					case i%7 == 0:
						return sslctx.TicketAbort
					case k.Session == nil:
						return sslctx.TicketIgnoreRenew
					}
					return sslctx.TicketUse
				}))
			}
			change(1)
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 1; time.Now().Before(until); i++ {
					change(i)
				}
			})
			var reused, failed, all atomicCount
			for range 6 {
				wg.Go(func() {
					var offer *sslctx.Session
					for time.Now().Before(until) {
						offer = tortured(t, e, offer, &reused, &failed)
						all.add(1)
					}
					_ = offer.Close()
				})
			}
			wg.Wait()
			t.Logf("%d connections, %d resumed, %d failed", all.n, reused.n, failed.n)
		}()
		if n := ossltest.CollectUntil(ossltest.LiveSessions, live); n > live {
			t.Errorf("%d sessions, %d before", n, live)
		}
	})
}

type atomicCount struct {
	mu sync.Mutex
	n  int
}

func (c *atomicCount) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
}

// tortured connects in memory, closes offer, and returns what to offer next.
func tortured(t *testing.T, e tlstest.Ends, offer *sslctx.Session, reused, failed *atomicCount) (next *sslctx.Session) {
	a, b := tlstest.Wire()
	server, err := sslctx.Server(a, e.Server)
	tlstest.Must(t, err)
	client, err := sslctx.Client(b, e.Client)
	tlstest.Must(t, err)
	tlstest.Must(t, client.AcceptAnyName())
	if err := client.SetSession(offer); err != nil && !errors.Is(err, sslctx.ErrNoCipher) { // from a failed handshake
		t.Error(err)
	}
	_ = offer.Close()
	deadline := time.Now().Add(20 * time.Second)
	_, _ = server.SetDeadline(deadline), client.SetDeadline(deadline)
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte{1})
		if err != nil {
			_ = server.Abort()
		}
		done <- err
	}()
	_, err = client.Read(make([]byte, 1))
	if err = errors.Join(err, <-done); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err != nil {
		failed.add(1)
	} else if server.SessionReused() {
		reused.add(1)
	}
	next, _ = client.Session()
	_, _ = server.SetQuietShutdown(true), client.SetQuietShutdown(true)
	_, _ = client.Close(), server.Close()
	return next
}
