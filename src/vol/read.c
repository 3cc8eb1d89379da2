/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads. Two steps over a window of at most a mebibyte: resolve where each block is, then bring
 * what is not in memory and chain the pieces.
 *
 * R1. To resolve a page is one step without a wait: view, range holes, map (H2 wants this order).
 * When the map has to be fetched, the view is given back, the map brought into memory, and the page
 * resolved anew. So no view, and no batch, is held while the store is slow. R2. What was resolved
 * is immutable: references to blocks in RAM, and places in segments. A segment may be deleted once
 * nothing refers to it; a reader that comes too late finds no object and resolves anew.
 */
#include "base/err.h"
#include "base/msg.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

#define WINDOW_BLOCKS 256u
#define RESOLVE_TRIES 4

/* One piece of the result: neighbouring blocks from one place. */
struct item {
    struct vol_source at;
    uint32_t blocks;
    struct rt_piece piece; /* once loaded: the whole frame, with a reference */
};

struct window {
    struct vol_file *f;
    uint64_t first_block;
    uint32_t blocks;
    uint32_t count;
    enum obj_class class;
    struct item *items; /* room for one item a block */
};

void vol_sources_drop(struct vol_source sources[VOL_PAGE_BLOCKS], unsigned mask)
{
    for (; mask != 0; mask &= mask - 1) {
        struct vol_source *s = &sources[__builtin_ctz(mask)];
        rt_buf_unref(s->slot.buf);
        s->slot.buf = NULL;
    }
}

/* A block that was copied within the store reads as one of the index. */
static void take_slot(struct vol_source *s, const struct vol_slot *slot)
{
    s->slot = *slot;
    if (unlikely(slot->kind == VOL_RUN_STORED)) {
        memcpy(&s->run, slot->data, sizeof s->run);
        s->slot = (struct vol_slot){.kind = VOL_RUN_DATA};
        rt_buf_unref(slot->buf);
    }
}

static unsigned ask_batches(const struct vol_view *view, const uint64_t at[2], unsigned mask,
                            struct vol_source sources[VOL_PAGE_BLOCKS])
{
    struct vol_slot slots[VOL_PAGE_BLOCKS];
    unsigned known = 0;
    for (uint32_t i = 0; i < view->count && mask & ~known; i++) {
        unsigned got = vol_batch_get(view->batches[i], at[0], at[1], mask & ~known, slots);
        known |= got;
        for (; got != 0; got &= got - 1) {
            int k = __builtin_ctz(got);
            take_slot(&sources[k], &slots[k]);
        }
    }
    return known;
}

/* Blocks of mask as the layer's map has them; those it does not know are of kind NONE. */
static int ask_map(struct vol *v, const uint64_t at[2], unsigned mask,
                   struct vol_source sources[VOL_PAGE_BLOCKS])
{
    struct vol_map map;
    uint64_t end;
    bool masks;
    uint64_t hole = vol_holes_cover(v->holes, at[0], at[1], &end, &masks);
    int r = vol_map_peek(v, at[0], at[1], &map);
    if (r < 0) {
        return r;
    }
    bool hidden = hole > map.batch;
    for (; mask != 0; mask &= mask - 1) {
        unsigned k = (unsigned)__builtin_ctz(mask);
        const struct vol_run *run = hidden ? NULL : vol_map_find(&map, k);
        struct vol_source *s = &sources[k];
        s->slot = (struct vol_slot){.kind = hidden && masks ? VOL_RUN_HOLE : VOL_RUN_NONE};
        if (run) {
            s->slot.kind = run->kind;
            s->run = *run;
            s->run.frame_block = (uint8_t)(run->frame_block + (k - run->first));
        }
    }
    return 0;
}

static unsigned mask_of_kind(const struct vol_source sources[VOL_PAGE_BLOCKS], unsigned mask,
                             uint32_t kind)
{
    unsigned found = 0;
    for (unsigned left = mask; left != 0; left &= left - 1) {
        unsigned k = (unsigned)__builtin_ctz(left);
        found |= sources[k].slot.kind == kind ? 1u << k : 0;
    }
    return found;
}

