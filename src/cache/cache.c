/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache over its shards, and loads.
 *
 * WHAT AN ENTRY COSTS. A piece that is more than half of its buffer keeps the buffer and is charged
 * with all of it. A smaller one is copied into a buffer of its own size, so that no entry ever pins
 * more than twice what it is charged for. Bytes that live for ever (rt_zeros) cost only the entry.
 *
 * LOADS. A flight is one load under way. It belongs to the list of its shard from the first miss
 * until the loader came back, and to everyone who holds a count of it; the last one frees it. A
 * loader that was cancelled says nothing about the object: those who waited for it try again
 * themselves.
 */
#include "cache/cache.h"
#include "base/assert.h"
#include "base/hash.h"
#include "cache/shard_priv.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include <errno.h>
#include <string.h>

#define CACHE_SHARDS_MAX 64u
#define CACHE_SHARD_MIN_BYTES (4u << 20) /* an entry has to fit into its shard */
/* The entry, its bucket and ghost, the buffer's head, and what malloc adds. */
#define CACHE_ENTRY_BYTES (sizeof(struct shard_entry) + sizeof(struct rt_buf) + 48)

struct cache {
    struct shard *shards;
    unsigned shard_count; /* a power of two */
    enum rt_mem owner;
};

struct cache_flight {
    struct list link;
    struct shard_key key;
    struct rt_waitq waiters;
    struct rt_piece piece;
    unsigned refs;
    int result;
    bool done;
};

static struct shard_key key_of(uint64_t object, uint64_t offset)
{
    return (struct shard_key){object, offset, hash_pair(object, offset)};
}

/* Buckets use the low bits of the hash, shards the high ones. */
static struct shard *shard_of(const struct cache *c, const struct shard_key *key)
{
    return &c->shards[(key->hash >> 56) & (c->shard_count - 1)];
}

static void free_dead(struct cache *c, struct shard_entry *dead)
{
    while (dead != NULL) {
        struct shard_entry *next = dead->chain;
        rt_buf_unref(dead->piece.buf);
        free(dead);
        rt_mem_add(c->owner, -(int64_t)CACHE_ENTRY_BYTES);
        dead = next;
    }
}

int cache_create(uint64_t capacity_bytes, enum rt_mem owner, struct cache **ret_cache)
{
    unsigned count = 1;
    while (count < CACHE_SHARDS_MAX &&
           capacity_bytes / (count * 2u) >= (uint64_t)CACHE_SHARD_MIN_BYTES) {
        count *= 2;
    }
    auto_free struct cache *c = calloc(1, sizeof *c);
    void *shards = NULL;
    if (c == NULL || posix_memalign(&shards, 64, count * sizeof(struct shard)) != 0) {
        return -ENOMEM;
    }
    c->shards = shards;
    c->shard_count = count;
    c->owner = owner;
    for (unsigned i = 0; i < count; i++) {
        shard_init(&c->shards[i], capacity_bytes / count);
    }
    *ret_cache = take(c);
    return 0;
}

void cache_destroy(struct cache *c)
{
    if (c == NULL) {
        return;
    }
    for (unsigned i = 0; i < c->shard_count; i++) {
        struct shard_entry *dead = NULL;
        shard_destroy(&c->shards[i], &dead);
        free_dead(c, dead);
    }
    free(c->shards);
    free(c);
}

void cache_resize(struct cache *c, uint64_t capacity_bytes)
{
    for (unsigned i = 0; i < c->shard_count; i++) {
        struct shard *s = &c->shards[i];
        struct shard_entry *dead = NULL;
        rt_mutex_lock(&s->m);
        s->capacity_bytes = capacity_bytes / c->shard_count;
        shard_shrink(s, &dead);
        rt_mutex_unlock(&s->m);
        free_dead(c, dead);
    }
}

static void give_piece(const struct rt_piece *piece, struct rt_piece *ret_piece)
{
    *ret_piece = *piece;
    if (piece->buf != NULL) {
        (void)rt_buf_ref(piece->buf);
    }
}

/* With the shard's mutex held. */
static bool take_hit(struct shard *s, const struct shard_key *key, struct rt_piece *ret_piece)
{
    const struct shard_entry *e = shard_find(s, key);
    if (e == NULL) {
        s->misses++;
        return false;
    }
    s->hits++;
    give_piece(&e->piece, ret_piece);
    return true;
}

