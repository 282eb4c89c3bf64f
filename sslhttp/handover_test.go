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
	"testing/synctest"
	"time"
)

// TestHandover: a handover holds one connection, and none when nobody will look again.
func TestHandover(t *testing.T) {
	first, second := new(conn), new(conn)
	o := new(handover)
	if !o.put(first) || o.put(second) {
		t.Error("it does not hold one connection")
	}
	if o.end() != first {
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
			limit: context.WithCancel, first: make(chan struct{}, 1), ready: make(chan struct{})}
		if c.closed {
			client.conn.closing.Do(func() { close(client.conn.closed) })
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

// TestEnter: a request waits for the one that goes first no longer than its time limit, and never
// for what is ready.
func TestEnter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Hour)
		}
		client := &http2Client{limit: limit, first: make(chan struct{}, 1), ready: make(chan struct{})}
		client.hold()
		if first, err := client.enter(t.Context()); first || !errors.Is(err, errBusy) || !errors.Is(err, errNeedsConn) {
			t.Errorf("busy: %v, %v", first, err)
		}
		close(client.ready)
		client.limit = func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 0) }
		for range 100 {
			if first, err := client.enter(t.Context()); first || err != nil {
				t.Fatalf("ready: %v, %v", first, err)
			}
		}
	})
}

// TestTidy: an entry that was removed before leaves the new entry of its host.
func TestTidy(t *testing.T) {
	to := target{addr: "host.example:443"}
	tr := &Transport{hosts: map[target]*host{}}
	gone, now := new(host), tr.host(to)
	if tr.tidy(to, gone); tr.hosts[to] != now {
		t.Error("the new entry is removed")
	}
	if tr.tidy(to, now); len(tr.hosts) != 0 {
		t.Error("an empty entry stays")
	}
}

// TestAloneAfterWait: a request has waited in vain for the one that goes first. It waits for no
// other connection of others.
func TestAloneAfterWait(t *testing.T) {
	tr := NewTransport(nil, &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("it dials for all")
	}})
	to := target{"host.example:443", &route{}}
	for range 2 {
		c := tr.newHTTP2Client(&conn{closed: make(chan struct{})})
		c.limit = func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 0) }
		c.hold()
		tr.host(to).http2 = append(tr.host(to).http2, c)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://host.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &trip{t: tr, ctx: t.Context(), to: to}
	if err := w.find(); err != nil || w.shared == nil {
		t.Fatalf("it finds %v, %v", w.shared, err)
	}
	if _, err := w.send(r); !errors.Is(err, errNeedsConn) {
		t.Errorf("send returns %v", err)
	}
	if err := w.find(); err != nil || w.shared != nil {
		t.Errorf("it finds %v, %v", w.shared, err)
	}
}
