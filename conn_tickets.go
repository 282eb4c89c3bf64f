// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
	"errors"
	"math"
)

// NumTickets returns how many session tickets a TLS 1.3 server sends after a full handshake.
//
// Wraps [SSL_get_num_tickets].
//
// [SSL_get_num_tickets]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_num_tickets/
func (c *Conn) NumTickets() (int, error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return int(C.SSL_get_num_tickets(r.p.ssl)), nil
}

// SetNumTickets is [Context.SetNumTickets] for one connection.
//
// Wraps [SSL_set_num_tickets].
//
// [SSL_set_num_tickets]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_num_tickets/
func (c *Conn) SetNumTickets(n int) error {
	if err := checkInt("SetNumTickets", "n", n, 0, math.MaxInt32); err != nil {
		return err
	}
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.SSL_set_num_tickets(r.p.ssl, C.size_t(n)) // cannot fail
	return nil
}

// maxTicketExt is the limit of the extension.
const maxTicketExt = math.MaxUint16

// SetSessionTicketExt sets the ticket that a client sends when it offers no session with one, as
// EAP-FAST does (RFC 4507, TLS 1.2 and before); nil sends none. It must come before the handshake:
// ErrHandshakeStarted. More than 65535 bytes are an ArgumentError. libssl writes the ticket into
// the offered session; so from now on that is a copy. Set the client's maximum to TLS 1.2: with TLS
// 1.3 enabled, libssl treats the bytes as a TLS 1.3 ticket after a HelloRetryRequest, and fails.
//
// Wraps [SSL_set_session_ticket_ext], which has no man page of its own.
//
// [SSL_set_session_ticket_ext]: https://docs.openssl.org/3.0/man7/ssl/
func (c *Conn) SetSessionTicketExt(data []byte) error {
	if len(data) > maxTicketExt {
		return badArgument("SetSessionTicketExt", "data", "is %d bytes long, the limit is %d", len(data), maxTicketExt)
	}
	if len(data) == 0 {
		data = nil // libssl fails for an empty one
	}
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	ret := C.shim_SSL_set_session_ticket_ext(r.p, bytesPointer(data), C.size_t(len(data)))
	return errorIf(ret.n == 1, "SSL_set_session_ticket_ext", ret.errs)
}

// SetSessionTicketExtCallback sets a hook for the peer's ticket extension. A server's hook gets
// that of the ClientHello, a client's that of the ServerHello, which is empty. The hook's error
// fails the handshake, which returns it. nil removes the hook. TLS 1.3 tickets are not in this
// extension.
//
// The hook runs as that of [Context.SetSessionIDGenerator] does.
//
// Wraps [SSL_set_session_ticket_ext_cb], which has no man page of its own.
//
// [SSL_set_session_ticket_ext_cb]: https://docs.openssl.org/3.0/man7/ssl/
func (c *Conn) SetSessionTicketExtCallback(hook func(ctx context.Context, data []byte) error) error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	ret := C.shim_SSL_set_session_ticket_ext_cb(r.p, boolInt(hook != nil))
	if ret.n != 1 {
		return newError("SSL_set_session_ticket_ext_cb", ret.errs)
	}
	c.upcalls.ticketExt = hook
	return nil
}

// HasMatchingSessionID reports whether the internal cache of the connection's context has a session
// with this ID, 0 to 32 bytes, and the connection's protocol version. Before the handshake has
// agreed on a version, that is TLS 1.3. A longer ID is an ArgumentError.
//
// A hook of [Context.SetSessionIDGenerator] may call it on the Conn that waits for the hook.
//
// Wraps [SSL_has_matching_session_id].
//
// [SSL_has_matching_session_id]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_generate_session_id/
func (c *Conn) HasMatchingSessionID(id []byte) (bool, error) {
	if err := checkID("HasMatchingSessionID", id); err != nil {
		return false, err
	}
	if c != nil && c.upcalls.window.enter() {
		defer c.upcalls.window.leave()
		// The call that waits keeps the SSL alive.
		if err := c.awaitConfigs(waitLimit{untilClosed: true}); err != nil {
			return false, err
		}
		defer c.p.ctxs.runlock()
		return c.p.hasMatchingSessionID(id), nil
	}
	return c.hasMatchingSessionID(id, waitLimit{untilClosed: true})
}

func (c *Conn) hasMatchingSessionID(id []byte, limit waitLimit) (bool, error) {
	r, err := c.beginWithin(limit)
	if err != nil {
		return false, err
	}
	defer c.end(r)
	return r.hasMatchingSessionID(id), nil
}

func (r connRef) hasMatchingSessionID(id []byte) bool {
	return C.shim_SSL_has_matching_session_id(r.p, bytesPointer(id), C.size_t(len(id))) == 1
}

// CopySessionID makes c offer the session of another connection, with that connection's ID context:
// the purpose of SSL_copy_session_id. It must come before c's handshake: ErrHandshakeStarted. If
// from has no session, c offers none.
//
// It does not call SSL_copy_session_id, after which both connections share one set of certificates.
// c keeps its own certificates and protocols. It offers a copy of a session that libssl will still
// write to, or that belongs to another context: see [Conn.Session] and [Conn.SetSession].
func (c *Conn) CopySessionID(from *Conn) error {
	if !c.isOpen() {
		return ErrClosed
	}
	if from == nil {
		return badArgument("CopySessionID", "from", "is nil")
	}
	s, err := from.Session()
	if errors.Is(err, ErrNoSession) {
		return c.SetSession(nil)
	}
	if err == ErrClosed {
		return closedArgument("CopySessionID", "from")
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if err := c.SetSession(s); err != nil {
		return err
	}
	return c.SetIDContext(s.IDContext())
}

// SetSessionIDGenerator is [Context.SetSessionIDGenerator] for one connection; nil restores the
// context's hook. It is allowed on a connection of a Context of [ContextFromPointer], too: all
// other connections keep the owner's callback.
//
// Wraps [SSL_set_generate_session_id].
//
// [SSL_set_generate_session_id]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_generate_session_id/
func (c *Conn) SetSessionIDGenerator(hook func(ctx context.Context, c *Conn, n int) ([]byte, error)) error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	ret := C.shim_SSL_set_generate_session_id(r.p, boolInt(hook != nil))
	if ret.n != 1 {
		return newError("SSL_set_generate_session_id", ret.errs)
	}
	c.upcalls.generateID = hook
	return nil
}

// SetNotResumableSessionCallback is [Context.SetNotResumableSessionCallback] for one connection;
// with nil no hook is asked, not even the context's. It is allowed on a connection of a Context of
// [ContextFromPointer], too: all other connections keep the owner's callback.
//
// Wraps [SSL_set_not_resumable_session_callback], which has no man page of its own.
//
// [SSL_set_not_resumable_session_callback]: https://docs.openssl.org/3.0/man7/ssl/
func (c *Conn) SetNotResumableSessionCallback(hook func(ctx context.Context, c *Conn, isForwardSecure bool) bool) error {
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.shim_SSL_set_not_resumable_session_callback(r.p, boolInt(hook != nil))
	c.upcalls.notResumable = hook
	return nil
}
