/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receive buffers. Requests are parsed, and small payloads used, where they were received.
 *
 * INVARIANTS
 *   1. Bytes [head, tail) of c->rx are received and not consumed; bytes before head may still be in
 * use by requests that wait, each of which pins the buffer. A pinned buffer is never moved about
 * and never filled anew below tail.
 *   2. When a pinned buffer has no room left, a new one takes its place, and the old one goes with
 * its last pin; c->pinned_bytes counts those. At NBD_RX_PINNED_MAX the connection stops reading
 * until requests end.
 *   3. An idle connection holds no buffer.
 */
#include "base/assert.h"
#include "base/time.h"
#include "nbd/conn.h"

static struct nbd_rx *rx_new(void)
{
    struct nbd_rx *rx = calloc(1, sizeof *rx);
    if (rx && rt_buf_alloc(NBD_RX_BYTES, RT_MEM_INGRESS, &rx->buf) < 0) {
        free(rx);
        rx = NULL;
    }
    return rx;
}

static void rx_drop(struct nbd_rx *rx)
{
    if (rx) {
        rt_buf_unref(rx->buf);
        free(rx);
    }
}

void nbd_rx_pin(struct nbd_conn *c, struct nbd_job *job)
{
    job->rx = c->rx;
    c->rx->pins++;
}

void nbd_rx_unpin(struct nbd_conn *c, struct nbd_job *job)
{
    struct nbd_rx *rx = take(job->rx);
    ASSERT(rx->pins > 0);
    if (--rx->pins > 0 || !rx->retired) {
        return;
    }
    c->pinned_bytes -= NBD_RX_BYTES;
    rt_credits_give(&c->server->ingress, NBD_RX_BYTES);
    rx_drop(rx);
}

void nbd_rx_free(struct nbd_conn *c)
{
    ASSERT(c->pinned_bytes == 0 && (!c->rx || c->rx->pins == 0));
    rx_drop(take(c->rx));
}

/*
 * Puts a fresh buffer in the place of the pinned one, or sees the pins go: waiting needs nothing
 * but the connection's own requests.
 */
static int replace(struct nbd_conn *c) WAITS
{
    while (c->pinned_bytes >= NBD_RX_PINNED_MAX ||
           !rt_credits_try(&c->server->ingress, NBD_RX_BYTES)) {
        int r = rt_gate_wait(&c->gate, RT_FOREVER);
        if (r < 0 || c->rx->pins == 0) {
            return r;
        }
    }
    struct nbd_rx *fresh = rx_new();
    if (!fresh) {
        rt_credits_give(&c->server->ingress, NBD_RX_BYTES);
        return -ENOMEM;
    }
    memcpy(fresh->buf->data, c->rx->buf->data + c->head, c->tail - c->head);
    c->rx->retired = true;
    c->pinned_bytes += NBD_RX_BYTES;
    c->rx = fresh;
    c->tail -= c->head;
    c->head = 0;
    return 0;
}

static int make_room(struct nbd_conn *c) WAITS
{
    if (!c->rx) {
        c->rx = rx_new();
        c->head = 0;
        c->tail = 0;
        return c->rx ? 0 : -ENOMEM;
    }
    if (c->rx->pins > 0 && NBD_RX_BYTES - c->tail < NBD_RX_ROOM_MIN) {
        int r = replace(c);
        if (r < 0) {
            return r;
        }
    }
    if (c->rx->pins == 0 && (c->head == c->tail || NBD_RX_BYTES - c->tail < NBD_RX_ROOM_MIN)) {
        uint8_t *data = c->rx->buf->data;
        memmove(data, data + c->head, c->tail - c->head);
        c->tail -= c->head;
        c->head = 0;
    }
    return 0;
}

/* Waits without a buffer; the first bytes come in here and move over. */
static ssize_t fill_idle(struct nbd_conn *c) WAITS
{
    uint8_t first[64];
    nbd_rx_free(c);
    ssize_t n = net_recv(c->stream, first, sizeof first, RT_FOREVER);
    if (n <= 0) {
        return n;
    }
    int r = make_room(c);
    if (r < 0) {
        return r;
    }
    memcpy(c->rx->buf->data, first, (size_t)n);
    c->tail = (uint32_t)n;
    ssize_t more =
        n == sizeof first ? net_recv_try(c->stream, c->rx->buf->data + n, NBD_RX_BYTES - n) : 0;
    if (more > 0) {
        c->tail += (uint32_t)more;
    }
    return n;
}

/*
 * Nothing came for a while. A peer that takes no replies, and sends nothing either, has a time
 * limit: what is queued for it must move.
 */
static ssize_t idle(struct nbd_conn *c) WAITS
{
    net_place_idle(c->stream);
    size_t queued = net_send_queued(c->stream);
    if (queued == 0 || queued != c->stall_bytes) {
        c->stall_bytes = queued;
        c->stall_ns = rt_turn_ns();
    } else if (rt_turn_ns() - c->stall_ns > NBD_STALL_MS * NS_PER_MS) {
        return -ETIMEDOUT;
    }
    if (queued > 0 || c->inflight > 0 || c->head != c->tail) {
        return -EAGAIN;
    }
    return fill_idle(c);
}

ssize_t nbd_rx_fill(struct nbd_conn *c)
{
    for (;;) {
        int r = make_room(c);
        if (r < 0) {
            return r;
        }
        uint32_t room = NBD_RX_BYTES - c->tail;
        room = c->large ? MIN_OF(room, NBD_RX_LARGE_CAP) : room;
        ssize_t n = net_recv(c->stream, c->rx->buf->data + c->tail, room,
                             rt_turn_ns() + NBD_IDLE_MS * NS_PER_MS);
        if (likely(n > 0)) {
            c->tail += (uint32_t)n;
            return n;
        }
        if (n != -ETIMEDOUT) {
            return n;
        }
        n = idle(c);
        if (n != -EAGAIN) {
            return n;
        }
    }
}

/* A payload has a minute, and longer only at a rate worth waiting for. */
static uint64_t payload_deadline(size_t len)
{
    return rt_after_ms(NBD_PAYLOAD_TIMEOUT_MS + len / NBD_PAYLOAD_BYTES_PER_MS);
}

int nbd_rx_take(struct nbd_conn *c, uint8_t *dst, size_t len)
{
    uint64_t deadline_ns = payload_deadline(len);
    size_t have = MIN_OF(len, c->tail - c->head);
    if (have > 0) {
        memcpy(dst, c->rx->buf->data + c->head, have);
        c->head += (uint32_t)have;
    }
    while (have < len) {
        ssize_t n = net_recv(c->stream, dst + have, len - have, deadline_ns);
        if (n <= 0) {
            return n < 0 ? (int)n : -ECONNRESET;
        }
        have += (size_t)n;
    }
    return 0;
}

/* Adds the next page to the chain, for one that ends at `end` at most; iov gets its place. */
static int page_add(uint64_t off, uint64_t end, struct rt_chain *data, struct iovec *ret_iov)
{
    uint32_t n = (uint32_t)MIN_OF(VOL_PAGE_BYTES - off % VOL_PAGE_BYTES, end - off);
    struct rt_buf *b;
    int r = rt_buf_alloc(n, RT_MEM_INGRESS, &b);
    if (r < 0) {
        return r;
    }
    *ret_iov = (struct iovec){b->data, n};
    r = rt_chain_add(data, b, b->data, n);
    rt_buf_unref(b);
    return r;
}

/* Fills the pieces. */
static int take_pieces(struct nbd_conn *c, struct iovec *iov, size_t count, uint64_t deadline_ns)
    WAITS
{
    while (count > 0) {
        size_t n = MIN_OF(iov->iov_len, (size_t)(c->tail - c->head));
        if (n > 0) {
            memcpy(iov->iov_base, c->rx->buf->data + c->head, n);
            c->head += (uint32_t)n;
        } else {
            ssize_t got = net_recv_pieces(c->stream, iov, count, deadline_ns);
            if (got <= 0) {
                return got < 0 ? (int)got : -ECONNRESET;
            }
            n = (size_t)got;
        }
        for (; count > 0 && n >= iov->iov_len; iov++, count--) {
            n -= iov->iov_len;
        }
        if (count > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + n;
            iov->iov_len -= n;
        }
    }
    return 0;
}

/* One buffer a page, so that each lives and goes for itself, from the batch through the cache to
 * its end, and no copy is made on the way. */
int nbd_rx_take_pages(struct nbd_conn *c, uint64_t off, uint64_t len, struct rt_chain *ret_data)
{
    uint64_t deadline_ns = payload_deadline(len);
    uint64_t end = off + len;
    int r = 0;
    while (off < end && r == 0) {
        struct iovec iov[NBD_RX_PAGES];
        size_t count = 0;
        while (off < end && count < ARRAY_LEN(iov) && r == 0) {
            r = page_add(off, end, ret_data, &iov[count]);
            off += r == 0 ? iov[count++].iov_len : 0;
        }
        if (r == 0) {
            r = take_pieces(c, iov, count, deadline_ns);
        }
    }
    if (r < 0) {
        rt_chain_free(ret_data);
    }
    return r;
}

int nbd_rx_skip(struct nbd_conn *c, uint64_t len)
{
    uint64_t have = MIN_OF(len, c->tail - c->head);
    c->head += (uint32_t)have;
    len -= have;
    if (len == 0) {
        return 0;
    }
    struct rt_buf *b;
    int r = rt_buf_alloc(MIN_OF(len, 64u << 10), RT_MEM_INGRESS, &b);
    if (r < 0) {
        return r;
    }
    while (len > 0 && r == 0) {
        size_t n = MIN_OF(len, b->cap);
        r = nbd_rx_take(c, b->data, n);
        len -= n;
    }
    rt_buf_unref(b);
    return r;
}
