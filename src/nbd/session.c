/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transmission phase of one connection.
 *
 * One turn takes all that has arrived, starts every complete request, at most NBD_TURN_REQUESTS of
 * them, and lets the turn end: then all replies that are ready go out at once. A request served
 * from memory has ended when starting it returns.
 *
 * LIMITS. Before a request is started there is room for it among the connection's requests, its
 * payload is within the ingress budget, and its reply within the egress limit. Where there is not,
 * this connection alone stops reading until requests end or the peer takes its replies. A request
 * larger than a limit goes alone.
 */
#include "base/err.h"
#include "base/msg.h"
#include "nbd/conn.h"

static int wait_ended(struct nbd_conn *c) WAITS
{
    return rt_gate_wait(&c->gate, RT_FOREVER);
}

static int wait_egress(struct nbd_conn *c, uint64_t len) WAITS
{
    for (;;) {
        uint64_t queued = net_send_queued(c->stream);
        uint64_t all = queued + c->egress_bytes;
        if (all == 0 || all + len <= NBD_EGRESS_MAX) {
            return 0;
        }
        int r;
        if (c->egress_bytes == 0 || queued > NBD_EGRESS_MAX / 2) {
            r = net_send_wait(c->stream, queued / 2);
        } else {
            r = wait_ended(c);
        }
        if (r < 0) {
            return r;
        }
    }
}

static int wait_capacity(struct nbd_conn *c, const struct nbd_request *q) WAITS
{
    while (unlikely(c->inflight >= NBD_INFLIGHT_MAX)) {
        int r = wait_ended(c);
        if (r < 0) {
            return r;
        }
    }
    return wait_egress(c, q->command == NBD_CMD_READ ? q->len : 0);
}

static void begin(struct nbd_conn *c, const struct nbd_job *job)
{
    c->inflight++;
    if (job->q.command == NBD_CMD_READ) {
        c->egress_bytes += job->q.len;
    }
    nbd_count(&c->core->requests, 1);
}

/* Fibers are many but not endless: then one of ours has to end first, or anybody's. */
static int spawn(struct nbd_conn *c, struct nbd_job *job) WAITS
{
    for (;;) {
        c->newest = NULL;
        int r = rt_group_spawn_now(c->group, "nbd-request", nbd_exec, job);
        if (likely(r != -EAGAIN)) {
            return r;
        }
        r = c->inflight > 1 ? wait_ended(c) : rt_sleep_ms(1);
        if (r < 0) {
            return r;
        }
    }
}

/* It was begun, and no fiber came to be for it. */
static void unbegin(struct nbd_conn *c, struct nbd_job *job)
{
    c->inflight--;
    if (job->q.command == NBD_CMD_READ) {
        c->egress_bytes -= job->q.len;
    }
    if (job->credits > 0) {
        c->ingress_bytes -= job->q.payload_len;
        rt_credits_give(&c->server->ingress, job->credits);
    }
    nbd_job_drop_data(job);
    nbd_count(&c->core->requests_ended, 1);
}

static int start(struct nbd_conn *c, struct nbd_job *job) WAITS
{
    begin(c, job);
    int r = spawn(c, job);
    if (unlikely(r < 0)) {
        unbegin(c, job);
        return r;
    }
    struct nbd_job *waits = c->newest;
    c->newest = NULL;
    if (unlikely(waits != NULL) && waits->payload && !waits->credits) {
        nbd_rx_pin(c, waits);
    }
    return 0;
}

/* The payload is received into buffers of its own. The credits are taken already. */
static int take_payload(struct nbd_conn *c, struct nbd_job *job) WAITS
{
    uint64_t len = job->q.payload_len;
    job->data = calloc(1, sizeof *job->data);
    int r = job->data ? nbd_rx_take_pages(c, job->q.off, len, job->data) : -ENOMEM;
    if (r < 0) {
        nbd_job_drop_data(job);
        rt_credits_give(&c->server->ingress, job->credits);
        return r;
    }
    c->ingress_bytes += len;
    return 0;
}

