// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"errors"
	"fmt"
	"io"
)

// Renegotiate begins a new handshake on the connection (TLS 1.2 and before): a client sends its
// ClientHello, a server requests one. It does not wait: at both ends Read and Write carry the
// handshake on. A Write in the middle of it waits for the end, and reads if no other call does. The
// next Read returns data that such a Write reads; when that is a lot, the Write waits for a Read.
//
// A server's handshake begins with the client's answer. A Write before it goes out at once, and some
// clients, that of crypto/tls among them, then end the connection. So a server for these reads the
// client's next message before it writes.
//
// While a renegotiation runs, or a server's request is not answered, Renegotiate begins no other.
// Close in the middle of one sends no close_notify.
//
// In TLS 1.3, and with OpNoRenegotiation, it returns an *Error, and the connection continues. When
// a server refuses a client's renegotiation, as it does without OpAllowClientRenegotiation, the
// connection ends. When the peer has sent close_notify, it returns io.EOF.
//
// Wraps [SSL_renegotiate].
//
// [SSL_renegotiate]: https://docs.openssl.org/3.0/man3/SSL_key_update/
func (c *Conn) Renegotiate() error { return c.post(opRenegotiate) }

// awaitRead waits, for a Write during a renegotiation, until a reader of the transport has made
// progress, or is that reader. writeMu is held, and released meanwhile, since readers send answers.
// The first call only begins to listen, so that the Write misses nothing after its next call into
// libssl.
func (k *connCall) awaitRead(progress *<-chan struct{}) (err error) {
	c := k.c
	before := *progress
	if before == nil {
		*progress = c.notifier.Wait()
		return nil
	}
	if k.collected-k.beforeProgress > maxIdleEvents || k.collected > maxEvents {
		return errRenegotiates
	}
	c.writing.Add(1) // so that Close does not wait for it
	defer func() {
		c.writing.Add(-1)
		*progress = c.notifier.Wait()
		c.writeMu.Lock()
	}()
	c.unlockWrite()
	if c.prefetcher.waiting.Load() == 0 && c.readAhead.size.Load() < maxReadAhead && c.readMu.TryLock() {
		defer c.unlockRead()
		select {
		case <-before: // another reader made progress: perhaps the renegotiation is over
			return nil
		default:
			return k.readToWrite()
		}
	}
	return c.await(before, &c.writeDeadline)
}

// maxIdleEvents is how many events, such as new sessions, a Write collects for hooks without
// progress: each handshake makes two or three, with the certificates of the peer. maxEvents is how
// many one call collects in all. Only a hostile peer causes more.
const (
	maxIdleEvents = 50
	maxEvents     = 1000
)

var errRenegotiates = errors.New("sslctx: the peer renegotiates without end")

// readToWrite is a Read for a Write: it has the deadline for writes, and keeps data. readMu is
// held.
func (k *connCall) readToWrite() (err error) {
	c := k.c
	defer c.setReadsUseWriteDeadline(false)
	c.setReadsUseWriteDeadline(true)
	for c.readErr == nil {
		if _, ok := c.readable(); ok {
			break
		}
		if err := c.in.fill(c.conn); err != nil {
			return c.readEnd(err)
		}
	}
	if c.readErr == nil {
		err = k.keepRead()
		if err != nil || c.readErr == nil || c.readErr == io.EOF {
			return err // close_notify may follow the end of the handshake
		}
	}
	return unfinished(c.readErr)
}

// unfinished is the error of a Write that waits for a renegotiation which the peer will not end.
func unfinished(err error) error {
	return fmt.Errorf("sslctx: the renegotiation cannot go on: %w", err)
}
