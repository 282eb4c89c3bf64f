// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// earlyEnds makes ends whose server allows n bytes of early data, and a session of these.
func earlyEnds(t testing.TB, n int) (ends, *sslctx.Session) {
	t.Helper()
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(n))
	return e, e.session(t)
}

// join makes both ends of a connection over loopback.
func (e ends) join(t testing.TB, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	s, c := tcpPair(t)
	return e.over(t, s, c, offer)
}

type earlyRead struct {
	data []byte
	err  error
}

// reading reads early data in the background.
func reading(c *sslctx.Conn) <-chan earlyRead {
	done := make(chan earlyRead, 1)
	go func() {
		data, err := readEarly(c)
		done <- earlyRead{data, err}
	}()
	return done
}

func wantStatus(t *testing.T, server, client *sslctx.Conn, want sslctx.EarlyDataStatus) {
	t.Helper()
	if s, c := server.EarlyDataStatus(), client.EarlyDataStatus(); s != want || c != want {
		t.Errorf("early data is %v for the server, %v for the client; want %v", s, c, want)
	}
}

// TestEarlyData: a session's early data is accepted once. The same session again is a replay: its
// early data is rejected and the handshake is a full one, after which the client sends again.
func TestEarlyData(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 1000)
	for i, want := range []sslctx.EarlyDataStatus{sslctx.EarlyDataAccepted, sslctx.EarlyDataRejected, sslctx.EarlyDataRejected} {
		server, client := e.join(t, s)
		got := reading(server)
		for _, part := range []string{"early ", "", "data"} {
			if n, err := client.WriteEarlyData([]byte(part)); n != len(part) || err != nil {
				t.Fatalf("WriteEarlyData is %d, %v", n, err)
			}
		}
		if client.MaxEarlyData() != 1000 {
			t.Errorf("the session allows %d", client.MaxEarlyData())
		}
		must(t, client.Handshake())
		read := <-got
		must(t, read.err)
		wantStatus(t, server, client, want)
		accepted := want == sslctx.EarlyDataAccepted
		if text := string(read.data); accepted != (text == "early data") || !accepted && text != "" {
			t.Errorf("connection %d: the server read %q", i, text)
		}
		if server.SessionReused() != accepted || client.SessionReused() != accepted {
			t.Errorf("connection %d: resumed is %v, %v", i, server.SessionReused(), client.SessionReused())
		}
		if !accepted { // rejected data was not read
			_, err := client.Write([]byte("early data"))
			must(t, err)
			buf := make([]byte, 10)
			if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "early data" {
				t.Errorf("the server read %q, %v", buf, err)
			}
		}
		exchange(t, server, client)
		must(t, client.Close())
		must(t, server.Close())
	}
}

// TestEarlyDataReplay: without replay protection a session's early data is accepted each time.
func TestEarlyDataReplay(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(1000))
	_, err := e.server.SetOptions(sslctx.OpNoAntiReplay)
	must(t, err)
	s := e.session(t)
	for range 3 {
		server, client := e.join(t, s)
		got := reading(server)
		must(t, client.HandshakeWithEarlyData(context.Background(), []byte("again")))
		if read := <-got; read.err != nil || string(read.data) != "again" {
			t.Errorf("the server read %q, %v", read.data, read.err)
		}
		wantStatus(t, server, client, sslctx.EarlyDataAccepted)
	}
}

// TestEarlyDataReplayByStore: libssl accepts early data again when a store returns the session again.
// A store that deletes what it returns prevents that, if libssl asks it for every session.
func TestEarlyDataReplayByStore(t *testing.T) {
	for _, takes := range []bool{false, true} {
		e := newEnds(t, sslctx.VersionTLS13)
		must(t, e.server.SetMaxEarlyData(1000))
		if takes {
			_, err := e.server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalLookup)
			must(t, err)
		}
		var mu sync.Mutex
		stored := map[string]*sslctx.Session{}
		must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
			mu.Lock()
			defer mu.Unlock()
			d, err := s.Dup()
			must(t, errors.Join(err, s.Close()))
			stored[string(d.ID())] = d
		}))
		must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
			mu.Lock()
			defer mu.Unlock()
			s := stored[string(q.ID)]
			if takes {
				delete(stored, string(q.ID))
			}
			return s, nil
		}}))
		s := e.session(t)
		for i := range 3 {
			want := sslctx.EarlyDataAccepted
			if takes && i > 0 {
				want = sslctx.EarlyDataRejected
			}
			server, client := e.join(t, s)
			got := reading(server)
			must(t, client.HandshakeWithEarlyData(t.Context(), []byte("again")))
			must(t, (<-got).err)
			wantStatus(t, server, client, want)
		}
	}
}

