/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/msg.h"
#include "iscsi/rx.h"
#include "iscsi/task.h"
#include "iscsi/tx.h"
#include "scsi/sense.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* RFC 7143 §11.4.7.2: what the transport itself says with CHECK CONDITION. */
#define ASC_PROTOCOL_SERVICE_CRC 0x4705

static struct iscsi_task **bucket_of(struct iscsi_session *s, uint32_t itt)
{
    return &s->tasks[hash_u64(itt) % ISCSI_TASK_BUCKETS];
}

struct iscsi_task *iscsi_task_find(struct iscsi_session *s, uint32_t itt)
{
    struct iscsi_task *t = *bucket_of(s, itt);
    while (t && t->itt != itt) {
        t = t->next;
    }
    return t;
}

static struct iscsi_task *task_new(struct iscsi_conn *c, const struct iscsi_request *q)
{
    struct iscsi_session *s = c->session;
    if (unlikely(s->failed > 0)) {
        iscsi_session_forget(s, q->itt);
    }
    struct iscsi_task *t = s->free_tasks;
    if (t) {
        s->free_tasks = t->next;
    } else {
        t = calloc(1, sizeof *t);
        if (!t) {
            return NULL;
        }
        rt_mem_add(RT_MEM_CONNECTIONS, sizeof *t);
    }
    t->conn = c;
    t->lun = q->lun;
    t->itt = q->itt;
    t->edtl = q->command.edtl;
    t->immediate = q->immediate;
    t->begun = false;
    t->bidi = q->command.read && q->command.write;
    t->bidi_len = 0;
    t->began_ns = rt_turn_ns();
    t->unsolicited = !q->final;
    t->unsolicited_at = 0;
    t->unsolicited_sn = 0;
    t->asked = 0;
    t->solicited = 0;
    t->credits = 0;
    t->r2tsn = 0;
    t->open = 0;
    t->data_lost = false;
    t->unsolicited_lost = false;
    t->asked_again = false;
    t->egress = NULL;
    t->moved.waiter = NULL;
    t->no_memory = false;
    atomic_store_explicit(&t->fiber, NULL, memory_order_relaxed);
    t->waits = false;
    struct iscsi_task **at = bucket_of(s, q->itt);
    t->next = *at;
    *at = t;
    iscsi_conn_counters(c)->active += s->task_count++ == 0;
    c->task_count++;
    s->immediate_count += t->immediate;
    return t;
}

void iscsi_task_free(struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    struct iscsi_session *s = c->session;
    struct iscsi_task **at = bucket_of(s, t->itt);
    while (*at != t) {
        at = &(*at)->next;
    }
    *at = t->next;
    iscsi_conn_counters(c)->active -= --s->task_count == 0;
    s->immediate_count -= t->immediate;
    if (c->rx_task == t) {
        c->rx_task = NULL;
    }
    iscsi_gather_free(&t->gather);
    if (t->credits > 0) {
        rt_credits_give(&c->server->gather, t->credits);
    }
    if (t->waits) {
        rt_event_destroy(&t->wake);
        memset(t->bursts, 0, sizeof t->bursts);
    }
    t->next = s->free_tasks;
    s->free_tasks = t;
    if (--c->task_count == 0) {
        iscsi_conn_less(c);
    }
}

void iscsi_task_pool_free(struct iscsi_session *s)
{
    while (s->free_tasks) {
        struct iscsi_task *t = s->free_tasks;
        s->free_tasks = t->next;
        free(t);
        rt_mem_add(RT_MEM_CONNECTIONS, -(int64_t)sizeof *t);
    }
}

/* On any core. Whoever sets the fiber looks afterwards whether the task is aborted already. */
static void on_abort(struct scsi_task *s)
{
    struct iscsi_task *t = s->transport_arg;
    struct rt_fiber *fiber = atomic_load(&t->fiber);
    if (t->waits) {
        rt_event_set(&t->wake);
    }
    if (fiber) {
        rt_fiber_cancel(fiber);
    }
}

