/* SPDX-License-Identifier: Apache-2.0 */
/* Sanitizing next to deletions and changes of size: nobody waits for one who waits for him. */
#include "dev/dev.h"
#include "dev/fake_vol.h"

static struct vol *volume;
static struct dev_registry *reg;
static struct rt_event inside;
static struct rt_event go;
static uint64_t inodes[2];
static bool deleted;

static struct dev *make(const char *name)
{
    struct dev *d;
    struct dev_info info;
    struct dev_create_options opt = {.kind = DEV_NBD, .name = name, .size_bytes = 1 << 20};
    assert_int_equal(dev_create(reg, &opt, &info), 0);
    assert_int_equal(dev_find_nbd(reg, name, &d), 0);
    return d;
}

/* Pages of all, of nobody, and of the device itself, which a copy may have made known. */
static int scrub(const struct vol_scrub *opt)
{
    rt_event_set(&inside);
    assert_int_equal(rt_event_wait(&go, RT_FOREVER), 0);
    assert_int_equal(opt->rewrite(opt->arg, 999, 0, 1), 0);
    assert_int_equal(opt->rewrite(opt->arg, inodes[0], 0, 1), 0);
    assert_int_equal(fake_rewritten, 0);
    assert_int_equal(opt->rewrite(opt->arg, inodes[1], 0, 1), 0);
    assert_int_equal(fake_rewritten, inodes[1]);
    return opt->stop(opt->arg) ? -ECANCELED : 0;
}

static void deleter(void *arg)
{
    assert_int_equal(dev_delete(reg, arg, false), 0);
    deleted = true;
}

static void body(void *arg)
{
    (void)arg;
    rt_event_init(&inside);
    rt_event_init(&go);
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    inodes[0] = volume->last_inode + 1;
    struct dev *a = make("a");
    inodes[1] = volume->last_inode + 1;
    struct dev *b = make("b");
    fake_scrub = scrub;
    assert_int_equal(dev_sanitize_start(reg, a, &(struct dev_sanitize_options){0}), 0);
    assert_int_equal(rt_event_wait(&inside, RT_FOREVER), 0);
    assert_int_equal(dev_resize(reg, a, 512 << 10, true), ERR_IN_USE);
    assert_int_equal(dev_resize(reg, a, 2 << 20, false), 0);
    struct rt_group *g;
    assert_int_equal(rt_group_create(&g), 0);
    assert_int_equal(rt_group_spawn_now(g, "deleter", deleter, a), 0);
    assert_false(deleted);
    rt_event_set(&go);
    rt_group_wait(g);
    assert_true(deleted);
    rt_group_destroy(g);
    dev_unref(a);
    dev_unref(b);
    dev_registry_close(reg);
    fake_scrub = NULL;
    rt_event_destroy(&inside);
    rt_event_destroy(&go);
}

static void test_deleted_meanwhile(void **state)
{
    (void)state;
    volume = fake_vol_new();
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, body, NULL), 0);
    fake_vol_free(volume);
}

/* Overwriting: what has been written when the volume's flush is called. */
#define SIZE (3u << 20)
#define PATTERN "abcde"

static int nothing(const struct vol_scrub *opt)
{
    opt->progress(opt->arg, 1, 1);
    return 0;
}

static int fails(const struct vol_scrub *opt)
{
    (void)opt;
    return -EIO;
}

static struct dev *make_sized(uint64_t size)
{
    struct dev *d;
    struct dev_info info;
    struct dev_create_options opt = {.kind = DEV_NBD, .name = "o", .size_bytes = size};
    assert_int_equal(dev_create(reg, &opt, &info), 0);
    inodes[0] = volume->last_inode;
    assert_int_equal(dev_find_nbd(reg, "o", &d), 0);
    return d;
}

static void check_pattern(const uint8_t *pattern, unsigned len, uint8_t flip)
{
    const struct vol_file *f = fake_file(volume, inodes[0]);
    for (unsigned i = 0; i < SIZE; i++) {
        assert_int_equal(f->data[i], pattern[i % 512 % len] ^ flip);
    }
}

