/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrubbing: what a file held once is removed from the store, for good. Its segments hold data of
 * others as well, so these are written anew, in newer segments, until nothing refers to the old
 * ones; then they are deleted, and not only when the grace of I7 is over: a reader that comes too
 * late loads the newest manifest.
 *
 *     1. the file is empty, and its maps are gone                    (the walker is waited for)
 *     2. of each segment that is stored so far, the directory says whether it holds a frame of the
 *        file's layers; who else has live frames there, directory and back-references say
 *     3. the caller rewrites those pages, one by one, holding each; then all is flushed and applied
 *     4. when no block of these segments is live any more, a manifest that says so is stored
 *     5. the reaper deletes all that is dead by then, up to where the log was when all this began
 *
 * Whoever copies one of those pages meanwhile makes new references: so 2 and 3 are repeated until
 * there are none. What was copied out of the file is not the file's any more, and stays.
 *
 * Nothing here deletes: the reaper does, by all of I7 but the grace. A count that is 0 in the midst
 * of a batch may rise again with its end, so it is believed when that batch is applied. What others
 * empty meanwhile is theirs to wait for, and so is what they write: it ends however busy they are.
 */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

#define PAUSE_MS 20u
#define PAUSE_MOST_MS 1000u
#define REAP_AGAIN_MS 2000u
#define REAP_TRIES 30u

struct scrub {
    struct vol *v;
    const struct vol_scrub *opt;
    uint64_t last;                /* the segments that may hold something */
    VEC(uint64_t) mine;           /* those that do; in the end, all that are dead */
    VEC(struct vol_place) places; /* of others, in one segment */
    bool found;
    int r;
};

static int check(const struct scrub *s)
{
    if (atomic_load(&s->v->fenced)) {
        return ERR_FENCED;
    }
    return s->opt->stop(s->opt->arg) ? -ECANCELED : 0;
}

static int pause_ms(const struct scrub *s, uint64_t ms) WAITS
{
    int r = rt_sleep_ms(ms);
    return r < 0 ? r : check(s);
}

/* Everything so far is stored and in the index. */
static int settle(struct scrub *s) WAITS
{
    int r = vol_flush(s->v);
    uint64_t upto = r == 0 ? log_stored_through(s->v->log) : 0;
    while (r == 0 && atomic_load(&s->v->applied_seq) < upto) {
        r = pause_ms(s, PAUSE_MS);
    }
    return r;
}

/* 1 = the walker has work with them, 0; ERR_CORRUPT_INDEX: where the file's frames are is lost. */
static int has_range_holes(const struct scrub *s)
{
    int r = 0;
    for (uint32_t i = 0; i < s->opt->file->layer_count; i++) {
        uint64_t layer = s->opt->file->layers[i];
        struct vol_hole at = {.layer = layer};
        while (vol_holes_next(s->v->holes, &at, &at) && at.layer == layer) {
            if (at.again_ns == 0) {
                return 1;
            }
            r = ERR_CORRUPT_INDEX;
        }
    }
    return r;
}

static int wait_for_walker(struct scrub *s) WAITS
{
    int r = settle(s);
    while (r == 0 && (r = has_range_holes(s)) == 1) {
        r = pause_ms(s, PAUSE_MS);
    }
    return r == 0 ? settle(s) : r;
}

bool vol_file_has_layer(const struct vol_file *f, uint64_t layer)
{
    for (uint32_t i = 0; i < f->layer_count; i++) {
        if (f->layers[i] == layer) {
            return true;
        }
    }
    return false;
}

static void look_at_frame(void *arg, const struct log_frame *frame)
{
    struct scrub *s = arg;
    if (vol_file_has_layer(s->opt->file, frame->layer)) {
        s->found = true;
    } else if (s->r == 0) {
        struct vol_place place = {frame->layer, frame->page};
        s->r = vec_push(&s->places, place);
    }
}

static int look_at_backref(void *arg, const void *key, size_t key_len, const void *value,
                           size_t value_len)
{
    struct scrub *s = arg;
    struct vol_place place;
    (void)value;
    (void)value_len;
    int r = vol_key_backref_decode(key, key_len, &place.layer, &place.page);
    return r < 0 ? r : vec_push(&s->places, place);
}

