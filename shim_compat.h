// SPDX-License-Identifier: Apache-2.0

// What differs between OpenSSL's versions: no other file of the module knows them.

#ifndef SSLCTX_SHIM_COMPAT_H
#define SSLCTX_SHIM_COMPAT_H

#include <openssl/opensslv.h>

// What is refused may lack any header but this one, so that the sentence is the first error, and
// the only one.
#if defined(LIBRESSL_VERSION_NUMBER) || defined(OPENSSL_IS_BORINGSSL) || defined(OPENSSL_IS_AWSLC)
#error "sslctx binds OpenSSL's own libssl: LibreSSL, BoringSSL and AWS-LC keep sessions differently"
#elif OPENSSL_VERSION_NUMBER < 0x10101000L
#error "sslctx needs OpenSSL 1.1.1 or later (on Debian or Ubuntu: apt-get install libssl-dev)"
#else
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#endif

// What this is compiled for, to be compared with what it runs with.
#define SHIM_VERSION_NUMBER OPENSSL_VERSION_NUMBER
#define SHIM_VERSION_TEXT OPENSSL_VERSION_TEXT

// 1.1.1 does not know the flag and ignores the bit; the value is that of later versions.
#ifndef SSL_SESS_CACHE_UPDATE_TIME
#define SSL_SESS_CACHE_UPDATE_TIME 0x0400
#endif

// The reason became an error of its own in 3.0; 1.1.1 reports it as SSL_ERROR_SYSCALL.
#ifndef SSL_R_UNEXPECTED_EOF_WHILE_READING
#define SSL_R_UNEXPECTED_EOF_WHILE_READING 294
#endif

// 3.0.2 made it possible to suspend a handshake while a certificate is verified.
#ifdef SSL_CTRL_SET_RETRY_VERIFY
#define SHIM_HAS_RETRY_VERIFY 1
#else
#define SHIM_HAS_RETRY_VERIFY 0
#define SSL_ERROR_WANT_RETRY_VERIFY 12
#define SSL_set_retry_verify(ssl) ((void)(ssl), 0)
#endif

// What later versions have to be asked for, 1.1.1 always does.
#ifndef SSL_OP_ALLOW_CLIENT_RENEGOTIATION
#define SSL_OP_ALLOW_CLIENT_RENEGOTIATION 0
#endif

// 1.1.1 reports an end without close_notify in another way, and has no extended master secret that
// could be switched off, nor buffers that it wipes.
#ifndef SSL_OP_IGNORE_UNEXPECTED_EOF
#define SSL_OP_IGNORE_UNEXPECTED_EOF 0
#endif
#ifndef SSL_OP_NO_EXTENDED_MASTER_SECRET
#define SSL_OP_NO_EXTENDED_MASTER_SECRET 0
#endif
#ifndef SSL_OP_CLEANSE_PLAINTEXT
#define SSL_OP_CLEANSE_PLAINTEXT 0
#endif

// Earlier versions always make the new key exchange that both ends allow.
#ifndef SSL_OP_PREFER_NO_DHE_KEX
#define SSL_OP_PREFER_NO_DHE_KEX 0
#endif

#if OPENSSL_VERSION_NUMBER < 0x30000000L
// Later versions have a name for each way to own the result; this is the older name's reference,
// which the connection holds too.
static inline X509 *SSL_get0_peer_certificate(const SSL *ssl) {
    X509 *x = SSL_get_peer_certificate(ssl);
    X509_free(x);
    return x;
}
static inline unsigned long ERR_get_error_all(const char **file, int *line, const char **func,
                                              const char **data, int *flags) {
    unsigned long code = ERR_get_error_line_data(file, line, data, flags);
    *func = code == 0 ? NULL : ERR_func_error_string(code);
    return code;
}
#endif

// 4.0 reads no ClientHello in the form of SSL 2 any more.
#if OPENSSL_VERSION_NUMBER >= 0x40000000L
#define SHIM_client_hello_isv2(ssl) 0
#else
#define SHIM_client_hello_isv2(ssl) SSL_client_hello_isv2(ssl)
#endif

// Without it nothing is issued: SSL_new_session_ticket is younger than 1.1.1.
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define SHIM_HAS_NEW_SESSION_TICKET 0
static inline int SSL_new_session_ticket(SSL *ssl) { return ssl == NULL; }
#else
#define SHIM_HAS_NEW_SESSION_TICKET 1
#endif

