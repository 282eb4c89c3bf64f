// SPDX-License-Identifier: Apache-2.0

// SSL: a connection over buffers of Go.

#include "shim_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// ---- The BIO over Go's buffers ----

static int go_bio_read(BIO *bio, char *buf, int n) {
    shim_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t left = c->in_len - c->in_used;
    if (c->one_end && left > 0 && SSL_is_init_finished(c->ssl)) {
        BIO_set_retry_read(bio); // Go calls again, after it has what the handshake agreed on
        return -1;
    }
    if (left == 0) {
        if (c->in_eof) {
            return 0;
        }
        c->starved = 1;
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t len = (size_t)n < left ? (size_t)n : left;
    memcpy(buf, c->in + c->in_used, len);
    c->in_used += len;
    return (int)len;
}

static int go_bio_write(BIO *bio, const char *buf, int n) {
    shim_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (c->aborted) {
        return -1;
    }
    size_t room = c->out_cap - c->out_len;
    if (room == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    size_t len = (size_t)n < room ? (size_t)n : room;
    memcpy(c->out + c->out_len, buf, len);
    c->out_len += len;
    return (int)len;
}

static long go_bio_ctrl(BIO *bio, int cmd, long num, void *ptr) {
    (void)num, (void)ptr;
    shim_conn *c = BIO_get_data(bio);
    switch (cmd) {
    case BIO_CTRL_FLUSH: // Go sends the bytes in out after the call
        return 1;
    case BIO_CTRL_EOF: // so libssl treats a missing close_notify as it does on a socket
        return c->in_eof && c->in_used == c->in_len;
    default:
        return 0;
    }
}

static int go_bio_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *go_bio_method; // set before go_bio_type
static atomic_int go_bio_type = -1;

static int make_go_bio_method(void) {
    int type = BIO_get_new_index();
    BIO_METHOD *m = type < 0 ? NULL : BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "Go buffers");
    if (m == NULL || !BIO_meth_set_read(m, go_bio_read) || !BIO_meth_set_write(m, go_bio_write) ||
        !BIO_meth_set_ctrl(m, go_bio_ctrl) || !BIO_meth_set_create(m, go_bio_create)) {
        BIO_meth_free(m);
        return -1;
    }
    go_bio_method = m;
    return type;
}

// ---- Life ----

atomic_int shim_conn_index = -1;

static int make_conn_index(void) { return SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL); }

shim_new_conn shim_SSL_new(SSL_CTX *ctx, int server) {
    clear_errors();
    shim_conn *c = calloc(1, sizeof *c);
    int ok = c != NULL && shim_ensure_index(&go_bio_type, make_go_bio_method) &&
             shim_ensure_index(&shim_conn_index, make_conn_index);
    BIO *bio = ok ? BIO_new(go_bio_method) : NULL;
    SSL *ssl = bio == NULL ? NULL : SSL_new(ctx);
    if (ssl == NULL || SSL_set_ex_data(ssl, shim_conn_index, c) != 1) {
        shim_new_conn failed = {NULL, shim_take_errors()};
        SSL_free(ssl);
        BIO_free(bio);
        free(c);
        return failed;
    }
    BIO_set_data(bio, c);
    SSL_set_bio(ssl, bio, bio);
    // After it made room, a Go caller may repeat a write with another buffer and fewer bytes.
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    SSL_set_read_ahead(ssl, 0); // the BIO can hold back only what libssl has not read
    if (server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        c->alpn = shim_alpn_of(ctx);
    }
    c->ssl = ssl;
    c->session_ctx = ctx;
    c->verifies = shim_is_verifying(ssl);
    clear_errors();
    shim_new_conn r = {c, NULL};
    return r;
}

