// SPDX-License-Identifier: Apache-2.0

#include "cwork.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// The work of a careful C program. The benchmarks compare with it.

struct cwork_cache {
    cwork_cache_config config;
    SSL_CTX **contexts;
    SSL_SESSION **sessions; // those of the first thread, of the second ...
    size_t next;            // for cwork_evict
};

#if OPENSSL_VERSION_NUMBER >= 0x30400000L
#define flush_sessions SSL_CTX_flush_sessions_ex
#else
#define flush_sessions SSL_CTX_flush_sessions
#endif

static long heard;

static void on_remove(SSL_CTX *c, SSL_SESSION *s) {
    (void)c;
    heard += !SSL_SESSION_is_resumable(s);
}

static SSL_SESSION *session(size_t i) {
    SSL_SESSION *s = SSL_SESSION_new();
    if (s != NULL && SSL_SESSION_set1_id(s, (const unsigned char *)&i, sizeof i) != 1) {
        abort();
    }
    return s;
}

cwork_cache *cwork_cache_new(const cwork_cache_config *config) {
    cwork_cache *w = calloc(1, sizeof *w);
    w->config = *config;
    size_t all = config->sessions * config->threads;
    w->contexts = calloc(config->contexts, sizeof *w->contexts);
    w->sessions = calloc(all, sizeof *w->sessions);
    for (size_t i = 0; i < config->contexts; i++) {
        w->contexts[i] = SSL_CTX_new(TLS_method());
        SSL_CTX_sess_set_cache_size(w->contexts[i], 0);
        SSL_CTX_sess_set_remove_cb(w->contexts[i], config->hear ? on_remove : NULL);
    }
    for (size_t i = 0; i < all; i++) {
        w->sessions[i] = session(i);
    }
    return w;
}

typedef struct {
    pthread_t id;
    SSL_CTX *ctx;
    SSL_SESSION **sessions;
    size_t fill, times;
    int ok;
} pairs;

static void *add_remove(void *arg) {
    pairs *p = arg;
    size_t done = 0;
    for (size_t t = 0; t < p->times; t++) {
        for (size_t i = 0; i < p->fill; i++) {
            done += (size_t)SSL_CTX_add_session(p->ctx, p->sessions[i]);
        }
        for (size_t i = 0; i < p->fill; i++) {
            done += (size_t)SSL_CTX_remove_session(p->ctx, p->sessions[i]);
        }
    }
    p->ok = done == 2 * p->fill * p->times;
    return NULL;
}

// Each thread adds all its sessions and removes them, until there were n pairs in all.
int cwork_add_remove(cwork_cache *w, size_t n) {
    const cwork_cache_config *c = &w->config;
    pairs *threads = calloc(c->threads, sizeof *threads);
    long heard_before = heard;
    int ok = 1;
    for (size_t i = 0; i < c->threads; i++) {
        threads[i] = (pairs){.ctx = w->contexts[i % c->contexts],
                             .sessions = w->sessions + i * c->sessions,
                             .fill = c->sessions,
                             .times = n / c->sessions};
        if (c->threads == 1) {
            add_remove(&threads[i]);
        } else if (pthread_create(&threads[i].id, NULL, add_remove, &threads[i]) != 0) {
            abort();
        }
    }
    for (size_t i = 0; i < c->threads; i++) {
        if (c->threads > 1) {
            pthread_join(threads[i].id, NULL);
        }
        ok = ok && threads[i].ok;
    }
    free(threads);
    return ok && (!c->hear || heard - heard_before == (long)n);
}

// Adds to a full cache, which holds half of the sessions: each addition evicts the oldest.
int cwork_evict(cwork_cache *w, size_t n) {
    int ok = 1;
    SSL_CTX_sess_set_cache_size(w->contexts[0], (long)w->config.sessions / 2);
    for (size_t i = 0; ok && i < n; i++) {
        ok = SSL_CTX_add_session(w->contexts[0], w->sessions[w->next++ % w->config.sessions]) == 1;
    }
    return ok;
}

// Flushes a cache with all sessions. The clock does not run while it adds them.
int cwork_flush(cwork_cache *w, size_t n, const cwork_clock *clock) {
    const cwork_cache_config *c = &w->config;
    int ok = 1;
    for (size_t t = 0; ok && t < n / c->sessions; t++) {
        clock->off();
        for (size_t i = 0; ok && i < c->sessions; i++) {
            ok = SSL_CTX_add_session(w->contexts[0], w->sessions[i]) == 1;
        }
        clock->on();
        flush_sessions(w->contexts[0], 1L << 33);
        ok = ok && SSL_CTX_sess_number(w->contexts[0]) == 0;
    }
    return ok;
}

int cwork_stats(cwork_cache *w, size_t n) {
    SSL_CTX *ctx = w->contexts[0];
    long sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += SSL_CTX_sess_number(ctx) + SSL_CTX_sess_connect(ctx) +
               SSL_CTX_sess_connect_good(ctx) + SSL_CTX_sess_connect_renegotiate(ctx) +
               SSL_CTX_sess_accept(ctx) + SSL_CTX_sess_accept_good(ctx) +
               SSL_CTX_sess_accept_renegotiate(ctx) + SSL_CTX_sess_hits(ctx) +
               SSL_CTX_sess_cb_hits(ctx) + SSL_CTX_sess_misses(ctx) + SSL_CTX_sess_timeouts(ctx) +
               SSL_CTX_sess_cache_full(ctx);
    }
    return sum == 0;
}

int cwork_new_free(size_t n) {
    for (size_t i = 0; i < n; i++) {
        SSL_SESSION_free(SSL_SESSION_new());
    }
    return 1;
}

int cwork_get_timeout(SSL_SESSION *s, size_t n) {
    long sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += SSL_SESSION_get_timeout(s);
    }
    return sum > 0;
}

// It asks for the length first, then writes the bytes into a block of that size.
int cwork_i2d(SSL_SESSION *s, size_t n) {
    int ok = 1;
    for (size_t i = 0; ok && i < n; i++) {
        int size = i2d_SSL_SESSION(s, NULL);
        unsigned char *buf = size > 0 ? malloc((size_t)size) : NULL, *p = buf;
        ok = buf != NULL && i2d_SSL_SESSION(s, &p) == size;
        free(buf);
    }
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

// Leaves n sessions in a cache, without other references.
int cwork_fill(SSL_CTX *ctx, size_t n) {
    static const unsigned char key[48] = {1};
    int ok = 1;
    for (size_t i = 0; ok && i < n; i++) {
        SSL_SESSION *s = session(i);
        ok = SSL_SESSION_set1_master_key(s, key, sizeof key) == 1 &&
             SSL_CTX_add_session(ctx, s) == 1;
        SSL_SESSION_free(s);
    }
    return ok;
}
