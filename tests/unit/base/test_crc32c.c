/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"
#include "base/crc32c_priv.h"
#include "base/rng.h"
#include "unit.h"

static uint32_t bit_by_bit(uint32_t reg, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        reg ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            reg = reg & 1 ? reg >> 1 ^ 0x82f63b78u : reg >> 1;
        }
    }
    return reg;
}

/* RFC 3720 appendix B.4. */
static void vectors_of_the_standard(void **state)
{
    (void)state;
    uint8_t buf[32] = {0};
    assert_int_equal(crc32c(0, buf, 32), 0x8a9136aa);
    memset(buf, 0xff, 32);
    assert_int_equal(crc32c(0, buf, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++) {
        buf[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(0, buf, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++) {
        buf[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(crc32c(0, buf, 32), 0x113fdb5c);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
}

static void all_ways_agree(void **state)
{
    (void)state;
    static uint8_t buf[16384];
    struct rng g = rng_seeded(1);
    for (size_t i = 0; i < sizeof buf; i++) {
        buf[i] = (uint8_t)rng_next(&g);
    }
    for (size_t len = 0; len < sizeof buf - 16; len += 1 + len / 16) {
        size_t off = rng_below(&g, 16);
        uint32_t reg = (uint32_t)rng_next(&g);
        uint32_t want = bit_by_bit(reg, buf + off, len);
        assert_int_equal(crc32c_by_table(reg, buf + off, len), want);
        if (crc32c_has_instruction()) {
            assert_int_equal(crc32c_by_instruction(reg, buf + off, len), want);
        }
    }
}

/* Every length up to a block, each at a place of its own; and the ends of the memory are not
 * overstepped. */
static void every_length_agrees(void **state)
{
    (void)state;
    struct rng g = rng_seeded(3);
    for (size_t len = 0; len <= CRC32C_BLOCK_BYTES; len++) {
        size_t off = rng_below(&g, 64);
        uint8_t *buf = malloc(off + len + (off + len == 0));
        assert_non_null(buf);
        for (size_t i = 0; i < off + len; i++) {
            buf[i] = (uint8_t)rng_next(&g);
        }
        uint32_t reg = (uint32_t)rng_next(&g);
        uint32_t want = crc32c_by_table(reg, buf + off, len);
        assert_int_equal(~crc32c(~reg, buf + off, len), want);
        if (crc32c_has_folding()) {
            assert_int_equal(crc32c_by_folding(reg, buf + off, len), want);
        }
        free(buf);
    }
}

static void continues_where_it_ended(void **state)
{
    (void)state;
    static uint8_t buf[9000];
    struct rng g = rng_seeded(2);
    for (size_t i = 0; i < sizeof buf; i++) {
        buf[i] = (uint8_t)rng_next(&g);
    }
    uint32_t whole = crc32c(0, buf, sizeof buf);
    for (int i = 0; i < 100; i++) {
        size_t cut = rng_below(&g, sizeof buf + 1);
        assert_int_equal(crc32c(crc32c(0, buf, cut), buf + cut, sizeof buf - cut), whole);
    }
}

static void joined(void **state)
{
    static uint8_t buf[3 * CRC32C_BLOCK_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof buf; i++) {
        buf[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    for (size_t before = 0; before <= 2 * CRC32C_BLOCK_BYTES; before += 331) {
        uint32_t crc = crc32c(0, buf, before);
        uint32_t block = crc32c(0, buf + before, CRC32C_BLOCK_BYTES);
        assert_int_equal(crc32c_join_block(crc, block),
                         crc32c(0, buf, before + CRC32C_BLOCK_BYTES));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joined),
        cmocka_unit_test(vectors_of_the_standard),
        cmocka_unit_test(all_ways_agree),
        cmocka_unit_test(every_length_agrees),
        cmocka_unit_test(continues_where_it_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
