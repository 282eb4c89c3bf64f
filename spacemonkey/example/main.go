// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

// Command example is a program of github.com/spacemonkeygo/openssl: two servers and their client.
// The function share adds sslctx to it: add, remove, counters, and a cache that the servers share.
// The rest of the servers is unchanged.
//
// The client connects six times, and the program checks which connections resume.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
	"sslctx/spacemonkey"
)

// share gives one of their servers our sessions. The server puts the sessions that it makes into
// the store, and looks there for the sessions that it does not have.
func share(ctx *openssl.Ctx, st *store) (*sslctx.Context, error) {
	sessions, err := spacemonkey.Context(ctx)
	if err != nil {
		return nil, err
	}
	return sessions, errors.Join(
		sessions.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { st.put(s) }),
		sessions.SetRemoveSessionCallback(st.remove),
		sessions.SetGetSessionCallback(st.get))
}

// A store holds sessions that servers share. In a fleet it is a database, and the sessions in it
// are encrypted: a person who has a session can read its connections.
type store struct {
	mu       sync.Mutex
	sessions map[string][]byte
}

func (st *store) put(s *sslctx.Session) {
	defer s.Close()
	der, err := s.Bytes()
	if err != nil {
		log.Print(err)
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sessions[string(s.ID())] = der
}

func (st *store) remove(s *sslctx.Session) {
	defer s.Close()
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.sessions, string(s.ID()))
}

func (st *store) get(_ context.Context, id []byte) *sslctx.Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	s, err := sslctx.ParseSession(st.sessions[string(id)])
	if err != nil {
		return nil // a full handshake
	}
	return s
}

// await waits for the hook: it gets a new session a little later, on a separate goroutine.
func (st *store) await(s *sslctx.Session) error {
	for range 10_000 {
		if held := st.get(context.Background(), s.ID()); held != nil {
			return held.Close()
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("the store never got the session")
}

// A server is one of theirs, unchanged.
type server struct {
	ctx   *openssl.Ctx
	l     net.Listener
	conns chan *openssl.Conn // served connections
}

// A pair is a self-signed certificate and its key, as PEM.
type pair struct{ cert, key []byte }

func newPair() (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, errCert := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	keyDER, errKey := x509.MarshalPKCS8PrivateKey(key)
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, errors.Join(errCert, errKey)
}

func newServer(p pair) (*server, error) {
	cert, err := openssl.LoadCertificateFromPEM(p.cert)
	if err != nil {
		return nil, err
	}
	key, err := openssl.LoadPrivateKeyFromPEM(p.key)
	if err != nil {
		return nil, err
	}
	ctx, err := openssl.NewCtx()
	if err != nil {
		return nil, err
	}
	// Use sessions with IDs in place of tickets, because they can be removed. The cache gets only
	// the sessions that we add.
	ctx.SetOptions(openssl.NoTicket)
	ctx.SetSessionCacheMode(openssl.SessionCacheServer | openssl.NoInternalStore)
	l, err := openssl.Listen("tcp", "127.0.0.1:0", ctx)
	if err != nil {
		return nil, err
	}
	s := &server{ctx, l, make(chan *openssl.Conn, 1)}
	return s, errors.Join(ctx.SetSessionId([]byte("example")), ctx.UseCertificate(cert), ctx.UsePrivateKey(key))
}

func (s *server) serve() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		if _, err := c.Write([]byte("hello\n")); err != nil {
			log.Print(err)
		}
		_, _ = io.Copy(io.Discard, c) // until the client closes
		_ = c.Close()
		s.conns <- c.(*openssl.Conn)
	}
}

// connect connects, offers a session if there is one, and returns the session of each end.
func (s *server) connect(client *openssl.Ctx, offered *sslctx.Session) (theirs, mine *sslctx.Session, resumed bool, err error) {
	raw, err := net.Dial("tcp", s.l.Addr().String())
	if err != nil {
		return nil, nil, false, err
	}
	c, err := openssl.Client(raw, client)
	if err != nil {
		return nil, nil, false, err
	}
	if err := spacemonkey.SetSession(c, offered); err != nil {
		return nil, nil, false, err
	}
	if _, err := io.ReadFull(c, make([]byte, len("hello\n"))); err != nil {
		return nil, nil, false, err
	}
	if err := c.Close(); err != nil {
		return nil, nil, false, err
	}
	if mine, err = spacemonkey.Session(c); err != nil {
		return nil, nil, false, err
	}
	theirs, err = spacemonkey.Session(<-s.conns)
	return theirs, mine, c.SessionReused(), err
}

func run(out io.Writer) error {
	p, err := newPair()
	if err != nil {
		return err
	}
	a, errA := newServer(p)
	b, errB := newServer(p)
	client, err := openssl.NewCtx()
	if err := errors.Join(errA, errB, err); err != nil {
		return err
	}
	st := &store{sessions: map[string][]byte{}}
	atA, errA := share(a.ctx, st)
	atB, errB := share(b.ctx, st)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	defer atA.Close()
	defer atB.Close()
	for _, s := range []*server{a, b} {
		go s.serve()
		defer s.l.Close()
	}

	wrong := 0
	say := func(what string, s *server, offered *sslctx.Session, want bool) (theirs, mine *sslctx.Session) {
		theirs, mine, resumed, err := s.connect(client, offered)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintf(out, "%-34s resumed: %v\n", what, resumed)
		if resumed != want {
			wrong++
		}
		return theirs, mine
	}
	kept, mine := say("server A, for the first time:", a, nil, false)
	if err := st.await(kept); err != nil {
		return err
	}
	say("server B, which asks the store:", b, mine, true)

	removed, err := atA.RemoveSession(kept) // the hook removes it from the store
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "removed; it was in the cache of A:", removed)
	say("server A:", a, mine, false)
	kept, mine = say("server B:", b, mine, false)
	if err := st.await(kept); err != nil {
		return err
	}

	added, err := atB.AddSession(kept)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "added to the cache of B:", added)
	say("server B:", b, mine, true)

	if removed, err = atB.RemoveSession(kept); err != nil {
		return err
	}
	fmt.Fprintln(out, "removed; it was in the cache of B:", removed)
	say("server B:", b, mine, false)
	fmt.Fprintf(out, "server A: %s\nserver B: %s\n", counters(atA), counters(atB))
	if wrong > 0 {
		return fmt.Errorf("%d connections are not as they should be", wrong)
	}
	return nil
}

func counters(c *sslctx.Context) string {
	n := c.CacheStats()
	return fmt.Sprintf("%d handshakes, %d from the cache, %d from the store, %d missed; cached %d",
		n.AcceptGood, n.Hits-n.CbHits, n.CbHits, n.Misses, n.Number)
}

func main() {
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}
