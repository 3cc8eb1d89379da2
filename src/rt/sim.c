/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: one core, virtual time, a seed.
 *
 * Time stands still while a fiber runs and moves a little between two fibers, so that a loop which
 * polls the clock comes to its end; when nobody can run it leaps to the next timer or the end of
 * the next stall. Which of the runnable fibers goes on is drawn from one generator; rt_random()
 * draws from another, so that a program that asks for more random numbers does not thereby change
 * the schedule.
 *
 * Hooks run after each step: a turn is one fiber.
 *
 * A killed fiber keeps its stack until the simulation ends, for what went on outside may still
 * write there. If fibers are left and nothing can ever wake one, the simulator names them and
 * aborts.
 */
#include "rt/sim.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/msg.h"
#include "base/rng.h"
#include "base/vec.h"
#include "rt/rt_priv.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define RUNNABLE_MIN 4096u /* so that a test without memory does not meet the simulator */
#define PROCS_MAX 256
#define STEP_NS_MAX 1000
#define DELAY_NS_MAX 5000000

struct rt_sim {
    struct rng schedule;
    struct rng values;
    uint64_t now_ns;
    uint64_t hash;
    uint64_t next_id;
    uint64_t stall_until_ns[PROCS_MAX];
    struct list alive;
    struct list killed;
    VEC(struct rt_fiber *) runnable;
};

static struct rt_sim *sim_here(void)
{
    ASSERT(rt_core_here && rt_core_here->sim);
    return rt_core_here->sim;
}

static bool is_stalled(const struct rt_sim *s, const struct rt_fiber *f)
{
    return s->stall_until_ns[f->proc] > s->now_ns;
}

int rt_sim_create(struct rt_core *core, uint64_t seed)
{
    struct rt_sim *s = calloc(1, sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    s->schedule = rng_seeded(seed);
    s->values = rng_seeded(hash_u64(seed ^ 0x76616c756573));
    s->now_ns = 1000000000;
    if (vec_reserve(&s->runnable, RUNNABLE_MIN) < 0) {
        free(s);
        return -ENOMEM;
    }
    list_init(&s->alive);
    list_init(&s->killed);
    core->rng = &s->values;
    core->sim = s;
    return 0;
}

void rt_sim_free(struct rt_core *core)
{
    struct rt_sim *s = core->sim;
    if (!s) {
        return;
    }
    list_for_each(&s->killed, struct rt_fiber, all, f) {
        rt_fiber_unmap(f);
    }
    vec_free(&s->runnable);
    core->sim = NULL;
    free(s);
}

void rt_sim_born(struct rt_fiber *f)
{
    struct rt_sim *s = f->core->sim;
    ASSERT(f->proc < PROCS_MAX);
    f->id = s->next_id++;
    list_push_back(&s->alive, &f->all);
}

void rt_sim_ready(struct rt_fiber *f)
{
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): the elements are pointers */
    int r = vec_push(&f->core->sim->runnable, f);
    ASSERT(r == 0);
}

uint64_t rt_sim_now(const struct rt_core *core)
{
    return core->sim->now_ns;
}

bool rt_sim_defer(struct rt_fiber *f)
{
    struct rt_sim *s = f->core->sim;
    if (f->killed || !is_stalled(s, f)) {
        return false;
    }
    rt_timers_add(&f->core->timers, &f->timer, s->stall_until_ns[f->proc]);
    return true;
}

uint64_t rt_sim_delay_ns(struct rt_core *core)
{
    struct rng *g = &core->sim->schedule;
    /* Mostly short, now and then long. */
    uint64_t max = rng_below(g, 16) == 0 ? DELAY_NS_MAX : DELAY_NS_MAX / 50;
    return rng_below(g, max);
}

/* Draws one of the runnable fibers that are not stalled and takes it out; NULL when there is none.
 */