bool cache_get(struct cache *c, uint64_t object, uint64_t offset, struct rt_piece *ret_piece)
{
    struct shard_key key = key_of(object, offset);
    struct shard *s = shard_of(c, &key);
    rt_mutex_lock(&s->m);
    bool hit = take_hit(s, &key, ret_piece);
    rt_mutex_unlock(&s->m);
    return hit;
}

static bool lives_for_ever(const struct rt_piece *p)
{
    return p->buf == NULL && p->data >= rt_zeros && p->data + p->len <= rt_zeros + sizeof rt_zeros;
}

/* A reference to the piece's buffer, or to a copy of the right size: 0 or -ENOMEM. */
static int keep_piece(const struct cache *c, const struct rt_piece *piece,
                      struct rt_piece *ret_kept)
{
    *ret_kept = *piece;
    if (lives_for_ever(piece)) {
        return 0;
    }
    if (piece->buf != NULL && (uint64_t)piece->len * 2 > piece->buf->cap) {
        rt_buf_reown(rt_buf_ref(piece->buf), c->owner);
        return 0;
    }
    struct rt_buf *copy;
    int r = rt_buf_alloc(piece->len, c->owner, &copy);
    if (r < 0) {
        return r;
    }
    memcpy(copy->data, piece->data, piece->len);
    ret_kept->buf = copy;
    ret_kept->data = copy->data;
    return 0;
}

static void put(struct cache *c, uint64_t object, uint64_t offset, const struct rt_piece *piece,
                bool ahead)
{
    struct shard_key key = key_of(object, offset);
    struct shard *s = shard_of(c, &key);
    struct shard_entry *e = calloc(1, sizeof *e);
    if (piece->len == 0 || e == NULL || keep_piece(c, piece, &e->piece) < 0) {
        free(e);
        return; /* what is not cached is fetched again */
    }
    e->key = key;
    e->queue = ahead ? SHARD_AHEAD : SHARD_SMALL;
    e->charge_bytes = (uint32_t)CACHE_ENTRY_BYTES + (e->piece.buf ? e->piece.buf->cap : 0);
    rt_mem_add(c->owner, (int64_t)CACHE_ENTRY_BYTES);
    struct shard_entry *dead = NULL;
    rt_mutex_lock(&s->m);
    bool kept = shard_insert(s, e, &dead);
    rt_mutex_unlock(&s->m);
    if (!kept) {
        e->chain = NULL;
        dead = e; /* an insert that was refused has evicted nothing */
    }
    free_dead(c, dead);
}

void cache_put(struct cache *c, uint64_t object, uint64_t offset, const struct rt_piece *piece)
{
    put(c, object, offset, piece, false);
}

bool cache_has(struct cache *c, uint64_t object, uint64_t offset)
{
    struct shard_key key = key_of(object, offset);
    struct shard *s = shard_of(c, &key);
    rt_mutex_lock(&s->m);
    bool has = shard_has(s, &key);
    rt_mutex_unlock(&s->m);
    return has;
}

void cache_drop(struct cache *c, uint64_t object, uint64_t offset)
{
    struct shard_key key = key_of(object, offset);
    struct shard *s = shard_of(c, &key);
    rt_mutex_lock(&s->m);
    struct shard_entry *e = shard_take(s, &key);
    rt_mutex_unlock(&s->m);
    if (e != NULL) {
        e->chain = NULL;
        free_dead(c, e);
    }
}

void cache_hint(struct cache *c, uint64_t object, uint64_t offset, enum cache_hint hint)
{
    struct shard_key key = key_of(object, offset);
    struct shard *s = shard_of(c, &key);
    if (hint == CACHE_HINT_BUCKET) {
        shard_hint(s, &key);
        return;
    }
    rt_mutex_lock(&s->m);
    struct shard_entry **bucket = shard_bucket(s, &key);
    struct shard_entry *e = bucket ? *bucket : NULL;
    if (e != NULL && hint == CACHE_HINT_ENTRY) {
        __builtin_prefetch(e, 1);
        __builtin_prefetch((const char *)e + 64, 1);
    } else if (e != NULL && hint == CACHE_HINT_BUFFER) {
        __builtin_prefetch(e->piece.buf, 1);
        __builtin_prefetch(e->piece.data);
    } else if (e != NULL) {
        __builtin_prefetch(e->link.next, 1);
        __builtin_prefetch(e->link.prev, 1);
        __builtin_prefetch(e->piece.buf, 1);
    }
    rt_mutex_unlock(&s->m);
}

