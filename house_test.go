// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The house test enforces the rules of the design and of CONTRIBUTING.md that can be seen in the source.
// The rules are in house_rules_test.go; here is how the source is read, the few exceptions, and the proof
// that each rule can fail.

// houseExcused lists what breaks a rule with good reason, as "rule: name". Keep it short: each entry is a
// place that the next reader finds against expectation. An entry that excuses nothing is a problem itself.
var houseExcused = map[string]string{
	"wraps: PEM_read_bio_SSL_SESSION": "is done in two halves: it would pass over bytes after the session",
}

// houseAnswers lists methods that answer with what another one left behind: no call leads from the first to
// the second, but what the second calls is where the answer is from.
var houseAnswers = map[string]string{
	"Conn.lastCallResult": "connCall.runOp", // each call into libssl reads version, cipher and the like at its end
}

// A house is the source that the rules look at.
type house struct {
	fset  *token.FileSet
	files map[string]*houseFile // by path from the module's root, with slashes

	header, internal *houseC   // what Go sees of the shim, and what its files share; either may be empty
	shim             []*houseC // all C files in the root, these two too

	excused map[string]string
	used    map[string]bool // what of excused
}

type houseFile struct {
	path, text string
	ast        *ast.File // nil unless it is Go
}

func TestHouse(t *testing.T) {
	h, err := readHouse(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range houseRules {
		t.Run(r.name, func(t *testing.T) {
			for _, problem := range append(r.check(h), h.unusedExcuses(r.name)...) {
				t.Errorf("%s\n\trule: %s", problem, r.says)
			}
		})
	}
}

// readHouse reads the module in dir: its Go and C files, and the names of the others in dir itself.
// Modules inside are other houses, and tools is none.
func readHouse(dir string) (*house, error) {
	sources := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || name == dir:
			return err
		case d.IsDir():
			return skipFolder(name, d.Name())
		case !isSourceName(name) && filepath.Dir(name) != dir:
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		text, err := readSource(name)
		sources[filepath.ToSlash(rel)] = text
		return err
	})
	if err != nil {
		return nil, err
	}
	return newHouse(sources, houseExcused)
}

func skipFolder(name, base string) error {
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	if err == nil || strings.HasPrefix(base, ".") || base == "tools" || base == "testdata" {
		return fs.SkipDir
	}
	return nil
}

func isSourceName(name string) bool {
	return slices.Contains([]string{".go", ".c", ".h"}, path.Ext(name))
}

func readSource(name string) (string, error) {
	if !isSourceName(name) {
		return "", nil
	}
	text, err := os.ReadFile(name)
	return string(text), err
}

