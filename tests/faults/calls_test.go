// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// failingElsewhere has the functions that call C and have no row here, with the reason.
var failingElsewhere = map[string]string{
	"Conn.HandshakeContext":       "TestFailingHandshakes",
	"Conn.HandshakeReadEarlyData": "TestFailingHandshakes, of ReadEarlyData and HandshakeContext, which it is made of",
	"Conn.ReadEarlyData":          "TestFailingHandshakes",
	"Conn.WriteEarlyData":         "TestFailingHandshakes",
	"Dialer.ClientContext":        "Client, by which it makes its SSL, and TestFailingHandshakes",
	"Dialer.Client":               "Client, by which it makes its SSL, and TestFailingHandshakes",
}

var failingPair = sync.OnceValue(func() testcert.Pair {
	pair, err := testcert.New()
	if err != nil {
		panic(err)
	}
	return pair
})

// sameTicketKey returns a key that is the same in each run.
func sameTicketKey(b byte) sslctx.TicketKey {
	key, err := sslctx.ParseTicketKey(bytes.Repeat([]byte{b}, sslctx.TicketKeySize))
	if err != nil {
		panic(err)
	}
	return key
}

// failingContext makes a context with all settings of a server and two sessions in its cache. It
// returns one of these.
func failingContext(t *testing.T) (c *sslctx.Context, s *sslctx.Session, done func()) {
	c, err := sslctx.NewContext(sslctx.TLSMethod)
	tlstest.Must(t, err)
	tlstest.Must(t, c.UseKeyPair(failingPair().Cert, failingPair().Key))
	tlstest.Must(t, c.SetTicketKeys(sameTicketKey(7)))
	cached, s := failingSession(t, "in the cache"), failingSession(t, "cached, too")
	tlstest.AddSession(t, c, cached)
	tlstest.AddSession(t, c, s)
	tlstest.Must(t, cached.Close())
	return c, s, func() { tlstest.Must(t, s.Close()); tlstest.Must(t, c.Close()) }
}

// failingConfig has each field that reaches libssl.
func failingConfig(t *testing.T) *tls.Config {
	cert, err := tls.X509KeyPair(failingPair().Cert, failingPair().Key)
	tlstest.Must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(failingPair().Cert)
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		NextProtos: []string{"a"}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, CurvePreferences: []tls.CurveID{tls.CurveP256},
		SessionTicketsDisabled: true, KeyLogWriter: io.Discard, VerifyConnection: func(tls.ConnectionState) error { return nil },
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
}

// failingSession makes a session with every attribute.
func failingSession(t *testing.T, id string) *sslctx.Session {
	s, err := sslctx.NewSession()
	tlstest.Must(t, err)
	tlstest.Must(t, s.SetID([]byte(id)))
	tlstest.Must(t, s.SetIDContext([]byte("context")))
	tlstest.Must(t, s.SetProtocolVersion(sslctx.VersionTLS12))
	tlstest.Must(t, s.SetCipher(sslctx.Cipher{ID: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}))
	tlstest.Must(t, s.SetMasterKey(bytes.Repeat([]byte{1}, 48)))
	tlstest.Must(t, s.SetHostname("before.example"))
	tlstest.Must(t, s.SetALPNSelected("before"))
	tlstest.Must(t, s.SetTicketAppData([]byte("before")))
	tlstest.Must(t, s.SetTime(time.Unix(1e9, 0)))
	tlstest.Must(t, s.SetTimeout(100*365*24*time.Hour))
	tlstest.Must(t, s.SetExData(failingKey{}, "before"))
	return s
}

type failingKey struct{}

func contextGetters() map[string]failing {
	return getters("Context", func(t *testing.T) (any, func()) {
		c, _, done := failingContext(t)
		return c, done
	}, "Close", "Sessions", "SetDefaultVerifyPaths", "String", "GoString")
}

func sessionGetters() map[string]failing {
	return getters("Session", func(t *testing.T) (any, func()) {
		s := failingSession(t, "id")
		return s, func() { tlstest.Must(t, s.Close()) }
	}, "Close", "Dup", "PeerCertificate", "PeerRawPublicKey")
}

