// SPDX-License-Identifier: Apache-2.0

// The C that Go sees. Go calls libssl directly where it can. A function is in C for one of four
// reasons. libssl has it only as a macro. It can fail: the error queue belongs to the thread, so C
// takes the errors before Go moves to another thread. C calls it back. Or one call does several
// reads. A name is shim_ and the libssl name, in full for grep. shim_internal.h has what the C
// files share, shim_compat.h the differences between versions.

#ifndef SSLCTX_CGO_SHIM_H
#define SSLCTX_CGO_SHIM_H

#include "shim_compat.h"

// ---- Results: by value, so that no Go memory has to hold them. ----

// shim_err is one entry of the error queue. The list begins with the oldest; the caller frees it.
typedef struct shim_err {
    struct shim_err *next;
    unsigned long code;
    int lib;
    int reason;
    int line;
    const char *reason_text; // static, or NULL
    const char *lib_text;    // static, or NULL
    char *file;
    char *func;
    char *data;
} shim_err;

// shim_event is one callback of libssl, queued for Go. The list is in libssl's order; the caller
// frees it.
typedef struct shim_event {
    struct shim_event *next;
    int kind;             // SHIM_EVENT_*
    const SSL_CTX *ctx;   // whose callback, only to compare; NULL: the connection's session_ctx
    SSL_SESSION *session; // a reference, or NULL
    char *line;           // of the key log, or NULL
    size_t line_len;
} shim_event;

#define SHIM_EVENT_NEW_SESSION 1
#define SHIM_EVENT_REMOVE_SESSION 2
#define SHIM_EVENT_KEYLOG 3
#define SHIM_EVENT_KEEP_SESSION 4 // a client's, for its ClientSessionCache

typedef struct {
    long n;
    shim_err *errs;
    shim_event *events;
    int lost; // events that there was no memory for
} shim_long;

// All references to one SSL_CTX have the same number. No other SSL_CTX ever has it.
typedef struct {
    SSL_CTX *p;
    uint64_t number;
    shim_err *errs;
} shim_ctx;

typedef struct {
    SSL_SESSION *p;
    int copied; // p is a copy and not the session itself
    shim_err *errs;
} shim_session;

// used is how many bytes of the input were read: the caller can refuse bytes after them.
typedef struct {
    SSL_SESSION *p;
    size_t used;
    shim_err *errs;
} shim_parsed;

// shim_bytes is memory. The caller frees it with shim_bytes_free, which wipes it.
typedef struct {
    unsigned char *p;
    size_t n;
    size_t used; // bytes of the input that were read
    shim_err *errs;
} shim_bytes;

// shim_chain is certificates in DER, one after the other. The caller frees them with
// shim_bytes_free.
typedef struct {
    shim_bytes der;
    uintptr_t pool; // the number of the CertPool that the context trusts, or 0
} shim_chain;

// shim_view is memory that libssl owns.
typedef struct {
    const unsigned char *p;
    unsigned int n;
} shim_view;

// shim_cipher has libssl's data on one cipher suite; the strings are static.
typedef struct {
    int id;
    const char *name;
    const char *standard_name;
} shim_cipher;

typedef struct {
    long number, connect, connect_good, connect_renegotiate;
    long accept, accept_good, accept_renegotiate;
    long hits, cb_hits, misses, timeouts, cache_full;
} shim_stats;

void shim_errs_free(shim_err *errs);
shim_event *shim_event_free(shim_event *e);
void shim_bytes_free(unsigned char *p, size_t n);

// ---- SSL_CTX ----

#define SHIM_METHOD_TLS 0
#define SHIM_METHOD_TLS_CLIENT 1
#define SHIM_METHOD_TLS_SERVER 2

// shim_SSL_CTX_add_session returns the first without calling libssl, the second if libssl failed.
#define SHIM_REFUSED_NO_CIPHER (-1)
#define SHIM_ADD_FAILED (-3)

// Whether others may use the cache, or may have the session, while a session is added.
#define SHIM_CACHE_SHARED 0       // other calls may use the cache
#define SHIM_CACHE_EXCLUSIVE 1    // nobody else uses it
#define SHIM_CACHE_NEVER_CACHED 2 // the session was never in a cache

