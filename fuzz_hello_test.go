// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// A fuzzServer is a server that a first flight is sent to.
type fuzzServer struct {
	*sslctx.Context
	name  string
	early bool                     // it reads early data
	again func()                   // runs before each flight, or nil
	conn  func(*sslctx.Conn) error // sets what is a connection's own, or nil
}

// takes sends the server a client's first flight, which never completes a handshake, and returns the early data.
func (s *fuzzServer) takes(t *testing.T, flight []byte) (early []byte) {
	t.Helper()
	leavesNothing(t, s.name, func() {
		if s.again != nil {
			s.again()
		}
		defer func() { must(t, s.FlushSessions(farFuture())) }() // all of them
		c, err := sslctx.Server(&recorder{arrived: bytes.NewReader(flight)}, s.Context)
		must(t, err)
		defer func() { must(t, c.Close()) }()
		if s.conn != nil {
			must(t, s.conn(c))
		}
		if s.early {
			if early, err = readEarly(c); err == nil {
				t.Errorf("%s: one flight completes a handshake", s.name)
			}
		} else if c.Handshake() == nil {
			t.Errorf("%s: one flight completes a handshake", s.name)
		}
		readBack(t, c)
	})
	return early
}

// readBack reads what a connection keeps of what its peer said, after a call that left nothing on the error queue.
func readBack(t *testing.T, c *sslctx.Conn) {
	if e := ossltest.PeekError(); e != 0 {
		t.Errorf("the error queue holds %#x", e)
	}
	_, _, _ = c.PSKIdentity(), c.PSKIdentityHint(), c.ConnectionState()
	_, err := c.VerifyResult()
	must(t, err)
	if s, err := c.Session(); err == nil && s != nil {
		_, _, _, _, _ = s.ID(), s.Hostname(), s.ALPNSelected(), s.TicketAppData(), s.String()
		_, _ = s.PeerCertificate()
		must(t, s.Close())
	}
}

// FuzzClientHello sends hostile bytes, as a client's first flight, to a server of each kind that fuzzServers has.
//
// Reached in Go: all of hello_parse.go (parseHello and what it calls), answerHello, wanted, runLookup, accept, choose,
// takeHello, getSession, findPSK, serverPSK, decryptTicket, generateID, notResumable, hearTicketExt and ReadEarlyData.
// Reached in the shim: go_bio_read, write_hello, note_allowed, shim_on_client_hello, find_session, on_get_session,
// shim_on_decrypt_ticket, on_ticket_key, on_ticket_ext, on_psk_find_session, on_psk_server, on_allow_early_data,
// select_alpn, give_staple and on_generate_id. docs/peer-bytes.md has the coverage that shows it.
func FuzzClientHello(f *testing.F) {
	servers := fuzzServers(f)
	for _, flight := range firstFlights(f) {
		f.Add(flight)
	}
	for _, c := range hostileHellos {
		f.Add(c.hello)
	}
	f.Fuzz(func(t *testing.T, flight []byte) {
		for _, s := range servers {
			for _, flight := range repaired(flight) {
				s.takes(t, flight)
			}
		}
	})
}

// FuzzReadEarlyData sends hostile bytes, as a ClientHello with early data behind it, to the servers that read early data: to
// its end or to an error, and never more of it than the limit.
//
// Reached in Go: ReadEarlyData, readEarly, shake, allowEarlyData and findPSK. Reached in the shim: shim_SSL_read_early_data,
// on_allow_early_data, on_psk_find_session, find_session and on_ticket_key. docs/peer-bytes.md has the coverage that shows it.
func FuzzReadEarlyData(f *testing.F) {
	servers := slices.DeleteFunc(fuzzServers(f), func(s *fuzzServer) bool { return !s.early })
	for _, flight := range firstFlights(f) {
		f.Add(flight)
		f.Add(flight[:len(flight)/2])
	}
	f.Add([]byte("\x16\x03\x01\x00\x01\x01"))
	f.Fuzz(func(t *testing.T, flight []byte) {
		for _, s := range servers {
			if n := len(s.takes(t, flight)); n > fuzzEarlyData {
				t.Errorf("%s: %d bytes of early data are read", s.name, n)
			}
		}
	})
}

