// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
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
	forget  func() // removes it from its host
	closing sync.Once
	closed  chan struct{}

	began bool          // something was read; only the reader uses it
	seen  chan struct{} // closed when net/http has read the first frame
}

// Read watches for the server's first frame, its settings.
func (c *conn) Read(p []byte) (int, error) {
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
		if c.forget != nil {
			c.forget()
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

// keep adds a connection to its host until it is closed; client is nil for HTTP/1.1.
func (t *Transport) keep(c *conn, client *http2Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepLocked(c, client)
}

func (t *Transport) keepLocked(c *conn, client *http2Client) {
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
		t.tidy(c.target, h)
		t.unrouteLocked(c.target.route)
	}
}

// host returns the entry for a host, which exists while it is not empty. mu is held.
func (t *Transport) host(to target) *host {
	h := t.hosts[to]
	if h == nil {
		h = new(host)
		t.hosts[to] = h
	}
	return h
}

// tidy removes an empty entry, unless that has happened already and there is another one.
func (t *Transport) tidy(to target, h *host) {
	if h.http1 == 0 && len(h.http2) == 0 && h.dialing == nil && t.hosts[to] == h {
		delete(t.hosts, to)
	}
}

// A dialing makes a connection for all requests that wait for it. It ends when the last of them leaves, not
// when the first leaves. mu of the Transport guards it, until done is closed.
type dialing struct {
	began    time.Time
	patience time.Duration // how old it is at least when another dialing replaces it
	replaced chan struct{} // closed when another dialing does
	waiting  int
	ctx      context.Context // its time limit
	cancel   context.CancelFunc
	done     chan struct{}
	over     bool

	client *http2Client
	spare  *conn // of HTTP/1.1, for the first request that takes it
	err    error
	late   bool // the error came at the time limit
}

// errReplaced says that the host has another dialing.
var errReplaced = errors.New("sslhttp: another connection is being made")

// dialTogether waits for the host's dialing, or begins it. If a dialing fails that another request has
// begun, one more dialing is tried: with net/http, too, a connection that fails ends one request.
func (t *Transport) dialTogether(ctx context.Context, to target) (client *http2Client, spare *conn, err error) {
	for again := true; ; {
		var others bool
		client, spare, others, err = t.awaitDialing(ctx, to)
		switch {
		case err == errReplaced:
		case others && again:
			again = false
		default:
			return client, spare, err
		}
	}
}

// awaitDialing waits for one dialing. others says that the error is that of a dialing which another
// request has begun.
func (t *Transport) awaitDialing(ctx context.Context, to target) (client *http2Client, spare *conn, others bool, err error) {
	h, d, own := t.joinDialing(ctx, to)
	left := false
	defer func() {
		if !left { // a method of ctx, which is the caller's, panicked or ended the goroutine
			client, spare, _ := t.leaveDialing(to, h, d, false)
			client.leave()
			spare.drop()
		}
	}()
	err = d.await(ctx)
	left = true
	client, spare, over := t.leaveDialing(to, h, d, err == errReplaced)
	if over {
		return client, spare, d.err != nil && !d.late && !own, d.err
	}
	return nil, nil, false, err
}

// joinDialing returns the host's dialing, for which one more request waits. own says that the request
// has begun it.
func (t *Transport) joinDialing(ctx context.Context, to target) (h *host, d *dialing, own bool) {
	background := context.WithoutCancel(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	h = t.host(to)
	d = h.dialing
	if own = d == nil || d.ctx.Err() != nil; own { // a hook may keep a dialing running after its time limit
		d = &dialing{began: time.Now(), patience: max(h.patience, firstPatience), replaced: make(chan struct{}), done: make(chan struct{})}
		d.ctx, d.cancel = t.limit(background)
		h.dialing, h.patience = d, 0
		go t.finish(to, h, d)
	}
	d.waiting++
	return h, d, own
}

// leaveDialing returns the result of a dialing that is over. If the dialing is not over, and the last
// request leaves it, leaveDialing ends it. If other requests wait, another dialing replaces it: the
// server may be one of several, and may never answer. replaced says that the request joins that one
// next: so the host stays known, with the time that the next dialing gets.
func (t *Transport) leaveDialing(to target, h *host, d *dialing, replaced bool) (client *http2Client, spare *conn, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.waiting--
	if d.over {
		spare, d.spare = d.spare, nil
		return d.client, spare, true
	}
	switch {
	case d.waiting > 0:
		h.replaceDialing(d)
	case replaced:
		d.cancel()
	default:
		t.stop(to, h, d)
	}
	return nil, nil, false
}

// firstPatience is how old a dialing is at least when another one replaces it. Nearly all need less.
const firstPatience = 250 * time.Millisecond

// replaceDialing makes the requests that wait begin another dialing. That one gets twice the time, so
// that requests which do not wait for long cannot keep a slow server from answering. mu is held.
func (h *host) replaceDialing(d *dialing) {
	if age := time.Since(d.began); h.dialing == d && age >= d.patience {
		h.dialing, h.patience = nil, 2*age
		close(d.replaced)
	}
}

// maxLateness is how long await waits after the time limit for the dialing's own error.
const maxLateness = time.Second

// await waits for the end of a dialing. A hook of the request that began it, or the DialContext, may
// continue after the time limit. await does not wait for that.
func (d *dialing) await(ctx context.Context) error {
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.replaced:
		return errReplaced
	case <-d.ctx.Done():
	}
	timer := time.NewTimer(maxLateness)
	defer timer.Stop()
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errTimeLimit
	}
}

// errTimeLimit is a net.Error that reports a timeout, and wraps context.DeadlineExceeded, like all
// errors of the time limit.
var errTimeLimit error = timeLimitError{}

type timeLimitError struct{}

func (timeLimitError) Error() string {
	return "sslhttp: the connection is not made within its time limit"
}
func (timeLimitError) Timeout() bool   { return true }
func (timeLimitError) Temporary() bool { return true }
func (timeLimitError) Unwrap() error   { return context.DeadlineExceeded }

// stop ends a dialing, or records its end, so that the next request begins another one. mu is held.
func (t *Transport) stop(to target, h *host, d *dialing) {
	d.cancel()
	if h.dialing == d {
		h.dialing = nil
	}
	t.tidy(to, h)
}

// finish connects, and gives the result to the requests that wait.
func (t *Transport) finish(to target, h *host, d *dialing) {
	c, err := t.connect(d.ctx, to)
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.waiting == 0 {
		if c != nil {
			go closeQuietly(c) // not under mu
		}
		return
	}
	d.err, d.late = err, d.ctx.Err() != nil
	switch {
	case err != nil:
	case c.http2:
		d.client = t.newHTTP2Client(c)
		t.keepLocked(c, d.client)
	default:
		d.spare = c
		t.keepLocked(c, nil)
	}
	d.over = true
	close(d.done)
	t.stop(to, h, d)
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
	return c.transport.RoundTrip(r)
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
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { isReady() },
	})
	with := r.WithContext(ctx)
	given = true
	return c.transport.RoundTrip(with)
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
