// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoSession says that a connection has no session (yet).
var ErrNoSession = errors.New("sslctx: the connection has no session")

// A Conn is one reference to an SSL: one end of a TLS connection, over any net.Conn.
//
// All methods may be called from any goroutine; one Read, one Write and one Close at a time make
// progress together. A Conn that is dropped without Close is given back after garbage collection,
// and its session stays resumable.
//
// Ciphertext moves between the net.Conn and libssl through buffers that Go lends for each call into
// C: no goroutine, no thread and no descriptor is held.
type Conn struct {
	owned[connRef]
	conn   net.Conn
	server bool
	hooks  *hooks     // of the context it was made from
	owner  *any       // likewise, or nil
	padded bool       // of the context, when the connection was made
	copied *hookTable // likewise: libssl copies some of these hooks

	// The locks, in the order in which they are taken.
	closeMu     sync.Mutex // one Close
	handshakeMu sync.Mutex // one handshake
	turnMu      sync.Mutex // one Write, which gives writeMu back when it waits for a renegotiation
	readMu      sync.Mutex // one reader of conn; guards in, readErr and plain
	writeMu     sync.Mutex // one writer to conn; guards writeErr
	mu          sync.Mutex // one crossing; guards what follows it

	handshakeErr    error           // guarded by handshakeMu
	handshakeCtx    context.Context // of the call that shakes, or nil; guarded by mu
	cutOff          atomic.Bool     // Close cut the connection off
	inHook          atomic.Bool     // a hook runs, in the middle of a crossing
	waitsForConfig  atomic.Bool     // a crossing waits for the gates, after the handshake
	handshakeDone   atomic.Bool
	flushPending    atomic.Bool // what ended the handshake waits for hooks, or for its turn after them
	hasWritten      atomic.Bool // data was written
	hasRead         atomic.Bool // data was read, after the handshake
	writeFailed     atomic.Bool // the last Write failed: what the peer has is not the whole
	closeNotifyMade atomic.Bool // close_notify was made: libssl takes no more data

	earlyPhase earlyPhase // guarded by handshakeMu
	keptEarly  keptData   // what a hook's panic kept from a ReadEarlyData
	earlyLeft  int        // what a client may still send; guarded by handshakeMu

	in        input
	readErr   error     // what all further reads return
	readAhead readAhead // what a Write read
	keptRead  keptData  // what a hook's panic kept from a Read; it comes before plain

	notifier notifier // rings after each crossing of a reader, when the reader leaves, and on Close and deadlines

	writeErr error        // what all further writes return
	writing  atomic.Int32 // calls of Write under way

	deadlineMu            sync.Mutex
	readDeadline          time.Time
	writeDeadline         time.Time
	readsUseWriteDeadline bool        // a Write reads conn: its deadline counts there
	closeWriteLimits      bool        // writeDeadline is CloseWrite's, not the caller's
	closeBegun            atomic.Bool // Close has begun: conn gets its last deadlines, and a Read is ErrClosed
	hookWait              *hookWait   // of the hook that is waited for, or nil
	hookEndErr            error       // why no hook is waited for any more, or nil
	prefetcher            prefetcher

	out           []byte // ciphertext on its way to conn
	lastResult    callResult
	started       bool        // the handshake has begun
	nameErr       error       // what SetServerName failed with: the name that was set before is lost
	named         bool        // a client knows whom it talks to, or was told that it need not
	host          string      // what SetServerName set
	peer          peer        // who is at the other end
	wasEarly      bool        // with early data, which libssl takes for the end of the handshake
	fatal         error       // what libssl reported as the end of the connection
	sslCalls      int         // for tests
	currentTarget *hookTarget // the context that the hello hook chose
	hookEnd       func()      // as in news
	upcalls       upcalls     // what libssl asks in the middle of a crossing

	slot           handshakeSlot
	hookCtx        context.Context // of the hooks of the crossing
	handshakeBytes int             // what the peer has sent in handshakes
}

// connRef is what a handle holds of an SSL.
type connRef struct {
	p    *C.shim_conn
	ctxs *connStates
}

func newConn(conn net.Conn, ctx *Context, server bool) (*Conn, error) {
	fn := "Client"
	if server {
		fn = "Server"
	}
	if conn == nil {
		return nil, badArgument(fn, "conn", "is nil")
	}
	owner := ctx.ownerOf() // before begin: Close forgets it
	var v contextCall
	if err := v.begin(ctx, false); err != nil {
		return nil, closedArgument(fn, "ctx")
	}
	defer v.end()
	made := C.shim_SSL_new(v.p, boolInt(server))
	if made.p == nil {
		return nil, newError("SSL_new", made.errs)
	}
	c := &Conn{conn: conn, server: server, hooks: ctx.hooks, owner: owner, padded: v.ctx.padsRecords, copied: ctx.hooks.table.Load(),
		hookCtx: context.Background()}
	c.adopt(connRef{made.p, &connStates{sessionCtx: v.ctx}}, forgetConn)
	return c, nil
}

