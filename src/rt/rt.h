/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime: cores, fibers, time.
 *
 * One thread per core runs an event loop. Work is done by fibers: functions read top to bottom,
 * which suspend in calls marked WAITS and then give the core to another fiber. A fiber lives on the
 * core that started it. Two backends serve the same interface: epoll (threads, real time) and sim
 * (one thread, virtual time, a seed: same seed, same schedule).
 *
 *     static void hello(void *arg)
 *     {
 *         (void)rt_sleep_ms(10);
 *         msg_info("demo", "hello from core %u", rt_core_self());
 *     }
 *     ...
 *     int r = rt_run(&(struct rt_options){.cores = 2}, hello, NULL);    // returns when hello ended
 *
 * LAWS, each asserted:
 *   - a WAITS call happens on a fiber, with no rt_mutex held;
 *   - every wait has a deadline (absolute, rt_now_ns() clock; RT_FOREVER where the fiber's group
 * may be cancelled or the waker is bound to come); a fiber always runs to its end;
 *   - stacks are 64 KiB with a guard page, so frames stay below 4 KiB.
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RT_FOREVER UINT64_MAX
#define RT_CORES_MAX 64

struct rt_options {
    unsigned cores;         /* 0 = the CPUs this process may use; the sim backend has one */
    unsigned fibers_max;    /* per core; 0 = 16384 */
    unsigned cpu_threads;   /* offload threads for RT_OFFLOAD_CPU; 0 = cores, at most 8 */
    unsigned block_threads; /* for each of the blocking kinds; 0 = 16 */
    bool sim;               /* the simulator: one thread, virtual time */
    uint64_t sim_seed;
};

/*
 * Starts the cores, runs main_fn(arg) as a fiber on core 0 and returns 0 when it has returned and
 * every other fiber has ended; -errno when threads or memory are lacking. Not from a fiber. Only
 * one runtime runs in a process at a time.
 */
MUST int rt_run(const struct rt_options *opt, void (*main_fn)(void *arg), void *arg);

unsigned rt_core_count(void);
/* The core of the calling fiber, or UINT32_MAX outside of the runtime's core threads. */
unsigned rt_core_self(void);

/* The CPU that the core was last seen on, -1 when not known; asking for one's own core looks. */
int rt_core_cpu(unsigned core);
/*
 * Takes the core's thread to a CPU that no other core was seen on; it is not bound to it. True when
 * it went: only where the process may use as many CPUs as it has cores, and no more, for else the
 * system finds better places itself.
 */
bool rt_core_apart(void);

/* The runtime's clock in nanoseconds: monotonic, or virtual under sim. Works anywhere. */
uint64_t rt_now_ns(void);
/* The clock as read at the start of this turn of the core's loop: costs nothing. */
uint64_t rt_turn_ns(void);
static inline uint64_t rt_after_ms(uint64_t ms)
{
    return rt_now_ns() + ms * 1000000ull;
}

bool rt_is_sim(void);
/* Random for jitter and sampling: seeded under sim. Not for secrets. */
uint64_t rt_random(void);
/* For salts and ids: rng_secure(), or the seeded generator under sim. */
void rt_random_bytes(void *dst, size_t len);

/*
 * Fibers. name is constant text. rt_spawn() lets the new fiber run later on this core;
 * rt_spawn_now() runs it at once until it ends or first waits (the way for a request: one that is
 * served from memory is finished when the call returns); rt_spawn_on() may be called from any
 * thread of the process. 0, or -EAGAIN when the core's pool of fibers is empty (back-pressure, the
 * caller waits or refuses).
 */
MUST int rt_spawn(const char *name, void (*fn)(void *arg), void *arg);
MUST int rt_spawn_now(const char *name, void (*fn)(void *arg), void *arg);
MUST int rt_spawn_on(unsigned core, const char *name, void (*fn)(void *arg), void *arg);
/* More than half of the stacks that the process may have are there: who could do with one fiber
 * has no second. */
bool rt_stacks_are_scarce(void);
/*
 * Gives the pages of the calling fiber's stack that are not in use back to the system: for a fiber
 * that has done something deep (a login) and will now mostly wait. Costs a system call.
 */
