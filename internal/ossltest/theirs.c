// SPDX-License-Identifier: Apache-2.0

// Some functions that all versions have are deprecated in later ones.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "theirs.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509_vfy.h>
#include <stdatomic.h>
#include <string.h>

// The callbacks that other C code may set on an SSL_CTX. Each counts its calls, and lets the
// handshake continue.

static atomic_long calls[THEIRS_KINDS];

static int on_new(SSL *ssl, SSL_SESSION *s) {
    (void)ssl, (void)s;
    calls[THEIRS_NEW]++;
    return 0;
}

static SSL_SESSION *on_get(SSL *ssl, const unsigned char *id, int n, int *copy) {
    (void)ssl, (void)id, (void)n, (void)copy;
    calls[THEIRS_GET]++;
    return NULL;
}

static void on_remove(SSL_CTX *ctx, SSL_SESSION *s) {
    (void)ctx, (void)s;
    calls[THEIRS_REMOVE]++;
}

static void on_keylog(const SSL *ssl, const char *line) {
    (void)ssl, (void)line;
    calls[THEIRS_KEYLOG]++;
}

static void on_info(const SSL *ssl, int where, int ret) {
    (void)ssl, (void)where, (void)ret;
    calls[THEIRS_INFO]++;
}

static int on_client_hello(SSL *ssl, int *alert, void *arg) {
    (void)ssl, (void)alert, (void)arg;
    calls[THEIRS_CLIENT_HELLO]++;
    return SSL_CLIENT_HELLO_SUCCESS;
}

static int on_alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                          const unsigned char *in, unsigned int in_len, void *arg) {
    (void)ssl, (void)out, (void)out_len, (void)in, (void)in_len, (void)arg;
    calls[THEIRS_ALPN_SELECT]++;
    return SSL_TLSEXT_ERR_NOACK;
}

static int on_status(SSL *ssl, void *arg) {
    (void)ssl, (void)arg;
    calls[THEIRS_STATUS]++;
    return SSL_TLSEXT_ERR_NOACK;
}

static int on_cert_verify(X509_STORE_CTX *ctx, void *arg) {
    (void)arg;
    calls[THEIRS_CERT_VERIFY]++;
    X509_STORE_CTX_set_error(ctx, X509_V_OK);
    return 1;
}

static int on_verify(int ok, X509_STORE_CTX *ctx) {
    (void)ok;
    calls[THEIRS_VERIFY]++;
    X509_STORE_CTX_set_error(ctx, X509_V_OK);
    return 1;
}

static int on_generate_id(SSL *ssl, unsigned char *id, unsigned int *n) {
    (void)ssl;
    static atomic_uint last;
    unsigned int next = ++last;
    calls[THEIRS_GENERATE_ID]++;
    memset(id, 7, *n);
    memcpy(id, &next, sizeof next);
    return 1;
}

static int on_not_resumable(SSL *ssl, int is_forward_secure) {
    (void)ssl, (void)is_forward_secure;
    calls[THEIRS_NOT_RESUMABLE]++;
    return 0;
}

static int on_generate_ticket(SSL *ssl, void *arg) {
    (void)ssl, (void)arg;
    calls[THEIRS_SESSION_TICKET]++;
    return 1;
}

static SSL_TICKET_RETURN on_decrypt_ticket(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                           size_t n, SSL_TICKET_STATUS status, void *arg) {
    (void)ssl, (void)s, (void)name, (void)n, (void)arg;
    calls[THEIRS_SESSION_TICKET]++;
    return status == SSL_TICKET_SUCCESS         ? SSL_TICKET_RETURN_USE
           : status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW
                                                : SSL_TICKET_RETURN_IGNORE_RENEW;
}

static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         HMAC_CTX *mac, int encrypts) {
    (void)ssl;
    static const unsigned char key[32];
    calls[THEIRS_TICKET_KEY]++;
    if (encrypts) {
        memset(name, 1, 16);
        memset(iv, 2, 16);
    }
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key, iv, encrypts) == 1 &&
                   HMAC_Init_ex(mac, key, sizeof key, EVP_sha256(), NULL) == 1
               ? 1
               : -1;
}

static int on_allow_early_data(SSL *ssl, void *arg) {
    (void)ssl, (void)arg;
    calls[THEIRS_ALLOW_EARLY_DATA]++;
    return 1;
}

static int on_psk_find(SSL *ssl, const unsigned char *identity, size_t n, SSL_SESSION **s) {
    (void)ssl, (void)identity, (void)n;
    calls[THEIRS_PSK_FIND]++;
    *s = NULL;
    return 1;
}

static int on_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *n,
                      SSL_SESSION **s) {
    (void)ssl, (void)md;
    calls[THEIRS_PSK_USE]++;
    *id = NULL;
    *n = 0;
    *s = NULL;
    return 1;
}

static unsigned int on_psk_server(SSL *ssl, const char *identity, unsigned char *key,
                                  unsigned int max) {
    (void)ssl, (void)identity, (void)key, (void)max;
    calls[THEIRS_PSK_SERVER]++;
    return 0;
}

static unsigned int on_psk_client(SSL *ssl, const char *hint, char *identity,
                                  unsigned int max_identity, unsigned char *key, unsigned int max) {
    (void)ssl, (void)hint, (void)identity, (void)max_identity, (void)key, (void)max;
    calls[THEIRS_PSK_CLIENT]++;
    return 0;
}

