/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume in plain memory, for the tests of what stands on it: included by one test file, it takes
 * the place of vol. Only the first 64 MiB of a file hold data. fake_read_gate, when set, holds
 * every read of the block at fake_gate_off until the event is set.
 */
#pragma once
#include "base/assert.h"
#include "base/err.h"
#include "base/list.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "unit.h"
#include "vol/vol.h"

#define FAKE_BYTES (64u << 20)
#define FAKE_BLOCKS (FAKE_BYTES / VOL_BLOCK_BYTES)

struct vol_file {
    struct list link;
    uint64_t inode;
    uint64_t size;
    unsigned opens;
    uint8_t *data;
    uint8_t kinds[FAKE_BLOCKS]; /* enum vol_extent_kind */
};

struct fake_record {
    struct list link;
    uint8_t key[512];
    size_t key_len;
    uint8_t value[65536];
    size_t value_len;
};

struct vol {
    struct list files;
    struct list records;
    uint64_t last_inode;
    uint64_t epoch;
    uint64_t batch;    /* goes up with each flush */
    uint64_t replayed; /* set by a test */
};

enum fake_op_kind {
    FAKE_PUT,
    FAKE_DELETE,
    FAKE_CREATE,
    FAKE_RESIZE,
    FAKE_REMOVE,
};

struct fake_op {
    struct list link;
    enum fake_op_kind kind;
    struct fake_record *record;
    uint64_t inode;
    uint64_t size;
};

struct vol_txn {
    struct vol *v;
    struct list ops;
};

static _Atomic unsigned fake_flushes;
static _Atomic unsigned fake_reads;
static _Atomic unsigned fake_prefetches;
static int fake_flush_result;
static int fake_commit_result;
static int fake_write_result;
static int fake_read_result;
static struct rt_event *fake_read_gate;
static uint64_t fake_gate_off;
static struct rt_event *fake_write_gate;
static const struct crypt_keys *fake_keys;

static inline struct vol *fake_vol_new(void)
{
    struct vol *v = calloc(1, sizeof *v);
    ASSERT(v);
    list_init(&v->files);
    list_init(&v->records);
    v->epoch = 1;
    v->batch = 1;
    return v;
}

static inline void fake_vol_free(struct vol *v)
{
    list_for_each(&v->files, struct vol_file, link, f) {
        ASSERT(f->opens == 0);
        free(f->data);
        free(f);
    }
    list_for_each(&v->records, struct fake_record, link, r) {
        free(r);
    }
    free(v);
}

static inline struct vol_file *fake_file(struct vol *v, uint64_t inode)
{
    list_for_each(&v->files, struct vol_file, link, f) {
        if (f->inode == inode) {
            return f;
        }
    }
    return NULL;
}

static inline struct fake_record *fake_find(struct vol *v, const void *key, size_t len)
{
    list_for_each(&v->records, struct fake_record, link, r) {
        if (r->key_len == len && memcmp(r->key, key, len) == 0) {
            return r;
        }
    }
    return NULL;
}

int vol_file_open(struct vol *v, uint64_t inode, struct vol_file **ret_file)
{
    struct vol_file *f = fake_file(v, inode);
    if (!f) {
        return -ENOENT;
    }
    f->opens++;
    *ret_file = f;
    return 0;
}

void vol_file_close(struct vol_file *f)
{
    if (f) {
        ASSERT(f->opens > 0);
        f->opens--;
    }
}

uint64_t vol_file_size(const struct vol_file *f)
{
    return f->size;
}

void vol_space_release(struct vol *v, struct vol_space *space)
{
    (void)v;
    space->bytes = 0;
}

uint64_t vol_epoch(const struct vol *v)
{
    return v->epoch;
}

void vol_usage(const struct vol *v, uint64_t *ret_used_bytes, uint64_t *ret_max_bytes)
{
    (void)v;
    *ret_used_bytes = 0;
    *ret_max_bytes = 0;
}

uint64_t vol_batch_now(const struct vol *v)
{
    return v->batch;
}

