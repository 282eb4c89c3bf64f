// SPDX-License-Identifier: Apache-2.0

//go:build openssl_static

package sslctx_test

const linkedStatically = true
