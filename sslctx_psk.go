// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"unsafe"
)

// dupPSK makes a copy that libssl may have for itself: a client writes to it. It fails with ErrBadPSK if s is no
// pre-shared key.
func (s *Session) dupPSK() (*Session, error) {
	p, err := s.dup()
	if err != nil {
		return nil, err
	}
	missing := C.shim_session_is_psk(p)
	if missing == 0 {
		return adoptSession(p, nil), nil
	}
	freeSession(p)
	what := map[C.int]string{
		C.SHIM_PSK_VERSION: "its protocol version is not TLS 1.3",
		C.SHIM_PSK_CIPHER:  "it has no cipher suite of TLS 1.3",
		C.SHIM_PSK_KEY:     "it has no master key",
	}[missing]
	return nil, fmt.Errorf("%w: %s", ErrBadPSK, what)
}

// release gives the reference of a handle away that nobody else has; nil gives nil.
func (s *Session) release() (p *C.SSL_SESSION) {
	if s != nil {
		s.close(func(released *C.SSL_SESSION) { p = released })
	}
	return p
}

// Limits of libssl, which are 128 and 256 before OpenSSL 3.0.
const (
	// MaxPSKIdentityLength is the largest identity hint, and one more than the largest identity of a pre-shared
	// key that SetPSKClientCallback's hook may give, in bytes.
	MaxPSKIdentityLength = C.PSK_MAX_IDENTITY_LEN

	// MaxPSKLength is the largest pre-shared key that is given as bytes.
	MaxPSKLength = C.PSK_MAX_PSK_LEN

	// maxTicket is what the extension has room for, beside what else is in a ClientHello.
	maxTicket = 1 << 15
)

// ErrBadPSK says that a session that a hook gave is no pre-shared key: one needs TLS 1.3 as protocol version, a
// cipher suite of TLS 1.3, and a master key. libssl takes the first and the last on trust, and crashes without
// the second.
var ErrBadPSK = errors.New("sslctx: session is no pre-shared key")

// SetPSKFindSessionCallback sets the hook that a server asks for the pre-shared key of an identity (TLS 1.3), before it
// takes the identity for a ticket: each identity that a client offers, until there is an answer, but no more than 16 of a
// ClientHello. nil, from the hook, is none. A connection has the hook that its context had when it was made; nil is no hook.
//
// The key is a session: a fresh one with a master key, a cipher suite of TLS 1.3, whose hash the key is for, and
// protocol version VersionTLS13, or one from elsewhere. Its time and timeout count, which is 304 seconds for one of
// NewSession: one that has expired is none. It stays the hook's: libssl is given a copy. One that will not do fails the
// handshake with ErrBadPSK, and a closed one with ErrClosed. The identity is the client's word, up to 64 KiB; the handshake goes on only if the client proves that it has the key.
//
// If the session allows early data, and SetMaxEarlyData does, a replay of it is accepted: what OpNoAntiReplay
// switches off does not look at such keys. SetAllowEarlyDataCallback has to.
//
// The hook runs as [Context.SetGetSessionCallback]'s does; where that one would not be asked, this one has no key. c is
// for its addresses and for telling connections apart: its other methods wait for the one that waits for the hook.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_psk_find_session_callback].
//
// [SSL_CTX_set_psk_find_session_callback]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_psk_find_session_callback/
func (c *Context) SetPSKFindSessionCallback(hook func(ctx context.Context, c *Conn, identity []byte) *Session) error {
	return c.replaceCallback(C.SHIM_CALLBACK_PSK_FIND, hook != nil, func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_psk_find_session_callback(p, boolInt(hook != nil))
		c.hooks.change(func(t *hookTable) { t.findPSK = hook })
		return nil
	})
}

// SetPSKUseSessionCallback sets the hook that a client asks for a pre-shared key (TLS 1.3), when it makes its ClientHello,
// and again if the server wants another one: then digest is the hash that the key must be for, and otherwise 0.
// The session is of the kind that SetPSKFindSessionCallback describes, and is offered, under the identity,
// behind the one of SetSession. It stays the hook's: libssl is given a copy. nil is none. A session that will
// not do fails the handshake with ErrBadPSK, a closed one with ErrClosed, and no identity, or one of more than
// 32 KiB, with an ArgumentError. A connection has the hook that its context had when it was made; nil is no
// hook.
//
// The hook runs as [Context.SetGetSessionCallback]'s does; where that one would not be asked, the handshake fails with
// ErrTooManyHooks. c is for its addresses and for telling connections apart:
// its other methods wait for the one that waits for the hook.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_psk_use_session_callback].
//
// [SSL_CTX_set_psk_use_session_callback]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_psk_client_callback/
func (c *Context) SetPSKUseSessionCallback(hook func(ctx context.Context, c *Conn, digest crypto.Hash) (identity []byte, s *Session)) error {
	return c.replaceCallback(C.SHIM_CALLBACK_PSK_USE, hook != nil, func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_psk_use_session_callback(p, boolInt(hook != nil))
		c.hooks.change(func(t *hookTable) { t.usePSK = hook })
		return nil
	})
}

