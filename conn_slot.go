// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"os"
	"runtime"
	"time"
)

// handshakeSem bounds how many handshakes compute at once. They are long calls into C, for each of which the scheduler
// would start a thread: thousands of connections at once made fifty on two processors. One more than there are
// processors keeps these busy while a handshake that ends hands its slot on; more of them only wait for each other.
var handshakeSem = make(chan struct{}, runtime.GOMAXPROCS(0)+1)

// heavyHandshakeSem bounds how many of these are of clients that have sent a lot: whoever sends long chains of certificates
// must leave slots to others.
var heavyHandshakeSem = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// heavyHandshake is how many bytes a client sends in a handshake before it is one of them. Three certificates of the
// largest usual kind take 8 KiB.
const heavyHandshake = 16 << 10

// A handshakeSlot is what a Conn holds of both.
type handshakeSlot struct{ held, heavy bool }

// release gives the slots back, and reports whether there was one among the handshakes.
func (s *handshakeSlot) release() (held bool) {
	if s.held {
		<-handshakeSem
	}
	if s.heavy {
		<-heavyHandshakeSem
	}
	held = s.held
	*s = handshakeSlot{}
	return held
}

// retake takes a slot again if there was one and one is free. The crossing goes on without one otherwise: its locks are
// held, and those who have the slots may wait for these.
func (s *handshakeSlot) retake(held bool) {
	if !held {
		return
	}
	select {
	case handshakeSem <- struct{}{}:
		s.held = true
	default:
	}
}

// takeSlot waits for a slot among the handshakes, and for the gates, which it holds then. It waits for neither with the
// other in hand: a call that configures the context waits for the gates, and handshakes in a hook wait for slots.
func (c *Conn) takeSlot(r connRef) error {
	if c.server && c.handshakeBytes > heavyHandshake {
		if err := c.acquire(heavyHandshakeSem); err != nil {
			return err
		}
		c.slot.heavy = true
	}
	for {
		if err := c.acquire(handshakeSem); err != nil {
			c.slot.release()
			return err
		}
		if r.ctxs.tryRLock() {
			c.slot.held = true
			return nil
		}
		<-handshakeSem
		if err := c.awaitConfigLocks(r); err != nil {
			c.slot.release()
			return err
		}
		select {
		case handshakeSem <- struct{}{}:
			c.slot.held = true
			return nil
		default:
			r.ctxs.runlock()
		}
	}
}

// awaitConfigLocks waits for the gates, which it holds then, until the handshake ends. Who configures the context has them, and
// may read a file. It leaves nobody behind who waits on: c.mu is held, and keeps the gates the same.
func (c *Conn) awaitConfigLocks(r connRef) error {
	ctx, stop := c.startWait(c.hookCtx)
	defer stop()
	if poll(firstMoment, firstLook, r.ctxs.tryRLock, func() bool { return ctx.Err() != nil }) {
		return nil
	}
	return context.Cause(ctx)
}

// lockConfig is awaitConfigLocks after the handshake: until the deadline of what is done, or Close.
func (c *Conn) lockConfig(what op, r connRef) (err error) {
	if r.ctxs.tryRLock() {
		return nil
	}
	c.waitsForConfig.Store(true)
	defer c.waitsForConfig.Store(false)
	began := time.Now()
	poll(firstMoment, firstLook, r.ctxs.tryRLock, func() bool {
		err = c.configWaitErr(what, began)
		return err != nil
	})
	return err
}

// configWaitErr says why a call that began to wait for the gates at a time waits no longer.
func (c *Conn) configWaitErr(what op, began time.Time) error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	until := c.writeDeadline
	if what == opRead {
		until = c.readDeadline
	}
	switch {
	case c.closeBegun.Load() && what == opShutdown:
		if until.IsZero() || until.After(began.Add(closeNotifyTimeout)) {
			until = began.Add(closeNotifyTimeout)
		}
	case c.closeBegun.Load() || c.state.Load() < stateOpen:
		return ErrClosed
	}
	if !until.IsZero() && !time.Now().Before(until) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// acquire waits for room in slots until the handshake ends.
func (c *Conn) acquire(slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	ctx, stop := c.startWait(c.hookCtx)
	defer stop()
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
