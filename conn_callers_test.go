// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// TestConfigLockAfterTimeout: a call gives up its wait for a context that is being configured. It
// holds no configuration lock later.
func TestConfigLockAfterTimeout(t *testing.T) {
	for range 2 {
		e := newEnds(t, sslctx.VersionTLS13)
		other := newEnds(t, sslctx.VersionTLS13).server
		must(t, e.client.SetVerify(sslctx.VerifyNone))
		must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
			return other, nil
		}))
		const conns = 20
		var servers []*sslctx.Conn
		for range conns {
			s, c := tcpPair(t)
			server, client := e.over(t, s, c, nil)
			servers = append(servers, server)
			go func() { _ = client.Handshake() }()
		}
		end := startConfiguring(t, e.server)
		done := make(chan error, conns)
		for _, server := range servers {
			go func() {
				for {
					_ = server.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
					_, err := server.ReadEarlyData(make([]byte, 10))
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						done <- err
						return
					}
				}
			}()
		}
		time.Sleep(200 * time.Millisecond)
		end()
		for range conns {
			<-done
		}
	}
}

// TestAnswerAfterDeadline: a deadline for writes stops an answer. After the deadline is lifted, a
// Read sends the answer.
func TestAnswerAfterDeadline(t *testing.T) {
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	server, client := e.connect(t, nil)
	must(t, server.VerifyClientPostHandshake())
	must(t, client.SetWriteDeadline(time.Unix(1, 0)))
	must(t, client.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	_, _ = client.Read(make([]byte, 1))
	must(t, client.SetDeadline(time.Time{}))
	go func() { _, _ = client.Read(make([]byte, 1)) }()
	go func() { _, _ = server.Read(make([]byte, 1)) }()
	for end := time.Now().Add(10 * time.Second); len(server.ConnectionState().PeerCertificates) == 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the client's answer is not sent, though it reads")
		}
	}
	must(t, errors.Join(server.Abort(), client.Abort()))
}

// TestHookWaitsForClose: a hook that Close runs can wait for another goroutine that calls Close.
func TestHookWaitsForClose(t *testing.T) {
	t.Parallel() // it waits for four seconds
	e := newEnds(t, sslctx.VersionTLS13)
	_, _ = e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	watchdogGone := make(chan struct{})
	must(t, e.client.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
		_ = s.Close()
		select {
		case <-watchdogGone: // like sync.WaitGroup.Wait
		case <-time.After(10 * time.Second):
			t.Error("the hook has waited ten seconds for a Close that waits for a lock which is held while the hook runs")
		}
	}))
	s, c := tcpPair(t)
	must(t, s.(*net.TCPConn).SetReadBuffer(4096))
	server, client := e.over(t, s, c, nil)
	hs := make(chan error, 1)
	go func() { hs <- server.Handshake() }()
	must(t, client.Handshake())
	must(t, <-hs)
	time.Sleep(50 * time.Millisecond) // the tickets arrive, and stay unread
	must(t, client.SetWriteDeadline(time.Now().Add(4*time.Second)))
	_, err := client.Write(make([]byte, 1<<20)) // the server does not read yet
	must(t, err)
	go func() { // the watchdog of the connection
		time.Sleep(100 * time.Millisecond)
		_ = client.Close()
		close(watchdogGone)
	}()
	go func() {
		time.Sleep(500 * time.Millisecond)
		_, _ = io.Copy(io.Discard, server)
	}()
	_ = client.Close()
}

// TestEarlyDataAfterPanic: a hook panics while early data arrives. The next call returns the early
// data.
func TestEarlyDataAfterPanic(t *testing.T) {
	e, s := earlyEnds(t, 1000)
	var once sync.Once
	must(t, e.server.SetRemoveSessionCallback(func(s *sslctx.Session) {
		_ = s.Close()
		once.Do(func() { panic("hook") })
	}))
	server, client := e.join(t, s)
	cl := make(chan error, 1)
	go func() { cl <- client.HandshakeWithEarlyData(t.Context(), []byte("early")) }()
	time.Sleep(100 * time.Millisecond)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the hook's panic does not come out")
			}
		}()
		_, _ = server.HandshakeReadEarlyData(t.Context())
	}()
	data, err := server.HandshakeReadEarlyData(t.Context())
	if clientErr := <-cl; err != nil || clientErr != nil || string(data) != "early" {
		t.Errorf("the server has %q, %v; the client %v", data, err, clientErr)
	}
}

