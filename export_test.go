// SPDX-License-Identifier: Apache-2.0

package sslctx

// Crossings returns how often the connection crossed into libssl to move ciphertext.
func (c *Conn) Crossings() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.crossings
}

// LivePools returns how many pools contexts trust.
func LivePools() int {
	pools.mu.RLock()
	defer pools.mu.RUnlock()
	return len(pools.pools)
}

// LiveValues returns how many sessions have values of Go's.
func LiveValues() int {
	values.mu.RLock()
	defer values.mu.RUnlock()
	return len(values.values)
}
