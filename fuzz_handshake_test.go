// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// A fuzzServer is a server that gets a first flight.
type fuzzServer struct {
	*sslctx.Context
	name  string
	early bool                     // it reads early data
	again func()                   // runs before each flight, or nil
	conn  func(*sslctx.Conn) error // sets options of a connection, or nil
}

// takes sends the server a client's first flight, which cannot complete a handshake. It returns the
// early data.
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

// readBack reads all values that a connection keeps from its peer, after a call that left nothing
// on the error queue.
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

// FuzzClientHello sends hostile bytes, as a client's first flight, to a server of each kind that
// fuzzServers has.
//
// Reached in Go: all of hello_parse.go (parseHello and what it calls), answerHello, wanted,
// runLookup, accept, choose, readHello, recordsOf, takeHello, getSession, findPSK, serverPSK,
// decryptTicket, generateID, notResumable, passTicketExt and ReadEarlyData. Reached in the shim: go_bio_read, write_hello,
// note_allowed, shim_on_client_hello, find_session, on_get_session, shim_on_decrypt_ticket,
// on_ticket_key, on_ticket_ext, on_psk_find_session, on_psk_server, on_allow_early_data,
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

// FuzzReadEarlyData sends hostile bytes, as a ClientHello with early data behind it, to the servers
// that read early data. They read to its end or to an error, and never more than the limit.
//
// Reached in Go: ReadEarlyData, readEarly, shake, allowEarlyData and findPSK. Reached in the shim:
// shim_SSL_read_early_data, on_allow_early_data, on_psk_find_session, find_session and
// on_ticket_key. docs/peer-bytes.md has the coverage that shows it.
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

// repaired returns a flight, and if its lengths are wrong, also a copy with correct lengths: of the
// first record, of the message in it, and of the extensions of a ClientHello. So fuzzed bytes get
// past the checks of lengths.
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

// Sessions, keys and names that are the same in all processes of a fuzz target, so that a flight
// works in each of them.
var (
	fuzzTicketKey = slices.Concat([]byte("the name is here"), bytes.Repeat([]byte{3}, 64))
	fuzzOldKey    = slices.Concat([]byte("an older name is"), bytes.Repeat([]byte{4}, 64))
)

const (
	fuzzEarlyData = 1000
	fuzzPSK       = "me"
)

// fuzzServerSession is the server's session with wholeID. It is made fresh each time, because its
// age counts.
func fuzzServerSession(v sslctx.Version) *sslctx.Session { return fuzzDER(v, wholeID, nil) }

// fuzzClientSession is the client's part of it.
func fuzzClientSession(v sslctx.Version) *sslctx.Session {
	if v == sslctx.VersionTLS13 {
		return fuzzDER(v, []byte("x"), wholeID)
	}
	return fuzzDER(v, wholeID, nil)
}

func fuzzDER(v sslctx.Version, id, ticket []byte) *sslctx.Session {
	return sure(sslctx.ParseSession(sessionDER(v, id, ticket)))
}

// lent has the sessions that hooks have returned and still own.
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

func closeHookSessions() {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	for _, s := range lent.all {
		sure(0, s.Close())
	}
	lent.all = nil
}

// sure panics where a fuzz target cannot fail a test: in hooks, which may run after the test that
// set them.
func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// fuzzServers are servers that together use every cache, ticket and hook of a server.
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
	like, err := sslctx.NewContextFromTLS(&tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		_ = fmt.Sprint(h)
		return nil, nil
	}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }})
	must(f, err)
	f.Cleanup(func() { _ = like.Close() })
	return append(all, &fuzzServer{Context: like, name: "a tls.Config"})
}

// cached puts the sessions of wholeID into a server's own cache before each flight, because early
// data removes one.
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

// old allows libssl's old protocols and ciphers.
func old(c *sslctx.Context) error {
	return firstError(c.SetSecurityLevel(0), c.SetMinProtoVersion(sslctx.VersionAny), c.SetCipherList("ALL:@SECLEVEL=0"))
}

func alpn(c *sslctx.Context) error { return c.SetALPNProtos("h2", "http/1.1") }

// echGrease is the number of SSL_OP_ECH_GREASE, 0 where libssl has none (before 4.0).
var echGrease = sslctx.Option(ossltest.ECHGrease())

