// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A houseRule returns one text for each place that breaks it. The text says what is wrong and how
// to fix it.
type houseRule struct {
	name, says string
	check      func(*house) []string
}

var houseRules = []houseRule{
	{"one call site", "every C function has one call site in Go", (*house).oneCallSite},
	{"wraps", "the doc comment of what is exported and reaches libssl ends with `Wraps [NAME].` and its link", (*house).wraps},
	{"C types", "no C type and no unsafe.Pointer is part of the exported interface", (*house).noCTypes},
	{"versions", "only shim_compat.h and the code that judges the shim know OpenSSL's version numbers", (*house).versions},
	{"doors", "cgo, cleanups and exports to C each have one place", (*house).doors},
	{"shim", "the shim holds nothing that is not used, and what its files share is hidden and begins with shim_", (*house).shimRule},
	{"shape", "the files that users look for are there", (*house).shape},
	{"size and docs", "Go files have at most 700 lines, tests 900, C files 500, and exported names have doc comments", (*house).sizeAndDocs},
	{"files", "the root has at most 37 files of tests and 65 others", (*house).rootFiles},
	{"directives", "#cgo noescape and nocallback work in the comment right above import \"C\" only", (*house).directives},
	{"constants", "an exported constant has the value of the constant of C that has its name", (*house).constants},
	{"context names", "no parameter of type *Context is called ctx", (*house).contextNames},
}

// ---- Calls of C ----

// A houseCall is a call of a C function. Conversions, constants and cgo's helpers for memory do not
// count.
type houseCall struct {
	name string // the text after "C."
	file string
	pos  token.Pos
}

// libssl returns the function's name without shim_.
func (c houseCall) libssl() string { return strings.TrimPrefix(c.name, "shim_") }

// calls returns the calls of C in the binding.
func (h *house) calls() (calls []houseCall) {
	for _, f := range h.sources((*houseFile).isBinding) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if name, ok := h.call(n); ok {
				calls = append(calls, houseCall{name, f.path, n.Pos()})
			}
			return true
		})
	}
	return calls
}

// ---- Names and call sites ----

func (h *house) oneCallSite() (problems []string) {
	sites := map[string][]houseCall{}
	for _, c := range h.calls() { // a function and its shim count as one
		sites[c.libssl()] = append(sites[c.libssl()], c)
	}
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		first, others := sites[name][0], sites[name][1:]
		if len(others) == 0 || h.excuse("one call site", name) {
			continue
		}
		var also []string
		for _, c := range others {
			also = append(also, h.at(c.pos, "C.%s", c.name))
		}
		problems = append(problems, h.at(first.pos, "C.%s is called at %d places, also at %s: make one helper of them",
			first.name, len(sites[name]), strings.Join(also, ", ")))
	}
	return problems
}

// ---- Wraps ----

// The names of OpenSSL's functions for TLS. OpenSSL's functions for memory and for the error queue
// need no Wraps line.
var libsslFunction = regexp.MustCompile(`^(?:i2d|d2i)_\w+$|^(?:SSL|TLS|DTLS|X509|PEM|EVP|OpenSSL)_\w*[a-z]\w*$`)

// firstLibssl returns a libssl function that is called, directly or by a called C function.
func (h *house) firstLibssl(calls map[string]bool) string {
	names := slices.Concat(slices.Sorted(maps.Keys(calls)), slices.Sorted(maps.Keys(h.inC(calls))))
	first := ""
	for _, name := range names { // a method is seldom about a function that frees
		name = strings.TrimPrefix(name, "shim_")
		if libsslFunction.MatchString(name) && (first == "" || strings.HasSuffix(first, "_free")) {
			first = name
		}
	}
	return first
}

func (h *house) wraps() (problems []string) {
	g := newHouseGraph(h)
	for _, d := range h.functions() {
		if isExportedFunc(d) {
			problems = append(problems, g.wrapsOf(d)...)
		}
	}
	for from, to := range houseAnswers {
		if g.named[from] == nil != (g.named[to] == nil) {
			problems = append(problems, fmt.Sprintf("internal/house/house.go: %s or %s is gone: mend houseAnswers", from, to))
		}
	}
	return problems
}

