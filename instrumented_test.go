// SPDX-License-Identifier: Apache-2.0

//go:build race || asan || valgrind || forcegc

package sslctx_test

// instrumented: the build has a sanitizer, which allocates in places of its own (sync.Pool drops at random).
const instrumented = true
