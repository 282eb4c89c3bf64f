// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/asn1"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sslctx/internal/tlstest"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sslctx"
)

// TestRandomOperations runs random operations over several contexts and sessions, real handshakes
// among them, through libssl alone and through the binding, and compares after each. A model
// predicts which operations the binding refuses. libssl runs each refused operation in a separate
// process: the operation must do harm there. An operation that is not refused must leave libssl's
// caches intact.
//
// A failing list is shrunk: the test prints the shortest list that fails.
func TestRandomOperations(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g := newGame(t)
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // rapid's default is 100 lists
		must(t, f.Value.Set("400"))
		defer func() { _ = f.Value.Set(f.DefValue) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		if err := g.play(t, rapid.SliceOfN(choices, 1, 60).Draw(rt, "operations")); err != nil {
			rt.Fatal(err)
		}
	})
}

// FuzzOps runs the lists that the bytes encode, four bytes an operation: its kind, and what it
// picks. It tests the order of an application's calls, and reads no bytes of a peer.
//
// Reached: the methods of contexts, sessions and connections that kinds names, on the binding and
// on the oracle, and the code that compares the two; docs/peer-bytes.md has the coverage that shows
// it.
func FuzzOps(f *testing.F) {
	for seed := range byte(8) {
		list := make([]byte, 160)
		for i := range list {
			list[i] = byte(i)*(2*seed+37) + seed*byte(i/7)
		}
		f.Add(list)
	}
	g := newGame(f)
	f.Fuzz(func(t *testing.T, list []byte) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var ops []choice
		for ; len(list) >= 4 && len(ops) < 200; list = list[4:] {
			ops = append(ops, choice{int(list[0]) % len(kinds), int(list[1] % 12), int(list[2] % 12), int(list[3] % 12)})
		}
		if err := g.play(t, ops); err != nil {
			t.Fatal(err)
		}
	})
}

// game runs lists of operations, one after the other, with one oracle.
type game struct {
	oracle    *oracle
	cert, key string
}

func newGame(t testing.TB) *game {
	files := certFiles(t)
	return &game{startOracle(t), strings.TrimSpace(files[1]), strings.TrimSpace(files[3])}
}

// play runs a list on both sides, and frees everything.
func (g *game) play(t testing.TB, list []choice) error {
	r := &random{judge: newComparer(t, g.oracle), cert: g.cert, key: g.key, model: newModel()}
	r.model.holds = func(context, session string) bool {
		o, err := g.oracle.do("holds " + context + " " + session)
		must(t, err)
		return o.result == "1"
	}
	defer r.binding.reset()
	if err := r.judge.do("reset"); err != nil { // a failed list may have left objects in the oracle
		return err
	}
	for _, c := range list {
		if err := r.apply(c); err != nil {
			return fmt.Errorf("%v\n\nThe operations were\n  %s", err, strings.Join(r.ops, "\n  "))
		}
	}
	if err := r.do("reset"); err != nil {
		return err
	}
	if live, _ := r.last[1].value("live", ""); live != "0" {
		return fmt.Errorf("%s sessions are alive at the end of\n  %s", live, strings.Join(r.ops, "\n  "))
	}
	return nil
}

var must = tlstest.Must

// choice is an operation as numbers. The numbers later pick among the objects that exist.
type choice struct {
	Kind    int
	A, B, C int
}

var choices = rapid.Custom(func(t *rapid.T) choice {
	n := rapid.IntRange(0, 11)
	return choice{
		Kind: rapid.IntRange(0, len(kinds)-1).Draw(t, "kind"),
		A:    n.Draw(t, "a"), B: n.Draw(t, "b"), C: n.Draw(t, "c"),
	}
})

// random turns choices into operations.
type random struct {
	*judge
	cert, key string
	model     *model
	ops       []string
}

// do runs an operation and compares its refusal with the model's.
func (r *random) do(format string, a ...any) error {
	op := fmt.Sprintf(format, a...)
	r.ops = append(r.ops, op)
	want := r.model.refusal(op)
	if err := r.judge.do(op); err != nil {
		return err
	}
	got := r.last[1].result
	if !strings.HasPrefix(got, "refused ") {
		got = ""
	}
	if got != want {
		return fmt.Errorf("after %q the binding says %q, the rules say %q", op, got, want)
	}
	if got != "" {
		if harmless[refusalKind(op, got)] != "" {
			return nil
		}
		return r.harms(op)
	}
	r.model.note(op, r.last[1].result, r.binding)
	if o, err := r.oracle.do("sound"); err != nil || o.result != "ok" {
		return fmt.Errorf("after %q libssl is not sound: %q, %v", op, o.result, err)
	}
	return nil
}

// harmless has the refusals for which operations of one thread show no harm.
var harmless = map[string]string{
	"refused ArgumentError":       "versions do not agree",
	"refused ErrPublished":        "connections on other threads read it without a lock",
	"refused ErrNoEarlyData":      "libssl fails the connection, and corrupts nothing",
	"refused ErrNoCipher of pair": "it could only fail the handshake, with an error that does not say why",
}

