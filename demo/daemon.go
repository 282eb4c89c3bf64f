// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"sslctx"
	"sslctx/internal/testcert"
)

const (
	// daemonPatience is shorter than the 10 seconds that docker stop waits.
	daemonPatience = 5 * time.Second

	// The words of a daemon's answer for the kind of the handshake.
	wordFull    = "full handshake"
	wordResumed = "resumed"
)

// A daemon is the server that runs until a signal stops it. It leaves its cache to libssl, and
// answers each connection with one line about its session.
type daemon struct {
	context  *sslctx.Context
	listener net.Listener
	log      *log.Logger
	patience time.Duration  // limit for a connection, and so for all of them at the end
	open     sync.WaitGroup // connections
}

// serve runs a daemon until ctx is done. It logs the errors of connections, and returns the error
// that prevents the daemon from starting.
func serve(ctx context.Context, addr string, chosen []protocol, out io.Writer) error {
	d, err := newDaemon(addr, chosen, out)
	if err != nil {
		return err
	}
	linked, _ := sslctx.LibraryVersions()
	d.log.Printf("serving %s on %s, %s", titles(chosen), d.listener.Addr(), linked)
	d.run(ctx)
	return nil
}

func newDaemon(addr string, chosen []protocol, out io.Writer) (*daemon, error) {
	c, err := newDaemonContext(chosen)
	if err != nil {
		return nil, err
	}
	listener, err := sslctx.Listen("tcp", addr, c)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &daemon{context: c, listener: listener, log: log.New(out, "", 0), patience: daemonPatience}, nil
}

// run returns when ctx is done and the last connection has ended.
func (d *daemon) run(ctx context.Context) {
	defer d.context.Close()
	stop := context.AfterFunc(ctx, func() { d.listener.Close() })
	defer stop()
	d.accept()
	d.open.Wait()
	stats := d.context.CacheStats()
	d.log.Printf("stopped: %d handshakes, %d of them resumed", stats.AcceptGood, stats.Hits)
}

// newDaemonContext makes a context with a new certificate, whose key is only in memory. With
// OpNoTicket sessions resume from the cache, by session IDs and by stateful tickets.
func newDaemonContext(chosen []protocol) (*sslctx.Context, error) {
	pair, err := testcert.New()
	if err != nil {
		return nil, err
	}
	c, err := sslctx.NewContext(sslctx.TLSServerMethod)
	if err != nil {
		return nil, err
	}
	_, optErr := c.SetOptions(sslctx.OpNoTicket)
	err = errors.Join(
		c.SetMinProtoVersion(chosen[0].version),
		c.SetMaxProtoVersion(chosen[len(chosen)-1].version),
		optErr,
		c.UseKeyPair(pair.Cert, pair.Key))
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// accept returns when the listener is closed. It survives other errors, such as too many open
// files.
func (d *daemon) accept() {
	for {
		conn, err := d.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			d.log.Print(err)
			time.Sleep(100 * time.Millisecond)
		default:
			d.open.Go(func() { d.answer(conn.(*sslctx.Conn)) })
		}
	}
}

// answer serves a connection, and logs the result.
func (d *daemon) answer(conn *sslctx.Conn) {
	defer conn.Close()
	line, err := d.talk(conn)
	if err != nil {
		line = err.Error()
	}
	d.log.Printf("%s: %s", conn.RemoteAddr(), line)
}

// talk writes the line and returns it. It waits for the client's close_notify: the system would
// answer bytes that arrive on a closed socket by a reset, which may overtake the line. A client
// that goes away without close_notify still has its answer.
func (d *daemon) talk(conn *sslctx.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(d.patience)); err != nil {
		return "", err
	}
	if err := conn.Handshake(); err != nil {
		return "", err
	}
	line := d.describe(conn)
	_, err := io.WriteString(conn, line+"\n")
	if err := errors.Join(err, conn.CloseWrite()); err != nil {
		return "", err
	}
	_, _ = io.Copy(io.Discard, conn)
	return line, nil
}

// describe is one line about a connection's session and the cache.
func (d *daemon) describe(conn *sslctx.Conn) string {
	word := wordFull
	if conn.SessionReused() {
		word = wordResumed
	}
	s := d.context.CacheStats()
	return fmt.Sprintf("%s, %s, %s; cached %d, hits %d, misses %d, evicted %d",
		conn.Version(), conn.Cipher(), word, s.Number, s.Hits, s.Misses, s.CacheFull)
}
