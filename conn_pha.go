// SPDX-License-Identifier: Apache-2.0

package sslctx

// #include "cgo_shim.h"
import "C"

// SetPostHandshakeAuth is [Context.SetPostHandshakeAuth] for one connection. It must come before the handshake:
// ErrHandshakeStarted.
//
// Wraps [SSL_set_post_handshake_auth].
//
// [SSL_set_post_handshake_auth]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Conn) SetPostHandshakeAuth(on bool) error {
	r, err := c.beginSetup()
	if err != nil {
		return err
	}
	defer c.end(r)
	C.SSL_set_post_handshake_auth(r.p.ssl, boolInt(on))
	return nil
}

// VerifyClientPostHandshake has a server ask a client of TLS 1.3 for its certificate, after the handshake. It sends the
// request and does not wait for the answer: a later Read finds the client's certificate, and from then on
// [Conn.ConnectionState] has it, or fails by it. What the client wrote before it read the request was written by a client
// without a certificate: a server that must know whom it listens to asks at a place of the protocol where the client
// waits.
//
// The context's [Context.SetVerify] says what is asked, with VerifyPeer; with VerifyPostHandshake, too, the handshake
// itself asks for nothing. If the client did not say that it can ([Context.SetPostHandshakeAuth]), if an answer is still
// to come, without VerifyPeer, in a client and in TLS 1.2 it is an *Error, and the connection goes on.
//
// Wraps [SSL_verify_client_post_handshake].
//
// [SSL_verify_client_post_handshake]: https://docs.openssl.org/3.0/man3/SSL_CTX_set_verify/
func (c *Conn) VerifyClientPostHandshake() error { return c.post(opVerifyClient) }