// FuzzClientFlight sends hostile bytes as the flight of a client after the server's. kind chooses
// the server. A server of TLS 1.2 that requests a certificate gets a fixed ClientHello, then a
// Certificate of a and b, each of which is one certificate if it is not empty, and then c. Another
// server gets a, b and c as they are: a ClientHello, the next flight, and the rest.
//
// Reached in Go: goAskPool, askPool, runPoolUpcall, anchorsOf, and in a second ClientHello what
// FuzzClientHello reaches; serverPSK for the PSK cipher suites of TLS 1.2. Reached in the shim:
// verify_with_pool, write_chain, append_der, ask_pool, read_anchors, add_issuers, has_cert,
// on_psk_server, find_session with a session that it has given before, and shim_on_client_hello a
// second time. docs/peer-bytes.md has the coverage that shows it.
func FuzzClientFlight(f *testing.F) {
	servers := flightServers(f)
	root, middle, leaf := fuzzChain(f)
	others := sign25519(f, "a name of others", root, nil, nil)
	for kind := range byte(mutualServers) {
		rest := keyExchange([]byte{5}, bytes.Repeat([]byte{9}, 32))
		f.Add(kind, leaf.cert.Raw, middle.cert.Raw, rest)
		f.Add(kind, leaf.cert.Raw, root.cert.Raw, rest)
		f.Add(kind, others.cert.Raw, []byte(nil), rest)
		f.Add(kind, root.cert.Raw, leaf.cert.Raw, rest)
		f.Add(kind, []byte(nil), []byte(nil), rest)
	}
	for kind := mutualServers; kind < len(servers); kind++ {
		for _, client := range flightClients(f) {
			a, b := twoFlights(f, servers[kind], client)
			f.Add(byte(kind), a, b, []byte(nil))
		}
		psk := firstFlight(f, sslctx.VersionTLS12, nil, "", tellsPSK)
		f.Add(byte(kind), psk, keyExchange(vector(2, []byte(fuzzPSK)), nil), []byte("\x15\x03\x03\x00\x02\x01\x00"))
	}
	f.Fuzz(func(t *testing.T, kind byte, a, b, c []byte) {
		s := servers[int(kind)%len(servers)]
		if int(kind)%len(servers) < mutualServers {
			var chain [][]byte
			for _, cert := range [][]byte{a, b} {
				if len(cert) > 0 && len(cert) < 1<<16 {
					chain = append(chain, vector(3, cert))
				}
			}
			s.takes(t, slices.Concat(mutualHello, handshake(11, vector(3, chain...)), c))
			return
		}
		for _, b := range repaired(b) {
			s.takes(t, slices.Concat(a, b, c))
		}
	})
}

// mutualServers is how many of flightServers request a certificate.
const mutualServers = 2

// mutualHello is a ClientHello of TLS 1.2, with a cipher suite, groups and signatures that
// flightServers accept.
var (
	mutualHello      = hello(nil, mutualExtensions...)
	mutualExtensions = [][]byte{extension(10, vector(2, []byte{0, 0x1d, 0, 0x17})), extension(13, vector(2, []byte{4, 3, 8, 7})), extension(23)}
)

// handshake puts a message into as many records as it needs.
func handshake(kind byte, body []byte) (records []byte) {
	message := slices.Concat([]byte{kind}, vector(3, body))
	for part := range slices.Chunk(message, 1<<14) {
		records = append(records, record(22, string(part))...)
	}
	return records
}

// keyExchange makes the rest of a client's flight in TLS 1.2: ClientKeyExchange, CertificateVerify
// if there is a key, and a Finished of any bytes.
func keyExchange(before, key []byte) []byte {
	if key == nil {
		return slices.Concat(handshake(16, before), []byte(record(20, "\x01")), []byte(record(22, times(40, "x"))))
	}
	return slices.Concat(handshake(16, vector(1, key)), handshake(15, slices.Concat([]byte{8, 7}, vector(2, make([]byte, 64)))),
		[]byte(record(20, "\x01")), []byte(record(22, times(40, "x"))))
}

