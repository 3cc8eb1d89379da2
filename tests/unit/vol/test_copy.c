/* SPDX-License-Identifier: Apache-2.0 */
/* Copies within the volume: what they read as, what they cost, and how long their segments live. */
#include "volume.h"

#define MIB (1u << 20)
#define BLOCK 4096u

static void copy(struct rig *rig, uint64_t from, uint64_t to, uint64_t len)
{
    memcpy(rig->model + to, rig->model + from, len);
    assert_int_equal(vol_copy(rig->f, from, rig->f, to, len), 0);
}

/* Until the index has all that was flushed. */
static void settle(struct rig *rig)
{
    struct vol_counts c;
    assert_int_equal(vol_flush(rig->v), 0);
    do {
        assert_int_equal(rt_sleep_ms(100), 0);
        vol_counts(rig->v, &c);
    } while (c.batches_open > 1);
}

static uint64_t stored_bytes(struct rig *rig)
{
    struct obj_counts c;
    obj_counts(rig->store, &c);
    return c.bytes_out;
}

static void whole_blocks_are_not_moved(struct rig *rig)
{
    rig_create(rig, 32 * MIB);
    struct rng g = rng_seeded(3);
    for (unsigned i = 0; i < 8; i++) {
        rig_write(rig, i * MIB, MIB, rng_next(&g));
    }
    settle(rig);
    struct vol_counts before;
    struct vol_counts after;
    vol_counts(rig->v, &before);
    uint64_t bytes = stored_bytes(rig);
    uint64_t reads = rig_requests(rig, OBJ_READ, OBJ_GET);
    copy(rig, 0, 16 * MIB, 8 * MIB);            /* pages onto pages */
    copy(rig, BLOCK, 9 * MIB + 3 * BLOCK, MIB); /* onto parts of others */
    assert_true(stored_bytes(rig) == bytes);    /* nothing yet */
    rig_check_all(rig);                         /* from the batch */
    settle(rig);
    assert_true(stored_bytes(rig) - bytes < MIB / 4);
    assert_int_equal(rig_requests(rig, OBJ_READ, OBJ_GET), reads);
    vol_counts(rig->v, &after);
    assert_int_equal(after.live_blocks - before.live_blocks, 9 * MIB / BLOCK);
    assert_int_equal(vol_recount(rig->v), 0);
    rig_check_all(rig); /* from the index */
    rig_reopen(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void any_place_and_length(struct rig *rig)
{
    rig_create(rig, 4 * MIB + 1536);
    struct rng g = rng_seeded(4);
    for (unsigned i = 0; i < 400; i++) {
        uint64_t half = rig->size / 2;
        uint64_t len = 1 + rng_below(&g, rng_below(&g, 4) ? 40000 : 900000);
        uint64_t from = rng_below(&g, half - len);
        uint64_t to = half + rng_below(&g, rig->size - half - len + 1);
        if (rng_below(&g, 2)) {
            uint64_t swap = from;
            from = to;
            to = swap;
        }
        unsigned what = (unsigned)rng_below(&g, 10);
        if (what < 2) {
            rig_write(rig, to, (uint32_t)len, i);
        } else if (what == 2) {
            rig_zero(rig, to, len, (enum vol_zero_kind)rng_below(&g, 3));
        } else if (what == 3) {
            rig_discard(rig, to, len);
        } else if (what == 4) {
            assert_int_equal(vol_flush(rig->v), 0);
        } else {
            bool even =
                rng_below(&g, 3) > 0 && to / BLOCK * BLOCK + from % BLOCK + len <= rig->size;
            copy(rig, from, even ? to / BLOCK * BLOCK + from % BLOCK : to, len);
        }
        if (i % 40 == 39) {
            rig_check_all(rig);
            assert_int_equal(vol_recount(rig->v), 0);
        }
        if (i % 100 == 99) {
            settle(rig);
            rig_crash(rig);
            rig_check_all(rig);
        }
    }
}

static void holes_stay_holes(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    rig_write(rig, 30 * MIB, BLOCK, 1);
    rig_zero(rig, 31 * MIB, MIB / 2, VOL_ZEROED);
    rig_zero(rig, 31 * MIB + MIB / 2, MIB / 2, VOL_ANCHORED);
    for (unsigned i = 0; i < 32; i++) {
        rig_write(rig, (32 + i) * MIB, MIB, 2);
    }
    copy(rig, 0, 32 * MIB, 32 * MIB);
    settle(rig);
    rig_check_all(rig);
    struct vol_extent e[8];
    assert_int_equal(vol_extents(rig->f, 32 * MIB, 32 * MIB, e, 8), 5);
    assert_true(e[0].kind == VOL_EXTENT_HOLE && e[0].len == 30 * MIB);
    assert_true(e[1].kind == VOL_EXTENT_DATA && e[1].len == BLOCK);
    assert_true(e[2].kind == VOL_EXTENT_HOLE && e[2].len == MIB - BLOCK);
    assert_true(e[3].kind == VOL_EXTENT_ZERO && e[3].len == MIB / 2);
    assert_true(e[4].kind == VOL_EXTENT_ANCHORED && e[4].len == MIB / 2);
    assert_int_equal(vol_recount(rig->v), 0);
}

/* The source goes, and with it all of its segments but for the copy. */
static void a_copy_keeps_its_segments(struct rig *rig)
{
    rig_create(rig, 16 * MIB);
    for (unsigned i = 0; i < 4; i++) {
        rig_write(rig, i * MIB, MIB, i);
        assert_int_equal(vol_flush(rig->v), 0);
    }
    settle(rig);
    copy(rig, 0, 8 * MIB, MIB);
    copy(rig, 8 * MIB, 9 * MIB, MIB); /* of a copy that is not in the index yet */
    rig_write(rig, 0, 4 * MIB, 9);    /* in the same batch */
    rig_zero(rig, 8 * MIB, MIB, VOL_HOLE);
    settle(rig);
    for (unsigned i = 0; i < 3; i++) { /* manifests, and the grace of a second */
        rig_write(rig, 12 * MIB, BLOCK, i);
        rig_reopen(rig);
        assert_int_equal(rt_sleep_ms(3000), 0);
    }
    assert_true(rig_requests(rig, -1, OBJ_DELETE) > 0);
    rig_check_all(rig);
    rig_zero(rig, 9 * MIB, MIB, VOL_HOLE);
    settle(rig);
    for (unsigned i = 0; i < 3; i++) {
        rig_write(rig, 12 * MIB, BLOCK, i);
        rig_reopen(rig);
        assert_int_equal(rt_sleep_ms(3000), 0);
    }
    struct vol_counts c;
    vol_counts(rig->v, &c);
    assert_int_equal(c.live_blocks, 4 * MIB / BLOCK + 1);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void between_files(struct rig *rig)
{
    struct vol_txn *t;
    struct vol_file *other;
    uint64_t inode;
    rig_create(rig, 4 * MIB);
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_create(t, 4 * MIB, &inode), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    assert_int_equal(vol_file_open(rig->v, inode, &other), 0);
    rig_write(rig, 0, MIB, 1);
    assert_int_equal(vol_copy(rig->f, 0, other, 2 * MIB, MIB), 0); /* out of memory */
    settle(rig);
    assert_int_equal(vol_copy(rig->f, 0, other, MIB, MIB), 0); /* within the store */
    memcpy(rig->model + 3 * MIB, rig->model, MIB);
    rig_write(rig, 0, MIB, 2);
    assert_int_equal(vol_copy(other, MIB, rig->f, 3 * MIB, MIB), 0);
    memcpy(rig->model + MIB, rig->model + 3 * MIB, MIB);
    assert_int_equal(vol_copy(other, 2 * MIB, rig->f, MIB, MIB), 0);
    rig_check_all(rig);
    settle(rig);
    rig_check_all(rig);
    assert_int_equal(vol_copy(rig->f, 0, other, 3 * MIB + 1, MIB), -EINVAL);
    assert_int_equal(vol_copy(rig->f, 3 * MIB + 1, other, 0, MIB), -EINVAL);
    assert_int_equal(vol_copy(rig->f, 0, rig->f, BLOCK, 2 * BLOCK), -EINVAL);
    vol_file_close(other);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void test_moved(void **state)
{
    (void)state;
    rig_run(whole_blocks_are_not_moved);
}

static void test_any(void **state)
{
    (void)state;
    rig_run(any_place_and_length);
    rig_run_with(any_place_and_length,
                 &(struct vol_options){.memory_bytes = 64u << 20, .dirty_bytes = 1u << 20}, true);
}

static void test_holes(void **state)
{
    (void)state;
    rig_run(holes_stay_holes);
}

static void test_segments(void **state)
{
    (void)state;
    rig_run_with(a_copy_keeps_its_segments,
                 &(struct vol_options){.memory_bytes = 64u << 20, .delete_after_ms = 1000}, true);
}

static void test_files(void **state)
{
    (void)state;
    rig_run(between_files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moved),    cmocka_unit_test(test_any),   cmocka_unit_test(test_holes),
        cmocka_unit_test(test_segments), cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
