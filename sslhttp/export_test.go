// SPDX-License-Identifier: Apache-2.0

package sslhttp

import "time"

// SetMaxPrefaceTime sets how long a server waits for a client of HTTP/2 to begin, and returns what it was.
func SetMaxPrefaceTime(d time.Duration) (was time.Duration) {
	was, maxPrefaceTime = maxPrefaceTime, d
	return was
}
