// SPDX-License-Identifier: Apache-2.0

//go:build forcegc

package sslctx_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"go/ast"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/fence"
	"sslctx/internal/house"
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
)

// These tests call every method of a Session, Context and Conn in two ways that must be safe. In
// one, only the call refers to the handle, and each call into C collects garbage. In the other,
// handles are closed in the middle of the call, at each call into C in turn. If C touches freed
// memory, the program ends (internal/fence).

// A maker makes handles for calls. It keeps only the handles that a test closes.
type maker struct {
	tb   testing.TB
	pair testcert.Pair
	cert tls.Certificate
	leaf *x509.Certificate
	ders map[sslctx.Version][]byte // sessions of clients

	dir       string
	certFile  string
	keyFile   string
	published bool // sessions are published

	keep   bool
	closes []func()

	on   bool // the call runs, and makes no handle
	hook func()
	gc   int64 // which of its calls into C collect
}

// run makes the handles of a call, and makes the call. It returns the number of calls into C. each
// runs in each of them, with its number.
func (m *maker) run(f forced, gc int64, each func(crossing int)) (crossings int) {
	var n atomic.Int64
	m.gc, m.hook = gc, func() { each(int(n.Add(1))) }
	defer m.calling(false)
	defer func() {
		if r := recover(); r != nil && !strings.Contains(fmt.Sprint(r), "use of a closed") {
			panic(r)
		}
		crossings = int(n.Load())
	}()
	f.call(m)
	return 0 // see above
}

// calling records whether a call runs.
func (m *maker) calling(on bool) {
	m.on = on
	if on {
		sslctx.ForceGC(m.gc)
		sslctx.BeforeCCall(m.hook)
	} else {
		sslctx.ForceGC(0)
		sslctx.BeforeCCall(nil)
	}
}

// aside pauses a call, so that a handle can be made in the middle of it.
func (m *maker) aside() (back func()) {
	was := m.on
	m.calling(false)
	return func() { m.calling(was) }
}

func newMaker(t *testing.T) *maker {
	was := sslctx.ForceGC(0)
	t.Cleanup(func() { sslctx.ForceGC(was) })
	m := &maker{tb: t, pair: testPair(t), dir: t.TempDir(), ders: map[sslctx.Version][]byte{}}
	m.certFile, m.keyFile = filepath.Join(m.dir, "cert.pem"), filepath.Join(m.dir, "key.pem")
	must(t, os.WriteFile(m.certFile, m.pair.Cert, 0o600))
	must(t, os.WriteFile(m.keyFile, m.pair.Key, 0o600))
	var err error
	m.cert, err = tls.X509KeyPair(m.pair.Cert, m.pair.Key)
	must(t, err)
	m.leaf, err = x509.ParseCertificate(m.cert.Certificate[0])
	must(t, err)
	for _, v := range []sslctx.Version{sslctx.VersionTLS12, sslctx.VersionTLS13} {
		m.ders[v], err = clientSession(t, v).Bytes()
		must(t, err)
	}
	return m
}

func (m *maker) made(closeIt func()) {
	if m.keep {
		m.closes = append(m.closes, closeIt)
	}
}

func reached[H io.Closer](m *maker, h H) H {
	if m.keep {
		m.made(func() { _ = h.Close() })
	}
	return h
}

// session makes a session of TLS 1.2. A published one is no longer in a cache, so that only the
// handle has a reference.
func (m *maker) session() *sslctx.Session {
	defer m.aside()()
	s, err := sslctx.ParseSession(m.ders[sslctx.VersionTLS12])
	must(m.tb, err)
	if m.published {
		c, err := sslctx.NewContext(sslctx.TLSMethod)
		must(m.tb, err)
		add(m.tb, c, s)
		remove(m.tb, c, s)
		must(m.tb, c.Close())
	}
	return reached(m, s)
}

// foreign makes a connection of other C code, from the SSL_CTX that was made last.
func (m *maker) foreign() ossltest.SSL {
	defer m.aside()()
	return ossltest.LastContext().NewSSL()
}

func (m *maker) context() *sslctx.Context {
	defer m.aside()()
	return reached(m, m.endOf(sslctx.TLSMethod, sslctx.VersionAny))
}

func (m *maker) endOf(method sslctx.Method, v sslctx.Version) *sslctx.Context {
	c, err := sslctx.NewContext(method)
	must(m.tb, err)
	must(m.tb, c.UseKeyPair(m.pair.Cert, m.pair.Key))
	must(m.tb, c.TrustCertificates(m.pair.Cert))
	if v != sslctx.VersionAny {
		must(m.tb, errors.Join(c.SetMinProtoVersion(v), c.SetMaxProtoVersion(v)))
	}
	return c
}

// A silent transport accepts all output; its input has ended.
type silent struct{ *wireEnd }

func newSilent() silent {
	_, end := wire()
	end.In.End(io.EOF)
	return silent{end}
}

// The states of a Conn for the calls.
type connState int

const (
	newClient connState = iota
	newServer
	server12 // connected, with a byte to read, and then the end
	server13
	client12
	client13
)

