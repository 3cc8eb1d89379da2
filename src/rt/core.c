/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A core: the loop of one thread.
 *
 * TURN. A turn takes over the inbox, expires timers, runs the fibers that were runnable when it
 * began (at most RT_TURN_FIBERS; those that become runnable meanwhile wait for the next turn), then
 * calls the armed hooks. Then it looks at epoll: without waiting every RT_POLL_TURNS turns while
 * there is work, and waiting when there is none.
 *
 * INBOX. Other threads push fibers onto a list; the core takes the whole list at once. A push
 * writes to the eventfd only if the core sleeps:
 *
 *     core:    sleeping = 1;  if (inbox) do not sleep           other:   push;  if (sleeping) write
 *
 * all sequentially consistent, so that one of the two sees the other. The eventfd is watched
 * edge-triggered and never read. A pusher who holds a mutex looks at `sleeping` when it has let go
 * of it (sync.h).
 */
#include "base/assert.h"
#include "base/time.h"
#include "rt/buf.h"
#include "rt/rt_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct rt_runtime rt_runtime;

static void run_push(struct rt_core *core, struct rt_fiber *f)
{
    f->next = NULL;
    if (core->run_tail) {
        core->run_tail->next = f;
    } else {
        core->run_head = f;
    }
    core->run_tail = f;
    core->run_count++;
}

static struct rt_fiber *run_pop(struct rt_core *core)
{
    struct rt_fiber *f = core->run_head;
    ASSERT(f);
    core->run_head = f->next;
    if (!core->run_head) {
        core->run_tail = NULL;
    }
    core->run_count--;
    return f;
}

static _Thread_local uint64_t wakes_due; /* a bit for each core */
_Static_assert(RT_CORES_MAX <= 64, "wakes_due has a bit for each core");

static void notify_now(struct rt_core *core)
{
    if (atomic_load(&core->sleeping) && atomic_exchange(&core->sleeping, 0)) {
        uint64_t one = 1;
        ssize_t n = write(core->wake_fd, &one, sizeof one);
        ASSERT(n == (ssize_t)sizeof one);
    }
}

void rt_core_notify(struct rt_core *core)
{
    if (rt_mutexes_held == 0) {
        notify_now(core);
    } else {
        wakes_due |= 1ull << core->index;
        rt_mutexes_held |= RT_WAKES_DUE;
    }
}

void rt_wakes_deliver(void)
{
    uint64_t due = wakes_due;
    wakes_due = 0;
    rt_mutexes_held = 0;
    for (; due != 0; due &= due - 1) {
        notify_now(rt_runtime.cores[__builtin_ctzll(due)]);
    }
}

void rt_wakes_hold(void)
{
    rt_mutexes_held++;
}

void rt_wakes_release(void)
{
    ASSERT(rt_mutexes_held > 0);
    if (--rt_mutexes_held == RT_WAKES_DUE) {
        rt_wakes_deliver();
    }
}

void rt_core_ready(struct rt_fiber *f)
{
    struct rt_core *core = f->core;
    if (core == rt_core_here) {
        if (core->sim) {
            rt_sim_ready(f);
        } else {
            run_push(core, f);
        }
        return;
    }
    struct rt_fiber *head = atomic_load(&core->inbox);
    do {
        f->next = head;
    } while (!atomic_compare_exchange_weak(&core->inbox, &head, f));
    rt_core_notify(core);
}

static void inbox_drain(struct rt_core *core)
{
    if (!atomic_load_explicit(&core->inbox, memory_order_relaxed)) {
        return;
    }
    struct rt_fiber *newest = atomic_exchange(&core->inbox, NULL);
    struct rt_fiber *oldest = NULL;
    while (newest) {
        struct rt_fiber *f = newest;
        newest = f->next;
        f->next = oldest;
        oldest = f;
    }
    while (oldest) {
        struct rt_fiber *f = oldest;
        oldest = f->next;
        run_push(core, f);
    }
}

void rt_core_expire(struct rt_core *core, uint64_t now_ns)
{
    struct rt_timer *t;
    while ((t = rt_timers_first(&core->timers)) && t->deadline_ns <= now_ns) {
        struct rt_fiber *f = container_of(t, struct rt_fiber, timer);
        rt_timers_remove(&core->timers, t);
        if (!core->sim || !rt_sim_defer(f)) {
            (void)rt_fiber_wake(f, RT_WAIT_TIMEDOUT);
        }
    }
}

void rt_core_run_hooks(struct rt_core *core)
{
    /* One that is armed by a hook waits for the next turn; one that is disarmed by a hook is not
     * called. */
    core->hooks_now = core->hooks;
    core->hooks = NULL;
    core->hooks_end = &core->hooks;
    while (core->hooks_now) {
        struct rt_turn_hook *h = core->hooks_now;
        core->hooks_now = h->next;
        h->armed = false;
        h->fn(h);
    }
}

void rt_turn_hook_arm(struct rt_turn_hook *h)
{
    struct rt_core *core = rt_core_here;
    ASSERT(core);
    if (h->armed) {
        return;
    }
    h->next = NULL;
    h->armed = true;
    *core->hooks_end = h;
    core->hooks_end = &h->next;
}

/* Takes h out of the list that begins at *at; false when it is not there. */
static bool hook_take_out(struct rt_turn_hook **at, const struct rt_turn_hook *h)
{
    while (*at && *at != h) {
        at = &(*at)->next;
    }
    if (!*at) {
        return false;
    }
    *at = h->next;
    return true;
}

