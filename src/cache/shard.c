/* SPDX-License-Identifier: Apache-2.0 */
/*
 * S3-FIFO: A SHORT QUEUE FOR THE NEW, A LONG ONE FOR THE PROVEN
 *
 *     insert ---> small (a tenth) --used--> main (the rest) --used--> main again, one use less
 *                   |                         |
 *                   v not used                v not used
 *                 ghost (its key only)       gone
 *                   |
 *                   '--asked for again while remembered--> main
 *
 * What nobody has asked for yet waits in a queue of its own, at most a quarter of the shard, and
 * goes to the small one when it is asked for. Other than that, a hit moves nothing, it only counts;
 * and it counts only when the shard has taken in a 32nd of its entries since the last hit that
 * counted. So a sweep over data that is read once, even when it reads each frame in several small
 * pieces, passes through the small queue and leaves main alone.
 *
 * Ghosts are a direct-mapped table of key tags with the time of eviction: a later ghost may push
 * out an earlier one, which costs a promotion and nothing else.
 *
 * INVARIANTS: queue_bytes[q] is the sum of charge_bytes in queue q; count is the length of both
 * queues; after each public call the shard is within its capacity.
 */
#include "base/assert.h"
#include "base/hash.h"
#include "cache/shard_priv.h"
#include <stdlib.h>

#define SHARD_USES_MAX 3
#define SHARD_BUCKETS_MIN 64

void shard_init(struct shard *s, uint64_t capacity_bytes)
{
    *s = (struct shard){.capacity_bytes = capacity_bytes};
    rt_mutex_init(&s->m);
    list_init(&s->queues[SHARD_SMALL]);
    list_init(&s->queues[SHARD_MAIN]);
    list_init(&s->queues[SHARD_AHEAD]);
    list_init(&s->flights);
}

static struct shard_entry **bucket_of(const struct shard *s, uint64_t hash)
{
    return &s->buckets[hash & (s->bucket_count - 1)];
}

struct shard_entry **shard_bucket(const struct shard *s, const struct shard_key *key)
{
    return s->buckets == NULL ? NULL : bucket_of(s, key->hash);
}

/* The two need not belong together: nothing is read from the address. */
void shard_hint(const struct shard *s, const struct shard_key *key)
{
    uint64_t count = __atomic_load_n(&s->bucket_count, __ATOMIC_RELAXED);
    uintptr_t buckets = (uintptr_t)__atomic_load_n(&s->buckets, __ATOMIC_RELAXED);
    uintptr_t at = buckets + (key->hash & (count - 1)) * sizeof(struct shard_entry *);
    __builtin_prefetch((const void *)at);
}

static void unchain(struct shard *s, struct shard_entry *e)
{
    struct shard_entry **at = bucket_of(s, e->key.hash);
    while (*at != e) {
        at = &(*at)->chain;
    }
    *at = e->chain;
}

static void enqueue(struct shard *s, struct shard_entry *e, enum shard_queue q)
{
    e->queue = (uint8_t)q;
    s->queue_bytes[q] += e->charge_bytes;
    list_push_front(&s->queues[q], &e->link);
}

static void dequeue(struct shard *s, struct shard_entry *e)
{
    list_remove(&e->link);
    s->queue_bytes[e->queue] -= e->charge_bytes;
}

static void take_out(struct shard *s, struct shard_entry *e)
{
    unchain(s, e);
    dequeue(s, e);
    s->count--;
}

void shard_destroy(struct shard *s, struct shard_entry **ret_dead)
{
    ASSERT(list_is_empty(&s->flights));
    for (int q = 0; q < SHARD_QUEUES; q++) {
        list_for_each(&s->queues[q], struct shard_entry, link, e) {
            take_out(s, e);
            e->chain = *ret_dead;
            *ret_dead = e;
        }
    }
    free(s->buckets);
    free(s->ghosts);
    rt_mutex_destroy(&s->m);
}

static struct shard_entry *lookup(const struct shard *s, const struct shard_key *key)
{
    if (s->buckets == NULL) {
        return NULL;
    }
    struct shard_entry *e = *bucket_of(s, key->hash);
    while (e != NULL && (e->key.offset != key->offset || e->key.object != key->object)) {
        e = e->chain;
    }
    return e;
}

struct shard_entry *shard_find(struct shard *s, const struct shard_key *key)
{
    struct shard_entry *e = lookup(s, key);
    if (e != NULL && unlikely(e->queue == SHARD_AHEAD)) {
        dequeue(s, e);
        enqueue(s, e, SHARD_SMALL);
        s->ahead_used++;
        return e;
    }
    if (e != NULL && e->uses < SHARD_USES_MAX && s->inserts - e->counted > s->count / 32) {
        e->counted = s->inserts;
        e->uses++;
    }
    return e;
}

bool shard_has(const struct shard *s, const struct shard_key *key)
{
    return lookup(s, key) != NULL;
}

