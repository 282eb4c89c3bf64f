// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && !openssl_static

package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(&out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"server A: 2 handshakes, 0 from the cache, 0 from the store, 1 missed; cached 0\n",
		"server B: 4 handshakes, 1 from the cache, 1 from the store, ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
}
