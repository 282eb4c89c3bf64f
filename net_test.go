// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"sslctx"
	"sslctx/internal/ossltest"
)

// serve echoes on the connections of one of our listeners, until the test ends.
func serve(t *testing.T, server *sslctx.Context) (addr string) {
	t.Helper()
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", server)
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestDialAndListen(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		addr := serve(t, e.server)
		c, err := sslctx.Dial("tcp", addr, e.client)
		must(t, err)
		echoOnce(t, c)
		s := sessionOf(t, c)
		must(t, c.Close())

		d := sslctx.Dialer{Context: e.client, ServerName: "localhost", Session: s}
		again, err := d.Dial("tcp", addr)
		must(t, err)
		defer again.Close()
		echoOnce(t, again)
		if !again.(*sslctx.Conn).SessionReused() {
			t.Error("the Dialer's session is not resumed")
		}
	})
}

func TestDialFails(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	addr := serve(t, e.server)
	d := sslctx.Dialer{Context: e.client, ServerName: "elsewhere.example"}
	c, err := d.Dial("tcp", addr)
	wantReason(t, err, sslctx.ReasonCertificateVerifyFailed)
	if c != nil {
		t.Errorf("a failed Dial returns %v", c)
	}
	if _, err := d.Dial("tcp", "no port"); err == nil {
		t.Error("an address without port is dialled")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialContext(ctx, "tcp", addr); !errors.Is(err, context.Canceled) {
		t.Errorf("DialContext of a context that is done returns %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	ctx, cancel = context.WithCancel(t.Context())
	dialled := make(chan error, 1)
	go func() {
		_, err := d.DialContext(ctx, "tcp", l.Addr().String())
		dialled <- err
	}()
	silent, err := l.Accept()
	must(t, err)
	defer silent.Close()
	_, err = silent.Read(make([]byte, 1)) // the handshake has begun
	must(t, err)
	cancel()
	if err := <-dialled; !errors.Is(err, context.Canceled) {
		t.Errorf("DialContext of a context that ends in the handshake returns %v", err)
	}
	must(t, silent.SetReadDeadline(time.Now().Add(5*time.Second)))
	if _, err := io.Copy(io.Discard, silent); isTimeout(err) {
		t.Error("the connection is left open")
	}
	if _, err := new(sslctx.Dialer).Dial("tcp", addr); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("Dial without Context returns %v", err)
	}
}

func TestConnectionState(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		e := newEnds(t, v)
		must(t, e.server.SetALPNProtos("h2", "http/1.1"))
		must(t, e.client.SetALPNProtos("http/1.1", "h2"))
		pair := testPair(t) // a client certificate
		must(t, e.client.UseKeyPair(pair.Cert, pair.Key))
		must(t, e.server.TrustCertificates(pair.Cert))
		must(t, e.server.SetVerify(sslctx.VerifyPeer|sslctx.VerifyFailIfNoPeerCert))
		must(t, e.server.SetIDContext([]byte("test")))

		var offer *sslctx.Session
		for i := range 2 {
			s, c := tcpPair(t)
			server, client := e.over(t, s, c, offer)
			must(t, client.SetServerName("localhost"))
			if state := client.ConnectionState(); state.HandshakeComplete {
				t.Error("complete before the handshake")
			}
			exchange(t, server, client)
			for name, end := range map[string]*sslctx.Conn{"server": server, "client": client} {
				state := end.ConnectionState()
				if name == "server" && i > 0 && v == sslctx.VersionTLS12 {
					state.ServerName = "localhost" // libssl keeps none in such a session
				}
				if state.Version != uint16(v) || !state.HandshakeComplete || state.DidResume != (i > 0) ||
					state.NegotiatedProtocol != "h2" || state.ServerName != "localhost" || state.CipherSuite == 0 {
					t.Errorf("%s, connection %d: %+v", name, i, state)
				}
				if len(state.PeerCertificates) != 1 || i == 0 && len(state.VerifiedChains) != 1 {
					t.Errorf("%s, connection %d: %d certificates, %d chains", name, i,
						len(state.PeerCertificates), len(state.VerifiedChains))
				}
			}
			certs := server.ConnectionState().PeerCertificates
			want, err := tls.X509KeyPair(pair.Cert, pair.Key)
			must(t, err)
			if len(certs) == 1 && !bytes.Equal(certs[0].Raw, want.Certificate[0]) {
				t.Error("the server has another certificate than the client's")
			}
			offer = sessionOf(t, client)
			_, _ = server.Close(), client.Close()
			if state := client.ConnectionState(); state.Version != uint16(v) || len(state.PeerCertificates) != 1 {
				t.Errorf("after Close: %+v", state)
			}
		}
	})
}