// conn makes a connection.
func (m *maker) conn(state connState) *sslctx.Conn {
	defer m.aside()()
	if state == newClient || state == newServer {
		ctx, end := m.endOf(sslctx.TLSMethod, sslctx.VersionAny), sslctx.Client
		if state == newServer {
			end = sslctx.Server
		}
		c, err := end(newSilent(), ctx)
		must(m.tb, err)
		must(m.tb, ctx.Close())
		return m.keepConn(c)
	}
	v := sslctx.VersionTLS13
	if state == server12 || state == client12 {
		v = sslctx.VersionTLS12
	}
	e := ends{m.endOf(sslctx.TLSServerMethod, v), m.endOf(sslctx.TLSClientMethod, v)}
	serverEnd, clientEnd := wire()
	server, err := sslctx.Server(serverEnd, e.server)
	must(m.tb, err)
	client, err := sslctx.Client(clientEnd, e.client)
	must(m.tb, err)
	must(m.tb, errors.Join(e.server.Close(), e.client.Close()))
	serverErr, clientErr := handshakeBoth(server, client)
	must(m.tb, errors.Join(serverErr, clientErr))
	mine, peer, end := server, client, serverEnd
	if state == client12 || state == client13 {
		mine, peer, end = client, server, clientEnd
	}
	_, err = peer.Write([]byte{1})
	must(m.tb, err)
	end.In.End(io.EOF)
	must(m.tb, peer.Abort())
	return m.keepConn(mine)
}

func (m *maker) keepConn(c *sslctx.Conn) *sslctx.Conn {
	if m.keep {
		m.made(func() { _ = c.Abort() }) // not Close, which calls into C
	}
	return c
}

// A forced call makes its handles itself. It calls into C at least once, unless inside is set.
type forced struct {
	call  func(*maker)
	stays bool
}

func onSession(call func(m *maker, s *sslctx.Session)) forced {
	return forced{call: func(m *maker) {
		h := m.session()
		m.calling(true)
		call(m, h)
	}}
}

func onContext(call func(m *maker, c *sslctx.Context)) forced {
	return forced{call: func(m *maker) {
		h := m.context()
		m.calling(true)
		call(m, h)
	}}
}

func onConn(state connState, call func(m *maker, c *sslctx.Conn)) forced {
	return forced{call: func(m *maker) {
		h := m.conn(state)
		m.calling(true)
		call(m, h)
	}}
}

// inside is for calls that do not call into C.
func (f forced) inside() forced {
	f.stays = true
	return f
}

// since is for calls that older versions do not support: there they do not call into C.
func (f forced) since(version uint64) forced {
	f.stays = f.stays || ossltest.LinkedVersion() < version
	return f
}

// forcedCalls returns all calls by their names.
func forcedCalls() map[string]forced {
	all := map[string]forced{}
	for typ, calls := range map[string]map[string]forced{
		"Session": forcedSession, "Context": forcedContext, "Conn": forcedConn,
	} {
		for name, f := range calls {
			all[typ+"."+name] = f
		}
	}
	maps.Copy(all, forcedFunctions)
	return all
}

// TestForceGCIsComplete: the calls include each exported method, and each function with a handle
// argument.
func TestForceGCIsComplete(t *testing.T) {
	functions, err := house.ExportedFuncs()
	must(t, err)
	want := map[string]bool{}
	for _, handle := range []any{new(sslctx.Session), new(sslctx.Context), new(sslctx.Conn)} {
		typ := reflect.TypeOf(handle)
		for i := range typ.NumMethod() {
			want[typ.Elem().Name()+"."+typ.Method(i).Name] = true
		}
	}
	delete(want, "Conn.LibsslCalls") // for tests
	for _, d := range functions {
		if d.Recv == nil && takesHandle(d) {
			want[d.Name.Name] = true
		}
	}
	if len(want) < 150 {
		t.Errorf("only %d methods were found", len(want))
	}
	calls := forcedCalls()
	for name := range want {
		if _, ok := calls[name]; !ok {
			t.Errorf("%s is not called: give it a line in forcegc_test.go", name)
		}
	}
	for name := range calls {
		if !want[name] {
			t.Errorf("%s does not exist", name)
		}
	}
}

func takesHandle(d *ast.FuncDecl) (takes bool) {
	for _, p := range d.Type.Params.List {
		ast.Inspect(p.Type, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			takes = takes || ok && slices.Contains([]string{"Session", "Context", "Conn"}, id.Name)
			_, isSelector := n.(*ast.SelectorExpr) // net.Conn
			return !isSelector
		})
	}
	return takes
}

// eachForced runs a test for each call, and for those that have sessions with fresh and with
// published ones.
func eachForced(t *testing.T, run func(t *testing.T, m *maker, f forced)) {
	m := newMaker(t)
	calls := forcedCalls()
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		t.Run(name, func(t *testing.T) {
			for _, m.published = range []bool{false, true} {
				m.tb = t
				run(t, m, calls[name])
			}
		})
	}
}

type liveCounts struct{ sessions, contexts, ssls int }

func live() liveCounts {
	return liveCounts{ossltest.LiveSessions(), ossltest.LiveContexts(), ossltest.LiveSSLs()}
}

