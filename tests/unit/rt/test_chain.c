/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "rt/buf.h"
#include "rt_test.h"
#include <string.h>

static uint64_t refs_of(struct rt_buf *b)
{
    return atomic_load(&b->refs);
}

static void pieces_join(void **state)
{
    struct rt_buf *b;
    struct rt_chain c = {0};
    (void)state;
    assert_int_equal(rt_buf_alloc(4096, RT_MEM_OTHER, &b), 0);
    assert_int_equal(rt_chain_add(&c, b, b->data, 100), 0);
    assert_int_equal(rt_chain_add(&c, b, b->data + 100, 50), 0);
    assert_int_equal(c.count, 1);
    assert_int_equal(c.len, 150);
    assert_int_equal(refs_of(b), 2);
    assert_int_equal(rt_chain_add(&c, b, b->data + 200, 1), 0);
    assert_int_equal(rt_chain_add(&c, b, b->data + 300, 0), 0);
    assert_int_equal(c.count, 2);
    assert_int_equal(refs_of(b), 3);
    rt_chain_free(&c);
    assert_int_equal(c.count, 0);
    assert_int_equal(c.len, 0);
    assert_int_equal(refs_of(b), 1);
    rt_buf_unref(b);
}

static void zeros(void **state)
{
    struct rt_chain c = {0};
    uint8_t out[100];
    (void)state;
    assert_int_equal(rt_chain_add_zeros(&c, 1000000, 1), 0);
    assert_int_equal(rt_chain_add_zeros(&c, 5, 0), 0);
    assert_int_equal(c.len, 1000005);
    uint64_t holes = 0;
    for (uint32_t i = 0; i < c.count; i++) {
        holes += rt_chain_pieces(&c)[i].is_hole ? rt_chain_pieces(&c)[i].len : 0;
    }
    assert_int_equal(holes, 1000000);
    memset(out, 1, sizeof out);
    rt_chain_copy_out(&c, 65500, out, sizeof out);
    for (unsigned i = 0; i < sizeof out; i++) {
        assert_int_equal(out[i], 0);
    }
    rt_chain_free(&c);
}

#define LEN 30000

/* A chain of random pieces, its ranges and copies, against plain bytes. */
static void against_bytes(void **state)
{
    static uint8_t model[LEN];
    static uint8_t out[LEN];
    struct rng g = rng_seeded(4);
    struct rt_chain c = {0};
    struct rt_buf *b;
    (void)state;
    assert_int_equal(rt_buf_alloc(LEN, RT_MEM_OTHER, &b), 0);
    for (unsigned i = 0; i < LEN; i++) {
        b->data[i] = (uint8_t)rng_next(&g);
    }
    for (uint32_t at = 0, n; at < LEN; at += n) {
        n = (uint32_t)MIN_OF(1 + rng_below(&g, 600), (uint64_t)LEN - at);
        if (rng_below(&g, 4) == 0) {
            memset(model + at, 0, n);
            assert_int_equal(rt_chain_add_zeros(&c, n, 1), 0);
        } else {
            uint64_t from = rng_below(&g, LEN - n + 1);
            memcpy(model + at, b->data + from, n);
            assert_int_equal(rt_chain_add(&c, b, b->data + from, n), 0);
        }
    }
    assert_int_equal(c.len, LEN);
    for (unsigned i = 0; i < 300; i++) {
        struct rt_chain part = {0};
        uint64_t off = rng_below(&g, LEN + 1);
        uint64_t len = rng_below(&g, LEN - off + 1);
        assert_int_equal(rt_chain_add_range(&part, &c, off, len), 0);
        assert_int_equal(part.len, len);
        rt_chain_copy_out(&part, 0, out, len);
        assert_memory_equal(out, model + off, len);
        rt_chain_copy_out(&c, off, out, len);
        assert_memory_equal(out, model + off, len);
        rt_chain_free(&part);
    }
    rt_chain_free(&c);
    assert_int_equal(refs_of(b), 1);
    rt_buf_unref(b);
}

static void takes_references(void **state)
{
    struct rt_chain c = {0};
    struct rt_buf *b;
    (void)state;
    assert_int_equal(rt_buf_alloc(LEN, RT_MEM_OTHER, &b), 0);
    assert_int_equal(rt_chain_take(&c, rt_buf_ref(b), b->data, 10), 0);
    assert_int_equal(rt_chain_take(&c, rt_buf_ref(b), b->data + 10, 10), 0); /* joins */
    assert_int_equal(c.count, 1);
    assert_int_equal(refs_of(b), 2);
    assert_int_equal(rt_chain_take(&c, rt_buf_ref(b), b->data, 0), 0);
    assert_int_equal(refs_of(b), 2);
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(rt_chain_take(&c, rt_buf_ref(b), b->data + 7, 5), 0);
    }
    assert_int_equal(refs_of(b), 11);
    assert_int_equal(c.len, 65);
    rt_chain_free(&c);
    assert_int_equal(refs_of(b), 1);
    rt_buf_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_join),
        cmocka_unit_test(zeros),
        cmocka_unit_test(takes_references),
        cmocka_unit_test(against_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
