// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

var errOfHook = errors.New("the hook's")

// shake runs a handshake that may fail, and makes the client read after it.
func (e ends) shake(t *testing.T, change func(server, client *sslctx.Conn)) (server, client *sslctx.Conn, serverErr, clientErr error) {
	t.Helper()
	s, c := tcpPair(t)
	server, client = e.over(t, s, c, nil)
	if change != nil {
		change(server, client)
	}
	done := make(chan error, 1)
	go func() {
		err := server.Handshake()
		if err == nil {
			_, err = server.Write([]byte{1})
		} else {
			_ = s.Close()
		}
		done <- err
	}()
	_, clientErr = client.Read(make([]byte, 1))
	if clientErr != nil {
		_ = client.Abort()
	}
	return server, client, <-done, clientErr
}

func TestSessionIDGenerator(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := withIDs(t, v)
		var asked []*sslctx.Conn
		var made [][]byte
		must(t, e.server.SetSessionIDGenerator(func(_ context.Context, c *sslctx.Conn, n int) ([]byte, error) {
			if n != sslctx.MaxIDLength {
				t.Errorf("asked for %d bytes", n)
			}
			id := make([]byte, n)
			_, _ = rand.Read(id)
			if ok, err := c.HasMatchingSessionID(id); ok || err != nil {
				t.Errorf("the cache has a random ID: %v, %v", ok, err)
			}
			asked, made = append(asked, c), append(made, id)
			return id, nil
		}))
		server, client := e.connect(t, nil)
		want := map[sslctx.Version]int{sslctx.VersionTLS12: 1, sslctx.VersionTLS13: 2}[v]
		if len(made) != want || asked[0] != server {
			t.Fatalf("asked %d times", len(made))
		}
		if id := sessionOf(t, server).ID(); !bytes.Equal(id, made[want-1]) {
			t.Errorf("the ID is %x, the hook made %x", id, made)
		}
		if ok, err := server.HasMatchingSessionID(made[0]); !ok || err != nil {
			t.Errorf("the cache has no session of the hook's ID: %v", err)
		}
		offer := sessionOf(t, client)
		must(t, errors.Join(client.Close(), server.Close()))
		if _, client = e.connect(t, offer); !client.SessionReused() {
			t.Error("a session with the hook's ID is not resumed")
		}
		n := len(made)
		must(t, e.server.SetSessionIDGenerator(nil))
		e.connect(t, nil)
		if len(made) != n {
			t.Error("a hook that was removed is asked")
		}
	})
}

// TestSessionIDRules: libssl's rules for the IDs of a hook, and their errors.
func TestSessionIDRules(t *testing.T) {
	long := bytes.Repeat([]byte{7}, 33)
	for name, c := range map[string]struct {
		make   func(n int) ([]byte, error)
		reason int // of libssl; 0: it works
		want   error
	}{
		"1 byte":   {func(n int) ([]byte, error) { return long[:1], nil }, 0, nil},
		"32 bytes": {func(n int) ([]byte, error) { return long[:n], nil }, 0, nil},
		"nothing":  {func(int) ([]byte, error) { return nil, nil }, 303, nil},
		"33 bytes": {func(int) ([]byte, error) { return long, nil }, 303, nil},
		"1 MB":     {func(int) ([]byte, error) { return make([]byte, 1<<20), nil }, 303, nil},
		"error":    {func(n int) ([]byte, error) { return long[:n], errOfHook }, 301, errOfHook},
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				noQueue(t)
				e := withIDs(t, v)
				must(t, e.server.SetNumTickets(1))
				must(t, e.server.SetSessionIDGenerator(func(_ context.Context, _ *sslctx.Conn, n int) ([]byte, error) { return c.make(n) }))
				server, _, serverErr, clientErr := e.shake(t, nil)
				if c.reason == 0 {
					must(t, errors.Join(serverErr, clientErr))
					if id := sessionOf(t, server).ID(); !bytes.Equal(id, long[:len(id)]) || fmt.Sprint(len(id)) != strings.Fields(name)[0] {
						t.Errorf("the ID is %x", id)
					}
					_, _, serverErr, _ = e.shake(t, nil)
					if !errors.Is(serverErr, sslctx.Reason{Library: sslctx.LibSSL, Code: 302}) {
						t.Errorf("the second of one ID: %v", serverErr)
					}
					return
				}
				if !errors.Is(serverErr, sslctx.Reason{Library: sslctx.LibSSL, Code: c.reason}) || clientErr == nil {
					t.Errorf("%v, %v", serverErr, clientErr)
				}
				if c.want != nil && !errors.Is(serverErr, c.want) {
					t.Errorf("the hook's error is lost: %v", serverErr)
				}
				if err := server.Handshake(); v == sslctx.VersionTLS12 && fmt.Sprint(err) != fmt.Sprint(serverErr) {
					t.Errorf("the error does not stay: %v", err)
				}
			})
		})
	}
}

