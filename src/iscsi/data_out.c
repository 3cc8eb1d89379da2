/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data from the initiator: unsolicited Data-Out, R2T and what answers it (RFC 7143 §4.2.5.2, §11.7,
 * §11.8).
 *
 * Order is checked to the byte (DataPDUInOrder and DataSequenceInOrder are Yes): each sequence has
 * its next offset and DataSN, and whatever else comes is an error of the protocol, which
 * ends the connection. Data for a task that is no longer there is passed over: it may have been
 * aborted.
 *
 * LOSSES. A PDU with a wrong data digest is lost, and a gap in DataSN says that one was. At
 * ErrorRecoveryLevel 0 the command fails with its sequence. Above, what follows in the sequence is
 * passed over until F, and then a recovery R2T, with a number of its own, asks for all from the
 * loss on; so it does when a later sequence begins before the end of an earlier one, or when
 * nothing comes for a while.
 */
#include "base/err.h"
#include "base/msg.h"
#include "iscsi/rx.h"
#include "iscsi/task.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <string.h>

int iscsi_data_receive(struct iscsi_conn *c, struct iscsi_task *t, uint32_t offset)
{
    uint32_t end = offset + c->rx.segment;
    c->rx_task = t;
    while (offset < end) {
        uint32_t len;
        struct rt_buf *buf;
        uint8_t *to = iscsi_gather_at(&t->gather, offset, &len, &buf);
        len = MIN_OF(len, end - offset);
        /* The task may end while its bytes are on their way: the buffer stays for them. */
        rt_buf_ref(buf);
        int r = iscsi_rx_data(c, to, len);
        rt_buf_unref(buf);
        if (r < 0) {
            return r;
        }
        offset += len;
        if (c->rx_task != t) {
            break;
        }
    }
    int r = iscsi_rx_end(c);
    return r;
}

static int protocol_error(struct iscsi_conn *c, const uint8_t *bhs, const char *why)
{
    msg_warn_paced("iscsi", "%s: %s: Data-Out: %s", c->peer, c->session->initiator, why);
    iscsi_tx_reject(c, ISCSI_REJECT_PROTOCOL, bhs);
    return ERR_PROTOCOL;
}

static struct iscsi_burst *find_burst(struct iscsi_task *t, uint32_t ttt)
{
    for (unsigned i = 0; i < ISCSI_R2T_MAX; i++) {
        if (t->bursts[i].len > 0 && t->bursts[i].ttt == ttt) {
            return &t->bursts[i];
        }
    }
    return NULL;
}

/* What is wrong with the PDU, or NULL. */
static const char *check_unsolicited(const struct iscsi_task *t, const struct iscsi_request *q)
{
    if (q->data_out.offset != t->unsolicited_at) {
        return "unsolicited data out of sequence";
    }
    if (q->data_len > t->unsolicited_max - t->unsolicited_at) {
        return "more than FirstBurstLength";
    }
    return NULL;
}

static const char *check_burst(const struct iscsi_burst *b, const struct iscsi_request *q)
{
    if (q->data_out.offset != b->offset + b->got) {
        return "out of sequence";
    }
    if (q->data_len > b->len - b->got) {
        return "more than was asked for";
    }
    if (q->final != (b->got + q->data_len == b->len)) {
        return "the F bit is not where the sequence ends";
    }
    return NULL;
}

/* The PDU is dealt with; its sequence ends with F. b is NULL for unsolicited data. */
static void account(struct iscsi_task *t, struct iscsi_burst *b, const struct iscsi_request *q)
{
    if (!b) {
        t->unsolicited_at += q->data_len;
        t->unsolicited_sn = q->data_out.datasn + 1;
        t->unsolicited = !q->final;
    } else {
        b->got += q->data_len;
        b->datasn = q->data_out.datasn + 1;
        if (q->final) {
            *b = (struct iscsi_burst){0};
            t->open--;
        }
    }
    if (q->final && t->waits) {
        rt_event_set(&t->wake);
    }
}

static void send_burst(struct iscsi_task *t, const struct iscsi_burst *b)
{
    struct iscsi_conn *c = t->conn;
    struct iscsi_r2t p = {.lun = t->lun,
                          .itt = t->itt,
                          .ttt = b->ttt,
                          .r2tsn = b->r2tsn,
                          .offset = b->offset,
                          .len = b->len};
    uint8_t bhs[ISCSI_BHS_BYTES];
    struct iscsi_sn sn = iscsi_tx_sn(c);
    iscsi_encode_r2t(bhs, &p, &sn);
    iscsi_tx_copy(c, bhs, NULL, 0);
}

