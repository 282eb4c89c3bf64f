// SPDX-License-Identifier: Apache-2.0

package house

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"sslctx/internal/tlstest"
	"testing"
)

// contextNames looks for parameters of type *Context that have the name of a context.Context. It
// looks at functions, methods, literals and types of functions.
func (h *house) contextNames() (problems []string) {
	for _, f := range h.sources((*houseFile).isGo) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			signature, ok := n.(*ast.FuncType)
			if !ok {
				return true
			}
			for _, p := range signature.Params.List {
				for _, name := range p.Names {
					if name.Name == "ctx" && isOurContext(p.Type) {
						problems = append(problems, h.at(name.Pos(), "a *Context is called ctx, as a context.Context is: "+
							"call it c, or by its role, as server"))
					}
				}
			}
			return true
		})
	}
	return problems
}

// isOurContext reports whether a type is *Context or *sslctx.Context.
func isOurContext(e ast.Expr) bool {
	star, ok := e.(*ast.StarExpr)
	if !ok {
		return false
	}
	if id, ok := star.X.(*ast.Ident); ok {
		return id.Name == "Context"
	}
	name, ok := selectorOf(star.X, "sslctx")
	return ok && name == "Context"
}

var contextCalledCtx = regexp.MustCompile(`\bctx \*(?:sslctx\.)?Context\b`)

// TestDocsNameContexts is the rule "context names" for signatures in documents.
func TestDocsNameContexts(t *testing.T) {
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		names, err := filepath.Glob(pattern)
		tlstest.Must(t, err)
		if len(names) == 0 {
			t.Errorf("there is no %s", pattern)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			tlstest.Must(t, err)
			for _, line := range matchingLines(string(text), contextCalledCtx) {
				t.Errorf("%s:%d: a *Context is called ctx", name, line)
			}
		}
	}
}