// TestHandshakeWithEarlyData: the server reads the client's data exactly once, whether early data
// is accepted or not.
func TestHandshakeWithEarlyData(t *testing.T) {
	e, s := earlyEnds(t, 100)
	small, large := strings.Repeat("x", 100), strings.Repeat("y", 101)
	for _, c := range []struct {
		name  string
		offer *sslctx.Session
		data  string
		want  sslctx.EarlyDataStatus
		reads bool // the server reads early data
	}{
		{"no session", nil, small, sslctx.EarlyDataNotSent, true},
		{"too much", e.session(t), large, sslctx.EarlyDataAccepted, true},
		{"accepted", s, small, sslctx.EarlyDataAccepted, true},
		{"replayed", s, small, sslctx.EarlyDataRejected, true},
		{"not read", e.session(t), small, sslctx.EarlyDataRejected, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := e.join(t, c.offer)
			got := make(chan earlyRead, 1)
			go func() {
				var data []byte
				if c.reads {
					data, _ = readEarly(server)
				}
				rest := make([]byte, len(c.data)-len(data))
				_, err := io.ReadFull(server, rest)
				got <- earlyRead{append(data, rest...), err}
			}()
			must(t, client.HandshakeWithEarlyData(context.Background(), []byte(c.data)))
			if read := <-got; read.err != nil || string(read.data) != c.data {
				t.Errorf("the server read %q, %v", read.data, read.err)
			}
			wantStatus(t, server, client, c.want)
			exchange(t, server, client)
		})
	}
	t.Run("no more time", func(t *testing.T) {
		_, client := e.join(t, e.session(t))
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer stop()
		if err := client.HandshakeWithEarlyData(ctx, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("HandshakeWithEarlyData is %v", err)
		}
	})
}

// TestEarlyDataLimits: the limit of the session, and the limit of the server.
func TestEarlyDataLimits(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 10)
	t.Run("of the session", func(t *testing.T) {
		server, client := e.join(t, s)
		got := reading(server)
		_, err := client.WriteEarlyData(make([]byte, 11))
		wantArgument(t, err, "p")
		_, err = client.WriteEarlyData(make([]byte, 10))
		must(t, err)
		_, err = client.WriteEarlyData(make([]byte, 1))
		wantArgument(t, err, "p")
		must(t, client.Handshake())
		if read := <-got; read.err != nil || len(read.data) != 10 {
			t.Errorf("the server read %d bytes, %v", len(read.data), read.err)
		}
		exchange(t, server, client)
	})
	t.Run("of the server", func(t *testing.T) {
		server, client := e.join(t, e.session(t))
		must(t, server.SetRecvMaxEarlyData(9))
		if n := server.RecvMaxEarlyData(); n != 9 {
			t.Errorf("RecvMaxEarlyData is %d", n)
		}
		got := reading(server)
		_, err := client.WriteEarlyData(make([]byte, 10))
		must(t, err)
		_ = client.Handshake()
		_, err = client.Read(make([]byte, 1))
		if e := (*sslctx.Error)(nil); !errors.As(err, &e) {
			t.Errorf("the client reads %v", err)
		}
		if read := <-got; !strings.Contains(read.err.Error(), "too much early data") {
			t.Errorf("the server reads %v", read.err)
		}
	})
	t.Run("that the server passes over", func(t *testing.T) {
		server, client := e.join(t, e.session(t))
		must(t, server.SetMaxEarlyData(0))
		if n := server.MaxEarlyData(); n != 0 {
			t.Errorf("MaxEarlyData is %d", n)
		}
		got := reading(server)
		must(t, client.HandshakeWithEarlyData(context.Background(), []byte("0123456789")))
		if read := <-got; read.err != nil || len(read.data) != 0 {
			t.Errorf("the server read %q, %v", read.data, read.err)
		}
		wantStatus(t, server, client, sslctx.EarlyDataRejected)
	})
	must(t, e.server.SetRecvMaxEarlyData(5))
	if n := e.server.RecvMaxEarlyData(); n != 5 {
		t.Errorf("RecvMaxEarlyData is %d", n)
	}
	server, _ := e.join(t, nil)
	if n := server.RecvMaxEarlyData(); n != 5 {
		t.Errorf("RecvMaxEarlyData of a connection is %d", n)
	}
	wantArgument(t, e.server.SetRecvMaxEarlyData(-1), "n")
	wantArgument(t, server.SetRecvMaxEarlyData(-1), "n")
	wantArgument(t, server.SetMaxEarlyData(1<<32), "n")
}

