/* SPDX-License-Identifier: Apache-2.0 */
/* The codec: what goes in comes out, and no damaged byte is ever taken for a good one. */
#include "base/crc32c.h"
#include "base/endian.h"
#include "log_test.h"

/* An encoded segment in one piece. */
struct whole {
    uint8_t *bytes;
    size_t len;
};

static const struct log_compression none = {.codec = LOG_CODEC_NONE};
static const struct log_compression lz4 = {.codec = LOG_CODEC_LZ4};

static struct log_compression of_seed(uint64_t seed)
{
    if (seed % 4 == 3) {
        return (struct log_compression){.codec = LOG_CODEC_ZSTD, .level = (uint8_t)(1 + seed % 19)};
    }
    return seed % 4 ? lz4 : none;
}

static struct segment_header header_of(enum segment_kind kind)
{
    struct segment_header h = {
        .kind = kind,
        .volume = test_volume,
        .seq = 0x1234,
        .epoch = 7,
        .open_id = {{9, 9, 9}},
        .stored_through = 0x1230,
        .resume = kind == SEGMENT_FENCE ? 0x1234 + LOG_WINDOW : 0,
    };
    memset(h.salt, 0x5a, sizeof h.salt);
    return h;
}

static struct whole encode(const struct segment_header *h, struct log_compression c,
                           struct test_batch *t, size_t count)
{
    struct codec_effort effort = {0};
    struct log_batch *batches[4];
    assert_true(count <= 4);
    for (size_t i = 0; i < count; i++) {
        batches[i] = &t[i].b;
    }
    struct segment_options opt = {.compression = c, .effort = &effort, .keys = test_keys};
    struct segment_sealed sealed;
    assert_int_equal(segment_seal(h, &opt, batches, count, &sealed), 0);
    struct whole w = {.bytes = malloc(sealed.body.len), .len = sealed.body.len};
    assert_non_null(w.bytes);
    rt_chain_copy_out(&sealed.body, 0, w.bytes, w.len);
    assert_memory_equal(w.bytes, sealed.header, SEGMENT_HEADER_BYTES);
    assert_memory_equal(w.bytes + w.len - SEGMENT_FOOTER_BYTES, sealed.footer,
                        SEGMENT_FOOTER_BYTES);
    segment_sealed_free(&sealed);
    return w;
}

/* Decodes all of a segment; compares it with the batches when there are any. 0 or the first error.
 */
static int decode(const struct whole *w, const struct test_batch *t, size_t count)
{
    const char *why = NULL;
    struct segment_header h;
    struct segment_footer f;
    struct segment_key key;
    int r = segment_header_decode(w->bytes, w->len, &h, &why);
    if (r == 0) {
        r = segment_header_open(&h, w->bytes, test_keys, &key, &why);
    }
    if (r == 0 && w->len < SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES) {
        return -EBADMSG;
    }
    if (r == 0) {
        r = segment_footer_decode(w->bytes + w->len - SEGMENT_FOOTER_BYTES, w->len, &h, &f, &why);
    }
    struct segment_directory d = {0};
    if (r == 0) {
        r = segment_directory_decode(&key, w->bytes, &f, w->bytes + f.directory_at, &d, &why);
    }
    if (r < 0) {
        assert_non_null(why);
        return r;
    }
    assert_int_equal(d.batches.len, count);
    static uint8_t out[LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES];
    for (size_t i = 0; i < count && r == 0; i++) {
        const struct segment_batch *b = &d.batches.at[i];
        uint32_t len;
        auto_free uint8_t *unit = malloc(b->records_len + 1);
        memcpy(unit, w->bytes + b->records_at, b->records_len);
        r = segment_records_decode(&key, b, unit, &why);
        if (r < 0) {
            break;
        }
        const uint8_t *records = segment_records_of(&key, b, unit, &len);
        assert_int_equal(b->number, t[i].b.number);
        assert_int_equal(b->frame_count, t[i].b.frame_count);
        assert_int_equal(len, t[i].b.records_len);
        if (len > 0) {
            assert_memory_equal(records, t[i].records, len);
        }
        for (uint32_t j = 0; j < b->frame_count && r == 0; j++) {
            const struct log_frame *got = &d.frames.at[b->frame_first + j];
            const struct log_frame *want = &t[i].frames[j];
            assert_int_equal(got->layer, want->layer);
            assert_int_equal(got->page, want->page);
            assert_int_equal(got->offset, want->offset);
            assert_int_equal(got->len_bytes, want->len_bytes);
            struct log_location at = {h.seq, got->offset, got->len_bytes};
            r = segment_frame_decode(&key, &at, w->bytes + at.offset, got->count, out, &why);
            if (r == 0) {
                assert_true(frame_holds(want, out));
            }
        }
    }
    segment_directory_free(&d);
    return r;
}

