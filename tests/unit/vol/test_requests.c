/* SPDX-License-Identifier: Apache-2.0 */
/* What the store is asked for: a flush is one PUT, idling is nothing, an aligned write reads
 * nothing. */
#include "volume.h"

#include "base/time.h"

#define MIB (1u << 20)

static uint64_t all(struct rig *rig)
{
    return rig_requests(rig, -1, -1);
}

static void a_flush_is_one_put(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    assert_int_equal(vol_flush(rig->v), 0);
    for (unsigned i = 0; i < 50; i++) {
        uint64_t before = all(rig);
        uint64_t puts = rig_requests(rig, OBJ_COMMIT, OBJ_PUT);
        rig_write(rig, rng_below(&rig->rng, 16000) * 4096, 4096 * (1 + i % 8), i);
        assert_int_equal(vol_flush(rig->v), 0);
        assert_int_equal(all(rig) - before, 1);
        assert_int_equal(rig_requests(rig, OBJ_COMMIT, OBJ_PUT) - puts, 1);
        /* Nothing to do costs nothing. */
        assert_int_equal(vol_flush(rig->v), 0);
        assert_int_equal(all(rig) - before, 1);
    }
    rig_check_all(rig);
}

static void an_idle_hour_is_nothing(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    rig_write(rig, 0, MIB, 1);
    rig_discard(rig, 0, 32 * MIB);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(rt_sleep_ms(10000), 0);
    uint64_t before = all(rig);
    assert_int_equal(rt_sleep_ms(3600000), 0);
    assert_int_equal(all(rig), before);
}

static void a_cold_aligned_write_reads_nothing(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    for (unsigned i = 0; i < 64; i++) {
        rig_write(rig, i * MIB, MIB, i);
    }
    rig_reopen(rig);
    uint64_t gets = rig_requests(rig, -1, OBJ_GET);
    uint64_t puts = rig_requests(rig, -1, OBJ_PUT);
    rig_write(rig, 33 * MIB + 8192, 4096, 99);
    assert_int_equal(rig_requests(rig, -1, OBJ_GET), gets);
    assert_int_equal(rig_requests(rig, -1, OBJ_PUT), puts);
    assert_int_equal(vol_flush(rig->v), 0);
    assert_int_equal(rig_requests(rig, -1, OBJ_PUT), puts + 1);
    rig_check(rig, 33 * MIB, MIB);
}

static void openings_that_write_nothing_do_not_add_up(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    rig_write(rig, 0, MIB, 1);
    rig_reopen(rig);
    uint64_t before = rig_requests(rig, -1, OBJ_GET);
    rig_reopen(rig);
    uint64_t one = rig_requests(rig, -1, OBJ_GET) - before;
    for (unsigned i = 0; i < 10; i++) {
        before = rig_requests(rig, -1, OBJ_GET);
        rig_reopen(rig);
        /* Two manifests more, until they are old enough to be deleted; not 64 slots of the log. */
        assert_true(rig_requests(rig, -1, OBJ_GET) - before <= one + 2ull * (i + 1));
    }
    rig_write(rig, MIB, MIB, 2);
    rig_reopen(rig);
    rig_crash(rig);
    rig_check_all(rig);
}

static void what_was_written_is_cached(struct rig *rig)
{
    rig_create(rig, 8 * MIB);
    for (unsigned i = 0; i < 1000; i++) {
        rig_write(rig, rng_below(&rig->rng, 2048) * 4096, 4096, i);
    }
    assert_int_equal(vol_flush(rig->v), 0);
    struct vol_counts c;
    do {
        assert_int_equal(rt_sleep_ms(10), 0);
        vol_counts(rig->v, &c);
    } while (c.batches_open > 1);
    uint64_t before = all(rig);
    rig_check_all(rig);
    assert_int_equal(all(rig), before);
}

static void an_old_batch_is_rotated(struct rig *rig)
{
    rig_create(rig, MIB);
    assert_int_equal(vol_flush(rig->v), 0);
    uint64_t puts = rig_requests(rig, OBJ_COMMIT, OBJ_PUT);
    rig_write(rig, 0, 4096, 1);
    assert_int_equal(rt_sleep_ms(900), 0);
    assert_int_equal(rig_requests(rig, OBJ_COMMIT, OBJ_PUT), puts);
    assert_int_equal(rt_sleep_ms(300), 0);
    assert_int_equal(rig_requests(rig, OBJ_COMMIT, OBJ_PUT), puts + 1);
}

/* Many flushes at once share batches: far fewer PUTs than flushes, and none waits long. */
struct flusher {
    struct rig *rig;
    uint64_t block;
    uint64_t *done;
    uint64_t slowest_ns;
};

