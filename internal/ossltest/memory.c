// SPDX-License-Identifier: Apache-2.0

// Allocations that fail when a test wants it. libcrypto gets allocation functions of this file. The
// linker (--wrap) sends calloc, realloc, strdup and free of the shim here. malloc is only counted:
// C.CString and C.CBytes call it, too, and end the program if it fails.

#include "memory.h"

#if defined(__linux__)
#include <malloc.h>
#endif
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int owned;

// Which allocations fail. One test at a time sets it.
static struct {
    atomic_long seen, failed;
    long nth;
    int forever;
    char file[64];   // only allocations of this source file fail; "" is any file
    char spared[64]; // allocations of this source file do not fail
} plan;

static atomic_int all_threads;
static _Thread_local int this_thread, exempt;

// The places that allocated, in order.
#define MAX_SITES 65536
static struct {
    const char *file;
    int line;
} sites[MAX_SITES];

static atomic_long live_everywhere;
static _Thread_local long live_here;

static void lives(long n) {
    live_here += n;
    atomic_fetch_add_explicit(&live_everywhere, n, memory_order_relaxed);
}

static int is_file(const char *path, const char *file) {
    const char *slash = path == NULL ? NULL : strrchr(path, '/');
    return path != NULL && strcmp(slash == NULL ? path : slash + 1, file) == 0;
}

static int fails(const char *file, int line) {
    if (exempt || !(this_thread || atomic_load_explicit(&all_threads, memory_order_relaxed)) ||
        (plan.file[0] != 0 && !is_file(file, plan.file)) || is_file(file, plan.spared)) {
        return 0;
    }
    long n = ++plan.seen;
    if (n <= MAX_SITES) {
        sites[n - 1].file = file;
        sites[n - 1].line = line;
    }
    if (n == plan.nth || (plan.forever && n > plan.nth)) {
        plan.failed++;
        return 1;
    }
    return 0;
}

#if defined(__linux__)
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void __real_free(void *p);

static void *counted(void *p) {
    lives(p != NULL);
    return p;
}

// The return address distinguishes the places where the shim allocates.
static int shim_fails(void *at) { return fails("shim", (int)((uintptr_t)at & 0xffffff)); }

void *__wrap_malloc(size_t n) { return counted(__real_malloc(n)); }

void *__wrap_calloc(size_t n, size_t size) {
    return shim_fails(__builtin_return_address(0)) ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n) {
    if (shim_fails(__builtin_return_address(0))) {
        return NULL;
    }
    void *grown = __real_realloc(p, n);
    lives(p == NULL && grown != NULL);
    return grown;
}

char *__wrap_strdup(const char *s) {
    return shim_fails(__builtin_return_address(0)) ? NULL : counted(__real_strdup(s));
}

void __wrap_free(void *p) {
    lives(p == NULL ? 0 : -1);
    __real_free(p);
}
#else
#define __real_malloc malloc
#define __real_realloc realloc
#define __real_free free
#endif

static void *own_malloc(size_t n, const char *file, int line) {
    void *p = fails(file, line) ? NULL : __real_malloc(n);
    lives(p != NULL);
    return p;
}

// Wipe freed memory. A secret that a test then still finds was not freed by libcrypto or libssl.
static atomic_int wipes;

static void wiped(void *p) {
#if defined(__linux__)
    if (p != NULL && wipes) {
        OPENSSL_cleanse(p, malloc_usable_size(p));
    }
#else
    (void)p;
#endif
}

int ossltest_wipe(int on) {
    wipes = on;
#if defined(__linux__)
    return 1;
#else
    return 0;
#endif
}

static void *own_realloc(void *p, size_t n, const char *file, int line) {
    if (fails(file, line)) {
        return NULL;
    }
#if defined(__linux__)
    if (p != NULL && wipes) { // it may move
        size_t had = malloc_usable_size(p);
        void *moved = __real_malloc(n);
        if (moved != NULL) {
            memcpy(moved, p, had < n ? had : n);
            wiped(p);
            __real_free(p);
        }
        return moved;
    }
#endif
    void *grown = __real_realloc(p, n);
    lives(p == NULL && grown != NULL);
    return grown;
}

static void own_free(void *p, const char *file, int line) {
    (void)file, (void)line;
    lives(p == NULL ? 0 : -1);
    wiped(p);
    __real_free(p);
}

// It must run before libcrypto allocates anything: later libcrypto refuses.
void ossltest_own_memory(void) {
    owned = CRYPTO_set_mem_functions(own_malloc, own_realloc, own_free);
}

int ossltest_owns_memory(void) { return owned; }

// It exempts the test's own allocations. It returns the value before.
int ossltest_exempt(int on) {
    int was = exempt;
    exempt = on;
    return was;
}

void ossltest_fail(long nth, int forever, int everywhere, const char *file, const char *spared) {
    plan.seen = plan.failed = 0;
    plan.nth = nth;
    plan.forever = forever;
    strncpy(plan.file, file, sizeof plan.file - 1);
    strncpy(plan.spared, spared, sizeof plan.spared - 1);
    this_thread = !everywhere;
    all_threads = everywhere;
}

long ossltest_stop_failing(long *failed) {
    this_thread = all_threads = 0;
    *failed = plan.failed;
    return plan.seen;
}

const char *ossltest_site(long i, int *line) {
    if (i < 0 || i >= MAX_SITES || sites[i].file == NULL) {
        *line = 0;
        return "";
    }
    *line = sites[i].line;
    return sites[i].file;
}

long ossltest_live_memory(int everywhere) { return everywhere ? live_everywhere : live_here; }
