/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that are wanted and not in memory.
 *
 *     claim every frame -> those that are ours: disk cache -> decode -> land
 *                                               the others: ranges -> GET -> decode -> land
 *                       -> those that others load: join
 *
 * F1. Nobody waits for a flight while he has one that has not landed (cache_claim()).
 *
 * F2. Frames of a segment that lie next to each other, or nearly, come by one ranged GET. What is
 * fetched is the bytes as stored; turning them into blocks is log_frame_decode(), and frames that
 * do not decode are read once more, alone, before any reader hears of it.
 *
 * F3. The bytes as stored of all fetches under way are bounded: fetch_room for reads, ahead_room
 * for the rest. They are taken after the claims, by those who wait for nothing else but the store
 * (and, reading ahead, a moment for the disk cache). The disk cache bounds its own.
 *
 * F4. Reading ahead gives up where a read goes on (an outage): who joined it asks anew, for
 * himself.
 *
 * F5. Only what decoded as it came goes to the disk cache, or is written there again; what comes
 * from there and does not decode is asked from the store.
 */
#include "base/assert.h"
#include "base/err.h"
#include "vol/vol_priv.h"

#define GAP_BYTES 16384u
#define GAP_AHEAD_BYTES 262144u
#define RANGE_BYTES_MAX (11u << 20)
#define LOADERS_MAX 8u
#define YIELD_EVERY 16u
#define DISK_SLICE_FRAMES 64u /* at most 2 MiB of blocks */

/* Neighbours in the order of their place: mine[first] and on. */
struct range {
    uint32_t first;
    uint32_t count;
    uint32_t off;
    uint32_t len;
};

struct fetch {
    struct vol *v;
    enum obj_class class;
    struct vol_want **mine; /* claimed by us, by place */
    uint32_t mine_count;
    struct range *ranges;
    struct range one; /* is enough for one frame */
    uint32_t range_count;
    struct rt_event done; /* from here on: loaders */
    _Atomic uint32_t next;
    _Atomic uint32_t running;
};

static void land(struct fetch *f, struct vol_want *w, int r)
{
    bool ahead = f->class == OBJ_PREFETCH;
    w->result = r;
    cache_land(f->v->cache, w->flight, ahead && r < 0 ? -ECANCELED : r, &w->piece, ahead);
    w->flight = NULL;
}

/* unit: the frame's bytes, NULL when the object ended before them. */
static void want_decode(struct fetch *f, struct vol_want *w, const uint8_t *unit)
{
    struct vol *v = f->v;
    int r = -EBADMSG;
    if (unit) {
        r = log_frame_decode(v->frames, &w->at, w->blocks, unit, &w->piece);
    }
    w->as_read = r == 0;
    if (r == -EBADMSG || r == -ENOTSUP) {
        r = log_frame_reread(v->frames, f->class, &w->at, w->blocks, &w->piece);
    }
    land(f, w, r);
}

static void range_decode(struct fetch *f, const struct range *g, const uint8_t *raw, size_t len)
{
    for (uint32_t i = 0; i < g->count; i++) {
        struct vol_want *w = f->mine[g->first + i];
        uint32_t at = w->at.offset - g->off;
        if (i % YIELD_EVERY == YIELD_EVERY - 1) {
            rt_yield();
        }
        want_decode(f, w, at + w->at.len_bytes <= len ? raw + at : NULL);
    }
}

static ssize_t range_get(struct fetch *f, const struct range *g, struct rt_buf **ret_raw)
{
    char name[OBJ_NAME_SIZE];
    struct rt_buf *raw;
    int r = rt_buf_alloc(g->len, RT_MEM_BLOCK_CACHE, &raw);
    if (r < 0) {
        return r;
    }
    log_segment_name(f->mine[g->first]->at.seq, name);
    ssize_t n = obj_get(f->v->store, f->class, name, g->off, raw->data, g->len);
    if (n < 0) {
        rt_buf_unref(raw);
        return n;
    }
    *ret_raw = raw;
    return n;
}

/* Some frames, from `first` on: those that the disk cache has are landed, the others go to
 * mine[*left] and on. */
