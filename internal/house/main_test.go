// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"os"
	"testing"

	"sslctx/internal/tlstest"
)

// TestMain runs the tests in the module's root, because they read its files.
func TestMain(m *testing.M) {
	root, err := Root()
	if err == nil {
		err = os.Chdir(root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	tlstest.Main(m, nil)
}
