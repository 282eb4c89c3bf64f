// SPDX-License-Identifier: Apache-2.0

#include "cwork.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Connections over loopback TCP with blocking sockets, the server in a thread of its own: what a C
// program of two threads does. The first byte that the server sends brings the tickets of TLS 1.3.

struct cwork_tls {
    SSL_CTX *server, *client;
    SSL_SESSION *offer; // or NULL
    int listener;
    struct sockaddr_in addr;

    // The server's thread, and what it is to do with each connection.
    pthread_t thread;
    size_t connections;
    size_t round; // how much it answers with one byte; 0 is nothing: it closes at once
    int failed;

    SSL *open; // the client's end
};

static int use_pem(SSL_CTX *ctx, SSL_CTX *client, const char *cert, const char *key) {
    BIO *cert_bio = BIO_new_mem_buf(cert, -1), *key_bio = BIO_new_mem_buf(key, -1);
    X509 *x = PEM_read_bio_X509(cert_bio, NULL, NULL, NULL);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    int ok = x != NULL && k != NULL && SSL_CTX_use_certificate(ctx, x) == 1 &&
             SSL_CTX_use_PrivateKey(ctx, k) == 1 &&
             X509_STORE_add_cert(SSL_CTX_get_cert_store(client), x) == 1;
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

static int serve_one(cwork_tls *w, unsigned char *buf) {
    int fd = accept(w->listener, NULL, NULL);
    no_delay(fd);
    SSL *ssl = SSL_new(w->server);
    SSL_set_fd(ssl, fd);
    int ok = SSL_accept(ssl) == 1 && write_full(ssl, buf, 1);
    while (ok && w->round > 0 && read_full(ssl, buf, w->round)) {
        ok = write_full(ssl, buf, 1);
    }
    finish(ssl);
    return ok;
}

static void *serve(void *arg) {
    cwork_tls *w = arg;
    unsigned char *buf = calloc(1, w->round + 1);
    for (size_t i = 0; buf != NULL && i < w->connections; i++) {
        w->failed |= !serve_one(w, buf);
    }
    free(buf);
    return NULL;
}

static void start(cwork_tls *w, size_t connections, size_t round) {
    w->connections = connections;
    w->round = round;
    w->failed = 0;
    if (pthread_create(&w->thread, NULL, serve, w) != 0) {
        abort();
    }
}

// stop waits for the server, which has no more connections to wait for if something failed.
static int stop(cwork_tls *w, int ok) {
    if (!ok) {
        shutdown(w->listener, SHUT_RDWR);
    }
    return pthread_join(w->thread, NULL) == 0 && ok && !w->failed;
}

static SSL *dial(cwork_tls *w) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SSL *ssl = SSL_new(w->client);
    SSL_set_fd(ssl, fd);
    no_delay(fd);
    unsigned char c;
    if (connect(fd, (struct sockaddr *)&w->addr, sizeof w->addr) == 0 &&
        (w->offer == NULL || SSL_set_session(ssl, w->offer) == 1) && SSL_connect(ssl) == 1 &&
        read_full(ssl, &c, 1)) {
        return ssl;
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

// The sessions of a server that keeps them outside of libssl: the last one, as DER.
static unsigned char *stored;
static int stored_len;

static int store(SSL *ssl, SSL_SESSION *s) {
    (void)ssl;
    OPENSSL_clear_free(stored, (size_t)stored_len);
    stored = NULL;
    stored_len = i2d_SSL_SESSION(s, &stored);
    return 0;
}

static SSL_SESSION *find(SSL *ssl, const unsigned char *id, int len, int *up_ref) {
    (void)ssl;
    const unsigned char *p = stored;
    unsigned int n = 0;
    SSL_SESSION *s = d2i_SSL_SESSION(NULL, &p, stored_len);
    *up_ref = 0;
    if (s != NULL && (memcmp(SSL_SESSION_get_id(s, &n), id, (size_t)len) != 0 || (int)n != len)) {
        SSL_SESSION_free(s);
        return NULL;
    }
    return s;
}

cwork_tls *cwork_tls_new(const char *cert, const char *key, int version, int resume) {
    cwork_tls *w = calloc(1, sizeof *w);
    w->server = SSL_CTX_new(TLS_server_method());
    w->client = SSL_CTX_new(TLS_client_method());
    SSL_CTX *both[] = {w->server, w->client};
    for (int i = 0; i < 2; i++) {
        SSL_CTX_set_min_proto_version(both[i], version);
        SSL_CTX_set_max_proto_version(both[i], version);
        SSL_CTX_set_read_ahead(both[i], 1); // one system call for header and body
    }
    SSL_CTX_set_verify(w->client, SSL_VERIFY_PEER, NULL);
    if (resume == CWORK_RESUME_OUTSIDE) {
        SSL_CTX_set_options(w->server, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(w->server,
                                       SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(w->server, store);
        SSL_CTX_sess_set_get_cb(w->server, find);
    }
    socklen_t len = sizeof w->addr;
    w->addr.sin_family = AF_INET;
    w->addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    w->listener = socket(AF_INET, SOCK_STREAM, 0);
    int ok = use_pem(w->server, w->client, cert, key) &&
             bind(w->listener, (struct sockaddr *)&w->addr, len) == 0 &&
             getsockname(w->listener, (struct sockaddr *)&w->addr, &len) == 0 &&
             listen(w->listener, 16) == 0;
    if (ok && resume) {
        ok = cwork_tls_open(w, 0);
        w->offer = ok ? SSL_get1_session(w->open) : NULL;
        ok = cwork_tls_shut(w) && ok;
    }
    if (!ok) {
        cwork_tls_free(w);
        return NULL;
    }
    return w;
}

void cwork_tls_free(cwork_tls *w) {
    SSL_SESSION_free(w->offer);
    SSL_CTX_free(w->server);
    SSL_CTX_free(w->client);
    close(w->listener);
    free(w);
}

int cwork_tls_handshakes(cwork_tls *w, size_t n) {
    int ok = 1;
    start(w, n, 0);
    for (size_t i = 0; ok && i < n; i++) {
        SSL *ssl = dial(w);
        ok = ssl != NULL && SSL_session_reused(ssl) == (w->offer != NULL);
        finish(ssl);
    }
    return stop(w, ok);
}

int cwork_tls_open(cwork_tls *w, size_t round) {
    start(w, 1, round);
    w->open = dial(w);
    return w->open != NULL;
}

int cwork_tls_shut(cwork_tls *w) {
    int ok = w->open != NULL;
    finish(w->open);
    w->open = NULL;
    return stop(w, ok);
}

// A round is blocks of a size, one after the other, and the server's answer when it has read all.
int cwork_tls_rounds(cwork_tls *w, const unsigned char *data, size_t size, size_t blocks,
                     size_t n) {
    int ok = 1;
    for (size_t i = 0; ok && i < n; i++) {
        for (size_t j = 0; ok && j < blocks; j++) {
            ok = write_full(w->open, data, size);
        }
        unsigned char answer;
        ok = ok && read_full(w->open, &answer, 1);
    }
    return ok;
}
