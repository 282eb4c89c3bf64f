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

// How long Close and CloseWrite wait for a peer that does not read; and how long Close has when the deadline for
// writes has passed, for what can be sent without waiting.
const (
	closeNotifyTimeout = 5 * time.Second
	closeMoment        = 100 * time.Millisecond
)

// CloseWrite sends close_notify: the peer's Read returns io.EOF. Reading goes on, and Write is an error. Without a
// deadline for writes it waits no longer than five seconds for a peer that does not read, and is a timeout then;
// called again it goes on.
//
// After a Write that failed it sends nothing and is ErrDataLost, until a further Write succeeds: the peer would take
// what it has for the whole.
//
// Wraps [SSL_shutdown].
//
// [SSL_shutdown]: https://docs.openssl.org/3.0/man3/SSL_shutdown/
func (c *Conn) CloseWrite() error {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	if !c.handshakeDone.Load() {
		return badArgument("CloseWrite", "receiver", "has not completed its handshake")
	}
	return c.send(opShutdown)
}

// lockTurnForCloseWrite takes turnMu for CloseWrite, and sets its limit.
func (c *Conn) lockTurnForCloseWrite() error {
	until := time.Now().Add(closeNotifyTimeout)
	c.deadlineMu.Lock()
	if !c.writeDeadline.IsZero() {
		until = c.writeDeadline
	}
	c.deadlineMu.Unlock()
	if !c.lockTurn(until, false) {
		return os.ErrDeadlineExceeded
	}
	if c.writeFailed.Load() {
		c.turnMu.Unlock()
		return fmt.Errorf("%w: a Write failed, and CloseWrite sends nothing", ErrDataLost)
	}
	c.limitWrites(until)
	return nil
}

// limitWrites is SetWriteDeadline for CloseWrite, if the caller has set none.
func (c *Conn) limitWrites(until time.Time) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if c.writeDeadline.IsZero() && !c.closeBegun.Load() {
		c.writeDeadline, c.closeWriteLimits = until, true
		_ = c.conn.SetWriteDeadline(until) // what is wrong with it the write will say
	}
}

