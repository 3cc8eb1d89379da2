/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "base/time.h"
#include "rt/timer.h"
#include "rt_test.h"
#include <stdlib.h>

#define TIMERS 2000

static struct rt_timer timers[TIMERS];
static int in_heap[TIMERS];

/* Takes out what the heap says is first and checks it against a search through all. */
static void pop_checked(struct rt_timers *h)
{
    struct rt_timer *first = rt_timers_first(h);
    assert_non_null(first);
    for (unsigned i = 0; i < TIMERS; i++) {
        if (in_heap[i]) {
            assert_true(
                first->deadline_ns < timers[i].deadline_ns ||
                (first->deadline_ns == timers[i].deadline_ns && first->seq <= timers[i].seq));
        }
    }
    in_heap[first - timers] = 0;
    rt_timers_remove(h, first);
}

static void heap_against_search(void **state)
{
    struct rng g = rng_seeded(11);
    struct rt_timers h = {0};
    unsigned count = 0;
    (void)state;
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)rng_below(&g, TIMERS);
        if (!in_heap[i]) {
            rt_timers_add(&h, &timers[i], rng_below(&g, 500));
            in_heap[i] = 1;
            count++;
        } else if (rng_below(&g, 2)) {
            rt_timers_remove(&h, &timers[i]);
            in_heap[i] = 0;
            count--;
        }
        if (count > 0 && rng_below(&g, 8) == 0) {
            pop_checked(&h);
            count--;
        }
    }
    while (count-- > 0) {
        pop_checked(&h);
    }
    assert_null(rt_timers_first(&h));
    rt_timers_remove(&h, &timers[0]);
}

struct sleeper {
    uint64_t ms;
    unsigned *next;
    unsigned expect;
};

static void sleep_then_check(void *arg)
{
    struct sleeper *s = arg;
    uint64_t before = rt_now_ns();
    CHECK(rt_sleep_ms(s->ms) == 0);
    CHECK(rt_now_ns() - before >= s->ms * NS_PER_MS);
    CHECK((*s->next)++ == s->expect);
}

static void sleepers_main(void *arg)
{
    unsigned next = 0;
    struct sleeper s[] = {{30, &next, 2}, {10, &next, 0}, {20, &next, 1}, {40, &next, 3}};
    (void)arg;
    for (unsigned i = 0; i < 4; i++) {
        CHECK(rt_spawn_now("sleep", sleep_then_check, &s[i]) == 0);
    }
    CHECK(rt_sleep_ms(100) == 0);
    CHECK(next == 4);
    CHECK(rt_sleep_until(0) == 0);
}

static void sleepers_wake_in_order(void **state)
{
    (void)state;
    run_on(1, sleepers_main);
    run_sim(3, sleepers_main, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heap_against_search),
        cmocka_unit_test(sleepers_wake_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