func newHouse(sources, excused map[string]string) (*house, error) {
	h := &house{fset: token.NewFileSet(), files: map[string]*houseFile{}, excused: excused, used: map[string]bool{}}
	for name, text := range sources {
		f := &houseFile{path: name, text: text}
		if path.Ext(name) == ".go" {
			var err error
			f.ast, err = parser.ParseFile(h.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
		}
		h.files[name] = f
	}
	h.header, h.internal = readC(h.files["cgo_shim.h"]), readC(h.files["shim_internal.h"])
	for _, f := range h.sources(func(f *houseFile) bool { return f.isC() && f.inRoot() }) {
		h.shim = append(h.shim, readC(f))
	}
	return h, nil
}

// cFunctions returns the functions that the shim defines.
func (h *house) cFunctions() (functions []houseFunc) {
	for _, c := range h.shim {
		functions = append(functions, c.defs...)
	}
	return functions
}

// excuse reports whether name may break the rule.
func (h *house) excuse(rule, name string) bool {
	_, ok := h.excused[rule+": "+name]
	h.used[rule+": "+name] = true
	return ok
}

// unusedExcuses is asked after the rule was checked.
func (h *house) unusedExcuses(rule string) (problems []string) {
	for _, e := range slices.Sorted(maps.Keys(h.excused)) {
		if strings.HasPrefix(e, rule+": ") && !h.used[e] {
			problems = append(problems, fmt.Sprintf("house_test.go: %q excuses nothing: take it out of houseExcused", e))
		}
	}
	return problems
}

// sources returns the files for which keep is true, in the order of their paths.
func (h *house) sources(keep func(*houseFile) bool) (files []*houseFile) {
	for _, name := range slices.Sorted(maps.Keys(h.files)) {
		if f := h.files[name]; keep(f) {
			files = append(files, f)
		}
	}
	return files
}

func (f *houseFile) isGo() bool { return f.ast != nil }

func (f *houseFile) isC() bool { return path.Ext(f.path) == ".c" || path.Ext(f.path) == ".h" }

func (f *houseFile) inRoot() bool { return !strings.Contains(f.path, "/") }

// isBinding reports whether the file is of the root package and no test.
func (f *houseFile) isBinding() bool {
	return f.isGo() && f.inRoot() && !strings.HasSuffix(f.path, "_test.go")
}

// at makes the text of a problem at a place in Go.
func (h *house) at(pos token.Pos, format string, a ...any) string {
	p := h.fset.Position(pos)
	return fmt.Sprintf("%s:%d: ", p.Filename, p.Line) + fmt.Sprintf(format, a...)
}

// at makes the text of a problem at a line of a file.
func (f *houseFile) at(line int, format string, a ...any) string {
	return fmt.Sprintf("%s:%d: ", f.path, line) + fmt.Sprintf(format, a...)
}

// matchingLines returns the numbers of the lines that have a match.
func matchingLines(text string, re *regexp.Regexp) (lines []int) {
	for i, line := range strings.Split(text, "\n") {
		if re.MatchString(line) {
			lines = append(lines, i+1)
		}
	}
	return lines
}

// A houseGraph knows which functions of the binding use which. Types are needed to tell methods of one name
// apart; those of C and of other packages are not, and stay unknown.
type houseGraph struct {
	*house
	uses    map[*ast.Ident]types.Object
	decls   map[types.Object]*ast.FuncDecl
	named   map[string]*ast.FuncDecl   // as "Conn.cross"
	methods map[string][]*ast.FuncDecl // of any type, as "cross"
}

type noImporter struct{}

func (noImporter) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

func newHouseGraph(h *house) *houseGraph {
	info := types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	var files []*ast.File
	for _, f := range h.sources((*houseFile).isBinding) {
		files = append(files, f.ast)
	}
	config := types.Config{FakeImportC: true, Importer: noImporter{}, Error: func(error) {}}
	_, _ = config.Check("sslctx", h.fset, files, &info) // the errors are what is unknown
	g := &houseGraph{h, info.Uses, map[types.Object]*ast.FuncDecl{}, map[string]*ast.FuncDecl{}, map[string][]*ast.FuncDecl{}}
	for _, d := range h.functions() {
		g.decls[info.Defs[d.Name]] = d
		g.named[funcName(d)] = d
		if d.Recv != nil {
			g.methods[d.Name.Name] = append(g.methods[d.Name.Name], d)
		}
	}
	return g
}

// functions returns the binding's functions and methods that have a body.
func (h *house) functions() (functions []*ast.FuncDecl) {
	for _, f := range h.sources((*houseFile).isBinding) {
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Body != nil {
				functions = append(functions, d)
			}
		}
	}
	return functions
}

// receiverName returns the name of the type that d is a method of, or "".
func receiverName(d *ast.FuncDecl) (name string) {
	if d.Recv != nil {
		ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && name == "" {
				name = id.Name
			}
			return true
		})
	}
	return name
}

func funcName(d *ast.FuncDecl) string {
	if r := receiverName(d); r != "" {
		return r + "." + d.Name.Name
	}
	return d.Name.Name
}

func isExportedFunc(d *ast.FuncDecl) bool {
	r := receiverName(d)
	return d.Name.IsExported() && (r == "" || ast.IsExported(r))
}

// reach returns the C functions that d calls, itself or through what is not exported: that has a doc comment
// of its own.
func (g *houseGraph) reach(d *ast.FuncDecl) map[string]bool {
	found, seen := map[string]bool{}, map[*ast.FuncDecl]bool{}
	var walk func(*ast.FuncDecl)
	walk = func(d *ast.FuncDecl) {
		if d == nil || seen[d] {
			return
		}
		seen[d] = true
		ends := endsOfHandles(d)
		ast.Inspect(d.Body, func(n ast.Node) bool {
			if ends[n] {
				return false
			}
			if name, ok := g.call(n); ok {
				found[name] = true
			}
			for _, callee := range g.callees(n) {
				walk(callee)
			}
			return true
		})
		walk(g.named[houseAnswers[funcName(d)]])
	}
	walk(d)
	return found
}

// endsOfHandles returns what d hands to leave and adopt: the function that frees when all is over. Every
// method has one, and it is not what the method is about.
func endsOfHandles(d *ast.FuncDecl) map[ast.Node]bool {
	ends := map[ast.Node]bool{}
	ast.Inspect(d.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
			if s, ok := call.Fun.(*ast.SelectorExpr); ok {
				ends[call.Args[len(call.Args)-1]] = s.Sel.Name == "leave" || s.Sel.Name == "adopt"
			}
		}
		return true
	})
	return ends
}

