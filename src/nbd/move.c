/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that changes cores, as net_place() wants it.
 *
 * The fiber that the listener started is the connection's home. It runs the session itself until
 * that wants to go elsewhere; then a guest fiber on the other core takes the connection over, and
 * home waits: so the listener, who cancels its fibers and waits for them, still reaches the
 * connection. From there it may go on to a third core, or come home, by way of home each time. Who
 * has it when it ends closes it.
 *
 * That costs a second fiber, so nobody moves any more when stacks are scarce.
 *
 * It moves with what was received and not consumed, and with nothing else: no request under way, no
 * reply queued. A device that went while the connection was between two lists of connections found
 * it in neither: who takes it over looks after that itself.
 */
#include "base/assert.h"
#include "nbd/conn.h"

struct visit {
    struct nbd_conn *c;
    void (*end)(struct nbd_conn *c, int r) WAITS;
    struct rt_group *group;
    struct rt_event left;
    int r;
};

static void depart(struct nbd_conn *c)
{
    ASSERT(c->inflight == 0);
    list_remove(&c->link);
    net_move_out(c->stream);
    atomic_store(&c->core_index, c->next_core);
}

/* The session on this core: NBD_MOVES when it has departed again, else it has ended. */
static int stay(struct visit *v) WAITS
{
    int r = nbd_session(v->c);
    if (r == NBD_MOVES) {
        depart(v->c);
    } else {
        v->end(v->c, r);
    }
    return r;
}

static int arrive(struct visit *v) WAITS
{
    struct nbd_conn *c = v->c;
    c->core = &c->server->cores[rt_core_self()];
    atomic_store(&c->core_index, rt_core_self());
    list_push_back(&c->core->conns, &c->link);
    c->stall_bytes = 0;
    c->stall_ns = rt_turn_ns();
    int r = net_move_in(c->stream);
    if (r == 0 && dev_is_gone(c->dev)) {
        net_shutdown(c->stream);
        r = -ECONNRESET;
    }
    if (r < 0) {
        v->end(c, r);
        return r;
    }
    return stay(v);
}

static void guest(void *arg)
{
    struct visit *v = arg;
    v->r = arrive(v);
    rt_event_set(&v->left);
}

/* On the core where it is to be next. */
static int go_on(struct visit *v, unsigned home) WAITS
{
    if (v->c->next_core == home || !v->group ||
        rt_group_spawn_on(v->group, v->c->next_core, "nbd", guest, v) < 0) {
        return arrive(v);
    }
    if (rt_event_wait(&v->left, RT_FOREVER) < 0) {
        rt_group_cancel(v->group);
    }
    rt_group_wait(v->group);
    rt_event_reset(&v->left);
    return v->r;
}

void nbd_session_run(struct nbd_conn *c, void (*end)(struct nbd_conn *c, int r) WAITS)
{
    struct visit v = {.c = c, .end = end};
    int r = stay(&v);
    if (r != NBD_MOVES) {
        return;
    }
    unsigned home = rt_core_self();
    rt_event_init(&v.left);
    int made = rt_group_create(&v.group);
    v.group = made < 0 ? NULL : v.group; /* without one it stays at home */
    while (r == NBD_MOVES) {
        r = go_on(&v, home);
    }
    rt_event_destroy(&v.left);
    rt_group_destroy(v.group);
}
