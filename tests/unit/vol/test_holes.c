/* SPDX-License-Identifier: Apache-2.0 */
/* Range holes against an array that says of each page which batch hid it last. */
#include "unit.h"

#include "base/rng.h"
#include "vol/holes.h"
#include "vol/vol_format.h"

#define PAGES 200

static void check(struct vol_holes *h, const uint64_t model[PAGES])
{
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t end;
        bool masks;
        uint64_t got = vol_holes_cover(h, 5, page, &end, &masks);
        assert_int_equal(got, model[page]);
        assert_true(end > page);
        for (uint64_t p = page; p < end && p < PAGES; p++) {
            assert_int_equal(model[p], got);
        }
        assert_int_equal(vol_holes_cover(h, 6, page, &end, &masks), 0);
    }
}

static void newest_wins(void **state)
{
    (void)state;
    struct rng g = rng_seeded(1);
    for (int round = 0; round < 300; round++) {
        struct vol_holes *h;
        uint64_t model[PAGES] = {0};
        struct vol_hole_list covered = {0};
        assert_int_equal(vol_holes_create(&h), 0);
        uint64_t added = 1 + rng_below(&g, 20);
        for (uint64_t batch = 1; batch <= added; batch++) {
            struct vol_hole hole = {.layer = 5, .batch = batch, .first = rng_below(&g, PAGES)};
            hole.end = hole.first + 1 + rng_below(&g, PAGES - hole.first);
            assert_int_equal(vol_holes_add(h, &hole, &covered), 0);
            for (uint64_t p = hole.first; p < hole.end; p++) {
                model[p] = batch;
            }
            check(h, model);
        }
        assert_int_equal(vol_holes_count(h), added - covered.holes.len);
        /* Those that are done leave, in any order; what they hid is free, and only that. */
        struct vol_hole hole;
        while (vol_holes_next(h, NULL, &hole)) {
            struct vol_hole other;
            while (rng_below(&g, 2) && vol_holes_next(h, &hole, &other)) {
                hole = other;
            }
            vol_holes_advance(h, &hole, hole.first + (hole.end - hole.first) / 2);
            check(h, model);
            vol_holes_advance(h, &hole, hole.end);
            for (uint64_t p = 0; p < PAGES; p++) {
                model[p] = model[p] == hole.batch ? 0 : model[p];
            }
            check(h, model);
        }
        assert_int_equal(vol_holes_count(h), 0);
        vec_free(&covered.holes);
        vol_holes_destroy(h);
    }
}

static void a_layer_has_its_limit(void **state)
{
    (void)state;
    struct vol_holes *h;
    assert_int_equal(vol_holes_create(&h), 0);
    for (unsigned i = 0; i < VOL_HOLES_MAX; i++) {
        assert_int_equal(vol_holes_reserve(h, 1), 1);
    }
    assert_int_equal(vol_holes_reserve(h, 1), 0);
    assert_int_equal(vol_holes_reserve(h, 2), 1);
    vol_holes_unreserve(h, 1, 1);
    assert_int_equal(vol_holes_reserve(h, 1), 1);
    assert_int_equal(vol_holes_reserve(h, 1), 0);
    vol_holes_destroy(h);
}

static void masks_are_told(void **state)
{
    (void)state;
    struct vol_holes *h;
    struct vol_hole_list covered = {0};
    uint64_t end;
    bool masks;
    assert_int_equal(vol_holes_create(&h), 0);
    struct vol_hole hole = {
        .layer = 1, .batch = 3, .first = 10, .end = 20, .flags = VOL_HOLE_MASKS};
    assert_int_equal(vol_holes_add(h, &hole, &covered), 0);
    assert_int_equal(vol_holes_cover(h, 1, 15, &end, &masks), 3);
    assert_true(masks);
    assert_int_equal(end, 20);
    assert_int_equal(vol_holes_cover(h, 1, 9, &end, &masks), 0);
    assert_int_equal(end, 10);
    vol_holes_destroy(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newest_wins),
        cmocka_unit_test(a_layer_has_its_limit),
        cmocka_unit_test(masks_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
