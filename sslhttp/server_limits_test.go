// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// waitingHook sets a hook that waits for its context. It counts the hooks that have begun, and
// those that wait.
func (e *ends) waitingHook(t *testing.T) (begun, waiting *atomic.Int32) {
	begun, waiting = new(atomic.Int32), new(atomic.Int32)
	must(t, e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
		waiting.Add(1)
		begun.Add(1)
		defer waiting.Add(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	return begun, waiting
}

// theirsFor returns crypto/tls's configuration for a host.
func (e *ends) theirsFor(name string) *tls.Config {
	config := e.theirs.Clone()
	config.ServerName = name
	return config
}

// halfHandshakes begins handshakes that wait for the hook.
func (e *ends) halfHandshakes(t *testing.T, addr string, n int, begun *atomic.Int32) []net.Conn {
	t.Helper()
	var raws []net.Conn
	for range n {
		raw, err := net.Dial("tcp", addr)
		must(t, err)
		t.Cleanup(func() { _ = raw.Close() })
		raws = append(raws, raw)
		go func() { _ = tls.Client(raw, e.theirsFor("localhost")).Handshake() }()
	}
	eventually(t, "all hooks running", func() bool { return begun.Load() == int32(n) })
	return raws
}

// TestHandshakeLimitEndsHooks: a hook that waits for its store waits no longer than the server's
// limit, even if the client is gone.
func TestHandshakeLimitEndsHooks(t *testing.T) {
	for name, srv := range map[string]*http.Server{
		"ReadHeaderTimeout": {ReadHeaderTimeout: time.Second},
		"ReadTimeout":       {ReadTimeout: time.Second},
		"WriteTimeout":      {WriteTimeout: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2", "http/1.1")
			begun, waiting := e.waitingHook(t)
			addr, log := e.serve(t, srv)
			for _, raw := range e.halfHandshakes(t, addr, 5, begun) {
				_ = raw.Close()
			}
			eventually(t, "all hooks over", func() bool { return waiting.Load() == 0 })
			log.want(t, "timeout")
		})
	}
}

// TestServerEndEndsHooks: Close and Shutdown end the wait of a hook, and log nothing.
func TestServerEndEndsHooks(t *testing.T) {
	for name, end := range map[string]func(*http.Server) error{
		"Close":    (*http.Server).Close,
		"Shutdown": func(s *http.Server) error { return s.Shutdown(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2", "http/1.1")
			begun, waiting := e.waitingHook(t)
			srv := new(http.Server)
			addr, log := e.serve(t, srv)
			e.halfHandshakes(t, addr, 3, begun)
			must(t, end(srv))
			eventually(t, "all hooks over", func() bool { return waiting.Load() == 0 })
			if log.String() != "" {
				t.Errorf("the log has %s", log)
			}
		})
	}
}

const (
	settingsFrame = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	settingsAck   = "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
)

// TestSilentHTTP2Client: a client agrees on HTTP/2 and stops at some point. The server closes its
// connection, as net/http does with crypto/tls.
func TestSilentHTTP2Client(t *testing.T) {
	was := sslhttp.SetMaxPrefaceTime(300 * time.Millisecond)
	defer sslhttp.SetMaxPrefaceTime(was)
	long := time.Hour
	for name, c := range map[string]struct {
		srv    *http.Server
		spoken string
	}{
		"nothing, no limits":            {&http.Server{}, ""},
		"nothing":                       {&http.Server{IdleTimeout: long, WriteTimeout: long}, ""},
		"nothing, ReadTimeout":          {&http.Server{ReadTimeout: long}, ""},
		"nothing, short ReadTimeout":    {&http.Server{ReadTimeout: time.Second}, ""},
		"half a preface":                {&http.Server{IdleTimeout: long, WriteTimeout: long}, preface[:16]},
		"a preface":                     {&http.Server{IdleTimeout: long, WriteTimeout: long}, preface},
		"settings, IdleTimeout":         {&http.Server{IdleTimeout: 100 * time.Millisecond}, preface + settingsFrame + settingsAck},
		"settings, ReadTimeout":         {&http.Server{ReadTimeout: 100 * time.Millisecond}, preface + settingsFrame + settingsAck},
		"settings, pings go unanswered": {&http.Server{HTTP2: &http.HTTP2Config{SendPingTimeout: 100 * time.Millisecond, PingTimeout: 100 * time.Millisecond}}, preface + settingsFrame + settingsAck},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2")
			var conns connections
			c.srv.ConnState = conns.state
			addr, _ := e.serve(t, c.srv)
			client := e.dialRaw(t, addr)
			_, err := io.WriteString(client, c.spoken)
			must(t, err)
			var timeout net.Error
			if _, err := io.Copy(io.Discard, client); errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatal("the connection is open after ten seconds")
			}
			eventually(t, "no connections left", func() bool { return conns.left() == 0 })
		})
	}
}