// free gives an SSL back as its owner's last word, when nobody is inside any more. libssl takes a connection that was
// not shut down for a bad one. That it is not if Close came in the middle of early data, which libssl takes for the end of
// the handshake, or of a call that waited for a hook.
func (c *Conn) free(r connRef) *C.shim_event {
	failed := c.fatal != nil && !errors.Is(c.fatal, ErrClosed)
	return freeSSL(r, c.cutOff.Load() && !failed && (c.wasEarly || c.handshakeDone.Load()))
}

// forgetConn gives back an SSL that was dropped without Close: that is no judgement on its session.
func forgetConn(r connRef) { dropEvents(freeSSL(r, true)) }

func freeSSL(r connRef, keepSession bool) *C.shim_event {
	r.ctxs.rlock()
	defer r.ctxs.runlock()
	return C.shim_SSL_free(r.p, boolInt(keepSession))
}

func boolInt(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// SetQuietShutdown sets whether Close and CloseWrite send nothing and only note that the connection
// ended well.
//
// Wraps [SSL_set_quiet_shutdown].
//
// [SSL_set_quiet_shutdown]: https://docs.openssl.org/3.0/man3/SSL_set_quiet_shutdown/
func (c *Conn) SetQuietShutdown(quiet bool) error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.SSL_set_quiet_shutdown(r.p.ssl, boolInt(quiet))
	return nil
}

// begin enters the SSL for a call that moves no ciphertext, end leaves.
func (c *Conn) begin() (connRef, error) {
	r, ok := c.enter()
	if !ok {
		return connRef{}, ErrClosed
	}
	c.mu.Lock()
	r.ctxs.rlock()
	return r, nil
}

// beginSetup is begin for what must come before the handshake.
func (c *Conn) beginSetup() (connRef, error) {
	r, err := c.begin()
	if err == nil && c.started {
		c.end(r)
		return connRef{}, ErrHandshakeStarted
	}
	return r, err
}

func (c *Conn) end(r connRef) {
	r.ctxs.runlock()
	c.mu.Unlock()
	_ = c.runHooks(pending{events: c.exit()})
}

// exit leaves, and returns what libssl reported if that gave the SSL back.
func (c *Conn) exit() (told *C.shim_event) {
	c.leave(func(r connRef) { told = c.free(r) })
	return told
}

// runHooks does what crossings left to do. No lock is held.
func (c *Conn) runHooks(n pending) (err error) {
	if n.events != nil {
		c.mu.Lock()
		d := dispatcher{events: n.events, conn: c, sessionTarget: hookTarget{hooks: c.hooks, ctx: c.p.ctxs.sessionCtx}, currentTarget: c.currentTarget}
		c.mu.Unlock()
		err = d.run()
	}
	if err == nil {
		err = n.lostErr
	}
	if n.hookEnd != nil {
		n.hookEnd()
	}
	return err
}

// Session returns the connection's session, ErrNoSession if it has none. A client has one that resumes
// after the handshake (TLS 1.2), or after it read the server's tickets, which come with the first
// Read, or with AwaitTicket (TLS 1.3). What libssl will still write to is given as a copy: while a
// handshake runs, and in a TLS 1.3 server that has sent no ticket.
//
// Each TLS 1.3 ticket is a session of its own, and Session returns that of the last one. It is not the
// session that was resumed, which is ResumedSession, and not that of the other tickets of the
// connection, which the hook of SetNewSessionCallback hears of: who revokes a client's sessions must
// remove all of these.
//
// The reference is the caller's; the session belongs to the connection's context.
//
// Wraps [SSL_get1_session].
//
// [SSL_get1_session]: https://docs.openssl.org/3.0/man3/SSL_get_session/
func (c *Conn) Session() (*Session, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	s, err := sessionOf(r.p.ssl, r.ctxs.sessionCtx, c.fatal != nil)
	if err == nil && c.handshakeDone.Load() {
		c.markVerified(s)
	}
	return s, err
}

// ResumedSession returns a copy of the session that the first handshake of the connection resumed, ErrNoSession
// if it was a full one, or is not that far. Session is the same one before TLS 1.3, unless the server gave the
// client a new ticket; with TLS 1.3 it is that of the new ticket, with another ID.
//
// In a server it is what was found in the cache, or what a hook gave, or what the ticket or the pre-shared
// key held. It has the ID under which the client can offer it again, except for a
// stateless ticket of TLS 1.3: there is no ID in that, and only [SessionTicket] data of the application
// tells such sessions apart. [Context.RemoveSession] of it, which goes by the ID, removes the cached object
// and ends its resumption, where the server keeps sessions and not tickets ([OpNoTicket]); a server that takes
// early data has removed it already. In a client it is what was offered. Values of [Session.SetExData] are not
// in it; the sessions of new tickets have them.
//
// The reference is the caller's.
//
// Wraps [SSL_session_reused].
//
// [SSL_session_reused]: https://docs.openssl.org/3.0/man3/SSL_session_reused/
func (c *Conn) ResumedSession() (*Session, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	return ownedSession(C.shim_SSL_get1_resumed_session(r.p), r.ctxs.sessionCtx)
}

// sessionOf takes the session of an SSL whose home is h; broken says that its handshake failed.
func sessionOf(ssl *C.SSL, h *ctxState, broken bool) (*Session, error) {
	return ownedSession(C.shim_SSL_get1_session(ssl, boolInt(broken)), h)
}

// ownedSession makes a handle of a connection's session; the reference is its own then.
func ownedSession(got C.shim_session, h *ctxState) (*Session, error) {
	switch {
	case got.p == nil && got.errs == nil:
		return nil, ErrNoSession
	case got.p == nil:
		return nil, newError("SSL_SESSION_dup", got.errs)
	case got.copied != 0:
		return adoptSession(got.p, nil), nil
	}
	return adoptSession(got.p, h), nil
}

// SetSession sets the session that a client offers to resume, nil for none. It must come before the
// handshake: ErrHandshakeStarted. A server's Conn is an ArgumentError.
//
// The connection takes a reference of its own; s stays the caller's. SetSession publishes s. A session
// of another context, and one that has a ticket and no ID, is offered as a copy: what the
// connection does to it does not show in s.
//
// A resumed handshake shows no certificate again: the session vouches for it. So with VerifyPeer the client looks at
// the session when the handshake begins. It does not offer one that was made without a certificate or with one
// that was not found good ([Conn.VerifyResult]), whose certificate is not for the name of SetServerName, or has
// expired; then the handshake is a full one. The certificates are verified again, by
// what this context trusts now, unless the session comes from a connection of this context that verified them.
// A session that was read (ParseSession) has no chain, only the server's own certificate. If the issuer of that is not
// among the trusted, the result that is stored in the session counts: it is as good as the place where it was stored.
// With VerifyNone any session is offered.
//
// Wraps [SSL_set_session].
//
// [SSL_set_session]: https://docs.openssl.org/3.0/man3/SSL_set_session/
func (c *Conn) SetSession(s *Session) error {
	if c.server && c.state.Load() >= stateOpen {
		return badArgument("SetSession", "receiver", "is a server's")
	}
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	doubted, err := offer(r.p.ssl, r.ctxs.sessionCtx, s)
	if err == ErrClosed {
		return closedArgument("SetSession", "s")
	}
	r.p.doubted = boolInt(doubted)
	return err
}

// offer has an SSL whose home is h offer s, or nothing. A session that is not known to have been made by this context
// is doubted.
func offer(ssl *C.SSL, h *ctxState, s *Session) (doubted bool, err error) {
	if s == nil {
		return false, setSession(ssl, nil, false)
	}
	p, ok := s.enter()
	if !ok {
		return false, ErrClosed
	}
	defer s.leave(freeSession)
	first, foreign := s.beginPublish(h)
	if err := setSession(ssl, p, foreign != nil); err != nil {
		s.endPublish(first, nil)
		return false, err
	}
	s.endPublish(first, h)
	return !s.isVerifiedBy(h), nil
}

// setSession hands a session to libssl, or a private copy of it.
func setSession(ssl *C.SSL, p *C.SSL_SESSION, private bool) error {
	ret := C.shim_SSL_set_session(ssl, p, boolInt(private))
	if ret.n == C.SHIM_REFUSED_NO_CIPHER {
		return ErrNoCipher
	}
	return errorIf(ret.n == 1, "SSL_set_session", ret.errs)
}

// SessionReused reports whether the handshake resumed a session. It is false before the handshake.
//
// Wraps [SSL_session_reused].
//
// [SSL_session_reused]: https://docs.openssl.org/3.0/man3/SSL_session_reused/
func (c *Conn) SessionReused() bool { return c.handshakeDone.Load() && c.lastCallResult().reused }

// Version returns the protocol that the handshake agreed on, VersionAny before.
//
// Wraps [SSL_version].
//
// [SSL_version]: https://docs.openssl.org/3.0/man3/SSL_get_version/
func (c *Conn) Version() Version {
	if !c.handshakeDone.Load() {
		return VersionAny
	}
	return c.lastCallResult().version
}

// Cipher returns the cipher suite that the handshake agreed on, the zero Cipher before.
//
// Wraps [SSL_get_current_cipher].
//
// [SSL_get_current_cipher]: https://docs.openssl.org/3.0/man3/SSL_get_current_cipher/
func (c *Conn) Cipher() Cipher {
	if !c.handshakeDone.Load() {
		return Cipher{}
	}
	return newCipher(C.shim_cipher_of(c.lastCallResult().cipher))
}

// NetConn returns the transport. Reading from it or writing to it breaks the connection.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr returns the transport's local address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the transport's remote address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline sets the deadlines for reads and writes. This and the next two are ErrClosed after Close.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline sets the deadline for reads: one that waits for the transport then ends with a timeout.
// Reading goes on after a new deadline is set.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline sets the deadline for writes: one that waits for the transport then ends with a
// timeout. Writing goes on after a new deadline is set.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *Conn) writeDeadlinePassed() bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	return !c.writeDeadline.IsZero() && !time.Now().Before(c.writeDeadline)
}
