// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"
	"unsafe"
)

// SetNewSessionCallback sets the hook that gets each session that libssl made on a connection and
// that may be resumed. For a server it gets the session when the handshake is over, and with TLS
// 1.3 each ticket that the server sends. For a client it gets the session when the handshake is
// over, and with TLS 1.3 each ticket that the client reads, which comes with a Read. libssl calls
// it only if the cache mode has SessCacheServer or SessCacheClient. The session is in the internal
// cache by then, unless the mode keeps it out. nil removes the hook. A change also affects
// connections that run.
//
// The hook runs when libssl has returned, on the goroutine that called into it, and with no lock
// held: it may call any method. libssl's output is sent after the hook, unless another goroutine
// uses the connection meanwhile. So a server can store a session before its client has it. A panic
// in the hook comes out of that call. c is nil for a connection of other code (see
// [ContextFromPointer]). The reference is the hook's: it may keep s, close it, or drop it.
//
// It returns ErrForeignCallback if other code set a callback of its own.
//
// Wraps [SSL_CTX_sess_set_new_cb].
//
// [SSL_CTX_sess_set_new_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_set_get_cb/
func (c *Context) SetNewSessionCallback(hook func(c *Conn, s *Session)) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if err := setNewSessionCallback(p, hook != nil || c.hooks.table.Load().check != nil); err != nil {
			return err
		}
		c.hooks.change(func(t *hookTable) { t.newSession = hook })
		return nil
	})
}

func setNewSessionCallback(p *C.SSL_CTX, on bool) error {
	return checkCallback(C.shim_SSL_CTX_sess_set_new_cb(p, boolInt(on)))
}

// setPeerCheck sets what a tls.Config checks of a peer. libssl then reports all sessions that it
// makes, so that those of a refused peer can be dropped.
func (c *Context) setPeerCheck(check *peerCheck) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if err := setNewSessionCallback(p, true); err != nil {
			return err
		}
		c.hooks.change(func(t *hookTable) { t.check = check })
		return nil
	})
}

// SetRemoveSessionCallback sets the hook that gets each session that libssl takes out of the
// internal cache: by RemoveSession, eviction, flushing, expiry when a connection asks for the
// session, a connection that ended badly, and when the last reference to the SSL_CTX is given back.
// RemoveSession and a connection that ended badly may also report a session of no cache. The hook
// does not get a session that another one with the same key replaces (AddSession). It does not get
// a session either when only a reference to it is given back. nil removes the hook.
//
// A hook has a side effect in libssl: TLS 1.3 servers then keep the sessions of their stateless
// tickets in the internal cache.
//
// The hook runs when libssl has returned, in libssl's order, on the goroutine that called into it,
// and with no lock held. It may call any method, also those that add, remove and flush. If the hook
// itself removes a session, a second run of the hook starts inside the first one. So a hook that
// never stops removing overflows the stack. If the hook panics, the call into libssl panics. The
// hook owns the reference: it may keep s, close it, or drop it. When the Context was dropped
// without Close and its connections are gone, the hook gets nothing more. It gets nothing of a Conn
// that was dropped without Close and is collected.
//
// It returns ErrForeignCallback if other code set a callback of its own.
//
// Wraps [SSL_CTX_sess_set_remove_cb].
//
// [SSL_CTX_sess_set_remove_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_set_get_cb/
func (c *Context) SetRemoveSessionCallback(hook func(s *Session)) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if err := checkCallback(C.shim_SSL_CTX_sess_set_remove_cb(p, boolInt(hook != nil))); err != nil {
			return err
		}
		c.hooks.change(func(t *hookTable) { t.removeSession = hook })
		return nil
	})
}

