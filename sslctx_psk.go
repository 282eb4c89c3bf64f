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

// dupPSK makes a copy for libssl only, because a client writes to it. It fails with ErrBadPSK if s
// is no pre-shared key.
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

// release closes a handle that nobody else has, and returns its reference; nil gives nil.
func (s *Session) release() (p *C.SSL_SESSION) {
	if s != nil {
		s.close(func(released *C.SSL_SESSION) { p = released })
	}
	return p
}

// Limits of libssl. Before OpenSSL 3.0 they are 128 and 256.
const (
	// MaxPSKIdentityLength is the largest identity hint, in bytes. The largest identity of a
	// pre-shared key that SetPSKClientCallback's hook may return is one byte shorter.
	MaxPSKIdentityLength = C.PSK_MAX_IDENTITY_LEN

	// MaxPSKLength is the largest pre-shared key that a hook may return as bytes, in bytes.
	MaxPSKLength = C.PSK_MAX_PSK_LEN

	// maxPSKIdentity13 is how many bytes of an identity fit into a ClientHello of TLS 1.3, beside the
	// rest of it.
	maxPSKIdentity13 = 1 << 15
)

// ErrBadPSK says that a session that a hook returned is no pre-shared key. A pre-shared key needs
// TLS 1.3 as protocol version, a cipher suite of TLS 1.3, and a master key. libssl checks neither
// the version nor the master key, and crashes without the cipher suite.
var ErrBadPSK = errors.New("sslctx: session is no pre-shared key")

// SetPSKFindSessionCallback sets the hook that a server asks for the pre-shared key of an identity
// (TLS 1.3). libssl asks it before it treats the identity as a ticket. The server asks for each
// identity that a client offers, until the hook returns a key. It asks for no more than 16
// identities of a ClientHello. The hook returns nil for no key. A connection has the hook that its
// context had when it was made; nil is no hook.
//
// The key is a session. The hook can make one with [NewSession]. It then sets a master key, a
// cipher suite of TLS 1.3 and the protocol version VersionTLS13. The key is for the hash of the
// cipher suite. The hook can also return a session of another origin. A session that has expired is
// no key. A session of NewSession has a timeout of 304 seconds. The hook keeps its session, and
// libssl gets a copy. The handshake fails with ErrBadPSK for a session that is no pre-shared key,
// and with ErrClosed for a closed one. The identity is only what the client claims, up to 64 KiB.
// The handshake continues only if the client proves that it has the key.
//
// libssl accepts every replay of early data under such a key, if the session and SetMaxEarlyData
// allow early data. Its own protection, which OpNoAntiReplay switches off, does not cover these
// keys. Use [Context.SetAllowEarlyDataCallback] to recognize a replay.
//
// The hook runs like that of [Context.SetGetSessionCallback]. If the limit of waiting threads is
// reached, the hook does not run, and there is no key. Use c only for its addresses and to tell
// connections apart. The hook must not call the other methods of c, because they wait until the
// hook has returned.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
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

// SetPSKUseSessionCallback sets the hook that a client asks for a pre-shared key (TLS 1.3), when it
// makes its ClientHello. It asks again if the server wants another key: then digest is the hash
// that the key must be for. Otherwise digest is 0. The session is of the kind that
// SetPSKFindSessionCallback describes. It is offered, under the identity, behind the one of
// SetSession. It stays the hook's: libssl gets a copy. nil is none. The handshake fails with
// ErrBadPSK for a session that is no pre-shared key, with ErrClosed for a closed one, and with an
// ArgumentError for an empty identity or one of more than 32 KiB. A connection has the hook that
// its context had when it was made; nil is no hook.
//
// The hook runs like that of [Context.SetGetSessionCallback]. If the limit of waiting threads is
// reached, the hook does not run, and the handshake fails with ErrTooManyHooks. Use c only for its
// addresses and to tell connections apart. The hook must not call the other methods of c, because
// they wait until the hook has returned.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
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

// SetPSKServerCallback sets the hook that a server asks for the pre-shared key of an identity. It
// asks for the PSK cipher suites of TLS 1.2 and before. In TLS 1.3 it asks if
// SetPSKFindSessionCallback's hook has no key: the key is then one for SHA-256 with
// TLS_AES_128_GCM_SHA256. An empty key is none, which fails a handshake of TLS 1.2. The key is
// copied; more than MaxPSKLength bytes fail the handshake with an ArgumentError. An identity ends
// at its first zero byte. A connection has the hook that its context had when it was made; nil is
// no hook.
//
// The hook runs like that of [Context.SetGetSessionCallback]. If the limit of waiting threads is
// reached, the hook does not run, and the handshake fails with ErrTooManyHooks. Use c only for its
// addresses and to tell connections apart. The hook must not call the other methods of c, because
// they wait until the hook has returned.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
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

// SetPSKClientCallback sets the hook that a client asks for an identity and its pre-shared key. It
// asks for the PSK cipher suites of TLS 1.2 and before, which it offers only with this hook; hint
// is what the server said (TLS 1.2). For TLS 1.3 it asks if SetPSKUseSessionCallback's hook has no
// key: the key is then one for SHA-256 with TLS_AES_128_GCM_SHA256. A client that allows both
// versions asks for both. An empty key is none, which fails a handshake of TLS 1.2. The key is
// copied. The handshake fails with an ArgumentError for a key of more than MaxPSKLength bytes, and
// for an identity that has a zero byte, has MaxPSKIdentityLength bytes or more, or is empty in TLS
// 1.3. A connection has the hook that its context had when it was made; nil is no hook.
//
// The hook runs like that of [Context.SetGetSessionCallback]. If the limit of waiting threads is
// reached, the hook does not run, and the handshake fails with ErrTooManyHooks. Use c only for its
// addresses and to tell connections apart. The hook must not call the other methods of c, because
// they wait until the hook has returned.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
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

// UsePSKIdentityHint sets the hint that a server sends to its clients about the identity that it
// wants (TLS 1.2 and before), up to MaxPSKIdentityLength bytes. The empty hint is none.
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
