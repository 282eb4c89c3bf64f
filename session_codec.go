// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"io"
	"unsafe"
)

// MaxSessionSize is the largest serialized session that is read, in bytes. The largest fields are
// the peer's certificate, and a ticket of up to 64 KiB.
const MaxSessionSize = 256 << 10

// ParseSession reads a session from DER, as [Session.Bytes] and the openssl command write it. The
// result is fresh. It is resumable, even if the original was marked as not resumable.
// [ParseSessionPEM] reads PEM.
//
// A session carries its own keys and verification result, so parse only bytes that nobody else
// could read or change. ParseSession returns an ArgumentError for bytes after the session, for PEM,
// and for more than MaxSessionSize bytes. It returns an *Error for what libssl cannot read, such as
// a truncated session.
//
// The reference is the caller's.
//
// Wraps [d2i_SSL_SESSION].
//
// [d2i_SSL_SESSION]: https://docs.openssl.org/3.0/man3/d2i_SSL_SESSION/
func ParseSession(der []byte) (*Session, error) {
	s, err := parseDER("ParseSession", "der", der)
	if _, refused := err.(*Error); refused && bytes.Contains(der, []byte("-----BEGIN ")) {
		return nil, badArgument("ParseSession", "der", "is PEM, which ParseSessionPEM reads")
	}
	return s, err
}

// parseDER reads a session that is an argument of fn.
func parseDER(fn, arg string, der []byte) (*Session, error) {
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
	return adoptSession(r.p, nil), nil
}

// Bytes returns the session as DER, for [ParseSession]. The result holds the session's secrets.
// libssl can only write a session that has a cipher. A session that is not resumable
// ([Session.IsResumable]) is written, too: see [Session.PEM].
//
// All versions read what OpenSSL 1.1.1 writes, but 1.1.1 cannot read what 3.0 and later versions
// write. If both share a store, a session of the newer version is a full handshake at the older.
//
// So programs with both that share sessions outside of libssl need a store for each.
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

// PEM returns the session as PEM, of type SSL SESSION PARAMETERS, as the openssl command reads it,
// for [ParseSessionPEM]. The result holds the session's secrets. Protect a file of it like a
// private key: only its owner may read it.
//
// A client's session of TLS 1.3 resumes nothing before the first Read, which brings the server's
// ticket. Until then [Session.IsResumable] is false, and the PEM has no ticket. No error says so.
//
// Wraps [PEM_write_bio_SSL_SESSION].
//
// [PEM_write_bio_SSL_SESSION]: https://docs.openssl.org/3.0/man3/PEM_read_bio_SSL_SESSION/
func (s *Session) PEM() ([]byte, error) {
	a, err := s.begin(false)
	if err != nil {
		return nil, err
	}
	defer a.end()
	return takeBytes("PEM_write_bio_SSL_SESSION", C.shim_PEM_write_bio_SSL_SESSION(a.p))
}

// ParseSessionPEM reads the first PEM block of type SSL SESSION PARAMETERS, as [Session.PEM] and
// the openssl command write it, under the rules of [ParseSession]. As in libssl, text before the
// block is ignored. It returns an ArgumentError for text after the block and for DER, and an *Error
// for an encrypted block.
//
// The reference is the caller's.
//
// Wraps [PEM_read_bio_SSL_SESSION].
//
// [PEM_read_bio_SSL_SESSION]: https://docs.openssl.org/3.0/man3/PEM_read_bio_SSL_SESSION/
func ParseSessionPEM(text []byte) (*Session, error) {
	const fn, arg = "ParseSessionPEM", "text"
	if err := checkSize(fn, arg, text, MaxSessionSize); err != nil {
		return nil, err
	}
	r := C.shim_PEM_read_bio_SSL_SESSION(bytesPointer(text), C.size_t(len(text)))
	if r.p == nil {
		err := newError("PEM_read_bio_SSL_SESSION", r.errs)
		if looksLikeDER(text) {
			return nil, badArgument(fn, arg, "is DER, which ParseSession reads")
		}
		return nil, err
	}
	defer freeBytes(r)
	if rest := bytes.TrimSpace(text[int(r.used):]); len(rest) > 0 {
		return nil, badArgument(fn, arg, "has %d bytes after the session", len(rest))
	}
	return parseDER(fn, arg, unsafe.Slice((*byte)(r.p), int(r.n)))
}

// looksLikeDER reports whether b begins like a DER sequence of more than 127 bytes and has no PEM
// block.
func looksLikeDER(b []byte) bool {
	return len(b) > 1 && b[0] == 0x30 && b[1] > 0x80 && b[1] < 0x85 && !bytes.Contains(b, []byte("-----BEGIN "))
}

// Print writes the session to w as text, as openssl sess_id -text does. The text holds the
// session's secrets.
//
// Wraps [SSL_SESSION_print].
//
// [SSL_SESSION_print]: https://docs.openssl.org/3.0/man3/SSL_SESSION_print/
func (s *Session) Print(w io.Writer) error {
	return s.printTo(w, "SSL_SESSION_print", func(p *C.SSL_SESSION) C.shim_bytes {
		return C.shim_SSL_SESSION_print(p)
	})
}

// printTo writes the result of print to w, and wipes it.
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
