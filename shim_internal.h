// SPDX-License-Identifier: Apache-2.0

// Declarations that the C files share and Go does not see.
//
// A function that can fail is in C because of the error queue: the queue belongs to the thread, and
// Go may move to another thread between two calls. So the call that fails takes the errors before
// it returns, and puts them into its result (shim_long and others). If the call or SSL_get_error
// reads the queue afterwards, the call empties it first.
//
// A call during which libssl may call back collects events: events_begin, libssl, events_end. The
// caller owns the lists of errors and of events.

#ifndef SSLCTX_SHIM_INTERNAL_H
#define SSLCTX_SHIM_INTERNAL_H

#include "cgo_shim.h"

#include <pthread.h>
#include <stdatomic.h>

// event_queue holds the events of one call of Go on this thread. Calls may be nested: a hook may
// call again.
typedef struct event_queue {
    struct event_queue *outer;
    shim_event *first, **last;
    int lost; // events that there was no memory for
} event_queue;

// The most orphans that a state remembers. Adding a further one again leaks it.
#define MAX_ORPHANS 16

// ctx_state holds the shim's data for an SSL_CTX. It lives as long as the SSL_CTX. The fields from
// alpn on change only while no other call uses the SSL_CTX.
typedef struct ctx_state {
    uint64_t number;
    SSL_CTX *ctx;
    atomic_int foreign;      // other code uses it, too
    struct ctx_state *next;  // in shim_ctx_states, guarded by its lock
    struct ctx_state **link; // the pointer to it in that list; NULL: it is not in the list
    pthread_mutex_t lock;
    long listeners; // number of Go Contexts; without one nobody fetches the events
    shim_event *first, **last;
    int callbacks;        // SHIM_CALLBACK_*: the ones that the shim has set
    atomic_int shared;    // the time of its sessions does not say what trust verified them
    int64_t trusts_since; // its trust is the same since then: other trust verified older sessions
    struct alpn_list *alpn;
    struct staple *staple;         // the OCSP response of a server; NULL: none
    struct ticket_config *tickets; // for a server's IDs and tickets; NULL: libssl's defaults
    uintptr_t pool;                // the number of the CertPool; 0: none
#if SHIM_ADD_LEAVES_LISTED
    SSL_SESSION *orphans[MAX_ORPHANS];
    atomic_int n_orphans;
#endif
} ctx_state;

// A connection keeps the list that it was made with, as libssl does.
typedef struct alpn_list {
    atomic_int refs;
    int lenient; // a client that offers none of these continues without one
    size_t n;
    unsigned char wire[]; // as in the extension: each name after its length
} alpn_list;

// ---- States of a connection ----

#define SHIM_NAME_NONE 0
#define SHIM_NAME_HOST 1
#define SHIM_NAME_ADDRESS 2

#define SHIM_ABORT_WANTED 1
#define SHIM_ABORT_DONE 2

#define SHIM_VERIFY_IDLE 0
#define SHIM_VERIFY_ASKED 1    // the handshake is suspended
#define SHIM_VERIFY_ANSWERED 2 // anchors is the answer

#define SHIM_HELLO_EXPECTED 0
#define SHIM_HELLO_ASKED 1
#define SHIM_HELLO_ANSWERED 2

// ---- Across files ----

// The linker of a user's program sees these names beside those of other libraries: they begin with
// shim_, and are hidden.
#pragma GCC visibility push(hidden)

// cgo_shim.c
char *shim_copy_string(const char *s);
extern shim_err shim_unreported;
shim_err *shim_take_errors(void);
shim_bytes shim_take_bio(BIO *bio, int ok);
shim_bytes shim_write_certs(X509 *first, STACK_OF(X509) * rest);
int shim_no_password(char *buf, int size, int rwflag, void *arg);
int shim_ensure_index(atomic_int *index, int (*make)(void));

// shim_events.c
extern _Thread_local event_queue *shim_current_queue;
void shim_free_events(shim_event *e);
void shim_add_listener(ctx_state *state, int change);
void shim_report_session(SSL_SESSION *s);

// shim_ctx.c
extern atomic_int shim_ctx_state_index;
extern pthread_mutex_t shim_ctx_states_lock;
extern ctx_state *shim_ctx_states;
void shim_drop_alpn(alpn_list *list);
alpn_list *shim_alpn_of(const SSL_CTX *ctx);

// shim_verify.c
void shim_forget_verification(shim_conn *c);
void shim_forget_gone_pool(shim_conn *c);
int shim_is_verifying(const SSL *ssl);
long shim_verify_again(SSL *ssl, X509 *leaf, STACK_OF(X509) * sent, STACK_OF(X509) * *chain);
int shim_is_for_name(const shim_conn *c, X509 *x);
void shim_forget_certs(shim_conn *c);
void shim_forget_peer(shim_conn *c);
void shim_note_peer(shim_conn *c);
void shim_release_pool(uintptr_t pool);