func TestALPN(t *testing.T) {
	noQueue(t)
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.server.SetALPNProtos("h2"))
	must(t, e.server.SetALPNProtos("h2", "h3")) // the earlier list is freed
	for want, offered := range map[string][]string{"": nil, "h3": {"x", "h3"}, "h2": {"h3", "h2"}} {
		must(t, e.client.SetALPNProtos(offered...))
		_, client := e.connect(t, nil)
		if got := client.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("offering %q agrees on %q", offered, got)
		}
	}
	must(t, e.client.SetALPNProtos("x"))
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	go func() { _ = server.Handshake() }()
	var ssl *sslctx.Error
	if err := client.Handshake(); !errors.As(err, &ssl) {
		t.Errorf("nothing in common gives %v", err)
	}
	must(t, e.server.SetALPNProtos())
	if _, client := e.connect(t, nil); client.ConnectionState().NegotiatedProtocol != "" {
		t.Error("a server without a list chooses")
	}
	wantArgument(t, e.server.SetALPNProtos("h2", ""), "protos")
	wantArgument(t, e.server.SetALPNProtos(strings.Repeat("x", 256)), "protos")
}

// TestHTTP runs net/http's server and client over our connections.
func TestHTTP(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	})}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	transport := &http.Transport{DialTLSContext: (&sslctx.Dialer{Context: e.client}).DialContext}
	client := &http.Client{Transport: transport}
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	for range 3 {
		resp, err := client.Post("https://"+l.Addr().String(), "text/plain", bytes.NewReader(body))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
	}
	transport.CloseIdleConnections()
	must(t, server.Shutdown(t.Context()))
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returns %v", err)
	}
	if n := e.client.CacheStats().ConnectGood; n != 1 {
		t.Errorf("%d connections for three requests", n)
	}
}

// TestClientContext makes the handshake over existing connections. It closes a connection that it
// does not accept.
func TestClientContext(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	addr := serve(t, e.server)
	untrusting := newContext(t, sslctx.TLSClientMethod)
	for name, c := range map[string]struct {
		d    sslctx.Dialer
		addr string
		fine bool
	}{
		"the host":          {sslctx.Dialer{Context: e.client}, "localhost:443", true},
		"another host":      {sslctx.Dialer{Context: e.client}, "elsewhere.example:443", false},
		"told to":           {sslctx.Dialer{Context: e.client, ServerName: "localhost"}, "elsewhere.example:443", true},
		"told to, no port":  {sslctx.Dialer{Context: e.client, ServerName: "localhost"}, "", true},
		"no port":           {sslctx.Dialer{Context: e.client}, "localhost", false},
		"nobody is trusted": {sslctx.Dialer{Context: untrusting}, "localhost:443", false},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", addr)
			must(t, err)
			defer raw.Close()
			conn, err := c.d.ClientContext(t.Context(), raw, c.addr)
			if c.fine {
				must(t, err)
				echoOnce(t, conn)
				must(t, conn.Close())
			} else if err == nil || conn != nil {
				t.Errorf("ClientContext returns %v, %v", conn, err)
			}
			if _, err := raw.Write([]byte("x")); err == nil {
				t.Error("the connection is left open")
			}
		})
	}
}

// TestClientContextIsBounded: NetDialer's Timeout holds for the handshake over an existing
// connection.
func TestClientContextIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	d := sslctx.Dialer{Context: newContext(t, sslctx.TLSClientMethod), NetDialer: &net.Dialer{Timeout: 100 * time.Millisecond}}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = d.ClientContext(ctx, c, "localhost:1")
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ClientContext returns %v, its context is %v", err, ctx.Err())
	}
}

