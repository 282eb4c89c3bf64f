// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
)

// patience bounds a connection, so that the program cannot hang.
const patience = 30 * time.Second

// A stage has a server, a client and the sessions of a scenario.
type stage struct {
	server   *server
	client   *sslctx.Context
	sessions map[string]*sslctx.Session
}

// newStage starts a server and makes a client that trusts it, for one protocol version.
func newStage(v sslctx.Version) (*stage, error) {
	pair, err := testcert.New()
	if err != nil {
		return nil, err
	}
	client, err := newClientContext(v, pair)
	if err != nil {
		return nil, err
	}
	srv, err := newServer(v, pair)
	if err != nil {
		client.Close()
		return nil, err
	}
	return &stage{srv, client, make(map[string]*sslctx.Session)}, nil
}

func (s *stage) close() {
	for _, session := range s.sessions {
		session.Close()
	}
	s.server.close()
	s.client.Close()
}

// newClientContext leaves the cache mode at its default: a client that caches
// (SSL_SESS_CACHE_CLIENT) would offer a TLS 1.3 session only once.
func newClientContext(v sslctx.Version, pair testcert.Pair) (*sslctx.Context, error) {
	c, err := sslctx.NewContext(sslctx.TLSClientMethod)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		limitVersions(c, v),
		c.SetVerify(sslctx.VerifyPeer),
		c.TrustCertificates(pair.Cert))
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func limitVersions(c *sslctx.Context, v sslctx.Version) error {
	return errors.Join(c.SetMinProtoVersion(v), c.SetMaxProtoVersion(v))
}

// An end is one end's view of a connection.
type end struct {
	session *sslctx.Session
	reused  bool
	took    time.Duration // of the client's handshake
	err     error
}

// connect makes one complete connection. offered names the session that the client offers, or is
// empty. If keep is not empty, connect keeps the sessions of both ends under that number.
func (s *stage) connect(offered, keep string) (outcome, error) {
	tcp, err := net.DialTimeout("tcp", s.server.listener.Addr().String(), patience)
	if err != nil {
		return outcome{}, err
	}
	ours := s.talk(tcp, s.sessions[offered])
	theirs, ok := <-s.server.ended
	if !ok {
		theirs.err = errors.New("the server has stopped")
	}
	if keep != "" {
		s.sessions["c"+keep], s.sessions["s"+keep] = ours.session, theirs.session
	} else {
		ours.session.Close()
		theirs.session.Close()
	}
	if err := errors.Join(ours.err, theirs.err); err != nil {
		return outcome{}, err
	}
	if ours.reused != theirs.reused {
		return outcome{}, fmt.Errorf("reused is %v for the client and %v for the server", ours.reused, theirs.reused)
	}
	o := outcome{ret: none, reused: no, took: ours.took}
	if ours.reused {
		o.reused = yes
	}
	return o, nil
}

// talk is the client's end of a connection. It ends after the server's close_notify: then neither
// end interrupts the other, and both sessions stay resumable.
func (s *stage) talk(tcp net.Conn, offered *sslctx.Session) (e end) {
	conn, err := sslctx.Client(tcp, s.client)
	if err != nil {
		tcp.Close()
		return end{err: err}
	}
	defer conn.Close()
	e.err = errors.Join(conn.SetServerName("localhost"), conn.SetDeadline(time.Now().Add(patience)), conn.SetSession(offered))
	if e.err != nil {
		return e
	}
	start := time.Now()
	if e.err = conn.Handshake(); e.err != nil {
		return e
	}
	e.took = time.Since(start)
	e.reused = conn.SessionReused()
	// The tickets of TLS 1.3 come after the handshake, with the first read.
	if _, e.err = io.ReadAll(conn); e.err != nil {
		return e
	}
	e.session, e.err = conn.Session()
	return e
}
