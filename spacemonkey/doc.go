// SPDX-License-Identifier: Apache-2.0

// Package spacemonkey gives users of github.com/spacemonkeygo/openssl our sessions, on the very SSL_CTX that their
// servers and clients use: [Context] has add, remove, flush, counters and hooks, [Session] and [SetSession] take the
// session of a connection of theirs and have a client of theirs offer one.
//
// It needs the build tag spacemonkey. Since OpenSSL 3 their package does not build; with the headers in package compat it
// does, unchanged, in any module that requires this one, vendored or not:
//
//	CGO_CFLAGS="-O2 -g -I$(go list -f '{{.Dir}}' sslctx/spacemonkey/compat)" go build -tags spacemonkey ./...
//
// Their types hide what the adapter needs. It is found by reflection, once; another version of their package than that
// of go.mod, whose types are different, is [ErrLayout].
//
// The program in example has all of it.
package spacemonkey
