// SPDX-License-Identifier: Apache-2.0

//go:build !race && !asan && !valgrind && !forcegc

package sslctx_test

const instrumented = false
