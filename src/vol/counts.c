/* SPDX-License-Identifier: Apache-2.0 */
/* Counters for status, and the recount that checks the kept live references. */
#include "base/err.h"
#include "base/msg.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

#define RECOUNT_TRIES 16

static uint64_t live_segments(struct vol *v)
{
    uint64_t live = 0;
    rt_mutex_lock(&v->segs.m);
    for (size_t i = 0; i < v->segs.at.len; i++) {
        live += v->segs.at.at[i].state == VOL_SEGMENT_LIVE;
    }
    rt_mutex_unlock(&v->segs.m);
    return live;
}

/* What batches hold that lie behind the stored prefix: a segment that is stored behind one that is
 * not is lost with it. */
static uint64_t undurable_bytes(struct vol *v)
{
    uint64_t through = v->log ? log_stored_through(v->log) : 0;
    uint64_t bytes = 0;
    rt_mutex_lock(&v->m);
    list_for_each(&v->batches, struct vol_batch, link, b) {
        bytes += b->seq == 0 || b->seq > through ? atomic_load(&b->charged) : 0;
    }
    rt_mutex_unlock(&v->m);
    return bytes;
}

void vol_counts(const struct vol *cv, struct vol_counts *ret_counts)
{
    struct vol *v = (struct vol *)cv; /* mutexes are taken; nothing changes */
    struct vol_counts c = {
        .dirty_bytes = rt_credits_used(&v->dirty),
        .undurable_bytes = undurable_bytes(v),
        .segments_stored = atomic_load(&v->segments_stored),
        .segments_live = live_segments(v),
        .live_blocks = atomic_load(&v->segs.live_blocks),
        .bad_pages = atomic_load(&v->bad_pages),
        .flushes = atomic_load(&v->flushes),
        .rotations = atomic_load(&v->rotations),
        .segments_in_flight = v->log ? log_in_flight(v->log) : 0,
        .stored_through = v->log ? log_stored_through(v->log) : 0,
    };
    if (vol_reading_try(v)) {
        c.range_holes = vol_holes_pending(v->holes);
        vol_reading_end(v);
    }
    rt_mutex_lock(&v->dirty.m);
    c.dirty_limit_bytes = v->dirty.total;
    rt_mutex_unlock(&v->dirty.m);
    rt_mutex_lock(&v->m);
    c.batches_open = v->batch_count;
    rt_mutex_unlock(&v->m);
    struct cache_counts cc;
    cache_counts(v->cache, &cc);
    c.cache_hits = cc.hits;
    c.cache_capacity_bytes = cc.capacity_bytes;
    c.cache_evictions = cc.evictions;
    c.ahead_used = cc.ahead_used;
    c.ahead_wasted = cc.ahead_wasted;
    if (v->disk) {
        c.disk_cache = true;
        cache_disk_counts(v->disk, &c.disk);
    }
    c.cache_misses = cc.misses;
    c.cache_bytes = cc.used_bytes;
    *ret_counts = c;
}

static int count_page(void *arg, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct vol_segments *found = arg;
    struct vol_map map;
    (void)key;
    (void)key_len;
    int r = vol_map_decode(value, value_len, &map);
    for (uint32_t i = 0; r == 0 && i < map.count; i++) {
        if (map.runs[i].kind == VOL_RUN_DATA) {
            bool first;
            r = vol_segments_change(
                found, &(struct vol_segment_change){map.runs[i].seq, map.runs[i].count, 0}, &first);
        }
    }
    return r;
}

struct check {
    struct vol *v;
    struct vol_segments *found;
    uint64_t differences;
    bool tells;
};

static void differ(struct check *c, uint64_t seq, uint64_t kept, uint64_t counted)
{
    c->differences++;
    if (c->tells && kept == VOL_LIVE_UNKNOWN) {
        msg_error("vol",
                  "segment %016" PRIx64 ": its live blocks are not known, %" PRIu64 " counted", seq,
                  counted);
    } else if (c->tells) {
        msg_error("vol",
                  "segment %016" PRIx64 ": %" PRIu64 " live blocks kept, %" PRIu64 " counted", seq,
                  kept, counted);
    }
}

static uint64_t live_of(struct vol_segments *s, uint64_t seq)
{
    rt_mutex_lock(&s->m);
    const struct vol_segment *seg = vol_segments_find(s, seq);
    uint64_t live = seg ? seg->live : 0;
    rt_mutex_unlock(&s->m);
    return live;
}

static int check_key(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct check *c = arg;
    uint64_t seq;
    struct vol_segment_value seg = {0};
    int r = vol_key_segment_decode(key, key_len, &seq);
    if (r == 0) {
        r = vol_segment_decode(value, value_len, &seg);
    }
    if (r < 0) {
        return r;
    }
    uint64_t live = seg.live;
    uint64_t counted = live_of(c->found, seq);
    if (live != counted || live != live_of(&c->v->segs, seq)) {
        differ(c, seq, live, counted);
    }
    return 0;
}

/* What is counted and not in the table at all. */
static void check_unknown(struct check *c)
{
    for (size_t i = 0; i < c->found->at.len; i++) {
        const struct vol_segment *s = &c->found->at.at[i];
        if (live_of(&c->v->segs, s->seq) != s->live) {
            differ(c, s->seq, live_of(&c->v->segs, s->seq), s->live);
        }
    }
}

static int scan_kind(struct vol *v, uint8_t kind,
                     int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                                 size_t value_len),
                     void *arg)
{
    struct vol_key from = vol_key_kind(kind);
    struct vol_key upto = vol_key_kind((uint8_t)(kind + 1));
    return index_scan(v->ix, &(struct index_range){from.bytes, from.len, upto.bytes, upto.len},
                      each, arg);
}

static int recount_once(struct vol *v, struct check *c)
{
    int r = scan_kind(v, VOL_KEY_PAGE, count_page, c->found);
    if (r == 0) {
        r = scan_kind(v, VOL_KEY_SEGMENT, check_key, c);
    }
    check_unknown(c);
    return r;
}

/* Anew when a batch was applied meanwhile. */
int vol_recount(struct vol *v)
{
    int r = vol_flush(v);
    for (int tries = 1; r == 0; tries++) {
        r = v->opt.read_only ? 0 : vol_drain(v);
        uint64_t before = atomic_load(&v->applied_number);
        struct vol_segments found;
        vol_segments_init(&found);
        struct check c = {.v = v, .found = &found, .tells = tries >= RECOUNT_TRIES};
        if (r == 0) {
            r = recount_once(v, &c);
        }
        if (r == 0 && c.differences > 0 && !v->opt.read_only) {
            r = vol_drain(v); /* one that is being applied is there by half */
        }
        bool moved = before != atomic_load(&v->applied_number);
        if (r == 0 && c.differences > 0 && !moved && !c.tells) {
            c.tells = true;
            c.differences = 0;
            check_unknown(&c);
            r = scan_kind(v, VOL_KEY_SEGMENT, check_key, &c);
        }
        vol_segments_destroy(&found);
        if (r < 0 || c.differences == 0) {
            return r;
        }
        if (c.tells) {
            return ERR_CORRUPT_INDEX;
        }
    }
    return r;
}

void vol_cache_resize(struct vol *v, uint64_t bytes)
{
    cache_resize(v->cache, bytes);
}
