// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include <stdlib.h>
// #include "cgo_shim.h"
import "C"

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"math"
	"unsafe"
)

// MaxMasterKeyLength is the largest master key, in bytes: 512, and 256 before OpenSSL 3.0.
const MaxMasterKeyLength = C.SHIM_MAX_MASTER_KEY_LENGTH

// SetCipher sets the cipher suite of a fresh session. It finds the suite by c.ID; the names do not
// matter. The zero Cipher is none. It returns ErrPublished for a published session, and an
// ArgumentError for an ID that libssl has no cipher suite for.
//
// Wraps [SSL_SESSION_set_cipher].
//
// [SSL_SESSION_set_cipher]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_cipher/
func (s *Session) SetCipher(c Cipher) error {
	const fn, arg = "SetCipher", "c"
	if c.ID == 0 && c != (Cipher{}) {
		return badArgument(fn, arg, "has names and no ID")
	}
	a, err := s.beginFresh()
	if err != nil {
		return err
	}
	defer a.end()
	r := C.shim_SSL_SESSION_set_cipher(a.p, C.uint(c.ID))
	if r.n != 1 && r.errs == nil {
		return badArgument(fn, arg, "has the ID %#04x, which libssl has no cipher suite for", c.ID)
	}
	return errorIf(r.n == 1, "SSL_SESSION_set_cipher", r.errs)
}

// MasterKey returns a copy of the master secret of TLS 1.2, or of the resumption secret of TLS 1.3.
// Whoever has it can resume the connection, and can decrypt one of TLS 1.2. It is empty if the
// session has none.
//
// Wraps [SSL_SESSION_get_master_key].
//
// [SSL_SESSION_get_master_key]: https://docs.openssl.org/3.0/man3/SSL_get_client_random/
func (s *Session) MasterKey() Secret {
	a := s.mustBegin()
	defer a.end()
	buf := make([]byte, MaxMasterKeyLength)
	n := C.SSL_SESSION_get_master_key(a.p, bytesPointer(buf), C.size_t(len(buf)))
	key := newSecret(bytes.Clone(buf[:n]))
	clear(buf)
	return key
}

// SetMasterKey sets the master key of a fresh session, 0 to MaxMasterKeyLength bytes. The key is
// copied. It returns ErrPublished for a published session, whose key connections read, and an
// ArgumentError for a longer key.
//
// Wraps [SSL_SESSION_set1_master_key].
//
// [SSL_SESSION_set1_master_key]: https://docs.openssl.org/3.0/man3/SSL_get_client_random/
func (s *Session) SetMasterKey(key []byte) error {
	if len(key) > MaxMasterKeyLength {
		return badArgument("SetMasterKey", "key", "is %d bytes long, the limit is %d", len(key), MaxMasterKeyLength)
	}
	return s.setFresh("SSL_SESSION_set1_master_key", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set1_master_key(p, bytesPointer(key), C.size_t(len(key)))
	})
}

// CompressID returns the number of the compression method. 0 is none; there is no other today.
//
// Wraps [SSL_SESSION_get_compress_id].
//
// [SSL_SESSION_get_compress_id]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get_compress_id/
func (s *Session) CompressID() int {
	a := s.mustBegin()
	defer a.end()
	return int(C.SSL_SESSION_get_compress_id(a.p))
}

// Hostname returns the server name that the client asked for and the server acknowledged when the
// session was made, "" for none. libssl's servers acknowledge no name unless other code set a
// callback for it.
//
// Wraps [SSL_SESSION_get0_hostname].
//
// [SSL_SESSION_get0_hostname]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_hostname/
func (s *Session) Hostname() string {
	a := s.mustBegin()
	defer a.end()
	return C.GoString(C.SSL_SESSION_get0_hostname(a.p))
}

// SetHostname sets the server name of a fresh session, "" for none. It returns ErrPublished for a
// published session, whose name connections read, and an ArgumentError for a name with a zero byte.
//
// Wraps [SSL_SESSION_set1_hostname].
//
// [SSL_SESSION_set1_hostname]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_hostname/
func (s *Session) SetHostname(name string) error {
	if err := checkString("SetHostname", "name", name); err != nil {
		return err
	}
	var c *C.char
	if name != "" {
		c = C.CString(name)
		defer C.free(unsafe.Pointer(c))
	}
	return s.setFresh("SSL_SESSION_set1_hostname", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set1_hostname(p, c)
	})
}

// ALPNSelected returns the application protocol that the connection agreed on, "" for none.
//
// Wraps [SSL_SESSION_get0_alpn_selected].
//
// [SSL_SESSION_get0_alpn_selected]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_hostname/
func (s *Session) ALPNSelected() string {
	a := s.mustBegin()
	defer a.end()
	return string(cloneView(C.shim_SSL_SESSION_get0_alpn_selected(a.p)))
}

// SetALPNSelected sets the application protocol of a fresh session, "" for none. Early data is sent
// and accepted only for that protocol. It returns ErrPublished for a published session, whose
// protocol connections read.
//
// Wraps [SSL_SESSION_set1_alpn_selected].
//
// [SSL_SESSION_set1_alpn_selected]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_hostname/
func (s *Session) SetALPNSelected(protocol string) error {
	b := []byte(protocol)
	return s.setFresh("SSL_SESSION_set1_alpn_selected", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set1_alpn_selected(p, bytesPointer(b), C.size_t(len(b)))
	})
}

