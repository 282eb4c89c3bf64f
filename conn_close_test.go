// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// TestCloseWriteTwice: the second call does nothing, and loses no data of the peer.
func TestCloseWriteTwice(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newEnds(t, v).connect(t, nil)
		_, err := server.Write([]byte("0123456789"))
		must(t, err)
		buf := make([]byte, 10)
		if n, err := io.ReadFull(client, buf[:3]); n != 3 || err != nil {
			t.Fatalf("Read returns %d, %v", n, err)
		}
		must(t, client.CloseWrite())
		must(t, client.CloseWrite())
		if n, err := io.ReadFull(client, buf[3:]); err != nil || string(buf) != "0123456789" {
			t.Errorf("after CloseWrite Read returns %d, %v: %q", n, err, buf)
		}
		must(t, client.Close())
		if err := client.CloseWrite(); !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("CloseWrite after Close returns %v", err)
		}
	})
}

// deaf is a transport that ignores deadlines for reads.
type deaf struct{ net.Conn }

func (deaf) SetReadDeadline(time.Time) error { return nil }

// TestCloseEndsReads: a waiting Read returns ErrClosed when Close begins, also if the peer answers
// Close with data.
func TestCloseEndsReads(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"socket": func(c net.Conn) net.Conn { return c },
		"hidden": func(c net.Conn) net.Conn { return hidden{c} },
		"deaf":   func(c net.Conn) net.Conn { return deaf{hidden{c}} },
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				noQueue(t)
				e := newEnds(t, v)
				for range 20 {
					s, c := tcpPair(t)
					server, client := e.over(t, s, wrap(c), nil)
					shake(t, server, client)
					answered := make(chan error, 1)
					go func() {
						_, _ = io.ReadAll(server)
						_, err := io.WriteString(server, "what nobody waits for")
						_ = server.Close()
						answered <- err
					}()
					_, err := io.WriteString(client, "a request")
					must(t, err)
					type result struct {
						n   int
						err error
					}
					got := make(chan result, 1)
					go func() {
						n, err := client.Read(make([]byte, 100))
						got <- result{n, err}
					}()
					time.Sleep(time.Millisecond)
					must(t, client.Close())
					if r := <-got; r.n != 0 || !errors.Is(r.err, net.ErrClosed) {
						t.Fatalf("the Read that waits returns %d, %v", r.n, r.err)
					}
					<-answered
				}
			})
		})
	}
}

func TestFarDeadline(t *testing.T) {
	_, client := connPair(t)
	must(t, client.SetWriteDeadline(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
	if _, err := client.Write([]byte("x")); err != nil {
		t.Errorf("Write before a far deadline returns %v", err)
	}
	must(t, client.SetWriteDeadline(time.Unix(1, 0)))
	if n, err := client.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write after its deadline returns %d, %v", n, err)
	}
}

// TestDeadlineInHook: a deadline that is set while a hook runs ends the hook, also one for writes.
func TestDeadlineInHook(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	for name, set := range map[string]func(*sslctx.Conn, time.Time) error{
		"reads": (*sslctx.Conn).SetReadDeadline, "writes": (*sslctx.Conn).SetWriteDeadline, "both": (*sslctx.Conn).SetDeadline,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := make(chan struct{})
				must(t, e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
					close(asked)
					select {
					case <-ctx.Done():
					case <-time.After(time.Hour):
					}
					return nil, context.Cause(ctx)
				}))
				s, c := wire()
				server, client := e.over(t, s, c, nil)
				shaken := make(chan error, 2)
				go func() { _ = client.Handshake(); shaken <- nil }()
				start := time.Now()
				go func() { shaken <- server.Handshake(); _ = server.Abort() }()
				<-asked
				must(t, set(server, time.Now().Add(time.Minute)))
				err := errors.Join(<-shaken, <-shaken)
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
					t.Errorf("Handshake returns %v after %v", err, time.Since(start))
				}
				_ = client.Abort()
			})
		})
	}
}

