// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sslctx"
)

// FuzzRecords sends hostile records to a connection whose handshake is over, sealed with the keys
// of its peer. The connection reads them. kind chooses the end and its version. script says what is
// sent (sendScript). The transport delivers it in pieces; their sizes are the bytes of cuts,
// repeated.
//
// The connection never reads more, or other data, than was sealed.
//
// Reached in Go: Read, readBuffered, readable, all of buffer.go that reads (wholeRecords, input),
// deliver and the hook for new sessions. Reached in the shim: go_bio_read, go_bio_write,
// shim_SSL_read, shim_conn_end, on_new_session, shim_write_certs, and for a renegotiation
// shim_on_client_hello. docs/peer-bytes.md has the coverage that shows it.
func FuzzRecords(f *testing.F) {
	e := recordEnds(f)
	for kind := range byte(len(e.all)) {
		for _, script := range recordScripts {
			f.Add(kind, []byte{0}, []byte(script))
			f.Add(kind, []byte{4, 0, 255}, []byte(script))
		}
		f.Add(kind, []byte{99}, []byte(strings.Join(recordScripts, "")))
		f.Add(kind, []byte{6, 20}, []byte(times(6, recordScripts[0])))
		f.Add(kind, []byte(nil), []byte(times(9, recordScripts[len(recordScripts)-1])))
	}
	f.Fuzz(func(t *testing.T, kind byte, cuts, script []byte) {
		one := e.all[int(kind)%len(e.all)]
		leavesNothing(t, one.name, func() {
			c, transport, sealer := one.meet(t, e.cert)
			defer func() { must(t, c.Close()) }()
			transport.cuts = cuts
			var want []byte
			sendScript(script, sealer, func(sent []byte, data string) {
				want = append(want, data...)
				_, err := transport.peer.Write(sent)
				must(t, err)
			})
			transport.peer.Out.End(io.EOF)
			got, err := io.ReadAll(c)
			if !bytes.HasPrefix(want, got) {
				t.Errorf("%q is read of %q", got, want)
			}
			readBack(t, c)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it does not see the end of its transport")
			}
		})
	})
}

// recordScripts have sealed records: data, no data, alerts, close_notify, a KeyUpdate with and
// without a request, a ticket of TLS 1.3 and of 1.2, a request for a certificate, HelloRequest,
// half a message, a renegotiation. They also have unsealed bytes.
var recordScripts = []string{
	scriptStep(0, 23, "some data"), scriptStep(0, 23, ""), scriptStep(0, 21, "\x01\x5a"), scriptStep(0, 21, "\x02\x28"), scriptStep(0, 21, "\x01\x00"),
	scriptStep(0, 22, "\x18\x00\x00\x01\x01"), scriptStep(0, 22, "\x18\x00\x00\x01\x00"), scriptStep(0, 22, "\x18\x00\x00\x01\x07"),
	scriptStep(0, 22, "\x04\x00\x00\x14\x00\x00\x10\x00\x01\x02\x03\x04\x01n\x00\x06ticket\x00\x00"),
	scriptStep(0, 22, "\x04\x00\x00\x0c\x00\x00\x10\x00\x00\x06ticket"),
	scriptStep(0, 22, "\x0d\x00\x00\x0b\x00\x00\x08\x00\x0d\x00\x04\x00\x02\x04\x03"),
	scriptStep(0, 22, "\x00\x00\x00\x00"), scriptStep(0, 22, "\x18\x00"), scriptStep(0, 20, "\x01"), scriptStep(0, 99, "x"), scriptStep(0, 0, ""),
	scriptStep(1, 23, "no seal"), scriptStep(2, 22, "\x16\x03\x03\x40"), scriptStep(2, 0, "\x80\x00"), scriptStep(3, 23, "a bad seal"),
	scriptStep(4, 22, ""), scriptStep(4, 22, string(extension(extensionTicket))) + scriptStep(0, 23, "data of before"), scriptStep(5, 23, "with padding"), scriptStep(6, 23, times(255, "x")),
}

