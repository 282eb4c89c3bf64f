// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A hookTable has the hooks of a context. It never changes: a setter replaces the table.
type hookTable struct {
	newSession     func(*Conn, *Session)
	removeSession  func(*Session)
	keyLog         *keyLog
	clientHello    func(context.Context, *tls.ClientHelloInfo) (*Context, error)
	lookup         *SessionLookup
	getSession     func(context.Context, []byte) *Session
	generateID     generateIDHook
	notResumable   notResumableHook
	generateTicket func(context.Context, SessionTicket) ([]byte, error)
	decryptTicket  func(context.Context, SessionTicket) TicketReturn

	// libssl copies these from the context into each connection that it makes. So a Conn keeps the table of that moment.
	allowEarlyData func(context.Context, *Conn) bool
	findPSK        func(context.Context, *Conn, []byte) *Session
	usePSK         func(context.Context, *Conn, crypto.Hash) ([]byte, *Session)
	serverPSK      func(context.Context, *Conn, string) []byte
	clientPSK      func(context.Context, *Conn, string) (string, []byte)
}

// hooks are the hooks of a context. Its Contexts and its Conns share them, and may outlive each other. When a Context was
// collected and its Conns are gone, nobody has the hooks any more.
type hooks struct{ table atomic.Pointer[hookTable] }

func newHooks() *hooks {
	k := new(hooks)
	k.table.Store(new(hookTable))
	return k
}

// change replaces the table by a changed copy. The caller holds configMu exclusively.
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

// A hookTarget is whose hooks hear of an event, and where its session is at home.
type hookTarget struct {
	hooks *hooks
	ctx   *ctxState
	p     *C.SSL_CTX // to compare only
	owner *any       // kept from collection, or nil
}

// pending is what a crossing leaves to do when no lock is held.
type pending struct {
	events  *C.shim_event
	hookEnd func() // ends the goroutine as a hook that libssl waited for ended: by a panic or Goexit
	lostErr error  // there was no memory for some of what is to be told
}

func (n pending) any() bool { return n.events != nil || n.hookEnd != nil || n.lostErr != nil }

// countEvents returns the length of a list.
func countEvents(e *C.shim_event) (n int) {
	for ; e != nil; e = e.next {
		n++
	}
	return n
}

// lostError is the error of a call that could not note all that libssl reported.
func lostError(lost C.int) error {
	if lost == 0 {
		return nil
	}
	return ErrEventLost
}

// add appends what came later.
func (n *pending) add(later pending) {
	if n.hookEnd == nil {
		n.hookEnd = later.hookEnd
	}
	if n.lostErr == nil {
		n.lostErr = later.lostErr
	}
	n.events = joinEvents(n.events, later.events)
}

// count returns how much there is to tell.
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

// catchPanic runs a hook. If it panics, end is what panics in its place.
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

// A dispatcher runs hooks for what libssl reported in one call, in its order, on the goroutine of that call
// and with no lock held: a hook may call anything.
type dispatcher struct {
	events        *C.shim_event
	conn          *Conn // whose call it was, or nil
	sessionTarget hookTarget
	currentTarget *hookTarget // of the context that the connection changed to, or nil
	err           error       // the first of the key log

	otherStates map[*C.SSL_SESSION]*ctxState // whose home is another than that of the context that reports them
}

func (d *dispatcher) run() error {
	defer d.runRest()
	for d.events != nil {
		d.runNext()
	}
	return d.err
}

// runRest tells what is left when a hook panicked or ended its goroutine. What others do then is lost with it: the first counts.
func (d *dispatcher) runRest() {
	defer func() {
		if d.events != nil { // a hook has ended the goroutine, again
			d.runRest()
		}
	}()
	for d.events != nil {
		_ = catchPanic(d.runNext)
	}
}

// runNext runs the hook of the next event and takes it off the list before: a hook may panic.
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
			d.conn.markVerifiedLater(s)
		}
		if s != nil {
			onNew(d.conn, s)
		}
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
	default: // the hook is gone
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

// copyOfOther has a copy take the place of a session that a connection of other code made; nil without memory. libssl
// does not say whose cache that connection uses, if it changed to another SSL_CTX: s may not be of the one it is
// told by.
func (s *Session) copyOfOther() *Session {
	defer func() { _ = s.Close() }()
	copied, _ := s.Dup()
	return copied
}

// freeEvent gives an event back, and a session that nobody took, and returns the next.
func freeEvent(e *C.shim_event) *C.shim_event { return C.shim_event_free(e) }

// dropEvents is for what nobody hears.
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

// ErrTooManyHooks says that a hook was not asked, because as many threads wait in libssl for hooks as may. It is the
// error of a handshake that cannot go on without the hook. Others make a full handshake.
var ErrTooManyHooks = errors.New("sslctx: too many hooks run in the middle of handshakes")

// hookThreads bounds how many threads wait in libssl for a hook. libssl cannot be suspended there: each of them is held
// until its hook returns, or until the context of the hook ends.
var hookThreads = make(chan struct{}, 8+4*runtime.GOMAXPROCS(0))

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
	var none T
	if c.hookEnd != nil { // a hook of this call has panicked or ended its goroutine
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

// withoutConfigLocks opens the gates while a crossing waits.
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

// relock takes the configuration locks again. This wait has no limit: libssl goes on from here, and touches the contexts.
// The slot is for others meanwhile.
func (c *Conn) relock() {
	if c.p.ctxs.tryRLock(nil) == nil {
		return
	}
	hadSlot := c.slot.release()
	c.p.ctxs.rlock()
	c.slot.retake(hadSlot)
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
