// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// errSeen ends what a test has seen enough of.
var errSeen = errors.New("enough is seen")

// TestConnectLimitIsShortest: what comes before a request has the shortest of the limits, and a
// proxy has a minute.
func TestConnectLimitIsShortest(t *testing.T) {
	const a, b, c = 20 * time.Second, 30 * time.Second, 40 * time.Second
	e := newEnds(t, "h2")
	p := newProxy(t, "http", nil)
	for _, row := range []struct{ handshake, timeout, deadline, want time.Duration }{
		{0, 0, 0, time.Minute},
		{a, 0, 0, a},
		{0, a, 0, a},
		{0, 0, a, a},
		{a, b, c, a},
		{b, a, c, a},
		{c, b, a, a},
	} {
		var got time.Duration
		base := &http.Transport{Proxy: http.ProxyURL(p.url), TLSHandshakeTimeout: row.handshake,
			GetProxyConnectHeader: func(ctx context.Context, _ *url.URL, _ string) (http.Header, error) {
				if end, ok := ctx.Deadline(); ok {
					got = time.Until(end)
				}
				return nil, errSeen
			}}
		d := &sslctx.Dialer{Context: e.client, NetDialer: &net.Dialer{Timeout: row.timeout}}
		if row.deadline > 0 {
			d.NetDialer.Deadline = time.Now().Add(row.deadline)
		}
		if _, err := sslhttp.NewTransport(d, base).RoundTrip(get(t, "https://host.example")); !errors.Is(err, errSeen) {
			t.Errorf("RoundTrip returns %v", err)
		}
		if got > row.want || got < row.want-8*time.Second {
			t.Errorf("TLSHandshakeTimeout %v, Timeout %v, Deadline in %v: there is %v", row.handshake, row.timeout, row.deadline, got)
		}
	}
}

// dialed is what a Transport does for a URL until it would connect: to which address, and with how
// much time, 0 for any.
func dialed(t *testing.T, base *http.Transport, url string) (addr string, limit time.Duration) {
	t.Helper()
	d := &sslctx.Dialer{Context: newContext(t, sslctx.TLSClientMethod), NetDialer: &net.Dialer{
		ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
			addr = address
			if end, ok := ctx.Deadline(); ok {
				limit = time.Until(end)
			}
			return errSeen
		}}}
	if _, err := sslhttp.NewTransport(d, base).RoundTrip(get(t, url)); !errors.Is(err, errSeen) {
		t.Errorf("RoundTrip returns %v", err)
	}
	return addr, limit
}

// TestDefaultPorts: a URL without a port has that of its scheme, a proxy's, too.
func TestDefaultPorts(t *testing.T) {
	for _, c := range []struct{ url, proxy, want string }{
		{"https://127.0.0.1", "", "127.0.0.1:443"},
		{"https://127.0.0.1:8443/x", "", "127.0.0.1:8443"},
		{"https://[::1]/", "", "[::1]:443"},
		{"https://host.example", "http://127.0.0.1", "127.0.0.1:80"},
		{"https://host.example", "https://127.0.0.1", "127.0.0.1:443"},
		{"https://host.example", "socks5://127.0.0.1", "127.0.0.1:1080"},
		{"https://host.example", "socks5h://127.0.0.1", "127.0.0.1:1080"},
		{"https://host.example", "socks5h://[::1]:1081", "[::1]:1081"},
	} {
		base := new(http.Transport)
		if c.proxy != "" {
			u, err := url.Parse(c.proxy)
			must(t, err)
			base.Proxy = http.ProxyURL(u)
		}
		if got, _ := dialed(t, base, c.url); got != c.want {
			t.Errorf("%s by %q: it connects to %s", c.url, c.proxy, got)
		}
	}
}

