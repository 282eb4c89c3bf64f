// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"sync"
	"testing"

	"sslctx"
)

// A Store is a cache outside of libssl: serialized sessions by ID.
type Store struct {
	mu    sync.Mutex
	der   map[string][]byte
	asked int
}

// Fill makes the store collect the sessions that c makes. c caches none of them.
func (s *Store) Fill(t testing.TB, c *sslctx.Context) {
	t.Helper()
	s.Clear()
	_, err := c.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal)
	Must(t, err)
	_, err = c.SetOptions(sslctx.OpNoTicket)
	Must(t, err)
	Must(t, c.SetNewSessionCallback(func(_ *sslctx.Conn, made *sslctx.Session) {
		defer made.Close()
		der, err := made.Bytes()
		Must(t, err)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.der[string(made.ID())] = der
	}))
}

// Get returns the session with an ID, or nil.
func (s *Store) Get(t testing.TB, id []byte) *sslctx.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	der, ok := s.der[string(id)]
	if !ok {
		return nil
	}
	found, err := sslctx.ParseSession(der)
	Must(t, err)
	return found
}

// Asked returns how often Get was called.
func (s *Store) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Clear removes all sessions.
func (s *Store) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.der = make(map[string][]byte)
}
