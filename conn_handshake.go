// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// Handshake runs the handshake, unless it is over. Every error but ErrEarlyDataLeft is final: later
// calls return it, too.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext is Handshake with a context. If ctx is done before the handshake is over, it
// closes the transport and returns ctx's error. Later calls then return the error of the closed
// transport.
//
// Wraps [SSL_do_handshake].
//
// [SSL_do_handshake]: https://docs.openssl.org/3.0/man3/SSL_do_handshake/
func (c *Conn) HandshakeContext(ctx context.Context) (err error) {
	if !c.isOpen() {
		return ErrClosed
	}
	if c.ready() {
		return nil
	}
	if !c.dialed {
		return c.doHandshake(ctx)
	}
	err = c.doHandshake(ctx)
	c.keeper.Load().note(ctx, c, err)
	return advise(err)
}

func (c *Conn) doHandshake(ctx context.Context) (err error) {
	if ctx != context.Background() { // before the lock: another call's handshake may run
		own, stop := c.endWith(ctx)
		ctx = own
		defer func() {
			if ended := stop(); ended != nil {
				err = ended
			}
		}()
	}
	k := connCall{c: c}
	defer c.notifier.Broadcast() // another call may wait for the end of the handshake
	for {
		err := k.continueHandshake(ctx)
		if err == errEarlyInput && !k.any() {
			if err = k.awaitEarlyInput(true); err == nil {
				continue
			}
		}
		if !k.any() {
			return err
		}
		if err != nil {
			defer c.flushAlert() // sends the alert, also if a hook panics
		}
		hookErr := k.finish()
		switch {
		case err != nil:
			return err
		case hookErr != nil:
			return c.failHandshake(hookErr)
		}
	}
}

// endWith ends the connection when ctx ends, until stop. stop returns ctx's error if ctx has ended
// the connection. own takes ctx's place, so that methods of a caller's own context type never run
// where locks are held.
func (c *Conn) endWith(ctx context.Context) (own context.Context, stop func() error) {
	own, cancel := detach(ctx)
	var panicked atomic.Pointer[func()] // how the transport's Close ended
	goesOn := context.AfterFunc(own, func() {
		closed := false
		defer func() {
			if !closed { // by a panic, or by the end of this goroutine: the transport is still open
				_ = catchPanic(c.endTransport)
			}
		}()
		if end := catchPanic(func() { c.cutTransport(own.Err()) }); end != nil {
			panicked.Store(&end)
			return
		}
		closed = true
	})
	return own, func() error {
		defer cancel()
		if goesOn() {
			return nil
		}
		if end := panicked.Load(); end != nil {
			(*end)()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return own.Err() // whose own deadline may pass a moment before
	}
}

// A detached context has the values and the deadline of a caller's context. It ends with that.
type detached struct {
	context.Context
	caller context.Context
}

func detach(caller context.Context) (ctx context.Context, cancel func()) {
	ctx, cancelDeadline := context.Background(), context.CancelFunc(func() {})
	if d, ok := caller.Deadline(); ok {
		ctx, cancelDeadline = context.WithDeadline(ctx, d)
	}
	ctx, cancelCause := context.WithCancelCause(ctx)
	stop := func() bool { return false }
	end := func() {
		stop()
		cancelCause(nil)
		cancelDeadline()
	}
	done := false
	defer func() {
		if !done { // a method of the caller's context panicked
			end()
		}
	}()
	stop = context.AfterFunc(caller, func() { cancelCause(context.Cause(caller)) })
	if caller.Err() != nil { // at once, and not on another goroutine
		cancelCause(context.Cause(caller))
	}
	done = true
	return detached{ctx, caller}, end
}

// Value returns a value of the caller's context. The packages of Go ask the inner context first.
func (d detached) Value(key any) any {
	if v := d.Context.Value(key); v != nil {
		return v
	}
	return d.caller.Value(key)
}

// cutTransport closes the transport and ends the waits of the connection, when the context of a
// handshake is done.
func (c *Conn) cutTransport(cause error) {
	defer c.notifier.Broadcast()
	defer c.endHooks(cause)
	_ = c.closeTransport()
}

// continueHandshake carries the handshake on until it is over or libssl reports something. In the
// second case libssl's output is not sent yet: a hook hears of a session before the peer can use
// it.
func (k *connCall) continueHandshake(ctx context.Context) (err error) {
	c := k.c
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	if c.handshakeErr != nil || c.ready() {
		return c.handshakeErr
	}
	if c.earlyPhase == earlyAccepting || c.earlyPhase == earlyReading {
		return ErrEarlyDataLeft
	}
	c.handshakeErr = errHookEnded // replaced when driveHandshake returns
	_, err = k.driveHandshake(ctx, opHandshake, nil)
	c.handshakeErr = nil
	if err != errEarlyInput {
		c.handshakeErr = err
	}
	return err
}

// flushAlert sends an alert after the hooks for its cause have run.
func (c *Conn) flushAlert() {
	if c.writeMu.lockUntil(time.Now().Add(closeNotifyTimeout)) {
		defer c.unlockWrite()
		_ = c.flush()
	}
}

// ready reports whether the handshake is over and sent.
func (c *Conn) ready() bool { return c.handshakeDone.Load() && !c.flushPending.Load() }

// errHookEnded ends a handshake whose hook panicked or ended its goroutine.
var errHookEnded = errors.New("sslctx: a hook ended the handshake")

// failHandshake ends the connection with an error that is not libssl's.
func (c *Conn) failHandshake(err error) error {
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	c.handshakeDone.Store(false)
	c.handshakeErr = err
	return err
}

// driveHandshake calls libssl until the handshake is over. With opReadEarlyData it reads early data
// to p, and err is io.EOF when there is no more.
func (k *connCall) driveHandshake(ctx context.Context, what op, p []byte) (n int, err error) {
	c := k.c
	c.readMu.Lock()
	defer c.unlockRead()
	if err := c.lockWithin(&c.writeMu, waitLimit{ctx: ctx, handshake: true}); err != nil {
		return 0, err
	}
	defer func() {
		if k.any() {
			c.writeMu.Unlock() // without sending anything
			return
		}
		c.unlockWrite()
	}()
	defer c.setHandshakeCtx(ctx)()
	if c.flushPending.Load() {
		err := c.flush()
		if c.handshakeDone.Load() && c.isHarmless(c.lastCallResult().version, err) {
			err = nil
		}
		c.flushPending.Store(err != nil)
		if err != nil || c.handshakeDone.Load() {
			c.handshakeDone.Store(err == nil)
			return 0, err
		}
	}
	for {
		r, used, err := k.callSSL(what, c.in.ready(c.lastCallResult().hasPartial), c.in.eof, p)
		if err != nil {
			return 0, err
		}
		c.in.advance(used)
		if what == opHandshake && r.sslError == C.SSL_ERROR_NONE {
			if err := k.checkPeer(ctx); err != nil {
				return 0, err
			}
		}
		if r.reported > 0 {
			c.flushPending.Store(r.err == nil)
			c.handshakeDone.Store(what == opHandshake && r.sslError == C.SSL_ERROR_NONE)
			return r.n, r.ended(what)
		}
		flushErr := c.flush()
		if what == opHandshake && r.sslError == C.SSL_ERROR_NONE && c.isHarmless(r.version, flushErr) {
			flushErr = nil
		}
		switch {
		case r.err != nil:
			return 0, r.err
		case flushErr != nil && r.n == 0 && !r.earlyDone:
			return 0, flushErr
		case r.sslError == C.SSL_ERROR_NONE:
			c.handshakeDone.Store(what == opHandshake)
			return r.n, r.ended(what)
		case r.sslError == C.SSL_ERROR_WANT_READ:
			if !r.needsInput { // libssl stopped between two messages
				continue
			}
			if what == opReadEarlyData && c.earlyPhase == earlyReading || c.server && c.earlyPhase == earlyOver && c.wasEarlyRead {
				k.fills = c.in.fills
				return 0, errEarlyInput // the wait must not hold up a WriteEarlyData
			}
			if err := c.in.fill(c.conn); err != nil {
				return 0, err
			}
		case r.sslError == C.SSL_ERROR_WANT_CLIENT_HELLO_CB:
			err := k.answerHello(ctx, what)
			c.helloAnswered = err == nil // a lookup that panicked has found nothing
			if k.any() || err != nil {
				return 0, err
			}
			if what == opReadEarlyData && c.peerCheck() != nil {
				return 0, errEarlyUnchecked
			}
		case r.sslError == C.SSL_ERROR_WANT_RETRY_VERIFY:
			if err := c.answerVerify(ctx); err != nil {
				return 0, err
			}
		case r.sslError != C.SSL_ERROR_WANT_WRITE:
			return 0, r.failure(what)
		}
	}
}

// setHandshakeCtx sets the context for the hooks of the next calls, until stop. writeMu is held.
func (c *Conn) setHandshakeCtx(ctx context.Context) (stop func()) {
	c.handshakeCtx = ctx
	return func() { c.handshakeCtx = context.Background() }
}

// isHarmless reports whether err of the transport means that the peer is gone while a TLS 1.3
// server sends its tickets. libssl ignores that, too: nobody waits for tickets, and data that the
// peer sent before can still be read.
func (c *Conn) isHarmless(v Version, err error) bool {
	return err != nil && c.server && v == VersionTLS13 && isGone(err)
}

// isGone reports whether err means that the peer has closed the transport: EPIPE and ECONNRESET, as
// in libssl, and net.Pipe's error for them.
func isGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}