func failingCalls(t *testing.T) map[string]failing {
	ofContext, ofSession, ofConn := contextGetters(), sessionGetters(), connGetters()
	calls := maps.Clone(ofContext)
	maps.Copy(calls, ofSession)
	maps.Copy(calls, ofConn)
	for name := range calls { // only functions that call C matter
		if slices.Contains([]string{"MarshalBinary", "MarshalText", "MarshalJSON", "GoString", "NetConn", "LocalAddr", "RemoteAddr"}, name[lastDot(name)+1:]) {
			delete(calls, name)
		}
	}

	pair, otherPair := failingPair(), tlstest.SelfSigned(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	tlstest.Must(t, os.WriteFile(certFile, pair.Cert, 0o600))
	tlstest.Must(t, os.WriteFile(keyFile, pair.Key, 0o600))
	t.Setenv("SSL_CERT_FILE", certFile) // the default file may have hundreds
	t.Setenv("SSL_CERT_DIR", dir)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pair.Cert)
	otherCert, err := tls.X509KeyPair(otherPair.Cert, otherPair.Key)
	tlstest.Must(t, err)
	block, _ := pem.Decode(pair.Cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	tlstest.Must(t, err)

	onContext := func(call func(c *sslctx.Context, s *sslctx.Session) error) failing {
		return failing{make: func(t *testing.T) subjectOfFailure {
			c, s, done := failingContext(t)
			return subjectOfFailure{
				call: func() error { return call(c, s) }, close: done, context: c,
				state: func() string { return stateOf(c, ofContext) + cacheOf(t, c) + "\n" + s.String() },
			}
		}}
	}
	session := func(call func(s *sslctx.Session) error) failing {
		return failing{make: func(t *testing.T) subjectOfFailure {
			s := failingSession(t, "id")
			return subjectOfFailure{
				call: func() error { return call(s) }, close: func() { tlstest.Must(t, s.Close()) },
				state: func() string {
					return stateOf(s, ofSession) + fmt.Sprint(s.MasterKey().Bytes(), s.ExData(failingKey{}))
				},
			}
		}}
	}
	row := func(name string, f failing) { calls[name] = f }
	losing := func(f failing, why string) failing { f.loses = why; return f }

	row("NewContext", making(func() (io.Closer, error) { return sslctx.NewContext(sslctx.TLSMethod) }))
	config := failingConfig(t)
	row("NewContextFromTLS", making(func() (io.Closer, error) { return sslctx.NewContextFromTLS(config) }))
	row("ListenTLS", making(func() (io.Closer, error) { return sslctx.ListenTLS("tcp", "127.0.0.1:0", config) }))
	row("NewDialerFromTLS", making(func() (io.Closer, error) {
		d, err := sslctx.NewDialerFromTLS(config)
		if err != nil {
			return nil, err
		}
		return d.Context, nil
	}))
	row("NewSession", making(func() (io.Closer, error) { return sslctx.NewSession() }))
	row("ContextFromPointer", failing{make: func(t *testing.T) subjectOfFailure {
		owner := ossltest.NewCtx()
		f := making(func() (io.Closer, error) { return sslctx.ContextFromPointer(owner.Pointer(), nil) }).make(t)
		done := f.close
		f.close = func() { done(); owner.Free() }
		return f
	}})
	row("Context.SessionOf", failing{make: func(t *testing.T) subjectOfFailure {
		f := failingForeign(t)
		tlstest.Must(t, f.ctx.SetSessionOf(f.ssl.Pointer(), f.session))
		made := making(func() (io.Closer, error) { return f.ctx.SessionOf(f.ssl.Pointer()) }).make(t)
		done := made.close
		made.close = func() { done(); f.free(t) }
		return made
	}})
	row("Context.SetSessionOf", failing{make: func(t *testing.T) subjectOfFailure {
		f := failingForeign(t)
		return subjectOfFailure{
			call:  func() error { return f.ctx.SetSessionOf(f.ssl.Pointer(), f.session) },
			close: func() { f.free(t) },
		}
	}})
	der, err := failingSession(t, "id").Bytes()
	tlstest.Must(t, err)
	text, err := failingSession(t, "id").PEM()
	tlstest.Must(t, err)
	row("ParseSession", making(func() (io.Closer, error) { return sslctx.ParseSession(der) }))
	row("ParseSessionPEM", making(func() (io.Closer, error) { return sslctx.ParseSessionPEM(text) }))
	row("Session.Dup", failing{make: func(t *testing.T) subjectOfFailure {
		s := failingSession(t, "id")
		f := making(func() (io.Closer, error) { return s.Dup() }).make(t)
		done := f.close
		f.close = func() { done(); tlstest.Must(t, s.Close()) }
		return f
	}})
	row("Session.Close", failing{make: func(t *testing.T) subjectOfFailure {
		s := failingSession(t, "id")
		return subjectOfFailure{call: s.Close, close: func() {}}
	}})
	row("Context.Close", failing{make: func(t *testing.T) subjectOfFailure {
		c, s, _ := failingContext(t)
		tlstest.Must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { tlstest.Must(t, s.Close()) }))
		return subjectOfFailure{call: c.Close, close: func() { tlstest.Must(t, s.Close()) }}
	}})

	// The cache.
	for name, again := range map[string]bool{"Context.AddSession": false, "Context.AddSession/again": true} {
		row(name, failing{make: func(t *testing.T) subjectOfFailure {
			c, cached, done := failingContext(t)
			s := failingSession(t, "new")
			if again { // it was published, and is in no cache: another one replaced it
				tlstest.AddSession(t, c, s)
				other := failingSession(t, "new")
				tlstest.AddSession(t, c, other)
				tlstest.Must(t, other.Close())
			}
			return subjectOfFailure{
				call: func() error {
					added, err := c.AddSession(s)
					if err == nil && !added {
						t.Error("it says that the session was there before")
					}
					return err
				},
				state: func() string { return stateOf(c, ofContext) + cacheOf(t, c) + cached.String() + s.String() },
				close: func() { tlstest.Must(t, s.Close()); done() },
			}
		}})
	}
	row("Context.AddSession/moves", failing{make: func(t *testing.T) subjectOfFailure {
		c, cached, done := failingContext(t)
		before, s := tlstest.NewContext(t, sslctx.TLSMethod), failingSession(t, "new")
		tlstest.AddSession(t, before, s)
		tlstest.RemoveSession(t, before, s)
		return subjectOfFailure{
			call: func() error {
				added, err := c.AddSession(s)
				if err == nil && !added {
					return errors.New("it is not added")
				}
				return err
			},
			state: func() string { return cacheOf(t, c) + cached.String() + s.String() },
			close: func() { tlstest.Must(t, s.Close()); tlstest.Must(t, before.Close()); done() },
		}
	}, final: ossltest.CompiledVersion() < 0x30500000}) // it is not resumable: 3.0 does not add it again before a flush
	row("Context.AddSession/cached", onContext(func(c *sslctx.Context, s *sslctx.Session) error {
		added, err := c.AddSession(s)
		if added {
			return errors.New("it is added twice")
		}
		return err
	}))
	row("Context.AddSession/evicts", losing(hooked(func(c *sslctx.Context, s *sslctx.Session) error {
		if _, err := c.SetCacheSize(1); err != nil {
			return err
		}
		_, err := c.AddSession(s)
		return err
	}), "the session may be added, and the hook not told what went"))
	row("Context.AddSessions", failing{make: func(t *testing.T) subjectOfFailure {
		c, cached, done := failingContext(t)
		sessions := []*sslctx.Session{failingSession(t, "one"), cached, failingSession(t, "two")}
		return subjectOfFailure{
			call:  func() error { _, err := c.AddSessions(sessions); return err },
			state: func() string { return cacheOf(t, c) + cached.String() },
			close: func() { tlstest.Must(t, sessions[0].Close()); tlstest.Must(t, sessions[2].Close()); done() },
		}
	}, loses: "some of the sessions may be added"})
	row("Context.RemoveSession", onContext(func(c *sslctx.Context, s *sslctx.Session) error {
		_, err := c.RemoveSession(s)
		return err
	}))
	row("Context.RemoveSession/hooked", losing(hooked(func(c *sslctx.Context, s *sslctx.Session) error {
		_, err := c.RemoveSession(s)
		return err
	}), "it is removed, and the hook not told"))
	row("Context.RemoveSessions", losing(hooked(func(c *sslctx.Context, s *sslctx.Session) error {
		_, err := c.RemoveSessions([]*sslctx.Session{s, s})
		return err
	}), "it is removed, and the hook not told"))
	row("Context.FlushSessions", losing(hooked(func(c *sslctx.Context, s *sslctx.Session) error {
		return c.FlushSessions(time.Time{})
	}), "they are removed, and the hook not told"))
	row("Context.Sessions", onContext(func(c *sslctx.Context, _ *sslctx.Session) error {
		all, err := c.Sessions()
		for _, s := range all {
			_ = s.Close()
		}
		if err == nil && len(all) != 2 {
			return fmt.Errorf("%d sessions", len(all))
		}
		return err
	}))

	// The configuration.
	for name, call := range map[string]func(c *sslctx.Context) error{
		"SetSessionCacheMode":   func(c *sslctx.Context) error { _, err := c.SetSessionCacheMode(sslctx.SessCacheBoth); return err },
		"SetCacheSize":          func(c *sslctx.Context) error { _, err := c.SetCacheSize(3); return err },
		"SetTimeout":            func(c *sslctx.Context) error { _, err := c.SetTimeout(time.Hour); return err },
		"SetIDContext":          func(c *sslctx.Context) error { return c.SetIDContext([]byte("id")) },
		"SetMaxEarlyData":       func(c *sslctx.Context) error { return c.SetMaxEarlyData(3) },
		"SetRecvMaxEarlyData":   func(c *sslctx.Context) error { return c.SetRecvMaxEarlyData(3) },
		"SetDefaultVerifyPaths": func(c *sslctx.Context) error { return c.SetDefaultVerifyPaths() },
		"SetVerify":             func(c *sslctx.Context) error { return c.SetVerify(sslctx.VerifyPeer) },
		"SetPostHandshakeAuth":  func(c *sslctx.Context) error { return c.SetPostHandshakeAuth(true) },
		"SetVerifyDepth":        func(c *sslctx.Context) error { return c.SetVerifyDepth(3) },
		"SetMinProtoVersion":    func(c *sslctx.Context) error { return c.SetMinProtoVersion(sslctx.VersionTLS12) },
		"SetMaxProtoVersion":    func(c *sslctx.Context) error { return c.SetMaxProtoVersion(sslctx.VersionTLS12) },
		"SetOptions":            func(c *sslctx.Context) error { _, err := c.SetOptions(sslctx.OpNoTicket); return err },
		"ClearOptions":          func(c *sslctx.Context) error { _, err := c.ClearOptions(sslctx.OpNoTicket); return err },
		"SetMode":               func(c *sslctx.Context) error { _, err := c.SetMode(sslctx.ModeReleaseBuffers); return err },
		"ClearMode":             func(c *sslctx.Context) error { _, err := c.ClearMode(sslctx.ModeReleaseBuffers); return err },
		"SetClientCAs":          func(c *sslctx.Context) error { return c.SetClientCAs(leaf) },
		"SetClientSigalgs":      func(c *sslctx.Context) error { return c.SetClientSigalgs("ECDSA+SHA256:RSA+SHA256") },
		"SetDHAuto":             func(c *sslctx.Context) error { return c.SetDHAuto(true) },
		"SetSigalgs":            func(c *sslctx.Context) error { return c.SetSigalgs("ECDSA+SHA256:RSA+SHA256") },
		"AllowALPNMismatch":     func(c *sslctx.Context) error { return c.AllowALPNMismatch(true) },
		"SetSecurityLevel":      func(c *sslctx.Context) error { return c.SetSecurityLevel(2) },
		"SetMaxSendFragment":    func(c *sslctx.Context) error { return c.SetMaxSendFragment(4096) },
		"SetSplitSendFragment":  func(c *sslctx.Context) error { return c.SetSplitSendFragment(4096) },
		"SetBlockPadding":       func(c *sslctx.Context) error { return c.SetBlockPadding(64) },
		"SetMaxFragmentLength":  func(c *sslctx.Context) error { return c.SetMaxFragmentLength(sslctx.MaxFragment1024) },
		"SetNumTickets":         func(c *sslctx.Context) error { return c.SetNumTickets(3) },
		"SetTicketKeys":         func(c *sslctx.Context) error { return c.SetTicketKeys(sameTicketKey(8)) },
		"RequestOCSP":           func(c *sslctx.Context) error { return c.RequestOCSP(true) },
		"SetAllowEarlyDataCallback": func(c *sslctx.Context) error {
			return c.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { return true })
		},
		"SetNewSessionCallback": func(c *sslctx.Context) error {
			return c.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) {})
		},
		"SetRemoveSessionCallback": func(c *sslctx.Context) error {
			return c.SetRemoveSessionCallback(func(s *sslctx.Session) { _ = s.Close() })
		},
		"SetGetSessionCallback": func(c *sslctx.Context) error {
			return c.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return nil })
		},
		"SetSessionLookup": func(c *sslctx.Context) error {
			return c.SetSessionLookup(&sslctx.SessionLookup{Find: findNothing})
		},
		"SetKeyLogWriter":        func(c *sslctx.Context) error { return c.SetKeyLogWriter(io.Discard) },
		"SetClientHelloCallback": func(c *sslctx.Context) error { return c.SetClientHelloCallback(keepContext) },
		"SetSessionIDGenerator": func(c *sslctx.Context) error {
			return c.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) { return nil, nil })
		},
		"SetNotResumableSessionCallback": func(c *sslctx.Context) error {
			return c.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { return true })
		},
		"SetPSKFindSessionCallback": func(c *sslctx.Context) error {
			return c.SetPSKFindSessionCallback(func(context.Context, *sslctx.Conn, []byte) *sslctx.Session { return nil })
		},
		"SetPSKUseSessionCallback": func(c *sslctx.Context) error {
			return c.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) { return nil, nil })
		},
		"SetPSKServerCallback": func(c *sslctx.Context) error {
			return c.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return nil })
		},
		"SetPSKClientCallback": func(c *sslctx.Context) error {
			return c.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) { return "", nil })
		},
		"SetSessionTicketCallback": func(c *sslctx.Context) error {
			return c.SetSessionTicketCallback(nil, func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn { return sslctx.TicketUse })
		},
		"SetSessionIDPrefix": func(c *sslctx.Context) error { return c.SetSessionIDPrefix([]byte("prefix")) },
		"SetTicketKeyRing":   func(c *sslctx.Context) error { return c.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: failingRing}) },
		"SetOCSPResponse":    func(c *sslctx.Context) error { return c.SetOCSPResponse([]byte("response")) },
		"TrustCertPool":      func(c *sslctx.Context) error { return c.TrustCertPool(pool) },
		"UsePSKIdentityHint": func(c *sslctx.Context) error { return c.UsePSKIdentityHint("hint") },
		"SetGroups":          func(c *sslctx.Context) error { return c.SetGroups("P-256:P-384") },
	} {
		f := onContext(func(c *sslctx.Context, _ *sslctx.Session) error { return call(c) })
		if shownByServer[name] {
			f = shown(f)
		}
		row("Context."+name, f)
	}
	row("Listen", onContext(func(c *sslctx.Context, _ *sslctx.Session) error {
		l, err := sslctx.Listen("tcp", "127.0.0.1:0", c)
		if err == nil {
			_ = l.Close()
		}
		return err
	}))
	const halfway = "libssl frees or changes the old value before it has memory for the new one"
	for name, call := range map[string]func(c *sslctx.Context) error{
		"UseCertificateChainFile": func(c *sslctx.Context) error { return c.UseCertificateChainFile(certFile) },
		"UsePrivateKeyFile":       func(c *sslctx.Context) error { return c.UsePrivateKeyFile(keyFile) },
		"UseCertificate":          func(c *sslctx.Context) error { return c.UseCertificate(otherCert) },
		"UseKeyPair":              func(c *sslctx.Context) error { return c.UseKeyPair(otherPair.Cert, otherPair.Key) },
		"LoadVerifyLocations":     func(c *sslctx.Context) error { return c.LoadVerifyLocations(certFile, dir) },
		"TrustCertificates":       func(c *sslctx.Context) error { return c.TrustCertificates(pair.Cert) },
		"SetCipherList":           func(c *sslctx.Context) error { return c.SetCipherList("ECDHE+AESGCM") },
		"SetCiphersuites":         func(c *sslctx.Context) error { return c.SetCiphersuites("TLS_AES_128_GCM_SHA256") },
		"SetALPNProtos":           func(c *sslctx.Context) error { return c.SetALPNProtos("one", "two") },
		"Configure":               func(c *sslctx.Context) error { return c.Configure("CipherString", "ECDHE+AESGCM") },
	} {
		f := losing(onContext(func(c *sslctx.Context, _ *sslctx.Session) error { return call(c) }), halfway)
		if shownByServer[name] {
			f = shown(f)
		}
		row("Context."+name, f)
	}

	// Sessions.
	for name, call := range map[string]func(s *sslctx.Session) error{
		"SetID":              func(s *sslctx.Session) error { return s.SetID([]byte("other")) },
		"SetIDContext":       func(s *sslctx.Session) error { return s.SetIDContext([]byte("other")) },
		"SetTime":            func(s *sslctx.Session) error { return s.SetTime(time.Unix(5, 0)) },
		"SetTimeout":         func(s *sslctx.Session) error { return s.SetTimeout(time.Minute) },
		"SetProtocolVersion": func(s *sslctx.Session) error { return s.SetProtocolVersion(sslctx.VersionTLS13) },
		"SetCipher": func(s *sslctx.Session) error {
			return s.SetCipher(sslctx.Cipher{ID: tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384})
		},
		"SetMasterKey":    func(s *sslctx.Session) error { return s.SetMasterKey([]byte("key")) },
		"SetMaxEarlyData": func(s *sslctx.Session) error { return s.SetMaxEarlyData(7) },
		"SetExData":       func(s *sslctx.Session) error { return s.SetExData(failingKey{}, "after") },
		"ExData": func(s *sslctx.Session) error {
			if v := s.ExData(failingKey{}); v != "before" {
				return fmt.Errorf("%v", v)
			}
			return nil
		},
		"Print":       func(s *sslctx.Session) error { return s.Print(io.Discard) },
		"PrintKeylog": func(s *sslctx.Session) error { return s.PrintKeylog(io.Discard) },
	} {
		row("Session."+name, session(call))
	}
	row("Session.SameKey", session(func(s *sslctx.Session) error {
		if !s.SameKey(s) {
			return errors.New("another key")
		}
		return nil
	}))
	row("Session.SetExData/first", failing{make: func(t *testing.T) subjectOfFailure {
		s, err := sslctx.NewSession()
		tlstest.Must(t, err)
		return subjectOfFailure{
			call:  func() error { return s.SetExData(failingKey{}, 1) },
			state: func() string { return fmt.Sprint(s.ExData(failingKey{})) },
			close: func() { tlstest.Must(t, s.Close()) },
		}
	}})
	for name, call := range map[string]func(s *sslctx.Session) error{
		"SetHostname":      func(s *sslctx.Session) error { return s.SetHostname("after.example") },
		"SetALPNSelected":  func(s *sslctx.Session) error { return s.SetALPNSelected("after") },
		"SetTicketAppData": func(s *sslctx.Session) error { return s.SetTicketAppData([]byte("after")) },
	} {
		row("Session."+name, losing(session(call), halfway))
	}

	row("VerifyResult.String", failing{make: justCalls(func() error { _ = sslctx.VerifyOK.String(); return nil })})
	row("LibraryVersions", failing{make: justCalls(func() error { _, _ = sslctx.LibraryVersions(); return nil })})
	connCalls(t, row)
	return calls
}

// foreign is a connection of other C code, and a session that it may offer.
type foreign struct {
	owner   ossltest.Ctx
	ssl     ossltest.SSL
	ctx     *sslctx.Context
	session *sslctx.Session
}

func failingForeign(t *testing.T) foreign {
	owner := ossltest.NewCtx()
	ctx, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
	tlstest.Must(t, err)
	return foreign{owner, owner.NewSSL(), ctx, failingSession(t, "id")}
}

func (f foreign) free(t *testing.T) {
	tlstest.Must(t, f.session.Close())
	f.ssl.Free()
	tlstest.Must(t, f.ctx.Close())
	f.owner.Free()
}

// shownByServer has settings that libssl has no getter for: a connection shows them.
var shownByServer = map[string]bool{"SetALPNProtos": true, "SetOCSPResponse": true, "SetCiphersuites": true, "SetGroups": true,
	"SetSessionIDPrefix": true, "SetTicketKeyRing": true}

// shown adds a connection to f: a client shows the context's settings.
func shown(f failing) failing {
	make := f.make
	f.make = func(t *testing.T) subjectOfFailure {
		s := make(t)
		s.state = func() string { return seenByClient(t, s.context) }
		return s
	}
	return f
}

func seenByClient(t *testing.T, server *sslctx.Context) string {
	e := tlstest.Ends{Server: server}
	var err error
	e.Client, err = sslctx.NewContext(sslctx.TLSClientMethod)
	tlstest.Must(t, err)
	defer e.Client.Close()
	tlstest.Must(t, e.Client.SetALPNProtos("two", "one"))
	tlstest.Must(t, e.Client.RequestOCSP(true))
	tlstest.Must(t, e.Client.SetGroups("P-384:P-256:X25519"))
	a, b := tlstest.Wire()
	s, err := sslctx.Server(a, e.Server)
	tlstest.Must(t, err)
	c, err := sslctx.Client(b, e.Client)
	tlstest.Must(t, err)
	tlstest.Must(t, c.AcceptAnyName())
	errs := make(chan error, 1)
	go func() {
		_, err := s.Write([]byte{1})
		if err != nil {
			_ = s.NetConn().Close() // the client sees EOF, too
		}
		errs <- err
	}()
	_, clientErr := c.Read([]byte{0})
	state := c.ConnectionState()
	_ = c.Close() // the server sees EOF
	serverErr := <-errs
	_ = s.Close()
	return fmt.Sprint("seen: ", clientErr, serverErr, state.NegotiatedProtocol, state.OCSPResponse, state.CipherSuite)
}

