// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Lane is one direction of a transport in memory. A test can change its bytes. It waits only on
// channels and timers, so that synctest sees when all goroutines wait: time then jumps to the next
// deadline, and a test of a stalled peer takes no time.
type Lane struct {
	Tamper func(p []byte) ([]byte, error) // it returns the bytes that arrive, and the error that ends the lane

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when one of the following changes
	data    []byte
	over    error // the error of reads after all data
	noRead  bool  // closed by its reader
	noWrite bool  // closed by its writer
	room    int   // bytes that may wait to be read before writes block; 0 is no limit
	readBy  time.Time
	writeBy time.Time
}

// Wire connects two ends in memory.
func Wire() (server, client *WireEnd) {
	up, down := &Lane{changed: make(chan struct{})}, &Lane{changed: make(chan struct{})}
	return &WireEnd{In: up, Out: down}, &WireEnd{In: down, Out: up}
}

func (l *Lane) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// End ends the lane with err after all sent bytes, as the peer or the network does.
func (l *Lane) End(err error) {
	l.change(func() {
		if l.over == nil {
			l.over = err
		}
	})
}

// SetRoom sets how many bytes may wait to be read before writes block; 0 is no limit.
func (l *Lane) SetRoom(n int) { l.change(func() { l.room = n }) }

// LeaveRoom is SetRoom for n bytes more than now wait to be read.
func (l *Lane) LeaveRoom(n int) { l.change(func() { l.room = len(l.data) + n }) }

// wait calls try until it succeeds, the lane is closed, or the time by has passed.
func (l *Lane) wait(closed *bool, by *time.Time, try func() bool) error {
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

func (l *Lane) read(p []byte) (n int, err error) {
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

// Write sends bytes, like the Write of the end that owns the lane.
func (l *Lane) Write(p []byte) (int, error) {
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
		if l.Tamper != nil {
			part, over = l.Tamper(part)
		}
		l.change(func() {
			if l.over == nil { // nothing arrives after the end
				l.data, l.over = append(l.data, part...), over
			}
		})
	}
	return n, nil
}

// A WireEnd is one end of a wire.
type WireEnd struct{ In, Out *Lane }

// Read implements net.Conn, like the following methods.
func (e *WireEnd) Read(p []byte) (int, error) { return e.In.read(p) }

// Write writes.
func (e *WireEnd) Write(p []byte) (int, error) { return e.Out.Write(p) }

// LocalAddr is an address of no network.
func (e *WireEnd) LocalAddr() net.Addr { return &net.UnixAddr{Name: "wire", Net: "unix"} }

// RemoteAddr is the same.
func (e *WireEnd) RemoteAddr() net.Addr { return e.LocalAddr() }

// Close closes this end. The peer reads EOF after all sent bytes.
func (e *WireEnd) Close() error {
	e.In.change(func() { e.In.noRead = true })
	e.Out.change(func() { e.Out.noWrite = true })
	e.Out.End(io.EOF)
	return nil
}

// SetDeadline sets both deadlines.
func (e *WireEnd) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

// SetReadDeadline ends reads.
func (e *WireEnd) SetReadDeadline(t time.Time) error {
	e.In.change(func() { e.In.readBy = t })
	return nil
}

// SetWriteDeadline ends writes.
func (e *WireEnd) SetWriteDeadline(t time.Time) error {
	e.Out.change(func() { e.Out.writeBy = t })
	return nil
}

// A SplitFlight is the transport of a client that has sent early data. It holds back what follows EndOfEarlyData, until
// Free is closed.
type SplitFlight struct {
	net.Conn
	Free chan struct{}
	read atomic.Bool
}

// NewSplitFlight makes a SplitFlight over a transport.
func NewSplitFlight(c net.Conn) *SplitFlight {
	return &SplitFlight{Conn: c, Free: make(chan struct{})}
}

// Read reads from the server.
func (c *SplitFlight) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Store(true)
	return n, err
}

// Write writes to the server. After the first Read it sends the records up to EndOfEarlyData, and waits.
func (c *SplitFlight) Write(p []byte) (int, error) {
	if !c.read.Load() {
		return c.Conn.Write(p)
	}
	end := 0
	for sealed := false; end < len(p) && !sealed; end += 5 + int(p[end+3])<<8 + int(p[end+4]) {
		sealed = p[end] == 23 // EndOfEarlyData is the first record that is encrypted
	}
	n, err := c.Conn.Write(p[:end])
	if err != nil {
		return n, err
	}
	<-c.Free
	m, err := c.Conn.Write(p[end:])
	return n + m, err
}
