// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sslctx"
	"sslctx/internal/cwork"
	"sslctx/internal/house"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
)

// Every call runs while its first, second, ... allocation fails, until it succeeds: once only that
// one fails, and once all after it, too. The call must return an error, change nothing, leak no
// memory and leave nothing on the error queue. Or it must succeed without that memory.
//
// Allocations of libcrypto, libssl and the shim fail. A failed allocation of Go, or of C.CString,
// would end the program.

// A failing is one call that is made to fail.
type failing struct {
	// make makes the objects that the call needs; t is the test of the call.
	make func(t *testing.T) subjectOfFailure

	loses string // why a failed call may change something
	final bool   // a failed call cannot be repeated
}

// A subjectOfFailure has the objects of a call.
type subjectOfFailure struct {
	call  func() error
	state func() string // the visible state that the call may change; nil: none
	close func()

	context *sslctx.Context // the context of the call, or nil
}

// TestFailingMemory tests every call that reaches C.
func TestFailingMemory(t *testing.T) {
	if !ossltest.OwnsMemory() {
		t.Fatal("libcrypto does not take its memory from the tests")
	}
	defer tlstest.Watchdog(5 * time.Minute)()
	total := failureCounts{sites: map[ossltest.Site]bool{}}
	calls := failingCalls(t)
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		t.Run(name, func(t *testing.T) { total.run(t, calls[name]) })
	}
	t.Logf("%d calls, %d of them allocate; %d failures at %d places", len(calls), total.calls, total.failures, len(total.sites))
}

// failureCounts counts the failures that were tried.
type failureCounts struct {
	calls, failures int
	sites           map[ossltest.Site]bool
}

func (n *failureCounts) run(t *testing.T, f failing) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	want := f.succeed(t)
	before := n.failures
	for _, forever := range []bool{false, true} {
		for nth := 1; ; nth += 1 + sparse(nth) {
			what := ossltest.Failing{Nth: nth, Forever: forever}
			hit, leaked := f.fail(t, what, want)
			// libcrypto keeps some memory for each thread, for example for 16 errors. Only a leak
			// keeps growing.
			for again := 0; leaked > 0 && again < 40 && !t.Failed(); again++ {
				_, leaked = f.fail(t, what, want)
			}
			if leaked > 0 {
				t.Errorf("%+v at %v: %d pieces of memory are lost", what, ossltest.SiteOf(nth), leaked)
			}
			if t.Failed() {
				return
			}
			if !hit {
				break
			}
			n.failures++
			n.sites[ossltest.SiteOf(nth)] = true
		}
	}
	if n.failures > before {
		n.calls++
	}
}

// sparse returns how many allocations to skip after the nth: for long calls the first few hundred
// are enough.
func sparse(nth int) int {
	if os.Getenv("SSLCTX_TORTURE") != "" {
		return 0
	}
	return nth * nth / 4_000
}

// succeed makes the call without failures, and returns the state after it.
func (f failing) succeed(t *testing.T) (state string) {
	s := f.make(t)
	defer s.close()
	if err := s.call(); err != nil {
		t.Fatalf("with memory it fails: %v", err)
	}
	return s.see()
}

func (s subjectOfFailure) see() string {
	if s.state == nil {
		return ""
	}
	return s.state()
}