// TestEarlyDataInANewSecond: the clock of time(2) is some milliseconds behind libssl's clock for a
// session. A session must not seem to come from the future because of that.
func TestEarlyDataInANewSecond(t *testing.T) {
	if ossltest.CompiledVersion() < 0x30200000 {
		t.Skip("libssl has that clock alone, and takes such a session for one of the future")
	}
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(100))
	for range 2 {
		server, client := e.connect(t, nil)
		exchange(t, server, client)
		offer := sessionOf(t, client)
		s, c := tcpPair(t)
		_, next := e.over(t, s, c, nil)
		now := time.Now()
		time.Sleep(now.Truncate(time.Second).Add(time.Second).Sub(now))
		must(t, offer.SetTime(time.Now()))
		must(t, next.SetSession(offer))
		_, err := next.WriteEarlyData([]byte("x"))
		must(t, err)
		must(t, next.Abort())
	}
}

// TestEarlyDataInPieces sends much early data, in records of every kind.
func TestEarlyDataInPieces(t *testing.T) {
	const size = 300_000
	for name, set := range map[string]func(c *sslctx.Context) error{
		"plain":     func(*sslctx.Context) error { return nil },
		"fragments": func(c *sslctx.Context) error { return c.SetMaxSendFragment(512) },
		"padded":    func(c *sslctx.Context) error { return c.SetBlockPadding(16000) },
	} {
		t.Run(name, func(t *testing.T) {
			e, s := earlyEnds(t, size)
			must(t, e.server.SetRecvMaxEarlyData(size))
			must(t, set(e.client))
			server, client := e.join(t, s)
			got := reading(server)
			data := bytes.Repeat([]byte("0123456789"), size/10)
			must(t, client.HandshakeWithEarlyData(context.Background(), data))
			if read := <-got; read.err != nil || !bytes.Equal(read.data, data) {
				t.Errorf("the server read %d bytes, %v", len(read.data), read.err)
			}
			wantStatus(t, server, client, sslctx.EarlyDataAccepted)
			exchange(t, server, client)
		})
	}
}

// TestAllowEarlyData: the hook decides last. If it rejects early data, the handshake still resumes.
func TestAllowEarlyData(t *testing.T) {
	e, s := earlyEnds(t, 100)
	allow := false
	var asked *sslctx.Conn
	must(t, e.server.SetAllowEarlyDataCallback(func(_ context.Context, c *sslctx.Conn) bool {
		asked = c
		_ = c.RemoteAddr()
		_ = e.server.CacheStats() // it may use the context
		return allow
	}))
	for i, want := range []sslctx.EarlyDataStatus{sslctx.EarlyDataRejected, sslctx.EarlyDataAccepted} {
		server, client := e.join(t, s)
		got := reading(server)
		must(t, client.HandshakeWithEarlyData(context.Background(), []byte("x")))
		must(t, (<-got).err)
		wantStatus(t, server, client, want)
		if asked != server || !server.SessionReused() {
			t.Errorf("connection %d: asked is %v, resumed %v", i, asked == server, server.SessionReused())
		}
		allow, s = true, e.session(t)
	}
	must(t, e.server.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { panic("no") }))
	server, client := e.join(t, s)
	_, err := client.WriteEarlyData([]byte("x"))
	must(t, err)
	func() {
		defer func() {
			if v := recover(); v != "no" {
				t.Errorf("ReadEarlyData panics with %v", v)
			}
		}()
		_, _ = server.ReadEarlyData(make([]byte, 1))
		t.Error("ReadEarlyData comes back")
	}()
	must(t, server.Close())
}

