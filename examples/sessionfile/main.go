// SPDX-License-Identifier: Apache-2.0

// Command sessionfile has a client that keeps its session in a file, so that it resumes after a
// restart. Here it starts four times, against a server in the same program.
//
// A session is as secret as the keys of the connection, and libssl believes what it says about the
// server. So only its owner can read the file (0600). The client replaces it as a whole, so that
// nobody finds half of it. There is a file for each host: a session resumes with the server that
// made it, and the client does not offer it to another server.
package main

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
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"sslctx"
)

// fileOf returns the file for the session of a host.
func fileOf(dir, host string) string { return filepath.Join(dir, url.PathEscape(host)+".pem") }

// load reads a session. It returns nil if there is no usable one.
func load(file string) *sslctx.Session {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	check(err)
	s, err := sslctx.ParseSessionPEM(text)
	if err != nil {
		return nil // a full handshake makes another one
	}
	if time.Now().After(s.Time().Add(s.Timeout())) {
		_ = s.Close()
		return nil
	}
	return s
}

// save replaces the file.
func save(file string, s *sslctx.Session) (err error) {
	if !s.IsResumable() { // before the first Read of a TLS 1.3 client
		return nil
	}
	text, err := s.PEM()
	if err != nil {
		return err
	}
	defer clear(text)
	f, err := os.CreateTemp(filepath.Dir(file), ".session-*") // 0600, in the same file system
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// run is one run of the client.
func run(addr, host, dir string, authority []byte) (resumed bool, answer string) {
	file := fileOf(dir, host)
	client, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	defer client.Close()
	check(client.TrustCertificates(authority))
	check(client.SetVerify(sslctx.VerifyPeer))

	// The hook gets each session from the server: one, two, or none, and in TLS 1.3 at any time.
	_, err = client.SetSessionCacheMode(sslctx.SessCacheClient | sslctx.SessCacheNoInternal)
	check(err)
	check(client.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		check(save(file, s))
		check(s.Close())
	}))

	dialer := &sslctx.Dialer{Context: client, ServerName: host, Session: load(file)}
	conn, err := dialer.Dial("tcp", addr)
	check(err)
	defer conn.Close()
	text, err := io.ReadAll(conn)
	check(err)
	return conn.(*sslctx.Conn).SessionReused(), string(text)
}

func main() {
	cert, authority := certificate()
	addr := serve(cert)
	dir, err := os.MkdirTemp("", "sessionfile-")
	check(err)
	defer os.RemoveAll(dir)
	file := fileOf(dir, "localhost")

	try := func(what string, want bool) {
		resumed, answer := run(addr, "localhost", dir, authority)
		fmt.Printf("%s: resumed %v, the server says %q\n", what, resumed, answer)
		if resumed != want {
			log.Fatalf("want: resumed %v", want)
		}
	}
	try("no file", false)
	info, err := os.Stat(file)
	check(err)
	fmt.Println("the file is", info.Mode())
	if info.Mode() != 0o600 {
		log.Fatal("others can read it")
	}
	try("the file of the first run", true)
	try("the file of the second run", true)
	check(os.WriteFile(file, []byte("-----BEGIN SSL SESSION PARAMETERS-----\nMIH"), 0o600))
	try("half a file", false)
}

// serve accepts connections while the program runs, and greets each client.
func serve(cert tls.Certificate) (addr string) {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	check(server.UseCertificate(cert))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
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

// certificate makes a self-signed certificate for this machine's loopback.
func certificate() (cert tls.Certificate, authority []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
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

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
