// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

// PSKIdentity returns the identity of the pre-shared key that the ends used, or "": of TLS 1.2 and before. It is ""
// after Close.
//
// Wraps [SSL_get_psk_identity].
//
// [SSL_get_psk_identity]: https://docs.openssl.org/3.0/man3/SSL_get_psk_identity/
func (c *Conn) PSKIdentity() string {
	r, err := c.begin()
	if err != nil {
		return ""
	}
	defer c.end(r)
	return C.GoString(C.SSL_get_psk_identity(r.p.ssl))
}

// PSKIdentityHint returns the identity hint that a client was told, or that a server told, or "": of TLS 1.2 and
// before. It is "" after Close.
//
// Wraps [SSL_get_psk_identity_hint].
//
// [SSL_get_psk_identity_hint]: https://docs.openssl.org/3.0/man3/SSL_get_psk_identity/
func (c *Conn) PSKIdentityHint() string {
	r, err := c.begin()
	if err != nil {
		return ""
	}
	defer c.end(r)
	return C.GoString(C.SSL_get_psk_identity_hint(r.p.ssl))
}
