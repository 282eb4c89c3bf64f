// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
)

// testContext is a context.Context for calls by reflection.
type testContext struct{ context.Context }

func (testContext) Done() <-chan struct{} { return nil }

// tcpPair connects two ends over loopback, which stay open until the test ends: the collector would close an end that
// a test drops, and the other end would read EOF.
func tcpPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err = net.Dial("tcp", l.Addr().String())
	must(t, err)
	if server = <-accepted; server == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

// ends are the contexts of a server and of a client that trusts it, for one protocol.
type ends struct{ server, client *sslctx.Context }

func newEnds(t testing.TB, v sslctx.Version) ends {
	t.Helper()
	pair := testPair(t)
	e := ends{newContext(t, sslctx.TLSServerMethod), newContext(t, sslctx.TLSClientMethod)}
	must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.client.TrustCertificates(pair.Cert))
	must(t, e.client.SetVerify(sslctx.VerifyPeer))
	for _, c := range []*sslctx.Context{e.server, e.client} {
		must(t, c.SetMinProtoVersion(v))
		must(t, c.SetMaxProtoVersion(v))
	}
	return e
}

// over makes both ends of a connection; offer may be nil.
func (e ends) over(t testing.TB, serverEnd, clientEnd net.Conn, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	server, err := sslctx.Server(serverEnd, e.server)
	must(t, err)
	client, err = sslctx.Client(clientEnd, e.client)
	must(t, err)
	must(t, client.AcceptAnyName())
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	if offer != nil {
		must(t, client.SetSession(offer))
	}
	return server, client
}

// connect makes a connection over loopback whose handshake is done and whose tickets the client read.
func (e ends) connect(t testing.TB, offer *sslctx.Session) (server, client *sslctx.Conn) {
	t.Helper()
	s, c := tcpPair(t)
	server, client = e.over(t, s, c, offer)
	errs := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte{1})
		errs <- err
	}()
	_, err := client.Read(make([]byte, 1))
	must(t, err)
	must(t, <-errs)
	return server, client
}

func connPair(t testing.TB) (server, client *sslctx.Conn) {
	t.Helper()
	return newEnds(t, sslctx.VersionTLS13).connect(t, nil)
}

func sessionOf(t testing.TB, c *sslctx.Conn) *sslctx.Session {
	t.Helper()
	s, err := c.Session()
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func clientSession(t testing.TB, v sslctx.Version) *sslctx.Session {
	t.Helper()
	server, client := newEnds(t, v).connect(t, nil)
	s := sessionOf(t, client)
	must(t, server.Close())
	must(t, client.Close())
	return s
}

var versions = []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13}

func eachVersion(t *testing.T, run func(t *testing.T, v sslctx.Version)) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) { run(t, v) })
	}
}

// TestEcho sends a megabyte there and back, in pieces of every kind, both directions at once.
func TestEcho(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newEnds(t, v).connect(t, nil)
		if client.Version() != v || server.Cipher() != client.Cipher() || client.Cipher().ID == 0 {
			t.Errorf("%v %v, %v", client.Version(), server.Cipher(), client.Cipher())
		}
		go func() {
			_, _ = io.Copy(server, server)
			_ = server.CloseWrite()
		}()
		data := make([]byte, 1<<20)
		_, _ = rand.Read(data)
		go func() {
			for rest, n := data, 1; len(rest) > 0; n = n*3 + 1 {
				n = min(n%100_000, len(rest))
				if _, err := client.Write(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			if err := client.CloseWrite(); err != nil {
				t.Error(err)
			}
		}()
		got, err := io.ReadAll(client)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
	})
}

// slowConn delivers one byte a Read.
type slowConn struct{ net.Conn }

func (c slowConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:1]) }

func TestOneByteAtATime(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		s, c := tcpPair(t)
		server, client := newEnds(t, v).over(t, slowConn{s}, slowConn{c}, nil)
		data := bytes.Repeat([]byte("0123456789"), 5000)
		go func() {
			_, _ = server.Write(data)
			_ = server.CloseWrite()
		}()
		got, err := io.ReadAll(client)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came, %v", len(got), err)
		}
	})
}

