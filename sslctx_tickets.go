// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// NumTickets returns how many session tickets a TLS 1.3 server sends after a full handshake.
//
// Wraps [SSL_CTX_get_num_tickets].
//
// [SSL_CTX_get_num_tickets]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_num_tickets/
func (c *Context) NumTickets() int {
	var v contextCall
	v.mustBegin(c)
	defer v.end()
	return int(C.SSL_CTX_get_num_tickets(v.p))
}

// SetNumTickets sets how many session tickets a TLS 1.3 server sends after a full handshake, 0 or
// more; the default is 2. After a resumed handshake it sends one, or none if the number is 0. In
// TLS 1.2 the number has no meaning. It applies to connections that are made afterwards.
//
// Wraps [SSL_CTX_set_num_tickets].
//
// [SSL_CTX_set_num_tickets]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_num_tickets/
func (c *Context) SetNumTickets(n int) error {
	if err := checkInt("SetNumTickets", "n", n, 0, math.MaxInt32); err != nil {
		return err
	}
	return c.configure(func(p *C.SSL_CTX) error {
		C.SSL_CTX_set_num_tickets(p, C.size_t(n)) // cannot fail
		return nil
	})
}

// TicketKeys returns the keys of libssl's own tickets, as one secret of [TicketKeySize] bytes.
// Whoever has it can use all sessions that these tickets hold. libssl makes the keys with the
// context. A ring ([Context.SetTicketKeyRing]) is used in their place, and TicketKeys does not
// return it.
//
// Wraps [SSL_CTX_get_tlsext_ticket_keys].
//
// [SSL_CTX_get_tlsext_ticket_keys]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_ticket_key_cb/
func (c *Context) TicketKeys() ([]byte, error) {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return nil, err
	}
	defer v.end()
	return takeBytes("SSL_CTX_get_tlsext_ticket_keys", C.shim_SSL_CTX_get_tlsext_ticket_keys(v.p))
}

// SetTicketKeys sets the keys of libssl's own tickets, so that several contexts can read each
// other's tickets, and those of earlier contexts. It returns an ArgumentError for another length
// than that of TicketKeys. keys is a secret, and is copied. To change keys without losing sessions
// use [Context.SetTicketKeyRing].
//
// Wraps [SSL_CTX_set_tlsext_ticket_keys].
//
// [SSL_CTX_set_tlsext_ticket_keys]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_ticket_key_cb/
func (c *Context) SetTicketKeys(keys []byte) error {
	return c.configure(func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_tlsext_ticket_keys(p, bytesPointer(keys), C.size_t(len(keys)))
		if r.n < 0 {
			return badArgument("SetTicketKeys", "keys", "is %d bytes long, and must have %d", len(keys), -r.n)
		}
		return errorIf(r.n == 1, "SSL_CTX_set_tlsext_ticket_keys", r.errs)
	})
}

// A TicketKeyRing is the keys by which servers make and read tickets. A fleet changes keys without
// losing a session in three steps. Put the new key into Next everywhere. Then make it Current
// everywhere, and put the one before into Old. Take that out when its last ticket has expired.
type TicketKeyRing struct {
	// Current encrypts new tickets, and reads them.
	Current TicketKey

	// Next are keys by which other servers may encrypt already. They read tickets. (As with
	// libssl's own keys, a TLS 1.3 client gets a new ticket whichever key read the one it had.)
	Next []TicketKey

	// Old are the keys of before. They read tickets, and the client gets a new ticket.
	Old []TicketKey
}

// SetTicketKeyRing sets the keys by which servers of this context make and read tickets, in place
// of libssl's own; nil goes back to those. The ring is copied. It can be replaced while connections
// run.
//
// Tickets have libssl's own format: AES-256-CBC with a random IV for each, and HMAC-SHA256. A
// context that has a key by SetTicketKeys reads the tickets of one that has it in its ring, and the
// other way round. If the key of a ticket is not in the ring, the handshake is a full one. A
// connection uses the ring of the context that it was made from, also when it goes on with another
// by the ClientHello.
//
// It returns an ArgumentError for a key that is the zero TicketKey, and for two keys of one name.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_tlsext_ticket_key_evp_cb], SSL_CTX_set_tlsext_ticket_key_cb before OpenSSL 3.0.
//
// [SSL_CTX_set_tlsext_ticket_key_evp_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_ticket_key_cb/
func (c *Context) SetTicketKeyRing(ring *TicketKeyRing) error {
	keys, n, err := ring.bytes()
	if err != nil {
		return err
	}
	defer clear(keys)
	return c.replaceCallback(C.SHIM_CALLBACK_TICKET_KEY, n > 0, func(p *C.SSL_CTX) error {
		r := C.shim_SSL_CTX_set_tlsext_ticket_key_evp_cb(p, bytesPointer(keys), C.size_t(n), C.size_t(ring.next()))
		return errorIf(r.n == 1, "SSL_CTX_set_tlsext_ticket_key_evp_cb", r.errs)
	})
}

// A TicketStatus is libssl's result for a client's ticket.
type TicketStatus int

// The statuses. TicketEmpty is a client that has no ticket and would like one.
const (
	TicketEmpty        TicketStatus = C.SSL_TICKET_EMPTY
	TicketNoDecrypt    TicketStatus = C.SSL_TICKET_NO_DECRYPT
	TicketSuccess      TicketStatus = C.SSL_TICKET_SUCCESS
	TicketSuccessRenew TicketStatus = C.SSL_TICKET_SUCCESS_RENEW
)

// usable reports whether the ticket has a session.
func (s TicketStatus) usable() bool { return s == TicketSuccess || s == TicketSuccessRenew }

// A TicketReturn says what a server does with a client's ticket.
type TicketReturn int

// The answers. TicketDefault does what libssl does without a hook, which keeps the rotation of a
// [TicketKeyRing] going. TicketAbort ends the handshake, with an alert. TicketIgnore makes a full
// handshake as if there were no ticket, and TicketIgnoreRenew one that issues a new ticket.
// TicketUse resumes, and TicketUseRenew resumes and issues a new ticket. With TicketUse no new
// ticket is issued, in TLS 1.3 neither: a client that uses each of its tickets once runs out of
// them.
const (
	TicketDefault     TicketReturn = -1
	TicketAbort       TicketReturn = C.SSL_TICKET_RETURN_ABORT
	TicketIgnore      TicketReturn = C.SSL_TICKET_RETURN_IGNORE
	TicketIgnoreRenew TicketReturn = C.SSL_TICKET_RETURN_IGNORE_RENEW
	TicketUse         TicketReturn = C.SSL_TICKET_RETURN_USE
	TicketUseRenew    TicketReturn = C.SSL_TICKET_RETURN_USE_RENEW
)

// ends reports whether the answer ends the handshake. To use a ticket that has no session ends it,
// too.
func (r TicketReturn) ends(s TicketStatus) bool {
	switch r {
	case TicketDefault, TicketIgnore, TicketIgnoreRenew:
		return false
	case TicketUse, TicketUseRenew:
		return !s.usable()
	}
	return true
}

// A SessionTicket is the ticket that a hook of [Context.SetSessionTicketCallback] decides about.
type SessionTicket struct {
	Conn *Conn

	// Session is a copy of the session that goes into the ticket, or came with it; nil if there is
	// none. It has secrets. It is the hook's, which may close it or keep it.
	Session *Session

	// AppData is a copy of the application's data in the session: what came with the ticket, or
	// what the ticket before got, also one of the same handshake.
	AppData []byte

	// KeyName is the beginning of the client's ticket, which names its key, 16 bytes or fewer. It
	// is authentic only if Status is a success. A new ticket has none yet.
	KeyName []byte

	// Status is libssl's result for the client's ticket; 0 for a new one.
	Status TicketStatus
}

// SetSessionTicketCallback sets the hooks that a server asks when it makes a ticket and when it has
// read one. Either may be nil.
//
// generate returns the application's data that goes into the ticket, encrypted, in place of
// t.AppData. An empty result stores nothing. If it returns an error, the handshake fails with it.
// It does not run where tickets are disabled, nor where TLS 1.2 makes a ticket of a session from
// the cache: other connections have that session, too, and it keeps its data.
//
// decrypt says what to do with the client's ticket, which in TLS 1.2 may also be empty. Without it
// libssl uses what it can read. libssl checks the session of the ticket afterwards (expiry, ID
// context). Any other answer than the six is TicketAbort, and so is the use of a ticket that could
// not be read. Handshake then fails.
//
// The hooks run like that of [Context.SetSessionIDGenerator]. But if decrypt does not run, the
// handshake is a full one. It does not run if too many hooks run, or if the client offers more than
// 16 identities. For tickets that name a session in the cache (TLS 1.3 with OpNoTicket, or early
// data with replay protection) libssl asks generate and not decrypt.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_session_ticket_cb], SSL_SESSION_set1_ticket_appdata, SSL_SESSION_get0_ticket_appdata.
//
// [SSL_CTX_set_session_ticket_cb]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_ticket_cb/
func (c *Context) SetSessionTicketCallback(generate func(ctx context.Context, t SessionTicket) (appData []byte, err error), decrypt func(ctx context.Context, t SessionTicket) TicketReturn) error {
	on := generate != nil || decrypt != nil
	return c.replaceCallback(C.SHIM_CALLBACK_SESSION_TICKET, on, func(p *C.SSL_CTX) error {
		C.shim_SSL_CTX_set_session_ticket_cb(p, boolInt(on))
		c.hooks.change(func(t *hookTable) { t.generateTicket, t.decryptTicket = generate, decrypt })
		return nil
	})
}

