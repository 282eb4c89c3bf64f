// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// trusting returns a configuration for the connection to an https proxy.
func (p *testProxy) trusting() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.pem)
	return &tls.Config{RootCAs: roots}
}

// roundTripper returns our transport, or net/http's over crypto/tls, with the same settings.
func (e *ends) roundTripper(t *testing.T, whose string, base *http.Transport) http.RoundTripper {
	t.Helper()
	if whose == "ours" {
		return e.transport(t, base)
	}
	theirs := base.Clone()
	if theirs.TLSClientConfig == nil {
		theirs.TLSClientConfig = new(tls.Config)
	}
	if theirs.TLSClientConfig.RootCAs == nil {
		theirs.TLSClientConfig.RootCAs = x509.NewCertPool()
	}
	theirs.TLSClientConfig.RootCAs.AppendCertsFromPEM(e.pair.Cert)
	theirs.TLSClientConfig.NextProtos = e.theirs.NextProtos
	theirs.ForceAttemptHTTP2 = e.theirs.NextProtos[0] == "h2"
	t.Cleanup(theirs.CloseIdleConnections)
	return theirs
}

// eachClient runs a test for our transport and for net/http's. So the test expects only what
// net/http does.
func eachClient(t *testing.T, run func(t *testing.T, whose string)) {
	for _, whose := range []string{"ours", "net/http"} {
		t.Run(whose, func(t *testing.T) { run(t, whose) })
	}
}

// TestProxies sends requests by proxies of each scheme, with a user and without. They share a
// connection.
func TestProxies(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5", "socks5h"} {
		for _, user := range []*url.Userinfo{nil, url.UserPassword("joe", "secret")} {
			t.Run(fmt.Sprint(scheme, " user ", user != nil), func(t *testing.T) {
				eachClient(t, func(t *testing.T, whose string) {
					eachProtocol(t, func(t *testing.T, proto string, major int) {
						e := newEnds(t, proto)
						addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
						p := newProxy(t, scheme, user)
						base := &http.Transport{Proxy: http.ProxyURL(p.url)}
						if scheme == "https" {
							base.TLSClientConfig = p.trusting()
						}
						tr := e.roundTripper(t, whose, base)
						addr = strings.Replace(addr, "127.0.0.1", "localhost", 1)
						for range 2 {
							r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, strings.NewReader("hello"))
							must(t, err)
							resp, err := tr.RoundTrip(r)
							if got := read(t, resp, err); got != "hello" || resp.ProtoMajor != major || resp.TLS.NegotiatedProtocol != proto {
								t.Errorf("HTTP/%d: %q", resp.ProtoMajor, got)
							}
						}
						if got := p.asked(); len(got) != 1 || got[0].Host != addr {
							t.Errorf("the proxy was asked for %d connections", len(got))
						}
					})
				})
			})
		}
	}
}

// TestProxyAddresses: a SOCKS proxy connects to addresses of each kind.
func TestProxyAddresses(t *testing.T) {
	eachClient(t, func(t *testing.T, whose string) {
		e := newEnds(t, "http/1.1")
		p := newProxy(t, "socks5", nil)
		p.status = 5
		tr := e.roundTripper(t, whose, &http.Transport{Proxy: http.ProxyURL(p.url)})
		for i, addr := range []string{"192.0.2.1:443", "[2001:db8::1]:443", "host.example:8443"} {
			if _, err := tr.RoundTrip(get(t, "https://"+addr)); err == nil || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("RoundTrip returns %v", err)
			}
			if got := p.asked(); len(got) != i+1 || got[i].Host != addr {
				t.Errorf("the proxy was asked for %v, not for %s", got, addr)
			}
		}
	})
}

