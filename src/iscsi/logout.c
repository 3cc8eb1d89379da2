/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logout (RFC 7143 §11.14, §11.15). The response tells that it is done: no task of what was closed
 * changes anything any more, so that its initiator may repeat what was not answered. Only a logout
 * for recovery is answered at once, for then the tasks go on.
 */
#include "base/err.h"
#include "iscsi/sent.h"
#include "iscsi/tx.h"

#include <errno.h>
#include <stdlib.h>

#define LOGOUT_WAIT_S 60 /* for the tasks of what is closed */

struct logout {
    struct iscsi_conn *c;
    struct iscsi_conn *which;
    uint32_t itt;
};

static void respond(struct iscsi_conn *c, uint32_t itt, enum iscsi_logout_response result)
{
    struct iscsi_answer a = {.opcode = ISCSI_LOGOUT_RESPONSE,
                             .flags = ISCSI_FINAL,
                             .result = (uint8_t)result,
                             .itt = itt};
    a.param[1] = (uint16_t)c->params.time2wait;
    a.param[2] = (uint16_t)(c->params.recovery == 2 ? c->params.time2retain : 0);
    iscsi_tx_answer(c, &a, NULL, 0);
}

/* Waits until another connection of the session has left it. */
static void close_other(void *arg)
{
    struct logout *l = arg;
    struct iscsi_server *server = l->c->server;
    int r = 0;
    rt_mutex_lock(&server->lock);
    while (l->which->joined && r >= 0) {
        r = rt_waitq_wait(&server->changed, &server->lock, rt_after_ms(LOGOUT_WAIT_S * 1000));
    }
    rt_mutex_unlock(&server->lock);
    if (l->c->broken == 0) {
        respond(l->c, l->itt, r < 0 ? ISCSI_LOGOUT_FAILED : ISCSI_LOGOUT_OK);
    }
    iscsi_conn_unref(l->which);
    iscsi_conn_unref(l->c);
    free(l);
}

static int log_out_other(struct iscsi_conn *c, uint32_t itt, struct iscsi_conn *which)
{
    struct logout *l = malloc(sizeof *l);
    if (!l) {
        return -ENOMEM;
    }
    *l = (struct logout){.c = iscsi_conn_ref(c), .which = iscsi_conn_ref(which), .itt = itt};
    int r = rt_group_spawn(c->session->group, "iscsi-logout", close_other, l);
    if (r < 0) {
        iscsi_conn_unref(which);
        iscsi_conn_unref(c);
        free(l);
        return r;
    }
    which->logged_out = true;
    iscsi_conn_break(which, -ESHUTDOWN);
    iscsi_conn_less(which);
    return 0;
}

static int log_out_self(struct iscsi_conn *c, const struct iscsi_request *q)
{
    if (q->logout.reason == ISCSI_LOGOUT_SESSION && !c->session->discovery) {
        iscsi_session_end(c->session);
        list_for_each(&c->session->conns, struct iscsi_conn, session_link, other) {
            if (other != c) {
                iscsi_conn_break(other, -ESHUTDOWN);
                iscsi_conn_less(other);
            }
        }
    }
    c->logged_out = true;
    c->logout_due = true;
    c->logout_reason = q->logout.reason;
    c->logout_itt = q->itt;
    return -ESHUTDOWN;
}

/* other is NULL: of itself. */
static int recover(struct iscsi_conn *c, const struct iscsi_request *q, struct iscsi_conn *other)
{
    if (c->params.recovery < 2) {
        respond(c, q->itt, ISCSI_LOGOUT_NO_RECOVERY);
        return 0;
    }
    respond(c, q->itt, ISCSI_LOGOUT_OK);
    if (!other) {
        c->recovered = true;
        return -ESHUTDOWN;
    }
    iscsi_sent_acknowledge(other, q->exp_statsn);
    iscsi_conn_heard(other, q->exp_statsn);
    iscsi_conn_recover(other);
    return 0;
}

int iscsi_logout(struct iscsi_conn *c, const struct iscsi_request *q)
{
    bool own = q->logout.reason == ISCSI_LOGOUT_SESSION || q->logout.cid == c->cid;
    struct iscsi_conn *other = own ? NULL : iscsi_session_cid(c->session, q->logout.cid);
    if (q->logout.reason > ISCSI_LOGOUT_RECOVERY) {
        return ERR_PROTOCOL;
    }
    if (!own && !other) {
        respond(c, q->itt, ISCSI_LOGOUT_NO_CID);
        return 0;
    }
    if (other && other->logged_out) { /* whoever asked first hears when it is done */
        respond(c, q->itt, ISCSI_LOGOUT_FAILED);
        return 0;
    }
    if (q->logout.reason == ISCSI_LOGOUT_RECOVERY) {
        return recover(c, q, other);
    }
    return own ? log_out_self(c, q) : log_out_other(c, q->itt, other);
}

void iscsi_logout_end(struct iscsi_conn *c)
{
    struct iscsi_server *server = c->server;
    int r = 0;
    if (!c->logout_due) {
        return;
    }
    rt_mutex_lock(&server->lock);
    while (c->logout_reason == ISCSI_LOGOUT_SESSION && c->session->in_table && r >= 0) {
        r = rt_waitq_wait(&server->changed, &server->lock, rt_after_ms(LOGOUT_WAIT_S * 1000));
    }
    rt_mutex_unlock(&server->lock);
    respond(c, c->logout_itt, r < 0 ? ISCSI_LOGOUT_FAILED : ISCSI_LOGOUT_OK);
    net_send_flush(c->stream);
}
