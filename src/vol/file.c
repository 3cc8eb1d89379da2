/* SPDX-License-Identifier: Apache-2.0 */
/* Open inodes: one object each, counted. */
#include "base/assert.h"
#include "base/err.h"
#include "vol/vol_priv.h"

int vol_inode_read(struct vol *v, uint64_t inode, struct vol_inode *ret_inode)
{
    struct vol_key key = vol_key_inode(inode);
    struct bytes_writer value = {0};
    int r = vol_get(v, key.bytes, key.len, &value);
    if (r >= 0) {
        r = vol_inode_decode(value.data, value.len, ret_inode);
    }
    bytes_writer_free(&value);
    return r;
}

/* With v->m held. */
static struct vol_file *file_find(struct vol *v, uint64_t inode)
{
    list_for_each(&v->files, struct vol_file, link, f) {
        if (f->inode == inode) {
            return f;
        }
    }
    return NULL;
}

static struct vol_file *file_ref(struct vol *v, uint64_t inode)
{
    rt_mutex_lock(&v->m);
    struct vol_file *f = file_find(v, inode);
    if (f) {
        f->refs++;
    }
    rt_mutex_unlock(&v->m);
    return f;
}

int vol_file_open_locked(struct vol *v, uint64_t inode, struct vol_file **ret_file)
{
    struct vol_file *f = file_ref(v, inode);
    if (f) {
        *ret_file = f;
        return 0;
    }
    struct vol_inode rec;
    uint64_t turn = atomic_load(&v->reload.turn);
    int r = vol_inode_read(v, inode, &rec);
    if (r < 0) {
        return r;
    }
    f = calloc(1, sizeof *f);
    if (!f) {
        return -ENOMEM;
    }
    f->v = v;
    f->inode = inode;
    f->refs = 1;
    f->layer_count = rec.layer_count;
    memcpy(f->layers, rec.layers, sizeof f->layers);
    atomic_init(&f->size, rec.size);
    rt_mutex_init(&f->ahead.m);
    rt_mutex_lock(&v->m);
    bool current = atomic_load(&v->reload.turn) == turn;
    if (current) {
        list_push_back(&v->files, &f->link);
    }
    rt_mutex_unlock(&v->m);
    if (!current) {
        rt_mutex_destroy(&f->ahead.m);
        free(f);
        return -EAGAIN;
    }
    *ret_file = f;
    return 0;
}

/* The lock keeps a resize from coming between the record and the open file. */
int vol_file_open(struct vol *v, uint64_t inode, struct vol_file **ret_file)
{
    rt_lock_take(&v->txn_lock);
    int r;
    do { /* anew when the volume's state was replaced meanwhile */
        r = vol_file_open_locked(v, inode, ret_file);
    } while (r == -EAGAIN);
    rt_lock_release(&v->txn_lock);
    return r;
}

void vol_file_close(struct vol_file *f)
{
    if (!f) {
        return;
    }
    struct vol *v = f->v;
    rt_mutex_lock(&v->m);
    ASSERT(f->refs > 0);
    bool last = --f->refs == 0;
    if (last) {
        list_remove(&f->link);
    }
    rt_mutex_unlock(&v->m);
    if (last) {
        rt_mutex_destroy(&f->ahead.m);
        free(f);
    }
}

void vol_file_resize(struct vol *v, uint64_t inode, uint64_t size)
{
    rt_mutex_lock(&v->m);
    struct vol_file *f = file_find(v, inode);
    if (f) {
        atomic_store_explicit(&f->size, size, memory_order_release);
    }
    rt_mutex_unlock(&v->m);
}

uint64_t vol_file_size(const struct vol_file *f)
{
    return atomic_load_explicit(&f->size, memory_order_acquire);
}

uint64_t vol_file_inode(const struct vol_file *f)
{
    return f->inode;
}

struct vol *vol_file_volume(const struct vol_file *f)
{
    return f->v;
}
