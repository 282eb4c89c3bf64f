// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"sslctx"
	"sslctx/internal/ossltest"
)

// journal records the calls of hooks, in order.
type journal struct {
	mu    sync.Mutex
	words []string
}

func (j *journal) add(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.words = append(j.words, fmt.Sprintf(format, a...))
}

// take returns the entries since the last take.
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

// listen sets hooks of c that record all its sessions in j, under a name.
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

// listenIDs sets a hook that records the IDs of removed sessions in j.
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

// TestEventOrder: the events of both ends have the order of the reference's golden scenarios.
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

// countingConn counts the written bytes.
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
	j.want(t, "RemoveSession of what is not cached", "a") // as in libssl
	must(t, c.FlushSessions(time.Unix(2000+305, 0)))
	j.want(t, "FlushSessions", "b")
	add(t, c, timed("same", 3000))
	add(t, c, timed("same", 4000))
	j.want(t, "replacement") // libssl reports none
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

// TestRemoveHookForeignSession removes a session of another context. libssl reports it, but the
// hook's handle must not make it a session of this context.
func TestRemoveHookForeignSession(t *testing.T) {
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

// TestNoHookNoCallback: without a hook libssl has no callback, and other code finds no callback
// that it did not set.
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

// TestLastConnRunsRemoveHook: a Conn releases the last reference to the SSL_CTX, which flushes its
// cache.
func TestLastConnRunsRemoveHook(t *testing.T) {
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

// TestHookCallsEverything: a hook for an eviction makes calls that would deadlock in C.
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
		_, err := c.AddSession(s) // it evicts another
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

// TestHookOnConnCallsItsConn: hooks use the connection that they are called for.
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

// TestHookPanics: a hook panics or ends its goroutine. The call ends in the same way, all other
// events are reported, and libssl's locks are free.
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

// TestHookPanicsInHandshake: a panic ends the handshake of one connection and nothing else.
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

// TestCollectedContextRunsNoHook collects a Context whose hook refers to it.
func TestCollectedContextRunsNoHook(t *testing.T) {
	before := ossltest.LiveContexts()
	func() {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		must(t, err)
		must(t, c.SetRemoveSessionCallback(func(*sslctx.Session) { t.Error("told by", c) }))
		add(t, c, newSession(t, "a"))
	}()
	if n := ossltest.CollectUntil(ossltest.LiveContexts, before); n > before {
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

// TestContextFromPointer shares an SSL_CTX with other code, which made it, uses it, and frees it
// first.
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
	if got := <-heard; got == nil { // through the other Context, which shares the hooks
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

// TestUnfetchedEventsAreFreed: callbacks stay in an SSL_CTX that is used without a Context. They
// must not collect events.
func TestUnfetchedEventsAreFreed(t *testing.T) {
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

// TestOwnerIsKept: a Context keeps its owner alive while it is open.
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
	if ossltest.CollectUntil(func() int { return toInt(owner.Value() != nil) }, 0) != 0 {
		t.Error("a closed Context keeps the owner")
	}
	runtime.KeepAlive(c)
}

// A waitingHook is a hook that decides. set makes the hook call wait, and prepares a connection
// that calls the hook.
type waitingHook struct {
	set func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn)

	deaf      bool // it gets no context
	optional  bool // without an answer the handshake continues, and may complete before the transport's own deadline
	readEarly bool // ReadEarlyData calls it
}

// waitingHooks are all hooks that decide.
var waitingHooks = map[string]waitingHook{
	"ClientHello": {set: onServer(sslctx.VersionTLS13, func(e ends, wait func(context.Context)) error {
		return e.server.SetClientHelloCallback(func(ctx context.Context, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
			wait(ctx)
			return nil, nil
		})
	})},
	"lookup": {optional: true, set: offering(func(e ends, wait func(context.Context)) error {
		return e.server.SetSessionLookup(&sslctx.SessionLookup{Find: func(ctx context.Context, _ sslctx.SessionQuery) (*sslctx.Session, error) {
			wait(ctx)
			return nil, nil
		}})
	})},
	"get": {optional: true, set: offering(func(e ends, wait func(context.Context)) error {
		return e.server.SetGetSessionCallback(func(ctx context.Context, _ []byte) *sslctx.Session { wait(ctx); return nil })
	})},
	"ID": {set: onServer(sslctx.VersionTLS13, func(e ends, wait func(context.Context)) error {
		return e.server.SetSessionIDGenerator(func(ctx context.Context, _ *sslctx.Conn, n int) ([]byte, error) {
			wait(ctx)
			return make([]byte, n), nil
		})
	})},
	"not resumable": {optional: true, set: onServer(sslctx.VersionTLS12, func(e ends, wait func(context.Context)) error {
		return e.server.SetNotResumableSessionCallback(func(ctx context.Context, _ *sslctx.Conn, _ bool) bool { wait(ctx); return false })
	})},
	"ticket to make": {set: onServer(sslctx.VersionTLS13, func(e ends, wait func(context.Context)) error {
		return e.server.SetSessionTicketCallback(func(ctx context.Context, _ sslctx.SessionTicket) ([]byte, error) {
			wait(ctx)
			return nil, nil
		}, nil)
	})},
	"ticket to read": {set: onServer(sslctx.VersionTLS12, func(e ends, wait func(context.Context)) error {
		return e.server.SetSessionTicketCallback(nil, func(ctx context.Context, _ sslctx.SessionTicket) sslctx.TicketReturn {
			wait(ctx)
			return sslctx.TicketDefault
		})
	})},
	"ticket extension": {set: func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn) {
		server, client := newEnds(t, sslctx.VersionTLS12).join(t, nil)
		must(t, server.SetSessionTicketExtCallback(func(ctx context.Context, _ []byte) error { wait(ctx); return nil }))
		return server, client
	}},
	"early data": {readEarly: true, optional: true, set: func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn) {
		e, s := earlyEnds(t, 100)
		must(t, e.server.SetAllowEarlyDataCallback(func(ctx context.Context, _ *sslctx.Conn) bool { wait(ctx); return true }))
		server, client := e.join(t, s)
		_, err := client.WriteEarlyData([]byte("early"))
		must(t, err)
		return server, client
	}},
	"key to find": {optional: true, set: onServer(sslctx.VersionTLS13, func(e ends, wait func(context.Context)) error {
		return errors.Join(offerPSK(e), e.server.SetPSKFindSessionCallback(
			func(ctx context.Context, _ *sslctx.Conn, _ []byte) *sslctx.Session { wait(ctx); return nil }))
	})},
	"key of a server": {set: onServer(sslctx.VersionTLS12, func(e ends, wait func(context.Context)) error {
		return errors.Join(e.client.SetCipherList("PSK"), e.server.SetCipherList("PSK"), offerPSK(e),
			e.server.SetPSKServerCallback(func(ctx context.Context, _ *sslctx.Conn, _ string) []byte { wait(ctx); return nil }))
	})},
	"key to use": {set: onClient(sslctx.VersionTLS13, func(e ends, wait func(context.Context)) error {
		return e.client.SetPSKUseSessionCallback(func(ctx context.Context, _ *sslctx.Conn, _ crypto.Hash) ([]byte, *sslctx.Session) {
			wait(ctx)
			return nil, nil
		})
	})},
	"key of a client": {set: onClient(sslctx.VersionTLS13, func(e ends, wait func(context.Context)) error {
		return e.client.SetPSKClientCallback(func(ctx context.Context, _ *sslctx.Conn, _ string) (string, []byte) {
			wait(ctx)
			return "", nil
		})
	})},
	"pool of a client": {deaf: true, set: func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn) {
		root := issue(t, "root", nil, authority)
		e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", root, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(waitingPool(root, wait)))
		server, client := e.join(t, nil)
		must(t, client.SetServerName("localhost"))
		return client, server
	}},
	"pool of a server": {deaf: true, set: func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn) {
		root := issue(t, "root", nil, authority)
		e := newEnds(t, sslctx.VersionTLS12)
		must(t, e.client.UseCertificate(issue(t, "client", root, nil).TLSCertificate()))
		must(t, e.server.SetVerify(sslctx.VerifyPeer))
		must(t, e.server.TrustCertPool(waitingPool(root, wait)))
		return e.join(t, nil)
	}},
}