func (g *houseGraph) wrapsOf(d *ast.FuncDecl) (problems []string) {
	said, links := wrapsLine(d.Doc)
	if said == "" {
		if name := g.firstLibssl(g.reach(d)); name != "" {
			return []string{g.at(d.Pos(), "%s reaches %s, and its doc comment does not say so: "+
				"end it with `Wraps [%s].` and the link", funcName(d), name, name)}
		}
		return nil
	}
	calls := g.reach(d)
	words := g.inC(calls)
	for _, name := range cWord.FindAllString(said, -1) {
		excused := calls["shim_"+name] && !words[name] && g.excuse("wraps", name)
		if libsslFunction.MatchString(name) && !calls[name] && !words[name] && !excused {
			problems = append(problems, g.at(d.Pos(), "the doc comment of %s says %s, which is not called from there: "+
				"name what it calls", funcName(d), name))
		}
	}
	for _, m := range docLinkUse.FindAllStringSubmatch(said, -1) {
		if !strings.HasPrefix(links[m[1]], "https://docs.openssl.org/") {
			problems = append(problems, g.at(d.Pos(), "the doc comment of %s has no line `[%s]: https://docs.openssl.org/...`: "+
				"add it at the end", funcName(d), m[1]))
		}
	}
	return problems
}

var (
	docLinkUse = regexp.MustCompile(`\[(\w+)\]`)
	docLinkDef = regexp.MustCompile(`^\[([^\]]+)\]: (\S+)$`)
)

// wrapsLine returns the last paragraph of a doc comment, if it begins with Wraps, and the links
// after it.
func wrapsLine(doc *ast.CommentGroup) (said string, links map[string]string) {
	links = map[string]string{}
	if doc == nil {
		return "", links
	}
	var paragraph []string
	for _, c := range slices.Backward(doc.List) {
		line := strings.TrimSpace(strings.TrimPrefix(c.Text, "//"))
		link := docLinkDef.FindStringSubmatch(line)
		switch {
		case link != nil && len(paragraph) == 0:
			links[link[1]] = link[2]
		case line != "":
			paragraph = append(paragraph, line)
		case len(paragraph) > 0:
			return wrapsText(paragraph), links
		}
	}
	return wrapsText(paragraph), links
}

// wrapsText joins the lines of a paragraph, which are in reverse order.
func wrapsText(lines []string) string {
	slices.Reverse(lines)
	if text := strings.Join(lines, " "); strings.HasPrefix(text, "Wraps [") {
		return text
	}
	return ""
}

// ---- The interface ----

// Functions that take or return an object of another binding in the process, as an unsafe.Pointer.
var houseUnsafe = []string{"ContextFromPointer", "Context.SessionOf", "Context.SetSessionOf"}

func (h *house) noCTypes() (problems []string) {
	report := func(name string, n ast.Node) {
		found := foreignType(n)
		if found != "" && (found != "unsafe.Pointer" || !slices.Contains(houseUnsafe, name)) {
			problems = append(problems, h.at(n.Pos(), "%s has %s in its interface: convert at the door", name, found))
		}
	}
	for _, f := range h.sources((*houseFile).isBinding) {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if isExportedFunc(d) {
					report(funcName(d), d.Type)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					reportSpec(s, report)
				}
			}
		}
	}
	return problems
}

func reportSpec(s ast.Spec, report func(string, ast.Node)) {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			reportType(s, report)
		}
	case *ast.ValueSpec:
		for i, name := range s.Names {
			if !name.IsExported() {
				continue
			}
			if s.Type != nil {
				report(name.Name, s.Type)
			} else if i < len(s.Values) { // constants of C have no C type, but conversions and calls do
				if call, ok := s.Values[i].(*ast.CallExpr); ok {
					report(name.Name, call.Fun)
				}
			}
		}
	}
}

func reportType(s *ast.TypeSpec, report func(string, ast.Node)) {
	st, ok := s.Type.(*ast.StructType)
	if !ok {
		report(s.Name.Name, s.Type)
		return
	}
	for _, field := range st.Fields.List {
		exported := slices.ContainsFunc(field.Names, (*ast.Ident).IsExported)
		if exported || len(field.Names) == 0 && ast.IsExported(embeddedName(field.Type)) {
			report(s.Name.Name, field.Type)
		}
	}
}

