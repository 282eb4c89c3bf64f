// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// renegotiations returns how many renegotiations the two contexts began, by libssl's count.
func (e ends) renegotiations() (client, server int) {
	return e.client.CacheStats().ConnectRenegotiate, e.server.CacheStats().AcceptRenegotiate
}

func TestRenegotiate(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	must(t, e.server.SetALPNProtos("a"))
	must(t, e.client.SetALPNProtos("a"))
	server, client := e.connect(t, nil)
	for i := 1; i <= 20; i++ {
		end := server
		if i%2 == 0 {
			end = client
		}
		must(t, end.Renegotiate())
		for range 3 {
			exchange(t, server, client)
		}
		if c, s := e.renegotiations(); c != i || s < i { // a server may count one several times
			t.Fatalf("after %d renegotiations libssl has counted %d and %d", i, c, s)
		}
	}
	for _, end := range []*sslctx.Conn{server, client} {
		if state := end.ConnectionState(); state.CipherSuite == 0 || state.Version != tls.VersionTLS12 || state.NegotiatedProtocol != "a" {
			t.Errorf("afterwards the state is %+v", state)
		}
	}
	s := sessionOf(t, client)
	_, _ = server.Close(), client.Close()
	if _, client = e.connect(t, s); !client.SessionReused() {
		t.Error("the session of a renegotiated connection does not resume")
	}
}

// TestRenegotiationBesideData: a renegotiation that is asked for while data waits in libssl, which
// nobody has read yet, loses none of it, and goes on in the Reads after it.
func TestRenegotiationBesideData(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	server, client := e.connect(t, nil)
	_, err := server.Write([]byte("hello"))
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	must(t, client.Renegotiate())
	if n, err := io.ReadFull(client, make([]byte, 4)); n != 4 || err != nil {
		t.Errorf("the rest is %d bytes, %v", n, err)
	}
	must(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	answered := make(chan error, 1)
	go func() { // answers the renegotiation
		_, err := server.Read(make([]byte, 1))
		answered <- err
	}()
	read := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1))
		read <- err
	}()
	for begun := 0; begun == 0; _, begun = e.renegotiations() {
		select {
		case err := <-read:
			t.Fatalf("Read begins no renegotiation: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	_, err = server.Write([]byte("x"))
	must(t, err)
	must(t, <-read)
	_, err = client.Write([]byte("y"))
	must(t, errors.Join(err, <-answered))
}

func TestRenegotiateRefused(t *testing.T) {
	noQueue(t)
	server, client := connPair(t)
	for _, end := range []*sslctx.Conn{server, client} {
		wantReason(t, end.Renegotiate(), sslctx.ReasonWrongSSLVersion)
	}
	exchange(t, server, client) // it broke nothing
	s := sessionOf(t, client)
	must(t, client.Close())
	if !s.IsResumable() {
		t.Error("a refused Renegotiate marked the session")
	}

	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.client.SetOptions(sslctx.OpNoRenegotiation)
	must(t, err)
	server, client = e.connect(t, nil)
	var ssl *sslctx.Error
	if err := client.Renegotiate(); !errors.As(err, &ssl) {
		t.Errorf("with OpNoRenegotiation Renegotiate returns %v", err)
	}
	exchange(t, server, client)

	if sslctx.OpAllowClientRenegotiation != 0 {
		server, client = newEnds(t, sslctx.VersionTLS12).connect(t, nil)
		go func() { _, _ = io.Copy(io.Discard, server) }()
		must(t, client.Renegotiate())
		if _, err := client.Write([]byte("x")); !errors.As(err, &ssl) {
			t.Errorf("refused by the server, Write returns %v", err)
		}
	}
	server, client = renegotiating(t).connect(t, nil)
	must(t, server.CloseWrite())
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read returns %v", err)
	}
	if err := client.Renegotiate(); err != io.EOF {
		t.Errorf("after the peer's close_notify Renegotiate returns %v", err)
	}
}

// TestRenegotiateTwice: a server whose request is not answered sends no other. A client of crypto/tls
// would end the connection.
func TestRenegotiateTwice(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	s, c := tcpPair(t)
	server, err := sslctx.Server(s, e.server)
	must(t, err)
	handshakes := make(counted, 10)
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Renegotiation: tls.RenegotiateFreelyAsClient,
		KeyLogWriter: handshakes})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	must(t, errors.Join(server.Handshake(), <-shaken))
	<-handshakes
	must(t, server.Renegotiate())
	must(t, server.Renegotiate())
	must(t, server.SetDeadline(time.Now().Add(30*time.Second)))
	ended := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1))
		ended <- errors.Join(err, c.Close())
	}()
	go func() {
		<-handshakes
		_, _ = client.Write([]byte("x")) // when the renegotiation is over
	}()
	b := make([]byte, 1)
	if _, err := server.Read(b); err != nil {
		t.Fatalf("Read returns %v, and the client's %v", err, <-ended)
	}
	_, err = server.Write(b)
	must(t, errors.Join(err, <-ended))
	if n := len(handshakes); n > 0 {
		t.Errorf("%d renegotiations too many", n)
	}
}

