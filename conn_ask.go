// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"
	"sync"
)

// The hooks that libssl has to have an answer from in the middle of a handshake. They run as the get hook does: on a
// goroutine of their own, with the gates open, while that of the crossing waits.
type (
	generateIDHook     = func(c *Conn, n int) ([]byte, error)
	notResumableHook   = func(c *Conn, isForwardSecure bool) bool
	generateTicketHook = func(SessionTicket) ([]byte, error)
	decryptTicketHook  = func(SessionTicket) TicketReturn
	ticketExtHook      = func(data []byte) error
)

// asked is what belongs to a Conn of it, guarded by Conn.mu but for the window.
type asked struct {
	generateID   *generateIDHook // of the connection's own, before those of its context
	notResumable *notResumableHook
	ticketExt    *ticketExtHook
	err          error // what a hook failed with in this crossing

	window window
}

// A window is open while a hook runs: the crossing stands still then, and the SSL may be read.
type window struct {
	mu   sync.RWMutex
	open bool
}

func (w *window) set(open bool) {
	w.mu.Lock()
	w.open = open
	w.mu.Unlock()
}

// enter reports whether the window is open; if it is, it stays so until leave.
func (w *window) enter() bool {
	w.mu.RLock()
	open := w.open
	if !open {
		w.mu.RUnlock()
	}
	return open
}

func (w *window) leave() { w.mu.RUnlock() }

// because is the error of a crossing in which a hook failed.
func (a *asked) because(err error) error {
	why := a.err
	if a.err = nil; why == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", why, err)
}

// answers reports whether there is a hook to ask.
func (c *Conn) answers() bool {
	k, own := c.hooks, &c.asked
	return own.ticketExt != nil || c.server && (own.generateID != nil || own.notResumable != nil ||
		k.generateID.Load() != nil || k.notResumable.Load() != nil ||
		k.generateTicket.Load() != nil || k.decryptTicket.Load() != nil)
}

// lend leaves the Conn's number with C for the time of one crossing, in the field that says whose hooks answer.
func (c *Conn) lend(to *C.uintptr_t) (stop func()) {
	h := cgo.NewHandle(c)
	*to = C.uintptr_t(h)
	return func() {
		*to = 0
		h.Delete()
	}
}

// ask runs a hook that libssl waits for in the middle of a crossing, and reports whether it came back. Meanwhile the
// gates are open, and other handshakes may have this one's place: the hook may call anything of the context's, and
// connect to elsewhere.
func (c *Conn) ask(hook func()) bool {
	c.p.h.runlock()
	c.asking.Store(true)
	c.asked.window.set(true)
	end := outOfPlace(&c.p.p.placed, hook)
	c.asked.window.set(false)
	c.asking.Store(false)
	c.p.h.rlock()
	if end != nil {
		c.hookEnd = end
		return false
	}
	return true
}

// askFor is ask for a hook that can fail.
func (c *Conn) askFor(what string, hook func() error) bool {
	var err error
	if !c.ask(func() { err = hook() }) {
		return false
	}
	if err != nil {
		c.asked.err = fmt.Errorf("sslctx: %s: %w", what, err)
	}
	return err == nil
}

// generateID writes an ID to id, and returns its length.
func (c *Conn) generateID(id []byte) C.long {
	hook := c.asked.generateID
	if hook == nil {
		hook = c.hooks.generateID.Load()
	}
	if hook == nil {
		return C.SHIM_ID_NO_HOOK
	}
	var made []byte
	ok := c.askFor("the session ID hook", func() (err error) {
		made, err = (*hook)(c, len(id))
		return err
	})
	if !ok {
		return C.SHIM_ID_FAILED
	}
	copy(id, made)
	return C.long(min(len(made), len(id)+1)) // libssl says what it thinks of one that is too long
}

func (c *Conn) notResumable(isForwardSecure bool) (not bool) {
	hook := c.asked.notResumable
	if hook == nil {
		hook = c.hooks.notResumable.Load()
	}
	if hook == nil {
		return false
	}
	return !c.ask(func() { not = (*hook)(c, isForwardSecure) }) || not
}

// generateTicket asks for the data of a new ticket; the reference to s is the hook's.
func (c *Conn) generateTicket(s *C.SSL_SESSION, t SessionTicket) (made []byte, answer C.int) {
	t.Conn, t.Session = c, adoptSession(s, nil)
	hook := c.hooks.generateTicket.Load()
	if hook == nil {
		_ = t.Session.Close()
		return nil, C.SHIM_TICKET_KEPT
	}
	ok := c.askFor("the ticket hook", func() (err error) {
		made, err = (*hook)(t)
		return err
	})
	if !ok {
		return nil, C.SHIM_TICKET_FAILED
	}
	return made, C.SHIM_TICKET_CHANGED
}

// errTicketAborted is why a handshake failed that a hook ended by TicketAbort.
var errTicketAborted = errors.New("the answer is TicketAbort")

// decryptTicket asks what to do with a ticket; the reference to s, which may be nil, is the hook's.
func (c *Conn) decryptTicket(s *C.SSL_SESSION, t SessionTicket, unasked C.int) (answer C.int) {
	t.Conn = c
	if s != nil {
		t.Session = adoptSession(s, nil)
	}
	hook := c.hooks.decryptTicket.Load()
	if hook == nil {
		_ = t.Session.Close()
		return unasked
	}
	ok := c.askFor("the ticket hook", func() error {
		answer = C.int((*hook)(t))
		if TicketReturn(answer).ends(t.Status) {
			return errTicketAborted
		}
		return nil
	})
	if !ok {
		return C.SSL_TICKET_RETURN_ABORT
	}
	return answer
}

func (c *Conn) hearTicketExt(data []byte) bool {
	hook := c.asked.ticketExt
	if hook == nil {
		return true
	}
	return c.askFor("the ticket extension hook", func() error { return (*hook)(data) })
}