// TestCloseWriteKeepsDeadline: CloseWrite has the caller's deadline for writes, and so has the next.
func TestCloseWriteKeepsDeadline(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		noQueue(t)
		c, peer := r.pair(t, e)
		shake(t, c, peer)
		c.NetConn().(*wireEnd).Out.SetRoom(1)
		start := time.Now()
		must(t, c.SetWriteDeadline(start.Add(time.Second)))
		for range 2 {
			if err := c.CloseWrite(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("CloseWrite returns %v after %v", err, time.Since(start))
			}
		}
		_, _ = c.Abort(), peer.Abort()
	})
}

// TestReadWithoutRoom: a peer requests more answers than there is room for, and none can be sent.
// Read reports it. It does not spin, wait for ever, or keep all answers.
func TestReadWithoutRoom(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"many in a crossing": func(c net.Conn) net.Conn { return c },
		"one by one":         func(c net.Conn) net.Conn { return slowConn{c} },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := tcpPair(t)
			server, client := newEnds(t, sslctx.VersionTLS13).over(t, wrap(s), c, nil)
			shake(t, server, client)
			must(t, server.SetWriteDeadline(time.Unix(1, 0)))
			go func() {
				for range 10_000 {
					if client.KeyUpdate(true) != nil {
						return
					}
				}
			}()
			errs := make(chan error, 1)
			go func() {
				_, err := server.Read(make([]byte, 1))
				errs <- err
			}()
			select {
			case err := <-errs:
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Read returns %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("Read goes on")
			}
		})
	}
}

// TestHandshakeContextOfAnother: a context ends a handshake that another call began.
func TestHandshakeContextOfAnother(t *testing.T) {
	_, c := tcpPair(t)
	client, err := sslctx.Client(c, newEnds(t, sslctx.VersionTLS13).client)
	must(t, err)
	must(t, client.AcceptAnyName())
	defer client.Close()
	read := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(20 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := client.HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("HandshakeContext returns %v", err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the Read that had begun returns %v", err)
	}
}

// TestWithoutAutoRetry: libssl then returns after each message. Read still returns all data that
// has arrived.
func TestWithoutAutoRetry(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, err := e.client.ClearMode(sslctx.ModeAutoRetry)
	must(t, err)
	for range 20 { // tickets and data arrive as one
		server, client := e.connect(t, nil)
		must(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
		exchange(t, server, client)
		_, _ = server.Close(), client.Close()
	}
}

// TestServerNameTwice: only the last name counts.
func TestServerNameTwice(t *testing.T) {
	for _, names := range [][]string{{"127.0.0.2", "localhost"}, {"elsewhere.example", "127.0.0.1"}} {
		s, c := tcpPair(t)
		server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
		for _, name := range names {
			must(t, client.SetServerName(name))
		}
		exchange(t, server, client)
		if got := server.ConnectionState().ServerName; got != "" && got != "localhost" {
			t.Errorf("the server was told %q", got)
		}
	}
}

// TestCloseEndsReadsAtOnce: a waiting Read ends before Close has sent its output.
func TestCloseEndsReadsAtOnce(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		c, peer := r.pair(t, e)
		defer peer.Close()
		shake(t, c, peer)
		lane := c.NetConn().(*wireEnd).Out
		lane.LeaveRoom(10)
		ended := make(chan time.Time, 1)
		go func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read returns %v", err)
			}
			ended <- time.Now()
		}()
		time.Sleep(time.Second)
		start := time.Now()
		_ = c.Close()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("Close takes %v", took)
		}
		if took := (<-ended).Sub(start); took != 0 {
			t.Errorf("Read ends after %v", took)
		}
	})
}

// TestCloseEndsReadBesideRead: a Read that waits for another Read ends when Close begins, also if the
// transport keeps the other one.
func TestCloseEndsReadBesideRead(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		s, c := wire()
		server, client := e.over(t, deaf{s}, deaf{c}, nil)
		own, peer, lane := server, client, s.Out
		if r == clientRole {
			own, peer, lane = client, server, c.Out
		}
		shake(t, own, peer)
		lane.LeaveRoom(10)
		go func() { _, _ = own.Read(make([]byte, 1)) }()
		synctest.Wait() // until it waits in the transport
		ended := make(chan time.Time, 1)
		go func() {
			if _, err := own.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read returns %v", err)
			}
			ended <- time.Now()
		}()
		synctest.Wait() // until it waits for the other
		start := time.Now()
		_ = own.Close()
		if took := (<-ended).Sub(start); took != 0 || !time.Now().After(start) {
			t.Errorf("the Read ends after %v, and Close after %v", took, time.Since(start))
		}
	})
}

// TestCloseBesideTwoConfigurations: a Close that waits for one context after the other ends when it
// would end without them.
func TestCloseBesideTwoConfigurations(t *testing.T) {
	for name, test := range map[string]struct{ deadline, took time.Duration }{
		"no deadline":     {took: 5 * time.Second},
		"deadline passed": {deadline: -time.Second, took: 100 * time.Millisecond},
	} {
		for first := range 2 {
			e, chosen := newEnds(t, sslctx.VersionTLS13), newEnds(t, sslctx.VersionTLS13).server
			must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return chosen, nil }))
			must(t, e.client.SetVerify(sslctx.VerifyNone))
			both := []*sslctx.Context{e.server, chosen}
			synctest.Test(t, func(t *testing.T) {
				server, client := serverRole.pair(t, e)
				defer client.Close()
				shake(t, server, client)
				if test.deadline != 0 {
					must(t, server.SetWriteDeadline(time.Now().Add(test.deadline)))
				}
				endFirst, endSecond := sslctx.Configuring(both[first]), sslctx.Configuring(both[1-first])
				time.AfterFunc(test.took*4/5, endFirst)
				start := time.Now()
				_ = server.Close()
				if took := time.Since(start); took != test.took {
					t.Errorf("%s: Close takes %v, want %v", name, took, test.took)
				}
				endSecond()
			})
		}
	}
}

// TestCloseWriteAgain: a CloseWrite ends by its own limit. The next one sends close_notify, without
// a new deadline.
func TestCloseWriteAgain(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		c, peer := r.pair(t, e)
		defer peer.Close()
		shake(t, c, peer)
		lane := c.NetConn().(*wireEnd).Out
		lane.LeaveRoom(10)
		if err := c.CloseWrite(); !isTimeout(err) {
			t.Errorf("CloseWrite returns %v", err)
		}
		lane.SetRoom(0)
		must(t, c.CloseWrite())
		if _, err := io.ReadAll(peer); err != nil {
			t.Errorf("the peer reads %v", err)
		}
		must(t, c.Close())
	})
}

// TestWriteAfterCloseWrite: a Write after CloseWrite fails. Data written before still arrives, and
// Close does not report it as lost.
func TestWriteAfterCloseWrite(t *testing.T) {
	server, client := newEnds(t, sslctx.VersionTLS13).afterHandshake(t, func(c net.Conn) net.Conn { return c })
	data := make([]byte, 1<<20)
	_, err := client.Write(data)
	must(t, err)
	must(t, client.CloseWrite())
	if _, err := client.Write([]byte("x")); !errors.Is(err, sslctx.ReasonProtocolIsShutdown) {
		t.Errorf("Write returns %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(100 * time.Millisecond)
		n, err := io.Copy(io.Discard, server)
		if n != int64(len(data)) || err != nil {
			t.Errorf("%d bytes arrive, %v", n, err)
		}
		_ = server.Close()
	}()
	must(t, client.Close())
	<-done
}

// TestCloseBeforeTickets: a client writes and closes before the server has sent its tickets. All
// that it wrote arrives.
func TestCloseBeforeTickets(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"socket": func(c net.Conn) net.Conn { return c },
		"hidden": func(c net.Conn) net.Conn { return hidden{c} },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := tcpPair(t)
			g := &gate{Conn: s, open: make(chan struct{})}
			server, client := newEnds(t, sslctx.VersionTLS13).over(t, g, wrap(c), nil)
			data := make([]byte, 300_000)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if err := server.Handshake(); err != nil {
					t.Errorf("the server's Handshake returns %v", err)
					return
				}
				time.Sleep(50 * time.Millisecond)
				n, err := io.Copy(io.Discard, server)
				if n != int64(len(data)) || err != nil {
					t.Errorf("%d of %d bytes arrive, %v", n, len(data), err)
				}
				_ = server.Close() // Close waits for it if it cannot query the socket
			}()
			must(t, client.Handshake())
			_, err := client.Write(data)
			must(t, err)
			time.AfterFunc(100*time.Millisecond, func() { close(g.open) })
			must(t, client.Close())
			<-done
		})
	}
}

