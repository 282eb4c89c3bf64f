// SPDX-License-Identifier: Apache-2.0

#include "cgo_shim.h"
#include "_cgo_export.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// ---- The error queue ----

// The queue belongs to the thread and Go moves between threads: whatever a call leaves there is
// taken before the crossing ends. In C's malloc, so that a failing OPENSSL_malloc, which may be the
// very thing to report, does not take the report with it.

static char *copy(const char *s) { return s == NULL ? NULL : strdup(s); }

// What is reported when there is no memory for any of the entries: that a call failed must not get
// lost with its reasons. It is nobody's to free, and never changes.
static shim_err unreported = {.lib = ERR_LIB_SYS, .reason = ENOMEM};

static shim_err *take_errors(void) {
    shim_err *first = NULL, **last = &first;
    const char *file, *func, *data;
    int line, flags, any = 0;
    unsigned long code;
    while ((code = ERR_get_error_all(&file, &line, &func, &data, &flags)) != 0) {
        any = 1;
        shim_err *e = calloc(1, sizeof *e);
        if (e == NULL) {
            continue; // the queue must be emptied all the same
        }
        e->code = code;
        e->lib = ERR_GET_LIB(code);
        e->reason = ERR_GET_REASON(code);
        e->line = line;
        e->reason_text = ERR_reason_error_string(code);
        e->lib_text = ERR_lib_error_string(code);
        e->file = copy(file);
        e->func = copy(func);
        e->data = (flags & ERR_TXT_STRING) != 0 ? copy(data) : NULL;
        *last = e;
        last = &e->next;
    }
    if (any) {
        ERR_clear_error(); // what was taken keeps its texts until its place is used again
    }
    return any && first == NULL ? &unreported : first;
}

// In C because the list is C memory.
void shim_errs_free(shim_err *e) {
    while (e != NULL && e != &unreported) {
        shim_err *next = e->next;
        free(e->file);
        free(e->func);
        free(e->data);
        free(e);
        e = next;
    }
}

// Clearing costs 100 to 150 ns, looking 20: nearly always there is nothing to clear.
static void clear_errors(void) {
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

// verdict is for calls that queue nothing when they succeed.
static shim_long verdict(long n, int ok) {
    shim_long r = {n, ok ? NULL : take_errors(), NULL, 0};
    return r;
}

// settled is for calls that may leave entries behind although they succeeded (a default file that
// is not there, a format that was tried first): those are not errors of this call.
static shim_long settled(long n, int ok) {
    shim_long r = verdict(n, ok);
    clear_errors();
    return r;
}

// ---- Memory ----

// The shim allocates with calloc, realloc and strdup, and not with malloc: so the tests, where
// these can fail, can have each of its allocations fail, and none of Go's own.

// An index of ex_data is made by the first who needs it. If there is no memory for it, the next
// one tries again.
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static int made(atomic_int *index, int (*make)(void)) {
    if (atomic_load_explicit(index, memory_order_acquire) < 0) {
        pthread_mutex_lock(&making);
        if (atomic_load_explicit(index, memory_order_relaxed) < 0) {
            atomic_store_explicit(index, make(), memory_order_release);
        }
        pthread_mutex_unlock(&making);
    }
    return atomic_load_explicit(index, memory_order_relaxed) >= 0;
}

// ---- Events ----

// libssl calls back at bad moments: under the lock of its cache, from deep inside a handshake. So
// the callbacks only note what they are told, on the queue of the call of Go that is running on
// this thread, and Go's hooks run after it. Where no call of Go's is responsible (other C code uses
// the context), the context keeps the note, and Go is told to come for it.
typedef struct event_queue {
    struct event_queue *outer;
    shim_event *first, **last;
    int lost; // how many there was no memory for
} event_queue;

static _Thread_local event_queue *running;

static void collect(event_queue *q) {
    q->outer = running;
    q->first = NULL;
    q->last = &q->first;
    q->lost = 0;
    running = q;
}

static shim_event *collected(event_queue *q) {
    running = q->outer;
    return q->first;
}

// told is collected for a call that reports what got lost.
static void told(shim_long *r, event_queue *q) {
    r->events = collected(q);
    r->lost = q->lost;
}

// The sessions beyond that are not known: adding one of these again leaks it.
#define MAX_LEFT 16

// ctx_book is what the shim knows of an SSL_CTX, and has the life of it.
typedef struct ctx_book {
    uint64_t number;
    SSL_CTX *ctx;
    atomic_int foreign;     // other code has it, too
    struct ctx_book *next;  // in all_books, guarded by books
    struct ctx_book **link; // what leads to it there; NULL: it is not there
    pthread_mutex_t lock;
    long listeners; // Contexts of Go: without one nobody comes for what is noted
    shim_event *first, **last;
    int callbacks;        // SHIM_CALLBACK_*: those that are the shim's
    atomic_int shared;    // its sessions may be of connections that went on with other contexts
    int64_t trusts_since; // what it trusts: a session from before was verified by other trust
#if SHIM_ADD_LEAVES_LISTED
    SSL_SESSION *left[MAX_LEFT];
    atomic_int n_left;
#endif
} ctx_book;

static atomic_int book_index = -1;
static pthread_mutex_t books = PTHREAD_MUTEX_INITIALIZER;
static ctx_book *all_books; // of the SSL_CTXs that are alive

static void free_events(shim_event *e) {
    while (e != NULL) {
        e = shim_event_free(e);
    }
}

static void list_book(ctx_book *book) {
    book->next = all_books;
    book->link = &all_books;
    if (book->next != NULL) {
        book->next->link = &book->next;
    }
    all_books = book;
}

static void unlist_book(ctx_book *book) {
    pthread_mutex_lock(&books);
    *book->link = book->next;
    if (book->next != NULL) {
        book->next->link = book->link;
    }
    pthread_mutex_unlock(&books);
}

// libssl has flushed the cache when it calls this.
static void free_book(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    ctx_book *book = ptr;
    if (book != NULL) {
        if (book->link != NULL) {
            unlist_book(book);
        }
        free_events(book->first);
#if SHIM_ADD_LEAVES_LISTED
        for (int i = 0; i < book->n_left; i++) {
            SSL_SESSION_free(book->left[i]);
        }
#endif
        pthread_mutex_destroy(&book->lock);
        free(book);
    }
}

static int make_book_index(void) {
    return SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_book);
}

static ctx_book *book_of(const SSL_CTX *ctx) {
    return book_index < 0 ? NULL : SSL_CTX_get_ex_data(ctx, book_index);
}

// open_book returns the book of ctx, a new one if it has none; NULL without memory.
static ctx_book *open_book(SSL_CTX *ctx) {
    static uint64_t last_number;
    if (!made(&book_index, make_book_index)) {
        return NULL;
    }
    pthread_mutex_lock(&books);
    ctx_book *book = book_of(ctx);
    if (book == NULL && (book = calloc(1, sizeof *book)) != NULL) {
        book->number = ++last_number;
        book->ctx = ctx;
        book->trusts_since = libssl_seconds();
        book->last = &book->first;
        pthread_mutex_init(&book->lock, NULL);
        if (SSL_CTX_set_ex_data(ctx, book_index, book) != 1) {
            free_book(NULL, book, NULL, 0, 0, NULL);
            book = NULL;
        } else {
            list_book(book);
        }
    }
    pthread_mutex_unlock(&books);
    return book;
}

// The next two are in C because what libssl does not show is noted where all who have the SSL_CTX
// find it. Nobody else is inside of it meanwhile.
int shim_SSL_CTX_has_own_callback(const SSL_CTX *ctx, int which) {
    const ctx_book *book = book_of(ctx);
    return book != NULL && (book->callbacks & which) != 0;
}

void shim_SSL_CTX_note_own_callback(const SSL_CTX *ctx, int which, int is_set) {
    ctx_book *book = book_of(ctx);
    if (book != NULL) {
        book->callbacks = is_set ? book->callbacks | which : book->callbacks & ~which;
    }
}

// lost notes that the call that runs cannot tell all that happened. Where no call of Go's runs
// there is nobody to tell.
static shim_event *lost(void) {
    if (running != NULL) {
        running->lost++;
    }
    return NULL;
}

// take_noted empties a book whose lock is held.
static shim_event *take_noted(ctx_book *book) {
    shim_event *e = book->first;
    book->first = NULL;
    book->last = &book->first;
    return e;
}

// listen notes that a Context of Go has come, or gone: with the last one goes what nobody came for.
static void listen(ctx_book *book, int change) {
    pthread_mutex_lock(&book->lock);
    book->listeners += change;
    shim_event *unheard = book->listeners > 0 ? NULL : take_noted(book);
    pthread_mutex_unlock(&book->lock);
    free_events(unheard);
}

// note adds an event about a session to the queue, or to the book of cache; NULL without memory,
// and where nobody listens.
static shim_event *note(int kind, const SSL_CTX *ctx, const SSL_CTX *cache, SSL_SESSION *session) {
    ctx_book *book = running == NULL ? book_of(cache) : NULL;
    shim_event *e = running == NULL && book == NULL ? NULL : calloc(1, sizeof *e);
    if (e == NULL) {
        return lost();
    }
    e->kind = kind;
    e->ctx = ctx;
    e->session = session;
    if (book == NULL) {
        *running->last = e;
        running->last = &e->next;
        return e;
    }
    pthread_mutex_lock(&book->lock);
    int heard = book->listeners > 0;
    int first = book->first == NULL;
    if (heard) {
        *book->last = e;
        book->last = &e->next;
    }
    pthread_mutex_unlock(&book->lock);
    if (!heard) {
        free(e);
        return NULL;
    }
    if (first) {
        goNotedElsewhere(book->number);
    }
    return e;
}

// In C because the events are noted by callbacks.
shim_event *shim_SSL_CTX_take_events(SSL_CTX *ctx) {
    ctx_book *book = book_of(ctx);
    if (book == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&book->lock);
    shim_event *e = take_noted(book);
    pthread_mutex_unlock(&book->lock);
    return e;
}

// wipe_string frees a string that holds secrets.
static void wipe_string(char *s) {
    if (s != NULL) {
        OPENSSL_cleanse(s, strlen(s));
        free(s);
    }
}

// In C because the list is C memory. It returns the next of the list; a session that Go took over
// is no longer in e.
shim_event *shim_event_free(shim_event *e) {
    shim_event *next = e->next;
    if (e->session != NULL) {
        SSL_SESSION_free(e->session);
    }
    wipe_string(e->line);
    free(e);
    return next;
}

static shim_conn *conn_of(const SSL *ssl);
static SSL_CTX *cache_of(const SSL *ssl);
static int on_client_hello(SSL *ssl, int *alert, void *arg);
static SSL_TICKET_RETURN on_decrypt_ticket(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                           size_t n, SSL_TICKET_STATUS status, void *arg);

#if SHIM_ADD_LEAVES_LISTED
// What 3.0 leaves in the list of a cache, but not in its hash, since it had no memory: it has no
// reference for that, which flushing gives back. So it gets one when the call has failed. (Who
// flushes on another thread before that takes that of the caller: docs/deviations.md.) When it is
// added again it is in the list for two, and one must go. So the book knows it, by another
// reference, so that no other session has its address. One that is marked may have been flushed, or
// not: it is not added any more.

static int is_left(ctx_book *book, const SSL_SESSION *s) {
    if (book == NULL || atomic_load_explicit(&book->n_left, memory_order_acquire) == 0) {
        return 0;
    }
    pthread_mutex_lock(&book->lock);
    int i = 0, n = book->n_left;
    while (i < n && book->left[i] != s) {
        i++;
    }
    pthread_mutex_unlock(&book->lock);
    return i < n;
}

// take_back is called when s was added after all.
static void take_back(ctx_book *book, SSL_SESSION *s) {
    pthread_mutex_lock(&book->lock);
    int i = 0;
    while (book->left[i] != s) {
        i++;
    }
    book->left[i] = book->left[atomic_fetch_sub(&book->n_left, 1) - 1];
    pthread_mutex_unlock(&book->lock);
    SSL_SESSION_free(s); // the book's
    SSL_SESSION_free(s); // the list's
}

static void leave(ctx_book *book, SSL_SESSION *s) {
    SSL_SESSION_up_ref(s); // the list's
    if (book == NULL) {
        return;
    }
    pthread_mutex_lock(&book->lock);
    if (book->n_left < MAX_LEFT && SSL_SESSION_up_ref(s) == 1) {
        book->left[book->n_left] = s;
        atomic_fetch_add_explicit(&book->n_left, 1, memory_order_release);
    }
    pthread_mutex_unlock(&book->lock);
}

// flush_left flushes a cache as a whole: what was left there before is nowhere after it.
static void flush_left(SSL_CTX *ctx) {
    ctx_book *book = book_of(ctx);
    SSL_SESSION *left[MAX_LEFT];
    int n = 0;
    if (book != NULL) {
        pthread_mutex_lock(&book->lock);
        n = book->n_left;
        memcpy(left, book->left, sizeof left);
        book->n_left = 0;
        pthread_mutex_unlock(&book->lock);
    }
    SSL_CTX_flush_sessions_ex(ctx, 0);
    while (n > 0) {
        SSL_SESSION_free(left[--n]);
    }
}
#endif

// libssl took a reference for the callback, which keeps it by returning 1. What other code's
// connection made is nothing that the call of Go on this thread answers for, if there is one.
static int on_new_session(SSL *ssl, SSL_SESSION *s) {
    event_queue *innermost = running;
    if (conn_of(ssl) == NULL) {
        running = NULL;
    }
    int noted = note(SHIM_EVENT_NEW_SESSION, NULL, cache_of(ssl), s) != NULL;
    running = innermost;
    return noted;
}

static void on_remove_session(SSL_CTX *ctx, SSL_SESSION *s) {
    if (SSL_SESSION_up_ref(s) == 1 && note(SHIM_EVENT_REMOVE_SESSION, ctx, ctx, s) == NULL) {
        SSL_SESSION_free(s);
    }
}

static void on_keylog(const SSL *ssl, const char *line) {
    char *kept = running == NULL ? NULL : copy(line);
    shim_event *e =
        kept == NULL ? lost() : note(SHIM_EVENT_KEYLOG, SSL_get_SSL_CTX(ssl), NULL, NULL);
    if (e != NULL) {
        e->line = kept;
        e->line_len = strlen(kept);
    } else {
        wipe_string(kept);
    }
}

