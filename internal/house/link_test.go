// SPDX-License-Identifier: Apache-2.0

package house

import (
	"debug/elf"
	"go/ast"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"sslctx/internal/ossltest"
	"sslctx/internal/tlstest"
	"strings"
	"testing"

	"sslctx"
)

// TestLinkedLibraries looks for libssl and libcrypto in the libraries that this program requests
// from the loader, and in those that are loaded: one of each, or none if they are linked
// statically.
func TestLinkedLibraries(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("ELF and /proc are Linux's")
	}
	tlstest.NewContext(t, sslctx.TLSMethod) // libssl has now loaded all its libraries
	var want []string
	if !ossltest.LinkedStatically {
		want = []string{"libcrypto", "libssl"}
	}
	program, err := elf.Open(os.Args[0])
	tlstest.Must(t, err)
	defer program.Close()
	needed, err := program.ImportedLibraries()
	tlstest.Must(t, err)
	if got := onlyOpenSSL(needed); !slices.Equal(got, want) {
		t.Errorf("the program needs %v of %v, want %v", got, needed, want)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	tlstest.Must(t, err)
	var loaded []string
	for _, line := range strings.Split(string(maps), "\n") {
		if f := strings.Fields(line); len(f) > 5 && !slices.Contains(loaded, path.Base(f[5])) {
			loaded = append(loaded, path.Base(f[5]))
		}
	}
	if got := onlyOpenSSL(loaded); !slices.Equal(got, want) {
		t.Errorf("the process has %v of %v, want %v", got, loaded, want)
	}
}

// onlyOpenSSL returns the names of OpenSSL's libraries among the files, without their versions.
func onlyOpenSSL(files []string) (names []string) {
	for _, f := range files {
		if name, _, _ := strings.Cut(f, ".so"); name == "libssl" || name == "libcrypto" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestLinkLines: the packages that link libssl use the same lines. Otherwise one could link it
// statically and another dynamically.
func TestLinkLines(t *testing.T) {
	h, err := readHouse(".")
	tlstest.Must(t, err)
	linking := regexp.MustCompile(`#cgo .*(?:pkg-config|lib(?:ssl|crypto)|-l(?:ssl|crypto))`)
	lines := map[string][]string{} // by package
	for _, f := range h.sources((*houseFile).isGo) {
		for _, l := range h.commentLines(f, isPreamble) {
			if linking.MatchString(l.text) {
				lines[path.Dir(f.path)] = append(lines[path.Dir(f.path)], l.text)
			}
		}
	}
	if len(lines["."]) != 3 {
		t.Errorf("the binding links libssl by %q, want 3 lines", lines["."])
	}
	for _, f := range h.sources((*houseFile).isGo) {
		dir := path.Dir(f.path)
		isC := func(i *ast.ImportSpec) bool { return i.Path.Value == `"C"` }
		if slices.ContainsFunc(f.ast.Imports, isC) && !slices.Equal(lines[dir], lines["."]) {
			t.Errorf("%s links libssl by\n%s\nand the binding by\n%s", dir,
				strings.Join(lines[dir], "\n"), strings.Join(lines["."], "\n"))
		}
	}
}
