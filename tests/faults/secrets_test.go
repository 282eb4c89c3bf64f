// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// After sessions, connections and contexts are closed, and the program has cleared its own copies,
// no key of theirs is in the memory of the process. The tests read all memory.

// A needle is a secret to look for, in a masked form, so that the search does not find the needle
// itself.
type needle struct {
	name   string
	masked []byte // the secret, xor mask
	as     string // "", or the name of a hexadecimal form
}

const mask = 0x5c

func newNeedle(name string, secret []byte) needle {
	n := needle{name: name, masked: make([]byte, len(secret))}
	for i, b := range secret {
		n.masked[i] = b ^ mask
	}
	return n
}

// at reports whether b begins with the needle.
func (n needle) at(b []byte) bool {
	if len(b) < len(n.masked) {
		return false
	}
	for i, m := range n.masked {
		if b[i] != m^mask {
			return false
		}
	}
	return true
}

// text returns the needle in hexadecimal digits, as libssl writes them.
func (n needle) text(digits string) needle {
	t := needle{name: n.name, as: " in hexadecimal"}
	for _, m := range n.masked {
		b := m ^ mask
		t.masked = append(t.masked, digits[b>>4]^mask, digits[b&15]^mask)
	}
	return t
}

// forms returns the needle and its text forms.
func (n needle) forms() []needle {
	return []needle{n, n.text("0123456789abcdef"), n.text("0123456789ABCDEF")}
}

// searchMemory returns the needles that are in the writable memory of the process, and their
// places.
func searchMemory(t *testing.T, needles ...needle) (found []string) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this is not Linux")
	}
	tlstest.Must(t, err)
	mem, err := os.Open("/proc/self/mem")
	tlstest.Must(t, err)
	defer mem.Close()
	var all []needle
	first := [256][]int{}
	for _, n := range needles {
		for _, form := range n.forms() {
			b := form.masked[0] ^ mask
			first[b] = append(first[b], len(all))
			all = append(all, form)
		}
	}
	buf := searchBuffer[:]
	defer clear(buf)
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var perm string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perm); err != nil || perm[:2] != "rw" || strings.Contains(line, "[v") {
			continue
		}
		for at := from; at < to; at += int64(len(buf) - overlap) {
			part := buf[:min(int64(len(buf)), to-at)]
			if n, err := mem.ReadAt(part, at); err != nil {
				part = part[:n] // an unmapped page
			}
			for i := range part {
				for _, k := range first[part[i]] {
					where := at + int64(i)
					if all[k].at(part[i:]) && !isSearchBuffer(where) {
						found = append(found, fmt.Sprintf("%s%s at %#x: %s", all[k].name, all[k].as, where, strings.TrimSpace(line)))
					}
				}
			}
		}
	}
	return found
}

const overlap = 2048

var searchBuffer [1 << 20]byte

// isSearchBuffer reports whether an address is in the buffer of the search itself.
func isSearchBuffer(at int64) bool {
	from := int64(uintptr(unsafe.Pointer(&searchBuffer)))
	return at >= from && at < from+int64(len(searchBuffer))
}

// A secretUse uses a key. It returns the key as needles, and a function that closes all objects
// with the key.
type secretUse func(t *testing.T) (needles []needle, end func())

var secretUses = map[string]secretUse{
	"TLS 1.2": func(t *testing.T) ([]needle, func()) { return sessionsOf(t, sslctx.VersionTLS12, nil) },
	"TLS 1.3": func(t *testing.T) ([]needle, func()) { return sessionsOf(t, sslctx.VersionTLS13, nil) },
	"resumed": func(t *testing.T) ([]needle, func()) {
		return sessionsOf(t, sslctx.VersionTLS12, func(e tlstest.Ends) func() {
			server, client, closeConns := secretConns(t, e, nil)
			s, err := client.Session()
			tlstest.Must(t, err)
			_ = server
			closeConns()
			_, again, closeAgain := secretConns(t, e, s)
			if !again.SessionReused() {
				t.Error("not resumed")
			}
			return func() { closeAgain(); tlstest.Must(t, s.Close()) }
		})
	},
	"resumed by ID": func(t *testing.T) ([]needle, func()) {
		e := secretEnds(t, sslctx.VersionTLS12)
		withoutTickets(t, e)
		_, client, closeConns := secretConns(t, e, nil)
		s, err := client.Session()
		tlstest.Must(t, err)
		closeConns()
		_, again, closeAgain := secretConns(t, e, s)
		if !again.SessionReused() {
			t.Error("not resumed")
		}
		key := s.MasterKey()
		n := newNeedle("the key", key.Bytes())
		key.Clear()
		return []needle{n}, func() { closeAgain(); tlstest.Must(t, s.Close()); closeEnds(t, e) }
	},
	"a ticket and no ID": func(t *testing.T) ([]needle, func()) {
		e := secretEnds(t, sslctx.VersionTLS13)
		_, client, closeConns := secretConns(t, e, nil)
		of, err := client.Session()
		tlstest.Must(t, err)
		s, err := of.Dup()
		tlstest.Must(t, err)
		key := tlstest.RandomBytes(48)
		tlstest.Must(t, s.SetMasterKey(key))
		tlstest.Must(t, s.SetID(nil))
		n := newNeedle("the key", key)
		clear(key)
		tlstest.Must(t, of.Close())
		closeConns()
		a, _ := tlstest.Wire()
		offers, err := sslctx.Client(a, e.Client)
		tlstest.Must(t, err)
		tlstest.Must(t, offers.SetSession(s))
		return []needle{n}, func() {
			tlstest.Must(t, offers.Close())
			tlstest.Must(t, s.Close())
			closeEnds(t, e)
		}
	},
	"UseCertificate": func(t *testing.T) ([]needle, func()) {
		pair, err := tls.X509KeyPair(failingPair().Cert, failingPair().Key)
		tlstest.Must(t, err)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		tlstest.Must(t, err)
		pair.PrivateKey = other // is not the certificate's: libssl reads the PEM all the same
		der, err := x509.MarshalPKCS8PrivateKey(other)
		tlstest.Must(t, err)
		line := base64.StdEncoding.AppendEncode(nil, der[48:96]) // 64 characters
		n := newNeedle("a line of PEM", line)
		clear(der)
		clear(line)
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		tlstest.Must(t, err)
		if c.UseCertificate(pair) == nil {
			t.Error("the key is not the certificate's")
		}
		return []needle{n}, func() { tlstest.Must(t, c.Close()) }
	},
	"TLS 1.2 IDs": func(t *testing.T) ([]needle, func()) { return sessionsOf(t, sslctx.VersionTLS12, noTickets(t)) },
	"TLS 1.3 IDs": func(t *testing.T) ([]needle, func()) { return sessionsOf(t, sslctx.VersionTLS13, noTickets(t)) },
	"PSK": func(t *testing.T) ([]needle, func()) {
		key := tlstest.RandomBytes(32)
		n := newNeedle("the pre-shared key", key)
		e := secretEnds(t, sslctx.VersionTLS12)
		for _, c := range []*sslctx.Context{e.Server, e.Client} {
			tlstest.Must(t, c.SetCipherList("PSK-AES128-GCM-SHA256"))
		}
		tlstest.Must(t, e.Server.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return key }))
		tlstest.Must(t, e.Client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) { return "id", key }))
		_, client, closeConns := secretConns(t, e, nil)
		if client.PSKIdentity() != "id" {
			t.Error("the key is not used")
		}
		return []needle{n}, func() { closeConns(); closeEnds(t, e); clear(key) }
	},
	"SetMasterKey, Dup": func(t *testing.T) ([]needle, func()) {
		s, n := secretSession(t)
		d, err := s.Dup()
		tlstest.Must(t, err)
		return n, func() { tlstest.Must(t, s.Close()); tlstest.Must(t, d.Close()) }
	},
	"Bytes": func(t *testing.T) ([]needle, func()) {
		s, n := secretSession(t)
		der, err := s.Bytes()
		tlstest.Must(t, err)
		return n, func() { tlstest.Must(t, s.Close()); clear(der) }
	},
	"PEM": func(t *testing.T) ([]needle, func()) {
		s, n := secretSession(t)
		text, err := s.PEM()
		tlstest.Must(t, err)
		for _, line := range bytes.Split(text, []byte("\n"))[1:3] { // the key is in one of them
			n = append(n, newNeedle("a line of PEM", line))
		}
		return n, func() { tlstest.Must(t, s.Close()); clear(text) }
	},
	"Print": func(t *testing.T) ([]needle, func()) {
		s, n := secretSession(t)
		tlstest.Must(t, s.Print(io.Discard))
		tlstest.Must(t, s.PrintKeylog(io.Discard))
		return n, func() { tlstest.Must(t, s.Close()) }
	},
	"MasterKey": func(t *testing.T) ([]needle, func()) {
		s, n := secretSession(t)
		key := s.MasterKey()
		_ = fmt.Sprint(key, &key) + fmt.Sprintf("%v %x %+v", s, s, key)
		return n, func() { tlstest.Must(t, s.Close()); key.Clear() }
	},
	"ticket keys": func(t *testing.T) ([]needle, func()) {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		tlstest.Must(t, err)
		keys := tlstest.RandomBytes(sslctx.TicketKeySize)
		key, err := sslctx.ParseTicketKey(keys)
		tlstest.Must(t, err)
		tlstest.Must(t, c.SetTicketKeys(key))
		n := newNeedle("the ticket keys", keys[16:])
		got, err := c.TicketKeys()
		tlstest.Must(t, err)
		return []needle{n}, func() { tlstest.Must(t, c.Close()); clear(keys); key.Clear(); got.Clear() }
	},
	"ring": func(t *testing.T) ([]needle, func()) {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		tlstest.Must(t, err)
		one, b := sslctx.NewTicketKey(), tlstest.RandomBytes(sslctx.TicketKeySize)
		other, err := sslctx.ParseTicketKey(b)
		tlstest.Must(t, err)
		tlstest.Must(t, c.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: one, Old: []sslctx.TicketKey{other}}))
		first := one.Bytes()
		n := []needle{newNeedle("the first key", first[16:]), newNeedle("the second key", b[16:])}
		clear(first)
		clear(b)
		return n, func() { tlstest.Must(t, c.Close()); one.Clear(); other.Clear() }
	},
	"ring that is replaced": func(t *testing.T) ([]needle, func()) {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		tlstest.Must(t, err)
		key := sslctx.NewTicketKey()
		tlstest.Must(t, c.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: key}))
		b := key.Bytes()
		n := newNeedle("the key", b[16:])
		clear(b)
		return []needle{n}, func() {
			key.Clear()
			tlstest.Must(t, c.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: sslctx.NewTicketKey()}))
			t.Cleanup(func() { tlstest.Must(t, c.Close()) })
		}
	},
	"key log": func(t *testing.T) ([]needle, func()) {
		var n []needle
		var log keyLogOf = func(line []byte) {
			words := bytes.Fields(line)
			n = append(n, newNeedle(string(words[0]), words[2]))
		}
		e := secretEnds(t, sslctx.VersionTLS13)
		tlstest.Must(t, e.Client.SetKeyLogWriter(log))
		_, _, closeConns := secretConns(t, e, nil)
		closeConns()
		if len(n) < 4 {
			t.Errorf("%d lines", len(n))
		}
		return n, func() { closeEnds(t, e) }
	},
}

