// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"slices"
	"time"
)

// A host has the connections to one host, and the requests that wait for the first.
//
// These requests share the connections that are being made. One is enough if the server answers. If
// it does not, another is begun, and then another: the server may be one of several, and this one may
// never answer. The first connection that is ready serves all requests. Each connection is begun for
// one request. If it fails, that request has the error, and no other; and each of the others makes its
// own, as with net/http. So a request makes at most one connection.
type host struct {
	http1 int            // number of HTTP/1.1 connections
	http2 []*http2Client // the newest last

	waiters  []*waiter  // the oldest first
	dialings []*dialing // the oldest first
	running  int        // functions that connect and have not returned, those of net/http's transport too

	// Connections of HTTP/1.1 that net/http's transport has not taken yet, and its dials that would take
	// one. Any dial takes any of them: a request that waits for a place in that transport must not keep one
	// from the request that has the place.
	spares []*conn
	wants  []chan *conn
}

// A waiter is a request that waits for a connection. mu of the Transport guards it, until done is
// closed.
type waiter struct {
	background context.Context // the request's, without its end: has the hooks for connecting
	early      bool            // the request may go as early data
	dialing    *dialing        // that was begun for it, or nil
	apart      bool            // it makes its own, for one has failed that it waited for

	done   chan struct{} // closed when there is a result
	served bool          // done is closed
	client *http2Client
	spare  *conn // of HTTP/1.1; without client, spare and err the host speaks HTTP/1.1
	err    error
}

// A dialing makes a connection. It goes on when its request has ended, as long as others wait.
type dialing struct {
	began  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	owner  *waiter     // the request that gets its error, or nil if that has ended
	next   *time.Timer // begins another one
	early  bool        // its request may go as early data
	given  bool        // its request has the connection, and the handshake goes on
}

// patience is how old the newest dialing is when another one is begun. Nearly all need less.
var patience = 250 * time.Millisecond

// maxOrphans is how many dialings of requests that have ended go on, for those that wait. So requests
// which do not wait for long cannot keep a slow server from answering for four seconds.
const maxOrphans = 16

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
	if h.http1 == 0 && len(h.http2) == 0 && len(h.waiters) == 0 && h.running == 0 && t.hosts[to] == h {
		delete(t.hosts, to)
	}
}

// dialTogether waits for a connection of the host's, and has one made if need be.
func (t *Transport) dialTogether(ctx context.Context, to target, early bool) (client *http2Client, spare *conn, err error) {
	h, w := t.join(ctx, to, early)
	left := false
	defer func() {
		if !left { // a method of ctx, which is the caller's, panicked or ended the goroutine
			t.leave(to, h, w)
			w.client.leave()
			t.dropSpare(to, w.spare)
		}
	}()
	err = t.await(ctx, w)
	left = true
	if t.leave(to, h, w); w.served {
		return w.client, w.spare, w.err
	}
	return nil, nil, err
}

