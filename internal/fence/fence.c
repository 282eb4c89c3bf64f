// SPDX-License-Identifier: Apache-2.0

/* clang-format off */
//go:build forcegc
/* clang-format on */

// malloc for the whole process, libssl included: a function of the program comes before the one of
// libc. Each allocation has its own pages. After free the pages are inaccessible, and never used
// again.
//
// libc serves what cannot be fenced: memory from before the program began, aligned memory, and
// everything once the arena is full.

#include "fence.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

#define PAGE ((size_t)4096)
#define ARENA ((size_t)1 << 40)

// Address space only: a page takes memory when it is written to, and releases it when it is freed.
static char *arena;
static atomic_size_t taken;
static atomic_long freed;

typedef struct {
    _Alignas(16) size_t size; // of the memory that follows
} head;

__attribute__((constructor)) static void build(void) {
    void *p = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    arena = p == MAP_FAILED ? NULL : p;
}

static size_t pages(size_t n) { return (n + sizeof(head) + PAGE - 1) / PAGE * PAGE; }

static int is_fenced(const void *p) {
    return arena != NULL && (uintptr_t)p - (uintptr_t)arena < ARENA;
}

// The memory is zero: it was never used.
static void *fenced(size_t n) {
    if (arena == NULL || n > ARENA / 2 || atomic_load(&taken) > ARENA / 2) {
        return NULL;
    }
    size_t at = atomic_fetch_add(&taken, pages(n));
    if (at > ARENA - pages(n)) {
        return NULL;
    }
    head *h = (head *)(arena + at);
    h->size = n;
    return h + 1;
}

void *malloc(size_t n) {
    void *p = fenced(n);
    return p != NULL ? p : __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
    void *p = size != 0 && n > SIZE_MAX / size ? NULL : fenced(n * size);
    return p != NULL ? p : __libc_calloc(n, size);
}

void free(void *p) {
    if (!is_fenced(p)) {
        __libc_free(p);
        return;
    }
    int before = errno; // free leaves it alone
    head *h = (head *)p - 1;
    size_t size = pages(h->size); // a second free ends here
    madvise(h, size, MADV_DONTNEED);
    mprotect(h, size, PROT_NONE);
    atomic_fetch_add(&freed, 1);
    errno = before;
}

void *realloc(void *p, size_t n) {
    if (p != NULL && !is_fenced(p)) {
        return __libc_realloc(p, n);
    }
    if (p != NULL && n == 0) {
        free(p);
        return NULL;
    }
    void *grown = malloc(n);
    if (p != NULL && grown != NULL) {
        size_t had = ((head *)p - 1)->size;
        memcpy(grown, p, had < n ? had : n);
        free(p);
    }
    return grown;
}

long fence_freed(void) { return atomic_load(&freed); }

unsigned char fence_trespass(void) {
    unsigned char *volatile p = malloc(1);
    free(p);
    return *p;
}
