// SPDX-License-Identifier: Apache-2.0

// Package examples has whole programs, each in a folder of its own, that can be copied into other modules. They make their
// certificates, connect to themselves on loopback, and fail if something is not as they say.
package examples

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// outside makes a module in a folder of its own that requires this one, with one program in it.
func outside(t *testing.T, program []byte) (dir string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod":  "module outside\n\ngo 1.25.0\n\nrequire sslctx v0.0.0\n\nreplace sslctx => " + quoted(root) + "\n",
		"go.sum":  string(sums),
		"main.go": string(program),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// quoted is a path as go.mod takes it, whatever is in it.
func quoted(path string) string { return `"` + strings.ReplaceAll(path, `"`, `\"`) + `"` }

// run runs a command in a folder, and returns what it prints.
func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// TestExamples builds and runs each program in another module, as a user does who copies it, and compares what it prints.
func TestExamples(t *testing.T) {
	if libs, _ := exec.Command("pkg-config", "--libs", "libssl").Output(); bytes.Contains(libs, []byte("-fsanitize")) {
		t.Skip("the programs leave to their end what this libssl would count as lost")
	}
	programs, err := filepath.Glob("*/main.go")
	if err != nil || len(programs) < 5 {
		t.Fatal(programs, err)
	}
	for _, program := range programs {
		name := filepath.Dir(program)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(name, "output.txt"))
			if err != nil {
				t.Fatal(err)
			}
			dir := outside(t, text)
			if !takeModule(t, name, dir) {
				run(t, dir, "go", "mod", "tidy")
			}
			run(t, dir, "go", "build", "-o", "program", ".")
			if got := run(t, dir, "./program"); got != string(want) {
				t.Errorf("it prints\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// takeModule gives a program outside the go.mod of its folder, if it has one. If its modules cannot be had, the test is
// skipped: the machine may have no network.
func takeModule(t *testing.T, name, dir string) (taken bool) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(name, file))
		if os.IsNotExist(err) {
			return false
		}
		if err == nil {
			text = bytes.ReplaceAll(text, []byte("=> ../.."), []byte("=> "+quoted(root)))
			err = os.WriteFile(filepath.Join(dir, file), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "mod", "download")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("the modules cannot be had: %v\n%s", err, out)
	}
	return true
}

// TestREADMEProgram builds and runs README's program in another module, as it stands, and compares what it prints with the
// text below it.
func TestREADMEProgram(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n```go\n")
	program, rest, ended := strings.Cut(rest, "\n```\n")
	_, rest, shows := strings.Cut(rest, "\n```text\n")
	want, _, _ := strings.Cut(rest, "```")
	if !found || !ended || !shows {
		t.Fatal("README has no program, or not what it prints")
	}
	dir := outside(t, []byte(program))
	run(t, dir, "go", "mod", "tidy")
	run(t, dir, "go", "build", "-o", "program", ".")
	if got := run(t, dir, "./program"); got != want {
		t.Errorf("it prints\n%s\nREADME says\n%s", got, want)
	}
}

// TestVendor: the headers for github.com/spacemonkeygo/openssl are found in a module that uses the adapter, and go along
// when that is vendored.
func TestVendor(t *testing.T) {
	here, err := filepath.Abs("../spacemonkey/compat")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(here, " ") {
		t.Skip("the go command does not vendor from a folder with a blank in its name")
	}
	dir := outside(t, []byte("//go:build spacemonkey\n\npackage main\n\nimport _ \"sslctx/spacemonkey\"\n\nfunc main() {}\n"))
	run(t, dir, "go", "mod", "tidy")
	find := func(mod string) string {
		return strings.TrimSpace(run(t, dir, "go", "list", mod, "-f", "{{.Dir}}", "sslctx/spacemonkey/compat"))
	}
	if got := find("-mod=mod"); got != here {
		t.Errorf("the headers are in %q, want %q", got, here)
	}
	run(t, dir, "go", "mod", "vendor")
	vendored, err := filepath.EvalSymlinks(filepath.Join(dir, "vendor/sslctx/spacemonkey/compat"))
	if err != nil {
		t.Fatal(err)
	}
	if got := find("-mod=vendor"); got != vendored {
		t.Errorf("the vendored headers are in %q, want %q", got, vendored)
	}
	for _, header := range []string{"ssl.h", "x509.h", "engine.h"} {
		if _, err := os.Stat(filepath.Join(vendored, "openssl", header)); err != nil {
			t.Error(err)
		}
	}
}
