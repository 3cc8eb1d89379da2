/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutexes.
 *
 *              lock                        a rival sleeps
 *     FREE ------------> HELD -------------------------------> AWAITED
 *      ^                  | unlock                                | unlock: wakes one sleeper
 *      '------------------'---------------------------------------'
 *
 * M1. Who may sleep has set AWAITED before, and takes the mutex as AWAITED: it cannot know whether
 * others sleep still. So a wake-up too many happens, one too few does not.
 *
 * M2. The mutex may be freed by whoever locks it next: after the exchange in unlock only its
 * address is used, and to wake somebody who sleeps there for another reason does no harm.
 *
 * Sections are short, so a rival spins a little first: a sleep in the kernel costs more.
 */
#include "rt/sync.h"
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 100

_Thread_local unsigned rt_mutexes_held;

void rt_mutex_init(struct rt_mutex *m)
{
    atomic_init(&m->state, RT_MUTEX_FREE);
}

void rt_mutex_destroy(struct rt_mutex *m)
{
    ASSERT(atomic_load_explicit(&m->state, memory_order_relaxed) == RT_MUTEX_FREE);
}

static inline void pause_a_little(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

static bool spin(struct rt_mutex *m)
{
    for (unsigned i = 0; i < SPINS; i++) {
        uint32_t is = atomic_load_explicit(&m->state, memory_order_relaxed);
        if (is == RT_MUTEX_AWAITED) {
            return false; /* others sleep already */
        }
        if (is == RT_MUTEX_FREE &&
            atomic_compare_exchange_weak_explicit(&m->state, &is, RT_MUTEX_HELD,
                                                  memory_order_acquire, memory_order_relaxed)) {
            return true;
        }
        pause_a_little();
    }
    return false;
}

void rt_mutex_lock_slow(struct rt_mutex *m)
{
    if (spin(m)) {
        return;
    }
    while (atomic_exchange_explicit(&m->state, RT_MUTEX_AWAITED, memory_order_acquire) !=
           RT_MUTEX_FREE) {
        long r = syscall(SYS_futex, &m->state, FUTEX_WAIT_PRIVATE, RT_MUTEX_AWAITED, NULL, NULL, 0);
        ASSERT(r == 0 || errno == EAGAIN || errno == EINTR);
    }
}

void rt_mutex_wake(struct rt_mutex *m)
{
    (void)syscall(SYS_futex, &m->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