static int overwrite(struct dev *d, uint8_t passes, bool invert, uint16_t len)
{
    int r = dev_sanitize_start(reg, d,
                               &(struct dev_sanitize_options){.passes = passes,
                                                              .invert = invert,
                                                              .pattern = (const uint8_t *)PATTERN,
                                                              .pattern_bytes = len});
    return r < 0 ? r : dev_sanitize_wait(d);
}

static void overwrite_body(void *arg)
{
    (void)arg;
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    struct dev *d = make_sized(SIZE);
    fake_scrub = nothing;
    uint32_t progress;
    assert_int_equal(overwrite(d, 32, false, 5), -EINVAL);
    assert_int_equal(overwrite(d, 1, false, 513), -EINVAL);
    assert_int_equal(overwrite(d, 1, false, 5), 0);
    check_pattern((const uint8_t *)PATTERN, 5, 0);
    assert_int_equal(dev_sanitize_state(d, &progress), DEV_SANITIZED_NOT);
    assert_true(progress > 65500 && progress < 65536);
    unsigned flushes = fake_flushes;
    assert_int_equal(overwrite(d, 2, true, 1), 0); /* inverted first */
    check_pattern((const uint8_t *)PATTERN, 1, 0);
    assert_true(fake_flushes >= flushes + 4);
    /* It may not be written: that fails, and stays so. Nothing of the record is left. */
    fake_write_result = -ENOSPC;
    assert_int_equal(overwrite(d, 1, false, 3), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZE_FAILED);
    assert_int_equal(dev_sanitize_exit(reg, d), -EPERM);
    fake_write_result = 0;
    struct dev_sanitize_options ause = {.ause = true};
    assert_int_equal(dev_sanitize_start(reg, d, &ause), -EPERM);
    fake_scrub = fails;
    assert_int_equal(overwrite(d, 1, false, 3), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZE_FAILED);
    fake_scrub = nothing;
    assert_int_equal(overwrite(d, 1, false, 3), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZED_NOT);
    dev_unref(d);
    dev_registry_close(reg);
    fake_scrub = NULL;
}

static void test_overwritten(void **state)
{
    (void)state;
    volume = fake_vol_new();
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, overwrite_body, NULL), 0);
    list_for_each(&volume->records, struct fake_record, link, r) {
        assert_int_not_equal(r->key[0], 0x44);
    }
    fake_vol_free(volume);
}

/* Cut short in the first of two passes, an opening later goes on there: nothing is removed again.
 */
static struct rt_event write_gate;

static int never(const struct vol_scrub *opt)
{
    (void)opt;
    fail_msg("what was removed is removed again");
    return 0;
}

static int pass_recorded(void)
{
    list_for_each(&volume->records, struct fake_record, link, r) {
        if (r->key[0] == 0x44) {
            return r->value[3];
        }
    }
    return -1;
}

/* As a record of this device cannot be: a block has 512 bytes. */
static void lengthen_pattern(void)
{
    list_for_each(&volume->records, struct fake_record, link, r) {
        if (r->key[0] == 0x44) {
            memset(r->value + 14, 'x', 600);
            r->value[12] = 600 & 0xff;
            r->value[13] = 600 >> 8;
            r->value_len = 14 + 600;
        }
    }
}

static void start_pass(void)
{
    struct dev *d;
    rt_event_init(&write_gate);
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    d = make_sized(SIZE);
    fake_scrub = nothing;
    fake_write_gate = &write_gate;
    struct dev_sanitize_options opt = {
        .passes = 2, .invert = true, .pattern = (const uint8_t *)PATTERN, .pattern_bytes = 5};
    assert_int_equal(dev_sanitize_start(reg, d, &opt), 0);
    while (pass_recorded() != 1) {
        assert_int_equal(rt_sleep_ms(1), 0);
    }
    dev_unref(d);
    dev_registry_close(reg);
    fake_write_gate = NULL;
    fake_scrub = never;
}

static void resume_body(void *arg)
{
    (void)arg;
    struct dev *d;
    start_pass();
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    assert_int_equal(dev_find_nbd(reg, "o", &d), 0);
    assert_int_equal(dev_sanitize_wait(d), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZED_NOT);
    check_pattern((const uint8_t *)PATTERN, 5, 0);
    dev_unref(d);
    dev_registry_close(reg);
    fake_scrub = NULL;
    rt_event_destroy(&write_gate);
}

