/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "dev/overwrite.h"
#include "dev/record.h"
#include "unit.h"

static void device_goes_round(void **state)
{
    (void)state;
    struct dev_info in = {.kind = DEV_ISCSI,
                          .name = "iqn.2024-01.net.example:x",
                          .lun = 70000 % 16384,
                          .inode = 0x1122334455667788,
                          .created_ns = 99,
                          .write_cache = true,
                          .logical_block_bytes = 512,
                          .physical_block_bytes = 4096};
    in.uuid.bytes[3] = 7;
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    struct dev_record_bytes b = {key, dev_record_key(&in, key), value,
                                 dev_record_value(&in, value)};
    struct dev_info out;
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_string_equal(out.name, in.name);
    assert_int_equal(out.lun, in.lun);
    assert_int_equal(out.inode, in.inode);
    assert_true(out.write_cache);
    assert_true(uuid_equal(&out.uuid, &in.uuid));
    in.kind = DEV_NBD;
    b.key_len = dev_record_key(&in, key);
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_int_equal(out.kind, DEV_NBD);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct dev_info in = {.kind = DEV_ISCSI,
                          .name = "iqn.2024-01.net.example:x",
                          .logical_block_bytes = 512,
                          .physical_block_bytes = 4096};
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    size_t key_len = dev_record_key(&in, key);
    size_t value_len = dev_record_value(&in, value);
    struct dev_info out;
    assert_int_equal(value_len, 43);
    for (size_t n = 0; n < 42; n++) {
        struct dev_record_bytes b = {key, key_len, value, n};
        assert_int_equal(dev_record_decode(&b, &out), ERR_CORRUPT_RECORD);
    }
    for (size_t n = 0; n < 6; n++) {
        struct dev_record_bytes b = {key, n, value, value_len};
        assert_int_equal(dev_record_decode(&b, &out), ERR_CORRUPT_RECORD);
    }
    struct dev_target_info target = {.iqn = "iqn.2024-01.net.example:x",
                                     .moved_to = "192.0.2.2:3260"};
    key_len = dev_target_key(target.iqn, key);
    value_len = dev_target_value(&target, value);
    for (size_t n = 0; n < value_len; n++) {
        struct dev_record_bytes b = {key, key_len, value, n};
        int r = dev_target_decode(&b, &target); /* 25: the form without an address */
        assert_int_equal(r, n == 25 ? 0 : ERR_CORRUPT_RECORD);
    }
}

static void a_target_says_where_it_has_moved(void **state)
{
    (void)state;
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    struct dev_target_info in = {.iqn = "iqn.2024-01.net.example:x", .moved_for_good = true};
    memset(in.moved_to, 'h', DEV_MOVED_MAX);
    struct dev_record_bytes b = {key, dev_target_key(in.iqn, key), value, 0};
    b.value_len = dev_target_value(&in, value);
    assert_true(b.value_len <= sizeof value);
    struct dev_target_info out;
    assert_int_equal(dev_target_decode(&b, &out), 0);
    assert_true(out.moved_for_good);
    assert_string_equal(out.moved_to, in.moved_to);
    value[25] = 3;
    assert_int_equal(dev_target_decode(&b, &out), ERR_CORRUPT_RECORD);
    value[25] = 1;
    value[26] = 0;
    assert_int_equal(dev_target_decode(&b, &out), ERR_CORRUPT_RECORD);
}

static void later_versions_are_told_apart(void **state)
{
    (void)state;
    struct dev_info in = {
        .kind = DEV_NBD, .name = "a", .logical_block_bytes = 512, .physical_block_bytes = 4096};
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    struct dev_record_bytes b = {key, dev_record_key(&in, key), value,
                                 dev_record_value(&in, value)};
    struct dev_info out;
    assert_int_equal(value[0], 1);
    value[0] = 6;
    assert_int_equal(dev_record_decode(&b, &out), -ENOTSUP);
    value[0] = 0;
    assert_int_equal(dev_record_decode(&b, &out), ERR_CORRUPT_RECORD);
    value[0] = 1;
    b.value_len++; /* an addition that this version does not know */
    assert_int_equal(dev_record_decode(&b, &out), 0);
}

/* Whoever does not know of read-only devices would write to them. */
static void settings_go_round(void **state)
{
    (void)state;
    struct dev_info in = {.kind = DEV_NBD,
                          .name = "a",
                          .read_only = true,
                          .saved_modes = 5,
                          .logical_block_bytes = 4096,
                          .physical_block_bytes = 4096};
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    struct dev_record_bytes b = {key, dev_record_key(&in, key), value,
                                 dev_record_value(&in, value)};
    struct dev_info out;
    assert_int_equal(value[0], 2);
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_true(out.read_only);
    assert_int_equal(out.saved_modes, 5);
    assert_int_equal(out.logical_block_bytes, 4096);
    assert_false(out.removable || out.ejected);
    in.removable = in.ejected = true;
    b.value_len = dev_record_value(&in, value);
    assert_int_equal(value[0], 3);
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_true(out.read_only && out.removable && out.ejected);
    in.sanitize = DEV_SANITIZING;
    in.sanitize_ause = true;
    b.value_len = dev_record_value(&in, value);
    assert_int_equal(value[0], 4);
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_true(out.sanitize == DEV_SANITIZING && out.sanitize_ause);
    in.saved_thresholds[1] = 1ull << 32 | 7;
    b.value_len = dev_record_value(&in, value);
    assert_int_equal(b.value_len, 59);
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_true(out.saved_thresholds[0] == 0 && out.saved_thresholds[1] == (1ull << 32 | 7));
    in.same_to_end = true;
    b.value_len = dev_record_value(&in, value);
    assert_true(value[0] == 5 && b.value_len == 60);
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_true(out.same_to_end && !out.overwrite && out.saved_thresholds[1] == (1ull << 32 | 7));
    in.same_to_end = false;
    in.overwrite = true;
    b.value_len = dev_record_value(&in, value);
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_true(value[0] == 5 && out.overwrite && !out.same_to_end && out.sanitize_ause);
    b.value_len = 59; /* what such a version has is not there */
    assert_int_equal(dev_record_decode(&b, &out), ERR_CORRUPT_RECORD);
    value[0] = 4;
    b.value_len = 58; /* not whole: something else */
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_true(out.saved_modes == 5 && out.saved_thresholds[0] == 0);
    assert_int_equal(out.saved_thresholds[1], 0);
    b.value_len = 42; /* as the first version wrote it */
    value[0] = 1;
    value[1] = 0;
    assert_int_equal(dev_record_decode(&b, &out), 0);
    assert_int_equal(out.saved_modes, 0);
    assert_false(out.read_only);
}

