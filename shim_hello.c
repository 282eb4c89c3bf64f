// SPDX-License-Identifier: Apache-2.0

// The ClientHello, where a server waits for Go, and the callback that looks up a session.

#include "_cgo_export.h"
#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

static unsigned char *put(unsigned char *p, const unsigned char *from, size_t n) {
    memcpy(p, from, n);
    return p + n;
}

static unsigned char *put16(unsigned char *p, size_t n) {
    *p++ = (unsigned char)(n >> 8);
    *p++ = (unsigned char)n;
    return p;
}

// write_hello copies the ClientHello, which libssl shows only during the callback. The copy has the
// form of the message without random and compression: version, session ID, cipher suites and all
// extensions.
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
    free(c->hello);
    unsigned char *p = c->hello = calloc(1, len);
    if (p != NULL) {
        p = put16(p, SSL_client_hello_get0_legacy_version(c->ssl));
        *p++ = (unsigned char)id_len;
        p = put(p, id, id_len);
        if (SHIM_client_hello_isv2(c->ssl)) { // its cipher suites are three bytes long
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

// note_allowed records where libssl will look for a session. Go itself reads what the client asks
// for.
static void note_allowed(shim_conn *c) {
    uint64_t options = SSL_get_options(c->ssl);
    long mode = SSL_CTX_get_session_cache_mode(c->session_ctx);
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

// note_name keeps the server_name extension for Go, because libssl forgets the name when it resumes
// a TLS 1.2 session. It returns 0 if the extension is too long for a name. libssl refuses that
// itself only if it does not resume.
static int note_name(shim_conn *c) {
    const unsigned char *ext;
    size_t len;
    c->asked_name_len = 0;
    if (SSL_client_hello_get0_ext(c->ssl, TLSEXT_TYPE_server_name, &ext, &len) != 1) {
        return 1;
    }
    if (len > sizeof c->sent_name) {
        return 0;
    }
    memcpy(c->sent_name, ext, len);
    c->asked_name_len = len;
    return 1;
}

// set_ctx changes to the context that Go chose. libssl then uses its certificate and trust. The
// verify mode and parameters must change, too, which libssl does not do.
static int set_ctx(SSL *ssl, SSL_CTX *ctx) {
    ctx_state *state = ctx_state_of(conn_of(ssl)->session_ctx);
    if (state != NULL) {
        state->shared = 1;
    }
    if (SSL_set_SSL_CTX(ssl, ctx) != ctx || SSL_set1_param(ssl, SSL_CTX_get0_param(ctx)) != 1) {
        return 0;
    }
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), SSL_CTX_get_verify_callback(ctx));
    return 1;
}

// digest_ext makes a digest of an extension, or of its absence; 0 without memory.
static int digest_ext(shim_conn *c, unsigned int type, unsigned char digest[SHA256_DIGEST_LENGTH]) {
    const unsigned char *ext = NULL;
    size_t len = 0;
    int has = SSL_client_hello_get0_ext(c->ssl, type, &ext, &len) == 1;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
             EVP_DigestUpdate(md, &has, sizeof has) == 1 &&
             (len == 0 || EVP_DigestUpdate(md, ext, len) == 1) &&
             EVP_DigestFinal_ex(md, digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    return ok;
}

// note_choice keeps digests of what the hook's choice depends on: the name and the protocols.
static int note_choice(shim_conn *c) {
    return digest_ext(c, TLSEXT_TYPE_server_name, c->hello_name) &&
           digest_ext(c, TLSEXT_TYPE_application_layer_protocol_negotiation, c->hello_alpn);
}

// is_same_ext says whether an extension of a ClientHello has the same digest as before.
static int is_same_ext(shim_conn *c, unsigned int type, const unsigned char *before, int *alert) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    if (!digest_ext(c, type, digest)) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return 0;
    }
    *alert = SSL_AD_ILLEGAL_PARAMETER;
    return memcmp(digest, before, sizeof digest) == 0;
}

// keeps_choice says whether a later ClientHello has the name and the protocols that the hook saw.
// libssl's clients send no protocols in a renegotiation: the agreed protocol stays.
static int keeps_choice(shim_conn *c, int *alert) {
    const unsigned int alpn = TLSEXT_TYPE_application_layer_protocol_negotiation;
    const unsigned char *ext;
    size_t len;
    if (!c->hello_has_choice) {
        return 1;
    }
    int without = c->finished && SSL_client_hello_get0_ext(c->ssl, alpn, &ext, &len) != 1;
    return is_same_ext(c, TLSEXT_TYPE_server_name, c->hello_name, alert) &&
           (without || is_same_ext(c, alpn, c->hello_alpn, alert));
}

