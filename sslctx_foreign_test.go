// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// Callbacks of other code on an SSL_CTX stay, whichever setters are called on a Context of
// ContextFromPointer.

// theirEnds has a server and a client that other C code made, and Contexts of the same two SSL_CTX.
type theirEnds struct {
	server, client       ossltest.Ctx
	ourServer, ourClient *sslctx.Context
	certFile, keyFile    string
	pair                 tls.Certificate
}

// newTheirEnds makes ends of TLS 1.3 with which every callback of a handshake can run.
func newTheirEnds(t *testing.T) theirEnds {
	t.Helper()
	e := theirEnds{server: ossltest.NewCtx(), client: ossltest.NewCtx()}
	open := func(ctx ossltest.Ctx) *sslctx.Context {
		c, err := sslctx.ContextFromPointer(ctx.Pointer(), nil)
		must(t, err)
		t.Cleanup(func() { must(t, c.Close()); ctx.Free() })
		return c
	}
	e.ourServer, e.ourClient = open(e.server), open(e.client)
	pair, dir := testPair(t), t.TempDir()
	e.certFile, e.keyFile = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	must(t, os.WriteFile(e.certFile, pair.Cert, 0o600))
	must(t, os.WriteFile(e.keyFile, pair.Key, 0o600))
	var err error
	e.pair, err = tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)

	must(t, e.ourServer.UseKeyPair(pair.Cert, pair.Key))
	must(t, e.ourServer.SetMaxEarlyData(1000))
	_, err = e.ourServer.SetOptions(sslctx.OpNoAntiReplay) // so that tickets hold their sessions
	must(t, err)
	must(t, e.ourClient.TrustCertificates(pair.Cert))
	must(t, e.ourClient.SetVerify(sslctx.VerifyPeer))
	return e
}

// hear makes two connections, the second with the first's session. It returns how often callbacks
// of the kind were called.
func (e theirEnds) hear(t *testing.T, k ossltest.Callback) int {
	t.Helper()
	var kept ossltest.Kept
	defer kept.Free()
	ossltest.Calls(k)
	for i := range 2 {
		if !ossltest.Talk(e.server, e.client, &kept) {
			t.Fatalf("no handshake %d", i)
		}
	}
	e.server.Flush()
	return ossltest.Calls(k)
}

type contextSetter = func(c *sslctx.Context) error

// A callbackSetter sets a callback. Its calls, with a hook and without, must fail if other code has
// a callback of one of the kinds.
type callbackSetter struct {
	client bool // the callback is for clients
	kinds  []ossltest.Callback
	calls  []contextSetter
}

func ofKind(k ossltest.Callback, calls ...contextSetter) callbackSetter {
	return callbackSetter{kinds: []ossltest.Callback{k}, calls: calls}
}

func ofClient(k ossltest.Callback, calls ...contextSetter) callbackSetter {
	s := ofKind(k, calls...)
	s.client = true
	return s
}

