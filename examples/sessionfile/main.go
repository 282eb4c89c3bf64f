// SPDX-License-Identifier: Apache-2.0

// Command sessionfile is an HTTPS client that keeps its sessions in a file, so that it resumes after a
// restart. Here it starts four times, against a server in the same program.
//
// A session is as secret as the keys of the connection, and whoever can write the file can take the place
// of the server. So only its owner has access to it (0600), and a key seals it. The program must keep that
// key somewhere else.
package main

import (
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
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sslctx"
	"sslctx/sessionfile"
	"sslctx/sslhttp"
)

// run is one run of the client.
func run(url, path string, key, authority []byte) (resumed bool, answer string) {
	context, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	defer context.Close()
	check(context.TrustCertificates(authority))

	file, err := sessionfile.New(path, sessionfile.Options{Key: key})
	check(err)
	cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{Store: file})
	check(err)
	transport := sslhttp.NewTransport(&sslctx.Dialer{Context: context, SessionCache: cache}, nil)
	defer transport.CloseIdleConnections()

	response, err := (&http.Client{Transport: transport}).Get(url)
	check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(err)
	return response.TLS.DidResume, string(text)
}

func main() {
	cert, authority := certificate()
	url := serve(cert)
	dir, err := os.MkdirTemp("", "sessionfile-")
	check(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sessions")
	key := make([]byte, 32)
	_, err = rand.Read(key)
	check(err)

	try := func(what string, want bool) {
		resumed, answer := run(url, path, key, authority)
		fmt.Printf("%s: resumed %v, the server says %q\n", what, resumed, answer)
		if resumed != want {
			log.Fatalf("want: resumed %v", want)
		}
	}
	try("no file", false)
	info, err := os.Stat(path)
	check(err)
	fmt.Println("the file is", info.Mode())
	if info.Mode() != 0o600 {
		log.Fatal("others can read it")
	}
	try("the file of the first run", true)
	try("the file of the second run", true)
	check(os.Truncate(path, info.Size()/2))
	try("half a file", false)
}

// serve answers requests while the program runs.
func serve(cert tls.Certificate) (url string) {
	context, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	check(context.UseCertificate(cert))
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", context)
	check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})}
	go func() { check(sslhttp.Serve(server, l)) }()
	return "https://" + l.Addr().String()
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
