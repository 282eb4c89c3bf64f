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
	"time"
)

func isTimeout(err error) bool {
	if err == nil { // what errors.As is given is allocated
		return false
	}
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// flush sends libssl's output. writeMu is held. After a timeout the rest stays in c.unsent, since
// records must arrive whole and in order. After any other error nothing can follow, and the rest is
// dropped.
func (c *Conn) flush() error {
	_, err := c.flushOutput()
	return err
}

// flushOutput is flush, and also reports whether err is a timeout. It calls the methods of a
// transport's error only once, because they are not code of the binding.
func (c *Conn) flushOutput() (timedOut bool, err error) {
	for {
		out, err := c.takeOutput()
		if err != nil {
			return isTimeout(err), err
		}
		if len(out) == 0 {
			return false, c.writeErr
		}
		if c.writeErr == nil {
			n, timedOut, err := c.writeTransport(out)
			if timedOut {
				if c.unsent = out[n:]; n == len(out) {
					c.unsent = nil
				}
				c.hasUnsent.Store(c.unsent != nil)
				return true, err
			}
			c.writeErr = err
			if c.unsentData.Load() {
				c.unsentData.Store(false)
			}
		}
		putBuffer(out)
	}
}

// takeOutput takes output to send, first the rest that met a timeout.
func (c *Conn) takeOutput() (out []byte, err error) {
	if out = c.unsent; out != nil {
		c.unsent = nil
		c.hasUnsent.Store(false)
		return out, nil
	}
	if err := c.lockWithin(&c.mu, waitLimit{what: opWrite, closing: c.closeBegun.Load()}); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	out, c.out = c.out, nil
	c.noteOutput()
	return out, nil
}

// errWritePanicked is why nothing can be written after the transport's Write, or a method of its
// error, panicked.
var errWritePanicked = errors.New("sslctx: the transport's Write panicked")

// writeTransport writes to the transport, and reports whether err is a timeout. It treats a short
// write without an error as a failed one.
func (c *Conn) writeTransport(out []byte) (n int, timedOut bool, err error) {
	c.writeErr = errWritePanicked // until it is known what becomes of the output
	n, err = c.conn.Write(out)
	if n = max(0, min(n, len(out))); err == nil && n < len(out) {
		err = io.ErrShortWrite
	}
	timedOut = isTimeout(err)
	c.writeErr = nil
	return n, timedOut, err
}

// unlockWrite releases writeMu, and sends output that a reader could not send while it was held.
func (c *Conn) unlockWrite() {
	c.writeMu.Unlock()
	for c.hasOutput() && c.writeMu.TryLock() {
		if c.flushAndUnlock() != nil { // the next Write returns the error; after a timeout the rest stays
			return
		}
	}
}

func (c *Conn) flushAndUnlock() error {
	defer c.writeMu.Unlock() // also if the transport panics
	return c.flush()
}

// hasOutput reports whether there is output to send. It waits for no lock: mu may pass from one
// call to the next for a long time.
func (c *Conn) hasOutput() bool { return c.hasUnsent.Load() || c.outWaits.Load() }

// noteOutput notes whether libssl's output waits, for hasOutput. mu is held.
func (c *Conn) noteOutput() {
	if waits := len(c.out) > 0; waits != c.outWaits.Load() {
		c.outWaits.Store(waits)
	}
}

// flushFromRead sends output that a read produced. If a writer holds writeMu, that writer sends it:
// if a Read waited for the writer, both peers could deadlock. Data that a Write left behind after a
// timeout stays for the next Write, because sending it could deadlock, too. must says that libssl
// has no room for output left. Then flushFromRead waits for writeMu.
func (c *Conn) flushFromRead(must bool) error {
	if must {
		if err := c.lockWithin(&c.writeMu, waitLimit{what: opWrite}); err != nil {
			return err
		}
	} else if c.unsentData.Load() || !c.writeMu.TryLock() {
		return nil
	}
	defer c.unlockWrite()
	return c.flush()
}

// Write writes plaintext; it runs the handshake first, if that is not over. When the deadline
// passes, n is how much of p libssl took. That part is sent before later data, and writing
// continues after SetWriteDeadline. After any other error part of a record may be lost, and all
// further writes fail. After CloseWrite it returns an *Error with ReasonProtocolIsShutdown, and
// reading continues.
//
// After a failed Write the peer lacks data. So Close and CloseWrite send no close_notify, unless a
// further Write succeeds: otherwise the peer would treat a part of the data as the whole. See
// [Conn.Close].
//
// Wraps [SSL_write_ex].
//
// [SSL_write_ex]: https://docs.openssl.org/3.0/man3/SSL_write/
func (c *Conn) Write(p []byte) (n int, err error) {
	if err := c.Handshake(); err != nil {
		if err != ErrClosed { // which nil and zero Conns return, too
			c.noteWritten(0, len(p), err, 0)
		}
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
	if err := c.lockWithin(&c.turnMu, waitLimit{what: opWrite}); err != nil {
		c.noteWritten(0, len(p), err, 0)
		return 0, err
	}
	defer c.turnMu.Unlock()
	failed := c.failedWrites.Load()
	returned := false
	defer func() {
		if !returned { // the transport panicked
			c.noteWritten(0, len(p), errWritePanicked, failed)
		}
	}()
	n, err = k.writeAll(p)
	returned = true
	c.noteWritten(n, len(p), err, failed)
	return n, err
}

// writeFailed reports whether a Write failed, and no successful Write followed it. Then the peer
// lacks data.
func (c *Conn) writeFailed() bool { return c.failedWrites.Load() != c.forgivenWrites.Load() }

// noteWritten records the result of a Write. failed is how many Writes had failed when it began.
// turnMu is held, or the handshake is not over, or the Write got no turn.
func (c *Conn) noteWritten(n, of int, err error, failed uint64) {
	if n > 0 {
		note(&c.hasWritten)
	}
	switch {
	case of == 0 || c.closeNotifyMade.Load():
	case err != nil:
		c.failedWrites.Add(1)
	case c.forgivenWrites.Load() != failed:
		c.forgivenWrites.Store(failed)
	}
}

// note sets b. Usually b is set already; then note writes nothing, so that other processors keep
// their cache line.
func note(b *atomic.Bool) {
	if !b.Load() {
		b.Store(true)
	}
}

func (k *connCall) writeAll(p []byte) (n int, err error) {
	c := k.c
	if err := c.lockWithin(&c.writeMu, waitLimit{what: opWrite}); err != nil {
		return 0, err
	}
	defer c.unlockWrite()
	var progress <-chan struct{}
	for len(p) > 0 {
		if err := c.readyToWrite(); err != nil {
			return n, err
		}
		r, _, err := k.callSSL(opWrite, nil, false, p)
		if err != nil {
			return n, err
		}
		if timedOut, err := c.flushOutput(); err != nil {
			if timedOut {
				n += r.n
				c.unsentData.Store(c.unsent != nil)
			}
			return n, err
		}
		n += r.n
		p = p[r.n:]
		if r.n > 0 {
			k.beforeProgress = k.collected
		}
		switch r.sslError {
		case C.SSL_ERROR_NONE, C.SSL_ERROR_WANT_WRITE:
		case C.SSL_ERROR_WANT_READ:
			if err := k.awaitRead(&progress); err != nil {
				return n, err
			}
		case C.SSL_ERROR_ZERO_RETURN:
			return n, unfinished(io.EOF)
		default:
			err := r.failure(opWrite)
			if c.closeNotifyMade.Load() && errors.Is(err, ReasonProtocolIsShutdown) {
				return n, err // after CloseWrite, which ends only writing
			}
			c.writeErr = err
		}
	}
	return n, c.writeErr
}

// readyToWrite sends output that an earlier timeout left, and returns an error if the deadline has
// passed. It comes before libssl takes data, which cannot be taken back.
func (c *Conn) readyToWrite() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.writeDeadlinePassed() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// KeyUpdate changes the keys by which this end sends (TLS 1.3). With askPeer it asks the peer to do
// the same. In TLS 1.2 it returns an *Error. It also does so while a handshake message is half sent
// or half received, such as a long certificate after the handshake. Then the connection continues.
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

// NewSessionTicket sends one more session ticket to the client of a TLS 1.3 server. The client gets
// it with a Read. Before TLS 1.3 and in a client it returns an *Error. Before OpenSSL 3.0 it
// returns ErrUnsupported. A server that verifies its client returns ErrUnverifiedSession if the
// CertPool or the store of the context has changed since the handshake began. In the middle of a
// handshake message it returns an *Error, as KeyUpdate does.
//
// Wraps [SSL_new_session_ticket].
//
// [SSL_new_session_ticket]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_num_tickets/
func (c *Conn) NewSessionTicket() error {
	if !c.isOpen() {
		return ErrClosed
	}
	if !hasNewSessionTicket {
		return unsupported("SSL_new_session_ticket", "3.0")
	}
	return c.post(opNewSessionTicket)
}

// post sends a message of libssl's after the handshake.
func (c *Conn) post(what op) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	return c.send(what)
}

// send makes libssl produce a message, and sends it.
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
	var limit time.Time
	if what != opShutdown {
		err = c.lockWithin(&c.turnMu, waitLimit{what: what})
	} else {
		limit, err = c.lockTurnForCloseWrite()
	}
	if err != nil {
		return err
	}
	defer c.turnMu.Unlock()
	if what == opShutdown {
		defer c.endLimit() // the limit belongs to whoever has the turn
		c.limitWrites(limit)
	}
	if err := c.lockWithin(&c.writeMu, waitLimit{what: what}); err != nil {
		return err
	}
	defer c.unlockWrite()
	var progress <-chan struct{}
	for isTicket := what == opNewSessionTicket; ; {
		r, _, err := k.callSSL(what, nil, false, nil)
		if err != nil {
			return err
		}
		flushErr := c.flush()
		if isTicket && c.isHarmless(r.version, flushErr) {
			flushErr = nil
		}
		switch {
		case r.err != nil:
			return errors.Join(r.err, flushErr)
		case r.sslError == C.SSL_ERROR_ZERO_RETURN:
			return io.EOF
		case flushErr == nil && r.sslError == C.SSL_ERROR_WANT_WRITE: // there was no room for the message
			if what != opShutdown && what != opRenegotiate { // these go on by themselves
				what = opContinue
			}
			continue
		case flushErr != nil || what != opShutdown || r.sslError != C.SSL_ERROR_WANT_READ:
			return flushErr
		}
		if err := k.awaitRead(&progress); err != nil {
			return err
		}
	}
}
