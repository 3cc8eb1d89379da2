/* SPDX-License-Identifier: Apache-2.0 */
/* Portal groups and access states: matching, the records' bytes, and what the registry keeps. */
#include "base/err.h"
#include "dev/fake_vol.h"
#include "dev/paths.h"
#include "dev/record.h"
#include <stdio.h>

#define IQN "iqn.2024-01.test:t"
#define OTHER "iqn.2024-01.test:u"

static struct vol *volume;
static struct dev_registry *reg;

static void group_of(struct dev_group *ret, const char *name, uint16_t tag, const char *portal)
{
    *ret = (struct dev_group){.tag = tag, .portal_count = 1};
    (void)snprintf(ret->name, sizeof ret->name, "%s", name);
    assert_int_equal(dev_portal_parse(portal, &ret->portals[0]), 0);
}

static int put_group(struct dev_groups *s, const char *name, uint16_t tag, const char *portal)
{
    struct dev_group group;
    group_of(&group, name, tag, portal);
    return dev_groups_put(s, &group);
}

static void test_portals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
    } rows[] = {
        {"192.0.2.1:3260", 0},
        {"[2001:db8::1]:3260", 0},
        {"0.0.0.0:1", 0},
        {"[::]:65535", 0},
        {"192.0.2.1", -EINVAL},
        {"192.0.2.1:0", -EINVAL},
        {"192.0.2.1:65536", -EINVAL},
        {"192.0.2:1", -EINVAL},
        {"2001:db8::1:3260", -EINVAL},
        {"[2001:db8::1]", -EINVAL},
        {"host:3260", -EINVAL},
        {"192.0.2.1:32x", -EINVAL},
        {"192.0.2.1:+1", -EINVAL},
        {"memory", -EINVAL},
        {"", -EINVAL},
        {":1", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dev_portal p;
        char text[DEV_PORTAL_TEXT_SIZE];
        int r = dev_portal_parse(rows[i].text, &p);
        assert_int_equal(r, rows[i].result);
        if (r == 0) {
            dev_portal_format(&p, text);
            assert_string_equal(text, rows[i].text);
        }
    }
}

static void test_tags(void **state)
{
    (void)state;
    struct dev_groups *s = dev_groups_copy(NULL);
    assert_int_equal(dev_groups_tag(NULL, "192.0.2.1:3260"), 1);
    assert_int_equal(put_group(s, "a", 9, "192.0.2.1:3260"), 0);
    assert_int_equal(put_group(s, "any", 2, "0.0.0.0:3260"), 0);
    assert_int_equal(put_group(s, "six", 300, "[::]:3260"), 0);
    assert_int_equal(s->groups.at[0].tag, 2);
    /* Itself before what stands for it; each family for itself; else the default group. */
    assert_int_equal(dev_groups_tag(s, "192.0.2.1:3260"), 9);
    assert_int_equal(dev_groups_tag(s, "192.0.2.2:3260"), 2);
    assert_int_equal(dev_groups_tag(s, "192.0.2.1:3261"), 1);
    assert_int_equal(dev_groups_tag(s, "[fe80::1]:3260"), 300);
    assert_int_equal(dev_groups_tag(s, "memory"), 1);
    /* Names, tags and portals belong to one. */
    assert_int_equal(put_group(s, "a", 3, "192.0.2.7:3260"), -EEXIST);
    assert_int_equal(put_group(s, "b", 9, "192.0.2.7:3260"), -EEXIST);
    assert_int_equal(put_group(s, "b", 3, "192.0.2.1:3260"), -EEXIST);
    assert_int_equal(dev_groups_free_tag(s), 3);
    assert_int_equal(put_group(s, "a", 9, "192.0.2.1:7"), 0);
    assert_int_equal(dev_groups_tag(s, "192.0.2.1:7"), 9);
    assert_int_equal(dev_groups_remove(s, "any"), 0);
    assert_int_equal(dev_groups_remove(s, "any"), -ENOENT);
    assert_int_equal(dev_groups_tag(s, "192.0.2.2:3260"), 1);
    dev_groups_unref(s);
}

static const struct uuid lun0 = {.bytes = {1}};
static const struct uuid lun1 = {.bytes = {2}};

static struct dev_path path_of(uint16_t tag, enum dev_path_state state)
{
    return (struct dev_path){.tag = tag, .state = (uint8_t)state, .cause = DEV_PATH_BY_OPERATOR};
}

