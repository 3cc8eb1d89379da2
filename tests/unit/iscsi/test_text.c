/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "iscsi/text.h"
#include "unit.h"

#define TEXT(s) iscsi_text_of(s, sizeof s) /* with the final NUL */

static void pairs(void **state)
{
    (void)state;
    struct iscsi_text t = TEXT("InitiatorName=a\0X-vendor=\0Key=b=c\0\0");
    struct iscsi_key k;
    assert_int_equal(iscsi_text_next(&t, &k), 1);
    assert_true(iscsi_key_is(&k, "InitiatorName"));
    assert_false(iscsi_key_is(&k, "Initiator"));
    assert_string_equal(k.value, "a");
    assert_int_equal(iscsi_text_next(&t, &k), 1);
    assert_true(iscsi_key_is(&k, "X-vendor"));
    assert_string_equal(k.value, "");
    assert_int_equal(iscsi_text_next(&t, &k), 1);
    assert_string_equal(k.value, "b=c");
    assert_int_equal(iscsi_text_next(&t, &k), 0);
    assert_int_equal(iscsi_text_next(&t, &k), 0);
}

static int first(const void *data, size_t len)
{
    struct iscsi_text t = iscsi_text_of(data, len);
    struct iscsi_key k;
    return iscsi_text_next(&t, &k);
}

static void malformed(void **state)
{
    (void)state;
    assert_int_equal(first("Key=val", 7), ERR_PROTOCOL); /* no NUL */
    assert_int_equal(first("Keyval", 7), ERR_PROTOCOL);
    assert_int_equal(first("=val", 5), ERR_PROTOCOL);
    assert_int_equal(first("1Key=val", 9), ERR_PROTOCOL);
    assert_int_equal(first("Ke y=val", 9), ERR_PROTOCOL);
    char name[80];
    memset(name, 'A', sizeof name);
    memcpy(name + 63, "=v", 3);
    assert_int_equal(first(name, 66), 1);
    memset(name, 'A', sizeof name);
    memcpy(name + 64, "=v", 3);
    assert_int_equal(first(name, 67), ERR_PROTOCOL);
    assert_int_equal(first(NULL, 0), 0);
}

static void too_many(void **state)
{
    (void)state;
    char text[4 * (ISCSI_KEYS_MAX + 1)];
    for (size_t i = 0; i <= ISCSI_KEYS_MAX; i++) {
        memcpy(text + 4 * i, "A=b", 4);
    }
    struct iscsi_text t = iscsi_text_of(text, sizeof text);
    struct iscsi_key k;
    for (size_t i = 0; i < ISCSI_KEYS_MAX; i++) {
        assert_int_equal(iscsi_text_next(&t, &k), 1);
    }
    assert_int_equal(iscsi_text_next(&t, &k), ERR_PROTOCOL);
}

static void numbers(void **state)
{
    (void)state;
    uint64_t n;
    assert_int_equal(iscsi_text_number("65536", &n), 0);
    assert_int_equal(n, 65536);
    assert_int_equal(iscsi_text_number("0x1fF", &n), 0);
    assert_int_equal(n, 0x1ff);
    assert_int_equal(iscsi_text_number("0", &n), 0);
    assert_int_equal(n, 0);
    static const char *const bad[] = {"",   "0x", "12a", "-1", "+1", " 1", "1 ", "9999999999999999",
                                      "0xg"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(iscsi_text_number(bad[i], &n), -EINVAL);
    }
}

static void booleans_and_lists(void **state)
{
    (void)state;
    bool yes;
    assert_int_equal(iscsi_text_boolean("Yes", &yes), 0);
    assert_true(yes);
    assert_int_equal(iscsi_text_boolean("No", &yes), 0);
    assert_false(yes);
    assert_int_equal(iscsi_text_boolean("yes", &yes), -EINVAL);
    static const char *const known[] = {"None", "CRC32C"};
    assert_int_equal(iscsi_text_choose("CRC32C,None", known, 2), 1);
    assert_int_equal(iscsi_text_choose("MD5,None,CRC32C", known, 2), 0);
    assert_int_equal(iscsi_text_choose("MD5", known, 2), -ENOENT);
    assert_int_equal(iscsi_text_choose("", known, 2), -ENOENT);
    assert_int_equal(iscsi_text_choose("CRC32", known, 2), -ENOENT);
}

static void put(void **state)
{
    (void)state;
    struct bytes_writer w = {0};
    iscsi_text_put(&w, "TargetPortalGroupTag", "%u", 1u);
    iscsi_text_put(&w, "A", "%s", "b");
    assert_int_equal(w.len, 27);
    assert_memory_equal(w.data, "TargetPortalGroupTag=1\0A=b\0", 27);
    bytes_writer_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs),   cmocka_unit_test(malformed),          cmocka_unit_test(too_many),
        cmocka_unit_test(numbers), cmocka_unit_test(booleans_and_lists), cmocka_unit_test(put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
