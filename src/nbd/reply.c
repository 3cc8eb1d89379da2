/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies. Headers are copied into the stream's queue, data goes by reference. A reply whose parts
 * were queued is sent whole or the stream is broken, so results of the single calls need not be
 * looked at.
 */
#include "base/err.h"
#include "nbd/conn.h"

static void put(struct nbd_conn *c, const void *bytes, size_t len)
{
    (void)!net_send_copy(c->stream, bytes, len);
    nbd_count(&c->core->bytes_out, len);
}

static struct nbd_chunk chunk_of(const struct nbd_request *q, enum nbd_reply_type type,
                                 uint64_t payload_len)
{
    return (struct nbd_chunk){.cookie = q->cookie,
                              .off = q->off,
                              .payload_len = payload_len,
                              .flags = NBD_REPLY_FLAG_DONE,
                              .type = (uint16_t)type};
}

/* The header of a chunk and the first bytes of its payload. */
static void put_chunk(struct nbd_conn *c, const struct nbd_chunk *chunk, const void *more,
                      size_t more_len)
{
    uint8_t bytes[NBD_REPLY_HEADER_MAX];
    size_t n = nbd_chunk_encode(chunk, c->mode, bytes);
    memcpy(bytes + n, more, more_len);
    put(c, bytes, n + more_len);
}

static void put_simple(struct nbd_conn *c, const struct nbd_request *q, enum nbd_error error)
{
    uint8_t bytes[NBD_SIMPLE_REPLY_BYTES];
    nbd_simple_reply_encode(q->cookie, error, bytes);
    put(c, bytes, sizeof bytes);
}

void nbd_reply_ok(struct nbd_conn *c, const struct nbd_request *q)
{
    if (c->mode == NBD_MODE_SIMPLE ||
        (c->mode == NBD_MODE_STRUCTURED && q->command != NBD_CMD_READ)) {
        put_simple(c, q, NBD_OK);
        return;
    }
    struct nbd_chunk chunk = chunk_of(q, NBD_REPLY_NONE, 0);
    put_chunk(c, &chunk, "", 0);
}

static const char *text_of(enum nbd_error error)
{
    switch (error) {
    case NBD_EPERM:
        return "not permitted";
    case NBD_EIO:
        return "the data could not be read or stored; the server's log says more";
    case NBD_ENOMEM:
        return "out of memory";
    case NBD_EINVAL:
        return "the request is not valid for this device";
    case NBD_ENOSPC:
        return "beyond the end of the device, or the volume is full";
    case NBD_EOVERFLOW:
        return "too large";
    case NBD_ENOTSUP:
        return "not supported";
    case NBD_ESHUTDOWN:
        return "the server is shutting down, or the device was removed";
    case NBD_OK:
    default:
        return "";
    }
}

void nbd_reply_error(struct nbd_conn *c, const struct nbd_request *q, enum nbd_error error)
{
    nbd_count(&c->core->errors, 1);
    if (c->mode == NBD_MODE_SIMPLE) {
        put_simple(c, q, error);
        return;
    }
    const char *text = text_of(error);
    uint16_t len = (uint16_t)strlen(text);
    uint8_t body[6];
    be32_store(body, error);
    be16_store(body + 4, len);
    struct nbd_chunk chunk = chunk_of(q, NBD_REPLY_ERROR, sizeof body + len);
    put_chunk(c, &chunk, body, sizeof body);
    put(c, text, len);
}

void nbd_reply_failure(struct nbd_conn *c, const struct nbd_request *q, int r)
{
    nbd_reply_error(c, q, nbd_error_of(r));
    c->told = c->told || r == ERR_CACHE_LOST;
}

/* Zeros by kind or by address: neither needs to travel. */
static bool is_zeros(const struct rt_piece *p)
{
    uintptr_t from = (uintptr_t)rt_zeros;
    uintptr_t at = (uintptr_t)p->data;
    return p->is_hole || (!p->buf && at >= from && at < from + sizeof rt_zeros);
}

#define HOLE_MIN 512u /* shorter ones cost more as a chunk of their own */

struct run {
    uint32_t first;
    uint32_t end;
    uint64_t len;
    bool zeros;
};

/* Pieces of one nature, from the first one on; short stretches of zeros count as data. */
static struct run run_at(const struct rt_chain *data, uint32_t first)
{
    const struct rt_piece *p = rt_chain_pieces(data);
    struct run run = {.first = first, .end = first};
    while (run.end < data->count && is_zeros(&p[run.end])) {
        run.len += p[run.end++].len;
    }
    run.zeros = run.len >= HOLE_MIN;
    uint64_t zeros = 0;
    while (!run.zeros && run.end < data->count && zeros < HOLE_MIN) {
        bool zero = is_zeros(&p[run.end]);
        zeros = zero ? zeros + p[run.end].len : 0;
        if (zeros < HOLE_MIN) {
            run.len += p[run.end++].len;
        }
    }
    return run;
}

static void put_run(struct nbd_conn *c, const struct nbd_request *q, const struct rt_chain *data,
                    const struct run *run, uint64_t off)
{
    uint8_t body[12];
    struct nbd_chunk chunk = chunk_of(q, NBD_REPLY_OFFSET_HOLE, sizeof body);
    chunk.flags = run->end == data->count ? NBD_REPLY_FLAG_DONE : 0;
    be64_store(body, off);
    if (run->zeros) {
        be32_store(body + 8, (uint32_t)run->len);
        put_chunk(c, &chunk, body, sizeof body);
        return;
    }
    chunk.type = NBD_REPLY_OFFSET_DATA;
    chunk.payload_len = 8 + run->len;
    put_chunk(c, &chunk, body, 8);
    const struct rt_piece *p = rt_chain_pieces(data);
    for (uint32_t i = run->first; i < run->end; i++) {
        (void)!net_send_ref(c->stream, p[i].buf, p[i].data, p[i].len);
    }
    nbd_count(&c->core->bytes_out, run->len);
}

static bool has_zeros(const struct rt_chain *data)
{
    const struct rt_piece *p = rt_chain_pieces(data);
    for (uint32_t i = 0; i < data->count; i++) {
        if (is_zeros(&p[i])) {
            return true;
        }
    }
    return false;
}

void nbd_reply_data(struct nbd_conn *c, const struct nbd_request *q, struct rt_chain *data)
{
    if (c->mode == NBD_MODE_SIMPLE) {
        put_simple(c, q, NBD_OK);
        nbd_count(&c->core->bytes_out, data->len);
        (void)!net_send_chain(c->stream, data);
        return;
    }
    if (!has_zeros(data) || q->flags & NBD_CMD_FLAG_DF) {
        uint8_t off[8];
        be64_store(off, q->off);
        struct nbd_chunk chunk = chunk_of(q, NBD_REPLY_OFFSET_DATA, 8 + data->len);
        put_chunk(c, &chunk, off, sizeof off);
        nbd_count(&c->core->bytes_out, data->len);
        (void)!net_send_chain(c->stream, data);
        return;
    }
    uint64_t off = q->off;
    for (uint32_t i = 0; i < data->count;) {
        struct run run = run_at(data, i);
        put_run(c, q, data, &run, off);
        off += run.len;
        i = run.end;
    }
    rt_chain_free(data);
}

void nbd_reply_status(struct nbd_conn *c, const struct nbd_request *q,
                      const struct bytes_writer *payload)
{
    enum nbd_reply_type type =
        c->mode == NBD_MODE_EXTENDED ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS;
    struct nbd_chunk chunk = chunk_of(q, type, payload->len);
    put_chunk(c, &chunk, "", 0);
    put(c, payload->data, payload->len);
}
