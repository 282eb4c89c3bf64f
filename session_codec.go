// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"io"
	"unsafe"
)

// MaxSessionSize is the largest serialized session that is read, in bytes. The largest fields are the
// peer's certificate and a ticket of up to 64 KiB.
const MaxSessionSize = 256 << 10

// ParseSession reads a session from DER, as [Session.Bytes] and the openssl command write it. The
// result is fresh and resumable, whatever mark the original had.
//
// A session carries its own keys and verification result: only parse what was kept from others. Bytes
// after the session, and more than MaxSessionSize, are an ArgumentError; what libssl cannot read, a
// truncated session among it, is an *Error.
//
// The reference is the caller's.
//
// Wraps [d2i_SSL_SESSION].
//
// [d2i_SSL_SESSION]: https://docs.openssl.org/3.0/man3/d2i_SSL_SESSION/
func ParseSession(der []byte) (*Session, error) {
	p, err := parseDER("ParseSession", "der", der)
	if err != nil {
		return nil, err
	}
	return adoptSession(p, nil), nil
}

func parseDER(fn, arg string, der []byte) (*C.SSL_SESSION, error) {
	if err := checkSize(fn, arg, der, MaxSessionSize); err != nil {
		return nil, err
	}
	r := C.shim_d2i_SSL_SESSION(bytesPointer(der), C.size_t(len(der)))
	if r.p == nil {
		return nil, newError("d2i_SSL_SESSION", r.errs)
	}
	if used := int(r.used); used != len(der) {
		freeSession(r.p)
		return nil, badArgument(fn, arg, "has %d bytes after the session", len(der)-used)
	}
	return r.p, nil
}

func checkSize(fn, arg string, data []byte, limit int) error {
	if len(data) == 0 {
		return badArgument(fn, arg, "is empty")
	}
	if len(data) > limit {
		return badArgument(fn, arg, "is %d bytes long, the limit is %d", len(data), limit)
	}
	return nil
}

// Bytes returns the session as DER. It holds the session's secrets. libssl can only write a session
// that has a cipher.
//
// OpenSSL 1.1.1 cannot read what 3.0 and later versions write; they read what 1.1.1 writes. Programs with both that share
// sessions outside of libssl need a store for each.
//
// Wraps [i2d_SSL_SESSION].
//
// [i2d_SSL_SESSION]: https://docs.openssl.org/3.0/man3/d2i_SSL_SESSION/
func (s *Session) Bytes() ([]byte, error) {
	a, err := s.begin(false)
	if err != nil {
		return nil, err
	}
	defer a.end()
	return takeBytes("i2d_SSL_SESSION", C.shim_i2d_SSL_SESSION(a.p))
}

// MarshalBinary is [Session.Bytes], for encoding.BinaryMarshaler.
func (s *Session) MarshalBinary() ([]byte, error) { return s.Bytes() }

// UnmarshalBinary is [ParseSession] into a zero Session, for encoding.BinaryUnmarshaler. A Session that
// holds, or held, a session is an ArgumentError: reading into a session that libssl has would change
// its key.
//
// Wraps [d2i_SSL_SESSION].
//
// [d2i_SSL_SESSION]: https://docs.openssl.org/3.0/man3/d2i_SSL_SESSION/
func (s *Session) UnmarshalBinary(der []byte) error {
	p, err := parseDER("UnmarshalBinary", "der", der)
	if err != nil {
		return err
	}
	return s.fill("UnmarshalBinary", p)
}

func (s *Session) fill(fn string, p *C.SSL_SESSION) error {
	if s == nil || !s.adopt(p, freeSession) {
		freeSession(p)
		return badArgument(fn, "receiver", "is not a zero Session")
	}
	return nil
}

// MarshalText returns the session as PEM, of type SSL SESSION PARAMETERS, as the openssl command reads
// it. It holds the session's secrets.
//
// Wraps [PEM_write_bio_SSL_SESSION].
//
// [PEM_write_bio_SSL_SESSION]: https://docs.openssl.org/3.0/man3/PEM_read_bio_SSL_SESSION/
func (s *Session) MarshalText() ([]byte, error) {
	a, err := s.begin(false)
	if err != nil {
		return nil, err
	}
	defer a.end()
	return takeBytes("PEM_write_bio_SSL_SESSION", C.shim_PEM_write_bio_SSL_SESSION(a.p))
}

// UnmarshalText reads the first PEM block of type SSL SESSION PARAMETERS into a zero Session, under the
// rules of [Session.UnmarshalBinary]. As in libssl, text before the block is passed over; text after
// it is an ArgumentError, and an encrypted block is an *Error.
//
// Wraps [PEM_read_bio_SSL_SESSION].
//
// [PEM_read_bio_SSL_SESSION]: https://docs.openssl.org/3.0/man3/PEM_read_bio_SSL_SESSION/
func (s *Session) UnmarshalText(text []byte) error {
	const fn, arg = "UnmarshalText", "text"
	if err := checkSize(fn, arg, text, MaxSessionSize); err != nil {
		return err
	}
	r := C.shim_PEM_read_bio_SSL_SESSION(bytesPointer(text), C.size_t(len(text)))
	if r.p == nil {
		return newError("PEM_read_bio_SSL_SESSION", r.errs)
	}
	defer freeBytes(r)
	if rest := bytes.TrimSpace(text[int(r.used):]); len(rest) > 0 {
		return badArgument(fn, arg, "has %d bytes after the session", len(rest))
	}
	p, err := parseDER(fn, arg, unsafe.Slice((*byte)(r.p), int(r.n)))
	if err != nil {
		return err
	}
	return s.fill(fn, p)
}

// Print writes the session to w as text, as openssl sess_id -text does. It holds the session's secrets.
//
// Wraps [SSL_SESSION_print].
//
// [SSL_SESSION_print]: https://docs.openssl.org/3.0/man3/SSL_SESSION_print/
func (s *Session) Print(w io.Writer) error {
	return s.printTo(w, "SSL_SESSION_print", func(p *C.SSL_SESSION) C.shim_bytes {
		return C.shim_SSL_SESSION_print(p)
	})
}

// printTo writes what print makes of the session, and wipes it.
func (s *Session) printTo(w io.Writer, op string, print func(*C.SSL_SESSION) C.shim_bytes) error {
	a, err := s.begin(false)
	if err != nil {
		return err
	}
	text, err := takeBytes(op, print(a.p))
	a.end()
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	clear(text)
	return err
}

// takeBytes makes Go bytes of C's and wipes those.
func takeBytes(op string, r C.shim_bytes) ([]byte, error) {
	if r.p == nil {
		return nil, newError(op, r.errs)
	}
	defer freeBytes(r)
	return bytes.Clone(unsafe.Slice((*byte)(r.p), int(r.n))), nil
}

func freeBytes(r C.shim_bytes) { C.shim_bytes_free(r.p, r.n) }
