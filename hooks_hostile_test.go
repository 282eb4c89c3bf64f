// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// What a hostile reader of the hooks found: each test failed once.

// TestHelloHookThatIsRemoved removes the hook while a handshake waits for it, as a reload of the configuration may: its
// answer counts all the same.
func TestHelloHookThatIsRemoved(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	other := e.otherHost(t)
	answer := func(chosen *sslctx.Context, err error) helloHook {
		return func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
			must(t, e.server.SetClientHelloCallback(nil))
			return chosen, err
		}
	}
	must(t, e.server.SetClientHelloCallback(answer(other, nil)))
	_, _, serverErr, clientErr := e.ask(t, "other.example", nil)
	must(t, errors.Join(serverErr, clientErr))
	for _, refusal := range []error{errors.New("refused"), tls.AlertError(0)} {
		must(t, e.server.SetClientHelloCallback(answer(nil, refusal)))
		_, _, serverErr, clientErr = e.ask(t, "other.example", nil)
		if !errors.Is(serverErr, refusal) || clientErr == nil {
			t.Errorf("refusing gives %v at the server, %v at the client", serverErr, clientErr)
		}
	}
}

// TestHookThatIsSetBeforeRenegotiation: nobody was asked in the handshake, and nobody is in the next.
func TestHookThatIsSetBeforeRenegotiation(t *testing.T) {
	e := renegotiating(t)
	server, client := e.connect(t, nil)
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
		t.Error("asked in a renegotiation")
		return nil, nil
	}))
	must(t, client.Renegotiate())
	errs := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(server, make([]byte, 4))
		errs <- err
	}()
	_, err := client.Write([]byte("ping"))
	must(t, errors.Join(err, <-errs))
}

// brokenConn fails its writes from some moment on, slowly.
type brokenConn struct {
	net.Conn
	broken atomic.Bool
	fails  chan bool // heard twice for each failure: when it begins, and when it may end
}

func (c *brokenConn) Write(p []byte) (int, error) {
	if !c.broken.Load() {
		return c.Conn.Write(p)
	}
	c.fails <- true
	c.fails <- true
	return 0, io.ErrClosedPipe
}

// TestHandshakeIsNotOverUnsent: while what ends the handshake is being sent, another Handshake waits for it.
func TestHandshakeIsNotOverUnsent(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	s, c := tcpPair(t)
	broken := &brokenConn{Conn: s, fails: make(chan bool)}
	must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		_ = s.Close()
		broken.broken.Store(true)
	}))
	server, client := e.over(t, broken, c, nil)
	errs := make(chan error, 2)
	go func() { errs <- server.Handshake() }()
	go func() { _ = client.Handshake() }()
	<-broken.fails
	go func() { errs <- server.Handshake() }()
	runtime.Gosched()
	<-broken.fails
	for range 2 {
		if err := <-errs; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Handshake returns %v", err)
		}
	}
	broken.broken.Store(false)
}

// TestCloseDoesNotWaitForGetHook closes the connection that libssl asks for.
func TestCloseDoesNotWaitForGetHook(t *testing.T) {
	var outside store
	e := newEnds(t, sslctx.VersionTLS12)
	outside.fill(t, e.server)
	server, client := e.connect(t, nil)
	offer := sessionOf(t, client)
	must(t, errors.Join(client.Close(), server.Close()))
	asked, closed := make(chan bool), make(chan bool)
	must(t, e.server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session {
		close(asked)
		<-closed
		return nil
	}))
	s, c := tcpPair(t)
	server, client = e.over(t, s, c, offer)
	go func() { _ = client.Handshake() }()
	errs := make(chan error)
	go func() { errs <- server.Handshake() }()
	<-asked
	must(t, server.Close())
	close(closed)
	if err := <-errs; err == nil {
		t.Error("a closed connection completes its handshake")
	}
}

// TestHookPanicsInRead: the plaintext that came with what the hook hears of is the next Read's.
func TestHookPanicsInRead(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	must(t, err)
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	sent := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("first"))
		sent <- err
	}()
	must(t, client.Handshake())
	must(t, <-sent)
	must(t, e.client.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) { panic("the hook's") }))
	func() {
		defer func() {
			if r := recover(); r != "the hook's" {
				t.Errorf("Read ends with %v", r)
			}
		}()
		_, _ = client.Read(make([]byte, 20))
	}()
	must(t, e.client.SetNewSessionCallback(nil))
	buf := make([]byte, 20)
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "first" {
		t.Errorf("then Read returns %q, %v", buf[:n], err)
	}
}

type panicWriter struct{}

func (panicWriter) Write([]byte) (int, error) { panic("the log's") }

// TestHookPanicsBeforeAlert: the peer learns why the handshake failed.
func TestHookPanicsBeforeAlert(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	e.client = newContext(t, sslctx.TLSClientMethod) // trusts nobody
	must(t, e.client.SetVerify(sslctx.VerifyPeer))
	must(t, e.client.SetKeyLogWriter(panicWriter{}))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	errs := make(chan error, 1)
	go func() { errs <- server.Handshake() }()
	func() {
		defer func() { _ = recover() }()
		_ = client.Handshake()
	}()
	must(t, client.Close())
	var ssl *sslctx.Error
	if err := <-errs; !errors.As(err, &ssl) {
		t.Errorf("the server got no alert: %v", err)
	}
}

// TestConstraintEnds has a constraint of a CertPool, which is its user's code, end in each way: the handshake fails,
// and no lock is left behind.
func TestConstraintEnds(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("the constraint's") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			root := issue(t, "root", nil, authority)
			e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", root, nil).sends())
			pool := x509.NewCertPool()
			pool.AddCertWithConstraint(root.cert, func([]*x509.Certificate) error { end(); return nil })
			must(t, e.client.TrustCertPool(pool))
			_, _, _, err := meet(t, e)
			wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
			must(t, e.client.SetCipherList("HIGH")) // waits for the gate
		})
	}
}

