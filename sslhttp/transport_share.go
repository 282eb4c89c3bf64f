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
}

// A waiter is a request that waits for a connection. mu of the Transport guards it, until done is
// closed.
type waiter struct {
	background context.Context // the request's, without its end: has the hooks for connecting
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
	if h.http1 == 0 && len(h.http2) == 0 && len(h.waiters) == 0 && t.hosts[to] == h {
		delete(t.hosts, to)
	}
}

// dialTogether waits for a connection of the host's, and has one made if need be.
func (t *Transport) dialTogether(ctx context.Context, to target) (client *http2Client, spare *conn, err error) {
	h, w := t.join(ctx, to)
	left := false
	defer func() {
		if !left { // a method of ctx, which is the caller's, panicked or ended the goroutine
			t.leave(to, h, w)
			w.client.leave()
			w.spare.drop()
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
func (t *Transport) join(ctx context.Context, to target) (*host, *waiter) {
	w := &waiter{background: context.WithoutCancel(ctx), done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.host(to)
	h.waiters = append(h.waiters, w)
	t.beginDialings(to, h)
	return h, w
}

// leave removes a request that waits no longer. Without one that waits, all dialings end.
func (t *Transport) leave(to target, h *host, w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.waiters = slices.DeleteFunc(h.waiters, func(other *waiter) bool { return other == w })
	if w.dialing != nil {
		w.dialing.owner = nil
	}
	t.settle(to, h)
}

// settle begins and ends dialings after a change of those that wait. mu is held.
func (t *Transport) settle(to target, h *host) {
	if len(h.waiters) > 0 {
		t.beginDialings(to, h)
		return
	}
	for len(h.dialings) > 0 {
		h.end(h.dialings[0])
	}
	t.tidy(to, h)
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
		d := &dialing{began: time.Now(), owner: w}
		d.ctx, d.cancel = context.WithCancel(w.background)
		d.next = time.AfterFunc(patience, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.settle(to, h)
		})
		w.dialing = d
		h.dialings = append(h.dialings, d)
		go t.finish(to, h, d)
	}
}

// mayDial reports whether a dialing may begin for a request. mu is held.
func (t *Transport) mayDial(h *host, w *waiter) bool {
	h.dropOrphans()
	n := len(h.dialings)
	switch limit := t.given.MaxConnsPerHost; {
	case limit > 0 && n >= limit:
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
		if d.owner == nil {
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
	c, err := t.connect(d.ctx, to)
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := slices.Contains(h.dialings, d) && len(h.waiters) > 0
	h.end(d)
	switch {
	case err != nil:
		if d.owner != nil {
			h.serve(d.owner, nil, nil, err)
		}
		for _, w := range h.waiters {
			w.apart = true
		}
	case !wanted:
		go closeQuietly(c) // not under mu
	case c.http2:
		client := t.newHTTP2Client(c)
		t.keepLocked(c, client)
		for len(h.waiters) > 0 {
			h.serve(h.waiters[0], client, nil, nil)
		}
	default:
		t.keepLocked(c, nil)
		h.serve(h.waiters[0], nil, c, nil)
		for len(h.waiters) > 0 {
			h.serve(h.waiters[0], nil, nil, nil)
		}
	}
	t.settle(to, h)
}

// serve gives a request its result. mu is held.
func (h *host) serve(w *waiter, client *http2Client, spare *conn, err error) {
	h.waiters = slices.DeleteFunc(h.waiters, func(other *waiter) bool { return other == w })
	if w.dialing != nil {
		w.dialing.owner = nil
	}
	w.client, w.spare, w.err = client, spare, err
	w.served = true
	close(w.done)
}

// maxLateness is how long await waits after the time limit for the dialing's own error.
const maxLateness = time.Second

// await waits for a result. The time limit counts from the request's own beginning. A hook of the
// request that began a dialing, or the DialContext, may continue after the limit. await does not wait
// for that.
func (t *Transport) await(ctx context.Context, w *waiter) error {
	limited, stop := t.limit(w.background)
	defer stop()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-limited.Done():
	}
	timer := time.NewTimer(maxLateness)
	defer timer.Stop()
	select {
	case <-w.done:
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
