// SPDX-License-Identifier: Apache-2.0

// Verification of the peer: by a CertPool or by libssl's store, the expected name, and the peer's
// certificates.

#include "_cgo_export.h"
#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

// ---- CertPool ----

// The context stores the number of the pool, not a pointer.

void shim_release_pool(uintptr_t pool) {
    if (pool != 0) {
        goReleasePool(pool);
    }
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

// write_chain returns the peer's certificate and those that the peer sent with it. The caller frees
// the memory. NULL without memory.
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

static uintptr_t pool_of(const SSL *ssl) {
    const ctx_state *state = ctx_state_of(SSL_get_SSL_CTX(ssl));
    return state == NULL ? 0 : state->pool;
}

void shim_forget_verification(shim_conn *c) {
    free(c->chain);
    free(c->anchors);
    c->chain = c->anchors = NULL;
    c->verify_state = SHIM_VERIFY_IDLE;
}

// shim_forget_gone_pool forgets a question to a pool that the context no longer has: libssl asks no
// more, and verifies by its store.
void shim_forget_gone_pool(shim_conn *c) {
    if (c->verify_state == SHIM_VERIFY_ASKED && pool_of(c->ssl) == 0) {
        shim_forget_verification(c);
    }
}

// suspend_for_pool leaves the chain for Go, and makes libssl ask again later; 0 if that is not
// possible. Only a client can be suspended: a server would treat the callback's 1 as a good chain.
static int suspend_for_pool(shim_conn *c, X509_STORE_CTX *ctx, uintptr_t pool) {
    if (!c->may_suspend || SSL_is_server(c->ssl) || !SHIM_HAS_RETRY_VERIFY) {
        return 0;
    }
    shim_forget_verification(c);
    c->chain = write_chain(ctx, &c->chain_len);
    c->pool = pool;
    if (c->chain == NULL || SSL_set_retry_verify(c->ssl) != 1) {
        return 0;
    }
    c->verify_state = SHIM_VERIFY_ASKED;
    return 1;
}

// ask_pool returns the certificates of the pool that the chain of ctx ends in. The list is empty if
// there are none, and NULL if Go cannot answer. c is NULL for an SSL that other code made.
static STACK_OF(X509) * ask_pool(shim_conn *c, X509_STORE_CTX *ctx, uintptr_t pool) {
    if (c != NULL && c->verify_state == SHIM_VERIFY_ANSWERED) {
        STACK_OF(X509) *answer = read_anchors(c->anchors, c->anchors_len);
        shim_forget_verification(c);
        return answer;
    }
    size_t n;
    unsigned char *der = write_chain(ctx, &n), *found = NULL;
    // The pool may be newer than the call's SHIM_UPCALL_ bits: a hook of the call may have set it.
    long len = der == NULL ? -1 : goAskPool(c == NULL ? 0 : c->handle, pool, der, n, &found);
    STACK_OF(X509) *anchors = read_anchors(found, len);
    free(der);
    free(found);
    return anchors;
}

// It takes ownership of anchors: Go's answer, in C memory.
void shim_answer_verification(shim_conn *c, unsigned char *anchors, long n) {
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

// add_issuers adds the certificates of ctx's store that have the name of x's issuer.
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

// libssl verifies as always. If the pool has anchors for the chain, libssl does not trust its whole
// store in this call. It trusts these anchors and the issuers for the chain that the store has.
static int verify_with_pool(X509_STORE_CTX *ctx, void *arg) {
    const SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    shim_conn *c = ssl == NULL ? NULL : conn_of(ssl);
    STACK_OF(X509) *trusted = NULL, *sent = X509_STORE_CTX_get0_untrusted(ctx);
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    if (leaf != NULL) { // otherwise it is a raw key, which no pool has
        if (c != NULL && c->verify_state != SHIM_VERIFY_ANSWERED &&
            suspend_for_pool(c, ctx, (uintptr_t)arg)) {
            return 1; // no result yet: libssl asks again
        }
        ERR_set_mark();
        trusted = ask_pool(c, ctx, (uintptr_t)arg);
        int ok = trusted != NULL;
        if (ok && sk_X509_num(trusted) > 0) {
            ok = add_issuers(ctx, trusted, leaf);
            for (int i = 0; ok && i < sk_X509_num(sent); i++) {
                ok = add_issuers(ctx, trusted, sk_X509_value(sent, i));
            }
            for (int i = 0; ok && i < sk_X509_num(trusted); i++) { // trusted grows here
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

// It returns the number of the pool that is no longer used. Pool 0 is none.
uintptr_t shim_SSL_CTX_set_cert_verify_callback(SSL_CTX *ctx, uintptr_t pool) {
    ctx_state *state = ctx_state_of(ctx);
    uintptr_t old = state->pool;
    state->pool = pool;
    SSL_CTX_set_cert_verify_callback(ctx, pool == 0 ? NULL : verify_with_pool, (void *)pool);
    return old;
}

// It records that the context may trust less than before. A session stores only the second in which
// it was made: sessions of this second count as older.
void shim_SSL_CTX_note_trust_lost(SSL_CTX *ctx) {
    ctx_state *state = ctx_state_of(ctx);
    if (state != NULL) {
        state->trusts_since = libssl_seconds() + 1;
    }
}

// It lets a chain end in any trusted certificate, as crypto/x509 does.
void shim_SSL_CTX_get0_param(SSL_CTX *ctx) {
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
}

// ---- Whether the peer is verified ----

// shim_is_verifying says whether a failed verification of the peer's certificate ends the
// handshake. In a client it does in every mode but SSL_VERIFY_NONE.
int shim_is_verifying(const SSL *ssl) {
    int mode = SSL_get_verify_mode(ssl);
    return SSL_is_server(ssl) ? (mode & SSL_VERIFY_PEER) != 0 : mode != SSL_VERIFY_NONE;
}

// The next two keep the callback that is set.
void shim_SSL_CTX_set_verify(SSL_CTX *ctx, int mode) {
    SSL_CTX_set_verify(ctx, mode, SSL_CTX_get_verify_callback(ctx));
}

void shim_SSL_set_verify(shim_conn *c, int mode) {
    SSL_set_verify(c->ssl, mode, SSL_get_verify_callback(c->ssl));
    c->verifies = shim_is_verifying(c->ssl);
}

// verify_store_of returns the store that libssl verifies by. A store that VerifyCAFile or a similar
// configuration command made comes first.
static X509_STORE *verify_store_of(SSL *ssl) {
    X509_STORE *store = NULL;
    SSL_get0_verify_cert_store(ssl, &store);
    return store != NULL ? store : SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
}

// shim_verify_again verifies certificates as libssl does in a handshake. If chain is not NULL, it
// also returns the chain, which the caller frees. It then runs outside a call into libssl, and asks
// no pool.
long shim_verify_again(SSL *ssl, X509 *leaf, STACK_OF(X509) * sent, STACK_OF(X509) * *chain) {
    shim_conn *c = conn_of(ssl);
    X509_STORE_CTX *v = X509_STORE_CTX_new();
    long code = X509_V_ERR_OUT_OF_MEM;
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
        code = X509_STORE_CTX_get_error(v);
        if (!ok && code == X509_V_OK) {
            code = X509_V_ERR_UNSPECIFIED;
        } else if (ok && chain != NULL) {
            *chain = X509_STORE_CTX_get1_chain(v);
        }
    }
    ERR_pop_to_mark();
    c->may_suspend = may_suspend;
    X509_STORE_CTX_free(v);
    return code;
}

// ---- The server that a client expects ----

// Names are compared as in crypto/tls: no common names, and "*" is a whole label.
#define HOST_FLAGS (X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

int shim_is_for_name(const shim_conn *c, X509 *x) {
    switch (c->any_name ? SHIM_NAME_NONE : c->named) {
    case SHIM_NAME_HOST:
        return X509_check_host(x, c->name, 0, HOST_FLAGS, NULL) == 1;
    case SHIM_NAME_ADDRESS:
        return X509_check_ip(x, c->address, c->address_len, HOST_FLAGS) == 1;
    }
    return 1;
}

// forget_name drops the names of earlier calls, which would have to match, too. Without a name any
// certificate matches.
static void forget_name(shim_conn *c) {
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    X509_VERIFY_PARAM_set1_ip(param, NULL, 0);
    X509_VERIFY_PARAM_set1_host(param, NULL, 0);
}

// is_no_host says whether libssl refuses the name. 4.0 checks names, and reports a bad name like a
// lack of memory.
static int is_no_host(const char *name) {
    X509_VERIFY_PARAM *other = X509_VERIFY_PARAM_new();
    int is_not = other != NULL && X509_VERIFY_PARAM_set1_host(other, "localhost", 0) == 1 &&
                 X509_VERIFY_PARAM_set1_host(other, name, 0) != 1;
    X509_VERIFY_PARAM_free(other);
    return is_not;
}

// It sets the name that the certificate must have, or the address if n is not 0. It also sends a
// name to the server; SNI has no addresses. The result is SHIM_REFUSED_NAME if libssl refuses the
// name.
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
        memcpy(c->name, name, strlen(name) + 1); // libssl takes no longer name than fits
        c->named = SHIM_NAME_HOST;
    }
    if (!ok && n == 0 && ERR_peek_error() == 0 && is_no_host(name)) {
        return result(SHIM_REFUSED_NAME, 1);
    }
    return result_clear(ok, ok);
}

// It accepts a certificate for any name.
void shim_SSL_get0_param(shim_conn *c) {
    forget_name(c);
    c->any_name = 1;
}

// ---- The peer's certificates ----

// shim_forget_certs frees the certificates that Go has read.
void shim_forget_certs(shim_conn *c) {
    shim_bytes none = {NULL, 0, 0, NULL};
    shim_bytes_free(c->peer_certs.p, c->peer_certs.n);
    shim_errs_free(c->peer_certs.errs);
    c->peer_certs = none;
}

// shim_forget_peer frees the peer of an earlier handshake.
void shim_forget_peer(shim_conn *c) {
    X509_free(c->peer);
    sk_X509_pop_free(c->peer_chain, X509_free);
    sk_X509_pop_free(c->peer_sent, X509_free);
    c->peer = NULL;
    c->peer_chain = c->peer_sent = NULL;
}

// shim_note_peer stores the peer's certificates for Go, if they have changed. In a client libssl's
// chain includes the peer's own certificate, in a server it does not. A session that was read has
// only that certificate.
void shim_note_peer(shim_conn *c) {
    X509 *peer = SSL_get0_peer_certificate(c->ssl);
    if (peer == c->peer || !SSL_is_init_finished(c->ssl)) {
        return;
    }
    if (peer != NULL) {
        X509_up_ref(peer); // so that no other gets its address
    }
    shim_forget_peer(c);
    c->peer = peer;
    c->peer_changed = 1;
    c->asked_auth = 0; // the answer, if one was awaited
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(c->ssl);
    if (SSL_session_reused(c->ssl)) {
        sent = shim_chain_of_offer(c);
    }
    STACK_OF(X509) *chain = SSL_get0_verified_chain(c->ssl);
    c->peer_sent = sk_X509_num(sent) > 0 ? X509_chain_up_ref(sent) : NULL;
    // libssl may still have that of an earlier handshake.
    if (peer != NULL && sk_X509_num(chain) > 0 && X509_cmp(sk_X509_value(chain, 0), peer) == 0) {
        c->peer_chain = X509_chain_up_ref(chain);
    }
    c->peer_certs =
        shim_write_certs(SSL_is_server(c->ssl) || sk_X509_num(sent) <= 0 ? peer : NULL, sent);
    c->peer_verified =
        peer != NULL && shim_is_verifying(c->ssl) && SSL_get_verify_result(c->ssl) == X509_V_OK;
}

// The chain is that of the last complete handshake: in a later one libssl has what the peer claims.
// A connection that resumed a session has no chain: the chain is built again, if the store alone is
// enough.
shim_chain shim_SSL_get0_verified_chain(shim_conn *c) {
    shim_chain r = {{NULL, 0, 0, NULL}, 0};
    STACK_OF(X509) *chain = c->peer_chain, *rebuilt = NULL;
    if (c->peer == NULL) {
        return r;
    }
    if (chain == NULL && shim_verify_again(c->ssl, c->peer, c->peer_sent, &rebuilt) == X509_V_OK) {
        chain = rebuilt;
    }
    if (chain != NULL) {
        r.der = shim_write_certs(NULL, chain);
    } else {
        r.pool = pool_of(c->ssl);
    }
    sk_X509_pop_free(rebuilt, X509_free);
    clear_errors();
    return r;
}

// It returns the certificate that made a handshake fail: the first of the chain that libssl built.
shim_bytes shim_SSL_rejected_certificate(shim_conn *c) {
    STACK_OF(X509) *chain = SSL_get0_verified_chain(c->ssl);
    return shim_write_certs(sk_X509_num(chain) > 0 ? sk_X509_value(chain, 0) : NULL, NULL);
}

// The names are DER, one after the other. p is NULL without errors if there are none.
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
    return shim_take_bio(bio, ok);
}

// It queues the message and sends it. Without SSL_MODE_AUTO_RETRY a read stops behind the answer,
// so that the caller notes the peer before it reads what follows.
int shim_SSL_verify_client_post_handshake(shim_conn *c, unsigned char *out, size_t out_cap) {
    event_queue q;
    shim_conn_begin(c, &q, NULL, 0, out, out_cap);
    int ret = SSL_verify_client_post_handshake(c->ssl);
    if (ret == 1) {
        c->asked_auth = 1;
        SSL_clear_mode(c->ssl, SSL_MODE_AUTO_RETRY);
    }
    return shim_conn_end(c, &q, ret == 1 ? SSL_do_handshake(c->ssl) : ret);
}
