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
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
	"sslctx/sslhttp"
)

// badEnds are the ends of a hook that are no return.
var badEnds = map[string]func(){"panic": func() { panic("of a hook") }, "Goexit": runtime.Goexit}

// apart runs f, which may panic, on a goroutine of its own, which it may end.
func apart(t *testing.T, f func()) {
	t.Helper()
	done := make(chan bool)
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end in ten seconds")
	}
}

// transports counts connections at the client's end, where the garbage collector closes none.
type transports struct{ made, open atomic.Int32 }

func (n *transports) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	n.made.Add(1)
	n.open.Add(1)
	return &countedConn{raw, sync.OnceFunc(func() { n.open.Add(-1) })}, err
}

// want waits until so many are open of those that were made.
func (n *transports) want(t *testing.T, open, made int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d of %d open", open, made), func() bool { return n.open.Load() == open })
	if got := n.made.Load(); got != made {
		t.Errorf("%d connections are made, not %d", got, made)
	}
}

// A busyHost has one connection, which a request keeps busy. The next request needs a connection by
// HTTP/2.
type busyHost struct {
	tr    *sslhttp.Transport
	addr  string
	conns transports
}

// busyHosts makes such hosts in two ways. Of a host of HTTP/1.1 net/http's transport makes the next
// connection, for the next request alone. A host of HTTP/2 whose connection is full needs another
// one for all.
var busyHosts = map[string]func(t *testing.T) *busyHost{
	"own":    func(t *testing.T) *busyHost { return newBusyHost(t, "http/1.1") },
	"shared": func(t *testing.T) *busyHost { return newBusyHost(t, "h2") },
}

func newBusyHost(t *testing.T, proto string) *busyHost {
	e := newEnds(t, proto)
	b := new(busyHost)
	release := make(chan bool)
	b.addr, _ = e.serve(t, &http.Server{HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				_ = http.NewResponseController(w).Flush()
				<-release
			}
			echo(w, r)
		})})
	b.tr = e.transport(t, &http.Transport{DialContext: b.conns.dial})
	resp, err := b.tr.RoundTrip(get(t, "https://"+b.addr+"/slow"))
	must(t, err)
	for _, c := range []*sslctx.Context{e.server, e.client} {
		must(t, c.SetALPNProtos("h2"))
	}
	t.Cleanup(func() {
		close(release)
		_ = resp.Body.Close()
		b.tr.CloseIdleConnections()
	})
	return b
}

// post sends a request whose GetBody is called before it is sent.
func (b *busyHost) post(t *testing.T, getBody func() (io.ReadCloser, error)) error {
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+b.addr, strings.NewReader("hello"))
	must(t, err)
	r.GetBody = getBody
	resp, err := b.tr.RoundTrip(r)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// answers fails the test if the host has no answer for another request.
func (b *busyHost) answers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got := outcome(b.tr, get(t, "https://"+b.addr).WithContext(ctx)); got != "200 false " {
		t.Errorf("another request: %s", got)
	}
}

// TestGetBodyEnds: GetBody fails, panics or ends its goroutine when the request has a connection.
// That is closed, since no request uses it, and others get one.
func TestGetBodyEnds(t *testing.T) {
	for found, newHost := range busyHosts {
		for name, end := range map[string]func(){"error": func() {}, "panic": badEnds["panic"], "Goexit": badEnds["Goexit"]} {
			t.Run(found+"/"+name, func(t *testing.T) {
				b := newHost(t)
				asked := 0
				apart(t, func() {
					err := b.post(t, func() (io.ReadCloser, error) { asked++; end(); return nil, errSeen })
					if !errors.Is(err, errSeen) {
						t.Errorf("RoundTrip returns %v", err)
					}
				})
				if asked != 1 {
					t.Errorf("GetBody is asked %d times", asked)
				}
				b.conns.want(t, 1, 2)
				b.answers(t)
			})
		}
	}
}

// TestGetBodyBlocks: nobody waits for the GetBody of another request.
func TestGetBodyBlocks(t *testing.T) {
	for found, newHost := range busyHosts {
		t.Run(found, func(t *testing.T) {
			b := newHost(t)
			begun, release, done := make(chan bool), make(chan bool), make(chan error)
			go func() {
				done <- b.post(t, func() (io.ReadCloser, error) {
					begun <- true
					<-release
					return io.NopCloser(strings.NewReader("hello")), nil
				})
			}()
			<-begun
			b.answers(t)
			close(release)
			if err := <-done; err != nil {
				t.Errorf("RoundTrip returns %v", err)
			}
		})
	}
}

