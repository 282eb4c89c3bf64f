// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// crossing is what a call into libssl came to.
type crossing struct {
	verdict int // SSL_get_error
	n       int // plaintext bytes moved
	pending bool
	partial bool
	starved bool // libssl needs more than it was given
	closed  bool // the peer's close_notify has come, or the shutdown is quiet
	sends   bool // there is ciphertext to send
	err     error
	news    news // whoever crossed delivers it

	version Version
	reused  bool
	cipher  *C.SSL_CIPHER

	early EarlyDataStatus
	over  bool // there is no more early data to read

	noEarly error // why a client sends no early data; then libssl was not called
}

// The calls that move ciphertext.
type call int

const (
	callHandshake call = iota
	callRead
	callWrite
	callShutdown
	callKeyUpdate
	callKeyUpdateAsk
	callNewSessionTicket
	callRenegotiate
	callReadEarlyData
	callWriteEarlyData
	callVerifyClient
)

func (c call) String() string {
	return [...]string{"SSL_do_handshake", "SSL_read_ex", "SSL_write_ex", "SSL_shutdown", "SSL_key_update",
		"SSL_key_update", "SSL_new_session_ticket", "SSL_renegotiate",
		"SSL_read_early_data", "SSL_write_early_data", "SSL_verify_client_post_handshake"}[c]
}

// fatal reports whether an error of the call is the end of the connection, and not a refusal to begin.
func (c call) fatal() bool { return c <= callShutdown || c.early() }

// early reports whether the call is of the handshake, and of the data before it is over.
func (c call) early() bool { return c == callReadEarlyData || c == callWriteEarlyData }

// shakes reports whether the call needs a slot among the handshakes.
func (c call) shakes() bool { return c == callHandshake || c.early() }

// cross is the only way into libssl for what moves ciphertext. in is what arrived, used how much of it
// libssl took; what libssl has to send is appended to c.out.
func (c *Conn) cross(what call, in []byte, eof bool, p []byte) (r crossing, used int, err error) {
	ref, ok := c.enter()
	if !ok {
		return r, 0, ErrClosed
	}
	defer func() { r.news = r.news.and(news{told: c.exit()}) }()
	if !c.lockMu(what) {
		return r, 0, os.ErrDeadlineExceeded
	}
	defer c.mu.Unlock()
	if what.shakes() {
		if err := c.mayBegin(ref); err != nil {
			return r, 0, err
		}
	}
	if what == callShutdown && (c.fatal != nil || !c.done.Load()) {
		return r, 0, nil
	}
	c.reserve(what == callWrite)
	if what == callWriteEarlyData {
		c.out = slices.Grow(c.out, earlyRoom) // libssl must not stop in the middle
	}
	if err := c.lockFor(what, ref); err != nil {
		return r, 0, err
	}
	waiting := len(c.out)
	r, used = c.run(what, ref.p, in, eof, p)
	c.meetPeer(ref, &r, waiting)
	ref.h.runlock()
	c.slot.release()
	if what.shakes() {
		c.handshakeBytes += used
	}
	if len(c.out) == 0 { // an idle connection keeps no buffer
		putBuffer(c.out)
		c.out = nil
	}
	c.last = r
	c.last.news = news{}
	c.started = c.started || r.noEarly == nil
	c.wasEarly = c.wasEarly || what.early() && r.noEarly == nil
	begun := what == callRenegotiate && r.n > 0
	if what == callShutdown && r.verdict == C.SSL_ERROR_NONE {
		c.notified.Store(true)
	}
	late := c.notified.Load() && errors.Is(r.err, ReasonProtocolIsShutdown) // a refusal
	if c.fatal == nil && (what.fatal() || begun) && !late {
		c.fatal = r.err
	}
	c.crossings++
	return r, used, nil
}

// lockMu is mu.Lock; for CloseWrite no longer than its limit, for a crossing may wait for a hook.
func (c *Conn) lockMu(what call) bool {
	if c.mu.TryLock() {
		return true
	}
	c.deadlineMu.Lock()
	limited, until := c.limited, c.writeDeadline
	c.deadlineMu.Unlock()
	if what != callShutdown || !limited {
		c.mu.Lock()
		return true
	}
	return poll(firstLook, lastLook, c.mu.TryLock, func() bool { return !time.Now().Before(until) })
}

// lockFor holds the gates for a crossing, and a slot for a handshake.
func (c *Conn) lockFor(what call, r connRef) error {
	c.hookParent = context.Background()
	if !what.shakes() {
		return c.lockGates(what, r)
	}
	if c.handshakeCtx != nil {
		c.hookParent = c.handshakeCtx
	}
	return c.takeSlot(r)
}

