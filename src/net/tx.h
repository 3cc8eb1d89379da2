/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stream has to send: pieces in order, in blocks of 512 that are laid out as sendmsg(2)
 * wants them. A block also has room for copied bytes, so that queueing a header is a memcpy. Blocks
 * are 32 KiB buffers of rt, taken when the first byte is queued and given back when the last one
 * has gone: an idle stream holds none. Private to net.
 */
#pragma once
#include "rt/buf.h"
#include <sys/uio.h>

#define NET_TX_PIECES 512

struct net_tx_block;

struct net_tx {
    struct net_tx_block *first;
    struct net_tx_block *last;
    size_t len; /* bytes queued */
};

MUST int net_tx_copy(struct net_tx *tx, const void *data, size_t len);
/* Takes over one reference of buf (or NULL), also when it fails. */
MUST int net_tx_take(struct net_tx *tx, struct rt_buf *buf, const void *data, size_t len);
/* The pieces that go next; at most *ret_count of them. Asserted that there are some. */
struct iovec *net_tx_head(struct net_tx *tx, size_t *ret_count);
/* The first len bytes of the head's pieces are sent. */
void net_tx_consume(struct net_tx *tx, size_t len);
void net_tx_clear(struct net_tx *tx);
