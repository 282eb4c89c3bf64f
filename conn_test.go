// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// testContext is a context.Context for calls by reflection.
type testContext struct{ context.Context }

func (testContext) Done() <-chan struct{} { return nil }

func connPair(t testing.TB) (server, client *sslctx.Conn) {
	t.Helper()
	return newEnds(t, sslctx.VersionTLS13).connect(t, nil)
}

func clientSession(t testing.TB, v sslctx.Version) *sslctx.Session {
	t.Helper()
	server, client := newEnds(t, v).connect(t, nil)
	s := sessionOf(t, client)
	must(t, server.Close())
	must(t, client.Close())
	return s
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

// TestSessionByDER resumes a session that was encoded and decoded as DER, as for another process.
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

// TestEndings: each way to end a connection has the same effect on its session as in libssl.
func TestEndings(t *testing.T) {
	for name, test := range map[string]struct {
		end   func(t *testing.T, c *sslctx.Conn)
		reads error // what the peer's Read returns
		dead  bool
	}{
		"Close": {end: func(t *testing.T, c *sslctx.Conn) { must(t, c.Close()) }, reads: io.EOF},
		"quiet Close": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.SetQuietShutdown(true))
			must(t, c.Close())
		}, reads: io.ErrUnexpectedEOF},
		"quiet CloseWrite": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.SetQuietShutdown(true))
			must(t, c.CloseWrite())
		}, reads: io.ErrUnexpectedEOF},
		"quiet no more": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.SetQuietShutdown(true))
			must(t, c.SetQuietShutdown(false))
			must(t, c.Close())
		}, reads: io.EOF},
		"CloseWrite and Abort": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.CloseWrite())
			must(t, c.Abort())
		}, reads: io.EOF},
		"Abort": {end: func(t *testing.T, c *sslctx.Conn) { must(t, c.Abort()) }, reads: io.ErrUnexpectedEOF, dead: true},
		"transport gone": {end: func(t *testing.T, c *sslctx.Conn) {
			must(t, c.NetConn().Close())
			must(t, c.Close())
		}, reads: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := newEnds(t, sslctx.VersionTLS12).connect(t, nil)
			s := sessionOf(t, client)
			test.end(t, client)
			must(t, client.Close())
			must(t, client.Abort())
			if s.IsResumable() == test.dead {
				t.Errorf("IsResumable is %v", s.IsResumable())
			}
			if _, err := server.Read(make([]byte, 1)); err != test.reads {
				t.Errorf("the peer's Read returns %v", err)
			}
		})
	}
}

// TestCollectedConn: a connection that is collected frees its SSL, and does not mark its session.
func TestCollectedConn(t *testing.T) {
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
	if n := ossltest.CollectUntil(ossltest.LiveSSLs, ssls); n > ssls {
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

// TestDataBeforeTheEnd: data that arrived before a fatal error is returned before it.
func TestDataBeforeTheEnd(t *testing.T) {
	server, client := newEnds(t, sslctx.VersionTLS13).connect(t, nil)
	_, err := server.Write([]byte("last words"))
	must(t, err)
	_, err = server.NetConn().Write([]byte("\x17\x03\x03\x00\x20not a record of this connection.."))
	must(t, err)
	time.Sleep(10 * time.Millisecond) // so that both arrive together
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

// TestServerName: the certificate must be for the client's server name.
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
	exchange(t, server, client) // the refusal did no harm
	s := sessionOf(t, client)
	must(t, client.Close())
	if !s.IsResumable() {
		t.Error("a refused KeyUpdate marked the session")
	}
}

// TestManyConnections echoes over many connections at once, and cuts off half of them. It then
// counts the remaining objects.
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
		if n := ossltest.CollectUntil(ossltest.LiveSSLs, ssls); n > ssls {
			t.Errorf("%d SSLs are alive, %d before", n, ssls)
		}
	})
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

