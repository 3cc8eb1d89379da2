/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "cache/cache.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "unit.h"
#include <errno.h>

#define OWNER RT_MEM_BLOCK_CACHE

static struct rt_piece piece_of(size_t len, uint8_t fill)
{
    struct rt_buf *b;
    assert_int_equal(rt_buf_alloc(len, RT_MEM_OTHER, &b), 0);
    memset(b->data, fill, len);
    return (struct rt_piece){.data = b->data, .len = (uint32_t)len, .buf = b};
}

static void put(struct cache *c, uint64_t object, uint64_t offset, size_t len)
{
    struct rt_piece p = piece_of(len, (uint8_t)(object * 7 + offset));
    cache_put(c, object, offset, &p);
    rt_buf_unref(p.buf);
}

static bool has(struct cache *c, uint64_t object, uint64_t offset)
{
    struct rt_piece p;
    if (!cache_get(c, object, offset, &p)) {
        return false;
    }
    assert_int_equal(p.data[0], (uint8_t)(object * 7 + offset));
    assert_int_equal(p.data[p.len - 1], (uint8_t)(object * 7 + offset));
    rt_buf_unref(p.buf);
    return true;
}

static void keeps_and_drops(void **state)
{
    (void)state;
    struct cache *c;
    struct cache_counts n;
    assert_int_equal(cache_create(1 << 20, OWNER, &c), 0);
    assert_false(has(c, 1, 0));
    put(c, 1, 0, 4096);
    put(c, 1, 4096, 32768);
    assert_true(has(c, 1, 0));
    assert_true(has(c, 1, 4096));
    assert_false(has(c, 2, 0));
    cache_drop(c, 1, 0);
    cache_drop(c, 5, 5);
    assert_false(has(c, 1, 0));
    assert_true(has(c, 1, 4096));
    cache_counts(c, &n);
    assert_int_equal(n.hits, 3);
    assert_int_equal(n.misses, 3);
    assert_int_equal(n.evictions, 0);
    assert_true(n.used_bytes >= 32768 && n.used_bytes < 34000);
    cache_destroy(c);
    cache_destroy(NULL);
    assert_int_equal(rt_mem_used(OWNER), 0);
    rt_buf_trim(); /* what free lists hold counts as other */
    assert_int_equal(rt_mem_used(RT_MEM_OTHER), 0);
}

static void the_first_of_a_key_stays(void **state)
{
    (void)state;
    struct cache *c;
    assert_int_equal(cache_create(1 << 20, OWNER, &c), 0);
    struct rt_piece first = piece_of(4096, 1);
    struct rt_piece second = piece_of(4096, 2);
    struct rt_piece got;
    cache_put(c, 9, 9, &first);
    cache_put(c, 9, 9, &second);
    assert_true(cache_get(c, 9, 9, &got));
    assert_int_equal(got.data[0], 1);
    rt_buf_unref(got.buf);
    rt_buf_unref(first.buf);
    rt_buf_unref(second.buf);
    cache_destroy(c);
    assert_int_equal(rt_mem_used(OWNER), 0);
}

static void is_bounded_by_what_it_pins(void **state)
{
    (void)state;
    struct cache *c;
    struct cache_counts n;
    struct rng rng = rng_seeded(3);
    const uint64_t capacity = 8 << 20;
    assert_int_equal(cache_create(capacity, OWNER, &c), 0);
    for (unsigned i = 0; i < 5000; i++) {
        /* Small pieces of large buffers: they must not pin those. */
        struct rt_piece p = piece_of(1 + rng_below(&rng, 100000), 0);
        p.len = (uint32_t)(1 + rng_below(&rng, p.len));
        cache_put(c, i, 0, &p);
        rt_buf_unref(p.buf);
        cache_counts(c, &n);
        assert_true(n.used_bytes <= capacity);
        assert_true(rt_mem_used(OWNER) <= capacity);
    }
    assert_true(n.evictions > 100);
    assert_true(n.used_bytes > capacity / 2);
    cache_resize(c, 1 << 20);
    cache_counts(c, &n);
    assert_true(n.used_bytes <= 1 << 20 && n.capacity_bytes <= 1 << 20);
    assert_true(rt_mem_used(OWNER) <= 1 << 20);
    cache_resize(c, 0);
    assert_int_equal(rt_mem_used(OWNER), 0);
    put(c, 1, 1, 4096);
    assert_false(has(c, 1, 1));
    cache_destroy(c);
}

