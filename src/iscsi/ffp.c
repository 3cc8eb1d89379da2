/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Full feature phase: takes requests off the connection, in the order of their CmdSN, and never
 * waits for anything but the socket.
 *
 * ORDER (RFC 7143 §4.2.2.1) is the session's, whichever of its connections a request comes on. One
 * whose CmdSN is ExpCmdSN is taken at once; one further on in the window is held until the ones
 * before it are there; any other is ignored. What is held goes with its connection, as if it had
 * never come: its CmdSN has not been acknowledged. Immediate requests
 * are taken at once, except for task management functions over whole task sets, which are held
 * until every command that is older than they has been taken (§11.5.1); a reset of the target does
 * not wait, for tmf.c takes what is missing as received. What is held may have data, of pings and
 * texts, up to ISCSI_HELD_BYTES; who sends more of it is disconnected.
 */
#include "base/err.h"
#include "base/msg.h"
#include "iscsi/rx.h"
#include "iscsi/sent.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX (ISCSI_WINDOW_MAX + ISCSI_IMMEDIATE_MAX)

static void answer_nop(struct iscsi_conn *c, const struct iscsi_request *q, const void *data,
                       size_t len)
{
    if (q->itt == ISCSI_TAG_NONE) {
        if (q->text.ttt == c->ping_ttt) {
            c->ping_ttt = ISCSI_TAG_NONE;
        }
        return;
    }
    struct iscsi_answer a = {.opcode = ISCSI_NOP_IN,
                             .flags = ISCSI_FINAL,
                             .lun = q->lun,
                             .itt = q->itt,
                             .ttt = ISCSI_TAG_NONE};
    iscsi_tx_answer(c, &a, data, (uint32_t)MIN_OF(len, c->params.send_len));
}

/* A request other than a SCSI command, whose turn it is. */
static int take_request(struct iscsi_conn *c, const struct iscsi_request *q, const void *data,
                        size_t len)
{
    if (q->opcode == ISCSI_TMF_REQUEST) {
        return iscsi_tmf_request(c, q);
    }
    if (!q->immediate) {
        iscsi_session_give(c->session);
    }
    switch (q->opcode) {
    case ISCSI_NOP_OUT:
        answer_nop(c, q, data, len);
        return 0;
    case ISCSI_TEXT_REQUEST:
        return iscsi_text_request(c, q, data, len);
    default:
        return iscsi_logout(c, q);
    }
}

static void free_held(struct iscsi_session *s, struct iscsi_held *h)
{
    s->held_bytes -= h->data.len;
    bytes_writer_free(&h->data);
    free(h);
}

static bool has_turn(const struct iscsi_session *s, const struct iscsi_held *h)
{
    if (h->req.immediate) {
        return !iscsi_sn_before(s->window.exp, h->req.cmdsn);
    }
    return h->req.cmdsn == s->window.exp;
}

/* It is no longer held. */
static struct iscsi_held *next_held(struct iscsi_session *s)
{
    list_for_each(&s->held, struct iscsi_held, link, h) {
        if (has_turn(s, h)) {
            list_remove(&h->link);
            s->held_count--;
            return h;
        }
    }
    return NULL;
}

bool iscsi_ffp_holds(struct iscsi_session *s, uint32_t cmdsn)
{
    list_for_each(&s->held, struct iscsi_held, link, h) {
        if (!h->req.immediate && h->req.cmdsn == cmdsn) {
            return true;
        }
    }
    return false;
}

static int take_turn(struct iscsi_session *s, struct iscsi_held *h)
{
    if (!h->req.immediate) {
        iscsi_window_take(&s->window);
    }
    if (h->task) {
        iscsi_command_start(h->task);
    } else if (!h->conn) {
        iscsi_session_give(s);
    } else {
        return take_request(h->conn, &h->req, h->data.data, h->data.len);
    }
    return 0;
}

/* Of another connection than the one at hand. Who has logged out is to hear so yet. */
static void end_other(struct iscsi_conn *c, int r)
{
    net_send_flush(c->stream); /* why it ends */
    if (!c->logout_due) {
        iscsi_conn_break(c, r);
        return;
    }
    c->broken = c->broken < 0 ? c->broken : r;
    net_recv_break_off(c->stream);
}

int iscsi_ffp_turn(struct iscsi_conn *c)
{
    struct iscsi_held *h;
    int own = 0;
    while ((h = next_held(c->session)) != NULL) {
        int r = take_turn(c->session, h);
        if (r < 0 && h->conn == c) {
            own = r;
        } else if (r < 0) {
            end_other(h->conn, r);
        }
        free_held(c->session, h);
    }
    return own;
}

static int hold(struct iscsi_conn *c, const struct iscsi_request *q, struct bytes_writer *data)
{
    struct iscsi_session *s = c->session;
    if (s->held_count >= HELD_MAX || s->held_bytes + data->len > ISCSI_HELD_BYTES) {
        return ERR_PROTOCOL;
    }
    struct iscsi_held *h = calloc(1, sizeof *h);
    if (!h) {
        return -ENOMEM;
    }
    h->conn = c;
    h->req = *q;
    h->data = *data;
    *data = (struct bytes_writer){0};
    s->held_bytes += h->data.len;
    list_push_back(&s->held, &h->link);
    s->held_count++;
    return 0;
}

/* Now, later, or never: for requests that are not SCSI commands. */
static enum iscsi_window_verdict judge(const struct iscsi_conn *c, const struct iscsi_request *q)
{
    if (!q->immediate) {
        return iscsi_window_judge(&c->session->window, q->cmdsn);
    }
    bool waits = q->opcode == ISCSI_TMF_REQUEST && q->tmf.function != SCSI_TMF_ABORT_TASK &&
                 q->tmf.function != SCSI_TMF_QUERY_TASK &&
                 q->tmf.function != SCSI_TMF_TASK_REASSIGN &&
                 !iscsi_tmf_is_of_target(q->tmf.function) &&
                 iscsi_sn_before(c->session->window.exp, q->cmdsn);
    return waits ? ISCSI_WINDOW_HOLD : ISCSI_WINDOW_NOW;
}

static int ordered_request(struct iscsi_conn *c, const struct iscsi_request *q,
                           struct bytes_writer *data)
{
    switch (judge(c, q)) {
    case ISCSI_WINDOW_DROP:
        return 0;
    case ISCSI_WINDOW_HOLD:
        if (!q->immediate && iscsi_ffp_holds(c->session, q->cmdsn)) {
            return 0; /* it came before */
        }
        return hold(c, q, data);
    case ISCSI_WINDOW_NOW:
        break;
    }
    if (!q->immediate) {
        iscsi_window_take(&c->session->window);
    }
    int r = take_request(c, q, data->data, data->len);
    if (r < 0 || list_is_empty(&c->session->held)) {
        return r;
    }
    return iscsi_ffp_turn(c);
}

/* With its data segment, which may not be long for these. */
static int take_with_data(struct iscsi_conn *c, const struct iscsi_header *h)
{
    struct iscsi_request q = h->req;
    struct bytes_writer data = {0};
    uint8_t bhs[ISCSI_BHS_BYTES];
    memcpy(bhs, h->bhs, sizeof bhs);
    int r = iscsi_rx_all(c, &data);
    if (r > 0) {
        iscsi_tx_reject(c, ISCSI_REJECT_DATA_DIGEST, bhs);
        /* Its CmdSN is missing: above ErrorRecoveryLevel 0 it comes again, else all starts again.
         */
        r = q.immediate || c->keeps ? 0 : ERR_PROTOCOL;
    } else if (r == 0) {
        r = ordered_request(c, &q, &data);
    }
    bytes_writer_free(&data);
    return r;
}

static int reject(struct iscsi_conn *c, enum iscsi_reject_reason reason, const uint8_t *bhs_at)
{
    uint8_t bhs[ISCSI_BHS_BYTES];
    memcpy(bhs, bhs_at, sizeof bhs);
    iscsi_tx_reject(c, reason, bhs);
    int r = iscsi_rx_end(c);
    return r < 0 ? r : 0;
}

/* A discovery session knows these alone: §4.3. */
static bool fits_discovery(uint8_t opcode)
{
    return opcode == ISCSI_TEXT_REQUEST || opcode == ISCSI_LOGOUT_REQUEST ||
           opcode == ISCSI_NOP_OUT;
}

