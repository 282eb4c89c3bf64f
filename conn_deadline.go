// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// SetDeadline sets the deadlines for reads and writes. After Close it returns ErrClosed.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline sets the deadline for reads. A read that waits for the transport then ends with a
// timeout. Reading continues after a new deadline is set. After Close it returns ErrClosed.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline sets the deadline for writes. A write that waits for the transport then ends
// with a timeout. Writing continues after a new deadline is set. After Close it returns ErrClosed.
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
	reads := c.keepDeadlines(read, write)
	defer c.notifier.Broadcast()
	if c.closeBegun.Load() {
		return nil
	}
	defer c.armHookWaits() // after the transport's, so that nothing passes it when a hook ends
	return c.applyDeadlines(reads, write != nil)
}

// keepDeadlines keeps deadlines, and reports whether they change that of the transport's reads.
func (c *Conn) keepDeadlines(read, write *time.Time) (reads bool) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if read != nil {
		c.readDeadline = *read
	}
	if write != nil {
		c.writeDeadline, c.closeWriteLimits = *write, false
	}
	return read != nil || c.readsUseWriteDeadline
}

// applyDeadlines gives the transport the present deadlines. deadlineMu is not held, because a
// transport may call the Conn. One call at a time sets each of the two deadlines of the transport,
// so that the last value stays. Abort ends the wait for such a call. Close uses tryApplyDeadlines.
func (c *Conn) applyDeadlines(read, write bool) error {
	return c.applyWithin(read, write, func(m *waitMutex) error { return c.lockWithin(m, waitLimit{untilClosed: true}) })
}

// tryApplyDeadlines is applyDeadlines for Close: it waits for a moment only. Another call may hang
// in the transport, or Close may run inside such a call. Then the deadline stays as it is, and the
// timer of Close closes the transport.
func (c *Conn) tryApplyDeadlines(read, write bool) error {
	return c.applyWithin(read, write, func(m *waitMutex) error { return m.lockOrTimeout(c.momentOfClose()) })
}

// momentOfClose returns the end of a wait in which Close waits for a moment only. It is not later
// than the end of Close itself.
func (c *Conn) momentOfClose() time.Time {
	moment := time.Now().Add(closeMoment)
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if !c.closeEnd.IsZero() && c.closeEnd.Before(moment) {
		return c.closeEnd
	}
	return moment
}

func (c *Conn) applyWithin(read, write bool, lock func(*waitMutex) error) error {
	if read {
		if err := lock(&c.applyRead); err != nil {
			return err
		}
		defer c.applyRead.Unlock()
	}
	if write {
		if err := lock(&c.applyWrite); err != nil {
			return err
		}
		defer c.applyWrite.Unlock()
	}
	return c.setTransport(read, write)
}

func (c *Conn) setTransport(read, write bool) error {
	c.deadlineMu.Lock()
	readAt, writeAt := c.transportRead(), c.transportWrite()
	c.deadlineMu.Unlock()
	switch {
	case read && write && readAt.Equal(writeAt):
		return c.conn.SetDeadline(writeAt)
	case read && write:
		return errors.Join(c.conn.SetReadDeadline(readAt), c.conn.SetWriteDeadline(writeAt))
	case read:
		return c.conn.SetReadDeadline(readAt)
	case write:
		return c.conn.SetWriteDeadline(writeAt)
	}
	return nil
}

// transportRead returns the deadline for the transport's reads. deadlineMu is held.
func (c *Conn) transportRead() time.Time {
	switch {
	case c.closeBegun.Load():
		return c.closeRead
	case c.prefetcher.stopped:
		return time.Unix(1, 0)
	case c.readsUseWriteDeadline:
		return c.writeDeadline
	}
	return c.readDeadline
}

// transportWrite returns the deadline for the transport's writes. deadlineMu is held.
func (c *Conn) transportWrite() time.Time {
	if !c.closeWrite.IsZero() {
		return c.closeWrite
	}
	return c.writeDeadline
}

