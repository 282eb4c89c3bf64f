// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// TestHouse enforces the rules of the design and of CONTRIBUTING.md that a test can check in the
// source. The rules are in rules_test.go, and house.go reads the source. This file has the few
// exceptions, and shows that each rule can fail.

// houseExcused lists places that break a rule for a good reason, as "rule: name". Keep it short:
// the next reader does not expect such a place. An entry that excuses nothing is a problem, too.
var houseExcused = map[string]string{
	"wraps: PEM_read_bio_SSL_SESSION": "is done in two halves: it would pass over bytes after the session",
}

func TestHouse(t *testing.T) {
	h, err := readHouse(".")
	if err != nil {
		t.Fatal(err)
	}
	h.excused = houseExcused
	for _, r := range houseRules {
		t.Run(r.name, func(t *testing.T) {
			for _, problem := range append(r.check(h), h.unusedExcuses(r.name)...) {
				t.Errorf("%s\n\trule: %s", problem, r.says)
			}
		})
	}
}

// TestHouseRulesCanFail gives every rule source that breaks it and source that does not.
func TestHouseRulesCanFail(t *testing.T) {
	seen := map[string]int{}
	for _, c := range houseCases {
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			i := slices.IndexFunc(houseRules, func(r houseRule) bool { return r.name == c.rule })
			if i < 0 {
				t.Fatalf("there is no rule %q", c.rule)
			}
			h, err := newHouse(c.files)
			if err != nil {
				t.Fatal(err)
			}
			problems := houseRules[i].check(h)
			if c.want == "" && len(problems) > 0 {
				t.Errorf("good source has problems:\n%s", strings.Join(problems, "\n"))
			}
			if c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], c.want)) {
				t.Errorf("problems:\n%s\nwant one with %q", strings.Join(problems, "\n"), c.want)
			}
		})
		seen[fmt.Sprint(c.rule, c.want == "")]++
	}
	for _, r := range houseRules {
		if seen[fmt.Sprint(r.name, true)] == 0 || seen[fmt.Sprint(r.name, false)] == 0 {
			t.Errorf("the rule %q is not shown to fail, or not to pass", r.name)
		}
	}
}

// TestHouseExcuses checks that an excuse applies only to its name, and is a problem when the name
// is gone.
func TestHouseExcuses(t *testing.T) {
	h, err := newHouse(inConn("func f() { C.SSL_get_x(); C.SSL_get_x(); C.SSL_get_y(); C.SSL_get_y(); C.SSL_free() }"))
	if err != nil {
		t.Fatal(err)
	}
	h.excused = map[string]string{
		"one call site: SSL_get_x": "for the test",
		"one call site: SSL_free":  "needless",
		"wraps: SSL_get_y":         "of another rule",
	}
	problems := strings.Join(append(h.oneCallSite(), h.unusedExcuses("one call site")...), "\n")
	if strings.Contains(problems, "SSL_get_x") || !strings.Contains(problems, "C.SSL_get_y is called at 2 places") ||
		!strings.Contains(problems, `"one call site: SSL_free" excuses nothing`) || strings.Contains(problems, "wraps") {
		t.Errorf("problems:\n%s", problems)
	}
}

// A houseCase has source and its one problem. want is empty if it has none.
type houseCase struct {
	rule, name string
	want       string
	files      map[string]string
}

// houseOf is a house of one file. Go source gets the lines at the head of every file of the
// binding.
func houseOf(name string, text ...string) map[string]string {
	body := strings.Join(text, "\n")
	if path.Ext(name) == ".go" {
		body = "// SPDX-License-Identifier: Apache-2.0\n\npackage sslctx\n\nimport \"C\"\n\n" + body
	}
	return map[string]string{name: body}
}

// joinHouses is a house of all files.
func joinHouses(houses ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, h := range houses {
		maps.Copy(all, h)
	}
	return all
}

// inConn is a house of conn.go.
func inConn(text ...string) map[string]string { return houseOf("conn.go", text...) }

// wrapped is a function whose doc comment ends as the rule requires; said begins with "[NAME]".
func wrapped(said, function, body string) string {
	name, _, _ := strings.Cut(said, "]")
	return "// F does.\n//\n// Wraps " + said + "\n//\n// " + name + "]: https://docs.openssl.org/x\n" +
		"func " + function + " { " + body + " }\n"
}

