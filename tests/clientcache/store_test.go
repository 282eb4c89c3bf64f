// SPDX-License-Identifier: Apache-2.0

package clientcache_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/asn1"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
	"sslctx/sessionfile"
)

// A mapStore is a store in memory.
type mapStore struct {
	mu     sync.Mutex
	values map[string][]byte
	twice  bool // each change is tried twice, as by a store that finds another's change
}

func (s *mapStore) Update(_ context.Context, key string, change func([]byte) []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.twice {
		_ = change(bytes.Clone(s.values[key]))
	}
	if value := change(bytes.Clone(s.values[key])); len(value) > 0 {
		s.values[key] = value
	} else {
		delete(s.values, key)
	}
	return nil
}

// stored gives a Dialer like d another cache, over a store.
func stored(t *testing.T, d sslctx.Dialer, store sslctx.ClientSessionStore) *sslctx.Dialer {
	t.Helper()
	d.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{Store: store})
	return &d
}

// A chained has a server whose certificate has an intermediate authority.
type chained struct {
	root, middle *tlstest.Issued
	server       *sslctx.Context
	site         *site
}

func newChained(t *testing.T, v sslctx.Version) *chained {
	root := tlstest.Issue(t, "root", nil, tlstest.Authority)
	middle := tlstest.Issue(t, "middle", root, tlstest.Authority)
	e := tlstest.NewEndsWith(t, v, tlstest.Issue(t, "host", middle, nil).TLSCertificate(middle))
	return &chained{root, middle, e.Server, serve(t, e.Server)}
}

// dialer makes a Dialer with a new Context, as a new run of a program does.
func (w *chained) dialer(t *testing.T, trust func(c *sslctx.Context)) sslctx.Dialer {
	t.Helper()
	c := tlstest.NewContext(t, sslctx.TLSClientMethod)
	trust(c)
	return sslctx.Dialer{Context: c, ServerName: "localhost"}
}

// TestFileAcrossRuns: a session of one run resumes in the next. Its certificates are verified again, with
// the intermediate ones that the server sent, by what the new Context trusts.
func TestFileAcrossRuns(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newChained(t, v)
		path := filepath.Join(t.TempDir(), "sessions")
		for name, row := range map[string]struct {
			trust   func(c *sslctx.Context)
			resumes bool
		}{
			"store": {func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) }, true},
			"pool":  {func(c *sslctx.Context) { must(t, c.TrustCertPool(tlstest.PoolOf(w.root))) }, true},
		} {
			file, err := sessionfile.New(path, sessionfile.Options{})
			must(t, err)
			d := stored(t, w.dialer(t, row.trust), file)
			must(t, connect(t, d, w.site.addr).Close())
			for range 3 {
				d := stored(t, w.dialer(t, row.trust), file)
				c := connect(t, d, w.site.addr)
				chains := c.ConnectionState().VerifiedChains
				if !c.SessionReused() || len(chains) != 1 || len(chains[0]) != 3 {
					t.Errorf("%s: the connection resumes: %v, chains %v", name, c.SessionReused(), chains)
				}
				must(t, c.Close())
			}
		}
	})
}

// TestStoreAfterLostTrust: a new run trusts another authority of the same name. The session of the file is
// not offered, although the certificate that a session itself stores has no issuer there.
func TestStoreAfterLostTrust(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newChained(t, v)
		store := &mapStore{values: map[string][]byte{}}
		d := stored(t, w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) }), store)
		must(t, connect(t, d, w.site.addr).Close())
		other := tlstest.Issue(t, "root", nil, tlstest.Authority)
		d = stored(t, w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(other.Cert)) }), store)
		_, err := d.Dial("tcp", w.site.addr)
		var failed *sslctx.Error
		if !errors.As(err, &failed) || failed.VerifyResult == sslctx.VerifyOK {
			t.Errorf("Dial returns %v", err)
		}
	})
}

// TestStoreTriesAgain: a store may try a change twice.
func TestStoreTriesAgain(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newChained(t, v)
		d := stored(t, w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) }), &mapStore{values: map[string][]byte{}, twice: true})
		for i := range 4 {
			c := connect(t, d, w.site.addr)
			if c.SessionReused() != (i > 0) {
				t.Errorf("connection %d resumes: %v", i, c.SessionReused())
			}
			must(t, c.Close())
		}
		if _, _, most := w.site.counts(); v == sslctx.VersionTLS13 && most > 1 {
			t.Errorf("a session is offered %d times", most)
		}
	})
}

