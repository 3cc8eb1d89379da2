/* SPDX-License-Identifier: Apache-2.0 */
/* Merges of page maps against a model of eight blocks; the codec against cuts and flipped bits. */
#include "unit.h"

#include "base/err.h"
#include "base/rng.h"
#include "vol/page_map.h"

#define ABSENT 0

/* What one block of the model is: ABSENT, or a number for each (kind, seq, block of frame). */
static uint64_t run_block(const struct vol_run *run, unsigned k)
{
    if (run->kind == VOL_RUN_NONE) {
        return ABSENT;
    }
    if (run->kind != VOL_RUN_DATA) {
        return run->kind;
    }
    return run->seq << 20 | (uint64_t)run->offset << 8 | (run->frame_block + k) << 4 | 8;
}

static void lay(uint64_t model[VOL_PAGE_BLOCKS], const struct vol_map *map)
{
    for (uint32_t i = 0; i < map->count; i++) {
        for (unsigned k = 0; k < map->runs[i].count; k++) {
            model[map->runs[i].first + k] = run_block(&map->runs[i], k);
        }
    }
}

static void check(const uint64_t model[VOL_PAGE_BLOCKS], const struct vol_map *map)
{
    for (unsigned i = 0; i < VOL_PAGE_BLOCKS; i++) {
        const struct vol_run *run = vol_map_find(map, i);
        assert_int_equal(run ? run_block(run, i - run->first) : ABSENT, model[i]);
    }
}

static struct vol_map random_map(struct rng *g, uint64_t seq, bool is_delta)
{
    struct vol_map map = {.batch = seq};
    for (unsigned block = 0; block < VOL_PAGE_BLOCKS;) {
        unsigned count = 1 + (unsigned)rng_below(g, VOL_PAGE_BLOCKS - block);
        if (rng_below(g, 3) > 0) {
            struct vol_run *run = &map.runs[map.count++];
            uint64_t kind = rng_below(g, is_delta ? 5 : 4);
            *run = (struct vol_run){.first = (uint8_t)block, .count = (uint8_t)count};
            run->kind = kind == 4 ? VOL_RUN_NONE : (uint8_t)kind;
            if (kind == VOL_RUN_DATA) {
                run->seq = 1 + rng_below(g, 3) + seq;
                run->offset = (uint32_t)rng_below(g, 3) * 100;
                run->len_bytes = 50;
                run->frame_blocks = 8;
                run->frame_block = (uint8_t)rng_below(g, 9 - count);
            }
        }
        block += count;
    }
    return map;
}

static int64_t refs_of(const struct vol_map *map, uint64_t seq)
{
    int64_t refs = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        refs +=
            map->runs[i].kind == VOL_RUN_DATA && map->runs[i].seq == seq ? map->runs[i].count : 0;
    }
    return refs;
}

static void merges_as_the_model(void **state)
{
    (void)state;
    struct rng g = rng_seeded(3);
    for (int round = 0; round < 20000; round++) {
        struct vol_map map = random_map(&g, 1, false);
        uint64_t model[VOL_PAGE_BLOCKS] = {ABSENT};
        lay(model, &map);
        for (uint64_t batch = 5; batch < 25; batch += 5) {
            struct vol_map delta = random_map(&g, batch, true);
            struct vol_map merged;
            struct vol_map_changes changes = {.count = 0};
            vol_map_merge(&map, &delta, &merged, &changes);
            lay(model, &delta);
            check(model, &merged);
            assert_int_equal(merged.batch, batch);
            for (uint64_t seq = 0; seq < 32; seq++) {
                int64_t change = 0;
                for (uint32_t i = 0; i < changes.count; i++) {
                    change += changes.at[i].seq == seq ? changes.at[i].blocks : 0;
                }
                assert_int_equal(refs_of(&map, seq) + change, refs_of(&merged, seq));
            }
            map = merged;
        }
    }
}

static void every_pair_of_single_runs(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 64; a++) {
        for (unsigned b = 0; b < 64; b++) {
            struct vol_run one = {.first = (uint8_t)(a / 8),
                                  .count = (uint8_t)(a % 8 + 1),
                                  .seq = 1,
                                  .frame_blocks = 8};
            struct vol_run two = {.first = (uint8_t)(b / 8),
                                  .count = (uint8_t)(b % 8 + 1),
                                  .seq = 2,
                                  .frame_blocks = 8};
            if (one.first + one.count > 8 || two.first + two.count > 8) {
                continue;
            }
            struct vol_map old = {.batch = 1, .count = 1, .runs = {one}};
            struct vol_map delta = {.batch = 2, .count = 1, .runs = {two}};
            struct vol_map merged;
            struct vol_map_changes changes = {.count = 0};
            uint64_t model[VOL_PAGE_BLOCKS] = {ABSENT};
            lay(model, &old);
            lay(model, &delta);
            vol_map_merge(&old, &delta, &merged, &changes);
            check(model, &merged);
            assert_true(merged.count <= 3);
        }
    }
}

static void what_is_dropped_has_no_references(void **state)
{
    (void)state;
    struct rng g = rng_seeded(4);
    for (int round = 0; round < 1000; round++) {
        struct vol_map map = random_map(&g, 1, false);
        struct vol_map_changes changes = {.count = 0};
        vol_map_drop(&map, &changes);
        for (uint32_t i = 0; i < changes.count; i++) {
            assert_int_equal(-changes.at[i].blocks, refs_of(&map, changes.at[i].seq));
        }
        vol_map_spoil(&map);
        for (unsigned k = 0; k < VOL_PAGE_BLOCKS; k++) {
            assert_non_null(vol_map_find(&map, k));
        }
    }
}

static void codec_round_trip(void **state)
{
    (void)state;
    struct rng g = rng_seeded(5);
    for (int round = 0; round < 2000; round++) {
        struct vol_map map = random_map(&g, rng_next(&g), false);
        struct bytes_writer w = {0};
        struct vol_map back;
        vol_map_encode(&map, &w);
        assert_int_equal(vol_map_decode(w.data, w.len, &back), 0);
        assert_int_equal(back.batch, map.batch);
        assert_int_equal(back.count, map.count);
        for (uint32_t i = 0; i < map.count; i++) {
            assert_memory_equal(&back.runs[i], &map.runs[i], sizeof map.runs[i]);
        }
        for (size_t len = 0; len < w.len; len++) {
            assert_int_equal(vol_map_decode(w.data, len, &back), ERR_CORRUPT_RECORD);
        }
        /* A flipped bit may give another map, never one that breaks the rules. */
        size_t bit = rng_below(&g, w.len * 8);
        w.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (vol_map_decode(w.data, w.len, &back) == 0) {
            unsigned next = 0;
            for (uint32_t i = 0; i < back.count; i++) {
                assert_true(back.runs[i].first >= next);
                next = (unsigned)back.runs[i].first + back.runs[i].count;
                assert_true(next <= VOL_PAGE_BLOCKS);
            }
        }
        bytes_writer_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_as_the_model),
        cmocka_unit_test(every_pair_of_single_runs),
        cmocka_unit_test(what_is_dropped_has_no_references),
        cmocka_unit_test(codec_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
