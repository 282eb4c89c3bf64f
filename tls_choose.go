// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"bytes"
	"container/list"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
)

// maxMadeContexts is how many contexts are kept for what a config chooses by the ClientHello.
const maxMadeContexts = 256

// setChoice sets the hook for the ClientHello, if a server with this config has a choice.
func (m *tlsMaker) setChoice(c *Context, config *tls.Config, role tlsRole) error {
	chooses := len(config.Certificates) > 1 || config.GetCertificate != nil || config.GetConfigForClient != nil
	if role&tlsServer == 0 || m.chosen || !chooses {
		return nil
	}
	made := &madeContexts{limit: maxMadeContexts, trusts: m.trusts}
	t := &tlsChooser{made: made, trusts: m.trusts}
	t.first = &madeContext{config: config, reader: readerOf(config)}
	for i := range config.Certificates { // so that a bad one is an error now
		chosen, err := t.certificate(m.fn, t.first, &config.Certificates[i])
		if err != nil {
			made.retire()
			return badField(m.fn, fmt.Sprintf("Certificates[%d]", i), err)
		}
		chosen.end()
	}
	c.made = made
	return c.setHelloHook(t.choose)
}

// A tlsChooser chooses a context by the ClientHello, as crypto/tls chooses a config and a
// certificate.
type tlsChooser struct {
	first  *madeContext // of the config; its Context is the one that the connection has
	made   *madeContexts
	trusts *trustIDs
}

// choose is the hook for the ClientHello.
func (t *tlsChooser) choose(ctx context.Context, said clientHello) (helloAnswer, error) {
	return readHello(ctx, said, t.first.reader, func(info *tls.ClientHelloInfo) (helloAnswer, error) {
		get := t.first.config.GetConfigForClient
		if get == nil {
			return t.pick(info, t.first)
		}
		config, err := get(info)
		switch {
		case err != nil:
			return helloAnswer{}, err
		case config == nil:
			return t.pick(info, t.first)
		}
		return t.follow(ctx, said, config)
	})
}

// follow continues with the config that GetConfigForClient chose.
func (t *tlsChooser) follow(ctx context.Context, said clientHello, config *tls.Config) (helloAnswer, error) {
	m, err := t.made.get(madeKey{config: config}, func() (*madeContext, error) { return t.makeChosen(config) })
	if err != nil {
		return helloAnswer{}, err
	}
	answer, err := readHello(ctx, said, m.reader, func(info *tls.ClientHelloInfo) (helloAnswer, error) { return t.pick(info, m) })
	if err != nil || answer.chosen != nil {
		t.made.release(m)
		return answer, err
	}
	return helloAnswer{m.Context, func() { t.made.release(m) }}, nil
}

const chosenBy = "GetConfigForClient"

// makeChosen makes the context of a config that GetConfigForClient chose.
func (t *tlsChooser) makeChosen(config *tls.Config) (*madeContext, error) {
	config = cloneTLS(config)
	if err := t.checkChosen(config); err != nil {
		return nil, err
	}
	m := tlsMaker{fn: chosenBy, chosen: true, trusts: t.trusts}
	c, err := m.make(config, tlsServer)
	if err != nil {
		return nil, err
	}
	return &madeContext{Context: c, config: config, reader: readerOf(config)}, nil
}

// checkChosen refuses a chosen config that differs in what libssl keeps of the first context.
func (t *tlsChooser) checkChosen(config *tls.Config) error {
	first := t.first.config
	low, high, err := tlsVersions(chosenBy, config)
	if err != nil {
		return err
	}
	firstLow, firstHigh, _ := tlsVersions(chosenBy, first)
	for _, field := range []struct {
		name string
		same bool
	}{
		{"MinVersion", low == firstLow},
		{"MaxVersion", high == firstHigh},
		{"CurvePreferences", slices.Equal(config.CurvePreferences, first.CurvePreferences)},
		{"SessionTicketsDisabled", config.SessionTicketsDisabled == first.SessionTicketsDisabled},
	} {
		if !field.same {
			return badArgument(chosenBy, "config."+field.name, "differs from the first config, and libssl does not change it any more")
		}
	}
	return nil
}

// errNoTLSCertificate has the alert of crypto/tls: unrecognized_name.
var errNoTLSCertificate = fmt.Errorf("sslctx: the config has no certificate for the client (%w)", tls.AlertError(112))

