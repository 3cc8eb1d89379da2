/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: receiving, the send queue, errors.
 *
 * RECEIVING. Readiness is remembered: a call that gave less than it could take has used it up, and
 * the next one waits for the transport's report without a system call. A receiver that finds more
 * bytes at once lets the turn end first, so that replies go out and other fibers run; so no peer,
 * however fast, holds a core.
 *
 * SENDING. Queueing arms a hook, which sends at the end of the turn. When the transport is full,
 * its next report of readiness arms the hook again.
 *
 * ERRORS. The first error stays; it empties the queue and wakes everybody. No call does I/O after
 * it.
 */
#include "net/stream.h"
#include "base/assert.h"
#include "base/attr.h"
#include "base/time.h"
#include <errno.h>
#include <stdlib.h>

#define PROGRESS_NS (60 * NS_PER_S)

struct tx_waiter {
    struct list link;
    struct rt_gate gate;
    size_t limit_bytes;
};

static void wake_senders(struct net_stream *s)
{
    size_t queued = net_send_queued(s);
    list_for_each(&s->tx_waiters, struct tx_waiter, link, w) {
        if (s->error < 0 || queued <= w->limit_bytes) {
            rt_gate_wake(&w->gate);
        }
    }
}

void net_stream_break(struct net_stream *s, int error)
{
    if (s->error < 0) {
        return;
    }
    s->error = error;
    net_tx_clear(&s->tx);
    s->tls_pending = 0;
    rt_turn_hook_disarm(&s->hook);
    rt_gate_wake(&s->rx_gate);
    wake_senders(s);
}

static void flush(struct net_stream *s)
{
    while (s->error == 0 && s->writable && (s->tx.len > 0 || s->tls_pending > 0)) {
        size_t count = 0;
        struct iovec *iov = s->tx.len > 0 ? net_tx_head(&s->tx, &count) : NULL;
        ssize_t n = s->ops->send(s, iov, count);
        if (n == -EAGAIN) {
            break;
        }
        if (n < 0) {
            net_stream_break(s, (int)n);
            return;
        }
        s->progress_ns = rt_turn_ns();
        if (n > 0) {
            net_tx_consume(&s->tx, (size_t)n);
        }
    }
    if (!list_is_empty(&s->tx_waiters)) {
        wake_senders(s);
    }
}

static void flush_hook(struct rt_turn_hook *h)
{
    flush(container_of(h, struct net_stream, hook));
}

