// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// A packer changes a lane: it puts the contents of two records, two handshake messages, into one,
// as a peer may do. It has the keys. It seals later records again, because their numbers change.
type packer struct {
	keys   func() *recordKeys // nil as long as there are none
	ready  *recordKeys
	held   []byte // the plaintext of the first
	number uint64 // of the next record that arrives
	packed bool
	over   bool // new keys, by a renegotiation
}

// recordKeys are the keys of one direction, AES-128-GCM.
type recordKeys struct {
	aead  cipher.AEAD
	iv    []byte
	tls13 bool
}

func newRecordKeys(key, iv []byte, tls13 bool) *recordKeys {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &recordKeys{aead, iv, tls13}
}

// nonce returns the nonce of a record, and the data that is authenticated with its n bytes of
// plaintext.
func (k *recordKeys) nonce(number uint64, header []byte, n int) (nonce, added []byte) {
	seq := binary.BigEndian.AppendUint64(nil, number)
	if !k.tls13 { // RFC 5288: the sent part of the nonce is the number
		added = append(bytes.Clone(seq), header[:3]...)
		return slices.Concat(k.iv, seq), binary.BigEndian.AppendUint16(added, uint16(n))
	}
	nonce = bytes.Clone(k.iv)
	for i := range seq {
		nonce[4+i] ^= seq[i]
	}
	return nonce, header
}

func (k *recordKeys) open(number uint64, record []byte) ([]byte, error) {
	header, body := record[:5], record[5:]
	var sent []byte // of the nonce
	if !k.tls13 {
		if len(body) < 8+k.aead.Overhead() {
			return nil, errors.New("too short")
		}
		sent, body = body[:8], body[8:]
	}
	nonce, added := k.nonce(number, header, len(body)-k.aead.Overhead())
	copy(nonce[4:], sent)
	return k.aead.Open(nil, nonce, body, added)
}

func (k *recordKeys) seal(number uint64, kind byte, plain []byte) []byte {
	n := len(plain) + k.aead.Overhead()
	if !k.tls13 {
		n += 8
	}
	header := []byte{kind, 3, 3, byte(n >> 8), byte(n)}
	nonce, added := k.nonce(number, header, len(plain))
	record := bytes.Clone(header)
	if !k.tls13 {
		record = append(record, nonce[4:]...)
	}
	return k.aead.Seal(record, nonce, plain, added)
}

// tamper is a function for Lane.Tamper.
func (p *packer) tamper(sent []byte) (out []byte, err error) {
	for len(sent) > 0 {
		n := 5 + int(binary.BigEndian.Uint16(sent[3:]))
		out = append(out, p.record(sent[:n])...)
		sent = sent[n:]
	}
	return out, nil
}

func (p *packer) record(record []byte) []byte {
	if p.ready == nil {
		p.ready = p.keys()
	}
	if p.ready == nil || p.over {
		return record
	}
	plain, err := p.ready.open(p.number, record)
	if err != nil { // it is sealed with the keys before
		return record
	}
	kind := record[0]
	number := p.number
	p.number++
	switch {
	case p.held == nil:
		p.held = plain
		return nil
	case p.packed:
		p.over = kind == 20
		return p.ready.seal(number-1, kind, plain)
	}
	p.packed = true
	if p.ready.tls13 { // the type is behind the content
		p.held = p.held[:len(p.held)-1]
	}
	return p.ready.seal(number-1, kind, append(p.held, plain...))
}

// keys12 reads the keys of an end from a key log. It returns nil if they are not there yet.
func keys12(t *testing.T, log string, serverRandom []byte, r role) *recordKeys {
	if !strings.Contains(log, "CLIENT_RANDOM ") || serverRandom == nil {
		return nil
	}
	key, iv := keyBlock12(t, log, serverRandom, r == clientRole)
	return newRecordKeys(key, iv, false)
}

