// SPDX-License-Identifier: Apache-2.0

// Command stdlib does the measured work with crypto/tls.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"

	"sslctx/bench/side"
)

func main() { side.Main(side.TLS(newPeer)) }

type peer struct{ server, client *tls.Config }

func newPeer(a side.Args) (side.Peer, error) {
	switch a.Get("resume", "full") {
	case "full", "ticket":
	default:
		return nil, nil // crypto/tls has no session IDs, and no store
	}
	if a.Int("hear", 0) > 0 {
		return nil, nil
	}
	pem := a.File(a.Get("key", "ecdsa") + ".pem")
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate")
	}
	config := tls.Config{
		MinVersion:       tls.VersionTLS13,
		MaxVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	}
	if a.Get("version", "1.3") == "1.2" {
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	}
	p := &peer{server: config.Clone(), client: config.Clone()}
	p.server.Certificates = []tls.Certificate{pair}
	p.client.RootCAs, p.client.ServerName = pool, "localhost"
	if a.Get("resume", "full") != "full" {
		p.client.ClientSessionCache = new(first)
	}
	return p, nil
}

// first keeps the first session, and always returns it.
type first struct{ state *tls.ClientSessionState }

func (f *first) Get(string) (*tls.ClientSessionState, bool) { return f.state, f.state != nil }

func (f *first) Put(_ string, s *tls.ClientSessionState) {
	if f.state == nil {
		f.state = s
	}
}

func (p *peer) Server(raw net.Conn) (net.Conn, error) { return tls.Server(raw, p.server), nil }

func (p *peer) Dial(addr string) (net.Conn, error) {
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return tls.Client(raw, p.client), nil
}

func (p *peer) Keep(net.Conn) error { return nil }

func (p *peer) Reused(client net.Conn) bool { return client.(*tls.Conn).ConnectionState().DidResume }