/* Doubles the table when it is full. The ghosts are forgotten then, which happens log2(n) times in
 * a life. */
static bool make_room(struct shard *s)
{
    if (s->count < s->bucket_count) {
        return true;
    }
    uint64_t want = s->bucket_count == 0 ? SHARD_BUCKETS_MIN : s->bucket_count * 2;
    auto_free struct shard_entry **fresh = calloc(want, sizeof(struct shard_entry *));
    auto_free struct shard_ghost *ghosts = calloc(want, sizeof(struct shard_ghost));
    if (fresh == NULL || ghosts == NULL) {
        return s->bucket_count > 0; /* longer chains are slower, not wrong */
    }
    for (uint64_t i = 0; i < s->bucket_count; i++) {
        struct shard_entry *next;
        for (struct shard_entry *e = s->buckets[i]; e != NULL; e = next) {
            next = e->chain;
            struct shard_entry **to = &fresh[e->key.hash & (want - 1)];
            e->chain = *to;
            *to = e;
        }
    }
    free(s->buckets);
    free(s->ghosts);
    __atomic_store_n(&s->buckets, take(fresh), __ATOMIC_RELAXED); /* shard_hint() */
    s->ghosts = take(ghosts);
    __atomic_store_n(&s->bucket_count, want, __ATOMIC_RELAXED);
    return true;
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 24) | 1; /* 0 marks a slot that was never used */
}

static void ghost_add(struct shard *s, uint64_t hash)
{
    s->clock++;
    s->ghosts[hash & (s->bucket_count - 1)] = (struct shard_ghost){tag_of(hash), s->clock};
}

static bool ghost_take(struct shard *s, uint64_t hash)
{
    struct shard_ghost *g = &s->ghosts[hash & (s->bucket_count - 1)];
    if (g->tag != tag_of(hash)) {
        return false;
    }
    g->tag = 0;
    return s->clock - g->stamp <= s->count;
}

static void bury(struct shard *s, struct shard_entry *e, struct shard_entry **ret_dead)
{
    take_out(s, e);
    s->evictions++;
    e->chain = *ret_dead;
    *ret_dead = e;
}

static void evict_small(struct shard *s, struct shard_entry **ret_dead)
{
    struct shard_entry *e = container_of(s->queues[SHARD_SMALL].prev, struct shard_entry, link);
    if (e->uses > 0) {
        dequeue(s, e);
        enqueue(s, e, SHARD_MAIN);
        return;
    }
    ghost_add(s, e->key.hash);
    bury(s, e, ret_dead);
}

static void evict_main(struct shard *s, struct shard_entry **ret_dead)
{
    struct shard_entry *e = container_of(s->queues[SHARD_MAIN].prev, struct shard_entry, link);
    if (e->uses > 0) {
        dequeue(s, e);
        e->uses--;
        enqueue(s, e, SHARD_MAIN);
        return;
    }
    bury(s, e, ret_dead);
}

static void evict_ahead(struct shard *s, struct shard_entry **ret_dead)
{
    s->ahead_wasted++;
    bury(s, container_of(s->queues[SHARD_AHEAD].prev, struct shard_entry, link), ret_dead);
}

void shard_shrink(struct shard *s, struct shard_entry **ret_dead)
{
    /* Ends: each turn buries an entry, moves one to main for good, or takes one of its few uses. */
    while (shard_used_bytes(s) > s->capacity_bytes) {
        bool small = s->queue_bytes[SHARD_SMALL] > s->capacity_bytes / 10;
        if (s->queue_bytes[SHARD_AHEAD] > s->capacity_bytes / 4 ||
            (list_is_empty(&s->queues[SHARD_SMALL]) && list_is_empty(&s->queues[SHARD_MAIN]))) {
            evict_ahead(s, ret_dead);
        } else if (small || list_is_empty(&s->queues[SHARD_MAIN])) {
            evict_small(s, ret_dead);
        } else {
            evict_main(s, ret_dead);
        }
    }
}

bool shard_insert(struct shard *s, struct shard_entry *e, struct shard_entry **ret_dead)
{
    if (e->charge_bytes > s->capacity_bytes || lookup(s, &e->key) != NULL || !make_room(s)) {
        return false;
    }
    struct shard_entry **at = bucket_of(s, e->key.hash);
    e->chain = *at;
    *at = e;
    e->uses = 0;
    e->counted = ++s->inserts;
    bool known = ghost_take(s, e->key.hash);
    enqueue(s, e, e->queue == SHARD_AHEAD ? SHARD_AHEAD : known ? SHARD_MAIN : SHARD_SMALL);
    s->count++;
    shard_shrink(s, ret_dead);
    return true;
}

struct shard_entry *shard_take(struct shard *s, const struct shard_key *key)
{
    struct shard_entry *e = lookup(s, key);
    if (e != NULL) {
        take_out(s, e);
    }
    return e;
}
