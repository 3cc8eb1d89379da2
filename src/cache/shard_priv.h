/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One shard of a cache: a hash table and the queues of S3-FIFO. The caller holds the shard's
 * mutex around every call and frees the entries that fall out (`ret_dead`) after it has released
 * it.
 */
#pragma once
#include "base/list.h"
#include "rt/buf.h"
#include "rt/sync.h"
#include <stdbool.h>
#include <stdint.h>

struct shard_key {
    uint64_t object;
    uint64_t offset;
    uint64_t hash;
};

enum shard_queue {
    SHARD_SMALL,
    SHARD_MAIN,
    SHARD_AHEAD,
    SHARD_QUEUES,
};

struct shard_entry {
    struct shard_entry *chain; /* next in the bucket, or in a list of the dead */
    struct list link;          /* in its queue; newest first */
    struct shard_key key;
    struct rt_piece piece;
    uint32_t charge_bytes;
    uint32_t counted; /* `inserts` at the last hit that counted */
    uint8_t uses;     /* since it entered its queue, at most SHARD_USES_MAX */
    uint8_t queue;
};

/* A key that was evicted from the small queue not long ago. */
struct shard_ghost {
    uint32_t tag;
    uint32_t stamp;
};

struct shard {
    struct rt_mutex m;
    struct shard_entry **buckets; /* a power of two of them; NULL before the first insert */
    struct shard_ghost *ghosts;   /* as many as buckets */
    uint64_t bucket_count;
    uint64_t count;
    struct list queues[SHARD_QUEUES];
    uint64_t queue_bytes[SHARD_QUEUES];
    uint64_t capacity_bytes;
    uint32_t inserts;
    uint32_t clock; /* counts evictions from the small queue */
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t ahead_used;
    uint64_t ahead_wasted;
    struct list flights; /* loads under way: cache.c */
} __attribute__((aligned(64)));

void shard_init(struct shard *s, uint64_t capacity_bytes);
/* Gives up everything; nobody uses the shard any more. */
void shard_destroy(struct shard *s, struct shard_entry **ret_dead);

/* Where the key's chain begins; NULL before the first insert. */
struct shard_entry **shard_bucket(const struct shard *s, const struct shard_key *key);
/* Fetches the bucket's line; the one call that needs no mutex. */
void shard_hint(const struct shard *s, const struct shard_key *key);
/* The entry, counted as used, or NULL. */
struct shard_entry *shard_find(struct shard *s, const struct shard_key *key);
/* Inserts e, whose key is not there (checked) and whose queue is SMALL or AHEAD: false when it is,
 * or when memory for the table is lacking. */
MUST bool shard_insert(struct shard *s, struct shard_entry *e, struct shard_entry **ret_dead);
bool shard_has(const struct shard *s, const struct shard_key *key);
/* Takes the entry out and gives it; NULL when there is none. */
struct shard_entry *shard_take(struct shard *s, const struct shard_key *key);
/* Evicts until the shard is within its capacity. */
void shard_shrink(struct shard *s, struct shard_entry **ret_dead);

static inline uint64_t shard_used_bytes(const struct shard *s)
{
    return s->queue_bytes[SHARD_SMALL] + s->queue_bytes[SHARD_MAIN] + s->queue_bytes[SHARD_AHEAD];
}
