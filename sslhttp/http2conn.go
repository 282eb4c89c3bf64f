// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// http2Preface is the beginning of every HTTP/2 connection, sent by the client.
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxPrefaceTime is the time limit for the preface. It is net/http's limit over crypto/tls; over
// other connections net/http has no limit. Tests change it.
var maxPrefaceTime = 10 * time.Second

// An http2Conn is a connection that agreed on HTTP/2. It has no method ConnectionState: with it
// net/http would speak HTTP/1.1 over TLS.
type http2Conn struct {
	net.Conn
	srv *http.Server

	seen int // bytes of the preface so far; only the reader uses it

	mu      sync.Mutex
	preface time.Time // the time limit; zero after the preface has come
	wanted  time.Time // the deadline that net/http has set for reads
}

func newHTTP2Conn(c net.Conn, srv *http.Server) (*http2Conn, error) {
	h2 := &http2Conn{Conn: c, srv: srv, preface: time.Now().Add(maxPrefaceTime)}
	return h2, h2.SetReadDeadline(time.Time{})
}

// Read ends the connection of a client that does not speak HTTP/2: net/http would accept HTTP/1.1,
// too. It has one reader.
func (c *http2Conn) Read(p []byte) (int, error) {
	if c.seen == len(http2Preface) {
		return c.Conn.Read(p)
	}
	rest := http2Preface[c.seen:]
	n, err := c.Conn.Read(p[:min(len(p), len(rest))])
	if string(p[:n]) != rest[:n] {
		_ = c.Close()
		return 0, io.EOF // net/http sends no answer after EOF
	}
	if c.seen += n; c.seen == len(http2Preface) {
		c.greeted()
	}
	return n, err
}

// greeted removes the time limit for the preface.
func (c *http2Conn) greeted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.preface = time.Time{}
	_ = c.Conn.SetReadDeadline(c.wanted)
}

// SetReadDeadline sets the deadline for reads; before the preface has come, its time limit holds,
// too.
func (c *http2Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = t
	if !c.preface.IsZero() && (t.IsZero() || c.preface.Before(t)) {
		t = c.preface
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline sets the deadlines for reads and writes.
func (c *http2Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
