// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// A Secret is bytes that whoever knows them can use in place of their owner, as a master key or a ticket. It
// prints, formats, logs and marshals as its length, also inside of other values, and no decoder makes one
// ([ErrNotEncoded]); [Secret.Bytes] gives it away. The zero Secret is empty. Copies of a Secret share its bytes.
type Secret struct {
	// Formats of a structure that has a Secret in a field of its own do not ask methods. They follow one pointer,
	// if the verb is a wrong one, and never two.
	b **[]byte
}

// newSecret takes over b.
func newSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	p := &b
	return Secret{&p}
}

// Bytes returns the secret itself, not a copy: after [Secret.Clear] it is zero.
func (s Secret) Bytes() []byte {
	if s.b == nil {
		return nil
	}
	return **s.b
}

// Len returns how many bytes the secret has.
func (s Secret) Len() int { return len(s.Bytes()) }

// Clear overwrites the secret with zeros, for all its copies: it keeps its length.
func (s Secret) Clear() { clear(s.Bytes()) }

// String says how long the secret is.
func (s Secret) String() string { return fmt.Sprintf("Secret(%d bytes)", s.Len()) }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format writes String, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText writes String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON writes String.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalBinary fails with ErrNotEncoded.
func (s Secret) MarshalBinary() ([]byte, error) { return nil, secretNotEncoded() }

// UnmarshalText fails with ErrNotEncoded: a description is not the secret.
func (s *Secret) UnmarshalText([]byte) error { return secretNotEncoded() }

// UnmarshalJSON fails with ErrNotEncoded: a description is not the secret.
func (s *Secret) UnmarshalJSON([]byte) error { return secretNotEncoded() }

// UnmarshalBinary fails with ErrNotEncoded.
func (s *Secret) UnmarshalBinary([]byte) error { return secretNotEncoded() }

// LogValue is String, for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
