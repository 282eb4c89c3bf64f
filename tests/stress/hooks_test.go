// SPDX-License-Identifier: Apache-2.0

package stress

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
	"sslctx/internal/tlstest"
)

// Defects that a review of the hooks found: each test failed once.

// TestHookThatIsSetBeforeRenegotiation: if no hook was called in the first handshake, none is in
// the next.
func TestHookThatIsSetBeforeRenegotiation(t *testing.T) {
	e := tlstest.NewRenegotiatingEnds(t)
	server, client := e.Connect(t, nil)
	tlstest.Must(t, e.Server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
		t.Error("asked in a renegotiation")
		return nil, nil
	}))
	tlstest.Must(t, client.Renegotiate())
	errs := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(server, make([]byte, 4))
		errs <- err
	}()
	_, err := client.Write([]byte("ping"))
	tlstest.Must(t, errors.Join(err, <-errs))
}

// brokenConn fails its writes slowly, from some moment on.
type brokenConn struct {
	net.Conn
	broken atomic.Bool
	fails  chan bool // receives twice for each failure: when it begins, and when it may end
}

func (c *brokenConn) Write(p []byte) (int, error) {
	if !c.broken.Load() {
		return c.Conn.Write(p)
	}
	c.fails <- true
	c.fails <- true
	return 0, io.ErrClosedPipe
}

// TestHandshakeIsNotOverUnsent: while the last flight is being sent, another Handshake waits for
// it.
func TestHandshakeIsNotOverUnsent(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS12)
	_, err := e.Server.SetOptions(sslctx.OpNoTicket)
	tlstest.Must(t, err)
	s, c := tlstest.TCPPair(t)
	broken := &brokenConn{Conn: s, fails: make(chan bool)}
	tlstest.Must(t, e.Server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		_ = s.Close()
		broken.broken.Store(true)
	}))
	server, client := e.Over(t, broken, c, nil)
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

// TestCloseDoesNotWaitForGetHook closes a connection while its get hook runs.
func TestCloseDoesNotWaitForGetHook(t *testing.T) {
	var outside tlstest.Store
	e := tlstest.NewEnds(t, sslctx.VersionTLS12)
	outside.Fill(t, e.Server)
	server, client := e.Connect(t, nil)
	offer := tlstest.SessionOf(t, client)
	tlstest.Must(t, errors.Join(client.Close(), server.Close()))
	asked, closed := make(chan bool), make(chan bool)
	tlstest.Must(t, e.Server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session {
		close(asked)
		<-closed
		return nil
	}))
	s, c := tlstest.TCPPair(t)
	server, client = e.Over(t, s, c, offer)
	go func() { _ = client.Handshake() }()
	errs := make(chan error)
	go func() { errs <- server.Handshake() }()
	<-asked
	tlstest.Must(t, server.Close())
	close(closed)
	if err := <-errs; err == nil {
		t.Error("a closed connection completes its handshake")
	}
}

// TestHookPanicsInRead: a hook panics in a Read. The next Read returns the plaintext that came with
// the hook's session.
func TestHookPanicsInRead(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	_, err := e.Client.SetSessionCacheMode(sslctx.SessCacheClient)
	tlstest.Must(t, err)
	s, c := tlstest.TCPPair(t)
	server, client := e.Over(t, s, c, nil)
	sent := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("first"))
		sent <- err
	}()
	tlstest.Must(t, client.Handshake())
	tlstest.Must(t, <-sent)
	tlstest.Must(t, e.Client.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) { panic("the hook's") }))
	func() {
		defer func() {
			if r := recover(); r != "the hook's" {
				t.Errorf("Read ends with %v", r)
			}
		}()
		_, _ = client.Read(make([]byte, 20))
	}()
	tlstest.Must(t, e.Client.SetNewSessionCallback(nil))
	buf := make([]byte, 20)
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "first" {
		t.Errorf("then Read returns %q, %v", buf[:n], err)
	}
}

type panicWriter struct{}

func (panicWriter) Write([]byte) (int, error) { panic("the log's") }

// TestHookPanicsBeforeAlert: the peer learns why the handshake failed.
func TestHookPanicsBeforeAlert(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	e.Client = tlstest.NewContext(t, sslctx.TLSClientMethod) // trusts no server
	tlstest.Must(t, e.Client.SetVerify(sslctx.VerifyPeer))
	tlstest.Must(t, e.Client.SetKeyLogWriter(panicWriter{}))
	s, c := tlstest.TCPPair(t)
	server, client := e.Over(t, s, c, nil)
	errs := make(chan error, 1)
	go func() { errs <- server.Handshake() }()
	func() {
		defer func() { _ = recover() }()
		_ = client.Handshake()
	}()
	tlstest.Must(t, client.Close())
	var ssl *sslctx.Error
	if err := <-errs; !errors.As(err, &ssl) {
		t.Errorf("the server got no alert: %v", err)
	}
}

// TestConstraintEnds: a constraint of a CertPool is user code and may panic or end its goroutine.
// The handshake fails, and no lock stays held.
func TestConstraintEnds(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("the constraint's") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			root := tlstest.Issue(t, "root", nil, tlstest.Authority)
			e := tlstest.NewEndsWith(t, sslctx.VersionTLS13, tlstest.Issue(t, "leaf", root, nil).TLSCertificate())
			pool := x509.NewCertPool()
			pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error { end(); return nil })
			tlstest.Must(t, e.Client.TrustCertPool(pool))
			_, _, _, err := e.Meet(t)
			tlstest.WantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
			tlstest.Must(t, e.Client.SetCipherList("HIGH")) // it takes the configuration lock
		})
	}
}

// TestConstraintsConnect: constraints make handshakes of their own, in as many handshakes as there
// are slots.
func TestConstraintsConnect(t *testing.T) {
	defer tlstest.Watchdog(30 * time.Second)()
	n := 8 + 4*runtime.GOMAXPROCS(0)
	root := tlstest.Issue(t, "root", nil, tlstest.Authority)
	e := tlstest.NewEndsWith(t, sslctx.VersionTLS13, tlstest.Issue(t, "leaf", root, nil).TLSCertificate())
	elsewhere := tlstest.NewEnds(t, sslctx.VersionTLS13)
	var all, waiting sync.WaitGroup
	waiting.Add(n)
	pool := x509.NewCertPool()
	pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error {
		waiting.Done()
		waiting.Wait()
		elsewhere.InMemory(t, nil)
		return nil
	})
	tlstest.Must(t, e.Client.TrustCertPool(pool))
	for range n {
		all.Go(func() { e.InMemory(t, nil) })
	}
	all.Wait()
}

// TestLargeTicket requests a ticket that is larger than other messages: it holds the client's
// certificate.
func TestLargeTicket(t *testing.T) {
	if ossltest.LinkedVersion() < 0x30000000 {
		t.Skip("OpenSSL 1.1.1 sends no ticket on request")
	}
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	ca := tlstest.Issue(t, "clients", nil, tlstest.Authority)
	large := tlstest.Issue(t, "user", ca, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		for i := range 400 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("a-long-name-%d.example.com", i))
		}
	})
	tlstest.Must(t, e.Server.SetVerify(sslctx.VerifyPeer))
	tlstest.Must(t, e.Server.SetIDContext([]byte("x")))
	tlstest.Must(t, e.Server.TrustCertificate(ca.Cert))
	tlstest.Must(t, e.Client.UseCertificate(large.TLSCertificate()))
	_, err := e.Client.SetSessionCacheMode(sslctx.SessCacheClient)
	tlstest.Must(t, err)
	server, client := e.Connect(t, nil)
	heard := 0
	tlstest.Must(t, e.Client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		heard++
		_ = s.Close()
	}))
	tlstest.Must(t, server.NewSessionTicket())
	tlstest.Exchange(t, server, client)
	if heard != 1 {
		t.Errorf("the client heard of %d tickets", heard)
	}
}

// TestPaddedWriteTimesOut: libssl does not begin a padded record that is larger than the room. So
// the peer gets exactly the bytes that Write reports.
func TestPaddedWriteTimesOut(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	tlstest.Must(t, e.Client.SetBlockPadding(16384))
	a, b := net.Pipe()
	server, client := e.Over(t, a, b, nil)
	go func() { _, _ = server.Write([]byte("x")) }()
	_, err := client.Read(make([]byte, 1))
	tlstest.Must(t, err)
	tlstest.Must(t, client.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	old, fresh := bytes.Repeat([]byte("o"), 33000), bytes.Repeat([]byte("n"), 1000)
	n, err := client.Write(old) // nobody reads
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write returns %d, %v", n, err)
	}
	tlstest.Must(t, client.SetWriteDeadline(time.Time{}))
	go func() {
		_, _ = client.Write(fresh)
		_ = client.Close()
	}()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, append(old[:n:n], fresh...)) {
		t.Errorf("%d bytes arrive, %d were taken; %v", len(got), n+len(fresh), err)
	}
}

// TestConstraintAndConfiguration: a verification waits for a pool's constraint, and a call waits to
// configure the context. As many handshakes as there are slots wait for that call. The verification
// must not wait for a slot.
func TestConstraintAndConfiguration(t *testing.T) {
	defer tlstest.Watchdog(30 * time.Second)()
	root := tlstest.Issue(t, "root", nil, tlstest.Authority)
	e := tlstest.NewEndsWith(t, sslctx.VersionTLS13, tlstest.Issue(t, "leaf", root, nil).TLSCertificate())
	inside, release := make(chan bool, 100), make(chan bool)
	tlstest.Must(t, e.Client.TrustCertPool(tlstest.WaitingPool(root, func(context.Context) {
		inside <- true
		<-release
	})))
	var all sync.WaitGroup
	all.Go(func() { e.InMemory(t, nil) })
	<-inside
	var waiting []*sslctx.Conn
	for range 8 + 4*runtime.GOMAXPROCS(0) {
		s, c := tlstest.TCPPair(t)
		server, client := e.Over(t, s, c, nil)
		waiting = append(waiting, server, client)
	}
	configured := make(chan error)
	go func() {
		_, err := e.Client.SetTimeout(time.Hour)
		configured <- err
	}()
	for _, c := range waiting {
		all.Go(func() { _ = c.Handshake() })
	}
	time.Sleep(20 * time.Millisecond) // for the handshakes to wait
	close(release)
	tlstest.Must(t, <-configured)
	all.Wait()
}

// TestReopenedContext: other code keeps an SSL_CTX whose Context is closed. The callbacks stay in
// it.
func TestReopenedContext(t *testing.T) {
	first, err := sslctx.NewContext(sslctx.TLSMethod)
	tlstest.Must(t, err)
	owner := ossltest.LastContext()
	keeps := owner.NewSSL()
	defer keeps.Free()
	tlstest.Must(t, first.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { return true }))
	tlstest.Must(t, first.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) { return nil, nil }))
	tlstest.Must(t, first.Close())
	second, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	tlstest.Must(t, err)
	defer second.Close()
	tlstest.Must(t, second.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { return true }))
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	s, c := tlstest.TCPPair(t)
	server, client := tlstest.Ends{Server: e.Server, Client: second}.Over(t, s, c, nil)
	tlstest.Exchange(t, server, client)
}

// TestCloseInTicketHook: Close does not mark the session, even while libssl waits for a hook.
func TestCloseInTicketHook(t *testing.T) {
	if ossltest.LinkedVersion() < 0x30000000 {
		t.Skip("OpenSSL 1.1.1 sends no ticket on request")
	}
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	var made *sslctx.Session
	tlstest.Must(t, e.Server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { made = s }))
	server, _ := e.Connect(t, nil)
	tlstest.Must(t, e.Server.SetSessionTicketCallback(func(_ context.Context, t sslctx.SessionTicket) ([]byte, error) { return nil, t.Conn.Close() }, nil))
	_ = server.NewSessionTicket()
	if !made.IsResumable() {
		t.Error("the session is marked")
	}
}
