// SPDX-License-Identifier: Apache-2.0

// SSL_CTX: certificates, keys and trust, configuration commands, OCSP stapling.

#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

// An SSL_CTX of other code asks for passwords on the terminal, unless that code has set a callback,
// which libssl asks instead. suppress_prompt prevents the prompt. It says whether restore_prompt
// must follow.
static int suppress_prompt(SSL_CTX *ctx) {
    int asks = SSL_CTX_get_default_passwd_cb(ctx) == NULL;
    if (asks) {
        SSL_CTX_set_default_passwd_cb(ctx, shim_no_password);
    }
    return asks;
}

static void restore_prompt(SSL_CTX *ctx, int asks) {
    if (asks) {
        SSL_CTX_set_default_passwd_cb(ctx, NULL);
    }
}

shim_long shim_SSL_CTX_use_certificate_chain_file(SSL_CTX *ctx, const char *file) {
    clear_errors();
    int asks = suppress_prompt(ctx);
    int ok = SSL_CTX_use_certificate_chain_file(ctx, file);
    restore_prompt(ctx, asks);
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file) {
    clear_errors();
    int asks = suppress_prompt(ctx);
    int ok = SSL_CTX_use_PrivateKey_file(ctx, file, SSL_FILETYPE_PEM);
    restore_prompt(ctx, asks);
    return result_clear(ok, ok == 1);
}

// read_certs reads all certificates of a PEM text; NULL, with the reason on the queue, if one of
// them is bad or if there is none.
static STACK_OF(X509) * read_certs(const unsigned char *pem, size_t n) {
    STACK_OF(X509) *certs = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    int ok = certs != NULL && bio != NULL;
    while (ok) {
        X509 *x = PEM_read_bio_X509_AUX(bio, NULL, shim_no_password, NULL);
        if (x == NULL) {
            // A PEM text ends where no start line follows. After a certificate that is no error.
            unsigned long e = ERR_peek_last_error();
            ok = sk_X509_num(certs) > 0 && ERR_GET_LIB(e) == ERR_LIB_PEM &&
                 ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
            break;
        }
        if (!sk_X509_push(certs, x)) {
            X509_free(x);
            ok = 0;
        }
    }
    BIO_free(bio);
    if (!ok) {
        sk_X509_pop_free(certs, X509_free);
        return NULL;
    }
    ERR_clear_error();
    return certs;
}

static EVP_PKEY *read_key(const unsigned char *pem, size_t n) {
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, shim_no_password, NULL);
    BIO_free(bio);
    return key;
}

// It reads everything before it sets anything: so ctx never has half a chain.
shim_long shim_SSL_CTX_use_cert_and_key(SSL_CTX *ctx, const unsigned char *cert, size_t cert_len,
                                        const unsigned char *key, size_t key_len) {
    clear_errors();
    STACK_OF(X509) *chain = read_certs(cert, cert_len);
    EVP_PKEY *pkey = chain == NULL ? NULL : read_key(key, key_len);
    X509 *leaf = pkey == NULL ? NULL : sk_X509_shift(chain);
    int ok = leaf != NULL && SSL_CTX_use_cert_and_key(ctx, leaf, pkey, chain, 1) == 1;
    shim_long r = result_clear(ok, ok);
    X509_free(leaf);
    EVP_PKEY_free(pkey);
    sk_X509_pop_free(chain, X509_free);
    return r;
}

// It says whether a server has a certificate or a key, or cipher suites that need none.
int shim_SSL_CTX_get0_certificate(SSL_CTX *ctx) {
    if (SSL_CTX_get0_certificate(ctx) != NULL || SSL_CTX_get0_privatekey(ctx) != NULL) {
        return 1;
    }
    STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ctx);
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
        if (SSL_CIPHER_get_auth_nid(sk_SSL_CIPHER_value(ciphers, i)) == NID_auth_null) {
            return 1;
        }
    }
    return 0;
}

shim_long shim_SSL_CTX_check_private_key(SSL_CTX *ctx) {
    clear_errors();
    int ok = SSL_CTX_check_private_key(ctx);
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_CTX_load_verify_locations(SSL_CTX *ctx, const char *file, const char *dir) {
    clear_errors();
    int ok = SSL_CTX_load_verify_locations(ctx, file, dir);
    return result_clear(ok, ok == 1);
}

shim_long shim_SSL_CTX_set_default_verify_paths(SSL_CTX *ctx) {
    clear_errors();
    int ok = SSL_CTX_set_default_verify_paths(ctx);
    return result_clear(ok, ok == 1);
}

// It adds all certificates of a PEM text. When it fails, some may have been added.
shim_long shim_X509_STORE_add_cert(SSL_CTX *ctx, const unsigned char *pem, size_t n) {
    clear_errors();
    STACK_OF(X509) *certs = read_certs(pem, n);
    int count = certs == NULL ? 0 : sk_X509_num(certs), added = 0;
    while (added < count &&
           X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), sk_X509_value(certs, added)) == 1) {
        added++;
    }
    int ok = certs != NULL && added == count;
    shim_long r = result_clear(ok, ok);
    sk_X509_pop_free(certs, X509_free);
    return r;
}

// The names are DER, one after the other. libssl takes ownership of the list.
shim_long shim_SSL_CTX_set_client_CA_list(SSL_CTX *ctx, const unsigned char *der, size_t n) {
    clear_errors();
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    const unsigned char *p = der, *end = der + n;
    int ok = names != NULL;
    while (ok && p < end) {
        X509_NAME *name = d2i_X509_NAME(NULL, &p, (long)(end - p));
        ok = name != NULL && sk_X509_NAME_push(names, name) > 0;
        if (!ok) {
            X509_NAME_free(name);
        }
    }
    if (!ok) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return result_clear(0, 0);
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    return result_clear(1, 1);
}

