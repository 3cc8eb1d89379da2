/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of rt know of each other: fibers, cores, the runtime.
 *
 * OWNERSHIP. A fiber is run, suspended and recycled by the thread of its core alone, and for its
 * whole life. Other threads may do three things to it: decide its wait (rt_fiber_wake), put it into
 * the inbox of its core, and read its constant fields. So between the moment a fiber has armed its
 * wait and the moment it is switched out, nobody can run it, whoever wakes it: its own core is
 * still busy with it.
 *
 * A fiber's control block stands at the top of its stack, so that a small fiber touches one page.
 */
#pragma once
#include "base/list.h"
#include "rt/ctx.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "rt/timer.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#if RT_SANITIZED
#define RT_STACK_SIZE (256u << 10)
#else
#define RT_STACK_SIZE (64u << 10)
#endif
#define RT_GUARD_SIZE 4096u
/* What a stack costs in memory as long as nothing deep ran on it; the memory table counts this. */
#define RT_STACK_RESIDENT 8192
#define RT_POOL_MAX 256    /* free stacks that a core keeps */
#define RT_TURN_FIBERS 256 /* fibers run between two looks at hooks and timers */
#define RT_POLL_TURNS 8    /* busy turns between two looks at epoll */
#define RT_EVENTS_MAX 128

/* The wait word of a fiber; wait.c has the diagram. */
enum rt_wait {
    RT_WAIT_NONE,     /* runs, or is runnable by other means than a wait */
    RT_WAIT_ARMED,    /* waits; anything may end it */
    RT_WAIT_SHIELDED, /* waits; cancellation does not end it */
    RT_WAIT_WOKEN,    /* outcomes */
    RT_WAIT_TIMEDOUT,
    RT_WAIT_CANCELLED,
};

struct rt_fiber {
    struct rt_ctx ctx;
    struct rt_ctx *resumer; /* who goes on when this fiber suspends or ends */
    struct rt_core *core;
    struct rt_fiber *next; /* run queue, inbox or pool */
    void (*fn)(void *arg);
    void *arg;
    const char *name;
    struct rt_group *group;
    struct list group_link;
    struct rt_timer timer;
    _Atomic uint32_t wait;  /* enum rt_wait */
    _Atomic bool cancelled; /* by itself, whatever becomes of its group */
    uint32_t shields;
    uint32_t lock_ranks; /* bit per rank of the rt_locks held */
    bool ended;
    bool killed; /* sim */
    unsigned proc;
    uint64_t id; /* sim: order of birth */
    struct list all;
};

struct rt_sim;

struct rt_core {
    unsigned index;
    struct rt_ctx loop;
    struct rt_fiber *current; /* NULL outside of fibers */
    struct rt_fiber *run_head;
    struct rt_fiber *run_tail;
    size_t run_count;
    uint64_t turn_ns;
    struct rt_timers timers;
    struct rt_turn_hook *hooks; /* armed for the end of the turn */
    struct rt_turn_hook **hooks_end;
    struct rt_turn_hook *hooks_now; /* those of this turn that are left to call */
    struct rt_fiber *pool;
    size_t pool_count;
    struct rt_sim *sim; /* NULL with the epoll backend */
    struct rng *rng;
    int epoll_fd;
    int wake_fd;
    int event_at; /* events[event_at] is handled next */
    int event_count;
    struct epoll_event events[RT_EVENTS_MAX];
    pthread_t thread;
    _Atomic int cpu; /* where it was last seen; -1 */
    /* Fibers started and ended on this core; live ones are the difference. Written by the core but
     * for the last. */
    _Atomic uint64_t started;
    _Atomic uint64_t ended;
    _Alignas(64) _Atomic uint64_t started_remotely;
    _Atomic(struct rt_fiber *) inbox; /* newest first */
    _Atomic uint32_t sleeping;        /* 1: a write to wake_fd is needed */
};

struct rt_runtime {
    struct rt_core *cores[RT_CORES_MAX];
    unsigned core_count; /* 0: no runtime */
    unsigned fibers_max; /* per core */
    unsigned stacks_max; /* of the process */
    unsigned cpu_threads;
    unsigned block_threads;
    _Atomic bool main_ended;
    _Atomic bool stop;
};

extern struct rt_runtime rt_runtime;
extern _Thread_local struct rt_core *rt_core_here; /* NULL on other threads */

/* fiber.c */
struct rt_spawn {
    const char *name;
    void (*fn)(void *arg);
    void *arg;
    struct rt_group *group;
    unsigned proc;
};
MUST int rt_fiber_create(struct rt_core *core, const struct rt_spawn *s,
                         struct rt_fiber **ret_fiber);
void rt_fiber_resume(struct rt_fiber *f);
/* Gives the core to whoever resumed the running fiber. */
void rt_fiber_suspend(struct rt_fiber *f);
/* The running fiber; asserted that there is one. */
struct rt_fiber *rt_fiber_self(void);
uint64_t rt_core_live(struct rt_core *core);
void rt_fiber_unmap(struct rt_fiber *f);
void rt_pool_free(struct rt_core *core);

/* core.c */
/* Makes a fiber runnable; from any thread. The fiber may run, end and be gone before this returns.
 */
void rt_core_ready(struct rt_fiber *f);
void rt_core_notify(struct rt_core *core);
MUST int rt_core_create(unsigned index, struct rt_core **ret_core);
void rt_core_free(struct rt_core *core);
void rt_core_loop(struct rt_core *core);
void rt_core_run_hooks(struct rt_core *core);
void rt_core_expire(struct rt_core *core, uint64_t now_ns);
/* True when main has returned and no fiber is left anywhere. */
bool rt_all_ended(void);
void rt_signals_free(void);

/* wait.c */
void rt_wait_arm(struct rt_fiber *f, bool shielded);
/* Suspends the armed fiber until its wait is decided: 0, -ETIMEDOUT, -ECANCELED. */
MUST int rt_wait_suspend(struct rt_fiber *f, uint64_t deadline_ns);
/* Decides the wait: true when this call did, and then the fiber is runnable and must not be touched
 * any more. */
bool rt_fiber_wake(struct rt_fiber *f, enum rt_wait outcome);

/* group.c */
void rt_group_join(struct rt_group *g, struct rt_fiber *f);
void rt_group_leave(struct rt_group *g, struct rt_fiber *f);

/* offload.c */
void rt_offload_stop(void);

/* sim.c */
MUST int rt_sim_create(struct rt_core *core, uint64_t seed);
void rt_sim_free(struct rt_core *core);
void rt_sim_loop(struct rt_core *core);
void rt_sim_ready(struct rt_fiber *f);
void rt_sim_born(struct rt_fiber *f);
uint64_t rt_sim_now(const struct rt_core *core);
/* True when the timer is to be put off, and then it was. */
bool rt_sim_defer(struct rt_fiber *f);
/* A delay of an offloaded job. */
uint64_t rt_sim_delay_ns(struct rt_core *core);