// TestEarlyDataNone: without a session that allows early data, no early data begins. A server that
// reads early data learns from every client that there is none.
func TestEarlyDataNone(t *testing.T) {
	noQueue(t)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		for _, offer := range []*sslctx.Session{nil, e.session(t)} {
			server, client := e.join(t, offer)
			if _, err := client.WriteEarlyData([]byte("x")); !errors.Is(err, sslctx.ErrNoEarlyData) {
				t.Errorf("WriteEarlyData is %v", err)
			}
			got := reading(server)
			must(t, client.Handshake())
			if read := <-got; read.err != nil || len(read.data) != 0 {
				t.Errorf("the server read %q, %v", read.data, read.err)
			}
			wantStatus(t, server, client, sslctx.EarlyDataNotSent)
			if client.SessionReused() != (offer != nil) {
				t.Errorf("resumed is %v", client.SessionReused())
			}
			exchange(t, server, client)
		}
	})
	e, s := earlyEnds(t, 100)
	must(t, e.client.SetMinProtoVersion(sslctx.VersionTLS12))
	must(t, e.client.SetMaxProtoVersion(sslctx.VersionTLS12))
	_, client := e.join(t, s)
	if _, err := client.WriteEarlyData([]byte("x")); !errors.Is(err, sslctx.ErrNoEarlyData) {
		t.Errorf("WriteEarlyData is %v in a client without TLS 1.3", err)
	}
}

// TestEarlyDataOrder: calls that are too early or too late are refused, and do no harm.
func TestEarlyDataOrder(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 100)
	server, client := e.join(t, s)
	buf := make([]byte, 1)
	_, err := client.ReadEarlyData(buf)
	wantArgument(t, err, "receiver")
	_, err = server.WriteEarlyData(buf)
	wantArgument(t, err, "receiver")
	wantArgument(t, server.HandshakeWithEarlyData(context.Background(), nil), "receiver")
	if n, err := server.ReadEarlyData(nil); n != 0 || err != nil {
		t.Errorf("ReadEarlyData of nothing is %d, %v", n, err)
	}
	_, err = client.WriteEarlyData([]byte("ab"))
	must(t, err)
	if err := client.SetSession(nil); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("SetSession is %v", err)
	}
	if n, err := server.ReadEarlyData(buf); n != 1 || err != nil || buf[0] != 'a' {
		t.Fatalf("ReadEarlyData is %d, %v", n, err)
	}
	_, readErr := server.Read(buf)
	_, writeErr := server.Write(buf)
	for _, err := range []error{server.Handshake(), readErr, writeErr} {
		if !errors.Is(err, sslctx.ErrEarlyDataLeft) {
			t.Errorf("in the middle of early data: %v", err)
		}
	}
	if _, err := server.WriteEarlyData([]byte("to nobody yet")); err != nil {
		t.Errorf("the server's WriteEarlyData is %v", err)
	}
	got := reading(server)
	must(t, client.Handshake())
	if read := <-got; read.err != nil || string(read.data) != "b" {
		t.Errorf("the server read %q, %v", read.data, read.err)
	}
	text := make([]byte, 13)
	if _, err := io.ReadFull(client, text); err != nil || string(text) != "to nobody yet" {
		t.Errorf("the client read %q, %v", text, err)
	}
	if _, err := client.WriteEarlyData(buf); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("WriteEarlyData after the handshake is %v", err)
	}
	if _, err := server.WriteEarlyData(buf); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("WriteEarlyData of the server after the handshake is %v", err)
	}
	if n, err := server.ReadEarlyData(buf); n != 0 || err != io.EOF {
		t.Errorf("ReadEarlyData after its end is %d, %v", n, err)
	}
	exchange(t, server, client)

	server, client = e.connect(t, nil)
	if _, err := server.ReadEarlyData(buf); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("ReadEarlyData after the handshake is %v", err)
	}
	must(t, server.Close())
	must(t, client.Close())
	for _, c := range []*sslctx.Conn{server, client} {
		_, readErr := c.ReadEarlyData(buf)
		_, writeErr := c.WriteEarlyData(buf)
		if !errors.Is(readErr, sslctx.ErrClosed) || !errors.Is(writeErr, sslctx.ErrClosed) {
			t.Errorf("after Close: %v, %v", readErr, writeErr)
		}
		if c.PSKIdentity() != "" || c.PSKIdentityHint() != "" {
			t.Error("a closed connection has an identity")
		}
	}
}

