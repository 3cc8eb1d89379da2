/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One simulated process: opens the volume, verifies all of it, lets workers write, discard, zero,
 * read and flush, resizes the device now and then, or puts a new layer on its stack, closes or
 * abandons, and opens again. Each worker has a part of the device to itself, as range locks would
 * give it.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "vol/stack.h"
#include "vol_proc.h"
#include <inttypes.h>
#include <stdio.h>

#define RUN_SECTORS_MAX 128u
#define LAYERS_MOST 4u

struct worker {
    struct proc *p;
    unsigned index;
};

bool proc_chance(unsigned percent)
{
    return rt_random() % 100 < percent;
}

bool proc_is_current(const struct proc *p)
{
    return p->w->current == p->life;
}

static struct obj_store *stack_of(struct proc *p)
{
    struct rng g = rng_seeded(p->w->seed * 64 + p->id);
    struct obj_store *s;
    int r = obj_share(p->w->spy, &s);
    double scale = p->last ? 0 : (double)rng_below(&g, 4) * 0.02;
    if (r == 0 && !p->last) {
        r = obj_delay_wrap(s, &(struct obj_delay_options){0, 1 + rng_below(&g, 60)}, &s);
    }
    struct obj_fault_options f = {.seed = rng_next(&g),
                                  .fail_before = scale,
                                  .fail_after = scale,
                                  .duplicate = scale,
                                  .late = scale,
                                  .late_ms = 10 + rng_below(&g, 3000)};
    if (r == 0 && !p->last) {
        r = obj_fault_wrap(s, &f, &s);
    }
    if (r == 0) {
        r = obj_retry_wrap(s, &(struct obj_retry_options){5, 100, 0, false}, &s);
    }
    ASSERT(r == 0);
    return s;
}

/* An answer that only one who was replaced may get. */
void proc_check(struct proc *p, const char *what, int r)
{
    if (r < 0) {
        msg_debug("sim", "process %u: %s: %s", p->id, what, err_name(r));
    }
    if (r == 0 || r == ERR_FENCED || r == -ECANCELED || !proc_is_current(p)) {
        return;
    }
    world_violation(p->w, "answer", "%s by the owner: %s", what, err_name(r));
}

/* The sector may have been copied to where it is. */
void sector_fill(uint8_t *at, uint64_t value)
{
    memset(at, 0, SECTOR_BYTES);
    if (value != 0) {
        le64_store(at, value);
        le64_store(at + 8, ~value);
        le64_store(at + SECTOR_BYTES - 8, value);
    }
}

static uint64_t sector_value(struct proc *p, const uint8_t *at, uint64_t sector)
{
    uint8_t want[SECTOR_BYTES];
    uint64_t value = le64_load(at);
    sector_fill(want, value);
    if (memcmp(at, want, SECTOR_BYTES) != 0) {
        world_violation(p->w, "I12",
                        "sector %" PRIu64 " is torn: %" PRIu64 " and %" PRIu64 " of %" PRIu64,
                        sector, value, le64_load(at + SECTOR_BYTES - 8), le64_load(at + 8));
    }
    return value;
}

/* Reads count sectors (at most RUN_SECTORS_MAX) and gives their values. */
static int values_read(struct proc *p, uint64_t first, uint64_t count, uint64_t *ret_values)
{
    auto_free uint8_t *bytes = malloc(count * SECTOR_BYTES);
    struct rt_chain chain = {0};
    ASSERT(bytes != NULL);
    int r = vol_read(p->f, first * SECTOR_BYTES, (uint32_t)(count * SECTOR_BYTES), &chain);
    if (r == 0) {
        rt_chain_copy_out(&chain, 0, bytes, count * SECTOR_BYTES);
        for (uint64_t i = 0; i < count; i++) {
            ret_values[i] = sector_value(p, bytes + i * SECTOR_BYTES, first + i);
        }
    }
    rt_chain_free(&chain);
    return r;
}