// TestConstraintsConnect has constraints make handshakes of their own, in as many handshakes as may compute at once.
func TestConstraintsConnect(t *testing.T) {
	defer watchdog(30 * time.Second)()
	n := 8 + 4*runtime.GOMAXPROCS(0)
	root := issue(t, "root", nil, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", root, nil).sends())
	elsewhere := newEnds(t, sslctx.VersionTLS13)
	var all, waiting sync.WaitGroup
	waiting.Add(n)
	pool := x509.NewCertPool()
	pool.AddCertWithConstraint(root.cert, func([]*x509.Certificate) error {
		waiting.Done()
		waiting.Wait()
		elsewhere.inMemory(t, nil)
		return nil
	})
	must(t, e.client.TrustCertPool(pool))
	for range n {
		all.Go(func() { e.inMemory(t, nil) })
	}
	all.Wait()
}

// TestLargeTicket asks for a ticket that takes more room than other messages: it holds the client's certificate.
func TestLargeTicket(t *testing.T) {
	if ossltest.LinkedVersion() < 0x30000000 {
		t.Skip("OpenSSL 1.1.1 sends no ticket on request")
	}
	e := newEnds(t, sslctx.VersionTLS13)
	ca := issue(t, "clients", nil, authority)
	large := issue(t, "user", ca, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		for i := range 400 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("a-long-name-%d.example.com", i))
		}
	})
	must(t, e.server.SetVerify(sslctx.VerifyPeer))
	must(t, e.server.SetIDContext([]byte("x")))
	must(t, e.server.TrustCertificate(ca.cert))
	must(t, e.client.UseCertificate(large.sends()))
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	must(t, err)
	server, client := e.connect(t, nil)
	heard := 0
	must(t, e.client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		heard++
		_ = s.Close()
	}))
	must(t, server.NewSessionTicket())
	exchange(t, server, client)
	if heard != 1 {
		t.Errorf("the client heard of %d tickets", heard)
	}
}

// TestPaddedWriteTimesOut: a record that is padded to a larger size than there is room for is not begun, so that what
// Write says it took is what the peer gets.
func TestPaddedWriteTimesOut(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetBlockPadding(16384))
	a, b := net.Pipe()
	server, client := e.over(t, a, b, nil)
	go func() { _, _ = server.Write([]byte("x")) }()
	_, err := client.Read(make([]byte, 1))
	must(t, err)
	must(t, client.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	old, fresh := bytes.Repeat([]byte("o"), 33000), bytes.Repeat([]byte("n"), 1000)
	n, err := client.Write(old) // nobody reads
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write returns %d, %v", n, err)
	}
	must(t, client.SetWriteDeadline(time.Time{}))
	go func() {
		_, _ = client.Write(fresh)
		_ = client.Close()
	}()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, append(old[:n:n], fresh...)) {
		t.Errorf("%d bytes arrive, %d were taken; %v", len(got), n+len(fresh), err)
	}
}

// TestConstraintAndConfiguration has a verification wait for a pool's constraint while somebody waits to configure the
// context, and as many handshakes as may compute wait behind that: the verification must not wait for a place among
// them.
func TestConstraintAndConfiguration(t *testing.T) {
	defer watchdog(30 * time.Second)()
	root := issue(t, "root", nil, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", root, nil).sends())
	inside, release := make(chan bool, 100), make(chan bool)
	must(t, e.client.TrustCertPool(waitingPool(root, func(context.Context) {
		inside <- true
		<-release
	})))
	var all sync.WaitGroup
	all.Go(func() { e.inMemory(t, nil) })
	<-inside
	var waiting []*sslctx.Conn
	for range 8 + 4*runtime.GOMAXPROCS(0) {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		waiting = append(waiting, server, client)
	}
	configured := make(chan error)
	go func() {
		_, err := e.client.SetTimeout(time.Hour)
		configured <- err
	}()
	for _, c := range waiting {
		all.Go(func() { _ = c.Handshake() })
	}
	time.Sleep(20 * time.Millisecond) // for the handshakes to wait
	close(release)
	must(t, <-configured)
	all.Wait()
}

// TestReopenedContext: callbacks stay in an SSL_CTX that other code keeps when the Context whose hooks they ask is closed.
func TestReopenedContext(t *testing.T) {
	first, err := sslctx.NewContext(sslctx.TLSMethod)
	must(t, err)
	owner := ossltest.LastContext()
	keeps := owner.NewSSL()
	defer keeps.Free()
	must(t, first.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { return true }))
	must(t, first.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) { return nil, nil }))
	must(t, first.Close())
	second, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	must(t, err)
	defer second.Close()
	must(t, second.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { return true }))
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	server, client := ends{e.server, second}.over(t, s, c, nil)
	exchange(t, server, client)
}

// TestCloseInTicketHook: Close is no judgement on the session, also while libssl waits for a hook.
func TestCloseInTicketHook(t *testing.T) {
	if ossltest.LinkedVersion() < 0x30000000 {
		t.Skip("OpenSSL 1.1.1 sends no ticket on request")
	}
	e := newEnds(t, sslctx.VersionTLS13)
	var made *sslctx.Session
	must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { made = s }))
	server, _ := e.connect(t, nil)
	must(t, e.server.SetSessionTicketCallback(func(_ context.Context, t sslctx.SessionTicket) ([]byte, error) { return nil, t.Conn.Close() }, nil))
	_ = server.NewSessionTicket()
	if !made.IsResumable() {
		t.Error("the session is marked")
	}
}
