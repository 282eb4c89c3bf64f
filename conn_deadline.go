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
// deadline of the Conn passes, and on Close. stop must follow. A wait may be inside of another one.
func (c *Conn) startWait(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &hookWait{cancel: cancel}
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if c.hookEndErr != nil {
		cancel(c.hookEndErr)
	}
	outer := c.hookWait
	c.hookWait = w
	w.setDeadline(c.firstDeadline())
	return ctx, func() {
		c.deadlineMu.Lock()
		defer c.deadlineMu.Unlock()
		w.setDeadline(time.Time{})
		cancel(nil)
		if c.hookWait != w {
			return
		}
		c.hookWait = outer
		if outer != nil {
			outer.setDeadline(c.firstDeadline())
			if c.hookEndErr != nil {
				outer.cancel(c.hookEndErr)
			}
		}
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

// A waitLimit says how long a call waits for the locks of its Conn.
type waitLimit struct {
	ctx         context.Context // of a handshake, which its deadlines and Close end, too; nil after the handshake
	untilClosed bool            // only Close ends the wait
	closing     bool            // the wait is Close's own: it has the limits of what is written
	what        op              // whose deadline counts otherwise
	began       time.Time
}

// lock takes mu, the configuration locks, and slots for a handshake. It waits for each of these with none of the others in
// hand. A call that configures a context may take long, and must not stop other connections, nor other calls of this one.
func (c *Conn) lock(r connRef, limit waitLimit, needs slotNeeds) error {
	for {
		s, err := c.takeSlot(needs, limit.ctx)
		if err != nil {
			return err
		}
		if err := c.lockMu(limit); err != nil {
			s.release()
			return err
		}
		busy := r.ctxs.tryRLock(nil)
		if busy == nil {
			c.slot = s
			return nil
		}
		c.mu.Unlock()
		s.release()
		if err := c.awaitConfig(busy, &limit); err != nil {
			return err
		}
		if c.tryLock(r, busy, needs) {
			return nil
		}
		busy.RUnlock()
	}
}

// tryLock is lock if that need not wait. The caller holds one of the configuration locks; they are the call's if it succeeds.
func (c *Conn) tryLock(r connRef, held *configLock, needs slotNeeds) bool {
	var s handshakeSlot
	if !s.tryTake(needs) {
		return false
	}
	if c.mu.TryLock() {
		if r.ctxs.tryRLock(held) == nil {
			c.slot = s
			return true
		}
		c.mu.Unlock()
	}
	s.release()
	return false
}

// unlock gives back what lock took.
func (c *Conn) unlock(r connRef) {
	r.ctxs.runlock()
	c.slot.release()
	c.mu.Unlock()
}

// lockMu is mu.Lock. While the call that has it waits for a hook, it waits no longer than the limit.
func (c *Conn) lockMu(limit waitLimit) error {
	if c.mu.TryLock() {
		return nil
	}
	for {
		rung := c.notifier.Wait()
		if c.mu.TryLock() {
			return nil
		}
		var look time.Time
		if !c.inHook.Load() {
			if limit.what != opShutdown || !c.hasCloseWriteLimit() {
				c.mu.Lock()
				return nil
			}
			look = time.Now().Add(firstLook)
		}
		until, err := c.waitEnd(&limit)
		if err != nil {
			return err
		}
		if until.IsZero() || !look.IsZero() && look.Before(until) {
			until = look
		}
		waitAny(until, nil, nil, rung)
	}
}

// hasCloseWriteLimit reports whether a CloseWrite is under way that the caller gave no deadline.
func (c *Conn) hasCloseWriteLimit() bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	return c.closeWriteLimits
}

// awaitConfig takes a configuration lock for reading when who configures is done. No other lock is held.
func (c *Conn) awaitConfig(l *configLock, limit *waitLimit) error {
	own := *limit
	var done <-chan struct{}
	if limit.ctx != nil {
		ctx, stop := c.startWait(limit.ctx)
		defer stop()
		own.ctx, done = ctx, ctx.Done()
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	for {
		unlocked, rung := l.unlocks.Wait(), c.notifier.Wait()
		if l.TryRLock() {
			return nil
		}
		until, err := c.waitEnd(&own)
		if err != nil {
			return err
		}
		waitAny(until, done, unlocked, rung)
	}
}

// waitEnd returns when a wait ends, the zero time for never, or the error that ends it now.
func (c *Conn) waitEnd(limit *waitLimit) (until time.Time, err error) {
	closed := c.state.Load() < stateOpen
	switch {
	case limit.ctx != nil:
		return time.Time{}, context.Cause(limit.ctx)
	case limit.untilClosed && closed:
		return time.Time{}, ErrClosed
	case limit.untilClosed:
		return time.Time{}, nil
	}
	if limit.began.IsZero() {
		limit.began = time.Now()
	}
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	until = c.writeDeadline
	if limit.what == opRead && !limit.closing {
		until = c.readDeadline
	}
	if limit.closing {
		if last := limit.began.Add(closeNotifyTimeout); until.IsZero() || until.After(last) {
			until = last
		}
	} else if closed || c.closeBegun.Load() {
		return until, ErrClosed
	}
	if !until.IsZero() && !time.Now().Before(until) {
		return until, os.ErrDeadlineExceeded
	}
	return until, nil
}

// waitAny waits until a time, unless that is the zero time, or for one of some channels.
func waitAny(until time.Time, done, unlocked, rung <-chan struct{}) {
	var passed <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		passed = timer.C
	}
	select {
	case <-done:
	case <-unlocked:
	case <-rung:
	case <-passed:
	}
}
