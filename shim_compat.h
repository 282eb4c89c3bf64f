// SPDX-License-Identifier: Apache-2.0

// The differences between OpenSSL's versions. No other file of the module depends on them.

#ifndef SSLCTX_SHIM_COMPAT_H
#define SSLCTX_SHIM_COMPAT_H

#include <openssl/opensslv.h>

// A refused library may lack every other header. So the check comes before them, and its sentence
// is the only error.
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

// The version at compile time, to compare with the version at run time.
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

// 1.1.1 always allows it; later versions need the option.
#ifndef SSL_OP_ALLOW_CLIENT_RENEGOTIATION
#define SSL_OP_ALLOW_CLIENT_RENEGOTIATION 0
#endif

// 1.1.1 reports an end without close_notify in another way. It cannot switch off the extended
// master secret, and it wipes no buffers.
#ifndef SSL_OP_IGNORE_UNEXPECTED_EOF
#define SSL_OP_IGNORE_UNEXPECTED_EOF 0
#endif
#ifndef SSL_OP_NO_EXTENDED_MASTER_SECRET
#define SSL_OP_NO_EXTENDED_MASTER_SECRET 0
#endif
#ifndef SSL_OP_CLEANSE_PLAINTEXT
#define SSL_OP_CLEANSE_PLAINTEXT 0
#endif

// Earlier versions always do the new key exchange if both ends allow it.
#ifndef SSL_OP_PREFER_NO_DHE_KEX
#define SSL_OP_PREFER_NO_DHE_KEX 0
#endif

#if OPENSSL_VERSION_NUMBER < 0x30000000L
// Later versions have a get0 and a get1 function. The older function returns a new reference; the
// connection holds another one.
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

// 4.0 no longer reads a ClientHello in SSL 2 format.
#if OPENSSL_VERSION_NUMBER >= 0x40000000L
#define SHIM_client_hello_isv2(ssl) 0
#else
#define SHIM_client_hello_isv2(ssl) SSL_client_hello_isv2(ssl)
#endif

// 1.1.1 has no SSL_new_session_ticket: this one issues nothing.
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define SHIM_HAS_NEW_SESSION_TICKET 0
static inline int SSL_new_session_ticket(SSL *ssl) { return ssl == NULL; }
#else
#define SHIM_HAS_NEW_SESSION_TICKET 1
#endif

// The group of a key exchange as a NID, or as TLSEXT_nid_unknown with its IANA number. 1.1.1 has
// the group only in the peer's temporary key, which a TLS 1.2 server does not keep.
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

// Before 3.2 there is no SSL_SESSION_get0_peer_rpk, and no session has a raw public key.
#if OPENSSL_VERSION_NUMBER < 0x30200000L
#define SHIM_HAS_PEER_RPK 0
static inline EVP_PKEY *SSL_SESSION_get0_peer_rpk(SSL_SESSION *s) {
    (void)s;
    return NULL;
}
#else
#define SHIM_HAS_PEER_RPK 1
#endif

// From 3.0 on TLS 1.0 and TLS 1.1 need the security level 0.
#define SHIM_OLD_VERSIONS_NEED_LEVEL_0 (OPENSSL_VERSION_NUMBER >= 0x30000000L)

// The longest key that SSL_SESSION_set1_master_key takes, and the type of the third argument of an
// ex_data dup function. In all versions that is a pointer to the value.
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define SHIM_MAX_MASTER_KEY_LENGTH 256
typedef void *shim_ex_value;
#else
#define SHIM_MAX_MASTER_KEY_LENGTH 512
typedef void **shim_ex_value;
#endif

// Before 3.0 the callback of a ticket key has another name, and its MAC another type.
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

// If it runs out of memory, SSL_CTX_add_session drops its reference, but leaves the session in the
// list that a flush reads.
#if OPENSSL_VERSION_NUMBER >= 0x30000000L && OPENSSL_VERSION_NUMBER < 0x30500000L
#define SHIM_ADD_LEAVES_LISTED 1
#else
#define SHIM_ADD_LEAVES_LISTED 0
#endif

// Later versions have functions with time_t, and deprecate the ones with long.
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

// The clock that libssl uses for a session's age. time() is some milliseconds behind timespec_get:
// with it a session could be from the future.
static inline int64_t libssl_seconds(void) {
#if OPENSSL_VERSION_NUMBER < 0x30200000L
    return time(NULL);
#else
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return now.tv_sec;
#endif
}

// 1.1.1 has no function that returns the verify store of an SSL.
#ifndef SSL_CTRL_GET_VERIFY_CERT_STORE
#define SSL_get0_verify_cert_store(ssl, store) ((void)(ssl), (void)(store))
#endif

#endif