// TestDefaultsWithoutBase: 30 seconds to connect, http.DefaultTransport's limits for idle
// connections, no proxy.
func TestDefaultsWithoutBase(t *testing.T) {
	if _, limit := dialed(t, nil, "https://127.0.0.1"); limit > 30*time.Second || limit < 22*time.Second {
		t.Errorf("it has %v to connect", limit)
	}
	if _, limit := dialed(t, new(http.Transport), "https://127.0.0.1"); limit != 0 {
		t.Errorf("with an empty base it has %v to connect", limit)
	}
	got := sslhttp.Settings(sslhttp.NewTransport(nil, nil))
	want := http.DefaultTransport.(*http.Transport)
	if got.MaxIdleConns != want.MaxIdleConns || got.MaxIdleConnsPerHost != want.MaxIdleConnsPerHost || got.IdleConnTimeout != want.IdleConnTimeout {
		t.Errorf("%d idle connections, %d a host, for %v", got.MaxIdleConns, got.MaxIdleConnsPerHost, got.IdleConnTimeout)
	}
	if got.Proxy != nil {
		t.Error("it has a Proxy")
	}
}

// TestForgets: when its connections are closed, and for hosts that it could not connect to, a
// Transport keeps nothing in mind but that there are requests without a proxy.
func TestForgets(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
		_, port, err := net.SplitHostPort(addr)
		must(t, err)
		hosts := map[string]string{}
		for i := range 10 {
			hosts[fmt.Sprintf("h%d.example", i)] = "127.0.0.1"
		}
		p := newProxy(t, "http", nil)
		p.setHosts(hosts)
		dial := dialingBy(hosts)
		tr := sslhttp.NewTransport(&sslctx.Dialer{Context: e.client, ServerName: "localhost"}, &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasPrefix(addr, "down.") {
					return nil, errSeen
				}
				return dial(ctx, network, addr)
			},
			Proxy: func(r *http.Request) (*url.URL, error) {
				u := *p.url
				u.User = url.User(r.URL.Query().Get("proxy"))
				if u.User.Username() == "" {
					return nil, nil
				}
				return &u, nil
			}})
		for host := range hosts {
			for _, query := range []string{"", "?proxy=a", "?proxy=b"} {
				for _, closing := range []bool{true, false} { // otherwise the last one ends the connection
					r := get(t, "https://"+host+":"+port+query)
					r.Close = closing
					resp, err := tr.RoundTrip(r)
					read(t, resp, err)
				}
			}
		}
		if _, err := tr.RoundTrip(get(t, "https://down.example")); !errors.Is(err, errSeen) {
			t.Errorf("RoundTrip returns %v", err)
		}
		if hosts, routes := sslhttp.Known(tr); hosts != 30 || routes != 3 {
			t.Errorf("it knows of %d hosts by %d routes", hosts, routes)
		}
		tr.CloseIdleConnections()
		eventually(t, "nothing known but the way straight", func() bool {
			hosts, routes := sslhttp.Known(tr)
			return hosts == 0 && routes == 1
		})
	})
}

// TestCancelLeavesOthers: a request that is given up leaves its connection, which is being made, to
// the other one that waits for it.
func TestCancelLeavesOthers(t *testing.T) {
	setPatience(t, time.Hour)
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		begun, release := make(chan bool, 9), make(chan bool)
		must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
			begun <- true
			<-release
			return nil, nil
		}))
		var conns connections
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo), ConnState: conns.state})
		tr := e.transport(t, nil)
		send := func(ctx context.Context) <-chan error {
			done := make(chan error, 1)
			go func() {
				resp, err := tr.RoundTrip(get(t, "https://"+addr).WithContext(ctx))
				if err == nil {
					_ = resp.Body.Close()
				}
				done <- err
			}()
			return done
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := send(ctx)
		<-begun
		second := send(t.Context())
		eventually(t, "two that wait", func() bool { return sslhttp.Waiting(tr) == 2 })
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first RoundTrip returns %v", err)
		}
		close(release)
		if err := <-second; err != nil {
			t.Errorf("the second RoundTrip returns %v", err)
		}
		if n := conns.made(); n != 1 || len(begun) > 0 {
			t.Errorf("%d connections are made, and %d handshakes are begun later", n, len(begun))
		}
	})
}

// TestFullConnection: MaxConnsPerHost has no request wait for connections by HTTP/2 that take no
// more.
func TestFullConnection(t *testing.T) {
	const requests = 8
	e := newEnds(t, "h2")
	var all sync.WaitGroup
	all.Add(requests)
	addr, _ := e.serve(t, &http.Server{HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1},
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			all.Done()
			all.Wait() // so that none ends before all have begun
		})})
	tr := e.transport(t, &http.Transport{MaxConnsPerHost: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if got := outcome(tr, get(t, "https://"+addr+"/").WithContext(ctx)); got != "200 false " {
				t.Error(got)
				all.Done()
			}
		})
	}
	wg.Wait()
}

// refuseStreams speaks as much of HTTP/2 as to refuse every request, until the client ends the
// connection.
func refuseStreams(c net.Conn, settings string, refusal func(stream []byte) string) {
	if _, err := io.WriteString(c, settings); err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, c, int64(len(preface))); err != nil {
		return
	}
	for {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
			return
		}
		if head[3] == 1 { // HEADERS
			_, _ = io.WriteString(c, refusal(head[5:]))
		}
	}
}

// TestRefusedAlone: a connection for one request ends when the server refuses that.
func TestRefusedAlone(t *testing.T) {
	const noStreams = "\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "\x00\x03\x00\x00\x00\x00"
	reset := func(stream []byte) string { return "\x00\x00\x04\x03\x00" + string(stream) + "\x00\x00\x00\x07" }
	goAway := func([]byte) string {
		return "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	for name, c := range map[string]struct {
		settings string
		refusal  func([]byte) string
	}{
		"RST_STREAM": {settingsFrame, reset},
		"GOAWAY":     {settingsFrame, goAway},
		"no streams": {noStreams, reset},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2")
			var speaking sync.WaitGroup
			addr := e.serveRaw(t, func(raw net.Conn) {
				speaking.Add(1)
				defer speaking.Done()
				_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
				refuseStreams(raw, c.settings, c.refusal)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if got := outcome(e.transport(t, &http.Transport{DisableKeepAlives: true}), get(t, "https://"+addr).WithContext(ctx)); got != "error" {
				t.Error(got)
			}
			speaking.Wait()
			if ctx.Err() != nil {
				t.Error("connections are left")
			}
		})
	}
}

// TestClosingRequestsAlone: a request that is the last one of its connection takes none from
// others.
func TestClosingRequestsAlone(t *testing.T) {
	for name, closing := range map[string]func(*http.Request){
		"Close":  func(r *http.Request) { r.Close = true },
		"header": func(r *http.Request) { r.Header.Set("Connection", "close") },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2")
			addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.RemoteAddr)
			})})
			tr := e.transport(t, nil)
			from := func(change func(*http.Request)) string {
				r := get(t, "https://"+addr)
				change(r)
				resp, err := tr.RoundTrip(r)
				return read(t, resp, err)
			}
			shared := from(func(*http.Request) {})
			if alone := from(closing); alone == shared {
				t.Error("the last request comes by the connection of others")
			}
			if again := from(func(*http.Request) {}); again != shared {
				t.Error("the last request ended the connection of others")
			}
		})
	}
}

// TestUnusedIsClosed: a connection that is made for a request is closed when RoundTrip returns, if
// what it agreed on is not allowed, and if net/http then does not send the request.
func TestUnusedIsClosed(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, major int) {
		e := newEnds(t, proto)
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
		other := new(http.Protocols)
		other.SetHTTP1(major == 2)
		other.SetHTTP2(major == 1)
		for name, c := range map[string]struct {
			base   *http.Transport
			change func(*http.Request)
		}{
			"not allowed": {&http.Transport{Protocols: other}, func(*http.Request) {}},
			"not sent":    {&http.Transport{}, func(r *http.Request) { r.Header.Set("X", "a\x00b") }},
		} {
			var made, closed atomic.Int32
			c.base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				raw, err := new(net.Dialer).DialContext(ctx, network, addr)
				made.Add(1)
				return &countedConn{raw, sync.OnceFunc(func() { closed.Add(1) })}, err
			}
			r := get(t, "https://"+addr)
			c.change(r)
			if got := outcome(e.transport(t, c.base), r); got != "error" {
				t.Errorf("%s: %s", name, got)
			}
			eventually(t, name+": the connection closed", func() bool { return made.Load() == closed.Load() })
			if made.Load() != 1 {
				t.Errorf("%s: %d connections made", name, made.Load())
			}
		}
	})
}

// TestProxyUsers: a connection that a proxy has made for one user serves no other one.
func TestProxyUsers(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
		p := newProxy(t, "http", url.UserPassword("joe", "secret"))
		next := *p.url
		tr := e.transport(t, &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { u := next; return &u, nil }})
		for _, c := range []struct{ password, want string }{{"secret", "200 false "}, {"guess", "error"}, {"secret", "200 false "}} {
			next.User = url.UserPassword("joe", c.password)
			if got := outcome(tr, get(t, "https://"+addr)); got != c.want {
				t.Errorf("with the password %q: %s", c.password, got)
			}
		}
		if n := len(p.asked()); n != 2 {
			t.Errorf("the proxy was asked for %d connections", n)
		}
	})
}

// TestProxyConfig: an https proxy must have the name that TLSClientConfig says, and is offered no
// protocol.
func TestProxyConfig(t *testing.T) {
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	p := newProxy(t, "https", nil)
	for name, c := range map[string]struct {
		change func(*tls.Config)
		want   string
	}{
		"NextProtos":         {func(config *tls.Config) { config.NextProtos = []string{"h2"} }, ""},
		"ServerName":         {func(config *tls.Config) { config.ServerName = "localhost" }, ""},
		"another ServerName": {func(config *tls.Config) { config.ServerName = "host.example" }, "x509"},
	} {
		config := p.trusting()
		c.change(config)
		resp, err := e.transport(t, &http.Transport{Proxy: http.ProxyURL(p.url), TLSClientConfig: config}).RoundTrip(get(t, "https://"+addr))
		if c.want == "" {
			read(t, resp, err)
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: RoundTrip returns %v", name, err)
		}
	}
}

// TestProxySaysTooMuch: a proxy's answer may be as long as MaxResponseHeaderBytes, and the
// connection to one that says more, or that refuses, ends.
func TestProxySaysTooMuch(t *testing.T) {
	for name, c := range map[string]struct {
		max    int64
		answer string
		want   string // of the error's
	}{
		"too long":    {1000, "200 OK\r\nX: " + strings.Repeat("x", 2000), "proxyconnect"},
		"long enough": {3000, "200 OK\r\nX: " + strings.Repeat("x", 2000), "sslctx"},
		"no limit":    {0, "200 OK\r\nX: " + strings.Repeat("x", 20000), "sslctx"},
		"refused":     {0, "503 Not now", "Not now"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2")
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			defer l.Close()
			left := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					left <- err
					return
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				var asked []byte
				for b := make([]byte, 1); !bytes.HasSuffix(asked, []byte("\r\n\r\n")); asked = append(asked, b...) {
					if _, err := conn.Read(b); err != nil {
						left <- err
						return
					}
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 "+c.answer+"\r\n\r\n")
				if _, err := conn.Read(make([]byte, 1)); err == nil { // the handshake
					_, _ = io.WriteString(conn, "this is not TLS")
				}
				_, err = io.Copy(io.Discard, conn)
				left <- err
			}()
			base := &http.Transport{MaxResponseHeaderBytes: c.max, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})}
			if _, err := e.transport(t, base).RoundTrip(get(t, "https://host.example")); err == nil || !strings.Contains(err.Error(), c.want) ||
				strings.Contains(err.Error(), "proxyconnect") != (c.want != "sslctx") {
				t.Errorf("RoundTrip returns %v", err)
			}
			var timeout net.Error
			if err := <-left; errors.As(err, &timeout) && timeout.Timeout() {
				t.Error("the connection to the proxy is left")
			}
		})
	}
}

