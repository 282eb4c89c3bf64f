// SPDX-License-Identifier: Apache-2.0

// Package fromtls has the tests of contexts that are made of a tls.Config: each scenario runs with
// crypto/tls and with libssl, and must end the same.
package fromtls

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }

var must = tlstest.Must

// versions are the protocols that all tests run with.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func eachVersion(t *testing.T, run func(t *testing.T, version uint16)) {
	for _, v := range versions {
		t.Run(tls.VersionName(v), func(t *testing.T) { run(t, v) })
	}
}

// A pki is an authority with certificates.
type pki struct{ ca *tlstest.Issued }

func newPKI(t testing.TB, name string) pki {
	t.Helper()
	return pki{tlstest.Issue(t, name, nil, tlstest.Authority)}
}

func (p pki) pool() *x509.CertPool { return tlstest.PoolOf(p.ca) }

// cert issues a certificate for both ends, with an ECDSA key.
func (p pki) cert(t testing.TB, name string, hosts ...string) tls.Certificate {
	t.Helper()
	return tlstest.Issue(t, name, p.ca, func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, hosts...) }).TLSCertificate()
}

// rsaCert is cert with an RSA key.
func (p pki) rsaCert(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca.Cert, key.Public(), p.ca.Key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A tlsConn is a connection of either library.
type tlsConn interface {
	net.Conn
	HandshakeContext(context.Context) error
	ConnectionState() tls.ConnectionState
}

// A library makes the two ends of crypto/tls, or of libssl.
type library struct {
	name   string
	listen func(config *tls.Config) (net.Listener, error)
	dial   func(config *tls.Config) (dial func(addr string) (tlsConn, error), end func(), err error)
}

var ofGo = library{"crypto/tls",
	func(config *tls.Config) (net.Listener, error) { return tls.Listen("tcp", "127.0.0.1:0", config) },
	func(config *tls.Config) (func(string) (tlsConn, error), func(), error) {
		return func(addr string) (tlsConn, error) {
			c, err := tls.Dial("tcp", addr, config)
			if err != nil {
				return nil, err
			}
			return c, nil
		}, func() {}, nil
	},
}

var ofLibssl = library{"libssl",
	func(config *tls.Config) (net.Listener, error) { return sslctx.ListenTLS("tcp", "127.0.0.1:0", config) },
	func(config *tls.Config) (func(string) (tlsConn, error), func(), error) {
		d, err := sslctx.NewDialerFromTLS(config)
		if err != nil {
			return nil, nil, err
		}
		return func(addr string) (tlsConn, error) {
			c, err := d.Dial("tcp", addr)
			if err != nil {
				return nil, err
			}
			return c.(*sslctx.Conn), nil
		}, func() { _ = d.Context.Close() }, nil
	},
}

// eachPair runs a scenario with libssl at one end, or at both, and crypto/tls at the other.
func eachPair(t *testing.T, run func(t *testing.T, server, client library, version uint16)) {
	for _, pair := range [][2]library{{ofGo, ofGo}, {ofLibssl, ofGo}, {ofGo, ofLibssl}, {ofLibssl, ofLibssl}} {
		t.Run(pair[0].name+" serves "+pair[1].name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, version uint16) { run(t, pair[0], pair[1], version) })
		})
	}
}

// An end is what a connection had at one end.
type end struct {
	state tls.ConnectionState
	err   error
}

// A server accepts connections and answers one byte by the next one, until its listener is closed.
type server struct {
	addr string
	ends chan end
}

func serve(t testing.TB, l net.Listener, err error) *server {
	t.Helper()
	must(t, err)
	s := &server{l.Addr().String(), make(chan end, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.ends <- answer(c.(tlsConn))
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return s
}

func answer(c tlsConn) (e end) {
	defer c.Close()
	must := c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 1)
	if e.err = errors.Join(must, c.HandshakeContext(context.Background())); e.err != nil {
		return e
	}
	e.state = c.ConnectionState()
	if _, e.err = io.ReadFull(c, b); e.err == nil {
		_, e.err = c.Write([]byte{b[0] + 1})
	}
	return e
}

// use connects, exchanges a byte, and returns what both ends had. The client's error is that of the
// exchange if the handshake has none.
func (s *server) use(t testing.TB, dial func(string) (tlsConn, error)) (server, client end) {
	t.Helper()
	c, err := dial(s.addr)
	if err != nil {
		return <-s.ends, end{err: err}
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	client.state = c.ConnectionState()
	b := []byte{7}
	if _, client.err = c.Write(b); client.err == nil {
		_, client.err = io.ReadFull(c, b)
	}
	server = <-s.ends
	if client.err == nil && b[0] != 8 {
		client.err = fmt.Errorf("the answer is %d", b[0])
	}
	return server, client
}

// meet makes one connection.
func meet(t testing.TB, server, client library, serverConfig, clientConfig *tls.Config) (s, c end) {
	t.Helper()
	l, err := server.listen(serverConfig)
	srv := serve(t, l, err)
	dial, stop, err := client.dial(clientConfig)
	must(t, err)
	defer stop()
	return srv.use(t, dial)
}

// isArgument checks that an error is an ArgumentError about a field.
func isArgument(t testing.TB, err error, field string) {
	t.Helper()
	e := (*sslctx.ArgumentError)(nil)
	if !errors.As(err, &e) || e.Arg != field {
		t.Errorf("the error is %v, want an ArgumentError about %s", err, field)
	}
}