/* What is wrong with the request, or NULL: §11.3. */
static const char *check(const struct iscsi_conn *c, const struct iscsi_request *q)
{
    const struct iscsi_params *p = &c->params;
    if (!q->command.write && (!q->final || q->data_len > 0)) {
        return "data without the W bit";
    }
    if (q->data_len > 0 && !p->immediate) {
        return "immediate data were not agreed on";
    }
    if (!q->final && p->initial_r2t) {
        return "unsolicited data were not agreed on";
    }
    if (q->data_len > MIN_OF(q->command.edtl, MIN_OF(p->first_burst, p->max_burst))) {
        return "more immediate data than FirstBurstLength or the transfer length";
    }
    if (q->itt == ISCSI_TAG_NONE) {
        return "the reserved task tag";
    }
    return NULL;
}

/* The CDB with what an additional header adds to it. */
static int set_up(struct iscsi_task *t, const struct iscsi_request *q, const uint8_t *ahs_at)
{
    struct iscsi_conn *c = t->conn;
    uint8_t cdb[SCSI_CDB_MAX];
    uint32_t cdb_len = sizeof q->command.cdb;
    memcpy(cdb, q->command.cdb, cdb_len);
    if (unlikely(q->ahs_len > 0)) {
        struct iscsi_ahs ahs;
        int r = iscsi_ahs_decode(ahs_at, q->ahs_len, &ahs);
        if (r < 0 || ahs.cdb_rest_len > sizeof cdb - cdb_len) {
            return ERR_PROTOCOL;
        }
        if (ahs.cdb_rest_len > 0) {
            memcpy(cdb + cdb_len, ahs.cdb_rest, ahs.cdb_rest_len);
            cdb_len += ahs.cdb_rest_len;
        }
        t->bidi_len = ahs.has_bidi ? ahs.bidi_len : 0;
    }
    struct scsi_task *s = &t->scsi;
    scsi_task_init(s, c->session->nexus, q->lun, cdb, cdb_len);
    s->attr = (enum scsi_attr)q->command.attr;
    s->tag = q->itt;
    s->transport_read = q->command.read;
    s->transport_write = q->command.write;
    s->edtl = q->command.edtl;
    if (q->command.write && (q->data_len < q->command.edtl || !q->final)) {
        rt_event_init(&t->wake);
        t->waits = true;
    }
    s->on_abort = on_abort;
    s->transport_arg = t;
    s->way = c;
    return 0;
}

/* Immediate data, and room for the unsolicited data that may follow. 0; 1: the data digest was
 * wrong. */
static int receive_immediate(struct iscsi_task *t, const struct iscsi_request *q)
{
    struct iscsi_conn *c = t->conn;
    uint32_t most = MIN_OF(c->params.first_burst, c->params.max_burst);
    t->unsolicited_max = MIN_OF(t->edtl, most);
    c->rx_task = t;
    int r = iscsi_gather_room(&t->gather, t->unsolicited ? t->unsolicited_max : q->data_len);
    if (r < 0) {
        t->no_memory = true;
        return iscsi_rx_end(c);
    }
    r = iscsi_data_receive(c, t, 0);
    if (c->rx_task == t) {
        t->unsolicited_at = q->data_len;
    }
    return r;
}

static int hold(struct iscsi_task *t, const struct iscsi_request *q)
{
    struct iscsi_conn *c = t->conn;
    struct iscsi_held *h = calloc(1, sizeof *h);
    if (!h) {
        return -ENOMEM;
    }
    h->conn = c;
    h->req = *q;
    h->task = t;
    list_push_back(&c->session->held, &h->link);
    c->session->held_count++;
    return 0;
}

static int refuse(struct iscsi_conn *c, enum iscsi_reject_reason reason, const uint8_t *bhs,
                  const char *why)
{
    msg_warn_paced("iscsi", "%s: %s: SCSI command: %s", c->peer, c->session->initiator, why);
    iscsi_tx_reject(c, reason, bhs);
    return ERR_PROTOCOL;
}

/* Now, later, or never: an earlier request with this CmdSN may be held already. */
static enum iscsi_window_verdict judge(struct iscsi_session *s, const struct iscsi_request *q)
{
    if (q->immediate) {
        return ISCSI_WINDOW_NOW;
    }
    enum iscsi_window_verdict verdict = iscsi_window_judge(&s->window, q->cmdsn);
    return verdict == ISCSI_WINDOW_HOLD && iscsi_ffp_holds(s, q->cmdsn) ? ISCSI_WINDOW_DROP
                                                                        : verdict;
}

