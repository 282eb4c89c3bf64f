// SPDX-License-Identifier: Apache-2.0

// SSL_CTX: the shim's state for it, its life, ALPN and the protocol.

#include "shim_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// ---- State ----

atomic_int shim_ctx_state_index = -1;
pthread_mutex_t shim_ctx_states_lock = PTHREAD_MUTEX_INITIALIZER;
ctx_state *shim_ctx_states; // of the SSL_CTXs that are alive

static void list_ctx_state(ctx_state *state) {
    state->next = shim_ctx_states;
    state->link = &shim_ctx_states;
    if (state->next != NULL) {
        state->next->link = &state->next;
    }
    shim_ctx_states = state;
}

static void unlist_ctx_state(ctx_state *state) {
    pthread_mutex_lock(&shim_ctx_states_lock);
    *state->link = state->next;
    if (state->next != NULL) {
        state->next->link = state->link;
    }
    pthread_mutex_unlock(&shim_ctx_states_lock);
}

// libssl calls it after it has flushed the cache.
static void free_ctx_state(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                           void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    ctx_state *state = ptr;
    if (state != NULL) {
        if (state->link != NULL) {
            unlist_ctx_state(state);
        }
        shim_free_events(state->first);
#if SHIM_ADD_LEAVES_LISTED
        for (int i = 0; i < state->n_orphans; i++) {
            SSL_SESSION_free(state->orphans[i]);
        }
#endif
        shim_drop_alpn(state->alpn);
        free(state->staple);
        shim_free_ticket_config(state->tickets);
        shim_release_pool(state->pool);
        pthread_mutex_destroy(&state->lock);
        free(state);
    }
}

static int make_ctx_state_index(void) {
    return SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_ctx_state);
}

// open_ctx_state returns the state of ctx, a new one if it has none; NULL without memory.
static ctx_state *open_ctx_state(SSL_CTX *ctx) {
    static uint64_t last_number;
    if (!shim_ensure_index(&shim_ctx_state_index, make_ctx_state_index)) {
        return NULL;
    }
    pthread_mutex_lock(&shim_ctx_states_lock);
    ctx_state *state = ctx_state_of(ctx);
    if (state == NULL && (state = calloc(1, sizeof *state)) != NULL) {
        state->number = ++last_number;
        state->ctx = ctx;
        state->trusts_since = libssl_seconds();
        state->last = &state->first;
        pthread_mutex_init(&state->lock, NULL);
        if (SSL_CTX_set_ex_data(ctx, shim_ctx_state_index, state) != 1) {
            free_ctx_state(NULL, state, NULL, 0, 0, NULL);
            state = NULL;
        } else {
            list_ctx_state(state);
        }
    }
    pthread_mutex_unlock(&shim_ctx_states_lock);
    return state;
}

// libssl has no getters for these callbacks. So the state records which of them are set, for all
// Contexts of the SSL_CTX. No other call uses the SSL_CTX meanwhile.
int shim_SSL_CTX_has_own_callback(const SSL_CTX *ctx, int which) {
    const ctx_state *state = ctx_state_of(ctx);
    return state != NULL && (state->callbacks & which) != 0;
}

void shim_SSL_CTX_note_own_callback(const SSL_CTX *ctx, int which, int is_set) {
    ctx_state *state = ctx_state_of(ctx);
    if (state != NULL) {
        state->callbacks = is_set ? state->callbacks | which : state->callbacks & ~which;
    }
}

// ---- Life ----

