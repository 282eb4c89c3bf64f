// SPDX-License-Identifier: Apache-2.0

package sslctx

import (
	"sync"
	"testing"
)

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
