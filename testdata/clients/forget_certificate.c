// SPDX-License-Identifier: Apache-2.0

// A client that has a certificate in the handshake, and none when it is asked again: PORT FILE.

#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
    SSL_CTX_set_post_handshake_auth(c, 1);
    must(SSL_CTX_use_certificate_chain_file(c, argv[2]));
    must(SSL_CTX_use_PrivateKey_file(c, argv[2], SSL_FILETYPE_PEM));
    SSL *s = connect_to(c, argv[1]);
    must(SSL_connect(s));
    SSL_certs_clear(s);
    char b;
    SSL_read(s, &b, 1);
    SSL_write(s, "x", 1);
    SSL_read(s, &b, 1);
    return 0;
}
