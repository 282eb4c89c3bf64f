// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	must(t, noCipher.SetID(nil)) // a refused session is not published
}

// TestSetSessionOfAnotherContext offers a copy: it resumes, and the session stays with its own
// context.
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

// TestTicketWithoutID: if a session has a ticket and no ID, and the server declines it, libssl
// gives it a new ID. That must not happen to a session that may be cached.
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

// TestSessionDuringHandshake: Session returns a copy, and libssl does not write to that.
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

// TestSessionBeforeHandshake: if libssl will write to a declined session, Session does not return
// that object.
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

// TestResumedSession: the resumed session is the one in the server's cache, and the one that the
// client offered. After it is removed it does not resume.
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

// TestResumedTicket: for a ticket it is the session in the ticket. A client that gets a new ticket
// in the handshake keeps the offered session.
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
		if v == sslctx.VersionTLS12 { // here libssl writes the new data into the resumed session
			return
		}
		if got := resumedOf(t, server).TicketAppData(); string(got) != "who" {
			t.Errorf("the ticket held %q", got)
		}
	})
}

// TestResumedEarly: while a server reads early data, it has a copy of the session; libssl has
// removed the object.
func TestResumedEarly(t *testing.T) {
	e, s := earlyEnds(t, 100)
	cached, err := e.server.Sessions()
	must(t, err)
	server, client := e.join(t, s)
	_, err = client.WriteEarlyData([]byte("x"))
	must(t, err)
	wantNotResumed(t, client) // it does not know yet
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

// TestResumedPSK: the resumed session is the pre-shared key, also if the client offers a session
// that the server declines.
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

// TestResumedInHook: the hook for new sessions can read the resumed session of the connection.
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

// TestNewSessionHookSession: when the hook gets the first of two tickets, the connection's session
// is already that of the last.
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

// TestLongTicketTakesNoSlot: a ticket that is longer than the room for output is sent in two calls
// into libssl. They are no handshake, and none of its slots is needed: a call that holds one must
// not wait for another call of its connection.
func TestLongTicketTakesNoSlot(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) {
		return make([]byte, 5200), nil
	}, nil))
	server, client := e.connect(t, nil)
	must(t, server.SetWriteDeadline(time.Now().Add(awaitLimit)))
	release := sslctx.HoldHandshakeSlots()
	err := server.NewSessionTicket()
	release()
	if unsupported(err) {
		t.Skip(err)
	}
	must(t, err)
	ctx, stop := context.WithTimeout(t.Context(), awaitLimit)
	defer stop()
	must(t, client.AwaitTicket(ctx))
	if n := sessionOf(t, client).Ticket().Len(); n < 5200 {
		t.Errorf("the ticket has %d bytes", n)
	}
}

// TestReadEndsEarlyData: a client's Read completes the handshake. After that there is no early
// data.
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

// awaitLimit is longer than any expected wait.
const awaitLimit = 20 * time.Second

// TestAwaitTicket: a client gets its session without data from the server, in every version.
func TestAwaitTicket(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		var offer *sslctx.Session
		for i := range 3 {
			server, client := e.join(t, offer)
			done := make(chan error, 1)
			go func() { done <- server.Handshake() }()
			ctx, stop := context.WithTimeout(context.Background(), awaitLimit)
			for range 2 { // the second does not wait
				must(t, client.AwaitTicket(ctx))
			}
			stop()
			must(t, <-done)
			s := sessionOf(t, client)
			if !s.IsResumable() || client.SessionReused() != (i > 0) {
				t.Errorf("connection %d: resumable %v, resumed %v", i, s.IsResumable(), client.SessionReused())
			}
			if v == sslctx.VersionTLS13 && i > 0 && s.Same(offer) {
				t.Error("it is the session that was offered")
			}
			offer = s
			exchange(t, server, client)
			must(t, errors.Join(client.Close(), server.Close()))
		}
		server, _ := e.join(t, nil)
		wantArgument(t, server.AwaitTicket(context.Background()), "receiver")
	})
}

// TestAwaitTicketNone: without a ticket it ends with its context, its deadline, or the connection;
// data and the connection stay.
func TestAwaitTicketNone(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	server, client := e.join(t, nil)
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("data"))
		done <- err
	}()
	must(t, client.Handshake())
	for range 2 {
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if err := client.AwaitTicket(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AwaitTicket is %v", err)
		}
		stop()
	}
	must(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if err := client.AwaitTicket(context.Background()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("AwaitTicket is %v", err)
	}
	must(t, client.SetReadDeadline(time.Time{}))
	must(t, <-done)
	buf := make([]byte, 4)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "data" {
		t.Errorf("the client read %q, %v", buf, err)
	}
	exchange(t, server, client)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := client.AwaitTicket(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("AwaitTicket is %v", err)
	}
	must(t, server.Close())
	for range 2 {
		if err := client.AwaitTicket(context.Background()); err != io.EOF {
			t.Errorf("at the end AwaitTicket is %v", err)
		}
	}
	must(t, client.Close())
	if err := client.AwaitTicket(context.Background()); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close AwaitTicket is %v", err)
	}
}