// TestTraceEnds: a hook of httptrace panics or ends its goroutine in RoundTrip. The connection that
// was made for the request is closed.
func TestTraceEnds(t *testing.T) {
	for name, c := range map[string]struct {
		proto string
		alone bool
		trace func(end func()) *httptrace.ClientTrace
	}{
		"h2":       {"h2", false, inGetConn(1)},
		"http1.1":  {"http/1.1", false, inGetConn(1)},
		"alone":    {"h2", true, inGetConn(2)}, // the first is that of HTTP/1.1's transport
		"has conn": {"h2", true, inGotConn},
	} {
		for how, end := range badEnds {
			t.Run(name+"/"+how, func(t *testing.T) {
				e := newEnds(t, c.proto)
				addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
				var conns transports
				tr := e.transport(t, &http.Transport{DisableKeepAlives: c.alone, DialContext: conns.dial})
				ctx := httptrace.WithClientTrace(t.Context(), c.trace(end))
				apart(t, func() { t.Errorf("RoundTrip returns: %s", outcome(tr, get(t, "https://"+addr).WithContext(ctx))) })
				conns.want(t, 0, 1)
				if hosts, _ := sslhttp.Known(tr); hosts != 0 {
					t.Errorf("it knows of %d hosts", hosts)
				}
			})
		}
	}
}

// inGetConn calls end in one call of GetConn.
func inGetConn(which int) func(end func()) *httptrace.ClientTrace {
	return func(end func()) *httptrace.ClientTrace {
		calls := 0
		return &httptrace.ClientTrace{GetConn: func(string) {
			if calls++; calls == which {
				end()
			}
		}}
	}
}

func inGotConn(end func()) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { end() }}
}

// TestProxyFuncPanics: the body of a request is closed if Proxy panics.
func TestProxyFuncPanics(t *testing.T) {
	e := newEnds(t, "h2")
	tr := e.transport(t, &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { panic("of a hook") }})
	body := new(closeCounter)
	r := get(t, "https://host.example")
	r.Body = body
	apart(t, func() { _ = outcome(tr, r) })
	if body.n != 1 {
		t.Errorf("the body is closed %d times", body.n)
	}
}

// TestHookEndsWhereItConnects: hooks end the goroutine that connects. The request fails, and the
// connection is closed.
func TestHookEndsWhereItConnects(t *testing.T) {
	for _, name := range []string{"GetProxyConnectHeader", "OnProxyConnectResponse", "TLSHandshakeStart", "TLSHandshakeDone"} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "http/1.1") // it checks that no SSL is left
			addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
			var conns transports
			base := &http.Transport{Proxy: http.ProxyURL(newProxy(t, "http", nil).url), DialContext: conns.dial}
			trace := new(httptrace.ClientTrace)
			switch name {
			case "GetProxyConnectHeader":
				base.GetProxyConnectHeader = func(context.Context, *url.URL, string) (http.Header, error) {
					runtime.Goexit()
					return nil, nil
				}
			case "OnProxyConnectResponse":
				base.OnProxyConnectResponse = func(context.Context, *url.URL, *http.Request, *http.Response) error {
					runtime.Goexit()
					return nil
				}
			case "TLSHandshakeStart":
				trace.TLSHandshakeStart = runtime.Goexit
			case "TLSHandshakeDone":
				trace.TLSHandshakeDone = func(tls.ConnectionState, error) { runtime.Goexit() }
			}
			r := get(t, "https://"+addr)
			if got := outcome(e.transport(t, base), r.WithContext(httptrace.WithClientTrace(t.Context(), trace))); got != "error" {
				t.Error(got)
			}
			conns.want(t, 0, 1)
		})
	}
}

