// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

const aes128 = 0x1301 // TLS_AES_128_GCM_SHA256

// handshakeBoth runs both handshakes. A TLS 1.3 client gets the server's alert by a Read.
func handshakeBoth(server, client *sslctx.Conn) (serverErr, clientErr error) {
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

// TestPSK13: a key that both ends know replaces certificates. The hook's caller still owns the
// key's session.
func TestPSK13(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	s := pskSession(t, 0)
	e.withPSK(t, "Client\x00one", s, s)
	for range 2 { // unlike a ticket, it can be used again
		server, client := e.join(t, nil)
		serverErr, clientErr := handshakeBoth(server, client)
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
		serverErr, clientErr := handshakeBoth(e.join(t, nil))
		if serverErr == nil || clientErr == nil {
			t.Error(serverErr, clientErr)
		}
	})
	t.Run("expired", func(t *testing.T) { // then the server shows its certificate
		old := pskSession(t, 0)
		must(t, old.SetTime(time.Now().Add(-time.Hour)))
		e.withPSK(t, "one", old, old)
		server, client := e.join(t, nil)
		serverErr, clientErr := handshakeBoth(server, client)
		if serverErr != nil || clientErr != nil || client.SessionReused() {
			t.Error(serverErr, clientErr, client.SessionReused())
		}
	})
	t.Run("another identity", func(t *testing.T) {
		e.withPSK(t, "one", nil, s)
		server, client := e.join(t, nil)
		serverErr, clientErr := handshakeBoth(server, client)
		if serverErr != nil || clientErr != nil || client.SessionReused() {
			t.Error(serverErr, clientErr, client.SessionReused())
		}
	})
	t.Run("of connections that are made", func(t *testing.T) { // libssl copies them
		e.withPSK(t, "one", s, s)
		server, client := e.join(t, nil)
		must(t, e.server.SetPSKFindSessionCallback(nil))
		must(t, e.client.SetPSKUseSessionCallback(nil))
		if serverErr, clientErr := handshakeBoth(server, client); serverErr != nil || clientErr != nil || !client.SessionReused() {
			t.Error(serverErr, clientErr)
		}
		server, client = e.join(t, nil)
		if serverErr, clientErr := handshakeBoth(server, client); serverErr != nil || clientErr != nil || client.SessionReused() {
			t.Error(serverErr, clientErr)
		}
	})
}

// TestPSKDigest: after a HelloRetryRequest the client's hook must give a key with the hash of the
// server's cipher suite.
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
		serverErr, clientErr := handshakeBoth(server, client)
		if serverErr != nil || clientErr != nil || !client.SessionReused() {
			t.Error(serverErr, clientErr)
		}
		if !slices.Equal(digests, []crypto.Hash{0, c.want}) {
			t.Errorf("the hook was asked for %v", digests)
		}
	}
}

// TestPSKRefused: a value that would crash libssl, or that it would take for a key, is refused with
// a reason.
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
				_, clientErr := handshakeBoth(e.join(t, nil))
				wantArgument(t, clientErr, "identity")
				return
			}
			e.withPSK(t, "one", c.s, good)
			serverErr, clientErr := handshakeBoth(e.join(t, nil))
			if !errors.Is(serverErr, c.want) || clientErr == nil {
				t.Errorf("the server's handshake is %v, the client's %v", serverErr, clientErr)
			}
			if e := (*sslctx.Error)(nil); !errors.As(serverErr, &e) {
				t.Errorf("the error does not have libssl's: %v", serverErr)
			}
			e.withPSK(t, "one", good, c.s)
			_, clientErr = handshakeBoth(e.join(t, nil))
			if !errors.Is(clientErr, c.want) {
				t.Errorf("the client's handshake is %v", clientErr)
			}
		})
	}
}

// TestPSKEarlyData: early data works with a pre-shared key, and libssl accepts a replay. Only the
// hook that allows early data can detect that.
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

// TestPSKOfVerifyingServer: a client that has the pre-shared key of a hook needs no certificate,
// where all others do.
func TestPSKOfVerifyingServer(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
	must(t, e.server.SetIDContext([]byte("id")))
	serverErr, _ := handshakeBoth(e.join(t, nil))
	wantReason(t, serverErr, sslctx.ReasonPeerDidNotReturnACertificate)
	key := pskSession(t, 0)
	must(t, key.SetIDContext([]byte("id")))
	e.withPSK(t, "one", key, pskSession(t, 0))
	server, client := e.join(t, nil)
	serverErr, clientErr := handshakeBoth(server, client)
	must(t, errors.Join(serverErr, clientErr))
	if !server.SessionReused() {
		t.Error("the key is not used")
	}
}

// TestPSKNotUsed: a key that a client was given for early data is given back when there is no
// handshake.
func TestPSKNotUsed(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	key := pskSession(t, 0) // allows no early data
	e.withPSK(t, "one", key, key)
	alive := ossltest.LiveSessions()
	_, client := e.join(t, nil)
	if _, err := client.WriteEarlyData([]byte("x")); !errors.Is(err, sslctx.ErrNoEarlyData) {
		t.Errorf("WriteEarlyData is %v", err)
	}
	must(t, client.Abort())
	if n := ossltest.LiveSessions(); n > alive {
		t.Errorf("%d sessions are alive, want %d", n, alive)
	}
}

// TestPSKHookPanics: the panic of a hook reaches the caller of the call into libssl.
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

// TestPSK12: PSK cipher suites of TLS 1.2 with a hint, and the identity that the ends report.
func TestPSK12(t *testing.T) {
	noQueue(t)
	for _, v := range versions { // TLS 1.3 uses the same hooks
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
			serverErr, clientErr = handshakeBoth(server, client)
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
		if (clientErr == nil) != (v == sslctx.VersionTLS13) { // TLS 1.3 can still use certificates
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
	serverErr, clientErr := handshakeBoth(server, client)
	if serverErr != nil || clientErr != nil || !client.SessionReused() {
		t.Error(serverErr, clientErr)
	}
}

// sealTicket makes the ticket of a session, as libssl does with the key.
func sealTicket(t *testing.T, key sslctx.TicketKey, s *sslctx.Session) []byte {
	t.Helper()
	der, err := s.Bytes()
	must(t, err)
	k := key.Bytes()
	block, err := aes.NewCipher(k[48:])
	must(t, err)
	iv := make([]byte, aes.BlockSize)
	padding := aes.BlockSize - len(der)%aes.BlockSize
	der = append(der, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(der, der)
	ticket := slices.Concat(k[:16], iv, der)
	mac := hmac.New(sha256.New, k[16:48])
	mac.Write(ticket)
	return mac.Sum(ticket)
}

// bind writes the last binder of a ClientHello in one record, of SHA-384 (RFC 8446, 4.2.11.2).
func bind(t *testing.T, hello, psk []byte, label string, binders int) {
	t.Helper()
	sum := func(b []byte) []byte { h := sha512.Sum384(b); return h[:] }
	expand := func(secret []byte, label string, content []byte) []byte {
		info := slices.Concat([]byte{0, 48}, vector(1, []byte("tls13 "+label)), vector(1, content))
		out, err := hkdf.Expand(sha512.New384, secret, string(info), 48)
		must(t, err)
		return out
	}
	early, err := hkdf.Extract(sha512.New384, psk, make([]byte, 48))
	must(t, err)
	mac := hmac.New(sha512.New384, expand(expand(early, label, sum(nil)), "finished", nil))
	mac.Write(sum(hello[5 : len(hello)-binders]))
	copy(hello[len(hello)-48:], mac.Sum(nil))
}

// TestTicketBehindPSK: a client names a pre-shared key that the server knows, and whose secret it
// lacks, before a ticket. The server does not take the ticket's session for the key: it refuses the
// session, whose certificate was found bad.
func TestTicketBehindPSK(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	e := verifyingStore(t, sslctx.VersionTLS13, root)
	for _, c := range []*sslctx.Context{e.server, e.client} {
		must(t, c.SetCiphersuites("TLS_AES_256_GCM_SHA384"))
	}
	_, err := e.server.ClearOptions(sslctx.OpNoTicket)
	must(t, err)
	key := sslctx.NewTicketKey()
	must(t, e.server.SetTicketKeys(key))
	var kept *sslctx.Session
	must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { kept = s }))
	e.connect(t, nil)
	must(t, e.server.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, identity string) []byte {
		if identity == "known" {
			return []byte("a secret that the client does not know")
		}
		return nil
	}))
	issuerMissing := []byte{2, 1, 20}
	for name, session := range map[string]*sslctx.Session{
		"good": storedAs(t, kept, nil), "bad": storedAs(t, kept, map[int][]byte{fieldVerifyResult: issuerMissing}),
	} {
		for _, behind := range []bool{false, true} {
			ids, binders, label := identity(sealTicket(t, key, session)), vector(1, make([]byte, 48)), "res binder"
			if behind { // libssl then takes the ticket for an external key, too
				ids, binders, label = slices.Concat(identity([]byte("known")), ids), slices.Concat(binders, binders), "ext binder"
			}
			hello := offersIdentities(2, ids, binders)
			bind(t, hello, kept.MasterKey().Bytes(), label, 2+len(binders))
			server, err := sslctx.Server(&recorder{arrived: bytes.NewReader(hello)}, e.server)
			must(t, err)
			err = server.Handshake()
			if refused := errors.Is(err, sslctx.ErrUnverifiedSession); refused != (name == "bad") {
				t.Errorf("the ticket of a %s session, behind a key (%v): %v", name, behind, err)
			}
			_ = server.Close()
		}
	}
}

// A badCause is the cause of a context. It panics when it is compared.
type badCause struct{}

func (badCause) Error() string { return "bad" }
func (badCause) Is(error) bool { panic("compared") }

// TestCauseIsNotAsked: the context of a handshake ends while libssl waits for a hook. Its cause may
// have methods: they do not run there.
func TestCauseIsNotAsked(t *testing.T) {
	noQueue(t)
	for name, set := range map[string]func(c *sslctx.Context, wait func(context.Context)) error{
		"key": func(c *sslctx.Context, wait func(context.Context)) error {
			return c.SetPSKFindSessionCallback(func(ctx context.Context, _ *sslctx.Conn, _ []byte) *sslctx.Session { wait(ctx); return nil })
		},
		"ticket": func(c *sslctx.Context, wait func(context.Context)) error {
			return c.SetSessionTicketCallback(nil, func(ctx context.Context, _ sslctx.SessionTicket) sslctx.TicketReturn {
				wait(ctx)
				return sslctx.TicketDefault
			})
		},
	} {
		e := newEnds(t, sslctx.VersionTLS13)
		offer := e.session(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		over := make(chan struct{})
		must(t, set(e.server, func(context.Context) {
			cancel(badCause{})
			<-over
		}))
		server, client := e.join(t, offer)
		done := make(chan error, 1)
		go func() { done <- client.Handshake() }()
		var err error
		v := recovers(func() { err = server.HandshakeContext(ctx) })
		close(over)
		if v != nil || err != context.Canceled {
			t.Errorf("%s: HandshakeContext returns %v, and panics with %v", name, err, v)
		}
		must(t, server.Close())
		<-done
	}
}