// wantLive waits until the objects of the call are collected.
func wantLive(t *testing.T, before liveCounts) {
	t.Helper()
	ossltest.CollectUntil(ossltest.LiveSSLs, before.ssls)
	ossltest.CollectUntil(ossltest.LiveSessions, before.sessions)
	ossltest.CollectUntil(ossltest.LiveContexts, before.contexts)
	if now := live(); now.sessions > before.sessions || now.contexts > before.contexts || now.ssls > before.ssls {
		t.Errorf("%+v are alive, and before it were %+v", now, before)
	}
}

// TestForceGCDropped: if only the call refers to a handle, the handle is not freed before the call
// is over.
func TestForceGCDropped(t *testing.T) {
	eachForced(t, func(t *testing.T, m *maker, f forced) {
		before := live()
		crossings := m.run(f, 1, func(int) {})
		if (crossings == 0) != f.stays {
			t.Errorf("%d crossings", crossings)
		}
		wantLive(t, before)
	})
}

// TestForceGCClosed: a handle that is closed in the middle of a call is not freed before the call
// is over.
func TestForceGCClosed(t *testing.T) {
	eachForced(t, func(t *testing.T, m *maker, f forced) {
		m.keep = true
		defer func() { m.keep = false }()
		before := live()
		// The first run closes nothing, and counts the calls into C. Later runs may end early
		// because of a closed handle, so their counts do not matter.
		for at, crossings := 0, 0; at <= crossings; at++ {
			m.closes = nil
			n := m.run(f, 0, func(crossing int) {
				if crossing == at {
					for _, closeIt := range m.closes {
						closeIt()
					}
				}
			})
			crossings = max(crossings, n)
			for _, closeIt := range m.closes { // if it did not call into C
				closeIt()
			}
			m.closes = nil
		}
		wantLive(t, before)
	})
}

// mistakes has the mistakes that forced collection must find. Each ends the program with a message.
var mistakes = map[string]struct {
	make func(m *maker)
	says string
}{
	"without leave": {func(m *maker) {
		onSession(func(_ *maker, s *sslctx.Session) { sslctx.TimeoutWithoutLeave(s) }).call(m)
		runtime.GC() // whenever the next one is
		time.Sleep(time.Second)
	}, "was collected with 1 calls inside"},
	"leave before the call": {func(m *maker) {
		onSession(func(_ *maker, s *sslctx.Session) { sslctx.TimeoutAfterLeave(s) }).call(m)
	}, "SIGSEGV"},
	"uncounted, and dropped": {func(m *maker) {
		onSession(func(_ *maker, s *sslctx.Session) { sslctx.TimeoutUncounted(s) }).call(m)
	}, "SIGSEGV"},
	"uncounted, and closed": {func(m *maker) {
		m.keep, m.gc = true, 0
		m.hook = func() { m.closes[0]() }
		onSession(func(_ *maker, s *sslctx.Session) { sslctx.TimeoutUncounted(s) }).call(m)
	}, "SIGSEGV"},
	"freed memory is read": {func(*maker) { fence.ReadFreed() }, "SIGSEGV"},
}

// TestForceGCSeesMistakes makes each mistake in a program of its own.
func TestForceGCSeesMistakes(t *testing.T) {
	if name, ok := os.LookupEnv("SSLCTX_MISTAKE"); ok {
		m := newMaker(t)
		m.gc, m.hook = 1, func() {}
		mistakes[name].make(m)
		t.Fatal("nothing happened")
	}
	freed := fence.Freed()
	must(t, newSession(t, "id").Close())
	if fence.Freed() == freed {
		t.Error("the fence does not see what libssl frees")
	}
	for name, mistake := range mistakes {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestForceGCSeesMistakes$")
			cmd.Env = append(os.Environ(), "SSLCTX_MISTAKE="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), mistake.says) {
				t.Errorf("it ends with %v, and says not %q:\n%s", err, mistake.says, out)
			}
		})
	}
}

// The calls: one of each exported method, with arguments with which it calls into C.

type (
	sessionC = *sslctx.Session
	contextC = *sslctx.Context
	connC    = *sslctx.Conn
)

