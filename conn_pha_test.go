// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"errors"
	"testing"

	"sslctx"
)

// pha are ends of TLS 1.3 whose client may be asked for a certificate after the handshake, and one that the server trusts.
func pha(t *testing.T) (e ends, user *issued) {
	t.Helper()
	root := issue(t, "root", nil, authority)
	e = bare(t, sslctx.VersionTLS13, issue(t, "host", root, nil).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	must(t, e.client.SetPostHandshakeAuth(true))
	must(t, e.server.TrustCertificate(root.Cert))
	must(t, e.server.SetIDContext([]byte("test")))
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert|sslctx.VerifyPostHandshake))
	return e, issue(t, "user", root, nil)
}

// answer has the client read what the server has sent, and answer it. It returns what the server's Read then does.
func answer(t *testing.T, server, client *sslctx.Conn) error {
	t.Helper()
	_, err := server.Write([]byte{2})
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	if _, err = client.Write([]byte{3}); err != nil {
		return err
	}
	_, err = server.Read(make([]byte, 1))
	return err
}

// TestPostHandshakeAuth asks a client for its certificate when the connection is in use.
func TestPostHandshakeAuth(t *testing.T) {
	noQueue(t)
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	server, client := e.connect(t, nil)
	if n := len(server.ConnectionState().PeerCertificates); n != 0 {
		t.Fatalf("%d certificates before anybody asked", n)
	}
	must(t, server.VerifyClientPostHandshake())
	var ssl *sslctx.Error
	if err := server.VerifyClientPostHandshake(); !errors.As(err, &ssl) {
		t.Errorf("asking twice returns %v", err)
	}
	must(t, answer(t, server, client))
	wantChain(t, server, user.Cert, 2, 2)
	exchange(t, server, client)

	// Without a certificate the server's Read fails.
	e, _ = pha(t)
	server, client = e.connect(t, nil)
	must(t, server.VerifyClientPostHandshake())
	wantReason(t, answer(t, server, client), sslctx.ReasonPeerDidNotReturnACertificate)

	// A session without a certificate is resumed: it is asked for later.
	e, _ = pha(t)
	_, client = e.connect(t, nil)
	if server, _ = e.connect(t, sessionOf(t, client)); !server.SessionReused() {
		t.Error("the session is not resumed")
	}
}

// TestPostHandshakeAuthRefused: who cannot be asked is not, and the connection goes on.
func TestPostHandshakeAuthRefused(t *testing.T) {
	noQueue(t)
	willing, _ := pha(t)
	silent, _ := pha(t)
	must(t, silent.client.SetPostHandshakeAuth(false))
	old := newEnds(t, sslctx.VersionTLS12)
	asker := func(e ends, client bool) (asks, peer *sslctx.Conn) {
		s, c := e.connect(t, nil)
		if client {
			return c, s
		}
		return s, c
	}
	for name, test := range map[string]struct {
		e      ends
		client bool
	}{"a client that did not say so": {silent, false}, "TLS 1.2": {old, false}, "a client asks": {willing, true}} {
		asks, peer := asker(test.e, test.client)
		var ssl *sslctx.Error
		if err := asks.VerifyClientPostHandshake(); !errors.As(err, &ssl) {
			t.Errorf("%s: it returns %v", name, err)
		}
		exchange(t, asks, peer)
	}

	// For one connection.
	s, c := tcpPair(t)
	server, client := silent.over(t, s, c, nil)
	must(t, client.SetPostHandshakeAuth(true))
	serverErr, clientErr := greet(server, client)
	must(t, errors.Join(serverErr, clientErr))
	must(t, server.VerifyClientPostHandshake())
	if err := client.SetPostHandshakeAuth(false); !errors.Is(err, sslctx.ErrHandshakeStarted) {
		t.Errorf("SetPostHandshakeAuth after the handshake returns %v", err)
	}
}
