/* SPDX-License-Identifier: Apache-2.0 */
/* Access rules: matching, the record's bytes, and what the registry keeps of them. */
#include "dev/access.h"
#include "dev/fake_vol.h"
#include "dev/record.h"
#include <stdio.h>

#define IQN "iqn.2024-01.test:t"

static struct vol *volume;
static struct dev_registry *reg;

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        const char *name;
        bool matches;
    } rows[] = {
        {"iqn.a", "iqn.a", true},
        {"iqn.a", "iqn.ab", false},
        {"iqn.a*", "iqn.ab", true},
        {"*", "", true},
        {"*", "x", true},
        {"?", "", false},
        {"iqn.?", "iqn.a", true},
        {"*.a", "iqn.b.a", true},
        {"*a*b*c", "xaybzbc", true},
        {"*a*b*c", "xaybzb", false},
        {"a**", "a", true},
        {"", "a", false},
        {"*aab", "aaaaaaaab", true},
        {"a?c*", "abcdef", true},
        {"[ab]", "a", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(dev_pattern_match(rows[i].pattern, rows[i].name), rows[i].matches);
    }
    /* Many stars do not take for ever. */
    char name[224], pattern[224];
    memset(name, 'a', 223);
    name[223] = 0;
    for (int i = 0; i < 222; i += 2) {
        memcpy(pattern + i, "a*", 2);
    }
    memcpy(pattern + 222, "b", 2);
    assert_false(dev_pattern_match(pattern, name));
    char why[160], checked[DEV_PATTERN_MAX + 1];
    assert_int_equal(dev_pattern_check("IQN.2024-01.Com:*", checked, why, sizeof why), 0);
    assert_string_equal(checked, "iqn.2024-01.com:*");
    assert_int_equal(dev_pattern_check("", checked, why, sizeof why), -EINVAL);
    assert_int_equal(dev_pattern_check("a b", checked, why, sizeof why), -EINVAL);
}

static void test_networks(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *shown; /* NULL: refused */
    } rows[] = {
        {"10.0.0.0/8", "10.0.0.0/8"},
        {"192.0.2.7", "192.0.2.7/32"},
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"fd00::/8", "fd00::/8"},
        {"::1", "::1/128"},
        {"::/0", "::/0"},
        {"10.0.0.1/8", NULL},
        {"10.0.0.0/33", NULL},
        {"10.0.0.0/", NULL},
        {"10.0.0.0/-1", NULL},
        {"10.0.0.0/8x", NULL},
        {"fd00::/129", NULL},
        {"10.0.0", NULL},
        {"host", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dev_cidr c;
        char text[DEV_CIDR_TEXT_SIZE];
        int r = dev_cidr_parse(rows[i].text, &c);
        assert_int_equal(r, rows[i].shown ? 0 : -EINVAL);
        if (r == 0) {
            dev_cidr_format(&c, text);
            assert_string_equal(text, rows[i].shown);
        }
    }
    uint8_t address[16];
    assert_int_equal(dev_address_parse("192.0.2.1:3260", address), 0);
    assert_int_equal(dev_address_parse("[fe80::1%eth0]:3260", address), 0);
    assert_int_equal(dev_address_parse("::1", address), 0);
    assert_int_equal(dev_address_parse("unix:/x", address), -EINVAL);
    assert_int_equal(dev_address_parse("", address), -EINVAL);
}

static void test_acl(void **state)
{
    (void)state;
    struct dev_access *a = dev_access_new();
    assert_true(dev_access_allows(NULL, "iqn.x", "192.0.2.1:1"));
    assert_true(dev_access_allows(a, "iqn.x", "192.0.2.1:1"));
    struct dev_acl any = {.initiator = "iqn.any*", .any_address = true};
    struct dev_acl near = {.initiator = "*"};
    assert_int_equal(dev_cidr_parse("10.1.0.0/20", &near.from), 0);
    assert_int_equal(dev_acl_add(a, &any), 0);
    assert_int_equal(dev_acl_add(a, &any), -EEXIST);
    assert_int_equal(dev_acl_add(a, &near), 0);
    assert_true(dev_access_allows(a, "iqn.any7", "192.0.2.1:1"));
    assert_false(dev_access_allows(a, "iqn.other", "192.0.2.1:1"));
    assert_true(dev_access_allows(a, "iqn.other", "10.1.15.255:1"));
    assert_true(dev_access_allows(a, "iqn.other", "[::ffff:10.1.1.1]:1"));
    assert_false(dev_access_allows(a, "iqn.other", "10.1.16.0:1"));
    assert_false(dev_access_allows(a, "iqn.other", "not an address"));
    assert_int_equal(dev_acl_remove(a, &any), 0);
    assert_int_equal(dev_acl_remove(a, &any), -ENOENT);
    assert_false(dev_access_allows(a, "iqn.any7", "192.0.2.1:1"));
    /* All of IPv6 is none of IPv4, and the other way round. */
    assert_int_equal(dev_cidr_parse("::/0", &near.from), 0);
    assert_int_equal(dev_acl_add(a, &near), 0);
    assert_true(dev_access_allows(a, "iqn.other", "[2001:db8::1]:1"));
    assert_false(dev_access_allows(a, "iqn.other", "192.0.2.1:1"));
    assert_int_equal(dev_acl_remove(a, &near), 0);
    assert_int_equal(dev_cidr_parse("0.0.0.0/0", &near.from), 0);
    assert_int_equal(dev_acl_add(a, &near), 0);
    assert_true(dev_access_allows(a, "iqn.other", "192.0.2.1:1"));
    assert_false(dev_access_allows(a, "iqn.other", "[2001:db8::1]:1"));
    dev_access_unref(a);
}

