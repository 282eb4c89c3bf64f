// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os/exec"
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
)

// TestNamesLikeCryptoTLS asks servers by names, and has a client of crypto/tls ask the same: what it takes we take, and
// what it refuses we refuse. Where we refuse more, the table says so.
func TestNamesLikeCryptoTLS(t *testing.T) {
	root := issue(t, "root", nil, authority)
	pool := poolOf(root)
	// A certificate's names, as they stand in it; the first word is its common name.
	for _, test := range []struct {
		common    string
		names     []string
		addresses []string
		good, bad []string // what may be asked for, and not
		strict    []string // what we refuse beyond crypto/tls
	}{
		{common: "x", names: []string{"www.example.com"},
			good: []string{"www.example.com", "WWW.Example.COM", "www.example.com."},
			bad: []string{"example.com", "x.example.com", "www.example.com..", ".www.example.com", ".example.com", ".com",
				"www..example.com", "www.example.com:443", "[www.example.com]", "*.example.com", "www.example.co"}},
		{common: "x", names: []string{"*.example.com"},
			good:   []string{"www.example.com", "xn--bcher-kva.example.com", "WWW.example.com.", "a-b.example.com"},
			bad:    []string{"example.com", "a.b.example.com", ".example.com", "www.example.org"},
			strict: []string{"a_b.example.com"}},
		{common: "x", names: []string{"www*.example.com", "*w.example.org", "a*z.example.net"},
			bad: []string{"www1.example.com", "www.example.com", "w.example.org", "xw.example.org", "abz.example.net"}},
		{common: "x", names: []string{"www.*.com", "*.*.org"}, bad: []string{"www.example.com", "www.example.org"}},
		{common: "x", names: []string{"*.com", "*"}, bad: []string{"www.example.org", "localhost"}, strict: []string{"example.com"}},
		{common: "www.example.com", bad: []string{"www.example.com"}},
		{common: "www.example.com", names: []string{"other.example.com"}, good: []string{"other.example.com"},
			bad: []string{"www.example.com"}},
		{common: "10.0.0.1", addresses: []string{"10.0.0.2"}, bad: []string{"10.0.0.1"},
			good: []string{"10.0.0.2"}},
		{common: "x", names: []string{"under_score.example.com"}, good: []string{"under_score.example.com"}},
		{common: "x", names: []string{"10.0.0.1"}, bad: []string{"10.0.0.1"}}, // an address as a name
		{common: "x", addresses: []string{"127.0.0.1", "::1", "fe80::1"},
			good: []string{"127.0.0.1", "::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "fe80::1"},
			bad:  []string{"127.0.0.2", "::2", "127.0.0.1.", "127.1", "1.0.0.127", "127.0.0.1.example.com"}},
	} {
		cert := issue(t, test.common, root, func(c *x509.Certificate) {
			c.DNSNames = test.names
			for _, a := range test.addresses {
				c.IPAddresses = append(c.IPAddresses, net.ParseIP(a))
			}
		})
		e := bare(t, sslctx.VersionTLS13, cert.TLSCertificate())
		must(t, e.client.TrustCertificate(root.Cert))
		addr := serve(t, e.server)
		for want, names := range map[string][]string{"good": test.good, "bad": test.bad, "strict": test.strict} {
			for _, name := range names {
				theirs, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: name})
				if err == nil {
					must(t, theirs.Close())
				}
				if (err == nil) != (want != "bad") {
					t.Errorf("%v %v: crypto/tls says of %q: %v", test.names, test.addresses, name, err)
				}
				ours, err := (&sslctx.Dialer{Context: e.client, ServerName: name}).Dial("tcp", addr)
				if err == nil {
					must(t, ours.Close())
				}
				if (err == nil) != (want == "good") {
					t.Errorf("%v %v: we say of %q: %v", test.names, test.addresses, name, err)
				}
			}
		}
	}
}

// TestNameThatIsSent: of a name the server is sent what crypto/tls sends, and of what is no name nothing.
func TestNameThatIsSent(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	must(t, e.client.SetVerify(sslctx.VerifyNone))
	for name, want := range map[string]string{"www.example.com": "www.example.com", "www.example.com.": "www.example.com",
		"127.0.0.1": "", "::1": "", "[::1]": "", "fe80::1%lo": "", "[fe80::1%lo]": ""} {
		s, c := tcpPair(t)
		server, client := e.over(t, s, c, nil)
		must(t, client.SetServerName(name))
		serverErr, clientErr := greet(server, client)
		must(t, serverErr)
		must(t, clientErr)
		if got := server.ConnectionState().ServerName; got != want {
			t.Errorf("%q: the server is asked for %q, want %q", name, got, want)
		}
		if got := client.ConnectionState().ServerName; got != want {
			t.Errorf("%q: the client says %q, want %q", name, got, want)
		}
	}
	s, c := tcpPair(t)
	_, client := e.over(t, s, c, nil)
	for _, name := range []string{"", ".", "..", ".x", "x..", "x..y", "[]", "[x]", "[x", "a\x00b"} {
		if err := client.SetServerName(name); name == "[x" && ossltest.CompiledVersion() < 0x40000000 {
			must(t, err) // it is only a name that nobody has
		} else {
			wantArgument(t, err, "name")
		}
	}
}

