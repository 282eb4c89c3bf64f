// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// refused is what adding s to c must say while another cache holds it.
func refused(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
	t.Helper()
	if ok, err := c.AddSession(s); ok || !errors.Is(err, sslctx.ErrForeignContext) {
		t.Errorf("AddSession returns %v, %v", ok, err)
	}
	if all, err := c.AddSessions([]*sslctx.Session{s}); all != nil || !errors.Is(err, sslctx.ErrForeignContext) {
		t.Errorf("AddSessions returns %v, %v", all, err)
	}
}

// TestSessionMoves: a session may go where it likes while no other cache holds it, by whichever way it left.
func TestSessionMoves(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, c *sslctx.Context, s *sslctx.Session){
		"removed": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { remove(t, c, s) },
		"flushed": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { must(t, c.FlushSessions(time.Time{})) },
		"expired": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			must(t, c.FlushSessions(time.Now().Add(time.Hour)))
		},
		"replaced": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { add(t, c, newSession(t, string(s.ID()))) },
		"evicted": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			_, err := c.SetCacheSize(1)
			must(t, err)
			add(t, c, newSession(t, "another"))
		},
		"closed": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) { must(t, c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			first, second := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
			s := newSession(t, "id")
			add(t, first, s)
			other := inCache(t, first, "id") // another handle of the same
			refused(t, second, s)
			refused(t, second, other)
			leave(t, first, s)
			if !add(t, second, s) || second.CacheStats().Number != 1 {
				t.Fatal("it is not added")
			}
			if add(t, second, other) {
				t.Error("the other handle does not know that it is there")
			}
			must(t, other.SetTimeout(time.Hour))
			must(t, s.SetExData(t, 1))
			if got := other.ExData(t); got != 1 || other.Timeout() != time.Hour {
				t.Errorf("the other handle has %v, %v", got, other.Timeout())
			}
			if name != "closed" {
				refused(t, first, s)
				refused(t, first, other)
				remove(t, second, other)
				if !add(t, first, s) {
					t.Error("it does not come back")
				}
				refused(t, second, other)
			}
		})
	}
}

// inCache returns a handle of the session in the cache that has the ID.
func inCache(t *testing.T, c *sslctx.Context, id string) *sslctx.Session {
	t.Helper()
	all, err := c.Sessions()
	must(t, err)
	var found *sslctx.Session
	for _, s := range all {
		t.Cleanup(func() { _ = s.Close() })
		if string(s.ID()) == id {
			found = s
		}
	}
	if found == nil {
		t.Fatalf("no session %q is cached", id)
	}
	return found
}

// TestSessionMovesOften goes through many contexts that end, as a server's that is configured anew: nothing is left behind.
func TestSessionMovesOften(t *testing.T) {
	noQueue(t)
	s := newSession(t, "id")
	contexts, sessions := ossltest.LiveContexts(), ossltest.LiveSessions()
	for range 200 {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		must(t, err)
		if !add(t, c, s) {
			t.Fatal("it is not added")
		}
		must(t, s.SetTimeout(time.Hour))
		must(t, c.Close())
	}
	if n := ossltest.LiveContexts(); n > contexts {
		t.Errorf("%d contexts are alive, %d before", n, contexts)
	}
	if n := ossltest.LiveSessions(); n > sessions {
		t.Errorf("%d sessions are alive, %d before", n, sessions)
	}
	if n := sslctx.StayPlaces(s); n != 1 {
		t.Errorf("%d homes are remembered", n)
	}
	before := sslctx.Stays()
	must(t, s.Close())
	if n := sslctx.Stays(); n != before-1 {
		t.Errorf("%d sessions are remembered when one of %d is gone", n, before)
	}
}

