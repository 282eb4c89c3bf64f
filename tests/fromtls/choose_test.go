// SPDX-License-Identifier: Apache-2.0

package fromtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

var errOfHook = errors.New("the hook says no")

// nameOf returns the name of the certificate that a client got.
func nameOf(c end) string {
	if len(c.state.PeerCertificates) == 0 {
		return fmt.Sprint("none: ", c.err != nil)
	}
	return c.state.PeerCertificates[0].Subject.CommonName
}

// sameAsGo runs a server with crypto/tls and with libssl, and checks that describe says the same.
func sameAsGo(t *testing.T, config func(version uint16) *tls.Config, client *tls.Config, describe func(s, c end) string) {
	t.Helper()
	eachVersion(t, func(t *testing.T, version uint16) {
		var said [2]string
		for i, l := range []library{ofGo, ofLibssl} {
			s, c := meet(t, l, ofGo, config(version), client)
			said[i] = describe(s, c)
			t.Logf("%s: %s (%v, %v)", l.name, said[i], s.err, c.err)
		}
		if said[0] != said[1] {
			t.Errorf("crypto/tls: %s; libssl: %s", said[0], said[1])
		}
	})
}

// TestSeveralCertificates: the first that the client supports is taken, otherwise the first.
func TestSeveralCertificates(t *testing.T) {
	p := newPKI(t, "authority")
	list := []tls.Certificate{p.rsaCert(t, "rsa"), p.cert(t, "a", "a.test"), p.cert(t, "b", "b.test")}
	for _, name := range []string{"localhost", "a.test", "b.test", "c.test"} {
		for _, suites := range [][]uint16{nil, {tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}} {
			for _, ofServer := range [][]uint16{nil, {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}} {
				sameAsGo(t, func(version uint16) *tls.Config {
					return &tls.Config{Certificates: list, MaxVersion: version, CipherSuites: ofServer}
				}, &tls.Config{InsecureSkipVerify: true, ServerName: name, CipherSuites: suites},
					func(_, c end) string { return nameOf(c) })
			}
		}
	}
	t.Run("config decides", func(t *testing.T) { // a cipher suite that only the server's config rules out
		sameAsGo(t, func(version uint16) *tls.Config {
			return &tls.Config{Certificates: list, MaxVersion: version, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
		}, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}, func(_, c end) string { return nameOf(c) })
	})
	t.Run("both roles", func(t *testing.T) { // the context of both ends has all certificates
		c, err := sslctx.NewContextFromTLS(&tls.Config{Certificates: list[:2]})
		must(t, err)
		defer c.Close()
		l, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
		srv := serve(t, l, err)
		for name, want := range map[string]string{"localhost": "rsa", "a.test": "a"} {
			dial, _, _ := ofGo.dial(&tls.Config{InsecureSkipVerify: true, ServerName: name})
			if s, got := srv.use(t, dial); nameOf(got) != want {
				t.Errorf("%s: the server shows %s, %v", name, nameOf(got), s.err)
			}
		}
	})
}

// TestGetCertificate: it is asked when crypto/tls asks it, and its answers mean the same.
func TestGetCertificate(t *testing.T) {
	p := newPKI(t, "authority")
	first, other := p.cert(t, "first"), p.cert(t, "other")
	for name, try := range map[string]struct {
		certs  []tls.Certificate
		answer *tls.Certificate
		err    error
	}{
		"answers":              {nil, &other, nil},
		"answers, with a list": {[]tls.Certificate{first}, &other, nil},
		"none":                 {nil, nil, nil},
		"none, with a list":    {[]tls.Certificate{first}, nil, nil},
		"error":                {[]tls.Certificate{first}, nil, errOfHook},
		"same":                 {[]tls.Certificate{first}, &first, nil},
	} {
		for _, serverName := range []string{"", "localhost"} {
			t.Run(name+" "+serverName, func(t *testing.T) {
				var asked atomic.Int64
				var hello atomic.Pointer[tls.ClientHelloInfo]
				sameAsGo(t, func(version uint16) *tls.Config {
					asked.Store(0)
					return &tls.Config{Certificates: try.certs, MaxVersion: version,
						GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
							asked.Add(1)
							hello.Store(info)
							if info.Context() == nil || info.Context().Err() != nil || info.Conn == nil || info.Conn.RemoteAddr() == nil {
								return nil, errors.New("the ClientHelloInfo has no context, or no connection")
							}
							return try.answer, try.err
						}}
				}, &tls.Config{InsecureSkipVerify: true, ServerName: serverName}, func(s, c end) string {
					said := fmt.Sprint(nameOf(c), " asked ", asked.Load(), " refused ", errors.Is(s.err, errOfHook), s.err == nil)
					alert := tls.AlertError(0)
					if errors.As(c.err, &alert) {
						said += " alert " + alert.Error()
					}
					if h := hello.Load(); h != nil {
						said += fmt.Sprint(h.ServerName, h.CipherSuites, h.SupportedCurves, h.SignatureSchemes, h.SupportedProtos, h.SupportedVersions)
					}
					return said
				})
			})
		}
	}
}

