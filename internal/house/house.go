// SPDX-License-Identifier: Apache-2.0

// Package house reads the source of the repository. Its tests check the rules of CONTRIBUTING.md,
// the statements of documents about the source, and the output of the compiler and the linker.
// Tests of other packages ask it for the functions.
package house

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
)

// Root returns the folder of the module: the nearest with a go.mod, from the current one upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no folder above has a go.mod")
		}
		dir = up
	}
}

func readRoot() (*house, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return readHouse(root)
}

// ExportedFuncs returns the declarations of the exported functions and methods of the binding.
func ExportedFuncs() (functions []*ast.FuncDecl, err error) {
	h, err := readRoot()
	if err != nil {
		return nil, err
	}
	for _, d := range h.functions() {
		if isExportedFunc(d) {
			functions = append(functions, d)
		}
	}
	return functions, nil
}

// FuncsThatCallC returns the names of the exported functions and methods that call C, directly or
// through unexported functions. A method has a name like "Conn.Read".
func FuncsThatCallC() (names []string, err error) {
	h, err := readRoot()
	if err != nil {
		return nil, err
	}
	g := newHouseGraph(h)
	for _, d := range h.functions() {
		if isExportedFunc(d) && len(g.reach(d)) > 0 {
			names = append(names, funcName(d))
		}
	}
	return names, nil
}

// ShimCode returns the code of the C files of the binding by their names, without comments and
// strings.
func ShimCode() (map[string]string, error) {
	h, err := readRoot()
	if err != nil {
		return nil, err
	}
	code := map[string]string{}
	for _, c := range h.shim {
		code[c.file.path] = codeOfC(c.file.text)
	}
	return code, nil
}

// houseAnswers lists methods that return a value which another function stored. No call leads from
// the method to that function, but the value comes from its calls of C.
var houseAnswers = map[string]string{
	"Conn.lastCallResult": "connCall.runOp", // each call into libssl reads version, cipher and the like at its end
}

// A house is the source that the rules look at.
type house struct {
	fset  *token.FileSet
	files map[string]*houseFile // by path below the module's root, with slashes

	header, internal *houseC   // cgo_shim.h and shim_internal.h; either may be empty
	shim             []*houseC // all C files in the root, these two too

	excused map[string]string
	used    map[string]bool // entries of excused
}

type houseFile struct {
	path, text string
	ast        *ast.File // nil unless it is Go
}

// readHouse reads the module in dir: its Go and C files, and the names of other files in dir
// itself. It skips modules inside, and tools.
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
	return newHouse(sources)
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

func newHouse(sources map[string]string) (*house, error) {
	h := &house{fset: token.NewFileSet(), files: map[string]*houseFile{}, used: map[string]bool{}}
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

// unusedExcuses must be called after the rule was checked.
func (h *house) unusedExcuses(rule string) (problems []string) {
	for _, e := range slices.Sorted(maps.Keys(h.excused)) {
		if strings.HasPrefix(e, rule+": ") && !h.used[e] {
			problems = append(problems, fmt.Sprintf("internal/house/house_test.go: %q excuses nothing: take it out of houseExcused", e))
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

func (f *houseFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// isBinding reports whether the file is in the root package and is no test.
func (f *houseFile) isBinding() bool { return f.isGo() && f.inRoot() && !f.isTest() }

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

// A houseGraph knows which functions of the binding use which. It needs types to distinguish
// methods of one name. It does not need types of C and of other packages: they stay unknown.
type houseGraph struct {
	*house
	uses    map[*ast.Ident]types.Object
	decls   map[types.Object]*ast.FuncDecl
	named   map[string]*ast.FuncDecl   // as "Conn.callSSL"
	methods map[string][]*ast.FuncDecl // of any type, as "callSSL"
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
	_, _ = config.Check("sslctx", h.fset, files, &info) // unknown types cause the errors
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

// receiverName returns the name of the type of which d is a method, or "".
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

// reach returns the C functions that d calls, directly or through unexported functions. An exported
// function has its own doc comment.
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

// endsOfHandles returns the functions that d passes to leave and adopt. They free the handle at its
// end. Every method has one, and it says nothing about the method.
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

// callees returns the unexported functions that n names. If the type of a receiver is unknown, it
// returns every method of that name.
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

// originOf returns the generic method of which f is an instance, or f.
func originOf(f *types.Func) types.Object {
	if f == nil {
		return nil
	}
	return f.Origin()
}

var (
	cTypeName = regexp.MustCompile(`^(?:u?(?:char|short|int|long|longlong)|schar|float|double|\w+_t|` +
		`(?:struct|union|enum|sizeof)_\w+)$`)
	cHelper   = regexp.MustCompile(`^(?:CString|CBytes|GoString|GoStringN|GoBytes|malloc|calloc|free)$`)
	cCapitals = regexp.MustCompile(`^[A-Z0-9_]+$`)
)

// call returns the C function that n calls. A name in capitals is a type, except for macros of the
// error queue.
func (h *house) call(n ast.Node) (name string, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	name, ok = cSelector(ast.Unparen(call.Fun))
	isType := cTypeName.MatchString(name) || h.header.types[name] ||
		cCapitals.MatchString(name) && !strings.HasPrefix(name, "ERR_")
	return name, ok && !isType && !cHelper.MatchString(name)
}

func cSelector(n ast.Node) (name string, ok bool) { return selectorOf(n, "C") }

func selectorOf(n ast.Node, pkg string) (name string, ok bool) {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := s.X.(*ast.Ident)
	return s.Sel.Name, ok && x.Name == pkg
}

// inC returns all words in the bodies of the shim functions, and of those that they use.
func (h *house) inC(functions map[string]bool) map[string]bool {
	words, seen := map[string]bool{}, map[string]bool{}
	var walk func(string)
	walk = func(name string) {
		words[name] = true
		if seen[name] {
			return
		}
		seen[name] = true
		for _, def := range h.cFunctions() {
			if def.name == name {
				for w := range def.words {
					walk(w)
				}
			}
		}
	}
	for name := range functions {
		walk(name)
	}
	return words
}
