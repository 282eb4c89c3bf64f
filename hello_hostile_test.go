// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
)

// A field is bytes after their length, which takes n bytes and may be a lie.
func field(n, length int, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(length))[4-n:], b...)
}

func vector(n int, b ...[]byte) []byte {
	all := bytes.Join(b, nil)
	return field(n, len(all), all)
}

func extension(kind int, content ...[]byte) []byte {
	return slices.Concat(binary.BigEndian.AppendUint16(nil, uint16(kind)), vector(2, content...))
}

// hello is a record with a ClientHello that has a session ID and these extensions.
func hello(id []byte, extensions ...[]byte) []byte {
	body := slices.Concat([]byte{3, 3}, make([]byte, 32), vector(1, id), vector(2, []byte{0x13, 1, 0xc0, 0x2b}), vector(1, []byte{0}),
		vector(2, extensions...))
	return slices.Concat([]byte{22, 3, 1}, vector(2, []byte{1}, vector(3, body)))
}

const (
	extensionTicket   = 35
	extensionPSK      = 41
	extensionVersions = 43
	extensionKexModes = 45
)

var (
	offersTLS13 = extension(extensionVersions, vector(1, []byte{3, 4}))
	kexModes    = extension(extensionKexModes, vector(1, []byte{1}))
	wholeID     = bytes.Repeat([]byte{7}, 32)
)

// psk is the extension with one field of identities, and binders.
func psk(identities []byte) []byte {
	return extension(extensionPSK, identities, vector(2, vector(1, make([]byte, 32))))
}

// identity is a whole one.
func identity(id []byte) []byte { return slices.Concat(vector(2, id), make([]byte, 4)) }

// helloServers are servers that read more of a ClientHello than its form, by what makes them.
var helloServers = map[string]func(c *sslctx.Context, looked func([]byte)) error{
	"stateful tickets": func(c *sslctx.Context, looked func([]byte)) error {
		_, err := c.SetOptions(sslctx.OpNoTicket)
		return firstError(err, setLookup(c, looked))
	},
	"early data": func(c *sslctx.Context, looked func([]byte)) error {
		return firstError(c.SetMaxEarlyData(1000), setLookup(c, looked))
	},
	"no internal lookup": func(c *sslctx.Context, looked func([]byte)) error {
		_, err := c.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal)
		return firstError(err, c.SetMaxEarlyData(1000), setLookup(c, looked))
	},
	"every hook": func(c *sslctx.Context, looked func([]byte)) error {
		_, err := c.SetOptions(sslctx.OpNoTicket)
		return firstError(err, setLookup(c, looked),
			c.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return nil }),
			c.SetPSKFindSessionCallback(func(context.Context, *sslctx.Conn, []byte) *sslctx.Session { return nil }),
			c.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return nil }),
			c.SetSessionTicketCallback(nil, func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn { return sslctx.TicketDefault }),
			c.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
				_ = fmt.Sprint(h)
				return nil, nil
			}))
	},
}

func setLookup(c *sslctx.Context, looked func([]byte)) error {
	return c.SetSessionLookup(&sslctx.SessionLookup{Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
		looked(q.ID)
		return nil, nil
	}})
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

var wholeIdentity = identity(wholeID)

// hostileHellos are by what is wrong with them, and whether a server looks for wholeID.
var hostileHellos = map[string]struct {
	hello []byte
	looks bool
}{
	"whole":                         {hello(nil, offersTLS13, kexModes, psk(vector(2, wholeIdentity))), true},
	"several":                       {hello(nil, offersTLS13, kexModes, psk(vector(2, wholeIdentity, identity([]byte("x")), wholeIdentity))), true},
	"the first one short":           {hello(nil, offersTLS13, kexModes, psk(vector(2, identity([]byte("x")), wholeIdentity))), false},
	"no identities":                 {hello(nil, offersTLS13, kexModes, psk(vector(2))), false},
	"nothing":                       {hello(nil, offersTLS13, kexModes, extension(extensionPSK)), false},
	"one byte":                      {hello(nil, offersTLS13, extension(extensionPSK, []byte{0})), false},
	"a length alone":                {hello(nil, offersTLS13, extension(extensionPSK, []byte{0, 38})), false},
	"half of a second length":       {hello(nil, offersTLS13, extension(extensionPSK, []byte{0, 38, 0})), false},
	"32 bytes that are not there":   {hello(nil, offersTLS13, extension(extensionPSK, []byte{0, 38, 0, 32})), false},
	"4 bytes of 32":                 {hello(nil, offersTLS13, extension(extensionPSK, []byte{0, 38, 0, 32, 1, 2, 3, 4})), false},
	"31 bytes of 32":                {hello(nil, offersTLS13, extension(extensionPSK, []byte{0, 38, 0, 32}, wholeID[:31])), false},
	"more than its list":            {hello(nil, offersTLS13, psk(field(2, 20, wholeIdentity))), false},
	"a list longer than the rest":   {hello(nil, offersTLS13, psk(field(2, 65535, wholeIdentity))), false},
	"65535 bytes":                   {hello(nil, offersTLS13, psk(vector(2, field(2, 65535, wholeIdentity)))), false},
	"33 bytes":                      {hello(nil, offersTLS13, kexModes, psk(vector(2, identity(append(wholeID[:32:32], 0))))), false},
	"not the last extension":        {hello(nil, psk(vector(2, wholeIdentity)), kexModes, offersTLS13), false},
	"versions without an end":       {hello(nil, extension(extensionVersions, []byte{200, 3, 4}), psk(vector(2, wholeIdentity))), false},
	"versions of one byte":          {hello(nil, extension(extensionVersions, []byte{1, 3}), psk(vector(2, wholeIdentity))), false},
	"TLS 1.2 and an ID":             {hello(wholeID), true},
	"TLS 1.2 and an empty ID":       {hello(nil), false},
	"TLS 1.2, an identity, no ID":   {hello(nil, psk(vector(2, wholeIdentity))), false},
	"an ID of TLS 1.3's":            {hello(wholeID, offersTLS13), false},
	"an ID that is a lie":           {append([]byte{22, 3, 1, 0, 43, 1, 0, 0, 39, 3, 3}, append(make([]byte, 32), 32, 1, 2, 3, 4)...), false},
	"a ticket that is not there":    {hello(wholeID, []byte{0, extensionTicket, 1, 0}), false},
	"extensions without a length":   {hello(nil, []byte{0, extensionPSK}), false},
	"extensions that end too early": {hello(nil, []byte{0, extensionPSK, 0, 8, 0, 38}), false},
}

// TestHostileIdentities sends identities whose lengths are lies, to servers that look for sessions by them. An identity that
// is not there as a whole is none.
func TestHostileIdentities(t *testing.T) {
	for name, c := range hostileHellos {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for by, set := range helloServers {
				server := newEnds(t, sslctx.VersionTLS13).server
				must(t, server.SetMinProtoVersion(sslctx.VersionTLS12))
				var looked [][]byte
				must(t, set(server, func(id []byte) { looked = append(looked, id) }))
				s, err := sslctx.Server(&recorder{arrived: bytes.NewReader(c.hello)}, server)
				must(t, err)
				if err := s.Handshake(); err == nil {
					t.Error("one flight completes a handshake")
				}
				must(t, s.Close())
				if c.looks != (len(looked) == 1 && bytes.Equal(looked[0], wholeID)) || !c.looks && len(looked) > 0 {
					t.Errorf("%s: looked for %x", by, looked)
				}
				if e := ossltest.PeekError(); e != 0 {
					t.Errorf("%s: the error queue holds %#x", by, e)
				}
			}
		})
	}
}
