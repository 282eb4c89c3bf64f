// SPDX-License-Identifier: Apache-2.0

package clientcache_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

var must = tlstest.Must

// A site is a server that answers each byte. It notes what its clients offer.
type site struct {
	context *sslctx.Context
	addr    string

	mu      sync.Mutex
	resumed int
	full    int
	offered map[string]int // how often each identity or session ID was offered
}

// serve runs a server with a context until the test ends.
func serve(t testing.TB, c *sslctx.Context) *site {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &site{context: c, addr: inner.Addr().String(), offered: map[string]int{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			raw, err := inner.Accept()
			if err != nil {
				return
			}
			running.Go(func() { s.answer(t, raw) })
		}
	})
	t.Cleanup(func() {
		_ = inner.Close()
		running.Wait()
	})
	return s
}

func (s *site) answer(t testing.TB, raw net.Conn) {
	heard := &hearing{Conn: raw}
	c, err := sslctx.Server(heard, s.context)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	err = c.Handshake()
	offered := identities(heard.hello)
	resumed := err == nil && c.SessionReused()
	if resumed && c.Version() == sslctx.VersionTLS13 && len(offered) == 0 {
		t.Error("a connection resumes, and the test sees no session in its ClientHello")
	}
	s.note(offered, resumed, err)
	if err != nil {
		return
	}
	p := make([]byte, 1)
	for {
		if _, err := c.Read(p); err != nil {
			return
		}
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

func (s *site) note(offered []string, resumed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range offered {
		s.offered[id]++
	}
	switch {
	case err != nil:
	case resumed:
		s.resumed++
	default:
		s.full++
	}
}

// counts returns how many handshakes were resumed and full, and how often the session that was
// offered most was offered.
func (s *site) counts() (resumed, full, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.offered {
		most = max(most, n)
	}
	return s.resumed, s.full, most
}

// hearing keeps the first record of a peer.
type hearing struct {
	net.Conn
	hello []byte
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if len(h.hello) < 1<<14 {
		h.hello = append(h.hello, p[:n]...)
	}
	return n, err
}

// identities returns what a ClientHello offers to resume: tickets, identities of TLS 1.3.
func identities(record []byte) (ids []string) {
	b := bytes.NewBuffer(record)
	next := func(size int) *bytes.Buffer { // a vector whose length has some bytes
		n := make([]byte, 8)
		copy(n[8-size:], b.Next(size))
		return bytes.NewBuffer(b.Next(int(binary.BigEndian.Uint64(n))))
	}
	b.Next(5 + 4 + 2 + 32)
	next(1)
	next(2)
	next(1)
	b = next(2)
	for b.Len() > 0 {
		kind := binary.BigEndian.Uint16(b.Next(2))
		data := next(2)
		switch kind {
		case 35: // session_ticket
			if data.Len() > 0 {
				ids = append(ids, data.String())
			}
		case 41: // pre_shared_key
			all := b
			b = data
			b = next(2)
			for b.Len() > 0 {
				ids = append(ids, next(2).String())
				b.Next(4)
			}
			b = all
		}
	}
	return ids
}

// use sends a byte and reads the answer, so that the client has the tickets that came before it.
func use(c net.Conn) error {
	_, err := c.Write([]byte{'?'})
	_, readErr := io.ReadFull(c, make([]byte, 1))
	return errors.Join(err, readErr)
}

type clientHelloCtx = context.Context

func certificateOf(t testing.TB, pair testcert.Pair) tls.Certificate {
	t.Helper()
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	return cert
}

// hasInput reports whether a socket has input.
func hasInput(fd uintptr) bool {
	p := make([]byte, 1)
	n, _, err := syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil && n > 0
}
