// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"
)

// ErrTooManyHooks says that a hook was not asked, because as many threads wait in libssl for hooks as may. It is the
// error of a handshake that cannot go on without the hook. Others make a full handshake.
var ErrTooManyHooks = errors.New("sslctx: too many hooks run in the middle of handshakes")

// hookThreads bounds how many threads wait in libssl for a hook. libssl cannot be suspended there: each of them is held
// until its hook returns, or until the context of the hook ends.
var hookThreads = make(chan struct{}, 8+4*runtime.GOMAXPROCS(0))

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

// hookResult is how a hook ended. end is not nil if it panicked or ended its goroutine: then end does the same to the
// goroutine that calls it.
type hookResult[T any] struct {
	answer T
	err    error
	end    func()
}

// runOnGoroutine runs a hook on a goroutine of its own.
func runOnGoroutine[T any](ctx context.Context, hook func(context.Context) (T, error)) <-chan hookResult[T] {
	done := make(chan hookResult[T], 1)
	go func() {
		r := hookResult[T]{end: runtime.Goexit} // unless the hook returns or panics
		defer func() { done <- r }()
		r.end = catchPanic(func() { r.answer, r.err = hook(ctx) })
	}()
	return done
}

// awaitHook waits until a hook returns or ctx ends. A hook that returns later has no effect.
func awaitHook[T any](ctx context.Context, done <-chan hookResult[T]) hookResult[T] {
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r
	default:
		return hookResult[T]{err: context.Cause(ctx)}
	}
}

// runHook runs a hook on a goroutine of its own, and waits until it returns or ctx ends.
func runHook[T any](ctx context.Context, hook func(context.Context) (T, error)) hookResult[T] {
	return awaitHook(ctx, runOnGoroutine(ctx, hook))
}

// runUpcall runs a hook that libssl waits for in the middle of a crossing. It holds a thread. It holds neither the gates nor
// a handshake slot: the hook may use the context, and make handshakes of its own.
func runUpcall[T any](c *Conn, hook func(context.Context) (T, error)) (T, error) {
	select {
	case hookThreads <- struct{}{}:
	default:
		var none T
		return none, ErrTooManyHooks
	}
	defer func() { <-hookThreads }()
	hadSlot := c.slot.release()
	r := withoutConfigLocks(c, func(ctx context.Context) hookResult[T] { return runHook(ctx, hook) })
	c.slot.retake(hadSlot)
	if r.end != nil {
		c.hookEnd, r.err = r.end, errHookEnded
	}
	return r.answer, r.err
}

// withoutConfigLocks opens the gates while a crossing waits.
func withoutConfigLocks[T any](c *Conn, wait func(context.Context) hookResult[T]) hookResult[T] {
	ctx, stop := c.startWait(c.hookCtx)
	defer stop()
	c.p.ctxs.runlock()
	defer c.p.ctxs.rlock()
	c.inHook.Store(true)
	defer c.inHook.Store(false)
	c.upcalls.window.set(true)
	defer c.upcalls.window.set(false)
	return wait(ctx)
}

// slotPatience is how long a verification keeps its handshake slot. Most take a millisecond, which they spend on
// computing. One that takes longer waits for somebody, or was made to take long.
const slotPatience = 50 * time.Millisecond

// runPoolUpcall runs the verification of a chain by a pool where libssl cannot be suspended. One that takes long gives its
// slot to others, and is one of the threads that wait for hooks. ErrTooManyHooks ends it if there is no room for it:
// those that take long pay, and not those that are quick.
func runPoolUpcall(c *Conn, verify func(context.Context) ([]byte, error)) ([]byte, error) {
	if !c.slot.held { // a renegotiation, or an authentication after the handshake: no slot bounds these
		return runUpcall(c, func(ctx context.Context) ([]byte, error) {
			r := runHook(ctx, verify)
			if r.end != nil {
				r.err = errHookEnded
			}
			return r.answer, r.err
		})
	}
	hadSlot := false
	r := withoutConfigLocks(c, func(ctx context.Context) hookResult[[]byte] {
		done := runOnGoroutine(ctx, verify)
		patience := time.NewTimer(slotPatience)
		defer patience.Stop()
		select {
		case r := <-done:
			return r
		case <-ctx.Done():
			return awaitHook(ctx, done)
		case <-patience.C:
		}
		select {
		case hookThreads <- struct{}{}:
			defer func() { <-hookThreads }()
		default:
			return hookResult[[]byte]{err: ErrTooManyHooks}
		}
		hadSlot = c.slot.release()
		return awaitHook(ctx, done)
	})
	c.slot.retake(hadSlot)
	if r.end != nil {
		return nil, errHookEnded
	}
	return r.answer, r.err
}
