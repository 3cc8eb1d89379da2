/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes. A request is cut into parts that fit the pool; each part makes its blocks ready, holds
 * its dirty space, enters the open batch, puts the blocks there and leaves. Aligned, it reads
 * nothing.
 *
 * A block is kept by reference when its piece is nearly all of its buffer, so that what a batch is
 * charged is what it pins; otherwise it is copied into a block of its own.
 */
#include "base/assert.h"
#include "base/copy.h"
#include "base/err.h"
#include "vol/vol_priv.h"

/* Where a write is in its chain. */
struct cursor {
    const struct rt_chain *chain;
    uint32_t index;
    uint32_t used; /* of the piece */
};

static void cursor_move(struct cursor *c, const struct rt_piece *p, uint32_t len)
{
    c->used += len;
    if (c->used == p->len) {
        c->index++;
        c->used = 0;
    }
}

/* Copies the next len bytes. */
static void cursor_copy(struct cursor *c, uint8_t *dst, uint32_t len)
{
    const struct rt_piece *pieces = rt_chain_pieces(c->chain);
    while (len > 0) {
        const struct rt_piece *p = &pieces[c->index];
        uint32_t n = MIN_OF(len, p->len - c->used);
        memcpy(dst, p->data + c->used, n);
        dst += n;
        len -= n;
        cursor_move(c, p, n);
    }
}

static bool is_kept(const struct rt_piece *p)
{
    return p->buf && p->len >= VOL_BLOCK_BYTES && (uint64_t)p->len * 8 >= (uint64_t)p->buf->cap * 7;
}

/* The next whole block, as a slot with a reference. */
static int cursor_block(struct cursor *c, struct vol_slot *ret_slot)
{
    const struct rt_piece *p = &rt_chain_pieces(c->chain)[c->index];
    if (p->len - c->used >= VOL_BLOCK_BYTES && is_kept(p)) {
        *ret_slot = (struct vol_slot){rt_buf_ref(p->buf), p->data + c->used, VOL_RUN_DATA};
        rt_buf_reown(p->buf, RT_MEM_DIRTY);
        cursor_move(c, p, VOL_BLOCK_BYTES);
        return 0;
    }
    struct rt_buf *buf;
    int r = rt_buf_alloc(VOL_BLOCK_BYTES, RT_MEM_DIRTY, &buf);
    if (unlikely(r < 0)) {
        return r;
    }
    if (likely(p->len - c->used >= VOL_BLOCK_BYTES)) {
        /* It is read when the batch is sealed, long after it would have left the caches. */
        copy_past_cache(buf->data, p->data + c->used, VOL_BLOCK_BYTES);
        cursor_move(c, p, VOL_BLOCK_BYTES);
    } else {
        cursor_copy(c, buf->data, VOL_BLOCK_BYTES);
    }
    *ret_slot = (struct vol_slot){buf, buf->data, VOL_RUN_DATA};
    return 0;
}

/* A part of a write: whole blocks from the chain, and at its ends blocks that were read first. */
struct part {
    struct vol_file *f;
    struct cursor *at;
    uint64_t off;
    uint64_t end;
    struct rt_buf *head; /* the first block, merged; NULL = it is whole */
    struct rt_buf *tail;
};

static int part_block(struct part *p, uint64_t block, struct vol_slot *ret_slot)
{
    struct rt_buf **edge = NULL;
    if (p->head && block == p->off / VOL_BLOCK_BYTES) {
        edge = &p->head;
    } else if (p->tail && block == p->end / VOL_BLOCK_BYTES) {
        edge = &p->tail;
    }
    if (likely(!edge)) {
        return cursor_block(p->at, ret_slot);
    }
    struct rt_buf *buf = take(*edge);
    *ret_slot = (struct vol_slot){buf, buf->data, VOL_RUN_DATA};
    uint64_t start = block * VOL_BLOCK_BYTES;
    uint64_t from = MAX_OF(start, p->off);
    uint64_t upto = MIN_OF(start + VOL_BLOCK_BYTES, p->end);
    cursor_copy(p->at, buf->data + (from - start), (uint32_t)(upto - from));
    return 0;
}

static int part_page(struct part *p, struct vol_batch *b, uint64_t block, unsigned count,
                     uint64_t *refund)
{
    struct vol_slot slots[VOL_PAGE_BLOCKS];
    unsigned made = 0;
    int r = 0;
    while (made < count && r == 0) {
        r = part_block(p, block + made, &slots[made]);
        made += r == 0;
    }
    uint64_t back = 0;
    if (r == 0) {
        r = vol_batch_put(b,
                          &(struct vol_blocks){.layer = p->f->layers[0],
                                               .page = block / VOL_PAGE_BLOCKS,
                                               .first = block % VOL_PAGE_BLOCKS,
                                               .count = count,
                                               .slots = slots},
                          &back);
    }
    if (unlikely(r < 0)) {
        while (made > 0) {
            rt_buf_unref(slots[--made].buf);
        }
        return r;
    }
    *refund += back;
    return 0;
}