// SetPSKServerCallback sets the hook that a server asks for the pre-shared key of an identity: for the PSK cipher suites
// of TLS 1.2 and before, and in TLS 1.3, where the key is one for SHA-256 with TLS_AES_128_GCM_SHA256, when
// SetPSKFindSessionCallback's hook has none. No bytes are no key, which fails a handshake of TLS 1.2. The key is
// copied; more than MaxPSKLength bytes fail the handshake with an ArgumentError. An identity ends at its first
// zero byte. A connection has the hook that its context had when it was made; nil is no hook.
//
// The hook runs as [Context.SetGetSessionCallback]'s does; where that one would not be asked, the handshake fails with
// ErrTooManyHooks. c is for its addresses and for telling connections apart:
// its other methods wait for the one that waits for the hook.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_psk_server_callback].
//
// [SSL_CTX_set_psk_server_callback]: https://docs.openssl.org/3.0/man3/SSL_CTX_use_psk_identity_hint/
func (c *Context) SetPSKServerCallback(hook func(ctx context.Context, c *Conn, identity string) (key []byte)) error {
	return c.replaceCallback(C.SHIM_CALLBACK_PSK_SERVER, hook != nil, func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_psk_server_callback(p, boolInt(hook != nil))
		c.hooks.change(func(t *hookTable) { t.serverPSK = hook })
		return nil
	})
}

// SetPSKClientCallback sets the hook that a client asks for an identity and its pre-shared key: for the PSK cipher suites of
// TLS 1.2 and before, which it offers only with this hook, and where hint is what the server said (TLS 1.2), and
// for TLS 1.3, where the key is one for SHA-256 with TLS_AES_128_GCM_SHA256, when SetPSKUseSessionCallback's hook
// has none. A client that allows both versions is asked for both. No bytes are no key, which fails a handshake
// of TLS 1.2. The key is copied; more than MaxPSKLength bytes, and an identity that has a zero byte, has
// MaxPSKIdentityLength bytes or more, or is empty in TLS 1.3, fail the handshake with an ArgumentError. A connection has
// the hook
// that its context had when it was made; nil is no hook.
//
// The hook runs as [Context.SetGetSessionCallback]'s does; where that one would not be asked, the handshake fails with
// ErrTooManyHooks. c is for its addresses and for telling connections apart:
// its other methods wait for the one that waits for the hook.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_psk_client_callback].
//
// [SSL_CTX_set_psk_client_callback]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_psk_client_callback/
func (c *Context) SetPSKClientCallback(hook func(ctx context.Context, c *Conn, hint string) (identity string, key []byte)) error {
	return c.replaceCallback(C.SHIM_CALLBACK_PSK_CLIENT, hook != nil, func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_psk_client_callback(p, boolInt(hook != nil))
		c.hooks.change(func(t *hookTable) { t.clientPSK = hook })
		return nil
	})
}

// UsePSKIdentityHint sets what a server tells its clients of the identity that it wants (TLS 1.2 and before), up to
// MaxPSKIdentityLength bytes; the empty hint is none.
//
// Wraps [SSL_CTX_use_psk_identity_hint].
//
// [SSL_CTX_use_psk_identity_hint]: https://docs.openssl.org/3.0/man3/SSL_CTX_use_psk_identity_hint/
func (c *Context) UsePSKIdentityHint(hint string) error {
	if err := checkString("UsePSKIdentityHint", "hint", hint); err != nil {
		return err
	}
	if len(hint) > MaxPSKIdentityLength {
		return badArgument("UsePSKIdentityHint", "hint", "is %d bytes long, the limit is %d", len(hint), MaxPSKIdentityLength)
	}
	return c.configure(func(p *C.SSL_CTX) error {
		var s *C.char
		if hint != "" {
			s = C.CString(hint)
			defer C.free(unsafe.Pointer(s))
		}
		r := C.shim_SSL_CTX_use_psk_identity_hint(p, s)
		return errorIf(r.n == 1, "SSL_CTX_use_psk_identity_hint", r.errs)
	})
}
