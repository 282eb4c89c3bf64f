// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sslctx"
)

// Written data arrives, or the caller learns that it may be lost.

// hidden is a TCP connection that hides its socket.
type hidden struct{ net.Conn }

// wantLost checks the error of a Close that cut off a Write, or came after a failed Write.
func wantLost(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, sslctx.ErrDataLost) {
		t.Errorf("Close returns %v", err)
	}
}

// afterHandshake makes a connection. Its tickets have arrived, and the client has not read them.
func (e ends) afterHandshake(t *testing.T, wrap func(net.Conn) net.Conn) (server, client *sslctx.Conn) {
	t.Helper()
	s, c := tcpPair(t)
	server, client = e.over(t, wrap(s), wrap(c), nil)
	shake(t, server, client)
	time.Sleep(20 * time.Millisecond)
	return server, client
}

// TestCloseLosesNothing: an end writes and closes while it has unread input: tickets, or data. The
// peer reads late, and gets all.
func TestCloseLosesNothing(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"socket":       func(c net.Conn) net.Conn { return c },
		"hidden":       func(c net.Conn) net.Conn { return hidden{c} },
		"a Read waits": func(c net.Conn) net.Conn { return c },
	} {
		t.Run(name, func(t *testing.T) {
			reads := name == "a Read waits"
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				for _, closer := range []role{clientRole, serverRole} {
					t.Run(string(closer), func(t *testing.T) {
						noQueue(t)
						near, far := newEnds(t, v).afterHandshake(t, wrap)
						if closer == clientRole {
							near, far = far, near
						}
						if closer == serverRole || v == sslctx.VersionTLS12 { // here no tickets arrive
							_, err := far.Write([]byte("a request that nobody reads"))
							must(t, err)
							time.Sleep(20 * time.Millisecond)
						}
						type result struct {
							data []byte
							err  error
						}
						got := make(chan result)
						go func() {
							time.Sleep(100 * time.Millisecond)
							data, err := io.ReadAll(far)
							_ = far.Close()
							got <- result{data, err}
						}()
						n, err := near.Write(data)
						if n != len(data) || err != nil {
							t.Fatalf("Write returns %d, %v", n, err)
						}
						read := make(chan error, 1)
						if reads {
							go func() {
								_, err := io.Copy(io.Discard, near)
								read <- err
							}()
							time.Sleep(2 * time.Millisecond)
						}
						must(t, near.Close())
						if reads && !errors.Is(<-read, net.ErrClosed) {
							t.Error("the Read that waited has another error than net.ErrClosed")
						}
						if r := <-got; r.err != nil || !bytes.Equal(r.data, data) {
							t.Errorf("%d of %d bytes arrive, %v", len(r.data), len(data), r.err)
						}
					})
				}
			})
		})
	}
}

// TestQuietCloseLosesNothing: also without close_notify.
func TestQuietCloseLosesNothing(t *testing.T) {
	noQueue(t)
	server, client := newEnds(t, sslctx.VersionTLS13).afterHandshake(t, func(c net.Conn) net.Conn { return c })
	must(t, client.SetQuietShutdown(true))
	got := make(chan error)
	go func() {
		time.Sleep(100 * time.Millisecond)
		n, err := io.Copy(io.Discard, server)
		if n != 1<<20 {
			t.Errorf("%d bytes arrive", n)
		}
		got <- err
	}()
	_, err := client.Write(make([]byte, 1<<20))
	must(t, err)
	must(t, client.Close())
	if err := <-got; err != io.ErrUnexpectedEOF {
		t.Errorf("the peer reads to %v", err)
	}
}

// TestCloseKeepsTickets: tickets that Close reads make sessions.
func TestCloseKeepsTickets(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	var mu sync.Mutex
	heard := 0
	must(t, e.client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		mu.Lock()
		defer mu.Unlock()
		heard++
	}))
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	must(t, err)
	server, client := e.afterHandshake(t, func(c net.Conn) net.Conn { return c })
	_, err = client.Write([]byte("x"))
	must(t, err)
	must(t, client.Close())
	_, err = io.ReadAll(server)
	must(t, err)
	mu.Lock()
	defer mu.Unlock()
	if heard != 2 {
		t.Errorf("the client heard of %d sessions", heard)
	}
}

