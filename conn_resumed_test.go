// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"sslctx"
)

// resumedOf returns the session that a connection resumed.
func resumedOf(t testing.TB, c *sslctx.Conn) *sslctx.Session {
	t.Helper()
	s, err := c.ResumedSession()
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func wantNotResumed(t *testing.T, conns ...*sslctx.Conn) {
	t.Helper()
	for _, c := range conns {
		if s, err := c.ResumedSession(); s != nil || !errors.Is(err, sslctx.ErrNoSession) {
			t.Errorf("ResumedSession is %v, %v", s, err)
		}
	}
}

// TestResumedSession: what a connection resumed is what the server has in its cache, and what the client offered;
// removing it ends its resumption.
func TestResumedSession(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		_, err := e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		server, client := e.join(t, nil)
		wantNotResumed(t, server, client) // before the handshake
		exchange(t, server, client)
		wantNotResumed(t, server, client)
		offer, cached := sessionOf(t, client), sessionOf(t, server)
		must(t, errors.Join(client.Close(), server.Close()))

		server, client = e.join(t, offer)
		wantNotResumed(t, server, client)
		exchange(t, server, client)
		ofServer, ofClient := resumedOf(t, server), resumedOf(t, client)
		if !bytes.Equal(ofServer.ID(), cached.ID()) || !bytes.Equal(ofClient.ID(), offer.ID()) {
			t.Errorf("it is %v and %v, want %v and %v", ofServer, ofClient, cached, offer)
		}
		if got := sessionOf(t, server); bytes.Equal(got.ID(), ofServer.ID()) != (v == sslctx.VersionTLS12) {
			t.Errorf("the server's session is %v", got)
		}
		must(t, errors.Join(client.Close(), server.Close()))

		removed, err := e.server.RemoveSession(ofServer)
		if !removed || err != nil || e.server.CacheStats().Number != map[sslctx.Version]int{sslctx.VersionTLS12: 0, sslctx.VersionTLS13: 2}[v] {
			t.Errorf("RemoveSession is %v, %v, and %d are cached", removed, err, e.server.CacheStats().Number)
		}
		server, client = e.connect(t, offer)
		if server.SessionReused() {
			t.Error("it resumes when it is removed")
		}
		wantNotResumed(t, server, client)
		must(t, client.Close())
		if _, err := client.ResumedSession(); !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("after Close it is %v", err)
		}
	})
}

// TestResumedTicket: of a ticket it is what was in it; a client that gets a new ticket in the handshake keeps what
// it offered.
func TestResumedTicket(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		old := sslctx.NewTicketKey()
		must(t, e.server.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: old}))
		must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) { return []byte("who"), nil }, nil))
		offer := e.session(t)
		must(t, e.server.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: sslctx.NewTicketKey(), Old: []sslctx.TicketKey{old}}))
		must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) { return []byte("another"), nil }, nil))
		server, client := e.connect(t, offer)
		if got := resumedOf(t, client); !bytes.Equal(got.ID(), offer.ID()) || !server.SessionReused() {
			t.Errorf("the client's is %v, not what it offered", got)
		}
		if v == sslctx.VersionTLS12 { // there libssl writes the new data into the session that it resumed
			return
		}
		if got := resumedOf(t, server).TicketAppData(); string(got) != "who" {
			t.Errorf("the ticket held %q", got)
		}
	})
}

// TestResumedEarly: a server knows the session while it reads early data, by a copy; libssl has removed the object.
func TestResumedEarly(t *testing.T) {
	e, s := earlyEnds(t, 100)
	cached, err := e.server.Sessions()
	must(t, err)
	server, client := e.join(t, s)
	_, err = client.WriteEarlyData([]byte("x"))
	must(t, err)
	wantNotResumed(t, client) // it cannot know yet
	_, err = server.ReadEarlyData(make([]byte, 1))
	must(t, err)
	copied := resumedOf(t, server)
	known := false
	for _, c := range cached {
		known = known || bytes.Equal(c.ID(), copied.ID()) && !c.Same(copied)
		must(t, c.Close())
	}
	if !known {
		t.Error("it is none of the cache, or not a copy")
	}
	got := reading(server)
	must(t, client.Handshake())
	must(t, (<-got).err)
	if s := resumedOf(t, server); !bytes.Equal(s.ID(), copied.ID()) || s.Same(copied) {
		t.Error("after the handshake it is another session")
	}
}

// TestResumedPSK: a pre-shared key is what is resumed, also beside a session that the server does not take.
func TestResumedPSK(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	lost := e.session(t)
	must(t, e.server.SetTicketKeys(sslctx.NewTicketKey()))
	s := pskSession(t, 0)
	must(t, e.client.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
	e.withPSK(t, "one", s, s)
	for _, offer := range []*sslctx.Session{nil, lost} {
		server, client := e.connect(t, offer)
		for _, c := range []*sslctx.Conn{server, client} {
			if got := resumedOf(t, c); got.Cipher().ID != s.Cipher().ID || got.HasTicket() || got.Same(s) {
				t.Errorf("it is %v", got)
			}
		}
	}
}

// TestResumedInHook: the hook for new sessions can ask what the session of a ticket follows.
func TestResumedInHook(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	var follows [][]byte
	must(t, e.server.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
		defer s.Close()
		resumed, err := c.ResumedSession()
		if errors.Is(err, sslctx.ErrNoSession) {
			follows = append(follows, nil)
			return
		}
		must(t, err)
		follows = append(follows, resumed.ID())
		_ = resumed.Close()
	}))
	server, client := e.connect(t, nil)
	want := sessionOf(t, server).ID()
	e.connect(t, sessionOf(t, client))
	if len(follows) != 3 || follows[0] != nil || follows[1] != nil || !bytes.Equal(follows[2], want) {
		t.Errorf("the new sessions follow %x, want two of nothing and one of %x", follows, want)
	}
}

// TestNewSessionHookSession: when the hook hears of the first of two tickets, the connection's session is that of the last.
func TestNewSessionHookSession(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	var same []bool
	must(t, e.server.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
		defer s.Close()
		last, err := c.Session()
		must(t, err)
		same = append(same, last.Same(s))
		_ = last.Close()
	}))
	e.connect(t, nil)
	if len(same) != 2 || same[0] || !same[1] {
		t.Errorf("Conn.Session is the hook's session: %v", same)
	}
}

// TestNewSessionTicketAtOnce: the client has the ticket although the server writes nothing.
func TestNewSessionTicketAtOnce(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	server, client := e.connect(t, nil)
	if err := server.NewSessionTicket(); unsupported(err) {
		t.Skip(err)
	} else {
		must(t, err)
	}
	ctx, stop := context.WithTimeout(context.Background(), awaitLimit)
	defer stop()
	must(t, client.AwaitTicket(ctx))
}

// TestReadEndsEarlyData: a client's Read carries the handshake on to its end, and after that there is no early data.
func TestReadEndsEarlyData(t *testing.T) {
	e, s := earlyEnds(t, 100)
	server, client := e.join(t, s)
	got := make(chan earlyRead, 1)
	go func() {
		data, err := readEarly(server)
		if err == nil {
			_, err = server.Write([]byte("y"))
		}
		got <- earlyRead{data, err}
	}()
	_, err := client.WriteEarlyData([]byte("x"))
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	if _, err := client.WriteEarlyData([]byte("z")); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("WriteEarlyData is %v", err)
	}
	if read := <-got; read.err != nil || string(read.data) != "x" {
		t.Errorf("the server read %q, %v", read.data, read.err)
	}
}