// A dialQueue is a DialContext whose first calls wait for what the test decides.
type dialQueue struct {
	waits chan chan error // a call puts its end here; nil lets it connect
	free  atomic.Bool     // calls connect at once
	made  atomic.Int32
	ended atomic.Int32 // calls that their context ended
}

func (q *dialQueue) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	q.made.Add(1)
	if !q.free.Load() {
		end := make(chan error, 1)
		q.waits <- end
		select {
		case err := <-end:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			q.ended.Add(1)
			return nil, ctx.Err()
		}
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// several sends n requests that wait for a connection. Their outcomes come in any order; the first
// request connects.
func several(t *testing.T, tr *sslhttp.Transport, addr string, n int, ctxs ...context.Context) (outcomes chan string) {
	t.Helper()
	outcomes = make(chan string, n)
	for i := range n {
		r := get(t, "https://"+addr)
		if i < len(ctxs) {
			r = r.WithContext(ctxs[i])
		}
		go func() { outcomes <- outcome(tr, r) }()
		eventually(t, "it waits", func() bool { return sslhttp.Waiting(tr) == i+1 })
	}
	return outcomes
}

// count waits for outcomes, and returns how many requests were answered.
func count(outcomes chan string, n int) (answered int) {
	for range n {
		if strings.HasPrefix(<-outcomes, "200") {
			answered++
		}
	}
	return answered
}

// setPatience sets the time after which another connection is begun, until the test ends.
func setPatience(t *testing.T, d time.Duration) {
	was := sslhttp.SetPatience(d)
	t.Cleanup(func() { sslhttp.SetPatience(was) })
}

// queued makes a server, and a Transport whose connections wait for what the test decides.
func queued(t *testing.T, proto string, base *http.Transport) (addr string, q *dialQueue, tr *sslhttp.Transport) {
	e := newEnds(t, proto)
	addr, _ = e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	q = &dialQueue{waits: make(chan chan error, 99)}
	base.DialContext = q.dial
	base.IdleConnTimeout = time.Second // a request may leave a connection of net/http's to it
	return addr, q, e.transport(t, base)
}

// TestHungConnection: a connection hangs for which several requests wait, and nothing ends it. All are
// answered by another one.
func TestHungConnection(t *testing.T) {
	setPatience(t, 50*time.Millisecond)
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		addr, q, tr := queued(t, proto, new(http.Transport))
		outcomes := several(t, tr, addr, 4)
		<-q.waits
		q.free.Store(true)
		if n := count(outcomes, 4); n != 4 {
			t.Errorf("%d of 4 requests are answered", n)
		}
	})
}

// TestLimitIsOwn: a connection hangs until its time limit. The request that it was begun for fails, and
// one that came later has its own time.
func TestLimitIsOwn(t *testing.T) {
	setPatience(t, time.Hour)
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		addr, q, tr := queued(t, proto, &http.Transport{TLSHandshakeTimeout: 2 * time.Second})
		first := several(t, tr, addr, 1)
		<-q.waits
		time.Sleep(500 * time.Millisecond)
		later := make(chan string, 1)
		go func() { later <- outcome(tr, get(t, "https://"+addr)) }()
		eventually(t, "both wait", func() bool { return sslhttp.Waiting(tr) == 2 })
		q.free.Store(true)
		if got := <-first; got != "timeout" {
			t.Errorf("the first request: %s", got)
		}
		if got := <-later; !strings.HasPrefix(got, "200") {
			t.Errorf("the later request: %s", got)
		}
	})
}