/* Who may have live frames in the segment: places. found: it holds some of the file's. */
static int look_into(struct scrub *s, uint64_t seq) WAITS
{
    s->places.len = 0;
    s->found = false;
    s->r = 0;
    int r = log_segment_scan(s->v->frames, seq, look_at_frame, s);
    if (r == 0) {
        r = s->r;
    }
    if (r == 0 && s->found) {
        struct vol_key from = vol_key_backrefs(seq);
        struct vol_key upto = vol_key_backrefs(seq + 1);
        r = index_scan(s->v->ix, &(struct index_range){from.bytes, from.len, upto.bytes, upto.len},
                       look_at_backref, s);
    }
    return r;
}

static int empty_segment(struct scrub *s, uint64_t seq) WAITS
{
    int r = look_into(s, seq);
    if (r < 0 || !s->found) {
        return r == -ENOENT ? 0 : r;
    }
    r = vec_push(&s->mine, seq);
    for (size_t i = 0; r == 0 && i < s->places.len; i++) {
        struct vol_place p = s->places.at[i];
        r = s->opt->rewrite(s->opt->arg, p.layer, p.page, seq);
        r = r == 0 ? check(s) : r;
    }
    return r;
}

int vol_rewrite(struct vol_file *f, uint64_t page, uint64_t seq)
{
    struct vol_source sources[VOL_PAGE_BLOCKS];
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS; k++) {
        sources[k].slot.buf = NULL;
    }
    int r = vol_resolve(f, page, (1u << VOL_PAGE_BLOCKS) - 1, sources);
    if (r < 0) {
        return r;
    }
    unsigned there = 0;
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS; k++) {
        const struct vol_source *at = &sources[k];
        bool stored = at->slot.kind == VOL_RUN_DATA && !at->slot.buf;
        there |= stored && at->run.seq == seq ? 1u << k : 0;
    }
    vol_sources_drop(sources, (1u << VOL_PAGE_BLOCKS) - 1);
    uint64_t size = atomic_load(&f->size);
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS && r == 0; k++) {
        uint64_t off = page * VOL_PAGE_BYTES + k * VOL_BLOCK_BYTES;
        if (!(there & 1u << k) || off >= size) {
            continue;
        }
        struct rt_chain data = {0};
        r = vol_read(f, off, (uint32_t)MIN_OF(VOL_BLOCK_BYTES, size - off), &data);
        if (r == 0) {
            r = vol_write_again(f, off, &data);
        }
        rt_chain_free(&data);
    }
    return r;
}

/* The live segments from `from` on, at most max of them. */
static size_t list_live(struct scrub *s, uint64_t from, uint64_t *ret_seqs, size_t max)
{
    size_t n = 0;
    rt_mutex_lock(&s->v->segs.m);
    for (size_t i = 0; i < s->v->segs.at.len && n < max; i++) {
        const struct vol_segment *seg = &s->v->segs.at.at[i];
        if (seg->seq >= from && seg->seq <= s->last && seg->state == VOL_SEGMENT_LIVE &&
            seg->live > 0) {
            ret_seqs[n++] = seg->seq;
        }
    }
    rt_mutex_unlock(&s->v->segs.m);
    return n;
}

#define SEGMENTS_AT_ONCE 64u

static int empty_all(struct scrub *s) WAITS
{
    uint64_t seqs[SEGMENTS_AT_ONCE];
    uint64_t from = 0;
    size_t n;
    while ((n = list_live(s, from, seqs, SEGMENTS_AT_ONCE)) > 0) {
        for (size_t i = 0; i < n; i++) {
            int r = empty_segment(s, seqs[i]);
            if (r < 0) {
                return r;
            }
            s->opt->progress(s->opt->arg, seqs[i], s->last);
        }
        from = seqs[n - 1] + 1;
    }
    return settle(s);
}

/* With segs.m. */
static bool is_empty(const struct scrub *s, const struct vol_segment *seg)
{
    return seg->live == 0 && seg->zero_seq <= atomic_load(&s->v->applied_seq);
}

/* Of those that held something of the file, how many are in use by others still. Those that are not
 * leave the list. */
static int sift(struct scrub *s)
{
    size_t kept = 0;
    int r = 0;
    rt_mutex_lock(&s->v->segs.m);
    for (size_t i = 0; i < s->mine.len; i++) {
        const struct vol_segment *seg = vol_segments_find(&s->v->segs, s->mine.at[i]);
        if (seg && seg->live == VOL_LIVE_UNKNOWN) {
            r = ERR_CORRUPT_INDEX; /* S4: it will never be deleted */
        }
        if (seg && !is_empty(s, seg)) {
            s->mine.at[kept++] = s->mine.at[i];
        }
    }
    s->mine.len = kept;
    rt_mutex_unlock(&s->v->segs.m);
    return r;
}

static int empty_rest(struct scrub *s) WAITS
{
    uint64_t pause = PAUSE_MS;
    int r = sift(s);
    while (r == 0 && s->mine.len > 0) {
        VEC(uint64_t) again = {s->mine.at, s->mine.len, s->mine.cap};
        memset(&s->mine, 0, sizeof s->mine);
        for (size_t i = 0; i < again.len && r == 0; i++) {
            r = empty_segment(s, again.at[i]);
        }
        vec_free(&again);
        r = r == 0 ? settle(s) : r;
        r = r == 0 ? sift(s) : r;
        if (r == 0 && s->mine.len > 0) {
            r = pause_ms(s, pause);
            pause = MIN_OF(2 * pause, PAUSE_MOST_MS);
        }
    }
    return r;
}

static int list_dead(struct scrub *s)
{
    int r = 0;
    s->mine.len = 0;
    rt_mutex_lock(&s->v->segs.m);
    for (size_t i = 0; i < s->v->segs.at.len && r == 0; i++) {
        const struct vol_segment *seg = &s->v->segs.at.at[i];
        if (seg->seq <= s->last && seg->state == VOL_SEGMENT_LIVE && is_empty(s, seg)) {
            r = vec_push(&s->mine, seg->seq);
        }
    }
    rt_mutex_unlock(&s->v->segs.m);
    return r;
}

/* Those of the list that are there still. hurry: they are due at once. */
static size_t count_dead(struct scrub *s, bool hurry)
{
    size_t n = 0;
    rt_mutex_lock(&s->v->segs.m);
    for (size_t i = 0; i < s->mine.len; i++) {
        struct vol_segment *seg = vol_segments_find(&s->v->segs, s->mine.at[i]);
        if (seg && seg->state == VOL_SEGMENT_LIVE && seg->live == 0) {
            seg->deletable_ns = hurry ? 1 : seg->deletable_ns;
            n++;
        }
    }
    rt_mutex_unlock(&s->v->segs.m);
    return n;
}

/*
 * A store that is away is waited for; one that is there and does not delete, not for ever. Where
 * deleting alone is denied it is told to be away, so it is asked for something else before a try
 * counts. That is waited for, and whatever it says, it is there.
 */
static int delete_dead(struct scrub *s) WAITS
{
    size_t left;
    size_t before = SIZE_MAX;
    int r = list_dead(s);
    for (unsigned tries = 0; r == 0 && (left = count_dead(s, true)) > 0; tries++) {
        uint64_t size;
        tries = left < before ? 0 : tries;
        before = left;
        if (tries == REAP_TRIES) {
            return -EIO;
        }
        r = index_flush(s->v->ix);
        rt_event_set(&s->v->reaping);
        for (unsigned ms = 0; r == 0 && count_dead(s, false) > 0 && ms < REAP_AGAIN_MS;
             ms += PAUSE_MS) {
            r = pause_ms(s, PAUSE_MS);
        }
        int there = obj_head(s->v->store, OBJ_INDEX, VOL_SUPERBLOCK_NAME, &size);
        r = r == 0 && there == -ECANCELED ? there : r;
    }
    return r;
}

int vol_scrub(struct vol *v, const struct vol_scrub *opt)
{
    struct scrub s = {.v = v, .opt = opt};
    int r = wait_for_walker(&s);
    if (r == 0) {
        s.last = log_stored_through(v->log);
        r = empty_all(&s);
    }
    if (r == 0) {
        r = empty_rest(&s);
    }
    if (r == 0) {
        r = delete_dead(&s);
    }
    if (r == 0 && v->disk) {
        r = cache_disk_clear(v->disk);
    }
    vec_free(&s.mine);
    vec_free(&s.places);
    return r;
}
