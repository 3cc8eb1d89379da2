/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One wait, one outcome.
 *
 * Wake-ups, time-outs and cancellation race for a waiting fiber, from several threads. The fiber's
 * wait word decides: whoever moves it from a waiting state to an outcome has won, makes the fiber
 * runnable, and nobody else does.
 *
 *                 arm                    wake, by any thread
 *        NONE ----------> ARMED --------------------------------> WOKEN ------.
 *         ^  \              | \-- its timer, on its core --------> TIMEDOUT ---|
 *         |   \             '---- rt_group_cancel, or the fiber -> CANCELLED --|
 *         |    `-> SHIELDED ---- wake -----------------------> WOKEN           |
 *         |              \------ its timer ------------------> TIMEDOUT        |
 *         '------------- the fiber, when it runs again ------------------------'
 *
 * W1. Only the fiber itself leaves NONE and comes back to it. It arms before it becomes visible to
 * wakers (in a list, in a job), while it still runs; a waker that is faster than the switch only
 * puts it into a queue of the core that is still running it. W2. Exactly one compare-and-swap out
 * of ARMED or SHIELDED succeeds for each arming. W3. The winner makes the fiber runnable as its
 * last act; the fiber may end at once, and its stack be unmapped. So a waker reads nothing of the
 * fiber after rt_fiber_wake() returned true. W4. A pointer to a waiting fiber is used only under
 * what keeps the fiber from leaving its wait: the mutex of the list it stands in (a waiter takes
 * that mutex again before its wait returns), the mutex of its group (a fiber ends only after
 * leaving it), what the caller of rt_fiber_cancel() vouches for, or its own core (timers, gates).
 * Hence no waker meets a later wait of the same fiber by mistake; but for the canceller, whose
 * message holds for every later wait too. W5. Cancellation is not lost: the canceller sets the
 * group's flag, or the fiber's, then tries each member; a fiber arms, then looks at the flag. Both
 * orders are sequentially consistent, so one of them sees the other.
 */
#include "base/assert.h"
#include "rt/rt_priv.h"
#include <errno.h>

void rt_wait_arm(struct rt_fiber *f, bool shielded)
{
    ASSERT(atomic_load_explicit(&f->wait, memory_order_relaxed) == RT_WAIT_NONE);
    if (shielded || f->shields > 0 || !f->group) {
        atomic_store_explicit(&f->wait, RT_WAIT_SHIELDED, memory_order_release);
    } else {
        atomic_store_explicit(&f->wait, RT_WAIT_ARMED, memory_order_seq_cst);
    }
}

bool rt_fiber_wake(struct rt_fiber *f, enum rt_wait outcome)
{
    if (f->killed) {
        return false;
    }
    uint32_t state = atomic_load_explicit(&f->wait, memory_order_seq_cst);
    while (state == RT_WAIT_ARMED || (state == RT_WAIT_SHIELDED && outcome != RT_WAIT_CANCELLED)) {
        if (atomic_compare_exchange_weak(&f->wait, &state, outcome)) {
            rt_core_ready(f);
            return true;
        }
    }
    return false;
}

/* True when the fiber ended its own wait because its group is cancelled: it need not be switched
 * out. */
static bool cancel_self(struct rt_fiber *f)
{
    uint32_t state = RT_WAIT_ARMED;
    return f->group && (rt_group_is_cancelled(f->group) || atomic_load(&f->cancelled)) &&
           atomic_compare_exchange_strong(&f->wait, &state, RT_WAIT_CANCELLED);
}

int rt_wait_suspend(struct rt_fiber *f, uint64_t deadline_ns)
{
    ASSERT(rt_mutexes_held == 0);
    if (!cancel_self(f)) {
        if (deadline_ns != RT_FOREVER) {
            rt_timers_add(&f->core->timers, &f->timer, deadline_ns);
        }
        rt_fiber_suspend(f);
        rt_timers_remove(&f->core->timers, &f->timer);
    }
    uint32_t outcome = atomic_load_explicit(&f->wait, memory_order_acquire);
    atomic_store_explicit(&f->wait, RT_WAIT_NONE, memory_order_relaxed);
    if (outcome == RT_WAIT_WOKEN) {
        return 0;
    }
    ASSERT(outcome == RT_WAIT_TIMEDOUT || outcome == RT_WAIT_CANCELLED);
    return outcome == RT_WAIT_TIMEDOUT ? -ETIMEDOUT : -ECANCELED;
}

int rt_sleep_until(uint64_t deadline_ns)
{
    struct rt_fiber *f = rt_fiber_self();
    rt_wait_arm(f, false);
    int r = rt_wait_suspend(f, deadline_ns);
    return r == -ETIMEDOUT ? 0 : r;
}

int rt_sleep_ms(uint64_t ms)
{
    return rt_sleep_until(rt_after_ms(ms));
}
