/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tx.h"
#include "base/assert.h"
#include <errno.h>
#include <string.h>

#define BLOCK_SIZE 32768u
#define ROOM_SIZE 20000u

struct net_tx_block {
    struct net_tx_block *next;
    struct rt_buf *home; /* the buffer that this block lies in */
    uint32_t head;       /* iov[head] goes next */
    uint32_t tail;
    uint32_t room_used;
    struct iovec iov[NET_TX_PIECES];
    struct rt_buf *bufs[NET_TX_PIECES]; /* NULL: nothing to give back */
    uint8_t room[ROOM_SIZE];
};

_Static_assert(sizeof(struct net_tx_block) <= BLOCK_SIZE, "a block fits its buffer");

static int block_add(struct net_tx *tx)
{
    struct rt_buf *home;
    int r = rt_buf_alloc(BLOCK_SIZE, RT_MEM_EGRESS, &home);
    if (r < 0) {
        return r;
    }
    struct net_tx_block *b = (struct net_tx_block *)(void *)home->data;
    b->next = NULL;
    b->home = home;
    b->head = 0;
    b->tail = 0;
    b->room_used = 0;
    if (tx->last) {
        tx->last->next = b;
    } else {
        tx->first = b;
    }
    tx->last = b;
    return 0;
}

/* Makes sure that the last block takes one more piece and room bytes: 0 or -ENOMEM. */
static int make_room(struct net_tx *tx, size_t room)
{
    struct net_tx_block *b = tx->last;
    if (b && b->tail < NET_TX_PIECES && room <= ROOM_SIZE - b->room_used) {
        return 0;
    }
    return block_add(tx);
}

static void append(struct net_tx *tx, struct rt_buf *buf, const void *data, size_t len)
{
    struct net_tx_block *b = tx->last;
    b->iov[b->tail].iov_base = (void *)(uintptr_t)data;
    b->iov[b->tail].iov_len = len;
    b->bufs[b->tail] = buf;
    b->tail++;
    tx->len += len;
}

static int copy_large(struct net_tx *tx, const void *data, size_t len)
{
    struct rt_buf *buf;
    int r = rt_buf_alloc(len, RT_MEM_EGRESS, &buf);
    if (r < 0) {
        return r;
    }
    memcpy(buf->data, data, len);
    return net_tx_take(tx, buf, buf->data, len);
}

int net_tx_copy(struct net_tx *tx, const void *data, size_t len)
{
    if (len > ROOM_SIZE / 4) {
        return copy_large(tx, data, len);
    }
    int r = make_room(tx, len);
    if (r < 0) {
        return r;
    }
    struct net_tx_block *b = tx->last;
    uint8_t *at = b->room + b->room_used;
    memcpy(at, data, len);
    b->room_used += (uint32_t)len;
    struct iovec *before = b->tail > b->head ? &b->iov[b->tail - 1] : NULL;
    if (before && (uint8_t *)before->iov_base + before->iov_len == at) {
        before->iov_len += len;
        tx->len += len;
    } else {
        append(tx, NULL, at, len);
    }
    return 0;
}

int net_tx_take(struct net_tx *tx, struct rt_buf *buf, const void *data, size_t len)
{
    if (len == 0) {
        rt_buf_unref(buf);
        return 0;
    }
    int r = make_room(tx, 0);
    if (r < 0) {
        rt_buf_unref(buf);
        return r;
    }
    append(tx, buf, data, len);
    return 0;
}

static void block_drop(struct net_tx *tx)
{
    struct net_tx_block *b = tx->first;
    for (; b->head < b->tail; b->head++) {
        rt_buf_unref(b->bufs[b->head]);
    }
    tx->first = b->next;
    if (!tx->first) {
        tx->last = NULL;
    }
    rt_buf_unref(b->home);
}

struct iovec *net_tx_head(struct net_tx *tx, size_t *ret_count)
{
    ASSERT(tx->len > 0);
    struct net_tx_block *b = tx->first;
    *ret_count = b->tail - b->head;
    return &b->iov[b->head];
}

void net_tx_consume(struct net_tx *tx, size_t len)
{
    struct net_tx_block *b = tx->first;
    tx->len -= len;
    while (b->head < b->tail && len >= b->iov[b->head].iov_len) {
        len -= b->iov[b->head].iov_len;
        rt_buf_unref(b->bufs[b->head]);
        b->head++;
    }
    if (b->head == b->tail) {
        ASSERT(len == 0);
        block_drop(tx);
    } else {
        b->iov[b->head].iov_base = (uint8_t *)b->iov[b->head].iov_base + len;
        b->iov[b->head].iov_len -= len;
    }
}

void net_tx_clear(struct net_tx *tx)
{
    while (tx->first) {
        block_drop(tx);
    }
    tx->len = 0;
}
