// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

func TestCertificates(t *testing.T) {
	noQueue(t)
	pair := testPair(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pair.Cert, 0o600))
	must(t, os.WriteFile(key, pair.Key, 0o600))
	ofGo, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	for name, use := range map[string]func(*sslctx.Context) error{
		"files": func(c *sslctx.Context) error {
			return errors.Join(c.UseCertificateChainFile(cert), c.UsePrivateKeyFile(key))
		},
		"PEM":             func(c *sslctx.Context) error { return c.UseKeyPair(pair.Cert, pair.Key) },
		"tls.Certificate": func(c *sslctx.Context) error { return c.UseCertificate(ofGo) },
		"Configure": func(c *sslctx.Context) error {
			return errors.Join(c.Configure("Certificate", cert), c.Configure("PrivateKey", key))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContext(t, sslctx.TLSServerMethod)
			must(t, use(c))
			must(t, c.CheckPrivateKey())
			must(t, c.LoadVerifyLocations(cert, ""))
			must(t, c.LoadVerifyLocations("", dir))
			must(t, c.TrustCertificates(append(pair.Cert, pair.Cert...)))
		})
	}
}

// encryptedKey is good, with the password "secret".
const encryptedKey = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh2xCOi3lQE5AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEMSmF19d9j+JlSTgQ2ZyFXQEgZAS
mTJ6qCAj7DiFxTRPlk1DGAbzWZTFhSJ94nmdTYhS22g05Dyomulmj0i8LagHVLHb
QwM7HHqcJivouGbgYyoZvRu6YwrqB0bVB4NVAw1+TDMe4FGpirfYqm8fCWQ/xUOU
p6joZbf/MqpHDIqum4TMMnaYypovO6Zc2s4X3Kc33QKR8JZnXeQcuTZf8Yw3lN4=
-----END ENCRYPTED PRIVATE KEY-----
`

// wantNobodyAsked checks the error for a key that needs a password. Without a terminal libssl would
// say that the prompt failed.
func wantNobodyAsked(t *testing.T, err error) {
	t.Helper()
	if text := fmt.Sprint(err); !strings.Contains(text, "bad password read") || strings.Contains(text, "problems getting password") {
		t.Errorf("what is encrypted gives %v", err)
	}
}

func TestCertificatesThatAreBad(t *testing.T) {
	noQueue(t)
	pair, other := testPair(t), testPair(t)
	c := newContext(t, sslctx.TLSServerMethod)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, err := range []error{c.UseCertificateChainFile(missing), c.UsePrivateKeyFile(missing), c.LoadVerifyLocations(missing, "")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a missing file gives %v", err)
		}
	}
	wantReason(t, c.CheckPrivateKey(), sslctx.ReasonNoCertificateAssigned)
	wantReason(t, c.UseKeyPair(pair.Cert, other.Key), sslctx.ReasonPrivateKeyMismatch)
	wantReason(t, c.UseKeyPair([]byte("no PEM"), pair.Key), sslctx.ReasonNoStartLine)
	wantReason(t, c.TrustCertificates([]byte("no PEM")), sslctx.ReasonNoStartLine)

	block, _ := pem.Decode(pair.Cert)
	block.Bytes = block.Bytes[:len(block.Bytes)/2]
	half := append(append([]byte(nil), pair.Cert...), pem.EncodeToMemory(block)...)
	if err := c.UseKeyPair(half, pair.Key); err == nil {
		t.Error("a chain with a truncated certificate is taken")
	}
	if err := c.TrustCertificates(half); err == nil {
		t.Error("a truncated certificate is trusted")
	}
	wantReason(t, c.CheckPrivateKey(), sslctx.ReasonNoCertificateAssigned) // nothing was set

	file := filepath.Join(t.TempDir(), "encrypted.pem")
	must(t, os.WriteFile(file, []byte(encryptedKey), 0o600))
	for _, err := range []error{c.UseKeyPair(pair.Cert, []byte(encryptedKey)), c.UsePrivateKeyFile(file)} {
		wantNobodyAsked(t, err)
	}
	type onlySigns struct{ ed25519.PrivateKey }
	wantArgument(t, c.UseCertificate(tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: onlySigns{}}), "cert")
	limited := issue(t, "limited", nil, nil).TLSCertificate()
	limited.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	wantArgument(t, c.UseCertificate(limited), "cert")
}

func TestTrustCertPool(t *testing.T) {
	root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
	middle := issue(t, "middle", root, authority)
	leaf := issue(t, "leaf", middle, nil)
	elsewhere := issue(t, "elsewhere", root, func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example"} })
	old := issue(t, "old", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	impostor := issue(t, "leaf", issue(t, "middle", issue(t, "root", nil, authority), authority), nil)
	alone := issue(t, "alone", nil, nil)
	constraint := func(err error, panics bool) *x509.CertPool {
		pool := x509.NewCertPool()
		pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error {
			if panics {
				panic("of a constraint")
			}
			return err
		})
		return pool
	}
	for name, test := range map[string]struct {
		sends tls.Certificate
		pool  *x509.CertPool
		store []*issued
		chain int    // the length of the verified chain, or
		says  string // the alert that libssl sends
	}{
		"good":                          {sends: leaf.TLSCertificate(middle), pool: poolOf(root), chain: 3},
		"root sent too":                 {sends: leaf.TLSCertificate(middle, root), pool: poolOf(other, root), chain: 3},
		"intermediate not sent":         {sends: leaf.TLSCertificate(), pool: poolOf(root), says: "unknown ca"},
		"intermediate in the pool":      {sends: leaf.TLSCertificate(), pool: poolOf(root, middle), says: "unknown ca"},
		"intermediate in the store too": {sends: leaf.TLSCertificate(), pool: poolOf(root, middle), store: []*issued{middle, root}, chain: 3},
		"unknown root":                  {sends: leaf.TLSCertificate(middle), pool: poolOf(other), says: "unknown ca"},
		"unknown root, sent":            {sends: leaf.TLSCertificate(middle, root), pool: poolOf(other), says: "unknown ca"},
		"empty pool":                    {sends: leaf.TLSCertificate(middle), pool: poolOf(), says: "unknown ca"},
		"no pool":                       {sends: leaf.TLSCertificate(middle), says: "unknown ca"},
		"store alone":                   {sends: leaf.TLSCertificate(middle), pool: poolOf(other), store: []*issued{root}, chain: 3},
		"pool beside the store":         {sends: leaf.TLSCertificate(middle), pool: poolOf(root), store: []*issued{other}, chain: 3},
		"root in both":                  {sends: leaf.TLSCertificate(middle), pool: poolOf(root), store: []*issued{root}, chain: 3},
		"names alone":                   {sends: impostor.TLSCertificate(middle), pool: poolOf(root), says: "unknown ca"},
		"wrong host":                    {sends: elsewhere.TLSCertificate(), pool: poolOf(root), says: "alert bad certificate"},
		"expired":                       {sends: old.TLSCertificate(), pool: poolOf(root), says: "certificate expired"},
		"signed itself":                 {sends: alone.TLSCertificate(), pool: poolOf(alone), chain: 1},
		"signed itself, unknown":        {sends: alone.TLSCertificate(), pool: poolOf(root), says: "unknown ca"},
		"constraint":                    {sends: leaf.TLSCertificate(middle), pool: constraint(nil, false), chain: 3},
		"constraint against":            {sends: leaf.TLSCertificate(middle), pool: constraint(errors.New("no"), false), says: "unknown ca"},
		"panic":                         {sends: leaf.TLSCertificate(middle), pool: constraint(nil, true), says: "alert handshake failure"},
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				noQueue(t)
				e := bare(t, v, test.sends)
				for _, c := range test.store {
					must(t, e.client.TrustCertificate(c.Cert))
				}
				must(t, e.client.TrustCertPool(test.pool))
				_, client, serverErr, err := meet(t, e)
				if test.says != "" {
					wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
					if serverErr == nil || !strings.Contains(serverErr.Error(), test.says) {
						t.Errorf("the server is told %v, want %q", serverErr, test.says)
					}
					return
				}
				must(t, err)
				if chains := client.ConnectionState().VerifiedChains; len(chains) != 1 || len(chains[0]) != test.chain {
					t.Errorf("the verified chains are %v", chains)
				}
			})
		})
	}
}

// TestCertPoolOfServer verifies the certificates of clients. One context is server and client.
func TestCertPoolOfServer(t *testing.T) {
	root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
	middle := issue(t, "middle", root, authority)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := bare(t, v, issue(t, "server", root, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(root)))
		must(t, e.server.TrustCertPool(poolOf(root)))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.client.UseCertificate(issue(t, "client", middle, nil).TLSCertificate(middle)))
		server, _, serverErr, err := meet(t, e)
		must(t, errors.Join(serverErr, err))
		if chains := server.ConnectionState().VerifiedChains; len(chains) != 1 || len(chains[0]) != 3 {
			t.Errorf("the verified chains are %v", chains)
		}
		must(t, e.client.UseCertificate(issue(t, "client", other, nil).TLSCertificate()))
		_, _, serverErr, _ = meet(t, e)
		wantReason(t, serverErr, sslctx.ReasonCertificateVerifyFailed)
		must(t, e.server.TrustCertPool(nil))
		must(t, e.server.TrustCertificate(root.Cert, other.Cert))
		_, _, serverErr, err = meet(t, e)
		must(t, errors.Join(serverErr, err))
	})
}

// TestCertPoolAndPurpose: libssl judges what a certificate is for, and a pool does not: that of a
// client is good for a server, and not for a client.
func TestCertPoolAndPurpose(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	only := func(u x509.ExtKeyUsage) *issued {
		return issue(t, "leaf", root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{u} })
	}
	ofServer, ofClient := only(x509.ExtKeyUsageServerAuth), only(x509.ExtKeyUsageClientAuth)
	for _, test := range []struct {
		server, client *issued
		refuses        string
	}{
		{ofServer, ofClient, ""},
		{ofServer, ofServer, "server"},
		{ofClient, ofClient, "client"},
	} {
		e := bare(t, sslctx.VersionTLS13, test.server.TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(root)))
		must(t, e.server.TrustCertPool(poolOf(root)))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.client.UseCertificate(test.client.TLSCertificate()))
		_, _, serverErr, clientErr := meet(t, e)
		if test.refuses == "" {
			must(t, errors.Join(serverErr, clientErr))
			continue
		}
		err := map[string]error{"server": serverErr, "client": clientErr}[test.refuses]
		wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
		var why *sslctx.Error
		if errors.As(err, &why); !strings.Contains(why.VerifyResult.String(), "purpose") {
			t.Errorf("the %s says %v", test.refuses, err)
		}
	}
}

// TestCertPoolCopied: later changes of a pool do not count. libssl checks the depth.
func TestCertPoolCopied(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	middle := issue(t, "middle", root, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", middle, nil).TLSCertificate(middle))
	pool := x509.NewCertPool()
	must(t, e.client.TrustCertPool(pool))
	pool.AddCert(root.Cert)
	_, _, _, err := meet(t, e)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	must(t, e.client.TrustCertPool(pool))
	_, _, _, err = meet(t, e)
	must(t, err)
	must(t, e.client.SetVerifyDepth(0))
	_, _, _, err = meet(t, e)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	wantArgument(t, e.client.TrustCertificate(root.Cert, nil), "certs")
	wantArgument(t, e.client.TrustCertificate(new(x509.Certificate)), "certs")
	wantArgument(t, e.client.TrustCertificate(), "pem")
}

// TestCertPoolReplaced replaces the pool while connections verify by it, and counts the pools.
func TestCertPoolReplaced(t *testing.T) {
	root := issue(t, "root", nil, authority)
	before := sslctx.LivePools()
	func() {
		e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", root, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(root)))
		stop := tlstest.Repeat(t, func(int) {
			if err := e.client.TrustCertPool(poolOf(root)); err != nil {
				t.Error(err)
			}
		})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					server, client, serverErr, err := meet(t, e)
					if serverErr != nil || err != nil {
						t.Error(serverErr, err)
					}
					_, _ = server.Close(), client.Close()
				}
			})
		}
		wg.Wait()
		stop()
		if n := sslctx.LivePools(); n != before+1 {
			t.Errorf("%d pools are alive, %d before", n, before)
		}
		must(t, e.client.Close())
	}()
	if n := sslctx.LivePools(); n != before {
		t.Errorf("after Close %d pools are alive, %d before", n, before)
	}
	func() { // one that is dropped
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		must(t, err)
		must(t, c.TrustCertPool(poolOf(root)))
	}()
	if n := ossltest.CollectUntil(sslctx.LivePools, before); n != before {
		t.Errorf("after collection %d pools are alive, %d before", n, before)
	}
	c := newContext(t, sslctx.TLSMethod)
	must(t, c.Close())
	if err := c.TrustCertPool(poolOf(root)); !errors.Is(err, sslctx.ErrClosed) || sslctx.LivePools() != before {
		t.Errorf("after Close: %v, and %d pools are alive, %d before", err, sslctx.LivePools(), before)
	}
}

// ocspResponse makes an OCSP response that says that a certificate is good, with size bytes in
// place of a signature. (From 3.6 on libssl sends only a response for the server's certificate.)
func ocspResponse(t testing.TB, cert, issuer *x509.Certificate, size int) []byte {
	t.Helper()
	marshal := func(v any, params string) asn1.RawValue {
		der, err := asn1.MarshalWithParams(v, params)
		must(t, err)
		return asn1.RawValue{FullBytes: der}
	}
	type algorithm struct{ ID asn1.ObjectIdentifier }
	type certID struct {
		Hash      algorithm
		Name, Key []byte
		Serial    *big.Int
	}
	type single struct {
		ID     certID
		Status asn1.RawValue
		Update time.Time `asn1:"generalized"`
	}
	type data struct {
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []single
	}
	type basic struct {
		Data      data
		Algorithm algorithm
		Signature asn1.BitString
	}
	type typed struct {
		ID       asn1.ObjectIdentifier
		Response []byte
	}
	type response struct {
		Status asn1.Enumerated
		Bytes  typed `asn1:"explicit,tag:0"`
	}
	var key struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	_, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key)
	must(t, err)
	now, hash, keyHash := time.Now().UTC(), sha1.Sum(cert.RawIssuer), sha1.Sum(key.Key.Bytes)
	id := certID{algorithm{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}, hash[:], keyHash[:], cert.SerialNumber}
	der := marshal(basic{
		data{marshal(keyHash[:], "explicit,tag:2"), now,
			[]single{{id, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0}, now}}},
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: bytes.Repeat([]byte{1}, size), BitLength: 8 * size},
	}, "")
	return marshal(response{0, typed{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, der.FullBytes}}, "").FullBytes
}

// stapling makes ends whose server has a certificate and its issuer's. respond makes responses for
// it. (Later versions find the issuer in the sent chain.)
func stapling(t *testing.T, v sslctx.Version) (e ends, cert tls.Certificate, respond func(size int) []byte) {
	t.Helper()
	e = newEnds(t, v)
	root := issue(t, "root", nil, authority)
	leaf := issue(t, "leaf", root, nil)
	cert = leaf.TLSCertificate(root)
	must(t, e.server.UseCertificate(cert))
	must(t, e.client.TrustCertificate(root.Cert))
	return e, cert, func(size int) []byte { return ocspResponse(t, leaf.Cert, root.Cert, size) }
}

// stapled connects, and returns the response that the client got.
func stapled(t *testing.T, e ends) []byte {
	t.Helper()
	server, client := e.connect(t, nil)
	defer server.Close()
	defer client.Close()
	return client.ConnectionState().OCSPResponse
}

func TestOCSPStapling(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e, _, respond := stapling(t, v)
		response := respond(64)
		must(t, e.server.SetOCSPResponse(response))
		if got := stapled(t, e); got != nil {
			t.Errorf("unasked, the client has %q", got)
		}
		must(t, e.client.RequestOCSP(true))
		if got := stapled(t, e); !bytes.Equal(got, response) {
			t.Errorf("the client has %q", got)
		}
		long := respond(15_000) // the longest that a client accepts in TLS 1.2
		must(t, e.server.SetOCSPResponse(long))
		if got := stapled(t, e); !bytes.Equal(got, long) {
			t.Errorf("the client has %d bytes", len(got))
		}
		must(t, e.server.SetOCSPResponse(nil))
		if got := stapled(t, e); got != nil {
			t.Errorf("of a server without a response the client has %q", got)
		}
		must(t, e.server.SetOCSPResponse(response))
		must(t, e.client.RequestOCSP(false))
		if got := stapled(t, e); got != nil {
			t.Errorf("after RequestOCSP(false) the client has %q", got)
		}
		wantArgument(t, e.server.SetOCSPResponse(make([]byte, 1<<16-4)), "der")
		must(t, e.client.RequestOCSP(true))
		s := e.session(t)
		_, client := e.connect(t, s)
		if got := client.ConnectionState().OCSPResponse; !client.SessionReused() || got != nil {
			t.Errorf("a connection that is resumed (%v) has %q", client.SessionReused(), got)
		}
	})
}

// TestOCSPGarbage: OpenSSL before 3.6 sends any bytes as the response. Later versions do not send
// bytes that are no response, and the handshake continues.
func TestOCSPGarbage(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e, want := newEnds(t, v), "response"
		must(t, e.client.SetVerify(sslctx.VerifyNone))
		must(t, e.client.RequestOCSP(true))
		must(t, e.server.SetOCSPResponse([]byte(want)))
		if ossltest.CompiledVersion() >= 0x30600000 {
			want = ""
		}
		server, client := e.connect(t, nil)
		exchange(t, server, client)
		if got := client.ConnectionState().OCSPResponse; string(got) != want {
			t.Errorf("the client has %q, want %q", got, want)
		}
	})
}

// TestOCSPOneContext: one context is server and client, and libssl calls the same callback for
// both.
func TestOCSPOneContext(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		other, cert, respond := stapling(t, v)
		both := newContext(t, sslctx.TLSMethod)
		must(t, both.UseCertificate(cert))
		must(t, both.SetMaxProtoVersion(v))
		must(t, both.RequestOCSP(true))
		response := respond(64)
		must(t, both.SetOCSPResponse(response))
		if got := stapled(t, ends{both, both}); !bytes.Equal(got, response) {
			t.Errorf("the client has %q", got)
		}
		// This server has no response: libssl calls the callback without one.
		if got := stapled(t, ends{other.server, both}); got != nil {
			t.Errorf("the client has %q", got)
		}
	})
}

func TestOCSPCryptoTLS(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e, cert, respond := stapling(t, v)
		cert.OCSPStaple = respond(64)
		must(t, e.server.UseCertificate(cert))
		must(t, e.client.SetVerify(sslctx.VerifyNone))
		must(t, e.client.RequestOCSP(true))
		config := &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true,
			MinVersion: uint16(v), MaxVersion: uint16(v)}

		s, c := tcpPair(t)
		server, err := sslctx.Server(s, e.server)
		must(t, err)
		theirs := tls.Client(c, config)
		exchange(t, server, theirs)
		if got := theirs.ConnectionState().OCSPResponse; !bytes.Equal(got, cert.OCSPStaple) {
			t.Errorf("their client has %q", got)
		}
		_, _ = theirs.Close(), server.Close()

		s, c = tcpPair(t)
		theirs = tls.Server(s, config)
		client, err := sslctx.Client(c, e.client)
		must(t, err)
		must(t, client.AcceptAnyName())
		exchange(t, theirs, client)
		if got := client.ConnectionState().OCSPResponse; !bytes.Equal(got, cert.OCSPStaple) {
			t.Errorf("of their server our client has %q", got)
		}
		_, _ = client.Close(), theirs.Close()

		other := cert // without a staple: the old staple goes with its certificate
		other.OCSPStaple = nil
		must(t, e.server.UseCertificate(other))
		if got := stapled(t, e); got != nil {
			t.Errorf("after a certificate without one the client has %q", got)
		}
	})
}

// TestOCSPOpenSSLClient: s_client requests a staple, and prints its verdict on the response.
func TestOCSPOpenSSLClient(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e, _, respond := stapling(t, v)
		for _, response := range [][]byte{respond(64), nil} {
			must(t, e.server.SetOCSPResponse(response))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			go tlstest.ServeGreeting(t, l, e.server, make(chan bool, 1))
			out, _ := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-ign_eof", "-status").CombinedOutput()
			_ = l.Close()
			if bytes.Contains(out, []byte("Cert Status: good")) != (response != nil) || !bytes.Contains(out, []byte("greeting")) {
				t.Errorf("of a response of %d bytes s_client prints\n%s", len(response), out)
			}
		}
	})
}

// TestOCSPReplaced replaces the response while clients request it.
func TestOCSPReplaced(t *testing.T) {
	e, _, respond := stapling(t, sslctx.VersionTLS13)
	must(t, e.client.RequestOCSP(true))
	a, b := respond(1000), respond(2000)
	must(t, e.server.SetOCSPResponse(a))
	stop := tlstest.Repeat(t, func(i int) {
		if err := e.server.SetOCSPResponse([][]byte{a, b}[i%2]); err != nil {
			t.Error(err)
		}
	})
	for range 30 {
		if got := stapled(t, e); !bytes.Equal(got, a) && !bytes.Equal(got, b) {
			t.Errorf("the client has %d bytes", len(got))
		}
	}
	stop()
}

// TestGiantKeys: a pool trusts no chain with a huge RSA key, which is slow to verify. The
// certificate with the key is not even part of the chain to the root.
func TestGiantKeys(t *testing.T) {
	root := issue(t, "root", nil, authority)
	leaf := issue(t, "leaf", root, nil)
	for bits, trusted := range map[int]bool{8192: true, 8200: false, 200_000: false} {
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true}
		giant, err := x509.CreateCertificate(rand.Reader, template, root.Cert, &rsa.PublicKey{N: n, E: 65537}, root.Key)
		must(t, err)
		sent := leaf.TLSCertificate()
		sent.Certificate = append(sent.Certificate, giant)
		e := bare(t, sslctx.VersionTLS13, sent)
		must(t, e.client.TrustCertPool(poolOf(root)))
		_, _, _, err = meet(t, e)
		if (err == nil) != trusted {
			t.Errorf("with a key of %d bits: %v", bits, err)
		}
	}
}

// TestVerifyLocations: a client trusts the certificates of a file, of a folder with hashed names,
// of both, and of libssl's default places, and nothing before.
func TestVerifyLocations(t *testing.T) {
	one, other := tlstest.SelfSigned(t), tlstest.SelfSigned(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "one.pem")
	must(t, os.WriteFile(file, one.Cert, 0o600))
	hashed := filepath.Join(dir, "hashed")
	must(t, os.Mkdir(hashed, 0o700))
	must(t, os.WriteFile(filepath.Join(hashed, "other.pem"), other.Cert, 0o600))
	out, err := exec.Command("openssl", "rehash", hashed).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl rehash: %v %s", err, out)
	}
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", hashed)
	for name, trust := range map[string]struct {
		set        func(*sslctx.Context) error
		one, other bool
	}{
		"nothing": {func(*sslctx.Context) error { return nil }, false, false},
		"file":    {func(c *sslctx.Context) error { return c.LoadVerifyLocations(file, "") }, true, false},
		"folder":  {func(c *sslctx.Context) error { return c.LoadVerifyLocations("", hashed) }, false, true},
		"both":    {func(c *sslctx.Context) error { return c.LoadVerifyLocations(file, hashed) }, true, true},
		"default": {(*sslctx.Context).SetDefaultVerifyPaths, true, true},
	} {
		for _, server := range []struct {
			pair    testcert.Pair
			trusted bool
		}{{one, trust.one}, {other, trust.other}} {
			e := bare(t, sslctx.VersionTLS13, tlsCertificate(t, server.pair))
			must(t, e.client.SetVerify(sslctx.VerifyPeer))
			must(t, trust.set(e.client))
			_, _, _, err := meet(t, e)
			if (err == nil) != server.trusted || err != nil && !errors.Is(err, sslctx.ReasonCertificateVerifyFailed) {
				t.Errorf("%s: a server that is trusted (%v): %v", name, server.trusted, err)
			}
		}
	}
}

func tlsCertificate(t *testing.T, p testcert.Pair) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	must(t, err)
	return c
}

// TestCheckPrivateKey: the error says what is missing.
func TestCheckPrivateKey(t *testing.T) {
	pair := tlstest.SelfSigned(t)
	c := newContext(t, sslctx.TLSServerMethod)
	wantReason(t, c.CheckPrivateKey(), sslctx.ReasonNoCertificateAssigned)
	file := filepath.Join(t.TempDir(), "cert.pem")
	must(t, os.WriteFile(file, pair.Cert, 0o600))
	must(t, c.UseCertificateChainFile(file))
	wantReason(t, c.CheckPrivateKey(), sslctx.ReasonNoPrivateKeyAssigned)
	must(t, c.UseKeyPair(pair.Cert, pair.Key))
	must(t, c.CheckPrivateKey())
}

// TestLongSubject: the error for a certificate has the beginning of its subject, which the peer
// chose. A certificate without a key is refused with a reason.
func TestLongSubject(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetVerify(sslctx.VerifyPeer))
	long := issue(t, "user", nil, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{strings.Repeat("\x01", 20_000)} })
	must(t, e.client.UseCertificate(long.TLSCertificate()))
	_, _, err, _ := meet(t, e)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	var e2 *sslctx.Error
	if !errors.As(err, &e2) || len(e2.Subject) < 20_000 || len(err.Error()) > 2000 || !strings.Contains(err.Error(), ", certificate ") {
		t.Errorf("an error of %d bytes, with a subject of %d", len(err.Error()), len(e2.Subject))
	}
	cert := long.TLSCertificate()
	cert.PrivateKey = nil
	if err := e.server.UseCertificate(cert); err == nil || !strings.Contains(err.Error(), "has no private key") {
		t.Errorf("a certificate without a key: %v", err)
	}
}

// resumedByPool makes a connection whose server resumed a session. The server trusts a pool, whose
// constraint runs inside from then on.
func resumedByPool(t *testing.T, inside func()) (server, client *sslctx.Conn) {
	t.Helper()
	root := issue(t, "root", nil, authority)
	e := bare(t, sslctx.VersionTLS12, issue(t, "host", root, nil).TLSCertificate())
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	must(t, e.client.UseCertificate(issue(t, "user", root, nil).TLSCertificate()))
	var on atomic.Bool
	must(t, e.server.TrustCertPool(waitingPool(root, func(context.Context) {
		if on.Load() {
			inside()
		}
	})))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	_, err := e.server.SetOptions(sslctx.OpAllowClientRenegotiation)
	must(t, err)
	_, client = e.connect(t, nil)
	if server, client = e.connect(t, sessionOf(t, client)); !server.SessionReused() {
		t.Fatal("not resumed")
	}
	on.Store(true)
	return server, client
}

// TestOneSearch: a connection that resumed a session looks for the client's chain, and a constraint
// of the pool waits. Renegotiations that resume begin no further search, and only the first
// ConnectionState waits.
func TestOneSearch(t *testing.T) {
	noQueue(t)
	defer tlstest.Watchdog(60 * time.Second)()
	var running atomic.Int32
	release := make(chan struct{})
	server, client := resumedByPool(t, func() { running.Add(1); <-release })
	go func() { _, _ = io.Copy(client, client) }() // carries the handshakes on
	for range 5 {
		if n := len(server.ConnectionState().VerifiedChains[0]); n != 1 {
			t.Errorf("the chain has %d certificates", n)
		}
		must(t, server.Renegotiate())
		_, err := server.Write([]byte("x"))
		must(t, err)
		_, err = server.Read(make([]byte, 1))
		must(t, err)
	}
	if n := running.Load(); n != 1 {
		t.Errorf("%d constraints run", n)
	}
	close(release)
}

// TestStateBesideVerification: a client renegotiates with its certificate, and a constraint of the
// pool waits, for which libssl waits. ConnectionState, which has not yet found the chain of the
// first handshake, returns.
func TestStateBesideVerification(t *testing.T) {
	noQueue(t)
	defer tlstest.Watchdog(60 * time.Second)()
	inside, release := make(chan bool, 1), make(chan struct{})
	server, client := resumedByPool(t, func() { inside <- true; <-release })
	exchange(t, server, client)
	must(t, client.Renegotiate())
	go func() { _, _ = client.Read(make([]byte, 1)) }()
	read := make(chan error, 1)
	go func() { _, err := server.Read(make([]byte, 1)); read <- err }()
	<-inside
	if n := len(server.ConnectionState().VerifiedChains[0]); n != 1 {
		t.Errorf("the chain has %d certificates", n)
	}
	close(release)
	must(t, client.Abort())
	<-read
}
