// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"context"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
)

// A lostTrust has a server that asks its clients for a certificate, and a client with one of an authority that
// the server will trust no more.
type lostTrust struct {
	tlstest.Ends
	kept string // the file of the authority that it will trust then
}

func newLostTrust(t *testing.T, v sslctx.Version) *lostTrust {
	t.Helper()
	gone, kept := tlstest.Issue(t, "gone", nil, tlstest.Authority), tlstest.Issue(t, "kept", nil, tlstest.Authority)
	l := &lostTrust{tlstest.NewEnds(t, v), filepath.Join(t.TempDir(), "kept.pem")}
	tlstest.Must(t, os.WriteFile(l.kept, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: kept.Cert.Raw}), 0o600))
	tlstest.Must(t, l.Server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	tlstest.Must(t, l.Server.SetIDContext([]byte("test")))
	tlstest.Must(t, l.Server.TrustCertificate(gone.Cert))
	tlstest.Must(t, l.Client.UseCertificate(tlstest.Issue(t, "user", gone, nil).TLSCertificate()))
	return l
}

// join makes both ends of a connection over loopback.
func (l *lostTrust) join(t *testing.T, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	s, c := tlstest.TCPPair(t)
	return l.Over(t, s, c, offer)
}

// lose has the server trust another authority.
func (l *lostTrust) lose(t *testing.T) {
	t.Helper()
	tlstest.Must(t, l.Server.Configure("VerifyCAFile", l.kept))
}

// refused fails the test if the server accepts the client.
func refused(t *testing.T, what string, server, client *sslctx.Conn) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	_, _ = client.Write([]byte{1})
	go func() { _, _ = client.Read(make([]byte, 1)) }()
	if err := <-done; err == nil {
		t.Errorf("%s: the client is accepted, resumed: %v", what, server.SessionReused())
	}
}

// inAnotherSecond waits until sessions have a time at which the trust of now is in force: it is stored in
// seconds.
func inAnotherSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(2 * time.Second))) }

// TestNoVerificationRenews: a client resumes a session of lost trust on a connection that does not verify. The
// server gives it no ticket there: that would look like one of the new trust.
func TestNoVerificationRenews(t *testing.T) {
	var lost []*lostTrust
	var sessions []*sslctx.Session
	for _, option := range []sslctx.Option{0, sslctx.OpNoTicket} {
		for _, v := range tlstest.Versions {
			l := newLostTrust(t, v)
			_, err := l.Server.SetOptions(option)
			tlstest.Must(t, err)
			sessions = append(sessions, l.Session(t))
			lost = append(lost, l)
			l.lose(t)
		}
	}
	inAnotherSecond()
	for i, l := range lost {
		server, client := l.join(t, sessions[i])
		tlstest.Must(t, server.SetVerify(sslctx.VerifyNone))
		tlstest.Exchange(t, server, client)
		if !server.SessionReused() {
			t.Error("the connection that does not verify does not resume")
		}
		if server.Version() == sslctx.VersionTLS13 {
			if err := server.NewSessionTicket(); err == nil {
				t.Error("the server sends a ticket")
			}
		}
		again := tlstest.SessionOf(t, client)
		server, client = l.join(t, again)
		refused(t, server.Version().String(), server, client)
	}
}

// TestOldConnections: connections are made, and a client is even connected, before the trust is lost. Their
// handshakes come later, by what libssl has copied. No session of them resumes, by ticket, from the cache, or
// from a store.
func TestOldConnections(t *testing.T) {
	type old struct {
		name           string
		l              *lostTrust
		server, client *sslctx.Conn
		renegotiates   bool
	}
	var olds []old
	for _, v := range tlstest.Versions {
		for name, set := range map[string]func(l *lostTrust){
			"ticket": func(*lostTrust) {},
			"cache":  func(l *lostTrust) {},
			"store": func(l *lostTrust) {
				stored := new(tlstest.Store)
				stored.Fill(t, l.Server)
				tlstest.Must(t, l.Server.SetGetSessionCallback(func(_ context.Context, id []byte) *sslctx.Session { return stored.Get(t, id) }))
			},
		} {
			l := newLostTrust(t, v)
			if name != "ticket" {
				_, err := l.Server.SetOptions(sslctx.OpNoTicket)
				tlstest.Must(t, err)
			}
			set(l)
			server, client := l.join(t, nil)
			olds = append(olds, old{name + " " + v.String(), l, server, client, false})
			l.lose(t)
		}
	}
	l := newLostTrust(t, sslctx.VersionTLS12)
	_, err := l.Server.SetOptions(sslctx.OpAllowClientRenegotiation)
	tlstest.Must(t, err)
	server, client := l.Connect(t, nil)
	olds = append(olds, old{"renegotiation", l, server, client, true})
	l.lose(t)

	inAnotherSecond()
	for _, o := range olds {
		if o.renegotiates {
			tlstest.Must(t, o.client.Renegotiate())
		}
		tlstest.Exchange(t, o.server, o.client)
		s, err := o.client.Session()
		tlstest.Must(t, err)
		tlstest.Must(t, o.client.Close())
		tlstest.Must(t, o.server.Close())
		server, client := o.l.join(t, s)
		refused(t, o.name, server, client)
		tlstest.Must(t, s.Close())
	}
}

