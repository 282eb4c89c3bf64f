// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

func TestTrustCertPool(t *testing.T) {
	root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
	middle := issue(t, "middle", root, authority)
	leaf := issue(t, "leaf", middle, nil)
	elsewhere := issue(t, "elsewhere", root, func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example"} })
	old := issue(t, "old", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	impostor := issue(t, "leaf", issue(t, "middle", issue(t, "root", nil, authority), authority), nil)
	alone := issue(t, "alone", nil, nil)
	constraint := func(err error, panics bool) *x509.CertPool {
		pool := x509.NewCertPool()
		pool.AddCertWithConstraint(root.Cert, func([]*x509.Certificate) error {
			if panics {
				panic("of a constraint")
			}
			return err
		})
		return pool
	}
	for name, test := range map[string]struct {
		sends tls.Certificate
		pool  *x509.CertPool
		store []*issued
		chain int    // the length of the verified chain, or
		says  string // what alert libssl sends
	}{
		"good":                          {sends: leaf.TLSCertificate(middle), pool: poolOf(root), chain: 3},
		"root sent too":                 {sends: leaf.TLSCertificate(middle, root), pool: poolOf(other, root), chain: 3},
		"intermediate not sent":         {sends: leaf.TLSCertificate(), pool: poolOf(root), says: "unknown ca"},
		"intermediate in the pool":      {sends: leaf.TLSCertificate(), pool: poolOf(root, middle), says: "unknown ca"},
		"intermediate in the store too": {sends: leaf.TLSCertificate(), pool: poolOf(root, middle), store: []*issued{middle, root}, chain: 3},
		"unknown root":                  {sends: leaf.TLSCertificate(middle), pool: poolOf(other), says: "unknown ca"},
		"unknown root, sent":            {sends: leaf.TLSCertificate(middle, root), pool: poolOf(other), says: "unknown ca"},
		"empty pool":                    {sends: leaf.TLSCertificate(middle), pool: poolOf(), says: "unknown ca"},
		"no pool":                       {sends: leaf.TLSCertificate(middle), says: "unknown ca"},
		"store alone":                   {sends: leaf.TLSCertificate(middle), pool: poolOf(other), store: []*issued{root}, chain: 3},
		"pool beside the store":         {sends: leaf.TLSCertificate(middle), pool: poolOf(root), store: []*issued{other}, chain: 3},
		"root in both":                  {sends: leaf.TLSCertificate(middle), pool: poolOf(root), store: []*issued{root}, chain: 3},
		"names alone":                   {sends: impostor.TLSCertificate(middle), pool: poolOf(root), says: "unknown ca"},
		"wrong host":                    {sends: elsewhere.TLSCertificate(), pool: poolOf(root), says: "alert bad certificate"},
		"expired":                       {sends: old.TLSCertificate(), pool: poolOf(root), says: "certificate expired"},
		"signed itself":                 {sends: alone.TLSCertificate(), pool: poolOf(alone), chain: 1},
		"signed itself, unknown":        {sends: alone.TLSCertificate(), pool: poolOf(root), says: "unknown ca"},
		"constraint":                    {sends: leaf.TLSCertificate(middle), pool: constraint(nil, false), chain: 3},
		"constraint against":            {sends: leaf.TLSCertificate(middle), pool: constraint(errors.New("no"), false), says: "unknown ca"},
		"panic":                         {sends: leaf.TLSCertificate(middle), pool: constraint(nil, true), says: "alert handshake failure"},
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, v sslctx.Version) {
				noQueue(t)
				e := bare(t, v, test.sends)
				for _, c := range test.store {
					must(t, e.client.TrustCertificate(c.Cert))
				}
				must(t, e.client.TrustCertPool(test.pool))
				_, client, serverErr, err := meet(t, e)
				if test.says != "" {
					wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
					if serverErr == nil || !strings.Contains(serverErr.Error(), test.says) {
						t.Errorf("the server is told %v, want %q", serverErr, test.says)
					}
					return
				}
				must(t, err)
				if chains := client.ConnectionState().VerifiedChains; len(chains) != 1 || len(chains[0]) != test.chain {
					t.Errorf("the verified chains are %v", chains)
				}
			})
		})
	}
}

