/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads that are served from memory at once, several together.
 *
 * A read touches a page's map, a frame's entry in the block cache and its buffer, all far from each
 * other and from those of the read before. So each step is made for all reads before the next one:
 * what the later step needs is on its way to the processor meanwhile. The view is taken once.
 *
 * Nothing here waits. A read whose parts lie in several places, or not in memory, or that would
 * fail, is left to vol_read(), which finds out anew: what is said here is success or nothing.
 */
#include "vol/vol_priv.h"

/* Where a read's first block is, and all others after it. */
struct found {
    struct vol_source at;
    bool stored; /* to be asked for in the block cache */
};

static bool in_one_page(const struct vol_ready *r, uint64_t size)
{
    return r->len > 0 && r->off < size && r->len <= size - r->off &&
           r->off / VOL_PAGE_BYTES == (r->off + r->len - 1) / VOL_PAGE_BYTES;
}

/* Neighbours in one place: the references of all but the first are given back. */
static bool join(struct vol_source *sources, unsigned first, unsigned count)
{
    bool one = true;
    for (unsigned k = 1; k < count && one; k++) {
        one = vol_source_joins(&sources[first], k, &sources[first + k]);
    }
    unsigned rest = ((1u << count) - 1) << first & ~(one ? 1u << first : 0);
    vol_sources_drop(sources, rest);
    return one;
}

static bool find(const struct vol_view *view, struct vol_file *f, const struct vol_ready *r,
                 struct found *ret)
{
    struct vol_source sources[VOL_PAGE_BLOCKS];
    unsigned first = r->off / VOL_BLOCK_BYTES % VOL_PAGE_BLOCKS;
    unsigned last = (r->off + r->len - 1) / VOL_BLOCK_BYTES % VOL_PAGE_BLOCKS;
    unsigned count = last - first + 1;
    struct vol_page_part part = {.page = r->off / VOL_PAGE_BYTES,
                                 .mask = ((1u << count) - 1) << first};
    for (unsigned k = first; k <= last; k++) {
        sources[k].slot.buf = NULL;
    }
    if (vol_resolve_in(view, f, &part, sources) < 0 || !join(sources, first, count)) {
        return false;
    }
    ret->at = sources[first];
    ret->stored = ret->at.slot.kind == VOL_RUN_DATA && !ret->at.slot.buf;
    return ret->at.slot.kind != VOL_RUN_BAD;
}

/* The place becomes the data; its reference goes over to the chain or is given back. */
static int give(struct cache *cache, struct found *at, struct vol_ready *r)
{
    uint32_t skip = r->off % VOL_BLOCK_BYTES;
    const struct vol_slot *slot = &at->at.slot;
    if (slot->kind != VOL_RUN_DATA) {
        return rt_chain_add_zeros(&r->data, r->len, slot->kind == VOL_RUN_HOLE);
    }
    if (!at->stored) {
        return rt_chain_take(&r->data, slot->buf, slot->data + skip, r->len);
    }
    struct rt_piece p;
    const struct vol_run *run = &at->at.run;
    if (!cache_get(cache, run->seq, run->offset, &p)) {
        return -EAGAIN;
    }
    uint64_t from = (uint64_t)run->frame_block * VOL_BLOCK_BYTES + skip;
    if (unlikely(from + r->len > p.len)) {
        rt_buf_unref(p.buf);
        return -EAGAIN;
    }
    return rt_chain_take(&r->data, p.buf, p.data + from, r->len);
}

static void hint_maps(struct vol_file *f, const struct vol_ready *reads, size_t count, bool entry)
{
    for (size_t i = 0; i < count; i++) {
        vol_map_cache_hint(f->v->maps, f->layers[0], reads[i].off / VOL_PAGE_BYTES, entry);
    }
}

static void hint_cache(struct cache *c, const struct found *at, size_t count, enum cache_hint hint)
{
    for (size_t i = 0; i < count; i++) {
        if (at[i].stored) {
            cache_hint(c, at[i].at.run.seq, at[i].at.run.offset, hint);
        }
    }
}

static void find_all(struct vol_file *f, struct vol_ready *reads, size_t count, struct found *at)
{
    uint64_t size = atomic_load_explicit(&f->size, memory_order_acquire);
    struct vol_view *view = vol_view_get(f->v);
    for (size_t i = 0; i < count; i++) {
        at[i].stored = false;
        bool found = reads[i].result == 0 && in_one_page(&reads[i], size) &&
                     !vol_ahead_due(f, reads[i].off, reads[i].off + reads[i].len) &&
                     find(view, f, &reads[i], &at[i]);
        reads[i].result = found ? 0 : -EAGAIN;
        if (found && at[i].stored) {
            cache_hint(f->v->cache, at[i].at.run.seq, at[i].at.run.offset, CACHE_HINT_BUCKET);
        }
    }
    vol_view_put(view);
}

static void read_some(struct vol_file *f, struct vol_ready *reads, size_t count)
{
    struct found at[VOL_READY_MAX];
    struct cache *cache = f->v->cache;
    bool many = count >= VOL_READY_HINTS_MIN;
    if (many) {
        hint_maps(f, reads, count, false);
        hint_maps(f, reads, count, true);
    }
    find_all(f, reads, count, at);
    if (many) {
        hint_cache(cache, at, count, CACHE_HINT_ENTRY);
        hint_cache(cache, at, count, CACHE_HINT_BUFFER);
    }
    for (size_t i = 0; i < count; i++) {
        if (reads[i].result == 0) {
            reads[i].result = give(cache, &at[i], &reads[i]);
        }
    }
}

void vol_read_ready(struct vol_file *f, struct vol_ready *reads, size_t count)
{
    bool may = vol_may_read(f->v) == 0 && vol_reading_try(f->v);
    for (size_t i = 0; i < count && !may; i++) {
        reads[i].result = -EAGAIN;
    }
    for (size_t i = 0; i < count && may; i += VOL_READY_MAX) {
        read_some(f, &reads[i], MIN_OF(count - i, (size_t)VOL_READY_MAX));
    }
    if (may) {
        vol_reading_end(f->v);
    }
}
