// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// The sizes of a [TicketKey], in bytes.
const (
	TicketKeySize     = 80
	TicketKeyNameSize = 16
)

// A TicketKey is a secret by which session tickets are encrypted: a name of 16 bytes, which stands in the ticket, a
// key of 32 bytes for HMAC-SHA256 and one of 32 bytes for AES-256. It prints, logs and marshals as its name alone, and no
// decoder makes one ([ErrNotEncoded]); [TicketKey.Bytes] gives the secret away. The zero TicketKey is none.
type TicketKey struct {
	// A function: fmt follows a pointer when a verb does not suit it, and prints of this no more than an address.
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

// ParseTicketKey reads a key of 80 bytes: name, HMAC key, AES key. That is the order of [Context.TicketKeys], and of
// the files that nginx reads as ssl_session_ticket_key. Another length is an ArgumentError.
func ParseTicketKey(b []byte) (TicketKey, error) {
	if len(b) != TicketKeySize {
		return TicketKey{}, badArgument("ParseTicketKey", "b", "is %d bytes long, and must have %d", len(b), TicketKeySize)
	}
	s := new(ticketSecret)
	copy(s[:], b) // a conversion to an array would leave a copy on the stack
	return newTicketKey(s), nil
}

// Bytes returns the key as ParseTicketKey reads it, nil for the zero TicketKey. It is the secret.
func (k TicketKey) Bytes() []byte {
	if k.secret == nil {
		return nil
	}
	return bytes.Clone(k.secret()[:])
}

// Name returns the key's name, nil for the zero TicketKey. It is no secret: each ticket begins with it.
func (k TicketKey) Name() []byte {
	if k.secret == nil {
		return nil
	}
	return bytes.Clone(k.secret()[:TicketKeyNameSize])
}

// Clear overwrites the key with zeros, for all its copies. Contexts keep what they have of it; no further one takes it.
func (k TicketKey) Clear() {
	if k.secret != nil {
		clear(k.secret()[:])
	}
}

// String gives the key's name.
func (k TicketKey) String() string { return "TicketKey(" + hex.EncodeToString(k.Name()) + ")" }

// GoString is String: no format gives the secret away.
func (k TicketKey) GoString() string { return k.String() }

// Format writes String, whatever the verb.
func (k TicketKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText writes String: it is not the key.
func (k TicketKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON writes String: it is not the key. To keep a key in JSON, keep its [TicketKey.Bytes].
func (k TicketKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// MarshalBinary fails with ErrNotEncoded: [TicketKey.Bytes] gives the key away.
func (k TicketKey) MarshalBinary() ([]byte, error) { return nil, ticketKeyNotEncoded() }

// UnmarshalText fails with ErrNotEncoded: [ParseTicketKey] reads a key.
func (k *TicketKey) UnmarshalText([]byte) error { return ticketKeyNotEncoded() }

// UnmarshalJSON fails with ErrNotEncoded: [ParseTicketKey] reads a key.
func (k *TicketKey) UnmarshalJSON([]byte) error { return ticketKeyNotEncoded() }

// UnmarshalBinary fails with ErrNotEncoded: [ParseTicketKey] reads a key.
func (k *TicketKey) UnmarshalBinary([]byte) error { return ticketKeyNotEncoded() }

// bytes returns the keys of a ring one after the other, which its user wipes, and their number.
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

// next returns how many keys after the first do not renew.
func (r *TicketKeyRing) next() int {
	if r == nil {
		return 0
	}
	return len(r.Next)
}
