// SPDX-License-Identifier: Apache-2.0

// Sessions of connections: what may be offered and resumed, and what was.

#include "shim_internal.h"

#include <string.h>
#include <time.h>

// ---- What may be offered and resumed ----

static int has_expired(const SSL *ssl, const X509 *x) {
    unsigned long flags = X509_VERIFY_PARAM_get_flags(SSL_get0_param((SSL *)ssl));
    return (flags & X509_V_FLAG_NO_CHECK_TIME) == 0 &&
           ASN1_TIME_cmp_time_t(X509_get0_notAfter(x), time(NULL)) <= 0;
}

// Of a session that was read from storage the chain is not there, so that an issuer may be missing
// that the server would send.
static int is_missing_issuer(long code) {
    return code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           code == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

// may_offer says whether a session stands for all that a client verifies: its certificate was found
// good, by the trust of this context, is for this name, and has not expired.
static int may_offer(shim_conn *c, SSL_SESSION *s) {
    X509 *leaf = SSL_SESSION_get0_peer(s);
    if (!shim_is_verifying(c->ssl)) {
        return 1;
    }
    if (SSL_get_verify_result(c->ssl) !=
        X509_V_OK) { // which is the session's, until it is connected
        return 0;
    }
    if (leaf == NULL) {
        return SSL_SESSION_get0_peer_rpk(s) != NULL;
    }
    if (has_expired(c->ssl, leaf) || !shim_is_for_name(c, leaf)) {
        return 0;
    }
    if (!c->doubted) {
        return 1;
    }
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(c->ssl);
    long code = shim_verify_again(c->ssl, leaf, sent, NULL);
    return code == X509_V_OK || (sk_X509_num(sent) <= 0 && is_missing_issuer(code));
}

// shim_screen_offer has a client that verifies not offer what was made without.
void shim_screen_offer(shim_conn *c) {
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
    const ctx_state *state = ctx_state_of(ctx);
    return state == NULL ||
           (!state->shared && (int64_t)SSL_SESSION_get_time_ex(s) >= state->trusts_since);
}

// shim_may_resume says whether a session has what a server asks of clients. Where that was verified
// by other trust, the certificate is verified again.
int shim_may_resume(const shim_conn *c, SSL_SESSION *s, STACK_OF(X509) * sent) {
    int mode = SSL_get_verify_mode(c->ssl);
    X509 *leaf = SSL_SESSION_get0_peer(s);
    if (!shim_is_verifying(c->ssl)) {
        return 1;
    }
    if (leaf == NULL) {
        int later = (mode & SSL_VERIFY_POST_HANDSHAKE) != 0 &&
                    SSL_SESSION_get_protocol_version(s) == TLS1_3_VERSION;
        return (mode & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) == 0 || later ||
               SSL_SESSION_get0_peer_rpk(s) != NULL;
    }
    int own = SSL_get_SSL_CTX(c->ssl) == c->session_ctx && is_verified_by(c->session_ctx, s);
    return !has_expired(c->ssl, leaf) &&
           (own || shim_verify_again(c->ssl, leaf, sent, NULL) == X509_V_OK);
}

// is_bad_result says whether the session that a server resumed was made although the verification
// failed. A callback of other code may have wanted just that.
static int is_bad_result(const shim_conn *c) {
    return shim_is_verifying(c->ssl) && SSL_get0_peer_certificate(c->ssl) != NULL &&
           SSL_get_verify_callback(c->ssl) == NULL && SSL_get_verify_result(c->ssl) != X509_V_OK;
}

// shim_check_resumption ends a handshake that resumes what a server must not. It is the only answer
// to a session of libssl's own cache, which libssl asks nobody about: the session leaves the cache,
// and the client's next handshake is a full one.
void shim_check_resumption(shim_conn *c) {
    SSL_SESSION *s = SSL_get_session(c->ssl);
    int later = c->finished && SSL_version(c->ssl) == TLS1_3_VERSION; // a ticket, and no handshake
    if (later || !(c->began_in_init || SSL_in_init(c->ssl)) || s == c->looked_at ||
        !SSL_is_server(c->ssl) || !SSL_session_reused(c->ssl) || c->ssl_error == SSL_ERROR_SSL ||
        c->ssl_error == SSL_ERROR_SYSCALL) {
        return;
    }
    c->looked_at = s;
    if (SSL_version(c->ssl) < TLS1_3_VERSION) { // which has no second handshake
        SSL_SESSION_free(c->looked_at_kept);
        c->looked_at_kept = SSL_get1_session(c->ssl);
    }
    if (c->psk_found ||
        (shim_may_resume(c, s, SSL_get_peer_cert_chain(c->ssl)) && !is_bad_result(c))) {
        return;
    }
    SSL_CTX_remove_session(c->session_ctx, s);
    c->resumption_refused = 1;
    c->ssl_error = SSL_ERROR_SSL;
    c->n = 0;
    c->out_len = 0;
    if (!c->finished) {
        shim_send_alert(c, SSL_AD_HANDSHAKE_FAILURE);
    }
}

// shim_end_resumption_check prepares for the next handshake, which is checked anew, also if it
// resumes the same session.
void shim_end_resumption_check(shim_conn *c) {
    c->psk_found = 0;
    c->looked_at = NULL;
    SSL_SESSION_free(c->looked_at_kept);
    c->looked_at_kept = NULL;
}

// It keeps a client from resuming what was verified by trust that is lost. The
// time of a TLS 1.3 session is that of its ticket, and of a cached one that of its last use: it
// does not show when the client was verified.
void shim_SSL_withhold_sessions(shim_conn *c) {
    if (shim_is_verifying(c->ssl)) {
        c->withholds = 1;
        SSL_set_num_tickets(c->ssl, 0);
    }
}

// shim_drop_session takes the session of a handshake that is over out of the cache if sessions are
// withheld, before TLS 1.3.
void shim_drop_session(shim_conn *c) {
    if (c->withholds && c->began_in_init && !SSL_in_init(c->ssl) &&
        SSL_version(c->ssl) < TLS1_3_VERSION) {
        SSL_CTX_remove_session(c->session_ctx, SSL_get_session(c->ssl));
    }
}

// ---- What was resumed ----

// Whether two sessions have the same ticket: then one is a copy of the other.
static int same_ticket(const SSL_SESSION *a, const SSL_SESSION *b) {
    const unsigned char *p, *q;
    size_t n, m;
    SSL_SESSION_get0_ticket(a, &p, &n);
    SSL_SESSION_get0_ticket(b, &q, &m);
    return n > 0 && n == m && memcmp(p, q, n) == 0;
}

// shim_note_resumed keeps the session that the first handshake resumes, and then what is in it: the
// object lives no longer than libssl has it. It does so because libssl puts the session of a new
// ticket in its place: in a TLS 1.3 server before the handshake is over, and in a client when the
// ticket comes, which is in its middle before TLS 1.3. A client's is the one that is there when its
// ClientHello is made, if it is no pre-shared key of a hook, and also if libssl has made a copy of
// it since (4.0).
void shim_note_resumed(shim_conn *c) {
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

static SSL_SESSION *resumed_copy(const shim_conn *c) {
    const unsigned char *p = c->resumed_der;
    return p == NULL ? NULL : d2i_SSL_SESSION(NULL, &p, c->resumed_len);
}

// It returns a copy. p is the caller's reference, or NULL without errors when nothing was resumed.
shim_session shim_SSL_get1_resumed_session(shim_conn *c) {
    clear_errors();
    if (c->resumed != NULL && SSL_session_reused(c->ssl)) {
        return shim_SSL_SESSION_dup(c->resumed);
    }
    shim_session r = {resumed_copy(c), 1, NULL};
    if (r.p == NULL && c->resumed_der != NULL) {
        r.errs = shim_take_errors();
    }
    clear_errors();
    return r;
}

// It says whether a TLS 1.3 client has a ticket that this connection brought.
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

// ---- The session of a connection ----

// Connecting with a session that has a ticket and no ID writes to the offered object itself when
// the server declines the ticket: a new ID, which is its key in a cache, and a new certificate
// chain, over the old one, which is lost. (One that is not resumable is not offered at all.)
static int is_rewritten_by_client(const SSL_SESSION *s) {
    unsigned int n;
    SSL_SESSION_get_id(s, &n);
    return n == 0 && SSL_SESSION_is_resumable(s);
}

// What goes through DER has no chain that could be lost.
static SSL_SESSION *copy_by_der(SSL_SESSION *s) {
    unsigned char *der = NULL;
    int n = i2d_SSL_SESSION(s, &der);
    const unsigned char *p = der;
    SSL_SESSION *copied = n <= 0 ? NULL : d2i_SSL_SESSION(NULL, &p, n);
    OPENSSL_clear_free(der, n <= 0 ? 0 : (size_t)n);
    if (copied != NULL && !shim_copy_values_to(copied, s)) {
        SSL_SESSION_free(copied);
        return NULL;
    }
    return copied;
}

// It offers s, or a copy where s itself must not be offered. ssl may be of other code.
shim_long shim_SSL_set_session(SSL *ssl, SSL_SESSION *s, int private_copy) {
    clear_errors();
    const shim_conn *c = conn_of(ssl);
    if (s != NULL && without_cipher(s)) {
        return result(SHIM_REFUSED_NO_CIPHER, 1);
    }
    private_copy = private_copy || (c != NULL && c->has_ticket_ext);
    int rewritten = s != NULL && is_rewritten_by_client(s);
    SSL_SESSION *copied = NULL;
    if (rewritten) {
        copied = copy_by_der(s);
    } else if (s != NULL && private_copy) {
        copied = shim_dup_session(s);
    }
    if (copied == NULL && s != NULL && (rewritten || private_copy)) {
        return result(0, 0);
    }
    int ok = SSL_set_session(ssl, copied != NULL ? copied : s);
    SSL_SESSION_free(copied);
    return result_clear(ok, ok == 1);
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

// It copies a session that must not be given away as it is. p is the caller's reference, or NULL
// without errors when the connection has no session. ssl may be of other code.
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
