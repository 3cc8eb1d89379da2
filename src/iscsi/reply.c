/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes back for a command: Data-In and SCSI Response (RFC 7143 §11.4, §11.7), and the bound on
 * what a slow reader can make us hold: read commands wait while ISCSI_EGRESS_BYTES are being read
 * or are queued.
 */
#include "base/assert.h"
#include "base/endian.h"
#include "base/msg.h"
#include "iscsi/sent.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <string.h>

static uint8_t residual_of(const struct iscsi_task *t, uint32_t *ret_count)
{
    uint64_t count;
    bool under;
    bool over;
    scsi_task_residual(&t->scsi, &count, &under, &over);
    *ret_count = (uint32_t)MIN_OF(count, UINT32_MAX);
    if (over) {
        return ISCSI_RESPONSE_OVER;
    }
    return under ? ISCSI_RESPONSE_UNDER : 0;
}

/* All of the data; with_status: the last PDU carries GOOD. The number of PDUs. */
static uint32_t send_data(struct iscsi_task *t, bool with_status, uint8_t residual_flags,
                          uint32_t residual)
{
    struct iscsi_conn *c = t->conn;
    struct rt_chain *data = &t->scsi.data_in;
    uint64_t total = data->len;
    uint32_t most = MIN_OF(c->params.send_len, ISCSI_SEND_LEN);
    uint32_t datasn = 0;
    uint64_t off = 0;
    uint64_t burst_end = MIN_OF(total, c->params.max_burst);
    while (off < total && c->broken == 0) {
        uint32_t len = (uint32_t)MIN_OF(burst_end - off, most);
        bool last = off + len == total;
        struct iscsi_data_in p = {
            .itt = t->itt, .datasn = datasn, .offset = (uint32_t)off, .data_len = len};
        p.flags = off + len == burst_end ? ISCSI_FINAL : 0;
        struct iscsi_sn sn;
        if (last && with_status) {
            p.flags |= ISCSI_DATA_IN_STATUS | residual_flags;
            p.status = SCSI_GOOD;
            p.residual = residual;
            sn = iscsi_tx_status_sn(c);
        } else {
            sn = iscsi_tx_sn(c);
        }
        uint8_t bhs[ISCSI_BHS_BYTES];
        iscsi_encode_data_in(bhs, &p, &sn);
        if (len == total) {
            iscsi_tx_chain(c, bhs, data);
        } else {
            struct rt_chain part = {0};
            int r = rt_chain_add_range(&part, data, off, len);
            if (r < 0) {
                iscsi_conn_break(c, r);
            } else {
                iscsi_tx_chain(c, bhs, &part);
            }
            rt_chain_free(&part);
        }
        off += len;
        datasn++;
        if (off == burst_end) {
            burst_end = MIN_OF(total, burst_end + c->params.max_burst);
        }
    }
    return datasn;
}

static struct iscsi_scsi_response response_of(const struct iscsi_task *t)
{
    struct iscsi_scsi_response p = {.itt = t->itt, .status = (uint8_t)t->scsi.status};
    p.flags = residual_of(t, &p.residual);
    if (t->bidi) {
        p.flags |= t->bidi_len ? ISCSI_RESPONSE_BIDI_UNDER : 0;
        p.bidi_residual = t->bidi_len;
    }
    return p;
}

static void send_response(struct iscsi_task *t, uint32_t datasn)
{
    struct iscsi_conn *c = t->conn;
    struct scsi_task *s = &t->scsi;
    uint8_t data[2 + SCSI_SENSE_MAX];
    struct iscsi_scsi_response p = response_of(t);
    p.exp_datasn = datasn + t->r2tsn;
    if (s->sense_len > 0) {
        be16_store(data, s->sense_len);
        memcpy(data + 2, s->sense, s->sense_len);
        p.data_len = 2u + s->sense_len;
    }
    uint8_t bhs[ISCSI_BHS_BYTES];
    struct iscsi_sn sn = iscsi_tx_status_sn(c);
    iscsi_encode_scsi_response(bhs, &p, &sn);
    iscsi_tx_copy(c, bhs, data, p.data_len);
}

/*
 * FastAbort (§4.2.3.4): a third party hears that all its tasks of the unit are gone, once for each
 * function. Its Data-Out for them are passed over, so nothing hangs on its acknowledgement.
 */
static void tell_fast_abort(const struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    const struct scsi_task *s = &t->scsi;
    if (c->params.reporting != ISCSI_FAST_ABORT || !s->by_set || !s->by_other ||
        c->session->fast_abort_told == s->abort_id) {
        return;
    }
    c->session->fast_abort_told = s->abort_id;
    struct iscsi_answer a = {.opcode = ISCSI_ASYNC_MESSAGE,
                             .flags = ISCSI_FINAL,
                             .lun = t->lun,
                             .itt = ISCSI_TAG_NONE,
                             .event = ISCSI_ASYNC_FAST_ABORT};
    iscsi_tx_answer(c, &a, NULL, 0);
}