// TestAddUpdatesTime: a cache sets the time of sessions that are added (SessCacheUpdateTime). Those that come back from a
// store after the trust was lost are verified again all the same.
func TestAddUpdatesTime(t *testing.T) {
	var lost []*lostTrust
	var sessions []*sslctx.Session
	var stores []*[][]byte
	for _, v := range tlstest.Versions {
		for _, mode := range []sslctx.CacheMode{sslctx.SessCacheServer, sslctx.SessCacheServer | sslctx.SessCacheUpdateTime} {
			l := newLostTrust(t, v)
			_, err := l.Server.SetOptions(sslctx.OpNoTicket)
			tlstest.Must(t, err)
			_, err = l.Server.SetSessionCacheMode(mode)
			tlstest.Must(t, err)
			var mu sync.Mutex
			stored := new([][]byte)
			tlstest.Must(t, l.Server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
				defer s.Close()
				mu.Lock()
				defer mu.Unlock()
				if der, err := s.Bytes(); err == nil {
					*stored = append(*stored, der)
				}
			}))
			sessions = append(sessions, l.Session(t))
			l.lose(t)
			tlstest.Must(t, l.Server.FlushSessions(time.Now().Add(1000*time.Hour)))
			lost, stores = append(lost, l), append(stores, stored)
		}
	}
	inAnotherSecond()
	for i, l := range lost {
		for _, der := range *stores[i] {
			s := tlstest.ParseSession(t, der)
			tlstest.AddSession(t, l.Server, s)
		}
		server, client := l.join(t, sessions[i])
		refused(t, l.Server.SessionCacheMode().String(), server, client)
	}
}

// TestLookupUpdatesTime: a store returns a session of lost trust to a connection that does not verify, and libssl adds it
// to the cache with the time of now (SessCacheUpdateTime). A connection that verifies refuses it all the same.
func TestLookupUpdatesTime(t *testing.T) {
	var lost []*lostTrust
	var sessions []*sslctx.Session
	for _, v := range tlstest.Versions {
		l := newLostTrust(t, v)
		_, err := l.Server.SetOptions(sslctx.OpNoTicket)
		tlstest.Must(t, err)
		_, err = l.Server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheUpdateTime)
		tlstest.Must(t, err)
		var mu sync.Mutex
		stored := map[string][]byte{}
		tlstest.Must(t, l.Server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
			defer s.Close()
			mu.Lock()
			defer mu.Unlock()
			stored[string(s.ID())], _ = s.Bytes()
		}))
		tlstest.Must(t, l.Server.SetGetSessionCallback(func(_ context.Context, id []byte) *sslctx.Session {
			mu.Lock()
			defer mu.Unlock()
			s, _ := sslctx.ParseSession(stored[string(id)])
			return s
		}))
		sessions = append(sessions, l.Session(t))
		l.lose(t)
		tlstest.Must(t, l.Server.FlushSessions(time.Now().Add(1000*time.Hour)))
		lost = append(lost, l)
	}
	inAnotherSecond()
	for i, l := range lost {
		server, client := l.join(t, sessions[i])
		tlstest.Must(t, server.SetVerify(sslctx.VerifyNone))
		tlstest.Exchange(t, server, client)
		if !server.SessionReused() {
			t.Error("the connection that does not verify does not resume")
		}
		server, client = l.join(t, sessions[i])
		refused(t, tlstest.Versions[i].String(), server, client)
	}
}