// scriptStep is one step of a script.
func scriptStep(how, kind byte, body string) string {
	return string([]byte{how, kind, byte(len(body))}) + body
}

// sendScript reads a script. A step has three bytes (how, kind, length), and then its bytes. It
// sends a record that is sealed (0), in clear (1), the bytes alone (2), a record with a broken seal
// (3), a ClientHello that would renegotiate, with the bytes as extensions (4), a record with 200
// bytes of padding (5), and a record with the bytes 64 times (6).
func sendScript(script []byte, s sealer, send func(sent []byte, data string)) {
	for steps := 0; len(script) >= 3 && steps < 64; steps++ {
		how, kind, n := script[0]%7, script[1], min(int(script[2]), len(script)-3)
		body := string(script[3 : 3+n])
		script = script[3+n:]
		switch how {
		case 0:
			send([]byte(s.seal(kind, body, 0)), dataIn(kind, body))
		case 1:
			send([]byte(record(kind, body)), "")
		case 2:
			send([]byte(body), "")
		case 3:
			sealed := []byte(s.seal(kind, body, 0))
			sealed[len(sealed)-1] ^= 1
			send(sealed, "")
		case 4:
			hello := hello(nil, append(slices.Clip(mutualExtensions), extension(0xff01, vector(1, s.finished())), []byte(body))...)
			send([]byte(s.seal(22, string(hello[5:]), 0)), "")
		case 5:
			send([]byte(s.seal(kind, body, 200)), dataIn(kind, body))
		case 6:
			body := strings.Repeat(body, 64)
			send([]byte(s.seal(kind, body, 0)), dataIn(kind, body))
		}
	}
}

// dataIn returns the data in a record. In TLS 1.3 the kind of a record is its last byte that is not
// zero.
func dataIn(kind byte, body string) string {
	const data = 23
	last := strings.TrimRight(body, "\x00")
	switch {
	case kind == data:
		return body
	case kind == 0 && strings.HasSuffix(last, string(rune(data))):
		return last[:len(last)-1]
	}
	return ""
}

// A sealer has the keys of a connection's peer.
type sealer interface {
	seal(kind byte, body string, padding int) string
	finished() []byte // the content of the client's first Finished, if known
}

func (f *forger) finished() []byte { return nil }

// A forger12 is a forger for TLS 1.2, which has no padding.
type forger12 struct {
	aead cipher.AEAD
	iv   []byte
	seq  uint64
	said []byte
}

func (f *forger12) finished() []byte { return f.said }

func (f *forger12) seal(kind byte, body string, _ int) string {
	seq := binary.BigEndian.AppendUint64(nil, f.seq)
	f.seq++
	header := slices.Concat([]byte{kind, 3, 3}, field(2, len(body), nil))
	sealed := f.aead.Seal(seq, append(bytes.Clone(f.iv), seq...), []byte(body), append(seq[:8:8], header...))
	return string(slices.Concat(header[:3], vector(2, sealed)))
}

// keyBlock12 makes the key and the IV of an end for a cipher suite with AES-128-GCM (RFC 5246,
// 6.3): from the line CLIENT_RANDOM of a key log, and the random that the server sent.
func keyBlock12(t *testing.T, keyLog string, serverRandom []byte, ofClient bool) (key, iv []byte) {
	t.Helper()
	fields := strings.Fields(keyLog)
	fields = fields[slices.Index(fields, "CLIENT_RANDOM"):]
	clientRandom, err := hex.DecodeString(fields[1])
	must(t, err)
	master, err := hex.DecodeString(fields[2])
	must(t, err)
	sum := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, master)
		for _, p := range parts {
			_, _ = h.Write(p)
		}
		return h.Sum(nil)
	}
	seed := slices.Concat([]byte("key expansion"), serverRandom, clientRandom)
	var keys []byte
	for a := sum(seed); len(keys) < 40; a = sum(a) {
		keys = append(keys, sum(a, seed)...)
	}
	if ofClient {
		return keys[:16], keys[32:36]
	}
	return keys[16:32], keys[36:40]
}

