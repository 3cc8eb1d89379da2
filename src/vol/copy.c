/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies within the volume. Blocks that lie in a frame of a stored segment are not moved: the
 * target's page gets runs that refer to that frame (records COPY), and apply counts one reference
 * more for each block.
 *
 * C1. A source block that is resolved to a frame has that reference in the index, or gets it by a
 * batch before the one that the copy enters; and what takes it away enters that batch or a later
 * one, for the caller keeps changes away until then. Batches are applied in order, each as a whole:
 * so the frame's segment is never without a live reference, and the reaper (I7) never sees it die
 * in between, over crashes too.
 *
 * Source blocks that are still in memory become new blocks of the target, by reference. Holes and
 * zeroes stay what they are. Work is done in steps, each resolved first and then put into the open
 * batch at once; a long hole is one step.
 */
#include "base/err.h"
#include "vol/vol_priv.h"

#define STEP_BLOCKS (16u * VOL_PAGE_BLOCKS)
#define BYTES_STEP (1u << 20)
/* What a page costs that refers to other frames: itself, and the places. */
#define PAGE_COST (2 * VOL_PAGE_COST)

struct step {
    struct vol_file *src;
    struct vol_file *dst;
    uint64_t from; /* blocks */
    uint64_t to;
    uint64_t most; /* at once */
    unsigned count;
    struct vol_source at[STEP_BLOCKS];
    struct vol_slot slots[STEP_BLOCKS];
};

static void sources_drop(struct step *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        rt_buf_unref(take(s->at[i].slot.buf));
    }
}

static int step_resolve(struct step *s)
{
    struct vol_source sources[VOL_PAGE_BLOCKS];
    unsigned done = 0;
    while (done < s->count) {
        uint64_t block = s->from + done;
        unsigned first = block % VOL_PAGE_BLOCKS;
        unsigned count = MIN_OF(VOL_PAGE_BLOCKS - first, s->count - done);
        unsigned mask = 0;
        for (unsigned k = first; k < first + count; k++) {
            sources[k].slot.buf = NULL;
            mask |= 1u << k;
        }
        int r = vol_resolve(s->src, block / VOL_PAGE_BLOCKS, mask, sources);
        if (r < 0) {
            sources_drop(s, done);
            return r;
        }
        memcpy(&s->at[done], &sources[first], count * sizeof sources[0]);
        done += count;
    }
    return 0;
}

/* A block in memory: shared when nothing but it hangs on its buffer. */
static int slot_of_block(struct vol_source *s, struct vol_slot *ret_slot)
{
    struct rt_buf *buf = s->slot.buf;
    if (buf->cap == VOL_BLOCK_BYTES) {
        s->slot.buf = NULL; /* its reference goes along */
        *ret_slot = (struct vol_slot){buf, s->slot.data, VOL_RUN_DATA};
        return 0;
    }
    int r = rt_buf_alloc(VOL_BLOCK_BYTES, RT_MEM_DIRTY, &buf);
    if (r < 0) {
        return r;
    }
    memcpy(buf->data, s->slot.data, VOL_BLOCK_BYTES);
    *ret_slot = (struct vol_slot){buf, buf->data, VOL_RUN_DATA};
    return 0;
}

static bool is_stored(const struct vol_source *s)
{
    return s->slot.kind == VOL_RUN_DATA && !s->slot.buf;
}

/* The places of a page's blocks, in one buffer that all of its slots share. */
static int places_make(const struct step *s, unsigned first, unsigned count,
                       struct rt_buf **ret_buf)
{
    unsigned stored = 0;
    for (unsigned i = first; i < first + count; i++) {
        stored += is_stored(&s->at[i]);
    }
    *ret_buf = NULL;
    return stored > 0 ? rt_buf_alloc(stored * sizeof(struct vol_run), RT_MEM_DIRTY, ret_buf) : 0;
}

