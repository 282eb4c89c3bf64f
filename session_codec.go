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
// result is fresh and resumable, whatever mark the original had. [ParseSessionPEM] reads PEM.
//
// A session carries its own keys and verification result: only parse what was kept from others. Bytes
// after the session, PEM, and more than MaxSessionSize, are an ArgumentError; what libssl cannot read, a
// truncated session among it, is an *Error.
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

// Bytes returns the session as DER, for [ParseSession]. It holds the session's secrets. libssl can only
// write a session that has a cipher. What is not resumable ([Session.IsResumable]) is written, too: see
// [Session.PEM].
//
// All versions read what OpenSSL 1.1.1 writes, but 1.1.1 cannot read what 3.0 and later write: where both
// use one store, a session of the younger is a full handshake at the older.
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

// PEM returns the session as PEM, of type SSL SESSION PARAMETERS, as the openssl command reads it, for
// [ParseSessionPEM]. It holds the session's secrets: a file of it is for its owner alone, as a private key.
//
// A client's session of TLS 1.3 resumes nothing before the first Read, which brings the server's ticket:
// [Session.IsResumable] is false until then, and the PEM has no ticket. No error says so.
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

// ParseSessionPEM reads the first PEM block of type SSL SESSION PARAMETERS, as [Session.PEM] and the openssl
// command write it, under the rules of [ParseSession]. As in libssl, text before the block is passed over;
// text after it, and DER, are an ArgumentError, and an encrypted block is an *Error.
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

// looksLikeDER reports whether b begins as a sequence of more than 127 bytes does, and has no block of PEM.
func looksLikeDER(b []byte) bool {
	return len(b) > 1 && b[0] == 0x30 && b[1] > 0x80 && b[1] < 0x85 && !bytes.Contains(b, []byte("-----BEGIN "))
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