// counted has an element for each Write.
type counted chan struct{}

func (c counted) Write(p []byte) (int, error) {
	c <- struct{}{}
	return len(p), nil
}

// numbers writes numbers in order until stop, in Writes of different sizes, and then an end mark.
func numbers(w io.Writer, stop <-chan struct{}) error {
	next := uint32(1)
	for i := 0; ; i++ {
		var buf []byte
		for range 1 + i*i%9000 {
			buf = binary.BigEndian.AppendUint32(buf, next)
			next++
		}
		select {
		case <-stop:
			_, err := w.Write(make([]byte, 4))
			return err
		default:
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
}

// readNumbers reads and checks the output of numbers.
func readNumbers(r io.Reader) (n int, err error) {
	in := bufio.NewReaderSize(r, 3000)
	var buf [4]byte
	for want := uint32(1); ; want++ {
		if _, err := io.ReadFull(in, buf[:]); err != nil {
			return n, err
		}
		got := binary.BigEndian.Uint32(buf[:])
		if got == 0 {
			return n, nil
		}
		if got != want {
			return n, fmt.Errorf("%d follows %d", got, want-1)
		}
		n += len(buf)
	}
}

// TestRenegotiateUnderTraffic: both ends write and read as fast as they can while one of them, or
// both, renegotiate.
func TestRenegotiateUnderTraffic(t *testing.T) {
	period := 1500 * time.Millisecond
	if testing.Short() {
		period = 200 * time.Millisecond
	}
	for name, who := range map[string][2]bool{"client": {false, true}, "server": {true, false}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			e := renegotiating(t)
			server, client := e.connect(t, nil)
			deadline := time.Now().Add(60 * time.Second)
			must(t, server.SetDeadline(deadline))
			must(t, client.SetDeadline(deadline))
			stop := make(chan struct{})
			var traffic, asking sync.WaitGroup
			for i, end := range []*sslctx.Conn{server, client} {
				traffic.Go(func() {
					if err := numbers(end, stop); err != nil {
						t.Errorf("end %d writes: %v", i, err)
					}
				})
				traffic.Go(func() {
					if n, err := readNumbers(end); err != nil || n == 0 {
						t.Errorf("end %d read %d bytes: %v", i, n, err)
					}
				})
				if who[i] {
					asking.Go(func() {
						enough := func() bool { c, s := e.renegotiations(); return c >= 2 && s >= 2 }
						for until := time.Now().Add(period); time.Now().Before(until) || time.Now().Before(deadline) && !enough(); {
							if err := end.Renegotiate(); err != nil {
								t.Errorf("end %d renegotiates: %v", i, err)
								return
							}
							time.Sleep(time.Duration(i+1) * 100 * time.Microsecond)
						}
					})
				}
			}
			asking.Wait()
			close(stop)
			traffic.Wait()
			c, s := e.renegotiations()
			t.Logf("%d and %d renegotiations", c, s)
			if c < 2 || s < 2 {
				t.Errorf("%d and %d renegotiations", c, s)
			}
		})
	}
}

// TestWriteReads: a Write in a renegotiation reads itself if there is no other reader. Read later
// returns the data in order, also data that libssl had decrypted before.
func TestWriteReads(t *testing.T) {
	noQueue(t)
	for _, first := range []int{0, 1, 16384, 100_000} {
		e := renegotiating(t)
		server, client := e.connect(t, nil)
		must(t, client.SetDeadline(time.Now().Add(20*time.Second)))
		data := bytes.Repeat([]byte("0123456789"), 20_000) // 200,000 bytes
		arrived := make(chan error, 1)
		go func() {
			_, err := server.Write(data)
			if err == nil {
				_, err = io.ReadFull(server, make([]byte, 3))
			}
			arrived <- err
		}()
		got := make([]byte, len(data))
		_, err := io.ReadFull(client, got[:first])
		must(t, err)
		must(t, client.Renegotiate())
		_, err = client.Write([]byte("abc"))
		must(t, err)
		must(t, <-arrived)
		_, err = io.ReadFull(client, got[first:])
		must(t, err)
		if !bytes.Equal(got, data) {
			t.Errorf("after %d bytes: the data is not what was sent", first)
		}
		if c, _ := e.renegotiations(); c != 1 {
			t.Errorf("%d renegotiations", c)
		}
		exchange(t, server, client)
	}
}

