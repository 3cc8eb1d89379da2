/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index and its store: rivals, lost answers, failing and spoilt requests, deletion by I5 and
 * I7, back-pressure, and that an idle index asks for nothing.
 */
#include "index/manifest.h"
#include "place.h"

static void manifests_main(void *arg)
{
    (void)arg;
    struct index_manifest_info info;
    struct tamper *t = tamper_open();
    struct world *w = calloc(1, sizeof *w);
    struct index_options opt = {.store = &t->store, .volume = {{1, 2, 3}}, .read_only = true};
    assert_non_null(w);
    assert_int_equal(index_load(&opt, &w->ix), ERR_NOT_A_VOLUME);
    world_start(w, 1, &t->store);
    assert_int_equal(index_format(&t->store, &w->opt.volume, NULL), -EEXIST);
    opt.volume.bytes[0] = 9; /* somebody else's */
    assert_int_equal(index_load(&opt, &w->ix), ERR_CORRUPT_MANIFEST);
    assert_int_equal(world_open(w), 0);
    index_manifest(w->ix, &info);
    assert_int_equal(info.number, 1);
    assert_int_equal(info.epoch, 1);
    assert_int_equal(info.replay_from, 1);
    assert_string_equal(info.owner, "test");
    write_many(w, 20);
    assert_int_equal(index_close(w->ix, true, 20), 0);
    assert_int_equal(index_load(&w->opt, &w->ix), 0);
    index_manifest(w->ix, &info);
    assert_true(info.clean);
    assert_int_equal(info.closed_through, 20);
    assert_int_equal(info.replay_from, 21);
    assert_int_equal(info.last_batch, 20);
    assert_int_equal(info.log_epoch, 1);
    assert_int_equal(info.epoch, 1);
    world_check_all(w);
    assert_int_equal(index_flush(w->ix), 0); /* nothing to flush, nothing claimed */
    assert_int_equal(index_close(w->ix, true, 20), 0);
    assert_int_equal(tamper_count(t, "manifest/"), info.number + 1);
    world_end(w);
    free(w);
    obj_close(&t->store);
}

static void manifests_say_where_to_go_on(void **state)
{
    (void)state;
    run(manifests_main, 1);
}

static void rivals_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(1);
    struct world *w = &p->w;
    struct index *a = w->ix;
    struct index *b;
    struct index *late;
    struct uuid id = uuid_random();
    uint64_t epoch;
    write_many(w, 30);
    assert_int_equal(index_flush(a), 0);
    assert_int_equal(index_load(&w->opt, &b), 0);
    assert_int_equal(index_load(&w->opt, &late), 0);
    assert_int_equal(index_claim(b, &id, "rival", &epoch), 0);
    assert_int_equal(epoch, 2);
    assert_int_equal(index_claim(late, &id, "late", &epoch), ERR_LOST_OPEN_RACE);
    assert_int_equal(index_close(late, false, 0), 0);
    assert_int_equal(index_recheck(b), 0);
    /* The first writer finds out at its next manifest, and from then on says so to all. */
    write_many(w, 1);
    assert_int_equal(w->fenced_calls, 0);
    assert_int_equal(index_flush(a), ERR_FENCED);
    assert_int_equal(w->fenced_calls, 1);
    struct bytes_writer out = {0};
    assert_int_equal(index_get(a, "k", 1, &out), ERR_FENCED);
    assert_int_equal(index_get_cached(a, "k", 1, &out), ERR_FENCED);
    assert_int_equal(index_apply(a, 99, 99, 1, NULL, 0), ERR_FENCED);
    assert_int_equal(index_flush(a), ERR_FENCED);
    assert_int_equal(index_close(a, true, 99), ERR_FENCED);
    assert_int_equal(w->fenced_calls, 1);
    /* One who claimed, and was overtaken before its recheck, gives up. */
    assert_int_equal(index_close(b, false, 0), 0);
    assert_int_equal(index_load(&w->opt, &a), 0);
    assert_int_equal(index_claim(a, &id, "slow", &epoch), 0);
    assert_int_equal(index_load(&w->opt, &b), 0);
    assert_int_equal(index_claim(b, &id, "fast", &epoch), 0);
    uint64_t puts = p->t->by_kind[OBJ_PUT];
    assert_int_equal(index_recheck(a), ERR_LOST_OPEN_RACE);
    assert_int_equal(index_close(a, true, 0), 0);
    assert_int_equal(p->t->by_kind[OBJ_PUT], puts);
    assert_int_equal(p->t->by_kind[OBJ_DELETE], 0);
    assert_int_equal(index_recheck(b), 0);
    assert_int_equal(index_close(b, true, 0), 0);
    w->ix = NULL;
    place_close(p, false);
}