// pick chooses a certificate of a config, by the rules of crypto/tls. Without a context in the
// answer the config's own context has it.
func (t *tlsChooser) pick(info *tls.ClientHelloInfo, of *madeContext) (helloAnswer, error) {
	config := of.config
	if config.GetCertificate != nil && (len(config.Certificates) == 0 || info.ServerName != "") {
		cert, err := config.GetCertificate(info)
		if err != nil {
			return helloAnswer{}, err
		}
		if cert != nil {
			return t.certificate("GetCertificate", of, cert)
		}
	}
	if len(config.Certificates) == 0 {
		return helloAnswer{}, errNoTLSCertificate
	}
	for i := range config.Certificates {
		if len(config.Certificates) == 1 || info.SupportsCertificate(&config.Certificates[i]) == nil {
			return t.certificate("Certificates", of, &config.Certificates[i])
		}
	}
	return t.certificate("Certificates", of, &config.Certificates[0])
}

// certificate returns a context for a certificate of a config.
func (t *tlsChooser) certificate(fn string, of *madeContext, cert *tls.Certificate) (helloAnswer, error) {
	config := of.config
	if len(config.Certificates) > 0 && cert == &config.Certificates[0] {
		return helloAnswer{}, nil
	}
	if err := checkTLSCertificate(fn, "certificate", *cert); err != nil {
		return helloAnswer{}, err
	}
	key := madeKey{of.key.config, digestOf(cert)}
	m, err := t.made.get(key, func() (*madeContext, error) {
		own := cloneTLS(config)
		own.Certificates = []tls.Certificate{*cert}
		m := tlsMaker{fn: fn, chosen: true, trusts: t.trusts}
		c, err := m.make(own, tlsServer)
		if err != nil {
			return nil, err
		}
		return &madeContext{Context: c}, nil
	})
	if err != nil {
		return helloAnswer{}, err
	}
	return helloAnswer{m.Context, func() { t.made.release(m) }}, nil
}

// digestOf identifies a certificate: its chain, its OCSP staple and its key.
func digestOf(cert *tls.Certificate) (sum [sha256.Size]byte) {
	h := sha256.New()
	add := func(part []byte) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part)))
		h.Write(part)
	}
	for _, der := range cert.Certificate {
		add(der)
	}
	add(nil)
	add(cert.OCSPStaple)
	if key, ok := cert.PrivateKey.(crypto.Signer); ok {
		der, _ := x509.MarshalPKIXPublicKey(key.Public())
		add(der)
	}
	fmt.Fprintf(h, "%T", cert.PrivateKey)
	return [sha256.Size]byte(h.Sum(nil))
}

// ---- The contexts ----

// A madeKey says what a context was made for. A config that was chosen stands for itself, since it
// does not change; nil is the first one.
type madeKey struct {
	config *tls.Config
	cert   [sha256.Size]byte // zero: that of the config
}

// A madeContext is a context that a madeContexts keeps. users and dropped are guarded by its lock.
type madeContext struct {
	*Context
	key     madeKey
	config  *tls.Config // a copy of the one that was chosen, nil for a certificate
	reader  *tls.Config
	users   int  // handshakes that are about to use it
	dropped bool // it is closed when it has no user
}

// madeContexts keeps contexts that were made for configs and certificates. Those that were not used
// for the longest time are dropped first. A connection holds the SSL_CTX of its context by itself.
type madeContexts struct {
	trusts *trustIDs

	mu     sync.Mutex
	limit  int
	byKey  map[madeKey]*list.Element // of *madeContext
	recent list.List                 // what was used last is the first
}

// get returns the context for a key, for the caller to release. It makes one if there is none, and
// holds no lock meanwhile.
func (s *madeContexts) get(key madeKey, build func() (*madeContext, error)) (*madeContext, error) {
	if m := s.use(key, nil); m != nil {
		return m, nil
	}
	built, err := build()
	if err != nil {
		return nil, err
	}
	built.key = key
	m := s.use(key, built)
	if m != built { // another handshake was faster
		_ = built.Close()
	}
	return m, nil
}

// use returns the context for a key. If there is none, it keeps added, which may be nil.
func (s *madeContexts) use(key madeKey, added *madeContext) *madeContext {
	s.mu.Lock()
	e := s.byKey[key]
	if e == nil && added != nil {
		if s.byKey == nil {
			s.byKey = make(map[madeKey]*list.Element)
		}
		e = s.recent.PushFront(added)
		s.byKey[key] = e
	}
	if e == nil {
		s.mu.Unlock()
		return nil
	}
	m := e.Value.(*madeContext)
	m.users++
	s.recent.MoveToFront(e)
	unused := s.shrink()
	s.mu.Unlock()
	closeAll(unused)
	return m
}

