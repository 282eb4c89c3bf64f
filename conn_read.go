// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

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

// readAhead is plaintext that a Write read, for the next Read. Guarded by readMu, but for its size.
type readAhead struct {
	buf  []byte
	size atomic.Int64
}

func (b *readAhead) take(p []byte) int {
	n := copy(p, b.buf)
	if b.buf = b.buf[n:]; len(b.buf) == 0 {
		b.buf = nil
	}
	b.size.Store(int64(len(b.buf)))
	return n
}

// maxReadAhead is how much of it there may be, or one record less: then a Write waits for a Read.
const maxReadAhead = 1 << 20

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

// putFirst is put for what came before what is there.
func (k *keptData) putFirst(p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.buf = append(slices.Clone(p), k.buf...)
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

// lockRead is readMu.Lock until the deadline for reads: a Write may have it for long.
func (c *Conn) lockRead() error {
	if c.readMu.TryLock() {
		return nil
	}
	c.prefetcher.waiting.Add(1)
	defer func() {
		c.prefetcher.waiting.Add(-1)
		c.notifier.Broadcast() // a Write that left the reading to this call reads itself now
	}()
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

// AwaitTicket has a client wait for a session ticket of the server's: when it returns nil, Session returns a session
// that the next connection can offer. A TLS 1.3 server sends its tickets after the handshake, most send two,
// and a client has them only when it reads. AwaitTicket runs the handshake, if it has not run yet, and reads
// until there is one; data that comes meanwhile is the next Read's. It does not wait once there was one,
// nor before TLS 1.3, where the handshake brings the ticket or the session ID, if there is any.
//
// A server may send no ticket, or only after something that the client has to send: ctx should have an end. It is
// ctx's error then, and the connection goes on; during the handshake the transport is closed, as by
// HandshakeContext. It is io.EOF, or the error that Read will return, when the connection ended before, and
// os.ErrDeadlineExceeded at the deadline for reads. A server's Conn is an ArgumentError. Reads and writes may
// run at the same time. When a mebibyte of data waits for a Read, AwaitTicket waits for it too.
//
// Wraps [SSL_read_ex].
//
// [SSL_read_ex]: https://docs.openssl.org/3.0/man3/SSL_read/
func (c *Conn) AwaitTicket(ctx context.Context) error {
	if c.state.Load() < stateOpen {
		return ErrClosed
	}
	if c.server {
		return badArgument("AwaitTicket", "receiver", "is a server")
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // as endWith does
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		c.stopPrefetch()
		c.notifier.Broadcast()
	})
	defer stop()
	k := connCall{c: c}
	for {
		rung := c.notifier.Wait()
		if has, err := c.hasTicket(); has || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := k.prefetch(ctx, rung)
		if k.any() {
			if hookErr := k.finishRead(nil); err == nil {
				err = hookErr
			}
		}
		if err != nil {
			return err
		}
	}
}

// hasTicket reports whether there is nothing to wait for.
func (c *Conn) hasTicket() (bool, error) {
	r, err := c.begin()
	if err != nil {
		return false, err
	}
	defer c.end(r)
	return c.lastResult.version != VersionTLS13 || C.shim_SSL_has_new_ticket(r.p) != 0, nil
}

// prefetcher is the reading of the transport by an AwaitTicket, which gives way to a Read.
type prefetcher struct {
	waiting atomic.Int32 // that wait for readMu
	reading bool         // it reads the transport; guarded by deadlineMu
	stopped bool         // and is told to stop, by a deadline that has passed; likewise
}

// prefetch reads once, and keeps data, or waits until who reads got on.
func (k *connCall) prefetch(ctx context.Context, rung <-chan struct{}) (err error) {
	c := k.c
	if c.closeBegun.Load() {
		return ErrClosed
	}
	if c.prefetcher.waiting.Load() > 0 || c.readAhead.size.Load() >= maxReadAhead || !c.readMu.TryLock() {
		return c.await(rung, &c.readDeadline)
	}
	defer c.unlockRead()
	if c.readErr != nil {
		return c.readErr
	}
	if _, ok := c.readable(); ok {
		return k.keepRead()
	}
	if !c.beginPrefetch(ctx) {
		return nil
	}
	err = c.in.fill(c.conn)
	if c.endPrefetch() && isTimeout(err) {
		return nil
	}
	return c.readEnd(err)
}

// beginPrefetch reports whether the transport may be read: nobody has asked for it, and ctx is not done.
func (c *Conn) beginPrefetch(ctx context.Context) bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.prefetcher.reading = c.prefetcher.waiting.Load() == 0 && ctx.Err() == nil
	return c.prefetcher.reading
}

// endPrefetch reports whether the reading was told to stop, and not by the caller's deadline.
func (c *Conn) endPrefetch() (cut bool) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	cut = c.prefetcher.stopped
	c.prefetcher.reading, c.prefetcher.stopped = false, false
	if cut && !c.closeBegun.Load() {
		_ = c.conn.SetReadDeadline(c.readDeadline) // what is wrong with it the next read will say
	}
	return cut
}

// stopPrefetch has an AwaitTicket that reads the transport stop, for someone else to read, or for its context.
func (c *Conn) stopPrefetch() {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if c.prefetcher.reading && !c.prefetcher.stopped {
		c.prefetcher.stopped = true
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}
