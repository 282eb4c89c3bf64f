// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Read reads plaintext; it runs the handshake first, if that is not over. It returns io.EOF when
// the peer sent close_notify, and io.ErrUnexpectedEOF when the transport ended without it. In the
// second case OpenSSL 3.0 and later marks the session as not resumable, unless the option
// [OpIgnoreUnexpectedEOF] is set. libssl may answer the peer in a Read. Such an answer is a write,
// which the deadline for writes bounds.
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

// read returns when there is plaintext, the end, or an event of libssl's. It returns for an event
// because its hook must not wait for the peer's next record. Read runs the hook, and calls read
// again.
func (k *connCall) read(p []byte) (n int, err error) {
	c := k.c
	if n := c.keptRead.take(p); n > 0 { // even if another Read waits for the transport
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
		n, err := k.readBuffered(p, c.keptRead.put)
		if n > 0 || k.any() || err != nil {
			return n, err
		}
		if c.readErr != nil {
			break
		}
		if c.leftUnsent() { // the deadline for writes stopped an answer; the caller may have changed it
			_ = c.flushFromRead(false)
		}
		if err := c.in.fill(c.conn); err != nil {
			if err = c.readEnd(err); err != ErrClosed && !mayPass(err) {
				c.readErr = err
			}
			return 0, err
		}
	}
	return 0, c.readErr
}

// mayPass reports whether a transport's next read may succeed, by the rule of crypto/tls.
func mayPass(err error) bool {
	var e net.Error
	//lint:ignore SA1019 crypto/tls looks at it, too
	return errors.As(err, &e) && (e.Timeout() || e.Temporary())
}

