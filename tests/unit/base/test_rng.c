/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "base/time.h"
#include "base/uuid.h"
#include "unit.h"
#include <errno.h>

static void a_seed_gives_one_stream(void **state)
{
    (void)state;
    struct rng a = rng_seeded(5);
    struct rng b = rng_seeded(5);
    struct rng c = rng_seeded(6);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = rng_next(&a);
        assert_int_equal(x, rng_next(&b));
        same += x == rng_next(&c);
    }
    assert_int_equal(same, 0);
}

static void below_is_even_and_within(void **state)
{
    (void)state;
    struct rng g = rng_seeded(1);
    unsigned int hits[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t x = rng_below(&g, 7);
        assert_in_range(x, 0, 6);
        hits[x]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(hits[i], 9500, 10500);
    }
    assert_int_equal(rng_below(&g, 1), 0);
    uint64_t high = 0;
    for (int i = 0; i < 100; i++) {
        high |= rng_below(&g, UINT64_MAX);
    }
    assert_true(high > UINT64_MAX / 2);
}

static void secure_bytes_differ(void **state)
{
    (void)state;
    uint8_t a[300] = {0};
    uint8_t b[300] = {0};
    rng_secure(a, sizeof a);
    rng_secure(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    rng_secure(a, 0);
}

static void uuids_are_version_4(void **state)
{
    (void)state;
    struct uuid u = uuid_random();
    struct uuid v = uuid_random();
    assert_false(uuid_equal(&u, &v));
    char text[UUID_TEXT_SIZE];
    uuid_format(&u, text);
    assert_int_equal(strlen(text), 36);
    assert_int_equal(text[14], '4');
    assert_non_null(strchr("89ab", text[19]));
    assert_int_equal(uuid_parse(text, &v), 0);
    assert_true(uuid_equal(&u, &v));
}

static void uuid_text_is_checked(void **state)
{
    (void)state;
    struct uuid u;
    assert_int_equal(uuid_parse("00112233-4455-6677-8899-AABBccddeeff", &u), 0);
    assert_memory_equal(u.bytes, "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
                        16);
    static const char *const wrong[] = {
        "",
        "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeeff0",
        "00112233-4455-6677-8899-aabbccddeefg",
        "001122334-455-6677-8899-aabbccddeeff",
        "00112233445566778899aabbccddeeff0000",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(uuid_parse(wrong[i], &u), -EINVAL);
    }
    assert_int_equal(u.bytes[15], 0xff);
}

static void clocks_run(void **state)
{
    (void)state;
    uint64_t before = time_monotonic_ns();
    assert_true(time_monotonic_ns() >= before);
    assert_true(time_wall_ns() > 1700000000 * NS_PER_S);
}

/* Last: there is no way back. */
static void the_simulator_fixes_the_secure_stream(void **state)
{
    (void)state;
    uint8_t a[32];
    uint8_t b[32];
    rng_secure_simulate(9);
    rng_secure(a, sizeof a);
    rng_secure(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    rng_secure_simulate(9);
    rng_secure(b, sizeof b);
    assert_memory_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_one_stream),
        cmocka_unit_test(below_is_even_and_within),
        cmocka_unit_test(secure_bytes_differ),
        cmocka_unit_test(uuids_are_version_4),
        cmocka_unit_test(uuid_text_is_checked),
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(the_simulator_fixes_the_secure_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
