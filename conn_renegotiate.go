// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
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

// readAhead is plaintext that a Write read, for the next Read. Guarded by readMu, but for its size.
type readAhead struct {
	buf  []byte
	size atomic.Int64
}

// maxReadAhead is how much of it there may be, or one record less: then a Write waits for a Read.
const maxReadAhead = 1 << 20

func (b *readAhead) take(p []byte) int {
	n := copy(p, b.buf)
	if b.buf = b.buf[n:]; len(b.buf) == 0 {
		b.buf = nil
	}
	b.size.Store(int64(len(b.buf)))
	return n
}

// keptData is what a Read, or a ReadEarlyData, did not return, because a hook panicked. It has a lock of its own: another Read
// may hold readMu and wait for the transport.
type keptData struct {
	mu  sync.Mutex
	buf []byte
	has atomic.Bool
}

func (k *keptData) put(p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.buf = append(k.buf, p...)
	k.has.Store(true)
}

func (k *keptData) take(p []byte) int {
	if !k.has.Load() {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	n := copy(p, k.buf)
	k.buf = k.buf[n:]
	k.has.Store(len(k.buf) > 0)
	return n
}

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

// keepRead reads what has arrived, and keeps the plaintext for the next Read. readMu is held.
func (k *connCall) keepRead() (err error) {
	c := k.c
	c.readAhead.buf = slices.Grow(c.readAhead.buf, maxFragment)
	n, err := k.readBuffered(c.readAhead.buf[len(c.readAhead.buf):cap(c.readAhead.buf)])
	c.readAhead.buf = c.readAhead.buf[:len(c.readAhead.buf)+n]
	if len(c.readAhead.buf) == 0 {
		c.readAhead.buf = nil
	}
	c.readAhead.size.Store(int64(len(c.readAhead.buf)))
	return err
}

// unfinished is the error of what waits for a renegotiation that the peer will not end.
func unfinished(err error) error {
	return fmt.Errorf("sslctx: the renegotiation cannot go on: %w", err)
}

// lockRead is readMu.Lock until the deadline for reads: a Write may have it for long.
func (c *Conn) lockRead() error {
	if c.readMu.TryLock() {
		return nil
	}
	c.prefetcher.waiting.Add(1)
	defer c.prefetcher.waiting.Add(-1)
	c.stopPrefetch()
	for !c.readMu.TryLock() {
		rung := c.notifier.Wait()
		if c.readMu.TryLock() {
			break
		}
		if c.closeBegun.Load() {
			return ErrClosed
		}
		if err := c.await(rung, &c.readDeadline); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) unlockRead() {
	c.readMu.Unlock()
	c.notifier.Broadcast()
}

// await waits for the bell, as long as the connection is open and the deadline has not passed. Close and
// new deadlines ring, too.
func (c *Conn) await(rung <-chan struct{}, deadline *time.Time) error {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	c.deadlineMu.Lock()
	d := *deadline
	c.deadlineMu.Unlock()
	var passed <-chan time.Time
	if !d.IsZero() {
		timer := time.NewTimer(time.Until(d))
		defer timer.Stop()
		passed = timer.C
	}
	select {
	case <-rung:
		return nil
	case <-passed:
		return os.ErrDeadlineExceeded
	}
}

// setDeadlines notes deadlines and gives them to the transport, where those for writes count for reads
// too while a Write reads.
func (c *Conn) setDeadlines(read, write *time.Time) error {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	defer c.notifier.Broadcast()
	if read != nil {
		c.readDeadline = *read
	}
	if write != nil {
		c.writeDeadline, c.closeWriteLimits = *write, false
	}
	if c.closeBegun.Load() {
		return nil
	}
	if c.hookWait != nil { // after the transport: what follows the hook must not get through
		defer func() { c.hookWait.setDeadline(c.firstDeadline()) }()
	}
	if c.readsUseWriteDeadline {
		read = write
	}
	if c.prefetcher.stopped {
		read = nil
	}
	switch {
	case read != nil && write != nil:
		return c.conn.SetDeadline(*write)
	case read != nil:
		return c.conn.SetReadDeadline(*read)
	case write != nil:
		return c.conn.SetWriteDeadline(*write)
	}
	return nil
}

// setReadsUseWriteDeadline has the transport's reads end at the deadline for writes, or for reads again.
func (c *Conn) setReadsUseWriteDeadline(lent bool) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.readsUseWriteDeadline = lent
	d := c.readDeadline
	if lent {
		d = c.writeDeadline
	}
	if c.closeBegun.Load() {
		return
	}
	_ = c.conn.SetReadDeadline(d) // what is wrong with it the read will say
}

// A notifier is heard by those that listened before it rings.
type notifier struct{ ch atomic.Pointer[chan struct{}] }

func (b *notifier) Wait() <-chan struct{} {
	for {
		if p := b.ch.Load(); p != nil {
			return *p
		}
		ch := make(chan struct{})
		if b.ch.CompareAndSwap(nil, &ch) {
			return ch
		}
	}
}

func (b *notifier) Broadcast() {
	if p := b.ch.Load(); p != nil && b.ch.CompareAndSwap(p, nil) {
		close(*p)
	}
}