int vol_resolve_in(const struct vol_view *view, struct vol_file *f, struct vol_page_part *part,
                   struct vol_source sources[VOL_PAGE_BLOCKS])
{
    unsigned mask = part->mask;
    unsigned need = mask;
    int r = 0;
    for (uint32_t i = 0; i < f->layer_count && need; i++) {
        const uint64_t at[2] = {f->layers[i], part->page};
        unsigned known = ask_batches(view, at, need, sources);
        if (need & ~known) {
            r = ask_map(f->v, at, need & ~known, sources);
            if (r < 0) {
                part->layer = at[0];
                vol_sources_drop(sources, (mask & ~need) | known);
                break;
            }
        }
        need = mask_of_kind(sources, need, VOL_RUN_NONE);
    }
    for (unsigned left = r == 0 ? need : 0; left != 0; left &= left - 1) {
        sources[__builtin_ctz(left)].slot = (struct vol_slot){.kind = VOL_RUN_HOLE};
    }
    return r;
}

int vol_resolve(struct vol_file *f, uint64_t page, unsigned mask,
                struct vol_source sources[VOL_PAGE_BLOCKS])
{
    struct vol_page_part part = {.page = page, .mask = mask};
    int r;
    for (;;) {
        struct vol_view *view = vol_view_get(f->v);
        r = vol_resolve_in(view, f, &part, sources);
        vol_view_put(view);
        if (likely(r != -EAGAIN)) {
            break;
        }
        struct vol_map map;
        r = vol_map_load(f->v, part.layer, page, &map);
        if (r < 0) {
            return r;
        }
    }
    if (unlikely(r == 0 && mask_of_kind(sources, mask, VOL_RUN_BAD))) {
        vol_sources_drop(sources, mask);
        return ERR_BAD_PAGE;
    }
    return r;
}

static void window_drop(struct window *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        rt_buf_unref(w->items[i].at.slot.buf);
        rt_buf_unref(w->items[i].piece.buf);
    }
    w->count = 0;
}

bool vol_source_joins(const struct vol_source *a, uint32_t blocks, const struct vol_source *s)
{
    if (a->slot.kind != s->slot.kind || a->slot.buf != s->slot.buf) {
        return false;
    }
    if (a->slot.kind != VOL_RUN_DATA) {
        return true;
    }
    if (a->slot.buf) {
        return s->slot.data == a->slot.data + (size_t)blocks * VOL_BLOCK_BYTES;
    }
    return a->run.seq == s->run.seq && a->run.offset == s->run.offset &&
           s->run.frame_block == a->run.frame_block + blocks;
}

static void window_add(struct window *w, struct vol_source *s)
{
    struct item *it = w->items + w->count;
    if (w->count > 0 && vol_source_joins(&it[-1].at, it[-1].blocks, s)) {
        it[-1].blocks++;
        rt_buf_unref(s->slot.buf);
        return;
    }
    w->count++;
    it->at = *s;
    it->blocks = 1;
    it->piece.buf = NULL;
}

static int window_resolve(struct window *w)
{
    struct vol_source sources[VOL_PAGE_BLOCKS];
    uint64_t end = w->first_block + w->blocks;
    for (uint64_t block = w->first_block; block < end;) {
        unsigned first = block % VOL_PAGE_BLOCKS;
        unsigned count = (unsigned)MIN_OF(VOL_PAGE_BLOCKS - first, end - block);
        unsigned mask = ((1u << count) - 1) << first;
        for (unsigned k = first; k < first + count; k++) {
            sources[k].slot.buf = NULL;
        }
        int r = vol_resolve(w->f, block / VOL_PAGE_BLOCKS, mask, sources);
        if (r < 0) {
            return r;
        }
        for (unsigned k = first; k < first + count; k++) {
            window_add(w, &sources[k]);
        }
        block += count;
    }
    return 0;
}

static bool is_missing(const struct item *it)
{
    return it->at.slot.kind == VOL_RUN_DATA && !it->at.slot.buf && !it->piece.buf;
}

