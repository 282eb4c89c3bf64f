// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sslctx"
)

// ServeWithEarlyData is Serve for a server that also accepts requests in early data (TLS 1.3, RFC 8470):
// a client that resumes has its answer one round trip sooner. The Context of l says how much a client
// may send: [sslctx.Context.SetMaxEarlyData]. Without it ServeWithEarlyData is Serve.
//
// Early data is weaker than other data. An attacker who has recorded such a request can send it again,
// also to another server that opens the same tickets. libssl accepts the early data of a session once if
// all servers that share its sessions have one cache. So only requests that may run twice are handled
// early: those of the methods GET, HEAD and OPTIONS without an Upgrade header, whose client has shown no
// certificate. All others are answered with 425 (Too Early), and the client sends them again after the
// handshake.
//
// A handler asks [IsEarly], and [RequireHandshake] keeps early requests from it. A request is early while
// the client's handshake is not over. The request then has the header "Early-Data: 1", so that a reverse
// proxy tells the server behind it. In its TLS field HandshakeComplete is false.
//
// The time limit for the handshake holds until it is over, also while a handler runs: after it the
// connection ends. The caller of Hijack gets a net.Conn around the *sslctx.Conn, which [Conn] returns.
func ServeWithEarlyData(srv *http.Server, l net.Listener) error {
	return serve(srv, l, true)
}

// earlyHeader says that a request was sent in early data (RFC 8470, 5.1).
const earlyHeader = "Early-Data"

// IsEarly reports whether a server's request was sent in early data, to this server or to a proxy in
// front of it, so that an attacker may have sent it again. Any client can set the header that says so.
func IsEarly(r *http.Request) bool { return len(r.Header[earlyHeader]) > 0 }