// Whether the cache of an SSL_CTX holds a session.
#define SHIM_CTX_GONE 0
#define SHIM_CACHE_LACKS 1
#define SHIM_CACHE_HOLDS 2 // or may hold it: other code uses the cache

// A setter of a callback returns it if other code has set the callback.
#define SHIM_REFUSED_FOREIGN_CALLBACK (-2)

// One bit for each callback that libssl has a setter for and no getter.
#define SHIM_CALLBACK_CLIENT_HELLO 0x001
#define SHIM_CALLBACK_ALPN_SELECT 0x002
#define SHIM_CALLBACK_CERT_VERIFY 0x004
#define SHIM_CALLBACK_GENERATE_ID 0x008
#define SHIM_CALLBACK_NOT_RESUMABLE 0x010
#define SHIM_CALLBACK_SESSION_TICKET 0x020
#define SHIM_CALLBACK_TICKET_KEY 0x040
#define SHIM_CALLBACK_ALLOW_EARLY_DATA 0x080
#define SHIM_CALLBACK_PSK_FIND 0x100
#define SHIM_CALLBACK_PSK_USE 0x200
#define SHIM_CALLBACK_PSK_SERVER 0x400
#define SHIM_CALLBACK_PSK_CLIENT 0x800

shim_ctx shim_SSL_CTX_new(int method);
shim_ctx shim_SSL_CTX_up_ref(SSL_CTX *ctx);
shim_event *shim_SSL_CTX_free(SSL_CTX *ctx);
shim_event *shim_SSL_CTX_take_events(SSL_CTX *ctx);
int shim_SSL_CTX_has_own_callback(const SSL_CTX *ctx, int which);
void shim_SSL_CTX_note_own_callback(const SSL_CTX *ctx, int which, int is_set);
shim_long shim_SSL_CTX_sess_set_new_cb(SSL_CTX *ctx, int on);
shim_long shim_SSL_CTX_sess_set_remove_cb(SSL_CTX *ctx, int on);
shim_long shim_SSL_CTX_sess_set_get_cb(SSL_CTX *ctx, int on);
shim_long shim_SSL_CTX_set_keylog_callback(SSL_CTX *ctx, int on);
void shim_SSL_CTX_set_client_hello_cb(SSL_CTX *ctx, int chooses);
shim_long shim_SSL_CTX_add_session(SSL_CTX *ctx, SSL_SESSION *s, int sharing);
shim_long shim_SSL_CTX_add_sessions(SSL_CTX *ctx, SSL_SESSION **s, signed char *ret, size_t n,
                                    int sharing);
int shim_session_in_cache(uint64_t number, SSL_SESSION *s);
shim_long shim_SSL_CTX_remove_session(SSL_CTX *ctx, SSL_SESSION *s);
shim_long shim_SSL_CTX_remove_sessions(SSL_CTX *ctx, SSL_SESSION **s, signed char *ret, size_t n);
shim_long shim_SSL_CTX_flush_sessions(SSL_CTX *ctx, int64_t t);
shim_stats shim_SSL_CTX_sess_stats(SSL_CTX *ctx);
long shim_SSL_CTX_get_session_cache_mode(SSL_CTX *ctx);
long shim_SSL_CTX_set_session_cache_mode(SSL_CTX *ctx, long mode);
long shim_SSL_CTX_sess_get_cache_size(SSL_CTX *ctx);
long shim_SSL_CTX_sess_set_cache_size(SSL_CTX *ctx, long size);
shim_long shim_SSL_CTX_set_session_id_context(SSL_CTX *ctx, const unsigned char *id, size_t n);
shim_long shim_SSL_CTX_set_alpn_protos(SSL_CTX *ctx, const unsigned char *wire, size_t n);
shim_long shim_SSL_CTX_set_alpn_select_cb(SSL_CTX *ctx, int lenient);
shim_long shim_SSL_CTX_set_max_early_data(SSL_CTX *ctx, uint32_t n);

