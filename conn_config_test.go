// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sslctx"
)

// startConfiguring configures a context by a file that does not end before end is called. When it returns, libssl reads the
// file, and the call has the context's configuration lock.
func startConfiguring(t *testing.T, c *sslctx.Context) (end func()) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	configured := make(chan struct{})
	go func() {
		defer close(configured)
		_ = c.Configure("VerifyCAFile", fifo) // an empty file is an error
	}()
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits until libssl opens it
	must(t, err)
	end = sync.OnceFunc(func() {
		_ = w.Close()
		<-configured
	})
	t.Cleanup(end)
	return end
}

// shakeBeside makes a handshake of a context that nobody configures. It fails after ten seconds.
func shakeBeside(t *testing.T, e ends) {
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

// TestStateBesideConfigure: a call that waits for who configures stops no other call of its connection.
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

// TestCloseBesideConfigure: Close does not wait for who configures for longer than it waits for a peer, and what libssl had
// of the connection is given back later.
func TestCloseBesideConfigure(t *testing.T) {
	t.Parallel()
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	removed := make(chan struct{})
	must(t, e.server.SetRemoveSessionCallback(func(*sslctx.Session) { close(removed) }))
	server, _ := e.connect(t, nil)
	end := startConfiguring(t, e.server)
	_ = server.Abort() // marks the session, which goes from the cache
	select {
	case <-removed:
		t.Error("the connection was freed while the context was configured")
	default:
	}
	end()
	<-removed
}

// TestCloseThatCannotEnter: Close that gets into libssl no more leaves the session as it was.
func TestCloseThatCannotEnter(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
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
	if !s.IsResumable() {
		t.Error("the session is marked")
	}
}

// TestHandshakeContextBesideConfigure: the context of a handshake ends its wait for a hook's own call that configures.
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

// TestHandshakeBesideConfigure: a handshake waits for who configures, and no longer than its context.
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

// TestSlotsBesideConfigure: verifications that are done, and wait for who configures, leave the slots to other contexts.
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
	shakeBeside(t, newEnds(t, sslctx.VersionTLS13))
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

// TestHookThreadsBesideConfigure: hooks that have returned, and wait for who configures, leave the places for hooks to others.
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
	shakeBeside(t, other)
	end()
	wait()
}

// closesConn is a transport whose Close and failing Write end the Conn above it, as trackers of connections do.
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

// TestTransportClosesConn: a transport may close the Conn from inside of its own Close and Write.
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
	noQueue(t)
	s, c := net.Pipe() // nobody reads
	transport := &watchedWrites{Conn: c, sent: make(chan struct{}, 1)}
	server, client := newEnds(t, sslctx.VersionTLS12).over(t, s, transport, nil)
	shake(t, server, client)
	transport.watch.Store(true)
	first := make(chan error, 1)
	go func() { first <- client.Close() }()
	<-transport.sent
	must(t, client.Close())
	select {
	case err := <-first:
		t.Errorf("the first Close returns %v before the second", err)
	default:
	}
	_ = client.Abort()
	<-first
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
	if _, err := client.Write([]byte("x")); !errors.Is(err, sslctx.ReasonProtocolIsShutdown) {
		t.Errorf("Write returns %v", err)
	}
	_ = client.Close()
	if _, err := client.Write([]byte("x")); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close Write returns %v", err)
	}
}

// askingContext is a context without an end that uses the Conn when it is asked for one.
type askingContext struct {
	context.Context
	use func()
}

func (c askingContext) Done() <-chan struct{} {
	c.use()
	return nil
}

// TestContextThatUsesConn: a caller's context is asked where no lock is held.
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