// flightServers are servers that read more than one unencrypted flight. The first ones request a
// certificate.
func flightServers(f *testing.F) (all []*fuzzServer) {
	server := func(name string, early bool, v sslctx.Version, set ...func(*sslctx.Context) error) *fuzzServer {
		e := newEnds(f, v)
		must(f, e.server.SetMinProtoVersion(sslctx.VersionTLS12))
		for _, set := range set {
			must(f, set(e.server))
		}
		all = append(all, &fuzzServer{Context: e.server, name: name, early: early})
		return all[len(all)-1]
	}
	asks := asksForCertificate(f)
	_, middle, _ := fuzzChain(f)
	server("a pool", false, sslctx.VersionTLS12, asks)
	server("a pool and a store", false, sslctx.VersionTLS12, asks, func(c *sslctx.Context) error { return c.TrustCertificate(middle.cert) })
	again := func(c *sslctx.Context) error { return c.SetGroups("P-521") } // no client sends a share for it
	hello := func(c *sslctx.Context) error {
		return c.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil })
	}
	early := func(c *sslctx.Context) error { return c.SetMaxEarlyData(fuzzEarlyData) }
	server("another hello, a lookup", false, sslctx.VersionTLS13, again, option(sslctx.OpNoTicket), noInternal, findsSession, hello)
	server("another hello, early data", true, sslctx.VersionTLS13, again, early, findsSession, findsPSK, knowsPSK)
	server("another hello, get hook and tickets", true, sslctx.VersionTLS13, again, early, noInternal, getsSession, ticketKeys, ticketHooks)
	cached(server("another hello, a cached session", false, sslctx.VersionTLS13, again, option(sslctx.OpNoTicket), findsSession))
	return all
}

// asksForCertificate makes a server request a certificate of fuzzChain.
func asksForCertificate(t testing.TB) func(*sslctx.Context) error {
	pool := poolOf(fuzzRoot(t))
	return func(c *sslctx.Context) error {
		return firstError(c.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert), c.SetIDContext([]byte("context")), c.TrustCertPool(pool))
	}
}

// A fuzzClient is a client that gets a server's flight.
type fuzzClient struct {
	*sslctx.Context
	name  string
	offer func() *sslctx.Session // or nil
	early string
}

// conn makes a connection of the client over a transport.
func (c *fuzzClient) conn(t testing.TB, transport net.Conn) *sslctx.Conn {
	t.Helper()
	conn, err := sslctx.Client(transport, c.Context)
	must(t, err)
	must(t, conn.AcceptAnyName())
	must(t, conn.SetServerName("localhost"))
	if c.offer != nil {
		s := c.offer()
		must(t, firstError(conn.SetSession(s), s.Close()))
	}
	if c.MaxProtoVersion() == sslctx.VersionTLS12 {
		must(t, conn.SetSessionTicketExtCallback(func(context.Context, []byte) error { return nil }))
	}
	if c.early != "" {
		_, err = conn.WriteEarlyData([]byte(c.early))
		must(t, err)
	}
	return conn
}

func newFuzzClient(t testing.TB, name string, from, to sslctx.Version, offer func() *sslctx.Session, set ...func(*sslctx.Context) error) *fuzzClient {
	t.Helper()
	c := newContext(t, sslctx.TLSClientMethod)
	must(t, firstError(c.SetMinProtoVersion(from), c.SetMaxProtoVersion(to)))
	for _, set := range set {
		must(t, set(c))
	}
	return &fuzzClient{Context: c, name: name, offer: offer}
}

func offers(v sslctx.Version) func() *sslctx.Session {
	return func() *sslctx.Session { return fuzzClientSession(v) }
}

// flightClients are clients of TLS 1.3 that send a ClientHello twice.
func flightClients(t testing.TB) []*fuzzClient {
	const v = sslctx.VersionTLS13
	return []*fuzzClient{
		newFuzzClient(t, "nothing", v, v, nil),
		newFuzzClient(t, "a session", v, v, offers(v)),
		newFuzzClient(t, "a key", v, v, nil, usesPSK),
		newFuzzClient(t, "both", v, v, offers(v), usesPSK),
	}
}

