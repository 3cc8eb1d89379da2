/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wait queues, events, fiber locks, gates. credits.c has the pools.
 *
 * All lists of waiters hold nodes on the waiters' stacks and are guarded by a mutex. A waiter whose
 * wait has ended, however it ended, takes that mutex before it returns. So a waker that holds the
 * mutex may touch each node it finds, and an object may be freed as soon as a wait on it has
 * returned.
 */
#include "rt/sync.h"
#include "base/assert.h"
#include "rt/rt_priv.h"
#include <errno.h>

struct waiter {
    struct list link;
    struct rt_fiber *fiber;
};

void rt_waitq_init(struct rt_waitq *q)
{
    list_init(&q->waiters);
}

static int waitq_wait(struct rt_waitq *q, struct rt_mutex *m, uint64_t deadline_ns, bool shielded)
{
    struct waiter w = {.fiber = rt_fiber_self()};
    rt_wait_arm(w.fiber, shielded);
    list_push_back(&q->waiters, &w.link);
    rt_mutex_unlock(m);
    int r = rt_wait_suspend(w.fiber, deadline_ns);
    rt_mutex_lock(m);
    list_remove(&w.link);
    return r;
}

int rt_waitq_wait(struct rt_waitq *q, struct rt_mutex *m, uint64_t deadline_ns)
{
    return waitq_wait(q, m, deadline_ns, false);
}

/* True when a waiter was woken: one whose wait has been decided otherwise does not count. */
static bool waitq_wake(struct rt_waitq *q)
{
    struct list *node;
    while ((node = list_pop_front(&q->waiters))) {
        if (rt_fiber_wake(container_of(node, struct waiter, link)->fiber, RT_WAIT_WOKEN)) {
            return true;
        }
    }
    return false;
}

void rt_waitq_wake_one(struct rt_waitq *q)
{
    (void)waitq_wake(q);
}

void rt_waitq_wake_all(struct rt_waitq *q)
{
    while (waitq_wake(q)) {
    }
}

void rt_event_init(struct rt_event *e)
{
    rt_mutex_init(&e->m);
    rt_waitq_init(&e->q);
    e->set = false;
}

void rt_event_destroy(struct rt_event *e)
{
    ASSERT(list_is_empty(&e->q.waiters));
    rt_mutex_destroy(&e->m);
}

void rt_event_set(struct rt_event *e)
{
    rt_mutex_lock(&e->m);
    e->set = true;
    rt_waitq_wake_all(&e->q);
    rt_mutex_unlock(&e->m);
}

void rt_event_reset(struct rt_event *e)
{
    rt_mutex_lock(&e->m);
    e->set = false;
    rt_mutex_unlock(&e->m);
}

bool rt_event_is_set(struct rt_event *e)
{
    rt_mutex_lock(&e->m);
    bool set = e->set;
    rt_mutex_unlock(&e->m);
    return set;
}

int rt_event_wait(struct rt_event *e, uint64_t deadline_ns)
{
    int r = 0;
    rt_mutex_lock(&e->m);
    while (!e->set && r == 0) {
        r = rt_waitq_wait(&e->q, &e->m, deadline_ns);
    }
    if (e->set) {
        r = 0;
    }
    rt_mutex_unlock(&e->m);
    return r;
}

void rt_lock_init(struct rt_lock *l, enum rt_rank rank)
{
    rt_mutex_init(&l->m);
    rt_waitq_init(&l->q);
    l->held = false;
    l->rank = rank;
}

void rt_lock_destroy(struct rt_lock *l)
{
    ASSERT(!l->held);
    rt_mutex_destroy(&l->m);
}

void rt_lock_take(struct rt_lock *l)
{
    struct rt_fiber *f = rt_fiber_self();
    ASSERT(rt_mutexes_held == 0);
    ASSERT(f->lock_ranks >> l->rank == 0);
    rt_mutex_lock(&l->m);
    if (l->held) {
        /* The releaser hands it over: `held` stays true, and nobody gets in between. */
        int r = waitq_wait(&l->q, &l->m, RT_FOREVER, true);
        ASSERT(r == 0);
    }
    l->held = true;
    rt_mutex_unlock(&l->m);
    f->lock_ranks |= 1u << l->rank;
}

void rt_lock_release(struct rt_lock *l)
{
    struct rt_fiber *f = rt_fiber_self();
    ASSERT(f->lock_ranks & 1u << l->rank);
    f->lock_ranks &= ~(1u << l->rank);
    rt_mutex_lock(&l->m);
    ASSERT(l->held);
    l->held = waitq_wake(&l->q);
    rt_mutex_unlock(&l->m);
}

int rt_gate_wait(struct rt_gate *g, uint64_t deadline_ns)
{
    struct rt_fiber *f = rt_fiber_self();
    ASSERT(!g->waiter);
    rt_wait_arm(f, false);
    g->waiter = f;
    int r = rt_wait_suspend(f, deadline_ns);
    g->waiter = NULL;
    return r;
}

void rt_gate_wake(struct rt_gate *g)
{
    if (g->waiter) {
        ASSERT(g->waiter->core == rt_core_here);
        (void)rt_fiber_wake(g->waiter, RT_WAIT_WOKEN);
    }
}
