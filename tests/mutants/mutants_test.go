// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlaces: what each fault changes is in the code, once, and no two faults overlap. The tables
// have at least 200 faults.
func TestPlaces(t *testing.T) {
	faults, err := readTables(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(faults) < 200 {
		t.Errorf("there are %d faults", len(faults))
	}
	files := map[string][]numbered{}
	for i, f := range faults {
		source := read(t, f.file)
		at, err := f.find(source)
		if err != nil {
			t.Errorf("%s: %v", f.name(), err)
			continue
		}
		files[f.file] = append(files[f.file], numbered{f, at, i + 1})
	}
	for file, of := range files {
		text, err := switchFaults(file, read(t, file), of)
		if err == nil && strings.HasSuffix(file, ".go") {
			_, err = format.Source([]byte(text))
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestTestsExist: each fault names a test of its package.
func TestTestsExist(t *testing.T) {
	faults, err := readTables(".")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, f := range faults {
		if sources[f.pkg] == "" {
			paths, err := filepath.Glob(filepath.Join("..", "..", f.pkg, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				sources[f.pkg] += string(b)
			}
		}
		for name := range strings.SplitSeq(f.test(), "|") {
			name, _, _ = strings.Cut(name, "/")
			if !strings.Contains(sources[f.pkg], "\nfunc "+name+"(") {
				t.Errorf("%s: %s has no %s", f.name(), f.pkg, name)
			}
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const goSource = `package p

func (c *Conn) add(n int) (sum int, err error) {
	if n < 0 && c.open {
		return 0, errNegative
	}
	c.count += n
	c.count++
	return c.count, nil
}

func plain() {}
`

const cSource = `static int
add(conn *c, int n) {
    if (n < 0) {
        return 0;
    }
    c->count += n;
    return c->count;
}
`

func parse(t *testing.T, table string) []*fault {
	t.Helper()
	faults, err := parseTable("x.faults", table)
	if err != nil {
		t.Fatal(err)
	}
	return faults
}

// TestSwitch puts faults into source, one in another, and two in one place.
func TestSwitch(t *testing.T) {
	for _, c := range []struct {
		name, file, source, table string
		want                      []string // in this order
	}{
		{"condition", "p.go", goSource, "@ p.go Conn.add\n: wrong\n< n < 0\n> n > 0\n= TestX\n",
			[]string{"if (mutant == 1 && (n > 0) || mutant != 1 && (n < 0)) && c.open {"}},
		{"value", "p.go", goSource, "@ p.go Conn.add\n: wrong\n< c.count, nil\n> 7, nil\n= TestX\n",
			[]string{"return mutantPick(1, 7, nil, c.count, nil)"}},
		{"lines gone", "p.go", goSource, "@ p.go Conn.add\n: wrong\n- c.count += n\n- c.count++\n= TestX\n",
			[]string{"if mutant == 1 {\n\n} else {\n\tc.count += n\n\tc.count++\n}"}},
		{"nothing", "p.go", goSource, "@ p.go Conn.add\n: wrong\nnothing\n= TestX\n@ p.go plain\n: wrong\nnothing\n= TestX\n",
			[]string{"{\nif mutant == 1 {\nreturn func() (sum int, err error) { return }()\n}\n", "func plain() {\nif mutant == 2 {\nreturn\n}\n}"}},
		{"one in another", "p.go", goSource, "@ p.go Conn.add\n: outer\n- c.count += n\n- c.count++\n= TestX\n: inner\n< += n\n> += 2\n= TestX\n",
			[]string{"mutant == 1", "c.count mutantPick(2, += 2, += n)"}},
		{"two in one place", "p.go", goSource, "@ p.go Conn.add\n: one\n< n < 0\n> true\n= TestX\n: two\n< n < 0\n> false\n= TestX\n",
			[]string{"(mutant == 2 && (false) || mutant != 2 && ((mutant == 1 && (true) || mutant != 1 && (n < 0))))"}},
		{"C", "p.c", cSource, "@ p.c add\n: one\n< n < 0\n> n > 0\n= TestX\n: two\n- c->count += n;\n= TestX\n",
			[]string{"if ((shim_mutant == 1 ? (n > 0) : (n < 0))) {", "if (shim_mutant == 2) {\n\n} else {\n    c->count += n;\n}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults []numbered
			for i, f := range parse(t, c.table) {
				at, err := f.find([]byte(c.source))
				if err != nil {
					t.Fatal(err)
				}
				faults = append(faults, numbered{f, at, i + 1})
			}
			text, err := switchFaults(c.file, []byte(c.source), faults)
			if err != nil {
				t.Fatal(err)
			}
			rest := text
			for _, want := range c.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("%s\nhas no %q, or not in this order", text, want)
				}
				rest = after
			}
		})
	}
}

// TestRefused: a table with a mistake, and a fault without a place, are errors.
func TestRefused(t *testing.T) {
	for name, table := range map[string]string{
		"no place":         ": wrong\n- x\n= TestX\n",
		"no test":          "@ p.go plain\n: wrong\n- x\n",
		"no test, another": "@ p.go plain\n: wrong\n- x\n: wrong\n- x\n= TestX\n",
		"no change":        "@ p.go plain\n: wrong\n= TestX\n",
		"two kinds":        "@ p.go plain\n: wrong\n- x\n< y\n> z\n= TestX\n",
		"unknown mark":     "@ p.go plain\n: wrong\n* x\n= TestX\n",
		"not a test":       "@ p.go plain\n: wrong\n- x\n= x\n",
	} {
		if _, err := parseTable("x.faults", table); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, table := range map[string]string{
		"no such function": "@ p.go other\n: wrong\n- x\n= TestX\n",
		"no such line":     "@ p.go Conn.add\n: wrong\n- c.count--\n= TestX\n",
		"twice":            "@ p.go Conn.add\n: wrong\n< c.count\n> 7\n= TestX\n",
	} {
		if _, err := parse(t, table)[0].find([]byte(goSource)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	var faults []numbered
	for i, f := range parse(t, "@ p.go Conn.add\n: one\n< n < 0 && c\n> c\n= TestX\n: two\n< 0 && c.open\n> c.open\n= TestX\n") {
		at, err := f.find([]byte(goSource))
		if err != nil {
			t.Fatal(err)
		}
		faults = append(faults, numbered{f, at, i + 1})
	}
	if text, err := switchFaults("p.go", []byte(goSource), faults); err == nil {
		t.Errorf("two that overlap:\n%s", text)
	}
}

// TestReport: a fault that is unseen, and a test that fails without a fault, are errors.
func TestReport(t *testing.T) {
	f := parse(t, "@ p.go plain\n: wrong\n- x\n= TestX\n")[0]
	for _, c := range []struct {
		name string
		of   outcome
		ok   bool
	}{
		{"seen", outcome{fault: f, seen: true}, true},
		{"unseen", outcome{fault: f}, false},
		{"broken", outcome{fault: f, seen: true, broken: os.ErrInvalid}, false},
	} {
		var b strings.Builder
		if err := report(&b, []outcome{c.of}, 0); (err == nil) != c.ok {
			t.Errorf("%s: %v\n%s", c.name, err, &b)
		}
	}
}
