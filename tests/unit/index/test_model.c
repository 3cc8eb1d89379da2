/* SPDX-License-Identifier: Apache-2.0 */
/* The index against a model: random batches, look-ups, scans, flushes, clean and unclean reopens,
 * under the simulator. */
#include "world.h"

#define SEEDS 12u
#define STEPS 400u

static uint64_t seed_now;

static void reopen(struct world *w, bool clean)
{
    struct index_manifest_info info;
    assert_int_equal(index_close(w->ix, clean, w->next_seq - 1), 0);
    assert_int_equal(world_open(w), 0);
    index_manifest(w->ix, &info);
    assert_false(info.clean);
}

static void step(struct world *w)
{
    switch (rng_below(&w->rng, 24)) {
    case 0:
        assert_int_equal(index_flush(w->ix), 0);
        break;
    case 1:
        reopen(w, rng_below(&w->rng, 2) == 0);
        break;
    case 2:
        world_check_scan(w, false, false);
        break;
    case 3:
        world_check_scan(w, true, true);
        break;
    case 4:
        assert_int_equal(rt_sleep_ms(rng_below(&w->rng, 400)), 0);
        break;
    default:
        assert_int_equal(world_write(w), 0);
        break;
    }
    for (int i = 0; i < 4; i++) {
        world_check_get(w, (uint32_t)rng_below(&w->rng, WORLD_KEYS));
    }
}

static void run_seed(void *arg)
{
    (void)arg;
    struct world *w = calloc(1, sizeof *w);
    struct obj_store *store;
    struct index_counts counts;
    assert_non_null(w);
    assert_int_equal(obj_mem_open(&store), 0);
    world_start(w, seed_now, store);
    assert_int_equal(world_open(w), 0);
    for (unsigned i = 0; i < STEPS; i++) {
        step(w);
    }
    world_check_all(w);
    index_counts(w->ix, &counts);
    print_message("flushes %llu ssts %llu manifest %llu\n", (unsigned long long)counts.flushes,
                  (unsigned long long)counts.sst_count, (unsigned long long)counts.manifest_number);
    assert_true(counts.manifest_number > 0);
    reopen(w, true);
    world_check_all(w);
    assert_int_equal(index_close(w->ix, true, w->next_seq - 1), 0);
    assert_int_equal(w->fenced_calls, 0);
    world_end(w);
    free(w);
    obj_close(store);
}

static void agrees_with_the_model(void **state)
{
    (void)state;
    for (seed_now = 1; seed_now <= SEEDS; seed_now++) {
        struct rt_options opt = {.sim = true, .sim_seed = seed_now};
        assert_int_equal(rt_run(&opt, run_seed, NULL), 0);
        assert_int_equal(rt_mem_used(RT_MEM_MEMTABLE), 0);
        assert_int_equal(rt_mem_used(RT_MEM_INDEX_CACHE), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_the_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
