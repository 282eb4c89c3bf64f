// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"fmt"
	"io"
	"testing"

	"sslctx"
)

// TestNoAllocations: moving data takes no memory from Go's heap, in either direction, whatever the size.
func TestNoAllocations(t *testing.T) {
	if instrumented {
		t.Skip("with a sanitizer sync.Pool drops buffers at random")
	}
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, size := range []int{1, 1 << 10, 16 << 10, 64 << 10} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				server, client := newEnds(t, v).connect(t, nil)
				go echoBlocks(server, size)
				buf := make([]byte, size)
				there := func() {
					if _, err := client.Write(buf); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadFull(client, buf); err != nil {
						t.Error(err)
					}
				}
				for range 20 {
					there()
				}
				// Both ends are counted. A collection empties the pools, so it takes a quiet moment.
				least := testing.AllocsPerRun(100, there)
				for range 4 {
					least = min(least, testing.AllocsPerRun(100, there))
				}
				if least != 0 {
					t.Errorf("%v allocations a round", least)
				}
			})
		}
	})
}

// echoBlocks sends blocks of a size back when they are complete.
func echoBlocks(c io.ReadWriter, size int) {
	buf := make([]byte, size)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}
