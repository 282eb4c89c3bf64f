// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"sslctx"
	"sslctx/bench/side"
)

type peer struct {
	server, client *sslctx.Context
	offer          *sslctx.Session
	hears          bool
	heard          atomic.Int64
}

func newPeer(a side.Args) (side.Peer, error) {
	server, err := sslctx.NewContext(sslctx.TLSServerMethod)
	if err != nil {
		return nil, err
	}
	client, err := sslctx.NewContext(sslctx.TLSClientMethod)
	if err != nil {
		return nil, err
	}
	version := sslctx.VersionTLS13
	if a.Get("version", "1.3") == "1.2" {
		version = sslctx.VersionTLS12
	}
	pem := a.File(a.Get("key", "ecdsa") + ".pem")
	p := &peer{server: server, client: client, hears: a.Int("hear", 0) > 0}
	return p, errors.Join(
		server.UseKeyPair(pem, pem),
		client.TrustCertificates(pem),
		client.SetVerify(sslctx.VerifyPeer),
		server.SetMinProtoVersion(version), server.SetMaxProtoVersion(version),
		client.SetMinProtoVersion(version), client.SetMaxProtoVersion(version),
		resume(server, a),
		p.hear(),
	)
}

// hear sets a hook for the sessions that the server makes. With TLS 1.2 a server makes a session
// for an ID, and none for a ticket.
func (p *peer) hear() error {
	if !p.hears {
		return nil
	}
	if _, err := p.server.SetOptions(sslctx.OpNoTicket); err != nil {
		return err
	}
	return p.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		if s.IsResumable() {
			p.heard.Add(1)
		}
		_ = s.Close()
	})
}

// Check implements side.Checker.
func (p *peer) Check(n int) error {
	if heard := p.heard.Swap(0); p.hears && heard != int64(n) {
		return fmt.Errorf("heard of %d sessions of %d", heard, n)
	}
	return nil
}

// resume prepares the server for the row's way to find sessions.
func resume(server *sslctx.Context, a side.Args) error {
	var s store
	switch a.Get("resume", "full") {
	case "full", "ticket":
		return nil
	case "memory":
		s = new(inMemory)
	case "redis":
		s = newRedis(a["redis"])
	}
	if _, err := server.SetOptions(sslctx.OpNoTicket); err != nil || s == nil {
		return err
	}
	if _, err := server.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternal); err != nil {
		return err
	}
	err := server.SetNewSessionCallback(func(_ *sslctx.Conn, session *sslctx.Session) {
		der, err := session.Bytes()
		if err == nil {
			err = s.put(context.Background(), session.ID(), der)
		}
		if err != nil {
			panic(err)
		}
		_ = session.Close()
	})
	if err != nil {
		return err
	}
	find := func(ctx context.Context, id []byte) (*sslctx.Session, error) {
		der, err := s.get(ctx, id)
		if err != nil || der == nil {
			return nil, err
		}
		return sslctx.ParseSession(der)
	}
	if a.Get("by", "lookup") == "lookup" {
		return server.SetSessionLookup(&sslctx.SessionLookup{
			Find: func(ctx context.Context, q sslctx.SessionQuery) (*sslctx.Session, error) { return find(ctx, q.ID) },
		})
	}
	return server.SetGetSessionCallback(func(ctx context.Context, id []byte) *sslctx.Session {
		s, err := find(ctx, id)
		if err != nil {
			panic(err)
		}
		return s
	})
}

func (p *peer) Server(raw net.Conn) (net.Conn, error) { return sslctx.Server(raw, p.server) }

func (p *peer) Dial(addr string) (net.Conn, error) {
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := sslctx.Client(raw, p.client)
	if err != nil {
		return nil, err
	}
	if err := c.SetServerName("localhost"); err != nil {
		return nil, err
	}
	if p.offer != nil {
		if err := c.SetSession(p.offer); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (p *peer) Keep(client net.Conn) (err error) {
	p.offer, err = client.(*sslctx.Conn).Session()
	return err
}

func (p *peer) Reused(client net.Conn) bool { return client.(*sslctx.Conn).SessionReused() }
