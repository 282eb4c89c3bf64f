// SPDX-License-Identifier: Apache-2.0

package clientcache_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// anyName lets a certificate be for the names of these tests.
func anyName(c *x509.Certificate) {
	c.DNSNames = []string{"localhost", "other.example"}
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
}

// A world has a server, a client that trusts it, and a cache with a session of it.
type world struct {
	root   *tlstest.Issued
	server *sslctx.Context
	client *sslctx.Context
	site   *site
	dialer sslctx.Dialer // whose connections resume
}

func newWorld(t *testing.T, v sslctx.Version) *world {
	t.Helper()
	w := &world{root: tlstest.Issue(t, "root", nil, tlstest.Authority)}
	host := tlstest.Issue(t, "host", w.root, anyName)
	e := tlstest.NewEndsWith(t, v, host.TLSCertificate())
	w.server, w.client = e.Server, e.Client
	must(t, w.server.SetIDContext([]byte("test")))
	must(t, w.client.TrustCertificate(w.root.Cert))
	for _, c := range []*sslctx.Context{w.server, w.client} {
		must(t, c.SetALPNProtos("one", "two"))
	}
	w.site = serve(t, w.server)
	w.dialer = sslctx.Dialer{Context: w.client, ServerName: "localhost", SessionCache: newCache(t, sslctx.ClientSessionCacheConfig{})}
	must(t, connect(t, &w.dialer, w.site.addr).Close())
	return w
}

// TestOfferedToNobodyElse: a session is offered only where everything is the same. After each change,
// the session is still there for the first Dialer.
func TestOfferedToNobodyElse(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world, d *sslctx.Dialer) (addr string){
		"name":     func(_ *testing.T, _ *world, d *sslctx.Dialer) string { d.ServerName = "other.example"; return "" },
		"address":  func(_ *testing.T, _ *world, d *sslctx.Dialer) string { d.ServerName = ""; return "" },
		"insecure": func(_ *testing.T, _ *world, d *sslctx.Dialer) string { d.InsecureSkipVerify = true; return "" },
		"port": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			return serve(t, w.server).addr
		},
		"session address": func(_ *testing.T, _ *world, d *sslctx.Dialer) string { d.SessionAddr = "localhost:1"; return "" },
		"certificate": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.UseCertificate(tlstest.Issue(t, "user", w.root, nil).TLSCertificate()))
			return ""
		},
		"protocols": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.SetALPNProtos("two"))
			return ""
		},
		"cipher suites": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.SetCipherList("ECDHE-ECDSA-AES256-GCM-SHA384"))
			must(t, w.client.SetCiphersuites("TLS_AES_256_GCM_SHA384"))
			return ""
		},
		"ID context": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.SetIDContext([]byte("another")))
			return ""
		},
		"record length": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.SetMaxFragmentLength(sslctx.MaxFragment1024))
			return ""
		},
		"options": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			_, err := w.client.SetOptions(opNoExtendedMasterSecret)
			must(t, err)
			return ""
		},
		"versions": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.SetMinProtoVersion(sslctx.VersionTLS11))
			return ""
		},
		"depth": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.SetVerifyDepth(2))
			return ""
		},
		"security level": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			must(t, w.client.SetSecurityLevel(0))
			return ""
		},
		"mode off": func(t *testing.T, w *world, _ *sslctx.Dialer) string {
			_, err := w.client.SetSessionCacheMode(sslctx.SessCacheOff)
			must(t, err)
			return ""
		},
		"context that trusts another root": func(t *testing.T, w *world, d *sslctx.Dialer) string {
			w.root = tlstest.Issue(t, "another root", nil, tlstest.Authority)
			must(t, w.server.UseCertificate(tlstest.Issue(t, "host", w.root, anyName).TLSCertificate()))
			d.Context = tlstest.NewContext(t, sslctx.TLSClientMethod)
			must(t, d.Context.SetALPNProtos("one", "two"))
			must(t, d.Context.TrustCertificate(w.root.Cert))
			return ""
		},
		"trust that is gone": func(t *testing.T, w *world, d *sslctx.Dialer) string {
			w.root = tlstest.Issue(t, "another root", nil, tlstest.Authority)
			must(t, w.server.UseCertificate(tlstest.Issue(t, "host", w.root, anyName).TLSCertificate()))
			must(t, w.client.TrustCertPool(tlstest.PoolOf(w.root)))
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
				w := newWorld(t, v)
				if name == "trust that is gone" { // the Context trusted a pool only
					w.client = tlstest.NewContext(t, sslctx.TLSClientMethod)
					must(t, w.client.SetALPNProtos("one", "two"))
					must(t, w.client.TrustCertPool(tlstest.PoolOf(w.root)))
					w.dialer.Context = w.client
					must(t, connect(t, &w.dialer, w.site.addr).Close())
				}
				d := w.dialer
				addr := change(t, w, &d)
				if addr == "" {
					addr = w.site.addr
				}
				before := w.dialer.SessionCache.Stats().Offered
				c := connect(t, &d, addr)
				if c.SessionReused() {
					t.Error("the connection resumes")
				}
				must(t, c.Close())
				if offered := w.dialer.SessionCache.Stats().Offered; offered != before {
					t.Error("a session is offered")
				}
			})
		})
	}
}