// TestProxyHooks: the hook for the header of CONNECT, and the hook for its answer.
func TestProxyHooks(t *testing.T) {
	eachClient(t, func(t *testing.T, whose string) {
		e := newEnds(t, "h2", "http/1.1")
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
		p := newProxy(t, "http", url.UserPassword("joe", "secret"))
		var refusing atomic.Bool
		errRefused := errors.New("refused by the program")
		fixed := http.Header{"X-Fixed": {"1"}}
		base := &http.Transport{Proxy: http.ProxyURL(p.url), ProxyConnectHeader: fixed,
			OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, r *http.Request, resp *http.Response) error {
				if proxy.String() != p.url.String() || r.Method != "CONNECT" || r.Host != addr || resp.Header.Get("X-Proxy") != "tested" {
					t.Errorf("OnProxyConnectResponse is given %v, %v, %v", proxy, r, resp)
				}
				if refusing.Load() {
					return errRefused
				}
				return nil
			}}
		resp, err := e.roundTripper(t, whose, base).RoundTrip(get(t, "https://"+addr))
		read(t, resp, err)

		base = base.Clone()
		gotten := http.Header{"X-Got": {"1"}}
		base.GetProxyConnectHeader = func(_ context.Context, proxy *url.URL, target string) (http.Header, error) {
			if proxy.String() != p.url.String() || target != addr {
				t.Errorf("GetProxyConnectHeader is given %v, %s", proxy, target)
			}
			return gotten, nil
		}
		tr := e.roundTripper(t, whose, base)
		resp, err = tr.RoundTrip(get(t, "https://"+addr))
		read(t, resp, err)
		asked := p.asked()
		if len(asked) != 2 || asked[0].Header.Get("X-Fixed") != "1" || asked[1].Header.Get("X-Got") != "1" || asked[1].Header.Get("X-Fixed") != "" {
			t.Errorf("the headers of CONNECT are %v", asked)
		}
		if len(fixed) != 1 || len(gotten) != 1 {
			t.Errorf("the caller's headers are %v, %v", fixed, gotten)
		}
		tr.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		refusing.Store(true)
		if _, err := tr.RoundTrip(get(t, "https://"+addr)); !errors.Is(err, errRefused) {
			t.Errorf("RoundTrip returns %v", err)
		}
		base.GetProxyConnectHeader = func(context.Context, *url.URL, string) (http.Header, error) { return nil, errRefused }
		if _, err := e.roundTripper(t, whose, base).RoundTrip(get(t, "https://"+addr)); !errors.Is(err, errRefused) {
			t.Errorf("RoundTrip returns %v", err)
		}
	})
}

// TestProxyRefuses: if a proxy refuses, or does not work, the request gets the error. Nothing is
// sent directly to the host, and the request's body is closed.
func TestProxyRefuses(t *testing.T) {
	errProxy := errors.New("no proxy today")
	for name, c := range map[string]struct {
		proxy func(t *testing.T) func(*http.Request) (*url.URL, error)
		want  string
	}{
		"wrong user": {func(t *testing.T) func(*http.Request) (*url.URL, error) {
			u := *newProxy(t, "http", url.UserPassword("joe", "secret")).url
			u.User = url.UserPassword("joe", "guess")
			return http.ProxyURL(&u)
		}, "Proxy Authentication Required"},
		"wrong user of SOCKS": {func(t *testing.T) func(*http.Request) (*url.URL, error) {
			u := *newProxy(t, "socks5", url.UserPassword("joe", "secret")).url
			u.User = url.UserPassword("joe", "guess")
			return http.ProxyURL(&u)
		}, "user"},
		"no user for SOCKS": {func(t *testing.T) func(*http.Request) (*url.URL, error) {
			u := *newProxy(t, "socks5", url.UserPassword("joe", "secret")).url
			u.User = nil
			return http.ProxyURL(&u)
		}, ""},
		"503": {func(t *testing.T) func(*http.Request) (*url.URL, error) {
			p := newProxy(t, "http", nil)
			p.status = 503
			return http.ProxyURL(p.url)
		}, "Service Unavailable"},
		"untrusted": {func(t *testing.T) func(*http.Request) (*url.URL, error) {
			return http.ProxyURL(newProxy(t, "https", nil).url)
		}, "x509"},
		"nobody there": {func(*testing.T) func(*http.Request) (*url.URL, error) {
			return http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1"})
		}, "proxyconnect"},
		"error": {func(*testing.T) func(*http.Request) (*url.URL, error) {
			return func(*http.Request) (*url.URL, error) { return nil, errProxy }
		}, errProxy.Error()},
		"scheme": {func(*testing.T) func(*http.Request) (*url.URL, error) {
			return http.ProxyURL(&url.URL{Scheme: "ftp", Host: "127.0.0.1:1"})
		}, `"ftp"`},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2")
			var conns connections
			addr, _ := e.serve(t, &http.Server{ConnState: conns.state, Handler: http.HandlerFunc(echo)})
			tr := e.transport(t, &http.Transport{Proxy: c.proxy(t)})
			body := &countedBody{Reader: strings.NewReader("x")}
			r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, body)
			must(t, err)
			if _, err := tr.RoundTrip(r); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") || !body.closed.Load() {
				t.Errorf("RoundTrip returns %v, the body is closed: %v", err, body.closed.Load())
			}
			if conns.made() != 0 {
				t.Error("the host was connected to")
			}
		})
	}
}

