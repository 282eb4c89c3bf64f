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

// A SessionQuery is a session that a client wants to resume.
type SessionQuery struct {
	// ID is the session's: the session ID that the client offers, or with TLS 1.3 the identity of its first
	// pre-shared key, 32 bytes.
	ID []byte

	// Hello is what the client said, as for SetClientHelloCallback.
	Hello *tls.ClientHelloInfo
}

// A SessionLookup finds sessions in a place outside of libssl, which may be slow: see
// [Context.SetSessionLookup].
type SessionLookup struct {
	// Find returns the session with the query's ID, or nil if there is none. It runs on a goroutine of its
	// own; ctx ends with the lookup's time, with the context of HandshakeContext, and with Close of the Conn.
	// The session stays Find's: libssl takes a reference of its own. An error is as good as no session.
	Find func(ctx context.Context, q SessionQuery) (*Session, error)

	// Timeout, if it is not 0, is how long a handshake waits for Find. Then it goes on without a session, and
	// what Find returns later is dropped.
	Timeout time.Duration

	// Failed, if it is set, hears why a session was not resumed: Find's error, context.DeadlineExceeded, a
	// refusal such as ErrNoCipher, or ErrWrongSession. It runs on the goroutine of the handshake, and may call
	// what a hook for the ClientHello may.
	Failed func(q SessionQuery, err error)
}

// ErrWrongSession says that a [SessionLookup] found a session with another ID than the client's, or one that
// was marked as not resumable.
var ErrWrongSession = errors.New("sslctx: the lookup found another session, or one that is not resumable")

// runLookup waits for the lookup, and leaves what it found for libssl to ask for. Whatever goes wrong with it is
// a full handshake; only its panic is not.
func (k *connCall) runLookup(ctx context.Context, l *SessionLookup, q SessionQuery) (err error) {
	c := k.c
	if l.Timeout > 0 {
		var stop func()
		ctx, stop = context.WithTimeout(ctx, l.Timeout)
		defer stop()
	}
	f := runHook(ctx, func(ctx context.Context) (*Session, error) { return l.Find(ctx, q) })
	if f.err == nil && f.answer != nil {
		f.err = c.stashSession(ctx, f.answer, q.ID)
	}
	if f.err != nil && l.Failed != nil {
		l.Failed(q, f.err)
	}
	k.add(pending{hookEnd: f.end})
	return nil
}

// stashSession leaves a session for libssl to ask for.
func (c *Conn) stashSession(ctx context.Context, s *Session, id []byte) error {
	if !s.matchesID(id) {
		return ErrWrongSession
	}
	r, err := c.beginWithin(waitLimit{ctx: ctx})
	if err != nil {
		return err
	}
	defer c.end(r)
	r.p.found, err = s.upRefFor(r.p, r.ctxs.sessionCtx, true)
	r.p.wanted_len = C.size_t(copy(unsafe.Slice((*byte)(&r.p.wanted[0]), MaxIDLength), id))
	return err
}

// wantedID is the ID of the session that libssl will look for outside of its own cache: with TLS 1.3 the first identity,
// where tickets are no more than names of sessions, which are 32 bytes long; before, the session ID, unless there is a
// ticket.
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
		if has, err := c.hasMatchingSessionID(said.identity, waitLimit{ctx: ctx}); has || err != nil {
			return nil
		}
	}
	return said.identity
}