// Without a shutdown SSL_free marks the session as not resumable, also for others who share it.
// With keep_session libssl believes that the connection was shut down. It returns the events.
shim_event *shim_SSL_free(shim_conn *c, int keep_session) {
    event_queue q;
    events_begin(&q);
    if (keep_session) {
        SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(c->ssl);
    SSL_CTX_free(c->hello_ctx);
    SSL_SESSION_free(c->found);
    SSL_SESSION_free(c->proven);
    shim_forget_peer(c);
    shim_forget_certs(c);
    SSL_SESSION_free(c->resumed);
    SSL_SESSION_free(c->checked_ref);
    shim_forget_kept(c);
    OPENSSL_clear_free(c->resumed_der, c->resumed_len > 0 ? (size_t)c->resumed_len : 0);
    SSL_SESSION_free(c->psk_session);
    shim_SSL_client_hello_free(c);
    shim_forget_verification(c);
    shim_errs_free(c->errs);
    shim_drop_alpn(c->alpn);
    free(c->psk_identity);
    free(c);
    clear_errors();
    return events_end(&q);
}

// ---- Calls ----

// A call may begin in the middle of a later handshake. stop_at_end makes such a call stop at the
// end of that handshake, so that the caller notes the end before libssl reads what follows. The BIO
// holds back the next record. libssl refuses a ClientHello that follows Finished in the same
// record.
static void stop_at_end(shim_conn *c) {
    c->one_end = c->finished && c->began_in_init;
    c->refuses_hello = c->one_end && SSL_renegotiate_pending(c->ssl) &&
                       (SSL_get_options(c->ssl) & SSL_OP_NO_RENEGOTIATION) == 0;
    if (c->refuses_hello) {
        SSL_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION);
    }
}

// shim_conn_begin gives Go's buffers to the BIO. It empties the error queue, because SSL_get_error
// reads it.
void shim_conn_begin(shim_conn *c, event_queue *q, const unsigned char *in, size_t in_len,
                     unsigned char *out, size_t out_cap) {
    clear_errors();
    events_begin(q);
    c->in = in;
    c->in_len = in_len;
    c->in_used = 0;
    if (in_len > 0) {
        c->starved = 0;
    }
    c->out = out;
    c->out_cap = out_cap;
    c->out_len = 0;
    c->n = 0;
    c->errs = NULL;
    shim_forget_certs(c);
    shim_screen_offer(c);
    shim_forget_gone_pool(c);
    c->began_in_init = SSL_in_init(c->ssl);
    stop_at_end(c);
    if (c->proven == NULL && c->finished && SSL_is_init_finished(c->ssl) &&
        (c->asked_auth || SSL_version(c->ssl) < TLS1_3_VERSION)) { // a handshake may begin
        c->proven = SSL_get1_session(c->ssl);
    }
}

// shim_is_unproven says whether a later handshake runs, or has failed. Then libssl already has what
// the peer claims in it, such as a certificate whose key it has not proven.
int shim_is_unproven(const shim_conn *c) { return c->finished && !SSL_is_init_finished(c->ssl); }

long shim_SSL_get_verify_result(const shim_conn *c) {
    return shim_is_unproven(c) ? c->proven_result : SSL_get_verify_result(c->ssl);
}

// shim_send_alert writes an alert if libssl was kept from sending one. It is plaintext, as nothing
// is encrypted yet.
void shim_send_alert(shim_conn *c, unsigned char description) {
    const unsigned char alert[] = {SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, description};
    if (c->out_cap - c->out_len >= sizeof alert) {
        memcpy(c->out + c->out_len, alert, sizeof alert);
        c->out_len += sizeof alert;
    }
    c->aborted = SHIM_ABORT_DONE;
}

