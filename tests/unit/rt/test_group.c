/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/buf.h"
#include "rt/sync.h"
#include "rt_test.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static _Atomic unsigned ready;
static _Atomic unsigned cancelled;

static void wait_until(_Atomic unsigned *counter, unsigned value)
{
    while (atomic_load(counter) < value) {
        CHECK(rt_sleep_ms(1) == 0);
    }
}

static void sleep_long(void *arg)
{
    (void)arg;
    CHECK(!rt_cancelled());
    atomic_fetch_add(&ready, 1);
    CHECK(rt_sleep_until(RT_FOREVER) == -ECANCELED);
    CHECK(rt_cancelled());
    /* So is every later wait. */
    CHECK(rt_sleep_ms(0) == -ECANCELED);
    CHECK(rt_pass() == -ECANCELED);
    atomic_fetch_add(&cancelled, 1);
}

static void cancel_main(void *arg)
{
    struct rt_group *g;
    (void)arg;
    atomic_store(&ready, 0);
    atomic_store(&cancelled, 0);
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 40; i++) {
        CHECK(rt_group_spawn_on(g, i % rt_core_count(), "sleep", sleep_long, NULL) == 0);
    }
    wait_until(&ready, 40);
    CHECK(!rt_group_is_cancelled(g));
    rt_group_cancel(g);
    CHECK(rt_group_is_cancelled(g));
    rt_group_wait(g);
    CHECK(atomic_load(&cancelled) == 40);
    rt_group_destroy(g);
}

static void cancel_wakes_members(void **state)
{
    (void)state;
    run_on(1, cancel_main);
    for (unsigned i = 0; i < 20; i++) {
        run_on(2, cancel_main);
    }
    for (uint64_t seed = 0; seed < 10; seed++) {
        run_sim(seed, cancel_main, NULL);
    }
}

/* One fiber of a group is cancelled, the other is not; it takes notice and goes on. */
static struct rt_fiber *_Atomic single;

static void cancelled_alone(void *arg)
{
    (void)arg;
    atomic_store(&single, rt_self());
    CHECK(rt_sleep_until(RT_FOREVER) == -ECANCELED);
    CHECK(rt_cancelled() && rt_sleep_ms(0) == -ECANCELED);
    rt_shield();
    CHECK(rt_sleep_ms(0) == 0);
    rt_unshield();
    rt_cancel_heeded();
    CHECK(!rt_cancelled() && rt_sleep_ms(1) == 0);
    atomic_fetch_add(&ready, 1);
}

static void single_main(void *arg)
{
    struct rt_group *g;
    (void)arg;
    atomic_store(&ready, 0);
    atomic_store(&cancelled, 0);
    atomic_store(&single, NULL);
    CHECK(rt_group_create(&g) == 0);
    CHECK(rt_group_spawn(g, "sleep", sleep_long, NULL) == 0);
    CHECK(rt_group_spawn_on(g, rt_core_count() - 1, "alone", cancelled_alone, NULL) == 0);
    wait_until(&ready, 1);
    while (!atomic_load(&single)) {
        CHECK(rt_sleep_ms(1) == 0);
    }
    rt_fiber_cancel(atomic_load(&single));
    wait_until(&ready, 2);
    CHECK(atomic_load(&cancelled) == 0);
    rt_group_cancel(g);
    rt_group_wait(g);
    CHECK(atomic_load(&cancelled) == 1);
    rt_group_destroy(g);
}

static void one_fiber_is_cancelled(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        run_on(1 + i % 2, single_main);
    }
    for (uint64_t seed = 0; seed < 10; seed++) {
        run_sim(seed, single_main, NULL);
    }
}

static void shielded(void *arg)
{
    (void)arg;
    rt_shield();
    rt_shield();
    atomic_fetch_add(&ready, 1);
    do {
        CHECK(rt_sleep_ms(1) == 0);
    } while (!rt_cancelled());
    CHECK(rt_sleep_ms(1) == 0);
    rt_unshield();
    CHECK(rt_sleep_ms(1) == 0);
    CHECK(rt_pass() == 0);
    rt_unshield();
    CHECK(rt_sleep_ms(1) == -ECANCELED);
    atomic_fetch_add(&cancelled, 1);
}

static void shield_main(void *arg)
{
    struct rt_group *g;
    (void)arg;
    atomic_store(&ready, 0);
    atomic_store(&cancelled, 0);
    CHECK(rt_group_create(&g) == 0);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(rt_group_spawn_on(g, i % rt_core_count(), "shielded", shielded, NULL) == 0);
    }
    wait_until(&ready, 10);
    rt_group_cancel(g);
    CHECK(atomic_load(&cancelled) == 0);
    rt_group_wait(g);
    CHECK(atomic_load(&cancelled) == 10);
    rt_group_destroy(g);
}

static void shield_puts_off(void **state)
{
    (void)state;
    run_on(1, shield_main);
    run_on(2, shield_main);
    run_sim(1, shield_main, NULL);
}

static void end_at_once(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ready, 1);
}

static void churn_main(void *arg)
{
    (void)arg;
    atomic_store(&ready, 0);
    for (unsigned i = 0; i < 300; i++) {
        struct rt_group *g;
        CHECK(rt_group_create(&g) == 0);
        for (unsigned k = 0; k < 4; k++) {
            CHECK(rt_group_spawn_on(g, k % 2, "end", end_at_once, NULL) == 0);
        }
        rt_group_wait(g);
        rt_group_destroy(g);
        CHECK(atomic_load(&ready) == 4 * (i + 1));
    }
}

/* The group goes as soon as the wait returns, while its last member has only just left it. */
static void destroy_after_wait(void **state)
{
    (void)state;
    run_on(2, churn_main);
}

struct duel {
    struct rt_event event;
    struct rt_group *group;
    _Atomic unsigned woken;
    _Atomic unsigned timed_out;
    _Atomic unsigned ended;
};

static void duel_waiter(void *arg)
{
    struct duel *d = arg;
    int r = rt_event_wait(&d->event, rt_now_ns() + rt_random() % 200000);
    atomic_fetch_add(r == 0 ? &d->woken : r == -ETIMEDOUT ? &d->timed_out : &d->ended, 1);
    CHECK(r == 0 || r == -ETIMEDOUT || r == -ECANCELED);
}

static void duel_setter(void *arg)
{
    struct duel *d = arg;
    (void)rt_sleep_until(rt_now_ns() + rt_random() % 200000);
    rt_event_set(&d->event);
}

static void duel_main(void *arg)
{
    unsigned sums[3] = {0};
    (void)arg;
    for (unsigned round = 0; round < 150; round++) {
        struct duel d = {0};
        rt_event_init(&d.event);
        CHECK(rt_group_create(&d.group) == 0);
        for (unsigned i = 0; i < 8; i++) {
            unsigned core = i % rt_core_count();
            CHECK(rt_group_spawn_on(d.group, core, "waiter", duel_waiter, &d) == 0);
        }
        struct rt_group *setter;
        CHECK(rt_group_create(&setter) == 0);
        CHECK(rt_group_spawn_on(setter, round % rt_core_count(), "set", duel_setter, &d) == 0);
        if (round % 2) {
            (void)rt_sleep_until(rt_now_ns() + rt_random() % 100000);
            rt_group_cancel(d.group);
        }
        rt_group_wait(d.group);
        rt_group_wait(setter);
        CHECK(d.woken + d.timed_out + d.ended == 8);
        sums[0] += d.woken;
        sums[1] += d.timed_out;
        sums[2] += d.ended;
        rt_group_destroy(setter);
        rt_group_destroy(d.group);
        rt_event_destroy(&d.event);
    }
    if (rt_is_sim()) {
        CHECK(sums[0] > 0 && sums[1] > 0 && sums[2] > 0);
    }
}

/* Wake-ups, time-outs and cancellation race; each wait has one outcome. */
static void one_wait_one_outcome(void **state)
{
    (void)state;
    run_on(2, duel_main);
    for (uint64_t seed = 0; seed < 5; seed++) {
        run_sim(seed, duel_main, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancel_wakes_members), cmocka_unit_test(one_fiber_is_cancelled),
        cmocka_unit_test(shield_puts_off),      cmocka_unit_test(destroy_after_wait),
        cmocka_unit_test(one_wait_one_outcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
