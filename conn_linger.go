// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// maxDropped is how many bytes of a peer Close drops before it gives up. A peer's answer to
// close_notify is smaller.
const maxDropped = 256 << 10

var (
	errNoCloseNotify = errors.New("close_notify cannot be sent in the middle of a handshake message")
	errGoesOn        = errors.New("the peer goes on sending")
)

// An orderlyClose is a Close that runs. It takes care that closing the transport loses no written
// data.
type orderlyClose struct {
	*connCall
	limit   time.Time
	sendErr error // why close_notify could not be sent: the peer is gone, perhaps after its own close_notify

	queues      socketQueues
	holdsReadMu bool // readMu is held
	hadInput    bool // there was input that nobody had read
	quiet       bool // the shutdown is quiet, and libssl reads no more
	dropped     int
	looked      bool        // it has read in good time
	cut         *time.Timer // closes a transport that outlives the limit
	wasCut      atomic.Bool // it did
}

// begin reads input that has arrived, if data was written that closing the transport could lose, or
// if a ClientSessionCache waits for tickets.
func (e *orderlyClose) begin() {
	c := e.c
	if !c.hasWritten.Load() && (c.keeper.Load() == nil || !c.awaitsInput()) {
		return
	}
	e.queues = queuesOf(c.conn)
	if e.holdsReadMu = e.takeReads(); !e.holdsReadMu || c.readErr != nil {
		return
	}
	if unread, _, known := e.queues.ask(); known && unread > 0 {
		e.hadInput = true
		e.setReadDeadline(e.limit) // a transport that is itself a record layer may wait for more
		_ = c.in.fill(c.conn)      // a later call reports its error
	}
}

// setReadDeadline sets the transport's deadline for reads.
func (e *orderlyClose) setReadDeadline(at time.Time) {
	c := e.c
	c.deadlineMu.Lock()
	c.closeRead = at
	c.deadlineMu.Unlock()
	_ = c.tryApplyDeadlines(true, false) // a transport without deadlines is closed by a timer
}

// cutTransport closes a transport whose deadlines did not end Close in time.
func (e *orderlyClose) cutTransport() {
	e.wasCut.Store(true)
	_ = catchPanic(func() { _ = e.c.closeTransport() })
}

// takeReads waits for readMu. endReads has ended the Read that holds it; but the transport may
// ignore its deadline, so the wait is short.
func (e *orderlyClose) takeReads() bool {
	until := e.c.momentOfClose()
	return poll(firstMoment, lastLook, e.c.readMu.TryLock, func() bool { return !time.Now().Before(until) })
}

// input returns the input that libssl reads and drops when it makes close_notify.
func (e *orderlyClose) input() []byte {
	if !e.hadInput || e.c.readErr != nil {
		return nil
	}
	return e.c.in.ready(e.c.lastCallResult().hasPartial)
}

// advance notes how much of the input libssl took.
func (e *orderlyClose) advance(used int) {
	if e.holdsReadMu {
		e.c.in.advance(used)
		e.dropped += used
	}
}

func (e *orderlyClose) end() {
	if e.cut != nil {
		e.cut.Stop()
	}
	if e.holdsReadMu {
		e.holdsReadMu = false
		e.c.unlockRead()
	}
}

// waitDelivered waits until closing the transport loses nothing. shut is the result of the call
// that made close_notify. An error says why data may be lost.
func (e *orderlyClose) waitDelivered(shut *callResult, used int) error {
	c := e.c
	e.advance(used)
	if e.holdsReadMu {
		switch {
		case shut.peerClosed && used > 0:
			c.readErr = io.EOF
		case shut.peerClosed && c.readErr == nil:
			e.quiet = true
		}
	}
	switch {
	case !c.hasWritten.Load(): // there is no data
		return nil
	case e.wasCut.Load():
		return os.ErrDeadlineExceeded
	case errors.Is(e.sendErr, net.ErrClosed): // the caller closed the transport
		return nil
	case hasReason(shut.err):
		return shut.err
	case shut.err != nil || c.hasFailed(): // an earlier call reported it
		return nil
	case shut.sslError != C.SSL_ERROR_NONE:
		return errNoCloseNotify
	case isTimeout(e.sendErr):
		return e.sendErr
	case e.sendErr == nil && !e.inDanger():
		return nil
	}
	if !e.holdsReadMu {
		if ok, err := e.waitForReader(); !ok {
			return err
		}
		e.quiet = shut.peerClosed && c.readErr == nil
	}
	return e.run()
}

// hasReason reports whether libssl gives a reason. Without one it repeats that an earlier call
// failed.
func hasReason(err error) bool {
	var e *Error
	return err != nil && errors.As(err, &e) && len(e.Stack) > 0
}

// hasFailed reports whether libssl has reported a fatal error.
func (c *Conn) hasFailed() bool {
	if c.lockWithin(&c.mu, waitLimit{what: opShutdown, closing: true}) != nil {
		return false
	}
	defer c.mu.Unlock()
	return c.fatal != nil
}

// inDanger reports whether the transport may hold unread input: then closing it loses unsent
// output.
func (e *orderlyClose) inDanger() bool {
	unread, unsent, known := e.queues.ask()
	if !known {
		return e.queues.resets
	}
	return unread > 0 || unsent > 0 && (e.hadInput || e.c.awaitsInput())
}

// awaitsInput reports whether libssl of the peer may still send messages of its own: a server its
// tickets, which come before its data, and a peer the answer to a message of this end.
func (c *Conn) awaitsInput() bool {
	return c.askedPeer.Load() || !c.server && !c.hasRead.Load() && c.lastCallResult().version == VersionTLS13
}

// noteAsked notes that the peer must answer. KeyUpdate and VerifyClientPostHandshake ask it. When a
// client answers in a Read, it may show its certificate, and then the server sends tickets. Nothing
// tells later whether the answer has come.
func (c *Conn) noteAsked(what op, r *callResult, wrote bool) {
	answers := what == opRead && wrote && !c.server && r.version == VersionTLS13
	if answers || r.err == nil && (what == opKeyUpdateAsk || what == opVerifyClient) {
		note(&c.askedPeer)
	}
}

// waitForReader takes readMu. On a transport without deadlines a Read may keep it, and reads what
// the peer sends. Then Close only waits until the peer has all data, if the system can tell.
func (e *orderlyClose) waitForReader() (ok bool, err error) {
	e.holdsReadMu = poll(firstLook, lastLook, e.c.readMu.TryLock, func() bool {
		_, unsent, known := e.queues.ask()
		switch {
		case !known || unsent == 0:
			return true
		case !time.Now().Before(e.limit):
			err = os.ErrDeadlineExceeded
			return true
		}
		return false
	})
	return e.holdsReadMu, err
}

// run ends the transport's output, and drops input until the peer has all data or has ended. readMu
// is held.
func (e *orderlyClose) run() error {
	sink := getBuffer(true)
	defer putBuffer(sink)
	half, ok := e.c.conn.(interface{ CloseWrite() error })
	halved := !ok || e.sendErr != nil
	for wait := firstLook; ; {
		before := e.dropped
		ended, err := e.dropInput(sink)
		if !halved && !ended && err == nil {
			halved = true
			_ = half.CloseWrite()
		}
		if !ended && err == nil {
			ended, err = e.readMore(min(wait, time.Until(e.limit)), sink)
		}
		switch {
		case ended:
			return nil
		case e.sendErr != nil && (err != nil || e.dropped == before):
			return e.sendErr
		case err != nil:
			return err
		}
		if over, err := e.isOver(); over {
			return err
		}
		if e.dropped == before {
			wait = min(2*wait, lastLook)
		}
	}
}

// isOver reports whether there is nothing more to wait for, or no time left.
func (e *orderlyClose) isOver() (over bool, err error) {
	unread, unsent, known := e.queues.ask()
	switch {
	case known && unsent == 0 && (unread == 0 || e.dropped > maxDropped):
		return true, nil
	case !known && e.dropped == 0 && e.looked && !e.c.awaitsInput():
		return true, nil
	case !known && e.dropped > maxDropped:
		return true, errGoesOn
	case !time.Now().Before(e.limit):
		return true, os.ErrDeadlineExceeded
	}
	return false, nil
}

// readMore reads input for some time. ended says that the peer sent close_notify, or that it ended
// without while output could still be sent.
func (e *orderlyClose) readMore(wait time.Duration, sink []byte) (ended bool, err error) {
	c := e.c
	if !c.in.eof {
		deadline := time.Now().Add(wait)
		e.setReadDeadline(deadline)
		e.looked = e.looked || time.Until(deadline) > wait/2 // a read that begins late sees nothing
		if err := c.in.fill(c.conn); err != nil && !isTimeout(err) {
			return false, err
		}
	}
	if ended, err = e.dropInput(sink); ended || err != nil || !c.in.eof {
		return ended, err
	}
	if e.sendErr != nil {
		return false, io.ErrUnexpectedEOF
	}
	return true, nil // libssl does not learn of it, since it would mark the session
}

// dropInput makes libssl read the input, so that tickets and alerts are not lost. It drops libssl's
// answers.
func (e *orderlyClose) dropInput(sink []byte) (ended bool, err error) {
	c := e.c
	if e.quiet {
		rest := len(c.in.buf) - c.in.used
		c.in.advance(rest)
		e.dropped += rest
		return false, nil
	}
	for c.readErr == nil {
		last := c.lastCallResult()
		in := c.in.ready(last.hasPartial)
		if len(in) == 0 && !last.hasPending {
			return false, nil
		}
		r, used, err := e.callSSL(opRead, in, false, sink[:cap(sink)])
		if err != nil {
			return false, err
		}
		if e.collected > maxEvents {
			return false, errGoesOn
		}
		c.dropOutput()
		switch {
		case r.sslError == C.SSL_ERROR_ZERO_RETURN:
			c.readErr = io.EOF
		case r.err != nil:
			c.readErr = r.err
		}
		c.in.advance(used)
		e.dropped += used
		if used == 0 && r.n == 0 && r.needsInput {
			return false, nil
		}
	}
	if c.readErr == io.EOF {
		return true, nil
	}
	return false, c.readErr
}

// dropOutput drops libssl's output.
func (c *Conn) dropOutput() {
	if c.lockWithin(&c.mu, waitLimit{what: opShutdown, closing: true}) == nil {
		defer c.mu.Unlock()
		putBuffer(c.out)
		c.out = nil
		c.noteOutput()
	}
}

// socketQueues tells how much data the system holds for a connection's transport.
type socketQueues struct {
	raw    syscall.RawConn // or nil
	resets bool            // it is TCP: with unread input, closing it drops unsent output
}

// queuesOf looks for the socket under a transport. A wrapper may hide the socket, but not its
// address.
func queuesOf(conn net.Conn) (q socketQueues) {
	if _, q.resets = conn.LocalAddr().(*net.TCPAddr); !q.resets {
		return q
	}
	for range maxWrappers {
		if socket, ok := conn.(syscall.Conn); ok {
			q.raw, _ = socket.SyscallConn()
			return q
		}
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return q
		}
		conn = inner.NetConn()
	}
	return q
}

// maxWrappers is how many wrappers of a socket queuesOf looks through. One that wraps itself has no
// end.
const maxWrappers = 10

// ask returns the number of unread bytes, and the number of bytes that the peer's system has not
// acknowledged. The end of the stream counts as one.
func (q socketQueues) ask() (unread, unsent int, known bool) {
	if q.raw == nil {
		return 0, 0, false
	}
	err := q.raw.Control(func(fd uintptr) { unread, unsent, known = queueSizes(fd) })
	return unread, unsent, known && err == nil
}