// TestGetConfigForClient: what a chosen config decides is as in crypto/tls.
func TestGetConfigForClient(t *testing.T) {
	p, other := newPKI(t, "authority"), newPKI(t, "other")
	first, second := p.cert(t, "first"), p.rsaCert(t, "second")
	ofClient := p.cert(t, "client")
	var keys lineWriter
	refuses := func(tls.ConnectionState) error { return errOfHook }
	for name, chosen := range map[string]*tls.Config{
		"nil":                           nil,
		"certificate":                   {Certificates: []tls.Certificate{second}},
		"no certificate":                {},
		"several":                       {Certificates: []tls.Certificate{p.cert(t, "other", "other.test"), second}},
		"GetCertificate":                {GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &second, nil }},
		"GetConfigForClient of its own": {Certificates: []tls.Certificate{second}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errOfHook }},
		"asks":                          {Certificates: []tls.Certificate{first}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.pool()},
		"asks others":                   {Certificates: []tls.Certificate{first}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: other.pool()},
		"asks without need":             {Certificates: []tls.Certificate{first}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: other.pool()},
		"protocols":                     {Certificates: []tls.Certificate{first}, NextProtos: []string{"b"}},
		"cipher suites":                 {Certificates: []tls.Certificate{first}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}},
		"key log":                       {Certificates: []tls.Certificate{first}, KeyLogWriter: &keys},
		"check":                         {Certificates: []tls.Certificate{first}, VerifyConnection: refuses},
		"fields for clients":            {Certificates: []tls.Certificate{second}, ServerName: "x", RootCAs: other.pool(), InsecureSkipVerify: true},
	} {
		t.Run(name, func(t *testing.T) {
			sameAsGo(t, func(version uint16) *tls.Config {
				keys.Reset()
				if chosen != nil {
					chosen = chosen.Clone()
					chosen.MaxVersion = version
				}
				return &tls.Config{Certificates: []tls.Certificate{first}, MaxVersion: version, NextProtos: []string{"a"},
					GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }}
			}, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"a", "b"}, Certificates: []tls.Certificate{ofClient}},
				func(s, c end) string {
					suite := s.state.CipherSuite
					if s.state.Version == tls.VersionTLS13 {
						suite = 0 // neither library lets a config decide
					} else if suite != tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 {
						suite = 1 // each has its own default
					}
					return fmt.Sprint(nameOf(c), " ok ", s.err == nil, " chains ", len(s.state.VerifiedChains), " protocol ", s.state.NegotiatedProtocol,
						" suite ", suite, " keys ", keys.Len() > 0, " refused ", errors.Is(s.err, errOfHook))
				})
		})
	}
	t.Run("error", func(t *testing.T) {
		sameAsGo(t, func(version uint16) *tls.Config {
			return &tls.Config{MaxVersion: version, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errOfHook }}
		}, &tls.Config{InsecureSkipVerify: true}, func(s, c end) string { return fmt.Sprint(errors.Is(s.err, errOfHook), c.err) })
	})
	t.Run("check of the first config", func(t *testing.T) { // the chosen config has none
		sameAsGo(t, func(version uint16) *tls.Config {
			chosen := &tls.Config{Certificates: []tls.Certificate{second}, MaxVersion: version}
			return &tls.Config{VerifyConnection: refuses, MaxVersion: version,
				GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }}
		}, &tls.Config{InsecureSkipVerify: true}, func(s, c end) string { return fmt.Sprint(nameOf(c), s.err == nil) })
	})
}

