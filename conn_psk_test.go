// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sslctx"
)

const aes128 = 0x1301 // TLS_AES_128_GCM_SHA256

// bothShake runs both handshakes; the server's alert comes to a TLS 1.3 client with what it reads.
func bothShake(server, client *sslctx.Conn) (serverErr, clientErr error) {
	done := make(chan error, 1)
	go func() {
		err := server.Handshake()
		if err == nil {
			_, err = server.Write([]byte("x"))
		}
		done <- err
	}()
	_, clientErr = client.Read(make([]byte, 1))
	if clientErr != nil {
		_ = client.Close()
	}
	return <-done, clientErr
}

// TestPSK13: the key that both ends know takes the place of certificates, and stays its owner's.
func TestPSK13(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	s := pskSession(t, 0)
	e.withPSK(t, "Client\x00one", s, s)
	for range 2 { // it is no ticket: it can be used again
		server, client := e.join(t, nil)
		serverErr, clientErr := bothShake(server, client)
		if serverErr != nil || clientErr != nil {
			t.Fatal(serverErr, clientErr)
		}
		if !server.SessionReused() || !client.SessionReused() || client.Cipher().ID != aes128 {
			t.Errorf("%v, %v, %v", server.SessionReused(), client.SessionReused(), client.Cipher())
		}
		if certs := client.ConnectionState().PeerCertificates; len(certs) != 0 {
			t.Errorf("the server sent %d certificates", len(certs))
		}
		exchange(t, server, client)
		if sessionOf(t, client).Same(s) {
			t.Error("the connection has the hook's session itself")
		}
		must(t, client.Close())
		must(t, server.Close())
	}
	must(t, s.SetID([]byte("still fresh")))

	t.Run("another key", func(t *testing.T) {
		other := parseSession(t, pskDER(t, sslctx.VersionTLS13, aes128, make([]byte, 32), 0))
		e.withPSK(t, "one", s, other)
		serverErr, clientErr := bothShake(e.join(t, nil))
		if serverErr == nil || clientErr == nil {
			t.Error(serverErr, clientErr)
		}
	})
	t.Run("expired", func(t *testing.T) { // then it is the certificate's turn
		old := pskSession(t, 0)
		must(t, old.SetTime(time.Now().Add(-time.Hour)))
		e.withPSK(t, "one", old, old)
		server, client := e.join(t, nil)
		serverErr, clientErr := bothShake(server, client)
		if serverErr != nil || clientErr != nil || client.SessionReused() {
			t.Error(serverErr, clientErr, client.SessionReused())
		}
	})
	t.Run("another identity", func(t *testing.T) {
		e.withPSK(t, "one", nil, s)
		server, client := e.join(t, nil)
		serverErr, clientErr := bothShake(server, client)
		if serverErr != nil || clientErr != nil || client.SessionReused() {
			t.Error(serverErr, clientErr, client.SessionReused())
		}
	})
	t.Run("of connections that are made", func(t *testing.T) { // libssl copies them
		e.withPSK(t, "one", s, s)
		server, client := e.join(t, nil)
		must(t, e.server.SetPSKFindSessionCallback(nil))
		must(t, e.client.SetPSKUseSessionCallback(nil))
		if serverErr, clientErr := bothShake(server, client); serverErr != nil || clientErr != nil || !client.SessionReused() {
			t.Error(serverErr, clientErr)
		}
		server, client = e.join(t, nil)
		if serverErr, clientErr := bothShake(server, client); serverErr != nil || clientErr != nil || client.SessionReused() {
			t.Error(serverErr, clientErr)
		}
	})
}

