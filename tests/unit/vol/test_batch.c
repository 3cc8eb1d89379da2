/* SPDX-License-Identifier: Apache-2.0 */
/* The block table of a batch, its range holes and its metadata. */
#include "unit.h"

#include "base/rng.h"
#include "rt/rt.h"
#include "vol/batch.h"

#define PAGES 600u

static struct rt_buf *block_of(uint8_t fill)
{
    struct rt_buf *b;
    assert_int_equal(rt_buf_alloc(VOL_BLOCK_BYTES, RT_MEM_DIRTY, &b), 0);
    memset(b->data, fill, VOL_BLOCK_BYTES);
    return b;
}

static uint64_t put(struct vol_batch *b, uint64_t page, unsigned block, uint32_t kind, uint8_t fill)
{
    struct vol_slot slot = {.kind = kind};
    uint64_t refund;
    if (kind == VOL_RUN_DATA) {
        slot.buf = block_of(fill);
        slot.data = slot.buf->data;
    }
    struct vol_blocks blocks = {
        .layer = 3, .page = page, .first = block, .count = 1, .slots = &slot};
    assert_int_equal(vol_batch_put(b, &blocks, &refund), 0);
    return refund;
}

/* Kind and fill of a block; VOL_SLOT_ABSENT when the batch knows nothing. */
static uint32_t get(struct vol_batch *b, uint64_t page, unsigned block, uint8_t *ret_fill)
{
    struct vol_slot slots[VOL_PAGE_BLOCKS];
    unsigned got = vol_batch_get(b, 3, page, 1u << block, slots);
    if (got == 0) {
        return VOL_SLOT_ABSENT;
    }
    if (slots[block].kind == VOL_RUN_DATA) {
        *ret_fill = slots[block].data[17];
        rt_buf_unref(slots[block].buf);
    }
    return slots[block].kind;
}

static void against_a_model(struct vol_batch *b, struct rng *g)
{
    static uint32_t kinds[PAGES * VOL_PAGE_BLOCKS];
    static uint8_t fills[PAGES * VOL_PAGE_BLOCKS];
    for (size_t i = 0; i < PAGES * VOL_PAGE_BLOCKS; i++) {
        kinds[i] = VOL_SLOT_ABSENT;
    }
    for (int round = 0; round < 20000; round++) {
        uint64_t at = rng_below(g, PAGES * VOL_PAGE_BLOCKS);
        uint32_t kind = (uint32_t)rng_below(g, 4);
        if (rng_below(g, 500) == 0) {
            struct vol_batch_hole hole = {.layer = 3, .first = rng_below(g, PAGES)};
            hole.end = hole.first + 1 + rng_below(g, 40);
            int added;
            assert_int_equal(vol_batch_add_hole(b, &hole, &added), 0);
            for (uint64_t i = hole.first * 8; i < hole.end * 8 && i < PAGES * VOL_PAGE_BLOCKS;
                 i++) {
                kinds[i] = VOL_RUN_NONE;
            }
            continue;
        }
        uint64_t refund = put(b, at / 8, at % 8, kind, (uint8_t)round);
        assert_int_equal(refund, kinds[at] == VOL_RUN_DATA ? VOL_BLOCK_BYTES : 0);
        kinds[at] = kind;
        fills[at] = (uint8_t)round;
    }
    for (uint64_t at = 0; at < PAGES * VOL_PAGE_BLOCKS; at++) {
        uint8_t fill = 0;
        assert_int_equal(get(b, at / 8, at % 8, &fill), kinds[at]);
        assert_true(kinds[at] != VOL_RUN_DATA || fill == fills[at]);
    }
}

/* Puts `count` blocks of one buffer into page 5 from block `first` on: what that gives back. */
static uint64_t put_buffer(struct vol_batch *b, unsigned first, unsigned count)
{
    struct vol_slot slots[VOL_PAGE_BLOCKS];
    struct rt_buf *buf;
    uint64_t refund;
    assert_int_equal(rt_buf_alloc((size_t)count * VOL_BLOCK_BYTES, RT_MEM_DIRTY, &buf), 0);
    memset(buf->data, 1, (size_t)count * VOL_BLOCK_BYTES);
    for (unsigned i = 0; i < count; i++) {
        slots[i] =
            (struct vol_slot){rt_buf_ref(buf), buf->data + i * VOL_BLOCK_BYTES, VOL_RUN_DATA};
    }
    rt_buf_unref(buf);
    struct vol_blocks blocks = {
        .layer = 3, .page = 5, .first = first, .count = count, .slots = slots};
    assert_int_equal(vol_batch_put(b, &blocks, &refund), 0);
    return refund;
}