static void do_read(struct proc *p, uint64_t first, uint64_t count)
{
    uint64_t values[RUN_SECTORS_MAX];
    int r = values_read(p, first, count, values);
    proc_check(p, "a read", r);
    for (uint64_t i = 0; r == 0 && proc_is_current(p) && i < count; i++) {
        uint64_t want = model_value(&p->w->model, first + i);
        if (values[i] != want) {
            world_violation(p->w, "read", "sector %" PRIu64 " reads %" PRIu64 ", not %" PRIu64,
                            first + i, values[i], want);
        }
    }
}

static void do_write(struct proc *p, uint64_t first, uint64_t count)
{
    struct rt_buf *b;
    struct rt_chain chain = {0};
    uint32_t op = model_begin(p->w, p->life, true);
    model_write(p->w, op, first, count);
    int r = rt_buf_alloc(count * SECTOR_BYTES, RT_MEM_INGRESS, &b);
    ASSERT(r == 0);
    for (uint64_t i = 0; i < count; i++) {
        sector_fill(b->data + i * SECTOR_BYTES, model_value_of(op, first + i));
    }
    r = rt_chain_add(&chain, b, b->data, (uint32_t)(count * SECTOR_BYTES));
    ASSERT(r == 0);
    rt_buf_unref(b);
    r = proc_chance(50) ? vol_write(p->f, first * SECTOR_BYTES, &chain, NULL)
                        : vol_write_atomic(p->f, first * SECTOR_BYTES, &chain, NULL);
    rt_chain_free(&chain);
    proc_check(p, "a write", r);
    if (r == 0) {
        model_end(p->w, op);
    }
}

static void do_zero(struct proc *p, uint64_t first, uint64_t count)
{
    uint32_t op = model_begin(p->w, p->life, false);
    bool discard = proc_chance(60);
    uint64_t from = first;
    uint64_t upto = first + count;
    if (discard) {
        uint64_t per = VOL_BLOCK_BYTES / SECTOR_BYTES;
        from = (first + per - 1) / per * per;
        upto = upto * SECTOR_BYTES == p->w->model.size ? upto : upto / per * per;
    }
    if (from < upto) {
        model_change(p->w, op, from, upto - from, 0);
    }
    int r = discard ? vol_discard(p->f, first * SECTOR_BYTES, count * SECTOR_BYTES)
                    : vol_zero(p->f, first * SECTOR_BYTES, count * SECTOR_BYTES,
                               (enum vol_zero_kind)(rt_random() % 3));
    proc_check(p, discard ? "a discard" : "zeroes", r);
    if (r == 0) {
        model_end(p->w, op);
    }
}

static void do_copy(struct proc *p, uint64_t from, uint64_t to, uint64_t count)
{
    uint32_t op = model_begin(p->w, p->life, false);
    model_copy(p->w, op, from, to, count);
    int r = vol_copy(p->f, from * SECTOR_BYTES, p->f, to * SECTOR_BYTES, count * SECTOR_BYTES);
    proc_check(p, "a copy", r);
    if (r == 0) {
        model_end(p->w, op);
    }
}

#define HOLDS_MAX 64u

struct holds {
    size_t count;
    uint64_t inodes[HOLDS_MAX];
};

static void hold_key(uint64_t inode, uint8_t ret_key[9])
{
    ret_key[0] = 0x41;
    be64_store(ret_key + 1, inode);
}

/* With a record, by which the next opening finds what a crash leaves of it. */
int proc_hold_make(struct proc *p, uint64_t size, uint64_t *ret_inode, struct vol_file **ret_hold)
{
    uint8_t key[9];
    struct vol_txn *t;
    int r = vol_txn_begin(p->v, &t);
    ASSERT(r == 0);
    r = vol_txn_inode_create(t, size, ret_inode);
    ASSERT(r == 0);
    hold_key(*ret_inode, key);
    r = vol_txn_put(t, key, sizeof key, key, 1);
    ASSERT(r == 0);
    r = vol_txn_commit(t);
    return r < 0 ? r : vol_file_open(p->v, *ret_inode, ret_hold);
}

void proc_hold_delete(struct proc *p, uint64_t inode)
{
    uint8_t key[9];
    struct vol_txn *t;
    int r = vol_txn_begin(p->v, &t);
    ASSERT(r == 0);
    hold_key(inode, key);
    r = vol_txn_delete(t, key, sizeof key);
    ASSERT(r == 0);
    r = vol_txn_inode_delete(t, inode);
    ASSERT(r == 0);
    proc_check(p, "a deleted inode", vol_txn_commit(t));
}

static int hold_found(void *arg, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct holds *all = arg;
    (void)value;
    ASSERT(key_len == 9 && value_len == 1 && all->count < HOLDS_MAX);
    all->inodes[all->count++] = be64_load((const uint8_t *)key + 1);
    return 0;
}

static void holds_reclaim(struct proc *p)
{
    const uint8_t prefix = 0x41;
    struct holds all = {0};
    proc_check(p, "a scan", vol_scan(p->v, &prefix, 1, hold_found, &all));
    for (size_t i = 0; i < all.count; i++) {
        proc_hold_delete(p, all.inodes[i]);
    }
}

/* A copy by way of another file, which goes then. */
static void do_hold(struct proc *p, uint64_t from, uint64_t to, uint64_t count)
{
    uint64_t off = from % 8 * SECTOR_BYTES;
    uint64_t len = count * SECTOR_BYTES;
    uint64_t inode;
    struct vol_file *hold;
    int r = proc_hold_make(p, off + len, &inode, &hold);
    proc_check(p, "a new inode", r);
    if (r < 0) {
        return;
    }
    r = vol_copy(p->f, from * SECTOR_BYTES, hold, off, len);
    proc_check(p, "a copy into a hold", r);
    if (r == 0) {
        uint32_t op = model_begin(p->w, p->life, false);
        model_copy(p->w, op, from, to, count);
        r = vol_copy(hold, off, p->f, to * SECTOR_BYTES, len);
        proc_check(p, "a copy out of a hold", r);
        if (r == 0) {
            model_end(p->w, op);
        }
    }
    vol_file_close(hold);
    proc_hold_delete(p, inode);
}

static void do_put(struct proc *p, unsigned index)
{
    uint8_t key[2] = {0x40, (uint8_t)index};
    uint8_t value[8];
    struct vol_txn *t;
    uint32_t op = model_begin(p->w, p->life, true);
    model_change(p->w, op, META + index, 1, op + 1ull);
    le64_store(value, op + 1ull);
    int r = vol_txn_begin(p->v, &t);
    ASSERT(r == 0);
    r = vol_txn_put(t, key, sizeof key, value, sizeof value);
    ASSERT(r == 0);
    r = vol_txn_commit(t);
    proc_check(p, "a transaction", r);
    if (r == 0) {
        model_end(p->w, op);
    }
}

static int meta_read(struct proc *p, unsigned index, uint64_t *ret_value)
{
    uint8_t key[2] = {0x40, (uint8_t)index};
    struct bytes_writer value = {0};
    *ret_value = 0;
    int r = vol_get(p->v, key, sizeof key, &value);
    if (r == 0 && value.len == 8) {
        *ret_value = le64_load(value.data);
    }
    bytes_writer_free(&value);
    return r == -ENOENT ? 0 : r;
}

static void do_get(struct proc *p, unsigned index)
{
    uint64_t value;
    int r = meta_read(p, index, &value);
    proc_check(p, "a get", r);
    if (r == 0 && proc_is_current(p) && value != model_value(&p->w->model, META + index)) {
        world_violation(p->w, "read", "key %u reads %" PRIu64 ", not %" PRIu64, index, value,
                        model_value(&p->w->model, META + index));
    }
}

static void do_flush(struct proc *p)
{
    uint64_t began = ++p->w->model.clock;
    int r = vol_flush(p->v);
    proc_check(p, "a flush", r);
    if (r == 0) {
        model_flushed(p->w, p->life, began);
    }
}

