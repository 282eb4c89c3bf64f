// SPDX-License-Identifier: Apache-2.0

// Some functions that all versions have are deprecated in later ones.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "ossltest.h"
#include "memory.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Exact live counts, by ex_data functions that libssl calls for each new and freed object ----

static atomic_long live_sessions, born_sessions, live_contexts, live_ssls;
static int session_index, context_index;

// The contexts that are alive, for tests that must reach the C object behind a Go handle.
#define MAX_CONTEXTS 65536
static pthread_mutex_t contexts_lock = PTHREAD_MUTEX_INITIALIZER;
static SSL_CTX *contexts[MAX_CONTEXTS];
static SSL_CTX *last_context;

// The calls of the counting callbacks for one context.
typedef struct {
    atomic_long seen[3];
} counts;

enum { SEEN_NEW, SEEN_GET, SEEN_REMOVE };

// libssl also frees an object that it could not complete, without a call for a new one. So each new
// object gets a mark.
static char mark;

static int is_marked(CRYPTO_EX_DATA *ad, int idx, void *as) {
    int was = ossltest_exempt(1);
    int ok = CRYPTO_set_ex_data(ad, idx, as);
    ossltest_exempt(was);
    return ok;
}

static void session_born(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                         void *argp) {
    (void)parent, (void)ptr, (void)argl, (void)argp;
    if (is_marked(ad, idx, &mark)) {
        live_sessions++;
        born_sessions++;
    }
}

static void session_died(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                         void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    live_sessions -= ptr != NULL;
}

static void ssl_born(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
    (void)parent, (void)ptr, (void)argl, (void)argp;
    live_ssls += is_marked(ad, idx, &mark);
}

static void ssl_died(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    live_ssls -= ptr != NULL;
}

static size_t slot_of(const SSL_CTX *ctx) {
    size_t i = 0;
    while (i < MAX_CONTEXTS && contexts[i] != ctx) {
        i++;
    }
    return i;
}

static void context_born(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                         void *argp) {
    (void)ptr, (void)argl, (void)argp;
    int was = ossltest_exempt(1);
    counts *c = calloc(1, sizeof *c);
    ossltest_exempt(was);
    if (!is_marked(ad, idx, c)) {
        free(c);
        return;
    }
    live_contexts++;
    pthread_mutex_lock(&contexts_lock);
    size_t i = slot_of(NULL);
    if (i < MAX_CONTEXTS) {
        contexts[i] = last_context = parent;
    }
    pthread_mutex_unlock(&contexts_lock);
}

static void context_died(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                         void *argp) {
    (void)ad, (void)idx, (void)argl, (void)argp;
    if (ptr == NULL) {
        return;
    }
    live_contexts--;
    free(ptr);
    pthread_mutex_lock(&contexts_lock);
    size_t i = slot_of(parent);
    if (i < MAX_CONTEXTS) {
        contexts[i] = NULL;
    }
    pthread_mutex_unlock(&contexts_lock);
}

__attribute__((constructor)) static void count_everything(void) {
    ossltest_own_memory();
    session_index = SSL_SESSION_get_ex_new_index(0, NULL, session_born, NULL, session_died);
    context_index = SSL_CTX_get_ex_new_index(0, NULL, context_born, NULL, context_died);
    SSL_get_ex_new_index(0, NULL, ssl_born, NULL, ssl_died);
}

long ossltest_live_sessions(void) { return live_sessions; }
long ossltest_born_sessions(void) { return born_sessions; }
long ossltest_live_contexts(void) { return live_contexts; }
long ossltest_live_ssls(void) { return live_ssls; }

SSL_CTX *ossltest_last_context(void) {
    pthread_mutex_lock(&contexts_lock);
    SSL_CTX *ctx = last_context;
    pthread_mutex_unlock(&contexts_lock);
    return ctx;
}

int ossltest_is_live_context(SSL_CTX *ctx) {
    pthread_mutex_lock(&contexts_lock);
    int live = ctx != NULL && slot_of(ctx) < MAX_CONTEXTS;
    pthread_mutex_unlock(&contexts_lock);
    return live;
}

// ---- Counting callbacks ----

// The order of callbacks over all contexts, as "pointer.what " words.
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static char trace[1 << 20];
static size_t trace_len;

static void seen(SSL_CTX *ctx, int what) {
    static const char *const name[] = {"new", "get", "remove"};
    counts *c = SSL_CTX_get_ex_data(ctx, context_index);
    if (c != NULL) {
        c->seen[what]++;
    }
    pthread_mutex_lock(&trace_lock);
    if (trace_len + 64 < sizeof trace) {
        trace_len +=
            (size_t)snprintf(trace + trace_len, 64, "%zx.%s ", (size_t)(uintptr_t)ctx, name[what]);
    }
    pthread_mutex_unlock(&trace_lock);
}

static int on_new(SSL *ssl, SSL_SESSION *s) {
    (void)s;
    seen(SSL_get_SSL_CTX(ssl), SEEN_NEW);
    return 0;
}

static SSL_SESSION *on_get(SSL *ssl, const unsigned char *id, int len, int *take) {
    (void)id, (void)len, (void)take;
    seen(SSL_get_SSL_CTX(ssl), SEEN_GET);
    return NULL;
}

static void on_remove(SSL_CTX *ctx, SSL_SESSION *s) {
    (void)s;
    seen(ctx, SEEN_REMOVE);
}

int ossltest_has_callbacks(SSL_CTX *ctx) {
    return SSL_CTX_sess_get_new_cb(ctx) != NULL || SSL_CTX_sess_get_get_cb(ctx) != NULL ||
           SSL_CTX_sess_get_remove_cb(ctx) != NULL;
}

int ossltest_count_new(SSL_CTX *ctx, int on) {
    SSL_CTX_sess_set_new_cb(ctx, on ? on_new : NULL);
    return 1;
}

int ossltest_count_get(SSL_CTX *ctx, int on) {
    SSL_CTX_sess_set_get_cb(ctx, on ? on_get : NULL);
    return 1;
}

int ossltest_count_remove(SSL_CTX *ctx, int on) {
    SSL_CTX_sess_set_remove_cb(ctx, on ? on_remove : NULL);
    return 1;
}

long ossltest_counted(SSL_CTX *ctx, int what) {
    counts *c = SSL_CTX_get_ex_data(ctx, context_index);
    return c == NULL ? -1 : c->seen[what];
}

size_t ossltest_trace(char *buf, size_t n) {
    pthread_mutex_lock(&trace_lock);
    size_t len = trace_len < n ? trace_len : n;
    memcpy(buf, trace, len);
    trace_len = 0;
    pthread_mutex_unlock(&trace_lock);
    return len;
}

void ossltest_flush(SSL_CTX *ctx) { SSL_CTX_flush_sessions(ctx, 0); }

// ---- The error queue of this thread ----

unsigned long ossltest_peek_error(void) { return ERR_peek_error(); }

void ossltest_put_error(void) { ERR_put_error(ERR_LIB_USER, 0, 1, "ossltest", 1); }

long ossltest_compiled_version(void) { return (long)OPENSSL_VERSION_NUMBER; }

// ---- Random bytes that fail ----

static atomic_int fail_random;

static int bytes_or_not(unsigned char *buf, int n) {
    return n == fail_random ? 0 : RAND_OpenSSL()->bytes(buf, n);
}

void ossltest_fail_random(int n) {
    static RAND_METHOD method;
    fail_random = n;
    method = *RAND_OpenSSL();
    method.bytes = bytes_or_not;
    RAND_set_rand_method(n < 0 ? RAND_OpenSSL() : &method);
}

uint64_t ossltest_ech_grease(void) {
#ifdef SSL_OP_ECH_GREASE
    return SSL_OP_ECH_GREASE;
#else
    return 0;
#endif
}

// A function of libgcov, if the program is linked with it.
extern void __gcov_dump(void) __attribute__((weak));

void ossltest_dump_coverage(void) {
    if (__gcov_dump != NULL) {
        __gcov_dump();
    }
}