// offerPSK makes the client offer a key by its hook, which calls whenOffered.
func offerPSK(e ends) error {
	return e.client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) {
		if f := whenOffered.Load(); f != nil {
			(*f)()
		}
		return "me", pskKey
	})
}

var whenOffered atomic.Pointer[func()]

func onServer(v sslctx.Version, set func(e ends, wait func(context.Context)) error) func(*testing.T, func(context.Context)) (shakes, peer *sslctx.Conn) {
	return func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn) {
		e := newEnds(t, v)
		must(t, set(e, wait))
		return e.join(t, nil)
	}
}

func onClient(v sslctx.Version, set func(e ends, wait func(context.Context)) error) func(*testing.T, func(context.Context)) (shakes, peer *sslctx.Conn) {
	return func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn) {
		server, client := onServer(v, set)(t, wait)
		return client, server
	}
}

// offering makes a client offer a session that the server's own cache does not have.
func offering(set func(e ends, wait func(context.Context)) error) func(*testing.T, func(context.Context)) (shakes, peer *sslctx.Conn) {
	return func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn) {
		e := withIDs(t, sslctx.VersionTLS12)
		_, err := e.server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal)
		must(t, err)
		offer := e.session(t)
		must(t, set(e, wait))
		return e.join(t, offer)
	}
}

