// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"sslctx"
)

// What fresh readers found: each test failed once.

// TestSessionOfChosenContext: a session that was made by the trust of a context which the ClientHello hook chose is not
// resumed where the first context's trust counts.
func TestSessionOfChosenContext(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		eachVersion(t, func(t *testing.T, v sslctx.Version) {
			a, b := issue(t, "a", nil, authority), issue(t, "b", nil, authority)
			e := newEnds(t, v)
			chosen := newEnds(t, v).server
			for c, root := range map[*sslctx.Context]*issued{e.server: a, chosen: b} {
				must(t, c.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
				must(t, c.SetIDContext([]byte("both")))
				must(t, c.TrustCertificate(root.Cert))
			}
			if stateful {
				_, err := e.server.SetOptions(sslctx.OpNoTicket)
				must(t, err)
			}
			goesOn := chosen
			must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return goesOn, nil }))
			must(t, e.client.SetVerify(sslctx.VerifyNone)) // the chosen context has another certificate
			must(t, e.client.UseCertificate(issue(t, "client", b, nil).TLSCertificate()))
			server, client := e.connect(t, nil)
			offer := sessionOf(t, client)
			must(t, errors.Join(client.Close(), server.Close()))
			goesOn = nil
			server, client = e.join(t, offer)
			serverErr, clientErr := bothShake(server, client)
			if serverErr == nil || clientErr == nil {
				t.Errorf("stateful %v: a client that is not trusted gets in, resumed %v: %v, %v", stateful, server.SessionReused(), serverErr, clientErr)
			}
		})
	}
}

// TestGiantKeys: a pool trusts no chain with an RSA key that is made to cost time. The certificate that has it is not even
// part of the chain to the root.
func TestGiantKeys(t *testing.T) {
	root := issue(t, "root", nil, authority)
	leaf := issue(t, "leaf", root, nil)
	for bits, trusted := range map[int]bool{8192: true, 8200: false, 200_000: false} {
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true}
		giant, err := x509.CreateCertificate(rand.Reader, template, root.Cert, &rsa.PublicKey{N: n, E: 65537}, root.Key)
		must(t, err)
		sent := leaf.TLSCertificate()
		sent.Certificate = append(sent.Certificate, giant)
		e := bare(t, sslctx.VersionTLS13, sent)
		must(t, e.client.TrustCertPool(poolOf(root)))
		_, _, _, err = meet(t, e)
		if (err == nil) != trusted {
			t.Errorf("with a key of %d bits: %v", bits, err)
		}
	}
}

// TestModesWithoutPeer: a mode that would ask for nothing is refused, and so are unknown bits.
func TestModesWithoutPeer(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	server, _ := e.join(t, nil)
	for _, m := range []sslctx.VerifyMode{sslctx.VerifyFailIfNoPeerCert, sslctx.VerifyClientOnce, sslctx.VerifyPostHandshake, 1 << 20, -1,
		sslctx.VerifyPeer | 1<<10} {
		wantArgument(t, e.server.SetVerify(m), "m")
		wantArgument(t, server.SetVerify(m), "m")
	}
	must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert|sslctx.VerifyClientOnce|sslctx.VerifyPostHandshake))
	must(t, e.server.SetVerify(sslctx.VerifyNone))
}

// TestDialerChecksFirst: what a Dialer lacks is said before it connects, and InsecureSkipVerify needs no host in the address.
func TestDialerChecksFirst(t *testing.T) {
	_, err := (&sslctx.Dialer{}).Dial("tcp", "127.0.0.1:1")
	if !errors.Is(err, sslctx.ErrClosed) || !strings.Contains(err.Error(), "Context") {
		t.Errorf("without Context it is %v", err)
	}
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	server, err := sslctx.Server(s, e.server)
	must(t, err)
	defer server.Close()
	go func() { _ = server.Handshake() }()
	client, err := (&sslctx.Dialer{Context: e.client, InsecureSkipVerify: true}).ClientContext(t.Context(), c, "/a/path")
	must(t, err)
	must(t, client.Close())
}