// converse makes a handshake, and returns the bytes that each end wrote.
func converse(t testing.TB, s *fuzzServer, c *fuzzClient) (fromClient, fromServer [][]byte) {
	t.Helper()
	if s.again != nil {
		s.again()
	}
	serverEnd, clientEnd := wire()
	keep := func(all *[][]byte) func([]byte) ([]byte, error) {
		return func(p []byte) ([]byte, error) {
			*all = append(*all, bytes.Clone(p))
			return p, nil
		}
	}
	serverEnd.Out.Tamper, clientEnd.Out.Tamper = keep(&fromServer), keep(&fromClient)
	server, err := sslctx.Server(serverEnd, s.Context)
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Handshake()
		_ = server.Close()
	}()
	client := c.conn(t, clientEnd)
	_ = client.Handshake()
	_ = client.Close()
	<-done
	closeHookSessions()
	return fromClient, fromServer
}

// twoFlights returns a client's first flight, and its second.
func twoFlights(t testing.TB, s *fuzzServer, c *fuzzClient) (a, b []byte) {
	t.Helper()
	sent, _ := converse(t, s, c)
	return sent[0], bytes.Join(sent[1:], nil)
}

// FuzzServerFlight sends hostile bytes, as the whole output of a server, to a client that kind
// chooses.
//
// Reached in Go: answerVerify, takeChain, giveAnchors, anchorsOf, usePSK, clientPSK, passTicketExt
// and what makes the client's certificates. Reached in the shim: verify_with_pool,
// suspend_for_pool, write_chain, append_der, read_anchors, add_issuers, has_cert, give_staple,
// on_psk_use_session, on_psk_client, on_ticket_ext and shim_SSL_write_early_data.
// docs/peer-bytes.md has the coverage that shows it.
func FuzzServerFlight(f *testing.F) {
	clients := fuzzClients(f)
	for kind, flight := range serverFlights(f, clients) {
		for _, flight := range flight {
			f.Add(byte(kind), flight)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, flight []byte) {
		client := clients[int(kind)%len(clients)]
		leavesNothing(t, client.name, func() {
			c := client.conn(t, &recorder{arrived: bytes.NewReader(flight)})
			if err := c.Handshake(); err == nil {
				t.Errorf("%s: one flight completes a handshake", client.name)
			}
			readBack(t, c)
			must(t, c.Close())
		})
	})
}

// fuzzClients are clients that together use every feature of a client.
func fuzzClients(t testing.TB) []*fuzzClient {
	root, middle, leaf := fuzzChain(t)
	all := func(c *sslctx.Context) error {
		return firstError(c.RequestOCSP(true), c.SetVerify(sslctx.VerifyPeer), c.TrustCertPool(poolOf(fuzzRoot(t))), alpn(c),
			c.UseCertificate(tls.Certificate{Certificate: [][]byte{leaf.cert.Raw, middle.cert.Raw}, PrivateKey: leaf.key}),
			c.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { _ = s.Close() }))
	}
	any12 := func(c *sslctx.Context) error {
		return firstError(old(c), tellsPSK(c), c.SetCipherList("ALL:aNULL:PSK:@SECLEVEL=0"))
	}
	// Without this option a ServerHello must have the client's random ID.
	plain := func(c *sslctx.Context) error { return c.Configure("Options", "-MiddleboxCompat") }
	grease := func(c *sslctx.Context) error {
		if echGrease == 0 {
			return nil
		}
		return option(echGrease)(c)
	}
	const v12, v13 = sslctx.VersionTLS12, sslctx.VersionTLS13
	withTicket := func() *sslctx.Session { return fuzzDER(v12, wholeID, []byte("a ticket")) }
	early := newFuzzClient(t, "early data", v13, v13, offers(v13), plain, usesPSK)
	early.early = "early data"
	return []*fuzzClient{
		newFuzzClient(t, "TLS 1.2", sslctx.VersionTLS10, v12, nil, all, any12),
		newFuzzClient(t, "TLS 1.2, a session", v12, v12, offers(v12), all),
		newFuzzClient(t, "TLS 1.2, a ticket, and a store", v12, v12, withTicket, all, func(c *sslctx.Context) error { return c.TrustCertificate(middle.cert, root.cert) }),
		newFuzzClient(t, "TLS 1.3, a session", v13, v13, offers(v13), all, plain, usesPSK),
		early,
		newFuzzClient(t, "TLS 1.3", v12, v13, nil, all, plain, grease),
	}
}

