// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
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
	"os"
	"path/filepath"
	"sync"
	"time"

	"sslctx"
)

// The scenario of the man page: libssl caches nothing by itself, and the application decides which
// sessions resume.
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
	var store sync.Map // for example a database that a fleet shares
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
			return nil, nil // continue with server
		}
		return nil, fmt.Errorf("who is %q? %w", hello.ServerName, tls.AlertError(112)) // unrecognized_name
	}))
	connect(server, client, nil)
	// Output: resumed: false
}

// contexts makes a server that resumes only from its cache, and a client that trusts it.
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

// connect makes a connection, prints whether it was resumed, and returns the sessions of both ends.
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

// A session is in the cache of one context. A copy can go into another cache.
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

// errors.Is finds OpenSSL's reasons.
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

// A client connects, verifies the server, and talks to it.
func ExampleDialer() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()
	go echoClients(l)

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	dialer := &sslctx.Dialer{
		Context:    client,      // it trusts the server's certificate
		ServerName: "localhost", // the address has no name
	}
	conn, err := dialer.DialContext(ctx, "tcp", l.Addr().String())
	check(err)
	defer conn.Close()
	fmt.Println("the server says", echoLine(conn, "hello"))

	dialer.ServerName = "other.example"
	_, err = dialer.DialContext(ctx, "tcp", l.Addr().String())
	fmt.Println("not trusted:", errors.Is(err, sslctx.ReasonCertificateVerifyFailed))
	// Output:
	// the server says hello
	// not trusted: true
}

// The second connection resumes without a word from the program. As with FTPS, the two go to different
// ports of one server: SessionAddr has them share their sessions.
func ExampleNewClientSessionCache() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
	check(err)
	for _, name := range []string{"control", "data"} {
		l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
		check(err)
		go echoClients(l)
		dialer := &sslctx.Dialer{Context: client, ServerName: "localhost", SessionCache: cache, SessionAddr: "ftp.example:21"}
		conn, err := dialer.Dial("tcp", l.Addr().String())
		check(err)
		answer := echoLine(conn, "hello") // with TLS 1.3 the session comes with the first Read
		fmt.Println(name, "resumes:", conn.(*sslctx.Conn).SessionReused(), answer)
		check(errors.Join(conn.Close(), l.Close()))
	}
	fmt.Println("resumed:", cache.Stats().Resumed)
	// Output:
	// control resumes: false hello
	// data resumes: true hello
	// resumed: 1
}

// A server gives each client five seconds for the handshake, and greets it.
func ExampleListen() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()

	greet := func(conn *sslctx.Conn) error {
		defer conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := conn.HandshakeContext(ctx); err != nil {
			return err
		}
		_, err := fmt.Fprintln(conn, "welcome to", conn.ConnectionState().ServerName)
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			check(err)
			go func() { check(greet(conn.(*sslctx.Conn))) }()
		}
	}()

	conn, err := (&sslctx.Dialer{Context: client, ServerName: "localhost"}).Dial("tcp", l.Addr().String())
	check(err)
	text, err := io.ReadAll(conn)
	check(errors.Join(err, conn.Close()))
	fmt.Print(string(text))
	// Output: welcome to localhost
}

// Two servers share ticket keys, and change them without losing a session.
func ExampleContext_SetTicketKeyRing() {
	first, client := trustingContexts()
	defer first.Close()
	defer client.Close()
	second, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	defer second.Close()
	check(second.UseCertificate(selfSigned()))

	old := sslctx.NewTicketKey()
	check(first.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: old}))
	s := talk(first, client, nil, nil)
	defer s.Close()

	ring := &sslctx.TicketKeyRing{Current: sslctx.NewTicketKey(), Old: []sslctx.TicketKey{old}}
	check(errors.Join(first.SetTicketKeyRing(ring), second.SetTicketKeyRing(ring)))
	s2 := talk(second, client, s, nil) // the client gets a ticket of the new key
	defer s2.Close()

	ring.Old = nil // when the last ticket of the old key has expired
	check(errors.Join(first.SetTicketKeyRing(ring), second.SetTicketKeyRing(ring)))
	s3 := talk(first, client, s2, nil)
	defer s3.Close()
	// Output:
	// resumed: false
	// resumed: true
	// resumed: true
}

