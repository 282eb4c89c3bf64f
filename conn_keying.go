// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"errors"
	"math"
	"unsafe"
)

// ErrNoKeyingMaterial says that a connection of TLS 1.2 or before has no keying material to export that is its alone: the
// ends did not agree on the extended master secret (RFC 7627).
var ErrNoKeyingMaterial = errors.New("sslctx: keying material cannot be exported without the extended master secret")

// ExportKeyingMaterial returns length bytes that both ends of this connection, and nobody else, can make for the label
// and the context (RFC 5705, RFC 8446 section 7.5): what crypto/tls calls by the same name, and with the same result at
// both ends. A context that is nil is another one than an empty one before TLS 1.3.
//
// In TLS 1.2 and before it needs the extended master secret, otherwise it is ErrNoKeyingMaterial, as with crypto/tls: a
// peer in the middle could have the same secret with both ends. After a renegotiation the bytes are others.
//
// Before the handshake is over, for a length below 1 and for a context of more than 65535 bytes it is an ArgumentError,
// after Close ErrClosed. libssl's limits (labels that TLS itself uses, and contexts of about a kilobyte, before TLS 1.3; more
// than 255 hashes in TLS 1.3) are an *Error. The bytes are a secret.
//
// Wraps [SSL_export_keying_material].
//
// [SSL_export_keying_material]: https://docs.openssl.org/3.0/man3/SSL_export_keying_material/
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	if c.state.Load() < stateOpen {
		return nil, ErrClosed
	}
	if err := checkInt("ExportKeyingMaterial", "length", length, 1, maxInt); err != nil {
		return nil, err
	}
	if len(context) > math.MaxUint16 { // libssl writes the length in two bytes, whatever it is
		return nil, badArgument("ExportKeyingMaterial", "context", "is %d bytes long, the limit is 65535", len(context))
	}
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	if !c.handshakeDone.Load() {
		return nil, badArgument("ExportKeyingMaterial", "receiver", "has not completed its handshake")
	}
	out := make([]byte, length)
	// The label need not end with a zero byte.
	ret := C.shim_SSL_export_keying_material(r.p, bytesPointer(out), C.size_t(length),
		(*C.char)(unsafe.Pointer(unsafe.StringData(label))), C.size_t(len(label)),
		bytesPointer(context), C.size_t(len(context)), boolInt(context != nil))
	if ret.n == C.SHIM_REFUSED_NO_EXTMS {
		return nil, ErrNoKeyingMaterial
	}
	if err := errorIf(ret.n == 1, "SSL_export_keying_material", ret.errs); err != nil {
		return nil, err
	}
	return out, nil
}
