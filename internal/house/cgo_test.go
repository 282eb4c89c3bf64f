// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// TestWithoutCgo: without cgo the compiler prints only what is missing.
func TestWithoutCgo(t *testing.T) {
	cmd := exec.Command("go", "build", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("the package builds without cgo")
	}
	if !bytes.Contains(out, []byte("sslctx_needs_cgo")) || bytes.Count(out, []byte("\n")) > 2 {
		t.Errorf("the compiler says\n%s", out)
	}
}

// TestSpacemonkeyStatic: their package would link the shared libssl. The compiler prints that, and
// nothing else.
func TestSpacemonkeyStatic(t *testing.T) {
	out, err := exec.Command("go", "build", "-tags", "spacemonkey openssl_static", "./spacemonkey").CombinedOutput()
	if err == nil {
		t.Fatal("the adapter builds with openssl_static")
	}
	if !bytes.Contains(out, []byte("leave_out_the_tag_openssl_static")) || bytes.Count(out, []byte("\n")) > 2 {
		t.Errorf("the compiler says\n%s", out)
	}
}