// TestEarlyDataHooks: a handshake with early data reports the same events, before early data is
// read. The hooks for the ClientHello suspend it.
func TestEarlyDataHooks(t *testing.T) {
	e, s := earlyEnds(t, 100)
	var j journal
	j.listen(t, e.server, "server")
	var serverKeys, clientKeys bytes.Buffer
	must(t, e.server.SetKeyLogWriter(&serverKeys))
	must(t, e.client.SetKeyLogWriter(&clientKeys))
	must(t, e.server.SetClientHelloCallback(func(_ context.Context, hello *tls.ClientHelloInfo) (*sslctx.Context, error) {
		j.add("hello %v", hello.ServerName)
		return nil, nil
	}))
	server, client := e.join(t, s)
	must(t, client.SetServerName("localhost"))
	_, err := client.WriteEarlyData([]byte("x"))
	must(t, err)
	j.take()
	got := reading(server)
	must(t, client.Handshake())
	must(t, (<-got).err)
	j.want(t, "after early data", "hello localhost", "server.remove", "server.new")
	if !strings.Contains(serverKeys.String(), "CLIENT_EARLY_TRAFFIC_SECRET") || !strings.Contains(clientKeys.String(), "CLIENT_EARLY_TRAFFIC_SECRET") {
		t.Errorf("the key logs are\n%s\n%s", &serverKeys, &clientKeys)
	}

	must(t, e.server.SetClientHelloCallback(nil))
	s = e.session(t)
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
		return nil, tls.AlertError(49) // access_denied
	}))
	server, client = e.join(t, s)
	_, err = client.WriteEarlyData([]byte("x"))
	must(t, err)
	if _, err := server.ReadEarlyData(make([]byte, 1)); !errors.Is(err, tls.AlertError(49)) {
		t.Errorf("ReadEarlyData is %v", err)
	}
	if err := client.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("the client's handshake is %v", err)
	}
}

// TestEarlyDataDeadline: after a deadline has passed while early data is read, a new one can be
// set.
func TestEarlyDataDeadline(t *testing.T) {
	e, s := earlyEnds(t, 100)
	server, client := e.join(t, s)
	buf := make([]byte, 10)
	for range 2 {
		must(t, server.SetReadDeadline(time.Now().Add(5*time.Millisecond)))
		if _, err := server.ReadEarlyData(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("without a ClientHello ReadEarlyData is %v", err)
		}
	}
	must(t, client.SetWriteDeadline(time.Now().Add(-1)))
	if n, err := client.WriteEarlyData([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("WriteEarlyData is %d, %v", n, err)
	}
	must(t, client.SetWriteDeadline(time.Time{}))
	_, err := client.WriteEarlyData([]byte("one"))
	must(t, err)
	must(t, server.SetReadDeadline(time.Time{}))
	if n, err := server.ReadEarlyData(buf); string(buf[:n]) != "one" || err != nil {
		t.Errorf("ReadEarlyData is %q, %v", buf[:n], err)
	}
	must(t, server.SetReadDeadline(time.Now().Add(5*time.Millisecond)))
	if _, err := server.ReadEarlyData(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ReadEarlyData is %v", err)
	}
	must(t, server.SetReadDeadline(time.Time{}))
	_, err = client.WriteEarlyData([]byte("two"))
	must(t, err)
	got := reading(server)
	must(t, client.Handshake())
	if read := <-got; read.err != nil || string(read.data) != "two" {
		t.Errorf("the server read %q, %v", read.data, read.err)
	}
}

// TestEarlyDataClosed: Close in the middle of early data does not change the session, but Abort
// does.
func TestEarlyDataClosed(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(100))
	_, err := e.server.SetOptions(sslctx.OpNoAntiReplay)
	must(t, err)
	s := e.session(t)
	for _, abort := range []bool{false, true} {
		server, client := e.join(t, s)
		_, err := client.WriteEarlyData([]byte("x"))
		must(t, err)
		_, err = server.ReadEarlyData(make([]byte, 1))
		must(t, err)
		ofServer, err := server.Session() // a copy: the server will still write to its own
		must(t, err)
		must(t, ofServer.SetID([]byte("fresh")))
		must(t, ofServer.Close())
		end := (*sslctx.Conn).Close
		if abort {
			end = (*sslctx.Conn).Abort
		}
		must(t, end(client))
		must(t, end(server))
		if s.IsResumable() == abort {
			t.Errorf("after the end, aborted %v, the session is resumable: %v", abort, s.IsResumable())
		}
	}
}

