// SPDX-License-Identifier: Apache-2.0

package sslctx

import (
	"crypto/tls"
	"slices"
	"sync"
	"testing"
	"time"
)

// LibsslCalls returns how often the connection called libssl to move ciphertext.
func (c *Conn) LibsslCalls() int {
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

// LivePools returns how many pools are in use by contexts.
func LivePools() int {
	return pools.len()
}

// ConfigLockCalls makes two ctxStates. Its calls lock and unlock the configuration of both, in
// either order, or of one.
func ConfigLockCalls() (calls []func()) {
	a, b := ctxStateOf(1<<63), ctxStateOf(1<<63+1)
	for _, h := range []*connStates{{sessionCtx: a, currentCtx: b}, {sessionCtx: b, currentCtx: a}} {
		calls = append(calls, func() { h.rlock(); h.runlock() })
	}
	for _, h := range []*ctxState{a, b} {
		calls = append(calls, func() { h.lock(true); h.unlock(true) })
	}
	return calls
}

// LiveValues returns how many sessions have Go values.
func LiveValues() int {
	return exData.len()
}

// Mismatch returns the text of init's panic.
func Mismatch(linked, compiled LibVersion) string { return mismatch(linked, compiled) }

// HoldHandshakeSlots takes all slots of handshakes. release gives them back.
func HoldHandshakeSlots() (release func()) {
	for range cap(handshakeSem) {
		handshakeSem <- struct{}{}
	}
	return func() {
		for range cap(handshakeSem) {
			<-handshakeSem
		}
	}
}

// HookThreads returns how many threads may wait in libssl for hooks.
func HookThreads() int { return cap(hookThreads) }

// UsedHookThreads returns how many threads wait now.
func UsedHookThreads() int { return len(hookThreads) }

// HoldHookThread takes one of these places, when one is free. ReleaseHookThread returns it.
func HoldHookThread()    { hookThreads <- struct{}{} }
func ReleaseHookThread() { <-hookThreads }

// PlacementCount returns how many ctxStates are remembered for a session that was moved.
func PlacementCount(s *Session) int {
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

// MovedSessions returns how many moved sessions are remembered.
func MovedSessions() int {
	placements.Lock()
	defer placements.Unlock()
	return len(placements.of)
}

// BeInside is a call that uses the SSL_CTX of a context until it leaves.
func BeInside(c *Context) (leave func()) {
	c.p.ctx.configMu.RLock()
	return c.p.ctx.configMu.RUnlock
}

// Configuring is a call that configures a context until it ends.
func Configuring(c *Context) (end func()) {
	c.p.ctx.configMu.Lock()
	return sync.OnceFunc(c.p.ctx.configMu.Unlock)
}

// IsAwaited reports whether a call waits until nobody else is inside the SSL_CTX.
func IsAwaited(c *Context) bool {
	if !c.p.ctx.configMu.TryRLock() {
		return true
	}
	c.p.ctx.configMu.RUnlock()
	return false
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

// ---- Tests of unexported code ----

// A registry gives each value its own number: never 0, and never the same number twice.
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

// TestOwned: an object is freed once, by Close or by the last call that is inside then.
func TestOwned(t *testing.T) {
	freed := 0
	free := func(*int) { freed++ }
	var o owned[*int]
	o.adopt(new(int), free)
	if _, ok := o.enter(); !ok {
		t.Fatal("an open handle cannot be entered")
	}
	if !o.close(free) || freed != 0 {
		t.Errorf("Close beside a call frees %d times", freed)
	}
	if _, ok := o.enter(); ok || o.close(free) {
		t.Error("a closed handle is used")
	}
	if o.leave(free); freed != 1 {
		t.Errorf("the last call has freed %d times", freed)
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
		"\x00\x00\x03a..":                "",
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

// A read beyond the end of a ClientHello is empty, and so are those after it. Extensions that are
// malformed are left out.
func TestMalformedHello(t *testing.T) {
	w := wire{0, 9, 1, 2}
	if v, n := w.vector(2), w.number(1); len(v) != 0 || n != 0 {
		t.Errorf("after the end are %x, and %d", v, n)
	}
	for list, want := range map[string][]string{
		"\x00\x03\x02ab":           {"ab"},
		"\x00\x05\x02ab\x01c":      {"ab", "c"},
		"\x00\x03\x05ab":           nil,
		"\x00\x06\x02ab\x05ab":     nil,
		"\x00\x04\x02ab\x00":       nil,
		"\x00\x09\x02ab":           nil,
		"\x00\x03\x02ab\x02ab":     nil,
		"\x00\x04\x02ab\x09\x02ab": nil,
	} {
		var h clientHello
		h.info = new(tls.ClientHelloInfo)
		if h.read(extALPN, wire(list)); !slices.Equal(h.info.SupportedProtos, want) {
			t.Errorf("%q gives the protocols %q", list, h.info.SupportedProtos)
		}
	}
	if got := numbers[uint16](wire{3, 4, 3}, 2); got != nil {
		t.Errorf("half a number gives %x", got)
	}
}

// A call that panics keeps its data for the next one. What an outer call keeps came first.
func TestKeptData(t *testing.T) {
	var k keptData
	k.put([]byte("second"))
	k.put([]byte("third"))
	k.putFirst([]byte("first"))
	got := make([]byte, 20)
	if n := k.take(got); string(got[:n]) != "firstsecondthird" {
		t.Errorf("it keeps %q", got[:n])
	}
}

// AwaitReadAfter has a Write that has collected events wait for a reader, who has made progress already.
func AwaitReadAfter(c *Conn, events, beforeProgress int) error {
	k := connCall{c: c, collected: events, beforeProgress: beforeProgress}
	made := make(chan struct{})
	close(made)
	progress := (<-chan struct{})(made)
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return k.awaitRead(&progress)
}

// TLSFields returns the words about each field of tls.Config.
func TLSFields() map[string]string {
	words := map[string]string{}
	for _, f := range tlsFields {
		words[f.name] = f.words
	}
	return words
}

// TLSFieldRefused returns the error for a config whose field this package does not know.
func TLSFieldRefused(name string, config *tls.Config) error {
	known := tlsFields
	defer func() { tlsFields = known }()
	tlsFields = slices.DeleteFunc(slices.Clone(known), func(f tlsField) bool { return f.name == name })
	_, err := NewContextFromTLS(config)
	return err
}