// packedEnds makes ends in memory. A packer joins the Finished of one end with the next record.
func packedEnds(t *testing.T, e ends, offer *sslctx.Session, from role) (server, client *sslctx.Conn) {
	t.Helper()
	var log strings.Builder
	logger := e.server
	if from == clientRole {
		logger = e.client
	}
	must(t, logger.SetKeyLogWriter(&log))
	s, c := wire()
	server, client = e.over(t, s, c, offer)
	var serverRandom []byte
	p := &packer{keys: func() *recordKeys { return keys12(t, log.String(), serverRandom, from) }}
	s.Out.Tamper = func(sent []byte) ([]byte, error) {
		if serverRandom == nil && sent[0] == 22 && sent[5] == 2 {
			serverRandom = bytes.Clone(sent[11:43])
		}
		if from == serverRole {
			return p.tamper(sent)
		}
		return sent, nil
	}
	if from == clientRole {
		c.Out.Tamper = p.tamper
	}
	for _, end := range []*sslctx.Conn{server, client} {
		must(t, end.SetDeadline(time.Now().Add(20*time.Second)))
	}
	return server, client
}

// TestFinishedAndHelloRequest: a server requests a renegotiation in the record of its Finished. The
// client only reads, and answers.
func TestFinishedAndHelloRequest(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	must(t, e.server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"))
	server, client := packedEnds(t, e, nil, serverRole)
	testPacked(t, e, server, client)
}

// TestFinishedAndClientHello: a client sends the last Finished of a resumed handshake, and
// renegotiates in the same record. The server only reads, and answers.
func TestFinishedAndClientHello(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	must(t, e.server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"))
	server, client := packedEnds(t, e, e.session(t), clientRole)
	testPacked(t, e, client, server)
}

// testPacked: one end requests a renegotiation in the record of its Finished. Then both only read.
func testPacked(t *testing.T, e ends, packs, reads *sslctx.Conn) {
	t.Helper()
	start := func(c *sslctx.Conn) <-chan error {
		end := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(c)
			end <- err
		}()
		return end
	}
	completed := func() (client, server int) {
		return e.client.CacheStats().ConnectGood, e.server.CacheStats().AcceptGood
	}
	client, server := completed()
	read := start(reads)
	must(t, packs.Handshake())
	must(t, packs.Renegotiate())
	answered := start(packs)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, s := completed(); c == client+2 && s == server+2 { // a renegotiation is one, too
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the end that only reads does not answer")
		}
	}
	must(t, packs.CloseWrite())
	must(t, <-read)
	must(t, reads.CloseWrite())
	must(t, <-answered)
}

// TestTicketsInOneRecord: a client without ModeAutoRetry reads both tickets of one record, and the
// data behind them.
func TestTicketsInOneRecord(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
	_, err := e.client.ClearMode(sslctx.ModeAutoRetry)
	must(t, err)
	var log strings.Builder
	must(t, e.server.SetKeyLogWriter(&log))
	s, c := wire()
	server, client := e.over(t, s, c, nil)
	const label = "SERVER_TRAFFIC_SECRET_0"
	p := &packer{keys: func() *recordKeys {
		if !strings.Contains(log.String(), label) {
			return nil
		}
		f := newForger(t, log.String(), label)
		return &recordKeys{f.aead, f.iv, true}
	}}
	s.Out.Tamper = p.tamper
	must(t, client.SetDeadline(time.Now().Add(10*time.Second)))
	shake(t, server, client)
	_, err = server.Write([]byte("data"))
	must(t, err)
	buf := make([]byte, 4)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "data" {
		t.Errorf("Read gives %q, %v", buf, err)
	}
	if !p.packed {
		t.Error("nothing was packed")
	}
}

// A forger seals any records of TLS 1.3, like a hostile peer that has the keys.
type forger struct {
	aead cipher.AEAD
	iv   []byte
	seq  uint64
}

// newForger reads the keys from a key log of crypto/tls.
func newForger(t *testing.T, keyLog, label string) *forger {
	t.Helper()
	_, after, ok := strings.Cut(keyLog, label+" ")
	if !ok {
		t.Fatalf("no %s in %q", label, keyLog)
	}
	secret, err := hex.DecodeString(strings.Fields(after)[1])
	must(t, err)
	expand := func(label string, n int) []byte { // RFC 8446, 7.1
		label = "tls13 " + label
		info := string([]byte{0, byte(n), byte(len(label))}) + label + "\x00"
		out, err := hkdf.Expand(sha256.New, secret, info, n)
		must(t, err)
		return out
	}
	block, err := aes.NewCipher(expand("key", 16))
	must(t, err)
	aead, err := cipher.NewGCM(block)
	must(t, err)
	return &forger{aead: aead, iv: expand("iv", 12)}
}

