// SPDX-License-Identifier: Apache-2.0

// github.com/spacemonkeygo/openssl calls FIPS_mode_set, which OpenSSL 3 removed. With this folder
// before the system's headers (CGO_CFLAGS=-I.../spacemonkey/compat) the package builds as it is:
// this header is the system's, and that function in the terms of OpenSSL 3.

#ifndef SSLCTX_SPACEMONKEY_COMPAT_SSL_H
#define SSLCTX_SPACEMONKEY_COMPAT_SSL_H

#include_next <openssl/ssl.h>

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/evp.h>
static inline int FIPS_mode_set(int on) { return EVP_default_properties_enable_fips(NULL, on); }
#endif

#endif
