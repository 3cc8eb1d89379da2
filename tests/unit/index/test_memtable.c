/* SPDX-License-Identifier: Apache-2.0 */
#include "base/endian.h"
#include "base/rng.h"
#include "index/memtable.h"
#include "rt/buf.h"
#include "unit.h"
#include <pthread.h>
#include <stdatomic.h>

static struct index_write put_of(const uint8_t *key, uint32_t key_len, const void *value,
                                 uint32_t len)
{
    return (struct index_write){INDEX_PUT, key, value, key_len, len};
}

static void put(struct memtable *mt, const struct index_write *w)
{
    assert_int_equal(memtable_reserve(mt, w, 1), 0);
    memtable_put(mt, w);
}

static void is_sorted_and_found(void **state)
{
    (void)state;
    struct memtable *mt;
    struct rng rng = rng_seeded(1);
    struct index_entry e;
    static uint32_t last[5000]; /* stamp by key; 0 = never */
    assert_int_equal(memtable_create(1 << 20, &mt), 0);
    assert_null(memtable_seek(mt, "", 0));
    for (uint32_t i = 1; i < 20000; i++) {
        uint8_t key[8] = {'k'};
        uint32_t n = (uint32_t)rng_below(&rng, 5000);
        be32_store(key + 1, n);
        struct index_write w = put_of(key, 5, &i, sizeof i);
        w.op = i % 9 == 0 ? INDEX_DELETE : INDEX_PUT;
        put(mt, &w);
        last[n] = i;
    }
    const struct memtable_node *at = memtable_seek(mt, "", 0);
    for (uint32_t n = 0; n < 5000; n++) {
        uint8_t key[8] = {'k'};
        be32_store(key + 1, n);
        assert_int_equal(memtable_get(mt, key, 5, &e), last[n] != 0);
        assert_false(memtable_get(mt, key, 6, &e));
        if (last[n] == 0) {
            continue;
        }
        assert_ptr_equal(memtable_seek(mt, key, 5), at);
        e = memtable_entry(at);
        assert_int_equal(e.deleted, last[n] % 9 == 0);
        assert_int_equal(e.value_len, e.deleted ? 0 : 4);
        assert_true(e.deleted || memcmp(e.value, &last[n], 4) == 0);
        assert_memory_equal(e.key, key, 5);
        at = memtable_next(at);
    }
    assert_null(at);
    assert_true(memtable_bytes(mt) > 19000 * 16); /* overwritten values count */
    assert_true(rt_mem_used(RT_MEM_MEMTABLE) >= memtable_bytes(mt));
    memtable_unref(mt);
    assert_int_equal(rt_mem_used(RT_MEM_MEMTABLE), 0);
}

static void takes_large_values(void **state)
{
    (void)state;
    struct memtable *mt;
    struct index_entry e;
    static uint8_t value[INDEX_VALUE_MAX];
    static uint8_t key[INDEX_KEY_MAX];
    struct index_write w[40];
    assert_int_equal(memtable_create(1 << 20, &mt), 0);
    memset(value, 3, sizeof value);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 40; i++) {
            w[i] = put_of(key, i + 1 + round * 100, value, i % 3 ? sizeof value : 0);
        }
        assert_int_equal(memtable_reserve(mt, w, 40), 0);
        for (unsigned i = 0; i < 40; i++) {
            memtable_put(mt, &w[i]);
        }
    }
    assert_int_equal(memtable_count(mt), 200);
    assert_true(memtable_get(mt, key, 2, &e));
    assert_int_equal(e.value_len, sizeof value);
    assert_memory_equal(e.value, value, sizeof value);
    assert_true(memtable_get(mt, key, 1, &e));
    assert_int_equal(e.value_len, 0);
    memtable_unref(mt);
}

/* One writer and three readers; a reader sees for each key a value that was whole, and never an
 * older one than before. */
#define SHARED_KEYS 300u

static struct memtable *shared;
static atomic_bool stop;

static void check_shared(const struct index_entry *e, uint32_t *seen)
{
    uint32_t pair[2];
    assert_int_equal(e->value_len, sizeof pair);
    memcpy(pair, e->value, sizeof pair);
    assert_int_equal(pair[0] * 7919u, pair[1]);
    assert_true(pair[0] >= *seen);
    *seen = pair[0];
}

static void *read_shared(void *arg)
{
    static _Thread_local uint32_t seen[SHARED_KEYS];
    struct rng rng = rng_seeded((uint64_t)(uintptr_t)arg);
    while (!atomic_load(&stop)) {
        struct index_entry e;
        uint8_t key[4];
        uint32_t n = (uint32_t)rng_below(&rng, SHARED_KEYS);
        be32_store(key, n);
        if (memtable_get(shared, key, 4, &e)) {
            check_shared(&e, &seen[n]);
        }
        uint32_t before = 0;
        bool first = true;
        for (const struct memtable_node *at = memtable_seek(shared, key, 4); at != NULL;
             at = memtable_next(at)) {
            e = memtable_entry(at);
            uint32_t k = be32_load(e.key);
            assert_true(k < SHARED_KEYS && k >= n && (first || k > before));
            first = false;
            before = k;
            check_shared(&e, &seen[k]);
        }
    }
    return NULL;
}

static void readers_take_no_lock(void **state)
{
    (void)state;
    pthread_t threads[3];
    struct rng rng = rng_seeded(99);
    assert_int_equal(memtable_create(1 << 20, &shared), 0);
    for (uintptr_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_shared, (void *)(i + 1)), 0);
    }
    for (uint32_t i = 1; i < 30000; i++) {
        uint8_t key[4];
        uint32_t pair[2] = {i, i * 7919u};
        be32_store(key, (uint32_t)rng_below(&rng, SHARED_KEYS));
        struct index_write w = put_of(key, 4, pair, sizeof pair);
        put(shared, &w);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    memtable_unref(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_sorted_and_found),
        cmocka_unit_test(takes_large_values),
        cmocka_unit_test(readers_take_no_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