func TestSessionIDPrefix(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := withIDs(t, v)
		for _, prefix := range []string{"server 7:", "", strings.Repeat("x", sslctx.MaxSessionIDPrefix), "y"} {
			must(t, e.server.SetSessionIDPrefix([]byte(prefix)))
			server, client := e.connect(t, nil)
			s := sessionOf(t, server)
			if id := s.ID(); !bytes.HasPrefix(id, []byte(prefix)) || len(id) != 32 || bytes.Equal(id[30:], []byte{0, 0}) {
				t.Errorf("the ID is %q", id)
			} else if prefix == "y" && bytes.HasPrefix(id[1:], []byte("xxxxxx")) {
				t.Errorf("the ID has the prefix before, too: %q", id)
			}
			offer := sessionOf(t, client)
			must(t, errors.Join(client.Close(), server.Close()))
			if _, client = e.connect(t, offer); !client.SessionReused() {
				t.Errorf("a session with the prefix %q is not resumed", prefix)
			}
		}
		var arg *sslctx.ArgumentError
		err := e.server.SetSessionIDPrefix(make([]byte, sslctx.MaxSessionIDPrefix+1))
		if !errors.As(err, &arg) || arg.Arg != "prefix" || !strings.Contains(err.Error(), "16") {
			t.Error(err)
		}
	})
}

// TestSessionIDOfConn: a connection's own hook takes precedence over its context's hook.
func TestSessionIDOfConn(t *testing.T) {
	e := withIDs(t, sslctx.VersionTLS12)
	id := func(b byte) func(context.Context, *sslctx.Conn, int) ([]byte, error) {
		return func(_ context.Context, _ *sslctx.Conn, n int) ([]byte, error) { return bytes.Repeat([]byte{b}, n), nil }
	}
	for _, own := range []bool{false, true} {
		must(t, e.server.SetSessionIDGenerator(nil))
		for want, change := range map[byte]func(server *sslctx.Conn) error{
			1: func(server *sslctx.Conn) error { return server.SetSessionIDGenerator(id(1)) },
			2: func(server *sslctx.Conn) error {
				return errors.Join(server.SetSessionIDGenerator(id(1)), server.SetSessionIDGenerator(nil), e.server.SetSessionIDGenerator(id(2)))
			},
		} {
			if own {
				must(t, e.server.SetSessionIDGenerator(id(3)))
				want, change = 3, func(server *sslctx.Conn) error { return server.SetSessionIDGenerator(nil) }
			}
			must(t, e.server.FlushSessions(time.Time{}))
			server, _, serverErr, clientErr := e.shake(t, func(server, _ *sslctx.Conn) { must(t, change(server)) })
			must(t, errors.Join(serverErr, clientErr))
			if got := sessionOf(t, server).ID(); got[0] != want {
				t.Errorf("the ID is %x, want %d", got, want)
			}
		}
	}
}

// TestDecidingHooksPanic: each hook that libssl waits for panics, or ends its goroutine.
func TestDecidingHooksPanic(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("the hook's") }, "Goexit": runtime.Goexit} {
		for what, set := range map[string]func(*sslctx.Context) error{
			"ID": func(c *sslctx.Context) error {
				return c.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) { end(); return nil, nil })
			},
			"not resumable": func(c *sslctx.Context) error {
				return c.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { end(); return false })
			},
			"generate": func(c *sslctx.Context) error {
				return c.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) { end(); return nil, nil }, nil)
			},
			"decrypt": func(c *sslctx.Context) error {
				return c.SetSessionTicketCallback(nil, func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn { end(); return sslctx.TicketUse })
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				live := ossltest.LiveSessions()
				e := newEnds(t, sslctx.VersionTLS12)
				if what == "ID" {
					e = withIDs(t, sslctx.VersionTLS12)
				}
				must(t, set(e.server))
				s, c := tcpPair(t)
				server, client := e.over(t, s, c, nil)
				clientDone := make(chan error, 1)
				go func() { clientDone <- client.Handshake() }()
				wantHookEnd(t, server, name)
				// The hook about resumption decides nothing else: that handshake continues.
				if err := server.Handshake(); (err == nil) != (what == "not resumable") {
					t.Errorf("Handshake afterwards: %v", err)
				}
				must(t, server.Close())
				<-clientDone
				must(t, client.Close())
				if n := ossltest.CollectUntil(ossltest.LiveSessions, live); n > live {
					t.Errorf("%d sessions are left of %d", n, live)
				}
			})
		}
	}
}

