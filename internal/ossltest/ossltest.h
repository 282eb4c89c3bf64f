// SPDX-License-Identifier: Apache-2.0

#ifndef OSSLTEST_H
#define OSSLTEST_H

#include <openssl/err.h>
#include <openssl/ssl.h>

long ossltest_live_sessions(void);
long ossltest_live_contexts(void);
long ossltest_live_ssls(void);
long ossltest_born_sessions(void);
SSL_CTX *ossltest_last_context(void);
int ossltest_is_live_context(SSL_CTX *ctx);

int ossltest_has_callbacks(SSL_CTX *ctx);
int ossltest_count_new(SSL_CTX *ctx, int on);
int ossltest_count_get(SSL_CTX *ctx, int on);
int ossltest_count_remove(SSL_CTX *ctx, int on);
long ossltest_counted(SSL_CTX *ctx, int what);
size_t ossltest_trace(char *buf, size_t n);

void ossltest_flush(SSL_CTX *ctx);
unsigned long ossltest_peek_error(void);
void ossltest_put_error(void);
long ossltest_compiled_version(void);
void ossltest_fail_random(int n);
uint64_t ossltest_ech_grease(void);
void ossltest_dump_coverage(void);

#endif