// TestHostileStore: a value with any byte changed, or cut, is no session or one that does not harm: each
// connection succeeds.
func TestHostileStore(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newChained(t, v)
		store := &mapStore{values: map[string][]byte{}}
		d := stored(t, w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) }), store)
		must(t, connect(t, d, w.site.addr).Close())
		var key string
		var value []byte
		for key, value = range store.values {
			value = bytes.Clone(value)
		}
		failed := 0
		for i := 0; i < len(value); i += 1 + len(value)/300 {
			bad := bytes.Clone(value)
			bad[i] ^= 0x55
			if i%3 == 0 {
				bad = bad[:i]
			}
			store.values[key] = bad
			c, err := d.Dial("tcp", w.site.addr)
			var refused *sslctx.Error
			switch {
			case errors.As(err, &refused): // the keys of a session are changed: the server's answer cannot be read
				failed++
				if len(store.values[key]) > 0 {
					t.Errorf("byte %d: the session stays after %v", i, err)
				}
			case err != nil:
				t.Errorf("byte %d: %v", i, err)
			default:
				must(t, use(c))
				must(t, c.Close())
			}
		}
		if failed > 150 {
			t.Errorf("%d connections fail", failed)
		}
		if d.SessionCache.Stats().Failed == 0 {
			t.Error("no value is counted as one that nobody can read")
		}
	})
}

// TestStoreFails: a store that fails or waits makes handshakes full ones, in time.
func TestStoreFails(t *testing.T) {
	w := newChained(t, sslctx.VersionTLS13)
	trust := func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) }
	for name, update := range map[string]func(ctx context.Context) error{
		"error": func(context.Context) error { return errors.ErrUnsupported },
		"waits": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		var calls atomic.Int32
		d := w.dialer(t, trust)
		d.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{StoreTimeout: 10 * time.Millisecond, Store: storeFunc(func(ctx context.Context) error {
			calls.Add(1)
			return update(ctx)
		})})
		c := connect(t, &d, w.site.addr)
		must(t, c.Close())
		now := d.SessionCache.Stats()
		if c.SessionReused() || calls.Load() < 2 || int32(now.Failed) != calls.Load() || now.Kept != 0 || now.Offered != 0 {
			t.Errorf("%s: %d calls, %+v", name, calls.Load(), now)
		}
	}
}

// TestStoreDeadline: each call of a store has a time limit, which is a second by default.
func TestStoreDeadline(t *testing.T) {
	w := newChained(t, sslctx.VersionTLS13)
	for _, want := range []time.Duration{0, time.Hour} {
		d := w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) })
		d.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{StoreTimeout: want, Store: storeFunc(func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			limit := cmp.Or(want, time.Second)
			if left := time.Until(deadline); !ok || left > limit || left < limit/10 {
				t.Errorf("StoreTimeout %v: the time limit is %v", want, left)
			}
			return nil
		})})
		must(t, connect(t, &d, w.site.addr).Close())
	}
}

type storeFunc func(ctx context.Context) error

func (f storeFunc) Update(ctx context.Context, _ string, _ func([]byte) []byte) error { return f(ctx) }

// TestStoreWithoutChain: a value of the store lacks the certificates that the server sent, or has those of
// another server. The session is not offered: without them nobody could tell who made it.
func TestStoreWithoutChain(t *testing.T) {
	type session struct {
		Session, Chain []byte
		Expires        int64
		Single         bool
	}
	type sessions struct {
		Version  int
		Sessions []session
	}
	w := newChained(t, sslctx.VersionTLS12)
	store := &mapStore{values: map[string][]byte{}}
	d := stored(t, w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) }), store)
	other := tlstest.Issue(t, "other host", w.middle, nil).Cert.Raw
	for name, change := range map[string]func(chain []byte) []byte{
		"none":         func([]byte) []byte { return nil },
		"another":      func([]byte) []byte { return other },
		"only middle":  func([]byte) []byte { return w.middle.Cert.Raw },
		"more behind":  func(chain []byte) []byte { return append(chain, 0x30) },
		"as it should": func(chain []byte) []byte { return chain },
	} {
		clear(store.values)
		must(t, connect(t, d, w.site.addr).Close())
		for key, value := range store.values {
			var all sessions
			rest, err := asn1.Unmarshal(value, &all)
			must(t, err)
			if len(rest) > 0 || len(all.Sessions) != 1 {
				t.Fatalf("%d sessions and %d bytes more", len(all.Sessions), len(rest))
			}
			all.Sessions[0].Chain = change(all.Sessions[0].Chain)
			store.values[key], err = asn1.Marshal(all)
			must(t, err)
		}
		before := d.SessionCache.Stats().Offered
		c := connect(t, d, w.site.addr)
		must(t, c.Close())
		want := name == "as it should"
		if offered := d.SessionCache.Stats().Offered != before; offered != want || c.SessionReused() != want {
			t.Errorf("%s: offered: %v, resumed: %v", name, offered, c.SessionReused())
		}
	}
}

