// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sslctx/internal/tlstest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// overBad makes two ends with a completed handshake; the client's transport is a badTransport.
func overBad(t *testing.T) (server, client *sslctx.Conn, transport *badTransport) {
	t.Helper()
	s, c := tcpPair(t)
	transport = &badTransport{Conn: c}
	server, client = newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
	exchange(t, server, client)
	return server, client, transport
}

// recovers calls f, and returns the value of its panic.
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

// A badError is an error of a transport that panics when it is asked whether it is a timeout.
type badError struct{}

func (badError) Error() string   { return "bad" }
func (badError) Temporary() bool { return true }
func (badError) Timeout() bool   { panic(errTunnel) }

// failsBadly is a Write whose first call returns a badError.
func failsBadly(w io.Writer) func([]byte) (int, error) {
	failed := false
	return func(p []byte) (int, error) {
		if !failed {
			failed = true
			return 0, badError{}
		}
		return w.Write(p)
	}
}

// TestPanicOfTransportInWrite: after a panic of the transport, or of its error, no lock is held, and
// Close says that data is lost.
func TestPanicOfTransportInWrite(t *testing.T) {
	noQueue(t)
	for name, write := range map[string]func(*sslctx.Conn) error{
		"Write":     func(c *sslctx.Conn) error { _, err := c.Write([]byte("x")); return err },
		"KeyUpdate": func(c *sslctx.Conn) error { return c.KeyUpdate(false) },
	} {
		for _, fails := range []func(io.Writer) func([]byte) (int, error){timesOutThenPanics, failsBadly} {
			_, client, transport := overBad(t)
			transport.set(func() { transport.write = fails(transport.Conn) })
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
}

// TestPanicThatLosesData: a panicking Write did not send its record. Close says that data is lost.
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

// TestPanicOfTransportAtContextEnd: when a handshake's context ends, the transport's Close panics.
// The panic reaches the call with the context, and is not on a goroutine of the binding.
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
	transport.set(func() { transport.close = nil })
}

// TestAbortAfterPanic: the transport panics in Abort. Close then frees the SSL.
func TestAbortAfterPanic(t *testing.T) {
	noQueue(t)
	_, client, transport := overBad(t)
	transport.set(func() { transport.close = func() error { panic(errTunnel) } })
	if v := recovers(func() { _ = client.Abort() }); v != errTunnel {
		t.Errorf("the panic is %v", v)
	}
	closed := make(chan bool, 1)
	transport.set(func() { transport.close = func() error { closed <- true; return transport.Conn.Close() } })
	_ = client.Close()
	<-closed
	if _, err := client.Options(); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("after Close Options returns %v", err)
	}
}

// TestDeadlineThatCloses: a transport may close the Conn in its SetDeadline.
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
	_ = client.SetDeadline(time.Now().Add(time.Hour)) // without a deadline Close takes its five seconds
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

// TestCloseBesideDeadline: Close ends a Write that blocks SetWriteDeadline.
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
	_, err := client.Write([]byte("x")) // Close reads, because tickets may come
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close() // the server neither reads nor closes
	_ = server.Abort()
}