// TestEarlyDataAtOnce: a call that continues the handshake ends early data. Nothing is lost or sent
// twice.
func TestEarlyDataAtOnce(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(1<<20))
	must(t, e.server.SetRecvMaxEarlyData(1<<20))
	_, err := e.server.SetOptions(sslctx.OpNoAntiReplay)
	must(t, err)
	s := e.session(t)
	for range 50 {
		server, client := e.join(t, s)
		got := reading(server)
		wrote := make(chan int, 1)
		go func() {
			total := 0
			for range 200 {
				n, err := client.WriteEarlyData(make([]byte, 100))
				total += n
				if err != nil {
					break
				}
			}
			wrote <- total
		}()
		time.Sleep(50 * time.Microsecond)
		must(t, client.Handshake())
		read := <-got
		must(t, read.err)
		if n := <-wrote; n != len(read.data) {
			t.Fatalf("the client sent %d bytes, the server read %d", n, len(read.data))
		}
		must(t, client.Close())
		must(t, server.Close())
	}
}

// SSL_OP_NO_TLSv1_3 and SSL_OP_NO_TLSv1_2: the binding has no names for them.
const (
	opNoTLS13 sslctx.Option = 1 << 29
	opNoTLS12 sslctx.Option = 1 << 27
)

// offered is a client that offers a session for early data.
type offered struct {
	e    ends
	s    *sslctx.Session // of a connection with "h2", as a copy that nobody else has
	psk  *sslctx.Session // the hook's answer, or nil
	conn func(t *testing.T, client *sslctx.Conn)
}

// earlyMismatches has each cause for which libssl refuses early data too late, or sends data that
// no server can read. resume says whether the session is still resumed. "alone" makes no handshake,
// because the server has no answer to it.
var earlyMismatches = map[string]struct {
	set    func(t *testing.T, o *offered)
	resume string // "yes", "no", or "alone"
}{
	"another protocol":        {func(t *testing.T, o *offered) { must(t, o.e.client.SetALPNProtos("http/1.1")) }, "yes"},
	"no protocol":             {func(t *testing.T, o *offered) { must(t, o.e.client.SetALPNProtos()) }, "yes"},
	"a protocol of its own":   {func(t *testing.T, o *offered) { must(t, o.s.SetALPNSelected("h")) }, "yes"},
	"one that is as long":     {func(t *testing.T, o *offered) { must(t, o.s.SetALPNSelected("h3")) }, "yes"},
	"another name":            {named("a.example", "b.example"), "yes"},
	"a name in other letters": {named("a.example", "A.example"), "yes"},
	"an address for a name":   {named("a.example", "127.0.0.1"), "yes"},
	"no name":                 {named("a.example", ""), "yes"},
	"no room":                 {func(t *testing.T, o *offered) { must(t, o.s.SetMaxEarlyData(0)) }, "yes"},
	"a marked session": {func(t *testing.T, o *offered) {
		_, err := o.e.client.RemoveSession(o.s)
		must(t, err)
	}, "no"},
	"an old ticket":                {aged(8000 * time.Second), "no"},
	"a very old ticket":            {aged(50 * 24 * time.Hour), "no"},
	"a ticket of tomorrow":         {aged(-24 * time.Hour), "alone"}, // versions differ: 3.5 offers it
	"a cipher that is not offered": {func(t *testing.T, o *offered) { must(t, o.e.client.SetCiphersuites("TLS_AES_128_GCM_SHA256")) }, "no"},
	"another cipher of the hash": {func(t *testing.T, o *offered) {
		must(t, o.e.client.SetCiphersuites("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"))
		must(t, o.s.SetCipher(sslctx.Cipher{ID: 0x1301}))
	}, "no"},
	"an older cipher":  {func(t *testing.T, o *offered) { must(t, o.s.SetCipher(sslctx.Cipher{ID: 0xc030})) }, "alone"},
	"an older version": {func(t *testing.T, o *offered) { must(t, o.s.SetProtocolVersion(sslctx.VersionTLS12)) }, "alone"},
	"no TLS 1.3": {func(t *testing.T, o *offered) {
		must(t, o.e.client.SetMinProtoVersion(sslctx.VersionTLS12))
		_, err := o.e.client.SetOptions(opNoTLS13)
		must(t, err)
	}, "alone"},
	"a hole below TLS 1.3": {func(t *testing.T, o *offered) { // libssl goes down to the version below the gap
		must(t, o.e.client.SetCipherList("DEFAULT@SECLEVEL=0"))
		must(t, o.e.client.SetMinProtoVersion(sslctx.VersionTLS10))
		_, err := o.e.client.SetOptions(opNoTLS12)
		must(t, err)
	}, "alone"},
	"a ticket of the caller's": {func(t *testing.T, o *offered) {
		o.conn = func(t *testing.T, client *sslctx.Conn) { must(t, client.SetSessionTicketExt([]byte("ticket"))) }
	}, "alone"},
	"no ticket": {func(t *testing.T, o *offered) {
		s, err := sslctx.NewSession()
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		must(t, errors.Join(s.SetProtocolVersion(sslctx.VersionTLS13), s.SetCipher(sslctx.Cipher{ID: 0x1302}),
			s.SetID([]byte("it has an ID")), s.SetMasterKey(make([]byte, 48)), s.SetMaxEarlyData(100)))
		o.s = s
	}, "no"},
	"a key behind a ticket": {func(t *testing.T, o *offered) {
		must(t, o.s.SetMaxEarlyData(0))
		o.psk = pskSession(t, 100)
	}, "yes"},
	"a key of another name": {func(t *testing.T, o *offered) {
		o.s, o.psk = nil, pskSession(t, 100)
		must(t, o.psk.SetHostname("a.example"))
	}, "yes"},
	"a key of another protocol": {func(t *testing.T, o *offered) {
		o.s, o.psk = nil, pskSession(t, 100)
		must(t, o.psk.SetALPNSelected("http/1.1"))
	}, "yes"},
	"a key without room": {func(t *testing.T, o *offered) { o.s, o.psk = nil, pskSession(t, 0) }, "yes"},
}

