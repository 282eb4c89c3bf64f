// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"weak"

	"sslctx"
	"sslctx/internal/ossltest"
)

// journal notes what hooks hear, in order.
type journal struct {
	mu    sync.Mutex
	words []string
}

func (j *journal) add(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.words = append(j.words, fmt.Sprintf(format, a...))
}

// take returns what was noted since the last take.
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	words := j.words
	j.words = nil
	return words
}

func (j *journal) want(t *testing.T, when string, words ...string) {
	t.Helper()
	if got := j.take(); !slices.Equal(got, words) {
		t.Errorf("%s: heard %q, want %q", when, got, words)
	}
}

// listen has j hear of all sessions of c under a name.
func (j *journal) listen(t *testing.T, c *sslctx.Context, name string) {
	t.Helper()
	must(t, c.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		defer s.Close()
		j.add("%s.new", name)
	}))
	must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) {
		defer s.Close()
		j.add("%s.remove", name)
	}))
}

// listenIDs has j hear of removals by the sessions' IDs.
func (j *journal) listenIDs(t *testing.T, c *sslctx.Context) {
	t.Helper()
	must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) {
		defer s.Close()
		j.add("%s", s.ID())
	}))
}

func TestNewSessionCallback(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient)
		must(t, err)
		_, err = e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		var conn *sslctx.Conn
		var made []*sslctx.Session
		hook := func(c *sslctx.Conn, s *sslctx.Session) {
			conn, made = c, append(made, s)
			if n := e.client.CacheStats().Number; n < len(made) {
				t.Errorf("%d sessions are cached when the hook hears of number %d", n, len(made))
			}
			if v == sslctx.VersionTLS12 && c.Version() != v {
				t.Errorf("the connection's version is %v in the hook", c.Version())
			}
		}
		must(t, e.client.SetNewSessionCallback(hook))
		_, client := e.connect(t, nil)
		want := map[sslctx.Version]int{sslctx.VersionTLS12: 1, sslctx.VersionTLS13: 2}[v]
		if conn != client || len(made) != want {
			t.Fatalf("heard of %d sessions, want %d, of the connection: %v", len(made), want, conn == client)
		}
		if last := made[want-1]; !last.Same(sessionOf(t, client)) || !last.IsResumable() {
			t.Errorf("%v is not the connection's session", last)
		}
		if err := made[0].SetID([]byte("x")); !errors.Is(err, sslctx.ErrPublished) {
			t.Errorf("the hook's session has no home: %v", err)
		}
		must(t, e.client.SetNewSessionCallback(nil))
		e.connect(t, nil)
		if len(made) != want {
			t.Error("a hook that was removed is called")
		}
		for _, s := range made {
			must(t, s.Close())
		}
	})
}

// TestEventOrder has the order of the reference's golden scenarios, seen from both ends.
func TestEventOrder(t *testing.T) {
	var j journal
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.client.SetSessionCacheMode(sslctx.SessCacheClient)
	must(t, err)
	_, err = e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	j.listen(t, e.server, "server")
	j.listen(t, e.client, "client")
	server, client := e.connect(t, nil)
	j.want(t, "a full handshake of TLS 1.2", "server.new", "client.new")
	must(t, server.Close())
	must(t, client.Abort())
	j.want(t, "a bad end of the client", "client.remove")
	must(t, e.server.Close())
	j.want(t, "the end of a context", "server.remove")
}

// countingConn counts what is written.
type countingConn struct {
	net.Conn
	written *int
}

func (c countingConn) Write(p []byte) (int, error) {
	*c.written += len(p)
	return c.Conn.Write(p)
}

// TestHookComesBeforeWhatIsSent: a server's hook knows a session before the client can use it.
func TestHookComesBeforeWhatIsSent(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		_, err := e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		written, atHook := 0, 0
		must(t, e.server.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) { atHook = written }))
		s, c := tcpPair(t)
		server, client := e.over(t, countingConn{s, &written}, c, nil)
		go func() { _ = client.Handshake() }()
		must(t, server.Handshake())
		if atHook == 0 || atHook == written {
			t.Errorf("%d bytes were sent when the hook ran, %d after the handshake", atHook, written)
		}
	})
}

func TestRemoveSessionCallback(t *testing.T) {
	noQueue(t)
	var j journal
	c := newContext(t, sslctx.TLSMethod)
	j.listenIDs(t, c)
	timed := func(id string, at int64) *sslctx.Session {
		s := newSession(t, id)
		must(t, s.SetTime(time.Unix(at, 0)))
		return s
	}
	a, b := timed("a", 1000), timed("b", 2000)
	add(t, c, a)
	add(t, c, b)
	j.want(t, "adding")
	remove(t, c, a)
	j.want(t, "RemoveSession", "a")
	remove(t, c, a)
	j.want(t, "RemoveSession of what is not cached", "a") // as libssl has it
	must(t, c.FlushSessions(time.Unix(2000+305, 0)))
	j.want(t, "FlushSessions", "b")
	add(t, c, timed("same", 3000))
	add(t, c, timed("same", 4000))
	j.want(t, "replacement") // libssl tells of none
	_, err := c.SetCacheSize(1)
	must(t, err)
	add(t, c, timed("last", 5000))
	j.want(t, "eviction", "same")
	batch := []*sslctx.Session{timed("x", 6000), timed("y", 7000)}
	_, err = c.AddSessions(batch)
	must(t, err)
	j.want(t, "a batch", "last", "x")
	must(t, c.SetRemoveSessionCallback(nil))
	must(t, c.FlushSessions(time.Time{}))
	j.want(t, "no hook")
	j.listenIDs(t, c)
	add(t, c, timed("end", 8000))
	must(t, c.Close())
	j.want(t, "Close", "end")
}

// TestForeignSessionIsHeardOf removes a session of another context, which libssl reports: the hook's handle must not
// make it a session of this one.
func TestForeignSessionIsHeardOf(t *testing.T) {
	home, other := newContext(t, sslctx.TLSMethod), newContext(t, sslctx.TLSMethod)
	var heard []*sslctx.Session
	must(t, other.SetRemoveSessionCallback(func(s *sslctx.Session) { heard = append(heard, s) }))
	s := newSession(t, "a")
	add(t, home, s)
	remove(t, other, s)
	_, err := other.RemoveSessions([]*sslctx.Session{s, newSession(t, "b")})
	must(t, err)
	if len(heard) != 3 || !heard[1].Same(s) {
		t.Fatalf("heard of %d sessions", len(heard))
	}
	for i, want := range []error{sslctx.ErrForeignContext, sslctx.ErrForeignContext, nil} {
		if _, err := other.AddSession(heard[i]); !errors.Is(err, want) {
			t.Errorf("adding what was heard of as number %d: %v", i, err)
		}
	}
}

// TestNoHookNoCallback: libssl calls nobody back where nobody hears, and other code sees no callback that it did not set.
func TestNoHookNoCallback(t *testing.T) {
	c := newContext(t, sslctx.TLSMethod)
	theirs := ossltest.LastContext()
	if theirs.HasCallbacks() {
		t.Error("a new context has callbacks")
	}
	must(t, c.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { _ = s.Close() }))
	if !theirs.HasCallbacks() {
		t.Error("a hook has no callback")
	}
	must(t, c.SetNewSessionCallback(nil))
	if theirs.HasCallbacks() {
		t.Error("a callback stays without its hook")
	}
}

// TestLastConnTells has a Conn give back the SSL_CTX, which flushes its cache.
func TestLastConnTells(t *testing.T) {
	var j journal
	e := newEnds(t, sslctx.VersionTLS13)
	server, client := e.connect(t, nil)
	j.listenIDs(t, e.server)
	add(t, e.server, newSession(t, "a"))
	must(t, e.server.Close())
	j.want(t, "Close of the Context")
	must(t, client.Close())
	must(t, server.Close())
	if got := j.take(); !slices.Contains(got, "a") {
		t.Errorf("Close of the last Conn tells of %q", got)
	}
}