// TestProxyKeepsApart: a request for another proxy, or for none, does not use a connection of this
// proxy.
func TestProxyKeepsApart(t *testing.T) {
	eachClient(t, func(t *testing.T, whose string) {
		eachProtocol(t, func(t *testing.T, proto string, major int) {
			if whose == "net/http" && major == 2 {
				t.Skip("net/http keeps its connections by HTTP/2 by the host alone")
			}
			e := newEnds(t, proto)
			var conns connections
			addr, _ := e.serve(t, &http.Server{ConnState: conns.state, Handler: http.HandlerFunc(echo)})
			proxies := []*testProxy{newProxy(t, "http", nil), newProxy(t, "socks5", nil)}
			var next *url.URL
			tr := e.roundTripper(t, whose, &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return next, nil }})
			for range 3 {
				for _, next = range []*url.URL{nil, proxies[0].url, proxies[1].url} {
					resp, err := tr.RoundTrip(get(t, "https://"+addr))
					read(t, resp, err)
				}
			}
			for _, p := range proxies {
				if n := len(p.asked()); n != 1 {
					t.Errorf("%v was asked for %d connections", p.url, n)
				}
			}
			if n := conns.made(); n != 3 {
				t.Errorf("the server has had %d connections", n)
			}
			tr.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			eventually(t, "no connections left", func() bool { return conns.left() == 0 })
			for _, next = range []*url.URL{proxies[1].url, nil, proxies[0].url} { // and it still works
				resp, err := tr.RoundTrip(get(t, "https://"+addr))
				read(t, resp, err)
			}
			if n := conns.made(); n != 6 {
				t.Errorf("the server has had %d connections", n)
			}
		})
	})
}

// TestProxyStalls: the wait for a silent proxy ends by the handshake's limit, by the request's
// context, and by the request's Cancel.
func TestProxyStalls(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		for name, c := range map[string]struct {
			base   *http.Transport
			dialer *net.Dialer
			change func(*http.Request) *http.Request
		}{
			"TLSHandshakeTimeout": {base: &http.Transport{TLSHandshakeTimeout: 300 * time.Millisecond}},
			"NetDialer.Timeout":   {dialer: &net.Dialer{Timeout: 300 * time.Millisecond}},
			"context": {change: func(r *http.Request) *http.Request {
				ctx, cancel := context.WithTimeout(r.Context(), 50*time.Millisecond)
				context.AfterFunc(r.Context(), cancel)
				return r.WithContext(ctx)
			}},
			"Cancel": {change: func(r *http.Request) *http.Request {
				canceled := make(chan struct{})
				time.AfterFunc(50*time.Millisecond, func() { close(canceled) })
				//lint:ignore SA1019 it is still honoured
				r.Cancel = canceled
				return r
			}},
		} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				e := newEnds(t, "h2", "http/1.1")
				l, err := net.Listen("tcp", "127.0.0.1:0")
				must(t, err)
				defer l.Close()
				base := new(http.Transport)
				if c.base != nil {
					base = c.base.Clone()
				}
				base.Proxy = http.ProxyURL(&url.URL{Scheme: scheme, Host: l.Addr().String()})
				tr := sslhttp.NewTransport(&sslctx.Dialer{Context: e.client, NetDialer: c.dialer}, base)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				r := get(t, "https://host.example").WithContext(ctx)
				if c.change != nil {
					r = c.change(r)
				}
				_, err = tr.RoundTrip(r)
				var timeout net.Error
				if err == nil || ctx.Err() != nil || name != "Cancel" && !(errors.As(err, &timeout) && timeout.Timeout()) {
					t.Errorf("RoundTrip returns %v", err)
				}
				must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Second)))
				raw, err := l.Accept()
				if err != nil {
					return // on a busy machine it may not connect in time: then nothing can be left
				}
				defer raw.Close()
				must(t, raw.SetDeadline(time.Now().Add(10*time.Second)))
				if _, err := io.Copy(io.Discard, raw); errors.As(err, &timeout) && timeout.Timeout() {
					t.Error("the connection is left")
				}
			})
		}
	}
}

// TestProxyFromFunc: Proxy is called once for each request, and may return no proxy.
func TestProxyFromFunc(t *testing.T) {
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	var asked atomic.Int32
	tr := e.transport(t, &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
		asked.Add(1)
		if r.URL.Host != addr {
			t.Errorf("Proxy is asked about %v", r.URL)
		}
		return nil, nil
	}})
	resp, err := tr.RoundTrip(get(t, "https://"+addr))
	read(t, resp, err)
	if asked.Load() != 1 {
		t.Errorf("Proxy is asked %d times", asked.Load())
	}
}