// TestWrongMethod: a context for one end makes no connection of the other end.
func TestWrongMethod(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	forServers, forClients := newContext(t, sslctx.TLSServerMethod), newContext(t, sslctx.TLSClientMethod)
	pair, err := testcert.New()
	must(t, err)
	must(t, forClients.UseKeyPair(pair.Cert, pair.Key))
	s, c := tcpPair(t)
	_, err = sslctx.Server(s, forClients)
	wantArgument(t, err, "c")
	_, err = sslctx.Client(c, forServers)
	wantArgument(t, err, "c")
	_, err = sslctx.Listen("tcp", "127.0.0.1:0", forClients)
	wantArgument(t, err, "c")
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	defer l.Close()
	_, err = sslctx.Dial("tcp", l.Addr().String(), forServers)
	wantArgument(t, err, "c")
}

// TestContextMayBeClosed: connections keep the SSL_CTX alive.
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
	stop := tlstest.Repeat(t, func(i int) {
		for _, c := range []*sslctx.Context{e.server, e.client} {
			must(t, c.SetCipherList([]string{"ECDHE+AESGCM", "DEFAULT"}[i%2]))
			must(t, c.SetIDContext(fmt.Appendf(nil, "%d", i)))
		}
	})
	for range 30 {
		server, client := e.connect(t, nil)
		_, _ = server.Close(), client.Close()
	}
	stop()
}

// TestServerNameLost: if a name cannot be set, the old name is lost, too. After that the client
// must not accept any name.
func TestServerNameLost(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	for _, again := range []bool{false, true} {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		must(t, client.SetServerName("wrong.example"))
		wantArgument(t, client.SetServerName(strings.Repeat("x", 256)), "name") // the old name stays
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

// TestConnOptions: a connection has its own options.
func TestConnOptions(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetMinProtoVersion(sslctx.VersionTLS12))
	must(t, e.client.SetMinProtoVersion(sslctx.VersionTLS12))
	before := e.client.Options()
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	if got, err := client.Options(); got != before || err != nil {
		t.Errorf("a new connection has the options %v, %v, want those of its context, %v", got, err, before)
	}
	const added = sslctx.OpNoTLSv13 | sslctx.OpNoTicket
	if now, err := client.SetOptions(added); now != before|added || err != nil {
		t.Errorf("SetOptions returns %v, %v, want %v", now, err, before|added)
	}
	if now, err := client.ClearOptions(sslctx.OpNoTicket); now != before|sslctx.OpNoTLSv13 || err != nil {
		t.Errorf("ClearOptions returns %v, %v, want %v", now, err, before|sslctx.OpNoTLSv13)
	}
	if e.client.Options() != before {
		t.Errorf("the context's options became %v", e.client.Options())
	}
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	must(t, client.Handshake())
	must(t, <-done)
	if client.Version() != sslctx.VersionTLS12 {
		t.Errorf("the version is %v without TLS 1.3", client.Version())
	}
	must(t, client.Close())
	_, set := client.SetOptions(0)
	_, cleared := client.ClearOptions(0)
	_, got := client.Options()
	for _, err := range []error{set, cleared, got} {
		if !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// TestIgnoreUnexpectedEOF: with this option a transport that ends without close_notify is the end
// of the data. Without the option OpenSSL 3.0 and later marks the session.
func TestIgnoreUnexpectedEOF(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, o := range []sslctx.Option{0, sslctx.OpIgnoreUnexpectedEOF} {
			server, client := newEnds(t, v).connect(t, nil)
			exchange(t, server, client) // the tickets have come
			session := sessionOf(t, client)
			_, err := client.SetOptions(o)
			must(t, err)
			must(t, server.NetConn().Close())
			want := io.EOF
			if o == 0 { // also before OpenSSL 3.0
				want = io.ErrUnexpectedEOF
			}
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, want) {
				t.Errorf("with the options %v Read returns %v, want %v", o, err, want)
			}
			if keeps := o != 0 || ossltest.LinkedVersion() < 0x30000000; session.IsResumable() != keeps {
				t.Errorf("with the options %v the session is resumable: %v", o, !keeps)
			}
		}
	})
}

