// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
)

// storedAs encodes a session as DER, changes fields, and decodes it. It adds missing fields, and
// removes a field for nil.
func storedAs(t *testing.T, s *sslctx.Session, change map[int][]byte) *sslctx.Session {
	t.Helper()
	der, err := s.Bytes()
	must(t, err)
	var all asn1.RawValue
	_, err = asn1.Unmarshal(der, &all)
	must(t, err)
	var fields []byte
	tags := slices.Sorted(maps.Keys(change))
	put := func() {
		if value := change[tags[0]]; value != nil {
			b, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tags[0], IsCompound: true, Bytes: value})
			must(t, err)
			fields = append(fields, b...)
		}
		tags = tags[1:]
	}
	for rest := all.Bytes; len(rest) > 0; {
		var field asn1.RawValue
		rest, err = asn1.Unmarshal(rest, &field)
		must(t, err)
		changed := false
		for field.Class == asn1.ClassContextSpecific && len(tags) > 0 && tags[0] <= field.Tag {
			changed = tags[0] == field.Tag
			put()
		}
		if !changed {
			fields = append(fields, field.FullBytes...)
		}
	}
	for len(tags) > 0 {
		put()
	}
	der, err = asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: fields})
	must(t, err)
	stored, err := sslctx.ParseSession(der)
	must(t, err)
	t.Cleanup(func() { _ = stored.Close() })
	return stored
}

// The fields of a stored session.
const (
	fieldPeer         = 3
	fieldVerifyResult = 5
)

// TestUnverifiedSessionIsNotOffered: a client that verifies makes a full handshake if its session
// does not prove who the server is. Perhaps the verification had failed, the name was not checked,
// other authorities were trusted, or the certificate has expired. A second offer of such a session
// does not help.
func TestUnverifiedSessionIsNotOffered(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
		host := issue(t, "host", root, nil)
		expired := issue(t, "host", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		good := bare(t, v, host.TLSCertificate())
		must(t, good.client.TrustCertificate(root.Cert))
		made := func(trusts *x509.Certificate, change map[int][]byte) func(t *testing.T) *sslctx.Session {
			return func(t *testing.T) *sslctx.Session {
				e := bare(t, v, host.TLSCertificate())
				e.server = good.server
				must(t, e.client.SetVerify(sslctx.VerifyNone))
				if trusts != nil {
					must(t, e.client.TrustCertificate(trusts))
				}
				_, client := e.connect(t, nil)
				s := sessionOf(t, client)
				if change != nil {
					return storedAs(t, s, change)
				}
				return s
			}
		}
		believed := map[int][]byte{fieldVerifyResult: nil}
		for name, test := range map[string]struct {
			session func(t *testing.T) *sslctx.Session
			name    string
			resumes bool
			fails   bool // the full handshake fails, too
		}{
			"not trusted":         {made(nil, nil), "localhost", false, false},
			"not trusted, stored": {made(nil, map[int][]byte{}), "localhost", false, false},
			"good":                {made(root.Cert, nil), "localhost", true, false},
			"good, stored":        {made(root.Cert, map[int][]byte{}), "localhost", true, false},
			"another name":        {made(root.Cert, nil), "another.example", false, true},
			"another address":     {made(root.Cert, nil), "127.0.0.7", false, true},
			"expired": {made(root.Cert, map[int][]byte{fieldPeer: expired.Cert.Raw, fieldVerifyResult: nil}),
				"localhost", false, false},
			"no certificate": {made(root.Cert, map[int][]byte{fieldPeer: nil, fieldVerifyResult: nil}), "localhost", false, false},
			"of a certificate that signed itself": {made(root.Cert, map[int][]byte{fieldVerifyResult: nil,
				fieldPeer: issue(t, "host", nil, nil).Cert.Raw}), "localhost", false, false},
			"by other trust": {func(t *testing.T) *sslctx.Session {
				e := bare(t, v, issue(t, "host", other, nil).TLSCertificate())
				must(t, e.client.TrustCertificate(other.Cert))
				_, client := e.connect(t, nil)
				return sessionOf(t, client)
			}, "localhost", false, false},
			// The stored result counts if only the server may have the issuer.
			"stored, by other trust": {made(nil, believed), "localhost", false, false},
		} {
			if name == "stored, by other trust" {
				test.resumes = true
			}
			t.Run(name, func(t *testing.T) {
				s := test.session(t)
				e := good
				if name == "stored, by other trust" {
					e = bare(t, v, host.TLSCertificate())
					e.server = good.server
					must(t, e.client.TrustCertificate(other.Cert))
				}
				for range 2 {
					a, b := tcpPair(t)
					server, client := e.over(t, a, b, s)
					must(t, client.SetServerName(test.name))
					_, err := greet(server, client)
					if test.fails {
						wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
						continue
					}
					must(t, err)
					if client.SessionReused() != test.resumes {
						t.Errorf("resumed is %v", client.SessionReused())
					}
					if len(client.ConnectionState().VerifiedChains) != 1 {
						t.Error("the connection has no chain")
					}
				}
			})
		}
	})
}

