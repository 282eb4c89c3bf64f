// SPDX-License-Identifier: Apache-2.0

// Package interop has tests of sslctx beside other implementations: crypto/tls and the openssl
// program.
package interop

import (
	"testing"

	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }
