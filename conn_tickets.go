// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"context"
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

// maxTicketExt is what the extension has room for.
const maxTicketExt = math.MaxUint16

// SetSessionTicketExt sets what a client sends as its ticket when it offers no session that has one, as EAP-FAST
// does (RFC 4507, TLS 1.2 and before); nil is nothing. It must come before the handshake: ErrHandshakeStarted. More than
// 65535 bytes are an ArgumentError. libssl writes the ticket into the session that is offered, which is a
// copy from now on. A client that may use TLS 1.3 takes it for a ticket of that when the server has it try again, and
// fails: set its maximum to TLS 1.2.
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

// SetSessionTicketExtCallback sets the hook that hears what the peer's ticket extension holds: a server that of a
// ClientHello, a client the server's, which is empty. Its error fails the handshake, and is its error. nil removes the
// hook. TLS 1.3 tickets are not in this extension.
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