// TestCloseSaysWhatMayBeLost: the peer does not read, or has closed. Close says that data may be
// lost.
func TestCloseSaysWhatMayBeLost(t *testing.T) {
	for name, test := range map[string]struct {
		wrap  func(net.Conn) net.Conn
		reset bool
		want  error
	}{
		"does not read":         {wrap: func(c net.Conn) net.Conn { return c }, want: os.ErrDeadlineExceeded},
		"does not read, hidden": {wrap: func(c net.Conn) net.Conn { return hidden{c} }, want: os.ErrDeadlineExceeded},
		"resets":                {wrap: func(c net.Conn) net.Conn { return c }, reset: true},
		"resets, hidden":        {wrap: func(c net.Conn) net.Conn { return hidden{c} }, reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			s, c := tcpPair(t)
			server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, test.wrap(c), nil)
			shake(t, server, client)
			must(t, s.(*net.TCPConn).SetReadBuffer(4096))
			_, err := client.Write(make([]byte, 1<<20))
			must(t, err)
			if test.reset {
				must(t, s.(*net.TCPConn).SetLinger(0))
				must(t, s.Close())
				time.Sleep(20 * time.Millisecond)
			}
			must(t, client.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
			err = client.Close()
			if !errors.Is(err, sslctx.ErrDataLost) || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("Close returns %v", err)
			}
			if !test.reset {
				return
			}
			var errno syscall.Errno
			if !errors.As(err, &errno) {
				t.Errorf("Close does not say why: %v", err)
			}
		})
	}
}

// TestCloseReportsAlert: a peer refuses the client after the client's handshake is over. Close
// reads the alert.
func TestCloseReportsAlert(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	failed := make(chan error)
	go func() { failed <- server.Handshake() }()
	must(t, client.Handshake())
	if err := <-failed; err == nil {
		t.Fatal("the server wants no certificate")
	}
	time.Sleep(20 * time.Millisecond)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Skip("the transport is faster: ", err)
	}
	if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) || !errors.As(err, new(*sslctx.Error)) {
		t.Errorf("Close returns %v", err)
	}
}

// TestCloseDoesNotWait: if no data can be lost, Close does not wait for a peer that keeps its end
// open.
func TestCloseDoesNotWait(t *testing.T) {
	const n = 40
	for name, test := range map[string]struct {
		wrap func(net.Conn) net.Conn
		use  func(t *testing.T, server, client *sslctx.Conn)
	}{
		"idle":            {use: func(t *testing.T, server, client *sslctx.Conn) {}},
		"drained":         {use: func(t *testing.T, server, client *sslctx.Conn) { exchange(t, server, client) }},
		"drained, hidden": {use: func(t *testing.T, server, client *sslctx.Conn) { exchange(t, server, client) }, wrap: func(c net.Conn) net.Conn { return hidden{c} }},
		"tickets":         {use: func(t *testing.T, server, client *sslctx.Conn) { _, _ = client.Write([]byte("x")) }},
		"a long answer": {use: func(t *testing.T, server, client *sslctx.Conn) {
			exchange(t, server, client)
			go func() { _, _ = server.Write(make([]byte, 64<<20)) }()
			_, err := client.Read(make([]byte, 1))
			must(t, err)
		}},
		"a Read waits": {use: func(t *testing.T, server, client *sslctx.Conn) {
			exchange(t, server, client)
			go func() { _, _ = client.Read(make([]byte, 1)) }()
			time.Sleep(2 * time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				e := newEnds(t, v)
				var took time.Duration
				for range n {
					s, c := tcpPair(t)
					if test.wrap != nil {
						c = test.wrap(c)
					}
					server, client := e.over(t, s, c, nil)
					shake(t, server, client)
					test.use(t, server, client)
					start := time.Now()
					must(t, client.Close())
					took += time.Since(start)
				}
				if t.Logf("%v for %d", took, n); took > 10*time.Second {
					t.Errorf("%d calls of Close take %v", n, took)
				}
			})
		})
	}
}