void iscsi_r2t_again(struct iscsi_task *t, const struct iscsi_burst *b)
{
    if (t->conn->broken == 0) {
        send_burst(t, b);
    }
}

/* A recovery R2T: for what is missing of it. */
static void ask_again(struct iscsi_task *t, struct iscsi_burst *b)
{
    *b = (struct iscsi_burst){.ttt = iscsi_session_ttt(t->conn->session),
                              .offset = b->offset + b->got,
                              .len = b->len - b->got,
                              .r2tsn = t->r2tsn++};
    send_burst(t, b);
}

/* The PDU is lost, or follows one that was. */
static void pass_over(struct iscsi_task *t, struct iscsi_burst *b, const struct iscsi_request *q)
{
    if (b) {
        b->lost = true;
        b->datasn = q->data_out.datasn + 1;
        if (q->final) {
            ask_again(t, b);
        }
        return;
    }
    t->unsolicited_lost = true;
    t->unsolicited_sn = q->data_out.datasn + 1;
    t->unsolicited = !q->final;
    if (q->final && t->waits) {
        rt_event_set(&t->wake);
    }
}

/* Sequences come in order: what is missing of older ones will not come. */
static void ask_for_older(struct iscsi_task *t, uint32_t r2tsn)
{
    for (unsigned i = 0; i < ISCSI_R2T_MAX; i++) {
        struct iscsi_burst *b = &t->bursts[i];
        if (b->len > 0 && iscsi_sn_before(b->r2tsn, r2tsn)) {
            ask_again(t, b);
        }
    }
}

static int skip(struct iscsi_conn *c)
{
    int r = iscsi_rx_end(c);
    return r < 0 ? r : 0;
}

/*
 * A gap in DataSN means that a PDU was lost to a digest error (§7.9), and so do data after one:
 * they are passed over until the F bit, and the command ends with CHECK CONDITION (§7.8).
 */
static bool is_gap(struct iscsi_task *t, const struct iscsi_burst *b, const struct iscsi_request *q)
{
    bool lost = t->data_lost || (b ? b->lost : t->unsolicited_lost);
    lost = lost || q->data_out.datasn != (b ? b->datasn : t->unsolicited_sn);
    t->data_lost = lost && !t->conn->keeps;
    return lost;
}

static void give_over(struct iscsi_task *t, struct iscsi_burst *b, const struct iscsi_request *q)
{
    if (t->conn->keeps && !t->no_memory) {
        pass_over(t, b, q);
    } else {
        account(t, b, q);
    }
}

/* Receives the data to where they belong. 0, 1: lost, or negative. */
static int take_data(struct iscsi_conn *c, struct iscsi_task *t, const struct iscsi_request *q,
                     const uint8_t *bhs)
{
    int r = iscsi_data_receive(c, t, q->data_out.offset);
    if (r > 0) {
        iscsi_tx_reject(c, ISCSI_REJECT_DATA_DIGEST, bhs);
    }
    return r;
}

int iscsi_data_out(struct iscsi_conn *c, const struct iscsi_request *q, const uint8_t *bhs_at)
{
    uint8_t bhs[ISCSI_BHS_BYTES];
    memcpy(bhs, bhs_at, sizeof bhs);
    c->data_out_ns = c->rx.last_ns;
    struct iscsi_task *t = iscsi_task_find(c->session, q->itt);
    if (!t || t->conn != c) {
        return skip(c);
    }
    bool solicited = q->data_out.ttt != ISCSI_TAG_NONE;
    struct iscsi_burst *b = solicited ? find_burst(t, q->data_out.ttt) : NULL;
    if (c->keeps && (solicited ? !b : !t->unsolicited)) {
        return skip(c); /* a second copy, or the late answer to what was asked for again */
    }
    if (solicited ? !b : !t->unsolicited) {
        return protocol_error(c, bhs, "data that were neither asked for nor announced");
    }
    if (t->no_memory || is_gap(t, b, q)) {
        give_over(t, b, q);
        return skip(c);
    }
    if (unlikely(c->keeps) && b) {
        ask_for_older(t, b->r2tsn);
    }
    const char *why = b ? check_burst(b, q) : check_unsolicited(t, q);
    if (why) {
        return protocol_error(c, bhs, why);
    }
    int r = take_data(c, t, q, bhs);
    if (r < 0 || c->rx_task != t) {
        return r < 0 ? r : 0; /* it ended meanwhile */
    }
    c->rx_task = NULL;
    if (r > 0) {
        t->data_lost = !c->keeps;
        give_over(t, b, q);
    } else {
        account(t, b, q);
    }
    return 0;
}

/* True when the fiber need not wait any more, whatever for. */
static bool is_over(const struct iscsi_task *t)
{
    const struct iscsi_conn *c = t->conn;
    return scsi_task_is_aborted(&t->scsi) || (c->broken < 0 && !iscsi_conn_orphans(c));
}

/* Nothing has come for long. At ErrorRecoveryLevel 1 it is asked for once more. */
static void remind_or_drop(struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    if (c->keeps && !t->asked_again) {
        t->asked_again = true;
        t->unsolicited_lost = t->unsolicited_lost || t->unsolicited;
        t->unsolicited = false;
        rt_event_set(&t->wake);
        ask_for_older(t, t->r2tsn);
        return;
    }
    msg_warn_paced("iscsi", "%s: %s does not send the data it was asked for", c->peer,
                   c->session->initiator);
    iscsi_tx_async(c, ISCSI_ASYNC_DROP_CONNECTION,
                   (uint16_t[3]){c->cid, (uint16_t)c->params.time2wait,
                                 (uint16_t)(c->params.recovery == 2 ? c->params.time2retain : 0)});
    net_send_flush(c->stream);
    iscsi_conn_break(c, -ETIMEDOUT);
}

/* Without a connection, as long as it takes until there is one. */
static uint64_t more_deadline(const struct iscsi_task *t, uint64_t last_ns)
{
    const struct iscsi_conn *c = t->conn;
    if (c->broken < 0) {
        return RT_FOREVER;
    }
    return last_ns + (c->keeps && !t->asked_again ? ISCSI_REMIND_NS : ISCSI_DATA_OUT_NS);
}

/* When the connection last had data, or the chance to have some. */
static uint64_t heard_ns(const struct iscsi_conn *c)
{
    return c->reads_nothing ? rt_now_ns() : c->data_out_ns;
}

static int wait_for_more(struct iscsi_task *t)
{
    uint64_t begin = rt_now_ns();
    for (;;) {
        const struct iscsi_conn *c = t->conn;
        uint64_t last = MAX_OF(begin, heard_ns(c));
        int r = rt_event_wait(&t->wake, more_deadline(t, last));
        if (is_over(t)) {
            return -ECANCELED;
        }
        if (r != -ETIMEDOUT) {
            return r;
        }
        if (t->conn != c) {
            begin = rt_now_ns();
        } else if (c->broken == 0 && MAX_OF(begin, heard_ns(c)) == last) {
            remind_or_drop(t);
            begin = rt_now_ns();
            if (is_over(t)) {
                return -ECANCELED;
            }
        }
    }
}

/*
 * Of a task that a function over a whole task set has aborted: the data that were asked for by R2T
 * are waited for (§4.2.3.3), unless FastAbort was agreed on (§4.2.3.4). There are initiators that
 * do not send them all the same, so not for long.
 */
static void await_bursts(struct iscsi_task *t)
{
    uint64_t begin = rt_now_ns();
    while (t->open > 0 && t->conn->broken == 0) {
        uint64_t last = MAX_OF(begin, t->conn->data_out_ns);
        rt_event_reset(&t->wake);
        int r = rt_event_wait(&t->wake, last + ISCSI_ABORT_DATA_NS);
        if (r == -ECANCELED || (r == -ETIMEDOUT && MAX_OF(begin, t->conn->data_out_ns) == last)) {
            return;
        }
    }
}

