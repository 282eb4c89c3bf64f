// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"fmt"
	"io"
)

// Renegotiate begins a new handshake on the connection (TLS 1.2 and before): a client sends its
// ClientHello, a server asks for one. It does not wait: Read and Write carry the handshake on, at both
// ends, and a Write that comes in its middle waits for its end, and reads for that if nobody does. What
// it reads of data is the next Read's, which it waits for when there is a lot. While one runs, or a
// server's request is not answered, Renegotiate begins no other. Close in its middle sends no
// close_notify.
//
// In TLS 1.3, and with OpNoRenegotiation, it is an *Error, and the connection goes on. A client whose
// server refuses, as servers do without OpAllowClientRenegotiation, loses the connection. It is io.EOF
// when the peer sent close_notify.
//
// Wraps [SSL_renegotiate].
//
// [SSL_renegotiate]: https://docs.openssl.org/3.0/man3/SSL_key_update/
func (c *Conn) Renegotiate() error { return c.post(opRenegotiate) }

// awaitRead has what wants to write, while a renegotiation runs, wait for a reader of the transport to get
// on, or be that reader. writeMu is held, and given back meanwhile: readers answer. The first time it
// only listens, so that nothing that happens after the next crossing is missed.
func (k *connCall) awaitRead(rung *<-chan struct{}) (err error) {
	c := k.c
	heard := *rung
	if heard == nil {
		*rung = c.notifier.Wait()
		return nil
	}
	c.unlockWrite()
	c.writing.Add(1) // Close does not wait for it
	defer func() {
		c.writing.Add(-1)
		*rung = c.notifier.Wait()
		c.writeMu.Lock()
	}()
	if c.prefetcher.waiting.Load() == 0 && c.readAhead.size.Load() < maxReadAhead && c.readMu.TryLock() {
		defer c.unlockRead()
		select {
		case <-heard: // another reader got on: perhaps it is over
			return nil
		default:
			return k.readToWrite()
		}
	}
	return c.await(heard, &c.writeDeadline)
}

// readToWrite is a Read for who wants to write: under that deadline, and data is kept. readMu is held.
func (k *connCall) readToWrite() (err error) {
	c := k.c
	c.setReadsUseWriteDeadline(true)
	defer c.setReadsUseWriteDeadline(false)
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
			return err // close_notify may have come after the end of the handshake
		}
	}
	return unfinished(c.readErr)
}

// unfinished is the error of what waits for a renegotiation that the peer will not end.
func unfinished(err error) error {
	return fmt.Errorf("sslctx: the renegotiation cannot go on: %w", err)
}