// TestPanicOfCallersContext: a method of the caller's context panics while ClientContext waits for a
// call that configures. Nothing is left of it: it closes the transport, and leaves the Context.
func TestPanicOfCallersContext(t *testing.T) {
	before := ossltest.LiveContexts()
	c, err := sslctx.NewContext(sslctx.TLSClientMethod)
	must(t, err)
	end := sslctx.Configuring(c)
	ours, peer := net.Pipe()
	must(t, peer.SetReadDeadline(time.Now().Add(10*time.Second)))
	ctx := askingContext{t.Context(), func() { panic(errTunnel) }}
	d := sslctx.Dialer{Context: c, InsecureSkipVerify: true}
	if v := recovers(func() { _, _ = d.ClientContext(ctx, ours, "") }); v != errTunnel {
		t.Errorf("the panic is %v", v)
	}
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the peer reads %v: the transport is left open", err)
	}
	end()
	must(t, c.Close())
	if n := ossltest.CollectUntil(ossltest.LiveContexts, before); n > before {
		t.Errorf("%d SSL_CTX are alive after Close, %d before", n, before)
	}
}

// TestClientContextWithoutConn: no connection is an ArgumentError, whatever else is wrong.
func TestClientContextWithoutConn(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	for _, d := range []sslctx.Dialer{{Context: e.client}, {}} {
		conn, err := d.ClientContext(t.Context(), nil, "localhost:1")
		wantArgument(t, err, "conn")
		if conn != nil {
			t.Errorf("ClientContext returns %v", conn)
		}
	}
	_, err := sslctx.NewListener(acceptsNil{}, e.server).Accept()
	wantArgument(t, err, "conn")
}

// acceptsNil is a listener whose Accept returns no connection and no error.
type acceptsNil struct{ net.Listener }

func (acceptsNil) Accept() (net.Conn, error) { return nil, nil }

// TestDialerWithClosedContext: a Dialer without a Context, or with a closed one, does not connect,
// and closes a connection that it gets.
func TestDialerWithClosedContext(t *testing.T) {
	closed := newContext(t, sslctx.TLSClientMethod)
	must(t, closed.Close())
	for _, ctx := range []*sslctx.Context{nil, closed} {
		d := sslctx.Dialer{Context: ctx, NetDialer: &net.Dialer{Control: func(string, string, syscall.RawConn) error {
			t.Error("it connects")
			return nil
		}}}
		if _, err := d.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("Dial returns %v", err)
		}
		_, c := tcpPair(t)
		if _, err := d.ClientContext(t.Context(), c, "localhost:1"); !errors.Is(err, sslctx.ErrClosed) {
			t.Errorf("ClientContext returns %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection is left open: Write returns %v", err)
		}
	}
}

// TestNetConn runs the Go project's tests for any net.Conn, with the server's end first and with
// the client's end first.
func TestNetConn(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, clientFirst := range []bool{false, true} {
			name := map[bool]string{false: "server", true: "client"}[clientFirst]
			t.Run(name, func(t *testing.T) {
				e := newEnds(t, v)
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					server, client := e.connect(t, nil)
					stop = func() { _, _ = server.Close(), client.Close() }
					if clientFirst {
						return client, server, stop, nil
					}
					return server, client, stop, nil
				})
			})
		}
	})
}

// TestDialerChecksFirst: a Dialer reports missing settings before it connects. With
// InsecureSkipVerify the address needs no host.
func TestDialerChecksFirst(t *testing.T) {
	_, err := (&sslctx.Dialer{}).Dial("tcp", "127.0.0.1:1")
	if !errors.Is(err, sslctx.ErrClosed) || !strings.Contains(err.Error(), "Context") {
		t.Errorf("without Context it is %v", err)
	}
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	server, err := sslctx.Server(s, e.server)
	must(t, err)
	defer server.Close()
	go func() { _ = server.Handshake() }()
	client, err := (&sslctx.Dialer{Context: e.client, InsecureSkipVerify: true}).ClientContext(t.Context(), c, "/a/path")
	must(t, err)
	must(t, client.Close())
}

// TestAddrs: the addresses are the transport's.
func TestAddrs(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	s, c := tcpPair(t)
	server, client := e.over(t, s, c, nil)
	for _, end := range []*sslctx.Conn{server, client} {
		raw := end.NetConn()
		if end.LocalAddr().String() != raw.LocalAddr().String() || end.RemoteAddr().String() != raw.RemoteAddr().String() {
			t.Errorf("%v to %v, the transport %v to %v", end.LocalAddr(), end.RemoteAddr(), raw.LocalAddr(), raw.RemoteAddr())
		}
	}
	if server.LocalAddr().String() != client.RemoteAddr().String() || server.LocalAddr().String() == server.RemoteAddr().String() {
		t.Errorf("the server is at %v, for the client at %v", server.LocalAddr(), client.RemoteAddr())
	}
}