// TestFirstRequestBlocks: a hook of the request that goes first by HTTP/2 blocks. Others wait for
// it no longer than the connection may take to be made, and then get another one.
func TestFirstRequestBlocks(t *testing.T) {
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	var conns transports
	tr := e.transport(t, &http.Transport{TLSHandshakeTimeout: 2 * time.Second, DialContext: conns.dial})
	begun, release, first := make(chan bool), make(chan bool), make(chan string)
	go func() {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) { begun <- true; <-release }})
		first <- outcome(tr, get(t, "https://"+addr).WithContext(ctx))
	}()
	<-begun
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 3 {
		wg.Go(func() {
			if got := outcome(tr, get(t, "https://"+addr).WithContext(ctx)); got != "200 false " {
				t.Error(got)
			}
		})
	}
	wg.Wait()
	made := conns.made.Load()
	if got := outcome(tr, get(t, "https://"+addr).WithContext(ctx)); got != "200 false " || conns.made.Load() != made {
		t.Errorf("%s, connections: %d, %d before", got, conns.made.Load(), made)
	}
	close(release)
	if got := <-first; got != "200 false " {
		t.Errorf("the first request: %s", got)
	}
}

// TestLastRequestBlocks: a hook of a request blocks that is the last one of its connection. Nobody
// waits for that connection.
func TestLastRequestBlocks(t *testing.T) {
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	tr := e.transport(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ask := func() {
		if got := outcome(tr, get(t, "https://"+addr).WithContext(ctx)); got != "200 false " {
			t.Error(got)
		}
	}
	ask()
	begun, release, last := make(chan bool), make(chan bool), make(chan string)
	go func() {
		r := get(t, "https://"+addr)
		r.Close = true
		last <- outcome(tr, r.WithContext(httptrace.WithClientTrace(t.Context(), inGetConn(2)(func() { begun <- true; <-release }))))
	}()
	<-begun
	ask()
	close(release)
	if got := <-last; got != "200 false " {
		t.Errorf("the last request: %s", got)
	}
}

// TestDialingBlocks: what connects does not end with its time limit. The requests that wait fail with a
// timeout, and one that comes after the limit connects anew.
func TestDialingBlocks(t *testing.T) {
	c := newContext(t, sslctx.TLSClientMethod)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan bool)
		var dials atomic.Int32
		tr := sslhttp.NewTransport(&sslctx.Dialer{Context: c}, &http.Transport{TLSHandshakeTimeout: time.Hour,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				<-release
				return nil, errSeen
			}})
		var wg sync.WaitGroup
		timesOut := func() {
			begin := time.Now()
			_, err := tr.RoundTrip(get(t, "https://host.example"))
			timeout, ok := err.(net.Error)
			if !ok || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("RoundTrip returns %v", err)
			}
			if took := time.Since(begin); took > time.Hour+time.Minute {
				t.Errorf("RoundTrip takes %v", took)
			}
		}
		want := func(n int32) {
			t.Helper()
			if synctest.Wait(); dials.Load() != n {
				t.Errorf("%d dialings, not %d", dials.Load(), n)
			}
		}
		wg.Go(timesOut)
		wg.Go(timesOut)
		want(1)
		time.Sleep(time.Hour + 100*time.Millisecond) // of the bubble
		wg.Go(timesOut)
		want(3) // each of the first two has begun one
		wg.Wait()
		close(release)
		if _, err := tr.RoundTrip(get(t, "https://host.example")); !errors.Is(err, errSeen) {
			t.Errorf("RoundTrip returns %v", err)
		}
		want(4)
		if hosts, _ := sslhttp.Known(tr); hosts != 0 {
			t.Errorf("it knows of %d hosts", hosts)
		}
	})
}

// TestHookPanicsWhenUnwanted: a connection is made when its request is given up. If its Close has a
// hook panic, the program goes on.
func TestHookPanicsWhenUnwanted(t *testing.T) {
	e := newEnds(t, "http/1.1")
	tlstest.AddSession(t, e.client, tlstest.NewSession(t, "id"))
	ran := make(chan bool)
	must(t, e.client.SetRemoveSessionCallback(func(s *sslctx.Session) {
		_ = s.Close()
		close(ran)
		panic("of a hook")
	}))
	addr, _ := e.serve(t, new(http.Server))
	tr := e.transport(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	begun, release := make(chan bool), make(chan bool)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{TLSHandshakeDone: func(tls.ConnectionState, error) {
		close(begun)
		<-release
	}})
	done := make(chan string)
	go func() { done <- outcome(tr, get(t, "https://"+addr).WithContext(ctx)) }()
	<-begun
	cancel()
	<-done
	must(t, e.client.Close()) // now the connection is the last that has the SSL_CTX
	close(release)
	<-ran
}

