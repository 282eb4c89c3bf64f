// SPDX-License-Identifier: Apache-2.0

// libssl calls back at bad moments: under the lock of its cache, or deep inside a handshake. So the
// callbacks only queue an event. It goes to the queue of the call that Go is making on this thread,
// and Go's hooks run after that call. When no call of Go's is responsible, because other C code
// uses the context, the context keeps the event and Go is asked to fetch it.

#include "_cgo_export.h"
#include "shim_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// The queue of the Go call that runs on this thread; NULL if none runs.
_Thread_local event_queue *shim_current_queue;

void shim_free_events(shim_event *e) {
    while (e != NULL) {
        e = shim_event_free(e);
    }
}

// take_queued empties the list of a state whose lock is held.
static shim_event *take_queued(ctx_state *state) {
    shim_event *e = state->first;
    state->first = NULL;
    state->last = &state->first;
    return e;
}

// count_lost counts an event that the running call cannot report. Without a running Go call nobody
// learns of the loss.
static shim_event *count_lost(void) {
    if (shim_current_queue != NULL) {
        shim_current_queue->lost++;
    }
    return NULL;
}

// shim_add_listener counts the Contexts of Go that want events. When the last one goes, it frees
// the events that nobody fetched.
void shim_add_listener(ctx_state *state, int change) {
    pthread_mutex_lock(&state->lock);
    state->listeners += change;
    shim_event *unclaimed = state->listeners > 0 ? NULL : take_queued(state);
    pthread_mutex_unlock(&state->lock);
    shim_free_events(unclaimed);
}

// queue_event adds an event about a session to the queue of the running call, or to the state of
// cache. It returns NULL without memory, and when there is no listener.
static shim_event *queue_event(int kind, const SSL_CTX *ctx, const SSL_CTX *cache,
                               SSL_SESSION *session) {
    ctx_state *state = shim_current_queue == NULL ? ctx_state_of(cache) : NULL;
    shim_event *e = shim_current_queue == NULL && state == NULL ? NULL : calloc(1, sizeof *e);
    if (e == NULL) {
        return count_lost();
    }
    e->kind = kind;
    e->ctx = ctx;
    e->session = session;
    if (state == NULL) {
        *shim_current_queue->last = e;
        shim_current_queue->last = &e->next;
        return e;
    }
    pthread_mutex_lock(&state->lock);
    int has_listener = state->listeners > 0;
    int first = state->first == NULL;
    if (has_listener) {
        *state->last = e;
        state->last = &e->next;
    }
    pthread_mutex_unlock(&state->lock);
    if (!has_listener) {
        free(e);
        return NULL;
    }
    if (first) {
        goNotedForeign(state->number);
    }
    return e;
}

// It takes the events that no call of Go could report.
shim_event *shim_SSL_CTX_take_events(SSL_CTX *ctx) {
    ctx_state *state = ctx_state_of(ctx);
    if (state == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&state->lock);
    shim_event *e = take_queued(state);
    pthread_mutex_unlock(&state->lock);
    return e;
}

// wipe_string frees a string that holds secrets.
static void wipe_string(char *s) {
    if (s != NULL) {
        OPENSSL_cleanse(s, strlen(s));
        free(s);
    }
}

// It returns the next event of the list. A session that Go took over is no longer in e.
shim_event *shim_event_free(shim_event *e) {
    shim_event *next = e->next;
    if (e->session != NULL) {
        SSL_SESSION_free(e->session);
    }
    wipe_string(e->line);
    free(e);
    return next;
}

// shim_report_session reports a session of the connection whose call runs.
void shim_report_session(SSL_SESSION *s) {
    if (SSL_SESSION_up_ref(s) == 1 && queue_event(SHIM_EVENT_KEEP_SESSION, NULL, NULL, s) == NULL) {
        SSL_SESSION_free(s);
    }
}

// ---- Callbacks ----

// libssl took a reference for the callback, which keeps it by returning 1. If other code made the
// connection, a Go call on this thread must not report the session.
static int on_new_session(SSL *ssl, SSL_SESSION *s) {
    event_queue *innermost = shim_current_queue;
    if (conn_of(ssl) == NULL) {
        shim_current_queue = NULL;
    }
    int queued = queue_event(SHIM_EVENT_NEW_SESSION, NULL, session_ctx_of(ssl), s) != NULL;
    shim_current_queue = innermost;
    return queued;
}

static void on_remove_session(SSL_CTX *ctx, SSL_SESSION *s) {
    if (SSL_SESSION_up_ref(s) == 1 && queue_event(SHIM_EVENT_REMOVE_SESSION, ctx, ctx, s) == NULL) {
        SSL_SESSION_free(s);
    }
}

static void on_keylog(const SSL *ssl, const char *line) {
    char *kept = shim_current_queue == NULL ? NULL : shim_copy_string(line);
    shim_event *e = kept == NULL ? count_lost()
                                 : queue_event(SHIM_EVENT_KEYLOG, SSL_get_SSL_CTX(ssl), NULL, NULL);
    if (e != NULL) {
        e->line = kept;
        e->line_len = strlen(kept);
    } else {
        wipe_string(kept);
    }
}

// The next three leave a callback of other code in place, and return SHIM_REFUSED_FOREIGN_CALLBACK.
shim_long shim_SSL_CTX_sess_set_new_cb(SSL_CTX *ctx, int on) {
    int (*is)(SSL *, SSL_SESSION *) = SSL_CTX_sess_get_new_cb(ctx);
    if (is != NULL && is != on_new_session) {
        return result(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_sess_set_new_cb(ctx, on ? on_new_session : NULL);
    return result(1, 1);
}

shim_long shim_SSL_CTX_sess_set_remove_cb(SSL_CTX *ctx, int on) {
    void (*is)(SSL_CTX *, SSL_SESSION *) = SSL_CTX_sess_get_remove_cb(ctx);
    if (is != NULL && is != on_remove_session) {
        return result(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_sess_set_remove_cb(ctx, on ? on_remove_session : NULL);
    return result(1, 1);
}

shim_long shim_SSL_CTX_set_keylog_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_keylog_cb_func is = SSL_CTX_get_keylog_callback(ctx);
    if (is != NULL && is != on_keylog) {
        return result(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_set_keylog_callback(ctx, on ? on_keylog : NULL);
    return result(1, 1);
}