// TestResultWithoutOffer: the result of a session that is not offered is not that of the connection,
// whose server shows no certificate.
func TestResultWithoutOffer(t *testing.T) {
	noQueue(t)
	e := bare(t, sslctx.VersionTLS12, issue(t, "localhost", nil, nil).TLSCertificate())
	must(t, e.client.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256:AECDH-AES128-SHA:@SECLEVEL=0"))
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	_, client := e.connect(t, nil)
	if result, err := client.VerifyResult(); err != nil || result == sslctx.VerifyOK {
		t.Fatalf("the first server is trusted: %v, %v", result, err)
	}
	offer := sessionOf(t, client)
	must(t, e.server.SetCipherList("AECDH-AES128-SHA:@SECLEVEL=0"))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, offer)
	must(t, client.SetVerify(sslctx.VerifyPeer))
	must(t, client.AcceptAnyName())
	shake(t, client, server)
	if result, err := client.VerifyResult(); err != nil || result != sslctx.VerifyOK || client.SessionReused() {
		t.Errorf("the result is %v, %v, and resumed is %v", result, err, client.SessionReused())
	}
}

// TestTrustThatIsGone: a session that one pool verified is verified again when another pool
// replaces it.
func TestTrustThatIsGone(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
		e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(root, other)))
		_, client := e.connect(t, nil)
		s := sessionOf(t, client)
		must(t, e.client.TrustCertPool(poolOf(root)))
		_, client = e.connect(t, s)
		if !client.SessionReused() {
			t.Error("a session that the new pool vouches for is not offered")
		}
		must(t, e.client.TrustCertPool(poolOf(other)))
		a, b := tcpPair(t)
		server, client := e.over(t, a, b, s)
		_, err := greet(server, client)
		wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	})
}

// TestUnverifiedEarlyData: a client sends no early data if its session does not prove who the
// server is.
func TestUnverifiedEarlyData(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(100))
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	_, client := e.connect(t, nil)
	s := sessionOf(t, client)
	must(t, e.client.SetVerify(sslctx.VerifyPeer))
	a, b := tcpPair(t)
	_, client = e.over(t, a, b, s)
	must(t, client.SetServerName("another.example"))
	if n, err := client.WriteEarlyData([]byte("secret")); n != 0 || !errors.Is(err, sslctx.ErrNoEarlyData) {
		t.Errorf("WriteEarlyData returns %d, %v", n, err)
	}
}

