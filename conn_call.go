// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// A connCall is one call of a method that moves ciphertext. It collects what libssl reports; finish
// then runs the hooks.
type connCall struct {
	c       *Conn
	closing bool            // the call is Close's
	ctx     context.Context // ends the wait for locks, too; nil: none
	limit   time.Time       // of Close
	fills   uint64          // how often the transport was read before errEarlyInput
	pending
	collected      int // how many events there were
	beforeProgress int // how many of these came before the last progress of a Write
}

// finish runs the hooks for the collected events. The caller holds no lock.
func (k *connCall) finish() error {
	p := k.pending
	k.pending = pending{}
	return k.c.runHooks(p)
}

// leave ends the use of the SSL. If that frees the SSL, libssl may report more.
func (k *connCall) leave() { k.add(pending{events: k.c.exit()}) }

// callResult is the outcome of a call into libssl.
type callResult struct {
	sslError   int // SSL_get_error
	n          int // plaintext bytes moved
	hasPending bool
	hasPartial bool
	wantsRoom  bool // libssl has the rest of a message for which there was no room
	needsInput bool // libssl needs more than it was given
	peerClosed bool // the peer sent close_notify, or the shutdown is quiet
	hasOutput  bool // there is ciphertext to send
	err        error
	reported   int // how many events there are for hooks; connCall has them

	version Version
	reused  bool
	cipher  *C.SSL_CIPHER

	withheld bool // a session was set, and the client did not offer it

	early     EarlyDataStatus
	earlyDone bool // there is no more early data to read

	earlyRefused error // why a client sends no early data: libssl was not called
}

// ended returns the error of a call that ended driveHandshake.
func (r *callResult) ended(what op) error {
	if r.err == nil && what == opReadEarlyData && r.earlyDone {
		return io.EOF
	}
	return r.err
}

// failure returns the error of a call that cannot continue. It is libssl's own error, if there is
// one. Otherwise a close_notify came too early, or SSL_get_error asks for a callback that the
// binding never sets.
func (r *callResult) failure(what op) error {
	if r.err != nil {
		return r.err
	}
	if r.sslError == C.SSL_ERROR_ZERO_RETURN {
		return fmt.Errorf("sslctx: %v: the peer sent close_notify: %w", what, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("sslctx: %v: SSL_get_error is %d", what, r.sslError)
}

// The calls that move ciphertext.
type op int

func (c op) String() string {
	return [...]string{"SSL_do_handshake", "SSL_do_handshake", "SSL_read_ex", "SSL_write_ex", "SSL_shutdown", "SSL_key_update",
		"SSL_key_update", "SSL_new_session_ticket", "SSL_renegotiate",
		"SSL_read_early_data", "SSL_write_early_data", "SSL_verify_client_post_handshake"}[c]
}

// isFatal reports whether an error of the call ends the connection. Other calls may be refused, and
// the connection continues.
func (c op) isFatal() bool { return c <= opShutdown || c.isEarly() }

// isEarly reports whether the call reads or writes early data.
func (c op) isEarly() bool { return c == opReadEarlyData || c == opWriteEarlyData }

// needsSlot reports whether the call needs a handshake slot.
func (c op) needsSlot() bool { return c == opHandshake || c.isEarly() }

const (
	opHandshake op = iota
	opContinue     // SSL_do_handshake after the handshake: it sends the rest of a message
	opRead
	opWrite
	opShutdown
	opKeyUpdate
	opKeyUpdateAsk
	opNewSessionTicket
	opRenegotiate
	opReadEarlyData
	opWriteEarlyData
	opVerifyClient
)

// callSSL makes each call into libssl that moves ciphertext. in is input from the transport, used
// is how much of it libssl took. Output of libssl is appended to c.out.
func (k *connCall) callSSL(what op, in []byte, eof bool, p []byte) (r callResult, used int, err error) {
	c := k.c
	ref, ok := c.enter()
	if !ok {
		return r, 0, ErrClosed
	}
	defer k.leave()
	limit := waitLimit{ctx: k.ctx, what: what, closing: k.closing}
	hookCtx := context.Background()
	if what.needsSlot() {
		hookCtx, limit.ctx, limit.handshake = c.handshakeCtx, c.handshakeCtx, true
	}
	if err := c.lock(ref, limit, c.slotNeeds(what)); err != nil {
		return r, 0, err
	}
	defer c.unlock(ref)
	c.hookCtx = hookCtx
	if what.needsSlot() {
		if err := c.checkStart(ref); err != nil {
			return r, 0, err
		}
	}
	if what == opShutdown && (c.fatal != nil || !c.handshakeDone.Load()) {
		if !k.closing {
			r.err = c.fatal
		}
		return r, 0, nil
	}
	if c.refused != nil && what != opShutdown {
		r = c.lastCallResult()
		r.sslError, r.n, r.hasPending, r.reported, r.err = C.SSL_ERROR_SSL, 0, false, 0, c.refused
		return r, 0, nil
	}
	c.reserveOutput(what == opWrite)
	if what == opWriteEarlyData {
		c.out = slices.Grow(c.out, earlyRoom) // libssl must not stop in the middle of a piece
	}
	c.noteTrust()
	if what == opNewSessionTicket && ref.p.no_resumption != 0 {
		return r, 0, ErrUnverifiedSession
	}
	waiting := len(c.out)
	r, used = k.runOp(what, ref.p, in, eof, p)
	c.readPeer(ref, &r, waiting)
	if what.needsSlot() {
		c.handshakeBytes += used
	}
	if len(c.out) == 0 { // an idle connection keeps no buffer
		putBuffer(c.out)
		c.out = nil
	}
	c.noteOutput()
	c.noteAsked(what, &r, len(c.out) > waiting)
	c.keepOutcome(ref, r)
	c.started = c.started || r.earlyRefused == nil
	c.wasEarly = c.wasEarly || what.isEarly() && r.earlyRefused == nil
	begun := what == opRenegotiate && r.n > 0
	if what == opShutdown && r.sslError == C.SSL_ERROR_NONE {
		c.closeNotifyMade.Store(true)
	}
	late := c.closeNotifyMade.Load() && isShutdown(r.err) // the connection continues
	if c.fatal == nil && (what.isFatal() || begun) && !late {
		c.fatal, c.fatalByClose = r.err, c.upcalls.closed
	}
	c.sslCalls++
	return r, used, nil
}

// isShutdown reports whether libssl says that it takes no more data. It asks no error of a hook's, since
// locks are held.
func isShutdown(err error) bool {
	e, ok := err.(*Error)
	return ok && e.Is(ReasonProtocolIsShutdown)
}

// runOp calls libssl.
func (k *connCall) runOp(what op, s *C.shim_conn, in []byte, eof bool, p []byte) (r callResult, used int) {
	c := k.c
	room := c.out[len(c.out):cap(c.out)]
	inP, inN := bytesPointer(in), C.size_t(len(in))
	outP, outN := bytesPointer(room), C.size_t(len(room))
	s.in_eof = boolInt(eof)
	s.may_suspend = boolInt(what == opHandshake && !c.handshakeDone.Load())
	hooks := c.hooks.table.Load()
	if c.server {
		s.ask_hello = hooks.askHello()
		s.hello_answered = boolInt(c.helloAnswered)
	}
	if s.upcalls = c.answers(hooks); s.upcalls != 0 {
		defer c.passHandle()()
	}
	c.upcalls.err, c.upcalls.closed, c.upcalls.identities = nil, false, [upcallKinds]int{}
	switch what {
	case opHandshake, opContinue:
		C.shim_SSL_do_handshake(s, inP, inN, outP, outN)
	case opRead:
		C.shim_SSL_read(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case opWrite:
		outN = min(outN, writeRoom)
		C.shim_SSL_write(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case opShutdown:
		C.shim_SSL_shutdown(s, inP, inN, outP, outN)
	case opKeyUpdate, opKeyUpdateAsk:
		C.shim_SSL_key_update(s, outP, outN, boolInt(what == opKeyUpdateAsk))
	case opNewSessionTicket:
		C.shim_SSL_new_session_ticket(s, outP, outN)
	case opRenegotiate:
		C.shim_SSL_renegotiate(s, outP, outN)
	case opVerifyClient:
		C.shim_SSL_verify_client_post_handshake(s, outP, outN)
	case opReadEarlyData:
		C.shim_SSL_read_early_data(s, inP, inN, outP, outN, bytesPointer(p), C.size_t(len(p)))
	case opWriteEarlyData:
		C.shim_SSL_write_early_data(s, outP, outN, bytesPointer(p), C.size_t(len(p)))
	}
	c.out = c.out[:len(c.out)+int(s.out_len)]
	r = callResult{
		sslError:   int(s.ssl_error),
		n:          int(s.n),
		hasPending: s.pending != 0,
		hasPartial: s.partial != 0,
		wantsRoom:  s.wants_room != 0,
		needsInput: s.starved != 0,
		peerClosed: s.received != 0,
		hasOutput:  len(c.out) > 0,
		version:    Version(s.version),
		reused:     s.reused != 0,
		cipher:     s.cipher,
		withheld:   s.withheld != 0,
		early:      EarlyDataStatus(s.early_data),
		earlyDone:  s.early_end != 0,
	}
	reported := pending{s.events, c.hookEnd, lostError(s.lost)}
	s.events, c.hookEnd = nil, nil
	r.reported = reported.count()
	k.collected += r.reported
	k.add(reported)
	if what == opWriteEarlyData && s.early_refused != 0 {
		r.earlyRefused = noEarlyData(s.errs)
		s.errs = nil
	}
	failed := r.sslError == C.SSL_ERROR_SSL || r.sslError == C.SSL_ERROR_SYSCALL
	switch {
	// After a fatal alert of the peer, libssl reports a clean end for further calls, or on 4.0 a
	// failure without a reason.
	case c.fatal != nil && s.errs == nil && (failed || r.sslError == C.SSL_ERROR_ZERO_RETURN):
		r.sslError, r.err = C.SSL_ERROR_SSL, c.fatal
	case failed:
		r.err = c.upcalls.wrapHookError(c.explain(s, resultError(what, s.errs, eof)))
		s.errs = nil
	}
	return r, int(s.in_used)
}

// resultError makes the error of a failed call. A transport that ended without close_notify is
// io.ErrUnexpectedEOF itself: OpenSSL 1.1.1 queues nothing for it, and 3.0 queues just that reason.
// Any other reason is added.
func resultError(what op, errs *C.shim_err, eof bool) error {
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

// reserveOutput makes room in c.out behind the output that waits there: for a record of the largest
// size, or for a message of libssl's own. The output that waits has a limit.
func (c *Conn) reserveOutput(writes bool) {
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

// isOpen reports whether c was made and is not closed.
func (c *Conn) isOpen() bool { return c != nil && c.state.Load() >= stateOpen }

// mustExist panics for a nil or zero Conn. Methods that answer after Close begin with it.
func (c *Conn) mustExist() {
	if c == nil || c.conn == nil {
		panic(closedConn)
	}
}

const closedConn = "sslctx: use of a closed or nil Conn"

func (c *Conn) lastCallResult() callResult {
	c.resultMu.Lock()
	defer c.resultMu.Unlock()
	return c.lastResult
}

// keepOutcome keeps the result of a call. If the call ended a handshake, it also keeps what the
// handshake agreed on. It stores all at once, so that no reader gets values of two handshakes. It
// calls no C. c.mu is held.
func (c *Conn) keepOutcome(ref connRef, r callResult) {
	var a *agreed
	if ref.p.agreed != 0 {
		a = c.noted(ref.p)
	}
	c.resultMu.Lock()
	defer c.resultMu.Unlock()
	if last := &c.lastResult; c.refused != nil { // a handshake that is refused changes no state
		r.version, r.reused, r.cipher, a = last.version, last.reused, last.cipher, nil
	}
	c.lastResult, c.lastPeer = r, c.peer
	if a == nil {
		return
	}
	if c.agreed != nil { // a renegotiation agrees on no protocol: that of the first handshake stays
		a.protocol = c.agreed.protocol
		a.early = a.early || c.agreed.early
	}
	c.agreed = a
}

// outcome returns the result of the last call, the peer, and what the last complete handshake
// agreed on. a is nil before the first handshake is complete.
func (c *Conn) outcome() (r callResult, p peer, a *agreed) {
	c.resultMu.Lock()
	defer c.resultMu.Unlock()
	return c.lastResult, c.lastPeer, c.agreed
}

// begin enters the SSL for a call that moves no ciphertext; end leaves it. If another call
// configures a context of the connection, begin waits for that call, until Close.
func (c *Conn) begin() (connRef, error) { return c.beginWithin(waitLimit{untilClosed: true}) }

// beginWithin is begin with a limit.
func (c *Conn) beginWithin(limit waitLimit) (connRef, error) {
	if c == nil {
		return connRef{}, ErrClosed
	}
	r, ok := c.enter()
	if !ok {
		return connRef{}, ErrClosed
	}
	if err := c.lock(r, limit, 0); err != nil {
		_ = c.runHooks(pending{events: c.exit()})
		return connRef{}, err
	}
	return r, nil
}

// beginUnlessRefused is begin for a method that reads the result of a handshake. If the binding has
// refused the peer, it returns the reason. For libssl that handshake is complete, and libssl would
// return values of the refused peer.
func (c *Conn) beginUnlessRefused() (connRef, error) {
	r, err := c.begin()
	if err != nil {
		return connRef{}, err
	}
	if refused := c.refused; refused != nil {
		c.end(r)
		return connRef{}, refused
	}
	return r, nil
}

// beginSetup is begin for setters that must come before the handshake.
func (c *Conn) beginSetup() (connRef, error) {
	r, err := c.begin()
	if err == nil && c.started {
		c.end(r)
		return connRef{}, ErrHandshakeStarted
	}
	return r, err
}

func (c *Conn) end(r connRef) {
	c.unlock(r)
	_ = c.runHooks(pending{events: c.exit()})
}

// exit leaves the SSL. If that frees the SSL, it returns what libssl reported.
func (c *Conn) exit() (events *C.shim_event) {
	c.leave(func(r connRef) { events = c.free(r, time.Now().Add(closeMoment)) })
	return events
}

// runHooks runs hooks for what libssl reported. The caller holds no lock.
func (c *Conn) runHooks(n pending) (err error) {
	if n.events != nil {
		d := dispatcher{events: n.events, conn: c, sessionTarget: hookTarget{hooks: c.hooks, ctx: c.p.ctxs.sessionCtx},
			currentTarget: c.currentTarget.Load()}
		err = d.run()
	}
	if err == nil {
		err = n.lostErr
	}
	if n.hookEnd != nil {
		n.hookEnd()
	}
	return err
}
