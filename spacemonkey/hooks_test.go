// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
	"sslctx/internal/ossltest"
)

// store holds sessions that several servers share.
type store struct {
	mu       sync.Mutex
	sessions map[string][]byte
	asked    int
}

func newStore() *store { return &store{sessions: map[string][]byte{}} }

func (st *store) put(_ *sslctx.Conn, s *sslctx.Session) {
	defer s.Close()
	der, err := s.Bytes()
	if err != nil {
		panic(err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sessions[string(s.ID())] = der
}

func (st *store) get(_ context.Context, id []byte) *sslctx.Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.asked++
	s, err := sslctx.ParseSession(st.sessions[string(id)])
	if err != nil {
		return nil
	}
	return s
}

func (st *store) has(s *sslctx.Session) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sessions[string(s.ID())] != nil
}

func (st *store) forget(s *sslctx.Session) {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.sessions, string(s.ID()))
}

func (st *store) asks() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.asked
}

func (st *store) len() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.sessions)
}

func (st *store) share(t *testing.T, theirs *openssl.Ctx) *sslctx.Context {
	c := ours(t, theirs)
	must(t, c.SetNewSessionCallback(st.put))
	must(t, c.SetGetSessionCallback(st.get))
	return c
}

// TestSharedCache resumes on one of their servers a session that another one made.
func TestSharedCache(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		first, second, client := newServer(t, v), newServer(t, v), newClient(t, v)
		st := newStore()
		st.share(t, first)
		cache := st.share(t, second)
		s, c := connect(t, first, client, nil)
		kept, mine := sessionOf(t, s), sessionOf(t, c)
		eventually(t, "the hook hears of the session", func() bool { return st.has(kept) })
		s, c = connect(t, second, client, mine)
		wantReused(t, s, c, true)
		if n := cache.CacheStats().CbHits; n != 1 {
			t.Errorf("%d hits of the hook", n)
		}
		st.forget(kept)
		s, c = connect(t, second, client, mine)
		wantReused(t, s, c, false)
		if n := st.asks(); n != 2 {
			t.Errorf("the hook was asked %d times", n)
		}

		// If the second server uses its cache, it gets a session of its own.
		second.SetSessionCacheMode(openssl.SessionCacheServer)
		live := kept // published, and it belongs to the other context
		must(t, cache.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return live }))
		s, c = connect(t, second, client, mine)
		wantReused(t, s, c, true)
		if _, err := cache.AddSession(live); !errors.Is(err, sslctx.ErrForeignContext) {
			t.Errorf("the hook's session belongs to the second: %v", err)
		}
		removed, err := cache.RemoveSession(live) // by its ID
		must(t, err)
		if !removed {
			t.Error("the second did not cache what it was given")
		}
		for name, answer := range map[string]*sslctx.Session{"nil": nil, "closed": {}} {
			must(t, cache.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return answer }))
			s, _ = connect(t, second, client, mine)
			if s.SessionReused() {
				t.Errorf("%s session resumes", name)
			}
		}
	})
}

// TestRemoveHook: the hook gets sessions that their server evicts, and sessions that we remove.
func TestRemoveHook(t *testing.T) {
	server, client := newServer(t, sslctx.VersionTLS12), newClient(t, sslctx.VersionTLS12)
	server.SetSessionCacheMode(openssl.SessionCacheServer)
	cache := ours(t, server)
	heard := make(chan *sslctx.Session, 16)
	must(t, cache.SetRemoveSessionCallback(func(s *sslctx.Session) { heard <- s }))
	server.SessSetCacheSize(2)
	for range 3 {
		s, _ := connect(t, server, client, nil)
		defer sessionOf(t, s).Close()
	}
	evicted := <-heard // by their handshake, on any goroutine
	defer evicted.Close()
	if evicted.IsResumable() {
		t.Error("not marked")
	}
	s, _ := connect(t, server, client, nil)
	kept := sessionOf(t, s)
	if _, err := cache.RemoveSession(kept); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hook hears of our removal", func() bool {
		got := <-heard
		defer got.Close()
		return got.Same(kept)
	})
}

// keys is a TicketKeyManager with one key.
type keys struct{ key *openssl.TicketKey }

func (k keys) New() *openssl.TicketKey     { return k.key }
func (k keys) Current() *openssl.TicketKey { return k.key }
func (k keys) Lookup(name openssl.TicketName) *openssl.TicketKey {
	if name != k.key.Name {
		return nil
	}
	return k.key
}
func (k keys) Expired(openssl.TicketName) bool     { return false }
func (k keys) ShouldRenew(openssl.TicketName) bool { return false }

// TestTheirCallbacksStay sets their callbacks, then all of ours that can be set, and checks that
// both are called.
func TestTheirCallbacksStay(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newServer(t, v), newClient(t, v)
		var names, verified atomic.Int32
		server.SetTLSExtServernameCallback(func(ssl *openssl.SSL) openssl.SSLTLSExtErr {
			if ssl.GetServername() == "localhost" {
				names.Add(1)
			}
			return openssl.SSLTLSExtErrOK
		})
		client.SetVerify(openssl.VerifyPeer, func(bool, *openssl.CertificateStoreCtx) bool {
			verified.Add(1)
			return true
		})
		server.ClearOptions(openssl.NoTicket)
		cipher, err := openssl.GetCipherByName("aes-256-cbc")
		must(t, err)
		digest, err := openssl.GetDigestByName("sha256")
		must(t, err)
		asked := &countingKeys{keys: keys{&openssl.TicketKey{
			Name: openssl.TicketName{1}, CipherKey: make([]byte, 32), HMACKey: make([]byte, 32), IV: make([]byte, 16),
		}}}
		server.SetTicketStore(&openssl.TicketStore{
			CipherCtx: openssl.TicketCipherCtx{Cipher: cipher}, DigestCtx: openssl.TicketDigestCtx{Digest: digest}, Keys: asked,
		})

		st := newStore()
		cache := st.share(t, server)
		must(t, cache.SetRemoveSessionCallback(func(*sslctx.Session) {}))
		must(t, ours(t, client).SetVerify(sslctx.VerifyPeer))
		for name, err := range map[string]error{
			"ticket keys": cache.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: sslctx.NewTicketKey()}),
			"none":        cache.SetTicketKeyRing(nil),
			"hello":       cache.SetClientHelloCallback(nil),
			"lookup":      cache.SetSessionLookup(nil),
		} {
			if !errors.Is(err, sslctx.ErrForeignCallback) {
				t.Errorf("%s: %v", name, err)
			}
		}

		s, c := pair(t, server, client)
		must(t, c.SetTlsExtHostName("localhost"))
		talk(t, s, c)
		mine := sessionOf(t, c)
		hangUp(s, c)
		s, c = connect(t, server, client, mine)
		wantReused(t, s, c, true)
		if names.Load() == 0 || verified.Load() == 0 || asked.current.Load() == 0 || asked.lookup.Load() != 1 {
			t.Errorf("called: names %d, verification %d, ticket keys %d and %d",
				names.Load(), verified.Load(), asked.current.Load(), asked.lookup.Load())
		}
		if v == sslctx.VersionTLS13 { // before, libssl does not report sessions in tickets
			eventually(t, "our hook hears of the session", func() bool { return st.len() > 0 })
		}
	})
}

type countingKeys struct {
	keys
	current, lookup atomic.Int32
}

func (k *countingKeys) Current() *openssl.TicketKey {
	k.current.Add(1)
	return k.keys.Current()
}

func (k *countingKeys) Lookup(name openssl.TicketName) *openssl.TicketKey {
	k.lookup.Add(1)
	return k.keys.Lookup(name)
}

// TestServerNameChangesCtx: when a connection changes to another Ctx, libssl says that it belongs
// to that one, but it uses the cache of the first. The session that the hook gets must work with
// both.
func TestServerNameChangesCtx(t *testing.T) {
	v := sslctx.VersionTLS12
	first, second, client := newServer(t, v), newServer(t, v), newClient(t, v)
	first.SetSessionCacheMode(openssl.SessionCacheServer)
	first.SetTLSExtServernameCallback(func(ssl *openssl.SSL) openssl.SSLTLSExtErr {
		ssl.SetSSLCtx(second)
		return openssl.SSLTLSExtErrOK
	})
	caches := []*sslctx.Context{ours(t, first), ours(t, second)}
	heard := make(chan *sslctx.Session, 1)
	for _, c := range caches {
		must(t, c.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { heard <- s }))
	}
	s, c := pair(t, first, client)
	must(t, c.SetTlsExtHostName("localhost"))
	talk(t, s, c)
	defer hangUp(s, c)
	told := <-heard
	defer told.Close()
	if n := caches[0].CacheStats().Number; n != 1 {
		t.Fatalf("the first caches %d", n)
	}
	must(t, told.SetIDContext(told.IDContext())) // fresh
	if added, err := caches[1].AddSession(told); err != nil || !added {
		t.Errorf("added %v, %v", added, err)
	}
	live := sessionOf(t, s)
	if live.Same(told) {
		t.Error("one object is in two caches")
	}
	if added, err := caches[0].AddSession(live); err != nil || added {
		t.Errorf("the session of the connection is not the one in the first's cache: %v, %v", added, err)
	}
}

// TestServerNameLeaksNothing: a session of a connection that changed to another Ctx is freed with
// its last owner.
func TestServerNameLeaksNothing(t *testing.T) {
	before := ossltest.LiveSessions()
	t.Run("", func(t *testing.T) {
		v := sslctx.VersionTLS12
		first, second, client := newServer(t, v), newServer(t, v), newClient(t, v)
		first.SetTLSExtServernameCallback(func(ssl *openssl.SSL) openssl.SSLTLSExtErr {
			ssl.SetSSLCtx(second)
			return openssl.SSLTLSExtErrOK
		})
		second.SetSessionCacheMode(openssl.SessionCacheServer)
		must(t, ours(t, first).SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { _ = s.Close() }))
		for range 20 {
			s, c := pair(t, first, client)
			must(t, c.SetTlsExtHostName("localhost"))
			talk(t, s, c)
			hangUp(s, c)
		}
	})
	if n := ossltest.CollectUntil(ossltest.LiveSessions, before); n > before {
		t.Errorf("%d sessions are alive, %d before", n, before)
	}
}

// TestOurConnOfTheirCtx makes connections of ours from their Ctx.
func TestOurConnOfTheirCtx(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newServer(t, v), newClient(t, v)
		st := newStore()
		cache := st.share(t, server)
		rawServer, rawClient := pipe(t)
		s, err := sslctx.Server(rawServer, cache)
		must(t, err)
		c, err := openssl.Client(rawClient, client)
		must(t, err)
		talk(t, s, c)
		mine := sessionOf(t, c)
		hangUp(s, c)
		if st.len() == 0 {
			t.Fatal("the hook was not called when libssl had returned")
		}
		theirs, c := connect(t, server, client, mine)
		wantReused(t, theirs, c, true)
	})
}

// TestHandshakeInsideACall: one of their callbacks, in the middle of a call of ours, makes a
// handshake of another server on the same thread. The hook of that server is not the hook of the
// call.
func TestHandshakeInsideACall(t *testing.T) {
	v := sslctx.VersionTLS12
	inner, innerClient := newServer(t, v), newClient(t, v)
	st := newStore()
	st.share(t, inner)
	client := newClient(t, v)
	var once sync.Once
	client.SetVerify(openssl.VerifyPeer, func(bool, *openssl.CertificateStoreCtx) bool {
		once.Do(func() {
			s, c := pair(t, inner, innerClient)
			defer hangUp(s, c)
			done := make(chan error, 1)
			go func() { done <- c.Handshake() }()
			if err := errors.Join(s.Handshake(), <-done); err != nil {
				t.Error(err)
			}
		})
		return true
	})
	rawServer, rawClient := pipe(t)
	s, err := openssl.Server(rawServer, newServer(t, v))
	must(t, err)
	c, err := sslctx.Client(rawClient, ours(t, client))
	must(t, err)
	must(t, c.AcceptAnyName())
	talk(t, s, c)
	hangUp(s, c)
	eventually(t, "the inner server's hook hears of its session", func() bool { return st.len() == 1 })
}
