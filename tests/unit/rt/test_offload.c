/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/offload.h"
#include "rt_test.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

static _Atomic unsigned ended;

static int double_it(void *arg)
{
    unsigned *n = arg;
    CHECK(!rt_on_fiber());
    *n *= 2;
    return (int)*n;
}

static int double_in_sim(void *arg)
{
    unsigned *n = arg;
    *n *= 2;
    return (int)*n;
}

static void doubler(void *arg)
{
    (void)arg;
    int (*fn)(void *) = rt_is_sim() ? double_in_sim : double_it;
    for (unsigned i = 1; i < 100; i++) {
        unsigned n = i;
        CHECK(rt_offload((enum rt_offload_kind)(i % RT_OFFLOAD_KINDS), fn, &n) == (int)(2 * i));
        CHECK(n == 2 * i);
    }
    atomic_fetch_add(&ended, 1);
}

static void doublers_main(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 10; i++) {
        CHECK(rt_spawn_on(i % rt_core_count(), "double", doubler, NULL) == 0);
    }
}

static void results_come_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        atomic_store(&ended, 0);
        run_on(2, doublers_main);
        assert_int_equal(atomic_load(&ended), 10);
    }
    atomic_store(&ended, 0);
    run_sim(1, doublers_main, NULL);
    assert_int_equal(atomic_load(&ended), 10);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static int pass_gate(void *arg)
{
    (void)arg;
    (void)pthread_mutex_lock(&gate);
    (void)pthread_mutex_unlock(&gate);
    return 0;
}

static void blocked(void *arg)
{
    CHECK(rt_offload(*(enum rt_offload_kind *)arg, pass_gate, NULL) == 0);
    atomic_fetch_add(&ended, 1);
}

static void kinds_main(void *arg)
{
    enum rt_offload_kind io = RT_OFFLOAD_IO;
    unsigned n = 1;
    struct rt_group *g;
    (void)arg;
    atomic_store(&ended, 0);
    CHECK(rt_group_create(&g) == 0);
    (void)pthread_mutex_lock(&gate);
    for (unsigned i = 0; i < 50; i++) {
        CHECK(rt_group_spawn(g, "blocked", blocked, &io) == 0);
    }
    rt_yield();
    /* All threads for I/O hang; commits and CPU work go on, and so does this core. A cancel ends no
     * job. */
    CHECK(rt_offload(RT_OFFLOAD_COMMIT, double_it, &n) == 2);
    CHECK(rt_offload(RT_OFFLOAD_CPU, double_it, &n) == 4);
    rt_group_cancel(g);
    CHECK(rt_sleep_ms(2) == 0);
    CHECK(atomic_load(&ended) == 0);
    (void)pthread_mutex_unlock(&gate);
    rt_group_wait(g);
    CHECK(atomic_load(&ended) == 50);
    rt_group_destroy(g);
}

static void kinds_are_apart(void **state)
{
    (void)state;
    run_on(1, kinds_main);
}

static pthread_barrier_t both;

static int meet(void *arg)
{
    (void)arg;
    int r = pthread_barrier_wait(&both);
    return r == PTHREAD_BARRIER_SERIAL_THREAD ? 0 : r;
}

static void meeting(void *arg)
{
    (void)arg;
    CHECK(rt_offload(RT_OFFLOAD_IO, meet, NULL) == 0);
}

static void parallel_main(void *arg)
{
    (void)arg;
    CHECK(rt_spawn("meet", meeting, NULL) == 0);
    CHECK(rt_spawn("meet", meeting, NULL) == 0);
}

/* Two jobs run at once: each comes to its end only with the other. */
static void jobs_run_in_parallel(void **state)
{
    (void)state;
    assert_int_equal(pthread_barrier_init(&both, NULL, 2), 0);
    run_on(1, parallel_main);
    (void)pthread_barrier_destroy(&both);
}

static unsigned order[20];
static unsigned order_len;

static int note_order(void *arg)
{
    order[order_len++] = (unsigned)(uintptr_t)arg;
    return 0;
}

static void in_order(void *arg)
{
    CHECK(rt_offload(RT_OFFLOAD_CPU, note_order, arg) == 0);
}

static void order_main(void *arg)
{
    (void)arg;
    order_len = 0;
    for (unsigned i = 0; i < 20; i++) {
        CHECK(rt_spawn("order", in_order, (void *)(uintptr_t)i) == 0);
    }
}

static void jobs_start_in_order(void **state)
{
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1, .cpu_threads = 1}, order_main, NULL),
                     0);
    assert_int_equal(order_len, 20);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(order[i], i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_come_back),
        cmocka_unit_test(kinds_are_apart),
        cmocka_unit_test(jobs_start_in_order),
        cmocka_unit_test(jobs_run_in_parallel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
