// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"net"
)

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

// A Dialer connects clients. Its methods may be called from any goroutine, if its fields do not change.
type Dialer struct {
	// Context configures the connections. It must be set.
	Context *Context

	// NetDialer connects the transport; nil is the zero net.Dialer.
	NetDialer *net.Dialer

	// ServerName is whom to talk to, for [Conn.SetServerName]. Empty is the host of the address.
	ServerName string

	// Session, if set, is offered to resume. It stays the caller's.
	Session *Session
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects and completes the handshake; the connection is a *Conn. A context that is done
// ends both. It fits http.Transport's DialTLSContext.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err // and not a nil *Conn in a net.Conn
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (*Conn, error) {
	if _, err := d.nameOf(addr); err != nil { // before it connects
		return nil, err
	}
	dialer := d.NetDialer
	if dialer == nil {
		dialer = new(net.Dialer)
	}
	raw, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return d.ClientContext(ctx, raw, addr)
}

// nameOf returns whom to talk to at addr, "" if that is nobody by name.
func (d *Dialer) nameOf(addr string) (string, error) {
	if d.ServerName != "" {
		return d.ServerName, nil
	}
	host, _, err := net.SplitHostPort(addr)
	return host, err
}

// ClientContext completes the handshake over conn, which leads to addr already: through a proxy, for
// example. It does with conn what DialContext does with a connection of NetDialer. From here on conn is the
// Conn's; when ClientContext fails, it closes conn.
func (d *Dialer) ClientContext(ctx context.Context, conn net.Conn, addr string) (*Conn, error) {
	name, err := d.nameOf(addr)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c, err := Client(conn, d.Context)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	done := false
	defer func() {
		if !done { // also if a hook panics or ends the goroutine
			_ = c.Close()
		}
	}()
	if err := d.prepare(ctx, c, name); err != nil {
		return nil, err
	}
	done = true
	return c, nil
}

func (d *Dialer) prepare(ctx context.Context, c *Conn, name string) error {
	if name != "" { // ":443" has none
		if err := c.SetServerName(name); err != nil {
			return err
		}
	}
	if d.Session != nil {
		if err := c.SetSession(d.Session); err != nil {
			return err
		}
	}
	return c.HandshakeContext(ctx)
}

// Dial connects to addr and completes the handshake; the server's certificate must be for its host, if
// ctx verifies.
func Dial(network, addr string, ctx *Context) (*Conn, error) {
	return (&Dialer{Context: ctx}).dial(context.Background(), network, addr)
}

// NewListener makes servers of what inner accepts: its connections are *Conn whose handshake has not
// begun. Closing it closes inner; the Context stays the caller's. Accept fails at once as long as ctx cannot
// serve, as [Listen] does.
func NewListener(inner net.Listener, ctx *Context) net.Listener { return &listener{inner, ctx} }

// Listen is net.Listen with NewListener. A ctx without a certificate is an ArgumentError, unless a server may do without: it
// has a hook for the ClientHello, which may choose another context, or a server's hook for pre-shared keys, or its cipher
// suites have one without authentication; or it is of [ContextFromPointer], whose owner may have a callback for
// certificates.
//
// Wraps [SSL_CTX_get0_certificate], SSL_CTX_get0_privatekey, SSL_CTX_get_ciphers.
//
// [SSL_CTX_get0_certificate]: https://docs.openssl.org/3.0/man3/SSL_get_certificate/
func Listen(network, laddr string, ctx *Context) (net.Listener, error) {
	if err := ctx.checkServes("Listen"); err != nil {
		return nil, err
	}
	inner, err := net.Listen(network, laddr)
	if err != nil {
		return nil, err
	}
	return NewListener(inner, ctx), nil
}

type listener struct {
	net.Listener
	ctx *Context
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	if err := l.ctx.checkServes("NewListener"); err != nil {
		return nil, err
	}
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c, err := Server(raw, l.ctx)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}