// SetGetSessionCallback sets the hook that a server asks for a session that a client wants to
// resume and that the internal cache does not hold. It runs exactly when libssl asks, in the middle
// of the handshake, and so holds a thread; [Context.SetSessionLookup] does not. The hook returns
// nil for no session. A nil hook removes it.
//
// The session stays the hook's, and libssl takes a reference (its "copy" is 1). What libssl does
// with a session that it cannot use depends on the version: a session with another ID, or one that
// is not resumable, can fail the handshake. Unless the cache mode has SessCacheNoInternalStore
// libssl adds the session to its cache. So libssl gets a copy of a session that was published
// before, of one of another context, and of any session if the context has a CertPool.
//
// The hook runs on a goroutine of its own, while that of the handshake waits and holds a thread.
// ctx ends with the context of HandshakeContext, when a deadline of the Conn passes, and on Close.
// The handshake then waits no longer, and drops what the hook returns. The number of such threads
// is limited (a few for each processor). At the limit the hook does not run, and there is no
// session. The hook may call any method except those of the Conn that waits. Its panic, or Goexit,
// comes out of the call that made libssl ask. A session that is closed by then, or has no cipher,
// is no session. A server that accepts early data must get each session once only: see
// [Context.SetMaxEarlyData].
//
// A server of other code asks it, too (see [ContextFromPointer]), and gets a copy. Then ctx has no
// end, and a panic has no call to come out of: it ends the program, as on any goroutine.
//
// It returns ErrForeignCallback if other code set a callback of its own.
//
// Wraps [SSL_CTX_sess_set_get_cb].
//
// [SSL_CTX_sess_set_get_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_set_get_cb/
func (c *Context) SetGetSessionCallback(hook func(ctx context.Context, id []byte) *Session) error {
	return c.configure(func(p *C.SSL_CTX) error {
		err := setGetCallback(p, hook != nil || c.hooks.table.Load().lookup != nil)
		if err == nil {
			c.hooks.change(func(t *hookTable) { t.getSession = hook })
		}
		return err
	})
}

// SetSessionLookup lets servers look for sessions outside of libssl, for example in a store that a
// fleet shares. The handshake is suspended meanwhile: its goroutine waits, and no thread. nil ends
// it.
//
// The lookup runs when a client offers a session that libssl would look for in a cache: by a
// session ID, and with TLS 1.3 where tickets are stateful (OpNoTicket, or early data with replay
// protection). A session in a ticket needs no lookup. With TLS 1.3 it does not run for a session
// that the internal cache holds. Before TLS 1.3 it does, since libssl can be asked only later.
// libssl takes the result when its own cache has none, counts it in CbHits, checks it like a
// session of its own (expiry, ID context, cipher), and adds it to the cache unless the mode has
// SessCacheNoInternalStore. libssl gets a copy of the session.
//
// If a lookup fails or takes too long, the handshake is a full one. Its panic comes out of
// Handshake.
//
// A server that accepts early data must get each session once only: see [Context.SetMaxEarlyData].
//
// It returns ErrForeignCallback if other code set a callback for sessions of its own. It also
// returns it for a Context of [ContextFromPointer]: its owner may have a callback for the
// ClientHello, which libssl does not show.
//
// Wraps [SSL_CTX_sess_set_get_cb], SSL_CTX_set_client_hello_cb.
//
// [SSL_CTX_sess_set_get_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_set_get_cb/
func (c *Context) SetSessionLookup(l *SessionLookup) error {
	if l != nil && l.Find == nil {
		return badArgument("SetSessionLookup", "l", "has no Find")
	}
	return c.replaceCallback(C.SHIM_CALLBACK_CLIENT_HELLO, true, func(p *C.SSL_CTX) error {
		if err := setGetCallback(p, l != nil || c.hooks.table.Load().getSession != nil); err != nil {
			return err
		}
		setClientHelloCallback(p, false)
		var own *SessionLookup
		if l != nil {
			copied := *l
			own = &copied
		}
		c.hooks.change(func(t *hookTable) { t.lookup = own })
		return nil
	})
}

func setGetCallback(p *C.SSL_CTX, on bool) error {
	return checkCallback(C.shim_SSL_CTX_sess_set_get_cb(p, boolInt(on)))
}

func setClientHelloCallback(p *C.SSL_CTX, chooses bool) {
	C.shim_SSL_CTX_set_client_hello_cb(p, boolInt(chooses))
}

// SetKeyLogWriter writes the secrets of all connections to w, for programs such as Wireshark, in
// the format of NSS's SSLKEYLOGFILE. Whoever reads w can decrypt the connections. nil stops it.
// Each Write is one line, and one Write runs at a time. So a Write must not wait for another
// connection of this context: it may wait for ever. An error of a Write is the error of the
// handshake or Read.
//
// It returns ErrForeignCallback if other code set a callback of its own.
//
// Wraps [SSL_CTX_set_keylog_callback].
//
// [SSL_CTX_set_keylog_callback]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_keylog_callback/
func (c *Context) SetKeyLogWriter(w io.Writer) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if err := checkCallback(C.shim_SSL_CTX_set_keylog_callback(p, boolInt(w != nil))); err != nil {
			return err
		}
		var log *keyLog
		if w != nil {
			log = &keyLog{w: w}
		}
		c.hooks.change(func(t *hookTable) { t.keyLog = log })
		return nil
	})
}

// SetClientHelloCallback sets the hook that a server asks when it has read a ClientHello, before
// anything is decided. The handshake continues with the context that the hook returns; nil keeps
// the current one. That is what SSL_set_SSL_CTX does. crypto/tls does something else with the
// Config of GetConfigForClient:
//
//   - The connection uses the chosen context's certificates, trusted certificates and CertPool,
//     cipher suites, security level, signature algorithms, application protocols, OCSP response,
//     key log and ID context. It also uses its VerifyMode and VerifyDepth: [Context.SetVerify] of
//     the chosen context says what the client must show. libssl alone would keep the first
//     context's values.
//   - The connection keeps the first context's options, modes, protocol versions, groups, record
//     lengths and early data, and its cache with the session hooks.
//
// The contexts share the cache and the ticket keys. So if they trust different clients, give each
// an ID context of its own: otherwise a session that one of them made is offered to another.
// Therefore a hook makes servers verify the client's certificate again for each session that is
// resumed. If that cannot be done, there is a full handshake, or an error if the session is in
// libssl's own cache ([Context.SetVerify]). A ticket has the client's own certificate and no
// intermediate ones.
//
// If the hook returns an error, the handshake fails with it. The alert is internal_error, or the
// [tls.AlertError] that the error wraps. A nil hook removes the hook.
//
// The handshake is suspended while the hook runs, on a goroutine of its own, with no lock of
// libssl's held. The hook may take its time. It may call any method, except those of the Conn that
// waits for it which read, write or need its handshake (Read, Write, Handshake, KeyUpdate,
// NewSessionTicket, Renegotiate). ctx ends with the context of HandshakeContext, when a deadline of
// the Conn passes, and on Close. The handshake then fails, and waits no longer. The hook's panic,
// or Goexit, comes out of the call that needed the handshake. The hook does not run again for a
// renegotiation or for a second ClientHello of one handshake. If such a ClientHello asks for
// another name, or other application protocols, it ends the handshake, as with crypto/tls. A hook
// that is set while a handshake is suspended does not run for it. hello's own Context and Config
// are not set; a hello in the form of SSL 2 has no cipher suites there.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_client_hello_cb], SSL_set_SSL_CTX.
//
// [SSL_CTX_set_client_hello_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_client_hello_cb/
func (c *Context) SetClientHelloCallback(hook func(ctx context.Context, hello *tls.ClientHelloInfo) (*Context, error)) error {
	if hook == nil {
		return c.setHelloHook(nil)
	}
	return c.setHelloHook(func(ctx context.Context, said clientHello) (helloAnswer, error) {
		chosen, err := hook(ctx, said.info)
		return helloAnswer{chosen: chosen}, err
	})
}

// A helloAnswer is the answer of a hook for the ClientHello.
type helloAnswer struct {
	chosen *Context // nil for the current one
	done   func()   // ends the use of chosen; nil: nothing to do
}

func (a helloAnswer) end() {
	if a.done != nil {
		a.done()
	}
}

func (c *Context) setHelloHook(hook func(context.Context, clientHello) (helloAnswer, error)) error {
	return c.replaceCallback(C.SHIM_CALLBACK_CLIENT_HELLO, true, func(p *C.SSL_CTX) error {
		setClientHelloCallback(p, hook != nil)
		c.hooks.change(func(t *hookTable) { t.clientHello = hook })
		return nil
	})
}

func checkCallback(r C.shim_long) error {
	if r.n == C.SHIM_REFUSED_FOREIGN_CALLBACK {
		return ErrForeignCallback
	}
	return nil
}

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
