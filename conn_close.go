// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// closeNotifyTimeout is how long Close and CloseWrite wait for a peer that does not read.
// closeMoment is how long Close may take when the deadline for writes has passed. That is enough to
// send without waiting.
const (
	closeNotifyTimeout = 5 * time.Second
	closeMoment        = 100 * time.Millisecond
)

// CloseWrite sends close_notify: the peer's Read returns io.EOF. Reading continues, and Write
// returns an error. Without a deadline for writes it waits five seconds at most for a peer that
// does not read, and returns a timeout. A further call continues from there.
//
// After a failed Write it sends nothing and returns ErrDataLost, until a further Write succeeds.
// Otherwise the peer would treat a part of the data as the whole. After a fatal error of libssl it
// sends nothing and returns that error.
//
// Wraps [SSL_shutdown].
//
// [SSL_shutdown]: https://docs.openssl.org/3.0/man3/SSL_shutdown/
func (c *Conn) CloseWrite() error {
	if !c.isOpen() {
		return ErrClosed
	}
	if !c.handshakeDone.Load() {
		return badArgument("CloseWrite", "receiver", "has not completed its handshake")
	}
	return c.send(opShutdown)
}

// lockTurnForCloseWrite takes turnMu for CloseWrite, and returns its limit.
func (c *Conn) lockTurnForCloseWrite() (until time.Time, err error) {
	until = time.Now().Add(closeNotifyTimeout)
	c.deadlineMu.Lock()
	if !c.writeDeadline.IsZero() {
		until = c.writeDeadline
	}
	c.deadlineMu.Unlock()
	if !c.lockTurn(until, false) {
		return until, os.ErrDeadlineExceeded
	}
	if c.writeFailed() {
		c.turnMu.Unlock()
		return until, fmt.Errorf("%w: a Write failed, and CloseWrite sends nothing", ErrDataLost)
	}
	return until, nil
}

// limitWrites sets a deadline for CloseWrite, unless the caller has set one.
func (c *Conn) limitWrites(until time.Time) {
	if c.changeLimit(func() bool {
		set := c.writeDeadline.IsZero() && !c.closeBegun.Load()
		if set {
			c.writeDeadline, c.closeWriteLimits = until, true
		}
		return set
	}) {
		// Wait for a setter that hangs in the transport: it may still set the earlier deadline.
		_ = c.applyWithin(false, true, func(m *waitMutex) error { return m.lockOrTimeout(until) })
	}
}

// endLimit ends the deadline that limitWrites has set.
func (c *Conn) endLimit() {
	if c.changeLimit(func() bool {
		set := c.closeWriteLimits
		if set {
			c.writeDeadline, c.closeWriteLimits = time.Time{}, false
		}
		return set && !c.closeBegun.Load()
	}) {
		_ = c.tryApplyDeadlines(false, true)
	}
}

func (c *Conn) changeLimit(change func() bool) (changed bool) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	return change()
}

// lockTurn is turnMu.Lock until a time. If hurried, it does not wait for a Write.
func (c *Conn) lockTurn(until time.Time, hurried bool) bool {
	return c.turnMu.lockUnless(func() bool {
		return hurried && c.writing.Load() > 0 || c.state.Load() < stateOpen || !time.Now().Before(until)
	})
}

// Close sends close_notify, closes the transport and frees the SSL. A Read that waits returns
// ErrClosed at once. A call that is in the handshake returns the transport's error. errors.Is finds
// [net.ErrClosed] in both. A Write that waits for the peer is cut off. Further calls do nothing.
//
// When a TCP connection is closed with unread input, the system resets it and drops unsent output.
// A TLS 1.3 client that only writes has such input: the server's tickets. An end that asked for an
// answer has it, too ([Conn.KeyUpdate], [Conn.VerifyClientPostHandshake]). So if there may be
// unread input, Close reads and drops it until the peer has all data or is gone. Close takes five
// seconds at most, and not longer than the deadline for writes. If that deadline has passed, it
// sends only what it can send at once. A second Close meanwhile does nothing; [Conn.Abort] ends the
// first.
//
// Close returns ErrDataLost when data was written and the peer may not get all of it and
// close_notify: the peer is gone, or does not read. It also returns ErrDataLost after a failed
// Write that no successful Write followed, in the middle of a Write, and while libssl waits for a
// hook after the handshake. In these cases it sends no close_notify, so that the peer does not take
// a part of the data for the whole.
//
// The session stays resumable, unless libssl reported a fatal error on the connection before. If
// Close cuts off a client's authentication after the handshake, that counts as such an error.
//
// Wraps [SSL_shutdown], SSL_free.
//
// [SSL_shutdown]: https://docs.openssl.org/3.0/man3/SSL_shutdown/
func (c *Conn) Close() error {
	switch {
	case !c.isOpen() || c.closing.Swap(true):
		return nil
	case c.backgroundClose.Load():
		return c.closeInBackground()
	}
	return c.closeAndGuard()
}

