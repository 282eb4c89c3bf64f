// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
)

// TrustCertPool trusts the certificates of a pool, in addition to what the other methods trust. It
// replaces the pool of an earlier call. nil is no pool (and not the system's, which is
// x509.SystemCertPool). The pool can be replaced while connections run: a server then verifies
// sessions again that were made before. The pool is copied: certificates that are added to it later
// do not count.
//
// A pool cannot list its certificates. So Go looks for chains with [x509.Certificate.Verify]: from
// the peer's certificate, over the certificates that the peer sent, to the pool. libssl then
// verifies by its own rules, and trusts the last certificates of these chains. Both must accept a
// chain to the pool. libssl verifies host name, depth, purpose and time. As everywhere in libssl, a
// chain ends in a certificate that signed itself, so other certificates of the pool do not count.
// The pool does not trust a peer that sends an RSA key of more than 8192 bits.
//
// A client is suspended while Go looks: it holds no thread and no lock. A server cannot be
// suspended, nor can a client of OpenSSL 1.1.1 or of a renegotiation. There a verification that
// takes longer than 50 ms, by its constraints (AddCertWithConstraint) or by the length of the
// chain, holds one of a limited number of threads. If all of these are held, it fails with
// ErrTooManyHooks. A constraint may use the Context, and may connect; its Conn waits. If it panics,
// the verification fails. The handshake stops waiting for it when the context of HandshakeContext
// ends, when a deadline passes, or on Close. Constraints run again in the first
// [Conn.ConnectionState] of a connection that resumed a session, which does not keep the chain. That
// waits for them for a limited time.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_cert_verify_callback], SSL_set_retry_verify.
//
// [SSL_CTX_set_cert_verify_callback]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_cert_verify_callback/
func (c *Context) TrustCertPool(pool *x509.CertPool) error {
	var id uintptr // 0 is no pool
	if pool != nil {
		id = pools.add(pool.Clone())
	}
	unused := id
	err := c.replaceCallback(C.SHIM_CALLBACK_CERT_VERIFY, pool != nil, func(p *C.SSL_CTX) error {
		unused = uintptr(C.shim_SSL_CTX_set_cert_verify_callback(p, C.uintptr_t(id)))
		c.p.ctx.usesCertPool.Store(pool != nil)
		c.loseTrust(p, unused != 0)
		return nil
	})
	pools.remove(unused)
	return err
}

// trustPartialChains lets a chain end in any certificate of the pool, as in crypto/tls: also in one that
// did not sign itself.
func (c *Context) trustPartialChains() error {
	return c.configure(func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_get0_param(p)
		return nil
	})
}

// loseTrust records that the context trusts other certificates than before, and perhaps less. The
// caller holds configMu exclusively.
func (c *Context) loseTrust(p *C.SSL_CTX, less bool) {
	c.p.ctx.trustLosses.Add(1)
	if less {
		C.shim_SSL_CTX_note_trust_lost(p)
	}
}

// TrustCertificate is [Context.TrustCertificates] for certificates of crypto/x509. It returns an
// ArgumentError if there are none, as for an empty text. libssl wants chains that end with a
// certificate that signed itself: unlike in crypto/tls, a server's own certificate or an
// intermediate one is not enough.
func (c *Context) TrustCertificate(certs ...*x509.Certificate) error {
	var text []byte
	for _, cert := range certs {
		if cert == nil || len(cert.Raw) == 0 {
			return badArgument("TrustCertificate", "certs", "has a certificate that was not parsed")
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return c.TrustCertificates(text)
}

// pools has the pools of all contexts.
var pools registry[*x509.CertPool]

// maxRSABits is the longest RSA key that crypto/tls verifies by. The time of a verification grows
// with the square of the length.
const maxRSABits = 8192

// hasGiantKey reports whether a certificate that a peer sent has an RSA key so long that it costs
// much time.
func hasGiantKey(cert *x509.Certificate) bool {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() > maxRSABits
}

// verifyOptions returns options for chains from the first of certs over the others to the pool, for
// any purpose.
func verifyOptions(pool *x509.CertPool, certs []*x509.Certificate) x509.VerifyOptions {
	o := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, cert := range certs[1:] {
		o.Intermediates.AddCert(cert)
	}
	return o
}

// anchorsOf returns the certificates of a pool in which the chains from sent end. The first
// certificate in sent is the peer's. If Go cannot read sent, or finds no chain, there are none.
func anchorsOf(pool *x509.CertPool, sent []byte) (der []byte) {
	certs, err := x509.ParseCertificates(sent)
	if err != nil || len(certs) == 0 || pool == nil || slices.ContainsFunc(certs, hasGiantKey) {
		return nil
	}
	o := verifyOptions(pool, certs)
	chains, err := certs[0].Verify(o)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		// libssl will report that it has expired, if libssl knows what to trust.
		o.CurrentTime = certs[0].NotAfter
		chains, _ = certs[0].Verify(o)
	}
	seen := map[string]bool{}
	for _, chain := range chains {
		if anchor := chain[len(chain)-1]; !seen[string(anchor.Raw)] {
			seen[string(anchor.Raw)] = true
			der = append(der, anchor.Raw...)
		}
	}
	return der
}

// chainOf returns a chain from the first of certs over the others to a pool, nil if there is none.
func chainOf(pool *x509.CertPool, certs []*x509.Certificate) []*x509.Certificate {
	if pool == nil || len(certs) == 0 || slices.ContainsFunc(certs, hasGiantKey) {
		return nil
	}
	o := verifyOptions(pool, certs)
	chains, err := certs[0].Verify(o)
	if err != nil || len(chains) == 0 {
		return nil
	}
	return chains[0]
}