// fail makes the call while an allocation fails. hit says that the call reached that allocation.
func (f failing) fail(t *testing.T, what ossltest.Failing, want string) (hit bool, leaked int) {
	live := ossltest.LiveMemory(false)
	s := f.make(t)
	before := s.see()
	contexts, sessions, ssls := ossltest.LiveContexts(), ossltest.LiveSessions(), ossltest.LiveSSLs()
	stop := what.Fail()
	err := s.call()
	failed := stop()
	if isKnown(t, what) {
		s.close()
		return failed.Failed > 0, 0
	}
	at := fmt.Sprintf("%+v at %v", what, ossltest.SiteOf(what.Nth))
	if code := ossltest.PeekError(); code != 0 {
		t.Errorf("%s: the error queue holds %#x", at, code)
	}
	switch {
	case failed.Failed == 0 && err != nil:
		t.Errorf("%s: nothing failed, and it returns %v", at, err)
	case err == nil && s.see() != want:
		t.Errorf("%s: it says that it succeeded, and did not:\n%s\nwant\n%s", at, s.see(), want)
	case err != nil:
		var e *sslctx.Error
		if !errors.As(err, &e) && !errors.Is(err, sslctx.ErrEventLost) {
			t.Errorf("%s: %v is no *Error", at, err)
		}
		if is := s.see(); f.loses == "" && is != before {
			t.Errorf("%s: it failed (%v), and changed something:\n%s\nbefore\n%s", at, err, is, before)
		}
		if f.loses != "" {
			// the handle may now hold more than before
		} else if c, n, l := ossltest.LiveContexts(), ossltest.LiveSessions(), ossltest.LiveSSLs(); c > contexts || n > sessions || l > ssls {
			t.Errorf("%s: it failed, and made %d contexts, %d sessions, %d SSLs", at, c-contexts, n-sessions, l-ssls)
		}
		if f.final {
			break
		}
		if err := s.call(); err != nil {
			t.Errorf("%s: when there is memory again it fails: %v", at, err)
		} else if is := s.see(); is != want {
			t.Errorf("%s: when there is memory again it makes\n%s\nwant\n%s", at, is, want)
		}
	}
	s.close()
	return failed.Failed > 0, ossltest.LiveMemory(false) - live
}

// A knownFailure is an error of libssl itself after a failed allocation, in code outside sessions.
// The test then checks only for a crash.
type knownFailure struct {
	test, file string
	version    func(v uint64) bool
	what       string
}

var knownFailures = []knownFailure{
	{"UseCertificateChainFile", "bn_lib.c", notOf30,
		"ssl_set_cert drops the private key, and succeeds, if X509_check_private_key has no memory to compare (1.1.1w, 4.0.3)"},
	{"UsePrivateKeyFile", "bn_lib.c", notOf30, "ssl_set_pkey drops the certificate, and succeeds, for the same reason (1.1.1w)"},
	{"SetCiphersuites", "stack.c", of111, "two pieces of memory are lost (1.1.1w)"},
	{"TestFailingHandshakes", "s3_lib.c", of111, "at line 4629 it loses a piece of memory that it had before (1.1.1w)"},
}

func of111(v uint64) bool { return v < 0x30000000 }

func notOf30(v uint64) bool { return v < 0x30000000 || v >= 0x30100000 }

// isKnown must be called after the failure. If all allocations fail from one on, any of them may be
// the known one.
func isKnown(t *testing.T, what ossltest.Failing) bool {
	at := ossltest.SiteOf(what.Nth)
	for _, k := range knownFailures {
		if strings.Contains(t.Name(), k.test) && (at.File == k.file || what.Forever) && k.version(ossltest.CompiledVersion()) {
			return true
		}
	}
	return false
}

// TestFailingMemoryIsComplete: the table has every exported function that calls C, and no other.
func TestFailingMemoryIsComplete(t *testing.T) {
	names, err := house.FuncsThatCallC()
	tlstest.Must(t, err)
	calls, reach := failingCalls(t), map[string]bool{}
	for _, name := range names {
		reach[name] = true
		_, in := calls[name]
		why, elsewhere := failingElsewhere[name]
		switch {
		case in && elsewhere:
			t.Errorf("%s is in the table, and excused: %s", name, why)
		case !in && !elsewhere:
			t.Errorf("%s reaches C and does not run with allocations that fail: give it a row in failingCalls", name)
		}
	}
	shim, err := house.ShimCode()
	tlstest.Must(t, err)
	for file, code := range shim {
		if m := cannotFail.FindString(code); m != "" {
			t.Errorf("%s allocates by %s...: only calloc, realloc and strdup can be made to fail", file, m)
		}
	}
	if len(reach) < 150 {
		t.Errorf("only %d functions reach C: the reader is wrong", len(reach))
	}
	for name := range failingElsewhere {
		if !reach[name] {
			t.Errorf("failingElsewhere has %s, which does not reach C", name)
		}
	}
	for name := range calls {
		if !reach[name] && !strings.Contains(name, "/") {
			t.Errorf("failingCalls has %s, which does not reach C", name)
		}
	}
}