var forcedSession = map[string]forced{
	"ALPNSelected":       onSession(func(_ *maker, s sessionC) { s.ALPNSelected() }),
	"Bytes":              onSession(func(_ *maker, s sessionC) { _, _ = s.Bytes() }),
	"Cipher":             onSession(func(_ *maker, s sessionC) { s.Cipher() }),
	"Close":              onSession(func(_ *maker, s sessionC) { _ = s.Close() }).inside(),
	"CompressID":         onSession(func(_ *maker, s sessionC) { s.CompressID() }),
	"Dup":                onSession(func(_ *maker, s sessionC) { _, _ = s.Dup() }),
	"ExData":             onSession(func(_ *maker, s sessionC) { s.ExData("key") }),
	"GoString":           onSession(func(_ *maker, s sessionC) { _ = s.GoString() }),
	"HasTicket":          onSession(func(_ *maker, s sessionC) { s.HasTicket() }),
	"Hostname":           onSession(func(_ *maker, s sessionC) { s.Hostname() }),
	"ID":                 onSession(func(_ *maker, s sessionC) { s.ID() }),
	"IDContext":          onSession(func(_ *maker, s sessionC) { s.IDContext() }),
	"IsResumable":        onSession(func(_ *maker, s sessionC) { s.IsResumable() }),
	"LogValue":           onSession(func(_ *maker, s sessionC) { s.LogValue() }),
	"Format":             onSession(func(_ *maker, s sessionC) { _, _ = fmt.Fprint(io.Discard, s) }),
	"MarshalBinary":      onSession(func(_ *maker, s sessionC) { _, _ = s.MarshalBinary() }).inside(),
	"MarshalJSON":        onSession(func(_ *maker, s sessionC) { _, _ = s.MarshalJSON() }),
	"MarshalText":        onSession(func(_ *maker, s sessionC) { _, _ = s.MarshalText() }),
	"MasterKey":          onSession(func(_ *maker, s sessionC) { s.MasterKey() }),
	"MaxEarlyData":       onSession(func(_ *maker, s sessionC) { s.MaxEarlyData() }),
	"MaxFragmentLength":  onSession(func(_ *maker, s sessionC) { s.MaxFragmentLength() }),
	"PEM":                onSession(func(_ *maker, s sessionC) { _, _ = s.PEM() }),
	"PeerCertificate":    onSession(func(_ *maker, s sessionC) { _, _ = s.PeerCertificate() }),
	"PeerRawPublicKey":   onSession(func(_ *maker, s sessionC) { _, _ = s.PeerRawPublicKey() }).since(0x30200000),
	"Print":              onSession(func(_ *maker, s sessionC) { _ = s.Print(io.Discard) }),
	"PrintKeylog":        onSession(func(_ *maker, s sessionC) { _ = s.PrintKeylog(io.Discard) }),
	"ProtocolVersion":    onSession(func(_ *maker, s sessionC) { s.ProtocolVersion() }),
	"SameKey":            onSession(func(m *maker, s sessionC) { s.SameKey(m.session()) }),
	"Same":               onSession(func(m *maker, s sessionC) { s.Same(m.session()) }),
	"SetALPNSelected":    onSession(func(_ *maker, s sessionC) { _ = s.SetALPNSelected("h2") }),
	"SetCipher":          onSession(func(_ *maker, s sessionC) { _ = s.SetCipher(someCipher) }),
	"SetExData":          onSession(func(_ *maker, s sessionC) { _ = s.SetExData("key", 1) }),
	"SetHostname":        onSession(func(_ *maker, s sessionC) { _ = s.SetHostname("x.test") }),
	"SetID":              onSession(func(_ *maker, s sessionC) { _ = s.SetID([]byte("id")) }),
	"SetIDContext":       onSession(func(_ *maker, s sessionC) { _ = s.SetIDContext([]byte("id")) }),
	"SetMasterKey":       onSession(func(_ *maker, s sessionC) { _ = s.SetMasterKey([]byte("key")) }),
	"SetMaxEarlyData":    onSession(func(_ *maker, s sessionC) { _ = s.SetMaxEarlyData(1) }),
	"SetProtocolVersion": onSession(func(_ *maker, s sessionC) { _ = s.SetProtocolVersion(sslctx.VersionTLS12) }),
	"SetTicketAppData":   onSession(func(_ *maker, s sessionC) { _ = s.SetTicketAppData([]byte("data")) }),
	"SetTime":            onSession(func(_ *maker, s sessionC) { _ = s.SetTime(time.Now()) }),
	"SetTimeout":         onSession(func(_ *maker, s sessionC) { _ = s.SetTimeout(time.Hour) }),
	"String":             onSession(func(_ *maker, s sessionC) { _ = s.String() }),
	"Ticket":             onSession(func(_ *maker, s sessionC) { s.Ticket() }),
	"TicketAppData":      onSession(func(_ *maker, s sessionC) { s.TicketAppData() }),
	"TicketLifetimeHint": onSession(func(_ *maker, s sessionC) { s.TicketLifetimeHint() }),
	"Time":               onSession(func(_ *maker, s sessionC) { s.Time() }),
	"Timeout":            onSession(func(_ *maker, s sessionC) { s.Timeout() }),
	"UnmarshalBinary":    onSession(func(_ *maker, s sessionC) { _ = s.UnmarshalBinary(nil) }).inside(),
	"UnmarshalJSON":      onSession(func(_ *maker, s sessionC) { _ = s.UnmarshalJSON(nil) }).inside(),
	"UnmarshalText":      onSession(func(_ *maker, s sessionC) { _ = s.UnmarshalText(nil) }).inside(),
}

// someCipher is TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
var someCipher = sslctx.Cipher{ID: 0xc02b}