// endless sends more to a peer than it may keep, over a wire that holds little, until an error. sent
// returns what the peer took, when that is over.
func endless(from *sslctx.Conn) (sent func() int) {
	n, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for n < 4<<20 {
			wrote, err := from.Write(make([]byte, 1<<14))
			if n += wrote; err != nil {
				return
			}
		}
	}()
	return func() int { <-done; return n }
}

// wantMebibyte wants that an end has read ahead as much as it may, and not more.
func wantMebibyte(t *testing.T, sent int) {
	t.Helper()
	if sent < 1<<20 || sent > 1<<20+1<<18 {
		t.Errorf("%d bytes were sent", sent)
	}
}

// TestWriteReadsNoMoreThan: a peer that sends without end and does not answer does not fill the
// memory. What a Write has read ahead a Read takes, and then the Write reads on.
func TestWriteReadsNoMoreThan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := wire()
		e := renegotiating(t)
		must(t, e.client.SetVerify(sslctx.VerifyNone)) // a bubble's time is none of the certificate's
		server, client := e.over(t, s, c, nil)
		exchange(t, server, client)
		s.Out.SetRoom(1 << 16)
		sent := endless(server)
		must(t, client.Renegotiate())
		must(t, client.SetWriteDeadline(time.Now().Add(time.Second)))
		if _, err := client.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write returns %v", err)
		}
		_, err := io.ReadFull(client, make([]byte, 1<<19))
		must(t, err)
		must(t, client.SetWriteDeadline(time.Time{}))
		wrote := make(chan error, 1)
		go func() {
			_, err := client.Write([]byte("x"))
			wrote <- err
		}()
		synctest.Wait()
		wantLost(t, client.Close())
		if err := <-wrote; err == nil {
			t.Error("a Write that waits for a Read survives Close")
		}
		_ = server.Abort()
		wantMebibyte(t, sent()-1<<19)
	})
}

// TestAwaitTicketIsBounded: nor does it fill the memory of an AwaitTicket.
func TestAwaitTicketIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnds(t, sslctx.VersionTLS13)
		must(t, e.client.SetVerify(sslctx.VerifyNone))
		must(t, e.server.SetNumTickets(0))
		s, c := wire()
		server, client := e.over(t, s, c, nil)
		exchange(t, server, client)
		s.Out.SetRoom(1 << 16)
		sent := endless(server)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := client.AwaitTicket(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AwaitTicket returns %v", err)
		}
		_, _ = client.Abort(), server.Abort()
		wantMebibyte(t, sent())
	})
}

