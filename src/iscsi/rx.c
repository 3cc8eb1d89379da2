/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi/rx.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/err.h"
#include "rt/buf.h"

#include <string.h>

/* Little more than a header: what comes after it is better received in place. */
#define BULK_RECV_BYTES 2048u
/* A rest of a segment at least this long is received in place. */
#define IN_PLACE_BYTES 8192u
/* As much of it at once as is sure to be in the CPU's nearest caches when it is summed. */
#define SUMMED_RECV_BYTES 65536u

static uint32_t filled(const struct iscsi_rx *rx)
{
    return rx->tail - rx->head;
}

bool iscsi_rx_ready(const struct iscsi_conn *c)
{
    return filled(&c->rx) >= ISCSI_BHS_BYTES;
}

void iscsi_rx_free(struct iscsi_conn *c)
{
    ASSERT(filled(&c->rx) == 0 || c->state >= ISCSI_CONN_FAILED);
    rt_buf_unref(c->rx.buf);
    c->rx.buf = NULL;
    c->rx.head = 0;
    c->rx.tail = 0;
}

static int arrived(struct iscsi_conn *c, ssize_t n)
{
    if (n < 0) {
        return (int)n;
    }
    if (n == 0) {
        return -ECONNRESET;
    }
    c->rx.last_ns = rt_now_ns();
    return 0;
}

/* Waits without a buffer for the first bytes, then makes one. */
static int fill_first(struct iscsi_conn *c, uint64_t deadline_ns)
{
    struct iscsi_rx *rx = &c->rx;
    ssize_t n = net_recv(c->stream, rx->small, sizeof rx->small, deadline_ns);
    int r = arrived(c, n);
    if (r < 0) {
        return r;
    }
    r = rt_buf_alloc(ISCSI_RX_FIRST, RT_MEM_INGRESS, &rx->buf);
    if (r < 0) {
        return r;
    }
    memcpy(rx->buf->data, rx->small, (size_t)n);
    rx->head = 0;
    rx->tail = (uint32_t)n;
    return 0;
}

/* A connection that fills its first buffer gets a larger one; without memory it keeps what it has.
 */
static void enlarge(struct iscsi_rx *rx)
{
    struct rt_buf *larger;
    if (rx->buf->cap >= ISCSI_RX_BYTES ||
        rt_buf_alloc(ISCSI_RX_BYTES, RT_MEM_INGRESS, &larger) < 0) {
        return;
    }
    rt_buf_unref(rx->buf);
    rx->buf = larger;
}

static int fill_more(struct iscsi_conn *c, uint32_t need, uint64_t deadline_ns)
{
    struct iscsi_rx *rx = &c->rx;
    if (rx->head == rx->tail) {
        rx->head = 0;
        rx->tail = 0;
        if (unlikely(rx->full) && c->state == ISCSI_CONN_FULL) {
            enlarge(rx);
        }
    } else if (rx->buf->cap - rx->head < need || rx->buf->cap - rx->tail < IN_PLACE_BYTES) {
        memmove(rx->buf->data, rx->buf->data + rx->head, filled(rx));
        rx->tail = filled(rx);
        rx->head = 0;
    }
    size_t room = rx->buf->cap - rx->tail;
    if (rx->bulk) {
        room = MIN_OF(room, BULK_RECV_BYTES);
    }
    ssize_t n = net_recv(c->stream, rx->buf->data + rx->tail, room, deadline_ns);
    int r = arrived(c, n);
    if (r < 0) {
        return r;
    }
    rx->tail += (uint32_t)n;
    rx->full = rx->tail == rx->buf->cap;
    return 0;
}

