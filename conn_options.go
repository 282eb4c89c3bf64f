// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

// SetOptions sets options of this connection, in addition to those that are set, and returns all that are set then. At first
// they are those that its context had when the connection was made ([Context.SetOptions]). What the handshake looks at
// must be set before it. It is ErrClosed after Close.
//
// Wraps [SSL_set_options].
//
// [SSL_set_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Conn) SetOptions(o Option) (now Option, err error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return Option(C.shim_SSL_set_options(r.p, C.uint64_t(o))), nil
}

// ClearOptions clears options of this connection and returns all that are set then. It is ErrClosed after Close.
//
// Wraps [SSL_clear_options].
//
// [SSL_clear_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Conn) ClearOptions(o Option) (now Option, err error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return Option(C.shim_SSL_clear_options(r.p, C.uint64_t(o))), nil
}

// Options returns the options of this connection. It is ErrClosed after Close.
//
// Wraps [SSL_get_options].
//
// [SSL_get_options]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_options/
func (c *Conn) Options() (Option, error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return Option(C.shim_SSL_get_options(r.p)), nil
}
