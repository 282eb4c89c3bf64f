// SPDX-License-Identifier: Apache-2.0

// Session IDs and tickets, which a server issues.

#include "_cgo_export.h"
#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

// A key has the bytes that SSL_CTX_set_tlsext_ticket_keys takes, in the same order.
typedef struct {
    unsigned char name[16];
    unsigned char mac[32];
    unsigned char aes[32];
} ticket_key;

#define TICKET_IV_LENGTH 16 // of AES-CBC

// The first key encrypts. It and the n_next keys after it decrypt; so do the rest, but then the
// client gets a new ticket.
typedef struct {
    size_t n, n_next;
    ticket_key keys[];
} ticket_ring;

static void free_ring(ticket_ring *r) {
    if (r != NULL) {
        OPENSSL_clear_free(r, sizeof *r + r->n * sizeof r->keys[0]);
    }
}

// ticket_config belongs to an SSL_CTX.
typedef struct ticket_config {
    size_t prefix_len;
    unsigned char prefix[SSL_MAX_SSL_SESSION_ID_LENGTH];
    ticket_ring *ring;
} ticket_config;

void shim_free_ticket_config(ticket_config *r) {
    if (r != NULL) {
        free_ring(r->ring);
        free(r);
    }
}

// own_ticket_config returns the ticket_config of ctx, and makes one if there is none; NULL without
// memory.
static ticket_config *own_ticket_config(SSL_CTX *ctx) {
    ctx_state *state = ctx_state_of(ctx);
    if (state->tickets == NULL) {
        state->tickets = calloc(1, sizeof *state->tickets);
    }
    return state->tickets;
}

// ticket_config_of returns the ticket_config for a connection: that of the context whose cache it
// uses. c is NULL for an SSL that other code made.
static const ticket_config *ticket_config_of(const shim_conn *c, const SSL *ssl) {
    const ctx_state *state = ctx_state_of(c != NULL ? c->session_ctx : SSL_get_SSL_CTX(ssl));
    return state == NULL ? NULL : state->tickets;
}

// ---- Session IDs ----

// libssl also makes ten attempts to find an ID that its cache does not have.
#define ID_ATTEMPTS 10

// on_generate_id takes the ID from Go's hook. Without a hook it makes a prefix and random bytes.
static int on_generate_id(SSL *ssl, unsigned char *id, unsigned int *n) {
    shim_conn *c = conn_of(ssl);
    long made = upcall_handle(c, SHIM_UPCALL_ISSUE) == 0 ? SHIM_ID_NO_HOOK
                                                         : goGenerateID(c->handle, id, *n);
    if (made == SHIM_ID_FAILED) {
        return 0;
    }
    if (made != SHIM_ID_NO_HOOK) {
        *n = (unsigned int)made; // libssl checks it
        return 1;
    }
    const ticket_config *r = ticket_config_of(c, ssl);
    size_t fixed = r == NULL ? 0 : r->prefix_len;
    if (fixed >= *n) {
        return 0;
    }
    if (fixed > 0) {
        memcpy(id, r->prefix, fixed);
    }
    for (int i = 0; i < ID_ATTEMPTS; i++) {
        if (RAND_bytes(id + fixed, (int)(*n - fixed)) != 1) {
            return 0;
        }
        if (!SSL_has_matching_session_id(ssl, id, *n)) {
            return 1;
        }
    }
    return 0;
}

// The prefix is copied.
shim_long shim_SSL_CTX_set_generate_session_id(SSL_CTX *ctx, int on, const unsigned char *prefix,
                                               size_t n) {
    clear_errors();
    ticket_config *r = own_ticket_config(ctx);
    if (r == NULL || n > sizeof r->prefix) {
        return result(0, 0);
    }
    int ok = SSL_CTX_set_generate_session_id(ctx, on ? on_generate_id : NULL);
    if (ok == 1) {
        r->prefix_len = n;
        if (n > 0) {
            memcpy(r->prefix, prefix, n);
        }
    }
    return result(ok, ok == 1);
}

// Without a callback of its own a connection uses its context's.
shim_long shim_SSL_set_generate_session_id(shim_conn *c, int on) {
    clear_errors();
    int ok = SSL_set_generate_session_id(c->ssl, on ? on_generate_id : NULL);
    return result(ok, ok == 1);
}

// It fails only for an ID that is too long, and queues no error.
int shim_SSL_has_matching_session_id(shim_conn *c, const unsigned char *id, size_t n) {
    return SSL_has_matching_session_id(c->ssl, or_empty(id, n), (unsigned int)n);
}

shim_long shim_SSL_set_session_id_context(shim_conn *c, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_set_session_id_context(c->ssl, or_empty(id, n), (unsigned int)n);
    return result(ok, ok == 1);
}