// The password of the tests' encrypted key.
static int on_password(char *buf, int size, int rwflag, void *arg) {
    (void)rwflag, (void)arg;
    static const char password[] = "secret";
    calls[THEIRS_PASSWORD]++;
    if (size < (int)sizeof password) {
        return -1;
    }
    memcpy(buf, password, sizeof password);
    return (int)sizeof password - 1;
}

void ossltest_theirs(SSL_CTX *ctx, int kind) {
    switch (kind) {
    case THEIRS_NEW:
        SSL_CTX_sess_set_new_cb(ctx, on_new);
        break;
    case THEIRS_GET:
        SSL_CTX_sess_set_get_cb(ctx, on_get);
        break;
    case THEIRS_REMOVE:
        SSL_CTX_sess_set_remove_cb(ctx, on_remove);
        break;
    case THEIRS_KEYLOG:
        SSL_CTX_set_keylog_callback(ctx, on_keylog);
        break;
    case THEIRS_INFO:
        SSL_CTX_set_info_callback(ctx, on_info);
        break;
    case THEIRS_CLIENT_HELLO:
        SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
        break;
    case THEIRS_ALPN_SELECT:
        SSL_CTX_set_alpn_select_cb(ctx, on_alpn_select, NULL);
        break;
    case THEIRS_STATUS:
        SSL_CTX_set_tlsext_status_cb(ctx, on_status);
        break;
    case THEIRS_CERT_VERIFY:
        SSL_CTX_set_cert_verify_callback(ctx, on_cert_verify, NULL);
        break;
    case THEIRS_VERIFY:
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
        break;
    case THEIRS_GENERATE_ID:
        SSL_CTX_set_generate_session_id(ctx, on_generate_id);
        break;
    case THEIRS_NOT_RESUMABLE:
        SSL_CTX_set_not_resumable_session_callback(ctx, on_not_resumable);
        break;
    case THEIRS_SESSION_TICKET:
        SSL_CTX_set_session_ticket_cb(ctx, on_generate_ticket, on_decrypt_ticket, NULL);
        break;
    case THEIRS_TICKET_KEY:
        SSL_CTX_set_tlsext_ticket_key_cb(ctx, on_ticket_key);
        break;
    case THEIRS_ALLOW_EARLY_DATA:
        SSL_CTX_set_allow_early_data_cb(ctx, on_allow_early_data, NULL);
        break;
    case THEIRS_PSK_FIND:
        SSL_CTX_set_psk_find_session_callback(ctx, on_psk_find);
        break;
    case THEIRS_PSK_USE:
        SSL_CTX_set_psk_use_session_callback(ctx, on_psk_use);
        break;
    case THEIRS_PSK_SERVER:
        SSL_CTX_set_psk_server_callback(ctx, on_psk_server);
        break;
    case THEIRS_PSK_CLIENT:
        SSL_CTX_set_psk_client_callback(ctx, on_psk_client);
        break;
    case THEIRS_PASSWORD:
        SSL_CTX_set_default_passwd_cb(ctx, on_password);
        break;
    }
}

long ossltest_calls(int kind) { return atomic_exchange(&calls[kind], 0); }

// ossltest_talk connects a server and a client, reads the server's tickets and ends both. The
// client offers a protocol, asks for a staple, and offers *kept, with a byte of early data if it
// may. Then the client's session replaces *kept.
int ossltest_talk(SSL_CTX *server, SSL_CTX *client, SSL_SESSION **kept) {
    SSL *s = SSL_new(server), *c = SSL_new(client);
    BIO *s_end = NULL, *c_end = NULL;
    if (s == NULL || c == NULL || BIO_new_bio_pair(&s_end, 1 << 16, &c_end, 1 << 16) != 1) {
        SSL_free(s);
        SSL_free(c);
        return 0;
    }
    SSL_set_bio(s, s_end, s_end);
    SSL_set_bio(c, c_end, c_end);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    SSL_set_tlsext_host_name(c, "localhost");
    SSL_set_tlsext_status_type(c, TLSEXT_STATUSTYPE_ocsp);
    SSL_set_alpn_protos(c, (const unsigned char *)"\x02h2", 3);
    char buf[16];
    size_t n;
    int early = 0;
    if (*kept != NULL) {
        SSL_set_session(c, *kept);
        early =
            SSL_SESSION_get_max_early_data(*kept) > 0 && SSL_write_early_data(c, "x", 1, &n) == 1;
    }
    for (int i = 0; i < 20 && !(SSL_is_init_finished(s) && SSL_is_init_finished(c)); i++) {
        if (early) {
            early = SSL_read_early_data(s, buf, sizeof buf, &n) != SSL_READ_EARLY_DATA_FINISH;
        } else {
            SSL_do_handshake(s);
        }
        SSL_do_handshake(c);
    }
    int ok = SSL_is_init_finished(s) && SSL_is_init_finished(c);
    SSL_read(c, buf, 1);
    SSL_SESSION_free(*kept);
    *kept = SSL_get1_session(c);
    SSL_shutdown(s);
    SSL_shutdown(c);
    SSL_free(s);
    SSL_free(c);
    ERR_clear_error();
    return ok;
}
