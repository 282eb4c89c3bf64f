// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"
import (
	"runtime"
	"unsafe"
)

// ContextFromPointer makes a Context of an SSL_CTX that other cgo code of the process owns, p is a *C.SSL_CTX: a
// reference of its own, so that it outlives the owner's if it must. Its cache, configuration and counters are
// the owner's too, who must not change the configuration while calls of this package use it. What a lock of this
// package keeps apart (docs/deviations.md) it cannot keep apart from the owner's own calls.
//
// owner, if it is not nil, is the Go value that the SSL_CTX belongs to, and that callbacks in it may lead to: it is not
// collected while the Context is open and reachable, nor while a Conn made from it is reachable.
//
// Hooks for new and removed sessions hear of what the owner's connections do, too: on a goroutine of their own, shortly
// after, and of a new session they get a copy. The hook of SetGetSessionCallback is asked by the owner's servers, too.
// The others are for Conns alone.
//
// Callbacks that the owner has set stay: a setter that would replace or remove one is ErrForeignCallback. libssl shows
// the callbacks for new, removed and wanted sessions, for the key log and for OCSP responses. For those that it does
// not show the setter is ErrForeignCallback whether there is one or not: SetClientHelloCallback, SetSessionLookup,
// SetALPNProtos, AllowALPNMismatch, TrustCertPool, SetTicketKeyRing, SetSessionTicketCallback, SetSessionIDGenerator,
// SetSessionIDPrefix, SetNotResumableSessionCallback, SetAllowEarlyDataCallback and the four for pre-shared keys. A
// Conn's own setters are allowed: they are for that Conn alone. Callbacks of this package stay when the Context is
// closed, and do nothing.
//
// If the owner's connections change to another SSL_CTX by the name that the client asks for (SSL_set_SSL_CTX), a new
// session is told to the hook of that one: set the same hook on each.
//
// All Contexts of one SSL_CTX have their hooks in common.
//
// Wraps [SSL_CTX_up_ref].
//
// [SSL_CTX_up_ref]: https://docs.openssl.org/3.0/man3/SSL_CTX_new/
func ContextFromPointer(p unsafe.Pointer, owner any) (*Context, error) {
	if p == nil {
		return nil, badArgument("ContextFromPointer", "p", "is nil")
	}
	r := C.shim_SSL_CTX_up_ref((*C.SSL_CTX)(p))
	runtime.KeepAlive(owner)
	if r.p == nil {
		return nil, newError("SSL_CTX_up_ref", r.errs)
	}
	c := newContext(r, true)
	if owner != nil {
		c.owner.Store(&owner)
	}
	// What was noted while the last Context was closing has told nobody.
	if told := takeNoted(r.p); told != nil {
		go func() { _ = c.runHooks(told, nil) }()
	}
	return c, nil
}

// ownerOf returns who else owns the SSL_CTX, or nil.
func (c *Context) ownerOf() *any {
	if c == nil {
		return nil
	}
	return c.owner.Load()
}

// notedForeign delivers what libssl reported to other code's calls; it reports false if c is closed.
func (c *Context) notedForeign() bool {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return false
	}
	defer v.end()
	v.events = takeNoted(v.p)
	return true
}

// takeNoted takes what libssl reported to other code's calls.
func takeNoted(p *C.SSL_CTX) *C.shim_event { return C.shim_SSL_CTX_take_events(p) }

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
	err := offer((*C.SSL)(ssl), v.ctx, s)
	if err == ErrClosed {
		return closedArgument("SetSessionOf", "s")
	}
	return err
}

// replaceCallback is configure for a setter of a callback for which libssl has no getter. A Context of
// ContextFromPointer is refused, because the owner may have a callback there; but not if the callback that is there is
// known to be this package's. which is a SHIM_CALLBACK_ number, and on says whether a callback is there after set.
func (c *Context) replaceCallback(which C.int, on bool, set func(*C.SSL_CTX) error) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if c.mayBeForeign(p, which) {
			return ErrForeignCallback
		}
		if err := set(p); err != nil {
			return err
		}
		C.shim_SSL_CTX_note_own_callback(p, which, boolInt(on))
		return nil
	})
}

// mayBeForeign reports whether a callback of other code may be there. The gate is held.
func (c *Context) mayBeForeign(p *C.SSL_CTX, which C.int) bool {
	return c.foreign && C.shim_SSL_CTX_has_own_callback(p, which) == 0
}