shim_long shim_SSL_CTX_use_certificate_chain_file(SSL_CTX *ctx, const char *file);
shim_long shim_SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file);
shim_long shim_SSL_CTX_use_cert_and_key(SSL_CTX *ctx, const unsigned char *cert, size_t cert_len,
                                        const unsigned char *key, size_t key_len);
int shim_SSL_CTX_get0_certificate(SSL_CTX *ctx);
shim_long shim_SSL_CTX_check_private_key(SSL_CTX *ctx);
shim_long shim_SSL_CTX_load_verify_locations(SSL_CTX *ctx, const char *file, const char *dir);
shim_long shim_SSL_CTX_set_default_verify_paths(SSL_CTX *ctx);
shim_long shim_X509_STORE_add_cert(SSL_CTX *ctx, const unsigned char *pem, size_t n);
shim_long shim_SSL_CTX_set_client_CA_list(SSL_CTX *ctx, const unsigned char *der, size_t n);
long shim_SSL_CTX_set_max_send_fragment(SSL_CTX *ctx, long n);
long shim_SSL_CTX_set_split_send_fragment(SSL_CTX *ctx, long n);
int shim_SSL_CTX_get_tlsext_status_cb(SSL_CTX *ctx);
shim_long shim_SSL_CTX_set_tlsext_status_cb(SSL_CTX *ctx, const unsigned char *der, size_t n);
void shim_SSL_CTX_set_tlsext_status_type(SSL_CTX *ctx, int on);
uintptr_t shim_SSL_CTX_set_cert_verify_callback(SSL_CTX *ctx, uintptr_t pool);
void shim_SSL_CTX_note_trust_lost(SSL_CTX *ctx);
void shim_SSL_CTX_get0_param(SSL_CTX *ctx);
void shim_SSL_CTX_set_verify(SSL_CTX *ctx, int mode);
shim_long shim_SSL_CTX_set_min_proto_version(SSL_CTX *ctx, int version);
shim_long shim_SSL_CTX_set_max_proto_version(SSL_CTX *ctx, int version);
int shim_SSL_CTX_get_min_proto_version(SSL_CTX *ctx);
int shim_SSL_CTX_get_max_proto_version(SSL_CTX *ctx);
shim_long shim_SSL_CTX_set_cipher_list(SSL_CTX *ctx, const char *list);
shim_long shim_SSL_CTX_set_ciphersuites(SSL_CTX *ctx, const char *list);
shim_long shim_SSL_CTX_set1_groups_list(SSL_CTX *ctx, const char *list);
shim_long shim_SSL_CTX_set1_sigalgs_list(SSL_CTX *ctx, const char *list);
shim_long shim_SSL_CTX_set1_client_sigalgs_list(SSL_CTX *ctx, const char *list);
void shim_SSL_CTX_set_dh_auto(SSL_CTX *ctx, int on);
uint64_t shim_SSL_CTX_set_options(SSL_CTX *ctx, uint64_t options);
uint64_t shim_SSL_CTX_clear_options(SSL_CTX *ctx, uint64_t options);
uint64_t shim_SSL_CTX_get_options(SSL_CTX *ctx);
long shim_SSL_CTX_set_mode(SSL_CTX *ctx, long mode);
long shim_SSL_CTX_clear_mode(SSL_CTX *ctx, long mode);
long shim_SSL_CTX_get_mode(SSL_CTX *ctx);
void shim_SSL_CTX_set_allow_early_data_cb(SSL_CTX *ctx, int on);
void shim_SSL_CTX_set_psk_find_session_callback(SSL_CTX *ctx, int on);
void shim_SSL_CTX_set_psk_use_session_callback(SSL_CTX *ctx, int on);
void shim_SSL_CTX_set_psk_server_callback(SSL_CTX *ctx, int on);
void shim_SSL_CTX_set_psk_client_callback(SSL_CTX *ctx, int on);
shim_long shim_SSL_CTX_use_psk_identity_hint(SSL_CTX *ctx, const char *hint);
shim_long shim_SSL_CONF_cmd(SSL_CTX *ctx, const char *cmd, const char *value);

shim_long shim_SSL_CTX_set_generate_session_id(SSL_CTX *ctx, int on, const unsigned char *prefix,
                                               size_t n);
