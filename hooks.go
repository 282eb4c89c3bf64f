// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A hookTable holds the hooks of a context. It never changes: a setter replaces the table.
type hookTable struct {
	newSession     func(*Conn, *Session)
	removeSession  func(*Session)
	keyLog         *keyLog
	clientHello    func(context.Context, clientHello) (helloAnswer, error)
	lookup         *SessionLookup
	getSession     func(context.Context, []byte) *Session
	generateID     generateIDHook
	notResumable   notResumableHook
	generateTicket func(context.Context, SessionTicket) ([]byte, error)
	decryptTicket  func(context.Context, SessionTicket) TicketReturn

	// check is that of a tls.Config, nil for none. It is set before anybody else has the context.
	check *peerCheck

	// libssl copies these from the context into each new connection. So a Conn keeps the table of
	// that moment.
	allowEarlyData func(context.Context, *Conn) bool
	findPSK        func(context.Context, *Conn, []byte) *Session
	usePSK         func(context.Context, *Conn, crypto.Hash) ([]byte, *Session)
	serverPSK      func(context.Context, *Conn, string) []byte
	clientPSK      func(context.Context, *Conn, string) (string, []byte)
}

// hooks are the hooks of an SSL_CTX. Its Contexts and Conns share them. They are collected when all
// of these are gone.
type hooks struct{ table atomic.Pointer[hookTable] }

func newHooks() *hooks {
	k := new(hooks)
	k.table.Store(new(hookTable))
	return k
}

// change replaces the table by a changed copy. The caller holds configMu for writing.
func (k *hooks) change(set func(*hookTable)) {
	t := *k.table.Load()
	set(&t)
	k.table.Store(&t)
}

// askHello reports which hooks need the handshake suspended at the ClientHello.
func (t *hookTable) askHello() (ask C.int) {
	if t.clientHello != nil {
		ask |= C.SHIM_ASK_CONTEXT
	}
	if t.lookup != nil {
		ask |= C.SHIM_ASK_SESSION
	}
	return ask
}

// hasCopied reports whether there is a hook that libssl copies into connections.
func (t *hookTable) hasCopied() bool {
	return t.allowEarlyData != nil || t.findPSK != nil || t.usePSK != nil || t.serverPSK != nil || t.clientPSK != nil
}

// keyLog is a writer that several connections share.
type keyLog struct {
	mu sync.Mutex
	w  io.Writer
}

// write writes a line and its end.
func (k *keyLog) write(line []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.w.Write(line); err != nil {
		return fmt.Errorf("sslctx: key log: %w", err)
	}
	return nil
}

// A hookTarget is the context whose hooks receive an event.
type hookTarget struct {
	hooks *hooks
	ctx   *ctxState
	p     *C.SSL_CTX // only for comparison
	owner *any       // keeps the owner alive, or nil
}

// pending is work of a call into libssl that waits until no lock is held.
type pending struct {
	events  *C.shim_event
	hookEnd func() // repeats on this goroutine how a hook ended: by a panic or Goexit
	lostErr error  // there was no memory for some events
}

func (n pending) any() bool { return n.events != nil || n.hookEnd != nil || n.lostErr != nil }

// countEvents returns the length of a list.
func countEvents(e *C.shim_event) (n int) {
	for ; e != nil; e = e.next {
		n++
	}
	return n
}

// lostError is the error of a call that had no memory for all events of libssl's.
func lostError(lost C.int) error {
	if lost == 0 {
		return nil
	}
	return ErrEventLost
}

// add appends later work.
func (n *pending) add(later pending) {
	if n.hookEnd == nil {
		n.hookEnd = later.hookEnd
	}
	if n.lostErr == nil {
		n.lostErr = later.lostErr
	}
	n.events = joinEvents(n.events, later.events)
}

// count returns the number of events.
func (n pending) count() int {
	count := countEvents(n.events)
	if n.hookEnd != nil {
		count++
	}
	if n.lostErr != nil {
		count++
	}
	return count
}

// catchPanic runs a hook. If the hook panics, end repeats the panic.
func catchPanic(hook func()) (end func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			end = func() { panic(v) }
		}
	}()
	hook()
	returned = true
	return nil
}

// A dispatcher runs the hooks for the events of one call, in libssl's order, on the goroutine of
// that call. No lock is held: a hook may call anything.
type dispatcher struct {
	events        *C.shim_event
	conn          *Conn // the Conn of the call, or nil
	sessionTarget hookTarget
	currentTarget *hookTarget // the context that the connection changed to, or nil
	err           error       // the first error of the key log
	kept          []*Session  // for the ClientSessionCache of the Conn

	otherStates map[*C.SSL_SESSION]*ctxState // sessions that belong to another context than the one that reports them
}

func (d *dispatcher) run() error {
	defer func() { d.conn.keepSessions(d.kept) }() // all at once: a store may be slow
	defer d.runRest()
	for d.events != nil {
		d.runNext()
	}
	return d.err
}

// runRest runs the remaining hooks when one panicked or ended its goroutine. Panics of these are
// dropped: the first one counts.
func (d *dispatcher) runRest() {
	defer func() {
		if d.events != nil { // another hook has ended the goroutine
			d.runRest()
		}
	}()
	for d.events != nil {
		_ = catchPanic(d.runNext)
	}
}

// runNext takes the next event off the list and then runs its hook, which may panic.
func (d *dispatcher) runNext() {
	e := d.events
	to := d.sessionTarget
	if d.currentTarget != nil && e.ctx == d.currentTarget.p {
		to = *d.currentTarget
	}
	hooks := to.hooks.table.Load()
	onNew, onRemove := hooks.newSession, hooks.removeSession
	switch {
	case e.kind == C.SHIM_EVENT_NEW_SESSION && onNew != nil:
		s := takeSession(e, to.ctx)
		d.events = freeEvent(e)
		if d.conn == nil {
			s = s.copyOfOther()
		} else {
			d.conn.markVerified(s)
		}
		if s != nil {
			onNew(d.conn, s)
		}
	case e.kind == C.SHIM_EVENT_KEEP_SESSION && d.conn != nil:
		s := takeSession(e, to.ctx)
		d.events = freeEvent(e)
		d.kept = append(d.kept, s)
	case e.kind == C.SHIM_EVENT_REMOVE_SESSION && onRemove != nil && e.session != nil:
		h := to.ctx
		if other := d.otherStates[e.session]; other != nil {
			h = other
		}
		s := takeSession(e, h)
		d.events = freeEvent(e)
		onRemove(s)
	case e.kind == C.SHIM_EVENT_KEYLOG:
		line := make([]byte, int(e.line_len)+1) // it holds secrets
		defer clear(line)
		copy(line, unsafe.Slice((*byte)(unsafe.Pointer(e.line)), int(e.line_len)))
		line[len(line)-1] = '\n'
		d.events = freeEvent(e)
		d.keyLog(hooks.keyLog, line)
	default: // the hook was removed
		d.events = freeEvent(e)
	}
}

func (d *dispatcher) keyLog(log *keyLog, line []byte) {
	if log == nil {
		return
	}
	if err := log.write(line); d.err == nil {
		d.err = err
	}
}

// takeSession makes a handle of the event's reference.
func takeSession(e *C.shim_event, h *ctxState) *Session {
	s := adoptSession(e.session, h)
	e.session = nil
	return s
}

// copyOfOther replaces a session that a connection of other code made by a copy; nil without
// memory. Such a connection may have changed to another SSL_CTX, and libssl does not tell whose
// cache it uses.
func (s *Session) copyOfOther() *Session {
	defer func() { _ = s.Close() }()
	copied, _ := s.Dup()
	return copied
}

// freeEvent frees an event and the session that is still in it, and returns the next event.
func freeEvent(e *C.shim_event) *C.shim_event { return C.shim_event_free(e) }

// dropEvents frees events without running hooks.
func dropEvents(e *C.shim_event) {
	for e != nil {
		e = freeEvent(e)
	}
}

// joinEvents puts second behind first.
func joinEvents(first, second *C.shim_event) *C.shim_event {
	if first == nil {
		return second
	}
	last := first
	for last.next != nil {
		last = last.next
	}
	last.next = second
	return first
}

