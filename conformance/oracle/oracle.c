// SPDX-License-Identifier: Apache-2.0
//
// The oracle: a plain C program over libssl. It prints libssl's results.
//
// It reads operations, one a line, from standard input, runs each with the public C API alone and
// prints the result and everything that can be observed afterwards. The conformance driver runs the
// same operations through the Go binding and compares. The oracle shares no code with the binding,
// so that a mistake in one is not repeated in the other.
//
// For a line which is neither empty nor begins with '#':
//
//     > the line
//     = result
//     ctx .. / session .. / queue .. / live ..      the state, names in order
//     .

#define _GNU_SOURCE // pthread_timedjoin_np

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

// ---------------------------------------------------------------- differences between versions

#if OPENSSL_VERSION_NUMBER >= 0x30400000L
#define session_time(s) ((long long)SSL_SESSION_get_time_ex(s))
#define session_set_time(s, t) ((long long)SSL_SESSION_set_time_ex((s), (time_t)(t)))
#define ctx_flush(c, t) SSL_CTX_flush_sessions_ex((c), (time_t)(t))
#else
#define session_time(s) ((long long)SSL_SESSION_get_time(s))
#define session_set_time(s, t) ((long long)SSL_SESSION_set_time((s), (long)(t)))
#define ctx_flush(c, t) SSL_CTX_flush_sessions((c), (long)(t))
#endif

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
typedef void **ex_dup_from;
typedef EVP_MAC_CTX ticket_mac;
static int start_mac(ticket_mac *mac, unsigned char *key) {
    OSSL_PARAM params[3];
    char digest[] = "SHA256";
    params[0] = OSSL_PARAM_construct_octet_string("key", key, 32);
    params[1] = OSSL_PARAM_construct_utf8_string("digest", digest, 0);
    params[2] = OSSL_PARAM_construct_end();
    return EVP_MAC_CTX_set_params(mac, params);
}
#define set_ticket_key_cb SSL_CTX_set_tlsext_ticket_key_evp_cb
#else
typedef void *ex_dup_from;
typedef HMAC_CTX ticket_mac;
static int start_mac(ticket_mac *mac, unsigned char *key) {
    return HMAC_Init_ex(mac, key, 32, EVP_sha256(), NULL);
}
#define set_ticket_key_cb SSL_CTX_set_tlsext_ticket_key_cb
#endif

// ------------------------------------------------------------------------------------ the tables

enum { CONTEXTS = 10, SESSIONS = 32, PAIRS = 10, RING_KEYS = 8 };
enum { SERVER, CLIENT };

// A ticket key: 16 bytes of name, 32 of HMAC key, 32 of AES key.
struct ring_key {
    unsigned char bytes[80];
    bool old; // clients that use it get a new ticket; never the first key
};

struct context {
    SSL_CTX *ctx; // NULL: the name is free
    long new_calls, get_calls, remove_calls;
    SSL_SESSION **answer; // what the get callback returns: the place of a named session, or NULL
    SSL *probe;           // it takes the lock while the remove callback runs, or NULL
    SSL_SESSION **re_add; // what the remove callback adds, once, or NULL
    int new_answer;       // of the new callback

    // Settings of the ID, resumption and ticket callbacks: see their operations.
    const char *id_kind; // static
    unsigned char id[33];
    size_t id_length;
    int not_resumable;
    struct ring_key ring[RING_KEYS];
    int ring_keys;
    int ticket_answer; // -1: libssl's own
    char ticket_data[33];

    // Results of the callbacks for early data and pre-shared keys.
    bool allow;
    SSL_SESSION **psk; // of find and use
    char identity[PSK_MAX_IDENTITY_LEN + 1];
    unsigned char key[PSK_MAX_PSK_LEN];
    size_t key_length;
};

// A connection inside one process. The wires belong to the pair. So one end can still read what the
// other has written after the other is freed.
struct pair {
    bool used;
    SSL *end[2];
    BIO *wire[2]; // wire[SERVER] has the server's input
    bool reading; // the server reads early data to its end, into early, before its handshake
    unsigned char early[4096];
    size_t early_length;
};

struct event {
    int context;
    const char *what;
};

static struct context contexts[CONTEXTS];
static SSL_SESSION *sessions[SESSIONS];
static struct pair pairs[PAIRS];

static struct event *events;
static size_t event_count, event_room;

// Sessions that the remove callbacks got since the last removed operation, as words.
enum { WORDS = 4096 };
static char removed[WORDS], locks[WORDS], added[WORDS];

static void *must(void *p) {
    if (p == NULL) {
        fprintf(stderr, "oracle: out of memory\n");
        exit(3);
    }
    return p;
}

// ------------------------------------------------------------------- how many sessions are alive

// libssl does not report that a session object was freed. But it calls the ex_data functions of
// every SSL_SESSION, also of those that it makes itself. So the count is exact.
static long live_sessions;
static int live_index;
static char live_mark;

static void live_new(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
    (void)parent, (void)ptr, (void)argl, (void)argp;
    live_sessions++;
    CRYPTO_set_ex_data(ad, idx, &live_mark);
}

// A duplicate has usually been through live_new already; it is counted here only if it was not.
static int live_dup(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, ex_dup_from from_d, int idx,
                    long argl, void *argp) {
    (void)from, (void)from_d, (void)argl, (void)argp;
    if (CRYPTO_get_ex_data(to, idx) == NULL)
        live_sessions++;
    return 1;
}

static void live_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    if (ptr != NULL)
        live_sessions--;
}

// -------------------------------------------------------------------------------------- replies

#define PRINTF_LIKE __attribute__((format(printf, 1, 2)))

static PRINTF_LIKE void reply(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("= ", stdout);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static void put_hex(const unsigned char *bytes, size_t n) {
    if (n == 0)
        putchar('-');
    for (size_t i = 0; i < n; i++)
        printf("%02x", bytes[i]);
}

static void reply_hex(const unsigned char *bytes, size_t n) {
    fputs("= ", stdout);
    put_hex(bytes, n);
    putchar('\n');
}

// Replies with the content of the BIO, if the write to it succeeded, and frees it.
static void reply_written(BIO *bio, int ok) {
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);
    if (ok > 0)
        reply_hex((const unsigned char *)data, n > 0 ? (size_t)n : 0);
    else
        reply("fail");
    BIO_free(bio);
}

static void reply_made(const void *made) { reply(made != NULL ? "ok" : "fail"); }

// ------------------------------------------------------------------------------------- operands

// The reply to an operand that cannot be read is `usage`. The functions below send it and return
// false; their callers then only return.

static bool parse_index(const char *word, char kind, int limit, int *index) {
    size_t n = strlen(word);
    if (n < 2 || n > 3 || word[0] != kind)
        return false;
    int value = 0;
    for (size_t i = 1; i < n; i++) {
        if (word[i] < '0' || word[i] > '9')
            return false;
        value = value * 10 + (word[i] - '0');
    }
    if (value >= limit || (n == 3 && word[1] == '0'))
        return false;
    *index = value;
    return true;
}

static bool want_index(const char *word, char kind, int limit, int *index) {
    if (parse_index(word, kind, limit, index))
        return true;
    reply("usage not a name: %s", word);
    return false;
}

static bool want_context(const char *word, struct context **found) {
    int i;
    if (!want_index(word, 'c', CONTEXTS, &i))
        return false;
    if (contexts[i].ctx == NULL) {
        reply("usage no such context: %s", word);
        return false;
    }
    *found = &contexts[i];
    return true;
}

static bool want_session(const char *word, SSL_SESSION **found) {
    int i;
    if (!want_index(word, 's', SESSIONS, &i))
        return false;
    if (sessions[i] == NULL) {
        reply("usage no such session: %s", word);
        return false;
    }
    *found = sessions[i];
    return true;
}

static bool want_pair(const char *word, struct pair **found) {
    int i;
    if (!want_index(word, 'p', PAIRS, &i))
        return false;
    if (!pairs[i].used) {
        reply("usage no such pair: %s", word);
        return false;
    }
    *found = &pairs[i];
    return true;
}

static bool want_end(char **arg, struct pair **pair, int *side) {
    if (!want_pair(arg[0], pair))
        return false;
    if (strcmp(arg[1], "server") == 0) {
        *side = SERVER;
    } else if (strcmp(arg[1], "client") == 0) {
        *side = CLIENT;
    } else {
        reply("usage not an end: %s", arg[1]);
        return false;
    }
    if ((*pair)->end[*side] == NULL) {
        reply("usage %s has no %s any more", arg[0], arg[1]);
        return false;
    }
    return true;
}

static bool want_both_ends(const char *word, struct pair **pair) {
    if (!want_pair(word, pair))
        return false;
    if ((*pair)->end[SERVER] == NULL || (*pair)->end[CLIENT] == NULL) {
        reply("usage %s has lost an end", word);
        return false;
    }
    return true;
}

static int base_of(const char *word) {
    const char *digits = word[0] == '-' ? word + 1 : word;
    return digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') ? 16 : 10;
}

static bool want_number(const char *word, long long *value) {
    char *end;
    errno = 0;
    *value = strtoll(word, &end, base_of(word));
    if (end != word && *end == '\0' && errno == 0)
        return true;
    reply("usage not a number: %s", word);
    return false;
}

// Options have 64 bits and no sign.
static bool want_bits(const char *word, uint64_t *value) {
    char *end;
    errno = 0;
    *value = strtoull(word, &end, base_of(word));
    if (end != word && *end == '\0' && errno == 0 && word[0] != '-')
        return true;
    reply("usage not a bit mask: %s", word);
    return false;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// The caller frees *bytes, which is never NULL after success.
static bool want_bytes(const char *word, unsigned char **bytes, size_t *count) {
    size_t n = strcmp(word, "-") == 0 ? 0 : strlen(word);
    unsigned char *out = must(malloc(n / 2 + 1));
    bool good = n % 2 == 0;
    for (size_t i = 0; good && i < n; i += 2) {
        int high = hex_digit(word[i]), low = hex_digit(word[i + 1]);
        good = high >= 0 && low >= 0;
        if (good)
            out[i / 2] = (unsigned char)(high << 4 | low);
    }
    if (!good) {
        free(out);
        reply("usage not hex: %s", word);
        return false;
    }
    *bytes = out;
    *count = n / 2;
    return true;
}

// ------------------------------------------------------------------------------------ callbacks

static struct context *context_of(const SSL_CTX *ctx) {
    for (int i = 0; i < CONTEXTS; i++)
        if (contexts[i].ctx == ctx)
            return &contexts[i];
    return NULL; // its name is freed, but a connection still holds it
}

static void record(const struct context *c, const char *what) {
    if (event_count == event_room) {
        event_room = event_room == 0 ? 64 : event_room * 2;
        events = must(realloc(events, event_room * sizeof *events));
    }
    events[event_count].context = (int)(c - contexts);
    events[event_count].what = what;
    event_count++;
}

static int on_new(SSL *ssl, SSL_SESSION *session) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    (void)session;
    if (c == NULL)
        return 0;
    c->new_calls++;
    record(c, "new");
    return c->new_answer; // 0, or set by newanswer: with 0 libssl keeps the reference
}

static SSL_SESSION *on_get(SSL *ssl, const unsigned char *id, int length, int *copy) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    (void)id, (void)length, (void)copy; // copy is 1: libssl takes a reference of its own
    if (c == NULL)
        return NULL;
    c->get_calls++;
    record(c, "get");
    return c->answer == NULL ? NULL : *c->answer;
}

static void add_word(char *words, const char *word) {
    size_t length = strlen(words);
    snprintf(words + length, WORDS - length, "%s%s", length == 0 ? "" : " ", word);
}

static void reply_words(char *words) {
    reply("%s", words[0] == '\0' ? "-" : words);
    words[0] = '\0';
}

// An ID that libssl chose is 32 random bytes.
static void note_removed(const SSL_SESSION *session) {
    char word[2 * SSL_MAX_SSL_SESSION_ID_LENGTH + 1] = "";
    unsigned length;
    const unsigned char *id = SSL_SESSION_get_id(session, &length);
    for (unsigned i = 0; i < length; i++)
        snprintf(word + 2 * i, 3, "%02x", id[i]);
    add_word(removed, length == 0 ? "empty" : length == 32 ? "random" : word);
}

static void *take_lock(void *probe) {
    const unsigned char id[] = {0};
    SSL_has_matching_session_id(probe, id, sizeof id); // reads the cache, and changes nothing
    return NULL;
}

// Whether another thread can take the context's lock while the callback runs. A thread that cannot
// is left: it continues when the callback has returned.
static void note_lock(SSL *probe) {
    pthread_t thread;
    struct timespec limit;
    if (pthread_create(&thread, NULL, take_lock, probe) != 0)
        must(NULL);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += 200000000;
    limit.tv_sec += limit.tv_nsec / 1000000000;
    limit.tv_nsec %= 1000000000;
    bool held = pthread_timedjoin_np(thread, NULL, &limit) != 0;
    if (held)
        pthread_detach(thread);
    add_word(locks, held ? "held" : "free");
}

static void re_add(struct context *c) {
    SSL_SESSION *s = *c->re_add;
    c->re_add = NULL; // first, because adding may call this function again
    add_word(added, SSL_CTX_add_session(c->ctx, s) ? "1" : "0");
}

static void on_remove(SSL_CTX *ctx, SSL_SESSION *session) {
    struct context *c = context_of(ctx);
    if (c != NULL) {
        c->remove_calls++;
        record(c, "remove");
        note_removed(session);
        if (c->probe != NULL)
            note_lock(c->probe);
        if (c->re_add != NULL)
            re_add(c);
    }
}

// --------------------------------------------------------------------------- operations: context

static void op_ctx(char **arg, int n) {
    int i;
    const SSL_METHOD *method;
    (void)n;
    if (!want_index(arg[0], 'c', CONTEXTS, &i))
        return;
    if (contexts[i].ctx != NULL) {
        reply("usage in use: %s", arg[0]);
        return;
    }
    if (strcmp(arg[1], "tls") == 0) {
        method = TLS_method();
    } else if (strcmp(arg[1], "client") == 0) {
        method = TLS_client_method();
    } else if (strcmp(arg[1], "server") == 0) {
        method = TLS_server_method();
    } else {
        reply("usage not a method: %s", arg[1]);
        return;
    }
    contexts[i] = (struct context){.ctx = SSL_CTX_new(method)};
    reply_made(contexts[i].ctx);
}

// The context keeps its name until SSL_CTX_free has returned: that flushes the cache, and the
// remove callback must find the context.
static void free_context(struct context *c) {
    SSL_free(c->probe);
    c->probe = NULL;
    SSL_CTX_free(c->ctx);
    *c = (struct context){.ctx = NULL};
}

static void op_ctxfree(char **arg, int n) {
    struct context *c;
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    free_context(c);
    reply("ok");
}

static void op_mode(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (want_context(arg[0], &c) && want_number(arg[1], &value))
        reply("%ld", SSL_CTX_set_session_cache_mode(c->ctx, (long)value));
}

static void op_size(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (want_context(arg[0], &c) && want_number(arg[1], &value))
        reply("%ld", SSL_CTX_sess_set_cache_size(c->ctx, (long)value));
}

static void op_timeout(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (want_context(arg[0], &c) && want_number(arg[1], &value))
        reply("%ld", SSL_CTX_set_timeout(c->ctx, (long)value));
}

static void op_sidctx(char **arg, int n) {
    struct context *c;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_context(arg[0], &c) || !want_bytes(arg[1], &bytes, &count))
        return;
    reply("%d", SSL_CTX_set_session_id_context(c->ctx, bytes, (unsigned)count));
    free(bytes);
}

static void op_options(char **arg, int n) {
    struct context *c;
    uint64_t bits;
    (void)n;
    if (!want_context(arg[0], &c) || !want_bits(arg[2], &bits))
        return;
    if (strcmp(arg[1], "set") == 0) {
        SSL_CTX_set_options(c->ctx, bits);
    } else if (strcmp(arg[1], "clear") == 0) {
        SSL_CTX_clear_options(c->ctx, bits);
    } else {
        reply("usage set or clear, not %s", arg[1]);
        return;
    }
    reply("ok");
}

static void op_proto(char **arg, int n) {
    struct context *c;
    long long min, max;
    (void)n;
    if (!want_context(arg[0], &c) || !want_number(arg[1], &min) || !want_number(arg[2], &max))
        return;
    int min_set = (int)SSL_CTX_set_min_proto_version(c->ctx, (int)min);
    int max_set = (int)SSL_CTX_set_max_proto_version(c->ctx, (int)max);
    reply("%d %d", min_set, max_set);
}

static void op_verify(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (!want_context(arg[0], &c) || !want_number(arg[1], &value))
        return;
    SSL_CTX_set_verify(c->ctx, (int)value, NULL);
    reply("ok");
}

static void op_cipherlist(char **arg, int n) {
    struct context *c;
    (void)n;
    if (want_context(arg[0], &c))
        reply("%d", SSL_CTX_set_cipher_list(c->ctx, arg[1]));
}

static void op_ciphersuites(char **arg, int n) {
    struct context *c;
    (void)n;
    if (want_context(arg[0], &c))
        reply("%d", SSL_CTX_set_ciphersuites(c->ctx, arg[1]));
}

static void op_earlydata(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (want_context(arg[0], &c) && want_number(arg[1], &value))
        reply("%d", SSL_CTX_set_max_early_data(c->ctx, (uint32_t)value));
}

static void op_cert(char **arg, int n) {
    struct context *c;
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    int good = SSL_CTX_use_certificate_chain_file(c->ctx, arg[1]) == 1 &&
               SSL_CTX_use_PrivateKey_file(c->ctx, arg[2], SSL_FILETYPE_PEM) == 1;
    reply("%d", good);
}

enum { NEW_CALLBACK = 1, GET_CALLBACK = 2, REMOVE_CALLBACK = 4 };

static bool want_callbacks(char *list, unsigned *wanted) {
    *wanted = 0;
    if (strcmp(list, "none") == 0)
        return true;
    char *rest;
    for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (strcmp(word, "new") == 0) {
            *wanted |= NEW_CALLBACK;
        } else if (strcmp(word, "get") == 0) {
            *wanted |= GET_CALLBACK;
        } else if (strcmp(word, "remove") == 0) {
            *wanted |= REMOVE_CALLBACK;
        } else {
            reply("usage not a callback: %s", word);
            return false;
        }
    }
    return true;
}

// It does not change callbacks that are not in the list: the presence of a remove callback alone
// changes what a TLS 1.3 server stores.
static void op_callbacks(char **arg, int n) {
    struct context *c;
    unsigned wanted;
    (void)n;
    if (!want_context(arg[0], &c) || !want_callbacks(arg[1], &wanted))
        return;
    if (wanted == 0 || wanted & NEW_CALLBACK)
        SSL_CTX_sess_set_new_cb(c->ctx, wanted == 0 ? NULL : on_new);
    if (wanted == 0 || wanted & GET_CALLBACK)
        SSL_CTX_sess_set_get_cb(c->ctx, wanted == 0 ? NULL : on_get);
    if (wanted == 0 || wanted & REMOVE_CALLBACK)
        SSL_CTX_sess_set_remove_cb(c->ctx, wanted == 0 ? NULL : on_remove);
    reply("ok");
}

static void op_answer(char **arg, int n) {
    struct context *c;
    int i;
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    if (strcmp(arg[1], "none") == 0) {
        c->answer = NULL;
    } else if (want_index(arg[1], 's', SESSIONS, &i)) {
        c->answer = &sessions[i];
    } else {
        return;
    }
    reply("ok");
}

static void op_trace(char **arg, int n) {
    (void)arg, (void)n;
    fputs("=", stdout);
    if (event_count == 0)
        fputs(" -", stdout);
    for (size_t i = 0; i < event_count; i++)
        printf(" c%d.%s", events[i].context, events[i].what);
    putchar('\n');
    event_count = 0;
}

// removed: the IDs of the sessions that remove callbacks got since the last removed, in order
static void op_removed(char **arg, int n) {
    (void)arg, (void)n;
    reply_words(removed);
}

// probe C: from now on the remove callback checks whether it runs under the context's lock
static void op_probe(char **arg, int n) {
    struct context *c;
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    if (c->probe == NULL)
        c->probe = must(SSL_new(c->ctx));
    reply("ok");
}

// locks: the results of probe since the last locks: held or free for each run of the callback
static void op_locks(char **arg, int n) {
    (void)arg, (void)n;
    reply_words(locks);
}

// --------------------------------------------------------------------------- operations: session

// The old session of the name is freed only now, so that `dup s0 s0` has something to copy.
static void name_session(int index, SSL_SESSION *made) {
    SSL_SESSION_free(sessions[index]);
    sessions[index] = made;
}

static void op_session(char **arg, int n) {
    int i;
    (void)n;
    if (!want_index(arg[0], 's', SESSIONS, &i))
        return;
    name_session(i, SSL_SESSION_new());
    reply_made(sessions[i]);
}

static void op_parse(char **arg, int n) {
    int i;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_index(arg[0], 's', SESSIONS, &i) || !want_bytes(arg[1], &bytes, &count))
        return;
    const unsigned char *p = bytes;
    SSL_SESSION *made = d2i_SSL_SESSION(NULL, &p, (long)count);
    if (made != NULL && p != bytes + count) { // libssl takes trailing bytes, this op does not
        SSL_SESSION_free(made);
        made = NULL;
    }
    free(bytes);
    name_session(i, made);
    reply_made(made);
}

static void op_readpem(char **arg, int n) {
    int i;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_index(arg[0], 's', SESSIONS, &i) || !want_bytes(arg[1], &bytes, &count))
        return;
    BIO *bio = must(BIO_new_mem_buf(bytes, (int)count));
    name_session(i, PEM_read_bio_SSL_SESSION(bio, NULL, NULL, NULL));
    BIO_free(bio);
    free(bytes);
    reply_made(sessions[i]);
}

static void op_dup(char **arg, int n) {
    int i;
    SSL_SESSION *from;
    (void)n;
    if (!want_index(arg[0], 's', SESSIONS, &i) || !want_session(arg[1], &from))
        return;
    name_session(i, SSL_SESSION_dup(from));
    reply_made(sessions[i]);
}

static void op_free(char **arg, int n) {
    int i;
    SSL_SESSION *s;
    (void)n;
    if (!want_session(arg[0], &s) || !want_index(arg[0], 's', SESSIONS, &i))
        return;
    name_session(i, NULL);
    reply("ok");
}

static void op_id(char **arg, int n) {
    SSL_SESSION *s;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_session(arg[0], &s) || !want_bytes(arg[1], &bytes, &count))
        return;
    reply("%d", SSL_SESSION_set1_id(s, bytes, (unsigned)count));
    free(bytes);
}

static void op_idctx(char **arg, int n) {
    SSL_SESSION *s;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_session(arg[0], &s) || !want_bytes(arg[1], &bytes, &count))
        return;
    reply("%d", SSL_SESSION_set1_id_context(s, bytes, (unsigned)count));
    free(bytes);
}

static void op_time(char **arg, int n) {
    SSL_SESSION *s;
    long long value;
    (void)n;
    if (want_session(arg[0], &s) && want_number(arg[1], &value))
        reply("%lld", session_set_time(s, value));
}

static void op_stimeout(char **arg, int n) {
    SSL_SESSION *s;
    long long value;
    (void)n;
    if (want_session(arg[0], &s) && want_number(arg[1], &value))
        reply("%ld", SSL_SESSION_set_timeout(s, (long)value));
}

static void op_version(char **arg, int n) {
    SSL_SESSION *s;
    long long value;
    if (n == 0)
        reply("0x%08lx", (unsigned long)OPENSSL_VERSION_NUMBER);
    else if (n != 2)
        reply("usage version [session number]");
    else if (want_session(arg[0], &s) && want_number(arg[1], &value))
        reply("%d", SSL_SESSION_set_protocol_version(s, (int)value));
}

static void op_same(char **arg, int n) {
    SSL_SESSION *a, *b;
    (void)n;
    if (want_session(arg[0], &a) && want_session(arg[1], &b))
        reply("%d", a == b);
}

static void op_der(char **arg, int n) {
    SSL_SESSION *s;
    unsigned char *der = NULL;
    (void)n;
    if (!want_session(arg[0], &s))
        return;
    int length = i2d_SSL_SESSION(s, &der);
    if (length > 0)
        reply_hex(der, (size_t)length);
    else
        reply("fail");
    OPENSSL_free(der);
}

static void op_pem(char **arg, int n) {
    SSL_SESSION *s;
    (void)n;
    if (!want_session(arg[0], &s))
        return;
    BIO *bio = must(BIO_new(BIO_s_mem()));
    reply_written(bio, PEM_write_bio_SSL_SESSION(bio, s));
}

static void op_print(char **arg, int n) {
    SSL_SESSION *s;
    (void)n;
    if (!want_session(arg[0], &s))
        return;
    BIO *bio = must(BIO_new(BIO_s_mem()));
    reply_written(bio, SSL_SESSION_print(bio, s));
}

// ----------------------------------------------------------------------------- operations: cache

static void op_add(char **arg, int n) {
    struct context *c;
    SSL_SESSION *s;
    (void)n;
    if (want_context(arg[0], &c) && want_session(arg[1], &s))
        reply("%d", SSL_CTX_add_session(c->ctx, s));
}

static void op_remove(char **arg, int n) {
    struct context *c;
    SSL_SESSION *s;
    (void)n;
    if (want_context(arg[0], &c) && want_session(arg[1], &s))
        reply("%d", SSL_CTX_remove_session(c->ctx, s));
}

// All names are looked up first: an operation with a wrong name does nothing at all.
static void for_all(char **arg, int n, int (*call)(SSL_CTX *, SSL_SESSION *)) {
    struct context *c;
    SSL_SESSION *s;
    if (!want_context(arg[0], &c))
        return;
    for (int i = 1; i < n; i++)
        if (!want_session(arg[i], &s))
            return;
    fputs("=", stdout);
    for (int i = 1; i < n; i++) {
        if (want_session(arg[i], &s))
            printf(" %d", call(c->ctx, s));
    }
    putchar('\n');
}

static void op_addall(char **arg, int n) { for_all(arg, n, SSL_CTX_add_session); }

static void op_removeall(char **arg, int n) { for_all(arg, n, SSL_CTX_remove_session); }

static void op_flush(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (!want_context(arg[0], &c) || !want_number(arg[1], &value))
        return;
    ctx_flush(c->ctx, value);
    reply("ok");
}

// ----------------------------------------------------------------------- operations: connections

static SSL *new_end(struct pair *p, int side, SSL_CTX *ctx) {
    SSL *ssl = must(SSL_new(ctx));
    BIO *in = p->wire[side], *out = p->wire[side == SERVER ? CLIENT : SERVER];
    BIO_up_ref(in);
    BIO_up_ref(out);
    SSL_set_bio(ssl, in, out); // takes both references
    if (side == SERVER)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    return ssl;
}

static void op_pair(char **arg, int n) {
    int i;
    struct context *server, *client;
    SSL_SESSION *session = NULL;
    if (!want_index(arg[0], 'p', PAIRS, &i) || !want_context(arg[1], &server) ||
        !want_context(arg[2], &client) || (n > 3 && !want_session(arg[3], &session)))
        return;
    struct pair *p = &pairs[i];
    if (p->used) {
        reply("usage in use: %s", arg[0]);
        return;
    }
    p->used = true;
    p->wire[SERVER] = must(BIO_new(BIO_s_mem()));
    p->wire[CLIENT] = must(BIO_new(BIO_s_mem()));
    p->end[SERVER] = new_end(p, SERVER, server->ctx);
    p->end[CLIENT] = new_end(p, CLIENT, client->ctx);
    reply("%d", session == NULL ? 1 : SSL_set_session(p->end[CLIENT], session));
}

// Frees one end like the close of a socket: the other end reads the written bytes, then EOF.
static void free_end(struct pair *p, int side) {
    int other = side == SERVER ? CLIENT : SERVER;
    SSL_free(p->end[side]);
    p->end[side] = NULL;
    BIO_set_mem_eof_return(p->wire[other], 0);
    if (p->end[other] == NULL) {
        BIO_free(p->wire[SERVER]);
        BIO_free(p->wire[CLIENT]);
        *p = (struct pair){.used = false};
    }
}

struct progress {
    bool done, failed;
    int lib, reason;
};

// Returns what SSL_do_handshake would: 1 when all early data is read.
static int step_early(struct pair *p) {
    size_t got = 0;
    int ret;
    while ((ret = SSL_read_early_data(p->end[SERVER], p->early + p->early_length,
                                      sizeof p->early - p->early_length, &got)) ==
           SSL_READ_EARLY_DATA_SUCCESS)
        p->early_length += got;
    p->reading = ret != SSL_READ_EARLY_DATA_FINISH;
    return p->reading ? 0 : 1;
}

static void step_handshake(struct pair *p, int side, struct progress *at) {
    SSL *ssl = p->end[side];
    ERR_clear_error();
    int ret = side == SERVER && p->reading ? step_early(p) : 1;
    if (ret == 1)
        ret = SSL_do_handshake(ssl);
    int error = SSL_get_error(ssl, ret);
    if (ret == 1) {
        at->done = true;
    } else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        unsigned long code = ERR_peek_last_error();
        at->failed = true;
        at->lib = ERR_GET_LIB(code);
        at->reason = ERR_GET_REASON(code);
    }
    ERR_clear_error();
}

// Lets an end that has completed its handshake read the alert of an end that has failed.
static void read_alert(SSL *ssl) {
    char byte;
    SSL_read(ssl, &byte, 1);
    ERR_clear_error();
}