// TestDeadlineAfterClose: setting a deadline of a closed Conn returns ErrClosed.
func TestDeadlineAfterClose(t *testing.T) {
	for name, set := range map[string]func(*sslctx.Conn, time.Time) error{
		"SetDeadline":      (*sslctx.Conn).SetDeadline,
		"SetReadDeadline":  (*sslctx.Conn).SetReadDeadline,
		"SetWriteDeadline": (*sslctx.Conn).SetWriteDeadline,
	} {
		for how, end := range map[string]func(*sslctx.Conn) error{"Close": (*sslctx.Conn).Close, "Abort": (*sslctx.Conn).Abort} {
			_, client := connPair(t)
			must(t, set(client, time.Now().Add(time.Minute)))
			must(t, end(client))
			if err := set(client, time.Time{}); !errors.Is(err, net.ErrClosed) || !errors.Is(err, sslctx.ErrClosed) {
				t.Errorf("%s after %s returns %v", name, how, err)
			}
		}
	}
}

// asksLater makes ends whose server requests a certificate after the handshake, and verifies it by
// a pool. The pool answers only at the end of the test.
func asksLater(t *testing.T) (e ends, asked chan bool, open func()) {
	t.Helper()
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	root := issue(t, "pool's root", nil, authority)
	must(t, e.client.UseCertificate(issue(t, "pool's user", root, nil).TLSCertificate()))
	asked = make(chan bool, 100)
	closed := make(chan struct{})
	open = sync.OnceFunc(func() { close(closed) })
	t.Cleanup(open)
	must(t, e.server.TrustCertPool(waitingPool(root, func(context.Context) {
		asked <- true
		<-closed
	})))
	return e, asked, open
}

// askLater makes the server send the request, and the client answer it. The server's Read then
// waits for the pool.
func askLater(t *testing.T, server, client *sslctx.Conn) (read <-chan error) {
	t.Helper()
	must(t, server.VerifyClientPostHandshake())
	_, err := server.Write([]byte{1})
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	_, err = client.Write([]byte{2})
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		done <- err
	}()
	return done
}

// TestReadsThatVerify: after the handshake, as many Reads may wait for a pool as hooks may wait,
// and no more.
func TestReadsThatVerify(t *testing.T) {
	noQueue(t)
	e, asked, open := asksLater(t)
	limit := 8 + 4*runtime.GOMAXPROCS(0)
	var reads []<-chan error
	for range limit {
		server, client := e.connect(t, nil)
		reads = append(reads, askLater(t, server, client))
		<-asked
	}
	for range 3 {
		server, client := e.connect(t, nil)
		if err := <-askLater(t, server, client); !errors.Is(err, sslctx.ErrTooManyHooks) {
			t.Errorf("one Read too many returns %v", err)
		}
	}
	open()
	for _, read := range reads {
		must(t, <-read)
	}
	server, client := e.connect(t, nil)
	must(t, <-askLater(t, server, client))
}

// TestCloseWriteBesideHook: CloseWrite waits five seconds for a Read that waits for a pool.
func TestCloseWriteBesideHook(t *testing.T) {
	t.Parallel() // it waits for five seconds
	e, asked, open := asksLater(t)
	server, client := e.connect(t, nil)
	read := askLater(t, server, client)
	<-asked
	start := time.Now()
	if err := server.CloseWrite(); !isTimeout(err) || time.Since(start) > 7*time.Second {
		t.Errorf("CloseWrite returns %v after %v", err, time.Since(start))
	}
	open()
	must(t, <-read)
	must(t, server.CloseWrite())
	if _, err := io.ReadAll(client); err != nil {
		t.Error(err)
	}
}

