// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sslctx"
)

// A conn is a connection of a Transport.
type conn struct {
	*sslctx.Conn
	http2   bool // it agreed on HTTP/2
	target  target
	born    time.Time
	of      *Transport
	early   *earlyData // or nil
	forget  func()     // removes it from its host; guarded by mu of the Transport
	closing sync.Once
	closed  chan struct{}

	began bool          // something was read; only the reader uses it
	seen  chan struct{} // closed when net/http has read the first frame
}

// Read watches for the server's first frame, its settings.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.awaitHandshake(); err != nil {
		return 0, err
	}
	if c.began && !isDone(c.seen) {
		close(c.seen)
	}
	n, err := c.Conn.Read(p)
	c.began = c.began || n > 0
	return n, err
}

// Close closes the connection, and lets its host forget it.
func (c *conn) Close() (err error) {
	c.closing.Do(func() {
		close(c.closed)
		c.of.mu.Lock()
		forget := c.forget
		c.of.mu.Unlock()
		if forget != nil {
			forget()
		}
		err = c.Conn.Close()
	})
	return err
}

// drop closes a connection that no request takes; c may be nil.
func (c *conn) drop() {
	if c != nil {
		_ = c.Close()
	}
}

// dropQuietly is drop for a goroutine whose panic nobody can recover.
func (c *conn) dropQuietly() {
	if c != nil {
		closeQuietly(c)
	}
}

// keep adds a connection to its host until it is closed; client is nil for HTTP/1.1.
func (t *Transport) keep(c *conn, client *http2Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepLocked(c, client)
}

// keepProven is keep once the handshake is over: until then the server may be one that never answers.
func (t *Transport) keepProven(c *conn, client *http2Client) {
	if c.early == nil {
		t.keep(c, client)
		return
	}
	go func() {
		if c.awaitHandshake() == nil {
			t.keep(c, client)
		}
	}()
}

func (t *Transport) keepLocked(c *conn, client *http2Client) {
	if isDone(c.closed) {
		return
	}
	h := t.host(c.target)
	c.target.route.uses++
	if client != nil {
		h.http2 = append(h.http2, client)
	} else {
		h.http1++
	}
	c.forget = func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if client != nil {
			h.http2 = slices.DeleteFunc(h.http2, func(other *http2Client) bool { return other == client })
		} else {
			h.http1--
		}
		t.settle(c.target, h) // requests may wait for MaxConnsPerHost
		t.unrouteLocked(c.target.route)
	}
}

// An http2Client sends requests by one connection. Its transport is one of net/http. The only way to
// give a connection to that transport is its dial function, so the function succeeds once.
type http2Client struct {
	conn      *conn
	transport *http.Transport
	given     atomic.Bool // the transport has the connection
	limit     func(context.Context) (context.Context, context.CancelFunc)
	first     chan struct{} // held by the request that gives it to the transport
	ready     chan struct{} // closed when other requests may share it
}

func (t *Transport) newHTTP2Client(c *conn) *http2Client {
	client := &http2Client{conn: c, transport: t.base.Clone(), limit: t.limit, first: make(chan struct{}, 1), ready: make(chan struct{})}
	client.transport.Protocols.SetUnencryptedHTTP2(true)
	client.transport.MaxConnsPerHost = 0 // it would wait
	client.transport.DialTLSContext = func(context.Context, string, string) (net.Conn, error) {
		if client.given.Swap(true) {
			return nil, errNeedsConn // it is closed, or full
		}
		return c, nil
	}
	return client
}

// roundTrip sends a request.
func (c *http2Client) roundTrip(ctx context.Context, r *http.Request) (*http.Response, error) {
	entered := false
	defer func() {
		if !entered { // also if a method of ctx panics or ends the goroutine
			c.leave()
			closeBody(r)
		}
	}()
	first, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	if !first {
		c.awaitSettings(ctx)
	}
	entered = true
	if first {
		return c.roundTripHeld(r)
	}
	c.conn.endEarly()
	resp, err := c.transport.RoundTrip(r)
	return c.withState(resp), err
}

// withState sets the TLS field of an answer. net/http sets it to the state when it got the connection, which
// may be before the end of the handshake.
func (c *http2Client) withState(resp *http.Response) *http.Response {
	if resp != nil && c.conn.early != nil {
		state := c.conn.ConnectionState()
		resp.TLS = &state
	}
	return resp
}

// enter waits until a request may be sent. Before the transport has the connection, it would dial
// for each request. So one request goes first. If this request is the one, first is true, and c is
// held for it. Hooks of the request that goes first may block. So the wait has the time limit of
// connecting; when that ends, enter returns errBusy.
func (c *http2Client) enter(ctx context.Context) (first bool, err error) {
	if c.isReady() {
		return false, nil
	}
	limited, cancel := c.limit(ctx)
	defer cancel()
	select {
	case <-c.ready:
		return false, nil
	case c.first <- struct{}{}:
		if c.isReady() {
			<-c.first
			return false, nil
		}
		return true, nil
	case <-limited.Done():
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return false, errBusy
}

// maxSettingsWait is how long a new connection's second request waits for the server's settings,
// which limit the number of requests.
const maxSettingsWait = time.Second

// awaitSettings waits for the settings: a request above the limit may lose its body. If a server
// sends no settings, no request waits longer than its ResponseHeaderTimeout.
func (c *http2Client) awaitSettings(ctx context.Context) {
	if isDone(c.conn.seen) {
		return
	}
	wait := maxSettingsWait
	if d := c.transport.ResponseHeaderTimeout; d > 0 {
		wait = min(wait, d)
	}
	timer := time.NewTimer(time.Until(c.conn.born.Add(wait)))
	defer timer.Stop()
	select {
	case <-c.conn.seen:
	case <-c.conn.closed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// hold keeps a new client for one request, which goes first.
func (c *http2Client) hold() { c.first <- struct{}{} }

// roundTripHeld sends the request for which c is held.
func (c *http2Client) roundTripHeld(r *http.Request) (*http.Response, error) {
	defer func() { <-c.first }()
	return c.roundTripFirst(r)
}

// roundTripFirst gives the transport its connection by sending a request. If the request ends
// before that, it closes the connection: there may be no other request to do it.
func (c *http2Client) roundTripFirst(r *http.Request) (*http.Response, error) {
	given := false
	defer func() {
		if !given { // also if a method of the request's context panics or ends the goroutine
			closeBody(r)
		}
		if !c.isReady() { // also if a hook panics or ends the goroutine
			c.drop()
		}
	}()
	if isDone(c.conn.closed) {
		return nil, errNeedsConn
	}
	isReady := sync.OnceFunc(func() { close(c.ready) })
	with := r.WithContext(useOf(r.Context()).trace(r.Context(), func(*conn) { isReady() }))
	given = true
	resp, err := c.transport.RoundTrip(with)
	if err != nil && c.conn.early != nil {
		c.conn.abandon() // a server that does not answer: no other request waits for it
	}
	return c.withState(resp), err
}

// leave is for a request that will not use c, which may be nil. If it was the last request for c,
// leave closes c.
func (c *http2Client) leave() {
	if c == nil {
		return
	}
	select {
	case c.first <- struct{}{}:
		defer func() { <-c.first }() // a hook may panic
		if !c.isReady() {
			c.drop()
		}
	default: // the request that goes first closes it
	}
}

func (c *http2Client) drop() {
	if c != nil {
		c.conn.drop()
	}
}

func (c *http2Client) isReady() bool { return isDone(c.ready) }

func isDone(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