// TestAwaitTicketBesideRead: a later Read gets the data while AwaitTicket waits. AwaitTicket
// returns when the Read has read the ticket.
func TestAwaitTicketBesideRead(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	server, client := e.connect(t, nil)
	waiting := make(chan error, 1)
	go func() { waiting <- client.AwaitTicket(context.Background()) }()
	time.Sleep(10 * time.Millisecond)
	for range 20 {
		exchange(t, server, client)
	}
	large := strings.Repeat("0123456789", 300_000) // more than AwaitTicket keeps
	read := make(chan string, 1)
	wrote := make(chan error, 1)
	go func() { _, err := io.WriteString(server, large); wrote <- err }()
	time.Sleep(10 * time.Millisecond)
	go func() {
		buf := make([]byte, len(large))
		n, _ := io.ReadFull(client, buf)
		read <- string(buf[:n])
	}()
	if got := <-read; got != large {
		t.Errorf("the client read %d bytes", len(got))
	}
	must(t, <-wrote)
	select {
	case err := <-waiting:
		t.Fatalf("AwaitTicket is %v, and no ticket came", err)
	default:
	}
	if err := server.NewSessionTicket(); unsupported(err) {
		must(t, client.Close())
		if err := <-waiting; !errors.Is(err, sslctx.ErrClosed) && !errors.Is(err, io.EOF) && err == nil {
			t.Errorf("after Close AwaitTicket is %v", err)
		}
		return
	} else {
		must(t, err)
	}
	must(t, <-waiting)
	exchange(t, server, client)
}

// TestPanicInAwaitTicket: the transport's Read panics in AwaitTicket. Later Reads have no deadline
// of its.
func TestPanicInAwaitTicket(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	synctest.Test(t, func(t *testing.T) {
		s, c := wire()
		transport := &panicsOnRead{Conn: c}
		server, client := e.over(t, s, transport, nil)
		exchange(t, server, client)
		transport.panics.Store(true)
		if v := recovers(func() { _ = client.AwaitTicket(t.Context()) }); v != errTunnel {
			t.Fatalf("the panic is %v", v)
		}
		read := make(chan error, 2)
		for range 2 { // the second stops the prefetch that the first could be
			go func() { _, err := client.Read(make([]byte, 1)); read <- err }()
			synctest.Wait() // until it waits
		}
		_, err := server.Write([]byte("xy"))
		must(t, err)
		for range 2 {
			if err := <-read; err != nil {
				t.Errorf("a Read returns %v", err)
			}
		}
		must(t, errors.Join(client.Close(), server.Close()))
	})
}

// panicsOnRead is a transport whose Read panics once when told so.
type panicsOnRead struct {
	net.Conn
	panics atomic.Bool
}

func (p *panicsOnRead) Read(b []byte) (int, error) {
	if p.panics.Swap(false) {
		panic(errTunnel)
	}
	return p.Conn.Read(b)
}

// TestAwaitTicketClosed: Close ends AwaitTicket.
func TestAwaitTicketClosed(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetNumTickets(0))
	_, client := e.connect(t, nil)
	waiting := make(chan error, 1)
	go func() { waiting <- client.AwaitTicket(context.Background()) }()
	time.Sleep(10 * time.Millisecond)
	must(t, client.Close())
	if err := <-waiting; err == nil {
		t.Error("AwaitTicket succeeds after Close")
	}
}

// TestHandshakeReadEarlyData: the server's counterpart of HandshakeWithEarlyData.
func TestHandshakeReadEarlyData(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 10_000)
	ctx, stop := context.WithTimeout(context.Background(), awaitLimit)
	defer stop()
	large := bytes.Repeat([]byte("x"), 10_000)
	for _, c := range []struct {
		name  string
		offer *sslctx.Session
		data  []byte
		want  []byte
	}{
		{"none", nil, nil, nil},
		{"much", s, large, large},
		{"replayed", s, large, nil},
		{"not offered", e.session(t), nil, nil},
	} {
		server, client := e.join(t, c.offer)
		got := make(chan earlyRead, 1)
		go func() {
			data, err := server.HandshakeReadEarlyData(ctx)
			got <- earlyRead{data, err}
		}()
		if len(c.data) > 0 {
			_, err := client.WriteEarlyData(c.data)
			must(t, err)
		}
		must(t, client.Handshake())
		if read := <-got; read.err != nil || !bytes.Equal(read.data, c.want) {
			t.Errorf("%s: the server read %d bytes, %v", c.name, len(read.data), read.err)
		}
		if data, err := server.HandshakeReadEarlyData(ctx); len(data) != 0 || err != nil {
			t.Errorf("%s: again it is %q, %v", c.name, data, err)
		}
		exchange(t, server, client)
	}

	server, client := e.join(t, e.session(t))
	wantReceiver := func(_ []byte, err error) { wantArgument(t, err, "receiver") }
	wantReceiver(client.HandshakeReadEarlyData(ctx))
	_, err := client.WriteEarlyData([]byte("early"))
	must(t, err)
	short, stopShort := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stopShort()
	// The client is gone. The server reads its recorded early data, perhaps replayed by others, and
	// returns an error.
	data, err := server.HandshakeReadEarlyData(short)
	if string(data) != "early" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is %q, %v", data, err)
	}
	must(t, server.Close())
	if _, err := server.HandshakeReadEarlyData(ctx); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close it is %v", err)
	}
	server, _ = e.connect(t, nil)
	if _, err := server.HandshakeReadEarlyData(ctx); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("after a handshake it is %v", err)
	}
}