// TestUnverifiedSessionIsNotAccepted: a server that requires certificates does not resume a session
// without one. It declines a session from a ticket or a hook. A session in libssl's cache fails the
// handshake and leaves the cache.
func TestUnverifiedSessionIsNotAccepted(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, kind := range []string{"ticket", "ticket, and there was a hook", "cached"} {
			t.Run(kind, func(t *testing.T) {
				noQueue(t)
				root := issue(t, "root", nil, authority)
				e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
				must(t, e.client.TrustCertificate(root.Cert))
				must(t, e.server.TrustCertificate(root.Cert))
				must(t, e.server.SetIDContext([]byte("test")))
				must(t, e.server.SetVerify(sslctx.VerifyNone))
				cached := kind == "cached"
				if kind == "ticket, and there was a hook" { // tickets are looked at all the same
					ignore := func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn { return sslctx.TicketIgnore }
					must(t, e.server.SetSessionTicketCallback(nil, ignore))
					must(t, e.server.SetSessionTicketCallback(nil, nil))
				}
				if cached {
					_, err := e.server.SetOptions(sslctx.OpNoTicket)
					must(t, err)
				}
				_, client := e.connect(t, nil)
				s := sessionOf(t, client)
				if _, client = e.connect(t, s); !client.SessionReused() {
					t.Fatal("the session is not resumed at all")
				}
				s = sessionOf(t, client)

				must(t, e.server.SetVerify(sslctx.VerifyPeer)) // clients without a certificate may connect
				if _, client = e.connect(t, s); !client.SessionReused() {
					t.Error("a session without a certificate is not resumed where none is needed")
				}
				s = sessionOf(t, client)

				must(t, e.client.UseCertificate(issue(t, "user", root, nil).TLSCertificate()))
				must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
				if cached {
					stored := storedAs(t, s, nil)
					a, b := tcpPair(t)
					server, client := e.over(t, a, b, s)
					serverErr, clientErr := greet(server, client)
					var alert tls.AlertError
					if !errors.Is(serverErr, sslctx.ErrUnverifiedSession) || !errors.As(clientErr, &alert) || alert != 40 {
						t.Errorf("the server's handshake returns %v, the client's %v", serverErr, clientErr)
					}
					s = stored // libssl's client has marked the other one as not resumable
				}
				server, client := e.connect(t, s)
				if server.SessionReused() || len(server.ConnectionState().VerifiedChains) != 1 {
					t.Error("the session is resumed")
				}
				server, _ = e.connect(t, sessionOf(t, client))
				if state := server.ConnectionState(); !state.DidResume || len(state.VerifiedChains) != 1 {
					t.Error("a session with a certificate is not resumed")
				}
			})
		}
	})
}

// verifyingStore makes ends that verify each other by root. The server has no internal cache and
// makes no tickets: its sessions come from hooks.
func verifyingStore(t *testing.T, v sslctx.Version, root *issued) ends {
	t.Helper()
	e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	must(t, e.client.UseCertificate(issue(t, "user", root, nil).TLSCertificate()))
	must(t, e.server.TrustCertificate(root.Cert))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	_, err = e.server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal)
	must(t, err)
	return e
}

// TestUnverifiedSessionOfHook: a session from a get hook is checked before it is used.
func TestUnverifiedSessionOfHook(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root := issue(t, "root", nil, authority)
		expired := issue(t, "user", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		e := verifyingStore(t, v, root)
		var kept *sslctx.Session
		must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { kept = s }))
		for name, test := range map[string]struct {
			change  map[int][]byte
			resumes bool
		}{
			"good":           {nil, true},
			"expired":        {map[int][]byte{fieldPeer: expired.Cert.Raw}, false},
			"no certificate": {map[int][]byte{fieldPeer: nil}, false},
		} {
			_, client := e.connect(t, nil)
			answer := storedAs(t, kept, test.change)
			must(t, e.server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return answer }))
			server, _ := e.connect(t, sessionOf(t, client))
			if server.SessionReused() != test.resumes || len(server.ConnectionState().VerifiedChains) != 1 {
				t.Errorf("%s: resumed is %v", name, server.SessionReused())
			}
		}
	})
}

