// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "unsafe"

// What C calls. Such a function runs inside a call of libssl: it holds the gate of some home for
// reading, so that it must not touch a handle, and a panic must not leave it.

// goAskPool gives, in C memory, the certificates of a pool that the chain which a peer sent ends in, and
// their length; -1 if that cannot be known.
//
//export goAskPool
func goAskPool(pool C.uintptr_t, sent *C.uchar, n C.size_t, anchors **C.uchar) (length C.long) {
	defer func() {
		if recover() != nil {
			length = -1
		}
	}()
	der := pools.anchors(uintptr(pool), C.GoBytes(unsafe.Pointer(sent), C.int(n)))
	*anchors = (*C.uchar)(C.CBytes(der))
	return C.long(len(der))
}

// goReleasePool forgets the pool of a context that is gone.
//
//export goReleasePool
func goReleasePool(pool C.uintptr_t) { pools.remove(uintptr(pool)) }