// SSL_OP_NO_EXTENDED_MASTER_SECRET: the binding has no name for it.
const opNoExtendedMasterSecret sslctx.Option = 1

// A meanwhile is a context that calls a function when somebody looks whether it ends.
type meanwhile struct {
	context.Context
	call func()
}

func (m meanwhile) Done() <-chan struct{} {
	m.call()
	return m.Context.Done()
}

// TestConfiguredMeanwhile: the Context is configured when a connection has been made and not begun. The
// connection goes by what libssl has copied. So its session is offered to no later connection, whose
// certificate or trust is another.
func TestConfiguredMeanwhile(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world){
		"certificate": func(t *testing.T, w *world) {
			must(t, w.client.UseCertificate(tlstest.Issue(t, "user", w.root, nil).TLSCertificate()))
		},
		"trust": func(t *testing.T, w *world) {
			file := filepath.Join(t.TempDir(), "ca.pem")
			must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.root.Cert.Raw}), 0o600))
			must(t, w.client.Configure("VerifyCAFile", file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
				w := newWorld(t, v)
				w.dialer.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{})
				raw, err := net.Dial("tcp", w.site.addr)
				must(t, err)
				configure := sync.OnceFunc(func() { change(t, w) })
				c, err := w.dialer.ClientContext(meanwhile{t.Context(), configure}, raw, w.site.addr)
				must(t, err)
				must(t, use(c))
				must(t, c.Close())
				for i, want := range []bool{false, true} {
					c := connect(t, &w.dialer, w.site.addr)
					if c.SessionReused() != want {
						t.Errorf("connection %d resumes: %v", i, c.SessionReused())
					}
					must(t, c.Close())
				}
			})
		})
	}
}

// TestNoName: a connection has neither a name nor an address. It uses no cache: the session could be
// anybody's.
func TestNoName(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS13)
	d := sslctx.Dialer{Context: w.client, InsecureSkipVerify: true, SessionCache: newCache(t, sslctx.ClientSessionCacheConfig{})}
	for range 2 {
		raw, err := net.Dial("tcp", w.site.addr)
		must(t, err)
		c, err := d.ClientContext(t.Context(), raw, "")
		must(t, err)
		must(t, use(c))
		if c.SessionReused() {
			t.Error("the connection resumes")
		}
		must(t, c.Close())
	}
}

// TestTwoCertificates: a client has certificates for two kinds of keys. When either of them changes, its
// sessions are not offered.
func TestTwoCertificates(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS13)
	last := tlstest.Issue(t, "last", w.root, nil).TLSCertificate()
	withRSA := func(name string) *sslctx.Conn {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		must(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, w.root.Cert, key.Public(), w.root.Key)
		must(t, err)
		must(t, w.client.UseCertificate(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}))
		must(t, w.client.UseCertificate(last))
		c := connect(t, &w.dialer, w.site.addr)
		must(t, c.Close())
		return c
	}
	withRSA("alice")
	if c := connect(t, &w.dialer, w.site.addr); !c.SessionReused() || c.Close() != nil {
		t.Error("the same client does not resume")
	}
	if withRSA("bob").SessionReused() {
		t.Error("another client resumes")
	}
	must(t, w.client.UseCertificate(tlstest.Issue(t, "another", w.root, nil).TLSCertificate()))
	if c := connect(t, &w.dialer, w.site.addr); c.SessionReused() || c.Close() != nil {
		t.Error("a third client resumes")
	}
}