// TestWriteWaits: deadlines and Close end a Write that waits for a renegotiation, whether it reads
// itself or another call does. A Read that waits for that Write has its own deadline.
func TestWriteWaits(t *testing.T) {
	past := func() time.Time { return time.Now().Add(20 * time.Millisecond) }
	read := func(c *sslctx.Conn) <-chan error {
		errs := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			errs <- err
		}()
		time.Sleep(10 * time.Millisecond)
		return errs
	}
	for _, beside := range []bool{false, true} {
		t.Run(fmt.Sprintf("beside a reader is %v", beside), func(t *testing.T) {
			server, client := renegotiating(t).connect(t, nil) // the server does not read
			must(t, client.Renegotiate())
			var reading <-chan error
			if beside {
				reading = read(client)
			}
			must(t, client.SetWriteDeadline(past()))
			for range 2 {
				if n, err := client.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Write returns %d, %v", n, err)
				}
			}
			must(t, client.SetWriteDeadline(time.Time{}))
			wrote := make(chan error, 4)
			for range 2 {
				go func() {
					_, err := client.Write([]byte("x"))
					wrote <- err
				}()
			}
			time.Sleep(10 * time.Millisecond)
			if !beside { // the Write reads the transport
				must(t, client.SetReadDeadline(past()))
				if err := <-read(client); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Read beside a Write returns %v", err)
				}
				late := read(client)
				must(t, client.SetReadDeadline(time.Now().Add(-time.Second)))
				if err := <-late; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Read beside a Write returns %v", err)
				}
			}
			must(t, client.SetWriteDeadline(time.Now().Add(-time.Second)))
			for range 2 {
				if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Write that waits returns %v", err)
				}
			}
			must(t, client.SetDeadline(time.Time{}))

			// Now the server reads, and all calls continue.
			go func() {
				_, err := client.Write([]byte("ab"))
				wrote <- err
			}()
			buf := make([]byte, 2)
			if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "ab" {
				t.Errorf("the server reads %q, %v", buf, err)
			}
			must(t, <-wrote)
			_, err := server.Write([]byte("c"))
			must(t, err)
			if beside {
				must(t, <-reading)
			} else {
				must(t, <-read(client))
			}

			must(t, client.Renegotiate())
			if beside {
				reading = read(client)
			}
			go func() {
				_, err := client.Write([]byte("x"))
				wrote <- err
			}()
			time.Sleep(10 * time.Millisecond)
			wantLost(t, client.Close())
			if err := <-wrote; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write that waits returns %v after Close", err)
			}
			if beside {
				if err := <-reading; !errors.Is(err, net.ErrClosed) {
					t.Errorf("Read that waits returns %v after Close", err)
				}
			}
		})
	}
}

// TestWriteWhenPeerEnds: the peer cuts off a renegotiation. The Write returns an error, and does
// not hang.
func TestWriteWhenPeerEnds(t *testing.T) {
	for name, end := range map[string]func(*sslctx.Conn) error{
		"close_notify": (*sslctx.Conn).Close, "without": func(c *sslctx.Conn) error { return c.NetConn().Close() },
	} {
		server, client := renegotiating(t).connect(t, nil)
		must(t, client.Renegotiate())
		ended := make(chan error, 1)
		go func() {
			time.Sleep(10 * time.Millisecond)
			ended <- end(server)
		}()
		for range 2 {
			if _, err := client.Write([]byte("x")); err == nil {
				t.Errorf("%s: Write returns no error", name)
			} else {
				t.Logf("%s: %v", name, err)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCloseWriteWaits: close_notify comes after the renegotiation and after the data.
func TestCloseWriteWaits(t *testing.T) {
	noQueue(t)
	server, client := renegotiating(t).connect(t, nil)
	must(t, client.Renegotiate())
	got := make(chan string)
	go func() {
		all, err := io.ReadAll(server)
		got <- fmt.Sprint(string(all), err)
	}()
	must(t, client.CloseWrite())
	if s := <-got; s != "<nil>" {
		t.Errorf("the server reads %s", s)
	}
}

// TestWriteBesideReadsThatEnd: a Write waits for a renegotiation beside Reads. When the Reads have
// ended, the Write reads itself.
func TestWriteBesideReadsThatEnd(t *testing.T) {
	noQueue(t)
	e := renegotiating(t)
	for i := range 150 {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		exchange(t, server, client)
		must(t, client.Renegotiate())
		must(t, client.SetReadDeadline(time.Now().Add(time.Duration(1+i%5)*time.Millisecond)))
		var reads sync.WaitGroup
		for range 8 {
			reads.Go(func() { _, _ = client.Read(make([]byte, 1)) })
		}
		wrote := make(chan error, 1)
		go func() { _, err := client.Write([]byte("w")); wrote <- err }()
		reads.Wait()
		go func() { _, _ = server.Read(make([]byte, 1)) }()
		must(t, <-wrote)
		_, _ = client.Abort(), server.Abort()
	}
}

// TestWritersInTurn: the data of several Writes at once does not mix in a renegotiation.
func TestWritersInTurn(t *testing.T) {
	server, client := renegotiating(t).connect(t, nil)
	const writers, size = 8, 50_000
	for range 10 {
		must(t, client.Renegotiate())
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				if _, err := client.Write(bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
					t.Error(err)
				}
			})
		}
		buf := make([]byte, size)
		for range writers {
			_, err := io.ReadFull(server, buf)
			must(t, err)
			if !bytes.Equal(buf, bytes.Repeat(buf[:1], size)) {
				t.Fatal("two Writes are mixed")
			}
		}
		wg.Wait()
	}
}

// TestWriteIsBounded: a Write that waits for a renegotiation collects a bounded number of events for hooks,
// without progress and in all. No peer is known that brings it there: the Write goes on at the end of each
// handshake.
func TestWriteIsBounded(t *testing.T) {
	e := renegotiating(t)
	_, client := e.connect(t, nil)
	for _, row := range []struct {
		events, before int
		fails          bool
	}{{50, 0, false}, {51, 0, true}, {1000, 990, false}, {1001, 1000, true}} {
		if err := sslctx.AwaitReadAfter(client, row.events, row.before); (err != nil) != row.fails {
			t.Errorf("after %d events, %d of them before the last progress: %v", row.events, row.before, err)
		}
	}
}

// A coalescing transport sends what was written in some milliseconds at once.
type coalescing struct {
	net.Conn
	mu   sync.Mutex
	sent []byte
}

func (c *coalescing) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sent) == 0 {
		time.AfterFunc(4*time.Millisecond, c.flush)
	}
	c.sent = append(c.sent, p...)
	return len(p), nil
}