/* The response that has just been sent tells of lost writes: it matters whether it is heard. */
static void told(struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    scsi_task_told(&t->scsi);
    c->told = true;
    c->told_statsn = c->statsn - 1;
    if (!c->tracks) {
        c->tracks = true;
        c->acknowledged = c->told_statsn; /* it has not been kept up */
    }
}

static void respond(struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    struct scsi_task *s = &t->scsi;
    if (unlikely(c->keeps)) {
        struct iscsi_scsi_response p = response_of(t);
        if (iscsi_sent_reply(t, &p)) {
            return;
        }
    }
    uint32_t residual;
    uint8_t flags = residual_of(t, &residual);
    uint32_t datasn = 0;
    if (s->data_in.len > 0) {
        bool collapse = s->status == SCSI_GOOD && !t->bidi;
        datasn = send_data(t, collapse, flags, residual);
        if (collapse) {
            return;
        }
    }
    send_response(t, datasn);
}

void iscsi_reply(struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    struct scsi_task *s = &t->scsi;
    if (!t->immediate) {
        iscsi_session_give(c->session); /* the answer itself tells of the room */
    }
    if (unlikely(s->aborted)) {
        tell_fast_abort(t);
        if (!s->send_aborted) {
            return;
        }
    }
    respond(t);
    if (unlikely(s->tells_loss)) {
        told(t);
    }
}

void iscsi_reply_later(struct iscsi_task *t)
{
    struct iscsi_scsi_response p = response_of(t);
    if (!t->immediate) {
        iscsi_session_give(t->conn->session);
    }
    if (!iscsi_sent_orphan(t, &p)) {
        msg_warn_paced("iscsi", "%s: a result is lost: no memory", t->conn->peer);
    }
}

static bool egress_fits(const struct iscsi_conn *c, uint64_t len)
{
    uint64_t held = c->reading + net_send_queued(c->stream);
    return held == 0 || held + len <= ISCSI_EGRESS_BYTES;
}

static bool somebody_waits(const struct iscsi_conn *c)
{
    return !list_is_empty(&c->egress_line);
}

bool iscsi_egress_is_free(const struct iscsi_conn *c, uint64_t len)
{
    return !somebody_waits(c) && egress_fits(c, len);
}

static void wake_waiters(struct iscsi_conn *c)
{
    rt_mutex_lock(&c->egress_lock);
    rt_waitq_wake_all(&c->egress);
    rt_mutex_unlock(&c->egress_lock);
}

/* Wakes those who wait for the queue to get shorter. One at a time. */
static void pump(void *arg)
{
    struct iscsi_conn *c = arg;
    while (somebody_waits(c) && c->broken == 0) {
        size_t queued = net_send_queued(c->stream);
        if (queued == 0) {
            break;
        }
        int r = net_send_wait(c->stream, queued / 2);
        if (r < 0) {
            iscsi_conn_break(c, r);
        }
        wake_waiters(c);
        rt_yield();
    }
    c->egress_pump = false;
    wake_waiters(c); /* who came since then relied on the pump */
    iscsi_conn_less(c);
}

/* In the order of arrival: a large read would find no room as long as small ones keep coming. */
static int wait_turn(struct iscsi_conn *c, uint64_t len)
{
    struct list me;
    int r = 0;
    list_push_back(&c->egress_line, &me);
    while (r >= 0 && (c->egress_line.next != &me || !egress_fits(c, len))) {
        if (!c->egress_pump && net_send_queued(c->stream) > 0) {
            c->egress_pump = true;
            r = rt_group_spawn(c->session->group, "iscsi-egress", pump, c);
            c->egress_pump = r >= 0;
        }
        rt_mutex_lock(&c->egress_lock);
        r = rt_waitq_wait(&c->egress, &c->egress_lock, rt_after_ms(1000));
        rt_mutex_unlock(&c->egress_lock);
        r = r == -ETIMEDOUT ? 0 : r;
        r = c->broken < 0 ? -ECANCELED : r;
    }
    list_remove(&me); /* perhaps from the middle: its task was aborted */
    iscsi_conn_less(c);
    return r;
}

void iscsi_egress_wake(struct iscsi_conn *c)
{
    wake_waiters(c);
}

int iscsi_egress_enter(struct iscsi_conn *c, uint64_t len)
{
    if (likely(iscsi_egress_is_free(c, len))) {
        c->reading += len;
        return 0;
    }
    int r = wait_turn(c, len);
    if (r >= 0) {
        c->reading += len;
    }
    if (somebody_waits(c)) {
        wake_waiters(c); /* there may be room for the next one too */
    }
    return r;
}

void iscsi_egress_leave(struct iscsi_conn *c, uint64_t len)
{
    ASSERT(c->reading >= len);
    c->reading -= len;
    if (unlikely(somebody_waits(c))) {
        wake_waiters(c);
    }
}
