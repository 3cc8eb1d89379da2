/* SPDX-License-Identifier: Apache-2.0 */
/* Inodes with two to four layers: what is written goes to the top one, what is above hides what is
 * below, and all of it has one content. */
#include "volume.h"

#include "stack.h"

#define MIB (1u << 20)
#define GIB (1ull << 30)
#define DEEP 4u

static void push(struct rig *rig)
{
    assert_int_equal(stack_push(&rig->f, DEEP), 0);
}

static uint64_t live_blocks(struct rig *rig)
{
    struct vol_counts c;
    vol_counts(rig->v, &c);
    assert_int_equal(c.bad_pages, 0);
    return c.live_blocks;
}

static void check(struct rig *rig)
{
    rig_check_all(rig);
    rig_check_extents(rig);
}

/* In the batches, in the index, after the walker, after a crash, after a restart. */
static void check_everywhere(struct rig *rig)
{
    check(rig);
    assert_int_equal(vol_flush(rig->v), 0);
    check(rig);
    rig_crash(rig);
    check(rig);
    rig_settle(rig);
    check(rig);
    rig_reopen(rig);
    check(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void inode_delete(struct rig *rig)
{
    struct vol_txn *t;
    vol_file_close(rig->f);
    rig->f = NULL;
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_delete(t, rig->inode), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    rig->inode = 0;
}

/* Every combination of what two layers say of a block, within pages. */
static void above_hides_below(struct rig *rig)
{
    rig_create(rig, MIB);
    for (unsigned layer = 0; layer < DEEP; layer++) {
        if (layer > 0) {
            push(rig);
        }
        for (unsigned block = 0; block < 256; block++) {
            uint64_t off = block * 4096ull;
            switch (block >> 2 * layer & 3) {
            case 1:
                rig_write(rig, off, 4096, 1000 * layer + block);
                break;
            case 2:
                rig_zero(rig, off, 4096, VOL_ZEROED);
                break;
            case 3:
                rig_discard(rig, off, 4096);
                break;
            default:
                break;
            }
        }
        check(rig);
    }
    check_everywhere(rig);
    struct vol_extent e[4];
    /* Blocks 15 and 16: discarded in the second layer, and given data in the third. */
    assert_true(vol_extents(rig->f, 15 * 4096, 8192, e, 4) >= 2);
    assert_true(e[0].kind == VOL_EXTENT_HOLE && e[1].kind == VOL_EXTENT_DATA);
    /* Each layer has data in a quarter of all blocks, seen or not. */
    assert_int_equal(live_blocks(rig), DEEP * 64);
}

/* A range hole hides the layers below for as long as its layer is there, also when the maps that it
 * hid are gone, and in pages that were written since. */
static void a_range_hole_goes_on_hiding(struct rig *rig)
{
    rig_create(rig, 8 * MIB);
    for (unsigned i = 0; i < 8; i++) {
        rig_write(rig, i * MIB, MIB, i);
    }
    assert_int_equal(vol_flush(rig->v), 0);
    push(rig);
    rig_write(rig, 3 * MIB, MIB, 33);
    assert_int_equal(vol_flush(rig->v), 0);
    rig_discard(rig, MIB, 6 * MIB);
    check_everywhere(rig);
    rig_write(rig, 2 * MIB + 8192, 4096, 34);
    rig_write(rig, 4 * MIB + 100, 1000, 35);
    check_everywhere(rig);
    /* The hole is there, done, and the walker has nothing to do. */
    assert_int_equal(vol_holes_count(rig->v->holes), 1);
    assert_int_equal(vol_holes_pending(rig->v->holes), 0);
    push(rig);
    rig_write(rig, 5 * MIB, 12288, 36);
    rig_discard(rig, 0, 3 * MIB);
    rig_write(rig, 2 * MIB, 4096, 37);
    check_everywhere(rig);
    assert_int_equal(vol_holes_count(rig->v->holes), 2);
}

static void sizes(struct rig *rig)
{
    rig_create(rig, 8 * MIB);
    rig_write(rig, 0, 8 * MIB, 1);
    push(rig);
    rig_resize(rig, 3 * MIB + 1536);
    rig_resize(rig, 8 * MIB);
    check_everywhere(rig);
    push(rig);
    rig_write(rig, 3 * MIB, 4 * MIB, 2);
    rig_resize(rig, 6 * MIB + 512); /* less than a range hole is made for */
    rig_resize(rig, 8 * MIB);
    check_everywhere(rig);
}

static uint64_t data_segments(struct rig *rig)
{
    struct obj_names names = {0};
    assert_int_equal(obj_list(rig->store, OBJ_COLLECT, "segments/", "", 10000, &names), 0);
    uint64_t count = names.names.len;
    obj_names_free(&names);
    return count;
}

/* All layers give their space back, with their range holes and their segments. */
static void deleted(struct rig *rig)
{
    rig_create(rig, 8 * MIB);
    for (unsigned layer = 0; layer < DEEP; layer++) {
        if (layer > 0) {
            push(rig);
        }
        for (unsigned i = 0; i < 20; i++) {
            rig_write(rig, rng_below(&rig->rng, 7 * MIB), MIB / 2, i);
            assert_int_equal(vol_flush(rig->v), 0);
        }
        rig_discard(rig, layer * MIB, 4 * MIB);
    }
    check_everywhere(rig);
    assert_true(live_blocks(rig) > 0 && data_segments(rig) > 20);
    rig_discard(rig, 0, 5 * MIB); /* in one batch with the deletion */
    inode_delete(rig);
    rig_settle(rig);
    assert_int_equal(vol_recount(rig->v), 0);
    assert_int_equal(live_blocks(rig), 0);
    assert_int_equal(vol_holes_count(rig->v->holes), 0);
    rig_reopen(rig); /* a manifest, by which they may go */
    assert_int_equal(vol_holes_count(rig->v->holes), 0);
    assert_int_equal(rt_sleep_ms(700000), 0);
    assert_true(data_segments(rig) < 20);
}

/* More range holes than a layer may have: they stay, so nobody waits for them. */
static void more_holes_than_a_layer_has(struct rig *rig)
{
    rig_create(rig, 1024 * GIB);
    for (uint64_t i = 0; i < 5000; i++) {
        rig_write(rig, i * 128 * MIB + 32 * MIB, 4096, i);
    }
    push(rig);
    for (uint64_t i = 0; i < 5000; i++) {
        assert_int_equal(vol_discard(rig->f, i * 128 * MIB, 64 * MIB), 0);
    }
    assert_int_equal(vol_holes_reserve(rig->v->holes, rig->f->layers[0]), 0);
    rig_settle(rig);
    assert_int_equal(vol_holes_count(rig->v->holes), VOL_HOLES_MAX);
    for (uint64_t i = 0; i < 5000; i += 7) {
        struct vol_extent e;
        assert_int_equal(vol_extents(rig->f, i * 128 * MIB + 32 * MIB, 4096, &e, 1), 1);
        assert_int_equal(e.kind, VOL_EXTENT_HOLE);
    }
    struct vol_txn *t;
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_resize(t, rig->inode, 64 * GIB), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    inode_delete(rig);
    rig_settle(rig);
    assert_int_equal(vol_recount(rig->v), 0);
    assert_int_equal(live_blocks(rig), 0);
    assert_int_equal(vol_holes_count(rig->v->holes), 0);
}

static void step(struct rig *rig, unsigned i)
{
    uint64_t off = rng_below(&rig->rng, rig->size);
    uint64_t most = rng_below(&rig->rng, 5) ? 40000 : 5 * MIB;
    uint64_t len = 1 + rng_below(&rig->rng, MIN_OF(rig->size - off, most));
    unsigned what = (unsigned)rng_below(&rig->rng, 100);
    if (what < 50) {
        off = what < 25 ? off : off / 4096 * 4096;
        rig_write(rig, off, (uint32_t)MIN_OF(len, 200000), i);
    } else if (what < 70) {
        rig_discard(rig, off, len);
    } else if (what < 80) {
        rig_zero(rig, off, len, (enum vol_zero_kind)(what % 3));
    } else if (what < 88) {
        rig_check(rig, off, (uint32_t)MIN_OF(len, MIB));
    } else if (what < 94) {
        assert_int_equal(vol_flush(rig->v), 0);
    } else if (what < 96) {
        rig_resize(rig, 4 * MIB + rng_below(&rig->rng, 8 * MIB) / 512 * 512);
        rig_resize(rig, 8 * MIB);
    } else if (what < 98) {
        rig_settle(rig);
    } else {
        assert_int_equal(vol_flush(rig->v), 0);
        rig_crash(rig);
    }
}

static void anything(struct rig *rig)
{
    rig_create(rig, 12 * MIB);
    for (unsigned i = 0; i < 400; i++) {
        if (i % 70 == 69 && rig->f->layer_count < DEEP) {
            push(rig);
        }
        step(rig, i);
        if (i % 40 == 0) {
            check(rig);
        }
    }
    assert_int_equal(rig->f->layer_count, DEEP);
    check_everywhere(rig);
    inode_delete(rig);
    rig_settle(rig);
    assert_int_equal(live_blocks(rig), 0);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void anything_at_all(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct vol_options opt = {.memory_bytes = 64u << 20, .memtable_bytes = 4096};
        rig_run_seeded(anything, &opt, seed);
    }
}

#define BODY(name)                                                                                 \
    static void name##_test(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        rig_run(name);                                                                             \
    }
BODY(above_hides_below)
BODY(a_range_hole_goes_on_hiding)
BODY(sizes)
BODY(deleted)
BODY(more_holes_than_a_layer_has)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(above_hides_below_test),
        cmocka_unit_test(a_range_hole_goes_on_hiding_test),
        cmocka_unit_test(sizes_test),
        cmocka_unit_test(deleted_test),
        cmocka_unit_test(anything_at_all),
        cmocka_unit_test(more_holes_than_a_layer_has_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
