// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"errors"
	"fmt"
	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// smallCache makes a context and more sessions than its cache can hold.
func smallCache(t *testing.T) (*sslctx.Context, []*sslctx.Session) {
	t.Helper()
	c := tlstest.NewContext(t, sslctx.TLSMethod)
	_, err := c.SetCacheSize(3)
	tlstest.Must(t, err)
	sessions := make([]*sslctx.Session, 8)
	for i := range sessions {
		sessions[i] = tlstest.NewSession(t, fmt.Sprint(i))
	}
	return c, sessions
}

// TestTorture: goroutines add, remove, flush, evict, set times, configure, copy and close on small
// caches, with shared sessions. Nothing may crash, hang or leak. docs/deviations.md says what
// libssl alone does with such calls.
func TestTorture(t *testing.T) {
	before := ossltest.LiveSessions()
	c, sessions := smallCache(t)
	steps := []func(i int, s *sslctx.Session) error{
		func(_ int, s *sslctx.Session) error { _, err := c.AddSession(s); return err },
		func(_ int, s *sslctx.Session) error { return s.SetTimeout(time.Duration(1) * time.Hour) },
		func(i int, s *sslctx.Session) error { return s.SetTime(time.Unix(int64(1000+i%7), 0)) },
		func(_ int, s *sslctx.Session) error { _, err := c.AddSessions(sessions); return err },
		func(_ int, s *sslctx.Session) error { _, err := c.RemoveSession(s); return err },
		func(i int, _ *sslctx.Session) error { return c.FlushSessions(time.Unix(int64(4600+i%7), 0)) },
		func(i int, _ *sslctx.Session) error { _, err := c.SetCacheSize(2 + i%3); return err },
		func(_ int, s *sslctx.Session) error {
			d, err := s.Dup()
			if err != nil {
				return err
			}
			_, err = c.AddSession(d)
			return errors.Join(err, d.Close())
		},
		func(_ int, s *sslctx.Session) error { _ = s.String(); _ = c.CacheStats(); return nil },
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 3000 {
				if err := steps[(i*7+g)%len(steps)](i, sessions[(i+g*3)%len(sessions)]); err != nil {
					t.Errorf("step %d of %d: %v", i, g, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, s := range sessions {
		tlstest.Must(t, s.Close())
	}
	tlstest.Must(t, c.Close())
	if n := ossltest.CollectUntil(ossltest.LiveSessions, before); n > before {
		t.Errorf("%d sessions are alive, %d before the test", n, before)
	}
}

// TestSetTimeoutWhileEvicted: libssl reads the owner of a session before it takes the owner's lock.
// One goroutine adds fresh sessions, which evict others. Another sets the time or timeout of
// recently cached sessions. Without the configuration lock in either setter, OpenSSL 3.0 crashes
// within half a second.
func TestSetTimeoutWhileEvicted(t *testing.T) {
	c := tlstest.NewContext(t, sslctx.TLSMethod)
	_, err := c.SetCacheSize(3)
	tlstest.Must(t, err)
	var latest [4]atomic.Pointer[sslctx.Session]
	end := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for i := g; time.Now().Before(end); i += 2 {
				s, err := sslctx.NewSession()
				if err == nil {
					err = s.SetID(fmt.Append(nil, i))
				}
				if err == nil {
					_, err = c.AddSession(s)
				}
				if err != nil {
					t.Error(err)
					return
				}
				_ = latest[i%len(latest)].Swap(s).Close()
			}
		})
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				s := latest[i%len(latest)].Load()
				if g == 0 {
					_ = s.SetTimeout(time.Duration(i%100) * time.Second) // it may be closed or nil
				} else {
					_ = s.SetTime(time.Unix(int64(1000+i%100), 0))
				}
			}
		})
	}
	wg.Wait()
	for i := range latest {
		tlstest.Must(t, latest[i].Load().Close())
	}
}

// TestAddAtOnce: many goroutines add shared sessions to a small cache. libssl 3.6.5 and 4.0 alone
// crash in this case.
func TestAddAtOnce(t *testing.T) {
	c, sessions := smallCache(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50_000 {
				_, _ = c.AddSession(sessions[(i*5+g*3)%len(sessions)])
			}
		})
	}
	wg.Wait()
	tlstest.Must(t, c.FlushSessions(time.Time{}))
	if n := c.CacheStats().Number; n != 0 {
		t.Errorf("%d sessions are cached after all were flushed", n)
	}
}

// TestRefusedWhileAdded: if one call refuses a session, the session stays published by another
// call.
func TestRefusedWhileAdded(t *testing.T) {
	for range 300 {
		c := tlstest.NewContext(t, sslctx.TLSMethod)
		s := tlstest.NewSession(t, "id")
		tlstest.Must(t, s.SetProtocolVersion(sslctx.VersionTLS12))
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _ = c.AddSession(s) })
		}
		wg.Go(func() { _ = s.SetProtocolVersion(sslctx.VersionAny) })
		wg.Wait()
		if n := c.CacheStats().Number; n == 1 {
			if err := s.SetID([]byte("x")); !errors.Is(err, sslctx.ErrPublished) {
				t.Fatalf("SetID of a cached session returns %v", err)
			}
		}
		tlstest.Must(t, c.Close())
	}
}
