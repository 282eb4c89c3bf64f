// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// A recorder keeps what a client sends.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	sent []byte
}

func (c *recorder) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.sent = append(c.sent, p...)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// replayed returns the recorded ClientHello, early data and EndOfEarlyData, and a Finished that is garbage.
func (c *recorder) replayed(t *testing.T) (flight []byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := c.sent; len(p) >= 5; {
		n := 5 + int(p[3])<<8 + int(p[4])
		flight = append(flight, p[:n]...)
		if p[0] == 23 && n == 26 { // EndOfEarlyData has 4 bytes, before it is encrypted
			return append(flight, append([]byte{23, 3, 3, 0, 53}, make([]byte, 53)...)...)
		}
		p = p[n:]
	}
	t.Fatal("there is no EndOfEarlyData")
	return nil
}

// TestEarlyReplay: an attacker replays recorded requests, and cannot complete the handshake. No unsafe request is
// handled, and none that requires the handshake.
func TestEarlyReplay(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		for _, method := range []string{"POST", "GET"} {
			var handled atomic.Int32
			guarded := sslhttp.RequireHandshake(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled.Add(1) }))
			w := newEarlyWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path != "/pay":
				case method == "GET":
					guarded.ServeHTTP(rw, r)
				default:
					handled.Add(1)
				}
			}), proto)
			_, err := w.server.SetOptions(sslctx.OpNoAntiReplay)
			must(t, err)
			w.learn(t)
			var rec *recorder
			w.tr = w.transportOf(t, &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				rec = &recorder{Conn: c}
				return rec, err
			}})
			if got := outcome(w.tr, request(t, sslhttp.WithEarlyData(t.Context(), true), method, "https://"+w.addr+"/pay", "")); got != "200 false " {
				t.Fatal(got)
			}
			if n := handled.Load(); n != 1 {
				t.Errorf("%d requests are handled", n)
			}
			flight := rec.replayed(t)
			var replays sync.WaitGroup
			for range 8 {
				replays.Go(func() {
					for range 25 {
						c, err := net.Dial("tcp", w.addr)
						if err != nil {
							t.Error(err)
							return
						}
						_, _ = c.Write(flight)
						_, _ = io.Copy(io.Discard, c)
						_ = c.Close()
					}
				})
			}
			replays.Wait()
			if n := handled.Load(); n != 1 {
				t.Errorf("%d replayed requests are handled", n-1)
			}
		}
	})
}

// A badFinished is a client's transport that sends garbage in place of what follows the end of early data.
type badFinished struct {
	net.Conn
	read atomic.Bool
}

func (c *badFinished) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Store(true)
	return n, err
}

func (c *badFinished) Write(p []byte) (int, error) {
	if !c.read.Load() {
		return c.Conn.Write(p)
	}
	end := 0
	for sealed := false; end < len(p) && !sealed; end += 5 + int(p[end+3])<<8 + int(p[end+4]) {
		sealed = p[end] == 23
	}
	_, err := c.Conn.Write(append(p[:end:end], append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...)...))
	return len(p), err
}

// TestEarlyPipeline: a client sends several requests as early data, and then its handshake fails while the first is
// handled. The unsafe one behind it is not handled.
func TestEarlyPipeline(t *testing.T) {
	failed := make(chan bool)
	var mu sync.Mutex
	var got []string
	w := newEarlyWorld(t, nil, "http/1.1")
	var conns connections
	w.addr, _ = w.serveBy(t, &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/learn" {
			return
		}
		mu.Lock()
		got = append(got, r.URL.Path)
		mu.Unlock()
		rw.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(rw, "ok")
		_ = http.NewResponseController(rw).Flush()
		<-failed
	}), ConnState: conns.state}, sslhttp.ServeWithEarlyData)
	w.learn(t)
	c, _ := w.dialEarly(t, w.addr, func(c net.Conn) net.Conn { return &badFinished{Conn: c} }, "GET /a HTTP/1.1\r\nHost: host.example\r\n\r\n"+
		"POST /pay HTTP/1.1\r\nHost: host.example\r\nContent-Length: 5\r\n\r\nmoney")
	must(t, c.Handshake())
	time.Sleep(100 * time.Millisecond) // the server reads the garbage beside the handler
	close(failed)
	eventually(t, "the connection ends", func() bool { return conns.left() == 0 })
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(got, " ") != "/a" {
		t.Errorf("the handler gets %v", got)
	}
}

