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
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"sslctx"
)

// SetEarlyData sets whether requests go as early data (TLS 1.3, RFC 8470), where the session of a new
// connection allows that: the answer comes one round trip sooner. It is off at first. It holds for
// requests that begin later.
//
// These are requests of the methods GET and HEAD, and those that [WithEarlyData] declares safe, if they
// have no body, or a GetBody, and no Expect and Upgrade header. Others wait for the handshake. What the
// server does not accept is sent again after the handshake, without the caller noticing. So is, once, a
// request that the server answers with 425 (Too Early), unless it has an Early-Data header: it comes from
// a proxy, whose client must get that answer.
//
// Early data is weaker than other data: it has no forward secrecy, and an attacker who records it can
// have the server handle the request again. Cookies and what else identifies the caller go with it.
//
// For the request that goes early, hooks of httptrace see the handshake end after GotConn and
// WroteRequest, and it comes on another goroutine.
func (t *Transport) SetEarlyData(on bool) { t.early.Store(on) }

// WithEarlyData returns a context for a request that says whether the request may go as early data,
// whatever its method is. One that may must be safe to run twice.
func WithEarlyData(ctx context.Context, may bool) context.Context {
	return context.WithValue(ctx, mayKey{}, may)
}

type mayKey struct{}

// mayGoEarly reports whether a request may be sent as early data.
func (t *Transport) mayGoEarly(r *http.Request) bool {
	may, said := r.Context().Value(mayKey{}).(bool)
	if !said {
		may = r.Method == "" || r.Method == http.MethodGet || r.Method == http.MethodHead
	}
	hasBody := r.Body != nil && r.Body != http.NoBody && r.GetBody == nil
	return t.early.Load() && may && !hasBody && r.Header.Get("Expect") == "" && r.Header.Get("Upgrade") == ""
}

// earlyWindow is how long a new connection waits for its request. Tests change it.
var earlyWindow = 250 * time.Millisecond

// An earlyUse is what early data has to do with one attempt to send a request. nil is nothing.
type earlyUse struct {
	allowed bool
	conn    atomic.Pointer[conn] // by which it was sent as early data, which the server may reject
}

type useKey struct{}

func useOf(ctx context.Context) *earlyUse {
	use, _ := ctx.Value(useKey{}).(*earlyUse)
	return use
}

// withoutEarly returns a context for functions of the caller's that connect. They may send requests with it, to which
// nothing applies that was said of this one.
func withoutEarly(ctx context.Context) context.Context {
	return context.WithValue(context.WithValue(ctx, useKey{}, nil), mayKey{}, nil)
}

// got is called before a request is sent by a connection. If the request may not go early, the connection's
// window ends.
func (u *earlyUse) got(c *conn) {
	switch {
	case c == nil || c.early == nil:
	case u == nil || !u.allowed:
		c.endEarly()
	case !c.early.isShut():
		u.conn.Store(c)
	}
}

// wrote is called when all of the request is written: by HTTP/2 to the connection, by HTTP/1.1 to a buffer whose
// rest is the connection's next write.
func (u *earlyUse) wrote() {
	if u == nil {
		return
	}
	switch c := u.conn.Load(); {
	case c == nil:
	case c.http2:
		c.endEarly()
	default:
		c.early.last.Store(true)
		time.AfterFunc(flushTime, c.endEarly) // there may be no rest
	}
}

// flushTime is more than net/http needs between the end of a request and the next write.
const flushTime = 5 * time.Millisecond

// trace has a request's hooks call those of u, and first.
func (u *earlyUse) trace(ctx context.Context, first func(c *conn)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			c, _ := i.Conn.(*conn)
			first(c)
			u.got(c)
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { u.wrote() },
	})
}

// again reports whether a request is sent a second time, because of what became of its early data. It closes
// resp then.
func (u *earlyUse) again(r *http.Request, resp *http.Response, err error) bool {
	if u == nil || u.conn.Load() == nil {
		return false
	}
	c := u.conn.Load()
	if err != nil {
		return r.Context().Err() == nil && !isTimeout(err) && c.early.hasFailed(r.Context(), c)
	}
	if resp.StatusCode != http.StatusTooEarly || len(r.Header[earlyHeader]) > 0 || !isDone(c.early.done) || !c.early.accepted {
		return false
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained) // so that the connection can be used again
	_ = resp.Body.Close()
	return true
}

// hasFailed reports whether the handshake has failed of a connection whose request has failed: the server may not
// know early data at all. A handshake that goes on ends here. No other request uses the connection.
func (e *earlyData) hasFailed(ctx context.Context, c *conn) bool {
	c.abandon()
	select {
	case <-e.done:
		return e.err != nil
	case <-ctx.Done():
		return false
	}
}