// serverFlights are flights for each of the clients.
func serverFlights(f *testing.F, clients []*fuzzClient) [][][]byte {
	flights := make([][][]byte, len(clients))
	add := func(kind int, parts ...[]byte) { flights[kind] = append(flights[kind], bytes.Join(parts, nil)) }
	served := func(kind int, set ...func(*sslctx.Context) error) {
		e := newEnds(f, sslctx.VersionTLS13)
		must(f, firstError(e.server.SetMinProtoVersion(sslctx.VersionAny), stapledRSA(f)(e.server)))
		for _, set := range set {
			must(f, set(e.server))
		}
		_, sent := converse(f, &fuzzServer{Context: e.server}, clients[kind])
		add(kind, sent...)
		must(f, e.server.FlushSessions(farFuture()))
	}
	asks := asksForCertificate(f)
	cipher := func(list string) func(*sslctx.Context) error {
		return func(c *sslctx.Context) error { return firstError(c.SetCipherList(list+":@SECLEVEL=0"), knowsPSKKey(c)) }
	}
	for _, list := range []string{"AES128-SHA256", "AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256", "AECDH-AES128-SHA", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-AES128-CBC-SHA256"} {
		served(0, cipher(list), asks)
		served(0, cipher(list))
	}
	served(0, cipher("AES128-SHA:ECDHE-RSA-AES128-SHA"), old, func(c *sslctx.Context) error { return c.SetMaxProtoVersion(sslctx.VersionTLS10) })
	served(1, findsSession, noInternal, option(sslctx.OpNoTicket))
	served(1)
	served(2, cipher("AES128-SHA256"), asks)
	for kind := 3; kind < len(clients); kind++ {
		served(kind, findsSession, noInternal, option(sslctx.OpNoTicket))
		served(kind, findsPSK, asks)
		served(kind, func(c *sslctx.Context) error { return c.SetGroups("P-384") })
		for _, chosen := range [][]byte{nil, extension(extensionPSK, []byte{0, 0}), extension(extensionPSK, []byte{0, 1})} {
			share := extension(51, []byte{0, 0x1d}, vector(2, bytes.Repeat([]byte{9}, 32)))
			tail := []byte(record(20, "\x01") + record(23, times(60, "x")))
			add(kind, serverHello(make([]byte, 32), nil, 0x1301, extension(extensionVersions, []byte{3, 4}), share, chosen), tail)
		}
		again := sha256.Sum256([]byte("HelloRetryRequest"))
		add(kind, serverHello(again[:], nil, 0x1301, extension(extensionVersions, []byte{3, 4}), extension(51, []byte{0, 0x17}),
			extension(44, vector(2, []byte("cookie")))), serverHello(make([]byte, 32), nil, 0x1301))
	}
	for kind := range 3 {
		resumed := serverHello(make([]byte, 32), wholeID, 0xc02b, extension(0xff01, []byte{0}), extension(extensionTicket), extension(23))
		ticket := handshake(4, slices.Concat([]byte{0, 0, 1, 0}, vector(2, []byte("a new ticket"))))
		add(kind, resumed, ticket, []byte(record(20, "\x01")), []byte(record(22, times(40, "x"))))
		add(kind, []byte(alert(1, 0)))
	}
	return flights
}

func serverHello(random, id []byte, cipher int, extensions ...[]byte) []byte {
	return handshake(2, slices.Concat([]byte{3, 3}, random, vector(1, id), field(2, cipher, nil), []byte{0}, vector(2, extensions...)))
}

// stapledRSA gives a server an RSA certificate, which the root of fuzzChain signed through another,
// and an OCSP response.
func stapledRSA(t testing.TB) func(*sslctx.Context) error {
	_, middle, _ := fuzzChain(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	leaf := sign25519(t, "of RSA", middle, key.Public(), func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment })
	return func(c *sslctx.Context) error {
		return firstError(c.UseCertificate(tls.Certificate{Certificate: [][]byte{leaf.cert.Raw, middle.cert.Raw}, PrivateKey: key}),
			c.SetOCSPResponse(ocspResponse(t, leaf.cert, middle.cert, 64)))
	}
}