int net_stream_new(const struct net_ops *ops, struct net_stream **ret_stream)
{
    struct net_stream *s = calloc(1, sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    s->ops = ops;
    s->raw = ops;
    s->readable = true;
    s->writable = true;
    s->core = rt_core_self();
    s->hook.fn = flush_hook;
    s->watch.fd = -1;
    list_init(&s->tx_waiters);
    rt_mem_add(RT_MEM_CONNECTIONS, sizeof *s);
    *ret_stream = s;
    return 0;
}

void net_stream_readable(struct net_stream *s)
{
    s->readable = true;
    rt_gate_wake(&s->rx_gate);
}

void net_stream_writable(struct net_stream *s)
{
    if (!s->writable) {
        s->taken_ns = rt_turn_ns();
    }
    s->writable = true;
    if (s->tx.len > 0 || s->tls_pending > 0) {
        rt_turn_hook_arm(&s->hook);
    }
}

static ssize_t recv_try(struct net_stream *s, const struct iovec *iov, size_t count)
{
    if (s->error < 0) {
        return s->error;
    }
    if (unlikely(s->recv_broken_off)) {
        s->recv_broken_off = false;
        return -ESHUTDOWN;
    }
    if (!s->readable) {
        return -EAGAIN;
    }
    ssize_t n = s->ops->recv(s, iov, count);
    if (n > 0) {
        s->received = true;
    } else if (n < 0 && n != -EAGAIN) {
        net_stream_break(s, (int)n);
    }
    return n;
}

ssize_t net_recv_try(struct net_stream *s, void *dst, size_t cap)
{
    ASSERT(cap > 0);
    return recv_try(s, &(struct iovec){dst, cap}, 1);
}

ssize_t net_recv_pieces(struct net_stream *s, const struct iovec *iov, size_t count,
                        uint64_t deadline_ns)
{
    ASSERT(count > 0 && iov->iov_len > 0);
    if (s->received && s->readable) {
        int r = rt_pass();
        if (r < 0) {
            return r;
        }
    }
    s->received = false;
    for (;;) {
        ssize_t n = recv_try(s, iov, count);
        if (n != -EAGAIN) {
            return n;
        }
        int r = rt_gate_wait(&s->rx_gate, deadline_ns);
        if (r < 0) {
            return r;
        }
    }
}

ssize_t net_recv(struct net_stream *s, void *dst, size_t cap, uint64_t deadline_ns)
{
    return net_recv_pieces(s, &(struct iovec){dst, cap}, 1, deadline_ns);
}

int net_recv_all(struct net_stream *s, void *dst, size_t len, uint64_t deadline_ns)
{
    uint8_t *at = dst;
    while (len > 0) {
        ssize_t n = net_recv(s, at, len, deadline_ns);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            return -ECONNRESET;
        }
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* The end of each queueing call: a stream that lost bytes is broken. */
static int queued(struct net_stream *s, int r)
{
    if (r < 0) {
        net_stream_break(s, r);
        return r;
    }
    if (s->writable && s->tx.len > 0) {
        rt_turn_hook_arm(&s->hook);
    }
    return 0;
}

int net_send_copy(struct net_stream *s, const void *data, size_t len)
{
    if (s->error < 0 || len == 0) {
        return s->error;
    }
    if (s->tx.len == 0) {
        s->progress_ns = rt_turn_ns();
    }
    return queued(s, net_tx_copy(&s->tx, data, len));
}

int net_send_ref(struct net_stream *s, struct rt_buf *buf, const void *data, size_t len)
{
    if (s->error < 0) {
        return s->error;
    }
    if (s->tx.len == 0) {
        s->progress_ns = rt_turn_ns();
    }
    return queued(s, net_tx_take(&s->tx, buf ? rt_buf_ref(buf) : NULL, data, len));
}

int net_send_chain(struct net_stream *s, struct rt_chain *c)
{
    int r = s->error;
    if (s->tx.len == 0) {
        s->progress_ns = rt_turn_ns();
    }
    struct rt_piece *p = rt_chain_at(c);
    for (uint32_t i = 0; i < c->count && r == 0; i++) {
        r = net_tx_take(&s->tx, p[i].buf, p[i].data, p[i].len);
        p[i].buf = NULL;
    }
    rt_chain_free(c);
    return s->error < 0 ? s->error : queued(s, r);
}

size_t net_send_queued(const struct net_stream *s)
{
    return s->tx.len + s->tls_pending;
}

bool net_send_taken(const struct net_stream *s)
{
    return s->error == 0 && net_send_queued(s) == 0 && s->raw->taken(s);
}

uint64_t net_send_taken_ns(const struct net_stream *s)
{
    return s->taken_ns;
}

void net_send_flush(struct net_stream *s)
{
    flush(s);
}

int net_send_wait(struct net_stream *s, size_t limit_bytes)
{
    struct tx_waiter w = {.limit_bytes = limit_bytes};
    int r = 0;
    while (s->error == 0 && net_send_queued(s) > limit_bytes) {
        list_push_back(&s->tx_waiters, &w.link);
        r = rt_gate_wait(&w.gate, s->progress_ns + PROGRESS_NS);
        list_remove(&w.link);
        if (r == -ECANCELED || (r == -ETIMEDOUT && rt_now_ns() >= s->progress_ns + PROGRESS_NS)) {
            return r;
        }
    }
    return s->error;
}

void net_recv_break_off(struct net_stream *s)
{
    s->recv_broken_off = true;
    rt_gate_wake(&s->rx_gate);
}

void net_shutdown(struct net_stream *s)
{
    if (s->error == 0) {
        s->raw->shutdown(s);
        net_stream_break(s, -ECONNRESET);
    }
}

void net_move_out(struct net_stream *s)
{
    ASSERT(s->core == rt_core_self() && !s->tls && s->tx.len == 0);
    ASSERT(!s->rx_gate.waiter && list_is_empty(&s->tx_waiters));
    rt_turn_hook_disarm(&s->hook);
    if (s->watch.fd >= 0) {
        rt_watch_remove(&s->watch);
    }
}

int net_move_in(struct net_stream *s)
{
    s->core = rt_core_self();
    s->received = false;
    if (s->place.busy && s->place.core != s->core) {
        net_place_idle(s); /* it could not go where it wanted to */
    }
    if (s->watch.fd < 0) {
        return 0;
    }
    /* What is there by now is reported anew. */
    s->readable = true;
    s->writable = true;
    int r = net_socket_watch(s);
    if (r < 0) {
        net_stream_break(s, r);
    }
    return r;
}

void net_close(struct net_stream *s)
{
    ASSERT(s->core == rt_core_self());
    ASSERT(!s->rx_gate.waiter && list_is_empty(&s->tx_waiters));
    flush(s);
    net_place_idle(s);
    s->ops->close(s);
    if (s->tls) {
        net_tls_session_free(s->tls);
    }
    net_tx_clear(&s->tx);
    rt_turn_hook_disarm(&s->hook);
    rt_mem_add(RT_MEM_CONNECTIONS, -(int64_t)sizeof *s);
    free(s);
}
