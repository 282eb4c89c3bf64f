// SPDX-License-Identifier: Apache-2.0

#include "cwork.h"

#include <stdlib.h>
#include <string.h>

// What a careful C program does, so that it is the measure: each function does its work n times.

static SSL_CTX *ctx;

SSL_SESSION **cwork_sessions(size_t n) {
    SSL_SESSION **s = calloc(n, sizeof(SSL_SESSION *));
    for (size_t i = 0; s != NULL && i < n; i++) {
        s[i] = SSL_SESSION_new();
        SSL_SESSION_set1_id(s[i], (const unsigned char *)&i, sizeof i);
    }
    return s;
}

void cwork_prepare(void) {
    ctx = SSL_CTX_new(TLS_method());
    SSL_CTX_sess_set_cache_size(ctx, 0);
}

void cwork_finish(SSL_SESSION **s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        SSL_SESSION_free(s[i]);
    }
    free(s);
    SSL_CTX_free(ctx);
}

static long heard;

static void on_remove(SSL_CTX *c, SSL_SESSION *s) {
    (void)c;
    heard += SSL_SESSION_is_resumable(s) + 1;
}

void cwork_hear(int on) { SSL_CTX_sess_set_remove_cb(ctx, on ? on_remove : NULL); }

long cwork_add_remove(SSL_SESSION **s, size_t n) {
    long done = 0;
    for (size_t i = 0; i < n; i++) {
        done += SSL_CTX_add_session(ctx, s[i]);
    }
    for (size_t i = 0; i < n; i++) {
        done += SSL_CTX_remove_session(ctx, s[i]);
    }
    return done;
}

void cwork_new_free(size_t n) {
    for (size_t i = 0; i < n; i++) {
        SSL_SESSION_free(SSL_SESSION_new());
    }
}

long cwork_get_timeout(SSL_SESSION *s, size_t n) {
    long sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += SSL_SESSION_get_timeout(s);
    }
    return sum;
}

long cwork_stats(size_t n) {
    long sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += SSL_CTX_sess_number(ctx) + SSL_CTX_sess_connect(ctx) +
               SSL_CTX_sess_connect_good(ctx) + SSL_CTX_sess_connect_renegotiate(ctx) +
               SSL_CTX_sess_accept(ctx) + SSL_CTX_sess_accept_good(ctx) +
               SSL_CTX_sess_accept_renegotiate(ctx) + SSL_CTX_sess_hits(ctx) +
               SSL_CTX_sess_cb_hits(ctx) + SSL_CTX_sess_misses(ctx) + SSL_CTX_sess_timeouts(ctx) +
               SSL_CTX_sess_cache_full(ctx);
    }
    return sum;
}

// The length is asked for first, then the bytes are written into a block of that size.
int cwork_i2d(const unsigned char *der, size_t len, size_t n) {
    SSL_SESSION *s = d2i_SSL_SESSION(NULL, &der, (long)len);
    int ok = s != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        int size = i2d_SSL_SESSION(s, NULL);
        unsigned char *buf = size > 0 ? malloc((size_t)size) : NULL, *p = buf;
        ok = buf != NULL && i2d_SSL_SESSION(s, &p) == size;
        free(buf);
    }
    SSL_SESSION_free(s);
    return ok;
}

int cwork_d2i(const unsigned char *der, size_t len, size_t n) {
    int ok = 1;
    for (size_t i = 0; ok && i < n; i++) {
        const unsigned char *p = der;
        SSL_SESSION *s = d2i_SSL_SESSION(NULL, &p, (long)len);
        ok = s != NULL;
        SSL_SESSION_free(s);
    }
    return ok;
}