var failingRing = sslctx.NewTicketKey()

func lastDot(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return i
		}
	}
	return -1
}

func findNothing(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { return nil, nil }

func keepContext(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil }

func justCalls(call func() error) func(*testing.T) subjectOfFailure {
	return func(*testing.T) subjectOfFailure { return subjectOfFailure{call: call, close: func() {}} }
}

// making is for a call that makes something.
func making(call func() (io.Closer, error)) failing {
	return failing{make: func(t *testing.T) subjectOfFailure {
		var made io.Closer
		return subjectOfFailure{
			call: func() error {
				it, err := call()
				if err == nil {
					made = it
				}
				return err
			},
			close: func() {
				if made != nil {
					tlstest.Must(t, made.Close())
				}
			},
		}
	}}
}

// hooked is for a call on a context with a remove hook. The call must run the hook, or return an
// error that says it could not.
func hooked(call func(c *sslctx.Context, s *sslctx.Session) error) failing {
	return failing{make: func(t *testing.T) subjectOfFailure {
		c, s, done := failingContext(t)
		told := 0
		tlstest.Must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { told++; tlstest.Must(t, s.Close()) }))
		before := told
		return subjectOfFailure{
			call: func() error {
				cached := c.CacheStats().Number
				told = before
				err := call(c, s)
				if gone := cached - c.CacheStats().Number; err == nil && told < gone {
					t.Errorf("%d sessions are gone, and the hook heard of %d", gone, told)
				}
				return err
			},
			close: done,
		}
	}}
}

// cacheOf returns the sessions in the cache of a context.
func cacheOf(t *testing.T, c *sslctx.Context) string {
	t.Helper()
	all, err := c.Sessions()
	tlstest.Must(t, err)
	var ids []string
	for _, s := range all {
		ids = append(ids, s.String())
		tlstest.Must(t, s.Close())
	}
	slices.Sort(ids)
	return fmt.Sprint("\ncache: ", ids)
}