static void round_trips(void **state)
{
    (void)state;
    const struct segment_header h = header_of(SEGMENT_DATA);
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct rng g = rng_seeded(seed);
        size_t count = 1 + rng_below(&g, 4);
        struct test_batch t[4];
        for (size_t i = 0; i < count; i++) {
            t[i] = make_batch(seed * 10 + i, (uint32_t)rng_below(&g, 20),
                              (uint32_t)(rng_below(&g, 2) * rng_below(&g, 5000)),
                              (enum fill)(seed % 3));
        }
        struct whole w = encode(&h, of_seed(seed), t, count);
        assert_int_equal(decode(&w, t, count), 0);
        free(w.bytes);
        for (size_t i = 0; i < count; i++) {
            free_batch(&t[i]);
        }
    }
}

static void fence_round_trips(void **state)
{
    (void)state;
    const struct segment_header h = header_of(SEGMENT_FENCE);
    struct whole w = encode(&h, none, NULL, 0);
    assert_int_equal(w.len, SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES);
    assert_int_equal(decode(&w, NULL, 0), 0);
    const char *why = NULL;
    struct segment_header got;
    assert_int_equal(segment_header_decode(w.bytes, w.len, &got, &why), 0);
    assert_int_equal(got.resume, h.resume);
    assert_int_equal(got.epoch, h.epoch);
    assert_true(uuid_equal(&got.open_id, &h.open_id));
    free(w.bytes);
}

static void text_is_compressed(void **state)
{
    (void)state;
    const struct segment_header h = header_of(SEGMENT_DATA);
    struct test_batch t = make_batch(5, 30, 100, FILL_TEXT);
    uint64_t raw = 0;
    for (uint32_t i = 0; i < t.b.frame_count; i++) {
        raw += t.frames[i].count * (uint64_t)LOG_BLOCK_BYTES;
    }
    struct whole w = encode(&h, lz4, &t, 1);
    assert_true(w.len < raw / 4);
    free(w.bytes);
    w = encode(&h, none, &t, 1);
    assert_true(w.len > raw);
    free(w.bytes);
    free_batch(&t);
}

/* Every bit of every byte, of a data segment with all kinds of units and of a fence. */
static void no_flipped_bit_is_accepted(void **state)
{
    (void)state;
    for (int fence = 0; fence < 2; fence++) {
        const struct segment_header h = header_of(fence ? SEGMENT_FENCE : SEGMENT_DATA);
        struct test_batch t = make_batch(11, 3, 77, FILL_MIXED);
        struct whole w = encode(&h, lz4, &t, fence ? 0 : 1);
        for (size_t i = 0; i < w.len; i++) {
            for (unsigned bit = 0; bit < 8; bit += i % 4 ? 8 : 1) {
                unsigned flip = i % 4 ? 1u << (i / 4 % 8) : 1u << bit;
                w.bytes[i] = (uint8_t)(w.bytes[i] ^ flip);
                if (decode(&w, &t, fence ? 0 : 1) == 0) {
                    fail_msg("bit %u of byte %zu", flip, i);
                }
                w.bytes[i] = (uint8_t)(w.bytes[i] ^ flip);
            }
        }
        free(w.bytes);
        free_batch(&t);
    }
}

static void no_truncation_is_accepted(void **state)
{
    (void)state;
    const struct segment_header h = header_of(SEGMENT_DATA);
    struct test_batch t = make_batch(13, 2, 40, FILL_TEXT);
    struct whole w = encode(&h, lz4, &t, 1);
    for (size_t len = 0; len < w.len; len++) {
        struct whole cut = {.bytes = malloc(len + 1), .len = len};
        memcpy(cut.bytes, w.bytes, len);
        assert_int_not_equal(decode(&cut, &t, 1), 0);
        free(cut.bytes);
    }
    free(w.bytes);
    free_batch(&t);
}

/* A frame read from another place, volume or length than it was written to is not taken, even if
 * its bytes are whole. */
