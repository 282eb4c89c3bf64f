// SPDX-License-Identifier: Apache-2.0

// Package compat has headers with which github.com/spacemonkeygo/openssl builds on OpenSSL 3.0 to
// 4.0. It has no Go code: it is a package so that the go command finds the folder, and vendors it.
//
//	CGO_CFLAGS="-O2 -g -I$(go list -f '{{.Dir}}' sslctx/spacemonkey/compat)" go build -tags spacemonkey ./...
package compat

import _ "sslctx/spacemonkey/compat/openssl" // go mod vendor copies only folders of packages
