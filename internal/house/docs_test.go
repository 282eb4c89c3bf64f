// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sslctx/internal/tlstest"
	"strings"
	"testing"
)

// docsThatName are the documents that name a test for each promise.
var docsThatName = []string{"docs/threat-model.md", "docs/peer-bytes.md", "docs/deviations.md", "docs/ownership.md", "docs/linking.md", "docs/guide.md",
	"README.md", "SECURITY.md", "CONTRIBUTING.md"}

var (
	namedTest   = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)(\\*?)`")
	namedScript = regexp.MustCompile("`([\\w-]+\\*?\\.txt)`")
)

// missing returns the names in a document that do not exist. A name that ends with a star matches
// any name with that beginning.
func missing(text string, tests map[string]bool, hasScript func(pattern string) bool) (names []string) {
	for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
		found := tests[m[1]]
		for name := range tests {
			found = found || m[2] == "*" && strings.HasPrefix(name, m[1])
		}
		if !found {
			names = append(names, m[1]+m[2])
		}
	}
	for _, m := range namedScript.FindAllStringSubmatch(text, -1) {
		if !hasScript(m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// untested returns the first cells of the rows that name no test, in tables whose last column is
// for tests.
func untested(text string) (rows []string) {
	inTable, wantsTest := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inTable = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		last := strings.TrimSpace(cells[len(cells)-1])
		switch {
		case !inTable:
			inTable, wantsTest = true, last == "test" || last == "shown by"
		case wantsTest && !strings.HasPrefix(line, "|-") && !namedTest.MatchString(last) && !namedScript.MatchString(last):
			rows = append(rows, strings.TrimSpace(cells[0]))
		}
	}
	return rows
}

// TestDocsNameTests: the tests and scripts that documents name exist, and each row of a table with
// a column for tests names one.
func TestDocsNameTests(t *testing.T) {
	h, err := readHouse(".")
	tlstest.Must(t, err)
	tests := map[string]bool{}
	for _, f := range h.sources((*houseFile).isGo) {
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && strings.HasSuffix(f.path, "_test.go") {
				tests[d.Name.Name] = true
			}
		}
	}
	var scripts []string
	tlstest.Must(t, filepath.WalkDir("conformance/script", func(name string, d fs.DirEntry, err error) error {
		scripts = append(scripts, path.Base(name))
		return err
	}))
	hasScript := func(pattern string) bool {
		for _, s := range scripts {
			if ok, _ := path.Match(pattern, s); ok {
				return true
			}
		}
		return false
	}
	named := 0
	for _, doc := range docsThatName {
		text, err := os.ReadFile(doc)
		tlstest.Must(t, err)
		named += len(namedTest.FindAllString(string(text), -1))
		for _, name := range missing(string(text), tests, hasScript) {
			t.Errorf("%s names %s, which does not exist", doc, name)
		}
		for _, row := range untested(string(text)) {
			t.Errorf("%s: the row %q names no test", doc, row)
		}
	}
	if named < 100 {
		t.Errorf("only %d tests are named: they are not found", named)
	}
	got := missing("`TestHouse`, `TestHou*`, `TestNone`, `FuzzNone*` and `refused-*.txt`, `none.txt`", tests, hasScript)
	if fmt.Sprint(got) != "[TestNone FuzzNone* none.txt]" {
		t.Errorf("of names that are there and names that are not, missing are %v", got)
	}
	tables := "| a | test |\n|---|---|\n| b | `TestHouse` |\n| c | |\n| d | `x.txt` |\n| e | none |\n\n| f | g |\n|---|---|\n| h | |\n"
	if got := untested(tables); fmt.Sprint(got) != "[c e]" {
		t.Errorf("rows without a test are %v", got)
	}
}
