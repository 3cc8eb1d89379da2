/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache is emptied: in use, while it is loaded, and wherever its file is by now. */
#include "disk_bench.h"
#include "rt/sim.h"
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Neither what was there, nor what was on its way, nor what somebody had in hand meanwhile. */
static void cleared_for_good(void *arg)
{
    (void)arg;
    struct bench b;
    struct cache_disk_frame fr = {.object = 1, .len = FRAME};
    struct rt_buf *buf = NULL;
    bench_start(&b, 16 * MIB);
    put(&b, 1, 0);
    settle(&b);
    uint64_t era = cache_disk_era(b.d);
    assert_int_equal(cache_disk_read(b.d, &fr, 1, &buf), 1);
    b.disk.slow_ms = 20;
    put(&b, 1, 1);
    put(&b, 1, 2);
    assert_int_equal(cache_disk_clear(b.d), 0);
    b.disk.slow_ms = 0;
    fr.old = true;
    cache_disk_keep(b.d, buf, &fr);
    rt_buf_unref(buf);
    put_of(&b, 1, 3, era);
    settle(&b);
    assert_int_equal(has_of(&b, 1, 4), 0);
    assert_int_equal(b.disk.len, DISK_HEADER_BYTES);
    assert_int_equal(counts(&b).entries, 0);
    assert_int_equal(counts(&b).corrupt, 0);
    /* It goes on as a new one, which the next opening knows. */
    put(&b, 1, 4);
    settle(&b);
    assert_true(has(&b, 1, 4));
    cache_disk_close(b.d);
    bench_again(&b);
    assert_int_equal(has_of(&b, 1, 5), 1);
    b.disk.open_error = -EACCES;
    assert_int_equal(cache_disk_clear(b.d), -EACCES);
    b.disk.open_error = 0;
    assert_int_equal(cache_disk_clear(b.d), 0);
    assert_int_equal(has_of(&b, 1, 5), 0);
    bench_end(&b);
}

static void read_now(void *arg)
{
    struct bench *b = arg;
    assert_false(has(b, 1, 0));
}

/* What is not found any more by a read under way is not corrupt; what waits is counted. */
static void cleared_under_a_reader(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 16 * MIB);
    put(&b, 1, 0);
    settle(&b);
    b.disk.slow_ms = 80;
    assert_int_equal(rt_sim_process(1, "reader", read_now, &b), 0);
    (void)rt_sleep_ms(10);
    assert_true(rt_credits_used(&b.d->read_room) > 0);
    b.disk.slow_ms = 0;
    put(&b, 1, 1);
    assert_int_equal(cache_disk_clear(b.d), 0);
    unsigned reads = b.disk.reads;
    while (counts(&b).misses == 0) {
        (void)rt_sleep_ms(10);
    }
    assert_int_equal(b.disk.reads, reads + 1); /* it came after the cut */
    assert_int_equal(counts(&b).corrupt, 0);
    assert_int_equal(counts(&b).timeouts, 0);
    assert_int_equal(counts(&b).dropped, 1);
    bench_end(&b);
}

struct caller {
    struct bench *b;
    bool told;
    int result;
};

static void clear_now(void *arg)
{
    struct caller *c = arg;
    c->result = cache_disk_clear(c->b->d);
    c->told = true;
}

/* Who was told late hears of his own clearing, not of the one after it that failed. */
static void cleared_and_told_late(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 16 * MIB);
    struct caller first = {.b = &b, .result = 1};
    b.disk.slow_ms = 50;
    assert_int_equal(rt_sim_process(1, "first", clear_now, &first), 0);
    while (b.d->clears < 1) {
        (void)rt_sleep_ms(1);
    }
    rt_sim_stall(1, rt_after_ms(10000));
    while (b.d->cleared < 1) {
        (void)rt_sleep_ms(1);
    }
    b.disk.cut_error = -EIO;
    unsigned opens = b.disk.opens;
    assert_int_equal(cache_disk_clear(b.d), -EIO);
    assert_int_equal(b.disk.opens, opens); /* what could not be cut is not let go of */
    assert_false(first.told);
    while (!first.told) {
        (void)rt_sleep_ms(100);
    }
    assert_int_equal(first.result, 0);
    b.disk.cut_error = 0;
    b.disk.slow_ms = 0;
    bench_end(&b);
}

/* Whoever clears, or closes, does not wait for all of a large file to be looked at; what was closed
 * before is there at the next opening. */
static void not_all_is_loaded(void *arg)
{
    (void)arg;
    struct bench b;
    bench_start(&b, 120 * MIB); /* that many regions, nearly */
    put(&b, 1, 0);
    settle(&b);
    for (unsigned round = 0; round < 2; round++) {
        cache_disk_close(b.d);
        b.disk.slow_ms = 3000;
        b.disk.reads = 0;
        bench_again(&b);
        while (b.disk.reads < 2) {
            (void)rt_sleep_ms(10);
        }
        if (round == 0) {
            cache_disk_close(b.d);
        } else {
            assert_int_equal(cache_disk_clear(b.d), 0);
        }
        assert_true(b.disk.reads < 100);
        b.disk.slow_ms = 0;
        if (round == 0) {
            bench_again(&b);
        }
        assert_int_equal(has(&b, 1, 0), round == 0);
    }
    bench_end(&b);
}

