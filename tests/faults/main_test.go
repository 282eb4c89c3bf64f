// SPDX-License-Identifier: Apache-2.0

// Package faults has tests of calls that run out of memory, and of secrets that stay in memory.
package faults

import (
	"testing"

	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }
