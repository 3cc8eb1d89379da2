/* SPDX-License-Identifier: Apache-2.0 */
/* Records, keys, values and the superblock: round trips, cuts, flipped bits, and what is too new.
 */
#include "unit.h"

#include "base/err.h"
#include "base/rng.h"
#include "vol/batch.h"
#include "vol/key.h"
#include "vol/record.h"
#include "vol/superblock.h"

static struct vol_record random_record(struct rng *g, uint8_t *bytes)
{
    struct vol_record rec = {.kind = (enum vol_record_kind)(1 + rng_below(g, 7))};
    rec.layer = 1 + (rng_next(g) >> rng_below(g, 63));
    rec.page = rng_next(g) >> (1 + rng_below(g, 62));
    rec.count = 1 + (rng_next(g) >> (2 + rng_below(g, 61)));
    rec.flags = rng_below(g, 2);
    rec.hole_batch = rng_next(g);
    rec.from = rec.page + rng_below(g, 100);
    rec.upto = rec.from + rng_below(g, 100);
    rec.seq = rng_next(g) >> rng_below(g, 63);
    rec.key = bytes;
    rec.key_len = 1 + (uint32_t)rng_below(g, 40);
    rec.value = bytes;
    rec.value_len = rec.kind == VOL_RECORD_PUT ? (uint32_t)rng_below(g, 300) : 0;
    for (unsigned block = 0; block < VOL_PAGE_BLOCKS; block += 2) {
        struct vol_record_run *run = &rec.runs[rec.run_count++];
        *run =
            (struct vol_record_run){.first = (uint8_t)block, .count = 1 + (uint8_t)rng_below(g, 2)};
        run->kind = (uint8_t)rng_below(g, 4);
        if (rec.kind == VOL_RECORD_COPY && rng_below(g, 2)) {
            run->kind = VOL_RUN_STORED;
            run->seq = rng_next(g) >> rng_below(g, 63);
            run->offset = (uint32_t)rng_next(g);
            run->len_bytes = 1 + (uint32_t)rng_below(g, VOL_PAGE_BYTES);
            run->frame_blocks = (uint8_t)(run->count + rng_below(g, 6));
            run->frame_block = (uint8_t)rng_below(g, 1u + run->frame_blocks - run->count);
        }
        if (run->kind == VOL_RUN_DATA) {
            run->frame = (uint32_t)rng_next(g);
            run->frame_block = (uint8_t)rng_below(g, 6);
        }
    }
    return rec;
}

static void assert_same(const struct vol_record *a, const struct vol_record *b)
{
    assert_int_equal(a->kind, b->kind);
    switch (a->kind) {
    case VOL_RECORD_PAGE:
    case VOL_RECORD_COPY:
        assert_int_equal(a->run_count, b->run_count);
        assert_memory_equal(a->runs, b->runs, a->run_count * sizeof a->runs[0]);
        assert_true(a->layer == b->layer && a->page == b->page);
        break;
    case VOL_RECORD_HOLE:
        assert_true(a->layer == b->layer && a->page == b->page && a->count == b->count);
        assert_true(a->flags == b->flags);
        break;
    case VOL_RECORD_REAP:
        assert_true(a->layer == b->layer && a->page == b->page && a->hole_batch == b->hole_batch);
        assert_true(a->from == b->from && a->upto == b->upto);
        break;
    case VOL_RECORD_GONE:
        assert_true(a->seq == b->seq);
        break;
    case VOL_RECORD_PUT:
    case VOL_RECORD_DELETE:
        assert_int_equal(a->key_len, b->key_len);
        assert_int_equal(a->value_len, b->value_len);
        assert_memory_equal(a->key, b->key, a->key_len);
        if (a->value_len > 0) {
            assert_memory_equal(a->value, b->value, a->value_len);
        }
        break;
    }
}