// TestHookCallsEverything calls, from a hook that hears of an eviction, what deadlocks in C.
func TestHookCallsEverything(t *testing.T) {
	noQueue(t)
	c := newContext(t, sslctx.TLSMethod)
	_, err := c.SetCacheSize(1)
	must(t, err)
	depth := 0
	must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) {
		defer s.Close()
		if depth++; depth > 20 {
			return
		}
		_, err := c.AddSession(s) // which evicts another
		must(t, err)
		again := newSession(t, fmt.Sprint("depth ", depth))
		_, err = c.AddSessions([]*sslctx.Session{again, s})
		must(t, err)
		_, err = c.RemoveSession(again)
		must(t, err)
		must(t, s.SetTimeout(time.Hour))
		_, err = c.SetCacheSize(2)
		must(t, err)
		must(t, c.SetCipherList("HIGH"))
		must(t, c.FlushSessions(time.Time{}))
	}))
	add(t, c, newSession(t, "a"))
	add(t, c, newSession(t, "b"))
	add(t, c, newSession(t, "c"))
	if depth <= 20 {
		t.Errorf("the hook ran %d times", depth)
	}
	must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { _, _ = s.Close(), c.Close() }))
	for _, id := range []string{"d", "e", "f", "g"} { // one of them evicts another
		_, err = c.AddSession(newSession(t, id))
	}
	if !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close in a hook: %v", err)
	}
}

// TestHookOnConnCallsItsConn has hooks use the very connection that they hear of.
func TestHookOnConnCallsItsConn(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		heard := false
		must(t, e.server.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
			defer s.Close()
			if heard {
				return
			}
			heard = true
			must(t, c.Handshake())
			_, err := c.Write([]byte("from the hook"))
			must(t, err)
			buf := make([]byte, 5)
			if _, err := c.Read(buf); err != nil || string(buf) != "hello" {
				t.Errorf("the hook reads %q, %v", buf, err)
			}
			must(t, c.Close())
		}))
		_, err := e.server.SetOptions(sslctx.OpNoTicket)
		must(t, err)
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		done := make(chan error)
		go func() {
			_, err := server.Read(make([]byte, 1))
			done <- err
		}()
		_, err = client.Write([]byte("hello"))
		must(t, err)
		buf := make([]byte, 13)
		if n, err := client.Read(buf); err != nil || string(buf[:n]) != "from the hook" {
			t.Errorf("the client reads %q, %v", buf[:n], err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read of a connection that its hook closed returns %v", err)
		}
	})
}

// TestHookPanics has a hook end in other ways than by returning: the call ends so too, all other events are
// told, and libssl's locks are free.
func TestHookPanics(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("the hook's") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var j journal
			c := newContext(t, sslctx.TLSMethod)
			for i := range 5 {
				add(t, c, newSession(t, fmt.Sprint(i)))
			}
			must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) {
				defer s.Close()
				j.add("removed")
				if len(j.words)%2 == 1 {
					end()
				}
			}))
			came := make(chan any, 1)
			go func() {
				defer func() { came <- recover() }()
				_ = c.FlushSessions(time.Time{})
				came <- "FlushSessions returned"
			}()
			if got := <-came; got != map[string]any{"panic": "the hook's", "Goexit": nil}[name] {
				t.Errorf("the call ended with %v", got)
			}
			if n := len(j.take()); n != 5 {
				t.Errorf("%d events were told of 5", n)
			}
			must(t, c.SetRemoveSessionCallback(nil))
			add(t, c, newSession(t, "later"))
			if n := c.CacheStats().Number; n != 1 {
				t.Errorf("%d sessions are cached", n)
			}
		})
	}
}

// TestHookPanicsInHandshake ends the handshake of one connection and nothing else.
func TestHookPanicsInHandshake(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	must(t, e.server.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) { panic("the hook's") }))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	go func() { _ = client.Handshake() }()
	func() {
		defer func() {
			if r := recover(); r != "the hook's" {
				t.Errorf("Handshake ends with %v", r)
			}
		}()
		_ = server.Handshake()
	}()
	must(t, e.server.SetNewSessionCallback(nil))
	if _, err := server.Write([]byte("x")); err != nil {
		t.Errorf("the connection is not usable after its hook panicked: %v", err)
	}
	e.connect(t, nil)
}

// TestForgottenContextTellsNobody collects a Context whose hook leads back to it.
func TestForgottenContextTellsNobody(t *testing.T) {
	before := ossltest.LiveContexts()
	func() {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		must(t, err)
		must(t, c.SetRemoveSessionCallback(func(*sslctx.Session) { t.Error("told by", c) }))
		add(t, c, newSession(t, "a"))
	}()
	if n := ossltest.Settle(ossltest.LiveContexts, before); n > before {
		t.Errorf("%d contexts, %d before: the hook keeps its Context", n, before)
	}
}

