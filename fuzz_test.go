// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"runtime"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// FuzzParseSession parses hostile DER. The result is an error, or a session that can be encoded and
// parsed again. There is no crash, no leak, and nothing left on the error queue.
//
// Reached in Go: ParseSession, parseDER, Bytes, takeBytes, String and the getters that it calls.
// Reached in the shim: shim_d2i_SSL_SESSION, shim_i2d_SSL_SESSION and take_errors.
// docs/peer-bytes.md has the coverage that shows it.
func FuzzParseSession(f *testing.F) {
	for _, v := range versions {
		der, err := fuzzSession(f, v).Bytes()
		must(f, err)
		f.Add(der)
		f.Add(der[:len(der)/2])
	}
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		fuzzOne(t, func() (*sslctx.Session, error) { return sslctx.ParseSession(der) })
	})
}

// FuzzParseSessionPEM reads hostile PEM.
//
// Reached in Go: ParseSessionPEM, and what FuzzParseSession reaches. Reached in the shim:
// shim_PEM_read_bio_SSL_SESSION, shim_d2i_SSL_SESSION and shim_i2d_SSL_SESSION. docs/peer-bytes.md
// has the coverage that shows it.
func FuzzParseSessionPEM(f *testing.F) {
	for _, v := range versions {
		text, err := fuzzSession(f, v).PEM()
		must(f, err)
		f.Add(text)
	}
	f.Add([]byte("-----BEGIN SSL SESSION PARAMETERS-----\nProc-Type: 4,ENCRYPTED\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzOne(t, func() (*sslctx.Session, error) { return sslctx.ParseSessionPEM(text) })
	})
}

// FuzzTicketAppData puts data into a session, and reads it back from its DER.
//
// Reached in Go: SetTicketAppData, TicketAppData, Dup and ParseSession. Reached in the shim:
// shim_SSL_SESSION_set1_ticket_appdata, shim_SSL_SESSION_get0_ticket_appdata, shim_SSL_SESSION_dup
// and shim_d2i_SSL_SESSION. docs/peer-bytes.md has the coverage that shows it.
func FuzzTicketAppData(f *testing.F) {
	from := fuzzSession(f, sslctx.VersionTLS13)
	f.Add([]byte(nil))
	f.Add([]byte("data"))
	f.Add(bytes.Repeat([]byte{0}, 70_000))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzOne(t, func() (*sslctx.Session, error) {
			s, err := from.Dup()
			must(t, err)
			defer s.Close()
			if err := s.SetTicketAppData(data); err != nil {
				return nil, err
			}
			der, err := s.Bytes()
			must(t, err)
			back, err := sslctx.ParseSession(der)
			if err == nil && !bytes.Equal(back.TicketAppData(), data) {
				t.Errorf("%d bytes come back of %d", len(back.TicketAppData()), len(data))
			}
			return back, err
		})
	})
}

// recorder is a transport whose peer sends fixed bytes and then nothing more.
type recorder struct {
	net.Conn
	arrived *bytes.Reader
	sent    bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.arrived == nil {
		return 0, io.EOF
	}
	return r.arrived.Read(p)
}
func (r *recorder) Write(p []byte) (int, error)      { return r.sent.Write(p) }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

func fuzzSession(f *testing.F, v sslctx.Version) *sslctx.Session { return clientSession(f, v) }

func fuzzOne(t *testing.T, read func() (*sslctx.Session, error)) {
	leavesNothing(t, "the session", func() {
		if s, err := read(); err == nil {
			fixpoint(t, s)
			must(t, s.Close())
		}
	})
}

// leavesNothing runs the fuzzed code: it must end, and leave no object alive and nothing on the
// error queue.
func leavesNothing(t *testing.T, what string, run func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	watch := time.AfterFunc(5*time.Minute, func() { panic("this input has not come to an end in five minutes") })
	defer watch.Stop()
	closeHookSessions()
	sessions, ssls := ossltest.LiveSessions(), ossltest.LiveSSLs()
	run()
	closeHookSessions()
	if n := ossltest.LiveSessions(); n > sessions { // it may be less: sessions of earlier tests were collected
		t.Errorf("%s: %d sessions are alive, %d before", what, n, sessions)
	}
	if n := ossltest.LiveSSLs(); n > ssls {
		t.Errorf("%s: %d SSLs are alive, %d before", what, n, ssls)
	}
	if c := ossltest.PeekError(); c != 0 {
		t.Errorf("the error queue holds %#x", c)
	}
}

