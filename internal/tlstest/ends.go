// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"sslctx"
)

// Versions are the protocols that most tests run with.
var Versions = []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13}

// EachVersion runs a test for each of the Versions.
func EachVersion(t *testing.T, run func(t *testing.T, v sslctx.Version)) {
	for _, v := range Versions {
		t.Run(v.String(), func(t *testing.T) { run(t, v) })
	}
}

// TCPPair connects two ends over loopback. They stay open until the test ends: the collector would
// close an end that a test drops, and the other end would read EOF.
func TCPPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err = net.Dial("tcp", l.Addr().String())
	Must(t, err)
	if server = <-accepted; server == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

// Ends are the contexts of a server and of a client.
type Ends struct{ Server, Client *sslctx.Context }

// NewEnds makes Ends for one protocol. The client trusts the server's certificate.
func NewEnds(t testing.TB, v sslctx.Version) Ends {
	t.Helper()
	pair := SelfSigned(t)
	e := newEnds(t, v)
	Must(t, e.Server.UseKeyPair(pair.Cert, pair.Key))
	Must(t, e.Client.TrustCertificates(pair.Cert))
	return e
}

// NewEndsWithIDs makes Ends whose server finds its sessions by their IDs.
func NewEndsWithIDs(t testing.TB, v sslctx.Version) Ends {
	t.Helper()
	e := NewEnds(t, v)
	_, err := e.Server.SetOptions(sslctx.OpNoTicket)
	Must(t, err)
	return e
}

// NewRenegotiatingEnds makes Ends of TLS 1.2 whose server lets clients renegotiate.
func NewRenegotiatingEnds(t testing.TB) Ends {
	t.Helper()
	e := NewEnds(t, sslctx.VersionTLS12)
	_, err := e.Server.SetOptions(sslctx.OpAllowClientRenegotiation)
	Must(t, err)
	return e
}

// NewEndsWith makes Ends for one protocol. The server has the certificate, and the client trusts
// nothing yet.
func NewEndsWith(t testing.TB, v sslctx.Version, cert tls.Certificate) Ends {
	t.Helper()
	e := newEnds(t, v)
	Must(t, e.Server.UseCertificate(cert))
	return e
}

func newEnds(t testing.TB, v sslctx.Version) Ends {
	t.Helper()
	e := Ends{NewContext(t, sslctx.TLSServerMethod), NewContext(t, sslctx.TLSClientMethod)}
	Must(t, e.Client.SetVerify(sslctx.VerifyPeer))
	for _, c := range []*sslctx.Context{e.Server, e.Client} {
		Must(t, c.SetMinProtoVersion(v))
		Must(t, c.SetMaxProtoVersion(v))
	}
	return e
}

// Over makes both ends of a connection over a transport. The offer may be nil.
func (e Ends) Over(t testing.TB, serverEnd, clientEnd net.Conn, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	server, err := sslctx.Server(serverEnd, e.Server)
	Must(t, err)
	client, err = sslctx.Client(clientEnd, e.Client)
	Must(t, err)
	Must(t, client.AcceptAnyName())
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	if offer != nil {
		Must(t, client.SetSession(offer))
	}
	return server, client
}

// Connect makes a connection over loopback. Its handshake is done, and the client has read its
// tickets.
func (e Ends) Connect(t testing.TB, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	s, c := TCPPair(t)
	server, client = e.Over(t, s, c, offer)
	errs := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte{1})
		errs <- err
	}()
	_, err := client.Read(make([]byte, 1))
	Must(t, err)
	Must(t, <-errs)
	return server, client
}

// InMemory makes a connection in memory and ends it well.
func (e Ends) InMemory(t *testing.T, offer *sslctx.Session) (reused bool) {
	a, b := Wire()
	server, err := sslctx.Server(a, e.Server)
	Must(t, err)
	client, err := sslctx.Client(b, e.Client)
	Must(t, err)
	Must(t, client.AcceptAnyName())
	Must(t, client.SetSession(offer))
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	err = client.Handshake()
	if err := errors.Join(err, <-done); err != nil {
		t.Error(err)
	}
	_, _ = server.SetQuietShutdown(true), client.SetQuietShutdown(true)
	Must(t, errors.Join(server.Close(), client.Close()))
	return server.SessionReused()
}

// Session connects, and returns the client's session.
func (e Ends) Session(t testing.TB) *sslctx.Session {
	t.Helper()
	server, client := e.Connect(t, nil)
	s := SessionOf(t, client)
	Must(t, client.Close())
	Must(t, server.Close())
	return s
}

// ReadEarlyData reads early data to its end, and continues the handshake.
func ReadEarlyData(c *sslctx.Conn) (data []byte, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := c.ReadEarlyData(buf)
		data = append(data, buf[:n]...)
		if err == io.EOF {
			return data, c.Handshake()
		}
		if err != nil {
			return data, err
		}
	}
}

// SessionOf returns the session of a connection. It is closed when the test ends.
func SessionOf(t testing.TB, c *sslctx.Conn) *sslctx.Session {
	t.Helper()
	s, err := c.Session()
	Must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Exchange sends a few bytes each way.
func Exchange(t testing.TB, server, client net.Conn) {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		buf := make([]byte, 4)
		_, err := io.ReadFull(server, buf)
		if err == nil {
			_, err = server.Write(bytes.ToUpper(buf))
		}
		errs <- err
	}()
	_, err := client.Write([]byte("ping"))
	Must(t, err)
	buf := make([]byte, 4)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "PING" {
		t.Errorf("the answer is %q, %v", buf, err)
	}
	Must(t, <-errs)
}

// Echo sends a few bytes to an end that sends them back.
func Echo(t testing.TB, c net.Conn) {
	t.Helper()
	_, err := c.Write([]byte("hello"))
	Must(t, err)
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
		t.Errorf("the echo is %q, %v", buf, err)
	}
}

// Meet makes a connection over loopback to localhost, and verifies the certificate for that name.
// It returns both ends and the errors of the handshakes and of a byte each way.
func (e Ends) Meet(t testing.TB) (server, client *sslctx.Conn, serverErr, clientErr error) {
	t.Helper()
	s, c := TCPPair(t)
	server, client = e.Over(t, s, c, nil)
	Must(t, client.SetServerName("localhost"))
	errs := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("x"))
		if err == nil {
			_, err = server.Read(make([]byte, 1))
		}
		errs <- err
	}()
	_, clientErr = client.Read(make([]byte, 1)) // in TLS 1.3 it returns the server's alert
	if clientErr == nil {
		_, clientErr = client.Write([]byte("y"))
	}
	return server, client, <-errs, clientErr
}
