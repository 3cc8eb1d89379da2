/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cache of immutable bytes in RAM, keyed by (object, offset): entries are only ever evicted,
 * never changed. Sharded; bounded in bytes, counting each entry's buffer share and its own
 * overhead; scan-resistant (a one-time sweep does not flush what is used often).
 *
 *     struct rt_piece p;
 *     if (cache_get(c, seq, frame_off, &p)) { ... rt_buf_unref(p.buf); }
 *
 * Any thread. Nothing here waits except cache_load().
 */
#pragma once
#include "base/attr.h"
#include "rt/buf.h"
#include <stdbool.h>
#include <stdint.h>

struct cache;

MUST int cache_create(uint64_t capacity_bytes, enum rt_mem owner, struct cache **ret_cache);
void cache_destroy(struct cache *c); /* accepts NULL */
void cache_resize(struct cache *c, uint64_t capacity_bytes);

/* On a hit gives a piece with a reference of its own. */
MUST bool cache_get(struct cache *c, uint64_t object, uint64_t offset, struct rt_piece *ret_piece);
/* Puts a piece (takes its own reference); one that is there already stays. */
void cache_put(struct cache *c, uint64_t object, uint64_t offset, const struct rt_piece *piece);
/* Drops the entry, if there is one. */
void cache_drop(struct cache *c, uint64_t object, uint64_t offset);

/*
 * For work on many keys: says some steps before that a key will be put, asked for or dropped, so
 * that the processor fetches what that needs. BUCKET first, then ENTRY, then NEIGHBOURS (a drop).
 */
enum cache_hint {
    CACHE_HINT_BUCKET,
    CACHE_HINT_ENTRY,
    CACHE_HINT_NEIGHBOURS,
    CACHE_HINT_BUFFER, /* after ENTRY, before a get */
};
void cache_hint(struct cache *c, uint64_t object, uint64_t offset, enum cache_hint hint);

/*
 * A hit, or else load(arg, ret_piece) once for all who ask for the same key at the same time
 * (single-flight): 0, or the loader's error, which every waiter gets and which is not cached.
 */
MUST int cache_load(struct cache *c, uint64_t object, uint64_t offset,
                    int (*load)(void *arg, struct rt_piece *ret_piece) WAITS, void *arg,
                    struct rt_piece *ret_piece) WAITS;

struct cache_counts {
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t used_bytes;
    uint64_t capacity_bytes;
};
void cache_counts(const struct cache *c, struct cache_counts *ret_counts);
