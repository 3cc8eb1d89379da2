/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small volume around an index for its tests: a store, a log of batches in memory that is
 * replayed at each open, and a model of what the index must hold. Keys are numbers written so that
 * they share prefixes and have many lengths.
 */
#pragma once
#include "base/err.h"
#include "base/rng.h"
#include "index/index.h"
#include "obj/obj_layers.h"
#include "rt/rt.h"
#include "unit.h"
#include <stdio.h>

#define WORLD_KEYS 1500u
#define WORLD_BATCH_MAX 40u

struct world_write {
    uint32_t key;
    uint32_t stamp; /* 0 = delete; else decides the value */
};

struct world_batch {
    uint64_t seq;
    uint64_t log_epoch;
    uint32_t count;
    struct world_write writes[WORLD_BATCH_MAX];
};

struct world {
    struct obj_store *store;
    struct index_options opt;
    struct index *ix;
    struct rng rng;
    uint64_t epoch;
    uint64_t next_seq;
    uint32_t stamps;
    size_t batch_count;
    struct world_batch *batches; /* the log: all batches of all time */
    uint32_t model[WORLD_KEYS];
    uint64_t stored_calls;
    uint64_t stored_from;
    unsigned fenced_calls;
};

static inline size_t world_key(uint32_t n, char key[64])
{
    int len = snprintf(key, 64, "k%03u/%s%u", n / 7,
                       n % 3 == 0 ? "a-rather-longer-middle-part/" : "", n % 7);
    return (size_t)len;
}

/* Byte order of keys as given by world_key() is not numeric order: sorted by comparing. */
static inline size_t world_value(uint32_t key, uint32_t stamp, uint8_t value[3072])
{
    size_t len = (stamp * 2654435761u >> 20) % (stamp % 17 == 0 ? 3000 : 90);
    for (size_t i = 0; i < len; i++) {
        value[i] = (uint8_t)(key + stamp * 31u + i / 5);
    }
    return len;
}

static void world_stored(void *arg, uint64_t replay_from)
{
    struct world *w = arg;
    assert_true(replay_from >= w->stored_from); /* I6: never back */
    w->stored_from = replay_from;
    w->stored_calls++;
}

static void world_fenced(void *arg)
{
    struct world *w = arg;
    w->fenced_calls++;
}

static inline int world_apply_batch(struct world *w, const struct world_batch *b, uint64_t number)
{
    struct index_write writes[WORLD_BATCH_MAX];
    static char keys[WORLD_BATCH_MAX][64];
    static uint8_t values[WORLD_BATCH_MAX][3072];
    char(*k)[64] = keys;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct world_write *from = &b->writes[i];
        writes[i] = (struct index_write){.op = from->stamp ? INDEX_PUT : INDEX_DELETE, .key = k[i]};
        writes[i].key_len = (uint32_t)world_key(from->key, k[i]);
        if (from->stamp) {
            writes[i].value = values[i];
            writes[i].value_len = (uint32_t)world_value(from->key, from->stamp, values[i]);
        }
    }
    return index_apply(w->ix, b->seq, number, b->log_epoch, writes, b->count);
}

/* Load, claim, replay, recheck. */
static inline int world_open(struct world *w)
{
    struct index_manifest_info info;
    struct uuid open_id = uuid_random();
    w->ix = NULL;
    int r = index_load(&w->opt, &w->ix);
    if (r < 0) {
        return r;
    }
    index_manifest(w->ix, &info);
    r = index_claim(w->ix, &open_id, "test", &w->epoch);
    for (size_t i = 0; r == 0 && i < w->batch_count; i++) {
        if (w->batches[i].seq >= info.replay_from) {
            assert_true(i + 1 > info.last_batch);
            r = world_apply_batch(w, &w->batches[i], i + 1);
        } else {
            assert_true(i + 1 <= info.last_batch);
        }
    }
    if (r == 0) {
        r = index_recheck(w->ix);
    }
    if (r < 0) {
        assert_int_equal(index_close(w->ix, false, 0), 0);
        w->ix = NULL;
    }
    w->stored_from = 0;
    return r;
}

static inline void world_start(struct world *w, uint64_t seed, struct obj_store *store)
{
    memset(w, 0, sizeof *w);
    w->rng = rng_seeded(seed);
    w->store = store;
    w->next_seq = 1;
    w->opt = (struct index_options){.store = store,
                                    .volume = {{1, 2, 3}},
                                    .memtable_bytes = 64 << 10,
                                    .cache_bytes = 1 << 20,
                                    .delete_after_ms = 1000,
                                    .sst_bytes = 16 << 10,
                                    .segments_max = 50,
                                    .manifest_stored = world_stored,
                                    .fenced = world_fenced,
                                    .arg = w};
    w->batches = calloc(20000, sizeof w->batches[0]);
    assert_non_null(w->batches);
    assert_int_equal(index_format(store, &w->opt.volume, w->opt.keys), 0);
}

static inline void world_end(struct world *w)
{
    free(w->batches);
}