// TestCloseBesideHook: Close ends the wait for a pool, also one that begins while Close runs.
func TestCloseBesideHook(t *testing.T) {
	e, _, _ := asksLater(t)
	for i := range 60 {
		server, client := e.connect(t, nil)
		read := askLater(t, server, client)
		time.Sleep(time.Duration(i%20) * 50 * time.Microsecond)
		start := time.Now()
		err := server.Close()
		if took := time.Since(start); took > 2*time.Second {
			t.Fatalf("Close takes %v, and returns %v", took, err)
		}
		if err := <-read; i > 40 && err == nil {
			t.Error("the Read has no error")
		}
		_ = client.Abort()
	}
}

// framed is a transport that, once switched on, returns data only after a hundred bytes have
// arrived.
type framed struct {
	net.Conn
	whole bool
}

func (f *framed) NetConn() net.Conn { return f.Conn }

func (f *framed) Read(p []byte) (int, error) {
	if !f.whole {
		return f.Conn.Read(p)
	}
	return io.ReadFull(f.Conn, p[:100])
}

// TestCloseOverRecords: part of a record of the transport's own protocol does not delay Close.
func TestCloseOverRecords(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	transport := &framed{Conn: c}
	server, client := newEnds(t, sslctx.VersionTLS12).over(t, s, transport, nil)
	exchange(t, server, client)
	transport.whole = true
	_, err := client.Write([]byte("x"))
	must(t, err)
	_, err = s.Write(make([]byte, 10))
	must(t, err)
	time.Sleep(20 * time.Millisecond)
	must(t, client.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	start := time.Now()
	err = client.Close()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Close takes %v, and returns %v", took, err)
	}
}

// watchedWrites is a transport that reports a Write, once it is watched.
type watchedWrites struct {
	net.Conn
	watch atomic.Bool
	sent  chan struct{}
}

func (w *watchedWrites) NetConn() net.Conn { return w.Conn }

func (w *watchedWrites) Write(p []byte) (int, error) {
	if w.watch.Load() {
		select {
		case w.sent <- struct{}{}:
		default:
		}
	}
	return w.Conn.Write(p)
}

// TestCutOffIsLost: Close in the middle of a blocked Write says that data is lost.
func TestCutOffIsLost(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	must(t, s.(*net.TCPConn).SetReadBuffer(4096))
	transport := &watchedWrites{Conn: c, sent: make(chan struct{}, 1)}
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
	shake(t, server, client)
	wrote := make(chan error, 1)
	data := make([]byte, 64<<20)
	transport.watch.Store(true)
	go func() {
		_, err := client.Write(data)
		wrote <- err
	}()
	<-transport.sent
	start := time.Now()
	if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) || time.Since(start) > 2*time.Second {
		t.Errorf("Close returns %v after %v", err, time.Since(start))
	}
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write returns %v", err)
	}
}

// TestResumeByVerifyCAFile: a session of another context is offered if the certificates of that
// command verify its chain. They come before those of the context.
func TestResumeByVerifyCAFile(t *testing.T) {
	noQueue(t)
	if ossltest.CompiledVersion() < 0x30000000 {
		t.Skip("OpenSSL 1.1.1 does not give these certificates away")
	}
	root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
	e := bare(t, sslctx.VersionTLS12, issue(t, "localhost", root, nil).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	file := func(cert *x509.Certificate) string {
		path := filepath.Join(t.TempDir(), "trusted.pem")
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600))
		return path
	}
	for _, test := range []struct {
		command, context *issued
		want             bool
	}{{root, other, true}, {other, root, false}} {
		server, client := e.connect(t, nil)
		exchange(t, server, client)
		c := newContext(t, sslctx.TLSClientMethod)
		must(t, c.SetVerify(sslctx.VerifyPeer))
		must(t, c.TrustCertificate(test.context.Cert))
		must(t, c.Configure("VerifyCAFile", file(test.command.Cert)))
		a, b := tcpPair(t)
		again, late := ends{e.server, c}.over(t, a, b, sessionOf(t, client))
		serverErr, clientErr := greet(again, late)
		if resumed := late.SessionReused(); resumed != test.want || (clientErr == nil) != test.want {
			t.Errorf("resumed is %v; the server has %v, the client %v", resumed, serverErr, clientErr)
		}
	}
}

// whenClosed says what a method of a closed Conn does.
type whenClosed int

