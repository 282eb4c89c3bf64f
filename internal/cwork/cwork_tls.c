// SPDX-License-Identifier: Apache-2.0

#include "cwork.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// Connections over loopback TCP with blocking sockets and a thread for each end, as in a C program.
// The first byte that the server sends brings the tickets of TLS 1.3.

#if OPENSSL_VERSION_NUMBER >= 0x40000000L
#define set1_host SSL_set1_dnsname
#else
#define set1_host SSL_set1_host
#endif

struct cwork_tls {
    cwork_tls_config config;
    SSL_CTX *server, *client;
    SSL_SESSION *offer; // or NULL
    int listener;
    struct sockaddr_in addr;
    SSL *near, *far; // open ends for cwork_stream and cwork_ping_pong
};

static int use_pem(cwork_tls *w) {
    const char *pem = w->config.pem;
    BIO *cert_bio = BIO_new_mem_buf(pem, -1), *key_bio = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(cert_bio, NULL, NULL, NULL);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    int ok = x != NULL && k != NULL && SSL_CTX_use_certificate(w->server, x) == 1 &&
             SSL_CTX_use_PrivateKey(w->server, k) == 1 &&
             X509_STORE_add_cert(SSL_CTX_get_cert_store(w->client), x) == 1;
    X509_free(x);
    EVP_PKEY_free(k);
    BIO_free(cert_bio);
    BIO_free(key_bio);
    return ok;
}

static void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// finish ends a connection as Conn.Close does.
static void finish(SSL *ssl) {
    if (ssl != NULL) {
        int fd = SSL_get_fd(ssl);
        SSL_shutdown(ssl);
        SSL_free(ssl);
        close(fd);
    }
}

// read_full reads n bytes: 1, or 0 at the end.
static int read_full(SSL *ssl, unsigned char *buf, size_t n) {
    for (size_t got = 0, k; got < n; got += k) {
        if (SSL_read_ex(ssl, buf + got, n - got, &k) != 1) {
            return 0;
        }
    }
    return 1;
}

// write_full writes n bytes. A blocking SSL without SSL_MODE_ENABLE_PARTIAL_WRITE takes all.
static int write_full(SSL *ssl, const unsigned char *buf, size_t n) {
    size_t k;
    return SSL_write_ex(ssl, buf, n, &k) == 1 && k == n;
}