// run makes the crossing.
func (c *Conn) run(what call, s *C.shim_conn, in []byte, eof bool, p []byte) (r crossing, used int) {
	room := c.out[len(c.out):cap(c.out)]
	inP, inN := bytesPointer(in), C.size_t(len(in))
	outP, outN := bytesPointer(room), C.size_t(len(room))
	s.in_eof = boolInt(eof)
	s.may_suspend = boolInt(what == callHandshake && !c.done.Load())
	if c.server {
		s.ask_hello = c.hooks.askHello()
		if c.hooks.getSession.Load() != nil {
			defer c.lend(&s.get_hook)()
		}
	}
	if c.answers() {
		defer c.lend(&s.ask)()
	}
	c.asked.err, c.asked.identities = nil, 0
	if c.psk != nil {
		defer c.lend(&s.psk_hook)()
	}
	switch what {
	case callHandshake:
		C.shim_SSL_do_handshake(s, inP, inN, outP, outN)
	case callRead:
		C.shim_SSL_read(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case callWrite:
		outN = min(outN, writeRoom)
		C.shim_SSL_write(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case callShutdown:
		C.shim_SSL_shutdown(s, inP, inN, outP, outN)
	case callKeyUpdate, callKeyUpdateAsk:
		C.shim_SSL_key_update(s, outP, outN, boolInt(what == callKeyUpdateAsk))
	case callNewSessionTicket:
		C.shim_SSL_new_session_ticket(s, outP, outN)
	case callRenegotiate:
		C.shim_SSL_renegotiate(s, outP, outN)
	case callVerifyClient:
		C.shim_SSL_verify_client_post_handshake(s, outP, outN)
	case callReadEarlyData:
		C.shim_SSL_read_early_data(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case callWriteEarlyData:
		C.shim_SSL_write_early_data(s, outP, outN, bytesPointer(p), C.size_t(len(p)))
	}
	c.out = c.out[:len(c.out)+int(s.out_len)]
	r = crossing{
		verdict: int(s.ssl_error),
		n:       int(s.n),
		pending: s.pending != 0,
		partial: s.partial != 0,
		starved: s.starved != 0,
		closed:  s.received != 0,
		sends:   len(c.out) > 0,
		version: Version(s.version),
		reused:  s.reused != 0,
		cipher:  s.cipher,
		early:   EarlyDataStatus(s.early_data),
		over:    s.early_end != 0,
		news:    news{s.events, c.hookEnd, lostError(s.lost)},
	}
	s.events, c.hookEnd = nil, nil
	if what == callWriteEarlyData && s.early_refused != 0 {
		r.noEarly = noEarlyData(s.errs)
		s.errs = nil
	}
	failed := r.verdict == C.SSL_ERROR_SSL || r.verdict == C.SSL_ERROR_SYSCALL
	switch {
	// After a fatal alert of the peer libssl says of further calls that the peer closed in good order, or
	// (4.0) that they failed, and not why.
	case c.fatal != nil && s.errs == nil && (failed || r.verdict == C.SSL_ERROR_ZERO_RETURN):
		r.verdict, r.err = C.SSL_ERROR_SSL, c.fatal
	case failed:
		r.err = c.asked.because(c.explain(s, crossingError(what, s.errs, eof)))
		s.errs = nil
	}
	return r, int(s.in_used)
}

// crossingError makes the error of a fatal verdict. A transport that ended without close_notify is
// io.ErrUnexpectedEOF itself: older versions have no more to say of it, and newer ones (3.0) say the same. Only
// what else they say is added.
func crossingError(what call, errs *C.shim_err, eof bool) error {
	if errs == nil && eof {
		return io.ErrUnexpectedEOF
	}
	err := newError(what.String(), errs)
	if !eof || !errors.Is(err, ReasonUnexpectedEOFWhileReading) {
		return err
	}
	if e := (*Error)(nil); errors.As(err, &e) && len(e.Stack) == 1 {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w (%w)", io.ErrUnexpectedEOF, err)
}

// reserve makes room for ciphertext in c.out, behind what waits there: for a record of the largest size, or
// for a message of libssl's own. There is a limit to what may wait.
func (c *Conn) reserve(writes bool) {
	need := messageRoom
	if writes || c.padded {
		need = recordRoom
	}
	if c.out == nil {
		c.out = getBuffer(need == recordRoom)
	}
	if cap(c.out)-len(c.out) >= need || len(c.out) >= largeBuffer {
		return
	}
	if cap(c.out) == smallBuffer {
		grown := append(getBuffer(true), c.out...)
		putBuffer(c.out)
		c.out = grown
		return
	}
	c.out = slices.Grow(c.out, need)
}
