// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey

import (
	"runtime"
	"sync"
	"unsafe"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
	_ "sslctx/spacemonkey/compat" // so that go mod vendor keeps the headers
)

// Context makes a Context of the SSL_CTX of ctx, by [sslctx.ContextFromPointer]: its cache,
// counters and configuration are those that their servers and clients use. Setters of either side
// must not run while connections are made, and not at the same time as each other.
//
// Their callbacks for certificates, server names and ticket keys stay. A setter that would or could
// replace one fails with [sslctx.ErrForeignCallback]: [sslctx.ContextFromPointer] has the names of
// the setters.
//
// The caller owns the Context, which has its own reference to the SSL_CTX: it and ctx may be
// closed, dropped and collected in any order. While it is open and reachable it keeps ctx, and so
// do the Conns made from it.
//
// If ctx is nil or was not made by their NewCtx, the error is a [sslctx.ArgumentError]. For another
// version of their package it is [ErrLayout].
//
// It may be called from any goroutine.
func Context(ctx *openssl.Ctx) (*sslctx.Context, error) {
	f, err := theirs()
	if err != nil {
		return nil, err
	}
	return contextOf("Context", "ctx", ctx, f)
}

func contextOf(fn, arg string, ctx *openssl.Ctx, f fields) (*sslctx.Context, error) {
	if ctx == nil {
		return nil, &sslctx.ArgumentError{Func: fn, Arg: arg, Problem: "is nil, or has no Ctx"}
	}
	p := *field[unsafe.Pointer](ctx, f.ctx)
	if p == nil {
		return nil, &sslctx.ArgumentError{Func: fn, Arg: arg, Problem: "was not made by NewCtx"}
	}
	return sslctx.ContextFromPointer(p, ctx)
}

// Session returns the session of c, or [sslctx.ErrNoSession] if it has none. It returns the object
// itself, which belongs to the context that c was made from, even if that was never passed to
// [Context]. If libssl will still write to the session, it returns a copy: while a handshake runs,
// and in a TLS 1.3 server that has sent no ticket. A TLS 1.3 client has a session that resumes
// after its first Read.
//
// It also works after c.Close, which their Read calls at the end of the stream. It waits only while
// another call is inside libssl with c. A Read that waits for the peer is not inside.
//
// The caller owns the reference, which outlives c. If c is nil or was not made by their Client,
// Server or Dial, the error is a [sslctx.ArgumentError]. For another version of their package it is
// [ErrLayout].
//
// It may be called from any goroutine, but not from a callback that c waits for.
func Session(c *openssl.Conn) (s *sslctx.Session, err error) {
	err = inside("Session", c, func(owner *sslctx.Context, ssl unsafe.Pointer, closed bool) (err error) {
		s, err = owner.SessionOf(ssl)
		return err
	})
	return s, err
}

// SetSession sets the session that one of their clients offers to resume; nil is none. Call it
// between their Client and the first Handshake, Read or Write. Later it returns
// [sslctx.ErrHandshakeStarted], and after c.Close [sslctx.ErrClosed]. The connection takes a
// reference of its own; s stays the caller's. As with [sslctx.Conn.SetSession], the client offers a
// copy of a session of another context, and of one that has a ticket and no ID.
//
// If c is nil or was not made by their Client or Server, the error is a [sslctx.ArgumentError]. For
// another version of their package it is [ErrLayout].
//
// It may be called from any goroutine, but not from a callback that c waits for.
func SetSession(c *openssl.Conn, s *sslctx.Session) error {
	return inside("SetSession", c, func(owner *sslctx.Context, ssl unsafe.Pointer, closed bool) error {
		if closed {
			return sslctx.ErrClosed
		}
		return owner.SetSessionOf(ssl, s)
	})
}

// inside calls do with the SSL of c and the context that it was made from. Meanwhile it keeps other
// calls away from the SSL, by the same mutex as their package.
func inside(fn string, c *openssl.Conn, do func(owner *sslctx.Context, ssl unsafe.Pointer, closed bool) error) error {
	f, err := theirs()
	if err != nil {
		return err
	}
	if c == nil || c.SSL == nil {
		return &sslctx.ArgumentError{Func: fn, Arg: "c", Problem: "is nil, or was not made by Client, Server or Dial"}
	}
	ctx, err := contextOf(fn, "c", c.GetCtx(), f)
	if err != nil {
		return err
	}
	defer ctx.Close()
	mutex := field[sync.Mutex](c, f.mutex)
	mutex.Lock()
	defer mutex.Unlock()
	err = do(ctx, *field[unsafe.Pointer](c.SSL, f.ssl), *field[bool](c, f.closed))
	runtime.KeepAlive(c) // its finalizer frees the SSL
	return err
}
