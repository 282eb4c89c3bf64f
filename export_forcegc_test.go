// SPDX-License-Identifier: Apache-2.0

//go:build forcegc

package sslctx

import "time"

// ForceGC says which crossings collect garbage, all (1), every second (2) ... or none (0), and
// returns what was so before.
func ForceGC(every int64) (was int64) { return forcegc.every.Swap(every) }

// InCrossing has f, which may be nil, run in each crossing before the C function is called.
func InCrossing(f func()) {
	if f == nil {
		forcegc.inside.Store(nil)
	} else {
		forcegc.inside.Store(&f)
	}
}

// Entered returns how many crossings there have been.
func Entered() int64 { return forcegc.calls.Load() }

// The next three are Session.Timeout as it would be with the mistakes that forced collection is
// there to find.

// TimeoutWithoutLeave forgets to leave.
func TimeoutWithoutLeave(s *Session) time.Duration {
	p, _ := s.enter()
	a := sessionCall{p: p}
	return a.timeout()
}

// TimeoutAfterLeave leaves before the call of C.
func TimeoutAfterLeave(s *Session) time.Duration {
	p, _ := s.enter()
	s.leave(freeSession)
	a := sessionCall{p: p}
	return a.timeout()
}

// TimeoutUncounted uses the C pointer without having entered.
func TimeoutUncounted(s *Session) time.Duration {
	a := sessionCall{p: s.p}
	if f := forcegc.inside.Load(); f != nil {
		(*f)()
	}
	collectGarbage()
	return a.timeout()
}