func callbackSetters() map[string]callbackSetter {
	find := &sslctx.SessionLookup{Find: func(context.Context, sslctx.SessionQuery) (*sslctx.Session, error) { return nil, nil }}
	lookup := ofKind(ossltest.ClientHello,
		func(c *sslctx.Context) error { return c.SetSessionLookup(find) },
		func(c *sslctx.Context) error { return c.SetSessionLookup(nil) })
	lookup.kinds = append(lookup.kinds, ossltest.GetSession)
	return map[string]callbackSetter{
		"SetSessionLookup": lookup,
		"SetNewSessionCallback": ofKind(ossltest.NewSession,
			func(c *sslctx.Context) error { return c.SetNewSessionCallback(func(*sslctx.Conn, *sslctx.Session) {}) },
			func(c *sslctx.Context) error { return c.SetNewSessionCallback(nil) }),
		"SetRemoveSessionCallback": ofKind(ossltest.RemoveSession,
			func(c *sslctx.Context) error { return c.SetRemoveSessionCallback(func(*sslctx.Session) {}) },
			func(c *sslctx.Context) error { return c.SetRemoveSessionCallback(nil) }),
		"SetGetSessionCallback": ofKind(ossltest.GetSession,
			func(c *sslctx.Context) error {
				return c.SetGetSessionCallback(func(context.Context, []byte) *sslctx.Session { return nil })
			},
			func(c *sslctx.Context) error { return c.SetGetSessionCallback(nil) }),
		"SetKeyLogWriter": ofKind(ossltest.Keylog,
			func(c *sslctx.Context) error { return c.SetKeyLogWriter(io.Discard) },
			func(c *sslctx.Context) error { return c.SetKeyLogWriter(nil) }),
		"SetClientHelloCallback": ofKind(ossltest.ClientHello,
			func(c *sslctx.Context) error {
				return c.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (*sslctx.Context, error) { return nil, nil })
			},
			func(c *sslctx.Context) error { return c.SetClientHelloCallback(nil) }),
		"SetALPNProtos": ofKind(ossltest.ALPNSelect,
			func(c *sslctx.Context) error { return c.SetALPNProtos("h2") },
			func(c *sslctx.Context) error { return c.SetALPNProtos() }),
		"AllowALPNMismatch": ofKind(ossltest.ALPNSelect,
			func(c *sslctx.Context) error { return c.AllowALPNMismatch(true) },
			func(c *sslctx.Context) error { return c.AllowALPNMismatch(false) }),
		"SetOCSPResponse": ofKind(ossltest.Status,
			func(c *sslctx.Context) error { return c.SetOCSPResponse([]byte("staple")) },
			func(c *sslctx.Context) error { return c.SetOCSPResponse(nil) }),
		"TrustCertPool": ofClient(ossltest.CertVerify,
			func(c *sslctx.Context) error { return c.TrustCertPool(x509.NewCertPool()) },
			func(c *sslctx.Context) error { return c.TrustCertPool(nil) }),
		"SetSessionIDGenerator": ofKind(ossltest.GenerateID,
			func(c *sslctx.Context) error {
				return c.SetSessionIDGenerator(func(context.Context, *sslctx.Conn, int) ([]byte, error) { return []byte("id"), nil })
			},
			func(c *sslctx.Context) error { return c.SetSessionIDGenerator(nil) }),
		"SetSessionIDPrefix": ofKind(ossltest.GenerateID,
			func(c *sslctx.Context) error { return c.SetSessionIDPrefix([]byte("me")) },
			func(c *sslctx.Context) error { return c.SetSessionIDPrefix(nil) }),
		"SetNotResumableSessionCallback": ofKind(ossltest.NotResumable,
			func(c *sslctx.Context) error {
				return c.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { return true })
			},
			func(c *sslctx.Context) error { return c.SetNotResumableSessionCallback(nil) }),
		"SetSessionTicketCallback": ofKind(ossltest.SessionTicket,
			func(c *sslctx.Context) error {
				return c.SetSessionTicketCallback(nil, func(context.Context, sslctx.SessionTicket) sslctx.TicketReturn { return sslctx.TicketIgnore })
			},
			func(c *sslctx.Context) error { return c.SetSessionTicketCallback(nil, nil) }),
		"SetTicketKeyRing": ofKind(ossltest.TicketKey,
			func(c *sslctx.Context) error {
				return c.SetTicketKeyRing(&sslctx.TicketKeyRing{Current: sslctx.NewTicketKey()})
			},
			func(c *sslctx.Context) error { return c.SetTicketKeyRing(nil) }),
		"SetAllowEarlyDataCallback": ofKind(ossltest.AllowEarlyData,
			func(c *sslctx.Context) error {
				return c.SetAllowEarlyDataCallback(func(context.Context, *sslctx.Conn) bool { return false })
			},
			func(c *sslctx.Context) error { return c.SetAllowEarlyDataCallback(nil) }),
		"SetPSKFindSessionCallback": ofKind(ossltest.PSKFind,
			func(c *sslctx.Context) error {
				return c.SetPSKFindSessionCallback(func(context.Context, *sslctx.Conn, []byte) *sslctx.Session { return nil })
			},
			func(c *sslctx.Context) error { return c.SetPSKFindSessionCallback(nil) }),
		"SetPSKUseSessionCallback": ofClient(ossltest.PSKUse,
			func(c *sslctx.Context) error {
				return c.SetPSKUseSessionCallback(func(context.Context, *sslctx.Conn, crypto.Hash) ([]byte, *sslctx.Session) { return nil, nil })
			},
			func(c *sslctx.Context) error { return c.SetPSKUseSessionCallback(nil) }),
		"SetPSKServerCallback": ofKind(ossltest.PSKServer,
			func(c *sslctx.Context) error {
				return c.SetPSKServerCallback(func(context.Context, *sslctx.Conn, string) []byte { return nil })
			},
			func(c *sslctx.Context) error { return c.SetPSKServerCallback(nil) }),
		"SetPSKClientCallback": ofClient(ossltest.PSKClient,
			func(c *sslctx.Context) error {
				return c.SetPSKClientCallback(func(context.Context, *sslctx.Conn, string) (string, []byte) { return "", nil })
			},
			func(c *sslctx.Context) error { return c.SetPSKClientCallback(nil) }),
	}
}

