// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime/cgo"
	"sync"
)

// The hooks that libssl has to have an answer from in the middle of a handshake. Each runs on a goroutine of its own, with
// the gates open, while the goroutine of the crossing waits.
type (
	getSessionHook     = func(ctx context.Context, id []byte) *Session
	generateIDHook     = func(ctx context.Context, c *Conn, n int) ([]byte, error)
	notResumableHook   = func(ctx context.Context, c *Conn, isForwardSecure bool) bool
	generateTicketHook = func(ctx context.Context, t SessionTicket) ([]byte, error)
	decryptTicketHook  = func(ctx context.Context, t SessionTicket) TicketReturn
	ticketExtHook      = func(ctx context.Context, data []byte) error
)

// upcalls is what belongs to a Conn of it, guarded by Conn.mu but for the window.
type upcalls struct {
	generateID   *generateIDHook // of the connection's own, before those of its context
	notResumable *notResumableHook
	ticketExt    *ticketExtHook
	err          error // why a hook gave no answer in this crossing
	identities   int   // of the client's that hooks were asked about in this crossing

	window hookWindow
}

// A hookWindow is open while a hook runs: the crossing stands still then, and the SSL may be read.
type hookWindow struct {
	mu   sync.RWMutex
	open bool
}

func (w *hookWindow) set(open bool) {
	w.mu.Lock()
	w.open = open
	w.mu.Unlock()
}

// enter reports whether the window is open; if it is, it stays so until leave.
func (w *hookWindow) enter() bool {
	w.mu.RLock()
	open := w.open
	if !open {
		w.mu.RUnlock()
	}
	return open
}

func (w *hookWindow) leave() { w.mu.RUnlock() }

// maxIdentities is how many identities of a ClientHello, pre-shared keys and tickets, hooks are asked about. Clients have one
// or two, and crypto/tls looks at five. Without a limit one ClientHello has room for nine thousand.
const maxIdentities = 16

// tooMany counts an identity, and reports whether it is one too many.
func (a *upcalls) tooMany() bool {
	a.identities++
	return a.identities > maxIdentities
}

// wrapHookError is the error of a crossing in which a hook gave no answer.
func (a *upcalls) wrapHookError(err error) error {
	if a.err == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", a.err, err)
}

// fail notes why a hook gave no answer. What ended the hook itself ends the caller.
func (a *upcalls) fail(what string, err error) {
	if err != errHookEnded {
		a.err = fmt.Errorf("sslctx: %s: %w", what, err)
	}
}

// hasUpcalls reports whether there is a hook to ask, or a pool.
func (c *Conn) hasUpcalls() bool {
	k, own := c.hooks, &c.upcalls
	return own.ticketExt != nil || c.p.ctxs.usesCertPool() || c.server && (own.generateID != nil || own.notResumable != nil ||
		k.generateID.Load() != nil || k.notResumable.Load() != nil ||
		k.generateTicket.Load() != nil || k.decryptTicket.Load() != nil)
}

// passHandle leaves the Conn's number with C for the time of one crossing, in the field that says whose hooks answer.
func (c *Conn) passHandle(to *C.uintptr_t) (stop func()) {
	h := cgo.NewHandle(c)
	*to = C.uintptr_t(h)
	return func() {
		*to = 0
		h.Delete()
	}
}

// generateID writes an ID to id, and returns its length.
func (c *Conn) generateID(id []byte) C.long {
	hook := c.upcalls.generateID
	if hook == nil {
		hook = c.hooks.generateID.Load()
	}
	if hook == nil {
		return C.SHIM_ID_NO_HOOK
	}
	made, err := runUpcall(c, func(ctx context.Context) ([]byte, error) { return (*hook)(ctx, c, len(id)) })
	if err != nil {
		c.upcalls.fail("the session ID hook", err)
		return C.SHIM_ID_FAILED
	}
	copy(id, made)
	return C.long(min(len(made), len(id)+1)) // libssl says what it thinks of one that is too long
}

// notResumable is true without an answer: then the session is used for this connection alone.
func (c *Conn) notResumable(isForwardSecure bool) bool {
	hook := c.upcalls.notResumable
	if hook == nil {
		hook = c.hooks.notResumable.Load()
	}
	if hook == nil {
		return false
	}
	not, err := runUpcall(c, func(ctx context.Context) (bool, error) { return (*hook)(ctx, c, isForwardSecure), nil })
	return err != nil || not
}

// generateTicket asks for the data of a new ticket; the reference to s is the hook's.
func (c *Conn) generateTicket(s *C.SSL_SESSION, t SessionTicket) (made []byte, answer C.int) {
	t.Conn, t.Session = c, adoptSession(s, nil)
	hook := c.hooks.generateTicket.Load()
	if hook == nil {
		_ = t.Session.Close()
		return nil, C.SHIM_TICKET_KEPT
	}
	made, err := runUpcall(c, func(ctx context.Context) ([]byte, error) { return (*hook)(ctx, t) })
	if err != nil {
		c.upcalls.fail("the ticket hook", err)
		return nil, C.SHIM_TICKET_FAILED
	}
	return made, C.SHIM_TICKET_CHANGED
}

// errTicketAborted is why a handshake failed that a hook ended by TicketAbort.
var errTicketAborted = errors.New("the answer is TicketAbort")

// decryptTicket asks what to do with a ticket; the reference to s, which may be nil, is the hook's. unasked is what libssl
// does without a hook.
func (c *Conn) decryptTicket(s *C.SSL_SESSION, t SessionTicket, unasked C.int) C.int {
	t.Conn = c
	if s != nil {
		t.Session = adoptSession(s, nil)
	}
	hook := c.hooks.decryptTicket.Load()
	if hook == nil {
		_ = t.Session.Close()
		return unasked
	}
	if c.upcalls.tooMany() {
		_ = t.Session.Close()
		return C.SSL_TICKET_RETURN_IGNORE_RENEW
	}
	answer, err := runUpcall(c, func(ctx context.Context) (TicketReturn, error) {
		answer := (*hook)(ctx, t)
		if answer.ends(t.Status) {
			return answer, errTicketAborted
		}
		return answer, nil
	})
	switch {
	case errors.Is(err, ErrTooManyHooks):
		return C.SSL_TICKET_RETURN_IGNORE_RENEW // a full handshake
	case err != nil:
		c.upcalls.fail("the ticket hook", err)
		return C.SSL_TICKET_RETURN_ABORT
	case answer == TicketDefault:
		return unasked
	}
	return C.int(answer)
}

func (c *Conn) hearTicketExt(data []byte) bool {
	hook := c.upcalls.ticketExt
	if hook == nil {
		return true
	}
	_, err := runUpcall(c, func(ctx context.Context) (struct{}, error) { return struct{}{}, (*hook)(ctx, data) })
	if err != nil {
		c.upcalls.fail("the ticket extension hook", err)
	}
	return err == nil
}

// getSession asks the hook. Without an answer it is a full handshake.
func (c *Conn) getSession(id []byte) *C.SSL_SESSION {
	hook := c.hooks.getSession.Load()
	if hook == nil {
		return nil
	}
	s, err := runUpcall(c, func(ctx context.Context) (*Session, error) { return (*hook)(ctx, id), nil })
	if err != nil || s == nil {
		return nil
	}
	p, _ := s.upRefFor(c.p.p, c.p.ctxs.sessionCtx, false) // what must not be used is no session: it may just have been closed
	return p
}