// panicsEarly is a key log that panics once, at the secret for early data.
type panicsEarly struct{ once sync.Once }

func (l *panicsEarly) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("CLIENT_EARLY")) {
		l.once.Do(func() { panic("key log") })
	}
	return len(p), nil
}

// TestContextAfterPanic: a call with a context ends by a panic. The context can no longer end the
// connection.
func TestContextAfterPanic(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 1000)
	must(t, e.client.SetKeyLogWriter(new(panicsEarly)))
	server, client := e.join(t, s)
	go func() {
		_, _ = server.HandshakeReadEarlyData(t.Context())
		_, _ = io.Copy(server, server)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = client.HandshakeWithEarlyData(ctx, []byte("early"))
	}()
	cancel() // like a defer of the caller
	for range 20 {
		_, err := client.Write([]byte("x"))
		must(t, err)
		_, err = client.Read(make([]byte, 1))
		must(t, err)
		time.Sleep(time.Millisecond)
	}
}

// TestCutOffKeepsSession: Close after a failed Write does not change the session, also beside other
// calls.
func TestCutOffKeepsSession(t *testing.T) {
	bad, gone := 0, 0
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	for range 100 {
		server, client := e.connect(t, nil)
		s := sessionOf(t, server)
		before := e.server.CacheStats().Number
		must(t, server.SetWriteDeadline(time.Unix(1, 0)))
		_, err := server.Write([]byte("x"))
		if err == nil {
			t.Fatal()
		}
		// Like a program that watches its connections.
		stop := tlstest.Repeat(t, func(int) { _ = server.ConnectionState() })
		time.Sleep(100 * time.Microsecond)
		_ = server.Close()
		stop()
		if !s.IsResumable() {
			bad++
		}
		if e.server.CacheStats().Number < before {
			gone++
		}
		_ = client.Abort()
	}
	if bad > 0 {
		t.Errorf("Close marked %d of 100 sessions, and took %d out of the cache", bad, gone)
	}
}

// TestPanicBesideRead: a hook panics in its Read while another Read waits. The next Read returns
// the data.
func TestPanicBesideRead(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, _ = e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	second := make(chan string, 1)
	var once sync.Once
	must(t, e.client.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
		once.Do(func() {
			go func() {
				buf := make([]byte, 10)
				n, err := c.Read(buf)
				second <- fmt.Sprintf("%q %v", buf[:n], err)
			}()
			time.Sleep(100 * time.Millisecond)
			panic("hook")
		})
	}))
	go func() { _, _ = server.Write([]byte("data")) }()
	must(t, client.Handshake())
	time.Sleep(100 * time.Millisecond) // tickets and data together
	first := make(chan any, 1)
	go func() {
		defer func() { first <- recover() }()
		_, _ = client.Read(make([]byte, 10))
	}()
	select {
	case v := <-first:
		if v != "hook" {
			t.Errorf("the first Read panics with %v", v)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the panic does not come out")
	}
	buf := make([]byte, 10)
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "data" {
		t.Errorf("the next Read has %q, %v", buf[:n], err)
	}
	_ = server.Close()
	<-second
}

// TestRequestBesideHandshake: a long request for a certificate is sent while the handshake of
// another goroutine ends (with -race).
func TestRequestBesideHandshake(t *testing.T) {
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	var authorities []*x509.Certificate
	for range 60 {
		authorities = append(authorities, issue(t, "an authority with a name that makes the request for a certificate long", nil, authority).Cert)
	}
	must(t, e.server.SetClientCAs(authorities...))
	for range 20 {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Add(2)
		go func() { defer wg.Done(); _, _ = client.Read(make([]byte, 1)) }()
		go func() { defer wg.Done(); _ = server.HandshakeContext(ctx) }()
		for server.Version() == sslctx.VersionAny {
		}
		_ = server.VerifyClientPostHandshake()
		_ = server.Close()
		wg.Wait()
		_ = client.Close()
		cancel()
	}
}