/* With a real file in that folder. */
static void start_real(struct bench *b, const char *dir)
{
    bench_start(b, 8 * MIB);
    cache_disk_close(b->d);
    b->opt.io = NULL;
    b->opt.dir = dir;
    bench_again(b);
}

/* Its folder was not there when it was opened. */
static void real_file_cleared(void *arg)
{
    (void)arg;
    char dir[] = "/tmp/test-disk-XXXXXX";
    char below[64];
    char path[80];
    struct bench b;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(below, sizeof below, "%s/a/b", dir);
    (void)snprintf(path, sizeof path, "%s/frames", below);
    start_real(&b, below);
    assert_int_equal(cache_disk_clear(b.d), -ENOENT);
    below[strlen(below) - 2] = 0;
    assert_int_equal(mkdir(below, 0700), 0);
    assert_int_equal(cache_disk_clear(b.d), 0);
    put(&b, 1, 0);
    settle(&b);
    assert_true(has(&b, 1, 0));
    bench_end(&b);
    assert_int_equal(unlink(path), 0);
    below[strlen(below)] = '/';
    assert_int_equal(rmdir(below), 0);
    below[strlen(below) - 2] = 0;
    assert_int_equal(rmdir(below), 0);
    assert_int_equal(rmdir(dir), 0);
}

static off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* The file in use is elsewhere by now, and one of an earlier opening is in its place. */
static void real_file_moved(void *arg)
{
    (void)arg;
    char dir[] = "/tmp/test-disk-XXXXXX";
    char below[64];
    char aside[64];
    char path[80];
    char old[80];
    struct bench b;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(below, sizeof below, "%s/a", dir);
    (void)snprintf(aside, sizeof aside, "%s/b", dir);
    (void)snprintf(path, sizeof path, "%s/frames", below);
    (void)snprintf(old, sizeof old, "%s/frames", aside);
    start_real(&b, below);
    put(&b, 1, 0);
    settle(&b);
    assert_true(size_of(path) > FRAME);
    assert_int_equal(rename(below, aside), 0);
    assert_int_equal(mkdir(below, 0700), 0);
    assert_int_equal(truncate(old, 3 * FRAME), 0);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
    assert_int_equal(truncate(path, FRAME), 0);
    assert_int_equal(cache_disk_clear(b.d), 0);
    assert_int_equal(size_of(old), 0);
    assert_int_equal(size_of(path), DISK_HEADER_BYTES);
    put(&b, 1, 1);
    settle(&b);
    assert_true(has(&b, 1, 1));
    assert_false(has(&b, 1, 0));
    /* And with nothing in its place, not even the folder of its folder. */
    assert_int_equal(unlink(old), 0);
    assert_int_equal(rmdir(aside), 0);
    (void)snprintf(aside, sizeof aside, "%s-aside", dir);
    (void)snprintf(old, sizeof old, "%s/a/frames", aside);
    assert_int_equal(rename(dir, aside), 0);
    assert_int_equal(cache_disk_clear(b.d), 0);
    assert_int_equal(size_of(old), 0);
    assert_false(has(&b, 1, 1));
    bench_end(&b);
    assert_int_equal(unlink(old), 0);
    *strrchr(old, '/') = 0;
    assert_int_equal(rmdir(old), 0);
    assert_int_equal(rmdir(aside), 0);
}

/* Of a volume that has no disk cache any more. */
static void real_file_forgotten(void *arg)
{
    (void)arg;
    char dir[] = "/tmp/test-disk-XXXXXX";
    char path[80];
    struct bench b;
    struct uuid other = {{9}};
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/frames", dir);
    start_real(&b, dir);
    assert_int_equal(cache_disk_clear(b.d), 0);
    put(&b, 1, 0);
    settle(&b);
    struct uuid volume = b.opt.volume;
    bench_end(&b);
    assert_true(size_of(path) > FRAME);
    assert_int_equal(cache_disk_forget(dir, &other), 0);
    assert_true(size_of(path) > FRAME);
    assert_int_equal(cache_disk_forget(dir, &volume), 0);
    assert_int_equal(size_of(path), 0);
    assert_int_equal(truncate(path, FRAME), 0); /* it does not say whose it is */
    assert_int_equal(cache_disk_forget(dir, &other), 0);
    assert_int_equal(size_of(path), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cache_disk_forget(dir, &volume), 0);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(cache_disk_forget(dir, &volume), 0);
}

ON_FIBER(cleared_for_good)
ON_FIBER(cleared_under_a_reader)
ON_FIBER(cleared_and_told_late)
ON_FIBER(not_all_is_loaded)
ON_FIBER(real_file_cleared)
ON_FIBER(real_file_moved)
ON_FIBER(real_file_forgotten)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cleared_for_good),      cmocka_unit_test(test_cleared_under_a_reader),
        cmocka_unit_test(test_cleared_and_told_late), cmocka_unit_test(test_not_all_is_loaded),
        cmocka_unit_test(test_real_file_cleared),     cmocka_unit_test(test_real_file_moved),
        cmocka_unit_test(test_real_file_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
