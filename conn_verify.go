// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"unsafe"
	"weak"
)

// A VerifyResult is what libssl found when it verified the peer's certificate: an X509_V_ code.
type VerifyResult int

// String returns OpenSSL's text for the result.
//
// Wraps [X509_verify_cert_error_string].
//
// [X509_verify_cert_error_string]: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
func (r VerifyResult) String() string {
	return C.GoString(C.X509_verify_cert_error_string(C.long(r)))
}

// isUntrusted reports whether the result is that no chain leads to a certificate that is trusted.
func (r VerifyResult) isUntrusted() bool {
	switch r {
	case C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
		C.X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, C.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
		C.X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return true
	}
	return false
}

// Results of verification; others have numbers in OpenSSL's headers.
const (
	VerifyOK          VerifyResult = C.X509_V_OK              // also if the peer showed no certificate
	VerifyUnspecified VerifyResult = C.X509_V_ERR_UNSPECIFIED // nobody verified, as for a session of NewSession
)

var (
	// ErrNoServerName says that a client verifies the server's certificate and does not know for which host it must
	// be: any certificate that is trusted would do.
	ErrNoServerName = errors.New("sslctx: a client that verifies has no name to verify: " +
		"SetServerName, AcceptAnyName or Dialer.InsecureSkipVerify must say whom it talks to")

	// ErrUnverifiedSession says that a client wanted to resume a session that a server must not resume: it was made
	// without the certificate that the server asks for, or with one that has expired or is not trusted. The session
	// is out of the cache, and the client's next handshake is a full one.
	ErrUnverifiedSession = errors.New("sslctx: the session was made without the verification that the server asks for")
)

// A CertificateError says that Go cannot read a certificate that the peer sent, although libssl can. The handshake
// fails by it, also with VerifyNone: whoever looks at the peer's certificates must see all of them.
type CertificateError struct {
	Index int   // which one of those that the peer sent; 0 is its own
	Err   error // of crypto/x509
}

// Error names the certificate and the reason.
func (e *CertificateError) Error() string {
	return fmt.Sprintf("sslctx: certificate %d of those that the peer sent cannot be read: %v", e.Index, e.Err)
}

// Unwrap returns the reason.
func (e *CertificateError) Unwrap() error { return e.Err }

// peer is who is at the other end. It is guarded by Conn.mu.
type peer struct {
	certs    []*x509.Certificate // as libssl has them, the peer's own first
	verified bool
	chain    []*x509.Certificate // of a peer that was verified, once somebody asked
	trust    uint64              // that of the connection's home when the handshake began
}

// verifiedBy says that a session was made by a connection of h that verified its peer, by what h trusted then.
type verifiedBy struct {
	ctx   *ctxState
	trust uint64
}

// markVerified has a handle say that c verified the peer of its session. c.mu is held.
func (c *Conn) markVerified(s *Session) {
	if h := s.ctxState.Load(); h == c.p.ctxs.sessionCtx && c.peer.verified {
		s.verifiedBy = verifiedBy{h, c.peer.trust}
	}
}

// markVerifiedLater is prove for a hook that is about to be told of the session.
func (c *Conn) markVerifiedLater(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.markVerified(s)
}

// AcceptAnyName has a client take a certificate that is trusted for whatever host it is. Without this and without
// SetServerName the handshake of a client that verifies fails with ErrNoServerName. A name that SetServerName has set
// is still sent to the server, and no longer verified; a SetServerName that follows has the name verified again. It must
// come before the handshake: ErrHandshakeStarted.
//
// Everybody who has a certificate of an authority that is trusted can then take the place of the server. It is for private
// authorities that have a single server, and for programs that look at [Conn.ConnectionState] themselves.
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

// SetVerify is [Context.SetVerify] for one connection. It must come before the handshake: ErrHandshakeStarted. Where a hook
// for the ClientHello chooses another context, what that context says counts.
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

// noteTrust notes that the context trusts less than when the connection began. A server then makes no session that could
// be resumed: nothing in it would say by what trust the client was verified. The configuration locks are held.
func (c *Conn) noteTrust() {
	if c.server && c.peer.trust != c.p.ctxs.sessionCtx.trustLosses.Load() {
		C.shim_SSL_withhold_sessions(c.p.p)
	}
}

// checkStart refuses a handshake that would trust any name. c.mu is held.
func (c *Conn) checkStart(r connRef) error {
	if c.nameErr != nil {
		return c.nameErr
	}
	if c.started {
		return nil
	}
	state := r.ctxs.sessionCtx
	c.peer.trust = state.trustLosses.Load()
	r.p.doubted = boolInt(c.offered != verifiedBy{state, c.peer.trust})
	if !c.server && !c.named && r.p.verifies != 0 {
		return ErrNoServerName
	}
	return nil
}

// readPeer reads the peer's certificates when they are others than before, and ends the connection if it cannot. waiting
// is how much of c.out was there before the crossing: what it made is not sent then, so that the peer learns
// nothing of a handshake that is over. c.mu is held.
func (c *Conn) readPeer(ref connRef, r *callResult, waiting int) {
	if ref.p.peer_changed == 0 || r.err != nil {
		return
	}
	ref.p.peer_changed = 0
	c.peer = peer{verified: ref.p.peer_verified != 0, trust: c.peer.trust}
	c.peer.certs, r.err = readAll(&ref.p.peer_certs)
	if r.err != nil {
		c.peer = peer{}
		c.refused = r.err
		r.sslError, r.n, r.hasPending = C.SSL_ERROR_SSL, 0, false
		c.out, r.hasOutput = c.out[:waiting], waiting > 0
	}
}

