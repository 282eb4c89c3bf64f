// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package spacemonkey_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spacemonkeygo/openssl"

	"sslctx"
)

var quoted = regexp.MustCompile("`([A-Z]\\w*\\.[A-Z]\\w*)")

// TestMigrating: docs/migrating.md has each of their methods, and every method of ours in it
// exists.
func TestMigrating(t *testing.T) {
	text, err := os.ReadFile("../docs/migrating.md")
	must(t, err)
	theirs, ours := map[string]bool{}, map[string]bool{}
	_, about, _ := strings.Cut(string(text), "\n## From github.com/spacemonkeygo/openssl\n")
	for _, line := range strings.Split(about, "\n") {
		columns := strings.Split(line, "|")
		if len(columns) != 5 {
			continue
		}
		for i, to := range []map[string]bool{theirs, ours, ours} {
			for _, m := range quoted.FindAllStringSubmatch(columns[i+1], -1) {
				to[m[1]] = true
			}
		}
	}
	methods := func(names ...any) map[string]bool {
		all := map[string]bool{}
		for i := 0; i < len(names); i += 2 {
			t := reflect.TypeOf(names[i+1])
			for j := range t.NumMethod() {
				all[names[i].(string)+t.Method(j).Name] = true
			}
		}
		return all
	}
	for name := range methods("Ctx.", new(openssl.Ctx), "Conn.", new(openssl.Conn)) {
		if !theirs[name] {
			t.Errorf("%s of theirs is missing", name)
		}
	}
	is := methods("Context.", new(sslctx.Context), "Conn.", new(sslctx.Conn), "Session.", new(sslctx.Session), "Dialer.", new(sslctx.Dialer))
	for name := range ours {
		if !is[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
