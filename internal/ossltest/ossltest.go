// SPDX-License-Identifier: Apache-2.0

// Package ossltest calls libssl for tests, beside the binding. It has exact counts of live C
// objects, by the ex_data functions that libssl calls when it makes and frees one; C callbacks that
// count; and a way to read the error queue. It shares no code with the binding.
package ossltest

// #cgo !openssl_static pkg-config: libssl libcrypto
// #cgo openssl_static pkg-config: --static libssl libcrypto
// #cgo openssl_static,!darwin LDFLAGS: -l:libssl.a -l:libcrypto.a -Wl,--as-needed
// #cgo LDFLAGS: -lpthread
// #include <stdlib.h>
// #include "ossltest.h"
import "C"

import (
	"runtime"
	"strings"
	"time"
	"unsafe"
)

// LiveSessions returns how many SSL_SESSION objects exist in the process.
func LiveSessions() int { return int(C.ossltest_live_sessions()) }

// SessionsMade returns how many SSL_SESSION objects the process has made in all.
func SessionsMade() int { return int(C.ossltest_born_sessions()) }

// LiveContexts returns how many SSL_CTX objects exist in the process.
func LiveContexts() int { return int(C.ossltest_live_contexts()) }

// LiveSSLs returns how many SSL objects exist in the process.
func LiveSSLs() int { return int(C.ossltest_live_ssls()) }

// A Ctx is the C object of a context that a test made through the binding.
type Ctx struct{ p *C.SSL_CTX }

// LastContext returns the SSL_CTX that was made last. Tests that use it do not run in parallel with
// others that make contexts.
func LastContext() Ctx { return Ctx{C.ossltest_last_context()} }

// Live reports whether the object exists.
func (c Ctx) Live() bool { return C.ossltest_is_live_context(c.p) == 1 }

// Address returns the object's address, which Trace prints.
func (c Ctx) Address() uintptr { return uintptr(unsafe.Pointer(c.p)) }

// Pointer returns the object, as other cgo code would pass it.
func (c Ctx) Pointer() unsafe.Pointer { return unsafe.Pointer(c.p) }

// Flush removes all sessions from the cache, like other C code.
func (c Ctx) Flush() { C.ossltest_flush(c.p) }

// NewCtx makes a context, like other C code.
func NewCtx() Ctx { return Ctx{C.SSL_CTX_new(C.TLS_method())} }

// Free releases a reference.
func (c Ctx) Free() { C.SSL_CTX_free(c.p) }

// An SSL is a connection of other C code.
type SSL struct{ p *C.SSL }

// NewSSL makes one from the context.
func (c Ctx) NewSSL() SSL { return SSL{C.SSL_new(c.p)} }

// Pointer returns the object, as other cgo code would pass it.
func (s SSL) Pointer() unsafe.Pointer { return unsafe.Pointer(s.p) }

// Free frees it.
func (s SSL) Free() { C.SSL_free(s.p) }

// CountCallbacks installs callbacks in C that count: new returns 0, get finds nothing.
func (c Ctx) CountCallbacks(onNew, onGet, onRemove bool) {
	C.ossltest_count_new(c.p, toInt(onNew))
	C.ossltest_count_get(c.p, toInt(onGet))
	C.ossltest_count_remove(c.p, toInt(onRemove))
}

// HasCallbacks reports whether the object has a callback for sessions, of any code.
func (c Ctx) HasCallbacks() bool { return C.ossltest_has_callbacks(c.p) == 1 }

// Counted returns how often the counting callbacks of the object were called.
func (c Ctx) Counted() (onNew, onGet, onRemove int) {
	return int(C.ossltest_counted(c.p, 0)), int(C.ossltest_counted(c.p, 1)), int(C.ossltest_counted(c.p, 2))
}

// Trace returns the counting callbacks since the last Trace, in order, as words like "7f00.remove"
// with the address of the context.
func Trace() []string {
	buf := make([]byte, 1<<20)
	n := C.ossltest_trace((*C.char)(unsafe.Pointer(unsafe.SliceData(buf))), C.size_t(len(buf)))
	return strings.Fields(string(buf[:n]))
}

func toInt(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// PeekError returns the oldest entry of the error queue of the calling thread, 0 if it is empty.
// The caller must have locked its goroutine to the thread.
func PeekError() uint64 { return uint64(C.ossltest_peek_error()) }

// PutError leaves an entry in the error queue of the calling thread, as careless code does.
func PutError() { C.ossltest_put_error() }

// CompiledVersion is OPENSSL_VERSION_NUMBER of the headers that the module was compiled with.
func CompiledVersion() uint64 { return uint64(C.ossltest_compiled_version()) }

// LinkedVersion is OpenSSL_version_num of the libssl that the program runs with.
func LinkedVersion() uint64 { return uint64(C.OpenSSL_version_num()) }

// CollectUntil collects garbage until n returns want or less, or for ten seconds, and returns the
// last value. It may be less than before the test, because objects that earlier tests dropped are
// collected, too.
func CollectUntil(n func() int, want int) int {
	deadline := time.Now().Add(10 * time.Second)
	for {
		runtime.GC()
		if got := n(); got <= want || time.Now().After(deadline) {
			return got
		}
		time.Sleep(time.Millisecond)
	}
}

// FailRandom makes libcrypto fail each request for n random bytes, until restore. Tests that use it
// do not run in parallel with others.
func FailRandom(n int) (restore func()) {
	C.ossltest_fail_random(C.int(n))
	return func() { C.ossltest_fail_random(-1) }
}

// ECHGrease returns the number of SSL_OP_ECH_GREASE, 0 where libssl has none.
func ECHGrease() uint64 { return uint64(C.ossltest_ech_grease()) }

// DumpCoverage writes gcov's counts of the C code, in a program that is built for that
// (scripts/fuzz.sh). Go ends a program without calling the C functions that would write them.
func DumpCoverage() { C.ossltest_dump_coverage() }