static void zeros_cost_next_to_nothing(void **state)
{
    (void)state;
    struct cache *c;
    struct cache_counts n;
    struct rt_piece got;
    assert_int_equal(cache_create(1 << 20, OWNER, &c), 0);
    struct rt_piece p = {.data = rt_zeros, .len = 32768};
    cache_put(c, 1, 0, &p);
    assert_true(cache_get(c, 1, 0, &got));
    assert_ptr_equal(got.data, rt_zeros);
    assert_null(got.buf);
    /* Other bytes without a buffer are the maker's: a copy is kept. */
    uint8_t local[100] = {5};
    struct rt_piece q = {.data = local, .len = sizeof local};
    cache_put(c, 2, 0, &q);
    local[0] = 6;
    assert_true(cache_get(c, 2, 0, &got));
    assert_int_equal(got.data[0], 5);
    rt_buf_unref(got.buf);
    cache_counts(c, &n);
    assert_true(n.used_bytes < 5000);
    cache_destroy(c);
}

/* A working set in use survives a sweep over ten times the capacity, of which each frame is read
 * eight times in a row. */
static void a_sweep_leaves_the_hot_set(void **state)
{
    (void)state;
    struct cache *c;
    const unsigned hot = 1000;
    unsigned left = 0;
    assert_int_equal(cache_create(8 << 20, OWNER, &c), 0);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < hot; i++) {
            if (!has(c, 1, i)) {
                put(c, 1, i, 4096);
            }
        }
    }
    for (unsigned i = 0; i < 20000; i++) {
        put(c, 2, i, 4096);
        for (unsigned k = 0; k < 8; k++) {
            (void)has(c, 2, i);
        }
        (void)has(c, 1, i % hot); /* stays in use meanwhile, a little */
    }
    for (unsigned i = 0; i < hot; i++) {
        left += has(c, 1, i);
    }
    assert_true(left >= hot * 9 / 10);
    cache_destroy(c);
}

struct loads {
    struct cache *c;
    struct rt_group *g;
    unsigned calls;
    unsigned good;
    unsigned failed;
    unsigned cancelled;
    int result;
    const uint8_t *data;
};

static int slow_load(void *arg, struct rt_piece *ret_piece) WAITS
{
    struct loads *l = arg;
    l->calls++;
    int r = rt_sleep_ms(100);
    if (r == 0 && l->result == 0) {
        *ret_piece = piece_of(4096, 42);
    }
    return r < 0 ? r : l->result;
}

static void ask(void *arg)
{
    struct loads *l = arg;
    struct rt_piece p;
    int r = cache_load(l->c, 7, 0, slow_load, l, &p);
    if (r == 0) {
        assert_true(l->data == NULL || l->data == p.data);
        l->data = p.data;
        l->good++;
        rt_buf_unref(p.buf);
    } else if (r == -ECANCELED) {
        l->cancelled++;
    } else {
        assert_int_equal(r, -EIO);
        l->failed++;
    }
}

static void ask_together(struct loads *l, unsigned count)
{
    struct rt_group *g;
    assert_int_equal(rt_group_create(&g), 0);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(rt_group_spawn(g, "ask", ask, l), 0);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
}

