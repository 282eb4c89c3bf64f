// SPDX-License-Identifier: Apache-2.0

// Package early_test tests early data of TLS 1.3 between the binding, libssl's programs and HTTP.
package early_test

import (
	"testing"

	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }
