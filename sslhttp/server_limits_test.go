// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
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
				t.Error("the connection is open after ten seconds")
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

// TestServerSaysWhy: the log says why a client that agreed on HTTP/2 is not served.
func TestServerSaysWhy(t *testing.T) {
	only1 := new(http.Protocols)
	only1.SetHTTP1(true)
	e := newEnds(t, "h2")
	addr, log := e.serve(t, &http.Server{Protocols: only1})
	_ = e.dialRaw(t, addr)
	log.want(t, "Protocols")
}

// TestServeWaitsForNoHook: a hook that ignores its context does not delay Serve.
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
	go func() { _ = tls.Client(raw, e.theirsFor("localhost")).Handshake() }()
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
}

// TestTLSConfigIsRefused: a setting of crypto/tls that would have no effect is an error that names
// it. A server that has served may serve again.
func TestTLSConfigIsRefused(t *testing.T) {
	e := newEnds(t, "h2", "http/1.1")
	for field, config := range map[string]*tls.Config{
		"ClientAuth": {ClientAuth: tls.RequireAndVerifyClientCert}, "MinVersion": {MinVersion: tls.VersionTLS13}, "": {NextProtos: []string{"h2"}},
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
	inside := make(chan bool)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 64<<10))
		_ = http.NewResponseController(w).Flush()
		inside <- true
		_, _ = w.Write(make([]byte, 32<<20)) // until Close cuts it off
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
	if took := time.Since(start); took > 2*time.Second { // each would take five
		t.Errorf("Close takes %v", took)
	}
}