uint64_t vol_batch_replayed(const struct vol *v)
{
    return v->replayed;
}

void vol_uuid(const struct vol *v, struct uuid *ret_uuid)
{
    (void)v;
    *ret_uuid = (struct uuid){{1}};
}

const struct crypt_keys *vol_keys(const struct vol *v)
{
    (void)v;
    return fake_keys;
}

int vol_flush(struct vol *v)
{
    v->batch++;
    fake_flushes++;
    return fake_flush_result;
}

static inline bool fake_inside(const struct vol_file *f, uint64_t off, uint64_t len)
{
    return off <= f->size && len <= f->size - off;
}

int vol_read(struct vol_file *f, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    fake_reads++;
    if (fake_read_gate && off / 4096 == fake_gate_off / 4096) {
        int r = rt_event_wait(fake_read_gate, RT_FOREVER);
        if (r < 0) {
            return r;
        }
    }
    if (fake_read_result < 0) {
        return fake_read_result;
    }
    if (!fake_inside(f, off, len)) {
        return -EINVAL;
    }
    while (len > 0) {
        uint32_t n = MIN_OF(len, VOL_BLOCK_BYTES - (uint32_t)(off % VOL_BLOCK_BYTES));
        struct rt_buf *b;
        int r = 0;
        if (off >= FAKE_BYTES || f->kinds[off / 4096] != VOL_EXTENT_DATA) {
            r = rt_chain_add_zeros(ret_data, n,
                                   off >= FAKE_BYTES || f->kinds[off / 4096] == VOL_EXTENT_HOLE);
        } else {
            r = rt_buf_alloc(n, RT_MEM_OTHER, &b);
            ASSERT(r == 0);
            memcpy(b->data, f->data + off, n);
            r = rt_chain_add(ret_data, b, b->data, n);
            rt_buf_unref(b);
        }
        ASSERT(r == 0);
        off += n;
        len -= n;
    }
    return 0;
}

static inline void fake_set(struct vol_file *f, uint64_t off, uint64_t len, uint8_t kind)
{
    for (uint64_t b = off / 4096; len > 0 && b <= (off + len - 1) / 4096 && b < FAKE_BLOCKS; b++) {
        f->kinds[b] = kind;
    }
}

int vol_write(struct vol_file *f, uint64_t off, const struct rt_chain *data,
              struct vol_space *space)
{
    (void)space;
    if (fake_write_gate) {
        int r = rt_event_wait(fake_write_gate, RT_FOREVER);
        if (r < 0) {
            return r;
        }
    }
    if (fake_write_result < 0) {
        return fake_write_result;
    }
    if (!fake_inside(f, off, data->len)) {
        return -EINVAL;
    }
    if (off + data->len <= FAKE_BYTES) {
        rt_chain_copy_out(data, 0, f->data + off, data->len);
        fake_set(f, off, data->len, VOL_EXTENT_DATA);
    }
    return 0;
}

int vol_zero(struct vol_file *f, uint64_t off, uint64_t len, enum vol_zero_kind kind)
{
    if (!fake_inside(f, off, len)) {
        return -EINVAL;
    }
    if (off < FAKE_BYTES) {
        uint64_t n = MIN_OF(len, FAKE_BYTES - off);
        memset(f->data + off, 0, n);
        uint64_t first = (off + 4095) / 4096;
        uint64_t end = (off + n) / 4096;
        for (uint64_t b = first; b < end; b++) {
            f->kinds[b] = kind == VOL_HOLE     ? VOL_EXTENT_HOLE
                          : kind == VOL_ZEROED ? VOL_EXTENT_ZERO
                                               : VOL_EXTENT_ANCHORED;
        }
    }
    return 0;
}

int vol_copy(struct vol_file *src, uint64_t src_off, struct vol_file *dst, uint64_t dst_off,
             uint64_t len)
{
    struct rt_chain data = {0};
    int r = vol_read(src, src_off, (uint32_t)len, &data);
    r = r < 0 ? r : vol_write(dst, dst_off, &data, NULL);
    rt_chain_free(&data);
    return r;
}

