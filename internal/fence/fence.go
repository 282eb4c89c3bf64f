// SPDX-License-Identifier: Apache-2.0

//go:build forcegc

package fence

// #cgo !openssl_static pkg-config: libssl libcrypto
// #cgo openssl_static pkg-config: --static libssl libcrypto
// #cgo openssl_static,!darwin LDFLAGS: -l:libssl.a -l:libcrypto.a -Wl,--as-needed
// #include "fence.h"
import "C"

// Freed returns how many freed allocations of C are fenced.
func Freed() int { return int(C.fence_freed()) }

// ReadFreed reads freed memory: that ends the program.
func ReadFreed() byte { return byte(C.fence_trespass()) }
