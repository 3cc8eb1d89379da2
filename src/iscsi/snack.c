/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SNACK (RFC 7143 §11.16): the initiator misses PDUs, or acknowledges data. What was not sent, or
 * is acknowledged already, is refused as an error of the protocol; what is not there any more, as a
 * rejected SNACK, and then its task has had a status already.
 */
#include "iscsi/rx.h"
#include "iscsi/sent.h"
#include "iscsi/tx.h"

#define NOTHING 0 /* no reason to reject */

/* A run of numbers, all of which are in [from, end). Both zero: all of them. */
static bool takes_run(const struct iscsi_request *q, uint32_t from, uint32_t end,
                      uint32_t *ret_begin, uint32_t *ret_end)
{
    uint32_t count = end - from;
    uint32_t begin = q->snack.begin;
    bool all = begin == 0 && q->snack.length == 0;
    if (all) {
        begin = from;
    }
    uint32_t before = begin - from; /* serial numbers wrap around */
    if (before >= count || q->snack.length > count - before) {
        return false;
    }
    *ret_begin = begin;
    *ret_end = q->snack.length ? begin + q->snack.length : end;
    return true;
}

static unsigned data_again(struct iscsi_conn *c, struct iscsi_sent *e,
                           const struct iscsi_request *q)
{
    uint32_t begin;
    uint32_t end;
    if (!takes_run(q, e->acked, iscsi_cut_end(&e->cut), &begin, &end)) {
        return ISCSI_REJECT_PROTOCOL;
    }
    if (e->lost) {
        return ISCSI_REJECT_SNACK;
    }
    for (uint32_t sn = begin; sn != end && c->broken == 0; sn++) {
        iscsi_sent_data_again(e, sn);
    }
    return NOTHING;
}

/* What the R2Ts in the run still ask for is asked for again. */
static unsigned r2ts_again(struct iscsi_task *t, const struct iscsi_request *q)
{
    uint32_t begin;
    uint32_t end;
    unsigned count = 0;
    if (!takes_run(q, 0, t->r2tsn, &begin, &end)) {
        return ISCSI_REJECT_PROTOCOL;
    }
    for (unsigned i = 0; i < ISCSI_R2T_MAX; i++) {
        const struct iscsi_burst *b = &t->bursts[i];
        if (b->len > 0 && b->r2tsn - begin < end - begin && b->got == 0) {
            iscsi_r2t_again(t, b);
            count++;
        }
    }
    return count > 0 ? NOTHING : ISCSI_REJECT_PROTOCOL;
}

static unsigned data_or_r2t(struct iscsi_conn *c, const struct iscsi_request *q)
{
    struct iscsi_sent *e = iscsi_sent_find(c, q->itt);
    if (e) {
        return data_again(c, e, q);
    }
    struct iscsi_task *t = iscsi_task_find(c->session, q->itt);
    return t && t->conn == c && t->waits ? r2ts_again(t, q) : ISCSI_REJECT_PROTOCOL;
}

static unsigned status_again(struct iscsi_conn *c, const struct iscsi_request *q)
{
    uint32_t begin;
    uint32_t end;
    if (q->itt != ISCSI_TAG_NONE || !takes_run(q, c->acknowledged, c->statsn, &begin, &end)) {
        return ISCSI_REJECT_PROTOCOL;
    }
    uint32_t count = 0;
    unsigned reason = NOTHING;
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        if (e->statsn - begin >= end - begin) {
            continue;
        }
        count++;
        if (e->lost && (!e->is_command || e->collapsed)) {
            reason = ISCSI_REJECT_SNACK;
        } else {
            iscsi_sent_status_again(e);
        }
    }
    return count < end - begin ? ISCSI_REJECT_SNACK : reason;
}

static unsigned acknowledge(struct iscsi_conn *c, const struct iscsi_request *q)
{
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        if (!e->is_command || e->ttt != q->snack.ttt || e->lun != q->lun) {
            continue;
        }
        uint32_t left = iscsi_cut_end(&e->cut) - e->acked;
        if (q->snack.length != 0 || q->snack.begin - e->acked > left) {
            return ISCSI_REJECT_DATA_ACK;
        }
        iscsi_sent_acknowledge_data(e, q->snack.begin);
        return NOTHING;
    }
    return NOTHING; /* its status is acknowledged, and that says more */
}

static unsigned resegment(struct iscsi_conn *c, const struct iscsi_request *q)
{
    struct iscsi_sent *e = iscsi_sent_find(c, q->itt);
    bool good = q->snack.begin == 0 && q->snack.length == 0 && q->snack.ttt != 0 &&
                q->snack.ttt != ISCSI_TAG_NONE;
    if (!e || !good) {
        return ISCSI_REJECT_PROTOCOL;
    }
    if (e->lost) {
        return ISCSI_REJECT_SNACK;
    }
    iscsi_sent_resegment(e, q->snack.ttt);
    return NOTHING;
}

static unsigned heed(struct iscsi_conn *c, const struct iscsi_request *q)
{
    if (!c->keeps) {
        return ISCSI_REJECT_SNACK;
    }
    switch (q->snack.type) {
    case ISCSI_SNACK_DATA:
        return data_or_r2t(c, q);
    case ISCSI_SNACK_STATUS:
        return status_again(c, q);
    case ISCSI_SNACK_DATA_ACK:
        return acknowledge(c, q);
    case ISCSI_SNACK_RESEGMENT:
        return resegment(c, q);
    default:
        return ISCSI_REJECT_INVALID_FIELD;
    }
}

int iscsi_snack(struct iscsi_conn *c, const struct iscsi_request *q, const uint8_t *bhs_at)
{
    uint8_t bhs[ISCSI_BHS_BYTES];
    memcpy(bhs, bhs_at, sizeof bhs);
    int r = iscsi_rx_end(c);
    if (r < 0) {
        return r;
    }
    unsigned reason = heed(c, q);
    if (reason != NOTHING) {
        iscsi_tx_reject(c, (enum iscsi_reject_reason)reason, bhs);
    }
    return 0;
}
