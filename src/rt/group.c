/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups. The mutex guards the list of members and the waiters for its end. A member leaves the
 * list as the last thing it does with the group, and whoever waits for the last one takes the mutex
 * again after waking, so that the group may be destroyed right after the wait.
 */
#include "base/assert.h"
#include "rt/rt_priv.h"
#include <errno.h>
#include <stdlib.h>

struct rt_group {
    struct rt_mutex m;
    struct list members;
    struct rt_waitq empty;
    _Atomic bool cancelled;
};

int rt_group_create(struct rt_group **ret_group)
{
    struct rt_group *g = calloc(1, sizeof *g);
    if (!g) {
        return -ENOMEM;
    }
    rt_mutex_init(&g->m);
    list_init(&g->members);
    rt_waitq_init(&g->empty);
    *ret_group = g;
    return 0;
}

void rt_group_destroy(struct rt_group *g)
{
    if (!g) {
        return;
    }
    rt_mutex_lock(&g->m);
    ASSERT(list_is_empty(&g->members));
    rt_mutex_unlock(&g->m);
    rt_mutex_destroy(&g->m);
    free(g);
}

void rt_group_join(struct rt_group *g, struct rt_fiber *f)
{
    rt_mutex_lock(&g->m);
    list_push_back(&g->members, &f->group_link);
    rt_mutex_unlock(&g->m);
}

void rt_group_leave(struct rt_group *g, struct rt_fiber *f)
{
    rt_mutex_lock(&g->m);
    list_remove(&f->group_link);
    if (list_is_empty(&g->members)) {
        rt_waitq_wake_all(&g->empty);
    }
    rt_mutex_unlock(&g->m);
}

void rt_group_cancel(struct rt_group *g)
{
    rt_mutex_lock(&g->m);
    atomic_store(&g->cancelled, true);
    list_for_each(&g->members, struct rt_fiber, group_link, f) {
        (void)rt_fiber_wake(f, RT_WAIT_CANCELLED);
    }
    rt_mutex_unlock(&g->m);
}

bool rt_group_is_cancelled(const struct rt_group *g)
{
    return atomic_load(&g->cancelled);
}

void rt_group_wait(struct rt_group *g)
{
    ASSERT(rt_fiber_self()->group != g);
    rt_shield();
    rt_mutex_lock(&g->m);
    while (!list_is_empty(&g->members)) {
        int r = rt_waitq_wait(&g->empty, &g->m, RT_FOREVER);
        ASSERT(r == 0);
    }
    rt_mutex_unlock(&g->m);
    rt_unshield();
}
