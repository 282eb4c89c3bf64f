// SPDX-License-Identifier: Apache-2.0

// Package spacemonkey gives users of github.com/spacemonkeygo/openssl our sessions. It needs the build
// tag spacemonkey, and on OpenSSL 3 the header in compat:
//
//	CGO_CFLAGS=-I$PWD/spacemonkey/compat go test -tags spacemonkey ./spacemonkey
package spacemonkey
