// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
	"sslctx/spacemonkey"
)

// TestAddRemove: our add and remove decide which sessions their server resumes.
func TestAddRemove(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newServer(t, v), newClient(t, v)
		cache := ours(t, server)
		s, c := connect(t, server, client, nil)
		wantReused(t, s, c, false)
		kept, mine := sessionOf(t, s), sessionOf(t, c)
		if kept.ProtocolVersion() != v || !mine.IsResumable() {
			t.Fatalf("the sessions are %v and %v", kept, mine)
		}

		s, c = connect(t, server, client, mine)
		wantReused(t, s, c, false) // the cache has only added sessions
		added, err := cache.AddSession(kept)
		must(t, err)
		if !added || cache.CacheStats().Number != 1 {
			t.Errorf("added %v, %d are cached", added, cache.CacheStats().Number)
		}
		s, c = connect(t, server, client, mine)
		wantReused(t, s, c, true)
		if got := cache.CacheStats(); got.Hits != 1 || got.Misses != 1 || got.Accept != 3 || got.AcceptGood != 3 {
			t.Errorf("counters: %+v", got)
		}

		removed, err := cache.RemoveSession(kept)
		must(t, err)
		if !removed || kept.IsResumable() {
			t.Errorf("removed %v, resumable %v", removed, kept.IsResumable())
		}
		s, c = connect(t, server, client, mine)
		wantReused(t, s, c, false)

		again := sessionOf(t, s)
		if _, err := cache.AddSession(again); err != nil {
			t.Fatal(err)
		}
		must(t, cache.FlushSessions(again.Time().Add(again.Timeout()+1e9)))
		if n := cache.CacheStats().Number; n != 0 {
			t.Errorf("%d are cached after the flush", n)
		}
	})
}

// TestSessionIsTheObject: also for a Ctx that was never passed to Context.
func TestSessionIsTheObject(t *testing.T) {
	server, client := newServer(t, sslctx.VersionTLS12), newClient(t, sslctx.VersionTLS12)
	s, c := connect(t, server, client, nil)
	first, second, mine := sessionOf(t, s), sessionOf(t, s), sessionOf(t, c)
	if !first.Same(second) || first.Same(mine) {
		t.Error("not the object")
	}
	if err := first.SetID([]byte("x")); !errors.Is(err, sslctx.ErrPublished) {
		t.Errorf("SetID: %v", err)
	}
	if _, err := ours(t, client).AddSession(first); !errors.Is(err, sslctx.ErrForeignContext) {
		t.Errorf("the server's session in the client's cache: %v", err)
	}
	cache := ours(t, server)
	if added, err := cache.AddSession(first); err != nil || !added {
		t.Errorf("added %v, %v", added, err)
	}
	if added, err := cache.AddSession(second); err != nil || added {
		t.Errorf("the same again: added %v, %v", added, err)
	}
	der, err := s.GetSession()
	must(t, err)
	mineToo, err := sslctx.ParseSession(der)
	must(t, err)
	defer mineToo.Close()
	if !bytes.Equal(mineToo.ID(), first.ID()) || !bytes.Equal(mine.ID(), first.ID()) {
		t.Errorf("IDs: theirs %x, ours %x, the client's %x", mineToo.ID(), first.ID(), mine.ID())
	}
}

