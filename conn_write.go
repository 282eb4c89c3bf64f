// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
)

func isTimeout(err error) bool {
	if err == nil { // what errors.As is given is allocated
		return false
	}
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// flush sends what libssl left in c.out. writeMu is held. What a timeout leaves unsent stays there, for
// records must arrive whole and in order; after any other error nothing can follow, and it is dropped.
func (c *Conn) flush() error {
	for {
		if err := c.lockMu(waitLimit{what: opShutdown, closing: c.closeBegun.Load()}); err != nil {
			return err
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

// hasOutput reports whether there is something to send, and nobody else who will: a call that waits for a hook is a
// reader's, who sends when it is over.
func (c *Conn) hasOutput() bool {
	if !poll(firstMoment, lastLook, c.mu.TryLock, c.inHook.Load) {
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
