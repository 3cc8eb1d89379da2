/* SPDX-License-Identifier: Apache-2.0 */
#include "disk_bench.h"
#include <stdio.h>
#include <unistd.h>

static void keeps(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 16 * MIB);
    assert_false(has(&b, 1, 0));
    put(&b, 1, 0);
    put(&b, 1, FRAME);
    put(&b, 2, 0);
    settle(&b);
    assert_true(has(&b, 1, 0));
    assert_true(has(&b, 1, FRAME));
    assert_true(has(&b, 2, 0));
    assert_false(has(&b, 2, FRAME));
    struct cache_disk_frame fr = {.object = 1, .len = FRAME};
    cache_disk_drop(b.d, &fr);
    assert_false(has(&b, 1, 0));
    assert_int_equal(counts(&b).hits, 2);
    assert_int_equal(counts(&b).misses, 4);
    assert_int_equal(counts(&b).corrupt, 1);
    assert_int_equal(counts(&b).entries, 3);
    /* Of another length than was put: not that entry. */
    struct rt_buf *buf = NULL;
    fr = (struct cache_disk_frame){.object = 2, .len = FRAME - 1};
    assert_int_equal(cache_disk_read(b.d, &fr, 1, &buf), 0);
    bench_end(&b);
}

/* Some frames of many at once, neighbours and not. */
static void reads_many(void *arg)
{
    (void)arg;
    struct bench b;
    struct cache_disk_frame frames[40];
    bench_start(&b, 16 * MIB);
    for (uint64_t i = 0; i < 40; i += 1 + i % 3) {
        put(&b, 7, i);
    }
    settle(&b);
    for (uint64_t i = 0; i < 40; i++) {
        frames[39 - i] = (struct cache_disk_frame){.object = 7, .offset = i, .len = FRAME};
    }
    struct rt_buf *buf = NULL;
    b.disk.reads = 0;
    uint32_t found = cache_disk_read(b.d, frames, 40, &buf);
    assert_int_equal(b.disk.reads, 1);
    uint32_t seen = 0;
    for (unsigned i = 0; i < 40; i++) {
        static uint8_t want[FRAME];
        fill(want, 7, frames[i].offset);
        if (frames[i].bytes) {
            assert_memory_equal(frames[i].bytes, want, FRAME);
            seen++;
        }
    }
    assert_int_equal(seen, found);
    assert_true(found > 15 && found < 40);
    rt_buf_unref(buf);
    bench_end(&b);
}

/* Round and round: bounded, the newest are there, the oldest are not. */
static void stays_within_its_bytes(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 10 * MIB);
    put_many(&b, 2000, 50);
    assert_false(has(&b, 1, 0));
    assert_false(has(&b, 1, 1000));
    for (uint64_t i = 1700; i < 2000; i++) {
        assert_true(has(&b, 1, i));
    }
    struct cache_disk_counts c = counts(&b);
    assert_true(c.evictions > 1000);
    assert_true(c.used_bytes <= 10 * MIB && c.used_bytes > 7 * MIB);
    bench_end(&b);
}

static void what_is_used_stays(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 10 * MIB);
    for (uint64_t i = 0; i < 3000; i++) {
        put(&b, 1, i);
        put(&b, 1, i);
        if (i % 20 == 19) {
            settle(&b);
            assert_true(has(&b, 1, 5));
        }
    }
    bench_end(&b);
}

/* Reading 20 times what it holds, once each, leaves what was there, whether it is asked for in the
 * meantime or not, and costs the disk next to nothing. */
