// SPDX-License-Identifier: Apache-2.0

package house

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"sslctx/internal/tlstest"
	"strings"
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

// constantsOfOtherNames have a value in C whose name says it in another way.
var constantsOfOtherNames = map[string]string{
	"VersionTLS10": "TLS1_VERSION", "VersionTLS11": "TLS1_1_VERSION", "VersionTLS12": "TLS1_2_VERSION", "VersionTLS13": "TLS1_3_VERSION",
	"TLSMethod": "SHIM_METHOD_TLS", "TLSClientMethod": "SHIM_METHOD_TLS_CLIENT", "TLSServerMethod": "SHIM_METHOD_TLS_SERVER",
	"VerifyOK": "X509_V_OK", "VerifyUnspecified": "X509_V_ERR_UNSPECIFIED",
	"MaxFragmentAny": "TLSEXT_max_fragment_length_DISABLED", "MaxPSKIdentityLength": "PSK_MAX_IDENTITY_LEN", "MaxPSKLength": "PSK_MAX_PSK_LEN",
	"MaxIDLength": "SSL_MAX_SSL_SESSION_ID_LENGTH", "MaxMasterKeyLength": "SHIM_MAX_MASTER_KEY_LENGTH",
	"LibSSL": "ERR_LIB_SSL", "ReasonKeyValuesMismatch": "X509_R_KEY_VALUES_MISMATCH", "ReasonNoStartLine": "PEM_R_NO_START_LINE",
}

// namesOfC are the prefixes in C of exported constants. The rest of both names is the same, but for
// underscores.
var namesOfC = []struct{ ours, ofC string }{
	{"Op", "SSL_OP_"}, {"Mode", "SSL_MODE_"}, {"SessCache", "SSL_SESS_CACHE_"}, {"Verify", "SSL_VERIFY_"},
	{"Reason", "SSL_R_"}, {"EarlyData", "SSL_EARLY_DATA_"}, {"MaxFragment", "TLSEXT_max_fragment_length_"},
	{"Ticket", "SSL_TICKET_RETURN_"}, {"Ticket", "SSL_TICKET_"},
}

var constantOfC = regexp.MustCompile(`\bC\.([A-Za-z][A-Za-z0-9_]*)\b`)

// constants compares the names of exported constants with those of C that they have as values.
func (h *house) constants() (problems []string) {
	for _, f := range h.sources((*houseFile).isBinding) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || !v.Names[0].IsExported() || len(v.Values) != 1 {
				return true
			}
			name := v.Names[0].Name
			value := f.text[h.fset.Position(v.Values[0].Pos()).Offset:h.fset.Position(v.Values[0].End()).Offset]
			for _, c := range constantOfC.FindAllStringSubmatch(value, -1) {
				isLibrary := strings.HasPrefix(c[1], "ERR_LIB_") && name != "LibSSL" // half of a Reason
				if !isLibrary && !isNameOfC(name, c[1]) {
					problems = append(problems, h.at(v.Pos(), "%s is C.%s", name, c[1]))
				}
			}
			return true
		})
	}
	return problems
}

func isNameOfC(ours, ofC string) bool {
	if other, ok := constantsOfOtherNames[ours]; ok {
		return ofC == other
	}
	for _, p := range namesOfC {
		rest, ok := strings.CutPrefix(ours, p.ours)
		restOfC, okOfC := strings.CutPrefix(ofC, p.ofC)
		if ok && okOfC {
			return strings.EqualFold(rest, strings.ReplaceAll(restOfC, "_", ""))
		}
	}
	return false
}
