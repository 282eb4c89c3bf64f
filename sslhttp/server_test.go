// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
	"sslctx/sslhttp"
)

// TestServe sends requests to our server by crypto/tls, full and resumed.
func TestServe(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, major int) {
		e := newEnds(t, proto)
		type seen struct {
			state *tls.ConnectionState
			major int
			conn  *sslctx.Conn
			user  any
		}
		requests := make(chan seen, 1)
		type key struct{}
		var conns connections
		srv := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests <- seen{r.TLS, r.ProtoMajor, sslhttp.Conn(r.Context()), r.Context().Value(key{})}
			}),
			BaseContext: func(l net.Listener) context.Context {
				if got := fmt.Sprintf("%T", l); got != "*sslctx.listener" {
					t.Errorf("BaseContext is given a %s", got)
				}
				return t.Context()
			},
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, key{}, c)
			},
			ConnState: func(c net.Conn, s http.ConnState) {
				if _, ok := c.(*sslctx.Conn); !ok {
					t.Errorf("ConnState is given a %T", c)
				}
				conns.state(c, s)
			},
		}
		addr, _ := e.serve(t, srv)
		e.theirs.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		tr := e.theirTransport(t)
		client := &http.Client{Transport: tr}
		for i := range 3 {
			resp, err := client.Get("https://" + addr)
			read(t, resp, err)
			got := <-requests
			if got.major != major || resp.ProtoMajor != major {
				t.Errorf("request by HTTP/%d, response by HTTP/%d", got.major, resp.ProtoMajor)
			}
			if s := got.state; s == nil || s.NegotiatedProtocol != proto || s.DidResume != (i > 0) ||
				s.Version != tls.VersionTLS13 || !s.HandshakeComplete || resp.TLS.DidResume != s.DidResume {
				t.Errorf("request %d: r.TLS is %+v", i, s)
			}
			if got.conn == nil || got.user != got.conn || got.conn.SessionReused() != (i > 0) {
				t.Errorf("the connection is %v, ConnContext's is %v", got.conn, got.user)
			}
			tr.CloseIdleConnections()
		}
		eventually(t, "no connections left", func() bool { return conns.left() == 0 })
	})
}

// isEnd reports whether err says that the server has closed the connection. Some of net/http's
// errors for that are texts.
func isEnd(err error) bool {
	for _, text := range []string{"client conn could not be established", "server closed idle connection"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}, func(end error) bool { return errors.Is(err, end) })
}

// TestProtocols: the settings of the server and ALPN decide which connections speak HTTP/2.
func TestProtocols(t *testing.T) {
	protocols := func(set ...func(*http.Protocols, bool)) *http.Protocols {
		var p http.Protocols
		for _, f := range set {
			f(&p, true)
		}
		return &p
	}
	only1, only2 := protocols((*http.Protocols).SetHTTP1), protocols((*http.Protocols).SetHTTP2)
	for _, c := range []struct {
		name, list string
		srv        *http.Server
		want       string
	}{
		{"default", "h2,http/1.1", &http.Server{}, "HTTP/2.0"},
		{"no list", "", &http.Server{}, "HTTP/1.1"},
		{"only 2", "h2,http/1.1", &http.Server{Protocols: only2}, "HTTP/2.0"},
		{"only 1", "http/1.1", &http.Server{Protocols: only1}, "HTTP/1.1"},
		{"1 agreed on, 2 allowed", "http/1.1", &http.Server{Protocols: only2}, ""},
		{"2 agreed on, 1 allowed", "h2,http/1.1", &http.Server{Protocols: only1}, ""},
		{"2 agreed on, 1 allowed the old way", "h2", &http.Server{
			TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var list []string
			if c.list != "" {
				list = strings.Split(c.list, ",")
			}
			e := newEnds(t, list...)
			c.srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
			addr, _ := e.serve(t, c.srv)
			resp, err := e.transport(t, nil).RoundTrip(get(t, "https://"+addr))
			if c.want == "" {
				if err == nil {
					t.Errorf("it speaks %s", read(t, resp, err))
				} else if !isEnd(err) {
					t.Errorf("the server does not end the connection, but: %v", err)
				}
				return
			}
			if got := read(t, resp, err); got != c.want || resp.Proto != got {
				t.Errorf("it speaks %s, %s", got, resp.Proto)
			}
		})
	}
	if only1.UnencryptedHTTP2() || only2.UnencryptedHTTP2() {
		t.Error("Serve changed the caller's Protocols")
	}
}