// A client sends its request with the first flight. Do that only with requests that may run twice:
// an attacker can send early data again.
func ExampleConn_HandshakeWithEarlyData() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	check(server.SetMaxEarlyData(1024))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	go func() {
		for {
			raw, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			check(err)
			conn := raw.(*sslctx.Conn)
			request, err := conn.HandshakeReadEarlyData(ctx)
			check(err)
			_, err = fmt.Fprintf(conn, "%d bytes came early", len(request))
			check(errors.Join(err, conn.Close()))
		}
	}()

	var s *sslctx.Session
	for range 2 {
		raw, err := net.Dial("tcp", l.Addr().String())
		check(err)
		conn, err := sslctx.Client(raw, client)
		check(err)
		check(errors.Join(conn.SetServerName("localhost"), conn.SetSession(s)))
		if s == nil {
			check(conn.HandshakeContext(ctx))
		} else {
			check(conn.HandshakeWithEarlyData(ctx, []byte("GET /")))
			check(s.Close())
		}
		answer, err := io.ReadAll(conn) // the ticket comes with it
		check(err)
		fmt.Printf("%v: %s\n", conn.EarlyDataStatus(), answer)
		s, err = conn.Session()
		check(errors.Join(err, conn.Close()))
	}
	check(s.Close())
	// Output:
	// not sent: 0 bytes came early
	// accepted: 5 bytes came early
}

// A client keeps the newest session of each server, and offers it the next time.
func ExampleContext_SetNewSessionCallback() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()
	go echoClients(l)

	var mu sync.Mutex
	newest := map[string]*sslctx.Session{}
	_, err = client.SetSessionCacheMode(sslctx.SessCacheClient | sslctx.SessCacheNoInternal)
	check(err)
	check(client.SetNewSessionCallback(func(c *sslctx.Conn, s *sslctx.Session) {
		mu.Lock()
		defer mu.Unlock()
		name := c.ConnectionState().ServerName
		_ = newest[name].Close() // also if it is nil
		newest[name] = s         // the hook owns the reference
	}))
	take := func(name string) *sslctx.Session {
		mu.Lock()
		defer mu.Unlock()
		s := newest[name]
		delete(newest, name) // a ticket of TLS 1.3 is for one connection
		return s
	}
	for range 2 {
		s := take("localhost")
		dialer := &sslctx.Dialer{Context: client, ServerName: "localhost", Session: s}
		conn, err := dialer.Dial("tcp", l.Addr().String())
		check(errors.Join(err, s.Close()))
		echoLine(conn, "hello") // in TLS 1.3 tickets come with a Read
		fmt.Println("resumed:", conn.(*sslctx.Conn).SessionReused())
		check(conn.Close())
	}
	check(take("localhost").Close())
	// Output:
	// resumed: false
	// resumed: true
}

// A program counts the sessions in the cache: the hook gets each session that leaves it.
func ExampleContext_SetRemoveSessionCallback() {
	c, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	defer c.Close()
	check(c.SetRemoveSessionCallback(func(s *sslctx.Session) {
		defer s.Close()
		fmt.Printf("%s has left\n", s.ID())
	}))
	var sessions []*sslctx.Session
	for _, id := range []string{"one", "two"} {
		s, err := sslctx.NewSession()
		check(err)
		defer s.Close()
		check(s.SetID([]byte(id)))
		_, err = c.AddSession(s)
		check(err)
		sessions = append(sessions, s)
	}
	_, err = c.RemoveSession(sessions[0])
	check(err)
	check(c.FlushSessions(time.Now().Add(24 * time.Hour))) // all that expire by then
	fmt.Println("cached:", c.CacheStats().Number)
	// Output:
	// one has left
	// two has left
	// cached: 0
}