static void flush_one(void *arg)
{
    struct flusher *f = arg;
    uint64_t start = rt_now_ns();
    struct rt_chain c = {0};
    assert_int_equal(rt_chain_add_zeros(&c, 4096, 0), 0);
    assert_int_equal(vol_write(f->rig->f, f->block * 4096, &c, NULL), 0);
    rt_chain_free(&c);
    assert_int_equal(vol_flush(f->rig->v), 0);
    f->slowest_ns = rt_now_ns() - start;
    (*f->done)++;
}

/* A new volume, and then the same store behind a round trip. */
static struct obj_store *go_far(struct rig *rig, uint64_t min_ms, uint64_t max_ms)
{
    struct obj_store *fast = rig->store;
    struct obj_store *slow;
    rig_create(rig, 4 * MIB);
    rig_close(rig);
    assert_int_equal(obj_share(fast, &slow), 0);
    assert_int_equal(obj_delay_wrap(slow, &(struct obj_delay_options){min_ms, max_ms}, &slow), 0);
    rig->store = slow;
    rig_open(rig);
    rig_write(rig, 0, 4096, 1);
    assert_int_equal(vol_flush(rig->v), 0); /* the round trip is known now */
    return fast;
}

static void come_back(struct rig *rig, struct obj_store *fast)
{
    rig_close(rig);
    obj_close(rig->store);
    rig->store = fast;
}

static uint64_t commits(struct obj_store *s)
{
    struct obj_counts c;
    obj_counts(s, &c);
    return c.requests[OBJ_COMMIT][OBJ_PUT];
}

#define FLUSHERS 200

static void flushes_share_batches(struct rig *rig)
{
    static struct flusher flushers[FLUSHERS];
    struct obj_store *fast = go_far(rig, 20, 20);
    uint64_t before = commits(fast);
    uint64_t done = 0;
    for (unsigned i = 0; i < FLUSHERS; i++) {
        flushers[i] = (struct flusher){.rig = rig, .block = i, .done = &done};
        assert_int_equal(rt_spawn("flusher", flush_one, &flushers[i]), 0);
        assert_int_equal(rt_sleep_ms(1), 0);
    }
    while (done < FLUSHERS) {
        assert_int_equal(rt_sleep_ms(1), 0);
    }
    /* Some 200 ms of arrivals, 20 to 40 ms a trip, 8 a trip. */
    assert_in_range(commits(fast) - before, 10, 110);
    for (unsigned i = 0; i < FLUSHERS; i++) {
        assert_true(flushers[i].slowest_ns < 200 * NS_PER_MS);
    }
    come_back(rig, fast);
}

/* Those who flush again and again, side by side, fall into step, and then share each PUT; one who
 * is alone waits for nobody. */
#define WALKERS 8u
#define STEPS 40u

static void flush_often(void *arg)
{
    struct flusher *f = arg;
    for (unsigned i = 0; i < STEPS; i++) {
        flush_one(f);
    }
}

static void flushes_fall_into_step(struct rig *rig)
{
    static struct flusher walkers[WALKERS];
    struct obj_store *fast = go_far(rig, 20, 24);
    uint64_t before = commits(fast);
    uint64_t done = 0;
    for (unsigned i = 0; i < WALKERS; i++) {
        walkers[i] = (struct flusher){.rig = rig, .block = i, .done = &done};
        assert_int_equal(rt_spawn("walker", flush_often, &walkers[i]), 0);
        assert_int_equal(rt_sleep_ms(3), 0);
    }
    while (done < WALKERS * STEPS) {
        assert_int_equal(rt_sleep_ms(1), 0);
    }
    assert_in_range(commits(fast) - before, STEPS, WALKERS * STEPS / 2);
    struct flusher alone = {.rig = rig, .done = &done};
    uint64_t begin = rt_now_ns();
    flush_often(&alone);
    assert_true(rt_now_ns() - begin < STEPS * 25 * NS_PER_MS);
    come_back(rig, fast);
}

#define RUN(name)                                                                                  \
    static void run_##name(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        rig_run(name);                                                                             \
    }
RUN(a_flush_is_one_put)
RUN(an_idle_hour_is_nothing)
RUN(a_cold_aligned_write_reads_nothing)
RUN(openings_that_write_nothing_do_not_add_up)
RUN(what_was_written_is_cached)
RUN(an_old_batch_is_rotated)
RUN(flushes_share_batches)
RUN(flushes_fall_into_step)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_a_flush_is_one_put),
        cmocka_unit_test(run_an_idle_hour_is_nothing),
        cmocka_unit_test(run_a_cold_aligned_write_reads_nothing),
        cmocka_unit_test(run_openings_that_write_nothing_do_not_add_up),
        cmocka_unit_test(run_what_was_written_is_cached),
        cmocka_unit_test(run_an_old_batch_is_rotated),
        cmocka_unit_test(run_flushes_share_batches),
        cmocka_unit_test(run_flushes_fall_into_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