/* Fetches the frames that are not in memory, all in one step. */
static int window_fetch(struct window *w, uint32_t missing)
{
    struct vol_want few[VOL_PAGE_BLOCKS];
    auto_free struct vol_want *many = NULL;
    struct vol_want *wants = few;
    uint32_t n = 0;
    if (missing > ARRAY_LEN(few)) {
        many = malloc(missing * sizeof *many);
        if (!many) {
            return -ENOMEM;
        }
        wants = many;
    }
    for (uint32_t i = 0; i < w->count; i++) {
        const struct vol_run *run = &w->items[i].at.run;
        if (is_missing(&w->items[i])) {
            wants[n++] = (struct vol_want){.at = {run->seq, run->offset, run->len_bytes},
                                           .blocks = run->frame_blocks};
        }
    }
    int r = vol_fetch(w->f->v, w->class, wants, n);
    n = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        if (is_missing(&w->items[i])) {
            w->items[i].piece = wants[n++].piece;
        }
    }
    return r;
}

static int window_load(struct window *w)
{
    uint32_t missing = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct item *it = &w->items[i];
        const struct vol_run *run = &it->at.run;
        if (is_missing(it) && !cache_get(w->f->v->cache, run->seq, run->offset, &it->piece)) {
            it->piece.buf = NULL;
            missing++;
        }
    }
    if (likely(missing == 0)) {
        return 0;
    }
    if (w->class == OBJ_READ) {
        uint64_t first = w->first_block * VOL_BLOCK_BYTES;
        vol_ahead_note(w->f, first, first + (uint64_t)w->blocks * VOL_BLOCK_BYTES, true);
    }
    return window_fetch(w, missing);
}

static int item_chain(const struct item *it, uint64_t skip, uint64_t len, struct rt_chain *chain)
{
    const struct vol_slot *slot = &it->at.slot;
    if (slot->kind != VOL_RUN_DATA) {
        return rt_chain_add_zeros(chain, len, slot->kind == VOL_RUN_HOLE);
    }
    if (slot->buf) {
        return rt_chain_add(chain, slot->buf, slot->data + skip, (uint32_t)len);
    }
    uint64_t at = (uint64_t)it->at.run.frame_block * VOL_BLOCK_BYTES + skip;
    if (at + len > it->piece.len) {
        return ERR_CORRUPT_FRAME;
    }
    return rt_chain_add(chain, it->piece.buf, it->piece.data + at, (uint32_t)len);
}

/* The part of the window's items that lies in [off, end) bytes. */
static int window_chain(const struct window *w, uint64_t off, uint64_t end, struct rt_chain *chain)
{
    uint64_t at = w->first_block * VOL_BLOCK_BYTES;
    for (uint32_t i = 0; i < w->count; i++) {
        const struct item *it = &w->items[i];
        uint64_t next = at + (uint64_t)it->blocks * VOL_BLOCK_BYTES;
        uint64_t from = MAX_OF(at, off);
        uint64_t upto = MIN_OF(next, end);
        int r = item_chain(it, from - at, upto - from, chain);
        if (r < 0) {
            return r;
        }
        at = next;
    }
    return 0;
}

/* Resolves and loads; a segment that was deleted meanwhile (R2) is looked for again. */
static int window_fill(struct window *w)
{
    int r = 0;
    for (int tries = 0; tries < RESOLVE_TRIES; tries++) {
        r = window_resolve(w);
        if (r == 0) {
            r = window_load(w);
        }
        if (r != -ENOENT) {
            break;
        }
        window_drop(w);
        if (w->f->v->opt.read_only) {
            return -ESTALE;
        }
    }
    if (r == -ENOENT) {
        msg_error("vol", "a segment that holds live blocks is missing");
        r = -EIO;
    }
    return r;
}