func (c *Conn) endLimit() {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if !c.closeWriteLimits {
		return
	}
	c.writeDeadline, c.closeWriteLimits = time.Time{}, false
	if !c.closeBegun.Load() {
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
}

// lockTurn is turnMu.Lock until a time. If hurried, it does not wait for a Write.
func (c *Conn) lockTurn(until time.Time, hurried bool) bool {
	return poll(firstLook, lastLook, c.turnMu.TryLock, func() bool {
		return hurried && c.writing.Load() > 0 || c.state.Load() < stateOpen || !time.Now().Before(until)
	})
}

// Close sends close_notify, closes the transport and gives the SSL back. A Read that waits is ErrClosed at once: it gets
// nothing that the peer sends later. A Write that the peer does not let go on is cut off. Further calls do nothing.
//
// A system that closes a TCP connection with input that nobody has read resets it, and drops what it has not sent
// yet. In TLS 1.3 a client that only writes has such input: the server's tickets. So Close reads and drops what
// the peer sends, until the peer has what was written or ends, if there is or may be such input. For all this it
// takes five seconds at most, and no longer than the deadline for writes; if that has passed, it sends
// what can be sent at once. A Close that comes meanwhile does nothing; [Conn.Abort] ends it.
//
// It is ErrDataLost when data was written and Close cannot tell that the peer will have it and close_notify: the
// peer is gone, or does not read. It is ErrDataLost, too, after a Write that failed, unless a further
// Write succeeded, in the middle of a Write, and while libssl waits for a hook after the handshake. Then the peer gets no
// close_notify: what it has is not the whole, and must not look as if it were.
//
// The session stays resumable, unless libssl reported a fatal error on the connection before.
//
// Wraps [SSL_shutdown], SSL_free.
//
// [SSL_shutdown]: https://docs.openssl.org/3.0/man3/SSL_shutdown/
func (c *Conn) Close() error {
	if c.state.Load() < stateOpen || c.closing.Swap(true) {
		return nil
	}
	returned := false
	defer func() {
		if !returned { // the transport panicked: Close can be called again
			c.closing.Store(false)
		}
	}()
	err := c.closeOnce()
	returned = true
	return err
}

// closeOnce is Close, for the first call.
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
	e := orderlyClose{connCall: k, limit: c.closeLimit()}
	defer e.end() // also if the transport panics
	c.endReads()
	r, used, ok, err := e.sendCloseNotify()
	if err != nil { // it is closed, or cannot get into libssl
		e.end()
		c.cutOff.Store(true) // that is no judgement on the session
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

// sendCloseNotify makes close_notify and sends it, behind all that was written. ok is false after a Write that failed, or in
// the middle of one.
func (e *orderlyClose) sendCloseNotify() (r callResult, used int, ok bool, err error) {
	c := e.c
	if !c.lockTurn(e.limit, true) {
		return r, 0, false, nil
	}
	defer c.turnMu.Unlock()
	if c.writeFailed.Load() {
		return r, 0, false, nil
	}
	c.setLastDeadline(e.limit)
	e.begin()
	if r, used, err = e.callSSL(opShutdown, e.input(), false, nil); err != nil {
		return r, 0, false, err
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	e.sendErr = c.flush()
	return r, used, true, nil
}

// lossError is the error of a Close that could not send close_notify.
func (c *Conn) lossError(err error) error {
	if err == ErrClosed || !c.hasWritten.Load() {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDataLost, err)
}

// closeAfterFailedWrite is Close after a Write that failed, or in the middle of one.
func (k *connCall) closeAfterFailedWrite() (err error) {
	c := k.c
	if c.state.Load() < stateOpen {
		return nil
	}
	c.cutOff.Store(true)
	return errors.Join(fmt.Errorf("%w: a Write failed, or was cut off by Close", ErrDataLost), k.teardownWithoutHooks())
}

// closeLimit returns how long Close may wait.
func (c *Conn) closeLimit() time.Time {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	now := time.Now()
	limit := now.Add(closeNotifyTimeout)
	switch d := c.writeDeadline; {
	case d.IsZero() || c.closeWriteLimits || d.After(limit):
		return limit
	case d.After(now):
		return d
	}
	return now.Add(closeMoment)
}

// endReads has a Read that waits return: what the peer sends from now on is nobody's. Later deadlines of the caller do not
// count.
func (c *Conn) endReads() {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.closeBegun.Store(true)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // what ignores it is read until closing it ends the read
	c.notifier.Broadcast()
}

// readEnd is the error of a read of the transport that failed with err: it may be Close that ended it.
func (c *Conn) readEnd(err error) error {
	if err != nil && c.closeBegun.Load() {
		return ErrClosed
	}
	return err
}

// setLastDeadline gives the transport the deadline for what is still written.
func (c *Conn) setLastDeadline(limit time.Time) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	_ = c.conn.SetWriteDeadline(limit)
}

// closeDuringHandshake is Close in a handshake, while libssl waits for a hook, which it does not wait for, and where the peer must not
// have a close_notify.
func (c *Conn) closeDuringHandshake() error {
	c.cutOff.Store(true)
	return c.teardown()
}

// Abort closes the transport without close_notify and gives the SSL back. libssl takes this for a bad
// end: the session is marked as not resumable and removed from the cache. SetQuietShutdown and Close
// end without a message and without that.
//
// Wraps [SSL_free].
//
// [SSL_free]: https://docs.openssl.org/3.0/man3/SSL_free/
func (c *Conn) Abort() error {
	if c.state.Load() < stateOpen {
		return nil
	}
	c.closing.Store(true)
	return c.teardown()
}

// teardown closes the transport and gives the SSL back.
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
	c.close(func(r connRef) { k.add(pending{events: c.free(r)}) })
	c.endHooks(ErrClosed)
	c.notifier.Broadcast()
	return err
}

// closeTransport closes the transport, once: a transport may close the Conn in turn.
func (c *Conn) closeTransport() error {
	if c.transportClosed.Swap(true) {
		return nil
	}
	err := c.conn.Close()
	if errors.Is(err, net.ErrClosed) { // by the caller's doing
		return nil
	}
	return err
}
