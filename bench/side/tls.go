// SPDX-License-Identifier: Apache-2.0

package side

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Peer is a TLS library with a server and a client.
type Peer interface {
	// Server is the server's end of a connection.
	Server(raw net.Conn) (net.Conn, error)

	// Dial connects, and offers the session that Keep stored, if there is one.
	Dial(addr string) (net.Conn, error)

	// Keep stores the session of a client's connection for Dial.
	Keep(client net.Conn) error

	// Reused reports whether a client's connection resumed a session.
	Reused(client net.Conn) bool
}

// A Checker is a Peer that reports whether all is as expected, before the first connection and
// after n connections.
type Checker interface{ Check(n int) error }

func (l *link) check(n int) error {
	if c, ok := l.Peer.(Checker); ok {
		return c.Check(n)
	}
	return nil
}

// TLS has the rows with connections, over loopback TCP and with a goroutine for each end. The
// server's first byte brings the tickets of TLS 1.3.
func TLS(newPeer func(Args) (Peer, error)) Rows {
	prepare := func(work func(*link) Work) func(Args) (Work, error) {
		return func(a Args) (Work, error) {
			l, err := connect(a, newPeer)
			if err != nil || l == nil {
				return nil, err
			}
			return work(l), nil
		}
	}
	return Rows{
		"handshake": prepare(func(l *link) Work { return l.handshakes }),
		"stream":    prepare(func(l *link) Work { return l.stream }),
		"ping-pong": prepare(func(l *link) Work { return l.pingPong }),
	}
}

type link struct {
	Peer
	listener      net.Listener
	near, far     net.Conn // stay open for stream and pingPong
	workers, size int
	resumes       bool
	fresh         bool // only near and far are connected
}

func connect(a Args, newPeer func(Args) (Peer, error)) (*link, error) {
	peer, err := newPeer(a)
	if err != nil || peer == nil {
		return nil, err
	}
	l := &link{Peer: peer, workers: a.Int("workers", 1), size: a.Int("size", 1), resumes: a.Get("resume", "full") != "full", fresh: true}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	if l.resumes {
		if err := peer.Keep(l.near); err != nil {
			return nil, err
		}
		if err := errors.Join(l.near.Close(), l.far.Close()); err != nil {
			return nil, err
		}
		return l, l.open()
	}
	return l, nil
}

func (l *link) open() error {
	answered := make(chan error)
	go func() (err error) {
		defer func() { answered <- err }()
		l.far, err = l.answer()
		return err
	}()
	var err error
	l.near, err = l.dial()
	return errors.Join(err, <-answered)
}

func (l *link) answer() (net.Conn, error) {
	raw, err := l.listener.Accept()
	if err != nil {
		return nil, err
	}
	c, err := l.Server(raw)
	if err != nil {
		return nil, err
	}
	_, err = c.Write([]byte("!"))
	return c, err
}

func (l *link) dial() (net.Conn, error) {
	c, err := l.Dial(l.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	_, err = io.ReadFull(c, make([]byte, 1)) // the end may come with the byte
	return c, err
}

// handshakes connects n times. There is one client at a time for each worker, and a goroutine for
// each on the server's side.
func (l *link) handshakes(n int, s *Sample) error {
	latencies := make([]float64, n)
	var toDial, toAnswer atomic.Int64
	toDial.Store(int64(n))
	toAnswer.Store(int64(n))
	if l.fresh { // check that first connection, too
		l.fresh = false
		if err := l.check(1); err != nil {
			return err
		}
	}
	err := Together(2*l.workers, func(i int) error {
		if i%2 == 0 {
			return l.answerAll(&toAnswer)
		}
		return l.dialAll(&toDial, latencies)
	})
	s.Off()
	slices.Sort(latencies)
	s.Set("p50", latencies[n/2])
	s.Set("p99", latencies[n*99/100])
	s.On()
	return errors.Join(err, l.check(n))
}

func (l *link) answerAll(left *atomic.Int64) error {
	for left.Add(-1) >= 0 {
		c, err := l.answer()
		if err != nil {
			return err
		}
		_ = c.Close() // the client may be gone
	}
	return nil
}

func (l *link) dialAll(left *atomic.Int64, latencies []float64) error {
	for {
		i := left.Add(-1)
		if i < 0 {
			return nil
		}
		start := time.Now()
		c, err := l.dial()
		if err != nil {
			return err
		}
		if l.Reused(c) != l.resumes {
			return fmt.Errorf("resumed: %t, want %t", l.Reused(c), l.resumes)
		}
		_ = c.Close()
		latencies[i] = time.Since(start).Seconds()
	}
}

// Together runs f n times at once. It returns at the first failure, which ends the program, while
// others may still wait.
func Together(n int, f func(i int) error) error {
	errs := make(chan error)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			if err := f(i); err != nil {
				errs <- err
			}
		})
	}
	go func() {
		running.Wait()
		close(errs)
	}()
	return <-errs
}

// stream writes n blocks. The other end reads them and answers with a byte.
func (l *link) stream(n int, _ *Sample) error {
	data := make([]byte, l.size)
	return Together(2, func(i int) error {
		if i == 0 {
			return swallow(l.far, n*l.size)
		}
		for range n {
			if _, err := l.near.Write(data); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(l.near, data[:1])
		return err
	})
}

func swallow(c net.Conn, left int) error {
	buf := make([]byte, 64<<10)
	for left > 0 {
		n, err := c.Read(buf[:min(left, len(buf))])
		if err != nil {
			return err
		}
		left -= n
	}
	_, err := c.Write(buf[:1])
	return err
}

// pingPong sends a byte there and one back, n times.
func (l *link) pingPong(n int, _ *Sample) error {
	return Together(2, func(i int) error {
		buf := make([]byte, 1)
		for range n {
			if i == 0 {
				if err := turn(l.far.Read, l.far.Write, buf); err != nil {
					return err
				}
			} else if err := turn(l.near.Write, l.near.Read, buf); err != nil {
				return err
			}
		}
		return nil
	})
}

func turn(first, then func([]byte) (int, error), buf []byte) error {
	if _, err := first(buf); err != nil {
		return err
	}
	_, err := then(buf)
	return err
}
