/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes as people write them. */
#include "ctl/size.h"
#include "unit.h"
#include <errno.h>

#define K (1ull << 10)
#define M (1ull << 20)
#define G (1ull << 30)
#define T (1ull << 40)
#define P (1ull << 50)

static void reads_every_form(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"512", 512},
        {"4096B", 4096},
        {"4096b", 4096},
        {"1K", K},
        {"1k", K},
        {"1KB", K},
        {"1kb", K},
        {"1Kb", K},
        {"1KiB", K},
        {"1kib", K},
        {"1KIB", K},
        {"512M", 512 * M},
        {"512MB", 512 * M},
        {"512MiB", 512 * M},
        {"10G", 10 * G},
        {"10GB", 10 * G},
        {"10GiB", 10 * G},
        {"10 G", 10 * G},
        {"10  gib", 10 * G},
        {"1.5T", T + T / 2},
        {"0.5K", 512},
        {"0.25G", G / 4},
        {"01G", G},
        {"1.0", 1},
        {"1.000K", K},
        {"2P", 2 * P},
        {"1024P", 1024 * P},
        {"8192P", 8192 * P},
        {"9223372036854775808", 1ull << 63},
        {"0.0009765625K", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t bytes = 77;
        char why[160] = "";
        int r = size_parse(good[i].text, &bytes, why, sizeof why);
        if (r != 0 || bytes != good[i].bytes) {
            fail_msg("'%s' gave %d, %llu: %s", good[i].text, r, (unsigned long long)bytes, why);
        }
    }
}

static void refuses_the_rest_and_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *why;
    } bad[] = {
        {"", "is not a size"},
        {"G", "is not a size"},
        {"-1", "is not a size"},
        {"+1", "is not a size"},
        {" 1", "is not a size"},
        {".5G", "is not a size"},
        {"1.", "is not a size"},
        {"1.G", "is not a size"},
        {"ten", "is not a size"},
        {"0x10", "has an unknown suffix"},
        {"1e3", "has an unknown suffix"},
        {"1X", "has an unknown suffix"},
        {"1E", "has an unknown suffix"},
        {"1Gi", "has an unknown suffix"},
        {"1GiBs", "has an unknown suffix"},
        {"1KK", "has an unknown suffix"},
        {"1iB", "has an unknown suffix"},
        {"1 G ", "has an unknown suffix"},
        {"1,5G", "has an unknown suffix"},
        {"1.5.5G", "has an unknown suffix"},
        {"0.5", "is not a whole number of bytes"},
        {"1.0001K", "is not a whole number of bytes"},
        {"0.1G", "is not a whole number of bytes"},
        {"8193P", "is too large"},
        {"9223372036854775809", "is too large"},
        {"99999999999999999999999999", "is too large"},
        {"18446744073709551616", "is too large"},
        {"1.0000000000000000000G", "has too many digits"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t bytes = 77;
        char why[160] = "";
        int r = size_parse(bad[i].text, &bytes, why, sizeof why);
        if (r != -EINVAL || bytes != 77 || !strstr(why, bad[i].why)) {
            fail_msg("'%s' gave %d, %llu: %s", bad[i].text, r, (unsigned long long)bytes, why);
        }
        assert_null(strchr(why, '\n'));
    }
}

static void cuts_a_long_text_in_its_message(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    uint64_t bytes;
    char why[64];
    assert_int_equal(size_parse(text, &bytes, why, sizeof why), -EINVAL);
    assert_int_equal(strlen(why), sizeof why - 1);
}

static void writes(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
        const char *grouped;
    } table[] = {
        {0, "0 B", "0"},
        {512, "512 B", "512"},
        {1023, "1023 B", "1,023"},
        {1024, "1.00 KB", "1,024"},
        {1536, "1.50 KB", "1,536"},
        {10 * G, "10.00 GB", "10,737,418,240"},
        {T + T / 2, "1.50 TB", "1,649,267,441,664"},
        {1024 * P, "1.00 EB", "1,152,921,504,606,846,976"},
        {UINT64_MAX, "16.00 EB", "18,446,744,073,709,551,615"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[SIZE_TEXT_SIZE];
        size_format(table[i].bytes, text);
        assert_string_equal(text, table[i].text);
        size_format_grouped(table[i].bytes, text);
        assert_string_equal(text, table[i].grouped);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_form),
        cmocka_unit_test(refuses_the_rest_and_says_why),
        cmocka_unit_test(cuts_a_long_text_in_its_message),
        cmocka_unit_test(writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