// fixpoint checks that a parsed session is encoded the same each time.
func fixpoint(t *testing.T, s *sslctx.Session) {
	_ = s.String()
	der, err := s.Bytes()
	if err != nil {
		return // libssl reads more than it writes
	}
	again, err := sslctx.ParseSession(der)
	if err != nil {
		t.Fatalf("what Bytes returns is refused: %v\n%x", err, der)
	}
	defer again.Close()
	if got, err := again.Bytes(); err != nil || !bytes.Equal(got, der) {
		t.Errorf("DER changes on its way:\n%x\n%x, %v", der, got, err)
	}
}

// sessionDER encodes a session from now, for a day, that allows early data, with an ID and a
// ticket. A server's cache finds it by the ID; a client of TLS 1.3 offers the ticket.
func sessionDER(v sslctx.Version, id, ticket []byte) []byte {
	cipher, flags, early := []byte{0x13, 1}, 0, fuzzEarlyData
	if v != sslctx.VersionTLS13 {
		cipher, flags, early = []byte{0xc0, 0x2b}, 1, 0 // the flag is for the extended master secret
	}
	born := int(time.Now().Unix()) - 1 // libssl's clock may be some milliseconds behind
	return sure(asn1.Marshal(struct {
		Format, Version int
		Cipher, ID, Key []byte
		Time            int    `asn1:"explicit,tag:1"`
		Timeout         int    `asn1:"explicit,tag:2"`
		Hint            int    `asn1:"explicit,optional,tag:9"`
		Ticket          []byte `asn1:"explicit,optional,omitempty,tag:10"`
		Flags           int    `asn1:"explicit,optional,tag:13"`
		Early           int    `asn1:"explicit,optional,tag:15"`
	}{1, int(v), cipher, id, bytes.Repeat([]byte{5}, 48)[:48-16*(early/fuzzEarlyData)], born, 24 * 3600,
		24 * 3600, ticket, flags, early}))
}

// fuzzKeyOf makes the key of a name: the same one in each process.
func fuzzKeyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// An authentic is a certificate and its Ed25519 key. They are the same in each process.
type authentic struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

func sign25519(t testing.TB, name string, by *authentic, public crypto.PublicKey, change func(*x509.Certificate)) *authentic {
	t.Helper()
	key := fuzzKeyOf(name)
	if public == nil {
		public = key.Public()
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(1_600_000_000, 0), NotAfter: time.Unix(4_000_000_000, 0), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authentic{cert, key}
}

// fuzzChain makes a root, an intermediate and a leaf.
func fuzzChain(t testing.TB) (root, middle, leaf *authentic) {
	root = sign25519(t, "root", nil, nil, authority)
	middle = sign25519(t, "middle", root, nil, authority)
	return root, middle, sign25519(t, "leaf", middle, nil, nil)
}

// fuzzRoot is the root of fuzzChain, for poolOf.
func fuzzRoot(t testing.TB) *issued {
	root, _, _ := fuzzChain(t)
	return &issued{Cert: root.cert}
}

// stapled13 gives a server a certificate that the root signed, and an OCSP response for it.
func stapled13(t testing.TB) func(*sslctx.Context) error {
	root := issue(t, "root", nil, authority)
	leaf := issue(t, "leaf", root, nil)
	return func(c *sslctx.Context) error {
		return firstError(c.UseCertificate(leaf.TLSCertificate(root)), c.SetOCSPResponse(ocspResponse(t, leaf.Cert, root.Cert, 64)))
	}
}

// findsPSK gives a server the key of fuzzPSK.
func findsPSK(c *sslctx.Context) error {
	return firstError(c.SetCiphersuites("TLS_AES_128_GCM_SHA256"),
		c.SetPSKFindSessionCallback(func(_ context.Context, _ *sslctx.Conn, id []byte) *sslctx.Session {
			if string(id) != fuzzPSK {
				return nil
			}
			return lend(fuzzDER(sslctx.VersionTLS13, nil, nil))
		}))
}

// usesPSK makes a client offer it.
func usesPSK(c *sslctx.Context) error {
	return c.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) {
		return []byte(fuzzPSK), lend(fuzzDER(sslctx.VersionTLS13, nil, nil))
	})
}

// tellsPSK makes a client of TLS 1.2 use a key.
func tellsPSK(c *sslctx.Context) error {
	return firstError(c.SetCipherList("PSK"), c.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) { return fuzzPSK, pskKey }))
}

