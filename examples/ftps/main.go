// SPDX-License-Identifier: Apache-2.0

// Command ftps is the two connections of an FTPS client: the control connection, and data connections to other ports.
// FTPS servers want each data connection to resume the session of the control connection, as a proof that both are of
// one client. Here a server in the same program demands that.
//
// The client needs two things for it: a SessionCache, and a SessionAddr, since the data connections go to other ports.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"time"

	"sslctx"
)

// A client has a control connection, and makes data connections.
type client struct {
	control *sslctx.Conn
	dialer  *sslctx.Dialer
}

// connect makes the control connection. A real client has sent AUTH TLS before.
func connect(c *sslctx.Context, addr string) *client {
	cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{TicketsPerServer: 16})
	check(err)
	dialer := &sslctx.Dialer{Context: c, SessionCache: cache, SessionAddr: addr}
	raw, err := net.Dial("tcp", addr)
	check(err)
	control, err := dialer.ClientContext(context.Background(), raw, addr)
	check(err)
	check(read(control, "220 ready\n")) // with TLS 1.3 the first Read brings the tickets
	return &client{control, dialer}
}

// retrieve opens a data connection, and reads it to its end.
func (c *client) retrieve() (text string, resumed bool) {
	_, err := io.WriteString(c.control, "PASV\n")
	check(err)
	var addr string
	_, err = fmt.Fscanln(c.control, &addr)
	check(err)
	data, err := c.dialer.Dial("tcp", addr)
	check(err)
	defer data.Close()
	all, err := io.ReadAll(data)
	check(err)
	return string(all), data.(*sslctx.Conn).SessionReused()
}

func main() {
	cert, authority := certificate()
	for _, version := range []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13} {
		c, err := sslctx.NewContext(sslctx.TLSClientMethod)
		check(err)
		check(c.TrustCertificates(authority))
		check(c.SetMaxProtoVersion(version))
		client := connect(c, serve(cert))
		for i := range 3 {
			text, resumed := client.retrieve()
			fmt.Printf("%v, transfer %d: resumed %v, %q\n", version, i+1, resumed, text)
			if !resumed {
				log.Fatal("the data connection does not resume")
			}
		}
		check(client.control.Close())
		check(c.Close())
	}
}

// serve is a server for one client, which refuses data connections that do not resume.
func serve(cert tls.Certificate) (addr string) {
	c, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	check(c.UseCertificate(cert))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
	check(err)
	go func() {
		control, err := l.Accept()
		check(err)
		defer control.Close()
		_, err = io.WriteString(control, "220 ready\n")
		check(err)
		for read(control, "PASV\n") == nil {
			passive, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
			check(err)
			_, err = fmt.Fprintln(control, passive.Addr())
			check(err)
			data, err := passive.Accept()
			check(err)
			check(data.(*sslctx.Conn).Handshake())
			text := "425 no session is reused"
			if data.(*sslctx.Conn).SessionReused() {
				text = "the file"
			}
			_, err = io.WriteString(data, text)
			check(err)
			check(data.Close())
			check(passive.Close())
		}
	}()
	return l.Addr().String()
}

// read reads a line that must be the wanted one.
func read(from io.Reader, want string) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%q in place of %q", got, want)
	}
	return nil
}

// certificate makes a self-signed certificate for this machine's loopback.
func certificate() (cert tls.Certificate, authority []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
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
