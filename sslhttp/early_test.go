// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
	"sslctx/sslhttp"
)

// An earlyWorld has a server that accepts early data, and a Transport that sends it.
type earlyWorld struct {
	*ends
	addr  string
	log   *testLog
	cache *sslctx.ClientSessionCache
	tr    *sslhttp.Transport

	early atomic.Bool // the client ends its handshake only when the handler has got its request

	mu      sync.Mutex
	handled chan struct{} // closed when the handler gets a request
	seen    []string      // each request that the handler got: method, "early" or "late", body
}

// newEarlyWorld makes a Transport whose next connection has a session that allows early data.
func newEarlyWorld(t *testing.T, handler http.Handler, protos ...string) *earlyWorld {
	t.Helper()
	was := sslhttp.SetEarlyWindow(time.Hour) // however slow the test is
	t.Cleanup(func() { sslhttp.SetEarlyWindow(was) })
	w := &earlyWorld{ends: newEnds(t, protos...)}
	for _, c := range []*sslctx.Context{w.server, w.client} {
		must(t, c.SetMinProtoVersion(sslctx.VersionTLS13))
	}
	must(t, w.server.SetMaxEarlyData(16384))
	if handler == nil {
		handler = http.HandlerFunc(w.handle)
	}
	w.addr, w.log = w.serveBy(t, &http.Server{Handler: handler}, sslhttp.ServeWithEarlyData)
	var err error
	w.cache, err = sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
	must(t, err)
	w.tr = w.transportOf(t, nil)
	w.learn(t)
	return w
}

func (w *earlyWorld) transportOf(t *testing.T, base *http.Transport) *sslhttp.Transport {
	if base == nil {
		base = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil || !w.early.Load() {
				return c, err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.handled = make(chan struct{})
			return &slowClient{Conn: c, free: w.handled}, nil
		}}
	}
	tr := sslhttp.NewTransport(&sslctx.Dialer{Context: w.client, SessionCache: w.cache}, base)
	tr.SetEarlyData(true)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// A slowClient writes nothing after it has read something, until it is let go: it ends no handshake.
type slowClient struct {
	net.Conn
	free chan struct{}
	read atomic.Bool
}

func (c *slowClient) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Store(true)
	return n, err
}

func (c *slowClient) Write(p []byte) (int, error) {
	if c.read.Load() {
		select {
		case <-c.free:
		case <-time.After(5 * time.Second): // the handler waits for the end of the handshake
		}
	}
	return c.Conn.Write(p)
}

// learn has the Transport make a connection with a full handshake, and keep its sessions. The connection
// is closed then.
func (w *earlyWorld) learn(t *testing.T) {
	t.Helper()
	if got := outcome(w.tr, get(t, "https://"+w.addr+"/learn")); !strings.HasPrefix(got, "200") && !strings.HasPrefix(got, "425") {
		t.Fatal(got)
	}
	eventually(t, "sessions are kept", func() bool { return w.cache.Stats().Sessions > 0 })
	eventually(t, "the connection is closed", func() bool {
		w.tr.CloseIdleConnections() // it may become known only now
		hosts, _ := sslhttp.Known(w.tr)
		return hosts == 0
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
}

// handle says what it sees of a request.
func (w *earlyWorld) handle(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	when := "late"
	if sslhttp.IsEarly(r) {
		when = "early"
	}
	if r.TLS.HandshakeComplete == (when == "early") || r.TLS.Version == 0 || r.TLS.CipherSuite == 0 {
		when += fmt.Sprintf(" %+v", r.TLS)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, r.Method+" "+when+" "+string(body))
	_, _ = io.WriteString(rw, when)
	w.let()
}

// let lets the client end its handshake. mu is held.
func (w *earlyWorld) let() {
	if w.handled != nil {
		close(w.handled)
		w.handled = nil
	}
}

// sees compares the requests that the handler got since the last call.
func (w *earlyWorld) sees(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Join(w.seen, "|") != strings.Join(want, "|") {
		t.Errorf("the handler has got %q, want %q", w.seen, want)
	}
	w.seen = nil
}

func request(t *testing.T, ctx context.Context, method, url, body string) *http.Request {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, reader)
	must(t, err)
	return r
}

// TestEarlyRequest: what is safe goes as early data on a connection that resumes, and what is not does not. All
// requests are handled once, and their responses have the state of a connection whose handshake is over.
func TestEarlyRequest(t *testing.T) {
	for name, row := range map[string]struct {
		method, body string
		say          []bool // WithEarlyData
		header       string
		want         string
	}{
		"GET":             {method: "GET", want: "GET early "},
		"HEAD":            {method: "HEAD", want: "HEAD early "},
		"GET with a body": {method: "GET", body: "body", want: "GET early body"},
		"OPTIONS":         {method: "OPTIONS", want: "OPTIONS late "},
		"declared safe":   {method: "OPTIONS", say: []bool{true}, want: "OPTIONS early "},
		"declared unsafe": {method: "GET", say: []bool{false}, want: "GET late "},
		"POST":            {method: "POST", body: "body", want: "POST late body"},
		"unsafe to the server": { // which answers 425 without asking the handler
			method: "POST", body: "body", say: []bool{true}, want: "POST late body"},
		"Expect":  {method: "GET", body: "body", header: "Expect", want: "GET late body"},
		"Upgrade": {method: "GET", header: "Upgrade", want: "GET late "},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, proto string, major int) {
				if proto == "h2" && row.header == "Upgrade" {
					t.Skip("HTTP/2 has none")
				}
				w := newEarlyWorld(t, nil, proto)
				w.early.Store(strings.Contains(row.want, "early"))
				ctx := t.Context()
				for _, may := range row.say {
					ctx = sslhttp.WithEarlyData(ctx, may)
				}
				r := request(t, ctx, row.method, "https://"+w.addr, row.body)
				if row.header != "" {
					r.Header.Set(row.header, map[string]string{"Expect": "100-continue", "Upgrade": "other"}[row.header])
				}
				status := earlyStatus(&r)
				resp, err := w.tr.RoundTrip(r)
				must(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				must(t, errors.Join(err, resp.Body.Close()))
				sent := strings.Contains(row.want, "early") || name == "unsafe to the server"
				if got := status(); (got == sslctx.EarlyDataAccepted) != sent || (got == sslctx.EarlyDataNotSent) == sent {
					t.Errorf("the early data is %v", got)
				}
				if resp.StatusCode != 200 || resp.ProtoMajor != major || resp.TLS == nil || !resp.TLS.HandshakeComplete || !resp.TLS.DidResume {
					t.Errorf("%v, %+v", resp, resp.TLS)
				}
				w.sees(t, row.want)
				for range 2 { // the connection goes on
					if got := outcome(w.tr, get(t, "https://"+w.addr)); got != "200 false late" {
						t.Errorf("a later request: %s", got)
					}
				}
			})
		})
	}
}

// earlyStatus returns a function for the early data of the connection by which a request is sent first.
func earlyStatus(r **http.Request) func() sslctx.EarlyDataStatus {
	first := make(chan *sslctx.Conn, 10)
	ctx := httptrace.WithClientTrace((*r).Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		first <- sslhttp.Inner(i.Conn)
	}})
	*r = (*r).WithContext(ctx)
	return func() sslctx.EarlyDataStatus { return (<-first).EarlyDataStatus() }
}

// TestEarlyIsOff: a Transport does not send early data unless it is told to, and a server of Serve does not
// accept it.
func TestEarlyIsOff(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		w := newEarlyWorld(t, nil, proto)
		w.tr.SetEarlyData(false)
		r := get(t, "https://"+w.addr)
		status := earlyStatus(&r)
		if got := outcome(w.tr, r); got != "200 false late" || status() != sslctx.EarlyDataNotSent {
			t.Error(got)
		}
		w.tr.SetEarlyData(true)
		plain, _ := w.serveBy(t, &http.Server{Handler: http.HandlerFunc(w.handle)}, sslhttp.Serve)
		w.addr = plain
		w.learn(t)
		if got := outcome(w.tr, get(t, "https://"+w.addr)); got != "200 false late" {
			t.Error(got)
		}
		w.sees(t, "GET late ")
	})
}