static int get_any(struct world *w)
{
    char key[64];
    struct bytes_writer out = {0};
    uint32_t n = 0;
    while (w->model[n] == 0) {
        n++;
    }
    int r = index_get(w->ix, key, world_key(n, key), &out);
    bytes_writer_free(&out);
    return r;
}

/* A writer that wakes when a later one has swept away what it had: its manifest as well. */
static void overtaken_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(1);
    struct world *w = &p->w;
    struct index *b;
    struct index_manifest_info info;
    struct obj_names names = {0};
    struct uuid id = uuid_random();
    uint64_t epoch;
    char name[OBJ_NAME_SIZE];
    write_many(w, 30);
    assert_int_equal(index_close(w->ix, true, w->next_seq - 1), 0);
    w->opt.cache_bytes = 0;
    assert_int_equal(world_open(w), 0);
    index_manifest(w->ix, &info);
    manifest_name(info.number, name);
    assert_int_equal(get_any(w), 0);
    assert_int_equal(index_load(&w->opt, &b), 0);
    assert_int_equal(obj_list(&p->t->store, OBJ_READ, "sst/", "", 100, &names), 0);
    assert_true(names.names.len > 0);
    for (size_t i = 0; i < names.names.len; i++) {
        assert_int_equal(obj_remove(p->t->store.next, OBJ_READ, names.names.at[i]), 0);
    }
    obj_names_free(&names);
    assert_int_equal(get_any(w), ERR_CORRUPT_INDEX);
    assert_int_equal(obj_remove(p->t->store.next, OBJ_READ, name), 0);
    assert_int_equal(get_any(w), -EIO);
    assert_int_equal(w->fenced_calls, 0);
    assert_int_equal(index_claim(b, &id, "later", &epoch), 0);
    assert_int_equal(get_any(w), ERR_FENCED);
    assert_int_equal(w->fenced_calls, 1);
    assert_int_equal(index_close(b, false, 0), 0);
    assert_int_equal(index_close(w->ix, false, 0), ERR_FENCED);
    w->ix = NULL;
    place_close(p, false);
}

static void who_was_overtaken_hears_it(void **state)
{
    (void)state;
    run(overtaken_main, 1);
}

static void one_writer_at_a_time(void **state)
{
    (void)state;
    run(rivals_main, 1);
}

/* The same scenario with its Nth request failing, for every N: in the end everything is there. */
static struct {
    uint64_t fail_at;
    enum tamper_mode mode;
    bool spoil;  /* and what is read then to find out whether it was carried out */
    bool beyond; /* the run had fewer requests */
} sweep;