static struct cache_flight *flight_find(const struct shard *s, const struct shard_key *key)
{
    list_for_each(&s->flights, struct cache_flight, link, f) {
        if (f->key.object == key->object && f->key.offset == key->offset) {
            return f;
        }
    }
    return NULL;
}

/* With the mutex held, which it releases. */
static void flight_leave(struct shard *s, struct cache_flight *f)
{
    bool last = --f->refs == 0;
    rt_mutex_unlock(&s->m);
    if (last) {
        rt_buf_unref(f->piece.buf);
        free(f);
    }
}

int cache_claim(struct cache *c, uint64_t object, uint64_t offset, struct rt_piece *ret_piece,
                struct cache_flight **ret_flight)
{
    auto_free struct cache_flight *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return -ENOMEM;
    }
    fresh->key = key_of(object, offset);
    fresh->refs = 1;
    rt_waitq_init(&fresh->waiters);
    struct shard *s = shard_of(c, &fresh->key);
    int r = CACHE_HIT;
    rt_mutex_lock(&s->m);
    const struct shard_entry *e = shard_find(s, &fresh->key);
    struct cache_flight *f = e != NULL ? NULL : flight_find(s, &fresh->key);
    if (e != NULL) {
        give_piece(&e->piece, ret_piece);
    } else if (f != NULL) {
        f->refs++;
        *ret_flight = f;
        r = CACHE_THEIRS;
    } else {
        list_push_back(&s->flights, &fresh->link);
        *ret_flight = take(fresh);
        r = CACHE_MINE;
    }
    rt_mutex_unlock(&s->m);
    return r;
}

void cache_land(struct cache *c, struct cache_flight *f, int result, const struct rt_piece *piece,
                bool ahead)
{
    struct shard *s = shard_of(c, &f->key);
    ASSERT(result <= 0);
    if (result == 0) {
        rt_mutex_lock(&s->m);
        ahead = ahead && f->refs == 1;
        rt_mutex_unlock(&s->m);
        put(c, f->key.object, f->key.offset, piece, ahead);
        give_piece(piece, &f->piece);
    }
    rt_mutex_lock(&s->m);
    f->result = result;
    f->done = true;
    list_remove(&f->link);
    rt_waitq_wake_all(&f->waiters);
    flight_leave(s, f);
}

int cache_join(struct cache *c, struct cache_flight *f, struct rt_piece *ret_piece)
{
    struct shard *s = shard_of(c, &f->key);
    int r = 0;
    rt_mutex_lock(&s->m);
    while (!f->done && r == 0) {
        r = rt_waitq_wait(&f->waiters, &s->m, RT_FOREVER);
    }
    if (f->done) {
        r = f->result;
        if (r == 0) {
            give_piece(&f->piece, ret_piece);
        } else if (r == -ECANCELED && !rt_cancelled()) {
            r = 1;
        }
    }
    flight_leave(s, f);
    return r;
}

int cache_load(struct cache *c, uint64_t object, uint64_t offset,
               int (*load)(void *arg, struct rt_piece *ret_piece) WAITS, void *arg,
               struct rt_piece *ret_piece) WAITS
{
    int r;
    if (cache_get(c, object, offset, ret_piece)) {
        return 0;
    }
    do {
        struct cache_flight *f;
        r = cache_claim(c, object, offset, ret_piece, &f);
        if (r == CACHE_MINE) {
            r = load(arg, ret_piece);
            cache_land(c, f, r, ret_piece, false);
        } else if (r == CACHE_THEIRS) {
            r = cache_join(c, f, ret_piece);
        }
    } while (r > 0);
    return r;
}

void cache_counts(const struct cache *c, struct cache_counts *ret_counts)
{
    *ret_counts = (struct cache_counts){0};
    for (unsigned i = 0; i < c->shard_count; i++) {
        struct shard *s = &c->shards[i];
        rt_mutex_lock(&s->m);
        ret_counts->hits += s->hits;
        ret_counts->misses += s->misses;
        ret_counts->evictions += s->evictions;
        ret_counts->used_bytes += shard_used_bytes(s);
        ret_counts->capacity_bytes += s->capacity_bytes;
        ret_counts->ahead_used += s->ahead_used;
        ret_counts->ahead_wasted += s->ahead_wasted;
        rt_mutex_unlock(&s->m);
    }
}