// The next three are in C because the callbacks are C functions. One that is set and is not the
// shim's belongs to other code, and stays.
shim_long shim_SSL_CTX_sess_set_new_cb(SSL_CTX *ctx, int on) {
    int (*is)(SSL *, SSL_SESSION *) = SSL_CTX_sess_get_new_cb(ctx);
    if (is != NULL && is != on_new_session) {
        return verdict(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_sess_set_new_cb(ctx, on ? on_new_session : NULL);
    return verdict(1, 1);
}

shim_long shim_SSL_CTX_sess_set_remove_cb(SSL_CTX *ctx, int on) {
    void (*is)(SSL_CTX *, SSL_SESSION *) = SSL_CTX_sess_get_remove_cb(ctx);
    if (is != NULL && is != on_remove_session) {
        return verdict(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_sess_set_remove_cb(ctx, on ? on_remove_session : NULL);
    return verdict(1, 1);
}

shim_long shim_SSL_CTX_set_keylog_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_keylog_cb_func is = SSL_CTX_get_keylog_callback(ctx);
    if (is != NULL && is != on_keylog) {
        return verdict(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_set_keylog_callback(ctx, on ? on_keylog : NULL);
    return verdict(1, 1);
}

// take_bio empties a memory BIO into a buffer of its own and frees the BIO.
static shim_bytes take_bio(BIO *bio, int ok) {
    shim_bytes r = {NULL, 0, 0, NULL};
    char *p = NULL;
    long n = ok ? BIO_get_mem_data(bio, &p) : 0;
    if (n > 0 && (r.p = OPENSSL_malloc((size_t)n)) != NULL) {
        memcpy(r.p, p, (size_t)n);
        r.n = (size_t)n;
    }
    if (p != NULL) {
        OPENSSL_cleanse(p, (size_t)n);
    }
    if (r.p == NULL) {
        r.errs = take_errors();
        if (r.errs == NULL && (n > 0 || !ok)) { // nothing at all would be an answer
            r.errs = &unreported;
        }
    }
    BIO_free(bio);
    return r;
}

// In C because OPENSSL_clear_free is a macro.
void shim_bytes_free(unsigned char *p, size_t n) { OPENSSL_clear_free(p, n); }

// write_certs gives certificates as DER, one after the other; first may be NULL.
static shim_bytes write_certs(X509 *first, STACK_OF(X509) * rest) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    int ok = bio != NULL && (first == NULL || i2d_X509_bio(bio, first) == 1);
    for (int i = 0; ok && i < sk_X509_num(rest); i++) {
        ok = i2d_X509_bio(bio, sk_X509_value(rest, i)) == 1;
    }
    return take_bio(bio, ok);
}

// forget_certs gives back what Go has read.
static void forget_certs(shim_conn *c) {
    shim_bytes none = {NULL, 0, 0, NULL};
    shim_bytes_free(c->peer_certs.p, c->peer_certs.n);
    shim_errs_free(c->peer_certs.errs);
    c->peer_certs = none;
}

// An empty id must not reach libssl as NULL: it calls memcpy (1.1.1 and 3.0).
static const unsigned char *or_empty(const unsigned char *id, size_t n) {
    return n == 0 ? (const unsigned char *)"" : id;
}

// A binding has no terminal: an encrypted PEM is an error and not a prompt.
static int no_password(char *buf, int size, int rwflag, void *arg) {
    (void)buf, (void)size, (void)rwflag, (void)arg;
    return -1;
}

// ---- SSL_CTX: life ----

// In C because it can fail, and because the password callback is a C function.
shim_ctx shim_SSL_CTX_new(int method) {
    clear_errors();
    shim_ctx r = {NULL, 0, NULL};
    r.p = SSL_CTX_new(method == SHIM_METHOD_TLS_CLIENT   ? TLS_client_method()
                      : method == SHIM_METHOD_TLS_SERVER ? TLS_server_method()
                                                         : TLS_method());
    ctx_book *book = r.p == NULL ? NULL : open_book(r.p);
    if (book == NULL) {
        SSL_CTX_free(r.p);
        r.p = NULL;
        r.errs = take_errors();
        return r;
    }
    r.number = book->number;
    listen(book, 1);
    SSL_CTX_set_default_passwd_cb(r.p, no_password);
    SSL_CTX_set_client_hello_cb(r.p, on_client_hello, NULL);
    SSL_CTX_set_session_ticket_cb(r.p, NULL, on_decrypt_ticket, NULL);
    clear_errors();
    return r;
}

// In C because it can fail, and because the number is kept in C.
shim_ctx shim_SSL_CTX_up_ref(SSL_CTX *ctx) {
    clear_errors();
    shim_ctx r = {NULL, 0, NULL};
    ctx_book *book = open_book(ctx);
    if (book == NULL || SSL_CTX_up_ref(ctx) != 1) {
        r.errs = take_errors();
        return r;
    }
    r.p = ctx;
    r.number = book->number;
    book->foreign = 1;
    listen(book, 1);
    return r;
}

// In C because the last reference flushes the cache, which calls back.
shim_event *shim_SSL_CTX_free(SSL_CTX *ctx) {
    event_queue q;
    listen(book_of(ctx), -1);
    collect(&q);
    SSL_CTX_free(ctx);
    clear_errors(); // of what the flush had no memory for
    return collected(&q);
}

// ---- SSL_CTX: cache ----

// A session with a protocol version and no cipher in a cache is a crash that a remote client can
// cause (libssl reads session->cipher->id when the client offers the ID). Version 0, as
// SSL_SESSION_new leaves it, never matches a connection.
static int without_cipher(const SSL_SESSION *s) {
    return SSL_SESSION_get_protocol_version(s) != 0 && SSL_SESSION_get0_cipher(s) == NULL;
}

// is_cached is asked while nobody else uses the cache: it is not locked.
static int is_cached(SSL_CTX *ctx, SSL_SESSION *s) {
    return OPENSSL_LH_retrieve((OPENSSL_LHASH *)SSL_CTX_sessions(ctx), s) == s;
}

// The session whose key changed while it was cached is looked for everywhere (1.1.1w as it was
// published empties the ID of one).
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

// In C because the books are C memory. Go lets nobody else use the cache meanwhile; what other code
// has cannot be looked at, and may hold any session.
int shim_session_in_cache(uint64_t number, SSL_SESSION *s) {
    pthread_mutex_lock(&books);
    ctx_book *book = all_books;
    while (book != NULL && book->number != number) {
        book = book->next;
    }
    int r = book == NULL ? SHIM_CTX_GONE : SHIM_CACHE_LACKS;
    if (book != NULL && (book->foreign || is_cached_somewhere(book->ctx, s))) {
        r = SHIM_CACHE_HOLDS;
    }
#if SHIM_ADD_LEAVES_LISTED
    if (is_left(book, s)) {
        r = SHIM_CACHE_HOLDS;
    }
#endif
    pthread_mutex_unlock(&books);
    return r;
}

// was_no_memory tells the two meanings of a 0 of SSL_CTX_add_session.
static int was_no_memory(SSL_CTX *ctx, SSL_SESSION *s, int others) {
    switch (others) {
    case SHIM_OTHERS_DO_NOT_HAVE_IT:
        return 1;
    case SHIM_OTHERS_ARE_OUT:
        return !is_cached(ctx, s);
    }
    return ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE; // from 3.5 on
}

// add_session is SSL_CTX_add_session, whose 0 means that s is cached already, or that there was no
// memory, which is SHIM_ADD_FAILED.
static int add_session(SSL_CTX *ctx, SSL_SESSION *s, int others) {
#if SHIM_ADD_LEAVES_LISTED
    // What was never in a cache was never left in one.
    int left = others != SHIM_OTHERS_DO_NOT_HAVE_IT && is_left(book_of(ctx), s);
    if (left && (others == SHIM_OTHERS_MAY_COME || !SSL_SESSION_is_resumable(s))) {
        return SHIM_ADD_FAILED;
    }
#endif
    int n = SSL_CTX_add_session(ctx, s);
    int failed = n != 1 && was_no_memory(ctx, s, others);
#if SHIM_ADD_LEAVES_LISTED
    if (failed && !left && others != SHIM_OTHERS_MAY_COME) {
        leave(book_of(ctx), s);
    } else if (left && n == 1) {
        take_back(book_of(ctx), s);
    }
#endif
    return failed ? SHIM_ADD_FAILED : n;
}

// added is for calls whose failures are but want of memory: that a session is there already, or is
// not there, is no error, and queues none. What is queued then is of other code.
static shim_long added(long n, int failed, int ok) {
    if (!failed && !ok) {
        clear_errors();
    }
    return verdict(n, !failed);
}

// In C because it can fail, and because the check of the cipher belongs to the same question.
shim_long shim_SSL_CTX_add_session(SSL_CTX *ctx, SSL_SESSION *s, int others) {
    if (without_cipher(s)) {
        return verdict(SHIM_REFUSED_NO_CIPHER, 1);
    }
    event_queue q;
    collect(&q);
    int n = add_session(ctx, s, others);
    shim_long r = added(n, n == SHIM_ADD_FAILED, n == 1);
    told(&r, &q);
    return r;
}

// In C because a slice is one crossing. n is the index of the first session that must not be
// cached, or -1.
long shim_session_first_without_cipher(SSL_SESSION **s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (without_cipher(s[i])) {
            return (long)i;
        }
    }
    return -1;
}

// In C because a slice is one crossing. ret[i] is libssl's return value for s[i], or
// SHIM_ADD_FAILED, and n how many were added; or n is -1 - i, and nothing was added, when s[i] must
// not be cached.
shim_long shim_SSL_CTX_add_sessions(SSL_CTX *ctx, SSL_SESSION **s, signed char *ret, size_t n,
                                    int others) {
    long bad = shim_session_first_without_cipher(s, n), done = 0, failed = 0;
    if (bad >= 0) {
        return verdict(-1 - bad, 1);
    }
    event_queue q;
    collect(&q);
    for (size_t i = 0; i < n; i++) {
        ret[i] = (signed char)add_session(ctx, s[i], others);
        done += ret[i] == 1;
        failed += ret[i] == SHIM_ADD_FAILED;
    }
    shim_long r = added(done, failed > 0, done == (long)n);
    told(&r, &q);
    return r;
}

// In C because it calls back.
shim_long shim_SSL_CTX_remove_session(SSL_CTX *ctx, SSL_SESSION *s) {
    event_queue q;
    collect(&q);
    int n = SSL_CTX_remove_session(ctx, s);
    shim_long r = added(n, 0, n == 1);
    told(&r, &q);
    return r;
}

// In C because a slice is one crossing. ret[i] is libssl's return value for s[i].
shim_long shim_SSL_CTX_remove_sessions(SSL_CTX *ctx, SSL_SESSION **s, signed char *ret, size_t n) {
    long done = 0;
    event_queue q;
    collect(&q);
    for (size_t i = 0; i < n; i++) {
        ret[i] = (signed char)SSL_CTX_remove_session(ctx, s[i]);
        done += ret[i] == 1;
    }
    shim_long r = added(done, 0, done == (long)n);
    told(&r, &q);
    return r;
}

// In C because its name depends on the version, and because it has no return value: what it says,
// it says on the queue (4.0 when it cannot allocate).
shim_long shim_SSL_CTX_flush_sessions(SSL_CTX *ctx, int64_t t) {
    clear_errors();
    event_queue q;
    collect(&q);
#if SHIM_ADD_LEAVES_LISTED
    if (t == 0) {
        flush_left(ctx);
    } else
#endif
    {
        SSL_CTX_flush_sessions_ex(ctx, (time_t)t);
    }
    shim_long r = verdict(1, ERR_peek_error() == 0);
    told(&r, &q);
    return r;
}

// In C because these are macros, and because twelve counters are one question.
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

// The next four are in C because they are macros.
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

// In C because it can fail.
shim_long shim_SSL_CTX_set_session_id_context(SSL_CTX *ctx, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_CTX_set_session_id_context(ctx, or_empty(id, n), (unsigned int)n);
    return verdict(ok, ok == 1);
}

// In C because it can fail.
shim_long shim_SSL_CTX_set_max_early_data(SSL_CTX *ctx, uint32_t n) {
    clear_errors();
    int ok = SSL_CTX_set_max_early_data(ctx, n);
    return verdict(ok, ok == 1);
}

// ---- SSL_CTX: ALPN ----

// A connection keeps the list that it was made with, as libssl does.
typedef struct alpn_list {
    atomic_int refs;
    int lenient; // a client that has no name of these goes on without one
    size_t n;
    unsigned char wire[]; // as in the extension: each name after its length
} alpn_list;

static atomic_int alpn_index = -1;

static void drop_alpn(alpn_list *list) {
    if (list != NULL && atomic_fetch_sub(&list->refs, 1) == 1) {
        free(list);
    }
}

static void free_alpn(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    drop_alpn(ptr);
}

static int make_alpn_index(void) {
    return SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_alpn);
}

// The server's first choice among what the client offers; without one the handshake fails, as in
// crypto/tls and by RFC 7301, unless the list is lenient.
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

// In C because it can fail, and because a server chooses in a callback. The list lives as long as
// ctx.
shim_long shim_SSL_CTX_set_alpn_protos(SSL_CTX *ctx, const unsigned char *wire, size_t n) {
    clear_errors();
    if (!made(&alpn_index, make_alpn_index)) {
        return verdict(0, 0);
    }
    alpn_list *old = SSL_CTX_get_ex_data(ctx, alpn_index), *list = NULL;
    int lenient = old != NULL && old->lenient;
    if ((n > 0 || lenient) && (list = new_alpn_list(n, lenient)) == NULL) {
        return verdict(0, 0);
    }
    if (n > 0) {
        list->n = n;
        memcpy(list->wire, wire, n);
    }
    if (SSL_CTX_set_ex_data(ctx, alpn_index, list) != 1) {
        free(list);
        return verdict(0, 0);
    }
    // This one returns 0 for success.
    if (SSL_CTX_set_alpn_protos(ctx, wire, (unsigned int)n) != 0) {
        SSL_CTX_set_ex_data(ctx, alpn_index, old); // there is room for it
        free(list);
        return verdict(0, 0);
    }
    SSL_CTX_set_alpn_select_cb(ctx, n == 0 ? NULL : select_alpn, list);
    drop_alpn(old);
    return settled(1, 1);
}

// In C because it can fail, and because the callback is a C function: what it does is part of its
// list, which may be set later.
shim_long shim_SSL_CTX_set_alpn_select_cb(SSL_CTX *ctx, int lenient) {
    clear_errors();
    if (!made(&alpn_index, make_alpn_index)) {
        return verdict(0, 0);
    }
    alpn_list *list = SSL_CTX_get_ex_data(ctx, alpn_index);
    if (list == NULL && (list = new_alpn_list(0, lenient)) != NULL &&
        SSL_CTX_set_ex_data(ctx, alpn_index, list) != 1) {
        free(list);
        list = NULL;
    }
    if (list == NULL) {
        return verdict(0, 0);
    }
    list->lenient = lenient;
    SSL_CTX_set_alpn_select_cb(ctx, list->n == 0 ? NULL : select_alpn, list);
    return settled(1, 1);
}

// alpn_of returns what a client of ctx will offer, a reference. What other code set is not known.
static alpn_list *alpn_of(const SSL_CTX *ctx) {
    alpn_list *list = alpn_index < 0 ? NULL : SSL_CTX_get_ex_data(ctx, alpn_index);
    if (list != NULL) {
        atomic_fetch_add(&list->refs, 1);
    }
    return list;
}

// ---- SSL_CTX: certificates ----

// An SSL_CTX of other code asks on the terminal, unless that code has set a callback for passwords,
// which is asked then. ask_nobody says whether ask_as_before must follow.
static int ask_nobody(SSL_CTX *ctx) {
    int asks = SSL_CTX_get_default_passwd_cb(ctx) == NULL;
    if (asks) {
        SSL_CTX_set_default_passwd_cb(ctx, no_password);
    }
    return asks;
}

static void ask_as_before(SSL_CTX *ctx, int asks) {
    if (asks) {
        SSL_CTX_set_default_passwd_cb(ctx, NULL);
    }
}

// In C because it can fail.
shim_long shim_SSL_CTX_use_certificate_chain_file(SSL_CTX *ctx, const char *file) {
    clear_errors();
    int asks = ask_nobody(ctx);
    int ok = SSL_CTX_use_certificate_chain_file(ctx, file);
    ask_as_before(ctx, asks);
    return settled(ok, ok == 1);
}

// In C because it can fail.
shim_long shim_SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file) {
    clear_errors();
    int asks = ask_nobody(ctx);
    int ok = SSL_CTX_use_PrivateKey_file(ctx, file, SSL_FILETYPE_PEM);
    ask_as_before(ctx, asks);
    return settled(ok, ok == 1);
}

// read_certs reads all certificates of a PEM text; NULL, with the reason on the queue, if one of
// them is bad or if there is none.
static STACK_OF(X509) * read_certs(const unsigned char *pem, size_t n) {
    STACK_OF(X509) *certs = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    int ok = certs != NULL && bio != NULL;
    while (ok) {
        X509 *x = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL);
        if (x == NULL) {
            // How a PEM text ends: no further start line. Not an error once there was one.
            unsigned long e = ERR_peek_last_error();
            ok = sk_X509_num(certs) > 0 && ERR_GET_LIB(e) == ERR_LIB_PEM &&
                 ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
            break;
        }
        if (!sk_X509_push(certs, x)) {
            X509_free(x);
            ok = 0;
        }
    }
    BIO_free(bio);
    if (!ok) {
        sk_X509_pop_free(certs, X509_free);
        return NULL;
    }
    ERR_clear_error();
    return certs;
}

static EVP_PKEY *read_key(const unsigned char *pem, size_t n) {
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    return key;
}

// In C because everything is read before anything is set: half a chain is never left in ctx.
shim_long shim_SSL_CTX_use_cert_and_key(SSL_CTX *ctx, const unsigned char *cert, size_t cert_len,
                                        const unsigned char *key, size_t key_len) {
    clear_errors();
    STACK_OF(X509) *chain = read_certs(cert, cert_len);
    EVP_PKEY *pkey = chain == NULL ? NULL : read_key(key, key_len);
    X509 *leaf = pkey == NULL ? NULL : sk_X509_shift(chain);
    int ok = leaf != NULL && SSL_CTX_use_cert_and_key(ctx, leaf, pkey, chain, 1) == 1;
    shim_long r = settled(ok, ok);
    X509_free(leaf);
    EVP_PKEY_free(pkey);
    sk_X509_pop_free(chain, X509_free);
    return r;
}

// In C because what a server has to show for itself is one question: a certificate or a key, or
// cipher suites that want none.
int shim_SSL_CTX_get0_certificate(SSL_CTX *ctx) {
    if (SSL_CTX_get0_certificate(ctx) != NULL || SSL_CTX_get0_privatekey(ctx) != NULL) {
        return 1;
    }
    STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ctx);
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
        if (SSL_CIPHER_get_auth_nid(sk_SSL_CIPHER_value(ciphers, i)) == NID_auth_null) {
            return 1;
        }
    }
    return 0;
}

// In C because it can fail.
shim_long shim_SSL_CTX_check_private_key(SSL_CTX *ctx) {
    clear_errors();
    int ok = SSL_CTX_check_private_key(ctx);
    return settled(ok, ok == 1);
}

// In C because it can fail.
shim_long shim_SSL_CTX_load_verify_locations(SSL_CTX *ctx, const char *file, const char *dir) {
    clear_errors();
    int ok = SSL_CTX_load_verify_locations(ctx, file, dir);
    return settled(ok, ok == 1);
}

// In C because it can fail.
shim_long shim_SSL_CTX_set_default_verify_paths(SSL_CTX *ctx) {
    clear_errors();
    int ok = SSL_CTX_set_default_verify_paths(ctx);
    return settled(ok, ok == 1);
}

// In C because it can fail in the middle, and because a PEM text is one question.
shim_long shim_X509_STORE_add_cert(SSL_CTX *ctx, const unsigned char *pem, size_t n) {
    clear_errors();
    STACK_OF(X509) *certs = read_certs(pem, n);
    int count = certs == NULL ? 0 : sk_X509_num(certs), added = 0;
    while (added < count &&
           X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), sk_X509_value(certs, added)) == 1) {
        added++;
    }
    int ok = certs != NULL && added == count;
    shim_long r = settled(ok, ok);
    sk_X509_pop_free(certs, X509_free);
    return r;
}

// In C because it can fail in the middle, and because libssl takes the list over. The names are
// DER, one after the other.
shim_long shim_SSL_CTX_set_client_CA_list(SSL_CTX *ctx, const unsigned char *der, size_t n) {
    clear_errors();
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    const unsigned char *p = der, *end = der + n;
    int ok = names != NULL;
    while (ok && p < end) {
        X509_NAME *name = d2i_X509_NAME(NULL, &p, (long)(end - p));
        ok = name != NULL && sk_X509_NAME_push(names, name) > 0;
        if (!ok) {
            X509_NAME_free(name);
        }
    }
    if (!ok) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return settled(0, 0);
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    return settled(1, 1);
}

// ---- SSL_CTX: a pool of Go's ----

// What the context keeps is the pool's number and no pointer.

static atomic_int pool_index = -1;

static void release_pool(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                         void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    if (ptr != NULL) {
        goReleasePool((uintptr_t)ptr);
    }
}

static int make_pool_index(void) {
    return SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, release_pool);
}

static unsigned char *append_der(unsigned char *p, size_t *n, X509 *x) {
    int len = i2d_X509(x, NULL);
    unsigned char *grown = len <= 0 ? NULL : realloc(p, *n + (size_t)len);
    if (grown == NULL) {
        free(p);
        return NULL;
    }
    unsigned char *end = grown + *n;
    if (i2d_X509(x, &end) != len) {
        free(grown);
        return NULL;
    }
    *n += (size_t)len;
    return grown;
}

// write_chain gives the peer's certificate and what the peer sent with it, in memory for the caller
// to free; NULL without memory.
static unsigned char *write_chain(X509_STORE_CTX *ctx, size_t *n) {
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx);
    *n = 0;
    unsigned char *der = append_der(NULL, n, X509_STORE_CTX_get0_cert(ctx));
    for (int i = 0; der != NULL && i < sk_X509_num(sent); i++) {
        der = append_der(der, n, sk_X509_value(sent, i));
    }
    return der;
}

// read_anchors reads Go's answer; NULL if there is none (len is -1) and without memory.
static STACK_OF(X509) * read_anchors(const unsigned char *found, long len) {
    STACK_OF(X509) *anchors = len < 0 ? NULL : sk_X509_new_null();
    const unsigned char *p = found;
    while (anchors != NULL && p < found + len) {
        X509 *x = d2i_X509(NULL, &p, (long)(found + len - p));
        if (x == NULL || !sk_X509_push(anchors, x)) {
            X509_free(x);
            sk_X509_pop_free(anchors, X509_free);
            anchors = NULL;
        }
    }
    return anchors;
}

static void forget_verification(shim_conn *c) {
    free(c->chain);
    free(c->anchors);
    c->chain = c->anchors = NULL;
    c->verify_state = SHIM_VERIFY_IDLE;
}

// suspend_for_pool leaves the chain for Go and has libssl come back later; 0 if that is not
// possible. Only a client can be suspended: a server would take the 1 of the callback for a good
// chain.
static int suspend_for_pool(shim_conn *c, X509_STORE_CTX *ctx, uintptr_t pool) {
    if (!c->may_suspend || SSL_is_server(c->ssl) || !SHIM_HAS_RETRY_VERIFY) {
        return 0;
    }
    forget_verification(c);
    c->chain = write_chain(ctx, &c->chain_len);
    c->pool = pool;
    if (c->chain == NULL || SSL_set_retry_verify(c->ssl) != 1) {
        return 0;
    }
    c->verify_state = SHIM_VERIFY_ASKED;
    return 1;
}

// ask_pool gives the certificates of the pool that the chain of ctx ends in, none if there are
// none, and NULL if that cannot be known. c is NULL for an SSL that other code made.
static STACK_OF(X509) * ask_pool(shim_conn *c, X509_STORE_CTX *ctx, uintptr_t pool) {
    if (c != NULL && c->verify_state == SHIM_VERIFY_ANSWERED) {
        STACK_OF(X509) *answer = read_anchors(c->anchors, c->anchors_len);
        forget_verification(c);
        return answer;
    }
    size_t n;
    unsigned char *der = write_chain(ctx, &n), *found = NULL;
    long len = der == NULL ? -1 : goAskPool(c == NULL ? 0 : c->ask, pool, der, n, &found);
    STACK_OF(X509) *anchors = read_anchors(found, len);
    free(der);
    free(found);
    return anchors;
}

// In C because the answer is C memory, which c takes over.
void shim_SSL_set_retry_verify(shim_conn *c, unsigned char *anchors, long n) {
    free(c->anchors);
    c->anchors = anchors;
    c->anchors_len = n;
    c->verify_state = SHIM_VERIFY_ANSWERED;
}

static int has_cert(STACK_OF(X509) * certs, const X509 *x) {
    for (int i = 0; i < sk_X509_num(certs); i++) {
        if (X509_cmp(sk_X509_value(certs, i), x) == 0) {
            return 1;
        }
    }
    return 0;
}

// add_issuers adds what the store of ctx has by the name of x's issuer.
static int add_issuers(X509_STORE_CTX *ctx, STACK_OF(X509) * trusted, const X509 *x) {
    STACK_OF(X509) *found = X509_STORE_CTX_get1_certs(ctx, X509_get_issuer_name(x));
    int ok = 1;
    while (ok && sk_X509_num(found) > 0) {
        X509 *issuer = sk_X509_shift(found);
        if (has_cert(trusted, issuer)) {
            X509_free(issuer);
        } else if (!sk_X509_push(trusted, issuer)) {
            X509_free(issuer);
            ok = 0;
        }
    }
    sk_X509_pop_free(found, X509_free);
    return ok;
}

// libssl verifies as always, but trusts for this once, in place of its store, the pool's anchors of
// the chain and what the store has for the chain.
static int verify_with_pool(X509_STORE_CTX *ctx, void *arg) {
    const SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    shim_conn *c = ssl == NULL ? NULL : conn_of(ssl);
    STACK_OF(X509) *trusted = NULL, *sent = X509_STORE_CTX_get0_untrusted(ctx);
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    if (leaf != NULL) { // otherwise it is a raw key, which no pool has
        if (c != NULL && c->verify_state != SHIM_VERIFY_ANSWERED &&
            suspend_for_pool(c, ctx, (uintptr_t)arg)) {
            return 1; // no verdict: libssl asks again
        }
        ERR_set_mark();
        trusted = ask_pool(c, ctx, (uintptr_t)arg);
        int ok = trusted != NULL;
        if (ok && sk_X509_num(trusted) > 0) {
            ok = add_issuers(ctx, trusted, leaf);
            for (int i = 0; ok && i < sk_X509_num(sent); i++) {
                ok = add_issuers(ctx, trusted, sk_X509_value(sent, i));
            }
            for (int i = 0; ok && i < sk_X509_num(trusted); i++) { // it grows meanwhile
                ok = add_issuers(ctx, trusted, sk_X509_value(trusted, i));
            }
            X509_STORE_CTX_set0_trusted_stack(ctx, trusted);
        }
        ERR_pop_to_mark();
        if (!ok) {
            sk_X509_pop_free(trusted, X509_free);
            X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
            return 0;
        }
    }
    int ok = X509_verify_cert(ctx);
    sk_X509_pop_free(trusted, X509_free);
    return ok > 0;
}

// In C because it can fail, and because libssl verifies in a callback. n is the number of the pool
// that is no longer used, or -1; pool 0 is none.
shim_long shim_SSL_CTX_set_cert_verify_callback(SSL_CTX *ctx, uintptr_t pool) {
    clear_errors();
    void *old = made(&pool_index, make_pool_index) ? SSL_CTX_get_ex_data(ctx, pool_index) : NULL;
    if (pool_index < 0 || SSL_CTX_set_ex_data(ctx, pool_index, (void *)pool) != 1) {
        return verdict(-1, 0);
    }
    SSL_CTX_set_cert_verify_callback(ctx, pool == 0 ? NULL : verify_with_pool, (void *)pool);
    ctx_book *book = book_of(ctx);
    if (book != NULL && old != NULL) { // which took trust away; sessions know their second only
        book->trusts_since = libssl_seconds() + 1;
    }
    return settled((long)(uintptr_t)old, 1);
}

// is_verifying says whether a failed verification of the peer's certificate ends the handshake: a
// client's does in every mode but none.
static int is_verifying(const SSL *ssl) {
    int mode = SSL_get_verify_mode(ssl);
    return SSL_is_server(ssl) ? (mode & SSL_VERIFY_PEER) != 0 : mode != SSL_VERIFY_NONE;
}

// The next two are in C because they keep the callback that is set, which is a C function.
void shim_SSL_CTX_set_verify(SSL_CTX *ctx, int mode) {
    SSL_CTX_set_verify(ctx, mode, SSL_CTX_get_verify_callback(ctx));
}

void shim_SSL_set_verify(shim_conn *c, int mode) {
    SSL_set_verify(c->ssl, mode, SSL_get_verify_callback(c->ssl));
    c->verifies = is_verifying(c->ssl);
}

// The next two are in C because they are macros. They queue nothing.
long shim_SSL_CTX_set_max_send_fragment(SSL_CTX *ctx, long n) {
    return SSL_CTX_set_max_send_fragment(ctx, n);
}

long shim_SSL_CTX_set_split_send_fragment(SSL_CTX *ctx, long n) {
    return SSL_CTX_set_split_send_fragment(ctx, n);
}

// ---- SSL_CTX: OCSP stapling ----

typedef struct {
    size_t n;
    unsigned char der[];
} staple;

static atomic_int staple_index = -1;

static void free_staple(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                        void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    free(ptr);
}

static int make_staple_index(void) {
    return SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_staple);
}

// libssl asks a server for its response and tells a client that one came, or none, by the same
// callback; what it returns means something else for each.
static int give_staple(SSL *ssl, void *arg) {
    const staple *s = arg;
    if (!SSL_is_server(ssl)) {
        return 1; // it is good: whether it is one to like is for who reads it
    }
    unsigned char *copied = OPENSSL_malloc(s->n);
    if (copied == NULL) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    memcpy(copied, s->der, s->n);
    ERR_set_mark(); // 3.6 takes what it cannot read, and an error that is left ends the handshake
    int ok = SSL_set_tlsext_status_ocsp_resp(ssl, copied, (long)s->n) == 1;
    ERR_pop_to_mark();
    if (!ok) {
        OPENSSL_free(copied);
    }
    return ok ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

typedef int (*status_callback)(SSL *, void *);

static status_callback get_status_callback(SSL_CTX *ctx) {
    status_callback is = NULL;
    SSL_CTX_get_tlsext_status_cb(ctx, &is);
    return is;
}

// In C because it is a macro, and because callbacks are C functions. It is
// SHIM_REFUSED_FOREIGN_CALLBACK if there is one that is not the shim's, which belongs to other
// code, and stays.
int shim_SSL_CTX_get_tlsext_status_cb(SSL_CTX *ctx) {
    status_callback is = get_status_callback(ctx);
    return is == NULL || is == give_staple ? is != NULL : SHIM_REFUSED_FOREIGN_CALLBACK;
}

// In C because it is a macro and can fail, and because a server answers in a callback. The copy
// lives as long as ctx, or until another takes its place.
shim_long shim_SSL_CTX_set_tlsext_status_cb(SSL_CTX *ctx, const unsigned char *der, size_t n) {
    clear_errors();
    staple *s = n == 0 ? NULL : calloc(1, sizeof *s + n);
    if (!made(&staple_index, make_staple_index) || (n > 0 && s == NULL)) {
        free(s);
        return verdict(0, 0);
    }
    if (s != NULL) {
        s->n = n;
        memcpy(s->der, der, n);
    }
    void *old = SSL_CTX_get_ex_data(ctx, staple_index);
    if (SSL_CTX_set_ex_data(ctx, staple_index, s) != 1) {
        free(s);
        return verdict(0, 0);
    }
    if (s != NULL) {
        SSL_CTX_set_tlsext_status_cb(ctx, give_staple);
        SSL_CTX_set_tlsext_status_arg(ctx, s);
    } else if (get_status_callback(ctx) != NULL) {
        SSL_CTX_set_tlsext_status_cb(ctx, NULL);
        SSL_CTX_set_tlsext_status_arg(ctx, NULL);
    }
    free(old);
    return settled(1, 1);
}

// In C because it is a macro. libssl has no name for the type that is none.
void shim_SSL_CTX_set_tlsext_status_type(SSL_CTX *ctx, int on) {
    SSL_CTX_set_tlsext_status_type(ctx, on ? TLSEXT_STATUSTYPE_ocsp : -1);
}

// ---- SSL_CTX: protocol ----

// The next four are in C because they are macros, and the setters can fail.
shim_long shim_SSL_CTX_set_min_proto_version(SSL_CTX *ctx, int version) {
    clear_errors();
    long ok = SSL_CTX_set_min_proto_version(ctx, version);
    return verdict(ok, ok == 1);
}

shim_long shim_SSL_CTX_set_max_proto_version(SSL_CTX *ctx, int version) {
    clear_errors();
    long ok = SSL_CTX_set_max_proto_version(ctx, version);
    return verdict(ok, ok == 1);
}

int shim_SSL_CTX_get_min_proto_version(SSL_CTX *ctx) {
    return (int)SSL_CTX_get_min_proto_version(ctx);
}

int shim_SSL_CTX_get_max_proto_version(SSL_CTX *ctx) {
    return (int)SSL_CTX_get_max_proto_version(ctx);
}

// In C because it can fail.
shim_long shim_SSL_CTX_set_cipher_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    int ok = SSL_CTX_set_cipher_list(ctx, list);
    return settled(ok, ok == 1);
}

// In C because it can fail.
shim_long shim_SSL_CTX_set_ciphersuites(SSL_CTX *ctx, const char *list) {
    clear_errors();
    int ok = SSL_CTX_set_ciphersuites(ctx, list);
    return settled(ok, ok == 1);
}

// In C because it is a macro and can fail.
shim_long shim_SSL_CTX_set1_groups_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    long ok = SSL_CTX_set1_groups_list(ctx, list);
    return settled(ok, ok == 1);
}

// The next two are in C because they are macros and can fail.
shim_long shim_SSL_CTX_set1_sigalgs_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    long ok = SSL_CTX_set1_sigalgs_list(ctx, list);
    return settled(ok, ok == 1);
}

shim_long shim_SSL_CTX_set1_client_sigalgs_list(SSL_CTX *ctx, const char *list) {
    clear_errors();
    long ok = SSL_CTX_set1_client_sigalgs_list(ctx, list);
    return settled(ok, ok == 1);
}

// In C because it is a macro.
void shim_SSL_CTX_set_dh_auto(SSL_CTX *ctx, int on) { SSL_CTX_set_dh_auto(ctx, on); }

// The next three are in C because the type is unsigned long in 1.1.1 and uint64_t later.
uint64_t shim_SSL_CTX_set_options(SSL_CTX *ctx, uint64_t options) {
    return SSL_CTX_set_options(ctx, options);
}

uint64_t shim_SSL_CTX_clear_options(SSL_CTX *ctx, uint64_t options) {
    return SSL_CTX_clear_options(ctx, options);
}

uint64_t shim_SSL_CTX_get_options(SSL_CTX *ctx) { return SSL_CTX_get_options(ctx); }

// The next three are in C because the type is unsigned long in 1.1.1 and uint64_t later.
uint64_t shim_SSL_set_options(shim_conn *c, uint64_t options) {
    return SSL_set_options(c->ssl, options);
}

uint64_t shim_SSL_clear_options(shim_conn *c, uint64_t options) {
    return SSL_clear_options(c->ssl, options);
}

uint64_t shim_SSL_get_options(shim_conn *c) { return SSL_get_options(c->ssl); }

// The next three are in C because they are macros.
long shim_SSL_CTX_set_mode(SSL_CTX *ctx, long mode) { return SSL_CTX_set_mode(ctx, mode); }

long shim_SSL_CTX_clear_mode(SSL_CTX *ctx, long mode) { return SSL_CTX_clear_mode(ctx, mode); }

long shim_SSL_CTX_get_mode(SSL_CTX *ctx) { return SSL_CTX_get_mode(ctx); }

// In C because one setting is four calls on an object of its own. n is the return value of
// SSL_CONF_cmd, or 0 when the command was taken and finishing failed.
shim_long shim_SSL_CONF_cmd(SSL_CTX *ctx, const char *cmd, const char *value) {
    clear_errors();
    SSL_CONF_CTX *conf = SSL_CONF_CTX_new();
    if (conf == NULL) {
        return verdict(0, 0);
    }
    SSL_CONF_CTX_set_flags(conf, SSL_CONF_FLAG_FILE | SSL_CONF_FLAG_CLIENT | SSL_CONF_FLAG_SERVER |
                                     SSL_CONF_FLAG_CERTIFICATE | SSL_CONF_FLAG_SHOW_ERRORS);
    SSL_CONF_CTX_set_ssl_ctx(conf, ctx);
    int asks = ask_nobody(ctx);
    long n = SSL_CONF_cmd(conf, cmd, value);
    if (n > 0 && SSL_CONF_CTX_finish(conf) != 1) {
        n = 0;
    }
    ask_as_before(ctx, asks);
    shim_long r = settled(n, n > 0);
    SSL_CONF_CTX_free(conf);
    return r;
}

// ---- SSL_SESSION ----

// In C because it can fail.
shim_session shim_SSL_SESSION_new(void) {
    shim_session r = {SSL_SESSION_new(), 0, NULL};
    r.errs = r.p == NULL ? take_errors() : NULL;
    return r;
}

// Go values of a session are set while nobody else is inside libssl with the session's context. But
// a session of another context is copied as well: this lock keeps that apart.
static pthread_rwlock_t values_lock = PTHREAD_RWLOCK_INITIALIZER;

static SSL_SESSION *dup_session(SSL_SESSION *s) {
    pthread_rwlock_rdlock(&values_lock);
    SSL_SESSION *copied = SSL_SESSION_dup(s);
    pthread_rwlock_unlock(&values_lock);
    return copied;
}

// In C because it can fail.
shim_session shim_SSL_SESSION_dup(SSL_SESSION *s) {
    clear_errors();
    shim_session r = {dup_session(s), 1, NULL};
    r.errs = r.p == NULL ? take_errors() : NULL;
    return r;
}

// In C because what must not be given to a connection of c's context as it is is copied in the same
// crossing. p is a reference, or NULL without errors if the session must not be given at all.
// libssl adds what it is given to its cache: what may have been there before must not be added
// while others use the cache. c may be NULL for what is foreign.
shim_session shim_SSL_SESSION_up_ref(shim_conn *c, SSL_SESSION *s, int published, int foreign) {
    clear_errors();
    shim_session r = {NULL, 0, NULL};
    if (without_cipher(s)) {
        return r;
    }
    if (foreign || (published && (SSL_CTX_get_session_cache_mode(c->first_ctx) &
                                  SSL_SESS_CACHE_NO_INTERNAL_STORE) == 0)) {
        return shim_SSL_SESSION_dup(s);
    }
    SSL_SESSION_up_ref(s);
    r.p = s;
    return r;
}

// The next two are in C because pointer and length are one answer.
shim_view shim_SSL_SESSION_get_id(const SSL_SESSION *s) {
    shim_view r = {NULL, 0};
    r.p = SSL_SESSION_get_id(s, &r.n);
    return r;
}

shim_view shim_SSL_SESSION_get0_id_context(const SSL_SESSION *s) {
    shim_view r = {NULL, 0};
    r.p = SSL_SESSION_get0_id_context(s, &r.n);
    return r;
}

// The next two are in C because they can fail.
shim_long shim_SSL_SESSION_set1_id(SSL_SESSION *s, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_id(s, or_empty(id, n), (unsigned int)n);
    return verdict(ok, ok == 1);
}

shim_long shim_SSL_SESSION_set1_id_context(SSL_SESSION *s, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_id_context(s, or_empty(id, n), (unsigned int)n);
    return verdict(ok, ok == 1);
}

// The next two are in C because their names depend on the version.
int64_t shim_SSL_SESSION_get_time(const SSL_SESSION *s) { return SSL_SESSION_get_time_ex(s); }

shim_long shim_SSL_SESSION_set_time(SSL_SESSION *s, int64_t t) {
    int64_t n = SSL_SESSION_set_time_ex(s, (time_t)t);
    return verdict((long)n, n == t);
}

// In C because it can fail.
shim_long shim_SSL_SESSION_set_timeout(SSL_SESSION *s, long t) {
    int ok = SSL_SESSION_set_timeout(s, t);
    return verdict(ok, ok == 1);
}

// In C because a cipher's number and names are one answer.
shim_cipher shim_cipher_of(const SSL_CIPHER *c) {
    shim_cipher r = {0, NULL, NULL};
    if (c != NULL) {
        r.id = SSL_CIPHER_get_protocol_id(c);
        r.name = SSL_CIPHER_get_name(c);
        r.standard_name = SSL_CIPHER_standard_name(c);
    }
    return r;
}

// In C because a cipher's number and names are one answer.
shim_cipher shim_SSL_SESSION_get0_cipher(const SSL_SESSION *s) {
    return shim_cipher_of(SSL_SESSION_get0_cipher(s));
}

// In C because it can fail and because i2d moves the pointer it is given. (i2d takes a session that
// is not const in 1.1.1.)
shim_bytes shim_i2d_SSL_SESSION(SSL_SESSION *s) {
    clear_errors();
    shim_bytes r = {NULL, 0, 0, NULL};
    int n = i2d_SSL_SESSION(s, &r.p);
    if (n <= 0) {
        r.errs = take_errors();
    } else {
        r.n = (size_t)n;
    }
    return r;
}

// In C because it can fail and because d2i moves the pointer it is given. Never into a session that
// exists: that would change its key, and leaves it half written on an error.
shim_parsed shim_d2i_SSL_SESSION(const unsigned char *der, size_t n) {
    clear_errors();
    const unsigned char *p = der;
    shim_parsed r = {NULL, 0, NULL};
    r.p = d2i_SSL_SESSION(NULL, &p, (long)n);
    r.used = (size_t)(p - der);
    r.errs = r.p == NULL ? take_errors() : NULL;
    return r;
}

// In C because it can fail and writes to a BIO.
shim_bytes shim_PEM_write_bio_SSL_SESSION(SSL_SESSION *s) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    return take_bio(bio, bio != NULL && PEM_write_bio_SSL_SESSION(bio, s) == 1);
}

// In C because it can fail and reads from a BIO. It is the first half of PEM_read_bio_SSL_SESSION,
// which would pass over bytes after the end of the DER; the second half is shim_d2i_SSL_SESSION.
shim_bytes shim_PEM_read_bio_SSL_SESSION(const unsigned char *pem, size_t n) {
    clear_errors();
    shim_bytes r = {NULL, 0, 0, NULL};
    long len = 0;
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    if (bio == NULL ||
        PEM_bytes_read_bio(&r.p, &len, NULL, PEM_STRING_SSL_SESSION, bio, no_password, NULL) != 1) {
        r.p = NULL;
        r.errs = take_errors();
    } else {
        r.n = (size_t)len;
        r.used = n - BIO_ctrl_pending(bio);
    }
    BIO_free(bio);
    clear_errors();
    return r;
}

// In C because it can fail and writes to a BIO.
shim_bytes shim_SSL_SESSION_print(const SSL_SESSION *s) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    return take_bio(bio, bio != NULL && SSL_SESSION_print(bio, s) == 1);
}

// ---- The BIO over Go's buffers ----

static int lent_read(BIO *bio, char *buf, int n) {
    shim_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t left = c->in_len - c->in_used;
    if (left == 0) {
        if (c->in_eof) {
            return 0;
        }
        c->starved = 1;
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t len = (size_t)n < left ? (size_t)n : left;
    memcpy(buf, c->in + c->in_used, len);
    c->in_used += len;
    return (int)len;
}

static int lent_write(BIO *bio, const char *buf, int n) {
    shim_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (c->aborted) {
        return -1;
    }
    size_t room = c->out_cap - c->out_len;
    if (room == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    size_t len = (size_t)n < room ? (size_t)n : room;
    memcpy(c->out + c->out_len, buf, len);
    c->out_len += len;
    return (int)len;
}

static long lent_ctrl(BIO *bio, int cmd, long num, void *ptr) {
    (void)num, (void)ptr;
    shim_conn *c = BIO_get_data(bio);
    switch (cmd) {
    case BIO_CTRL_FLUSH: // Go sends what is in out when the crossing is over
        return 1;
    case BIO_CTRL_EOF: // what makes libssl treat a missing close_notify as it does on a socket
        return c->in_eof && c->in_used == c->in_len;
    default:
        return 0;
    }
}

static int lent_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *lent_method; // once lent_type is there
static atomic_int lent_type = -1;

static int make_lent_method(void) {
    int type = BIO_get_new_index();
    BIO_METHOD *m = type < 0 ? NULL : BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "Go buffers");
    if (m == NULL || !BIO_meth_set_read(m, lent_read) || !BIO_meth_set_write(m, lent_write) ||
        !BIO_meth_set_ctrl(m, lent_ctrl) || !BIO_meth_set_create(m, lent_create)) {
        BIO_meth_free(m);
        return -1;
    }
    lent_method = m;
    return type;
}

// ---- SSL ----

static atomic_int conn_index = -1;

static int make_conn_index(void) { return SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL); }

// conn_of returns the connection of an SSL; NULL for one that other code made.
static shim_conn *conn_of(const SSL *ssl) {
    return conn_index < 0 ? NULL : SSL_get_ex_data(ssl, conn_index);
}

static SSL_CTX *cache_of(const SSL *ssl) {
    const shim_conn *c = conn_of(ssl);
    return c == NULL ? SSL_get_SSL_CTX(ssl) : c->first_ctx;
}

// In C because a connection is an SSL, a BIO and the state between them: one crossing.
shim_new_conn shim_SSL_new(SSL_CTX *ctx, int server) {
    clear_errors();
    shim_conn *c = calloc(1, sizeof *c);
    int ok = c != NULL && made(&lent_type, make_lent_method) && made(&conn_index, make_conn_index);
    BIO *bio = ok ? BIO_new(lent_method) : NULL;
    SSL *ssl = bio == NULL ? NULL : SSL_new(ctx);
    if (ssl == NULL || SSL_set_ex_data(ssl, conn_index, c) != 1) {
        shim_new_conn failed = {NULL, take_errors()};
        SSL_free(ssl);
        BIO_free(bio);
        free(c);
        return failed;
    }
    BIO_set_data(bio, c);
    SSL_set_bio(ssl, bio, bio);
    // A Go caller may come back with other memory, and with less of it, after it made room.
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    if (server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        c->alpn = alpn_of(ctx);
    }
    c->ssl = ssl;
    c->first_ctx = ctx;
    c->verifies = is_verifying(ssl);
    clear_errors();
    shim_new_conn r = {c, NULL};
    return r;
}

// In C because SSL_free without a shutdown marks the session, which other holders share, as not
// resumable: keep_session tells libssl that the connection ended well. It calls back.
shim_event *shim_SSL_free(shim_conn *c, int keep_session) {
    event_queue q;
    collect(&q);
    if (keep_session) {
        SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(c->ssl);
    SSL_CTX_free(c->hello_ctx);
    SSL_SESSION_free(c->found);
    X509_free(c->peer);
    forget_certs(c);
    SSL_SESSION_free(c->resumed);
    SSL_SESSION_free(c->looked_at_kept);
    OPENSSL_clear_free(c->resumed_der, c->resumed_len > 0 ? (size_t)c->resumed_len : 0);
    SSL_SESSION_free(c->psk_session);
    shim_SSL_client_hello_free(c);
    forget_verification(c);
    shim_errs_free(c->errs);
    drop_alpn(c->alpn);
    free(c->psk_identity);
    free(c);
    clear_errors();
    return collected(&q);
}

// In C because it is C memory.
void shim_SSL_client_hello_free(shim_conn *c) {
    free(c->hello);
    c->hello = NULL;
    c->hello_len = 0;
}

// ---- Who the peer is ----

static uintptr_t pool_of(const SSL *ssl) {
    return pool_index < 0 ? 0 : (uintptr_t)SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), pool_index);
}

// verify_store_of returns the certificates that libssl verifies by: those of the configuration
// command VerifyCAFile and its like come first. (1.1.1 does not give these away.)
static X509_STORE *verify_store_of(SSL *ssl) {
    X509_STORE *store = NULL;
#ifdef SSL_CTRL_GET_VERIFY_CERT_STORE
    SSL_get0_verify_cert_store(ssl, &store);
#endif
    return store != NULL ? store : SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
}

// verify_again verifies certificates as libssl does in a handshake. It gives the chain, for the
// caller to free, where that is wanted: then it is outside of a crossing, and does not ask a pool.
static long verify_again(SSL *ssl, X509 *leaf, STACK_OF(X509) * sent, STACK_OF(X509) * *chain) {
    shim_conn *c = conn_of(ssl);
    X509_STORE_CTX *v = X509_STORE_CTX_new();
    long result = X509_V_ERR_OUT_OF_MEM;
    int may_suspend = c->may_suspend;
    c->may_suspend = 0; // libssl is not verifying, and would not ask again
    ERR_set_mark();
    if (v != NULL && X509_STORE_CTX_init(v, verify_store_of(ssl), leaf, sent) == 1 &&
        X509_STORE_CTX_set_ex_data(v, SSL_get_ex_data_X509_STORE_CTX_idx(), ssl) == 1 &&
        X509_STORE_CTX_set_default(v, SSL_is_server(ssl) ? "ssl_client" : "ssl_server") == 1) {
        X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(v);
        X509_VERIFY_PARAM_set_auth_level(param, SSL_get_security_level(ssl));
        uintptr_t pool = chain == NULL ? pool_of(ssl) : 0;
        int ok = X509_VERIFY_PARAM_set1(param, SSL_get0_param(ssl)) == 1 &&
                 (pool != 0 ? verify_with_pool(v, (void *)pool) : X509_verify_cert(v)) == 1;
        result = X509_STORE_CTX_get_error(v);
        if (!ok && result == X509_V_OK) {
            result = X509_V_ERR_UNSPECIFIED;
        } else if (ok && chain != NULL) {
            *chain = X509_STORE_CTX_get1_chain(v);
        }
    }
    ERR_pop_to_mark();
    c->may_suspend = may_suspend;
    X509_STORE_CTX_free(v);
    return result;
}

static int has_expired(const SSL *ssl, const X509 *x) {
    unsigned long flags = X509_VERIFY_PARAM_get_flags(SSL_get0_param((SSL *)ssl));
    return (flags & X509_V_FLAG_NO_CHECK_TIME) == 0 &&
           ASN1_TIME_cmp_time_t(X509_get0_notAfter(x), time(NULL)) <= 0;
}

// Names are compared as crypto/tls does it: no common names, and "*" is a whole label.
#define HOST_FLAGS (X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

static int is_for_name(const shim_conn *c, X509 *x) {
    switch (c->any_name ? SHIM_NAME_NONE : c->named) {
    case SHIM_NAME_HOST:
        return X509_check_host(x, c->name, 0, HOST_FLAGS, NULL) == 1;
    case SHIM_NAME_ADDRESS:
        return X509_check_ip(x, c->address, c->address_len, HOST_FLAGS) == 1;
    }
    return 1;
}

// Of a session that was read from storage the chain is not there, so that an issuer may be missing
// that the server would send.
static int is_missing_issuer(long result) {
    return result == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           result == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           result == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

// may_offer says whether a session stands for all that a client verifies: its certificate was found
// good, by the trust of this context, is for this name, and has not expired.
static int may_offer(shim_conn *c, SSL_SESSION *s) {
    X509 *leaf = SSL_SESSION_get0_peer(s);
    if (!is_verifying(c->ssl)) {
        return 1;
    }
    if (SSL_get_verify_result(c->ssl) !=
        X509_V_OK) { // which is the session's, until it is connected
        return 0;
    }
    if (leaf == NULL) {
        return SSL_SESSION_get0_peer_rpk(s) != NULL;
    }
    if (has_expired(c->ssl, leaf) || !is_for_name(c, leaf)) {
        return 0;
    }
    if (!c->doubted) {
        return 1;
    }
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(c->ssl);
    long result = verify_again(c->ssl, leaf, sent, NULL);
    return result == X509_V_OK || (sk_X509_num(sent) <= 0 && is_missing_issuer(result));
}

// screen_offer has a client that verifies not offer what was made without.
static void screen_offer(shim_conn *c) {
    if (!SSL_in_before(c->ssl) || SSL_is_server(c->ssl)) {
        return;
    }
    SSL_SESSION *s = SSL_get_session(c->ssl);
    if (s != NULL && !may_offer(c, s)) {
        SSL_set_session(c->ssl, NULL);
        SSL_set_verify_result(c->ssl, X509_V_OK);
    }
    if (s != NULL) {
        clear_errors(); // why a name is not the certificate's, is no error of the handshake
    }
    c->doubted = 0;
}

// is_verified_by says whether a session was made by a connection of ctx, which verified the client
// by what ctx trusts now. Others have the same sessions where a hook chooses contexts, in this
// process or in another with the same ticket keys; and what comes from storage may be older than
// ctx.
static int is_verified_by(const SSL_CTX *ctx, const SSL_SESSION *s) {
    const ctx_book *book = book_of(ctx);
    return book == NULL ||
           (!book->shared && (int64_t)SSL_SESSION_get_time_ex(s) >= book->trusts_since);
}

// may_resume says whether a session has what a server asks of clients. Where that was verified by
// other trust, the certificate is verified again.
static int may_resume(const shim_conn *c, SSL_SESSION *s, STACK_OF(X509) * sent) {
    int mode = SSL_get_verify_mode(c->ssl);
    X509 *leaf = SSL_SESSION_get0_peer(s);
    if (!is_verifying(c->ssl)) {
        return 1;
    }
    if (leaf == NULL) {
        int later = (mode & SSL_VERIFY_POST_HANDSHAKE) != 0 &&
                    SSL_SESSION_get_protocol_version(s) == TLS1_3_VERSION;
        return (mode & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) == 0 || later ||
               SSL_SESSION_get0_peer_rpk(s) != NULL;
    }
    int own = SSL_get_SSL_CTX(c->ssl) == c->first_ctx && is_verified_by(c->first_ctx, s);
    return !has_expired(c->ssl, leaf) &&
           (own || verify_again(c->ssl, leaf, sent, NULL) == X509_V_OK);
}

// is_bad_result says whether the session that a server resumed was made although the verification
// failed. A callback of other code may have wanted just that.
static int is_bad_result(const shim_conn *c) {
    return is_verifying(c->ssl) && SSL_get0_peer_certificate(c->ssl) != NULL &&
           SSL_get_verify_callback(c->ssl) == NULL && SSL_get_verify_result(c->ssl) != X509_V_OK;
}

// begin lends Go's buffers to the BIO; SSL_get_error, which judges the call, wants an empty queue.
static void begin(shim_conn *c, event_queue *q, const unsigned char *in, size_t in_len,
                  unsigned char *out, size_t out_cap) {
    clear_errors();
    collect(q);
    c->in = in;
    c->in_len = in_len;
    c->in_used = 0;
    if (in_len > 0) {
        c->starved = 0;
    }
    c->out = out;
    c->out_cap = out_cap;
    c->out_len = 0;
    c->n = 0;
    c->errs = NULL;
    forget_certs(c);
    screen_offer(c);
}

// send_alert writes the alert of a handshake that libssl was kept from answering: nothing has been
// encrypted yet.
static void send_alert(shim_conn *c, unsigned char description) {
    const unsigned char alert[] = {SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, description};
    if (c->out_cap - c->out_len >= sizeof alert) {
        memcpy(c->out + c->out_len, alert, sizeof alert);
        c->out_len += sizeof alert;
    }
    c->aborted = SHIM_ABORT_DONE;
}

// judge_resumption ends a handshake that resumes what a server must not. It is the only answer to a
// session of libssl's own cache, which libssl asks nobody about: the session leaves the cache, and
// the client's next handshake is a full one.
static void judge_resumption(shim_conn *c) {
    SSL_SESSION *s = SSL_get_session(c->ssl);
    if (s == c->looked_at || !SSL_is_server(c->ssl) || !SSL_session_reused(c->ssl) ||
        c->verdict == SSL_ERROR_SSL || c->verdict == SSL_ERROR_SYSCALL) {
        return;
    }
    c->looked_at = s;
    if (SSL_version(c->ssl) < TLS1_3_VERSION) { // which has no second handshake
        SSL_SESSION_free(c->looked_at_kept);
        c->looked_at_kept = SSL_get1_session(c->ssl);
    }
    if (c->psk_found || (may_resume(c, s, SSL_get_peer_cert_chain(c->ssl)) && !is_bad_result(c))) {
        return;
    }
    SSL_CTX_remove_session(c->first_ctx, s);
    c->resumption_refused = 1;
    c->verdict = SSL_ERROR_SSL;
    c->n = 0;
    c->out_len = 0;
    if (!c->finished) {
        send_alert(c, SSL_AD_HANDSHAKE_FAILURE);
    }
}

// note_peer writes down the peer's certificates for Go, if they are others than before. libssl's
// chain has the peer's own in a client and not in a server; a session that was read has that alone.
static void note_peer(shim_conn *c) {
    X509 *peer = SSL_get0_peer_certificate(c->ssl);
    if (peer == c->peer || !SSL_is_init_finished(c->ssl)) {
        return;
    }
    if (peer != NULL) {
        X509_up_ref(peer); // so that no other has its address
    }
    X509_free(c->peer);
    c->peer = peer;
    c->peer_changed = 1;
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(c->ssl);
    c->peer_certs =
        write_certs(SSL_is_server(c->ssl) || sk_X509_num(sent) <= 0 ? peer : NULL, sent);
    c->peer_verified =
        peer != NULL && is_verifying(c->ssl) && SSL_get_verify_result(c->ssl) == X509_V_OK;
}

// Whether two sessions have the same ticket: then one is a copy of the other.
static int same_ticket(const SSL_SESSION *a, const SSL_SESSION *b) {
    const unsigned char *p, *q;
    size_t n, m;
    SSL_SESSION_get0_ticket(a, &p, &n);
    SSL_SESSION_get0_ticket(b, &q, &m);
    return n > 0 && n == m && memcmp(p, q, n) == 0;
}

// note_resumed keeps the session that the first handshake resumes, and then what is in it: the
// object lives no longer than libssl has it. It does so because libssl puts the session of a new
// ticket in its place: in a TLS 1.3 server before the handshake is over, and in a client when the
// ticket comes, which is in its middle before TLS 1.3. A client's is the one that is there when its
// ClientHello is made, if it is no pre-shared key of a hook, and also if libssl has made a copy of
// it since (4.0).
static void note_resumed(shim_conn *c) {
    if (c->resumed_known || SSL_get_state(c->ssl) == TLS_ST_BEFORE) {
        return;
    }
    int server = SSL_is_server(c->ssl), reused = SSL_session_reused(c->ssl);
    c->resumed_known = SSL_is_init_finished(c->ssl);
    if (c->resumed == NULL && (reused || !server)) {
        c->resumed = SSL_get1_session(c->ssl);
    } else if (!reused && (server || c->resumed_known)) {
        SSL_SESSION_free(c->resumed);
        c->resumed = NULL;
    } else if (!server && c->resumed_known && SSL_version(c->ssl) == TLS1_3_VERSION &&
               !same_ticket(c->resumed, SSL_get_session(c->ssl))) {
        SSL_SESSION_free(c->resumed);
        c->resumed = SSL_get1_session(c->ssl);
    }
    if (c->resumed_known && c->resumed != NULL) {
        c->resumed_len = i2d_SSL_SESSION(c->resumed, &c->resumed_der); // NULL if it fails
        SSL_SESSION_free(c->resumed);
        c->resumed = NULL;
        clear_errors();
    }
}

// end takes the buffers back: C keeps no pointer into Go's memory after the crossing.
static int end(shim_conn *c, event_queue *q, int ret) {
    c->verdict = ret > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, ret);
    if (c->verify_state == SHIM_VERIFY_ASKED && c->verdict != SSL_ERROR_WANT_RETRY_VERIFY) {
        c->verdict = SSL_ERROR_SSL; // no chain is good before the pool has judged it
    }
    if (c->verdict == SSL_ERROR_SSL || c->verdict == SSL_ERROR_SYSCALL) {
        c->errs = take_errors();
        c->verify_result = SSL_get_verify_result(c->ssl);
    }
    judge_resumption(c);
    clear_errors();
    if (c->aborted == SHIM_ABORT_WANTED) {
        send_alert(c, SSL_AD_INTERNAL_ERROR);
    }
    // Also a renegotiation that libssl put off: the next read begins it.
    // Nothing is pending before anything was read; without memory for its record layer libssl would
    // look for it through NULL then (4.0).
    int began = SSL_get_state(c->ssl) != TLS_ST_BEFORE;
    c->partial = began && SSL_has_pending(c->ssl);
    // What libssl holds is the rest of a record that it has begun if it has asked for more since
    // then. Otherwise it is the next message, which only a further call looks at.
    c->pending = began && (SSL_pending(c->ssl) > 0 || (c->partial && !c->starved) ||
                           (SSL_renegotiate_pending(c->ssl) && !SSL_in_init(c->ssl)));
    c->version = SSL_version(c->ssl);
    c->reused = SSL_session_reused(c->ssl);
    c->cipher = SSL_get_current_cipher(c->ssl);
    c->early_data = SSL_get_early_data_status(c->ssl);
    c->received = (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
    note_peer(c);
    note_resumed(c);
    if (SSL_is_init_finished(c->ssl)) {
        SSL_SESSION_free(c->found);
        c->found = NULL;
        forget_verification(c); // a pool's answer that was not asked for: the pool was taken away
        c->hello_state = SHIM_HELLO_ANSWERED; // that of a renegotiation is not asked about
        c->finished = 1;
    }
    c->events = collected(q);
    c->lost = q->lost;
    c->in = NULL;
    c->out = NULL;
    return c->verdict;
}

// In C because the BIO reads and writes Go's buffers, and because it can fail.
int shim_SSL_do_handshake(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                          size_t out_cap) {
    event_queue q;
    begin(c, &q, in, in_len, out, out_cap);
    return end(c, &q, SSL_do_handshake(c->ssl));
}

// In C because the BIO reads and writes Go's buffers, because it can fail, and because all records
// that are there are one question.
int shim_SSL_read(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                  size_t out_cap, unsigned char *p, size_t n) {
    event_queue q;
    begin(c, &q, in, in_len, out, out_cap);
    int ret = 1;
    while (ret > 0 && c->n < n) {
        size_t got = 0;
        ret = SSL_read_ex(c->ssl, p + c->n, n - c->n, &got);
        c->n += got;
    }
    return end(c, &q, ret);
}

// may_write is where a renegotiation (TLS 1.2) goes on before a write, and says whether the write
// may begin; otherwise end was called and the verdict says why not. libssl would go on with it in
// the write, too, but takes data that it finds there, and that nobody has read yet, for the end of
// the connection. In a read it makes allowance for it. A peek is a read that leaves the data where
// it is.
static int may_write(shim_conn *c, event_queue *q) {
    if (!SSL_in_init(c->ssl) && !SSL_renegotiate_pending(c->ssl)) {
        return 1;
    }
    unsigned char first;
    size_t got;
    int ret = SSL_peek_ex(c->ssl, &first, 1, &got);
    int want = ret > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, ret);
    if (want == SSL_ERROR_SSL || want == SSL_ERROR_SYSCALL) {
        end(c, q, ret);
        return 0;
    }
    if (SSL_in_init(c->ssl)) {
        end(c, q, ret);
        c->verdict = ret > 0 ? SSL_ERROR_WANT_READ : want;
        return 0;
    }
    clear_errors();
    return 1;
}

// The largest that one record adds to its plaintext, an empty record before it (TLS 1.0) included.
#define SHIM_RECORD_OVERHEAD 512

// In C because the BIO reads and writes Go's buffers, because it can fail, and because as many
// records as out has room for are one question.
int shim_SSL_write(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                   size_t out_cap, const unsigned char *p, size_t n) {
    event_queue q;
    begin(c, &q, in, in_len, out, out_cap);
    if (!may_write(c, &q)) {
        return c->verdict;
    }
    int ret = 1;
    while (ret > 0 && c->n < n) {
        size_t len = n - c->n < SSL3_RT_MAX_PLAIN_LENGTH ? n - c->n : SSL3_RT_MAX_PLAIN_LENGTH;
        if (c->out_cap - c->out_len < SSL3_RT_MAX_PLAIN_LENGTH + SHIM_RECORD_OVERHEAD) {
            if (c->n > 0) {
                break;
            }
            // Padding makes a record of any length as long as the longest. Half a record would stay
            // inside libssl, which wants the same plaintext again then: a caller whose deadline
            // passes would have to know.
            end(c, &q, 1);
            return c->verdict = SSL_ERROR_WANT_WRITE;
        }
        size_t sent = 0;
        ret = SSL_write_ex(c->ssl, p + c->n, len, &sent);
        c->n += sent;
    }
    return end(c, &q, ret);
}

// drop_input reads what is there and forgets it. It returns what end wants: what the read came to
// if it failed.
static int drop_input(shim_conn *c) {
    unsigned char scrap[1024];
    size_t got;
    int ret;
    do {
        ret = SSL_read_ex(c->ssl, scrap, sizeof scrap, &got);
    } while (ret > 0);
    int want = SSL_get_error(c->ssl, ret);
    return want == SSL_ERROR_SSL || want == SSL_ERROR_SYSCALL ? ret : 1;
}

// In C because the BIO reads and writes Go's buffers, and because it can fail. 0, close_notify sent
// and none received yet, is no error; a second call would go on to read, and lose what the peer
// still sends. That is wanted where there is input, which Close drops.
int shim_SSL_shutdown(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                      size_t out_cap) {
    event_queue q;
    begin(c, &q, in, in_len, out, out_cap);
    if ((SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) == 0) {
        if (!may_write(c, &q)) {
            return c->verdict;
        }
        int ret = SSL_shutdown(c->ssl);
        if (ret < 0) {
            return end(c, &q, ret);
        }
    }
    // After a quiet shutdown libssl reads no more, and has no reason for that.
    return end(c, &q, in_len > 0 && !SSL_get_quiet_shutdown(c->ssl) ? drop_input(c) : 1);
}

// In C because the BIO writes to Go's buffer, and because asking and sending are one question. A
// peek sends, for the reason that may_write has. n says whether libssl was willing at all. One that
// runs already is the one: asked in its middle, a client goes on afterwards as if a message of the
// server's had begun another, and takes data for an error; and a server's second request may arrive
// after the first is over, and be answered by a ClientHello that the server did not expect.
int shim_SSL_renegotiate(shim_conn *c, unsigned char *out, size_t out_cap) {
    event_queue q;
    begin(c, &q, NULL, 0, out, out_cap);
    int ret = 1;
    if (!SSL_in_init(c->ssl) && !SSL_renegotiate_pending(c->ssl)) {
        ret = SSL_renegotiate(c->ssl);
    }
    if (ret == 1) {
        unsigned char first;
        size_t got;
        c->n = 1;
        ret = SSL_peek_ex(c->ssl, &first, 1, &got);
    }
    return end(c, &q, ret);
}

