// SPDX-License-Identifier: Apache-2.0

// Command fromtls is a program of crypto/tls that was moved to libssl. The server changed in one line:
// tls.Listen became sslctx.ListenTLS. The client has a Dialer that was made of its tls.Config, and
// resumes by the ClientSessionCache of the config.
//
// The config is the program's own. It has a certificate for each name, a function that chooses, and a
// function that checks each connection. libssl calls them where crypto/tls did. A field that libssl
// has no equal for is an error: the program shows one.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"time"

	"sslctx"
)

func main() {
	authority := newAuthority()
	certs := map[string]*tls.Certificate{"one.test": authority.issue("one.test"), "two.test": authority.issue("two.test")}
	checked := make(chan string, 1)
	config := &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certs[hello.ServerName], nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != "greeting" {
				return errors.New("this server speaks only greeting")
			}
			checked <- fmt.Sprintf("%s, resumed %v", state.ServerName, state.DidResume)
			return nil
		},
		NextProtos: []string{"greeting"},
	}
	addr := serve(config)

	for _, name := range []string{"one.test", "two.test"} {
		dialer, err := sslctx.NewDialerFromTLS(&tls.Config{
			RootCAs:            authority.pool,
			ServerName:         name,
			NextProtos:         []string{"greeting"},
			ClientSessionCache: tls.NewLRUClientSessionCache(10),
		})
		check(err)
		for range 2 {
			fmt.Println("the client reads:", greeting(dialer, addr))
			fmt.Println("the server checked:", <-checked)
		}
		check(dialer.Context.Close())
	}

	other, err := sslctx.NewDialerFromTLS(&tls.Config{RootCAs: authority.pool, ServerName: "one.test"})
	check(err)
	defer other.Context.Close()
	conn, err := other.Dial("tcp", addr)
	if err == nil { // TLS 1.3: the client's handshake is complete before the server has checked it
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		log.Fatal("a client without a protocol is served")
	}
	fmt.Println("a client without a protocol: refused")

	config.Time = time.Now
	_, err = sslctx.ListenTLS("tcp", "127.0.0.1:0", config)
	if err == nil {
		log.Fatal("the field has an equal")
	}
	fmt.Println(err)
}

// serve greets each client, while the program runs.
func serve(config *tls.Config) (addr string) {
	l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", config) // it was tls.Listen
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

func greeting(dialer *sslctx.Dialer, addr string) string {
	conn, err := dialer.Dial("tcp", addr)
	check(err)
	defer conn.Close()
	text, err := io.ReadAll(conn) // it also brings the tickets, which the cache keeps
	check(err)
	return string(text)
}

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority() *authority {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

func (a *authority) issue(name string) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		DNSNames:     []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	check(err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
