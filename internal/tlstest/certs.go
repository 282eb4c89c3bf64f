// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"sslctx/internal/testcert"
)

// SelfSigned makes a certificate for localhost that is its own authority.
func SelfSigned(t testing.TB) testcert.Pair {
	t.Helper()
	p, err := testcert.New()
	Must(t, err)
	return p
}

// An Issued is a certificate and its key.
type Issued struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Issue makes a certificate for localhost, signed by another one, or by itself if that is nil. The
// function change may be nil; it can set fields of the certificate.
func Issue(t testing.TB, name string, by *Issued, change func(*x509.Certificate)) *Issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(t, err)
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Cert, by.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	Must(t, err)
	cert, err := x509.ParseCertificate(der)
	Must(t, err)
	return &Issued{cert, key}
}

// Authority is a function for Issue. It makes the certificate an authority.
func Authority(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.DNSNames = true, x509.KeyUsageCertSign, nil
}

// Unreadable makes a certificate that libssl can parse and Go cannot: its serial number is
// negative.
func Unreadable(t testing.TB) []byte {
	t.Helper()
	serial := []byte{0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48}
	odd := Issue(t, "odd", nil, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).SetBytes(serial) })
	der := bytes.Clone(odd.Cert.Raw)
	der[bytes.Index(der, serial)] = 0x81
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Skip("this Go reads it")
	}
	return der
}

// TLSCertificate returns this certificate for an end, followed by others.
func (i *Issued) TLSCertificate(others ...*Issued) tls.Certificate {
	chain := tls.Certificate{Certificate: [][]byte{i.Cert.Raw}, PrivateKey: i.Key}
	for _, o := range others {
		chain.Certificate = append(chain.Certificate, o.Cert.Raw)
	}
	return chain
}

// PoolOf returns a pool of these certificates.
func PoolOf(certs ...*Issued) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c.Cert)
	}
	return pool
}

// WaitingPool returns a pool that trusts root. Each verification calls wait.
func WaitingPool(root *Issued, wait func(context.Context)) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error { wait(context.Background()); return nil })
	return pool
}
