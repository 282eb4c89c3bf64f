// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// ctxState is what the handles of one SSL_CTX share: its Contexts, the Conns made from it, and the
// sessions that are, or may be, in its cache.
//
// It holds no C reference and no handle, so that it never keeps one alive. A session keeps its
// ctxState, also when the context is gone, until it is added to another context:
// session_publish.go.
type ctxState struct {
	// number is the number of the SSL_CTX. A call that needs the locks of two contexts takes that
	// of the lower number first.
	number uint64

	// contexts are the Contexts of the SSL_CTX. One of them gets what libssl reports to calls of
	// other code. The pointers are weak, because Contexts refer to hooks, which may refer back.
	// Guarded by ctxStates.
	contexts []weak.Pointer[Context]

	// configMu separates the calls that libssl does not separate. Calls that use the context or its
	// cache hold it for reading, among them each call of a Conn into libssl. Three kinds of calls
	// hold it for writing. Configuration: libssl does not lock that against connections. A new time
	// or timeout of a session that may be cached: from 3.0 on, libssl reads the session's owner
	// before it takes the owner's lock. Adding a session that may have been cached before: libssl
	// walks the sessions that it evicts after it has released its lock, through links that such an
	// add changes (4.0, and 3.6.5: since patch releases bring it, nothing checks the version).
	configMu configLock

	// padsRecords says that records may be much longer than their contents. A Conn then has a
	// buffer for the longest record. libssl cannot be asked. Guarded by configMu.
	padsRecords bool

	// idContext is that of Context.SetIDContext: libssl cannot be asked. Guarded by configMu.
	idContext string

	// maxFragment is that of Context.SetMaxFragmentLength: libssl cannot be asked. Guarded by configMu.
	maxFragment MaxFragmentLength

	// configured counts the calls that configure. It changes while configMu is held exclusively.
	configured atomic.Uint64

	// usesCertPool says that a CertPool verifies chains.
	usesCertPool atomic.Bool

	// trustLosses counts the changes that can take trust away: another CertPool, and the
	// configuration commands that replace libssl's store.
	trustLosses atomic.Uint64

	// sessionsMoved says that a session whose handle knows this context may belong to another one,
	// or that connections of others may hold it, too. It is set while configMu is held exclusively,
	// and never cleared.
	sessionsMoved atomic.Bool

	// foreign says that other code uses the SSL_CTX, too.
	foreign atomic.Bool
}

// ctxStates finds the state of an SSL_CTX by its number, as long as a handle needs it: two Contexts
// of one SSL_CTX share the state.
var ctxStates = struct {
	sync.Mutex
	byNumber map[uint64]weak.Pointer[ctxState]
	sweepAt  int
}{byNumber: make(map[uint64]weak.Pointer[ctxState])}

// ctxStateOf returns the state for a number. It makes one if there is none.
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

// register notes that c is a Context of h. If another one is open, c takes over its hooks, before
// anybody finds c.
func (h *ctxState) register(c *Context) {
	ctxStates.Lock()
	defer ctxStates.Unlock()
	if other := h.openContext(); other != nil {
		c.hooks = other.hooks
	}
	h.contexts = append(h.contexts, weak.Make(c))
}

// openContext returns a Context that is not closed, or nil. It drops closed ones from the list.
// ctxStates is locked.
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

// lock takes configMu: exclusively, or for reading.
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

// A configLock is a sync.RWMutex whose readers can also wait with a time limit, as Conn.awaitConfig
// does.
type configLock struct {
	mu      sync.RWMutex
	turn    sync.Mutex   // a writer holds it until the readers that waited with a limit have mu
	waiting atomic.Int32 // readers that wait with a limit
	unlocks notifier     // rings when a writer leaves
}

// letInRounds bounds how often a writer that leaves yields to readers. They need one or two rounds
// on idle processors.
const letInRounds = 100

func (l *configLock) Lock() {
	l.turn.Lock()
	l.mu.Lock()
}

// Unlock lets in the readers that waited with a limit. They only try the lock, and would find the
// next writer there each time.
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

// rlockUntil is RLock until a time, the zero time for never, or until ctx ends. It reports whether
// it has the lock.
func (l *configLock) rlockUntil(ctx context.Context, until time.Time) bool {
	if l.TryRLock() {
		return true
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	for {
		unlocked := l.unlocks.Wait()
		if l.TryRLock() {
			return true
		}
		if ctx.Err() != nil || !until.IsZero() && !time.Now().Before(until) {
			return false
		}
		waitAny(until, ctx, nil, unlocked, nil)
	}
}

// connStates are the contexts of a connection: the one that it was made from, whose cache it uses,
// and the one that its server chose by the ClientHello, if it did.
type connStates struct {
	sessionCtx *ctxState
	currentCtx *ctxState // set once, under Conn.mu
}

// rlock takes configMu of both for reading, for a call into libssl.
func (h *connStates) rlock() {
	first, second := h.inOrder()
	first.configMu.RLock()
	if second != nil {
		second.configMu.RLock()
	}
}

// usesCertPool reports whether a CertPool may verify the chain of the connection's peer.
func (h *connStates) usesCertPool() bool {
	return h.sessionCtx.usesCertPool.Load() || h.currentCtx != nil && h.currentCtx.usesCertPool.Load()
}

// tryRLock is rlock if that need not wait. Otherwise it takes no lock, and returns one that
// somebody else holds. held is a lock that the caller already holds for reading, or nil. If
// tryRLock succeeds, held is one of the locks of h.
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

// rlockUntil is rlock until a time. It reports whether it has the locks.
func (h *connStates) rlockUntil(until time.Time) bool {
	return h.rlockBy(func(busy *configLock) bool {
		return busy.rlockUntil(context.Background(), until)
	})
}

// rlockBy is rlock with a wait of the caller's, which takes one lock for reading or reports that it
// gave up. It reports whether it has the locks.
func (h *connStates) rlockBy(wait func(busy *configLock) bool) bool {
	for {
		busy := h.tryRLock(nil)
		if busy == nil {
			return true
		}
		if !wait(busy) {
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

// inOrder returns the contexts in the order of their numbers; second may be nil.
func (h *connStates) inOrder() (first, second *ctxState) {
	if h.currentCtx != nil && h.currentCtx.number < h.sessionCtx.number {
		return h.currentCtx, h.sessionCtx
	}
	return h.sessionCtx, h.currentCtx
}
