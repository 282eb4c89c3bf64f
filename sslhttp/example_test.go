// SPDX-License-Identifier: Apache-2.0

package sslhttp_test

import (
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
	"net/http"
	"time"

	"sslctx"
	"sslctx/sslhttp"
)

// The server's handler prints the state of the connection. crypto/tls connects to it in TestServe,
// curl in TestCurl.
func ExampleServe() {
	server, client := contexts()
	check(server.SetALPNProtos("h2", "http/1.1"))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, r.Proto, r.TLS.NegotiatedProtocol, sslhttp.Conn(r.Context()).Version())
	})}
	go func() { check(sslhttp.Serve(srv, l)) }()
	defer srv.Close()

	for _, protos := range [][]string{{"h2", "http/1.1"}, {"http/1.1"}, nil} {
		check(client.SetALPNProtos(protos...))
		fmt.Print(ask(client, "https://"+l.Addr().String()))
	}
	// Output:
	// HTTP/2.0 h2 TLSv1.3
	// HTTP/1.1 http/1.1 TLSv1.3
	// HTTP/1.1  TLSv1.3
}

// A client of net/http gets its connections from a Dialer.
func ExampleTransport() {
	server, client := contexts()
	addr, stop := echoServer(server)
	defer stop()

	check(client.SetALPNProtos("h2", "http/1.1"))
	transport := sslhttp.NewTransport(&sslctx.Dialer{Context: client}, nil)
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	for range 2 {
		resp, err := c.Get("https://" + addr)
		check(err)
		fmt.Println(resp.Proto, resp.Status, resp.TLS.NegotiatedProtocol)
		check(resp.Body.Close())
	}
	fmt.Println("connections:", client.CacheStats().ConnectGood)
	// Output:
	// HTTP/2.0 200 OK h2
	// HTTP/2.0 200 OK h2
	// connections: 1
}

// contexts makes a server and a client that trusts it.
func contexts() (server, client *sslctx.Context) {
	cert, authority := selfSigned()
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	client, err = sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	check(server.UseCertificate(cert))
	check(errors.Join(client.TrustCertificates(authority), client.SetVerify(sslctx.VerifyPeer)))
	return server, client
}

// selfSigned makes a certificate for this machine's loopback that is its own authority.
func selfSigned() (cert tls.Certificate, authority []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
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

func echoServer(c *sslctx.Context) (addr string, stop func()) {
	check(c.SetALPNProtos("h2", "http/1.1"))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
	check(err)
	srv := &http.Server{Handler: http.HandlerFunc(echo)}
	go func() { check(sslhttp.Serve(srv, l)) }()
	return l.Addr().String(), func() { check(srv.Close()) }
}

func ask(c *sslctx.Context, url string) string {
	transport := sslhttp.NewTransport(&sslctx.Dialer{Context: c}, nil)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(url)
	check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	check(err)
	return string(text)
}

func check(err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