// TestSlowPreface: after the preface its limit no longer holds, and net/http's deadlines hold as
// they were set.
func TestSlowPreface(t *testing.T) {
	was := sslhttp.SetMaxPrefaceTime(time.Second)
	defer sslhttp.SetMaxPrefaceTime(was)
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	tr := e.transport(t, nil)
	pr, pw := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, pr)
	must(t, err)
	go func() {
		time.Sleep(1500 * time.Millisecond) // longer than the limit
		_, _ = io.WriteString(pw, "late")
		_ = pw.Close()
	}()
	resp, err := tr.RoundTrip(r)
	if got := read(t, resp, err); got != "late" {
		t.Errorf("the echo is %q", got)
	}
}

// TestHTTP2TurnedOff: a program turns off HTTP/2 in net/http, but its Context offers it. The error
// says what to do; HTTP/1.1 works.
func TestHTTP2TurnedOff(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		t.Setenv("GODEBUG", "http2server=0")
		e := newEnds(t, "h2", "http/1.1")
		addr, log := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
		if resp, err := e.transport(t, nil).RoundTrip(get(t, "https://"+addr)); err == nil {
			t.Errorf("it answers %q", read(t, resp, err))
		}
		log.want(t, "http2server=0")
		log.want(t, "SetALPNProtos")
		must(t, e.client.SetALPNProtos("http/1.1"))
		resp, err := e.transport(t, nil).RoundTrip(get(t, "https://"+addr))
		if read(t, resp, err); resp.ProtoMajor != 1 {
			t.Errorf("it speaks %s", resp.Proto)
		}
	})
	t.Run("client", func(t *testing.T) {
		e := newEnds(t, "h2", "http/1.1")
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
		t.Setenv("GODEBUG", "http2client=0")
		tr := e.transport(t, nil)
		if _, err := tr.RoundTrip(get(t, "https://"+addr)); err == nil || !strings.Contains(err.Error(), "http2client=0") {
			t.Errorf("RoundTrip returns %v", err)
		}
		must(t, e.server.SetALPNProtos("http/1.1"))
		resp, err := tr.RoundTrip(get(t, "https://"+addr))
		if read(t, resp, err); resp.ProtoMajor != 1 {
			t.Errorf("it speaks %s", resp.Proto)
		}
	})
}

// TestServerSaysWhy: the log has why a client that agreed on HTTP/2 is not served, and the
// connection ends.
func TestServerSaysWhy(t *testing.T) {
	only1 := new(http.Protocols)
	only1.SetHTTP1(true)
	e := newEnds(t, "h2")
	addr, log := e.serve(t, &http.Server{Protocols: only1})
	c := e.dialRaw(t, addr)
	log.want(t, "Protocols")
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read returns %v", err)
	}
}

// TestServeWaitsForNoHook: a hook that ignores its context does not delay Serve, and the client's
// connection ends.
func TestServeWaitsForNoHook(t *testing.T) {
	e := newEnds(t, "http/1.1")
	begun, end := make(chan bool), make(chan bool)
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
		close(begun)
		<-end
		return nil, nil
	}))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	srv := new(http.Server)
	done := make(chan error, 1)
	go func() { done <- sslhttp.Serve(srv, l) }()
	raw, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer raw.Close()
	must(t, raw.SetDeadline(time.Now().Add(10*time.Second)))
	let := make(chan error, 1)
	go func() { let <- tls.Client(raw, e.theirsFor("localhost")).Handshake() }()
	<-begun
	defer close(end)
	must(t, srv.Close())
	select {
	case err := <-done:
		if !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returns %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Serve waits for the hook")
	}
	if err := <-let; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client's handshake ends with %v", err)
	}
}