// TestNetDialer: the caller's net.Dialer connects, and the earlier of its two limits ends the
// handshake.
func TestNetDialer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody answers
	must(t, err)
	defer l.Close()
	const soon = 50 * time.Millisecond
	for name, d := range map[string]*net.Dialer{
		"Timeout":          {Timeout: soon},
		"Deadline":         {Deadline: time.Now().Add(soon)},
		"Timeout first":    {Timeout: soon, Deadline: time.Now().Add(time.Hour)},
		"Deadline first":   {Timeout: time.Hour, Deadline: time.Now().Add(soon)},
		"Deadline is over": {Timeout: time.Hour, Deadline: time.Unix(1, 0)},
	} {
		connects := false
		d.ControlContext = func(context.Context, string, string, syscall.RawConn) error { connects = true; return nil }
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		dialer := sslctx.Dialer{Context: newContext(t, sslctx.TLSClientMethod), NetDialer: d}
		_, err = dialer.DialContext(ctx, "tcp", l.Addr().String())
		if ctx.Err() != nil || !isTimeout(err) {
			t.Errorf("%s: DialContext returns %v, its context is %v", name, err, ctx.Err())
		}
		cancel()
		if !connects && strings.HasPrefix(name, "Timeout") {
			t.Errorf("%s: another dialer connects", name)
		}
	}
}

// TestDialerLeaksNothing: a transport for which no connection can be made is closed. Here the
// context is being configured until the caller's patience ends.
func TestDialerLeaksNothing(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	end := startConfiguring(t, e.client)
	defer end()
	_, c := tcpPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := (&sslctx.Dialer{Context: e.client}).ClientContext(ctx, c, "localhost:1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ClientContext returns %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is left open: Write returns %v", err)
	}
}

// acceptsLate is a listener that accepts one connection, and calls before when it has.
type acceptsLate struct {
	net.Listener
	conn   net.Conn
	before func()
}

func (l acceptsLate) Accept() (net.Conn, error) { l.before(); return l.conn, nil }

// TestListenerLeaksNothing: a connection that comes when the context is closed is closed.
func TestListenerLeaksNothing(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	s, _ := tcpPair(t)
	l := sslctx.NewListener(acceptsLate{nil, s, func() { must(t, e.server.Close()) }}, e.server)
	if _, err := l.Accept(); !errors.Is(err, sslctx.ErrClosed) {
		t.Errorf("Accept returns %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is left open: Write returns %v", err)
	}
}

// TestListenerClosed: Close ends an Accept that waits for a context which is being configured.
func TestListenerClosed(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l := sslctx.NewListener(inner, e.server)
	end := startConfiguring(t, e.server)
	defer end()
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	must(t, l.Close())
	select {
	case err := <-accepted:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returns %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Accept goes on waiting")
	}
}

// TestListenNeedsCertificate: a context without a certificate neither listens nor accepts.
func TestListenNeedsCertificate(t *testing.T) {
	c := newContext(t, sslctx.TLSServerMethod)
	_, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
	wantArgument(t, err, "c")
	_, err = sslctx.NewListener(acceptsNil{}, c).Accept()
	wantArgument(t, err, "c")
}

// TestTransportWithoutBuffer: over a net.Pipe a client writes first. It does not wait for ever if
// one of its goroutines reads, or if the server sends no ticket.
func TestTransportWithoutBuffer(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, reads := range []bool{true, false} {
			e := newEnds(t, v)
			if !reads {
				must(t, e.server.SetNumTickets(0))
			}
			s, c := net.Pipe()
			server, client := e.over(t, s, c, nil)
			must(t, errors.Join(server.SetDeadline(time.Now().Add(awaitLimit)), client.SetDeadline(time.Now().Add(awaitLimit))))
			echoed := make(chan error, 1)
			go func() {
				b := make([]byte, 1)
				_, err := server.Read(b)
				if err == nil {
					_, err = server.Write(b)
				}
				echoed <- err
			}()
			must(t, client.Handshake())
			read := make(chan error, 1)
			b := make([]byte, 1)
			if reads {
				go func() { _, err := client.Read(b); read <- err }()
			}
			_, err := client.Write([]byte("x"))
			must(t, err)
			if !reads {
				_, err := client.Read(b)
				read <- err
			}
			must(t, errors.Join(<-read, <-echoed))
			if b[0] != 'x' {
				t.Errorf("reads %v: the client gets %q", reads, b)
			}
			must(t, errors.Join(client.Abort(), server.Abort())) // Close waits for the other end
		}
	})
}
