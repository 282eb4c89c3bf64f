// SPDX-License-Identifier: Apache-2.0

//go:build cgo && forcegc

package sslctx

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"time"
)

// With the build tag forcegc a crossing collects garbage where a handle may have been used for the last time: when enter
// has given the C pointer away, and when leave is done. What a handle that nothing keeps reachable owns is then freed
// before the C function is called, on every run, and what C does with it can be seen (internal/fence). And a handle
// that is collected while a call is inside ends the program: who entered forgot to leave.

// forcegc is what the tests set.
var forcegc struct {
	every     atomic.Int64 // which crossings collect: all, every second ...; 0 for none
	turns     atomic.Int64
	crossings atomic.Int64
	inside    atomic.Pointer[func()] // runs in each crossing, before the C function is called
}

func init() {
	every, err := strconv.ParseInt(os.Getenv("SSLCTX_FORCEGC"), 10, 64)
	if err != nil {
		every = 1
	}
	forcegc.every.Store(every)
}

// watch counts the calls that are inside a handle where the cleanup can read it, which is not in the handle.
type watch struct{ inside *atomic.Int64 }

func watched[P any](w *watch, collect func(P)) func(P) {
	inside := new(atomic.Int64)
	w.inside = inside
	return func(p P) {
		if n := inside.Load(); n != 0 {
			panic(fmt.Sprintf("sslctx: a handle of %T was collected with %d calls inside: one did not leave", p, n))
		}
		collect(p)
	}
}

func (w *watch) entered() {
	w.inside.Add(1)
	forcegc.crossings.Add(1)
	if f := forcegc.inside.Load(); f != nil {
		(*f)()
	}
	collectGarbage()
}

func (w *watch) left() { w.inside.Add(-1) }

// collectGarbage does so if it is its turn, and waits until the cleanups have run. Not for ever: one may wait for a gate
// that the caller holds.
func collectGarbage() {
	every := forcegc.every.Load()
	if every == 0 || forcegc.turns.Add(1)%every != 0 {
		return
	}
	runtime.GC()
	for end := time.Now().Add(20 * time.Millisecond); cleanupsWait() && time.Now().Before(end); {
		time.Sleep(20 * time.Microsecond)
	}
}

func cleanupsWait() bool {
	s := []metrics.Sample{{Name: "/gc/cleanups/queued:cleanups"}, {Name: "/gc/cleanups/executed:cleanups"}}
	metrics.Read(s)
	return s[0].Value.Uint64() != s[1].Value.Uint64()
}
