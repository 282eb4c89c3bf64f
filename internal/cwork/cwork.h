// SPDX-License-Identifier: Apache-2.0

#ifndef CWORK_H
#define CWORK_H

#include <openssl/ssl.h>
#include <stddef.h>

SSL_SESSION **cwork_sessions(size_t n);
void cwork_prepare(void);
void cwork_finish(SSL_SESSION **s, size_t n);
void cwork_hear(int on);
long cwork_add_remove(SSL_SESSION **s, size_t n);
void cwork_new_free(size_t n);
long cwork_get_timeout(SSL_SESSION *s, size_t n);
long cwork_stats(size_t n);
int cwork_i2d(const unsigned char *der, size_t len, size_t n);
int cwork_d2i(const unsigned char *der, size_t len, size_t n);

// TLS connections: see cwork_tls.c.
typedef struct cwork_tls cwork_tls;

#define CWORK_RESUME_OUTSIDE 2 // from a store that is not libssl's

cwork_tls *cwork_tls_new(const char *cert, const char *key, int version, int resume);
void cwork_tls_free(cwork_tls *w);
int cwork_tls_handshakes(cwork_tls *w, size_t n);
int cwork_tls_open(cwork_tls *w, size_t round);
int cwork_tls_shut(cwork_tls *w);
int cwork_tls_rounds(cwork_tls *w, const unsigned char *data, size_t size, size_t blocks, size_t n);

#endif