// In C because the BIO writes to Go's buffer, and because asking and sending are one question.
int shim_SSL_key_update(shim_conn *c, unsigned char *out, size_t out_cap, int ask_peer) {
    event_queue q;
    begin(c, &q, NULL, 0, out, out_cap);
    int ret =
        SSL_key_update(c->ssl, ask_peer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    return end(c, &q, ret == 1 ? SSL_do_handshake(c->ssl) : ret);
}

// In C because the BIO writes to Go's buffer, and because asking and sending are one question.
int shim_SSL_new_session_ticket(shim_conn *c, unsigned char *out, size_t out_cap) {
    event_queue q;
    begin(c, &q, NULL, 0, out, out_cap);
    int ret = SSL_new_session_ticket(c->ssl);
    return end(c, &q, ret == 1 ? SSL_do_handshake(c->ssl) : ret);
}

// In C because the BIO writes to Go's buffer, and because asking and sending are one question.
int shim_SSL_verify_client_post_handshake(shim_conn *c, unsigned char *out, size_t out_cap) {
    event_queue q;
    begin(c, &q, NULL, 0, out, out_cap);
    int ret = SSL_verify_client_post_handshake(c->ssl);
    return end(c, &q, ret == 1 ? SSL_do_handshake(c->ssl) : ret);
}

// ---- The ClientHello ----

static unsigned char *put(unsigned char *p, const unsigned char *from, size_t n) {
    memcpy(p, from, n);
    return p + n;
}

static unsigned char *put16(unsigned char *p, size_t n) {
    *p++ = (unsigned char)(n >> 8);
    *p++ = (unsigned char)n;
    return p;
}

// write_hello copies what libssl lends for the time of the callback only, in the message's own form
// without its random and compression: version, session ID, cipher suites and all extensions.
static int write_hello(shim_conn *c) {
    const unsigned char *id, *ciphers, *ext;
    size_t id_len = SSL_client_hello_get0_session_id(c->ssl, &id);
    size_t ciphers_len = SSL_client_hello_get0_ciphers(c->ssl, &ciphers);
    size_t len = 2 + 1 + id_len + 2 + ciphers_len, n, ext_len;
    int *types;
    if (SSL_client_hello_get1_extensions_present(c->ssl, &types, &n) != 1) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (SSL_client_hello_get0_ext(c->ssl, (unsigned int)types[i], &ext, &ext_len) == 1) {
            len += 4 + ext_len;
        }
    }
    unsigned char *p = c->hello = calloc(1, len);
    if (p != NULL) {
        p = put16(p, SSL_client_hello_get0_legacy_version(c->ssl));
        *p++ = (unsigned char)id_len;
        p = put(p, id, id_len);
        if (SHIM_client_hello_isv2(c->ssl)) { // whose cipher suites are three bytes long
            ciphers_len = 0;
        }
        p = put(put16(p, ciphers_len), ciphers, ciphers_len);
        for (size_t i = 0; i < n; i++) {
            if (SSL_client_hello_get0_ext(c->ssl, (unsigned int)types[i], &ext, &ext_len) == 1) {
                p = put(put16(put16(p, (size_t)types[i]), ext_len), ext, ext_len);
            }
        }
        c->hello_len = (size_t)(p - c->hello);
    }
    OPENSSL_free(types);
    return c->hello != NULL;
}

static int enables_tls13(SSL *ssl) {
    long max = SSL_get_max_proto_version(ssl);
    return (SSL_get_options(ssl) & SSL_OP_NO_TLSv1_3) == 0 && (max == 0 || max >= TLS1_3_VERSION);
}

// note_allowed notes how libssl will look for a session. What the client asks for is Go's to read.
static void note_allowed(shim_conn *c) {
    uint64_t options = SSL_get_options(c->ssl);
    long mode = SSL_CTX_get_session_cache_mode(c->first_ctx);
    int no_ticket = (options & SSL_OP_NO_TICKET) != 0;
    c->hello_allows = enables_tls13(c->ssl) ? SHIM_ALLOWS_TLS13 : 0;
    if (!no_ticket) {
        c->hello_allows |= SHIM_ALLOWS_TICKETS;
    }
    if (no_ticket ||
        (SSL_get_max_early_data(c->ssl) > 0 && (options & SSL_OP_NO_ANTI_REPLAY) == 0)) {
        c->hello_allows |= SHIM_ALLOWS_STATEFUL;
    }
    if ((mode & SSL_SESS_CACHE_NO_INTERNAL_LOOKUP) == 0) {
        c->hello_allows |= SHIM_ALLOWS_INTERNAL;
    }
}

// note_name keeps the extension with the name that the client asks for, which libssl forgets when
// it resumes a session of TLS 1.2. Go reads it. It returns 0 for one that is too long for a name,
// which libssl refuses where it does not resume.
static int note_name(shim_conn *c) {
    const unsigned char *ext;
    size_t len;
    c->asked_name_len = 0;
    if (SSL_client_hello_get0_ext(c->ssl, TLSEXT_TYPE_server_name, &ext, &len) != 1) {
        return 1;
    }
    if (len > sizeof c->asked_name) {
        return 0;
    }
    memcpy(c->asked_name, ext, len);
    c->asked_name_len = len;
    return 1;
}

// digest_choice makes a digest of what a hook chooses by, the name and the protocols that the
// client asks for; 0 without memory.
static int digest_choice(shim_conn *c, unsigned char digest[SHA256_DIGEST_LENGTH]) {
    const unsigned int types[] = {TLSEXT_TYPE_server_name,
                                  TLSEXT_TYPE_application_layer_protocol_negotiation};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; ok && i < sizeof types / sizeof *types; i++) {
        const unsigned char *ext = NULL;
        size_t len = 0;
        int has = SSL_client_hello_get0_ext(c->ssl, types[i], &ext, &len) == 1;
        ok = EVP_DigestUpdate(md, &has, sizeof has) == 1 &&
             EVP_DigestUpdate(md, &len, sizeof len) == 1 &&
             (len == 0 || EVP_DigestUpdate(md, ext, len) == 1);
    }
    ok = ok && EVP_DigestFinal_ex(md, digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    return ok;
}

// goes_on_alike says whether a later ClientHello asks for what the hook has chosen by.
static int goes_on_alike(shim_conn *c, int *alert) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    if (!c->hello_has_choice) {
        return 1;
    }
    *alert = SSL_AD_INTERNAL_ERROR;
    if (!digest_choice(c, digest)) {
        return 0;
    }
    *alert = SSL_AD_ILLEGAL_PARAMETER;
    return memcmp(digest, c->hello_choice, sizeof digest) == 0;
}

// set_ctx changes to the context that Go chose, whose certificate and trust count from now on. What
// it asks of the client must, too, and libssl leaves that as it was.
static int set_ctx(SSL *ssl, SSL_CTX *ctx) {
    ctx_book *book = book_of(conn_of(ssl)->first_ctx);
    if (book != NULL) {
        book->shared = 1;
    }
    if (SSL_set_SSL_CTX(ssl, ctx) != ctx || SSL_set1_param(ssl, SSL_CTX_get0_param(ctx)) != 1) {
        return 0;
    }
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), SSL_CTX_get_verify_callback(ctx));
    return 1;
}