// TestSessionInTime calls Session before, during and after the handshake, and after Close.
func TestSessionInTime(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newServer(t, v), newClient(t, v)
		s, c := pair(t, server, client)
		if _, err := spacemonkey.Session(c); !errors.Is(err, sslctx.ErrNoSession) {
			t.Errorf("before the handshake: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Handshake() }()
		var early *sslctx.Session
		eventually(t, "a session in the middle of the handshake", func() (ok bool) {
			got, err := spacemonkey.Session(c)
			early = got
			return err == nil
		})
		defer early.Close()
		if err := spacemonkey.SetSession(c, nil); !errors.Is(err, sslctx.ErrHandshakeStarted) {
			t.Errorf("SetSession in the handshake: %v", err)
		}
		must(t, early.SetID([]byte("it is a copy, and fresh")))
		go func() { _ = s.Handshake() }()
		must(t, <-done)
		talk(t, s, c)
		if err := spacemonkey.SetSession(c, nil); !errors.Is(err, sslctx.ErrHandshakeStarted) {
			t.Errorf("SetSession after the handshake: %v", err)
		}
		live := sessionOf(t, c)
		hangUp(s, c)
		if after := sessionOf(t, c); !after.Same(live) || !after.IsResumable() {
			t.Error("after Close it is another session, or marked")
		}
		s, c = pair(t, server, client)
		hangUp(s, c)
		if err := spacemonkey.SetSession(c, live); !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("SetSession after Close: %v", err)
		}
	})
}

// TestSetSessionOfOthers offers sessions of other contexts.
func TestSetSessionOfOthers(t *testing.T) {
	v := sslctx.VersionTLS12
	server, client, other := newServer(t, v), newClient(t, v), newClient(t, v)
	s, c := connect(t, server, client, nil)
	if _, err := ours(t, server).AddSession(sessionOf(t, s)); err != nil {
		t.Fatal(err)
	}
	mine := sessionOf(t, c)
	s, c = connect(t, server, other, mine) // of another Ctx: a copy
	wantReused(t, s, c, true)
	if sessionOf(t, c).Same(mine) {
		t.Error("two contexts have one object")
	}
	s, c = connect(t, server, client, mine)
	wantReused(t, s, c, true)
	if !sessionOf(t, c).Same(mine) {
		t.Error("a session of this Ctx is offered as a copy")
	}
	s, c = pair(t, server, client)
	defer hangUp(s, c)
	closed, err := mine.Dup()
	must(t, err)
	must(t, closed.Close())
	if err := spacemonkey.SetSession(c, closed); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("a closed session: %v", err)
	}
	noCipher, err := sslctx.NewSession()
	must(t, err)
	defer noCipher.Close()
	must(t, noCipher.SetProtocolVersion(v))
	if err := spacemonkey.SetSession(c, noCipher); !errors.Is(err, sslctx.ErrNoCipher) {
		t.Errorf("a session without cipher: %v", err)
	}
}