// embeddedName returns the name of an embedded field.
func embeddedName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return embeddedName(e.X)
	case *ast.IndexExpr:
		return embeddedName(e.X)
	case *ast.IndexListExpr:
		return embeddedName(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func foreignType(n ast.Node) (found string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if name, ok := cSelector(n); ok {
			found = "C." + name
		}
		if name, ok := selectorOf(n, "unsafe"); ok && name == "Pointer" {
			found = "unsafe.Pointer"
		}
		return found == ""
	})
	return found
}

// ---- Places ----

var (
	versionNumber = regexp.MustCompile(`\b(?:OPENSSL|LIBRESSL)_VERSION_NUMBER\b`)
	versionRooms  = regexp.MustCompile(`^(?:shim_compat\.h$|internal/(?:ossltest|cwork)/|conformance/oracle/|spacemonkey/compat/)`)
	versionAsked  = regexp.MustCompile(`^\s*#\s*(?:el)?if(?:n?def)?\b.*\b(?:SSL|TLS|TLSEXT|EVP|ERR|X509|BIO)_\w+`)
)

func (h *house) versions() (problems []string) {
	const mend = "give it a name in shim_compat.h"
	for _, f := range h.sources(func(f *houseFile) bool { return !versionRooms.MatchString(f.path) }) {
		if f.isC() {
			for _, line := range matchingLines(codeOfC(f.text), versionNumber) {
				problems = append(problems, f.at(line, "OPENSSL_ or LIBRESSL_VERSION_NUMBER is used here: "+mend))
			}
			for _, line := range matchingLines(codeOfC(f.text), versionAsked) {
				if f.inRoot() {
					problems = append(problems, f.at(line, "the preprocessor asks here whether libssl has something: "+mend))
				}
			}
			continue
		}
		if !f.isGo() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if name, ok := cSelector(n); ok && versionNumber.MatchString(name) {
				problems = append(problems, h.at(n.Pos(), "%s is used here: "+mend, name))
			}
			return true
		})
		for _, l := range h.commentLines(f, isPreamble) {
			if name := versionNumber.FindString(l.text); name != "" {
				problems = append(problems, f.at(l.number, "%s is used here: "+mend, name))
			}
		}
	}
	return problems
}

type houseLine struct {
	number int
	text   string
}

// commentLines returns the lines of the comments of f for which keep is true.
func (h *house) commentLines(f *houseFile, keep func(*houseFile, *ast.CommentGroup) bool) (lines []houseLine) {
	for _, group := range f.ast.Comments {
		if !keep(f, group) {
			continue
		}
		for _, c := range group.List {
			first := h.fset.Position(c.Pos()).Line
			for i, text := range strings.Split(c.Text, "\n") {
				lines = append(lines, houseLine{first + i, text})
			}
		}
	}
	return lines
}

// isPreamble reports whether cgo reads the comment as C.
func isPreamble(f *houseFile, c *ast.CommentGroup) bool {
	for _, d := range f.ast.Decls {
		d, ok := d.(*ast.GenDecl)
		if !ok || d.Tok != token.IMPORT {
			continue
		}
		for _, s := range d.Specs {
			s := s.(*ast.ImportSpec)
			if s.Path.Value == `"C"` && (s.Doc == c || len(d.Specs) == 1 && d.Doc == c) {
				return true
			}
		}
	}
	return false
}

func isNoPreamble(f *houseFile, c *ast.CommentGroup) bool { return !isPreamble(f, c) }

// houseOtherDoors are packages for tests that call C, too. They count live objects, do the work of
// benchmarks in C, and fence freed memory.
var houseOtherDoors = map[string]bool{"internal/ossltest": true, "internal/cwork": true, "internal/fence": true}

func (h *house) doors() (problems []string) {
	for _, f := range h.sources((*houseFile).isGo) {
		for _, i := range f.ast.Imports {
			if i.Path.Value == `"C"` && !f.isBinding() && !houseOtherDoors[path.Dir(f.path)] {
				problems = append(problems, h.at(i.Pos(), "import \"C\" outside the root package: use what that exports"))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch name, _ := selectorOf(n, "runtime"); {
			case name == "SetFinalizer":
				problems = append(problems, h.at(n.Pos(), "runtime.SetFinalizer is used: embed owned"))
			case name == "AddCleanup" && f.path != "owned.go":
				problems = append(problems, h.at(n.Pos(), "runtime.AddCleanup outside owned.go: embed owned"))
			}
			return true
		})
		for _, l := range h.commentLines(f, isNoPreamble) {
			if strings.HasPrefix(l.text, "//export ") && f.path != "upcalls.go" {
				problems = append(problems, f.at(l.number, "//export outside upcalls.go: move the function there"))
			}
		}
	}
	return problems
}

var cgoDirective = regexp.MustCompile(`^\s*(?://|/\*|\*)?\s*#cgo\s+(?:noescape|nocallback)\b`)

func (h *house) directives() (problems []string) {
	const mend = "has no effect here: move it into the comment right above import \"C\""
	for _, f := range h.sources((*houseFile).isGo) {
		for _, l := range h.commentLines(f, isNoPreamble) {
			if cgoDirective.MatchString(l.text) {
				problems = append(problems, f.at(l.number, "%s %s", strings.TrimPrefix(l.text, "// "), mend))
			}
		}
	}
	for _, f := range h.sources((*houseFile).isC) {
		for _, line := range matchingLines(f.text, cgoDirective) {
			problems = append(problems, f.at(line, "#cgo noescape or nocallback %s", mend))
		}
	}
	return problems
}

// ---- The shim ----

func (h *house) shimRule() []string {
	return slices.Concat(h.undeclared(), h.unshared(), h.unused(), h.pasted())
}

func houseHas(functions []houseFunc, name string) bool {
	return slices.ContainsFunc(functions, func(f houseFunc) bool { return f.name == name })
}

// undeclared looks for functions of external linkage without a declaration, or with a name that
// another library may have.
func (h *house) undeclared() (problems []string) {
	for _, c := range h.shim {
		for _, def := range c.defs {
			switch {
			case def.static:
			case !strings.HasPrefix(def.name, "shim_"):
				problems = append(problems, c.file.at(def.line,
					"%s may clash with another library's: let it begin with shim_, or make it static", def.name))
			case !houseHas(h.header.decls, def.name) && !houseHas(h.internal.decls, def.name):
				problems = append(problems, c.file.at(def.line,
					"%s is not declared in cgo_shim.h, for Go, or in shim_internal.h: declare it, or make it static", def.name))
			}
		}
	}
	return problems
}

var (
	hiddenFrom = regexp.MustCompile(`(?m)^#pragma GCC visibility push\(hidden\)$`)
	hiddenTo   = regexp.MustCompile(`(?m)^#pragma GCC visibility pop$`)
	cExtern    = regexp.MustCompile(`^extern\b`)
)

// unshared looks for declarations in shim_internal.h that only one file uses, or that are visible
// to other libraries.
func (h *house) unshared() (problems []string) {
	f := h.internal.file
	from, to := append(matchingLines(f.text, hiddenFrom), 0)[0], append(matchingLines(f.text, hiddenTo), 0)[0]
	lines := matchingLines(f.text, cExtern)
	for _, decl := range h.internal.decls {
		lines = append(lines, decl.line)
		users := 0
		for _, c := range h.shim {
			uses := func(def houseFunc) bool { return def.words[decl.name] }
			if houseHas(c.defs, decl.name) || slices.ContainsFunc(c.defs, uses) {
				users++
			}
		}
		if users < 2 {
			problems = append(problems, f.at(decl.line, "%s is not used across files: take it out, or make it static", decl.name))
		}
	}
	for _, line := range lines {
		if line < from || line > to {
			problems = append(problems, f.at(line, "a declaration that is not hidden: move it to the others"))
		}
	}
	return problems
}

// unused looks for declared functions that Go does not use, or that have no definition.
func (h *house) unused() (problems []string) {
	named := map[string]bool{}
	for _, f := range h.sources((*houseFile).isBinding) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if name, ok := cSelector(n); ok {
				named[name] = true
			}
			return true
		})
		for _, l := range h.commentLines(f, isNoPreamble) {
			if name, ok := strings.CutPrefix(l.text, "//export "); ok { // defined in Go, called from C
				named[name] = true
			}
		}
	}
	for _, decl := range h.header.decls {
		if !named[decl.name] {
			problems = append(problems, h.header.file.at(decl.line, "%s is not used in Go: take it out, or make it static",
				decl.name))
		}
	}
	return problems
}