static int on_not_resumable(SSL *ssl, int is_forward_secure) {
    shim_conn *c = conn_of(ssl);
    return upcall_handle(c, SHIM_UPCALL_ISSUE) != 0 && !c->aborted &&
           goNotResumable(c->handle, is_forward_secure);
}

void shim_SSL_CTX_set_not_resumable_session_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_not_resumable_session_callback(ctx, on ? on_not_resumable : NULL);
}

void shim_SSL_set_not_resumable_session_callback(shim_conn *c, int on) {
    SSL_set_not_resumable_session_callback(c->ssl, on ? on_not_resumable : NULL);
}

// ---- Ticket keys ----

shim_bytes shim_SSL_CTX_get_tlsext_ticket_keys(SSL_CTX *ctx) {
    clear_errors();
    shim_bytes r = {NULL, 0, 0, NULL};
    long n = SSL_CTX_get_tlsext_ticket_keys(ctx, NULL, 0);
    if (n > 0 && (r.p = OPENSSL_malloc((size_t)n)) != NULL) {
        r.n = (size_t)n;
        if (SSL_CTX_get_tlsext_ticket_keys(ctx, r.p, n) != 1) {
            shim_bytes_free(r.p, r.n);
            r.p = NULL;
        }
    }
    r.errs = r.p == NULL ? shim_take_errors() : NULL;
    return r;
}

// If the keys do not have the length that libssl wants, n is minus that length.
shim_long shim_SSL_CTX_set_tlsext_ticket_keys(SSL_CTX *ctx, const unsigned char *keys, size_t n) {
    clear_errors();
    long want = SSL_CTX_get_tlsext_ticket_keys(ctx, NULL, 0);
    if (n != (size_t)want) {
        return result(-want, 1);
    }
    long ok = SSL_CTX_set_tlsext_ticket_keys(ctx, (void *)keys, (long)n);
    return result(ok, ok == 1);
}

// on_ticket_key sets up the ciphers for one ticket. A new ticket gets the first key of the ring and
// a random IV; a received ticket names its key. 0 is an unknown key: a full handshake. 2 is an old
// key: the client gets a new ticket.
static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         EVP_MAC_CTX *mac, int encrypts) {
    const ticket_config *r = ticket_config_of(conn_of(ssl), ssl);
    const ticket_ring *ring = r == NULL ? NULL : r->ring;
    if (ring == NULL) {
        return -1;
    }
    size_t i = 0;
    if (encrypts) {
        memcpy(name, ring->keys[0].name, sizeof ring->keys[0].name);
        if (RAND_bytes(iv, TICKET_IV_LENGTH) != 1) {
            return -1;
        }
    } else {
        while (i < ring->n && memcmp(name, ring->keys[i].name, sizeof ring->keys[i].name) != 0) {
            i++;
        }
        if (i == ring->n) {
            return 0;
        }
    }
    const ticket_key *k = &ring->keys[i];
    if (EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv, encrypts) != 1 ||
        mac_sha256_init(mac, k->mac, sizeof k->mac) != 1) {
        return -1;
    }
    return i <= ring->n_next && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
}

// The keys are copied. Without keys libssl uses its own.
shim_long shim_SSL_CTX_set_tlsext_ticket_key_evp_cb(SSL_CTX *ctx, const unsigned char *keys,
                                                    size_t n, size_t n_next) {
    clear_errors();
    ticket_config *r = own_ticket_config(ctx);
    ticket_ring *ring = NULL;
    size_t size = n * sizeof ring->keys[0];
    if (r == NULL || (n > 0 && (ring = OPENSSL_malloc(sizeof *ring + size)) == NULL)) {
        return result(0, 0);
    }
    if (ring != NULL) {
        ring->n = n;
        ring->n_next = n_next;
        memcpy(ring->keys, keys, size);
    }
    if (SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ring == NULL ? NULL : on_ticket_key) != 1) {
        free_ring(ring);
        return result(0, 0);
    }
    free_ring(r->ring);
    r->ring = ring;
    return result(1, 1);
}

// ---- Tickets ----

// on_generate_ticket asks Go what to put into a ticket. Go sees a copy of the session. TLS 1.2 may
// resume a session from the cache and make a ticket for it, because the client asks. Other
// connections share that session and may read its data: so the data stays.
static int on_generate_ticket(SSL *ssl, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    if (upcall_handle(c, SHIM_UPCALL_ISSUE) == 0 ||
        (SSL_session_reused(ssl) && SSL_version(ssl) < TLS1_3_VERSION && !c->decrypted)) {
        return 1;
    }
    SSL_SESSION *live = SSL_get_session(ssl), *copied = shim_dup_session(live);
    void *has = NULL;
    size_t has_len = 0;
    if (copied == NULL || SSL_SESSION_get0_ticket_appdata(copied, &has, &has_len) != 1) {
        SSL_SESSION_free(copied);
        return 0;
    }
    unsigned char *data = NULL;
    size_t n = 0;
    int ok = goGenerateTicket(c->handle, copied, has, has_len, &data, &n);
    if (ok == SHIM_TICKET_CHANGED) {
        ok = SSL_SESSION_set1_ticket_appdata(live, data, n);
    }
    free(data);
    return ok;
}