static void test_overwriting_goes_on(void **state)
{
    (void)state;
    volume = fake_vol_new();
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, resume_body, NULL), 0);
    fake_vol_free(volume);
}

static void bad_record_body(void *arg)
{
    (void)arg;
    struct dev *d;
    start_pass();
    lengthen_pattern();
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    assert_int_equal(dev_find_nbd(reg, "o", &d), 0);
    assert_int_equal(dev_sanitize_wait(d), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZE_FAILED);
    dev_unref(d);
    dev_registry_close(reg);
    fake_scrub = NULL;
    rt_event_destroy(&write_gate);
}

static void test_bad_record(void **state)
{
    (void)state;
    volume = fake_vol_new();
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, bad_record_body, NULL), 0);
    fake_vol_free(volume);
}

/* A deletion that fails ends the sanitizing that it stopped no more than any other. */
static int waits(const struct vol_scrub *opt)
{
    rt_event_set(&inside);
    while (!opt->stop(opt->arg)) {
        assert_int_equal(rt_sleep_ms(1), 0);
    }
    fake_scrub = nothing;
    return -ECANCELED;
}

static void failed_deletion_body(void *arg)
{
    (void)arg;
    rt_event_init(&inside);
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    struct dev *d = make_sized(SIZE);
    fake_scrub = waits;
    assert_int_equal(dev_sanitize_start(reg, d, &(struct dev_sanitize_options){0}), 0);
    assert_int_equal(rt_event_wait(&inside, RT_FOREVER), 0);
    fake_commit_result = -EIO;
    assert_int_equal(dev_delete(reg, d, true), -EIO);
    fake_commit_result = 0;
    assert_int_equal(dev_sanitize_wait(d), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZED_NOT);
    dev_unref(d);
    dev_registry_close(reg);
    rt_event_destroy(&inside);
    fake_scrub = NULL;
}

/* The end of it could not be recorded: what was removed is not removed again, and again. */
static unsigned scrubs;

static int counts(const struct vol_scrub *opt)
{
    (void)opt;
    fake_commit_result = ++scrubs == 1 ? -ENOMEM : 0;
    rt_event_set(&inside);
    return 0;
}

static void unrecorded_end_body(void *arg)
{
    (void)arg;
    rt_event_init(&inside);
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    struct dev *d = make_sized(SIZE);
    fake_scrub = counts;
    assert_int_equal(dev_sanitize_start(reg, d, &(struct dev_sanitize_options){0}), 0);
    assert_int_equal(rt_event_wait(&inside, RT_FOREVER), 0);
    assert_int_equal(rt_sleep_ms(2500), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZING);
    fake_commit_result = 0;
    assert_int_equal(dev_sanitize_wait(d), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZED_NOT);
    assert_int_equal(scrubs, 1);
    dev_unref(d);
    dev_registry_close(reg);
    rt_event_destroy(&inside);
    fake_scrub = NULL;
}

static void test_unrecorded_end(void **state)
{
    (void)state;
    volume = fake_vol_new();
    struct rt_options sim = {.cores = 1, .sim = true, .sim_seed = 1};
    assert_int_equal(rt_run(&sim, unrecorded_end_body, NULL), 0);
    fake_vol_free(volume);
}

static void test_deletion_fails(void **state)
{
    (void)state;
    volume = fake_vol_new();
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, failed_deletion_body, NULL), 0);
    fake_vol_free(volume);
}

/* Who leaves a failure that another one is about to sanitize away comes too late, though he saw the
 * failure still: what goes on then is not called off. */
static struct rt_event busy;
static int left = 1;

static void keeps_others_out(void *arg)
{
    (void)arg;
    rt_event_set(&inside);
    assert_int_equal(rt_event_wait(&busy, RT_FOREVER), 0);
}

static void other_changes(void *arg)
{
    struct dev_target_info info;
    (void)arg;
    assert_int_equal(dev_target_create(reg, "iqn.2024-01.net.zerofs:t", &info), 0);
}

static void starts_again(void *arg)
{
    struct dev_sanitize_options opt = {
        .ause = true, .passes = 1, .pattern = (const uint8_t *)PATTERN, .pattern_bytes = 5};
    assert_int_equal(dev_sanitize_start(reg, arg, &opt), 0);
}

static void leaves(void *arg)
{
    left = dev_sanitize_exit(reg, arg);
}

static void exit_late_body(void *arg)
{
    (void)arg;
    struct rt_group *g;
    rt_event_init(&inside);
    rt_event_init(&go);
    rt_event_init(&busy);
    assert_int_equal(rt_group_create(&g), 0);
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    struct dev *d = make_sized(SIZE);
    fake_scrub = fails;
    assert_int_equal(dev_sanitize_start(reg, d, &(struct dev_sanitize_options){.ause = true}), 0);
    assert_int_equal(dev_sanitize_wait(d), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZE_FAILED);
    dev_targets_watch(reg, keeps_others_out, NULL);
    assert_int_equal(rt_group_spawn_now(g, "other", other_changes, NULL), 0);
    assert_int_equal(rt_event_wait(&inside, RT_FOREVER), 0);
    fake_scrub = nothing;
    fake_write_gate = &go;
    assert_int_equal(rt_group_spawn_now(g, "start", starts_again, d), 0);
    assert_int_equal(rt_group_spawn_now(g, "exit", leaves, d), 0);
    rt_event_set(&busy);
    rt_group_wait(g);
    assert_int_equal(left, ERR_IN_USE);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZING);
    rt_event_set(&go);
    assert_int_equal(dev_sanitize_wait(d), 0);
    assert_int_equal(dev_sanitize_state(d, NULL), DEV_SANITIZED_NOT);
    check_pattern((const uint8_t *)PATTERN, 5, 0);
    dev_targets_watch(reg, NULL, NULL);
    dev_unref(d);
    dev_registry_close(reg);
    fake_write_gate = NULL;
    fake_scrub = NULL;
    rt_group_destroy(g);
    rt_event_destroy(&inside);
    rt_event_destroy(&go);
    rt_event_destroy(&busy);
}

static void test_exit_comes_late(void **state)
{
    (void)state;
    volume = fake_vol_new();
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, exit_late_body, NULL), 0);
    fake_vol_free(volume);
}

static bool has_record(uint8_t kind)
{
    list_for_each(&volume->records, struct fake_record, link, r) {
        if (r->key[0] == kind) {
            return true;
        }
    }
    return false;
}

/* What a token stands for goes in the end, though not at once. */
static void hold_body(void *arg)
{
    (void)arg;
    struct dev *hold;
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    assert_int_equal(dev_hold_create(reg, 1 << 20, &hold), 0);
    fake_commit_result = -EIO;
    dev_hold_destroy(hold);
    assert_true(has_record(0x4c));
    fake_commit_result = 0;
    while (has_record(0x4c)) {
        assert_int_equal(rt_sleep_ms(10), 0);
    }
    assert_int_equal(dev_hold_create(reg, 1 << 20, &hold), 0);
    fake_commit_result = -EIO;
    dev_hold_destroy(hold);
    fake_commit_result = 0;
    dev_registry_close(reg); /* and this one with the next opening */
    assert_int_equal(dev_registry_open(volume, NULL, &reg), 0);
    assert_false(has_record(0x4c));
    dev_registry_close(reg);
}

static void test_hold_goes_later(void **state)
{
    (void)state;
    volume = fake_vol_new();
    assert_int_equal(rt_run(&(struct rt_options){.cores = 1}, hold_body, NULL), 0);
    fake_vol_free(volume);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deleted_meanwhile),   cmocka_unit_test(test_overwritten),
        cmocka_unit_test(test_overwriting_goes_on), cmocka_unit_test(test_deletion_fails),
        cmocka_unit_test(test_unrecorded_end),      cmocka_unit_test(test_bad_record),
        cmocka_unit_test(test_hold_goes_later),     cmocka_unit_test(test_exit_comes_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
