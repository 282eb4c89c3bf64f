// SPDX-License-Identifier: Apache-2.0

package fromtls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/tlstest"
)

// base returns the smallest configs of both ends, for one version.
func base(t testing.TB, p pki, version uint16) (server, client *tls.Config) {
	return &tls.Config{Certificates: []tls.Certificate{p.cert(t, "server")}, MaxVersion: version},
		&tls.Config{RootCAs: p.pool(), ServerName: "localhost"}
}

// TestPlain: the smallest configs connect in both roles.
func TestPlain(t *testing.T) {
	p := newPKI(t, "authority")
	eachPair(t, func(t *testing.T, server, client library, version uint16) {
		serverConfig, clientConfig := base(t, p, version)
		s, c := meet(t, server, client, serverConfig, clientConfig)
		if s.err != nil || c.err != nil || s.state.Version != version || c.state.Version != version ||
			s.state.ServerName != "localhost" || !bytes.Equal(c.state.PeerCertificates[0].Raw, serverConfig.Certificates[0].Certificate[0]) {
			t.Errorf("the ends have %v, %v", s, c)
		}
	})
}

// fails runs configs with each pair, and checks that both ends fail, or the one that must.
func fails(t *testing.T, change func(server, client *tls.Config)) {
	t.Helper()
	p := newPKI(t, "authority")
	eachPair(t, func(t *testing.T, server, client library, version uint16) {
		serverConfig, clientConfig := base(t, p, version)
		change(serverConfig, clientConfig)
		if s, c := meet(t, server, client, serverConfig, clientConfig); s.err == nil || c.err == nil {
			t.Errorf("the ends have %v, %v", s.err, c.err)
		}
	})
}

// TestRootCAs: a client does not trust other authorities, nor, without RootCAs, one that the system
// does not have.
func TestRootCAs(t *testing.T) {
	other := newPKI(t, "other")
	t.Run("other", func(t *testing.T) { fails(t, func(_, c *tls.Config) { c.RootCAs = other.pool() }) })
	t.Run("system", func(t *testing.T) { fails(t, func(_, c *tls.Config) { c.RootCAs = nil }) })
}

// TestPartialChains: a pool may trust an intermediate authority, or the peer's own certificate.
func TestPartialChains(t *testing.T) {
	root := newPKI(t, "root")
	middle := tlstest.Issue(t, "middle", root.ca, tlstest.Authority)
	leaf := tlstest.Issue(t, "leaf", middle, nil)
	cert := leaf.TLSCertificate(middle)
	for name, try := range map[string]struct {
		pool  *x509.CertPool
		chain int // 0: the peer is refused
	}{"root": {root.pool(), 3}, "middle": {tlstest.PoolOf(middle), 2}, "leaf": {tlstest.PoolOf(leaf), 1},
		"other": {newPKI(t, "other").pool(), 0}} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, server, client library, version uint16) {
				s, c := meet(t, server, client,
					&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: try.pool},
					&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: try.pool, ServerName: "localhost"})
				if try.chain == 0 {
					if c.err == nil {
						t.Error("the server is trusted")
					}
					return
				}
				if c.err != nil || !hasChain(c, client, try.chain) {
					t.Errorf("the client has %v, %v", c.state.VerifiedChains, c.err)
				}
				shows := name != "leaf" // which is not of the authority that the server names
				if s.err != nil || shows != hasChain(s, server, try.chain) {
					t.Errorf("the server has %v, %v", s.state.VerifiedChains, s.err)
				}
			})
		})
	}
}

// hasChain reports whether an end verified one chain of this length. Where the pool has the peer's own
// certificate, libssl also returns the issuer that the peer sent.
func hasChain(e end, l library, length int) bool {
	if len(e.state.VerifiedChains) != 1 {
		return false
	}
	n := len(e.state.VerifiedChains[0])
	return n == length || length == 1 && n == 2 && l.name == ofLibssl.name
}

// TestServerName: the certificate must be for the name.
func TestServerName(t *testing.T) {
	fails(t, func(_, c *tls.Config) { c.ServerName = "elsewhere" })
}

