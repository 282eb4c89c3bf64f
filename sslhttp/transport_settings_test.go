// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// A setting is tested with two requests in turn. Their outcomes must be the same as with net/http
// over crypto/tls.
type setting struct {
	base    *http.Transport
	handler http.HandlerFunc // of the server, or
	speak   func(net.Conn)   // the server, after the handshake
	change  func(*http.Request) *http.Request
	want    string // the outcome of each request
	http2   bool   // only for HTTP/2
}

// outcome returns the outcome of a request, in a form that is equal for net/http and for us.
func outcome(tr http.RoundTripper, r *http.Request) string {
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return failure(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Sprint(resp.StatusCode, " ", failure(err))
	}
	return fmt.Sprint(resp.StatusCode, " ", resp.Uncompressed, " ", string(text))
}

func failure(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case strings.Contains(err.Error(), "connection lost"):
		return "lost"
	case strings.Contains(err.Error(), "cancel"):
		return "canceled"
	}
	return "error"
}

// silentHTTP2 agrees on HTTP/2 and then sends nothing.
func silentHTTP2(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// settingsOnly sends the first frame of HTTP/2, and no answers.
func settingsOnly(c net.Conn) {
	_, _ = io.WriteString(c, settingsFrame)
	silentHTTP2(c)
}

// hang ends with its request, and never answers.
func hang(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

func posting(r *http.Request) *http.Request {
	r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader("hello")), 5
	r.Header.Set("Expect", "100-continue")
	return r
}

// soon cancels a request after a short time.
func soon(r *http.Request) *http.Request {
	ctx, cancel := context.WithCancel(r.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	return r.WithContext(ctx)
}

func soonTheOldWay(r *http.Request) *http.Request {
	canceled := make(chan struct{})
	time.AfterFunc(100*time.Millisecond, func() { close(canceled) })
	//lint:ignore SA1019 it is still honoured
	r.Cancel = canceled
	return r
}

func settings() map[string]setting {
	short := 200 * time.Millisecond
	long := 20 * time.Second
	return map[string]setting{
		"ResponseHeaderTimeout": {base: &http.Transport{ResponseHeaderTimeout: short}, handler: hang, want: "timeout"},
		"ResponseHeaderTimeout, silent": {base: &http.Transport{ResponseHeaderTimeout: short}, speak: silentHTTP2,
			want: "timeout"},
		"ResponseHeaderTimeout, settings alone": {base: &http.Transport{ResponseHeaderTimeout: short}, speak: settingsOnly,
			want: "timeout", http2: true},
		"ResponseHeaderTimeout, a slow body": {base: &http.Transport{ResponseHeaderTimeout: short},
			handler: func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				time.Sleep(2 * short)
				_, _ = io.WriteString(w, "slow")
			}, want: "200 false slow"},
		"ExpectContinueTimeout, no answer": {base: &http.Transport{ExpectContinueTimeout: short}, change: posting,
			handler: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(2 * short)
				echo(w, r)
			}, want: "200 false hello"},
		"ExpectContinueTimeout, refused": {base: &http.Transport{ExpectContinueTimeout: long}, change: posting,
			handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusExpectationFailed) }, want: "417 false "},
		"ExpectContinueTimeout, wanted": {base: &http.Transport{ExpectContinueTimeout: long}, change: posting, handler: echo,
			want: "200 false hello"},
		"MaxResponseHeaderBytes": {base: &http.Transport{MaxResponseHeaderBytes: 1000},
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Long", strings.Repeat("x", 10000))
			}, want: "error"},
		"compression": {base: &http.Transport{},
			handler: func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.Header.Get("Accept-Encoding"))
			},
			want: "200 false gzip"},
		"DisableCompression": {base: &http.Transport{DisableCompression: true},
			handler: func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.Header.Get("Accept-Encoding"))
			},
			want: "200 false "},
		"SendPingTimeout": {base: &http.Transport{HTTP2: &http.HTTP2Config{SendPingTimeout: short, PingTimeout: short}},
			speak: settingsOnly, want: "lost", http2: true},
		"canceled":             {base: &http.Transport{}, handler: hang, change: soon, want: "canceled"},
		"canceled, silent":     {base: &http.Transport{}, speak: silentHTTP2, change: soon, want: "canceled"},
		"canceled the old way": {base: &http.Transport{}, handler: hang, change: soonTheOldWay, want: "canceled"},
		"canceled the old way, silent": {base: &http.Transport{}, speak: silentHTTP2, change: soonTheOldWay,
			want: "canceled"},
	}
}

// TestSettings tests settings of http.Transport: each must hold for all requests of a connection,
// not only for the first.
func TestSettings(t *testing.T) {
	for name, s := range settings() {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, proto string, major int) {
				if major == 1 && s.http2 {
					return
				}
				eachClient(t, func(t *testing.T, whose string) {
					e := newEnds(t, proto)
					var addr string
					if s.speak != nil {
						addr = e.serveRaw(t, s.speak)
					} else {
						addr, _ = e.serve(t, &http.Server{Handler: s.handler})
					}
					tr := e.roundTripper(t, whose, s.base.Clone())
					for i := range 2 {
						ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
						r := get(t, "https://"+addr).WithContext(ctx)
						if s.change != nil {
							r = s.change(r)
						}
						if got := outcome(tr, r); got != s.want || ctx.Err() != nil {
							t.Errorf("request %d: %q, not %q (%v)", i, got, s.want, ctx.Err())
						}
						cancel()
					}
				})
			})
		})
	}
}

// serveRaw calls speak for each connection after its handshake, until the test ends.
func (e *ends) serveRaw(t testing.TB, speak func(net.Conn)) (addr string) {
	t.Helper()
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				if c.(*sslctx.Conn).Handshake() == nil {
					speak(c)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range all {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// TestConcurrentSilence: many requests at once to a silent server all end in time.
func TestConcurrentSilence(t *testing.T) {
	e := newEnds(t, "h2")
	addr := e.serveRaw(t, silentHTTP2)
	tr := e.transport(t, &http.Transport{ResponseHeaderTimeout: 200 * time.Millisecond})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			if got := outcome(tr, get(t, "https://"+addr).WithContext(ctx)); got != "timeout" || ctx.Err() != nil {
				t.Errorf("%s, %v", got, ctx.Err())
			}
		})
	}
	wg.Wait()
}

// A countedConn is counted until it is closed.
type countedConn struct {
	net.Conn
	forget func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.forget()
	return err
}

// TestMaxConnsPerHost: the number of connections never exceeds the limit by much, with keep-alives
// and without. net/http does not count a connection that it is about to close.
func TestMaxConnsPerHost(t *testing.T) {
	for _, disabled := range []bool{false, true} {
		t.Run(fmt.Sprint("DisableKeepAlives ", disabled), func(t *testing.T) {
			eachClient(t, func(t *testing.T, whose string) {
				e := newEnds(t, "http/1.1")
				addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					time.Sleep(10 * time.Millisecond)
				})})
				var mu sync.Mutex
				var open, most int
				change := func(by int) {
					mu.Lock()
					defer mu.Unlock()
					open += by
					most = max(most, open)
				}
				tr := e.roundTripper(t, whose, &http.Transport{MaxConnsPerHost: 2, DisableKeepAlives: disabled,
					DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
						c, err := new(net.Dialer).DialContext(ctx, network, addr)
						if err != nil {
							return nil, err
						}
						change(1)
						return &countedConn{c, sync.OnceFunc(func() { change(-1) })}, nil
					}})
				var wg sync.WaitGroup
				for range 12 {
					wg.Go(func() {
						if got := outcome(tr, get(t, "https://"+addr)); got != "200 false " {
							t.Error(got)
						}
					})
				}
				wg.Wait()
				mu.Lock()
				defer mu.Unlock()
				if most > 4 {
					t.Errorf("%d connections at a time", most)
				}
			})
		})
	}
}

// TestInformation: every request gets the 1xx responses before the final one, and the trailers
// after it.
func TestInformation(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		eachClient(t, func(t *testing.T, whose string) {
			e := newEnds(t, proto)
			addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", "</a>")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Trailer", "Sum")
				_, _ = io.WriteString(w, "text")
				w.Header().Set("Sum", "4")
			})})
			tr := e.roundTripper(t, whose, new(http.Transport))
			for range 2 {
				var got []int
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { got = append(got, code); return nil }})
				resp, err := tr.RoundTrip(get(t, "https://"+addr).WithContext(ctx))
				text := read(t, resp, err)
				if !slices.Equal(got, []int{103}) || text != "text" || resp.Trailer.Get("Sum") != "4" {
					t.Errorf("%v, %q, %v", got, text, resp.Trailer)
				}
			}
		})
	})
}

