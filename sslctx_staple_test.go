// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// ocspResponse is an OCSP response that says that a certificate is good, with size bytes for a signature that
// is none. (From 3.6 on libssl sends no other than one for the server's certificate.)
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

// stapling are ends whose server has a certificate and its issuer's, and respond makes responses for it. (The
// later versions find the issuer in the chain that is sent.)
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

// stapled connects and returns what the client was given.
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
		long := respond(15_000) // all that a client takes in TLS 1.2
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
	})
}

// TestOCSPOneContext: one context is server and client, and libssl calls the same callback for both.
// TestOCSPGarbage: what is no response is sent by OpenSSL before 3.6 as it is; later it is not sent, and ends no handshake.
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
		// This server has no response: the callback is told so.
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

		other := cert // without a staple: the one before goes with its certificate
		other.OCSPStaple = nil
		must(t, e.server.UseCertificate(other))
		if got := stapled(t, e); got != nil {
			t.Errorf("after a certificate without one the client has %q", got)
		}
	})
}

// TestOCSPOpenSSLClient has s_client ask: it says what it makes of what came.
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

// TestOCSPReplaced replaces the response while clients ask for it.
func TestOCSPReplaced(t *testing.T) {
	e, _, respond := stapling(t, sslctx.VersionTLS13)
	must(t, e.client.RequestOCSP(true))
	a, b := respond(1000), respond(2000)
	must(t, e.server.SetOCSPResponse(a))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := e.server.SetOCSPResponse([][]byte{a, b}[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range 30 {
		if got := stapled(t, e); !bytes.Equal(got, a) && !bytes.Equal(got, b) {
			t.Errorf("the client has %d bytes", len(got))
		}
	}
	close(stop)
	wg.Wait()
}
