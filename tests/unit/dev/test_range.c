/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "base/rng.h"
#include "base/time.h"
#include "dev/range.h"
#include "rt/rt.h"
#include "unit.h"
#include <stdio.h>

static struct dev_ranges ranges;
static char order[256];
static struct rt_group *group;

struct taker {
    struct dev_range range;
    char name;
    struct rt_event go;
    int result;
};

/* Pages 10 and 20 at once. */
static void take_two(void *arg)
{
    struct dev_range both[2] = {{.first_page = 10, .last_page = 10},
                                {.first_page = 20, .last_page = 20, .exclusive = true}};
    int r = dev_ranges_lock_all(&ranges, both, 2);
    order[strlen(order)] = r == 0 ? '2' : 'x';
    if (r == 0) {
        rt_yield();
        dev_ranges_unlock(&ranges, &both[1]);
        dev_ranges_unlock(&ranges, &both[0]);
    }
    *(int *)arg = r;
}

static void take_it(void *arg)
{
    struct taker *t = arg;
    t->result = dev_ranges_lock(&ranges, &t->range);
    size_t n = strlen(order);
    order[n] = t->name;
    if (t->result < 0) {
        return;
    }
    (void)!rt_event_wait(&t->go, RT_FOREVER);
    dev_ranges_unlock(&ranges, &t->range);
}

static void start(struct taker *t, char name, uint64_t first, uint64_t last, bool exclusive)
{
    t->range = (struct dev_range){.first_page = first, .last_page = last, .exclusive = exclusive};
    t->name = name;
    rt_event_init(&t->go);
    ASSERT(rt_group_spawn_now(group, "taker", take_it, t) == 0);
}

static void finish(struct taker *t)
{
    rt_event_set(&t->go);
    for (int i = 0; i < 4; i++) {
        rt_yield();
    }
}

static void begin(void)
{
    memset(order, 0, sizeof order);
    dev_ranges_init(&ranges);
    ASSERT(rt_group_create(&group) == 0);
}

static void end(void)
{
    rt_group_wait(group);
    rt_group_destroy(group);
    dev_ranges_destroy(&ranges);
}

/* Who wants several comes before or after whoever wants all in between, never both. */
static void several_body(void *arg)
{
    (void)arg;
    struct taker t[3];
    int r = 1;
    begin();
    start(&t[0], 'a', 20, 20, false);
    ASSERT(rt_group_spawn_now(group, "two", take_two, &r) == 0);
    start(&t[1], 'b', 5, 500, true); /* wants all, behind them */
    start(&t[2], 'c', 10, 10, false);
    assert_string_equal(order, "a");
    finish(&t[0]);
    assert_string_equal(order, "a2b");
    finish(&t[1]);
    finish(&t[2]);
    assert_string_equal(order, "a2bc");
    assert_int_equal(r, 0);
    /* Cancelled: it has none of them. */
    start(&t[0], 'd', 20, 20, false);
    struct rt_group *other;
    ASSERT(rt_group_create(&other) == 0);
    ASSERT(rt_group_spawn_now(other, "two", take_two, &r) == 0);
    start(&t[1], 'e', 10, 15, true);
    assert_string_equal(order, "a2bcd");
    rt_group_cancel(other);
    rt_group_wait(other);
    rt_group_destroy(other);
    rt_yield();
    assert_string_equal(order, "a2bcdxe");
    assert_int_equal(r, -ECANCELED);
    finish(&t[0]);
    finish(&t[1]);
    end();
}

static void several_at_once(void **state)
{
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, several_body, NULL), 0);
}

static void order_body(void *arg)
{
    (void)arg;
    struct taker t[6];
    begin();
    start(&t[0], 'a', 5, 5, true);
    start(&t[1], 'b', 5, 6, false);      /* waits for a */
    start(&t[2], 'c', 7, 7, true);       /* free */
    start(&t[3], 'd', 0, 1000000, true); /* waits for a, b, c */
    start(&t[4], 'e', 900, 900, false);  /* behind d */
    start(&t[5], 'f', 2000000, 2000000, true);
    assert_string_equal(order, "acf");
    finish(&t[0]);
    assert_string_equal(order, "acfb");
    finish(&t[2]);
    assert_string_equal(order, "acfb");
    finish(&t[1]);
    assert_string_equal(order, "acfbd");
    finish(&t[3]);
    assert_string_equal(order, "acfbde");
    finish(&t[4]);
    finish(&t[5]);
    end();
}

static void readers_body(void *arg)
{
    (void)arg;
    struct taker t[4];
    begin();
    start(&t[0], 'a', 5, 5, false);
    start(&t[1], 'b', 0, UINT64_MAX, false);
    start(&t[2], 'c', 5, 5, true);
    start(&t[3], 'd', 5, 5, false); /* fair: not past c */
    assert_string_equal(order, "ab");
    finish(&t[0]);
    finish(&t[1]);
    assert_string_equal(order, "abc");
    finish(&t[2]);
    assert_string_equal(order, "abcd");
    finish(&t[3]);
    end();
}

