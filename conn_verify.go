// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unsafe"
	"weak"
)

// A VerifyResult is libssl's result for the peer's certificate: an X509_V_ code.
type VerifyResult int

// String returns OpenSSL's text for the result.
//
// Wraps [X509_verify_cert_error_string].
//
// [X509_verify_cert_error_string]: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
func (r VerifyResult) String() string {
	return C.GoString(C.X509_verify_cert_error_string(C.long(r)))
}

// isUntrusted reports whether no chain leads to a trusted certificate.
func (r VerifyResult) isUntrusted() bool {
	switch r {
	case C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
		C.X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, C.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
		C.X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return true
	}
	return false
}

// Two results of verification. OpenSSL's headers have the others.
const (
	VerifyOK          VerifyResult = C.X509_V_OK              // also the result if the peer showed no certificate
	VerifyUnspecified VerifyResult = C.X509_V_ERR_UNSPECIFIED // there was no verification, as for a session of NewSession
)

var (
	// ErrNoServerName says that a client verifies the server's certificate without a name: it would
	// accept any trusted certificate.
	ErrNoServerName = errors.New("sslctx: a client that verifies has no name to verify: " +
		"SetServerName, AcceptAnyName or Dialer.InsecureSkipVerify must say whom it talks to")

	// ErrUnverifiedSession says that a client offered a session that a server must not resume: the
	// session has no certificate where the server asks for one, or its certificate has expired or
	// is not trusted. libssl has removed the session from the cache, and the client's next
	// handshake is a full one. It is also the error of NewSessionTicket when the trust of the
	// context has changed since the handshake began.
	ErrUnverifiedSession = errors.New("sslctx: the session was made without the verification that the server asks for")

	// ErrPeerChanged says that a server showed another certificate in a renegotiation (TLS 1.2) than
	// before, or none. The connections of a Dialer, and of a Context of a tls.Config, end with it.
	ErrPeerChanged = errors.New("sslctx: the server showed another certificate in a renegotiation")
)

// A CertificateError says that Go cannot read a certificate of the peer's, although libssl can. The
// handshake fails with it, also with VerifyNone, so that a program which looks at the peer's
// certificates sees all of them.
type CertificateError struct {
	Index int   // the number of the certificate; 0 is the peer's own
	Err   error // the error of crypto/x509
}

// Error names the certificate and the reason.
func (e *CertificateError) Error() string {
	return fmt.Sprintf("sslctx: certificate %d of those that the peer sent cannot be read: %v", e.Index, e.Err)
}

// Unwrap returns the reason.
func (e *CertificateError) Unwrap() error { return e.Err }

// peer is the other end's identity. Conn.mu guards it.
type peer struct {
	certs    []*x509.Certificate // in libssl's order, the peer's own first
	verified bool
	chain    []*x509.Certificate // of a verified peer, once it was asked for
	trust    uint64              // trustLosses of the connection's context when the connection was made
}

// verifiedBy says which context verified the peer of a session, and by what trust.
type verifiedBy struct {
	ctx   *ctxState
	trust uint64
}

// markVerified records in a handle that c verified the peer of its session. Nobody else has the
// handle yet. It waits for no call of the connection.
func (c *Conn) markVerified(s *Session) {
	_, known, _ := c.outcome()
	if h := s.ctxState.Load(); h == c.p.ctxs.sessionCtx && known.verified {
		s.verifiedBy = verifiedBy{h, known.trust}
	}
}

// AcceptAnyName lets a client accept a trusted certificate for any host. A client that verifies
// needs this or SetServerName: otherwise its handshake fails with ErrNoServerName. A name of
// SetServerName is still sent to the server, but no longer verified. A later SetServerName turns
// that verification on again. AcceptAnyName must come before the handshake: ErrHandshakeStarted.
//
// Any holder of a certificate from a trusted authority can then take the server's place. It is for
// private authorities with a single server, and for programs that check [Conn.ConnectionState]
// themselves. In TLS 1.2 a server may show another certificate in a renegotiation. So one check is
// enough only with OpNoRenegotiation, which refuses renegotiations.
//
// Wraps [SSL_get0_param], X509_VERIFY_PARAM_set1_host, X509_VERIFY_PARAM_set1_ip.
//
// [SSL_get0_param]: https://docs.openssl.org/3.0/man3/SSL_CTX_get0_param/
func (c *Conn) AcceptAnyName() error {
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.shim_SSL_get0_param(r.p)
	c.named, c.host = true, ""
	return nil
}

