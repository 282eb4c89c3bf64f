// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"unsafe"
)

// answerHello runs the hooks for which the handshake is suspended, and keeps their answers for the
// next call into libssl. The locks of the handshake are held, c.mu is not.
func (k *connCall) answerHello(ctx context.Context, what op) (err error) {
	c := k.c
	hello, chooses, allows, err := c.takeHello(ctx)
	if err != nil {
		return err
	}
	ctx, stop := c.startWait(ctx)
	defer stop()
	said := parseHello(hello)
	said.info.Conn = c.conn
	hooks := c.hooks.table.Load()
	if hook := hooks.clientHello; hook != nil && chooses {
		r := runHook(ctx, func(ctx context.Context) (helloAnswer, error) { return hook(ctx, said) })
		defer r.answer.end()
		switch {
		case r.end != nil:
			k.add(pending{hookEnd: r.end})
			return errHookEnded
		case what == opReadEarlyData && context.Cause(ctx) == os.ErrDeadlineExceeded:
			return os.ErrDeadlineExceeded // a ReadEarlyData after a new deadline asks again
		case r.err != nil:
			return k.refuseHello(ctx, r.err)
		}
		if err := k.switchContext(ctx, r.answer.chosen); k.any() || err != nil {
			return err
		}
	}
	if l := hooks.lookup; l != nil {
		if wanted := c.wantedID(ctx, said, allows); len(wanted) > 0 {
			return k.runLookup(ctx, l, SessionQuery{ID: wanted, Hello: said.info})
		}
	}
	return nil
}

// takeHello copies the ClientHello, and returns how libssl will look for a session. chooses says that
// a second ClientHello must agree with this one. A hook that was set later must not choose by it.
func (c *Conn) takeHello(ctx context.Context) (hello []byte, chooses bool, allows C.int, err error) {
	r, err := c.beginWithin(waitLimit{ctx: ctx, handshake: true})
	if err != nil {
		return nil, false, 0, err
	}
	defer c.end(r)
	hello = C.GoBytes(unsafe.Pointer(r.p.hello), C.int(r.p.hello_len))
	C.shim_SSL_client_hello_free(r.p)
	return hello, r.p.hello_has_choice != 0, r.p.hello_allows, nil
}

// switchContext makes the next call into libssl continue with another context, unless chosen is nil
// or the same.
func (k *connCall) switchContext(ctx context.Context, chosen *Context) (err error) {
	c := k.c
	if chosen == nil {
		return nil
	}
	owner := chosen.ownerOf() // before enter, because Close forgets it
	to, ok := chosen.enter()
	if !ok {
		return k.refuseHello(ctx, fmt.Errorf("SSL_set_SSL_CTX: %w", ErrClosed))
	}
	defer chosen.leave(func(r contextRef) { k.add(pending{events: chosen.free(r)}) })

	from, ok := c.enter()
	if !ok {
		return ErrClosed
	}
	defer k.leave()
	if err := c.lockWithin(&c.mu, waitLimit{ctx: ctx, handshake: true}); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if to.ctx != from.ctxs.sessionCtx {
		C.shim_SSL_set_SSL_CTX(from.p, to.p)
		from.ctxs.currentCtx = to.ctx
		c.samePeer = c.samePeer || chosen.likeTLS
		c.currentTarget.Store(&hookTarget{hooks: chosen.hooks, ctx: to.ctx, p: to.p, owner: owner})
	}
	return nil
}

// refuseHello fails the handshake with an alert, and with the hook's error.
func (k *connCall) refuseHello(ctx context.Context, reason error) (err error) {
	c := k.c
	alert := tls.AlertError(C.SSL_AD_INTERNAL_ERROR)
	errors.As(reason, &alert)
	r, err := c.beginWithin(waitLimit{ctx: ctx, handshake: true})
	if err != nil {
		return err
	}
	r.p.hello_refused, r.p.hello_alert = 1, C.int(alert)
	c.end(r)
	_, _, _ = k.callSSL(opHandshake, nil, false, nil)
	if !k.any() { // otherwise hooks run before the alert is sent
		_ = c.flush()
	}
	return fmt.Errorf("sslctx: the ClientHello was refused: %w", reason)
}
