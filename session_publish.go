// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"sync"
)

// beginPublish precedes each call that passes the session to libssl for h. It returns
// ErrForeignContext if the session was published, but never to h. first says that the session is
// fresh: then s.mu is held, so that nobody else can publish or change it, and endPublish must
// follow.
func (s *Session) beginPublish(h *ctxState) (first bool, err error) {
	if at := s.ctxState.Load(); at != nil {
		return false, s.checkContext(at, h)
	}
	s.mu.Lock()
	if at := s.ctxState.Load(); at != nil {
		s.mu.Unlock()
		return false, s.checkContext(at, h)
	}
	return true, nil
}

func (s *Session) checkContext(at, h *ctxState) error {
	if at == h || at.sharesWith(s.p, h) {
		return nil
	}
	return ErrForeignContext
}

// endPublish ends a first publication. h becomes the session's context; nil says that libssl did
// not get the session after all.
func (s *Session) endPublish(first bool, h *ctxState) {
	if first {
		s.ctxState.Store(h)
		s.mu.Unlock()
	}
}

// matchesID reports whether a connection that asks for this ID can resume s.
func (s *Session) matchesID(id []byte) bool {
	a, err := s.begin(false)
	if err != nil {
		return false
	}
	defer a.end()
	return bytes.Equal(a.id(), id) && a.isResumable()
}

// upRefFor makes a reference that libssl may keep, for a connection of h: to s itself or to a copy.
// It makes a copy if s belongs to another context, and if libssl would add a published session to
// its cache. deferred says that libssl uses the session only after others could change what this
// depends on: in a later call, or after a hook. So it makes a copy, too; c and h may be nil then.
// The errors are those of AddSession, but a session of another context is no error. c is in a call
// into libssl, or its lock is held.
func (s *Session) upRefFor(c *C.shim_conn, h *ctxState, deferred bool) (*C.SSL_SESSION, error) {
	p, ok := enterSession(s)
	if !ok {
		return nil, ErrClosed
	}
	defer s.leave(freeSession)
	first, other := s.beginPublish(h)
	r := C.shim_SSL_SESSION_up_ref(c, p, boolInt(!first), boolInt(other != nil || deferred))
	if deferred {
		h = nil // it was copied: a fresh s stays fresh
	}
	if r.p == nil {
		s.endPublish(first, nil)
		if r.errs == nil {
			return nil, ErrNoCipher
		}
		return nil, newError("SSL_SESSION_dup", r.errs)
	}
	s.endPublish(first, h)
	return r.p, nil
}

// errOtherContext says that a session belongs to another context. It can move if no cache holds
// it.
var errOtherContext = errors.New("sslctx: session belongs to another context")

// A session belongs to the context that it was published to first. It moves when it is added to
// another context. libssl survives that only if no other cache holds the session. From then on it
// belongs to the new context for all its handles. A handle that still knows an old context finds
// the new one in placements: sessionsMoved of the old one says to look there. Connections of the
// old contexts may still hold the session.

// A placement says where a session is that was moved. It never changes: the next move makes
// another.
type placement struct {
	current *ctxState    // its cache may hold the session
	holders ctxStateList // their connections may hold it; current is one of them
}

// placements has the placement of each moved session, as long as the session exists. Nothing is
// called while it is locked: libssl may need it while libssl holds a lock itself.
var placements = struct {
	sync.Mutex
	of map[*C.SSL_SESSION]*placement
}{of: make(map[*C.SSL_SESSION]*placement)}

// placementOf returns the placement of a session that belongs, or belonged, to h. It is nil if the
// session was never moved.
func (h *ctxState) placementOf(p *C.SSL_SESSION) *placement {
	if !h.sessionsMoved.Load() {
		return nil
	}
	return lastPlacement(p)
}

func lastPlacement(p *C.SSL_SESSION) *placement {
	placements.Lock()
	defer placements.Unlock()
	return placements.of[p]
}

// forgetPlacement is called when libssl frees a session.
func forgetPlacement(p *C.SSL_SESSION) {
	placements.Lock()
	defer placements.Unlock()
	delete(placements.of, p)
}

// sharesWith reports whether a session, whose handle knows h as its context, belongs or belonged to
// other as well.
func (h *ctxState) sharesWith(p *C.SSL_SESSION, other *ctxState) bool {
	if h == other {
		return true
	}
	st := h.placementOf(p)
	return st != nil && slices.Contains(st.holders, other)
}

// currentOf returns the context that the session belongs to now.
func (h *ctxState) currentOf(p *C.SSL_SESSION) *ctxState {
	if st := h.placementOf(p); st != nil {
		return st.current
	}
	return h
}

// inCache returns whether the cache of h holds a session, or SHIM_CTX_GONE. The caller holds
// configMu exclusively.
func (h *ctxState) inCache(p *C.SSL_SESSION) C.int {
	return C.shim_session_in_cache(C.uint64_t(h.number), p)
}

// A ctxStateList is several contexts, in the order of their numbers. Their locks are taken in that
// order.
type ctxStateList []*ctxState

func (g ctxStateList) sorted() ctxStateList {
	slices.SortFunc(g, func(a, b *ctxState) int { return cmp.Compare(a.number, b.number) })
	return slices.Compact(g)
}