static void set_lun(struct dev_paths *p, const struct uuid *device, uint16_t tag,
                    enum dev_path_state state)
{
    struct dev_path path = path_of(tag, state);
    assert_int_equal(dev_paths_set_lun_state(p, device, &path), 0);
}

static void test_states(void **state)
{
    (void)state;
    struct dev_paths *p = dev_paths_copy(NULL);
    struct dev_path two = path_of(2, DEV_PATH_STANDBY);
    assert_true(dev_paths_is_empty(p) && dev_paths_is_empty(NULL));
    assert_true(dev_paths_reach(NULL, 7) && dev_paths_reach(p, 7));
    assert_int_equal(dev_paths_state(NULL, &lun0, 2).state, DEV_PATH_OPTIMIZED);
    set_lun(p, &lun1, 2, DEV_PATH_OFFLINE);
    set_lun(p, &lun0, 3, DEV_PATH_UNAVAILABLE);
    set_lun(p, &lun0, 2, DEV_PATH_NON_OPTIMIZED);
    assert_int_equal(dev_paths_state(p, &lun0, 2).state, DEV_PATH_NON_OPTIMIZED);
    assert_int_equal(dev_paths_state(p, &lun1, 2).state, DEV_PATH_OFFLINE);
    assert_int_equal(dev_paths_state(p, &lun1, 3).state, DEV_PATH_OPTIMIZED);
    assert_int_equal(dev_paths_state(p, NULL, 2).state, DEV_PATH_OPTIMIZED);
    /* That of the target takes the place of the units' own. */
    dev_paths_set_state(p, &two);
    assert_int_equal(dev_paths_state(p, &lun0, 2).state, DEV_PATH_STANDBY);
    assert_int_equal(dev_paths_state(p, &lun0, 3).state, DEV_PATH_UNAVAILABLE);
    set_lun(p, &lun0, 2, DEV_PATH_OPTIMIZED);
    assert_int_equal(dev_paths_state(p, &lun0, 2).state, DEV_PATH_OPTIMIZED);
    assert_int_equal(dev_paths_state(p, &lun1, 2).state, DEV_PATH_STANDBY);
    assert_true(dev_paths_drop_tag(p, 2));
    assert_false(dev_paths_drop_tag(p, 2));
    assert_int_equal(dev_paths_state(p, &lun1, 2).state, DEV_PATH_OPTIMIZED);
    assert_int_equal(p->luns.len, 1);
    dev_paths_unref(p);
}

static struct dev_groups *sample_groups(void)
{
    struct dev_groups *s = dev_groups_copy(NULL);
    auto_free struct dev_group *b = malloc(sizeof *b);
    group_of(b, "b", 65534, "[2001:db8::1]:860");
    assert_int_equal(dev_portal_parse("192.0.2.2:3260", &b->portals[b->portal_count++]), 0);
    (void)snprintf(b->advertise[b->advertise_count++], sizeof b->advertise[0], "host.example:3260");
    assert_int_equal(put_group(s, "a", 2, "192.0.2.1:3260"), 0);
    assert_int_equal(dev_groups_put(s, b), 0);
    return s;
}

static struct dev_paths *sample_paths(void)
{
    struct dev_paths *p = dev_paths_copy(NULL);
    struct dev_path path = path_of(2, DEV_PATH_TRANSITIONING);
    p->members[p->member_count++] = 2;
    p->members[p->member_count++] = 1;
    path.preferred = true;
    dev_paths_set_state(p, &path);
    set_lun(p, &lun0, 2, DEV_PATH_STANDBY);
    set_lun(p, &lun0, 1, DEV_PATH_OFFLINE);
    set_lun(p, &lun1, 1, DEV_PATH_UNAVAILABLE);
    return p;
}

static void check_paths(const struct dev_paths *p)
{
    assert_true(dev_paths_reach(p, 1) && dev_paths_reach(p, 2) && !dev_paths_reach(p, 3));
    struct dev_path path = dev_paths_state(p, &lun1, 2);
    assert_true(path.state == DEV_PATH_TRANSITIONING && path.preferred);
    assert_int_equal(path.cause, DEV_PATH_BY_OPERATOR);
    assert_int_equal(dev_paths_state(p, &lun0, 2).state, DEV_PATH_STANDBY);
    assert_int_equal(dev_paths_state(p, &lun0, 1).state, DEV_PATH_OFFLINE);
    assert_int_equal(dev_paths_state(p, &lun1, 1).state, DEV_PATH_UNAVAILABLE);
}