// shim_conn_end takes the buffers back: C keeps no pointer into Go's memory after the call.
int shim_conn_end(shim_conn *c, event_queue *q, int ret) {
    c->ssl_error = ret > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, ret);
    if (c->refuses_hello) {
        SSL_clear_options(c->ssl, SSL_OP_NO_RENEGOTIATION);
    }
    if (c->verify_state == SHIM_VERIFY_ASKED && c->ssl_error != SSL_ERROR_WANT_RETRY_VERIFY) {
        c->ssl_error = SSL_ERROR_SSL; // no chain is good before the pool has verified it
    }
    if (c->ssl_error == SSL_ERROR_SSL || c->ssl_error == SSL_ERROR_SYSCALL) {
        c->errs = shim_take_errors();
        c->verify_result = SSL_get_verify_result(c->ssl);
    }
    shim_check_resumption(c);
    shim_drop_session(c);
    clear_errors();
    if (c->aborted == SHIM_ABORT_WANTED) {
        shim_send_alert(c, SSL_AD_INTERNAL_ERROR);
    }
    // Nothing is pending before the first read. If 4.0 had no memory for its record layer, it would
    // then read through NULL.
    int began = SSL_get_state(c->ssl) != TLS_ST_BEFORE;
    c->partial = began && SSL_has_pending(c->ssl);
    // If libssl asked for more input, the bytes that it holds are part of a record. Otherwise they
    // are the next message, which only a further call reads. A renegotiation that libssl deferred
    // is pending, too: the next read begins it.
    c->pending = began && (SSL_pending(c->ssl) > 0 || (c->partial && !c->starved) ||
                           (SSL_renegotiate_pending(c->ssl) && !SSL_in_init(c->ssl)));
    c->wants_room = SSL_want_write(c->ssl) && SSL_in_init(c->ssl);
    c->version = SSL_version(c->ssl);
    if (!shim_is_unproven(c)) {
        c->reused = SSL_session_reused(c->ssl);
        c->cipher = SSL_get_current_cipher(c->ssl);
        c->proven_result = SSL_get_verify_result(c->ssl);
        SSL_SESSION_free(c->proven);
        c->proven = NULL;
    }
    c->early_data = SSL_get_early_data_status(c->ssl);
    c->received = (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
    shim_note_peer(c);
    shim_note_resumed(c);
    c->agreed = 0;
    if (SSL_is_init_finished(c->ssl)) {
        if (!c->finished || c->began_in_init) {
            shim_note_agreed(c);
            c->agreed = 1;
        }
        shim_end_resumption_check(c);
        SSL_SESSION_free(c->found);
        c->found = NULL;
        // Drop an answer of the pool that libssl did not use: the pool was removed.
        shim_forget_verification(c);
        shim_keep_session(c);
        c->hello_state = SHIM_HELLO_ANSWERED; // a renegotiation asks no hook
        c->finished = 1;
    }
    c->events = events_end(q);
    c->lost = q->lost;
    c->in = NULL;
    c->out = NULL;
    return c->ssl_error;
}

int shim_SSL_do_handshake(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                          size_t out_cap) {
    event_queue q;
    shim_conn_begin(c, &q, in, in_len, out, out_cap);
    return shim_conn_end(c, &q, SSL_do_handshake(c->ssl));
}

// It reads all records of the input, or up to the end of a later handshake.
int shim_SSL_read(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                  size_t out_cap, unsigned char *p, size_t n) {
    event_queue q;
    shim_conn_begin(c, &q, in, in_len, out, out_cap);
    int ret;
    do {
        size_t got = 0;
        ret = SSL_read_ex(c->ssl, p + c->n, n - c->n, &got);
        c->n += got;
    } while (ret > 0 && c->n < n && !c->one_end && !c->asked_auth);
    return shim_conn_end(c, &q, ret);
}

// may_write says whether a write may begin. It first continues a renegotiation (TLS 1.2). If the
// write may not begin, it has called shim_conn_end, and c->ssl_error says why. libssl can continue
// a renegotiation in a write, too, but then it ends the connection if it finds unread data. In a
// read it accepts such data. A peek is a read that leaves the data in place.
static int may_write(shim_conn *c, event_queue *q) {
    if (!SSL_in_init(c->ssl) && !SSL_renegotiate_pending(c->ssl)) {
        return 1;
    }
    unsigned char first;
    size_t got;
    int ret = SSL_peek_ex(c->ssl, &first, 1, &got);
    int want = ret > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, ret);
    if (want == SSL_ERROR_SSL || want == SSL_ERROR_SYSCALL) {
        shim_conn_end(c, q, ret);
        return 0;
    }
    if (SSL_in_init(c->ssl)) {
        shim_conn_end(c, q, ret);
        c->ssl_error = ret > 0 ? SSL_ERROR_WANT_READ : want;
        return 0;
    }
    clear_errors();
    return 1;
}