// TestReadBesideUnsentData: a Write leaves unsent data after its deadline. A Read does not send it:
// both peers could wait for each other.
func TestReadBesideUnsentData(t *testing.T) {
	noQueue(t)
	s, c := tcpPair(t)
	must(t, s.(*net.TCPConn).SetReadBuffer(4096))
	must(t, c.(*net.TCPConn).SetReadBuffer(4096))
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
	exchange(t, server, client)
	var reads sync.WaitGroup
	for _, end := range []*sslctx.Conn{server, client} {
		must(t, end.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
		for {
			if _, err := end.Write(make([]byte, 1<<20)); errors.Is(err, os.ErrDeadlineExceeded) {
				break
			} else {
				must(t, err)
			}
		}
		must(t, end.SetDeadline(time.Time{}))
	}
	for _, end := range []*sslctx.Conn{server, client} {
		reads.Go(func() {
			if _, err := end.Read(make([]byte, 1)); err != nil {
				t.Errorf("Read returns %v", err)
			}
		})
	}
	reads.Wait()
	_, _ = server.Abort(), client.Abort()
}

// TestDeadlinesAtOnce: a deadline holds when its setter returns, whatever other setters do at the
// same moment.
func TestDeadlinesAtOnce(t *testing.T) {
	noQueue(t)
	server, client := newEnds(t, sslctx.VersionTLS13).connect(t, nil)
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = client.SetWriteDeadline(time.Now().Add(time.Hour))
				}
			}
		})
	}
	go func() { _, _ = io.Copy(server, server) }()
	for range 200 {
		must(t, client.SetDeadline(time.Unix(1, 0)))
		must(t, client.SetDeadline(time.Now().Add(time.Hour)))
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatalf("Write returns %v", err)
		}
		if _, err := client.Read(make([]byte, 1)); err != nil {
			t.Fatalf("Read returns %v", err)
		}
	}
	close(stop)
	others.Wait()
	_, _ = client.Abort(), server.Abort()
}

// TestReadDeadlineBesideHangingSetter: the deadline for reads holds while the transport hangs in
// SetWriteDeadline.
func TestReadDeadlineBesideHangingSetter(t *testing.T) {
	noQueue(t)
	s, c := net.Pipe()
	transport := &oneAtATime{Conn: c, writing: make(chan struct{})}
	server, client := newEnds(t, sslctx.VersionTLS12).over(t, s, transport, nil)
	shake(t, server, client)
	done := make(chan struct{}, 2)
	go func() { _, _ = client.Write(make([]byte, 1000)); done <- struct{}{} }() // nobody reads
	<-transport.writing
	go func() { _ = client.SetWriteDeadline(time.Now().Add(time.Hour)); done <- struct{}{} }()
	time.Sleep(10 * time.Millisecond)
	must(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read returns %v", err)
	}
	_ = client.Abort()
	<-done
	<-done
}

// TestCloseBesideHangingWrite: Close has its limit also while it writes, over a transport without
// deadlines.
func TestCloseBesideHangingWrite(t *testing.T) {
	t.Parallel()
	s, c := net.Pipe() // nobody reads
	server, client := newEnds(t, sslctx.VersionTLS12).over(t, s, noDeadlines{c, c}, nil)
	shake(t, server, client)
	_ = client.Close()
	if _, err := client.Options(); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("afterwards Options returns %v", err)
	}
}

// TestPanicsOfTransportAtContextEnd: the call ends in spite of further panics and of a Write that
// waits.
func TestPanicsOfTransportAtContextEnd(t *testing.T) {
	noQueue(t)
	for name, prepare := range map[string]func(*badTransport){
		"deadlines, too": func(b *badTransport) { b.deadline = func() error { panic(errTunnel) } },
		"in a Write":     func(*badTransport) {},
	} {
		s, c := net.Pipe() // nobody reads
		transport := &badTransport{Conn: c, close: func() error { panic(errTunnel) }}
		_, client := newEnds(t, sslctx.VersionTLS13).over(t, s, transport, nil)
		prepare(transport)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		ended := make(chan any, 1)
		go func() { ended <- recovers(func() { _ = client.HandshakeContext(ctx) }) }()
		if name == "deadlines, too" {
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond)
			_ = c.Close() // nothing else ends the Write
		}
		if v := <-ended; v != errTunnel {
			t.Errorf("%s: the panic is %v", name, v)
		}
		cancel()
		transport.set(func() { transport.close, transport.deadline = nil, nil })
		_ = client.Abort()
	}
}