// closeAndGuard is closeOnce. If that panics, Close can be called again.
func (c *Conn) closeAndGuard() error {
	returned := false
	defer func() {
		if !returned { // the transport panicked
			c.closing.Store(false)
		}
	}()
	err := c.closeOnce()
	returned = true
	return err
}

// SetBackgroundClose sets whether Close waits for the peer in the background. By default Close
// itself waits, for five seconds at most. In the background Close returns within milliseconds. If
// the connection is not closed by then, Close returns nil, and nobody learns whether data was lost.
// This is for code that closes connections while it holds a lock, as net/http does. sslhttp sets it
// for its connections. After Close it returns ErrClosed.
func (c *Conn) SetBackgroundClose(on bool) error {
	if !c.isOpen() {
		return ErrClosed
	}
	c.backgroundClose.Store(on)
	return nil
}

// backgroundPatience is how long Close waits before it continues in the background. Nearly all
// closes are over sooner.
const backgroundPatience = 2 * time.Millisecond

// closeInBackground is Close for SetBackgroundClose. A panic that comes later is dropped.
func (c *Conn) closeInBackground() error {
	var err error
	done := make(chan func(), 1)
	go func() { done <- catchPanic(func() { err = c.closeAndGuard() }) }()
	patience := time.NewTimer(backgroundPatience)
	defer patience.Stop()
	select {
	case end := <-done:
		if end != nil {
			end()
		}
		return err
	case <-patience.C:
		return nil
	}
}

// closeOnce is Close without the check for a second call.
func (c *Conn) closeOnce() error {
	if done := c.handshakeDone.Load(); !done || c.inHook.Load() {
		err := c.closeDuringHandshake()
		if done && c.hasWritten.Load() {
			return errors.Join(fmt.Errorf("%w: Close cut off a hook, and sent no close_notify", ErrDataLost), err)
		}
		return err
	}
	c.endHooks(ErrClosed)
	k := connCall{c: c, closing: true}
	err := k.closeInOrder()
	_ = k.finish()
	return err
}

// closeInOrder is Close without the hooks for what libssl reported.
func (k *connCall) closeInOrder() (err error) {
	c := k.c
	k.limit = c.beginLimit()
	e := orderlyClose{connCall: k, limit: k.limit}
	defer e.end() // also if the transport panics
	e.cut = time.AfterFunc(time.Until(k.limit.Add(closeMoment)), e.cutTransport)
	c.endReads()
	r, used, ok, err := e.sendCloseNotify()
	if err != nil { // it is closed, or cannot get into libssl
		e.end()
		c.cutOff.Store(true) // the session stays as it is
		_ = k.teardownWithoutHooks()
		return c.lossError(err)
	}
	if !ok {
		return k.closeAfterFailedWrite()
	}
	lost := e.waitDelivered(&r, used)
	e.end()
	err = k.teardownWithoutHooks()
	switch {
	case lost != nil:
		return fmt.Errorf("%w: %w", ErrDataLost, lost)
	case hasReason(r.err):
		return r.err
	}
	return err
}

// sendCloseNotify makes close_notify and sends it behind all written data. ok is false after a
// failed Write, and in the middle of a Write: then it sends nothing.
func (e *orderlyClose) sendCloseNotify() (r callResult, used int, ok bool, err error) {
	c := e.c
	if !c.lockTurn(e.limit, true) {
		return r, 0, false, nil
	}
	defer c.turnMu.Unlock()
	if c.writeFailed() {
		return r, 0, false, nil
	}
	c.setLastDeadline(e.limit)
	e.begin()
	for {
		if r, used, err = e.callSSL(opShutdown, e.input(), false, nil); err != nil {
			return r, 0, false, err
		}
		e.sendErr = e.flush()
		if e.sendErr != nil || r.sslError != C.SSL_ERROR_WANT_WRITE {
			return r, used, true, nil
		}
		e.advance(used) // there was no room for the rest of a message, or for close_notify
	}
}

// flush sends what a call of Close made.
func (e *orderlyClose) flush() error {
	c := e.c
	if !c.writeMu.lockUntil(e.limit) {
		return os.ErrDeadlineExceeded // another call's Write hangs in the transport, or has called Close
	}
	defer c.writeMu.Unlock()
	return c.flush()
}

// lossError is the error of a Close that could not send close_notify.
func (c *Conn) lossError(err error) error {
	if err == ErrClosed || !c.hasWritten.Load() {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDataLost, err)
}