// callees returns the functions that n names, the exported ones left out; a method whose receiver's type is not
// known may be any of its name.
func (g *houseGraph) callees(n ast.Node) []*ast.FuncDecl {
	switch n := n.(type) {
	case *ast.Ident:
		f, ok := g.uses[n].(*types.Func)
		if d := g.decls[originOf(f)]; ok && d != nil && !n.IsExported() {
			return []*ast.FuncDecl{d}
		}
	case *ast.SelectorExpr:
		if _, isC := cSelector(n); g.uses[n.Sel] == nil && !n.Sel.IsExported() && !isC {
			return g.methods[n.Sel.Name]
		}
	}
	return nil
}

// originOf is the generic method of which f is an instance, or f.
func originOf(f *types.Func) types.Object {
	if f == nil {
		return nil
	}
	return f.Origin()
}

// TestHouseRulesCanFail feeds every rule source that breaks it and source that does not.
func TestHouseRulesCanFail(t *testing.T) {
	seen := map[string]int{}
	for _, c := range houseCases {
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			i := slices.IndexFunc(houseRules, func(r houseRule) bool { return r.name == c.rule })
			if i < 0 {
				t.Fatalf("there is no rule %q", c.rule)
			}
			h, err := newHouse(c.files, nil)
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

// TestHouseExcuses checks that an excuse is for what it names, and that it goes when that is gone.
func TestHouseExcuses(t *testing.T) {
	h, err := newHouse(inConn("func f() { C.SSL_get_x(); C.SSL_get_x(); C.SSL_get_y(); C.SSL_get_y(); C.SSL_free() }"), map[string]string{
		"one call site: SSL_get_x": "for the test",
		"one call site: SSL_free":  "needless",
		"wraps: SSL_get_y":         "of another rule",
	})
	if err != nil {
		t.Fatal(err)
	}
	problems := strings.Join(append(h.oneCallSite(), h.unusedExcuses("one call site")...), "\n")
	if strings.Contains(problems, "SSL_get_x") || !strings.Contains(problems, "C.SSL_get_y is called at 2 places") ||
		!strings.Contains(problems, `"one call site: SSL_free" excuses nothing`) || strings.Contains(problems, "wraps") {
		t.Errorf("problems:\n%s", problems)
	}
}

// A houseCase is source and the one problem that it has, or want is empty.
type houseCase struct {
	rule, name string
	want       string
	files      map[string]string
}

// houseOf is a house of one file: Go source gets what every file of the binding begins with.
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

// wrapped is a function with the end of a doc comment that the rule wants; said begins with "[NAME]".
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

	{"licence", "Go", "conn.go:1", map[string]string{"conn.go": "package sslctx\n"}},
	{"licence", "C, on the second line", "x/x.c:1", houseOf("x/x.c", "", spdxLine)},
	{"licence", "good", "", joinHouses(houseOf("conn.go"), houseOf("x/x.h", spdxLine), houseOf("README.md", "# x"))},

	{"shape", "one is missing", "README.md is missing", houseWithout("README.md")},
	{"shape", "good", "", houseWithout("")},

	{"size and docs", "long file", "conn.go:701: the file has 705 lines", inConn(strings.Repeat("\n", 699))},
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

	{"directives", "after the preamble", "conn.go:7: #cgo noescape",
		inConn("// #cgo noescape SSL_free")},
	{"directives", "blank line before import", "conn.go:4: #cgo nocallback",
		map[string]string{"conn.go": "// x\n\npackage sslctx\n// #cgo nocallback SSL_free\n\nimport \"C\"\n"}},
	{"directives", "in C", "cgo_shim.h:1: #cgo noescape", houseOf("cgo_shim.h", "// #cgo noescape SSL_free")},
	{"directives", "good", "",
		map[string]string{"conn.go": "// x\n\npackage sslctx\n\n// #cgo noescape SSL_free\n// #cgo nocallback SSL_free\n" +
			"import \"C\"\n// No #cgo noescape.\n"}},

	{"context names", "parameter", "conn.go:7: a *Context is called ctx",
		inConn("func F(conn net.Conn, ctx *Context) {}")},
	{"context names", "of a hook, in another package", "sslhttp/x.go:7: a *Context is called ctx",
		houseOf("sslhttp/x.go", "type hook func(ctx *sslctx.Context)")},
	{"context names", "good", "",
		inConn("func F(ctx context.Context, c *Context) { _ = func(server *sslctx.Context) {} }", "func (ctx *Context) G() {}")},
}

// houseWithShim is a shim with three functions in its header, all of which Go calls.
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

func houseWithout(name string) map[string]string {
	files := map[string]string{}
	for _, f := range houseShape {
		if f != name {
			files[f] = "// x\n\npackage sslctx\n"
		}
	}
	return files
}
