// SPDX-License-Identifier: Apache-2.0

package sslctx

// A static link names the archives in full, because -lssl means the shared library where a folder
// has both. pkg-config still adds -lssl after them; nothing is left for it to resolve, and
// --as-needed drops it. --static adds the libraries that libcrypto itself needs. Packages that link
// libssl in another way defeat this: TestLinkLines.

// #cgo !openssl_static pkg-config: libssl libcrypto
// #cgo openssl_static pkg-config: --static libssl libcrypto
// #cgo openssl_static,!darwin LDFLAGS: -l:libssl.a -l:libcrypto.a -Wl,--as-needed
// #cgo LDFLAGS: -lpthread
// #include "cgo_shim.h"
import "C"

import (
	"context"
	"sync/atomic"
	"time"
)

// A Context is one reference to an SSL_CTX: the configuration of connections and the cache of their
// sessions.
//
// All methods may be called from any goroutine, while connections run. Close gives the reference
// back. A Context that is dropped without Close is given back after garbage collection, and its
// cache with the last Conn. Methods with an error result return ErrClosed after Close; the others
// panic.
//
// Close does not affect the connections of the Context: they hold the SSL_CTX, too.
type Context struct {
	owned[contextRef]
	hooks   *hooks
	foreign bool   // other code owns the SSL_CTX too
	method  Method // of NewContext; TLSMethod, for both ends, if foreign
	owner   atomic.Pointer[any]
	likeTLS bool          // it was made of a tls.Config
	made    *madeContexts // what a hook for the ClientHello made of that, or nil
}

// contextRef is what a handle holds of an SSL_CTX. The hooks are not part of it: they may lead back
// to the handle, which could then never be collected.
type contextRef struct {
	p   *C.SSL_CTX
	ctx *ctxState
}

// NewContext makes a context with libssl's defaults: cache mode SessCacheServer, cache size 20480,
// timeout 2 hours, no certificate verification, no prompt for passwords.
//
// libssl also applies its configuration file (openssl.cnf, or the file that OPENSSL_CONF names) for
// all contexts: the section that ssl_conf and system_default name. Distributions set the lowest
// version, the cipher suites and the security level there.
//
// The reference is the caller's.
//
// Wraps [SSL_CTX_new].
//
// [SSL_CTX_new]: https://docs.openssl.org/3.0/man3/SSL_CTX_new/
func NewContext(m Method) (*Context, error) {
	if m < TLSMethod || m > TLSServerMethod {
		return nil, badArgument("NewContext", "m", "is %d, no method", m)
	}
	r := C.shim_SSL_CTX_new(C.int(m))
	if r.p == nil {
		return nil, newError("SSL_CTX_new", r.errs)
	}
	return newContext(r, m, false), nil
}

// checkRole refuses a context of the other end's method: libssl would fail every handshake.
func (c *Context) checkRole(fn string, server bool) error {
	switch {
	case server && c.method == TLSClientMethod:
		return badArgument(fn, "c", "is for clients: a server needs TLSServerMethod or TLSMethod")
	case !server && c.method == TLSServerMethod:
		return badArgument(fn, "c", "is for servers: a client needs TLSClientMethod or TLSMethod")
	}
	return nil
}

// newContext makes a handle of a reference. Other goroutines find it once it is registered, so
// everything must be set by then.
func newContext(r C.shim_ctx, m Method, foreign bool) *Context {
	c := &Context{hooks: newHooks(), foreign: foreign, method: m}
	h := ctxStateOf(uint64(r.number))
	if foreign {
		h.foreign.Store(true)
	}
	c.adopt(contextRef{r.p, h}, forgetContext)
	h.register(c)
	return c
}

// Close gives the reference back. When no Conn holds the SSL_CTX any more, libssl flushes the
// cache: it marks the sessions as not resumable, and the remove hook gets each of them. Further
// calls of Close do nothing; the error is always nil.
//
// Wraps [SSL_CTX_free].
//
// [SSL_CTX_free]: https://docs.openssl.org/3.0/man3/SSL_CTX_free/
func (c *Context) Close() error {
	if c == nil {
		return nil
	}
	var events *C.shim_event
	c.close(func(r contextRef) { events = c.free(r) })
	c.owner.Store(nil)
	c.made.retire()
	_ = c.runHooks(events, nil)
	return nil
}

// free gives a reference back and returns what libssl reported, first what it reported to calls of
// other code: that would be lost with the last Context. While another call configures the context,
// free waits for a moment. Then a goroutine gives the reference back later, runs the hooks and
// drops their panics.
func (c *Context) free(r contextRef) *C.shim_event {
	if r.ctx.configMu.rlockUntil(context.Background(), time.Now().Add(closeMoment)) {
		return freeContext(r)
	}
	go func() {
		r.ctx.configMu.RLock()
		_ = catchPanic(func() { _ = c.runHooks(freeContext(r), nil) })
	}()
	return nil
}

// forgetContext gives back a reference that was dropped without Close. Its hooks are gone, too. It
// never waits: the runtime calls it on the goroutine of all cleanups.
func forgetContext(r contextRef) {
	if r.ctx.configMu.TryRLock() {
		dropEvents(freeContext(r))
		return
	}
	go func() {
		r.ctx.configMu.RLock()
		dropEvents(freeContext(r))
	}()
}

