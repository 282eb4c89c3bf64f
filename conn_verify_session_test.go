// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"sslctx"
)

// storedAs goes through DER, where fields get another value, are added, or are left out for nil.
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

// TestUnverifiedSessionIsNotOffered: a client that verifies makes a full handshake, which verifies, where its session
// does not vouch for the server: the verification had failed, nobody had looked at the name, other authorities were
// trusted, the certificate has expired. Offering such a session twice does not help it.
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
			fails   bool // the full handshake, too
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
			// The result is believed where the issuer may be one that only the server has.
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

// TestTrustThatIsGone: what a pool vouched for is verified again when another takes its place.
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

// TestUnverifiedEarlyData: no early data goes to a server that the session does not vouch for.
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

// TestUnverifiedSessionIsNotAccepted: a server that asks for certificates does not resume what was made without. What came
// in a ticket, or from a hook, is declined; what is in libssl's cache fails the handshake and leaves the cache.
func TestUnverifiedSessionIsNotAccepted(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, cached := range []bool{false, true} {
			t.Run(map[bool]string{false: "ticket", true: "cached"}[cached], func(t *testing.T) {
				noQueue(t)
				root := issue(t, "root", nil, authority)
				e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
				must(t, e.client.TrustCertificate(root.Cert))
				must(t, e.server.TrustCertificate(root.Cert))
				must(t, e.server.SetIDContext([]byte("test")))
				must(t, e.server.SetVerify(sslctx.VerifyNone))
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

				must(t, e.server.SetVerify(sslctx.VerifyPeer)) // who has none may come
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
					s = stored // libssl's client has marked the other
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

// TestUnverifiedSessionOfHook: what a get hook gives is judged before it is used.
func TestUnverifiedSessionOfHook(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		root := issue(t, "root", nil, authority)
		expired := issue(t, "user", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
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

// TestFailedSessionOfHook: a server does not resume what a get hook gives if the session says that the verification had
// failed.
func TestFailedSessionOfHook(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, authority)
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

// TestNameOfProvenSession: a session that this context has verified for one name is not offered for another.
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
	})
}

// TestExpiryOfProvenSession: a session that this context has verified is not offered once its certificate has expired.
// One that expires before the first handshake is done is replaced by one that lives longer.
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

// TestTrustThatIsGoneWhenTaken: what counts is the pool when the session was verified, not the one when the program
// takes the session.
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