static void sweep_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(7);
    struct world *w = &p->w;
    uint64_t start = p->t->requests;
    p->t->mode = sweep.mode;
    p->t->spoil_after = sweep.spoil;
    p->t->fail_at = start + sweep.fail_at;
    for (unsigned i = 0; i < 6; i++) {
        write_many(w, 20);
        assert_int_equal(index_flush(w->ix), 0);
    }
    (void)rt_sleep_ms(3000); /* deletions too */
    for (uint32_t n = 0; n < WORLD_KEYS; n += 3) {
        char key[64];
        struct bytes_writer got = {0};
        int r = index_get(w->ix, key, world_key(n, key), &got);
        if (r < 0 && r != -ENOENT) { /* the failing request was this read: once more */
            assert_true(p->t->requests >= p->t->fail_at);
            r = index_get(w->ix, key, world_key(n, key), &got);
        }
        world_check_value(w, n, r, &got);
        bytes_writer_free(&got);
    }
    sweep.beyond = p->t->requests < p->t->fail_at;
    p->t->fail_at = 0;
    assert_int_equal(w->fenced_calls, 0);
    assert_int_equal(index_close(w->ix, true, w->next_seq - 1), 0);
    assert_int_equal(world_open(w), 0);
    world_check_all(w);
    place_close(p, true);
}

static void any_request_may_fail(void **state)
{
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        sweep.mode = mode == 0 ? TAMPER_FAIL_BEFORE : TAMPER_FAIL_AFTER;
        sweep.spoil = mode == 2;
        sweep.beyond = false;
        for (sweep.fail_at = 1; !sweep.beyond; sweep.fail_at++) {
            run(sweep_main, 1);
        }
        assert_true(sweep.fail_at > 30);
    }
}

/* Opening is the caller's to repeat; a claim whose answer was lost is not taken for a rival's. */
static void open_sweep_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(7);
    struct world *w = &p->w;
    write_many(w, 30);
    assert_int_equal(index_close(w->ix, true, w->next_seq - 1), 0);
    p->t->mode = sweep.mode;
    p->t->fail_at = p->t->requests + sweep.fail_at;
    int r = world_open(w);
    assert_true(r == 0 || r == -EIO || r == -ETIMEDOUT);
    if (r < 0) {
        assert_int_equal(world_open(w), 0);
    }
    p->t->fail_at = 0;
    world_check_all(w);
    place_close(p, true);
}

static void opening_may_fail_anywhere(void **state)
{
    (void)state;
    for (sweep.fail_at = 1; sweep.fail_at < 8; sweep.fail_at++) {
        sweep.mode = TAMPER_FAIL_BEFORE;
        run(open_sweep_main, 1);
        sweep.mode = TAMPER_FAIL_AFTER;
        run(open_sweep_main, 1);
    }
}

/*
 * An unclean close while the answer to a manifest is lost: the manifest may be stored, so whoever
 * waits to write the next one must not ask for the same number, and find "another writer" there.
 */
static void broken_off_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(7);
    struct world *w = &p->w;
    assert_int_equal(index_close(w->ix, true, 0), 0);
    w->opt.memtable_bytes = 4 << 10;
    w->opt.sst_bytes = 2 << 10;
    assert_int_equal(world_open(w), 0);
    p->t->put_delay_ms = 2;
    p->t->mode = TAMPER_FAIL_AFTER;
    p->t->fail_at = p->t->requests + sweep.fail_at;
    while (p->t->requests < p->t->fail_at) {
        write_many(w, 1);
        (void)rt_sleep_ms(1);
    }
    (void)rt_sleep_ms(40); /* less than it waits before it tries again */
    p->t->put_delay_ms = 0;
    assert_int_equal(index_close(w->ix, false, 0), 0);
    assert_int_equal(w->fenced_calls, 0);
    assert_int_equal(world_open(w), 0);
    world_check_all(w);
    place_close(p, true);
}

static void a_manifest_in_doubt_is_the_last(void **state)
{
    (void)state;
    for (sweep.fail_at = 1; sweep.fail_at < 120; sweep.fail_at++) {
        run(broken_off_main, 1);
    }
}

static void hopeless_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(7);
    struct world *w = &p->w;
    assert_int_equal(index_close(w->ix, true, 0), 0);
    p->t->fail_with = -EROFS;
    p->t->fail_puts = 1;
    assert_int_equal(world_open(w), -EROFS);
    /* But with one, for as long as it takes, once it runs. */
    assert_int_equal(world_open(w), 0);
    write_many(w, 5);
    p->t->fail_puts = 5;
    assert_int_equal(index_flush(w->ix), 0);
    world_check_all(w);
    place_close(p, false);
}

