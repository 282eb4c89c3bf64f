// SPDX-License-Identifier: Apache-2.0

// Early data.

#include "_cgo_export.h"
#include "shim_internal.h"

#include <string.h>

shim_long shim_SSL_CTX_set_max_early_data(SSL_CTX *ctx, uint32_t n) {
    clear_errors();
    int ok = SSL_CTX_set_max_early_data(ctx, n);
    return result(ok, ok == 1);
}

// With the first data it also stores what the ClientHello has decided. The handshake is not over
// then.
int shim_SSL_read_early_data(shim_conn *c, const unsigned char *in, size_t in_len,
                             unsigned char *out, size_t out_cap, unsigned char *p, size_t n) {
    event_queue q;
    shim_conn_begin(c, &q, in, in_len, out, out_cap);
    int ret = SSL_read_early_data(c->ssl, p, n, &c->n);
    c->early_end = ret == SSL_READ_EARLY_DATA_FINISH;
    if (ret != SSL_READ_EARLY_DATA_SUCCESS) {
        c->n = 0;
    }
    int ssl_error = shim_conn_end(c, &q, ret == SSL_READ_EARLY_DATA_ERROR ? 0 : 1);
    if (ret == SSL_READ_EARLY_DATA_SUCCESS && !c->early_agreed) {
        shim_note_agreed(c);
        c->agreed = c->early_agreed = 1;
    }
    return ssl_error;
}

// Whether the client will offer the cipher suite, and it is one of TLS 1.3. Then the client also
// offers TLS 1.3, because libssl lists only suites that its versions, security level and ciphers
// allow.
static int offers_cipher(shim_conn *c, const SSL_CIPHER *cipher) {
    if (cipher == NULL || SSL_CIPHER_get_protocol_id(cipher) >> 8 != 0x13) {
        return 0;
    }
    STACK_OF(SSL_CIPHER) *offered = SSL_get1_supported_ciphers(c->ssl);
    c->no_ciphers = offered == NULL; // 1.1.1 queues no error if it had no memory
    int found = 0;
    for (int i = 0; i < sk_SSL_CIPHER_num(offered); i++) {
        found |= SSL_CIPHER_get_id(sk_SSL_CIPHER_value(offered, i)) == SSL_CIPHER_get_id(cipher);
    }
    sk_SSL_CIPHER_free(offered);
    return found;
}

// Whether the client offers the application protocol of the session, if it has one.
static int offers_protocol(const shim_conn *c, const SSL_SESSION *s) {
    const unsigned char *had;
    size_t n, at = 0;
    SSL_SESSION_get0_alpn_selected(s, &had, &n);
    if (had == NULL || c->alpn == NULL) {
        return had == NULL;
    }
    for (; at < c->alpn->n; at += 1 + (size_t)c->alpn->wire[at]) {
        if (c->alpn->wire[at] == n && at + 1 + n <= c->alpn->n &&
            memcmp(c->alpn->wire + at + 1, had, n) == 0) {
            return 1;
        }
    }
    return 0;
}

// Whether the client asks for the server name of the session, if it has one. (Early releases
// of 1.1.1 give the session's own name for a connection that has none.)
static int sends_name(const shim_conn *c, const SSL_SESSION *s) {
    const char *had = SSL_SESSION_get0_hostname(s);
    const char *name =
        c->named == SHIM_NAME_HOST ? SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name) : NULL;
    return had == NULL || (name != NULL && strcmp(name, had) == 0);
}

static int suits_early_data(shim_conn *c, const SSL_SESSION *s) {
    return SSL_SESSION_get_max_early_data(s) > 0 &&
           SSL_SESSION_get_protocol_version(s) == TLS1_3_VERSION &&
           offers_cipher(c, SSL_SESSION_get0_cipher(s)) && offers_protocol(c, s) &&
           sends_name(c, s);
}

// Whether libssl will offer the session's ticket for at least one second more. libssl leaves out a
// ticket that is too old, or whose age does not fit into its field, and still sends early data.
static int has_fresh_ticket(const SSL_SESSION *s) {
    int64_t age = libssl_seconds() - (int64_t)SSL_SESSION_get_time_ex(s);
    return SSL_SESSION_has_ticket(s) && age >= 0 && age <= UINT32_MAX / 1000 &&
           (uint64_t)age <= SSL_SESSION_get_ticket_lifetime_hint(s);
}

// may_send_early_data checks the conditions of early data. libssl checks them only when it makes
// its ClientHello, and then ends the connection or sends data that no server can read. Early data
// uses the first key that the client offers: the ticket, if there is one. Otherwise a hook gives
// the key; if the hook fails, libssl gets that failure.
static int may_send_early_data(shim_conn *c) {
    const SSL_SESSION *s = SSL_get_session(c->ssl);
    if (c->has_ticket_ext) {
        return 0;
    }
    if (s != NULL && SSL_SESSION_is_resumable(s)) { // libssl drops one that is not
        if (SSL_SESSION_get_max_early_data(s) > 0) {
            return has_fresh_ticket(s) && suits_early_data(c, s);
        }
        if (SSL_SESSION_has_ticket(s) || SSL_SESSION_get_protocol_version(s) != TLS1_3_VERSION) {
            return 0;
        }
    }
    if (upcall_handle(c, SHIM_UPCALL_PSK) == 0) {
        return 0;
    }
    if (!c->psk_asked) {
        shim_ask_psk(c, NULL);
    }
    return !c->psk_ok || (c->psk_session != NULL && suits_early_data(c, c->psk_session));
}

// It checks the conditions of early data in the same call, so that nothing can change in between.
// early_refused says that libssl was not called.
int shim_SSL_write_early_data(shim_conn *c, unsigned char *out, size_t out_cap,
                              const unsigned char *p, size_t n) {
    event_queue q;
    shim_conn_begin(c, &q, NULL, 0, out, out_cap);
    c->no_ciphers = 0;
    c->early_refused = SSL_in_before(c->ssl) && !SSL_is_server(c->ssl) && !may_send_early_data(c);
    if (c->early_refused) {
        shim_err *errs = shim_take_errors();
        if (errs == NULL && c->no_ciphers) {
            errs = &shim_unreported;
        }
        int ssl_error = shim_conn_end(c, &q, 1);
        c->errs = errs;
        return ssl_error;
    }
    int ret = SSL_write_early_data(c->ssl, or_empty(p, n), n, &c->n);
    if (ret != 1) {
        c->n = 0;
    }
    return shim_conn_end(c, &q, ret);
}

static int on_allow_early_data(SSL *ssl, void *arg) {
    (void)arg;
    uintptr_t hook = upcall_handle(conn_of(ssl), SHIM_UPCALL_PSK);
    return hook == 0 || goAllowEarlyData(hook) != 0;
}

void shim_SSL_CTX_set_allow_early_data_cb(SSL_CTX *ctx, int on) {
    SSL_CTX_set_allow_early_data_cb(ctx, on ? on_allow_early_data : NULL, NULL);
}
