// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestHandover: a handover holds one connection, and none when nobody will look again.
func TestHandover(t *testing.T) {
	first, second := new(conn), new(conn)
	o := new(handover)
	if c := o.take(); c != nil {
		t.Errorf("an empty one has %v", c)
	}
	if !o.put(first) || o.put(second) {
		t.Error("it does not hold one connection")
	}
	if c := o.take(); c != first || o.take() != nil {
		t.Error("it does not give once what it was given")
	}
	if !o.put(second) || o.end() != second {
		t.Error("at the end it does not give what is left")
	}
	if o.put(first) || o.end() != nil {
		t.Error("it takes a connection that nobody will look for")
	}
}

// TestAwaitSettings: a request waits no longer for a server's settings when they have come, when
// the connection is closed and when its context is over.
func TestAwaitSettings(t *testing.T) {
	for name, end := range map[string]func(c *conn, cancel func()){
		"seen":     func(c *conn, _ func()) { close(c.seen) },
		"closed":   func(c *conn, _ func()) { close(c.closed) },
		"canceled": func(_ *conn, cancel func()) { cancel() },
	} {
		c := &conn{seen: make(chan struct{}), closed: make(chan struct{}), born: time.Now().Add(time.Hour)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		end(c, cancel)
		done := make(chan struct{})
		go func() {
			defer close(done)
			(&http2Client{conn: c, transport: new(http.Transport)}).awaitSettings(ctx)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it waits", name)
		}
	}
}

// TestUnsentBodies: a request that goes by a client of HTTP/2 in vain, because it is given up or
// because the connection is closed, has its body closed.
func TestUnsentBodies(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		closed bool
		want   error
	}{
		"given up":          {over, false, context.Canceled},
		"closed connection": {t.Context(), true, errNeedsConn},
	} {
		client := &http2Client{conn: &conn{closed: make(chan struct{})}, transport: new(http.Transport),
			first: make(chan struct{}, 1), ready: make(chan struct{})}
		if c.closed {
			close(client.conn.closed)
		} else {
			client.hold() // by a request that has not yet been sent
		}
		inner := &countingBody{Reader: strings.NewReader("x")}
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://host.example", inner)
		if err != nil {
			t.Fatal(err)
		}
		client.transport.DialTLSContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("it dials") }
		if _, err := client.roundTrip(c.ctx, r); !errors.Is(err, c.want) || inner.closed != 1 {
			t.Errorf("%s: %v, the body is closed %d times", name, err, inner.closed)
		}
	}
}
