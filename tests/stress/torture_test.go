// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// TestHooksTorture adds, removes, flushes, resumes and evicts on small caches from eight
// goroutines, with hooks that do the same and close the sessions that they get. Nothing may hang,
// and nothing is left.
func TestHooksTorture(t *testing.T) {
	d := tlstest.TortureTime(t)
	defer tlstest.Watchdog(d + 30*time.Second)()
	sessions, ssls, contexts := ossltest.LiveSessions(), ossltest.LiveSSLs(), ossltest.LiveContexts()
	var did [6]int64
	func() {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		w := &torture{t: t, Ends: tlstest.NewEnds(t, sslctx.VersionTLS12)}
		_, err := w.Server.SetOptions(sslctx.OpNoTicket)
		tlstest.Must(t, err)
		defer w.close()
		for _, c := range []*sslctx.Context{w.Server, w.Client} {
			_, err := c.SetSessionCacheMode(sslctx.SessCacheBoth)
			tlstest.Must(t, err)
			_, err = c.SetCacheSize(4)
			tlstest.Must(t, err)
			tlstest.Must(t, c.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) { w.heard(c, s) }))
			tlstest.Must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { w.heard(nil, s) }))
		}
		tlstest.Must(t, w.Server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return w.any() }))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					n := rand.IntN(len(did))
					w.step(n)
					atomic.AddInt64(&did[n], 1)
				}
			})
		}
		wg.Wait()
	}()
	for what, c := range map[string]struct {
		now    func() int
		before int
	}{"sessions": {ossltest.LiveSessions, sessions}, "SSLs": {ossltest.LiveSSLs, ssls}, "contexts": {ossltest.LiveContexts, contexts}} {
		if n := ossltest.CollectUntil(c.now, c.before); n > c.before {
			t.Errorf("%d %s, %d before", n, what, c.before)
		}
	}
	t.Logf("adds, removals, flushes, connections, closed sessions, configurations: %v", did)
}

type torture struct {
	tlstest.Ends
	t     *testing.T
	depth atomic.Int32
	pool  [16]atomic.Pointer[sslctx.Session]
}

// any returns a session that a hook got, or a new one.
func (w *torture) any() *sslctx.Session {
	if s := w.pool[rand.IntN(len(w.pool))].Load(); s != nil && rand.IntN(4) > 0 {
		return s
	}
	s, err := sslctx.NewSession()
	tlstest.Must(w.t, err)
	tlstest.Must(w.t, s.SetID(fmt.Append(nil, rand.IntN(8))))
	return w.keep(s)
}

func (w *torture) keep(s *sslctx.Session) *sslctx.Session {
	if old := w.pool[rand.IntN(len(w.pool))].Swap(s); old != nil && rand.IntN(2) == 0 {
		_ = old.Close()
	}
	return s
}

// heard is the hook. It makes the same kinds of calls.
func (w *torture) heard(c *sslctx.Conn, s *sslctx.Session) {
	w.keep(s)
	if w.depth.Add(1) < 20 {
		w.step(rand.IntN(6))
	}
	w.depth.Add(-1)
	if c != nil && rand.IntN(8) == 0 {
		_ = c.Close()
	}
}

func (w *torture) step(n int) {
	c := w.Server
	if rand.IntN(2) == 0 {
		c = w.Client
	}
	var err error
	switch n {
	case 0:
		_, err = c.AddSession(w.any())
	case 1:
		_, err = c.RemoveSession(w.any())
	case 2:
		if rand.IntN(8) == 0 {
			err = c.FlushSessions(time.Time{})
		}
	case 3:
		w.connection()
	case 4:
		err = w.any().Close()
	case 5:
		if _, err = c.SetCacheSize(1 + rand.IntN(8)); err == nil {
			err = w.any().SetTimeout(time.Duration(rand.IntN(1000)) * time.Second)
		}
	}
	w.tolerate(err)
}

// tolerate reports all errors but these: a session may be closed already, belong to the other
// context, or come from a handshake that failed before it had a cipher.
func (w *torture) tolerate(err error) {
	for _, is := range []error{nil, sslctx.ErrClosed, sslctx.ErrForeignContext, sslctx.ErrNoCipher} {
		if errors.Is(err, is) {
			return
		}
	}
	w.t.Error(err)
}

