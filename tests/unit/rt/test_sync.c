/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/sync.h"
#include "rt_test.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static struct rt_credits credits;
static struct rt_lock lock;
static _Atomic unsigned inside;
static _Atomic unsigned turns;

static void take_and_give(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg;
    for (unsigned i = 0; i < 200; i++) {
        CHECK(rt_credits_take(&credits, n, RT_FOREVER) == 0);
        unsigned now = atomic_fetch_add(&inside, (unsigned)n) + (unsigned)n;
        CHECK(now <= 10);
        CHECK(rt_credits_used(&credits) <= 10);
        if (i % 3 == 0) {
            rt_yield();
        }
        atomic_fetch_sub(&inside, (unsigned)n);
        rt_credits_give(&credits, n);
    }
    atomic_fetch_add(&turns, 1);
}

static void credits_main(void *arg)
{
    struct rt_group *g;
    (void)arg;
    atomic_store(&turns, 0);
    rt_credits_init(&credits, 10);
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 16; i++) {
        CHECK(rt_group_spawn_on(g, i % rt_core_count(), "take", take_and_give,
                                (void *)(uintptr_t)(1 + i % 5)) == 0);
    }
    rt_group_wait(g);
    CHECK(atomic_load(&turns) == 16);
    CHECK(rt_credits_used(&credits) == 0);
    rt_group_destroy(g);
    rt_credits_destroy(&credits);
}

static void credits_are_never_exceeded(void **state)
{
    (void)state;
    run_on(1, credits_main);
    run_on(3, credits_main);
    run_sim(1, credits_main, NULL);
}

struct taker {
    uint64_t n;
    unsigned core;
    int result;
    unsigned place; /* in which order it was served; from 1 */
    _Atomic bool asked;
};

static _Atomic unsigned served;

static void take_once(void *arg)
{
    struct taker *t = arg;
    atomic_store(&t->asked, true);
    t->result = rt_credits_take(&credits, t->n, rt_after_ms(10000));
    if (t->result == 0) {
        t->place = atomic_fetch_add(&served, 1) + 1;
        rt_credits_give(&credits, t->n);
    }
}

static void fifo_main(void *arg)
{
    /* The large one in front is not overtaken by the small ones behind it. */
    struct taker t[] = {
        {.n = 8, .core = 1}, {.n = 1}, {.n = 9, .core = 1}, {.n = 1, .core = 1}, {.n = 2}};
    struct rt_group *g;
    (void)arg;
    atomic_store(&served, 0);
    rt_credits_init(&credits, 10);
    CHECK(rt_credits_try(&credits, 5));
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 5; i++) {
        unsigned core = t[i].core % rt_core_count();
        CHECK(rt_group_spawn_on(g, core, "take", take_once, &t[i]) == 0);
        while (!atomic_load(&t[i].asked)) {
            CHECK(rt_sleep_ms(1) == 0);
        }
        CHECK(rt_sleep_ms(5) == 0);
    }
    CHECK(!rt_credits_try(&credits, 1));
    CHECK(rt_credits_take(&credits, 1, rt_after_ms(2)) == -ETIMEDOUT);
    CHECK(atomic_load(&served) == 0);
    rt_credits_give(&credits, 5);
    rt_group_wait(g);
    for (unsigned i = 0; i < 5; i++) {
        CHECK(t[i].result == 0);
    }
    /* Those that were given units at once may run in any order on their cores; none passes a larger
     * one before it. */
    CHECK(t[0].place < t[2].place && t[2].place < t[4].place);
    CHECK(rt_credits_used(&credits) == 0);
    rt_group_destroy(g);
    rt_credits_destroy(&credits);
}

static void credits_are_first_come(void **state)
{
    (void)state;
    run_on(1, fifo_main);
    run_on(2, fifo_main);
}

static void head_gives_up_main(void *arg)
{
    struct taker small = {.n = 1};
    (void)arg;
    atomic_store(&served, 0);
    rt_credits_init(&credits, 10);
    CHECK(rt_credits_try(&credits, 5));
    struct rt_group *g;
    struct taker large = {.n = 6};
    CHECK(rt_group_create(&g) == 0);
    CHECK(rt_group_spawn_now(g, "large", take_once, &large) == 0);
    CHECK(rt_spawn_now("small", take_once, &small) == 0);
    CHECK(small.place == 0);
    rt_group_cancel(g);
    rt_group_wait(g);
    CHECK(large.result == -ECANCELED);
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(small.place == 1);
    /* Shrunk below what is used: nobody is served until enough came back. */
    rt_credits_resize(&credits, 2);
    CHECK(!rt_credits_try(&credits, 1));
    rt_credits_give(&credits, 5);
    /* Larger than the pool: when nothing is used. */
    CHECK(rt_credits_take(&credits, 4, RT_FOREVER) == 0);
    CHECK(!rt_credits_try(&credits, 1));
    rt_credits_give(&credits, 4);
    CHECK(rt_credits_take(&credits, 2, RT_FOREVER) == 0);
    rt_credits_give(&credits, 2);
    rt_group_destroy(g);
    rt_credits_destroy(&credits);
}