/* One random batch, put to the log, the index and the model. */
static inline int world_write(struct world *w)
{
    struct world_batch *b = &w->batches[w->batch_count];
    b->seq = w->next_seq++;
    b->log_epoch = w->epoch;
    b->count = (uint32_t)rng_below(&w->rng, WORLD_BATCH_MAX + 1);
    uint32_t around = (uint32_t)rng_below(&w->rng, WORLD_KEYS);
    for (uint32_t i = 0; i < b->count; i++) {
        bool near = rng_below(&w->rng, 3) > 0;
        uint32_t key = near ? (around + (uint32_t)rng_below(&w->rng, 60)) % WORLD_KEYS
                            : (uint32_t)rng_below(&w->rng, WORLD_KEYS);
        bool put = rng_below(&w->rng, 4) > 0;
        b->writes[i] = (struct world_write){key, put ? ++w->stamps : 0};
    }
    w->batch_count++;
    int r = world_apply_batch(w, b, w->batch_count);
    for (uint32_t i = 0; r == 0 && i < b->count; i++) {
        w->model[b->writes[i].key] = b->writes[i].stamp;
    }
    return r;
}

static inline void world_check_value(struct world *w, uint32_t n, int r,
                                     const struct bytes_writer *got)
{
    uint8_t want[3072];
    if (w->model[n] == 0) {
        assert_int_equal(r, -ENOENT);
        return;
    }
    assert_int_equal(r, 0);
    size_t len = world_value(n, w->model[n], want);
    assert_int_equal(got->len, len);
    if (len > 0) {
        assert_memory_equal(got->data, want, len);
    }
}

static inline void world_check_get(struct world *w, uint32_t n)
{
    char key[64];
    struct bytes_writer got = {0};
    size_t len = world_key(n, key);
    int r = index_get_cached(w->ix, key, len, &got);
    if (r == -EAGAIN) {
        got.len = 0;
        r = index_get(w->ix, key, len, &got);
    }
    world_check_value(w, n, r, &got);
    bytes_writer_free(&got);
}

struct world_scan {
    struct world *w;
    size_t seen;
    char last[64];
    size_t last_len;
    size_t stop_after;
    bool disturb; /* flushes in the middle */
    bool found[WORLD_KEYS];
};

static uint32_t world_key_number(const void *key, size_t len)
{
    char text[65];
    unsigned a;
    memcpy(text, key, len);
    text[len] = '\0';
    assert_int_equal(sscanf(text, "k%u/", &a), 1);
    return a * 7 + (uint32_t)(text[len - 1] - '0');
}

static int world_scan_each(void *arg, const void *key, size_t key_len, const void *value,
                           size_t value_len)
{
    struct world_scan *s = arg;
    uint8_t want[3072];
    uint32_t n = world_key_number(key, key_len);
    assert_true(n < WORLD_KEYS && s->w->model[n] != 0);
    assert_int_equal(value_len, world_value(n, s->w->model[n], want));
    assert_true(value_len == 0 || memcmp(value, want, value_len) == 0);
    int order = memcmp(s->last, key, s->last_len < key_len ? s->last_len : key_len);
    assert_true(order < 0 || (order == 0 && s->last_len < key_len));
    memcpy(s->last, key, key_len);
    s->last_len = key_len;
    s->found[n] = true;
    s->seen++;
    if (s->disturb && s->seen % 40 == 0) {
        assert_int_equal(index_flush(s->w->ix), 0);
        rt_yield();
    }
    return s->seen == s->stop_after ? 77 : 0;
}

static inline bool world_in_range(const char *key, size_t len, const char *from, size_t from_len,
                                  const char *to, size_t to_len)
{
    int a = memcmp(key, from, len < from_len ? len : from_len);
    int b = memcmp(key, to, len < to_len ? len : to_len);
    bool above = a > 0 || (a == 0 && len >= from_len);
    bool below = to_len == 0 || b < 0 || (b == 0 && len < to_len);
    return above && below;
}

static inline void world_check_scan(struct world *w, bool all, bool disturb)
{
    struct world_scan *s = calloc(1, sizeof *s);
    char from[64] = "";
    char to[64] = "";
    size_t from_len = 0;
    size_t to_len = 0;
    assert_non_null(s);
    s->w = w;
    s->disturb = disturb;
    if (!all) {
        from_len = world_key((uint32_t)rng_below(&w->rng, WORLD_KEYS), from);
        to_len =
            rng_below(&w->rng, 3) ? world_key((uint32_t)rng_below(&w->rng, WORLD_KEYS), to) : 0;
        s->stop_after = rng_below(&w->rng, 4) ? 0 : 1 + rng_below(&w->rng, 50);
    }
    int r =
        index_scan(w->ix, &(struct index_range){from, from_len, to, to_len}, world_scan_each, s);
    assert_true(r == 0 || (r == 77 && s->seen == s->stop_after));
    for (uint32_t i = 0; r == 0 && i < WORLD_KEYS; i++) {
        char key[64];
        size_t len = world_key(i, key);
        bool want = w->model[i] != 0 && world_in_range(key, len, from, from_len, to, to_len);
        assert_int_equal(s->found[i], want);
    }
    free(s);
}

static inline void world_check_all(struct world *w)
{
    for (uint32_t i = 0; i < WORLD_KEYS; i++) {
        world_check_get(w, i);
    }
    world_check_scan(w, true, false);
}
