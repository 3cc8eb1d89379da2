/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the volume: a store that outlives openings, a file of it, and a model of that file
 * in plain bytes.
 *
 *     static void body(struct rig *rig) { rig_write(rig, 0, 4096, 7); rig_check_all(rig); }
 *     rig_run(body);                       // on a fiber of the simulator's runtime
 */
#pragma once
#include "unit.h"

#include "base/err.h"
#include "base/rng.h"
#include "obj/obj.h"
#include "obj/obj_layers.h"
#include "rt/rt.h"
#include "vol/vol.h"
#include <stdio.h>

struct rig {
    struct obj_store *store; /* stats over memory */
    struct vol *v;
    struct vol_file *f;
    uint64_t inode;
    uint8_t *model;
    uint64_t size;
    struct vol_options opt;
    struct rng rng;
};

static inline int rig_open_r(struct rig *rig)
{
    rig->opt.store = rig->store;
    if (!rig->opt.owner) {
        rig->opt.owner = "here";
    }
    return vol_open(&rig->opt, &rig->v);
}

static inline void rig_open(struct rig *rig)
{
    assert_int_equal(rig_open_r(rig), 0);
    if (rig->inode) {
        assert_int_equal(vol_file_open(rig->v, rig->inode, &rig->f), 0);
    }
}

static inline void rig_create(struct rig *rig, uint64_t size)
{
    struct vol_txn *t;
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_create(t, size, &rig->inode), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    assert_int_equal(vol_file_open(rig->v, rig->inode, &rig->f), 0);
    rig->size = size;
    if (size <= 64u << 20) {
        rig->model = calloc(1, size);
        assert_non_null(rig->model);
    }
}

static inline void rig_close(struct rig *rig)
{
    vol_file_close(rig->f);
    rig->f = NULL;
    assert_int_equal(vol_close(rig->v), 0);
    rig->v = NULL;
}

