/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counted buffers, chains of references into them, and the memory table.
 *
 * A buffer is filled by the one who allocated it and immutable from the moment a second reference
 * exists. It goes to a socket without a copy. Each is accounted, whole, to one owner of the memory
 * table (status shows it by owner).
 *
 *     struct rt_buf *b;
 *     r = rt_buf_alloc(4096, RT_MEM_DIRTY, &b);
 *     memcpy(b->data, src, 4096);
 *     r = rt_chain_add(&chain, b, b->data, 4096);      // takes a reference of its own
 *     rt_buf_unref(b);
 */
#pragma once
#include "base/attr.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rt_mem {
    RT_MEM_DIRTY,   /* blocks of open, sealing and unapplied batches */
    RT_MEM_SEALING, /* segments being built and uploaded */
    RT_MEM_MEMTABLE,
    RT_MEM_INDEX_CACHE, /* decoded index blocks, filters, page maps */
    RT_MEM_BLOCK_CACHE, /* decoded frames */
    RT_MEM_DISK_CACHE,  /* its index, and what is on its way there */
    RT_MEM_INGRESS,     /* received, not yet taken over */
    RT_MEM_EGRESS,      /* replies waiting for their socket */
    RT_MEM_STACKS,
    RT_MEM_CONNECTIONS,
    RT_MEM_HTTP, /* libcurl's: connections to an S3 server, and their buffers */
    RT_MEM_OTHER,
    RT_MEM_OWNERS,
};

const char *rt_mem_name(enum rt_mem owner);
/* Accounts memory that is not an rt_buf. */
void rt_mem_add(enum rt_mem owner, int64_t delta_bytes);
uint64_t rt_mem_used(enum rt_mem owner);

struct rt_buf {
    uint8_t *data;
    uint32_t cap;   /* bytes at data */
    uint32_t klass; /* private to rt */
    _Atomic uint32_t refs;
    _Atomic uint32_t owner; /* enum rt_mem */
    _Atomic uint64_t sum;   /* and sums: private to buf_sum.c */
    _Atomic(_Atomic uint64_t *) sums;
};

/*
 * A buffer of at least len bytes (1 byte to 1 GiB) with one reference; data is aligned to 64 bytes,
 * contents undefined. Multiples of 4 KiB up to 24 KiB, powers of two from there to 2 MiB, and what
 * is not much less, come from per-thread free lists. 0 or -ENOMEM. Any thread.
 */
MUST int rt_buf_alloc(size_t len, enum rt_mem owner, struct rt_buf **ret_buf);
struct rt_buf *rt_buf_ref(struct rt_buf *b);
/* Gives up one reference; the last one frees. Accepts NULL. Any thread. */
void rt_buf_unref(struct rt_buf *b);
/* Moves the buffer's bytes to another line of the memory table. */
void rt_buf_reown(struct rt_buf *b, enum rt_mem owner);
/* Gives the memory that free lists hold back to the system. */
void rt_buf_trim(void);
/*
 * Has the system back a little more memory for buffers, so that their first users need not wait for
 * that: false when there are total_bytes, in use or not, or as much as may be idle. A step takes
 * a millisecond or more, and belongs on an offload thread.
 */
MUST bool rt_buf_warm(uint64_t total_bytes);
/* How much memory that no buffer uses is kept for the next ones, besides the lists. */
void rt_buf_idle_max(uint64_t bytes);

/* A page of 64 KiB of zeros: read-only, for holes. Never freed; needs no reference. */
extern const uint8_t rt_zeros[65536];

/* One piece of bytes. buf is NULL for bytes that live for ever (rt_zeros) or that the chain's maker
 * keeps alive. */
struct rt_piece {
    const uint8_t *data;
    uint32_t len;
    uint32_t is_hole; /* 1: nothing is stored here, data points at zeros */
    struct rt_buf *buf;
};

/*
 * CRC32C of what `crc` is of, followed by the piece's bytes, which do not change any more. What was
 * found for whole blocks of 4 KiB from the piece's start on is remembered with their buffer, so
 * that bytes which are sent again are not read again. Any thread.
 */
uint32_t rt_piece_crc32c(uint32_t crc, const struct rt_piece *p);

#define RT_CHAIN_INLINE 4

/* Pieces in order. Initialise with {0}; rt_chain_free() gives back the references. */
struct rt_chain {
    struct rt_piece *heap; /* NULL while the pieces fit inline */
    uint32_t count;
    uint32_t cap;
    uint64_t len; /* bytes of all pieces */
    struct rt_piece inline_at[RT_CHAIN_INLINE];
};

/* As {0}, but for the pieces that an empty chain does not look at. */
static inline void rt_chain_init(struct rt_chain *c)
{
    c->heap = NULL;
    c->count = 0;
    c->cap = 0;
    c->len = 0;
}

static inline struct rt_piece *rt_chain_at(struct rt_chain *c)
{
    return c->heap ? c->heap : c->inline_at;
}

static inline const struct rt_piece *rt_chain_pieces(const struct rt_chain *c)
{
    return c->heap ? c->heap : c->inline_at;
}

/* Appends len bytes at data; takes its own reference of buf unless that is NULL. Joins what is
 * adjacent. 0 or -ENOMEM. */
MUST int rt_chain_add(struct rt_chain *c, struct rt_buf *buf, const void *data, uint32_t len);
/* The same, but takes over the caller's reference of buf, with an error too. */
MUST int rt_chain_take(struct rt_chain *c, struct rt_buf *buf, const void *data, uint32_t len);
/* Appends len zero bytes (rt_zeros), as a hole or as allocated zeros. */
MUST int rt_chain_add_zeros(struct rt_chain *c, uint64_t len, int is_hole);
/* Appends len bytes from offset off of another chain, by reference. */
MUST int rt_chain_add_range(struct rt_chain *c, const struct rt_chain *from, uint64_t off,
                            uint64_t len);
void rt_chain_free(struct rt_chain *c);
/* Copies len bytes from offset off out of the chain. The range is inside (asserted). */
void rt_chain_copy_out(const struct rt_chain *c, uint64_t off, void *dst, uint64_t len);
