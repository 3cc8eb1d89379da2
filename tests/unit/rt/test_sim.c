/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/buf.h"
#include "rt/offload.h"
#include "rt/sim.h"
#include "rt/sync.h"
#include "rt_test.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct trace {
    uint64_t hash;
    uint64_t order;
    uint64_t now_ns;
    uint64_t random;
};

static struct trace trace;

static int job(void *arg)
{
    *(unsigned *)arg += 1;
    return 7;
}

static void busy(void *arg)
{
    unsigned id = (unsigned)(uintptr_t)arg;
    unsigned jobs = 0;
    for (unsigned i = 0; i < 5; i++) {
        trace.order = trace.order * 31 + id;
        CHECK(rt_sleep_ms(rt_random() % 3) == 0);
        rt_yield();
        CHECK(rt_offload(RT_OFFLOAD_CPU, job, &jobs) == 7);
    }
    CHECK(jobs == 5);
}

static void busy_main(void *arg)
{
    struct rt_group *g;
    (void)arg;
    CHECK(rt_is_sim());
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(rt_group_spawn(g, "busy", busy, (void *)(uintptr_t)(i + 1)) == 0);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
    trace.hash = rt_sim_trace_hash();
    trace.now_ns = rt_now_ns();
    rt_random_bytes(&trace.random, sizeof trace.random);
}

static struct trace trace_of(uint64_t seed)
{
    memset(&trace, 0, sizeof trace);
    run_sim(seed, busy_main, NULL);
    return trace;
}

static void same_seed_same_schedule(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct trace a = trace_of(seed);
        /* What lies on the heap and in the pools must not matter. */
        void *shift = malloc(10000 * seed);
        struct trace b = trace_of(seed);
        free(shift);
        assert_memory_equal(&a, &b, sizeof a);
    }
}

static void other_seed_other_schedule(void **state)
{
    (void)state;
    struct trace a = trace_of(1);
    struct trace b = trace_of(2);
    assert_int_not_equal(a.hash, b.hash);
    assert_int_not_equal(a.order, b.order);
    assert_int_not_equal(a.random, b.random);
}

static void plain(void *arg)
{
    for (unsigned i = 0; i < 5; i++) {
        trace.order = trace.order * 31 + (unsigned)(uintptr_t)arg;
        rt_yield();
    }
}

static void plain_main(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 10; i++) {
        CHECK(rt_spawn("plain", plain, (void *)(uintptr_t)(i + 1)) == 0);
    }
    CHECK(rt_sleep_ms(100) == 0);
    trace.hash = rt_sim_trace_hash();
}

/* The scheduler itself draws: these fibers ask for no random number. */
static void seed_draws_the_schedule(void **state)
{
    (void)state;
    memset(&trace, 0, sizeof trace);
    run_sim(1, plain_main, NULL);
    struct trace a = trace;
    memset(&trace, 0, sizeof trace);
    run_sim(2, plain_main, NULL);
    assert_int_not_equal(a.order, trace.order);
    assert_int_not_equal(a.hash, trace.hash);
}

static void long_sleep_main(void *arg)
{
    (void)arg;
    uint64_t before = rt_now_ns();
    CHECK(rt_sleep_ms(1000ull * 86400 * 365) == 0);
    CHECK(rt_now_ns() - before >= 1000000ull * 1000 * 86400 * 365);
}

static void time_leaps(void **state)
{
    (void)state;
    run_sim(1, long_sleep_main, NULL);
}

static unsigned ticks;
static bool landed;

static void tick(void *arg)
{
    (void)arg;
    for (;;) {
        CHECK(rt_sleep_ms(10) == 0);
        ticks++;
    }
}

static void land(void *arg)
{
    CHECK(rt_sim_self() == 0);
    CHECK(rt_sleep_ms(100) == 0);
    landed = true;
    *(bool *)arg = true;
}

static void send_outside(void *arg)
{
    bool answered = false;
    (void)arg;
    CHECK(rt_sim_self() == 1);
    CHECK(rt_sim_outside("land", land, &answered) == 0);
    CHECK(rt_sleep_ms(1000) == 0);
    abort(); /* it was killed before */
}

