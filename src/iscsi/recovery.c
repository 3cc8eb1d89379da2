/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of connections (RFC 7143 §7.2, §7.12; ErrorRecoveryLevel 2).
 *
 *     full --fails--> failed --recovery logout, or a new connection with its CID--> recovered
 *                       \                                                             |
 *                        `--Time2Wait + Time2Retain over, or the session ends--> closing <-'
 *
 * The fiber of a connection that has failed stays for that time, and so does the connection: its
 * tasks are allegiant to it until they are reassigned. What each does meanwhile:
 *   - a command in the store goes on; its result is kept as one that was never sent (sent.h);
 *   - one that waits for data from the initiator waits for a connection to ask on;
 *   - a read that has not begun waits for a connection, so that nobody reads what nobody takes;
 *   - what was sent, and is not acknowledged, is kept.
 * A request that had not had its turn is forgotten (ffp.c): the initiator repeats it with its
 * CmdSN. So each command is either known here by its task tag, or was never begun.
 * Nothing is kept while the server drains, or is nearly full.
 */
#include "base/msg.h"
#include "iscsi/rx.h"
#include "iscsi/sent.h"
#include "iscsi/tx.h"

/* Of DefaultTime2Wait, which the initiator alone decides: nobody is there who answers for what is
 * held, such as room for data. */
#define WAIT_MOST_SECONDS 60u

static void count_failed(struct iscsi_session *s, int by)
{
    rt_mutex_lock(&s->server->lock);
    s->failed += (unsigned)by;
    rt_mutex_unlock(&s->server->lock);
}

/* There is something that another connection may take. */
static bool has_orphans(const struct iscsi_conn *c)
{
    return c->task_count > 0 || c->sent_count > 0;
}

/* What answers nothing that can be reassigned. */
static void drop_others(struct iscsi_conn *c)
{
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        if (!e->is_command) {
            iscsi_sent_free(e);
        }
    }
}

/* No login would be let in, or what is kept for some would keep others out. */
static bool nobody_returns(const struct iscsi_conn *c)
{
    struct iscsi_server *server = c->server;
    size_t most = server->sessions_max - server->sessions_max / 8;
    rt_mutex_lock(&server->lock);
    bool crowded = server->session_count > most || server->conn_count > most + ISCSI_PENDING_MAX;
    rt_mutex_unlock(&server->lock);
    return crowded || atomic_load(&server->draining);
}

void iscsi_conn_hold(struct iscsi_conn *c)
{
    struct iscsi_session *s = c->session;
    uint64_t seconds = MIN_OF(c->params.time2wait, WAIT_MOST_SECONDS) + c->params.time2retain;
    uint64_t deadline_ns = rt_now_ns() + seconds * 1000000000ull;
    if (!iscsi_conn_orphans(c) || nobody_returns(c)) {
        return;
    }
    msg_info_paced("iscsi", "%s: connection %u of %s has failed: its tasks are kept for %u s",
                   c->peer, (unsigned)c->cid, s->initiator, (unsigned)seconds);
    c->state = ISCSI_CONN_FAILED;
    net_shutdown(c->stream);
    iscsi_rx_free(c); /* many may fail at a time */
    iscsi_text_reset(c);
    drop_others(c);
    iscsi_egress_wake(c);
    count_failed(s, 1);
    int r = 0;
    while (r >= 0 && iscsi_conn_orphans(c) && (!c->recovered || has_orphans(c))) {
        r = rt_gate_wait(&c->all_done, deadline_ns);
    }
    count_failed(s, -1);
    list_for_each(&c->sent, struct iscsi_sent, link, e) {
        if (!e->was_sent) { /* else nobody asked for it any more */
            scsi_nexus_cleared(s->nexus, e->lun);
        }
    }
}

void iscsi_conn_recover(struct iscsi_conn *c)
{
    c->recovered = true;
    iscsi_conn_break(c, -ECONNRESET);
    iscsi_ffp_drop_held(c->session, c); /* before anything else has its turn */
    if (c->rx_task && !c->rx_task->begun) {
        iscsi_task_free(c->rx_task); /* its immediate data do not come any more */
    }
    rt_gate_wake(&c->all_done);
}

/* A command that has ended, on a connection that was recovered. */
static struct iscsi_sent *find_orphan(struct iscsi_session *s, uint32_t itt, bool *ret_allegiant)
{
    list_for_each(&s->conns, struct iscsi_conn, session_link, each) {
        struct iscsi_sent *e = each->state == ISCSI_CONN_FAILED || each->broken < 0
                                   ? iscsi_sent_find(each, itt)
                                   : NULL;
        if (e) {
            *ret_allegiant = !each->recovered;
            return e;
        }
    }
    return NULL;
}

enum scsi_tmf_response iscsi_reassign_check(struct iscsi_conn *c, const struct iscsi_request *q)
{
    struct iscsi_task *t = iscsi_task_find(c->session, q->tmf.ref_itt);
    bool allegiant = false;
    if (c->params.recovery < 2) {
        return SCSI_TMF_NO_REASSIGN;
    }
    if (t) {
        bool free_now = t->conn != c && t->conn->recovered && iscsi_conn_orphans(t->conn);
        return free_now ? SCSI_TMF_COMPLETE : SCSI_TMF_STILL_ALLEGIANT;
    }
    if (!find_orphan(c->session, q->tmf.ref_itt, &allegiant)) {
        return iscsi_sent_find(c, q->tmf.ref_itt) ? SCSI_TMF_STILL_ALLEGIANT : SCSI_TMF_NO_TASK;
    }
    return allegiant ? SCSI_TMF_STILL_ALLEGIANT : SCSI_TMF_COMPLETE;
}

void iscsi_reassign(struct iscsi_conn *c, const struct iscsi_request *q)
{
    struct iscsi_task *t = iscsi_task_find(c->session, q->tmf.ref_itt);
    bool allegiant;
    if (t) {
        iscsi_task_reassign(t, c, q->tmf.exp_datasn);
        return;
    }
    struct iscsi_sent *e = find_orphan(c->session, q->tmf.ref_itt, &allegiant);
    if (!e) {
        return;
    }
    struct iscsi_conn *from = e->conn;
    uint32_t known = q->tmf.exp_datasn - e->acked;
    if (q->tmf.exp_datasn != 0 && known <= iscsi_cut_end(&e->cut) - e->acked) {
        iscsi_sent_acknowledge_data(e, q->tmf.exp_datasn);
    }
    iscsi_sent_reassign(e, c);
    iscsi_conn_less(from);
}

void iscsi_session_forget(struct iscsi_session *s, uint32_t itt)
{
    bool unused;
    struct iscsi_sent *e = find_orphan(s, itt, &unused);
    if (e) {
        struct iscsi_conn *from = e->conn;
        iscsi_sent_free(e);
        iscsi_conn_less(from);
    }
}