int vol_write_again(struct vol_file *f, uint64_t off, const struct rt_chain *data)
{
    int result = fake_write_result;
    fake_write_result = 0;
    int r = vol_write(f, off, data, NULL);
    fake_write_result = result;
    return r;
}

int vol_write_atomic(struct vol_file *f, uint64_t off, const struct rt_chain *data,
                     struct vol_space *space)
{
    return data->len > vol_atomic_max(NULL) ? -EINVAL : vol_write(f, off, data, space);
}

bool vol_is_read_only(const struct vol *v)
{
    (void)v;
    return false;
}

static int (*fake_scrub)(const struct vol_scrub *opt);
static uint64_t fake_rewritten; /* the inode of the last page */

int vol_scrub(struct vol *v, const struct vol_scrub *opt)
{
    (void)v;
    fake_rewritten = 0;
    return fake_scrub ? fake_scrub(opt) : 0;
}

int vol_rewrite(struct vol_file *f, uint64_t page, uint64_t seq)
{
    (void)page;
    (void)seq;
    fake_rewritten = f->inode;
    return 0;
}

/* A file's only layer has the inode's number. */
bool vol_file_has_layer(const struct vol_file *f, uint64_t layer)
{
    return f->inode == layer;
}

uint64_t vol_atomic_max(const struct vol *v)
{
    (void)v;
    return 64u << 10;
}

bool vol_is_fenced(const struct vol *v)
{
    (void)v;
    return false;
}

int vol_zero_pace(struct vol *v)
{
    (void)v;
    return 0;
}

int vol_discard(struct vol_file *f, uint64_t off, uint64_t len)
{
    uint64_t first = (off + 4095) / 4096 * 4096;
    uint64_t end = (off + len) / 4096 * 4096;
    return end > first ? vol_zero(f, first, end - first, VOL_HOLE) : 0;
}

int vol_extents(struct vol_file *f, uint64_t off, uint64_t len, struct vol_extent *ret_extents,
                size_t max)
{
    size_t n = 0;
    if (!fake_inside(f, off, len)) {
        return -EINVAL;
    }
    while (len > 0) {
        uint64_t step = MIN_OF(len, 4096 - off % 4096);
        enum vol_extent_kind kind = VOL_EXTENT_HOLE;
        if (off < FAKE_BYTES) {
            kind = f->kinds[off / 4096];
        } else {
            step = len;
        }
        if (n > 0 && ret_extents[n - 1].kind == kind) {
            ret_extents[n - 1].len += step;
        } else if (n == max) {
            break;
        } else {
            ret_extents[n++] = (struct vol_extent){.off = off, .len = step, .kind = kind};
        }
        off += step;
        len -= step;
    }
    return (int)n;
}

void vol_read_ready(struct vol_file *f, struct vol_ready *reads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fake_read_gate && reads[i].off / 4096 == fake_gate_off / 4096) {
            reads[i].result = -EAGAIN;
        }
        if (reads[i].result == 0 && vol_read(f, reads[i].off, reads[i].len, &reads[i].data) < 0) {
            reads[i].result = -EAGAIN;
        }
    }
}

void vol_hint_reads(struct vol_file *f, const uint64_t *offs, size_t count)
{
    (void)f;
    (void)offs;
    (void)count;
}

int vol_prefetch(struct vol_file *f, uint64_t off, uint64_t len)
{
    fake_prefetches++;
    return fake_inside(f, off, len) ? 0 : -EINVAL;
}

int vol_txn_begin(struct vol *v, struct vol_txn **ret_txn)
{
    struct vol_txn *t = calloc(1, sizeof *t);
    ASSERT(t);
    t->v = v;
    list_init(&t->ops);
    *ret_txn = t;
    return 0;
}