static void kill_main(void *arg)
{
    (void)arg;
    ticks = 0;
    landed = false;
    CHECK(rt_sim_process(1, "tick", tick, NULL) == 0);
    CHECK(rt_sim_process(1, "send", send_outside, NULL) == 0);
    CHECK(rt_sleep_ms(55) == 0);
    CHECK(ticks == 5);
    rt_sim_kill(1);
    CHECK(rt_sleep_ms(500) == 0);
    CHECK(ticks == 5);
    CHECK(landed);
}

/* A killed process never runs again; what it had sent out goes on, and may write to the dead one's
 * memory. */
static void kill_ends_a_process(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        run_sim(seed, kill_main, NULL);
    }
}

static void suicide(void *arg)
{
    *(bool *)arg = true;
    rt_sim_kill(rt_sim_self());
    abort(); /* it is dead */
}

static void suicide_now(void *arg)
{
    CHECK(rt_spawn_now("suicide", suicide, arg) == 0);
    abort(); /* it is dead */
}

static void suicide_main(void *arg)
{
    bool began = false;
    (void)arg;
    CHECK(rt_sim_process(3, "suicide", suicide_now, &began) == 0);
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(began);
    /* The number may be used again: a restart. */
    ticks = 0;
    CHECK(rt_sim_process(3, "tick", tick, NULL) == 0);
    CHECK(rt_sleep_ms(100) == 0);
    CHECK(ticks > 5);
    rt_sim_kill(3);
}

static void process_kills_itself(void **state)
{
    (void)state;
    run_sim(1, suicide_main, NULL);
}

static void stall_main(void *arg)
{
    (void)arg;
    ticks = 0;
    CHECK(rt_sim_process(1, "tick", tick, NULL) == 0);
    CHECK(rt_sleep_ms(35) == 0);
    CHECK(ticks == 3);
    uint64_t until = rt_now_ns() + 200000000;
    rt_sim_stall(1, until);
    CHECK(rt_sleep_ms(190) == 0);
    CHECK(ticks == 3);
    CHECK(rt_sleep_until(until + 15000000) == 0);
    CHECK(ticks >= 4 && ticks <= 5);
    rt_sim_kill(1);
}

static void stall_holds_a_process(void **state)
{
    (void)state;
    run_sim(5, stall_main, NULL);
}

static struct rt_mutex mutex;
static struct rt_waitq queue;
static unsigned woken;

static void stand_in_line(void *arg)
{
    (void)arg;
    rt_mutex_lock(&mutex);
    CHECK(rt_waitq_wait(&queue, &mutex, RT_FOREVER) == 0);
    CHECK(rt_sim_self() == 0);
    woken++;
    rt_mutex_unlock(&mutex);
}

static void dead_waiter_main(void *arg)
{
    (void)arg;
    rt_mutex_init(&mutex);
    rt_waitq_init(&queue);
    woken = 0;
    CHECK(rt_sim_process(1, "dead", stand_in_line, NULL) == 0);
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(rt_spawn("alive", stand_in_line, NULL) == 0);
    CHECK(rt_sleep_ms(1) == 0);
    rt_sim_kill(1);
    rt_mutex_lock(&mutex);
    rt_waitq_wake_one(&queue);
    rt_mutex_unlock(&mutex);
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(woken == 1);
    rt_mutex_destroy(&mutex);
}

/* A wake-up is not lost on a waiter that was killed. */
static void dead_waiter_takes_no_wake(void **state)
{
    (void)state;
    run_sim(1, dead_waiter_main, NULL);
}

static void wait_for_ever(void *arg)
{
    struct rt_event e;
    (void)arg;
    rt_event_init(&e);
    CHECK(rt_event_wait(&e, RT_FOREVER) == 0);
}

static void deadlock(void)
{
    run_sim(1, wait_for_ever, NULL);
}

static void deadlock_aborts(void **state)
{
    (void)state;
    assert_true(aborts(deadlock));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_schedule), cmocka_unit_test(other_seed_other_schedule),
        cmocka_unit_test(seed_draws_the_schedule), cmocka_unit_test(time_leaps),
        cmocka_unit_test(kill_ends_a_process),     cmocka_unit_test(process_kills_itself),
        cmocka_unit_test(stall_holds_a_process),   cmocka_unit_test(dead_waiter_takes_no_wake),
        cmocka_unit_test(deadlock_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