// TestWaitMutex: one goroutine at a time has the lock, also when waits end, and none waits for
// ever.
func TestWaitMutex(t *testing.T) {
	m, held, got := sslctx.NewWaitMutex(), 0, 0
	var calls sync.WaitGroup
	for i := range 8 {
		calls.Go(func() {
			for n := range 5000 {
				if !m.LockFor(time.Duration((n*7+i)%40) * time.Microsecond) {
					continue
				}
				if held++; held != 1 {
					t.Error("two holders")
				}
				got++
				held--
				m.Unlock()
			}
		})
	}
	calls.Wait()
	if !m.TryLock() || got == 0 {
		t.Errorf("nobody holds the lock, and it is not free; it was held %d times", got)
	}
}

// TestPanicOfDeadlineSetter: a transport whose deadline setter panics, or ends its goroutine, leaves
// no lock held. The panic reaches the caller.
func TestPanicOfDeadlineSetter(t *testing.T) {
	for name, call := range map[string]func(*sslctx.Conn) error{
		"SetDeadline":     func(c *sslctx.Conn) error { return c.SetDeadline(time.Now().Add(time.Hour)) },
		"SetReadDeadline": func(c *sslctx.Conn) error { return c.SetReadDeadline(time.Now().Add(time.Hour)) },
		"CloseWrite":      (*sslctx.Conn).CloseWrite,
	} {
		server, client, transport := overBad(t)
		transport.set(func() { transport.deadline = func() error { panic(errTunnel) } })
		if v := recovers(func() { _ = call(client) }); v != errTunnel {
			t.Errorf("%s: the panic is %v", name, v)
		}
		transport.set(func() { transport.deadline = func() error { runtime.Goexit(); return nil } })
		ended := make(chan bool)
		go func() {
			defer close(ended)
			_ = client.SetWriteDeadline(time.Now().Add(time.Hour))
		}()
		<-ended
		transport.set(func() { transport.deadline = nil })
		must(t, client.SetDeadline(time.Now().Add(time.Minute)))
		exchange(t, server, client)
	}
}

// TestPanicInWriteThatReads: a Write that reads for a renegotiation sets the deadline for reads. If
// that panics, later Reads have their own deadline again.
func TestPanicInWriteThatReads(t *testing.T) {
	e := renegotiating(t)
	s, c := tcpPair(t)
	transport := &badTransport{Conn: c}
	server, client := e.over(t, s, transport, nil)
	exchange(t, server, client)
	must(t, client.Renegotiate())
	transport.set(func() { transport.deadline = func() error { panic(errTunnel) } })
	if v := recovers(func() { _, _ = client.Write([]byte("x")) }); v != errTunnel {
		t.Errorf("the panic is %v", v)
	}
	transport.set(func() { transport.deadline = nil })
	must(t, client.SetReadDeadline(time.Time{}))
	must(t, client.SetWriteDeadline(time.Unix(1, 0)))
	go func() {
		go func() { _, _ = io.Copy(io.Discard, server) }() // goes through the renegotiation
		_, _ = server.Write([]byte("y"))
	}()
	if _, err := client.Read(make([]byte, 1)); isTimeout(err) {
		t.Errorf("a Read without a deadline returns %v", err)
	}
}

// TestDeadlineThatSetsDeadline: a transport that sets the connection's deadline from its own waits
// for itself. Abort ends that.
func TestDeadlineThatSetsDeadline(t *testing.T) {
	_, client, transport := overBad(t)
	inside, done := make(chan bool), make(chan error, 1)
	transport.set(func() {
		transport.deadline = func() error {
			transport.set(func() { transport.deadline = nil })
			close(inside)
			return client.SetWriteDeadline(time.Now().Add(time.Hour))
		}
	})
	go func() { done <- client.SetDeadline(time.Now().Add(time.Hour)) }()
	<-inside
	must(t, client.Abort())
	if err := <-done; !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("SetDeadline returns %v", err)
	}
}

// wrapsItself is a transport whose NetConn is itself.
type wrapsItself struct{ net.Conn }

func (w wrapsItself) NetConn() net.Conn { return w }

// TestCloseOverItself: Close does not look for the socket without end.
func TestCloseOverItself(t *testing.T) {
	defer tlstest.Watchdog(30 * time.Second)()
	s, c := tcpPair(t)
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, wrapsItself{c}, nil)
	exchange(t, server, client)
	must(t, client.Close())
}

