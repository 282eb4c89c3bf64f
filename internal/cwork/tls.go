// SPDX-License-Identifier: Apache-2.0

// Package cwork does the work of a careful C program that uses libssl alone. The benchmarks compare
// with it: their harness (module bench) compiles the C files here. It shares no code with the
// binding.
package cwork

// #cgo !openssl_static pkg-config: libssl libcrypto
// #cgo openssl_static pkg-config: --static libssl libcrypto
// #cgo openssl_static,!darwin LDFLAGS: -l:libssl.a -l:libcrypto.a -Wl,--as-needed
// #cgo LDFLAGS: -lpthread
// #include <stdlib.h>
// #include "cwork.h"
import "C"

import "unsafe"

// Handshakes connects a client and a server in C, once and then n times, with a certificate and its
// key as PEM and one protocol. It reports whether all connections succeeded.
func Handshakes(pem []byte, version, n int) bool {
	p := C.CString(string(pem))
	defer C.free(unsafe.Pointer(p))
	w := C.cwork_tls_new(&C.cwork_tls_config{pem: p, version: C.int(version), workers: 1})
	if w == nil {
		return false
	}
	defer C.cwork_tls_free(w)
	return C.cwork_handshakes(w, C.size_t(n), nil) == 1
}