// TestFailedSessionOfHook: a server does not resume a session from a get hook if its stored
// verification result is an error.
func TestFailedSessionOfHook(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, authority)
		e := verifyingStore(t, v, root)
		var kept *sslctx.Session
		must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { kept = s }))
		_, client := e.connect(t, nil)
		issuerMissing := []byte{2, 1, 20} // X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
		answer := storedAs(t, kept, map[int][]byte{fieldVerifyResult: issuerMissing})
		must(t, e.server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return answer }))
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, sessionOf(t, client))
		if err, _ := greet(server, client); !errors.Is(err, sslctx.ErrUnverifiedSession) {
			t.Errorf("the server's handshake returns %v, resumed is %v", err, server.SessionReused())
		}
	})
}

// TestNameOfProvenSession: a session that this context verified for one name is not offered for
// another.
func TestNameOfProvenSession(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, authority)
		e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
		must(t, e.client.TrustCertificate(root.Cert))
		a, b := tcpPair(t)
		server, client := e.over(t, a, b, nil)
		must(t, client.SetServerName("localhost"))
		_, err := greet(server, client)
		must(t, err)
		a, b = tcpPair(t)
		server, late := e.over(t, a, b, sessionOf(t, client))
		must(t, late.SetServerName("another.example"))
		_, err = greet(server, late)
		wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)

		here := issue(t, "here", root, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })
		must(t, e.server.UseCertificate(here.TLSCertificate()))
		a, b = tcpPair(t)
		server, client = e.over(t, a, b, nil)
		must(t, client.SetServerName("192.0.2.1"))
		_, err = greet(server, client)
		must(t, err)
		a, b = tcpPair(t)
		server, late = e.over(t, a, b, sessionOf(t, client))
		must(t, late.SetServerName("192.0.2.2"))
		_, err = greet(server, late)
		wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	})
}

// TestExpiryOfProvenSession: a session that this context verified is not offered after its
// certificate has expired. If it expires before the first handshake is done, the test uses a longer
// life.
func TestExpiryOfProvenSession(t *testing.T) {
	root := issue(t, "root", nil, authority)
	lasting := issue(t, "host", root, nil)
	prove := func(v sslctx.Version, brief *issued) (e ends, s *sslctx.Session) {
		e = bare(t, v, brief.TLSCertificate())
		must(t, e.client.TrustCertificate(root.Cert))
		a, b := tcpPair(t)
		server, client := e.over(t, a, b, nil)
		if _, err := greet(server, client); err != nil {
			return e, nil
		}
		must(t, e.server.UseCertificate(lasting.TLSCertificate()))
		return e, sessionOf(t, client)
	}
	for lifetime := 2 * time.Second; ; lifetime *= 2 {
		brief := issue(t, "host", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(lifetime) })
		made, sessions := map[sslctx.Version]ends{}, map[sslctx.Version]*sslctx.Session{}
		for _, v := range versions {
			made[v], sessions[v] = prove(v, brief)
		}
		if lifetime < time.Minute && slices.Contains(slices.Collect(maps.Values(sessions)), nil) {
			continue
		}
		time.Sleep(time.Until(brief.Cert.NotAfter) + 10*time.Millisecond)
		for v, e := range made {
			if _, client := e.connect(t, sessions[v]); client.SessionReused() {
				t.Errorf("%v: a session with an expired certificate is resumed", v)
			}
		}
		return
	}
}

// TestTrustThatIsGoneWhenTaken: the pool at the time of the verification counts, not the pool when
// the program calls Session.
func TestTrustThatIsGoneWhenTaken(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
		e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(root)))
		_, client := e.connect(t, nil)
		must(t, e.client.TrustCertPool(poolOf(other)))
		a, b := tcpPair(t)
		server, late := e.over(t, a, b, sessionOf(t, client))
		_, err := greet(server, late)
		wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	})
}

// TestCloseBesideReload: Close continues while another goroutine changes the context's trust.
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