// TestDialWithZone: an address of IPv6 may have a zone, which no certificate has.
func TestDialWithZone(t *testing.T) {
	root := issue(t, "root", nil, authority)
	e := bare(t, sslctx.VersionTLS13, issue(t, "host", root, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv6loopback}
	}).TLSCertificate())
	must(t, e.client.TrustCertificate(root.Cert))
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("there is no IPv6 here:", err)
	}
	defer l.Close()
	loopback, err := net.InterfaceByIndex(1)
	if err != nil {
		t.Skip(err)
	}
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			if c, err := sslctx.Server(raw, e.server); err == nil {
				_ = c.Handshake()
				_ = c.Close()
			}
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	for _, host := range []string{"::1", "::1%" + loopback.Name} {
		c, err := sslctx.Dial("tcp", net.JoinHostPort(host, port), e.client)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		must(t, c.Close())
	}
}

// TestNameOfResumedServer: a server knows the name that the client asks for, also when it resumes a session, and when the
// session was made for another.
func TestNameOfResumedServer(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, hook := range []bool{false, true} {
			for _, ticket := range []bool{false, true} {
				noQueue(t)
				e := newEnds(t, v)
				must(t, e.client.SetVerify(sslctx.VerifyNone))
				if !ticket {
					_, err := e.server.SetOptions(sslctx.OpNoTicket)
					must(t, err)
				}
				if hook {
					must(t, e.server.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil }))
				}
				var offer *sslctx.Session
				for i, name := range []string{"one.example", "one.example", "two.example", ""} {
					s, c := tcpPair(t)
					server, client := e.over(t, s, c, offer)
					if name != "" {
						must(t, client.SetServerName(name))
					}
					serverErr, clientErr := greet(server, client)
					must(t, serverErr)
					must(t, clientErr)
					state := server.ConnectionState()
					if state.DidResume != (i > 0) || state.ServerName != name {
						t.Errorf("hook %v, ticket %v: resumed is %v, and the client asked for %q, not %q",
							hook, ticket, state.DidResume, state.ServerName, name)
					}
					offer = sessionOf(t, client)
				}
			}
		}
	})
}

// TestNameWithDot: a client asks for a name that ends in a dot. The hook for the ClientHello and the server's
// ConnectionState have it without the dot. So has that of a server on an SSL_CTX of other code, which asks libssl.
func TestNameWithDot(t *testing.T) {
	eachVersion(t, func(t *testing.T, v sslctx.Version) {
		for _, kind := range []string{"plain", "hook", "foreign"} {
			noQueue(t)
			e := newEnds(t, v)
			if kind == "foreign" {
				owner := ossltest.NewCtx()
				defer owner.Free()
				var err error
				e.server, err = sslctx.ContextFromPointer(owner.Pointer(), nil)
				must(t, err)
				defer e.server.Close()
				pair := testPair(t)
				must(t, e.server.UseKeyPair(pair.Cert, pair.Key))
				must(t, e.server.SetMaxProtoVersion(v))
			}
			asked := make(chan string, 1)
			if kind == "hook" {
				must(t, e.server.SetClientHelloCallback(func(_ context.Context, h *tls.ClientHelloInfo) (*sslctx.Context, error) {
					asked <- h.ServerName
					return nil, nil
				}))
			} else {
				asked <- "localhost"
			}
			l, err := sslctx.Listen("tcp", "127.0.0.1:0", e.server)
			must(t, err)
			defer l.Close()
			state := make(chan tls.ConnectionState, 1)
			go func() {
				defer close(state)
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if _, err := c.Write([]byte("greeting")); err != nil {
					t.Errorf("Write returns %v", err)
				}
				state <- c.(*sslctx.Conn).ConnectionState()
			}()
			out, _ := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-ign_eof", "-servername", "localhost.").Output()
			if !bytes.Contains(out, []byte("greeting")) {
				t.Fatalf("s_client prints\n%s", out)
			}
			if got, told := (<-state).ServerName, <-asked; got != "localhost" || told != "localhost" {
				t.Errorf("%s: ConnectionState has %q, the hook %q", kind, got, told)
			}
		}
	})
}