/* At least need bytes in the buffer. */
static int fill(struct iscsi_conn *c, uint32_t need, uint64_t deadline_ns)
{
    while (filled(&c->rx) < need) {
        int r = c->rx.buf ? fill_more(c, need, deadline_ns) : fill_first(c, deadline_ns);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* A peer that stops in the middle of a PDU is given as long as a ping. */
static uint64_t inside_deadline(const struct iscsi_conn *c)
{
    uint64_t patient = rt_now_ns() + c->server->nop_interval_ns;
    return c->state == ISCSI_CONN_LOGIN ? c->rx.deadline_ns : patient;
}

/* Between PDUs: gives the buffer back when nothing comes for a while. */
static int fill_idle(struct iscsi_conn *c, uint64_t deadline_ns)
{
    struct iscsi_rx *rx = &c->rx;
    while (filled(rx) == 0) {
        if (!rx->buf) {
            return fill_first(c, deadline_ns);
        }
        uint64_t soon = rt_turn_ns() + ISCSI_IDLE_NS;
        int r = fill_more(c, 1, MIN_OF(soon, deadline_ns));
        if (r == -ETIMEDOUT && soon < deadline_ns) {
            iscsi_rx_free(c);
            rx->bulk = false;
        } else if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int check_header_digest(struct iscsi_conn *c, uint32_t len)
{
    const uint8_t *p = c->rx.buf->data + c->rx.head;
    if (crc32c(0, p, len) == le32_load(p + len)) {
        return 0;
    }
    iscsi_count(&iscsi_conn_counters(c)->digest_errors);
    return ERR_PROTOCOL; /* the length fields cannot be trusted: §7.8 */
}

int iscsi_rx_header(struct iscsi_conn *c, uint64_t idle_deadline_ns, struct iscsi_header *ret)
{
    struct iscsi_rx *rx = &c->rx;
    int r = fill_idle(c, idle_deadline_ns);
    if (r < 0) {
        return r;
    }
    if (filled(rx) < ISCSI_BHS_BYTES) {
        r = fill(c, ISCSI_BHS_BYTES, inside_deadline(c));
        if (r < 0) {
            return r == -ETIMEDOUT ? ERR_PROTOCOL : r;
        }
    }
    uint32_t len = ISCSI_BHS_BYTES + rx->buf->data[rx->head + 4] * 4u;
    uint32_t digest = c->header_digest ? ISCSI_DIGEST_BYTES : 0;
    if (filled(rx) < len + digest) {
        r = fill(c, len + digest, inside_deadline(c));
        if (r < 0) {
            return r == -ETIMEDOUT ? ERR_PROTOCOL : r;
        }
    }
    if (digest) {
        r = check_header_digest(c, len);
        if (r < 0) {
            return r;
        }
    }
    ret->bhs = rx->buf->data + rx->head;
    ret->ahs = ret->bhs + ISCSI_BHS_BYTES;
    ret->known = iscsi_request_decode(ret->bhs, &ret->req) >= 0;
    rx->head += len + digest;
    rx->segment = ret->req.data_len;
    rx->pad = iscsi_padded(rx->segment) - rx->segment;
    rx->crc = 0;
    rx->check = c->data_digest && rx->segment > 0;
    rx->bulk = false;
    return 0;
}

int iscsi_rx_peek(struct iscsi_conn *c, uint64_t deadline_ns, const uint8_t **ret_bhs)
{
    int r = fill(c, ISCSI_BHS_BYTES, deadline_ns);
    if (r >= 0) {
        *ret_bhs = c->rx.buf->data + c->rx.head;
    }
    return r;
}

int iscsi_rx_data(struct iscsi_conn *c, void *dst, uint32_t len)
{
    struct iscsi_rx *rx = &c->rx;
    ASSERT(len <= rx->segment);
    uint8_t *to = dst;
    uint32_t left = len;
    while (left > 0) {
        uint32_t here = MIN_OF(left, filled(rx));
        if (here > 0) {
            memcpy(to, rx->buf->data + rx->head, here);
            rx->head += here;
        } else if (left >= IN_PLACE_BYTES) {
            uint32_t most = rx->check ? MIN_OF(left, SUMMED_RECV_BYTES) : left;
            ssize_t n = net_recv(c->stream, to, most, inside_deadline(c));
            int r = arrived(c, n);
            if (r < 0) {
                return r;
            }
            here = (uint32_t)n;
            rx->bulk = true;
        } else {
            int r = fill_more(c, left, inside_deadline(c));
            if (r < 0) {
                return r;
            }
            continue;
        }
        if (rx->check) {
            rx->crc = crc32c(rx->crc, to, here);
        }
        to += here;
        left -= here;
    }
    rx->segment -= len;
    return 0;
}

int iscsi_rx_skip(struct iscsi_conn *c)
{
    struct iscsi_rx *rx = &c->rx;
    while (rx->segment > 0) {
        int r = fill(c, 1, inside_deadline(c));
        if (r < 0) {
            return r;
        }
        uint32_t here = MIN_OF(rx->segment, filled(rx));
        if (rx->check) {
            rx->crc = crc32c(rx->crc, rx->buf->data + rx->head, here);
        }
        rx->head += here;
        rx->segment -= here;
    }
    return 0;
}

int iscsi_rx_end(struct iscsi_conn *c)
{
    struct iscsi_rx *rx = &c->rx;
    int r = iscsi_rx_skip(c);
    if (r < 0) {
        return r;
    }
    uint32_t tail = rx->pad + (rx->check ? ISCSI_DIGEST_BYTES : 0);
    if (tail == 0) {
        return 0;
    }
    if (filled(rx) < tail) {
        r = fill(c, tail, inside_deadline(c));
        if (r < 0) {
            return r;
        }
    }
    const uint8_t *p = rx->buf->data + rx->head;
    rx->head += tail;
    if (rx->check && crc32c(rx->crc, p, rx->pad) != le32_load(p + rx->pad)) {
        iscsi_count(&iscsi_conn_counters(c)->digest_errors);
        return 1;
    }
    return 0;
}

int iscsi_rx_all(struct iscsi_conn *c, struct bytes_writer *w)
{
    uint32_t len = c->rx.segment;
    if (len > 0) {
        uint8_t *dst = bytes_grow(w, len);
        if (!dst) {
            return -ENOMEM;
        }
        int r = iscsi_rx_data(c, dst, len);
        if (r < 0) {
            return r;
        }
    }
    return iscsi_rx_end(c);
}
