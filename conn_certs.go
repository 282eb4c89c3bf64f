// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"maps"
	"sync"
	"weak"
)

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