func TestOptionNames(t *testing.T) {
	for o, want := range map[sslctx.Option]string{
		sslctx.OpNoTLSv1 | sslctx.OpNoTLSv13:                    "NO_TLSv1|NO_TLSv1_3",
		sslctx.OpNoCompression | sslctx.OpEnableMiddleboxCompat: "NO_COMPRESSION|ENABLE_MIDDLEBOX_COMPAT",
		sslctx.OpNoEncryptThenMac:                               "NO_ENCRYPT_THEN_MAC",
		sslctx.OpPrioritizeChaCha:                               "PRIORITIZE_CHACHA",
	} {
		if o.String() != want {
			t.Errorf("%#x is %v, want %s", uint64(o), o, want)
		}
	}
	if o := sslctx.OpIgnoreUnexpectedEOF; o != 0 && o.String() != "IGNORE_UNEXPECTED_EOF" {
		t.Errorf("OpIgnoreUnexpectedEOF is %v", o)
	}
	if got := sslctx.ModeNoAutoChain.String(); got != "NO_AUTO_CHAIN" {
		t.Errorf("ModeNoAutoChain is %s", got)
	}
}

// againstTheirs connects one of our ends with a peer of crypto/tls, in both roles.
func againstTheirs(t *testing.T, e ends, config *tls.Config, run func(t *testing.T, ours *sslctx.Conn, theirs *tls.Conn)) {
	t.Helper()
	cert, err := tls.X509KeyPair(testPairs(t))
	must(t, err)
	for _, server := range []bool{false, true} {
		a, b := tcpPair(t)
		config := config.Clone()
		config.InsecureSkipVerify = true
		config.Certificates = []tls.Certificate{cert}
		var ours *sslctx.Conn
		var theirs *tls.Conn
		if server {
			ours, err = sslctx.Server(a, e.server)
			theirs = tls.Client(b, config)
		} else {
			ours, err = sslctx.Client(b, e.client)
			theirs = tls.Server(a, config)
		}
		must(t, err)
		done := make(chan error, 1)
		go func() { done <- theirs.Handshake() }()
		must(t, ours.Handshake())
		must(t, <-done)
		run(t, ours, theirs)
		_, _ = ours.Close(), theirs.Close()
	}
}

func testPairs(t *testing.T) (cert, key []byte) {
	p := testPair(t)
	return p.Cert, p.Key
}

// TestExportKeyingMaterial: both ends have the same keying material as crypto/tls, for every label
// and context.
func TestExportKeyingMaterial(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		noQueue(t)
		e := newEnds(t, v)
		must(t, e.client.SetVerify(sslctx.VerifyNone))
		config := &tls.Config{MinVersion: uint16(v), MaxVersion: uint16(v)}
		againstTheirs(t, e, config, func(t *testing.T, ours *sslctx.Conn, theirs *tls.Conn) {
			seen := map[string]bool{}
			state := theirs.ConnectionState()
			for _, label := range []string{"EXPORTER-one", "EXPORTER-two", "EXPORTER-\x00"} {
				for _, context := range [][]byte{nil, {}, []byte("context"), bytes.Repeat([]byte{7}, 500)} {
					for _, n := range []int{1, 32, 1000} {
						want, err := state.ExportKeyingMaterial(label, context, n)
						must(t, err)
						got, err := ours.ExportKeyingMaterial(label, context, n)
						if err != nil || !bytes.Equal(got, want) {
							t.Errorf("%q, %d bytes of context, length %d: %x, %v", label, len(context), n, got, err)
						}
						seen[string(got)] = true
					}
				}
			}
			// In TLS 1.3 an empty context equals no context; single bytes may be equal by chance.
			if len(seen) < 3*3*2 {
				t.Errorf("%d different values", len(seen))
			}
			wantArgument(t, second(ours.ExportKeyingMaterial("x", nil, 0)), "length")
			wantArgument(t, second(ours.ExportKeyingMaterial("x", make([]byte, 65536), 1)), "context")
			if v == sslctx.VersionTLS12 {
				var ssl *sslctx.Error
				if err := second(ours.ExportKeyingMaterial("master secret", nil, 32)); !errors.As(err, &ssl) {
					t.Errorf("a label of TLS itself gives %v", err)
				}
			}
		})
		s, c := tcpPair(t)
		_, client := e.over(t, s, c, nil)
		wantArgument(t, second(client.ExportKeyingMaterial("x", nil, 1)), "receiver")
	})
}

func second[T any](_ T, err error) error { return err }

