// SPDX-License-Identifier: Apache-2.0

// Package faults has tests of what happens when memory runs out, and of what stays in memory.
package faults

import (
	"testing"

	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }
