// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// maxHeard is how many events, such as new sessions, Close keeps to report. A server that sends more tickets after its
// client has closed means no good.
const maxHeard = 1000

// maxDropped is how much of what a peer sends Close drops when time alone could end it: what answers to a
// close_notify is no more than that.
const maxDropped = 256 << 10

var (
	errNoCloseNotify = errors.New("close_notify cannot be sent in a renegotiation")
	errGoesOn        = errors.New("the peer goes on sending")
)

// An orderlyClose is a Close under way: what it does so that closing the transport loses nothing that was written.
type orderlyClose struct {
	*connCall
	limit   time.Time
	sendErr error // why close_notify could not be sent: the peer is gone, and may have closed in good order before

	queues      socketQueues
	holdsReadMu bool // readMu is held
	hadInput    bool // there was input that nobody had read
	quiet       bool // the shutdown is, and libssl reads no more
	dropped     int
	eventCount  int // events
}

// begin reads what has arrived, if anything was written that closing the transport could lose.
func (e *orderlyClose) begin() {
	c := e.c
	if !c.hasWritten.Load() {
		return
	}
	e.queues = queuesOf(c.conn)
	if e.holdsReadMu = e.takeReads(); !e.holdsReadMu || c.readErr != nil {
		return
	}
	if unread, _, known := e.queues.ask(); known && unread > 0 {
		e.hadInput = true
		_ = c.conn.SetReadDeadline(e.limit) // a transport that is a record layer may wait for more
		_ = c.in.fill(c.conn)               // what is wrong comes to light later
	}
}

// takeReads takes readMu from a Read, which endReads ends; but not for long, for the transport may ignore that.
func (e *orderlyClose) takeReads() bool {
	until := time.Now().Add(closeMoment)
	return poll(firstMoment, lastLook, e.c.readMu.TryLock, func() bool { return !time.Now().Before(until) })
}

// input is what libssl reads and forgets once it has made close_notify.
func (e *orderlyClose) input() []byte {
	if !e.hadInput || e.c.readErr != nil {
		return nil
	}
	return e.c.in.ready(e.c.lastCallResult().hasPartial)
}

func (e *orderlyClose) end() {
	if e.holdsReadMu {
		e.holdsReadMu = false
		e.c.unlockRead()
	}
}

// waitDelivered waits until closing the transport loses nothing, if there is a danger. shut is the crossing that made
// close_notify. An error says why something may be lost.
func (e *orderlyClose) waitDelivered(shut *callResult, used int) error {
	c := e.c
	if e.holdsReadMu {
		c.in.advance(used)
		e.dropped += used
		switch {
		case shut.peerClosed && used > 0:
			c.readErr = io.EOF
		case shut.peerClosed && c.readErr == nil:
			e.quiet = true
		}
	}
	switch {
	case !c.hasWritten.Load() || errors.Is(e.sendErr, net.ErrClosed): // nothing, or the caller closed the transport
		return nil
	case hasReason(shut.err):
		return shut.err
	case shut.err != nil || c.hasFailed(): // before, and the caller knows
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

// hasReason reports whether libssl says why. Without a reason it repeats that something had failed.
func hasReason(err error) bool {
	var e *Error
	return err != nil && errors.As(err, &e) && len(e.Stack) > 0
}

// hasFailed reports whether libssl said that the connection has failed.
func (c *Conn) hasFailed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fatal != nil
}

// inDanger reports whether the transport may hold input that nobody has read, by which closing it loses what it has
// not sent.
func (e *orderlyClose) inDanger() bool {
	unread, unsent, known := e.queues.ask()
	if !known {
		return e.queues.resets
	}
	return unread > 0 || unsent > 0 && (e.hadInput || e.c.awaitsTickets())
}

// awaitsTickets reports whether a server may be sending tickets: they come before its data.
func (c *Conn) awaitsTickets() bool {
	return !c.server && !c.hasRead.Load() && c.lastCallResult().version == VersionTLS13
}

// waitForReader takes readMu. A Read that keeps it, on a transport without deadlines, reads what the peer sends: then Close
// only waits until the peer has all, where it can know that.
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

// run has the peer know that nothing follows, and drops what comes, until the peer has all or has ended. readMu is
// held.
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

// isOver reports whether there is nothing more to wait for, or no more time for it.
func (e *orderlyClose) isOver() (over bool, err error) {
	unread, unsent, known := e.queues.ask()
	switch {
	case known && unsent == 0 && (unread == 0 || e.dropped > maxDropped):
		return true, nil
	case !known && e.dropped == 0 && !e.c.awaitsTickets():
		return true, nil
	case !known && e.dropped > maxDropped:
		return true, errGoesOn
	case !time.Now().Before(e.limit):
		return true, os.ErrDeadlineExceeded
	}
	return false, nil
}

// readMore reads what comes within some time. ended says that the peer has ended in good order, or, when it could still
// be sent to, at all.
func (e *orderlyClose) readMore(wait time.Duration, sink []byte) (ended bool, err error) {
	c := e.c
	if !c.in.eof {
		_ = c.conn.SetReadDeadline(time.Now().Add(wait)) // what is wrong with it the read will say
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
	return true, nil // libssl is not told: it would take it for a bad end of the session
}

// dropInput has libssl read what has arrived: so tickets are not lost, and alerts are heard. What libssl would answer is
// dropped.
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
		e.eventCount += r.reported
		if err != nil {
			return false, err
		}
		if e.eventCount > maxHeard {
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

// dropOutput forgets what libssl has to send.
func (c *Conn) dropOutput() {
	c.mu.Lock()
	defer c.mu.Unlock()
	putBuffer(c.out)
	c.out = nil
}

// socketQueues tells what the system holds of a connection's transport.
type socketQueues struct {
	raw    syscall.RawConn // or nil
	resets bool            // it is TCP: with input that nobody has read, closing it drops what is not sent
}

// queuesOf looks for the socket under a transport. What wraps one may hide it, but not its address.
func queuesOf(conn net.Conn) (q socketQueues) {
	if _, q.resets = conn.LocalAddr().(*net.TCPAddr); !q.resets {
		return q
	}
	for {
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
}

// ask returns how many bytes have arrived that nobody has read, and how many the peer's system has not
// acknowledged, the end of the stream counted as one.
func (q socketQueues) ask() (unread, unsent int, known bool) {
	if q.raw == nil {
		return 0, 0, false
	}
	err := q.raw.Control(func(fd uintptr) { unread, unsent, known = askSocket(fd) })
	return unread, unsent, known && err == nil
}
