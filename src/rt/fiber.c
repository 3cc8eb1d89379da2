/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers: their stacks, their life, and the ways to start one.
 *
 * A stack is one mapping: a guard page at the bottom, 64 KiB above it, and at the very top the
 * control block. An ended fiber goes to the pool of its core with its context standing at the head
 * of fiber_main()'s loop, so that the next life begins with two stores and a switch. The pool is
 * last in, first out: the pages of the next stack are warm. Above RT_POOL_MAX stacks are unmapped.
 *
 * Each stack costs two of the mappings that the system allows a process (vm.max_map_count); their
 * number is bounded so that some remain for everything else.
 *
 * Control goes from resumer to fiber and back, never sideways: the loop resumes a fiber, and a
 * fiber in rt_spawn_now() resumes another one. Whoever resumed looks at `ended` afterwards and
 * recycles.
 */
#include "base/assert.h"
#include "base/rng.h"
#include "rt/buf.h"
#include "rt/rt_priv.h"
#include "rt/sim.h"
#include <errno.h>
#include <sys/mman.h>

_Thread_local struct rt_core *rt_core_here;

struct rt_fiber *rt_fiber_self(void)
{
    ASSERT(rt_core_here && rt_core_here->current);
    return rt_core_here->current;
}

bool rt_on_fiber(void)
{
    return rt_core_here && rt_core_here->current;
}

#if RT_ASAN
__attribute__((no_sanitize_address))
#endif
static void
fiber_main(void *arg)
{
    struct rt_fiber *f = arg;
    rt_ctx_entered();
    for (;;) {
        f->fn(f->arg);
        ASSERT(f->lock_ranks == 0 && f->shields == 0);
        if (f->group) {
            rt_group_leave(f->group, f);
        }
        f->ended = true;
        rt_ctx_switch_last(&f->ctx, f->resumer);
    }
}

static uint8_t *fiber_mapping(struct rt_fiber *f)
{
    return (uint8_t *)(f + 1) - RT_STACK_SIZE - RT_GUARD_SIZE;
}

static _Atomic unsigned stacks_mapped;

static struct rt_fiber *fiber_map_one(void)
{
    size_t size = RT_STACK_SIZE + RT_GUARD_SIZE;
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (base == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(base, RT_GUARD_SIZE, PROT_NONE) < 0) {
        (void)munmap(base, size);
        return NULL;
    }
    struct rt_fiber *f = (struct rt_fiber *)(void *)(base + size - sizeof *f);
    rt_ctx_init(&f->ctx, base + RT_GUARD_SIZE, RT_STACK_SIZE - sizeof *f, fiber_main, f);
    rt_mem_add(RT_MEM_STACKS, RT_STACK_RESIDENT);
    return f;
}

/* A new stack, or NULL when memory or the number of mappings that the system allows come to an end.
 */
static struct rt_fiber *fiber_map(void)
{
    if (atomic_fetch_add(&stacks_mapped, 1) < rt_runtime.stacks_max) {
        struct rt_fiber *f = fiber_map_one();
        if (f) {
            return f;
        }
    }
    atomic_fetch_sub(&stacks_mapped, 1);
    return NULL;
}

bool rt_stacks_are_scarce(void)
{
    return atomic_load_explicit(&stacks_mapped, memory_order_relaxed) > rt_runtime.stacks_max / 2;
}

void rt_stack_trim(void)
{
    struct rt_fiber *f = rt_fiber_self();
    uint8_t *low = fiber_mapping(f) + RT_GUARD_SIZE;
    uint8_t *here = __builtin_frame_address(0);
    /* This frame, what it calls and the kernel's red zone keep a page. */
    size_t unused = (size_t)(here - low) & ~(size_t)4095;
    if (!RT_SANITIZED && unused > 4096) {
        (void)madvise(low, unused - 4096, MADV_DONTNEED);
    }
}