void rt_stack_trim(void);
/* True when this code runs on a fiber. */
bool rt_on_fiber(void);

/* Lets every other runnable fiber of this core go first. */
void rt_yield(void) WAITS;
/* The same as a wait that can be cancelled: 0, or -ECANCELED (and then nobody went first). */
MUST int rt_pass(void) WAITS;
/* 0, or -ECANCELED. */
int rt_sleep_ms(uint64_t ms) WAITS;
int rt_sleep_until(uint64_t deadline_ns) WAITS;

/*
 * Groups count fibers, and are the canceller. A fiber started with rt_group_spawn() belongs to the
 * group until it ends. Cancelling wakes each member that waits, and makes every later wait of a
 * member give -ECANCELED, except between rt_shield() and rt_unshield() (nested), where waits go on
 * to their own end.
 *
 *     struct rt_group *g;
 *     r = rt_group_create(&g);
 *     r = rt_group_spawn(g, "reader", reader, c);
 *     rt_group_cancel(g);              // from any core
 *     rt_group_wait(g);                // WAITS until the last member has ended; then
 *     rt_group_destroy(g);
 */
struct rt_group;
MUST int rt_group_create(struct rt_group **ret_group);
MUST int rt_group_spawn(struct rt_group *g, const char *name, void (*fn)(void *arg), void *arg);
MUST int rt_group_spawn_now(struct rt_group *g, const char *name, void (*fn)(void *arg), void *arg);
MUST int rt_group_spawn_on(struct rt_group *g, unsigned core, const char *name,
                           void (*fn)(void *arg), void *arg);
void rt_group_cancel(struct rt_group *g);
bool rt_group_is_cancelled(const struct rt_group *g);
/* Waits until no member is left. Not by a member. Ignores the caller's own cancellation. */
void rt_group_wait(struct rt_group *g) WAITS;
void rt_group_destroy(struct rt_group *g); /* accepts NULL; asserts that it is empty */
/* True when the calling fiber's group is cancelled, or it alone. */
bool rt_cancelled(void);
/*
 * Cancels one fiber of a group as its group would. From any core; whoever calls sees to it that the
 * fiber has not ended (by a mutex, say, that the fiber takes before it ends). rt_cancel_heeded()
 * is the fiber's own word that it has taken notice: its waits are as before.
 *
 *     job->fiber = rt_self();          // then another core: rt_fiber_cancel(job->fiber)
 */
struct rt_fiber;
struct rt_fiber *rt_self(void);
void rt_fiber_cancel(struct rt_fiber *f);
void rt_cancel_heeded(void);
void rt_shield(void);
void rt_unshield(void);

/*
 * Called once at the end of each turn in which it was armed, on the arming core, outside of any
 * fiber: the place where a connection sends all that became ready in one sendmsg. The hook must not
 * wait. Arming an armed hook does nothing.
 */
struct rt_turn_hook {
    void (*fn)(struct rt_turn_hook *h);
    struct rt_turn_hook *next;
    bool armed;
};
void rt_turn_hook_arm(struct rt_turn_hook *h);
/* Takes an armed hook out, so that its memory may go. On the arming core. */
void rt_turn_hook_disarm(struct rt_turn_hook *h);

/*
 * Readiness of descriptors (epoll, edge-triggered). A watch belongs to the core that adds it. fn
 * runs on that core, outside of a fiber, with the EPOLL* bits; it must not wait. Not under sim.
 */
struct rt_watch {
    int fd;
    void (*fn)(struct rt_watch *w, uint32_t events);
    bool dead;
};
MUST int rt_watch_add(struct rt_watch *w, uint32_t events);
void rt_watch_remove(struct rt_watch *w);

/*
 * Delivers a set of signals to fn, each on a fiber of its own on core 0 (signalfd). Called on core
 * 0; all other threads of the runtime block every signal anyway. Ends with rt_run().
 */
MUST int rt_signals_watch(const int *signals, size_t count, void (*fn)(int signal));