func TestResumption(t *testing.T) {
	for _, noTicket := range []bool{false, true} {
		eachVersion(t, func(t *testing.T, v sslctx.Version) {
			e := newEnds(t, v)
			if noTicket {
				_, err := e.server.SetOptions(sslctx.OpNoTicket)
				must(t, err)
			}
			server, client := e.connect(t, nil)
			if server.SessionReused() || client.SessionReused() {
				t.Error("the first connection is resumed")
			}
			s := sessionOf(t, client)
			must(t, server.Close())
			must(t, client.Close())
			if !s.IsResumable() {
				t.Fatal("closing in good order marked the session")
			}
			for range 3 {
				server, client = e.connect(t, s)
				if !server.SessionReused() || !client.SessionReused() {
					t.Error("the session is not resumed")
				}
				must(t, server.Close())
				must(t, client.Close())
			}
		})
	}
}

// TestSessionByDER resumes from a session that went through DER, as another process has it.
func TestSessionByDER(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		_, client := e.connect(t, nil)
		der, err := sessionOf(t, client).Bytes()
		must(t, err)
		s, err := sslctx.ParseSession(der)
		must(t, err)
		defer s.Close()
		if _, client = e.connect(t, s); !client.SessionReused() {
			t.Error("the parsed session is not resumed")
		}
	})
}

// TestEndings: what the end of a connection does to its session, as libssl has it.
func TestEndings(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(t *testing.T, c *sslctx.Conn)
		dead bool
	}{
		"Close": {end: func(t *testing.T, c *sslctx.Conn) { must(t, c.Close()) }},
		"quiet Close": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.SetQuietShutdown(true))
			must(t, c.Close())
		}},
		"CloseWrite and Abort": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.CloseWrite())
			must(t, c.Abort())
		}},
		"Abort": {end: func(t *testing.T, c *sslctx.Conn) { must(t, c.Abort()) }, dead: true},
		"transport gone": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.NetConn().Close())
			must(t, c.Close())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, client := newEnds(t, sslctx.VersionTLS12).connect(t, nil)
			s := sessionOf(t, client)
			test.end(t, client)
			must(t, client.Close())
			must(t, client.Abort())
			if s.IsResumable() == test.dead {
				t.Errorf("IsResumable is %v", s.IsResumable())
			}
		})
	}
}

// TestForgottenConn: collecting a connection gives its SSL back and does not mark its session.
func TestForgottenConn(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	ssls := ossltest.LiveSSLs()
	var s *sslctx.Session
	func() {
		serverEnd, clientEnd := tcpPair(t)
		defer serverEnd.Close()
		defer clientEnd.Close()
		server, err := sslctx.Server(serverEnd, e.server)
		must(t, err)
		client, err := sslctx.Client(clientEnd, e.client)
		must(t, err)
		must(t, client.AcceptAnyName())
		go func() { _ = server.Handshake() }()
		must(t, client.Handshake())
		s = sessionOf(t, client)
	}()
	if n := ossltest.Settle(ossltest.LiveSSLs, ssls); n > ssls {
		t.Errorf("%d SSLs are alive, %d before", n, ssls)
	}
	if !s.IsResumable() {
		t.Error("collection marked the session")
	}
}

func TestEndOfStream(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		server, client := newEnds(t, v).connect(t, nil)
		must(t, server.CloseWrite())
		for range 2 {
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after close_notify Read returns %v", err)
			}
		}
		if _, err := client.Write([]byte("still")); err != nil {
			t.Errorf("after close_notify of the peer Write returns %v", err)
		}
		if n, err := server.Read(make([]byte, 9)); n != 5 || err != nil {
			t.Errorf("after CloseWrite Read returns %d, %v", n, err)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Error("Write works after CloseWrite")
		}

		server, client = newEnds(t, v).connect(t, nil)
		must(t, server.NetConn().Close())
		for range 2 {
			if _, err := client.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
				t.Errorf("without close_notify Read returns %v", err)
			}
		}
	})
}

// TestDataBeforeTheEnd: what came before a fatal error is delivered before it.
func TestDataBeforeTheEnd(t *testing.T) {
	server, client := newEnds(t, sslctx.VersionTLS13).connect(t, nil)
	_, err := server.Write([]byte("last words"))
	must(t, err)
	_, err = server.NetConn().Write([]byte("\x17\x03\x03\x00\x20not a record of this connection.."))
	must(t, err)
	time.Sleep(10 * time.Millisecond) // so that both arrive as one
	buf := make([]byte, 100)
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "last words" {
		t.Errorf("Read returns %q, %v", buf[:n], err)
	}
	var e *sslctx.Error
	for range 2 {
		if _, err := client.Read(buf); !errors.As(err, &e) {
			t.Errorf("Read of garbage returns %v", err)
		}
	}
}