// repaired gives a flight, and the same with lengths that are right, if they are not: of the first record, of the message
// in it, and of the extensions of a ClientHello. What is fuzzed gets past these lengths then.
func repaired(flight []byte) [][]byte {
	const headers = 9 // of the record and of the message
	all := [][]byte{flight}
	body := len(flight) - headers
	if body < 0 || body > 1<<14-4 || flight[0] != 22 {
		return all
	}
	fixed := bytes.Clone(flight)
	binary.BigEndian.PutUint16(fixed[3:], uint16(4+body))
	fixed[6], fixed[7], fixed[8] = 0, byte(body>>8), byte(body)
	rest := fixed[headers:]
	skip := func(n int) { rest = rest[min(n, len(rest)):] }
	skip(2 + 32)
	for _, n := range []int{1, 2, 1} { // session ID, cipher suites, compression methods
		if len(rest) < n {
			break
		}
		length := int(rest[0])
		if n == 2 {
			length = length<<8 | int(rest[1])
		}
		skip(n + length)
	}
	if len(rest) >= 2 && fixed[5] == 1 {
		binary.BigEndian.PutUint16(rest, uint16(len(rest)-2))
	}
	if !bytes.Equal(fixed, flight) {
		all = append(all, fixed)
	}
	return all
}

// The sessions, keys and names that servers of all processes of a fuzz target know, so that a flight of one is as good for
// another.
var (
	fuzzTicketKey = slices.Concat([]byte("the name is here"), bytes.Repeat([]byte{3}, 64))
	fuzzOldKey    = slices.Concat([]byte("an older name is"), bytes.Repeat([]byte{4}, 64))
)

const (
	fuzzEarlyData = 1000
	fuzzPSK       = "me"
)

// fuzzServerSession is what a server has of the session that wholeID names; fresh each time, as its age counts.
func fuzzServerSession(v sslctx.Version) *sslctx.Session { return fuzzDER(v, wholeID, nil) }

// fuzzClientSession is what a client has of it.
func fuzzClientSession(v sslctx.Version) *sslctx.Session {
	if v == sslctx.VersionTLS13 {
		return fuzzDER(v, []byte("x"), wholeID)
	}
	return fuzzDER(v, wholeID, nil)
}

func fuzzDER(v sslctx.Version, id, ticket []byte) *sslctx.Session {
	return sure(sslctx.ParseSession(sessionDER(v, id, ticket)))
}

// lent are the sessions that hooks have given, which stay theirs.
var lent struct {
	mu  sync.Mutex
	all []*sslctx.Session
}

func lend(s *sslctx.Session) *sslctx.Session {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	lent.all = append(lent.all, s)
	return s
}

func closeLent() {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	for _, s := range lent.all {
		sure(0, s.Close())
	}
	lent.all = nil
}

// sure panics where a fuzz target cannot fail a test: in hooks, which outlive what they were set by.
func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// fuzzServers are servers that between them ask for all that a server can ask for: every cache, ticket and hook.
func fuzzServers(f *testing.F) []*fuzzServer {
	var all []*fuzzServer
	server := func(name string, early bool, set ...func(*sslctx.Context) error) *fuzzServer {
		e := newEnds(f, sslctx.VersionTLS13)
		must(f, e.server.SetMinProtoVersion(sslctx.VersionTLS12))
		_, err := e.server.SetTimeout(24 * time.Hour)
		must(f, err)
		if early {
			must(f, e.server.SetMaxEarlyData(fuzzEarlyData))
		}
		for _, set := range set {
			must(f, set(e.server))
		}
		s := &fuzzServer{Context: e.server, name: name, early: early}
		all = append(all, s)
		return s
	}
	for name, set := range helloServers {
		server(name, false, func(c *sslctx.Context) error { return set(c, func([]byte) {}) })
	}

	cached(server("a session that is cached", false, option(sslctx.OpNoTicket), findsSession))
	cached(server("a session that is cached, early data", true, findsSession))
	server("a lookup that finds", false, option(sslctx.OpNoTicket), noInternal, findsSession)
	server("a lookup that findsSession, early data", true, noInternal, findsSession, allowsEarlyData)
	server("a get hook", false, option(sslctx.OpNoTicket), noInternal, getsSession)
	server("a get hook, early data", true, noInternal, getsSession)
	server("pre-shared keys", false, findsPSK, knowsPSK)
	server("pre-shared keys, early data", true, findsPSK, knowsPSK, allowsEarlyData)
	server("pre-shared keys, early data, no protection", true, findsPSK, option(sslctx.OpNoAntiReplay))
	server("ticket hooks", false, ticketKeys, ticketHooks)
	server("ticket hooks, early data", true, ticketKeys, ticketHooks, option(sslctx.OpNoAntiReplay))
	server("ticket keys, early data", true, ticketKeys, option(sslctx.OpNoAntiReplay), allowsEarlyData)
	server("ticket keys with hooks that ask for sessions", false, ticketKeys, findsSession, getsSession)
	server("IDs of the application's", false, option(sslctx.OpNoTicket), func(c *sslctx.Context) error {
		return firstError(c.SetSessionIDGenerator(makesID), c.SetNotResumableSessionCallback(never))
	})
	server("IDs with a prefix", false, option(sslctx.OpNoTicket), func(c *sslctx.Context) error { return c.SetSessionIDPrefix([]byte("prefix")) })
	server("hooks of a connection", false).conn = func(c *sslctx.Conn) error {
		return firstError(c.SetSessionIDGenerator(makesID), c.SetNotResumableSessionCallback(never),
			c.SetSessionTicketExtCallback(func(context.Context, []byte) error { return nil }))
	}
	server("a certificate of the client's", false, asksForCertificate(f))
	other := server("everything old", false, old, stapled13(f), alpn, ticketKeys, getsSession)
	server("another context", false, old, findsSession, func(c *sslctx.Context) error {
		return c.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
			_ = fmt.Sprint(h)
			if len(h.SupportedProtos) > 0 || h.ServerName != "" {
				return other.Context, nil
			}
			return nil, tls.AlertError(80)
		})
	})
	return all
}