// It sets the callbacks that every context has. With them libssl asks for no passwords, and a
// server can stop at the ClientHello and decline a ticket.
shim_ctx shim_SSL_CTX_new(int method) {
    clear_errors();
    shim_ctx r = {NULL, 0, NULL};
    r.p = SSL_CTX_new(method == SHIM_METHOD_TLS_CLIENT   ? TLS_client_method()
                      : method == SHIM_METHOD_TLS_SERVER ? TLS_server_method()
                                                         : TLS_method());
    ctx_state *state = r.p == NULL ? NULL : open_ctx_state(r.p);
    if (state == NULL) {
        SSL_CTX_free(r.p);
        r.p = NULL;
        r.errs = shim_take_errors();
        return r;
    }
    r.number = state->number;
    shim_add_listener(state, 1);
    SSL_CTX_set_default_passwd_cb(r.p, shim_no_password);
    SSL_CTX_set_client_hello_cb(r.p, shim_on_client_hello, NULL);
    SSL_CTX_set_session_ticket_cb(r.p, NULL, shim_on_decrypt_ticket, NULL);
    clear_errors();
    return r;
}

// ctx belongs to other code, which may change it and its cache at any time.
shim_ctx shim_SSL_CTX_up_ref(SSL_CTX *ctx) {
    clear_errors();
    shim_ctx r = {NULL, 0, NULL};
    ctx_state *state = open_ctx_state(ctx);
    if (state == NULL || SSL_CTX_up_ref(ctx) != 1) {
        r.errs = shim_take_errors();
        return r;
    }
    r.p = ctx;
    r.number = state->number;
    state->foreign = 1;
    shim_add_listener(state, 1);
    return r;
}

// It returns the events of the flush that the last reference causes.
shim_event *shim_SSL_CTX_free(SSL_CTX *ctx) {
    event_queue q;
    shim_add_listener(ctx_state_of(ctx), -1);
    events_begin(&q);
    SSL_CTX_free(ctx);
    clear_errors(); // the flush may have lacked memory
    return events_end(&q);
}

// ---- ALPN ----

void shim_drop_alpn(alpn_list *list) {
    if (list != NULL && atomic_fetch_sub(&list->refs, 1) == 1) {
        free(list);
    }
}

// It selects the server's first choice among the client's protocols. If there is none, the
// handshake fails, as in crypto/tls and by RFC 7301, unless the list is lenient.
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *arg) {
    (void)ssl;
    const alpn_list *list = arg;
    unsigned char *chosen = NULL;
    int r = SSL_select_next_proto(&chosen, out_len, list->wire, (unsigned int)list->n, in, in_len);
    *out = chosen;
    return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK
           : list->lenient             ? SSL_TLSEXT_ERR_NOACK
                                       : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// new_alpn_list returns a list without names; NULL without memory.
static alpn_list *new_alpn_list(size_t n, int lenient) {
    alpn_list *list = calloc(1, sizeof *list + n);
    if (list != NULL) {
        list->refs = 1;
        list->lenient = lenient;
    }
    return list;
}

// It sets the protocols that a client offers and a server chooses from. The copy lives as long as
// ctx and the connections that were made with it.
shim_long shim_SSL_CTX_set_alpn_protos(SSL_CTX *ctx, const unsigned char *wire, size_t n) {
    clear_errors();
    ctx_state *state = ctx_state_of(ctx);
    alpn_list *old = state->alpn, *list = NULL;
    int lenient = old != NULL && old->lenient;
    if ((n > 0 || lenient) && (list = new_alpn_list(n, lenient)) == NULL) {
        return result(0, 0);
    }
    if (n > 0) {
        list->n = n;
        memcpy(list->wire, wire, n);
    }
    // This function returns 0 for success.
    if (SSL_CTX_set_alpn_protos(ctx, wire, (unsigned int)n) != 0) {
        free(list);
        return result(0, 0);
    }
    state->alpn = list;
    SSL_CTX_set_alpn_select_cb(ctx, n == 0 ? NULL : select_alpn, list);
    shim_drop_alpn(old);
    return result_clear(1, 1);
}

// The list stores whether it is lenient. Its protocols may be set later.
shim_long shim_SSL_CTX_set_alpn_select_cb(SSL_CTX *ctx, int lenient) {
    clear_errors();
    ctx_state *state = ctx_state_of(ctx);
    if (state->alpn == NULL && (state->alpn = new_alpn_list(0, lenient)) == NULL) {
        return result(0, 0);
    }
    alpn_list *list = state->alpn;
    list->lenient = lenient;
    SSL_CTX_set_alpn_select_cb(ctx, list->n == 0 ? NULL : select_alpn, list);
    return result_clear(1, 1);
}

// shim_alpn_of returns a reference to the list that a client of ctx will offer. It does not know a
// list that other code has set.
alpn_list *shim_alpn_of(const SSL_CTX *ctx) {
    const ctx_state *state = ctx_state_of(ctx);
    alpn_list *list = state == NULL ? NULL : state->alpn;
    if (list != NULL) {
        atomic_fetch_add(&list->refs, 1);
    }
    return list;
}

// ---- Protocol ----

shim_long shim_SSL_CTX_set_session_id_context(SSL_CTX *ctx, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_CTX_set_session_id_context(ctx, or_empty(id, n), (unsigned int)n);
    return result(ok, ok == 1);
}

shim_long shim_SSL_CTX_set_min_proto_version(SSL_CTX *ctx, int version) {
    clear_errors();
    long ok = SSL_CTX_set_min_proto_version(ctx, version);
    return result(ok, ok == 1);
}

shim_long shim_SSL_CTX_set_max_proto_version(SSL_CTX *ctx, int version) {
    clear_errors();
    long ok = SSL_CTX_set_max_proto_version(ctx, version);
    return result(ok, ok == 1);
}

int shim_SSL_CTX_get_min_proto_version(SSL_CTX *ctx) {
    return (int)SSL_CTX_get_min_proto_version(ctx);
}

int shim_SSL_CTX_get_max_proto_version(SSL_CTX *ctx) {
    return (int)SSL_CTX_get_max_proto_version(ctx);
}

shim_long shim_SSL_CTX_set_cipher_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    int ok = SSL_CTX_set_cipher_list(ctx, list);
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_CTX_set_ciphersuites(SSL_CTX *ctx, const char *list) {
    clear_errors();
    int ok = SSL_CTX_set_ciphersuites(ctx, list);
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_CTX_set1_groups_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    long ok = SSL_CTX_set1_groups_list(ctx, list);
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_CTX_set1_sigalgs_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    long ok = SSL_CTX_set1_sigalgs_list(ctx, list);
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_CTX_set1_client_sigalgs_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    long ok = SSL_CTX_set1_client_sigalgs_list(ctx, list);
    return result_clear(ok, ok == 1);
}

void shim_SSL_CTX_set_dh_auto(SSL_CTX *ctx, int on) { SSL_CTX_set_dh_auto(ctx, on); }

// The next two queue no errors.
long shim_SSL_CTX_set_max_send_fragment(SSL_CTX *ctx, long n) {
    return SSL_CTX_set_max_send_fragment(ctx, n);
}

long shim_SSL_CTX_set_split_send_fragment(SSL_CTX *ctx, long n) {
    return SSL_CTX_set_split_send_fragment(ctx, n);
}

// The type is unsigned long in 1.1.1 and uint64_t later.
uint64_t shim_SSL_CTX_set_options(SSL_CTX *ctx, uint64_t options) {
    return SSL_CTX_set_options(ctx, options);
}

uint64_t shim_SSL_CTX_clear_options(SSL_CTX *ctx, uint64_t options) {
    return SSL_CTX_clear_options(ctx, options);
}

uint64_t shim_SSL_CTX_get_options(SSL_CTX *ctx) { return SSL_CTX_get_options(ctx); }

long shim_SSL_CTX_set_mode(SSL_CTX *ctx, long mode) { return SSL_CTX_set_mode(ctx, mode); }

long shim_SSL_CTX_clear_mode(SSL_CTX *ctx, long mode) { return SSL_CTX_clear_mode(ctx, mode); }

long shim_SSL_CTX_get_mode(SSL_CTX *ctx) { return SSL_CTX_get_mode(ctx); }
