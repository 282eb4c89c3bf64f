// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"sslctx/internal/tlstest"
	"testing"

	"sslctx"
)

// TestNoAllocations: reading and writing data of any size does not allocate on Go's heap.
func TestNoAllocations(t *testing.T) {
	if tlstest.Instrumented {
		t.Skip("with a sanitizer sync.Pool drops buffers at random")
	}
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, size := range []int{1, 1 << 10, 16 << 10, 64 << 10} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				server, client := tlstest.NewEnds(t, v).Connect(t, nil)
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
				// The count includes both ends. A collection empties the pools, so the test takes
				// the least count.
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

// TestCallsOfC counts the calls of C by both ends together: for a whole connection, with a byte of
// the server that brings the tickets; and for a byte there and one back. A flight in pieces takes
// more calls: so the test takes the least count.
func TestCallsOfC(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := tlstest.NewEnds(t, v)
		whole := func(offer *sslctx.Session) func() {
			return func() {
				server, client := e.Connect(t, offer)
				tlstest.Must(t, client.Close())
				tlstest.Must(t, server.Close())
			}
		}
		server, client := e.Connect(t, nil)
		go echoBlocks(server, 1)
		buf := make([]byte, 1)
		for name, test := range map[string]struct {
			limit int64
			run   func()
		}{
			"full":    {15, whole(nil)},
			"resumed": {15, whole(tlstest.SessionOf(t, client))},
			"there and back": {4, func() {
				_, err := client.Write(buf)
				tlstest.Must(t, err)
				_, err = io.ReadFull(client, buf)
				tlstest.Must(t, err)
			}},
		} {
			if n := leastCalls(20, test.run); n > test.limit {
				t.Errorf("%s: %d calls of C, the limit is %d", name, n, test.limit)
			}
		}
	})
}

func leastCalls(tries int, f func()) int64 {
	least := int64(math.MaxInt64)
	for range tries {
		before := runtime.NumCgoCall()
		f()
		least = min(least, runtime.NumCgoCall()-before)
	}
	return least
}

// echoBlocks sends back each block of a size when it is complete.
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