func named(session, conn string) func(*testing.T, *offered) {
	return func(t *testing.T, o *offered) {
		must(t, o.s.SetHostname(session))
		o.conn = func(t *testing.T, client *sslctx.Conn) {
			if conn != "" {
				must(t, client.SetServerName(conn))
			}
		}
	}
}

func aged(age time.Duration) func(*testing.T, *offered) {
	return func(t *testing.T, o *offered) { must(t, o.s.SetTime(time.Now().Add(-age))) }
}

// offerEarly makes a client whose session allows early data. A case then changes something.
func offerEarly(t *testing.T) *offered {
	t.Helper()
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetVerify(sslctx.VerifyNone)) // the certificate is for other names
	must(t, e.server.SetMaxEarlyData(100))
	must(t, e.server.SetALPNProtos("h2", "http/1.1"))
	must(t, e.client.SetALPNProtos("h2"))
	s, err := e.session(t).Dup()
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return &offered{e: e, s: s, conn: func(*testing.T, *sslctx.Conn) {}}
}

// hear sets the hooks for the pre-shared key, and counts the calls of the client's hook.
func (o *offered) hear(t *testing.T) (asked *int) {
	t.Helper()
	asked = new(int)
	if o.psk == nil {
		return asked
	}
	must(t, o.e.server.SetPSKFindSessionCallback(func(_ context.Context, _ *sslctx.Conn, id []byte) *sslctx.Session {
		if string(id) != "me" {
			return nil
		}
		return o.psk
	}))
	must(t, o.e.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		*asked++
		return []byte("me"), o.psk
	}))
	if o.s == nil {
		must(t, o.e.server.SetCiphersuites("TLS_AES_128_GCM_SHA256")) // the key's hash
	}
	return asked
}

// TestEarlyDataRefused: if a condition of early data is missing, the call is refused before
// anything is sent. No session is marked, and the data can be sent after the handshake.
func TestEarlyDataRefused(t *testing.T) {
	noQueue(t)
	for name, c := range earlyMismatches {
		t.Run(name, func(t *testing.T) {
			o := offerEarly(t)
			c.set(t, o)
			asked := o.hear(t)
			marked := o.s != nil && !o.s.IsResumable()
			server, client := o.e.join(t, o.s)
			o.conn(t, client)
			if n, err := client.WriteEarlyData([]byte("hello")); n != 0 || !errors.Is(err, sslctx.ErrNoEarlyData) {
				t.Fatalf("WriteEarlyData is %d, %v", n, err)
			}
			if o.s != nil && o.s.IsResumable() == marked {
				t.Error("the session is marked")
			}
			if c.resume == "alone" {
				return
			}
			must(t, client.SetSession(o.s)) // nothing has begun
			got := reading(server)
			must(t, client.HandshakeWithEarlyData(context.Background(), []byte("hello")))
			if read := <-got; read.err != nil || len(read.data) != 0 {
				t.Errorf("the server read %q early, %v", read.data, read.err)
			}
			buf := make([]byte, 5)
			if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "hello" {
				t.Errorf("the server read %q, %v", buf, err)
			}
			wantStatus(t, server, client, sslctx.EarlyDataNotSent)
			if client.SessionReused() != (c.resume == "yes") {
				t.Errorf("resumed is %v", client.SessionReused())
			}
			if o.s != nil && o.s.IsResumable() == marked {
				t.Error("the session is marked after the handshake")
			}
			if o.psk != nil && *asked != 1 {
				t.Errorf("the hook was asked %d times", *asked)
			}
			exchange(t, server, client)
		})
	}
}

