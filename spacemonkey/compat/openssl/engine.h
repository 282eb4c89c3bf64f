// SPDX-License-Identifier: Apache-2.0

// OpenSSL 4.0 has no engines, and declares their functions for who asks for stubs. They fail.

#ifndef SSLCTX_SPACEMONKEY_COMPAT_ENGINE_H
#define SSLCTX_SPACEMONKEY_COMPAT_ENGINE_H

#ifndef OPENSSL_ENGINE_STUBS
#define OPENSSL_ENGINE_STUBS
#endif
#include_next <openssl/engine.h>

#endif
