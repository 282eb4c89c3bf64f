// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"os"
	"time"
)

// SetDeadline sets the deadlines for reads and writes. After Close it returns ErrClosed.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline sets the deadline for reads. A read that waits for the transport then ends with a
// timeout. Reading goes on after a new deadline is set. After Close it returns ErrClosed.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline sets the deadline for writes. A write that waits for the transport then ends
// with a timeout. Writing goes on after a new deadline is set. After Close it returns ErrClosed.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *Conn) writeDeadlinePassed() bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	return !c.writeDeadline.IsZero() && !time.Now().Before(c.writeDeadline)
}

// setDeadlines keeps deadlines and sets those of the transport. While a Write reads the transport,
// the deadline for writes is also that of its reads.
func (c *Conn) setDeadlines(read, write *time.Time) error {
	if !c.isOpen() {
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
	if c.hookWait != nil { // after the transport's, so that nothing passes it when the hook ends
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

// setReadsUseWriteDeadline sets which deadline ends the transport's reads: that for writes, or that
// for reads.
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
	_ = c.conn.SetReadDeadline(d) // the read reports its error
}

// A hookWait is a wait for a hook of a Conn. It ends when a deadline of the Conn passes.
type hookWait struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil without a deadline
}

// setDeadline sets when the wait ends; the zero time is never.
func (w *hookWait) setDeadline(t time.Time) {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if !t.IsZero() {
		w.timer = time.AfterFunc(time.Until(t), func() { w.cancel(os.ErrDeadlineExceeded) })
	}
}

// startWait makes the context for a hook, or for another wait of a handshake. The context ends with
// parent, when a deadline of the Conn passes, and on Close. The caller must call stop. A wait may
// be inside of another one.
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

// firstDeadline returns the earlier of the two deadlines, for a handshake reads and writes.
// deadlineMu is held.
func (c *Conn) firstDeadline() time.Time {
	r, w := c.readDeadline, c.writeDeadline
	if c.closeWriteLimits { // CloseWrite's own limit does not end hooks of other calls
		w = time.Time{}
	}
	if r.IsZero() || !w.IsZero() && w.Before(r) {
		return w
	}
	return r
}

// endHooks ends the context of the hook that runs and of all later hooks.
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

// poll tries a sync.Mutex again after these times, for it has no wait with a limit.
const (
	firstMoment = 20 * time.Microsecond // most waits end sooner
	firstLook   = 2 * time.Millisecond
	lastLook    = 50 * time.Millisecond
)

// poll calls try until it succeeds, and reports that, or until end returns true. Between the calls
// it sleeps, at first for first, then longer, at most for last.
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
	ctx         context.Context // of a handshake, nil otherwise; deadlines and Close end the wait, too
	untilClosed bool            // only Close ends the wait
	closing     bool            // the wait is Close's own, with the limits for writes
	what        op              // whose deadline counts otherwise
	began       time.Time
}

// lock takes mu, the configuration locks, and slots for a handshake. While it waits for one of
// these it holds none of the others. A call that configures a context may take long, and must stop
// neither other connections nor other calls of this one.
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

// tryLock is lock without waiting. The caller holds one of the configuration locks, which becomes
// one of lock's if tryLock succeeds.
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

// unlock releases what lock took.
func (c *Conn) unlock(r connRef) {
	r.ctxs.runlock()
	c.slot.release()
	c.mu.Unlock()
}

// lockMu is mu.Lock. While the holder of mu waits for a hook, lockMu waits no longer than the
// limit.
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

// hasCloseWriteLimit reports whether a CloseWrite runs without a deadline of the caller's.
func (c *Conn) hasCloseWriteLimit() bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	return c.closeWriteLimits
}

// awaitConfig waits for a configuration lock, and then holds it for reading. The caller holds no
// other lock.
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

// waitEnd returns the time at which a wait ends, the zero time for never, or the error that ends it
// now.
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

// waitAny waits until a time, or for one of the channels. The zero time is never.
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
