// SPDX-License-Identifier: Apache-2.0

package cwork

// #cgo LDFLAGS: -lpthread
// #include <stdlib.h>
// #include "cwork.h"
import "C"

import "unsafe"

// TLS is a server and a client in C, over loopback, in two threads.
type TLS struct{ p *C.cwork_tls }

// Resume is whether connections resume, and from where.
type Resume int

// The ways.
const (
	Full    Resume = 0
	Resumed Resume = 1
	Outside Resume = C.CWORK_RESUME_OUTSIDE // from a store that is not libssl's
)

// NewTLS makes them with a certificate and its key as PEM, for one protocol; resume says whether the client
// offers a session. It returns nil if something failed.
func NewTLS(cert, key []byte, version int, resume Resume) *TLS {
	c, k := C.CString(string(cert)), C.CString(string(key))
	defer C.free(unsafe.Pointer(c))
	defer C.free(unsafe.Pointer(k))
	if p := C.cwork_tls_new(c, k, C.int(version), C.int(resume)); p != nil {
		return &TLS{p}
	}
	return nil
}

// Close frees them.
func (w *TLS) Close() { C.cwork_tls_free(w.p) }

// Handshakes connects n times, reads a byte of the server's and closes.
func (w *TLS) Handshakes(n int) bool { return C.cwork_tls_handshakes(w.p, C.size_t(n)) == 1 }

// Open connects for Rounds of a number of bytes.
func (w *TLS) Open(round int) bool { return C.cwork_tls_open(w.p, C.size_t(round)) == 1 }

// Shut closes what Open connected.
func (w *TLS) Shut() bool { return C.cwork_tls_shut(w.p) == 1 }

// Rounds sends n rounds of blocks, each of which the server answers with a byte when it has read them.
func (w *TLS) Rounds(data []byte, blocks, n int) bool {
	return C.cwork_tls_rounds(w.p, (*C.uchar)(unsafe.SliceData(data)), C.size_t(len(data)), C.size_t(blocks),
		C.size_t(n)) == 1
}
