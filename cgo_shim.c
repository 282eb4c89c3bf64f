// SPDX-License-Identifier: Apache-2.0

// Errors, memory and results: functions that all C files share. shim_internal.h has the inline
// ones, which are called often.

#include "shim_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// ---- Errors ----

// The error queue belongs to the thread, and Go moves between threads: so each call takes its
// errors before it returns. The copies use C's allocator: the error to report may be a failure of
// OPENSSL_malloc.

char *shim_copy_string(const char *s) { return s == NULL ? NULL : strdup(s); }

// shim_unreported is the result when there is no memory for any error: the caller still learns that
// the call failed. Nobody frees it, and it never changes.
shim_err shim_unreported = {.lib = ERR_LIB_SYS, .reason = ENOMEM};

shim_err *shim_take_errors(void) {
    shim_err *first = NULL, **last = &first;
    const char *file, *func, *data;
    int line, flags, any = 0;
    unsigned long code;
    while ((code = ERR_get_error_all(&file, &line, &func, &data, &flags)) != 0) {
        any = 1;
        shim_err *e = calloc(1, sizeof *e);
        if (e == NULL) {
            continue; // still empty the queue
        }
        e->code = code;
        e->lib = ERR_GET_LIB(code);
        e->reason = ERR_GET_REASON(code);
        e->line = line;
        e->reason_text = ERR_reason_error_string(code);
        e->lib_text = ERR_lib_error_string(code);
        e->file = shim_copy_string(file);
        e->func = shim_copy_string(func);
        e->data = (flags & ERR_TXT_STRING) != 0 ? shim_copy_string(data) : NULL;
        *last = e;
        last = &e->next;
    }
    if (any) {
        ERR_clear_error(); // the queue keeps the texts of taken errors until it reuses their places
    }
    return any && first == NULL ? &shim_unreported : first;
}

void shim_errs_free(shim_err *e) {
    while (e != NULL && e != &shim_unreported) {
        shim_err *next = e->next;
        free(e->file);
        free(e->func);
        free(e->data);
        free(e);
        e = next;
    }
}

// ---- Memory ----

// The C files allocate with calloc, realloc and strdup, and never with malloc. So the tests can
// make each of these allocations fail, and none of Go's own.

void shim_bytes_free(unsigned char *p, size_t n) { OPENSSL_clear_free(p, n); }

// shim_take_bio copies the content of a memory BIO into a new buffer, and frees the BIO.
shim_bytes shim_take_bio(BIO *bio, int ok) {
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
        r.errs = shim_take_errors();
        if (r.errs == NULL && (n > 0 || !ok)) { // no bytes and no error would be a valid result
            r.errs = &shim_unreported;
        }
    }
    BIO_free(bio);
    return r;
}

// shim_write_certs writes certificates in DER, one after the other; first may be NULL.
shim_bytes shim_write_certs(X509 *first, STACK_OF(X509) * rest) {
    clear_errors();
    BIO *bio = BIO_new(BIO_s_mem());
    int ok = bio != NULL && (first == NULL || i2d_X509_bio(bio, first) == 1);
    for (int i = 0; ok && i < sk_X509_num(rest); i++) {
        ok = i2d_X509_bio(bio, sk_X509_value(rest, i)) == 1;
    }
    return shim_take_bio(bio, ok);
}

// A binding has no terminal: an encrypted PEM is an error and not a prompt.
int shim_no_password(char *buf, int size, int rwflag, void *arg) {
    (void)buf, (void)size, (void)rwflag, (void)arg;
    return -1;
}

// ---- Indexes of ex_data ----

// The first call that needs an index of ex_data makes it. If there is no memory for it, the next
// call tries again.
static pthread_mutex_t index_lock = PTHREAD_MUTEX_INITIALIZER;

int shim_ensure_index(atomic_int *index, int (*make)(void)) {
    if (atomic_load_explicit(index, memory_order_acquire) < 0) {
        pthread_mutex_lock(&index_lock);
        if (atomic_load_explicit(index, memory_order_relaxed) < 0) {
            atomic_store_explicit(index, make(), memory_order_release);
        }
        pthread_mutex_unlock(&index_lock);
    }
    return atomic_load_explicit(index, memory_order_relaxed) >= 0;
}