// release ends the use of a context by a handshake.
func (s *madeContexts) release(m *madeContext) {
	s.mu.Lock()
	m.users--
	unused := m.dropped && m.users == 0
	s.mu.Unlock()
	if unused {
		_ = m.Close()
	}
}

// retire drops all contexts. Later ones are closed after their use. s may be nil.
func (s *madeContexts) retire() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.limit = 0
	unused := s.shrink()
	s.mu.Unlock()
	closeAll(unused)
}

// rebase drops all contexts, so that they are made again with an ID context of the program's. s may be nil.
func (s *madeContexts) rebase(id []byte) {
	if s == nil {
		return
	}
	s.trusts.setBase(id)
	s.mu.Lock()
	limit := s.limit
	s.limit = 0
	unused := s.shrink()
	s.limit = limit
	s.mu.Unlock()
	closeAll(unused)
}

// shrink drops contexts down to the limit, and returns those that nobody is about to use. mu is
// held.
func (s *madeContexts) shrink() (unused []*madeContext) {
	for s.recent.Len() > s.limit {
		m := s.recent.Remove(s.recent.Back()).(*madeContext)
		delete(s.byKey, m.key)
		m.dropped = true
		if m.users == 0 {
			unused = append(unused, m)
		}
	}
	return unused
}

func closeAll(made []*madeContext) {
	for _, m := range made {
		_ = m.Close()
	}
}

// ---- The ClientHello for crypto/tls ----

// Only crypto/tls can make a ClientHelloInfo with a context, and with a config for
// SupportsCertificate. So a server of crypto/tls reads the ClientHello, and ends where it would
// choose a config.

var errHelloRead = errors.New("sslctx: the ClientHello was read")

// readerOf returns a config for readHello.
func readerOf(config *tls.Config) *tls.Config {
	reader := config.Clone()
	reader.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		h := info.Conn.(*helloReader)
		info.Conn = h.conn
		h.read = true
		h.answer, h.err = h.choose(info)
		return nil, errHelloRead
	}
	return reader
}

// readHello calls choose with what crypto/tls reads of a ClientHello for a config. A ClientHello that
// it refuses fails the handshake.
func readHello(ctx context.Context, said clientHello, reader *tls.Config,
	choose func(*tls.ClientHelloInfo) (helloAnswer, error)) (helloAnswer, error) {
	h := &helloReader{conn: said.info.Conn, choose: choose}
	h.records.Write(recordsOf(said.copied))
	err := tls.Server(h, reader).HandshakeContext(ctx)
	if !h.read {
		const decodeError = tls.AlertError(50)
		return helloAnswer{}, fmt.Errorf("sslctx: crypto/tls cannot read the ClientHello: %w (%w)", err, decodeError)
	}
	return h.answer, h.err
}

// A helloReader is the transport of that server. What the server sends is dropped.
type helloReader struct {
	net.Conn // nil
	records  bytes.Buffer
	conn     net.Conn
	choose   func(*tls.ClientHelloInfo) (helloAnswer, error)
	read     bool
	answer   helloAnswer
	err      error
}

func (h *helloReader) Read(p []byte) (int, error) {
	if h.records.Len() == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return h.records.Read(p)
}

func (h *helloReader) Write(p []byte) (int, error) { return len(p), nil }
func (h *helloReader) Close() error                { return nil }

// recordsOf makes records of a ClientHello that the shim copied. The copy has neither the random
// number nor the compression methods, and neither is seen by a hook.
func recordsOf(copied []byte) (records []byte) {
	const maxRecord, handshake, major, hello = 1 << 14, 22, 3, 1
	r := wire(copied)
	version := r.take(2)
	id, suites := r.vector(1), r.vector(2)
	body := append(slices.Clone(version), make([]byte, randomLength)...)
	body = append(append(body, byte(len(id))), id...)
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(suites))), suites...)
	body = append(body, 1, 0) // one compression method: none
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(r))), r...)
	message := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	message[0] = hello
	for part := range slices.Chunk(message, maxRecord) {
		records = append(records, handshake, major, 1)
		records = append(binary.BigEndian.AppendUint16(records, uint16(len(part))), part...)
	}
	return records
}