static inline struct fake_op *fake_op(struct vol_txn *t, enum fake_op_kind kind, uint64_t inode,
                                      uint64_t size)
{
    struct fake_op *op = calloc(1, sizeof *op);
    ASSERT(op);
    op->kind = kind;
    op->inode = inode;
    op->size = size;
    list_push_back(&t->ops, &op->link);
    return op;
}

static inline void fake_op_key(struct fake_op *op, const void *key, size_t key_len)
{
    op->record = calloc(1, sizeof *op->record);
    ASSERT(op->record && key_len <= 512);
    memcpy(op->record->key, key, key_len);
    op->record->key_len = key_len;
}

int vol_txn_put(struct vol_txn *t, const void *key, size_t key_len, const void *value,
                size_t value_len)
{
    struct fake_op *op = fake_op(t, FAKE_PUT, 0, 0);
    fake_op_key(op, key, key_len);
    ASSERT(value_len <= sizeof op->record->value);
    memcpy(op->record->value, value, value_len);
    op->record->value_len = value_len;
    return 0;
}

int vol_txn_delete(struct vol_txn *t, const void *key, size_t key_len)
{
    fake_op_key(fake_op(t, FAKE_DELETE, 0, 0), key, key_len);
    return 0;
}

int vol_txn_inode_create(struct vol_txn *t, uint64_t size, uint64_t *ret_inode)
{
    *ret_inode = ++t->v->last_inode;
    (void)fake_op(t, FAKE_CREATE, *ret_inode, size);
    return 0;
}

int vol_txn_inode_resize(struct vol_txn *t, uint64_t inode, uint64_t size)
{
    (void)fake_op(t, FAKE_RESIZE, inode, size);
    return 0;
}

int vol_txn_inode_delete(struct vol_txn *t, uint64_t inode)
{
    (void)fake_op(t, FAKE_REMOVE, inode, 0);
    return 0;
}

static inline void fake_drop_record(struct vol *v, const struct fake_record *like)
{
    struct fake_record *old = fake_find(v, like->key, like->key_len);
    if (old) {
        list_remove(&old->link);
        free(old);
    }
}

static inline void fake_apply(struct vol *v, struct fake_op *op)
{
    struct vol_file *f = fake_file(v, op->inode);
    switch (op->kind) {
    case FAKE_PUT:
        fake_drop_record(v, op->record);
        list_push_back(&v->records, &take(op->record)->link);
        break;
    case FAKE_DELETE:
        ASSERT(fake_find(v, op->record->key, op->record->key_len));
        fake_drop_record(v, op->record);
        break;
    case FAKE_CREATE:
        f = calloc(1, sizeof *f);
        ASSERT(f);
        f->data = calloc(1, FAKE_BYTES);
        memset(f->kinds, VOL_EXTENT_HOLE, sizeof f->kinds);
        f->inode = op->inode;
        f->size = op->size;
        list_push_back(&v->files, &f->link);
        break;
    case FAKE_RESIZE:
        f->size = op->size;
        break;
    case FAKE_REMOVE:
        ASSERT(f->opens == 0);
        list_remove(&f->link);
        free(f->data);
        free(f);
        break;
    }
}

static inline void fake_txn_end(struct vol_txn *t, bool apply)
{
    list_for_each(&t->ops, struct fake_op, link, op) {
        if (apply) {
            fake_apply(t->v, op);
        }
        free(op->record);
        free(op);
    }
    free(t);
}

int vol_txn_commit(struct vol_txn *t)
{
    int r = fake_commit_result;
    fake_txn_end(t, r >= 0);
    return r;
}

void vol_txn_abort(struct vol_txn *t)
{
    if (t) {
        fake_txn_end(t, false);
    }
}

int vol_scan(struct vol *v, const void *prefix, size_t prefix_len,
             int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                         size_t value_len),
             void *arg)
{
    list_for_each(&v->records, struct fake_record, link, r) {
        if (r->key_len >= prefix_len && memcmp(r->key, prefix, prefix_len) == 0) {
            int rc = each(arg, r->key, r->key_len, r->value, r->value_len);
            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}