static int slot_make(struct step *s, unsigned i, struct rt_buf *places, unsigned *used)
{
    struct vol_source *from = &s->at[i];
    if (is_stored(from)) {
        uint8_t *at = places->data + (*used)++ * sizeof from->run;
        memcpy(at, &from->run, sizeof from->run);
        s->slots[i] = (struct vol_slot){rt_buf_ref(places), at, VOL_RUN_STORED};
        return 0;
    }
    if (from->slot.kind == VOL_RUN_DATA) {
        return slot_of_block(from, &s->slots[i]);
    }
    uint32_t kind = from->slot.kind == VOL_RUN_HOLE ? vol_hole_kind(s->dst) : from->slot.kind;
    s->slots[i] = (struct vol_slot){.kind = kind};
    return 0;
}

static unsigned blocks_in_page(const struct step *s, unsigned done)
{
    unsigned room = VOL_PAGE_BLOCKS - (unsigned)((s->to + done) % VOL_PAGE_BLOCKS);
    return MIN_OF(room, s->count - done);
}

static void slots_drop(struct step *s, unsigned from, unsigned upto)
{
    for (unsigned i = from; i < upto; i++) {
        rt_buf_unref(s->slots[i].buf);
    }
}

/* Sources become slots, page by page of the target. *ret_cost: their dirty space. */
static int slots_make(struct step *s, uint64_t *ret_cost)
{
    unsigned done = 0;
    int r = 0;
    *ret_cost = 0;
    while (done < s->count && r == 0) {
        unsigned end = done + blocks_in_page(s, done);
        struct rt_buf *places;
        unsigned used = 0;
        r = places_make(s, done, end - done, &places);
        while (done < end && r == 0) {
            r = slot_make(s, done, places, &used);
            *ret_cost += r == 0 && s->slots[done].kind == VOL_RUN_DATA ? VOL_BLOCK_BYTES : 0;
            done += r == 0;
        }
        rt_buf_unref(places);
        *ret_cost += PAGE_COST;
    }
    if (r < 0) {
        slots_drop(s, 0, done);
    }
    return r;
}

/* In an entered batch. The slots are gone then, put or not. */
static int slots_put(struct step *s, struct vol_batch *b, uint64_t *ret_refund)
{
    unsigned done = 0;
    int r = 0;
    *ret_refund = 0;
    while (done < s->count && r == 0) {
        unsigned count = blocks_in_page(s, done);
        uint64_t refund = 0;
        r = vol_batch_put(b,
                          &(struct vol_blocks){.layer = s->dst->layers[0],
                                               .page = (s->to + done) / VOL_PAGE_BLOCKS,
                                               .first = (s->to + done) % VOL_PAGE_BLOCKS,
                                               .count = count,
                                               .slots = &s->slots[done]},
                          &refund);
        *ret_refund += refund;
        done += r == 0 ? count : 0;
    }
    slots_drop(s, done, s->count);
    return r;
}

static int step_put(struct step *s)
{
    struct vol *v = s->dst->v;
    uint64_t cost;
    int r = slots_make(s, &cost);
    sources_drop(s, s->count);
    if (r < 0) {
        return r;
    }
    r = vol_dirty_take(v, cost, RT_FOREVER);
    if (r < 0) {
        slots_drop(s, 0, s->count);
        return r;
    }
    struct vol_entry e;
    uint64_t refund;
    vol_enter(v, &e);
    r = slots_put(s, e.batch, &refund);
    refund = MIN_OF(refund, cost);
    vol_leave(v, &e, cost - refund);
    vol_dirty_give(v, refund);
    return r;
}

static bool is_hole(const struct step *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (s->at[i].slot.kind != VOL_RUN_HOLE) {
            return false;
        }
    }
    return true;
}