// TestLimitHoldsForAll: a function connects that does not end. Each request ends at the time limit, also
// one that shares no connection, and one that comes while the host's connection is busy.
func TestLimitHoldsForAll(t *testing.T) {
	busy, release := make(chan bool), make(chan bool)
	e := newEnds(t, "http/1.1")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		busy <- true
		<-release
	})})
	var blocks atomic.Bool
	base := func(keep bool) *http.Transport {
		//lint:ignore SA1019 it has no context
		return &http.Transport{TLSHandshakeTimeout: time.Second, DisableKeepAlives: !keep, Dial: func(network, addr string) (net.Conn, error) {
			if blocks.Load() {
				<-release
			}
			return net.Dial(network, addr)
		}}
	}
	known := e.transport(t, base(true))
	first := make(chan string, 1)
	go func() { first <- outcome(known, get(t, "https://"+addr)) }()
	<-busy
	blocks.Store(true)
	outcomes := make(chan string, 4)
	closes := get(t, "https://"+addr)
	closes.Close = true
	go func() { outcomes <- outcome(known, get(t, "https://"+addr)) }()
	go func() { outcomes <- outcome(known, closes) }()
	go func() { outcomes <- outcome(e.transport(t, base(true)), get(t, "https://"+addr)) }()
	go func() { outcomes <- outcome(e.transport(t, base(false)), get(t, "https://"+addr)) }()
	for range 4 {
		if got := <-outcomes; got != "timeout" {
			t.Errorf("a request: %s", got)
		}
	}
	close(release)
	if got := <-first; !strings.HasPrefix(got, "200") {
		t.Errorf("the first request: %s", got)
	}
}

// TestFailedConnection: of the connections that are made some fail. No more requests have an error than
// connections have failed, and after the first failure each request makes its own connection.
func TestFailedConnection(t *testing.T) {
	setPatience(t, time.Hour)
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		addr, q, tr := queued(t, proto, new(http.Transport))
		outcomes := several(t, tr, addr, 5)
		<-q.waits <- errSeen
		second, third := <-q.waits, <-q.waits
		eventually(t, "each of the others connects", func() bool { return q.made.Load() == 5 })
		second <- errSeen
		eventually(t, "three wait", func() bool { return sslhttp.Waiting(tr) == 3 })
		q.free.Store(true)
		third <- nil
		if n := count(outcomes, 5); n != 3 {
			t.Errorf("%d of 5 requests are answered", n)
		}
	})
}

// TestSharesAgain: after a failure each request that waits makes its own connection. Those that come
// later share.
func TestSharesAgain(t *testing.T) {
	setPatience(t, time.Hour)
	addr, q, tr := queued(t, "h2", new(http.Transport))
	outcomes := several(t, tr, addr, 2)
	<-q.waits <- errSeen
	<-q.waits <- errSeen
	if n := count(outcomes, 2); n != 0 {
		t.Errorf("%d requests are answered", n)
	}
	outcomes = several(t, tr, addr, 3)
	<-q.waits <- nil
	if n := count(outcomes, 3); n != 3 {
		t.Errorf("%d of 3 requests are answered", n)
	}
	if n := q.made.Load(); n != 3 {
		t.Errorf("%d connections are made, 2 before", n)
	}
}

// TestConnectionsOfOthers: requests end while their connections are being made. The connections go on
// for the one that still waits, but not more than maxOrphans.
func TestConnectionsOfOthers(t *testing.T) {
	const most = 16
	setPatience(t, 0)
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		addr, q, tr := queued(t, proto, new(http.Transport))
		waits := several(t, tr, addr, 1)
		<-q.waits
		ctx, end := context.WithCancel(t.Context())
		outcomes := make(chan string, most+4)
		for range most + 4 {
			go func() { outcomes <- outcome(tr, get(t, "https://"+addr).WithContext(ctx)) }()
		}
		var dials []chan error
		for range most + 4 {
			dials = append(dials, <-q.waits)
		}
		end()
		if n := count(outcomes, most+4); n != 0 {
			t.Errorf("%d requests are answered", n)
		}
		ctx, end = context.WithCancel(t.Context())
		defer end()
		go func() { outcomes <- outcome(tr, get(t, "https://"+addr).WithContext(ctx)) }()
		<-q.waits
		eventually(t, "the oldest have ended", func() bool { return q.ended.Load() == 4 })
		q.free.Store(true)
		for _, d := range dials { // in any order; four have ended
			d <- nil
		}
		if n := count(waits, 1); n != 1 {
			t.Error("the request that waits is not answered")
		}
	})
}

