/* SPDX-License-Identifier: Apache-2.0 */
/* Where memory is lacking for a while, it is waited for, and nothing is lost meanwhile. */
#include "vol/vol_priv.h"
#include "volume.h"

#define MIB (1u << 20)

static bool lacking;
static unsigned asked;

int __wrap_vol_batch_create(struct vol_batch **ret_batch);
int __real_vol_batch_create(struct vol_batch **ret_batch);

/* Who asks again and again lets nobody else do anything. */
int __wrap_vol_batch_create(struct vol_batch **ret_batch)
{
    if (!lacking) {
        return __real_vol_batch_create(ret_batch);
    }
    assert_true(++asked < 10000);
    return -ENOMEM;
}

static void relieve(void *arg)
{
    (void)arg;
    assert_int_equal(rt_sleep_ms(3000), 0);
    lacking = false;
}

static void a_flush_waits_for_memory(struct rig *rig)
{
    struct rt_group *g;
    rig_create(rig, MIB);
    assert_int_equal(rt_group_create(&g), 0);
    rig_write(rig, 0, 4096, 1);
    lacking = true;
    asked = 0;
    assert_int_equal(rt_group_spawn(g, "relieve", relieve, NULL), 0);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_false(lacking);
    rt_group_wait(g);
    rt_group_destroy(g);
    rig_crash(rig);
    rig_check_all(rig);
}

static void test_flush(void **state)
{
    (void)state;
    rig_run(a_flush_waits_for_memory);
}

/* That segments are gone is recorded later when there is no memory for it now. */
static void what_is_gone_is_recorded(struct rig *rig)
{
    rig_create(rig, MIB);
    for (unsigned i = 0; i < 5; i++) {
        rig_write(rig, 0, 4096, i);
        assert_int_equal(vol_flush(rig->v), 0);
    }
    assert_int_equal(rt_sleep_ms(1000), 0);
    assert_int_equal(index_flush(rig->v->ix), 0);
    assert_int_equal(rt_sleep_ms(1000), 0);
    uint64_t gone = atomic_load(&rig->v->segs.deleted);
    struct bytes_writer none = {.failed = true};
    assert_true(gone > 0);
    vol_gone_records(rig->v, &none);
    assert_int_equal(atomic_load(&rig->v->segs.deleted), gone);
    rig_write(rig, 4096, 4096, 9);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(rt_sleep_ms(1000), 0);
    assert_int_equal(atomic_load(&rig->v->segs.deleted), 0);
    assert_true(rig->v->segs.at.len < 5);
}

static void test_gone(void **state)
{
    (void)state;
    struct vol_options opt = {.memory_bytes = 64 * MIB, .delete_after_ms = 1};
    rig_run_with(what_is_gone_is_recorded, &opt, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flush), cmocka_unit_test(test_gone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
