// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sslctx"
)

// TestCloseBesideReload: Close goes on when another goroutine changes what the context trusts.
func TestCloseBesideReload(t *testing.T) {
	noQueue(t)
	var bundle []byte
	for range 150 {
		bundle = append(bundle, pemOf(issue(t, "an authority", nil, authority).Cert.Raw)...)
	}
	e := newEnds(t, sslctx.VersionTLS13)
	server, client := e.connect(t, nil)
	const size = 2 << 20
	_, err := client.Write(make([]byte, size))
	must(t, err)
	got := make(chan int, 1)
	go func() { got <- readSlowly(server) }()
	closed := make(chan error, 1)
	go func() { closed <- client.Close() }()
	for range 3 {
		must(t, e.client.TrustCertificates(bundle))
	}
	if err, n := <-closed, <-got; err != nil || n < size {
		t.Errorf("Close returns %v, and the peer has %d of %d bytes", err, n, size)
	}
}

// readSlowly reads all, and answers each Read.
func readSlowly(c net.Conn) (total int) {
	buf := make([]byte, 8192)
	for {
		n, err := c.Read(buf)
		if total += n; err != nil {
			return total
		}
		_, _ = c.Write([]byte("progress"))
		time.Sleep(time.Millisecond)
	}
}

// TestCloseInHookIsLost: Close while libssl waits for a hook sends no close_notify, and says so.
func TestCloseInHookIsLost(t *testing.T) {
	noQueue(t)
	e, asked, open := asksLater(t)
	server, client := e.connect(t, nil)
	read := askLater(t, server, client)
	<-asked
	if err := server.Close(); !errors.Is(err, sslctx.ErrDataLost) {
		t.Errorf("Close returns %v", err)
	}
	open()
	<-read
}

// badClose is a transport whose Close has an error.
type badClose struct{ net.Conn }

var errTunnel = errors.New("the tunnel says no")

func (c badClose) Close() error { return errors.Join(errTunnel, c.Conn.Close()) }

// TestFailedWriteAndClose: an error of the transport does not hide that data is lost.
func TestFailedWriteAndClose(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, badClose{c}, nil)
	exchange(t, server, client)
	must(t, client.SetWriteDeadline(time.Unix(1, 0)))
	_, err := client.Write([]byte("x"))
	if err == nil {
		t.Error("Write returns nil")
	}
	if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) || !errors.Is(err, errTunnel) {
		t.Errorf("Close returns %v", err)
	}
}

// TestEarlyDataOfAllAfterPanic: early data that a panicking hook kept from its caller is the next call's.
func TestEarlyDataOfAllAfterPanic(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 1000)
	var once sync.Once
	must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		_ = s.Close()
		once.Do(func() { panic("hook") })
	}))
	server, client := e.join(t, s)
	sent := make(chan error, 1)
	go func() { sent <- client.HandshakeWithEarlyData(t.Context(), []byte("early")) }()
	func() {
		defer func() { _ = recover() }()
		_, _ = server.HandshakeReadEarlyData(t.Context())
		t.Error("no panic")
	}()
	data, err := server.HandshakeReadEarlyData(t.Context())
	if must(t, <-sent); err != nil || string(data) != "early" {
		t.Errorf("the next call returns %q, %v", data, err)
	}
}

// TestRenegotiationWithoutALPN: libssl's clients send no protocols in a renegotiation, which changes none.
func TestRenegotiationWithoutALPN(t *testing.T) {
	noQueue(t)
	for name, set := range map[string]func(*sslctx.Context) error{
		"hook": func(c *sslctx.Context) error {
			return c.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil })
		},
		"lookup": func(c *sslctx.Context) error {
			return c.SetSessionLookup(&sslctx.SessionLookup{Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { return nil, nil }})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, sslctx.VersionTLS12)
			must(t, e.client.SetALPNProtos("http/1.1"))
			must(t, e.server.SetALPNProtos("http/1.1"))
			must(t, set(e.server))
			server, client := e.connect(t, nil)
			must(t, server.Renegotiate())
			errs := make(chan error, 1)
			go func() {
				_, err := client.Read(make([]byte, 1))
				if err == nil {
					_, err = client.Write([]byte("y"))
				}
				errs <- err
			}()
			_, err := server.Write([]byte("x"))
			must(t, err)
			_, err = server.Read(make([]byte, 1))
			must(t, err)
			must(t, <-errs)
		})
	}
}

// TestLateTicketIsRefused: a server whose trust changed makes no more tickets for a client that it verified before.
func TestLateTicketIsRefused(t *testing.T) {
	noQueue(t)
	gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.server.TrustCertPool(poolOf(gone)))
	must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
	server, client := e.connect(t, nil)
	must(t, e.server.TrustCertPool(poolOf(kept)))
	if err := server.NewSessionTicket(); unsupported(err) {
		t.Skip(err)
	} else if !errors.Is(err, sslctx.ErrUnverifiedSession) {
		t.Errorf("NewSessionTicket returns %v", err)
	}
	exchange(t, server, client) // which goes on
}

