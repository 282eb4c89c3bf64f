// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
)

// A server accepts one connection at a time until it is closed.
type server struct {
	context  *sslctx.Context
	listener net.Listener
	ended    chan end // one for each connection; closed when the server has stopped
}

func newServer(v sslctx.Version, pair testcert.Pair) (*server, error) {
	c, err := newServerContext(v, pair)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.Close()
		return nil, err
	}
	s := &server{c, listener, make(chan end)}
	go s.accept()
	return s, nil
}

// newServerContext makes a context whose cache the program fills. libssl searches it for the
// sessions that clients offer, and adds none. Without OpNoTicket clients would hold their sessions
// in tickets, and the cache would not matter.
func newServerContext(v sslctx.Version, pair testcert.Pair) (*sslctx.Context, error) {
	c, err := sslctx.NewContext(sslctx.TLSServerMethod)
	if err != nil {
		return nil, err
	}
	_, modeErr := c.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalStore)
	_, optErr := c.SetOptions(sslctx.OpNoTicket)
	err = errors.Join(limitVersions(c, v), modeErr, optErr, c.UseKeyPair(pair.Cert, pair.Key))
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// close returns when the accept loop has ended.
func (s *server) close() {
	s.listener.Close()
	for e := range s.ended { // of a connection that nobody waited for
		e.session.Close()
	}
	s.context.Close()
}

func (s *server) accept() {
	defer close(s.ended)
	for {
		tcp, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.ended <- s.serve(tcp)
	}
}

// serve is the server's end of a connection. It waits for the client's close_notify before it
// closes the socket: the system answers bytes on a closed socket by a reset.
func (s *server) serve(tcp net.Conn) (e end) {
	conn, err := sslctx.Server(tcp, s.context)
	if err != nil {
		tcp.Close()
		return end{err: err}
	}
	defer conn.Close()
	if e.err = conn.SetDeadline(time.Now().Add(patience)); e.err != nil {
		return e
	}
	if e.err = conn.Handshake(); e.err != nil {
		return e
	}
	e.reused = conn.SessionReused()
	if e.session, e.err = conn.Session(); e.err != nil {
		return e
	}
	_, e.err = io.WriteString(conn, "x")
	e.err = errors.Join(e.err, conn.CloseWrite())
	if e.err == nil {
		_, e.err = io.ReadAll(conn)
	}
	return e
}