/* Cut off anywhere it is another record or none, and never read beyond its end. */
static void check_cuts(const struct bytes_writer *w, bool groups)
{
    for (size_t len = 0; len < w->len; len++) {
        struct dev_groups *s = NULL;
        struct dev_paths *p = NULL;
        uint8_t *cut = malloc(len ? len : 1);
        memcpy(cut, w->data, len);
        int r = groups ? dev_groups_decode(cut, len, &s) : dev_paths_decode(cut, len, &p);
        assert_true(r == 0 || r == ERR_CORRUPT_RECORD);
        dev_groups_unref(s);
        dev_paths_unref(p);
        free(cut);
    }
}

static void test_records(void **state)
{
    (void)state;
    struct bytes_writer w = {0};
    struct dev_groups *s = sample_groups();
    assert_int_equal(dev_groups_encode(s, &w), 0);
    struct dev_groups *back;
    assert_int_equal(dev_groups_decode(w.data, w.len, &back), 0);
    assert_int_equal(back->groups.len, 2);
    assert_memory_equal(back->groups.at, s->groups.at, 2 * sizeof s->groups.at[0]);
    dev_groups_unref(back);
    dev_groups_unref(s);
    check_cuts(&w, true);
    w.data[0] = 2;
    assert_int_equal(dev_groups_decode(w.data, w.len, &back), -ENOTSUP);
    bytes_writer_free(&w);

    struct dev_paths *p = sample_paths();
    assert_int_equal(dev_paths_encode(p, &w), 0);
    dev_paths_unref(p);
    assert_int_equal(dev_paths_decode(w.data, w.len, &p), 0);
    check_paths(p);
    dev_paths_unref(p);
    check_cuts(&w, false);
    w.data[0] = 2;
    assert_int_equal(dev_paths_decode(w.data, w.len, &p), -ENOTSUP);
    bytes_writer_free(&w);
}

static int set_groups(struct dev_groups *draft, void *arg)
{
    struct dev_groups *from = arg ? arg : sample_groups();
    int r = 0;
    for (size_t i = 0; i < from->groups.len && r == 0; i++) {
        r = dev_groups_put(draft, &from->groups.at[i]);
    }
    dev_groups_unref(from);
    return r;
}

static int remove_group(struct dev_groups *draft, void *arg)
{
    return dev_groups_remove(draft, arg);
}

static int set_paths(struct dev_paths *draft, void *arg)
{
    (void)arg;
    struct dev_paths *from = sample_paths();
    struct dev_paths old = *draft;
    *draft = *from;
    *from = old;
    dev_paths_unref(from);
    return 0;
}

static int state_of_b(struct dev_paths *draft, void *arg)
{
    struct dev_path path = path_of(65534, DEV_PATH_STANDBY);
    dev_paths_set_state(draft, &path);
    return arg ? dev_paths_set_lun_state(draft, arg, &path) : 0;
}

static size_t list_of(const char *iqn, struct dev_path *ret)
{
    return dev_path_list(reg, iqn, &lun0, ret, NULL);
}

static void open_it(void)
{
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
}

static void check_confined(bool confined)
{
    struct dev_target_info info;
    assert_int_equal(dev_target_find(reg, IQN, &info), 0);
    assert_int_equal(info.confined, confined);
}

static void stored_body(void *arg)
{
    (void)arg;
    struct dev_target_info info;
    struct dev_path paths[DEV_TAGS_MAX];
    uint64_t before, after;
    char a[] = "a", b[] = "b";
    open_it();
    assert_int_equal(dev_target_create(reg, IQN, &info), 0);
    assert_int_equal(dev_target_create(reg, OTHER, &info), 0);
    assert_int_equal(list_of("iqn.none", paths), 0);
    assert_int_equal(dev_path_list(reg, IQN, NULL, paths, &before), 1);
    assert_int_equal(paths[0].tag, 1);
    assert_int_equal(dev_groups_change(reg, set_groups, NULL), 0);
    assert_int_equal(dev_path_list(reg, IQN, NULL, paths, &after), 3);
    assert_true(after > before);
    assert_int_equal(paths[2].tag, 65534);
    assert_int_equal(dev_portal_tag(reg, "192.0.2.2:3260"), 65534);
    assert_int_equal(dev_paths_change(reg, "iqn.none", set_paths, NULL), -ENOENT);
    fake_commit_result = -EIO;
    assert_int_equal(dev_paths_change(reg, IQN, set_paths, NULL), -EIO);
    assert_int_equal(dev_groups_change(reg, remove_group, a), -EIO);
    fake_commit_result = 0;
    assert_int_equal(list_of(IQN, paths), 3);
    check_confined(false);
    assert_int_equal(dev_paths_change(reg, IQN, set_paths, NULL), 0);
    check_confined(true);
    assert_int_equal(dev_paths_change(reg, OTHER, state_of_b, NULL), 0);
    for (int i = 0; i < 2; i++) { /* as it is, and as it comes back */
        check_confined(true);
        assert_int_equal(list_of(IQN, paths), 2);
        assert_int_equal(list_of(OTHER, paths), 3);
        assert_int_equal(paths[2].state, DEV_PATH_STANDBY);
        assert_true(dev_target_is_reached(reg, IQN, 2) && dev_target_is_reached(reg, IQN, 1));
        assert_false(dev_target_is_reached(reg, IQN, 65534));
        assert_true(dev_target_is_reached(reg, OTHER, 65534));
        assert_false(dev_target_is_reached(reg, OTHER, 3));
        dev_registry_close(reg);
        open_it();
    }
    /* A group goes with what was said of it, unless a target needs it. */
    assert_int_equal(dev_groups_change(reg, remove_group, a), -EBUSY);
    assert_int_equal(dev_groups_change(reg, remove_group, b), 0);
    assert_int_equal(list_of(OTHER, paths), 2);
    struct dev_paths *p;
    assert_int_equal(dev_paths_get(reg, OTHER, &p), 0);
    assert_null(p);
    assert_int_equal(dev_target_delete(reg, IQN, false), 0);
    assert_int_equal(dev_groups_change(reg, remove_group, a), 0);
    assert_null(dev_groups_get(reg));
    assert_int_equal(dev_target_create(reg, IQN, &info), 0);
    dev_registry_close(reg);
    open_it();
    assert_int_equal(dev_paths_get(reg, IQN, &p), 0);
    assert_null(p);
    check_confined(false);
    dev_registry_close(reg);
}

/* States of LUNs that are gone do not pile up. */
static void swept_body(void *arg)
{
    (void)arg;
    struct dev_info lun;
    struct dev_paths *p;
    struct uuid gone = {.bytes = {9}};
    struct dev_create_options opt = {.kind = DEV_ISCSI, .name = IQN, .size_bytes = 1 << 20};
    open_it();
    assert_int_equal(dev_target_create_with_lun(reg, &opt, &lun), 0);
    assert_int_equal(dev_paths_change(reg, IQN, state_of_b, &gone), 0);
    assert_int_equal(dev_paths_change(reg, IQN, state_of_b, &lun.uuid), 0);
    assert_int_equal(dev_paths_get(reg, IQN, &p), 0);
    assert_int_equal(p->luns.len, 1);
    assert_true(uuid_equal(&p->luns.at[0].device, &lun.uuid));
    dev_paths_unref(p);
    dev_registry_close(reg);
}

/* What was there is damaged: the target is hidden, not everywhere. */
static void damaged_body(void *arg)
{
    (void)arg;
    struct dev_target_info info;
    static const uint8_t key[] = "\x4a" IQN;
    open_it();
    assert_int_equal(dev_target_create(reg, IQN, &info), 0);
    assert_int_equal(dev_groups_change(reg, set_groups, NULL), 0);
    assert_int_equal(dev_paths_change(reg, IQN, set_paths, NULL), 0);
    dev_registry_close(reg);
    struct fake_record *r = fake_find(volume, key, sizeof key - 1);
    ASSERT(r);
    r->value[1] = 99;
    open_it();
    assert_false(dev_target_is_reached(reg, IQN, 1) || dev_target_is_reached(reg, IQN, 2));
    dev_registry_close(reg);
    r = fake_find(volume, "\x49", 1);
    ASSERT(r);
    r->value[1] = 99;
    open_it();
    assert_null(dev_groups_get(reg));
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

static void test_stored(void **state)
{
    (void)state;
    run(stored_body);
    run(swept_body);
}

static void test_damaged(void **state)
{
    (void)state;
    run(damaged_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_portals), cmocka_unit_test(test_tags),
        cmocka_unit_test(test_states),  cmocka_unit_test(test_records),
        cmocka_unit_test(test_stored),  cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
