// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslctx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Client makes the client's end of a connection over conn. The handshake begins with the first Read
// or Write, or with [Conn.Handshake]. By default a context does not verify the server's
// certificate: set [Context.SetVerify], and a name with [Conn.SetServerName]. A [Dialer] always
// verifies.
//
// The connection holds a reference to the SSL_CTX: the Context may be closed. The Conn owns conn
// from now on, and Close closes it.
//
// Wraps [SSL_new].
//
// [SSL_new]: https://docs.openssl.org/3.0/man3/SSL_new/
func Client(conn net.Conn, c *Context) (*Conn, error) {
	return newConn(context.Background(), "Client", conn, c, false)
}

// Server makes the server's end of a connection over conn. c has the certificate.
//
// A TLS 1.3 server sends tickets at the end of its handshake. If conn has no buffer, as with
// [net.Pipe], it waits there until the client reads. A client that writes first then waits for the
// server: let another goroutine of the client read, or set [Context.SetNumTickets] to 0.
//
// The connection holds a reference to the SSL_CTX: the Context may be closed. The Conn owns conn
// from now on, and Close closes it.
//
// Wraps [SSL_new].
//
// [SSL_new]: https://docs.openssl.org/3.0/man3/SSL_new/
func Server(conn net.Conn, c *Context) (*Conn, error) {
	return newConn(context.Background(), "Server", conn, c, true)
}

