// SPDX-License-Identifier: Apache-2.0

package tlstest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A Lane is one direction of a transport in memory, which a test can tamper with. It waits on
// channels and timers alone, so that a bubble of synctest sees when nothing moves any more: time
// then jumps to the next deadline, and a test of a peer that stalls takes no time.
type Lane struct {
	Tamper func(p []byte) ([]byte, error) // what arrives of what was sent, and what ends it then

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

// End ends the lane with err after what was sent, as the peer or the network does.
func (l *Lane) End(err error) {
	l.change(func() {
		if l.over == nil {
			l.over = err
		}
	})
}

// SetRoom sets how much may wait to be read before writes do; 0 is no limit.
func (l *Lane) SetRoom(n int) { l.change(func() { l.room = n }) }

// LeaveRoom is SetRoom for n bytes more than wait now.
func (l *Lane) LeaveRoom(n int) { l.change(func() { l.room = len(l.data) + n }) }

// wait tries until it works, or until the lane is closed or by has passed.
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

// Write sends, as the Write of the end does whose output the lane is.
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

// Read is net.Conn's, as are the others.
func (e *WireEnd) Read(p []byte) (int, error) { return e.In.read(p) }

// Write writes.
func (e *WireEnd) Write(p []byte) (int, error) { return e.Out.Write(p) }

// LocalAddr is an address of no network.
func (e *WireEnd) LocalAddr() net.Addr { return &net.UnixAddr{Name: "wire", Net: "unix"} }

// RemoteAddr is the same.
func (e *WireEnd) RemoteAddr() net.Addr { return e.LocalAddr() }

// Close closes this end. The peer reads EOF after what was sent.
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
