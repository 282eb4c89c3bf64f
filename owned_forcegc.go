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

// With the build tag forcegc, a call collects garbage where a handle may have been used for the
// last time: in enter, when it has the C pointer, and at the end of leave. If nothing keeps a
// handle reachable, its object is then freed before the C function is called, on every run, and
// what C does with it can be seen (internal/fence). And a handle that is collected while a call is
// inside ends the program: the call forgot to leave.

// The tests set forcegc.
var forcegc struct {
	every  atomic.Int64 // 1 collects each time, 2 every second time ...; 0 never
	turns  atomic.Int64
	calls  atomic.Int64
	inside atomic.Pointer[func()] // runs in each enter, before the C function is called
}

func init() {
	every, err := strconv.ParseInt(os.Getenv("SSLCTX_FORCEGC"), 10, 64)
	if err != nil {
		every = 1
	}
	forcegc.every.Store(every)
}

// watch counts the calls that are inside a handle. The counter is outside of the handle, so that
// the cleanup can read it.
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
	forcegc.calls.Add(1)
	if f := forcegc.inside.Load(); f != nil {
		(*f)()
	}
	collectGarbage()
}

func (w *watch) left() { w.inside.Add(-1) }

// collectGarbage collects if it is its turn, and waits until the cleanups have run. The wait has a
// limit, because a cleanup may wait for a configuration lock that the caller holds.
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
