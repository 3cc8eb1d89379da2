/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/map_cache.h"
#include "base/hash.h"
#include "rt/buf.h"
#include "rt/sync.h"
#include <errno.h>
#include <stdatomic.h>

#define SHARDS 32u
#define ENTRY_BYTES(runs) (sizeof(struct entry) + (runs) * sizeof(struct vol_run) + 32)

struct entry {
    struct entry *chain; /* of the bucket */
    uint64_t layer;
    uint64_t page;
    uint64_t batch;
    uint32_t count;
    uint32_t used; /* second chance */
    struct vol_run runs[];
};

struct shard {
    struct rt_mutex m;
    struct entry **buckets;
    uint32_t bucket_count;
    uint32_t hand; /* bucket at which eviction goes on */
    uint64_t entries;
    uint64_t bytes;
    uint64_t ticket; /* C2 */
} __attribute__((aligned(64)));

struct vol_map_cache {
    uint64_t shard_bytes;
    struct shard shards[SHARDS];
};

int vol_map_cache_create(uint64_t capacity_bytes, struct vol_map_cache **ret_cache)
{
    struct vol_map_cache *c = aligned_alloc(64, sizeof *c);
    if (!c) {
        return -ENOMEM;
    }
    memset(c, 0, sizeof *c);
    c->shard_bytes = capacity_bytes / SHARDS;
    uint32_t buckets = 64;
    while (buckets * 160ull < c->shard_bytes) {
        buckets *= 2;
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];
        rt_mutex_init(&s->m);
        s->bucket_count = buckets;
        s->buckets = calloc(buckets, sizeof(struct entry *));
        if (!s->buckets) {
            vol_map_cache_destroy(c);
            return -ENOMEM;
        }
        s->bytes = buckets * sizeof(struct entry *);
        rt_mem_add(RT_MEM_INDEX_CACHE, (int64_t)s->bytes);
    }
    *ret_cache = c;
    return 0;
}

void vol_map_cache_destroy(struct vol_map_cache *c)
{
    for (unsigned i = 0; c && i < SHARDS; i++) {
        struct shard *s = &c->shards[i];
        if (!s->buckets) {
            continue;
        }
        for (uint32_t k = 0; k < s->bucket_count; k++) {
            while (s->buckets[k]) {
                struct entry *e = s->buckets[k];
                s->buckets[k] = e->chain;
                free(e);
            }
        }
        rt_mem_add(RT_MEM_INDEX_CACHE, -(int64_t)s->bytes);
        free(s->buckets);
        rt_mutex_destroy(&s->m);
    }
    free(c);
}

static struct shard *shard_of(struct vol_map_cache *c, uint64_t hash)
{
    return &c->shards[hash % SHARDS];
}

static struct entry **slot_of(struct shard *s, uint64_t hash, uint64_t layer, uint64_t page)
{
    struct entry **at = &s->buckets[(hash >> 8) & (s->bucket_count - 1)];
    while (*at && ((*at)->page != page || (*at)->layer != layer)) {
        at = &(*at)->chain;
    }
    return at;
}

/* A hint looks at a bucket without the mutex. */
static void link_set(struct entry **at, struct entry *e)
{
    __atomic_store_n(at, e, __ATOMIC_RELAXED);
}

static void account(struct shard *s, int64_t delta)
{
    s->bytes = (uint64_t)((int64_t)s->bytes + delta);
    rt_mem_add(RT_MEM_INDEX_CACHE, delta);
}

static void drop(struct shard *s, struct entry **at)
{
    struct entry *e = *at;
    link_set(at, e->chain);
    s->entries--;
    account(s, -(int64_t)ENTRY_BYTES(e->count));
    free(e);
}

static void evict(struct vol_map_cache *c, struct shard *s)
{
    while (s->bytes > c->shard_bytes && s->entries > 0) {
        struct entry **at = &s->buckets[s->hand++ & (s->bucket_count - 1)];
        while (*at) {
            if ((*at)->used > 0) {
                (*at)->used--;
                at = &(*at)->chain;
            } else {
                drop(s, at);
            }
        }
    }
}

