// SPDX-License-Identifier: Apache-2.0

// Command ours does the measured work with the binding.
package main

import (
	"maps"

	"sslctx/bench/side"
)

func main() {
	rows := side.Rows{
		"add-remove": addRemove,
		"evict":      evict,
		"flush":      flush,
		"stats":      stats,
		"new-close":  newClose,
		"timeout":    timeout,
		"der-write":  derWrite,
		"der-read":   derRead,
		"memory":     memory,
		"handles":    handles,
	}
	maps.Copy(rows, side.TLS(newPeer))
	side.Main(rows)
}
