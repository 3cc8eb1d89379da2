/* SPDX-License-Identifier: Apache-2.0 */
/* Task management (RFC 7143 §11.5, §11.6; RFC 7144): each function on a fiber of its own. */
#include "base/err.h"
#include "iscsi/task.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <stdlib.h>

#define FENCE_MS 10000 /* for an initiator that acknowledges nothing */

struct tmf {
    struct iscsi_conn *c; /* a reference */
    struct iscsi_request req;
};

static void respond(struct iscsi_conn *c, const struct iscsi_request *q, uint8_t response,
                    const uint8_t extra[3])
{
    if (!q->immediate) {
        iscsi_session_give(c->session);
    }
    if (c->broken < 0) {
        return;
    }
    struct iscsi_answer a = {.opcode = ISCSI_TMF_RESPONSE,
                             .flags = ISCSI_FINAL,
                             .result = response,
                             .itt = q->itt,
                             .extra = {extra[0], extra[1], extra[2]}};
    iscsi_tx_answer(c, &a, NULL, 0);
}

static const uint8_t no_extra[3];

/* Over whole task sets. */
static bool is_of_many(uint8_t function)
{
    return function != SCSI_TMF_ABORT_TASK && function < SCSI_TMF_TASK_REASSIGN;
}

void iscsi_fence_wake(struct iscsi_session *s)
{
    rt_mutex_lock(&s->fence_lock);
    rt_waitq_wake_all(&s->fence);
    rt_mutex_unlock(&s->fence_lock);
}

struct hearer {
    struct iscsi_conn *c; /* a reference */
    uint32_t upto;        /* StatSN */
};

static bool all_heard(const struct hearer *hearers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct iscsi_conn *c = hearers[i].c;
        if (c->broken == 0 && iscsi_sn_before(c->acknowledged, hearers[i].upto)) {
            return false;
        }
    }
    return true;
}

/*
 * What was sent on the session's other connections before has arrived there, when the response of a
 * function over task sets is sent on this one (§4.2.3.3): they are asked to say so.
 */
static void fence(struct iscsi_conn *c)
{
    struct iscsi_session *s = c->session;
    struct hearer hearers[2 * ISCSI_CONNECTIONS_MAX];
    unsigned count = 0;
    list_for_each(&s->conns, struct iscsi_conn, session_link, other) {
        if (other != c && other->state == ISCSI_CONN_FULL && other->broken == 0 &&
            iscsi_sn_before(other->acknowledged, other->statsn) && count < ARRAY_LEN(hearers)) {
            hearers[count++] = (struct hearer){iscsi_conn_ref(other), other->statsn};
            iscsi_ping(other);
        }
    }
    uint64_t deadline_ns = rt_after_ms(FENCE_MS);
    int r = 0;
    s->fences++;
    rt_mutex_lock(&s->fence_lock);
    while (r >= 0 && !all_heard(hearers, count)) {
        r = rt_waitq_wait(&s->fence, &s->fence_lock, deadline_ns);
    }
    rt_mutex_unlock(&s->fence_lock);
    s->fences--;
    for (unsigned i = 0; i < count; i++) {
        iscsi_conn_unref(hearers[i].c);
    }
}

static void run(void *arg)
{
    struct tmf *m = arg;
    struct iscsi_conn *c = m->c;
    uint8_t extra[3] = {0};
    enum scsi_tmf_response response =
        scsi_tmf(c->session->nexus, (enum scsi_tmf)m->req.tmf.function, m->req.lun,
                 m->req.tmf.ref_itt, extra);
    if (unlikely(c->tracks) && is_of_many(m->req.tmf.function)) {
        fence(c);
    }
    respond(c, &m->req, (uint8_t)response, extra);
    c->session->immediate_count--;
    iscsi_conn_unref(c);
    free(m);
}

static struct iscsi_held *find_held(struct iscsi_conn *c, uint32_t itt)
{
    list_for_each(&c->session->held, struct iscsi_held, link, h) {
        if (h->task && h->task->itt == itt) {
            return h;
        }
    }
    return NULL;
}

/* The command's CmdSN counts as received: nobody waits for it any more. */
static int fill_hole(struct iscsi_conn *c, uint32_t cmdsn)
{
    if (iscsi_ffp_holds(c->session, cmdsn)) {
        return 0;
    }
    struct iscsi_held *h = calloc(1, sizeof *h);
    if (!h) {
        return -ENOMEM;
    }
    h->req = (struct iscsi_request){.opcode = ISCSI_SCSI_COMMAND, .cmdsn = cmdsn};
    list_push_back(&c->session->held, &h->link);
    c->session->held_count++;
    return 0;
}