static void place_is_part_of_the_checksum(void **state)
{
    (void)state;
    const struct segment_header h = header_of(SEGMENT_DATA);
    struct test_batch t = make_batch(17, 2, 0, FILL_RANDOM);
    struct whole w = encode(&h, none, &t, 1);
    static uint8_t out[LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES];
    const char *why = NULL;
    const struct log_frame *f = &t.frames[0];
    const struct log_location good = {h.seq, f->offset, f->len_bytes};
    struct segment_key key;
    assert_int_equal(segment_key_init(&h.volume, h.seq, &t.b.salt, test_keys, &key), 0);
    const uint8_t *unit = w.bytes + f->offset;
    assert_int_equal(segment_frame_decode(&key, &good, unit, f->count, out, &why), 0);
    struct log_location other = good;
    other.seq++;
    assert_int_equal(segment_frame_decode(&key, &other, unit, f->count, out, &why), -EBADMSG);
    other = good;
    other.offset++;
    assert_int_equal(segment_frame_decode(&key, &other, unit, f->count, out, &why), -EBADMSG);
    struct segment_key foreign;
    struct uuid volume = h.volume;
    volume.bytes[0] ^= 1;
    assert_int_equal(segment_key_init(&volume, h.seq, &t.b.salt, test_keys, &foreign), 0);
    assert_int_equal(segment_frame_decode(&foreign, &good, unit, f->count, out, &why), -EBADMSG);
    /* The same place of the same number under another salt: a segment that replaces this one. */
    struct log_salt salt = t.b.salt;
    salt.bytes[31] ^= 1;
    assert_int_equal(segment_key_init(&h.volume, h.seq, &salt, test_keys, &foreign), 0);
    assert_int_equal(segment_frame_decode(&foreign, &good, unit, f->count, out, &why),
                     test_keys ? -EBADMSG : 0);
    assert_int_equal(segment_key_init(&h.volume, h.seq + 1, &t.b.salt, test_keys, &foreign), 0);
    other = good;
    other.seq++;
    assert_int_equal(segment_frame_decode(&foreign, &other, unit, f->count, out, &why), -EBADMSG);
    assert_int_equal(segment_frame_decode(&key, &good, unit, f->count + 1u, out, &why), -EBADMSG);
    other = good;
    other.len_bytes = 3;
    assert_int_equal(segment_frame_decode(&key, &other, unit, f->count, out, &why), -EBADMSG);
    free(w.bytes);
    free_batch(&t);
}

static void later_versions_are_refused(void **state)
{
    (void)state;
    const struct segment_header h = header_of(SEGMENT_FENCE);
    const size_t at[] = {SEGMENT_HEADER_AT_VERSION, SEGMENT_HEADER_AT_INCOMPATIBLE,
                         SEGMENT_HEADER_AT_ENCRYPTION};
    for (size_t i = 0; i < 3; i++) {
        uint8_t bytes[SEGMENT_HEADER_BYTES];
        segment_header_encode(&h, bytes);
        bytes[at[i]] = 0x55;
        le32_store(bytes + SEGMENT_HEADER_AT_CRC, crc32c(0, bytes, SEGMENT_HEADER_AT_CRC));
        struct segment_header got;
        const char *why = NULL;
        assert_int_equal(segment_header_decode(bytes, sizeof bytes, &got, &why), -ENOTSUP);
    }
}

/* Writes the checksums of header and footer anew: what anybody can who writes to the store. */
static void put_right(struct whole *w)
{
    uint8_t *f = w->bytes + w->len - SEGMENT_FOOTER_BYTES;
    uint32_t at = le32_load(f + SEGMENT_FOOTER_AT_DIRECTORY);
    uint32_t len = le32_load(f + SEGMENT_FOOTER_AT_DIRECTORY_LEN);
    le32_store(w->bytes + SEGMENT_HEADER_AT_CRC, crc32c(0, w->bytes, SEGMENT_HEADER_AT_CRC));
    if (at <= w->len && len <= w->len - at) {
        assert_int_equal(segment_digest(w->bytes, w->bytes + at, len, f + SEGMENT_FOOTER_AT_DIGEST),
                         0);
    }
    uint32_t crc =
        segment_place_crc(&test_volume, le64_load(w->bytes + SEGMENT_HEADER_AT_SEQ),
                          (uint32_t)(w->len - SEGMENT_FOOTER_BYTES), SEGMENT_FOOTER_BYTES);
    le32_store(f + SEGMENT_FOOTER_AT_CRC, crc32c(crc, f, SEGMENT_FOOTER_AT_CRC));
}

/* Who can write to the store but has no key: any change of header, directory or footer, with all
 * that can be computed put right, of a segment and of a fence. */