// TestChosenConfigIsRefused: a chosen config cannot change what libssl has read by then, and the
// error names the field.
func TestChosenConfigIsRefused(t *testing.T) {
	p := newPKI(t, "authority")
	certs := []tls.Certificate{p.cert(t, "server")}
	for field, chosen := range map[string]*tls.Config{
		"config.MinVersion":             {MinVersion: tls.VersionTLS13},
		"config.MaxVersion":             {MaxVersion: tls.VersionTLS12},
		"config.CurvePreferences":       {CurvePreferences: []tls.CurveID{tls.CurveP384}},
		"config.SessionTicketsDisabled": {SessionTicketsDisabled: true},
		"config.Time":                   {Time: time.Now},
		"config.ClientAuth":             {ClientAuth: tls.RequireAnyClientCert},
		"config.Certificates[0]":        {Certificates: []tls.Certificate{{}}},
	} {
		if chosen.Certificates == nil {
			chosen.Certificates = certs
		}
		s, c := meet(t, ofLibssl, ofGo, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }},
			&tls.Config{InsecureSkipVerify: true})
		isArgument(t, s.err, field)
		if c.err == nil {
			t.Errorf("%s: the client connects", field)
		}
	}
	same := &tls.Config{Certificates: certs, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13}
	s, _ := meet(t, ofLibssl, ofGo, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return same, nil }},
		&tls.Config{InsecureSkipVerify: true})
	must(t, s.err) // it says what 0 means
	bad := p.cert(t, "x")
	bad.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	s, _ = meet(t, ofLibssl, ofGo, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &bad, nil }},
		&tls.Config{InsecureSkipVerify: true})
	isArgument(t, s.err, "certificate.SupportedSignatureAlgorithms")
}

// TestChosenTrust: a session is not resumed under another trust, and is under the same one, whichever
// config has it.
func TestChosenTrust(t *testing.T) {
	p, other := newPKI(t, "authority"), newPKI(t, "other")
	both := p.pool()
	both.AddCert(other.ca.Cert)
	cert, ofClient := p.cert(t, "server"), p.cert(t, "client")
	eachVersion(t, func(t *testing.T, version uint16) {
		var chosen atomic.Pointer[tls.Config]
		serverConfig := &tls.Config{MaxVersion: version, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen.Load(), nil }}
		l, err := ofLibssl.listen(serverConfig)
		srv := serve(t, l, err)
		dial, stop, err := ofGo.dial(&tls.Config{RootCAs: p.pool(), ServerName: "localhost", Certificates: []tls.Certificate{ofClient},
			ClientSessionCache: tls.NewLRUClientSessionCache(1)})
		must(t, err)
		defer stop()
		asks := func(auth tls.ClientAuthType) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, ClientAuth: auth, ClientCAs: p.pool()}
		}
		widened := asks(tls.RequireAndVerifyClientCert)
		widened.ClientCAs = both
		for i, step := range []struct {
			config  *tls.Config
			resumes bool
		}{
			{asks(tls.RequireAndVerifyClientCert), false},
			{asks(tls.RequireAndVerifyClientCert), true}, // another config, with an equal pool
			{widened, false},
			{widened, true},
			{asks(tls.NoClientCert), false},
			{asks(tls.RequireAndVerifyClientCert), false},
		} {
			chosen.Store(step.config)
			s, c := srv.use(t, dial)
			if s.err != nil || c.err != nil || s.state.DidResume != step.resumes {
				t.Errorf("step %d: resumed %v, %v, %v", i, s.state.DidResume, s.err, c.err)
			}
			if asked := step.config.ClientAuth != tls.NoClientCert; (len(s.state.VerifiedChains) > 0) != asked {
				t.Errorf("step %d: the chains are %d", i, len(s.state.VerifiedChains))
			}
		}
	})
}

