/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extents. Pages that exist somewhere are looked at one by one; the way to the next page that
 * exists is one step. The work of a call is bounded by PAGES_MAX pages: after it, what is known so
 * far is the answer.
 */
#include "base/err.h"
#include "vol/vol_priv.h"

#define PAGES_MAX 4096u

struct listing {
    struct vol_file *f;
    struct vol_extent *extents;
    size_t max;
    size_t count;
    uint64_t off; /* bytes, as are the following */
    uint64_t len;
    uint64_t end;
    uint32_t budget;
};

static enum vol_extent_kind kind_of(const struct vol_source *s)
{
    switch (s->slot.kind) {
    case VOL_RUN_DATA:
        return VOL_EXTENT_DATA;
    case VOL_RUN_ZERO:
        return VOL_EXTENT_ZERO;
    case VOL_RUN_ANCHORED:
        return VOL_EXTENT_ANCHORED;
    default:
        return VOL_EXTENT_HOLE;
    }
}

/* False when the list is full. */
static bool add(struct listing *l, uint64_t off, uint64_t end, enum vol_extent_kind kind)
{
    if (l->count > 0 && l->extents[l->count - 1].kind == kind) {
        l->extents[l->count - 1].len += end - off;
        return true;
    }
    if (l->count == l->max) {
        return false;
    }
    l->extents[l->count++] = (struct vol_extent){.off = off, .len = end - off, .kind = kind};
    return true;
}

/* Adds the page's blocks from off on; *off moves to where it stopped. 1 = go on, 0 = the list is
 * full. */
static int add_page(struct listing *l, uint64_t *off)
{
    struct vol_source sources[VOL_PAGE_BLOCKS] = {0};
    uint64_t page = *off / VOL_PAGE_BYTES;
    uint64_t end = MIN_OF((page + 1) * VOL_PAGE_BYTES, l->end);
    unsigned first = (unsigned)(*off % VOL_PAGE_BYTES / VOL_BLOCK_BYTES);
    unsigned last = (unsigned)((end - 1) % VOL_PAGE_BYTES / VOL_BLOCK_BYTES);
    unsigned mask = ((2u << last) - 1) & ~((1u << first) - 1);
    int r = vol_resolve(l->f, page, mask, sources);
    if (r < 0) {
        return r;
    }
    bool room = true;
    for (unsigned k = first; k <= last && room; k++) {
        uint64_t upto = MIN_OF(page * VOL_PAGE_BYTES + (k + 1) * (uint64_t)VOL_BLOCK_BYTES, end);
        room = add(l, *off, upto, kind_of(&sources[k]));
        *off = room ? upto : *off;
    }
    vol_sources_drop(sources, mask);
    return room;
}

struct seek {
    struct vol *v;
    uint64_t found;
    uint32_t steps;
};

/* The first map that no range hole hides. */
static int seek_map(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct seek *s = arg;
    struct vol_map map;
    uint64_t layer;
    uint64_t page;
    uint64_t end;
    bool masks;
    int r = vol_key_page_decode(key, key_len, &layer, &page);
    if (r < 0) {
        return r;
    }
    uint64_t hole = vol_holes_cover(s->v->holes, layer, page, &end, &masks);
    bool hidden = hole > 0 && vol_map_decode(value, value_len, &map) == 0 && hole > map.batch;
    s->found = page + (hidden ? 1 : 0);
    return !hidden || ++s->steps >= PAGES_MAX;
}

/* True when a batch that is not applied yet has blocks of the page: found without a search. */
static bool is_overlaid(struct vol_view *view, uint64_t layer, uint64_t page)
{
    for (uint32_t k = 0; k < view->count; k++) {
        if (vol_batch_has_page(view->batches[k], layer, page)) {
            return true;
        }
    }
    return false;
}

/*
 * The first page in [from, upto) of which anything is known in the layer; upto if none. The batches
 * are searched page by page only when neither they nor the index have `from` itself, so that a
 * long run of known pages does not search them for each.
 */
static int next_page_of(struct vol_file *f, uint64_t layer, uint64_t from, uint64_t *upto)
{
    struct vol_view *view = vol_view_get(f->v);
    if (is_overlaid(view, layer, from)) {
        *upto = from;
        vol_view_put(view);
        return 0;
    }
    struct vol_key first = vol_key_page(layer, from);
    struct vol_key end = vol_key_page(layer, *upto);
    struct seek s = {.v = f->v};
    int r = index_scan(f->v->ix, &(struct index_range){first.bytes, first.len, end.bytes, end.len},
                       seek_map, &s);
    if (r > 0) {
        *upto = MIN_OF(s.found, *upto);
    }
    for (uint32_t k = 0; r >= 0 && *upto > from && k < view->count; k++) {
        *upto = vol_batch_next_page(view->batches[k], layer, from, *upto);
    }
    vol_view_put(view);
    return r < 0 ? vol_heed(f->v, r) : 0;
}

int vol_next_page(struct vol_file *f, uint64_t from, uint64_t upto, uint64_t *ret_page)
{
    for (uint32_t i = 0; i < f->layer_count && upto > from; i++) {
        int r = next_page_of(f, f->layers[i], from, &upto);
        if (r < 0) {
            return r;
        }
    }
    *ret_page = upto;
    return 0;
}

/* From off on: the hole up to the next page that exists, or that page. 1 = go on. */
static int step(struct listing *l, uint64_t *off)
{
    uint64_t page = *off / VOL_PAGE_BYTES;
    uint64_t end_page = (l->end + VOL_PAGE_BYTES - 1) / VOL_PAGE_BYTES;
    uint64_t next = page;
    int r = vol_next_page(l->f, page, end_page, &next);
    if (r < 0) {
        return r;
    }
    if (next == page) {
        return add_page(l, off);
    }
    uint64_t upto = MIN_OF(next * VOL_PAGE_BYTES, l->end);
    bool room = add(l, *off, upto, VOL_EXTENT_HOLE);
    *off = room ? upto : *off;
    return room;
}

static int list_from(void *arg)
{
    struct listing *l = arg;
    uint64_t size = vol_file_size(l->f);
    uint64_t off = l->off;
    if (l->f->gone) {
        return -ENOENT;
    }
    if (off > size || l->len > size - off) {
        return -EINVAL;
    }
    l->count = 0;
    l->end = off + l->len;
    l->budget = PAGES_MAX;
    while (off < l->end && l->budget-- > 0) {
        int r = step(l, &off);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            break;
        }
    }
    return (int)l->count;
}

int vol_extents(struct vol_file *f, uint64_t off, uint64_t len, struct vol_extent *ret_extents,
                size_t max)
{
    int r = vol_may_read(f->v);
    if (r < 0) {
        return r;
    }
    struct listing l = {.f = f, .extents = ret_extents, .max = max, .off = off, .len = len};
    return f->v->opt.read_only ? vol_reading(f->v, list_from, &l) : list_from(&l);
}
