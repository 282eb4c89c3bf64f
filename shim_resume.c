// SPDX-License-Identifier: Apache-2.0

// Sessions of connections: which may be offered and resumed, and which was resumed.

#include "shim_internal.h"

#include <string.h>
#include <time.h>

// ---- Which session may be offered and resumed ----

static int has_expired(const SSL *ssl, const X509 *x) {
    unsigned long flags = X509_VERIFY_PARAM_get_flags(SSL_get0_param((SSL *)ssl));
    return (flags & X509_V_FLAG_NO_CHECK_TIME) == 0 &&
           ASN1_TIME_cmp_time_t(X509_get0_notAfter(x), time(NULL)) <= 0;
}

// A session that was read from storage has no chain: an issuer that the server would send may be
// missing.
static int is_missing_issuer(long code) {
    return code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           code == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

// may_offer says whether a client may offer a session. If the client verifies, the trust of this
// context must have verified the session's certificate, which must be for this name and not
// expired.
static int may_offer(shim_conn *c, SSL_SESSION *s) {
    X509 *leaf = SSL_SESSION_get0_peer(s);
    if (!shim_is_verifying(c->ssl)) {
        return 1;
    }
    if (SSL_get_verify_result(c->ssl) != X509_V_OK) { // before the handshake, the session's result
        return 0;
    }
    if (leaf == NULL) {
        return SSL_SESSION_get0_peer_rpk(s) != NULL;
    }
    if (has_expired(c->ssl, leaf) || !shim_is_for_name(c, leaf)) {
        return 0;
    }
    if (!c->trust_changed) {
        return 1;
    }
    STACK_OF(X509) *sent = shim_chain_of_offer(c);
    long code = shim_verify_again(c->ssl, leaf, sent, NULL);
    return code == X509_V_OK || (sk_X509_num(sent) <= 0 && is_missing_issuer(code));
}

// shim_screen_offer keeps a client from offering a session that does not pass may_offer.
void shim_screen_offer(shim_conn *c) {
    if (!SSL_in_before(c->ssl) || SSL_is_server(c->ssl)) {
        return;
    }
    SSL_SESSION *s = SSL_get_session(c->ssl);
    if (s != NULL && !may_offer(c, s)) {
        SSL_set_session(c->ssl, NULL);
        SSL_set_verify_result(c->ssl, X509_V_OK);
        c->withheld = 1;
    }
    if (s != NULL) {
        clear_errors(); // a name that does not match is no error of the handshake
    }
    c->trust_changed = 0;
}

// is_older says whether a session was made before ctx had the trust that it has now.
static int is_older(const ctx_state *state, const SSL_SESSION *s) {
    return state != NULL && (int64_t)SSL_SESSION_get_time_ex(s) < state->trusts_since;
}

// is_verified_by says whether a connection of ctx made the session, and verified the client by what
// ctx trusts now. Where a hook chooses contexts, in this process or in another with the same ticket
// keys, another context may have made it. A session from storage may be older than ctx.
static int is_verified_by(const SSL_CTX *ctx, const SSL_SESSION *s) {
    const ctx_state *state = ctx_state_of(ctx);
    return state == NULL || (!state->shared && !is_older(state, s));
}

// shim_may_resume says whether a session has what a server asks of clients. If other trust verified
// the client, the certificate is verified again.
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
// failed. A callback of other code may have allowed that.
static int is_bad_result(const shim_conn *c) {
    return shim_is_verifying(c->ssl) && SSL_get0_peer_certificate(c->ssl) != NULL &&
           SSL_get_verify_callback(c->ssl) == NULL && SSL_get_verify_result(c->ssl) != X509_V_OK;
}

// is_psk says whether s is a pre-shared key of a hook. libssl makes a session of a key, without a
// certificate. A certificate is that of another identity behind the key's, a ticket: libssl asks
// nobody about tickets on a context of other code.
static int is_psk(const shim_conn *c, SSL_SESSION *s) {
    return c->psk_found == SHIM_PSK_FOUND_SESSION ||
           (c->psk_found == SHIM_PSK_FOUND_KEY && SSL_SESSION_get0_peer(s) == NULL);
}

// shim_check_resumption ends a handshake that resumes a session which the server must not resume.
// libssl asks nobody before it resumes a session of its own cache: it can only be refused
// afterwards. The session leaves the cache, and the client's next handshake is a full one.
void shim_check_resumption(shim_conn *c) {
    SSL_SESSION *s = SSL_get_session(c->ssl);
    int later = c->finished && SSL_version(c->ssl) == TLS1_3_VERSION; // a ticket, not a handshake
    if (later || !(c->began_in_init || SSL_in_init(c->ssl)) || s == c->checked_session ||
        !SSL_is_server(c->ssl) || !SSL_session_reused(c->ssl) || c->ssl_error == SSL_ERROR_SSL ||
        c->ssl_error == SSL_ERROR_SYSCALL) {
        return;
    }
    c->checked_session = s;
    if (SSL_version(c->ssl) < TLS1_3_VERSION) { // TLS 1.3 has no second handshake
        SSL_SESSION_free(c->checked_ref);
        c->checked_ref = SSL_get1_session(c->ssl);
    }
    if (!shim_is_verifying(c->ssl) && SSL_SESSION_get0_peer(s) != NULL &&
        is_older(ctx_state_of(c->session_ctx), s)) {
        // Nobody verifies the certificate, and a ticket with the time of now would look as if the
        // trust of now had. Before TLS 1.3 the session keeps its time.
        SSL_set_num_tickets(c->ssl, 0);
        c->no_resumption |= SSL_version(c->ssl) == TLS1_3_VERSION;
    }
    if (is_psk(c, s) ||
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

// shim_end_resumption_check prepares for the next handshake, which is checked again, even if it
// resumes the same session.
void shim_end_resumption_check(shim_conn *c) {
    c->psk_found = 0;
    c->checked_session = NULL;
    SSL_SESSION_free(c->checked_ref);
    c->checked_ref = NULL;
}

// Whether a server waits for the second flight of a full handshake before TLS 1.3. The session of
// that handshake is in no cache yet, and its ticket is not made.
static int awaits_second_flight(const SSL *ssl) {
    switch (SSL_get_state(ssl)) {
    case TLS_ST_SW_SRVR_DONE:
    case TLS_ST_SR_CERT:
    case TLS_ST_SR_KEY_EXCH:
    case TLS_ST_SR_CERT_VRFY:
    case TLS_ST_SR_CHANGE:
    case TLS_ST_SR_NEXT_PROTO:
        return SSL_version(ssl) < TLS1_3_VERSION && !SSL_session_reused(ssl);
    default:
        return 0;
    }
}

// It keeps a client from resuming a session if the trust that verified it is lost. The time of a
// TLS 1.3 session is the time of its ticket, and that of a cached session is the time of its last
// use: neither shows when the client was verified. Before TLS 1.3 the session that is being made
// gets a time at which it is over, in its ticket and in stores, too.
void shim_SSL_withhold_sessions(shim_conn *c) {
    if (!shim_is_verifying(c->ssl)) {
        return;
    }
    c->no_resumption = 1;
    SSL_set_num_tickets(c->ssl, 0);
    if (awaits_second_flight(c->ssl)) {
        SSL_SESSION_set_time_ex(SSL_get_session(c->ssl), 1);
    }
}

// Before TLS 1.3, shim_drop_session removes the session of a completed handshake from the cache if
// sessions are withheld.
void shim_drop_session(shim_conn *c) {
    if (c->no_resumption && c->began_in_init && !SSL_in_init(c->ssl) &&
        SSL_version(c->ssl) < TLS1_3_VERSION) {
        SSL_CTX_remove_session(c->session_ctx, SSL_get_session(c->ssl));
    }
}

// It ends the session of a connection whose peer Go refuses, and the sessions of its tickets, which
// are among the events of the handshake. It returns the events of that.
shim_event *shim_SSL_drop_sessions(shim_conn *c, const shim_event *made) {
    event_queue q;
    events_begin(&q);
    for (const shim_event *e = made; e != NULL; e = e->next) {
        if (e->kind == SHIM_EVENT_NEW_SESSION && e->session != NULL) {
            SSL_CTX_remove_session(c->session_ctx, e->session);
        }
    }
    if (SSL_get_session(c->ssl) != NULL) {
        SSL_CTX_remove_session(c->session_ctx, SSL_get_session(c->ssl));
    }
    clear_errors();
    return events_end(&q);
}

// ---- The session that was resumed ----

// Whether two sessions have the same ticket: then one is a copy of the other.
static int same_ticket(const SSL_SESSION *a, const SSL_SESSION *b) {
    const unsigned char *p, *q;
    size_t n, m;
    SSL_SESSION_get0_ticket(a, &p, &n);
    SSL_SESSION_get0_ticket(b, &q, &m);
    return n > 0 && n == m && memcmp(p, q, n) == 0;
}

// shim_note_resumed keeps the session that the first handshake resumes, and after the handshake
// only its DER, so that the object does not outlive libssl's use. It must keep it because libssl
// replaces the session by that of a new ticket: in a TLS 1.3 server before the handshake is over;
// in a client when the ticket comes, which before TLS 1.3 is during the handshake. A client resumes
// the session that it has when it makes its ClientHello, unless a hook gave a pre-shared key.
// libssl may have copied that session since (4.0).
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

// It says whether a TLS 1.3 client has got a ticket from this connection.
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

// ---- Sessions for a ClientSessionCache ----

// shim_chain_of_offer returns the chain of the session that a client offers: libssl's, or the one
// that was stored with the session.
STACK_OF(X509) * shim_chain_of_offer(const shim_conn *c) {
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(c->ssl);
    return sk_X509_num(sent) > 0 ? sent : c->offered_chain;
}

// It sets the certificates that the peer sent when the offered session was made. der has them one
// after the other.
shim_long shim_SSL_set_offered_chain(shim_conn *c, const unsigned char *der, size_t n) {
    clear_errors();
    const unsigned char *p = der, *end = der + n;
    STACK_OF(X509) *chain = sk_X509_new_null();
    int ok = chain != NULL;
    while (ok && p < end) {
        X509 *x = d2i_X509(NULL, &p, end - p);
        ok = x != NULL && sk_X509_push(chain, x) > 0;
        if (!ok) {
            X509_free(x);
        }
    }
    if (!ok) {
        sk_X509_pop_free(chain, X509_free);
        return result(0, 0);
    }
    sk_X509_pop_free(c->offered_chain, X509_free);
    c->offered_chain = chain;
    return result_clear(1, 1);
}

// report_once reports the connection's session, unless it was reported or cannot be resumed.
static void report_once(shim_conn *c) {
    SSL_SESSION *s = SSL_get_session(c->ssl);
    if (s == NULL || s == c->kept || !SSL_SESSION_is_resumable(s)) {
        return;
    }
    SSL_SESSION_free(c->kept);
    c->kept = SSL_get1_session(c->ssl);
    shim_report_session(s);
}

// One read may take several tickets of TLS 1.3, and libssl replaces the session by that of each.
// libssl calls back before it reads the next.
static void on_info(const SSL *ssl, int where, int ret) {
    shim_conn *c = conn_of(ssl);
    if (c->finished && where == SSL_CB_CONNECT_LOOP && SSL_version(ssl) == TLS1_3_VERSION &&
        SSL_get_state(ssl) == TLS_ST_CR_SESSION_TICKET) {
        report_once(c);
    }
    if (c->owner_info != NULL) {
        c->owner_info(ssl, where, ret);
    }
}

// shim_keep_session reports the session of a complete handshake, or of the last ticket. The session
// that a TLS 1.3 handshake resumed is no new one.
void shim_keep_session(shim_conn *c) {
    if (!c->keeps_sessions) {
        return;
    }
    if (c->finished || SSL_version(c->ssl) < TLS1_3_VERSION) {
        report_once(c);
    } else {
        SSL_SESSION_free(c->kept);
        c->kept = SSL_get1_session(c->ssl);
    }
}

void shim_forget_kept(shim_conn *c) {
    SSL_SESSION_free(c->kept);
    sk_X509_pop_free(c->offered_chain, X509_free);
}

// hash_certificates hashes the client's certificates, one for each kind of key. libssl shows only
// the current one, and another SSL is there to change which that is.
static int hash_certificates(const shim_conn *c, EVP_MD_CTX *md) {
    SSL *other = SSL_new(SSL_get_SSL_CTX(c->ssl));
    int ok = other != NULL;
    for (long which = SSL_CERT_SET_FIRST; ok && SSL_set_current_cert(other, which) == 1;
         which = SSL_CERT_SET_NEXT) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned int n = 0;
        ok = X509_digest(SSL_get_certificate(other), EVP_sha256(), digest, &n) == 1 &&
             EVP_DigestUpdate(md, digest, n) == 1;
    }
    SSL_free(other);
    return ok;
}

// hash_settings hashes what a session depends on: libssl refuses a session under other versions,
// cipher suites and options, stricter verification may refuse its server, and the server knows the
// client by its certificate and protocols.
static int hash_settings(const shim_conn *c, EVP_MD_CTX *md) {
    STACK_OF(SSL_CIPHER) *ciphers = SSL_get_ciphers(c->ssl);
    int ok = hash_certificates(c, md);
    for (int i = 0; ok && i < sk_SSL_CIPHER_num(ciphers); i++) {
        uint32_t id = SSL_CIPHER_get_id(sk_SSL_CIPHER_value(ciphers, i));
        ok = EVP_DigestUpdate(md, &id, sizeof id) == 1;
    }
    uint64_t numbers[] = {
        (uint64_t)SSL_get_verify_mode(c->ssl),       (uint64_t)SSL_get_verify_depth(c->ssl),
        (uint64_t)SSL_get_security_level(c->ssl),    (uint64_t)SSL_get_options(c->ssl),
        (uint64_t)SSL_get_min_proto_version(c->ssl), (uint64_t)SSL_get_max_proto_version(c->ssl)};
    ok = ok && EVP_DigestUpdate(md, numbers, sizeof numbers) == 1;
    return ok && (c->alpn == NULL || EVP_DigestUpdate(md, c->alpn->wire, c->alpn->n) == 1);
}

// It has the connection report its sessions. settings gets a hash of 32 bytes.
shim_long shim_SSL_keep_sessions(shim_conn *c, unsigned char *settings) {
    clear_errors();
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && hash_settings(c, md) &&
             EVP_DigestFinal_ex(md, settings, NULL) == 1;
    EVP_MD_CTX_free(md);
    if (ok && !c->keeps_sessions) {
        c->keeps_sessions = 1;
        c->owner_info = SSL_get_info_callback(c->ssl);
        if (c->owner_info == NULL) { // then libssl calls that of the SSL_CTX
            c->owner_info = SSL_CTX_get_info_callback(SSL_get_SSL_CTX(c->ssl));
        }
        SSL_set_info_callback(c->ssl, on_info);
    }
    return result_clear(ok, ok);
}

// ---- The session of a connection ----

// If a session has a ticket and no ID, and the server declines the ticket, libssl writes to the
// offered object itself: a new ID, which is its key in a cache, and a new certificate chain, which
// overwrites the old one. (libssl does not offer a session that is not resumable.)
static int is_rewritten_by_client(const SSL_SESSION *s) {
    unsigned int n;
    SSL_SESSION_get_id(s, &n);
    return n == 0 && SSL_SESSION_is_resumable(s);
}

// A copy by DER has no chain that could be lost.
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

// It offers s, or a copy if s itself must not be offered. Other code may have made ssl.
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

// Whether libssl will still write to the connection's session, and even change its cache key.
// During a handshake it does, also in the middle of traffic, unless an error ended it. Before the
// handshake it does if a declined session is rewritten. After it, a TLS 1.3 server does until its
// first ticket, which gives the session its ID.
static int is_still_written(const SSL *ssl, const SSL_SESSION *s, int broken) {
    unsigned int n;
    SSL_SESSION_get_id(s, &n);
    if (SSL_in_before(ssl)) {
        return is_rewritten_by_client(s);
    }
    if (!SSL_is_init_finished(ssl)) { // SSL_in_init would leave out early data
        return !broken;
    }
    return n == 0 && SSL_is_server(ssl) && SSL_version(ssl) == TLS1_3_VERSION;
}

// If libssl still writes to the session, it returns a copy. p is the caller's reference, or NULL
// without errors if the connection has no session. Other code may have made ssl.
shim_session shim_SSL_get1_session(SSL *ssl, int broken) {
    clear_errors();
    const shim_conn *c = conn_of(ssl);
    shim_session r = {SSL_get1_session(ssl), 0, NULL};
    if (c != NULL && c->proven != NULL && c->proven != r.p && shim_is_unproven(c)) {
        SSL_SESSION_free(r.p); // it has the certificate that the peer claims
        r.p = c->proven;
        SSL_SESSION_up_ref(r.p);
        return r;
    }
    if (r.p != NULL && is_still_written(ssl, r.p, broken)) {
        SSL_SESSION *live = r.p;
        r = shim_SSL_SESSION_dup(live);
        SSL_SESSION_free(live);
    }
    return r;
}
