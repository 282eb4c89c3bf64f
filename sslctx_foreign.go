// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"
import (
	"runtime"
	"unsafe"
)

// ContextFromPointer makes a Context of an SSL_CTX that other cgo code of the process owns; p is a
// *C.SSL_CTX. The Context has a reference of its own, so that it outlives the owner's if it must.
// Its cache, configuration and counters are the owner's, too. The owner must not change the
// configuration while calls of this package use it. The locks of this package (docs/deviations.md)
// do not lock out the owner's own calls.
//
// owner, if it is not nil, is the Go value that the SSL_CTX belongs to, and that callbacks in it
// may refer to. It is not collected while the Context is open and reachable, nor while a Conn made
// from it is reachable.
//
// Hooks for new and removed sessions also get the sessions of the owner's connections: on a
// goroutine of their own, shortly after the event. Of a new session they get a copy. The owner's
// servers ask the hook of SetGetSessionCallback, too. All other hooks are for Conns only.
//
// Callbacks that the owner has set stay: a setter that would replace or remove one returns
// ErrForeignCallback. libssl shows the callbacks for new, removed and wanted sessions, for the key
// log and for OCSP responses. It does not show the others. Their setters return ErrForeignCallback
// whether there is a callback or not: SetClientHelloCallback, SetSessionLookup, SetALPNProtos,
// AllowALPNMismatch, TrustCertPool, SetTicketKeyRing, SetSessionTicketCallback,
// SetSessionIDGenerator, SetSessionIDPrefix, SetNotResumableSessionCallback,
// SetAllowEarlyDataCallback and the four for pre-shared keys. A Conn's own setters are allowed:
// they are for that Conn only. Callbacks of this package stay when the Context is closed, and then
// do nothing.
//
// If the owner's connections change to another SSL_CTX by the name that the client asks for
// (SSL_set_SSL_CTX), the hook of that one gets a new session: set the same hook on each.
//
// All Contexts of one SSL_CTX share their hooks.
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
	c := newContext(r, TLSMethod, true)
	if owner != nil {
		c.owner.Store(&owner)
	}
	// No hook has yet got what was reported while the last Context was closing.
	if events := takeEvents(r.p); events != nil {
		go func() { _ = c.runHooks(events, nil) }()
	}
	return c, nil
}

// ownerOf returns the other owner of the SSL_CTX, or nil.
func (c *Context) ownerOf() *any {
	if c == nil {
		return nil
	}
	return c.owner.Load()
}

// notedForeign runs the hooks for what libssl reported to calls of other code. It returns false if
// c is closed.
func (c *Context) notedForeign() bool {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return false
	}
	defer v.end()
	v.events = takeEvents(v.p)
	return true
}

// takeEvents takes what libssl reported to calls of other code.
func takeEvents(p *C.SSL_CTX) *C.shim_event { return C.shim_SSL_CTX_take_events(p) }

// SessionOf returns the session of a connection of other cgo code, or ErrNoSession if it has none.
// ssl is a *C.SSL that was made from this SSL_CTX, whichever it has changed to since. A session
// that libssl will still write to is returned as a copy, as by [Conn.Session]. It returns an
// ArgumentError if ssl is nil.
//
// Nobody else may use ssl meanwhile, and it must stay alive. The reference is the caller's. The
// session belongs to the Context.
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

// SetSessionOf sets the session that a client of other cgo code offers to resume, nil for none, by
// the rules of [Conn.SetSession]. ssl is a *C.SSL that was made from this SSL_CTX. It must come
// before the handshake; later it returns ErrHandshakeStarted. It returns an ArgumentError if ssl is
// nil.
//
// Nobody else may use ssl meanwhile, and it must stay alive. The connection takes a reference of
// its own; s stays the caller's.
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

// replaceCallback is configure for a setter of a callback for which libssl has no getter. It
// refuses a Context of ContextFromPointer, because the owner may have a callback there, unless the
// callback that is there is known to be this package's. which is a SHIM_CALLBACK_ number, and on
// says whether a callback is there after set.
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

// mayBeForeign reports whether a callback of other code may be there. configMu is held.
func (c *Context) mayBeForeign(p *C.SSL_CTX, which C.int) bool {
	return c.foreign && C.shim_SSL_CTX_has_own_callback(p, which) == 0
}