// The group of a key exchange as a NID, or TLSEXT_nid_unknown with its number at IANA. 1.1.1 keeps
// the key that the peer made for it, which a TLS 1.2 server does not.
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define TLSEXT_nid_unknown 0x1000000
static inline long SSL_get_negotiated_group(SSL *ssl) {
    EVP_PKEY *key = NULL;
    long nid = NID_undef;
    if (SSL_get_peer_tmp_key(ssl, &key) == 1) {
        nid = EVP_PKEY_base_id(key);
        if (nid == EVP_PKEY_EC) {
            nid = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)));
        }
        EVP_PKEY_free(key);
    }
    return nid;
}
#endif

// Without it no session has a raw public key: SSL_SESSION_get0_peer_rpk is younger than 3.0.
#if OPENSSL_VERSION_NUMBER < 0x30200000L
#define SHIM_HAS_PEER_RPK 0
static inline EVP_PKEY *SSL_SESSION_get0_peer_rpk(SSL_SESSION *s) {
    (void)s;
    return NULL;
}
#else
#define SHIM_HAS_PEER_RPK 1
#endif

// What SSL_SESSION_set1_master_key takes at most, and what the third argument of an ex_data dup
// function is: a pointer to the value, by either name.
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define SHIM_MAX_MASTER_KEY_LENGTH 256
typedef void *shim_ex_value;
#else
#define SHIM_MAX_MASTER_KEY_LENGTH 512
typedef void **shim_ex_value;
#endif

// The callback of a ticket key got a MAC of another type before 3.0, which gave it its name.
#if OPENSSL_VERSION_NUMBER < 0x30000000L
typedef HMAC_CTX EVP_MAC_CTX;
static inline int mac_sha256_init(HMAC_CTX *mac, const unsigned char *key, size_t n) {
    return HMAC_Init_ex(mac, key, (int)n, EVP_sha256(), NULL);
}
static inline int SSL_CTX_set_tlsext_ticket_key_evp_cb(SSL_CTX *ctx,
                                                       int (*cb)(SSL *, unsigned char *,
                                                                 unsigned char *, EVP_CIPHER_CTX *,
                                                                 HMAC_CTX *, int)) {
    return (int)SSL_CTX_set_tlsext_ticket_key_cb(ctx, cb);
}
#else
static inline int mac_sha256_init(EVP_MAC_CTX *mac, const unsigned char *key, size_t n) {
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("digest", digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_init(mac, key, n, params);
}
#endif

// Without memory SSL_CTX_add_session takes its reference back, but leaves the session in the list
// by which the cache is flushed.
#if OPENSSL_VERSION_NUMBER >= 0x30000000L && OPENSSL_VERSION_NUMBER < 0x30500000L
#define SHIM_ADD_LEAVES_LISTED 1
#else
#define SHIM_ADD_LEAVES_LISTED 0
#endif

// The names with time_t are younger than the ones with long, which later versions deprecate.
#if OPENSSL_VERSION_NUMBER < 0x30300000L
static inline time_t SSL_SESSION_get_time_ex(const SSL_SESSION *s) {
    return (time_t)SSL_SESSION_get_time(s);
}
static inline time_t SSL_SESSION_set_time_ex(SSL_SESSION *s, time_t t) {
    return (time_t)SSL_SESSION_set_time(s, (long)t);
}
#endif
#if OPENSSL_VERSION_NUMBER < 0x30400000L
static inline void SSL_CTX_flush_sessions_ex(SSL_CTX *ctx, time_t t) {
    SSL_CTX_flush_sessions(ctx, (long)t);
}
#endif

// The clock by which libssl measures a session's age. time is some milliseconds behind the younger
// one: by that a session could be from the future.
static inline int64_t libssl_seconds(void) {
#if OPENSSL_VERSION_NUMBER < 0x30200000L
    return time(NULL);
#else
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return now.tv_sec;
#endif
}

// 1.1.1 does not give away the certificates of its own that an SSL verifies by.
#ifndef SSL_CTRL_GET_VERIFY_CERT_STORE
#define SSL_get0_verify_cert_store(ssl, store) ((void)(ssl), (void)(store))
#endif

#endif
