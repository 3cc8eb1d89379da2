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

static uint32_t share(struct iscsi_session *s)
{
    unsigned active = s->server->cores[s->core].active;
    unsigned all = s->server->core_commands;
    if (likely(active * s->window_size <= all)) {
        return s->window_size;
    }
    return MIN_OF(MAX_OF(all / active, WINDOW_MIN), s->window_size);
}

void iscsi_session_give(struct iscsi_session *s)
{
    uint32_t most = share(s);
    if (unlikely(s->window_now > most)) {
        s->window_now--;
        return;
    }
    iscsi_window_give(&s->window);
    if (unlikely(s->window_now < most)) {
        s->window_now++;
        iscsi_window_give(&s->window);
    }
}
