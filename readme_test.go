// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"os"
	"strings"
	"testing"
)

// TestREADMEProgram: the program in README is the one that is run as an example.
func TestREADMEProgram(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	must(t, err)
	example, err := os.ReadFile("example_test.go")
	must(t, err)
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	program, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 || !strings.Contains(string(example), program) {
		t.Error("README's program does not stand in example_test.go")
	}
}
