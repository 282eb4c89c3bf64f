// SPDX-License-Identifier: Apache-2.0

//go:build !openssl_static

package ossltest

// LinkedStatically says whether libssl is part of the program.
const LinkedStatically = false
