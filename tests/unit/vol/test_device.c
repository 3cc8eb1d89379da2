/* SPDX-License-Identifier: Apache-2.0 */
/* Discards of large devices, extents, sizes, the quota, deletion of segments, owners, cores. */
#include "volume.h"

#include "base/time.h"
#include "vol/vol_priv.h"

#define MIB (1u << 20)
#define GIB (1ull << 30)

static void write_block(struct rig *rig, uint64_t off)
{
    struct rt_chain c = {0};
    struct rt_buf *b;
    assert_int_equal(rt_buf_alloc(4096, RT_MEM_INGRESS, &b), 0);
    memset(b->data, 0x5a, 4096);
    assert_int_equal(rt_chain_add(&c, b, b->data, 4096), 0);
    rt_buf_unref(b);
    assert_int_equal(vol_write(rig->f, off, &c, NULL), 0);
    rt_chain_free(&c);
}

static bool reads_zeros(struct rig *rig, uint64_t off)
{
    struct rt_chain c = {0};
    uint8_t got[1024];
    assert_int_equal(vol_read(rig->f, off, sizeof got, &c), 0);
    rt_chain_copy_out(&c, 0, got, sizeof got);
    rt_chain_free(&c);
    for (size_t i = 0; i < sizeof got; i++) {
        if (got[i] != 0) {
            return false;
        }
    }
    return true;
}

static void empty_16_tib(struct rig *rig)
{
    rig_create(rig, 16384 * GIB);
    assert_int_equal(vol_flush(rig->v), 0);
    uint64_t before = rig_requests(rig, -1, -1);
    assert_int_equal(vol_discard(rig->f, 0, 16384 * GIB), 0);
    assert_true(reads_zeros(rig, 5000 * GIB));
    assert_int_equal(rig_requests(rig, -1, -1), before);
    struct vol_extent e;
    assert_int_equal(vol_extents(rig->f, 0, 16384 * GIB, &e, 1), 1);
    assert_int_equal(e.kind, VOL_EXTENT_HOLE);
    assert_int_equal(e.len, 16384 * GIB);
    rig_settle(rig);
    assert_true(rig_requests(rig, -1, -1) - before < 6);
}

static void sparse_1_tib(struct rig *rig)
{
    rig_create(rig, 1024 * GIB);
    for (uint64_t off = 0; off < 1024 * GIB; off += 64 * MIB) {
        write_block(rig, off);
    }
    assert_int_equal(vol_flush(rig->v), 0);
    struct vol_extent e[4];
    assert_int_equal(vol_extents(rig->f, 0, 1024 * GIB, e, 4), 4);
    assert_int_equal(e[1].len, 64 * MIB - 4096);
    assert_int_equal(e[2].kind, VOL_EXTENT_DATA);
    assert_int_equal(vol_discard(rig->f, 0, 1024 * GIB), 0);
    for (uint64_t off = 0; off < 1024 * GIB; off += 640 * MIB) {
        assert_true(reads_zeros(rig, off));
    }
    rig_settle(rig);
    struct vol_counts c;
    vol_counts(rig->v, &c);
    assert_int_equal(c.live_blocks, 0);
    assert_int_equal(vol_recount(rig->v), 0);
    assert_true(reads_zeros(rig, 0));
}

