// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"crypto/tls"
	"io"
)

// SetNewSessionCallback sets the hook that hears of each session that libssl made on a connection and that
// may be resumed: a server's when its handshake is over, and with TLS 1.3 each ticket that it sends; a
// client's when its handshake is over, and with TLS 1.3 each ticket that it reads, which comes with a
// Read. libssl calls it only if the cache mode has SessCacheServer or SessCacheClient. The session is in
// the internal cache by then, unless the mode keeps it out. nil removes the hook; connections that
// run obey at once.
//
// The hook runs when libssl has returned, on the goroutine that called into it, and with no lock held: it may call
// any method. What libssl has to send is sent after it, unless another goroutine uses the connection meanwhile,
// so that a server's session can be stored before its client has it. A panic in it comes out of that call. c is nil
// for a connection of other code (see [ContextFromPointer]). The reference is the hook's: it may keep s, close it, or forget it.
//
// ErrForeignCallback says that other code set a callback of its own.
//
// Wraps [SSL_CTX_sess_set_new_cb].
//
// [SSL_CTX_sess_set_new_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_sess_set_get_cb/
func (c *Context) SetNewSessionCallback(hook func(c *Conn, s *Session)) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if err := checkCallback(C.shim_SSL_CTX_sess_set_new_cb(p, boolInt(hook != nil))); err != nil {
			return err
		}
		c.hooks.change(func(t *hookTable) { t.newSession = hook })
		return nil
	})
}

// SetRemoveSessionCallback sets the hook that hears of each session that libssl takes out of the internal
// cache: by RemoveSession, eviction, flushing, expiry when it is asked for, a connection's bad end, and
// when the last reference to the SSL_CTX is given back; sometimes also of one that was in no cache. It
// does not hear of a session whose place another one with the same key takes (AddSession), nor of
// sessions whose references are given back otherwise. nil removes the hook.
//
// A hook has a side effect of libssl's: TLS 1.3 servers then keep the sessions of their stateless tickets in
// the internal cache.
//
// The hook runs when libssl has returned, in libssl's order, on the goroutine that called into it, and with
// no lock held: it may call any method, those that add, remove and flush among them; what these remove is
// told by a call of the hook inside the hook, so that one that never stops removing overflows the stack. A panic in
// it comes out of that call. The reference is the hook's: it may keep s, close it, or forget it. When the Context
// was dropped without Close and its connections are gone, nothing is told any more; a Conn that is forgotten tells
// nothing when it is collected.
//
// ErrForeignCallback says that other code set a callback of its own.
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

// SetGetSessionCallback sets the hook that a server asks for a session that a client wants to resume and that
// the internal cache does not hold: exactly when libssl asks, which is in the middle of the handshake. It
// holds a thread; [Context.SetSessionLookup] does not. nil, from the hook or for it, is no session.
//
// The session stays the hook's, and libssl takes a reference (its "copy" is 1). What libssl cannot use it
// deals with in its own ways, version by version: a session with another ID, or not resumable, can fail the
// handshake. Unless the cache mode has SessCacheNoInternalStore libssl adds the session to its cache, so that
// one that was published before, and one of another context, is given as a copy.
//
// The hook runs on a goroutine of its own, while that of the handshake waits and holds a thread. ctx ends with that of
// HandshakeContext, when a deadline of the Conn passes, and on Close; then the handshake does not wait any longer, and
// what the hook returns is dropped. The number of such threads is bounded (a few for each processor): where it is
// reached the hook is not asked, and there is no session. The hook may call any method except those of the Conn that
// waits. Its panic, or Goexit, comes out of the call that made libssl ask. A session that is closed by then, or has no
// cipher, is no session.
//
// A server of other code asks it, too (see [ContextFromPointer]), and is given a copy. ctx has no end then, and there is
// no call for a panic to come out of: it ends the program, as on any goroutine.
//
// ErrForeignCallback says that other code set a callback of its own.
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

