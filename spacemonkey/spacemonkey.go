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

// Context makes a Context of the SSL_CTX of ctx, by [sslctx.ContextFromPointer]: its cache, counters and configuration
// are those that their servers and clients use. Setters of either side must not run while connections are made, nor at
// the same time.
//
// Their callbacks stay: for certificates, server names and ticket keys. Setters that would replace one, or might, are
// refused, and [sslctx.ErrForeignCallback] says so: [sslctx.ContextFromPointer] has their names.
//
// The Context has a reference of its own, the caller's; it and ctx may be closed, dropped and collected in any
// order. While it is open and reachable it keeps ctx, and so do the Conns made from it.
//
// A ctx that is nil or was not made by their NewCtx is a [sslctx.ArgumentError], another version of their package
// [ErrLayout].
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

// Session returns the session of c, [sslctx.ErrNoSession] if it has none: the very object, which belongs to the context
// that c was made from, also if that was never given to [Context]. What libssl will still write to is given as a copy:
// while a handshake runs, and in a TLS 1.3 server that has sent no ticket. A TLS 1.3 client has a session that resumes
// after its first Read.
//
// It works after c.Close, too, which Read calls at the end of the stream. It waits for whoever is inside libssl with
// c, and no longer: a Read that waits for the peer is not.
//
// The reference is the caller's, and outlives c. A c that is nil or was not made by their Client, Server or Dial is a
// [sslctx.ArgumentError], another version of their package [ErrLayout].
//
// It may be called from any goroutine, but not from a callback that c waits for.
func Session(c *openssl.Conn) (s *sslctx.Session, err error) {
	err = inside("Session", c, func(owner *sslctx.Context, ssl unsafe.Pointer, closed bool) (err error) {
		s, err = owner.SessionOf(ssl)
		return err
	})
	return s, err
}

// SetSession sets the session that a client of theirs offers to resume, nil for none: between their Client and the
// first Handshake, Read or Write; later it is [sslctx.ErrHandshakeStarted], and after c.Close [sslctx.ErrClosed]. The
// connection takes a reference of its own; s stays the caller's. As with [sslctx.Conn.SetSession], a session of another
// context, and one that has a ticket and no ID, is offered as a copy.
//
// A c that is nil or was not made by their Client or Server is a [sslctx.ArgumentError], another version of their
// package [ErrLayout].
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

// inside calls do with the SSL of c and the context that it was made from, and keeps others away from the SSL meanwhile
// as they do themselves.
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