static void a_claim_does_not_wait_for_wonders(void **state)
{
    (void)state;
    run(hopeless_main, 1);
}

static void spoilt_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(3);
    struct world *w = &p->w;
    char key[64];
    struct bytes_writer got = {0};
    write_many(w, 30);
    assert_int_equal(index_close(w->ix, true, w->next_seq - 1), 0);
    uint32_t n = 0;
    while (w->model[n] == 0) {
        n++;
    }
    size_t len = world_key(n, key);
    /* Once: fetched again. */
    assert_int_equal(world_open(w), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(index_get_cached(w->ix, key, len, &got), i == 0 ? -EAGAIN : 0);
        p->t->spoil_prefix = "sst/";
        p->t->spoil_gets = i == 0;
        got.len = 0;
        world_check_value(w, n, index_get(w->ix, key, len, &got), &got);
        got.len = 0;
    }
    assert_int_equal(p->t->spoil_gets, 0);
    /* For good: an error of that read, in look-ups, scans and compactions; and it is over when the
     * bytes are right again. */
    assert_int_equal(index_close(w->ix, true, w->next_seq - 1), 0);
    assert_int_equal(world_open(w), 0);
    p->t->spoil_gets = 1000000;
    struct world_scan *scan = calloc(1, sizeof *scan);
    assert_non_null(scan);
    scan->w = w;
    assert_int_equal(index_get(w->ix, key, len, &got), ERR_CORRUPT_INDEX);
    assert_int_equal(
        index_scan(w->ix, &(struct index_range){NULL, 0, NULL, 0}, world_scan_each, scan),
        ERR_CORRUPT_INDEX);
    free(scan);
    for (unsigned i = 0; i < 8; i++) {
        write_many(w, 10);
        assert_int_equal(index_flush(w->ix), 0);
    }
    struct index_counts counts;
    (void)rt_sleep_ms(1000);
    index_counts(w->ix, &counts);
    assert_int_equal(counts.compactions, 0);
    p->t->spoil_gets = 0;
    write_many(w, 10);
    assert_int_equal(index_flush(w->ix), 0);
    (void)rt_sleep_ms(1000);
    index_counts(w->ix, &counts);
    assert_true(counts.compactions > 0);
    world_check_all(w);
    bytes_writer_free(&got);
    place_close(p, true);
}

static void what_is_spoilt_is_noticed(void **state)
{
    (void)state;
    run(spoilt_main, 1);
}

static void manifest_spoilt_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(3);
    struct world *w = &p->w;
    assert_int_equal(index_close(w->ix, true, 0), 0);
    p->t->spoil_prefix = "manifest/";
    p->t->spoil_gets = 1;
    assert_int_equal(world_open(w), 0);
    assert_int_equal(p->t->spoil_gets, 0);
    assert_int_equal(index_close(w->ix, true, 0), 0);
    p->t->spoil_gets = 100;
    assert_int_equal(world_open(w), ERR_CORRUPT_MANIFEST);
    place_close(p, false);
}

static void a_spoilt_manifest_is_refused(void **state)
{
    (void)state;
    run(manifest_spoilt_main, 1);
}

struct pressure {
    struct world *w;
    bool done;
};

static void write_on(void *arg)
{
    struct pressure *pr = arg;
    write_many(pr->w, 400);
    pr->done = true;
}