// TestRefusedSettings: a setting without effect is an error that names it, and the request's body
// is closed.
func TestRefusedSettings(t *testing.T) {
	e := newEnds(t, "h2", "http/1.1")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	only1, only2 := new(http.Protocols), new(http.Protocols)
	only1.SetHTTP1(true)
	only2.SetHTTP2(true)
	proxy := http.ProxyFromEnvironment
	for want, base := range map[string]*http.Transport{
		"DialTLSContext":                     {DialTLSContext: func(context.Context, string, string) (net.Conn, error) { panic("it is called") }},
		"DialTLS ":                           {DialTLS: func(string, string) (net.Conn, error) { panic("it is called") }},
		"TLSClientConfig.InsecureSkipVerify": {TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		"TLSClientConfig.RootCAs":            {TLSClientConfig: &tls.Config{RootCAs: e.theirs.RootCAs}},
		"TLSClientConfig.VerifyConnection": {TLSClientConfig: &tls.Config{
			VerifyConnection: func(tls.ConnectionState) error { return nil }}},
		"base.Protocols": {Protocols: only1},
		"":               {TLSClientConfig: &tls.Config{NextProtos: []string{"h2"}}},
		"MinVersion":     {TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}, Proxy: proxy}, // for loopback it is not used
		"MaxVersion":     {TLSClientConfig: &tls.Config{MaxVersion: tls.VersionTLS13}, Proxy: http.ProxyURL(newProxy(t, "http", nil).url)},
		" ":              {TLSClientConfig: &tls.Config{NextProtos: []string{"h2"}}, Proxy: proxy},
		"  ":             {Protocols: only2},
		"   ":            http.DefaultTransport.(*http.Transport).Clone(),
	} {
		t.Run(want, func(t *testing.T) {
			body := &countedBody{Reader: strings.NewReader("x")}
			r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, body)
			must(t, err)
			resp, err := e.transport(t, base).RoundTrip(r)
			if strings.TrimSpace(want) == "" {
				if got := read(t, resp, err); got != "x" {
					t.Errorf("the echo is %q", got)
				}
			} else if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) || !body.closed.Load() {
				t.Errorf("RoundTrip returns %v, the body is closed: %v", err, body.closed.Load())
			}
		})
	}
	must(t, e.server.SetALPNProtos("http/1.1"))
	if _, err := e.transport(t, &http.Transport{Protocols: only2}).RoundTrip(get(t, "https://"+addr)); err == nil || !strings.Contains(err.Error(), "base.Protocols") {
		t.Errorf("RoundTrip returns %v", err)
	}
	for _, d := range []*sslctx.Dialer{nil, {}} {
		if _, err := sslhttp.NewTransport(d, nil).RoundTrip(get(t, "https://"+addr)); err == nil || !strings.Contains(err.Error(), "Context") {
			t.Errorf("RoundTrip returns %v", err)
		}
	}
}

// TestOwnDialer: base's functions connect to the host and to a proxy, unless the Dialer has its
// own.
func TestOwnDialer(t *testing.T) {
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	p := newProxy(t, "http", nil)
	var asked []string
	dial := func(_ context.Context, network, to string) (net.Conn, error) {
		asked = append(asked, network+" "+to)
		return net.Dial(network, strings.Replace(to, "host.example", "127.0.0.1", 1))
	}
	named := strings.Replace(addr, "127.0.0.1", "host.example", 1)
	d := &sslctx.Dialer{Context: e.client, ServerName: "localhost"}
	own := &sslctx.Dialer{Context: e.client, NetDialer: new(net.Dialer)}
	for _, c := range []struct {
		d    *sslctx.Dialer
		base *http.Transport
		host string
		want []string
	}{
		{d, &http.Transport{DialContext: dial}, named, []string{"tcp " + named}},
		//lint:ignore SA1019 it is still honoured
		{d, &http.Transport{Dial: func(network, to string) (net.Conn, error) { return dial(t.Context(), network, to) }}, named,
			[]string{"tcp " + named}},
		{d, &http.Transport{DialContext: dial, Proxy: http.ProxyURL(p.url)}, addr, []string{"tcp " + p.url.Host}},
		{own, &http.Transport{DialContext: dial}, addr, nil},
	} {
		asked = nil
		tr := sslhttp.NewTransport(c.d, c.base)
		resp, err := tr.RoundTrip(get(t, "https://"+c.host))
		read(t, resp, err)
		tr.CloseIdleConnections()
		if !slices.Equal(asked, c.want) {
			t.Errorf("it dials %v, not %v", asked, c.want)
		}
	}
	nothing := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, nil }}
	if _, err := e.transport(t, nothing).RoundTrip(get(t, "https://"+addr)); err == nil || !strings.Contains(err.Error(), "DialContext") {
		t.Errorf("RoundTrip returns %v", err)
	}
}

