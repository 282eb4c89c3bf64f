// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"crypto/tls"
	"testing"

	"sslctx"
)

// TestServerTrustThatIsGone: a client whose authority was taken away is not resumed as verified.
func TestServerTrustThatIsGone(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, cached := range []bool{false, true} {
			gone, kept := issue(t, "gone", nil, authority), issue(t, "kept", nil, authority)
			e := newEnds(t, v)
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			must(t, e.server.SetIDContext([]byte("test")))
			if cached {
				_, err := e.server.SetOptions(sslctx.OpNoTicket)
				must(t, err)
			}
			must(t, e.server.TrustCertPool(poolOf(gone)))
			must(t, e.client.UseCertificate(issue(t, "user", gone, nil).TLSCertificate()))
			_, client := e.connect(t, nil)
			s := sessionOf(t, client)
			must(t, e.server.TrustCertPool(poolOf(kept)))
			a, b := tcpPair(t)
			server, client := e.over(t, a, b, s)
			serverErr, _ := greet(server, client)
			if serverErr == nil && server.SessionReused() {
				t.Error("a client of an authority that is trusted no more is resumed as verified")
			}
		}
	})
}

// TestFleetOfTwoTrusts: two processes share ticket keys, and in each a hook chooses between contexts that trust different
// clients. A session that one of them verified is nothing to the other, in another process, either.
func TestFleetOfTwoTrusts(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		low, high := issue(t, "low", nil, authority), issue(t, "high", nil, authority)
		key := sslctx.NewTicketKey()
		process := func() ends {
			e := newEnds(t, v) // the default context: trusts "high"
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			must(t, e.server.SetIDContext([]byte("test")))
			must(t, e.server.TrustCertPool(poolOf(high)))
			must(t, e.server.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: key}))
			lowCtx := newEnds(t, v).server
			must(t, lowCtx.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			must(t, lowCtx.SetIDContext([]byte("test")))
			must(t, lowCtx.TrustCertPool(poolOf(low)))
			must(t, e.server.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
				if h.ServerName == "low.example" {
					return lowCtx, nil
				}
				return nil, nil
			}))
			return e
		}
		run := func(server, client *sslctx.Context, name string, offer *sslctx.Session) (s, c *sslctx.Conn, err error) {
			a, b := tcpPair(t)
			s, c = ends{server, client}.over(t, a, b, offer)
			must(t, c.SetServerName(name))
			must(t, c.AcceptAnyName())
			err, _ = greet(s, c)
			return s, c, err
		}
		one := process()
		must(t, one.client.SetVerify(sslctx.VerifyNone))
		must(t, one.client.UseCertificate(issue(t, "user", low, nil).TLSCertificate()))
		_, client, err := run(one.server, one.client, "low.example", nil)
		must(t, err)
		s := sessionOf(t, client)
		server, _, err := run(process().server, one.client, "high.example", s)
		if err == nil && server.SessionReused() {
			t.Error("a client that only low trusts is verified at high")
		}
	})
}