// freeContext gives a reference back, and then the configuration lock, which the caller holds.
func freeContext(r contextRef) *C.shim_event {
	defer r.ctx.configMu.RUnlock()
	return joinEvents(takeEvents(r.p), C.shim_SSL_CTX_free(r.p))
}

// A contextCall is one call of a method that uses the SSL_CTX.
type contextCall struct {
	contextRef
	c         *Context
	exclusive bool
	events    *C.shim_event // what libssl reported meanwhile

	// otherStates has the contexts of sessions that were passed to libssl for a context that they
	// do not belong to. libssl reports these sessions, too.
	otherStates map[*C.SSL_SESSION]*ctxState
}

// begin enters the context for a call that uses it, exclusively or beside others. end leaves it,
// and runs the hooks when no lock is held any more. begin fills v in place. To return v cost 25 ns
// of a pair of calls: the copy reads words of 16 bytes that were just written as two, which the
// processor cannot forward.
func (v *contextCall) begin(c *Context, exclusive bool) error {
	if c == nil {
		return ErrClosed
	}
	r, ok := c.enter()
	if !ok {
		return ErrClosed
	}
	r.ctx.lock(exclusive)
	v.contextRef, v.c, v.exclusive = r, c, exclusive
	return nil
}

// beginUntil is begin beside others, until done ends.
func (v *contextCall) beginUntil(done context.Context, c *Context) error {
	if c == nil {
		return ErrClosed
	}
	r, ok := c.enter()
	if !ok {
		return ErrClosed
	}
	v.contextRef, v.c = r, c
	began := false
	defer func() {
		if !began { // done has ended, or one of its methods, which are the caller's, panicked
			v.leaveContext()
			v.c = nil
		}
	}()
	if began = r.ctx.configMu.rlockUntil(done, time.Time{}); !began {
		return context.Cause(done)
	}
	return nil
}

func (v *contextCall) end() {
	if v.c == nil { // it did not begin
		return
	}
	v.ctx.unlock(v.exclusive)
	v.leaveContext()
}

// leaveContext leaves the context, and runs the hooks.
func (v *contextCall) leaveContext() {
	var last *C.shim_event
	v.c.leave(func(r contextRef) { last = v.c.free(r) })
	if v.events != nil || last != nil {
		defer func() { _ = v.c.runHooks(last, nil) }()
		_ = v.c.runHooks(v.events, v.otherStates)
	}
}

// cacheSharing returns who else may use the cache. fresh says that the session was never in a
// cache.
func (v *contextCall) cacheSharing(fresh bool) C.int {
	switch {
	case fresh:
		return C.SHIM_CACHE_NEVER_CACHED
	case v.exclusive && !v.c.foreign:
		return C.SHIM_CACHE_EXCLUSIVE
	}
	return C.SHIM_CACHE_SHARED
}

// keepEvents keeps what libssl reported for the hooks. It returns an error if some of it is lost.
func (v *contextCall) keepEvents(r C.shim_long) error {
	v.events = r.events
	return lostError(r.lost)
}

// result returns the error of a call that may have reported something. Nearly always it reported
// nothing: the compiler inlines that case.
func (v *contextCall) result(op string, r C.shim_long) error {
	if r.events == nil && r.errs == nil && r.lost == 0 {
		return nil
	}
	return v.slowResult(op, r)
}

func (v *contextCall) slowResult(op string, r C.shim_long) error {
	lost := v.keepEvents(r)
	if err := takeError(op, r.errs); err != nil {
		return err
	}
	return lost
}

// endRemove ends a call that passed a session to libssl for removal: libssl keeps no reference. It
// publishes a fresh session if another handle may exist: a hook will get one, or other code may
// have got the session. A session of another context still belongs to that one, and otherStates
// has it for the hook.
func (v *contextCall) endRemove(s *Session, p *C.SSL_SESSION, first bool, reported bool) {
	if !reported && !v.ctx.foreign.Load() {
		s.endPublish(first, nil)
		return
	}
	s.endPublish(first, v.ctx)
	if h := s.ctxState.Load(); h != v.ctx && reported {
		if v.otherStates == nil {
			v.otherStates = make(map[*C.SSL_SESSION]*ctxState)
		}
		v.otherStates[p] = h
	}
}

// runHooks runs the hooks for what libssl reported.
func (c *Context) runHooks(events *C.shim_event, others map[*C.SSL_SESSION]*ctxState) error {
	if events == nil {
		return nil
	}
	return (&dispatcher{events: events, sessionTarget: hookTarget{hooks: c.hooks, ctx: c.p.ctx}, otherStates: others}).run()
}

// mustBegin is begin for a method without an error result.
func (v *contextCall) mustBegin(c *Context) {
	if err := v.begin(c, false); err != nil {
		panic("sslctx: use of a closed or nil Context")
	}
}

// configure runs set while no call and no connection is inside the context, because libssl does not
// lock its configuration.
func (c *Context) configure(set func(*C.SSL_CTX) error) error {
	var v contextCall
	if err := v.begin(c, true); err != nil {
		return err
	}
	defer v.end()
	v.ctx.configured.Add(1)
	return set(v.p)
}
