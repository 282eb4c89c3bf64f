// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// ctxState is what the handles of one SSL_CTX share: its Context, the Conns made from it, and the
// sessions that are, or may be, in its cache.
//
// It holds no C reference and no handle, so that it never keeps one alive. A session keeps its home, also when the
// context is gone, until it is added to another: session_publish.go.
type ctxState struct {
	// number is that of the SSL_CTX. It orders the homes: who needs the gates of two takes that of the lower
	// number first.
	number uint64

	// contexts are the Contexts of the SSL_CTX, of which one hears of what other code makes libssl report. Weak
	// pointers, for they lead to hooks, which may lead back. Guarded by homes.
	contexts []weak.Pointer[Context]

	// configMu keeps apart what libssl does not. Calls that use the context or its cache, among them
	// each crossing of a Conn, hold it for reading. Held for writing: configuration, which libssl
	// does not lock against connections; the time and timeout of a session that may be cached, where
	// libssl looks at the session's owner before it takes the owner's lock (from 3.0 on); and adding
	// a session that may have been cached before, because libssl walks the sessions that it evicts,
	// after it gave its lock back, through links that adding one of them rewires (4.0, and 3.6.5: it
	// comes with patch releases, so that the version is not asked).
	configMu configLock

	// padsRecords says that records may be much longer than what is in them: a Conn makes room for the
	// longest. libssl cannot be asked. Guarded by gate.
	padsRecords bool

	// usesCertPool says that a CertPool judges chains.
	usesCertPool atomic.Bool

	// trustLosses counts the changes of what the context trusts that can take trust away: another CertPool, and the
	// configuration commands that replace libssl's store.
	trustLosses atomic.Uint64

	// sessionsMoved says that a session which a handle knows h as the home of may be elsewhere, or may be held by connections of
	// others, too. It is set while the gate is held alone, and stays.
	sessionsMoved atomic.Bool

	// foreign says that other code has the SSL_CTX, too.
	foreign atomic.Bool
}

// ctxStates finds the home of an SSL_CTX by its number, as long as there is a handle that needs it: two Contexts of
// one SSL_CTX share its home.
var ctxStates = struct {
	sync.Mutex
	byNumber map[uint64]weak.Pointer[ctxState]
	sweepAt  int
}{byNumber: make(map[uint64]weak.Pointer[ctxState])}

// ctxStateOf returns the home with a number.
func ctxStateOf(number uint64) *ctxState {
	ctxStates.Lock()
	defer ctxStates.Unlock()
	if h := ctxStates.byNumber[number].Value(); h != nil {
		return h
	}
	if len(ctxStates.byNumber) >= ctxStates.sweepAt {
		maps.DeleteFunc(ctxStates.byNumber, func(_ uint64, h weak.Pointer[ctxState]) bool { return h.Value() == nil })
		ctxStates.sweepAt = 2*len(ctxStates.byNumber) + 16
	}
	h := &ctxState{number: number}
	ctxStates.byNumber[number] = weak.Make(h)
	return h
}

// register notes that c is a Context of h. If there is another, c gets its hooks, and has them before anybody finds c.
func (h *ctxState) register(c *Context) {
	ctxStates.Lock()
	defer ctxStates.Unlock()
	if other := h.openContext(); other != nil {
		c.hooks = other.hooks
	}
	h.contexts = append(h.contexts, weak.Make(c))
}

// openContext returns a Context that is not closed, or nil, and forgets those that are. homes is held.
func (h *ctxState) openContext() (open *Context) {
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
	ctxStates.Lock()
	defer ctxStates.Unlock()
	if h := ctxStates.byNumber[number].Value(); h != nil {
		return h.openContext()
	}
	return nil
}

// lock holds the gate: alone for writing, otherwise for reading.
func (h *ctxState) lock(exclusive bool) {
	if exclusive {
		h.configMu.Lock()
	} else {
		h.configMu.RLock()
	}
}