static void scans_pass_by(void *arg)
{
    (void)arg;
    struct bench b;
    const uint64_t hot = 300;
    const uint64_t all = 20 * (10 * MIB / FRAME);
    bench_start(&b, 10 * MIB);
    put_some(&b, 2, 160, 1, 50);
    put_some(&b, 1, hot, 1, 50);
    assert_int_equal(b.d->number, b.d->regions); /* it is full */
    assert_int_equal(has_of(&b, 1, hot), hot);
    settle(&b);
    uint64_t written = counts(&b).written_bytes;
    for (uint64_t object = 3; object < 5; object++) {
        put_some(&b, object, all, 1, 50);
        assert_true(has_of(&b, 1, hot) >= hot * 99 / 100);
    }
    /* The same again: what was seen first has long been forgotten. */
    put_some(&b, 4, all, 1, 50);
    assert_true(has_of(&b, 1, hot) >= hot * 95 / 100);
    struct cache_disk_counts c = counts(&b);
    assert_true(c.passed_by >= 3 * all - all / 50);
    assert_true(c.written_bytes - written <= all / 50 * disk_entry_bytes(FRAME));
    assert_int_equal(c.dropped, 0);
    bench_end(&b);
}

/* What comes into use is taken in by a full cache when it is wanted again. */
static void second_miss_is_kept(void *arg)
{
    (void)arg;
    struct bench b;
    const uint64_t hot = 200;
    bench_start(&b, 10 * MIB);
    put_many(&b, 2 * (10 * MIB / FRAME), 50);
    put_some(&b, 7, hot, 1, 50);
    assert_int_equal(has_of(&b, 7, hot), 0);
    put_some(&b, 7, hot, 1, 50);
    assert_true(has_of(&b, 7, hot) >= hot * 3 / 4); /* some have taken others' slots */
    put_some(&b, 7, hot, 4, 50);
    assert_int_equal(has_of(&b, 7, hot), hot);
    bench_end(&b);
}

/* A byte of an entry that is about to be overwritten has changed: nobody who looked at it said that
 * it is right, so it is not written again, with a mark as good as new. */
static void spoilt_is_not_renewed(void *arg)
{
    (void)arg;
    struct bench b;
    struct cache_disk_frame fr = {.object = 9, .len = FRAME};
    struct rt_buf *buf = NULL;
    bench_start(&b, 10 * MIB);
    put(&b, 9, 0);
    put(&b, 9, FRAME);
    put_some(&b, 1, 8 * MIB / FRAME, 1, 50); /* and three quarters of the cache */
    settle(&b);
    uint64_t at = DISK_HEADER_BYTES + MIB + 2 * DISK_MARK_BYTES + FRAME / 2; /* region 1 */
    b.disk.bytes[at] ^= 1;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t written = counts(&b).written_bytes;
        assert_int_equal(cache_disk_read(b.d, &fr, 1, &buf), 1);
        assert_true(fr.old);
        rt_buf_unref(buf);
        settle(&b);
        assert_int_equal(counts(&b).written_bytes, written);
    }
    cache_disk_drop(b.d, &fr);
    settle(&b);
    assert_false(has(&b, 9, 0));
    /* Its neighbour is right, and lives on. */
    uint64_t written = counts(&b).written_bytes;
    assert_true(has(&b, 9, FRAME));
    settle(&b);
    assert_int_equal(counts(&b).written_bytes, written + disk_entry_bytes(FRAME));
    bench_end(&b);
}

static void survives(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 10 * MIB);
    put_many(&b, 900, 50);
    for (unsigned round = 0; round < 3; round++) {
        cache_disk_close(b.d);
        bench_again(&b);
        for (uint64_t i = 600; i < 900 + round * 10; i++) {
            assert_true(has(&b, 1, i));
        }
        for (uint64_t i = 0; i < 10; i++) {
            put(&b, 1, 900 + round * 10 + i); /* goes on where it ended */
            put(&b, 1, 900 + round * 10 + i);
        }
        settle(&b);
    }
    assert_int_equal(b.disk.cuts, 1);
    bench_end(&b);
}

static bool empty_after(struct bench *b)
{
    bool empty = !has(b, 1, 0) && !has(b, 1, 1) && counts(b).entries == 0;
    cache_disk_close(b->d);
    return empty;
}