static void try_body(void *arg)
{
    (void)arg;
    struct taker t[2];
    struct dev_range r[4] = {{.first_page = 4, .last_page = 4},
                             {.first_page = 5, .last_page = 5},
                             {.first_page = 4, .last_page = 4},
                             {.first_page = 100, .last_page = 200}};
    begin();
    start(&t[0], 'a', 5, 5, true);
    assert_int_equal(dev_ranges_try(&ranges, r, 4), 3); /* all but the second */
    assert_true(r[1].blockers > 0);
    start(&t[1], 'b', 4, 4, true); /* waits for two of them */
    assert_string_equal(order, "a");
    dev_ranges_let_go(&ranges, r, 4);
    rt_yield();
    assert_string_equal(order, "ab");
    finish(&t[0]);
    finish(&t[1]);
    end();
}

static void cancel_body(void *arg)
{
    (void)arg;
    begin();
    struct rt_group *own = group;
    struct taker held;
    start(&held, 'a', 5, 5, true);
    struct taker waits;
    struct taker behind;
    ASSERT(rt_group_create(&group) == 0);
    start(&waits, 'b', 5, 500, true);
    struct rt_group *cancelled = group;
    group = own;
    start(&behind, 'c', 500, 500, true); /* waits for b alone */
    assert_string_equal(order, "a");
    rt_group_cancel(cancelled);
    rt_group_wait(cancelled);
    rt_group_destroy(cancelled);
    rt_yield();
    assert_int_equal(waits.result, -ECANCELED);
    assert_string_equal(order, "abc");
    finish(&behind);
    finish(&held);
    end();
}

/* Many fibers on several cores; a page is counted by its holders. */
#define PAGES 256
static _Atomic int owners[PAGES];
static _Atomic int left;

static void worker(void *arg)
{
    struct rng g = rng_seeded((uintptr_t)arg);
    for (int i = 0; i < 400; i++) {
        uint64_t first = rng_below(&g, PAGES);
        uint64_t len = rng_below(&g, 8) == 0 ? rng_below(&g, PAGES - first) : rng_below(&g, 3);
        uint64_t last = MIN_OF(first + len, PAGES - 1);
        struct dev_range r = {
            .first_page = first, .last_page = last, .exclusive = rng_below(&g, 2) == 0};
        ASSERT(dev_ranges_lock(&ranges, &r) == 0);
        for (uint64_t p = first; p <= last; p++) {
            int before = owners[p]++;
            ASSERT(r.exclusive ? before == 0 : before >= 0);
            if (r.exclusive) {
                owners[p] -= 1000000;
            }
        }
        if (rng_below(&g, 4) == 0) {
            rt_yield();
        }
        for (uint64_t p = first; p <= last; p++) {
            if (r.exclusive) {
                owners[p] += 1000000;
            }
            owners[p]--;
        }
        dev_ranges_unlock(&ranges, &r);
    }
    left--;
}

static void crowd_body(void *arg)
{
    (void)arg;
    begin();
    left = 40;
    for (unsigned i = 0; i < 40; i++) {
        ASSERT(rt_group_spawn_on(group, i % rt_core_count(), "worker", worker,
                                 (void *)(uintptr_t)(i + 1)) == 0);
    }
    rt_group_wait(group);
    assert_int_equal(left, 0);
    end();
}

/* Said, not asserted: the machine is shared. What is asserted is an order of magnitude above. */
static void speed_body(void *arg)
{
    (void)arg;
    begin();
    const unsigned n = 1000000;
    uint64_t from = time_monotonic_ns();
    for (unsigned i = 0; i < n; i++) {
        struct dev_range r = {.first_page = i % 100000, .last_page = i % 100000, .exclusive = true};
        ASSERT(dev_ranges_lock(&ranges, &r) == 0);
        dev_ranges_unlock(&ranges, &r);
    }
    uint64_t ns = time_monotonic_ns() - from;
    printf("# a range lock and unlock: %.1f ns\n", (double)ns / n);
    assert_true(ns / n < 5000);
    end();
}

static void run(void (*body)(void *arg), unsigned cores)
{
    assert_int_equal(rt_run(&(struct rt_options){.cores = cores}, body, NULL), 0);
}

static void runs_in_order_of_arrival(void **state)
{
    (void)state;
    run(order_body, 1);
}

static void readers_share_but_do_not_overtake(void **state)
{
    (void)state;
    run(readers_body, 1);
}

static void a_try_takes_what_is_free(void **state)
{
    (void)state;
    run(try_body, 1);
}

static void a_cancelled_wait_lets_go(void **state)
{
    (void)state;
    run(cancel_body, 1);
}

static void excludes_across_cores(void **state)
{
    (void)state;
    run(crowd_body, 3);
}

static void is_quick(void **state)
{
    (void)state;
    run(speed_body, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_in_order_of_arrival),
        cmocka_unit_test(several_at_once),
        cmocka_unit_test(readers_share_but_do_not_overtake),
        cmocka_unit_test(a_try_takes_what_is_free),
        cmocka_unit_test(a_cancelled_wait_lets_go),
        cmocka_unit_test(excludes_across_cores),
        cmocka_unit_test(is_quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