/* One step of a worker, in its part of the device. */
static void step(struct proc *p, unsigned index)
{
    uint64_t part = SECTORS / WORKERS;
    uint64_t low = index * part;
    uint64_t high = MIN_OF(low + part, p->w->model.size / SECTOR_BYTES);
    unsigned what = (unsigned)(rt_random() % 100);
    if (what < 1 + p->w->seed % 12 || low + 8 >= high) {
        do_flush(p);
        return;
    }
    /* A few places are hot. */
    uint64_t room = proc_chance(50) ? MIN_OF(high - low, 512) : high - low;
    uint64_t first = low + rt_random() % room;
    uint64_t most = proc_chance(30) ? RUN_SECTORS_MAX : 16;
    uint64_t count = 1 + rt_random() % MIN_OF(high - first, most);
    if (proc_chance(60)) {
        first = first / 8 * 8;
        count = (count + 7) / 8 * 8;
        count = MIN_OF(count, high - first);
    }
    if (what < 16) {
        do_put(p, index);
    } else if (what < 20) {
        do_get(p, index);
    } else if (what < 32) {
        count = proc_chance(25) ? high - first : count;
        do_zero(p, first, count);
    } else if (what < 40 && first >= low + 8 + count) {
        uint64_t from = low + rt_random() % (first - low - count - 7);
        from = proc_chance(80) ? from / 8 * 8 + first % 8 : from;
        if (proc_chance(40)) {
            do_hold(p, from, first, count);
        } else {
            do_copy(p, from, first, count);
        }
    } else if (what < 60) {
        do_read(p, first, count);
    } else {
        do_write(p, first, count);
    }
}

/* As range locks do, for whole parts. */
void proc_part_take(struct proc *p, unsigned index)
{
    while (p->at_pages[index] > 0) {
        (void)rt_sleep_ms(1);
    }
    p->at_pages[index]++;
}

void proc_part_release(struct proc *p, unsigned index)
{
    p->at_pages[index]--;
}

static void worker(void *arg)
{
    struct worker k = *(struct worker *)arg;
    struct proc *p = k.p;
    free(arg);
    while (!p->stop && !vol_is_fenced(p->v)) {
        if (p->pause) {
            p->paused++;
            while (p->pause && !p->stop) {
                (void)rt_sleep_ms(1);
            }
            p->paused--;
            continue;
        }
        proc_part_take(p, k.index);
        step(p, k.index);
        proc_part_release(p, k.index);
        if (proc_chance(40)) {
            (void)rt_sleep_ms(rt_random() % 8);
        }
    }
    p->workers--;
}

/* With the workers stopped. */
static void do_resize(struct proc *p)
{
    uint64_t size = (SECTORS / 2 + rt_random() % (SECTORS / 2 + 1)) * SECTOR_BYTES;
    size = proc_chance(30) ? DEVICE_BYTES : size;
    uint64_t from = MIN_OF(size, p->w->model.size) / SECTOR_BYTES;
    struct vol_txn *t;
    uint32_t op = model_begin(p->w, p->life, false);
    if (size < p->w->model.size) {
        model_change(p->w, op, from, p->w->model.size / SECTOR_BYTES - from, 0);
    }
    int r = vol_txn_begin(p->v, &t);
    ASSERT(r == 0);
    r = vol_txn_inode_resize(t, p->w->inode, size);
    ASSERT(r == 0);
    r = vol_txn_commit(t);
    proc_check(p, "a resize", r);
    if (r == 0) {
        model_end(p->w, op);
        if (proc_is_current(p)) {
            p->w->model.size = size;
        }
    }
}

/* What is read stays the same. */
static void do_push(struct proc *p)
{
    int r = stack_push(&p->f, LAYERS_MOST);
    if (r != -EAGAIN) {
        proc_check(p, "a new layer", r);
        p->w->pushes += r == 0;
    }
    p->stop |= p->f == NULL;
}

