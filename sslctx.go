// SPDX-License-Identifier: Apache-2.0

package sslctx

// #cgo pkg-config: libssl libcrypto
// #cgo LDFLAGS: -lpthread
// #include "cgo_shim.h"
import "C"

// A Context is one reference to an SSL_CTX: the configuration of connections and the cache of their
// sessions.
//
// All methods may be called from any goroutine, while connections run. Close gives the reference
// back; a Context that is dropped without Close is given back after garbage collection, and so is
// then, with the last Conn, its cache. Methods with an error result return ErrClosed after Close;
// the others panic.
//
// Close does not disturb the connections of the Context: they hold the SSL_CTX too.
type Context struct {
	owned[contextRef]
}

// contextRef is what a handle holds of an SSL_CTX.
type contextRef struct {
	p *C.SSL_CTX
	h *home
}

// NewContext makes a context with libssl's defaults: cache mode SessCacheServer, cache size 20480,
// timeout 2 hours, no certificate verification, no prompt for passwords.
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
	c := new(Context)
	c.adopt(contextRef{r.p, new(home)}, freeContext)
	return c, nil
}

// Close gives the reference back. When no Conn holds the SSL_CTX any more, libssl flushes the cache,
// which marks its sessions as not resumable. Further calls of Close do nothing; the error is always
// nil.
//
// Wraps [SSL_CTX_free].
//
// [SSL_CTX_free]: https://docs.openssl.org/3.0/man3/SSL_CTX_free/
func (c *Context) Close() error {
	if c != nil {
		c.close(freeContext)
	}
	return nil
}

func freeContext(r contextRef) {
	r.h.gate.RLock()
	C.SSL_CTX_free(r.p)
	r.h.gate.RUnlock()
}

// begin enters the context for a call that uses it, alone or beside others; end leaves.
func (c *Context) begin(alone bool) (contextRef, error) {
	if c == nil {
		return contextRef{}, ErrClosed
	}
	r, ok := c.enter()
	if !ok {
		return contextRef{}, ErrClosed
	}
	r.h.lock(alone)
	return r, nil
}

func (c *Context) end(r contextRef, alone bool) {
	r.h.unlock(alone)
	c.leave(freeContext)
}

// get is begin for a method without an error result.
func (c *Context) get() contextRef {
	r, err := c.begin(false)
	if err != nil {
		panic("sslctx: use of a closed or nil Context")
	}
	return r
}

// configure runs set while no call and no connection is inside the context: libssl does not lock its
// configuration.
func (c *Context) configure(set func(*C.SSL_CTX) error) error {
	r, err := c.begin(true)
	if err != nil {
		return err
	}
	defer c.end(r, true)
	return set(r.p)
}
