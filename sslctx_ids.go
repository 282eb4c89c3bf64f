// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "context"

// MaxSessionIDPrefix is the longest prefix of [Context.SetSessionIDPrefix]: what is left of an ID, 16 random bytes,
// cannot be guessed.
const MaxSessionIDPrefix = MaxIDLength - 16

// SetSessionIDGenerator sets the hook that makes the IDs of the sessions that servers make, of n bytes, which is 32
// in all protocols of this module. nil has libssl make them: random ones that its cache does not have. It takes the
// place of SetSessionIDPrefix.
//
// libssl asks in the middle of a handshake: in TLS 1.2 when it makes a session that gets no ticket, in TLS 1.3 for
// each ticket, also where the ticket and not the ID is what finds the session. An ID of 1 to n bytes is used; an
// empty or a longer one, and one that the internal cache has, fails the handshake, and so does an error of the
// hook, which is then the error of Handshake. [Conn.HasMatchingSessionID] says what the cache has. TLS 1.3 finds no
// session whose ID is not of n bytes, unless by a ticket. libssl's cache looks at the first four bytes of an ID
// for the place where it keeps a session: let these differ.
//
// The hook runs on a goroutine of its own, while that of the handshake waits and holds a thread. ctx ends with that of
// HandshakeContext, when a deadline of c passes, and on Close; then the handshake does not wait any longer, and what the
// hook returns is dropped. The number of such threads is bounded: where it is reached the hook is not asked, and the
// handshake fails with ErrTooManyHooks. The hook may call any method except those of the Conn that waits, of which it may
// call HasMatchingSessionID alone. Its panic, or Goexit, comes out of the call that made libssl ask.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_generate_session_id].
//
// [SSL_CTX_set_generate_session_id]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_generate_session_id/
func (c *Context) SetSessionIDGenerator(hook func(ctx context.Context, c *Conn, n int) ([]byte, error)) error {
	return c.setGenerator(hook, nil)
}

// SetSessionIDPrefix has the IDs of the sessions that servers make begin with prefix, so that a fleet knows whose
// they are; random bytes follow. As libssl's own, an ID that the internal cache has is made again, up to ten times.
// It runs in C. An empty prefix has libssl make them; one of more than MaxSessionIDPrefix bytes is an
// ArgumentError. It takes the place of SetSessionIDGenerator.
//
// libssl's cache looks at the first four bytes of an ID for the place where it keeps a session. Those of one
// place it compares one by one, under its lock: with a prefix of four bytes or more that is all of them. Use a
// shorter one, or no internal cache.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_generate_session_id].
//
// [SSL_CTX_set_generate_session_id]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_generate_session_id/
func (c *Context) SetSessionIDPrefix(prefix []byte) error {
	if len(prefix) > MaxSessionIDPrefix {
		return badArgument("SetSessionIDPrefix", "prefix", "is %d bytes long, the limit is %d", len(prefix), MaxSessionIDPrefix)
	}
	return c.setGenerator(nil, prefix)
}

func (c *Context) setGenerator(hook generateIDHook, prefix []byte) error {
	on := hook != nil || len(prefix) > 0
	return c.replaceCallback(C.SHIM_CALLBACK_GENERATE_ID, on, func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_generate_session_id(p, boolInt(on), bytesPointer(prefix), C.size_t(len(prefix)))
		if r.n != 1 {
			return newError("SSL_CTX_set_generate_session_id", r.errs)
		}
		c.hooks.change(func(t *hookTable) { t.generateID = hook })
		return nil
	})
}

// SetNotResumableSessionCallback sets the hook that says of each new session of a server whether it must not be
// resumed; isForwardSecure is whether the cipher suite names an ephemeral Diffie-Hellman exchange, which those of
// TLS 1.3 do not. It is not asked when a session is resumed. For a session that must not be resumed no ticket is sent,
// and from OpenSSL 3.0 on it is not cached. nil removes the hook. It is for the connections that are made afterwards.
//
// The hook runs as that of [Context.SetSessionIDGenerator] does; but where it is not asked, or does not return in time,
// the session is not resumed.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_not_resumable_session_callback], which has no man page of its own.
//
// [SSL_CTX_set_not_resumable_session_callback]: https://docs.openssl.org/3.0/man7/ssl/
func (c *Context) SetNotResumableSessionCallback(hook func(ctx context.Context, c *Conn, isForwardSecure bool) bool) error {
	return c.replaceCallback(C.SHIM_CALLBACK_NOT_RESUMABLE, hook != nil, func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_not_resumable_session_callback(p, boolInt(hook != nil))
		c.hooks.change(func(t *hookTable) { t.notResumable = hook })
		return nil
	})
}