// cannotFail matches functions that would allocate memory for the shim without the test's control.
var cannotFail = regexp.MustCompile(`\b(?:malloc|strndup|v?asprintf|reallocarray|aligned_alloc|posix_memalign|open_memstream)\s*\(`)

// getters returns calls of all methods of a handle that have no arguments and no effect, by the
// names of house.FuncsThatCallC. If memory fails, they must return the same value or an error.
func getters(typ string, of func(t *testing.T) (handle any, done func()), except ...string) map[string]failing {
	calls := map[string]failing{}
	handles := map[string]reflect.Type{
		"Context": reflect.TypeFor[*sslctx.Context](), "Session": reflect.TypeFor[*sslctx.Session](), "Conn": reflect.TypeFor[*sslctx.Conn](),
	}
	for i := range handles[typ].NumMethod() {
		m := handles[typ].Method(i)
		if m.Type.NumIn() != 1 || slices.Contains(except, m.Name) {
			continue
		}
		calls[typ+"."+m.Name] = failing{make: func(t *testing.T) subjectOfFailure {
			handle, done := of(t)
			want := ask(handle, m.Name)
			return subjectOfFailure{close: done, call: func() error {
				got := ask(handle, m.Name)
				if err, is := got[len(got)-1].(error); is && fmt.Sprint(got) != fmt.Sprint(want) {
					return err
				}
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
					t.Errorf("it tells %+v, and with memory %+v", got, want)
				}
				return nil
			}}
		}}
	}
	return calls
}

// ask calls a method without arguments.
func ask(handle any, method string) (answers []any) {
	for _, v := range reflect.ValueOf(handle).MethodByName(method).Call(nil) {
		answers = append(answers, v.Interface())
	}
	return answers
}

