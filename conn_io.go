// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// flush sends what libssl left in c.out. writeMu is held. What a timeout leaves unsent stays there, for
// records must arrive whole and in order; after any other error nothing can follow, and it is dropped.
func (c *Conn) flush() error {
	for {
		if !c.lockMu(opShutdown) { // nobody else has a limit
			return os.ErrDeadlineExceeded
		}
		out := c.out
		c.out = nil
		c.mu.Unlock()
		if len(out) == 0 {
			return c.writeErr
		}
		if c.writeErr == nil {
			n, err := c.conn.Write(out)
			if isTimeout(err) {
				c.requeue(out[n:])
				return err
			}
			c.writeErr = err
		}
		putBuffer(out)
	}
}

// requeue puts ciphertext back before what libssl has made since.
func (c *Conn) requeue(rest []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(rest, c.out...)
}

func isTimeout(err error) bool {
	if err == nil { // what errors.As is given is allocated
		return false
	}
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// unlockWrite gives writeMu back, and sends what a reader left behind because it was held.
func (c *Conn) unlockWrite() {
	for {
		c.writeMu.Unlock()
		if !c.hasOutput() || !c.writeMu.TryLock() {
			return
		}
		if c.flush() != nil { // it is the next Write's error; after a timeout the rest must stay
			c.writeMu.Unlock()
			return
		}
	}
}

// hasOutput reports whether there is something to send, and nobody else who will: a crossing that waits, for a hook or
// for the gates, is a reader's, who sends when it is over.
func (c *Conn) hasOutput() bool {
	if !poll(firstMoment, lastLook, c.mu.TryLock, func() bool { return c.inHook.Load() || c.waitsForConfig.Load() }) {
		return false
	}
	defer c.mu.Unlock()
	return len(c.out) > 0
}

// flushFromRead sends what a read made libssl answer. A writer that is at it sends it too: waiting for
// that one could make both peers wait for each other. Only when libssl has no room left must it be.
func (c *Conn) flushFromRead(must bool) error {
	if must {
		c.writeMu.Lock()
	} else if !c.writeMu.TryLock() {
		return nil
	}
	defer c.unlockWrite()
	return c.flush()
}

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

// ended is the error of a crossing of shake that came to an end.
func (r *callResult) ended(what op) error {
	if r.err == nil && what == opReadEarlyData && r.earlyDone {
		return io.EOF
	}
	return r.err
}

// failure is the error of a crossing that did not get on: libssl's, or one for the peer's close_notify where it
// is no proper end, or for verdicts that need callbacks which the binding does not set.
func (r *callResult) failure(what op) error {
	if r.err != nil {
		return r.err
	}
	if r.sslError == C.SSL_ERROR_ZERO_RETURN {
		return fmt.Errorf("sslctx: %v: the peer sent close_notify: %w", what, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("sslctx: %v: SSL_get_error is %d", what, r.sslError)
}

// Read reads plaintext, after the handshake. It returns io.EOF when the peer sent close_notify, and
// io.ErrUnexpectedEOF when the transport ended without. What libssl answers the peer meanwhile is a write: the
// deadline for writes bounds it.
//
// Wraps [SSL_read_ex].
//
// [SSL_read_ex]: https://docs.openssl.org/3.0/man3/SSL_read/
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	k := connCall{c: c}
	for {
		n, err := k.read(p)
		if k.any() {
			if hookErr := k.finishRead(p[:n]); err == nil {
				err = hookErr
			}
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// finishRead is finish for a Read. If a hook panics, the plaintext is the next Read's.
func (k *connCall) finishRead(got []byte) error {
	defer func() { _ = k.c.flushFromRead(false) }()
	return k.finishKeeping(got, &k.c.keptRead)
}

// finishKeeping is finish for a call that has data to return. If a hook panics, kept has the data for the next call.
func (k *connCall) finishKeeping(got []byte, kept *keptData) error {
	returned := false
	defer func() {
		if !returned && len(got) > 0 {
			kept.put(got)
		}
	}()
	err := k.finish()
	returned = true
	return err
}

// read waits for plaintext, the end, or for something that libssl reports. A Read comes back for more: the
// peer's next record may be long in coming.
func (k *connCall) read(p []byte) (n int, err error) {
	c := k.c
	if n := c.keptRead.take(p); n > 0 { // also while another Read waits for the transport
		return n, nil
	}
	if err := c.lockRead(); err != nil {
		return 0, err
	}
	defer c.unlockRead()
	if n := c.readAhead.take(p); n > 0 {
		return n, nil
	}
	for c.readErr == nil {
		if n := c.keptRead.take(p); n > 0 {
			return n, nil
		}
		if c.closeBegun.Load() {
			return 0, ErrClosed
		}
		n, err := k.readBuffered(p)
		if n > 0 || k.any() || err != nil {
			return n, err
		}
		if c.readErr != nil {
			break
		}
		if c.leftUnsent() { // an answer that met a deadline for writes, which may have been lifted
			_ = c.flushFromRead(false)
		}
		if err := c.in.fill(c.conn); err != nil {
			return 0, c.readEnd(err)
		}
	}
	return 0, c.readErr
}

// readBuffered reads what has arrived, if there is any. A fatal verdict becomes readErr, which is what
// follows the plaintext that came before it.
func (k *connCall) readBuffered(p []byte) (n int, err error) {
	c := k.c
	for {
		in, ok := c.readable()
		if !ok {
			return 0, nil
		}
		r, used, err := k.callSSL(opRead, in, c.in.eof, p)
		if err != nil {
			return 0, err
		}
		c.in.advance(used)
		if r.n > 0 {
			note(&c.hasRead)
		}
		c.notifier.Broadcast()
		full := r.sslError == C.SSL_ERROR_WANT_WRITE && r.n == 0
		if (r.hasOutput || full) && r.reported == 0 { // hooks come first
			if err := c.flushFromRead(full); err != nil && full {
				return 0, err // otherwise it is the next Write's
			}
		}
		switch r.sslError {
		case C.SSL_ERROR_NONE:
		case C.SSL_ERROR_WANT_READ: // without ModeAutoRetry also after a message that is no data
			if r.n == 0 && (used > 0 || !r.needsInput) {
				continue
			}
		case C.SSL_ERROR_WANT_WRITE:
			if r.n == 0 {
				continue
			}
		case C.SSL_ERROR_ZERO_RETURN:
			c.readErr = io.EOF
		default:
			c.readErr = r.failure(opRead)
		}
		return r.n, nil
	}
}

// readable reports whether a read would get on without more from the transport, and with what input.
func (c *Conn) readable() (in []byte, ok bool) {
	last := c.lastCallResult()
	in = c.in.ready(last.hasPartial)
	return in, len(in) > 0 || last.hasPending || c.in.eof
}

func (c *Conn) leftUnsent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out) > 0
}

func (c *Conn) lastCallResult() callResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastResult
}

// Write writes plaintext, after the handshake. When the deadline passes, n is how much of p libssl took:
// it is sent before what comes next, and writing goes on after SetWriteDeadline. After any other error
// part of a record may be lost, and all further writes fail. After CloseWrite it is an *Error with
// ReasonProtocolIsShutdown, and reading goes on.
//
// After a Write that failed the peer does not have all that was meant for it. So it gets no close_notify, by which
// it would take what it has for the whole, unless a further Write succeeds: see [Conn.Close].
//
// Wraps [SSL_write_ex].
//
// [SSL_write_ex]: https://docs.openssl.org/3.0/man3/SSL_write/
func (c *Conn) Write(p []byte) (n int, err error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	c.writing.Add(1)
	defer c.writing.Add(-1)
	k := connCall{c: c}
	n, err = k.write(p)
	hookErr := k.finish()
	if err == nil {
		err = hookErr
	}
	return n, err
}

func (k *connCall) write(p []byte) (n int, err error) {
	c := k.c
	c.turnMu.Lock()
	defer c.turnMu.Unlock()
	n, err = k.writeAll(p)
	c.noteWritten(n, len(p), err)
	return n, err
}

// noteWritten notes what a Write came to. turnMu is held, or it is before the end of the handshake.
func (c *Conn) noteWritten(n, of int, err error) {
	if n > 0 {
		note(&c.hasWritten)
	}
	if cut := err != nil; of > 0 && cut != c.writeFailed.Load() && !c.closeNotifyMade.Load() {
		c.writeFailed.Store(cut)
	}
}

// note sets b. Most often it is set, and then nothing is written that other processors would have to read again.
func note(b *atomic.Bool) {
	if !b.Load() {
		b.Store(true)
	}
}

func (k *connCall) writeAll(p []byte) (n int, err error) {
	c := k.c
	c.writeMu.Lock()
	defer c.unlockWrite()
	var rung <-chan struct{}
	for len(p) > 0 {
		if err := c.readyToWrite(); err != nil {
			return n, err
		}
		r, _, err := k.callSSL(opWrite, nil, false, p)
		if err != nil {
			return n, err
		}
		if err := c.flush(); err != nil {
			if isTimeout(err) {
				n += r.n
			}
			return n, err
		}
		n += r.n
		p = p[r.n:]
		switch r.sslError {
		case C.SSL_ERROR_NONE, C.SSL_ERROR_WANT_WRITE:
		case C.SSL_ERROR_WANT_READ:
			if err := k.awaitRead(&rung); err != nil {
				return n, err
			}
		case C.SSL_ERROR_ZERO_RETURN:
			return n, unfinished(io.EOF)
		default:
			err := r.failure(opWrite)
			if c.closeNotifyMade.Load() && errors.Is(err, ReasonProtocolIsShutdown) {
				return n, err // by CloseWrite, which ends writing alone
			}
			c.writeErr = err
		}
	}
	return n, c.writeErr
}

// readyToWrite sends what an earlier timeout left, and reports a deadline that has passed already: what
// libssl takes is on its way, and cannot be taken back.
func (c *Conn) readyToWrite() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.writeDeadlinePassed() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// KeyUpdate changes the keys of what this end sends (TLS 1.3), and asks the peer to do the same if
// askPeer is set. In TLS 1.2 it is an *Error.
//
// Wraps [SSL_key_update].
//
// [SSL_key_update]: https://docs.openssl.org/3.0/man3/SSL_key_update/
func (c *Conn) KeyUpdate(askPeer bool) error {
	if askPeer {
		return c.post(opKeyUpdateAsk)
	}
	return c.post(opKeyUpdate)
}

// NewSessionTicket sends one more session ticket to the client (TLS 1.3 servers). The client has it after
// a Read. Elsewhere it is an *Error; before OpenSSL 3.0 it is ErrUnsupported.
//
// Wraps [SSL_new_session_ticket].
//
// [SSL_new_session_ticket]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_num_tickets/
func (c *Conn) NewSessionTicket() error {
	if !hasNewSessionTicket {
		return fmt.Errorf("SSL_new_session_ticket: %w 3.0", ErrUnsupported)
	}
	return c.post(opNewSessionTicket)
}

// post sends a message of libssl's, after the handshake.
func (c *Conn) post(what op) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	return c.send(what)
}

// send has libssl make a message, and sends it.
func (c *Conn) send(what op) error {
	k := connCall{c: c}
	err := k.callAndFlush(what)
	if hookErr := k.finish(); err == nil {
		err = hookErr
	}
	return err
}

func (k *connCall) callAndFlush(what op) (err error) {
	c := k.c
	if what != opShutdown {
		c.turnMu.Lock()
	} else if err := c.lockTurnForCloseWrite(); err != nil {
		return err
	}
	defer c.turnMu.Unlock()
	if what == opShutdown {
		defer c.endLimit() // the limit belongs to whoever has the turn
	}
	c.writeMu.Lock()
	defer c.unlockWrite()
	var rung <-chan struct{}
	for {
		r, _, err := k.callSSL(what, nil, false, nil)
		if err != nil {
			return err
		}
		flushErr := c.flush()
		if what == opNewSessionTicket && c.isHarmless(r.version, flushErr) {
			flushErr = nil
		}
		switch {
		case r.err != nil:
			return errors.Join(r.err, flushErr)
		case r.sslError == C.SSL_ERROR_ZERO_RETURN:
			return io.EOF
		case flushErr == nil && r.sslError == C.SSL_ERROR_WANT_WRITE && what != opShutdown:
			what = opHandshake // sends the rest of a message that had no room
			continue
		case flushErr != nil || what != opShutdown || r.sslError != C.SSL_ERROR_WANT_READ:
			return flushErr
		}
		if err := k.awaitRead(&rung); err != nil {
			return err
		}
	}
}
