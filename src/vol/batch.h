/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch: what entered the volume between two rotations. It is one object from the moment it is
 * opened until it has been applied to the index; while it waits to be applied, reads see its
 * contents as an overlay.
 *
 *     OPEN --close--> CLOSED --all left--> SEALED --reserve, seal, PUT--> STORED --prefix, apply-->
 * APPLIED, dropped
 *
 * B1. Contents change only between enter and leave of an open batch; nothing waits in between. From
 * SEALED on they are immutable and read without a lock. B2. A slot's block is immutable; an
 * overwrite swaps the reference. B3. Within a batch a range hole drops the slots it covers; slots
 * written later win over it. B4. charged is the dirty space that the batch holds; it goes back when
 * the batch has been applied, and no attempt to store it reads its blocks any more.
 *
 * Blocks: (layer, page) -> 8 slots, in shards of their own mutex. Metadata, range holes and reaps:
 * one mutex.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/list.h"
#include "base/tree.h"
#include "base/vec.h"
#include "index/index.h"
#include "log/log.h"
#include "rt/buf.h"
#include "rt/sync.h"
#include "vol/vol.h"
#include "vol/vol_format.h"
#include <stdatomic.h>

#define VOL_BATCH_SHARDS 16u
#define VOL_SLOT_ABSENT 0xffu
/* What a page of a batch costs besides its blocks. */
#define VOL_PAGE_COST 256u
#define VOL_PAIR_COST 128u

struct vol_slot {
    struct rt_buf *buf;  /* NULL unless kind is VOL_RUN_DATA or VOL_RUN_STORED */
    const uint8_t *data; /* STORED: the struct vol_run of this one block, inside buf */
    uint32_t kind;       /* enum vol_run_kind, VOL_SLOT_ABSENT */
};

struct vol_batch_page {
    uint64_t layer;
    uint64_t page;
    struct {
        struct rt_buf *buf;
        const uint8_t *data;
    } slot[VOL_PAGE_BLOCKS];
    uint8_t kind[VOL_PAGE_BLOCKS];
};

struct vol_batch_shard {
    struct rt_mutex m;
    uint64_t *table; /* upper half: tag of the hash; lower half: index of the page + 1 */
    uint32_t table_size;
    uint32_t count;
    VEC(struct vol_batch_page *) chunks;
};

/* Metadata: a put or delete of one key. */
struct vol_batch_pair {
    struct tree_node node;
    enum index_op op;
    uint32_t key_len;
    uint32_t value_len;
    uint8_t bytes[]; /* key, value */
};

struct vol_batch_hole {
    struct tree_node node;
    uint64_t layer;
    uint64_t first; /* pages */
    uint64_t end;
    uint64_t flags;
};

struct vol_batch_reap {
    uint64_t layer;
    uint64_t hole_batch;
    uint64_t hole_first;
    uint64_t from;
    uint64_t upto;
};

struct vol_batch {
    struct list link; /* vol's list of batches, oldest first */
    uint64_t number;
    _Atomic uint32_t refs;
    _Atomic uint32_t inside;  /* those who have entered; VOL_BATCH_CLOSED */
    _Atomic bool touched;     /* holds something */
    _Atomic bool sealed;      /* immutable (B1) */
    _Atomic uint64_t charged; /* B4 */
    _Atomic uint64_t touched_ns;
    struct rt_event left;           /* somebody has left a closed batch as the last one */
    struct rt_event reserved;       /* seq is known, or the volume is fenced */
    _Atomic uint32_t space_holders; /* of what is charged: commit and apply */
    struct rt_event applied;        /* or given up */
    uint64_t seq;                   /* 0 until reserved */
    struct log_salt salt;           /* of the segment, once it is sealed */
    /* Built when sealed, needed until applied. */
    struct log_frame *frames;
    struct vol_batch_page **pages; /* sorted by (layer, page) */
    uint32_t frame_count;
    uint32_t page_count;
    struct bytes_writer records;
    struct vol_batch_shard shards[VOL_BATCH_SHARDS];
    struct rt_mutex m; /* guards what follows while open */
    struct tree pairs;
    struct tree holes;
    _Atomic uint32_t hole_count;
    _Atomic uint32_t pair_count;
    VEC(struct vol_batch_reap) reaps;
};