// TestReadBesideWrite: a Read gets its data while a Write waits for the end of a renegotiation.
func TestReadBesideWrite(t *testing.T) {
	late := 0
	for range 5 {
		e := renegotiating(t)
		server, client := e.connect(t, nil)
		must(t, client.Renegotiate())
		wrote := make(chan error, 1)
		go func() { _, err := client.Write([]byte("w")); wrote <- err }()
		time.Sleep(20 * time.Millisecond) // it reads the transport
		got := make(chan time.Duration, 1)
		var begun atomic.Int64
		begun.Store(time.Now().UnixNano())
		go func() {
			_, _ = client.Read(make([]byte, 1))
			got <- time.Duration(time.Now().UnixNano() - begun.Load())
		}()
		time.Sleep(20 * time.Millisecond)
		begun.Store(time.Now().UnixNano())
		_, err := server.Write([]byte("data"))
		must(t, err)
		time.Sleep(300 * time.Millisecond) // the server does something else
		go func() { _, _ = server.Read(make([]byte, 1)) }()
		d := <-got
		if d > 200*time.Millisecond {
			late++
		}
		must(t, <-wrote)
		_, _ = client.Close(), server.Close()
	}
	if late > 0 {
		t.Errorf("%d of 5 Reads waited for the next record though their data was there", late)
	}
}

// startConfiguring configures a context by a file that has no end until end is called. When it
// returns, libssl is reading the file, and the call has the context's configuration lock.
func startConfiguring(t *testing.T, c *sslctx.Context) (end func()) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	configured := make(chan struct{})
	go func() {
		defer close(configured)
		_ = c.Configure("VerifyCAFile", fifo) // an empty file is an error
	}()
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // blocks until libssl opens it
	must(t, err)
	end = sync.OnceFunc(func() {
		_ = w.Close()
		<-configured
	})
	t.Cleanup(end)
	return end
}

// handshakeBesideConfigure makes a handshake of a context that no call configures. It fails after
// ten seconds.
func handshakeBesideConfigure(t *testing.T, e ends) {
	t.Helper()
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- client.HandshakeContext(ctx) }()
	if err := errors.Join(server.HandshakeContext(ctx), <-done); err != nil {
		t.Errorf("a handshake of another context: %v", err)
	}
}

// TestStateBesideConfigure: a call that waits for the configuration lock stops no other call of its
// connection.
func TestStateBesideConfigure(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	server, _ := e.connect(t, nil)
	end := startConfiguring(t, e.server)
	states := make(chan struct{})
	go func() {
		_ = server.ConnectionState()
		close(states)
	}()
	must(t, server.SetDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read returns %v", err)
	}
	if _, err := server.Write([]byte{1}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write returns %v", err)
	}
	if err := server.CloseWrite(); err == nil {
		t.Error("CloseWrite returns nil")
	}
	_ = server.Close()
	end()
	<-states
}

// TestCloseBesideConfigure: Close waits for the configuration lock no longer than for a peer.
// libssl's part of the connection is freed later.
func TestCloseBesideConfigure(t *testing.T) {
	t.Parallel()
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	removed := make(chan struct{})
	must(t, e.server.SetRemoveSessionCallback(func(*sslctx.Session) { close(removed) }))
	server, _ := e.connect(t, nil)
	end := startConfiguring(t, e.server)
	_ = server.Abort() // marks the session, and libssl removes it from the cache
	select {
	case <-removed:
		t.Error("the connection was freed while the context was configured")
	default:
	}
	end()
	<-removed
}

// TestCloseThatCannotEnter: a Close that cannot enter libssl does not change the session.
func TestCloseThatCannotEnter(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	ssls := ossltest.LiveSSLs()
	server, client := e.connect(t, nil)
	s := sessionOf(t, server)
	_, err = server.Write([]byte("x"))
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	end := startConfiguring(t, e.server)
	must(t, server.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	closed := make(chan error, 1)
	go func() { closed <- server.Close() }()
	_, err = client.Read(make([]byte, 1)) // the transport is closed
	end()
	if err == nil {
		t.Error("the peer reads on")
	}
	if err := <-closed; !errors.Is(err, sslctx.ErrDataLost) {
		t.Errorf("Close returns %v", err)
	}
	must(t, client.Close())
	if n := ossltest.CollectUntil(ossltest.LiveSSLs, ssls); n > ssls { // a goroutine frees the server's
		t.Errorf("%d SSLs are alive, %d before", n, ssls)
	}
	if !s.IsResumable() {
		t.Error("the session is marked")
	}
}

// TestHandshakeContextBesideConfigure: a hook configures the context. The handshake's context ends
// the wait for that call.
func TestHandshakeContextBesideConfigure(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	var end func()
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
		end = startConfiguring(t, e.server)
		return nil, nil
	}))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	go func() { _ = client.Handshake() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := server.HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("HandshakeContext returns %v", err)
	}
	end()
}

