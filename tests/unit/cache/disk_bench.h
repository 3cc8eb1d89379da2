/* SPDX-License-Identifier: Apache-2.0 */
/* A disk cache over a disk in memory, for its tests, each of which runs on a fiber of its own. */
#pragma once
#include "base/rng.h"
#include "base/uuid.h"
#include "cache/disk.h"
#include "cache/disk_priv.h"
#include "rt/rt.h"
#include "unit.h"
#include <errno.h>

#define MIB (1u << 20)
#define FRAME 20000u

/* A disk in memory that can be told to fail. */
struct fake {
    uint8_t *bytes;
    size_t len; /* of the file */
    size_t room;
    int open_error;
    int read_error;
    int write_error;
    int cut_error;
    bool gone;
    uint64_t slow_ms;
    unsigned reads;
    unsigned writes;
    unsigned cuts;
    unsigned opens;
};

static inline int fake_open(void *arg)
{
    struct fake *f = arg;
    f->opens++;
    if (f->gone) {
        f->gone = false;
        f->len = 0;
    }
    return f->open_error;
}

static inline ssize_t fake_read(void *arg, void *dst, size_t len, uint64_t off)
{
    struct fake *f = arg;
    f->reads++;
    if (f->read_error < 0) {
        return f->read_error;
    }
    size_t n = off >= f->len ? 0 : MIN_OF(len, f->len - off);
    memcpy(dst, f->bytes + off, n);
    return (ssize_t)n;
}

static inline int fake_write(void *arg, const void *src, size_t len, uint64_t off)
{
    struct fake *f = arg;
    f->writes++;
    if (f->gone) {
        return -ESTALE;
    }
    if (f->write_error < 0) {
        return f->write_error;
    }
    assert_true(off + len <= f->room); /* never more than was agreed */
    memcpy(f->bytes + off, src, len);
    f->len = MAX_OF(f->len, off + len);
    return 0;
}

static inline int fake_cut(void *arg)
{
    struct fake *f = arg;
    if (f->open_error < 0) {
        return -EBADF; /* as if it had never been open */
    }
    if (f->cut_error < 0) {
        return f->cut_error;
    }
    f->cuts++;
    f->len = 0;
    return 0;
}

static inline void fake_close(void *arg)
{
    (void)arg;
}

static inline void fake_pause(void *arg)
{
    const struct fake *f = arg;
    (void)rt_sleep_ms(f->slow_ms);
}

struct bench {
    struct fake disk;
    struct cache_disk_io io;
    struct cache_disk_options opt;
    struct cache_disk *d;
};

static inline void bench_start(struct bench *b, uint64_t bytes)
{
    *b = (struct bench){.disk = {.bytes = calloc(1, bytes), .room = bytes}};
    assert_non_null(b->disk.bytes);
    b->io = (struct cache_disk_io){fake_open,  fake_read,  fake_write, fake_cut,
                                   fake_close, fake_pause, &b->disk};
    b->opt = (struct cache_disk_options){.bytes = bytes,
                                         .index_bytes = bytes / 4096 * 12, /* as vol/open.c */
                                         .pending_bytes = 4 * MIB,
                                         .volume = uuid_random(),
                                         .open_id = uuid_random(),
                                         .last = UINT64_MAX,
                                         .io = &b->io,
                                         .retry_ms = 1000};
    assert_int_equal(cache_disk_open(&b->opt, &b->d), 0);
}

/* The next opening of the same volume. */
static inline void bench_again(struct bench *b)
{
    b->opt.before = b->opt.open_id;
    b->opt.open_id = uuid_random();
    assert_int_equal(cache_disk_open(&b->opt, &b->d), 0);
}

static inline void bench_end(struct bench *b)
{
    cache_disk_close(b->d);
    free(b->disk.bytes);
}

static inline void fill(uint8_t *at, uint64_t object, uint64_t offset)
{
    struct rng g = rng_seeded(object * 1000003 + offset);
    for (uint32_t i = 0; i + 8 <= FRAME; i += 8) {
        uint64_t x = rng_next(&g);
        memcpy(at + i, &x, 8);
    }
}

static inline void put_of(struct bench *b, uint64_t object, uint64_t offset, uint64_t era)
{
    struct rt_buf *buf;
    assert_int_equal(rt_buf_alloc(FRAME, RT_MEM_OTHER, &buf), 0);
    fill(buf->data, object, offset);
    struct cache_disk_frame fr = {
        .object = object, .offset = offset, .len = FRAME, .bytes = buf->data, .era = era};
    cache_disk_put(b->d, buf, &fr, 1);
    rt_buf_unref(buf);
}

static inline void put(struct bench *b, uint64_t object, uint64_t offset)
{
    put_of(b, object, offset, cache_disk_era(b->d));
}

/* True when it is there; then it must be right. */
static inline bool has(struct bench *b, uint64_t object, uint64_t offset)
{
    static uint8_t want[FRAME];
    struct rt_buf *buf = NULL;
    struct cache_disk_frame fr = {.object = object, .offset = offset, .len = FRAME};
    if (cache_disk_read(b->d, &fr, 1, &buf) == 0) {
        assert_null(fr.bytes);
        return false;
    }
    fill(want, object, offset);
    assert_memory_equal(fr.bytes, want, FRAME);
    cache_disk_keep(b->d, buf, &fr);
    rt_buf_unref(buf);
    return true;
}

static inline void settle(struct bench *b)
{
    struct cache_disk_counts c;
    do {
        (void)rt_sleep_ms(10);
        cache_disk_counts(b->d, &c);
    } while (rt_credits_used(&b->d->write_room) > 0);
}

/* Frames of a segment, put so often each; what is on its way is waited for after every `pace`. */
static inline void put_some(struct bench *b, uint64_t object, uint64_t count, unsigned times,
                            uint64_t pace)
{
    for (uint64_t i = 0; i < count; i++) {
        for (unsigned k = 0; k < times; k++) {
            put(b, object, i);
        }
        if (i % pace == pace - 1) {
            settle(b);
        }
    }
}

static inline unsigned has_of(struct bench *b, uint64_t object, uint64_t count)
{
    unsigned found = 0;
    for (uint64_t i = 0; i < count; i++) {
        found += has(b, object, i);
    }
    return found;
}

/* The first frames of segment 1, wanted as often as it takes. */
static inline void put_many(struct bench *b, uint64_t count, uint64_t pace)
{
    put_some(b, 1, count, 2, pace);
}

static inline struct cache_disk_counts counts(struct bench *b)
{
    struct cache_disk_counts c;
    cache_disk_counts(b->d, &c);
    return c;
}

static inline void run(void (*body)(void *arg))
{
    struct rt_options opt = {.sim = true, .sim_seed = 11};
    assert_int_equal(rt_run(&opt, body, NULL), 0);
}

#define ON_FIBER(name)                                                                             \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run(name);                                                                                 \
    }