// TestHandshakeLimitIsShortest: the context of a hook ends with the shortest of the server's
// limits.
func TestHandshakeLimitIsShortest(t *testing.T) {
	const a, b, c = time.Minute, 2 * time.Minute, 3 * time.Minute
	for _, row := range []struct {
		srv  *http.Server
		want time.Duration
	}{
		{&http.Server{}, 0},
		{&http.Server{ReadHeaderTimeout: -1, ReadTimeout: -1, WriteTimeout: -1}, 0},
		{&http.Server{ReadHeaderTimeout: a}, a},
		{&http.Server{ReadTimeout: a, WriteTimeout: -1}, a},
		{&http.Server{WriteTimeout: a, ReadHeaderTimeout: -1}, a},
		{&http.Server{ReadHeaderTimeout: a, ReadTimeout: b, WriteTimeout: c}, a},
		{&http.Server{ReadHeaderTimeout: b, ReadTimeout: a, WriteTimeout: c}, a},
		{&http.Server{ReadHeaderTimeout: c, ReadTimeout: b, WriteTimeout: a}, a},
	} {
		e := newEnds(t, "h2", "http/1.1")
		limits := make(chan time.Duration, 1)
		must(t, e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
			end, ok := ctx.Deadline()
			if !ok {
				limits <- 0
			} else {
				limits <- time.Until(end)
			}
			return nil, errors.New("enough")
		}))
		addr, _ := e.serve(t, row.srv)
		if c, err := sslctx.Dial("tcp", addr, e.client); err == nil {
			_ = c.Close()
			t.Error("the handshake succeeds")
		}
		if got := <-limits; got > row.want || got < row.want-30*time.Second {
			t.Errorf("ReadHeaderTimeout %v, ReadTimeout %v, WriteTimeout %v: the hook has %v",
				row.srv.ReadHeaderTimeout, row.srv.ReadTimeout, row.srv.WriteTimeout, got)
		}
	}
}

// A deadlineConn is a transport that notes its deadline for writes.
type deadlineConn struct {
	net.Conn
	mu   sync.Mutex
	last time.Time
	were int // deadlines that were not zero
}

func (c *deadlineConn) note(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = t
	if !t.IsZero() {
		c.were++
	}
}

func (c *deadlineConn) SetDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetDeadline(t)
}

func (c *deadlineConn) SetWriteDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetWriteDeadline(t)
}

// A deadlineListener accepts deadlineConns.
type deadlineListener struct{ net.Listener }

func (l deadlineListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &deadlineConn{Conn: c}, err
}

// TestDeadlineEndsWithHandshake: a response may come later than the handshake had to.
func TestDeadlineEndsWithHandshake(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		l := sslhttp.NewListener(sslctx.NewListener(deadlineListener{tcp}, e.server), &http.Server{ReadHeaderTimeout: time.Minute}, false)
		defer l.Close()
		defer e.dialRaw(t, tcp.Addr().String()).Close()
		c, err := l.Accept()
		must(t, err)
		defer c.Close()
		raw := sslhttp.Plain(c).(*sslctx.Conn).NetConn().(*deadlineConn)
		raw.mu.Lock()
		defer raw.mu.Unlock()
		if !raw.last.IsZero() || raw.were == 0 {
			t.Errorf("the deadline is %v, after %d others", raw.last, raw.were)
		}
	})
}

// TestHTTP2OfAnother: a server that another package has set up for HTTP/2 cannot speak it here. It
// serves nothing by a connection that agreed on it, and the log says so.
func TestHTTP2OfAnother(t *testing.T) {
	e := newEnds(t, "h2")
	addr, log := e.serve(t, &http.Server{
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(*http.Server, *tls.Conn, http.Handler) {}},
		Handler:      http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s is served", r.Method) }),
	})
	c := e.dialRaw(t, addr)
	_, err := io.WriteString(c, preface+settingsFrame)
	must(t, err)
	if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it answers %q, %v", got, err)
	}
	log.want(t, "does not speak HTTP/2")
}

