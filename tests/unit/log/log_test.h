/* SPDX-License-Identifier: Apache-2.0 */
/* Batches to write, and what replay must give back. Used on fibers, with CHECK. */
#pragma once
#include "base/rng.h"
#include "log/log_priv.h"
#include "obj/obj_layers.h"
#include "rt/rt_test.h"
#include "unit_keys.h"
#include <stdlib.h>
#include <string.h>

/* What the logs of this run are sealed with: each test runs plain and with each cipher. */
static struct crypt_keys *test_keys;

static inline int run_with_each_cipher(const struct CMUnitTest *tests, size_t count)
{
    int failed = 0;
    for (enum crypt_cipher c = CRYPT_NONE; c <= CRYPT_CHACHA20_POLY1305; c++) {
        test_keys = unit_keys(c);
        failed += _cmocka_run_group_tests(crypt_cipher_name(c), tests, count, NULL, NULL);
        crypt_keys_unref(test_keys);
    }
    return failed;
}

static const struct uuid test_volume = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

enum fill {
    FILL_RANDOM,
    FILL_TEXT,
    FILL_MIXED,
};

/* A batch with memory of its own. */
struct test_batch {
    struct log_batch b;
    struct log_frame *frames;
    uint8_t *blocks;
    uint8_t *records;
};

static inline void fill_block(struct rng *g, enum fill fill, uint8_t *p)
{
    bool text = fill == FILL_TEXT || (fill == FILL_MIXED && rng_below(g, 2));
    for (size_t i = 0; i < LOG_BLOCK_BYTES; i++) {
        p[i] = text ? (uint8_t) "the quick brown fox "[(i + i / 700) % 20] : (uint8_t)rng_next(g);
    }
}

static inline struct test_batch make_batch(uint64_t seed, uint32_t frames, uint32_t records_len,
                                           enum fill fill)
{
    struct rng g = rng_seeded(seed);
    struct test_batch t = {
        .frames = calloc(frames + 1, sizeof *t.frames),
        .blocks = malloc((size_t)(frames + 1) * LOG_FRAME_BLOCKS_MAX * LOG_BLOCK_BYTES),
        .records = malloc(records_len + 1),
    };
    CHECK(t.frames && t.blocks && t.records);
    uint8_t *next = t.blocks;
    for (uint32_t i = 0; i < frames; i++) {
        struct log_frame *f = &t.frames[i];
        f->layer = rng_next(&g);
        f->page = rng_next(&g);
        f->count = (uint8_t)(1 + rng_below(&g, LOG_FRAME_BLOCKS_MAX));
        f->first_block = (uint8_t)rng_below(&g, LOG_FRAME_BLOCKS_MAX - f->count + 1u);
        for (unsigned b = 0; b < f->count; b++) {
            fill_block(&g, fill, next);
            f->blocks[b] = next;
            next += LOG_BLOCK_BYTES;
        }
        if (f->count > 1 && i % 2) { /* blocks that are no neighbours */
            const uint8_t *swapped = f->blocks[0];
            f->blocks[0] = f->blocks[1];
            f->blocks[1] = swapped;
        }
    }
    for (uint32_t i = 0; i < records_len; i++) {
        t.records[i] = (uint8_t)rng_next(&g);
    }
    t.b = (struct log_batch){.number = seed,
                             .frames = t.frames,
                             .frame_count = frames,
                             .records = t.records,
                             .records_len = records_len};
    return t;
}

static inline void free_batch(struct test_batch *t)
{
    free(t->frames);
    free(t->blocks);
    free(t->records);
}

static inline bool frame_holds(const struct log_frame *f, const uint8_t *got)
{
    for (unsigned b = 0; b < f->count; b++) {
        if (memcmp(f->blocks[b], got + (size_t)b * LOG_BLOCK_BYTES, LOG_BLOCK_BYTES) != 0) {
            return false;
        }
    }
    return true;
}

/* A log under test: its store and what replay saw. */
static inline struct log *make_log(struct obj_store *s, uint64_t epoch, uint64_t first_seq)
{
    struct log_options opt = {
        .store = s,
        .volume = test_volume,
        .keys = test_keys,
        .epoch = epoch,
        .open_id = {{(uint8_t)epoch, 1}},
        .first_seq = first_seq,
        .compression = {.codec = LOG_CODEC_LZ4},
    };
    struct log *l;
    CHECK(log_create(&opt, &l) == 0);
    return l;
}

/* Reserves and stores one batch of records that hold the number. */
static inline int commit_number(struct log *l, uint64_t number, uint64_t *ret_seq)
{
    uint64_t seq;
    int r = log_reserve(l, &seq);
    if (r < 0) {
        return r;
    }
    if (ret_seq) {
        *ret_seq = seq;
    }
    struct log_batch b = {
        .number = number, .records = (const uint8_t *)&number, .records_len = sizeof number};
    return log_commit(l, seq, &b);
}

/* What an apply() saw: numbers in order. */
struct seen {
    uint64_t numbers[4096];
    size_t count;
    int fail_with; /* what apply() gives */
};

static inline int see(void *arg, const struct log_replayed *b)
{
    struct seen *s = arg;
    uint64_t number;
    CHECK(b->records_len == sizeof number && b->frame_count == 0);
    memcpy(&number, b->records, sizeof number);
    CHECK(number == b->number);
    CHECK(s->count < 4096);
    s->numbers[s->count++] = number;
    return s->fail_with;
}

static inline struct log_open_options open_options(struct obj_store *s, uint64_t epoch)
{
    return (struct log_open_options){
        .store = s,
        .volume = test_volume,
        .keys = test_keys,
        .epoch = epoch,
        .open_id = {{(uint8_t)epoch, 1}},
        .replay_from = 1,
        .log_epoch = 0,
    };
}

static inline int one_salt(void *arg, uint64_t seq, struct log_salt *ret_salt)
{
    (void)seq;
    *ret_salt = *(const struct log_salt *)arg;
    return 0;
}

/* Reads one frame of a segment with that salt. */
static inline int read_frame(struct obj_store *s, const struct log_salt *salt,
                             const struct log_location *at, unsigned count,
                             struct rt_piece *ret_piece)
{
    struct log_salt copy = *salt;
    struct log_frames_options opt = {
        .store = s, .volume = test_volume, .keys = test_keys, .salt = one_salt, .arg = &copy};
    struct log_frames *f;
    CHECK(log_frames_create(&opt, &f) == 0);
    int r = log_frame_read(f, OBJ_READ, at, count, ret_piece);
    log_frames_destroy(f);
    return r;
}