// Ticket returns a copy of the ticket that a client got from the server, empty if it has none.
//
// Wraps [SSL_SESSION_get0_ticket].
//
// [SSL_SESSION_get0_ticket]: https://docs.openssl.org/3.0/man3/SSL_SESSION_has_ticket/
func (s *Session) Ticket() Secret {
	a := s.mustBegin()
	defer a.end()
	return newSecret(cloneView(C.shim_SSL_SESSION_get0_ticket(a.p)))
}

// TicketAppData returns a copy of the application's own data in the session, nil if there is none.
// A server's tickets carry it, encrypted, to the client and back.
//
// Wraps [SSL_SESSION_get0_ticket_appdata].
//
// [SSL_SESSION_get0_ticket_appdata]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_ticket_cb/
func (s *Session) TicketAppData() []byte {
	a := s.mustBegin()
	defer a.end()
	return cloneView(C.shim_SSL_SESSION_get0_ticket_appdata(a.p))
}

// SetTicketAppData sets the application's own data of a fresh session; empty data removes it. A
// ticket, with all that is in it, is limited to 64 KiB. It returns ErrPublished for a published
// session, whose data connections read.
//
// Wraps [SSL_SESSION_set1_ticket_appdata].
//
// [SSL_SESSION_set1_ticket_appdata]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_ticket_cb/
func (s *Session) SetTicketAppData(data []byte) error {
	return s.setFresh("SSL_SESSION_set1_ticket_appdata", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_SSL_SESSION_set1_ticket_appdata(p, bytesPointer(data), C.size_t(len(data)))
	})
}

// MaxEarlyData returns how many bytes of early data (TLS 1.3) the server accepts from a client that
// has the session.
//
// Wraps [SSL_SESSION_get_max_early_data].
//
// [SSL_SESSION_get_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (s *Session) MaxEarlyData() int {
	a := s.mustBegin()
	defer a.end()
	return int(C.SSL_SESSION_get_max_early_data(a.p))
}

// SetMaxEarlyData sets how many bytes of early data may be sent with the session. It works on a
// published session, too. It returns an ArgumentError for a negative number, and for one that has
// more than 32 bits.
//
// Wraps [SSL_SESSION_set_max_early_data].
//
// [SSL_SESSION_set_max_early_data]: https://docs.openssl.org/3.0/man3/SSL_read_early_data/
func (s *Session) SetMaxEarlyData(n int) error {
	if err := checkInt("SetMaxEarlyData", "n", n, 0, min(math.MaxUint32, math.MaxInt)); err != nil {
		return err
	}
	return s.setExclusive("SSL_SESSION_set_max_early_data", func(p *C.SSL_SESSION) C.shim_long {
		return C.shim_long{n: C.long(C.SSL_SESSION_set_max_early_data(p, C.uint32_t(n)))}
	})
}

// PeerCertificate returns the certificate that the peer showed when the session was made, nil if it
// showed none. It returns an error of crypto/x509 for a certificate that libssl can read and
// crypto/x509, which is stricter, cannot.
//
// Wraps [SSL_SESSION_get0_peer].
//
// [SSL_SESSION_get0_peer]: https://docs.openssl.org/3.0/man3/SSL_SESSION_get0_peer/
func (s *Session) PeerCertificate() (*x509.Certificate, error) {
	der, err := s.optional("SSL_SESSION_get0_peer", func(p *C.SSL_SESSION) C.shim_bytes {
		return C.shim_SSL_SESSION_get0_peer(p)
	})
	if err != nil || der == nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sslctx: the peer's certificate: %w", err)
	}
	return cert, nil
}

// PeerRawPublicKey returns the raw public key (RFC 7250) that the peer had when the session was
// made, in the form that [x509.ParsePKIXPublicKey] reads; nil if the peer had none. Before OpenSSL
// 3.2 it returns ErrUnsupported.
//
// Wraps [SSL_SESSION_get0_peer_rpk].
//
// [SSL_SESSION_get0_peer_rpk]: https://docs.openssl.org/3.5/man3/SSL_get0_peer_rpk/
func (s *Session) PeerRawPublicKey() ([]byte, error) {
	if !hasPeerRPK {
		return nil, unsupported("SSL_SESSION_get0_peer_rpk", "3.2")
	}
	return s.optional("SSL_SESSION_get0_peer_rpk", func(p *C.SSL_SESSION) C.shim_bytes {
		return C.shim_SSL_SESSION_get0_peer_rpk(p)
	})
}

// optional reads a property that a session may lack. The result is nil then.
func (s *Session) optional(op string, get func(*C.SSL_SESSION) C.shim_bytes) ([]byte, error) {
	a, err := s.begin(false)
	if err != nil {
		return nil, err
	}
	defer a.end()
	r := get(a.p)
	if r.p == nil && r.errs == nil {
		return nil, nil
	}
	return takeBytes(op, r)
}

// PrintKeylog writes the session to w in the format of NSS's SSLKEYLOGFILE, "RSA Session-ID:...
// Master-Key:...". The line holds the session's secrets. It returns an *Error for a session without
// ID or without master key.
//
// Wraps [SSL_SESSION_print_keylog].
//
// [SSL_SESSION_print_keylog]: https://docs.openssl.org/3.0/man3/SSL_SESSION_print/
func (s *Session) PrintKeylog(w io.Writer) error {
	return s.printTo(w, "SSL_SESSION_print_keylog", func(p *C.SSL_SESSION) C.shim_bytes {
		return C.shim_SSL_SESSION_print_keylog(p)
	})
}
