// SPDX-License-Identifier: Apache-2.0

#include "cwork.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// The part of Redis's protocol that a get callback needs. A call blocks until the answer comes.

int cwork_redis_dial(const char *port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

// send_command sends a command of two or three arguments; the last one may be NULL.
static int send_command(int fd, const char *name, const unsigned char *key, size_t key_len,
                        const unsigned char *value, size_t len) {
    char head[64], middle[64];
    int head_len = snprintf(head, sizeof head, "*%d\r\n$3\r\n%s\r\n$%zu\r\n", value == NULL ? 2 : 3,
                            name, key_len);
    int middle_len = value == NULL ? snprintf(middle, sizeof middle, "\r\n")
                                   : snprintf(middle, sizeof middle, "\r\n$%zu\r\n", len);
    struct iovec parts[] = {{head, (size_t)head_len},
                            {(void *)key, key_len},
                            {middle, (size_t)middle_len},
                            {(void *)value, value == NULL ? 0 : len},
                            {"\r\n", value == NULL ? 0 : 2}};
    ssize_t all = 0;
    for (size_t i = 0; i < 5; i++) {
        all += (ssize_t)parts[i].iov_len;
    }
    return writev(fd, parts, 5) == all;
}

int cwork_redis_set(int fd, const unsigned char *key, size_t key_len, const unsigned char *value,
                    size_t len) {
    char answer[5];
    return send_command(fd, "SET", key, key_len, value, len) &&
           recv(fd, answer, sizeof answer, MSG_WAITALL) == 5 && memcmp(answer, "+OK\r\n", 5) == 0;
}

// The length of the value, or -1 when there is none.
int cwork_redis_get(int fd, const unsigned char *key, size_t key_len, unsigned char *value,
                    size_t room) {
    char answer[4096];
    size_t got = 0;
    if (!send_command(fd, "GET", key, key_len, NULL, 0)) {
        return -1;
    }
    for (;;) {
        ssize_t k = recv(fd, answer + got, sizeof answer - got - 1, 0);
        if (k <= 0) {
            return -1;
        }
        got += (size_t)k;
        answer[got] = 0;
        char *body = strstr(answer, "\r\n");
        int len = body == NULL ? 0 : atoi(answer + 1);
        if (answer[0] != '$' || len < 0 || (size_t)len > room) {
            return -1;
        }
        if (body != NULL && got >= (size_t)(body + 2 - answer) + (size_t)len + 2) {
            memcpy(value, body + 2, (size_t)len);
            return len;
        }
    }
}
