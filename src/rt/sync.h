/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for one another.
 *
 *   rt_mutex    short, for shared memory; never held across a WAITS (asserted); ranks are not
 * needed, nest none rt_event    a flag one can wait for; set from any thread rt_lock     mutual
 * exclusion of fibers across waits; FIFO; has a rank, and a fiber takes locks in rising rank only
 * (asserted) rt_credits  a counted, FIFO pool (memory, dirty space, requests in flight) rt_waitq
 * condition-variable-like list of waiting fibers, used with an rt_mutex of the caller's rt_gate one
 * fiber waits, others of the same core wake it: no mutex, nothing remembered
 *
 * A wait that need not suspend (the event is set, the units are there) succeeds in a cancelled
 * fiber too.
 *
 * All but gates work between fibers of different cores. Waking from the waker's own core costs no
 * system call.
 */
#pragma once
#include "base/assert.h"
#include "base/attr.h"
#include "base/list.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* mutex.c has the diagram. Without a rival, one atomic instruction to lock and one to unlock. */
struct rt_mutex {
    _Atomic uint32_t state;
};

enum rt_mutex_state {
    RT_MUTEX_FREE,
    RT_MUTEX_HELD,
    RT_MUTEX_AWAITED, /* held, and somebody may sleep for it */
};

/* How many the thread holds, and RT_WAKES_DUE. */
extern _Thread_local unsigned rt_mutexes_held;
void rt_mutex_lock_slow(struct rt_mutex *m);
void rt_mutex_wake(struct rt_mutex *m);

/*
 * A fiber that is woken is at once in line on its core. But a core that sleeps is told only when
 * the waking thread holds no mutex any more: it would only come to sleep again for that mutex, and
 * on a shared processor it would stop the waker before it lets go of it.
 */
#define RT_WAKES_DUE 0x80000000u
void rt_wakes_deliver(void);
/* Sleeping cores are told once, at the end, however many fibers are woken in between. Short, and
 * without a WAITS, as a mutex. */
void rt_wakes_hold(void);
void rt_wakes_release(void);

void rt_mutex_init(struct rt_mutex *m);
void rt_mutex_destroy(struct rt_mutex *m); /* asserts that nobody holds it */

static inline void rt_mutex_lock(struct rt_mutex *m)
{
    uint32_t is = RT_MUTEX_FREE;
    if (unlikely(!atomic_compare_exchange_strong_explicit(
            &m->state, &is, RT_MUTEX_HELD, memory_order_acquire, memory_order_relaxed))) {
        rt_mutex_lock_slow(m);
    }
    rt_mutexes_held++;
}

static inline void rt_mutex_unlock(struct rt_mutex *m)
{
    ASSERT(rt_mutexes_held > 0);
    rt_mutexes_held--;
    uint32_t was = atomic_exchange_explicit(&m->state, RT_MUTEX_FREE, memory_order_release);
    ASSERT(was != RT_MUTEX_FREE);
    if (unlikely(was == RT_MUTEX_AWAITED)) {
        rt_mutex_wake(m);
    }
    if (unlikely(rt_mutexes_held == RT_WAKES_DUE)) {
        rt_wakes_deliver();
    }
}

struct rt_waitq {
    struct list waiters;
};

void rt_waitq_init(struct rt_waitq *q);
/*
 * Called with m held, which guards q: enqueues the fiber, releases m, suspends, and takes m again.
 * 0 when woken, -ETIMEDOUT, -ECANCELED. As with a condition variable the caller checks its
 * condition in a loop.
 */
MUST int rt_waitq_wait(struct rt_waitq *q, struct rt_mutex *m, uint64_t deadline_ns) WAITS;
/* Called with m held. May be called from any thread of the process. */
void rt_waitq_wake_one(struct rt_waitq *q);
void rt_waitq_wake_all(struct rt_waitq *q);

/*
 * Set once or many times; a wait returns when it is set. rt_event_reset() makes it unset. The event
 * may be freed by the waiter as soon as its wait has returned 0.
 */
struct rt_event {
    struct rt_mutex m;
    struct rt_waitq q;
    bool set;
};

void rt_event_init(struct rt_event *e);
void rt_event_destroy(struct rt_event *e);
void rt_event_set(struct rt_event *e);
void rt_event_reset(struct rt_event *e);
bool rt_event_is_set(struct rt_event *e);
/* 0, -ETIMEDOUT, -ECANCELED. */
MUST int rt_event_wait(struct rt_event *e, uint64_t deadline_ns) WAITS;

enum rt_rank {
    RT_RANK_ADMIN = 1,  /* ctl: one command at a time */
    RT_RANK_REGISTRY,   /* dev: changes of the device table */
    RT_RANK_DEVICE,     /* dev: resize and delete of one device */
    RT_RANK_SESSION,    /* iscsi: session tables */
    RT_RANK_VOLUME,     /* vol: transactions */
    RT_RANK_APPLY,      /* vol: the apply order */
    RT_RANK_MANIFEST,   /* index: one manifest at a time */
    RT_RANK_COMPACTION, /* index */
};

struct rt_lock {
    struct rt_mutex m;
    struct rt_waitq q;
    bool held;
    enum rt_rank rank;
};

void rt_lock_init(struct rt_lock *l, enum rt_rank rank);
void rt_lock_destroy(struct rt_lock *l);
/* Waits without a deadline; not ended by cancellation: a holder always comes to its end. */
void rt_lock_take(struct rt_lock *l) WAITS;
void rt_lock_release(struct rt_lock *l);

struct rt_credits {
    struct rt_mutex m;
    struct list waiters;
    _Atomic uint64_t total; /* read anywhere, changed under m */
    _Atomic uint64_t used;
};

void rt_credits_init(struct rt_credits *c, uint64_t total);
void rt_credits_destroy(struct rt_credits *c);
/*
 * Takes n units, waiting in line behind earlier takers: 0, -ETIMEDOUT, -ECANCELED; n is clamped by
 * the caller to a quarter of the total. rt_credits_try() takes them only if nobody waits and they
 * are there: no suspension.
 */
MUST int rt_credits_take(struct rt_credits *c, uint64_t n, uint64_t deadline_ns) WAITS;
MUST bool rt_credits_try(struct rt_credits *c, uint64_t n);
void rt_credits_give(struct rt_credits *c, uint64_t n);
/* May shrink below what is used: takers then wait until enough came back. */
void rt_credits_resize(struct rt_credits *c, uint64_t total);
uint64_t rt_credits_used(const struct rt_credits *c);

/*
 * A place where one fiber at a time waits for others of its core. A wake without a waiter is lost:
 * the waiter checks its condition first, and between check and wait nothing else runs. Initialise
 * with {0}.
 */
struct rt_fiber;
struct rt_gate {
    struct rt_fiber *waiter;
};

/* 0 when woken, -ETIMEDOUT, -ECANCELED. */
MUST int rt_gate_wait(struct rt_gate *g, uint64_t deadline_ns) WAITS;
/* On the waiter's core; does nothing when nobody waits. */
void rt_gate_wake(struct rt_gate *g);