// dataSetters returns setters of everything that is no callback. With their values the handshakes
// still succeed.
func dataSetters(e theirEnds) map[string]contextSetter {
	only := func(_ any, err error) error { return err }
	certPEM := func() []byte { b, _ := os.ReadFile(e.certFile); return b }
	keyPEM := func() []byte { b, _ := os.ReadFile(e.keyFile); return b }
	return map[string]contextSetter{
		"SetPostHandshakeAuth":  func(c *sslctx.Context) error { return c.SetPostHandshakeAuth(true) },
		"ClearMode":             func(c *sslctx.Context) error { return only(c.ClearMode(sslctx.ModeSendFallbackSCSV)) },
		"ClearOptions":          func(c *sslctx.Context) error { return only(c.ClearOptions(sslctx.OpNoRenegotiation)) },
		"Configure":             func(c *sslctx.Context) error { return c.Configure("MinProtocol", "TLSv1.2") },
		"LoadVerifyLocations":   func(c *sslctx.Context) error { return c.LoadVerifyLocations(e.certFile, "") },
		"RequestOCSP":           func(c *sslctx.Context) error { return c.RequestOCSP(true) },
		"SetBlockPadding":       func(c *sslctx.Context) error { return c.SetBlockPadding(16) },
		"SetCacheSize":          func(c *sslctx.Context) error { return only(c.SetCacheSize(100)) },
		"SetCipherList":         func(c *sslctx.Context) error { return c.SetCipherList("DEFAULT") },
		"SetCiphersuites":       func(c *sslctx.Context) error { return c.SetCiphersuites("TLS_AES_128_GCM_SHA256") },
		"SetClientCAs":          func(c *sslctx.Context) error { return c.SetClientCAs(e.pair.Leaf) },
		"SetClientSigalgs":      func(c *sslctx.Context) error { return c.SetClientSigalgs("ECDSA+SHA256") },
		"SetDHAuto":             func(c *sslctx.Context) error { return c.SetDHAuto(true) },
		"SetSigalgs":            func(c *sslctx.Context) error { return c.SetSigalgs("ECDSA+SHA256") },
		"SetDefaultVerifyPaths": func(c *sslctx.Context) error { return c.SetDefaultVerifyPaths() },
		"SetGroups":             func(c *sslctx.Context) error { return c.SetGroups("X25519:P-256") },
		"SetIDContext":          func(c *sslctx.Context) error { return c.SetIDContext([]byte("context")) },
		"SetMaxEarlyData":       func(c *sslctx.Context) error { return c.SetMaxEarlyData(1000) },
		"SetMaxFragmentLength":  func(c *sslctx.Context) error { return c.SetMaxFragmentLength(sslctx.MaxFragmentAny) },
		"SetMaxProtoVersion":    func(c *sslctx.Context) error { return c.SetMaxProtoVersion(sslctx.VersionTLS13) },
		"SetMaxSendFragment":    func(c *sslctx.Context) error { return c.SetMaxSendFragment(4096) },
		"SetMinProtoVersion":    func(c *sslctx.Context) error { return c.SetMinProtoVersion(sslctx.VersionTLS13) },
		"SetMode":               func(c *sslctx.Context) error { return only(c.SetMode(sslctx.ModeAutoRetry)) },
		"SetNumTickets":         func(c *sslctx.Context) error { return c.SetNumTickets(1) },
		"SetOptions":            func(c *sslctx.Context) error { return only(c.SetOptions(sslctx.OpNoRenegotiation)) },
		"SetRecvMaxEarlyData":   func(c *sslctx.Context) error { return c.SetRecvMaxEarlyData(1000) },
		"SetSecurityLevel":      func(c *sslctx.Context) error { return c.SetSecurityLevel(1) },
		"SetSessionCacheMode":   func(c *sslctx.Context) error { return only(c.SetSessionCacheMode(c.SessionCacheMode())) },
		"SetSessionOf": func(c *sslctx.Context) error {
			ssl := e.client.NewSSL()
			defer ssl.Free()
			return c.SetSessionOf(ssl.Pointer(), nil)
		},
		"SetSplitSendFragment":    func(c *sslctx.Context) error { return c.SetSplitSendFragment(4096) },
		"SetTicketKeys":           func(c *sslctx.Context) error { return c.SetTicketKeys(sslctx.NewTicketKey()) },
		"SetTimeout":              func(c *sslctx.Context) error { return only(c.SetTimeout(time.Hour)) },
		"SetVerify":               func(c *sslctx.Context) error { return c.SetVerify(sslctx.VerifyPeer) },
		"SetVerifyDepth":          func(c *sslctx.Context) error { return c.SetVerifyDepth(3) },
		"TrustCertificate":        func(c *sslctx.Context) error { return c.TrustCertificate(e.pair.Leaf) },
		"TrustCertificates":       func(c *sslctx.Context) error { return c.TrustCertificates(certPEM()) },
		"UseCertificate":          func(c *sslctx.Context) error { return c.UseCertificate(e.pair) },
		"UseCertificateChainFile": func(c *sslctx.Context) error { return c.UseCertificateChainFile(e.certFile) },
		"UseKeyPair":              func(c *sslctx.Context) error { return c.UseKeyPair(certPEM(), keyPEM()) },
		"UsePSKIdentityHint":      func(c *sslctx.Context) error { return c.UsePSKIdentityHint("hint") },
		"UsePrivateKeyFile":       func(c *sslctx.Context) error { return c.UsePrivateKeyFile(e.keyFile) },
	}
}