// TestMadeContexts: the contexts for what the hooks return are made once, are bounded, and are closed
// with the listener.
func TestMadeContexts(t *testing.T) {
	p := newPKI(t, "authority")
	certs := make([]tls.Certificate, 300)
	for i := range certs {
		certs[i] = p.cert(t, "server")
	}
	before := ossltest.CollectUntil(ossltest.LiveContexts, 0)
	var next atomic.Int64
	l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &certs[next.Load()%int64(len(certs))], nil
	}})
	srv := serve(t, l, err)
	dial, _, _ := ofGo.dial(&tls.Config{InsecureSkipVerify: true})
	for range 3 {
		s, _ := srv.use(t, dial)
		must(t, s.err)
	}
	if n := ossltest.LiveContexts(); n != before+2 {
		t.Errorf("%d contexts are alive after one certificate, want 2", n-before)
	}
	for range certs {
		next.Add(1)
		s, _ := srv.use(t, dial)
		must(t, s.err)
	}
	if n := ossltest.LiveContexts(); n != before+1+256 {
		t.Errorf("%d contexts are alive, want 257", n-before)
	}
	must(t, l.Close())
	if n := ossltest.CollectUntil(ossltest.LiveContexts, before); n != before {
		t.Errorf("%d contexts are alive after Close", n-before)
	}
}

// TestChoiceAfterClose: a handshake that began before Close of the listener goes on, and leaves no
// context behind.
func TestChoiceAfterClose(t *testing.T) {
	p := newPKI(t, "authority")
	cert := p.cert(t, "server")
	before := ossltest.CollectUntil(ossltest.LiveContexts, 0)
	asked, goOn := make(chan bool), make(chan bool)
	l, err := sslctx.ListenTLS("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked <- true
		<-goOn
		return &cert, nil
	}})
	srv := serve(t, l, err)
	dial, _, _ := ofGo.dial(&tls.Config{InsecureSkipVerify: true})
	var ends sync.WaitGroup
	ends.Go(func() {
		if s, c := srv.use(t, dial); s.err != nil || c.err != nil {
			t.Errorf("the ends have %v, %v", s.err, c.err)
		}
	})
	<-asked
	must(t, l.Close())
	close(goOn)
	ends.Wait()
	if n := ossltest.LiveContexts(); n > before { // without garbage collection
		t.Errorf("%d contexts are alive", n-before)
	}
}

// handshakeOf runs a server's handshake against a client of crypto/tls, and returns its error or what
// it panics with.
func handshakeOf(t *testing.T, ctx context.Context, config *tls.Config) (server *sslctx.Conn, done chan any) {
	t.Helper()
	c, err := sslctx.NewContextFromTLS(config)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	a, b := tlstest.TCPPair(t)
	server, err = sslctx.Server(a, c)
	must(t, err)
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = tls.Client(b, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}).Handshake() }()
	done = make(chan any, 1)
	go func() {
		var result any = "the goroutine ended"
		defer func() {
			if v := recover(); v != nil {
				result = v
			}
			done <- result
		}()
		result = server.HandshakeContext(ctx)
	}()
	return server, done
}

// hooksOf returns configs whose hook is run, for each of the hooks.
func hooksOf(t *testing.T, p pki, run func()) map[string]*tls.Config {
	certs := []tls.Certificate{p.cert(t, "server")}
	return map[string]*tls.Config{
		"GetConfigForClient": {Certificates: certs, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { run(); return nil, nil }},
		"GetCertificate":     {Certificates: certs, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { run(); return nil, nil }},
		"GetCertificate of the chosen": {Certificates: certs, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { run(); return &certs[0], nil }}, nil
		}},
		"VerifyConnection": {Certificates: certs, VerifyConnection: func(tls.ConnectionState) error { run(); return nil }},
	}
}

// TestHooksThatPanic: a panic, and Goexit, come out of the handshake. The connection has ended.
func TestHooksThatPanic(t *testing.T) {
	p := newPKI(t, "authority")
	for name, config := range hooksOf(t, p, func() { panic(errOfHook) }) {
		server, done := handshakeOf(t, context.Background(), config)
		if got := <-done; got != errOfHook {
			t.Errorf("%s: the handshake ends with %v", name, got)
		}
		if err := server.Handshake(); err == nil {
			t.Errorf("%s: the handshake goes on", name)
		}
	}
	for name, config := range hooksOf(t, p, runtime.Goexit) {
		if _, done := handshakeOf(t, context.Background(), config); <-done != "the goroutine ended" {
			t.Errorf("%s: Goexit does not end the goroutine", name)
		}
	}
}