// TestOldVersionSpeaksNoHTTP2: a client that agrees on HTTP/2 by TLS 1.1 is let go, and the log
// says why.
func TestOldVersionSpeaksNoHTTP2(t *testing.T) {
	e := newEnds(t, "h2")
	for _, c := range []*sslctx.Context{e.server, e.client} {
		must(t, c.SetMinProtoVersion(sslctx.VersionTLS11))
		must(t, c.SetMaxProtoVersion(sslctx.VersionTLS11))
		must(t, c.SetSecurityLevel(0))
	}
	addr, log := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	c := e.dialRaw(t, addr)
	if v := c.(*sslctx.Conn).Version(); v != sslctx.VersionTLS11 {
		t.Fatalf("the connection is of %v", v)
	}
	_, _ = io.WriteString(c, preface+settingsFrame) // it may be closed already
	if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("it answers %q, %v", got, err)
	}
	log.want(t, "below 1.2")
}

// A falteringListener fails to accept once, as one does that has no file descriptors left.
type falteringListener struct {
	net.Listener
	failed atomic.Bool
}

func (l *falteringListener) Accept() (net.Conn, error) {
	if !l.failed.Swap(true) {
		return nil, temporaryError{}
	}
	return l.Listener.Accept()
}

type temporaryError struct{}

func (temporaryError) Error() string   { return "for the moment" }
func (temporaryError) Timeout() bool   { return false }
func (temporaryError) Temporary() bool { return true }

// TestAcceptAfterError: the server goes on after an error that passes.
func TestAcceptAfterError(t *testing.T) {
	e := newEnds(t, "h2")
	inner, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	logged := new(testLog)
	srv := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: log.New(logged, "", 0)}
	done := make(chan error, 1)
	go func() { done <- sslhttp.Serve(srv, &falteringListener{Listener: inner}) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := e.transport(t, nil).RoundTrip(get(t, "https://"+inner.Addr().String()).WithContext(ctx))
	read(t, resp, err)
	logged.want(t, "for the moment")
}

// A grudgingListener says at its end that something is wrong.
type grudgingListener struct{ net.Listener }

var errGrudge = errors.New("closed, but not gladly")

func (l grudgingListener) Close() error {
	_ = l.Listener.Close()
	return errGrudge
}

// TestListenerClose: a connection whose handshake is done, and that nobody accepts, ends with the
// listener. The error of the listener beneath is that of Close, and a second Close does nothing.
func TestListenerClose(t *testing.T) {
	e := newEnds(t, "h2")
	inner, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	l := sslhttp.NewListener(grudgingListener{inner}, new(http.Server), false)
	c := e.dialRaw(t, inner.Addr().String())
	eventually(t, "a connection that waits to be accepted", func() bool { return sslhttp.Pending(l) == 0 })
	if err := l.Close(); !errors.Is(err, errGrudge) {
		t.Errorf("Close returns %v", err)
	}
	must(t, l.Close())
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("Read returns %v", err)
	}
	if c, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returns %v, %v", c, err)
	}
}

// TestTLSConfigIsRefused: a setting of crypto/tls that would have no effect is an error that names
// it. A server that has served may serve again.
func TestTLSConfigIsRefused(t *testing.T) {
	e := newEnds(t, "h2", "http/1.1")
	for field, config := range map[string]*tls.Config{
		"ClientAuth": {ClientAuth: tls.RequireAndVerifyClientCert}, "MinVersion": {MinVersion: tls.VersionTLS13},
		"": {NextProtos: []string{"h2"}, PreferServerCipherSuites: true}, // x/net/http2 sets both
	} {
		srv := &http.Server{TLSConfig: config}
		for range 2 {
			l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
			must(t, err)
			served := make(chan error, 1)
			go func() { served <- sslhttp.Serve(srv, l) }()
			if field == "" {
				must(t, l.Close())
			}
			if err := <-served; field != "" && (err == nil || !strings.Contains(err.Error(), "TLSConfig."+field)) ||
				field == "" && strings.Contains(err.Error(), "TLSConfig") {
				t.Errorf("%q: Serve returns %v", field, err)
			}
			if _, err := l.Accept(); err == nil {
				t.Error("the listener is open")
			}
		}
	}
	if err := sslhttp.Serve(new(http.Server), nil); err == nil {
		t.Error("Serve takes no listener")
	}
}

