// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"io"
	"sslctx/internal/tlstest"
	"testing"

	"sslctx"
)

// freshConn makes a client before its handshake, with its own contexts.
func freshConn(t *testing.T) (c *sslctx.Conn, done func()) {
	ctx, s, closeContext := failingContext(t)
	tlstest.Must(t, s.Close())
	serverEnd, clientEnd := tlstest.Wire()
	c, err := sslctx.Client(clientEnd, ctx)
	tlstest.Must(t, err)
	tlstest.Must(t, c.AcceptAnyName())
	return c, func() { tlstest.Must(t, c.Close()); _ = serverEnd.Close(); closeContext() }
}

// joined makes a connection over a wire in memory. The calling goroutine runs the handshakes of
// both ends.
func joined(t *testing.T, v sslctx.Version) (server, client *sslctx.Conn, done func()) {
	ctx, s, closeContext := failingContext(t)
	tlstest.Must(t, s.Close())
	tlstest.Must(t, ctx.SetMaxProtoVersion(v))
	serverEnd, clientEnd := tlstest.Wire()
	server, err := sslctx.Server(serverEnd, ctx)
	tlstest.Must(t, err)
	client, err = sslctx.Client(clientEnd, ctx)
	tlstest.Must(t, err)
	tlstest.Must(t, client.AcceptAnyName())
	errs := make(chan error, 1)
	go func() { _, err := server.Write([]byte{1}); errs <- err }()
	_, err = client.Read(make([]byte, 1))
	tlstest.Must(t, err)
	tlstest.Must(t, <-errs)
	return server, client, func() {
		tlstest.Must(t, tlstest.UnlessLost(client.Close()))
		tlstest.Must(t, tlstest.UnlessLost(server.Close()))
		closeContext()
	}
}

// resuming makes a server that is in the middle of a resuming handshake and of early data.
func resuming(t *testing.T) (server *sslctx.Conn, done func()) {
	ctx, s, closeContext := failingContext(t)
	tlstest.Must(t, s.Close())
	tlstest.Must(t, ctx.SetMaxEarlyData(100))
	var offer *sslctx.Session
	for {
		serverEnd, clientEnd := tlstest.Wire()
		server, err := sslctx.Server(serverEnd, ctx)
		tlstest.Must(t, err)
		client, err := sslctx.Client(clientEnd, ctx)
		tlstest.Must(t, err)
		if offer != nil {
			tlstest.Must(t, client.SetSession(offer))
			tlstest.Must(t, offer.Close())
			_, err = client.WriteEarlyData([]byte("x"))
			tlstest.Must(t, err)
			_, err = server.ReadEarlyData(make([]byte, 1))
			tlstest.Must(t, err)
			return server, func() { tlstest.Must(t, client.Close()); tlstest.Must(t, server.Close()); closeContext() }
		}
		errs := make(chan error, 1)
		go func() { errs <- server.Handshake() }()
		tlstest.Must(t, client.AwaitTicket(context.Background()))
		tlstest.Must(t, <-errs)
		offer, err = client.Session()
		tlstest.Must(t, err)
		tlstest.Must(t, client.Close())
		tlstest.Must(t, server.Close())
	}
}

func connGetters() map[string]failing {
	return getters("Conn", func(t *testing.T) (any, func()) {
		_, client, done := joined(t, sslctx.VersionTLS12)
		return client, done
	}, "Close", "Abort", "CloseWrite", "Renegotiate", "NewSessionTicket", "Session", "ResumedSession", "Handshake", "ConnectionState", "String", "GoString")
}