// TestUnknownIdentity: two Contexts have a hook for the client's pre-shared keys. Neither offers the sessions
// of the other, nor does another run.
func TestUnknownIdentity(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newWorld(t, v)
		var alice, bob *sslctx.Dialer
		for _, d := range []**sslctx.Dialer{&alice, &bob} {
			c := tlstest.NewContext(t, sslctx.TLSClientMethod)
			must(t, c.SetMaxProtoVersion(v))
			must(t, c.TrustCertificate(w.root.Cert))
			must(t, c.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) { return nil, nil }))
			*d = &sslctx.Dialer{Context: c, ServerName: "localhost", SessionCache: w.dialer.SessionCache}
		}
		for i, row := range []struct {
			d    *sslctx.Dialer
			want bool
		}{{alice, false}, {bob, false}, {alice, true}, {bob, true}} {
			c := connect(t, row.d, w.site.addr)
			if c.SessionReused() != row.want {
				t.Errorf("connection %d resumes: %v", i, c.SessionReused())
			}
			must(t, c.Close())
		}
	})
}

// TestHookReplaced: a Context gets another hook for pre-shared keys, and so another identity. It does not offer the
// sessions of the one before.
func TestHookReplaced(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newWorld(t, v)
		replace := func() {
			must(t, w.client.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) { return nil, nil }))
		}
		for i, want := range []bool{false, true, false, true} {
			if !want {
				replace()
			}
			c := connect(t, &w.dialer, w.site.addr)
			if c.SessionReused() != want {
				t.Errorf("connection %d resumes: %v", i, c.SessionReused())
			}
			must(t, c.Close())
		}
	})
}

// TestSessionOfTheCaller: a Dialer has a Session, which may be of another identity. What a connection gets that
// resumes it is not kept, and what it gets after a full handshake is.
func TestSessionOfTheCaller(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newWorld(t, v)
		w.dialer.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{})
		first := connect(t, &sslctx.Dialer{Context: w.client, ServerName: "localhost"}, w.site.addr)
		s := tlstest.SessionOf(t, first)
		must(t, first.Close())
		for i, row := range []struct {
			session       *sslctx.Session
			resumes, kept bool
		}{{s, true, false}, {nil, false, true}, {nil, true, true}} {
			w.dialer.Session = row.session
			c := connect(t, &w.dialer, w.site.addr)
			if c.SessionReused() != row.resumes {
				t.Errorf("connection %d resumes: %v", i, c.SessionReused())
			}
			must(t, c.Close())
			if n := w.dialer.SessionCache.Stats().Sessions; (n > 0) != row.kept {
				t.Errorf("after connection %d there are %d sessions", i, n)
			}
		}
	})
}

// TestServerGone: a server ends the transport when a client offers a session. The client does not offer it
// again.
func TestServerGone(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS12)
	serverEnd, clientEnd := tlstest.Wire()
	must(t, serverEnd.Close())
	if _, err := w.dialer.ClientContext(t.Context(), clientEnd, w.site.addr); err == nil {
		t.Error("the handshake succeeds")
	}
	if now := w.dialer.SessionCache.Stats(); now.Sessions != 0 || now.Offered != 1 {
		t.Errorf("%+v", now)
	}
}

// TestOfferedAgain: the same Dialer, a copy of it, another Context with the same trust, and another
// port under one SessionAddr resume.
func TestOfferedAgain(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newWorld(t, v)
		other := tlstest.NewContext(t, sslctx.TLSClientMethod)
		must(t, other.SetMinProtoVersion(v))
		must(t, other.SetMaxProtoVersion(v))
		must(t, other.SetALPNProtos("one", "two"))
		must(t, other.TrustCertificate(w.root.Cert))
		data := serve(t, w.server)
		for name, row := range map[string]struct {
			d    sslctx.Dialer
			addr string
		}{
			"same":          {w.dialer, w.site.addr},
			"other context": {sslctx.Dialer{Context: other, ServerName: "localhost", SessionCache: w.dialer.SessionCache}, w.site.addr},
			"other port": {sslctx.Dialer{Context: w.client, ServerName: "localhost", SessionCache: w.dialer.SessionCache,
				SessionAddr: w.site.addr}, data.addr},
		} {
			c := connect(t, &row.d, row.addr)
			if !c.SessionReused() {
				t.Errorf("%s: the connection does not resume", name)
			}
			if state := c.ConnectionState(); len(state.VerifiedChains) != 1 || len(state.VerifiedChains[0]) != 2 {
				t.Errorf("%s: the chain is %v", name, state.VerifiedChains)
			}
			must(t, c.Close())
		}
	})
}

