// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"sync/atomic"
	"time"
)

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
