/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How large each session's command window is. What commands cost is a fiber each, of which a core
 * has so many; so a core's commands are shared out to the sessions that have some under way. A
 * window moves by at most one with each answer, and MaxCmdSN never goes back (RFC 7143 §4.2.2.1):
 * who has more than his share gets nothing for an answer, who has less gets two. A session that
 * does nothing keeps what it has: it counts as soon as it begins.
 */
#include "iscsi/conn_priv.h"

#define WINDOW_MIN 4u

static uint32_t share(struct iscsi_conn *c)
{
    unsigned active = iscsi_conn_counters(c)->active;
    unsigned all = c->server->core_commands;
    if (likely(active * c->window_size <= all)) {
        return c->window_size;
    }
    return MIN_OF(MAX_OF(all / active, WINDOW_MIN), c->window_size);
}

void iscsi_conn_give(struct iscsi_conn *c)
{
    uint32_t most = share(c);
    if (unlikely(c->window_now > most)) {
        c->window_now--;
        return;
    }
    iscsi_window_give(&c->window);
    if (unlikely(c->window_now < most)) {
        c->window_now++;
        iscsi_window_give(&c->window);
    }
}