// TestBatchMoves: sessions of several contexts go into one in one call, or none does.
func TestBatchMoves(t *testing.T) {
	noQueue(t)
	a, b, c := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
	ofA, ofB, stays, fresh := newSession(t, "a"), newSession(t, "b"), newSession(t, "stays"), newSession(t, "fresh")
	add(t, a, ofA)
	add(t, b, ofB)
	add(t, b, stays)
	remove(t, a, ofA)
	remove(t, b, ofB)
	_, err := c.AddSessions([]*sslctx.Session{fresh, ofA, stays, ofB})
	if !errors.Is(err, sslctx.ErrForeignContext) || err.Error() != "AddSessions: sessions[2]: "+sslctx.ErrForeignContext.Error() {
		t.Errorf("AddSessions returns %v", err)
	}
	must(t, fresh.SetID([]byte("still")))
	if c.CacheStats().Number != 0 || !add(t, a, ofA) || !remove(t, a, ofA) {
		t.Error("the refused call changed something")
	}
	added, err := c.AddSessions([]*sslctx.Session{fresh, ofA, ofB, ofA})
	must(t, err)
	if n := c.CacheStats().Number; n != 3 || !added[0] || !added[1] || !added[2] || added[3] {
		t.Errorf("added %v, %d are cached", added, n)
	}
	noCipher := newSession(t, "n")
	must(t, noCipher.SetProtocolVersion(sslctx.VersionTLS12))
	remove(t, c, ofA)
	if _, err := a.AddSessions([]*sslctx.Session{ofA, noCipher}); !errors.Is(err, sslctx.ErrNoCipher) {
		t.Errorf("AddSessions returns %v", err)
	}
	must(t, noCipher.SetID([]byte("N")))
	if add(t, c, ofA); c.CacheStats().Number != 3 {
		t.Error("it does not come back")
	}
}

// TestRemoveLeavesFresh: removing what is in no cache marks it, and no more: libssl keeps nothing of it.
func TestRemoveLeavesFresh(t *testing.T) {
	noQueue(t)
	first, second := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
	s, other := newSession(t, "s"), newSession(t, "o")
	if remove(t, first, s) || s.IsResumable() {
		t.Error("RemoveSession found it, or did not mark it")
	}
	removed, err := first.RemoveSessions([]*sslctx.Session{s, other, s})
	must(t, err)
	if removed[0] || removed[1] || removed[2] || other.IsResumable() {
		t.Errorf("RemoveSessions returns %v", removed)
	}
	must(t, s.SetID([]byte("S")))
	must(t, other.SetHostname("a.example"))
	if !add(t, second, s) || !add(t, first, other) {
		t.Error("they are not added")
	}
	// A hook has a handle of its own.
	heard := newSession(t, "h")
	must(t, first.SetRemoveSessionCallback(func(s *sslctx.Session) { must(t, s.Close()) }))
	remove(t, first, heard)
	if err := heard.SetID([]byte("H")); !errors.Is(err, sslctx.ErrPublished) {
		t.Errorf("SetID returns %v", err)
	}
	if !add(t, second, heard) {
		t.Error("it is not added")
	}
}

// TestSessionOfSibling is "full control" of a server with several names: the one stores nothing, and another caches what it
// makes. The connection that made the session may still run, and end badly.
func TestSessionOfSibling(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetIDContext([]byte("siblings")))
		_, err := e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		_, err = e.server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalStore)
		must(t, err)
		sibling := newContext(t, sslctx.TLSMethod)
		server, client := e.connect(t, nil)
		s := sessionOf(t, server)
		if !add(t, sibling, s) || sibling.CacheStats().Number != 1 {
			t.Fatal("it is not added")
		}
		refused(t, e.server, s)
		must(t, s.SetTimeout(time.Hour))
		must(t, server.Abort())
		must(t, client.Close())
		if s.IsResumable() || sibling.CacheStats().Number != 1 {
			t.Error("the end of the connection did not mark it, or removed it elsewhere")
		}
		again := inCache(t, sibling, string(s.ID()))
		if !again.Same(s) || add(t, sibling, again) {
			t.Error("the sibling has another")
		}
		must(t, sibling.FlushSessions(time.Time{}))
	})
}