/*
 * A reset of the target does not wait for commands that are missing: all that are older than it
 * count as received (§4.2.3.3 b), and as aborted.
 */
static int plug(struct iscsi_conn *c, uint32_t upto)
{
    uint32_t sn = c->session->window.exp;
    while (iscsi_sn_before(sn, upto) && !iscsi_sn_before(c->session->window.max, sn)) {
        int r = fill_hole(c, sn++);
        if (r < 0) {
            return r;
        }
    }
    list_for_each(&c->session->held, struct iscsi_held, link, h) {
        if (h->task && !h->req.immediate && iscsi_sn_before(h->req.cmdsn, upto)) {
            iscsi_task_free(h->task);
            h->task = NULL;
            h->conn = NULL;
        }
    }
    return iscsi_ffp_turn(c);
}

/*
 * ABORT TASK for a command that has not been started (§11.6.1): true when it is dealt with here.
 */
static bool abort_unstarted(struct iscsi_conn *c, const struct iscsi_request *q, int *ret_r)
{
    struct iscsi_held *h = find_held(c, q->tmf.ref_itt);
    if (h) {
        iscsi_task_free(h->task);
        h->task = NULL;
        h->conn = NULL;
        respond(c, q, SCSI_TMF_COMPLETE, no_extra);
        return true;
    }
    uint32_t ref = q->tmf.ref_cmdsn;
    bool missing = !iscsi_task_find(c->session, q->tmf.ref_itt) &&
                   !iscsi_sn_before(ref, c->session->window.exp) &&
                   !iscsi_sn_before(c->session->window.max, ref) && iscsi_sn_before(ref, q->cmdsn);
    if (!missing) {
        return false;
    }
    *ret_r = fill_hole(c, ref);
    if (*ret_r >= 0) {
        respond(c, q, SCSI_TMF_COMPLETE, no_extra);
        *ret_r = iscsi_ffp_turn(c);
    }
    return true;
}

int iscsi_tmf_request(struct iscsi_conn *c, const struct iscsi_request *q)
{
    int r = 0;
    if (q->tmf.function >= SCSI_TMF_QUERY_TASK && c->params.level < 2) {
        respond(c, q, SCSI_TMF_NOT_SUPPORTED, no_extra); /* RFC 7144 §4.2 */
        return 0;
    }
    if (q->tmf.function == SCSI_TMF_QUERY_TASK && find_held(c, q->tmf.ref_itt)) {
        respond(c, q, SCSI_TMF_SUCCEEDED, no_extra); /* received, and not started yet */
        return 0;
    }
    if (q->tmf.function == SCSI_TMF_TASK_REASSIGN) {
        enum scsi_tmf_response can = iscsi_reassign_check(c, q);
        respond(c, q, (uint8_t)can, no_extra); /* before it takes effect: §11.6 */
        if (can == SCSI_TMF_COMPLETE) {
            iscsi_reassign(c, q);
        }
        return 0;
    }
    if (q->tmf.function == SCSI_TMF_ABORT_TASK && unlikely(c->session->failed > 0)) {
        iscsi_session_forget(c->session, q->tmf.ref_itt);
    }
    if (q->tmf.function == SCSI_TMF_ABORT_TASK && abort_unstarted(c, q, &r)) {
        return r;
    }
    if (iscsi_tmf_is_of_target(q->tmf.function) &&
        iscsi_sn_before(c->session->window.exp, q->cmdsn)) {
        r = plug(c, q->cmdsn);
        if (r < 0) {
            return r;
        }
    }
    struct tmf *m = c->session->immediate_count < ISCSI_IMMEDIATE_MAX ? malloc(sizeof *m) : NULL;
    if (!m) {
        respond(c, q, SCSI_TMF_REJECTED, no_extra);
        return 0;
    }
    m->c = iscsi_conn_ref(c);
    m->req = *q;
    c->session->immediate_count++;
    r = rt_group_spawn_now(c->session->group, "iscsi-tmf", run, m);
    if (r < 0) {
        c->session->immediate_count--;
        iscsi_conn_unref(c);
        free(m);
        respond(c, q, SCSI_TMF_REJECTED, no_extra);
    }
    return 0;
}
