// SPDX-License-Identifier: Apache-2.0

package sslhttp

import "time"

// SetMaxPrefaceTime sets how long a server waits for the preface of an HTTP/2 client, and returns
// the old value.
func SetMaxPrefaceTime(d time.Duration) (was time.Duration) {
	was, maxPrefaceTime = maxPrefaceTime, d
	return was
}