static bool moved(struct pair *p, size_t waiting[2]) {
    size_t server = BIO_ctrl_pending(p->wire[SERVER]), client = BIO_ctrl_pending(p->wire[CLIENT]);
    bool changed = server != waiting[SERVER] || client != waiting[CLIENT];
    waiting[SERVER] = server;
    waiting[CLIENT] = client;
    return changed;
}

static void drive(struct pair *p, struct progress at[2]) {
    size_t waiting[2] = {0, 0};
    bool going = true;
    while (going) {
        bool before[2] = {at[SERVER].done, at[CLIENT].done};
        going = false;
        for (int side = CLIENT; side >= SERVER; side--) {
            if (!at[side].done && !at[side].failed)
                step_handshake(p, side, &at[side]);
            going = moved(p, waiting) || going;
            going = going || at[side].done != before[side];
        }
    }
    for (int side = SERVER; side <= CLIENT; side++)
        if (at[side].done && at[side == SERVER ? CLIENT : SERVER].failed)
            read_alert(p->end[side]);
}

static void put_progress(struct pair *p, const struct progress at[2]) {
    if (at[SERVER].done && at[CLIENT].done)
        printf("ok reused=%d,%d version=0x%04x cipher=%s\n", SSL_session_reused(p->end[SERVER]),
               SSL_session_reused(p->end[CLIENT]), (unsigned)SSL_version(p->end[CLIENT]),
               SSL_CIPHER_get_name(SSL_get_current_cipher(p->end[CLIENT])));
    else
        printf("fail server=%d:%d client=%d:%d\n", at[SERVER].lib, at[SERVER].reason,
               at[CLIENT].lib, at[CLIENT].reason);
}

static void op_handshake(char **arg, int n) {
    struct pair *p;
    struct progress at[2] = {{false, false, 0, 0}, {false, false, 0, 0}};
    (void)n;
    if (!want_both_ends(arg[0], &p))
        return;
    drive(p, at);
    fputs("= ", stdout);
    put_progress(p, at);
}

// Whether the last error of the queue, which may be empty, says that the transport ended without
// close_notify. 1.1.1 gives no reason for it.
static bool is_cut(int lib, int reason) {
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
    return lib == ERR_LIB_SSL && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING;
#else
    return lib == 0 && reason == 0;
#endif
}

// step P END: lets one end go on as far as it can
static void op_step(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    struct progress at = {false, false, 0, 0};
    step_handshake(p, side, &at);
    if (at.failed && is_cut(at.lib, at.reason))
        reply("cut");
    else if (at.failed)
        reply("error %d:%d", at.lib, at.reason);
    else
        reply(at.done ? "done" : "want");
}

static bool send_byte(SSL *from, SSL *to) {
    char byte = 'x', got = 0;
    return SSL_write(from, &byte, 1) == 1 && SSL_read(to, &got, 1) == 1 && got == byte;
}

static void op_ping(char **arg, int n) {
    struct pair *p;
    (void)n;
    if (want_both_ends(arg[0], &p))
        reply("%d", send_byte(p->end[SERVER], p->end[CLIENT]));
}

static void op_pong(char **arg, int n) {
    struct pair *p;
    (void)n;
    if (want_both_ends(arg[0], &p))
        reply("%d", send_byte(p->end[CLIENT], p->end[SERVER]));
}

static void op_take(char **arg, int n) {
    int i, side;
    struct pair *p;
    (void)n;
    if (!want_index(arg[0], 's', SESSIONS, &i) || !want_end(arg + 1, &p, &side))
        return;
    name_session(i, SSL_get1_session(p->end[side]));
    reply(sessions[i] != NULL ? "ok" : "none");
}

static void op_quiet(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    SSL_set_quiet_shutdown(p->end[side], 1);
    reply("ok");
}

static void op_close(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    int ret = SSL_shutdown(p->end[side]);
    free_end(p, side);
    reply("%d", ret);
}

// shutdown P END: close_notify of one side; the connection stays
static void op_shutdown(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (want_end(arg, &p, &side))
        reply("%d", SSL_shutdown(p->end[side]));
}

// cut P END: what this end has written is all that the other end gets, like a FIN without
// close_notify
static void op_cut(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    BIO_set_mem_eof_return(p->wire[side == SERVER ? CLIENT : SERVER], 0);
    reply("ok");
}

static void op_drop(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    free_end(p, side);
    reply("ok");
}

static void op_readpeer(char **arg, int n) {
    struct pair *p;
    int side;
    char data[16];
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    int ret = SSL_read(p->end[side], data, sizeof data);
    int error = SSL_get_error(p->end[side], ret);
    unsigned long code = ERR_peek_last_error();
    if (ret > 0)
        reply("data %d", ret);
    else if (error == SSL_ERROR_ZERO_RETURN)
        reply("eof");
    else if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        reply("want");
    else if (is_cut(ERR_GET_LIB(code), ERR_GET_REASON(code)))
        reply("cut");
    else
        reply("error %d:%d", ERR_GET_LIB(code), ERR_GET_REASON(code));
}

// ----------------------------------------------------------------- operations: IDs and tickets

static void give_id(unsigned char *id, unsigned *length, const unsigned char *from, size_t n) {
    if (n <= *length)
        memcpy(id, from, n);
    *length = (unsigned)n;
}

static int on_id(SSL *ssl, unsigned char *id, unsigned *length) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    if (c == NULL)
        return 0;
    if (strcmp(c->id_kind, "prefix") == 0) {
        for (int i = 0; i < 10; i++) {
            if (RAND_bytes(id, (int)*length) != 1)
                return 0;
            memcpy(id, c->id, c->id_length);
            if (!SSL_has_matching_session_id(ssl, id, *length))
                return 1;
        }
        return 0;
    }
    record(c, "id");
    if (strcmp(c->id_kind, "fail") == 0)
        return 0;
    give_id(id, length, c->id, c->id_length);
    return 1;
}

// genid C default | genid C fail | genid C prefix HEX | genid C fixed HEX
static void op_genid(char **arg, int n) {
    static const char *const kinds[] = {"default", "fail", "prefix", "fixed"};
    struct context *c;
    unsigned char *bytes;
    size_t count;
    if (!want_context(arg[0], &c) || !want_bytes(n > 2 ? arg[2] : "-", &bytes, &count))
        return;
    const char *kind = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i], arg[1]) == 0)
            kind = kinds[i];
    if (kind == NULL || count > sizeof c->id) {
        reply("usage genid context default|fail|prefix|fixed [hex]");
        free(bytes);
        return;
    }
    c->id_kind = kind;
    c->id_length = count;
    memcpy(c->id, bytes, count);
    free(bytes);
    reply("%d",
          SSL_CTX_set_generate_session_id(c->ctx, strcmp(kind, "default") == 0 ? NULL : on_id));
}

// hasid P END SESSION | hasid P END HEX
static void op_hasid(char **arg, int n) {
    struct pair *p;
    int side, i;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    if (parse_index(arg[2], 's', SESSIONS, &i) && sessions[i] != NULL) {
        unsigned length;
        const unsigned char *id = SSL_SESSION_get_id(sessions[i], &length);
        reply("%d", SSL_has_matching_session_id(p->end[side], id, length));
        return;
    }
    if (!want_bytes(arg[2], &bytes, &count))
        return;
    reply("%d", SSL_has_matching_session_id(p->end[side], bytes, (unsigned)count));
    free(bytes);
}

// idhead SESSION N: the first bytes of its ID (the whole ID is random)
static void op_idhead(char **arg, int n) {
    SSL_SESSION *s;
    long long count;
    unsigned length;
    (void)n;
    if (!want_session(arg[0], &s) || !want_number(arg[1], &count))
        return;
    const unsigned char *id = SSL_SESSION_get_id(s, &length);
    reply_hex(id, length < (unsigned)count ? length : (size_t)count);
}

static void op_connsidctx(char **arg, int n) {
    struct pair *p;
    int side;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_end(arg, &p, &side) || !want_bytes(arg[2], &bytes, &count))
        return;
    reply("%d", SSL_set_session_id_context(p->end[side], bytes, (unsigned)count));
    free(bytes);
}

// copyid P END P END: to the first from the second
static void op_copyid(char **arg, int n) {
    struct pair *to, *from;
    int to_side, from_side;
    (void)n;
    if (want_end(arg, &to, &to_side) && want_end(arg + 2, &from, &from_side))
        reply("%d", SSL_copy_session_id(to->end[to_side], from->end[from_side]));
}

static int on_not_resumable(SSL *ssl, int is_forward_secure) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    if (c == NULL)
        return 0;
    record(c, is_forward_secure ? "secure" : "insecure");
    return c->not_resumable;
}

static void op_notresumable(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    if (strcmp(arg[1], "none") == 0) {
        SSL_CTX_set_not_resumable_session_callback(c->ctx, NULL);
    } else if (want_number(arg[1], &value)) {
        c->not_resumable = (int)value;
        SSL_CTX_set_not_resumable_session_callback(c->ctx, on_not_resumable);
    } else {
        return;
    }
    reply("ok");
}

static void op_numtickets(char **arg, int n) {
    struct context *c;
    long long value;
    if (!want_context(arg[0], &c))
        return;
    if (n == 1)
        reply("%zu", SSL_CTX_get_num_tickets(c->ctx));
    else if (want_number(arg[1], &value))
        reply("%d", SSL_CTX_set_num_tickets(c->ctx, (size_t)value));
}

static void op_connnumtickets(char **arg, int n) {
    struct pair *p;
    int side;
    long long value;
    if (!want_end(arg, &p, &side))
        return;
    if (n == 2)
        reply("%zu", SSL_get_num_tickets(p->end[side]));
    else if (want_number(arg[2], &value))
        reply("%d", SSL_set_num_tickets(p->end[side], (size_t)value));
}

// ticketkeys C HEX | ticketkeys C
static void op_ticketkeys(char **arg, int n) {
    struct context *c;
    unsigned char *bytes;
    size_t count;
    if (!want_context(arg[0], &c))
        return;
    if (n == 1) {
        unsigned char keys[256];
        long length = SSL_CTX_get_tlsext_ticket_keys(c->ctx, NULL, 0);
        if (length > (long)sizeof keys || SSL_CTX_get_tlsext_ticket_keys(c->ctx, keys, length) != 1)
            reply("fail");
        else
            reply_hex(keys, (size_t)length);
        return;
    }
    if (!want_bytes(arg[1], &bytes, &count))
        return;
    reply("%ld", SSL_CTX_set_tlsext_ticket_keys(c->ctx, bytes, (long)count));
    free(bytes);
}

static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         ticket_mac *mac, int enc) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    int i = 0;
    if (c == NULL)
        return -1;
    if (enc) {
        memcpy(name, c->ring[0].bytes, 16);
        if (RAND_bytes(iv, 16) != 1)
            return -1;
    } else {
        while (i < c->ring_keys && memcmp(name, c->ring[i].bytes, 16) != 0)
            i++;
        if (i == c->ring_keys)
            return 0;
    }
    if (start_mac(mac, c->ring[i].bytes + 16) != 1 ||
        EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, c->ring[i].bytes + 48, iv, enc) != 1)
        return -1;
    return c->ring[i].old || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
}

// ring C none | ring C HEX [next:HEX ..] [old:HEX ..]
static void op_ring(char **arg, int n) {
    struct context *c;
    if (!want_context(arg[0], &c))
        return;
    if (strcmp(arg[1], "none") == 0) {
        set_ticket_key_cb(c->ctx, NULL);
        reply("ok");
        return;
    }
    if (n - 1 > RING_KEYS) {
        reply("usage too many keys");
        return;
    }
    for (int i = 0; i < n - 1; i++) {
        const char *colon = strchr(arg[i + 1], ':');
        unsigned char *bytes;
        size_t count;
        if (!want_bytes(colon == NULL ? arg[i + 1] : colon + 1, &bytes, &count))
            return;
        bool good = count == sizeof c->ring[i].bytes;
        if (good)
            memcpy(c->ring[i].bytes, bytes, count);
        c->ring[i].old = strncmp(arg[i + 1], "old:", 4) == 0;
        free(bytes);
        if (!good) {
            reply("usage a key has 80 bytes");
            return;
        }
    }
    c->ring_keys = n - 1;
    set_ticket_key_cb(c->ctx, on_ticket_key);
    reply("ok");
}

static int on_generate_ticket(SSL *ssl, void *arg) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    (void)arg;
    if (c == NULL)
        return 1;
    record(c, "generate");
    if (strcmp(c->ticket_data, "fail") == 0)
        return 0;
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), c->ticket_data,
                                           strlen(c->ticket_data));
}

static SSL_TICKET_RETURN on_decrypt_ticket(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                           size_t n, SSL_TICKET_STATUS status, void *arg) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    void *data = NULL;
    size_t length = 0;
    (void)name, (void)n, (void)arg;
    if (s != NULL)
        SSL_SESSION_get0_ticket_appdata(s, &data, &length);
    if (c == NULL)
        return SSL_TICKET_RETURN_IGNORE;
    bool mine =
        length == strlen(c->ticket_data) && length > 0 && memcmp(data, c->ticket_data, length) == 0;
    record(c, status == SSL_TICKET_EMPTY           ? "empty"
              : status == SSL_TICKET_NO_DECRYPT    ? "nodecrypt"
              : status == SSL_TICKET_SUCCESS       ? (mine ? "success+" : "success")
              : status == SSL_TICKET_SUCCESS_RENEW ? (mine ? "renew+" : "renew")
                                                   : "other");
    if (c->ticket_answer >= 0 && s != NULL)
        return c->ticket_answer;
    return status == SSL_TICKET_SUCCESS         ? SSL_TICKET_RETURN_USE
           : status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW
                                                : SSL_TICKET_RETURN_IGNORE_RENEW;
}

// ticketcb C none | ticketcb C DATA ANSWER: the answer to a readable ticket, -1 for libssl's
static void op_ticketcb(char **arg, int n) {
    struct context *c;
    long long answer;
    if (!want_context(arg[0], &c))
        return;
    if (n == 2) {
        SSL_CTX_set_session_ticket_cb(c->ctx, NULL, NULL, NULL);
    } else if (strlen(arg[1]) < sizeof c->ticket_data && want_number(arg[2], &answer)) {
        strcpy(c->ticket_data, arg[1]);
        c->ticket_answer = (int)answer;
        SSL_CTX_set_session_ticket_cb(c->ctx, on_generate_ticket, on_decrypt_ticket, NULL);
    } else {
        return;
    }
    reply("ok");
}

// ------------------------------------------------------- operations: early data, pre-shared keys

static void op_recvearly(char **arg, int n) {
    struct context *c;
    long long value;
    (void)n;
    if (want_context(arg[0], &c) && want_number(arg[1], &value))
        reply("%d", SSL_CTX_set_recv_max_early_data(c->ctx, (uint32_t)value));
}

// The limits of one end: for its tickets, and for the early data that it accepts.
static void op_endearly(char **arg, int n) {
    struct pair *p;
    int side;
    long long max, take;
    (void)n;
    if (!want_end(arg, &p, &side) || !want_number(arg[2], &max) || !want_number(arg[3], &take))
        return;
    int max_set = SSL_set_max_early_data(p->end[side], (uint32_t)max);
    int take_set = SSL_set_recv_max_early_data(p->end[side], (uint32_t)take);
    reply("%d %d", max_set, take_set);
}

static void op_limits(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (want_end(arg, &p, &side))
        reply("%lu %lu", (unsigned long)SSL_get_max_early_data(p->end[side]),
              (unsigned long)SSL_get_recv_max_early_data(p->end[side]));
}

static int on_allow(SSL *ssl, void *arg) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    (void)arg;
    if (c == NULL)
        return 0;
    record(c, "allow");
    return c->allow;
}

static void op_allow(char **arg, int n) {
    struct context *c;
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    c->allow = strcmp(arg[1], "yes") == 0;
    SSL_CTX_set_allow_early_data_cb(c->ctx, strcmp(arg[1], "none") == 0 ? NULL : on_allow, NULL);
    reply("ok");
}

static void reply_error(void) {
    unsigned long code = ERR_peek_last_error();
    reply("error %d:%d", ERR_GET_LIB(code), ERR_GET_REASON(code));
    ERR_clear_error();
}

static void op_writeearly(char **arg, int n) {
    struct pair *p;
    int side;
    unsigned char *bytes;
    size_t count, written = 0;
    (void)n;
    if (!want_end(arg, &p, &side) || !want_bytes(arg[2], &bytes, &count))
        return;
    if (SSL_write_early_data(p->end[side], bytes, count, &written) == 1)
        reply("%zu", written);
    else
        reply_error();
    free(bytes);
}

// Reads until it has some early data, its end, or no more input.
static void op_readearly(char **arg, int n) {
    struct pair *p;
    unsigned char data[256];
    size_t got = 0;
    (void)n;
    if (!want_both_ends(arg[0], &p))
        return;
    SSL *ssl = p->end[SERVER];
    ERR_clear_error();
    int ret = SSL_read_early_data(ssl, data, sizeof data, &got);
    int error = SSL_get_error(ssl, ret == SSL_READ_EARLY_DATA_ERROR ? 0 : 1);
    if (ret == SSL_READ_EARLY_DATA_SUCCESS)
        reply_hex(data, got);
    else if (ret == SSL_READ_EARLY_DATA_FINISH)
        reply("finish");
    else if (error == SSL_ERROR_WANT_READ)
        reply("want");
    else
        reply_error();
}

static void op_earlyhandshake(char **arg, int n) {
    struct pair *p;
    struct progress at[2] = {{false, false, 0, 0}, {false, false, 0, 0}};
    (void)n;
    if (!want_both_ends(arg[0], &p))
        return;
    p->reading = true;
    p->early_length = 0;
    drive(p, at);
    fputs("= early=", stdout);
    put_hex(p->early, p->early_length);
    putchar(' ');
    put_progress(p, at);
}

static void op_earlystatus(char **arg, int n) {
    struct pair *p;
    (void)n;
    if (want_both_ends(arg[0], &p))
        reply("%d %d", SSL_get_early_data_status(p->end[SERVER]),
              SSL_get_early_data_status(p->end[CLIENT]));
}

// Both callbacks consume a reference, and a client writes to the session.
static SSL_SESSION *psk_of(const struct context *c) {
    return c->psk == NULL || *c->psk == NULL ? NULL : SSL_SESSION_dup(*c->psk);
}

static int on_find(SSL *ssl, const unsigned char *identity, size_t length, SSL_SESSION **sess) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    *sess = NULL;
    if (c == NULL)
        return 1;
    record(c, "find");
    if (length == strlen(c->identity) && memcmp(identity, c->identity, length) == 0)
        *sess = psk_of(c);
    return 1;
}

static int on_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *length,
                  SSL_SESSION **sess) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    *id = NULL;
    *length = 0;
    *sess = NULL;
    if (c == NULL)
        return 1;
    record(c, md == NULL ? "use" : EVP_MD_size(md) == 32 ? "use256" : "use384");
    *id = (const unsigned char *)c->identity;
    *length = strlen(c->identity);
    *sess = psk_of(c);
    return 1;
}

static void op_psk(char **arg, int n) {
    struct context *c;
    int i;
    (void)n;
    if (!want_context(arg[0], &c) || !want_index(arg[3], 's', SESSIONS, &i))
        return;
    snprintf(c->identity, sizeof c->identity, "%s", arg[2]);
    c->psk = &sessions[i];
    if (strcmp(arg[1], "find") == 0) {
        SSL_CTX_set_psk_find_session_callback(c->ctx, on_find);
    } else if (strcmp(arg[1], "use") == 0) {
        SSL_CTX_set_psk_use_session_callback(c->ctx, on_use);
    } else {
        reply("usage find or use, not %s", arg[1]);
        return;
    }
    reply("ok");
}

static unsigned int on_server_key(SSL *ssl, const char *identity, unsigned char *psk,
                                  unsigned int max) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    if (c == NULL || c->key_length > max)
        return 0;
    record(c, "serverkey");
    if (strcmp(identity, c->identity) != 0)
        return 0;
    memcpy(psk, c->key, c->key_length);
    return (unsigned int)c->key_length;
}

