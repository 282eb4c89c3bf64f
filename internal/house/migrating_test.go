// SPDX-License-Identifier: Apache-2.0

package house

import (
	"crypto/tls"
	"os"
	"reflect"
	"regexp"
	"sslctx/internal/tlstest"
	"strings"
	"testing"

	"sslctx"
)

// TestConfigTable: docs/migrating.md has each field of tls.Config, and every name of ours in it
// exists.
func TestConfigTable(t *testing.T) {
	text, err := os.ReadFile("docs/migrating.md")
	tlstest.Must(t, err)
	_, table, ok := strings.Cut(string(text), "| field of `tls.Config` |")
	table, _, ok2 := strings.Cut(table, "\n\n")
	if !ok || !ok2 {
		t.Fatal("there is no table")
	}
	fields := map[string]bool{}
	word := regexp.MustCompile("`(\\w+)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range word.FindAllStringSubmatch(cells[1], -1) {
			fields[m[1]] = true
		}
	}
	config := reflect.TypeFor[tls.Config]()
	for i := range config.NumField() {
		if f := config.Field(i); f.IsExported() && !fields[f.Name] {
			t.Errorf("tls.Config.%s is missing", f.Name)
		}
	}

	types := map[string]reflect.Type{
		"Context": reflect.TypeFor[*sslctx.Context](), "Conn": reflect.TypeFor[*sslctx.Conn](),
		"Session": reflect.TypeFor[*sslctx.Session](), "Dialer": reflect.TypeFor[*sslctx.Dialer](),
	}
	ours := regexp.MustCompile("`(Context|Conn|Session|Dialer)\\.(\\w+)`").FindAllStringSubmatch(table, -1)
	if len(ours) < 40 {
		t.Errorf("%d of our names were found", len(ours))
	}
	for _, m := range ours {
		_, method := types[m[1]].MethodByName(m[2])
		_, field := types[m[1]].Elem().FieldByName(m[2])
		if !method && !field {
			t.Errorf("there is no %s.%s", m[1], m[2])
		}
	}
}
