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

// A Secret is bytes, such as a master key or a ticket, with which anybody can take the place of
// their owner. It prints, formats, logs and marshals as its length, also inside of other values,
// and no decoder makes one ([ErrNotEncoded]). [Secret.Bytes] returns the bytes. The zero Secret is
// empty. Copies of a Secret share its bytes.
type Secret struct {
	// fmt does not call the methods of a Secret that is in an unexported field of a structure. With
	// a wrong verb it follows one pointer, and never two.
	b **[]byte
}

// newSecret makes a Secret, which takes over b.
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

// Clear overwrites the secret with zeros, in all its copies. It keeps its length.
func (s Secret) Clear() { clear(s.Bytes()) }

// String says how long the secret is.
func (s Secret) String() string { return fmt.Sprintf("Secret(%d bytes)", s.Len()) }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format writes String, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON returns String.
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

func secretNotEncoded() error {
	return notEncoded("a Secret is written by its Bytes, and read by nothing")
}

func ticketKeyNotEncoded() error {
	return notEncoded("a TicketKey is written by its Bytes, and read by ParseTicketKey")
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
