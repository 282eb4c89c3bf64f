// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A fault is one change of the code, and the test that must fail with it.
type fault struct {
	table    string // "conn.faults:12"
	what     string // what goes wrong
	file     string // from the root of the module, with slashes
	function string // whose text has old exactly once; "Type.Method" for a method
	old, new string
	kind     faultKind
	pkg      string // of the test, "./sslhttp"
	flags    []string
	holds    []string // exported names, and after ": " words of their comments
	leg      string   // the slow leg that sees it, "" if a plain run does
}

// A faultKind says what is put in place of what.
type faultKind int

const (
	statements faultKind = iota // whole lines
	expression                  // a part of a line
	nothing                     // the whole function does nothing, and returns zero values
)

// name is how messages call the fault.
func (f *fault) name() string { return fmt.Sprintf("%s %s: %s", f.table, f.function, f.what) }

// readTables reads the tables of a folder.
func readTables(dir string) (faults []*fault, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.faults"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		of, err := parseTable(filepath.Base(path), string(b))
		if err != nil {
			return nil, err
		}
		faults = append(faults, of...)
	}
	return faults, nil
}

// A tableParser reads the lines of one table. README.md describes them.
type tableParser struct {
	file, function string
	current        *fault
	faults         []*fault
}

func parseTable(name, text string) ([]*fault, error) {
	var p tableParser
	for i, line := range strings.Split(text, "\n") {
		where := fmt.Sprintf("%s:%d", name, i+1)
		if err := p.line(where, line); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
	}
	if p.current != nil {
		return nil, fmt.Errorf("%s: the fault has no test", p.current.table)
	}
	return p.faults, nil
}

func (p *tableParser) line(where, line string) error {
	if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	mark, text, _ := strings.Cut(line, " ")
	switch mark {
	case "@":
		return p.place(text)
	case ":":
		return p.begin(where, text)
	}
	if p.current == nil {
		return fmt.Errorf("%q stands before a line with ':'", line)
	}
	switch mark {
	case "-", "+":
		return p.change(mark == "-", statements, text)
	case "<", ">":
		return p.change(mark == "<", expression, text)
	case "holds":
		p.current.holds = append(p.current.holds, text)
		return nil
	case "nothing":
		p.current.kind = nothing
		return nil
	case "=":
		return p.end(text)
	}
	return fmt.Errorf("no line begins with %q", mark)
}

func (p *tableParser) place(text string) error {
	if p.current != nil {
		return fmt.Errorf("the fault %q has no test", p.current.what)
	}
	file, function, ok := strings.Cut(text, " ")
	if !ok {
		return fmt.Errorf("%q is not a file and a function", text)
	}
	p.file, p.function = file, function
	return nil
}

func (p *tableParser) begin(where, text string) error {
	if p.current != nil || p.function == "" {
		return fmt.Errorf("the fault %q has no place, or the one before it no test", text)
	}
	p.current = &fault{table: where, what: text, file: p.file, function: p.function, kind: -1}
	return nil
}

func (p *tableParser) change(old bool, kind faultKind, text string) error {
	if p.current.kind >= 0 && p.current.kind != kind {
		return fmt.Errorf("the fault %q is of two kinds", p.current.what)
	}
	p.current.kind = kind
	to := &p.current.new
	if old {
		to = &p.current.old
	}
	if *to != "" {
		*to += "\n"
	}
	*to += text
	return nil
}

// end reads "[leg LEG] [PACKAGE] TESTS [FLAGS...]".
func (p *tableParser) end(text string) error {
	f, fields := p.current, strings.Fields(text)
	if f.kind < 0 || (f.kind != nothing && f.old == "") {
		return fmt.Errorf("the fault %q changes nothing", f.what)
	}
	if len(fields) > 2 && fields[0] == "leg" {
		f.leg, fields = fields[1], fields[2:]
	}
	f.pkg = "./" + filepath.ToSlash(filepath.Dir(f.file))
	if f.pkg == "./." {
		f.pkg = "."
	}
	if len(fields) > 0 && (fields[0] == "." || strings.HasPrefix(fields[0], "./")) {
		f.pkg, fields = fields[0], fields[1:]
	}
	if len(fields) == 0 || !strings.Contains(fields[0], "Test") && !strings.Contains(fields[0], "Example") && !strings.Contains(fields[0], "Fuzz") {
		return fmt.Errorf("the fault %q names no test", f.what)
	}
	f.flags = append([]string{"-test.run=^(" + fields[0] + ")$"}, fields[1:]...)
	if i := strings.Index(fields[0], "/"); i >= 0 {
		f.flags[0] = "-test.run=^(" + fields[0][:i] + ")$" + fields[0][i:]
	}
	p.faults, p.current = append(p.faults, f), nil
	return nil
}

// test names the test of a fault, for a document.
func (f *fault) test() string {
	name := strings.TrimSuffix(strings.TrimPrefix(f.flags[0], "-test.run=^("), ")$")
	return strings.Replace(name, ")$/", "/", 1)
}