// TestCallsBesideLookers: calls that only look at a connection do not hold up a Write, or a
// handshake whose context ends.
func TestCallsBesideLookers(t *testing.T) {
	look := func(c *sslctx.Conn) (stop func()) {
		var looking sync.WaitGroup
		over := make(chan bool)
		for range 4 {
			looking.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
						_ = c.ConnectionState()
						_, _ = c.Options()
					}
				}
			})
		}
		return func() { close(over); looking.Wait() }
	}
	s, c := tcpPair(t)
	server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
	exchange(t, server, client)
	go func() { _, _ = io.Copy(io.Discard, server) }()
	stop := look(client)
	must(t, client.SetWriteDeadline(time.Now().Add(20*time.Second)))
	for range 20 {
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	stop()

	defer tlstest.Watchdog(30 * time.Second)()
	s, c = tcpPair(t) // whose server says nothing
	defer s.Close()
	client, err := sslctx.Client(c, newEnds(t, sslctx.VersionTLS13).client)
	must(t, err)
	defer client.Close()
	must(t, client.SetServerName("localhost"))
	defer look(client)()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the handshake returns %v", err)
	}
}

// TestCallsFromTransport: the transport's Write, which sends the answer of a Read, calls the
// connection. That waits for the Write, until its own limit.
func TestCallsFromTransport(t *testing.T) {
	for name, call := range map[string]func(*sslctx.Conn) error{
		"Close":      (*sslctx.Conn).Close,
		"CloseWrite": (*sslctx.Conn).CloseWrite,
		"Write":      func(c *sslctx.Conn) error { _, err := c.Write([]byte("x")); return err },
		"KeyUpdate":  func(c *sslctx.Conn) error { return c.KeyUpdate(false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, user := pha(t)
			must(t, e.client.UseCertificate(user.TLSCertificate()))
			s, c := tcpPair(t)
			transport := &badTransport{Conn: c}
			server, client := e.over(t, s, transport, nil)
			exchange(t, server, client)
			must(t, server.VerifyClientPostHandshake())
			must(t, client.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
			called := make(chan error, 1)
			transport.set(func() {
				transport.write = func(p []byte) (int, error) {
					transport.set(func() { transport.write = nil })
					called <- call(client)
					return c.Write(p)
				}
			})
			go func() { _, _ = client.Read(make([]byte, 1)) }()
			select {
			case err := <-called:
				if err == nil {
					t.Error("it returns nil")
				}
			case <-time.After(20 * time.Second):
				t.Error("it waits for itself")
			}
			_ = client.Abort()
		})
	}
}

// TestPanicInAnswer: a Read, or AwaitTicket, has plaintext and sends an answer, in which the
// transport panics. The next Read returns the plaintext.
func TestPanicInAnswer(t *testing.T) {
	for _, awaits := range []bool{false, true} {
		e, user := pha(t)
		must(t, e.client.UseCertificate(user.TLSCertificate()))
		must(t, e.server.SetNumTickets(0))
		s, c := tcpPair(t)
		together := &coalescing{Conn: s}
		transport := &badTransport{Conn: c}
		server, client := e.over(t, together, transport, nil)
		exchange(t, server, client)
		transport.set(func() { transport.write = func([]byte) (int, error) { panic(errTunnel) } })
		must(t, server.VerifyClientPostHandshake())
		_, err := server.Write([]byte("hello "))
		must(t, err)
		v := recovers(func() {
			if awaits {
				err = client.AwaitTicket(t.Context())
			} else {
				_, err = client.Read(make([]byte, 10))
			}
		})
		if v != errTunnel {
			t.Fatalf("the call returns %v, and the panic is %v", err, v)
		}
		transport.set(func() { transport.write = nil })
		b := make([]byte, 6)
		must(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
		if _, err := io.ReadFull(client, b); err != nil || string(b) != "hello " {
			t.Errorf("the next Read returns %q, %v", b, err)
		}
		must(t, errors.Join(client.Abort(), server.Abort())) // Close would wait for output that is lost
	}
}

// TestDeadlineError: the error of a transport that takes no deadline is the setter's.
func TestDeadlineError(t *testing.T) {
	_, client, transport := overBad(t)
	transport.set(func() { transport.deadline = func() error { return errTunnel } })
	for name, set := range map[string]func(time.Time) error{
		"SetDeadline": client.SetDeadline, "SetReadDeadline": client.SetReadDeadline, "SetWriteDeadline": client.SetWriteDeadline,
	} {
		if err := set(time.Now().Add(time.Hour)); !errors.Is(err, errTunnel) {
			t.Errorf("%s returns %v", name, err)
		}
	}
	transport.set(func() { transport.deadline = nil })
}

// readsAs is a transport whose Read a test replaces.
type readsAs struct {
	net.Conn
	read func(p []byte) (int, error)
}

func (r *readsAs) Read(p []byte) (int, error) { return r.read(p) }

// TestPanicOfTransportInHandshake: a handshake in which the transport, or its error, panicked does
// not go on.
func TestPanicOfTransportInHandshake(t *testing.T) {
	panics := func([]byte) (int, error) { panic(errTunnel) }
	early := func(c *sslctx.Conn) error { _, err := readEarly(c); return err }
	for name, test := range map[string]struct {
		shake func(*sslctx.Conn) error
		read  func([]byte) (int, error)
	}{
		"Handshake":                   {(*sslctx.Conn).Handshake, panics},
		"ReadEarlyData":               {early, panics},
		"ReadEarlyData with an error": {early, func([]byte) (int, error) { return 0, badError{} }},
	} {
		noQueue(t)
		s, c := tcpPair(t)
		shake, transport := test.shake, &readsAs{s, test.read}
		server, client := newEnds(t, sslctx.VersionTLS13).over(t, transport, c, nil)
		go func() { _ = client.Handshake() }()
		if v := recovers(func() { _ = shake(server) }); v != errTunnel {
			t.Errorf("%s: the panic is %v", name, v)
		}
		transport.read = s.Read
		if err := shake(server); err == nil {
			t.Errorf("%s: after a panic the handshake succeeds", name)
		}
	}
}

// TestReaderOfNothing: a transport that reads nothing, and returns no error, is not asked for ever.
func TestReaderOfNothing(t *testing.T) {
	_, c := tcpPair(t)
	reads := 0
	transport := &readsAs{c, func([]byte) (int, error) {
		if reads++; reads > 10_000 {
			return 0, errTunnel
		}
		return 0, nil
	}}
	_, client := newEnds(t, sslctx.VersionTLS13).over(t, c, transport, nil)
	if err := client.Handshake(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("after %d reads Handshake returns %v", reads, err)
	}
}

// TestDataWithError: data counts that a transport returns together with an error.
func TestDataWithError(t *testing.T) {
	s, c := tcpPair(t)
	transport := &readsAs{Conn: c, read: c.Read}
	server, client := newEnds(t, sslctx.VersionTLS12).over(t, s, transport, nil)
	exchange(t, server, client)
	_, err := server.Write([]byte("data"))
	must(t, err)
	transport.read = func(p []byte) (int, error) {
		n, _ := c.Read(p)
		return n, errTunnel
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "data" {
		t.Errorf("Read returns %q, %v", buf, err)
	}
}

// TestNoRecord: a header that is no record's fails the handshake at once, though nothing follows.
func TestNoRecord(t *testing.T) {
	for name, sent := range map[string]string{"text": "GET /", "version": "\x16\x04\x03\x00\x05", "length": "\x16\x03\x03\x48\x01"} {
		for _, r := range []role{serverRole, clientRole} {
			synctest.Test(t, func(t *testing.T) {
				s, c := wire()
				server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
				end, peer := server, c
				if r == clientRole {
					end, peer = client, s
				}
				_, err := peer.Write([]byte(sent))
				must(t, err)
				must(t, end.SetDeadline(time.Now().Add(time.Second)))
				if err := end.Handshake(); err == nil || isTimeout(err) {
					t.Errorf("%s: the %s returns %v", name, r, err)
				}
			})
		}
	}
}

// TestAnswerBesideUnsentRecord: a Write meets its deadline in the middle of a record. A Read then
// answers the server's request for a certificate. When all is sent, the rest of the record comes
// before the answer.
func TestAnswerBesideUnsentRecord(t *testing.T) {
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	s, c := wire()
	server, client := e.over(t, s, c, nil)
	exchange(t, server, client)
	c.Out.LeaveRoom(1000)
	data := bytes.Repeat([]byte("0123456789"), 500)
	must(t, client.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	if n, err := client.Write(data); n != len(data) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write returns %d, %v", n, err)
	}
	if n, err := client.Write([]byte("late")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline Write returns %d, %v", n, err)
	}
	if _, err := client.Write(nil); err != nil { // which makes nothing good
		t.Errorf("an empty Write returns %v", err)
	}
	if err := client.CloseWrite(); !errors.Is(err, sslctx.ErrDataLost) {
		t.Errorf("CloseWrite returns %v", err)
	}
	must(t, client.SetWriteDeadline(time.Time{}))
	must(t, server.VerifyClientPostHandshake())
	_, err := server.Write([]byte("x"))
	must(t, err)
	_, err = io.ReadFull(client, make([]byte, 1))
	must(t, err)
	c.Out.SetRoom(0)
	_, err = client.Write([]byte("more"))
	must(t, err)
	got := make([]byte, len(data)+4)
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, append(data, "more"...)) {
		t.Errorf("the server's Read returns %v", err)
	}
	if len(server.ConnectionState().PeerCertificates) == 0 {
		t.Error("the answer is lost")
	}
}

// TestAnswerOfReaderBesideWriter: a Read must answer the peer while a Write that has nothing more
// to send still has the lock for writes. The answer is sent, although nobody writes again.
func TestAnswerOfReaderBesideWriter(t *testing.T) {
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	s, c := wire()
	server, client := e.over(t, s, c, nil)
	exchange(t, server, client)
	must(t, server.VerifyClientPostHandshake())
	_, err := server.Write([]byte("x"))
	must(t, err)
	sent := 0
	c.Out.Tamper = func(p []byte) ([]byte, error) { sent += len(p); return p, nil }
	sslctx.HoldWrites(client, func() {
		_, err = io.ReadFull(client, make([]byte, 1))
		must(t, err)
		if sent != 0 {
			t.Error("the Read sends while another call writes")
		}
	})
	if sent == 0 {
		t.Error("the answer is not sent")
	}
}

// TestDeadlinesInTurn: a setter that hangs in the transport does not replace the deadline of a
// later one.
func TestDeadlinesInTurn(t *testing.T) {
	server, client, transport := overBad(t)
	for name, set := range map[string]func(time.Time) error{"SetReadDeadline": client.SetReadDeadline, "SetWriteDeadline": client.SetWriteDeadline} {
		entered, release, calls := make(chan struct{}), make(chan struct{}), atomic.Int32{}
		transport.set(func() {
			transport.deadline = func() error {
				if calls.Add(1) == 1 {
					close(entered)
					<-release
				}
				return nil
			}
		})
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- set(time.Unix(1, 0)) }()
		<-entered
		go func() { second <- set(time.Now().Add(time.Hour)) }()
		select {
		case err := <-second:
			t.Errorf("%s does not wait: %v", name, err)
			second <- err
		case <-time.After(20 * time.Millisecond):
		}
		close(release)
		must(t, errors.Join(<-first, <-second))
	}
	exchange(t, server, client)
	must(t, client.SetWriteDeadline(time.Unix(1, 0)))
	if n, err := client.Write([]byte("late")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline Write returns %d, %v", n, err)
	}
}