// TestPSKDigest: after a request to try again the client is asked for a key with the hash of the
// cipher suite that the server chose.
func TestPSKDigest(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetGroups("P-384"))
	must(t, e.client.SetGroups("P-256:P-384"))
	for _, c := range []struct {
		cipher uint16
		suites string
		want   crypto.Hash
	}{
		{aes128, "TLS_AES_128_GCM_SHA256", crypto.SHA256},
		{0x1302, "TLS_AES_256_GCM_SHA384", crypto.SHA384},
	} {
		s := parseSession(t, pskDER(t, sslctx.VersionTLS13, c.cipher, pskKey, 0))
		var digests []crypto.Hash
		e.withPSK(t, "one", s, nil)
		must(t, e.server.SetCiphersuites(c.suites))
		must(t, e.client.SetPSKUseSessionCallback(func(_ context.Context, _ *sslctx.Conn, digest crypto.Hash) ([]byte, *sslctx.Session) {
			digests = append(digests, digest)
			return []byte("one"), s
		}))
		server, client := e.join(t, nil)
		serverErr, clientErr := bothShake(server, client)
		if serverErr != nil || clientErr != nil || !client.SessionReused() {
			t.Error(serverErr, clientErr)
		}
		if !slices.Equal(digests, []crypto.Hash{0, c.want}) {
			t.Errorf("the hook was asked for %v", digests)
		}
	}
}

// TestPSKRefused: what libssl would crash on, or take for a key, is refused with a reason.
func TestPSKRefused(t *testing.T) {
	noQueue(t)
	bare := newSession(t, "")
	must(t, bare.SetProtocolVersion(sslctx.VersionTLS13))
	closed := pskSession(t, 0)
	must(t, closed.Close())
	bad := map[string]struct {
		s    *sslctx.Session
		want error
	}{
		"no cipher":   {bare, sslctx.ErrBadPSK},
		"no version":  {newSession(t, ""), sslctx.ErrBadPSK},
		"TLS 1.2":     {parseSession(t, pskDER(t, sslctx.VersionTLS12, aes128, pskKey, 0)), sslctx.ErrBadPSK},
		"TLS 1.2's":   {parseSession(t, pskDER(t, sslctx.VersionTLS13, 0xc02b, pskKey, 0)), sslctx.ErrBadPSK},
		"no key":      {parseSession(t, pskDER(t, sslctx.VersionTLS13, aes128, nil, 0)), sslctx.ErrBadPSK},
		"closed":      {closed, sslctx.ErrClosed},
		"never made":  {new(sslctx.Session), sslctx.ErrClosed},
		"no identity": {nil, nil},
		"too long":    {nil, nil},
	}
	good := pskSession(t, 0)
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, sslctx.VersionTLS13)
			if c.s == nil {
				identity := map[string]string{"no identity": "", "too long": strings.Repeat("x", 40000)}[name]
				e.withPSK(t, identity, good, good)
				_, clientErr := bothShake(e.join(t, nil))
				wantArgument(t, clientErr, "identity")
				return
			}
			e.withPSK(t, "one", c.s, good)
			serverErr, clientErr := bothShake(e.join(t, nil))
			if !errors.Is(serverErr, c.want) || clientErr == nil {
				t.Errorf("the server's handshake is %v, the client's %v", serverErr, clientErr)
			}
			if e := (*sslctx.Error)(nil); !errors.As(serverErr, &e) {
				t.Errorf("the error does not have libssl's: %v", serverErr)
			}
			e.withPSK(t, "one", good, c.s)
			_, clientErr = bothShake(e.join(t, nil))
			if !errors.Is(clientErr, c.want) {
				t.Errorf("the client's handshake is %v", clientErr)
			}
		})
	}
}

// TestPSKEarlyData: a pre-shared key carries early data, and libssl lets a replay of it in; the
// hook that allows early data is who can tell.
func TestPSKEarlyData(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMaxEarlyData(100))
	s := pskSession(t, 50)
	e.withPSK(t, "one", s, s)
	for range 2 {
		server, client := e.join(t, nil)
		got := reading(server)
		_, err := client.WriteEarlyData(make([]byte, 51))
		wantArgument(t, err, "p")
		must(t, client.HandshakeWithEarlyData(context.Background(), []byte("early")))
		if read := <-got; read.err != nil || string(read.data) != "early" {
			t.Errorf("the server read %q, %v", read.data, read.err)
		}
		wantStatus(t, server, client, sslctx.EarlyDataAccepted)
	}
	seen := false
	must(t, e.server.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { defer func() { seen = true }(); return !seen }))
	for _, want := range []sslctx.EarlyDataStatus{sslctx.EarlyDataAccepted, sslctx.EarlyDataRejected} {
		server, client := e.join(t, nil)
		got := reading(server)
		must(t, client.HandshakeWithEarlyData(context.Background(), []byte("early")))
		must(t, (<-got).err)
		wantStatus(t, server, client, want)
	}

	e.withPSK(t, "one", s, pskSession(t, 0)) // the hook's key allows none
	server, client := e.join(t, nil)
	got := reading(server)
	if _, err := client.WriteEarlyData([]byte("x")); !errors.Is(err, sslctx.ErrNoEarlyData) {
		t.Errorf("WriteEarlyData is %v", err)
	}
	must(t, client.Handshake())
	must(t, (<-got).err)
	wantStatus(t, server, client, sslctx.EarlyDataNotSent)
	if !client.SessionReused() {
		t.Error("the key is not used")
	}
}

// TestPSKHookPanics: a panic comes out of the call that made libssl ask.
func TestPSKHookPanics(t *testing.T) {
	set := map[string]func(e ends) error{
		"find": func(e ends) error {
			return e.server.SetPSKFindSessionCallback(func(context.Context, *sslctx.Conn, []byte) *sslctx.Session { panic("find") })
		},
		"server": func(e ends) error {
			return e.server.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { panic("server") })
		},
		"use": func(e ends) error {
			return e.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) { panic("use") })
		},
		"client": func(e ends) error {
			return e.client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) { panic("client") })
		},
	}
	for name, set := range set {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, sslctx.VersionTLS13)
			e.withPSK(t, "one", nil, pskSession(t, 0))
			must(t, set(e))
			if name == "client" {
				must(t, e.client.SetPSKUseSessionCallback(nil))
			}
			server, client := e.join(t, nil)
			shaking, waiting := client, server
			if name == "find" || name == "server" {
				shaking, waiting = server, client
			}
			done := make(chan error, 1)
			go func() { done <- waiting.Handshake() }()
			func() {
				defer func() {
					if v := recover(); v != name {
						t.Errorf("Handshake panics with %v", v)
					}
				}()
				_ = shaking.Handshake()
				t.Error("Handshake comes back")
			}()
			must(t, shaking.Close())
			if err := <-done; err == nil {
				t.Error("the other end's handshake succeeds")
			}
		})
	}
}