// ErrTooManyHooks says that a hook did not run, because too many threads already wait in libssl for
// hooks. A handshake that needs the hook fails with it. Other handshakes become full ones.
var ErrTooManyHooks = errors.New("sslctx: too many hooks run in the middle of handshakes")

// hookThreads bounds how many threads wait in libssl for a hook. libssl cannot be suspended there,
// so each wait holds a thread until the hook returns or its context ends.
var hookThreads = make(chan struct{}, 8+4*runtime.GOMAXPROCS(0))

// hookResult is the result of a hook. end is not nil if the hook panicked or ended its goroutine.
// end then does the same on the goroutine that calls it.
type hookResult[T any] struct {
	answer T
	err    error
	end    func()
}

// runOnGoroutine runs a hook on a goroutine of its own.
func runOnGoroutine[T any](ctx context.Context, hook func(context.Context) (T, error)) <-chan hookResult[T] {
	done := make(chan hookResult[T], 1)
	go func() {
		r := hookResult[T]{end: runtime.Goexit} // replaced if the hook returns or panics
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

// runUpcall runs a hook for which libssl waits in the middle of a call. The wait holds a thread,
// but neither the configuration locks nor a handshake slot: the hook may use the context and make
// handshakes of its own.
func runUpcall[T any](c *Conn, hook func(context.Context) (T, error)) (T, error) {
	var none T
	if c.hookEnd != nil { // an earlier hook of this call panicked or ended its goroutine
		return none, errHookEnded
	}
	hadSlot := c.slot.release()
	r := withoutConfigLocks(c, func(ctx context.Context) hookResult[T] {
		if !tryAcquire(hookThreads) {
			return hookResult[T]{err: ErrTooManyHooks}
		}
		defer func() { <-hookThreads }()
		return runHook(ctx, hook)
	})
	c.slot.retake(hadSlot)
	if r.end != nil {
		c.hookEnd, r.err = r.end, errHookEnded
	}
	return r.answer, r.err
}

// withoutConfigLocks releases the configuration locks while wait runs.
func withoutConfigLocks[T any](c *Conn, wait func(context.Context) hookResult[T]) hookResult[T] {
	ctx, stop := c.startWait(c.hookCtx)
	defer stop()
	if err := context.Cause(ctx); err != nil {
		return hookResult[T]{err: err}
	}
	c.p.ctxs.runlock()
	c.inHook.Store(true)
	defer func() {
		c.relock()
		c.inHook.Store(false)
		c.notifier.Broadcast()
		c.noteTrust()
	}()
	c.upcalls.window.set(true)
	defer c.upcalls.window.set(false)
	return wait(ctx)
}

// relock takes the configuration locks again. Its wait has no limit, since libssl continues from
// here and uses the contexts. If it must wait, it gives the handshake slot to others meanwhile.
func (c *Conn) relock() {
	if c.p.ctxs.tryRLock(nil) == nil {
		return
	}
	hadSlot := c.slot.release()
	c.p.ctxs.rlock()
	c.slot.retake(hadSlot)
}

// slotPatience is how long a verification keeps its handshake slot. Most compute for a millisecond.
// One that takes longer waits for something, or a peer made it slow.
const slotPatience = 50 * time.Millisecond

// runPoolUpcall verifies a chain by a pool where libssl cannot be suspended. A slow verification
// gives its slot to others and counts among the threads that wait for hooks. If there are too many
// of these it ends with ErrTooManyHooks: slow verifications fail, quick ones do not.
func runPoolUpcall(c *Conn, verify func(context.Context) ([]byte, error)) ([]byte, error) {
	if !c.slot.held { // a renegotiation or an authentication after the handshake, which have no slot
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
		if !tryAcquire(hookThreads) {
			return hookResult[[]byte]{err: ErrTooManyHooks}
		}
		defer func() { <-hookThreads }()
		hadSlot = c.slot.release()
		return awaitHook(ctx, done)
	})
	c.slot.retake(hadSlot)
	if r.end != nil {
		return nil, errHookEnded
	}
	return r.answer, r.err
}