static void nothing_is_forged(void **state)
{
    (void)state;
    for (int fence = 0; fence < 2 && test_keys; fence++) {
        const struct segment_header h = header_of(fence ? SEGMENT_FENCE : SEGMENT_DATA);
        struct test_batch t = make_batch(23, 2, 50, FILL_TEXT);
        struct whole w = encode(&h, lz4, &t, fence ? 0 : 1);
        struct whole forged = {.bytes = malloc(w.len), .len = w.len};
        size_t footer = w.len - SEGMENT_FOOTER_BYTES;
        for (size_t i = 0; i < w.len; i++) {
            bool recomputed = (i >= footer + SEGMENT_FOOTER_AT_DIGEST &&
                               i < footer + SEGMENT_FOOTER_AT_DIGEST + SEGMENT_DIGEST_BYTES) ||
                              i >= footer + SEGMENT_FOOTER_AT_RESERVED ||
                              (i >= SEGMENT_HEADER_AT_RESERVED && i < SEGMENT_HEADER_BYTES);
            memcpy(forged.bytes, w.bytes, w.len);
            forged.bytes[i] ^= (uint8_t)(1u << i % 8);
            put_right(&forged);
            int r = decode(&forged, &t, fence ? 0 : 1);
            if (r == 0 && !recomputed) {
                fail_msg("byte %zu", i);
            }
        }
        free(forged.bytes);
        free(w.bytes);
        free_batch(&t);
    }
}

/* A plain volume takes no encrypted segment, and an encrypted one no plain one. */
static void kinds_of_volumes_are_kept_apart(void **state)
{
    (void)state;
    const struct segment_header h = header_of(SEGMENT_DATA);
    struct test_batch t = make_batch(29, 2, 50, FILL_TEXT);
    struct crypt_keys *ours = test_keys;
    struct whole w = encode(&h, lz4, &t, 1);
    struct crypt_keys *other = unit_keys(ours ? CRYPT_NONE : CRYPT_AES_256_GCM);
    test_keys = other;
    assert_int_equal(decode(&w, &t, 1), -EBADMSG);
    crypt_keys_unref(other);
    uint8_t foreign[CRYPT_KEY_BYTES] = {1};
    assert_int_equal(crypt_keys_create(foreign, CRYPT_AES_256_GCM, &other), 0);
    test_keys = other;
    assert_int_equal(decode(&w, &t, 1), -EBADMSG);
    crypt_keys_unref(other);
    test_keys = ours;
    assert_int_equal(decode(&w, &t, 1), 0);
    free(w.bytes);
    free_batch(&t);
}

/* What is uniform but says nothing about a lane, and what looks compressible but is not, must both
 * come back. */
static void effort_backs_off(void **state)
{
    (void)state;
    struct codec_effort effort = {0};
    const struct segment_header h = header_of(SEGMENT_DATA);
    struct test_batch t = make_batch(19, 100, 0, FILL_RANDOM);
    struct rng g = rng_seeded(1);
    for (size_t i = 0; i < (size_t)100 * 8 * LOG_BLOCK_BYTES; i++) {
        t.blocks[i] = (uint8_t)rng_below(&g, 160); /* 7.3 bits a byte: passes the look, fails lz4 */
    }
    struct log_batch *batches[1] = {&t.b};
    struct segment_sealed sealed;
    struct segment_options opt = {.compression = lz4, .effort = &effort, .keys = test_keys};
    assert_int_equal(segment_seal(&h, &opt, batches, 1, &sealed), 0);
    uint32_t failed = effort.of[LOG_CODEC_LZ4][CODEC_SKEWED].failed_in_a_row;
    assert_true(failed >= 8);
    assert_true(failed < 50);
    assert_int_equal(effort.of[LOG_CODEC_ZSTD][CODEC_SKEWED].failed_in_a_row, 0);
    struct whole w = {.bytes = malloc(sealed.body.len), .len = sealed.body.len};
    rt_chain_copy_out(&sealed.body, 0, w.bytes, w.len);
    assert_int_equal(decode(&w, &t, 1), 0);
    segment_sealed_free(&sealed);
    free(w.bytes);
    free_batch(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(fence_round_trips),
        cmocka_unit_test(text_is_compressed),
        cmocka_unit_test(no_flipped_bit_is_accepted),
        cmocka_unit_test(no_truncation_is_accepted),
        cmocka_unit_test(place_is_part_of_the_checksum),
        cmocka_unit_test(later_versions_are_refused),
        cmocka_unit_test(effort_backs_off),
        cmocka_unit_test(nothing_is_forged),
        cmocka_unit_test(kinds_of_volumes_are_kept_apart),
    };
    return run_with_each_cipher(tests, ARRAY_LEN(tests));
}