var errDone = errors.New("the handshake is done")

func wantDeadline(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err == nil:
		return errDone
	}
	return err
}

// TestHookContexts: each hook that decides waits for ever. The handshake and the hook's context end
// with the handshake's context, at a deadline, and on Close.
func TestHookContexts(t *testing.T) {
	ends := map[string]func(shake func(context.Context) error, c *sslctx.Conn, asked <-chan bool) error{
		"context": func(shake func(context.Context) error, _ *sslctx.Conn, asked <-chan bool) error {
			ctx, cancel := context.WithCancel(context.Background())
			go func() { <-asked; cancel() }()
			err := shake(ctx)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return errors.Join(errors.New("not the context's error"), err)
		},
		"deadline": func(shake func(context.Context) error, c *sslctx.Conn, asked <-chan bool) error {
			go func() { <-asked }()
			err := c.SetDeadline(time.Now().Add(2 * time.Second))
			if err == nil {
				err = shake(context.Background())
			}
			return wantDeadline(err)
		},
		"deadline set meanwhile": func(shake func(context.Context) error, c *sslctx.Conn, asked <-chan bool) error {
			go func() { <-asked; _ = c.SetDeadline(time.Now()) }()
			return wantDeadline(shake(context.Background()))
		},
		"Close": func(shake func(context.Context) error, c *sslctx.Conn, asked <-chan bool) error {
			go func() { <-asked; _ = c.Close() }()
			if shake(context.Background()) == nil {
				return errors.New("the handshake of a closed connection is done")
			}
			return nil
		},
	}
	for name, hook := range waitingHooks {
		for how, end := range ends {
			if hook.readEarly && how == "context" {
				continue // ReadEarlyData has none
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				release, asked, ended := make(chan bool), make(chan bool), make(chan bool, 100)
				var first sync.Once
				c, peer := hook.set(t, func(ctx context.Context) {
					first.Do(func() { close(asked) })
					if !hook.deaf {
						<-ctx.Done()
						ended <- true
					}
					<-release
				})
				defer close(release)
				go func() { _ = peer.Handshake() }()
				shake := c.HandshakeContext
				if hook.readEarly {
					shake = func(context.Context) error {
						_, err := c.ReadEarlyData(make([]byte, 10))
						if err == io.EOF { // without an answer the data is rejected
							err = c.Handshake()
						}
						return err
					}
				}
				done := make(chan error, 1)
				go func() { done <- end(shake, c, asked) }()
				select {
				case err := <-done:
					if !hook.optional || err != errDone {
						must(t, err)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("the handshake waits for the hook")
				}
				select {
				case <-asked:
				default:
					t.Error("the hook was not asked")
				}
				if hook.deaf {
					return
				}
				select {
				case <-ended:
				case <-time.After(20 * time.Second):
					t.Error("the hook's context goes on")
				}
			})
		}
	}
}

