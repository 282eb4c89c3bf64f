// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// reconnect makes a connection, and a second one that offers the first one's session.
func (e ends) reconnect(t *testing.T) (reused bool) {
	t.Helper()
	server, client := e.connect(t, nil)
	offer := sessionOf(t, client)
	must(t, errors.Join(client.Close(), server.Close()))
	server, client = e.connect(t, offer)
	defer func() { must(t, errors.Join(client.Close(), server.Close())) }()
	if server.SessionReused() != client.SessionReused() {
		t.Error("the ends disagree")
	}
	return client.SessionReused()
}

// TestGetSessionCallback resumes from a store, by the hook that libssl calls and by the lookup.
func TestGetSessionCallback(t *testing.T) {
	ways := map[string]func(*sslctx.Context, func(id []byte) *sslctx.Session) error{
		"get": func(c *sslctx.Context, get func(id []byte) *sslctx.Session) error {
			return c.SetGetSessionCallback(func(_ context.Context, id []byte) *sslctx.Session { return get(id) })
		},
		"lookup": func(c *sslctx.Context, get func(id []byte) *sslctx.Session) error {
			return c.SetSessionLookup(&sslctx.SessionLookup{
				Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) { return get(q.ID), nil },
			})
		},
	}
	for way, set := range ways {
		t.Run(way, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				var outside store
				e := newEnds(t, v)
				outside.Fill(t, e.server)
				if e.reconnect(t) {
					t.Fatal("resumed from no cache")
				}
				must(t, set(e.server, func(id []byte) *sslctx.Session { return outside.Get(t, id) }))
				if !e.reconnect(t) {
					t.Error("not resumed from the store")
				}
				if s := e.server.CacheStats(); s.CbHits != 1 || s.Hits != 1 || s.Number != 0 || outside.Asked() != 1 {
					t.Errorf("asked %d times, %+v", outside.Asked(), s)
				}
				outside.Clear()
				must(t, set(e.server, func([]byte) *sslctx.Session { return nil }))
				if e.reconnect(t) {
					t.Error("resumed from an empty store")
				}
				must(t, e.server.SetGetSessionCallback(nil))
				must(t, e.server.SetSessionLookup(nil))
				if e.reconnect(t) {
					t.Error("resumed after the hook is gone")
				}
			})
		})
	}
}

// TestGetSessionAnswers: the hook returns sessions that libssl must not get as they are.
func TestGetSessionAnswers(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	server, client := e.connect(t, nil)
	offer, own := sessionOf(t, client), sessionOf(t, server)
	must(t, errors.Join(client.Close(), server.Close()))
	published, foreign := dupOf(t, own), dupOf(t, own)
	other := newContext(t, sslctx.TLSMethod)
	add(t, other, foreign)
	_, err = e.server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalLookup)
	must(t, err)
	must(t, e.server.FlushSessions(time.Time{})) // own has the same ID
	add(t, e.server, published)
	for name, answered := range map[string]*sslctx.Session{"published": published, "foreign": foreign} {
		must(t, e.server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return answered }))
		server, client := e.connect(t, offer)
		if !client.SessionReused() || sessionOf(t, server).Same(answered) {
			t.Errorf("%s: resumed is %v", name, client.SessionReused())
		}
		must(t, errors.Join(client.Close(), server.Close()))
	}
	if n := other.CacheStats().Number; n != 1 {
		t.Errorf("the foreign session is not where it was: %d", n)
	}
}