// TestHooksThatWait: Close, a deadline and the context end the wait for a hook.
func TestHooksThatWait(t *testing.T) {
	p := newPKI(t, "authority")
	ends := map[string]func(c *sslctx.Conn, cancel func()){
		"Close":    func(c *sslctx.Conn, _ func()) { _ = c.Close() },
		"deadline": func(c *sslctx.Conn, _ func()) { _ = c.SetDeadline(time.Unix(1, 0)) },
		"context":  func(_ *sslctx.Conn, cancel func()) { cancel() },
	}
	for how, end := range ends {
		began, goOn := make(chan bool), make(chan bool)
		for name, config := range hooksOf(t, p, func() { began <- true; <-goOn }) {
			ctx, cancel := context.WithCancel(context.Background())
			server, done := handshakeOf(t, ctx, config)
			<-began
			end(server, cancel)
			if err, ok := (<-done).(error); !ok || err == nil {
				t.Errorf("%s, %s: the handshake ends with %v", name, how, err)
			}
			cancel()
			_ = server.Close()
		}
		close(goOn)
	}
}

// TestOddClientHello: a ClientHello that crypto/tls cannot read fails the handshake.
func TestOddClientHello(t *testing.T) {
	p := newPKI(t, "authority")
	c, err := sslctx.NewContextFromTLS(hooksOf(t, p, func() {})["GetCertificate"])
	must(t, err)
	defer c.Close()
	a, b := tlstest.TCPPair(t)
	server, err := sslctx.Server(a, c)
	must(t, err)
	defer server.Close()
	hello := helloOf(t)
	at := bytes.Index(hello, []byte("localhost"))
	hello[at+len("localhos")] = '.' // libssl takes a dot at the end
	_, err = b.Write(hello)
	must(t, err)
	if err = server.Handshake(); err == nil || !strings.Contains(err.Error(), "ClientHello") {
		t.Errorf("the handshake ends with %v", err)
	}
}

// helloOf returns the ClientHello of crypto/tls.
func helloOf(t *testing.T) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		_ = tls.Client(b, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}).Handshake()
		_ = b.Close()
	}()
	hello := make([]byte, 1<<14)
	n, err := a.Read(hello)
	must(t, err)
	return hello[:n]
}

// TestFleet: two servers of one config have the same ticket keys and the same ID context. Clients resume at both, with
// each certificate, and with a config that is chosen.
func TestFleet(t *testing.T) {
	p := newPKI(t, "authority")
	certs := []tls.Certificate{p.cert(t, "a", "a.test"), p.cert(t, "b", "b.test"), p.cert(t, "c", "c.test")}
	client := p.cert(t, "client")
	eachVersion(t, func(t *testing.T, version uint16) {
		var servers []*server
		var key sslctx.TicketKey
		for i := range 2 {
			config := &tls.Config{Certificates: certs, ClientCAs: p.pool(), ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: version}
			chosen := config.Clone()
			chosen.ClientAuth = tls.VerifyClientCertIfGiven
			config.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
				if info.ServerName == "b.test" {
					return chosen, nil
				}
				return nil, nil
			}
			c, err := sslctx.NewContextFromTLS(config)
			must(t, err)
			defer c.Close()
			if i == 0 {
				key, err = c.TicketKeys()
				must(t, err)
			}
			must(t, errors.Join(c.SetTicketKeys(key), c.SetIDContext([]byte("fleet"))))
			l, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
			servers = append(servers, serve(t, l, err))
		}
		for _, name := range []string{"a.test", "b.test", "c.test"} {
			dial, _, _ := ofGo.dial(&tls.Config{RootCAs: p.pool(), ServerName: name, Certificates: []tls.Certificate{client},
				ClientSessionCache: tls.NewLRUClientSessionCache(4)})
			for i := range 4 {
				s, c := servers[i%2].use(t, dial)
				if s.err != nil || c.err != nil || s.state.DidResume != (i > 0) {
					t.Errorf("%s, connection %d: %v, %v, resumed %v", name, i, s.err, c.err, s.state.DidResume)
				}
			}
		}
	})
}