/* How many blocks from the step's begin on are a hole, as far as one look tells. */
static int hole_blocks(const struct step *s, uint64_t left, uint64_t *ret_blocks)
{
    struct vol_extent e = {.len = 0};
    uint64_t off = s->from * VOL_BLOCK_BYTES;
    uint64_t end = MIN_OF(off + left * VOL_BLOCK_BYTES, vol_file_size(s->src));
    int r = vol_extents(s->src, off, end - off, &e, 1);
    *ret_blocks = r == 1 && e.kind == VOL_EXTENT_HOLE ? e.len / VOL_BLOCK_BYTES : 0;
    return MIN_OF(r, 0);
}

static int copy_step(struct step *s, uint64_t left, uint64_t *ret_done)
{
    s->count = (unsigned)MIN_OF(left, s->most);
    int r = step_resolve(s);
    if (r < 0) {
        return r;
    }
    if (left > s->count && is_hole(s)) {
        r = hole_blocks(s, left, ret_done);
        if (r < 0 || *ret_done > s->count) {
            return r < 0 ? r
                         : vol_zero(s->dst, s->to * VOL_BLOCK_BYTES, *ret_done * VOL_BLOCK_BYTES,
                                    VOL_HOLE);
        }
    }
    *ret_done = s->count;
    return step_put(s);
}

/* Whole blocks. */
static int copy_blocks(struct step *s, uint64_t count)
{
    int r = 0;
    while (count > 0 && r == 0) {
        uint64_t done = 0;
        r = copy_step(s, count, &done);
        s->from += done;
        s->to += done;
        count -= done;
    }
    return r;
}

static int copy_bytes(struct vol_file *src, uint64_t src_off, struct vol_file *dst,
                      uint64_t dst_off, uint64_t len)
{
    int r = 0;
    for (uint64_t done = 0; done < len && r == 0;) {
        uint32_t n = (uint32_t)MIN_OF(len - done, (uint64_t)BYTES_STEP);
        struct rt_chain chain = {0};
        r = vol_read(src, src_off + done, n, &chain);
        if (r == 0) {
            r = vol_write(dst, dst_off + done, &chain, NULL);
        }
        rt_chain_free(&chain);
        done += n;
    }
    return r;
}

static bool is_inside(const struct vol_file *f, uint64_t off, uint64_t len)
{
    uint64_t size = vol_file_size(f);
    return off <= size && len <= size - off;
}

int vol_copy(struct vol_file *src, uint64_t src_off, struct vol_file *dst, uint64_t dst_off,
             uint64_t len)
{
    int r = vol_may_grow(dst->v, NULL);
    if (r < 0) {
        return r;
    }
    bool overlap = src == dst && src_off < dst_off + len && dst_off < src_off + len;
    if (src->v != dst->v || !is_inside(src, src_off, len) || !is_inside(dst, dst_off, len) ||
        overlap) {
        return -EINVAL;
    }
    uint64_t head = (VOL_BLOCK_BYTES - src_off % VOL_BLOCK_BYTES) % VOL_BLOCK_BYTES;
    if ((src_off ^ dst_off) % VOL_BLOCK_BYTES != 0 || len < head + VOL_BLOCK_BYTES) {
        return copy_bytes(src, src_off, dst, dst_off, len);
    }
    uint64_t blocks = (len - head) / VOL_BLOCK_BYTES;
    uint64_t tail = head + blocks * VOL_BLOCK_BYTES;
    r = copy_bytes(src, src_off, dst, dst_off, head);
    auto_free struct step *s = r == 0 ? calloc(1, sizeof *s) : NULL;
    if (r == 0 && !s) {
        r = -ENOMEM;
    }
    if (r == 0) {
        s->src = src;
        s->dst = dst;
        s->most = MIN_OF(STEP_BLOCKS, dst->v->part_bytes / VOL_BLOCK_BYTES);
        s->from = (src_off + head) / VOL_BLOCK_BYTES;
        s->to = (dst_off + head) / VOL_BLOCK_BYTES;
        r = copy_blocks(s, blocks);
    }
    return r < 0 ? r : copy_bytes(src, src_off + tail, dst, dst_off + tail, len - tail);
}
