/* SPDX-License-Identifier: Apache-2.0 */
/* The index against a model: random batches, look-ups, scans, flushes, clean and unclean reopens,
 * under the simulator. */
#include "base/hash.h"
#include "world.h"
#include <stdatomic.h>

#define SEEDS 12u
#define STEPS 400u

static uint64_t seed_now;
static bool faulty;

/* A store that fails, loses, repeats and delays requests, below a layer that tries again. */
static struct obj_store *open_store(void)
{
    struct obj_store *store;
    struct obj_store *fault;
    struct obj_store *retry;
    struct obj_fault_options opt = {.seed = seed_now,
                                    .fail_before = 0.05,
                                    .fail_after = 0.05,
                                    .duplicate = 0.05,
                                    .late = 0.05,
                                    .late_ms = 3000};
    struct obj_retry_options tries = {.first_backoff_ms = 5, .max_backoff_ms = 50};
    assert_int_equal(obj_mem_open(&store), 0);
    if (!faulty) {
        return store;
    }
    assert_int_equal(obj_fault_wrap(store, &opt, &fault), 0);
    assert_int_equal(obj_retry_wrap(fault, &tries, &retry), 0);
    return retry;
}

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
    struct obj_store *store = open_store();
    struct index_counts counts;
    assert_non_null(w);
    world_start(w, seed_now, store);
    if (seed_now % 2 == 0) { /* so small that all levels get used */
        w->opt.memtable_bytes = 2 << 10;
        w->opt.sst_bytes = 1 << 10;
    }
    assert_int_equal(world_open(w), 0);
    for (unsigned i = 0; i < STEPS; i++) {
        step(w);
    }
    world_check_all(w);
    index_counts(w->ix, &counts);
    assert_true(counts.manifest_number > 0);
    reopen(w, true);
    world_check_all(w);
    assert_int_equal(index_close(w->ix, true, w->next_seq - 1), 0);
    assert_int_equal(w->fenced_calls, 0);
    world_end(w);
    free(w);
    obj_close(store);
}

static void run_seeds(void)
{
    for (seed_now = 1; seed_now <= SEEDS; seed_now++) {
        struct rt_options opt = {.sim = true, .sim_seed = seed_now};
        hash_seed_set(seed_now); /* what the cache evicts is part of the run */
        assert_int_equal(rt_run(&opt, run_seed, NULL), 0);
        assert_int_equal(rt_mem_used(RT_MEM_MEMTABLE), 0);
        assert_int_equal(rt_mem_used(RT_MEM_INDEX_CACHE), 0);
    }
}

static void agrees_with_the_model(void **state)
{
    (void)state;
    run_seeds();
}

static void agrees_with_the_model_on_a_bad_store(void **state)
{
    (void)state;
    faulty = true;
    run_seeds();
    faulty = false;
}

/*
 * Real cores: one applier, and readers that look up and scan while memtables are flushed and SSTs
 * compacted under them. A key's stamp never goes back for any reader.
 */
#define SHARED_KEYS 400u
#define SHARED_BATCHES 1500u

static struct index *shared;
static atomic_bool done;

static size_t shared_key(uint32_t n, char key[64])
{
    return (size_t)snprintf(key, 64, "key/%06u", n);
}

static void take_stamp(uint32_t *seen, uint32_t n, const void *value, size_t len)
{
    uint32_t pair[2];
    assert_true(len >= sizeof pair);
    memcpy(pair, value, sizeof pair);
    assert_int_equal(pair[1], pair[0] * 7919u + n);
    assert_true(pair[0] >= seen[n]);
    seen[n] = pair[0];
}

static int scan_each(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    char text[64] = "";
    memcpy(text, key, key_len);
    take_stamp(arg, (uint32_t)strtoul(text + 4, NULL, 10), value, value_len);
    return 0;
}

static void read_on(void *arg)
{
    struct rng rng = rng_seeded((uint64_t)(uintptr_t)arg);
    uint32_t *seen = calloc(SHARED_KEYS, sizeof *seen);
    struct bytes_writer got = {0};
    assert_non_null(seen);
    while (!atomic_load(&done)) {
        char key[64];
        uint32_t n = (uint32_t)rng_below(&rng, SHARED_KEYS);
        size_t len = shared_key(n, key);
        got.len = 0;
        int r = index_get(shared, key, len, &got);
        assert_true(r == 0 || (r == -ENOENT && seen[n] == 0));
        if (r == 0) {
            take_stamp(seen, n, got.data, got.len);
        }
        if (rng_below(&rng, 200) == 0) {
            assert_int_equal(
                index_scan(shared, &(struct index_range){key, len, NULL, 0}, scan_each, seen), 0);
        }
        rt_yield();
    }
    bytes_writer_free(&got);
    free(seen);
}

static void apply_on(struct rng *rng)
{
    static char keys[20][64];
    static uint8_t values[20][200];
    for (uint32_t b = 1; b <= SHARED_BATCHES; b++) {
        struct index_write w[20];
        for (uint32_t i = 0; i < 20; i++) {
            uint32_t n = (uint32_t)rng_below(rng, SHARED_KEYS);
            uint32_t pair[2] = {b, b * 7919u + n};
            memcpy(values[i], pair, sizeof pair);
            w[i] = (struct index_write){INDEX_PUT, keys[i], values[i],
                                        (uint32_t)shared_key(n, keys[i]), 200};
        }
        assert_int_equal(index_apply(shared, b, b, 1, w, 20), 0);
        rt_yield();
    }
}

static void cores_main(void *arg)
{
    (void)arg;
    struct obj_store *store;
    struct rt_group *g;
    struct index_counts counts;
    struct uuid id = uuid_random();
    struct rng rng = rng_seeded(11);
    uint64_t epoch;
    struct index_options opt = {.memtable_bytes = 64 << 10,
                                .cache_bytes = 1 << 20,
                                .sst_bytes = 16 << 10,
                                .delete_after_ms = 20};
    assert_int_equal(obj_mem_open(&store), 0);
    opt.store = store;
    assert_int_equal(index_format(store, &opt.volume, NULL), 0);
    assert_int_equal(index_load(&opt, &shared), 0);
    assert_int_equal(index_claim(shared, &id, "cores", &epoch), 0);
    assert_int_equal(index_recheck(shared), 0);
    assert_int_equal(rt_group_create(&g), 0);
    for (uintptr_t i = 0; i < 4; i++) {
        assert_int_equal(rt_group_spawn_on(g, i % 2, "read", read_on, (void *)(i + 1)), 0);
    }
    apply_on(&rng);
    assert_int_equal(index_flush(shared), 0);
    atomic_store(&done, true);
    rt_group_wait(g);
    rt_group_destroy(g);
    index_counts(shared, &counts);
    assert_true(counts.flushes > 20);
    assert_int_equal(index_close(shared, true, SHARED_BATCHES), 0);
    obj_close(store);
}

static void many_cores_share_it(void **state)
{
    (void)state;
    struct rt_options opt = {.cores = 2};
    assert_int_equal(rt_run(&opt, cores_main, NULL), 0);
    assert_int_equal(rt_mem_used(RT_MEM_MEMTABLE), 0);
    assert_int_equal(rt_mem_used(RT_MEM_INDEX_CACHE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_model),
        cmocka_unit_test(agrees_with_the_model_on_a_bad_store),
        cmocka_unit_test(many_cores_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