// join adds a request that waits.
func (t *Transport) join(ctx context.Context, to target, early bool) (*host, *waiter) {
	w := &waiter{background: context.WithoutCancel(ctx), early: early, done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.host(to)
	h.waiters = append(h.waiters, w)
	t.settle(to, h) // the host may have become known meanwhile
	return h, w
}

// leave removes a request that waits no longer. Without one that waits, all dialings end.
func (t *Transport) leave(to target, h *host, w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.remove(w)
	t.settle(to, h)
}

// remove removes a request from those that wait. Its dialing has no owner from then on. mu is held.
func (h *host) remove(w *waiter) {
	h.waiters = slices.DeleteFunc(h.waiters, func(other *waiter) bool { return other == w })
	if w.dialing != nil {
		w.dialing.owner = nil
	}
}

// settle begins and ends dialings after a change of those that wait. mu is held.
func (t *Transport) settle(to target, h *host) {
	h.serveHTTP1()
	if len(h.waiters) > 0 {
		t.beginDialings(to, h)
		return
	}
	for len(h.dialings) > 0 {
		h.end(h.dialings[0])
	}
	t.tidy(to, h)
}

// serveHTTP1 lets requests go on once the host is known to speak HTTP/1.1. mu is held.
func (h *host) serveHTTP1() {
	for h.http1 > 0 && len(h.http2) == 0 && len(h.waiters) > 0 {
		h.serve(h.waiters[0], nil, nil, nil)
	}
}

// beginDialings begins dialings for requests that have none yet. mu is held.
func (t *Transport) beginDialings(to target, h *host) {
	for _, w := range h.waiters {
		if w.dialing != nil {
			continue
		}
		if !t.mayDial(h, w) {
			return
		}
		d := &dialing{began: time.Now(), owner: w, early: w.early}
		d.ctx, d.cancel = context.WithCancel(w.background)
		d.next = time.AfterFunc(patience, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.settle(to, h)
		})
		w.dialing = d
		h.dialings = append(h.dialings, d)
		h.running++
		go t.finish(to, h, d)
	}
}

// mayDial reports whether a dialing may begin for a request. mu is held.
func (t *Transport) mayDial(h *host, w *waiter) bool {
	h.dropOrphans()
	n := len(h.dialings)
	switch limit := t.given.MaxConnsPerHost; {
	case limit > 0 && h.http1+h.running >= limit:
		return false
	case n == 0 || w.apart:
		return true
	}
	return time.Since(h.dialings[n-1].began) >= patience
}

// dropOrphans ends the oldest dialings whose requests have ended. mu is held.
func (h *host) dropOrphans() {
	var orphans []*dialing
	for _, d := range h.dialings {
		if d.owner == nil && !d.given {
			orphans = append(orphans, d)
		}
	}
	for len(orphans) > maxOrphans {
		h.end(orphans[0])
		orphans = orphans[1:]
	}
}

// end ends a dialing. mu is held.
func (h *host) end(d *dialing) {
	d.cancel()
	d.next.Stop()
	h.dialings = slices.DeleteFunc(h.dialings, func(other *dialing) bool { return other == d })
}