func get(t testing.TB, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	must(t, err)
	return r
}

// dialRaw makes a connection of ours, over which a test can send any bytes.
func (e *ends) dialRaw(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := sslctx.Dial("tcp", addr, e.client)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// TestMismatch: clients speak another protocol than they agreed on.
func TestMismatch(t *testing.T) {
	served := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			panic("it is served")
		}
	})
	t.Run("h2 agreed on, HTTP/1.1 spoken", func(t *testing.T) {
		was := sslhttp.SetMaxPrefaceTime(time.Hour) // so that nothing else ends the connection
		defer sslhttp.SetMaxPrefaceTime(was)
		e := newEnds(t, "h2")
		addr, _ := e.serve(t, &http.Server{Handler: served})
		for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", preface[:14] + " GET / HTTP/1.1\r\n\r\n"} {
			c := e.dialRaw(t, addr)
			_, err := io.WriteString(c, text)
			must(t, err)
			if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("it answers %q, %v", got, err)
			}
		}
	})
	t.Run("HTTP/1.1 agreed on, h2 spoken", func(t *testing.T) {
		e := newEnds(t, "http/1.1")
		addr, _ := e.serve(t, &http.Server{Handler: served})
		c := e.dialRaw(t, addr)
		_, err := io.WriteString(c, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		got, _ := io.ReadAll(c)
		if strings.HasPrefix(string(got), "\x00") || !strings.HasPrefix(string(got), "HTTP/1.1 ") {
			t.Errorf("it answers %q", got)
		}
	})
	t.Run("the preface comes byte by byte", func(t *testing.T) {
		e := newEnds(t, "h2")
		addr, _ := e.serve(t, &http.Server{Handler: served})
		c := e.dialRaw(t, addr)
		for _, b := range []byte(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00") {
			_, err := c.Write([]byte{b})
			must(t, err)
		}
		frame := make([]byte, 9)
		if _, err := io.ReadFull(c, frame); err != nil || frame[3] != 4 {
			t.Errorf("the first frame is %x, %v", frame, err)
		}
	})
}

// TestPlainHTTP: a client without TLS gets an answer that says so.
func TestPlainHTTP(t *testing.T) {
	e := newEnds(t, "h2", "http/1.1")
	addr, log := e.serve(t, &http.Server{})
	resp, err := http.Get("http://" + addr)
	if got := read(t, resp, err); resp.StatusCode != 400 || !strings.Contains(got, "HTTPS server") {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	log.want(t, "TLS handshake error")
}

// TestStalledHandshake: the server's timeouts end a stalled handshake. A slow handshake does not
// shorten the request's time.
func TestStalledHandshake(t *testing.T) {
	e := newEnds(t, "h2", "http/1.1")
	addr, log := e.serve(t, &http.Server{ReadHeaderTimeout: 50 * time.Millisecond})
	c, err := net.Dial("tcp", addr)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Read returns %d, %v", n, err)
	}
	log.want(t, "timeout")

	quiet := e.dialRaw(t, addr) // only a handshake
	if n, err := quiet.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("Read returns %d, %v", n, err)
	}
}

// TestStalledHandshakeDelaysNobody: it delays neither other clients nor the end of the server.
func TestStalledHandshakeDelaysNobody(t *testing.T) {
	for name, end := range map[string]func(*http.Server) error{
		"Close":    (*http.Server).Close,
		"Shutdown": func(s *http.Server) error { return s.Shutdown(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "h2", "http/1.1")
			srv := &http.Server{Handler: http.HandlerFunc(echo)}
			addr, log := e.serve(t, srv)
			var stalled []net.Conn
			for range 5 {
				c, err := net.Dial("tcp", addr)
				must(t, err)
				defer c.Close()
				stalled = append(stalled, c)
			}
			tr := e.transport(t, &http.Transport{TLSHandshakeTimeout: 10 * time.Second})
			resp, err := tr.RoundTrip(get(t, "https://"+addr))
			read(t, resp, err)
			tr.CloseIdleConnections()
			start := time.Now()
			must(t, end(srv))
			for _, c := range stalled {
				must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("the server is closed and talks")
				}
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("it takes %v", d)
			}
			if log.String() != "" {
				t.Errorf("the log has %s", log)
			}
		})
	}
}

