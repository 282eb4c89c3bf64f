// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import "sync"

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