// firstFlight returns the bytes that a client sends before it receives any.
func firstFlight(t testing.TB, v sslctx.Version, offer *sslctx.Session, early string, set ...func(*sslctx.Context) error) []byte {
	t.Helper()
	client := newContext(t, sslctx.TLSClientMethod)
	must(t, client.SetMinProtoVersion(v))
	must(t, client.SetMaxProtoVersion(v))
	for _, set := range set {
		must(t, set(client))
	}
	sent := &recorder{}
	c, err := sslctx.Client(sent, client)
	must(t, err)
	must(t, c.AcceptAnyName())
	must(t, c.SetServerName("localhost"))
	if offer != nil {
		must(t, c.SetSession(offer))
	}
	if early != "" {
		_, err := c.WriteEarlyData([]byte(early))
		must(t, err)
	}
	if c.Handshake() == nil {
		t.Fatal("a handshake without a server")
	}
	must(t, c.Close())
	closeHookSessions()
	return sent.sent.Bytes()
}

// fuzzTicket makes a session with a ticket of one of the ticketKeys.
func fuzzTicket(t testing.TB, v sslctx.Version, key []byte) *sslctx.Session {
	e := newEnds(t, v)
	current, err := sslctx.ParseTicketKey(key)
	must(t, firstError(err, e.server.SetTicketKeyRing(ringOf(current, nil, nil)), e.server.SetCiphersuites("TLS_AES_128_GCM_SHA256"), e.server.SetMaxEarlyData(fuzzEarlyData),
		option(sslctx.OpNoAntiReplay)(e.server)))
	_, err = e.server.SetTimeout(24 * time.Hour)
	must(t, err)
	return e.session(t)
}

// firstFlights are flights of good clients of every kind.
func firstFlights(t testing.TB) (all [][]byte) {
	type setter = func(*sslctx.Context) error
	add := func(v sslctx.Version, offer *sslctx.Session, early string, set ...setter) {
		all = append(all, firstFlight(t, v, offer, early, set...))
	}
	asks := func(c *sslctx.Context) error { return c.RequestOCSP(true) }
	const v12, v13 = sslctx.VersionTLS12, sslctx.VersionTLS13
	for _, v := range versions {
		ticket, err := fuzzTicket(t, v, fuzzTicketKey).Bytes()
		must(t, err)
		// A failed connection marks its session: so each has its own.
		named := func(early string, set ...setter) { add(v, fuzzClientSession(v), early, set...) }
		ticketed := func(early string, set ...setter) { add(v, parseSession(t, ticket), early, set...) }
		add(v, nil, "", asks, alpn)
		named("")
		named("", option(sslctx.OpNoTicket))
		ticketed("", alpn)
		add(v, fuzzTicket(t, v, fuzzOldKey), "")
		if v == v13 {
			named("early data")
			ticketed("early data")
			named("", usesPSK)
			ticketed("early data", usesPSK)
			if echGrease != 0 {
				named("", option(echGrease))
				ticketed("early data", option(echGrease))
			}
		}
	}
	add(v13, nil, "", usesPSK)
	add(v13, nil, "early data", usesPSK)
	add(v13, nil, "", tellsPSK)
	add(v12, nil, "", tellsPSK)
	add(v12, nil, "", func(c *sslctx.Context) error { return c.SetMaxFragmentLength(sslctx.MaxFragment512) })
	add(sslctx.VersionTLS10, nil, "", old)
	add(sslctx.VersionTLS11, nil, "", old, alpn)
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		sent := &recorder{}
		_ = tls.Client(sent, &tls.Config{ServerName: "localhost", NextProtos: []string{"h2"}, MinVersion: v, MaxVersion: v}).Handshake()
		all = append(all, sent.sent.Bytes())
	}
	return append(all, ticketExtFlight(t))
}

// ticketExtFlight has the application's data in its extension for tickets.
func ticketExtFlight(t testing.TB) []byte {
	client := newContext(t, sslctx.TLSClientMethod)
	must(t, client.SetMaxProtoVersion(sslctx.VersionTLS12))
	sent := &recorder{}
	c, err := sslctx.Client(sent, client)
	must(t, err)
	must(t, c.AcceptAnyName())
	must(t, c.SetSessionTicketExt([]byte("data")))
	_ = c.Handshake()
	must(t, c.Close())
	return sent.sent.Bytes()
}