static int decode_overwrite(const uint8_t *value, size_t len)
{
    struct dev_overwrite *o = NULL;
    int r = dev_overwrite_decode(value, len, &o);
    assert_true((r == 0) == (o != NULL));
    free(o);
    return r;
}

/* What is not understood in full is not written to a medium. */
static void an_overwriting_is_as_it_says_or_none(void **state)
{
    (void)state;
    static const uint8_t good[] = {1, 1, 3, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 2, 0, 'a', 'b'};
    struct {
        unsigned at;
        uint8_t to;
    } wrong[] = {{0, 0}, {1, 2}, {1, 0x81}, {2, 0}, {2, 32}, {3, 4}, {12, 0}, {12, 1}, {13, 1}};
    uint8_t value[sizeof good + 1] = {0};
    for (size_t n = 0; n < sizeof good; n++) {
        assert_int_equal(decode_overwrite(good, n), ERR_CORRUPT_RECORD);
    }
    assert_int_equal(decode_overwrite(good, sizeof good), 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        memcpy(value, good, sizeof good);
        value[wrong[i].at] = wrong[i].to;
        assert_int_equal(decode_overwrite(value, sizeof good), ERR_CORRUPT_RECORD);
    }
    memcpy(value, good, sizeof good);
    assert_int_equal(decode_overwrite(value, sizeof value), ERR_CORRUPT_RECORD);
    value[0] = 2;
    assert_int_equal(decode_overwrite(value, sizeof value), -ENOTSUP);
}

static void names(void **state)
{
    (void)state;
    char why[200];
    char name[300];
    memset(name, 'a', sizeof name);
    name[255] = 0;
    assert_int_equal(dev_name_check(name, why, sizeof why), 0);
    name[255] = 'a';
    name[256] = 0;
    assert_int_equal(dev_name_check(name, why, sizeof why), -EINVAL);
    static const char *const bad[] = {"", ".", "..", "a b", "a/b", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        why[0] = 0;
        assert_int_equal(dev_name_check(bad[i], why, sizeof why), -EINVAL);
        assert_int_not_equal(why[0], 0);
    }
    assert_int_equal(dev_name_check("My-disk_0.1", why, sizeof why), 0);
}

static void iscsi_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int want;
    } cases[] = {
        {"iqn.2024.net.zerofs:storage", 1},
        {"iqn.2024-01.net.zerofs:storage", 0},
        {"iqn.2024-12.net.zerofs", 0},
        {"IQN.2024-12.Net.Zerofs:X", 0},
        {"iqn.2024-13.net.zerofs", -EINVAL},
        {"iqn.2024-00.net.zerofs", -EINVAL},
        {"iqn.2024-1.net.zerofs", -EINVAL},
        {"iqn.24-01.net.zerofs", -EINVAL},
        {"iqn.2024-01", -EINVAL},
        {"iqn.2024-01.", -EINVAL},
        {"iqn.2024-01.net..zerofs", -EINVAL},
        {"iqn.2024-01.net.zerofs-:x", -EINVAL},
        {"iqn.2024-01.net.zerofs:a_b", -EINVAL},
        {"iqn.", -EINVAL},
        {"eui.02004567A425678D", 0},
        {"eui.02004567A425678", -EINVAL},
        {"naa.52004567BA64678D", 0},
        {"naa.62004567BA64678D0123456789ABCDEF", 0},
        {"naa.62004567BA64678G", -EINVAL},
        {"disk", -EINVAL},
        {"", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[DEV_IQN_MAX + 1];
        char why[200] = "";
        int r = dev_iqn_check(cases[i].name, out, why, sizeof why);
        assert_int_equal(r, cases[i].want);
        assert_int_equal(r != 0, why[0] != 0);
    }
    char out[DEV_IQN_MAX + 1];
    char why[200];
    assert_int_equal(dev_iqn_check("IQN.2024-12.Net.Zerofs:X", out, why, sizeof why), 0);
    assert_string_equal(out, "iqn.2024-12.net.zerofs:x");
    char longest[300] = "iqn.2024-12.net.zerofs:";
    memset(longest + 23, 'x', sizeof longest - 23);
    longest[223] = 0;
    assert_int_equal(dev_iqn_check(longest, out, why, sizeof why), 0);
    longest[223] = 'x';
    longest[224] = 0;
    assert_int_equal(dev_iqn_check(longest, out, why, sizeof why), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(device_goes_round),
                                       cmocka_unit_test(every_truncation_is_refused),
                                       cmocka_unit_test(a_target_says_where_it_has_moved),
                                       cmocka_unit_test(later_versions_are_told_apart),
                                       cmocka_unit_test(settings_go_round),
                                       cmocka_unit_test(an_overwriting_is_as_it_says_or_none),
                                       cmocka_unit_test(names),
                                       cmocka_unit_test(iscsi_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