// TestLookupKeepsFound: a session that the lookup found stays its own, and fresh, or of the context
// that it belongs to, also where libssl caches what it resumes.
func TestLookupKeepsFound(t *testing.T) {
	noQueue(t)
	elsewhere := newContext(t, sslctx.TLSMethod)
	for name, row := range map[string]struct {
		other *sslctx.Context
		mode  sslctx.CacheMode
	}{
		"fresh":                      {nil, sslctx.SessCacheServer},
		"of another context":         {elsewhere, sslctx.SessCacheServer},
		"fresh, not cached":          {nil, sslctx.SessCacheServer | sslctx.SessCacheNoInternalStore},
		"of another one, not cached": {elsewhere, sslctx.SessCacheServer | sslctx.SessCacheNoInternalStore},
	} {
		other := row.other
		e := withIDs(t, sslctx.VersionTLS12)
		server, client := e.connect(t, nil)
		offer, found := sessionOf(t, client), sessionOf(t, server)
		must(t, errors.Join(client.Close(), server.Close()))
		must(t, e.server.FlushSessions(time.Time{}))
		der, err := found.Bytes() // a flush marks what it takes out
		must(t, err)
		found = parseSession(t, der)
		if other != nil {
			add(t, other, found)
		}
		must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{
			Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { return found, nil },
		}))
		_, err = e.server.SetSessionCacheMode(row.mode)
		must(t, err)
		if server, _ = e.connect(t, offer); !server.SessionReused() || sessionOf(t, server).Same(found) {
			t.Fatalf("%s: not resumed (%v), or by the session itself", name, !server.SessionReused())
		}
		cached, err := e.server.Sessions()
		must(t, err)
		for _, s := range cached {
			if s.Same(found) {
				t.Fatalf("%s: libssl has cached the session itself", name)
			}
			must(t, s.Close())
		}
		if stores := row.mode&sslctx.SessCacheNoInternalStore == 0; len(cached) != toInt(stores) {
			t.Errorf("%s: %d sessions are cached", name, len(cached))
		}
		if other == nil {
			must(t, found.SetID([]byte("mine")))
			if !add(t, newContext(t, sslctx.TLSMethod), found) {
				t.Errorf("%s: it is not added elsewhere", name)
			}
		} else if _, err := e.server.AddSession(found); !errors.Is(err, sslctx.ErrForeignContext) {
			t.Errorf("%s: AddSession returns %v", name, err)
		}
	}
}

// TestLookupAndGetHook: the lookup and the hook that libssl asks are set and removed apart, though
// libssl has one callback for both.
func TestLookupAndGetHook(t *testing.T) {
	noQueue(t)
	var outside store
	e := newEnds(t, sslctx.VersionTLS12)
	outside.Fill(t, e.server)
	lookup := &sslctx.SessionLookup{
		Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
			return outside.Get(t, q.ID), nil
		},
	}
	get := func(_ context.Context, id []byte) *sslctx.Session { return outside.Get(t, id) }
	steps := []struct {
		name   string
		set    func() error
		reused bool
	}{
		{"the lookup", func() error { return e.server.SetSessionLookup(lookup) }, true},
		{"the hook is removed", func() error { return e.server.SetGetSessionCallback(nil) }, true},
		{"the lookup is removed", func() error { return e.server.SetSessionLookup(nil) }, false},
		{"the hook", func() error { return e.server.SetGetSessionCallback(get) }, true},
		{"the lookup is removed again", func() error { return e.server.SetSessionLookup(nil) }, true},
		{"both, and the hook is removed", func() error {
			return errors.Join(e.server.SetSessionLookup(lookup), e.server.SetGetSessionCallback(nil))
		}, true},
		{"neither", func() error { return e.server.SetSessionLookup(nil) }, false},
	}
	for _, s := range steps {
		must(t, s.set())
		asked := outside.Asked()
		if e.reconnect(t) != s.reused || (outside.Asked() > asked) != s.reused {
			t.Errorf("%s: resumed is %v, want %v", s.name, !s.reused, s.reused)
		}
	}
}

// TestGetSessionHookCallsEverything: the hook uses and configures the context while libssl waits
// for it.
func TestGetSessionHookCallsEverything(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		var outside store
		e := newEnds(t, v)
		outside.Fill(t, e.server)
		must(t, e.server.SetGetSessionCallback(func(_ context.Context, id []byte) *sslctx.Session {
			s := newSession(t, "x")
			add(t, e.server, s)
			remove(t, e.server, s)
			must(t, s.SetTimeout(time.Hour))
			must(t, e.server.SetCipherList("HIGH"))
			must(t, e.server.FlushSessions(time.Time{}))
			must(t, e.server.SetGetSessionCallback(nil))
			_ = e.server.CacheStats()
			return outside.Get(t, id)
		}))
		if !e.reconnect(t) {
			t.Error("not resumed")
		}
	})
}

// TestGetSessionHooksWait: more hooks wait at once than there are handshake slots. A hook that
// connects to a store must not wait for the others.
func TestGetSessionHooksWait(t *testing.T) {
	n := 8 + 4*runtime.GOMAXPROCS(0)
	var outside store
	e := newEnds(t, sslctx.VersionTLS12)
	outside.Fill(t, e.server)
	server, client := e.connect(t, nil)
	offer := sessionOf(t, client)
	must(t, errors.Join(client.Close(), server.Close()))
	var asked sync.WaitGroup
	asked.Add(n)
	must(t, e.server.SetGetSessionCallback(func(_ context.Context, id []byte) *sslctx.Session {
		asked.Done()
		asked.Wait()
		f := newEnds(t, sslctx.VersionTLS13)
		f.inMemory(t, nil)
		return outside.Get(t, id)
	}))
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if !e.inMemory(t, offer) {
				t.Error("not resumed")
			}
		})
	}
	all.Wait()
}

