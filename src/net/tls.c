/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS on a stream, the server's side: OpenSSL between two memory BIOs, so that it does no I/O of
 * its own.
 *
 *     transport recv -> in (BIO) -> SSL_read                  SSL_write -> out (BIO) -> sealed ->
 * transport send
 *
 * One call of tls_send() encrypts up to BATCH_SIZE bytes, small pieces gathered into whole records,
 * and gives them to the transport in one send. What that does not take stays in `sealed`, and goes
 * first next time.
 *
 * The steps of the handshake cost a millisecond of CPU and much stack, so they run on an offload
 * thread; the fiber that shakes hands waits for them and nobody else uses the session then.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "net/stream.h"
#include "rt/offload.h"
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE 16384u
#define BATCH_SIZE (4 * RECORD_SIZE)
#define SEALED_SIZE (128u << 10)
#define RAW_SIZE 65536u
#define REASON_SIZE 160
#define SESSION_BYTES (24 << 10) /* about what OpenSSL keeps for one, for the memory table */

struct net_tls {
    SSL_CTX *ctx;
};

struct net_tls_session {
    SSL *ssl;
    BIO *in;               /* owned by ssl */
    BIO *out;              /* owned by ssl */
    struct rt_buf *sealed; /* encrypted bytes from sealed_at to sealed_end wait for the transport;
                              NULL if none do */
    size_t sealed_at;
    size_t sealed_end;
    bool raw_ended;
    int step_result; /* of the last step of the handshake: SSL_ERROR_* */
    char reason[REASON_SIZE];
};

/* Only between two waits, so that one per thread is enough. */
static _Thread_local uint8_t raw_here[RAW_SIZE];
static _Thread_local uint8_t record_here[RECORD_SIZE];

static void reason_text(char *text, size_t size)
{
    unsigned long e = ERR_get_error();
    if (e != 0) {
        ERR_error_string_n(e, text, size);
    } else {
        (void)snprintf(text, size, "no reason given");
    }
    ERR_clear_error();
}

static int ctx_setup(SSL_CTX *ctx, const struct net_tls_options *opt)
{
    int verify = SSL_VERIFY_NONE;
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(ctx, opt->cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, opt->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        return -EINVAL;
    }
    if (opt->ca_file) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(opt->ca_file);
        if (!names || SSL_CTX_load_verify_locations(ctx, opt->ca_file, NULL) != 1) {
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            return -EINVAL;
        }
        SSL_CTX_set_client_CA_list(ctx, names);
        verify = SSL_VERIFY_PEER;
    }
    if (opt->verify_client) {
        verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(ctx, verify, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return 0;
}

int net_tls_create(const struct net_tls_options *opt, struct net_tls **ret_tls)
{
    char reason[REASON_SIZE];
    if (opt->verify_client && !opt->ca_file) {
        msg_error("net", "TLS: clients cannot be verified without a CA file");
        return -EINVAL;
    }
    struct net_tls *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    t->ctx = SSL_CTX_new(TLS_server_method());
    if (!t->ctx) {
        free(t);
        return -ENOMEM;
    }
    ERR_clear_error();
    int r = ctx_setup(t->ctx, opt);
    if (r < 0) {
        reason_text(reason, sizeof reason);
        msg_error("net", "TLS cannot be set up from certificate %s, key %s, CA %s: %s",
                  opt->cert_file, opt->key_file, opt->ca_file ? opt->ca_file : "(none)", reason);
        net_tls_free(t);
        return r;
    }
    *ret_tls = t;
    return 0;
}

void net_tls_free(struct net_tls *t)
{
    if (t) {
        SSL_CTX_free(t->ctx);
        free(t);
    }
}

void net_tls_session_free(struct net_tls_session *t)
{
    if (t) {
        rt_mem_add(RT_MEM_CONNECTIONS, -SESSION_BYTES);
        SSL_free(t->ssl);
        rt_buf_unref(t->sealed);
        free(t);
    }
}

/* Moves what OpenSSL has written into `sealed`: 0 or -ENOMEM. */
static int seal(struct net_stream *s)
{
    struct net_tls_session *t = s->tls;
    size_t have = BIO_ctrl_pending(t->out);
    if (have == 0) {
        return 0;
    }
    if (!t->sealed) {
        int r = rt_buf_alloc(SEALED_SIZE, RT_MEM_EGRESS, &t->sealed);
        if (r < 0) {
            return r;
        }
        t->sealed_at = 0;
        t->sealed_end = 0;
    }
    size_t room = t->sealed->cap - t->sealed_end;
    int n = BIO_read(t->out, t->sealed->data + t->sealed_end, (int)MIN_OF(room, have));
    t->sealed_end += n > 0 ? (size_t)n : 0;
    s->tls_pending = t->sealed_end - t->sealed_at;
    return 0;
}

/* Gives `sealed` to the transport: 0 when all of it has gone, -EAGAIN, or an error. */
static int drain(struct net_stream *s)
{
    struct net_tls_session *t = s->tls;
    while (s->tls_pending > 0) {
        struct iovec v = {.iov_base = t->sealed->data + t->sealed_at, .iov_len = s->tls_pending};
        ssize_t n = s->raw->send(s, &v, 1);
        if (n < 0) {
            return (int)n;
        }
        t->sealed_at += (size_t)n;
        s->tls_pending -= (size_t)n;
        if (s->tls_pending == 0) {
            t->sealed_at = 0;
            t->sealed_end = 0;
            int r = seal(s);
            if (r < 0) {
                return r;
            }
        }
    }
    rt_buf_unref(t->sealed);
    t->sealed = NULL;
    return 0;
}

/* Gathers the pieces from *iov on, at offset *off of the first, into dst: how many bytes. */
static size_t gather(const struct iovec **iov, size_t *count, size_t *off, uint8_t *dst, size_t cap)
{
    size_t done = 0;
    while (*count > 0 && done < cap) {
        size_t n = MIN_OF((*iov)->iov_len - *off, cap - done);
        memcpy(dst + done, (const uint8_t *)(*iov)->iov_base + *off, n);
        done += n;
        *off += n;
        if (*off == (*iov)->iov_len) {
            (*iov)++;
            (*count)--;
            *off = 0;
        }
    }
    return done;
}

static ssize_t tls_send(struct net_stream *s, const struct iovec *iov, size_t count)
{
    struct net_tls_session *t = s->tls;
    size_t off = 0;
    size_t done = 0;
    int r = drain(s);
    if (r < 0) {
        return r;
    }
    while (count > 0 && done < BATCH_SIZE) {
        size_t n = gather(&iov, &count, &off, record_here, RECORD_SIZE);
        int w = SSL_write(t->ssl, record_here, (int)n);
        if (w != (int)n) {
            ERR_clear_error();
            return -EPROTO;
        }
        done += n;
    }
    r = seal(s);
    if (r == 0) {
        r = drain(s);
    }
    /* What the transport did not take is in `sealed`: the plain bytes are done with. */
    return r < 0 && r != -EAGAIN ? r : (ssize_t)done;
}

/* Decrypts what is there into dst: bytes, 0 at the end, -EAGAIN when more is needed first. */
static ssize_t unseal(struct net_tls_session *t, uint8_t *dst, size_t cap)
{
    size_t done = 0;
    while (done < cap) {
        int n = SSL_read(t->ssl, dst + done, (int)MIN_OF(cap - done, (size_t)INT_MAX));
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        int e = SSL_get_error(t->ssl, n);
        ERR_clear_error();
        if (done > 0 || e == SSL_ERROR_WANT_READ) {
            break;
        }
        return e == SSL_ERROR_ZERO_RETURN ? 0 : -EPROTO;
    }
    return done > 0 ? (ssize_t)done : -EAGAIN;
}

/* Feeds OpenSSL from the transport: 1, 0 at its end, -EAGAIN, or an error. */
static int feed(struct net_stream *s)
{
    if (!s->readable) {
        return -EAGAIN;
    }
    ssize_t n = s->raw->recv(s, &(struct iovec){raw_here, RAW_SIZE}, 1);
    if (n <= 0) {
        return (int)n;
    }
    return BIO_write(s->tls->in, raw_here, (int)n) == n ? 1 : -ENOMEM;
}

/* Into the first piece: a record is not much larger. */
static ssize_t tls_recv(struct net_stream *s, const struct iovec *iov, size_t count)
{
    (void)count;
    size_t cap = iov->iov_len;
    for (;;) {
        ssize_t n = unseal(s->tls, iov->iov_base, cap);
        if (n != -EAGAIN) {
            /* A full answer may have left more inside, of which the transport will not report. */
            s->readable = s->readable || n == (ssize_t)cap;
            return n;
        }
        int r = feed(s);
        if (r <= 0) {
            /* An end that the peer did not announce may be an attacker's. */
            return r == 0 ? -ECONNRESET : r;
        }
    }
}

static void tls_shutdown(struct net_stream *s)
{
    s->raw->shutdown(s);
}

static void tls_close(struct net_stream *s)
{
    if (s->error == 0 && SSL_is_init_finished(s->tls->ssl)) {
        (void)SSL_shutdown(s->tls->ssl);
        ERR_clear_error();
        if (seal(s) == 0) {
            (void)drain(s);
        }
    }
    s->raw->close(s);
}

static const struct net_ops tls_ops = {
    .recv = tls_recv,
    .send = tls_send,
    .shutdown = tls_shutdown,
    .close = tls_close,
};

static int session_create(SSL_CTX *ctx, struct net_tls_session **ret_session)
{
    struct net_tls_session *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    rt_mem_add(RT_MEM_CONNECTIONS, SESSION_BYTES);
    t->ssl = SSL_new(ctx);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    if (!t->ssl || !t->in || !t->out) {
        BIO_free(t->in);
        BIO_free(t->out);
        net_tls_session_free(t);
        return -ENOMEM;
    }
    SSL_set_bio(t->ssl, t->in, t->out);
    SSL_set_accept_state(t->ssl);
    *ret_session = t;
    return 0;
}

static int handshake_step(void *arg)
{
    struct net_tls_session *t = arg;
    ERR_clear_error();
    int r = SSL_do_handshake(t->ssl);
    t->step_result = SSL_get_error(t->ssl, r);
    if (t->step_result != SSL_ERROR_NONE && t->step_result != SSL_ERROR_WANT_READ) {
        reason_text(t->reason, sizeof t->reason);
    }
    return r == 1;
}

/* Waits until the transport has given some bytes. */
static int handshake_feed(struct net_stream *s, uint64_t deadline_ns)
{
    for (;;) {
        int r = s->error < 0 ? s->error : feed(s);
        if (r == 0) {
            return -ECONNRESET;
        }
        if (r != -EAGAIN) {
            return r;
        }
        r = rt_gate_wait(&s->rx_gate, deadline_ns);
        if (r < 0) {
            return r;
        }
    }
}

static int handshake(struct net_stream *s, uint64_t deadline_ns)
{
    for (;;) {
        int done = rt_offload(RT_OFFLOAD_CPU, handshake_step, s->tls);
        int r = seal(s);
        if (r < 0) {
            return r;
        }
        net_send_flush(s); /* also what says why it failed */
        if (done) {
            return s->error;
        }
        if (s->tls->step_result != SSL_ERROR_WANT_READ) {
            msg_info_paced("net", "a TLS handshake failed: %s", s->tls->reason);
            return -EPROTO;
        }
        r = handshake_feed(s, deadline_ns);
        if (r < 0) {
            return r;
        }
    }
}

int net_starttls(struct net_stream *s, struct net_tls *t, uint64_t deadline_ns)
{
    ASSERT(!s->tls);
    int r = net_send_wait(s, 0);
    if (r < 0) {
        return r;
    }
    r = session_create(t->ctx, &s->tls);
    if (r < 0) {
        return r;
    }
    s->ops = &tls_ops;
    r = handshake(s, deadline_ns);
    if (r < 0) {
        net_stream_break(s, r);
    }
    /* The peer's first words may have come with its last step: the transport will not report them.
     */
    s->readable = true;
    return r;
}
