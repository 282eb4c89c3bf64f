// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import "time"

// How often a lock is tried, which has no wait with a limit: at first, and at last.
const (
	firstMoment = 20 * time.Microsecond // for what mostly takes no longer
	firstLook   = 2 * time.Millisecond
	lastLook    = 50 * time.Millisecond
)

// poll tries, again and again, until try succeeds, which it reports, or until end says that it has tried for long enough.
// It sleeps between, at first for first, and no longer than last.
func poll(first, last time.Duration, try, end func() bool) bool {
	for wait := first; !try(); wait = min(2*wait, last) {
		if end() {
			return false
		}
		time.Sleep(wait)
	}
	return true
}