// readAll reads all certificates that libssl has of a peer.
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

// peerCertificates returns the peer's certificates, and the chain by which it was verified, which is kept; nil if it was
// not verified. What libssl has no chain of, and cannot make again, is what the peer sent.
func (c *Conn) peerCertificates() (certs, chain []*x509.Certificate) {
	r, err := c.begin()
	if err != nil {
		return nil, nil
	}
	known := c.peer
	var made C.shim_chain
	if known.verified && known.chain == nil {
		made = C.shim_SSL_get0_verified_chain(r.p)
	}
	c.end(r)
	if !known.verified || known.chain != nil {
		return known.certs, known.chain
	}
	chain = readableChain(made.der)
	if chain == nil {
		chain = pools.chain(uintptr(made.pool), known.certs)
	}
	if chain == nil {
		chain = known.certs
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Equal(c.peer.certs, known.certs) {
		c.peer.chain = chain
	}
	return known.certs, chain
}

// readableChain reads a chain from the peer's certificate on, up to what Go cannot read: that is a certificate of the
// application's own, for those that the peer sent were read.
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

// explain adds to libssl's error for a failed verification what failed it. c.mu is held.
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

// answerVerify has a pool judge the chain for which a client's handshake is suspended. The locks of the handshake are
// held, c.mu is not.
func (c *Conn) answerVerify(ctx context.Context) error {
	chain, pool, err := c.takeChain(ctx)
	if err != nil || pool == nil { // it was replaced: libssl asks again, and gets the new one
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

// takeChain copies the chain that waits for a verdict, and returns the pool that is to judge it.
func (c *Conn) takeChain(ctx context.Context) (chain []byte, pool *x509.CertPool, err error) {
	r, err := c.beginWithin(waitLimit{ctx: ctx})
	if err != nil {
		return nil, nil, err
	}
	defer c.end(r)
	return C.GoBytes(unsafe.Pointer(r.p.chain), C.int(r.p.chain_len)), pools.get(uintptr(r.p.pool)), nil
}

// giveAnchors leaves the verdict for the next crossing. known is false if a constraint ended without one.
func (c *Conn) giveAnchors(ctx context.Context, der []byte, known bool) error {
	r, err := c.beginWithin(waitLimit{ctx: ctx})
	if err != nil {
		return err
	}
	defer c.end(r)
	n := C.long(len(der))
	if !known {
		n = -1
	}
	C.shim_SSL_set_retry_verify(r.p, (*C.uchar)(C.CBytes(der)), n)
	return nil
}

// askPool gives the certificates of a pool that a chain ends in, where libssl cannot be suspended. It reports whether that
// could be found out.
func (c *Conn) askPool(pool *x509.CertPool, chain []byte) (der []byte, ok bool) {
	if c.upcalls.tooMany(askedCertPool) {
		return nil, false
	}
	der, err := runPoolUpcall(c, func(context.Context) ([]byte, error) { return anchorsOf(pool, chain), nil })
	if err != nil {
		c.upcalls.fail("the certificate pool", err)
	}
	return der, err == nil
}

// certificates are those of peers, parsed once for all connections that have them, as crypto/tls does it.
var certificates = certificateCache{bySum: make(map[[sha256.Size]byte]weak.Pointer[x509.Certificate])}

// certificateCache keeps no certificate alive.
type certificateCache struct {
	mu      sync.Mutex
	bySum   map[[sha256.Size]byte]weak.Pointer[x509.Certificate]
	sweepAt int
}

// parse reads a certificate; der stays the caller's.
func (c *certificateCache) parse(der []byte) (*x509.Certificate, error) {
	sum := sha256.Sum256(der)
	if cert := c.get(sum); cert != nil && bytes.Equal(cert.Raw, der) {
		return cert, nil
	}
	// A certificate keeps the bytes that it was read from: they must be Go's.
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

// SetPostHandshakeAuth is [Context.SetPostHandshakeAuth] for one connection. It must come before the handshake:
// ErrHandshakeStarted.
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

// VerifyClientPostHandshake has a server ask a client of TLS 1.3 for its certificate, after the handshake. It sends the
// request and does not wait for the answer: a later Read finds the client's certificate, and from then on
// [Conn.ConnectionState] has it, or fails by it. What the client wrote before it read the request was written by a client
// without a certificate: a server that must know whom it listens to asks at a place of the protocol where the client
// waits.
//
// The context's [Context.SetVerify] says what is asked, with VerifyPeer; with VerifyPostHandshake, too, the handshake
// itself asks for nothing. If the client did not say that it can ([Context.SetPostHandshakeAuth]), if an answer is still
// to come, without VerifyPeer, in a client and in TLS 1.2 it is an *Error, and the connection goes on.
//
// Wraps [SSL_verify_client_post_handshake].
//
// [SSL_verify_client_post_handshake]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Conn) VerifyClientPostHandshake() error { return c.post(opVerifyClient) }