// TestEarlyHookContext: the hook for the ClientHello has the context of HandshakeReadEarlyData.
func TestEarlyHookContext(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	started := make(chan struct{})
	must(t, e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	server, client := e.join(t, nil)
	go func() { _ = client.Handshake() }()
	ctx, stop := context.WithCancel(context.Background())
	go func() { <-started; stop() }()
	if _, err := server.HandshakeReadEarlyData(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it is %v", err)
	}
	must(t, client.Close())
}

// TestSettersOfConns: what setters take at most, and that nil ends what they set.
func TestSettersOfConns(t *testing.T) {
	noQueue(t)
	server, client := withIDs(t, sslctx.VersionTLS12).join(t, nil)
	wantArgument(t, server.SetNumTickets(-1), "n")
	wantArgument(t, client.SetSessionTicketExt(make([]byte, 1<<16)), "data")
	must(t, client.SetSessionTicketExt(make([]byte, 1<<16-1)))
	must(t, client.SetSessionTicketExt([]byte{}))
	must(t, server.SetSessionTicketExtCallback(func(context.Context, []byte) error { return io.ErrShortWrite }))
	must(t, server.SetSessionTicketExtCallback(nil))
	must(t, server.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) { return nil, io.ErrShortWrite }))
	must(t, server.SetSessionIDGenerator(nil))
	must(t, server.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { return true }))
	must(t, server.SetNotResumableSessionCallback(nil))
	wantArgument(t, client.CloseWrite(), "receiver") // there is nothing to end yet
	exchange(t, server, client)
	if len(sessionOf(t, client).ID()) == 0 {
		t.Error("the session cannot be resumed")
	}
	_, client = newEnds(t, sslctx.VersionTLS13).connect(t, nil)
	_, err := client.ExportKeyingMaterial("EXPORTER-test", make([]byte, 1<<16-1), 32)
	must(t, err)
}

// A callersContext tells when its methods are called.
type callersContext struct {
	context.Context
	deadline func()
}

func (c callersContext) Deadline() (time.Time, bool) {
	c.deadline()
	return c.Context.Deadline()
}

// TestMethodsOfCallersContext: the methods of a caller's own context are called by hooks, and
// before the handshake, but not inside of it. Hooks have its values and its deadline.
func TestMethodsOfCallersContext(t *testing.T) {
	e := withIDs(t, sslctx.VersionTLS12)
	s := e.session(t)
	must(t, e.server.FlushSessions(time.Time{}))
	type key struct{}
	var inHook, called atomic.Bool
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Minute)
	defer cancel()
	want, _ := ctx.Deadline()
	var handshake atomic.Bool
	mine := callersContext{ctx, func() {
		if handshake.Load() && !inHook.Load() {
			called.Store(true)
		}
	}}
	must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{Timeout: time.Hour, Find: func(ctx context.Context, _ sslctx.SessionQuery) (*sslctx.Session, error) {
		inHook.Store(true)
		defer inHook.Store(false)
		if d, ok := ctx.Deadline(); ctx.Value(key{}) != "value" || !ok || !d.Equal(want) {
			t.Errorf("the hook's context has the value %v and the deadline %v", ctx.Value(key{}), d)
		}
		return nil, nil
	}}))
	a, b := tcpPair(t)
	server, client := e.over(t, &tellingRead{a, &handshake}, b, s)
	go func() { _ = client.Handshake() }()
	must(t, server.HandshakeContext(mine))
	if called.Load() {
		t.Error("the caller's Deadline was called inside of the handshake")
	}
}

// A tellingRead tells when a Read has begun: then the handshake holds its locks.
type tellingRead struct {
	net.Conn
	begun *atomic.Bool
}

func (r *tellingRead) Read(p []byte) (int, error) {
	r.begun.Store(true)
	return r.Conn.Read(p)
}