const (
	errClosed whenClosed = iota // it returns ErrClosed
	answers                     // it returns what it returned before Close
	mustPanic                   // it panics with a clear message
	closes                      // it returns nil
	prints                      // it never panics
)

// closedConns has a row for each exported method of a Conn.
var closedConns = map[string]whenClosed{
	"Abort": closes, "Close": closes,
	"Format": prints, "GoString": prints, "String": prints,

	"Cipher": answers, "ConnectionState": answers, "EarlyDataStatus": answers, "LocalAddr": answers,
	"NetConn": answers, "PSKIdentity": answers, "PSKIdentityHint": answers, "RemoteAddr": answers,
	"SessionReused": answers, "Version": answers,

	"MaxEarlyData": mustPanic, "RecvMaxEarlyData": mustPanic,

	"AcceptAnyName": errClosed, "AcceptableCAs": errClosed, "AwaitTicket": errClosed,
	"ClearOptions": errClosed, "ClientRandom": errClosed, "CloseWrite": errClosed,
	"CopySessionID": errClosed, "DefaultTimeout": errClosed, "ExportKeyingMaterial": errClosed,
	"Handshake": errClosed, "HandshakeContext": errClosed, "HandshakeReadEarlyData": errClosed,
	"HandshakeWithEarlyData": errClosed, "HasMatchingSessionID": errClosed, "KeyUpdate": errClosed,
	"NewSessionTicket": errClosed, "NumTickets": errClosed, "Options": errClosed, "Read": errClosed,
	"ReadEarlyData": errClosed, "Renegotiate": errClosed, "ResumedSession": errClosed,
	"ServerRandom": errClosed, "Session": errClosed, "SetDeadline": errClosed,
	"SetIDContext": errClosed, "SetMaxEarlyData": errClosed,
	"SetNotResumableSessionCallback": errClosed, "SetNumTickets": errClosed, "SetOptions": errClosed,
	"SetPostHandshakeAuth": errClosed, "SetBackgroundClose": errClosed, "SetQuietShutdown": errClosed, "SetReadDeadline": errClosed,
	"SetRecvMaxEarlyData": errClosed, "SetServerName": errClosed, "SetSession": errClosed,
	"SetSessionIDGenerator": errClosed, "SetSessionTicketExt": errClosed,
	"SetSessionTicketExtCallback": errClosed, "SetVerify": errClosed, "SetWriteDeadline": errClosed,
	"VerifyClientPostHandshake": errClosed, "VerifyResult": errClosed, "Write": errClosed,
	"WriteEarlyData": errClosed,
}

// TestClosedConn calls each exported method of closed, zero and nil Conns. The Conn's doc comment
// has the rule.
func TestClosedConn(t *testing.T) {
	noQueue(t)
	server, client := connPair(t)
	before := map[string]string{}
	for _, end := range []*sslctx.Conn{server, client} {
		for name, kind := range closedConns {
			if kind == answers {
				before[fmt.Sprintf("%p.%s", end, name)] = callConn(end, name).said
			}
		}
	}
	must(t, server.Close())
	must(t, client.Close())
	typ := reflect.TypeFor[*sslctx.Conn]()
	for i := range typ.NumMethod() {
		name := typ.Method(i).Name
		kind, ok := closedConns[name]
		if !ok {
			if name != "LibsslCalls" { // only for tests
				t.Errorf("Conn.%s has no row in closedConns", name)
			}
			continue
		}
		for _, end := range []*sslctx.Conn{server, client} {
			got := callConn(end, name)
			if want := before[fmt.Sprintf("%p.%s", end, name)]; kind == answers && got.said != want {
				t.Errorf("after Close %s returns %s, before %s", name, got.said, want)
			}
			got.check(t, "closed: "+name, kind)
		}
		if kind == answers {
			kind = mustPanic
		}
		callConn(new(sslctx.Conn), name).check(t, "zero: "+name, kind)
		callConn(nil, name).check(t, "nil: "+name, kind)
	}
	for name := range closedConns {
		if _, ok := typ.MethodByName(name); !ok {
			t.Errorf("there is no Conn.%s", name)
		}
	}
}