// A client saves its session, and comes back later, perhaps as another process. The file has keys:
// only its owner may read it.
func ExampleSession_PEM() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	dir, err := os.MkdirTemp("", "session")
	check(err)
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "session.pem")

	s := talk(server, client, nil, nil)
	text, err := s.PEM()
	check(err)
	check(errors.Join(os.WriteFile(file, text, 0o600), s.Close()))

	text, err = os.ReadFile(file)
	check(err)
	s, err = sslctx.ParseSessionPEM(text)
	check(err)
	check(talk(server, client, s, nil).Close())
	check(s.Close())
	// Output:
	// resumed: false
	// resumed: true
}

// Devices have keys in place of certificates (TLS 1.3). The server looks a key up by its identity.
func ExampleContext_SetPSKFindSessionCallback() {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	defer server.Close()
	client, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	defer client.Close()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	key, err := sslctx.NewSession()
	check(err)
	defer key.Close()
	check(errors.Join(
		key.SetProtocolVersion(sslctx.VersionTLS13),
		key.SetCipher(sslctx.Cipher{ID: 0x1301}), // TLS_AES_128_GCM_SHA256: the key is for SHA-256
		key.SetMasterKey(secret),
	))
	for _, c := range []*sslctx.Context{server, client} {
		check(c.SetCiphersuites("TLS_AES_128_GCM_SHA256"))
	}

	find := func(_ context.Context, _ *sslctx.Conn, identity []byte) *sslctx.Session {
		if string(identity) == "device 7" {
			return key
		}
		return nil
	}
	use := func(context.Context, *sslctx.Conn, crypto.Hash) (identity []byte, s *sslctx.Session) {
		return []byte("device 7"), key
	}
	check(errors.Join(server.SetPSKFindSessionCallback(find), client.SetPSKUseSessionCallback(use)))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()
	go echoClients(l)

	raw, err := net.Dial("tcp", l.Addr().String())
	check(err)
	conn, err := sslctx.Client(raw, client) // the key proves who the server is
	check(err)
	defer conn.Close()
	fmt.Println("the server says", echoLine(conn, "hello"))
	fmt.Println("certificates:", len(conn.ConnectionState().PeerCertificates))
	// Output:
	// the server says hello
	// certificates: 0
}

// Keys in place of certificates in TLS 1.2. Both ends know the identity, also after Close.
func ExampleContext_SetPSKServerCallback() {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	defer server.Close()
	client, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	defer client.Close()
	for _, c := range []*sslctx.Context{server, client} {
		check(errors.Join(c.SetMaxProtoVersion(sslctx.VersionTLS12), c.SetCipherList("PSK")))
	}
	keys := map[string][]byte{"device 7": []byte("a key of thirty-two random bytes")}
	check(server.SetPSKServerCallback(func(_ context.Context, _ *sslctx.Conn, identity string) []byte {
		return keys[identity] // an empty key fails the handshake
	}))
	check(client.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (identity string, key []byte) {
		return "device 7", keys["device 7"]
	}))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()
	go echoClients(l)

	raw, err := net.Dial("tcp", l.Addr().String())
	check(err)
	conn, err := sslctx.Client(raw, client)
	check(err)
	fmt.Println("the server says", echoLine(conn, "hello"))
	check(conn.Close())
	fmt.Println("identity:", conn.PSKIdentity())
	// Output:
	// the server says hello
	// identity: device 7
}

// A server requires client certificates that an authority in a pool has signed.
func ExampleContext_TrustCertPool() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	ofClient := selfSigned() // it is its own authority
	leaf, err := x509.ParseCertificate(ofClient.Certificate[0])
	check(err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	check(errors.Join(
		server.TrustCertPool(pool),
		server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert),
		server.SetIDContext([]byte("accounts")), // otherwise libssl refuses sessions of clients
	))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			conn := raw.(*sslctx.Conn)
			if err := conn.Handshake(); err == nil {
				_, _ = fmt.Fprint(conn, "hello ", conn.ConnectionState().PeerCertificates[0].DNSNames)
			}
			_ = conn.Close()
		}
	}()

	ask := func() {
		conn, err := (&sslctx.Dialer{Context: client, ServerName: "localhost"}).Dial("tcp", l.Addr().String())
		check(err)
		defer conn.Close()
		text, err := io.ReadAll(conn) // in TLS 1.3 the first Read says whether the server accepts the client
		if err != nil {
			fmt.Println("refused")
			return
		}
		fmt.Println(string(text))
	}
	ask()
	check(client.UseCertificate(ofClient))
	ask()
	// Output:
	// refused
	// hello [localhost]
}