/* The command has not come: at ErrorRecoveryLevel 1 its initiator repeats it, with its CmdSN. */
static int bad_digest(struct iscsi_conn *c, const uint8_t *bhs)
{
    if (!c->keeps) {
        return refuse(c, ISCSI_REJECT_DATA_DIGEST, bhs, "data digest");
    }
    iscsi_tx_reject(c, ISCSI_REJECT_DATA_DIGEST, bhs);
    return 0;
}

static int pass_over(struct iscsi_conn *c)
{
    int r = iscsi_rx_end(c);
    return r < 0 ? r : 0;
}

/* All of it has come. */
static int enter(struct iscsi_task *t, const struct iscsi_request *q,
                 enum iscsi_window_verdict verdict)
{
    struct iscsi_conn *c = t->conn;
    int r = 0;
    switch (verdict) {
    case ISCSI_WINDOW_DROP:
        iscsi_task_free(t);
        return 0;
    case ISCSI_WINDOW_HOLD:
        r = hold(t, q);
        if (r < 0) {
            iscsi_task_free(t);
        }
        return r;
    case ISCSI_WINDOW_NOW:
        break;
    }
    if (!q->immediate) {
        iscsi_window_take(&c->session->window);
    }
    iscsi_command_start(t);
    return list_is_empty(&c->session->held) ? 0 : iscsi_ffp_turn(c);
}

int iscsi_command(struct iscsi_conn *c, const struct iscsi_request *q, const uint8_t *bhs_at,
                  const uint8_t *ahs)
{
    uint8_t bhs[ISCSI_BHS_BYTES];
    memcpy(bhs, bhs_at, sizeof bhs);
    enum iscsi_window_verdict verdict = judge(c->session, q);
    if (verdict == ISCSI_WINDOW_DROP) {
        return pass_over(c);
    }
    if (q->immediate && c->session->immediate_count >= ISCSI_IMMEDIATE_MAX) {
        iscsi_tx_reject(c, ISCSI_REJECT_IMMEDIATE, bhs);
        return pass_over(c);
    }
    const char *why = check(c, q);
    if (why) {
        return refuse(c, ISCSI_REJECT_PROTOCOL, bhs, why);
    }
    if (iscsi_task_find(c->session, q->itt)) {
        return refuse(c, ISCSI_REJECT_IN_PROGRESS, bhs, "the task tag is in use");
    }
    struct iscsi_task *t = task_new(c, q);
    if (!t) {
        return -ENOMEM;
    }
    int r = set_up(t, q, ahs);
    if (r < 0) {
        iscsi_task_free(t);
        return refuse(c, ISCSI_REJECT_INVALID_FIELD, bhs, "additional header");
    }
    if (q->data_len > 0 || t->unsolicited) {
        r = receive_immediate(t, q);
        if (c->rx_task != t) {
            return r < 0 ? r : c->broken; /* it was forgotten: iscsi_conn_recover() */
        }
        if (r != 0) {
            iscsi_task_free(t);
            return r < 0 ? r : bad_digest(c, bhs);
        }
        verdict = judge(c->session, q); /* other connections had their turn meanwhile */
    }
    return enter(t, q, verdict);
}

static void count(struct iscsi_task *t)
{
    struct iscsi_core *k = iscsi_conn_counters(t->conn);
    uint64_t us = (rt_turn_ns() - t->began_ns) / 1000;
    unsigned bucket = us ? 64u - (unsigned)__builtin_clzll(us) : 0;
    const struct scsi_task *s = &t->scsi;
    iscsi_count(&k->commands);
    iscsi_count(&t->conn->commands);
    if (s->dir == SCSI_DIR_IN) {
        iscsi_count_by(&t->conn->bytes_read, MIN_OF(s->in_total, s->edtl));
    } else if (s->dir == SCSI_DIR_OUT) {
        iscsi_count_by(&t->conn->bytes_written, s->out_wanted);
    }
    iscsi_count(&k->latency[MIN_OF(bucket, 31u)]);
}

/* Room for the data of a read, on whatever connection it has come to. */
static int enter_egress(struct iscsi_task *t, uint64_t len)
{
    for (;;) {
        struct iscsi_conn *c = t->conn;
        int r = c->broken < 0 ? -ECANCELED : iscsi_egress_enter(c, len);
        if (likely(r >= 0)) {
            t->egress = c;
            t->reading = len;
            return 0;
        }
        if (scsi_task_is_aborted(&t->scsi) || (t->conn == c && c->broken == 0)) {
            return r;
        }
        while (t->conn->broken < 0) {
            r = iscsi_conn_orphans(t->conn) ? rt_gate_wait(&t->moved, RT_FOREVER) : -ECANCELED;
            if (r < 0) {
                return r;
            }
        }
    }
}

