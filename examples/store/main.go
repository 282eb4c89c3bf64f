// SPDX-License-Identifier: Apache-2.0

// Command store has two servers that keep their sessions in one external store. So a client of one
// server resumes with the other, and a session that is deleted from the store resumes with neither.
// The store is an interface of this program. A map stands for Redis, or for the store of a fleet.
//
// A handshake that waits for the store holds a goroutine and no thread, for no longer than
// SessionLookup.Timeout. The stored sessions are secrets: a real store is encrypted, and nobody
// else writes to it.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"sync"
	"time"

	"sslctx"
)

// A Store keeps sessions by their ID.
type Store interface {
	// Get returns nil if there is none.
	Get(ctx context.Context, id []byte) (der []byte, err error)
	Put(ctx context.Context, id, der []byte, until time.Time) error
	Delete(ctx context.Context, id []byte) error
}

// newServer makes a server whose sessions are only in the store.
func newServer(cert tls.Certificate, store Store) *sslctx.Context {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	check(server.UseCertificate(cert))

	// Disable tickets that hold the session themselves, and libssl's own cache.
	_, err = server.SetOptions(sslctx.OpNoTicket)
	check(err)
	_, err = server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal)
	check(err)

	// The hook runs before the client has its ticket, so the client cannot return too early.
	check(server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		defer s.Close()
		der, err := s.Bytes()
		if err == nil {
			limit, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err = store.Put(limit, s.ID(), der, s.Time().Add(s.Timeout()))
		}
		if err != nil {
			log.Print("a session is not stored: ", err) // its client will make a full handshake
		}
	}))
	check(server.SetSessionLookup(&sslctx.SessionLookup{
		Find: func(ctx context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
			der, err := store.Get(ctx, q.ID)
			if err != nil || der == nil {
				return nil, err // a full handshake
			}
			return sslctx.ParseSession(der)
		},
		Timeout: time.Second,
	}))
	return server
}

// memory is a Store.
type memory struct {
	mu   sync.Mutex
	kept map[string]entry
}

type entry struct {
	der   []byte
	until time.Time
}

func (m *memory) Get(_ context.Context, id []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.kept[string(id)]
	if !ok || time.Now().After(e.until) {
		return nil, nil
	}
	return e.der, nil
}

func (m *memory) Put(_ context.Context, id, der []byte, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[string(id)] = entry{der, until}
	return nil
}

func (m *memory) Delete(_ context.Context, id []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, string(id))
	return nil
}

// ids returns what is stored now.
func (m *memory) ids() (ids [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.kept {
		ids = append(ids, []byte(id))
	}
	return ids
}

func main() {
	cert, authority := certificate()
	store := &memory{kept: map[string]entry{}}
	first, second := serve(newServer(cert, store)), serve(newServer(cert, store))

	for _, v := range []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13} {
		client, err := sslctx.NewContext(sslctx.TLSClientMethod)
		check(err)
		check(errors.Join(client.TrustCertificates(authority), client.SetVerify(sslctx.VerifyPeer), client.SetMaxProtoVersion(v)))
		try := func(what, addr string, offer *sslctx.Session, want bool) *sslctx.Session {
			s, resumed := connect(client, addr, offer)
			fmt.Printf("%v, %s: resumed %v\n", v, what, resumed)
			if resumed != want {
				log.Fatalf("want: resumed %v", want)
			}
			return s
		}
		s := try("the first server", first, nil, false)
		s = try("the second server", second, s, true)
		s = try("the first server again", first, s, true)
		for _, id := range store.ids() {
			check(store.Delete(context.Background(), id))
		}
		try("with an empty store", first, s, false)
		check(client.Close())
	}
}

// connect reads the server's greeting, and returns the session of the connection.
func connect(client *sslctx.Context, addr string, offer *sslctx.Session) (s *sslctx.Session, resumed bool) {
	dialer := &sslctx.Dialer{Context: client, Session: offer}
	conn, err := dialer.Dial("tcp", addr)
	check(err)
	defer conn.Close()
	text, err := io.ReadAll(conn) // with TLS 1.3 this brings the session
	check(err)
	if string(text) != "hello" {
		log.Fatalf("the server says %q", text)
	}
	c := conn.(*sslctx.Conn)
	s, err = c.Session()
	check(err)
	return s, c.SessionReused()
}

// serve greets each client, while the program runs.
func serve(server *sslctx.Context) (addr string) {
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	go func() {
		for {
			c, err := l.Accept()
			check(err)
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, "hello")
			}()
		}
	}()
	return l.Addr().String()
}

// certificate makes a self-signed certificate for this machine's loopback.
func certificate() (cert tls.Certificate, authority []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