// TestClosesDoNotWait: net/http closes connections while it holds a lock. A peer that reads nothing,
// and sends what nobody reads, does not make Close and Shutdown of the server wait.
func TestClosesDoNotWait(t *testing.T) {
	e := newEnds(t, "http/1.1")
	inside, over := make(chan bool), make(chan bool)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 200<<10))
		_ = http.NewResponseController(w).Flush()
		inside <- true
		<-over
	})}
	addr, _ := e.serve(t, srv)
	for range 3 {
		raw, err := net.Dial("tcp", addr)
		must(t, err)
		defer raw.Close()
		must(t, raw.(*net.TCPConn).SetReadBuffer(4<<10))
		c, err := sslctx.Client(raw, e.client)
		must(t, err)
		defer func() { _ = c.Abort() }()
		must(t, c.SetServerName("localhost"))
		_, err = c.Write([]byte("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"))
		must(t, err)
		<-inside
		_, err = c.Write(make([]byte, 150<<10)) // nobody reads it
		must(t, err)
	}
	start := time.Now()
	must(t, srv.Close())
	close(over)
	if took := time.Since(start); took > 2*time.Second { // each would take five
		t.Errorf("Close takes %v", took)
	}
}

// An endingListener ends in Accept.
type endingListener struct {
	net.Listener
	end func()
}

func (l endingListener) Accept() (net.Conn, error) {
	l.end()
	return nil, net.ErrClosed
}

// TestAcceptEnds: the listener's Accept panics, or ends its goroutine. Serve panics, or returns an
// error, where its caller is.
func TestAcceptEnds(t *testing.T) {
	for how, end := range badEnds {
		e := newEnds(t, "http/1.1")
		raw, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		over := make(chan any, 1)
		go func() {
			defer func() {
				if v := recover(); v != nil {
					over <- v
				}
			}()
			over <- sslhttp.Serve(new(http.Server), sslctx.NewListener(endingListener{raw, end}, e.server))
		}()
		select {
		case v := <-over:
			if err, isErr := v.(error); (how == "panic") != (v == "of a hook") || (how == "Goexit") != (isErr && err != nil) {
				t.Errorf("%s: Serve ends with %v", how, v)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: Serve does not end", how)
		}
		_ = raw.Close()
	}
}

// TestWriteTimeoutCuts: a client pauses until WriteTimeout has ended the response. It does not take
// the part that it gets for the whole, although the response has no length. The handler's Write
// returns at the limit, and does not wait for Close.
func TestWriteTimeoutCuts(t *testing.T) {
	const limit = 300 * time.Millisecond
	e := newEnds(t, "http/1.1")
	type end struct {
		err  error
		took time.Duration
	}
	ends := make(chan end, 1)
	addr, _ := e.serve(t, &http.Server{WriteTimeout: limit, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		began, piece := time.Now(), make([]byte, 1<<16)
		var err error
		for err == nil {
			_, err = w.Write(piece)
		}
		ends <- end{err, time.Since(began)}
	})})
	c, err := tls.Dial("tcp", addr, e.theirsFor("localhost"))
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, 4096))
	must(t, err)
	got := <-ends
	if !errors.Is(got.err, os.ErrDeadlineExceeded) || got.took > limit+3*time.Second {
		t.Errorf("the handler's Write returns %v after %v", got.err, got.took)
	}
	if n, err := io.Copy(io.Discard, c); err == nil || !isEnd(err) {
		t.Errorf("the client gets %d bytes more, and the error %v", n, err)
	}
}
