// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
)

// A waitingHook is a hook that decides. set has it call wait, and prepares a connection that asks it.
type waitingHook struct {
	set func(t *testing.T, wait func(context.Context)) (shakes, peer *sslctx.Conn)

	deaf      bool // it is given no context
	optional  bool // without an answer the handshake goes on, and may be done before the transport's own deadline
	readEarly bool // it is asked by ReadEarlyData
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

// offerPSK has the client offer a key, by a hook of its own. whenOffered is called then.
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

// offering has a client offer a session that the server's own cache does not have.
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

// TestHookContexts has each hook that decides wait for ever. The handshake ends when its context does, when a deadline
// passes, and on Close, and so does the hook's context.
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

// TestTooManyHooks has as many threads wait for hooks as may. Handshakes that can do without a further hook do, and the
// others fail; none waits. When the hooks return there is room again.
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
			continue // these hold no thread, are asked for a while, or need a hook of the client at the same time
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
