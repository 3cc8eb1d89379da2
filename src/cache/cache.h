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
/* True when it is there; counts as nothing. */
MUST bool cache_has(struct cache *c, uint64_t object, uint64_t offset);
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

/*
 * The same for those who load many keys in one step. First every key is claimed, without waiting
 * for anybody; then what is MINE is loaded and landed, in any case; only then THEIRS are joined.
 * So nobody waits who others wait for.
 */
enum cache_claim {
    CACHE_HIT,    /* the piece, with a reference of its own */
    CACHE_MINE,   /* the caller loads and calls cache_land() */
    CACHE_THEIRS, /* another does: cache_join() */
};
struct cache_flight;
/* One of the above, or -ENOMEM. *ret_piece is set by a hit, *ret_flight by the other two. */
MUST int cache_claim(struct cache *c, uint64_t object, uint64_t offset, struct rt_piece *ret_piece,
                     struct cache_flight **ret_flight);
/*
 * Ends a flight of one's own: with result 0, piece goes into the cache and to all who joined (each
 * takes a reference of its own). A result of -ECANCELED makes them ask again. ahead: nobody has
 * asked for it yet; until somebody does, it is in a queue of its own, at most a quarter of all.
 */
void cache_land(struct cache *c, struct cache_flight *f, int result, const struct rt_piece *piece,
                bool ahead);
/* The flight's result and piece; 1: its loader was cancelled, claim again; -ECANCELED: the caller
 * was. The flight is not the caller's any more. */
MUST int cache_join(struct cache *c, struct cache_flight *f, struct rt_piece *ret_piece) WAITS;

struct cache_counts {
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t used_bytes;
    uint64_t capacity_bytes;
    uint64_t ahead_used;   /* entries that were there before anybody asked, and were asked for */
    uint64_t ahead_wasted; /* and that were evicted instead */
};
void cache_counts(const struct cache *c, struct cache_counts *ret_counts);
