// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// A field is bytes after their length, which takes n bytes and may be wrong.
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

// hello makes a record with a ClientHello that has a session ID and these extensions.
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

// identity makes a complete identity.
func identity(id []byte) []byte { return slices.Concat(vector(2, id), make([]byte, 4)) }

// helloServers has functions that set up servers which read the content of a ClientHello.
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

// hostileHellos has hellos by their defect, and whether a server looks for wholeID.
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

// TestHostileIdentities sends identities with wrong lengths to servers that look for sessions by
// them. An incomplete identity does not count.
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

// TestCloseBoundsTickets: a server reads slowly, and sends tickets without end, while its client
// closes.
func TestCloseBoundsTickets(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient | sslctx.SessCacheNoInternal)
	must(t, err)
	must(t, e.client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { s.Close() }))
	pair := testPair(t)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	must(t, e.client.TrustCertificates(pair.Cert))
	a, b := tcpPair(t)
	must(t, a.(*net.TCPConn).SetReadBuffer(4096))
	c, err := sslctx.Client(b, e.client)
	must(t, err)
	must(t, c.AcceptAnyName())
	var keyLog strings.Builder
	peer := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, KeyLogWriter: &keyLog})
	errs := make(chan error)
	go func() { errs <- peer.Handshake() }()
	must(t, c.Handshake())
	must(t, <-errs)
	f := newForger(t, keyLog.String(), "SERVER_TRAFFIC_SECRET_0")
	var tickets []byte // 700 of them in one record
	for i := range 700 {
		nst := []byte{4, 0, 0, 18, 0, 0, 14, 0, 0, 0, 0, 0, 1, byte(i), 0, 4}
		tickets = append(binary.BigEndian.AppendUint32(append(tickets, nst...), uint32(i)), 0, 0)
	}
	_, err = c.Write(make([]byte, 1_500_000))
	must(t, err)
	go func() { // it reads slowly: some of the client's bytes stay unacknowledged
		for range time.Tick(20 * time.Millisecond) {
			if _, err := a.Read(make([]byte, 2000)); err != nil {
				return
			}
		}
	}()
	sent := make(chan bool)
	go func() {
		for {
			if _, err := io.WriteString(a, f.seal(22, string(tickets), 0)); err != nil {
				close(sent)
				return
			}
		}
	}()
	before, worst := ossltest.LiveSessions(), 0
	done := make(chan error)
	go func() { done <- c.Close() }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(10 * time.Millisecond):
		}
		worst = max(worst, ossltest.LiveSessions())
	}
	a.Close()
	<-sent
	if worst > before+10_000 {
		t.Error("Close has no bound for what it keeps of the peer's tickets")
	}
}

// TestManyIdentities: hooks are called for only a few of the identities of a ClientHello.
func TestManyIdentities(t *testing.T) {
	noQueue(t)
	for _, test := range []struct{ identities, asked int }{{1, 1}, {5, 5}, {9000, 16}} {
		server, keys, tickets := newEnds(t, sslctx.VersionTLS13).server, 0, 0
		must(t, server.SetPSKFindSessionCallback(func(context.Context, *sslctx.Conn, []byte) *sslctx.Session {
			keys++
			return nil
		}))
		must(t, server.SetSessionTicketCallback(nil, func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn {
			tickets++
			return sslctx.TicketDefault
		}))
		s, err := sslctx.Server(&recorder{arrived: bytes.NewReader(manyIdentities(test.identities))}, server)
		must(t, err)
		if err := s.Handshake(); err == nil {
			t.Error("the handshake ends well")
		}
		if keys != test.asked || tickets != test.asked {
			t.Errorf("of %d identities the hook for keys is asked %d times, that for tickets %d", test.identities, keys, tickets)
		}
		must(t, s.Close())
	}
}

// manyIdentities makes a ClientHello with n identities of one byte, for keys of SHA-256.
func manyIdentities(n int) []byte {
	return offersIdentities(1, slices.Repeat(identity([]byte("x")), n), vector(1, make([]byte, 32)))
}

// namesSessions makes a ClientHello whose n identities have the length of session IDs, for keys of
// SHA-384.
func namesSessions(n int) []byte {
	var ids []byte
	for i := range n {
		ids = append(ids, identity(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)))...)
	}
	return offersIdentities(2, ids, vector(1, make([]byte, 48)))
}

