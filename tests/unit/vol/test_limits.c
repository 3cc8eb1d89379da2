/* SPDX-License-Identifier: Apache-2.0 */
/* What must not run out: the length of a segment, the fibers of the runtime. */
#include "volume.h"

#include "base/time.h"

#define MIB (1u << 20)
#define GIB (1ull << 30)

/* All that is dirty may lie in one batch, and so in one segment. */
static void what_is_dirty_fits_a_segment(struct rig *rig)
{
    struct vol_counts c;
    vol_counts(rig->v, &c);
    assert_true(c.dirty_limit_bytes <= GIB - GIB / 4);
    rig_create(rig, 64 * MIB);
    rig_write(rig, 0, MIB, 1);
    assert_int_equal(vol_flush(rig->v), 0);
    vol_counts(rig->v, &c);
    assert_true(c.dirty_limit_bytes <= GIB - GIB / 4);
}

static void run_what_is_dirty_fits_a_segment(void **state)
{
    (void)state;
    struct vol_options opt = {.memory_bytes = 64 * MIB, .dirty_bytes = 16 * GIB};
    rig_run_with(what_is_dirty_fits_a_segment, &opt, true);
}

/*
 * Requests take every fiber there is, and take each that becomes free at once. All of them wait for
 * dirty space, which only an apply gives back, which waits for a memtable to be flushed.
 */
#define CROWD 800u
#define CROWD_WRITES 100u

static struct {
    struct rig *rig;
    unsigned started;
    unsigned done;
    unsigned writes;
} crowd;

static void crowd_fill(void);

static void crowd_member(void *arg)
{
    (void)arg;
    struct rig rig = *crowd.rig;
    rig.rng = rng_seeded(crowd.started);
    for (unsigned i = 0; i < CROWD_WRITES; i++) {
        rig_write(&rig, rng_below(&rig.rng, rig.size / 4096) * 4096, 4096, i);
        crowd.writes++;
        crowd_fill();
    }
    crowd.done++;
}

static void crowd_fill(void)
{
    while (crowd.started < CROWD && rt_spawn("crowd", crowd_member, NULL) == 0) {
        crowd.started++;
    }
}

static void a_crowd_does_not_starve_the_index(struct rig *rig)
{
    rig_create(rig, GIB);
    crowd.rig = rig;
    crowd_fill();
    assert_true(crowd.started < CROWD);
    while (crowd.done < CROWD) {
        unsigned before = crowd.writes;
        assert_int_equal(rt_sleep_ms(60000), 0);
        assert_true(crowd.writes > before || crowd.done == CROWD);
    }
    assert_int_equal(vol_flush(rig->v), 0);
}

/* A store in which one PUT hangs for a minute. */
struct pit {
    struct obj_store base;
    bool armed;
    bool hangs;
    int gone;        /* what is said of all that is asked for */
    unsigned fails;  /* so many reads of an SST */
    unsigned spoils; /* so many after these */
};

static int pit_put(struct obj_store *s, enum obj_class c, const char *name,
                   const struct rt_chain *body)
{
    struct pit *p = container_of(s, struct pit, base);
    assert_int_equal(rt_sleep_ms(5), 0);
    if (p->armed && c == OBJ_COMMIT) {
        p->armed = false;
        p->hangs = true;
        (void)rt_sleep_ms(60000);
        p->hangs = false;
    }
    return obj_put(s->next, c, name, body);
}

static ssize_t pit_get(struct obj_store *s, enum obj_class c, const char *name, uint64_t off,
                       void *dst, size_t len)
{
    struct pit *p = container_of(s, struct pit, base);
    ssize_t n = p->gone < 0 ? p->gone : obj_get(s->next, c, name, off, dst, len);
    bool sst = strncmp(name, "sst/", 4) == 0;
    if (sst && p->fails > 0) {
        p->fails--;
        return -EIO;
    }
    if (sst && n > 0 && p->spoils > 0) {
        p->spoils--;
        ((uint8_t *)dst)[n / 2] ^= 1;
    }
    return n;
}

static int pit_head(struct obj_store *s, enum obj_class c, const char *name, uint64_t *ret_size)
{
    return obj_head(s->next, c, name, ret_size);
}

static int pit_list(struct obj_store *s, enum obj_class c, const char *prefix, const char *after,
                    size_t max, struct obj_names *ret_names)
{
    return obj_list(s->next, c, prefix, after, max, ret_names);
}

static int pit_remove(struct obj_store *s, enum obj_class c, const char *name)
{
    return obj_remove(s->next, c, name);
}

static void pit_close(struct obj_store *s)
{
    obj_close(s->next);
    free(container_of(s, struct pit, base));
}

