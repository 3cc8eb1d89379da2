/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that belong to a session on another core. The first request of a login tells, before
 * anything else is done with it: then the connection goes there, with what was received, and its
 * login begins there. The fiber that accepted it stays and waits for its end, so that the listener,
 * whose it is, still reaches the connection.
 */
#include "base/assert.h"
#include "iscsi/rx.h"

#include <errno.h>

struct move {
    struct iscsi_conn *c;
    void (*serve)(struct iscsi_conn *c);
    struct rt_event gone;
};

unsigned iscsi_conn_core(struct iscsi_conn *c)
{
    uint64_t deadline_ns = rt_now_ns() + c->server->login_timeout_ns;
    const uint8_t *bhs;
    c->rx.deadline_ns = deadline_ns;
    int r = rt_core_count() > 1 ? iscsi_rx_peek(c, deadline_ns, &bhs) : -ENOENT;
    if (r < 0) {
        return rt_core_self(); /* the login meets the same */
    }
    struct iscsi_request q;
    r = iscsi_request_decode(bhs, &q);
    if (r < 0 || q.opcode != ISCSI_LOGIN_REQUEST || q.login.tsih == 0) {
        return rt_core_self();
    }
    return iscsi_session_core(c->server, q.login.isid, q.login.tsih);
}

static void arrive(void *arg)
{
    struct move *m = arg;
    struct iscsi_conn *c = m->c;
    int r = net_move_in(c->stream);
    c->session->core = rt_core_self();
    c->poke_ready = true;
    if (r < 0) {
        iscsi_conn_break(c, r);
    }
    iscsi_conn_do(c, c->poked);
    m->serve(c);
    rt_event_set(&m->gone);
}

void iscsi_conn_move(struct iscsi_conn *c, unsigned core, void (*serve)(struct iscsi_conn *c))
{
    struct move m = {.c = iscsi_conn_ref(c), .serve = serve};
    rt_event_init(&m.gone);
    c->poke_ready = false;
    net_move_out(c->stream);
    atomic_store(&c->core, core);
    if (rt_spawn_on(core, "iscsi", arrive, &m) < 0) {
        atomic_store(&c->core, rt_core_self()); /* no fiber is free there: its login is refused */
        arrive(&m);
    }
    if (rt_event_wait(&m.gone, RT_FOREVER) < 0) {
        iscsi_conn_poke(c, ISCSI_POKE_DROP);
        rt_shield();
        int r = rt_event_wait(&m.gone, RT_FOREVER);
        ASSERT(r >= 0);
        rt_unshield();
    }
    rt_event_destroy(&m.gone);
    iscsi_conn_unref(c);
}
