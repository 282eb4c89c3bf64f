// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// wire joins two ends in memory as the oracle's memory BIOs do. When one end is closed, the other
// can still read what it wrote, and then gets EOF. setDry makes a read of an empty wire return at
// once.
type wire struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  [2][]byte // the bytes that side i can read
	dry  [2]bool   // side i does not wait
	gone [2]bool   // side i is closed
	cut  [2]bool   // the other side gets EOF behind what side i has written
	held [2]bool   // side i gets nothing
	want [2]bool   // side i waits for data that has not come
}

func newWire() (*wire, [2]net.Conn) {
	w := new(wire)
	w.cond = sync.NewCond(&w.mu)
	return w, [2]net.Conn{&wireEnd{w, 0}, &wireEnd{w, 1}}
}

// setDry sets whether the reads of a side return at once if there is no data.
func (w *wire) setDry(side int, dry bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dry[side] = dry
	w.cond.Broadcast()
}

// setCut ends what the other side gets.
func (w *wire) setCut(side int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[side] = true
	w.cond.Broadcast()
}

// hold keeps what has come from a side, or lets it go on.
func (w *wire) hold(side int, held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[side], w.want[side] = held, false
	w.cond.Broadcast()
}

// awaitWant waits until a side has used all that has come and wants more, or until done.
func (w *wire) awaitWant(side int, done *bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.want[side] && !*done {
		w.cond.Wait()
	}
}

// note sets a flag under the lock.
func (w *wire) note(done *bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*done = true
	w.cond.Broadcast()
}

type wireEnd struct {
	w    *wire
	side int
}

func (e *wireEnd) Read(p []byte) (int, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	for {
		switch {
		case e.w.gone[e.side]:
			return 0, net.ErrClosed
		case e.w.held[e.side]:
			e.w.cond.Wait()
			continue
		case len(e.w.buf[e.side]) > 0:
			n := copy(p, e.w.buf[e.side])
			e.w.buf[e.side] = e.w.buf[e.side][n:]
			return n, nil
		case e.w.gone[1-e.side] || e.w.cut[1-e.side]:
			return 0, io.EOF
		case e.w.dry[e.side]:
			return 0, os.ErrDeadlineExceeded
		}
		e.w.want[e.side] = true
		e.w.cond.Broadcast()
		e.w.cond.Wait()
	}
}

func (e *wireEnd) Write(p []byte) (int, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.gone[e.side] {
		return 0, io.ErrClosedPipe
	}
	e.w.buf[1-e.side] = append(e.w.buf[1-e.side], p...)
	e.w.cond.Broadcast()
	return len(p), nil
}

func (e *wireEnd) Close() error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.gone[e.side] = true
	e.w.cond.Broadcast()
	return nil
}

func (e *wireEnd) LocalAddr() net.Addr              { return wireAddr{} }
func (e *wireEnd) RemoteAddr() net.Addr             { return wireAddr{} }
func (e *wireEnd) SetDeadline(time.Time) error      { return nil }
func (e *wireEnd) SetReadDeadline(time.Time) error  { return nil }
func (e *wireEnd) SetWriteDeadline(time.Time) error { return nil }

type wireAddr struct{}

func (wireAddr) Network() string { return "wire" }
func (wireAddr) String() string  { return "wire" }