var houseCases = []houseCase{
	{"one call site", "two in one file", "conn.go:7: C.SSL_free is called at 2 places, also at conn.go:8",
		inConn("func f() { C.SSL_free(p) }", "func g() { C.SSL_free(p) }")},
	{"one call site", "with and without shim", "is called at 2 places",
		joinHouses(inConn("func f() { C.shim_SSL_free(p) }"), houseOf("net.go", "func g() { C.SSL_free(p) }"))},
	{"one call site", "good", "",
		inConn("func f() { C.SSL_free(p); C.SSL_new(p); C.free(p); C.free(p); C.int(1); C.int(2) }")},

	{"wraps", "no line", "conn.go:8: F reaches SSL_pending",
		inConn("// F does.", "func F() { C.SSL_pending(p) }")},
	{"wraps", "no doc at all, call in a literal", "conn.go:8: T.F reaches SSL_pending",
		inConn("type T struct{}", "func (t *T) F() { g(func() { C.SSL_pending(p) }) }", "func g(func()) {}")},
	{"wraps", "no line, through a helper", "conn.go:7: F reaches SSL_pending",
		inConn("func F() { t := new(T); t.in() }", "type T struct{}", "func (*T) in() { C.SSL_pending(p) }")},
	{"wraps", "no line, through a shim that calls libssl", "conn.go:7: F reaches SSL_pending",
		joinHouses(inConn("func F() { C.shim_x() }"), houseOf("cgo_shim.c", "int shim_x(void) { return SSL_pending(0); }"))},
	{"wraps", "no line, through a function value", "conn.go:7: F reaches SSL_free",
		inConn("func F() { end(free) }", "func free(p P) { C.SSL_free(p) }", "func end(f func(P)) {}")},
	{"wraps", "not the last line", "conn.go:14: F reaches SSL_pending",
		inConn(wrapped("[SSL_pending].\n//\n// And more.", "F()", "C.SSL_pending(p)"))},
	{"wraps", "other name", "conn.go:12: the doc comment of F says SSL_shutdown",
		inConn(wrapped("[SSL_shutdown].", "F()", "C.SSL_pending(p)"))},
	{"wraps", "second name is not called", "conn.go:12: the doc comment of F says SSL_free",
		inConn(wrapped("[SSL_pending], SSL_free.", "F()", "C.SSL_pending(p)"))},
	{"wraps", "older name is not called", "conn.go:12: the doc comment of F says SSL_old",
		inConn(wrapped("[SSL_new], SSL_old before OpenSSL 3.4.", "F()", "C.SSL_new(p)"))},
	{"wraps", "name is not in the shim's body", "conn.go:12: the doc comment of F says SSL_read_ex",
		joinHouses(inConn(wrapped("[SSL_read_ex].", "F()", "C.shim_SSL_read(p)")),
			houseOf("cgo_shim.c", "// SSL_read_ex", `int shim_SSL_read(void) { return SSL_peek("SSL_read_ex"); }`))},
	{"wraps", "shim does not call what it is named after", "conn.go:12: the doc comment of F says SSL_read",
		joinHouses(inConn(wrapped("[SSL_read].", "F()", "C.shim_SSL_read(p)")),
			houseOf("cgo_shim.c", "int shim_SSL_read(void) { return SSL_peek(0); }"))},
	{"wraps", "name is reached through an exported function only", "conn.go:12: the doc comment of F says SSL_pending",
		inConn(wrapped("[SSL_pending].", "F()", "G()"), "// G does.", "//", "// Wraps [SSL_pending].", "//",
			"// [SSL_pending]: https://docs.openssl.org/x", "func G() { C.SSL_pending(p) }")},
	{"wraps", "name is reached by another type's method of that name", "conn.go:14: the doc comment of T.F says SSL_free",
		inConn("type T struct{}", "type U struct{}", wrapped("[SSL_free].", "(t *T) F()", "t.in()"),
			"func (*T) in() { C.SSL_pending(p) }", "func (*U) in() { C.SSL_free(p) }")},
	{"wraps", "name is only what is done when a handle is over", "conn.go:13: the doc comment of F says SSL_free",
		inConn("type T struct{}", wrapped("[SSL_free].", "F()", "T{}.leave(free)"),
			"func (T) leave(f func(P)) {}", "func free(p P) { C.SSL_free(p) }")},
	{"wraps", "no link", "conn.go:12: the doc comment of F has no line",
		inConn(strings.Replace(wrapped("[SSL_new].", "F()", "C.SSL_new(p)"), "docs.openssl.org", "example.com", 1))},
	{"wraps", "good", "",
		joinHouses(inConn(wrapped("[SSL_read_ex].", "F()", "g()"), "func g() { C.shim_SSL_read(p) }",
			"// G is F.", "func G() { F(); C.free(p); T{}.leave(free) }", "func free(p P) { C.SSL_free(p) }",
			"type T struct{}", "func (T) leave(f func(P)) {}",
			"// NotInC does.", "func NotInC() { C.shim_errs_free(p) }", "func unexported() { C.SSL_new(p) }"),
			houseOf("cgo_shim.c", "static int reads(void) { return SSL_read_ex(0); }",
				"int shim_SSL_read(void) { return reads(); }"))},
	{"wraps", "good: two names, the older in the header, and generics", "",
		joinHouses(inConn(wrapped("[SSL_new_ex], SSL_new before OpenSSL 3.4,\n// SSL_free.", "F()", "var c T; c.in(); c.close(free)"),
			"type owned[P any] struct{ p P }", "func (o *owned[P]) in() { C.shim_SSL_new(nil) }",
			"func (o *owned[P]) close(f func(P)) {}",
			"type T struct { owned[*C.SSL] }", "func free(p *C.SSL) { C.SSL_free(p) }"),
			houseOf("cgo_shim.h", "static inline int SSL_new_ex(void) { return SSL_new(); }"),
			houseOf("cgo_shim.c", "int shim_SSL_new(void) { return SSL_new_ex(); }"))},
	{"wraps", "good: answer of the last crossing", "",
		inConn("type Conn struct{}", wrapped("[SSL_version].", "(c *Conn) F()", "c.lastCallResult()"),
			"func (c *Conn) lastCallResult() {}", "type connCall struct{}", "func (k *connCall) runOp() { C.SSL_version() }")},

	{"C types", "parameter", "conn.go:7: F", inConn("func F(p *C.SSL) {}")},
	{"C types", "result of a method", "conn.go:8: T.F", inConn("type T int", "func (T) F() []C.int { return nil }")},
	{"C types", "field", "conn.go:7: T", inConn("type T struct { P map[int]*C.SSL }")},
	{"C types", "underlying type", "conn.go:7: T", inConn("type T C.int")},
	{"C types", "function type", "conn.go:7: T", inConn("type T func(C.int)")},
	{"C types", "variable", "conn.go:7: V", inConn("var V C.int")},
	{"C types", "variable by conversion", "conn.go:7: V", inConn("var V = C.int(1)")},
	{"C types", "unsafe.Pointer", "conn.go:7: F", inConn("func F() unsafe.Pointer { return nil }")},
	{"C types", "of C in a function for other bindings", "conn.go:7: ContextFromPointer",
		inConn("func ContextFromPointer(p *C.SSL_CTX) {}")},
	{"C types", "good", "",
		inConn("type T struct { p *C.SSL; owned[*C.SSL]; N int }", "type t C.int", "func f(C.int) {}",
			"func (t) F(C.int) {}", "func F() { C.SSL_new(C.int(1)) }", "const K = C.SSL_X", "const L T = C.SSL_Y",
			"func ContextFromPointer(p unsafe.Pointer) {}")},

	{"versions", "shim constant in Go", "conn.go:7: OPENSSL_VERSION_NUMBER", inConn("const v = C.OPENSSL_VERSION_NUMBER")},
	{"versions", "preamble", "conn.go:5: OPENSSL_VERSION_NUMBER", map[string]string{"conn.go": "// x\n\n" +
		"package sslctx\n\n// #if OPENSSL_VERSION_NUMBER > 1\n// #endif\nimport \"C\"\n"}},
	{"versions", "other C file", "internal/x/x.h:2: OPENSSL_ or LIBRESSL_VERSION_NUMBER",
		houseOf("internal/x/x.h", "", "#ifdef LIBRESSL_VERSION_NUMBER")},
	{"versions", "the shim itself", "cgo_shim.h:2: OPENSSL_ or LIBRESSL_VERSION_NUMBER",
		houseOf("cgo_shim.h", "", "#if OPENSSL_VERSION_NUMBER")},
	{"versions", "whether libssl has a macro", "shim_x.c:2: the preprocessor asks", houseOf("shim_x.c", "", "#ifdef SSL_CTRL_X")},
	{"versions", "good", "",
		joinHouses(inConn("// OPENSSL_VERSION_NUMBER is not for here.", `const v = "OPENSSL_VERSION_NUMBER"`),
			houseOf("shim_compat.h", "#if OPENSSL_VERSION_NUMBER", "#ifdef SSL_X"),
			houseOf("shim_x.c", "// #ifdef SSL_X", "#if SHIM_X"),
			houseOf("conformance/oracle/oracle.c", "#if OPENSSL_VERSION_NUMBER"),
			houseOf("internal/x/x.h", "// not OPENSSL_VERSION_NUMBER"))},

	{"doors", "import C elsewhere", "fleet/x.go:5: import \"C\"", houseOf("fleet/x.go")},
	{"doors", "AddCleanup", "conn.go:7: runtime.AddCleanup", inConn("func f() { runtime.AddCleanup(x, y, z) }")},
	{"doors", "SetFinalizer", "owned.go:7: runtime.SetFinalizer", houseOf("owned.go", "func f() { runtime.SetFinalizer(x, y) }")},
	{"doors", "export", "conn.go:7: //export", inConn("//export f", "func f() {}")},
	{"doors", "good", "",
		joinHouses(houseOf("owned.go", "// No runtime.SetFinalizer.", "func f() { runtime.AddCleanup(x, y, z) }"),
			houseOf("upcalls.go", "//export f", "func f() {}"), houseOf("internal/ossltest/x.go"))},

	{"shim", "not declared", "cgo_shim.c:1: shim_f is not declared", houseOf("cgo_shim.c", "void shim_f(void) {}")},
	{"shim", "not declared, in another file", "shim_x.c:2: shim_f is not declared", houseOf("shim_x.c", "", "void shim_f(void) {}")},
	{"shim", "name of another library's", "cgo_shim.c:1: f may clash", houseOf("cgo_shim.c", "void f(void) {}")},
	{"shim", "shared by one file", "shim_internal.h:2: shim_s is not used across files",
		joinHouses(houseOf("shim_internal.h", "#pragma GCC visibility push(hidden)", "void shim_s(void);", "#pragma GCC visibility pop"),
			houseOf("cgo_shim.c", "void shim_s(void) {}", "static void g(void) { shim_s(); }"))},
	{"shim", "not hidden", "shim_internal.h:1: a declaration that is not hidden",
		joinHouses(houseOf("shim_internal.h", "void shim_s(void);"), houseOf("cgo_shim.c", "void shim_s(void) {}"),
			houseOf("shim_x.c", "static void g(void) { shim_s(); }"))},
	{"shim", "variable that is not hidden", "shim_internal.h:3: a declaration that is not hidden",
		houseOf("shim_internal.h", "#pragma GCC visibility push(hidden)", "#pragma GCC visibility pop", "extern int shim_x;")},
	{"shim", "dead", "cgo_shim.h:1: shim_f is not used",
		joinHouses(houseWithShim("void shim_f(void) {}"), inConn("// C.shim_f"))},
	{"shim", "pasting", "cgo_shim.h:2: token pasting", houseOf("cgo_shim.h", "", "#define F(x) shim_##x")},
	{"shim", "good", "", joinHouses(houseWithShim("// Because of ##.", "void shim_f(void) {", "\tif (1) {", "\t}", "}",
		"void shim_g(int (*f)(int), STACK_OF(X) * x) {}", "static STACK_OF(X) * helper(void) { shim_s(); }", "int shim_h(void) {}",
		"static const struct x { int y; } z = { 1 };", "typedef struct { int f(void); } t;"),
		houseOf("shim_internal.h", "#pragma GCC visibility push(hidden)", "extern int shim_x;", "void shim_s(void);",
			"#pragma GCC visibility pop", "static inline int i(void) { return 1; }"),
		houseOf("shim_x.c", "void shim_s(void) { shim_f(); }"))},

	{"shape", "one is missing", "README.md is missing", houseWithout("README.md")},
	{"shape", "good", "", houseWithout("")},

	{"size and docs", "long file", "conn.go:701: the file has 705 lines", inConn(strings.Repeat("\n", 699))},
	{"size and docs", "long test", "conn_test.go:901: the file has 905 lines", houseOf("conn_test.go", strings.Repeat("\n", 899))},
	{"size and docs", "long C file", "shim_x.c:501: the file has 501 lines", houseOf("shim_x.c", strings.Repeat("\n", 501))},
	{"size and docs", "function", "conn.go:7: F has no doc comment", inConn("func F() {}")},
	{"size and docs", "method", "conn.go:10: T.F", inConn("// T is.", "type T int", "// Does.", "func (T) F() {}")},
	{"size and docs", "type", "conn.go:7: T", inConn("type T int")},
	{"size and docs", "single constant", "conn.go:8: K", inConn("// The constant.", "const K = 1")},
	{"size and docs", "group without comment", "conn.go:10: L", inConn("var (", "\t// K is.", "\tK = 1", "\tL = 2", "\tm = 3", ")")},
	{"size and docs", "good", "",
		inConn("// F does.", "func F() {}", "// A T is.", "type T int", "// The U is.", "type U int", "// V is.", "type V int",
			"func (t) F() {}", "// K is.", "const K = 1", "// Group.", "var ( L = 1; M = 2)", "const ( k = 1 )",
			"type (", "// An X is.", "X int", ")", "func (t) f() {}", strings.Repeat("\n", 500))},
	{"size and docs", "good: a test may be longer", "", houseOf("conn_test.go", strings.Repeat("\n", 800))},

	{"files", "too many tests", "the root has 38 files of tests", houseOfFiles(38, "a%d_test.go")},
	{"files", "too many others", "the root has 66 files beside tests", joinHouses(houseOfFiles(60, "a%d.go"), houseOfFiles(6, "a%d.c"))},
	{"files", "good", "", joinHouses(houseOfFiles(37, "a%d_test.go"), houseOfFiles(65, "a%d.h"), houseOfFiles(9, "b%d.md"),
		houseOfFiles(99, "x/a%d_test.go"))},

	{"directives", "after the preamble", "conn.go:7: #cgo noescape",
		inConn("// #cgo noescape SSL_free")},
	{"directives", "blank line before import", "conn.go:4: #cgo nocallback",
		map[string]string{"conn.go": "// x\n\npackage sslctx\n// #cgo nocallback SSL_free\n\nimport \"C\"\n"}},
	{"directives", "in C", "cgo_shim.h:1: #cgo noescape", houseOf("cgo_shim.h", "// #cgo noescape SSL_free")},
	{"directives", "good", "",
		map[string]string{"conn.go": "// x\n\npackage sslctx\n\n// #cgo noescape SSL_free\n// #cgo nocallback SSL_free\n" +
			"import \"C\"\n// No #cgo noescape.\n"}},

	{"constants", "another option", "conn.go:7: OpNoTicket is C.SSL_OP_NO_RENEGOTIATION",
		inConn("const OpNoTicket Option = C.SSL_OP_NO_RENEGOTIATION")},
	{"constants", "another reason", "conn.go:7: ReasonA is C.SSL_R_B", inConn("var ReasonA = Reason{C.ERR_LIB_SSL, C.SSL_R_B}")},
	{"constants", "good", "", inConn("const OpNoTicket Option = C.SSL_OP_NO_TICKET", "var ReasonA = Reason{C.ERR_LIB_SSL, C.SSL_R_A}")},

	{"context names", "parameter", "conn.go:7: a *Context is called ctx",
		inConn("func F(conn net.Conn, ctx *Context) {}")},
	{"context names", "of a hook, in another package", "sslhttp/x.go:7: a *Context is called ctx",
		houseOf("sslhttp/x.go", "type hook func(ctx *sslctx.Context)")},
	{"context names", "good", "",
		inConn("func F(ctx context.Context, c *Context) { _ = func(server *sslctx.Context) {} }", "func (ctx *Context) G() {}")},
}

// houseWithShim has a shim with three functions in its header. Go calls all of them.
func houseWithShim(source ...string) map[string]string {
	var header, calls string
	for _, name := range []string{"shim_f", "shim_g", "shim_h"} {
		if strings.Contains(strings.Join(source, "\n"), name) {
			header += "void " + name + "(int (*f)(int), STACK_OF(X) * x);\n"
			calls += "C." + name + "(); "
		}
	}
	return joinHouses(inConn("func f() { "+calls+"}"), houseOf("cgo_shim.h", header),
		houseOf("cgo_shim.c", source...))
}

// houseOfFiles is a house of n files, with names by a pattern.
func houseOfFiles(n int, pattern string) map[string]string {
	files := map[string]string{}
	for i := range n {
		maps.Copy(files, houseOf(fmt.Sprintf(pattern, i)))
	}
	return files
}

func houseWithout(name string) map[string]string {
	files := map[string]string{}
	for _, f := range houseShape {
		if f != name {
			files[f] = "// x\n\npackage sslctx\n"
		}
	}
	return files
}
