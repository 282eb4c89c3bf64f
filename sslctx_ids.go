// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "context"

// MaxSessionIDPrefix is the longest prefix of [Context.SetSessionIDPrefix], in bytes. It leaves 16
// random bytes of an ID, which cannot be guessed.
const MaxSessionIDPrefix = MaxIDLength - 16

// SetSessionIDGenerator sets the hook that makes the IDs of the sessions that servers make. An ID
// has n bytes, which is 32 in all protocols of this module. With nil libssl makes them: random ones
// that its cache does not have. It replaces SetSessionIDPrefix.
//
// libssl asks in the middle of a handshake: in TLS 1.2 when it makes a session that gets no ticket,
// in TLS 1.3 for each ticket, also where the ticket and not the ID finds the session. An ID of 1 to
// n bytes is used. An empty or a longer one, and one that the internal cache has, fails the
// handshake. [Conn.HasMatchingSessionID] reports what the cache has. If the hook returns an error,
// Handshake fails with it. TLS 1.3 finds a session whose ID has not n bytes only by a ticket.
// libssl's cache uses the first four bytes of an ID as the hash of a session: let these differ.
//
// The hook runs on a goroutine of its own, while that of the handshake waits and holds a thread.
// ctx ends with the context of HandshakeContext, when a deadline of c passes, and on Close. The
// handshake then waits no longer, and drops what the hook returns. The number of such threads is
// limited. At the limit the hook does not run, and the handshake fails with ErrTooManyHooks. The
// hook may call any method except those of the Conn that waits; of these it may only call
// HasMatchingSessionID. Its panic, or Goexit, comes out of the call that made libssl ask.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_generate_session_id].
//
// [SSL_CTX_set_generate_session_id]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_generate_session_id/
func (c *Context) SetSessionIDGenerator(hook func(ctx context.Context, c *Conn, n int) ([]byte, error)) error {
	return c.setGenerator(hook, nil)
}

// SetSessionIDPrefix makes the IDs of the sessions that servers make begin with prefix, so that a
// fleet knows whose they are. Random bytes follow. As with libssl's own IDs, one that the internal
// cache has is made again, up to ten times. It runs in C. With an empty prefix libssl makes the
// IDs. It returns an ArgumentError for more than MaxSessionIDPrefix bytes. It replaces
// SetSessionIDGenerator.
//
// libssl's cache uses the first four bytes of an ID as the hash of a session. It compares sessions
// of one hash one by one, under its lock: with a prefix of four bytes or more these are all
// sessions. Use a shorter prefix, or no internal cache.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
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

// SetNotResumableSessionCallback sets the hook that decides for each new session of a server
// whether it must not be resumed. isForwardSecure says whether the cipher suite names an ephemeral
// Diffie-Hellman exchange, which those of TLS 1.3 do not. The hook does not run when a session is
// resumed. For a session that must not be resumed no ticket is sent, and from OpenSSL 3.0 on it is
// not cached. nil removes the hook. It applies to connections that are made afterwards.
//
// The hook runs like that of [Context.SetSessionIDGenerator]. But if it does not run, or does not
// return in time, the session is not resumed.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
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
