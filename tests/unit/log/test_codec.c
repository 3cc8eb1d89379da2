/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs of frames: what shrinks, what is left alone and what that costs, names of settings. */
#include "base/rng.h"
#include "log/codec.h"
#include "unit.h"
#include <stdio.h>
#include <string.h>

static uint8_t bytes[LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES];
static uint8_t out[sizeof bytes];
static const uint8_t *blocks[LOG_FRAME_BLOCKS_MAX];

static void point_at_blocks(void)
{
    for (unsigned i = 0; i < LOG_FRAME_BLOCKS_MAX; i++) {
        blocks[i] = bytes + (size_t)i * LOG_BLOCK_BYTES;
    }
}

static void fill_random(uint64_t seed)
{
    struct rng g = rng_seeded(seed);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)rng_next(&g);
    }
}

static void fill_text(void)
{
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t) "pack my box with five dozen liquor jugs. "[(i + i / 900) % 41];
    }
}

/* Six bits in each byte and no repeats: for an entropy coder only. */
static void fill_base64(uint64_t seed)
{
    struct rng g = rng_seeded(seed);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(32 + rng_below(&g, 64));
    }
}

static int pack(struct log_compression c, struct codec_effort *e, unsigned count)
{
    const uint8_t *packed = NULL;
    int n = codec_pack(c, e, blocks, count, &packed);
    assert_true(n >= 0);
    uint32_t len = count * LOG_BLOCK_BYTES;
    if (n > 0) {
        assert_true((uint32_t)n <= len - len / 8);
        memset(out, 0xee, sizeof out);
        assert_int_equal(codec_unpack(c.codec, packed, (uint32_t)n, out, len), 0);
        for (unsigned i = 0; i < count; i++) {
            assert_memory_equal(out + (size_t)i * LOG_BLOCK_BYTES, blocks[i], LOG_BLOCK_BYTES);
        }
    }
    return n;
}

static void every_level_round_trips(void **state)
{
    (void)state;
    point_at_blocks();
    fill_text();
    for (unsigned level = 0; level <= LOG_ZSTD_LEVEL_MAX; level++) {
        struct log_compression c = {level ? LOG_CODEC_ZSTD : LOG_CODEC_LZ4, (uint8_t)level};
        struct codec_effort e = {0};
        for (unsigned count = 1; count <= LOG_FRAME_BLOCKS_MAX; count++) {
            assert_true(pack(c, &e, count) > 0);
        }
        const uint8_t *first = blocks[0]; /* not neighbours any more */
        blocks[0] = blocks[5];
        blocks[5] = first;
        assert_true(pack(c, &e, LOG_FRAME_BLOCKS_MAX) > 0);
        point_at_blocks();
    }
}

static void each_codec_takes_what_it_can(void **state)
{
    (void)state;
    const struct log_compression lz4 = {LOG_CODEC_LZ4, 0};
    const struct log_compression zstd = {LOG_CODEC_ZSTD, 3};
    struct codec_effort e = {0};
    point_at_blocks();
    fill_base64(1);
    assert_int_equal(pack(lz4, &e, 8), 0);
    assert_true(pack(zstd, &e, 8) > 0);
    fill_random(2);
    assert_int_equal(pack(lz4, &e, 8), 0);
    assert_int_equal(pack(zstd, &e, 8), 0);
    /* A random block eight times over: even bytes, and shrinks to an eighth all the same. */
    for (unsigned i = 1; i < 8; i++) {
        memcpy(bytes + (size_t)i * LOG_BLOCK_BYTES, bytes, LOG_BLOCK_BYTES);
    }
    assert_in_range(pack(lz4, &e, 8), 1, 6000);
    assert_in_range(pack(zstd, &e, 8), 1, 6000);
}

static void hopeless_data_spoil_nothing_else(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct log_compression c = {i ? LOG_CODEC_ZSTD : LOG_CODEC_LZ4, i ? 1 : 0};
        struct codec_effort e = {0};
        point_at_blocks();
        fill_random(3);
        for (unsigned k = 0; k < 500; k++) {
            assert_int_equal(pack(c, &e, 8), 0);
        }
        /* Tried ever more rarely, */
        assert_in_range(e.of[c.codec][CODEC_EVEN].failed_in_a_row, 8, 30);
        /* and text between them always. */
        for (unsigned k = 0; k < 100; k++) {
            fill_random(4 + k);
            assert_int_equal(pack(c, &e, 8), 0);
            fill_text();
            assert_true(pack(c, &e, 8) > 0);
        }
    }
}

static void damaged_bytes_are_refused(void **state)
{
    (void)state;
    const struct log_compression zstd = {LOG_CODEC_ZSTD, 5};
    struct codec_effort e = {0};
    point_at_blocks();
    fill_text();
    const uint8_t *packed = NULL;
    int n = codec_pack(zstd, &e, blocks, 8, &packed);
    assert_true(n > 0);
    static uint8_t copy[sizeof bytes];
    memcpy(copy, packed, (size_t)n);
    for (int len = 0; len < n; len++) {
        assert_int_equal(codec_unpack(LOG_CODEC_ZSTD, copy, (uint32_t)len, out, sizeof out),
                         -EBADMSG);
    }
    assert_int_equal(codec_unpack(LOG_CODEC_ZSTD, copy, (uint32_t)n, out, sizeof out - 1),
                     -EBADMSG);
    assert_int_equal(codec_unpack(LOG_CODEC_NONE, copy, 5, out, 6), -EBADMSG);
    assert_int_equal(codec_unpack(LOG_CODECS, copy, (uint32_t)n, out, sizeof out), -ENOTSUP);
}

static void settings_have_names(void **state)
{
    (void)state;
    char text[LOG_COMPRESSION_TEXT];
    struct log_compression c;
    assert_int_equal(log_compression_parse("none", &c), 0);
    assert_int_equal(c.codec, LOG_CODEC_NONE);
    assert_int_equal(log_compression_parse("lz4", &c), 0);
    assert_int_equal(c.codec, LOG_CODEC_LZ4);
    for (unsigned level = LOG_ZSTD_LEVEL_MIN; level <= LOG_ZSTD_LEVEL_MAX; level++) {
        char name[32];
        (void)snprintf(name, sizeof name, "zstd-%u", level);
        assert_int_equal(log_compression_parse(name, &c), 0);
        assert_int_equal(c.codec, LOG_CODEC_ZSTD);
        assert_int_equal(c.level, level);
        log_compression_text(c, text);
        assert_string_equal(text, name);
    }
    static const char *const wrong[] = {"",        "zstd",    "zstd-",   "zstd-0", "zstd-20",
                                        "zstd-03", "zstd-3 ", "zstd--1", "LZ4",    "zstd-3x"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(log_compression_parse(wrong[i], &c), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_round_trips),
        cmocka_unit_test(each_codec_takes_what_it_can),
        cmocka_unit_test(hopeless_data_spoil_nothing_else),
        cmocka_unit_test(damaged_bytes_are_refused),
        cmocka_unit_test(settings_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