// TestEarlyDataSuits: early data works with a session that has a name and a protocol if the client
// asks for both, and with a key without a ticket.
func TestEarlyDataSuits(t *testing.T) {
	noQueue(t)
	for name, set := range map[string]func(t *testing.T, o *offered){
		"name and protocol": func(t *testing.T, o *offered) {
			must(t, o.e.client.SetALPNProtos("http/1.1", "x", "h2"))
			must(t, o.e.server.SetALPNProtos("h2"))
			named("a.example", "a.example")(t, o)
		},
		"a list that is changed behind": func(t *testing.T, o *offered) {
			o.conn = func(t *testing.T, _ *sslctx.Conn) { must(t, o.e.client.SetALPNProtos("http/1.1")) }
		},
		"a key": func(t *testing.T, o *offered) {
			o.s, o.psk = nil, pskSession(t, 100)
			must(t, o.psk.SetALPNSelected("h2")) // it must match the server, too
		},
		"a key beside a marked session": func(t *testing.T, o *offered) {
			_, err := o.e.client.RemoveSession(o.s)
			must(t, err)
			o.psk = pskSession(t, 100)
			must(t, o.psk.SetALPNSelected("h2"))
			must(t, o.e.server.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := offerEarly(t)
			set(t, o)
			asked := o.hear(t)
			server, client := o.e.join(t, o.s)
			o.conn(t, client)
			got := reading(server)
			must(t, client.HandshakeWithEarlyData(context.Background(), []byte("hello")))
			if read := <-got; read.err != nil || string(read.data) != "hello" {
				t.Errorf("the server read %q, %v", read.data, read.err)
			}
			wantStatus(t, server, client, sslctx.EarlyDataAccepted)
			if o.psk != nil && *asked != 1 {
				t.Errorf("the hook was asked %d times", *asked)
			}
		})
	}
}

// TestEarlyDataAskedOnce: if an answer does not allow early data, the handshake uses the same
// answer. An invalid answer fails as in a handshake.
func TestEarlyDataAskedOnce(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	asked := 0
	must(t, e.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		asked++
		return nil, nil
	}))
	_, client := e.join(t, nil)
	for range 2 {
		if _, err := client.WriteEarlyData([]byte("x")); !errors.Is(err, sslctx.ErrNoEarlyData) {
			t.Errorf("WriteEarlyData is %v", err)
		}
	}
	if asked != 1 { // once, for the only ClientHello
		t.Errorf("the hook was asked %d times", asked)
	}
	must(t, client.Close()) // with an unused answer

	must(t, e.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		return nil, pskSession(t, 100) // no identity
	}))
	_, client = e.join(t, nil)
	_, err := client.WriteEarlyData([]byte("x"))
	if arg := (*sslctx.ArgumentError)(nil); !errors.As(err, &arg) {
		t.Errorf("WriteEarlyData is %v", err)
	}
	if again := client.Handshake(); again != err {
		t.Errorf("then Handshake is %v", again)
	}
}

// TestEarlyDataPadded: early data arrives that is sent in records as small as may be, each padded:
// the server counts none of it twice.
func TestEarlyDataPadded(t *testing.T) {
	noQueue(t)
	e, s := earlyEnds(t, 16384)
	must(t, errors.Join(e.client.SetMaxSendFragment(512), e.client.SetBlockPadding(16000)))
	server, client := e.join(t, s)
	got := reading(server)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	if n, err := client.WriteEarlyData(data); n != len(data) || err != nil {
		t.Errorf("WriteEarlyData is %d, %v", n, err)
	}
	must(t, client.Handshake())
	if read := <-got; read.err != nil || !bytes.Equal(read.data, data) {
		t.Errorf("the server read %d bytes, %v", len(read.data), read.err)
	}
	wantStatus(t, server, client, sslctx.EarlyDataAccepted)
}
