// SPDX-License-Identifier: Apache-2.0

// A TLS 1.2 client with two certificates: PORT PEM OTHER_PEM [one]. A PEM file has a certificate
// and its key. The client keeps the session of a first connection, made with OTHER_PEM. It makes a
// second one with PEM, and resumes the other session in a renegotiation of it. Then it writes "x",
// renegotiates again with PEM, and writes "y". The end of the first renegotiation, "x" and the next
// ClientHello are one segment. With a fourth argument Finished and the ClientHello are one record,
// "x" follows them, and the client does no more.

#define OPENSSL_SUPPRESS_DEPRECATED // TLSv1_2_client_method

#include "client.h"

#include <openssl/evp.h>
#include <openssl/kdf.h>

enum { salt_len = 4, key_len = 16, explicit_len = 8, tag_len = 16, head_len = 5 };

static unsigned char keys[2 * key_len + 2 * salt_len]; // client, server; then the salts

static void derive_keys(SSL *s) {
    unsigned char master[48], server[32], client[32];
    SSL_SESSION_get_master_key(SSL_get_session(s), master, sizeof master);
    SSL_get_server_random(s, server, sizeof server);
    SSL_get_client_random(s, client, sizeof client);
    EVP_PKEY_CTX *p = EVP_PKEY_CTX_new_id(EVP_PKEY_TLS1_PRF, NULL);
    size_t n = sizeof keys;
    must(EVP_PKEY_derive_init(p));
    must(EVP_PKEY_CTX_set_tls1_prf_md(p, EVP_sha256()));
    must(EVP_PKEY_CTX_set1_tls1_prf_secret(p, master, sizeof master));
    must(EVP_PKEY_CTX_add1_tls1_prf_seed(p, (const unsigned char *)"key expansion", 13));
    must(EVP_PKEY_CTX_add1_tls1_prf_seed(p, server, sizeof server));
    must(EVP_PKEY_CTX_add1_tls1_prf_seed(p, client, sizeof client));
    must(EVP_PKEY_derive(p, keys, &n));
    EVP_PKEY_CTX_free(p);
}

// crypt_record encrypts n bytes of a record for the server, or decrypts them.
static void crypt_record(int encrypt, unsigned char seq, unsigned char type,
                         const unsigned char *explicit, const unsigned char *in, int n,
                         unsigned char *out, unsigned char *tag) {
    unsigned char nonce[12], aad[13] = {0, 0, 0, 0, 0, 0, 0, seq, type, 3, 3};
    memcpy(nonce, keys + 2 * key_len, salt_len);
    memcpy(nonce + salt_len, explicit, explicit_len);
    aad[11] = (unsigned char)(n >> 8);
    aad[12] = (unsigned char)n;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int len;
    must(EVP_CipherInit_ex(c, EVP_aes_128_gcm(), NULL, keys, nonce, encrypt));
    must(EVP_CipherUpdate(c, NULL, &len, aad, sizeof aad));
    must(EVP_CipherUpdate(c, out, &len, in, n));
    if (!encrypt) {
        must(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, tag_len, tag));
    }
    must(EVP_CipherFinal_ex(c, out + len, &len));
    if (encrypt) {
        must(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, tag_len, tag));
    }
    EVP_CIPHER_CTX_free(c);
}

// open_record decrypts the record at p, and moves p behind it. It returns the length of the
// plaintext.
static int open_record(unsigned char seq, unsigned char **p, unsigned char *out) {
    unsigned char *r = *p;
    int n = (r[3] << 8 | r[4]) - explicit_len - tag_len;
    unsigned char *text = r + head_len + explicit_len;
    crypt_record(0, seq, r[0], r + head_len, text, n, out, text + n);
    *p = text + n + tag_len;
    return n;
}

static int seal_record(unsigned char seq, unsigned char type, const unsigned char *in, int n,
                       unsigned char *out) {
    int body = explicit_len + n + tag_len;
    unsigned char head[head_len] = {type, 3, 3, (unsigned char)(body >> 8), (unsigned char)body};
    memcpy(out, head, head_len);
    memset(out + head_len, 0, explicit_len);
    out[head_len + explicit_len - 1] = seq;
    unsigned char *text = out + head_len + explicit_len;
    crypt_record(1, seq, type, out + head_len, in, n, text, text + n);
    return head_len + body;
}

// join makes one record of Finished and the ClientHello, and adds a record with "x".
static int join(unsigned char *records, unsigned char *out) {
    unsigned char plain[4096], *p = records;
    int changed = head_len + (p[3] << 8 | p[4]); // ChangeCipherSpec, with the keys before
    memcpy(out, p, (size_t)changed);
    p += changed;
    int n = open_record(0, &p, plain);
    n += open_record(1, &p, plain + n);
    int len = changed + seal_record(0, 22, plain, n, out + changed);
    return len + seal_record(1, 23, (const unsigned char *)"x", 1, out + len);
}

static void show(SSL *s, const char *pem) {
    must(SSL_use_certificate_file(s, pem, SSL_FILETYPE_PEM));
    must(SSL_use_PrivateKey_file(s, pem, SSL_FILETYPE_PEM));
}

static int flush(BIO *out, int fd) {
    unsigned char b[1 << 14];
    int n = BIO_read(out, b, sizeof b);
    return n > 0 ? (int)write(fd, b, (size_t)n) : 0;
}

// finish completes the handshake, but leaves the client's last records in out.
static void finish(SSL *s, BIO *in, BIO *out, int fd) {
    while (SSL_do_handshake(s) != 1) {
        unsigned char b[1 << 14];
        flush(out, fd);
        int n = (int)read(fd, b, sizeof b);
        if (n <= 0) {
            exit(1);
        }
        BIO_write(in, b, n);
    }
    fprintf(stderr, "resumed: %d\n", SSL_session_reused(s));
}

static void await_end(int fd) {
    unsigned char b[1 << 10];
    while (read(fd, b, sizeof b) > 0) {
    }
}

int main(int argc, char **argv) {
    if (argc < 4) {
        return 2;
    }
    // The method of one version: SSL_set_session of a connection begins anew with any other.
    SSL_CTX *c = SSL_CTX_new(TLSv1_2_client_method());
    must(SSL_CTX_set_cipher_list(c, "ECDHE-ECDSA-AES128-GCM-SHA256"));
    SSL *s = connect_to(c, argv[1]);
    show(s, argv[3]);
    must(SSL_connect(s));
    SSL_SESSION *other = SSL_get1_session(s);
    SSL_shutdown(s);

    s = connect_to(c, argv[1]);
    show(s, argv[2]);
    must(SSL_connect(s));
    int fd = SSL_get_fd(s);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(s, in, out);
    must(SSL_set_session(s, other));
    must(SSL_renegotiate_abbreviated(s));
    finish(s, in, out, fd);
    if (argc > 4) {
        derive_keys(s);
        must(SSL_renegotiate(s));
        SSL_do_handshake(s);
        unsigned char records[1 << 13], joined[1 << 13];
        BIO_read(out, records, sizeof records);
        int n = join(records, joined);
        if (write(fd, joined, (size_t)n) == n) {
            await_end(fd);
        }
        return 0;
    }
    SSL_write(s, "x", 1);
    must(SSL_renegotiate(s));
    finish(s, in, out, fd);
    SSL_write(s, "y", 1);
    flush(out, fd);
    await_end(fd);
    return 0;
}
