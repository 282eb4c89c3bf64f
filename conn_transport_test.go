// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"sslctx"
)

// A badTransport is a transport whose methods a test replaces.
type badTransport struct {
	net.Conn
	mu       sync.Mutex
	write    func([]byte) (int, error)
	deadline func() error
	close    func() error
}

func (b *badTransport) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *badTransport) Write(p []byte) (int, error) {
	b.mu.Lock()
	write := b.write
	b.mu.Unlock()
	if write == nil {
		return b.Conn.Write(p)
	}
	return write(p)
}

func (b *badTransport) before() error {
	b.mu.Lock()
	deadline := b.deadline
	b.mu.Unlock()
	if deadline == nil {
		return nil
	}
	return deadline()
}

func (b *badTransport) SetDeadline(at time.Time) error {
	return errors.Join(b.before(), b.Conn.SetDeadline(at))
}

func (b *badTransport) SetReadDeadline(at time.Time) error {
	return errors.Join(b.before(), b.Conn.SetReadDeadline(at))
}

func (b *badTransport) SetWriteDeadline(at time.Time) error {
	return errors.Join(b.before(), b.Conn.SetWriteDeadline(at))
}

func (b *badTransport) Close() error {
	b.mu.Lock()
	closes := b.close
	b.mu.Unlock()
	if closes == nil {
		return b.Conn.Close()
	}
	return closes()
}

// overBad are two ends that have shaken hands; the client's transport is a badTransport.
func overBad(t *testing.T) (server, client *sslctx.Conn, transport *badTransport) {
	t.Helper()
	s, c := tcpPair(t)
	transport = &badTransport{Conn: c}
	server, client = newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
	exchange(t, server, client)
	return server, client, transport
}

// recovers calls f, and returns what it panics with.
func recovers(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// timesOutThenPanics is a Write whose first call is a timeout and whose second panics.
func timesOutThenPanics(w io.Writer) func([]byte) (int, error) {
	calls := 0
	return func(p []byte) (int, error) {
		switch calls++; calls {
		case 1:
			return 0, os.ErrDeadlineExceeded
		case 2:
			panic(errTunnel)
		}
		return w.Write(p)
	}
}

// TestPanicOfTransportInWrite: a panic of the transport leaves no lock held, and Close says that data is lost.
func TestPanicOfTransportInWrite(t *testing.T) {
	noQueue(t)
	for name, write := range map[string]func(*sslctx.Conn) error{
		"Write":     func(c *sslctx.Conn) error { _, err := c.Write([]byte("x")); return err },
		"KeyUpdate": func(c *sslctx.Conn) error { return c.KeyUpdate(false) },
	} {
		_, client, transport := overBad(t)
		transport.set(func() { transport.write = timesOutThenPanics(transport.Conn) })
		if v := recovers(func() { _ = write(client) }); v != errTunnel {
			t.Errorf("%s: the panic is %v", name, v)
		}
		if _, err := client.Write([]byte("more")); err == nil {
			t.Errorf("%s: Write returns nil, and a record is lost", name)
		}
		if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) {
			t.Errorf("%s: Close returns %v", name, err)
		}
	}
}

// TestPanicThatLosesData: the record that a panicking Write did not send is missing, and Close says so.
func TestPanicThatLosesData(t *testing.T) {
	noQueue(t)
	_, client, transport := overBad(t)
	transport.set(func() { transport.write = func([]byte) (int, error) { panic(errTunnel) } })
	if v := recovers(func() { _, _ = client.Write([]byte("x")) }); v != errTunnel {
		t.Errorf("the panic is %v", v)
	}
	transport.set(func() { transport.write = nil })
	if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) {
		t.Errorf("Close returns %v", err)
	}
}

// TestShortWrite: a transport that writes less than all, and returns no error, has failed.
func TestShortWrite(t *testing.T) {
	noQueue(t)
	_, client, transport := overBad(t)
	transport.set(func() {
		transport.write = func(p []byte) (int, error) { return transport.Conn.Write(p[:len(p)/2]) }
	})
	if _, err := client.Write([]byte("hello")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Write returns %v", err)
	}
	if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) {
		t.Errorf("Close returns %v", err)
	}
}

