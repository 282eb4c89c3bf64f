// SPDX-License-Identifier: Apache-2.0

// Package trust_test tests which trust has verified the peer of a session that is resumed.
package trust_test

import (
	"testing"

	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }
