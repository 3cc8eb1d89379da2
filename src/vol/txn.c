/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions over metadata. What they change is collected here and enters one batch at commit.
 * Commits take turns (txn_lock), so that what one reads of an inode is what it replaces.
 *
 * Numbers of inodes and layers come from one counter, which each batch that uses one records: they
 * are never given twice.
 */
#include "base/assert.h"
#include "base/err.h"
#include "vol/vol_priv.h"

/* More pages than the largest file has. */
#define LAYER_PAGES (VOL_SIZE_MAX / VOL_PAGE_BYTES)
#define RANGE_PAGES 64u
#define HOLE_COST 256u

enum op_kind {
    OP_CREATE,
    OP_RESIZE,
    OP_DELETE,
};

struct op {
    enum op_kind kind;
    uint64_t inode;
    uint64_t size;
    uint64_t layer; /* of CREATE */
};

struct vol_txn {
    struct vol *v;
    VEC(struct vol_batch_pair *) pairs;
    VEC(struct op) ops;
};

/* What one op does to blocks, made ready before the batch is entered. */
struct effect {
    struct vol_file *f;  /* RESIZE */
    struct rt_buf *edge; /* RESIZE: the last block, its tail zeroed */
    uint64_t edge_block;
    uint64_t first; /* RESIZE: blocks that go page by page */
    uint64_t end;
    struct vol_batch_hole holes[VOL_LAYERS_MAX];
    uint32_t hole_count;
    uint32_t reserved;
};

int vol_txn_begin(struct vol *v, struct vol_txn **ret_txn)
{
    struct vol_txn *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    t->v = v;
    *ret_txn = t;
    return 0;
}

void vol_txn_abort(struct vol_txn *t)
{
    if (!t) {
        return;
    }
    for (size_t i = 0; i < t->pairs.len; i++) {
        free(t->pairs.at[i]);
    }
    vec_free(&t->pairs);
    vec_free(&t->ops);
    free(t);
}

static int add_pair(struct vol_txn *t, enum index_op op, const struct vol_key *key,
                    const struct bytes_writer *value)
{
    struct vol_batch_pair *p;
    if (value && value->failed) {
        return -ENOMEM;
    }
    int r = vol_batch_pair_create(op, key->bytes, key->len, value ? value->data : NULL,
                                  value ? value->len : 0, &p);
    if (r < 0) {
        return r;
    }
    r = vec_push(&t->pairs, p);
    if (r < 0) {
        free(p);
    }
    return r;
}

static int txn_pair(struct vol_txn *t, enum index_op op, const void *key, size_t key_len,
                    struct bytes_reader value)
{
    struct vol_batch_pair *p;
    int r = vol_batch_pair_create(op, key, key_len, value.at, bytes_left(&value), &p);
    if (r < 0) {
        return r;
    }
    r = vec_push(&t->pairs, p);
    if (r < 0) {
        free(p);
    }
    return r;
}

int vol_txn_put(struct vol_txn *t, const void *key, size_t key_len, const void *value,
                size_t value_len)
{
    return txn_pair(t, INDEX_PUT, key, key_len, bytes_reader_of(value, value_len));
}

int vol_txn_delete(struct vol_txn *t, const void *key, size_t key_len)
{
    return txn_pair(t, INDEX_DELETE, key, key_len, (struct bytes_reader){0});
}

int vol_txn_inode_create(struct vol_txn *t, uint64_t size, uint64_t *ret_inode)
{
    if (size > VOL_SIZE_MAX) {
        return -EINVAL;
    }
    uint64_t id = atomic_fetch_add(&t->v->next_id, 2);
    struct op op = {.kind = OP_CREATE, .inode = id, .size = size, .layer = id + 1};
    int r = vec_push(&t->ops, op);
    if (r == 0) {
        *ret_inode = id;
    }
    return r;
}

int vol_txn_inode_resize(struct vol_txn *t, uint64_t inode, uint64_t size)
{
    struct op op = {.kind = OP_RESIZE, .inode = inode, .size = size};
    return size > VOL_SIZE_MAX ? -EINVAL : vec_push(&t->ops, op);
}

int vol_txn_inode_delete(struct vol_txn *t, uint64_t inode)
{
    struct op op = {.kind = OP_DELETE, .inode = inode};
    return vec_push(&t->ops, op);
}

static int put_inode(struct vol_txn *t, uint64_t inode, const struct vol_inode *rec)
{
    struct vol_key key = vol_key_inode(inode);
    struct bytes_writer value = {0};
    vol_inode_encode(rec, &value);
    int r = add_pair(t, INDEX_PUT, &key, &value);
    bytes_writer_free(&value);
    return r;
}

static int put_counters(struct vol_txn *t)
{
    struct vol_key key = vol_key_counters();
    struct bytes_writer value = {0};
    vol_number_encode(atomic_load(&t->v->next_id), &value);
    int r = add_pair(t, INDEX_PUT, &key, &value);
    bytes_writer_free(&value);
    return r;
}

static int prepare_create(struct vol_txn *t, const struct op *op)
{
    struct vol_inode rec = {.size = op->size, .layer_count = 1, .layers = {op->layer}};
    int r = put_inode(t, op->inode, &rec);
    return r < 0 ? r : put_counters(t);
}

/* Not to wait for a layer whose holes are there to stay: it would be for ever. */
static int reserve_hole(struct vol *v, struct effect *e, const struct vol_batch_hole *hole)
{
    int r = vol_holes_reserve_more(v->holes, hole->layer);
    if (r == 0) {
        e->reserved++;
        e->holes[e->hole_count++] = *hole;
    }
    return r;
}

/* The tail [size, old size) goes: bytes of the last block, pages, and a range hole when it is long.
 */
static int prepare_shrink(struct vol *v, struct effect *e, uint64_t size, uint64_t old_size)
{
    e->first = (size + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES;
    e->end = (old_size + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES;
    if (size % VOL_BLOCK_BYTES) {
        e->edge_block = size / VOL_BLOCK_BYTES;
        int r = vol_edge_zero(e->f, e->edge_block, (unsigned)(size % VOL_BLOCK_BYTES),
                              VOL_BLOCK_BYTES, &e->edge);
        if (r < 0) {
            return r;
        }
    }
    uint64_t first_page = (e->first + VOL_PAGE_BLOCKS - 1) / VOL_PAGE_BLOCKS;
    uint64_t end_page = (e->end + VOL_PAGE_BLOCKS - 1) / VOL_PAGE_BLOCKS;
    if (end_page < first_page + RANGE_PAGES) {
        return 0;
    }
    e->end = first_page * VOL_PAGE_BLOCKS;
    struct vol_batch_hole hole = {.layer = e->f->layers[0],
                                  .first = first_page,
                                  .end = end_page,
                                  .flags = e->f->layer_count > 1 ? VOL_HOLE_MASKS : 0};
    return reserve_hole(v, e, &hole);
}

static int prepare_resize(struct vol_txn *t, const struct op *op, struct effect *e)
{
    struct vol_inode rec;
    int r = vol_inode_read(t->v, op->inode, &rec);
    if (r < 0) {
        return r;
    }
    r = vol_file_open_locked(t->v, op->inode, &e->f);
    if (r == 0 && op->size < rec.size) {
        r = prepare_shrink(t->v, e, op->size, rec.size);
    }
    if (r < 0) {
        return r;
    }
    rec.size = op->size;
    return put_inode(t, op->inode, &rec);
}

static int prepare_delete(struct vol_txn *t, const struct op *op, struct effect *e)
{
    struct vol_inode rec;
    int r = vol_inode_read(t->v, op->inode, &rec);
    for (uint32_t i = 0; r == 0 && i < rec.layer_count; i++) {
        struct vol_batch_hole hole = {.layer = rec.layers[i], .first = 0, .end = LAYER_PAGES};
        r = reserve_hole(t->v, e, &hole);
    }
    struct vol_key key = vol_key_inode(op->inode);
    return r < 0 ? r : add_pair(t, INDEX_DELETE, &key, NULL);
}

static int prepare(struct vol_txn *t, const struct op *op, struct effect *e)
{
    switch (op->kind) {
    case OP_CREATE:
        return prepare_create(t, op);
    case OP_RESIZE:
        return prepare_resize(t, op, e);
    case OP_DELETE:
        return prepare_delete(t, op, e);
    }
    UNREACHABLE("no such op");
}

static uint64_t cost_of(const struct vol_txn *t, const struct effect *effects)
{
    uint64_t cost = 0;
    for (size_t i = 0; i < t->pairs.len; i++) {
        cost += VOL_PAIR_COST + t->pairs.at[i]->key_len + t->pairs.at[i]->value_len;
    }
    for (size_t i = 0; i < t->ops.len; i++) {
        const struct effect *e = &effects[i];
        cost += vol_zero_cost(e->first, e->end) + e->hole_count * HOLE_COST;
        cost += e->edge ? VOL_BLOCK_BYTES + VOL_PAGE_COST : 0;
    }
    return cost;
}

static int put_effect(struct vol *v, struct vol_batch *b, struct effect *e)
{
    int r = 0;
    if (e->edge) {
        struct vol_slot slot = {e->edge, e->edge->data, VOL_RUN_DATA};
        uint64_t refund;
        r = vol_batch_put(b,
                          &(struct vol_blocks){.layer = e->f->layers[0],
                                               .page = e->edge_block / VOL_PAGE_BLOCKS,
                                               .first = e->edge_block % VOL_PAGE_BLOCKS,
                                               .count = 1,
                                               .slots = &slot},
                          &refund);
        e->edge = r == 0 ? NULL : e->edge;
    }
    if (r == 0 && e->first < e->end) {
        r = vol_zero_put(e->f, b, e->first, e->end, vol_hole_kind(e->f));
    }
    while (r == 0 && e->reserved > 0) {
        e->reserved--;
        r = vol_range_hole_put(v, b, &e->holes[e->reserved]);
    }
    return r;
}

/* Between enter and leave. Blocks first: when memory fails there, no metadata has changed. */
static int put_all(struct vol_txn *t, struct vol_batch *b, struct effect *effects)
{
    for (size_t i = 0; i < t->ops.len; i++) {
        int r = put_effect(t->v, b, &effects[i]);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < t->pairs.len; i++) {
        vol_batch_add_pair(b, t->pairs.at[i]);
    }
    t->pairs.len = 0;
    for (size_t i = 0; i < t->ops.len; i++) {
        if (t->ops.at[i].kind == OP_RESIZE) {
            vol_file_resize(t->v, t->ops.at[i].inode, t->ops.at[i].size);
        }
    }
    return 0;
}

static void effects_drop(struct vol_txn *t, struct effect *effects)
{
    for (size_t i = 0; i < t->ops.len; i++) {
        struct effect *e = &effects[i];
        rt_buf_unref(e->edge);
        for (uint32_t k = 0; k < e->reserved; k++) {
            vol_holes_unreserve(t->v->holes, e->holes[k].layer, 1);
        }
        vol_file_close(e->f);
    }
}

static int commit_locked(struct vol_txn *t, struct effect *effects)
{
    struct vol *v = t->v;
    for (size_t i = 0; i < t->ops.len; i++) {
        int r = prepare(t, &t->ops.at[i], &effects[i]);
        if (r < 0) {
            return r;
        }
    }
    uint64_t cost = cost_of(t, effects);
    if (cost == 0) {
        return 0;
    }
    int r = vol_dirty_take(v, cost, RT_FOREVER);
    if (r < 0) {
        return r;
    }
    struct vol_entry e;
    vol_enter(v, &e);
    r = put_all(t, e.batch, effects);
    vol_leave(v, &e, cost);
    return r;
}

int vol_txn_commit(struct vol_txn *t)
{
    struct vol *v = t->v;
    int r = vol_may_write(v);
    auto_free struct effect *effects = calloc(MAX_OF(t->ops.len, 1), sizeof *effects);
    if (!effects) {
        r = -ENOMEM;
    }
    /* The quota is not asked: deleting has to be possible. */
    if (r == 0) {
        rt_lock_take(&v->txn_lock);
        r = commit_locked(t, effects);
        effects_drop(t, effects);
        rt_lock_release(&v->txn_lock);
    }
    vol_txn_abort(t);
    return r;
}