// TestPSK12: PSK cipher suites of TLS 1.2, with a hint, and what the ends say of it.
func TestPSK12(t *testing.T) {
	noQueue(t)
	for _, v := range versions { // the same hooks give keys to TLS 1.3
		e := newEnds(t, v)
		for _, c := range []*sslctx.Context{e.server, e.client} {
			must(t, c.SetCipherList("PSK-AES128-GCM-SHA256"))
			must(t, c.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
		}
		must(t, e.server.UsePSKIdentityHint("who?"))
		var asked, hinted string
		must(t, e.server.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, identity string) []byte {
			asked = identity
			if identity != "me" && identity != "" {
				return nil
			}
			return pskKey
		}))
		use := func(identity string, key []byte) (server, client *sslctx.Conn, serverErr, clientErr error) {
			must(t, e.client.SetPSKClientCallback(func(_ context.Context, _ *sslctx.Conn, hint string) (string, []byte) {
				hinted = hint
				return identity, key
			}))
			server, client = e.join(t, nil)
			serverErr, clientErr = bothShake(server, client)
			return server, client, serverErr, clientErr
		}
		server, client, serverErr, clientErr := use("me", pskKey)
		if serverErr != nil || clientErr != nil || asked != "me" {
			t.Fatal(v, serverErr, clientErr, asked)
		}
		exchange(t, server, client)
		if v == sslctx.VersionTLS12 {
			if hinted != "who?" || client.PSKIdentityHint() != "who?" || server.PSKIdentity() != "me" || client.PSKIdentity() != "me" {
				t.Errorf("hint %q, %q, identity %q, %q", hinted, client.PSKIdentityHint(), server.PSKIdentity(), client.PSKIdentity())
			}
		} else if !client.SessionReused() || server.PSKIdentity() != "" {
			t.Errorf("%v, %q", client.SessionReused(), server.PSKIdentity())
		}
		longest := strings.Repeat("i", sslctx.MaxPSKIdentityLength-1)
		_, _, serverErr, clientErr = use(longest, pskKey)
		if asked != longest || v == sslctx.VersionTLS12 && (serverErr == nil || clientErr == nil) {
			t.Errorf("of %d bytes: %v, %v", len(asked), serverErr, clientErr)
		}
		if _, _, serverErr, clientErr = use("me", []byte("another")); serverErr == nil || clientErr == nil {
			t.Errorf("another key: %v, %v", serverErr, clientErr)
		}
		_, _, _, clientErr = use("me", nil)
		if (clientErr == nil) != (v == sslctx.VersionTLS13) { // which has certificates left
			t.Errorf("no key: %v", clientErr)
		}
		_, _, _, clientErr = use("me", make([]byte, sslctx.MaxPSKLength+1))
		wantArgument(t, clientErr, "key")
		for _, identity := range []string{longest + "i", "m\x00e"} {
			_, _, _, clientErr = use(identity, pskKey)
			wantArgument(t, clientErr, "identity")
		}
		asked = "nothing"
		_, _, serverErr, clientErr = use("", pskKey)
		if v == sslctx.VersionTLS13 {
			wantArgument(t, clientErr, "identity")
		} else if serverErr != nil || clientErr != nil || asked != "" { // RFC 4279 does not forbid it
			t.Errorf("the empty identity: the server is asked for %q, %v, %v", asked, serverErr, clientErr)
		}
		must(t, e.server.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return make([]byte, sslctx.MaxPSKLength+1) }))
		_, _, serverErr, _ = use("me", pskKey)
		wantArgument(t, serverErr, "key")
	}
	c := newContext(t, sslctx.TLSServerMethod)
	must(t, c.UsePSKIdentityHint(strings.Repeat("h", sslctx.MaxPSKIdentityLength)))
	must(t, c.UsePSKIdentityHint(""))
	wantArgument(t, c.UsePSKIdentityHint(strings.Repeat("h", sslctx.MaxPSKIdentityLength+1)), "hint")
	wantArgument(t, c.UsePSKIdentityHint("h\x00"), "hint")
}

// TestRenegotiationAfterPSK: a pre-shared key stands for its own handshake. A renegotiation that
// resumes a session of a client that was not verified fails.
func TestRenegotiationAfterPSK(t *testing.T) {
	if linked, _ := sslctx.LibraryVersions(); linked.Number >= 0x40000000 {
		t.Skip("a client of OpenSSL 4.0 cannot do this: SSL_set_session begins anew without TLSv1_2_client_method")
	}
	for _, verified := range []bool{true, false} {
		e := newEnds(t, sslctx.VersionTLS12)
		_, err := e.server.SetOptions(sslctx.OpAllowClientRenegotiation | sslctx.OpNoTicket)
		must(t, err)
		must(t, e.server.SetCipherList("ALL"))
		must(t, e.server.SetIDContext([]byte("test")))
		must(t, e.server.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return []byte("key") }))
		l := startClient(t, buildClient(t, "resume_again.c"))
		must(t, acceptRaw(t, l, e.server).Handshake())
		if verified {
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		}
		server := acceptRaw(t, l, e.server)
		must(t, server.Handshake())
		_, err = server.Read(make([]byte, 1))
		if (err == nil) == verified || err == nil && !server.SessionReused() {
			t.Errorf("verified: %v, %v, resumed: %v", verified, err, server.SessionReused())
		}
	}
}

// TestNoDheKex: a resumption without a new key exchange, where both ends allow it.
func TestNoDheKex(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	for _, c := range []*sslctx.Context{e.server, e.client} {
		_, err := c.SetOptions(sslctx.OpAllowNoDheKex | sslctx.OpPreferNoDheKex)
		must(t, err)
	}
	s := pskSession(t, 0)
	e.withPSK(t, "one", s, s)
	server, client := e.join(t, nil)
	serverErr, clientErr := bothShake(server, client)
	if serverErr != nil || clientErr != nil || !client.SessionReused() {
		t.Error(serverErr, clientErr)
	}
}