func (c *coalescing) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Conn.Write(c.sent) // a closed connection needs it no more
	c.sent = nil
}

// TestReadStopsAtHandshakeEnd: a client ends a renegotiation, which resumes the session of another
// identity, and begins a further one in the same segment, or in the same record. The connection
// knows who sent the data between them, or behind them.
func TestReadStopsAtHandshakeEnd(t *testing.T) {
	if ossltest.LinkedVersion() >= 0x40000000 {
		t.Skip("a client of OpenSSL 4.0 cannot do this: SSL_set_session begins anew without TLSv1_2_client_method")
	}
	noQueue(t)
	root := issue(t, "root", nil, authority)
	files := map[string]string{}
	for _, name := range []string{"alice", "mallory"} {
		user := issue(t, name, root, nil)
		files[name] = filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(files[name], append(pemOf(user.Cert.Raw), keyPEM(t, user.Key)...), 0o600))
	}
	client := buildClient(t, "renegotiate_twice.c")
	for name, one := range map[string][]string{"segment": nil, "record": {"one"}} {
		t.Run(name, func(t *testing.T) {
			e := bare(t, sslctx.VersionTLS12, issue(t, "host", root, nil).TLSCertificate())
			must(t, e.server.TrustCertificate(root.Cert))
			must(t, e.server.SetIDContext([]byte("test")))
			must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
			_, err := e.server.SetOptions(sslctx.OpAllowClientRenegotiation)
			must(t, err)
			l := startClient(t, client, append([]string{files["alice"], files["mallory"]}, one...)...)
			first := acceptRaw(t, l, e.server)
			if _, err := first.Read(make([]byte, 1)); err != io.EOF {
				t.Fatalf("the first connection: %v", err)
			}
			server := acceptRaw(t, l, e.server)
			must(t, server.Handshake())
			check := func(want string) {
				t.Helper()
				state := server.ConnectionState()
				got := sessionOf(t, server)
				x, err := got.PeerCertificate()
				must(t, err)
				for _, x := range []*x509.Certificate{x, state.PeerCertificates[0], state.VerifiedChains[0][0]} {
					if x.Subject.CommonName != want {
						t.Errorf("the peer is %v; want %v", x.Subject, want)
					}
				}
			}
			check("alice")
			b := make([]byte, 10)
			if n, err := server.Read(b); string(b[:n]) != "x" {
				t.Fatalf("Read returns %q, %v", b[:n], err)
			}
			check("mallory")
			if !server.SessionReused() {
				t.Error("the client resumed nothing")
			}
			if one == nil {
				if n, err := server.Read(b); string(b[:n]) != "y" {
					t.Fatalf("Read returns %q, %v", b[:n], err)
				}
				check("alice")
			}
			if now, err := server.Options(); err != nil || now&sslctx.OpNoRenegotiation != 0 {
				t.Errorf("the options are %v, %v", now, err)
			}
		})
	}
}

// A pieces transport reads first bytes, once it is not 0, and then what has come.
type pieces struct {
	net.Conn
	first atomic.Int64
}

func (p *pieces) Read(b []byte) (int, error) {
	if n := p.first.Swap(0); n > 0 && n < int64(len(b)) {
		return p.Conn.Read(b[:n])
	}
	return p.Conn.Read(b)
}