/* What another opening wrote, or is of another volume, size or history, is not believed. */
static void only_its_own_history(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 10 * MIB);
    put(&b, 1, 0);
    put(&b, 1, 1);
    settle(&b);
    cache_disk_close(b.d);
    struct cache_disk_options was = b.opt;
    struct fake disk = b.disk;
    uint8_t *copy = malloc(disk.room);
    assert_non_null(copy);
    memcpy(copy, disk.bytes, disk.room);
    for (unsigned how = 0; how < 5; how++) {
        memcpy(b.disk.bytes, copy, disk.room);
        b.disk.len = disk.len;
        b.opt = was;
        b.opt.before = was.open_id;
        b.opt.open_id = uuid_random();
        b.opt.before = how == 1 ? uuid_random() : b.opt.before;
        b.opt.volume = how == 2 ? uuid_random() : b.opt.volume;
        b.opt.bytes = how == 3 ? 9 * MIB : b.opt.bytes;
        b.opt.last = how == 4 ? 0 : b.opt.last;
        assert_int_equal(cache_disk_open(&b.opt, &b.d), 0);
        assert_int_equal(empty_after(&b), how > 0);
    }
    /* Handed on by one who did not look at it, under the limit of his time. */
    for (uint64_t last = 0; last < 2; last++) {
        memcpy(b.disk.bytes, copy, disk.room);
        b.disk.len = disk.len;
        b.opt = was;
        b.opt.before = was.open_id;
        b.opt.open_id = uuid_random();
        b.opt.adopt = true;
        b.opt.last = last;
        assert_int_equal(cache_disk_open(&b.opt, &b.d), 0);
        cache_disk_close(b.d);
        b.opt.adopt = false;
        b.opt.last = UINT64_MAX;
        b.opt.before = b.opt.open_id;
        b.opt.open_id = uuid_random();
        assert_int_equal(cache_disk_open(&b.opt, &b.d), 0);
        assert_int_equal(empty_after(&b), last == 0);
    }
    free(copy);
    free(b.disk.bytes);
}

/* Random bytes anywhere in the file: an entry is right or absent, now and after opening again. */
static void random_damage(void *arg)
{
    (void)arg;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct rng g = rng_seeded(seed);
        struct bench b;
        bench_start(&b, 8 * MIB);
        put_many(&b, 200, 200);
        for (unsigned i = 0; i < 100; i++) {
            /* Marks and directories; the bytes of entries are not checked here. */
            uint64_t at = rng_below(&g, b.disk.len);
            uint64_t entry = disk_entry_bytes(FRAME);
            uint64_t in = at < DISK_HEADER_BYTES ? 0 : (at - DISK_HEADER_BYTES) % MIB;
            in = in < DISK_MARK_BYTES || in >= DISK_MARK_BYTES + 52 * entry
                     ? 0
                     : (in - DISK_MARK_BYTES) % entry;
            at = in >= DISK_MARK_BYTES ? at - in + rng_below(&g, DISK_MARK_BYTES) : at;
            b.disk.bytes[at] = (uint8_t)rng_next(&g);
        }
        unsigned found = 0;
        for (uint64_t i = 0; i < 200; i++) {
            found += has(&b, 1, i);
        }
        assert_true(found < 200);
        cache_disk_close(b.d);
        bench_again(&b);
        for (uint64_t i = 0; i < 200; i++) {
            (void)has(&b, 1, i);
        }
        bench_end(&b);
    }
}

static void full_disk(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 16 * MIB);
    put(&b, 1, 0);
    settle(&b);
    b.disk.write_error = -ENOSPC;
    put(&b, 1, 1);
    settle(&b);
    unsigned writes = b.disk.writes;
    for (uint64_t i = 2; i < 100; i++) {
        put(&b, 1, i);
        (void)rt_sleep_ms(1);
    }
    assert_int_equal(b.disk.writes, writes); /* left alone for a second */
    assert_true(counts(&b).bypassed);
    assert_true(has(&b, 1, 0)); /* what is there can be read */
    b.disk.write_error = 0;
    (void)rt_sleep_ms(1100);
    put(&b, 1, 200);
    settle(&b);
    assert_true(has(&b, 1, 200));
    assert_false(has(&b, 1, 1));
    assert_false(counts(&b).bypassed);
    bench_end(&b);
}