// seal makes a record with the inner type kind, and padding.
func (f *forger) seal(kind byte, body string, padding int) string {
	nonce := bytes.Clone(f.iv)
	last := nonce[4:]
	binary.BigEndian.PutUint64(last, binary.BigEndian.Uint64(last)^f.seq)
	f.seq++
	inner := body + string(kind) + times(padding, "\x00")
	header := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(inner)+f.aead.Overhead()))
	return string(f.aead.Seal(header, nonce, []byte(inner), header))
}

// TestForgedRecords: a peer completed the handshake, and seals its records correctly. It sends what
// no correct peer sends.
func TestForgedRecords(t *testing.T) {
	anySSL := new(sslctx.Error)
	const data, handshake, alerts = 23, 22, 21
	for name, test := range map[string]struct {
		kind    byte
		body    string
		padding int
		count   int
		want    error
	}{
		"empty data":              {kind: data, count: 1000, want: anySSL},
		"padding alone":           {kind: data, padding: 1000, count: 1000, want: anySSL},
		"a few empty records":     {kind: data, count: 5, want: os.ErrDeadlineExceeded},
		"empty handshake records": {kind: handshake, count: 1000, want: anySSL},
		"empty alerts":            {kind: alerts, count: 1, want: anySSL},
		"no type":                 {kind: 0, count: 1, want: anySSL},
		"unknown type":            {kind: 99, body: "x", count: 1, want: anySSL},
		"change_cipher_spec":      {kind: 20, body: "\x01", count: 1, want: anySSL},
		"too much plaintext":      {kind: data, body: times(16385, "x"), count: 1, want: anySSL},
		"fatal alert": {kind: alerts, body: "\x02\x28", count: 1,
			want: sslctx.Reason{Library: sslctx.LibSSL, Code: 1040}},
		"warnings":          {kind: alerts, body: "\x01\x5a", count: 1000, want: anySSL},
		"one user_canceled": {kind: alerts, body: "\x01\x5a", count: 1, want: os.ErrDeadlineExceeded},
		"close_notify":      {kind: alerts, body: "\x01\x00", count: 1, want: io.EOF},
		"two in one record": {kind: alerts, body: "\x01\x5a\x01\x00", count: 1, want: anySSL},
		"unknown message":   {kind: handshake, body: "\x63\x00\x00\x01x", count: 1, want: anySSL},
		"a second Finished": {kind: handshake, body: "\x14\x00\x00\x20" + times(32, "x"), count: 1, want: anySSL},
		"a bad KeyUpdate":   {kind: handshake, body: "\x18\x00\x00\x01\x07", count: 1, want: anySSL},
		"KeyUpdate and more in its record": {kind: handshake, body: "\x18\x00\x00\x01\x00\x18", count: 1,
			want: anySSL},
		"half a message":     {kind: handshake, body: "\x18\x00\x00", count: 1, want: os.ErrDeadlineExceeded},
		"a message too long": {kind: handshake, body: "\x04\xff\xff\xff" + times(16000, "x"), count: 1, want: anySSL},
		"a renegotiation":    {kind: handshake, body: "\x00\x00\x00\x00", count: 1, want: anySSL},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []role{serverRole, clientRole} {
				t.Run(string(r), func(t *testing.T) {
					e := newEnds(t, sslctx.VersionTLS13)
					for _, c := range []*sslctx.Context{e.server, e.client} {
						must(t, c.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
					}
					pair := testPair(t)
					cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
					must(t, err)
					must(t, e.client.TrustCertificates(pair.Cert))
					before := ossltest.LiveSSLs()
					synctest.Test(t, func(t *testing.T) {
						noQueue(t)
						c, transport := r.conn(t, e)
						defer c.Close()
						f := theirs(t, c, transport, cert, r)
						for range test.count {
							_, err := io.WriteString(transport, f.seal(test.kind, test.body, test.padding))
							must(t, err)
						}
						must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
						for range 2 {
							_, err := c.Read(make([]byte, 100))
							wantEnd(t, "Read", err, test.want)
						}
						_, err := c.Write([]byte("x"))
						switch test.want {
						case io.EOF, os.ErrDeadlineExceeded: // the connection may continue
							must(t, err)
						default:
							wantEnd(t, "Write", err, test.want)
						}
					})
					if n := ossltest.LiveSSLs(); n > before {
						t.Errorf("%d SSLs are alive, %d before", n, before)
					}
				})
			}
		})
	}
}

// theirs completes a handshake of the Conn with crypto/tls over the transport. It returns a forger
// with the keys of the crypto/tls end.
func theirs(t *testing.T, c *sslctx.Conn, transport *wireEnd, cert tls.Certificate, r role) *forger {
	t.Helper()
	var keyLog strings.Builder
	config := &tls.Config{
		Certificates:           []tls.Certificate{cert},
		InsecureSkipVerify:     true, // in a bubble the certificate is not valid yet
		SessionTicketsDisabled: true,
		KeyLogWriter:           &keyLog,
	}
	peer, label := tls.Client(transport, config), "CLIENT_TRAFFIC_SECRET_0"
	if r == clientRole {
		peer, label = tls.Server(transport, config), "SERVER_TRAFFIC_SECRET_0"
	}
	errs := make(chan error)
	go func() { errs <- peer.Handshake() }()
	must(t, c.Handshake())
	must(t, <-errs)
	return newForger(t, keyLog.String(), label)
}

// TestWriteBeforePeersEnd: close_notify comes with the end of a renegotiation. The Write that waits
// for the end goes on.
func TestWriteBeforePeersEnd(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	holds := &holdsSecond{Conn: s, held: make(chan struct{})}
	server, client := renegotiating(t).over(t, holds, c, nil)
	exchange(t, server, client)
	holds.begin()
	must(t, client.Renegotiate())
	wrote := make(chan error, 1)
	go func() { _, err := client.Write([]byte("y")); wrote <- err }()
	read := make(chan error, 1)
	go func() { _, err := server.Read(make([]byte, 1)); read <- err }()
	<-holds.held
	must(t, server.CloseWrite())
	must(t, holds.release())
	must(t, <-wrote)
	must(t, <-read)
}

// A holdsSecond transport sends the first flight after begin, and holds the rest until release.
type holdsSecond struct {
	net.Conn
	mu     sync.Mutex
	writes int // after begin
	begun  bool
	rest   []byte
	held   chan struct{} // closed when it holds something
}

func (h *holdsSecond) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writes++; !h.begun || h.writes == 1 {
		return h.Conn.Write(p)
	}
	if h.rest == nil {
		close(h.held)
	}
	h.rest = append(h.rest, p...)
	return len(p), nil
}

func (h *holdsSecond) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun, h.writes = true, 0
}

func (h *holdsSecond) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.Conn.Write(h.rest)
	return err
}

// longNamed returns a certificate with so many names that no buffer for output has room for it.
func longNamed(t *testing.T, name string, root *issued) *issued {
	return issue(t, name, root, func(c *x509.Certificate) {
		c.DNSNames = append(c.DNSNames, name)
		for i := range 400 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("%040d.example", i))
		}
	})
}

// renegotiatingLong makes ends whose client may renegotiate, and whose server has such a certificate.
func renegotiatingLong(t *testing.T, root *issued) ends {
	t.Helper()
	e := bare(t, sslctx.VersionTLS12, longNamed(t, "localhost", root).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	_, err := e.server.SetOptions(sslctx.OpAllowClientRenegotiation)
	must(t, err)
	return e
}

// comesTrue reports whether a condition comes true within awaitLimit.
func comesTrue(over func() bool) bool {
	for end := time.Now().Add(awaitLimit); !over(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// TestLongAnswerInRead: a Read sends a message for which there was no room at once. Both ends only
// read, so nothing else sends the rest.
func TestLongAnswerInRead(t *testing.T) {
	for _, hook := range []bool{false, true} {
		root := issue(t, "root", nil, authority)
		listen := func(e ends) {
			if hook {
				must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { _ = s.Close() }))
			}
		}
		readBoth := func(server, client *sslctx.Conn, over func() bool) {
			t.Helper()
			for _, c := range []*sslctx.Conn{server, client} {
				go func() { _, _ = c.Read(make([]byte, 1)) }()
			}
			if !comesTrue(over) {
				t.Fatalf("with a hook %v: it is not over, although both ends read", hook)
			}
			must(t, errors.Join(server.Abort(), client.Abort()))
		}

		e, _ := pha(t)
		must(t, e.server.TrustCertificate(root.Cert))
		must(t, e.client.UseCertificate(longNamed(t, "user", root).TLSCertificate()))
		listen(e)
		server, client := e.connect(t, nil)
		must(t, server.VerifyClientPostHandshake())
		readBoth(server, client, func() bool { return len(server.ConnectionState().PeerCertificates) > 0 })

		e = renegotiatingLong(t, root)
		listen(e)
		server, client = e.connect(t, nil)
		must(t, client.Renegotiate())
		readBoth(server, client, func() bool { return e.client.CacheStats().ConnectGood == 2 })
	}
}

// TestLongAnswerAfterDeadline: a deadline for writes ends a Read in the middle of a long message.
// After the deadline is lifted, the next Read sends the rest, and CloseWrite sends it before
// close_notify.
func TestLongAnswerAfterDeadline(t *testing.T) {
	root := issue(t, "root", nil, authority)
	for _, closes := range []bool{false, true} {
		e := renegotiatingLong(t, root)
		server, client := e.connect(t, nil)
		must(t, client.Renegotiate())
		must(t, server.SetWriteDeadline(time.Unix(1, 0)))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read returns %v", err)
		}
		must(t, server.SetWriteDeadline(time.Time{}))
		must(t, client.SetReadDeadline(time.Now().Add(awaitLimit)))
		got := make(chan error, 1)
		go func() { _, err := client.Read(make([]byte, 1)); got <- err }()
		if closes {
			must(t, server.CloseWrite())
		}
		go func() {
			_, _ = server.Read(make([]byte, 1)) // the client's end of the renegotiation
			_ = server.CloseWrite()
		}()
		if !closes {
			if !comesTrue(func() bool { return e.client.CacheStats().ConnectGood == 2 }) {
				t.Fatal("the renegotiation is not over")
			}
			must(t, server.SetReadDeadline(time.Unix(1, 0)))
		}
		if err := <-got; err != io.EOF {
			t.Errorf("with CloseWrite at once %v: the client reads %v", closes, err)
		}
		must(t, errors.Join(server.Abort(), client.Abort()))
	}
}

// TestLongHelloBesideRead: a Read takes a part of a record while Renegotiate sends a long
// ClientHello. libssl refuses to continue a handshake beside such data, except in a read.
func TestLongHelloBesideRead(t *testing.T) {
	if tlstest.Instrumented {
		t.Skip("libssl leaks the ticket of SetSessionTicketExt in a renegotiation (docs/deviations.md)")
	}
	e := renegotiating(t)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	s, c := tcpPair(t)
	inWrite, release := make(chan bool), make(chan bool)
	var pauses atomic.Bool
	transport := writeHook{c, func() error {
		if pauses.CompareAndSwap(true, false) {
			inWrite <- true
			<-release
		}
		return nil
	}}
	server, client := e.over(t, s, transport, nil)
	must(t, client.SetSessionTicketExt(make([]byte, 6000)))
	a, b := handshakeBoth(server, client)
	must(t, errors.Join(a, b))
	data := bytes.Repeat([]byte("data"), 2500)
	_, err = server.Write(data)
	must(t, err)
	pauses.Store(true)
	done := make(chan error, 1)
	go func() { done <- client.Renegotiate() }()
	<-inWrite
	go func() { _, _ = io.Copy(io.Discard, server) }()
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	close(release)
	must(t, <-done)
	rest := make([]byte, len(data)-1)
	if _, err := io.ReadFull(client, rest); err != nil || !bytes.Equal(rest, data[1:]) {
		t.Errorf("the rest of the data: %v", err)
	}
	must(t, errors.Join(server.Abort(), client.Abort()))
}