// TestSettersAreKnown: each method that sets something of a Context is known to set a callback, or
// not to.
func TestSettersAreKnown(t *testing.T) {
	sets := regexp.MustCompile(`^(?:Allow|Clear|Configure|Load|Request|Set|Trust|Use)`)
	var want []string
	context := reflect.TypeFor[*sslctx.Context]()
	for i := range context.NumMethod() {
		if name := context.Method(i).Name; sets.MatchString(name) {
			want = append(want, name)
		}
	}
	known := slices.Concat(slices.Collect(maps.Keys(callbackSetters())), slices.Collect(maps.Keys(dataSetters(newTheirEnds(t)))))
	slices.Sort(known)
	slices.Sort(want)
	if !slices.Equal(known, want) {
		t.Errorf("the methods that set something are\n%q, and these are in callbackSetters or dataSetters:\n%q", want, known)
	}
}

// TestForeignCallbacksStay: the owner has a callback. Every setter that would replace it fails.
// After all other setters libssl still calls it.
func TestForeignCallbacksStay(t *testing.T) {
	noQueue(t)
	stays := func(name string, k ossltest.Callback, s callbackSetter) {
		t.Run(name, func(t *testing.T) {
			e := newTheirEnds(t)
			theirs, ours := e.server, e.ourServer
			if s.client {
				theirs, ours = e.client, e.ourClient
			}
			if k == ossltest.GetSession { // it is for sessions that the cache does not have
				_, err := ours.SetOptions(sslctx.OpNoTicket)
				must(t, err)
				_, err = ours.SetSessionCacheMode(sslctx.SessCacheServer | sslctx.SessCacheNoInternalLookup)
				must(t, err)
			}
			if k == ossltest.PSKServer { // it is for short identities: 128 bytes before 3.0
				_, err := ours.SetOptions(sslctx.OpNoTicket)
				must(t, err)
			}
			theirs.Theirs(k)
			if e.hear(t, k) == 0 {
				t.Fatal("the connections do not call the owner's callback")
			}
			for i, call := range s.calls {
				if err := call(ours); !errors.Is(err, sslctx.ErrForeignCallback) {
					t.Errorf("call %d: %v, want ErrForeignCallback", i, err)
				}
			}
			for name, set := range dataSetters(e) {
				if err := set(ours); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if e.hear(t, k) == 0 {
				t.Error("the owner's callback is not called any more")
			}
		})
	}
	for name, s := range callbackSetters() {
		for _, k := range s.kinds {
			stays(name, k, s)
		}
	}
	stays("SetVerify", ossltest.Verify, callbackSetter{client: true})
}

// TestForeignStaple: the owner answers clients that request a staple.
func TestForeignStaple(t *testing.T) {
	noQueue(t)
	e := newTheirEnds(t)
	e.server.Theirs(ossltest.Status)
	other, err := tls.X509KeyPair(func() ([]byte, []byte) { p := testPair(t); return p.Cert, p.Key }())
	must(t, err)
	other.OCSPStaple = []byte("staple")
	if err := e.ourServer.UseCertificate(other); !errors.Is(err, sslctx.ErrForeignCallback) {
		t.Errorf("a certificate with a staple: %v", err)
	}
	if e.hear(t, ossltest.Status) == 0 { // here the client trusts the certificate
		t.Error("the owner's callback is not called any more")
	}
}

// TestForeignCallbacksOfConns: a Conn of an owner's SSL_CTX calls the owner's callbacks, unless it
// has its own hooks. These apply only to that Conn.
func TestForeignCallbacksOfConns(t *testing.T) {
	noQueue(t)
	e := newTheirEnds(t)
	kinds := []ossltest.Callback{ossltest.GenerateID, ossltest.NotResumable}
	for _, k := range kinds {
		e.server.Theirs(k)
	}
	made, asked := 0, 0
	generate := func(_ context.Context, _ *sslctx.Conn, n int) ([]byte, error) {
		made++
		return bytes.Repeat([]byte{byte(made)}, n), nil
	}
	connect := func(prepare func(s *sslctx.Conn)) (ids, resumable int) {
		t.Helper()
		rawServer, rawClient := tcpPair(t)
		s, err := sslctx.Server(rawServer, e.ourServer)
		must(t, err)
		defer s.Close()
		c, err := sslctx.Client(rawClient, e.ourClient)
		must(t, err)
		defer c.Close()
		must(t, c.AcceptAnyName())
		prepare(s)
		for _, k := range kinds {
			ossltest.Calls(k)
		}
		done := make(chan error, 1)
		go func() { done <- s.Handshake() }()
		must(t, c.Handshake())
		must(t, <-done)
		return ossltest.Calls(kinds[0]), ossltest.Calls(kinds[1])
	}
	if ids, resumable := connect(func(*sslctx.Conn) {}); ids == 0 || resumable == 0 {
		t.Errorf("a Conn asks the owner's callbacks %d and %d times", ids, resumable)
	}
	ids, resumable := connect(func(s *sslctx.Conn) {
		must(t, s.SetSessionIDGenerator(generate))
		must(t, s.SetNotResumableSessionCallback(func(context.Context, *sslctx.Conn, bool) bool { asked++; return false }))
	})
	if ids != 0 || resumable != 0 || made == 0 || asked == 0 {
		t.Errorf("a Conn with hooks asks them %d and %d times, the owner's callbacks %d and %d times", made, asked, ids, resumable)
	}
	ids, _ = connect(func(s *sslctx.Conn) {
		must(t, s.SetSessionIDGenerator(generate))
		must(t, s.SetSessionIDGenerator(nil))
	})
	if ids == 0 {
		t.Error("a Conn whose hook was removed does not ask the owner's callback")
	}
	for _, k := range kinds {
		if e.hear(t, k) == 0 {
			t.Errorf("a Conn's hook took the place of callback %d on the SSL_CTX", k)
		}
	}
}

// TestForeignPassword: the owner's callback returns the password of a key. Without a callback there
// is no prompt.
func TestForeignPassword(t *testing.T) {
	noQueue(t)
	e := newTheirEnds(t)
	file := filepath.Join(t.TempDir(), "encrypted.pem")
	must(t, os.WriteFile(file, []byte(encryptedKey), 0o600))
	setters := []contextSetter{
		func(c *sslctx.Context) error { return c.UsePrivateKeyFile(file) },
		func(c *sslctx.Context) error { return c.Configure("PrivateKey", file) },
	}
	for _, set := range setters {
		wantNobodyAsked(t, set(e.ourClient))
	}
	e.client.Theirs(ossltest.Password)
	for i, set := range setters {
		if must(t, set(e.ourClient)); ossltest.Calls(ossltest.Password) != 1 {
			t.Errorf("setter %d does not ask the owner for the password", i)
		}
	}
	block, _ := pem.Decode([]byte(encryptedKey)) // no callback applies to bytes in memory
	wantNobodyAsked(t, e.ourClient.UseKeyPair(testPair(t).Cert, pem.EncodeToMemory(block)))
}

// TestOwnCallbackIsKnown: both Contexts of one SSL_CTX know which callbacks this package has set.
func TestOwnCallbackIsKnown(t *testing.T) {
	noQueue(t)
	first := newContext(t, sslctx.TLSServerMethod)
	second, err := sslctx.ContextFromPointer(ossltest.LastContext().Pointer(), nil)
	must(t, err)
	defer second.Close()
	for name, s := range callbackSetters() {
		if name == "AllowALPNMismatch" { // it changes what the callback of SetALPNProtos does
			continue
		}
		set, remove := s.calls[0], s.calls[1]
		shown := set(second) == nil // libssl says that there is none
		if shown {
			must(t, remove(second))
		} else if err := remove(second); !errors.Is(err, sslctx.ErrForeignCallback) {
			t.Errorf("%s: %v before there is one, want ErrForeignCallback", name, err)
		}
		must(t, set(first))
		if err := set(second); err != nil {
			t.Errorf("%s: %v, where there is one of ours", name, err)
		}
		must(t, remove(second))
		err := set(second)
		isHello := slices.Contains(s.kinds, ossltest.ClientHello) // this callback stays, and does nothing
		if shown || isHello {
			must(t, err)
			must(t, remove(first))
		} else if !errors.Is(err, sslctx.ErrForeignCallback) {
			t.Errorf("%s: %v after it was removed, want ErrForeignCallback", name, err)
		}
	}
}

// TestNewContextHasHooks: a second Context of an SSL_CTX has the hooks of the first before it gets
// any event.
func TestNewContextHasHooks(t *testing.T) {
	e := newTheirEnds(t)
	var heard atomic.Int64
	must(t, e.ourServer.SetNewSessionCallback(func(_ *sslctx.Conn, s *sslctx.Session) {
		heard.Add(1)
		_ = s.Close()
	}))
	must(t, e.ourServer.SetNumTickets(1))
	stop := tlstest.Repeat(t, func(int) {
		c, err := sslctx.ContextFromPointer(e.server.Pointer(), nil)
		must(t, err)
		_ = c.Close()
	})
	const n = 300
	for range n {
		var kept ossltest.Kept
		if !ossltest.Talk(e.server, e.client, &kept) {
			t.Error("no handshake")
		}
		kept.Free()
	}
	stop()
	deadline := time.Now().Add(10 * time.Second)
	for heard.Load() < n && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if heard.Load() != n {
		t.Errorf("the hook heard of %d of %d sessions", heard.Load(), n)
	}
}

// TestCloseRunsPendingHooks: calls of other code reported events before the last Context is closed.
// Close runs the hooks for them at the latest.
func TestCloseRunsPendingHooks(t *testing.T) {
	for range 100 {
		owner := ossltest.NewCtx()
		c, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
		must(t, err)
		heard := make(chan struct{}, 1)
		must(t, c.SetRemoveSessionCallback(func(s *sslctx.Session) { _ = s.Close(); heard <- struct{}{} }))
		add(t, c, newSession(t, "a"))
		owner.Flush()
		must(t, c.Close())
		select {
		case <-heard:
		case <-time.After(10 * time.Second):
			t.Fatal("the hook does not hear of a session that was removed before Close")
		}
		owner.Free()
	}
}

// TestContextsAtOnce: Contexts of one SSL_CTX that are made at the same time share their hooks.
func TestContextsAtOnce(t *testing.T) {
	for range 100 {
		owner := ossltest.NewCtx()
		var contexts [4]*sslctx.Context
		done := make(chan struct{})
		for i := range contexts {
			go func() {
				defer func() { done <- struct{}{} }()
				contexts[i], _ = sslctx.ContextFromPointer(owner.Pointer(), nil)
			}()
		}
		for range contexts {
			<-done
		}
		var heard atomic.Int64
		must(t, contexts[0].SetRemoveSessionCallback(func(s *sslctx.Session) { _ = s.Close(); heard.Add(1) }))
		for i, c := range contexts {
			s := newSession(t, "a")
			add(t, c, s)
			remove(t, c, s)
			if heard.Load() != int64(i+1) {
				t.Fatalf("Context %d does not tell the hook", i)
			}
		}
		for _, c := range contexts {
			must(t, c.Close())
		}
		owner.Free()
	}
}

// TestContextsBesideConfigure: one Context configures an SSL_CTX. Another Context of it can be
// closed, and stops no cleanup when it is collected.
func TestContextsBesideConfigure(t *testing.T) {
	noQueue(t)
	owner := ossltest.NewCtx()
	defer owner.Free()
	open := func() *sslctx.Context {
		c, err := sslctx.ContextFromPointer(owner.Pointer(), nil)
		must(t, err)
		return c
	}
	a, b := open(), open()
	defer a.Close()
	end := startConfiguring(t, a)
	must(t, b.Close())
	func() { _ = open() }() // and it is dropped
	for range 3 {
		alive := ossltest.LiveSessions()
		func() { // it is dropped, too
			_, err := sslctx.NewSession()
			must(t, err)
		}()
		for ossltest.LiveSessions() > alive {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}
	end()
}