func (h *ctxState) unlock(exclusive bool) {
	if exclusive {
		h.configMu.Unlock()
	} else {
		h.configMu.RUnlock()
	}
}

// A configLock is a sync.RWMutex whose readers can also wait with a limit: Conn.awaitConfig does.
type configLock struct {
	mu      sync.RWMutex
	turn    sync.Mutex   // a writer has it until the readers that waited with a limit are in
	waiting atomic.Int32 // readers that wait with a limit
	unlocks notifier     // rings when a writer leaves
}

// letInRounds bounds how often a writer that leaves yields to readers. They need one or two rounds on idle processors.
const letInRounds = 100

func (l *configLock) Lock() {
	l.turn.Lock()
	l.mu.Lock()
}

// Unlock lets the readers in that waited with a limit. They try the lock, and would find the next writer there each time.
func (l *configLock) Unlock() {
	l.mu.Unlock()
	l.unlocks.Broadcast()
	for n := 0; l.waiting.Load() > 0 && n < letInRounds; n++ {
		runtime.Gosched()
	}
	l.turn.Unlock()
}

func (l *configLock) RLock()         { l.mu.RLock() }
func (l *configLock) RUnlock()       { l.mu.RUnlock() }
func (l *configLock) TryRLock() bool { return l.mu.TryRLock() }

// rlockUntil is RLock until a time, and reports whether it has the lock.
func (l *configLock) rlockUntil(until time.Time) bool {
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	for {
		unlocked := l.unlocks.Wait()
		if l.TryRLock() {
			return true
		}
		if !time.Now().Before(until) {
			return false
		}
		waitAny(until, nil, unlocked, nil)
	}
}

// connStates are where a connection is at home: with the context it was made from, whose cache it uses,
// and with the context that its server chose by the ClientHello, if it did.
type connStates struct {
	sessionCtx *ctxState
	currentCtx *ctxState // set once, under Conn.mu
}

// rlock holds the gates of both for reading, for a crossing.
func (h *connStates) rlock() {
	first, second := h.inOrder()
	first.configMu.RLock()
	if second != nil {
		second.configMu.RLock()
	}
}

// usesCertPool reports whether a CertPool may judge the chain of the connection's peer.
func (h *connStates) usesCertPool() bool {
	return h.sessionCtx.usesCertPool.Load() || h.currentCtx != nil && h.currentCtx.usesCertPool.Load()
}

// tryRLock is rlock if that need not wait. Otherwise it returns a lock that somebody has, and holds none. held is a lock
// that the caller holds for reading already, or nil: it becomes one of the locks of h if tryRLock succeeds.
func (h *connStates) tryRLock(held *configLock) (busy *configLock) {
	first, second := h.inOrder()
	if &first.configMu != held && !first.configMu.TryRLock() {
		return &first.configMu
	}
	if second == nil || &second.configMu == held || second.configMu.TryRLock() {
		return nil
	}
	if &first.configMu != held {
		first.configMu.RUnlock()
	}
	return &second.configMu
}

// rlockUntil is rlock until a time, and reports whether it has the locks.
func (h *connStates) rlockUntil(until time.Time) bool {
	for {
		busy := h.tryRLock(nil)
		if busy == nil {
			return true
		}
		if !busy.rlockUntil(until) {
			return false
		}
		if h.tryRLock(busy) == nil {
			return true
		}
		busy.RUnlock()
	}
}

func (h *connStates) runlock() {
	first, second := h.inOrder()
	if second != nil {
		second.configMu.RUnlock()
	}
	first.configMu.RUnlock()
}

// inOrder returns the homes in the order of their numbers; second may be nil.
func (h *connStates) inOrder() (first, second *ctxState) {
	if h.currentCtx != nil && h.currentCtx.number < h.sessionCtx.number {
		return h.currentCtx, h.sessionCtx
	}
	return h.sessionCtx, h.currentCtx
}