// TestClientGoneInLongTicket: a client is gone when its server, after an authentication, sends tickets
// for which there is no room at once. As after the handshake the server ignores that, in a Read and
// in NewSessionTicket, and reads what the client sent.
func TestClientGoneInLongTicket(t *testing.T) {
	e, _ := pha(t)
	root := issue(t, "root", nil, authority)
	must(t, e.server.TrustCertificate(root.Cert))
	must(t, e.client.UseCertificate(longNamed(t, "user", root).TLSCertificate()))
	for _, later := range []bool{false, true} {
		s, c := tcpPair(t)
		var gone atomic.Bool
		transport := writeHook{s, func() error {
			if gone.Load() {
				return io.ErrClosedPipe
			}
			return nil
		}}
		server, client := e.over(t, transport, c, nil)
		exchange(t, server, client)
		must(t, server.VerifyClientPostHandshake())
		_, err := server.Write([]byte{1})
		must(t, err)
		_, err = client.Read(make([]byte, 1))
		must(t, err)
		_, err = client.Write([]byte("data"))
		must(t, err)
		must(t, client.CloseWrite())
		if later {
			_, err = io.ReadFull(server, make([]byte, 3))
			must(t, err)
			gone.Store(true)
			if err := server.NewSessionTicket(); err != nil && !unsupported(err) {
				t.Errorf("NewSessionTicket returns %v", err)
			}
		}
		gone.Store(true)
		got, err := io.ReadAll(server)
		if want := map[bool]string{false: "data", true: "a"}[later]; string(got) != want || err != nil {
			t.Errorf("the server reads %q, %v", got, err)
		}
		if n := len(server.ConnectionState().PeerCertificates); n != 1 {
			t.Errorf("the client has %d certificates", n)
		}
		must(t, errors.Join(server.Abort(), client.Abort()))
	}
}

// A writeHook is a transport that calls a function before each Write. Its error is the Write's.
type writeHook struct {
	net.Conn
	before func() error
}

func (w writeHook) Write(p []byte) (int, error) {
	if err := w.before(); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// TestCloseNotifyWithoutRoom: a client's Read returns data, and has sent only a part of a long answer.
// CloseWrite and Close send the rest, and then close_notify, for which there is sometimes only a part of the
// room: the lengths of the answer go once around the buffer.
func TestCloseNotifyWithoutRoom(t *testing.T) {
	const buffer, first = 4608, 9000
	step := 16 // less than the length of close_notify
	if tlstest.Instrumented {
		step = 160
	}
	e, _ := pha(t)
	root := issue(t, "root", nil, authority)
	must(t, e.server.TrustCertificate(root.Cert))
	for n := first; n < first+buffer; n += step {
		must(t, e.client.UseCertificate(issue(t, "user", root, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, n)})
		}).TLSCertificate()))
		for name, end := range map[string]func(*sslctx.Conn) error{"CloseWrite": (*sslctx.Conn).CloseWrite, "Close": (*sslctx.Conn).Close} {
			serverEnd, clientEnd := tlstest.Wire()
			server, client := e.over(t, serverEnd, clientEnd, nil)
			exchange(t, server, client)
			_, err := server.Write([]byte("hello"))
			must(t, err)
			must(t, server.VerifyClientPostHandshake())
			if got, err := client.Read(make([]byte, 100)); got != 5 || err != nil {
				t.Fatalf("the client reads %d bytes, %v", got, err)
			}
			var refused *sslctx.Error
			err = client.Renegotiate() // it is refused, and the connection continues; 4.0 first sends the message
			if ossltest.LinkedVersion() < 0x40000000 && !errors.As(err, &refused) {
				t.Errorf("Renegotiate in TLS 1.3 returns %v", err)
			}
			must(t, server.SetReadDeadline(time.Now().Add(10*time.Second)))
			read := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, server)
				read <- err
			}()
			if err, readErr := end(client), <-read; err != nil || readErr != nil {
				t.Errorf("%s after an answer with %d bytes: %v; the server reads until %v", name, n, err, readErr)
			}
			must(t, errors.Join(client.Close(), server.Close()))
		}
		if t.Failed() {
			return
		}
	}
}