// TestTicketOnLiveConnection: a ticket that a server adds is no handshake. Its client is not verified again, and the connection
// goes on when the client's certificate has expired meanwhile.
func TestTicketOnLiveConnection(t *testing.T) {
	t.Parallel()
	notAfter := time.Now().Add(3 * time.Second)
	root := issue(t, "root", nil, authority)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.server.TrustCertificate(root.Cert))
	must(t, e.client.UseCertificate(issue(t, "user", root, func(c *x509.Certificate) { c.NotAfter = notAfter }).TLSCertificate()))
	_, client := e.connect(t, nil)
	server, client := e.connect(t, sessionOf(t, client))
	if !server.SessionReused() {
		t.Fatal("not resumed")
	}
	time.Sleep(time.Until(notAfter.Add(time.Second)))
	if err := server.NewSessionTicket(); unsupported(err) {
		t.Skip(err)
	} else {
		must(t, err)
	}
	exchange(t, server, client)
}

// TestRenegotiationAndTrust: a renegotiation that resumes the connection's own session verifies the client by what is
// trusted now.
func TestRenegotiationAndTrust(t *testing.T) {
	noQueue(t)
	for _, resumed := range []bool{false, true} {
		gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
		e := newEnds(t, sslctx.VersionTLS12)
		_, err := e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("test")))
		must(t, e.server.TrustCertPool(poolOf(gone)))
		must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
		server, client := e.connect(t, nil)
		if resumed {
			server, client = e.connect(t, sessionOf(t, client))
		}
		must(t, e.server.TrustCertPool(poolOf(kept)))
		must(t, server.Renegotiate())
		go func() {
			if _, err := client.Read(make([]byte, 1)); err == nil {
				_, _ = client.Write([]byte("y"))
			}
		}()
		_, err = server.Write([]byte("x"))
		if err == nil {
			_, err = server.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("renegotiated with a client that is trusted no more; it had resumed: %v", resumed)
		}
	}
}

// TestSlowVerificationAndTrust: a client that is verified while the trust is lost makes no session that resumes.
func TestSlowVerificationAndTrust(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
		e := newEnds(t, v)
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("test")))
		must(t, e.server.TrustCertPool(poolOf(gone)))
		must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
		s, c := tcpPair(t)
		stalls := &stallsLast{Conn: c, wait: func() { must(t, e.server.TrustCertPool(poolOf(kept))); time.Sleep(2100 * time.Millisecond) }}
		server, client := e.over(t, s, stalls, nil)
		if err, _ := greet(server, client); err != nil {
			return // the new trust was asked
		}
		offer, err := client.Session()
		if errors.Is(err, sslctx.ErrNoSession) {
			return
		}
		must(t, err)
		s, c = tcpPair(t)
		server, client = e.over(t, s, c, offer)
		if err, _ := greet(server, client); err == nil {
			t.Errorf("accepted by trust that is gone, resumed %v", server.SessionReused())
		}
	})
}

// stallsLast waits before the last record of a client's second flight.
type stallsLast struct {
	net.Conn
	n    int
	wait func()
}

func (s *stallsLast) Write(p []byte) (int, error) {
	if s.n++; s.n != 2 {
		return s.Conn.Write(p)
	}
	last := 0
	for at := 0; at+5 <= len(p); at += 5 + int(p[at+3])<<8 + int(p[at+4]) {
		last = at
	}
	n, err := s.Conn.Write(p[:last])
	if err != nil {
		return n, err
	}
	s.wait()
	m, err := s.Conn.Write(p[last:])
	return n + m, err
}

// TestConfigureTakesTrust: VerifyCAFile replaces what libssl trusts, and older sessions are verified again.
func TestConfigureTakesTrust(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
		file := filepath.Join(t.TempDir(), "ca.pem")
		must(t, os.WriteFile(file, pemOf(kept.Cert.Raw), 0o600))
		e := newEnds(t, v)
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("test")))
		must(t, e.server.TrustCertificate(gone.Cert))
		must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
		_, client := e.connect(t, nil)
		offer := sessionOf(t, client)
		must(t, e.server.Configure("VerifyCAFile", file))
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, offer)
		if err, _ := greet(server, client); err == nil {
			t.Errorf("accepted by trust that is gone, resumed %v", server.SessionReused())
		}
	})
}

// TestTrustBeforeHandshake: a client's session is judged by the trust of its handshake, not of SetSession.
func TestTrustBeforeHandshake(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
		e := bare(t, v, issue(t, "host", gone, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(gone)))
		_, client := e.connect(t, nil)
		offer := sessionOf(t, client)
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, offer)
		must(t, e.client.TrustCertPool(poolOf(kept)))
		if _, err := greet(server, client); err == nil {
			t.Errorf("trusted by trust that is gone, resumed %v", client.SessionReused())
		}
	})
}

// TestWriteAfterRefusal: when the binding refuses the peer's certificate, writing ends, too.
func TestWriteAfterRefusal(t *testing.T) {
	noQueue(t)
	e, user := pha(t)
	chain := append(pemOf(user.Cert.Raw), pemOf(unreadable(t))...)
	must(t, e.client.UseKeyPair(chain, keyPEM(t, user.Key)))
	server, client := e.connect(t, nil)
	must(t, server.VerifyClientPostHandshake())
	var bad *sslctx.CertificateError
	if err := answer(t, server, client); !errors.As(err, &bad) {
		t.Fatalf("Read returns %v", err)
	}
	if n, err := server.Write([]byte("secret")); n != 0 || !errors.As(err, &bad) {
		t.Errorf("Write returns %d, %v", n, err)
	}
	_ = server.Close()
	if data, _ := io.ReadAll(client); len(data) > 0 {
		t.Errorf("the peer that was refused has %q", data)
	}
}
