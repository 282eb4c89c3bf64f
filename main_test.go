// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
)

// TestMain lets no test leave a C object alive, nor an entry on the error queue of a thread.
func TestMain(m *testing.M) {
	linked, _ := sslctx.LibraryVersions()
	fmt.Println(linked)
	code := m.Run()
	if code == 0 {
		code = checkNothingIsLeft()
	}
	ossltest.DumpCoverage()
	debug.FreeOSMemory() // so that a leak checker does not take dead Go memory for a root
	os.Exit(code)
}

func checkNothingIsLeft() int {
	for what, count := range map[string]func() int{
		"SSL": ossltest.LiveSSLs, "SSL_SESSION": ossltest.LiveSessions, "SSL_CTX": ossltest.LiveContexts, "pool": sslctx.LivePools,
		"values": sslctx.LiveValues,
	} {
		if n := ossltest.Settle(count, 0); n != 0 {
			fmt.Fprintf(os.Stderr, "FAIL: %d %s objects are alive after all tests\n", n, what)
			return 1
		}
	}
	codes := make(chan uint64)
	for range 4 * runtime.GOMAXPROCS(0) {
		go func() {
			runtime.LockOSThread() // and never unlock: each goroutine looks at another thread
			codes <- ossltest.PeekError()
		}()
	}
	for range 4 * runtime.GOMAXPROCS(0) {
		if c := <-codes; c != 0 {
			fmt.Fprintf(os.Stderr, "FAIL: a thread's error queue holds %#x after all tests\n", c)
			return 1
		}
	}
	return 0
}

// noQueue locks the test to its thread, and fails it if a call leaves an entry on the error queue.
func noQueue(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(func() {
		if c := ossltest.PeekError(); c != 0 {
			t.Errorf("the error queue holds %#x", c)
		}
		runtime.UnlockOSThread()
	})
}

func newContext(t testing.TB, m sslctx.Method) *sslctx.Context {
	t.Helper()
	c, err := sslctx.NewContext(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newSession(t testing.TB, id string) *sslctx.Session {
	t.Helper()
	s, err := sslctx.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	must(t, s.SetID([]byte(id)))
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, c *sslctx.Context, s *sslctx.Session) bool {
	t.Helper()
	ok, err := c.AddSession(s)
	must(t, err)
	return ok
}

func remove(t testing.TB, c *sslctx.Context, s *sslctx.Session) bool {
	t.Helper()
	ok, err := c.RemoveSession(s)
	must(t, err)
	return ok
}
