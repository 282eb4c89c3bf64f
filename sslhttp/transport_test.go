// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// theirServer runs a server of net/http over crypto/tls.
func (e *ends) theirServer(t testing.TB, h http.HandlerFunc, state func(net.Conn, http.ConnState)) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = e.theirs.Clone()
	s.EnableHTTP2 = e.theirs.NextProtos[0] == "h2"
	s.Config.ConnState = state
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestTransport sends requests to their server.
func TestTransport(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, major int) {
		e := newEnds(t, proto)
		var conns connections
		addr := e.theirServer(t, echo, conns.state)
		client := &http.Client{Transport: e.transport(t, nil)}
		for range 3 {
			resp, err := client.Post("https://"+addr, "text/plain", strings.NewReader("hello"))
			if got := read(t, resp, err); got != "hello" || resp.ProtoMajor != major || resp.Trailer.Get("Sum") != "5" {
				t.Errorf("HTTP/%d, %q, %v", resp.ProtoMajor, got, resp.Trailer)
			}
			s := resp.TLS
			if s == nil || s.NegotiatedProtocol != proto || s.Version != tls.VersionTLS13 || len(s.PeerCertificates) != 1 ||
				resp.Request.URL.Host != addr {
				t.Errorf("resp.TLS is %+v", s)
			}
		}
		if n := conns.made(); n != 1 {
			t.Errorf("%d connections for three requests", n)
		}
		client.CloseIdleConnections()
		eventually(t, "no connections left", func() bool { return conns.left() == 0 })
	})
}

// TestDialerSession resumes the Dialer's session, and resp.TLS says so.
func TestDialerSession(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.TLS.DidResume)
		})})
		d := &sslctx.Dialer{Context: e.client}
		for i := range 2 {
			tr := sslhttp.NewTransport(d, nil)
			var c interface {
				Session() (*sslctx.Session, error)
			}
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
				c = i.Conn.(interface {
					Session() (*sslctx.Session, error)
				})
			}})
			resp, err := tr.RoundTrip(get(t, "https://"+addr).WithContext(ctx))
			if got := read(t, resp, err); got != fmt.Sprint(i > 0) || resp.TLS.DidResume != (i > 0) {
				t.Errorf("request %d: the server resumed is %s, the client %v", i, got, resp.TLS.DidResume)
			}
			s, err := c.Session()
			must(t, err)
			t.Cleanup(func() { _ = s.Close() })
			d = &sslctx.Dialer{Context: e.client, Session: s}
			tr.CloseIdleConnections()
		}
	})
}

// TestManyRequests sends many requests of a megabyte at once over one HTTP/2 connection, to each
// kind of peer.
func TestManyRequests(t *testing.T) {
	const requests = 30
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	eachProtocol(t, func(t *testing.T, proto string, major int) {
		for _, peers := range []string{"ours and ours", "ours and their server", "their client and ours"} {
			t.Run(peers, func(t *testing.T) {
				e := newEnds(t, proto)
				var conns connections
				var addr string
				if strings.HasSuffix(peers, "their server") {
					addr = e.theirServer(t, echo, conns.state)
				} else {
					addr, _ = e.serve(t, &http.Server{Handler: http.HandlerFunc(echo), ConnState: conns.state})
				}
				var tr http.RoundTripper = e.transport(t, nil)
				if strings.HasPrefix(peers, "their client") {
					tr = e.theirTransport(t)
				}
				var wg sync.WaitGroup
				for i := range requests {
					wg.Go(func() {
						sent := append([]byte{byte(i)}, data...)
						r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, bytes.NewReader(sent))
						must(t, err)
						resp, err := tr.RoundTrip(r)
						if err != nil {
							t.Error(err)
							return
						}
						defer resp.Body.Close()
						got, err := io.ReadAll(resp.Body)
						if err != nil || !bytes.Equal(got, sent) || resp.ProtoMajor != major || resp.TLS == nil ||
							resp.Trailer.Get("Sum") != fmt.Sprint(len(sent)) {
							t.Errorf("%d bytes, %v, %s, trailer %v", len(got), err, resp.Proto, resp.Trailer)
						}
					})
				}
				wg.Wait()
				if n := conns.made(); major == 2 && !strings.HasPrefix(peers, "their client") && n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		}
	})
}

// TestMaxConcurrentStreams: a server that allows few requests on a connection gets more
// connections, and no refused request loses its body.
func TestMaxConcurrentStreams(t *testing.T) {
	e := newEnds(t, "h2")
	var conns connections
	var now atomic.Int32
	addr, _ := e.serve(t, &http.Server{ConnState: conns.state, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 5},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			now.Add(1)
			for i := 0; now.Load() < 20 && i < 1000; i++ { // until all are there
				time.Sleep(time.Millisecond)
			}
			echo(w, r)
		})})
	tr := e.transport(t, nil)
	resp, err := tr.RoundTrip(get(t, "https://"+addr)) // so that the limit is known
	read(t, resp, err)
	now.Store(0)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, io.NopCloser(strings.NewReader("hello")))
			must(t, err)
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Error(err)
			} else if got := read(t, resp, err); got != "hello" {
				t.Errorf("the echo is %q", got)
			}
		})
	}
	wg.Wait()
	if n := conns.made(); n < 4 || n > 8 {
		t.Errorf("%d connections for 20 requests, 5 each", n)
	}
	tr.CloseIdleConnections()
	eventually(t, "no connections left", func() bool { return conns.left() == 0 })
}

