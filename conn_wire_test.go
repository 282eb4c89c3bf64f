// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// A lane is one direction of a transport in memory, which a test can tamper with. It waits on channels and
// timers alone, so that a bubble of synctest sees when nothing moves any more: time then jumps to the next
// deadline, and a test of a peer that stalls takes no time.
type lane struct {
	tamper func(p []byte) ([]byte, error) // what arrives of what was sent, and what ends it then

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever one of the following changes
	data    []byte
	over    error // what reads return after data
	noRead  bool  // closed by its reader
	noWrite bool  // closed by its writer
	room    int   // how much may wait before writes do; 0 is no limit
	readBy  time.Time
	writeBy time.Time
}

// wire connects two ends in memory.
func wire() (server, client *wireEnd) {
	up, down := &lane{changed: make(chan struct{})}, &lane{changed: make(chan struct{})}
	return &wireEnd{in: up, out: down}, &wireEnd{in: down, out: up}
}

func (l *lane) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// end ends the lane with err after what was sent, as the peer or the network does.
func (l *lane) end(err error) {
	l.change(func() {
		if l.over == nil {
			l.over = err
		}
	})
}

// wait tries until it works, or until the lane is closed or by has passed.
func (l *lane) wait(closed *bool, by *time.Time, try func() bool) error {
	for {
		l.mu.Lock()
		switch {
		case *closed:
			l.mu.Unlock()
			return net.ErrClosed
		case !by.IsZero() && !time.Now().Before(*by):
			l.mu.Unlock()
			return os.ErrDeadlineExceeded
		case try():
			l.mu.Unlock()
			return nil
		}
		changed, deadline := l.changed, *by
		l.mu.Unlock()
		var passed <-chan time.Time
		if !deadline.IsZero() {
			passed = time.After(time.Until(deadline))
		}
		select {
		case <-changed:
		case <-passed:
		}
	}
}

func (l *lane) read(p []byte) (n int, err error) {
	waited := l.wait(&l.noRead, &l.readBy, func() bool {
		n = copy(p, l.data)
		l.data = l.data[n:]
		if n == 0 {
			err = l.over
		}
		return n > 0 || err != nil
	})
	if n > 0 {
		l.change(func() {})
	}
	if waited != nil {
		return 0, waited
	}
	return n, err
}

func (l *lane) write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		var part []byte
		if err := l.wait(&l.noWrite, &l.writeBy, func() bool {
			part = p[n:]
			if l.room > 0 {
				part = part[:max(0, min(len(part), l.room-len(l.data)))]
			}
			return len(part) > 0
		}); err != nil {
			return n, err
		}
		n += len(part)
		var over error
		if l.tamper != nil {
			part, over = l.tamper(part)
		}
		l.change(func() {
			if l.over == nil { // nothing arrives after the end
				l.data, l.over = append(l.data, part...), over
			}
		})
	}
	return n, nil
}

// A wireEnd is one end of a wire.
type wireEnd struct{ in, out *lane }

func (e *wireEnd) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *wireEnd) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *wireEnd) LocalAddr() net.Addr         { return &net.UnixAddr{Name: "wire", Net: "unix"} }
func (e *wireEnd) RemoteAddr() net.Addr        { return e.LocalAddr() }

func (e *wireEnd) Close() error {
	e.in.change(func() { e.in.noRead = true })
	e.out.change(func() { e.out.noWrite = true })
	e.out.end(io.EOF)
	return nil
}

func (e *wireEnd) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *wireEnd) SetReadDeadline(t time.Time) error {
	e.in.change(func() { e.in.readBy = t })
	return nil
}

func (e *wireEnd) SetWriteDeadline(t time.Time) error {
	e.out.change(func() { e.out.writeBy = t })
	return nil
}

// A role says which end a test is about; the other is the peer.
type role string

const (
	serverRole role = "server"
	clientRole role = "client"
)

// eachRole runs a test for both roles and versions, in a bubble of synctest: deadlines cost no time. The
// contexts are made outside, where the certificate's time is the true one.
func eachRole(t *testing.T, run func(t *testing.T, e ends, r role)) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, r := range []role{serverRole, clientRole} {
			t.Run(string(r), func(t *testing.T) {
				e := newEnds(t, v)
				before := ossltest.LiveSSLs()
				synctest.Test(t, func(t *testing.T) { run(t, e, r) })
				if n := ossltest.LiveSSLs(); n > before {
					t.Errorf("%d SSLs are alive, %d before", n, before)
				}
			})
		}
	})
}

// conn makes the Conn of a role over its end of a wire; the other end is the peer's.
func (r role) conn(t *testing.T, e ends) (c *sslctx.Conn, peer *wireEnd) {
	t.Helper()
	serverEnd, clientEnd := wire()
	var err error
	if r == serverRole {
		c, err = sslctx.Server(serverEnd, e.server)
		peer = clientEnd
	} else {
		c, err = sslctx.Client(clientEnd, e.client)
		peer = serverEnd
	}
	must(t, err)
	if peer == serverEnd {
		must(t, c.AcceptAnyName())
	}
	return c, peer
}

// pair makes both Conns over a wire: that of the role, and its peer.
func (r role) pair(t *testing.T, e ends) (c, peer *sslctx.Conn) {
	t.Helper()
	serverEnd, clientEnd := wire()
	server, err := sslctx.Server(serverEnd, e.server)
	must(t, err)
	client, err := sslctx.Client(clientEnd, e.client)
	must(t, err)
	must(t, client.AcceptAnyName())
	if r == serverRole {
		return server, client
	}
	return client, server
}