// newForger12 makes a forger for TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 with the keys of a key
// log.
func newForger12(t *testing.T, keyLog string, serverRandom []byte, ofClient bool) *forger12 {
	t.Helper()
	key, iv := keyBlock12(t, keyLog, serverRandom, ofClient)
	block, err := aes.NewCipher(key)
	must(t, err)
	aead, err := cipher.NewGCM(block)
	must(t, err)
	return &forger12{aead: aead, iv: iv, seq: 1} // the Finished had 0
}

// A cutWire is an end of a wire that delivers its input in pieces.
type cutWire struct {
	*wireEnd
	peer *wireEnd
	cuts []byte
	read int
}

func (w *cutWire) Read(p []byte) (int, error) {
	if len(w.cuts) > 0 {
		p = p[:min(len(p), 1+int(w.cuts[w.read%len(w.cuts)]))]
		w.read++
	}
	return w.wireEnd.Read(p)
}

// A recordEnd is one kind of connection of FuzzRecords.
type recordEnd struct {
	name string
	*sslctx.Context
	role    role
	version sslctx.Version
}

type recordTargets struct {
	cert tls.Certificate
	all  []recordEnd
}

func recordEnds(f *testing.F) (all recordTargets) {
	f.Helper()
	pair := testPair(f)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(f, err)
	all.cert = cert
	for _, v := range versions {
		e := newEnds(f, v)
		must(f, e.client.TrustCertificates(pair.Cert))
		for _, c := range []*sslctx.Context{e.server, e.client} {
			must(f, firstError(c.SetCiphersuites("TLS_AES_128_GCM_SHA256"), c.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"),
				c.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { _ = s.Close() }), noInternal(c)))
		}
		_, err := e.client.SetSessionCacheMode(sslctx.SessCacheBoth | sslctx.SessCacheNoInternal)
		must(f, err)
		must(f, firstError(option(sslctx.OpAllowClientRenegotiation)(e.server), findsSession(e.server),
			e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil })))
		all.all = append(all.all, recordEnd{"server, " + v.String(), e.server, serverRole, v}, recordEnd{"client, " + v.String(), e.client, clientRole, v})
	}
	return all
}

// meet completes a handshake with crypto/tls, and takes its keys.
func (e *recordEnd) meet(t *testing.T, cert tls.Certificate) (c *sslctx.Conn, transport *cutWire, s sealer) {
	t.Helper()
	var keyLog strings.Builder
	config := &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, SessionTicketsDisabled: true,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, KeyLogWriter: &keyLog}
	transport = &cutWire{}
	serverEnd, clientEnd := wire()
	var err error
	var peer *tls.Conn
	label := "CLIENT_TRAFFIC_SECRET_0"
	if e.role == serverRole {
		transport.wireEnd, transport.peer = serverEnd, clientEnd
		c, err = sslctx.Server(transport, e.Context)
		peer = tls.Client(clientEnd, config)
	} else {
		label = "SERVER_TRAFFIC_SECRET_0"
		transport.wireEnd, transport.peer = clientEnd, serverEnd
		c, err = sslctx.Client(transport, e.Context)
		peer = tls.Server(serverEnd, config)
	}
	must(t, err)
	if e.role == clientRole {
		must(t, c.AcceptAnyName())
	}
	errs := make(chan error, 1)
	go func() { errs <- peer.Handshake() }()
	must(t, c.Handshake())
	must(t, <-errs)
	must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	if e.version == sslctx.VersionTLS13 {
		return c, transport, newForger(t, keyLog.String(), label)
	}
	random, err := c.ServerRandom()
	must(t, err)
	f := newForger12(t, keyLog.String(), random, e.role == serverRole)
	f.said = peer.ConnectionState().TLSUnique
	return c, transport, f
}
