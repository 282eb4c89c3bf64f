// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sslctx"
)

// checkPatience bounds a check. It is shorter than the timeout of the image's health check, so that
// the log of the health check has the sentence of this check.
const checkPatience = 5 * time.Second

// check connects twice to a daemon with each protocol, and returns a sentence: how the second
// handshake resumed the session of the first one.
func check(ctx context.Context, addr string, chosen []protocol) (string, error) {
	var hows []string
	for _, p := range chosen {
		how, err := checkProtocol(ctx, addr, p)
		if err != nil {
			return "", fmt.Errorf("%s: TLS %s: %w", addr, p.number, err)
		}
		hows = append(hows, how)
	}
	return fmt.Sprintf("%s resumes sessions by %s", addr, strings.Join(hows, " and by ")), nil
}

// checkProtocol checks one protocol, and returns how the session resumed.
func checkProtocol(ctx context.Context, addr string, p protocol) (string, error) {
	client, err := newCheckContext(p)
	if err != nil {
		return "", err
	}
	defer client.Close()
	first, err := askDaemon(ctx, addr, client, nil)
	if err != nil {
		return "", fmt.Errorf("first connection: %w", err)
	}
	defer first.session.Close()
	second, err := askDaemon(ctx, addr, client, first.session)
	if err != nil {
		return "", fmt.Errorf("second connection: %w", err)
	}
	defer second.session.Close()
	if !second.reused {
		return "", errors.New("the second handshake did not resume the session of the first one")
	}
	if !strings.Contains(second.answer, wordResumed) {
		return "", fmt.Errorf("the session was resumed, but the server says %q", second.answer)
	}
	return resumedBy(p, first.session), nil
}

// newCheckContext makes a context that verifies nothing: the daemon made its certificate by itself,
// and nobody knows it. The check is about resumption alone.
func newCheckContext(p protocol) (*sslctx.Context, error) {
	c, err := sslctx.NewContext(sslctx.TLSClientMethod)
	if err != nil {
		return nil, err
	}
	if err := limitVersions(c, p.version); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// resumedBy names how a client offers a session.
func resumedBy(p protocol, s *sslctx.Session) string {
	if s.HasTicket() {
		return "TLS " + p.number + " ticket"
	}
	return "TLS " + p.number + " session ID"
}

// A reply is what the daemon answered, and the session of that connection.
type reply struct {
	answer  string
	reused  bool
	session *sslctx.Session
}

// askDaemon makes one complete connection. offered may be nil.
func askDaemon(ctx context.Context, addr string, client *sslctx.Context, offered *sslctx.Session) (r reply, err error) {
	dialer := sslctx.Dialer{Context: client, Session: offered, InsecureSkipVerify: true}
	dialed, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return r, err
	}
	conn := dialed.(*sslctx.Conn)
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return r, err
		}
	}
	// The tickets of TLS 1.3 come after the handshake, with the first read.
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<10))
	if err != nil {
		return r, err
	}
	r.answer = strings.TrimSpace(string(answer))
	r.reused = conn.SessionReused()
	r.session, err = conn.Session()
	return r, err
}