// shim_resume.c
void shim_screen_offer(shim_conn *c);
void shim_note_added(SSL_CTX *ctx, SSL_SESSION *s);
int shim_may_resume(const shim_conn *c, SSL_SESSION *s, STACK_OF(X509) * sent);
void shim_check_resumption(shim_conn *c);
void shim_end_resumption_check(shim_conn *c);
void shim_drop_session(shim_conn *c);
void shim_note_resumed(shim_conn *c);
void shim_keep_session(shim_conn *c);
void shim_forget_kept(shim_conn *c);
STACK_OF(X509) * shim_chain_of_offer(const shim_conn *c);

// shim_session.c
SSL_SESSION *shim_dup_session(SSL_SESSION *s);
int shim_copy_values_to(SSL_SESSION *to, const SSL_SESSION *from);

// shim_conn.c
extern atomic_int shim_conn_index;
void shim_conn_begin(shim_conn *c, event_queue *q, const unsigned char *in, size_t in_len,
                     unsigned char *out, size_t out_cap);
int shim_is_unproven(const shim_conn *c);
void shim_send_alert(shim_conn *c, unsigned char description);
int shim_conn_end(shim_conn *c, event_queue *q, int ret);

// shim_hello.c
int shim_on_client_hello(SSL *ssl, int *alert, void *arg);

// shim_ticket.c
SSL_TICKET_RETURN shim_on_decrypt_ticket(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                         size_t n, SSL_TICKET_STATUS status, void *arg);

void shim_free_ticket_config(struct ticket_config *r);

// shim_psk.c
#define SHIM_PSK_FOUND_SESSION 1 // by SetPSKFindSessionCallback's hook
#define SHIM_PSK_FOUND_KEY 2     // by SetPSKServerCallback's hook
void shim_ask_psk(shim_conn *c, const EVP_MD *md);

#pragma GCC visibility pop

// ---- Inline: called often ----

// Clearing costs 100 to 150 ns, a look 20 ns, and nearly always the queue is empty.
static inline void clear_errors(void) {
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

// result is for calls that queue nothing when they succeed.
static inline shim_long result(long n, int ok) {
    shim_long r = {n, ok ? NULL : shim_take_errors(), NULL, 0};
    return r;
}

// result_clear is for calls that may succeed and still queue errors (for a missing default file, or
// a format that was tried first). It drops those errors.
static inline shim_long result_clear(long n, int ok) {
    shim_long r = result(n, ok);
    clear_errors();
    return r;
}

static inline void events_begin(event_queue *q) {
    q->outer = shim_current_queue;
    q->first = NULL;
    q->last = &q->first;
    q->lost = 0;
    shim_current_queue = q;
}

static inline shim_event *events_end(event_queue *q) {
    shim_current_queue = q->outer;
    return q->first;
}

// events_into ends a call that also reports how many events got lost.
static inline void events_into(shim_long *r, event_queue *q) {
    r->events = events_end(q);
    r->lost = q->lost;
}

static inline ctx_state *ctx_state_of(const SSL_CTX *ctx) {
    return shim_ctx_state_index < 0 ? NULL : SSL_CTX_get_ex_data(ctx, shim_ctx_state_index);
}

// conn_of returns the connection of an SSL; NULL for one that other code made.
static inline shim_conn *conn_of(const SSL *ssl) {
    return shim_conn_index < 0 ? NULL : SSL_get_ex_data(ssl, shim_conn_index);
}

// upcall_handle returns the handle of the Conn if the Conn answers upcalls of a kind, otherwise 0.
static inline uintptr_t upcall_handle(const shim_conn *c, int kind) {
    return c != NULL && (c->upcalls & kind) != 0 ? c->handle : 0;
}

static inline SSL_CTX *session_ctx_of(const SSL *ssl) {
    const shim_conn *c = conn_of(ssl);
    return c == NULL ? SSL_get_SSL_CTX(ssl) : c->session_ctx;
}

// If a cached session has a protocol version and no cipher, a remote client can crash the process
// (libssl reads session->cipher->id when the client offers the ID). Version 0, as SSL_SESSION_new
// leaves it, never matches a connection.
static inline int without_cipher(const SSL_SESSION *s) {
    return SSL_SESSION_get_protocol_version(s) != 0 && SSL_SESSION_get0_cipher(s) == NULL;
}

// libssl must not get NULL for an empty id: it passes it to memcpy (1.1.1 and 3.0).
static inline const unsigned char *or_empty(const unsigned char *id, size_t n) {
    return n == 0 ? (const unsigned char *)"" : id;
}

#endif