// TestCertPoolOfServer verifies the certificates of clients, and one context serves and asks.
func TestCertPoolOfServer(t *testing.T) {
	root, other := issue(t, "root", nil, authority), issue(t, "other", nil, authority)
	middle := issue(t, "middle", root, authority)
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := bare(t, v, issue(t, "server", root, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(root)))
		must(t, e.server.TrustCertPool(poolOf(root)))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.client.UseCertificate(issue(t, "client", middle, nil).TLSCertificate(middle)))
		server, _, serverErr, err := meet(t, e)
		must(t, errors.Join(serverErr, err))
		if chains := server.ConnectionState().VerifiedChains; len(chains) != 1 || len(chains[0]) != 3 {
			t.Errorf("the verified chains are %v", chains)
		}
		must(t, e.client.UseCertificate(issue(t, "client", other, nil).TLSCertificate()))
		_, _, serverErr, _ = meet(t, e)
		wantReason(t, serverErr, sslctx.ReasonCertificateVerifyFailed)
		must(t, e.server.TrustCertPool(nil))
		must(t, e.server.TrustCertificate(other.Cert, root.Cert))
		_, _, serverErr, err = meet(t, e)
		must(t, errors.Join(serverErr, err))
	})
}

// TestCertPoolCopied: a pool that changes later does not count, and depth is libssl's.
func TestCertPoolCopied(t *testing.T) {
	noQueue(t)
	root := issue(t, "root", nil, authority)
	middle := issue(t, "middle", root, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", middle, nil).TLSCertificate(middle))
	pool := x509.NewCertPool()
	must(t, e.client.TrustCertPool(pool))
	pool.AddCert(root.Cert)
	_, _, _, err := meet(t, e)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	must(t, e.client.TrustCertPool(pool))
	_, _, _, err = meet(t, e)
	must(t, err)
	must(t, e.client.SetVerifyDepth(0))
	_, _, _, err = meet(t, e)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	wantArgument(t, e.client.TrustCertificate(root.Cert, nil), "certs")
	wantArgument(t, e.client.TrustCertificate(new(x509.Certificate)), "certs")
	wantArgument(t, e.client.TrustCertificate(), "pem")
}

// TestCertPoolReplaced replaces the pool while connections verify by it, and counts the pools.
func TestCertPoolReplaced(t *testing.T) {
	root := issue(t, "root", nil, authority)
	before := sslctx.LivePools()
	func() {
		e := bare(t, sslctx.VersionTLS13, issue(t, "leaf", root, nil).TLSCertificate())
		must(t, e.client.TrustCertPool(poolOf(root)))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := e.client.TrustCertPool(poolOf(root)); err != nil {
						t.Error(err)
					}
				}
			}
		})
		for range 4 {
			wg.Go(func() {
				for range 10 {
					server, client, serverErr, err := meet(t, e)
					if serverErr != nil || err != nil {
						t.Error(serverErr, err)
					}
					_, _ = server.Close(), client.Close()
				}
			})
		}
		time.AfterFunc(100*time.Millisecond, func() { close(stop) })
		wg.Wait()
		if n := sslctx.LivePools(); n != before+1 {
			t.Errorf("%d pools are alive, %d before", n, before)
		}
		must(t, e.client.Close())
	}()
	if n := sslctx.LivePools(); n != before {
		t.Errorf("after Close %d pools are alive, %d before", n, before)
	}
	func() { // one that is dropped
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		must(t, err)
		must(t, c.TrustCertPool(poolOf(root)))
	}()
	if n := ossltest.Settle(sslctx.LivePools, before); n != before {
		t.Errorf("after collection %d pools are alive, %d before", n, before)
	}
	c := newContext(t, sslctx.TLSMethod)
	must(t, c.Close())
	if err := c.TrustCertPool(poolOf(root)); !errors.Is(err, sslctx.ErrClosed) || sslctx.LivePools() != before {
		t.Errorf("after Close: %v, and %d pools are alive, %d before", err, sslctx.LivePools(), before)
	}
}