static void leaving_head_frees_the_line(void **state)
{
    (void)state;
    run_on(1, head_gives_up_main);
    run_sim(1, head_gives_up_main, NULL);
}

static void lock_and_wait(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 50; i++) {
        rt_lock_take(&lock);
        CHECK(atomic_fetch_add(&inside, 1) == 0);
        rt_yield();
        CHECK(atomic_fetch_sub(&inside, 1) == 1);
        rt_lock_release(&lock);
    }
    atomic_fetch_add(&turns, 1);
}

static void lock_main(void *arg)
{
    struct rt_group *g;
    (void)arg;
    atomic_store(&turns, 0);
    rt_lock_init(&lock, RT_RANK_VOLUME);
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 8; i++) {
        CHECK(rt_group_spawn_on(g, i % rt_core_count(), "lock", lock_and_wait, NULL) == 0);
    }
    rt_group_cancel(g); /* which does not end waits for locks */
    rt_group_wait(g);
    CHECK(atomic_load(&turns) == 8);
    rt_group_destroy(g);
    rt_lock_destroy(&lock);
}

static void lock_excludes(void **state)
{
    (void)state;
    run_on(1, lock_main);
    run_on(2, lock_main);
    for (uint64_t seed = 0; seed < 5; seed++) {
        run_sim(seed, lock_main, NULL);
    }
}

static enum rt_rank first_rank;
static enum rt_rank second_rank;

static void ranks_main(void *arg)
{
    struct rt_lock a;
    struct rt_lock b;
    (void)arg;
    rt_lock_init(&a, first_rank);
    rt_lock_init(&b, second_rank);
    rt_lock_take(&a);
    rt_lock_take(&b);
    rt_lock_release(&a);
    rt_lock_release(&b);
    rt_lock_destroy(&a);
    rt_lock_destroy(&b);
}

static void run_ranks(void)
{
    run_on(1, ranks_main);
}

static void ranks_rise(void **state)
{
    (void)state;
    first_rank = RT_RANK_DEVICE;
    second_rank = RT_RANK_VOLUME;
    run_ranks();
    second_rank = RT_RANK_DEVICE;
    assert_true(aborts(run_ranks));
    second_rank = RT_RANK_ADMIN;
    assert_true(aborts(run_ranks));
}

static void keep_lock_main(void *arg)
{
    (void)arg;
    rt_lock_init(&lock, RT_RANK_ADMIN);
    rt_lock_take(&lock);
}

static void keep_lock(void)
{
    run_on(1, keep_lock_main);
}

static void release_foreign_main(void *arg)
{
    (void)arg;
    rt_lock_init(&lock, RT_RANK_ADMIN);
    rt_lock_release(&lock);
}

static void release_foreign(void)
{
    run_on(1, release_foreign_main);
}

static void lock_misuse_aborts(void **state)
{
    (void)state;
    assert_true(aborts(keep_lock));
    assert_true(aborts(release_foreign));
}

/* The event lies on this stack and is gone when the wait has returned. */
static void own_event(void *arg)
{
    _Atomic(struct rt_event *) *slot = arg;
    for (unsigned i = 0; i < 500; i++) {
        struct rt_event *e = malloc(sizeof *e);
        CHECK(e);
        rt_event_init(e);
        atomic_store(slot, e);
        CHECK(rt_event_wait(e, rt_after_ms(10000)) == 0);
        rt_event_destroy(e);
        free(e);
    }
    atomic_fetch_add(&turns, 1);
}

static void setter(void *arg)
{
    _Atomic(struct rt_event *) *slot = arg;
    for (unsigned i = 0; i < 500; i++) {
        struct rt_event *e;
        while (!(e = atomic_exchange(slot, NULL))) {
            rt_yield();
        }
        rt_event_set(e);
    }
    atomic_fetch_add(&turns, 1);
}

static void event_main(void *arg)
{
    static _Atomic(struct rt_event *) slot;
    (void)arg;
    atomic_store(&turns, 0);
    CHECK(rt_spawn_on(rt_core_count() - 1, "own", own_event, &slot) == 0);
    CHECK(rt_spawn("set", setter, &slot) == 0);
    while (atomic_load(&turns) < 2) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    struct rt_event e;
    rt_event_init(&e);
    CHECK(!rt_event_is_set(&e));
    CHECK(rt_event_wait(&e, rt_after_ms(1)) == -ETIMEDOUT);
    rt_event_set(&e);
    CHECK(rt_event_is_set(&e));
    CHECK(rt_event_wait(&e, 0) == 0);
    rt_event_reset(&e);
    CHECK(rt_event_wait(&e, rt_after_ms(1)) == -ETIMEDOUT);
    rt_event_destroy(&e);
}

static void event_may_go_after_wait(void **state)
{
    (void)state;
    run_on(1, event_main);
    run_on(2, event_main);
    run_sim(1, event_main, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(credits_are_never_exceeded),
        cmocka_unit_test(credits_are_first_come),
        cmocka_unit_test(leaving_head_frees_the_line),
        cmocka_unit_test(lock_excludes),
        cmocka_unit_test(ranks_rise),
        cmocka_unit_test(lock_misuse_aborts),
        cmocka_unit_test(event_may_go_after_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