// TestDecidingHooksCallContext: the hooks use and configure the context while libssl waits for
// them.
func TestDecidingHooksCallContext(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		asked := map[string]int{}
		everything := func(what string) {
			asked[what]++
			s := newSession(t, "x")
			add(t, e.server, s)
			remove(t, e.server, s)
			must(t, s.SetTimeout(1e9))
			must(t, e.server.SetCipherList("HIGH"))
			must(t, e.server.FlushSessions(time.Time{}))
			must(t, e.server.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: sslctx.NewTicketKey()}))
			must(t, e.server.SetNumTickets(2))
			must(t, e.server.SetSessionIDPrefix(nil))
		}
		must(t, e.server.SetSessionIDGenerator(func(_ context.Context, c *sslctx.Conn, n int) ([]byte, error) {
			if asked["ID"] == 0 {
				everything("ID") // it removes the hook
			}
			return bytes.Repeat([]byte{5}, n), nil
		}))
		must(t, e.server.SetNotResumableSessionCallback(func(_ context.Context, c *sslctx.Conn, _ bool) bool { everything("not resumable"); return false }))
		must(t, e.server.SetSessionTicketCallback(
			func(_ context.Context, t sslctx.SessionTicket) ([]byte, error) {
				everything("generate")
				return nil, nil
			},
			func(_ context.Context, t sslctx.SessionTicket) sslctx.TicketReturn {
				everything("decrypt")
				return sslctx.TicketIgnoreRenew
			}))
		_, client := e.connect(t, nil)
		e.connect(t, sessionOf(t, client))
		want := "map[decrypt:2 generate:2 not resumable:2]"
		if v == sslctx.VersionTLS13 {
			want = "map[decrypt:1 generate:4 not resumable:2]"
		}
		if got := fmt.Sprint(asked); got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	})
}

func TestNotResumable(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		for i := range 4 {
			tickets, not := i&1 == 0, i&2 == 0
			e := newEnds(t, v)
			if !tickets {
				e = withIDs(t, v)
			}
			asked := 0
			must(t, e.server.SetNotResumableSessionCallback(func(_ context.Context, _ *sslctx.Conn, isForwardSecure bool) bool {
				asked++
				if isForwardSecure != (v == sslctx.VersionTLS12) {
					t.Errorf("isForwardSecure is %v", isForwardSecure)
				}
				return not
			}))
			if reused := e.reconnect(t); reused == not {
				t.Errorf("with tickets %v, not resumable %v: resumed %v", tickets, not, reused)
			}
			want := map[bool]int{true: 2, false: 1}[not] // the hook is not called for a resumed session
			if asked != want {
				t.Errorf("asked %d times, want %d", asked, want)
			}
			server, _, serverErr, clientErr := e.shake(t, func(server, _ *sslctx.Conn) {
				must(t, server.SetNotResumableSessionCallback(nil))
			})
			must(t, errors.Join(serverErr, clientErr))
			if asked != want || (!tickets && !sessionOf(t, server).IsResumable()) {
				t.Error("the context's hook is asked for a connection that has none")
			}
			_, _, serverErr, clientErr = e.shake(t, func(server, _ *sslctx.Conn) {
				must(t, server.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { want = 0; return true }))
			})
			if must(t, errors.Join(serverErr, clientErr)); want != 0 {
				t.Error("the connection's own hook is not asked")
			}
		}
	})
}

func TestHasMatchingSessionID(t *testing.T) {
	noQueue(t)
	server, client := connPair(t)
	for _, c := range []*sslctx.Conn{server, client} {
		for n := range 33 {
			if ok, err := c.HasMatchingSessionID(make([]byte, n)); ok || err != nil {
				t.Errorf("%d bytes: %v, %v", n, ok, err)
			}
		}
		var arg *sslctx.ArgumentError
		if _, err := c.HasMatchingSessionID(make([]byte, 33)); !errors.As(err, &arg) {
			t.Error(err)
		}
		if err := c.SetIDContext(make([]byte, 33)); !errors.As(err, &arg) {
			t.Error(err)
		}
	}
}

// TestIDContextOfOneConn resumes where the ID contexts are the same.
func TestIDContextOfOneConn(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.server.SetIDContext([]byte("all")))
		var offer *sslctx.Session
		for _, c := range []struct {
			id   string
			want bool
		}{{"a", false}, {"a", true}, {"b", false}, {"", false}} {
			server, client, serverErr, clientErr := e.shake(t, func(server, client *sslctx.Conn) {
				must(t, server.SetIDContext([]byte(c.id)))
				must(t, client.SetSession(offer))
			})
			must(t, errors.Join(serverErr, clientErr))
			if server.SessionReused() != c.want {
				t.Errorf("%q: resumed is %v", c.id, server.SessionReused())
			}
			if got := sessionOf(t, server).IDContext(); string(got) != c.id {
				t.Errorf("the ID context is %q, want %q", got, c.id)
			}
			if offer == nil {
				offer = sessionOf(t, client)
			}
			must(t, errors.Join(client.Close(), server.Close()))
			if v == sslctx.VersionTLS13 && c.want {
				break // a client has used its ticket
			}
		}
	})
}

