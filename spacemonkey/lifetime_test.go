// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"weak"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/spacemonkey"
)

// wantAlive collects garbage and checks the number of C objects.
func wantAlive(t *testing.T, what string, count func() int, want int) {
	t.Helper()
	if got := ossltest.CollectUntil(count, want); got != want {
		t.Errorf("%d %s are alive, want %d", got, what, want)
	}
}

// TestLifetimes ends their objects and ours in either order, by Close and by collection.
func TestLifetimes(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		contexts := ossltest.CollectUntil(ossltest.LiveContexts, 0)
		sessions := ossltest.CollectUntil(ossltest.LiveSessions, 0)
		ssls := ossltest.CollectUntil(ossltest.LiveSSLs, 0)
		client := newClient(t, v)
		mine := func() *sslctx.Context { // theirs is dropped first
			server := newServer(t, v)
			c, err := spacemonkey.Context(server)
			must(t, err)
			s, cl := connectAndHangUp(t, server, client)
			kept, err := spacemonkey.Session(s)
			must(t, err)
			defer kept.Close()
			if _, err := c.AddSession(kept); err != nil {
				t.Fatal(err)
			}
			runtime.KeepAlive(cl)
			return c
		}()
		wantAlive(t, "SSL", ossltest.LiveSSLs, ssls)
		wantAlive(t, "SSL_CTX", ossltest.LiveContexts, contexts+2)
		wantAlive(t, "SSL_SESSION", ossltest.LiveSessions, sessions+1) // in the cache
		if n := mine.CacheStats().Number; n != 1 {
			t.Errorf("%d are cached", n)
		}
		must(t, mine.Close())
		wantAlive(t, "SSL_CTX", ossltest.LiveContexts, contexts+1)
		wantAlive(t, "SSL_SESSION", ossltest.LiveSessions, sessions)

		kept := func() *sslctx.Session { // ours is closed first, or dropped; a session outlives both
			server := newServer(t, v)
			for range 2 {
				c, err := spacemonkey.Context(server)
				must(t, err)
				s, err := sslctx.NewSession()
				must(t, err)
				if _, err := c.AddSession(s); err != nil {
					t.Fatal(err)
				}
				must(t, s.Close())
			}
			c, err := spacemonkey.Context(server)
			must(t, err)
			must(t, c.Close())
			s, _ := connectAndHangUp(t, server, client)
			kept, err := spacemonkey.Session(s)
			must(t, err)
			return kept
		}()
		wantAlive(t, "SSL", ossltest.LiveSSLs, ssls)
		wantAlive(t, "SSL_CTX", ossltest.LiveContexts, contexts+1)
		wantAlive(t, "SSL_SESSION", ossltest.LiveSessions, sessions+1)
		if kept.ProtocolVersion() != v {
			t.Errorf("the session is %v", kept)
		}
		must(t, kept.Close())
		wantAlive(t, "SSL_SESSION", ossltest.LiveSessions, sessions)
		runtime.KeepAlive(client)
	})
	wantAlive(t, "SSL_CTX", ossltest.LiveContexts, 0)
}

func connectAndHangUp(t *testing.T, server, client *openssl.Ctx) (s, c *openssl.Conn) {
	t.Helper()
	s, c = pair(t, server, client)
	talk(t, s, c)
	hangUp(c, s)
	return s, c
}

// TestClosedContextGetsNoEvents: callbacks stay in an SSL_CTX that is still in use, and must not
// collect events that nobody fetches.
func TestClosedContextGetsNoEvents(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		before := ossltest.CollectUntil(ossltest.LiveSessions, 0)
		server, client := newServer(t, v), newClient(t, v)
		var heard atomic.Int32
		for range 2 {
			c, err := spacemonkey.Context(server)
			must(t, err)
			must(t, c.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) { heard.Add(1) }))
			must(t, c.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { heard.Add(1); return nil }))
			must(t, c.Close())
		}
		var mine *sslctx.Session
		for range 3 {
			s, c := pair(t, server, client)
			must(t, spacemonkey.SetSession(c, mine))
			talk(t, s, c)
			got, err := spacemonkey.Session(c)
			must(t, err)
			_ = mine.Close()
			mine = got
			hangUp(c, s)
		}
		must(t, mine.Close())
		wantAlive(t, "SSL_SESSION", ossltest.LiveSessions, before)
		if n := heard.Load(); n != 0 {
			t.Errorf("hooks of a closed Context were called %d times", n)
		}

		c := ours(t, server)
		must(t, c.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) { heard.Add(1) }))
		connectAndHangUp(t, server, client)
		eventually(t, "a new Context hears", func() bool { return heard.Load() > 0 })
	})
}

// TestTheirCtxIsKept: their callbacks find their Ctx by a pointer in the SSL_CTX. Go's collector
// does not see that pointer.
func TestTheirCtxIsKept(t *testing.T) {
	var verified atomic.Int32
	newVerifier := func() (*sslctx.Context, weak.Pointer[openssl.Ctx]) {
		ctx := newClient(t, sslctx.VersionTLS12)
		ctx.SetVerify(openssl.VerifyPeer, func(bool, *openssl.CertificateStoreCtx) bool {
			verified.Add(1)
			return true
		})
		c, err := spacemonkey.Context(ctx)
		must(t, err)
		return c, weak.Make(ctx)
	}
	client, theirs := newVerifier()
	collect()
	if theirs.Value() == nil {
		t.Fatal("their Ctx was collected while a Context is open")
	}
	rawServer, rawClient := pipe(t)
	s, err := openssl.Server(rawServer, newServer(t, sslctx.VersionTLS12))
	must(t, err)
	c, err := sslctx.Client(rawClient, client)
	must(t, err)
	must(t, c.AcceptAnyName())
	must(t, client.Close()) // the Conn keeps it now
	collect()
	if theirs.Value() == nil {
		t.Fatal("their Ctx was collected while a Conn is reachable")
	}
	talk(t, s, c)
	hangUp(s, c)
	if verified.Load() == 0 {
		t.Error("their callback was not called")
	}
	runtime.KeepAlive(c)
	c = nil
	eventually(t, "their Ctx is collected when all is over", func() bool {
		runtime.GC()
		return theirs.Value() == nil
	})
	runtime.KeepAlive(client) // it is closed, and keeps nothing alive
}

func collect() {
	for range 3 {
		runtime.GC()
	}
}
