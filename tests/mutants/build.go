// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The variable of the environment that switches a fault on, by its number.
const variable = "SSLCTX_MUTANT"

const switchGo = `package %s

import (
	"os"
	"strconv"
)

var mutant, _ = strconv.Atoi(os.Getenv("` + variable + `"))

// mutantPick returns the value of a fault, or the right one.
func mutantPick[T any](n int, wrong, right T) T {
	if mutant == n {
		return wrong
	}
	return right
}
`

// SHIM_MUTANT_HERE is in one C file only.
const switchHeader = `
#include <stdlib.h>
#ifdef SHIM_MUTANT_HERE
int shim_mutant;
__attribute__((constructor)) static void shim_mutant_init(void) {
    const char *number = getenv("` + variable + `");
    shim_mutant = number == NULL ? 0 : atoi(number);
}
#else
extern int shim_mutant;
#endif
`

// A tree is a copy of the module that has all faults.
type tree struct {
	dir    string
	faults []numbered
}

// makeTree copies the module at root to dir, and writes the faults into the copy.
func makeTree(root, dir string, faults []*fault) (*tree, error) {
	if err := copyModule(root, dir); err != nil {
		return nil, err
	}
	t := &tree{dir: dir}
	byFile := map[string][]numbered{}
	for i, f := range faults {
		source, err := os.ReadFile(filepath.Join(root, f.file))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name(), err)
		}
		at, err := f.find(source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name(), err)
		}
		n := numbered{f, at, i + 1}
		byFile[f.file] = append(byFile[f.file], n)
		t.faults = append(t.faults, n)
	}
	for file, of := range byFile {
		if err := t.write(file, of); err != nil {
			return nil, err
		}
	}
	return t, t.writeHeader()
}

// copyModule copies what git knows of the module.
func copyModule(root, dir string) error {
	list := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		b, err := os.ReadFile(from)
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		if err != nil {
			return err
		}
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, b, info.Mode()); err != nil {
			return err
		}
	}
	return nil
}

// write puts the faults into one file, and the switch beside it.
func (t *tree) write(file string, faults []numbered) error {
	path := filepath.Join(t.dir, file)
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := switchFaults(file, source, faults)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	if !strings.HasSuffix(file, ".go") {
		return nil
	}
	return os.WriteFile(filepath.Join(filepath.Dir(path), "mutant_switch.go"), fmt.Appendf(nil, switchGo, packageName(source)), 0o644)
}

func packageName(source []byte) string {
	for line := range bytes.Lines(source) {
		if name, ok := bytes.CutPrefix(line, []byte("package ")); ok {
			return string(bytes.TrimSpace(name))
		}
	}
	return ""
}

// writeHeader gives the C files the switch.
func (t *tree) writeHeader() error {
	header := filepath.Join(t.dir, "cgo_shim.h")
	text, err := os.ReadFile(header)
	if err != nil {
		return err
	}
	end := bytes.LastIndex(text, []byte("#endif"))
	if end < 0 {
		return fmt.Errorf("%s has no #endif", header)
	}
	text = append(text[:end:end], switchHeader+"\n#endif\n"...)
	if err := os.WriteFile(header, text, 0o644); err != nil {
		return err
	}
	source := filepath.Join(t.dir, "cgo_shim.c")
	if text, err = os.ReadFile(source); err != nil {
		return err
	}
	return os.WriteFile(source, append([]byte("#define SHIM_MUTANT_HERE 1\n"), text...), 0o644)
}

// build compiles the tests of a package, and returns the program.
func (t *tree) build(pkg string) (program string, err error) {
	program = filepath.Join(t.dir, "bin", "test"+strings.ReplaceAll(strings.TrimPrefix(pkg, "."), "/", "_"))
	args := []string{"go", "test", "-c", "-vet=off", "-o", program}
	if strings.HasPrefix(pkg, "./spacemonkey") {
		const withFlags = `CGO_CFLAGS="$(scripts/cflags.sh "-I$PWD/spacemonkey/compat")" exec "$@"`
		args = append([]string{"sh", "-c", withFlags, "sh"}, append(args, "-tags", "spacemonkey")...)
	}
	args = append(args, pkg)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = t.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go test -c %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}
