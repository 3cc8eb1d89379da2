/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A skip list for order and a hash table for look-ups over the same nodes, in one arena.
 *
 * READERS TAKE NO LOCK. A node is complete before it is linked (release store), and never changes
 * or goes afterwards except for its pointers, which are atomic. Overwriting a key swaps the pointer
 * to its value; the old value stays in the arena until the memtable goes, and counts as used, so
 * that overwriting one key for ever still ends in a flush.
 *
 * THE ARENA is a list of chunks. memtable_reserve() makes sure that a chunk follows which alone can
 * hold the whole batch; therefore memtable_put() cannot fail, and a batch is in a memtable whole or
 * not at all.
 */
#include "index/memtable.h"
#include "base/assert.h"
#include "base/hash.h"
#include "rt/buf.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEIGHT_MAX 12u
#define CHUNK_BYTES (256u << 10)
#define HUGE_BYTES (2u << 20) /* of a huge page; chunks of a large memtable are one each */
#define BUCKETS_MIN 256u
#define BUCKETS_MAX (1u << 20)
#define BYTES_PER_BUCKET 256u /* a guess at the size of an entry */

struct mem_value {
    uint32_t len;
    uint32_t deleted;
    uint8_t bytes[];
};

struct memtable_node {
    struct memtable_node *_Atomic chain; /* next in the bucket */
    struct mem_value *_Atomic value;
    uint64_t hash;
    uint32_t key_len;
    uint32_t height;
    struct memtable_node *_Atomic next[]; /* height of them; the key follows */
};

struct chunk {
    struct chunk *older;
    size_t cap;
    size_t used;
    uint8_t bytes[] __attribute__((aligned(16)));
};

struct memtable {
    _Atomic uint32_t refs;
    struct chunk *chunk; /* of the next allocation */
    struct chunk *spare; /* follows when that is full; NULL if there is none */
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t count;
    uint64_t heights; /* state of the drawing of heights */
    uint64_t bucket_mask;
    int64_t accounted_bytes;
    size_t chunk_bytes;
    struct memtable_node *_Atomic *buckets;
    struct memtable_node *_Atomic head[HEIGHT_MAX];
};

/* Memory for look-ups all over it: large blocks in huge pages, if the system has them. */
static void *alloc_block(size_t len)
{
    if (len < HUGE_BYTES) {
        return malloc(len);
    }
    void *p = NULL;
    if (posix_memalign(&p, HUGE_BYTES, len) != 0) {
        return NULL;
    }
    (void)madvise(p, len, MADV_HUGEPAGE); /* a hint: without it look-ups are slower */
    return p;
}

int memtable_create(uint64_t expected_bytes, struct memtable **ret_mt)
{
    uint64_t buckets = BUCKETS_MIN;
    while (buckets < BUCKETS_MAX && buckets * BYTES_PER_BUCKET < expected_bytes) {
        buckets *= 2;
    }
    auto_free struct memtable *mt = calloc(1, sizeof *mt);
    if (mt == NULL) {
        return -ENOMEM;
    }
    mt->buckets = alloc_block(buckets * sizeof mt->buckets[0]);
    if (mt->buckets == NULL) {
        return -ENOMEM;
    }
    memset((void *)mt->buckets, 0, buckets * sizeof mt->buckets[0]);
    mt->chunk_bytes = expected_bytes >= 8 * HUGE_BYTES ? HUGE_BYTES : CHUNK_BYTES;
    mt->bucket_mask = buckets - 1;
    mt->refs = 1;
    mt->heights = hash_seed() | 1;
    mt->accounted_bytes = (int64_t)(sizeof *mt + buckets * sizeof mt->buckets[0]);
    rt_mem_add(RT_MEM_MEMTABLE, mt->accounted_bytes);
    *ret_mt = take(mt);
    return 0;
}

struct memtable *memtable_ref(struct memtable *mt)
{
    atomic_fetch_add_explicit(&mt->refs, 1, memory_order_relaxed);
    return mt;
}

static void free_chunks(struct chunk *c)
{
    while (c != NULL) {
        struct chunk *older = c->older;
        free(c);
        c = older;
    }
}

