// SPDX-License-Identifier: Apache-2.0

package fromtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// A recorder has the calls of both functions.
type recorder struct {
	mu     sync.Mutex
	calls  []string
	refuse string // the function that returns an error
}

func (r *recorder) note(fn, text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fn+" "+text)
	if fn == r.refuse {
		return errOfHook
	}
	return nil
}

func (r *recorder) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, "; ")
}

// record sets both functions in a config.
func (r *recorder) record(config *tls.Config) {
	config.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
		var names []string
		for _, der := range raw {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return err
			}
			names = append(names, cert.Subject.CommonName)
		}
		return r.note("VerifyPeerCertificate", fmt.Sprint(names, " ", chainNames(chains)))
	}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		var names []string
		for _, cert := range s.PeerCertificates {
			names = append(names, cert.Subject.CommonName)
		}
		return r.note("VerifyConnection", fmt.Sprint(names, " ", chainNames(s.VerifiedChains), tls.VersionName(s.Version), " resumed ", s.DidResume,
			" name ", s.ServerName, " protocol ", s.NegotiatedProtocol, " complete ", s.HandshakeComplete))
	}
}

func chainNames(chains [][]*x509.Certificate) (names []string) {
	for _, chain := range chains {
		for _, cert := range chain {
			names = append(names, cert.Subject.CommonName)
		}
		names = append(names, ".")
	}
	return names
}

// TestChecksLikeGo: the functions run when crypto/tls runs them, with what it gives them, in full and
// in resumed handshakes.
func TestChecksLikeGo(t *testing.T) {
	p := newPKI(t, "authority")
	ofServer, ofClient := p.cert(t, "server"), p.cert(t, "client")
	for name, change := range map[string]func(server, client *tls.Config){
		"plain": func(_, _ *tls.Config) {},
		"skip":  func(_, c *tls.Config) { c.InsecureSkipVerify = true },
		"client certificate": func(s, c *tls.Config) {
			s.ClientAuth, s.ClientCAs = tls.RequireAndVerifyClientCert, p.pool()
			c.Certificates = []tls.Certificate{ofClient}
		},
		"certificate not given": func(s, c *tls.Config) { s.ClientAuth, s.ClientCAs = tls.VerifyClientCertIfGiven, p.pool() },
	} {
		t.Run(name, func(t *testing.T) {
			want := map[uint16]string{}
			eachPair(t, func(t *testing.T, server, client library, version uint16) {
				serverConfig := &tls.Config{Certificates: []tls.Certificate{ofServer}, MaxVersion: version, NextProtos: []string{"a"}}
				clientConfig := &tls.Config{RootCAs: p.pool(), ServerName: "localhost", NextProtos: []string{"a"},
					ClientSessionCache: tls.NewLRUClientSessionCache(3)}
				change(serverConfig, clientConfig)
				var atServer, atClient recorder
				atServer.record(serverConfig)
				atClient.record(clientConfig)
				if did := resumptions(t, server, client, serverConfig, clientConfig); !did[1] || !did[2] {
					t.Errorf("resumed: %v", did)
				}
				got := "server: " + atServer.said() + "\nclient: " + atClient.said()
				if want[version] == "" {
					want[version] = got
				}
				if got != want[version] {
					t.Errorf("crypto/tls calls\n%s\nlibssl calls\n%s", want[version], got)
				}
			})
		})
	}
}

// TestChecksThatRefuse: the end whose function returns an error fails with that error, and the peer
// gets no data.
func TestChecksThatRefuse(t *testing.T) {
	p := newPKI(t, "authority")
	ofClient := p.cert(t, "client")
	for _, fn := range []string{"VerifyPeerCertificate", "VerifyConnection"} {
		for _, at := range []string{"server", "client"} {
			t.Run(fn+" at the "+at, func(t *testing.T) {
				eachPair(t, func(t *testing.T, server, client library, version uint16) {
					serverConfig, clientConfig := base(t, p, version)
					serverConfig.ClientAuth, serverConfig.ClientCAs = tls.RequireAndVerifyClientCert, p.pool()
					clientConfig.Certificates = []tls.Certificate{ofClient}
					r := recorder{refuse: fn}
					if at == "server" {
						r.record(serverConfig)
					} else {
						r.record(clientConfig)
					}
					s, c := meet(t, server, client, serverConfig, clientConfig)
					own := c.err
					if at == "server" {
						own = s.err
					}
					if !errors.Is(own, errOfHook) || s.err == nil || c.err == nil {
						t.Errorf("the ends have %v, %v", s.err, c.err)
					}
				})
			})
		}
	}
}