static void pressure_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    struct rt_group *g;
    struct index_counts counts;
    struct pressure pr = {.w = &p->w};
    assert_int_equal(rt_group_create(&g), 0);
    assert_false(index_is_strained(p->w.ix));
    p->t->hold_puts = true; /* an outage */
    assert_int_equal(rt_group_spawn(g, "write", write_on, &pr), 0);
    (void)rt_sleep_ms(60000);
    assert_false(pr.done);
    assert_true(index_is_strained(p->w.ix));
    index_counts(p->w.ix, &counts);
    assert_true(counts.memtable_bytes < 4 * p->w.opt.memtable_bytes); /* bounded */
    world_check_all(&p->w);                                           /* and readable */
    p->t->hold_puts = false;
    rt_group_wait(g);
    assert_true(pr.done);
    assert_int_equal(index_flush(p->w.ix), 0);
    assert_false(index_is_strained(p->w.ix));
    world_check_all(&p->w);
    rt_group_destroy(g);
    place_close(p, true);
}

static void an_outage_holds_the_applier(void **state)
{
    (void)state;
    run(pressure_main, 1);
}

/* Every flush of segments_max segments, though the memtable is small. */
static void segments_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    struct index_counts counts;
    for (uint64_t i = 1; i <= 500; i++) {
        assert_int_equal(index_apply(p->w.ix, i, i, 1, NULL, 0), 0);
        rt_yield();
    }
    (void)rt_sleep_ms(100);
    index_counts(p->w.ix, &counts);
    assert_int_equal(counts.flushes, 9);
    assert_int_equal(counts.sst_count, 0);
    assert_int_equal(counts.replay_from, 451);
    place_close(p, true);
}

static void replay_is_bounded(void **state)
{
    (void)state;
    run(segments_main, 1);
}

/* Every fiber is taken when the flusher is to start, perhaps by those who wait for it: whoever
 * waits for the flush does it. */
static void nap(void *arg)
{
    (void)arg;
    (void)rt_sleep_ms(5000);
}

static void fibers_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    (void)rt_sleep_ms(3000); /* the sweeper has ended */
    while (rt_spawn("nap", nap, NULL) == 0) {
    }
    uint64_t start = rt_now_ns();
    write_many(&p->w, 400);
    assert_int_equal(index_flush(p->w.ix), 0);
    assert_true(rt_now_ns() - start < 4000000000ull);
    world_check_all(&p->w);
    place_close(p, true);
}

static void a_flush_waits_for_no_fiber(void **state)
{
    (void)state;
    struct rt_options opt = {.sim = true, .sim_seed = 1, .fibers_max = 8};
    assert_int_equal(rt_run(&opt, fibers_main, NULL), 0);
}

/* A segment of several batches, whose first one fills the memtable, is flushed whole or not at all.
 */
static void whole_segments_main(void *arg)
{
    (void)arg;
    struct place *p = place_open(5);
    struct index_counts counts;
    static uint8_t value[30000];
    for (uint64_t seq = 1; seq <= 20; seq++) {
        for (uint64_t i = 0; i < 5; i++) {
            char key[8] = {'k', (char)i, (char)seq};
            struct index_write put = {INDEX_PUT, key, value, 3, sizeof value};
            assert_int_equal(index_apply(p->w.ix, seq, seq * 5 + i, 1, &put, 1), 0);
            (void)rt_sleep_ms(50);
            index_counts(p->w.ix, &counts);
            assert_true(counts.replay_from <= seq); /* I6 */
        }
    }
    assert_true(counts.flushes > 5);
    place_close(p, true);
}

static void segments_are_flushed_whole(void **state)
{
    (void)state;
    run(whole_segments_main, 1);
}

/*
 * Openers that race, are stalled at every step for longer than the grace of deletions, write and
 * go. Those whose recheck was good have each an epoch of their own, and what one of them has
 * flushed is there for ever.
 */
#define RACERS 5u
#define RACES 12u

struct race {
    struct obj_store *store;
    struct index_options opt;
    uint64_t epochs[RACERS * RACES]; /* in the order of the rechecks */
    size_t winners;
    bool flushed[RACERS * RACES * 4]; /* by epoch */
    unsigned lost;
    unsigned fenced;
};

static void stall(void)
{
    if (rt_random() % 3 == 0) {
        (void)rt_sleep_ms(rt_random() % 400);
    }
}