void iscsi_conn_heard(struct iscsi_conn *c, uint32_t exp_statsn)
{
    if (c->told && iscsi_sn_before(c->told_statsn, exp_statsn) &&
        !iscsi_sn_before(c->statsn, exp_statsn)) {
        c->told = false;
        scsi_nexus_heard(c->session->nexus, c, true);
    }
}

void iscsi_conn_unheard(struct iscsi_conn *c)
{
    if (c->told) {
        c->told = false;
        scsi_nexus_heard(c->session->nexus, c, false);
    }
}

/* What has arrived at the initiator: every request tells. */
static void track(struct iscsi_conn *c, uint32_t exp_statsn)
{
    if (!iscsi_sn_before(c->acknowledged, exp_statsn) || iscsi_sn_before(c->statsn, exp_statsn)) {
        return;
    }
    c->acknowledged = exp_statsn;
    if (c->keeps) {
        iscsi_sent_acknowledge(c, exp_statsn);
    }
    iscsi_conn_heard(c, exp_statsn);
    if (c->session->fences > 0) {
        iscsi_fence_wake(c->session);
    }
}

static int dispatch(struct iscsi_conn *c, const struct iscsi_header *h)
{
    /* A logout of another connection tells of that one: §11.14.4. */
    bool of_other = h->req.opcode == ISCSI_LOGOUT_REQUEST &&
                    h->req.logout.reason != ISCSI_LOGOUT_SESSION && h->req.logout.cid != c->cid;
    if (unlikely(c->tracks) && !of_other) {
        track(c, h->req.exp_statsn);
    }
    if (h->req.data_len > c->params.recv_len) {
        iscsi_tx_reject(c, ISCSI_REJECT_PROTOCOL, h->bhs);
        return ERR_PROTOCOL;
    }
    if (!h->known) {
        return reject(c, ISCSI_REJECT_NOT_SUPPORTED, h->bhs);
    }
    if (c->session->discovery && !fits_discovery(h->req.opcode)) {
        return reject(c, ISCSI_REJECT_NOT_SUPPORTED, h->bhs);
    }
    switch (h->req.opcode) {
    case ISCSI_SCSI_COMMAND:
        return iscsi_command(c, &h->req, h->bhs, h->ahs);
    case ISCSI_DATA_OUT:
        return iscsi_data_out(c, &h->req, h->bhs);
    case ISCSI_SNACK_REQUEST:
        return iscsi_snack(c, &h->req, h->bhs);
    case ISCSI_LOGIN_REQUEST:
        iscsi_tx_reject(c, ISCSI_REJECT_PROTOCOL, h->bhs);
        return ERR_PROTOCOL;
    default:
        return take_with_data(c, h);
    }
}

static uint64_t idle_deadline(const struct iscsi_conn *c)
{
    unsigned intervals = c->ping_ttt == ISCSI_TAG_NONE ? 1 : 2;
    uint64_t deadline = c->rx.last_ns + intervals * c->server->nop_interval_ns;
    if (unlikely(c->sent_count > 0 || c->told) && intervals == 1) {
        deadline = MIN_OF(deadline, c->rx.last_ns + ISCSI_SOON_NS); /* so that it acknowledges */
    }
    return c->logout_requested ? MIN_OF(deadline, c->logout_by_ns) : deadline;
}

/* It was asked to log out, and has not: §11.9.1. */
static bool overstays(struct iscsi_conn *c)
{
    return unlikely(c->logout_requested) && rt_now_ns() >= c->logout_by_ns;
}

void iscsi_ping(struct iscsi_conn *c)
{
    if (c->ping_ttt != ISCSI_TAG_NONE) {
        return;
    }
    c->ping_ttt = iscsi_session_ttt(c->session);
    struct iscsi_answer a = {
        .opcode = ISCSI_NOP_IN, .flags = ISCSI_FINAL, .itt = ISCSI_TAG_NONE, .ttt = c->ping_ttt};
    uint8_t bhs[ISCSI_BHS_BYTES];
    struct iscsi_sn sn = iscsi_tx_sn(c); /* no StatSN is taken: §11.19.1 */
    iscsi_encode_answer(bhs, &a, &sn);
    iscsi_tx_copy(c, bhs, NULL, 0);
}

