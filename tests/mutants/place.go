// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
)

// A place is where a fault is: bytes of a file.
type place struct {
	from, to int
	results  string // of the function, as Go writes them, for a fault that does nothing
}

// find returns the place of a fault in its file.
func (f *fault) find(source []byte) (place, error) {
	from, to, results, err := findFunction(f.file, f.function, source)
	if err != nil {
		return place{}, err
	}
	if f.kind == nothing {
		return place{from: from, to: from, results: results}, nil
	}
	body := string(source[from:to])
	pattern := regexp.QuoteMeta(f.old)
	if f.kind == statements {
		pattern = linesPattern(f.old)
	}
	found := regexp.MustCompile(pattern).FindAllStringIndex(body, -1)
	if len(found) != 1 {
		return place{}, fmt.Errorf("%s has %q %d times", f.function, f.old, len(found))
	}
	return place{from: from + found[0][0], to: from + found[0][1]}, nil
}

// linesPattern matches whole lines, whatever their indentation.
func linesPattern(lines string) string {
	var p strings.Builder
	for i, line := range strings.Split(lines, "\n") {
		if i > 0 {
			p.WriteString(`\n`)
		}
		p.WriteString(`(?m:^)[\t ]*` + regexp.QuoteMeta(strings.TrimSpace(line)) + `(?m:$)`)
	}
	return p.String()
}

// findFunction returns where the body of a function begins and ends, without its braces.
func findFunction(file, name string, source []byte) (from, to int, results string, err error) {
	if strings.HasSuffix(file, ".go") {
		return findGoFunction(name, source)
	}
	from, to, err = findCFunction(name, source)
	return from, to, "", err
}

func findGoFunction(name string, source []byte) (from, to int, results string, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", source, parser.SkipObjectResolution)
	if err != nil {
		return 0, 0, "", err
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && nameOf(f) == name && f.Body != nil {
			at := func(p token.Pos) int { return set.Position(p).Offset }
			if f.Type.Results != nil {
				results = string(source[at(f.Type.Results.Pos()):at(f.Type.Results.End())])
			}
			return at(f.Body.Lbrace) + 1, at(f.Body.Rbrace), results, nil
		}
	}
	return 0, 0, "", fmt.Errorf("no function %s", name)
}

// nameOf returns "Type.Method" or the name of a function.
func nameOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	for {
		switch of := t.(type) {
		case *ast.StarExpr:
			t = of.X
			continue
		case *ast.IndexExpr:
			t = of.X
			continue
		case *ast.Ident:
			return of.Name + "." + f.Name.Name
		}
		return f.Name.Name
	}
}

// findCFunction relies on clang-format: a definition begins at the margin, and so does its last
// brace.
func findCFunction(name string, source []byte) (from, to int, err error) {
	head := regexp.MustCompile(`(?m)^[A-Za-z][^;{}]*\b` + regexp.QuoteMeta(name) + `\([^;{}]*\) \{$`)
	found := head.FindIndex(source)
	if found == nil {
		return 0, 0, fmt.Errorf("no function %s", name)
	}
	end := bytes.Index(source[found[1]:], []byte("\n}\n"))
	if end < 0 {
		return 0, 0, errors.New("the function has no end")
	}
	return found[1], found[1] + end + 1, nil
}