/* The data phase: 0 when the command may be carried out, or its status is decided; negative: there
 * is nothing to answer. */
static int data_phase(struct iscsi_task *t)
{
    struct scsi_task *s = &t->scsi;
    if (s->dir == SCSI_DIR_IN) {
        return enter_egress(t, MIN_OF(s->data_len, s->edtl));
    }
    if (s->dir == SCSI_DIR_OUT && s->out_wanted > 0) {
        if (s->out_wanted > DEV_IO_MAX) {
            scsi_fail(s, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
            return 0;
        }
        return iscsi_data_gather(t);
    }
    return 0;
}

static void end(struct iscsi_task *t)
{
    count(t);
    if (t->egress) {
        iscsi_egress_leave(t->egress, t->reading);
    }
    scsi_task_end(&t->scsi);
    iscsi_task_free(t);
}

/* The fiber of a command that has begun. */
static void run(void *arg)
{
    struct iscsi_task *t = arg;
    struct scsi_task *s = &t->scsi;
    int r = 0;
    atomic_store(&t->fiber, rt_self());
    if (!s->ended) {
        r = data_phase(t);
        if (t->no_memory) {
            scsi_fail_status(s, SCSI_BUSY);
        } else if (t->data_lost) {
            scsi_fail(s, SCSI_KEY_ABORTED_COMMAND, ASC_PROTOCOL_SERVICE_CRC);
        } else if (s->status == SCSI_GOOD && (r >= 0 || scsi_task_is_aborted(s))) {
            scsi_task_run(s);
        }
    }
    rt_cancel_heeded();
    r = iscsi_data_settle(t);
    struct iscsi_conn *c = t->conn;
    if (c->broken == 0 && (r >= 0 || scsi_task_is_aborted(s) || s->aborted)) {
        iscsi_reply(t);
    } else if (r >= 0 && !s->aborted && iscsi_conn_orphans(c)) {
        iscsi_reply_later(t);
    } else if (!t->immediate) {
        iscsi_session_give(c->session); /* nobody hears of it, but the session may go on */
    }
    end(t);
}

/* What can be answered without a wait needs no fiber. */
static bool run_ready(struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    struct scsi_task *s = &t->scsi;
    if (t->waits || t->no_memory || t->data_lost || c->broken < 0) {
        return false;
    }
    if (!s->ended &&
        (s->dir != SCSI_DIR_IN || !iscsi_egress_is_free(c, MIN_OF(s->data_len, s->edtl)))) {
        return false;
    }
    if (!scsi_task_run_ready(s)) {
        return false;
    }
    iscsi_reply(t);
    end(t);
    return true;
}

void iscsi_command_start(struct iscsi_task *t)
{
    struct iscsi_conn *c = t->conn;
    t->begun = true;
    scsi_task_begin(&t->scsi);
    if (run_ready(t)) {
        return;
    }
    int r = rt_group_spawn_now(c->session->group, "iscsi-command", run, t);
    if (likely(r >= 0)) {
        return;
    }
    scsi_fail_status(&t->scsi, SCSI_BUSY);
    iscsi_reply(t);
    end(t);
}

/* The task is given up, and whoever carries it out with it. */
static void give_up(struct iscsi_task *t)
{
    struct rt_fiber *fiber = atomic_load(&t->fiber);
    scsi_task_give_up(&t->scsi);
    if (fiber) {
        rt_fiber_cancel(fiber);
    }
}

void iscsi_tasks_abort(struct iscsi_conn *c)
{
    struct iscsi_session *s = c->session;
    for (size_t i = 0; i < ISCSI_TASK_BUCKETS; i++) {
        for (struct iscsi_task *t = s->tasks[i]; t; t = t->next) {
            if (t->conn == c) {
                give_up(t);
            }
        }
    }
    iscsi_egress_wake(c);
    while (c->task_count > 0 || c->egress_pump || !list_is_empty(&c->egress_line)) {
        int r = rt_gate_wait(&c->all_done, RT_FOREVER);
        ASSERT(r >= 0); /* shielded */
    }
}
