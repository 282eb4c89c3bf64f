// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// A forger seals records of TLS 1.3 as a peer that has the keys and does what it likes.
type forger struct {
	aead cipher.AEAD
	iv   []byte
	seq  uint64
}

// newForger takes the keys from a key log of crypto/tls.
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

// seal makes a record of a kind inside, with padding.
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

// TestForgedRecords: a peer that completed the handshake, and whose records are sealed well, sends what no
// good peer sends.
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
						case io.EOF, os.ErrDeadlineExceeded: // no reason not to go on
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

// theirs completes a handshake of the Conn with crypto/tls over the transport, and makes a forger with the
// keys of that end.
func theirs(t *testing.T, c *sslctx.Conn, transport *wireEnd, cert tls.Certificate, r role) *forger {
	t.Helper()
	var keyLog strings.Builder
	config := &tls.Config{
		Certificates:           []tls.Certificate{cert},
		InsecureSkipVerify:     true, // in a bubble the certificate's time has not come
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
