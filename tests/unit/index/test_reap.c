/* SPDX-License-Identifier: Apache-2.0 */
/* Deletion by I5 and I7, and that an idle index asks for nothing. */
#include "index/manifest.h"
#include "place.h"

/* I5 and I7: what is deleted is no first manifest of an epoch, and nothing that the newest manifest
 * names. */
static void check_removal(struct tamper *t, const char *name)
{
    struct world *w = t->arg;
    struct rt_buf *buf;
    size_t len;
    struct manifest m;
    uint64_t number;
    uint64_t epoch;
    uint64_t counter;
    struct obj_names names = {0};
    if (manifest_name_parse(name, &number) == 0) {
        assert_int_equal(obj_get_all(t->store.next, OBJ_READ, name, 1 << 20, &buf, &len), 0);
        assert_int_equal(
            manifest_decode(&(struct index_home){w->opt.volume, w->opt.keys}, buf->data, len, &m),
            0);
        rt_buf_unref(buf);
        assert_false(m.first_of_epoch); /* I5 */
        manifest_free(&m);
        return;
    }
    assert_int_equal(sst_name_parse(name, &epoch, &counter), 0);
    assert_int_equal(obj_list(t->store.next, OBJ_READ, "manifest/", "", 1, &names), 0);
    assert_int_equal(obj_get_all(t->store.next, OBJ_READ, names.names.at[0], 1 << 20, &buf, &len),
                     0);
    obj_names_free(&names);
    assert_int_equal(
        manifest_decode(&(struct index_home){w->opt.volume, w->opt.keys}, buf->data, len, &m), 0);
    rt_buf_unref(buf);
    for (size_t i = 0; i < m.ssts.len; i++) {
        assert_false(m.ssts.at[i].meta.epoch == epoch && m.ssts.at[i].meta.counter == counter);
    }
    manifest_free(&m);
}

static int hold_view(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len) WAITS
{
    (void)arg;
    (void)key;
    (void)key_len;
    (void)value;
    (void)value_len;
    return rt_sleep_ms(40);
}

static void slow_scan(void *arg)
{
    struct world *w = arg;
    assert_int_equal(index_scan(w->ix, &(struct index_range){NULL, 0, NULL, 0}, hold_view, NULL),
                     0);
}

static void deletion_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    struct world *w = &p->w;
    struct index_counts counts;
    p->t->removing = check_removal;
    p->t->arg = w;
    for (unsigned round = 0; round < 5; round++) {
        struct rt_group *g;
        assert_int_equal(rt_group_create(&g), 0);
        write_many(w, 60);
        assert_int_equal(index_flush(w->ix), 0);
        assert_int_equal(rt_group_spawn_now(g, "scan", slow_scan, w), 0);
        for (unsigned i = 0; i < 8; i++) {
            write_many(w, 15);
            assert_int_equal(index_flush(w->ix), 0);
        }
        uint64_t deleted = p->t->by_kind[OBJ_DELETE];
        (void)rt_sleep_ms(900); /* the grace is not over for the newest ones */
        assert_true(tamper_count(p->t, "manifest/") > round + 3);
        rt_group_wait(g);
        rt_group_destroy(g);
        (void)rt_sleep_ms(3000);
        assert_true(p->t->by_kind[OBJ_DELETE] > deleted);
        index_counts(w->ix, &counts);
        /* All that is left: the live SSTs, the firsts of epochs, and the newest manifest. */
        assert_int_equal(tamper_count(p->t, "sst/"), counts.sst_count);
        assert_int_equal(tamper_count(p->t, "manifest/"), 1 + round + 1 + 1);
        world_check_all(w);
        /* Left behind by a crash; the next opener finds it. */
        for (unsigned i = 0; i < 6; i++) {
            write_many(w, 15);
            assert_int_equal(index_flush(w->ix), 0);
        }
        assert_int_equal(index_close(w->ix, false, 0), 0);
        assert_int_equal(world_open(w), 0);
    }
    place_close(p, true);
}

static void deletes_what_nobody_needs(void **state)
{
    (void)state;
    run(deletion_main, 1);
    run(deletion_main, 2);
}

/* I7: a reader that is in the middle of SSTs keeps them, for longer than the grace. */
static void slow_reader_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    struct world *w = &p->w;
    struct rt_group *g;
    struct index_counts counts;
    assert_int_equal(index_close(w->ix, true, 0), 0);
    w->opt.delete_after_ms = 100;
    w->opt.cache_bytes = 0;
    assert_int_equal(world_open(w), 0);
    write_many(w, 100);
    assert_int_equal(index_flush(w->ix), 0);
    (void)rt_sleep_ms(3000);
    p->t->get_delay_ms = 300;
    assert_int_equal(rt_group_create(&g), 0);
    assert_int_equal(rt_group_spawn_now(g, "scan", slow_scan, w), 0);
    p->t->get_delay_ms = 0; /* the scan stands in its first read */
    for (unsigned i = 0; i < 4; i++) {
        write_many(w, 100);
        assert_int_equal(index_flush(w->ix), 0);
        p->t->get_delay_ms = i == 3 ? 300 : 0;
    }
    rt_group_wait(g);
    rt_group_destroy(g);
    p->t->get_delay_ms = 0;
    (void)rt_sleep_ms(5000);
    index_counts(w->ix, &counts);
    assert_true(counts.compactions > 0);
    assert_int_equal(tamper_count(p->t, "sst/"), counts.sst_count);
    place_close(p, true);
}

static void what_is_read_is_not_deleted(void **state)
{
    (void)state;
    run(slow_reader_main, 1);
}

/* The sweeper of a fresh writer sees an SST of its own flush before the manifest that names it. */
static void sweep_race_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    struct world *w = &p->w;
    p->t->removing = check_removal;
    p->t->arg = w;
    w->opt.memtable_bytes = 8 << 20; /* so that all is replayed */
    assert_int_equal(index_close(w->ix, true, 0), 0);
    assert_int_equal(world_open(w), 0);
    write_many(w, 40);
    assert_int_equal(index_close(w->ix, false, 0), 0);
    w->opt.memtable_bytes = 64 << 10;
    p->t->put_delay_ms = 50;
    p->t->list_delay_ms = 75;
    assert_int_equal(world_open(w), 0);
    assert_int_equal(index_flush(w->ix), 0);
    (void)rt_sleep_ms(10000);
    world_check_all(w);
    place_close(p, true);
}

static void a_sweep_spares_the_new(void **state)
{
    (void)state;
    run(sweep_race_main, 1);
}

static void idle_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    struct world *w = &p->w;
    for (unsigned i = 0; i < 8; i++) {
        write_many(w, 15);
        assert_int_equal(index_flush(w->ix), 0);
    }
    (void)rt_sleep_ms(10000);
    uint64_t before = p->t->requests;
    (void)rt_sleep_ms(24 * 3600 * 1000ull);
    assert_int_equal(p->t->requests, before);
    world_check_all(w);
    place_close(p, true);
}

static void idle_costs_nothing(void **state)
{
    (void)state;
    run(idle_main, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deletes_what_nobody_needs),
        cmocka_unit_test(what_is_read_is_not_deleted),
        cmocka_unit_test(a_sweep_spares_the_new),
        cmocka_unit_test(idle_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