// TestSessionMovesAtOnce: contexts vie for sessions, which connections, setters and removals do not let alone.
func TestSessionMovesAtOnce(t *testing.T) {
	defer tlstest.Watchdog(time.Minute)()
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	contexts := []*sslctx.Context{e.server, newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)}
	var sessions []*sslctx.Session
	for i := range 6 {
		s := newSession(t, string(rune('a'+i)))
		sessions = append(sessions, s)
	}
	for range 2 {
		server, client := e.connect(t, nil)
		sessions = append(sessions, sessionOf(t, server), sessionOf(t, server))
		defer client.Close()
		defer server.Abort()
	}
	for _, c := range contexts {
		_, err := c.SetCacheSize(3)
		must(t, err)
	}
	end := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				c, s := contexts[rand.IntN(3)], sessions[rand.IntN(len(sessions))]
				var err error
				switch rand.IntN(8) {
				case 0, 1, 2:
					_, err = c.AddSession(s)
				case 3:
					_, err = c.AddSessions([]*sslctx.Session{s, sessions[rand.IntN(len(sessions))]})
				case 4, 5:
					_, err = c.RemoveSession(s)
				case 6:
					err = s.SetTimeout(time.Duration(1+rand.IntN(1000)) * time.Second)
				case 7:
					err = s.SetExData(t, s.ID())
				}
				if err != nil && !errors.Is(err, sslctx.ErrForeignContext) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, c := range contexts {
		must(t, c.FlushSessions(time.Time{}))
		if n := c.CacheStats().Number; n != 0 {
			t.Errorf("%d sessions are cached after a flush", n)
		}
	}
}

// TestForeignKeepsSession: what belongs to a context of other code cannot move while that lives, for its cache cannot be
// looked at.
func TestForeignKeepsSession(t *testing.T) {
	noQueue(t)
	theirs := ossltest.NewCtx()
	ours, err := sslctx.ContextFromPointer(theirs.Pointer(), nil)
	must(t, err)
	c := newContext(t, sslctx.TLSMethod)
	s := newSession(t, "id")
	add(t, ours, s)
	remove(t, ours, s)
	refused(t, c, s)
	must(t, ours.Close())
	refused(t, c, s)
	theirs.Free()
	if !add(t, c, s) {
		t.Error("it is not added when the context is gone")
	}
}

// TestConnKeepsContext: the cache of a context that only a connection holds is a cache still.
func TestConnKeepsContext(t *testing.T) {
	noQueue(t)
	c, other := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
	end, peer := net.Pipe()
	defer peer.Close()
	conn, err := sslctx.Server(end, c)
	must(t, err)
	s := newSession(t, "id")
	add(t, c, s)
	must(t, c.Close())
	refused(t, other, s)
	must(t, conn.Close())
	if !add(t, other, s) {
		t.Error("it is not added when the context is gone")
	}
}

// TestStaleErrors: what careless code left on the queue is not the reason of a plain "no".
func TestStaleErrors(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := newContext(t, sslctx.TLSMethod)
	s, other := newSession(t, "id"), newSession(t, "other")
	add(t, c, s)
	ids := []*sslctx.Session{other, other}
	for name, call := range map[string]func() error{
		"AddSession":     func() error { _, err := c.AddSession(s); return err },
		"AddSessions":    func() error { _, err := c.AddSessions([]*sslctx.Session{s, s}); return err },
		"RemoveSession":  func() error { _, err := c.RemoveSession(other); return err },
		"RemoveSessions": func() error { _, err := c.RemoveSessions(ids); return err },
		"FlushSessions":  func() error { return c.FlushSessions(time.Unix(1, 0)) },
	} {
		ossltest.PutError()
		if err := call(); err != nil {
			t.Errorf("%s returns %v", name, err)
		}
		if code := ossltest.PeekError(); code != 0 {
			t.Errorf("%s leaves %#x on the queue", name, code)
		}
	}
}