func refusalKind(op, refusal string) string {
	if strings.HasPrefix(op, "pair ") {
		return refusal + " of pair"
	}
	return refusal
}

// harms runs a refused operation on libssl alone, and checks that it does harm.
func (j *judge) harms(op string) error {
	o, err := j.oracle.do("whatif " + op)
	if err == nil && o.result == "well" {
		err = fmt.Errorf("the binding refuses %q, which libssl alone does without harm", op)
	}
	return err
}

func (r *random) apply(c choice) error { return kinds[c.Kind](r, c) }

// pick chooses among names, "" if there are none.
func pick[V any](m map[string]V, n int) string {
	names := slices.Sorted(maps.Keys(m))
	if len(names) == 0 {
		return ""
	}
	return names[n%len(names)]
}

func (r *random) ctx(n int) string     { return pick(r.binding.contexts, n) }
func (r *random) session(n int) string { return pick(r.binding.sessions, n) }

const (
	maxContexts = 3
	maxSessions = 6
)

// Times and timeouts are far apart, so that a second between the two sides does not change an
// order.
func someTime(n int) int    { return 1000 + 100*n }
func someTimeout(n int) int { return 100 * n }

// someID returns one of a few IDs, so that keys collide.
func someID(n int) string { return []string{"01", "02", "03", "0102", "01020304", "-"}[n%6] }

func onContext(format string, operand func(int) any) func(*random, choice) error {
	return func(r *random, c choice) error {
		if name := r.ctx(c.A); name != "" {
			return r.do(format, name, operand(c.B))
		}
		return nil
	}
}

func onSession(format string, operand func(int) any) func(*random, choice) error {
	return func(r *random, c choice) error {
		if name := r.session(c.A); name != "" {
			return r.do(format, name, operand(c.B))
		}
		return nil
	}
}

func onBoth(format string) func(*random, choice) error {
	return func(r *random, c choice) error {
		if ctx, s := r.ctx(c.A), r.session(c.B); ctx != "" && s != "" {
			return r.do(format, ctx, s)
		}
		return nil
	}
}

func onMany(op string) func(*random, choice) error {
	return func(r *random, c choice) error {
		if ctx, s := r.ctx(c.A), r.session(c.B); ctx != "" && s != "" {
			return r.do("%s %s %s %s %s", op, ctx, s, r.session(c.C), r.session(c.B+c.C))
		}
		return nil
	}
}

// kinds are the operations that a choice can be. An entry that is there twice is chosen more often.
var kinds = []func(*random, choice) error{
	makeContext, makeContext,
	func(r *random, c choice) error {
		if name := r.ctx(c.A); name != "" && c.B < 3 {
			return r.do("ctxfree %s", name)
		}
		return nil
	},
	onContext("mode %s %d", func(n int) any {
		return []int{0, 1, 2, 3, 0x82, 0x102, 0x103, 0x202, 0x203, 0x302, 0x303, 2}[n]
	}),
	onContext("size %s %d", func(n int) any { return n % 6 }),
	onContext("timeout %s %d", func(n int) any { return []int{0, 300, 7200}[n%3] }),
	onContext("sidctx %s %s", func(n int) any { return []string{"-", "aa", "bbbb"}[n%3] }),
	onContext("options %s set %d", func(int) any { return 0x4000 }),
	onContext("options %s clear %d", func(int) any { return 0x4000 }),
	onContext("callbacks %s %s", func(n int) any {
		return []string{"none", "new", "get", "remove", "new,get", "new,remove", "new,get,remove"}[n%7]
	}),
	onContext("flush %s %d", func(n int) any { return []int{0, 1100, 1300, 1500, 1700, 2000}[n%6] }),
	makeSession, makeSession, parseSession, parseSession,
	func(r *random, c choice) error {
		if from := r.session(c.A); from != "" {
			return r.do("dup s%d %s", c.B%maxSessions, from)
		}
		return nil
	},
	func(r *random, c choice) error {
		if name := r.session(c.A); name != "" {
			return r.do("free %s", name)
		}
		return nil
	},
	onSession("id %s %s", func(n int) any { return someID(n) }),
	onSession("idctx %s %s", func(n int) any { return []string{"-", "aa", "bbbb"}[n%3] }),
	onSession("version %s %d", func(n int) any { return []int{0, 0x0303, 0x0304}[n%3] }),
	onSession("time %s %d", func(n int) any { return someTime(n) }),
	onSession("stimeout %s %d", func(n int) any { return someTimeout(n) }),
	onSession("stimeout %s %d", func(n int) any { return someTimeout(n) }),
	onSession("cipher %s %d", func(n int) any { return []int{0x1301, 0xc02b, 0x1301, 0}[n%4] }),
	onSession("masterkey %s %s", func(n int) any { return []string{"-", "0102", "030405"}[n%3] }),
	onSession("host %s %s", func(n int) any { return []string{"-", "a.example", "b.example.org"}[n%3] }),
	onSession("alpn %s %s", func(n int) any { return []string{"-", "6832", "687474702f312e31"}[n%3] }),
	onSession("appdata %s %s", func(n int) any { return []string{"-", "00", "ff00ff"}[n%3] }),
	onSession("maxearly %s %d", func(n int) any { return n * 1000 }),
	onSession("exdata %s %d", func(n int) any { return n }),
	onSession("exdata %s %d", func(n int) any { return n + 100 }),
	onContext("sessions %s%.0d", func(int) any { return 0 }),
	onBoth("add %s %s"), onBoth("add %s %s"), onBoth("add %s %s"), onBoth("add %s %s"),
	onBoth("remove %s %s"), onBoth("remove %s %s"),
	onMany("addall"), onMany("removeall"),
	func(r *random, c choice) error {
		if a, b := r.session(c.A), r.session(c.B); a != "" {
			return r.do("same %s %s", a, b)
		}
		return nil
	},
	connect, connect,
	onContext("genid %s prefix %s", func(n int) any { return []string{"-", "a1", "b2b2b2b2"}[n%3] }),
	onContext("numtickets %s %d", func(n int) any { return 1 + n%3 }),
	onContext("ticketkeys %s %s", func(n int) any { return ticketKey(n % 2) }),
	onContext("ring %s %s", func(n int) any {
		return []string{"none", ticketKey(0), ticketKey(1), ticketKey(1) + " old:" + ticketKey(0), ticketKey(0) + " next:" + ticketKey(1)}[n%5]
	}),
}

