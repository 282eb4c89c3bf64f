// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkout makes a clone of the repository's last commit, with the script as it is now.
func checkout(t *testing.T) (dir string) {
	t.Helper()
	if _, err := os.Stat("../.git"); err != nil {
		t.Skip("this is no checkout of git's")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed: rename.sh works on the files that git knows")
	}
	dir = filepath.Join(t.TempDir(), "copy")
	script, err := os.ReadFile("rename.sh")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	runIn(t, root, "git", "clone", "-q", root, dir)
	if err := os.WriteFile(filepath.Join(dir, "scripts/rename.sh"), script, 0o700); err != nil {
		t.Fatal(err)
	}
	runIn(t, dir, "git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qam", "x", "--allow-empty")
	return dir
}

func runIn(t *testing.T, dir, name string, args ...string) (out string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said // GODEBUG may add to it
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, b, &said)
	}
	return string(b)
}

// TestRename renames the module in a copy: the go command finds all its packages, and nothing has the old path.
func TestRename(t *testing.T) {
	dir, path := checkout(t), "example.org/people/sslctx"
	runIn(t, dir, "scripts/rename.sh", path)
	for _, module := range []string{".", "bench"} {
		at := filepath.Join(dir, module)
		if got := strings.TrimSpace(runIn(t, at, "go", "list", "-m")); !strings.HasPrefix(got, path) {
			t.Errorf("the module in %s is %s", module, got)
		}
		imports := runIn(t, at, "go", "list", "-test", "-deps", "-f", "{{.ImportPath}}", "./...")
		if strings.Contains("\n"+imports, "\nsslctx") {
			t.Errorf("a package in %s has an old path:\n%s", module, imports)
		}
	}
	tagged := runIn(t, dir, "go", "list", "-tags", "spacemonkey,forcegc", "-test", "-deps", "-f", "{{.ImportPath}}", "./...")
	if strings.Contains("\n"+tagged, "\nsslctx") {
		t.Error("a package with a build tag has an old path")
	}
	if out := runIn(t, dir, "gofmt", "-l", "."); out != "" {
		t.Errorf("gofmt would change %s", out)
	}
	for file, want := range map[string]string{
		"README.md":                 "replace " + path + " => ../sslctx",
		"docs/migrating.md":         path + "/spacemonkey/compat",
		"examples/examples_test.go": "vendor/" + path + "/spacemonkey",
		"bench/go.mod":              "replace " + path + " => ../",
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q", file, want)
		}
	}
}

// TestRenameRefuses: what is no module path changes nothing, and the message says what one is.
func TestRenameRefuses(t *testing.T) {
	dir := checkout(t)
	for arg, want := range map[string]string{
		"":                      "MODULE is missing",
		"sslctx":                "already",
		"people/sslctx":         "no module path",
		"example.org":           "no module path",
		"Example.org/people/x":  "no module path",
		"example.org/a b":       "no module path",
		"https://example.org/x": "no module path",
	} {
		cmd := exec.Command("scripts/rename.sh", arg)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v, %s", arg, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("scripts/rename.sh", "example.org/people/x")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "commit your changes first") {
		t.Errorf("with changes that are not committed: %v, %s", err, out)
	}
}
