// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/sslhttp"
)

// TestTrust: a request succeeds only if the server's certificate is trusted and for the URL's host.
// That holds for every request, direct and by a proxy.
func TestTrust(t *testing.T) {
	e := newEnds(t, "h2", "http/1.1")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "served") })
	addr, _ := e.serve(t, &http.Server{Handler: handler})
	stranger := newContext(t, sslctx.TLSClientMethod)
	must(t, stranger.SetALPNProtos("h2", "http/1.1"))
	other, err := testcert.New()
	must(t, err)
	must(t, stranger.TrustCertificates(other.Cert))
	local := strings.Replace(addr, "127.0.0.1", "localhost", 1)
	wrong := strings.Replace(addr, "127.0.0.1", "host.example", 1)
	p := newProxy(t, "http", nil)
	hosts := map[string]string{"host.example": "127.0.0.1"}
	for name, c := range map[string]struct {
		d    *sslctx.Dialer
		url  string
		want string // part of the error's text
	}{
		"trusted":                   {&sslctx.Dialer{Context: e.client}, local, ""},
		"trusted, by address":       {&sslctx.Dialer{Context: e.client}, addr, ""},
		"untrusted":                 {&sslctx.Dialer{Context: stranger}, local, "certificate"},
		"another host":              {&sslctx.Dialer{Context: e.client}, wrong, "certificate"},
		"another host, told so":     {&sslctx.Dialer{Context: e.client, ServerName: "localhost"}, wrong, ""},
		"not the host that is told": {&sslctx.Dialer{Context: e.client, ServerName: "host.example"}, local, "certificate"},
	} {
		for _, base := range []*http.Transport{
			{DialContext: dialingBy(hosts)},
			{DialContext: dialingBy(hosts), Proxy: http.ProxyURL(p.url)},
		} {
			t.Run(name, func(t *testing.T) {
				p.setHosts(hosts)
				tr := sslhttp.NewTransport(c.d, base)
				defer tr.CloseIdleConnections()
				for range 2 {
					resp, err := tr.RoundTrip(get(t, "https://"+c.url))
					if c.want == "" {
						if got := read(t, resp, err); got != "served" {
							t.Errorf("the response is %q", got)
						}
					} else if err == nil {
						t.Errorf("it answers %q", read(t, resp, err))
					} else if !errors.Is(err, sslctx.ReasonCertificateVerifyFailed) || !strings.Contains(err.Error(), c.want) {
						t.Errorf("RoundTrip returns %v", err)
					}
				}
			})
		}
	}
}

// TestManyShared: many requests go at once to a server that allows one request on a connection.
// Each gets a connection.
func TestManyShared(t *testing.T) {
	const requests = 40
	e := newEnds(t, "h2")
	var all sync.WaitGroup
	all.Add(requests)
	addr, _ := e.serve(t, &http.Server{HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			all.Done()
			all.Wait() // so that all begin before one ends
			echo(w, r)
		})})
	tr := e.transport(t, nil)
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, "POST", "https://"+addr, io.NopCloser(strings.NewReader("hello")))
			must(t, err)
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Error(err)
				all.Done()
			} else if got := read(t, resp, err); got != "hello" {
				t.Errorf("the echo is %q", got)
			}
		})
	}
	wg.Wait()
}

// TestHookEndsInTransport: a client's hook ends its goroutine. All requests that wait for the
// connection get an error.
func TestHookEndsInTransport(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		for name, base := range map[string]*http.Transport{"shared": nil, "alone": {DisableKeepAlives: true}} {
			t.Run(name, func(t *testing.T) {
				e := newEnds(t, proto)
				addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
				must(t, e.client.SetKeyLogWriter(exiting{}))
				tr := e.transport(t, base)
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						defer cancel()
						if _, err := tr.RoundTrip(get(t, "https://"+addr).WithContext(ctx)); err == nil || ctx.Err() != nil {
							t.Errorf("RoundTrip returns %v", err)
						}
					})
				}
				wg.Wait()
			})
		}
	})
}

// An exiting writer ends the goroutine that calls Write.
type exiting struct{}

func (exiting) Write([]byte) (int, error) {
	runtime.Goexit()
	return 0, nil
}