// TestRequireHandshake: a handler does not want early requests. The client sends the request again, once, and
// the caller sees only the answer to that.
func TestRequireHandshake(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		var w *earlyWorld
		var asked atomic.Int32
		wanted := sslhttp.RequireHandshake(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handle(rw, r) }))
		w = newEarlyWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			switch {
			case w == nil: // the first request, from which the client learns
			case r.URL.Path == "/never":
				rw.WriteHeader(http.StatusTooEarly)
			default:
				wanted.ServeHTTP(rw, r)
			}
			if w != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.let()
			}
		}), proto)
		for _, row := range []struct {
			path, header, want string
			asked              int32
		}{
			{"/", "", "200 false late", 2},
			{"/never", "", "425 false ", 2},
			{"/", "1", "425 false the request must not be sent in early data\n", 1}, // of a proxy: its client decides
		} {
			w.early.Store(true)
			asked.Store(0)
			r := get(t, "https://"+w.addr+row.path)
			if row.header != "" {
				r.Header.Set("Early-Data", row.header)
			}
			if got := outcome(w.tr, r); got != row.want || asked.Load() != row.asked {
				t.Errorf("%+v: %q, and the server gets %d requests", row, got, asked.Load())
			}
			w.tr.CloseIdleConnections()
			w.early.Store(false)
			w.learn(t)
		}
	})
}

// TestEarlyRejected: a server cannot or will not accept the early data. The request is sent again, and handled
// once.
func TestEarlyRejected(t *testing.T) {
	for name, row := range map[string]struct {
		change func(t *testing.T, w *earlyWorld)
		protos []string
		major  int // 0: as before
	}{
		"replay": {change: func(t *testing.T, w *earlyWorld) { must(t, w.server.FlushSessions(time.Now().Add(24*time.Hour))) }},
		"no early data": {change: func(t *testing.T, w *earlyWorld) {
			must(t, w.server.SetMaxEarlyData(0))
		}},
		"TLS 1.2": {change: func(t *testing.T, w *earlyWorld) {
			must(t, errors.Join(w.server.SetMinProtoVersion(sslctx.VersionTLS12), w.client.SetMinProtoVersion(sslctx.VersionTLS12)))
			w.learn(t) // the minimum is part of what the cache goes by
			must(t, w.server.SetMaxProtoVersion(sslctx.VersionTLS12))
		}},
		"another protocol": {protos: []string{"h2", "http/1.1"}, major: 1, change: func(t *testing.T, w *earlyWorld) {
			must(t, w.server.SetALPNProtos("http/1.1"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, proto string, major int) {
				protos := []string{proto}
				if row.major != 0 {
					if proto != "h2" {
						t.Skip("the change is from HTTP/2")
					}
					protos, major = row.protos, row.major
				}
				w := newEarlyWorld(t, nil, protos...)
				row.change(t, w)
				for range 2 {
					resp, err := w.tr.RoundTrip(request(t, t.Context(), "GET", "https://"+w.addr, "body"))
					if text := read(t, resp, err); text != "late" || resp.ProtoMajor != major || !resp.TLS.HandshakeComplete {
						t.Errorf("%q by HTTP/%d, %+v", text, resp.ProtoMajor, resp.TLS)
					}
				}
				w.sees(t, "GET late body", "GET late body")
			})
		})
	}
}

// TestEarlyHangs: a server does not go on after the ClientHello. The request ends with its context, or at the
// time limit, and another request makes another connection.
func TestEarlyHangs(t *testing.T) {
	setPatience(t, 20*time.Millisecond)
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		w := newEarlyWorld(t, nil, proto)
		var silent, closed atomic.Int32
		var hangs atomic.Bool
		w.tr = w.transportOf(t, &http.Transport{TLSHandshakeTimeout: 30 * time.Second, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil || !hangs.Load() {
				return c, err
			}
			silent.Add(1)
			return &deafConn{Conn: c, closed: &closed}, nil
		}})
		w.learn(t)
		hangs.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan string, 1)
		go func() { first <- outcome(w.tr, get(t, "https://"+w.addr).WithContext(ctx)) }()
		eventually(t, "it is connected", func() bool { return silent.Load() == 1 })
		hangs.Store(false)
		if got := outcome(w.tr, get(t, "https://"+w.addr)); !strings.HasPrefix(got, "200") {
			t.Errorf("the second request: %s", got)
		}
		cancel()
		if got := <-first; got != "canceled" {
			t.Errorf("the first request: %s", got)
		}
		eventually(t, "the hung connection is closed", func() bool { return closed.Load() == 1 })
	})
}