// TestStreaming sends and receives in turns in one request.
func TestStreaming(t *testing.T) {
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 4)
		for {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				return
			}
			_, _ = w.Write(bytes.ToUpper(buf))
			_ = http.NewResponseController(w).Flush()
		}
	})})
	pr, pw := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, pr)
	must(t, err)
	sent := make(chan error, 1)
	go func() {
		_, err := pw.Write([]byte("ping"))
		sent <- err
	}()
	resp, err := e.transport(t, nil).RoundTrip(r)
	must(t, err)
	defer resp.Body.Close()
	must(t, <-sent)
	buf := make([]byte, 4)
	for range 3 {
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "PING" {
			t.Errorf("the answer is %q, %v", buf, err)
		}
		_, err := pw.Write([]byte("ping"))
		must(t, err)
	}
	must(t, pw.Close())
}

// switching is a server that can change its protocol.
type switching struct {
	e     *ends
	addr  string
	srv   *http.Server
	conns connections
}

func newSwitching(t *testing.T) *switching {
	e := newEnds(t, "h2", "http/1.1")
	s := &switching{e: e, srv: &http.Server{Handler: http.HandlerFunc(echo)}}
	s.srv.ConnState = s.conns.state
	s.addr, _ = e.serve(t, s.srv)
	return s
}

// speak makes the server agree on proto with new connections.
func (s *switching) speak(t *testing.T, proto string) {
	must(t, s.e.server.SetALPNProtos(proto))
}

// TestProtocolChanges: a host changes its protocol, also while it has connections of the other one.
// Bodies that can be sent only once arrive.
func TestProtocolChanges(t *testing.T) {
	s := newSwitching(t)
	tr := s.e.transport(t, nil)
	for i, proto := range []string{"http/1.1", "h2", "http/1.1", "h2", "h2", "http/1.1"} {
		s.speak(t, proto)
		if i%2 == 0 {
			tr.CloseIdleConnections()
		}
		pr, pw := io.Pipe()
		go func() { _, _ = io.WriteString(pw, "once"); _ = pw.Close() }()
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+s.addr, pr)
		must(t, err)
		resp, err := tr.RoundTrip(r)
		if got := read(t, resp, err); got != "once" || resp.TLS.NegotiatedProtocol == "" {
			t.Errorf("%d: the echo is %q", i, got)
		}
	}
	tr.CloseIdleConnections()
	eventually(t, "no connections left", func() bool { return s.conns.left() == 0 })
}

// TestProtocolChangesUnderLoad: HTTP/1.1 connections are in use when the host changes to HTTP/2.
func TestProtocolChangesUnderLoad(t *testing.T) {
	s := newSwitching(t)
	s.speak(t, "http/1.1")
	tr := s.e.transport(t, nil)
	pr, pw := io.Pipe() // keeps one busy
	busy := make(chan string, 1)
	go func() {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+s.addr, pr)
		resp, err := tr.RoundTrip(r)
		busy <- read(t, resp, err)
	}()
	_, err := io.WriteString(pw, "x")
	must(t, err)
	s.speak(t, "h2")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			body := &countedBody{Reader: strings.NewReader("once")}
			r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+s.addr, body)
			must(t, err)
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			if got := read(t, resp, err); got != "once" || resp.ProtoMajor != 2 {
				t.Errorf("HTTP/%d, %q", resp.ProtoMajor, got)
			}
			eventually(t, "closed", func() bool { return body.closed.Load() })
		})
	}
	wg.Wait()
	must(t, pw.Close())
	if got := <-busy; got != "x" {
		t.Errorf("the echo is %q", got)
	}
	tr.CloseIdleConnections()
	eventually(t, "no connections left", func() bool { return s.conns.left() == 0 })
}

