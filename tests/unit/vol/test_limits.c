/* SPDX-License-Identifier: Apache-2.0 */
/* What must not run out: the length of a segment, the fibers of the runtime. */
#include "volume.h"

#include "base/time.h"

#define MIB (1u << 20)
#define GIB (1ull << 30)

/* All that is dirty may lie in one batch, and so in one segment. */
static void what_is_dirty_fits_a_segment(struct rig *rig)
{
    struct vol_counts c;
    vol_counts(rig->v, &c);
    assert_true(c.dirty_limit_bytes <= GIB - GIB / 4);
    rig_create(rig, 64 * MIB);
    rig_write(rig, 0, MIB, 1);
    assert_int_equal(vol_flush(rig->v), 0);
    vol_counts(rig->v, &c);
    assert_true(c.dirty_limit_bytes <= GIB - GIB / 4);
}

static void run_what_is_dirty_fits_a_segment(void **state)
{
    (void)state;
    struct vol_options opt = {.memory_bytes = 64 * MIB, .dirty_bytes = 16 * GIB};
    rig_run_with(what_is_dirty_fits_a_segment, &opt, true);
}

/*
 * Requests take every fiber there is, and take each that becomes free at once. All of them wait for
 * dirty space, which only an apply gives back, which waits for a memtable to be flushed.
 */
#define CROWD 800u
#define CROWD_WRITES 100u

static struct {
    struct rig *rig;
    unsigned started;
    unsigned done;
    unsigned writes;
} crowd;

static void crowd_fill(void);

static void crowd_member(void *arg)
{
    (void)arg;
    struct rig rig = *crowd.rig;
    rig.rng = rng_seeded(crowd.started);
    for (unsigned i = 0; i < CROWD_WRITES; i++) {
        rig_write(&rig, rng_below(&rig.rng, rig.size / 4096) * 4096, 4096, i);
        crowd.writes++;
        crowd_fill();
    }
    crowd.done++;
}

static void crowd_fill(void)
{
    while (crowd.started < CROWD && rt_spawn("crowd", crowd_member, NULL) == 0) {
        crowd.started++;
    }
}

static void a_crowd_does_not_starve_the_index(struct rig *rig)
{
    rig_create(rig, GIB);
    crowd.rig = rig;
    crowd_fill();
    assert_true(crowd.started < CROWD);
    while (crowd.done < CROWD) {
        unsigned before = crowd.writes;
        assert_int_equal(rt_sleep_ms(60000), 0);
        assert_true(crowd.writes > before || crowd.done == CROWD);
    }
    assert_int_equal(vol_flush(rig->v), 0);
}

static void run_a_crowd_does_not_starve_the_index(void **state)
{
    (void)state;
    struct rig_main m = {
        .body = a_crowd_does_not_starve_the_index,
        .opt = {.memory_bytes = 8 * MIB, .dirty_bytes = MIB, .memtable_bytes = 16384}};
    struct rt_options ro = {.cores = 1, .sim = true, .sim_seed = 42, .fibers_max = 500};
    assert_int_equal(rt_run(&ro, rig_fiber, &m), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_what_is_dirty_fits_a_segment),
        cmocka_unit_test(run_a_crowd_does_not_starve_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