// TestTooManyHooks: all hook threads wait. A handshake that can do without a further hook
// continues, others fail; none waits. When the hooks return, new hooks can run.
func TestTooManyHooks(t *testing.T) {
	release := make(chan bool)
	var all sync.WaitGroup
	asked := make(chan bool)
	e := withIDs(t, sslctx.VersionTLS12)
	must(t, e.server.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) {
		asked <- true
		<-release
		return nil, errors.New("too late")
	}))
	for range sslctx.HookThreads() - 1 {
		server, client := e.join(t, nil)
		all.Go(func() { _ = server.Handshake() })
		all.Go(func() { _ = client.Handshake() })
		<-asked
	}
	sslctx.HoldHookThread()
	for name, hook := range waitingHooks {
		if name == "ClientHello" || name == "lookup" || strings.HasPrefix(name, "pool of") || name == "key of a server" {
			continue // these hold no thread, run for a while, or need a hook of the client at the same time
		}
		t.Run(name, func(t *testing.T) {
			c, peer := hook.set(t, func(context.Context) { t.Error("the hook was asked") })
			offered := make(chan bool)
			told := func() { close(offered) }
			whenOffered.Store(&told)
			defer whenOffered.Store(nil)
			done := make(chan error, 1)
			if name == "key to find" { // the client's hook needs a thread, too
				sslctx.ReleaseHookThread()
			}
			go func() { done <- peer.Handshake() }()
			if name == "key to find" {
				<-offered
				sslctx.HoldHookThread()
			}
			var err error
			if hook.readEarly {
				_, err = c.ReadEarlyData(make([]byte, 10))
				if err != io.EOF {
					t.Errorf("ReadEarlyData returns %v", err)
				}
			}
			err = c.Handshake()
			if full := hook.optional || name == "ticket to read"; full {
				must(t, err)
			} else if !errors.Is(err, sslctx.ErrTooManyHooks) {
				t.Errorf("Handshake returns %v", err)
			}
			_ = c.Close()
			<-done
		})
	}
	t.Run("pool of a server", func(t *testing.T) {
		stop := make(chan bool)
		defer close(stop)
		c, peer := waitingHooks["pool of a server"].set(t, func(context.Context) { <-stop })
		go func() { _ = peer.Handshake() }()
		if err := c.Handshake(); !errors.Is(err, sslctx.ErrTooManyHooks) {
			t.Errorf("Handshake returns %v", err)
		}
	})
	close(release)
	all.Wait()
	sslctx.ReleaseHookThread()
	must(t, e.server.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) { return wholeID, nil }))
	e.connect(t, nil)
}

// TestHookErrorIsOneCalls: the error of a hook is the error of the call that asked it, and of no
// later one.
func TestHookErrorIsOneCalls(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	server, _ := e.connect(t, nil)
	must(t, e.server.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) {
		return nil, io.ErrShortWrite
	}, nil))
	if err := server.NewSessionTicket(); unsupported(err) {
		t.Skip(err)
	} else if !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("NewSessionTicket returns %v", err)
	}
	var ssl *sslctx.Error
	if err := server.VerifyClientPostHandshake(); !errors.As(err, &ssl) || errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a refusal later is %v", err)
	}
}