static int read_window(struct vol_file *f, uint64_t off, uint64_t end, enum obj_class class,
                       struct rt_chain *chain)
{
    struct item few[VOL_PAGE_BLOCKS];
    struct window w = {.f = f, .class = class, .first_block = off / VOL_BLOCK_BYTES, .items = few};
    w.blocks = (uint32_t)((end + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES - w.first_block);
    auto_free struct item *many = NULL;
    if (w.blocks > ARRAY_LEN(few)) {
        many = malloc(w.blocks * sizeof *many);
        if (!many) {
            return -ENOMEM;
        }
        w.items = many;
    }
    int r = window_fill(&w);
    if (r == 0 && chain) {
        r = window_chain(&w, off, end, chain);
    }
    window_drop(&w);
    return r;
}

/* Takes off what was added since the chain had len bytes. One that was empty has no memory of its
 * own afterwards: nobody frees what he was given nothing in. */
static void chain_cut(struct rt_chain *c, uint64_t len)
{
    if (len == 0) {
        rt_chain_free(c);
        return;
    }
    while (c->len > len) {
        struct rt_piece *p = &rt_chain_at(c)[c->count - 1];
        uint64_t more = c->len - len;
        if (p->len > more) {
            p->len -= (uint32_t)more;
            c->len = len;
            return;
        }
        c->len -= p->len;
        rt_buf_unref(p->buf);
        c->count--;
    }
}

static int read_range(struct vol_file *f, uint64_t off, uint64_t len, enum obj_class class,
                      struct rt_chain *chain)
{
    uint64_t before = chain ? chain->len : 0;
    uint64_t end = off + len;
    while (off < end) {
        uint64_t window_end = (off / VOL_BLOCK_BYTES + WINDOW_BLOCKS) * VOL_BLOCK_BYTES;
        uint64_t upto = MIN_OF(end, window_end);
        int r = read_window(f, off, upto, class, chain);
        if (unlikely(r < 0)) {
            if (chain) {
                chain_cut(chain, before);
            }
            return r;
        }
        off = upto;
    }
    return 0;
}

struct reading {
    struct vol_file *f;
    uint64_t off;
    uint64_t len;
    enum obj_class class;
    struct rt_chain *chain;
};

static int read_inside(void *arg)
{
    const struct reading *g = arg;
    uint64_t size = vol_file_size(g->f);
    if (g->f->gone) {
        return -ENOENT;
    }
    if (g->off > size || g->len > size - g->off) {
        return -EINVAL;
    }
    return read_range(g->f, g->off, g->len, g->class, g->chain);
}

int vol_read(struct vol_file *f, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    int r = vol_may_read(f->v);
    if (unlikely(r < 0)) {
        return r;
    }
    if (unlikely(f->v->opt.read_only)) {
        struct reading g = {f, off, len, OBJ_READ, ret_data};
        return vol_reading(f->v, read_inside, &g);
    }
    uint64_t size = atomic_load_explicit(&f->size, memory_order_acquire);
    if (unlikely(off > size || len > size - off)) {
        return -EINVAL;
    }
    if (unlikely(vol_ahead_due(f, off, off + len))) {
        vol_ahead_note(f, off, off + len, false);
    }
    return read_range(f, off, len, OBJ_READ, ret_data);
}

int vol_prefetch(struct vol_file *f, uint64_t off, uint64_t len)
{
    int r = vol_may_read(f->v);
    if (r < 0) {
        return r;
    }
    struct cache_counts counts;
    cache_counts(f->v->cache, &counts);
    struct reading g = {f, off, MIN_OF(len, counts.capacity_bytes / 4), OBJ_PREFETCH, NULL};
    if (f->v->opt.read_only) {
        return vol_reading(f->v, read_inside, &g);
    }
    uint64_t size = atomic_load_explicit(&f->size, memory_order_acquire);
    if (off > size || len > size - off) {
        return -EINVAL;
    }
    return read_range(f, off, g.len, OBJ_PREFETCH, NULL);
}

int vol_block_read(struct vol_file *f, uint64_t block, uint8_t *dst)
{
    struct rt_chain chain = {0};
    uint64_t off = block * VOL_BLOCK_BYTES;
    int r = read_range(f, off, VOL_BLOCK_BYTES, OBJ_READ, &chain);
    if (r == 0) {
        rt_chain_copy_out(&chain, 0, dst, VOL_BLOCK_BYTES);
    }
    rt_chain_free(&chain);
    return r;
}
