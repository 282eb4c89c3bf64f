// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
)

// A scriptedConn reads what a proxy says, and notes what it is told.
type scriptedConn struct {
	net.Conn
	says *strings.Reader
	told bytes.Buffer
}

func (c *scriptedConn) Read(p []byte) (int, error)  { return c.says.Read(p) }
func (c *scriptedConn) Write(p []byte) (int, error) { return c.told.Write(p) }

const (
	socksConnected = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	socksAsksUser  = "\x05\x02"
	socksLoggedIn  = "\x01\x00"
)

// TestSOCKSLimits: what has no place in a request to a SOCKS proxy, or what the proxy refuses, is
// an error. Nothing is cut.
func TestSOCKSLimits(t *testing.T) {
	const good = socksAsksUser + socksLoggedIn + socksConnected
	longest := strings.Repeat("x", 255)
	for name, c := range map[string]struct {
		user, password, addr, says string
		want                       string // told, or "" for an error
	}{
		"name":              {"u", "p", "host.example:443", good, "\x0chost.example\x01\xbb"},
		"longest name":      {"u", "p", longest + ":443", good, "\xff" + longest + "\x01\xbb"},
		"name too long":     {"u", "p", longest + "x:443", good, ""},
		"IPv4":              {"u", "p", "192.0.2.1:258", good, "\x01\xc0\x00\x02\x01\x01\x02"},
		"zone":              {"u", "p", "[fe80::1%eth0]:443", good, ""},
		"port":              {"u", "p", "host.example:65536", good, ""},
		"longest user":      {longest, "p", "a:443", good, "\xff" + longest + "\x01p"},
		"user too long":     {longest + "x", "p", "a:443", good, ""},
		"no user":           {"", "p", "a:443", good, ""},
		"longest password":  {"u", longest, "a:443", good, "\x01u\xff" + longest},
		"password too long": {"u", longest + "x", "a:443", good, ""},
		"refused":           {"u", "p", "a:443", socksAsksUser + "\x01\x01" + socksConnected, ""},
		"no method":         {"u", "p", "a:443", "\x05\xff" + socksConnected, ""},
		"another version":   {"u", "p", "a:443", "\x04\x00" + socksConnected, ""},
	} {
		conn := &scriptedConn{says: strings.NewReader(c.says)}
		err := socksConnect(conn, url.UserPassword(c.user, c.password), c.addr)
		if (err == nil) != (c.want != "") {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" && !strings.Contains(conn.told.String(), c.want) {
			t.Errorf("%s: the proxy is told %q", name, &conn.told)
		}
	}
}

// TestSOCKSReply: the answer of a SOCKS proxy is read with its address, and not one byte more; what
// is no success is an error.
func TestSOCKSReply(t *testing.T) {
	for name, c := range map[string]struct {
		says string
		ok   bool
	}{
		"IPv4":            {"\x05\x00\x00\x01abcd\x01\xbb", true},
		"IPv6":            {"\x05\x00\x00\x04abcdefghijklmnop\x01\xbb", true},
		"name":            {"\x05\x00\x00\x03\x04name\x01\xbb", true},
		"empty name":      {"\x05\x00\x00\x03\x00\x01\xbb", true},
		"no such address": {"\x05\x00\x00\x02abcd\x01\xbb", false},
		"refused":         {"\x05\x05\x00\x01abcd\x01\xbb", false},
		"unknown failure": {"\x05\x63\x00\x01abcd\x01\xbb", false},
		"another version": {"\x04\x00\x00\x01abcd\x01\xbb", false},
	} {
		conn := &scriptedConn{says: strings.NewReader(c.says + "rest")}
		err := socksReply(conn)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if rest, _ := io.ReadAll(conn.says); c.ok && string(rest) != "rest" {
			t.Errorf("%s: %q is left", name, rest)
		}
		for n := range len(c.says) {
			if err := socksReply(&scriptedConn{says: strings.NewReader(c.says[:n])}); err == nil {
				t.Errorf("%s: %d bytes of it are taken", name, n)
			}
		}
	}
}