// A deafConn never reads anything.
type deafConn struct {
	net.Conn
	closed *atomic.Int32
	ended  atomic.Bool
}

func (c *deafConn) Read(p []byte) (int, error) {
	buf := make([]byte, 1024)
	for {
		if _, err := c.Conn.Read(buf); err != nil {
			return 0, err
		}
	}
}

func (c *deafConn) Close() error {
	if !c.ended.Swap(true) {
		c.closed.Add(1)
	}
	return c.Conn.Close()
}

// TestEarlyLimit: the time limit of connecting ends a request whose server hangs after its ClientHello.
func TestEarlyLimit(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		w := newEarlyWorld(t, nil, proto)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		var dials atomic.Int32
		tr := w.transportOf(t, &http.Transport{TLSHandshakeTimeout: 200 * time.Millisecond, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		}})
		if got := outcome(tr, get(t, "https://"+w.addr)); got != "timeout" || dials.Load() != 1 {
			t.Errorf("%s, after %d connections", got, dials.Load())
		}
	})
}

// TestEarlyUnknown: a server ends connections that begin with early data. The request is sent again without.
func TestEarlyUnknown(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		w := newEarlyWorld(t, nil, proto)
		var dials atomic.Int32
		tr := w.transportOf(t, &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if dials.Add(1) > 1 || err != nil {
				return c, err
			}
			serverEnd, clientEnd := tlstest.Wire()
			go func() {
				_, _ = serverEnd.Read(make([]byte, 1024))
				_ = serverEnd.Close()
			}()
			return clientEnd, c.Close()
		}})
		if got := outcome(tr, get(t, "https://"+w.addr)); got != "200 false late" {
			t.Error(got)
		}
		if n := dials.Load(); n != 2 {
			t.Errorf("%d connections are made", n)
		}
	})
}

// TestEarlyTogether: many requests come at once, safe and unsafe ones. Only safe ones are early, and each is
// handled once.
func TestEarlyTogether(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		w := newEarlyWorld(t, nil, proto)
		sslhttp.SetEarlyWindow(time.Millisecond)
		for range 20 {
			const each = 8
			outcomes := make(chan string, 2*each)
			for range each {
				go func() { outcomes <- outcome(w.tr, get(t, "https://"+w.addr)) }()
				go func() { outcomes <- outcome(w.tr, request(t, t.Context(), "POST", "https://"+w.addr, "body")) }()
			}
			for range 2 * each {
				if got := <-outcomes; !strings.HasPrefix(got, "200") {
					t.Errorf("a request: %s; the server logs %q", got, w.log)
				}
			}
			w.mu.Lock()
			posts := 0
			for _, seen := range w.seen {
				if strings.HasPrefix(seen, "POST") {
					posts++
					if seen != "POST late body" {
						t.Errorf("the handler gets %q", seen)
					}
				}
			}
			if posts != each || len(w.seen) != 2*each {
				t.Errorf("the handler gets %d requests, %d of them unsafe", len(w.seen), posts)
			}
			w.seen = nil
			w.mu.Unlock()
			w.tr.CloseIdleConnections()
		}
	})
}

// TestEarlyCertificate: the client of a session has shown a certificate, which the server cannot know to be the
// client's before the handshake is over. The request is handled after it.
func TestEarlyCertificate(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		w := newEarlyWorld(t, nil, proto)
		root := tlstest.Issue(t, "root", nil, tlstest.Authority)
		must(t, w.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, w.server.TrustCertificate(root.Cert))
		must(t, w.client.UseCertificate(tlstest.Issue(t, "user", root, func(c *x509.Certificate) {}).TLSCertificate()))
		w.learn(t)
		if got := outcome(w.tr, get(t, "https://"+w.addr)); got != "200 false late" {
			t.Error(got)
		}
		w.sees(t, "GET late ")
	})
}

