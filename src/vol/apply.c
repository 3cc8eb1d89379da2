/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Apply: the records of one batch become writes of the index. The same code runs live and on
 * replay, on the same bytes and on the same state of the index, so it comes to the same result;
 * that is why live references stay exact over a crash.
 *
 * A1. Batches come in order, one at a time, each after the prefix up to it is stored (I6).
 * A2. Everything of a batch goes into the index in one index_apply(): maps, live references, holes,
 * metadata. A3. A page of a batch is debited at most once: by its delta, or by a reap, whichever
 * comes first; `touched` says so. A4. Afterwards the cache of decoded maps is brought up to date,
 * and only then do finished range holes leave (H2). A5. A page whose old map cannot be decoded or
 * read for good is marked bad and named; apply goes on. What fails for a passing reason is tried
 * again for as long as it takes. A block that does not check may have been spoilt on its way, each
 * time it was read: so before it is given up it is read some times more, as long as the batch is
 * not held up by that for long.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/msg.h"
#include "vol/backref.h"
#include "vol/record.h"
#include "vol/stage.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

struct dead_frame {
    uint64_t seq;
    uint64_t offset;
};

struct advance {
    struct vol_hole hole;
    uint64_t upto;
};

struct apply {
    struct vol *v;
    const struct vol_apply_in *in;
    struct vol_stage stage;
    VEC(struct vol_place) touched; /* A3: an open-addressed set; layer 0 = empty */
    size_t touched_count;
    VEC(struct advance) advances;
    VEC(uint64_t) changed; /* segments */
    VEC(struct dead_frame) dead;
    struct vol_hole_list covered;
    bool hidden;    /* something, by a hole of this batch */
    unsigned looks; /* A5: that were taken again */
};

struct place_list {
    VEC(struct vol_place) places;
};

/* How far ahead memory is asked for. */
#define HINT_STEPS 8u
/* After so many records or places, others on this core go first. */
#define STEPS_PER_TURN 64u

static size_t touched_slot(const struct apply *a, uint64_t layer, uint64_t page)
{
    size_t mask = a->touched.cap - 1;
    size_t at = (size_t)hash_pair(layer, page) & mask;
    while (a->touched.at[at].layer != 0 &&
           (a->touched.at[at].page != page || a->touched.at[at].layer != layer)) {
        at = (at + 1) & mask;
    }
    return at;
}

static int touched_grow(struct apply *a)
{
    size_t cap = a->touched.cap ? a->touched.cap * 2 : 64;
    struct vol_place *old = a->touched.at;
    size_t old_cap = a->touched.cap;
    struct vol_place *fresh = calloc(cap, sizeof *fresh);
    if (!fresh) {
        return -ENOMEM;
    }
    a->touched.at = fresh;
    a->touched.cap = cap;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].layer != 0) {
            fresh[touched_slot(a, old[i].layer, old[i].page)] = old[i];
        }
    }
    free(old);
    return 0;
}

/* A large batch does not hold up its core: nothing of it shows before it is in the index, and it
 * stays in the view until all is done. */
static void step(size_t done) WAITS
{
    if (done % STEPS_PER_TURN == STEPS_PER_TURN - 1) {
        rt_yield();
    }
}

/* 1 when the page is new here, 0 when it was touched before, -ENOMEM. */
static int touch(struct apply *a, uint64_t layer, uint64_t page)
{
    if (a->touched_count * 2 >= a->touched.cap) {
        int r = touched_grow(a);
        if (r < 0) {
            return r;
        }
    }
    size_t at = touched_slot(a, layer, page);
    if (a->touched.at[at].layer != 0) {
        return 0;
    }
    a->touched.at[at] = (struct vol_place){layer, page};
    a->touched_count++;
    return 1;
}

#define LOOKS_OF_ONE 3u
#define LOOKS_OF_ALL 16u
#define LOOK_PAUSE_MS 200u

/* A5. Whether the index is to be asked again, after a pause: 1, 0, or an error. *looks: that were
 * taken at the same again. */
static int is_doubted(struct apply *a, int why, unsigned *looks) WAITS
{
    if (!vol_error_is_lasting(why)) {
        why = vol_error_pause(a->v, why);
        return why < 0 ? why : 1;
    }
    if (why != ERR_CORRUPT_INDEX || *looks >= LOOKS_OF_ONE || a->looks >= LOOKS_OF_ALL) {
        return 0;
    }
    (*looks)++;
    a->looks++;
    int r = atomic_load(&a->v->fenced) ? ERR_FENCED : rt_sleep_ms(LOOK_PAUSE_MS);
    return r < 0 ? r : 1;
}

/* A5. *ret_bad: the old map is lost. */
static int old_map(struct apply *a, const struct vol_record *rec, struct vol_map *ret_old,
                   bool *ret_bad)
{
    unsigned looks = 0;
    *ret_bad = false;
    for (;;) {
        int r = vol_map_load(a->v, rec->layer, rec->page, ret_old);
        if (r == 0) {
            return 0;
        }
        int doubt = is_doubted(a, r, &looks);
        if (doubt < 0) {
            return doubt;
        }
        if (doubt == 0) {
            msg_error("vol", "page %" PRIu64 " of layer %" PRIu64 " has lost its map: %s",
                      rec->page, rec->layer, err_text(r));
            atomic_fetch_add(&a->v->bad_pages, 1);
            ret_old->batch = 0;
            ret_old->count = 0;
            *ret_bad = true;
            return 0;
        }
    }
}

static int change_segment(struct apply *a, uint64_t seq, int64_t blocks)
{
    bool first;
    int r = vec_reserve(&a->changed, a->changed.len + 1);
    if (r < 0) {
        return r;
    }
    r = vol_segments_change(&a->v->segs, &(struct vol_segment_change){seq, blocks, a->in->seq},
                            &first);
    if (r == -ENOMEM) {
        return r;
    }
    return first ? vec_push(&a->changed, seq) : 0;
}