// TestPanicOfTransportAtContextEnd: a Close that panics when a handshake's context ends panics in the
// call that has the context, and not on a goroutine of the binding's.
func TestPanicOfTransportAtContextEnd(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	transport := &badTransport{Conn: c, close: func() error { panic(errTunnel) }}
	_, client := newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if v := recovers(func() { _ = client.HandshakeContext(ctx) }); v != errTunnel {
		t.Errorf("the panic is %v", v)
	}
}

// TestAbortAfterPanic: Close gives the SSL back after an Abort whose transport panicked.
func TestAbortAfterPanic(t *testing.T) {
	noQueue(t)
	_, client, transport := overBad(t)
	transport.set(func() { transport.close = func() error { panic(errTunnel) } })
	if v := recovers(func() { _ = client.Abort() }); v != errTunnel {
		t.Errorf("the panic is %v", v)
	}
	_ = client.Close()
	if _, err := client.Options(); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close Options returns %v", err)
	}
}

// TestDeadlineThatCloses: a transport may close the Conn when it is given a deadline.
func TestDeadlineThatCloses(t *testing.T) {
	t.Parallel()
	_, client, transport := overBad(t)
	transport.set(func() { transport.deadline = client.Abort })
	_ = client.SetDeadline(time.Now().Add(time.Hour))
	if _, err := client.Options(); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("afterwards Options returns %v", err)
	}
	_, client, transport = overBad(t)
	transport.set(func() { transport.deadline = client.Close })
	_ = client.SetDeadline(time.Now().Add(time.Hour)) // Close has no deadlines, and takes its five seconds
	if _, err := client.Options(); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close Options returns %v", err)
	}
}

// oneAtATime is a transport whose SetWriteDeadline waits for its Write.
type oneAtATime struct {
	net.Conn
	mu      sync.Mutex
	writing chan struct{} // closed in a Write
	once    sync.Once
}

func (o *oneAtATime) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(p) > 500 {
		o.once.Do(func() { close(o.writing) })
	}
	return o.Conn.Write(p)
}

func (o *oneAtATime) SetWriteDeadline(at time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Conn.SetWriteDeadline(at)
}

// TestCloseBesideDeadline: Close ends a Write that holds up SetWriteDeadline.
func TestCloseBesideDeadline(t *testing.T) {
	noQueue(t)
	s, c := net.Pipe()
	transport := &oneAtATime{Conn: c, writing: make(chan struct{})}
	server, client := newEnds(t, sslctx.VersionTLS12).over(t, s, transport, nil)
	shake(t, server, client)
	wrote, set := make(chan error, 1), make(chan error, 1)
	go func() { _, err := client.Write(make([]byte, 1000)); wrote <- err }() // nobody reads
	<-transport.writing
	go func() { set <- client.SetWriteDeadline(time.Now().Add(time.Hour)) }()
	time.Sleep(10 * time.Millisecond)
	if err := client.Close(); !errors.Is(err, sslctx.ErrDataLost) {
		t.Errorf("Close returns %v", err)
	}
	if <-wrote == nil {
		t.Error("Write returns nil")
	}
	<-set
}

// noDeadlines is a TCP connection that hides its socket and refuses deadlines.
type noDeadlines struct {
	io.ReadWriteCloser
	c net.Conn
}

func (n noDeadlines) LocalAddr() net.Addr              { return n.c.LocalAddr() }
func (n noDeadlines) RemoteAddr() net.Addr             { return n.c.RemoteAddr() }
func (n noDeadlines) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (n noDeadlines) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (n noDeadlines) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// TestCloseWithoutDeadlines: Close has its limit also over a transport that has no deadlines.
func TestCloseWithoutDeadlines(t *testing.T) {
	t.Parallel()
	s, c := tcpPair(t)
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, noDeadlines{c, c}, nil)
	shake(t, server, client)
	_, err := client.Write([]byte("x")) // tickets may come: Close reads
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close() // the server neither reads nor closes
	_ = server.Abort()
}