// TestOwnSession: a Dialer's Session is offered in place of the cache's.
func TestOwnSession(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS13)
	c := connect(t, &w.dialer, w.site.addr)
	s := tlstest.SessionOf(t, c)
	must(t, c.Close())
	before := w.dialer.SessionCache.Stats()
	d := w.dialer
	d.Session = s
	c = connect(t, &d, w.site.addr)
	if !c.SessionReused() {
		t.Error("the connection does not resume")
	}
	must(t, c.Close())
	if now := w.dialer.SessionCache.Stats(); now.Offered != before.Offered || now.Kept != before.Kept {
		t.Errorf("%+v, and before %+v", now, before)
	}
}

// TestOfferedOnce: a server sends two tickets of TLS 1.3. Of the connections that begin at the same time two
// resume.
func TestOfferedOnce(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS13)
	resumed := 0
	for range 4 {
		c, err := w.dialer.Dial("tcp", w.site.addr)
		must(t, err)
		defer c.Close()
		if c.(*sslctx.Conn).SessionReused() {
			resumed++
		}
	}
	if resumed != 2 {
		t.Errorf("%d connections resume", resumed)
	}
	if _, _, most := w.site.counts(); most > 1 {
		t.Errorf("a session is offered %d times", most)
	}
}

// TestCloseTakesTickets: the application never reads. Close takes the tickets that have arrived.
func TestCloseTakesTickets(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	s := serve(t, e.Server)
	cache := newCache(t, sslctx.ClientSessionCacheConfig{})
	d := &sslctx.Dialer{Context: e.Client, ServerName: "localhost", SessionCache: cache}
	for i, writes := range []bool{false, true, false} {
		c, err := d.Dial("tcp", s.addr)
		must(t, err)
		if got := c.(*sslctx.Conn).SessionReused(); got != (i > 0) {
			t.Errorf("connection %d resumes: %v", i, got)
		}
		if writes {
			_, err := c.Write([]byte{'?'})
			must(t, err)
		}
		awaitInput(t, c.(*sslctx.Conn))
		must(t, c.Close())
		if n := cache.Stats().Sessions; n == 0 {
			t.Errorf("connection %d leaves no session", i)
		}
	}
}

// awaitInput waits until the server's tickets lie in the socket.
func awaitInput(t *testing.T, c *sslctx.Conn) {
	t.Helper()
	raw, err := c.NetConn().(*net.TCPConn).SyscallConn()
	must(t, err)
	must(t, raw.Read(func(fd uintptr) bool { return hasInput(fd) }))
}

// TestDeclined: a server of TLS 1.2 that declines a session is not offered it again. One of TLS 1.3
// gets another.
func TestDeclined(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newWorld(t, v)
		other := tlstest.NewContext(t, sslctx.TLSServerMethod) // has other ticket keys
		fresh, err := other.TicketKeys()
		must(t, err)
		must(t, w.server.SetTicketKeys(fresh))
		c := connect(t, &w.dialer, w.site.addr)
		if c.SessionReused() {
			t.Error("the connection resumes")
		}
		must(t, c.Close())
		now := w.dialer.SessionCache.Stats()
		if now.Declined != 1 || now.Resumed != 0 {
			t.Errorf("%+v", now)
		}
		c = connect(t, &w.dialer, w.site.addr)
		must(t, c.Close())
		if !c.SessionReused() {
			t.Error("the new session does not resume")
		}
	})
}