// A Dialer connects clients that verify the server, as crypto/tls does: the Context must trust the
// server's certificate, and the certificate must be for the server's name, whatever
// [Context.SetVerify] says. Its methods may be called from any goroutine, if its fields do not
// change.
//
// An error with [ReasonWrongVersionNumber], "wrong version number", means that the peer does not
// speak TLS. It may be a server of plain HTTP.
type Dialer struct {
	// Context configures the connections. It must be set. Only the certificates that it trusts
	// count: it trusts the authorities of the system only after [Context.SetDefaultVerifyPaths].
	Context *Context

	// NetDialer connects the transport; nil is the zero net.Dialer. Its Timeout and Deadline hold
	// for the handshake, too.
	NetDialer *net.Dialer

	// ServerName is the name for [Conn.SetServerName]. If it is empty, the host of the address is
	// used.
	ServerName string

	// InsecureSkipVerify accepts any server, whatever [Context.SetVerify] says: an attacker between
	// the ends can then read and change all data. It is for tests, and for programs that check
	// [Conn.ConnectionState] themselves. One check is enough: see [ErrPeerChanged].
	InsecureSkipVerify bool

	// Session, if set, is offered to resume. It stays the caller's. Then SessionCache offers none, and keeps
	// none of a connection that resumes Session: whose that is, the cache cannot know.
	Session *Session

	// SessionCache, if set, keeps the sessions of the connections, and offers them to the same server
	// again.
	SessionCache *ClientSessionCache

	// SessionAddr, if set, takes the place of the address in SessionCache. Connections to different
	// ports of a server then share their sessions, as FTPS asks of a control connection and its data
	// connections. All else must be the same, above all the name.
	SessionAddr string
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects and completes the handshake; the connection is a *Conn. Both end when ctx is
// done. Without a name, as for ":443", it returns ErrNoServerName.
//
// It can be DialTLSContext of an http.Transport if the Context does not offer "h2". Such a Transport
// cannot speak HTTP/2, and the TLS field of its responses is nil: sslhttp does both.
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

// ClientContext completes the handshake over conn, which is connected to addr already, for example
// through a proxy. Otherwise it is DialContext. The Conn owns conn from now on; if ClientContext
// fails, it closes conn.
//
// Wraps [SSL_new].
//
// [SSL_new]: https://docs.openssl.org/3.0/man3/SSL_new/
func (d *Dialer) ClientContext(ctx context.Context, conn net.Conn, addr string) (*Conn, error) {
	return d.client(ctx, "ClientContext", conn, addr, (*Conn).HandshakeContext)
}

// Client is ClientContext without the handshake, which begins with the first Read or Write, or with
// [Conn.Handshake]. Before it, the Conn can be configured further, and early data can be sent
// ([Conn.HandshakeWithEarlyData]): the session that the Dialer offers is set. ctx bounds how long
// SessionCache takes to find it. A session of TLS 1.3 leaves the cache here, whatever becomes of the
// connection.
//
// The Conn owns conn from now on; if Client fails, it closes conn.
//
// Wraps [SSL_new].
//
// [SSL_new]: https://docs.openssl.org/3.0/man3/SSL_new/
func (d *Dialer) Client(ctx context.Context, conn net.Conn, addr string) (*Conn, error) {
	return d.client(ctx, "Client", conn, addr, func(*Conn, context.Context) error { return nil })
}

// client makes a Conn over conn, and calls begin for it.
func (d *Dialer) client(ctx context.Context, fn string, conn net.Conn, addr string, begin func(*Conn, context.Context) error) (*Conn, error) {
	if conn == nil {
		return nil, badArgument(fn, "conn", "is nil")
	}
	var closer io.Closer = conn // nobody else has it
	done := false
	defer func() {
		if !done { // also if a hook, or a method of ctx, panics or ends the goroutine
			_ = closer.Close()
		}
	}()
	name, err := d.nameFor(addr)
	if err != nil {
		return nil, err
	}
	if d.NetDialer != nil {
		var cancel context.CancelFunc
		ctx, cancel = bounded(ctx, d.NetDialer) // after DialContext the end of ctx is the earlier one
		defer cancel()
	}
	c, err := newConn(ctx, fn, conn, d.Context, false)
	if err != nil {
		return nil, err
	}
	closer = c
	if err := d.prepare(ctx, c, name, addr, begin); err != nil {
		return nil, err
	}
	done = true
	return c, nil
}

// nameFor returns the server name for an address, "" for any.
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

// bounded ends a context at the timeout and deadline of a dialer, as tls.DialWithDialer does.
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

func (d *Dialer) prepare(ctx context.Context, c *Conn, name, addr string, begin func(*Conn, context.Context) error) (err error) {
	ctx, stop := c.endWith(ctx)
	defer func() {
		if ended := stop(); ended != nil {
			err = ended
		}
	}()
	if err := d.configure(ctx, c, name, addr); err != nil {
		return err
	}
	return begin(c, ctx)
}

// configure sets all that the handshake needs.
func (d *Dialer) configure(ctx context.Context, c *Conn, name, addr string) error {
	c.samePeer = true
	c.dialed = true
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
	if d.SessionCache == nil {
		return nil
	}
	if d.SessionAddr != "" {
		addr = d.SessionAddr
	}
	return d.SessionCache.attach(ctx, c, name, addr, d.Session == nil)
}

// advise adds what to do about a server whose certificate is not trusted.
func advise(err error) error {
	var e *Error
	if !errors.As(err, &e) || !e.VerifyResult.isUntrusted() {
		return err
	}
	return fmt.Errorf("%w: have Dialer.Context trust its authority, or set Dialer.InsecureSkipVerify", err)
}

// Dial connects to addr and completes the handshake. It verifies that the Context trusts the
// server's certificate, and that it is for the host of addr: see [Dialer].
func Dial(network, addr string, c *Context) (*Conn, error) {
	return (&Dialer{Context: c}).dial(context.Background(), network, addr)
}

// NewListener makes servers of the connections that inner accepts: each is a *Conn whose handshake
// has not begun. Its Close closes inner; the Context stays the caller's. Accept fails at once while
// the Context cannot serve: see [Listen].
func NewListener(inner net.Listener, c *Context) net.Listener {
	l := &listener{Listener: inner, from: c}
	l.open, l.end = context.WithCancelCause(context.Background())
	return l
}

// Listen is net.Listen with NewListener. A Context without a certificate is an ArgumentError,
// except where a server can do without: the Context has a hook for the ClientHello, which may
// choose another context, or a server's hook for pre-shared keys, or a cipher suite without
// authentication; or it comes from [ContextFromPointer], whose owner may have a callback for
// certificates.
//
// Wraps [SSL_CTX_get0_certificate], SSL_CTX_get0_privatekey, SSL_CTX_get_ciphers.
//
// [SSL_CTX_get0_certificate]: https://docs.openssl.org/3.0/man3/SSL_get_certificate/
func Listen(network, laddr string, c *Context) (net.Listener, error) {
	if err := c.checkServes(context.Background(), "Listen"); err != nil {
		return nil, err
	}
	inner, err := net.Listen(network, laddr)
	if err != nil {
		return nil, err
	}
	return NewListener(inner, c), nil
}

type listener struct {
	net.Listener
	from   *Context
	open   context.Context // until Close
	end    context.CancelCauseFunc
	closes *Context // closed with the listener; nil: the Context is the caller's
}

// Close closes the inner listener.
func (l *listener) Close() error {
	l.end(net.ErrClosed)
	defer l.closes.Close()
	return l.Listener.Close()
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	if err := l.from.checkServes(l.open, "NewListener"); err != nil {
		return nil, err
	}
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c, err := newConn(l.open, "Server", raw, l.from, true)
	if err != nil {
		if raw != nil {
			_ = raw.Close()
		}
		return nil, err
	}
	return c, nil
}