static void loads_main(void *arg)
{
    (void)arg;
    struct loads l = {.result = -EIO};
    assert_int_equal(cache_create(1 << 20, OWNER, &l.c), 0);
    ask_together(&l, 20);
    assert_int_equal(l.calls, 1);
    assert_int_equal(l.failed, 20);
    l.result = 0;
    ask_together(&l, 20); /* an error is not remembered */
    assert_int_equal(l.calls, 2);
    assert_int_equal(l.good, 20);
    ask_together(&l, 20);
    assert_int_equal(l.calls, 2);
    assert_int_equal(l.good, 40);
    cache_drop(l.c, 7, 0);
    l.data = NULL;

    /* The loader is cancelled: those who wait load for themselves. */
    struct rt_group *doomed;
    assert_int_equal(rt_group_create(&doomed), 0);
    assert_int_equal(rt_group_spawn_now(doomed, "doomed", ask, &l), 0);
    assert_int_equal(l.calls, 3);
    assert_int_equal(rt_group_create(&l.g), 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(rt_group_spawn_now(l.g, "ask", ask, &l), 0);
    }
    assert_int_equal(l.calls, 3);
    rt_group_cancel(doomed);
    rt_group_wait(doomed);
    rt_group_wait(l.g);
    assert_int_equal(l.cancelled, 1);
    assert_int_equal(l.calls, 4);
    assert_int_equal(l.good, 45);
    rt_group_destroy(doomed);
    rt_group_destroy(l.g);
    cache_destroy(l.c);
}

static void one_load_serves_all(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct rt_options opt = {.sim = true, .sim_seed = seed};
        assert_int_equal(rt_run(&opt, loads_main, NULL), 0);
        assert_int_equal(rt_mem_used(OWNER), 0);
    }
}

static struct cache *shared;

static int quick_load(void *arg, struct rt_piece *ret_piece) WAITS
{
    uint64_t n = *(uint64_t *)arg;
    rt_yield();
    *ret_piece = piece_of(n % 3 ? 4096 : 600, (uint8_t)(7 + n));
    return 0;
}

static void hammer(void *arg)
{
    struct rng rng = rng_seeded((uint64_t)(uintptr_t)arg);
    for (unsigned i = 0; i < 4000; i++) {
        uint64_t n = rng_below(&rng, 600);
        struct rt_piece p;
        switch (rng_below(&rng, 8)) {
        case 0:
            cache_drop(shared, 1, n);
            break;
        case 1:
            put(shared, 1, n, 4096);
            break;
        case 2:
            assert_int_equal(cache_load(shared, 1, n, quick_load, &n, &p), 0);
            assert_int_equal(p.data[0], (uint8_t)(7 + n));
            rt_buf_unref(p.buf);
            break;
        case 3:
            cache_resize(shared, rng_below(&rng, 2) ? 2 << 20 : 1 << 20);
            break;
        default:
            (void)has(shared, 1, n);
            break;
        }
    }
}

static void hammer_main(void *arg)
{
    (void)arg;
    struct rt_group *g;
    assert_int_equal(rt_group_create(&g), 0);
    for (uintptr_t i = 0; i < 8; i++) {
        assert_int_equal(rt_group_spawn_on(g, i % 2, "hammer", hammer, (void *)(i + 1)), 0);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
}

static void many_cores_share_it(void **state)
{
    (void)state;
    struct rt_options opt = {.cores = 2};
    assert_int_equal(cache_create(2 << 20, OWNER, &shared), 0);
    assert_int_equal(rt_run(&opt, hammer_main, NULL), 0);
    cache_destroy(shared);
    assert_int_equal(rt_mem_used(OWNER), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_and_drops),
        cmocka_unit_test(the_first_of_a_key_stays),
        cmocka_unit_test(is_bounded_by_what_it_pins),
        cmocka_unit_test(zeros_cost_next_to_nothing),
        cmocka_unit_test(a_sweep_leaves_the_hot_set),
        cmocka_unit_test(one_load_serves_all),
        cmocka_unit_test(many_cores_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
