// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"cmp"
	"errors"
	"slices"
	"sync"
)

// A session is at home where it was published first. It moves when it is added to another context, which libssl survives
// only if no other cache holds it. Then it is at home there for all its handles, also for those that know the home of
// before: these are sent here by [home.moved]. Connections of the homes before may still hold the session.

// stay is where a session is that was moved. It never changes: the next move makes another.
type stay struct {
	at     *home // whose cache may hold the session
	places gates // whose connections may hold it, at among them
}

// stays has the sessions that were moved, while they are alive. It calls nothing while it is locked: libssl may ask it from
// under a lock of its own.
var stays = struct {
	sync.Mutex
	of map[*C.SSL_SESSION]*stay
}{of: make(map[*C.SSL_SESSION]*stay)}

// stayOf returns where a session is that h is, or was, the home of; nil: it was never moved.
func (h *home) stayOf(p *C.SSL_SESSION) *stay {
	if !h.moved.Load() {
		return nil
	}
	return lastStay(p)
}

func lastStay(p *C.SSL_SESSION) *stay {
	stays.Lock()
	defer stays.Unlock()
	return stays.of[p]
}

// forgetStay is for a session that is gone.
func forgetStay(p *C.SSL_SESSION) {
	stays.Lock()
	defer stays.Unlock()
	delete(stays.of, p)
}

// has reports whether a session that a handle knows h as the home of is, or was, also at home at other.
func (h *home) has(p *C.SSL_SESSION, other *home) bool {
	if h == other {
		return true
	}
	st := h.stayOf(p)
	return st != nil && slices.Contains(st.places, other)
}

// whereIs returns the home of the session now.
func (h *home) whereIs(p *C.SSL_SESSION) *home {
	if st := h.stayOf(p); st != nil {
		return st.at
	}
	return h
}

// cache says whether the cache of the home holds a session. The gate is held alone.
func (h *home) cache(p *C.SSL_SESSION) C.int { return C.shim_session_in_cache(C.uint64_t(h.number), p) }

// gates are those of several homes, in the order of their numbers.
type gates []*home

func (g gates) sorted() gates {
	slices.SortFunc(g, func(a, b *home) int { return cmp.Compare(a.number, b.number) })
	return slices.Compact(g)
}

func (g gates) lock() {
	for _, h := range g {
		h.gate.Lock()
	}
}

// unlock opens all gates but one, which may be nil.
func (g gates) unlock(but *home) {
	for _, h := range slices.Backward(g) {
		if h != but {
			h.gate.Unlock()
		}
	}
}

// follow takes the gates that a call needs of a session that was moved: that of a place where it is to read, those of all to
// write. That of a.h, which the handle knows, is held.
func (a *access) follow() {
	for st := a.h.stayOf(a.p); st != nil; {
		if !a.writing && slices.Contains(st.places, a.h) {
			return
		}
		a.h.unlock(a.writing)
		a.h = st.at
		if a.writing {
			st.places.lock()
		} else {
			a.h.lock(false)
		}
		now := lastStay(a.p)
		if now == st { // it was not moved meanwhile
			return
		}
		if a.writing {
			st.places.unlock(nil)
			st.at.lock(true)
		}
		st = now
	}
}

func (a *access) unlock() {
	if a.writing && a.h.moved.Load() {
		a.placesHeld().unlock(nil)
	} else {
		a.h.unlock(a.writing)
	}
}

// placesHeld are the places of which follow took the gates to write: they have not changed since.
func (a *access) placesHeld() gates {
	if st := lastStay(a.p); st != nil {
		return st.places
	}
	return gates{a.h}
}

// errElsewhere says that a session belongs to another context, where it may be free to go.
var errElsewhere = errors.New("sslctx: session is elsewhere")

// isElsewhere is asked for a session that a handle knows at as the home of, and that shall be added to h, whose gate is held.
func (h *home) isElsewhere(at *home, p *C.SSL_SESSION) bool {
	if at == h && !h.moved.Load() {
		return false
	}
	return at.whereIs(p) != h
}

// gather begins the visit alone, and holds the gates of all places where the sessions may be: nobody else is inside libssl
// with these.
func (v *visit) gather(c *Context, b *batch) (gates, error) {
	if c == nil {
		return nil, ErrClosed
	}
	r, ok := c.enter()
	if !ok {
		return nil, ErrClosed
	}
	v.contextRef, v.c, v.alone = r, c, true
	for {
		g := b.places(r.h)
		g.lock()
		if slices.Equal(b.places(r.h), g) {
			return g, nil
		}
		g.unlock(nil)
	}
}

// places are the homes whose gates it takes to move the sessions to h.
func (b *batch) places(h *home) gates {
	g := gates{h}
	for i, s := range b.sessions {
		at := s.home.Load()
		if at == nil {
			continue
		}
		if st := at.stayOf(b.p[i]); st != nil {
			g = append(g, st.places...)
		} else {
			g = append(g, at)
		}
	}
	return g.sorted()
}

// move has all sessions at home at h, or none. The gates are held.
func (b *batch) move(h *home, held gates) error {
	for i, s := range b.sessions {
		at, p := s.home.Load(), b.p[i]
		if at != nil && h.isElsewhere(at, p) && at.whereIs(p).cache(p) == C.SHIM_CACHE_HOLDS {
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
// errElsewhere.
func (s *Session) moveTo(h *home, p *C.SSL_SESSION, held gates) error {
	first, _ := s.publish(h)
	s.settle(first, h)
	at := s.home.Load()
	if !h.isElsewhere(at, p) {
		return nil
	}
	if !slices.Contains(held, at.whereIs(p)) {
		return errElsewhere
	}
	if r := C.shim_session_note_moved(p); r.n != 1 {
		return newError("SSL_SESSION_set_ex_data", r.errs)
	}
	places := gates{at}
	if st := at.stayOf(p); st != nil {
		places = st.places
	}
	h.receive(p, places)
	s.home.Store(h)
	return nil
}

// receive notes that a session is at home at h now. Of the places before only those count whose connections may hold it still.
func (h *home) receive(p *C.SSL_SESSION, before gates) {
	places := gates{h}
	for _, b := range before {
		b.moved.Store(true)
		if b.cache(p) != C.SHIM_CTX_GONE {
			places = append(places, b)
		}
	}
	places = places.sorted()
	if len(places) > 1 {
		h.moved.Store(true)
	}
	stays.Lock()
	defer stays.Unlock()
	stays.of[p] = &stay{h, places}
}