// SetVerify is [Context.SetVerify] for one connection. It must come before the handshake:
// ErrHandshakeStarted. If a hook for the ClientHello chooses another context, the setting of that
// context counts.
//
// Wraps [SSL_set_verify].
//
// [SSL_set_verify]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Conn) SetVerify(m VerifyMode) error {
	if err := checkVerify(m); err != nil {
		return err
	}
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.shim_SSL_set_verify(r.p, C.int(m))
	return nil
}

// noteTrust checks whether the trust of the context has changed since the connection was made, to less
// or to more. libssl has copied some of that trust then. A server makes no session that could be
// resumed: the session would not tell by what trust the client was verified. The configuration locks
// are held.
func (c *Conn) noteTrust() {
	if c.server && c.peer.trust != c.p.ctxs.sessionCtx.trustLosses.Load() {
		C.shim_SSL_withhold_sessions(c.p.p)
	}
}

// checkStart refuses a handshake that would accept any name. c.mu is held.
func (c *Conn) checkStart(r connRef) error {
	if c.nameErr != nil {
		return c.nameErr
	}
	if c.started {
		return nil
	}
	state := r.ctxs.sessionCtx
	changed := c.peer.trust != state.trustLosses.Load()
	r.p.trust_changed = boolInt(changed || c.offered != verifiedBy{state, c.peer.trust})
	if !c.server && !c.named && r.p.verifies != 0 {
		return ErrNoServerName
	}
	return nil
}

// readPeer reads the peer's certificates when they have changed. It ends the connection if it
// cannot read them, or if a Dialer's server shows another certificate than before. waiting is the
// length of c.out before the call into libssl. Output of that call is then dropped, so that the
// peer does not learn that the handshake is over. c.mu is held.
func (c *Conn) readPeer(ref connRef, r *callResult, waiting int) {
	if ref.p.peer_changed == 0 || r.err != nil {
		return
	}
	ref.p.peer_changed = 0
	before := c.peer
	c.peer = peer{verified: ref.p.peer_verified != 0, trust: c.peer.trust}
	c.peer.certs, r.err = readAll(&ref.p.peer_certs)
	if r.err == nil && c.samePeer && !c.peer.continues(before) {
		r.err = ErrPeerChanged
	}
	if r.err != nil {
		c.peer = before
		c.refused = r.err
		c.refusedPeer.Store(true)
		r.sslError, r.n, r.hasPending = C.SSL_ERROR_SSL, 0, false
		c.out, r.hasOutput = c.out[:waiting], waiting > 0
	}
}

// continues reports whether the peer has the certificate that it had before, if it had one.
func (p *peer) continues(before peer) bool {
	return len(before.certs) == 0 || len(p.certs) > 0 && p.certs[0].Equal(before.certs[0])
}

// readAll reads all certificates that libssl has from a peer.
func readAll(der *C.shim_bytes) (certs []*x509.Certificate, err error) {
	if der.errs != nil {
		err = newError("SSL_get_peer_cert_chain", der.errs)
		der.errs = nil
		return nil, err
	}
	for rest := unsafe.Slice((*byte)(der.p), int(der.n)); len(rest) > 0; {
		cert, after, err := firstCertificate(rest)
		if err != nil {
			return nil, &CertificateError{len(certs), err}
		}
		certs, rest = append(certs, cert), after
	}
	return certs, nil
}

// firstCertificate reads the first of several certificates.
func firstCertificate(der []byte) (cert *x509.Certificate, rest []byte, err error) {
	var first asn1.RawValue
	if rest, err = asn1.Unmarshal(der, &first); err != nil {
		return nil, nil, err
	}
	cert, err = certificates.parse(first.FullBytes)
	return cert, rest, err
}

// verifiedChain returns the chain by which a peer of this connection was verified, and keeps it. It
// returns nil if the peer was not verified. If there is no chain and none can be made in time, it
// returns the certificates that the peer sent.
func (c *Conn) verifiedChain(known peer) []*x509.Certificate {
	if !known.verified || known.chain != nil {
		return known.chain
	}
	limit := waitLimit{untilClosed: true, until: time.Now().Add(searchPatience)}
	now, made, search := c.findChain(known, limit)
	if now.chain != nil { // another call has found it
		return now.chain
	}
	chain := readableChain(made.der)
	if chain == nil && search != nil {
		found := false
		if chain, found = c.awaitSearch(search); !found {
			return known.certs // a later call finds the chain, if the search has ended
		}
	}
	if chain == nil {
		if now.certs == nil { // nothing was looked for
			return known.certs
		}
		chain = known.certs
	}
	if c.lockWithin(&c.mu, limit) == nil {
		defer c.mu.Unlock()
		if slices.Equal(c.peer.certs, known.certs) {
			c.peer.chain = chain
			c.keepPeer()
		}
	}
	return chain
}