// TestEarlyIsOfOneRequest: a DialContext sends a request of its own with the context that it is given. Nothing that was
// said of the outer request applies to that.
func TestEarlyIsOfOneRequest(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		w := newEarlyWorld(t, nil, "http/1.1")
		inner := w.transportOf(t, &http.Transport{})
		status := make(chan string, 1)
		outer := w.transportOf(t, &http.Transport{DisableKeepAlives: !keeps, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			r := request(t, ctx, "POST", "https://"+w.addr, "secret")
			early := earlyStatus(&r)
			resp, err := inner.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			_ = resp.Body.Close()
			status <- early().String()
			return new(net.Dialer).DialContext(ctx, network, addr)
		}})
		r := request(t, sslhttp.WithEarlyData(t.Context(), true), "GET", "https://"+w.addr, "")
		if got := outcome(outer, r); !strings.HasPrefix(got, "200") {
			t.Error(got)
		}
		if got := <-status; got != "not sent" {
			t.Errorf("the early data of the request in DialContext is %s", got)
		}
	}
}

// A lateConn reads little at a time, each time after a moment.
type lateConn struct {
	net.Conn
	by time.Duration
}

func (c *lateConn) Read(p []byte) (int, error) {
	time.Sleep(c.by)
	return c.Conn.Read(p[:min(len(p), 4096)])
}

// TestEarlyAnswerEnds: the answer to an early request ends the connection. The client gets all of it.
func TestEarlyAnswerEnds(t *testing.T) {
	const size = 300_000
	w := newEarlyWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, strings.Repeat("x", size))
	}), "http/1.1")
	tr := w.transportOf(t, &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &lateConn{c, time.Millisecond}, err
	}})
	for range 12 {
		r := get(t, "https://"+w.addr)
		r.Close = true
		if got := outcome(tr, r); len(got) != len("200 false ")+size {
			t.Errorf("%d bytes: %.40s", len(got), got)
		}
		eventually(t, "there is a session", func() bool { return w.cache.Stats().Sessions > 0 })
	}
}

// TestEarlyWriteTimeout: the handshake takes longer than net/http allows a write. The time of the handshake does not
// count, as without early data.
func TestEarlyWriteTimeout(t *testing.T) {
	w := newEarlyWorld(t, nil, "h2")
	tr := w.transportOf(t, &http.Transport{HTTP2: &http.HTTP2Config{WriteByteTimeout: 100 * time.Millisecond},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &lateConn{c, 200 * time.Millisecond}, err
		}})
	if got := outcome(tr, request(t, t.Context(), "GET", "https://"+w.addr, strings.Repeat("x", 40_000))); !strings.HasPrefix(got, "200") {
		t.Error(got)
	}
}

// TestEarlyBodies: a request with a body of any length goes early as far as that is allowed, and does not wait for the
// end of the window.
func TestEarlyBodies(t *testing.T) {
	eachProtocol(t, func(t *testing.T, proto string, _ int) {
		w := newEarlyWorld(t, nil, proto)
		for _, n := range []int{3950, 4000, 8000, 16384, 40_000} {
			begin := time.Now()
			got := outcome(w.tr, request(t, t.Context(), "GET", "https://"+w.addr, strings.Repeat("x", n)))
			if !strings.HasPrefix(got, "200") || time.Since(begin) > time.Minute { // the window is an hour
				t.Errorf("%d bytes: %s", n, got)
			}
			w.learn(t)
		}
	})
}

// TestEarlyServerCloses: the server is closed while an early request is handled, whose client does not go on. The
// connection ends, although net/http sets deadlines after that.
func TestEarlyServerCloses(t *testing.T) {
	was := sslhttp.SetMaxCloseTime(200 * time.Millisecond)
	defer sslhttp.SetMaxCloseTime(was)
	begun, release := make(chan bool), make(chan bool)
	w := newEarlyWorld(t, nil, "http/1.1")
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/learn" {
			begun <- true
			<-release
		}
	})}
	w.addr, _ = w.serveBy(t, srv, sslhttp.ServeWithEarlyData)
	w.learn(t)
	_, raw := w.dialEarly(t, w.addr, nil, "GET / HTTP/1.1\r\nHost: host.example\r\n\r\n")
	<-begun
	must(t, srv.Close())
	close(release)
	must(t, raw.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := io.Copy(io.Discard, raw); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection does not end: %v", err)
	}
}