// TestReadStopsAtAuthentication: data, the answer to a request for a certificate, data and a bad
// record are one segment, or two that meet anywhere. Each Read returns data of one identity, and
// the connection knows which.
func TestReadStopsAtAuthentication(t *testing.T) {
	noQueue(t)
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	for first := range int64(20) {
		for _, texts := range [][]string{{"before", "after"}, {"before"}} {
			readStops(t, e, first*71, texts)
		}
	}
}

// readStops sends the second text, if there is one, after the authentication.
func readStops(t *testing.T, e ends, first int64, texts []string) {
	t.Helper()
	server, client := answered(t, e, first, texts)
	b := make([]byte, 100)
	for certs, text := range texts {
		n, err := server.Read(b)
		if got := len(server.ConnectionState().PeerCertificates); string(b[:n]) != text || got != certs {
			t.Fatalf("%d bytes first: Read returns %q, %v, with %d certificates", first, b[:n], err, got)
		}
	}
	if _, err := server.Read(b); !errors.As(err, new(*sslctx.Error)) {
		t.Errorf("the bad record: %v", err)
	}
	if got := len(server.ConnectionState().PeerCertificates); got != 1 {
		t.Errorf("%d bytes first: after the bad record %d certificates", first, got)
	}
	must(t, errors.Join(server.Abort(), client.Abort()))
}

// answered returns connections whose client has sent a text, the answer to a request for a
// certificate, the further texts, and a bad record. The server reads first bytes of it, if that is
// not 0, and then the rest.
func answered(t *testing.T, e ends, first int64, texts []string) (server, client *sslctx.Conn) {
	t.Helper()
	s, c := tcpPair(t)
	in := &pieces{Conn: s}
	server, client = answeredOver(t, e, in, c, texts)
	in.first.Store(first)
	return server, client
}

func answeredOver(t *testing.T, e ends, s, c net.Conn, texts []string) (server, client *sslctx.Conn) {
	t.Helper()
	server, client = e.over(t, s, c, nil)
	serverErr, clientErr := handshakeBoth(server, client)
	must(t, errors.Join(serverErr, clientErr))
	must(t, server.VerifyClientPostHandshake())
	_, err := server.Write([]byte{1})
	must(t, err)
	write := func(text string) {
		_, err := client.Write([]byte(text))
		must(t, err)
	}
	write(texts[0])
	_, err = client.Read(make([]byte, 1)) // it answers
	must(t, err)
	for _, text := range texts[1:] {
		write(text)
	}
	_, err = c.Write([]byte("\x17\x03\x03\x00\x20this is no record of these keys!"))
	must(t, err)
	return server, client
}

// TestCloseReadsAllInput: Close goes on behind an authentication that it reads, and finds the bad
// record.
func TestCloseReadsAllInput(t *testing.T) {
	noQueue(t)
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	server, client := answered(t, e, 0, []string{"before", "after"})
	if err := server.Close(); !errors.As(err, new(*sslctx.Error)) {
		t.Errorf("Close returns %v", err)
	}
	must(t, client.Abort())
}

// TestHookBeforeTickets: the hook for new sessions hears of those of an authentication before the
// client gets their tickets, also if data follows the client's answer.
func TestHookBeforeTickets(t *testing.T) {
	e, user := pha(t)
	must(t, e.client.UseCertificate(user.TLSCertificate()))
	for _, texts := range [][]string{{"before"}, {"before", "after"}} {
		var sent atomic.Int64
		s, c := tcpPair(t)
		out := &countedOutput{Conn: s, bytes: &sent}
		heard := make(chan int64, 10)
		must(t, e.server.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
			heard <- sent.Load()
			must(t, s.Close())
		}))
		server, _ := answeredOver(t, e, out, c, texts)
		for len(heard) > 0 { // of the handshake
			<-heard
		}
		sent.Store(0)
		b := make([]byte, 100)
		for range texts {
			_, err := server.Read(b)
			must(t, err)
		}
		if _, err := server.Read(b); !errors.As(err, new(*sslctx.Error)) { // the bad record
			t.Errorf("Read returns %v", err)
		}
		if n := <-heard; n != 0 {
			t.Errorf("%d texts: %d bytes are sent before the hook runs", len(texts), n)
		}
		must(t, server.Abort())
	}
}

// countedOutput counts what a transport sends.
type countedOutput struct {
	net.Conn
	bytes *atomic.Int64
}

func (o *countedOutput) Write(p []byte) (int, error) {
	o.bytes.Add(int64(len(p)))
	return o.Conn.Write(p)
}