// SetSessionLookup has servers look for sessions outside of libssl, in a store that a fleet shares, say. The
// handshake is suspended meanwhile: its goroutine waits, and no thread. nil ends it.
//
// The lookup is asked when a client offers a session that libssl would look for in a cache: by a session ID, and
// with TLS 1.3 where tickets are stateful (OpNoTicket, or early data with replay protection). A session in
// a ticket needs no lookup. With TLS 1.3 it is not asked for what the internal cache holds; before, it is
// asked for that too, since libssl can be asked only later. libssl takes the answer when its own cache
// has none, counts it in CbHits, judges it as its own (expiry, ID context, cipher), and adds it to the cache
// unless the mode has SessCacheNoInternalStore. A session that was published before, if it would be added,
// and one of another context, is given as a copy.
//
// A lookup that fails, and one that takes too long, makes a full handshake. Its panic comes out of Handshake.
//
// ErrForeignCallback says that other code set a callback for sessions of its own; and it refuses a Context of
// [ContextFromPointer], whose owner may have a callback for the ClientHello: libssl does not say.
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

// SetKeyLogWriter has the secrets of all connections written to w, for programs such as Wireshark, in the
// format of NSS's SSLKEYLOGFILE: whoever reads it reads the connections. nil stops it. Writes are one line
// each, one at a time; an error of one is the error of the handshake or Read.
//
// ErrForeignCallback says that other code set a callback of its own.
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

// SetClientHelloCallback sets the hook that a server asks when it has read a ClientHello, before anything is
// decided. The context that the hook returns goes on with the handshake; nil keeps the one there is. It is what
// SSL_set_SSL_CTX does, and not what crypto/tls does with the Config of GetConfigForClient:
//
//   - the chosen context's certificates, trusted certificates and CertPool, cipher suites, security level, signature
//     algorithms, application protocols, OCSP response, key log and ID context are used; and what libssl would leave as it
//     was, its VerifyMode and VerifyDepth: it asks of the client what [Context.SetVerify] says of it;
//   - the connection keeps the first one's options, modes, protocol versions, groups, record lengths, early data, and its
//     cache with the session hooks.
//
// Since the cache and the ticket keys are one, give each context an ID context of its own where they trust different
// clients: otherwise a session that one of them made is offered to another. So with a hook the client's certificate is
// verified again for each session that is resumed; where that cannot be done it is a full handshake, or, if the session is
// libssl's own cache's, an error ([Context.SetVerify]). A ticket has the client's own certificate and no intermediate ones.
//
// An error fails the handshake and is its error; the alert is internal_error, or the [tls.AlertError] that the error
// wraps. A nil hook removes the hook.
//
// The handshake is suspended while the hook runs, on a goroutine of its own, with no lock of libssl's
// held: it may take its time, and may call any method, except those of the Conn that waits for it which read,
// write or need its handshake (Read, Write, Handshake, KeyUpdate, NewSessionTicket, Renegotiate). ctx ends with that of
// HandshakeContext, when a deadline of the Conn passes, and with Close; then the handshake fails and does not wait any
// longer. Its panic, or Goexit, comes out of the call that needed the handshake. A renegotiation and a second ClientHello of
// one handshake do not ask again; one that asks for another name, or other application protocols, ends the handshake, as with
// crypto/tls. hello's own Context and Config are not set; a hello in the form of SSL 2 has no cipher suites there.
//
// ErrForeignCallback refuses a Context of [ContextFromPointer]: its owner may have a callback there, and libssl does not
// say.
//
// Wraps [SSL_CTX_set_client_hello_cb], SSL_set_SSL_CTX.
//
// [SSL_CTX_set_client_hello_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_client_hello_cb/
func (c *Context) SetClientHelloCallback(hook func(ctx context.Context, hello *tls.ClientHelloInfo) (*Context, error)) error {
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
