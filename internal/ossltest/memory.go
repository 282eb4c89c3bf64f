// SPDX-License-Identifier: Apache-2.0

package ossltest

// #cgo linux LDFLAGS: -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=strdup -Wl,--wrap=free
// #include <stdlib.h>
// #include "memory.h"
import "C"

import (
	"fmt"
	"path"
	"unsafe"
)

// Failing says which allocations of libcrypto, libssl and the shim fail. Tests that use it do not
// run in parallel with others.
type Failing struct {
	Nth        int    // the first that fails, from 1; 0 is none
	Forever    bool   // all after it fail, too
	Everywhere bool   // on all threads; otherwise on the calling thread, to which the goroutine must be locked
	File       string // only allocations of this OpenSSL source file, as "ex_data.c"; "shim" is all C of the binding
	Spared     string // allocations of this source file do not fail
}

// Failed has the allocations and failures of a Failing.
type Failed struct {
	Seen   int // how many allocations there were, failed ones included
	Failed int
}

// OwnsMemory reports whether allocations can fail at all.
func OwnsMemory() bool { return C.ossltest_owns_memory() == 1 }

// Fail starts the failures, and stop ends them.
func (f Failing) Fail() (stop func() Failed) {
	file := C.CString(f.File)
	spared := C.CString(f.Spared)
	C.ossltest_fail(C.long(f.Nth), toInt(f.Forever), toInt(f.Everywhere), file, spared)
	C.free(unsafe.Pointer(file))
	C.free(unsafe.Pointer(spared))
	return func() Failed {
		var failed C.long
		seen := C.ossltest_stop_failing(&failed)
		return Failed{int(seen), int(failed)}
	}
}

// A Site is a place in OpenSSL's source, or in the shim, that allocates.
type Site struct {
	File string
	Line int // in the shim, the offset in its code
}

func (s Site) String() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

// SiteOf returns the place of the n-th allocation since Fail, from 1.
func SiteOf(n int) Site {
	var line C.int
	file := C.GoString(C.ossltest_site(C.long(n-1), &line))
	return Site{path.Base(file), int(line)}
}

// WipeFreed wipes all memory that libcrypto and libssl free, until restore. ok says whether that is
// possible. Tests that use it do not run in parallel with others.
func WipeFreed() (restore func(), ok bool) {
	ok = C.ossltest_wipe(1) == 1
	return func() { C.ossltest_wipe(0) }, ok
}

// LiveMemory returns how many pieces of C memory the calling thread has allocated and not freed, or all threads
// have.
func LiveMemory(everywhere bool) int { return int(C.ossltest_live_memory(toInt(everywhere))) }
