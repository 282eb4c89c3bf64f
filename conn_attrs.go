// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

import "time"

// randomLength is that of the randoms of every version of TLS.
const randomLength = C.SSL3_RANDOM_SIZE

// ClientRandom returns the random number of the ClientHello, 32 bytes, by which key logs name connections. It is
// all zero before the handshake. It is ErrClosed after Close.
//
// Wraps [SSL_get_client_random].
//
// [SSL_get_client_random]: https://docs.openssl.org/3.0/man3/SSL_get_client_random/
func (c *Conn) ClientRandom() ([]byte, error) {
	return c.random(func(ssl *C.SSL, out *C.uchar, n C.size_t) C.size_t {
		return C.SSL_get_client_random(ssl, out, n)
	})
}

// ServerRandom returns the random number of the ServerHello, 32 bytes, all zero before the handshake. It is
// ErrClosed after Close.
//
// Wraps [SSL_get_server_random].
//
// [SSL_get_server_random]: https://docs.openssl.org/3.0/man3/SSL_get_client_random/
func (c *Conn) ServerRandom() ([]byte, error) {
	return c.random(func(ssl *C.SSL, out *C.uchar, n C.size_t) C.size_t {
		return C.SSL_get_server_random(ssl, out, n)
	})
}

func (c *Conn) random(get func(*C.SSL, *C.uchar, C.size_t) C.size_t) ([]byte, error) {
	r, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end(r)
	random := make([]byte, randomLength)
	n := get(r.p.ssl, bytesPointer(random), randomLength)
	return random[:n], nil
}

// VerifyResult returns what libssl found when it verified the peer's certificate; of a resumed session, what it
// found when the session was made. With VerifyNone a connection goes on whatever it is. VerifyOK is also
// the result if there was no certificate to verify. It is ErrClosed after Close.
//
// Wraps [SSL_get_verify_result].
//
// [SSL_get_verify_result]: https://docs.openssl.org/3.0/man3/SSL_get_verify_result/
func (c *Conn) VerifyResult() (VerifyResult, error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return VerifyResult(C.SSL_get_verify_result(r.p.ssl)), nil
}

// DefaultTimeout returns for how long sessions may be resumed where [Context.SetTimeout] says nothing: 2 hours. It
// is ErrClosed after Close.
//
// Wraps [SSL_get_default_timeout].
//
// [SSL_get_default_timeout]: https://docs.openssl.org/3.0/man3/SSL_get_default_timeout/
func (c *Conn) DefaultTimeout() (time.Duration, error) {
	r, err := c.begin()
	if err != nil {
		return 0, err
	}
	defer c.end(r)
	return seconds(int64(C.SSL_get_default_timeout(r.p.ssl))), nil
}

// SetIDContext sets the ID context of this connection's sessions in place of its context's
// ([Context.SetIDContext]), 0 to 32 bytes. A longer one is an ArgumentError. Handshakes look at it: the next one
// is a renegotiation, if it is set later.
//
// Wraps [SSL_set_session_id_context].
//
// [SSL_set_session_id_context]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_session_id_context/
func (c *Conn) SetIDContext(id []byte) error {
	if err := checkID("SetIDContext", id); err != nil {
		return err
	}
	r, err := c.begin()
	if err != nil {
		return err
	}
	defer c.end(r)
	ret := C.shim_SSL_set_session_id_context(r.p, bytesPointer(id), C.size_t(len(id)))
	return errorIf(ret.n == 1, "SSL_set_session_id_context", ret.errs)
}