// wantHookEnd runs a Handshake whose hook panics or ends its goroutine: the call must do the same.
func wantHookEnd(t *testing.T, c *sslctx.Conn, how string) {
	t.Helper()
	ended := make(chan any, 1)
	go func() {
		defer func() { ended <- recover() }()
		_ = c.Handshake()
		ended <- "Handshake returned"
	}()
	if got := <-ended; got != map[string]any{"panic": "the hook's", "Goexit": nil}[how] {
		t.Errorf("Handshake ends with %v", got)
	}
}

// TestGetSessionHookPanics: the panic ends the Handshake, and no lock stays held.
func TestGetSessionHookPanics(t *testing.T) {
	for _, way := range []string{"get", "lookup"} {
		for name, end := range map[string]func(){"panic": func() { panic("the hook's") }, "Goexit": runtime.Goexit} {
			t.Run(way+" "+name, func(t *testing.T) {
				var outside store
				e := newEnds(t, sslctx.VersionTLS12)
				outside.Fill(t, e.server)
				server, client := e.connect(t, nil)
				offer := sessionOf(t, client)
				must(t, errors.Join(client.Close(), server.Close()))
				if way == "get" {
					must(t, e.server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { end(); return nil }))
				} else {
					must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{
						Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { end(); return nil, nil },
					}))
				}
				s, c := tcpPair(t)
				server, client = e.over(t, s, c, offer)
				clientDone := make(chan error, 1)
				go func() { clientDone <- client.Handshake() }()
				wantHookEnd(t, server, name)
				must(t, server.Handshake()) // continues without a session
				must(t, <-clientDone)
				if server.SessionReused() {
					t.Error("resumed all the same")
				}
			})
		}
	}
}

// TestLookupFails: if a lookup fails in any way, the handshake is a full one, and the reason is
// reported.
func TestLookupFails(t *testing.T) {
	down := errors.New("the store is down")
	for name, c := range map[string]struct {
		find func(ctx context.Context, s *sslctx.Session) (*sslctx.Session, error)
		want error
	}{
		"error": {func(context.Context, *sslctx.Session) (*sslctx.Session, error) { return nil, down }, down},
		"deadline": {func(ctx context.Context, _ *sslctx.Session) (*sslctx.Session, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, context.DeadlineExceeded},
		"deaf": {func(context.Context, *sslctx.Session) (*sslctx.Session, error) {
			time.Sleep(time.Second)
			return nil, nil
		}, context.DeadlineExceeded},
		"closed": {func(_ context.Context, s *sslctx.Session) (*sslctx.Session, error) { return s, s.Close() }, sslctx.ErrWrongSession},
		"other": {func(_ context.Context, s *sslctx.Session) (*sslctx.Session, error) {
			return s, s.SetID([]byte("other"))
		}, sslctx.ErrWrongSession},
		"not resumable": {func(_ context.Context, s *sslctx.Session) (*sslctx.Session, error) {
			remove(t, newContext(t, sslctx.TLSMethod), s) // which marks it
			return s, nil
		}, sslctx.ErrWrongSession},
		"no cipher": {func(_ context.Context, s *sslctx.Session) (*sslctx.Session, error) {
			bare := newSession(t, string(s.ID()))
			return bare, bare.SetProtocolVersion(s.ProtocolVersion())
		}, sslctx.ErrNoCipher},
		"none": {func(context.Context, *sslctx.Session) (*sslctx.Session, error) { return nil, nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				noQueue(t)
				var outside store
				var failed error
				e := newEnds(t, v)
				outside.Fill(t, e.server)
				must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{
					Find: func(ctx context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
						return c.find(ctx, outside.Get(t, q.ID))
					},
					Timeout: 20 * time.Millisecond,
					Failed:  func(_ sslctx.SessionQuery, err error) { failed = err },
				}))
				if e.reconnect(t) {
					t.Error("resumed")
				}
				if !errors.Is(failed, c.want) || outside.Asked() != 1 {
					t.Errorf("asked %d times, failed with %v, want %v", outside.Asked(), failed, c.want)
				}
			})
		})
	}
}