// TestHandshakeBesideConfigure: a handshake waits for the configuration lock, but no longer than
// its context.
func TestHandshakeBesideConfigure(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	end := startConfiguring(t, e.server)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	go func() { _ = client.Handshake() }()
	if err := server.HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the handshake returns %v", err)
	}
	end()
}

// TestSlotsBesideConfigure: verifications that are done, and wait for the configuration lock, leave
// the slots to other contexts.
func TestSlotsBesideConfigure(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	must(t, e.server.SetIDContext([]byte("x")))
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, e.client.UseCertificate(issue(t, "user", root, nil).TLSCertificate()))
	entered, release := make(chan struct{}), make(chan struct{})
	pool := x509.NewCertPool()
	pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error {
		entered <- struct{}{}
		<-release
		return nil
	})
	must(t, e.server.TrustCertPool(pool))
	slots := runtime.GOMAXPROCS(0) + 1
	wait := e.startHandshakes(t, slots)
	for range slots {
		<-entered
	}
	end := startConfiguring(t, e.server)
	close(release)
	handshakeBesideConfigure(t, newEnds(t, sslctx.VersionTLS13))
	end()
	wait()
}

// startHandshakes makes n handshakes at once. wait waits until they are over.
func (e ends) startHandshakes(t *testing.T, n int) (wait func()) {
	var wg sync.WaitGroup
	for range n {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		wg.Go(func() { _ = server.Handshake() })
		wg.Go(func() { _ = client.Handshake() })
	}
	return wg.Wait
}

// TestHookThreadsBesideConfigure: hooks that have returned, and wait for the configuration lock,
// leave the hook threads to others.
func TestHookThreadsBesideConfigure(t *testing.T) {
	noQueue(t)
	entered, release := make(chan struct{}), make(chan struct{})
	randomID := func(_ context.Context, _ *sslctx.Conn, n int) ([]byte, error) {
		id := make([]byte, n)
		_, err := rand.Read(id)
		return id, err
	}
	e, other := newEnds(t, sslctx.VersionTLS12), newEnds(t, sslctx.VersionTLS12)
	for _, x := range []ends{e, other} {
		_, err := x.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
	}
	must(t, other.server.SetSessionIDGenerator(randomID))
	must(t, e.server.SetSessionIDGenerator(func(ctx context.Context, c *sslctx.Conn, n int) ([]byte, error) {
		entered <- struct{}{}
		<-release
		return randomID(ctx, c, n)
	}))
	wait := e.startHandshakes(t, sslctx.HookThreads())
	for range sslctx.HookThreads() {
		<-entered
	}
	end := startConfiguring(t, e.server)
	close(release)
	for sslctx.UsedHookThreads() > 0 { // the hooks return
		time.Sleep(time.Millisecond)
	}
	handshakeBesideConfigure(t, other)
	end()
	wait()
}

// closesConn is a transport whose Close and failing Write close the Conn above it, like a tracker
// of connections.
type closesConn struct {
	net.Conn
	fails atomic.Bool
	end   func() error
}

func (c *closesConn) Close() error { return errors.Join(c.end(), c.Conn.Close()) }

func (c *closesConn) Write(p []byte) (int, error) {
	if c.fails.Load() {
		return 0, errors.Join(errTunnel, c.end())
	}
	return c.Conn.Write(p)
}