static unsigned int on_client_key(SSL *ssl, const char *hint, char *identity,
                                  unsigned int max_identity, unsigned char *psk, unsigned int max) {
    struct context *c = context_of(SSL_get_SSL_CTX(ssl));
    if (c == NULL || c->key_length > max || strlen(c->identity) >= max_identity)
        return 0;
    record(c, hint == NULL ? "clientkey" : "clientkeyhint");
    strcpy(identity, c->identity);
    memcpy(psk, c->key, c->key_length);
    return (unsigned int)c->key_length;
}

static void op_key(char **arg, int n) {
    struct context *c;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_context(arg[0], &c) || !want_bytes(arg[3], &bytes, &count))
        return;
    snprintf(c->identity, sizeof c->identity, "%s", arg[2]);
    c->key_length = count < sizeof c->key ? count : sizeof c->key;
    memcpy(c->key, bytes, c->key_length);
    free(bytes);
    if (strcmp(arg[1], "server") == 0) {
        SSL_CTX_set_psk_server_callback(c->ctx, on_server_key);
    } else if (strcmp(arg[1], "client") == 0) {
        SSL_CTX_set_psk_client_callback(c->ctx, on_client_key);
    } else {
        reply("usage server or client, not %s", arg[1]);
        return;
    }
    reply("ok");
}

static void op_hint(char **arg, int n) {
    struct context *c;
    (void)n;
    if (want_context(arg[0], &c))
        reply("%d",
              SSL_CTX_use_psk_identity_hint(c->ctx, strcmp(arg[1], "-") == 0 ? NULL : arg[1]));
}

static const char *or_dash(const char *s) { return s == NULL || *s == '\0' ? "-" : s; }

static void op_identity(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (want_end(arg, &p, &side))
        reply("%s %s", or_dash(SSL_get_psk_identity(p->end[side])),
              or_dash(SSL_get_psk_identity_hint(p->end[side])));
}

static void op_groups(char **arg, int n) {
    struct context *c;
    (void)n;
    if (want_context(arg[0], &c))
        reply("%ld", (long)SSL_CTX_set1_groups_list(c->ctx, arg[1]));
}

// --------------------------------------------------------------------------- operations: hazards

// Operations that crash libssl or make it leak. So the binding refuses them or does them in another
// way.

// onremove C S: the next remove callback of C adds S to it
static void op_onremove(char **arg, int n) {
    struct context *c;
    int i;
    (void)n;
    if (!want_context(arg[0], &c) || !want_index(arg[1], 's', SESSIONS, &i))
        return;
    c->re_add = &sessions[i];
    reply("ok");
}

// added: the results of SSL_CTX_add_session there since the last added
static void op_added(char **arg, int n) {
    (void)arg, (void)n;
    reply_words(added);
}

// newanswer C N: what the new callback returns; with 1 it owns a reference, which this program
// leaks
static void op_newanswer(char **arg, int n) {
    struct context *c;
    long long answer;
    (void)n;
    if (!want_context(arg[0], &c) || !want_number(arg[1], &answer))
        return;
    c->new_answer = (int)answer;
    reply("ok");
}

// reparse S HEX: d2i_SSL_SESSION into the existing object
static void op_reparse(char **arg, int n) {
    SSL_SESSION *s;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_session(arg[0], &s) || !want_bytes(arg[1], &bytes, &count))
        return;
    const unsigned char *p = bytes;
    reply("%s", d2i_SSL_SESSION(&s, &p, (long)count) == NULL ? "fail" : "ok");
    free(bytes);
}

// samehost S: sets the server name to its own string
static void op_samehost(char **arg, int n) {
    SSL_SESSION *s;
    (void)n;
    if (want_session(arg[0], &s))
        reply("%d", SSL_SESSION_set1_hostname(s, SSL_SESSION_get0_hostname(s)));
}

enum { RACERS = 4, RACED = 8 };

static struct {
    SSL_CTX *ctx;
    SSL_SESSION *session[RACED];
    bool timeouts;
    time_t end;
} race;

static void *racer(void *number) {
    unsigned seed = (unsigned)(uintptr_t)number;
    bool sets = race.timeouts && seed % 2 == 0;
    while (time(NULL) < race.end) {
        for (int i = 0; i < 1000; i++) {
            SSL_SESSION *s = race.session[rand_r(&seed) % RACED];
            if (sets)
                SSL_SESSION_set_timeout(s, rand_r(&seed) % 1000);
            else
                SSL_CTX_add_session(race.ctx, s);
        }
    }
    return NULL;
}

// race C adds | race C timeouts: four threads add eight sessions to a cache that is too small for
// them; or two add, and two set timeouts. It takes two seconds.
static void op_race(char **arg, int n) {
    struct context *c;
    pthread_t threads[RACERS];
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    race.ctx = c->ctx;
    race.timeouts = strcmp(arg[1], "timeouts") == 0;
    race.end = time(NULL) + 2;
    for (unsigned char i = 0; i < RACED; i++) {
        race.session[i] = must(SSL_SESSION_new());
        SSL_SESSION_set1_id(race.session[i], &i, 1);
    }
    for (uintptr_t i = 0; i < RACERS; i++)
        if (pthread_create(&threads[i], NULL, racer, (void *)i) != 0)
            must(NULL);
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < RACED; i++)
        SSL_SESSION_free(race.session[i]);
    reply("ok");
}

// -------------------------------------------------------------------------- operations: the rest

static void op_live(char **arg, int n) {
    (void)arg, (void)n;
    reply("%ld", live_sessions);
}

static void free_all(void) {
    for (int i = 0; i < PAIRS; i++)
        for (int side = SERVER; side <= CLIENT; side++)
            if (pairs[i].used && pairs[i].end[side] != NULL)
                free_end(&pairs[i], side);
    for (int i = 0; i < SESSIONS; i++)
        name_session(i, NULL);
    for (int i = 0; i < CONTEXTS; i++)
        if (contexts[i].ctx != NULL)
            free_context(&contexts[i]);
    free(events);
    events = NULL;
    event_count = event_room = 0;
    removed[0] = locks[0] = added[0] = '\0';
}

static void op_reset(char **arg, int n) {
    (void)arg, (void)n;
    free_all();
    reply("ok");
}

// -------------------------------------------------------------------------------- operations: harm

static bool holds(SSL_CTX *ctx, SSL_SESSION *s) {
    return OPENSSL_LH_retrieve((OPENSSL_LHASH *)SSL_CTX_sessions(ctx), s) == s;
}

// holds CTX SESSION: whether the cache has the object itself
static void op_holds(char **arg, int n) {
    struct context *c;
    SSL_SESSION *s;
    (void)n;
    if (want_context(arg[0], &c) && want_session(arg[1], &s))
        reply("%d", holds(c->ctx, s));
}

struct soundness {
    SSL_CTX *ctx;
    const char *harm;
};

// Contexts that have a name, and contexts that a connection holds.
enum { ALL = CONTEXTS + 2 * PAIRS };

static SSL_CTX *one_of_all(int i) {
    if (i < CONTEXTS)
        return contexts[i].ctx;
    SSL *end = pairs[(i - CONTEXTS) / 2].end[(i - CONTEXTS) % 2];
    return end == NULL ? NULL : SSL_get_SSL_CTX(end);
}

// One session of a cache. A fault here corrupts memory or crashes in a later call.
static void look_at(void *session, void *arg) {
    struct soundness *x = arg;
    SSL_SESSION *s = session;
    for (int i = 0; i < ALL; i++)
        if (one_of_all(i) != NULL && one_of_all(i) != x->ctx && holds(one_of_all(i), s))
            x->harm = "in two caches";
    if (!holds(x->ctx, s))
        x->harm = "not found by its key";
    if (SSL_SESSION_get_protocol_version(s) != 0 && SSL_SESSION_get0_cipher(s) == NULL)
        x->harm = "cached without a cipher";
}

static const char *harm(void) {
    struct soundness x = {NULL, NULL};
    for (int i = 0; i < ALL && x.harm == NULL; i++)
        if ((x.ctx = one_of_all(i)) != NULL)
            OPENSSL_LH_doall_arg((OPENSSL_LHASH *)SSL_CTX_sessions(x.ctx), look_at, &x);
    return x.harm;
}

// sound: whether all caches are in a state that libssl can use
static void op_sound(char **arg, int n) {
    (void)arg, (void)n;
    const char *found = harm();
    reply("%s", found == NULL ? "ok" : found);
}

static void run(char *line);

// try_out runs an operation, frees everything, and exits with the outcome.
static void try_out(char *line, int answer) {
    alarm(5); // of a hang
    run(line);
    const char *found = harm();
    if (found == NULL) {
        free_all();
        found = live_sessions == 0 ? "well" : "leaks";
    }
    if (write(answer, found, strlen(found)) < 0)
        _exit(1);
    _exit(0);
}

// whatif OP: the outcome of an operation in a separate process: "well", or the harm
static void op_whatif(char **arg, int n) {
    char line[WORDS] = "", said[64] = "";
    int answer[2], status;
    for (int i = 0; i < n; i++)
        add_word(line, arg[i]);
    fflush(stdout);
    pid_t child = pipe(answer) == 0 ? fork() : -1;
    if (child == 0) {
        if (freopen("/dev/null", "w", stdout) == NULL)
            _exit(1);
        try_out(line, answer[1]);
    }
    if (child < 0)
        must(NULL);
    close(answer[1]);
    ssize_t got = read(answer[0], said, sizeof said - 1);
    close(answer[0]);
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        reply("%s", WTERMSIG(status) == SIGALRM ? "hangs" : "dies");
    else
        reply("%s", got > 0 ? said : "nothing");
}

// ---------------------------------------------------------------------- operations: attributes

#if OPENSSL_VERSION_NUMBER >= 0x30200000L
#define has_peer_rpk true
#define session_peer_rpk(s) SSL_SESSION_get0_peer_rpk(s)
#else
#define has_peer_rpk false
#define session_peer_rpk(s) ((void)(s), (EVP_PKEY *)NULL)
#endif

