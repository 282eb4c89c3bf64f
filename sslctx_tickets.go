// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
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

// TicketKeys returns the key of libssl's own tickets, a copy. libssl makes it with the context. A
// ring ([Context.SetTicketKeyRing]) is used in its place, and does not show here.
//
// Wraps [SSL_CTX_get_tlsext_ticket_keys].
//
// [SSL_CTX_get_tlsext_ticket_keys]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_ticket_key_cb/
func (c *Context) TicketKeys() (TicketKey, error) {
	var v contextCall
	if err := v.begin(c, false); err != nil {
		return TicketKey{}, err
	}
	defer v.end()
	raw, err := takeBytes("SSL_CTX_get_tlsext_ticket_keys", C.shim_SSL_CTX_get_tlsext_ticket_keys(v.p))
	if err != nil {
		return TicketKey{}, err
	}
	defer clear(raw)
	return ParseTicketKey(raw)
}

// SetTicketKeys sets the key of libssl's own tickets, so that several contexts can read each
// other's tickets, and those of before. The key is copied. The zero TicketKey, and one that was
// cleared, are an ArgumentError. To change keys without losing sessions use
// [Context.SetTicketKeyRing].
//
// Wraps [SSL_CTX_set_tlsext_ticket_keys].
//
// [SSL_CTX_set_tlsext_ticket_keys]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_tlsext_ticket_key_cb/
func (c *Context) SetTicketKeys(key TicketKey) error {
	return c.configure(func(p *C.SSL_CTX) error {
		if key.isNone() {
			return badArgument("SetTicketKeys", "key", "is the zero TicketKey, or was cleared")
		}
		raw := key.bytes()
		r := C.shim_SSL_CTX_set_tlsext_ticket_keys(p, bytesPointer(raw), C.size_t(len(raw)))
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
// connection uses the ring of the context that it was made from, also when a hook for the
// ClientHello chooses another.
//
// It returns an ArgumentError for a key that is the zero TicketKey, and for two keys of one name.
//
// It returns ErrForeignCallback for a Context of [ContextFromPointer]: its owner may have a
// callback there, and libssl does not show it.
//
// Wraps [SSL_CTX_set_tlsext_ticket_key_evp_cb], SSL_CTX_set_tlsext_ticket_key_cb before OpenSSL
// 3.0.
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
	// Conn is the connection. Use it only for its addresses and to tell connections apart: its other methods
	// wait until the hook has returned.
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
// Wraps [SSL_CTX_set_session_ticket_cb], SSL_SESSION_set1_ticket_appdata,
// SSL_SESSION_get0_ticket_appdata.
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

// A TicketKey is a secret by which session tickets are encrypted: a name of 16 bytes, which stands
// in the ticket, a key of 32 bytes for HMAC-SHA256 and one of 32 bytes for AES-256. It prints, logs
// and marshals as its name alone, and no decoder makes one ([ErrNotEncoded]); [TicketKey.Bytes]
// gives the secret away. The zero TicketKey is none.
type TicketKey struct{ hidden[ticketKeyOfName] }

// NewTicketKey makes a random key.
func NewTicketKey() TicketKey {
	b := make([]byte, TicketKeySize)
	_, _ = rand.Read(b) // never fails
	return TicketKey{hide[ticketKeyOfName](b)}
}

// ParseTicketKey reads a key of 80 bytes: name, HMAC key, AES key. That is the order of the files
// that nginx reads as ssl_session_ticket_key. Another length is an ArgumentError. b is copied.
func ParseTicketKey(b []byte) (TicketKey, error) {
	if len(b) != TicketKeySize {
		return TicketKey{}, badArgument("ParseTicketKey", "b", "is %d bytes long, and must have %d", len(b), TicketKeySize)
	}
	return TicketKey{hide[ticketKeyOfName](bytes.Clone(b))}, nil
}

// Bytes returns the key as ParseTicketKey reads it, a copy, nil for the zero TicketKey. It is the
// secret.
func (k TicketKey) Bytes() []byte { return bytes.Clone(k.bytes()) }

// Name returns the key's name, nil for the zero TicketKey. It is no secret: each ticket begins with
// it.
func (k TicketKey) Name() []byte { return bytes.Clone(ticketKeyName(k.bytes())) }

// Clear overwrites the key with zeros, for all its copies. Contexts keep what they have of it; no
// further one takes it.
func (k TicketKey) Clear() { clear(k.bytes()) }

// isNone reports whether the key is the zero TicketKey, or was cleared.
func (k TicketKey) isNone() bool { return bytes.Count(k.bytes(), []byte{0}) == len(k.bytes()) }

// ticketKeyName returns the name of a key's bytes, without a copy.
func ticketKeyName(key []byte) []byte { return key[:min(len(key), TicketKeyNameSize)] }

// ticketKeyOfName is the kind of a TicketKey.
type ticketKeyOfName struct{}

func (ticketKeyOfName) describe(key []byte) string {
	return "TicketKey(" + hex.EncodeToString(ticketKeyName(key)) + ")"
}

func (ticketKeyOfName) notEncoded() error {
	return notEncoded("a TicketKey is written by its Bytes, and read by ParseTicketKey")
}

// bytes returns the keys of a ring one after the other, and their number. The caller wipes them.
func (r *TicketKeyRing) bytes() (keys []byte, n int, err error) {
	if r == nil {
		return nil, 0, nil
	}
	all := append(append([]TicketKey{r.Current}, r.Next...), r.Old...)
	keys = make([]byte, 0, len(all)*TicketKeySize)
	seen := make(map[[TicketKeyNameSize]byte]bool, len(all))
	for _, k := range all {
		if k.isNone() {
			clear(keys)
			return nil, 0, badArgument("SetTicketKeyRing", "ring", "has a key that is the zero TicketKey, or was cleared")
		}
		name := [TicketKeyNameSize]byte(k.bytes())
		if seen[name] {
			clear(keys)
			return nil, 0, badArgument("SetTicketKeyRing", "ring", "has two keys of the name %x", name)
		}
		seen[name] = true
		keys = append(keys, k.bytes()...)
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