// RequireHandshake returns a handler that answers early requests with 425 (Too Early), and passes all
// others on. The client of a Transport then sends the request again after the handshake, and so do
// browsers. It is for handlers that must not run twice, although the method is GET.
func RequireHandshake(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if IsEarly(r) {
			tooEarly(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func tooEarly(w http.ResponseWriter) {
	http.Error(w, "the request must not be sent in early data", http.StatusTooEarly)
}

// earlyConnOf returns the connection of a request if its handshake has not succeeded yet.
func earlyConnOf(ctx context.Context) *earlyServerConn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	if h2, ok := c.(*http2Conn); ok {
		c = h2.Conn
	}
	early, ok := c.(*earlyServerConn)
	if !ok || isDone(early.over) && early.err == nil {
		return nil
	}
	return early
}

// noteUnproven sets the state of a connection for an early request. If the handshake has failed, the request ends: it
// is a replay, perhaps.
func (c *earlyServerConn) noteUnproven(state *tls.ConnectionState) {
	if isDone(c.over) && c.err != nil {
		panic(http.ErrAbortHandler)
	}
	state.HandshakeComplete = false
	state.PeerCertificates, state.VerifiedChains = nil, nil
}

// mayHandleEarly reports whether a request may be handled before the handshake is over, and marks it as
// early. The client's certificate is known only afterwards.
func mayHandleEarly(c *sslctx.Conn, r *http.Request) bool {
	r.Header.Set(earlyHeader, "1")
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r.Header.Get("Upgrade") == "" && !hasClientCertificate(c)
	}
	return false
}

// hasClientCertificate reports whether the client of the session that is resumed has shown a certificate.
func hasClientCertificate(c *sslctx.Conn) bool {
	s, err := c.ResumedSession()
	if errors.Is(err, sslctx.ErrNoSession) { // a pre-shared key
		return false
	}
	if err != nil {
		return true
	}
	defer s.Close()
	cert, err := s.PeerCertificate()
	return cert != nil || err != nil
}

// An earlyServerConn is a server's connection whose client has sent early data. The handshake goes on
// when that has been read. What is written before goes to a client that has proved nothing.
type earlyServerConn struct {
	*sslctx.Conn
	ctx   context.Context // of the handshake
	end   time.Time       // of the handshake
	timer *time.Timer     // ends the connection then, or nil
	over  chan struct{}   // closed when the handshake is over, or has failed; then err is set
	err   error

	closing atomic.Bool

	readMu sync.Mutex
	read   []byte // early data that is not yet given to net/http

	mu       sync.Mutex    // held where over is closed
	begun    bool          // goOn was called, with readMu
	deadline time.Time     // of reads
	changed  chan struct{} // closed when the deadline changes
}

func newEarlyServerConn(ctx context.Context, c *sslctx.Conn, read []byte, end time.Time) *earlyServerConn {
	e := &earlyServerConn{Conn: c, ctx: context.WithoutCancel(ctx), end: end, read: read,
		over: make(chan struct{}), changed: make(chan struct{})}
	if !end.IsZero() {
		e.timer = time.AfterFunc(time.Until(end), func() { closeQuietly(c) })
	}
	return e
}

// Read reads early data, and after it what follows the handshake.
func (c *earlyServerConn) Read(p []byte) (int, error) {
	if !isDone(c.over) {
		if n, err := c.readEarly(p); n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(p)
}

// readEarly returns nothing when early data, and then the handshake, is over.
func (c *earlyServerConn) readEarly(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(c.read) > 0 {
		n := copy(p, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	if !c.begun {
		if n, err := c.Conn.ReadEarlyData(p); err != io.EOF {
			return n, err
		}
		c.goOn()
	}
	return 0, c.await()
}

// goOn completes the handshake on a goroutine of its own: net/http ends reads by a deadline when it likes, and a
// handshake that meets a deadline is over.
func (c *earlyServerConn) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = true
	_ = c.Conn.SetReadDeadline(c.end)
	go func() {
		c.err = guard(func() error { return handshakeUntil(c.ctx, c.Conn, c.end) })
		if c.timer != nil {
			c.timer.Stop()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.Conn.SetReadDeadline(c.deadline)
		close(c.over)
	}()
}

// await waits for the end of the handshake, until the deadline for reads.
func (c *earlyServerConn) await() error {
	for {
		c.mu.Lock()
		deadline, changed := c.deadline, c.changed
		c.mu.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		if !deadline.IsZero() {
			ctx, cancel = context.WithDeadline(context.Background(), deadline)
		}
		select {
		case <-c.over:
			cancel()
			return nil
		case <-changed:
			cancel()
		case <-ctx.Done():
			cancel()
			return os.ErrDeadlineExceeded
		}
	}
}

// goesOn reports whether the handshake goes on. mu is held.
func (c *earlyServerConn) goesOn() bool { return c.begun && !isDone(c.over) }

// SetReadDeadline sets the deadline for reads, and not for the handshake.
func (c *earlyServerConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	if c.goesOn() {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline sets the deadlines for reads and writes.
func (c *earlyServerConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Write sends data also before the handshake is over.
func (c *earlyServerConn) Write(p []byte) (int, error) {
	if !isDone(c.over) {
		n, err := c.Conn.WriteEarlyData(p)
		if !errors.Is(err, sslctx.ErrHandshakeStarted) { // otherwise it has ended meanwhile
			return n, err
		}
		m, err := c.Conn.Write(p[n:])
		return n + m, err
	}
	return c.Conn.Write(p)
}

// maxCloseTime is how long a connection that is closed waits for the end of its handshake: without that, the rest of
// an early answer would be lost. Tests change it.
var maxCloseTime = 5 * time.Second

// Close closes the connection, in the background if the handshake is not over.
func (c *earlyServerConn) Close() error {
	if c.timer != nil {
		c.timer.Stop()
	}
	if isDone(c.over) {
		return c.Conn.Close()
	}
	if c.closing.Swap(true) {
		return nil
	}
	end := time.AfterFunc(maxCloseTime, func() { closeQuietly(c.Conn) }) // net/http may still set deadlines
	go func() {
		defer closeQuietly(c.Conn)
		defer end.Stop()
		buf := make([]byte, 1024)
		for !isDone(c.over) {
			if n, err := c.readEarly(buf); n == 0 && err != nil {
				return
			}
		}
	}()
	return nil
}
