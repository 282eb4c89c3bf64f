// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// A Secret holds secret bytes, such as a master key or a ticket. Who knows the bytes can act as
// their owner. A Secret prints, formats, logs and marshals as its length, also inside of other
// values. No decoder makes one ([ErrNotEncoded]). [Secret.Bytes] returns the bytes. The zero Secret
// is empty. Copies of a Secret share its bytes.
type Secret struct{ hidden[secretOfLength] }

// newSecret takes over b.
func newSecret(b []byte) Secret { return Secret{hide[secretOfLength](b)} }

// Bytes returns the secret itself, not a copy: after [Secret.Clear] it is zero.
func (s Secret) Bytes() []byte { return s.bytes() }

// Len returns how many bytes the secret has.
func (s Secret) Len() int { return len(s.bytes()) }

// Clear overwrites the secret with zeros, for all its copies: it keeps its length.
func (s Secret) Clear() { clear(s.bytes()) }

// secretOfLength is the kind of a Secret.
type secretOfLength struct{}

func (secretOfLength) describe(secret []byte) string {
	return fmt.Sprintf("Secret(%d bytes)", len(secret))
}

func (secretOfLength) notEncoded() error {
	return notEncoded("a Secret is written by its Bytes, and read by nothing")
}

// A secretKind is what differs between the types of secrets.
type secretKind interface {
	describe(secret []byte) string // what a log may have; nil is the zero value's
	notEncoded() error             // what encoders and decoders get
}

// hidden is a secret. It is the one implementation of what [Secret] and [TicketKey] have in common:
// they embed it, and print, format, log and marshal as their description alone.
type hidden[K secretKind] struct {
	// Formats of a structure that has a secret in a field of its own do not ask methods. They
	// follow one pointer, if the verb is a wrong one, and never two.
	b **[]byte
}

// hide takes over b.
func hide[K secretKind](b []byte) hidden[K] {
	if len(b) == 0 {
		return hidden[K]{}
	}
	p := &b
	return hidden[K]{&p}
}

// bytes returns the secret itself, nil for the zero value.
func (h hidden[K]) bytes() []byte {
	if h.b == nil {
		return nil
	}
	return **h.b
}

func (hidden[K]) notEncoded() error {
	var kind K
	return kind.notEncoded()
}

// String describes the secret: it is not the secret.
func (h hidden[K]) String() string {
	var kind K
	return kind.describe(h.bytes())
}

// GoString is String.
func (h hidden[K]) GoString() string { return h.String() }

// Format writes String, whatever the verb.
func (h hidden[K]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, h.String()) }

// LogValue is String, for log/slog.
func (h hidden[K]) LogValue() slog.Value { return slog.StringValue(h.String()) }

// MarshalText writes String: it is not the secret.
func (h hidden[K]) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// MarshalJSON writes String: it is not the secret. To keep a secret in JSON, keep its Bytes.
func (h hidden[K]) MarshalJSON() ([]byte, error) { return json.Marshal(h.String()) }

// MarshalBinary fails with ErrNotEncoded.
func (h hidden[K]) MarshalBinary() ([]byte, error) { return nil, h.notEncoded() }

// UnmarshalText fails with ErrNotEncoded: a description is not the secret.
func (h *hidden[K]) UnmarshalText([]byte) error { return h.notEncoded() }

// UnmarshalJSON fails with ErrNotEncoded: a description is not the secret.
func (h *hidden[K]) UnmarshalJSON([]byte) error { return h.notEncoded() }

// UnmarshalBinary fails with ErrNotEncoded.
func (h *hidden[K]) UnmarshalBinary([]byte) error { return h.notEncoded() }

// ErrNotEncoded is the error that encoders and decoders get for a [Session], a [Secret] and a
// [TicketKey]. These hold secrets, and an encoder that a program calls for something else must not
// reveal them. Text encodings (JSON, XML, keys of maps) get the description that String returns.
// Binary encodings get this error, and so does every decoder. The error names the calls that write
// and read the secrets.
var ErrNotEncoded = errors.New("sslctx: a value that holds secrets is not encoded or decoded by itself")

func notEncoded(what string) error { return fmt.Errorf("%w: %s", ErrNotEncoded, what) }

func sessionNotEncoded() error {
	return notEncoded("a Session is written by Bytes or PEM, and read by ParseSession or ParseSessionPEM")
}

// Format writes String, whatever the verb.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns String, for programs that log. It is not the session: [Session.PEM] is.
func (s *Session) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON returns String, for programs that log. It is not the session. To keep a session in
// JSON, keep what [Session.Bytes] or [Session.PEM] returns.
func (s *Session) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalBinary fails with ErrNotEncoded: [Session.Bytes] returns the session.
func (s *Session) MarshalBinary() ([]byte, error) { return nil, sessionNotEncoded() }

// UnmarshalText fails with ErrNotEncoded: [ParseSessionPEM] reads a session.
func (s *Session) UnmarshalText([]byte) error { return sessionNotEncoded() }

// UnmarshalJSON fails with ErrNotEncoded: [ParseSession] and [ParseSessionPEM] read a session.
func (s *Session) UnmarshalJSON([]byte) error { return sessionNotEncoded() }

// UnmarshalBinary fails with ErrNotEncoded: [ParseSession] reads a session.
func (s *Session) UnmarshalBinary([]byte) error { return sessionNotEncoded() }

// String returns which end of a connection it is, and the two addresses. It waits for nothing, and
// may be called while the connection is used.
func (c *Conn) String() string {
	if c == nil || c.conn == nil {
		return "Conn()"
	}
	end := "client"
	if c.server {
		end = "server"
	}
	return fmt.Sprintf("Conn(%s, %v to %v)", end, c.conn.LocalAddr(), c.conn.RemoteAddr())
}

// GoString is String.
func (c *Conn) GoString() string { return c.String() }

// Format writes String, whatever the verb: the contents of a Conn's buffers must not reach a log.
func (c *Conn) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// String identifies the handle. It waits for nothing.
func (c *Context) String() string { return fmt.Sprintf("Context(%p)", c) }

// GoString is String.
func (c *Context) GoString() string { return c.String() }

// Format writes String, whatever the verb.
func (c *Context) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }
