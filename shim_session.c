// SPDX-License-Identifier: Apache-2.0

// SSL_SESSION: life, encodings, attributes, and the values that Go keeps for it.

#include "_cgo_export.h"
#include "shim_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

shim_session shim_SSL_SESSION_new(void) {
    shim_session r = {SSL_SESSION_new(), 0, NULL};
    r.errs = r.p == NULL ? shim_take_errors() : NULL;
    return r;
}

// Go sets the values of a session while no other call uses the session's context. But a call of
// another context may copy the session: this lock excludes that.
static pthread_rwlock_t values_lock = PTHREAD_RWLOCK_INITIALIZER;

SSL_SESSION *shim_dup_session(SSL_SESSION *s) {
    pthread_rwlock_rdlock(&values_lock);
    SSL_SESSION *copied = SSL_SESSION_dup(s);
    pthread_rwlock_unlock(&values_lock);
    return copied;
}

shim_session shim_SSL_SESSION_dup(SSL_SESSION *s) {
    clear_errors();
    shim_session r = {shim_dup_session(s), 1, NULL};
    r.errs = r.p == NULL ? shim_take_errors() : NULL;
    return r;
}

// It returns a reference that a connection of c's context may get: to s itself, or to a copy.
// libssl adds the session to its cache. A session that may have been there before must not be added
// while others use the cache: so a published or a foreign session is copied. p is NULL without
// errors if no connection may get the session. c may be NULL if foreign is set.
shim_session shim_SSL_SESSION_up_ref(shim_conn *c, SSL_SESSION *s, int published, int foreign) {
    clear_errors();
    shim_session r = {NULL, 0, NULL};
    if (without_cipher(s)) {
        return r;
    }
    if (foreign || (published && (SSL_CTX_get_session_cache_mode(c->session_ctx) &
                                  SSL_SESS_CACHE_NO_INTERNAL_STORE) == 0)) {
        return shim_SSL_SESSION_dup(s);
    }
    SSL_SESSION_up_ref(s);
    r.p = s;
    return r;
}

// ---- Encodings ----

// i2d takes a session that is not const in 1.1.1.
shim_bytes shim_i2d_SSL_SESSION(SSL_SESSION *s) {
    clear_errors();
    shim_bytes r = {NULL, 0, 0, NULL};
    int n = i2d_SSL_SESSION(s, &r.p);
    if (n <= 0) {
        r.errs = shim_take_errors();
    } else {
        r.n = (size_t)n;
    }
    return r;
}

// It never reads into an existing session: that would change its cache key, and an error would
// leave it half written.
shim_parsed shim_d2i_SSL_SESSION(const unsigned char *der, size_t n) {
    clear_errors();
    const unsigned char *p = der;
    shim_parsed r = {NULL, 0, NULL};
    r.p = d2i_SSL_SESSION(NULL, &p, (long)n);
    r.used = (size_t)(p - der);
    r.errs = r.p == NULL ? shim_take_errors() : NULL;
    return r;
}

shim_bytes shim_PEM_write_bio_SSL_SESSION(SSL_SESSION *s) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    return shim_take_bio(bio, bio != NULL && PEM_write_bio_SSL_SESSION(bio, s) == 1);
}

// It is the first half of PEM_read_bio_SSL_SESSION, which ignores bytes after the end of the DER.
// The second half is shim_d2i_SSL_SESSION.
shim_bytes shim_PEM_read_bio_SSL_SESSION(const unsigned char *pem, size_t n) {
    clear_errors();
    shim_bytes r = {NULL, 0, 0, NULL};
    long len = 0;
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    if (bio == NULL || PEM_bytes_read_bio(&r.p, &len, NULL, PEM_STRING_SSL_SESSION, bio,
                                          shim_no_password, NULL) != 1) {
        r.p = NULL;
        r.errs = shim_take_errors();
    } else {
        r.n = (size_t)len;
        r.used = n - BIO_ctrl_pending(bio);
    }
    BIO_free(bio);
    clear_errors();
    return r;
}

shim_bytes shim_SSL_SESSION_print(const SSL_SESSION *s) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    return shim_take_bio(bio, bio != NULL && SSL_SESSION_print(bio, s) == 1);
}

shim_bytes shim_SSL_SESSION_print_keylog(const SSL_SESSION *s) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    return shim_take_bio(bio, bio != NULL && SSL_SESSION_print_keylog(bio, s) == 1);
}

// ---- Attributes ----

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

shim_long shim_SSL_SESSION_set1_id(SSL_SESSION *s, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_id(s, or_empty(id, n), (unsigned int)n);
    return result(ok, ok == 1);
}

shim_long shim_SSL_SESSION_set1_id_context(SSL_SESSION *s, const unsigned char *id, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_id_context(s, or_empty(id, n), (unsigned int)n);
    return result(ok, ok == 1);
}

int64_t shim_SSL_SESSION_get_time(const SSL_SESSION *s) { return SSL_SESSION_get_time_ex(s); }

shim_long shim_SSL_SESSION_set_time(SSL_SESSION *s, int64_t t) {
    int ok = SSL_SESSION_set_time_ex(s, (time_t)t) == t;
    return result(ok, ok);
}