// The most bytes that one record adds to its plaintext, with the empty record before it (TLS 1.0).
#define SHIM_RECORD_OVERHEAD 512

// It writes as many records as out has room for.
int shim_SSL_write(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                   size_t out_cap, const unsigned char *p, size_t n) {
    event_queue q;
    shim_conn_begin(c, &q, in, in_len, out, out_cap);
    if (!may_write(c, &q)) {
        return c->ssl_error;
    }
    int ret = 1;
    while (ret > 0 && c->n < n) {
        size_t len = n - c->n < SSL3_RT_MAX_PLAIN_LENGTH ? n - c->n : SSL3_RT_MAX_PLAIN_LENGTH;
        if (c->out_cap - c->out_len < SSL3_RT_MAX_PLAIN_LENGTH + SHIM_RECORD_OVERHEAD) {
            if (c->n > 0) {
                break;
            }
            // Padding can make any record as long as the longest. Without room libssl would keep
            // half a record and want the same plaintext again. A caller whose deadline passed would
            // have to know that.
            shim_conn_end(c, &q, 1);
            return c->ssl_error = SSL_ERROR_WANT_WRITE;
        }
        size_t sent = 0;
        ret = SSL_write_ex(c->ssl, p + c->n, len, &sent);
        c->n += sent;
    }
    return shim_conn_end(c, &q, ret);
}

// drop_input reads the input and discards it. It returns the result for shim_conn_end: that of the
// read if it failed, otherwise 1.
static int drop_input(shim_conn *c) {
    unsigned char scrap[1024];
    size_t got;
    int ret;
    do {
        ret = SSL_read_ex(c->ssl, scrap, sizeof scrap, &got);
    } while (ret > 0);
    int want = SSL_get_error(c->ssl, ret);
    return want == SSL_ERROR_SSL || want == SSL_ERROR_SYSCALL ? ret : 1;
}

// SSL_shutdown returns 0 if it sent close_notify and has not received one. That is no error. A
// second call would read, and discard what the peer still sends. Only Close wants that, where there
// is input. But if out had no room for all of close_notify, only a second call sends the rest.
int shim_SSL_shutdown(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                      size_t out_cap) {
    event_queue q;
    shim_conn_begin(c, &q, in, in_len, out, out_cap);
    int made = (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) != 0;
    if (!made && !may_write(c, &q)) {
        return c->ssl_error;
    }
    if (!made || c->unsent) {
        int ret = SSL_shutdown(c->ssl);
        c->unsent = ret < 0 && SSL_want_write(c->ssl);
        if (ret < 0) {
            return shim_conn_end(c, &q, ret);
        }
    }
    // After a quiet shutdown libssl reads no more, and queues no reason.
    return shim_conn_end(c, &q, in_len > 0 && !SSL_get_quiet_shutdown(c->ssl) ? drop_input(c) : 1);
}

// It requests a renegotiation and sends the message by a peek: see may_write. n says whether libssl
// agreed. If a renegotiation runs already, it requests no second one. A client would afterwards act
// as if the server had begun another, and fail when it gets data. A server's second request may
// arrive after the first renegotiation, and the client would answer it with a ClientHello that the
// server does not expect.
int shim_SSL_renegotiate(shim_conn *c, unsigned char *out, size_t out_cap) {
    event_queue q;
    shim_conn_begin(c, &q, NULL, 0, out, out_cap);
    int ret = 1;
    int runs = SSL_in_init(c->ssl) || SSL_renegotiate_pending(c->ssl);
    if (!runs || SSL_version(c->ssl) == TLS1_3_VERSION) { // TLS 1.3 refuses it
        ret = SSL_renegotiate(c->ssl);
    }
    if (ret == 1) {
        unsigned char first;
        size_t got;
        c->n = 1;
        ret = SSL_peek_ex(c->ssl, &first, 1, &got);
    }
    return shim_conn_end(c, &q, ret);
}