// TestOneAtATime: a host takes the next connection only when the last is closed, and MaxConnsPerHost is 1. All
// of the requests that come at once are answered, with one that wants a connection of its own among them.
func TestOneAtATime(t *testing.T) {
	for name, own := range map[string]bool{"shared": false, "one of its own": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "http/1.1")
			addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
			permit := make(chan bool, 1)
			tr := e.transport(t, &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				select {
				case permit <- true:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					<-permit
					return nil, err
				}
				return &countedConn{Conn: c, forget: sync.OnceFunc(func() { <-permit })}, nil
			}})
			for range 20 {
				const requests = 6
				outcomes := make(chan string, requests)
				for i := range requests {
					r := get(t, "https://"+addr)
					r.Close = own && i == 0
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					go func() { outcomes <- outcome(tr, r.WithContext(ctx)) }()
				}
				if n := count(outcomes, requests); n != requests {
					t.Fatalf("%d of %d requests are answered", n, requests)
				}
				tr.CloseIdleConnections()
			}
		})
	}
}

// TestDialsThatGoOn: MaxConnsPerHost holds for functions that connect and do not end with their context.
func TestDialsThatGoOn(t *testing.T) {
	e := newEnds(t, "http/1.1")
	release := make(chan bool)
	var running, most atomic.Int32
	//lint:ignore SA1019 it has no context
	tr := e.transport(t, &http.Transport{MaxConnsPerHost: 2, Dial: func(string, string) (net.Conn, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-release
		return nil, errSeen
	}})
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_ = outcome(tr, get(t, "https://host.example").WithContext(ctx))
		cancel()
	}
	if n := most.Load(); n == 0 || n > 2 {
		t.Errorf("%d functions connect at once", n)
	}
	close(release)
	eventually(t, "it knows of no host", func() bool { hosts, _ := sslhttp.Known(tr); return hosts == 0 })
}

// TestOneConnection: MaxConnsPerHost holds for the connections that are being made, too.
func TestOneConnection(t *testing.T) {
	setPatience(t, 0)
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		addr, q, tr := queued(t, proto, &http.Transport{MaxConnsPerHost: 1})
		outcomes := several(t, tr, addr, 3)
		end := <-q.waits
		if n := q.made.Load(); n != 1 {
			t.Errorf("%d connections are made", n)
		}
		q.free.Store(true)
		end <- nil
		if n := count(outcomes, 3); n != 3 {
			t.Errorf("%d of 3 requests are answered", n)
		}
	})
}

// A panickingConn panics when it is closed, and says so.
type panickingConn struct {
	net.Conn
	closed chan bool
}

func (c panickingConn) Close() error {
	_ = c.Conn.Close()
	close(c.closed)
	panic("of a transport")
}

// TestTransportPanicsWhenUnwanted: a request that connects by itself takes a connection that comes first. When
// its own is closed, the transport panics, and the program goes on.
func TestTransportPanicsWhenUnwanted(t *testing.T) {
	e := newEnds(t, "http/1.1")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	shared, release, closed := make(chan bool), make(chan bool), make(chan bool)
	var dials atomic.Int32
	tr := e.transport(t, &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		switch dials.Add(1) {
		case 1:
			close(shared)
			<-release
		case 2:
			return panickingConn{c, closed}, err
		}
		return c, err
	}})
	outcomes := make(chan string, 2)
	go func() { outcomes <- outcome(tr, get(t, "https://"+addr)) }()
	<-shared
	own, hold := make(chan bool), make(chan bool)
	r := get(t, "https://"+addr)
	r.Close = true
	r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{TLSHandshakeDone: func(tls.ConnectionState, error) {
		close(own)
		<-hold
	}}))
	go func() { outcomes <- outcome(tr, r) }()
	<-own
	close(release)
	if n := count(outcomes, 1); n != 1 {
		t.Error("no request is answered")
	}
	close(hold)
	<-closed
	if n := count(outcomes, 1); n != 1 {
		t.Error("the other request is not answered")
	}
}