// ---- Configuration commands ----

// n is the return value of SSL_CONF_cmd, or 0 if that succeeded and SSL_CONF_CTX_finish failed.
shim_long shim_SSL_CONF_cmd(SSL_CTX *ctx, const char *cmd, const char *value) {
    clear_errors();
    SSL_CONF_CTX *conf = SSL_CONF_CTX_new();
    if (conf == NULL) {
        return result(0, 0);
    }
    SSL_CONF_CTX_set_flags(conf, SSL_CONF_FLAG_FILE | SSL_CONF_FLAG_CLIENT | SSL_CONF_FLAG_SERVER |
                                     SSL_CONF_FLAG_CERTIFICATE | SSL_CONF_FLAG_SHOW_ERRORS);
    SSL_CONF_CTX_set_ssl_ctx(conf, ctx);
    int asks = suppress_prompt(ctx);
    long n = SSL_CONF_cmd(conf, cmd, value);
    if (n > 0 && SSL_CONF_CTX_finish(conf) != 1) {
        n = 0;
    }
    restore_prompt(ctx, asks);
    shim_long r = result_clear(n, n > 0);
    SSL_CONF_CTX_free(conf);
    return r;
}

// ---- OCSP stapling ----

struct staple {
    size_t n;
    unsigned char der[];
};

// libssl has one callback for both ends. It asks a server for the response, and it reports to a
// client whether one came. The return value has another meaning for each.
static int give_staple(SSL *ssl, void *arg) {
    const struct staple *s = arg;
    if (!SSL_is_server(ssl)) {
        return 1; // continue: the application checks the response
    }
    unsigned char *copied = OPENSSL_malloc(s->n);
    if (copied == NULL) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    memcpy(copied, s->der, s->n);
    ERR_set_mark(); // 3.6 accepts a bad response, but queues an error, which ends the handshake
    int ok = SSL_set_tlsext_status_ocsp_resp(ssl, copied, (long)s->n) == 1;
    ERR_pop_to_mark();
    if (!ok) {
        OPENSSL_free(copied);
    }
    return ok ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

typedef int (*status_callback)(SSL *, void *);

static status_callback get_status_callback(SSL_CTX *ctx) {
    status_callback is = NULL;
    SSL_CTX_get_tlsext_status_cb(ctx, &is);
    return is;
}

// It says whether the shim's callback is set. For a callback of other code it returns
// SHIM_REFUSED_FOREIGN_CALLBACK.
int shim_SSL_CTX_get_tlsext_status_cb(SSL_CTX *ctx) {
    status_callback is = get_status_callback(ctx);
    return is == NULL || is == give_staple ? is != NULL : SHIM_REFUSED_FOREIGN_CALLBACK;
}

// The copy of der lives as long as ctx, or until another one takes its place.
shim_long shim_SSL_CTX_set_tlsext_status_cb(SSL_CTX *ctx, const unsigned char *der, size_t n) {
    clear_errors();
    struct staple *s = n == 0 ? NULL : calloc(1, sizeof *s + n);
    if (n > 0 && s == NULL) {
        return result(0, 0);
    }
    if (s != NULL) {
        s->n = n;
        memcpy(s->der, der, n);
    }
    ctx_state *state = ctx_state_of(ctx);
    struct staple *old = state->staple;
    state->staple = s;
    if (s != NULL) {
        SSL_CTX_set_tlsext_status_cb(ctx, give_staple);
        SSL_CTX_set_tlsext_status_arg(ctx, s);
    } else if (get_status_callback(ctx) != NULL) {
        SSL_CTX_set_tlsext_status_cb(ctx, NULL);
        SSL_CTX_set_tlsext_status_arg(ctx, NULL);
    }
    free(old);
    return result_clear(1, 1);
}

// libssl has no name for -1, which means no type.
void shim_SSL_CTX_set_tlsext_status_type(SSL_CTX *ctx, int on) {
    SSL_CTX_set_tlsext_status_type(ctx, on ? TLSEXT_STATUSTYPE_ocsp : -1);
}

// Whether one of the authorities issued a certificate.
static int is_issued_by(const STACK_OF(X509_NAME) * authorities, const X509 *x) {
    for (int i = 0; x != NULL && i < sk_X509_NAME_num(authorities); i++) {
        if (X509_NAME_cmp(X509_get_issuer_name(x), sk_X509_NAME_value(authorities, i)) == 0) {
            return 1;
        }
    }
    return 0;
}

// A server asks for a certificate. A client sends none if neither the certificate nor its chain is
// of an authority that the server names.
static int on_cert_request(SSL *ssl, void *arg) {
    (void)arg;
    const STACK_OF(X509_NAME) *authorities = SSL_get0_peer_CA_list(ssl);
    X509 *own = SSL_get_certificate(ssl);
    STACK_OF(X509) *chain = NULL;
    if (SSL_is_server(ssl) || own == NULL || sk_X509_NAME_num(authorities) <= 0) {
        return 1;
    }
    int found = is_issued_by(authorities, own);
    SSL_get0_chain_certs(ssl, &chain);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        found |= is_issued_by(authorities, sk_X509_value(chain, i));
    }
    if (!found) {
        SSL_certs_clear(ssl);
    }
    return 1;
}

void shim_SSL_set_cert_cb(shim_conn *c) { SSL_set_cert_cb(c->ssl, on_cert_request, NULL); }
