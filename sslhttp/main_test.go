// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
	"sslctx/sslhttp"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }

var (
	must       = tlstest.Must
	newContext = tlstest.NewContext
)

// settles fails the test if goroutines or connections are left after the cleanup.
func settles(t testing.TB) {
	goroutines, ssls := runtime.NumGoroutine(), ossltest.LiveSSLs()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if n := ossltest.CollectUntil(runtime.NumGoroutine, goroutines); n > goroutines {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
		}
		if n := ossltest.CollectUntil(ossltest.LiveSSLs, ssls); n > ssls {
			t.Errorf("%d SSLs are alive, %d before", n, ssls)
		}
	})
}

// ends has the contexts of a server and of a client that trusts it, and the same for crypto/tls.
type ends struct {
	pair           testcert.Pair
	server, client *sslctx.Context
	theirs         *tls.Config
}

func newEnds(t testing.TB, protos ...string) *ends {
	t.Helper()
	settles(t)
	pair, err := testcert.New()
	must(t, err)
	e := &ends{pair: pair, server: newContext(t, sslctx.TLSServerMethod), client: newContext(t, sslctx.TLSClientMethod)}
	must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.client.TrustCertificates(pair.Cert))
	must(t, e.client.SetVerify(sslctx.VerifyPeer))
	for _, c := range []*sslctx.Context{e.server, e.client} {
		must(t, c.SetALPNProtos(protos...))
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pair.Cert)
	e.theirs = &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, NextProtos: protos}
	return e
}

// eachProtocol runs a test for both protocols, with the ALPN list that selects it.
func eachProtocol(t *testing.T, run func(t *testing.T, proto string, major int)) {
	t.Run("h2", func(t *testing.T) { run(t, "h2", 2) })
	t.Run("http1.1", func(t *testing.T) { run(t, "http/1.1", 1) })
}

// A testLog collects the log of an http.Server.
type testLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// want waits for text in the log.
func (l *testLog) want(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the log has "+text, func() bool { return strings.Contains(l.String(), text) })
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after ten seconds: not %s", what)
		}
	}
}

// serve runs the server until the test ends, and returns the address and the log.
func (e *ends) serve(t testing.TB, srv *http.Server) (addr string, l *testLog) {
	t.Helper()
	return e.serveBy(t, srv, sslhttp.Serve)
}

// serveBy is serve by a function like sslhttp.Serve.
func (e *ends) serveBy(t testing.TB, srv *http.Server, serve func(*http.Server, net.Listener) error) (addr string, l *testLog) {
	t.Helper()
	inner, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	l = new(testLog)
	if srv.ErrorLog == nil {
		srv.ErrorLog = log.New(l, "", 0)
	}
	done := make(chan error, 1)
	go func() { done <- serve(srv, inner) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returns %v", err)
		}
	})
	return inner.Addr().String(), l
}

// transport makes a Transport, which is closed when the test ends.
func (e *ends) transport(t testing.TB, base *http.Transport) *sslhttp.Transport {
	tr := sslhttp.NewTransport(&sslctx.Dialer{Context: e.client}, base)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// theirTransport makes net/http's transport over crypto/tls.
func (e *ends) theirTransport(t testing.TB) *http.Transport {
	tr := &http.Transport{TLSClientConfig: e.theirs.Clone(), ForceAttemptHTTP2: true}
	if len(e.theirs.NextProtos) == 1 && e.theirs.NextProtos[0] == "http/1.1" {
		tr.ForceAttemptHTTP2 = false
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// connections counts the connections of a server, by http.Server.ConnState.
type connections struct {
	mu        sync.Mutex
	all, open int
}

func (c *connections) state(_ net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew:
		c.all++
		c.open++
	case http.StateClosed, http.StateHijacked:
		c.open--
	}
}

func (c *connections) made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

func (c *connections) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Sum")
	n, _ := io.Copy(w, r.Body)
	w.Header().Set("Sum", fmt.Sprint(n))
}

// read returns the body of a response.
func read(t testing.TB, resp *http.Response, err error) string {
	t.Helper()
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(text)
}