// readBuffered reads input that has arrived, if there is any. A fatal error becomes readErr: reads
// return it after the plaintext that came before.
//
// If sending libssl's answer panics, keep gets the plaintext.
func (k *connCall) readBuffered(p []byte, keep func(got []byte)) (n int, err error) {
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
		if (r.hasOutput || full) && r.reported == 0 { // hooks run before it is sent
			err := keepOnPanic(p[:r.n], keep, func() error { return c.flushFromRead(full) })
			if err != nil && full && !c.isHarmless(r.version, err) {
				return 0, err // otherwise the next Write returns it
			}
		}
		switch r.sslError {
		case C.SSL_ERROR_NONE:
		case C.SSL_ERROR_WANT_READ: // without ModeAutoRetry also after a handshake message
			if r.n == 0 && r.reported == 0 && (used > 0 || !r.needsInput) {
				continue
			}
		case C.SSL_ERROR_WANT_WRITE:
			if r.n == 0 && r.reported == 0 {
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

// keepOnPanic calls f. If f panics, keep gets the plaintext of the call.
func keepOnPanic(got []byte, keep func(got []byte), f func() error) error {
	returned := false
	defer func() {
		if !returned && len(got) > 0 {
			keep(got)
		}
	}()
	err := f()
	returned = true
	return err
}

// finishRead is finish for a Read. If a hook or the transport panics, the next Read returns the
// plaintext.
func (k *connCall) finishRead(got []byte) error {
	c := k.c
	return k.finishKeeping(got, &c.keptRead, func() { _ = c.flushFromRead(false) })
}

// finishKeeping calls finish and then send, for a call that has data to return. If a hook or send
// panics, kept keeps the data for the next call. send also runs after a hook that panics.
func (k *connCall) finishKeeping(got []byte, kept *keptData, send func()) error {
	return keepOnPanic(got, kept.put, func() error {
		defer send()
		return k.finish()
	})
}

// readable reports whether libssl can go on without more from the transport, and returns the input
// for it. If libssl has the rest of a message to send, it must not wait for the peer, which waits
// for that message.
func (c *Conn) readable() (in []byte, ok bool) {
	last := c.lastCallResult()
	in = c.in.ready(last.hasPartial)
	return in, len(in) > 0 || last.hasPending || last.wantsRoom || c.in.eof
}

func (c *Conn) leftUnsent() bool {
	if c.hasUnsent.Load() {
		return !c.unsentData.Load() // data of a Write is for the next Write
	}
	if c.lockWithin(&c.mu, waitLimit{what: opRead}) != nil {
		return false
	}
	defer c.mu.Unlock()
	return len(c.out) > 0
}

// readAhead is plaintext that a Write read; the next Read returns it. readMu guards it, except its
// size.
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

// maxReadAhead is the limit of readAhead, which one record may exceed. At the limit a Write waits
// for a Read.
const maxReadAhead = 1 << 20

// keptData is data that a Read or ReadEarlyData could not return because a hook panicked. It has
// its own lock, since another Read may hold readMu and wait for the transport.
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

// putFirst puts data in front.
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

// keepRead reads input that has arrived, and keeps the plaintext for the next Read. readMu is held.
func (k *connCall) keepRead() (err error) {
	ahead := &k.c.readAhead
	ahead.buf = slices.Grow(ahead.buf, maxFragment)
	room := ahead.buf[len(ahead.buf):cap(ahead.buf)]
	n, err := k.readBuffered(room, func(got []byte) { ahead.keep(len(got)) })
	ahead.keep(n)
	return err
}

// keep notes that n more bytes of the buffer are plaintext.
func (b *readAhead) keep(n int) {
	if b.buf = b.buf[:len(b.buf)+n]; len(b.buf) == 0 {
		b.buf = nil
	}
	b.size.Store(int64(len(b.buf)))
}

// lockRead is readMu.Lock until the deadline for reads: a Write may hold readMu for long.
func (c *Conn) lockRead() error {
	if c.readMu.TryLock() {
		return nil
	}
	c.prefetcher.waiting.Add(1)
	defer func() {
		c.prefetcher.waiting.Add(-1)
		c.notifier.Broadcast() // a Write that left the reading to this call must now read itself
	}()
	c.stopPrefetch()
	for !c.readMu.TryLock() {
		progress := c.notifier.Wait()
		if c.readMu.TryLock() {
			break
		}
		if c.closeBegun.Load() {
			return ErrClosed
		}
		if err := c.await(progress, &c.readDeadline); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) unlockRead() {
	c.readMu.Unlock()
	c.notifier.Broadcast()
}

// await waits for the notifier until the deadline passes. Close and new deadlines also wake the
// notifier's waiters.
func (c *Conn) await(progress <-chan struct{}, deadline *time.Time) error {
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
	case <-progress:
		return nil
	case <-passed:
		return os.ErrDeadlineExceeded
	}
}

// A notifier wakes all goroutines that called Wait before Broadcast.
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

// AwaitTicket waits until a client has a session ticket. When it returns nil, [Conn.Session]
// returns a session that the next connection can offer. A TLS 1.3 server sends its tickets after
// the handshake, most servers two, and a client gets them only when it reads. AwaitTicket runs the
// handshake, if that is not over, and reads until there is a ticket. The next Read returns data
// that comes meanwhile. AwaitTicket returns at once if there was a ticket already, and before TLS
// 1.3, where the handshake itself brings the ticket or session ID.
//
// A server may send no ticket, or only after the client sends data: ctx should have an end. When
// ctx ends, AwaitTicket returns its error, and the connection continues. If the handshake is not
// over by then, AwaitTicket closes the transport, as HandshakeContext does. If the connection ends
// first, it returns io.EOF or the error that Read will return. At the deadline for reads it returns
// os.ErrDeadlineExceeded. For a server's Conn it returns an ArgumentError. Reads and writes may run
// at the same time. When a mebibyte of data waits for a Read, AwaitTicket waits for that Read, too.
// Like Read it sends answers to the peer; only the deadline for writes and Close end that.
//
// Wraps [SSL_read_ex].
//
// [SSL_read_ex]: https://docs.openssl.org/3.0/man3/SSL_read/
func (c *Conn) AwaitTicket(ctx context.Context) error {
	if !c.isOpen() {
		return ErrClosed
	}
	if c.server {
		return badArgument("AwaitTicket", "receiver", "is a server")
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // as in endWith
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		defer c.notifier.Broadcast()
		_ = catchPanic(c.stopPrefetch)
	})
	defer stop()
	k := connCall{c: c, ctx: ctx}
	for {
		progress := c.notifier.Wait()
		if has, err := c.hasTicket(ctx); has || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := k.prefetch(ctx, progress)
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

// hasTicket reports whether AwaitTicket need not wait.
func (c *Conn) hasTicket(ctx context.Context) (bool, error) {
	r, err := c.beginWithin(waitLimit{ctx: ctx, what: opRead})
	if err != nil {
		return false, err
	}
	defer c.end(r)
	return c.lastCallResult().version != VersionTLS13 || C.shim_SSL_has_new_ticket(r.p) != 0, nil
}

// prefetcher is the state of an AwaitTicket that reads the transport. It gives way to a Read.
type prefetcher struct {
	waiting atomic.Int32 // reads that wait for readMu
	reading bool         // it reads the transport; guarded by deadlineMu
	stopped bool         // it must stop: the transport's deadline is in the past; also guarded by deadlineMu
}

// prefetch reads once and keeps the data, or waits for the call that reads.
func (k *connCall) prefetch(ctx context.Context, progress <-chan struct{}) (err error) {
	c := k.c
	if c.closeBegun.Load() {
		return ErrClosed
	}
	if c.prefetcher.waiting.Load() > 0 || c.readAhead.size.Load() >= maxReadAhead || !c.readMu.TryLock() {
		return c.await(progress, &c.readDeadline)
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
	returned := false
	defer func() {
		if !returned { // the transport panicked
			_ = catchPanic(func() { c.endPrefetch() })
		}
	}()
	err = c.in.fill(c.conn)
	returned = true
	if c.endPrefetch() && isTimeout(err) {
		return nil
	}
	return c.readEnd(err)
}

// beginPrefetch reports whether AwaitTicket may read the transport: no Read waits for it, and ctx
// is not done.
func (c *Conn) beginPrefetch(ctx context.Context) bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.prefetcher.reading = c.prefetcher.waiting.Load() == 0 && ctx.Err() == nil
	return c.prefetcher.reading
}

// endPrefetch reports whether stopPrefetch ended the reading, and not the caller's deadline.
func (c *Conn) endPrefetch() (cut bool) {
	c.deadlineMu.Lock()
	cut = c.prefetcher.stopped
	c.prefetcher.reading, c.prefetcher.stopped = false, false
	c.deadlineMu.Unlock()
	if cut && !c.closeBegun.Load() {
		_ = c.applyDeadlines(true, false) // the next read reports its error
	}
	return cut
}

// stopPrefetch stops an AwaitTicket that reads the transport: a Read wants to, or its context
// ended.
func (c *Conn) stopPrefetch() {
	c.deadlineMu.Lock()
	stops := c.prefetcher.reading && !c.prefetcher.stopped
	c.prefetcher.stopped = c.prefetcher.stopped || stops
	c.deadlineMu.Unlock()
	if stops {
		_ = c.applyDeadlines(true, false)
	}
}
