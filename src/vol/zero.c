/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zeroes and discards. Blocks become slots of a kind without data; a long hole is one record
 * whatever its length (at least RANGE_PAGES pages), and the walker deletes the maps under it later.
 */
#include "base/assert.h"
#include "base/err.h"
#include "vol/vol_priv.h"

#define RANGE_PAGES 64u
#define RECORD_COST 256u

uint32_t vol_hole_kind(const struct vol_file *f)
{
    return f->layer_count > 1 ? VOL_RUN_HOLE : VOL_RUN_NONE;
}

static uint64_t pages_of(uint64_t first, uint64_t end)
{
    return (end + VOL_PAGE_BLOCKS - 1) / VOL_PAGE_BLOCKS - first / VOL_PAGE_BLOCKS;
}

uint64_t vol_zero_cost(uint64_t first, uint64_t end)
{
    return first < end ? pages_of(first, end) * VOL_PAGE_COST : 0;
}

int vol_zero_put(struct vol_file *f, struct vol_batch *b, uint64_t first, uint64_t end,
                 uint32_t kind)
{
    struct vol_slot slots[VOL_PAGE_BLOCKS];
    for (unsigned i = 0; i < VOL_PAGE_BLOCKS; i++) {
        slots[i] = (struct vol_slot){.kind = kind};
    }
    while (first < end) {
        unsigned room = VOL_PAGE_BLOCKS - (unsigned)(first % VOL_PAGE_BLOCKS);
        unsigned count = (unsigned)MIN_OF(room, end - first);
        uint64_t refund;
        int r = vol_batch_put(b,
                              &(struct vol_blocks){.layer = f->layers[0],
                                                   .page = first / VOL_PAGE_BLOCKS,
                                                   .first = first % VOL_PAGE_BLOCKS,
                                                   .count = count,
                                                   .slots = slots},
                              &refund);
        if (r < 0) {
            return r;
        }
        first += count;
    }
    return 0;
}

/* Page by page, in parts that fit the pool. */
static int zero_slots(struct vol_file *f, uint64_t first, uint64_t end, uint32_t kind)
{
    struct vol *v = f->v;
    uint64_t pages_max = v->part_bytes / VOL_PAGE_COST;
    while (first < end) {
        uint64_t part_end = (first / VOL_PAGE_BLOCKS + pages_max) * VOL_PAGE_BLOCKS;
        uint64_t upto = MIN_OF(end, part_end);
        uint64_t cost = vol_zero_cost(first, upto);
        int r = vol_dirty_take(v, cost, RT_FOREVER);
        if (r < 0) {
            return r;
        }
        struct vol_entry e;
        vol_enter(v, &e);
        r = vol_zero_put(f, e.batch, first, upto, kind);
        vol_leave(v, &e, cost);
        if (r < 0) {
            return r;
        }
        first = upto;
    }
    return 0;
}

int vol_range_hole_reserve(struct vol *v, uint64_t layer)
{
    int r = 0;
    rt_mutex_lock(&v->hole_m);
    int room = vol_holes_reserve(v->holes, layer);
    while (room == 0 && r == 0) {
        r = atomic_load(&v->fenced) ? ERR_FENCED
                                    : rt_waitq_wait(&v->hole_q, &v->hole_m, RT_FOREVER);
        room = r == 0 ? vol_holes_reserve(v->holes, layer) : 0;
    }
    rt_mutex_unlock(&v->hole_m);
    return r == 0 && room < 0 ? room : r;
}

int vol_range_hole_put(struct vol *v, struct vol_batch *b, const struct vol_batch_hole *hole)
{
    int added;
    int r = vol_batch_add_hole(b, hole, &added);
    /* One was reserved; each that was swallowed had been. */
    vol_holes_unreserve(v->holes, hole->layer, r < 0 ? 1 : 1 - added);
    rt_mutex_lock(&v->hole_m);
    v->hole_until_ns = 0; /* it is worth a wait */
    rt_mutex_unlock(&v->hole_m);
    return r;
}

/* Page by page, but only those of which something is known: all others read as a hole. */
static int zero_known(struct vol_file *f, uint64_t page, uint64_t end_page)
{
    int r = 0;
    while (r == 0 && page < end_page) {
        r = vol_next_page(f, page, end_page, &page);
        if (r == 0 && page < end_page) {
            r = zero_slots(f, page * VOL_PAGE_BLOCKS, (page + 1) * VOL_PAGE_BLOCKS,
                           vol_hole_kind(f));
            page++;
        }
    }
    return r;
}

static int zero_range(struct vol_file *f, uint64_t first_page, uint64_t end_page)
{
    struct vol *v = f->v;
    bool masks = f->layer_count > 1;
    int r =
        masks ? vol_holes_reserve(v->holes, f->layers[0]) : vol_range_hole_reserve(v, f->layers[0]);
    if (masks && r == 0) {
        return zero_known(f, first_page, end_page); /* those that are there will not go */
    }
    if (r < 0) {
        return r;
    }
    r = vol_dirty_take(v, RECORD_COST, RT_FOREVER);
    if (r < 0) {
        vol_holes_unreserve(v->holes, f->layers[0], 1);
        return r;
    }
    struct vol_batch_hole hole = {.layer = f->layers[0],
                                  .first = first_page,
                                  .end = end_page,
                                  .flags = masks ? VOL_HOLE_MASKS : 0};
    struct vol_entry e;
    vol_enter(v, &e);
    r = vol_range_hole_put(v, e.batch, &hole);
    vol_leave(v, &e, RECORD_COST);
    return r;
}

