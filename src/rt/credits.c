/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credits: a counted pool that serves takers strictly in line.
 *
 * C1. Nobody takes while somebody waits: a large request is not starved by small ones.
 * C2. Units are taken for a waiter by whoever gave them back, before the waiter runs; a waiter that
 * was given units returns 0 even if its deadline has passed meanwhile (its wait had been decided).
 * C3. Whenever the head of the line changes or units come back, the line is served from its head. A
 * request larger than a pool that has shrunk is served when nothing is used, so that it does not
 * wait for ever.
 */
#include "base/assert.h"
#include "rt/rt_priv.h"
#include <errno.h>

struct taker {
    struct list link;
    struct rt_fiber *fiber;
    uint64_t n;
};

void rt_credits_init(struct rt_credits *c, uint64_t total)
{
    rt_mutex_init(&c->m);
    list_init(&c->waiters);
    c->total = total;
    atomic_init(&c->used, 0);
}

void rt_credits_destroy(struct rt_credits *c)
{
    ASSERT(list_is_empty(&c->waiters));
    rt_mutex_destroy(&c->m);
}

static bool fits(const struct rt_credits *c, uint64_t n)
{
    uint64_t used = atomic_load_explicit(&c->used, memory_order_relaxed);
    return used == 0 || (used <= c->total && n <= c->total - used);
}

static void use(struct rt_credits *c, uint64_t n)
{
    uint64_t used = atomic_load_explicit(&c->used, memory_order_relaxed);
    atomic_store_explicit(&c->used, used + n, memory_order_relaxed);
}

/* Gives units to those in line, as far as they go. */
static void serve(struct rt_credits *c)
{
    while (!list_is_empty(&c->waiters)) {
        struct taker *t = container_of(c->waiters.next, struct taker, link);
        if (!fits(c, t->n)) {
            return;
        }
        uint64_t n = t->n;
        list_remove(&t->link);
        if (rt_fiber_wake(t->fiber, RT_WAIT_WOKEN)) {
            use(c, n);
        }
    }
}

static bool try_locked(struct rt_credits *c, uint64_t n)
{
    if (!list_is_empty(&c->waiters) || !fits(c, n)) {
        return false;
    }
    use(c, n);
    return true;
}

bool rt_credits_try(struct rt_credits *c, uint64_t n)
{
    rt_mutex_lock(&c->m);
    bool got = try_locked(c, n);
    rt_mutex_unlock(&c->m);
    return got;
}

int rt_credits_take(struct rt_credits *c, uint64_t n, uint64_t deadline_ns)
{
    struct taker t = {.fiber = rt_fiber_self(), .n = n};
    ASSERT(rt_mutexes_held == 0);
    rt_mutex_lock(&c->m);
    if (try_locked(c, n)) {
        rt_mutex_unlock(&c->m);
        return 0;
    }
    rt_wait_arm(t.fiber, false);
    list_push_back(&c->waiters, &t.link);
    rt_mutex_unlock(&c->m);
    int r = rt_wait_suspend(t.fiber, deadline_ns);
    rt_mutex_lock(&c->m);
    list_remove(&t.link);
    if (r < 0) {
        serve(c);
    }
    rt_mutex_unlock(&c->m);
    return r;
}

void rt_credits_give(struct rt_credits *c, uint64_t n)
{
    rt_mutex_lock(&c->m);
    uint64_t used = atomic_load_explicit(&c->used, memory_order_relaxed);
    ASSERT(n <= used);
    atomic_store_explicit(&c->used, used - n, memory_order_relaxed);
    serve(c);
    rt_mutex_unlock(&c->m);
}

void rt_credits_resize(struct rt_credits *c, uint64_t total)
{
    rt_mutex_lock(&c->m);
    c->total = total;
    serve(c);
    rt_mutex_unlock(&c->m);
}

uint64_t rt_credits_used(const struct rt_credits *c)
{
    return atomic_load_explicit(&c->used, memory_order_relaxed);
}
