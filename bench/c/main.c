// SPDX-License-Identifier: Apache-2.0

#include "../../internal/cwork/cwork.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// The side in C: bench/side has the protocol.
//
//     side row key=value ...
//
// prints "ready" when it has prepared a row, or "none". Each line of standard input is a number of
// operations; the answer is what they took: "wall=seconds cpu=seconds ...".

static char **arguments;

// arg is the value of an argument of the row.
static const char *arg(const char *name, const char *otherwise) {
    size_t len = strlen(name);
    for (char **a = arguments; *a != NULL; a++) {
        if (strncmp(*a, name, len) == 0 && (*a)[len] == '=') {
            return *a + len + 1;
        }
    }
    return otherwise;
}

static size_t number(const char *name, size_t otherwise) {
    const char *value = arg(name, NULL);
    return value == NULL ? otherwise : strtoul(value, NULL, 10);
}

static unsigned char *read_file(const char *name, size_t *len) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", arg("dir", "."), name);
    unsigned char *data = calloc(1, 1 << 16);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        perror(path);
        exit(1);
    }
    *len = fread(data, 1, (1 << 16) - 1, f);
    fclose(f);
    return data;
}

// The clock runs from the request to the answer. The work may stop it.
static double wall, cpu;

static double read_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void clock_on(void) {
    wall -= read_clock(CLOCK_MONOTONIC);
    cpu -= read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static void clock_off(void) {
    wall += read_clock(CLOCK_MONOTONIC);
    cpu += read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static const cwork_clock the_clock = {clock_off, clock_on};

typedef struct {
    const char *name;
    int (*open)(void);
    int (*run)(size_t n);
} row;

static cwork_cache *cache;

static int open_cache(void) {
    cwork_cache_config config = {.sessions = number("N", 1),
                                 .threads = number("threads", 1),
                                 .contexts = number("contexts", 1),
                                 .hear = number("hear", 0) > 0};
    cache = cwork_cache_new(&config);
    return 1;
}

static int run_add_remove(size_t n) { return cwork_add_remove(cache, n); }
static int run_evict(size_t n) { return cwork_evict(cache, n); }
static int run_flush(size_t n) { return cwork_flush(cache, n, &the_clock); }
static int run_stats(size_t n) { return cwork_stats(cache, n); }

static int open_nothing(void) { return 1; }
static int run_new_free(size_t n) { return cwork_new_free(n); }

static unsigned char *der;
static size_t der_len;
static SSL_SESSION *session;

static int open_session(void) {
    char name[64];
    snprintf(name, sizeof name, "%s.der", arg("of", "server"));
    der = read_file(name, &der_len);
    const unsigned char *p = der;
    session = d2i_SSL_SESSION(NULL, &p, (long)der_len);
    return session != NULL;
}

static int run_timeout(size_t n) { return cwork_get_timeout(session, n); }
static int run_i2d(size_t n) { return cwork_i2d(session, n); }
static int run_d2i(size_t n) { return cwork_d2i(der, der_len, n); }

static double resident(void) {
    long pages = 0, ignored;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%ld %ld", &ignored, &pages) != 2) {
        abort();
    }
    fclose(f);
    return (double)pages * 4096;
}

static int run_memory(size_t n) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    SSL_CTX_sess_set_cache_size(ctx, 0);
    double before = resident();
    int ok = cwork_fill(ctx, n);
    clock_off();
    printf("bytes=%g ", (resident() - before) / (double)n);
    clock_on();
    SSL_CTX_free(ctx);
    return ok;
}

static cwork_tls *tls;

static int open_tls(void) {
    static const char *const resumes[] = {"full", "id", "ticket", "memory", "redis"};
    char name[64];
    size_t len;
    snprintf(name, sizeof name, "%s.pem", arg("key", "ecdsa"));
    cwork_tls_config config = {
        .pem = (char *)read_file(name, &len),
        .version = strcmp(arg("version", "1.3"), "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION,
        .workers = number("workers", 1),
        .hear = number("hear", 0) > 0,
        .redis = arg("redis", NULL)};
    int i = 0;
    while (strcmp(arg("resume", "full"), resumes[i]) != 0) {
        if (++i > CWORK_REDIS) {
            return 0;
        }
    }
    config.resume = (cwork_resume)i;
    tls = cwork_tls_new(&config);
    return tls != NULL;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int run_handshake(size_t n) {
    double *latencies = calloc(n, sizeof *latencies);
    int ok = cwork_handshakes(tls, n, latencies);
    clock_off();
    qsort(latencies, n, sizeof *latencies, compare_doubles);
    printf("p50=%g p99=%g ", latencies[n / 2], latencies[n * 99 / 100]);
    free(latencies);
    clock_on();
    return ok;
}

static int run_stream(size_t n) { return cwork_stream(tls, number("size", 1), n); }
static int run_ping_pong(size_t n) { return cwork_ping_pong(tls, n); }

static const row rows[] = {
    {"add-remove", open_cache, run_add_remove}, {"evict", open_cache, run_evict},
    {"flush", open_cache, run_flush},           {"stats", open_cache, run_stats},
    {"new-close", open_nothing, run_new_free},  {"timeout", open_session, run_timeout},
    {"der-write", open_session, run_i2d},       {"der-read", open_session, run_d2i},
    {"memory", open_nothing, run_memory},       {"handshake", open_tls, run_handshake},
    {"stream", open_tls, run_stream},           {"ping-pong", open_tls, run_ping_pong},
};

static int serve(const row *r) {
    char line[64];
    if (!r->open()) {
        fprintf(stderr, "%s: cannot prepare\n", r->name);
        ERR_print_errors_fp(stderr);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        wall = cpu = 0;
        clock_on();
        int ok = r->run(strtoul(line, NULL, 10));
        clock_off();
        if (!ok) {
            fprintf(stderr, "%s: failed\n", r->name);
            ERR_print_errors_fp(stderr);
            return 1;
        }
        printf("wall=%.9f cpu=%.9f\n", wall, cpu);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    arguments = argv + (argc > 1 ? 2 : 1);
    for (size_t i = 0; argc > 1 && i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(argv[1], rows[i].name) == 0) {
            return serve(&rows[i]);
        }
    }
    puts("none");
    return 0;
}