func TestCopySessionID(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.client.SetIDContext([]byte("client")))
		_, from := e.connect(t, nil)
		server, client, serverErr, clientErr := e.shake(t, func(_, client *sslctx.Conn) {
			must(t, client.SetIDContext([]byte("other")))
			must(t, client.CopySessionID(from))
			if !sessionOf(t, client).Same(sessionOf(t, from)) {
				t.Error("the session is another")
			}
		})
		must(t, errors.Join(serverErr, clientErr))
		if !server.SessionReused() || !client.SessionReused() {
			t.Error("not resumed")
		}
		if err := client.CopySessionID(from); !errors.Is(err, sslctx.ErrHandshakeStarted) {
			t.Error(err)
		}
		other := ends{e.server, newEnds(t, v).client}
		must(t, other.client.SetVerify(sslctx.VerifyNone))
		_, client, serverErr, clientErr = other.shake(t, func(_, client *sslctx.Conn) {
			must(t, client.CopySessionID(from))
			if sessionOf(t, client).Same(sessionOf(t, from)) {
				t.Error("the object of another context is shared")
			}
			fresh, err := sslctx.Client(client.NetConn(), e.client)
			must(t, err)
			must(t, fresh.AcceptAnyName())
			must(t, client.CopySessionID(fresh))
			if _, err := client.Session(); !errors.Is(err, sslctx.ErrNoSession) {
				t.Errorf("after a copy of none: %v", err)
			}
			must(t, client.CopySessionID(from))
			_ = fresh.SetQuietShutdown(true)
		})
		must(t, errors.Join(serverErr, clientErr))
		var arg *sslctx.ArgumentError
		if err := client.CopySessionID(nil); !errors.As(err, &arg) {
			t.Error(err)
		}
	})
}

// A configuringError calls a setter of a context when somebody asks for its text.
type configuringError struct{ context *sslctx.Context }

func (e configuringError) Error() string {
	_, err := e.context.SetCacheSize(5)
	return fmt.Sprint("of a hook, ", err)
}

// TestHookErrorIsNotAsked: the methods of a hook's error, and of the reason that ends its context, are
// the application's. None runs where the binding holds locks.
func TestHookErrorIsNotAsked(t *testing.T) {
	e := withIDs(t, sslctx.VersionTLS12)
	reason := configuringError{e.server}
	for name, hook := range map[string]func(context.Context, context.CancelCauseFunc) error{
		"error": func(context.Context, context.CancelCauseFunc) error { return reason },
		"cause": func(ctx context.Context, end context.CancelCauseFunc) error {
			end(reason)
			<-ctx.Done()
			return nil
		},
	} {
		ctx, end := context.WithCancelCause(t.Context())
		must(t, e.server.SetSessionIDGenerator(func(hookCtx context.Context, _ *sslctx.Conn, n int) ([]byte, error) {
			return make([]byte, n), hook(hookCtx, end)
		}))
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		go func() { _ = client.Handshake() }()
		done := make(chan error, 1)
		go func() { done <- server.HandshakeContext(ctx) }()
		select {
		case err := <-done:
			if name == "error" && (!errors.Is(err, reason) || !strings.Contains(err.Error(), "of a hook, <nil>")) || err == nil {
				t.Errorf("%s: HandshakeContext returns %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the handshake hangs", name)
		}
		end(nil)
	}
}

// A removesPool is a key log that removes the pool of a context.
type removesPool struct{ context *sslctx.Context }

func (r removesPool) Write(p []byte) (int, error) { return len(p), r.context.TrustCertPool(nil) }

// TestPoolRemovedMeanwhile: a client's handshake waits for its pool, and the pool is removed. The store of
// the context trusts the server, too: the handshake succeeds.
func TestPoolRemovedMeanwhile(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		root := issue(t, "root", nil, authority)
		e := bare(t, v, issue(t, "host", root, nil).TLSCertificate())
		must(t, e.client.TrustCertificate(root.Cert))
		pool := x509.NewCertPool()
		pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error { return e.client.TrustCertPool(nil) })
		must(t, e.client.TrustCertPool(pool))
		must(t, e.client.SetKeyLogWriter(removesPool{e.client})) // in TLS 1.3 it runs before the constraint
		if _, _, serverErr, clientErr := meet(t, e); serverErr != nil || clientErr != nil {
			t.Errorf("the server has %v, the client %v", serverErr, clientErr)
		}
	})
}
