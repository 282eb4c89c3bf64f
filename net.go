// SPDX-License-Identifier: Apache-2.0

package sslctx

import "net"

// Client makes the client's end of a connection over conn. The handshake begins with the first Read or
// Write, or with [Conn.Handshake]. Whether the server's certificate is verified is the context's
// business: see [Context.SetVerify].
//
// The connection holds the context's SSL_CTX: the Context may be closed. From here on conn is the
// Conn's, and Close closes it.
//
// Wraps [SSL_new].
//
// [SSL_new]: https://docs.openssl.org/3.0/man3/SSL_new/
func Client(conn net.Conn, ctx *Context) (*Conn, error) { return newConn(conn, ctx, false) }

// Server makes the server's end of a connection over conn. ctx has the certificate.
//
// The connection holds the context's SSL_CTX: the Context may be closed. From here on conn is the
// Conn's, and Close closes it.
//
// Wraps [SSL_new].
//
// [SSL_new]: https://docs.openssl.org/3.0/man3/SSL_new/
func Server(conn net.Conn, ctx *Context) (*Conn, error) { return newConn(conn, ctx, true) }