func TestForeignCallbackStays(t *testing.T) {
	c := newContext(t, sslctx.TLSMethod)
	ossltest.LastContext().CountCallbacks(true, false, true)
	if err := c.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) {}); !errors.Is(err, sslctx.ErrForeignCallback) {
		t.Errorf("new: %v", err)
	}
	if err := c.SetRemoveSessionCallback(nil); !errors.Is(err, sslctx.ErrForeignCallback) {
		t.Errorf("remove: %v", err)
	}
	s := newSession(t, "a")
	add(t, c, s)
	remove(t, c, s)
	if _, _, removed := ossltest.LastContext().Counted(); removed != 1 {
		t.Errorf("the other callback heard of %d removals", removed)
	}
}

// TestContextFromPointer shares an SSL_CTX with other code, which made it, uses it, and gives it back first.
func TestContextFromPointer(t *testing.T) {
	noQueue(t)
	owner := ossltest.NewCtx()
	c, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	must(t, err)
	defer c.Close()
	again, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	must(t, err)
	s := newSession(t, "a")
	add(t, c, s)
	if add(t, again, s) || again.CacheStats().Number != 1 {
		t.Error("two Contexts of one SSL_CTX are not of one cache")
	}
	heard := make(chan *sslctx.Session, 3)
	must(t, again.SetRemoveSessionCallback(func(s *sslctx.Session) { heard <- s }))
	add(t, c, newSession(t, "b"))
	owner.Flush()
	for range 2 {
		select {
		case got := <-heard:
			if _, err := c.AddSession(got); err != nil {
				t.Errorf("what the owner removed is not of this context: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the hook does not hear of what the owner does")
		}
	}
	must(t, again.Close())
	owner.Flush()
	if got := <-heard; got == nil { // by the other Context, which shares the hooks
		t.Error("no session")
	}
	for name, err := range map[string]error{
		"hello":  c.SetClientHelloCallback(nil),
		"lookup": c.SetSessionLookup(nil),
	} {
		if !errors.Is(err, sslctx.ErrForeignCallback) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, c.SetRemoveSessionCallback(nil))
	owner.CountCallbacks(false, false, true)
	if err := c.SetRemoveSessionCallback(func(*sslctx.Session) {}); !errors.Is(err, sslctx.ErrForeignCallback) {
		t.Errorf("remove: %v", err)
	}
	owner.Free()
	add(t, c, newSession(t, "c"))
	if !owner.Live() {
		t.Error("the Context does not hold the SSL_CTX")
	}
	_, err = c.Sessions()
	wantArgument(t, err, "receiver")
	_, err = sslctx.ContextFromPointer(nil, nil)
	wantArgument(t, err, "p")
	_, err = c.SessionOf(nil)
	wantArgument(t, err, "ssl")
	wantArgument(t, c.SetSessionOf(nil, nil), "ssl")
	if err := c.SetTicketKeyRing(nil); !errors.Is(err, sslctx.ErrForeignCallback) {
		t.Errorf("ticket keys: %v", err)
	}
}

// TestUnheardEventsGo: callbacks stay in an SSL_CTX that goes on without a Context, and must not gather events.
func TestUnheardEventsGo(t *testing.T) {
	owner := ossltest.NewCtx()
	defer owner.Free()
	c, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	must(t, err)
	before := ossltest.LiveSessions()
	must(t, c.SetRemoveSessionCallback(func(*sslctx.Session) { t.Error("a hook of a closed Context is called") }))
	s, err := sslctx.NewSession()
	must(t, err)
	must(t, s.SetID([]byte("unheard")))
	add(t, c, s)
	must(t, s.Close())
	must(t, c.Close())
	owner.Flush()
	if n := ossltest.LiveSessions(); n > before {
		t.Errorf("%d sessions are alive, want %d", n, before)
	}
}

// TestOwnerIsKept while a Context is open.
func TestOwnerIsKept(t *testing.T) {
	ctx := ossltest.NewCtx()
	defer ctx.Free()
	c, owner := func() (*sslctx.Context, weak.Pointer[[64]byte]) {
		owner := new([64]byte)
		c, err := sslctx.ContextFromPointer(ctx.Pointer(), owner)
		must(t, err)
		return c, weak.Make(owner)
	}()
	runtime.GC()
	if owner.Value() == nil {
		t.Error("the owner was collected")
	}
	must(t, c.Close())
	if ossltest.Settle(func() int { return toInt(owner.Value() != nil) }, 0) != 0 {
		t.Error("a closed Context keeps the owner")
	}
	runtime.KeepAlive(c)
}