static void slice_from_disk(struct fetch *f, struct cache_disk_frame *frames, uint32_t count,
                            uint32_t first, uint32_t *left)
{
    struct vol *v = f->v;
    struct rt_buf *buf = NULL;
    (void)cache_disk_read(v->disk, frames, count, &buf);
    for (uint32_t i = 0; i < count; i++) {
        struct vol_want *w = f->mine[first + i];
        int r = -ENOENT;
        if (i % YIELD_EVERY == YIELD_EVERY - 1) {
            rt_yield();
        }
        if (frames[i].bytes) {
            r = log_frame_decode(v->frames, &w->at, w->blocks, frames[i].bytes, &w->piece);
        }
        if (r == 0) {
            cache_disk_keep(v->disk, buf, &frames[i]);
            land(f, w, 0);
            continue;
        }
        if (r == -EBADMSG || r == -ENOTSUP) {
            cache_disk_drop(v->disk, &frames[i]);
        }
        f->mine[(*left)++] = w;
    }
    rt_buf_unref(buf);
}

static void load_from_disk(struct fetch *f)
{
    auto_free struct cache_disk_frame *frames = malloc(DISK_SLICE_FRAMES * sizeof *frames);
    uint32_t left = 0;
    if (!frames) {
        return;
    }
    for (uint32_t i = 0; i < f->mine_count;) {
        uint32_t n = 0;
        for (; n < DISK_SLICE_FRAMES && i + n < f->mine_count; n++) {
            const struct log_location *at = &f->mine[i + n]->at;
            frames[n] = (struct cache_disk_frame){
                .object = at->seq, .offset = at->offset, .len = at->len_bytes};
        }
        slice_from_disk(f, frames, n, i, &left);
        i += n;
    }
    f->mine_count = left;
}

/* What came from the store goes to the disk cache as it came. */
static void range_keep(struct fetch *f, const struct range *g, struct rt_buf *raw, uint64_t era)
{
    auto_free struct cache_disk_frame *frames = malloc(g->count * sizeof *frames);
    uint32_t n = 0;
    for (uint32_t i = 0; frames && i < g->count; i++) {
        const struct vol_want *w = f->mine[g->first + i];
        if (w->as_read) {
            frames[n++] = (struct cache_disk_frame){.object = w->at.seq,
                                                    .offset = w->at.offset,
                                                    .len = w->at.len_bytes,
                                                    .bytes = raw->data + (w->at.offset - g->off),
                                                    .era = era};
        }
    }
    if (n > 0 && f->class == OBJ_READ) {
        cache_disk_put(f->v->disk, raw, frames, n);
    } else if (n > 0) {
        cache_disk_put_wait(f->v->disk, raw, frames, n);
    }
}

static void range_load(struct fetch *f, const struct range *g)
{
    struct rt_credits *room = f->class == OBJ_READ ? &f->v->fetch_room : &f->v->ahead_room;
    uint64_t bytes = MIN_OF(g->len, room->total);
    struct rt_buf *raw = NULL;
    ssize_t n = rt_credits_take(room, bytes, RT_FOREVER);
    bool taken = n == 0;
    uint64_t era = f->v->disk ? cache_disk_era(f->v->disk) : 0;
    if (taken) {
        n = range_get(f, g, &raw);
    }
    if (raw) {
        range_decode(f, g, raw->data, (size_t)n);
        if (f->v->disk && (size_t)n == g->len) {
            range_keep(f, g, raw, era);
        }
    }
    for (uint32_t i = 0; n < 0 && i < g->count; i++) {
        land(f, f->mine[g->first + i], (int)n);
    }
    rt_buf_unref(raw);
    if (taken) {
        rt_credits_give(room, bytes);
    }
}

static void loader(void *arg)
{
    struct fetch *f = arg;
    uint32_t i;
    while ((i = atomic_fetch_add(&f->next, 1)) < f->range_count) {
        range_load(f, &f->ranges[i]);
    }
    if (atomic_fetch_sub(&f->running, 1) == 1) {
        rt_event_set(&f->done);
    }
}