// readSlowly reads everything, and answers after each Read.
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

// TestFailedWriteAndClose: Close says that data is lost, even if the transport's Close returns an
// error.
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

// TestEarlyDataOfAllAfterPanic: a hook panics while early data arrives. The next call returns the
// early data.
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

// TestRenegotiationWithoutALPN: libssl's clients send no protocols in a renegotiation. The agreed
// protocol stays.
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

// trustsGone makes ends whose server verifies the client by an authority that goes later. kept is
// the authority that then stays.
func trustsGone(t *testing.T) (e ends, kept *issued) {
	t.Helper()
	gone := issue(t, "gone", nil, authority)
	e = newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.server.TrustCertPool(poolOf(gone)))
	must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
	return e, issue(t, "kept", nil, authority)
}

// TestLateTicketIsRefused: a server whose trust changed makes no more tickets for a client that it
// verified before.
func TestLateTicketIsRefused(t *testing.T) {
	noQueue(t)
	e, kept := trustsGone(t)
	server, client := e.connect(t, nil)
	must(t, e.server.TrustCertPool(poolOf(kept)))
	if err := server.NewSessionTicket(); unsupported(err) {
		t.Skip(err)
	} else if !errors.Is(err, sslctx.ErrUnverifiedSession) {
		t.Errorf("NewSessionTicket returns %v", err)
	}
	exchange(t, server, client) // the connection continues
}

// TestTicketOnLiveConnection: a server sends a further ticket. That is no handshake: the client is
// not verified again. The connection continues even if the client's certificate has expired.
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

// TestRenegotiationAndTrust: a renegotiation resumes the connection's own session. The server
// verifies the client by its present trust.
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

// TestSlowVerificationAndTrust: a client is verified while the trust changes. Its session does not
// resume.
func TestSlowVerificationAndTrust(t *testing.T) {
	t.Parallel() // it waits for four seconds
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
		e := newEnds(t, v)
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("test")))
		verified := make(chan struct{})
		verifies := sync.OnceFunc(func() { close(verified) })
		must(t, e.server.TrustCertPool(waitingPool(gone, func(context.Context) { verifies() })))
		must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
		s, c := tcpPair(t)
		stalls := &stallsLast{Conn: c, wait: func() {
			<-verified
			must(t, e.server.TrustCertPool(poolOf(kept)))
			time.Sleep(2100 * time.Millisecond) // libssl counts seconds
		}}
		server, client := e.over(t, s, stalls, nil)
		if err, _ := greet(server, client); err != nil {
			t.Fatal(err)
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

// TestConfigureTakesTrust: VerifyCAFile replaces libssl's trust, and older sessions are verified
// again.
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

// TestTrustOfTheConnection: the trust is replaced between the making of a connection and its handshake.
// libssl verifies by the old trust. So no session of that connection counts as verified by the new one.
func TestTrustOfTheConnection(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, side := range []string{"server", "client"} {
			gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
			file := filepath.Join(t.TempDir(), "ca.pem")
			must(t, os.WriteFile(file, pemOf(kept.Cert.Raw), 0o600))
			e := bare(t, v, issue(t, "host", gone, nil).TLSCertificate())
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			must(t, e.server.SetIDContext([]byte("test")))
			must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
			must(t, errors.Join(e.server.TrustCertificate(gone.Cert), e.client.TrustCertificate(gone.Cert)))
			s, c := tcpPair(t)
			server, client := e.over(t, s, c, nil)
			must(t, map[string]*sslctx.Context{"server": e.server, "client": e.client}[side].Configure("VerifyCAFile", file))
			exchange(t, server, client)
			s, c = tcpPair(t)
			server, client = e.over(t, s, c, sessionOf(t, client))
			if err, _ := greet(server, client); err == nil {
				t.Errorf("%s: accepted by trust that is gone, resumed %v", side, server.SessionReused())
			}
		}
	})
}

