// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"sslctx"
)

// A listener accepts connections whose handshake is done. Each handshake has its own goroutine, so
// that a slow client delays nobody.
type listener struct {
	net.Listener
	srv   *http.Server
	http2 bool
	early bool // it reads early data

	accepted chan accepted
	closed   chan struct{}
	ctx      context.Context // of the handshakes, until Close
	cancel   context.CancelFunc

	mu      sync.Mutex
	pending map[*sslctx.Conn]bool // nil after Close
}

type accepted struct {
	conn  net.Conn
	err   error
	panic any // of the inner listener's Accept
}

func newListener(inner net.Listener, srv *http.Server, http2, early bool) *listener {
	l := &listener{Listener: inner, srv: srv, http2: http2, early: early, accepted: make(chan accepted),
		closed: make(chan struct{}), pending: map[*sslctx.Conn]bool{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.acceptAll()
	return l
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		if a.panic != nil {
			panic(a.panic)
		}
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close also ends the handshakes: the server does not know them, and Shutdown must not wait for
// them.
func (l *listener) Close() error {
	l.mu.Lock()
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	if pending == nil {
		return nil
	}
	close(l.closed)
	l.cancel()
	err := l.Listener.Close()
	for c := range pending {
		l.drop(c)
	}
	return err
}

// give passes a connection or an error to Accept, and reports whether Accept took it. An error
// waits for Accept, too: net/http calls it later to slow down.
func (l *listener) give(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.closed:
		return false
	}
}

// acceptAll accepts until Close. A panic of the inner listener is one of Serve, on its goroutine.
func (l *listener) acceptAll() {
	last := accepted{err: errAcceptEnded}
	defer func() {
		last.panic = recover()
		l.give(last)
	}()
	for {
		c, err := l.acceptOne()
		if err == nil {
			go l.handshake(c)
		} else if !l.give(accepted{err: err}) {
			return
		}
	}
}

var errAcceptEnded = errors.New("sslhttp: Serve: the listener's Accept ended its goroutine")

func (l *listener) acceptOne() (*sslctx.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	ssl, ok := c.(*sslctx.Conn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("sslhttp: Serve: the listener accepts %T, not *sslctx.Conn", c)
	}
	return ssl, nil
}

// track keeps the connection for Close, until its handshake is done. It is false after Close.
func (l *listener) track(c *sslctx.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return false
	}
	l.pending[c] = true
	return true
}

func (l *listener) forget(c *sslctx.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, c)
}

func (l *listener) handshake(c *sslctx.Conn) {
	taken := false
	defer func() {
		l.forget(c)
		if !taken {
			l.drop(c)
		}
	}()
	defer l.logPanic(c)
	if !l.track(c) {
		return
	}
	conn, err := l.prepare(c)
	l.forget(c)
	switch {
	case err == nil:
		taken = l.give(accepted{conn: conn})
	case l.ctx.Err() == nil && !errors.Is(err, net.ErrClosed):
		logf(l.srv, "http: TLS handshake error from %s: %v", c.RemoteAddr(), err)
	}
}

// drop closes a connection that the server does not get. That may run a hook, too.
func (l *listener) drop(c *sslctx.Conn) {
	defer l.logPanic(c)
	_ = c.Close()
}

// logPanic ends the panic of a hook, and logs it as net/http does for handlers. It is deferred.
func (l *listener) logPanic(c *sslctx.Conn) {
	if v := recover(); v != nil {
		logf(l.srv, "http: panic in the TLS handshake with %s: %v", addrOf(c), v)
	}
}

// addrOf returns the peer's address, also if that is what panics.
func addrOf(c *sslctx.Conn) (addr net.Addr) {
	defer func() { _ = recover() }()
	return c.RemoteAddr()
}

// prepare makes the handshake, and returns the connection for net/http.
func (l *listener) prepare(c *sslctx.Conn) (net.Conn, error) {
	end := l.handshakeEnd()
	early, err := l.doHandshake(c, end)
	if err != nil {
		if errors.Is(err, sslctx.ReasonHTTPRequest) {
			_, _ = io.WriteString(c.NetConn(), "HTTP/1.0 400 Bad Request\r\n\r\n"+
				"Client sent an HTTP request to an HTTPS server.\n")
		}
		return nil, err
	}
	if err := errors.Join(c.SetDeadline(time.Time{}), c.SetBackgroundClose(true)); err != nil {
		return nil, err
	}
	var conn net.Conn = c
	if early != nil {
		conn = newEarlyServerConn(l.ctx, c, early, end)
	}
	state := c.ConnectionState()
	switch {
	case state.NegotiatedProtocol != "h2":
		return conn, nil
	case !l.http2:
		return nil, errors.New("client agreed on HTTP/2, which the server's Protocols or TLSNextProto do not allow: " +
			"take it out of the Context's SetALPNProtos")
	case !netHTTPHasServer():
		return nil, errors.New("client agreed on HTTP/2, which GODEBUG=http2server=0 turns off in net/http: " +
			"take it out of the Context's SetALPNProtos")
	case state.Version < tls.VersionTLS12: // RFC 9113, 9.2
		return nil, errors.New("client agreed on HTTP/2 with a TLS version below 1.2")
	}
	if _, err := c.SetOptions(sslctx.OpNoRenegotiation); err != nil { // RFC 9113, 9.2.1
		return nil, err
	}
	return newHTTP2Conn(conn, l.srv)
}

// handshakeEnd returns when a handshake that begins now must be over. The zero time is never.
func (l *listener) handshakeEnd() (end time.Time) {
	if d := handshakeTimeout(l.srv); d > 0 {
		end = time.Now().Add(d)
	}
	return end
}

// doHandshake makes the handshake. If early data comes, it stops there and returns that. The server's
// time limit is the deadline of the transport and of the hooks' context.
func (l *listener) doHandshake(c *sslctx.Conn, end time.Time) (early []byte, err error) {
	if !end.IsZero() {
		_ = c.SetDeadline(end)
	}
	if l.early {
		early = make([]byte, 4096)
		n, err := c.ReadEarlyData(early)
		refused := (*sslctx.ArgumentError)(nil) // a check of the peer comes before the first request
		if err != io.EOF && !errors.As(err, &refused) {
			return early[:n], err
		}
	}
	return nil, handshakeUntil(l.ctx, c, end)
}

// handshakeUntil makes the handshake, or what is left of it, until a time; the zero time is none.
func handshakeUntil(ctx context.Context, c *sslctx.Conn, end time.Time) error {
	if end.IsZero() {
		return c.HandshakeContext(ctx)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	err := c.HandshakeContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded // as if the transport had timed out first
	}
	return err
}

// netHTTPHasServer reports whether net/http's servers speak HTTP/2: the environment or the program
// may have turned that off. A Server that has HTTP/2 shows it when it serves.
func netHTTPHasServer() bool {
	probe := &http.Server{Protocols: new(http.Protocols)}
	probe.Protocols.SetUnencryptedHTTP2(true)
	_ = probe.Close()
	_ = probe.Serve(noListener{})
	return len(probe.TLSNextProto) > 0
}

// A noListener accepts nothing.
type noListener struct{ net.Listener }

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.TCPAddr{} }