static void test_maps(void **state)
{
    (void)state;
    struct dev_access *a = dev_access_new();
    struct dev_map m = {.initiator = "iqn.b", .lun = 3, .device = 7};
    assert_int_equal(dev_map_add(a, &m), 0);
    assert_int_equal(dev_map_add(a, &m), -EEXIST);
    m.lun = 4;
    assert_int_equal(dev_map_add(a, &m), -EEXIST); /* the device again */
    m.device = 8;
    m.lun = 0;
    assert_int_equal(dev_map_add(a, &m), 0);
    (void)snprintf(m.initiator, sizeof m.initiator, "iqn.a");
    assert_int_equal(dev_map_add(a, &m), 0);
    assert_string_equal(a->maps[0].initiator, "iqn.a");
    assert_int_equal(a->maps[1].lun, 0);
    assert_int_equal(dev_map_remove(a, "iqn.b", 1), -ENOENT);
    assert_int_equal(dev_map_remove(a, "iqn.b", 0), 0);
    assert_int_equal(a->map_count, 2);
    dev_access_unref(a);
}

static void add_account(struct dev_access *a, const char *user, const char *secret)
{
    struct dev_account account = {.initiator = "*",
                                  .secret = crypt_secret_create(secret, strlen(secret))};
    (void)snprintf(account.user, sizeof account.user, "%s", user);
    assert_int_equal(dev_account_set(a, &account), 0);
    crypt_secret_free(account.secret);
}

static struct dev_access *sample(void)
{
    struct dev_access *a = dev_access_new();
    struct dev_acl acl = {.initiator = "iqn.c*"};
    struct dev_map map = {.initiator = "*", .lun = 1, .device = 16383, .read_only = true};
    add_account(a, "alice", "alice's secret");
    add_account(a, "bob", "the secret of bob");
    struct crypt_secret *own = crypt_secret_create("the target's own", 16);
    assert_int_equal(dev_own_set(a, "target", own), 0);
    crypt_secret_free(own);
    assert_int_equal(dev_cidr_parse("fd00::/8", &acl.from), 0);
    assert_int_equal(dev_acl_add(a, &acl), 0);
    assert_int_equal(dev_map_add(a, &map), 0);
    map.lun = 2;
    map.device = 3;
    map.read_only = false;
    assert_int_equal(dev_map_add(a, &map), 0);
    a->minimum = 7;
    return a;
}

static void check_sample(const struct dev_access *a)
{
    assert_int_equal(a->minimum, 7);
    assert_int_equal(a->account_count, 2);
    const struct dev_account *alice = dev_access_account(a, false, "alice", "iqn.whoever");
    assert_non_null(alice);
    assert_int_equal(alice->secret->len, 14);
    assert_memory_equal(alice->secret->bytes, "alice's secret", 14);
    assert_string_equal(a->own.user, "target");
    assert_memory_equal(a->own.secret->bytes, "the target's own", 16);
    assert_int_equal(a->acl_count, 1);
    assert_int_equal(a->acls[0].from.prefix, 8);
    assert_int_equal(a->map_count, 2);
    assert_true(a->maps[0].read_only && a->maps[0].device == 16383);
    assert_true(!a->maps[1].read_only && a->maps[1].lun == 2);
}

static void test_record(void **state)
{
    (void)state;
    struct dev_access *a = sample();
    struct dev_access *copy = dev_access_copy(a);
    check_sample(copy);
    assert_false(dev_access_reflects(a));
    add_account(copy, "eve", "the target's own");
    assert_true(dev_access_reflects(copy));
    dev_access_unref(copy);
    struct bytes_writer w = {0};
    assert_int_equal(dev_access_encode(a, &w), 0);
    dev_access_unref(a);
    struct dev_access *back;
    assert_int_equal(dev_access_decode(w.data, w.len, &back), 0);
    check_sample(back);
    dev_access_unref(back);
    /* Cut off anywhere it is another record or none, and never read beyond its end. */
    for (size_t len = 0; len < w.len; len++) {
        uint8_t *cut = malloc(len ? len : 1);
        memcpy(cut, w.data, len);
        int r = dev_access_decode(cut, len, &back);
        assert_true(r == 0 || r == ERR_CORRUPT_RECORD);
        if (r == 0) {
            dev_access_unref(back);
        }
        free(cut);
    }
    assert_int_equal(w.data[0], 1);
    w.data[0] = 3;
    assert_int_equal(dev_access_decode(w.data, w.len, &back), -ENOTSUP);
    bytes_writer_free(&w);
}

/* Principals have no secret, are found as such only, and make the record one that a program which
 * knows of none refuses. */
static void test_principals(void **state)
{
    (void)state;
    struct dev_access *a = sample();
    struct dev_account carol = {.user = "carol@REALM", .initiator = "iqn.a*", .kerberos = true};
    assert_false(dev_access_has(a, true));
    assert_int_equal(dev_account_set(a, &carol), 0);
    assert_true(dev_access_has(a, true) && dev_access_has(a, false));
    assert_false(dev_access_reflects(a));
    struct bytes_writer w = {0};
    struct dev_access *back;
    assert_int_equal(dev_access_encode(a, &w), 0);
    assert_int_equal(w.data[0], 2);
    assert_int_equal(dev_access_decode(w.data, w.len, &back), 0);
    assert_int_equal(back->account_count, 3);
    assert_non_null(dev_access_account(back, true, "carol@REALM", "iqn.abc"));
    assert_null(dev_access_account(back, true, "carol@REALM", "iqn.b"));
    assert_null(dev_access_account(back, false, "carol@REALM", "iqn.abc"));
    assert_null(dev_access_account(back, true, "alice", "iqn.abc"));
    bytes_writer_free(&w);
    dev_access_unref(back);
    /* A name is one account: of the other kind it takes the place of the old one. */
    add_account(a, "carol@REALM", "a secret of CHAP");
    assert_int_equal(a->account_count, 3);
    assert_false(dev_access_has(a, true));
    assert_int_equal(dev_account_set(a, &carol), 0);
    assert_true(dev_access_has(a, true));
    dev_access_unref(a);
}

static int set_sample(struct dev_access *draft, void *arg)
{
    (void)arg;
    struct dev_access *from = sample();
    struct dev_access empty = *draft;
    *draft = *from;
    *from = empty;
    dev_access_unref(from);
    return 0;
}

static int set_nothing(struct dev_access *draft, void *arg)
{
    (void)arg;
    struct dev_access *fresh = dev_access_new();
    struct dev_access old = *draft;
    *draft = *fresh;
    *fresh = old;
    dev_access_unref(fresh);
    return 0;
}

static int refuse(struct dev_access *draft, void *arg)
{
    (void)arg;
    draft->minimum = 8;
    return -EINVAL;
}

static int borrow(struct dev_access *draft, void *arg)
{
    add_account(draft, "carol", arg);
    return 0;
}

static void open_it(void)
{
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
}

static struct dev_access *rules_of(const char *iqn)
{
    struct dev_access *a;
    assert_int_equal(dev_access_get(reg, iqn, &a), 0);
    return a;
}

static void stored_body(void *arg)
{
    (void)arg;
    char own[] = "the target's own";
    struct dev_target_info info;
    struct dev_access *a;
    open_it();
    assert_int_equal(dev_access_get(reg, IQN, &a), -ENOENT);
    assert_int_equal(dev_access_change(reg, IQN, set_sample, NULL), -ENOENT);
    assert_int_equal(dev_target_create(reg, IQN, &info), 0);
    assert_null(rules_of(IQN));
    uint64_t generation = dev_target_generation(reg, IQN);
    assert_int_equal(dev_access_change(reg, IQN, set_sample, NULL), 0);
    assert_true(dev_target_generation(reg, IQN) > generation);
    assert_int_equal(dev_access_change(reg, "", set_sample, NULL), 0);
    /* What one scope proves itself with lets nobody in at another. */
    assert_int_equal(dev_access_change(reg, "", borrow, own), -ELOOP);
    assert_int_equal(dev_access_change(reg, IQN, borrow, own), -ELOOP);
    a = rules_of("");
    check_sample(a);
    dev_access_unref(a);
    a = rules_of(IQN);
    assert_int_equal(dev_access_change(reg, IQN, refuse, NULL), -EINVAL);
    fake_commit_result = -EIO;
    assert_int_equal(dev_access_change(reg, IQN, set_nothing, NULL), -EIO);
    fake_commit_result = 0;
    check_sample(a);
    dev_access_unref(a);
    dev_registry_close(reg);
    open_it();
    a = rules_of(IQN);
    check_sample(a);
    /* Whoever holds rules keeps them as they were. */
    assert_int_equal(dev_access_change(reg, IQN, set_nothing, NULL), 0);
    check_sample(a);
    dev_access_unref(a);
    assert_null(rules_of(IQN));
    assert_int_equal(dev_target_find(reg, IQN, &info), 0);
    assert_false(info.ruled);
    a = rules_of("");
    check_sample(a);
    dev_access_unref(a);
    /* A target that is made anew has none of the old one's. */
    assert_int_equal(dev_access_change(reg, IQN, set_sample, NULL), 0);
    assert_int_equal(dev_target_delete(reg, IQN, false), 0);
    assert_int_equal(dev_target_create(reg, IQN, &info), 0);
    dev_registry_close(reg);
    open_it();
    assert_null(rules_of(IQN));
    dev_registry_close(reg);
}

/* What was there is damaged: the target is shut, not open. */
static void damaged_body(void *arg)
{
    (void)arg;
    struct dev_target_info info;
    static const uint8_t key[] = "\x48" IQN;
    open_it();
    assert_int_equal(dev_target_create(reg, IQN, &info), 0);
    assert_int_equal(dev_access_change(reg, IQN, set_sample, NULL), 0);
    dev_registry_close(reg);
    struct fake_record *r = fake_find(volume, key, sizeof key - 1);
    ASSERT(r);
    r->value[2] = 99;
    open_it();
    struct dev_access *a = rules_of(IQN);
    assert_false(dev_access_allows(a, "iqn.c", "[fd00::1]:1"));
    dev_access_unref(a);
    dev_registry_close(reg);
}

/* In an encrypted volume the record has nothing in clear, and is good for its own target only. */
static void sealed_body(void *arg)
{
    (void)arg;
    struct dev_target_info info;
    static const uint8_t key[] = "\x48" IQN;
    open_it();
    assert_int_equal(dev_target_create(reg, IQN, &info), 0);
    assert_int_equal(dev_access_change(reg, IQN, set_sample, NULL), 0);
    assert_int_equal(dev_access_change(reg, "", set_sample, NULL), 0);
    struct fake_record *own = fake_find(volume, key, sizeof key - 1);
    struct fake_record *other = fake_find(volume, key, 1);
    ASSERT(own && other);
    assert_int_equal(own->value[0], 3);
    assert_null(memmem(own->value, own->value_len, "secret", 6));
    assert_null(memmem(own->value, own->value_len, "alice", 5));
    assert_int_equal(own->value_len, other->value_len);
    static uint8_t good[sizeof own->value];
    memcpy(good, own->value, own->value_len);
    for (unsigned n = 0; n < 4; n++) {
        memcpy(own->value, n == 3 ? other->value : good, own->value_len);
        own->value[n == 0 ? own->value_len - 1 : n == 1 ? 40 : 1] ^= n < 2 ? 1 : 0;
        dev_registry_close(reg);
        open_it();
        struct dev_access *a = rules_of(IQN);
        assert_int_equal(dev_access_allows(a, "iqn.c", "[fd00::1]:1"), n == 2);
        dev_access_unref(a);
    }
    dev_registry_close(reg);
}

static void run(void (*body)(void *arg))
{
    volume = fake_vol_new();
    fake_flush_result = 0;
    fake_commit_result = 0;
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, body, NULL), 0);
    fake_vol_free(volume);
}

static void with_keys(void (*body)(void *arg))
{
    static const uint8_t volume_key[CRYPT_KEY_BYTES] = {7};
    struct crypt_keys *keys;
    assert_int_equal(crypt_prepare(NULL), 0);
    assert_int_equal(crypt_keys_create(volume_key, CRYPT_CHACHA20_POLY1305, &keys), 0);
    fake_keys = keys;
    run(body);
    fake_keys = NULL;
    crypt_keys_unref(keys);
}

static void test_sealed(void **state)
{
    (void)state;
    with_keys(sealed_body);
    with_keys(stored_body);
}

static void test_stored(void **state)
{
    (void)state;
    run(stored_body);
}

static void test_damaged(void **state)
{
    (void)state;
    run(damaged_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_networks),
        cmocka_unit_test(test_acl),      cmocka_unit_test(test_maps),
        cmocka_unit_test(test_record),   cmocka_unit_test(test_principals),
        cmocka_unit_test(test_stored),   cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
