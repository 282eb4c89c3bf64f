// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/sslhttp"
)

// TestResponseAfterRenegotiation: a server renegotiates and shows another certificate. The TLS
// field of each response has the cipher suite and the certificate of its time.
func TestResponseAfterRenegotiation(t *testing.T) {
	const before, after = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
	e := newEnds(t, "http/1.1")
	pair, err := testcert.NewRSA()
	must(t, err)
	must(t, e.server.UseKeyPair(pair.Cert, pair.Key)) // beside the other one
	must(t, e.client.TrustCertificates(pair.Cert))
	must(t, e.server.SetMaxProtoVersion(sslctx.VersionTLS12))
	must(t, e.server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"))
	_, err = e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	_, err = e.server.SetSessionCacheMode(sslctx.SessCacheOff)
	must(t, err)
	var conns connections
	addr, _ := e.serve(t, &http.Server{ConnState: conns.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := sslhttp.Conn(r.Context())
		fmt.Fprint(w, c.Cipher().StandardName)
		if r.URL.Path == "/renegotiate" {
			must(t, e.server.SetCipherList("ECDHE-RSA-AES128-GCM-SHA256"))
			must(t, c.Renegotiate())
		}
	})})
	tr := e.transport(t, nil)
	var resp *http.Response
	ask := func(path string) (cipher string) {
		resp, err = tr.RoundTrip(get(t, "https://"+addr+path))
		return read(t, resp, err)
	}
	check := func(cipher string, key x509.PublicKeyAlgorithm) {
		t.Helper()
		if got, cert := tls.CipherSuiteName(resp.TLS.CipherSuite), resp.TLS.PeerCertificates[0]; got != cipher || cert.PublicKeyAlgorithm != key {
			t.Errorf("the response has the suite %s and a key of %v", got, cert.PublicKeyAlgorithm)
		}
	}
	ask("/")
	check(before, x509.ECDSA)
	ask("/renegotiate")
	eventually(t, "renegotiated", func() bool { return ask("/") == after })
	check(after, x509.RSA)
	if n := conns.made(); n != 1 {
		t.Errorf("%d connections are made", n)
	}
}

// TestHTTP2DoesNotRenegotiate: by HTTP/2 neither end begins or allows a renegotiation.
func TestHTTP2DoesNotRenegotiate(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, major int) {
		e := newEnds(t, proto)
		must(t, e.server.SetMaxProtoVersion(sslctx.VersionTLS12))
		check := func(end string, c interface{ Options() (sslctx.Option, error) }) {
			t.Helper()
			o, err := c.Options()
			must(t, err)
			if got := o&sslctx.OpNoRenegotiation != 0; got != (major == 2) {
				t.Errorf("the %s has OpNoRenegotiation: %v", end, got)
			}
		}
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c := sslhttp.Conn(r.Context())
			check("server", c)
			if major == 1 {
				return
			}
			var refused *sslctx.Error
			if err := c.Renegotiate(); !errors.As(err, &refused) {
				t.Errorf("Renegotiate returns %v", err)
			}
		})})
		r := get(t, "https://"+addr)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			check("client", i.Conn.(interface{ Options() (sslctx.Option, error) }))
		}})
		if got := outcome(e.transport(t, nil), r.WithContext(ctx)); got != "200 false " {
			t.Error(got)
		}
	})
}

// TestRequestAfterAuthentication: a client is asked for its certificate after a request. The TLS
// field of the next request has it.
func TestRequestAfterAuthentication(t *testing.T) {
	e := newEnds(t, "http/1.1")
	must(t, e.server.TrustCertificates(e.pair.Cert))
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert|sslctx.VerifyPostHandshake))
	must(t, e.client.UseKeyPair(e.pair.Cert, e.pair.Key))
	must(t, e.client.SetPostHandshakeAuth(true))
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.TLS.PeerCertificates))
		if r.URL.Path == "/ask" {
			must(t, sslhttp.Conn(r.Context()).VerifyClientPostHandshake())
		}
	})})
	c, err := (&sslctx.Dialer{Context: e.client}).Dial("tcp", strings.Replace(addr, "127.0.0.1", "localhost", 1))
	must(t, err)
	defer c.Close()
	in := bufio.NewReader(c)
	for _, row := range []struct{ path, want string }{{"/", "0"}, {"/ask", "0"}, {"/", "1"}} {
		_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", row.path)
		must(t, err)
		resp, err := http.ReadResponse(in, nil)
		must(t, err)
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != row.want {
			t.Errorf("%s: the request has %s certificates, %v", row.path, got, err)
		}
	}
}