/* Between enter and leave: nothing waits. *ret_refund: dirty space of blocks that were overwritten
 * in the batch. */
static int part_put(struct part *p, struct vol_batch *b, uint64_t *ret_refund)
{
    uint64_t block = p->off / VOL_BLOCK_BYTES;
    uint64_t end = (p->end + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES;
    *ret_refund = 0;
    while (block < end) {
        unsigned room = VOL_PAGE_BLOCKS - (unsigned)(block % VOL_PAGE_BLOCKS);
        unsigned count = (unsigned)MIN_OF(room, end - block);
        int r = part_page(p, b, block, count, ret_refund);
        if (r < 0) {
            return r;
        }
        block += count;
    }
    return 0;
}

static int edge_read(struct vol_file *f, uint64_t block, struct rt_buf **ret_buf)
{
    struct rt_buf *buf;
    int r = rt_buf_alloc(VOL_BLOCK_BYTES, RT_MEM_DIRTY, &buf);
    if (r < 0) {
        return r;
    }
    r = vol_block_read(f, block, buf->data);
    if (r < 0) {
        rt_buf_unref(buf);
        return r;
    }
    *ret_buf = buf;
    return 0;
}

int vol_edge_zero(struct vol_file *f, uint64_t block, unsigned from, unsigned upto,
                  struct rt_buf **ret_buf)
{
    int r = edge_read(f, block, ret_buf);
    if (r == 0) {
        memset((*ret_buf)->data + from, 0, upto - from);
    }
    return r;
}

static int part_edges(struct part *p)
{
    uint64_t first = p->off / VOL_BLOCK_BYTES;
    uint64_t last = (p->end - 1) / VOL_BLOCK_BYTES;
    bool head = p->off % VOL_BLOCK_BYTES != 0;
    bool tail = p->end % VOL_BLOCK_BYTES != 0;
    int r = 0;
    if (head || (tail && first == last)) {
        r = edge_read(p->f, first, &p->head);
    }
    if (r == 0 && tail && first != last) {
        r = edge_read(p->f, last, &p->tail);
    }
    return r;
}

/* The part's dirty space: from what the caller holds, or else waited for, with nothing held
 * meanwhile. */
static int part_space(struct vol *v, uint64_t cost, struct vol_space *space)
{
    if (space && space->bytes >= cost) {
        space->bytes -= cost;
        return 0;
    }
    if (space) {
        vol_space_release(v, space);
    }
    return vol_dirty_take(v, cost, RT_FOREVER);
}

static int write_part(struct part *p, struct vol_space *space)
{
    struct vol *v = p->f->v;
    uint64_t cost = vol_cost(p->off, p->end - p->off);
    int r = 0;
    if (unlikely((p->off | p->end) % VOL_BLOCK_BYTES)) {
        r = part_edges(p);
    }
    if (r == 0) {
        r = part_space(v, cost, space);
    }
    if (r == 0) {
        struct vol_entry e;
        uint64_t refund;
        vol_enter(v, &e);
        r = part_put(p, e.batch, &refund);
        refund = MIN_OF(refund, cost);
        vol_leave(v, &e, cost - refund);
        vol_dirty_give(v, refund);
    }
    rt_buf_unref(p->head);
    rt_buf_unref(p->tail);
    return r;
}

static int check_inside(const struct vol_file *f, uint64_t off, const struct rt_chain *data)
{
    uint64_t size = atomic_load_explicit(&f->size, memory_order_acquire);
    return unlikely(off > size || data->len > size - off) ? -EINVAL : 0;
}

static int write_check(const struct vol_file *f, uint64_t off, const struct rt_chain *data,
                       struct vol_space *space)
{
    int r = vol_may_grow(f->v, space);
    return unlikely(r < 0) ? r : check_inside(f, off, data);
}

static int write_parts(struct vol_file *f, uint64_t off, const struct rt_chain *data,
                       struct vol_space *space) WAITS
{
    struct cursor at = {.chain = data};
    uint64_t end = off + data->len;
    int r = 0;
    while (likely(r == 0) && off < end) {
        uint64_t part_end = (off + f->v->part_bytes) / VOL_PAGE_BYTES * VOL_PAGE_BYTES;
        struct part p = {.f = f, .at = &at, .off = off, .end = MIN_OF(end, part_end)};
        r = write_part(&p, space);
        off = p.end;
    }
    return r;
}

int vol_write(struct vol_file *f, uint64_t off, const struct rt_chain *data,
              struct vol_space *space)
{
    int r = write_check(f, off, data, space);
    return unlikely(r < 0) ? r : write_parts(f, off, data, space);
}

int vol_write_again(struct vol_file *f, uint64_t off, const struct rt_chain *data)
{
    int r = vol_may_write(f->v);
    r = r == 0 ? check_inside(f, off, data) : r;
    return r == 0 ? write_parts(f, off, data, NULL) : r;
}

/* A part that goes in as one: all that may fail is done before the first block is put. */
struct whole {
    struct part part;
    uint64_t first; /* block */
    uint32_t count;
    uint32_t made;
    struct vol_slot *slots;
};

static int whole_make(struct whole *w)
{
    struct part *p = &w->part;
    w->slots = malloc(w->count * sizeof *w->slots);
    int r = w->slots ? part_edges(p) : -ENOMEM;
    while (r == 0 && w->made < w->count) {
        r = part_block(p, w->first + w->made, &w->slots[w->made]);
        w->made += r == 0;
    }
    return r;
}

static void whole_free(struct whole *w)
{
    while (w->made > 0) {
        rt_buf_unref(w->slots[--w->made].buf);
    }
    rt_buf_unref(w->part.head);
    rt_buf_unref(w->part.tail);
    free(w->slots);
}

static int whole_reserve(const struct whole *w, struct vol_batch *b)
{
    uint64_t last = (w->first + w->count - 1) / VOL_PAGE_BLOCKS;
    int r = 0;
    for (uint64_t page = w->first / VOL_PAGE_BLOCKS; page <= last && r == 0; page++) {
        r = vol_batch_reserve(b, w->part.f->layers[0], page);
    }
    return r;
}

/* The batch takes the references over. */
static uint64_t whole_put(struct whole *w, struct vol_batch *b)
{
    uint64_t refund = 0;
    for (uint32_t done = 0; done < w->count;) {
        uint64_t block = w->first + done;
        unsigned room = VOL_PAGE_BLOCKS - (unsigned)(block % VOL_PAGE_BLOCKS);
        struct vol_blocks blocks = {.layer = w->part.f->layers[0],
                                    .page = block / VOL_PAGE_BLOCKS,
                                    .first = block % VOL_PAGE_BLOCKS,
                                    .count = MIN_OF(room, w->count - done),
                                    .slots = w->slots + done};
        uint64_t back = 0;
        int r = vol_batch_put(b, &blocks, &back);
        ASSERT(r == 0);
        refund += back;
        done += blocks.count;
    }
    w->made = 0;
    return refund;
}

static int whole_enter(struct whole *w, struct vol_space *space)
{
    struct vol *v = w->part.f->v;
    uint64_t cost = vol_cost(w->part.off, w->part.end - w->part.off);
    int r = part_space(v, cost, space);
    if (r < 0) {
        return r;
    }
    struct vol_entry e;
    uint64_t refund = cost;
    vol_enter(v, &e);
    r = whole_reserve(w, e.batch);
    if (r == 0) {
        uint64_t back = whole_put(w, e.batch);
        refund = MIN_OF(back, cost);
    }
    vol_leave(v, &e, cost - refund);
    vol_dirty_give(v, refund);
    return r;
}

int vol_write_atomic(struct vol_file *f, uint64_t off, const struct rt_chain *data,
                     struct vol_space *space)
{
    int r = write_check(f, off, data, space);
    if (r < 0 || data->len == 0) {
        return r;
    }
    if (data->len > vol_atomic_max(f->v)) {
        return -EINVAL;
    }
    struct cursor at = {.chain = data};
    uint64_t end = off + data->len;
    uint64_t first = off / VOL_BLOCK_BYTES;
    struct whole w = {.part = {.f = f, .at = &at, .off = off, .end = end},
                      .first = first,
                      .count = (uint32_t)((end + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES - first)};
    r = whole_make(&w);
    if (r == 0) {
        r = whole_enter(&w, space);
    }
    whole_free(&w);
    return r;
}

/* With its edges it is a part, for which there is always space. */
uint64_t vol_atomic_max(const struct vol *v)
{
    uint64_t max = VOL_BLOCK_BYTES;
    while (2 * max < v->part_bytes) {
        max *= 2;
    }
    return max;
}