void shim_SSL_CTX_set_not_resumable_session_callback(SSL_CTX *ctx, int on);
shim_bytes shim_SSL_CTX_get_tlsext_ticket_keys(SSL_CTX *ctx);
shim_long shim_SSL_CTX_set_tlsext_ticket_keys(SSL_CTX *ctx, const unsigned char *keys, size_t n);
shim_long shim_SSL_CTX_set_tlsext_ticket_key_evp_cb(SSL_CTX *ctx, const unsigned char *keys,
                                                    size_t n, size_t n_next);
void shim_SSL_CTX_set_session_ticket_cb(SSL_CTX *ctx, int on);

// ---- SSL_SESSION ----

typedef struct shim_conn shim_conn;

shim_session shim_SSL_SESSION_new(void);
shim_session shim_SSL_SESSION_dup(SSL_SESSION *s);
shim_session shim_SSL_SESSION_up_ref(shim_conn *c, SSL_SESSION *s, int published, int foreign);
shim_view shim_SSL_SESSION_get_id(const SSL_SESSION *s);
shim_view shim_SSL_SESSION_get0_id_context(const SSL_SESSION *s);
shim_long shim_SSL_SESSION_set1_id(SSL_SESSION *s, const unsigned char *id, size_t n);
shim_long shim_SSL_SESSION_set1_id_context(SSL_SESSION *s, const unsigned char *id, size_t n);
int64_t shim_SSL_SESSION_get_time(const SSL_SESSION *s);
shim_long shim_SSL_SESSION_set_time(SSL_SESSION *s, int64_t t);
shim_long shim_SSL_SESSION_set_timeout(SSL_SESSION *s, long t);
shim_cipher shim_SSL_SESSION_get0_cipher(const SSL_SESSION *s);
int shim_session_is_psk(const SSL_SESSION *s);
long shim_session_first_without_cipher(SSL_SESSION **s, size_t n);
shim_bytes shim_i2d_SSL_SESSION(SSL_SESSION *s);
shim_parsed shim_d2i_SSL_SESSION(const unsigned char *der, size_t n);
shim_bytes shim_PEM_write_bio_SSL_SESSION(SSL_SESSION *s);
shim_bytes shim_PEM_read_bio_SSL_SESSION(const unsigned char *pem, size_t n);
shim_bytes shim_SSL_SESSION_print(const SSL_SESSION *s);

// ---- SSL ----

// shim_conn is an SSL and its transport. in and out are buffers of Go, for one call only. The BIO
// moves bytes between them and libssl. The call leaves its results in the fields below, so that Go
// needs no second call to read them.
struct shim_conn {
    SSL *ssl;

    const unsigned char *in;
    size_t in_len;
    size_t in_used;
    int in_eof; // set by Go: the peer closed the transport
    unsigned char *out;
    size_t out_cap;
    size_t out_len;

    int ssl_error; // SSL_get_error of the call
    size_t n;      // plaintext bytes moved
    int pending;   // a read can continue without input: libssl holds decrypted bytes
    int partial;   // libssl holds decrypted bytes, or part of a record
    int received;  // close_notify has come, or the shutdown is quiet
    int starved;   // libssl asked for more input than there was, and none has come since
    int unsent;    // close_notify was made, and out had no room for all of it
    int version, reused, wants_room; // libssl has the rest of a message: out had no room for it
    const SSL_CIPHER *cipher;        // static, or NULL
    shim_err *errs;
    shim_event *events;
    int lost; // events that there was no memory for

    SSL_CTX *session_ctx; // borrowed: the SSL was made from it, and uses its cache

    // The server_name extension of the last ClientHello.
    unsigned char sent_name[TLSEXT_MAXLEN_host_name + 5];
    size_t asked_name_len;
    unsigned char hello_name[SHA256_DIGEST_LENGTH]; // of the name that the hook saw
    unsigned char hello_alpn[SHA256_DIGEST_LENGTH]; // of the protocols that the hook saw
    int hello_has_choice;

    // The server that a client expects.
    int named; // SHIM_NAME_*
    char name[TLSEXT_MAXLEN_host_name + 1];
    unsigned char address[16];
    size_t address_len;
    int any_name; // the certificate may have any name

