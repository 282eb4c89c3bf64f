// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package sslctx

// Without cgo there is no libssl to bind. The compiler prints this name, which explains what is
// missing.
var _ = sslctx_needs_cgo__set_CGO_ENABLED_1_and_install_a_C_compiler_pkg_config_and_libssl_dev