// handshakeSem bounds how many handshakes compute at once. Each is a long call into C, for which
// Go's scheduler starts a thread: without a bound, thousands of connections made fifty threads on
// two processors. The bound is one more than there are processors, so that these stay busy while
// one handshake passes its slot on. With four clients on two processors, one slot less costs 9 % to
// 13 % of the full handshakes and wins nothing, and two more make the 99th percentile 13 % to 24 %
// slower. On one processor a single slot would cut it to a half or a third, for 7 % of the
// handshakes at most. But then one heavy client holds up all others.
var handshakeSem = make(chan struct{}, runtime.GOMAXPROCS(0)+1)

// heavyHandshakeSem bounds how many of these slots are for clients that have sent a lot, such as
// long chains of certificates.
var heavyHandshakeSem = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// heavyHandshake is how many bytes a client may send in a handshake before it is one of these.
// Three certificates of the largest usual kind take 8 KiB.
const heavyHandshake = 16 << 10

// A handshakeSlot is what a Conn holds of both semaphores.
type handshakeSlot struct{ held, heavy bool }

// release gives the slots back, and reports whether there was one of handshakeSem.
func (s *handshakeSlot) release() (held bool) {
	if s.held {
		<-handshakeSem
	}
	if s.heavy {
		<-heavyHandshakeSem
	}
	held = s.held
	*s = handshakeSlot{}
	return held
}

// retake takes a slot again if there was one and one is free. Otherwise the call continues without
// a slot: it holds locks, and the calls that have the slots may wait for these.
func (s *handshakeSlot) retake(held bool) {
	if held {
		s.held = tryAcquire(handshakeSem)
	}
}

// slotNeeds says which slots a call needs.
type slotNeeds uint8

const (
	needsHandshakeSlot slotNeeds = 1 << iota
	needsHeavySlot
)

// slotNeeds returns which slots the next call needs. writeMu is held.
func (c *Conn) slotNeeds(what op) (needs slotNeeds) {
	switch {
	case !what.needsSlot():
		return 0
	case c.server && c.handshakeBytes > heavyHandshake:
		return needsHandshakeSlot | needsHeavySlot
	}
	return needsHandshakeSlot
}

// takeSlot waits for slots, at most until the handshake ends. parent is the context of the
// handshake.
func (c *Conn) takeSlot(needs slotNeeds, parent context.Context) (s handshakeSlot, err error) {
	if s.tryTake(needs) {
		return s, nil
	}
	ctx, stop := c.startWait(parent)
	defer stop()
	if needs&needsHeavySlot != 0 {
		if err := acquire(ctx, heavyHandshakeSem); err != nil {
			return handshakeSlot{}, err
		}
		s.heavy = true
	}
	if err := acquire(ctx, handshakeSem); err != nil {
		s.release()
		return handshakeSlot{}, err
	}
	s.held = true
	return s, nil
}