// TestShutdown: running requests complete, and no others begin.
func TestShutdown(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		begun, end := make(chan bool), make(chan bool)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			begun <- true
			<-end
			_, _ = io.WriteString(w, "done")
		})}
		addr, _ := e.serve(t, srv)
		tr := e.transport(t, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			resp, err := tr.RoundTrip(get(t, "https://"+addr))
			if err != nil {
				t.Error(err)
				return
			}
			if got := read(t, resp, err); got != "done" {
				t.Errorf("the response is %q", got)
			}
		})
		<-begun
		shut := make(chan error)
		go func() { shut <- srv.Shutdown(t.Context()) }()
		eventually(t, "refusing", func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
		select {
		case err := <-shut:
			t.Errorf("Shutdown returns %v before the request's end", err)
		case <-time.After(20 * time.Millisecond):
		}
		close(end)
		wg.Wait()
		must(t, <-shut)
	})
}

// TestTwoListeners: one server with its mux, set up once, serves two listeners.
func TestTwoListeners(t *testing.T) {
	e := newEnds(t, "h2")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.TLS.NegotiatedProtocol) })
	srv := &http.Server{Handler: mux}
	tr := e.transport(t, nil)
	for range 2 {
		addr, _ := e.serve(t, srv)
		resp, err := tr.RoundTrip(get(t, "https://"+addr))
		if got := read(t, resp, err); got != "h2" {
			t.Errorf("r.TLS has %q", got)
		}
	}
}

// TestServeAtOnce: one server, set up once, that begins with two listeners at the same time: for
// the race detector.
func TestServeAtOnce(t *testing.T) {
	e := newEnds(t, "h2")
	srv := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: log.New(io.Discard, "", 0)}
	begin, done := make(chan bool), make(chan error)
	var addrs []string
	for range 2 {
		l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
		must(t, err)
		addrs = append(addrs, l.Addr().String())
		go func() {
			<-begin
			done <- sslhttp.Serve(srv, l)
		}()
	}
	close(begin)
	t.Cleanup(func() { _ = srv.Close(); <-done; <-done })
	tr := e.transport(t, nil)
	for _, addr := range addrs {
		resp, err := tr.RoundTrip(get(t, "https://"+addr))
		if read(t, resp, err); resp.ProtoMajor != 2 {
			t.Errorf("it speaks %s", resp.Proto)
		}
	}
}

// TestHijack takes over a connection: it is the *sslctx.Conn.
func TestHijack(t *testing.T) {
	e := newEnds(t, "h2", "http/1.1")
	must(t, e.client.SetALPNProtos("http/1.1"))
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if ssl, ok := c.(*sslctx.Conn); !ok || ssl != sslhttp.Conn(r.Context()) {
			t.Errorf("hijacked %T", c)
		}
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	})})
	r := get(t, "https://"+addr)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	resp, err := e.transport(t, nil).RoundTrip(r)
	must(t, err)
	rw := resp.Body.(io.ReadWriteCloser)
	defer rw.Close()
	_, err = io.WriteString(rw, "hello\n")
	must(t, err)
	if line, err := bufio.NewReader(rw).ReadString('\n'); line != "hello\n" {
		t.Errorf("the echo is %q, %v", line, err)
	}
}

