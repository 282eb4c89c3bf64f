// SPDX-License-Identifier: Apache-2.0

package sslhttp

import (
	"net"
	"net/http"
	"time"
)

// SetMaxPrefaceTime sets how long a server waits for the preface of an HTTP/2 client, and returns
// the old value.
func SetMaxPrefaceTime(d time.Duration) (was time.Duration) {
	was, maxPrefaceTime = maxPrefaceTime, d
	return was
}

// NewListener is what Serve has a server accept from.
func NewListener(inner net.Listener, srv *http.Server) net.Listener {
	return newListener(inner, srv, true)
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
