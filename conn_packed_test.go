// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"sslctx"
)

// A packer sits on a lane and puts the contents of two records into one, as a peer may: two handshake messages. It has
// the keys. Later records are sealed anew, for their numbers change.
type packer struct {
	keys   func() *recordKeys // nil as long as there are none
	ready  *recordKeys
	held   []byte // the plaintext of the first
	number uint64 // of the next record that comes
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

// nonce returns the nonce of a record, and what is authenticated beside its n bytes of plaintext.
func (k *recordKeys) nonce(number uint64, header []byte, n int) (nonce, added []byte) {
	seq := binary.BigEndian.AppendUint64(nil, number)
	if !k.tls13 { // RFC 5288: the number is also the part of the nonce that is sent
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

// tamper is for a lane.
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
	if err != nil { // it is of before
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

// keys12 takes the keys of an end from a key log and from the randoms, which are sent in the clear (RFC 5246, 6.3).
func keys12(t *testing.T, log string, serverRandom []byte, r role) *recordKeys {
	fields := strings.Fields(log)
	i := slices.Index(fields, "CLIENT_RANDOM")
	if i < 0 || serverRandom == nil {
		return nil
	}
	clientRandom, err := hex.DecodeString(fields[i+1])
	must(t, err)
	master, err := hex.DecodeString(fields[i+2])
	must(t, err)
	sum := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, master)
		for _, p := range parts {
			_, _ = h.Write(p)
		}
		return h.Sum(nil)
	}
	seed := slices.Concat([]byte("key expansion"), serverRandom, clientRandom)
	var block []byte
	for a := sum(seed); len(block) < 40; a = sum(a) {
		block = append(block, sum(a, seed)...)
	}
	if r == clientRole {
		return newRecordKeys(block[:16], block[32:36], false)
	}
	return newRecordKeys(block[16:32], block[36:40], false)
}

// packedEnds makes ends in memory, in which the records of one are packed: Finished and what follows.
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

// TestFinishedAndHelloRequest: a server asks for a renegotiation in the record of its Finished, and the client, which
// only reads, answers.
func TestFinishedAndHelloRequest(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	must(t, e.server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"))
	server, client := packedEnds(t, e, nil, serverRole)
	testPacked(t, e, server, client)
}

// TestFinishedAndClientHello: a client, whose Finished is the last of a resumed handshake, renegotiates in its record,
// and the server, which only reads, answers.
func TestFinishedAndClientHello(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	must(t, e.server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"))
	server, client := packedEnds(t, e, e.session(t), clientRole)
	testPacked(t, e, client, server)
}

// testPacked has one end ask for a renegotiation, in the record of its Finished, and then both only read.
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

// TestTicketsInOneRecord: a client without ModeAutoRetry reads both tickets of one record, and the data behind them.
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