/* Ranges in parallel: fibers take them from one list until none is left. */
static void load_ranges(struct fetch *f)
{
    struct rt_group *g;
    if (f->range_count == 1 || rt_group_create(&g) < 0) {
        for (uint32_t i = 0; i < f->range_count; i++) {
            range_load(f, &f->ranges[i]);
        }
        return;
    }
    rt_event_init(&f->done);
    atomic_init(&f->next, 0);
    atomic_init(&f->running, 1);
    for (uint32_t i = 1; i < MIN_OF(f->range_count, LOADERS_MAX); i++) {
        atomic_fetch_add(&f->running, 1);
        if (rt_group_spawn(g, "vol load", loader, f) < 0) {
            atomic_fetch_sub(&f->running, 1);
            break;
        }
    }
    loader(f);
    if (rt_event_wait(&f->done, RT_FOREVER) < 0) {
        rt_group_cancel(g);
    }
    rt_group_wait(g);
    rt_group_destroy(g);
    rt_event_destroy(&f->done);
}

static int by_place(const void *a, const void *b)
{
    const struct log_location *x = &(*(struct vol_want *const *)a)->at;
    const struct log_location *y = &(*(struct vol_want *const *)b)->at;
    if (x->seq != y->seq) {
        return x->seq < y->seq ? -1 : 1;
    }
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Joins neighbours (F2). */
static void make_ranges(struct fetch *f)
{
    uint32_t gap = f->class == OBJ_READ ? GAP_BYTES : GAP_AHEAD_BYTES;
    ASSERT(f->ranges != NULL);
    for (uint32_t i = 0; i < f->mine_count; i++) {
        const struct log_location *at = &f->mine[i]->at;
        struct range *g = f->range_count > 0 ? &f->ranges[f->range_count - 1] : NULL;
        if (g && f->mine[i - 1]->at.seq == at->seq && at->offset >= g->off + g->len &&
            at->offset - (g->off + g->len) <= gap &&
            at->offset - g->off + (uint64_t)at->len_bytes <= RANGE_BYTES_MAX) {
            g->len = at->offset - g->off + at->len_bytes;
            g->count++;
        } else {
            f->ranges[f->range_count++] = (struct range){i, 1, at->offset, at->len_bytes};
        }
    }
}

static void load_mine(struct fetch *f)
{
    auto_free struct range *many = NULL;
    f->ranges = &f->one;
    f->range_count = 0;
    if (f->mine_count > 1) {
        qsort(f->mine, f->mine_count, sizeof(struct vol_want *), by_place);
        many = malloc(f->mine_count * sizeof *many);
        f->ranges = many;
    }
    if (!f->ranges) {
        for (uint32_t i = 0; i < f->mine_count; i++) {
            land(f, f->mine[i], -ENOMEM);
        }
        return;
    }
    if (f->v->disk) {
        load_from_disk(f);
    }
    if (f->mine_count > 0) {
        make_ranges(f);
        load_ranges(f);
    }
}

/* One round: 0, or 1 when some want was not settled because another's loader was cancelled. */
static int fetch_round(struct fetch *f, struct vol_want *wants, uint32_t count)
{
    int again = 0;
    f->mine_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct vol_want *w = &wants[i];
        if (w->result <= 0) {
            continue;
        }
        w->result = cache_claim(f->v->cache, w->at.seq, w->at.offset, &w->piece, &w->flight);
        if (w->result == CACHE_MINE) {
            f->mine[f->mine_count++] = w;
        }
    }
    if (f->mine_count > 0) {
        load_mine(f);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct vol_want *w = &wants[i];
        if (w->result == CACHE_THEIRS) {
            w->result = cache_join(f->v->cache, w->flight, &w->piece);
            again |= w->result > 0;
        }
    }
    return again;
}

int vol_fetch(struct vol *v, enum obj_class class, struct vol_want *wants, uint32_t count)
{
    struct vol_want *few[VOL_PAGE_BLOCKS];
    auto_free struct vol_want **many = NULL;
    struct fetch f = {.v = v, .class = class, .mine = few};
    if (count > ARRAY_LEN(few)) {
        many = malloc(count * sizeof(struct vol_want *));
        f.mine = many;
    }
    for (uint32_t i = 0; i < count; i++) {
        wants[i].result = f.mine ? 1 : -ENOMEM; /* 1 = not settled */
        wants[i].piece = (struct rt_piece){0};
    }
    while (fetch_round(&f, wants, count) > 0) {
    }
    int r = 0;
    for (uint32_t i = 0; i < count && r == 0; i++) {
        r = wants[i].result;
    }
    return r;
}
