// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"sslctx"
)

// TestClientContext makes the handshake over connections that lead somewhere already. A connection that it does not
// take is closed.
func TestClientContext(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	addr := serve(t, e.server)
	untrusting := newContext(t, sslctx.TLSClientMethod)
	for name, c := range map[string]struct {
		d    sslctx.Dialer
		addr string
		fine bool
	}{
		"the host":          {sslctx.Dialer{Context: e.client}, "localhost:443", true},
		"another host":      {sslctx.Dialer{Context: e.client}, "elsewhere.example:443", false},
		"told to":           {sslctx.Dialer{Context: e.client, ServerName: "localhost"}, "elsewhere.example:443", true},
		"told to, no port":  {sslctx.Dialer{Context: e.client, ServerName: "localhost"}, "", true},
		"no port":           {sslctx.Dialer{Context: e.client}, "localhost", false},
		"nobody is trusted": {sslctx.Dialer{Context: untrusting}, "localhost:443", false},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", addr)
			must(t, err)
			defer raw.Close()
			conn, err := c.d.ClientContext(t.Context(), raw, c.addr)
			if c.fine {
				must(t, err)
				echoOnce(t, conn)
				must(t, conn.Close())
			} else if err == nil || conn != nil {
				t.Errorf("ClientContext returns %v, %v", conn, err)
			}
			if _, err := raw.Write([]byte("x")); err == nil {
				t.Error("the connection is left open")
			}
		})
	}
}

// TestClientContextIsBounded: NetDialer's Timeout holds for the handshake over a connection that exists already.
func TestClientContextIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	d := sslctx.Dialer{Context: newContext(t, sslctx.TLSClientMethod), NetDialer: &net.Dialer{Timeout: 100 * time.Millisecond}}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = d.ClientContext(ctx, c, "localhost:1")
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ClientContext returns %v, its context is %v", err, ctx.Err())
	}
}

// TestClientContextWithoutConn: no connection is an ArgumentError, whatever else is wrong.
func TestClientContextWithoutConn(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	for _, d := range []sslctx.Dialer{{Context: e.client}, {}} {
		conn, err := d.ClientContext(t.Context(), nil, "localhost:1")
		wantArgument(t, err, "conn")
		if conn != nil {
			t.Errorf("ClientContext returns %v", conn)
		}
	}
	_, err := sslctx.NewListener(acceptsNil{}, e.server).Accept()
	wantArgument(t, err, "conn")
}

// acceptsNil is a listener that accepts no connection, and says that all is well.
type acceptsNil struct{ net.Listener }

func (acceptsNil) Accept() (net.Conn, error) { return nil, nil }

// TestDialerWithClosedContext: a Dialer without a Context, or with a closed one, does not connect, and closes what it is
// given.
func TestDialerWithClosedContext(t *testing.T) {
	closed := newContext(t, sslctx.TLSClientMethod)
	must(t, closed.Close())
	for _, ctx := range []*sslctx.Context{nil, closed} {
		d := sslctx.Dialer{Context: ctx, NetDialer: &net.Dialer{Control: func(string, string, syscall.RawConn) error {
			t.Error("it connects")
			return nil
		}}}
		if _, err := d.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("Dial returns %v", err)
		}
		_, c := tcpPair(t)
		if _, err := d.ClientContext(t.Context(), c, "localhost:1"); !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("ClientContext returns %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection is left open: Write returns %v", err)
		}
	}
}