// TestFailedWriteIsNoEnd: a Write fails, at its beginning or in the middle. A peer that reads
// afterwards does not take the data for complete, and no call waits for it.
func TestFailedWriteIsNoEnd(t *testing.T) {
	for name, test := range map[string]struct {
		size int
		lost bool // Close says it, too
	}{
		"nothing written": {size: 10}, "cut": {size: 1 << 20, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, e ends, r role) {
				noQueue(t)
				c, peer := r.pair(t, e)
				defer peer.Close()
				shake(t, c, peer)
				lane := c.NetConn().(*wireEnd).Out
				lane.SetRoom(100_000)
				_, err := c.Write([]byte("begin"))
				must(t, err)
				deadline := time.Now().Add(time.Minute)
				if !test.lost {
					deadline = time.Now()
				}
				must(t, c.SetWriteDeadline(deadline))
				if _, err := c.Write(make([]byte, test.size)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("Write returns %v", err)
				}
				lane.SetRoom(0) // there is room for all further data
				if err := c.CloseWrite(); !errors.Is(err, sslctx.ErrDataLost) {
					t.Errorf("CloseWrite returns %v", err)
				}
				start := time.Now()
				wantLost(t, c.Close())
				if took := time.Since(start); took != 0 {
					t.Errorf("Close takes %v", took)
				}
				got, err := io.ReadAll(peer)
				if !bytes.HasPrefix(got, []byte("begin")) || err != io.ErrUnexpectedEOF {
					t.Errorf("the peer reads %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

// TestFailedWriteMadeGood: a further Write completes the data of a failed one.
func TestFailedWriteMadeGood(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		noQueue(t)
		c, peer := r.pair(t, e)
		defer peer.Close()
		shake(t, c, peer)
		lane := c.NetConn().(*wireEnd).Out
		lane.SetRoom(100_000)
		must(t, c.SetWriteDeadline(time.Now().Add(time.Minute)))
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		n, err := c.Write(data)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Write returns %v", err)
		}
		must(t, c.SetWriteDeadline(time.Time{}))
		lane.SetRoom(0)
		_, err = c.Write(data[n:])
		must(t, err)
		must(t, c.Close())
		if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the peer reads %d of %d bytes, %v", len(got), len(data), err)
		}
	})
}

// closedInWrite is a transport that closes the Conn in the middle of a Write, and ends after that
// Write.
type closedInWrite struct {
	net.Conn
	writes  int
	close   func()
	closing chan struct{}
	over    chan struct{}
}

func (c *closedInWrite) Write(p []byte) (int, error) {
	if c.writes++; c.writes == 2 && c.close != nil {
		go c.close()
		<-c.closing
	}
	return c.Conn.Write(p)
}

func (c *closedInWrite) Close() error {
	close(c.closing)
	<-c.over
	return c.Conn.Close()
}

// TestCutOffIsNoEnd: Close in the middle of a Write sends no close_notify: it would come between
// the records of the Write.
func TestCutOffIsNoEnd(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		s, c := tcpPair(t)
		transport := &closedInWrite{Conn: s, closing: make(chan struct{}), over: make(chan struct{})}
		server, client := newEnds(t, v).over(t, transport, c, nil)
		shake(t, server, client)
		closed := make(chan error, 1)
		transport.writes = 0
		transport.close = func() { closed <- server.Close() }
		end := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, client)
			end <- err
		}()
		_, _ = server.Write(make([]byte, 1<<20))
		close(transport.over)
		wantLost(t, <-closed)
		if err := <-end; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the peer reads to %v", err)
		}
	})
}

// TestCloseKeepsDeadline: Close waits no longer than the caller's deadline. If that has passed, it
// sends what it can at once.
func TestCloseKeepsDeadline(t *testing.T) {
	for name, test := range map[string]struct {
		deadline time.Duration
		room     int
		took     time.Duration
		lost     bool
	}{
		"none":             {room: 10, took: 5 * time.Second, lost: true},
		"passed, and room": {deadline: -time.Second},
		"passed, no room":  {deadline: -time.Second, room: 10, took: 100 * time.Millisecond, lost: true},
		"soon":             {deadline: 300 * time.Millisecond, room: 10, took: 300 * time.Millisecond, lost: true},
		"late":             {deadline: time.Hour, room: 10, took: 5 * time.Second, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, e ends, r role) {
				c, peer := r.pair(t, e)
				defer peer.Close()
				shake(t, c, peer)
				_, err := c.Write([]byte("whole"))
				must(t, err)
				lane := c.NetConn().(*wireEnd).Out
				lane.SetRoom(test.room)
				if test.deadline != 0 {
					must(t, c.SetWriteDeadline(time.Now().Add(test.deadline)))
				}
				start := time.Now()
				err = c.Close()
				if took := time.Since(start); took != test.took || errors.Is(err, sslctx.ErrDataLost) != test.lost {
					t.Errorf("Close returns %v after %v", err, took)
				}
				want := error(nil)
				if test.lost {
					want = io.ErrUnexpectedEOF
				}
				if got, err := io.ReadAll(peer); string(got) != "whole" || err != want {
					t.Errorf("the peer reads %q, %v", got, err)
				}
			})
		})
	}
}

// TestCloseWriteIsBounded: CloseWrite waits five seconds for a peer that does not read, or until
// the caller's deadline, also behind a Write. A second call continues.
func TestCloseWriteIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		deadline, took time.Duration
		write          bool
	}{
		"no deadline":    {took: 5 * time.Second},
		"a deadline":     {deadline: time.Minute, took: time.Minute},
		"behind a Write": {took: 5 * time.Second, write: true},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, e ends, r role) {
				noQueue(t)
				c, peer := r.pair(t, e)
				defer peer.Close()
				shake(t, c, peer)
				lane := c.NetConn().(*wireEnd).Out
				lane.LeaveRoom(10)
				wrote := make(chan error, 1)
				if test.write {
					go func() {
						_, err := c.Write([]byte("x"))
						wrote <- err
					}()
					time.Sleep(time.Second)
				} else {
					wrote <- nil
				}
				if test.deadline != 0 {
					must(t, c.SetWriteDeadline(time.Now().Add(test.deadline)))
				}
				start := time.Now()
				err := c.CloseWrite()
				if took := time.Since(start).Round(100 * time.Millisecond); took != test.took || !isTimeout(err) {
					t.Errorf("CloseWrite returns %v after %v", err, took)
				}
				lane.SetRoom(0)
				must(t, <-wrote) // CloseWrite's limit is not that of a Write
				must(t, c.SetWriteDeadline(time.Time{}))
				must(t, c.CloseWrite())
				if _, err := io.ReadAll(peer); err != nil {
					t.Errorf("the peer reads %v", err)
				}
				must(t, c.Close())
			})
		})
	}
}

// gate is a transport whose second Read waits.
type gate struct {
	net.Conn
	reads int
	open  chan struct{}
}

func (g *gate) Read(p []byte) (int, error) {
	if g.reads++; g.reads == 2 {
		<-g.open
	}
	return g.Conn.Read(p)
}

// TestClientGoneBeforeTickets: a client writes and closes before the server sends its tickets.
// libssl ignores that, and its servers read the data. It is the same with a hook, which makes the
// tickets later.
func TestClientGoneBeforeTickets(t *testing.T) {
	for _, hook := range []bool{false, true} {
		noQueue(t)
		e := newEnds(t, sslctx.VersionTLS13)
		if hook {
			must(t, e.server.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) {}))
		}
		s, c := tcpPair(t)
		g := &gate{Conn: s, open: make(chan struct{})}
		server, client := e.over(t, g, c, nil)
		type result struct {
			err  error
			line []byte
			end  error
		}
		got := make(chan result)
		go func() {
			var r result
			if r.err = server.Handshake(); r.err == nil {
				r.line, r.end = io.ReadAll(server)
			}
			got <- r
		}()
		must(t, client.Handshake())
		_, err := client.Write([]byte("a line of a log"))
		must(t, err)
		must(t, client.CloseWrite())
		must(t, c.(*net.TCPConn).SetLinger(0))
		must(t, c.Close())
		time.Sleep(20 * time.Millisecond)
		close(g.open)
		if r := <-got; r.err != nil || string(r.line) != "a line of a log" || r.end != nil {
			t.Errorf("hook %v: Handshake returns %v, and then %q is read, %v", hook, r.err, r.line, r.end)
		}
		if _, err := server.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("hook %v: Write to a client that is gone returns %v", hook, err)
		}
	}
}