void rt_turn_hook_disarm(struct rt_turn_hook *h)
{
    struct rt_core *core = rt_core_here;
    if (!h->armed) {
        return;
    }
    ASSERT(core);
    if (!hook_take_out(&core->hooks_now, h)) {
        bool found = hook_take_out(&core->hooks, h);
        ASSERT(found);
        core->hooks_end = &core->hooks;
        while (*core->hooks_end) {
            core->hooks_end = &(*core->hooks_end)->next;
        }
    }
    h->armed = false;
}

bool rt_all_ended(void)
{
    if (!atomic_load(&rt_runtime.main_ended)) {
        return false;
    }
    /* All that ended first, then all that started: if the sums are equal, nothing lived in between.
     */
    uint64_t ended = 0;
    uint64_t started = 0;
    for (unsigned i = 0; i < rt_runtime.core_count; i++) {
        ended += atomic_load(&rt_runtime.cores[i]->ended);
    }
    for (unsigned i = 0; i < rt_runtime.core_count; i++) {
        struct rt_core *core = rt_runtime.cores[i];
        started += atomic_load(&core->started) + atomic_load(&core->started_remotely);
    }
    return started == ended;
}

/*
 * Called by each core when it is about to sleep: the last one to come here after main's end stops
 * all. The sequentially consistent store to `sleeping` stands between a core's count of what ended
 * and its look at the others' counts, so that of two cores at least one sees both.
 */
static void stop_if_ended(void)
{
    if (!atomic_load_explicit(&rt_runtime.main_ended, memory_order_relaxed) || !rt_all_ended()) {
        return;
    }
    atomic_store(&rt_runtime.stop, true);
    for (unsigned i = 0; i < rt_runtime.core_count; i++) {
        rt_core_notify(rt_runtime.cores[i]);
    }
}

static bool inbox_has(struct rt_core *core)
{
    return atomic_load(&core->inbox) || atomic_load(&rt_runtime.stop);
}

/* Milliseconds until the next timer, rounded up; -1 = no timer. */
static int timer_wait_ms(struct rt_core *core)
{
    struct rt_timer *t = rt_timers_first(&core->timers);
    if (!t) {
        return -1;
    }
    uint64_t now = rt_now_ns();
    if (t->deadline_ns <= now) {
        return 0;
    }
    uint64_t ms = (t->deadline_ns - now - 1) / NS_PER_MS + 1;
    return ms > 3600000 ? 3600000 : (int)ms;
}

static void core_poll(struct rt_core *core, bool may_sleep)
{
    int timeout_ms = may_sleep ? timer_wait_ms(core) : 0;
    if (timeout_ms != 0) {
        atomic_store(&core->sleeping, 1);
        stop_if_ended();
        if (inbox_has(core)) {
            timeout_ms = 0;
        }
    }
    int n = epoll_wait(core->epoll_fd, core->events, RT_EVENTS_MAX, timeout_ms);
    ASSERT(n >= 0 || errno == EINTR);
    atomic_store_explicit(&core->sleeping, 0, memory_order_relaxed);
    core->turn_ns = rt_now_ns();
    core->event_count = MAX_OF(n, 0);
    core->event_at = 0;
    while (core->event_at < core->event_count) {
        struct epoll_event *e = &core->events[core->event_at++];
        struct rt_watch *w = e->data.ptr;
        if (w) {
            w->fn(w, e->events);
        }
    }
    core->event_count = 0;
}

static void core_turn(struct rt_core *core)
{
    inbox_drain(core);
    if (rt_timers_first(&core->timers)) {
        core->turn_ns = rt_now_ns();
        rt_core_expire(core, core->turn_ns);
    }
    size_t todo = MIN_OF(core->run_count, (size_t)RT_TURN_FIBERS);
    for (size_t i = 0; i < todo; i++) {
        rt_fiber_resume(run_pop(core));
    }
    rt_core_run_hooks(core);
}

void rt_core_loop(struct rt_core *core)
{
    unsigned busy_turns = 0;
    core->turn_ns = rt_now_ns();
    while (!atomic_load_explicit(&rt_runtime.stop, memory_order_acquire)) {
        core_turn(core);
        bool idle = core->run_count == 0 && !core->hooks;
        if (idle || ++busy_turns >= RT_POLL_TURNS) {
            busy_turns = 0;
            core_poll(core, idle);
        }
    }
}

int rt_core_create(unsigned index, struct rt_core **ret_core)
{
    struct rt_core *core = aligned_alloc(64, (sizeof *core + 63) & ~(size_t)63);
    if (!core) {
        return -ENOMEM;
    }
    *core = (struct rt_core){.index = index, .epoll_fd = -1, .wake_fd = -1, .cpu = -1};
    core->hooks_end = &core->hooks;
    core->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    core->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET};
    if (core->epoll_fd < 0 || core->wake_fd < 0 ||
        epoll_ctl(core->epoll_fd, EPOLL_CTL_ADD, core->wake_fd, &e) < 0) {
        int r = -errno;
        rt_core_free(core);
        return r;
    }
    *ret_core = core;
    return 0;
}

void rt_core_free(struct rt_core *core)
{
    if (!core) {
        return;
    }
    rt_pool_free(core);
    if (core->epoll_fd >= 0) {
        (void)close(core->epoll_fd);
    }
    if (core->wake_fd >= 0) {
        (void)close(core->wake_fd);
    }
    free(core);
}
