// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"unsafe"
)

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

// pskHooks are hooks that libssl copies, from the context into each connection that is made. They are not changed:
// a setter makes others.
type pskHooks struct {
	allowEarly func(context.Context, *Conn) bool
	find       func(context.Context, *Conn, []byte) *Session
	use        func(context.Context, *Conn, crypto.Hash) ([]byte, *Session)
	server     func(context.Context, *Conn, string) []byte
	client     func(context.Context, *Conn, string) (string, []byte)
}

// setPSK replaces the hooks. The gate is held.
func (c *Context) setPSK(change func(*pskHooks)) {
	var k pskHooks
	if c.hooks.psk != nil {
		k = *c.hooks.psk
	}
	change(&k)
	c.hooks.psk = &k
}

// SetPSKFindSessionCallback sets the hook that a server asks for the pre-shared key of an identity (TLS 1.3), before it
// takes the identity for a ticket: each identity that a client offers, until there is an answer, but no more than 16 of a
// ClientHello, those that SetSessionTicketCallback's hook is asked about counted. nil, from the
// hook, is none. A connection has the hook that its context had when it was made; nil is no hook.
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
		c.setPSK(func(k *pskHooks) { k.find = hook })
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
		c.setPSK(func(k *pskHooks) { k.use = hook })
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
		c.setPSK(func(k *pskHooks) { k.server = hook })
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
		c.setPSK(func(k *pskHooks) { k.client = hook })
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

// A pskAnswer is what a hook for pre-shared keys gives.
type pskAnswer struct {
	identity []byte
	session  *Session // a copy for libssl, or nil
	key      []byte
}

// askPSK runs a hook, and keeps why it gave no answer, which is then the error of the handshake.
func (c *Conn) askPSK(hook func(context.Context) (pskAnswer, error)) (answer pskAnswer, err error) {
	answer, err = runUpcall(c, hook)
	if err != nil && err != errHookEnded {
		c.upcalls.err = err
	}
	return answer, err
}

// findPSK asks for the key of an identity. Where the hook cannot be asked there is no key: libssl takes the identity
// for a ticket, and makes a full handshake if it is none.
func (c *Conn) findPSK(identity []byte) (p *C.SSL_SESSION, ok bool) {
	if c.psk.find == nil || c.upcalls.tooMany() {
		return nil, true
	}
	answer, err := c.askPSK(func(ctx context.Context) (a pskAnswer, err error) {
		if s := c.psk.find(ctx, c, identity); s != nil {
			a.session, err = s.dupPSK()
		}
		return a, err
	})
	return answer.session.release(), err == nil || errors.Is(err, ErrTooManyHooks)
}

// usePSK asks for a key whose hash has the digest's size, which is 0 for any.
func (c *Conn) usePSK(size int) (identity []byte, p *C.SSL_SESSION, ok bool) {
	if c.psk.use == nil {
		return nil, nil, true
	}
	var digest crypto.Hash
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		if h.Size() == size {
			digest = h
		}
	}
	answer, err := c.askPSK(func(ctx context.Context) (a pskAnswer, err error) {
		id, s := c.psk.use(ctx, c, digest)
		if s == nil {
			return a, nil
		}
		if len(id) == 0 || len(id) > maxTicket {
			return a, badArgument("SetPSKUseSessionCallback", "identity", "is %d bytes long, the limits are 1 and %d", len(id), maxTicket)
		}
		a.identity = id
		a.session, err = s.dupPSK()
		return a, err
	})
	return answer.identity, answer.session.release(), err == nil
}

// serverPSK writes a key, and returns a length of more than there is room if there is none to go on with.
func (c *Conn) serverPSK(identity string, room []byte) (n int) {
	if c.psk.server == nil || c.upcalls.tooMany() {
		return 0
	}
	answer, err := c.askPSK(func(ctx context.Context) (pskAnswer, error) {
		key := c.psk.server(ctx, c, identity)
		return pskAnswer{key: key}, checkPSK("SetPSKServerCallback", key, len(room))
	})
	if err != nil {
		return len(room) + 1
	}
	return copy(room, answer.key)
}

// clientPSK writes an identity, with the zero byte that ends it, and a key, as serverPSK does. TLS 1.3 has no empty
// identities.
func (c *Conn) clientPSK(tls13 bool, hint string, identity, room []byte) (n int) {
	const fn = "SetPSKClientCallback"
	if c.psk.client == nil {
		return 0
	}
	answer, err := c.askPSK(func(ctx context.Context) (pskAnswer, error) {
		id, key := c.psk.client(ctx, c, hint)
		switch {
		case len(key) == 0:
			return pskAnswer{}, nil
		case id == "" && tls13:
			return pskAnswer{}, badArgument(fn, "identity", "is empty, which TLS 1.3 does not allow")
		case len(id) >= len(identity):
			return pskAnswer{}, badArgument(fn, "identity", "is %d bytes long, the limit is %d", len(id), len(identity)-1)
		case strings.IndexByte(id, 0) >= 0:
			return pskAnswer{}, badArgument(fn, "identity", "has a zero byte")
		}
		return pskAnswer{identity: []byte(id), key: key}, checkPSK(fn, key, len(room))
	})
	if err != nil {
		return len(room) + 1
	}
	if len(answer.key) > 0 {
		identity[copy(identity, answer.identity)] = 0
	}
	return copy(room, answer.key)
}

func checkPSK(fn string, key []byte, limit int) error {
	if len(key) > limit {
		return badArgument(fn, "key", "is %d bytes long, the limit is %d", len(key), limit)
	}
	return nil
}