#define VOL_BATCH_CLOSED 0x80000000u

/* A batch that is closed until vol_batch_open(). */
MUST int vol_batch_create(struct vol_batch **ret_batch);
struct vol_batch *vol_batch_ref(struct vol_batch *b);
void vol_batch_unref(struct vol_batch *b); /* accepts NULL */

void vol_batch_open(struct vol_batch *b);
/* Nobody enters any more. */
void vol_batch_close(struct vol_batch *b);
/* Of a closed batch, by one fiber: until nobody is inside. Short, for those inside wait for
 * nothing. */
void vol_batch_wait_left(struct vol_batch *b) WAITS;
MUST bool vol_batch_enter(struct vol_batch *b);
void vol_batch_leave(struct vol_batch *b);

/* Neighbouring blocks of one page. */
struct vol_blocks {
    uint64_t layer;
    uint64_t page;
    unsigned first;
    unsigned count;
    const struct vol_slot *slots;
};
/*
 * Puts the slots; takes over the references of their buffers. *ret_refund: dirty space that the
 * overwritten blocks give back. 0, or -ENOMEM and nothing is changed.
 */
MUST int vol_batch_put(struct vol_batch *b, const struct vol_blocks *blocks, uint64_t *ret_refund);
/* Room for blocks of the page, of which the batch knows no more than before: puts there do not fail
 * any more. 0 or -ENOMEM. */
MUST int vol_batch_reserve(struct vol_batch *b, uint64_t layer, uint64_t page);
/*
 * What the batch says of the blocks in mask: fills slots[block], with references of their own, and
 * returns the mask of those it knows.
 */
unsigned vol_batch_get(struct vol_batch *b, uint64_t layer, uint64_t page, unsigned mask,
                       struct vol_slot slots[VOL_PAGE_BLOCKS]);
/* True when the batch has blocks of the page in its table; range holes do not count. */
bool vol_batch_has_page(struct vol_batch *b, uint64_t layer, uint64_t page);
/* The smallest page in [from, upto) of the layer of which the batch knows something; upto if none.
 * Looks at every page of the batch. */
uint64_t vol_batch_next_page(struct vol_batch *b, uint64_t layer, uint64_t from, uint64_t upto);

/* Adds a range hole, dropping what the batch has there. *ret_added: range holes that the batch
 * holds now more than before (may be negative). */
MUST int vol_batch_add_hole(struct vol_batch *b, const struct vol_batch_hole *hole, int *ret_added);
MUST int vol_batch_add_reap(struct vol_batch *b, const struct vol_batch_reap *reap);
/* The batch takes the pair over. */
void vol_batch_add_pair(struct vol_batch *b, struct vol_batch_pair *pair);
/* 1 = put (value appended), -ENOENT = deleted here, 0 = the batch does not know the key. */
MUST int vol_batch_find_pair(struct vol_batch *b, const void *key, size_t key_len,
                             struct bytes_writer *ret_value);

MUST int vol_batch_pair_create(enum index_op op, const void *key, size_t key_len, const void *value,
                               size_t value_len, struct vol_batch_pair **ret_pair);
static inline const uint8_t *vol_batch_pair_value(const struct vol_batch_pair *p)
{
    return p->bytes + p->key_len;
}
/* Byte order of keys. */
int vol_key_compare(const void *a, size_t a_len, const void *b, size_t b_len);

/* Of a sealed batch: fills pages. 0 or -ENOMEM. */
MUST int vol_batch_sort(struct vol_batch *b);
