// SPDX-License-Identifier: Apache-2.0

package house

import (
	"regexp"
	"strings"
)

// A houseC has the parts of a C file that the rules need. The parser counts braces and has no
// grammar: that is enough for files in clang-format's layout.
type houseC struct {
	file  *houseFile
	defs  []houseFunc
	decls []houseFunc
	types map[string]bool // by typedef
}

type houseFunc struct {
	name   string
	line   int
	static bool
	words  map[string]bool // of its body
}

var (
	cNoise     = regexp.MustCompile(`(?s)//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`)
	cDirective = regexp.MustCompile(`(?m)^[ \t]*#(?:.*\\\n)*.*$`)
	cFunction  = regexp.MustCompile(`(\w+)\s*\((?:[^()]|\([^()]*\))*\)\s*$`)
	cTypedef   = regexp.MustCompile(`^typedef\b(?s:.*?)(\w+)\s*$`)
	cWord      = regexp.MustCompile(`\w+`)
)

// blankMatches replaces each match by blanks, except its newlines, so that lines keep their
// numbers.
func blankMatches(text string, re *regexp.Regexp) string {
	return re.ReplaceAllStringFunc(text, func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return ' '
		}, s)
	})
}

// codeOfC returns the text without comments and strings.
func codeOfC(text string) string { return blankMatches(text, cNoise) }

func readC(f *houseFile) *houseC {
	c := &houseC{file: f, types: map[string]bool{}}
	if f == nil {
		c.file = new(houseFile)
		return c
	}
	code := blankMatches(codeOfC(f.text), cDirective)
	depth, start, open := 0, 0, 0
	for i, r := range code {
		switch {
		case r == '{':
			if depth == 0 {
				open = i
			}
			depth++
		case r == '}':
			if depth--; depth == 0 && c.add(&c.defs, code, start, open, code[open:i]) {
				start = i + 1
			}
		case r == ';' && depth == 0:
			c.add(&c.decls, code, start, i, "")
			start = i + 1
		}
	}
	return c
}

// add records the function or the type with the head code[start:end].
func (c *houseC) add(to *[]houseFunc, code string, start, end int, body string) bool {
	head := strings.TrimSpace(code[start:end])
	if m := cTypedef.FindStringSubmatch(head); m != nil {
		c.types[m[1]] = true
		return false
	}
	m := cFunction.FindStringSubmatch(head)
	if m == nil || strings.Contains(head, "=") {
		return false
	}
	start += strings.Index(code[start:], head)
	f := houseFunc{m[1], 1 + strings.Count(code[:start], "\n"), strings.HasPrefix(head, "static"), map[string]bool{}}
	for _, w := range cWord.FindAllString(body, -1) {
		f.words[w] = true
	}
	*to = append(*to, f)
	return true
}