// TestFailedHandshake: a handshake that offered a session fails. The server's sessions are dropped, so
// that the next handshake is a full one.
func TestFailedHandshake(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newWorld(t, v)
		must(t, w.server.SetIDContext([]byte("another"))) // no failure yet: the tickets have the other
		must(t, w.server.SetClientHelloCallback(func(ctx clientHelloCtx, _ *tls.ClientHelloInfo) (*sslctx.Context, error) {
			return nil, tls.AlertError(40)
		}))
		_, err := w.dialer.Dial("tcp", w.site.addr)
		var failed *sslctx.Error
		if !errors.As(err, &failed) {
			t.Fatalf("Dial returns %v", err)
		}
		if n := w.dialer.SessionCache.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// TestBadEnds: a connection that ends badly marks nobody else's session.
func TestBadEnds(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS12)
	first, second := connect(t, &w.dialer, w.site.addr), connect(t, &w.dialer, w.site.addr)
	must(t, first.NetConn().Close())
	_, err := first.Read(make([]byte, 1))
	if err == nil {
		t.Error("Read of a closed transport succeeds")
	}
	_ = first.Close()
	if s := tlstest.SessionOf(t, second); !s.IsResumable() {
		t.Error("another connection's session is marked")
	}
	must(t, second.Close())
	third := connect(t, &w.dialer, w.site.addr)
	if !third.SessionReused() {
		t.Error("the next connection does not resume")
	}
	must(t, third.Close())
}

// TestExpired: a session whose time is over is not offered.
func TestExpired(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		pair, err := testcert.New()
		must(t, err)
		e := tlstest.NewEndsWith(t, v, certificateOf(t, pair))
		must(t, e.Client.TrustCertificates(pair.Cert))
		_, err = e.Server.SetTimeout(time.Second) // the server tells the client
		must(t, err)
		s := serve(t, e.Server)
		cache := newCache(t, sslctx.ClientSessionCacheConfig{})
		d := &sslctx.Dialer{Context: e.Client, ServerName: "localhost", SessionCache: cache}
		must(t, connect(t, d, s.addr).Close())
		kept := cache.Stats().Sessions
		time.Sleep(1100 * time.Millisecond)
		must(t, connect(t, d, s.addr).Close())
		now := cache.Stats()
		if kept == 0 || now.Offered != 0 || int(now.Expired) != kept {
			t.Errorf("%d were kept: %+v", kept, now)
		}
	})
}

// TestLimits: the cache keeps no more servers, sessions and bytes than it may. The server that was used
// last stays.
func TestLimits(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS13)
	must(t, e.Server.SetNumTickets(9))
	s := serve(t, e.Server)
	for name, row := range map[string]struct {
		config            sslctx.ClientSessionCacheConfig
		servers, sessions int
	}{
		"servers": {sslctx.ClientSessionCacheConfig{MaxServers: 2, TicketsPerServer: 3}, 2, 6},
		"bytes":   {sslctx.ClientSessionCacheConfig{MaxBytes: 6000, TicketsPerServer: 2}, 0, 0},
		"tickets": {sslctx.ClientSessionCacheConfig{}, 5, 20},
		"no room": {sslctx.ClientSessionCacheConfig{MaxBytes: 1}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cache := newCache(t, row.config)
			var last *sslctx.Dialer
			for _, addr := range []string{"a:1", "b:2", "c:3", "d:4", "e:5"} {
				last = &sslctx.Dialer{Context: e.Client, ServerName: "localhost", SessionCache: cache, SessionAddr: addr}
				must(t, connect(t, last, s.addr).Close())
			}
			now := cache.Stats()
			if row.servers > 0 && (now.Servers != row.servers || now.Sessions != row.sessions) || row.config.MaxBytes > 0 && now.Bytes > row.config.MaxBytes {
				t.Errorf("%+v", now)
			}
			c := connect(t, last, s.addr)
			if c.SessionReused() != (name != "no room") {
				t.Errorf("the last server's session is there: %v", c.SessionReused())
			}
			must(t, c.Close())
			full := *last
			full.Session = tlstest.NewSession(t, "none")
			must(t, connect(t, &full, s.addr).Close())
			if now := cache.Stats(); row.servers > 0 && now.Sessions != row.sessions {
				t.Errorf("after two more connections: %+v", now)
			}
			cache.Clear()
			if now := cache.Stats(); now.Servers != 0 || now.Sessions != 0 || now.Bytes != 0 {
				t.Errorf("after Clear: %+v", now)
			}
		})
	}
}

// TestRefusedConfig: a limit below 0 is refused, and the error names it.
func TestRefusedConfig(t *testing.T) {
	for arg, config := range map[string]sslctx.ClientSessionCacheConfig{
		"TicketsPerServer": {TicketsPerServer: -1}, "MaxServers": {MaxServers: -1}, "MaxBytes": {MaxBytes: -1}, "StoreTimeout": {StoreTimeout: -1},
	} {
		_, err := sslctx.NewClientSessionCache(config)
		tlstest.WantArgument(t, err, arg)
	}
}