// Like ex_data of C programs: a duplicate gets the same value.
static int value_index;

// SSL_CIPHER_find wants a connection.
static const SSL_CIPHER *find_cipher(unsigned number) {
    const unsigned char bytes[2] = {(unsigned char)(number >> 8), (unsigned char)number};
    SSL_CTX *ctx = must(SSL_CTX_new(TLS_method()));
    SSL *ssl = must(SSL_new(ctx));
    const SSL_CIPHER *found = SSL_CIPHER_find(ssl, bytes);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return found;
}

static void op_cipher(char **arg, int n) {
    SSL_SESSION *s;
    long long value;
    (void)n;
    if (!want_session(arg[0], &s) || !want_number(arg[1], &value))
        return;
    const SSL_CIPHER *cipher = value == 0 ? NULL : find_cipher((unsigned)value);
    if (cipher == NULL && value != 0)
        reply("usage no such cipher");
    else
        reply("%d", SSL_SESSION_set_cipher(s, cipher));
}

static void op_masterkey(char **arg, int n) {
    SSL_SESSION *s;
    unsigned char *bytes, key[1024];
    size_t count;
    if (!want_session(arg[0], &s))
        return;
    if (n == 1) {
        reply_hex(key, SSL_SESSION_get_master_key(s, key, sizeof key));
    } else if (want_bytes(arg[1], &bytes, &count)) {
        reply("%d", SSL_SESSION_set1_master_key(s, bytes, count));
        free(bytes);
    }
}

static void op_host(char **arg, int n) {
    SSL_SESSION *s;
    (void)n;
    if (want_session(arg[0], &s))
        reply("%d", SSL_SESSION_set1_hostname(s, strcmp(arg[1], "-") == 0 ? NULL : arg[1]));
}

static void set_bytes(char **arg, int (*set)(SSL_SESSION *, const unsigned char *, size_t)) {
    SSL_SESSION *s;
    unsigned char *bytes;
    size_t count;
    if (!want_session(arg[0], &s) || !want_bytes(arg[1], &bytes, &count))
        return;
    reply("%d", set(s, bytes, count));
    free(bytes);
}

static void op_alpn(char **arg, int n) {
    (void)n;
    set_bytes(arg, SSL_SESSION_set1_alpn_selected);
}

static int set_appdata(SSL_SESSION *s, const unsigned char *bytes, size_t count) {
    return SSL_SESSION_set1_ticket_appdata(s, bytes, count);
}

static void op_appdata(char **arg, int n) {
    (void)n;
    set_bytes(arg, set_appdata);
}

static void op_maxearly(char **arg, int n) {
    SSL_SESSION *s;
    long long value;
    (void)n;
    if (want_session(arg[0], &s) && want_number(arg[1], &value))
        reply("%d", SSL_SESSION_set_max_early_data(s, (uint32_t)value));
}

static long value_frees;

static void value_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                       void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    value_frees += ptr != NULL;
}

// exfrees: how often libssl called the function that frees a value
static void op_exfrees(char **arg, int n) {
    (void)arg, (void)n;
    reply("%ld", value_frees);
}

static void op_exdata(char **arg, int n) {
    SSL_SESSION *s;
    long long value;
    (void)n;
    if (want_session(arg[0], &s) && want_number(arg[1], &value))
        reply("%d", SSL_SESSION_set_ex_data(s, value_index, (void *)(uintptr_t)value));
}

static void op_ticket(char **arg, int n) {
    SSL_SESSION *s;
    const unsigned char *ticket = NULL;
    size_t count = 0;
    (void)n;
    if (!want_session(arg[0], &s))
        return;
    SSL_SESSION_get0_ticket(s, &ticket, &count);
    reply_hex(ticket, count);
}

static void op_peer(char **arg, int n) {
    SSL_SESSION *s;
    unsigned char *der = NULL;
    (void)n;
    if (!want_session(arg[0], &s))
        return;
    X509 *peer = SSL_SESSION_get0_peer(s);
    int count = peer == NULL ? 0 : i2d_X509(peer, &der);
    reply_hex(der, count > 0 ? (size_t)count : 0);
    OPENSSL_free(der);
}

static void op_peerrpk(char **arg, int n) {
    SSL_SESSION *s;
    unsigned char *der = NULL;
    (void)n;
    if (!want_session(arg[0], &s))
        return;
    EVP_PKEY *key = session_peer_rpk(s);
    int count = key == NULL ? 0 : i2d_PUBKEY(key, &der);
    if (has_peer_rpk)
        reply_hex(der, count > 0 ? (size_t)count : 0);
    else
        reply("unsupported");
    OPENSSL_free(der);
}

static void op_keylog(char **arg, int n) {
    SSL_SESSION *s;
    (void)n;
    if (!want_session(arg[0], &s))
        return;
    BIO *bio = must(BIO_new(BIO_s_mem()));
    reply_written(bio, SSL_SESSION_print_keylog(bio, s));
}

struct listing {
    char text[64][160];
    size_t count;
};

static void list_one(void *session, void *arg) {
    struct listing *l = arg;
    unsigned length;
    const unsigned char *id = SSL_SESSION_get_id(session, &length);
    if (l->count == sizeof l->text / sizeof l->text[0])
        return;
    char *p = l->text[l->count++];
    p += sprintf(p, "%04x:", (unsigned)SSL_SESSION_get_protocol_version(session));
    if (length == SSL_MAX_SSL_SESSION_ID_LENGTH) // libssl chose it at random
        sprintf(p, "#%u", length);
    for (unsigned i = 0; i < length && length < SSL_MAX_SSL_SESSION_ID_LENGTH; i++)
        p += sprintf(p, "%02x", id[i]);
}

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void op_sessions(char **arg, int n) {
    struct context *c;
    struct listing l = {.count = 0};
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    OPENSSL_LH_doall_arg((OPENSSL_LHASH *)SSL_CTX_sessions(c->ctx), list_one, &l);
    qsort(l.text, l.count, sizeof l.text[0], by_text);
    fputs("=", stdout);
    if (l.count == 0)
        fputs(" -", stdout);
    for (size_t i = 0; i < l.count; i++)
        printf(" %s", l.text[i]);
    putchar('\n');
}

// The length of both randoms, and whether both ends have the same.
static void op_randoms(char **arg, int n) {
    struct pair *p;
    unsigned char of_client[2][64], of_server[2][64];
    size_t client_length = 0, server_length = 0;
    (void)n;
    if (!want_both_ends(arg[0], &p))
        return;
    for (int side = SERVER; side <= CLIENT; side++) {
        client_length = SSL_get_client_random(p->end[side], of_client[side], 64);
        server_length = SSL_get_server_random(p->end[side], of_server[side], 64);
    }
    reply("%zu %zu same=%d,%d differ=%d", client_length, server_length,
          memcmp(of_client[SERVER], of_client[CLIENT], client_length) == 0,
          memcmp(of_server[SERVER], of_server[CLIENT], server_length) == 0,
          memcmp(of_client[CLIENT], of_server[CLIENT], client_length) != 0);
}

static void op_verifyresult(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (!want_end(arg, &p, &side))
        return;
    long result = SSL_get_verify_result(p->end[side]);
    reply("%ld %s", result, X509_verify_cert_error_string(result));
}

static void op_defaulttimeout(char **arg, int n) {
    struct pair *p;
    int side;
    (void)n;
    if (want_end(arg, &p, &side))
        reply("%ld", SSL_get_default_timeout(p->end[side]));
}

static void op_endsidctx(char **arg, int n) {
    struct pair *p;
    int side;
    unsigned char *bytes;
    size_t count;
    (void)n;
    if (!want_end(arg, &p, &side) || !want_bytes(arg[2], &bytes, &count))
        return;
    reply("%d", SSL_set_session_id_context(p->end[side], bytes, (unsigned)count));
    free(bytes);
}

static void op_sni(char **arg, int n) {
    struct pair *p;
    (void)n;
    if (want_both_ends(arg[0], &p))
        reply("%d", (int)SSL_set_tlsext_host_name(p->end[CLIENT], arg[1]));
}

static void op_trust(char **arg, int n) {
    struct context *c;
    (void)n;
    if (want_context(arg[0], &c))
        reply("%d", SSL_CTX_load_verify_locations(c->ctx, arg[1], NULL));
}

static int first_of_client(SSL *ssl, const unsigned char **out, unsigned char *length,
                           const unsigned char *in, unsigned in_length, void *arg) {
    (void)ssl, (void)in_length, (void)arg;
    *length = in[0];
    *out = in + 1;
    return SSL_TLSEXT_ERR_OK;
}

// One protocol, which a client offers and a server chooses.
static void op_protocol(char **arg, int n) {
    struct context *c;
    unsigned char wire[256];
    (void)n;
    if (!want_context(arg[0], &c))
        return;
    size_t length = strlen(arg[1]) % 255;
    wire[0] = (unsigned char)length;
    memcpy(wire + 1, arg[1], length);
    SSL_CTX_set_alpn_select_cb(c->ctx, first_of_client, NULL);
    reply("%d", SSL_CTX_set_alpn_protos(c->ctx, wire, (unsigned)length + 1) == 0);
}

// Attributes that are the same in two processes; for a master key that is the length.
static void print_attributes(SSL_SESSION *s) {
    const unsigned char *bytes = NULL;
    void *data = NULL;
    size_t count = 0;
    const char *host = SSL_SESSION_get0_hostname(s);
    printf(" host=%s alpn=", host == NULL ? "-" : host);
    SSL_SESSION_get0_alpn_selected(s, &bytes, &count);
    put_hex(bytes, count);
    fputs(" appdata=", stdout);
    SSL_SESSION_get0_ticket_appdata(s, &data, &count);
    put_hex(data, count);
    unsigned fragment = SSL_SESSION_get_max_fragment_length(s);
    printf(" maxearly=%lu compress=%u fragment=%u keylen=%zu peer=%d exdata=%lu",
           (unsigned long)SSL_SESSION_get_max_early_data(s), SSL_SESSION_get_compress_id(s),
           fragment > TLSEXT_max_fragment_length_4096 ? 0 : fragment, // 255 is unspecified
           SSL_SESSION_get_master_key(s, NULL, 0), SSL_SESSION_get0_peer(s) != NULL,
           (unsigned long)(uintptr_t)SSL_SESSION_get_ex_data(s, value_index));
}