// A countedBody can be read until it is closed.
type countedBody struct {
	io.Reader
	closed atomic.Bool
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, net.ErrClosed
	}
	return b.Reader.Read(p)
}

func (b *countedBody) Close() error {
	b.closed.Store(true)
	return nil
}

// TestServerEndsConnections: requests succeed while the server restarts.
func TestServerEndsConnections(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		tr := e.transport(t, nil)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		addr := l.Addr().String()
		for i := range 3 {
			if i > 0 {
				l, err = net.Listen("tcp", addr)
				must(t, err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(echo)}
			done := make(chan error)
			go func() { done <- sslhttp.Serve(srv, sslctx.NewListener(l, e.server)) }()
			r, err := http.NewRequestWithContext(t.Context(), "PUT", "https://"+addr, strings.NewReader("hello"))
			must(t, err)
			r.Header["Idempotency-Key"] = nil // PUT may be sent again
			resp, err := tr.RoundTrip(r)
			if got := read(t, resp, err); got != "hello" {
				t.Errorf("%d: the echo is %q", i, got)
			}
			must(t, srv.Shutdown(t.Context()))
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}
	})
}

// TestCancel: a canceled request leaves nothing behind, whatever it waits for.
func TestCancel(t *testing.T) {
	t.Run("in the handshake", func(t *testing.T) {
		e := newEnds(t, "h2", "http/1.1")
		l, err := net.Listen("tcp", "127.0.0.1:0") // it never answers
		must(t, err)
		defer l.Close()
		tr := e.transport(t, nil)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*10*time.Millisecond)
				defer cancel()
				body := &countedBody{Reader: strings.NewReader("x")}
				r, err := http.NewRequestWithContext(ctx, "POST", "https://"+l.Addr().String(), body)
				must(t, err)
				if _, err := tr.RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) || !body.closed.Load() {
					t.Errorf("RoundTrip returns %v, the body is closed: %v", err, body.closed.Load())
				}
			})
		}
		wg.Wait()
		c, err := l.Accept() // all requests waited for one connection, and ended it
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("the connection is left: %v", err)
		}
	})
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		var conns connections
		addr, _ := e.serve(t, &http.Server{ConnState: conns.state, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})})
		tr := e.transport(t, nil)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
				defer cancel()
				if _, err := tr.RoundTrip(get(t, "https://"+addr).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("RoundTrip returns %v", err)
				}
			})
		}
		wg.Wait()
		tr.CloseIdleConnections()
		eventually(t, "no connections left", func() bool { tr.CloseIdleConnections(); return conns.left() == 0 })
	})
}

// TestCancelAtOnce: if a request ends while its connection is made, other requests use the
// connection, or it is closed.
func TestCancelAtOnce(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		var conns connections
		addr, _ := e.serve(t, &http.Server{ConnState: conns.state, Handler: http.HandlerFunc(echo)})
		for round := range 30 {
			tr := e.transport(t, nil)
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(round*i)*20*time.Microsecond)
					defer cancel()
					body := &countedBody{Reader: strings.NewReader("hello")}
					r, err := http.NewRequestWithContext(ctx, "POST", "https://"+addr, body)
					must(t, err)
					if i%3 == 0 {
						r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("hello")), nil }
					}
					resp, err := tr.RoundTrip(r)
					if err == nil {
						_ = resp.Body.Close()
					} else if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("RoundTrip returns %v", err)
					}
					eventually(t, "closed", body.closed.Load)
				})
			}
			wg.Wait()
			resp, err := tr.RoundTrip(get(t, "https://"+addr)) // and it still works
			read(t, resp, err)
			eventually(t, "no connections left", func() bool { tr.CloseIdleConnections(); return conns.left() == 0 })
		}
	})
}

// TestGoAway: requests to a server that refuses every connection fail after ten of them. A server
// that accepts a later connection gets the body.
func TestGoAway(t *testing.T) {
	for _, times := range []int{3, 9, 10} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			e := newEnds(t, "h2")
			l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
			must(t, err)
			srv := &http.Server{Handler: http.HandlerFunc(echo)}
			done := make(chan error)
			go func() { done <- sslhttp.Serve(srv, &goAwayListener{Listener: l, times: times}) }()
			t.Cleanup(func() { _ = srv.Close(); <-done })
			tr := e.transport(t, nil)
			r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.Addr().String(), strings.NewReader("hello"))
			must(t, err)
			resp, err := tr.RoundTrip(r)
			if times == 10 {
				if err == nil {
					t.Errorf("it answers %q", read(t, resp, err))
				}
				return
			}
			if got := read(t, resp, err); got != "hello" || resp.Request != r {
				t.Errorf("the echo is %q, to %v", got, resp.Request)
			}
		})
	}
}