// keyLogOf is a writer that calls a function for each line, and keeps nothing.
type keyLogOf func(line []byte)

func (f keyLogOf) Write(p []byte) (int, error) { f(p); return len(p), nil }

// notKept has uses whose secrets nobody keeps: a search during the use cannot find them.
var notKept = map[string]bool{"key log": true, "UseCertificate": true}

// leftByLibssl has uses whose secrets libssl frees without a wipe. A server that makes a ticket
// encodes the session to encrypt it, and frees that by OPENSSL_free (construct_stateless_ticket in
// statem_srvr.c).
var leftByLibssl = map[string]bool{"TLS 1.2": true, "TLS 1.3": true, "resumed": true}

// TestSecretsAreWiped uses secrets, finds them, closes all objects with them, and then must not
// find them. It runs once as libssl is, with the exceptions of leftByLibssl. It runs once with all
// freed memory wiped: then a secret that is left comes from the binding.
//
// A copied key stays in the vector registers for a while. Code that saves these registers leaves
// the key on a stack. The kernel saves them for each signal by which Go interrupts a thread, and
// the dynamic linker at the first call of a function. The process of the test avoids both.
func TestSecretsAreWiped(t *testing.T) {
	if tlstest.Instrumented {
		t.Skip("a sanitizer's own memory is too large to look through")
	}
	const variable = "SSLCTX_TEST_SECRETS"
	if os.Getenv(variable) == "" {
		tlstest.RunAgain(t, variable, "GODEBUG=asyncpreemptoff=1", "LD_BIND_NOW=1")
		return
	}
	for name, use := range secretUses {
		t.Run(name, func(t *testing.T) {
			restore, ok := ossltest.WipeFreed()
			if ok {
				wantWiped(t, name, use)
			}
			restore()
			if !leftByLibssl[name] {
				wantWiped(t, name, use)
			}
		})
	}
}

