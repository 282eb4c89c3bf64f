// SPDX-License-Identifier: Apache-2.0

// A client that asks for one name, and for another in its second ClientHello: PORT FIRST SECOND.
// With a fourth argument it speaks TLS 1.2 and asks for the second name in a renegotiation.

#include "client.h"

static const char *second;
static int hellos;

static void on_message(int sent, int version, int type, const void *p, size_t n, SSL *s,
                       void *arg) {
    const unsigned char *message = p;
    (void)version;
    (void)arg;
    if (!sent && type == SSL3_RT_HANDSHAKE && n > 0 && message[0] == SSL3_MT_SERVER_HELLO &&
        hellos++ == 0) {
        SSL_set_tlsext_host_name(s, second);
    }
}

int main(int argc, char **argv) {
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    int renegotiates = argc > 4;
    SSL_CTX_set1_groups_list(c, "X25519:P-256");
    if (renegotiates) {
        SSL_CTX_set_max_proto_version(c, TLS1_2_VERSION);
    } else {
        SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
        SSL_CTX_set_msg_callback(c, on_message);
    }
    SSL *s = connect_to(c, argv[1]);
    SSL_set_tlsext_host_name(s, argv[2]);
    second = argv[3];
    must(SSL_connect(s));
    if (renegotiates) {
        SSL_set_tlsext_host_name(s, second);
        must(SSL_renegotiate(s));
        must(SSL_do_handshake(s));
    }
    char b;
    SSL_write(s, "x", 1);
    SSL_read(s, &b, 1);
    return 0;
}
