/* SPDX-License-Identifier: Apache-2.0 */
/* One request: what it does to the device, and its reply. */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "nbd/conn.h"

static int exec_write(struct nbd_job *job) WAITS
{
    unsigned flags = job->q.flags & NBD_CMD_FLAG_FUA ? DEV_FUA : 0;
    if (job->data) {
        return dev_write(job->c->dev, job->q.off, job->data, flags, NULL);
    }
    struct rt_chain data = {0};
    int r = rt_chain_add(&data, NULL, job->payload, (uint32_t)job->q.payload_len);
    if (r < 0) {
        return r;
    }
    r = dev_write(job->c->dev, job->q.off, &data, flags, NULL);
    rt_chain_free(&data);
    return r;
}

static uint32_t state_of(enum vol_extent_kind kind)
{
    switch (kind) {
    case VOL_EXTENT_HOLE:
        return NBD_STATE_HOLE | NBD_STATE_ZERO;
    case VOL_EXTENT_ZERO:
    case VOL_EXTENT_ANCHORED:
        return NBD_STATE_ZERO;
    case VOL_EXTENT_DATA:
    default:
        return 0;
    }
}

#define STATUS_MS 10u /* work of one request, about */

struct status {
    struct bytes_writer *out;
    bool ext;
    uint32_t count;
    uint64_t last_len;
    uint32_t last_state;
};

static void put_last(struct status *s)
{
    if (s->last_len == 0) {
        return;
    }
    if (s->ext) {
        bytes_put_be64(s->out, s->last_len);
        bytes_put_be64(s->out, s->last_state);
    } else {
        bytes_put_be32(s->out, (uint32_t)s->last_len);
        bytes_put_be32(s->out, s->last_state);
    }
    s->count++;
    s->last_len = 0;
}

/* Joins neighbours that look the same to the peer. False when max descriptors are full. */
static bool put_extent(struct status *s, const struct vol_extent *e, uint32_t max)
{
    uint32_t state = state_of(e->kind);
    if (s->last_len > 0 && s->last_state == state) {
        s->last_len += e->len;
        return true;
    }
    if (s->count + (s->last_len > 0) == max) {
        return false;
    }
    put_last(s);
    s->last_len = e->len;
    s->last_state = state;
    return true;
}

int nbd_exec_status(struct nbd_conn *c, const struct nbd_request *q,
                    struct bytes_writer *ret_payload)
{
    struct vol_extent extents[32];
    struct status s = {.out = ret_payload, .ext = c->mode == NBD_MODE_EXTENDED};
    uint32_t max = q->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_STATUS_EXTENTS_MAX;
    uint64_t off = q->off;
    uint64_t end = q->off + q->len;
    bool more = true;
    bytes_put_be32(ret_payload, NBD_CONTEXT_ALLOCATION_ID);
    if (s.ext) {
        bytes_put_be32(ret_payload, 0); /* the number of descriptors, below */
    }
    uint64_t enough_ns = rt_now_ns() + STATUS_MS * NS_PER_MS;
    while (more && off < end) {
        int n = dev_extents(c->dev, off, end - off, extents, max == 1 ? 2 : ARRAY_LEN(extents));
        if (n < 0) {
            return n;
        }
        for (int i = 0; i < n && more; i++) {
            more = put_extent(&s, &extents[i], max);
            off = extents[i].off + extents[i].len;
        }
        /* Less than was asked for is an answer too; the peer asks on. */
        more = more && n > 0 && rt_now_ns() < enough_ns && rt_pass() >= 0;
    }
    put_last(&s);
    if (ret_payload->failed) {
        return -ENOMEM;
    }
    if (s.ext) {
        be32_store(ret_payload->data + 4, s.count);
    }
    return s.count > 0 ? 0 : -EIO;
}