// offersIdentities makes a ClientHello of TLS 1.3, in records, with one cipher suite, identities,
// and binders.
func offersIdentities(suite byte, ids, binders []byte) []byte {
	sup := extension(10, vector(2, []byte{0, 23}))
	sig := extension(13, vector(2, []byte{4, 3, 8, 4}))
	ks := extension(51, vector(2, []byte{0, 23}, vector(2, p256point)))
	psk := extension(extensionPSK, vector(2, ids), vector(2, binders))
	body := slices.Concat([]byte{3, 3}, make([]byte, 32), vector(1), vector(2, []byte{0x13, suite}), vector(1, []byte{0}),
		vector(2, sup, sig, ks, offersTLS13, kexModes, psk))
	msg := slices.Concat([]byte{1}, vector(3, body))
	var out []byte
	for len(msg) > 0 {
		k := min(len(msg), 16384)
		out = slices.Concat(out, []byte{22, 3, 1}, vector(2, msg[:k]))
		msg = msg[k:]
	}
	return out
}

var p256point = func() []byte {
	k, _ := ecdh.P256().GenerateKey(rand.Reader)
	return k.PublicKey().Bytes()
}()

// TestManySessionIDs: the hook for sessions is called for only a few of the identities of a
// ClientHello, and for none after the handshake's wait is over.
func TestManySessionIDs(t *testing.T) {
	noQueue(t)
	for name, wait := range map[string]time.Duration{"quick": 0, "slow": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			server := newEnds(t, sslctx.VersionTLS13).server
			_, err := server.SetOptions(sslctx.OpNoTicket)
			must(t, err)
			var asked atomic.Int32
			must(t, server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session {
				asked.Add(1)
				time.Sleep(wait)
				return nil
			}))
			s, err := sslctx.Server(&recorder{arrived: bytes.NewReader(namesSessions(1700))}, server)
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := s.HandshakeContext(ctx); err == nil {
				t.Error("the handshake ends well")
			}
			most := int32(16)
			if wait > 0 {
				most = 2
			}
			if n := asked.Load(); n == 0 || n > most {
				t.Errorf("the hook is asked %d times", n)
			}
			must(t, s.Close())
		})
	}
}

// TestSessionNamedOften: a client names the session that was looked up a hundred times, and the cipher suite does
// not fit it. Its certificate is verified once.
func TestSessionNamedOften(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	var verified atomic.Int32
	pool := x509.NewCertPool()
	pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error {
		verified.Add(1)
		return nil
	})
	e := newEnds(t, sslctx.VersionTLS13)
	other := newEnds(t, sslctx.VersionTLS13).server // which looks sessions up, and made none
	for _, server := range []*sslctx.Context{e.server, other} {
		must(t, errors.Join(server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert), server.SetIDContext([]byte("test")),
			server.TrustCertPool(pool), server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil })))
		must(t, server.SetMaxEarlyData(100))
	}
	must(t, e.client.UseCertificate(issue(t, "user", root, nil).TLSCertificate()))
	must(t, e.client.SetCiphersuites("TLS_AES_256_GCM_SHA384"))
	server, _ := e.connect(t, nil)
	made := sessionOf(t, server)
	must(t, other.SetSessionLookup(&sslctx.SessionLookup{Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { return made.Dup() }}))
	verified.Store(0)
	hello := offersIdentities(1, slices.Repeat(identity(made.ID()), 100), slices.Repeat(vector(1, make([]byte, 32)), 100))
	s, err := sslctx.Server(&recorder{arrived: bytes.NewReader(hello)}, other)
	must(t, err)
	if err := s.Handshake(); err == nil {
		t.Error("the handshake ends well")
	}
	if n := verified.Load(); n != 1 {
		t.Errorf("the certificate is verified %d times", n)
	}
	must(t, s.Close())
}

// TestHookSetInHello: the hook is set and removed while clients send their first ClientHello. A second
// one cannot ask for another name than the hook saw.
func TestHookSetInHello(t *testing.T) {
	admin, public := newEnds(t, sslctx.VersionTLS13).server, newEnds(t, sslctx.VersionTLS13).server
	must(t, admin.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, public.SetGroups("P-256"))                     // for which the client's first hello has no key
	must(t, public.SetSessionLookup(&sslctx.SessionLookup{ // so that the handshake is suspended in any case
		Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { return nil, nil }}))
	var asked atomic.Int32
	hook := func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
		if asked.Add(1); h.ServerName == "admin.example" {
			return admin, nil
		}
		return nil, nil
	}
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				must(t, errors.Join(public.SetClientHelloCallback(hook), public.SetClientHelloCallback(nil)))
			}
		}
	}()
	client := buildClient(t, "two_names.c")
	for range 40 {
		before := asked.Load()
		name, err := serveTwoNames(t, client, public, func(s *sslctx.Conn) error {
			_, err := s.Write([]byte("y"))
			return err
		}, "public.example", "admin.example")
		if err == nil && name == "admin.example" && asked.Load() > before {
			t.Error("a client for which the hook chose public.example is at admin.example")
		}
	}
	close(stop)
	<-done
}