// TestTrace: httptrace reports the handshake, direct and by a proxy, also a failed one.
func TestTrace(t *testing.T) {
	eachClient(t, func(t *testing.T, whose string) {
		e := newEnds(t, "h2", "http/1.1")
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
		p := newProxy(t, "http", nil)
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer tcp.Close()
		go func() {
			for {
				c, err := tcp.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
		for _, c := range []struct{ addr, want string }{{addr, "start done h2 "}, {tcp.Addr().String(), "start done  failed "}} {
			for _, base := range []*http.Transport{{}, {Proxy: http.ProxyURL(p.url)}} {
				var mu sync.Mutex
				seen := ""
				see := func(what string) {
					mu.Lock()
					defer mu.Unlock()
					seen += what + " "
				}
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					TLSHandshakeStart: func() { see("start") },
					TLSHandshakeDone: func(s tls.ConnectionState, err error) {
						see("done " + s.NegotiatedProtocol)
						if err != nil {
							see("failed")
						}
					},
				})
				_ = outcome(e.roundTripper(t, whose, base), get(t, "https://"+c.addr).WithContext(ctx))
				mu.Lock()
				if seen != c.want {
					t.Errorf("the trace sees %q, not %q", seen, c.want)
				}
				mu.Unlock()
			}
		}
	})
}

// TestBodiesClosed: the body of every request is closed, at the latest some time after RoundTrip.
func TestBodiesClosed(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for name, change := range map[string]func(r *http.Request){
		"answered":         func(*http.Request) {},
		"over before":      func(r *http.Request) { *r = *r.WithContext(done) },
		"invalid header":   func(r *http.Request) { r.Header.Set("X", "a\x00b") },
		"no header at all": func(r *http.Request) { r.Header = nil },
		"invalid method":   func(r *http.Request) { r.Method = "A B" },
		"nobody there":     func(r *http.Request) { r.URL.Host = "127.0.0.1:1" },
		"aborted":          func(r *http.Request) { r.URL.Path = "/abort" },
		"not read":         func(r *http.Request) { r.URL.Path = "/unread" },
		"closing":          func(r *http.Request) { r.Close = true },
		"with GetBody": func(r *http.Request) {
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("again")), nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, proto string, _ int) {
				eachClient(t, func(t *testing.T, whose string) {
					e := newEnds(t, proto)
					addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						switch r.URL.Path {
						case "/abort":
							panic(http.ErrAbortHandler)
						case "/unread":
							w.WriteHeader(http.StatusTeapot)
						default:
							echo(w, r)
						}
					})})
					tr := e.roundTripper(t, whose, new(http.Transport))
					for range 2 {
						body := &countedBody{Reader: strings.NewReader("hello")}
						r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, body)
						must(t, err)
						change(r)
						_ = outcome(tr, r)
						eventually(t, "closed", body.closed.Load)
					}
				})
			})
		})
	}
}

// TestZeroTransport: a Transport that NewTransport did not make refuses requests, and closes their
// bodies.
func TestZeroTransport(t *testing.T) {
	for _, tr := range []*sslhttp.Transport{nil, {}} {
		closed := &closeCounter{}
		r, err := http.NewRequest(http.MethodPost, "https://localhost/", closed)
		must(t, err)
		if _, err := tr.RoundTrip(r); err == nil || closed.n != 1 {
			t.Errorf("%v, the body was closed %d times", err, closed.n)
		}
	}
}

type closeCounter struct{ n int }

func (c *closeCounter) Read([]byte) (int, error) { return 0, io.EOF }
func (c *closeCounter) Close() error             { c.n++; return nil }