// closeAfterFailedWrite is Close after a failed Write, or in the middle of a Write.
func (k *connCall) closeAfterFailedWrite() (err error) {
	c := k.c
	if c.state.Load() < stateOpen {
		return nil
	}
	c.cutOff.Store(true)
	return errors.Join(fmt.Errorf("%w: a Write failed, or was cut off by Close", ErrDataLost), k.teardownWithoutHooks())
}

// beginLimit sets, and returns, the time at which all waits of a Close end that begins now.
func (c *Conn) beginLimit() time.Time {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.closeEnd = closeLimit(time.Now(), c.writeDeadline, c.closeWriteLimits)
	return c.closeEnd
}

// closeLimit returns the time until which a Close that begins now may wait. own says that the
// deadline is CloseWrite's and not the caller's.
func closeLimit(now, deadline time.Time, own bool) time.Time {
	limit := now.Add(closeNotifyTimeout)
	switch {
	case deadline.IsZero() || own || deadline.After(limit):
		return limit
	case deadline.After(now):
		return deadline
	}
	return now.Add(closeMoment)
}

// endReads ends a Read that waits. Later deadlines of the caller have no effect.
func (c *Conn) endReads() {
	c.deadlineMu.Lock()
	c.closeBegun.Store(true)
	c.closeRead = time.Unix(1, 0)
	c.deadlineMu.Unlock()
	c.notifier.Broadcast()
	_ = c.tryApplyDeadlines(true, false) // a transport that ignores it ends the Read when it is closed
}

// endTransport ends what the transport does, if closing it has failed.
func (c *Conn) endTransport() {
	c.deadlineMu.Lock()
	c.closeBegun.Store(true)
	c.closeRead, c.closeWrite = time.Unix(1, 0), time.Unix(1, 0)
	if c.closeEnd.IsZero() { // there was no Close yet: calls that are under way have a moment
		c.closeEnd = time.Now().Add(closeMoment)
	}
	c.deadlineMu.Unlock()
	c.notifier.Broadcast()
	_ = c.tryApplyDeadlines(true, true)
}

// readEnd returns the error of a failed read of the transport: ErrClosed if Close ended it.
func (c *Conn) readEnd(err error) error {
	if err != nil && c.closeBegun.Load() {
		return ErrClosed
	}
	return err
}

// setLastDeadline sets the transport's deadline for the last writes.
func (c *Conn) setLastDeadline(limit time.Time) {
	c.deadlineMu.Lock()
	c.closeWrite = limit
	c.deadlineMu.Unlock()
	_ = c.tryApplyDeadlines(false, true) // a transport without deadlines is closed by a timer
}

// closeDuringHandshake is Close in a handshake and while libssl waits for a hook. It does not wait
// for the hook, and sends no close_notify.
func (c *Conn) closeDuringHandshake() error {
	c.cutOff.Store(true)
	return c.teardown()
}

// Abort closes the transport without close_notify and frees the SSL. libssl treats this as a
// failure: it marks the session as not resumable and removes it from the cache. To end without a
// message and keep the session, use SetQuietShutdown and Close.
//
// Wraps [SSL_free].
//
// [SSL_free]: https://docs.openssl.org/3.0/man3/SSL_free/
func (c *Conn) Abort() error {
	if !c.isOpen() {
		return nil
	}
	c.closing.Store(true)
	returned := false
	defer func() {
		if !returned { // the transport panicked, and Close can be called again
			c.closing.Store(false)
		}
	}()
	err := c.teardown()
	returned = true
	return err
}

// teardown closes the transport and frees the SSL.
func (c *Conn) teardown() error {
	k := connCall{c: c}
	err := k.teardownWithoutHooks()
	_ = k.finish()
	return err
}

// teardownWithoutHooks is teardown without the hooks: the caller runs them with finish.
func (k *connCall) teardownWithoutHooks() error {
	c := k.c
	err := c.closeTransport()
	until := k.limit
	if until.IsZero() { // it is not an orderly Close, which has a limit
		until = time.Now().Add(closeMoment)
	}
	c.close(func(r connRef) { k.add(pending{events: c.free(r, until)}) })
	c.endHooks(ErrClosed)
	c.notifier.Broadcast()
	return err
}

// closeTransport closes the transport once. A transport's Close may call the Conn's Close in turn.
func (c *Conn) closeTransport() error {
	if c.transportClosed.Swap(true) {
		return nil
	}
	returned := false
	defer func() {
		if !returned { // it panicked, and can be closed again
			c.transportClosed.Store(false)
		}
	}()
	err := c.conn.Close()
	returned = true
	if errors.Is(err, net.ErrClosed) { // the caller closed it
		return nil
	}
	return err
}
