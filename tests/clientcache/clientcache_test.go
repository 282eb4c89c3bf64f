// SPDX-License-Identifier: Apache-2.0

package clientcache_test

import (
	"fmt"
	"testing"

	"sslctx"
	"sslctx/internal/tlstest"
)

func newCache(t testing.TB, config sslctx.ClientSessionCacheConfig) *sslctx.ClientSessionCache {
	t.Helper()
	c, err := sslctx.NewClientSessionCache(config)
	must(t, err)
	return c
}

// connect makes a connection and uses it once.
func connect(t testing.TB, d *sslctx.Dialer, addr string) *sslctx.Conn {
	t.Helper()
	c, err := d.Dial("tcp", addr)
	must(t, err)
	must(t, use(c))
	return c.(*sslctx.Conn)
}

// TestResumesByItself: a pool of 64 connections is renewed until there were a thousand. Nearly all
// resume, and no session of TLS 1.3 is offered twice.
func TestResumesByItself(t *testing.T) {
	connections, pool := 1000, 64
	if tlstest.Instrumented {
		connections = 300
	}
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, tickets := range []int{0, 1, 2, 10, 100} {
			if v == sslctx.VersionTLS12 && tickets > 1 {
				break
			}
			t.Run(fmt.Sprint(tickets), func(t *testing.T) {
				e := tlstest.NewEnds(t, v)
				must(t, e.Server.SetNumTickets(tickets))
				if tickets == 0 {
					_, err := e.Server.SetSessionCacheMode(sslctx.SessCacheOff)
					must(t, err)
					_, err = e.Server.SetOptions(sslctx.OpNoTicket)
					must(t, err)
				}
				s := serve(t, e.Server)
				cache := newCache(t, sslctx.ClientSessionCacheConfig{})
				d := &sslctx.Dialer{Context: e.Client, ServerName: "localhost", SessionCache: cache}
				var open []*sslctx.Conn
				for range connections {
					open = append(open, connect(t, d, s.addr))
					if len(open) > pool {
						must(t, open[0].Close())
						open = open[1:]
					}
				}
				for _, c := range open {
					must(t, c.Close())
				}
				resumed, full, most := s.counts()
				if want := connections * 99 / 100; tickets > 0 && resumed < want || tickets == 0 && resumed != 0 {
					t.Errorf("%d connections resume, %d do not", resumed, full)
				}
				if v == sslctx.VersionTLS13 && most > 1 {
					t.Errorf("a session is offered %d times", most)
				}
				now := cache.Stats()
				if int(now.Resumed) != resumed || int(now.Offered) != resumed || now.Declined != 0 {
					t.Errorf("%+v; the server has resumed %d", now, resumed)
				}
			})
		}
	})
}