/* An aborted task's unsolicited data need not come any more; without a connection nothing does. */
int iscsi_data_settle(struct iscsi_task *t)
{
    const struct scsi_task *s = &t->scsi;
    bool asked = t->open > 0 && s->aborted && s->by_set && !s->by_other;
    if (unlikely(asked && t->conn->params.reporting != ISCSI_FAST_ABORT)) {
        await_bursts(t);
    }
    while (t->unsolicited) {
        rt_event_reset(&t->wake);
        if (is_over(t)) {
            return -ECANCELED;
        }
        int r = wait_for_more(t);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void send_r2t(struct iscsi_task *t, uint32_t want)
{
    struct iscsi_conn *c = t->conn;
    struct iscsi_burst *b = t->bursts;
    while (b->len > 0) {
        b++;
    }
    *b = (struct iscsi_burst){.ttt = iscsi_session_ttt(c->session),
                              .offset = t->asked,
                              .len = MIN_OF(want - t->asked, c->params.max_burst),
                              .r2tsn = t->r2tsn++};
    send_burst(t, b);
    t->asked += b->len;
    t->open++;
}

/* A wait for room is cut into pieces, so that an abort is noticed. */
static uint64_t room_deadline(void)
{
    return rt_after_ms(5000);
}

static int take_credits(struct iscsi_task *t, struct rt_credits *pool, uint64_t n)
{
    for (;;) {
        int r = rt_credits_take(pool, n, room_deadline());
        if (r != -ETIMEDOUT || is_over(t)) {
            return r;
        }
    }
}

static int take_space(struct iscsi_task *t)
{
    for (;;) {
        int r = scsi_task_take_space(&t->scsi, room_deadline());
        if (r != -ETIMEDOUT || is_over(t)) {
            return r;
        }
    }
}

/* Back-pressure R: nothing is asked for that there is no room for. */
static int take_room(struct iscsi_task *t, uint32_t want)
{
    struct iscsi_session *s = t->conn->session;
    scsi_task_turn(&t->scsi);
    if (is_over(t)) {
        return -ECANCELED;
    }
    int r = take_credits(t, &s->solicited, want);
    if (r < 0) {
        return r;
    }
    t->solicited = want;
    if (t->scsi.takes_space) {
        r = take_space(t);
    } else {
        uint64_t n = MIN_OF((uint64_t)want, s->server->gather.total / 4);
        r = take_credits(t, &s->server->gather, n);
        t->credits = r >= 0 ? n : 0;
    }
    if (r < 0) {
        return r;
    }
    return is_over(t) ? -ECANCELED : iscsi_gather_room(&t->gather, want);
}

static int solicit(struct iscsi_task *t, uint32_t want)
{
    t->asked = t->unsolicited_at;
    for (;;) {
        rt_event_reset(&t->wake);
        if (is_over(t)) {
            return -ECANCELED;
        }
        while (t->asked < want && t->open < t->conn->params.max_r2t && !t->data_lost &&
               t->conn->broken == 0) {
            send_r2t(t, want);
        }
        if (t->open == 0 && (t->asked >= want || t->data_lost)) {
            return 0;
        }
        int r = wait_for_more(t);
        if (r < 0) {
            return r;
        }
    }
}

int iscsi_data_gather(struct iscsi_task *t)
{
    uint32_t want = (uint32_t)t->scsi.out_wanted;
    int r = iscsi_data_settle(t);
    if (r < 0) {
        return r;
    }
    if (t->unsolicited_at < want && !t->no_memory && !t->data_lost) {
        r = take_room(t, want);
        if (r >= 0) {
            r = solicit(t, want);
        }
        if (t->solicited > 0) {
            rt_credits_give(&t->conn->session->solicited, t->solicited);
        }
    }
    if (r == -ENOMEM || t->no_memory) {
        t->no_memory = true;
        return 0;
    }
    if (r < 0 || t->data_lost) {
        return r;
    }
    r = iscsi_gather_chain(&t->gather, want, &t->scsi.data_out);
    t->no_memory = r < 0;
    return 0;
}

/* Up to where all data of it have come. */
static uint32_t complete_upto(const struct iscsi_task *t)
{
    uint32_t upto = t->asked;
    for (unsigned i = 0; i < ISCSI_R2T_MAX; i++) {
        const struct iscsi_burst *b = &t->bursts[i];
        upto = b->len > 0 ? MIN_OF(upto, b->offset + b->got) : upto;
    }
    return upto;
}

void iscsi_task_reassign(struct iscsi_task *t, struct iscsi_conn *to, uint32_t exp_r2tsn)
{
    struct iscsi_conn *from = t->conn;
    if (from->rx_task == t) {
        from->rx_task = NULL;
    }
    if (t->egress) {
        iscsi_egress_leave(t->egress, t->reading);
        t->egress = NULL;
    }
    t->conn = to;
    t->scsi.way = to;
    to->task_count++;
    if (t->waits) {
        t->asked = complete_upto(t);
        memset(t->bursts, 0, sizeof t->bursts);
        t->open = 0;
        t->r2tsn = MIN_OF(t->r2tsn, exp_r2tsn);
        t->unsolicited = false;
        t->asked_again = false;
        rt_event_set(&t->wake);
    }
    rt_gate_wake(&t->moved);
    from->task_count--;
    iscsi_conn_less(from);
}
