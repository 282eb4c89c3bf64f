// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "unsafe"

// SessionOf returns the session of a connection of other cgo code, ErrNoSession if it has none: ssl is a *C.SSL that
// was made from this SSL_CTX, whichever it has changed to since. What libssl will still write to is given as
// a copy, as by [Conn.Session]. An ssl that is nil is an ArgumentError.
//
// Nobody else may use ssl meanwhile, and it must stay alive. The reference is the caller's; the session belongs to
// the Context.
//
// Wraps [SSL_get1_session].
//
// [SSL_get1_session]: https://docs.openssl.org/3.0/man3/SSL_get_session/
func (c *Context) SessionOf(ssl unsafe.Pointer) (*Session, error) {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return nil, err
	}
	defer v.end()
	if ssl == nil {
		return nil, badArgument("SessionOf", "ssl", "is nil")
	}
	return sessionOf((*C.SSL)(ssl), v.ctx, false)
}

// SetSessionOf sets the session that a client of other cgo code offers to resume, nil for none, by the rules of
// [Conn.SetSession]: ssl is a *C.SSL that was made from this SSL_CTX. It must come before the handshake:
// ErrHandshakeStarted. An ssl that is nil is an ArgumentError.
//
// Nobody else may use ssl meanwhile, and it must stay alive. The connection takes a reference of its own; s stays the
// caller's.
//
// Wraps [SSL_set_session].
//
// [SSL_set_session]: https://docs.openssl.org/3.0/man3/SSL_set_session/
func (c *Context) SetSessionOf(ssl unsafe.Pointer, s *Session) error {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return err
	}
	defer v.end()
	if ssl == nil {
		return badArgument("SetSessionOf", "ssl", "is nil")
	}
	if C.SSL_in_before((*C.SSL)(ssl)) == 0 {
		return ErrHandshakeStarted
	}
	_, err := offer((*C.SSL)(ssl), v.ctx, s)
	if err == ErrClosed {
		return closedArgument("SetSessionOf", "s")
	}
	return err
}