static void without_workers(struct proc *p, void (*change)(struct proc *p))
{
    p->pause = true;
    while (p->paused < p->workers) {
        (void)rt_sleep_ms(1);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        proc_part_take(p, i);
    }
    if (!vol_is_fenced(p->v)) {
        change(p);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        proc_part_release(p, i);
    }
    p->pause = false;
}

/* Two seeds of five have stacks of layers. */
static bool has_stacks(const struct world *w)
{
    return w->seed % 5 < 2;
}

/* All places as they are; what lies beyond the device's end is not there. */
static int read_all(struct proc *p, uint64_t *values)
{
    uint64_t sectors = vol_file_size(p->f) / SECTOR_BYTES;
    for (uint64_t at = 0; at < sectors; at += RUN_SECTORS_MAX) {
        int r = values_read(p, at, MIN_OF(RUN_SECTORS_MAX, sectors - at), values + at);
        if (r < 0) {
            return r;
        }
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        int r = meta_read(p, i, &values[META + i]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* False when another has the volume meanwhile. */
static bool verify(struct proc *p)
{
    struct world *w = p->w;
    auto_free uint64_t *values = calloc(PLACES, sizeof *values);
    ASSERT(values != NULL);
    int r = read_all(p, values);
    if (vol_epoch(p->v) < w->epoch_max || r == ERR_FENCED) {
        return false;
    }
    if (r < 0) {
        world_violation(w, "I7", "the newest owner cannot read: %s", err_name(r));
    }
    w->epoch_max = vol_epoch(p->v);
    model_verify(w, p->life, values);
    w->model.size = vol_file_size(p->f);
    return true;
}

static struct log_compression compression_of(uint64_t seed)
{
    static const struct log_compression kinds[] = {
        {LOG_CODEC_NONE, 0}, {LOG_CODEC_LZ4, 0}, {LOG_CODEC_ZSTD, 1}, {LOG_CODEC_ZSTD, 3}};
    return kinds[seed % ARRAY_LEN(kinds)];
}

static int open_volume(struct proc *p)
{
    char owner[16];
    (void)snprintf(owner, sizeof owner, "p%u", p->id);
    struct cache_disk_io io;
    world_disk(p->w, p->id, &io);
    struct vol_options opt = {.store = p->store,
                              .owner = owner,
                              .takeover = true,
                              .keys = p->w->keys,
                              .memory_bytes = 8u << 20,
                              .memtable_bytes = 2048u << (p->w->seed % 4),
                              .segments_max = 4 + (uint32_t)(p->w->seed % 30),
                              .delete_after_ms = 300 + p->w->seed % 1000,
                              .disk_io = &io,
                              .disk_bytes = p->w->seed % 4 ? SIM_DISK_BYTES : 0,
                              .rotate_after_ms = 20 + p->w->seed % 200,
                              .compression = compression_of(p->w->seed)};
    int r = vol_open(&opt, &p->v);
    if (r < 0) {
        return r;
    }
    if (p->w->seed % 4 > 1) {
        vol_cache_resize(p->v, 128u << 10); /* so that reads go to disk and store */
    }
    p->life = ++p->w->opens;
    r = vol_file_open(p->v, p->w->inode, &p->f);
    if (r < 0) {
        /* Who was replaced may find that the index' objects are gone. */
        r = vol_epoch(p->v) < p->w->epoch_max ? ERR_FENCED : r;
        vol_abandon(p->v);
    }
    return r;
}

static void use(struct proc *p)
{
    uint64_t until = rt_after_ms(50 + rt_random() % 1500);
    until = MIN_OF(until, p->w->end_ns);
    p->stop = false;
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *k = malloc(sizeof *k);
        ASSERT(k != NULL);
        *k = (struct worker){p, i};
        p->workers++;
        int r = rt_spawn("worker", worker, k);
        ASSERT(r == 0);
    }
    if (proc_chance(60)) {
        p->scrubs = true;
        int r = rt_spawn("scrubber", proc_scrubber, p);
        ASSERT(r == 0);
    }
    while (rt_now_ns() < until && !p->stop && !vol_is_fenced(p->v)) {
        (void)rt_sleep_ms(rt_random() % 100);
        if (proc_chance(5) && p->workers == WORKERS) {
            without_workers(p, do_resize);
        }
        if (has_stacks(p->w) && proc_chance(15) && p->workers == WORKERS) {
            without_workers(p, do_push);
        }
    }
    p->stop = true;
    while (p->workers > 0 || p->scrubs) {
        (void)rt_sleep_ms(1);
    }
}

static void check_counts(struct proc *p)
{
    int r = vol_recount(p->v);
    if (r < 0) {
        world_violation(p->w, "counts", "%s", err_name(r));
    }
}

/* What is zeroed is live in the layers below all the same. */
static void delete_device(struct proc *p)
{
    struct vol_txn *t;
    vol_file_close(p->f);
    p->f = NULL;
    int r = vol_txn_begin(p->v, &t);
    ASSERT(r == 0);
    r = vol_txn_inode_delete(t, p->w->inode);
    ASSERT(r == 0);
    proc_check(p, "a deletion", vol_txn_commit(t));
    do_flush(p);
}

/* Until the range holes are worked off, and there are no more live blocks than that. */
static void wait_for_walker(struct proc *p, uint64_t live)
{
    uint64_t deadline = rt_after_ms(60000);
    struct vol_counts c;
    do {
        (void)rt_sleep_ms(100);
        vol_counts(p->v, &c);
    } while ((c.live_blocks > live || c.range_holes > 0) && rt_now_ns() < deadline);
    check_counts(p);
    if (c.live_blocks > live || c.range_holes > 0 || c.bad_pages > 0) {
        world_violation(p->w, "counts", "%" PRIu64 " live blocks, %" PRIu64 " range holes",
                        c.live_blocks, c.range_holes);
    }
}

/* Everything is given back, and the counts are right. */
static void last_checks(struct proc *p)
{
    check_counts(p);
    do_zero(p, 0, p->w->model.size / SECTOR_BYTES);
    do_flush(p);
    if (has_stacks(p->w)) {
        wait_for_walker(p, NEVER);
        for (uint64_t at = 0; at < p->w->model.size / SECTOR_BYTES; at += RUN_SECTORS_MAX) {
            do_read(p, at, MIN_OF(RUN_SECTORS_MAX, p->w->model.size / SECTOR_BYTES - at));
        }
        delete_device(p);
    }
    wait_for_walker(p, 0);
}

static void leave(struct proc *p)
{
    struct vol_counts counts;
    vol_counts(p->v, &counts);
    p->w->disk_hits += counts.disk.hits;
    vol_file_close(p->f);
    p->f = NULL;
    struct vol *v = p->v;
    p->v = NULL;
    if (!p->last && proc_chance(40)) {
        vol_abandon(v);
        return;
    }
    uint64_t began = ++p->w->model.clock;
    int r = vol_close(v);
    if (r == 0) {
        model_flushed(p->w, p->life, began);
    } else if (r != ERR_FENCED) {
        proc_check(p, "a close", r);
    }
}

void proc_main(void *arg)
{
    struct proc *p = arg;
    struct world *w = p->w;
    p->store = stack_of(p);
    do {
        int r = open_volume(p);
        if (r == 0) {
            if (verify(p)) {
                holds_reclaim(p);
                use(p);
                if (p->last) {
                    last_checks(p);
                }
            }
            leave(p);
        } else if (r != ERR_LOST_OPEN_RACE && r != ERR_FENCED) {
            world_violation(w, "I4", "an opener was refused: %s", err_name(r));
        }
        if (!p->last) {
            (void)rt_sleep_ms(rt_random() % 500);
        }
    } while (rt_now_ns() < w->end_ns && !p->last);
    obj_close(p->store);
    w->alive--;
}

struct proc *proc_create(struct world *w, unsigned id, bool last)
{
    struct proc *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    *p = (struct proc){.w = w, .id = id, .last = last};
    return p;
}
