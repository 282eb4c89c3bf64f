// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

func TestSetSession(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	_, client := e.connect(t, nil)
	s := sessionOf(t, client)
	if err := client.SetSession(s); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("SetSession after the handshake returns %v", err)
	}

	end, _ := tcpPair(t)
	fresh, err := sslctx.Client(end, e.client)
	must(t, err)
	must(t, fresh.AcceptAnyName())
	defer fresh.Close()
	if _, err := fresh.Session(); !errors.Is(err, sslctx.ErrNoSession) {
		t.Errorf("Session before the handshake returns %v", err)
	}
	must(t, fresh.SetSession(s))
	if !sessionOf(t, fresh).Same(s) {
		t.Error("the session that was set is another object")
	}
	must(t, fresh.SetSession(nil))
	if _, err := fresh.Session(); !errors.Is(err, sslctx.ErrNoSession) {
		t.Errorf("Session after SetSession(nil) returns %v", err)
	}
	noCipher := newSession(t, "id")
	must(t, noCipher.SetProtocolVersion(sslctx.VersionTLS12))
	if err := fresh.SetSession(noCipher); !errors.Is(err, sslctx.ErrNoCipher) {
		t.Errorf("SetSession of a session without cipher returns %v", err)
	}
	must(t, noCipher.SetID(nil)) // the refusal did not publish it
}

// TestSetSessionOfAnotherContext offers a copy: it resumes, and stays its own context's.
func TestSetSessionOfAnotherContext(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		pair := testPair(t)
		e := newEnds(t, v)
		must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
		must(t, e.client.TrustCertificates(pair.Cert))
		_, client := e.connect(t, nil)
		s := sessionOf(t, client)

		other := ends{e.server, newContext(t, sslctx.TLSClientMethod)}
		must(t, other.client.TrustCertificates(pair.Cert))
		must(t, other.client.SetVerify(sslctx.VerifyPeer))
		_, err := other.client.SetSessionCacheMode(sslctx.SessCacheClient)
		must(t, err)
		_, client = other.connect(t, s)
		if !client.SessionReused() {
			t.Error("the session of another context is not resumed")
		}
		if sessionOf(t, client).Same(s) || !s.IsResumable() {
			t.Error("the other context has the very object")
		}
	})
}

// TestTicketWithoutID: libssl gives a declined session that has a ticket and no ID a new ID. It must
// not be one that may be cached.
func TestTicketWithoutID(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	_, client := e.connect(t, nil)
	s, err := sessionOf(t, client).Dup()
	must(t, err)
	defer s.Close()
	must(t, s.SetID(nil))
	if !s.HasTicket() {
		t.Fatal("the session has no ticket")
	}
	add(t, e.client, s)
	e.server = newEnds(t, sslctx.VersionTLS12).server // does not know the ticket
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	if _, client = e.connect(t, s); client.SessionReused() {
		t.Error("a server resumed the ticket of another")
	}
	if id := s.ID(); len(id) != 0 {
		t.Errorf("connecting changed the ID of a cached session to %x", id)
	}
}

// TestSessionDuringHandshake gives a copy, which libssl does not go on to write to.
func TestSessionDuringHandshake(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	defer s.Close()
	client, err := sslctx.Client(c, e.client)
	must(t, err)
	must(t, client.AcceptAnyName())
	done := make(chan error)
	go func() { done <- client.Handshake() }()
	_, err = s.Read(make([]byte, 1000)) // the ClientHello: the handshake is under way
	must(t, err)
	a, err := client.Session()
	must(t, err)
	defer a.Close()
	b, err := client.Session()
	must(t, err)
	defer b.Close()
	if a.Same(b) {
		t.Error("the live session is given away")
	}
	must(t, client.Close())
	if err := <-done; err == nil {
		t.Error("the handshake ended without error")
	}
}

// TestSessionBeforeHandshake: what libssl will write to when it is declined is not given away.
func TestSessionBeforeHandshake(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	_, client := e.connect(t, nil)
	offer, err := sessionOf(t, client).Dup()
	must(t, err)
	defer offer.Close()
	must(t, offer.SetID(nil))

	e.server = newEnds(t, sslctx.VersionTLS12).server // does not know the ticket
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, offer)
	before := sessionOf(t, client)
	add(t, e.client, before)
	exchange(t, server, client)
	if id := before.ID(); len(id) != 0 {
		t.Errorf("the handshake changed the ID of a cached session to %x", id)
	}
	must(t, e.client.FlushSessions(time.Time{}))
	if n := e.client.CacheStats().Number; n != 0 {
		t.Errorf("%d sessions are cached after all were flushed", n)
	}
}

// TestSessionBeforeFirstTicket: the first ticket of a TLS 1.3 server gives its session an ID.
func TestSessionBeforeFirstTicket(t *testing.T) {
	if ossltest.LinkedVersion() < 0x30000000 {
		t.Skip("OpenSSL 1.1.1 sends no ticket on request")
	}
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.Configure("NumTickets", "0"))
	server, client := e.connect(t, nil)
	s := sessionOf(t, server)
	add(t, e.server, s)
	id := s.ID()
	must(t, server.NewSessionTicket())
	exchange(t, server, client)
	if !bytes.Equal(s.ID(), id) {
		t.Errorf("the ticket changed the ID of a cached session from %x to %x", id, s.ID())
	}
	after := sessionOf(t, server)
	if len(after.ID()) == 0 || after.Same(s) {
		t.Errorf("after the ticket the session is %v", after)
	}
}
