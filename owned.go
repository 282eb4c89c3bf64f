// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"math"
	"runtime"
	"sync/atomic"
)

// owned is one reference to a C object, from adopt to close or collection: the only place of the
// module that attaches a cleanup.
//
// A C pointer is used between enter and leave. close marks the handle and frees at once, or leaves
// the free to the last call that is inside: it never waits, so that it cannot deadlock, and a call
// that is inside never loses its object. leave is what keeps the handle reachable until then.
//
// It is larger than 16 bytes on purpose. A pointer to an incomplete C type counts as no pointer, so
// a smaller handle would land in the allocator's tiny blocks beside others and might never be
// collected.
//
// With the build tag forcegc each crossing collects garbage (owned_forcegc.go); without it, watch is nothing.
type owned[P any] struct {
	watch   watch // first: at the end of a struct an empty field takes room
	state   atomic.Int64
	p       P
	cleanup runtime.Cleanup
}

// The states: empty, as a zero value; open, plus the calls inside; closed, plus the calls inside.
const (
	stateEmpty   = 0
	stateOpen    = 1
	stateClosed  = math.MinInt64
	stateClaimed = -1 // being adopted
)

// adopt gives p to an empty handle; collect is run with p if the handle is dropped without close. It
// captures nothing, and p never points back at the handle. It reports false if the handle is not
// empty: p is the caller's then.
func (o *owned[P]) adopt(p P, collect func(P)) bool {
	if !o.state.CompareAndSwap(stateEmpty, stateClaimed) {
		return false
	}
	o.p = p
	o.cleanup = runtime.AddCleanup(o, watched(&o.watch, collect), p)
	o.state.Store(stateOpen)
	return true
}

// enter begins a call: ok is false if the handle is closed or empty. leave must follow if it is true.
func (o *owned[P]) enter() (p P, ok bool) {
	for {
		s := o.state.Load()
		if s < stateOpen {
			return p, false
		}
		if o.state.CompareAndSwap(s, s+1) {
			p = o.p
			o.watch.entered() // o may be dead from here on, if the caller forgot to leave
			return p, true
		}
	}
}

// leave ends a call, and frees if close came meanwhile and this was the last call inside.
func (o *owned[P]) leave(free func(P)) {
	o.watch.left()
	if o.state.Add(-1) == stateClosed {
		free(o.p)
	}
	collectGarbage()
}

// close gives the reference back, once; it reports whether this call was the one that closed.
func (o *owned[P]) close(free func(P)) bool {
	for {
		s := o.state.Load()
		if s < stateOpen {
			return false
		}
		inside := s - stateOpen
		if !o.state.CompareAndSwap(s, stateClosed+inside) {
			continue
		}
		o.cleanup.Stop()
		if inside == 0 {
			free(o.p)
		}
		runtime.KeepAlive(o)
		return true
	}
}
