// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"sslctx"
	"sslctx/internal/ossltest"
)

// TestLibraryVersions: both versions are the one that pkg-config found. So the tests run with no
// other libssl and no old objects.
func TestLibraryVersions(t *testing.T) {
	out, err := exec.Command("pkg-config", "--modversion", "libssl").Output()
	must(t, err)
	installed := "OpenSSL " + strings.TrimSpace(string(out)) + " "
	linked, compiled := sslctx.LibraryVersions()
	if !strings.HasPrefix(linked.Text, installed) || !strings.HasPrefix(compiled.Text, installed) {
		t.Errorf("linked %q, compiled %q, installed %q", linked, compiled, installed)
	}
	if linked.Number != compiled.Number || linked.Number != ossltest.LinkedVersion() {
		t.Errorf("linked %q %#x, compiled %q %#x", linked, linked.Number, compiled, compiled.Number)
	}
}

// Versions, and the series of each. Versions of one series can replace each other.
var versionSeries = []struct {
	version sslctx.LibVersion
	series  string
}{
	{sslctx.LibVersion{Text: "LibreSSL 4.0.0", Number: 0x20000000}, "LibreSSL"},
	{sslctx.LibVersion{Text: "OpenSSL 1.1.0l  10 Sep 2019", Number: 0x101000cf}, "1.1.0"},
	{sslctx.LibVersion{Text: "OpenSSL 1.1.1  11 Sep 2018", Number: 0x1010100f}, "1.1.1"},
	{sslctx.LibVersion{Text: "OpenSSL 1.1.1w  11 Sep 2023", Number: 0x1010117f}, "1.1.1"},
	{sslctx.LibVersion{Text: "OpenSSL 3.0.0 7 sep 2021", Number: 0x30000000}, "3"},
	{sslctx.LibVersion{Text: "OpenSSL 3.99.9 1 Jan 2030", Number: 0x36300090}, "3"},
	{sslctx.LibVersion{Text: "OpenSSL 4.0.0 1 Jan 2026", Number: 0x40000000}, "4"},
	{sslctx.LibVersion{Text: "OpenSSL 4.9.9 1 Jan 2030", Number: 0x40900090}, "4"},
	{sslctx.LibVersion{Text: "OpenSSL 5.0.0 1 Jan 2030", Number: 0x50000000}, "5"},
}

func TestMismatch(t *testing.T) {
	for _, linked := range versionSeries {
		for _, compiled := range versionSeries {
			problem := sslctx.Mismatch(linked.version, compiled.version)
			if linked.series == compiled.series && problem != "" {
				t.Errorf("%s for %s: %s", linked.version, compiled.version, problem)
			}
			if linked.series != compiled.series {
				checkMismatch(t, problem, linked.version, compiled.version)
			}
		}
	}
}

func checkMismatch(t *testing.T, problem string, linked, compiled sslctx.LibVersion) {
	t.Helper()
	for _, want := range []string{"compiled for " + compiled.Text, "running with " + linked.Text, "build cache",
		"go clean -cache", "LD_LIBRARY_PATH"} {
		if !strings.Contains(problem, want) {
			t.Errorf("%s for %s: %q does not say %q", linked, compiled, problem, want)
		}
	}
}

// TestAnotherLibrary starts this program again, with a library before libcrypto that claims another
// version. A statically linked program does not notice it.
func TestAnotherLibrary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("LD_PRELOAD is Linux's")
	}
	_, compiled := sslctx.LibraryVersions()
	ours := regexp.MustCompile(`^OpenSSL (1\.\d\.\d|\d+)`).FindStringSubmatch(compiled.Text)
	if ours == nil {
		t.Fatalf("compiled for %q", compiled)
	}
	for _, other := range versionSeries {
		t.Run(other.version.Text, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), "LD_PRELOAD="+claim(t, other.version),
				"ASAN_OPTIONS=verify_asan_link_order=0:"+os.Getenv("ASAN_OPTIONS"))
			b, err := cmd.CombinedOutput()
			out := string(b)
			if ossltest.LinkedStatically || other.series == ours[1] {
				linked := other.version
				if ossltest.LinkedStatically {
					linked = compiled
				}
				if err != nil || !strings.HasPrefix(out, linked.Text+"\n") { // TestMain prints it
					t.Errorf("%v\n%s", err, out)
				}
				return
			}
			if err == nil || !strings.HasPrefix(out, "panic: sslctx: ") {
				t.Fatalf("%v\n%s", err, out)
			}
			line, _, _ := strings.Cut(out, "\n")
			checkMismatch(t, line, other.version, compiled)
		})
	}
}

// claim makes a library that claims to be a version of OpenSSL.
func claim(t *testing.T, v sslctx.LibVersion) string {
	t.Helper()
	source, lib := filepath.Join(t.TempDir(), "claim.c"), filepath.Join(t.TempDir(), "claim.so")
	text := fmt.Sprintf("unsigned long OpenSSL_version_num(void) { return %#xUL; }\n"+
		"const char *OpenSSL_version(int what) { (void)what; return %q; }\n", v.Number, v.Text)
	must(t, os.WriteFile(source, []byte(text), 0o600))
	cc, err := exec.Command("go", "env", "CC").Output()
	must(t, err)
	args := append(strings.Fields(string(cc)), "-shared", "-fPIC", "-o", lib, source)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}