// TestRecent: when there is no room, the server that was used last stays, and not the one that came last.
func TestRecent(t *testing.T) {
	e := tlstest.NewEnds(t, sslctx.VersionTLS12)
	s := serve(t, e.Server)
	cache := newCache(t, sslctx.ClientSessionCacheConfig{MaxServers: 2})
	resumes := func(addr string) bool {
		c := connect(t, &sslctx.Dialer{Context: e.Client, ServerName: "localhost", SessionCache: cache, SessionAddr: addr}, s.addr)
		defer c.Close()
		return c.SessionReused()
	}
	for _, row := range []struct {
		addr string
		want bool
	}{{"a:1", false}, {"a:2", false}, {"a:1", true}, {"a:3", false}, {"a:1", true}, {"a:2", false}} {
		if got := resumes(row.addr); got != row.want {
			t.Errorf("%s resumes: %v", row.addr, got)
		}
	}
}

// TestOneSessionOfTLS12: a server of TLS 1.2 has one session in the cache, whatever it renews.
func TestOneSessionOfTLS12(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS12)
	for range 3 {
		d := w.dialer
		d.Session = tlstest.NewSession(t, "none") // a full handshake makes another session
		must(t, connect(t, &d, w.site.addr).Close())
	}
	if now := w.dialer.SessionCache.Stats(); now.Sessions != 1 || now.Kept != 4 {
		t.Errorf("%+v", now)
	}
}

// TestModeOff: a Context whose mode is off neither offers nor keeps sessions.
func TestModeOff(t *testing.T) {
	w := newWorld(t, sslctx.VersionTLS13)
	_, err := w.client.SetSessionCacheMode(sslctx.SessCacheOff)
	must(t, err)
	before := w.dialer.SessionCache.Stats()
	c := connect(t, &w.dialer, w.site.addr)
	must(t, c.Close())
	if now := w.dialer.SessionCache.Stats(); c.SessionReused() || now != before {
		t.Errorf("%+v, and before %+v", now, before)
	}
}

// TestConstraintRunsOnce: the Context that verified a server does not verify it again when it resumes.
func TestConstraintRunsOnce(t *testing.T) {
	tlstest.EachVersion(t, func(t *testing.T, v sslctx.Version) {
		w := newWorld(t, v)
		var ran atomic.Int32
		pool := x509.NewCertPool()
		pool.AddCertWithConstraint(w.root.Cert, func([]*x509.Certificate) error { ran.Add(1); return nil })
		client := tlstest.NewContext(t, sslctx.TLSClientMethod)
		must(t, client.SetMaxProtoVersion(v))
		must(t, client.TrustCertPool(pool))
		d := sslctx.Dialer{Context: client, ServerName: "localhost", SessionCache: w.dialer.SessionCache}
		for i := range 3 {
			c := connect(t, &d, w.site.addr)
			if c.SessionReused() != (i > 0) {
				t.Errorf("connection %d resumes: %v", i, c.SessionReused())
			}
			must(t, c.Close())
		}
		if n := ran.Load(); n != 1 {
			t.Errorf("the constraint runs %d times", n)
		}
	})
}

// TestOwnersCallback: other code has an info callback on the SSL_CTX. It runs as before.
func TestOwnersCallback(t *testing.T) {
	owner := ossltest.NewCtx()
	defer owner.Free()
	owner.Theirs(ossltest.Info)
	client, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	must(t, err)
	defer client.Close()
	w := newWorld(t, sslctx.VersionTLS13)
	must(t, client.TrustCertificate(w.root.Cert))
	d := sslctx.Dialer{Context: client, ServerName: "localhost"}
	calls := func(resumes bool) int {
		ossltest.Calls(ossltest.Info)
		c := connect(t, &d, w.site.addr)
		n := ossltest.Calls(ossltest.Info) // before the peer's close_notify, which may come or not
		must(t, c.Close())
		if c.SessionReused() != resumes {
			t.Errorf("the connection resumes: %v", c.SessionReused())
		}
		return n
	}
	without := calls(false)
	d.SessionCache = newCache(t, sslctx.ClientSessionCacheConfig{})
	with := calls(false)
	if without == 0 || with != without || calls(true) == 0 {
		t.Errorf("the callback runs %d times, and %d times with a cache", without, with)
	}
}