// TestTransportClosesConn: a transport may close the Conn inside its own Close and Write.
func TestTransportClosesConn(t *testing.T) {
	noQueue(t)
	for _, abort := range []bool{false, true} {
		for _, fails := range []bool{false, true} {
			s, c := tcpPair(t)
			transport := &closesConn{Conn: c}
			server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
			transport.end = client.Close
			if abort {
				transport.end = client.Abort
			}
			exchange(t, server, client)
			transport.fails.Store(fails)
			_ = client.Close()
			if _, err := client.Write([]byte("x")); !errors.Is(err, sslctx.ErrClosed) {
				t.Errorf("after Close Write returns %v", err)
			}
		}
	}
}

// TestCloseBesideClose: a second Close does not wait for the first, and Abort ends it.
func TestCloseBesideClose(t *testing.T) {
	eachRole(t, func(t *testing.T, e ends, r role) {
		c, peer := r.pair(t, e)
		defer peer.Close()
		shake(t, c, peer)
		c.NetConn().(*wireEnd).Out.LeaveRoom(10) // nobody reads
		first := make(chan error, 1)
		go func() { first <- c.Close() }()
		synctest.Wait() // until it waits for the peer
		start := time.Now()
		must(t, c.Close())
		select {
		case err := <-first:
			t.Errorf("the first Close returns %v before the second", err)
		default:
		}
		_ = c.Abort()
		<-first
		if took := time.Since(start); took != 0 {
			t.Errorf("the second Close and Abort take %v", took)
		}
	})
}

// panics is a transport whose Write panics.
type panics struct {
	net.Conn
	on atomic.Bool
}

func (c *panics) Write(p []byte) (int, error) {
	if c.on.Load() {
		panic(errTunnel)
	}
	return c.Conn.Write(p)
}

// TestPanicOfTransportInClose: the panic reaches the caller, and the Conn can be closed again.
func TestPanicOfTransportInClose(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	transport := &panics{Conn: c}
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
	exchange(t, server, client)
	transport.on.Store(true)
	func() {
		defer func() {
			if recover() != errTunnel {
				t.Error("the panic is lost")
			}
		}()
		_ = client.Close()
	}()
	transport.on.Store(false)
	if _, err := client.Write([]byte("x")); err == nil {
		t.Error("Write returns nil, and close_notify is lost")
	}
	_ = client.Close()
	if _, err := client.Write([]byte("x")); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close Write returns %v", err)
	}
}

// askingContext is a context without a deadline. Its method Deadline uses the Conn.
type askingContext struct {
	context.Context
	use func()
}

func (c askingContext) Done() <-chan struct{} {
	c.use()
	return nil
}

// TestContextThatUsesConn: methods of a caller's context are called where no lock is held.
func TestContextThatUsesConn(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	must(t, e.server.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { return false }))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	must(t, server.HandshakeContext(askingContext{t.Context(), func() { _, _ = server.Session() }}))
	must(t, <-done)
}

// TestCallsBesideConfigure: another call configures the Context. A call with a context, a listener
// or a deadline does not wait for it any longer than that.
func TestCallsBesideConfigure(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	_, client := e.connect(t, nil)
	endClient, endServer := startConfiguring(t, e.client), startConfiguring(t, e.server)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	d := &sslctx.Dialer{Context: e.client, InsecureSkipVerify: true}
	if _, err := d.DialContext(ctx, "tcp", l.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("DialContext returns %v", err)
	}
	if err := client.AwaitTicket(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AwaitTicket returns %v", err)
	}
	accepted := make(chan error, 1)
	go func() { _, err := l.Accept(); accepted <- err }()
	must(t, l.Close())
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returns %v", err)
	}
	endClient()
	endServer()
}

