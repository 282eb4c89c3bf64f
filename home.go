// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"weak"
)

// home is what the handles of one SSL_CTX share: its Context, the Conns made from it, and the
// sessions that are, or may be, in its cache.
//
// It holds no C reference and no handle, so that it never keeps one alive. A session keeps its home, also when the
// context is gone, until it is added to another: session_moves.go.
type home struct {
	// number is that of the SSL_CTX. It orders the homes: who needs the gates of two takes that of the lower
	// number first.
	number uint64

	// contexts are the Contexts of the SSL_CTX, of which one hears of what other code makes libssl report. Weak
	// pointers, for they lead to hooks, which may lead back. Guarded by homes.
	contexts []weak.Pointer[Context]

	// gate keeps apart what libssl does not. Calls that use the context or its cache, among them
	// each crossing of a Conn, hold it for reading. Held for writing: configuration, which libssl
	// does not lock against connections; the time and timeout of a session that may be cached, where
	// libssl looks at the session's owner before it takes the owner's lock (from 3.0 on); and adding
	// a session that may have been cached before, because libssl walks the sessions that it evicts,
	// after it gave its lock back, through links that adding one of them rewires (4.0, and 3.6.5: it
	// comes with patch releases, so that the version is not asked).
	gate sync.RWMutex

	// padded says that records may be much longer than what is in them: a Conn makes room for the
	// longest. libssl cannot be asked. Guarded by gate.
	padded bool

	// pooled says that a CertPool judges chains.
	pooled atomic.Bool

	// trust counts the changes of what the context trusts that can take trust away. libssl's store only grows.
	trust atomic.Uint64

	// moved says that a session which a handle knows h as the home of may be elsewhere, or may be held by connections of
	// others, too. It is set while the gate is held alone, and stays.
	moved atomic.Bool

	// foreign says that other code has the SSL_CTX, too.
	foreign atomic.Bool
}

// homes finds the home of an SSL_CTX by its number, as long as there is a handle that needs it: two Contexts of
// one SSL_CTX share its home.
var homes = struct {
	sync.Mutex
	byNumber map[uint64]weak.Pointer[home]
	sweepAt  int
}{byNumber: make(map[uint64]weak.Pointer[home])}

// homeOf returns the home with a number.
func homeOf(number uint64) *home {
	homes.Lock()
	defer homes.Unlock()
	if h := homes.byNumber[number].Value(); h != nil {
		return h
	}
	if len(homes.byNumber) >= homes.sweepAt {
		maps.DeleteFunc(homes.byNumber, func(_ uint64, h weak.Pointer[home]) bool { return h.Value() == nil })
		homes.sweepAt = 2*len(homes.byNumber) + 16
	}
	h := &home{number: number}
	homes.byNumber[number] = weak.Make(h)
	return h
}

// settle notes that c is a Context of h. If there is another, c gets its hooks, and has them before anybody finds c.
func (h *home) settle(c *Context) {
	homes.Lock()
	defer homes.Unlock()
	if other := h.openContext(); other != nil {
		c.hooks = other.hooks
	}
	h.contexts = append(h.contexts, weak.Make(c))
}

// openContext returns a Context that is not closed, or nil, and forgets those that are. homes is held.
func (h *home) openContext() (open *Context) {
	h.contexts = slices.DeleteFunc(h.contexts, func(w weak.Pointer[Context]) bool {
		c := w.Value()
		if c == nil || c.state.Load() < stateOpen {
			return true
		}
		open = c
		return false
	})
	return open
}

// contextOf returns a Context of the SSL_CTX with a number, or nil.
func contextOf(number uint64) *Context {
	homes.Lock()
	defer homes.Unlock()
	if h := homes.byNumber[number].Value(); h != nil {
		return h.openContext()
	}
	return nil
}

// lock holds the gate: alone for writing, otherwise for reading.
func (h *home) lock(alone bool) {
	if alone {
		h.gate.Lock()
	} else {
		h.gate.RLock()
	}
}

func (h *home) unlock(alone bool) {
	if alone {
		h.gate.Unlock()
	} else {
		h.gate.RUnlock()
	}
}

// connHomes are where a connection is at home: with the context it was made from, whose cache it uses,
// and with the context that its server chose by the ClientHello, if it did.
type connHomes struct {
	own    *home
	chosen *home // set once, under Conn.mu
}

// rlock holds the gates of both for reading, for a crossing.
func (h *connHomes) rlock() {
	first, second := h.inOrder()
	first.gate.RLock()
	if second != nil {
		second.gate.RLock()
	}
}

// pooled reports whether a CertPool may judge the chain of the connection's peer.
func (h *connHomes) pooled() bool {
	return h.own.pooled.Load() || h.chosen != nil && h.chosen.pooled.Load()
}

// tryRLock is rlock if that need not wait.
func (h *connHomes) tryRLock() bool {
	first, second := h.inOrder()
	if !first.gate.TryRLock() {
		return false
	}
	if second != nil && !second.gate.TryRLock() {
		first.gate.RUnlock()
		return false
	}
	return true
}

func (h *connHomes) runlock() {
	first, second := h.inOrder()
	if second != nil {
		second.gate.RUnlock()
	}
	first.gate.RUnlock()
}

// inOrder returns the homes in the order of their numbers; second may be nil.
func (h *connHomes) inOrder() (first, second *home) {
	if h.chosen != nil && h.chosen.number < h.own.number {
		return h.chosen, h.own
	}
	return h.own, h.chosen
}