/* Nothing has come for an interval: is the peer still there? */
static int ping(struct iscsi_conn *c)
{
    uint64_t taken_ns = net_send_taken_ns(c->stream);
    if (taken_ns > c->rx.last_ns) {
        c->rx.last_ns = taken_ns; /* who takes what is queued is; a ping would come after it */
        return 0;
    }
    if (c->ping_ttt != ISCSI_TAG_NONE || c->session->discovery) {
        msg_info_paced("iscsi", "%s: %s: no sign of life", c->peer, c->session->initiator);
        return -ETIMEDOUT;
    }
    if (c->session->task_count == 0) {
        iscsi_task_pool_free(c->session);
    }
    iscsi_ping(c);
    return 0;
}

#define HINTS_MIN 3u /* for fewer it is not worth it */

/* Read commands that wait in the buffer, one after the other and for one unit, are looked at
 * together before the first of them. */
static void hint_reads(struct iscsi_conn *c)
{
    const uint8_t *cdbs[VOL_HINTS_MAX];
    uint32_t step = ISCSI_BHS_BYTES + (c->header_digest ? ISCSI_DIGEST_BYTES : 0);
    const struct iscsi_rx *rx = &c->rx;
    uint64_t lun = 0;
    size_t count = 0;
    if (c->hinted > 0) {
        c->hinted--;
        return;
    }
    for (uint32_t at = rx->head; rx->tail - at >= step && count < ARRAY_LEN(cdbs); at += step) {
        const uint8_t *bhs = rx->buf->data + at;
        if (!iscsi_is_plain_read(bhs) || (count > 0 && iscsi_lun_of(bhs) != lun)) {
            break;
        }
        lun = iscsi_lun_of(bhs);
        cdbs[count++] = iscsi_cdb_of(bhs);
    }
    if (count >= HINTS_MIN && c->session->nexus) {
        scsi_hint_reads(c->session->nexus, lun, cdbs, count);
        c->hinted = (uint32_t)count - 1;
    }
}

static int next_request(struct iscsi_conn *c)
{
    struct iscsi_header h;
    hint_reads(c);
    if (unlikely(net_send_queued(c->stream) > ISCSI_EGRESS_HARD)) {
        c->reads_nothing = true;
        int r = net_send_wait(c->stream, ISCSI_EGRESS_HARD / 2);
        c->reads_nothing = false;
        c->data_out_ns = rt_now_ns(); /* what lay there may come from now on */
        if (r < 0 || c->broken < 0) {
            return r < 0 ? r : c->broken;
        }
    }
    int r = iscsi_rx_header(c, idle_deadline(c), &h);
    if (r == -ETIMEDOUT) {
        if (overstays(c)) {
            return 0;
        }
        return ping(c);
    }
    return r < 0 ? r : dispatch(c, &h);
}

static bool is_poked(struct iscsi_conn *c)
{
    return atomic_load_explicit(&c->pokes, memory_order_relaxed) != 0 ||
           atomic_load_explicit(&c->session->pokes, memory_order_relaxed) != 0;
}

int iscsi_ffp_run(struct iscsi_conn *c)
{
    unsigned taken = 0;
    if (c->poked) {
        iscsi_conn_do(c, c->poked);
    }
    for (;;) {
        int r = next_request(c);
        if (overstays(c) && r >= 0) {
            iscsi_conn_poke(c, ISCSI_POKE_ASYNC_DROP);
        }
        if (r < 0) {
            return r;
        }
        if (unlikely(is_poked(c))) {
            iscsi_conn_heed(c);
        }
        if (c->broken < 0) {
            return c->broken;
        }
        taken = iscsi_rx_ready(c) ? taken + 1 : 0;
        if (taken >= ISCSI_TURN_PDUS) {
            taken = 0;
            rt_yield();
            if (c->broken < 0) {
                return c->broken; /* what the buffer has of it has never come */
            }
        }
    }
}

void iscsi_ffp_drop_held(struct iscsi_session *s, const struct iscsi_conn *c)
{
    list_for_each(&s->held, struct iscsi_held, link, h) {
        if (h->conn == c) {
            list_remove(&h->link);
            s->held_count--;
            if (h->task) {
                iscsi_task_free(h->task);
            }
            free_held(s, h);
        }
    }
}