func (g ctxStateList) lock() {
	for _, h := range g {
		h.configMu.Lock()
	}
}

// unlock releases all locks but that of one context, which may be nil.
func (g ctxStateList) unlock(but *ctxState) {
	for _, h := range slices.Backward(g) {
		if h != but {
			h.configMu.Unlock()
		}
	}
}

// followMove takes the locks that a call needs for a session that was moved: to read, the lock of
// one holder; to write, those of all holders. The caller holds the lock of a.ctx, which the handle
// knows.
func (a *sessionCall) followMove() {
	for st := a.ctx.placementOf(a.p); st != nil; {
		if !a.exclusive && slices.Contains(st.holders, a.ctx) {
			return
		}
		a.ctx.unlock(a.exclusive)
		a.ctx = st.current
		if a.exclusive {
			st.holders.lock()
		} else {
			a.ctx.lock(false)
		}
		now := lastPlacement(a.p)
		if now == st { // it was not moved meanwhile
			return
		}
		if a.exclusive {
			st.holders.unlock(nil)
			st.current.lock(true)
		}
		st = now
	}
}

func (a *sessionCall) unlock() {
	if a.exclusive && a.ctx.sessionsMoved.Load() {
		a.heldStates().unlock(nil)
	} else {
		a.ctx.unlock(a.exclusive)
	}
}

// heldStates returns the contexts whose locks followMove took for writing. They have not changed
// since.
func (a *sessionCall) heldStates() ctxStateList {
	if st := lastPlacement(a.p); st != nil {
		return st.holders
	}
	return ctxStateList{a.ctx}
}

// isOfOther reports whether a session, whose handle knows at as its context, belongs to another
// context than h. It is about to be added to h. configMu of h is held.
func (h *ctxState) isOfOther(at *ctxState, p *C.SSL_SESSION) bool {
	if at == h && !h.sessionsMoved.Load() {
		return false
	}
	return at.currentOf(p) != h
}

// beginMove begins an exclusive call, and takes the locks of all contexts that may hold the
// sessions: then nobody else is inside libssl with these.
func (v *contextCall) beginMove(c *Context, b *batch) (ctxStateList, error) {
	if c == nil {
		return nil, ErrClosed
	}
	r, ok := c.enter()
	if !ok {
		return nil, ErrClosed
	}
	v.contextRef, v.c, v.exclusive = r, c, true
	for {
		g := b.holders(r.ctx)
		g.lock()
		if slices.Equal(b.holders(r.ctx), g) {
			return g, nil
		}
		g.unlock(nil)
	}
}

// holders returns the contexts whose locks a move of the sessions to h needs.
func (b *batch) holders(h *ctxState) ctxStateList {
	g := ctxStateList{h}
	for i, s := range b.sessions {
		at := s.ctxState.Load()
		if at == nil {
			continue
		}
		if st := at.placementOf(b.p[i]); st != nil {
			g = append(g, st.holders...)
		} else {
			g = append(g, at)
		}
	}
	return g.sorted()
}

// moveTo moves all sessions to h, or none. The locks are held.
func (b *batch) moveTo(h *ctxState, held ctxStateList) error {
	for i, s := range b.sessions {
		at, p := s.ctxState.Load(), b.p[i]
		if at != nil && h.isOfOther(at, p) && at.currentOf(p).inCache(p) == C.SHIM_CACHE_HOLDS {
			return b.refuse(i, ErrForeignContext)
		}
	}
	if err := b.checkCiphers(); err != nil {
		return err
	}
	for i, s := range b.sessions {
		if err := s.moveTo(h, b.p[i], held); err != nil {
			return err
		}
	}
	return nil
}

// moveTo moves a session to h if no other cache holds it. It returns errOtherContext if another
// goroutine has meanwhile published a fresh session to another context.
func (s *Session) moveTo(h *ctxState, p *C.SSL_SESSION, held ctxStateList) error {
	first, _ := s.beginPublish(h)
	s.endPublish(first, h)
	at := s.ctxState.Load()
	if !h.isOfOther(at, p) {
		return nil
	}
	if !slices.Contains(held, at.currentOf(p)) {
		return errOtherContext
	}
	if r := C.shim_session_note_moved(p); r.n != 1 {
		return newError("SSL_SESSION_set_ex_data", r.errs)
	}
	places := ctxStateList{at}
	if st := at.placementOf(p); st != nil {
		places = st.holders
	}
	h.recordMove(p, places)
	s.ctxState.Store(h)
	return nil
}

// recordMove notes that a session belongs to h now. It keeps those of the contexts before that
// still exist, since their connections may still hold the session.
func (h *ctxState) recordMove(p *C.SSL_SESSION, before ctxStateList) {
	places := ctxStateList{h}
	for _, b := range before {
		b.sessionsMoved.Store(true)
		if b.inCache(p) != C.SHIM_CTX_GONE {
			places = append(places, b)
		}
	}
	places = places.sorted()
	if len(places) > 1 {
		h.sessionsMoved.Store(true)
	}
	placements.Lock()
	defer placements.Unlock()
	placements.of[p] = &placement{h, places}
}