static struct pit *pit_open(struct rig *rig)
{
    static const struct obj_ops ops = {
        .name = "pit",
        .put = pit_put,
        .get = pit_get,
        .head = pit_head,
        .list = pit_list,
        .remove = pit_remove,
        .close = pit_close,
    };
    struct pit *pit = calloc(1, sizeof *pit);
    assert_non_null(pit);
    pit->base = (struct obj_store){.ops = &ops, .next = rig->store};
    rig_close(rig);
    rig->store = &pit->base;
    rig_open(rig);
    return pit;
}

/* Flushed by the second attempt, and applied while the first still hangs. */
static void a_slow_attempt_delays_nothing(struct rig *rig)
{
    struct pit *pit = pit_open(rig);
    rig_create(rig, MIB);
    for (uint32_t i = 0; i < 120; i++) {
        rig_write(rig, 4096 * (i % 16), 4096, i);
        assert_int_equal(vol_flush(rig->v), 0);
    }
    struct vol_counts c;
    pit->armed = true;
    rig_write(rig, 0, 4096, 7);
    vol_counts(rig->v, &c);
    assert_true(c.undurable_bytes >= 4096);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_true(pit->hangs);
    assert_int_equal(rt_sleep_ms(1000), 0);
    vol_counts(rig->v, &c);
    assert_int_equal(c.batches_open, 1);
    assert_true(pit->hangs && c.dirty_bytes > 0);
    assert_int_equal(c.undurable_bytes, 0); /* it is stored */
    rig_check_all(rig);
    assert_int_equal(rt_sleep_ms(90000), 0);
    vol_counts(rig->v, &c);
    assert_true(!pit->hangs && c.dirty_bytes == 0);
}

/* For a while its requests come to another store, in which there is nothing, or not even a bucket:
 * no page is taken for lost that is there again afterwards. */
static void a_strange_store_spoils_nothing(struct rig *rig)
{
    /* What the first opening has stored is in memory, for it has the inode as well. */
    static const int answers[] = {0, -ENOENT, -ESTALE};
    struct pit *pit = pit_open(rig);
    rig_create(rig, MIB);
    rig_write(rig, 0, MIB, 1);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct vol_counts c;
        rig_reopen(rig);
        pit->gone = answers[i];
        rig_write(rig, i * 65536, 4096, 2);
        assert_int_equal(vol_flush(rig->v), 0);
        assert_int_equal(rt_sleep_ms(10000), 0);
        pit->gone = 0;
        assert_int_equal(rt_sleep_ms(10000), 0);
        vol_counts(rig->v, &c);
        assert_int_equal(c.bad_pages, 0);
        rig_check_all(rig);
    }
}

/* What was spoilt on its way several times is not lost for good. */
static void a_bad_way_spoils_nothing(struct rig *rig)
{
    struct vol_counts c;
    struct pit *pit = pit_open(rig);
    rig_create(rig, MIB);
    rig_write(rig, 0, MIB, 1);
    rig_reopen(rig);
    rig_write(rig, 0, 4096, 2);
    rig_reopen(rig);
    pit->fails = 6; /* which are no looks */
    pit->spoils = 5;
    rig_write(rig, 65536, 4096, 2);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(rt_sleep_ms(10000), 0);
    assert_int_equal(pit->fails + pit->spoils, 0);
    vol_counts(rig->v, &c);
    assert_int_equal(c.bad_pages, 0);
    rig_check_all(rig);
}

static void run_a_bad_way_spoils_nothing(void **state)
{
    (void)state;
    rig_run(a_bad_way_spoils_nothing);
}

static void run_a_strange_store_spoils_nothing(void **state)
{
    (void)state;
    rig_run(a_strange_store_spoils_nothing);
}

static void run_a_slow_attempt_delays_nothing(void **state)
{
    (void)state;
    rig_run(a_slow_attempt_delays_nothing);
}

static void run_a_crowd_does_not_starve_the_index(void **state)
{
    (void)state;
    struct rig_main m = {
        .body = a_crowd_does_not_starve_the_index,
        .opt = {.memory_bytes = 8 * MIB, .dirty_bytes = MIB, .memtable_bytes = 16384}};
    struct rt_options ro = {.cores = 1, .sim = true, .sim_seed = 42, .fibers_max = 500};
    assert_int_equal(rt_run(&ro, rig_fiber, &m), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_what_is_dirty_fits_a_segment),
        cmocka_unit_test(run_a_crowd_does_not_starve_the_index),
        cmocka_unit_test(run_a_slow_attempt_delays_nothing),
        cmocka_unit_test(run_a_strange_store_spoils_nothing),
        cmocka_unit_test(run_a_bad_way_spoils_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
