// SPDX-License-Identifier: Apache-2.0

#ifndef CWORK_H
#define CWORK_H

#include <openssl/ssl.h>
#include <stddef.h>

// Work is what is measured: each kind does an operation n times. Return values are 1 for success
// and 0 for failure.

// Stops and starts the clock, around what is not the work: see bench/c/main.c.
typedef struct {
    void (*off)(void);
    void (*on)(void);
} cwork_clock;

// A cache, and sessions to put there: see cwork_sessions.c.
typedef struct {
    size_t sessions; // that each thread fills the cache with
    size_t threads;
    size_t contexts; // 1, or as many as threads
    int hear;        // whether a callback hears of what is removed
} cwork_cache_config;

typedef struct cwork_cache cwork_cache;

cwork_cache *cwork_cache_new(const cwork_cache_config *config);
int cwork_add_remove(cwork_cache *w, size_t n);
int cwork_evict(cwork_cache *w, size_t n);
int cwork_flush(cwork_cache *w, size_t n, const cwork_clock *clock);
int cwork_stats(cwork_cache *w, size_t n);

// Sessions: see cwork_sessions.c.
int cwork_new_free(size_t n);
int cwork_get_timeout(SSL_SESSION *s, size_t n);
int cwork_i2d(SSL_SESSION *s, size_t n);
int cwork_d2i(const unsigned char *der, size_t len, size_t n);
int cwork_fill(SSL_CTX *ctx, size_t n);

// TLS connections: see cwork_tls.c.
typedef enum { CWORK_FULL, CWORK_ID, CWORK_TICKET, CWORK_MEMORY, CWORK_REDIS } cwork_resume;

typedef struct {
    const char *pem; // a certificate and its key
    int version;
    cwork_resume resume;
    size_t workers;    // clients at once
    int hear;          // whether a callback hears of new sessions
    const char *redis; // where it listens on 127.0.0.1: a port
} cwork_tls_config;

typedef struct cwork_tls cwork_tls;

cwork_tls *cwork_tls_new(const cwork_tls_config *config);
void cwork_tls_free(cwork_tls *w);
int cwork_handshakes(cwork_tls *w, size_t n, double *latencies);
int cwork_stream(cwork_tls *w, size_t size, size_t n);
int cwork_ping_pong(cwork_tls *w, size_t n);

// A store outside of the process: see cwork_redis.c.
int cwork_redis_dial(const char *port);
int cwork_redis_set(int fd, const unsigned char *key, size_t key_len, const unsigned char *value,
                    size_t len);
int cwork_redis_get(int fd, const unsigned char *key, size_t key_len, unsigned char *value,
                    size_t room);

#endif
