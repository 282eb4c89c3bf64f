// SPDX-License-Identifier: Apache-2.0

// hostname.c of github.com/spacemonkeygo/openssl has functions for OpenSSL 1.0, which look into an
// ASN1_STRING, and compiles them unless x509.h has brought x509v3.h, with a macro of its own. 4.0
// hides that structure. hostname.go, which includes ssl.h first, must not see x509v3.h: it has
// declarations of its own for what is there.

#ifndef SSLCTX_SPACEMONKEY_COMPAT_X509_H
#define SSLCTX_SPACEMONKEY_COMPAT_X509_H

#include_next <openssl/x509.h>

#if OPENSSL_VERSION_NUMBER >= 0x40000000L && !defined(SSLCTX_SPACEMONKEY_COMPAT_SSL_H)
#include <openssl/x509v3.h>
#endif

#endif