// The sizes of a [TicketKey], in bytes.
const (
	TicketKeySize     = 80
	TicketKeyNameSize = 16
)

// A TicketKey is a secret by which session tickets are encrypted. It is a name of 16 bytes, which
// is in the ticket, a key of 32 bytes for HMAC-SHA256 and one of 32 bytes for AES-256. It prints,
// logs and marshals as its name only, and no decoder makes one ([ErrNotEncoded]). [TicketKey.Bytes]
// returns the secret. The zero TicketKey is none.
type TicketKey struct {
	// It is a function because fmt prints no more of that than an address. With a wrong verb fmt
	// would follow a pointer.
	secret func() *ticketSecret
}

type ticketSecret [TicketKeySize]byte

func newTicketKey(s *ticketSecret) TicketKey { return TicketKey{func() *ticketSecret { return s }} }

// NewTicketKey makes a random key.
func NewTicketKey() TicketKey {
	s := new(ticketSecret)
	_, _ = rand.Read(s[:]) // never fails
	return newTicketKey(s)
}

// ParseTicketKey reads a key of 80 bytes: name, HMAC key, AES key. That is the order of
// [Context.TicketKeys], and of the files that nginx reads as ssl_session_ticket_key. It returns an
// ArgumentError for another length.
func ParseTicketKey(b []byte) (TicketKey, error) {
	if len(b) != TicketKeySize {
		return TicketKey{}, badArgument("ParseTicketKey", "b", "is %d bytes long, and must have %d", len(b), TicketKeySize)
	}
	s := new(ticketSecret)
	copy(s[:], b) // a conversion to an array would leave a copy on the stack
	return newTicketKey(s), nil
}

// Bytes returns the key as ParseTicketKey reads it, nil for the zero TicketKey. The result is the
// secret.
func (k TicketKey) Bytes() []byte {
	if k.secret == nil {
		return nil
	}
	return bytes.Clone(k.secret()[:])
}

// Name returns the key's name, nil for the zero TicketKey. It is no secret: each ticket begins with
// it.
func (k TicketKey) Name() []byte {
	if k.secret == nil {
		return nil
	}
	return bytes.Clone(k.secret()[:TicketKeyNameSize])
}

// Clear overwrites the key with zeros, in all its copies. Contexts that have it keep it. No other
// context accepts it any more.
func (k TicketKey) Clear() {
	if k.secret != nil {
		clear(k.secret()[:])
	}
}

// String returns the key's name.
func (k TicketKey) String() string { return "TicketKey(" + hex.EncodeToString(k.Name()) + ")" }

// GoString is String: no format shows the secret.
func (k TicketKey) GoString() string { return k.String() }

// Format writes String, whatever the verb.
func (k TicketKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText returns String, which is not the key.
func (k TicketKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON returns String, which is not the key. To keep a key in JSON, keep its
// [TicketKey.Bytes].
func (k TicketKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// MarshalBinary fails with ErrNotEncoded: [TicketKey.Bytes] returns the key.
func (k TicketKey) MarshalBinary() ([]byte, error) { return nil, ticketKeyNotEncoded() }

// UnmarshalText fails with ErrNotEncoded: [ParseTicketKey] reads a key.
func (k *TicketKey) UnmarshalText([]byte) error { return ticketKeyNotEncoded() }

// UnmarshalJSON fails with ErrNotEncoded: [ParseTicketKey] reads a key.
func (k *TicketKey) UnmarshalJSON([]byte) error { return ticketKeyNotEncoded() }

// UnmarshalBinary fails with ErrNotEncoded: [ParseTicketKey] reads a key.
func (k *TicketKey) UnmarshalBinary([]byte) error { return ticketKeyNotEncoded() }

// bytes returns the keys of a ring one after the other, and their number. The caller wipes them.
func (r *TicketKeyRing) bytes() (keys []byte, n int, err error) {
	if r == nil {
		return nil, 0, nil
	}
	all := append(append([]TicketKey{r.Current}, r.Next...), r.Old...)
	keys = make([]byte, 0, len(all)*TicketKeySize)
	seen := make(map[[TicketKeyNameSize]byte]bool, len(all))
	for _, k := range all {
		if k.secret == nil || *k.secret() == (ticketSecret{}) {
			clear(keys)
			return nil, 0, badArgument("SetTicketKeyRing", "ring", "has a key that is the zero TicketKey, or was cleared")
		}
		name := [TicketKeyNameSize]byte(k.secret()[:])
		if seen[name] {
			clear(keys)
			return nil, 0, badArgument("SetTicketKeyRing", "ring", "has two keys of the name %x", name)
		}
		seen[name] = true
		keys = append(keys, k.secret()[:]...)
	}
	return keys, len(all), nil
}

// next returns how many keys after the first read tickets without renewing them.
func (r *TicketKeyRing) next() int {
	if r == nil {
		return 0
	}
	return len(r.Next)
}