// ------------------------------------------------------------------------------------- the state

static void print_context(int index) {
    struct context *c = &contexts[index];
    SSL_CTX *x = c->ctx;
    printf("ctx c%d number=%ld connect=%ld connect_good=%ld connect_renegotiate=%ld", index,
           (long)SSL_CTX_sess_number(x), (long)SSL_CTX_sess_connect(x),
           (long)SSL_CTX_sess_connect_good(x), (long)SSL_CTX_sess_connect_renegotiate(x));
    printf(" accept=%ld accept_good=%ld accept_renegotiate=%ld", (long)SSL_CTX_sess_accept(x),
           (long)SSL_CTX_sess_accept_good(x), (long)SSL_CTX_sess_accept_renegotiate(x));
    printf(" hits=%ld cb_hits=%ld misses=%ld timeouts=%ld cache_full=%ld",
           (long)SSL_CTX_sess_hits(x), (long)SSL_CTX_sess_cb_hits(x), (long)SSL_CTX_sess_misses(x),
           (long)SSL_CTX_sess_timeouts(x), (long)SSL_CTX_sess_cache_full(x));
    printf(" mode=%ld size=%ld timeout=%ld", (long)SSL_CTX_get_session_cache_mode(x),
           (long)SSL_CTX_sess_get_cache_size(x), SSL_CTX_get_timeout(x));
    printf(" new=%ld get=%ld remove=%ld\n", c->new_calls, c->get_calls, c->remove_calls);
}

static void print_session(int index) {
    SSL_SESSION *s = sessions[index];
    const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(s);
    unsigned id_length, context_length;
    const unsigned char *id = SSL_SESSION_get_id(s, &id_length);
    const unsigned char *id_context = SSL_SESSION_get0_id_context(s, &context_length);
    printf("session s%d version=0x%04x cipher=0x%04x id=", index,
           (unsigned)SSL_SESSION_get_protocol_version(s),
           cipher == NULL ? 0U : (unsigned)SSL_CIPHER_get_protocol_id(cipher));
    put_hex(id, id_length);
    fputs(" idctx=", stdout);
    put_hex(id_context, context_length);
    printf(" time=%lld timeout=%ld resumable=%d ticket=%d hint=%lu", session_time(s),
           SSL_SESSION_get_timeout(s), SSL_SESSION_is_resumable(s), SSL_SESSION_has_ticket(s),
           SSL_SESSION_get_ticket_lifetime_hint(s));
    print_attributes(s);
    putchar('\n');
}

static int take_queue(void) {
    int n = 0;
    while (ERR_get_error() != 0)
        n++;
    return n;
}

static void print_state(void) {
    int queue = take_queue(); // first: errors of the getters below are not the operation's
    for (int i = 0; i < CONTEXTS; i++)
        if (contexts[i].ctx != NULL)
            print_context(i);
    for (int i = 0; i < SESSIONS; i++)
        if (sessions[i] != NULL)
            print_session(i);
    printf("queue %d\nlive %ld\n.\n", queue, live_sessions);
    fflush(stdout);
}

// ---------------------------------------------------------------------------------------- main

enum { ANY = 64 }; // the longest list: a context and every session

static const struct op {
    const char *name;
    int min, max; // operands
    void (*run)(char **arg, int n);
} ops[] = {
    {"add", 2, 2, op_add},
    {"addall", 2, ANY, op_addall},
    {"added", 0, 0, op_added},
    {"allow", 2, 2, op_allow},
    {"earlyhandshake", 1, 1, op_earlyhandshake},
    {"earlystatus", 1, 1, op_earlystatus},
    {"endearly", 4, 4, op_endearly},
    {"groups", 2, 2, op_groups},
    {"hint", 2, 2, op_hint},
    {"holds", 2, 2, op_holds},
    {"sound", 0, 0, op_sound},
    {"whatif", 1, ANY, op_whatif},
    {"identity", 2, 2, op_identity},
    {"key", 4, 4, op_key},
    {"limits", 2, 2, op_limits},
    {"psk", 4, 4, op_psk},
    {"readearly", 1, 1, op_readearly},
    {"recvearly", 2, 2, op_recvearly},
    {"writeearly", 3, 3, op_writeearly},
    {"callbacks", 2, 2, op_callbacks},
    {"answer", 2, 2, op_answer},
    {"cert", 3, 3, op_cert},
    {"cipherlist", 2, 2, op_cipherlist},
    {"ciphersuites", 2, 2, op_ciphersuites},
    {"close", 2, 2, op_close},
    {"ctx", 2, 2, op_ctx},
    {"ctxfree", 1, 1, op_ctxfree},
    {"der", 1, 1, op_der},
    {"drop", 2, 2, op_drop},
    {"cut", 2, 2, op_cut},
    {"dup", 2, 2, op_dup},
    {"earlydata", 2, 2, op_earlydata},
    {"flush", 2, 2, op_flush},
    {"free", 1, 1, op_free},
    {"handshake", 1, 1, op_handshake},
    {"id", 2, 2, op_id},
    {"idctx", 2, 2, op_idctx},
    {"live", 0, 0, op_live},
    {"locks", 0, 0, op_locks},
    {"mode", 2, 2, op_mode},
    {"onremove", 2, 2, op_onremove},
    {"options", 3, 3, op_options},
    {"pair", 3, 4, op_pair},
    {"parse", 2, 2, op_parse},
    {"pem", 1, 1, op_pem},
    {"ping", 1, 1, op_ping},
    {"pong", 1, 1, op_pong},
    {"print", 1, 1, op_print},
    {"probe", 1, 1, op_probe},
    {"proto", 3, 3, op_proto},
    {"quiet", 2, 2, op_quiet},
    {"readpeer", 2, 2, op_readpeer},
    {"readpem", 2, 2, op_readpem},
    {"race", 2, 2, op_race},
    {"removed", 0, 0, op_removed},
    {"reparse", 2, 2, op_reparse},
    {"remove", 2, 2, op_remove},
    {"removeall", 2, ANY, op_removeall},
    {"reset", 0, 0, op_reset},
    {"same", 2, 2, op_same},
    {"samehost", 1, 1, op_samehost},
    {"session", 1, 1, op_session},
    {"shutdown", 2, 2, op_shutdown},
    {"sidctx", 2, 2, op_sidctx},
    {"size", 2, 2, op_size},
    {"step", 2, 2, op_step},
    {"stimeout", 2, 2, op_stimeout},
    {"take", 3, 3, op_take},
    {"time", 2, 2, op_time},
    {"timeout", 2, 2, op_timeout},
    {"trace", 0, 0, op_trace},
    {"verify", 2, 2, op_verify},
    {"version", 0, 2, op_version},
    // attributes
    {"alpn", 2, 2, op_alpn},
    {"appdata", 2, 2, op_appdata},
    {"cipher", 2, 2, op_cipher},
    {"defaulttimeout", 2, 2, op_defaulttimeout},
    {"endsidctx", 3, 3, op_endsidctx},
    {"exdata", 2, 2, op_exdata},
    {"exfrees", 0, 0, op_exfrees},
    {"host", 2, 2, op_host},
    {"keylog", 1, 1, op_keylog},
    {"masterkey", 1, 2, op_masterkey},
    {"maxearly", 2, 2, op_maxearly},
    {"peer", 1, 1, op_peer},
    {"peerrpk", 1, 1, op_peerrpk},
    {"protocol", 2, 2, op_protocol},
    {"randoms", 1, 1, op_randoms},
    {"sessions", 1, 1, op_sessions},
    {"sni", 2, 2, op_sni},
    {"ticket", 1, 1, op_ticket},
    {"trust", 2, 2, op_trust},
    {"verifyresult", 2, 2, op_verifyresult},
    // IDs and tickets
    {"connnumtickets", 2, 3, op_connnumtickets},
    {"connsidctx", 3, 3, op_connsidctx},
    {"copyid", 4, 4, op_copyid},
    {"genid", 2, 3, op_genid},
    {"hasid", 3, 3, op_hasid},
    {"idhead", 2, 2, op_idhead},
    {"notresumable", 2, 2, op_notresumable},
    {"numtickets", 1, 2, op_numtickets},
    {"newanswer", 2, 2, op_newanswer},
    {"ring", 2, ANY, op_ring},
    {"ticketcb", 2, 3, op_ticketcb},
    {"ticketkeys", 1, 2, op_ticketkeys},
};

static int split(char *line, char **word) {
    int n = 0;
    char *rest;
    for (char *w = strtok_r(line, " \t", &rest); w != NULL; w = strtok_r(NULL, " \t", &rest)) {
        if (n > ANY)
            return -1;
        word[n++] = w;
    }
    return n;
}

static void run(char *line) {
    char *word[ANY + 1];
    int n = split(line, word);
    if (n <= 0) {
        reply(n < 0 ? "usage too many operands" : "usage no operation");
        return;
    }
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(ops[i].name, word[0]) != 0)
            continue;
        if (n - 1 < ops[i].min || n - 1 > ops[i].max)
            reply("usage %s takes %d to %d operands", word[0], ops[i].min, ops[i].max);
        else
            ops[i].run(word + 1, n - 1);
        return;
    }
    reply("usage no such operation: %s", word[0]);
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    live_index = SSL_SESSION_get_ex_new_index(0, NULL, live_new, live_dup, live_free);
    value_index = SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, value_free);
    if (live_index < 0 || value_index < 0)
        return 3;
    printf("oracle %s 0x%08lx\n.\n", OpenSSL_version(OPENSSL_VERSION),
           (unsigned long)OPENSSL_VERSION_NUMBER);
    fflush(stdout);
    while ((length = getline(&line, &room, stdin)) >= 0) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (length == 0 || line[0] == '#')
            continue;
        printf("> %s\n", line);
        run(line);
        print_state();
    }
    free_all();
    free(line);
    return 0;
}
