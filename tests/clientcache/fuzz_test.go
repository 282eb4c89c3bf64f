// SPDX-License-Identifier: Apache-2.0

package clientcache_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
)

// A fixedStore gives each connection the same value, and drops changes. It notes the last one.
type fixedStore struct{ value, last []byte }

func (s *fixedStore) Update(_ context.Context, _ string, change func([]byte) []byte) error {
	if last := change(s.value); len(last) > 0 {
		s.last = last
	}
	return nil
}

// FuzzStoredSessions has a client resume by a value of a hostile store. The connection succeeds, or fails
// with an error of libssl's. There is no crash and no leak, and nothing is left on the error queue.
//
// Reached in Go: decodeSessions, take, offerCached, checkChain, firstCertificate, ParseSession and note.
// Reached in the shim: shim_d2i_SSL_SESSION, shim_SSL_set_offered_chain, shim_screen_offer and
// shim_chain_of_offer. go test -coverpkg=sslctx -coverprofile=FILE -run FuzzStoredSessions shows it.
func FuzzStoredSessions(f *testing.F) {
	type world struct {
		server *sslctx.Context
		dialer *sslctx.Dialer
		store  *fixedStore
	}
	root := tlstest.Issue(f, "root", nil, tlstest.Authority)
	middle := tlstest.Issue(f, "middle", root, tlstest.Authority)
	connect := func(t testing.TB, w world) error {
		serverEnd, clientEnd := tlstest.Wire()
		server, err := sslctx.Server(serverEnd, w.server)
		must(t, err)
		served := make(chan error, 1)
		go func() {
			_, err := server.Write([]byte{1})
			served <- err
			_ = server.Close()
		}()
		ctx, end := context.WithTimeout(context.Background(), 20*time.Second)
		defer end()
		c, err := w.dialer.ClientContext(ctx, clientEnd, "localhost:1")
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		<-served
		return err
	}
	var worlds []world
	for _, v := range []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13} {
		e := tlstest.NewEndsWith(f, v, tlstest.Issue(f, "host", middle, nil).TLSCertificate(middle))
		must(f, e.Client.TrustCertificate(root.Cert))
		store := new(fixedStore)
		d := &sslctx.Dialer{Context: e.Client, SessionCache: newCache(f, sslctx.ClientSessionCacheConfig{Store: store})}
		w := world{e.Server, d, store}
		must(f, connect(f, w))
		store.value = store.last
		must(f, connect(f, w))
		if d.SessionCache.Stats().Resumed != 1 {
			f.Fatal("the seed does not resume")
		}
		f.Add(store.value)
		f.Add(store.value[:len(store.value)/2])
		worlds = append(worlds, w)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, w := range worlds {
			w.store.value = value
			err := connect(t, w)
			var failed *sslctx.Error
			if err != nil && !errors.As(err, &failed) {
				t.Errorf("the client gets %v", err)
			}
		}
	})
}
