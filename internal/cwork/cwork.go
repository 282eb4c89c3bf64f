// SPDX-License-Identifier: Apache-2.0

// Package cwork does in C what benchmarks do in Go: the measure of their speed. It is for tests alone and
// shares no code with the binding.
package cwork

// #cgo !openssl_static pkg-config: libssl libcrypto
// #cgo openssl_static pkg-config: --static libssl libcrypto
// #cgo openssl_static,!darwin LDFLAGS: -l:libssl.a -l:libcrypto.a -Wl,--as-needed
// #include "cwork.h"
import "C"

import "unsafe"

// Work is a context and n sessions in C.
type Work struct {
	sessions **C.SSL_SESSION
	n        C.size_t
}

// New makes a context with an unlimited cache, and n sessions. One exists at a time.
func New(n int) *Work {
	C.cwork_prepare()
	return &Work{C.cwork_sessions(C.size_t(n)), C.size_t(n)}
}

// Close frees them.
func (w *Work) Close() { C.cwork_finish(w.sessions, w.n) }

// Hear sets a callback that looks at each session that is removed.
func (w *Work) Hear() { C.cwork_hear(1) }

// AddRemove adds all sessions and removes them; it reports how many of the calls returned 1.
func (w *Work) AddRemove() int { return int(C.cwork_add_remove(w.sessions, w.n)) }

// NewFree makes and frees a session, n times.
func (w *Work) NewFree(n int) { C.cwork_new_free(C.size_t(n)) }

// Timeout reads the timeout of a session, n times.
func (w *Work) Timeout(n int) { C.cwork_get_timeout(*w.sessions, C.size_t(n)) }

// Stats reads the twelve counters, n times.
func (w *Work) Stats(n int) { C.cwork_stats(C.size_t(n)) }

// Write writes a session as DER, n times.
func (w *Work) Write(der []byte, n int) bool {
	return C.cwork_i2d((*C.uchar)(unsafe.SliceData(der)), C.size_t(len(der)), C.size_t(n)) == 1
}

// Parse reads a session from DER, n times.
func (w *Work) Parse(der []byte, n int) bool {
	return C.cwork_d2i((*C.uchar)(unsafe.SliceData(der)), C.size_t(len(der)), C.size_t(n)) == 1
}