// TestRefusedInEveryCall: Handshake, Read and Write return the error, and nothing is sent any more.
func TestRefusedInEveryCall(t *testing.T) {
	p := newPKI(t, "authority")
	eachVersion(t, func(t *testing.T, version uint16) {
		serverConfig, clientConfig := base(t, p, version)
		serverConfig.VerifyConnection = func(tls.ConnectionState) error { return errOfHook }
		c, err := sslctx.NewContextFromTLS(serverConfig)
		must(t, err)
		defer c.Close()
		a, b := tlstest.TCPPair(t)
		counted := &countedConn{Conn: a}
		server, err := sslctx.Server(counted, c)
		must(t, err)
		client := tls.Client(b, clientConfig)
		done := make(chan error, 1)
		go func() {
			err := client.Handshake()
			if err == nil && version == tls.VersionTLS12 {
				t.Error("the client has the server's Finished")
			}
			if err == nil { // TLS 1.3: it is complete for the client
				_, err = client.Read(make([]byte, 1))
			}
			done <- err
		}()
		err = server.Handshake()
		sent := counted.sent()
		for call, got := range map[string]error{"Handshake": err, "Handshake again": server.Handshake(),
			"Read": second(server.Read(make([]byte, 1))), "Write": second(server.Write([]byte("x"))),
			"Session":              second(server.Session()),
			"ExportKeyingMaterial": second(server.ExportKeyingMaterial("label", nil, 8))} {
			if !errors.Is(got, errOfHook) {
				t.Errorf("%s returns %v", call, got)
			}
		}
		if server.ConnectionState().HandshakeComplete || server.SessionReused() {
			t.Error("the handshake counts as complete")
		}
		must(t, server.Close())
		if now := counted.sent(); now != sent {
			t.Errorf("%d bytes were sent after the refusal", now-sent)
		}
		if err := <-done; err == nil {
			t.Error("the client has data")
		}
	})
}

func second[T any](_ T, err error) error { return err }

// A countedConn counts what is written.
type countedConn struct {
	net.Conn
	mu sync.Mutex
	n  int
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	return n, err
}

