/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "unit.h"

static void one_bit_changes_half_of_all(void **state)
{
    (void)state;
    hash_seed_set(7);
    uint8_t text[40] = {0};
    for (size_t len = 1; len <= sizeof text; len++) {
        unsigned int changed = 0;
        uint64_t before = hash_bytes(text, len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            text[bit / 8] ^= (uint8_t)(1u << bit % 8);
            uint64_t after = hash_bytes(text, len);
            text[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(before, after);
            changed += (unsigned int)__builtin_popcountll(before ^ after);
        }
        double mean = (double)changed / (double)(len * 8);
        assert_true(mean > 24 && mean < 40);
    }
}

static void length_and_seed_count(void **state)
{
    (void)state;
    static const uint8_t zeros[64];
    hash_seed_set(1);
    uint64_t seen[65];
    for (size_t len = 0; len <= 64; len++) {
        seen[len] = hash_bytes(zeros, len);
        for (size_t i = 0; i < len; i++) {
            assert_int_not_equal(seen[i], seen[len]);
        }
    }
    hash_seed_set(2);
    assert_int_not_equal(hash_bytes(zeros, 8), seen[8]);
    hash_seed_set(1);
    assert_int_equal(hash_bytes(zeros, 8), seen[8]);
}

static void words_spread_over_buckets(void **state)
{
    (void)state;
    unsigned int buckets[64] = {0};
    for (uint64_t i = 0; i < 64000; i++) {
        buckets[hash_u64(i * 4096) & 63]++;
        buckets[hash_pair(i, 1) & 63]++;
    }
    for (int i = 0; i < 64; i++) {
        assert_in_range(buckets[i], 1700, 2300);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_bit_changes_half_of_all),
        cmocka_unit_test(length_and_seed_count),
        cmocka_unit_test(words_spread_over_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