// TestCloseLimitsBesideConfigure: Close and the calls that it ends do not wait beyond the limit of
// Close.
func TestCloseLimitsBesideConfigure(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	server, _ := e.connect(t, nil)
	end := startConfiguring(t, e.server)
	must(t, server.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	getter := make(chan error, 1)
	go func() { _, err := server.Options(); getter <- err }()
	closed := make(chan error, 1)
	go func() { closed <- server.Close() }()
	for range 2 {
		select {
		case <-closed:
		case err := <-getter:
			if !errors.Is(err, sslctx.ErrClosed) {
				t.Errorf("Options returns %v", err)
			}
		case <-time.After(4 * time.Second): // less than the five seconds of a Close without a deadline
			t.Fatal("Close, with a deadline of 100 ms, or a call that it ends, still waits")
		}
	}
	end()
}

// TestLookupBesideConfigure: a lookup has found its session. The handshake's context ends the wait
// to use it.
func TestLookupBesideConfigure(t *testing.T) {
	noQueue(t)
	e := withIDs(t, sslctx.VersionTLS12)
	server, client := e.connect(t, nil)
	ours, offer := sessionOf(t, server), sessionOf(t, client)
	_, err := e.server.RemoveSession(ours)
	must(t, err)
	ends := make(chan func(), 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) {
		ends <- startConfiguring(t, e.server)
		time.AfterFunc(100*time.Millisecond, cancel) // when the handshake waits
		return ours, nil
	}}))
	s, c := tcpPair(t)
	server, client = e.over(t, s, c, offer)
	go func() { _ = client.Handshake() }()
	if err := server.HandshakeContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("HandshakeContext returns %v", err)
	}
	_ = server.Close()
	(<-ends)()
}

// TestDeadlineLiftedInWait: a deadline that is lifted ends none of several nested waits.
func TestDeadlineLiftedInWait(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "localhost", root, nil).TLSCertificate())
	ends := make(chan func(), 1)
	var once sync.Once
	pool := x509.NewCertPool()
	pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error {
		once.Do(func() { ends <- startConfiguring(t, e.client) })
		return nil
	})
	must(t, e.client.TrustCertPool(pool))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	deadline := time.Now().Add(500 * time.Millisecond)
	must(t, client.SetDeadline(deadline))
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	go func() { _ = server.Handshake() }()
	end := <-ends
	must(t, client.SetDeadline(time.Time{}))
	time.Sleep(time.Until(deadline.Add(50 * time.Millisecond)))
	end()
	if err := <-done; err != nil {
		t.Errorf("the handshake returns %v", err)
	}
}

// waitsInTicketHook makes ends whose server waits in NewSessionTicket for a hook. open ends the
// hook.
func waitsInTicketHook(t *testing.T) (e ends, server *sslctx.Conn, open func(), ticket <-chan error) {
	t.Helper()
	e = newEnds(t, sslctx.VersionTLS13)
	entered, release := make(chan struct{}), make(chan struct{})
	var on atomic.Bool
	must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) {
		if on.Load() {
			close(entered)
			<-release
		}
		return []byte("x"), nil
	}, nil))
	server, _ = e.connect(t, nil)
	on.Store(true)
	done := make(chan error, 1)
	go func() { done <- server.NewSessionTicket() }()
	select {
	case <-entered:
	case err := <-done:
		t.Skip(err)
	}
	open = sync.OnceFunc(func() { close(release) })
	t.Cleanup(open)
	return e, server, open, done
}

// TestCallsBesideReturnedHook: after its hook, a call waits for the configuration lock. Meanwhile
// other calls of its connection keep their deadlines, and Close ends them.
func TestCallsBesideReturnedHook(t *testing.T) {
	noQueue(t)
	e, server, open, ticket := waitsInTicketHook(t)
	options := make(chan error, 1)
	go func() { // repeated, so that one call also waits from before the hook
		for {
			if _, err := server.Options(); err != nil {
				options <- err
				return
			}
		}
	}()
	end := startConfiguring(t, e.server)
	open()
	must(t, server.SetDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read returns %v", err)
	}
	if _, err := server.Write([]byte{1}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write returns %v", err)
	}
	_ = server.Version()
	_ = server.Close()
	if err := <-options; !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("Options returns %v", err)
	}
	end()
	<-ticket
}

// TestPanicAfterClose: a connection is freed later, on a goroutine of the binding. Its remove hook
// may panic.
func TestPanicAfterClose(t *testing.T) {
	noQueue(t)
	e := withIDs(t, sslctx.VersionTLS12)
	heard := make(chan struct{})
	must(t, e.server.SetRemoveSessionCallback(func(s *sslctx.Session) {
		defer close(heard)
		_ = s.Close()
		panic("hook")
	}))
	server, _ := e.connect(t, nil)
	end := startConfiguring(t, e.server)
	_ = server.Abort()
	end()
	<-heard
}
