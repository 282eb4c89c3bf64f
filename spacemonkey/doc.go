// SPDX-License-Identifier: Apache-2.0

// Package spacemonkey gives users of github.com/spacemonkeygo/openssl our sessions, on the same
// SSL_CTX that their servers and clients use. [Context] has add, remove, flush, counters and hooks.
// [Session] returns the session of one of their connections, and [SetSession] sets the session that
// one of their clients offers.
//
// It needs the build tag spacemonkey. Their package does not build with OpenSSL 3 and later. With
// the headers in package compat it builds unchanged, in any module that requires this one, vendored
// or not:
//
//	CGO_CFLAGS="-O2 -g -I$(go list -f '{{.Dir}}' sslctx/spacemonkey/compat)" go build -tags spacemonkey ./...
//
// The adapter needs unexported fields of their types. It finds them by reflection, once. If the
// types differ from those of the version in go.mod, the error is [ErrLayout].
//
// The program in example shows all functions.
package spacemonkey