static void written_after_a_discard(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    for (unsigned i = 0; i < 64; i++) {
        rig_write(rig, i * MIB, MIB, i);
    }
    assert_int_equal(vol_flush(rig->v), 0);
    rig_discard(rig, 0, 64 * MIB);
    rig_write(rig, 7 * MIB, 3 * MIB, 77);
    rig_write(rig, 20 * MIB + 100, 5000, 78);
    rig_check_all(rig);
    assert_int_equal(vol_flush(rig->v), 0);
    rig_crash(rig);
    rig_check_all(rig);
    rig_settle(rig);
    rig_check_all(rig);
    rig_reopen(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

/* More pending range holes than a layer may have: the discard waits for the walker, and comes to
 * its end. */
/* Zeroes of less than two blocks, from a hole into data and from data into a hole. */
static void zeroes_over_an_edge(struct rig *rig)
{
    rig_create(rig, 4 * MIB);
    rig_write(rig, 34 * 4096, 4096, 1);
    rig_zero(rig, 33 * 4096 + 512, 4096, VOL_HOLE);
    rig_zero(rig, 34 * 4096 + 1024, 4096 - 512, VOL_HOLE);
    rig_check_all(rig);
    rig_reopen(rig);
    rig_check_all(rig);
}

static void many_discards(struct rig *rig)
{
    rig_create(rig, 1024 * GIB);
    for (uint64_t i = 0; i < 6000; i++) {
        assert_int_equal(vol_discard(rig->f, i * 128 * MIB, 64 * MIB), 0);
    }
    rig_settle(rig);
}

static void extents(struct rig *rig)
{
    struct vol_extent e[8];
    rig_create(rig, 8 * MIB + 512);
    rig_write(rig, 8192, 4096, 1);
    rig_zero(rig, 16384, 8192, VOL_ZEROED);
    rig_zero(rig, 24576, 4096, VOL_ANCHORED);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(vol_extents(rig->f, 4096, 65536, e, 8), 6);
        assert_true(e[0].kind == VOL_EXTENT_HOLE && e[0].off == 4096 && e[0].len == 4096);
        assert_true(e[1].kind == VOL_EXTENT_DATA && e[1].len == 4096);
        assert_true(e[2].kind == VOL_EXTENT_HOLE && e[2].len == 4096);
        assert_true(e[3].kind == VOL_EXTENT_ZERO && e[3].len == 8192);
        assert_true(e[4].kind == VOL_EXTENT_ANCHORED && e[4].len == 4096);
        assert_true(e[5].kind == VOL_EXTENT_HOLE && e[5].off + e[5].len == 4096 + 65536);
        assert_int_equal(vol_extents(rig->f, 9000, 100, e, 8), 1);
        assert_true(e[0].kind == VOL_EXTENT_DATA && e[0].off == 9000 && e[0].len == 100);
        rig_reopen(rig);
    }
    for (unsigned i = 0; i < 300; i++) {
        uint64_t off = rng_below(&rig->rng, 2000) * 4096;
        if (i % 3 == 0) {
            rig_discard(rig, off, 4096 * (1 + rng_below(&rig->rng, 40)));
        } else {
            rig_write(rig, off, 4096 * (1 + (uint32_t)rng_below(&rig->rng, 4)), i);
        }
        if (i % 50 == 0) {
            assert_int_equal(vol_flush(rig->v), 0);
            rig_check_extents(rig);
        }
    }
    assert_int_equal(vol_extents(rig->f, rig->size, 1, e, 8), -EINVAL);
}

static void sizes(struct rig *rig)
{
    rig_create(rig, 16 * MIB);
    for (unsigned i = 0; i < 16; i++) {
        rig_write(rig, i * MIB, MIB, i);
    }
    rig_resize(rig, 9 * MIB + 1536);
    struct rt_chain c = {0};
    assert_int_equal(vol_read(rig->f, 9 * MIB, 2048, &c), -EINVAL);
    rig_check_all(rig);
    rig_resize(rig, 16 * MIB);
    rig_check_all(rig);
    rig_reopen(rig);
    rig_check_all(rig);
    rig_resize(rig, 4096);
    rig_resize(rig, 16 * MIB);
    rig_check_all(rig);
    rig_settle(rig);
    struct vol_counts counts;
    vol_counts(rig->v, &counts);
    assert_int_equal(counts.live_blocks, 1);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void quota(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    struct rt_chain zeros = {0};
    assert_int_equal(rt_chain_add_zeros(&zeros, MIB, 0), 0);
    int r = 0;
    unsigned written = 0;
    while (r == 0) {
        r = vol_write(rig->f, written * (uint64_t)MIB, &zeros, NULL);
        written += r == 0;
    }
    assert_int_equal(r, -ENOSPC);
    assert_in_range(written, 7, 9);
    uint64_t used;
    uint64_t max;
    vol_usage(rig->v, &used, &max);
    assert_true(used >= max);
    assert_int_equal(vol_zero(rig->f, 40 * MIB + 512, 1024, VOL_ZEROED), -ENOSPC);
    /* A hole takes no room, with edges in blocks of data and in others. */
    assert_int_equal(vol_zero(rig->f, 4096 + 512, 3 * 4096, VOL_HOLE), 0);
    assert_int_equal(vol_zero(rig->f, 40 * MIB + 512, 1024, VOL_HOLE), 0);
    struct vol_extent e[4];
    assert_int_equal(vol_extents(rig->f, 0, 5 * 4096, e, 4), 3);
    assert_true(e[0].kind == VOL_EXTENT_DATA && e[0].len == 8192);
    assert_true(e[1].kind == VOL_EXTENT_HOLE && e[1].len == 8192);
    assert_int_equal(vol_extents(rig->f, 40 * MIB, MIB, e, 4), 1);
    assert_int_equal(e[0].kind, VOL_EXTENT_HOLE);
    /* What was discarded is there for the next who writes, and so once more, range by range. */
    assert_int_equal(vol_discard(rig->f, 0, 64 * MIB), 0);
    for (unsigned i = 0; i < written; i++) {
        assert_int_equal(vol_write(rig->f, i * (uint64_t)MIB, &zeros, NULL), 0);
    }
    r = vol_write(rig->f, 20 * MIB, &zeros, NULL);
    assert_true(r == 0 || r == -ENOSPC);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(vol_discard(rig->f, i * (uint64_t)MIB, MIB), 0);
        assert_int_equal(vol_write(rig->f, (30 + i) * (uint64_t)MIB, &zeros, NULL), 0);
    }
    assert_int_equal(vol_discard(rig->f, 0, 64 * MIB), 0);
    rig_settle(rig);
    /* What is written over needs no space, however late it is applied. */
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(vol_write(rig->f, i % 3 * 2 * MIB, &zeros, NULL), 0);
    }
    rig_settle(rig);
    vol_usage(rig->v, &used, &max);
    assert_int_equal(used, 3 * MIB);
    rt_chain_free(&zeros);
}

static uint64_t refused_after_ms(struct rig *rig, const struct rt_chain *data)
{
    uint64_t from = rt_now_ns();
    assert_int_equal(vol_write(rig->f, 60 * MIB, data, NULL), -ENOSPC);
    return (rt_now_ns() - from) / 1000000;
}

static void waits_first(void *arg)
{
    struct rig *rig = arg;
    struct rt_chain zeros = {0};
    assert_int_equal(rt_chain_add_zeros(&zeros, MIB, 0), 0);
    assert_in_range(refused_after_ms(rig, &zeros), 9000, 11000);
    rt_chain_free(&zeros);
}

/* As a discard does. */
static void give_hope(struct rig *rig)
{
    rt_mutex_lock(&rig->v->hole_m);
    rig->v->hole_until_ns = 0;
    rt_mutex_unlock(&rig->v->hole_m);
}

/* Too late for the first of them. */
static void gives_hope(void *arg)
{
    assert_int_equal(rt_sleep_ms(9500), 0);
    give_hope(arg);
}

/* Who waits already has the new time as well as whoever comes after it has begun. */
static void waits_anew(struct rig *rig, const struct rt_chain *zeros)
{
    struct rt_group *g;
    assert_int_equal(rt_group_create(&g), 0);
    give_hope(rig);
    assert_int_equal(rt_group_spawn(g, "first", waits_first, rig), 0);
    assert_int_equal(rt_group_spawn(g, "hope", gives_hope, rig), 0);
    assert_int_equal(rt_sleep_ms(9000), 0);
    assert_in_range(refused_after_ms(rig, zeros), 9000, 11000);
    rt_group_wait(g);
    rt_group_destroy(g);
}

/* Who comes later does not wait as long again for what is not worked off. */
static void full_and_stuck(struct rig *rig)
{
    rig_create(rig, 64 * MIB);
    struct rt_chain zeros = {0};
    assert_int_equal(rt_chain_add_zeros(&zeros, MIB, 0), 0);
    for (uint64_t off = 0; vol_write(rig->f, off, &zeros, NULL) == 0; off += MIB) {
    }
    assert_in_range(refused_after_ms(rig, &zeros), 0, 1000);
    /* One that the walker does not know of before there is something to apply. */
    struct vol_hole stuck = {.layer = 1ull << 40, .batch = 1, .end = 1};
    struct vol_hole_list covered = {0};
    assert_int_equal(vol_holes_add(rig->v->holes, &stuck, &covered), 0);
    assert_in_range(refused_after_ms(rig, &zeros), 9000, 11000);
    assert_in_range(refused_after_ms(rig, &zeros), 0, 1000);
    assert_in_range(refused_after_ms(rig, &zeros), 0, 1000);
    waits_anew(rig, &zeros);
    assert_int_equal(vol_discard(rig->f, 0, 64 * MIB), 0);
    assert_int_equal(vol_write(rig->f, 60 * MIB, &zeros, NULL), 0);
    rig_settle(rig);
    assert_int_equal(vol_holes_pending(rig->v->holes), 0);
    rt_chain_free(&zeros);
}

static uint64_t segments_there(struct rig *rig)
{
    struct obj_names names = {0};
    assert_int_equal(obj_list(rig->store, OBJ_COLLECT, "segments/", "", 10000, &names), 0);
    uint64_t count = names.names.len;
    obj_names_free(&names);
    return count;
}

static void dead_segments_go(struct rig *rig)
{
    rig_create(rig, 4 * MIB);
    for (unsigned i = 0; i < 200; i++) {
        rig_write(rig, rng_below(&rig->rng, 8) * 4096, 4096, i);
        assert_int_equal(vol_flush(rig->v), 0);
    }
    /* The grace has not passed: nothing is deleted. */
    assert_true(segments_there(rig) >= 200);
    assert_int_equal(rt_sleep_ms(700000), 0);
    rig_write(rig, 0, 4096, 1);
    assert_int_equal(vol_flush(rig->v), 0);
    /* Those above the replay position, and what is alive. */
    assert_in_range(segments_there(rig), 1, 40);
    rig_check_all(rig);
    rig_reopen(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

static void owners(struct rig *rig)
{
    rig_create(rig, MIB);
    rig_write(rig, 0, 4096, 1);
    assert_int_equal(vol_flush(rig->v), 0);
    struct vol *v = rig->v;
    struct vol_file *f = rig->f;
    rig->opt.owner = "elsewhere";
    assert_int_equal(rig_open_r(rig), ERR_OPEN_ELSEWHERE);
    rig->opt.takeover = true;
    rig_open(rig);
    rig_check_all(rig);
    /* The old one learns of it with its next flush, and is told so from then on. */
    struct rt_chain zeros = {0};
    assert_int_equal(rt_chain_add_zeros(&zeros, 4096, 0), 0);
    assert_int_equal(vol_write(f, 8192, &zeros, NULL), 0);
    assert_int_equal(vol_flush(v), ERR_FENCED);
    assert_int_equal(vol_write(f, 8192, &zeros, NULL), ERR_FENCED);
    assert_true(vol_is_fenced(v));
    rt_chain_free(&zeros);
    vol_file_close(f);
    assert_int_equal(vol_close(v), ERR_FENCED);
    rig_close(rig);
    rig->opt.owner = "a third";
    rig->opt.takeover = false;
    rig_open(rig);
    rig_check_all(rig);
}

static void formats(struct rig *rig)
{
    assert_int_equal(vol_format(rig->store, &(struct vol_format_options){0}), -EEXIST);
    struct obj_store *other;
    struct rt_chain body = {0};
    assert_int_equal(obj_mem_open(&other), 0);
    assert_int_equal(vol_probe(other), ERR_NOT_A_VOLUME);
    assert_int_equal(rt_chain_add_zeros(&body, 10, 0), 0);
    assert_int_equal(obj_put(other, OBJ_INDEX, "something", &body), 0);
    assert_int_equal(vol_format(other, &(struct vol_format_options){0}), ERR_PREFIX_NOT_EMPTY);
    assert_int_equal(obj_remove(other, OBJ_INDEX, "something"), 0);
    assert_int_equal(vol_format(other, &(struct vol_format_options){0}), 0);
    assert_int_equal(vol_probe(other), 0);
    rt_chain_free(&body);
    obj_close(other);
}

static void read_only(struct rig *rig)
{
    rig_create(rig, 4 * MIB);
    rig_write(rig, MIB, MIB, 1);
    assert_int_equal(vol_flush(rig->v), 0);
    struct vol *v = rig->v;
    struct vol_file *f = rig->f;
    rig->opt.read_only = true;
    uint64_t puts = rig_requests(rig, -1, OBJ_PUT);
    rig_open(rig);
    rig_check_all(rig);
    struct rt_chain zeros = {0};
    assert_int_equal(rt_chain_add_zeros(&zeros, 4096, 0), 0);
    assert_int_equal(vol_write(rig->f, 0, &zeros, NULL), -EROFS);
    rt_chain_free(&zeros);
    rig_close(rig);
    assert_int_equal(rig_requests(rig, -1, OBJ_PUT), puts);
    rig->opt.read_only = false;
    rig->v = v;
    rig->f = f;
}

static int count_each(void *arg, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    unsigned *count = arg;
    const uint8_t *k = key;
    assert_int_equal(key_len, 2);
    assert_int_equal(value_len, 1);
    assert_int_equal(((const uint8_t *)value)[0], k[1]);
    (*count)++;
    return 0;
}

static void metadata(struct rig *rig)
{
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = round; i < 100; i += 3) {
            uint8_t key[2] = {0x50, (uint8_t)i};
            struct vol_txn *t;
            assert_int_equal(vol_txn_begin(rig->v, &t), 0);
            if (round == 3) {
                assert_int_equal(vol_txn_delete(t, key, 2), 0);
            } else {
                assert_int_equal(vol_txn_put(t, key, 2, &key[1], 1), 0);
            }
            assert_int_equal(vol_txn_commit(t), 0);
        }
        if (round % 2 == 0) {
            assert_int_equal(vol_flush(rig->v), 0);
        }
    }
    for (int round = 0; round < 2; round++) {
        unsigned count = 0;
        uint8_t prefix = 0x50;
        assert_int_equal(vol_scan(rig->v, &prefix, 1, count_each, &count), 0);
        assert_int_equal(count, 100 - 33);
        struct bytes_writer w = {0};
        assert_int_equal(vol_get(rig->v, (uint8_t[]){0x50, 3}, 2, &w), -ENOENT);
        assert_int_equal(vol_get(rig->v, (uint8_t[]){0x50, 0}, 2, &w), 0);
        bytes_writer_free(&w);
        rig_reopen(rig);
    }
}

/* The store is away for a minute of virtual time: writes wait at the limit, nothing is lost, all
 * goes on. */
static void outage(struct rig *rig)
{
    struct obj_store *good = rig->store;
    struct obj_store *fault;
    struct obj_store *s;
    struct obj_fault_options down = {.down_until_ns = 0};
    rig_create(rig, 64 * MIB);
    rig_close(rig);
    assert_int_equal(obj_share(good, &s), 0);
    assert_int_equal(obj_fault_wrap(s, &down, &fault), 0);
    assert_int_equal(obj_retry_wrap(fault, &(struct obj_retry_options){0}, &s), 0);
    rig->store = s;
    rig_open(rig);
    uint64_t start = rt_now_ns();
    down.down_until_ns = rt_after_ms(60000);
    obj_fault_set(fault, &down);
    for (unsigned i = 0; i < 64; i++) {
        rig_write(rig, i * MIB, MIB, i);
    }
    assert_true(rt_now_ns() - start >= 60 * NS_PER_S);
    assert_int_equal(vol_flush(rig->v), 0);
    rig_check_all(rig);
    rig_close(rig);
    obj_close(s);
    rig->store = good;
    rig_open(rig);
    rig_check_all(rig);
}

/* Fibers on several cores, each with its own part of the device. */
#define LANES 8u

struct lane {
    struct rig *rig;
    unsigned index;
    _Atomic unsigned *done;
};

static void lane_run(void *arg)
{
    struct lane *lane = arg;
    struct rig rig = *lane->rig;
    uint64_t part = rig.size / LANES;
    uint64_t base = lane->index * part;
    rig.rng = rng_seeded(lane->index + 100);
    for (unsigned i = 0; i < 600; i++) {
        uint64_t off = base + rng_below(&rig.rng, part / 4096 - 8) * 4096;
        uint32_t len = 4096 * (1 + (uint32_t)rng_below(&rig.rng, 8));
        switch (rng_below(&rig.rng, 16)) {
        case 0:
            assert_int_equal(vol_flush(rig.v), 0);
            break;
        case 1:
            rig_zero(&rig, off, len, VOL_HOLE);
            break;
        case 2:
            rig_zero(&rig, base, part, VOL_HOLE);
            break;
        case 3:
        case 4:
        case 5:
        case 6:
            rig_check(&rig, off, len);
            break;
        default:
            rig_write(&rig, off, len, i);
            break;
        }
        if (i % 16 == 0) {
            rt_yield();
        }
    }
    atomic_fetch_add(lane->done, 1);
}

static void cores(struct rig *rig)
{
    static struct lane lanes[LANES];
    static _Atomic unsigned done;
    atomic_store(&done, 0);
    rig_create(rig, 24 * MIB);
    for (unsigned i = 0; i < LANES; i++) {
        lanes[i] = (struct lane){rig, i, &done};
        assert_int_equal(rt_spawn_on(i % rt_core_count(), "lane", lane_run, &lanes[i]), 0);
    }
    while (atomic_load(&done) < LANES) {
        assert_int_equal(rt_sleep_ms(1), 0);
    }
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
    rig_reopen(rig);
    rig_check_all(rig);
    assert_int_equal(vol_recount(rig->v), 0);
}

#define RUN(name)                                                                                  \
    static void run_##name(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        rig_run(name);                                                                             \
    }
RUN(empty_16_tib)
RUN(sparse_1_tib)
RUN(written_after_a_discard)
RUN(zeroes_over_an_edge)
RUN(many_discards)
RUN(extents)
RUN(sizes)
RUN(owners)
RUN(formats)
RUN(read_only)
RUN(metadata)
RUN(outage)

static void run_quota(void **state)
{
    (void)state;
    rig_run_with(
        quota, &(struct vol_options){.memory_bytes = 64u << 20, .max_size_bytes = 8u << 20}, true);
}

static void run_full_and_stuck(void **state)
{
    (void)state;
    rig_run_with(full_and_stuck,
                 &(struct vol_options){.memory_bytes = 64u << 20, .max_size_bytes = 8u << 20},
                 true);
}

static void run_dead_segments_go(void **state)
{
    (void)state;
    rig_run_with(dead_segments_go,
                 &(struct vol_options){.memory_bytes = 64u << 20, .segments_max = 20}, true);
}

static void run_cores(void **state)
{
    (void)state;
    struct rig_main m = {.body = cores, .opt = {.memory_bytes = 16u << 20}};
    assert_int_equal(rt_run(&(struct rt_options){.cores = 3}, rig_fiber, &m), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_empty_16_tib),
        cmocka_unit_test(run_sparse_1_tib),
        cmocka_unit_test(run_many_discards),
        cmocka_unit_test(run_written_after_a_discard),
        cmocka_unit_test(run_zeroes_over_an_edge),
        cmocka_unit_test(run_extents),
        cmocka_unit_test(run_sizes),
        cmocka_unit_test(run_quota),
        cmocka_unit_test(run_full_and_stuck),
        cmocka_unit_test(run_dead_segments_go),
        cmocka_unit_test(run_owners),
        cmocka_unit_test(run_formats),
        cmocka_unit_test(run_read_only),
        cmocka_unit_test(run_metadata),
        cmocka_unit_test(run_outage),
        cmocka_unit_test(run_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