// abandon closes a connection whose handshake goes on, for the request that has it alone. If the handshake ends first,
// others may have the connection.
func (c *conn) abandon() {
	e := c.early
	e.mu.Lock()
	goesOn := !isDone(e.done)
	e.abandoned = e.abandoned || goesOn
	e.mu.Unlock()
	if goesOn {
		c.dropQuietly()
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// maxDrained is how much of an answer is read that nobody gets.
const maxDrained = 4096

// An earlyData is a connection's handshake that goes on beside the first request. While the window is open,
// what is written goes as early data. Reads and further writes wait for the end of the handshake.
type earlyData struct {
	protocol string        // of the session: what is sent speaks it
	shut     chan struct{} // closed when the window is
	done     chan struct{} // closed when the handshake is over; then the next two are set
	err      error
	accepted bool
	last     atomic.Bool // the next write ends the request

	mu                          sync.Mutex // held where shut and done are closed
	left                        int        // how much may go
	sent                        []byte
	abandoned                   bool // the connection is closed before done is
	readDeadline, writeDeadline heldDeadline
}

// A heldDeadline is one that was set while a handshake goes on. The time until its end does not count.
type heldDeadline struct{ at, set time.Time }

func (d heldDeadline) now() time.Time {
	if d.at.IsZero() || !d.at.After(d.set) {
		return d.at
	}
	return d.at.Add(time.Since(d.set))
}

var errOtherProtocol = errors.New("sslhttp: the server has another protocol than in the session whose early data it rejects")

// beginEarly sends the ClientHello of a connection whose session allows early data. It returns nil if there
// is no such session.
func beginEarly(ctx context.Context, c *sslctx.Conn) (*earlyData, error) {
	defer context.AfterFunc(ctx, func() { closeQuietly(c) })()
	s, err := c.Session()
	if err != nil {
		return nil, nil // it has none
	}
	defer s.Close()
	protocol := s.ALPNSelected()
	if s.MaxEarlyData() == 0 || protocol != "" && protocol != "http/1.1" && protocol != "h2" {
		return nil, nil
	}
	if _, err := c.WriteEarlyData(nil); errors.Is(err, sslctx.ErrNoEarlyData) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &earlyData{protocol: protocol, left: s.MaxEarlyData(), shut: make(chan struct{}), done: make(chan struct{})}, nil
}

func (e *earlyData) isShut() bool { return isDone(e.shut) }

// endEarly shuts the window. c may be nil, or a connection without early data.
func (c *conn) endEarly() {
	if c == nil || c.early == nil {
		return
	}
	e := c.early
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.isShut() {
		close(e.shut)
	}
}

// writeEarly sends data while the window is open. If ok is false it sends nothing.
func (e *earlyData) writeEarly(c *sslctx.Conn, p []byte) (n int, ok bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isShut() || len(p) > e.left {
		return 0, false, nil
	}
	n, err = c.WriteEarlyData(p)
	e.left -= n
	e.sent = append(e.sent, p[:n]...)
	return n, true, err
}

// Write sends data, early or after the handshake.
func (c *conn) Write(p []byte) (int, error) {
	if e := c.early; e != nil && !isDone(e.done) {
		n, ok, err := e.writeEarly(c.Conn, p)
		if !ok || e.last.Load() {
			c.endEarly()
		}
		if ok {
			return n, err
		}
	}
	if err := c.awaitHandshake(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SetDeadline sets the deadlines for reads and writes.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline for reads, after a handshake that goes on: one that meets a deadline is over.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.early != nil && c.early.hold(&c.early.readDeadline, t) {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline sets the deadline for writes, after a handshake that goes on.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.early != nil && c.early.hold(&c.early.writeDeadline, t) {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// hold keeps a deadline for the time after the handshake, if that goes on.
func (e *earlyData) hold(deadline *heldDeadline, t time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	*deadline = heldDeadline{t, time.Now()}
	return !isDone(e.done)
}

// endEarlyData ends the handshake, and sets the deadlines that were set meanwhile.
func (c *conn) endEarlyData() {
	e := c.early
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.abandoned && e.err == nil {
		e.err = net.ErrClosed
	}
	_ = c.Conn.SetReadDeadline(e.readDeadline.now())
	_ = c.Conn.SetWriteDeadline(e.writeDeadline.now())
	close(e.done)
}

// awaitHandshake waits for the end of a handshake that goes on beside a request.
func (c *conn) awaitHandshake() error {
	if c.early == nil {
		return nil
	}
	<-c.early.done
	return c.early.err
}

// goOn completes a handshake when the window is shut. ctx is that of the dialing.
func (t *Transport) goOn(ctx context.Context, c *conn) {
	e := c.early
	window := time.AfterFunc(earlyWindow, c.endEarly)
	end, limited := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer c.endEarlyData()
		defer window.Stop()
		select {
		case <-e.shut:
		case <-c.closed:
			e.err = net.ErrClosed
			return
		}
		if limited {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, end)
			defer cancel()
		}
		if e.err = guard(func() error { return c.complete(ctx) }); e.err != nil {
			c.dropQuietly()
		}
	}()
}

// complete completes the handshake, and sends again what the server has rejected.
func (c *conn) complete(ctx context.Context) error {
	e := c.early
	err := c.HandshakeContext(ctx)
	state := tls.ConnectionState{}
	if err == nil {
		state = c.ConnectionState()
		e.accepted = c.EarlyDataStatus() == sslctx.EarlyDataAccepted
	}
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.TLSHandshakeDone != nil {
		trace.TLSHandshakeDone(state, err)
	}
	switch {
	case err != nil:
		return err
	case e.accepted:
	case state.NegotiatedProtocol != e.protocol:
		return errOtherProtocol
	default:
		_, err = c.Conn.Write(e.sent)
	}
	e.sent = nil
	return err
}

// guard calls f on a goroutine of its own. A panic is an error, and so is the end of that goroutine.
func guard(f func() error) (err error) {
	done := make(chan struct{})
	err = errDialEnded
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("sslhttp: a panic where the Transport connects: %v", v)
			}
		}()
		err = f()
	}()
	<-done
	return err
}
