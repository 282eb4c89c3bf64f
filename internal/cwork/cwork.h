// SPDX-License-Identifier: Apache-2.0

#ifndef CWORK_H
#define CWORK_H

#include <openssl/ssl.h>
#include <stddef.h>

SSL_SESSION **cwork_sessions(size_t n);
void cwork_prepare(void);
void cwork_finish(SSL_SESSION **s, size_t n);
long cwork_add_remove(SSL_SESSION **s, size_t n);
void cwork_new_free(size_t n);
long cwork_get_timeout(SSL_SESSION *s, size_t n);
long cwork_stats(size_t n);
int cwork_i2d(const unsigned char *der, size_t len, size_t n);
int cwork_d2i(const unsigned char *der, size_t len, size_t n);

#endif
