// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// owned is one reference to a C object, from adopt to close or collection. Nothing else in the
// module attaches a cleanup.
//
// A C pointer is used between enter and leave. close marks the handle, and frees the object at once
// or leaves that to the last call that is inside. It never waits, so that it cannot deadlock, and a
// call that is inside never loses its object. leave keeps the handle reachable until then.
//
// It is larger than 16 bytes on purpose. Go does not count a pointer to an incomplete C type as a
// pointer. So a smaller handle would share one of the allocator's tiny blocks with others, and
// might never be collected.
//
// With the build tag forcegc, enter and leave collect garbage (owned_forcegc.go). Without it, watch
// does nothing.
type owned[P any] struct {
	watch   watch // first, because an empty field at the end of a struct takes memory
	state   atomic.Int64
	p       P
	cleanup runtime.Cleanup
}

// The states. A zero value is empty. The number of calls inside is added to stateOpen and
// stateClosed.
const (
	stateEmpty   = 0
	stateOpen    = 1
	stateClosed  = math.MinInt64
	stateClaimed = -1 // being adopted
)

// adopt gives p to an empty handle. If the handle is dropped without close, the runtime calls
// collect with p. collect captures nothing, and p never points back at the handle. adopt returns
// false if the handle is not empty: p is the caller's then.
func (o *owned[P]) adopt(p P, collect func(P)) bool {
	if !o.state.CompareAndSwap(stateEmpty, stateClaimed) {
		return false
	}
	o.p = p
	o.cleanup = runtime.AddCleanup(o, watched(&o.watch, collect), p)
	o.state.Store(stateOpen)
	return true
}

// enter begins a call. ok is false if the handle is closed or empty. If ok is true, leave must
// follow.
func (o *owned[P]) enter() (p P, ok bool) {
	for {
		s := o.state.Load()
		if s < stateOpen {
			return p, false
		}
		if o.state.CompareAndSwap(s, s+1) {
			p = o.p
			o.watch.entered() // from here on o may be unreachable, if the caller forgot to leave
			return p, true
		}
	}
}

// leave ends a call. It frees the object if close came meanwhile and this was the last call inside.
func (o *owned[P]) leave(free func(P)) {
	o.watch.left()
	if o.state.Add(-1) == stateClosed {
		free(o.p)
	}
	collectGarbage()
}

// close gives the reference back, once. It reports whether this call was the one that closed.
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

// A registry holds Go values that C knows by number, since C must not keep Go pointers. 0 is no
// value. It calls nothing while it is locked: libssl may use it while it holds a lock of its own.
type registry[T any] struct {
	mu     sync.RWMutex
	last   uintptr
	values map[uintptr]T
}

// add returns a new number for a value.
func (r *registry[T]) add(value T) uintptr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil {
		r.values = make(map[uintptr]T)
	}
	r.last++
	r.values[r.last] = value
	return r.last
}

// get returns the value with a number, the zero value if there is none.
func (r *registry[T]) get(number uintptr) T {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.values[number]
}

// set replaces the value of a number that add returned.
func (r *registry[T]) set(number uintptr, value T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values[number] = value
}

// remove drops a number and its value.
func (r *registry[T]) remove(number uintptr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.values, number)
}

// len returns how many values there are.
func (r *registry[T]) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.values)
}