// connCalls adds the calls on connections.
func connCalls(t *testing.T, add func(string, failing)) {
	fresh := func(call func(c *sslctx.Conn) error) failing {
		return failing{make: func(t *testing.T) subjectOfFailure {
			c, done := freshConn(t)
			return subjectOfFailure{call: func() error { return call(c) }, close: done}
		}}
	}
	for name, call := range map[string]func(c *sslctx.Conn) error{
		"SetQuietShutdown":     func(c *sslctx.Conn) error { return c.SetQuietShutdown(true) },
		"SetServerName":        func(c *sslctx.Conn) error { return c.SetServerName("server.example") },
		"SetVerify":            func(c *sslctx.Conn) error { return c.SetVerify(sslctx.VerifyPeer) },
		"AcceptAnyName":        func(c *sslctx.Conn) error { return c.AcceptAnyName() },
		"SetPostHandshakeAuth": func(c *sslctx.Conn) error { return c.SetPostHandshakeAuth(true) },
		"SetIDContext":         func(c *sslctx.Conn) error { return c.SetIDContext([]byte("id")) },
		"SetMaxEarlyData":      func(c *sslctx.Conn) error { return c.SetMaxEarlyData(1) },
		"SetRecvMaxEarlyData":  func(c *sslctx.Conn) error { return c.SetRecvMaxEarlyData(1) },
		"SetOptions":           func(c *sslctx.Conn) error { _, err := c.SetOptions(sslctx.OpNoTicket); return err },
		"ClearOptions":         func(c *sslctx.Conn) error { _, err := c.ClearOptions(sslctx.OpNoTicket); return err },
		"SetNumTickets":        func(c *sslctx.Conn) error { return c.SetNumTickets(1) },
		"HasMatchingSessionID": func(c *sslctx.Conn) error {
			_, err := c.HasMatchingSessionID([]byte("in the cache"))
			return err
		},
		"SetSessionIDGenerator": func(c *sslctx.Conn) error {
			return c.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) { return nil, nil })
		},
		"SetNotResumableSessionCallback": func(c *sslctx.Conn) error {
			return c.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { return true })
		},
		"SetSessionTicketExt": func(c *sslctx.Conn) error { return c.SetSessionTicketExt([]byte("ticket")) },
		"SetSessionTicketExtCallback": func(c *sslctx.Conn) error {
			return c.SetSessionTicketExtCallback(func(context.Context, []byte) error { return nil })
		},
	} {
		add("Conn."+name, fresh(call))
	}
	for name, withID := range map[string]bool{"Conn.SetSession": true, "Conn.SetSession/ticket": false} {
		add(name, failing{make: func(t *testing.T) subjectOfFailure {
			c, done := freshConn(t)
			s := ticketSession(t, withID)
			return subjectOfFailure{
				call:  func() error { return c.SetSession(s) },
				state: func() string { return s.String() },
				close: func() { tlstest.Must(t, s.Close()); done() },
			}
		}})
	}
	add("Conn.SetSessionTicketExt/session", failing{loses: "a copy of the session may be offered", make: func(t *testing.T) subjectOfFailure {
		c, done := freshConn(t)
		s := ticketSession(t, true)
		tlstest.Must(t, c.SetSession(s))
		return subjectOfFailure{
			call:  func() error { return c.SetSessionTicketExt([]byte("ticket")) },
			state: func() string { return s.String() },
			close: func() { tlstest.Must(t, s.Close()); done() },
		}
	}})
	for name, make := range map[string]func(end *tlstest.WireEnd, c *sslctx.Context) (*sslctx.Conn, error){
		"Client": func(end *tlstest.WireEnd, c *sslctx.Context) (*sslctx.Conn, error) { return sslctx.Client(end, c) },
		"Server": func(end *tlstest.WireEnd, c *sslctx.Context) (*sslctx.Conn, error) { return sslctx.Server(end, c) },
	} {
		add(name, failing{make: func(t *testing.T) subjectOfFailure {
			ctx, s, done := failingContext(t)
			tlstest.Must(t, s.Close())
			end, _ := tlstest.Wire()
			f := making(func() (io.Closer, error) { return make(end, ctx) }).make(t)
			closeIt := f.close
			f.close = func() { closeIt(); done() }
			return f
		}})
	}

	both := func(v sslctx.Version, call func(t *testing.T, server, client *sslctx.Conn) error) failing {
		return failing{loses: "it is the connection's end", final: true, make: func(t *testing.T) subjectOfFailure {
			server, client, done := joined(t, v)
			return subjectOfFailure{call: func() error { return call(t, server, client) }, close: done}
		}}
	}
	add("Conn.Session", both(sslctx.VersionTLS13, func(t *testing.T, server, client *sslctx.Conn) error {
		return closing(client.Session())
	}))
	add("Conn.Session/copied", failing{make: func(t *testing.T) subjectOfFailure {
		c, done := freshConn(t)
		s := ticketSession(t, false)
		tlstest.Must(t, c.SetSession(s))
		return subjectOfFailure{
			call:  func() error { return closing(c.Session()) },
			close: func() { tlstest.Must(t, s.Close()); done() },
		}
	}})
	add("Conn.ResumedSession", failing{make: func(t *testing.T) subjectOfFailure {
		server, done := resuming(t)
		return subjectOfFailure{call: func() error { return closing(server.ResumedSession()) }, close: done}
	}})
	add("Conn.AwaitTicket", both(sslctx.VersionTLS13, func(t *testing.T, server, client *sslctx.Conn) error {
		return client.AwaitTicket(context.Background()) // it has one
	}))
	add("Conn.ConnectionState", both(sslctx.VersionTLS13, func(t *testing.T, server, client *sslctx.Conn) error {
		state := client.ConnectionState() // it returns no error: a value without memory is missing
		if !state.HandshakeComplete || state.Version == 0 || state.CipherSuite == 0 {
			return fmt.Errorf("%+v", state)
		}
		return nil
	}))
	add("Conn.ExportKeyingMaterial", failing{make: func(t *testing.T) subjectOfFailure {
		server, client, done := joined(t, sslctx.VersionTLS13)
		want, err := server.ExportKeyingMaterial("EXPORTER-test", nil, 32)
		tlstest.Must(t, err)
		return subjectOfFailure{close: done, call: func() error {
			got, err := client.ExportKeyingMaterial("EXPORTER-test", nil, 32)
			if err == nil && !bytes.Equal(got, want) {
				t.Errorf("the ends export %x and %x", want, got)
			}
			return err
		}}
	}})
	transfer := func(t *testing.T, from, to *sslctx.Conn) error {
		n, err := from.Write([]byte("data"))
		if err != nil || n != 4 {
			return err
		}
		buf := make([]byte, 8)
		if n, err = to.Read(buf); err == nil && string(buf[:n]) != "data" {
			t.Errorf("%q arrives", buf[:n])
		}
		return err
	}
	for _, v := range tlstest.Versions {
		suffix := ""
		if v == sslctx.VersionTLS12 {
			suffix = "/" + v.String()
		}
		add("Conn.Write"+suffix, both(v, transfer))
		add("Conn.Read"+suffix, both(v, func(t *testing.T, server, client *sslctx.Conn) error { return transfer(t, server, client) }))
		add("Conn.CloseWrite"+suffix, both(v, func(t *testing.T, server, client *sslctx.Conn) error { return client.CloseWrite() }))
		for name, end := range map[string]func(c *sslctx.Conn) error{"Conn.Close": (*sslctx.Conn).Close, "Conn.Abort": (*sslctx.Conn).Abort} {
			add(name+suffix, both(v, func(t *testing.T, server, client *sslctx.Conn) error {
				if err := end(server); err != nil { // Abort changes the session in its server's cache
					return err
				}
				return end(client)
			}))
		}
	}
	add("Conn.KeyUpdate", both(sslctx.VersionTLS13, func(t *testing.T, server, client *sslctx.Conn) error { return client.KeyUpdate(true) }))
	add("Conn.Renegotiate", both(sslctx.VersionTLS12, func(t *testing.T, server, client *sslctx.Conn) error { return client.Renegotiate() }))
	add("Conn.NewSessionTicket", failing{loses: "it is the connection's end", final: true, make: func(t *testing.T) subjectOfFailure {
		server, client, done := joined(t, sslctx.VersionTLS13)
		_ = client
		return subjectOfFailure{close: done, call: func() error {
			err := server.NewSessionTicket()
			if tlstest.IsUnsupported(err) {
				return nil
			}
			return err
		}}
	}})

	// Calls that need a session from a connection.
	for name, call := range map[string]func(s *sslctx.Session) (any, error){
		"Session.PeerCertificate":  func(s *sslctx.Session) (any, error) { return s.PeerCertificate() },
		"Session.PeerRawPublicKey": func(s *sslctx.Session) (any, error) { return s.PeerRawPublicKey() },
	} {
		add(name, failing{make: func(t *testing.T) subjectOfFailure {
			_, client, done := joined(t, sslctx.VersionTLS12)
			s, err := client.Session()
			tlstest.Must(t, err)
			want, _ := call(s)
			raw := func(v any) []byte {
				if cert, is := v.(*x509.Certificate); is && cert != nil {
					return cert.Raw
				}
				return nil
			}
			return subjectOfFailure{
				call: func() error {
					got, err := call(s)
					if tlstest.IsUnsupported(err) {
						return nil
					}
					if err == nil && !bytes.Equal(raw(got), raw(want)) {
						t.Errorf("it is %x, and with memory %x", raw(got), raw(want))
					}
					return err
				},
				close: func() { tlstest.Must(t, s.Close()); done() },
			}
		}})
	}
}

// ticketSession makes a session that a client can offer. No server can read its ticket.
func ticketSession(t *testing.T, withID bool) *sslctx.Session {
	der, err := asn1.Marshal(struct {
		Format, Version int
		Cipher, ID, Key []byte
		Time            int    `asn1:"explicit,tag:1"`
		Timeout         int    `asn1:"explicit,tag:2"`
		Ticket          []byte `asn1:"explicit,tag:10"`
	}{1, int(sslctx.VersionTLS13), []byte{0x13, 0x01}, nil, make([]byte, 32), 1e9, 1e9, []byte("ticket")})
	tlstest.Must(t, err)
	s, err := sslctx.ParseSession(der)
	tlstest.Must(t, err)
	if withID {
		tlstest.Must(t, s.SetID([]byte("id")))
	}
	return s
}

func closing(s *sslctx.Session, err error) error {
	if err == nil {
		err = s.Close()
	}
	return err
}
