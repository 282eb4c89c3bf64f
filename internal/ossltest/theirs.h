// SPDX-License-Identifier: Apache-2.0

#ifndef OSSLTEST_THEIRS_H
#define OSSLTEST_THEIRS_H

#include <openssl/ssl.h>

enum {
    THEIRS_NEW,
    THEIRS_GET,
    THEIRS_REMOVE,
    THEIRS_KEYLOG,
    THEIRS_INFO,
    THEIRS_CLIENT_HELLO,
    THEIRS_ALPN_SELECT,
    THEIRS_STATUS,
    THEIRS_CERT_VERIFY,
    THEIRS_VERIFY,
    THEIRS_GENERATE_ID,
    THEIRS_NOT_RESUMABLE,
    THEIRS_SESSION_TICKET,
    THEIRS_TICKET_KEY,
    THEIRS_ALLOW_EARLY_DATA,
    THEIRS_PSK_FIND,
    THEIRS_PSK_USE,
    THEIRS_PSK_SERVER,
    THEIRS_PSK_CLIENT,
    THEIRS_PASSWORD,
    THEIRS_KINDS
};

void ossltest_theirs(SSL_CTX *ctx, int kind);
long ossltest_calls(int kind);
int ossltest_talk(SSL_CTX *server, SSL_CTX *client, SSL_SESSION **kept);

#endif