func (c *countedConn) sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// TestNothingIsSentBeforeCheck: while a function runs, the last flight is held back, also if other
// calls want to read and write. The peer gets nothing, and gets all when the function has returned.
func TestNothingIsSentBeforeCheck(t *testing.T) {
	p := newPKI(t, "authority")
	for _, isServer := range []bool{true, false} {
		eachVersion(t, func(t *testing.T, version uint16) {
			began, goOn := make(chan bool), make(chan bool)
			check := func(tls.ConnectionState) error { began <- true; <-goOn; return nil }
			serverConfig, clientConfig := base(t, p, version)
			clientConfig.ServerName = ""
			both := serverConfig
			if isServer {
				both.VerifyConnection = check
			} else {
				both = &tls.Config{RootCAs: p.pool(), VerifyConnection: check, MaxVersion: version}
			}
			c, err := sslctx.NewContextFromTLS(both)
			must(t, err)
			defer c.Close()
			a, b := tlstest.TCPPair(t)
			counted := &countedConn{Conn: a}
			make, other := sslctx.Client, tls.Server(b, serverConfig)
			if isServer {
				make, other = sslctx.Server, tls.Client(b, &tls.Config{InsecureSkipVerify: true})
			}
			mine, err := make(counted, c)
			must(t, err)
			if !isServer {
				must(t, mine.SetServerName("localhost"))
			}
			peer, reads, writes := goErr(func() error { return exchange(other) }), goErr(func() error { return readOne(mine) }),
				goErr(func() error { return writeOne(mine) })
			<-began
			sent := counted.sent()
			more := goErr(mine.Handshake) // it waits, too
			if got := mine.ConnectionState(); got.HandshakeComplete {
				t.Error("the handshake counts as complete")
			}
			if now := counted.sent(); now != sent {
				t.Errorf("%d bytes were sent during the check", now-sent)
			}
			select {
			case err := <-peer:
				t.Errorf("the peer is through: %v", err)
			case err := <-reads:
				t.Errorf("Read returns: %v", err)
			case err := <-writes:
				t.Errorf("Write returns: %v", err)
			case err := <-more:
				t.Errorf("Handshake returns: %v", err)
			default:
			}
			close(goOn)
			for name, done := range map[string]chan error{"peer": peer, "Read": reads, "Write": writes, "Handshake": more} {
				if err := <-done; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			_, _ = mine.Close(), other.Close()
		})
	}
}

func goErr(f func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func readOne(c net.Conn) error {
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func writeOne(c net.Conn) error {
	_, err := c.Write([]byte{1})
	return err
}

func exchange(c net.Conn) error { return errors.Join(writeOne(c), readOne(c)) }

// TestRefusedSessions: a session whose connection was refused is in no cache, in no hook and in no
// ClientSessionCache, and is not resumed.
func TestRefusedSessions(t *testing.T) {
	p := newPKI(t, "authority")
	for _, stateful := range []bool{false, true} {
		eachVersion(t, func(t *testing.T, version uint16) {
			serverConfig, _ := base(t, p, version)
			refuses := true
			serverConfig.VerifyConnection = func(tls.ConnectionState) error {
				if refuses {
					return errOfHook
				}
				return nil
			}
			c, err := sslctx.NewContextFromTLS(serverConfig)
			must(t, err)
			defer c.Close()
			news, removed := 0, 0
			must(t, c.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) { news++; _ = s.Close() }))
			must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { removed++; _ = s.Close() }))
			if stateful {
				_, err = c.SetOptions(sslctx.OpNoTicket)
				must(t, err)
			}
			client, err := sslctx.NewContextFromTLS(&tls.Config{RootCAs: p.pool()})
			must(t, err)
			defer client.Close()
			e := tlstest.Ends{Server: c, Client: client}
			a, b := tlstest.TCPPair(t)
			s, cl := e.Over(t, a, b, nil)
			handshake := goErr(cl.Handshake)
			if err := s.Handshake(); !errors.Is(err, errOfHook) {
				t.Errorf("the handshake ends with %v", err)
			}
			must(t, s.Close())
			<-handshake
			inTicket := !stateful && version == tls.VersionTLS12 // libssl reports no session without an ID
			if n := c.CacheStats().Number; n != 0 || news != 0 || (removed == 0) != inTicket {
				t.Errorf("the cache has %d sessions; the hooks got %d and %d", n, news, removed)
			}
			refuses = false
			kept := e.Session(t)
			if (news == 0) != inTicket {
				t.Error("the hook does not get the session of a good connection")
			}
			refuses = true
			a, b = tlstest.TCPPair(t)
			s, cl = e.Over(t, a, b, kept)
			handshake = goErr(cl.Handshake)
			if err := s.Handshake(); !errors.Is(err, errOfHook) {
				t.Errorf("the resumed handshake ends with %v", err)
			}
			must(t, s.Close())
			<-handshake
			if stateful && version == tls.VersionTLS12 {
				refuses = false
				if s, _ := e.Connect(t, kept); s.SessionReused() {
					t.Error("the session of the refused connection is resumed")
				}
			}
		})
	}
}

// TestRefusedIsNotKept: a client that refuses keeps no session, and drops the one that it offered.
func TestRefusedIsNotKept(t *testing.T) {
	p := newPKI(t, "authority")
	eachVersion(t, func(t *testing.T, version uint16) {
		serverConfig, clientConfig := base(t, p, version)
		refuses := false
		clientConfig.VerifyConnection = func(tls.ConnectionState) error {
			if refuses {
				return errOfHook
			}
			return nil
		}
		clientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		l, err := ofGo.listen(serverConfig)
		srv := serve(t, l, err)
		d, err := sslctx.NewDialerFromTLS(clientConfig)
		must(t, err)
		defer d.Context.Close()
		dial := func(addr string) (tlsConn, error) {
			c, err := d.Dial("tcp", addr)
			if err != nil {
				return nil, err
			}
			return c.(*sslctx.Conn), nil
		}
		use := func(wantResumed, wantErr bool) {
			t.Helper()
			s, c := srv.use(t, dial)
			if (c.err != nil) != wantErr || !wantErr && s.state.DidResume != wantResumed {
				t.Errorf("refuses %v: %v, %v", refuses, s, c)
			}
		}
		refuses = true
		use(false, true)
		if n := d.SessionCache.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions were kept", n)
		}
		refuses = false
		use(false, false)
		use(true, false)
		for refuses = true; d.SessionCache.Stats().Sessions > 0; {
			use(true, true)
		}
		refuses = false
		use(false, false)
	})
}

