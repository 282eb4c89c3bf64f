// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey_test

import (
	"net"
	"testing"
	"time"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
	"sslctx/spacemonkey"
)

// TestMain checks that no test leaves a C object alive, of theirs or of ours.
func TestMain(m *testing.M) { tlstest.Main(m, nil) }

var must = tlstest.Must

var versions = map[string]sslctx.Version{"TLS1.2": sslctx.VersionTLS12, "TLS1.3": sslctx.VersionTLS13}

// perVersion runs a test with each version.
func perVersion(t *testing.T, test func(*testing.T, sslctx.Version)) {
	for name, v := range versions {
		t.Run(name, func(t *testing.T) { test(t, v) })
	}
}

// ours returns our Context of their Ctx. It is open until the test ends.
func ours(t testing.TB, theirs *openssl.Ctx) *sslctx.Context {
	t.Helper()
	c, err := spacemonkey.Context(theirs)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// newServer makes a Ctx with a certificate, sessions with IDs, and a cache that holds only added
// sessions.
func newServer(t testing.TB, v sslctx.Version) *openssl.Ctx {
	t.Helper()
	pair, err := testcert.New()
	must(t, err)
	cert, err := openssl.LoadCertificateFromPEM(pair.Cert)
	must(t, err)
	key, err := openssl.LoadPrivateKeyFromPEM(pair.Key)
	must(t, err)
	ctx := newClient(t, v)
	ctx.SetOptions(openssl.NoTicket)
	ctx.SetSessionCacheMode(openssl.SessionCacheServer | openssl.NoInternalStore)
	must(t, ctx.SetSessionId([]byte("test")))
	must(t, ctx.UseCertificate(cert))
	must(t, ctx.UsePrivateKey(key))
	return ctx
}

func newClient(t testing.TB, v sslctx.Version) *openssl.Ctx {
	t.Helper()
	ctx, err := openssl.NewCtx()
	must(t, err)
	c, err := spacemonkey.Context(ctx)
	must(t, err)
	defer c.Close()
	must(t, c.SetMaxProtoVersion(v))
	return ctx
}

// pipe is two ends of a TCP connection.
func pipe(t testing.TB) (server, client net.Conn) {
	t.Helper()
	server, client = tlstest.TCPPair(t)
	for _, c := range []net.Conn{server, client} {
		must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	}
	return server, client
}

// pair makes one of their servers and one of their clients, before the handshake.
func pair(t testing.TB, server, client *openssl.Ctx) (s, c *openssl.Conn) {
	t.Helper()
	rawServer, rawClient := pipe(t)
	s, err := openssl.Server(rawServer, server)
	must(t, err)
	c, err = openssl.Client(rawClient, client)
	must(t, err)
	return s, c
}

// talk makes the handshake and sends a byte each way, so that the client reads the server's
// tickets.
func talk(t testing.TB, s, c net.Conn) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		if err == nil {
			_, err = s.Write([]byte("s"))
		}
		done <- err
	}()
	_, err := c.Write([]byte("c"))
	must(t, err)
	_, err = c.Read(make([]byte, 1))
	must(t, err)
	must(t, <-done)
}

// connect makes a connection. The client offers the session offered, or none.
func connect(t testing.TB, server, client *openssl.Ctx, offered *sslctx.Session) (s, c *openssl.Conn) {
	t.Helper()
	s, c = pair(t, server, client)
	must(t, spacemonkey.SetSession(c, offered))
	talk(t, s, c)
	t.Cleanup(func() { hangUp(s, c) })
	return s, c
}

func hangUp(conns ...net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

func sessionOf(t testing.TB, c *openssl.Conn) *sslctx.Session {
	t.Helper()
	s, err := spacemonkey.Session(c)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// wantReused fails the test unless both ends report want.
func wantReused(t testing.TB, s, c *openssl.Conn, want bool) {
	t.Helper()
	if s.SessionReused() != want || c.SessionReused() != want {
		t.Errorf("resumed: server %v, client %v, want %v", s.SessionReused(), c.SessionReused(), want)
	}
}

// eventually waits until is returns true, which another goroutine causes.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
