// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sync"

	"sslctx"
)

// logins knows the sessions of each login. A login begins with a full handshake. Each ticket of a
// connection that resumed one of its sessions adds a session.
type logins struct {
	server   *sslctx.Context
	mu       sync.Mutex
	of       map[string]string // login by session ID
	sessions map[string][]*sslctx.Session
}

// add is the hook for new sessions; a TLS 1.3 server makes one for each ticket.
func (l *logins) add(c *sslctx.Conn, s *sslctx.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	random, err := c.ClientRandom() // distinguishes connections
	check(err)
	login, goesOn := string(random), true
	if resumed, err := c.ResumedSession(); err == nil {
		login, goesOn = l.of[string(resumed.ID())]
		check(resumed.Close())
	}
	if !goesOn { // the login ended while this connection was made
		_, err := l.server.RemoveSession(s)
		check(errors.Join(err, s.Close()))
		return
	}
	l.of[string(s.ID())] = login
	l.sessions[login] = append(l.sessions[login], s)
}

// end revokes all sessions of the login that a connection belongs to.
func (l *logins) end(c *sslctx.Conn) {
	s, err := c.Session() // of the last ticket
	check(err)
	defer s.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	login := l.of[string(s.ID())]
	for _, s := range l.sessions[login] {
		_, err := l.server.RemoveSession(s)
		check(err)
		delete(l.of, string(s.ID()))
		check(s.Close())
	}
	delete(l.sessions, login)
}

// A logout ends all sessions that the client can still offer. The server caches sessions and issues
// no tickets (OpNoTicket): a removed session does not resume.
func ExampleConn_ResumedSession() {
	server, client := contexts()
	defer server.Close()
	defer client.Close()
	check(server.SetMaxProtoVersion(sslctx.VersionTLS13))
	logins := &logins{server: server, of: map[string]string{}, sessions: map[string][]*sslctx.Session{}}
	check(server.SetNewSessionCallback(logins.add))

	first := talk(server, client, nil, nil)
	defer first.Close()
	second := talk(server, client, first, nil)
	defer second.Close()
	third := talk(server, client, second, func(c *sslctx.Conn) { logins.end(c) })
	defer third.Close()
	for _, s := range []*sslctx.Session{first, second, third} {
		check(talk(server, client, s, nil).Close())
	}
	// Output:
	// resumed: false
	// resumed: true
	// resumed: true
	// resumed: false
	// resumed: false
	// resumed: false
}

// talk makes a connection, prints whether it was resumed, lets the server handle it, and returns
// the client's session.
func talk(server, client *sslctx.Context, offer *sslctx.Session, handle func(*sslctx.Conn)) *sslctx.Session {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	check(err)
	c, err := sslctx.Client(raw, client)
	check(err)
	raw, err = l.Accept()
	check(err)
	s, err := sslctx.Server(raw, server)
	check(err)
	defer s.Close()
	defer c.Close()
	check(errors.Join(c.SetServerName("localhost"), c.SetSession(offer)))
	done := make(chan error)
	go func() { done <- s.Handshake() }()
	check(errors.Join(c.AwaitTicket(context.Background()), <-done))
	fmt.Println("resumed:", c.SessionReused())
	if handle != nil {
		handle(s)
	}
	mine, err := c.Session()
	check(err)
	return mine
}

// Two servers read each other's tickets, and one requires client certificates. A session of the
// other one has no certificate: the ID contexts keep it from resuming there. Without an ID context
// each second connection to the server that requires certificates would fail.
func ExampleContext_SetIDContext() {
	cert := selfSigned() // of both servers and, in this example, of the client
	trusted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	keys := &sslctx.TicketKeyRing{Current: sslctx.NewTicketKey()}
	server := func(id string) *sslctx.Context {
		c, err := sslctx.NewContext(sslctx.TLSServerMethod)
		check(err)
		check(errors.Join(c.UseCertificate(cert), c.SetTicketKeyRing(keys), c.SetIDContext([]byte(id))))
		return c
	}
	public, accounts := server("public"), server("accounts")
	defer public.Close()
	defer accounts.Close()
	check(errors.Join(accounts.TrustCertificates(trusted), accounts.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert)))
	client, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	defer client.Close()
	check(errors.Join(client.TrustCertificates(trusted), client.SetVerify(sslctx.VerifyPeer), client.UseCertificate(cert)))

	ofPublic := talk(public, client, nil, nil)
	defer ofPublic.Close()
	ofAccounts := talk(accounts, client, ofPublic, nil) // requires the certificate
	defer ofAccounts.Close()
	check(talk(accounts, client, ofAccounts, nil).Close())
	// Output:
	// resumed: false
	// resumed: false
	// resumed: true
}