// TestChecksAndLaterHandshakes: in a renegotiation no function runs, and the server must show the same
// certificate. Early data and an authentication after the handshake, which no function would see, are
// refused.
func TestChecksAndLaterHandshakes(t *testing.T) {
	p := newPKI(t, "authority")
	t.Run("renegotiation", func(t *testing.T) { renegotiates(t, p, false) })
	t.Run("renegotiation with another certificate", func(t *testing.T) { renegotiates(t, p, true) })
	t.Run("early data", func(t *testing.T) {
		for _, config := range []*tls.Config{
			{VerifyConnection: func(tls.ConnectionState) error { return nil }},
			{VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return nil }},
			{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }},
		} {
			config.Certificates, config.RootCAs = []tls.Certificate{p.cert(t, "server")}, p.pool()
			c, err := sslctx.NewContextFromTLS(config)
			must(t, err)
			defer c.Close()
			must(t, c.SetMaxEarlyData(100))
			plain := tlstest.NewEnds(t, sslctx.VersionTLS13)
			pair := tlstest.Ends{Server: c, Client: plain.Client}
			must(t, plain.Client.TrustCertPool(p.pool()))
			offer := pair.Session(t)
			a, b := tlstest.TCPPair(t)
			s, cl := pair.Over(t, a, b, offer)
			_, err = s.ReadEarlyData(make([]byte, 1))
			isArgument(t, err, "receiver")
			_, err = s.HandshakeReadEarlyData(context.Background())
			isArgument(t, err, "receiver")
			sent := goErr(func() error { return cl.HandshakeWithEarlyData(context.Background(), []byte("early")) })
			got := make([]byte, 5)
			_, err = io.ReadFull(s, got)
			must(t, err)
			must(t, <-sent)
			if string(got) != "early" || cl.EarlyDataStatus() != sslctx.EarlyDataRejected {
				t.Errorf("the server reads %q, the early data was %v", got, cl.EarlyDataStatus())
			}
		}
	})
	t.Run("early data of a client", func(t *testing.T) {
		e := tlstest.NewEndsWith(t, sslctx.VersionTLS13, p.cert(t, "server"))
		must(t, e.Server.SetMaxEarlyData(100))
		client, err := sslctx.NewContextFromTLS(&tls.Config{RootCAs: p.pool(), VerifyConnection: func(tls.ConnectionState) error { return nil }})
		must(t, err)
		defer client.Close()
		e.Client = client
		a, b := tlstest.TCPPair(t)
		_, c := e.Over(t, a, b, e.Session(t))
		if _, err := c.WriteEarlyData([]byte("x")); err != sslctx.ErrNoEarlyData {
			t.Errorf("WriteEarlyData returns %v", err)
		}
	})
	t.Run("after the handshake", func(t *testing.T) {
		config := &tls.Config{Certificates: []tls.Certificate{p.cert(t, "server")}, VerifyConnection: func(tls.ConnectionState) error { return nil }}
		server, done := handshakeOf(t, context.Background(), config)
		if got := <-done; got != nil {
			t.Fatal(got)
		}
		isArgument(t, server.VerifyClientPostHandshake(), "receiver")
	})
}

// TestCheckOfChosenContext: a context of a tls.Config that an application's own hook chooses has its
// check, and takes no early data either.
func TestCheckOfChosenContext(t *testing.T) {
	p := newPKI(t, "authority")
	eachVersion(t, func(t *testing.T, version uint16) {
		chosen, err := sslctx.NewContextFromTLS(&tls.Config{Certificates: []tls.Certificate{p.cert(t, "server")},
			VerifyConnection: func(tls.ConnectionState) error { return errOfHook }})
		must(t, err)
		defer chosen.Close()
		e := tlstest.NewEnds(t, sslctx.Version(version))
		must(t, e.Client.TrustCertPool(p.pool()))
		must(t, e.Server.SetMaxEarlyData(100))
		must(t, e.Server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return chosen, nil }))
		for _, early := range []bool{false, true} {
			a, b := tlstest.TCPPair(t)
			s, c := e.Over(t, a, b, nil)
			client := goErr(c.Handshake)
			if early {
				_, err = s.ReadEarlyData(make([]byte, 1))
				if version == tls.VersionTLS13 {
					isArgument(t, err, "receiver")
				}
			} else if err := s.Handshake(); !errors.Is(err, errOfHook) {
				t.Errorf("the handshake ends with %v", err)
			}
			_ = s.Close()
			<-client
		}
	})
}