// failsWrite is a transport whose Write fails after a number of calls.
type failsWrite struct {
	net.Conn
	left int
	err  error
}

func (f *failsWrite) Write(p []byte) (int, error) {
	if f.left == 0 {
		return 0, f.err
	}
	f.left--
	return f.Conn.Write(p)
}

// TestLastFlightLost: if a server cannot send its last flight, its handshake fails, unless the
// flight is only tickets (TLS 1.3) and the client is gone.
func TestLastFlightLost(t *testing.T) {
	broken := errors.New("the transport is broken")
	for _, test := range []struct {
		v   sslctx.Version
		err error
	}{{sslctx.VersionTLS12, syscall.EPIPE}, {sslctx.VersionTLS12, broken}, {sslctx.VersionTLS13, broken}} {
		noQueue(t)
		s, c := tcpPair(t)
		server, client := newEnds(t, test.v).over(t, &failsWrite{s, 1, test.err}, c, nil)
		done := make(chan error, 1)
		go func() { done <- client.Handshake() }()
		if err := server.Handshake(); !errors.Is(err, test.err) {
			t.Errorf("%v: Handshake returns %v, not %v", test.v, err, test.err)
		}
		_ = c.Close()
		<-done
	}
}

// TestCallsAfterCloseWrite: calls that can no longer work are refused, or do what libssl does, each
// time. Reading continues to the end.
func TestCallsAfterCloseWrite(t *testing.T) {
	calls := map[string]func(*sslctx.Conn) error{
		"Write": func(c *sslctx.Conn) error {
			_, err := c.Write([]byte("late"))
			if !errors.Is(err, sslctx.ReasonProtocolIsShutdown) {
				return errors.Join(errors.New("is not what it should be"), err)
			}
			return nil
		},
		"KeyUpdate":        func(c *sslctx.Conn) error { _ = c.KeyUpdate(true); return nil },
		"NewSessionTicket": func(c *sslctx.Conn) error { _ = c.NewSessionTicket(); return nil },
		"Renegotiate":      func(c *sslctx.Conn) error { _ = c.Renegotiate(); return nil },
		"WriteEarlyData": func(c *sslctx.Conn) error {
			if _, err := c.WriteEarlyData([]byte("x")); err == nil {
				return errors.New("WriteEarlyData works")
			}
			return nil
		},
		"CloseWrite": (*sslctx.Conn).CloseWrite,
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				for _, r := range []role{serverRole, clientRole} {
					noQueue(t)
					c, peer := newEnds(t, v).connect(t, nil)
					if r == clientRole {
						c, peer = peer, c
					}
					must(t, c.CloseWrite())
					for range 2 {
						if err := call(c); err != nil {
							t.Errorf("%s: %s returns %v", r, name, err)
						}
					}
					if got, err := io.ReadAll(peer); len(got) != 0 || err != nil {
						t.Errorf("%s: the peer reads %q, %v", r, got, err)
					}
					_, err := peer.Write([]byte("answer"))
					must(t, err)
					must(t, peer.CloseWrite())
					must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
					if got, err := io.ReadAll(c); string(got) != "answer" || err != nil {
						t.Errorf("%s: after %s, %q is read, %v", r, name, got, err)
					}
					if _, err := c.Read(make([]byte, 1)); err != io.EOF {
						t.Errorf("%s: Read at the end returns %v", r, err)
					}
					must(t, c.Close())
				}
			})
		})
	}
}