static int exec_simple(struct nbd_job *job) WAITS
{
    const struct nbd_request *q = &job->q;
    struct dev *d = job->c->dev;
    unsigned flags = q->flags & NBD_CMD_FLAG_FUA ? DEV_FUA : 0;
    if (q->command == NBD_CMD_FLUSH || flags) {
        int r = dev_check_loss(d, &job->c->watch);
        if (unlikely(r < 0)) {
            return r;
        }
    }
    if (q->command == NBD_CMD_FLUSH) {
        return dev_flush(d);
    }
    if (q->len == 0) {
        return flags ? dev_flush(d) : 0; /* unspecified; no error */
    }
    switch (q->command) {
    case NBD_CMD_WRITE:
        return exec_write(job);
    case NBD_CMD_TRIM:
        return dev_discard(d, q->off, q->len, flags);
    case NBD_CMD_WRITE_ZEROES:
        flags |= q->flags & NBD_CMD_FLAG_NO_HOLE ? DEV_NO_HOLE : 0;
        return dev_zero(d, q->off, q->len, flags);
    case NBD_CMD_CACHE:
        return dev_prefetch(d, q->off, q->len);
    default:
        return -EINVAL;
    }
}

static int exec_read(struct nbd_job *job) WAITS
{
    struct rt_chain data = {0};
    if (job->q.len == 0) {
        nbd_reply_ok(job->c, &job->q);
        return 0;
    }
    int r = dev_read(job->c->dev, job->q.off, (uint32_t)job->q.len, &data);
    if (likely(r >= 0)) {
        nbd_reply_data(job->c, &job->q, &data);
    }
    return r;
}

static int exec_block_status(struct nbd_job *job) WAITS
{
    struct bytes_writer payload = {0};
    int r = nbd_exec_status(job->c, &job->q, &payload);
    if (r >= 0) {
        nbd_reply_status(job->c, &job->q, &payload);
    }
    bytes_writer_free(&payload);
    return r;
}

/* Does the request and queues its reply, unless it gives an error. */
static int execute(struct nbd_job *job) WAITS
{
    if (likely(job->q.command == NBD_CMD_READ)) {
        return exec_read(job);
    }
    if (job->q.command == NBD_CMD_BLOCK_STATUS) {
        return exec_block_status(job);
    }
    int r = exec_simple(job);
    if (likely(r >= 0)) {
        nbd_reply_ok(job->c, &job->q);
    }
    return r;
}

static void complain(const struct nbd_job *job, int r)
{
    if (nbd_error_of(r) == NBD_EIO) {
        msg_warn_paced("nbd", "%s: command %u at %llu+%llu failed: %s (%s)", job->c->peer,
                       job->q.command, (unsigned long long)job->q.off,
                       (unsigned long long)job->q.len, err_text(r), err_name(r));
    }
}

static void count_latency(struct nbd_core *core, uint64_t start_ns)
{
    uint64_t us = (rt_turn_ns() - start_ns) / NS_PER_US;
    unsigned bucket = us == 0 ? 0 : 64u - (unsigned)__builtin_clzll(us);
    nbd_count(&core->latency_us_log2[MIN_OF(bucket, 31u)], 1);
}

static void finish(struct nbd_job *job)
{
    struct nbd_conn *c = job->c;
    nbd_job_drop_data(job);
    if (job->credits > 0) {
        c->ingress_bytes -= job->q.payload_len;
        rt_credits_give(&c->server->ingress, job->credits);
    }
    if (job->rx) {
        nbd_rx_unpin(c, job);
    }
    if (job->q.command == NBD_CMD_READ) {
        c->egress_bytes -= job->q.len;
    }
    c->inflight--;
    if (c->newest == job) {
        c->newest = NULL;
    }
    nbd_count(&c->core->requests_ended, 1);
    count_latency(c->core, job->start_ns);
    rt_gate_wake(&c->gate);
}

void nbd_exec(void *arg)
{
    struct nbd_job job = *(const struct nbd_job *)arg;
    job.c->newest = &job;
    int r = execute(&job);
    if (unlikely(r < 0)) {
        complain(&job, r);
        nbd_reply_failure(job.c, &job.q, r);
    }
    finish(&job);
}