void rt_fiber_unmap(struct rt_fiber *f)
{
    atomic_fetch_sub(&stacks_mapped, 1);
    rt_ctx_free(&f->ctx);
    (void)munmap(fiber_mapping(f), RT_STACK_SIZE + RT_GUARD_SIZE);
    rt_mem_add(RT_MEM_STACKS, -RT_STACK_RESIDENT);
}

uint64_t rt_core_live(struct rt_core *core)
{
    /* What has ended is read first: the difference is never negative. */
    uint64_t ended = atomic_load(&core->ended);
    return atomic_load(&core->started) + atomic_load(&core->started_remotely) - ended;
}

/* A stack from the pool of the calling core, or a new one. */
static struct rt_fiber *fiber_take(void)
{
    struct rt_core *here = rt_core_here;
    if (!here || !here->pool) {
        return fiber_map();
    }
    struct rt_fiber *f = here->pool;
    here->pool = f->next;
    here->pool_count--;
    return f;
}

static void fiber_recycle(struct rt_core *core, struct rt_fiber *f)
{
    uint64_t ended = atomic_load_explicit(&core->ended, memory_order_relaxed);
    atomic_store_explicit(&core->ended, ended + 1, memory_order_release);
    if (core->sim) {
        list_remove(&f->all);
    }
    if (core->pool_count >= RT_POOL_MAX) {
        rt_fiber_unmap(f);
        return;
    }
    f->next = core->pool;
    core->pool = f;
    core->pool_count++;
}

void rt_pool_free(struct rt_core *core)
{
    while (core->pool) {
        struct rt_fiber *f = core->pool;
        core->pool = f->next;
        rt_fiber_unmap(f);
    }
    core->pool_count = 0;
}

int rt_fiber_create(struct rt_core *core, const struct rt_spawn *s, struct rt_fiber **ret_fiber)
{
    if (rt_core_live(core) >= rt_runtime.fibers_max) {
        return -EAGAIN;
    }
    struct rt_fiber *f = fiber_take();
    if (!f) {
        return -EAGAIN;
    }
    f->core = core;
    f->fn = s->fn;
    f->arg = s->arg;
    f->name = s->name;
    f->group = s->group;
    f->timer.linked = false;
    atomic_store_explicit(&f->cancelled, false, memory_order_relaxed);
    f->shields = 0;
    f->lock_ranks = 0;
    f->ended = false;
    f->killed = false;
    f->proc = s->proc;
    atomic_store_explicit(&f->wait, RT_WAIT_NONE, memory_order_relaxed);
    if (core == rt_core_here) {
        uint64_t started = atomic_load_explicit(&core->started, memory_order_relaxed);
        atomic_store_explicit(&core->started, started + 1, memory_order_release);
    } else {
        atomic_fetch_add(&core->started_remotely, 1);
    }
    if (f->group) {
        rt_group_join(f->group, f);
    }
    if (core->sim) {
        rt_sim_born(f);
    }
    *ret_fiber = f;
    return 0;
}

void rt_fiber_resume(struct rt_fiber *f)
{
    struct rt_core *core = f->core;
    struct rt_fiber *outer = core->current;
    struct rt_ctx *from = outer ? &outer->ctx : &core->loop;
    f->resumer = from;
    core->current = f;
    rt_ctx_switch(from, &f->ctx);
    core->current = outer;
    if (f->ended) {
        fiber_recycle(core, f);
    }
}

void rt_fiber_suspend(struct rt_fiber *f)
{
    rt_ctx_switch(&f->ctx, f->resumer);
}

static unsigned proc_here(void)
{
    return rt_on_fiber() ? rt_core_here->current->proc : 0;
}

static int spawn_later(struct rt_core *core, struct rt_spawn s)
{
    struct rt_fiber *f;
    s.proc = proc_here();
    int r = rt_fiber_create(core, &s, &f);
    if (r < 0) {
        return r;
    }
    rt_core_ready(f);
    return 0;
}