static void refunds(void **state)
{
    (void)state;
    struct vol_batch *b;
    assert_int_equal(vol_batch_create(&b), 0);
    assert_int_equal(put_buffer(b, 0, 8), 0);
    assert_int_equal(put_buffer(b, 0, 8), VOL_PAGE_BYTES);
    /* A part of a buffer gives nothing back, nor does the rest of it, */
    assert_int_equal(put_buffer(b, 2, 2), 0);
    /* but what lies among it and is overwritten as a whole. */
    assert_int_equal(put_buffer(b, 0, 8), 2 * VOL_BLOCK_BYTES);
    assert_int_equal(put_buffer(b, 0, 1), 0);
    assert_int_equal(put_buffer(b, 1, 4), 0);
    assert_int_equal(put_buffer(b, 0, 6), 5 * VOL_BLOCK_BYTES);
    vol_batch_unref(b);
}

static void table(void **state)
{
    (void)state;
    struct rng g = rng_seeded(9);
    struct vol_batch *b;
    assert_int_equal(vol_batch_create(&b), 0);
    against_a_model(b, &g);
    assert_int_equal(vol_batch_next_page(b, 3, 0, 1000), 0);
    assert_int_equal(vol_batch_next_page(b, 4, 0, 1000), 1000);
    assert_int_equal(vol_batch_sort(b), 0);
    for (uint32_t i = 1; i < b->page_count; i++) {
        assert_true(b->pages[i - 1]->page < b->pages[i]->page);
    }
    vol_batch_unref(b);
}

static void holes_join(void **state)
{
    (void)state;
    struct vol_batch *b;
    int added;
    assert_int_equal(vol_batch_create(&b), 0);
    assert_int_equal(
        vol_batch_add_hole(b, &(struct vol_batch_hole){.layer = 1, .first = 0, .end = 10}, &added),
        0);
    assert_int_equal(added, 1);
    assert_int_equal(
        vol_batch_add_hole(b, &(struct vol_batch_hole){.layer = 1, .first = 20, .end = 30}, &added),
        0);
    assert_int_equal(added, 1);
    assert_int_equal(
        vol_batch_add_hole(b, &(struct vol_batch_hole){.layer = 2, .first = 10, .end = 20}, &added),
        0);
    assert_int_equal(added, 1);
    assert_int_equal(
        vol_batch_add_hole(b, &(struct vol_batch_hole){.layer = 1, .first = 10, .end = 20}, &added),
        0);
    assert_int_equal(added, -1);
    assert_int_equal(b->holes.count, 2);
    vol_batch_unref(b);
}

static void leave_later(void *arg)
{
    (void)rt_sleep_ms(20);
    vol_batch_leave(arg);
}

static void close_with_one_inside(void *arg)
{
    struct vol_batch *b;
    (void)arg;
    assert_int_equal(vol_batch_create(&b), 0);
    /* One who comes before it opens must not be taken for the last one to leave. */
    assert_false(vol_batch_enter(b));
    vol_batch_open(b);
    assert_true(vol_batch_enter(b));
    vol_batch_close(b);
    assert_false(vol_batch_enter(b));
    uint64_t start = rt_now_ns();
    assert_int_equal(rt_spawn("leaver", leave_later, b), 0);
    vol_batch_wait_left(b);
    assert_true(rt_now_ns() - start >= 20000000u);
    vol_batch_unref(b);
}

static void closed_to_those_who_come(void **state)
{
    (void)state;
    assert_int_equal(rt_run(&(struct rt_options){.sim = true}, close_with_one_inside, NULL), 0);
}

static void add_pair(struct vol_batch *b, enum index_op op, const char *key, const char *value)
{
    struct vol_batch_pair *p;
    assert_int_equal(vol_batch_pair_create(op, key, strlen(key), value, strlen(value), &p), 0);
    vol_batch_add_pair(b, p);
}

static void later_pairs_win(void **state)
{
    (void)state;
    struct vol_batch *b;
    struct bytes_writer w = {0};
    struct vol_batch_pair *p;
    assert_int_equal(vol_batch_create(&b), 0);
    assert_int_equal(vol_batch_find_pair(b, "a", 1, &w), 0);
    add_pair(b, INDEX_PUT, "a", "one");
    add_pair(b, INDEX_PUT, "b", "x");
    add_pair(b, INDEX_PUT, "a", "two");
    add_pair(b, INDEX_DELETE, "b", "");
    assert_int_equal(vol_batch_find_pair(b, "a", 1, &w), 1);
    assert_int_equal(w.len, 3);
    assert_memory_equal(w.data, "two", 3);
    assert_int_equal(vol_batch_find_pair(b, "b", 1, &w), -ENOENT);
    assert_int_equal(vol_batch_find_pair(b, "ab", 2, &w), 0);
    assert_int_equal(vol_batch_pair_create(INDEX_PUT, "", 0, "", 0, &p), -EINVAL);
    bytes_writer_free(&w);
    vol_batch_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),           cmocka_unit_test(refunds),
        cmocka_unit_test(holes_join),      cmocka_unit_test(closed_to_those_who_come),
        cmocka_unit_test(later_pairs_win),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
