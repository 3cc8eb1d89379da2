/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime as a whole: start and stop, clocks, random. */
#include "base/assert.h"
#include "base/rng.h"
#include "base/time.h"
#include "rt/rt_priv.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct main_call {
    void (*fn)(void *arg);
    void *arg;
};

static void main_fiber(void *arg)
{
    struct main_call *call = arg;
    call->fn(call->arg);
    atomic_store(&rt_runtime.main_ended, true);
}

static unsigned cpus_usable(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0) {
        return 1;
    }
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : MIN_OF((unsigned)n, (unsigned)RT_CORES_MAX);
}

/* How many stacks may be mapped: two mappings each, and a reserve of 8192 for the rest of the
 * process. */
static unsigned stacks_max(void)
{
    unsigned long maps = 0;
    char line[32];
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    if (f) {
        if (fgets(line, sizeof line, f)) {
            maps = strtoul(line, NULL, 10);
        }
        (void)fclose(f);
    }
    maps = maps == 0 ? 65530 : MIN_OF(maps, 1ul << 30);
    return maps > 20480 ? (unsigned)(maps - 8192) / 2 : 6144;
}

static void core_enter(struct rt_core *core, struct rng *g)
{
    uint64_t seed;
    rng_secure(&seed, sizeof seed);
    *g = rng_seeded(seed);
    core->rng = g;
    rt_ctx_init_thread(&core->loop);
    rt_core_here = core;
    atomic_store_explicit(&core->cpu, sched_getcpu(), memory_order_relaxed);
}

static void *core_thread(void *arg)
{
    struct rng g;
    core_enter(arg, &g);
    rt_core_loop(arg);
    rt_core_here = NULL;
    return NULL;
}

/* Starts the threads of cores 1 and up, with all signals blocked. Returns how many run. */
static unsigned threads_start(int *ret_r)
{
    sigset_t all;
    sigset_t old;
    unsigned n = 1;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; n < rt_runtime.core_count; n++) {
        struct rt_core *core = rt_runtime.cores[n];
        int e = pthread_create(&core->thread, NULL, core_thread, core);
        if (e != 0) {
            *ret_r = -e;
            break;
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return n;
}

static int run_cores(struct main_call *call, uint64_t sim_seed, bool sim)
{
    struct rng g;
    int r = 0;
    struct rt_core *first = rt_runtime.cores[0];
    struct rt_fiber *f = NULL;
    core_enter(first, &g);
    if (sim) {
        r = rt_sim_create(first, sim_seed);
    }
    if (r == 0) {
        r = rt_fiber_create(first,
                            &(struct rt_spawn){.name = "main", .fn = main_fiber, .arg = call}, &f);
    }
    if (r < 0) {
        rt_sim_free(first);
        rt_core_here = NULL;
        return r;
    }
    unsigned running = threads_start(&r);
    if (r < 0) {
        atomic_store(&rt_runtime.stop, true);
        rt_fiber_unmap(f);
    } else {
        rt_core_ready(f);
        if (sim) {
            rt_sim_loop(first);
        } else {
            rt_core_loop(first);
        }
    }
    for (unsigned i = 1; i < running; i++) {
        rt_core_notify(rt_runtime.cores[i]);
        (void)pthread_join(rt_runtime.cores[i]->thread, NULL);
    }
    rt_sim_free(first);
    rt_core_here = NULL;
    return r;
}

int rt_run(const struct rt_options *opt, void (*main_fn)(void *arg), void *arg)
{
    ASSERT(rt_runtime.core_count == 0 && !rt_core_here);
    unsigned cores = opt->sim ? 1 : opt->cores ? opt->cores : cpus_usable();
    ASSERT(cores <= RT_CORES_MAX);
    rt_runtime.fibers_max = opt->fibers_max ? opt->fibers_max : 16384;
    rt_runtime.stacks_max = stacks_max();
    rt_runtime.cpu_threads = opt->cpu_threads ? opt->cpu_threads : MIN_OF(cores, 8u);
    rt_runtime.block_threads = opt->block_threads ? opt->block_threads : 16;
    atomic_store(&rt_runtime.main_ended, false);
    atomic_store(&rt_runtime.stop, false);
    int r = 0;
    unsigned made = 0;
    while (r == 0 && made < cores) {
        r = rt_core_create(made, &rt_runtime.cores[made]);
        made += r == 0;
    }
    if (r == 0) {
        struct main_call call = {.fn = main_fn, .arg = arg};
        rt_runtime.core_count = cores;
        r = run_cores(&call, opt->sim_seed, opt->sim);
    }
    rt_offload_stop();
    rt_signals_free();
    rt_runtime.core_count = 0;
    while (made > 0) {
        rt_core_free(rt_runtime.cores[--made]);
    }
    return r;
}

unsigned rt_core_count(void)
{
    return rt_runtime.core_count;
}

unsigned rt_core_self(void)
{
    return rt_core_here ? rt_core_here->index : UINT32_MAX;
}

int rt_core_cpu(unsigned core)
{
    ASSERT(core < rt_runtime.core_count);
    struct rt_core *c = rt_runtime.cores[core];
    if (c == rt_core_here && !c->sim) {
        atomic_store_explicit(&c->cpu, sched_getcpu(), memory_order_relaxed);
    }
    return atomic_load_explicit(&c->cpu, memory_order_relaxed);
}

bool rt_core_apart(void)
{
    cpu_set_t may;
    cpu_set_t one;
    if (rt_core_here->sim || sched_getaffinity(0, sizeof may, &may) < 0 ||
        (unsigned)CPU_COUNT(&may) != rt_runtime.core_count) {
        return false;
    }
    one = may;
    for (unsigned i = 0; i < rt_runtime.core_count; i++) {
        int cpu = rt_core_cpu(i);
        if (cpu >= 0) {
            CPU_CLR((size_t)cpu, &one);
        }
    }
    size_t free_cpu = 0;
    while (free_cpu < CPU_SETSIZE && !CPU_ISSET(free_cpu, &one)) {
        free_cpu++;
    }
    if (free_cpu == CPU_SETSIZE) {
        return false;
    }
    CPU_ZERO(&one);
    CPU_SET(free_cpu, &one);
    bool went = sched_setaffinity(0, sizeof one, &one) == 0;
    (void)rt_core_cpu(rt_core_here->index);
    return sched_setaffinity(0, sizeof may, &may) == 0 && went;
}

bool rt_is_sim(void)
{
    return rt_runtime.core_count > 0 && rt_runtime.cores[0]->sim;
}

uint64_t rt_now_ns(void)
{
    return rt_is_sim() ? rt_sim_now(rt_runtime.cores[0]) : time_monotonic_ns();
}

uint64_t rt_turn_ns(void)
{
    return rt_core_here && !rt_core_here->sim ? rt_core_here->turn_ns : rt_now_ns();
}

uint64_t rt_random(void)
{
    if (rt_core_here) {
        return rng_next(rt_core_here->rng);
    }
    uint64_t v;
    rng_secure(&v, sizeof v);
    return v;
}

void rt_random_bytes(void *dst, size_t len)
{
    if (!rt_is_sim()) {
        rng_secure(dst, len);
        return;
    }
    uint8_t *out = dst;
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)rng_next(rt_core_here->rng);
    }
}