    // The peer and its certificates.
    int verifies, trust_changed; // it is verified; Go: the offered session may be of other trust
    const SSL_SESSION *checked_session; // only to compare: the one that a server checked last
    SSL_SESSION *checked_ref; // a reference to it, so that no other session gets its address
    SSL_SESSION *proven;      // of the last handshake, a reference, while a later one runs, or NULL
    long proven_result;       // of the last handshake's verification
    int asked_auth;           // a server of TLS 1.3 asked for a certificate after the handshake
    int began_in_init;        // the call began in the middle of a handshake
    int one_end, refuses_hello; // it was a later handshake, at whose end the call stops
    int no_resumption;          // it makes no resumable session
    int finished;               // at least one handshake is over
    long verify_result;         // set when the call failed
    int resumption_refused;     // the session lacks what the server asks of clients
    X509 *peer;                 // a reference: Go has its certificates
    STACK_OF(X509) * peer_chain, *peer_sent; // by which it was verified, and with it, or NULL
    shim_bytes peer_certs;                   // valid until the next call
    int peer_verified, peer_changed; // the peer had to be verified, and was; peer_certs is new
    int agreed, agreed_group; // this call completed a handshake, or read the first early data
    shim_view agreed_alpn, agreed_ocsp;
    const char *agreed_name, *agreed_psk, *agreed_psk_hint;

    // The ClientHello. A server suspends the handshake there if Go set ask_hello.
    int ask_hello;        // SHIM_ASK_*
    int hello_state;      // SHIM_HELLO_*
    unsigned char *hello; // as write_hello wrote it
    size_t hello_len;
    SSL_CTX *hello_ctx;             // the context to continue with, a reference, or NULL
    int hello_answered;             // set by Go: the hooks have answered
    int hello_refused, hello_alert; // set by Go: fail with the alert
    int hello_allows;               // SHIM_ALLOWS_*: where libssl will look for a session

    // wanted is the ID of the session that a ClientHello wants to resume. found is that session, a
    // reference that Go left here, or NULL.
    unsigned char wanted[SSL_MAX_SSL_SESSION_ID_LENGTH];
    size_t wanted_len;
    SSL_SESSION *found;
    int found_passed,
        found_allowed; // found was given to libssl; it may be resumed: 0 not known, 1 yes, -1 no

    // A certificate chain for a CertPool to verify. A client suspends its handshake meanwhile.
    int may_suspend;      // set by Go for one call
    int verify_state;     // SHIM_VERIFY_*
    uintptr_t pool;       // the pool that is asked
    unsigned char *chain; // DER, one certificate after the other, the peer's first
    size_t chain_len;
    unsigned char *anchors; // the answer, in C memory; anchors_len is -1 if there is none
    long anchors_len;

    uintptr_t handle;   // set by Go for one call: the Conn that answers upcalls, or 0
    int upcalls;        // set by Go for one call: SHIM_UPCALL_*, what the Conn answers
    int decrypted;      // the session is the one in the ticket of the last ClientHello
    int aborted;        // SHIM_ABORT_*: Go ended the handshake, and libssl must not continue
    int has_ticket_ext; // the ticket extension was set: libssl writes it into the session

    // The session that the first handshake resumes or may resume: a reference or NULL, later DER.
    SSL_SESSION *resumed;
    unsigned char *resumed_der;
    int resumed_len, resumed_known; // known: that handshake is over

    // For a ClientSessionCache.
    int keeps_sessions, withheld; // withheld: a session was set, and not offered
    SSL_SESSION *kept;            // the last session that was reported, a reference, or NULL
    void (*owner_info)(const SSL *ssl, int where, int ret); // the owner's callback, or NULL
    STACK_OF(X509) * offered_chain; // that of the offered session, the peer's first, or NULL

