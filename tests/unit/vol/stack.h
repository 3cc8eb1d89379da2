/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: a new, empty layer on top of an inode's stack, by a transaction like any other. What
 * the stack was stays below, and is not written any more.
 */
#pragma once
#include "vol/vol_priv.h"
#include <string.h>

/* A number that nobody else has: of an inode whose creation is given up. */
static inline int stack_layer_number(struct vol *v, struct vol_txn *t, uint64_t *ret_layer)
{
    struct vol_txn *never;
    struct bytes_writer value = {0};
    struct vol_key key = vol_key_counters();
    uint64_t inode = 0;
    int r = vol_txn_begin(v, &never);
    if (r < 0) {
        return r;
    }
    r = vol_txn_inode_create(never, 0, &inode);
    vol_txn_abort(never);
    if (r == 0) {
        *ret_layer = inode + 1;
        vol_number_encode(inode + 2, &value);
        r = vol_txn_put(t, key.bytes, key.len, value.data, value.len);
    }
    bytes_writer_free(&value);
    return r;
}

static inline int stack_record_push(struct vol_txn *t, uint64_t inode, struct vol_inode *rec,
                                    uint64_t layer)
{
    struct vol_key key = vol_key_inode(inode);
    struct bytes_writer value = {0};
    memmove(&rec->layers[1], &rec->layers[0], rec->layer_count * sizeof rec->layers[0]);
    rec->layers[0] = layer;
    rec->layer_count++;
    vol_inode_encode(rec, &value);
    int r = vol_txn_put(t, key.bytes, key.len, value.data, value.len);
    bytes_writer_free(&value);
    return r;
}

static inline int stack_read(struct vol *v, uint64_t inode, struct vol_inode *ret_inode)
{
    struct vol_key key = vol_key_inode(inode);
    struct bytes_writer value = {0};
    int r = vol_get(v, key.bytes, key.len, &value);
    if (r == 0) {
        r = vol_inode_decode(value.data, value.len, ret_inode);
    }
    bytes_writer_free(&value);
    return r;
}

static inline int stack_push_closed(struct vol *v, uint64_t inode, struct vol_inode *rec)
{
    struct vol_txn *t;
    uint64_t layer = 0;
    int r = vol_txn_begin(v, &t);
    if (r < 0) {
        return r;
    }
    r = stack_layer_number(v, t, &layer);
    if (r == 0) {
        r = stack_record_push(t, inode, rec, layer);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

/*
 * With the only file of the inode, which is opened anew. What reads ahead may hold the old one for
 * a while. 0; -EAGAIN when there are `most` layers already. After another error the file is closed,
 * and *f is NULL.
 */
static inline int stack_push(struct vol_file **f, uint32_t most) WAITS
{
    struct vol *v = (*f)->v;
    uint64_t inode = (*f)->inode;
    struct vol_inode rec;
    if ((*f)->layer_count >= most) {
        return -EAGAIN;
    }
    vol_file_close(*f);
    *f = NULL;
    int r = stack_read(v, inode, &rec);
    if (r == 0) {
        r = stack_push_closed(v, inode, &rec);
    }
    if (r == 0) {
        r = vol_file_open(v, inode, f);
    }
    while (r == 0 && (*f)->layer_count != rec.layer_count) {
        vol_file_close(*f);
        *f = NULL;
        r = rt_sleep_ms(1);
        r = r < 0 ? r : vol_file_open(v, inode, f);
    }
    return r;
}