// ticketKey returns one of a few ticket keys.
func ticketKey(n int) string {
	return strings.Repeat(fmt.Sprintf("%02x", 0xa0+n), sslctx.TicketKeySize)
}

func makeContext(r *random, c choice) error {
	name := fmt.Sprintf("c%d", c.A%maxContexts)
	if r.binding.contexts[name] != nil {
		return nil
	}
	version := []string{"0x0303", "0x0304"}[c.B%2]
	for _, op := range []string{
		"ctx %s tls", "cert %s " + r.cert + " " + r.key, "proto %s " + version + " " + version,
	} {
		if err := r.do(op, name); err != nil {
			return err
		}
	}
	return nil
}

func makeSession(r *random, c choice) error {
	name := fmt.Sprintf("s%d", c.A%maxSessions)
	if err := r.do("session %s", name); err != nil {
		return err
	}
	if err := r.do("time %s %d", name, someTime(c.B)); err != nil {
		return err
	}
	return r.do("id %s %s", name, someID(c.C))
}

// parseSession makes a session with a version and a cipher.
func parseSession(r *random, c choice) error {
	id := someID(c.B)
	if id == "-" {
		id = ""
	}
	der := hex.EncodeToString(sessionDER(0x0303+c.C%2, id, someTime(c.B), someTimeout(c.C)))
	return r.do("parse s%d %s", c.A%maxSessions, der)
}

// sessionDER writes a session in libssl's format: version of the format, protocol, cipher suite,
// ID, master key, [1] time, [2] timeout.
func sessionDER(version int, id string, at, timeout int) []byte {
	rawID, err := hex.DecodeString(id)
	if err != nil {
		panic(err)
	}
	cipher := []byte{0xc0, 0x2b} // ECDHE-ECDSA-AES128-GCM-SHA256
	if version == 0x0304 {
		cipher = []byte{0x13, 0x01} // TLS_AES_128_GCM_SHA256
	}
	key := make([]byte, 48)
	for i := range key {
		key[i] = byte(i)
	}
	der, err := asn1.Marshal(struct {
		Format, Version int
		Cipher, ID, Key []byte
		Time            int `asn1:"explicit,tag:1"`
		Timeout         int `asn1:"explicit,tag:2"`
	}{1, version, cipher, rawID, key, at, timeout})
	if err != nil {
		panic(err)
	}
	return der
}

// connect makes a real connection, takes the sessions of both ends, and ends it well or badly.
func connect(r *random, c choice) error {
	s, cl := r.ctx(c.A), r.ctx(c.B)
	if s == "" {
		return nil
	}
	offer := ""
	if name := r.session(c.C); name != "" && r.model.mayOffer(name, cl) && c.C%2 == 0 {
		offer = " " + name
	}
	end := []string{"close", "close", "drop"}[c.A%3]
	for _, op := range []string{
		fmt.Sprintf("pair p0 %s %s%s", s, cl, offer), "handshake p0", "ping p0",
		fmt.Sprintf("take s%d p0 client", c.A%maxSessions), fmt.Sprintf("take s%d p0 server", c.B%maxSessions),
		end + " p0 server", "close p0 client",
	} {
		if strings.HasPrefix(op, "ping") && !strings.HasPrefix(r.last[0].result, "ok ") {
			continue // the handshake failed
		}
		if err := r.do("%s", op); err != nil {
			return err
		}
		if refused := strings.HasPrefix(r.last[1].result, "refused "); refused && strings.HasPrefix(op, "pair") {
			return nil
		}
	}
	return nil
}