// setReadsUseWriteDeadline sets which deadline ends the transport's reads: that for writes, or that
// for reads.
func (c *Conn) setReadsUseWriteDeadline(on bool) {
	c.deadlineMu.Lock()
	c.readsUseWriteDeadline = on
	c.deadlineMu.Unlock()
	if !c.closeBegun.Load() {
		_ = c.applyDeadlines(true, false) // the read reports its error
	}
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
// parent, when a deadline of the Conn passes, and on Close. The caller must call stop. There may be
// several waits, also inside of each other.
func (c *Conn) startWait(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &hookWait{cancel: cancel}
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if c.hookEndErr != nil {
		cancel(c.hookEndErr)
	}
	c.hookWaits = append(c.hookWaits, w)
	w.setDeadline(c.firstDeadline())
	return ctx, func() {
		c.deadlineMu.Lock()
		defer c.deadlineMu.Unlock()
		w.setDeadline(time.Time{})
		cancel(nil)
		c.hookWaits = slices.DeleteFunc(c.hookWaits, func(other *hookWait) bool { return other == w })
	}
}

// armHookWaits sets when the waits for hooks end.
func (c *Conn) armHookWaits() {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	for _, w := range c.hookWaits {
		w.setDeadline(c.firstDeadline())
	}
}

// firstDeadline returns the earlier of the two deadlines. A handshake reads and writes, so either
// deadline ends it. deadlineMu is held.
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
	for _, w := range c.hookWaits {
		w.cancel(cause)
	}
}

// Code that must look again waits for these times. poll does so, because a sync.Mutex has no wait
// with a limit.
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

// A waitMutex is a mutex that a call can wait for with a limit. The holder passes it on to the
// first call that waits. Without other calls it costs what a sync.Mutex costs. With a channel
// alone, sending a byte to the peer and back took 5 to 8 % longer.
type waitMutex struct {
	users  atomic.Int32  // the holder and the calls that wait
	passed chan struct{} // has a value for the next holder
}

func (m *waitMutex) init() { m.passed = make(chan struct{}, 1) }

func (m *waitMutex) TryLock() bool { return m.users.CompareAndSwap(0, 1) }

func (m *waitMutex) Lock() {
	if !m.TryLock() && !m.join() {
		<-m.passed
	}
}

// lockUntil is Lock until a time, and reports whether it has the lock.
func (m *waitMutex) lockUntil(until time.Time) bool {
	return m.TryLock() || m.join() || waitAny(until, nil, m.passed, nil, nil) || m.giveUp()
}

func (m *waitMutex) Unlock() {
	if m.users.Add(-1) > 0 {
		m.passed <- struct{}{}
	}
}

// join counts a call among the users, and reports whether it has the lock at once. Otherwise it
// gets the lock with a value of passed, or calls giveUp.
func (m *waitMutex) join() bool { return m.users.Add(1) == 1 }

// lockOrTimeout is lockUntil, with an error.
func (m *waitMutex) lockOrTimeout(until time.Time) error {
	if !m.lockUntil(until) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// lockUnless is Lock until end returns true, and reports whether it has the lock. It calls end
// before it waits, and then again after each firstLook to lastLook.
func (m *waitMutex) lockUnless(end func() bool) bool {
	if m.TryLock() || m.join() {
		return true
	}
	for wait := firstLook; !end(); wait = min(2*wait, lastLook) {
		if waitAny(time.Now().Add(wait), nil, m.passed, nil, nil) {
			return true
		}
	}
	return m.giveUp()
}

// giveUp ends the wait of a call. It reports whether the call has the lock after all.
func (m *waitMutex) giveUp() (locked bool) {
	for {
		n := m.users.Load()
		if n == 1 { // the holder has just passed it on, and nobody else waits
			<-m.passed
			return true
		}
		if m.users.CompareAndSwap(n, n-1) {
			return false
		}
	}
}

// A waitLimit says how long a call waits for the locks of its Conn.
type waitLimit struct {
	ctx         context.Context // ends the wait, too; nil: none
	handshake   bool            // the wait is a handshake's: both deadlines end it
	untilClosed bool            // no deadline of the Conn ends the wait; until and Close do
	until       time.Time       // for untilClosed; the zero time is never
	closing     bool            // the wait is Close's own, and ends with it
	what        op              // otherwise the deadline of this operation ends the wait
}

// A lockWait is the wait of a call for the locks of its Conn.
type lockWait struct {
	c     *Conn
	limit waitLimit
	stop  func()
}

func (c *Conn) startLockWait(limit waitLimit) *lockWait {
	w := &lockWait{c: c, limit: limit, stop: func() {}}
	if limit.handshake {
		w.limit.ctx, w.stop = c.startWait(limit.ctx)
	}
	return w
}

// wait waits until it gets a lock. It gets the lock by a value of the channel lock, or when try
// succeeds. It calls try again when the channel of worth is closed. An error says why the wait
// ended without the lock.
func (w *lockWait) wait(lock <-chan struct{}, worth func() <-chan struct{}, try func() bool) error {
	for {
		progress := w.c.notifier.Wait()
		var wake <-chan struct{}
		if worth != nil {
			wake = worth()
			if try() {
				return nil
			}
		}
		until, err := w.c.waitEnd(&w.limit)
		if err != nil {
			return err
		}
		if waitAny(until, w.limit.ctx, lock, wake, progress) {
			return nil
		}
	}
}

// lockWithin takes a lock, unless the limit ends the wait before.
func (c *Conn) lockWithin(m *waitMutex, limit waitLimit) error {
	if m.TryLock() || m.join() {
		return nil
	}
	w := c.startLockWait(limit)
	defer w.stop()
	err := w.wait(m.passed, nil, nil)
	if err != nil && m.giveUp() {
		return nil
	}
	return err
}

// lock takes mu, the configuration locks, and slots for a handshake. While it waits for a
// configuration lock it holds none of the others: a call that configures a context may take long,
// and must stop neither other connections nor other calls of this one.
func (c *Conn) lock(r connRef, limit waitLimit, needs slotNeeds) error {
	for {
		s, err := c.takeSlot(needs, limit.ctx)
		if err != nil {
			return err
		}
		if err := c.lockWithin(&c.mu, limit); err != nil {
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
		if err := c.awaitConfig(busy, limit); err != nil {
			return err
		}
		if done, err := c.lockRest(r, busy, limit, needs); done || err != nil {
			return err
		}
	}
}

// lockRest is lock for a call that holds one of the configuration locks. If it does not succeed, it
// releases that lock. It waits for a slot, because no call that holds a slot waits for a
// configuration lock. It does not wait for mu, because the holder of mu may wait for such a lock.
func (c *Conn) lockRest(r connRef, held *configLock, limit waitLimit, needs slotNeeds) (done bool, err error) {
	defer func() {
		if !done {
			held.RUnlock()
		}
	}()
	s, err := c.takeSlot(needs, limit.ctx)
	if err != nil {
		return false, err
	}
	if c.mu.TryLock() {
		if r.ctxs.tryRLock(held) == nil {
			c.slot = s
			return true, nil
		}
		c.mu.Unlock()
	}
	s.release()
	return false, nil
}

// unlock releases what lock took.
func (c *Conn) unlock(r connRef) {
	r.ctxs.runlock()
	c.slot.release()
	c.mu.Unlock()
}

// awaitConfig waits for a configuration lock, and then holds it for reading. The caller holds no
// other lock that a call which configures could wait for.
func (c *Conn) awaitConfig(l *configLock, limit waitLimit) error {
	w := c.startLockWait(limit)
	defer w.stop()
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	return w.wait(nil, l.unlocks.Wait, l.TryRLock)
}

// awaitConfigs waits for the configuration locks of a connection whose call stands still.
func (c *Conn) awaitConfigs(limit waitLimit) (err error) {
	c.p.ctxs.rlockBy(func(busy *configLock) bool {
		err = c.awaitConfig(busy, limit)
		return err == nil
	})
	return err
}

// waitEnd returns the time at which a wait ends, the zero time for never, or the error that ends it
// now.
func (c *Conn) waitEnd(limit *waitLimit) (until time.Time, err error) {
	if limit.ctx != nil {
		if err := context.Cause(limit.ctx); err != nil {
			return time.Time{}, err
		}
	}
	if limit.handshake {
		return time.Time{}, nil
	}
	closed := !c.isOpen()
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	switch {
	case limit.untilClosed && closed:
		return time.Time{}, ErrClosed
	case limit.untilClosed && c.hookEndErr != nil:
		return time.Time{}, c.hookEndErr
	case limit.untilClosed:
		until = limit.until
	case limit.closing:
		until = c.closeEnd
	case closed || c.closeBegun.Load():
		return time.Time{}, ErrClosed
	case limit.what == opRead:
		until = c.readDeadline
	case limit.what == opWrite && c.closeWriteLimits: // the limit is CloseWrite's own
	default:
		until = c.writeDeadline
	}
	if !until.IsZero() && !time.Now().Before(until) {
		return until, os.ErrDeadlineExceeded
	}
	return until, nil
}

// waitAny waits for the first of these: a time (the zero time is never), the end of ctx, a lock,
// and one of two channels. It reports whether it has the lock.
func waitAny(until time.Time, ctx context.Context, lock, wake, progress <-chan struct{}) bool {
	var passed <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		passed = timer.C
	}
	var done <-chan struct{}
	if ctx != nil {
		done = ctx.Done()
	}
	select {
	case <-lock:
		return true
	case <-done:
	case <-wake:
	case <-progress:
	case <-passed:
	}
	return false
}