// TestLookupIsCancelled: the wait for a lookup ends with the handshake, and with the connection.
func TestLookupIsCancelled(t *testing.T) {
	var outside store
	e := newEnds(t, sslctx.VersionTLS13)
	outside.Fill(t, e.server)
	asked := make(chan bool)
	must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{
		Find: func(ctx context.Context, _ sslctx.SessionQuery) (*sslctx.Session, error) {
			asked <- true
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}))
	for name, end := range map[string]func(*sslctx.Conn, func()){
		"cancel": func(_ *sslctx.Conn, cancel func()) { cancel() },
		"Close":  func(c *sslctx.Conn, _ func()) { _ = c.Close() },
	} {
		server, client := e.connect(t, nil)
		offer := sessionOf(t, client)
		must(t, errors.Join(client.Close(), server.Close()))
		s, c := tcpPair(t)
		server, client = e.over(t, s, c, offer)
		go func() { _ = client.Handshake() }()
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error)
		go func() { errs <- server.HandshakeContext(ctx) }()
		<-asked
		end(server, cancel)
		want := map[string]error{"cancel": context.Canceled, "Close": sslctx.ErrClosed}[name]
		if err := <-errs; !errors.Is(err, want) {
			t.Errorf("%s: Handshake returns %v", name, err)
		}
		cancel()
	}
}

// TestLookupAfterPeerClosed: the peer is gone when the lookup has found its session. The session is
// freed.
func TestLookupAfterPeerClosed(t *testing.T) {
	var outside store
	e := newEnds(t, sslctx.VersionTLS12)
	outside.Fill(t, e.server)
	_, client := e.connect(t, nil)
	offer := sessionOf(t, client)
	must(t, client.Close())
	var given *sslctx.Session
	before := 0
	s, c := tcpPair(t)
	must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{
		Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
			must(t, s.Close()) // before the result can be used
			given = outside.Get(t, q.ID)
			before = ossltest.LiveSessions()
			return given, nil
		},
	}))
	server, client := e.over(t, s, c, offer)
	go func() { _ = client.Handshake() }()
	if err := server.Handshake(); err == nil {
		t.Error("a handshake without a peer succeeds")
	}
	must(t, errors.Join(server.Close(), client.Close(), given.Close()))
	if n := ossltest.CollectUntil(ossltest.LiveSessions, before-1); n > before-1 {
		t.Errorf("%d sessions are alive, want %d", n, before-1)
	}
}

// TestLookupOnlyWhereLibsslLooks: no lookup runs for a ticket, or for a session that the
// internal cache has in TLS 1.3.
func TestLookupOnlyWhereLibsslLooks(t *testing.T) {
	for name, c := range map[string]struct {
		version sslctx.Version
		options sslctx.Option
		mode    sslctx.CacheMode
		want    int
	}{
		"ticket of TLS 1.2":       {sslctx.VersionTLS12, 0, sslctx.SessCacheServer, 0},
		"ticket of TLS 1.3":       {sslctx.VersionTLS13, 0, sslctx.SessCacheServer, 0},
		"cached in TLS 1.3":       {sslctx.VersionTLS13, sslctx.OpNoTicket, sslctx.SessCacheServer, 0},
		"not looked for, TLS 1.3": {sslctx.VersionTLS13, sslctx.OpNoTicket, sslctx.SessCacheServer | sslctx.SessCacheNoInternalLookup, 1},
		"ID of TLS 1.2":           {sslctx.VersionTLS12, sslctx.OpNoTicket, sslctx.SessCacheServer, 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(t, c.version)
			_, err := e.server.SetOptions(c.options)
			must(t, err)
			_, err = e.server.SetSessionCacheMode(c.mode)
			must(t, err)
			var asked []string
			must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{
				Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
					asked = append(asked, q.Hello.ServerName)
					return nil, nil
				},
			}))
			e.reconnect(t)
			if len(asked) != c.want {
				t.Errorf("asked %d times, want %d", len(asked), c.want)
			}
		})
	}
}

// TestLookupOfIDBesideTickets: a client offers an ID and no ticket, which it would like to have. The
// server looks for the ID.
func TestLookupOfIDBesideTickets(t *testing.T) {
	e := withIDs(t, sslctx.VersionTLS12)
	server, client := e.connect(t, nil)
	offer := sessionOf(t, client)
	der, err := sessionOf(t, server).Bytes()
	must(t, err)
	must(t, errors.Join(client.Close(), server.Close()))
	must(t, e.server.FlushSessions(time.Time{}))
	_, err = e.server.ClearOptions(sslctx.OpNoTicket)
	must(t, err)
	must(t, e.server.SetSessionLookup(&sslctx.SessionLookup{
		Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { return sslctx.ParseSession(der) },
	}))
	if server, _ = e.connect(t, offer); !server.SessionReused() {
		t.Error("the session is not looked for")
	}
}

func TestLookupArguments(t *testing.T) {
	c := newContext(t, sslctx.TLSMethod)
	err := c.SetSessionLookup(new(sslctx.SessionLookup))
	wantArgument(t, err, "l")
	if !strings.Contains(err.Error(), "Find") {
		t.Errorf("%v", err)
	}
}

// TestHelloHookAfterTimeout: a deadline passes while another call configures the context, and the
// answer of the hook for the ClientHello is lost. The hook is called again.
func TestHelloHookAfterTimeout(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	ends := make(chan func(), 1)
	var asked atomic.Int32
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) {
		if asked.Add(1) == 1 {
			ends <- startConfiguring(t, e.server)
		}
		return nil, errors.New("nobody may connect")
	}))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	go func() { _ = client.Handshake() }()
	must(t, server.SetDeadline(time.Now().Add(100*time.Millisecond)))
	if _, err := server.ReadEarlyData(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ReadEarlyData returns %v", err)
	}
	(<-ends)()
	must(t, server.SetDeadline(time.Time{}))
	_, _ = server.ReadEarlyData(make([]byte, 1))
	if err := server.Handshake(); err == nil || asked.Load() != 2 {
		t.Errorf("Handshake returns %v, and the hook was asked %d times", err, asked.Load())
	}
}

// TestPoolSetInHook: a hook of a handshake sets the context's first CertPool. The handshake waits
// for the pool's constraint as for one that was there before: the wait ends with the context, and
// no call that configures waits for it.
func TestPoolSetInHook(t *testing.T) {
	root := issue(t, "root", nil, authority)
	e := verifyingStore(t, sslctx.VersionTLS12, root)
	// With this hook the server verifies sessions again.
	must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil }))
	made := make(chan *sslctx.Session, 1)
	must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { made <- s }))
	server, client := e.connect(t, nil)
	offer := sessionOf(t, client)
	must(t, errors.Join(client.Close(), server.Close()))
	kept := <-made
	asked, release := make(chan bool, 9), make(chan bool)
	pool := waitingPool(root, func(context.Context) { asked <- true; <-release })
	defer close(release)
	must(t, e.server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session {
		if err := e.server.TrustCertPool(pool); err != nil {
			t.Error(err)
		}
		return kept
	}))
	server, client = e.join(t, offer)
	go func() { _ = client.Handshake() }()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.HandshakeContext(ctx) }()
	<-asked
	configured := make(chan error, 1)
	go func() { _, err := e.server.SetTimeout(time.Hour); configured <- err }()
	await := func(what string, over chan error) (err error) {
		select {
		case err = <-over:
		case <-time.After(awaitLimit):
			t.Errorf("%s waits for the constraint", what)
		}
		return err
	}
	must(t, await("SetTimeout", configured))
	cancel()
	if err := await("HandshakeContext", done); !errors.Is(err, context.Canceled) {
		t.Errorf("HandshakeContext returns %v", err)
	}
	must(t, errors.Join(client.Abort(), server.Abort()))
}

// TestSessionMovesInHook: libssl verifies the session of a get hook again. Meanwhile a constraint adds
// the session to another context. It must not be in the caches of both.
func TestSessionMovesInHook(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, authority)
		e := verifyingStore(t, v, root)
		_, err := e.server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalLookup) // it stores
		must(t, err)
		other := newContext(t, sslctx.TLSMethod)
		var kept, answer *sslctx.Session
		added := false
		pool := waitingPool(root, func(context.Context) {
			if answer != nil {
				var ok bool
				ok, err = other.AddSession(answer)
				added = added || ok
			}
		})
		must(t, e.server.TrustCertPool(pool))
		must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { kept = s }))
		_, client := e.connect(t, nil)
		must(t, e.server.TrustCertPool(pool)) // with another trust libssl verifies the session again
		der, failed := kept.Bytes()
		must(t, failed)
		fresh, failed := sslctx.ParseSession(der)
		must(t, failed)
		must(t, e.server.FlushSessions(time.Time{}))
		must(t, e.server.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { answer = fresh; return fresh }))
		server, _ := e.connect(t, sessionOf(t, client))
		if !server.SessionReused() || !added || err != nil {
			t.Errorf("resumed %v, added to the other context %v, %v", server.SessionReused(), added, err)
		}
		ours, failed := e.server.Sessions()
		must(t, failed)
		for _, s := range ours {
			if s.Same(fresh) {
				t.Error("one session is in the caches of two contexts")
			}
		}
	})
}
