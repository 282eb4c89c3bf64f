// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// A numbered fault is one that has its number, which switches it on, and its place.
type numbered struct {
	*fault
	place
	number int
}

// switchFaults returns the source of a file with all its faults in it, each behind its number.
func switchFaults(file string, source []byte, faults []numbered) (string, error) {
	slices.SortStableFunc(faults, func(a, b numbered) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return b.to - a.to // the outer one first
	})
	e := editor{c: !strings.HasSuffix(file, ".go"), source: string(source)}
	out, rest, err := e.edit(0, len(source), faults)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%s overlaps another fault", rest[0].name())
	}
	return out, err
}

type editor struct {
	c      bool
	source string
}

// edit returns the source between two offsets with the faults that are in it, and the faults
// behind it.
func (e *editor) edit(from, to int, faults []numbered) (out string, rest []numbered, err error) {
	var b strings.Builder
	for len(faults) > 0 && faults[0].to <= to {
		first := faults[0]
		if first.from < from {
			return "", nil, fmt.Errorf("%s overlaps another fault", first.name())
		}
		same := 1
		for same < len(faults) && faults[same].from == first.from && faults[same].to == first.to && faults[same].kind == first.kind {
			same++
		}
		b.WriteString(e.source[from:first.from])
		at := faults[:same]
		var inner string
		if first.kind == nothing {
			inner, faults = "", faults[same:]
		} else if inner, faults, err = e.edit(first.from, first.to, faults[same:]); err != nil {
			return "", nil, err
		}
		text, err := e.choose(inner, at)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(text)
		from = first.to
	}
	b.WriteString(e.source[from:to])
	return b.String(), faults, nil
}

// choose returns code that does what old does, or what one of the faults puts in its place.
func (e *editor) choose(old string, faults []numbered) (string, error) {
	for _, f := range faults {
		switch {
		case f.kind == nothing:
			text, err := doNothing(f)
			if err != nil {
				return "", err
			}
			old += text
		case f.kind == expression && e.c:
			old = fmt.Sprintf("(shim_mutant == %d ? (%s) : (%s))", f.number, f.new, old)
		case f.kind == expression && (isCondition(f.old) || isCondition(f.new)):
			old = fmt.Sprintf("(mutant == %[1]d && (%[2]s) || mutant != %[1]d && (%[3]s))", f.number, f.new, old)
		case f.kind == expression:
			old = fmt.Sprintf("mutantPick(%d, %s, %s)", f.number, f.new, old)
		case e.c:
			old = fmt.Sprintf("if (shim_mutant == %d) {\n%s\n} else {\n%s\n}", f.number, f.new, old)
		default:
			old = fmt.Sprintf("if mutant == %d {\n%s\n} else {\n%s\n}", f.number, f.new, old)
		}
	}
	return old, nil
}

// doNothing returns the first statement of a function, which returns zero values.
func doNothing(f numbered) (string, error) {
	if f.results == "" {
		return fmt.Sprintf("\nif mutant == %d {\nreturn\n}\n", f.number), nil
	}
	// The results as those of a literal: with names they have a type of their own each.
	results := f.results
	if !strings.HasPrefix(results, "(") {
		results = "(_ " + results + ")"
	}
	expr, err := parser.ParseExpr("func() " + results + " {}")
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.name(), err)
	}
	named := false
	for _, field := range expr.(*ast.FuncLit).Type.Results.List {
		named = named || len(field.Names) > 0
	}
	if !named {
		results = "(_ " + strings.Join(splitTypes(strings.Trim(results, "()")), ", _ ") + ")"
	}
	return fmt.Sprintf("\nif mutant == %d {\nreturn func() %s { return }()\n}\n", f.number, results), nil
}

// splitTypes splits a list of types that have no names.
func splitTypes(list string) (types []string) {
	depth, from := 0, 0
	for i, r := range list {
		switch r {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case ',':
			if depth == 0 {
				types, from = append(types, strings.TrimSpace(list[from:i])), i+1
			}
		}
	}
	return append(types, strings.TrimSpace(list[from:]))
}

// isCondition reports whether an expression of Go looks like a bool, by its form.
func isCondition(text string) bool {
	x, err := parser.ParseExpr(text)
	if err != nil {
		return false
	}
	switch x := ast.Unparen(x).(type) {
	case *ast.BinaryExpr:
		switch x.Op {
		case token.LAND, token.LOR, token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
			return true
		}
	case *ast.UnaryExpr:
		return x.Op == token.NOT
	case *ast.Ident:
		return x.Name == "true" || x.Name == "false"
	}
	return false
}