    // Early data and pre-shared keys.
    int psk_found;               // SHIM_PSK_FOUND_*: a hook has the key of the last identity
    int early_data;              // SSL_get_early_data_status
    int early_end;               // SSL_read_early_data said that there is no more
    int early_agreed;            // a server has stored what the ClientHello decided
    int early_refused;           // SSL_write_early_data was not called: none can be sent
    int no_ciphers;              // because the client has no ciphers, or libssl no memory
    struct alpn_list *alpn;      // a client's protocols, a reference, or NULL: none or unknown
    unsigned char *psk_identity; // the last one for libssl, which copies it after the callback
    size_t psk_identity_len;
    SSL_SESSION *psk_session; // of that identity, a reference, or NULL
    int psk_ok, psk_asked;    // what the callback returns; Go has answered before libssl asks
};

// shim_SSL_set_tlsext_host_name returns it for a name that libssl refuses.
#define SHIM_REFUSED_NAME (-5)

// shim_SSL_export_keying_material returns it if it did not call libssl.
#define SHIM_REFUSED_NO_EXTMS (-4)

// What shim_session_is_psk found missing.
#define SHIM_PSK_VERSION 1
#define SHIM_PSK_CIPHER 2
#define SHIM_PSK_KEY 3

// The upcalls that the Conn of a call answers.
#define SHIM_UPCALL_GET_SESSION 1 // the get callback
#define SHIM_UPCALL_ISSUE 2       // session IDs, tickets and certificate pools
#define SHIM_UPCALL_PSK 4         // pre-shared keys and early data

#define SHIM_ASK_CONTEXT 1
#define SHIM_ASK_SESSION 2

#define SHIM_ALLOWS_TLS13 1    // TLS 1.3 may be agreed on
#define SHIM_ALLOWS_TICKETS 2  // TLS 1.2 tickets are read
#define SHIM_ALLOWS_STATEFUL 4 // a TLS 1.3 ticket is the ID of a cached session
#define SHIM_ALLOWS_INTERNAL 8 // the internal cache is searched

typedef struct {
    shim_conn *p;
    shim_err *errs;
} shim_new_conn;

shim_new_conn shim_SSL_new(SSL_CTX *ctx, int server);
shim_event *shim_SSL_free(shim_conn *c, int keep_session);
void shim_SSL_client_hello_free(shim_conn *c);
void shim_answer_verification(shim_conn *c, unsigned char *anchors, long n);
void shim_SSL_set_SSL_CTX(shim_conn *c, SSL_CTX *ctx);
int shim_SSL_do_handshake(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                          size_t out_cap);
int shim_SSL_read(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                  size_t out_cap, unsigned char *p, size_t n);
int shim_SSL_write(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                   size_t out_cap, const unsigned char *p, size_t n);
int shim_SSL_shutdown(shim_conn *c, const unsigned char *in, size_t in_len, unsigned char *out,
                      size_t out_cap);
int shim_SSL_renegotiate(shim_conn *c, unsigned char *out, size_t out_cap);
int shim_SSL_key_update(shim_conn *c, unsigned char *out, size_t out_cap, int ask_peer);
int shim_SSL_new_session_ticket(shim_conn *c, unsigned char *out, size_t out_cap);
int shim_SSL_read_early_data(shim_conn *c, const unsigned char *in, size_t in_len,
                             unsigned char *out, size_t out_cap, unsigned char *p, size_t n);
int shim_SSL_write_early_data(shim_conn *c, unsigned char *out, size_t out_cap,
                              const unsigned char *p, size_t n);
uint64_t shim_SSL_set_options(shim_conn *c, uint64_t options);
uint64_t shim_SSL_clear_options(shim_conn *c, uint64_t options);
uint64_t shim_SSL_get_options(shim_conn *c);
shim_long shim_SSL_set_session(SSL *ssl, SSL_SESSION *s, int private_copy);
shim_long shim_SSL_set_tlsext_host_name(shim_conn *c, const char *name,
                                        const unsigned char *address, size_t n);
void shim_SSL_get0_param(shim_conn *c);
void shim_SSL_set_verify(shim_conn *c, int mode);
int shim_SSL_verify_client_post_handshake(shim_conn *c, unsigned char *out, size_t out_cap);
shim_long shim_SSL_export_keying_material(shim_conn *c, unsigned char *out, size_t n,
                                          const char *label, size_t label_len,
                                          const unsigned char *context, size_t context_len,
                                          int use_context);
