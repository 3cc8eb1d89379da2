/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Offload threads, a pool for each kind. A pool starts a thread when a job comes, none is idle and
 * the pool is not at its size; threads live until rt_run() ends. The job's record lies on the stack
 * of the fiber, which is armed before the job becomes visible and cannot be woken by anything but
 * the job's end.
 */
#include "rt/offload.h"
#include "base/assert.h"
#include "rt/rt_priv.h"
#include <errno.h>
#include <signal.h>

#define THREADS_MAX 64

struct job {
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct rt_fiber *fiber;
    struct list link;
};

struct pool {
    pthread_mutex_t m;
    pthread_cond_t more;
    struct list jobs;
    size_t queued;
    unsigned idle;
    unsigned threads;
    bool stop;
    bool ready; /* jobs is initialised */
    pthread_t ids[THREADS_MAX];
};

static struct pool pools[RT_OFFLOAD_KINDS] = {
    [RT_OFFLOAD_CPU] = {.m = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER},
    [RT_OFFLOAD_COMMIT] = {.m = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER},
    [RT_OFFLOAD_CACHE] = {.m = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER},
    [RT_OFFLOAD_IO] = {.m = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER},
};

static void *worker(void *arg)
{
    struct pool *p = arg;
    (void)pthread_mutex_lock(&p->m);
    for (;;) {
        struct list *node = list_pop_front(&p->jobs);
        if (!node) {
            if (p->stop) {
                break;
            }
            p->idle++;
            (void)pthread_cond_wait(&p->more, &p->m);
            p->idle--;
            continue;
        }
        p->queued--;
        (void)pthread_mutex_unlock(&p->m);
        struct job *j = container_of(node, struct job, link);
        j->result = j->fn(j->arg);
        bool woken = rt_fiber_wake(j->fiber, RT_WAIT_WOKEN);
        ASSERT(woken);
        (void)pthread_mutex_lock(&p->m);
    }
    (void)pthread_mutex_unlock(&p->m);
    return NULL;
}

/* Starts one more thread, with all signals blocked. Called with p->m held. */
static void pool_grow(struct pool *p)
{
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&p->ids[p->threads], NULL, worker, p) == 0) {
        p->threads++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* False when there is no thread at all to run the job. */
static bool pool_submit(struct pool *p, struct job *j, unsigned threads_max)
{
    (void)pthread_mutex_lock(&p->m);
    if (!p->ready) {
        list_init(&p->jobs);
        p->ready = true;
    }
    if (p->idle <= p->queued && p->threads < MIN_OF(threads_max, (unsigned)THREADS_MAX)) {
        pool_grow(p);
    }
    bool ok = p->threads > 0;
    if (ok) {
        list_push_back(&p->jobs, &j->link);
        p->queued++;
        (void)pthread_cond_signal(&p->more);
    }
    (void)pthread_mutex_unlock(&p->m);
    return ok;
}

static int offload_sim(int (*fn)(void *arg), void *arg)
{
    rt_shield();
    (void)rt_sleep_until(rt_now_ns() + rt_sim_delay_ns(rt_core_here));
    int r = fn(arg);
    (void)rt_sleep_until(rt_now_ns() + rt_sim_delay_ns(rt_core_here));
    rt_unshield();
    return r;
}

int rt_offload(enum rt_offload_kind kind, int (*fn)(void *arg), void *arg)
{
    struct job j = {.fn = fn, .arg = arg, .fiber = rt_fiber_self()};
    ASSERT(rt_mutexes_held == 0);
    if (rt_core_here->sim) {
        return offload_sim(fn, arg);
    }
    unsigned max = kind == RT_OFFLOAD_CPU ? rt_runtime.cpu_threads : rt_runtime.block_threads;
    rt_wait_arm(j.fiber, true);
    if (!pool_submit(&pools[kind], &j, max)) {
        /* Not one thread can be had: a held-up core is better than a job that is never done. */
        atomic_store_explicit(&j.fiber->wait, RT_WAIT_NONE, memory_order_relaxed);
        return fn(arg);
    }
    int r = rt_wait_suspend(j.fiber, RT_FOREVER);
    ASSERT(r == 0);
    return j.result;
}

void rt_offload_stop(void)
{
    for (unsigned k = 0; k < RT_OFFLOAD_KINDS; k++) {
        struct pool *p = &pools[k];
        (void)pthread_mutex_lock(&p->m);
        p->stop = true;
        (void)pthread_cond_broadcast(&p->more);
        (void)pthread_mutex_unlock(&p->m);
        for (unsigned i = 0; i < p->threads; i++) {
            (void)pthread_join(p->ids[i], NULL);
        }
        p->threads = 0;
        p->stop = false;
    }
}
