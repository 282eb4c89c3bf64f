// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"os"
	"time"
)

// SetDeadline sets the deadlines for reads and writes. This and the next two are ErrClosed after Close.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline sets the deadline for reads: one that waits for the transport then ends with a timeout.
// Reading goes on after a new deadline is set.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline sets the deadline for writes: one that waits for the transport then ends with a
// timeout. Writing goes on after a new deadline is set.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *Conn) writeDeadlinePassed() bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	return !c.writeDeadline.IsZero() && !time.Now().Before(c.writeDeadline)
}

// setDeadlines notes deadlines and gives them to the transport, where those for writes count for reads
// too while a Write reads.
func (c *Conn) setDeadlines(read, write *time.Time) error {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	defer c.notifier.Broadcast()
	if read != nil {
		c.readDeadline = *read
	}
	if write != nil {
		c.writeDeadline, c.closeWriteLimits = *write, false
	}
	if c.closeBegun.Load() {
		return nil
	}
	if c.hookWait != nil { // after the transport: what follows the hook must not get through
		defer func() { c.hookWait.setDeadline(c.firstDeadline()) }()
	}
	if c.readsUseWriteDeadline {
		read = write
	}
	if c.prefetcher.stopped {
		read = nil
	}
	switch {
	case read != nil && write != nil:
		return c.conn.SetDeadline(*write)
	case read != nil:
		return c.conn.SetReadDeadline(*read)
	case write != nil:
		return c.conn.SetWriteDeadline(*write)
	}
	return nil
}

// setReadsUseWriteDeadline has the transport's reads end at the deadline for writes, or for reads again.
func (c *Conn) setReadsUseWriteDeadline(lent bool) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.readsUseWriteDeadline = lent
	d := c.readDeadline
	if lent {
		d = c.writeDeadline
	}
	if c.closeBegun.Load() {
		return
	}
	_ = c.conn.SetReadDeadline(d) // what is wrong with it the read will say
}

// A hookWait is the wait for a hook of a Conn. It ends when a deadline of the Conn passes.
type hookWait struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil without a deadline
}

// setDeadline has the wait end at a time; the zero time is never.
func (w *hookWait) setDeadline(t time.Time) {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if !t.IsZero() {
		w.timer = time.AfterFunc(time.Until(t), func() { w.cancel(os.ErrDeadlineExceeded) })
	}
}

// startWait makes the context for a hook, or for another wait of a handshake. The context ends with parent, when a
// deadline of the Conn passes, and on Close. stop must follow.
func (c *Conn) startWait(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &hookWait{cancel: cancel}
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if c.hookEndErr != nil {
		cancel(c.hookEndErr)
	}
	c.hookWait = w
	w.setDeadline(c.firstDeadline())
	return ctx, func() {
		c.deadlineMu.Lock()
		defer c.deadlineMu.Unlock()
		w.setDeadline(time.Time{})
		if c.hookWait == w {
			c.hookWait = nil
		}
		cancel(nil)
	}
}

// firstDeadline is the earlier one of the two: a handshake reads and writes. deadlineMu is held.
func (c *Conn) firstDeadline() time.Time {
	r, w := c.readDeadline, c.writeDeadline
	if c.closeWriteLimits { // CloseWrite's own limit is not for the hooks of others
		w = time.Time{}
	}
	if r.IsZero() || !w.IsZero() && w.Before(r) {
		return w
	}
	return r
}

// endHooks ends the context of the hook that runs, and of those that come later.
func (c *Conn) endHooks(cause error) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if c.hookEndErr == nil {
		c.hookEndErr = cause
	}
	if c.hookWait != nil {
		c.hookWait.cancel(cause)
	}
}

// How often a lock is tried, which has no wait with a limit: at first, and at last.
const (
	firstMoment = 20 * time.Microsecond // for what mostly takes no longer
	firstLook   = 2 * time.Millisecond
	lastLook    = 50 * time.Millisecond
)

// poll tries, again and again, until try succeeds, which it reports, or until end says that it has tried for long enough.
// It sleeps between, at first for first, and no longer than last.
func poll(first, last time.Duration, try, end func() bool) bool {
	for wait := first; !try(); wait = min(2*wait, last) {
		if end() {
			return false
		}
		time.Sleep(wait)
	}
	return true
}