static struct rt_fiber *draw(struct rt_sim *s)
{
    size_t able = 0;
    for (size_t i = 0; i < s->runnable.len; i++) {
        able += !is_stalled(s, s->runnable.at[i]);
    }
    if (able == 0) {
        return NULL;
    }
    size_t which = rng_below(&s->schedule, able);
    for (size_t i = 0; i < s->runnable.len; i++) {
        struct rt_fiber *f = s->runnable.at[i];
        if (!is_stalled(s, f) && which-- == 0) {
            s->runnable.at[i] = s->runnable.at[--s->runnable.len];
            return f;
        }
    }
    UNREACHABLE("counted above");
}

/* When something may happen again, or RT_FOREVER. */
static uint64_t next_ns(const struct rt_core *core)
{
    const struct rt_sim *s = core->sim;
    struct rt_timer *t = rt_timers_first(&core->timers);
    uint64_t next = t ? t->deadline_ns : RT_FOREVER;
    for (size_t i = 0; i < s->runnable.len; i++) {
        next = MIN_OF(next, s->stall_until_ns[s->runnable.at[i]->proc]);
    }
    return next;
}

NORETURN COLD static void report_deadlock(struct rt_sim *s)
{
    list_for_each(&s->alive, struct rt_fiber, all, f) {
        msg_error("rt", "sim: fiber %llu '%s' of process %u waits for ever",
                  (unsigned long long)f->id, f->name, f->proc);
    }
    UNREACHABLE("a simulated wait that nothing can end");
}

static void step(struct rt_core *core)
{
    struct rt_sim *s = core->sim;
    rt_core_expire(core, s->now_ns);
    struct rt_fiber *f = draw(s);
    if (!f) {
        uint64_t next = next_ns(core);
        if (next == RT_FOREVER) {
            report_deadlock(s);
        }
        s->now_ns = MAX_OF(s->now_ns, next);
        return;
    }
    s->now_ns += 1 + rng_below(&s->schedule, STEP_NS_MAX);
    s->hash = hash_pair(s->hash, hash_pair(f->id, s->now_ns));
    rt_fiber_resume(f);
}

void rt_sim_loop(struct rt_core *core)
{
    for (;;) {
        rt_core_run_hooks(core);
        if (core->hooks) {
            continue;
        }
        if (rt_all_ended()) {
            return;
        }
        step(core);
    }
}

void rt_sim_kill(unsigned proc)
{
    struct rt_sim *s = sim_here();
    struct rt_core *core = rt_core_here;
    size_t kept = 0;
    uint64_t ended = 0;
    list_for_each(&s->alive, struct rt_fiber, all, f) {
        if (f->proc == proc) {
            f->killed = true;
            rt_timers_remove(&core->timers, &f->timer);
            list_remove(&f->all);
            list_push_back(&s->killed, &f->all);
            ended++;
        }
    }
    for (size_t i = 0; i < s->runnable.len; i++) {
        if (!s->runnable.at[i]->killed) {
            s->runnable.at[kept++] = s->runnable.at[i];
        }
    }
    s->runnable.len = kept;
    s->stall_until_ns[proc] = 0;
    atomic_store(&core->ended, atomic_load(&core->ended) + ended);
    struct rt_fiber *self = core->current;
    if (self && self->killed) {
        /* Who resumed it belongs to the same process: only the loop goes on. */
        ASSERT(rt_mutexes_held == 0);
        core->current = NULL;
        rt_ctx_switch(&self->ctx, &core->loop);
    }
}

void rt_sim_stall(unsigned proc, uint64_t until_ns)
{
    struct rt_sim *s = sim_here();
    ASSERT(proc < PROCS_MAX && proc != 0);
    s->stall_until_ns[proc] = MAX_OF(s->stall_until_ns[proc], until_ns);
}

unsigned rt_sim_self(void)
{
    return rt_on_fiber() ? rt_core_here->current->proc : 0;
}

uint64_t rt_sim_trace_hash(void)
{
    return sim_here()->hash;
}