// findChain makes the chain of a peer that was verified, or has a search look for it. now is the
// peer with what is known by now. It is the zero peer if findChain did not look. That is so if the
// connection is closed, is busy beyond the limit, has another peer by now, or still searches for
// another peer.
func (c *Conn) findChain(known peer, limit waitLimit) (now peer, made C.shim_chain, search *chainSearch) {
	r, err := c.beginWithin(limit)
	if err != nil {
		return now, made, nil
	}
	defer c.end(r)
	switch {
	case !slices.Equal(c.peer.certs, known.certs):
		return now, made, nil
	case c.peer.chain != nil:
	case c.search.isFor(known.certs):
		search = c.search
	case c.search != nil && !c.search.isOver():
		return now, made, nil
	default:
		made = C.shim_SSL_get0_verified_chain(r.p)
		if pool := pools.get(uintptr(made.pool)); pool != nil {
			c.search = startSearch(pool, known.certs)
			search = c.search
		}
	}
	return c.peer, made, search
}

// searchPatience is how long ConnectionState waits for a chain. A search may run constraints of a
// CertPool. ConnectionState waits for one once in a connection. While another call of the
// connection waits for a hook, each ConnectionState waits.
const searchPatience = time.Second

// A chainSearch looks for a chain to a pool. It runs on a goroutine of its own, since a constraint
// of the pool is a function of the application, which may panic, end its goroutine, or wait. A
// connection has at most one search at a time.
type chainSearch struct {
	certs []*x509.Certificate
	began time.Time
	over  chan struct{}       // closed when chain is set
	chain []*x509.Certificate // nil if there is none, and if a constraint panicked
}

func startSearch(pool *x509.CertPool, certs []*x509.Certificate) *chainSearch {
	s := &chainSearch{certs: certs, began: time.Now(), over: make(chan struct{})}
	go func() {
		defer close(s.over) // also if a constraint ends the goroutine
		_ = catchPanic(func() { s.chain = chainOf(pool, certs) })
	}()
	return s
}

func (s *chainSearch) isFor(certs []*x509.Certificate) bool {
	return s != nil && slices.Equal(s.certs, certs)
}

func (s *chainSearch) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// awaitSearch waits until a search is over. In the first slotPatience of the search nothing else
// ends the wait, because nearly all searches need less. After that Close, a deadline of the
// connection or searchPatience also ends it.
func (c *Conn) awaitSearch(s *chainSearch) (chain []*x509.Certificate, found bool) {
	if s.isOver() || waitAny(s.began.Add(slotPatience), nil, s.over, nil, nil) {
		return s.chain, true
	}
	ctx, stop := c.startWait(context.Background())
	defer stop()
	if waitAny(s.began.Add(searchPatience), ctx, s.over, nil, nil) {
		return s.chain, true
	}
	return nil, false
}

// keepPeer keeps the peer for the time after Close. c.mu is held.
func (c *Conn) keepPeer() {
	c.resultMu.Lock()
	defer c.resultMu.Unlock()
	c.lastPeer = c.peer
}

// readableChain reads a chain from the peer's certificate on. It stops at a certificate that Go
// cannot read. That is one of the application, or one of a peer whose handshake failed. Go has read
// the certificates of other peers before.
func readableChain(der C.shim_bytes) (chain []*x509.Certificate) {
	if der.p == nil {
		_ = takeError("", der.errs)
		return nil
	}
	defer freeBytes(der)
	for rest := unsafe.Slice((*byte)(der.p), int(der.n)); len(rest) > 0; {
		cert, after, err := firstCertificate(rest)
		if err != nil {
			break
		}
		chain, rest = append(chain, cert), after
	}
	return chain
}

// explain adds the cause to libssl's error for a failed verification. c.mu is held.
func (c *Conn) explain(p *C.shim_conn, err error) error {
	if p.resumption_refused != 0 {
		p.resumption_refused = 0
		c.refused = ErrUnverifiedSession
		return ErrUnverifiedSession
	}
	var e *Error
	if !errors.As(err, &e) || !e.Is(ReasonCertificateVerifyFailed) {
		return err
	}
	e.VerifyResult, e.Host = VerifyResult(p.verify_result), c.host
	if chain := readableChain(C.shim_SSL_rejected_certificate(p)); len(chain) > 0 {
		e.Subject = chain[0].Subject.String()
	}
	return err
}