// A connAnswer is the outcome of a call of a method.
type connAnswer struct {
	said     string // its results
	err      error  // its last result, if that is an error
	panicked any
}

func callConn(c *sslctx.Conn, name string) (a connAnswer) {
	defer func() { a.panicked = recover() }()
	if closedConns[name] == prints { // Format needs a fmt.State
		a.said = fmt.Sprintf("%v %#v %x %s", c, c, c, c.String())
		return a
	}
	m := reflect.ValueOf(c).MethodByName(name)
	args := make([]reflect.Value, m.Type().NumIn())
	for i := range args {
		args[i] = someArgument(m.Type().In(i))
	}
	for _, r := range m.Call(args) {
		if state, ok := r.Interface().(fmt.Stringer); ok {
			a.said += state.String() + " "
		} else {
			a.said += fmt.Sprintf("%+v ", r.Interface())
		}
		a.err, _ = r.Interface().(error)
	}
	return a
}

func (a connAnswer) check(t *testing.T, what string, kind whenClosed) {
	t.Helper()
	switch {
	case kind == mustPanic:
		if text := fmt.Sprint(a.panicked); text != "sslctx: use of a closed or nil Conn" {
			t.Errorf("%s panics with %s", what, text)
		}
	case a.panicked != nil:
		t.Errorf("%s panics with %v", what, a.panicked)
	case kind == errClosed && !(errors.Is(a.err, sslctx.ErrClosed) && errors.Is(a.err, net.ErrClosed)):
		t.Errorf("%s returns %v", what, a.err)
	case kind != errClosed && a.err != nil:
		t.Errorf("%s returns %v", what, a.err)
	case kind == prints && !strings.Contains(a.said, "Conn("):
		t.Errorf("%s prints %s", what, a.said)
	}
}

// TestStateAfterClose: the results of the handshake stay available after Close, even if no call
// read them before.
func TestStateAfterClose(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e, _, respond := stapling(t, v)
		response := respond(64)
		must(t, e.server.SetALPNProtos("h2"))
		must(t, e.client.SetALPNProtos("h2"))
		must(t, e.server.SetOCSPResponse(response))
		must(t, e.client.RequestOCSP(true))
		for _, asked := range []bool{false, true} {
			s, c := tcpPair(t)
			server, client := e.over(t, s, c, nil)
			must(t, client.SetServerName("localhost"))
			exchange(t, server, client)
			before := client.ConnectionState()
			if !asked { // another connection must have the same results
				_, _ = server.Close(), client.Close()
				s, c := tcpPair(t)
				server, client = e.over(t, s, c, nil)
				must(t, client.SetServerName("localhost"))
				exchange(t, server, client)
			}
			_, _ = server.Close(), client.Close()
			after := client.ConnectionState()
			if before.NegotiatedProtocol != "h2" || !bytes.Equal(before.OCSPResponse, response) ||
				before.ServerName != "localhost" || len(before.VerifiedChains) != 1 {
				t.Errorf("before Close: %+v", before)
			}
			if got, want := fmt.Sprintf("%+v", after), fmt.Sprintf("%+v", before); got != want {
				t.Errorf("after Close: %s\nbefore: %s", got, want)
			}
			if got := server.ConnectionState().ServerName; got != "localhost" {
				t.Errorf("after Close the server has the name %q", got)
			}
		}
	})
}

// TestPSKAfterClose: the identity of a client can be logged after Close.
func TestPSKAfterClose(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	key := []byte("sixteen bytes or more")
	must(t, e.server.SetCipherList("PSK"))
	must(t, e.client.SetCipherList("PSK"))
	must(t, e.server.UsePSKIdentityHint("who?"))
	must(t, e.server.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return key }))
	must(t, e.client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) {
		return "me", key
	}))
	server, client := e.connect(t, nil)
	must(t, client.Close())
	must(t, server.Close())
	if server.PSKIdentity() != "me" || client.PSKIdentity() != "me" || client.PSKIdentityHint() != "who?" {
		t.Errorf("after Close: %q, %q, %q", server.PSKIdentity(), client.PSKIdentity(), client.PSKIdentityHint())
	}
}