// watched records the size of the last Read's buffer.
type watched struct {
	net.Conn
	mu   sync.Mutex
	room int
}

func (w *watched) Read(p []byte) (int, error) {
	w.mu.Lock()
	w.room = len(p)
	w.mu.Unlock()
	return w.Conn.Read(p)
}

// TestIdleKeepsLittle: after a burst of any size an idle connection waits with a small buffer.
func TestIdleKeepsLittle(t *testing.T) {
	s, c := tcpPair(t)
	w := &watched{Conn: c}
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, w, nil)
	shake(t, server, client)
	echo := make(chan int)
	go func() {
		buf := make([]byte, 1<<20)
		for {
			n, err := client.Read(buf)
			if err != nil {
				close(echo)
				return
			}
			echo <- n
		}
	}()
	const overhead = 22 // of a record
	for _, size := range []int{4608 - overhead, 4608/2 - overhead, 4608, 16384, 4*16896 - 5*overhead, 1 << 20} {
		_, err := server.Write(make([]byte, size))
		must(t, err)
		for got := 0; got < size; {
			got += <-echo
		}
		time.Sleep(20 * time.Millisecond)
		w.mu.Lock()
		if w.room > 5000 {
			t.Errorf("after %d bytes of plaintext a connection waits with %d bytes", size, w.room)
		}
		w.mu.Unlock()
	}
	must(t, server.Close())
	<-echo
}

// roomy makes a connection on which the server can write mebibytes that the client has not read. The
// client shows a certificate when the server asks for it later.
func roomy(t *testing.T) (server, client *sslctx.Conn) {
	t.Helper()
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	s, c := tcpPair(t)
	must(t, s.(*net.TCPConn).SetWriteBuffer(4<<20))
	must(t, c.(*net.TCPConn).SetReadBuffer(64<<10))
	server, client = e.over(t, s, c, nil)
	exchange(t, server, client)
	return server, client
}

// TestCloseAwaitsAnswer: libssl of the peer must answer a message of this end. The answer to a
// closed socket would make the system drop what was written. So Close waits until the peer has it,
// or says that it may be lost.
func TestCloseAwaitsAnswer(t *testing.T) {
	for name, ask := range map[string]func(c *sslctx.Conn) error{
		"nothing":     func(*sslctx.Conn) error { return nil },
		"KeyUpdate":   func(c *sslctx.Conn) error { return c.KeyUpdate(true) },
		"certificate": (*sslctx.Conn).VerifyClientPostHandshake,
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, a late reader %v", name, late), func(t *testing.T) {
				t.Parallel()
				server, client := roomy(t)
				must(t, ask(server))
				const size = 2 << 20
				_, err := server.Write(make([]byte, size))
				must(t, err)
				closed := make(chan error, 1)
				go func() { closed <- server.Close() }()
				if late {
					err = <-closed
				}
				got, readErr := io.Copy(io.Discard, client)
				if !late {
					err = <-closed
				}
				if whole := got == size && readErr == nil; whole != (err == nil) && !(whole && late) || err != nil && !errors.Is(err, sslctx.ErrDataLost) {
					t.Errorf("Close returns %v, and the peer has %d of %d bytes, and %v", err, got, size, readErr)
				}
				if !late && err != nil {
					t.Errorf("Close returns %v though the peer reads", err)
				}
			})
		}
	}
}

