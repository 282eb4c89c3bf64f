// SPDX-License-Identifier: Apache-2.0

package sslctx

import (
	"sync"
	"testing"
	"time"
)

// Crossings returns how often the connection crossed into libssl to move ciphertext.
func (c *Conn) Crossings() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sslCalls
}

// HoldWrites calls f while c's lock for writes is held, as by a Write that has sent all.
func HoldWrites(c *Conn, f func()) {
	c.writeMu.Lock()
	defer c.unlockWrite()
	f()
}

// LivePools returns how many pools contexts trust.
func LivePools() int {
	return pools.len()
}

// Gates makes two homes. The calls take the gates of both, from either side, or one alone, and give
// them back.
func Gates() (calls []func()) {
	a, b := ctxStateOf(1<<63), ctxStateOf(1<<63+1)
	for _, h := range []*connStates{{sessionCtx: a, currentCtx: b}, {sessionCtx: b, currentCtx: a}} {
		calls = append(calls, func() { h.rlock(); h.runlock() })
	}
	for _, h := range []*ctxState{a, b} {
		calls = append(calls, func() { h.lock(true); h.unlock(true) })
	}
	return calls
}

// LiveValues returns how many sessions have values of Go's.
func LiveValues() int {
	return exData.len()
}

// Mismatch is what init panics with.
func Mismatch(linked, compiled LibVersion) string { return mismatch(linked, compiled) }

// HookThreads is how many threads may wait in libssl for hooks.
func HookThreads() int { return cap(hookThreads) }

// UsedHookThreads is how many do.
func UsedHookThreads() int { return len(hookThreads) }

// HoldHookThread takes room among them, when there is some; ReleaseHookThread gives it back.
func HoldHookThread()    { hookThreads <- struct{}{} }
func ReleaseHookThread() { <-hookThreads }

// StayPlaces returns how many homes are remembered of a session that was moved.
func StayPlaces(s *Session) int {
	p, ok := s.enter()
	if !ok {
		return 0
	}
	defer s.leave(freeSession)
	st := lastPlacement(p)
	if st == nil {
		return 0
	}
	return len(st.holders)
}

// Stays returns how many sessions are remembered since they were moved.
func Stays() int {
	placements.Lock()
	defer placements.Unlock()
	return len(placements.of)
}

// A WaitMutex is a waitMutex whose waits have a duration.
type WaitMutex struct{ m waitMutex }

func NewWaitMutex() *WaitMutex {
	w := new(WaitMutex)
	w.m.init()
	return w
}

func (w *WaitMutex) TryLock() bool { return w.m.TryLock() }
func (w *WaitMutex) Unlock()       { w.m.Unlock() }

// LockFor waits for a time, and reports whether it has the lock.
func (w *WaitMutex) LockFor(d time.Duration) bool { return w.m.lockUntil(time.Now().Add(d)) }

// ---- Tests of what is not exported ----

// A registry gives each value a number of its own, never 0 and never twice.
func TestRegistry(t *testing.T) {
	var r registry[string]
	if got := r.get(0); got != "" || r.len() != 0 {
		t.Fatalf("an empty registry has %q, and %d values", got, r.len())
	}
	r.remove(1) // no value has the number: nothing happens
	first, second := r.add("first"), r.add("first")
	if first == 0 || second == 0 || first == second {
		t.Fatalf("the numbers are %d and %d", first, second)
	}
	r.set(second, "second")
	if a, b := r.get(first), r.get(second); a != "first" || b != "second" {
		t.Errorf("the values are %q and %q", a, b)
	}
	r.remove(second)
	if got := r.get(second); got != "" || r.len() != 1 {
		t.Errorf("after remove the value is %q, and there are %d", got, r.len())
	}
	if third := r.add("third"); third == first || third == second {
		t.Errorf("a removed number, %d, names another value", third)
	}
}

func TestRegistryManyGoroutines(t *testing.T) {
	const each = 200
	var r registry[int]
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range each {
				n := r.add(g)
				r.set(n, g+1)
				if got := r.get(n); got != g+1 {
					t.Errorf("number %d has %d", n, got)
				}
				if i%2 == 0 {
					r.remove(n)
				}
			}
		})
	}
	wg.Wait()
	if got := r.len(); got != 8*each/2 {
		t.Errorf("%d values are left", got)
	}
}

// Of a list of server names the first host counts that has no zero byte, without a dot at its end,
// and other kinds of names do not.
func TestHelloNames(t *testing.T) {
	for list, want := range map[string]string{
		"\x00\x00\x01a":                  "a",
		"\x00\x00\x02a.":                 "a",
		"\x00\x00\x03a\x00b":             "",
		"\x01\x00\x01a":                  "",
		"\x01\x00\x01a\x00\x00\x01b":     "b",
		"\x00\x00\x01a\x00\x00\x01b":     "a",
		"\x00\x00\x05a":                  "",
		"\x00\x00\x02\x00a\x00\x00\x01b": "b",
	} {
		if got := serverName(wire(list)); got != want {
			t.Errorf("%q gives %q, want %q", list, got, want)
		}
	}
}

// A client that does not say which versions it supports has those up to that of its hello, and
// never TLS 1.3.
func TestVersionsOfHello(t *testing.T) {
	for version, want := range map[uint64]int{0x0300: 0, 0x0301: 1, 0x0303: 3, 0x0304: 3, 0xffff: 3} {
		if got := versionsUpTo(version); len(got) != want {
			t.Errorf("%#x gives %#x", version, got)
		}
	}
}
