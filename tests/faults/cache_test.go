// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"io"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// TestFailingClientCache: allocations fail in a client that resumes by a ClientSessionCache. The connection
// works or fails with an error, and the next one works.
func TestFailingClientCache(t *testing.T) {
	defer tlstest.Watchdog(5 * time.Minute)()
	left, right := newThread(t), newThread(t)
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := tlstest.NewEnds(t, v)
		cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
		tlstest.Must(t, err)
		d := &sslctx.Dialer{Context: e.Client, SessionCache: cache}
		seen := 0
		connect := func(what ossltest.Failing) error {
			serverEnd, clientEnd := tlstest.Wire()
			server, err := sslctx.Server(serverEnd, e.Server)
			tlstest.Must(t, err)
			tlstest.Must(t, server.SetDeadline(time.Now().Add(time.Minute)))
			served := left.run(func() error {
				_, err := server.Write([]byte("hello"))
				if err == nil {
					_, err = server.Read(make([]byte, 1))
				}
				return errors.Join(err, server.Close())
			})
			err = <-right.run(func() error {
				stop := what.Fail()
				defer func() { seen = stop().Seen }()
				c, err := d.ClientContext(t.Context(), clientEnd, "localhost:1")
				if err != nil {
					return err
				}
				_, err = io.ReadFull(c, make([]byte, 5))
				if err == nil {
					_, err = c.Write([]byte{1})
				}
				return errors.Join(err, c.Close())
			})
			_ = clientEnd.Close()
			<-served
			return err
		}
		for range 3 {
			tlstest.Must(t, connect(ossltest.Failing{}))
		}
		resumed := cache.Stats().Resumed
		if resumed == 0 {
			t.Fatal("no connection resumes")
		}
		n, failed := seen, 0
		for _, nth := range chooseFailures(n) {
			if err := connect(ossltest.Failing{Nth: nth, Spared: sparedOfHandshakes()}); err != nil {
				failed++
				if errors.Is(err, errQueueLeft) {
					t.Errorf("failure %d at %v: %v", nth, ossltest.SiteOf(nth), err)
				}
			}
			if err := connect(ossltest.Failing{}); err != nil {
				t.Fatalf("after failure %d at %v: %v", nth, ossltest.SiteOf(nth), err)
			}
		}
		if failed == 0 || cache.Stats().Resumed == resumed {
			t.Errorf("%d of %d connections fail, %d resume", failed, n, cache.Stats().Resumed)
		}
	})
}