// TestInsecureSkipVerify: the client accepts any server, and has no verified chain.
func TestInsecureSkipVerify(t *testing.T) {
	p := newPKI(t, "authority")
	eachPair(t, func(t *testing.T, server, client library, version uint16) {
		serverConfig, _ := base(t, p, version)
		s, c := meet(t, server, client, serverConfig, &tls.Config{InsecureSkipVerify: true})
		if s.err != nil || c.err != nil || len(c.state.VerifiedChains) != 0 || len(c.state.PeerCertificates) != 1 {
			t.Errorf("the ends have %v, %v", s.err, c)
		}
	})
}

// TestClientAuth: what each mode does with a certificate, without one, and with another authority's.
func TestClientAuth(t *testing.T) {
	p, other := newPKI(t, "authority"), newPKI(t, "other")
	good, bad := p.cert(t, "client"), other.cert(t, "stranger")
	for _, try := range []struct {
		name   string
		auth   tls.ClientAuthType
		shows  []tls.Certificate
		chains int // -1: the handshake fails
	}{
		{"not asked", tls.NoClientCert, []tls.Certificate{good}, 0},
		{"given", tls.VerifyClientCertIfGiven, []tls.Certificate{good}, 1},
		{"not given", tls.VerifyClientCertIfGiven, nil, 0},
		{"required", tls.RequireAndVerifyClientCert, []tls.Certificate{good}, 1},
		{"missing", tls.RequireAndVerifyClientCert, nil, -1},
	} {
		t.Run(try.name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, server, client library, version uint16) {
				serverConfig, clientConfig := base(t, p, version)
				serverConfig.ClientAuth, serverConfig.ClientCAs = try.auth, p.pool()
				clientConfig.Certificates = try.shows
				s, _ := meet(t, server, client, serverConfig, clientConfig)
				if (s.err != nil) != (try.chains < 0) || len(s.state.VerifiedChains) != max(try.chains, 0) {
					t.Errorf("the server has %v", s)
				}
			})
		})
	}
	t.Run("names", func(t *testing.T) { // a client does not send what the server's names do not allow
		eachVersion(t, func(t *testing.T, version uint16) {
			serverConfig, clientConfig := base(t, p, version)
			serverConfig.ClientAuth, serverConfig.ClientCAs = tls.VerifyClientCertIfGiven, p.pool()
			clientConfig.Certificates = []tls.Certificate{bad}
			s, c := meet(t, ofLibssl, ofGo, serverConfig, clientConfig)
			if s.err != nil || c.err != nil || len(s.state.PeerCertificates) != 0 {
				t.Errorf("the ends have %v, %v", s, c.err)
			}
		})
	})
	t.Run("system", func(t *testing.T) { // nobody has a certificate of the system's authorities
		eachVersion(t, func(t *testing.T, version uint16) {
			serverConfig, clientConfig := base(t, p, version)
			serverConfig.ClientAuth = tls.VerifyClientCertIfGiven
			clientConfig.Certificates = []tls.Certificate{good}
			if s, _ := meet(t, ofLibssl, ofGo, serverConfig, clientConfig); s.err == nil {
				t.Error("the server trusts the client")
			}
		})
	})
}

// TestVersions: the bounds hold at both ends, and 0 is what crypto/tls takes it for.
func TestVersions(t *testing.T) {
	p := newPKI(t, "authority")
	for _, library := range []struct{ server, client library }{{ofLibssl, ofGo}, {ofGo, ofLibssl}} {
		for _, try := range []struct {
			low, high, peerLow, peerHigh, agreed uint16
		}{
			{0, 0, tls.VersionTLS10, tls.VersionTLS11, 0},
			{0, 0, tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS12},
			{0, 0, 0, 0, tls.VersionTLS13},
			{tls.VersionTLS13, 0, 0, tls.VersionTLS12, 0},
			{0, tls.VersionTLS12, 0, 0, tls.VersionTLS12},
		} {
			serverConfig, clientConfig := base(t, p, 0)
			mine, peers := clientConfig, serverConfig
			if library.server.name == ofLibssl.name {
				mine, peers = serverConfig, clientConfig
			}
			mine.MinVersion, mine.MaxVersion, peers.MinVersion, peers.MaxVersion = try.low, try.high, try.peerLow, try.peerHigh
			s, _ := meet(t, library.server, library.client, serverConfig, clientConfig)
			if s.state.Version != try.agreed {
				t.Errorf("%s serves %s: %+v: the version is %#x, %v", library.server.name, library.client.name, try, s.state.Version, s.err)
			}
		}
	}
	for _, config := range []*tls.Config{{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}, {MaxVersion: 0x300},
		{MaxVersion: tls.VersionTLS11}} {
		_, err := sslctx.NewContextFromTLS(config)
		isArgument(t, err, "config.MaxVersion")
	}
	_, err := sslctx.NewContextFromTLS(&tls.Config{MinVersion: 0x0305})
	isArgument(t, err, "config.MinVersion")
	plain := tlstest.NewContext(t, sslctx.TLSMethod)
	linked, _ := sslctx.LibraryVersions()
	_, err = sslctx.NewContextFromTLS(&tls.Config{MinVersion: tls.VersionTLS10})
	if linked.Number >= 0x30000000 && plain.SecurityLevel() > 0 { // libssl would speak no TLS 1.0
		isArgument(t, err, "config.MinVersion")
	} else if err != nil {
		t.Error(err)
	}
}