static SSL *answer(cwork_tls *w) {
    int fd = accept(w->listener, NULL, NULL);
    no_delay(fd);
    SSL *ssl = SSL_new(w->server);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1 && write_full(ssl, (const unsigned char *)"!", 1)) {
        return ssl;
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static SSL *dial(cwork_tls *w) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SSL *ssl = SSL_new(w->client);
    SSL_set_fd(ssl, fd);
    no_delay(fd);
    unsigned char c;
    if (connect(fd, (struct sockaddr *)&w->addr, sizeof w->addr) == 0 &&
        SSL_set_tlsext_host_name(ssl, "localhost") == 1 && set1_host(ssl, "localhost") == 1 &&
        (w->offer == NULL || SSL_set_session(ssl, w->offer) == 1) && SSL_connect(ssl) == 1 &&
        read_full(ssl, &c, 1)) {
        return ssl;
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static void *answer_thread(void *arg) {
    cwork_tls *w = arg;
    return w->far = answer(w);
}

// open_ends connects the ends that stay open.
static int open_ends(cwork_tls *w) {
    pthread_t server;
    void *far;
    if (pthread_create(&server, NULL, answer_thread, w) != 0) {
        abort();
    }
    w->near = dial(w);
    if (w->near == NULL) {
        shutdown(w->listener, SHUT_RDWR);
    }
    pthread_join(server, &far);
    return w->near != NULL && far != NULL;
}

static void close_ends(cwork_tls *w) {
    finish(w->near);
    finish(w->far);
    w->near = w->far = NULL;
}

// The sessions of a server that stores them outside libssl, in memory or in Redis, as DER.
#define STORED 4096
static unsigned char stored[STORED];
static int stored_len;
static const char *redis;
static _Thread_local int redis_fd = -1; // of the thread: it blocks

static int redis_connection(void) {
    if (redis_fd < 0) {
        redis_fd = cwork_redis_dial(redis);
    }
    return redis_fd;
}

static int store(SSL *ssl, SSL_SESSION *s) {
    (void)ssl;
    unsigned char *p = stored;
    unsigned int len = 0;
    const unsigned char *id = SSL_SESSION_get_id(s, &len);
    stored_len = i2d_SSL_SESSION(s, NULL);
    if (stored_len > STORED || i2d_SSL_SESSION(s, &p) != stored_len) {
        abort();
    }
    if (redis != NULL &&
        !cwork_redis_set(redis_connection(), id, len, stored, (size_t)stored_len)) {
        abort();
    }
    return 0;
}

static SSL_SESSION *find(SSL *ssl, const unsigned char *id, int len, int *up_ref) {
    (void)ssl;
    unsigned char fetched[STORED];
    const unsigned char *p = stored;
    int size = stored_len;
    unsigned int n = 0;
    *up_ref = 0;
    if (redis != NULL) {
        p = fetched;
        size = cwork_redis_get(redis_connection(), id, (size_t)len, fetched, sizeof fetched);
        if (size < 0) {
            return NULL;
        }
    }
    SSL_SESSION *s = d2i_SSL_SESSION(NULL, &p, size);
    if (s != NULL && (memcmp(SSL_SESSION_get_id(s, &n), id, (size_t)len) != 0 || (int)n != len)) {
        SSL_SESSION_free(s);
        return NULL;
    }
    return s;
}

static atomic_long heard;

static int on_new(SSL *ssl, SSL_SESSION *s) {
    (void)ssl;
    heard += SSL_SESSION_is_resumable(s);
    return 0;
}

static void configure(cwork_tls *w) {
    SSL_CTX *both[] = {w->server, w->client};
    for (int i = 0; i < 2; i++) {
        SSL_CTX_set_min_proto_version(both[i], w->config.version);
        SSL_CTX_set_max_proto_version(both[i], w->config.version);
        SSL_CTX_set_read_ahead(both[i], 1); // one system call for header and body
    }
    SSL_CTX_set_verify(w->client, SSL_VERIFY_PEER, NULL);
    if (w->config.hear) {
        SSL_CTX_sess_set_new_cb(w->server, on_new);
    }
    if (w->config.hear || w->config.resume == CWORK_ID || w->config.resume >= CWORK_MEMORY) {
        SSL_CTX_set_options(w->server, SSL_OP_NO_TICKET);
    }
    if (w->config.resume >= CWORK_MEMORY) {
        redis = w->config.resume == CWORK_REDIS ? w->config.redis : NULL;
        SSL_CTX_set_session_cache_mode(w->server,
                                       SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(w->server, store);
        SSL_CTX_sess_set_get_cb(w->server, find);
    }
}

cwork_tls *cwork_tls_new(const cwork_tls_config *config) {
    cwork_tls *w = calloc(1, sizeof *w);
    w->config = *config;
    w->server = SSL_CTX_new(TLS_server_method());
    w->client = SSL_CTX_new(TLS_client_method());
    configure(w);
    socklen_t len = sizeof w->addr;
    w->addr.sin_family = AF_INET;
    w->addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    w->listener = socket(AF_INET, SOCK_STREAM, 0);
    int ok = use_pem(w) && bind(w->listener, (struct sockaddr *)&w->addr, len) == 0 &&
             getsockname(w->listener, (struct sockaddr *)&w->addr, &len) == 0 &&
             listen(w->listener, 64) == 0 && open_ends(w);
    if (ok && config->resume != CWORK_FULL) {
        w->offer = SSL_get1_session(w->near);
        close_ends(w);
        ok = w->offer != NULL && open_ends(w) && SSL_session_reused(w->near);
    }
    if (!ok) {
        cwork_tls_free(w);
        return NULL;
    }
    return w;
}

void cwork_tls_free(cwork_tls *w) {
    close_ends(w);
    SSL_SESSION_free(w->offer);
    SSL_CTX_free(w->server);
    SSL_CTX_free(w->client);
    close(w->listener);
    free(w);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// The threads of cwork_handshakes share it: the number of connections that remain, and failures.
typedef struct {
    cwork_tls *w;
    double *latencies; // or NULL
    atomic_long to_dial, to_answer;
    atomic_int failed;
} shared;

static void *serve(void *arg) {
    shared *s = arg;
    while (atomic_fetch_sub(&s->to_answer, 1) > 0) {
        SSL *ssl = answer(s->w);
        if (ssl == NULL) {
            ERR_print_errors_fp(stderr); // of this thread
            s->failed = 1;
        }
        finish(ssl);
    }
    if (redis_fd >= 0) {
        close(redis_fd);
    }
    return NULL;
}

static void *connect_all(void *arg) {
    shared *s = arg;
    for (long i; (i = atomic_fetch_sub(&s->to_dial, 1) - 1) >= 0;) {
        double start = now();
        SSL *ssl = dial(s->w);
        if (ssl == NULL || SSL_session_reused(ssl) != (s->w->offer != NULL)) {
            ERR_print_errors_fp(stderr);
            s->failed = 1;
            shutdown(s->w->listener, SHUT_RDWR);
        }
        finish(ssl);
        if (s->latencies != NULL) {
            s->latencies[i] = now() - start;
        }
    }
    return NULL;
}

// Connects n times. Each worker has one client at a time, with a thread for its server end.
int cwork_handshakes(cwork_tls *w, size_t n, double *latencies) {
    shared s = {.w = w, .latencies = latencies, .to_dial = (long)n, .to_answer = (long)n};
    size_t workers = w->config.workers;
    long heard_before = heard;
    pthread_t *threads = calloc(2 * workers, sizeof *threads);
    for (size_t i = 0; i < 2 * workers; i++) {
        if (pthread_create(&threads[i], NULL, i < workers ? serve : connect_all, &s) != 0) {
            abort();
        }
    }
    for (size_t i = 0; i < 2 * workers; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
    if (w->config.hear && heard - heard_before != (long)n) {
        fprintf(stderr, "heard of %ld sessions of %zu\n", heard - heard_before, n);
        return 0;
    }
    return !s.failed;
}

typedef struct {
    SSL *ssl;
    size_t size, n;
    int ok;
} far_end;

static void *read_stream(void *arg) {
    far_end *f = arg;
    unsigned char *buf = malloc(64 << 10);
    f->ok = 1;
    for (size_t left = f->size * f->n, k; f->ok && left > 0; left -= k) {
        f->ok = SSL_read_ex(f->ssl, buf, left < 64 << 10 ? left : 64 << 10, &k) == 1;
    }
    f->ok = f->ok && write_full(f->ssl, (const unsigned char *)"!", 1);
    free(buf);
    return NULL;
}

static void *pong(void *arg) {
    far_end *f = arg;
    unsigned char c = 0;
    f->ok = 1;
    for (size_t i = 0; f->ok && i < f->n; i++) {
        f->ok = read_full(f->ssl, &c, 1) && write_full(f->ssl, &c, 1);
    }
    return NULL;
}

// Writes n blocks. The other end reads them and answers with a byte.
int cwork_stream(cwork_tls *w, size_t size, size_t n) {
    pthread_t thread;
    far_end far = {.ssl = w->far, .size = size, .n = n};
    unsigned char *data = calloc(1, size), c;
    if (data == NULL || pthread_create(&thread, NULL, read_stream, &far) != 0) {
        abort();
    }
    int ok = 1;
    for (size_t i = 0; ok && i < n; i++) {
        ok = write_full(w->near, data, size);
    }
    ok = ok && read_full(w->near, &c, 1);
    pthread_join(thread, NULL);
    free(data);
    return ok && far.ok;
}

// Sends a byte there and one back, n times.
int cwork_ping_pong(cwork_tls *w, size_t n) {
    pthread_t thread;
    far_end far = {.ssl = w->far, .n = n};
    if (pthread_create(&thread, NULL, pong, &far) != 0) {
        abort();
    }
    unsigned char c = 0;
    int ok = 1;
    for (size_t i = 0; ok && i < n; i++) {
        ok = write_full(w->near, &c, 1) && read_full(w->near, &c, 1);
    }
    pthread_join(thread, NULL);
    return ok && far.ok;
}
