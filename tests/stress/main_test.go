// SPDX-License-Identifier: Apache-2.0

// Package stress has tests of many calls and connections at once, of hostile hooks, and of what a
// connection costs.
package stress

import (
	"testing"

	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }
