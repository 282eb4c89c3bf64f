// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"sslctx"
	"sslctx/internal/tlstest"
	"sslctx/sslhttp"
)

// TestResponseAfterRenegotiation: a server renegotiates and chooses another cipher suite. The TLS
// field of each response has the suite of its time.
func TestResponseAfterRenegotiation(t *testing.T) {
	const before, after = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
	e := newEnds(t, "http/1.1")
	must(t, e.server.SetMaxProtoVersion(sslctx.VersionTLS12))
	must(t, e.server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"))
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	_, err = e.server.SetSessionCacheMode(sslctx.SessCacheOff)
	must(t, err)
	var conns connections
	addr, _ := e.serve(t, &http.Server{ConnState: conns.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := sslhttp.Conn(r.Context())
		fmt.Fprint(w, c.Cipher().StandardName)
		if r.URL.Path == "/renegotiate" {
			must(t, e.server.SetCipherList("ECDHE-ECDSA-AES256-GCM-SHA384"))
			must(t, c.Renegotiate())
		}
	})})
	tr := e.transport(t, nil)
	ask := func(path, want string) (cipher string) {
		resp, err := tr.RoundTrip(get(t, "https://"+addr+path))
		cipher = read(t, resp, err)
		if got := tls.CipherSuiteName(resp.TLS.CipherSuite); cipher == want && got != want {
			t.Errorf("the response has the suite %s", got)
		}
		return cipher
	}
	ask("/", before)
	ask("/renegotiate", "") // its response may come before the renegotiation or after
	eventually(t, "renegotiated", func() bool { return ask("/", after) == after })
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

// TestHiddenCertificate: a client's chain has a certificate that libssl can parse and Go cannot. No
// handler gets a request whose TLS field has only a part of the chain.
func TestHiddenCertificate(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		root := tlstest.Issue(t, "root", nil, tlstest.Authority)
		user := tlstest.Issue(t, "user", root, nil)
		must(t, e.server.TrustCertificate(root.Cert))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		addr, log := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName)
		})})
		ask := func(chain ...[]byte) string {
			e.theirs.Certificates = []tls.Certificate{{Certificate: chain, PrivateKey: user.Key}}
			return outcome(e.theirTransport(t), get(t, "https://"+addr))
		}
		if got := ask(user.Cert.Raw); got != "200 false user" {
			t.Errorf("with its certificate alone: %s", got)
		}
		if got := ask(user.Cert.Raw, tlstest.Unreadable(t)); strings.HasPrefix(got, "200") {
			t.Errorf("with a certificate that Go cannot parse: %s", got)
		}
		log.want(t, "certificate 1 of those that the peer sent cannot be read")
	})
}

// TestHandlerExportsKeys: a handler gets the keying material that the client has, by the Conn. The
// TLS field returns an error, since a tls.ConnectionState of another package has no exporter.
func TestHandlerExportsKeys(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		for _, v := range []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13} {
			e := newEnds(t, proto)
			must(t, e.server.SetMaxProtoVersion(v))
			addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := r.TLS.ExportKeyingMaterial("EXPORTER-test", nil, 32); err == nil {
					t.Error("the TLS field has an exporter")
				}
				key, err := sslhttp.Conn(r.Context()).ExportKeyingMaterial("EXPORTER-test", nil, 32)
				fmt.Fprintf(w, "%x %v", key, err)
			})})
			resp, err := e.theirTransport(t).RoundTrip(get(t, "https://"+addr))
			got := read(t, resp, err)
			key, err := resp.TLS.ExportKeyingMaterial("EXPORTER-test", nil, 32)
			if want := fmt.Sprintf("%x <nil>", key); got != want || err != nil || len(key) != 32 {
				t.Errorf("%v: the handler gets %s, the client %s, %v", v, got, want, err)
			}
			resp, err = e.transport(t, nil).RoundTrip(get(t, "https://"+addr))
			_ = read(t, resp, err)
			if _, err := resp.TLS.ExportKeyingMaterial("EXPORTER-test", nil, 32); err == nil {
				t.Errorf("%v: the TLS field of the response has an exporter", v)
			}
		}
	})
}
