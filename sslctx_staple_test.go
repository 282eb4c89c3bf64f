// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"sslctx"
)

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
		e := newEnds(t, v)
		response := []byte("no OCSP response, but nobody looks")
		must(t, e.server.SetOCSPResponse(response))
		if got := stapled(t, e); got != nil {
			t.Errorf("unasked, the client has %q", got)
		}
		must(t, e.client.RequestOCSP(true))
		if got := stapled(t, e); !bytes.Equal(got, response) {
			t.Errorf("the client has %q", got)
		}
		long := bytes.Repeat([]byte("0123456789"), 1600) // all that a client takes in TLS 1.2
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
func TestOCSPOneContext(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		pair := testPair(t)
		both := newContext(t, sslctx.TLSMethod)
		must(t, both.UseKeyPair(pair.Cert, pair.Key))
		must(t, both.SetMaxProtoVersion(v))
		must(t, both.RequestOCSP(true))
		must(t, both.SetOCSPResponse([]byte("mine")))
		if got := stapled(t, ends{both, both}); string(got) != "mine" {
			t.Errorf("the client has %q", got)
		}
		other := newEnds(t, v) // its server has no response: the callback is told so
		must(t, both.TrustCertificates(pair.Cert))
		if got := stapled(t, ends{other.server, both}); got != nil {
			t.Errorf("the client has %q", got)
		}
	})
}

func TestOCSPCryptoTLS(t *testing.T) {
	pair := testPair(t)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	cert.OCSPStaple = []byte("a staple")
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
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
		if got := theirs.ConnectionState().OCSPResponse; string(got) != "a staple" {
			t.Errorf("their client has %q", got)
		}
		_, _ = theirs.Close(), server.Close()

		s, c = tcpPair(t)
		theirs = tls.Server(s, config)
		client, err := sslctx.Client(c, e.client)
		must(t, err)
		exchange(t, theirs, client)
		if got := client.ConnectionState().OCSPResponse; string(got) != "a staple" {
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
	// What an OCSP responder says that does not want to: a response of one enumerated, tryLater.
	tryLater := []byte{0x30, 0x03, 0x0a, 0x01, 0x03}
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		for want, response := range map[string][]byte{"trylater": tryLater, "no response sent": nil} {
			must(t, e.server.SetOCSPResponse(response))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			go serveGreeting(t, l, e.server, make(chan bool, 1))
			out, _ := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-ign_eof", "-status").CombinedOutput()
			_ = l.Close()
			if !strings.Contains(string(out), want) || !strings.Contains(string(out), "greeting") {
				t.Errorf("s_client does not print %q:\n%s", want, out)
			}
		}
	})
}

// TestOCSPReplaced replaces the response while clients ask for it.
func TestOCSPReplaced(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.RequestOCSP(true))
	a, b := bytes.Repeat([]byte("a"), 1000), bytes.Repeat([]byte("b"), 2000)
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