// TestTrustIsLostInHook: the trust changes while libssl waits for a hook. The server makes no ticket
// after it: that would look like one of the new trust.
func TestTrustIsLostInHook(t *testing.T) {
	noQueue(t)
	e, kept := trustsGone(t)
	tickets := 0
	must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) {
		if tickets++; tickets == 1 {
			return nil, e.server.TrustCertPool(poolOf(kept))
		}
		return nil, nil
	}, nil))
	server, client := e.connect(t, nil)
	exchange(t, server, client)
	if tickets != 1 {
		t.Errorf("%d tickets are made", tickets)
	}
}

// TestTrustBeforeHandshake: the trust at the handshake decides about a client's session, not the
// trust at SetSession.
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

// TestWriteAfterRefusal: after the binding refuses the peer's certificate, Write fails, too.
func TestWriteAfterRefusal(t *testing.T) {
	noQueue(t)
	e, user := pha(t)
	chain := append(pemOf(user.Cert.Raw), pemOf(tlstest.Unreadable(t))...)
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

// TestSessionOfChosenContext: the ClientHello hook chooses a context, and its trust verifies the
// client. The session does not resume where the first context's trust counts.
func TestSessionOfChosenContext(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		eachVersion(t, func(t *testing.T, v sslctx.Version) {
			a, b := issue(t, "a", nil, authority), issue(t, "b", nil, authority)
			e := newEnds(t, v)
			chosen := newEnds(t, v).server
			for c, root := range map[*sslctx.Context]*issued{e.server: a, chosen: b} {
				must(t, c.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
				must(t, c.SetIDContext([]byte("both")))
				must(t, c.TrustCertificate(root.Cert))
			}
			if stateful {
				_, err := e.server.SetOptions(sslctx.OpNoTicket)
				must(t, err)
			}
			goesOn := chosen
			must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return goesOn, nil }))
			must(t, e.client.SetVerify(sslctx.VerifyNone)) // the chosen context has another certificate
			must(t, e.client.UseCertificate(issue(t, "client", b, nil).TLSCertificate()))
			server, client := e.connect(t, nil)
			offer := sessionOf(t, client)
			must(t, errors.Join(client.Close(), server.Close()))
			goesOn = nil
			server, client = e.join(t, offer)
			serverErr, clientErr := handshakeBoth(server, client)
			if serverErr == nil || clientErr == nil {
				t.Errorf("stateful %v: a client that is not trusted gets in, resumed %v: %v, %v", stateful, server.SessionReused(), serverErr, clientErr)
			}
		})
	}
}

// TestAnswerWithoutCertificate: a client has a certificate in the handshake, and sends none when the
// server requests it again. The connection continues without a certificate.
func TestAnswerWithoutCertificate(t *testing.T) {
	e, user := pha(t)
	must(t, e.server.SetVerify(sslctx.VerifyPeer))
	file := filepath.Join(t.TempDir(), "user.pem")
	must(t, os.WriteFile(file, append(pemOf(user.Cert.Raw), keyPEM(t, user.Key)...), 0o600))
	s := acceptRaw(t, startClient(t, buildClient(t, "forget_certificate.c"), file), e.server)
	must(t, s.Handshake())
	if state := s.ConnectionState(); len(state.PeerCertificates) != 1 || len(state.VerifiedChains) != 1 {
		t.Errorf("the handshake has %d certificates and %d chains", len(state.PeerCertificates), len(state.VerifiedChains))
	}
	must(t, s.VerifyClientPostHandshake())
	_, err := s.Write([]byte{2})
	must(t, err)
	_, err = s.Read(make([]byte, 1))
	must(t, err)
	if state := s.ConnectionState(); state.PeerCertificates != nil || state.VerifiedChains != nil {
		t.Errorf("after the answer there are %d certificates and %d chains", len(state.PeerCertificates), len(state.VerifiedChains))
	}
}
