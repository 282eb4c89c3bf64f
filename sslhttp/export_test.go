// SPDX-License-Identifier: Apache-2.0

package sslhttp

import (
	"net"
	"net/http"
	"time"

	"sslctx"
)

// SetMaxPrefaceTime sets how long a server waits for the preface of an HTTP/2 client, and returns
// the old value.
func SetMaxPrefaceTime(d time.Duration) (was time.Duration) {
	was, maxPrefaceTime = maxPrefaceTime, d
	return was
}

// NewListener is what Serve has a server accept from, and with early ServeWithEarlyData.
func NewListener(inner net.Listener, srv *http.Server, early bool) net.Listener {
	return newListener(inner, srv, true, early)
}

// Pending is how many handshakes are under way.
func Pending(of net.Listener) int {
	l := of.(*listener)
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}

// Plain is the connection behind one that a server has accepted.
func Plain(c net.Conn) net.Conn { return plain(c) }

// Known is how many hosts and how many routes a Transport has in mind.
func Known(t *Transport) (hosts, routes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.hosts), len(t.routes)
}

// Waiting is how many requests wait for a connection that others may share.
func Waiting(t *Transport) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.hosts {
		n += len(h.waiters)
	}
	return n
}

// SetPatience sets how old the newest dialing is when another one is begun, and returns the old value.
func SetPatience(d time.Duration) (was time.Duration) {
	was, patience = patience, d
	return was
}

// Settings are those that a Transport was given, or has without any.
func Settings(t *Transport) *http.Transport { return t.given }

// SetEarlyWindow sets how long a new connection waits for its request, and returns the old value.
func SetEarlyWindow(d time.Duration) (was time.Duration) {
	was, earlyWindow = earlyWindow, d
	return was
}

// GoesOn reports whether a server's connection awaits the end of its handshake after early data.
func GoesOn(c net.Conn) bool {
	e := c.(*earlyServerConn)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.goesOn()
}

// Inner is the connection that a Transport shows to httptrace.
func Inner(c net.Conn) *sslctx.Conn { return c.(*conn).Conn }

// ReadEarly reads early data to its end, and waits for the end of the handshake.
func ReadEarly(c net.Conn) error {
	_, err := c.(*earlyServerConn).readEarly(make([]byte, 1))
	return err
}

// SetMaxCloseTime sets how long a connection that is closed waits for the end of its handshake, and returns the old
// value.
func SetMaxCloseTime(d time.Duration) (was time.Duration) {
	was, maxCloseTime = maxCloseTime, d
	return was
}
