// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

// Handshake runs the handshake, if it has not run yet. Its error stays the error of the connection, but for
// ErrEarlyDataLeft.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext is Handshake until ctx is done: then the transport is closed and ctx's error is
// returned.
//
// Wraps [SSL_do_handshake].
//
// [SSL_do_handshake]: https://docs.openssl.org/3.0/man3/SSL_do_handshake/
func (c *Conn) HandshakeContext(ctx context.Context) (err error) {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	if c.ready() {
		return nil
	}
	if ctx.Done() != nil { // before the lock: another call's handshake may be under way
		own, stop := c.endWith(ctx)
		ctx = own
		defer func() {
			if ended := stop(); ended != nil {
				err = ended
			}
		}()
	}
	k := connCall{c: c}
	for {
		err := k.continueHandshake(ctx)
		if !k.any() {
			return err
		}
		if err != nil {
			defer c.flushAlert() // the alert, also if a hook panics
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

// endWith has the connection end when ctx does, until stop, which returns ctx's error if it did. own takes ctx's place: what
// a context that is not Go's own does, it does here, and not where locks are held.
func (c *Conn) endWith(ctx context.Context) (own context.Context, stop func() error) {
	own, cancel := context.WithCancel(ctx)
	goesOn := context.AfterFunc(own, func() { c.cutTransport(own.Err()) })
	return own, func() error {
		defer cancel()
		if goesOn() {
			return nil
		}
		return own.Err()
	}
}

// cutTransport closes the transport, and ends the wait for a hook, for a handshake whose context is done.
func (c *Conn) cutTransport(cause error) {
	_ = c.conn.Close()
	c.endHooks(cause)
}

// continueHandshake carries the handshake on until it is over, or until libssl reported something: then what it
// has to send is not sent yet, for a hook learns of a session before the peer can use it.
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
	c.handshakeErr = errHookEnded // unless it comes back from there
	_, c.handshakeErr = k.driveHandshake(ctx, opHandshake, nil)
	return c.handshakeErr
}

// flushAlert sends an alert, behind what hooks were told of its cause.
func (c *Conn) flushAlert() {
	c.writeMu.Lock()
	defer c.unlockWrite()
	_ = c.flush()
}

// ready reports whether the handshake is over and sent.
func (c *Conn) ready() bool { return c.handshakeDone.Load() && !c.flushPending.Load() }

// errHookEnded is what a handshake ends with when a hook that it waited for panicked or ended its goroutine.
var errHookEnded = errors.New("sslctx: a hook ended the handshake")

// failHandshake ends the connection for a reason that is not libssl's.
func (c *Conn) failHandshake(err error) error {
	c.handshakeMu.Lock()
	defer c.handshakeMu.Unlock()
	c.handshakeDone.Store(false)
	c.handshakeErr = err
	return err
}

// driveHandshake makes the crossings of a handshake, or of the reading of early data, to p, until that is over; then err is
// io.EOF.
func (k *connCall) driveHandshake(ctx context.Context, what op, p []byte) (n int, err error) {
	c := k.c
	c.readMu.Lock()
	defer c.unlockRead()
	c.writeMu.Lock()
	defer func() {
		if k.any() {
			c.writeMu.Unlock() // and nothing is sent
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
			if err := c.in.fill(c.conn); err != nil {
				return 0, err
			}
		case r.sslError == C.SSL_ERROR_WANT_CLIENT_HELLO_CB:
			if err := k.answerHello(ctx); k.any() || err != nil {
				return 0, err
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

// setHandshakeCtx gives the crossings that follow a context for their hooks, until stop.
func (c *Conn) setHandshakeCtx(ctx context.Context) (stop func()) {
	set := func(ctx context.Context) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.handshakeCtx = ctx
	}
	set(ctx)
	return func() { set(nil) }
}

// isHarmless reports whether err of the transport says that the peer is gone, where libssl makes nothing of it: when
// a server sends its tickets (TLS 1.3), which nobody waits for. What the peer sent before can be read.
func (c *Conn) isHarmless(v Version, err error) bool {
	return err != nil && c.server && v == VersionTLS13 && isGone(err)
}

// isGone reports whether err says that the peer has closed the transport: EPIPE and ECONNRESET, which are libssl's
// list, and what net.Pipe has for them.
func isGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}

// handshakeSem bounds how many handshakes compute at once. They are long calls into C, for each of which the scheduler
// would start a thread: thousands of connections at once made fifty on two processors. One more than there are
// processors keeps these busy while a handshake that ends hands its slot on; more of them only wait for each other.
var handshakeSem = make(chan struct{}, runtime.GOMAXPROCS(0)+1)

// heavyHandshakeSem bounds how many of these are of clients that have sent a lot: whoever sends long chains of certificates
// must leave slots to others.
var heavyHandshakeSem = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// heavyHandshake is how many bytes a client sends in a handshake before it is one of them. Three certificates of the
// largest usual kind take 8 KiB.
const heavyHandshake = 16 << 10

// A handshakeSlot is what a Conn holds of both.
type handshakeSlot struct{ held, heavy bool }

// release gives the slots back, and reports whether there was one among the handshakes.
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

// retake takes a slot again if there was one and one is free. The crossing goes on without one otherwise: its locks are
// held, and those who have the slots may wait for these.
func (s *handshakeSlot) retake(held bool) {
	if !held {
		return
	}
	select {
	case handshakeSem <- struct{}{}:
		s.held = true
	default:
	}
}

// takeSlot waits for a slot among the handshakes, and for the gates, which it holds then. It waits for neither with the
// other in hand: a call that configures the context waits for the gates, and handshakes in a hook wait for slots.
func (c *Conn) takeSlot(r connRef) error {
	if c.server && c.handshakeBytes > heavyHandshake {
		if err := c.acquire(heavyHandshakeSem); err != nil {
			return err
		}
		c.slot.heavy = true
	}
	for {
		if err := c.acquire(handshakeSem); err != nil {
			c.slot.release()
			return err
		}
		if r.ctxs.tryRLock() {
			c.slot.held = true
			return nil
		}
		<-handshakeSem
		if err := c.awaitConfigLocks(r); err != nil {
			c.slot.release()
			return err
		}
		select {
		case handshakeSem <- struct{}{}:
			c.slot.held = true
			return nil
		default:
			r.ctxs.runlock()
		}
	}
}

// awaitConfigLocks waits for the gates, which it holds then, until the handshake ends. Who configures the context has them, and
// may read a file. It leaves nobody behind who waits on: c.mu is held, and keeps the gates the same.
func (c *Conn) awaitConfigLocks(r connRef) error {
	ctx, stop := c.startWait(c.hookCtx)
	defer stop()
	if poll(firstMoment, firstLook, r.ctxs.tryRLock, func() bool { return ctx.Err() != nil }) {
		return nil
	}
	return context.Cause(ctx)
}

// lockConfig is awaitConfigLocks after the handshake: until the deadline of what is done, or Close.
func (c *Conn) lockConfig(what op, r connRef, closing bool) (err error) {
	if r.ctxs.tryRLock() {
		return nil
	}
	c.waitsForConfig.Store(true)
	defer c.waitsForConfig.Store(false)
	began := time.Now()
	poll(firstMoment, firstLook, r.ctxs.tryRLock, func() bool {
		err = c.configWaitErr(what, began, closing)
		return err != nil
	})
	return err
}

// configWaitErr says why a call that began to wait for the configuration locks at a time waits no longer. closing says that
// the call is Close's own: Close has the limits of what is written.
func (c *Conn) configWaitErr(what op, began time.Time, closing bool) error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	until := c.writeDeadline
	if what == opRead && !closing {
		until = c.readDeadline
	}
	switch {
	case closing:
		if until.IsZero() || until.After(began.Add(closeNotifyTimeout)) {
			until = began.Add(closeNotifyTimeout)
		}
	case c.closeBegun.Load() || c.state.Load() < stateOpen:
		return ErrClosed
	}
	if !until.IsZero() && !time.Now().Before(until) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// acquire waits for room in slots until the handshake ends.
func (c *Conn) acquire(slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	ctx, stop := c.startWait(c.hookCtx)
	defer stop()
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