func (h *house) pasted() (problems []string) {
	for _, c := range h.shim {
		for _, line := range matchingLines(codeOfC(c.file.text), regexp.MustCompile(`##`)) {
			problems = append(problems, c.file.at(line, "token pasting: write the name out, so that grep finds it"))
		}
	}
	return problems
}

// ---- Files ----

var houseShape = []string{"go.mod", "go.sum", "sslctx.go", "session.go", "cgo_shim.c", "cgo_shim.h", "shim_compat.h",
	"shim_internal.h", "sslctx_test.go",
	"Dockerfile", "README.md"}

func (h *house) shape() (problems []string) {
	for _, name := range houseShape {
		if h.files[name] == nil {
			problems = append(problems, name+" is missing: write it, or find who took it away")
		}
	}
	return problems
}

const (
	houseMaxLines      = 700
	houseMaxLinesTests = 900
	houseMaxLinesC     = 500

	houseMaxTests  = 37
	houseMaxOthers = 65
)

// rootFiles counts source files. Tests that need only the exported API belong in other folders.
func (h *house) rootFiles() (problems []string) {
	tests, others := 0, 0
	for _, f := range h.sources(func(f *houseFile) bool { return f.inRoot() && (f.isGo() || f.isC()) }) {
		if f.isTest() {
			tests++
		} else {
			others++
		}
	}
	if tests > houseMaxTests {
		problems = append(problems, fmt.Sprintf("the root has %d files of tests: move some to tests/, or merge two", tests))
	}
	if others > houseMaxOthers {
		problems = append(problems, fmt.Sprintf("the root has %d files beside tests: merge two", others))
	}
	return problems
}

func (h *house) sizeAndDocs() (problems []string) {
	for _, f := range h.sources(func(f *houseFile) bool { return f.isGo() && f.inRoot() }) {
		most := houseMaxLines
		if f.isTest() {
			most = houseMaxLinesTests
		}
		if n := strings.Count(f.text, "\n"); n > most {
			problems = append(problems, f.at(most+1, "the file has %d lines: split it by subject and keep its prefix", n))
		}
	}
	for _, c := range h.shim {
		if n := strings.Count(c.file.text, "\n"); n > houseMaxLinesC {
			problems = append(problems, c.file.at(houseMaxLinesC+1, "the file has %d lines: split it by subject", n))
		}
	}
	for _, f := range h.sources((*houseFile).isBinding) {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if isExportedFunc(d) && !docBegins(d.Doc, "", d.Name.Name) {
					problems = append(problems, h.undocumented(d.Pos(), funcName(d), d.Name.Name))
				}
			case *ast.GenDecl:
				problems = append(problems, h.undocumentedSpecs(d)...)
			}
		}
	}
	return problems
}

func (h *house) undocumented(pos token.Pos, name, first string) string {
	return h.at(pos, "%s has no doc comment that begins with its name: begin one with %q", name, first)
}

func (h *house) undocumentedSpecs(d *ast.GenDecl) (problems []string) {
	alone, grouped := d.Doc, d.Lparen.IsValid()
	if grouped {
		alone = nil
	}
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && !docBegins(alone, "(?:A |An |The )?", s.Name.Name) &&
				!docBegins(s.Doc, "(?:A |An |The )?", s.Name.Name) {
				problems = append(problems, h.undocumented(s.Pos(), s.Name.Name, s.Name.Name))
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				documented := grouped && d.Doc != nil || docBegins(alone, "", name.Name) || docBegins(s.Doc, "", name.Name)
				if name.IsExported() && !documented {
					problems = append(problems, h.undocumented(name.Pos(), name.Name, name.Name))
				}
			}
		}
	}
	return problems
}

// docBegins reports whether the comment begins with the name, or with an article and the name.
func docBegins(doc *ast.CommentGroup, article, name string) bool {
	return regexp.MustCompile(`^` + article + name + `\b`).MatchString(doc.Text())
}