var forcedContext = map[string]forced{
	"AddSession":          onContext(func(m *maker, c contextC) { _, _ = c.AddSession(m.session()) }),
	"AllowALPNMismatch":   onContext(func(_ *maker, c contextC) { _ = c.AllowALPNMismatch(true) }),
	"AddSessions":         onContext(func(m *maker, c contextC) { _, _ = c.AddSessions([]sessionC{m.session(), m.session()}) }),
	"CacheSize":           onContext(func(_ *maker, c contextC) { c.CacheSize() }),
	"CacheStats":          onContext(func(_ *maker, c contextC) { c.CacheStats() }),
	"CheckPrivateKey":     onContext(func(_ *maker, c contextC) { _ = c.CheckPrivateKey() }),
	"ClearMode":           onContext(func(_ *maker, c contextC) { _, _ = c.ClearMode(0) }),
	"ClearOptions":        onContext(func(_ *maker, c contextC) { _, _ = c.ClearOptions(0) }),
	"Close":               onContext(func(_ *maker, c contextC) { _ = c.Close() }).inside(),
	"Configure":           onContext(func(_ *maker, c contextC) { _ = c.Configure("MinProtocol", "TLSv1.2") }),
	"Format":              onContext(func(_ *maker, c contextC) { _, _ = fmt.Fprint(io.Discard, c) }).inside(),
	"GoString":            onContext(func(_ *maker, c contextC) { _ = c.GoString() }).inside(),
	"String":              onContext(func(_ *maker, c contextC) { _ = c.String() }).inside(),
	"FlushSessions":       onContext(func(_ *maker, c contextC) { _ = c.FlushSessions(time.Now()) }),
	"LoadVerifyLocations": onContext(func(m *maker, c contextC) { _ = c.LoadVerifyLocations(m.certFile, "") }),
	"MaxEarlyData":        onContext(func(_ *maker, c contextC) { c.MaxEarlyData() }),
	"MaxProtoVersion":     onContext(func(_ *maker, c contextC) { c.MaxProtoVersion() }),
	"MinProtoVersion":     onContext(func(_ *maker, c contextC) { c.MinProtoVersion() }),
	"Mode":                onContext(func(_ *maker, c contextC) { c.Mode() }),
	"NumTickets":          onContext(func(_ *maker, c contextC) { c.NumTickets() }),
	"Options":             onContext(func(_ *maker, c contextC) { c.Options() }),
	"RecvMaxEarlyData":    onContext(func(_ *maker, c contextC) { c.RecvMaxEarlyData() }),
	"RemoveSession":       onContext(func(m *maker, c contextC) { _, _ = c.RemoveSession(m.session()) }),
	"RemoveSessions":      onContext(func(m *maker, c contextC) { _, _ = c.RemoveSessions([]sessionC{m.session(), m.session()}) }),
	"RequestOCSP":         onContext(func(_ *maker, c contextC) { _ = c.RequestOCSP(true) }),
	"SecurityLevel":       onContext(func(_ *maker, c contextC) { c.SecurityLevel() }),
	"SessionCacheMode":    onContext(func(_ *maker, c contextC) { c.SessionCacheMode() }),
	"SessionOf": onContext(func(m *maker, c contextC) {
		ssl := m.foreign()
		_, _ = c.SessionOf(ssl.Pointer())
		ssl.Free()
	}),
	"Sessions":      onContext(func(_ *maker, c contextC) { _, _ = c.Sessions() }),
	"SetALPNProtos": onContext(func(_ *maker, c contextC) { _ = c.SetALPNProtos("h2") }),
	"SetAllowEarlyDataCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetAllowEarlyDataCallback(func(context.Context, connC) bool { return true })
	}),
	"SetBlockPadding": onContext(func(_ *maker, c contextC) { _ = c.SetBlockPadding(16) }),
	"SetCacheSize":    onContext(func(_ *maker, c contextC) { _, _ = c.SetCacheSize(1) }),
	"SetCipherList":   onContext(func(_ *maker, c contextC) { _ = c.SetCipherList("HIGH") }),
	"SetCiphersuites": onContext(func(_ *maker, c contextC) { _ = c.SetCiphersuites("TLS_AES_128_GCM_SHA256") }),
	"SetClientHelloCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetClientHelloCallback(func(context.Context, *tls.ClientHelloInfo) (contextC, error) { return nil, nil })
	}),
	"SetClientCAs":          onContext(func(m *maker, c contextC) { _ = c.SetClientCAs(m.leaf) }),
	"SetClientSigalgs":      onContext(func(_ *maker, c contextC) { _ = c.SetClientSigalgs("ECDSA+SHA256") }),
	"SetDHAuto":             onContext(func(_ *maker, c contextC) { _ = c.SetDHAuto(true) }),
	"SetSigalgs":            onContext(func(_ *maker, c contextC) { _ = c.SetSigalgs("ECDSA+SHA256") }),
	"SetDefaultVerifyPaths": onContext(func(_ *maker, c contextC) { _ = c.SetDefaultVerifyPaths() }),
	"SetGetSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetGetSessionCallback(func(context.Context, []byte) sessionC { return nil })
	}),
	"SetGroups":             onContext(func(_ *maker, c contextC) { _ = c.SetGroups("P-256") }),
	"SetIDContext":          onContext(func(_ *maker, c contextC) { _ = c.SetIDContext([]byte("id")) }),
	"SetKeyLogWriter":       onContext(func(_ *maker, c contextC) { _ = c.SetKeyLogWriter(io.Discard) }),
	"SetMaxEarlyData":       onContext(func(_ *maker, c contextC) { _ = c.SetMaxEarlyData(1) }),
	"SetMaxFragmentLength":  onContext(func(_ *maker, c contextC) { _ = c.SetMaxFragmentLength(sslctx.MaxFragment512) }),
	"SetMaxProtoVersion":    onContext(func(_ *maker, c contextC) { _ = c.SetMaxProtoVersion(sslctx.VersionTLS12) }),
	"SetMaxSendFragment":    onContext(func(_ *maker, c contextC) { _ = c.SetMaxSendFragment(512) }),
	"SetMinProtoVersion":    onContext(func(_ *maker, c contextC) { _ = c.SetMinProtoVersion(sslctx.VersionTLS12) }),
	"SetMode":               onContext(func(_ *maker, c contextC) { _, _ = c.SetMode(0) }),
	"SetNewSessionCallback": onContext(func(_ *maker, c contextC) { _ = c.SetNewSessionCallback(func(connC, sessionC) {}) }),
	"SetNotResumableSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetNotResumableSessionCallback(func(context.Context, connC, bool) bool { return true })
	}),
	"SetNumTickets":   onContext(func(_ *maker, c contextC) { _ = c.SetNumTickets(1) }),
	"SetOCSPResponse": onContext(func(_ *maker, c contextC) { _ = c.SetOCSPResponse([]byte{0x30, 0}) }),
	"SetOptions":      onContext(func(_ *maker, c contextC) { _, _ = c.SetOptions(0) }),
	"SetPSKClientCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKClientCallback(func(context.Context, connC, string) (string, []byte) { return "", nil })
	}),
	"SetPSKFindSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKFindSessionCallback(func(context.Context, connC, []byte) sessionC { return nil })
	}),
	"SetPSKServerCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKServerCallback(func(context.Context, connC, string) []byte { return nil })
	}),
	"SetPSKUseSessionCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetPSKUseSessionCallback(func(context.Context, connC, crypto.Hash) ([]byte, sessionC) { return nil, nil })
	}),
	"SetRecvMaxEarlyData":      onContext(func(_ *maker, c contextC) { _ = c.SetRecvMaxEarlyData(1) }),
	"SetRemoveSessionCallback": onContext(func(_ *maker, c contextC) { _ = c.SetRemoveSessionCallback(func(sessionC) {}) }),
	"SetSecurityLevel":         onContext(func(_ *maker, c contextC) { _ = c.SetSecurityLevel(1) }),
	"SetSessionCacheMode":      onContext(func(_ *maker, c contextC) { _, _ = c.SetSessionCacheMode(sslctx.SessCacheServer) }),
	"SetSessionIDGenerator": onContext(func(_ *maker, c contextC) {
		_ = c.SetSessionIDGenerator(func(context.Context, connC, int) ([]byte, error) { return nil, nil })
	}),
	"SetSessionIDPrefix": onContext(func(_ *maker, c contextC) { _ = c.SetSessionIDPrefix([]byte("id")) }),
	"SetSessionLookup": onContext(func(_ *maker, c contextC) {
		_ = c.SetSessionLookup(&sslctx.SessionLookup{Find: func(context.Context, sslctx.SessionQuery) (sessionC, error) { return nil, nil }})
	}),
	"SetSessionOf": onContext(func(m *maker, c contextC) {
		ssl := m.foreign()
		_ = c.SetSessionOf(ssl.Pointer(), m.session())
		ssl.Free()
	}),
	"SetSessionTicketCallback": onContext(func(_ *maker, c contextC) {
		_ = c.SetSessionTicketCallback(func(context.Context, sslctx.SessionTicket) ([]byte, error) { return nil, nil }, nil)
	}),
	"SetSplitSendFragment": onContext(func(_ *maker, c contextC) { _ = c.SetSplitSendFragment(512) }),
	"SetTicketKeyRing": onContext(func(_ *maker, c contextC) {
		_ = c.SetTicketKeyRing(ringOf(sslctx.NewTicketKey(), nil, nil))
	}),
	"SetTicketKeys": onContext(func(m *maker, c contextC) {
		back := m.aside()
		keys, _ := m.context().TicketKeys()
		back()
		_ = c.SetTicketKeys(keys)
	}),
	"SetTimeout":              onContext(func(_ *maker, c contextC) { _, _ = c.SetTimeout(time.Hour) }),
	"SetVerify":               onContext(func(_ *maker, c contextC) { _ = c.SetVerify(sslctx.VerifyPeer) }),
	"SetVerifyDepth":          onContext(func(_ *maker, c contextC) { _ = c.SetVerifyDepth(1) }),
	"TicketKeys":              onContext(func(_ *maker, c contextC) { _, _ = c.TicketKeys() }),
	"Timeout":                 onContext(func(_ *maker, c contextC) { c.Timeout() }),
	"TrustCertPool":           onContext(func(_ *maker, c contextC) { _ = c.TrustCertPool(x509.NewCertPool()) }),
	"TrustCertificate":        onContext(func(m *maker, c contextC) { _ = c.TrustCertificate(m.leaf) }),
	"TrustCertificates":       onContext(func(m *maker, c contextC) { _ = c.TrustCertificates(m.pair.Cert) }),
	"UseCertificate":          onContext(func(m *maker, c contextC) { _ = c.UseCertificate(m.cert) }),
	"UseCertificateChainFile": onContext(func(m *maker, c contextC) { _ = c.UseCertificateChainFile(m.certFile) }),
	"UseKeyPair":              onContext(func(m *maker, c contextC) { _ = c.UseKeyPair(m.pair.Cert, m.pair.Key) }),
	"UsePSKIdentityHint":      onContext(func(_ *maker, c contextC) { _ = c.UsePSKIdentityHint("hint") }),
	"UsePrivateKeyFile":       onContext(func(m *maker, c contextC) { _ = c.UsePrivateKeyFile(m.keyFile) }),
	"SetPostHandshakeAuth":    onContext(func(_ *maker, c contextC) { _ = c.SetPostHandshakeAuth(true) }),
	"VerifyDepth":             onContext(func(_ *maker, c contextC) { c.VerifyDepth() }),
	"VerifyMode":              onContext(func(_ *maker, c contextC) { c.VerifyMode() }),
}

