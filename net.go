// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Client makes the client's end of a connection over conn. The handshake begins with the first Read or
// Write, or with [Conn.Handshake]. Whether the server's certificate is verified is the context's
// business, whose default is that it is not: see [Context.SetVerify]. If it is, the handshake needs a name
// ([Conn.SetServerName]). A [Dialer] verifies without being told.
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

// A Dialer connects clients that know whom they talk to, as crypto/tls does: the server's certificate must be one that the
// Context trusts, and for the server's name, whatever [Context.SetVerify] says. Its methods may be called from any
// goroutine, if its fields do not change.
//
// An error with [ReasonWrongVersionNumber], "wrong version number", means that the peer does not speak TLS: it is a server
// of plain HTTP, for example.
type Dialer struct {
	// Context configures the connections. It must be set. What it trusts counts, and nothing else: the
	// authorities of the system are trusted after [Context.SetDefaultVerifyPaths] only.
	Context *Context

	// NetDialer connects the transport; nil is the zero net.Dialer. Its Timeout and Deadline hold for the handshake,
	// too.
	NetDialer *net.Dialer

	// ServerName is whom to talk to, for [Conn.SetServerName]. Empty is the host of the address.
	ServerName string

	// InsecureSkipVerify has any server do, whatever [Context.SetVerify] says: whoever is between the ends can read
	// and change all. It is for tests, and for programs that look at [Conn.ConnectionState] themselves.
	InsecureSkipVerify bool

	// Session, if set, is offered to resume. It stays the caller's.
	Session *Session
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects and completes the handshake; the connection is a *Conn. A context that is done
// ends both. It fits http.Transport's DialTLSContext. Without a name, as for ":443", it is ErrNoServerName.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err // and not a nil *Conn in a net.Conn
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (*Conn, error) {
	if _, err := d.nameFor(addr); err != nil { // before it connects
		return nil, err
	}
	dialer := d.NetDialer
	if dialer == nil {
		dialer = new(net.Dialer)
	}
	ctx, cancel := bounded(ctx, dialer)
	defer cancel()
	raw, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return d.ClientContext(ctx, raw, addr)
}

// ClientContext completes the handshake over conn, which leads to addr already: through a proxy, for
// example. It does with conn what DialContext does with a connection of NetDialer. From here on conn is the
// Conn's; when ClientContext fails, it closes conn.
func (d *Dialer) ClientContext(ctx context.Context, conn net.Conn, addr string) (*Conn, error) {
	if conn == nil {
		return nil, badArgument("ClientContext", "conn", "is nil")
	}
	name, err := d.nameFor(addr)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if d.NetDialer != nil {
		var cancel context.CancelFunc
		ctx, cancel = bounded(ctx, d.NetDialer) // after DialContext its own end is the earlier one
		defer cancel()
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

// nameFor returns whom to talk to at an address, "" for anybody.
func (d *Dialer) nameFor(addr string) (string, error) {
	if d.Context == nil || d.Context.state.Load() < stateOpen {
		return "", closedArgument("Dialer", "Context")
	}
	host, _, err := net.SplitHostPort(addr)
	name := d.ServerName
	if name == "" {
		if err != nil && !d.InsecureSkipVerify {
			return "", err
		}
		name = host
	}
	if name == "" && !d.InsecureSkipVerify {
		return "", ErrNoServerName
	}
	return name, nil
}

// bounded has a context end by what a dialer is given in time, as tls.DialWithDialer does.
func bounded(ctx context.Context, d *net.Dialer) (context.Context, context.CancelFunc) {
	deadline := d.Deadline
	if d.Timeout != 0 {
		if end := time.Now().Add(d.Timeout); deadline.IsZero() || end.Before(deadline) {
			deadline = end
		}
	}
	if deadline.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline)
}

func (d *Dialer) prepare(ctx context.Context, c *Conn, name string) error {
	mode := VerifyPeer
	if d.InsecureSkipVerify {
		mode = VerifyNone
	}
	if err := c.SetVerify(mode); err != nil {
		return err
	}
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
	return advise(c.HandshakeContext(ctx))
}

// advise says what to do about a server that nobody vouches for.
func advise(err error) error {
	var e *Error
	if !errors.As(err, &e) || !e.VerifyResult.isUntrusted() {
		return err
	}
	return fmt.Errorf("%w: have Dialer.Context trust its authority, or set Dialer.InsecureSkipVerify", err)
}

// Dial connects to addr and completes the handshake. The server's certificate must be one that ctx trusts, and for the
// host of addr, whatever ctx says of verification: see [Dialer].
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
		if raw != nil {
			_ = raw.Close()
		}
		return nil, err
	}
	return c, nil
}