static void broken_disk(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 16 * MIB);
    put_many(&b, 20, 20);
    b.disk.read_error = -EIO;
    b.disk.reads = 0;
    for (uint64_t i = 0; i < 20; i++) {
        assert_false(has(&b, 1, i));
    }
    assert_int_equal(b.disk.reads, 3);
    b.disk.read_error = 0;
    assert_false(has(&b, 1, 19));
    (void)rt_sleep_ms(1100);
    assert_true(has(&b, 1, 19));
    assert_true(has(&b, 1, 18));
    assert_false(counts(&b).bypassed);
    bench_end(&b);
}

static void slow_disk(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 16 * MIB);
    put_many(&b, 20, 20);
    b.disk.slow_ms = 5000;
    uint64_t from = rt_now_ns();
    for (uint64_t i = 0; i < 20; i++) {
        assert_false(has(&b, 1, i));
    }
    uint64_t took_ms = (rt_now_ns() - from) / 1000000;
    assert_true(took_ms >= 300 && took_ms < 500); /* three were waited for */
    assert_int_equal(counts(&b).timeouts, 3);
    b.disk.slow_ms = 0;
    (void)rt_sleep_ms(6000);
    assert_true(has(&b, 1, 0)); /* nothing was lost */
    assert_false(counts(&b).bypassed);
    bench_end(&b);
}

static void comes_later(void *arg)
{
    (void)arg;
    struct bench b = {0};
    bench_start(&b, 16 * MIB);
    cache_disk_close(b.d);
    b.disk.open_error = -EACCES;
    bench_again(&b);
    put(&b, 1, 0);
    assert_false(has(&b, 1, 0));
    b.disk.open_error = 0;
    (void)rt_sleep_ms(1100);
    put(&b, 1, 0);
    settle(&b);
    assert_true(has(&b, 1, 0));
    /* Removed while in use: a new file, at once. */
    b.disk.gone = true;
    put(&b, 1, 1);
    settle(&b);
    assert_true(has(&b, 1, 1));
    assert_false(has(&b, 1, 0));
    bench_end(&b);
}

static void real_file(void *arg)
{
    (void)arg;
    char dir[] = "/tmp/test-disk-XXXXXX";
    char path[64];
    struct bench b;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/frames", dir);
    bench_start(&b, 8 * MIB);
    cache_disk_close(b.d);
    b.opt.io = NULL;
    b.opt.dir = dir;
    bench_again(&b);
    put(&b, 1, 0);
    settle(&b);
    assert_true(has(&b, 1, 0));
    cache_disk_close(b.d);
    bench_again(&b);
    assert_true(has(&b, 1, 0));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    put(&b, 1, 1);
    settle(&b);
    assert_true(has(&b, 1, 1));
    assert_int_equal(access(path, F_OK), 0);
    bench_end(&b);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

ON_FIBER(keeps)
ON_FIBER(reads_many)
ON_FIBER(stays_within_its_bytes)
ON_FIBER(what_is_used_stays)
ON_FIBER(scans_pass_by)
ON_FIBER(second_miss_is_kept)
ON_FIBER(spoilt_is_not_renewed)
ON_FIBER(survives)
ON_FIBER(only_its_own_history)
ON_FIBER(random_damage)
ON_FIBER(full_disk)
ON_FIBER(broken_disk)
ON_FIBER(slow_disk)
ON_FIBER(comes_later)
ON_FIBER(real_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps),
        cmocka_unit_test(test_reads_many),
        cmocka_unit_test(test_stays_within_its_bytes),
        cmocka_unit_test(test_what_is_used_stays),
        cmocka_unit_test(test_scans_pass_by),
        cmocka_unit_test(test_second_miss_is_kept),
        cmocka_unit_test(test_spoilt_is_not_renewed),
        cmocka_unit_test(test_survives),
        cmocka_unit_test(test_only_its_own_history),
        cmocka_unit_test(test_random_damage),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_broken_disk),
        cmocka_unit_test(test_slow_disk),
        cmocka_unit_test(test_comes_later),
        cmocka_unit_test(test_real_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
