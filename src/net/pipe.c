/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport in memory: two rings, one a direction, bounded as a socket's buffer is. Both ends
 * live on one core. The pipe is freed with its second end.
 */
#include "base/assert.h"
#include "net/stream.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RING_SIZE 65536u

struct ring {
    uint32_t head; /* next byte out */
    uint32_t len;
    bool closed; /* the writer has gone */
    uint8_t bytes[RING_SIZE];
};

struct net_pipe {
    struct net_stream *ends[2];
    struct ring to[2]; /* to[i] is read by ends[i] */
};

static unsigned end_index(const struct net_stream *s)
{
    return s->pipe->ends[1] == s;
}

/* Into the first piece only, which is as good: what is left is asked for again. */
static ssize_t pipe_recv(struct net_stream *s, const struct iovec *iov, size_t count)
{
    (void)count;
    uint8_t *dst = iov->iov_base;
    size_t cap = iov->iov_len;
    unsigned me = end_index(s);
    struct ring *r = &s->pipe->to[me];
    size_t done = 0;
    while (done < cap && r->len > 0) {
        uint32_t n = (uint32_t)MIN_OF(cap - done, (size_t)MIN_OF(r->len, RING_SIZE - r->head));
        memcpy(dst + done, r->bytes + r->head, n);
        r->head = (r->head + n) % RING_SIZE;
        r->len -= n;
        done += n;
    }
    if (done > 0) {
        if (s->pipe->ends[!me]) {
            net_stream_writable(s->pipe->ends[!me]);
        }
        return (ssize_t)done;
    }
    if (r->closed) {
        return 0;
    }
    s->readable = false;
    return -EAGAIN;
}

static uint32_t ring_put(struct ring *r, const struct iovec *v)
{
    uint32_t done = 0;
    while (done < v->iov_len && r->len < RING_SIZE) {
        uint32_t at = (r->head + r->len) % RING_SIZE;
        uint32_t room = MIN_OF(RING_SIZE - r->len, RING_SIZE - at);
        uint32_t n = (uint32_t)MIN_OF((size_t)room, v->iov_len - done);
        memcpy(r->bytes + at, (const uint8_t *)v->iov_base + done, n);
        r->len += n;
        done += n;
    }
    return done;
}

static ssize_t pipe_send(struct net_stream *s, const struct iovec *iov, size_t count)
{
    unsigned peer = !end_index(s);
    struct ring *r = &s->pipe->to[peer];
    ssize_t sum = 0;
    if (!s->pipe->ends[peer]) {
        return -EPIPE;
    }
    for (size_t i = 0; i < count && r->len < RING_SIZE; i++) {
        sum += ring_put(r, &iov[i]);
    }
    if (sum == 0) {
        s->writable = false;
        return -EAGAIN;
    }
    net_stream_readable(s->pipe->ends[peer]);
    return sum;
}

static void pipe_shutdown(struct net_stream *s)
{
    unsigned peer = !end_index(s);
    s->pipe->to[peer].closed = true;
    if (s->pipe->ends[peer]) {
        net_stream_readable(s->pipe->ends[peer]);
    }
}

static void pipe_close(struct net_stream *s)
{
    struct net_pipe *p = s->pipe;
    unsigned me = end_index(s);
    pipe_shutdown(s);
    if (p->ends[!me]) {
        /* Its next send finds that nobody reads. */
        net_stream_writable(p->ends[!me]);
        p->ends[me] = NULL;
    } else {
        free(p);
    }
    s->pipe = NULL;
}

static bool pipe_taken(const struct net_stream *s)
{
    unsigned peer = !end_index(s);
    return s->pipe->ends[peer] && s->pipe->to[peer].len == 0;
}

static const struct net_ops pipe_ops = {
    .recv = pipe_recv,
    .send = pipe_send,
    .shutdown = pipe_shutdown,
    .close = pipe_close,
    .taken = pipe_taken,
};

int net_pipe(struct net_stream **ret_a, struct net_stream **ret_b)
{
    struct net_stream *a = NULL;
    struct net_stream *b = NULL;
    struct net_pipe *p = calloc(1, sizeof *p);
    if (!p || net_stream_new(&pipe_ops, &a) < 0 || net_stream_new(&pipe_ops, &b) < 0) {
        free(p);
        free(a);
        return -ENOMEM;
    }
    p->ends[0] = a;
    p->ends[1] = b;
    a->pipe = p;
    b->pipe = p;
    *ret_a = a;
    *ret_b = b;
    return 0;
}
