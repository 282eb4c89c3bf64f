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

// beginPublish begins to hand the session to libssl for h, or reports ErrForeignContext if it was never at home there.
// first says that the session is fresh: then s.mu is held, so that nobody else can publish or change
// it, and settle must follow.
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

// endPublish ends a first publication: h is the home, or nil if libssl was not given the session after all.
func (s *Session) endPublish(first bool, h *ctxState) {
	if first {
		s.ctxState.Store(h)
		s.mu.Unlock()
	}
}

// matchesID reports whether a connection that asks for an ID can resume s.
func (s *Session) matchesID(id []byte) bool {
	a, err := s.begin(false)
	if err != nil {
		return false
	}
	defer a.end()
	return bytes.Equal(a.id(), id) && a.isResumable()
}

// upRefFor makes a reference for libssl, to the session or to a copy of it, for a connection of h. It fails
// with what AddSession fails with, except that a session of another context is copied. c is in a
// crossing, or its lock is held; later says that libssl asks in another crossing, when what may be given itself
// now may not: then it is copied. c and h may be nil then.
func (s *Session) upRefFor(c *C.shim_conn, h *ctxState, deferred bool) (*C.SSL_SESSION, error) {
	p, ok := enterSession(s)
	if !ok {
		return nil, ErrClosed
	}
	defer s.leave(freeSession)
	first, foreign := s.beginPublish(h)
	r := C.shim_SSL_SESSION_up_ref(c, p, boolInt(!first), boolInt(foreign != nil || deferred))
	if deferred {
		h = nil // it was copied, and stays what it is
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

// errForeignSession says that a session belongs to another context, where it may be free to go.
var errForeignSession = errors.New("sslctx: session is elsewhere")

// A session is at home where it was published first. It moves when it is added to another context, which libssl survives
// only if no other cache holds it. Then it is at home there for all its handles, also for those that know the home of
// before: these are sent here by [home.moved]. Connections of the homes before may still hold the session.

// placement is where a session is that was moved. It never changes: the next move makes another.
type placement struct {
	current *ctxState    // whose cache may hold the session
	holders ctxStateList // whose connections may hold it, at among them
}

// placements has the sessions that were moved, while they are alive. It calls nothing while it is locked: libssl may ask it from
// under a lock of its own.
var placements = struct {
	sync.Mutex
	of map[*C.SSL_SESSION]*placement
}{of: make(map[*C.SSL_SESSION]*placement)}

// placementOf returns where a session is that h is, or was, the home of; nil: it was never moved.
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

// forgetPlacement is for a session that is gone.
func forgetPlacement(p *C.SSL_SESSION) {
	placements.Lock()
	defer placements.Unlock()
	delete(placements.of, p)
}

// sharesWith reports whether a session that a handle knows h as the home of is, or was, also at home at other.
func (h *ctxState) sharesWith(p *C.SSL_SESSION, other *ctxState) bool {
	if h == other {
		return true
	}
	st := h.placementOf(p)
	return st != nil && slices.Contains(st.holders, other)
}

// currentOf returns the home of the session now.
func (h *ctxState) currentOf(p *C.SSL_SESSION) *ctxState {
	if st := h.placementOf(p); st != nil {
		return st.current
	}
	return h
}

// inCache says whether the cache of the home holds a session. The gate is held alone.
func (h *ctxState) inCache(p *C.SSL_SESSION) C.int {
	return C.shim_session_in_cache(C.uint64_t(h.number), p)
}

// ctxStateList are those of several homes, in the order of their numbers.
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

// unlock opens all gates but one, which may be nil.
func (g ctxStateList) unlock(but *ctxState) {
	for _, h := range slices.Backward(g) {
		if h != but {
			h.configMu.Unlock()
		}
	}
}

// followMove takes the gates that a call needs of a session that was moved: that of a place where it is to read, those of all to
// write. That of a.h, which the handle knows, is held.
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

// heldStates are the places of which follow took the gates to write: they have not changed since.
func (a *sessionCall) heldStates() ctxStateList {
	if st := lastPlacement(a.p); st != nil {
		return st.holders
	}
	return ctxStateList{a.ctx}
}

// isForeign is asked for a session that a handle knows at as the home of, and that shall be added to h, whose gate is held.
func (h *ctxState) isForeign(at *ctxState, p *C.SSL_SESSION) bool {
	if at == h && !h.sessionsMoved.Load() {
		return false
	}
	return at.currentOf(p) != h
}

// beginMove begins the visit alone, and holds the gates of all places where the sessions may be: nobody else is inside libssl
// with these.
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

// holders are the homes whose gates it takes to move the sessions to h.
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

// moveTo has all sessions at home at h, or none. The gates are held.
func (b *batch) moveTo(h *ctxState, held ctxStateList) error {
	for i, s := range b.sessions {
		at, p := s.ctxState.Load(), b.p[i]
		if at != nil && h.isForeign(at, p) && at.currentOf(p).inCache(p) == C.SHIM_CACHE_HOLDS {
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

// moveTo has a session at home at h that no other cache holds. One that was fresh may be published elsewhere meanwhile:
// errForeignSession.
func (s *Session) moveTo(h *ctxState, p *C.SSL_SESSION, held ctxStateList) error {
	first, _ := s.beginPublish(h)
	s.endPublish(first, h)
	at := s.ctxState.Load()
	if !h.isForeign(at, p) {
		return nil
	}
	if !slices.Contains(held, at.currentOf(p)) {
		return errForeignSession
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

// recordMove notes that a session is at home at h now. Of the places before only those count whose connections may hold it still.
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
