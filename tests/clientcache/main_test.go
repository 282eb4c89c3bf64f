// SPDX-License-Identifier: Apache-2.0

// Package clientcache_test tests sslctx.ClientSessionCache.
package clientcache_test

import (
	"testing"

	"sslctx/internal/tlstest"
)

func TestMain(m *testing.M) { tlstest.Main(m, nil) }