// TestCipherSuites: the list holds for TLS 1.2, and does not touch TLS 1.3.
func TestCipherSuites(t *testing.T) {
	const one, other = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	p := newPKI(t, "authority")
	for _, at := range []string{"server", "client"} {
		for _, suite := range []uint16{one, other} {
			eachPair(t, func(t *testing.T, server, client library, version uint16) {
				serverConfig, clientConfig := base(t, p, version)
				list := []uint16{suite, tls.TLS_AES_128_GCM_SHA256}
				if at == "server" {
					serverConfig.CipherSuites = list
				} else {
					clientConfig.CipherSuites = list
				}
				s, c := meet(t, server, client, serverConfig, clientConfig)
				if s.err != nil || c.err != nil || (version == tls.VersionTLS12) != (s.state.CipherSuite == suite) {
					t.Errorf("%s at the %s: %v, %v", tls.CipherSuiteName(suite), at, s, c)
				}
			})
		}
	}
	t.Run("order", func(t *testing.T) { // the server's counts
		serverConfig, clientConfig := base(t, p, tls.VersionTLS12)
		for _, list := range [][]uint16{{one, other}, {other, one}} {
			serverConfig.CipherSuites = list
			if s, _ := meet(t, ofLibssl, ofLibssl, serverConfig, clientConfig); s.state.CipherSuite != list[0] {
				t.Errorf("the first of %x was not taken: %v", list, s)
			}
		}
	})
	t.Run("only TLS 1.3", func(t *testing.T) {
		serverConfig, clientConfig := base(t, p, 0)
		serverConfig.CipherSuites = []uint16{}
		clientConfig.MaxVersion = tls.VersionTLS12
		for _, l := range []library{ofGo, ofLibssl} {
			if s, _ := meet(t, l, ofGo, serverConfig, clientConfig); s.err == nil {
				t.Errorf("%s serves TLS 1.2 without a cipher suite", l.name)
			}
			if s, _ := meet(t, l, ofGo, serverConfig, &tls.Config{InsecureSkipVerify: true}); s.err != nil {
				t.Errorf("%s does not serve TLS 1.3: %v", l.name, s.err)
			}
		}
		_, err := sslctx.NewContextFromTLS(&tls.Config{CipherSuites: []uint16{}, MaxVersion: tls.VersionTLS12})
		isArgument(t, err, "config.CipherSuites")
	})
	_, err := sslctx.NewContextFromTLS(&tls.Config{CipherSuites: []uint16{one, 0xfafa}})
	isArgument(t, err, "config.CipherSuites")
	if err == nil || !strings.Contains(err.Error(), "0xFAFA") {
		t.Errorf("the error does not name the cipher suite: %v", err)
	}
}

// TestCurvePreferences: each end's list decides the group.
func TestCurvePreferences(t *testing.T) {
	p := newPKI(t, "authority")
	rsaCerts := []tls.Certificate{p.rsaCert(t, "rsa")}
	for _, at := range []string{"server", "client"} {
		for _, curve := range []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519} {
			for _, pair := range [][2]library{{ofLibssl, ofGo}, {ofGo, ofLibssl}} {
				for _, version := range versions {
					serverConfig, clientConfig := base(t, p, version)
					serverConfig.Certificates = rsaCerts // in TLS 1.2 an ECDSA key needs its own curve, too
					if at == "server" {
						serverConfig.CurvePreferences = []tls.CurveID{curve}
					} else {
						clientConfig.CurvePreferences = []tls.CurveID{curve}
					}
					s, c := meet(t, pair[0], pair[1], serverConfig, clientConfig)
					of := s.state.CurveID // crypto/tls always knows it
					if pair[1].name == ofGo.name {
						of = c.state.CurveID
					}
					if s.err != nil || c.err != nil || of != curve {
						t.Errorf("%v at the %s, %s: %v, %v", curve, at, tls.VersionName(version), s, c)
					}
				}
			}
		}
	}
	_, err := sslctx.NewContextFromTLS(&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, 0x7a7a}})
	isArgument(t, err, "config.CurvePreferences")
}

// TestNextProtos: the ends agree as in crypto/tls, except where docs/migrating.md says so.
func TestNextProtos(t *testing.T) {
	p := newPKI(t, "authority")
	for _, try := range []struct {
		server, client []string
		agreed         string
		fails          bool
	}{
		{[]string{"b", "a"}, []string{"a", "b"}, "b", false},
		{[]string{"a"}, nil, "", false},
		{nil, []string{"a"}, "", false},
		{[]string{"a"}, []string{"b"}, "", true},
	} {
		eachPair(t, func(t *testing.T, server, client library, version uint16) {
			serverConfig, clientConfig := base(t, p, version)
			serverConfig.NextProtos, clientConfig.NextProtos = try.server, try.client
			s, c := meet(t, server, client, serverConfig, clientConfig)
			if (s.err != nil) != try.fails || s.state.NegotiatedProtocol != try.agreed || c.state.NegotiatedProtocol != try.agreed {
				t.Errorf("%v: %v, %v", try, s, c)
			}
		})
	}
	_, err := sslctx.NewContextFromTLS(&tls.Config{NextProtos: []string{""}})
	isArgument(t, err, "config.NextProtos")
}

// resumptions connects three times by one dialer, and returns which connections resumed.
func resumptions(t *testing.T, server, client library, serverConfig, clientConfig *tls.Config) (did []bool) {
	t.Helper()
	l, err := server.listen(serverConfig)
	srv := serve(t, l, err)
	dial, stop, err := client.dial(clientConfig)
	must(t, err)
	defer stop()
	for range 3 {
		s, c := srv.use(t, dial)
		if s.err != nil || c.err != nil || s.state.DidResume != c.state.DidResume {
			t.Fatalf("the ends have %v, %v", s, c)
		}
		did = append(did, s.state.DidResume)
	}
	return did
}

// TestResumption: the ends resume exactly when those of crypto/tls do.
func TestResumption(t *testing.T) {
	p := newPKI(t, "authority")
	client := p.cert(t, "client")
	for _, try := range []struct {
		name   string
		change func(server, client *tls.Config)
		want   []bool
	}{
		{"cache", func(_, c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(2) }, []bool{false, true, true}},
		{"no cache", func(_, c *tls.Config) {}, []bool{false, false, false}},
		{"server disables", func(s, c *tls.Config) {
			c.ClientSessionCache = tls.NewLRUClientSessionCache(2)
			s.SessionTicketsDisabled = true
		}, []bool{false, false, false}},
		{"client disables", func(s, c *tls.Config) {
			c.ClientSessionCache = tls.NewLRUClientSessionCache(2)
			c.SessionTicketsDisabled = true
		}, []bool{false, false, false}},
		{"client certificate", func(s, c *tls.Config) {
			c.ClientSessionCache = tls.NewLRUClientSessionCache(2)
			s.ClientAuth, s.ClientCAs = tls.RequireAndVerifyClientCert, p.pool()
			c.Certificates = []tls.Certificate{client}
		}, []bool{false, true, true}},
	} {
		t.Run(try.name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, server, client library, version uint16) {
				serverConfig, clientConfig := base(t, p, version)
				try.change(serverConfig, clientConfig)
				if did := resumptions(t, server, client, serverConfig, clientConfig); !slices.Equal(did, try.want) {
					t.Errorf("resumed: %v, want %v", did, try.want)
				}
			})
		})
	}
}

// A lineWriter keeps what is written. It is not safe for several goroutines: crypto/tls makes one
// Write at a time.
type lineWriter struct{ bytes.Buffer }

// TestKeyLogWriter: both ends write their secrets, one line at a time.
func TestKeyLogWriter(t *testing.T) {
	p := newPKI(t, "authority")
	eachPair(t, func(t *testing.T, server, client library, version uint16) {
		serverConfig, clientConfig := base(t, p, version)
		var ofServer, ofClient lineWriter
		serverConfig.KeyLogWriter, clientConfig.KeyLogWriter = &ofServer, &ofClient
		if s, c := meet(t, server, client, serverConfig, clientConfig); s.err != nil || c.err != nil {
			t.Fatal(s, c)
		}
		want := map[uint16]string{tls.VersionTLS12: "CLIENT_RANDOM ", tls.VersionTLS13: "CLIENT_TRAFFIC_SECRET_0 "}[version]
		for _, w := range []*lineWriter{&ofServer, &ofClient} {
			if !strings.Contains(w.String(), want) {
				t.Errorf("the key log is %q", w.String())
			}
		}
	})
	t.Run("shared", func(t *testing.T) {
		serverConfig, _ := base(t, p, 0)
		var shared lineWriter
		serverConfig.KeyLogWriter = &shared
		serverConfig.Certificates = append(serverConfig.Certificates, p.rsaCert(t, "rsa"))
		l, err := ofLibssl.listen(serverConfig)
		must(t, err)
		defer l.Close()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				c, err := l.Accept()
				if err == nil {
					answer(c.(tlsConn))
				}
			})
			all.Go(func() {
				c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
				if err == nil {
					_, _ = c.Write([]byte{1})
					_, _ = c.Read(make([]byte, 1))
					_ = c.Close()
				}
			})
		}
		all.Wait()
		for line := range strings.Lines(shared.String()) {
			if strings.Count(line, " ") != 2 {
				t.Errorf("a line is %q", line)
			}
		}
	})
}

// TestRenegotiation: a client renegotiates only with RenegotiateFreelyAsClient. crypto/tls cannot
// ask for it, and so a server of libssl does.
func TestRenegotiation(t *testing.T) {
	p := newPKI(t, "authority")
	for _, try := range []struct {
		support tls.RenegotiationSupport
		rounds  bool
	}{{tls.RenegotiateNever, false}, {tls.RenegotiateFreelyAsClient, true}} {
		e := tlstest.NewEndsWith(t, sslctx.VersionTLS12, p.cert(t, "server"))
		client, err := sslctx.NewContextFromTLS(&tls.Config{RootCAs: p.pool(), Renegotiation: try.support})
		must(t, err)
		defer client.Close()
		e.Client = client
		s, c := e.Connect(t, nil)
		before, err := s.ClientRandom()
		must(t, err)
		must(t, s.Renegotiate())
		read := make(chan error, 1)
		go func() { _, err := s.Read(make([]byte, 1)); read <- err }()
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1)) // it carries the renegotiation on
			wrote <- err
		}()
		if try.rounds {
			for deadline := time.Now().Add(10 * time.Second); ; {
				now, err := s.ClientRandom()
				must(t, err)
				if !bytes.Equal(now, before) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the client does not renegotiate")
				}
			}
			_ = c.Close()
			_, _ = <-read, <-wrote
			continue
		}
		if err := <-read; err == nil {
			t.Error("the server goes on without a renegotiation")
		}
		_, _ = s.Close(), <-wrote
	}
	_, err := sslctx.NewContextFromTLS(&tls.Config{Renegotiation: tls.RenegotiateOnceAsClient})
	isArgument(t, err, "config.Renegotiation")
	l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", &tls.Config{Renegotiation: tls.RenegotiateOnceAsClient, Certificates: []tls.Certificate{p.cert(t, "x")}})
	must(t, err) // crypto/tls does not read it in a server
	must(t, l.Close())
}

// TestOCSPStaple: a client asks for the response, and a server sends it.
func TestOCSPStaple(t *testing.T) {
	p := newPKI(t, "authority")
	linked, _ := sslctx.LibraryVersions()
	if linked.Number >= 0x30600000 {
		t.Skip("this libssl sends a response only if it is one")
	}
	eachPair(t, func(t *testing.T, server, client library, version uint16) {
		serverConfig, clientConfig := base(t, p, version)
		serverConfig.Certificates[0].OCSPStaple = []byte("response")
		if s, c := meet(t, server, client, serverConfig, clientConfig); string(c.state.OCSPResponse) != "response" {
			t.Errorf("the client has %q, %v, %v", c.state.OCSPResponse, s.err, c.err)
		}
	})
}

// TestClientCertificates: a client sends its certificate to a server that names its authority, or that of an
// intermediate certificate, and no other. It has one certificate.
func TestClientCertificates(t *testing.T) {
	p, other := newPKI(t, "authority"), newPKI(t, "other")
	middle := tlstest.Issue(t, "middle", p.ca, tlstest.Authority)
	for name, row := range map[string]struct {
		cert  tls.Certificate
		shows bool
	}{
		"its authority":           {p.cert(t, "user"), true},
		"that of an issuer":       {tlstest.Issue(t, "user", middle, nil).TLSCertificate(middle), true},
		"that of another":         {other.cert(t, "user"), false},
		"that of another, by RSA": {other.rsaCert(t, "user"), false},
	} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, server, client library, version uint16) {
				serverConfig, clientConfig := base(t, p, version)
				serverConfig.ClientAuth, serverConfig.ClientCAs = tls.VerifyClientCertIfGiven, p.pool()
				clientConfig.Certificates = []tls.Certificate{row.cert}
				s, c := meet(t, server, client, serverConfig, clientConfig)
				if s.err != nil || c.err != nil || len(s.state.PeerCertificates) > 0 != row.shows {
					t.Errorf("the ends have %v, %v", s, c)
				}
			})
		})
	}
	_, err := sslctx.NewDialerFromTLS(&tls.Config{Certificates: []tls.Certificate{p.rsaCert(t, "a"), p.cert(t, "b")}})
	isArgument(t, err, "config.Certificates")
}

// TestBothRoles: a Context is for both ends, unless it would trust the wrong authorities.
func TestBothRoles(t *testing.T) {
	p, other := newPKI(t, "authority"), newPKI(t, "other")
	cert := p.cert(t, "localhost")
	connect := func(t *testing.T, config *tls.Config) error {
		c, err := sslctx.NewContextFromTLS(config)
		must(t, err)
		defer c.Close()
		a, b := tlstest.TCPPair(t)
		server, err := sslctx.Server(a, c)
		must(t, err)
		client, err := sslctx.Client(b, c)
		if err != nil {
			return err
		}
		must(t, client.SetServerName("localhost"))
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		err = client.Handshake()
		_, _ = client.Close(), <-done
		return err
	}
	certs := []tls.Certificate{cert}
	must(t, connect(t, &tls.Config{Certificates: certs, RootCAs: p.pool()}))
	pool := p.pool()
	must(t, connect(t, &tls.Config{Certificates: certs, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}))
	if err := connect(t, &tls.Config{Certificates: certs, RootCAs: other.pool()}); err == nil {
		t.Error("a client trusts an authority that RootCAs does not have")
	}
	isArgument(t, connect(t, &tls.Config{Certificates: certs, ClientCAs: p.pool()}), "c")
	isArgument(t, connect(t, &tls.Config{Certificates: []tls.Certificate{p.rsaCert(t, "localhost"), cert}, RootCAs: p.pool()}), "c")
	stricter := x509.NewCertPool() // which is Equal
	stricter.AddCertWithConstraint(p.ca.Cert, func([]*x509.Certificate) error { return errors.New("a constraint") })
	for _, config := range []*tls.Config{{RootCAs: p.pool(), ClientCAs: other.pool()}, {RootCAs: pool, ClientCAs: stricter},
		{RootCAs: p.pool(), ClientAuth: tls.VerifyClientCertIfGiven}} {
		_, err := sslctx.NewContextFromTLS(config)
		isArgument(t, err, "config.ClientCAs")
	}
}

// TestOnceRead: a config that is changed later has no effect.
func TestOnceRead(t *testing.T) {
	p := newPKI(t, "authority")
	serverConfig, clientConfig := base(t, p, 0)
	serverConfig.Certificates = append(serverConfig.Certificates, p.cert(t, "second", "second.test"))
	serverConfig.NextProtos, clientConfig.NextProtos = []string{"a"}, []string{"a"}
	clientConfig.ServerName = "second.test"
	l, err := ofLibssl.listen(serverConfig)
	srv := serve(t, l, err)
	serverConfig.Certificates[1], serverConfig.NextProtos[0] = tls.Certificate{}, "b"
	serverConfig.Certificates = nil
	serverConfig.VerifyConnection = func(tls.ConnectionState) error { return errOfHook }
	dial, stop, err := ofGo.dial(clientConfig)
	must(t, err)
	defer stop()
	if s, c := srv.use(t, dial); s.err != nil || c.err != nil || s.state.NegotiatedProtocol != "a" || nameOf(c) != "second" {
		t.Errorf("the ends have %v, %v", s, c)
	}
}