/* One piece of a write that passes through; after an error the rest is only received. */
static int pass_piece(struct nbd_conn *c, const struct nbd_request *q, uint64_t from, int *result)
    WAITS
{
    uint32_t n = (uint32_t)MIN_OF(q->len - from, NBD_PASS_BYTES);
    struct rt_chain data = {0};
    struct rt_buf *b;
    int r = rt_buf_alloc(n, RT_MEM_INGRESS, &b);
    if (r < 0) {
        return r;
    }
    r = nbd_rx_take(c, b->data, n);
    if (r >= 0 && *result >= 0) {
        r = rt_chain_add(&data, b, b->data, n);
    }
    rt_buf_unref(b);
    bool durable = q->flags & NBD_CMD_FLAG_FUA && from + n == q->len;
    /* Of what was lost it is told once all of it has come, and at once. */
    if (r >= 0 && *result >= 0 && durable) {
        *result = dev_check_loss(c->dev, &c->watch);
    }
    if (r >= 0 && *result >= 0) {
        *result = dev_write(c->dev, q->off + from, &data, durable ? DEV_FUA : 0, NULL);
    }
    rt_chain_free(&data);
    return r;
}

/*
 * A large write when the server's pool for them is used up, perhaps by peers that do not go on: it
 * is received and written piece by piece. That needs nothing that others hold, and holds up this
 * connection alone.
 */
static int pass_through(struct nbd_conn *c, const struct nbd_request *q) WAITS
{
    int result = 0;
    int r = 0;
    nbd_count(&c->core->requests, 1);
    for (uint64_t from = 0; from < q->len && r >= 0; from += NBD_PASS_BYTES) {
        r = pass_piece(c, q, from, &result);
    }
    nbd_count(&c->core->requests_ended, 1);
    if (r < 0) {
        return r;
    }
    if (result < 0) {
        nbd_reply_failure(c, q, result);
    } else {
        nbd_reply_ok(c, q);
    }
    return 0;
}

/* Room in the connection's own ingress budget. */
static int wait_ingress(struct nbd_conn *c, uint64_t len) WAITS
{
    while (c->ingress_bytes > 0 && c->ingress_bytes + len > NBD_INGRESS_MAX) {
        int r = wait_ended(c);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int refuse(struct nbd_conn *c, const struct nbd_request *q, enum nbd_error error) WAITS
{
    if (q->payload_len > NBD_DRAIN_MAX) {
        msg_warn_paced("nbd", "%s: a payload of %llu bytes is too large; closing", c->peer,
                       (unsigned long long)q->payload_len);
        return -EPROTO;
    }
    int r = nbd_rx_skip(c, q->payload_len);
    if (r < 0) {
        return r;
    }
    nbd_count(&c->core->requests, 1);
    nbd_count(&c->core->requests_ended, 1);
    nbd_reply_error(c, q, error);
    return wait_egress(c, 0);
}

/* BLOCK_STATUS with a payload says there what it is about. */
static int status_payload(struct nbd_conn *c, struct nbd_request *q, enum nbd_error *ret_error)
    WAITS
{
    uint8_t bytes[NBD_STATUS_PAYLOAD_MAX / 64];
    size_t len = q->payload_len;
    if (len > sizeof bytes) {
        *ret_error = NBD_EINVAL;
        return 0;
    }
    int r = nbd_rx_take(c, bytes, len);
    if (r < 0) {
        return r;
    }
    q->payload_len = 0;
    if (nbd_status_payload_decode(bytes, len, &q->len) < 0) {
        *ret_error = NBD_EINVAL;
    }
    return 0;
}

static enum nbd_error admit(struct nbd_conn *c, const struct nbd_request *q)
{
    if (unlikely(atomic_load_explicit(&c->server->draining, memory_order_relaxed))) {
        return NBD_ESHUTDOWN;
    }
    if (unlikely(dev_is_gone(c->dev))) {
        return NBD_ESHUTDOWN;
    }
    enum nbd_error e = nbd_request_check(q, c->mode, c->has_context);
    return likely(e == NBD_OK) ? nbd_request_check_range(q, dev_size(c->dev)) : e;
}

/* The header has been consumed, and a small payload too. */
static int handle(struct nbd_conn *c, struct nbd_request *q, const uint8_t *payload) WAITS
{
    struct nbd_job job = {.c = c, .payload = payload, .start_ns = rt_turn_ns()};
    int r = wait_capacity(c, q);
    if (unlikely(r < 0)) {
        return r;
    }
    job.q = *q;
    nbd_count(&c->core->bytes_in, q->payload_len);
    if (q->payload_len > 0 && !payload) {
        r = wait_ingress(c, q->payload_len);
        if (r < 0) {
            return r;
        }
        job.credits = MIN_OF(q->payload_len, c->server->ingress.total / 4);
        if (!rt_credits_try(&c->server->ingress, job.credits)) {
            return pass_through(c, q);
        }
        r = take_payload(c, &job);
        if (r < 0) {
            return r;
        }
    }
    return start(c, &job);
}

enum step {
    STEP_DONE, /* one request was handled */
    STEP_MORE, /* the next one is not there yet */
    STEP_DISC,
};

static int step(struct nbd_conn *c) WAITS
{
    size_t header = nbd_request_bytes(c->mode);
    if (c->tail - c->head < header) {
        return STEP_MORE;
    }
    struct nbd_request q;
    const uint8_t *at = c->rx->buf->data + c->head;
    int r = nbd_request_decode(at, c->mode, &q);
    if (unlikely(r < 0)) {
        msg_warn_paced("nbd", "%s: not an NBD request; closing", c->peer);
        return r;
    }
    if (unlikely(q.command == NBD_CMD_DISC)) {
        return STEP_DISC;
    }
    bool small = q.payload_len > 0 && q.payload_len < NBD_LARGE_WRITE;
    if (small && c->tail - c->head < header + q.payload_len) {
        c->large = false;
        return STEP_MORE;
    }
    c->head += (uint32_t)header;
    enum nbd_error error = NBD_OK;
    if (unlikely(q.command == NBD_CMD_BLOCK_STATUS && q.payload_len > 0)) {
        r = status_payload(c, &q, &error);
        if (r < 0) {
            return r;
        }
    }
    if (likely(error == NBD_OK)) {
        error = admit(c, &q);
    }
    if (unlikely(error != NBD_OK)) {
        r = refuse(c, &q, error);
        return r < 0 ? r : STEP_DONE;
    }
    /* What is consumed stays in place until the buffer is filled again, and that minds the pins. */
    c->head += small ? (uint32_t)q.payload_len : 0;
    c->large = q.payload_len >= NBD_LARGE_WRITE;
    r = handle(c, &q, small ? at + header : NULL);
    return r < 0 ? r : STEP_DONE;
}

/* Reads that came one after the other. */
struct reads {
    size_t count;
    struct nbd_request q[VOL_READY_MAX];
    struct vol_ready at[VOL_READY_MAX];
};

/* Takes reads off the buffer as long as nothing has to be waited for on their behalf. */
static void collect_reads(struct nbd_conn *c, struct reads *s)
{
    uint32_t header = (uint32_t)nbd_request_bytes(c->mode);
    uint64_t egress = net_send_queued(c->stream) + c->egress_bytes;
    s->count = 0;
    while (s->count < VOL_READY_MAX && c->tail - c->head >= header) {
        struct nbd_request *q = &s->q[s->count];
        if (nbd_request_decode(c->rx->buf->data + c->head, c->mode, q) < 0 ||
            q->command != NBD_CMD_READ || q->payload_len > 0 || q->len == 0 ||
            admit(c, q) != NBD_OK || egress + q->len > NBD_EGRESS_MAX) {
            return;
        }
        struct vol_ready *at = &s->at[s->count++];
        at->off = q->off;
        at->len = (uint32_t)q->len;
        rt_chain_init(&at->data);
        egress += q->len;
        c->head += header;
        c->large = false;
    }
}

/*
 * Serves the reads that wait in the buffer: those that memory has are answered here and now,
 * without a fiber; the others go the usual way. Their number.
 */
static int serve_reads(struct nbd_conn *c) WAITS
{
    struct reads s;
    collect_reads(c, &s);
    if (s.count == 0) {
        return 0;
    }
    size_t served = 0;
    dev_read_ready(c->dev, s.at, s.count);
    for (size_t i = 0; i < s.count; i++) {
        if (likely(s.at[i].result == 0)) {
            nbd_reply_data(c, &s.q[i], &s.at[i].data);
            served++;
        }
    }
    nbd_count(&c->core->requests, served);
    nbd_count(&c->core->requests_ended, served);
    nbd_count(&c->core->latency_us_log2[0], served);
    for (size_t i = 0; i < s.count && served < s.count; i++) {
        if (s.at[i].result == 0) {
            continue;
        }
        int r = handle(c, &s.q[i], NULL);
        if (r < 0) {
            return r;
        }
    }
    return (int)s.count;
}

/* All complete requests, in turns. */
static int take_requests(struct nbd_conn *c) WAITS
{
    for (unsigned n = 0;;) {
        int r = serve_reads(c);
        if (r < 0) {
            return r;
        }
        n += (unsigned)r;
        if (r < (int)VOL_READY_MAX) {
            r = step(c);
            if (r != STEP_DONE) {
                return r;
            }
            n++;
        }
        if (n >= NBD_TURN_REQUESTS) {
            n = 0;
            r = rt_pass();
            if (r < 0) {
                return r;
            }
        }
    }
}

/* What is under way is answered; then the last replies go out. */
static int finish(struct nbd_conn *c) WAITS
{
    while (c->inflight > 0) {
        int r = wait_ended(c);
        if (r < 0) {
            return r;
        }
    }
    return net_send_wait(c->stream, 0);
}

/* True when it is to go on at c->next_core, and nothing ties it to this one. */
static bool moves(struct nbd_conn *c)
{
    if (likely(!net_place_due(c->stream)) || c->inflight > 0 || rt_stacks_are_scarce()) {
        return false;
    }
    net_send_flush(c->stream);
    if (net_send_queued(c->stream) > 0) {
        return false;
    }
    c->next_core = net_place(c->stream);
    return c->next_core != rt_core_self();
}

/*
 * Something has come after everything was answered, or the end. The protocol has no acknowledgement
 * of a reply, and this is the next best: the client goes on, or leaves in peace (with DISC, or with
 * the end of its stream alone), and nothing that was sent to it is still on its way. Whose replies
 * never stop is told again on its next connection.
 */
static void hear(struct nbd_conn *c)
{
    if (net_send_taken(c->stream)) {
        c->told = false;
        dev_loss_heard(c->dev, &c->watch);
    }
}

int nbd_session(struct nbd_conn *c)
{
    for (;;) {
        int r = take_requests(c);
        if (r == STEP_DISC) {
            return finish(c);
        }
        if (r < 0) {
            return r;
        }
        if (moves(c)) {
            return NBD_MOVES;
        }
        bool hears = unlikely(c->told) && c->inflight == 0 && c->head == c->tail;
        ssize_t n = nbd_rx_fill(c);
        if (unlikely(hears) && n >= 0) {
            hear(c);
        }
        if (n == 0) {
            return finish(c); /* the peer may have closed its side only */
        }
        if (n < 0) {
            return (int)n;
        }
    }
}
