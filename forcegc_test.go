// SPDX-License-Identifier: Apache-2.0

//go:build forcegc

package sslctx_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"go/ast"
	"io"
	"maps"
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
	"sslctx/internal/ossltest"
	"sslctx/internal/testcert"
)

// These tests call every method of a Session, Context and Conn in two ways that must not hurt: on a handle that nothing
// refers to but the call, where each crossing collects garbage; and on handles that are closed in the middle of it, at
// each crossing in turn. What C touches after it was freed ends the program (internal/fence).

// A maker makes handles for calls. It keeps none, but for those that are to be closed.
type maker struct {
	tb   testing.TB
	pair testcert.Pair
	cert tls.Certificate
	leaf *x509.Certificate
	ders map[sslctx.Version][]byte // of clients' sessions

	dir       string
	certFile  string
	keyFile   string
	published bool // sessions are

	keep   bool
	closes []func()

	on   bool // the call is under way, and makes no handle
	hook func()
	gc   int64 // which of its crossings collect
}

// run makes the handles of a call, and the call; it returns how many crossings it took. each runs in each, with its
// number.
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

// calling says that a call is under way, or that it is not.
func (m *maker) calling(on bool) {
	m.on = on
	if on {
		sslctx.ForceGC(m.gc)
		sslctx.InCrossing(m.hook)
	} else {
		sslctx.ForceGC(0)
		sslctx.InCrossing(nil)
	}
}

// aside is for making a handle in the middle of a call.
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

// session makes a session of TLS 1.2; a published one is in no cache any more, so that the handle's is the only reference.
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

// foreign makes a connection of other C code's, from the SSL_CTX that was made last.
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

// A silent transport takes everything and has ended.
type silent struct{ *wireEnd }

func newSilent() silent {
	_, end := wire()
	end.in.end(io.EOF)
	return silent{end}
}

// The states that a Conn is called in.
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
	serverErr, clientErr := bothShake(server, client)
	must(m.tb, errors.Join(serverErr, clientErr))
	mine, peer, end := server, client, serverEnd
	if state == client12 || state == client13 {
		mine, peer, end = client, server, clientEnd
	}
	_, err = peer.Write([]byte{1})
	must(m.tb, err)
	end.in.end(io.EOF)
	must(m.tb, peer.Abort())
	return m.keepConn(mine)
}

func (m *maker) keepConn(c *sslctx.Conn) *sslctx.Conn {
	if m.keep {
		m.made(func() { _ = c.Abort() }) // not Close, which crosses
	}
	return c
}

// A forced call makes its handles itself. It crosses at least once, or says that it does not.
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

// inside is for calls that do not cross.
func (f forced) inside() forced {
	f.stays = true
	return f
}

// since is for calls that do not cross in older versions, which cannot do it.
func (f forced) since(version uint64) forced {
	f.stays = f.stays || ossltest.LinkedVersion() < version
	return f
}

// forcedCalls are all, by their names.
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

// TestForceGCIsComplete: each exported method, and each function that is given a handle, is called.
func TestForceGCIsComplete(t *testing.T) {
	h, err := readHouse(".")
	must(t, err)
	want := map[string]bool{}
	for _, handle := range []any{new(sslctx.Session), new(sslctx.Context), new(sslctx.Conn)} {
		typ := reflect.TypeOf(handle)
		for i := range typ.NumMethod() {
			want[typ.Elem().Name()+"."+typ.Method(i).Name] = true
		}
	}
	delete(want, "Conn.Crossings") // for tests
	for _, d := range h.functions() {
		if d.Recv == nil && d.Name.IsExported() && takesHandle(d) {
			want[d.Name.Name] = true
		}
	}
	if len(want) < 150 {
		t.Errorf("only %d methods were found", len(want))
	}
	calls := forcedCalls()
	for name := range want {
		if _, ok := calls[name]; !ok {
			t.Errorf("%s is not called: give it a line in forcegc_calls_test.go", name)
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

// eachForced runs a test for each call, and for those that have sessions with fresh and with published ones.
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

// wantLive waits for what the call left behind to be collected.
func wantLive(t *testing.T, before liveCounts) {
	t.Helper()
	ossltest.Settle(ossltest.LiveSSLs, before.ssls)
	ossltest.Settle(ossltest.LiveSessions, before.sessions)
	ossltest.Settle(ossltest.LiveContexts, before.contexts)
	if now := live(); now.sessions > before.sessions || now.contexts > before.contexts || now.ssls > before.ssls {
		t.Errorf("%+v are alive, and before it were %+v", now, before)
	}
}

// TestForceGCDropped: a handle that nothing refers to but the call is not freed before the call is over.
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

// TestForceGCClosed: a handle that is closed in the middle of a call is not freed before the call is over.
func TestForceGCClosed(t *testing.T) {
	eachForced(t, func(t *testing.T, m *maker, f forced) {
		m.keep = true
		defer func() { m.keep = false }()
		before := live()
		// Not to the last crossing of a call that was ended by a closed handle: the first call, in which nothing is closed,
		// says how many there are.
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
			for _, closeIt := range m.closes { // when it did not cross
				closeIt()
			}
			m.closes = nil
		}
		wantLive(t, before)
	})
}

// mistakes are what forced collection is there to find; each ends the program, and says so.
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
	"freed memory is read": {func(*maker) { fence.Trespass() }, "SIGSEGV"},
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