void shim_note_agreed(shim_conn *c);
long shim_SSL_get_verify_result(const shim_conn *c);
shim_session shim_SSL_get1_session(SSL *ssl, int broken);
shim_session shim_SSL_get1_resumed_session(shim_conn *c);
int shim_SSL_has_new_ticket(shim_conn *c);
shim_long shim_SSL_keep_sessions(shim_conn *c, unsigned char *settings);
shim_long shim_SSL_set_offered_chain(shim_conn *c, const unsigned char *der, size_t n);
void shim_SSL_withhold_sessions(shim_conn *c);
void shim_SSL_set_cert_cb(shim_conn *c);
shim_event *shim_SSL_drop_sessions(shim_conn *c, const shim_event *made);
shim_bytes shim_SSL_get0_peer_CA_list(shim_conn *c);
shim_chain shim_SSL_get0_verified_chain(shim_conn *c);
shim_bytes shim_SSL_rejected_certificate(shim_conn *c);
shim_cipher shim_cipher_of(const SSL_CIPHER *cipher);

// ---- Attributes of sessions and connections ----

// shim_sessions is an array of references. The caller frees the references and the array.
typedef struct {
    SSL_SESSION **p;
    size_t n;
    int ok;
} shim_sessions;

shim_long shim_SSL_SESSION_set_cipher(SSL_SESSION *s, unsigned int id);
shim_long shim_SSL_SESSION_set1_master_key(SSL_SESSION *s, const unsigned char *key, size_t n);
shim_long shim_SSL_SESSION_set1_hostname(SSL_SESSION *s, const char *name);
shim_view shim_SSL_SESSION_get0_alpn_selected(const SSL_SESSION *s);
shim_long shim_SSL_SESSION_set1_alpn_selected(SSL_SESSION *s, const unsigned char *p, size_t n);
shim_view shim_SSL_SESSION_get0_ticket(const SSL_SESSION *s);
shim_view shim_SSL_SESSION_get0_ticket_appdata(SSL_SESSION *s);
shim_long shim_SSL_SESSION_set1_ticket_appdata(SSL_SESSION *s, const unsigned char *p, size_t n);
shim_bytes shim_SSL_SESSION_get0_peer(SSL_SESSION *s);
shim_bytes shim_SSL_SESSION_get0_peer_rpk(SSL_SESSION *s);
shim_bytes shim_SSL_SESSION_print_keylog(const SSL_SESSION *s);
uintptr_t shim_SSL_SESSION_get_ex_data(const SSL_SESSION *s);
shim_long shim_SSL_SESSION_set_ex_data(SSL_SESSION *s, uintptr_t values);
shim_long shim_session_note_moved(SSL_SESSION *s);
shim_sessions shim_SSL_CTX_sessions(SSL_CTX *ctx);
shim_long shim_SSL_set_session_id_context(shim_conn *c, const unsigned char *id, size_t n);
int shim_SSL_has_matching_session_id(shim_conn *c, const unsigned char *id, size_t n);
shim_long shim_SSL_set_generate_session_id(shim_conn *c, int on);
void shim_SSL_set_not_resumable_session_callback(shim_conn *c, int on);
shim_long shim_SSL_set_session_ticket_ext(shim_conn *c, const unsigned char *data, size_t n);
shim_long shim_SSL_set_session_ticket_ext_cb(shim_conn *c, int on);

// ---- Go, called from C: upcalls.go ----

long goAskPool(uintptr_t conn, uintptr_t pool, unsigned char *sent, size_t n,
               unsigned char **anchors);
void goReleasePool(uintptr_t pool);
uintptr_t goCopyValues(uintptr_t values);
void goForgetValues(uintptr_t values);

// goGenerateID returns the length of the ID, which may be more than n, or one of these.
#define SHIM_ID_NO_HOOK (-1)
#define SHIM_ID_FAILED (-2)

// goGenerateTicket returns whether the handshake fails, or the ticket's data stays or changes.
#define SHIM_TICKET_FAILED 0
#define SHIM_TICKET_KEPT 1
#define SHIM_TICKET_CHANGED 2

#endif