// An endingContext calls end in one of its methods.
type endingContext struct {
	context.Context
	method string
	end    func()
}

func (c endingContext) in(method string) {
	if c.method == method {
		c.end()
	}
}

func (c endingContext) Deadline() (time.Time, bool) { c.in("Deadline"); return c.Context.Deadline() }
func (c endingContext) Done() <-chan struct{}       { c.in("Done"); return c.Context.Done() }
func (c endingContext) Value(key any) any           { c.in("Value"); return c.Context.Value(key) }

// TestContextEnds: a method of a request's context panics, or ends the goroutine. The request leaves
// no connection and no open body, and the next request succeeds.
func TestContextEnds(t *testing.T) {
	for _, method := range []string{"Deadline", "Done", "Value"} {
		for how, end := range badEnds {
			t.Run(method+"/"+how, func(t *testing.T) {
				e := newEnds(t, "h2")
				addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
				var conns transports
				tr := e.transport(t, &http.Transport{TLSHandshakeTimeout: 20 * time.Second, DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
					return conns.dial(context.Background(), network, addr)
				}})
				body := new(closeCounter)
				r := get(t, "https://"+addr).WithContext(endingContext{t.Context(), method, end})
				r.Method, r.Body = "POST", body
				apart(t, func() {
					if out := outcome(tr, r); method != "Value" { // some of its calls are where the Transport connects
						t.Errorf("RoundTrip returns: %s", out)
					}
				})
				eventually(t, "all closed", func() bool { return conns.open.Load() == 0 })
				eventually(t, "no host known", func() bool { hosts, _ := sslhttp.Known(tr); return hosts == 0 })
				if body.n == 0 {
					t.Error("the body is open")
				}
				resp, err := tr.RoundTrip(get(t, "https://"+addr))
				read(t, resp, err)
			})
		}
	}
}

// A lateContext calls end in the Done that the wait for a connection calls, when that is made.
type lateContext struct {
	context.Context
	made func() bool
	end  func()
}

func (c lateContext) Done() <-chan struct{} {
	callers := make([]uintptr, 8)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for f, more := frames.Next(); ; f, more = frames.Next() {
		if strings.HasSuffix(f.Function, ".(*Transport).await") {
			for !c.made() {
				runtime.Gosched()
			}
			c.end()
		}
		if !more {
			return c.Context.Done()
		}
	}
}

// TestContextEndsLate: a method of a request's context panics, or ends the goroutine, when the
// connection that the request waits for is made. The connection does not stay behind.
func TestContextEndsLate(t *testing.T) {
	for _, proto := range []string{"http/1.1", "h2"} {
		for how, end := range badEnds {
			t.Run(proto+"/"+how, func(t *testing.T) {
				e := newEnds(t, proto)
				addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
				var conns transports
				tr := e.transport(t, &http.Transport{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
					return conns.dial(context.Background(), network, addr)
				}})
				made := func() bool { return conns.open.Load() == 1 && sslhttp.Waiting(tr) == 0 }
				apart(t, func() { _ = outcome(tr, get(t, "https://"+addr).WithContext(lateContext{t.Context(), made, end})) })
				eventually(t, "all closed", func() bool { return conns.open.Load() == 0 })
				eventually(t, "no host known", func() bool { hosts, _ := sslhttp.Known(tr); return hosts == 0 })
			})
		}
	}
}

// TestHookPanicsWhereItConnects: a hook of the Dialer's Context panics where the Transport connects.
// The request fails with it, and the program goes on.
func TestHookPanicsWhereItConnects(t *testing.T) {
	e := newEnds(t, "http/1.1")
	must(t, e.server.SetMaxProtoVersion(sslctx.VersionTLS12))
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	must(t, err)
	must(t, e.client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		must(t, s.Close())
		panic("of a hook")
	}))
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	var conns transports
	tr := e.transport(t, &http.Transport{DialContext: conns.dial})
	if _, err := tr.RoundTrip(get(t, "https://"+addr)); err == nil || !strings.Contains(err.Error(), "of a hook") {
		t.Errorf("RoundTrip returns %v", err)
	}
	conns.want(t, 0, 1)
}