// TestExportNeedsExtendedMasterSecret: without it another connection may have the same material.
func TestExportNeedsExtendedMasterSecret(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS12)
	if err := e.client.Configure("Options", "-ExtendedMasterSecret"); err != nil {
		t.Skip("this libssl insists on it:", err)
	}
	server, client := e.connect(t, nil)
	for _, c := range []*sslctx.Conn{server, client} {
		if m, err := c.ExportKeyingMaterial("EXPORTER-one", nil, 32); m != nil || !errors.Is(err, sslctx.ErrNoKeyingMaterial) {
			t.Errorf("it gives %d bytes, %v", len(m), err)
		}
	}
}

// TestStateExportsNothing: ExportKeyingMaterial of a ConnectionState always returns an error and
// never panics. A state before the handshake is empty.
func TestStateExportsNothing(t *testing.T) {
	_, client := connPair(t)
	s, c := tcpPair(t)
	_, before := newEnds(t, sslctx.VersionTLS13).over(t, s, c, nil)
	states := []tls.ConnectionState{before.ConnectionState(), client.ConnectionState()}
	must(t, client.Close())
	for _, state := range append(states, client.ConnectionState()) {
		if m, err := state.ExportKeyingMaterial("EXPORTER-one", nil, 32); m != nil || err == nil {
			t.Errorf("it gives %d bytes, %v", len(m), err)
		}
	}
	v := reflect.ValueOf(states[0])
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
			t.Errorf("before the handshake %s is %v", f.Name, v.Field(i))
		}
	}
}

// TestCurveID: the group of the key exchange is the same as in crypto/tls.
func TestCurveID(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		groups := map[string]tls.CurveID{"P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521, "X25519": tls.X25519}
		if v == sslctx.VersionTLS13 && ossltest.LinkedVersion() >= 0x30500000 {
			groups["X25519MLKEM768"] = tls.X25519MLKEM768
		}
		for name, want := range groups {
			e := newEnds(t, v)
			must(t, e.client.SetVerify(sslctx.VerifyNone))
			list := name
			if name != "P-256" { // the group of their certificate
				list += ":P-256"
			}
			rsa, err := testcert.NewRSA()
			must(t, err)
			must(t, e.server.UseKeyPair(rsa.Cert, rsa.Key))
			must(t, e.client.SetGroups(list))
			must(t, e.server.SetGroups(list))
			config := &tls.Config{MinVersion: uint16(v), MaxVersion: uint16(v), CurvePreferences: []tls.CurveID{want}}
			server := false // againstTheirs begins with a client
			againstTheirs(t, e, config, func(t *testing.T, ours *sslctx.Conn, _ *tls.Conn) {
				got := ours.ConnectionState().CurveID
				if !isGroup(got, want, v, server) {
					t.Errorf("%s, a server is %v: CurveID is %v", name, server, got)
				}
				server = true
			})
		}
	})
}

// isGroup also takes 0 for the group where it stays unknown: in a TLS 1.2 server of 1.1.1.
func isGroup(got, want tls.CurveID, v sslctx.Version, server bool) bool {
	unknown := server && v == sslctx.VersionTLS12 && ossltest.LinkedVersion() < 0x30000000
	return got == want || unknown && got == 0
}

// TestAlertsHaveNames: errors.As finds the alert that ended a connection, in both directions.
func TestAlertsHaveNames(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	must(t, e.server.SetALPNProtos("h2"))
	must(t, e.client.SetALPNProtos("x"))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	_, err := greet(server, client)
	var alert tls.AlertError
	if !errors.As(err, &alert) || alert != 120 || !errors.Is(err, sslctx.AlertReason(120)) {
		t.Errorf("%v has alert %v", err, alert)
	}
	if !strings.Contains(alert.Error(), "no application protocol") {
		t.Errorf("%q", alert.Error())
	}
	// An error that is no alert has no AlertError.
	far, near := net.Pipe()
	ours, err := sslctx.Client(near, e.client)
	must(t, err)
	go func() {
		_, _ = far.Read(make([]byte, 1<<14)) // the whole hello, which has 1,468 bytes with 4.0
		_, _ = io.WriteString(far, "HTTP/1.1 400 Bad Request\r\n")
	}()
	if err := ours.Handshake(); err == nil || errors.As(err, &alert) {
		t.Errorf("%v has alert %v", err, alert)
	}
	_, _ = ours.Close(), far.Close()
}
