// SPDX-License-Identifier: Apache-2.0

// github.com/spacemonkeygo/openssl calls FIPS_mode_set, which OpenSSL 3 removed, and methods for
// one version, which 4.0 removed. With this folder before the system's headers
// (CGO_CFLAGS=-I.../spacemonkey/compat) the package builds as it is: these headers are the
// system's, and what is missing, in the terms of what there is.

#ifndef SSLCTX_SPACEMONKEY_COMPAT_SSL_H
#define SSLCTX_SPACEMONKEY_COMPAT_SSL_H

#include_next <openssl/ssl.h>

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/evp.h>
static inline int FIPS_mode_set(int on) { return EVP_default_properties_enable_fips(NULL, on); }
#endif

// NULL is "unknown ssl/tls version" there. TLS_method would be more versions than was asked for.
#if OPENSSL_VERSION_NUMBER >= 0x40000000L
static inline const SSL_METHOD *SSLv3_method(void) { return NULL; }
static inline const SSL_METHOD *TLSv1_method(void) { return NULL; }
static inline const SSL_METHOD *TLSv1_1_method(void) { return NULL; }
static inline const SSL_METHOD *TLSv1_2_method(void) { return NULL; }
#endif

#endif