// TestArguments: what is nil, or was not made by their functions, is an error that names the
// argument.
func TestArguments(t *testing.T) {
	want := map[string]sslctx.ArgumentError{
		"nil Ctx":         {Func: "Context", Arg: "ctx"},
		"zero Ctx":        {Func: "Context", Arg: "ctx"},
		"nil Conn":        {Func: "Session", Arg: "c"},
		"zero Conn":       {Func: "Session", Arg: "c"},
		"half a Conn":     {Func: "Session", Arg: "c"},
		"no SSL":          {Func: "Session", Arg: "c"},
		"Set, nil Conn":   {Func: "SetSession", Arg: "c"},
		"Set, zero Conn":  {Func: "SetSession", Arg: "c"},
		"SessionOf(nil)":  {Func: "SessionOf", Arg: "ssl"},
		"SetSessionOf(0)": {Func: "SetSessionOf", Arg: "ssl"},
	}
	_, gutted := connect(t, newServer(t, sslctx.VersionTLS12), newClient(t, sslctx.VersionTLS12), nil)
	ssl := gutted.SSL
	gutted.SSL = nil
	defer func() { gutted.SSL = ssl }()
	var argument *sslctx.ArgumentError
	for name, call := range map[string]func() error{
		"nil Ctx":         func() error { _, err := spacemonkey.Context(nil); return err },
		"zero Ctx":        func() error { _, err := spacemonkey.Context(new(openssl.Ctx)); return err },
		"nil Conn":        func() error { _, err := spacemonkey.Session(nil); return err },
		"zero Conn":       func() error { _, err := spacemonkey.Session(new(openssl.Conn)); return err },
		"half a Conn":     func() error { _, err := spacemonkey.Session(&openssl.Conn{SSL: new(openssl.SSL)}); return err },
		"no SSL":          func() error { _, err := spacemonkey.Session(gutted); return err },
		"Set, nil Conn":   func() error { return spacemonkey.SetSession(nil, nil) },
		"Set, zero Conn":  func() error { return spacemonkey.SetSession(new(openssl.Conn), nil) },
		"SessionOf(nil)":  func() error { _, err := ours(t, newClient(t, 0)).SessionOf(nil); return err },
		"SetSessionOf(0)": func() error { return ours(t, newClient(t, 0)).SetSessionOf(nil, nil) },
	} {
		if err := call(); !errors.As(err, &argument) || argument.Func != want[name].Func || argument.Arg != want[name].Arg {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnderTheirMutex: only one call at a time is inside libssl with a connection.
func TestUnderTheirMutex(t *testing.T) {
	v := sslctx.VersionTLS12
	s, c := connect(t, newServer(t, v), newClient(t, v), nil)
	for name, call := range map[string]func() error{
		"Session":    func() error { got, err := spacemonkey.Session(s); _ = got.Close(); return err },
		"SetSession": func() error { return spacemonkey.SetSession(c, nil) },
	} {
		conn := map[string]*openssl.Conn{"Session": s, "SetSession": c}[name]
		mutex := spacemonkey.MutexOf(conn)
		mutex.Lock()
		done := make(chan error)
		go func() { done <- call() }()
		select {
		case err := <-done:
			t.Errorf("%s does not wait: %v", name, err)
			mutex.Unlock()
			continue
		case <-time.After(50 * time.Millisecond):
		}
		mutex.Unlock()
		if err := <-done; err != nil && !errors.Is(err, sslctx.ErrHandshakeStarted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMutexIsGivenBack: after each call others may be inside libssl, also after an error.
func TestMutexIsGivenBack(t *testing.T) {
	s, c := pair(t, newServer(t, sslctx.VersionTLS12), newClient(t, sslctx.VersionTLS12))
	t.Cleanup(func() { hangUp(s, c) })
	_, err := spacemonkey.Session(s)
	if !errors.Is(err, sslctx.ErrNoSession) {
		t.Errorf("Session: %v", err)
	}
	must(t, spacemonkey.SetSession(c, nil))
	for name, conn := range map[string]*openssl.Conn{"Session": s, "SetSession": c} {
		mutex := spacemonkey.MutexOf(conn)
		if !mutex.TryLock() {
			t.Errorf("%s keeps the mutex", name)
		}
		mutex.Unlock() // in any case: Close needs it
	}
}

// TestAtOnce takes sessions while both ends read, write and close: for the race detector.
func TestAtOnce(t *testing.T) {
	perVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newServer(t, v), newClient(t, v)
		cache := ours(t, server)
		s, c := connect(t, server, client, nil)
		var all sync.WaitGroup
		stop := make(chan struct{})
		var added atomic.Int32
		for _, conn := range []*openssl.Conn{s, c} {
			all.Add(1)
			go func() {
				defer all.Done()
				for over := false; !over; {
					select {
					case <-stop:
						over = true // after once more
					default:
					}
					got, err := spacemonkey.Session(conn)
					if err != nil {
						t.Error(err)
						return
					}
					if conn == s {
						ok, err := cache.AddSession(got)
						if err != nil {
							t.Error(err)
						}
						if ok {
							added.Add(1)
						}
					}
					_ = got.Close()
				}
			}()
		}
		eventually(t, "the session is added", func() bool { return added.Load() > 0 })
		for range 50 {
			talk(t, s, c)
		}
		hangUp(s, c) // they do it under their mutex
		close(stop)
		all.Wait()
		if n := cache.CacheStats().Number; n != 1 || added.Load() != 1 {
			t.Errorf("%d are cached, %d were added", n, added.Load())
		}
	})
}