func TestGarbage(t *testing.T) {
	for name, garbage := range map[string]string{
		"HTTP":   "GET / HTTP/1.0\r\n\r\n",
		"zeros":  strings.Repeat("\x00", 100),
		"record": "\x16\x03\x01\x00\x05hello",
		"SSLv2":  "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + strings.Repeat("x", 37),
		"long":   "\x16\x03\x01\xff\xff" + strings.Repeat("x", 100),
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			e := newEnds(t, sslctx.VersionTLS12)
			s, c := tcpPair(t)
			server, err := sslctx.Server(s, e.server)
			must(t, err)
			defer server.Close()
			_, err = io.WriteString(c, garbage)
			must(t, err)
			defer c.Close()
			must(t, s.SetDeadline(time.Now().Add(10*time.Second)))
			err = server.Handshake()
			var ssl *sslctx.Error
			if !errors.As(err, &ssl) {
				t.Errorf("Handshake returns %v", err)
			}
			if name == "HTTP" && !errors.Is(err, sslctx.ReasonHTTPRequest) {
				t.Errorf("Handshake returns %v, want %v", err, sslctx.ReasonHTTPRequest)
			}
			if again := server.Handshake(); again != err {
				t.Errorf("the second Handshake returns %v", again)
			}
		})
	}
}

func TestUntrustedServer(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	e.client = newContext(t, sslctx.TLSClientMethod)
	must(t, e.client.SetVerify(sslctx.VerifyPeer))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	err := client.Handshake()
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	if err := <-done; err != nil && !strings.Contains(err.Error(), "unknown ca") {
		t.Errorf("the server's Handshake returns %v", err)
	}
	var e2 *sslctx.Error
	if _, err := server.Read(make([]byte, 1)); !errors.As(err, &e2) {
		t.Errorf("the server's Read returns %v", err)
	}
}

// TestServerName: the certificate must be for the host that the client wants.
func TestServerName(t *testing.T) {
	for name, good := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "elsewhere.example": false, "127.0.0.2": false, "::1": false,
	} {
		t.Run(name, func(t *testing.T) {
			noQueue(t)
			s, c := tcpPair(t)
			server, client := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
			must(t, client.SetServerName(name))
			go func() { _ = server.Handshake() }()
			err := client.Handshake()
			if good {
				must(t, err)
				if err := client.SetServerName(name); !errors.Is(err, sslctx.ErrHandshakeStarted) {
					t.Errorf("SetServerName after the handshake returns %v", err)
				}
			} else {
				wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
			}
		})
	}
	_, client := connPair(t)
	wantArgument(t, client.SetServerName(""), "name")
	wantArgument(t, client.SetServerName("a\x00b"), "name")
}

func TestHandshakeContext(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	defer s.Close()
	client, err := sslctx.Client(c, e.client)
	must(t, err)
	must(t, client.AcceptAnyName())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := client.HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("HandshakeContext returns %v", err)
	}
	must(t, client.Close())
}

func TestCloseUnblocks(t *testing.T) {
	_, client := connPair(t)
	errs := make(chan error)
	go func() {
		_, err := client.Read(make([]byte, 1))
		errs <- err
	}()
	time.Sleep(10 * time.Millisecond)
	must(t, client.Close())
	if err := <-errs; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the Read that waited returns %v", err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close returns %v", err)
	}
}

func TestReadDeadline(t *testing.T) {
	server, client := connPair(t)
	must(t, client.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read returns %v", err)
	}
	must(t, client.SetReadDeadline(time.Time{}))
	_, err := server.Write([]byte("x"))
	must(t, err)
	if n, err := client.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("after a timeout Read returns %d, %v", n, err)
	}
}

// TestPostHandshake changes keys and issues tickets in the middle of traffic.
func TestPostHandshake(t *testing.T) {
	noQueue(t)
	server, client := newEnds(t, sslctx.VersionTLS13).connect(t, nil)
	before := sessionOf(t, client)
	for i := range 10 {
		must(t, client.KeyUpdate(i%2 == 0))
		must(t, server.KeyUpdate(i%3 == 0))
		if i == 5 {
			if err := server.NewSessionTicket(); ossltest.LinkedVersion() < 0x30000000 {
				const text = "sslctx: SSL_new_session_ticket: needs OpenSSL 3.0"
				if !errors.Is(err, sslctx.ErrUnsupported) || err.Error() != text {
					t.Errorf("NewSessionTicket returns %v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
		}
		exchange(t, server, client)
	}
	if after := sessionOf(t, client); ossltest.LinkedVersion() >= 0x30000000 && after.Same(before) {
		t.Error("the new ticket made no session")
	}
	must(t, server.Close())
	must(t, client.Close())

	server, client = newEnds(t, sslctx.VersionTLS12).connect(t, nil)
	wantReason(t, client.KeyUpdate(true), sslctx.ReasonWrongSSLVersion)
	exchange(t, server, client) // the refusal broke nothing
	s := sessionOf(t, client)
	must(t, client.Close())
	if !s.IsResumable() {
		t.Error("a refused KeyUpdate marked the session")
	}
}

// TestManyConnections echoes over many connections at once, half of them cut off, and counts what is
// left of them.
func TestManyConnections(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		_, err := e.server.SetCacheSize(10)
		must(t, err)
		ssls := ossltest.LiveSSLs()
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				var last *sslctx.Session
				for i := range 10 {
					serverEnd, clientEnd := tcpPair(t)
					server, client := e.over(t, serverEnd, clientEnd, last)
					go func() { _, _ = io.Copy(server, server) }()
					if _, err := client.Write([]byte("hello")); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
						t.Error(err)
					}
					if s, err := client.Session(); err == nil {
						last = s
					}
					if (i+g)%2 == 0 {
						_ = client.Abort()
					}
					_, _ = client.Close(), server.Close()
				}
			})
		}
		wg.Wait()
		if n := ossltest.Settle(ossltest.LiveSSLs, ssls); n > ssls {
			t.Errorf("%d SSLs are alive, %d before", n, ssls)
		}
	})
}

// exchange sends a few bytes each way.
func exchange(t *testing.T, server, client net.Conn) {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		buf := make([]byte, 4)
		_, err := io.ReadFull(server, buf)
		if err == nil {
			_, err = server.Write(bytes.ToUpper(buf))
		}
		errs <- err
	}()
	_, err := client.Write([]byte("ping"))
	must(t, err)
	buf := make([]byte, 4)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "PING" {
		t.Errorf("the answer is %q, %v", buf, err)
	}
	must(t, <-errs)
}

func TestConnRefusesNil(t *testing.T) {
	_, err := sslctx.Client(nil, newContext(t, sslctx.TLSMethod))
	wantArgument(t, err, "conn")
	s, _ := tcpPair(t)
	defer s.Close()
	if _, err := sslctx.Server(s, nil); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("Server with a nil Context returns %v", err)
	}
}

// TestWrongMethod: a context for clients does not serve.
func TestWrongMethod(t *testing.T) {
	s, c := tcpPair(t)
	defer c.Close()
	server, err := sslctx.Server(s, newContext(t, sslctx.TLSClientMethod))
	must(t, err)
	defer server.Close()
	var e *sslctx.Error
	if err := server.Handshake(); !errors.As(err, &e) {
		t.Errorf("Handshake returns %v", err)
	}
}

// TestContextMayBeClosed: connections hold the SSL_CTX.
func TestContextMayBeClosed(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	_, err := e.server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	server, client := e.connect(t, nil)
	must(t, e.server.Close())
	must(t, e.client.Close())
	exchange(t, server, client)
	s := sessionOf(t, server)
	if !s.IsResumable() {
		t.Error("the session died with the handle of its context")
	}
	must(t, server.Close())
	if s.IsResumable() {
		t.Error("the cache outlived its last connection")
	}
}

func TestConfigureWhileConnecting(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS12)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, c := range []*sslctx.Context{e.server, e.client} {
				must(t, c.SetCipherList([]string{"ECDHE+AESGCM", "DEFAULT"}[i%2]))
				must(t, c.SetIDContext(fmt.Appendf(nil, "%d", i)))
			}
		}
	})
	for range 30 {
		server, client := e.connect(t, nil)
		_, _ = server.Close(), client.Close()
	}
	close(stop)
	wg.Wait()
}

// TestServerNameLost: a name that cannot be set takes the one before with it, which must not mean that any will do.
func TestServerNameLost(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	for _, again := range []bool{false, true} {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		must(t, client.SetServerName("wrong.example"))
		wantArgument(t, client.SetServerName(strings.Repeat("x", 256)), "name") // and nothing is lost
		stop := ossltest.Failing{Nth: 1}.Fail()
		err := client.SetServerName("other.example")
		if stop(); err == nil {
			t.Fatal("a name is set without memory")
		}
		if again {
			must(t, client.SetServerName("localhost"))
			err = nil
		}
		go func() { _ = server.Handshake() }()
		if got := client.Handshake(); got != err {
			t.Errorf("after a name that cannot be set (again is %v) Handshake returns %v", again, got)
		}
	}
}
