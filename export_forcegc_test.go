// SPDX-License-Identifier: Apache-2.0

//go:build forcegc

package sslctx

import "time"

// ForceGC sets which calls into C collect garbage: all (1), every second (2) ... or none (0). It
// returns the old value.
func ForceGC(every int64) (was int64) { return forcegc.every.Swap(every) }

// BeforeCCall sets a function f, which may be nil. It runs before each call of a C function.
func BeforeCCall(f func()) {
	if f == nil {
		forcegc.inside.Store(nil)
	} else {
		forcegc.inside.Store(&f)
	}
}

// Entered returns how many calls into C there have been.
func Entered() int64 { return forcegc.calls.Load() }

// The next three are Session.Timeout with mistakes that forced collection must find.

// TimeoutWithoutLeave does not call leave.
func TimeoutWithoutLeave(s *Session) time.Duration {
	p, _ := s.enter()
	a := sessionCall{p: p}
	return a.timeout()
}

// TimeoutAfterLeave calls leave before the call of C.
func TimeoutAfterLeave(s *Session) time.Duration {
	p, _ := s.enter()
	s.leave(freeSession)
	a := sessionCall{p: p}
	return a.timeout()
}

// TimeoutUncounted uses the C pointer without a call of enter.
func TimeoutUncounted(s *Session) time.Duration {
	a := sessionCall{p: s.p}
	if f := forcegc.inside.Load(); f != nil {
		(*f)()
	}
	collectGarbage()
	return a.timeout()
}