// TestOtherRequests: requests without a path.
func TestOtherRequests(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		e := newEnds(t, proto)
		addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "CONNECT" || r.TLS == nil {
				t.Errorf("%s %s", r.Method, r.RequestURI)
			}
			w.WriteHeader(http.StatusTeapot)
		})})
		tr := e.transport(t, nil)
		r := get(t, "https://"+addr)
		r.Method, r.URL.Path = "OPTIONS", "*"
		r.URL.Opaque = "*"
		resp, err := tr.RoundTrip(r)
		read(t, resp, err)
		if resp.StatusCode != 200 {
			t.Errorf("OPTIONS * is answered %s", resp.Status)
		}
		r = get(t, "https://"+addr)
		r.Method = "CONNECT"
		resp, err = tr.RoundTrip(r)
		read(t, resp, err)
		if resp.StatusCode != http.StatusTeapot {
			t.Errorf("CONNECT is answered %s", resp.Status)
		}
	})
}

// TestDefaultServeMux: a server without a Handler uses it.
func TestDefaultServeMux(t *testing.T) {
	path := "/" + rand.Text()
	http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.TLS.NegotiatedProtocol) })
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, new(http.Server))
	resp, err := e.transport(t, nil).RoundTrip(get(t, "https://"+addr+path))
	if got := read(t, resp, err); got != "h2" {
		t.Errorf("the response is %q", got)
	}
}

// TestServeWithoutHTTP2: the server turns off HTTP/2, but its Context still offers it.
func TestServeWithoutHTTP2(t *testing.T) {
	t.Setenv("GODEBUG", "http2server=0")
	e := newEnds(t, "h2")
	addr, _ := e.serve(t, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("it is served")
	})})
	c := e.dialRaw(t, addr)
	_, err := io.WriteString(c, preface)
	must(t, err)
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("it answers %q, %v", got, err)
	}
}

// TestServeAfterClose: Serve after Close accepts nothing.
func TestServeAfterClose(t *testing.T) {
	e := newEnds(t, "h2")
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	srv := new(http.Server)
	must(t, srv.Close())
	if err := sslhttp.Serve(srv, l); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returns %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returns %v", err)
	}
}

// TestServeRefuses: Serve refuses listeners of other packages, and closes what they accept.
func TestServeRefuses(t *testing.T) {
	settles(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan error)
	go func() { done <- sslhttp.Serve(new(http.Server), l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "*net.TCPConn") {
		t.Errorf("Serve returns %v", err)
	}
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("Read returns %v", err)
	}
	if sslhttp.Conn(t.Context()) != nil {
		t.Error("a context of others has a connection")
	}
}

// TestHookEndsInServe: a hook panics or ends its goroutine in a handshake. The server continues, the
// connection is closed, and the log has the panic.
func TestHookEndsInServe(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("of a hook") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "http/1.1")
			must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
				end()
				return nil, nil
			}))
			addr, log := e.serve(t, new(http.Server))
			c, err := net.Dial("tcp", addr)
			must(t, err)
			defer c.Close()
			must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
			var timeout net.Error
			if err := tls.Client(c, &tls.Config{ServerName: "localhost"}).Handshake(); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("the client's handshake ends with %v", err)
			}
			if name == "panic" {
				log.want(t, "panic in the TLS handshake")
			}
		})
	}
}

// TestHookPanicsInClose: a connection whose handshake is not done is the last that has the context,
// and its Close has a hook panic. The program goes on, and the log has the panic.
func TestHookPanicsInClose(t *testing.T) {
	for name, end := range map[string]func(client net.Conn, l net.Listener){
		"the client ends": func(client net.Conn, _ net.Listener) { _ = client.Close() },
		"the server ends": func(_ net.Conn, l net.Listener) { _ = l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, "http/1.1")
			tlstest.AddSession(t, e.server, tlstest.NewSession(t, "id"))
			must(t, e.server.SetRemoveSessionCallback(func(s *sslctx.Session) {
				_ = s.Close()
				panic("of a hook")
			}))
			inner, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
			must(t, err)
			text := new(testLog)
			l := sslhttp.NewListener(inner, &http.Server{ErrorLog: log.New(text, "", 0)}, false)
			defer l.Close()
			c, err := net.Dial("tcp", inner.Addr().String())
			must(t, err)
			defer c.Close()
			eventually(t, "a handshake", func() bool { return sslhttp.Pending(l) == 1 })
			must(t, e.server.Close())
			end(c, l)
			text.want(t, "panic in the TLS handshake")
		})
	}
}