// on_client_hello stops the handshake until Go has an answer. A second ClientHello (after a request
// to try again, or to renegotiate) goes on with the first one's, also when the hook is gone.
static int on_client_hello(SSL *ssl, int *alert, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    if (c == NULL) {
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    if (c->hello_state == SHIM_HELLO_ANSWERED && !goes_on_alike(c, alert)) {
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (!note_name(c)) {
        *alert = SSL_AD_DECODE_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (c->hello_state == SHIM_HELLO_ANSWERED) {
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    *alert = SSL_AD_INTERNAL_ERROR;
    if (c->hello_state == SHIM_HELLO_EXPECTED) {
        if (!c->ask_hello) {
            return SSL_CLIENT_HELLO_SUCCESS;
        }
        note_allowed(c);
        c->hello_state = SHIM_HELLO_ASKED;
        c->hello_has_choice = digest_choice(c, c->hello_choice);
        return c->hello_has_choice && write_hello(c) ? SSL_CLIENT_HELLO_RETRY
                                                     : SSL_CLIENT_HELLO_ERROR;
    }
    c->hello_state = SHIM_HELLO_ANSWERED;
    if (c->hello_refused) {
        *alert = c->hello_alert;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (c->hello_ctx != NULL && !set_ctx(ssl, c->hello_ctx)) {
        return SSL_CLIENT_HELLO_ERROR;
    }
    SSL_CTX_free(c->hello_ctx); // the SSL has its own reference now
    c->hello_ctx = NULL;
    return SSL_CLIENT_HELLO_SUCCESS;
}

// on_get_session gives libssl the session that was looked up while the handshake was suspended, or
// asks Go's hook. What it asks twice for (after a request to try again) it is given twice.
static SSL_SESSION *find_session(shim_conn *c, const unsigned char *id, int len, int *up_ref) {
    if (c->found != NULL && (size_t)len == c->wanted_len &&
        memcmp(id, c->wanted, (size_t)len) == 0) {
        *up_ref = !c->given;
        if (c->given) { // libssl may have added it to its cache, and must not do so twice
            return dup_session(c->found);
        }
        c->given = 1;
        return c->found;
    }
    *up_ref = 0; // Go gives a reference away
    return c->get_hook == 0 ? NULL : goGetSession(c->get_hook, (unsigned char *)id, len);
}

static SSL_SESSION *on_get_session(SSL *ssl, const unsigned char *id, int len, int *up_ref) {
    shim_conn *c = conn_of(ssl);
    if (c == NULL) { // of other code: a Context answers
        const ctx_book *book = book_of(SSL_get_SSL_CTX(ssl));
        *up_ref = 0;
        return book == NULL ? NULL : goGetSessionElsewhere(book->number, (unsigned char *)id, len);
    }
    SSL_SESSION *s = find_session(c, id, len, up_ref);
    if (s != NULL && !may_resume(c, s, NULL)) {
        if (!*up_ref) {
            SSL_SESSION_free(s);
        }
        return NULL;
    }
    return s;
}

// In C because the callback is a C function. One that is set and is not the shim's belongs to other
// code, and stays.
shim_long shim_SSL_CTX_sess_set_get_cb(SSL_CTX *ctx, int on) {
    SSL_SESSION *(*is)(SSL *, const unsigned char *, int, int *) = SSL_CTX_sess_get_get_cb(ctx);
    if (is != NULL && is != on_get_session) {
        return verdict(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_sess_set_get_cb(ctx, on ? on_get_session : NULL);
    return verdict(1, 1);
}

// In C because libssl wants to be told in the callback.
void shim_SSL_set_SSL_CTX(shim_conn *c, SSL_CTX *ctx) {
    SSL_CTX_up_ref(ctx);
    c->hello_ctx = ctx;
}

// In C because the callback is a C function. It stays: without ask_hello it does nothing. chooses
// says that a hook may choose other contexts.
void shim_SSL_CTX_set_client_hello_cb(SSL_CTX *ctx, int chooses) {
    ctx_book *book = book_of(ctx);
    if (chooses && book != NULL) {
        book->shared = 1;
    }
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
}

// Connecting with a session that has a ticket and no ID writes to the offered object itself when
// the server declines the ticket: a new ID, which is its key in a cache, and a new certificate
// chain, over the old one, which is lost. (One that is not resumable is not offered at all.)
static int is_rewritten_by_client(const SSL_SESSION *s) {
    unsigned int n;
    SSL_SESSION_get_id(s, &n);
    return n == 0 && SSL_SESSION_is_resumable(s);
}

static int copy_values_to(SSL_SESSION *to, const SSL_SESSION *from);

// What goes through DER has no chain that could be lost.
static SSL_SESSION *copy_by_der(SSL_SESSION *s) {
    unsigned char *der = NULL;
    int n = i2d_SSL_SESSION(s, &der);
    const unsigned char *p = der;
    SSL_SESSION *copied = n <= 0 ? NULL : d2i_SSL_SESSION(NULL, &p, n);
    OPENSSL_clear_free(der, n <= 0 ? 0 : (size_t)n);
    if (copied != NULL && !copy_values_to(copied, s)) {
        SSL_SESSION_free(copied);
        return NULL;
    }
    return copied;
}

// In C because it can fail, and because what must not be offered as it is belongs to the same
// question. The SSL may be of other code.
shim_long shim_SSL_set_session(SSL *ssl, SSL_SESSION *s, int private_copy) {
    clear_errors();
    const shim_conn *c = conn_of(ssl);
    if (s != NULL && without_cipher(s)) {
        return verdict(SHIM_REFUSED_NO_CIPHER, 1);
    }
    private_copy = private_copy || (c != NULL && c->has_ticket_ext);
    int rewritten = s != NULL && is_rewritten_by_client(s);
    SSL_SESSION *copied = NULL;
    if (rewritten) {
        copied = copy_by_der(s);
    } else if (s != NULL && private_copy) {
        copied = dup_session(s);
    }
    if (copied == NULL && s != NULL && (rewritten || private_copy)) {
        return verdict(0, 0);
    }
    int ok = SSL_set_session(ssl, copied != NULL ? copied : s);
    SSL_SESSION_free(copied);
    return settled(ok, ok == 1);
}

// forget_name has any name do: what an earlier call set would have to match too.
static void forget_name(shim_conn *c) {
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    X509_VERIFY_PARAM_set1_ip(param, NULL, 0);
    X509_VERIFY_PARAM_set1_host(param, NULL, 0);
}

// is_no_host says whether it is the name that libssl does not take. 4.0 looks at names, and says
// no more of it than of a lack of memory.
static int is_no_host(const char *name) {
    X509_VERIFY_PARAM *other = X509_VERIFY_PARAM_new();
    int is_not = other != NULL && X509_VERIFY_PARAM_set1_host(other, "localhost", 0) == 1 &&
                 X509_VERIFY_PARAM_set1_host(other, name, 0) != 1;
    X509_VERIFY_PARAM_free(other);
    return is_not;
}

// In C because it is a macro and three calls, and can fail. A name is also sent to the server; SNI
// has no addresses, which have a length n. n is SHIM_REFUSED_NAME if it is the name's fault.
shim_long shim_SSL_set_tlsext_host_name(shim_conn *c, const char *name,
                                        const unsigned char *address, size_t n) {
    clear_errors();
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    forget_name(c);
    SSL_set_tlsext_host_name(c->ssl, NULL);
    c->named = SHIM_NAME_NONE;
    c->any_name = 0;
    X509_VERIFY_PARAM_set_hostflags(param, X509_VERIFY_PARAM_get_hostflags(param) | HOST_FLAGS);
    int ok;
    if (n > 0) {
        ok = X509_VERIFY_PARAM_set1_ip(param, address, n) == 1;
    } else {
        ok = X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
             SSL_set_tlsext_host_name(c->ssl, name) == 1;
    }
    if (ok && n > 0) {
        memcpy(c->address, address, n);
        c->address_len = n;
        c->named = SHIM_NAME_ADDRESS;
    } else if (ok) {
        memcpy(c->name, name, strlen(name) + 1); // libssl takes no more than there is room for
        c->named = SHIM_NAME_HOST;
    }
    if (!ok && n == 0 && ERR_peek_error() == 0 && is_no_host(name)) {
        return verdict(SHIM_REFUSED_NAME, 1);
    }
    return settled(ok, ok);
}

// In C because it is two calls.
void shim_SSL_get0_param(shim_conn *c) {
    forget_name(c);
    c->any_name = 1;
}

// Whether libssl will still write to the connection's session, its key included: in a handshake,
// also one in the middle of traffic (which one that ended in an error is not); before it, if it is
// to be written to when it is declined; after it, in a TLS 1.3 server before its first ticket,
// which is what gives the session its ID.
static int is_still_written(const SSL *ssl, const SSL_SESSION *s, int broken) {
    unsigned int n;
    SSL_SESSION_get_id(s, &n);
    if (SSL_in_before(ssl)) {
        return is_rewritten_by_client(s);
    }
    if (!SSL_is_init_finished(ssl)) { // which is more than SSL_in_init: early data is not in it
        return !broken;
    }
    return n == 0 && SSL_is_server(ssl) && SSL_version(ssl) == TLS1_3_VERSION;
}

// In C because what must not be given away as it is is copied in the same crossing. p is the
// caller's reference, or NULL with no errors when the connection has no session. The SSL may be of
// other code.
shim_session shim_SSL_get1_session(SSL *ssl, int broken) {
    clear_errors();
    shim_session r = {SSL_get1_session(ssl), 0, NULL};
    if (r.p != NULL && is_still_written(ssl, r.p, broken)) {
        SSL_SESSION *live = r.p;
        r = shim_SSL_SESSION_dup(live);
        SSL_SESSION_free(live);
    }
    return r;
}

static SSL_SESSION *resumed_copy(const shim_conn *c) {
    const unsigned char *p = c->resumed_der;
    return p == NULL ? NULL : d2i_SSL_SESSION(NULL, &p, c->resumed_len);
}

// In C because it can fail, and because it is a copy of what there is in this crossing. p is the
// caller's reference, or NULL with no errors when nothing was resumed.
shim_session shim_SSL_get1_resumed_session(shim_conn *c) {
    clear_errors();
    if (c->resumed != NULL && SSL_session_reused(c->ssl)) {
        return shim_SSL_SESSION_dup(c->resumed);
    }
    shim_session r = {resumed_copy(c), 1, NULL};
    if (r.p == NULL && c->resumed_der != NULL) {
        r.errs = take_errors();
    }
    clear_errors();
    return r;
}

// In C because it is one question: whether a TLS 1.3 client has a ticket of this connection's.
int shim_SSL_has_new_ticket(shim_conn *c) {
    const SSL_SESSION *s = SSL_get_session(c->ssl);
    if (s == NULL || !SSL_SESSION_has_ticket(s)) {
        return 0;
    }
    SSL_SESSION *before = resumed_copy(c);
    int has = before == NULL || !same_ticket(s, before);
    SSL_SESSION_free(before);
    clear_errors();
    return has;
}

// The next two are in C because pointer and length are one answer.
shim_view shim_SSL_get0_alpn_selected(shim_conn *c) {
    shim_view r = {NULL, 0};
    SSL_get0_alpn_selected(c->ssl, &r.p, &r.n);
    return r;
}

shim_view shim_SSL_get_tlsext_status_ocsp_resp(shim_conn *c) {
    const unsigned char *p = NULL;
    long n = SSL_get_tlsext_status_ocsp_resp(c->ssl, &p);
    shim_view r = {p, n > 0 ? (unsigned int)n : 0};
    return r;
}

// In C because a chain is one answer. A connection that resumed a session has none: it is made
// again, if the store alone can.
shim_chain shim_SSL_get0_verified_chain(shim_conn *c) {
    shim_chain r = {{NULL, 0, 0, NULL}, 0};
    STACK_OF(X509) *chain = SSL_get0_verified_chain(c->ssl), *rebuilt = NULL;
    X509 *leaf = SSL_get0_peer_certificate(c->ssl);
    if (leaf == NULL) {
        return r;
    }
    if (sk_X509_num(chain) <= 0 || X509_cmp(sk_X509_value(chain, 0), leaf) != 0) {
        chain = NULL; // or it is that of an earlier handshake
        if (verify_again(c->ssl, leaf, SSL_get_peer_cert_chain(c->ssl), &rebuilt) == X509_V_OK) {
            chain = rebuilt;
        }
    }
    if (chain != NULL) {
        r.der = write_certs(NULL, chain);
    } else {
        r.pool = pool_of(c->ssl);
    }
    sk_X509_pop_free(rebuilt, X509_free);
    clear_errors();
    return r;
}

// In C because what is borrowed is written in the same crossing. The certificate that a handshake
// failed by is the first of what libssl could make a chain of.
shim_bytes shim_SSL_rejected_certificate(shim_conn *c) {
    STACK_OF(X509) *chain = SSL_get0_verified_chain(c->ssl);
    return write_certs(sk_X509_num(chain) > 0 ? sk_X509_value(chain, 0) : NULL, NULL);
}

// In C because it is a macro, and because the numbers of libssl are not those at IANA. 0 is none,
// or one that is not known.
int shim_SSL_get_negotiated_group(shim_conn *c) {
    long group = SSL_get_negotiated_group(c->ssl);
    switch (group) {
    case NID_X9_62_prime256v1:
        return 23;
    case NID_secp384r1:
        return 24;
    case NID_secp521r1:
        return 25;
    case NID_X25519:
        return 29;
    case NID_X448:
        return 30;
    }
    return (group & TLSEXT_nid_unknown) != 0 ? (int)(group & 0xffff) : 0;
}

// In C because it can fail, and because what makes the result this connection's alone is one
// question with it.
shim_long shim_SSL_export_keying_material(shim_conn *c, unsigned char *out, size_t n,
                                          const char *label, size_t label_len,
                                          const unsigned char *context, size_t context_len,
                                          int use_context) {
    clear_errors();
    if (SSL_version(c->ssl) < TLS1_3_VERSION && SSL_get_extms_support(c->ssl) != 1) {
        return verdict(SHIM_REFUSED_NO_EXTMS, 1);
    }
    int ok = SSL_export_keying_material(c->ssl, out, n, label_len == 0 ? "" : label, label_len,
                                        or_empty(context, context_len), context_len, use_context);
    return settled(ok, ok == 1);
}

// In C because what is borrowed is written in the same crossing, which can fail. The names are DER,
// one after the other; p is NULL without errors if there are none.
shim_bytes shim_SSL_get0_peer_CA_list(shim_conn *c) {
    clear_errors();
    const STACK_OF(X509_NAME) *names = SSL_get0_peer_CA_list(c->ssl);
    BIO *bio = BIO_new(BIO_s_mem());
    int ok = bio != NULL;
    for (int i = 0; ok && i < sk_X509_NAME_num(names); i++) {
        unsigned char *der = NULL;
        int n = i2d_X509_NAME(sk_X509_NAME_value(names, i), &der);
        ok = n > 0 && BIO_write(bio, der, n) == n;
        OPENSSL_free(der);
    }
    return take_bio(bio, ok);
}

// ---- SSL_SESSION: attributes ----

// libssl finds a cipher suite for a connection, or by reading a session; the second needs nothing.
// The object is static.
static const SSL_CIPHER *find_cipher(unsigned int id) {
    // Versions of the format and of the protocol, cipher suite, no ID, no master key.
    unsigned char der[] = {0x30, 15, 2, 1, 1, 2, 2, 3, 3, 4, 2, 0, 0, 4, 0, 4, 0};
    der[11] = (unsigned char)(id >> 8);
    der[12] = (unsigned char)id;
    const unsigned char *p = der;
    SSL_SESSION *s = d2i_SSL_SESSION(NULL, &p, (long)sizeof der);
    const SSL_CIPHER *c = s == NULL ? NULL : SSL_SESSION_get0_cipher(s);
    SSL_SESSION_free(s);
    return c;
}

// In C because finding the cipher suite can fail; n is 0, without errors, if there is none. 0 is
// none and always good, and a signal to the peer is no cipher suite.
shim_long shim_SSL_SESSION_set_cipher(SSL_SESSION *s, unsigned int id) {
    clear_errors();
    int signal = id == (SSL3_CK_SCSV & 0xffff) || id == (SSL3_CK_FALLBACK_SCSV & 0xffff);
    const SSL_CIPHER *c = id == 0 || signal ? NULL : find_cipher(id);
    if (c == NULL && id != 0) {
        return verdict(0, signal); // there is no entry of one that does not exist
    }
    int ok = SSL_SESSION_set_cipher(s, c);
    return verdict(ok, ok == 1);
}

// The next two are in C because they can fail.
shim_long shim_SSL_SESSION_set1_master_key(SSL_SESSION *s, const unsigned char *key, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_master_key(s, or_empty(key, n), n);
    return verdict(ok, ok == 1);
}

shim_long shim_SSL_SESSION_set1_hostname(SSL_SESSION *s, const char *name) {
    clear_errors();
    int ok = SSL_SESSION_set1_hostname(s, name);
    return verdict(ok, ok == 1);
}

// In C because pointer and length are one answer.
shim_view shim_SSL_SESSION_get0_alpn_selected(const SSL_SESSION *s) {
    shim_view r = {NULL, 0};
    size_t n = 0;
    SSL_SESSION_get0_alpn_selected(s, &r.p, &n);
    r.n = r.p == NULL ? 0 : (unsigned int)n;
    return r;
}

// In C because it can fail.
shim_long shim_SSL_SESSION_set1_alpn_selected(SSL_SESSION *s, const unsigned char *p, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_alpn_selected(s, p, n);
    return verdict(ok, ok == 1);
}

// The next two are in C because pointer and length are one answer.
shim_view shim_SSL_SESSION_get0_ticket(const SSL_SESSION *s) {
    shim_view r = {NULL, 0};
    size_t n = 0;
    SSL_SESSION_get0_ticket(s, &r.p, &n);
    r.n = r.p == NULL ? 0 : (unsigned int)n;
    return r;
}

shim_view shim_SSL_SESSION_get0_ticket_appdata(SSL_SESSION *s) {
    shim_view r = {NULL, 0};
    void *p = NULL;
    size_t n = 0;
    SSL_SESSION_get0_ticket_appdata(s, &p, &n);
    r.p = p;
    r.n = p == NULL ? 0 : (unsigned int)n;
    return r;
}

// In C because it can fail.
shim_long shim_SSL_SESSION_set1_ticket_appdata(SSL_SESSION *s, const unsigned char *p, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_ticket_appdata(s, p, n);
    return verdict(ok, ok == 1);
}

// In C because what is borrowed is written in the same crossing, which can fail. p is NULL without
// errors if there is no certificate.
shim_bytes shim_SSL_SESSION_get0_peer(SSL_SESSION *s) {
    return write_certs(SSL_SESSION_get0_peer(s), NULL);
}

// In C because what is borrowed is written in the same crossing, which can fail. p is NULL without
// errors if there is no key.
shim_bytes shim_SSL_SESSION_get0_peer_rpk(SSL_SESSION *s) {
    clear_errors();
    shim_bytes r = {NULL, 0, 0, NULL};
    EVP_PKEY *key = SSL_SESSION_get0_peer_rpk(s);
    int n = key == NULL ? 0 : i2d_PUBKEY(key, &r.p);
    if (n > 0) {
        r.n = (size_t)n;
    } else if (key != NULL) {
        r.errs = take_errors();
    }
    return r;
}

// In C because it can fail and writes to a BIO.
shim_bytes shim_SSL_SESSION_print_keylog(const SSL_SESSION *s) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    return take_bio(bio, bio != NULL && SSL_SESSION_print_keylog(bio, s) == 1);
}

// ---- SSL_SESSION: values of Go's ----

// What the session keeps is the number of its values and no pointer; 0 is none. Every object has a
// number of its own: a copy, libssl's own copies included, gets another one for the same values.

static atomic_int values_index = -1;

static int copy_values(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, shim_ex_value from_d,
                       int idx, long argl, void *argp) {
    (void)to, (void)from, (void)idx, (void)argl, (void)argp;
    void **values = (void **)from_d;
    if (*values != NULL) {
        *values = (void *)goCopyValues((uintptr_t)*values);
    }
    return 1;
}

static void forget_values(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                          void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    if (ptr != NULL) {
        goForgetValues((uintptr_t)ptr);
    }
}

static int make_values_index(void) {
    return SSL_SESSION_get_ex_new_index(0, NULL, NULL, copy_values, forget_values);
}

// copy_values_to does by hand what SSL_SESSION_dup does by itself.
static int copy_values_to(SSL_SESSION *to, const SSL_SESSION *from) {
    if (values_index < 0) { // then nobody has any
        return 1;
    }
    pthread_rwlock_rdlock(&values_lock);
    uintptr_t values = (uintptr_t)SSL_SESSION_get_ex_data(from, values_index);
    uintptr_t copied = values == 0 ? 0 : goCopyValues(values);
    pthread_rwlock_unlock(&values_lock);
    if (copied == 0 || SSL_SESSION_set_ex_data(to, values_index, (void *)copied) == 1) {
        return 1;
    }
    goForgetValues(copied);
    return 0;
}

// In C because the index is made by the first who sets values.
uintptr_t shim_SSL_SESSION_get_ex_data(const SSL_SESSION *s) {
    return values_index < 0 ? 0 : (uintptr_t)SSL_SESSION_get_ex_data(s, values_index);
}

// In C because it can fail. The session takes over the number.
shim_long shim_SSL_SESSION_set_ex_data(SSL_SESSION *s, uintptr_t values) {
    clear_errors();
    if (!made(&values_index, make_values_index)) {
        return verdict(0, 0);
    }
    pthread_rwlock_wrlock(&values_lock);
    int ok = SSL_SESSION_set_ex_data(s, values_index, (void *)values);
    pthread_rwlock_unlock(&values_lock);
    return verdict(ok, ok == 1);
}

// ---- SSL_SESSION: what was moved ----

// A session that was added to a context after it belonged to another has a note for Go, which hears
// of its end. A copy was not moved.

static atomic_int moved_index = -1;

static int drop_note(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, shim_ex_value from_d, int idx,
                     long argl, void *argp) {
    (void)to, (void)from, (void)idx, (void)argl, (void)argp;
    *(void **)from_d = NULL;
    return 1;
}

static void forget_note(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                        void *argp) {
    (void)ad, (void)idx, (void)argl, (void)argp;
    if (ptr != NULL) {
        goForgetMoved(parent);
    }
}

static int make_moved_index(void) {
    return SSL_SESSION_get_ex_new_index(0, NULL, NULL, drop_note, forget_note);
}

// In C because it can fail, and because the index is made by the first who moves one.
shim_long shim_session_note_moved(SSL_SESSION *s) {
    clear_errors();
    if (!made(&moved_index, make_moved_index)) {
        return verdict(0, 0);
    }
    pthread_rwlock_wrlock(&values_lock);
    int ok = SSL_SESSION_get_ex_data(s, moved_index) != NULL ||
             SSL_SESSION_set_ex_data(s, moved_index, s) == 1;
    pthread_rwlock_unlock(&values_lock);
    return verdict(ok, ok);
}

// ---- SSL_CTX and SSL: attributes ----

static void take_cached(void *cached, void *arg) {
    shim_sessions *r = arg;
    if (SSL_SESSION_up_ref(cached) == 1) {
        r->p[r->n++] = cached;
    }
}

// In C because libssl calls back for each session, and because a cache is one question. Nobody else
// uses the cache meanwhile: it is not locked.
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

// ---- What a server issues: session IDs and tickets ----

// The bytes of a key are those of SSL_CTX_set_tlsext_ticket_keys, in its order.
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

// issue_rules belong to an SSL_CTX. They change while nobody is inside of it.
typedef struct {
    size_t prefix_len;
    unsigned char prefix[SSL_MAX_SSL_SESSION_ID_LENGTH];
    ticket_ring *ring;
} issue_rules;

static atomic_int rules_index = -1;

static void free_rules(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                       void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    issue_rules *r = ptr;
    if (r != NULL) {
        free_ring(r->ring);
        free(r);
    }
}

static int make_rules_index(void) {
    return SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_rules);
}

// own_rules returns the rules of ctx, which it makes if there are none; NULL if it cannot.
static issue_rules *own_rules(SSL_CTX *ctx) {
    if (!made(&rules_index, make_rules_index)) {
        return NULL;
    }
    issue_rules *r = SSL_CTX_get_ex_data(ctx, rules_index);
    if (r == NULL && (r = calloc(1, sizeof *r)) != NULL &&
        SSL_CTX_set_ex_data(ctx, rules_index, r) != 1) {
        free(r);
        r = NULL;
    }
    return r;
}

// rules_of returns the rules for a connection, which are those of the context whose cache it uses;
// c is NULL for an SSL that other code made.
static const issue_rules *rules_of(const shim_conn *c, const SSL *ssl) {
    return SSL_CTX_get_ex_data(c != NULL ? c->first_ctx : SSL_get_SSL_CTX(ssl), rules_index);
}

// libssl tries as often to find an ID that its cache does not have.
#define ID_ATTEMPTS 10

// on_generate_id makes the ID that Go's hook has; or a random one, after the prefix.
static int on_generate_id(SSL *ssl, unsigned char *id, unsigned int *n) {
    shim_conn *c = conn_of(ssl);
    long made = c == NULL || c->ask == 0 ? SHIM_ID_NO_HOOK : goGenerateID(c->ask, id, *n);
    if (made == SHIM_ID_FAILED) {
        return 0;
    }
    if (made != SHIM_ID_NO_HOOK) {
        *n = (unsigned int)made; // libssl judges it
        return 1;
    }
    const issue_rules *r = rules_of(c, ssl);
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

// In C because it can fail, and because the callback is a C function. The prefix is copied.
shim_long shim_SSL_CTX_set_generate_session_id(SSL_CTX *ctx, int on, const unsigned char *prefix,
                                               size_t n) {
    clear_errors();
    issue_rules *r = own_rules(ctx);
    if (r == NULL || n > sizeof r->prefix) {
        return verdict(0, 0);
    }
    int ok = SSL_CTX_set_generate_session_id(ctx, on ? on_generate_id : NULL);
    if (ok == 1) {
        r->prefix_len = n;
        if (n > 0) {
            memcpy(r->prefix, prefix, n);
        }
    }
    return verdict(ok, ok == 1);
}

// In C because it can fail, and because the callback is a C function. Without a callback of its own
// a connection uses its context's.
shim_long shim_SSL_set_generate_session_id(shim_conn *c, int on) {
    clear_errors();
    int ok = made(&rules_index, make_rules_index) &&
             SSL_set_generate_session_id(c->ssl, on ? on_generate_id : NULL) == 1;
    return verdict(ok, ok == 1);
}

// In C because the length is an unsigned int. It fails for a long ID only, and queues nothing.
int shim_SSL_has_matching_session_id(shim_conn *c, const unsigned char *id, size_t n) {
    return SSL_has_matching_session_id(c->ssl, or_empty(id, n), (unsigned int)n);
}

// In C because it can fail.
shim_long shim_SSL_set_session_id_context(shim_conn *c, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_set_session_id_context(c->ssl, or_empty(id, n), (unsigned int)n);
    return verdict(ok, ok == 1);
}

static int on_not_resumable(SSL *ssl, int is_forward_secure) {
    shim_conn *c = conn_of(ssl);
    return c != NULL && c->ask != 0 && !c->aborted && goNotResumable(c->ask, is_forward_secure);
}

// The next two are in C because the callback is a C function.
void shim_SSL_CTX_set_not_resumable_session_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_not_resumable_session_callback(ctx, on ? on_not_resumable : NULL);
}

void shim_SSL_set_not_resumable_session_callback(shim_conn *c, int on) {
    SSL_set_not_resumable_session_callback(c->ssl, on ? on_not_resumable : NULL);
}

// In C because it is a macro that can fail, and because libssl is asked for the length first.
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
    r.errs = r.p == NULL ? take_errors() : NULL;
    return r;
}

// In C because it is a macro that can fail, and because libssl is asked for the length first: n is
// minus that length if the keys do not have it.
shim_long shim_SSL_CTX_set_tlsext_ticket_keys(SSL_CTX *ctx, const unsigned char *keys, size_t n) {
    clear_errors();
    long want = SSL_CTX_get_tlsext_ticket_keys(ctx, NULL, 0);
    if (n != (size_t)want) {
        return verdict(-want, 1);
    }
    long ok = SSL_CTX_set_tlsext_ticket_keys(ctx, (void *)keys, (long)n);
    return verdict(ok, ok == 1);
}

// on_ticket_key sets the ciphers of one ticket up: for a new one the first key of the ring and a
// random IV, for one that came the key that it names. 0 is an unknown key: a full handshake. 2 is
// an old one: the client gets a new ticket.
static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         EVP_MAC_CTX *mac, int encrypts) {
    const issue_rules *r = rules_of(conn_of(ssl), ssl);
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

// In C because it can fail, and because the callback is a C function. The keys are copied; none at
// all are libssl's own.
shim_long shim_SSL_CTX_set_tlsext_ticket_key_evp_cb(SSL_CTX *ctx, const unsigned char *keys,
                                                    size_t n, size_t n_next) {
    clear_errors();
    issue_rules *r = own_rules(ctx);
    ticket_ring *ring = NULL;
    size_t size = n * sizeof ring->keys[0];
    if (r == NULL || (n > 0 && (ring = OPENSSL_malloc(sizeof *ring + size)) == NULL)) {
        return verdict(0, 0);
    }
    if (ring != NULL) {
        ring->n = n;
        ring->n_next = n_next;
        memcpy(ring->keys, keys, size);
    }
    if (SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ring == NULL ? NULL : on_ticket_key) != 1) {
        free_ring(ring);
        return verdict(0, 0);
    }
    free_ring(r->ring);
    r->ring = ring;
    return verdict(1, 1);
}

// on_generate_ticket has Go say what to put into a ticket. Go sees a copy of the session. One that
// TLS 1.2 resumed from the cache, and makes a ticket for because the client asks, is shared with
// other connections, which read what would be changed: it keeps what it has.
static int on_generate_ticket(SSL *ssl, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    if (c == NULL || c->ask == 0 ||
        (SSL_session_reused(ssl) && SSL_version(ssl) < TLS1_3_VERSION && !c->decrypted)) {
        return 1;
    }
    SSL_SESSION *live = SSL_get_session(ssl), *copied = dup_session(live);
    void *has = NULL;
    size_t has_len = 0;
    if (copied == NULL || SSL_SESSION_get0_ticket_appdata(copied, &has, &has_len) != 1) {
        SSL_SESSION_free(copied);
        return 0;
    }
    unsigned char *data = NULL;
    size_t n = 0;
    int ok = goGenerateTicket(c->ask, copied, has, has_len, &data, &n);
    if (ok == SHIM_TICKET_CHANGED) {
        ok = SSL_SESSION_set1_ticket_appdata(live, data, n);
    }
    free(data);
    return ok;
}

static int is_usable(SSL_TICKET_STATUS status) {
    return status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW;
}

// on_decrypt_ticket has Go say what to do with a ticket. Go sees a copy of the session. To abort
// leaks the session in TLS 1.3 (1.1.1w, 3.0.19): there it is ignored, and the BIO keeps libssl from
// going on.
static SSL_TICKET_RETURN on_decrypt_ticket(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                           size_t n, SSL_TICKET_STATUS status, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    SSL_TICKET_RETURN r = status == SSL_TICKET_SUCCESS         ? SSL_TICKET_RETURN_USE
                          : status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW
                                                               : SSL_TICKET_RETURN_IGNORE_RENEW;
    if (c == NULL) {
        return r;
    }
    if (c->aborted) { // over an earlier one of the client's tickets
        return SSL_TICKET_RETURN_IGNORE;
    }
    if (c->ask != 0) {
        SSL_SESSION *copied = s == NULL ? NULL : dup_session(s);
        void *has = NULL;
        size_t has_len = 0;
        if (s != NULL &&
            (copied == NULL || SSL_SESSION_get0_ticket_appdata(copied, &has, &has_len) != 1)) {
            SSL_SESSION_free(copied);
            r = SSL_TICKET_RETURN_ABORT;
        } else {
            r = goDecryptTicket(c->ask, copied, has, has_len, (unsigned char *)name, n, status, r);
        }
    }
    if (s != NULL && (r == SSL_TICKET_RETURN_USE || r == SSL_TICKET_RETURN_USE_RENEW) &&
        !may_resume(c, s, NULL)) {
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

// In C because the callbacks are C functions. It cannot fail. The second one stays: it also
// declines what the server must not resume.
void shim_SSL_CTX_set_session_ticket_cb(SSL_CTX *ctx, int on) {
    SSL_CTX_set_session_ticket_cb(ctx, on ? on_generate_ticket : NULL, on_decrypt_ticket, NULL);
}

static int on_ticket_ext(SSL *ssl, const unsigned char *data, int n, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    return c == NULL || c->ask == 0 || goTicketExt(c->ask, (unsigned char *)data, n);
}

// In C because it can fail, and because connecting writes the ticket into the session that is
// offered: that must be the connection's own.
shim_long shim_SSL_set_session_ticket_ext(shim_conn *c, const unsigned char *data, size_t n) {
    clear_errors();
    SSL_SESSION *offered = SSL_get_session(c->ssl);
    if (offered != NULL && !c->has_ticket_ext) {
        SSL_SESSION *copied = dup_session(offered);
        int ok = copied != NULL && SSL_set_session(c->ssl, copied) == 1;
        SSL_SESSION_free(copied);
        if (!ok) {
            return settled(0, 0);
        }
    }
    int ok = SSL_set_session_ticket_ext(c->ssl, (void *)data, (int)n);
    c->has_ticket_ext = c->has_ticket_ext || ok == 1;
    return settled(ok, ok == 1);
}

// In C because it can fail, and because the callback is a C function.
shim_long shim_SSL_set_session_ticket_ext_cb(shim_conn *c, int on) {
    clear_errors();
    int ok = SSL_set_session_ticket_ext_cb(c->ssl, on ? on_ticket_ext : NULL, NULL);
    return verdict(ok, ok == 1);
}

// ---- Early data ----

// In C because the BIO reads and writes Go's buffers, and because it can fail.
int shim_SSL_read_early_data(shim_conn *c, const unsigned char *in, size_t in_len,
                             unsigned char *out, size_t out_cap, unsigned char *p, size_t n) {
    event_queue q;
    begin(c, &q, in, in_len, out, out_cap);
    int ret = SSL_read_early_data(c->ssl, p, n, &c->n);
    c->early_end = ret == SSL_READ_EARLY_DATA_FINISH;
    if (ret != SSL_READ_EARLY_DATA_SUCCESS) {
        c->n = 0;
    }
    return end(c, &q, ret == SSL_READ_EARLY_DATA_ERROR ? 0 : 1);
}

// Whether the client will offer the cipher suite, one of TLS 1.3: then it will offer TLS 1.3, too,
// for libssl counts only what its versions, its security level and its ciphers allow.
static int offers_cipher(shim_conn *c, const SSL_CIPHER *cipher) {
    if (cipher == NULL || SSL_CIPHER_get_protocol_id(cipher) >> 8 != 0x13) {
        return 0;
    }
    STACK_OF(SSL_CIPHER) *offered = SSL_get1_supported_ciphers(c->ssl);
    c->no_ciphers = offered == NULL; // 1.1.1 does not say that it had no memory
    int found = 0;
    for (int i = 0; i < sk_SSL_CIPHER_num(offered); i++) {
        found |= SSL_CIPHER_get_id(sk_SSL_CIPHER_value(offered, i)) == SSL_CIPHER_get_id(cipher);
    }
    sk_SSL_CIPHER_free(offered);
    return found;
}

// Whether the client offers the application protocol of the session, if it has one.
static int offers_protocol(const shim_conn *c, const SSL_SESSION *s) {
    const unsigned char *had;
    size_t n, at = 0;
    SSL_SESSION_get0_alpn_selected(s, &had, &n);
    if (had == NULL || c->alpn == NULL) {
        return had == NULL;
    }
    for (; at < c->alpn->n; at += 1 + (size_t)c->alpn->wire[at]) {
        if (c->alpn->wire[at] == n && at + 1 + n <= c->alpn->n &&
            memcmp(c->alpn->wire + at + 1, had, n) == 0) {
            return 1;
        }
    }
    return 0;
}

// Whether the client asks for the server name of the session, if it has one. (Early releases
// of 1.1.1 give the session's own name for a connection that has none.)
static int sends_name(const shim_conn *c, const SSL_SESSION *s) {
    const char *had = SSL_SESSION_get0_hostname(s);
    const char *name =
        c->named == SHIM_NAME_HOST ? SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name) : NULL;
    return had == NULL || (name != NULL && strcmp(name, had) == 0);
}

static int suits_early_data(shim_conn *c, const SSL_SESSION *s) {
    return SSL_SESSION_get_max_early_data(s) > 0 &&
           SSL_SESSION_get_protocol_version(s) == TLS1_3_VERSION &&
           offers_cipher(c, SSL_SESSION_get0_cipher(s)) && offers_protocol(c, s) &&
           sends_name(c, s);
}

// Whether libssl will offer the session's ticket, for a second at least. It leaves out one that is
// too old, or whose age it has no room for, and sends early data all the same.
static int has_fresh_ticket(const SSL_SESSION *s) {
    int64_t age = libssl_seconds() - (int64_t)SSL_SESSION_get_time_ex(s);
    return SSL_SESSION_has_ticket(s) && age >= 0 && age <= UINT32_MAX / 1000 &&
           (uint64_t)age <= SSL_SESSION_get_ticket_lifetime_hint(s);
}

static void ask_psk(shim_conn *c, const EVP_MD *md);

// may_send_early_data looks at all that early data depends on and that libssl finds out only when
// it makes its ClientHello, where it ends the connection or sends what no server can read. Early
// data is for the first key that is offered, which is the ticket if there is one. A hook is asked
// for its key; what it fails with is for libssl to hear.
static int may_send_early_data(shim_conn *c) {
    const SSL_SESSION *s = SSL_get_session(c->ssl);
    if (c->has_ticket_ext) {
        return 0;
    }
    if (s != NULL && SSL_SESSION_is_resumable(s)) { // libssl drops one that is not
        if (SSL_SESSION_get_max_early_data(s) > 0) {
            return has_fresh_ticket(s) && suits_early_data(c, s);
        }
        if (SSL_SESSION_has_ticket(s) || SSL_SESSION_get_protocol_version(s) != TLS1_3_VERSION) {
            return 0;
        }
    }
    if (c->psk_hook == 0) {
        return 0;
    }
    if (!c->psk_asked) {
        ask_psk(c, NULL);
    }
    return !c->psk_ok || (c->psk_session != NULL && suits_early_data(c, c->psk_session));
}

// In C because the BIO writes to Go's buffer, and because it can fail. What early data depends on
// is looked at in the same crossing: nothing can change between. early_refused says that libssl was
// not called.
int shim_SSL_write_early_data(shim_conn *c, unsigned char *out, size_t out_cap,
                              const unsigned char *p, size_t n) {
    event_queue q;
    begin(c, &q, NULL, 0, out, out_cap);
    c->no_ciphers = 0;
    c->early_refused = SSL_in_before(c->ssl) && !SSL_is_server(c->ssl) && !may_send_early_data(c);
    if (c->early_refused) {
        shim_err *errs = take_errors();
        if (errs == NULL && c->no_ciphers) {
            errs = &unreported;
        }
        int verdict = end(c, &q, 1);
        c->errs = errs;
        return verdict;
    }
    int ret = SSL_write_early_data(c->ssl, or_empty(p, n), n, &c->n);
    if (ret != 1) {
        c->n = 0;
    }
    return end(c, &q, ret);
}

// hook_of returns who answers for an SSL, 0 if nobody does.
static uintptr_t hook_of(const SSL *ssl) {
    shim_conn *c = conn_of(ssl);
    return c == NULL ? 0 : c->psk_hook;
}

static int on_allow_early_data(SSL *ssl, void *arg) {
    (void)arg;
    uintptr_t hook = hook_of(ssl);
    return hook == 0 || goAllowEarlyData(hook) != 0;
}

// In C because the callback is a C function.
void shim_SSL_CTX_set_allow_early_data_cb(SSL_CTX *ctx, int on) {
    SSL_CTX_set_allow_early_data_cb(ctx, on ? on_allow_early_data : NULL, NULL);
}

// ---- Pre-shared keys ----

// In C because what libssl reads of a session through pointers, without a look at them, is one
// question. It returns what is missing, or 0.
int shim_session_is_psk(const SSL_SESSION *s) {
    const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(s);
    if (SSL_SESSION_get_protocol_version(s) != TLS1_3_VERSION) {
        return SHIM_PSK_VERSION;
    }
    if (cipher == NULL || SSL_CIPHER_get_protocol_id(cipher) >> 8 != 0x13) {
        return SHIM_PSK_CIPHER;
    }
    return SSL_SESSION_get_master_key(s, NULL, 0) == 0 ? SHIM_PSK_KEY : 0;
}

// Go gives a copy that nobody else has, and with it its only reference.
static int on_psk_find_session(SSL *ssl, const unsigned char *identity, size_t n,
                               SSL_SESSION **sess) {
    shim_conn *c = conn_of(ssl);
    *sess = NULL;
    if (c == NULL || c->psk_hook == 0) {
        return 1;
    }
    int ok = goFindPSK(c->psk_hook, (unsigned char *)identity, n, sess) != 0;
    c->psk_found = *sess != NULL;
    return ok;
}

// ask_psk has Go say which key to offer, for the hash of md or for any. The identity must outlive
// the callback: libssl copies it after that.
static void ask_psk(shim_conn *c, const EVP_MD *md) {
    free(c->psk_identity);
    SSL_SESSION_free(c->psk_session);
    c->psk_identity = NULL;
    c->psk_identity_len = 0;
    c->psk_session = NULL;
    c->psk_ok = goUsePSK(c->psk_hook, md == NULL ? 0 : EVP_MD_size(md), &c->psk_identity,
                         &c->psk_identity_len, &c->psk_session);
    c->psk_asked = 1;
}

// on_psk_use_session gives the answer that there is already, if the question was asked before
// libssl did.
static int on_psk_use_session(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *n,
                              SSL_SESSION **sess) {
    shim_conn *c = conn_of(ssl);
    *id = NULL;
    *n = 0;
    *sess = NULL;
    if (c == NULL || c->psk_hook == 0) {
        return 1;
    }
    if (!c->psk_asked || md != NULL) {
        ask_psk(c, md);
    }
    c->psk_asked = 0;
    *id = c->psk_identity;
    *n = c->psk_identity_len;
    *sess = c->psk_session;
    c->psk_session = NULL;
    return c->psk_ok;
}

static unsigned int on_psk_server(SSL *ssl, const char *identity, unsigned char *psk,
                                  unsigned int max) {
    shim_conn *c = conn_of(ssl);
    if (c == NULL || c->psk_hook == 0) {
        return 0;
    }
    unsigned int n = goServerPSK(c->psk_hook, (char *)identity, psk, max);
    c->psk_found = n > 0;
    return n;
}

static unsigned int on_psk_client(SSL *ssl, const char *hint, char *identity,
                                  unsigned int max_identity, unsigned char *psk, unsigned int max) {
    uintptr_t hook = hook_of(ssl);
    int tls13 = SSL_version(ssl) > TLS1_2_VERSION; // which has no empty identities
    return hook == 0 ? 0 : goClientPSK(hook, tls13, (char *)hint, identity, max_identity, psk, max);
}

// The next four are in C because the callbacks are C functions.
void shim_SSL_CTX_set_psk_find_session_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_find_session_callback(ctx, on ? on_psk_find_session : NULL);
}

void shim_SSL_CTX_set_psk_use_session_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_use_session_callback(ctx, on ? on_psk_use_session : NULL);
}

void shim_SSL_CTX_set_psk_server_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_server_callback(ctx, on ? on_psk_server : NULL);
}

void shim_SSL_CTX_set_psk_client_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_client_callback(ctx, on ? on_psk_client : NULL);
}

// In C because it can fail.
shim_long shim_SSL_CTX_use_psk_identity_hint(SSL_CTX *ctx, const char *hint) {
    clear_errors();
    int ok = SSL_CTX_use_psk_identity_hint(ctx, hint);
    return verdict(ok, ok == 1);
}