// TestChecksLeaveNothing: refused connections leave no object behind.
func TestChecksLeaveNothing(t *testing.T) {
	p := newPKI(t, "authority")
	sessions, conns := ossltest.CollectUntil(ossltest.LiveSessions, 0), ossltest.CollectUntil(ossltest.LiveSSLs, 0)
	for _, at := range []string{"server", "client"} {
		for _, version := range versions {
			serverConfig, clientConfig := base(t, p, version)
			r := recorder{refuse: "VerifyConnection"}
			if at == "server" {
				r.record(serverConfig)
			} else {
				r.record(clientConfig)
			}
			meet(t, ofLibssl, ofLibssl, serverConfig, clientConfig)
		}
	}
	if n := ossltest.CollectUntil(ossltest.LiveSSLs, conns); n != conns {
		t.Errorf("%d SSLs are alive, want %d", n, conns)
	}
	if n := ossltest.CollectUntil(ossltest.LiveSessions, sessions); n != sessions {
		t.Errorf("%d sessions are alive, want %d", n, sessions)
	}
}

// renegotiates has a server renegotiate, with the same certificate, or with another cipher suite and so
// with another certificate.
func renegotiates(t *testing.T, p pki, changes bool) {
	e := tlstest.NewEndsWith(t, sslctx.VersionTLS12, p.cert(t, "first"))
	must(t, e.Server.UseCertificate(p.rsaCert(t, "second")))
	must(t, e.Server.SetCipherList("ECDHE-ECDSA-AES128-GCM-SHA256"))
	_, err := e.Server.SetSessionCacheMode(sslctx.SessCacheOff)
	must(t, err)
	_, err = e.Server.SetOptions(sslctx.OpNoTicket)
	must(t, err)
	var r recorder
	config := &tls.Config{RootCAs: p.pool(), Renegotiation: tls.RenegotiateFreelyAsClient}
	r.record(config)
	client, err := sslctx.NewContextFromTLS(config)
	must(t, err)
	defer client.Close()
	e.Client = client
	s, c := e.Connect(t, nil)
	said := r.said()
	before, err := c.ClientRandom()
	must(t, err)
	if changes {
		must(t, e.Server.SetCipherList("ECDHE-RSA-AES128-GCM-SHA256"))
	}
	must(t, s.Renegotiate())
	drained := goErr(func() error { _, err := io.Copy(io.Discard, s); return err })
	use := func() error { // both write, so both learn of its end
		if err := writeOne(c); err != nil {
			return err
		}
		must(t, writeOne(s))
		return readOne(c)
	}
	for now := before; err == nil && string(now) == string(before); {
		if err = use(); err == nil {
			now, err = c.ClientRandom()
		}
	}
	if err == nil { // it had begun
		err = use()
	}
	if errors.Is(err, sslctx.ErrPeerChanged) != changes || !changes && err != nil {
		t.Errorf("another certificate: %v; the client has %v", changes, err)
	}
	if r.said() != said {
		t.Errorf("the functions ran again: %s", r.said())
	}
	_, _ = c.Abort(), s.Abort()
	<-drained
}

// TestCheckIsNotShared: two Dialers share a cache, and one of them checks the server by a function. It does not resume
// what the other has accepted.
func TestCheckIsNotShared(t *testing.T) {
	p := newPKI(t, "authority")
	eachVersion(t, func(t *testing.T, version uint16) {
		serverConfig, clientConfig := base(t, p, version)
		l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", serverConfig)
		s := serve(t, l, err)
		cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{})
		must(t, err)
		pinned := clientConfig.Clone()
		refusal := errors.New("another key is pinned")
		pinned.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return refusal }
		for i, config := range []*tls.Config{clientConfig, clientConfig, pinned} {
			d, err := sslctx.NewDialerFromTLS(config)
			must(t, err)
			defer d.Context.Close()
			d.SessionCache = cache
			_, c := s.use(t, func(addr string) (tlsConn, error) {
				c, err := d.Dial("tcp", addr)
				if err != nil {
					return nil, err
				}
				return c.(tlsConn), nil
			})
			if i < 2 && (c.err != nil || c.state.DidResume != (i == 1)) || i == 2 && !errors.Is(c.err, refusal) {
				t.Errorf("connection %d: %v, resumed %v", i, c.err, c.state.DidResume)
			}
		}
	})
}