// cached has a server's own cache have the sessions of wholeID at each flight. Early data takes one out.
func cached(s *fuzzServer) {
	s.again = func() {
		for _, v := range versions {
			session := fuzzServerSession(v)
			sure(s.AddSession(session))
			sure(0, session.Close())
		}
	}
}

func found(id []byte, tls13 bool) *sslctx.Session {
	switch {
	case !bytes.Equal(id, wholeID):
		return nil
	case tls13:
		return lend(fuzzServerSession(sslctx.VersionTLS13))
	}
	return lend(fuzzServerSession(sslctx.VersionTLS12))
}

// farFuture is when each session here has expired.
func farFuture() time.Time { return time.Now().Add(1000 * time.Hour) }

func findsSession(c *sslctx.Context) error {
	return c.SetSessionLookup(&sslctx.SessionLookup{Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
		return found(q.ID, slices.Contains(q.Hello.SupportedVersions, tls.VersionTLS13)), nil
	}})
}

func getsSession(c *sslctx.Context) error {
	return c.SetGetSessionCallback(func(_ context.Context, id []byte) *sslctx.Session { return found(id, true) })
}

func option(o sslctx.Option) func(*sslctx.Context) error {
	return func(c *sslctx.Context) error {
		_, err := c.SetOptions(o)
		return err
	}
}

func noInternal(c *sslctx.Context) error {
	_, err := c.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal)
	return err
}

func allowsEarlyData(c *sslctx.Context) error {
	return c.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { return true })
}

func knowsPSK(c *sslctx.Context) error {
	return firstError(c.SetCipherList("DEFAULT:PSK"), knowsPSKKey(c))
}

func knowsPSKKey(c *sslctx.Context) error {
	return firstError(c.UsePSKIdentityHint("hint"),
		c.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, identity string) []byte {
			if identity == fuzzPSK {
				return pskKey
			}
			return nil
		}))
}

func ticketKeys(c *sslctx.Context) error {
	current, err := sslctx.ParseTicketKey(fuzzTicketKey)
	before, err2 := sslctx.ParseTicketKey(fuzzOldKey)
	return firstError(err, err2, c.SetTicketKeyRing(ringOf(current, nil, []sslctx.TicketKey{before})))
}

func ticketHooks(c *sslctx.Context) error {
	return c.SetSessionTicketCallback(
		func(_ context.Context, t sslctx.SessionTicket) ([]byte, error) {
			return append(t.AppData, 'x'), t.Session.Close()
		},
		func(_ context.Context, t sslctx.SessionTicket) sslctx.TicketReturn {
			_ = t.Session.Close()
			return sslctx.TicketDefault
		})
}

func makesID(_ context.Context, _ *sslctx.Conn, n int) ([]byte, error) { return wholeID[:n], nil }

func never(context.Context, *sslctx.Conn, bool) bool { return true }

// old allows what libssl has of old.
func old(c *sslctx.Context) error {
	return firstError(c.SetSecurityLevel(0), c.SetMinProtoVersion(sslctx.VersionAny), c.SetCipherList("ALL:@SECLEVEL=0"))
}

func alpn(c *sslctx.Context) error { return c.SetALPNProtos("h2", "http/1.1") }

// echGrease is the number of SSL_OP_ECH_GREASE, 0 where libssl has none (before 4.0).
var echGrease = sslctx.Option(ossltest.ECHGrease())
