// SPDX-License-Identifier: Apache-2.0

package sslctx_test

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
	"log"
	"math/big"
	"net"
	"sync"
	"time"

	"sslctx"
)

// The scenario of the man page: nothing is cached by itself, the application decides what resumes.
func Example() {
	server, client := contexts()
	defer server.Close()
	defer client.Close()
	_, err := server.SetOptions(sslctx.OpNoTicket) // a ticket would hold the session, and resume without the cache
	check(err)
	_, err = server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalStore)
	check(err)

	kept, mine := connect(server, client, nil) // the server's session and the client's
	defer kept.Close()
	defer mine.Close()

	added, err := server.AddSession(kept)
	check(err)
	fmt.Println("added:", added, "cached:", server.CacheStats().Number)
	connect(server, client, mine)

	removed, err := server.RemoveSession(kept)
	check(err)
	fmt.Println("removed:", removed, "cached:", server.CacheStats().Number)
	connect(server, client, mine)
	// Output:
	// resumed: false
	// added: true cached: 1
	// resumed: true
	// removed: true cached: 0
	// resumed: false
}

// Sessions live in a map of the program: two servers resume each other's.
func ExampleContext_SetSessionLookup() {
	server, client := contexts()
	defer server.Close()
	defer client.Close()
	var store sync.Map // a database that a fleet shares, say
	_, err := server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal)
	check(err)
	check(server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		defer s.Close()
		der, err := s.Bytes()
		check(err)
		store.Store(string(s.ID()), der)
	}))
	check(server.SetSessionLookup(&sslctx.SessionLookup{
		Find: func(_ context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) {
			der, ok := store.Load(string(q.ID))
			if !ok {
				return nil, nil
			}
			return sslctx.ParseSession(der.([]byte))
		},
		Timeout: 100 * time.Millisecond,
	}))
	kept, mine := connect(server, client, nil)
	defer kept.Close()
	defer mine.Close()
	connect(server, client, mine)
	fmt.Println("found outside:", server.CacheStats().CbHits)
	// Output:
	// resumed: false
	// resumed: true
	// found outside: 1
}

// One listener has a certificate for each name: the hook chooses the context.
func ExampleContext_SetClientHelloCallback() {
	server, client := contexts()
	defer server.Close()
	defer client.Close()
	other, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	defer other.Close()
	check(server.SetClientHelloCallback(func(_ context.Context, hello *tls.ClientHelloInfo) (*sslctx.Context, error) {
		switch hello.ServerName {
		case "other.example":
			return other, nil
		case "localhost", "":
			return nil, nil // goes on with server
		}
		return nil, fmt.Errorf("who is %q? %w", hello.ServerName, tls.AlertError(112)) // unrecognized_name
	}))
	connect(server, client, nil)
	// Output: resumed: false
}

// contexts makes a server that resumes by its cache alone, and a client that trusts it.
func contexts() (server, client *sslctx.Context) {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	client, err = sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	cert := selfSigned()
	_, err = server.SetOptions(sslctx.OpNoTicket)
	check(errors.Join(err, server.UseCertificate(cert), server.SetMaxProtoVersion(sslctx.VersionTLS12)))
	trusted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	check(errors.Join(client.TrustCertificates(trusted), client.SetVerify(sslctx.VerifyPeer)))
	return server, client
}

// selfSigned makes a certificate that is its own authority.
func selfSigned() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// connect makes a connection, says whether it was resumed, and returns both ends' sessions.
func connect(server, client *sslctx.Context, offer *sslctx.Session) (ofServer, ofClient *sslctx.Session) {
	a, b := net.Pipe()
	s, err := sslctx.Server(a, server)
	check(err)
	c, err := sslctx.Client(b, client)
	check(err)
	check(errors.Join(c.SetServerName("localhost"), c.SetSession(offer)))
	done := make(chan error)
	go func() { done <- s.Handshake() }()
	check(errors.Join(c.Handshake(), <-done))
	fmt.Println("resumed:", c.SessionReused())
	ofServer, err = s.Session()
	check(err)
	ofClient, err = c.Session()
	check(err)
	go func() { done <- s.Close() }()
	_, _ = c.Read(make([]byte, 1)) // the server's close_notify
	check(errors.Join(<-done, c.Close()))
	return ofServer, ofClient
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A session goes to another process as DER or PEM.
func ExampleParseSession() {
	server, client := contexts()
	defer server.Close()
	defer client.Close()
	_, mine := connect(server, client, nil)
	der, err := mine.Bytes()
	check(err)

	again, err := sslctx.ParseSession(der)
	check(err)
	fmt.Println("same object:", again.Same(mine))
	connect(server, client, again)

	_, err = sslctx.ParseSession(append(der, 0))
	fmt.Println(err)
	// Output:
	// resumed: false
	// same object: false
	// resumed: true
	// sslctx: ParseSession: der has 1 bytes after the session
}

// A session is in the cache of one context; a copy of it can go to another's.
func ExampleSession_Dup() {
	first, second := contexts()
	defer first.Close() // until then its cache holds the session
	defer second.Close()
	s, err := sslctx.NewSession()
	check(err)
	check(s.SetID([]byte("an ID")))
	_, err = first.AddSession(s)
	check(err)

	_, err = second.AddSession(s)
	fmt.Println(errors.Is(err, sslctx.ErrForeignContext))
	d, err := s.Dup()
	check(err)
	added, err := second.AddSession(d)
	fmt.Println(added, err)
	// Output:
	// true
	// true <nil>
}

// OpenSSL's reasons are found by errors.Is.
func ExampleError() {
	c, err := sslctx.NewContext(sslctx.TLSMethod)
	check(err)
	err = c.Configure("NoSuchCommand", "on")
	fmt.Println(errors.Is(err, sslctx.ReasonUnknownCmdName))
	var e *sslctx.Error
	if errors.As(err, &e) {
		fmt.Println(e.Op, "-", e.Stack[0].Lib, "-", e.Stack[0].Text)
	}
	// Output:
	// true
	// SSL_CONF_cmd - SSL routines - unknown cmd name
}
