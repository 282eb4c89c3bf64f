// SPDX-License-Identifier: Apache-2.0

// A TLS 1.2 client that resumes in a renegotiation: PORT. It keeps the session of a first
// connection. It makes a second one with the pre-shared key "key" of the identity "me", and offers
// the first one's session in a renegotiation of it.

#define OPENSSL_SUPPRESS_DEPRECATED // TLSv1_2_client_method

#include "client.h"

static unsigned int give_key(SSL *s, const char *hint, char *identity, unsigned int room,
                             unsigned char *key, unsigned int key_room) {
    (void)s;
    (void)hint;
    snprintf(identity, room, "me");
    memcpy(key, "key", key_room < 3 ? key_room : 3);
    return 3;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        return 2;
    }
    // The method of one version: SSL_set_session of a connection begins anew with any other.
    SSL_CTX *c = SSL_CTX_new(TLSv1_2_client_method());
    SSL *s = connect_to(c, argv[1]);
    must(SSL_set_cipher_list(s, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"));
    must(SSL_connect(s));
    SSL_SESSION *kept = SSL_get1_session(s);
    SSL_shutdown(s);

    s = connect_to(c, argv[1]);
    SSL_set_psk_client_callback(s, give_key);
    must(SSL_set_cipher_list(s, "PSK-AES128-GCM-SHA256"));
    must(SSL_connect(s));
    must(SSL_set_cipher_list(s, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"));
    must(SSL_set_session(s, kept));
    must(SSL_renegotiate_abbreviated(s));
    must(SSL_do_handshake(s));
    fprintf(stderr, "resumed: %d\n", SSL_session_reused(s));
    char b;
    SSL_write(s, "x", 1);
    SSL_read(s, &b, 1);
    return 0;
}