static inline void rig_reopen(struct rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

/* kill -9: what was not flushed may be gone. */
static inline void rig_crash(struct rig *rig)
{
    vol_file_close(rig->f);
    rig->f = NULL;
    vol_abandon(rig->v);
    rig_open(rig);
}

static inline void rig_fill(uint8_t *p, uint64_t len, uint64_t seed)
{
    struct rng g = rng_seeded(seed);
    for (uint64_t i = 0; i < len; i++) {
        p[i] = i % 64 == 0 ? (uint8_t)rng_next(&g) : (uint8_t)(seed + i);
    }
}

static inline int rig_write_by(struct rig *rig, uint64_t off, uint32_t len, uint64_t seed,
                               int (*write)(struct vol_file *f, uint64_t off,
                                            const struct rt_chain *data, struct vol_space *space))
{
    struct rt_buf *b;
    struct rt_chain chain = {0};
    assert_int_equal(rt_buf_alloc(len, RT_MEM_INGRESS, &b), 0);
    rig_fill(b->data, len, seed);
    assert_int_equal(rt_chain_add(&chain, b, b->data, len), 0);
    int r = write(rig->f, off, &chain, NULL);
    if (rig->model && r == 0) {
        memcpy(rig->model + off, b->data, len);
    }
    rt_buf_unref(b);
    rt_chain_free(&chain);
    return r;
}

static inline void rig_write(struct rig *rig, uint64_t off, uint32_t len, uint64_t seed)
{
    assert_int_equal(rig_write_by(rig, off, len, seed, vol_write), 0);
}

/* What can be read without a wait, in pieces of some pages, is what the model says: how many could.
 */
static inline unsigned rig_check_ready(struct rig *rig, uint64_t off, uint32_t len)
{
    struct vol_ready reads[5];
    uint8_t *got = malloc(32768);
    struct rng g = rng_seeded(off);
    unsigned done = 0;
    assert_non_null(got);
    for (uint64_t at = off; at < off + len;) {
        size_t n = 0;
        for (; n < ARRAY_LEN(reads) && at < off + len; n++) {
            uint64_t step = 32768 - at % 32768;
            step = MIN_OF(step, rng_below(&g, 2) ? 4096 - at % 4096 : 13000);
            step = MIN_OF(step, off + len - at);
            reads[n] = (struct vol_ready){.off = at, .len = (uint32_t)step};
            at += step;
        }
        vol_read_ready(rig->f, reads, n);
        for (size_t i = 0; i < n; i++) {
            assert_true(reads[i].result == 0 || reads[i].result == -EAGAIN);
            assert_int_equal(reads[i].data.len, reads[i].result == 0 ? reads[i].len : 0);
            rt_chain_copy_out(&reads[i].data, 0, got, reads[i].data.len);
            assert_memory_equal(got, rig->model + reads[i].off, reads[i].data.len);
            rt_chain_free(&reads[i].data);
            done += reads[i].result == 0;
        }
    }
    free(got);
    return done;
}

static inline void rig_check(struct rig *rig, uint64_t off, uint32_t len)
{
    (void)rig_check_ready(rig, off, len);
    struct rt_chain chain = {0};
    uint8_t *got = malloc(len ? len : 1);
    assert_non_null(got);
    assert_int_equal(vol_read(rig->f, off, len, &chain), 0);
    assert_int_equal(chain.len, len);
    rt_chain_copy_out(&chain, 0, got, len);
    rt_chain_free(&chain);
    for (uint32_t i = 0; i < len; i++) {
        if (got[i] != rig->model[off + i]) {
            fail_msg("byte %llu is %02x, not %02x", (unsigned long long)(off + i), got[i],
                     rig->model[off + i]);
        }
    }
    free(got);
}

static inline void rig_check_all(struct rig *rig)
{
    for (uint64_t off = 0; off < rig->size; off += 1u << 20) {
        uint64_t left = rig->size - off;
        rig_check(rig, off, (uint32_t)(left < 1u << 20 ? left : 1u << 20));
    }
}

static inline void rig_zero(struct rig *rig, uint64_t off, uint64_t len, enum vol_zero_kind kind)
{
    if (rig->model) {
        memset(rig->model + off, 0, len);
    }
    assert_int_equal(vol_zero(rig->f, off, len, kind), 0);
}

static inline void rig_discard(struct rig *rig, uint64_t off, uint64_t len)
{
    uint64_t first = (off + 4095) / 4096 * 4096;
    uint64_t end = off + len == rig->size ? rig->size : (off + len) / 4096 * 4096;
    if (rig->model && first < end) {
        memset(rig->model + first, 0, end - first);
    }
    assert_int_equal(vol_discard(rig->f, off, len), 0);
}

/* Until the walker is done and everything is applied. */
static inline void rig_settle(struct rig *rig)
{
    struct vol_counts c;
    uint64_t deadline = rt_after_ms(600000);
    do {
        assert_int_equal(vol_flush(rig->v), 0);
        assert_int_equal(rt_sleep_ms(100), 0);
        vol_counts(rig->v, &c);
        assert_true(rt_now_ns() < deadline);
    } while (c.range_holes > 0 || c.batches_open > 1);
}

/* The extents are in order, without gaps, and what is no data reads as zeros. */
static inline void rig_check_extents(struct rig *rig)
{
    struct vol_extent e[64];
    uint64_t at = 0;
    while (at < rig->size) {
        int n = vol_extents(rig->f, at, rig->size - at, e, 64);
        assert_true(n > 0);
        for (int i = 0; i < n; i++) {
            assert_int_equal(e[i].off, at);
            assert_true(e[i].len > 0);
            assert_true(i == 0 || e[i].kind != e[i - 1].kind);
            for (uint64_t k = at; e[i].kind != VOL_EXTENT_DATA && k < at + e[i].len; k++) {
                assert_int_equal(rig->model[k], 0);
            }
            at += e[i].len;
        }
    }
    assert_int_equal(at, rig->size);
}

static inline void rig_resize(struct rig *rig, uint64_t size)
{
    struct vol_txn *t;
    assert_int_equal(vol_txn_begin(rig->v, &t), 0);
    assert_int_equal(vol_txn_inode_resize(t, rig->inode, size), 0);
    assert_int_equal(vol_txn_commit(t), 0);
    if (size < rig->size) {
        memset(rig->model + size, 0, rig->size - size);
    }
    rig->size = size;
    assert_int_equal(vol_file_size(rig->f), size);
}

static inline uint64_t rig_requests(struct rig *rig, int class, int kind)
{
    struct obj_counts c;
    obj_counts(rig->store, &c);
    uint64_t sum = 0;
    for (int i = 0; i < OBJ_CLASSES; i++) {
        for (int k = 0; k < OBJ_KINDS; k++) {
            sum += (class < 0 || class == i) && (kind < 0 || kind == k) ? c.requests[i][k] : 0;
        }
    }
    return sum;
}

struct rig_main {
    void (*body)(struct rig *rig);
    struct vol_options opt;
    uint64_t seed;
};

static inline void rig_fiber(void *arg)
{
    struct rig_main *m = arg;
    struct rig rig = {.opt = m->opt, .rng = rng_seeded(m->seed)};
    struct obj_store *mem;
    assert_int_equal(obj_mem_open(&mem), 0);
    assert_int_equal(obj_stats_wrap(mem, &rig.store), 0);
    assert_int_equal(vol_format(rig.store, &(struct vol_format_options){0}), 0);
    rig_open(&rig);
    m->body(&rig);
    if (rig.v) {
        vol_file_close(rig.f);
        assert_int_equal(vol_close(rig.v), 0);
    }
    obj_close(rig.store);
    free(rig.model);
}

static inline void rig_run_with(void (*body)(struct rig *rig), const struct vol_options *opt,
                                bool sim)
{
    struct rig_main m = {.body = body, .opt = *opt, .seed = 1};
    struct rt_options ro = {.cores = 1, .sim = sim, .sim_seed = 42};
    assert_int_equal(rt_run(&ro, rig_fiber, &m), 0);
}

static inline void rig_run_seeded(void (*body)(struct rig *rig), const struct vol_options *opt,
                                  uint64_t seed)
{
    struct rig_main m = {.body = body, .opt = *opt, .seed = seed};
    struct rt_options ro = {.cores = 1, .sim = true, .sim_seed = seed};
    assert_int_equal(rt_run(&ro, rig_fiber, &m), 0);
}

static inline void rig_run(void (*body)(struct rig *rig))
{
    rig_run_with(body, &(struct vol_options){.memory_bytes = 64u << 20}, true);
}