// connection connects in memory, with some session if there is one, and ends with or without an
// error.
func (w *torture) connection() {
	a, b := tlstest.Wire()
	server, err := sslctx.Server(a, w.Server)
	if err != nil { // at the end, when a context reports its last sessions
		w.tolerate(err)
		return
	}
	client, err := sslctx.Client(b, w.Client)
	if err == nil {
		err = client.AcceptAnyName()
	}
	if err != nil {
		w.tolerate(errors.Join(err, server.Close()))
		return
	}
	if s := w.pool[rand.IntN(len(w.pool))].Load(); s != nil {
		w.tolerate(client.SetSession(s))
	}
	deadline := time.Now().Add(10 * time.Second)
	_, _ = server.SetDeadline(deadline), client.SetDeadline(deadline)
	var wg sync.WaitGroup
	for _, c := range []*sslctx.Conn{server, client} {
		wg.Go(func() {
			_ = c.Handshake()
			if rand.IntN(4) == 0 {
				_ = c.Abort()
			}
			_ = c.Close() // the peer need not read it
		})
	}
	wg.Wait()
}

// close closes the contexts. Their hooks get the last sessions; close then closes the sessions that
// they left in the pool.
func (w *torture) close() {
	_, _ = w.Server.Close(), w.Client.Close()
	for i := range w.pool {
		if s := w.pool[i].Load(); s != nil {
			_ = s.Close()
		}
	}
}

// TestManyLookups: thousands of handshakes wait for their lookups at once. Goroutines wait, not
// threads. Then the lookups never answer, and full handshakes follow.
func TestManyLookups(t *testing.T) {
	n, wait := 1000, 100*time.Millisecond
	if os.Getenv("SSLCTX_TORTURE") != "" {
		n, wait = 10_000, time.Second
	}
	defer tlstest.Watchdog(2 * time.Minute)()
	var outside tlstest.Store
	e := tlstest.NewEnds(t, sslctx.VersionTLS12)
	outside.Fill(t, e.Server)
	server, client := e.Connect(t, nil)
	offer := tlstest.SessionOf(t, client)
	tlstest.Must(t, errors.Join(client.Close(), server.Close()))
	before := tlstest.ProcessStatus(t, "Threads") // earlier tests have left theirs
	for name, answers := range map[string]bool{"slow": true, "deaf": false} {
		t.Run(name, func(t *testing.T) {
			var waiting atomic.Int64
			all := make(chan bool)
			stop := make(chan bool)
			var finds sync.WaitGroup
			defer func() { close(stop); finds.Wait() }() // a late lookup still makes its session
			tlstest.Must(t, e.Server.SetSessionLookup(&sslctx.SessionLookup{
				Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
					finds.Add(1)
					defer finds.Done()
					if waiting.Add(1) == int64(n) {
						close(all)
					}
					if <-all; !answers {
						<-stop // it ignores ctx
					}
					time.Sleep(wait)
					return outside.Get(t, q.ID), nil
				},
				Timeout: map[bool]time.Duration{true: time.Minute, false: time.Second}[answers],
			}))
			var reused atomic.Int64
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					if e.InMemory(t, offer) {
						reused.Add(1)
					}
				})
			}
			<-all
			threads, memory := tlstest.ProcessStatus(t, "Threads"), tlstest.ProcessStatus(t, "VmRSS")
			wg.Wait()
			if want := map[bool]int64{true: int64(n), false: 0}[answers]; reused.Load() != want {
				t.Errorf("%d handshakes of %d were resumed, want %d", reused.Load(), n, want)
			}
			if threads-before >= 30 {
				t.Errorf("%d threads for %d lookups, %d before", threads, n, before)
			}
			t.Logf("%d lookups wait: %d threads, %d kB; at the end %d threads, %d kB", n, threads, memory,
				tlstest.ProcessStatus(t, "Threads"), tlstest.ProcessStatus(t, "VmRSS"))
		})
	}
}