static int change_segments(struct apply *a, const struct vol_map_changes *changes)
{
    for (uint32_t i = 0; i < changes->count; i++) {
        if (changes->at[i].blocks != 0) {
            int r =
                VOL_PATIENTLY(a->v, change_segment(a, changes->at[i].seq, changes->at[i].blocks));
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

/* A copied run refers to a segment that its source's map refers to, so one that is known. */
static int stored_run(const struct apply *a, const struct vol_record_run *from, struct vol_run *run)
{
    struct log_salt salt;
    if (from->seq >= a->in->seq || vol_segments_salt(&a->v->segs, from->seq, &salt) < 0) {
        return ERR_CORRUPT_RECORD;
    }
    run->kind = VOL_RUN_DATA;
    run->seq = from->seq;
    run->offset = from->offset;
    run->len_bytes = from->len_bytes;
    run->frame_block = from->frame_block;
    run->frame_blocks = from->frame_blocks;
    return 0;
}

static int delta_of(const struct apply *a, const struct vol_record *rec, struct vol_map *ret_delta)
{
    ret_delta->batch = a->in->number;
    ret_delta->count = rec->run_count;
    for (uint32_t i = 0; i < rec->run_count; i++) {
        const struct vol_record_run *from = &rec->runs[i];
        struct vol_run *run = &ret_delta->runs[i];
        *run = (struct vol_run){.first = from->first, .count = from->count, .kind = from->kind};
        int r = from->kind == VOL_RUN_STORED ? stored_run(a, from, run) : 0;
        if (r < 0) {
            return r;
        }
        if (from->kind != VOL_RUN_DATA) {
            continue;
        }
        if (from->frame >= a->in->frame_count) {
            return ERR_CORRUPT_RECORD;
        }
        const struct log_frame *f = &a->in->frames[from->frame];
        if (from->frame_block + from->count > f->count) {
            return ERR_CORRUPT_RECORD;
        }
        run->seq = a->in->seq;
        run->offset = f->offset;
        run->len_bytes = f->len_bytes;
        run->frame_block = from->frame_block;
        run->frame_blocks = f->count;
    }
    return 0;
}

static int stage_map(struct apply *a, const struct vol_record *rec, const struct vol_map *map)
{
    struct vol_key key = vol_key_page(rec->layer, rec->page);
    if (map->count == 0) {
        return vol_stage_delete(&a->stage, &key);
    }
    struct vol_staged s = vol_stage_begin(&a->stage, INDEX_PUT, &key);
    vol_map_encode(map, &a->stage.arena);
    return vol_stage_end(&a->stage, &s);
}

static bool map_uses(const struct vol_map *map, const struct vol_run *of)
{
    for (uint32_t i = 0; i < map->count; i++) {
        const struct vol_run *run = &map->runs[i];
        if (run->kind == VOL_RUN_DATA && run->seq == of->seq && run->offset == of->offset) {
            return true;
        }
    }
    return false;
}

/* A frame belongs to one page, and rarely to those that it was copied to: what its map no longer
 * names is hardly read by anybody. */
static int note_dead(struct apply *a, const struct vol_map *old, const struct vol_map *merged)
{
    int r = 0;
    for (uint32_t i = 0; i < old->count && r == 0; i++) {
        const struct vol_run *run = &old->runs[i];
        if (run->kind == VOL_RUN_DATA && !map_uses(merged, run)) {
            struct dead_frame dead = {run->seq, run->offset};
            r = VOL_PATIENTLY(a->v, vec_push(&a->dead, dead));
        }
    }
    return r;
}

/* Their memory goes to the next writes, and not only when the cache is full. */
static void drop_dead(struct apply *a) WAITS
{
    struct cache *c = a->v->cache;
    const struct dead_frame *dead = a->dead.at;
    size_t len = a->dead.len;
    for (size_t i = 0; i < len + 3 * HINT_STEPS; i++) {
        for (unsigned hint = 0; hint <= CACHE_HINT_NEIGHBOURS; hint++) {
            size_t at = i - hint * HINT_STEPS;
            if (at < len) {
                cache_hint(c, dead[at].seq, dead[at].offset, (enum cache_hint)hint);
            }
        }
        size_t at = i - 3 * HINT_STEPS;
        if (at < len) {
            cache_drop(c, dead[at].seq, dead[at].offset);
        }
        step(i);
    }
}

/* What is left of a map under a range hole that hides the layers below: the new map is younger than
 * the hole, so it has to say so itself of the blocks that the batch does not write. */
static const struct vol_map masking_map = {
    .count = 1, .runs = {{.first = 0, .count = VOL_PAGE_BLOCKS, .kind = VOL_RUN_HOLE}}};

static int apply_page(struct apply *a, const struct vol_record *rec)
{
    struct vol_map old;
    struct vol_map delta;
    struct vol_map merged;
    struct vol_map_changes changes = {.count = 0};
    bool bad;
    int r = VOL_PATIENTLY(a->v, touch(a, rec->layer, rec->page));
    if (r <= 0) {
        return r < 0 ? r : ERR_CORRUPT_RECORD;
    }
    r = delta_of(a, rec, &delta);
    if (r < 0) {
        return r;
    }
    r = old_map(a, rec, &old, &bad);
    if (r < 0) {
        return r;
    }
    uint64_t end;
    bool masks;
    uint64_t hole = vol_holes_cover(a->v->holes, rec->layer, rec->page, &end, &masks);
    bool existed = old.count > 0 || bad;
    /* When a lost map was changed last nobody knows: only a hole of this batch hides it for sure.
     */
    if (hole > old.batch && (!bad || hole == a->in->number)) {
        vol_map_drop(&old, &changes);
        old = masks ? masking_map : (struct vol_map){.count = 0};
        bad = false;
    }
    vol_map_merge(&old, &delta, &merged, &changes);
    r = note_dead(a, &old, &merged);
    if (bad) {
        vol_map_spoil(&merged);
    }
    if (r == 0) {
        r = change_segments(a, &changes);
    }
    if (r < 0 || (merged.count == 0 && !existed)) {
        return r;
    }
    r = VOL_PATIENTLY(a->v, stage_map(a, rec, &merged));
    return r == 0 && rec->kind == VOL_RECORD_COPY ? vol_backrefs_stage(&a->stage, rec) : r;
}

static int stage_hole(struct apply *a, const struct vol_hole *hole)
{
    struct vol_key key = vol_key_hole(hole->layer, hole->batch, hole->first);
    struct vol_hole_value hv = {
        .count = hole->end - hole->first, .done_upto = hole->done_upto, .flags = hole->flags};
    struct bytes_writer value = {0};
    vol_hole_encode(&hv, &value);
    int r = vol_stage_put(&a->stage, &key, &value);
    bytes_writer_free(&value);
    return r;
}

static int apply_hole(struct apply *a, const struct vol_record *rec)
{
    struct vol_hole hole = {.layer = rec->layer,
                            .batch = a->in->number,
                            .first = rec->page,
                            .end = rec->page + rec->count,
                            .done_upto = rec->page,
                            .flags = rec->flags};
    size_t covered = a->covered.holes.len;
    a->hidden = true;
    int r = VOL_PATIENTLY(a->v, vol_holes_add(a->v->holes, &hole, &a->covered));
    vol_holes_unreserve(a->v->holes, hole.layer, 1);
    for (size_t i = covered; r == 0 && i < a->covered.holes.len; i++) {
        const struct vol_hole *c = &a->covered.holes.at[i];
        struct vol_key key = vol_key_hole(c->layer, c->batch, c->first);
        r = VOL_PATIENTLY(a->v, vol_stage_delete(&a->stage, &key));
    }
    return r < 0 ? r : VOL_PATIENTLY(a->v, stage_hole(a, &hole));
}

/* The walk of a reap: hidden maps go, with their references. A map that does not decode goes
 * without. */
struct reap {
    struct apply *a;
    const struct vol_record *rec;
};

static int reap_map(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct reap *p = arg;
    struct vol_map map;
    uint64_t layer;
    uint64_t page;
    int r = vol_key_page_decode(key, key_len, &layer, &page);
    if (r < 0) {
        return r;
    }
    bool good = vol_map_decode(value, value_len, &map) == 0;
    if (good && map.batch >= p->rec->hole_batch) {
        return 0;
    }
    r = VOL_PATIENTLY(p->a->v, touch(p->a, layer, page));
    if (r <= 0) {
        return r;
    }
    struct vol_map_changes changes = {.count = 0};
    if (good) {
        vol_map_drop(&map, &changes);
    }
    struct vol_key k = vol_key_page(layer, page);
    r = VOL_PATIENTLY(p->a->v, vol_stage_delete(&p->a->stage, &k));
    return r < 0 ? r : change_segments(p->a, &changes);
}

static int apply_reap(struct apply *a, const struct vol_record *rec)
{
    struct reap p = {a, rec};
    struct vol_key from = vol_key_page(rec->layer, rec->from);
    struct vol_key upto = vol_key_page(rec->layer, rec->upto);
    unsigned looks = 0;
    int r;
    while (
        (r = index_scan(a->v->ix, &(struct index_range){from.bytes, from.len, upto.bytes, upto.len},
                        reap_map, &p)) < 0) {
        int doubt = is_doubted(a, r, &looks);
        if (doubt < 0) {
            return doubt;
        }
        if (doubt == 0) {
            /* Its maps are lost, or stay hidden with their counts, and the hole stays. */
            msg_error("vol",
                      "pages %" PRIu64 " to %" PRIu64 " of layer %" PRIu64
                      " cannot be given back: %s",
                      rec->from, rec->upto, rec->layer, err_text(r));
            vol_hole_put_off(a->v, &(struct vol_hole){.layer = rec->layer,
                                                      .batch = rec->hole_batch,
                                                      .first = rec->page});
            return 0;
        }
    }
    struct advance adv = {.upto = rec->upto};
    if (!vol_holes_find(a->v->holes, rec->layer, rec->hole_batch, rec->page, &adv.hole)) {
        return 0; /* a newer hole has taken its place */
    }
    r = VOL_PATIENTLY(a->v, vec_push(&a->advances, adv));
    if (r < 0) {
        return r;
    }
    if (adv.upto < adv.hole.end || adv.hole.flags & VOL_HOLE_MASKS) {
        adv.hole.done_upto = MAX_OF(adv.upto, adv.hole.done_upto);
        return VOL_PATIENTLY(a->v, stage_hole(a, &adv.hole));
    }
    struct vol_key key = vol_key_hole(adv.hole.layer, adv.hole.batch, adv.hole.first);
    return VOL_PATIENTLY(a->v, vol_stage_delete(&a->stage, &key));
}

static int apply_gone(struct apply *a, const struct vol_record *rec)
{
    vol_segments_remove(&a->v->segs, rec->seq);
    struct vol_key key = vol_key_segment(rec->seq);
    int r = VOL_PATIENTLY(a->v, vol_stage_delete(&a->stage, &key));
    return r == 0 && a->v->has_backrefs ? vol_backrefs_drop(&a->stage, rec->seq) : r;
}

static int apply_record(struct apply *a, const struct vol_record *rec)
{
    switch (rec->kind) {
    case VOL_RECORD_PAGE:
    case VOL_RECORD_COPY:
        return apply_page(a, rec);
    case VOL_RECORD_HOLE:
        return apply_hole(a, rec);
    case VOL_RECORD_REAP:
        return apply_reap(a, rec);
    case VOL_RECORD_GONE:
        return apply_gone(a, rec);
    case VOL_RECORD_PUT:
    case VOL_RECORD_DELETE:
        return VOL_PATIENTLY(a->v, vol_stage_pair(&a->stage, rec));
    }
    UNREACHABLE("the decoder knows the kinds");
}

static int stage_count(struct apply *a, uint64_t seq, const struct vol_segment_value *kept)
{
    struct vol_key key = vol_key_segment(seq);
    struct bytes_writer value = {0};
    vol_segment_encode(kept, &value);
    int r = vol_stage_put(&a->stage, &key, &value);
    bytes_writer_free(&value);
    return r;
}

static int stage_segments(struct apply *a)
{
    struct vol_segments *segs = &a->v->segs;
    for (size_t i = 0; i < a->changed.len; i++) {
        rt_mutex_lock(&segs->m);
        struct vol_segment *seg = vol_segments_find(segs, a->changed.at[i]);
        struct vol_segment_value kept = {0};
        if (seg) {
            kept = (struct vol_segment_value){seg->live, seg->salt};
            seg->changed = false;
        }
        rt_mutex_unlock(&segs->m);
        int r = seg ? VOL_PATIENTLY(a->v, stage_count(a, a->changed.at[i], &kept)) : 0;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int write_index(struct apply *a)
{
    auto_free struct index_write *w = malloc(MAX_OF(a->stage.staged.len, 1) * sizeof *w);
    if (!w) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < a->stage.staged.len; i++) {
        step(i);
        const struct vol_staged *s = &a->stage.staged.at[i];
        w[i] = (struct index_write){.op = s->op,
                                    .key = a->stage.arena.data + s->at,
                                    .value = a->stage.arena.data + s->at + s->key_len,
                                    .key_len = s->key_len,
                                    .value_len = s->value_len};
    }
    return index_apply(a->v->ix, a->in->seq, a->in->number, a->in->epoch, w, a->stage.staged.len);
}

/* A4. */
static void update_maps(struct apply *a) WAITS
{
    for (size_t i = 0; i < a->stage.staged.len; i++) {
        step(i);
        const struct vol_staged *s = &a->stage.staged.at[i];
        const uint8_t *key = a->stage.arena.data + s->at;
        struct vol_map map = {.count = 0};
        uint64_t layer;
        uint64_t page;
        if (vol_key_page_decode(key, s->key_len, &layer, &page) < 0) {
            continue;
        }
        if (s->op == INDEX_PUT) {
            int r = vol_map_decode(key + s->key_len, s->value_len, &map);
            ASSERT(r == 0);
        }
        vol_map_cache_set(a->v->maps, layer, page, &map);
    }
}

static void finish_holes(struct apply *a)
{
    for (size_t i = 0; i < a->advances.len; i++) {
        vol_holes_advance(a->v->holes, &a->advances.at[i].hole, a->advances.at[i].upto);
    }
    if (a->advances.len > 0 || a->hidden) {
        rt_mutex_lock(&a->v->hole_m);
        a->v->hole_until_ns = 0;
        rt_waitq_wake_all(&a->v->hole_q);
        rt_mutex_unlock(&a->v->hole_m);
    }
    if (vol_holes_due(a->v->holes) > 0) {
        rt_event_set(&a->v->walking);
    }
}

static int list_pages(struct apply *a, struct place_list *ret_places)
{
    struct bytes_reader r = bytes_reader_of(a->in->records, a->in->records_len);
    struct vol_record rec;
    int got;
    for (size_t done = 0; (got = vol_record_next(&r, &rec)) > 0; done++) {
        step(done);
        if (rec.kind == VOL_RECORD_PAGE || rec.kind == VOL_RECORD_COPY) {
            struct vol_place place = {rec.layer, rec.page};
            vol_map_cache_hint(a->v->maps, rec.layer, rec.page, false);
            got = vec_push(&ret_places->places, place);
            if (got < 0) {
                break;
            }
        }
    }
    return got;
}

/* Old maps that are not in memory are fetched many at a time: one after the other, a batch of small
 * writes would take its count of round trips. Those that are come into the processor's caches. */
static int warm(struct apply *a)
{
    struct place_list all = {0};
    int r = list_pages(a, &all);
    const struct vol_place *at = all.places.at;
    size_t len = all.places.len;
    size_t cold = 0;
    for (size_t i = 0; i < len && r == 0; i++) {
        struct vol_map map;
        step(i);
        if (i + HINT_STEPS < len) {
            vol_map_cache_hint(a->v->maps, at[i + HINT_STEPS].layer, at[i + HINT_STEPS].page, true);
        }
        if (vol_map_peek(a->v, at[i].layer, at[i].page, &map) == -EAGAIN) {
            all.places.at[cold++] = at[i];
        }
    }
    if (r == 0) {
        vol_maps_warm(a->v, at, cold);
    }
    vec_free(&all.places);
    return r;
}

static int apply_all(struct apply *a)
{
    struct bytes_reader r = bytes_reader_of(a->in->records, a->in->records_len);
    struct vol_record rec;
    int got = VOL_PATIENTLY(a->v, warm(a));
    if (got == 0) {
        got = VOL_PATIENTLY(a->v, change_segment(a, a->in->seq, 0));
    }
    if (got < 0) {
        return got;
    }
    vol_segments_salt_set(&a->v->segs, a->in->seq, a->in->salt);
    for (size_t done = 0; (got = vol_record_next(&r, &rec)) > 0; done++) {
        step(done);
        got = apply_record(a, &rec);
        if (got < 0) {
            break;
        }
    }
    if (got < 0) {
        return got;
    }
    got = stage_segments(a);
    return got < 0 ? got : VOL_PATIENTLY(a->v, write_index(a));
}

int vol_apply(struct vol *v, const struct vol_apply_in *in)
{
    struct apply a = {.v = v, .in = in, .stage = {.v = v}};
    int r = apply_all(&a);
    if (r == 0) {
        update_maps(&a);
        drop_dead(&a);
        finish_holes(&a);
        atomic_store(&v->applied_number, in->number);
        atomic_store(&v->applied_seq, in->seq);
    }
    vol_stage_free(&a.stage);
    free(a.touched.at);
    vec_free(&a.advances);
    vec_free(&a.changed);
    vec_free(&a.dead);
    vec_free(&a.covered.holes);
    return r;
}
