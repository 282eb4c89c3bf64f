// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A notedConn has a text to read, and notes the deadlines that are set.
type notedConn struct {
	net.Conn
	text        *strings.Reader
	read, write time.Time
}

func (c *notedConn) Read(p []byte) (int, error)         { return c.text.Read(p) }
func (c *notedConn) SetReadDeadline(t time.Time) error  { c.read = t; return nil }
func (c *notedConn) SetWriteDeadline(t time.Time) error { c.write = t; return nil }

// TestHTTP2Deadlines: until the preface has come, its limit and the deadline for reads hold both;
// then the deadline alone does.
func TestHTTP2Deadlines(t *testing.T) {
	limit := time.Now().Add(time.Minute)
	sooner, later, never := limit.Add(-time.Second), limit.Add(time.Second), time.Time{}
	inner := &notedConn{text: strings.NewReader(http2Preface + "rest")}
	c := &http2Conn{Conn: inner, preface: limit}
	set := func(to, want time.Time) {
		t.Helper()
		if err := c.SetReadDeadline(to); err != nil || !inner.read.Equal(want) {
			t.Errorf("SetReadDeadline(%v) sets %v, not %v: %v", to, inner.read, want, err)
		}
	}
	set(sooner, sooner)
	set(never, limit)
	set(later, limit)
	if err := c.SetDeadline(later); err != nil || !inner.read.Equal(limit) || !inner.write.Equal(later) {
		t.Errorf("SetDeadline(%v) sets %v and %v: %v", later, inner.read, inner.write, err)
	}
	b := make([]byte, len(http2Preface)+len("rest"))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != http2Preface+"rest" {
		t.Fatalf("Read reads %q, %v", b, err)
	}
	if !inner.read.Equal(later) {
		t.Errorf("behind the preface the deadline is %v, not %v", inner.read, later)
	}
	set(sooner, sooner)
	set(never, never)
	set(later, later)
}