// It queues the message and sends it.
int shim_SSL_key_update(shim_conn *c, unsigned char *out, size_t out_cap, int ask_peer) {
    event_queue q;
    shim_conn_begin(c, &q, NULL, 0, out, out_cap);
    int ret =
        SSL_key_update(c->ssl, ask_peer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    return shim_conn_end(c, &q, ret == 1 ? SSL_do_handshake(c->ssl) : ret);
}

// ---- Attributes ----

// The type is unsigned long in 1.1.1 and uint64_t later.
uint64_t shim_SSL_set_options(shim_conn *c, uint64_t options) {
    return SSL_set_options(c->ssl, options);
}

uint64_t shim_SSL_clear_options(shim_conn *c, uint64_t options) {
    return SSL_clear_options(c->ssl, options);
}

uint64_t shim_SSL_get_options(shim_conn *c) { return SSL_get_options(c->ssl); }

static shim_view shim_SSL_get0_alpn_selected(shim_conn *c) {
    shim_view r = {NULL, 0};
    SSL_get0_alpn_selected(c->ssl, &r.p, &r.n);
    return r;
}

static shim_view shim_SSL_get_tlsext_status_ocsp_resp(shim_conn *c) {
    const unsigned char *p = NULL;
    long n = SSL_get_tlsext_status_ocsp_resp(c->ssl, &p);
    shim_view r = {p, n > 0 ? (unsigned int)n : 0};
    return r;
}

// It returns the IANA number, not libssl's. 0 is no group, or an unknown one.
static int shim_SSL_get_negotiated_group(shim_conn *c) {
    if (SSL_get_session(c->ssl) == NULL) { // libssl reads it without a check
        return 0;
    }
    long group = SSL_get_negotiated_group(c->ssl);
    switch (group) {
    case NID_X9_62_prime256v1:
        return 23;
    case NID_secp384r1:
        return 24;
    case NID_secp521r1:
        return 25;
    case NID_X25519:
        return 29;
    case NID_X448:
        return 30;
    }
    return (group & TLSEXT_nid_unknown) != 0 ? (int)(group & 0xffff) : 0;
}

// It stores what the connection agreed on. libssl owns the memory that the pointers lead to: Go
// copies it before the next call.
void shim_note_agreed(shim_conn *c) {
    c->agreed_alpn = shim_SSL_get0_alpn_selected(c);
    c->agreed_ocsp = shim_SSL_get_tlsext_status_ocsp_resp(c);
    c->agreed_group = shim_SSL_get_negotiated_group(c);
    c->agreed_name = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
    c->agreed_psk = SSL_get_psk_identity(c->ssl);
    c->agreed_psk_hint = SSL_get_psk_identity_hint(c->ssl);
}

// It refuses when the master secret is not bound to this connection alone (before TLS 1.3, without
// the extended master secret).
shim_long shim_SSL_export_keying_material(shim_conn *c, unsigned char *out, size_t n,
                                          const char *label, size_t label_len,
                                          const unsigned char *context, size_t context_len,
                                          int use_context) {
    clear_errors();
    if (SSL_version(c->ssl) < TLS1_3_VERSION && SSL_get_extms_support(c->ssl) != 1) {
        return result(SHIM_REFUSED_NO_EXTMS, 1);
    }
    int ok = SSL_export_keying_material(c->ssl, out, n, label_len == 0 ? "" : label, label_len,
                                        or_empty(context, context_len), context_len, use_context);
    return result_clear(ok, ok == 1);
}
