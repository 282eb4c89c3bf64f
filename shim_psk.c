// SPDX-License-Identifier: Apache-2.0

// Pre-shared keys.

#include "_cgo_export.h"
#include "shim_internal.h"

#include <stdlib.h>

// It checks the parts of a session that libssl reads through pointers without a check. It returns
// which part is missing, or 0.
int shim_session_is_psk(const SSL_SESSION *s) {
    const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(s);
    if (SSL_SESSION_get_protocol_version(s) != TLS1_3_VERSION) {
        return SHIM_PSK_VERSION;
    }
    if (cipher == NULL || SSL_CIPHER_get_protocol_id(cipher) >> 8 != 0x13) {
        return SHIM_PSK_CIPHER;
    }
    return SSL_SESSION_get_master_key(s, NULL, 0) == 0 ? SHIM_PSK_KEY : 0;
}

// Go passes a copy that nobody else has, with the only reference to it.
static int on_psk_find_session(SSL *ssl, const unsigned char *identity, size_t n,
                               SSL_SESSION **sess) {
    shim_conn *c = conn_of(ssl);
    *sess = NULL;
    if (upcall_handle(c, SHIM_UPCALL_PSK) == 0) {
        return 1;
    }
    int ok = goFindPSK(c->handle, (unsigned char *)identity, n, sess) != 0;
    c->psk_found = *sess != NULL ? SHIM_PSK_FOUND_SESSION : 0;
    return ok;
}

// shim_ask_psk asks Go which key to offer, for the hash md or, if it is NULL, for any. The identity
// must outlive the callback: libssl copies it after that.
void shim_ask_psk(shim_conn *c, const EVP_MD *md) {
    free(c->psk_identity);
    SSL_SESSION_free(c->psk_session);
    c->psk_identity = NULL;
    c->psk_identity_len = 0;
    c->psk_session = NULL;
    c->psk_ok = goUsePSK(c->handle, md == NULL ? 0 : EVP_MD_size(md), &c->psk_identity,
                         &c->psk_identity_len, &c->psk_session);
    c->psk_asked = 1;
}

// on_psk_use_session returns the answer that Go has already given, if early data asked before
// libssl.
static int on_psk_use_session(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *n,
                              SSL_SESSION **sess) {
    shim_conn *c = conn_of(ssl);
    *id = NULL;
    *n = 0;
    *sess = NULL;
    if (upcall_handle(c, SHIM_UPCALL_PSK) == 0) {
        return 1;
    }
    if (!c->psk_asked || md != NULL) {
        shim_ask_psk(c, md);
    }
    c->psk_asked = 0;
    *id = c->psk_identity;
    *n = c->psk_identity_len;
    *sess = c->psk_session;
    c->psk_session = NULL;
    return c->psk_ok;
}

static unsigned int on_psk_server(SSL *ssl, const char *identity, unsigned char *psk,
                                  unsigned int max) {
    shim_conn *c = conn_of(ssl);
    if (upcall_handle(c, SHIM_UPCALL_PSK) == 0) {
        return 0;
    }
    unsigned int n = goServerPSK(c->handle, (char *)identity, psk, max);
    c->psk_found = n > 0 ? SHIM_PSK_FOUND_KEY : 0;
    return n;
}

static unsigned int on_psk_client(SSL *ssl, const char *hint, char *identity,
                                  unsigned int max_identity, unsigned char *psk, unsigned int max) {
    uintptr_t hook = upcall_handle(conn_of(ssl), SHIM_UPCALL_PSK);
    int tls13 = SSL_version(ssl) > TLS1_2_VERSION; // which has no empty identities
    return hook == 0 ? 0 : goClientPSK(hook, tls13, (char *)hint, identity, max_identity, psk, max);
}

void shim_SSL_CTX_set_psk_find_session_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_find_session_callback(ctx, on ? on_psk_find_session : NULL);
}

void shim_SSL_CTX_set_psk_use_session_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_use_session_callback(ctx, on ? on_psk_use_session : NULL);
}

void shim_SSL_CTX_set_psk_server_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_server_callback(ctx, on ? on_psk_server : NULL);
}

void shim_SSL_CTX_set_psk_client_callback(SSL_CTX *ctx, int on) {
    SSL_CTX_set_psk_client_callback(ctx, on ? on_psk_client : NULL);
}

shim_long shim_SSL_CTX_use_psk_identity_hint(SSL_CTX *ctx, const char *hint) {
    clear_errors();
    int ok = SSL_CTX_use_psk_identity_hint(ctx, hint);
    return result(ok, ok == 1);
}