// A client that only writes waits for the session of the connection: in TLS 1.3 it comes after the
// handshake.
func ExampleConn_AwaitTicket() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	defer l.Close()
	go echoClients(l)

	dialer := &sslctx.Dialer{Context: client, ServerName: "localhost"}
	raw, err := dialer.Dial("tcp", l.Addr().String())
	check(err)
	conn := raw.(*sslctx.Conn)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	check(conn.AwaitTicket(ctx))
	s, err := conn.Session()
	check(err)
	defer s.Close()
	fmt.Println("resumable:", s.IsResumable())
	// Output: resumable: true
}

// Both ends get the same bytes for a label, and nobody else can compute them. A protocol can bind a
// password or a signature to the connection with them.
func ExampleConn_ExportKeyingMaterial() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	check(talk(server, client, nil, func(c *sslctx.Conn) {
		ofServer, err := c.ExportKeyingMaterial("EXPORTER-my-protocol", nil, 32)
		check(err)
		again, err := c.ExportKeyingMaterial("EXPORTER-my-protocol", nil, 32)
		check(err)
		other, err := c.ExportKeyingMaterial("EXPORTER-other", nil, 32)
		check(err)
		fmt.Println(len(ofServer), bytes.Equal(ofServer, again), bytes.Equal(ofServer, other))
	}).Close())
	// Output:
	// resumed: false
	// 32 true false
}

// A server puts the name of the user into each ticket. Only a server with the key can read or
// change it.
func ExampleContext_SetSessionTicketCallback() {
	server, client := trustingContexts()
	defer server.Close()
	defer client.Close()
	user := "alice"
	generate := func(_ context.Context, t sslctx.SessionTicket) ([]byte, error) { return []byte(user), nil }
	decrypt := func(_ context.Context, t sslctx.SessionTicket) sslctx.TicketReturn {
		if t.Status == sslctx.TicketSuccess || t.Status == sslctx.TicketSuccessRenew {
			fmt.Printf("a ticket of %s\n", t.AppData)
		}
		return sslctx.TicketDefault
	}
	check(server.SetSessionTicketCallback(generate, decrypt))
	s := talk(server, client, nil, nil)
	defer s.Close()
	check(talk(server, client, s, nil).Close())
	// Output:
	// resumed: false
	// a ticket of alice
	// resumed: true
}

// A program keeps a value of its own with a session, and finds it with another handle of it.
func ExampleSession_SetExData() {
	type user struct{} // the key
	c, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	defer c.Close()
	s, err := sslctx.NewSession()
	check(err)
	check(errors.Join(s.SetID([]byte("an ID")), s.SetExData(user{}, "alice")))
	_, err = c.AddSession(s)
	check(errors.Join(err, s.Close()))

	cached, err := c.Sessions() // other handles of the same sessions
	check(err)
	for _, s := range cached {
		fmt.Println(s.ExData(user{}))
		check(s.Close())
	}
	// Output: alice
}

// trustingContexts makes a server, and a client that trusts it.
func trustingContexts() (server, client *sslctx.Context) {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	client, err = sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	cert := selfSigned()
	trusted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	check(errors.Join(server.UseCertificate(cert), client.TrustCertificates(trusted), client.SetVerify(sslctx.VerifyPeer)))
	return server, client
}

// echoClients sends back what each client sends, until the listener is closed.
func echoClients(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// echoLine sends a line, and returns the answer.
func echoLine(conn net.Conn, line string) string {
	_, err := fmt.Fprintln(conn, line)
	check(err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	check(err)
	return answer[:len(answer)-1]
}