// TestManyTicketsAtOnce: a server sends a hundred tickets. The store gets the newest ones in one call for each
// Read, and each call has a limit.
func TestManyTicketsAtOnce(t *testing.T) {
	w := newChained(t, sslctx.VersionTLS13)
	must(t, w.server.SetNumTickets(100))
	var calls atomic.Int32
	most := 0
	store := &mapStore{values: map[string][]byte{}}
	d := w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) })
	d.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{TicketsPerServer: 2, Store: updateFunc(func(ctx context.Context, key string, change func([]byte) []byte) error {
		calls.Add(1)
		return store.Update(ctx, key, func(old []byte) []byte {
			value := change(old)
			most = max(most, len(value))
			return value
		})
	})})
	c := connect(t, &d, w.site.addr)
	must(t, c.Close())
	now := d.SessionCache.Stats()
	if n := calls.Load(); n > 20 || now.Kept == 0 || now.Kept > 2*uint64(n) {
		t.Errorf("%d calls of the store keep %d sessions", n, now.Kept)
	}
	c = connect(t, &d, w.site.addr)
	must(t, c.Close())
	if !c.SessionReused() || most == 0 || most > 8000 {
		t.Errorf("the next connection resumes: %v; a value has %d bytes", c.SessionReused(), most)
	}
}

type updateFunc func(ctx context.Context, key string, change func([]byte) []byte) error

func (f updateFunc) Update(ctx context.Context, key string, change func([]byte) []byte) error {
	return f(ctx, key, change)
}

// A slowStore goes on after the end of its context: it calls change when it is let go.
type slowStore struct {
	mapStore
	slow atomic.Bool
	free chan bool // closed to let it go on
	done chan bool // closed when it is over
}

func (s *slowStore) Update(ctx context.Context, key string, change func([]byte) []byte) error {
	if s.slow.CompareAndSwap(true, false) {
		<-s.free
		defer close(s.done)
	}
	return s.mapStore.Update(ctx, key, change)
}

// TestSlowStore: a Store does not end with its context. The handshake waits no longer than StoreTimeout, and
// is a full one. What the Store does later changes nothing: the session is there for the next connection.
func TestSlowStore(t *testing.T) {
	w := newChained(t, sslctx.VersionTLS13)
	store := &slowStore{mapStore: mapStore{values: map[string][]byte{}}, free: make(chan bool), done: make(chan bool)}
	d := w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) })
	d.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{Store: store, StoreTimeout: 50 * time.Millisecond, TicketsPerServer: 1})
	must(t, connect(t, &d, w.site.addr).Close())
	store.slow.Store(true)
	c, err := d.Dial("tcp", w.site.addr)
	must(t, err)
	if c.(*sslctx.Conn).SessionReused() {
		t.Error("the connection resumes")
	}
	must(t, c.(*sslctx.Conn).Abort())
	close(store.free)
	<-store.done
	c, err = d.Dial("tcp", w.site.addr)
	must(t, err)
	if !c.(*sslctx.Conn).SessionReused() {
		t.Error("the session is gone")
	}
	must(t, c.Close())
}

// TestTicketsWithoutEnd: a server sends a ticket with each answer. A connection asks the Store sixteen times, and
// then once in a second.
func TestTicketsWithoutEnd(t *testing.T) {
	w := newChained(t, sslctx.VersionTLS13)
	store := &countingStore{mapStore: mapStore{values: map[string][]byte{}}}
	d := w.dialer(t, func(c *sslctx.Context) { must(t, c.TrustCertificate(w.root.Cert)) })
	d.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{Store: store})
	serverEnd, clientEnd := tlstest.TCPPair(t)
	server, err := sslctx.Server(serverEnd, w.server)
	must(t, err)
	defer server.Close()
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	client, err := d.ClientContext(t.Context(), clientEnd, "localhost:1")
	must(t, errors.Join(err, <-done))
	defer client.Close()
	begin := time.Now()
	for range 100 {
		if err := server.NewSessionTicket(); tlstest.IsUnsupported(err) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = server.Write([]byte{1}) }()
		_, err := client.Read(make([]byte, 1))
		must(t, err)
	}
	most := 1 + 16 + 1 + int32(time.Since(begin)/time.Second) // the first is the look for a session to offer
	if n := store.updates.Load(); n < 17 || n > most {
		t.Errorf("the Store is asked %d times, and may be %d times", n, most)
	}
}

// A countingStore counts what it is asked.
type countingStore struct {
	mapStore
	updates atomic.Int32
}

func (s *countingStore) Update(ctx context.Context, key string, change func([]byte) []byte) error {
	s.updates.Add(1)
	return s.mapStore.Update(ctx, key, change)
}