// TestEarlyClientStops: a client sends a request as early data, and never completes its handshake. It gets its
// answer, and the server ends the connection at the time limit of handshakes.
func TestEarlyClientStops(t *testing.T) {
	w := newEarlyWorld(t, nil, "http/1.1")
	w.addr, w.log = w.serveBy(t, &http.Server{Handler: http.HandlerFunc(w.handle), ReadHeaderTimeout: 300 * time.Millisecond}, sslhttp.ServeWithEarlyData)
	w.learn(t)
	_, raw := w.dialEarly(t, w.addr, nil, "GET / HTTP/1.1\r\nHost: host.example\r\n\r\n")
	n := 0
	var err error
	for buf := make([]byte, 4096); err == nil; { // without a call into libssl
		var got int
		got, err = raw.Read(buf)
		n += got
	}
	if n < 200 || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the client gets %d bytes, and %v", n, err)
	}
	w.sees(t, "GET early ")
}

// dialEarly makes a client that has sent early data to a server, by a session for w.addr. wrap may be nil.
func (w *earlyWorld) dialEarly(t *testing.T, addr string, wrap func(net.Conn) net.Conn, data string) (c *sslctx.Conn, raw net.Conn) {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	must(t, err)
	over := raw
	if wrap != nil {
		over = wrap(raw)
	}
	c, err = (&sslctx.Dialer{Context: w.client, SessionCache: w.cache}).Client(t.Context(), over, w.addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Abort() })
	_, err = c.WriteEarlyData([]byte(data))
	must(t, err)
	return c, raw
}

// acceptEarly makes a connection of a server of ServeWithEarlyData, whose client has sent early data.
func (w *earlyWorld) acceptEarly(t *testing.T, wrap func(net.Conn) net.Conn, data string) (server net.Conn, client *sslctx.Conn) {
	t.Helper()
	inner, err := sslctx.Listen("tcp", "127.0.0.1:0", w.server)
	must(t, err)
	l := sslhttp.NewListener(inner, new(http.Server), true)
	t.Cleanup(func() { _ = l.Close() })
	client, _ = w.dialEarly(t, inner.Addr().String(), wrap, data)
	server, err = l.Accept()
	must(t, err)
	t.Cleanup(func() { _ = server.Close() })
	return server, client
}

// TestEarlyDeadline: net/http ends a read by a deadline while the client's Finished is awaited. The handshake goes on,
// and so does the connection.
func TestEarlyDeadline(t *testing.T) {
	w := newEarlyWorld(t, nil, "http/1.1")
	var split *tlstest.SplitFlight
	server, client := w.acceptEarly(t, func(c net.Conn) net.Conn {
		split = tlstest.NewSplitFlight(c)
		return split
	}, "early")
	buf := make([]byte, 100)
	n, err := server.Read(buf)
	if string(buf[:n]) != "early" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := client.Write([]byte("late"))
		done <- err
	}()
	read := make(chan error, 1)
	go func() {
		_, err := server.Read(buf)
		read <- err
	}()
	eventually(t, "the Finished is awaited", func() bool { return sslhttp.GoesOn(server) })
	must(t, server.SetReadDeadline(time.Now().Add(-time.Second)))
	if err := <-read; !tlstest.IsTimeout(err) {
		t.Fatalf("Read returns %v", err)
	}
	must(t, server.SetReadDeadline(time.Time{}))
	close(split.Free)
	n, err = server.Read(buf)
	if string(buf[:n]) != "late" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	must(t, <-done)
}

// TestEarlyReadAfterHandshake: a Read that began before the handshake was over goes on after it.
func TestEarlyReadAfterHandshake(t *testing.T) {
	w := newEarlyWorld(t, nil, "http/1.1")
	server, client := w.acceptEarly(t, nil, "early")
	_, err := server.Read(make([]byte, 5))
	must(t, err)
	go func() { _, _ = client.Write([]byte("late")) }()
	must(t, sslhttp.ReadEarly(server)) // the handshake is over
	must(t, sslhttp.ReadEarly(server)) // as for a Read that looked before
	buf := make([]byte, 10)
	if n, err := server.Read(buf); string(buf[:n]) != "late" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
}
