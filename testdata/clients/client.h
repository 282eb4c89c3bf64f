// SPDX-License-Identifier: Apache-2.0

// What the clients share. They connect to a port of 127.0.0.1 and say on stderr what fails.

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static inline void must(int ok) {
    if (ok != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
}

static inline SSL *connect_to(SSL_CTX *c, const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        perror("connect");
        exit(1);
    }
    SSL *s = SSL_new(c);
    must(SSL_set_fd(s, fd));
    return s;
}