// stateOf returns the results of all methods of a handle without arguments and effects.
func stateOf(handle any, methods map[string]failing) string {
	var lines []string
	for name := range methods {
		_, name, _ = strings.Cut(name, ".")
		lines = append(lines, fmt.Sprintf("%s: %+v", name, ask(handle, name)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestFailingIndices runs in a process of its own, before any other call. A process makes the
// indexes of ex_data once. If there is no memory for one, a later call must make it.
func TestFailingIndices(t *testing.T) {
	const variable = "SSLCTX_TEST_FIRST_CALLS"
	if os.Getenv(variable) == "" {
		tlstest.RunAgain(t, variable)
		return
	}
	tlstest.CheckErrorQueue(t)
	pair := tlstest.SelfSigned(t)
	for _, v := range tlstest.Versions { // libssl's own initialization must be done: after a failure libssl never tries it again
		if !cwork.Handshakes(append(pair.Cert, pair.Key...), int(v), 1) {
			t.Fatal("C fails")
		}
	}
	var c *sslctx.Context
	var s *sslctx.Session
	end, _ := tlstest.Wire()
	for _, first := range []struct {
		name string
		call func() error
	}{
		{"NewContext", func() (err error) { c, err = sslctx.NewContext(sslctx.TLSMethod); return err }},
		{"NewSession", func() (err error) { s, err = sslctx.NewSession(); return err }},
		{"SetExData", func() error { return s.SetExData(failingKey{}, 1) }},
		{"Client", func() error {
			c, err := sslctx.Client(end, c)
			if err == nil {
				err = c.Close()
			}
			return err
		}},
	} {
		failures := 0
		for _, file := range []string{"ex_data.c", "stack.c", "bio_meth.c"} {
			for nth := 1; ; nth++ {
				stop := ossltest.Failing{Nth: nth, File: file}.Fail()
				err := first.call()
				failed := stop().Failed > 0
				if failed {
					failures++
				}
				if err == nil {
					break
				}
				if !failed {
					t.Fatalf("%s: allocation %d in %s failed, and never again it works: %v", first.name, nth-1, file, err)
				}
			}
		}
		if failures == 0 && first.name != "NewSession" {
			t.Errorf("%s: nothing failed", first.name)
		}
	}
	tlstest.Must(t, s.Close())
	tlstest.Must(t, c.Close())
}

// TestFailedAdd: if 3.0 has no memory to add a session, it leaves the session in the list of its
// cache. No later call may fail because of that.
func TestFailedAdd(t *testing.T) {
	defer tlstest.Watchdog(time.Minute)()
	for name, then := range map[string]func(t *testing.T, c *sslctx.Context, s *sslctx.Session){
		"close": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {},
		"flush": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			tlstest.Must(t, c.FlushSessions(time.Time{}))
			tlstest.Must(t, s.Close())
			tlstest.Must(t, c.FlushSessions(time.Time{}))
		},
		"flush what expires": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			tlstest.Must(t, c.FlushSessions(time.Now().Add(time.Hour)))
			tlstest.Must(t, s.Close())
		},
		"add again": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			if !tlstest.AddSession(t, c, s) || c.CacheStats().Number != 1 {
				t.Error("it is not added")
			}
		},
		"add again, remove": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			if !tlstest.AddSession(t, c, s) || !tlstest.RemoveSession(t, c, s) || c.CacheStats().Number != 0 {
				t.Error("it is not added and removed")
			}
		},
		"go elsewhere": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			other := tlstest.NewContext(t, sslctx.TLSMethod)
			if _, err := other.AddSession(s); err != nil && !errors.Is(err, sslctx.ErrForeignContext) { // 3.0: it is in c's list
				t.Error(err)
			}
			tlstest.Must(t, c.FlushSessions(time.Time{}))
			if other.CacheStats().Number == 0 && !tlstest.AddSession(t, other, s) {
				t.Error("it is not added")
			}
			tlstest.Must(t, c.Close())
			tlstest.Must(t, other.FlushSessions(time.Time{}))
		},
		"fail again, add": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			failToAdd(t, c, s)
			if !tlstest.AddSession(t, c, s) {
				t.Error("it is not added")
			}
		},
		"another in its place": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			tlstest.AddSession(t, c, tlstest.NewSession(t, "id"))
			tlstest.Must(t, s.Close())
			tlstest.Must(t, c.FlushSessions(time.Time{}))
		},
		"eviction": func(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
			tlstest.Must(t, s.Close())
			_, err := c.SetCacheSize(2)
			tlstest.Must(t, err)
			for i := range 5 {
				tlstest.AddSession(t, c, tlstest.NewSession(t, fmt.Sprint(i)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			tlstest.CheckErrorQueue(t)
			before := ossltest.LiveSessions()
			t.Run("", func(t *testing.T) {
				c := tlstest.NewContext(t, sslctx.TLSMethod)
				s := tlstest.NewSession(t, "id")
				failToAdd(t, c, s)
				then(t, c, s)
			})
			if n := ossltest.LiveSessions(); n > before { // it may be less: sessions of earlier tests were collected
				t.Errorf("%d sessions are alive, %d before", n, before)
			}
		})
	}
}

func failToAdd(t *testing.T, c *sslctx.Context, s *sslctx.Session) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stop := ossltest.Failing{Nth: 1, File: "lhash.c"}.Fail()
	added, err := c.AddSession(s)
	if failed := stop(); failed.Failed != 1 || added || err == nil {
		t.Fatalf("added is %v, %v; %d allocations failed", added, err, failed.Failed)
	}
}