// answerVerify verifies, by a pool, the chain for which a client's handshake is suspended. The
// locks of the handshake are held, c.mu is not.
func (c *Conn) answerVerify(ctx context.Context) error {
	chain, pool, err := c.takeChain(ctx)
	if err != nil || pool == nil { // the pool was replaced: libssl asks again, and gets the new one
		return err
	}
	ctx, stop := c.startWait(ctx)
	defer stop()
	r := runHook(ctx, func(context.Context) ([]byte, error) { return anchorsOf(pool, chain), nil })
	if r.err != nil {
		return fmt.Errorf("sslctx: the certificate pool: %w", r.err)
	}
	return c.giveAnchors(ctx, r.answer, r.end == nil)
}

// takeChain copies the chain that waits for verification, and returns its pool.
func (c *Conn) takeChain(ctx context.Context) (chain []byte, pool *x509.CertPool, err error) {
	r, err := c.beginWithin(waitLimit{ctx: ctx, handshake: true})
	if err != nil {
		return nil, nil, err
	}
	defer c.end(r)
	return C.GoBytes(unsafe.Pointer(r.p.chain), C.int(r.p.chain_len)), pools.get(uintptr(r.p.pool)), nil
}

// giveAnchors keeps the result for the next call into libssl. known is false if a constraint ended
// without a result.
func (c *Conn) giveAnchors(ctx context.Context, der []byte, known bool) error {
	r, err := c.beginWithin(waitLimit{ctx: ctx, handshake: true})
	if err != nil {
		return err
	}
	defer c.end(r)
	n := C.long(len(der))
	if !known {
		n = -1
	}
	C.shim_answer_verification(r.p, (*C.uchar)(C.CBytes(der)), n)
	return nil
}

// askPool returns the certificates of a pool in which a chain ends, where libssl cannot be
// suspended. ok is false if there is no result.
func (c *Conn) askPool(pool *x509.CertPool, chain []byte) (der []byte, ok bool) {
	if c.upcalls.tooMany(upcallCertPool) {
		return nil, false
	}
	der, err := runPoolUpcall(c, func(context.Context) ([]byte, error) { return anchorsOf(pool, chain), nil })
	if err != nil {
		c.upcalls.fail("the certificate pool", err)
	}
	return der, err == nil
}

// A peerCheck is what a tls.Config checks of a peer when libssl's handshake is over. The zero value
// checks nothing, and says that a hook for the ClientHello may choose another.
type peerCheck struct {
	certificates func(rawCerts [][]byte, verifiedChains [][]*x509.Certificate) error
	connection   func(tls.ConnectionState) error
	asksClients  bool // servers ask for a certificate
}

// errEarlyUnchecked refuses the early data of a client that has not been checked.
var errEarlyUnchecked = badArgument("ReadEarlyData", "receiver",
	"has a check of a tls.Config (VerifyPeerCertificate, VerifyConnection, GetConfigForClient), which early data would precede")

// peerCheck returns the check of the context that the connection has by now, or nil.
func (c *Conn) peerCheck() *peerCheck {
	if target := c.currentTarget.Load(); target != nil {
		if check := target.hooks.table.Load().check; check != nil {
			return check
		}
	}
	return c.hooksWhenMade.check
}

// checkPeer runs the check of a tls.Config when libssl has completed the first handshake. Nothing of
// libssl's last flight is sent yet. The locks of the handshake are held, c.mu is not.
func (k *connCall) checkPeer(ctx context.Context) error {
	c := k.c
	check := c.peerCheck()
	if check == nil || check.certificates == nil && check.connection == nil {
		return nil
	}
	reason := errHookEnded // replaced when the check has ended
	defer func() {
		if reason != nil {
			k.dropPeer(reason)
		}
	}()
	state := c.handshakeState()
	state.HandshakeComplete = false // as in crypto/tls
	ctx, stop := c.startWait(ctx)
	defer stop()
	r := runHook(ctx, func(context.Context) (struct{}, error) { return struct{}{}, check.run(c.server, state) })
	switch {
	case r.end != nil:
		k.add(pending{hookEnd: r.end})
		reason = errHookEnded
	case r.err != nil:
		reason = fmt.Errorf("sslctx: the peer was refused: %w", r.err)
	default:
		reason = nil
	}
	return reason
}

// run calls the functions that crypto/tls calls for this state.
func (p *peerCheck) run(server bool, state tls.ConnectionState) error {
	shows := len(state.PeerCertificates) > 0 || server && p.asksClients
	if p.certificates != nil && shows && !state.DidResume {
		var raw [][]byte
		for _, cert := range state.PeerCertificates {
			raw = append(raw, cert.Raw)
		}
		if err := p.certificates(raw, state.VerifiedChains); err != nil {
			return err
		}
	}
	if p.connection == nil {
		return nil
	}
	return p.connection(state)
}