func wantWiped(t *testing.T, name string, use secretUse) {
	t.Helper()
	needles, end := use(t)
	if found := searchMemory(t, needles...); len(found) == 0 && !notKept[name] {
		t.Error("it is not found while it is used: the search is wrong")
	}
	end()
	for range 3 {
		runtime.GC()
	}
	for _, where := range searchMemory(t, needles...) {
		t.Errorf("%s is left", where)
	}
}

func secretEnds(t *testing.T, v sslctx.Version) tlstest.Ends {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	tlstest.Must(t, err)
	client, err := sslctx.NewContext(sslctx.TLSClientMethod)
	tlstest.Must(t, err)
	tlstest.Must(t, server.UseKeyPair(failingPair().Cert, failingPair().Key))
	for _, c := range []*sslctx.Context{server, client} {
		tlstest.Must(t, c.SetMinProtoVersion(v))
		tlstest.Must(t, c.SetMaxProtoVersion(v))
	}
	return tlstest.Ends{Server: server, Client: client}
}

func closeEnds(t *testing.T, e tlstest.Ends) {
	tlstest.Must(t, e.Server.Close())
	tlstest.Must(t, e.Client.Close())
}

func noTickets(t *testing.T) func(e tlstest.Ends) func() {
	return func(e tlstest.Ends) func() { withoutTickets(t, e); return func() {} }
}

// secretConns makes a connection in memory, after its handshake.
func secretConns(t *testing.T, e tlstest.Ends, offer *sslctx.Session) (server, client *sslctx.Conn, end func()) {
	a, b := tlstest.Wire()
	server, err := sslctx.Server(a, e.Server)
	tlstest.Must(t, err)
	client, err = sslctx.Client(b, e.Client)
	tlstest.Must(t, err)
	tlstest.Must(t, client.AcceptAnyName())
	if offer != nil {
		tlstest.Must(t, client.SetSession(offer))
	}
	errs := make(chan error, 1)
	go func() { _, err := server.Write([]byte{1}); errs <- err }()
	_, err = client.Read(make([]byte, 1))
	tlstest.Must(t, err)
	tlstest.Must(t, <-errs)
	return server, client, func() { tlstest.Must(t, client.Close()); tlstest.Must(t, server.Close()) }
}

// sessionsOf makes a connection, and returns the keys of its two sessions.
func sessionsOf(t *testing.T, v sslctx.Version, more func(e tlstest.Ends) (end func())) ([]needle, func()) {
	e := secretEnds(t, v)
	end := func() {}
	if more != nil {
		end = more(e)
	}
	server, client, closeConns := secretConns(t, e, nil)
	var needles []needle
	for name, c := range map[string]*sslctx.Conn{"the server's key": server, "the client's key": client} {
		s, err := c.Session()
		tlstest.Must(t, err)
		key := s.MasterKey()
		needles = append(needles, newNeedle(name, key.Bytes()))
		key.Clear()
		tlstest.Must(t, s.Close())
	}
	return needles, func() { closeConns(); end(); closeEnds(t, e) }
}

// secretSession makes a session with its own key.
func secretSession(t *testing.T) (*sslctx.Session, []needle) {
	s := failingSession(t, "secret")
	key := tlstest.RandomBytes(48)
	tlstest.Must(t, s.SetMasterKey(key))
	n := newNeedle("the key", key)
	clear(key)
	return s, []needle{n}
}
