// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"errors"
	"time"
	"unsafe"
)

// A SessionQuery describes a session that a client wants to resume.
type SessionQuery struct {
	// ID is the session ID that the client offers. With TLS 1.3 it is the identity of the client's
	// first pre-shared key, 32 bytes.
	ID []byte

	// Hello is the ClientHello, as for SetClientHelloCallback.
	Hello *tls.ClientHelloInfo
}

// A SessionLookup finds sessions in a store outside of libssl, which may be slow: see
// [Context.SetSessionLookup].
type SessionLookup struct {
	// Find returns the session with the query's ID, or nil if there is none. It runs on a goroutine
	// of its own. ctx ends with Timeout, with the context of HandshakeContext, and with Close of
	// the Conn. The session stays Find's: libssl takes a reference of its own. After an error the
	// handshake is a full one.
	Find func(ctx context.Context, q SessionQuery) (*Session, error)

	// Timeout, if it is not 0, is how long a handshake waits for Find. Then the handshake continues
	// without a session, and a later result of Find has no effect.
	Timeout time.Duration

	// Failed, if it is set, gets the reason why a session was not resumed: Find's error,
	// context.DeadlineExceeded, a refusal such as ErrNoCipher, or ErrWrongSession. It runs on a
	// goroutine of its own. The handshake waits for it until the handshake's context ends. It may
	// make the same calls as a hook for the ClientHello.
	Failed func(q SessionQuery, err error)
}

// ErrWrongSession says that a [SessionLookup] returned a session with another ID than the client's,
// or one that is marked as not resumable.
var ErrWrongSession = errors.New("sslctx: the lookup found another session, or one that is not resumable")

// runLookup waits for the lookup, and keeps the session for libssl. If the lookup fails, the
// handshake is a full one; but its panic ends the handshake.
func (k *connCall) runLookup(handshake context.Context, l *SessionLookup, q SessionQuery) (err error) {
	c, ctx := k.c, handshake
	if l.Timeout > 0 {
		var stop func()
		ctx, stop = context.WithTimeout(ctx, l.Timeout)
		defer stop()
	}
	f := runHook(ctx, func(ctx context.Context) (*Session, error) {
		s, err := l.Find(ctx, q)
		if err == nil && s != nil && !s.matchesID(q.ID) { // here, for its context may be configured
			err = ErrWrongSession
		}
		return s, err
	})
	k.add(pending{hookEnd: f.end})
	if f.err == nil && f.answer != nil {
		f.err = c.stashSession(ctx, f.answer, q.ID)
	}
	if f.err != nil && l.Failed != nil {
		failed := runHook(handshake, func(context.Context) (struct{}, error) {
			l.Failed(q, f.err)
			return struct{}{}, nil
		})
		k.add(pending{hookEnd: failed.end})
	}
	return nil
}

// stashSession keeps a session until libssl asks for it.
func (c *Conn) stashSession(ctx context.Context, s *Session, id []byte) error {
	r, err := c.beginWithin(waitLimit{ctx: ctx, handshake: true})
	if err != nil {
		return err
	}
	defer c.end(r)
	r.p.found_allowed = 0
	r.p.found, err = s.upRefFor(r.p, r.ctxs.sessionCtx, true)
	r.p.wanted_len = C.size_t(copy(unsafe.Slice((*byte)(&r.p.wanted[0]), MaxIDLength), id))
	return err
}

// wantedID returns the ID of the session that libssl will look for outside of its own cache. With
// TLS 1.3 that is the first identity, if tickets are stateful: then they are IDs of 32 bytes.
// Before TLS 1.3 it is the session ID, unless there is a ticket.
func (c *Conn) wantedID(ctx context.Context, said clientHello, allows C.int) []byte {
	switch {
	case allows&C.SHIM_ALLOWS_TLS13 == 0 || !said.offersTLS13():
		if allows&C.SHIM_ALLOWS_TICKETS != 0 && said.hasTicket || len(said.sessionID) > MaxIDLength {
			return nil
		}
		return said.sessionID
	case allows&C.SHIM_ALLOWS_STATEFUL == 0 || len(said.identity) != MaxIDLength:
		return nil
	case allows&C.SHIM_ALLOWS_INTERNAL != 0:
		if has, err := c.hasMatchingSessionID(said.identity, waitLimit{ctx: ctx, handshake: true}); has || err != nil {
			return nil
		}
	}
	return said.identity
}