static int is_usable(SSL_TICKET_STATUS status) {
    return status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW;
}

// shim_on_decrypt_ticket asks Go what to do with a ticket. Go sees a copy of the session. In TLS
// 1.3 libssl leaks the session if the callback aborts (1.1.1w, 3.0.19). So the callback ignores the
// ticket instead, and the BIO keeps libssl from continuing.
SSL_TICKET_RETURN shim_on_decrypt_ticket(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                         size_t n, SSL_TICKET_STATUS status, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    SSL_TICKET_RETURN r = status == SSL_TICKET_SUCCESS         ? SSL_TICKET_RETURN_USE
                          : status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW
                                                               : SSL_TICKET_RETURN_IGNORE_RENEW;
    if (c == NULL) {
        return r;
    }
    c->psk_found = 0; // it was that of the identity before the ticket
    if (c->aborted) { // because of an earlier ticket of the client
        return SSL_TICKET_RETURN_IGNORE;
    }
    if (upcall_handle(c, SHIM_UPCALL_ISSUE) != 0) {
        SSL_SESSION *copied = s == NULL ? NULL : shim_dup_session(s);
        void *has = NULL;
        size_t has_len = 0;
        if (s != NULL &&
            (copied == NULL || SSL_SESSION_get0_ticket_appdata(copied, &has, &has_len) != 1)) {
            SSL_SESSION_free(copied);
            r = SSL_TICKET_RETURN_ABORT;
        } else {
            r = goDecryptTicket(c->handle, copied, has, has_len, (unsigned char *)name, n, status,
                                r);
        }
    }
    if (s != NULL && (r == SSL_TICKET_RETURN_USE || r == SSL_TICKET_RETURN_USE_RENEW) &&
        !shim_may_resume(c, s, NULL)) {
        r = SSL_TICKET_RETURN_IGNORE_RENEW;
    }
    c->decrypted =
        is_usable(status) && (r == SSL_TICKET_RETURN_USE || r == SSL_TICKET_RETURN_USE_RENEW);
    if (r == SSL_TICKET_RETURN_ABORT && SSL_version(ssl) == TLS1_3_VERSION) {
        c->aborted = SHIM_ABORT_WANTED;
        return SSL_TICKET_RETURN_IGNORE;
    }
    return r;
}

// It cannot fail. The callback that decrypts stays: it also declines sessions that the server must
// not resume.
void shim_SSL_CTX_set_session_ticket_cb(SSL_CTX *ctx, int on) {
    SSL_CTX_set_session_ticket_cb(ctx, on ? on_generate_ticket : NULL, shim_on_decrypt_ticket,
                                  NULL);
}

static int on_ticket_ext(SSL *ssl, const unsigned char *data, int n, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    return upcall_handle(c, SHIM_UPCALL_ISSUE) == 0 ||
           goTicketExt(c->handle, (unsigned char *)data, n);
}

// libssl writes the ticket into the offered session, so the connection needs its own copy.
shim_long shim_SSL_set_session_ticket_ext(shim_conn *c, const unsigned char *data, size_t n) {
    clear_errors();
    SSL_SESSION *offered = SSL_get_session(c->ssl);
    if (offered != NULL && !c->has_ticket_ext) {
        SSL_SESSION *copied = shim_dup_session(offered);
        int ok = copied != NULL && SSL_set_session(c->ssl, copied) == 1;
        SSL_SESSION_free(copied);
        if (!ok) {
            return result_clear(0, 0);
        }
    }
    int ok = SSL_set_session_ticket_ext(c->ssl, (void *)data, (int)n);
    c->has_ticket_ext = c->has_ticket_ext || ok == 1;
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_set_session_ticket_ext_cb(shim_conn *c, int on) {
    clear_errors();
    int ok = SSL_set_session_ticket_ext_cb(c->ssl, on ? on_ticket_ext : NULL, NULL);
    return result(ok, ok == 1);
}

// It queues the message and sends it.
int shim_SSL_new_session_ticket(shim_conn *c, unsigned char *out, size_t out_cap) {
    event_queue q;
    shim_conn_begin(c, &q, NULL, 0, out, out_cap);
    int ret = SSL_new_session_ticket(c->ssl);
    return shim_conn_end(c, &q, ret == 1 ? SSL_do_handshake(c->ssl) : ret);
}