/* Whole blocks [first, end). */
static int zero_blocks(struct vol_file *f, uint64_t first, uint64_t end, enum vol_zero_kind kind)
{
    if (kind != VOL_HOLE) {
        return zero_slots(f, first, end, kind == VOL_ANCHORED ? VOL_RUN_ANCHORED : VOL_RUN_ZERO);
    }
    uint64_t first_page = (first + VOL_PAGE_BLOCKS - 1) / VOL_PAGE_BLOCKS;
    uint64_t end_page = end / VOL_PAGE_BLOCKS;
    if (end_page < first_page + RANGE_PAGES) {
        return zero_slots(f, first, end, vol_hole_kind(f));
    }
    int r = zero_slots(f, first, first_page * VOL_PAGE_BLOCKS, vol_hole_kind(f));
    if (r == 0) {
        r = zero_range(f, first_page, end_page);
    }
    return r < 0 ? r : zero_slots(f, end_page * VOL_PAGE_BLOCKS, end, vol_hole_kind(f));
}

/* Whether zeroes have to be written there to be read: 1, or 0, or an error. */
static int is_more_than_zeros(struct vol_file *f, uint64_t block)
{
    struct vol_source sources[VOL_PAGE_BLOCKS] = {0};
    unsigned k = block % VOL_PAGE_BLOCKS;
    int r = vol_resolve(f, block / VOL_PAGE_BLOCKS, 1u << k, sources);
    if (r < 0) {
        return r;
    }
    uint32_t kind = sources[k].slot.kind;
    vol_sources_drop(sources, 1u << k);
    return kind == VOL_RUN_DATA || kind == VOL_RUN_BAD;
}

/*
 * Zero bytes inside one block. A hole asks no quota for them: what there is no data of is zeroes
 * already, and a block of data takes the room that it had.
 */
static int zero_part(struct vol_file *f, uint64_t off, uint64_t end, enum vol_zero_kind kind)
{
    struct rt_chain zeros = {0};
    int r = kind == VOL_HOLE ? is_more_than_zeros(f, off / VOL_BLOCK_BYTES) : 1;
    if (r <= 0) {
        return r;
    }
    r = rt_chain_add_zeros(&zeros, end - off, 0);
    if (r == 0) {
        r = kind == VOL_HOLE ? vol_write_again(f, off, &zeros) : vol_write(f, off, &zeros, NULL);
    }
    rt_chain_free(&zeros);
    return r;
}

/* Zero bytes of one block, or of the end of one and the beginning of the next. */
static int zero_bytes(struct vol_file *f, uint64_t off, uint64_t end, enum vol_zero_kind kind)
{
    int r = 0;
    while (r == 0 && off < end) {
        uint64_t upto = MIN_OF(end, off / VOL_BLOCK_BYTES * VOL_BLOCK_BYTES + VOL_BLOCK_BYTES);
        r = zero_part(f, off, upto, kind);
        off = upto;
    }
    return r;
}

static int check_range(const struct vol_file *f, uint64_t off, uint64_t len)
{
    uint64_t size = atomic_load_explicit(&f->size, memory_order_acquire);
    return off > size || len > size - off ? -EINVAL : 0;
}

int vol_zero(struct vol_file *f, uint64_t off, uint64_t len, enum vol_zero_kind kind)
{
    /* What gives space back is let through when the quota is used up. */
    int r = kind == VOL_HOLE ? vol_may_write(f->v) : vol_may_grow(f->v, NULL);
    if (r == 0) {
        r = check_range(f, off, len);
    }
    if (r < 0 || len == 0) {
        return r;
    }
    uint64_t end = off + len;
    uint64_t first = (off + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES;
    uint64_t last = end / VOL_BLOCK_BYTES;
    /* The device's last block may be short: the part beyond its end is zeros already. */
    if (end == vol_file_size(f)) {
        last = (end + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES;
    }
    if (first > last || (first == last && off % VOL_BLOCK_BYTES)) {
        return zero_bytes(f, off, end, kind);
    }
    r = zero_bytes(f, off, first * VOL_BLOCK_BYTES, kind);
    if (r == 0 && first < last) {
        r = zero_blocks(f, first, last, kind);
    }
    return r < 0 ? r : zero_bytes(f, MAX_OF(off, last * VOL_BLOCK_BYTES), end, kind);
}

int vol_discard(struct vol_file *f, uint64_t off, uint64_t len)
{
    int r = vol_may_write(f->v);
    if (r == 0) {
        r = check_range(f, off, len);
    }
    if (r < 0) {
        return r;
    }
    uint64_t first = (off + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES;
    uint64_t last = (off + len) / VOL_BLOCK_BYTES;
    if (off + len == vol_file_size(f)) {
        last = (off + len + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES;
    }
    return first < last ? zero_blocks(f, first, last, VOL_HOLE) : 0;
}

int vol_zero_pace(struct vol *v)
{
    return MIN_OF(vol_settle(v), 0);
}
