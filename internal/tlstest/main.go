// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
)

// Main is the TestMain of a package that uses libssl. After all tests it checks that no C object is
// alive, that each count of more is 0, and that no thread has an entry on its error queue.
func Main(m *testing.M, more map[string]func() int) {
	linked, _ := sslctx.LibraryVersions()
	fmt.Println(linked)
	code := m.Run()
	if code == 0 && !nothingIsLeft(more) {
		code = 1
	}
	ossltest.DumpCoverage()
	debug.FreeOSMemory() // otherwise a leak checker could find pointers in dead Go memory
	os.Exit(code)
}

func nothingIsLeft(more map[string]func() int) bool {
	objects := map[string]func() int{
		"SSL": ossltest.LiveSSLs, "SSL_SESSION": ossltest.LiveSessions, "SSL_CTX": ossltest.LiveContexts,
	}
	for _, counts := range []map[string]func() int{objects, more} {
		for what, count := range counts {
			if n := ossltest.CollectUntil(count, 0); n != 0 {
				fmt.Fprintf(os.Stderr, "FAIL: %d %s objects are alive after all tests\n", n, what)
				return false
			}
		}
	}
	codes := make(chan uint64)
	for range 4 * runtime.GOMAXPROCS(0) {
		go func() {
			runtime.LockOSThread() // and never unlock: so each goroutine checks another thread
			codes <- ossltest.PeekError()
		}()
	}
	for range 4 * runtime.GOMAXPROCS(0) {
		if c := <-codes; c != 0 {
			fmt.Fprintf(os.Stderr, "FAIL: a thread's error queue holds %#x after all tests\n", c)
			return false
		}
	}
	return true
}