static void records_round_trip(void **state)
{
    (void)state;
    struct rng g = rng_seeded(1);
    uint8_t bytes[512];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)rng_next(&g);
    }
    for (int round = 0; round < 2000; round++) {
        struct vol_record recs[5];
        struct bytes_writer w = {0};
        for (int i = 0; i < 5; i++) {
            recs[i] = random_record(&g, bytes);
            vol_record_encode(&recs[i], &w);
        }
        struct bytes_reader r = bytes_reader_of(w.data, w.len);
        struct vol_record back;
        for (int i = 0; i < 5; i++) {
            assert_int_equal(vol_record_next(&r, &back), 1);
            assert_same(&recs[i], &back);
        }
        assert_int_equal(vol_record_next(&r, &back), 0);
        /* A cut anywhere gives fewer records or an error, and reads nothing beyond. */
        size_t len = rng_below(&g, w.len);
        uint8_t *cut = malloc(len ? len : 1);
        assert_non_null(cut);
        memcpy(cut, w.data, len);
        r = bytes_reader_of(cut, len);
        int got;
        int count = 0;
        while ((got = vol_record_next(&r, &back)) > 0) {
            count++;
        }
        assert_true(count < 5 &&
                    (got == 0 || got == ERR_CORRUPT_RECORD || got == ERR_FORMAT_TOO_NEW));
        for (size_t i = 0; i < len; i++) {
            cut[rng_below(&g, len)] ^= (uint8_t)(1u << rng_below(&g, 8));
            r = bytes_reader_of(cut, len);
            while (vol_record_next(&r, &back) > 0) {
                assert_true(back.run_count <= VOL_PAGE_BLOCKS);
            }
        }
        free(cut);
        bytes_writer_free(&w);
    }
}

static int next_of(const uint8_t *bytes, size_t len)
{
    struct bytes_reader r = bytes_reader_of(bytes, len);
    struct vol_record rec;
    return vol_record_next(&r, &rec);
}

static void unknown_records_are_too_new(void **state)
{
    (void)state;
    assert_int_equal(next_of((const uint8_t[]){VOL_RECORD_COPY + 1, 0}, 2), ERR_FORMAT_TOO_NEW);
    assert_int_equal(next_of((const uint8_t[]){VOL_RECORD_HOLE, 4, 1, 0, 1, 2}, 6),
                     ERR_FORMAT_TOO_NEW);
    assert_int_equal(next_of((const uint8_t[]){VOL_RECORD_HOLE, 4, 1, 0, 1, 1}, 6), 1);
    assert_int_equal(next_of((const uint8_t[]){VOL_RECORD_HOLE, 4, 0, 0, 1, 1}, 6),
                     ERR_CORRUPT_RECORD);
    assert_int_equal(next_of((const uint8_t[]){VOL_RECORD_GONE, 2, 1, 1}, 4), ERR_CORRUPT_RECORD);
}

static void keys_and_values(void **state)
{
    (void)state;
    uint64_t layer;
    uint64_t page;
    uint64_t parts[3];
    struct vol_key k = vol_key_page(7, 9);
    assert_int_equal(vol_key_page_decode(k.bytes, k.len, &layer, &page), 0);
    assert_true(layer == 7 && page == 9);
    assert_int_equal(vol_key_page_decode(k.bytes, k.len - 1, &layer, &page), ERR_CORRUPT_RECORD);
    assert_int_equal(vol_key_hole_decode(k.bytes, k.len, parts), ERR_CORRUPT_RECORD);
    assert_true(vol_key_compare(vol_key_page(1, 255).bytes, 17, vol_key_page(1, 256).bytes, 17) <
                0);
    struct vol_inode inode = {.size = 1ull << 50, .layer_count = 3, .layers = {9, 8, 300}};
    struct vol_inode back;
    struct bytes_writer w = {0};
    vol_inode_encode(&inode, &w);
    assert_int_equal(vol_inode_decode(w.data, w.len, &back), 0);
    assert_memory_equal(back.layers, inode.layers, sizeof(uint64_t) * 3);
    for (size_t len = 0; len < w.len; len++) {
        assert_int_equal(vol_inode_decode(w.data, len, &back), ERR_CORRUPT_RECORD);
    }
    w.data[0] = VOL_INODE_VERSION + 1;
    assert_int_equal(vol_inode_decode(w.data, w.len, &back), ERR_FORMAT_TOO_NEW);
    bytes_writer_free(&w);
    struct vol_hole_value hv = {.count = 1ull << 45, .done_upto = 77, .flags = 1};
    struct vol_hole_value hv_back;
    vol_hole_encode(&hv, &w);
    assert_int_equal(vol_hole_decode(w.data, w.len, &hv_back), 0);
    assert_memory_equal(&hv, &hv_back, sizeof hv);
    assert_int_equal(vol_hole_decode(w.data, w.len - 1, &hv_back), ERR_CORRUPT_RECORD);
    bytes_writer_free(&w);
    struct vol_segment_value seg = {.live = VOL_LIVE_UNKNOWN};
    for (unsigned i = 0; i < 2; i++) {
        struct vol_segment_value seg_back;
        seg.salt.cipher = i == 0 ? CRYPT_NONE : CRYPT_AES_256_GCM;
        memset(seg.salt.bytes, i == 0 ? 0 : 0x5a, sizeof seg.salt.bytes);
        vol_segment_encode(&seg, &w);
        assert_int_equal(vol_segment_decode(w.data, w.len, &seg_back), 0);
        assert_int_equal(seg_back.live, seg.live);
        assert_int_equal(seg_back.salt.cipher, seg.salt.cipher);
        assert_memory_equal(seg_back.salt.bytes, seg.salt.bytes, sizeof seg.salt.bytes);
        assert_int_equal(vol_segment_decode(w.data, w.len - 1, &seg_back), ERR_CORRUPT_RECORD);
        bytes_writer_free(&w);
    }
}

static void superblock(void **state)
{
    (void)state;
    uint8_t bytes[VOL_SUPERBLOCK_BYTES];
    struct vol_superblock sb = {.uuid = {{1, 2, 3}}};
    struct vol_superblock back;
    vol_superblock_encode(&sb, bytes);
    assert_int_equal(vol_superblock_decode(bytes, sizeof bytes, false, &back), 0);
    assert_true(uuid_equal(&sb.uuid, &back.uuid));
    for (size_t len = 0; len < sizeof bytes; len++) {
        assert_int_equal(vol_superblock_decode(bytes, len, false, &back), ERR_CORRUPT_SUPERBLOCK);
    }
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(vol_superblock_decode(bytes, sizeof bytes, false, &back),
                         ERR_CORRUPT_SUPERBLOCK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static int decode_with(const struct vol_superblock *sb, bool read_only)
{
    uint8_t bytes[VOL_SUPERBLOCK_BYTES];
    struct vol_superblock back;
    vol_superblock_encode(sb, bytes);
    return vol_superblock_decode(bytes, sizeof bytes, read_only, &back);
}

static void features(void **state)
{
    (void)state;
    assert_int_equal(decode_with(&(struct vol_superblock){.compatible = 1}, false), 0);
    assert_int_equal(decode_with(&(struct vol_superblock){.read_only_compatible = 4}, true), 0);
    assert_int_equal(decode_with(&(struct vol_superblock){.read_only_compatible = 4}, false),
                     ERR_FORMAT_TOO_NEW);
    assert_int_equal(decode_with(&(struct vol_superblock){.incompatible = 2}, true),
                     ERR_FORMAT_TOO_NEW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_round_trip), cmocka_unit_test(unknown_records_are_too_new),
        cmocka_unit_test(keys_and_values),    cmocka_unit_test(superblock),
        cmocka_unit_test(features),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