void memtable_unref(struct memtable *mt)
{
    if (mt == NULL || atomic_fetch_sub_explicit(&mt->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    rt_mem_add(RT_MEM_MEMTABLE, -mt->accounted_bytes);
    free_chunks(mt->chunk);
    free_chunks(mt->spare);
    free(mt->buckets);
    free(mt);
}

uint64_t memtable_bytes(const struct memtable *mt)
{
    return atomic_load_explicit(&mt->used_bytes, memory_order_relaxed);
}

uint64_t memtable_count(const struct memtable *mt)
{
    return atomic_load_explicit(&mt->count, memory_order_relaxed);
}

static size_t aligned(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static size_t node_bytes(uint32_t height, size_t key_len)
{
    return aligned(sizeof(struct memtable_node) + height * sizeof(void *) + key_len);
}

static size_t value_bytes(size_t len)
{
    return aligned(sizeof(struct mem_value) + len);
}

static size_t chunk_left(const struct chunk *c)
{
    return c == NULL ? 0 : c->cap - c->used;
}

int memtable_reserve(struct memtable *mt, const struct index_write *w, size_t count)
{
    size_t need = 0;
    for (size_t i = 0; i < count; i++) {
        need += node_bytes(HEIGHT_MAX, w[i].key_len) + value_bytes(w[i].value_len);
    }
    if (chunk_left(mt->chunk) >= need || chunk_left(mt->spare) >= need) {
        return 0;
    }
    size_t cap = MAX_OF(need, mt->chunk_bytes - sizeof(struct chunk));
    struct chunk *c = alloc_block(sizeof *c + cap);
    if (c == NULL) {
        return -ENOMEM;
    }
    *c = (struct chunk){.cap = cap};
    if (mt->spare != NULL) {
        /* Unused so far, and too small: it keeps company with the full ones. */
        mt->spare->older = mt->chunk;
        mt->chunk = mt->spare;
    }
    mt->spare = c;
    mt->accounted_bytes += (int64_t)(sizeof *c + cap);
    rt_mem_add(RT_MEM_MEMTABLE, (int64_t)(sizeof *c + cap));
    return 0;
}

static void *arena_alloc(struct memtable *mt, size_t len)
{
    if (chunk_left(mt->chunk) < len) {
        ASSERT(chunk_left(mt->spare) >= len);
        mt->spare->older = mt->chunk;
        mt->chunk = take(mt->spare);
    }
    void *p = mt->chunk->bytes + mt->chunk->used;
    mt->chunk->used += len;
    atomic_fetch_add_explicit(&mt->used_bytes, len, memory_order_relaxed);
    return p;
}

static const uint8_t *node_key(const struct memtable_node *n)
{
    return (const uint8_t *)&n->next[n->height];
}

static int compare_node(const struct memtable_node *n, const void *key, size_t key_len)
{
    return index_key_compare(node_key(n), n->key_len, key, key_len);
}

static struct memtable_node *node_find(const struct memtable *mt, uint64_t hash, const void *key,
                                       size_t key_len)
{
    struct memtable_node *n =
        atomic_load_explicit(&mt->buckets[hash & mt->bucket_mask], memory_order_acquire);
    while (n != NULL &&
           (n->hash != hash || n->key_len != key_len || memcmp(node_key(n), key, key_len) != 0)) {
        n = atomic_load_explicit(&n->chain, memory_order_acquire);
    }
    return n;
}

static struct mem_value *make_value(struct memtable *mt, const struct index_write *w)
{
    uint32_t len = w->op == INDEX_PUT ? w->value_len : 0;
    struct mem_value *v = arena_alloc(mt, value_bytes(len));
    v->len = len;
    v->deleted = w->op == INDEX_DELETE;
    if (len > 0) {
        memcpy(v->bytes, w->value, len);
    }
    return v;
}

/* A quarter of the nodes of each level reach the next. */
static uint32_t draw_height(struct memtable *mt)
{
    mt->heights ^= mt->heights << 13;
    mt->heights ^= mt->heights >> 7;
    mt->heights ^= mt->heights << 17;
    uint32_t zeros = (uint32_t)__builtin_ctzll(hash_u64(mt->heights) | 1ull << 40);
    return MIN_OF(1 + zeros / 2, HEIGHT_MAX);
}

/*
 * The last link before key on each level, as pointers to the link itself: slots[i] points at the
 * pointer that leads to the first node >= key on level i.
 */
static const struct memtable_node *find_slots(const struct memtable *mt, const void *key,
                                              size_t key_len,
                                              struct memtable_node *_Atomic *slots[HEIGHT_MAX])
{
    struct memtable_node *_Atomic *row = (struct memtable_node * _Atomic *)mt->head;
    struct memtable_node *at = NULL;
    for (unsigned level = HEIGHT_MAX; level-- > 0;) {
        at = atomic_load_explicit(&row[level], memory_order_acquire);
        while (at != NULL && compare_node(at, key, key_len) < 0) {
            row = at->next;
            at = atomic_load_explicit(&row[level], memory_order_acquire);
        }
        if (slots != NULL) {
            slots[level] = &row[level];
        }
    }
    return at;
}

static void link_node(struct memtable *mt, struct memtable_node *n)
{
    struct memtable_node *_Atomic *slots[HEIGHT_MAX];
    (void)find_slots(mt, node_key(n), n->key_len, slots);
    for (uint32_t i = 0; i < n->height; i++) {
        atomic_init(&n->next[i], atomic_load_explicit(slots[i], memory_order_relaxed));
        atomic_store_explicit(slots[i], n, memory_order_release);
    }
    struct memtable_node *_Atomic *bucket = &mt->buckets[n->hash & mt->bucket_mask];
    atomic_init(&n->chain, atomic_load_explicit(bucket, memory_order_relaxed));
    atomic_store_explicit(bucket, n, memory_order_release);
    atomic_fetch_add_explicit(&mt->count, 1, memory_order_relaxed);
}

void memtable_put(struct memtable *mt, const struct index_write *w)
{
    ASSERT(w->key_len > 0 && w->key_len <= INDEX_KEY_MAX && w->value_len <= INDEX_VALUE_MAX);
    uint64_t hash = hash_bytes(w->key, w->key_len);
    struct memtable_node *n = node_find(mt, hash, w->key, w->key_len);
    struct mem_value *v = make_value(mt, w);
    if (n != NULL) {
        atomic_store_explicit(&n->value, v, memory_order_release);
        return;
    }
    uint32_t height = draw_height(mt);
    n = arena_alloc(mt, node_bytes(height, w->key_len));
    n->hash = hash;
    n->key_len = w->key_len;
    n->height = height;
    atomic_init(&n->value, v);
    memcpy(&n->next[height], w->key, w->key_len);
    link_node(mt, n);
}

void memtable_hint(const struct memtable *mt, const struct index_write *w, bool node)
{
    uint64_t hash = hash_bytes(w->key, w->key_len);
    struct memtable_node *const _Atomic *bucket =
        (struct memtable_node *const _Atomic *)&mt->buckets[hash & mt->bucket_mask];
    if (!node) {
        __builtin_prefetch((const void *)bucket);
        return;
    }
    const char *n = (const char *)atomic_load_explicit(bucket, memory_order_relaxed);
    if (n != NULL) {
        __builtin_prefetch(n);
        __builtin_prefetch(n + 64);
    }
}

struct index_entry memtable_entry(const struct memtable_node *n)
{
    const struct mem_value *v = atomic_load_explicit(&n->value, memory_order_acquire);
    return (struct index_entry){node_key(n), v->bytes, n->key_len, v->len, v->deleted};
}

bool memtable_get(const struct memtable *mt, const void *key, size_t key_len,
                  struct index_entry *ret_entry)
{
    const struct memtable_node *n = node_find(mt, hash_bytes(key, key_len), key, key_len);
    if (n == NULL) {
        return false;
    }
    *ret_entry = memtable_entry(n);
    return true;
}

const struct memtable_node *memtable_seek(const struct memtable *mt, const void *key,
                                          size_t key_len)
{
    return find_slots(mt, key, key_len, NULL);
}

const struct memtable_node *memtable_next(const struct memtable_node *n)
{
    return atomic_load_explicit(&n->next[0], memory_order_acquire);
}
