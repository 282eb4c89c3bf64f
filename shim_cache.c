// SPDX-License-Identifier: Apache-2.0

// The internal cache of an SSL_CTX: add, remove, flush, and the sessions that OpenSSL 3.0 to 3.4
// leave behind when an add fails.

#include "shim_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if SHIM_ADD_LEAVES_LISTED
// OpenSSL 3.0 to 3.4: if SSL_CTX_add_session runs out of memory for the hash, the session stays in
// the list that a flush reads: it is an orphan. The list has no reference to it, but a flush frees
// one. So add_orphan takes a reference for the list after the call failed. (A flush on another
// thread before that frees the caller's reference: docs/deviations.md.) When an orphan is added
// again, the list has two references, and one must go. So the state remembers each orphan. It holds
// a reference of its own, so that no other session gets the address. An orphan that was marked as
// not resumable may have been flushed or not: it is never added again.

static int is_orphan(ctx_state *state, const SSL_SESSION *s) {
    if (state == NULL || atomic_load_explicit(&state->n_orphans, memory_order_acquire) == 0) {
        return 0;
    }
    pthread_mutex_lock(&state->lock);
    int i = 0, n = state->n_orphans;
    while (i < n && state->orphans[i] != s) {
        i++;
    }
    pthread_mutex_unlock(&state->lock);
    return i < n;
}

// reclaim_orphan drops the extra references after an orphan was added again.
static void reclaim_orphan(ctx_state *state, SSL_SESSION *s) {
    pthread_mutex_lock(&state->lock);
    int i = 0;
    while (state->orphans[i] != s) {
        i++;
    }
    state->orphans[i] = state->orphans[atomic_fetch_sub(&state->n_orphans, 1) - 1];
    pthread_mutex_unlock(&state->lock);
    SSL_SESSION_free(s); // the state's
    SSL_SESSION_free(s); // the list's
}

static void add_orphan(ctx_state *state, SSL_SESSION *s) {
    SSL_SESSION_up_ref(s); // the list's
    if (state == NULL) {
        return;
    }
    pthread_mutex_lock(&state->lock);
    if (state->n_orphans < MAX_ORPHANS && SSL_SESSION_up_ref(s) == 1) {
        state->orphans[state->n_orphans] = s;
        atomic_fetch_add_explicit(&state->n_orphans, 1, memory_order_release);
    }
    pthread_mutex_unlock(&state->lock);
}

// flush_orphans flushes the whole cache. The flush also empties the list of orphans.
static void flush_orphans(SSL_CTX *ctx) {
    ctx_state *state = ctx_state_of(ctx);
    SSL_SESSION *orphans[MAX_ORPHANS];
    int n = 0;
    if (state != NULL) {
        pthread_mutex_lock(&state->lock);
        n = state->n_orphans;
        memcpy(orphans, state->orphans, sizeof orphans);
        state->n_orphans = 0;
        pthread_mutex_unlock(&state->lock);
    }
    SSL_CTX_flush_sessions_ex(ctx, 0);
    while (n > 0) {
        SSL_SESSION_free(orphans[--n]);
    }
}
#endif

// is_cached takes no lock: it runs only while nobody else uses the cache.
static int is_cached(SSL_CTX *ctx, SSL_SESSION *s) {
    return OPENSSL_LH_retrieve((OPENSSL_LHASH *)SSL_CTX_sessions(ctx), s) == s;
}

// The ID of a session may change while it is cached (the published 1.1.1w can empty it). Then only
// a search of the whole cache finds the session.
static void look_for(void *session, void *arg) {
    SSL_SESSION **wanted = arg;
    if (session == *wanted) {
        *wanted = NULL;
    }
}

static int is_cached_somewhere(SSL_CTX *ctx, SSL_SESSION *s) {
    unsigned int n;
    SSL_SESSION_get_id(s, &n);
    if (n > 0) {
        return is_cached(ctx, s);
    }
    SSL_SESSION *wanted = s;
    OPENSSL_LH_doall_arg((OPENSSL_LHASH *)SSL_CTX_sessions(ctx), look_for, &wanted);
    return wanted == NULL;
}

// It returns SHIM_CTX_GONE, SHIM_CACHE_LACKS or SHIM_CACHE_HOLDS. Go keeps other calls out of the
// cache meanwhile. If other code has the context, its cache cannot be read, and may hold any
// session.
int shim_session_in_cache(uint64_t number, SSL_SESSION *s) {
    pthread_mutex_lock(&shim_ctx_states_lock);
    ctx_state *state = shim_ctx_states;
    while (state != NULL && state->number != number) {
        state = state->next;
    }
    int r = state == NULL ? SHIM_CTX_GONE : SHIM_CACHE_LACKS;
    if (state != NULL && (state->foreign || is_cached_somewhere(state->ctx, s))) {
        r = SHIM_CACHE_HOLDS;
    }
#if SHIM_ADD_LEAVES_LISTED
    if (is_orphan(state, s)) {
        r = SHIM_CACHE_HOLDS;
    }
#endif
    pthread_mutex_unlock(&shim_ctx_states_lock);
    return r;
}

// ---- Add ----

// was_no_memory says whether a 0 of SSL_CTX_add_session means a lack of memory.
static int was_no_memory(SSL_CTX *ctx, SSL_SESSION *s, int sharing) {
    switch (sharing) {
    case SHIM_CACHE_NEVER_CACHED:
        return 1;
    case SHIM_CACHE_EXCLUSIVE:
        return !is_cached(ctx, s);
    }
    return ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE; // from 3.5 on
}

// libssl adds a session to its cache. With SSL_SESS_CACHE_UPDATE_TIME it may give it the time of
// now, which says nothing about its trust.
void shim_note_added(SSL_CTX *ctx, SSL_SESSION *s) {
    ctx_state *state = ctx_state_of(ctx);
    if (state != NULL && (SSL_CTX_get_session_cache_mode(ctx) & SSL_SESS_CACHE_UPDATE_TIME) != 0 &&
        SSL_SESSION_get0_peer(s) != NULL &&
        (int64_t)SSL_SESSION_get_time_ex(s) < state->trusts_since) {
        state->shared = 1;
    }
}

// add_session calls SSL_CTX_add_session. A 0 of that means that s is cached already or a lack of
// memory; for the latter add_session returns SHIM_ADD_FAILED.
static int add_session(SSL_CTX *ctx, SSL_SESSION *s, int sharing) {
#if SHIM_ADD_LEAVES_LISTED
    // A session that was never in a cache is no orphan.
    int orphan = sharing != SHIM_CACHE_NEVER_CACHED && is_orphan(ctx_state_of(ctx), s);
    if (orphan && (sharing == SHIM_CACHE_SHARED || !SSL_SESSION_is_resumable(s))) {
        return SHIM_ADD_FAILED;
    }
#endif
    shim_note_added(ctx, s);
    int n = SSL_CTX_add_session(ctx, s);
    int failed = n != 1 && was_no_memory(ctx, s, sharing);
#if SHIM_ADD_LEAVES_LISTED
    if (failed && !orphan && sharing != SHIM_CACHE_SHARED) {
        add_orphan(ctx_state_of(ctx), s);
    } else if (orphan && n == 1) {
        reclaim_orphan(ctx_state_of(ctx), s);
    }
#endif
    return failed ? SHIM_ADD_FAILED : n;
}

// cache_result is for calls that fail only for lack of memory. libssl queues no error if a session
// is cached already, or is not cached: an error in the queue is then one of other code.
static shim_long cache_result(long n, int failed, int ok) {
    if (!failed && !ok) {
        clear_errors();
    }
    return result(n, !failed);
}

// For a session that must not be cached it does not call libssl, and returns
// SHIM_REFUSED_NO_CIPHER.
shim_long shim_SSL_CTX_add_session(SSL_CTX *ctx, SSL_SESSION *s, int sharing) {
    if (without_cipher(s)) {
        return result(SHIM_REFUSED_NO_CIPHER, 1);
    }
    event_queue q;
    events_begin(&q);
    int n = add_session(ctx, s, sharing);
    shim_long r = cache_result(n, n == SHIM_ADD_FAILED, n == 1);
    events_into(&r, &q);
    return r;
}

// It returns the index of the first session that must not be cached, or -1.
long shim_session_first_without_cipher(SSL_SESSION **s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (without_cipher(s[i])) {
            return (long)i;
        }
    }
    return -1;
}

// ret[i] is libssl's return value for s[i], or SHIM_ADD_FAILED, and n is how many were added. If
// s[i] must not be cached, nothing is added and n is -1 - i.
shim_long shim_SSL_CTX_add_sessions(SSL_CTX *ctx, SSL_SESSION **s, signed char *ret, size_t n,
                                    int sharing) {
    long bad = shim_session_first_without_cipher(s, n), done = 0, failed = 0;
    if (bad >= 0) {
        return result(-1 - bad, 1);
    }
    event_queue q;
    events_begin(&q);
    for (size_t i = 0; i < n; i++) {
        ret[i] = (signed char)add_session(ctx, s[i], sharing);
        done += ret[i] == 1;
        failed += ret[i] == SHIM_ADD_FAILED;
    }
    shim_long r = cache_result(done, failed > 0, done == (long)n);
    events_into(&r, &q);
    return r;
}

// ---- Remove and flush ----

shim_long shim_SSL_CTX_remove_session(SSL_CTX *ctx, SSL_SESSION *s) {
    event_queue q;
    events_begin(&q);
    int n = SSL_CTX_remove_session(ctx, s);
    shim_long r = cache_result(n, 0, n == 1);
    events_into(&r, &q);
    return r;
}

// ret[i] is libssl's return value for s[i].
shim_long shim_SSL_CTX_remove_sessions(SSL_CTX *ctx, SSL_SESSION **s, signed char *ret, size_t n) {
    long done = 0;
    event_queue q;
    events_begin(&q);
    for (size_t i = 0; i < n; i++) {
        ret[i] = (signed char)SSL_CTX_remove_session(ctx, s[i]);
        done += ret[i] == 1;
    }
    shim_long r = cache_result(done, 0, done == (long)n);
    events_into(&r, &q);
    return r;
}

// libssl returns nothing. It can only queue an error (4.0 does when it cannot allocate).
shim_long shim_SSL_CTX_flush_sessions(SSL_CTX *ctx, int64_t t) {
    clear_errors();
    event_queue q;
    events_begin(&q);
#if SHIM_ADD_LEAVES_LISTED
    if (t == 0) {
        flush_orphans(ctx);
    } else
#endif
    {
        SSL_CTX_flush_sessions_ex(ctx, (time_t)t);
    }
    shim_long r = result(1, ERR_peek_error() == 0);
    events_into(&r, &q);
    return r;
}

// ---- The cache as a whole ----

static void take_cached(void *cached, void *arg) {
    shim_sessions *r = arg;
    if (SSL_SESSION_up_ref(cached) == 1) {
        r->p[r->n++] = cached;
    }
}

// It returns a reference to each session of the cache. It takes no lock: nobody else uses the cache
// meanwhile.
shim_sessions shim_SSL_CTX_sessions(SSL_CTX *ctx) {
    OPENSSL_LHASH *cache = (OPENSSL_LHASH *)SSL_CTX_sessions(ctx);
    size_t count = (size_t)OPENSSL_LH_num_items(cache);
    shim_sessions r = {calloc(count + 1, sizeof(SSL_SESSION *)), 0, 0};
    if (r.p != NULL) {
        OPENSSL_LH_doall_arg(cache, take_cached, &r);
        r.ok = 1;
    }
    return r;
}

shim_stats shim_SSL_CTX_sess_stats(SSL_CTX *ctx) {
    shim_stats r = {
        .number = SSL_CTX_sess_number(ctx),
        .connect = SSL_CTX_sess_connect(ctx),
        .connect_good = SSL_CTX_sess_connect_good(ctx),
        .connect_renegotiate = SSL_CTX_sess_connect_renegotiate(ctx),
        .accept = SSL_CTX_sess_accept(ctx),
        .accept_good = SSL_CTX_sess_accept_good(ctx),
        .accept_renegotiate = SSL_CTX_sess_accept_renegotiate(ctx),
        .hits = SSL_CTX_sess_hits(ctx),
        .cb_hits = SSL_CTX_sess_cb_hits(ctx),
        .misses = SSL_CTX_sess_misses(ctx),
        .timeouts = SSL_CTX_sess_timeouts(ctx),
        .cache_full = SSL_CTX_sess_cache_full(ctx),
    };
    return r;
}

long shim_SSL_CTX_get_session_cache_mode(SSL_CTX *ctx) {
    return SSL_CTX_get_session_cache_mode(ctx);
}

long shim_SSL_CTX_set_session_cache_mode(SSL_CTX *ctx, long mode) {
    return SSL_CTX_set_session_cache_mode(ctx, mode);
}

long shim_SSL_CTX_sess_get_cache_size(SSL_CTX *ctx) { return SSL_CTX_sess_get_cache_size(ctx); }

long shim_SSL_CTX_sess_set_cache_size(SSL_CTX *ctx, long size) {
    return SSL_CTX_sess_set_cache_size(ctx, size);
}