// shim_on_client_hello suspends the handshake until Go has an answer. A second ClientHello (after a
// HelloRetryRequest, or to renegotiate) uses the answer to the first, even if the hook is gone.
int shim_on_client_hello(SSL *ssl, int *alert, void *arg) {
    (void)arg;
    shim_conn *c = conn_of(ssl);
    if (c == NULL) {
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    if (c->hello_state == SHIM_HELLO_ANSWERED && !keeps_choice(c, alert)) {
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
        c->hello_has_choice = (c->ask_hello & SHIM_ASK_CONTEXT) != 0;
        return (!c->hello_has_choice || note_choice(c)) && write_hello(c) ? SSL_CLIENT_HELLO_RETRY
                                                                          : SSL_CLIENT_HELLO_ERROR;
    }
    if (!c->hello_answered && !c->hello_refused) { // Go could not ask, or got no answer
        SSL_CTX_free(c->hello_ctx);
        c->hello_ctx = NULL;
        return write_hello(c) ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_ERROR;
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

void shim_SSL_client_hello_free(shim_conn *c) {
    free(c->hello);
    c->hello = NULL;
    c->hello_len = 0;
}

// It keeps ctx for the callback: libssl lets a server change contexts there.
void shim_SSL_set_SSL_CTX(shim_conn *c, SSL_CTX *ctx) {
    SSL_CTX_up_ref(ctx);
    SSL_CTX_free(c->hello_ctx);
    c->hello_ctx = ctx;
}

// The callback stays: without ask_hello it does nothing. chooses says that a hook may choose other
// contexts.
void shim_SSL_CTX_set_client_hello_cb(SSL_CTX *ctx, int chooses) {
    ctx_state *state = ctx_state_of(ctx);
    if (chooses && state != NULL) {
        state->shared = 1;
    }
    SSL_CTX_set_client_hello_cb(ctx, shim_on_client_hello, NULL);
}

// ---- The session that a client names ----

// is_found says whether an identity is that of the session that was looked up.
static int is_found(const shim_conn *c, const unsigned char *id, int len) {
    return c->found != NULL && (size_t)len == c->wanted_len &&
           memcmp(id, c->wanted, (size_t)len) == 0;
}

// may_resume is shim_may_resume. A client may name the session that was looked up hundreds of
// times: its certificate is verified once.
static int may_resume(shim_conn *c, SSL_SESSION *s, int found) {
    if (!found) {
        return shim_may_resume(c, s, NULL);
    }
    if (c->found_allowed == 0) {
        c->found_allowed = shim_may_resume(c, s, NULL) ? 1 : -1;
    }
    return c->found_allowed == 1;
}

// find_session returns the session that was looked up while the handshake was suspended, or asks
// Go's hook. After a HelloRetryRequest libssl asks twice, and gets the same session twice.
static SSL_SESSION *find_session(shim_conn *c, int found, const unsigned char *id, int len,
                                 int *up_ref) {
    if (found) {
        *up_ref = !c->found_passed;
        if (c->found_passed) { // libssl may have added it to its cache, and must not do so twice
            return shim_dup_session(c->found);
        }
        c->found_passed = 1;
        return c->found;
    }
    *up_ref = 0; // Go passes a reference
    return upcall_handle(c, SHIM_UPCALL_GET_SESSION) == 0
               ? NULL
               : goGetSession(c->handle, (unsigned char *)id, len);
}

static SSL_SESSION *on_get_session(SSL *ssl, const unsigned char *id, int len, int *up_ref) {
    shim_conn *c = conn_of(ssl);
    if (c == NULL) { // other code made it: a Context answers
        const ctx_state *state = ctx_state_of(SSL_get_SSL_CTX(ssl));
        *up_ref = 0;
        return state == NULL ? NULL : goGetSessionForeign(state->number, (unsigned char *)id, len);
    }
    c->psk_found = 0; // it was that of the identity before this one
    int found = is_found(c, id, len);
    SSL_SESSION *s = find_session(c, found, id, len, up_ref);
    if (s != NULL && !may_resume(c, s, found)) {
        if (!*up_ref) {
            SSL_SESSION_free(s);
        }
        return NULL;
    }
    if (s != NULL) {
        shim_note_added(c->session_ctx, s);
    }
    return s;
}

// It leaves a callback of other code in place, and returns SHIM_REFUSED_FOREIGN_CALLBACK.
shim_long shim_SSL_CTX_sess_set_get_cb(SSL_CTX *ctx, int on) {
    SSL_SESSION *(*is)(SSL *, const unsigned char *, int, int *) = SSL_CTX_sess_get_get_cb(ctx);
    if (is != NULL && is != on_get_session) {
        return result(SHIM_REFUSED_FOREIGN_CALLBACK, 1);
    }
    SSL_CTX_sess_set_get_cb(ctx, on ? on_get_session : NULL);
    return result(1, 1);
}