// A goAwayListener ends its first connections at once, with GOAWAY.
type goAwayListener struct {
	net.Listener
	times int
}

func (l *goAwayListener) Accept() (net.Conn, error) {
	for ; l.times > 0; l.times-- {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		const settings, goAway = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"
		_, _ = io.WriteString(c, settings+goAway)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.Copy(io.Discard, c) // until the client closes: a close with unread input would discard the GOAWAY
		_ = c.Close()
	}
	return l.Listener.Accept()
}

// TestHandshakeTimeout: a request without a deadline does not wait for ever for a silent server.
func TestHandshakeTimeout(t *testing.T) {
	e := newEnds(t, "h2")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	tr := e.transport(t, &http.Transport{TLSHandshakeTimeout: 20 * time.Millisecond})
	if _, err := tr.RoundTrip(get(t, "https://"+l.Addr().String())); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("RoundTrip returns %v", err)
	}
}

// TestKeepAlives: connections end after the idle time, or at once if they are for one request.
func TestKeepAlives(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		for name, base := range map[string]*http.Transport{
			"idle":     {IdleConnTimeout: 20 * time.Millisecond},
			"disabled": {DisableKeepAlives: true},
			"close":    {},
			"header":   {},
		} {
			t.Run(name, func(t *testing.T) {
				e := newEnds(t, proto)
				var conns connections
				addr, _ := e.serve(t, &http.Server{ConnState: conns.state, Handler: http.HandlerFunc(echo)})
				tr := e.transport(t, base)
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr, strings.NewReader("hello"))
						must(t, err)
						r.Close = name == "close"
						if name == "header" {
							r.Header.Set("Connection", "close")
						}
						resp, err := tr.RoundTrip(r)
						if err != nil {
							t.Error(err)
						} else if got := read(t, resp, err); got != "hello" {
							t.Errorf("the echo is %q", got)
						}
					})
				}
				wg.Wait()
				if n := conns.made(); name != "idle" && n != 10 {
					t.Errorf("%d connections for 10 requests", n)
				}
				eventually(t, "no connections left", func() bool { return conns.left() == 0 })
			})
		}
	})
}

// TestTransportRefuses: a Transport refuses requests that it cannot send, and closes their bodies.
func TestTransportRefuses(t *testing.T) {
	e := newEnds(t, "h2")
	tr := e.transport(t, nil)
	for url, want := range map[string]string{
		"http://localhost/": `"http"`, "https:///x": "no host", "https://bücher.example/": "xn--", "ftp://x/": `"ftp"`,
	} {
		r := get(t, url)
		body := &countedBody{Reader: strings.NewReader("x")}
		r.Body = body
		if _, err := tr.RoundTrip(r); err == nil || !strings.Contains(err.Error(), want) || !body.closed.Load() {
			t.Errorf("%s: %v", url, err)
		}
	}
	r := get(t, "https://x")
	r.URL = nil
	if _, err := tr.RoundTrip(r); err == nil {
		t.Error("a request without URL is sent")
	}
}

// TestDialFails: all requests that wait get the error, and the next request tries again.
func TestDialFails(t *testing.T) {
	e := newEnds(t, "h2")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().String()
	must(t, l.Close())
	tr := e.transport(t, nil)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := tr.RoundTrip(get(t, "https://"+addr)); err == nil {
				t.Error("there is a response")
			}
		})
	}
	wg.Wait()

	served, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(echo)})
	must(t, e.client.SetVerify(sslctx.VerifyPeer))
	d := &sslctx.Dialer{Context: e.client, ServerName: "elsewhere.example"}
	if _, err := sslhttp.NewTransport(d, nil).RoundTrip(get(t, "https://"+served)); !errors.Is(err, sslctx.ReasonCertificateVerifyFailed) {
		t.Errorf("RoundTrip returns %v", err)
	}
}

// TestRedirectToHTTP: an http.Transport that has the Transport for https follows a redirect to http,
// which the Transport alone refuses.
func TestRedirectToHTTP(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echo))
	defer plain.Close()
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.RedirectHandler(plain.URL, http.StatusFound)})
	tr := e.transport(t, nil)
	both := new(http.Transport)
	both.RegisterProtocol("https", tr)
	defer both.CloseIdleConnections()
	resp, err := (&http.Client{Transport: both}).Get("https://" + addr)
	read(t, resp, err)
	if _, err := (&http.Client{Transport: tr}).Get("https://" + addr); err == nil || !strings.Contains(err.Error(), `"http", not https`) {
		t.Errorf("the Transport alone returns %v", err)
	}
}