bool vol_map_cache_get(struct vol_map_cache *c, uint64_t layer, uint64_t page,
                       struct vol_map *ret_map)
{
    uint64_t hash = hash_pair(layer, page);
    struct shard *s = shard_of(c, hash);
    rt_mutex_lock(&s->m);
    struct entry *e = *slot_of(s, hash, layer, page);
    if (e) {
        if (e->used == 0) {
            e->used = 1; /* a write would take the line away from other cores */
        }
        ret_map->batch = e->batch;
        ret_map->count = e->count;
        memcpy(ret_map->runs, e->runs, e->count * sizeof e->runs[0]);
    }
    rt_mutex_unlock(&s->m);
    return e != NULL;
}

void vol_map_cache_hint(struct vol_map_cache *c, uint64_t layer, uint64_t page, bool entry)
{
    uint64_t hash = hash_pair(layer, page);
    struct shard *s = shard_of(c, hash);
    struct entry **bucket = &s->buckets[(hash >> 8) & (s->bucket_count - 1)];
    if (!entry) {
        __builtin_prefetch((const void *)bucket);
        return;
    }
    const char *e = (const char *)__atomic_load_n(bucket, __ATOMIC_RELAXED);
    for (size_t at = 0; e && at < sizeof(struct entry) + 5 * sizeof(struct vol_run); at += 64) {
        __builtin_prefetch(e + at);
    }
}

uint64_t vol_map_cache_ticket(struct vol_map_cache *c, uint64_t layer, uint64_t page)
{
    struct shard *s = shard_of(c, hash_pair(layer, page));
    rt_mutex_lock(&s->m);
    uint64_t ticket = s->ticket;
    rt_mutex_unlock(&s->m);
    return ticket;
}

/* Puts a copy in place of what is there; without memory for it the page is just not cached. */
static void put(struct vol_map_cache *c, struct shard *s, uint64_t hash, const struct entry *head,
                const struct vol_map *map)
{
    struct entry **at = slot_of(s, hash, head->layer, head->page);
    if (*at && (*at)->count == map->count) {
        (*at)->batch = map->batch;
        memcpy((*at)->runs, map->runs, map->count * sizeof map->runs[0]);
        return;
    }
    if (*at) {
        drop(s, at);
    }
    struct entry *e = malloc(sizeof *e + map->count * sizeof e->runs[0]);
    if (!e) {
        return;
    }
    *e = *head;
    e->batch = map->batch;
    e->count = map->count;
    memcpy(e->runs, map->runs, map->count * sizeof e->runs[0]);
    struct entry **bucket = &s->buckets[(hash >> 8) & (s->bucket_count - 1)];
    e->chain = *bucket;
    link_set(bucket, e);
    s->entries++;
    account(s, (int64_t)ENTRY_BYTES(e->count));
    evict(c, s);
}

void vol_map_cache_offer(struct vol_map_cache *c, uint64_t layer, uint64_t page, uint64_t ticket,
                         const struct vol_map *map)
{
    uint64_t hash = hash_pair(layer, page);
    struct shard *s = shard_of(c, hash);
    struct entry head = {.layer = layer, .page = page};
    rt_mutex_lock(&s->m);
    if (s->ticket == ticket) {
        put(c, s, hash, &head, map);
    }
    rt_mutex_unlock(&s->m);
}

void vol_map_cache_set(struct vol_map_cache *c, uint64_t layer, uint64_t page,
                       const struct vol_map *map)
{
    uint64_t hash = hash_pair(layer, page);
    struct shard *s = shard_of(c, hash);
    struct entry head = {.layer = layer, .page = page, .used = 1};
    rt_mutex_lock(&s->m);
    s->ticket++;
    put(c, s, hash, &head, map);
    rt_mutex_unlock(&s->m);
}

uint64_t vol_map_cache_bytes(struct vol_map_cache *c)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        rt_mutex_lock(&c->shards[i].m);
        bytes += c->shards[i].bytes;
        rt_mutex_unlock(&c->shards[i].m);
    }
    return bytes;
}
