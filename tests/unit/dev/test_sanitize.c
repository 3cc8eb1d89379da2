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
    assert_int_equal(dev_sanitize_start(reg, a, false), 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_deleted_meanwhile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