// dropPeer ends a connection whose peer did not pass the check: it sends nothing more, and its
// sessions are not resumed. Close may have come before.
func (k *connCall) dropPeer(reason error) {
	c := k.c
	c.refusedPeer.Store(true)
	if r, err := c.begin(); err == nil {
		c.refused, c.fatal, c.fatalByClose = reason, reason, false
		c.out = c.out[:0]
		c.noteOutput()
		k.add(pending{events: C.shim_SSL_drop_sessions(r.p, k.events)})
		c.end(r)
	}
	k.events = withoutNewSessions(k.events)
}

// withoutNewSessions frees the events of new sessions, and returns the others.
func withoutNewSessions(e *C.shim_event) (rest *C.shim_event) {
	for e != nil {
		next := e.next
		if e.kind == C.SHIM_EVENT_NEW_SESSION || e.kind == C.SHIM_EVENT_KEEP_SESSION {
			_ = freeEvent(e)
		} else {
			e.next = nil
			rest = joinEvents(rest, e)
		}
		e = next
	}
	return rest
}

// certificates are parsed once for all connections whose peers have them, as in crypto/tls.
var certificates = certificateCache{bySum: make(map[[sha256.Size]byte]weak.Pointer[x509.Certificate])}

// certificateCache keeps no certificate alive.
type certificateCache struct {
	mu      sync.Mutex
	bySum   map[[sha256.Size]byte]weak.Pointer[x509.Certificate]
	sweepAt int
}

// parse reads a certificate. der stays the caller's.
func (c *certificateCache) parse(der []byte) (*x509.Certificate, error) {
	sum := sha256.Sum256(der)
	if cert := c.get(sum); cert != nil && bytes.Equal(cert.Raw, der) {
		return cert, nil
	}
	// A certificate keeps the bytes that it was read from, so they must be in Go memory.
	cert, err := x509.ParseCertificate(bytes.Clone(der))
	if err == nil {
		c.put(sum, cert)
	}
	return cert, err
}

func (c *certificateCache) get(sum [sha256.Size]byte) *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bySum[sum].Value()
}

func (c *certificateCache) put(sum [sha256.Size]byte, cert *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bySum) >= c.sweepAt {
		maps.DeleteFunc(c.bySum, func(_ [sha256.Size]byte, p weak.Pointer[x509.Certificate]) bool { return p.Value() == nil })
		c.sweepAt = 2*len(c.bySum) + 64
	}
	c.bySum[sum] = weak.Make(cert)
}

// SetPostHandshakeAuth is [Context.SetPostHandshakeAuth] for one connection. It must come before
// the handshake: ErrHandshakeStarted.
//
// Wraps [SSL_set_post_handshake_auth].
//
// [SSL_set_post_handshake_auth]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Conn) SetPostHandshakeAuth(on bool) error {
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.SSL_set_post_handshake_auth(r.p.ssl, boolInt(on))
	return nil
}

// VerifyClientPostHandshake lets a server request the certificate of a TLS 1.3 client after the
// handshake. It sends the request and does not wait for the answer. A later Read gets the
// certificate: then [Conn.ConnectionState] has it, or the Read fails. If the client sends none, the
// Read fails with VerifyFailIfNoPeerCert. Without that flag the connection continues, and
// PeerCertificates is empty, also if the handshake had a certificate. Data that the client wrote
// before it read the request comes from a client without a certificate. So request the certificate
// where your protocol makes the client wait.
//
// [Context.SetVerify] of the context must have VerifyPeer. With VerifyPostHandshake the handshake
// itself requests no certificate. In these cases it returns an *Error, and the connection
// continues: the client does not support it ([Context.SetPostHandshakeAuth]), the answer to another
// request is missing, VerifyPeer is not set, the Conn is a client's, the protocol is TLS 1.2, a
// handshake message is half sent or half received.
//
// It returns an ArgumentError if the context has a check of a tls.Config ([NewContextFromTLS]), which
// would not see the certificate.
//
// Wraps [SSL_verify_client_post_handshake].
//
// [SSL_verify_client_post_handshake]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Conn) VerifyClientPostHandshake() error {
	if c.isOpen() && c.peerCheck() != nil {
		return badArgument("VerifyClientPostHandshake", "receiver", "has a check of a tls.Config, which runs in the handshake only")
	}
	return c.post(opVerifyClient)
}
