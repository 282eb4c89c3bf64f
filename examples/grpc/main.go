// SPDX-License-Identifier: Apache-2.0

// Command grpc is a gRPC server and client over connections of sslctx: a module of its own, because it needs
// google.golang.org/grpc. The client connects twice, and its second connection resumes.
//
// The credentials below are all that a program needs. Copy them.
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
	"log"
	"math/big"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"sslctx"
)

// Credentials make gRPC's connections. Those of a client have a dialer, and those of a server a context.
type Credentials struct {
	Dialer  *sslctx.Dialer
	Context *sslctx.Context
}

// ClientHandshake makes a client's connection, to the host of authority unless the Dialer has a ServerName.
func (c *Credentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, err := c.Dialer.ClientContext(ctx, raw, authority)
	if err != nil {
		return nil, nil, err
	}
	return conn, info(conn), nil
}

// ServerHandshake makes a server's connection.
func (c *Credentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, err := sslctx.Server(raw, c.Context)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.Handshake(); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, info(conn), nil
}

// info says who is at the other end: peer.FromContext has it in a handler.
func info(conn *sslctx.Conn) credentials.AuthInfo {
	return credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
}

// Info describes the protocol.
func (c *Credentials) Info() credentials.ProtocolInfo {
	p := credentials.ProtocolInfo{SecurityProtocol: "tls", SecurityVersion: "1.3"}
	if c.Dialer != nil {
		p.ServerName = c.Dialer.ServerName
	}
	return p
}

// Clone copies the credentials.
func (c *Credentials) Clone() credentials.TransportCredentials {
	clone := *c
	if c.Dialer != nil {
		dialer := *c.Dialer
		clone.Dialer = &dialer
	}
	return &clone
}

// OverrideServerName sets the name that the server's certificate must have.
func (c *Credentials) OverrideServerName(name string) error {
	c.Dialer.ServerName = name
	return nil
}

func main() {
	cert, authority := certificate()
	addr := serve(cert)

	c, err := sslctx.NewContext(sslctx.TLSClientMethod)
	check(err)
	check(c.TrustCertificates(authority))
	check(c.SetALPNProtos("h2"))
	cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
	check(err)
	client := &Credentials{Dialer: &sslctx.Dialer{Context: c, SessionCache: cache}}
	for i, want := range []bool{false, true} {
		status, resumed := ask(addr, client)
		fmt.Printf("connection %d: resumed %v, the server is %v\n", i+1, resumed, status)
		if resumed != want {
			log.Fatalf("want: resumed %v", want)
		}
	}
}

// ask makes a connection, and asks for the server's health.
func ask(addr string, client *Credentials) (status healthpb.HealthCheckResponse_ServingStatus, resumed bool) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(client))
	check(err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var server peer.Peer
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, new(healthpb.HealthCheckRequest), grpc.Peer(&server))
	check(err)
	return answer.Status, server.AuthInfo.(credentials.TLSInfo).State.DidResume
}

// serve answers while the program runs.
func serve(cert tls.Certificate) (addr string) {
	c, err := sslctx.NewContext(sslctx.TLSServerMethod)
	check(err)
	check(c.UseCertificate(cert))
	check(c.SetALPNProtos("h2"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := grpc.NewServer(grpc.Creds(&Credentials{Context: c}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { check(server.Serve(l)) }()
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