// TestWriteWithoutTurn: a Write that waits for another call until its deadline has failed. No
// close_notify follows, which would make the peer take its data for the whole.
func TestWriteWithoutTurn(t *testing.T) {
	for name, end := range map[string]func(*sslctx.Conn) error{"Close": (*sslctx.Conn).Close, "CloseWrite": (*sslctx.Conn).CloseWrite} {
		s, c := net.Pipe() // a Write waits for the peer's Read
		out := &tellingConn{Conn: c, begun: make(chan bool, 1)}
		server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, out, nil)
		up := make(chan error, 1)
		go func() { _, err := server.Write([]byte("up")); up <- err }()
		_, err := io.ReadFull(client, make([]byte, 2))
		must(t, err)
		must(t, <-up)
		out.watch.Store(true)
		updated := make(chan error, 1)
		go func() { updated <- client.KeyUpdate(false) }()
		<-out.begun // KeyUpdate has the turn
		must(t, client.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		if n, err := client.Write([]byte("important")); n != 0 || !isTimeout(err) {
			t.Fatalf("Write returns %d, %v", n, err)
		}
		<-updated
		must(t, client.SetWriteDeadline(time.Time{}))
		read := make(chan error, 1)
		go func() { _, err := io.Copy(io.Discard, server); read <- err }()
		if err := end(client); !errors.Is(err, sslctx.ErrDataLost) {
			t.Errorf("%s returns %v", name, err)
		}
		_ = client.Abort()
		if err := <-read; err == nil {
			t.Errorf("%s: the peer reads a clean end", name)
		}
	}
}

// A tellingConn tells when a Write begins.
type tellingConn struct {
	net.Conn
	watch atomic.Bool
	begun chan bool
}

func (s *tellingConn) Write(p []byte) (int, error) {
	if s.watch.Swap(false) {
		s.begun <- true
	}
	return s.Conn.Write(p)
}

// TestCloseBesideCalls: Close and CloseWrite get their turn among calls that send without end, while
// the peer reads.
func TestCloseBesideCalls(t *testing.T) {
	for name, c := range map[string]struct {
		call func(*sslctx.Conn) error
		end  func(*sslctx.Conn) error
	}{
		"KeyUpdate": {func(c *sslctx.Conn) error { return c.KeyUpdate(false) }, (*sslctx.Conn).Close},
		"Write":     {func(c *sslctx.Conn) error { _, err := c.Write([]byte("x")); return err }, (*sslctx.Conn).CloseWrite},
	} {
		s, raw := tcpPair(t)
		server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, raw, nil)
		exchange(t, server, client)
		read := make(chan error, 1)
		go func() { _, err := io.Copy(io.Discard, server); read <- err }()
		var calls sync.WaitGroup
		var n atomic.Int32
		for range 2 {
			calls.Go(func() {
				for c.call(client) == nil {
					n.Add(1)
				}
			})
		}
		for n.Load() < 1000 { // they run by turns now
			runtime.Gosched()
		}
		if err := c.end(client); err != nil {
			t.Errorf("beside %s the end is %v", name, err)
		}
		calls.Wait()
		if err := <-read; err != nil {
			t.Errorf("beside %s the peer reads %v", name, err)
		}
	}
}

// TestCloseWriteAfterFatal: after libssl's fatal error there is no close_notify, and CloseWrite
// returns the error.
func TestCloseWriteAfterFatal(t *testing.T) {
	s, c := tcpPair(t)
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
	exchange(t, server, client)
	_, err := s.Write(slices.Concat([]byte{23, 3, 3, 0, 20}, make([]byte, 20))) // it has no MAC
	must(t, err)
	_, readErr := client.Read(make([]byte, 1))
	if err := client.CloseWrite(); err == nil || err.Error() != readErr.Error() {
		t.Errorf("CloseWrite returns %v, Read %v", err, readErr)
	}
}

// TestBackgroundClose: Close does not wait for a peer that reads late, and the peer gets all.
func TestBackgroundClose(t *testing.T) {
	server, client := roomy(t)
	must(t, server.KeyUpdate(true)) // the answer would reset a closed socket
	const size = 2 << 20
	_, err := server.Write(make([]byte, size))
	must(t, err)
	must(t, server.SetBackgroundClose(true))
	start := time.Now()
	must(t, server.Close())
	if took := time.Since(start); took > 2*time.Second { // it would take five
		t.Errorf("Close takes %v", took)
	}
	if got, err := io.Copy(io.Discard, client); got != size || err != nil {
		t.Errorf("the peer has %d of %d bytes, and %v", got, size, err)
	}
}