static int spawn_now(struct rt_spawn s)
{
    struct rt_fiber *f;
    ASSERT(rt_core_here && rt_mutexes_held == 0);
    s.proc = proc_here();
    int r = rt_fiber_create(rt_core_here, &s, &f);
    if (r < 0) {
        return r;
    }
    rt_fiber_resume(f);
    return 0;
}

static struct rt_core *core_at(unsigned core)
{
    ASSERT(core < rt_runtime.core_count);
    return rt_runtime.cores[core];
}

int rt_spawn(const char *name, void (*fn)(void *arg), void *arg)
{
    ASSERT(rt_core_here);
    return spawn_later(rt_core_here, (struct rt_spawn){.name = name, .fn = fn, .arg = arg});
}

int rt_spawn_now(const char *name, void (*fn)(void *arg), void *arg)
{
    return spawn_now((struct rt_spawn){.name = name, .fn = fn, .arg = arg});
}

int rt_spawn_on(unsigned core, const char *name, void (*fn)(void *arg), void *arg)
{
    return spawn_later(core_at(core), (struct rt_spawn){.name = name, .fn = fn, .arg = arg});
}

int rt_group_spawn(struct rt_group *g, const char *name, void (*fn)(void *arg), void *arg)
{
    ASSERT(rt_core_here);
    return spawn_later(rt_core_here,
                       (struct rt_spawn){.name = name, .fn = fn, .arg = arg, .group = g});
}

int rt_group_spawn_now(struct rt_group *g, const char *name, void (*fn)(void *arg), void *arg)
{
    return spawn_now((struct rt_spawn){.name = name, .fn = fn, .arg = arg, .group = g});
}

int rt_group_spawn_on(struct rt_group *g, unsigned core, const char *name, void (*fn)(void *arg),
                      void *arg)
{
    return spawn_later(core_at(core),
                       (struct rt_spawn){.name = name, .fn = fn, .arg = arg, .group = g});
}

void rt_yield(void)
{
    struct rt_fiber *f = rt_fiber_self();
    ASSERT(rt_mutexes_held == 0);
    rt_core_ready(f);
    rt_fiber_suspend(f);
}

int rt_pass(void)
{
    if (rt_fiber_self()->shields == 0 && rt_cancelled()) {
        return -ECANCELED;
    }
    rt_yield();
    return 0;
}

bool rt_cancelled(void)
{
    struct rt_fiber *f = rt_fiber_self();
    return f->group && (rt_group_is_cancelled(f->group) || atomic_load(&f->cancelled));
}

struct rt_fiber *rt_self(void)
{
    struct rt_fiber *f = rt_fiber_self();
    ASSERT(f->group); /* others cannot be cancelled */
    return f;
}

void rt_fiber_cancel(struct rt_fiber *f)
{
    atomic_store(&f->cancelled, true);
    (void)rt_fiber_wake(f, RT_WAIT_CANCELLED);
}

void rt_cancel_heeded(void)
{
    atomic_store(&rt_fiber_self()->cancelled, false);
}

void rt_shield(void)
{
    rt_fiber_self()->shields++;
}

void rt_unshield(void)
{
    struct rt_fiber *f = rt_fiber_self();
    ASSERT(f->shields > 0);
    f->shields--;
}

int rt_sim_outside(const char *name, void (*fn)(void *arg), void *arg)
{
    return rt_sim_process(0, name, fn, arg);
}

int rt_sim_process(unsigned proc, const char *name, void (*fn)(void *arg), void *arg)
{
    struct rt_fiber *f;
    struct rt_spawn s = {.name = name, .fn = fn, .arg = arg, .proc = proc};
    ASSERT(rt_core_here && rt_core_here->sim);
    int r = rt_fiber_create(rt_core_here, &s, &f);
    if (r < 0) {
        return r;
    }
    rt_core_ready(f);
    return 0;
}