// ended is a context that is done.
var ended = func() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return ctx
}()

var forcedConn = map[string]forced{
	"AcceptableCAs":          onConn(client13, func(_ *maker, c connC) { _, _ = c.AcceptableCAs() }),
	"ClearOptions":           onConn(newServer, func(_ *maker, c connC) { _, _ = c.ClearOptions(0) }),
	"Options":                onConn(newServer, func(_ *maker, c connC) { _, _ = c.Options() }),
	"SetOptions":             onConn(newServer, func(_ *maker, c connC) { _, _ = c.SetOptions(0) }),
	"Abort":                  onConn(client13, func(_ *maker, c connC) { _ = c.Abort() }).inside(),
	"AwaitTicket":            onConn(client13, func(_ *maker, c connC) { _ = c.AwaitTicket(ended) }),
	"Cipher":                 onConn(client13, func(_ *maker, c connC) { c.Cipher() }).inside(),
	"ClientRandom":           onConn(client13, func(_ *maker, c connC) { _, _ = c.ClientRandom() }),
	"Close":                  onConn(client13, func(_ *maker, c connC) { _ = c.Close() }),
	"CloseWrite":             onConn(client13, func(_ *maker, c connC) { _ = c.CloseWrite() }),
	"ConnectionState":        onConn(client13, func(_ *maker, c connC) { c.ConnectionState() }).inside(),
	"CopySessionID":          onConn(newClient, func(m *maker, c connC) { _ = c.CopySessionID(m.conn(client13)) }),
	"DefaultTimeout":         onConn(newClient, func(_ *maker, c connC) { _, _ = c.DefaultTimeout() }),
	"EarlyDataStatus":        onConn(client13, func(_ *maker, c connC) { c.EarlyDataStatus() }).inside(),
	"Format":                 onConn(newClient, func(_ *maker, c connC) { _, _ = fmt.Fprint(io.Discard, c) }).inside(),
	"GoString":               onConn(newClient, func(_ *maker, c connC) { _ = c.GoString() }).inside(),
	"String":                 onConn(newClient, func(_ *maker, c connC) { _ = c.String() }).inside(),
	"Handshake":              onConn(newClient, func(_ *maker, c connC) { _ = c.Handshake() }),
	"HandshakeContext":       onConn(newServer, func(m *maker, c connC) { _ = c.HandshakeContext(m.tb.Context()) }),
	"HandshakeReadEarlyData": onConn(newServer, func(m *maker, c connC) { _, _ = c.HandshakeReadEarlyData(m.tb.Context()) }),
	"HandshakeWithEarlyData": onConn(newClient, func(m *maker, c connC) { _ = c.HandshakeWithEarlyData(m.tb.Context(), []byte{1}) }),
	"HasMatchingSessionID":   onConn(server13, func(_ *maker, c connC) { _, _ = c.HasMatchingSessionID([]byte("id")) }),
	"KeyUpdate":              onConn(server13, func(_ *maker, c connC) { _ = c.KeyUpdate(true) }),
	"LocalAddr":              onConn(newClient, func(_ *maker, c connC) { c.LocalAddr() }).inside(),
	"MaxEarlyData":           onConn(newServer, func(_ *maker, c connC) { c.MaxEarlyData() }),
	"NetConn":                onConn(newClient, func(_ *maker, c connC) { c.NetConn() }).inside(),
	"NewSessionTicket":       onConn(server13, func(_ *maker, c connC) { _ = c.NewSessionTicket() }).since(0x30000000),
	"NumTickets":             onConn(newServer, func(_ *maker, c connC) { _, _ = c.NumTickets() }),
	"PSKIdentity":            onConn(client12, func(_ *maker, c connC) { c.PSKIdentity() }),
	"PSKIdentityHint":        onConn(client12, func(_ *maker, c connC) { c.PSKIdentityHint() }),
	"Read":                   onConn(client13, func(_ *maker, c connC) { _, _ = c.Read(make([]byte, 1)) }),
	"ReadEarlyData":          onConn(newServer, func(_ *maker, c connC) { _, _ = c.ReadEarlyData(make([]byte, 1)) }),
	"RecvMaxEarlyData":       onConn(newServer, func(_ *maker, c connC) { c.RecvMaxEarlyData() }),
	"RemoteAddr":             onConn(newClient, func(_ *maker, c connC) { c.RemoteAddr() }).inside(),
	"Renegotiate":            onConn(client12, func(_ *maker, c connC) { _ = c.Renegotiate() }),
	"ResumedSession":         onConn(client12, func(_ *maker, c connC) { _, _ = c.ResumedSession() }),
	"ServerRandom":           onConn(server12, func(_ *maker, c connC) { _, _ = c.ServerRandom() }),
	"Session":                onConn(client12, func(_ *maker, c connC) { _, _ = c.Session() }),
	"SessionReused":          onConn(client12, func(_ *maker, c connC) { c.SessionReused() }).inside(),
	"SetDeadline":            onConn(newClient, func(_ *maker, c connC) { _ = c.SetDeadline(time.Time{}) }).inside(),
	"SetIDContext":           onConn(newServer, func(_ *maker, c connC) { _ = c.SetIDContext([]byte("id")) }),
	"SetMaxEarlyData":        onConn(newServer, func(_ *maker, c connC) { _ = c.SetMaxEarlyData(1) }),
	"SetNotResumableSessionCallback": onConn(newServer, func(_ *maker, c connC) {
		_ = c.SetNotResumableSessionCallback(func(context.Context, connC, bool) bool { return true })
	}),
	"SetNumTickets":       onConn(newServer, func(_ *maker, c connC) { _ = c.SetNumTickets(1) }),
	"SetBackgroundClose":  onConn(newClient, func(_ *maker, c connC) { _ = c.SetBackgroundClose(true) }).inside(),
	"SetQuietShutdown":    onConn(newClient, func(_ *maker, c connC) { _ = c.SetQuietShutdown(true) }),
	"SetReadDeadline":     onConn(newClient, func(_ *maker, c connC) { _ = c.SetReadDeadline(time.Time{}) }).inside(),
	"SetRecvMaxEarlyData": onConn(newServer, func(_ *maker, c connC) { _ = c.SetRecvMaxEarlyData(1) }),
	"SetServerName":       onConn(newClient, func(_ *maker, c connC) { _ = c.SetServerName("x.test") }),
	"SetSession":          onConn(newClient, func(m *maker, c connC) { _ = c.SetSession(m.session()) }),
	"SetSessionIDGenerator": onConn(newServer, func(_ *maker, c connC) {
		_ = c.SetSessionIDGenerator(func(context.Context, connC, int) ([]byte, error) { return nil, nil })
	}),
	"SetSessionTicketExt": onConn(newClient, func(_ *maker, c connC) { _ = c.SetSessionTicketExt([]byte("ticket")) }),
	"SetSessionTicketExtCallback": onConn(newServer, func(_ *maker, c connC) {
		_ = c.SetSessionTicketExtCallback(func(context.Context, []byte) error { return nil })
	}),
	"SetWriteDeadline":          onConn(newClient, func(_ *maker, c connC) { _ = c.SetWriteDeadline(time.Time{}) }).inside(),
	"VerifyClientPostHandshake": onConn(server13, func(_ *maker, c connC) { _ = c.VerifyClientPostHandshake() }),
	"AcceptAnyName":             onConn(newClient, func(_ *maker, c connC) { _ = c.AcceptAnyName() }),
	"SetVerify":                 onConn(newClient, func(_ *maker, c connC) { _ = c.SetVerify(sslctx.VerifyPeer) }),
	"SetPostHandshakeAuth":      onConn(newClient, func(_ *maker, c connC) { _ = c.SetPostHandshakeAuth(true) }),
	"ExportKeyingMaterial":      onConn(client13, func(_ *maker, c connC) { _, _ = c.ExportKeyingMaterial("EXPORTER-x", nil, 1) }),
	"VerifyResult":              onConn(client13, func(_ *maker, c connC) { _, _ = c.VerifyResult() }),
	"Version":                   onConn(client13, func(_ *maker, c connC) { c.Version() }).inside(),
	"Write":                     onConn(server12, func(_ *maker, c connC) { _, _ = c.Write([]byte{1}) }),
	"WriteEarlyData":            onConn(newClient, func(_ *maker, c connC) { _, _ = c.WriteEarlyData([]byte{1}) }),
}

var forcedFunctions = map[string]forced{
	"Client":      onContext(func(_ *maker, c contextC) { _, _ = sslctx.Client(newSilent(), c) }),
	"Server":      onContext(func(_ *maker, c contextC) { _, _ = sslctx.Server(newSilent(), c) }),
	"NewListener": onContext(func(_ *maker, c contextC) { sslctx.NewListener(nowhere, c) }).inside(),
	"Dial":        onContext(func(_ *maker, c contextC) { _, _ = sslctx.Dial("unix", "/nowhere", c) }).inside(),
	"Listen":      onContext(func(_ *maker, c contextC) { _, _ = sslctx.Listen("unix", "/nowhere/at/all", c) }),
}

var nowhere net.Listener