static void race_write(struct race *race, struct index *ix, uint64_t epoch, uint64_t from)
{
    char key[32];
    for (uint64_t i = 0; i < 4; i++) {
        stall();
        int len = snprintf(key, sizeof key, "epoch-%llu", (unsigned long long)epoch);
        struct index_write w = {INDEX_PUT, key, key, (uint32_t)len, (uint32_t)len};
        int r = index_apply(ix, from + i, from + i, epoch, &w, 1);
        if (r == 0) {
            r = index_flush(ix);
        }
        if (r == 0) {
            race->flushed[epoch] = true;
            continue;
        }
        assert_int_equal(r, ERR_FENCED);
        race->fenced++;
        return;
    }
}

static void race_once(struct race *race)
{
    struct index *ix;
    struct index_manifest_info info;
    struct uuid id;
    uint64_t epoch;
    rt_random_bytes(&id, sizeof id);
    assert_int_equal(index_load(&race->opt, &ix), 0);
    index_manifest(ix, &info);
    stall();
    int r = index_claim(ix, &id, "racer", &epoch);
    if (r == 0) {
        stall();
        r = index_recheck(ix);
    }
    if (r == 0) {
        assert_true(race->winners == 0 || race->epochs[race->winners - 1] < epoch);
        race->epochs[race->winners++] = epoch;
        race_write(race, ix, epoch, info.replay_from);
    } else {
        assert_int_equal(r, ERR_LOST_OPEN_RACE);
        race->lost++;
    }
    r = index_close(ix, rt_random() % 2, 0);
    assert_true(r == 0 || r == ERR_FENCED);
}

static void racer(void *arg)
{
    for (unsigned i = 0; i < RACES; i++) {
        stall();
        race_once(arg);
    }
}

static void race_main(void *arg)
{
    (void)arg;
    struct race *race = calloc(1, sizeof *race);
    struct rt_group *g;
    struct index *ix;
    struct tamper *t = tamper_open();
    assert_non_null(race);
    t->put_delay_ms = 5;
    race->opt = (struct index_options){.store = &t->store, .delete_after_ms = 100};
    assert_int_equal(index_format(&t->store, &race->opt.volume, NULL), 0);
    assert_int_equal(rt_group_create(&g), 0);
    for (unsigned i = 0; i < RACERS; i++) {
        assert_int_equal(rt_group_spawn(g, "racer", racer, race), 0);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
    assert_true(race->winners > 5 && race->lost > 5 && race->fenced > 0);
    assert_int_equal(index_load(&race->opt, &ix), 0);
    for (uint64_t epoch = 0; epoch < ARRAY_LEN(race->flushed); epoch++) {
        char key[32];
        struct bytes_writer got = {0};
        int len = snprintf(key, sizeof key, "epoch-%llu", (unsigned long long)epoch);
        int r = index_get(ix, key, (size_t)len, &got);
        assert_true(r == 0 || (r == -ENOENT && !race->flushed[epoch]));
        bytes_writer_free(&got);
    }
    assert_int_equal(index_close(ix, false, 0), 0);
    obj_close(&t->store);
    free(race);
}

static void racing_openers_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        run(race_main, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests_say_where_to_go_on),
        cmocka_unit_test(one_writer_at_a_time),
        cmocka_unit_test(who_was_overtaken_hears_it),
        cmocka_unit_test(any_request_may_fail),
        cmocka_unit_test(opening_may_fail_anywhere),
        cmocka_unit_test(a_manifest_in_doubt_is_the_last),
        cmocka_unit_test(a_claim_does_not_wait_for_wonders),
        cmocka_unit_test(what_is_spoilt_is_noticed),
        cmocka_unit_test(a_spoilt_manifest_is_refused),
        cmocka_unit_test(an_outage_holds_the_applier),
        cmocka_unit_test(replay_is_bounded),
        cmocka_unit_test(segments_are_flushed_whole),
        cmocka_unit_test(a_flush_waits_for_no_fiber),
        cmocka_unit_test(racing_openers_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
