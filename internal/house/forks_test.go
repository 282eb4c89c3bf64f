// SPDX-License-Identifier: Apache-2.0

package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sslctx/internal/tlstest"
	"strings"
	"testing"
)

// The version macros of forks and old versions, in headers with the same layout as theirs.
var refusedHeaders = []struct {
	name, says string
	headers    map[string]string
}{
	{"LibreSSL", "LibreSSL, BoringSSL and AWS-LC keep sessions differently", map[string]string{
		"opensslv.h": "#define LIBRESSL_VERSION_NUMBER 0x4000000fL\n#define OPENSSL_VERSION_NUMBER 0x20000000L\n"}},
	{"BoringSSL", "LibreSSL, BoringSSL and AWS-LC keep sessions differently", map[string]string{
		"opensslv.h": "#include \"crypto.h\"\n",
		"crypto.h":   "#include <openssl/base.h>\n#define OPENSSL_VERSION_NUMBER 0x1010107f\n",
		"base.h":     "#define OPENSSL_IS_BORINGSSL\n"}},
	{"AWS-LC", "LibreSSL, BoringSSL and AWS-LC keep sessions differently", map[string]string{
		"opensslv.h": "#include \"crypto.h\"\n",
		"crypto.h":   "#include <openssl/base.h>\n#define OPENSSL_VERSION_NUMBER 0x1010107f\n",
		"base.h":     "#define OPENSSL_IS_AWSLC\n"}},
	{"OpenSSL 1.1.0l", "sslctx needs OpenSSL 1.1.1 or later", map[string]string{
		"opensslv.h": "#define OPENSSL_VERSION_NUMBER 0x101000cfL\n"}},
	{"OpenSSL 1.0.2u", "sslctx needs OpenSSL 1.1.1 or later", map[string]string{
		"opensslv.h": "#define OPENSSL_VERSION_NUMBER 0x1000215fL\n"}},
}

// TestForksAreRefused: the compiler prints one sentence and nothing else, even if a fork lacks
// other headers.
func TestForksAreRefused(t *testing.T) {
	shim, err := os.ReadFile("shim_compat.h")
	tlstest.Must(t, err)
	for _, test := range refusedHeaders {
		t.Run(test.name, func(t *testing.T) {
			headers := map[string]string{}
			for _, m := range regexp.MustCompile(`#include <openssl/(\w+\.h)>`).FindAllStringSubmatch(string(shim), -1) {
				headers[m[1]] = "#error a header that is not there\n"
			}
			for name, text := range test.headers {
				headers[name] = text
			}
			out, err := preprocess(t, headers)
			if err == nil {
				t.Fatal("it is not refused")
			}
			if !strings.Contains(out, test.says) || strings.Count(out, "error: ") != 1 {
				t.Errorf("the compiler says\n%swant one error with %q", out, test.says)
			}
		})
	}
}

// TestHeadersAreAccepted: the method of TestForksAreRefused causes no error of its own.
func TestHeadersAreAccepted(t *testing.T) {
	out, err := preprocess(t, map[string]string{"opensslv.h": "#include_next <openssl/opensslv.h>\n"})
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// preprocess runs cgo, as go build would, with headers before the installed ones. It does not run
// go build: go's cache does not know these headers, and pkg-config's folder may come first.
func preprocess(t *testing.T, headers map[string]string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	tlstest.Must(t, os.Mkdir(filepath.Join(dir, "openssl"), 0o700))
	for name, text := range headers {
		tlstest.Must(t, os.WriteFile(filepath.Join(dir, "openssl", name), []byte(text), 0o600))
	}
	installed, err := exec.Command("pkg-config", "--cflags", "libssl", "libcrypto").Output()
	tlstest.Must(t, err)
	args := append([]string{"tool", "cgo", "-objdir", t.TempDir(), "--", "-I" + dir}, strings.Fields(string(installed))...)
	cmd := exec.Command("go", append(args, "sslctx.go")...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