// acquire waits for a slot until ctx ends.
func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tryTake takes all needed slots, or none if one is not free.
func (s *handshakeSlot) tryTake(needs slotNeeds) bool {
	if needs&needsHeavySlot != 0 {
		if s.heavy = tryAcquire(heavyHandshakeSem); !s.heavy {
			return false
		}
	}
	if needs&needsHandshakeSlot != 0 {
		if s.held = tryAcquire(handshakeSem); !s.held {
			s.release()
			return false
		}
	}
	return true
}

func tryAcquire(slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// Renegotiate begins a new handshake on the connection (TLS 1.2 and before): a client sends its
// ClientHello, a server requests one. It does not wait: at both ends Read and Write carry the
// handshake on. A Write in the middle of it waits for the end, and reads if no other call does. The
// next Read returns data that such a Write reads; when that is a lot, the Write waits for a Read.
//
// A server's handshake begins with the client's answer. A Write before it goes out at once, and some
// clients, that of crypto/tls among them, then end the connection. So a server for these reads the
// client's next message before it writes.
//
// While a renegotiation runs, or a server's request is not answered, Renegotiate begins no other.
// Close in the middle of one sends no close_notify.
//
// In TLS 1.3, and with OpNoRenegotiation, it returns an *Error, and the connection continues. When
// a server refuses a client's renegotiation, as it does without OpAllowClientRenegotiation, the
// connection ends. When the peer has sent close_notify, it returns io.EOF.
//
// Wraps [SSL_renegotiate].
//
// [SSL_renegotiate]: https://docs.openssl.org/3.0/man3/SSL_key_update/
func (c *Conn) Renegotiate() error { return c.post(opRenegotiate) }

// awaitRead waits, for a Write during a renegotiation, until a reader of the transport has made
// progress, or is that reader. writeMu is held, and released meanwhile, since readers send answers.
// The first call only begins to listen, so that the Write misses nothing after its next call into
// libssl.
func (k *connCall) awaitRead(progress *<-chan struct{}) (err error) {
	c := k.c
	before := *progress
	if before == nil {
		*progress = c.notifier.Wait()
		return nil
	}
	if k.collected-k.beforeProgress > maxIdleEvents || k.collected > maxEvents {
		return errRenegotiates
	}
	c.writing.Add(1) // so that Close does not wait for it
	defer func() {
		c.writing.Add(-1)
		*progress = c.notifier.Wait()
		c.writeMu.Lock()
	}()
	c.unlockWrite()
	if c.prefetcher.waiting.Load() == 0 && c.readAhead.size.Load() < maxReadAhead && c.readMu.TryLock() {
		defer c.unlockRead()
		select {
		case <-before: // another reader made progress: perhaps the renegotiation is over
			return nil
		default:
			return k.readToWrite()
		}
	}
	return c.await(before, &c.writeDeadline)
}

// maxIdleEvents is how many events, such as new sessions, a Write collects for hooks without
// progress: each handshake makes two or three, with the certificates of the peer. maxEvents is how
// many one call collects in all. Only a hostile peer causes more.
const (
	maxIdleEvents = 50
	maxEvents     = 1000
)

var errRenegotiates = errors.New("sslctx: the peer renegotiates without end")

// readToWrite is a Read for a Write: it has the deadline for writes, and keeps data. readMu is
// held.
func (k *connCall) readToWrite() (err error) {
	c := k.c
	defer c.setReadsUseWriteDeadline(false)
	c.setReadsUseWriteDeadline(true)
	for c.readErr == nil {
		if _, ok := c.readable(); ok {
			break
		}
		if err := c.in.fill(c.conn); err != nil {
			return c.readEnd(err)
		}
	}
	if c.readErr == nil {
		err = k.keepRead()
		if err != nil || c.readErr == nil || c.readErr == io.EOF {
			return err // close_notify may follow the end of the handshake
		}
	}
	return unfinished(c.readErr)
}

// unfinished is the error of a Write that waits for a renegotiation which the peer will not end.
func unfinished(err error) error {
	return fmt.Errorf("sslctx: the renegotiation cannot go on: %w", err)
}