// finish connects, and gives the result to the requests that wait.
func (t *Transport) finish(to target, h *host, d *dialing) {
	var client *http2Client
	c, err := t.connect(d.ctx, to, d.early)
	if err == nil && c.early != nil {
		client, err = t.giveEarly(h, d, c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	runs := slices.Contains(h.dialings, d) // otherwise the Transport has ended it, which is no failure
	wanted := runs && len(h.waiters) > 0
	h.running--
	h.end(d)
	switch {
	case err != nil:
		if d.owner != nil {
			h.serve(d.owner, nil, nil, err)
		}
		for _, w := range h.waiters {
			w.apart = w.apart || runs
		}
	case !wanted && !d.given:
		go c.dropQuietly() // not under mu
	case c.http2:
		if client == nil {
			client = t.newHTTP2Client(c)
		}
		t.keepLocked(c, client)
		for len(h.waiters) > 0 {
			h.serve(h.waiters[0], client, nil, nil)
		}
	default:
		t.keepLocked(c, nil)
		switch {
		case d.given:
		case len(h.wants) > 0:
			h.wants[0] <- c
			h.wants = h.wants[1:]
		default:
			h.spares = append(h.spares, c)
			h.serve(h.waiters[0], nil, c, nil) // it closes the connection if nobody takes it
		}
	}
	t.settle(to, h) // serves the others
}

// giveEarly gives a connection to the request that it was begun for, which goes as early data. Others wait for
// the end of the handshake, as giveEarly does.
func (t *Transport) giveEarly(h *host, d *dialing, c *conn) (client *http2Client, err error) {
	t.mu.Lock()
	if d.owner != nil && len(h.wants) == 0 {
		d.given = true
		if c.http2 {
			client = t.newHTTP2Client(c)
			h.serve(d.owner, client, nil, nil)
		} else {
			h.spares = append(h.spares, c)
			h.serve(d.owner, nil, c, nil)
		}
	}
	t.mu.Unlock()
	if !d.given {
		c.endEarly()
		defer context.AfterFunc(d.ctx, c.dropQuietly)()
	}
	return client, c.awaitHandshake()
}

// takeSpare returns a connection of HTTP/1.1 for a dial of net/http's transport. If there is none, the dial
// counts as running, and want gets the next one.
func (t *Transport) takeSpare(to target) (spare *conn, want chan *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.host(to)
	if n := len(h.spares); n > 0 {
		spare, h.spares = h.spares[0], h.spares[1:]
		return spare, nil
	}
	want = make(chan *conn, 1)
	h.wants = append(h.wants, want)
	h.running++
	return nil, want
}

// endWant ends the wait of a dial for a spare connection. It returns one that came meanwhile, or nil.
func (t *Transport) endWant(to target, want chan *conn) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.hosts[to]; h != nil {
		h.wants = slices.DeleteFunc(h.wants, func(other chan *conn) bool { return other == want })
	}
	select {
	case spare := <-want:
		return spare
	default:
		return nil
	}
}

// endDial notes that a function which connects for net/http's transport has returned.
func (t *Transport) endDial(to target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.host(to)
	h.running--
	t.settle(to, h)
}

// dropSpare closes a connection of HTTP/1.1 that no dial has taken; it may be nil.
func (t *Transport) dropSpare(to target, spare *conn) {
	if spare == nil {
		return
	}
	if t.isLeft(to, spare) {
		spare.drop()
	}
}

// isLeft reports whether no dial has taken a spare connection, which none can take from then on.
func (t *Transport) isLeft(to target, spare *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[to]
	if h == nil {
		return false // it is closed
	}
	before := len(h.spares)
	h.spares = slices.DeleteFunc(h.spares, func(other *conn) bool { return other == spare })
	return len(h.spares) < before
}

// connectOrTake connects for net/http's transport, unless a spare connection comes first. net/http ends its
// wait when the request ends.
func (t *Transport) connectOrTake(parent context.Context, to target, want chan *conn, early bool) (*conn, error) {
	ctx, cancel := context.WithCancel(parent)
	late, stop := t.limitAfter(parent, maxLateness)
	defer stop()
	type result struct {
		c   *conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := t.connect(ctx, to, early)
		if err == nil && !c.http2 {
			t.keepProven(c, nil)
		}
		done <- result{c, err}
		if err == nil {
			_ = c.awaitHandshake()
		}
		t.endDial(to)
	}()
	giveUp := func() {
		cancel()
		go func() { (<-done).c.dropQuietly() }()
	}
	select {
	case r := <-done:
		cancel()
		spare := t.endWant(to, want)
		if r.err != nil && spare != nil {
			return spare, nil
		}
		spare.dropQuietly()
		return r.c, r.err
	case spare := <-want:
		giveUp()
		return spare, nil
	case <-late.Done():
		giveUp()
		if spare := t.endWant(to, want); spare != nil {
			return spare, nil
		}
		if parent.Err() != nil {
			return nil, context.Cause(parent)
		}
		return nil, errTimeLimit
	}
}

// serve gives a request its result. mu is held.
func (h *host) serve(w *waiter, client *http2Client, spare *conn, err error) {
	h.remove(w)
	w.client, w.spare, w.err = client, spare, err
	w.served = true
	close(w.done)
}

// maxLateness is how long a request waits after the time limit for the error of its dialing. A hook of a
// request, or the DialContext, may continue after the limit. No request waits for that.
const maxLateness = time.Second

// await waits for a result. The time limit counts from the request's own beginning.
func (t *Transport) await(ctx context.Context, w *waiter) error {
	late, stop := t.limitAfter(w.background, maxLateness)
	defer stop()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.Done():
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