shim_long shim_SSL_SESSION_set_timeout(SSL_SESSION *s, long t) {
    int ok = SSL_SESSION_set_timeout(s, t);
    return result(ok, ok == 1);
}

shim_cipher shim_cipher_of(const SSL_CIPHER *c) {
    shim_cipher r = {0, NULL, NULL};
    if (c != NULL) {
        r.id = SSL_CIPHER_get_protocol_id(c);
        r.name = SSL_CIPHER_get_name(c);
        r.standard_name = SSL_CIPHER_standard_name(c);
    }
    return r;
}

shim_cipher shim_SSL_SESSION_get0_cipher(const SSL_SESSION *s) {
    return shim_cipher_of(SSL_SESSION_get0_cipher(s));
}

// libssl finds a cipher suite through a connection, or when it reads a session. The second way
// needs no connection. The object is static.
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

// The id 0 is no cipher suite and always accepted. n is 0, without errors, if there is no such
// cipher suite. A signalling value (SCSV) is no cipher suite.
shim_long shim_SSL_SESSION_set_cipher(SSL_SESSION *s, unsigned int id) {
    clear_errors();
    int signal = id == (SSL3_CK_SCSV & 0xffff) || id == (SSL3_CK_FALLBACK_SCSV & 0xffff);
    const SSL_CIPHER *c = id == 0 || signal ? NULL : find_cipher(id);
    if (c == NULL && id != 0) {
        return result(0, signal); // an unknown suite queues no error
    }
    int ok = SSL_SESSION_set_cipher(s, c);
    return result(ok, ok == 1);
}

shim_long shim_SSL_SESSION_set1_master_key(SSL_SESSION *s, const unsigned char *key, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_master_key(s, or_empty(key, n), n);
    return result(ok, ok == 1);
}

shim_long shim_SSL_SESSION_set1_hostname(SSL_SESSION *s, const char *name) {
    clear_errors();
    int ok = SSL_SESSION_set1_hostname(s, name);
    return result(ok, ok == 1);
}

shim_view shim_SSL_SESSION_get0_alpn_selected(const SSL_SESSION *s) {
    shim_view r = {NULL, 0};
    size_t n = 0;
    SSL_SESSION_get0_alpn_selected(s, &r.p, &n);
    r.n = r.p == NULL ? 0 : (unsigned int)n;
    return r;
}

shim_long shim_SSL_SESSION_set1_alpn_selected(SSL_SESSION *s, const unsigned char *p, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_alpn_selected(s, p, n);
    return result(ok, ok == 1);
}

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

shim_long shim_SSL_SESSION_set1_ticket_appdata(SSL_SESSION *s, const unsigned char *p, size_t n) {
    clear_errors();
    int ok = SSL_SESSION_set1_ticket_appdata(s, p, n);
    return result(ok, ok == 1);
}

// p is NULL without errors if there is no certificate.
shim_bytes shim_SSL_SESSION_get0_peer(SSL_SESSION *s) {
    return shim_write_certs(SSL_SESSION_get0_peer(s), NULL);
}

// p is NULL without errors if there is no key.
shim_bytes shim_SSL_SESSION_get0_peer_rpk(SSL_SESSION *s) {
    clear_errors();
    shim_bytes r = {NULL, 0, 0, NULL};
    EVP_PKEY *key = SSL_SESSION_get0_peer_rpk(s);
    int n = key == NULL ? 0 : i2d_PUBKEY(key, &r.p);
    if (n > 0) {
        r.n = (size_t)n;
    } else if (key != NULL) {
        r.errs = shim_take_errors();
    }
    return r;
}

// ---- Values of Go's ----

// The session stores the number of its values, not a pointer; 0 is none. Every object has a number
// of its own: a copy, also one that libssl makes, gets another number for the same values.

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

// shim_copy_values_to does by hand what SSL_SESSION_dup does by itself.
int shim_copy_values_to(SSL_SESSION *to, const SSL_SESSION *from) {
    if (values_index < 0) { // then no session has values
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

uintptr_t shim_SSL_SESSION_get_ex_data(const SSL_SESSION *s) {
    return values_index < 0 ? 0 : (uintptr_t)SSL_SESSION_get_ex_data(s, values_index);
}

// The session takes ownership of the number.
shim_long shim_SSL_SESSION_set_ex_data(SSL_SESSION *s, uintptr_t values) {
    clear_errors();
    if (!shim_ensure_index(&values_index, make_values_index)) {
        return result(0, 0);
    }
    pthread_rwlock_wrlock(&values_lock);
    int ok = SSL_SESSION_set_ex_data(s, values_index, (void *)values);
    pthread_rwlock_unlock(&values_lock);
    return result(ok, ok == 1);
}

// ---- Sessions that moved to another context ----

// A session that belonged to one context and was added to another has a note: with it Go learns
// when libssl frees the session. A copy has no note.

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

shim_long shim_session_note_moved(SSL_SESSION *s) {
    clear_errors();
    if (!shim_ensure_index(&moved_index, make_moved_index)) {
        return result(0, 0);
    }
    pthread_rwlock_wrlock(&values_lock);
    int ok = SSL_SESSION_get_ex_data(s, moved_index) != NULL ||
             SSL_SESSION_set_ex_data(s, moved_index, s) == 1;
    pthread_rwlock_unlock(&values_lock);
    return result(ok, ok);
}
