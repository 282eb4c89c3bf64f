// SPDX-License-Identifier: Apache-2.0

// Command mutualtls has two services that ask clients for certificates. A client resumes with the
// service that it was connected to, and the service knows its certificate. With the other service
// it makes a full handshake, although both have the same ticket keys.
//
// A server that verifies clients needs an ID context. Without one libssl refuses the client's
// second connection. The ID context names the services that a session is good for. A session stands
// for the certificate that was verified when the session was made, and libssl does not verify it
// again. So services that ask different clients, or trust different authorities, need different ID
// contexts.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"time"

	"sslctx"
)

// newService makes a server that asks for certificates of the authority.
func newService(name string, authority *authority, keys *sslctx.TicketKeyRing) *sslctx.Context {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	check(server.UseCertificate(authority.issue("localhost", x509.ExtKeyUsageServerAuth)))
	check(server.TrustCertificates(authority.pem))
	check(server.SetVerify(sslctx.VerifyPeer | sslctx.VerifyFailIfNoPeerCert))
	check(server.SetIDContext([]byte(name)))
	check(server.SetTicketKeyRing(keys))
	return server
}

// serve greets each client by its name, while the program runs.
func serve(server *sslctx.Context) (addr string) {
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	check(err)
	go func() {
		for {
			c, err := l.Accept()
			check(err)
			go greet(c.(*sslctx.Conn))
		}
	}()
	return l.Addr().String()
}

func greet(c *sslctx.Conn) {
	defer c.Close()
	if err := c.Handshake(); err != nil {
		return // no certificate, or one that the service does not trust
	}
	peer := c.ConnectionState().PeerCertificates // also on a resumed connection
	if len(peer) == 0 {
		return
	}
	_, _ = io.WriteString(c, peer[0].Subject.CommonName)
}

// newClient makes a client with a certificate, or without one.
func newClient(authority *authority, cert *tls.Certificate) *sslctx.Context {
	client, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	check(errors.Join(client.TrustCertificates(authority.pem), client.SetVerify(sslctx.VerifyPeer)))
	if cert != nil {
		check(client.UseCertificate(*cert))
	}
	return client
}

// connect returns the server's name for the client, and the session of the connection.
func connect(client *sslctx.Context, addr string, offer *sslctx.Session) (name string, s *sslctx.Session, resumed bool, err error) {
	dialer := &sslctx.Dialer{Context: client, Session: offer}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return "", nil, false, err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn) // in TLS 1.3 the first Read shows whether the server accepted the certificate
	if err != nil {
		return "", nil, false, err
	}
	c := conn.(*sslctx.Conn)
	s, err = c.Session()
	return string(text), s, c.SessionReused(), err
}

func main() {
	authority := newAuthority()
	keys := &sslctx.TicketKeyRing{Current: sslctx.NewTicketKey()}
	mail := serve(newService("mail", authority, keys))
	admin := serve(newService("admin", authority, keys))
	alice := authority.issue("alice", x509.ExtKeyUsageClientAuth)
	client := newClient(authority, &alice)

	try := func(what, addr string, offer *sslctx.Session, want bool) *sslctx.Session {
		name, s, resumed, err := connect(client, addr, offer)
		check(err)
		fmt.Printf("%s: resumed %v, known as %s\n", what, resumed, name)
		if resumed != want || name != "alice" {
			log.Fatalf("want: resumed %v, known as alice", want)
		}
		return s
	}
	s := try("mail", mail, nil, false)
	s = try("mail again", mail, s, true)
	try("admin, with the session of mail", admin, s, false)

	nobody := newClient(authority, nil)
	if _, _, _, err := connect(nobody, mail, nil); err == nil {
		log.Fatal("a client without a certificate is let in")
	}
	fmt.Println("without a certificate: refused")
	mallory := newAuthority().issue("alice", x509.ExtKeyUsageClientAuth)
	if _, _, _, err := connect(newClient(authority, &mallory), mail, nil); err == nil {
		log.Fatal("a client of another authority is let in")
	}
	fmt.Println("with a certificate of another authority: refused")
}

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) issue(name string, usage x509.ExtKeyUsage) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{usage},
	}
	if usage == x509.ExtKeyUsageServerAuth {
		template.DNSNames, template.IPAddresses = []string{name}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
