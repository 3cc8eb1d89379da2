/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/batch.h"
#include "base/assert.h"
#include "base/hash.h"
#include "rt/rt.h"

#define CHUNK_PAGES 32u
#define TABLE_MIN 64u

struct pair_key {
    const void *key;
    size_t len;
};

struct hole_key {
    uint64_t layer;
    uint64_t first;
};

int vol_key_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    size_t common = MIN_OF(a_len, b_len);
    int c = common ? memcmp(a, b, common) : 0;
    if (c != 0) {
        return c;
    }
    return a_len < b_len ? -1 : a_len > b_len;
}

static int pair_compare(const void *key, const struct tree_node *n)
{
    const struct pair_key *k = key;
    const struct vol_batch_pair *p = container_of(n, struct vol_batch_pair, node);
    return vol_key_compare(k->key, k->len, p->bytes, p->key_len);
}

static int hole_compare(const void *key, const struct tree_node *n)
{
    const struct hole_key *k = key;
    const struct vol_batch_hole *h = container_of(n, struct vol_batch_hole, node);
    if (k->layer != h->layer) {
        return k->layer < h->layer ? -1 : 1;
    }
    return k->first < h->first ? -1 : k->first > h->first;
}

int vol_batch_create(struct vol_batch **ret_batch)
{
    struct vol_batch *b = calloc(1, sizeof *b);
    if (!b) {
        return -ENOMEM;
    }
    list_init(&b->link);
    atomic_init(&b->refs, 1);
    atomic_init(&b->inside, VOL_BATCH_CLOSED);
    rt_event_init(&b->left);
    rt_event_init(&b->reserved);
    atomic_init(&b->space_holders, 2);
    rt_event_init(&b->applied);
    for (unsigned i = 0; i < VOL_BATCH_SHARDS; i++) {
        rt_mutex_init(&b->shards[i].m);
    }
    rt_mutex_init(&b->m);
    b->pairs = tree_make(pair_compare);
    b->holes = tree_make(hole_compare);
    *ret_batch = b;
    return 0;
}

struct vol_batch *vol_batch_ref(struct vol_batch *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

static bool has_buf(uint32_t kind)
{
    return kind == VOL_RUN_DATA || kind == VOL_RUN_STORED;
}

static void page_drop(struct vol_batch_page *p)
{
    for (unsigned i = 0; i < VOL_PAGE_BLOCKS; i++) {
        if (has_buf(p->kind[i])) {
            rt_buf_unref(p->slot[i].buf);
        }
        p->kind[i] = VOL_SLOT_ABSENT;
    }
}

static struct vol_batch_page *page_at(const struct vol_batch_shard *s, uint32_t index)
{
    return &s->chunks.at[index / CHUNK_PAGES][index % CHUNK_PAGES];
}

static void shard_free(struct vol_batch_shard *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        page_drop(page_at(s, i));
    }
    for (size_t i = 0; i < s->chunks.len; i++) {
        free(s->chunks.at[i]);
    }
    vec_free(&s->chunks);
    free(s->table);
    rt_mutex_destroy(&s->m);
}

static void batch_free(struct vol_batch *b)
{
    for (unsigned i = 0; i < VOL_BATCH_SHARDS; i++) {
        shard_free(&b->shards[i]);
    }
    tree_for_each(&b->pairs, struct vol_batch_pair, node, p) {
        tree_remove(&b->pairs, &p->node);
        free(p);
    }
    tree_for_each(&b->holes, struct vol_batch_hole, node, h) {
        tree_remove(&b->holes, &h->node);
        free(h);
    }
    vec_free(&b->reaps);
    free(b->frames);
    free(b->pages);
    bytes_writer_free(&b->records);
    rt_event_destroy(&b->left);
    rt_event_destroy(&b->reserved);
    rt_event_destroy(&b->applied);
    rt_mutex_destroy(&b->m);
    free(b);
}

void vol_batch_unref(struct vol_batch *b)
{
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        batch_free(b);
    }
}

void vol_batch_open(struct vol_batch *b)
{
    atomic_fetch_and(&b->inside, ~VOL_BATCH_CLOSED);
}

void vol_batch_close(struct vol_batch *b)
{
    if (atomic_fetch_or(&b->inside, VOL_BATCH_CLOSED) == 0) {
        rt_event_set(&b->left);
    }
}

/*
 * One who tried to enter while the batch was closed leaves like all others, and may have set the
 * event long ago: the count decides. After the reset each last one to leave sets it again.
 */
void vol_batch_wait_left(struct vol_batch *b)
{
    rt_shield();
    for (;;) {
        rt_event_reset(&b->left);
        if (atomic_load(&b->inside) == VOL_BATCH_CLOSED) {
            break;
        }
        int r = rt_event_wait(&b->left, RT_FOREVER);
        ASSERT(r == 0);
    }
    rt_unshield();
}

bool vol_batch_enter(struct vol_batch *b)
{
    uint32_t before = atomic_fetch_add(&b->inside, 1);
    if (likely(!(before & VOL_BATCH_CLOSED))) {
        return true;
    }
    vol_batch_leave(b);
    return false;
}

void vol_batch_leave(struct vol_batch *b)
{
    if (unlikely(atomic_fetch_sub(&b->inside, 1) == (VOL_BATCH_CLOSED | 1))) {
        rt_event_set(&b->left);
    }
}

/* Reads of an open batch lock, reads of a sealed one need not (B1). True when locked. */
static bool read_lock(const struct vol_batch *b, struct rt_mutex *m)
{
    if (atomic_load_explicit(&b->sealed, memory_order_acquire)) {
        return false;
    }
    rt_mutex_lock(m);
    return true;
}

static void read_unlock(bool locked, struct rt_mutex *m)
{
    if (locked) {
        rt_mutex_unlock(m);
    }
}

static struct vol_batch_page *shard_find(const struct vol_batch_shard *s, uint64_t hash,
                                         uint64_t layer, uint64_t page)
{
    if (s->count == 0) {
        return NULL;
    }
    uint32_t mask = s->table_size - 1;
    for (uint32_t at = (uint32_t)(hash >> 4) & mask;; at = (at + 1) & mask) {
        uint64_t entry = s->table[at];
        if (entry == 0) {
            return NULL;
        }
        if (entry >> 32 != hash >> 32) {
            continue;
        }
        struct vol_batch_page *p = page_at(s, (uint32_t)entry - 1);
        if (p->page == page && p->layer == layer) {
            return p;
        }
    }
}

static void table_add(uint64_t *table, uint32_t size, uint64_t hash, uint32_t index)
{
    uint32_t mask = size - 1;
    uint32_t at = (uint32_t)(hash >> 4) & mask;
    while (table[at] != 0) {
        at = (at + 1) & mask;
    }
    table[at] = (hash >> 32) << 32 | (index + 1);
}

static int shard_grow(struct vol_batch_shard *s)
{
    uint32_t size = s->table_size ? s->table_size * 2 : TABLE_MIN;
    uint64_t *table = calloc(size, sizeof *table);
    if (!table) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        const struct vol_batch_page *p = page_at(s, i);
        table_add(table, size, hash_pair(p->layer, p->page), i);
    }
    free(s->table);
    s->table = table;
    s->table_size = size;
    return 0;
}

static int shard_add(struct vol_batch_shard *s, uint64_t hash, uint64_t layer, uint64_t page,
                     struct vol_batch_page **ret_page)
{
    if (s->count * 4 >= s->table_size * 3) {
        int r = shard_grow(s);
        if (r < 0) {
            return r;
        }
    }
    if (s->count == s->chunks.len * CHUNK_PAGES) {
        struct vol_batch_page *chunk = malloc(CHUNK_PAGES * sizeof *chunk);
        int r = chunk ? vec_push(&s->chunks, chunk) : -ENOMEM;
        if (r < 0) {
            free(chunk);
            return r;
        }
    }
    struct vol_batch_page *p = page_at(s, s->count);
    p->layer = layer;
    p->page = page;
    memset(p->kind, VOL_SLOT_ABSENT, sizeof p->kind);
    table_add(s->table, s->table_size, hash, s->count++);
    *ret_page = p;
    return 0;
}

static struct rt_buf *page_set(struct vol_batch_page *p, unsigned block,
                               const struct vol_slot *slot)
{
    struct rt_buf *old = has_buf(p->kind[block]) ? p->slot[block].buf : NULL;
    p->slot[block].buf = slot->buf;
    p->slot[block].data = slot->data;
    p->kind[block] = (uint8_t)slot->kind;
    return old;
}

/* What overwriting the blocks gives back. Some of the blocks of a larger buffer free nothing: it
 * lives as long as any of them. */
static uint64_t page_refund(const struct vol_batch_page *p, unsigned first, unsigned count)
{
    uint64_t refund = 0;
    for (unsigned i = first, end; i < first + count; i = end) {
        end = i + 1;
        if (p->kind[i] != VOL_RUN_DATA) {
            continue;
        }
        const struct rt_buf *buf = p->slot[i].buf;
        while (end < first + count && p->kind[end] == VOL_RUN_DATA && p->slot[end].buf == buf) {
            end++;
        }
        uint64_t bytes = (uint64_t)(end - i) * VOL_BLOCK_BYTES;
        refund += buf->cap == bytes || buf->cap == VOL_BLOCK_BYTES ? bytes : 0;
    }
    return refund;
}

int vol_batch_reserve(struct vol_batch *b, uint64_t layer, uint64_t page)
{
    uint64_t hash = hash_pair(layer, page);
    struct vol_batch_shard *s = &b->shards[hash % VOL_BATCH_SHARDS];
    struct vol_batch_page *p;
    rt_mutex_lock(&s->m);
    int r = shard_find(s, hash, layer, page) ? 0 : shard_add(s, hash, layer, page, &p);
    rt_mutex_unlock(&s->m);
    return r;
}

int vol_batch_put(struct vol_batch *b, const struct vol_blocks *blocks, uint64_t *ret_refund)
{
    uint64_t hash = hash_pair(blocks->layer, blocks->page);
    struct vol_batch_shard *s = &b->shards[hash % VOL_BATCH_SHARDS];
    struct rt_buf *old[VOL_PAGE_BLOCKS];
    rt_mutex_lock(&s->m);
    struct vol_batch_page *p = shard_find(s, hash, blocks->layer, blocks->page);
    if (!p) {
        int r = shard_add(s, hash, blocks->layer, blocks->page, &p);
        if (r < 0) {
            rt_mutex_unlock(&s->m);
            return r;
        }
    }
    uint64_t refund = page_refund(p, blocks->first, blocks->count);
    for (unsigned i = 0; i < blocks->count; i++) {
        old[i] = page_set(p, blocks->first + i, &blocks->slots[i]);
    }
    rt_mutex_unlock(&s->m);
    for (unsigned i = 0; i < blocks->count; i++) {
        rt_buf_unref(old[i]);
    }
    *ret_refund = refund;
    return 0;
}

static const struct vol_batch_hole *hole_at(struct vol_batch *b, uint64_t layer, uint64_t page)
{
    struct hole_key key = {layer, page};
    const struct vol_batch_hole *h =
        tree_entry(tree_at_or_before(&b->holes, &key), struct vol_batch_hole, node);
    return h && h->layer == layer && page < h->end ? h : NULL;
}

static unsigned get_from_hole(struct vol_batch *b, uint64_t layer, uint64_t page, unsigned mask,
                              struct vol_slot slots[VOL_PAGE_BLOCKS])
{
    bool locked = read_lock(b, &b->m);
    const struct vol_batch_hole *h = hole_at(b, layer, page);
    uint32_t kind = h && h->flags & VOL_HOLE_MASKS ? VOL_RUN_HOLE : VOL_RUN_NONE;
    read_unlock(locked, &b->m);
    if (!h) {
        return 0;
    }
    for (unsigned i = 0; i < VOL_PAGE_BLOCKS; i++) {
        if (mask & 1u << i) {
            slots[i] = (struct vol_slot){.kind = kind};
        }
    }
    return mask;
}

unsigned vol_batch_get(struct vol_batch *b, uint64_t layer, uint64_t page, unsigned mask,
                       struct vol_slot slots[VOL_PAGE_BLOCKS])
{
    uint64_t hash = hash_pair(layer, page);
    struct vol_batch_shard *s = &b->shards[hash % VOL_BATCH_SHARDS];
    unsigned found = 0;
    bool locked = read_lock(b, &s->m);
    struct vol_batch_page *p = shard_find(s, hash, layer, page);
    for (unsigned left = p ? mask : 0; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        if (p->kind[i] == VOL_SLOT_ABSENT) {
            continue;
        }
        slots[i] = (struct vol_slot){.kind = p->kind[i]};
        if (has_buf(p->kind[i])) {
            slots[i].buf = rt_buf_ref(p->slot[i].buf);
            slots[i].data = p->slot[i].data;
        }
        found |= 1u << i;
    }
    read_unlock(locked, &s->m);
    mask &= ~found;
    if (mask && atomic_load_explicit(&b->hole_count, memory_order_acquire) > 0) {
        found |= get_from_hole(b, layer, page, mask, slots);
    }
    return found;
}

bool vol_batch_has_page(struct vol_batch *b, uint64_t layer, uint64_t page)
{
    uint64_t hash = hash_pair(layer, page);
    struct vol_batch_shard *s = &b->shards[hash % VOL_BATCH_SHARDS];
    bool locked = read_lock(b, &s->m);
    bool has = shard_find(s, hash, layer, page) != NULL;
    read_unlock(locked, &s->m);
    return has;
}

static uint64_t shard_next_page(struct vol_batch_shard *s, uint64_t layer, uint64_t from,
                                uint64_t upto)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct vol_batch_page *p = page_at(s, i);
        if (p->layer == layer && p->page >= from && p->page < upto) {
            upto = p->page;
        }
    }
    return upto;
}

uint64_t vol_batch_next_page(struct vol_batch *b, uint64_t layer, uint64_t from, uint64_t upto)
{
    for (unsigned i = 0; i < VOL_BATCH_SHARDS; i++) {
        struct vol_batch_shard *s = &b->shards[i];
        bool locked = read_lock(b, &s->m);
        upto = shard_next_page(s, layer, from, upto);
        read_unlock(locked, &s->m);
    }
    return upto;
}

/* B3. The pages stay in the table, empty; their buffers are dropped after the lock. */
static void shard_drop_range(struct vol_batch_shard *s, const struct vol_batch_hole *hole)
{
    rt_mutex_lock(&s->m);
    for (uint32_t i = 0; i < s->count; i++) {
        struct vol_batch_page *p = page_at(s, i);
        if (p->layer == hole->layer && p->page >= hole->first && p->page < hole->end) {
            page_drop(p);
        }
    }
    rt_mutex_unlock(&s->m);
}

/* Swallows the range holes of the same kind that touch [first, end): the number of those. */
static int holes_swallow(struct vol_batch *b, struct vol_batch_hole *hole)
{
    int count = 0;
    for (;;) {
        struct hole_key key = {hole->layer, hole->end};
        struct vol_batch_hole *h =
            tree_entry(tree_at_or_before(&b->holes, &key), struct vol_batch_hole, node);
        if (!h || h->layer != hole->layer || h->end < hole->first) {
            return count;
        }
        /* What is below a layer does not change, and so the flags are the same; but for the hole
         * over all of a layer that is deleted, which covers them all. */
        if (h->first < hole->first || h->end > hole->end) {
            hole->flags |= h->flags;
        }
        hole->first = MIN_OF(hole->first, h->first);
        hole->end = MAX_OF(hole->end, h->end);
        tree_remove(&b->holes, &h->node);
        free(h);
        count++;
    }
}

int vol_batch_add_hole(struct vol_batch *b, const struct vol_batch_hole *hole, int *ret_added)
{
    struct vol_batch_hole *h = malloc(sizeof *h);
    if (!h) {
        return -ENOMEM;
    }
    *h = (struct vol_batch_hole){
        .layer = hole->layer, .first = hole->first, .end = hole->end, .flags = hole->flags};
    for (unsigned i = 0; i < VOL_BATCH_SHARDS; i++) {
        shard_drop_range(&b->shards[i], hole);
    }
    rt_mutex_lock(&b->m);
    int gone = holes_swallow(b, h);
    struct hole_key key = {h->layer, h->first};
    bool added = tree_insert(&b->holes, &key, &h->node);
    ASSERT(added);
    atomic_store_explicit(&b->hole_count, (uint32_t)b->holes.count, memory_order_release);
    rt_mutex_unlock(&b->m);
    *ret_added = 1 - gone;
    return 0;
}

int vol_batch_add_reap(struct vol_batch *b, const struct vol_batch_reap *reap)
{
    rt_mutex_lock(&b->m);
    int r = vec_push(&b->reaps, *reap);
    rt_mutex_unlock(&b->m);
    return r;
}

int vol_batch_pair_create(enum index_op op, const void *key, size_t key_len, const void *value,
                          size_t value_len, struct vol_batch_pair **ret_pair)
{
    if (key_len == 0 || key_len > INDEX_KEY_MAX || value_len > INDEX_VALUE_MAX) {
        return -EINVAL;
    }
    struct vol_batch_pair *p = malloc(sizeof *p + key_len + value_len);
    if (!p) {
        return -ENOMEM;
    }
    *p = (struct vol_batch_pair){
        .op = op, .key_len = (uint32_t)key_len, .value_len = (uint32_t)value_len};
    memcpy(p->bytes, key, key_len);
    if (value_len) {
        memcpy(p->bytes + key_len, value, value_len);
    }
    *ret_pair = p;
    return 0;
}

void vol_batch_add_pair(struct vol_batch *b, struct vol_batch_pair *pair)
{
    struct pair_key key = {pair->bytes, pair->key_len};
    rt_mutex_lock(&b->m);
    struct vol_batch_pair *old =
        tree_entry(tree_find(&b->pairs, &key), struct vol_batch_pair, node);
    if (old) {
        tree_remove(&b->pairs, &old->node);
        free(old);
    }
    bool added = tree_insert(&b->pairs, &key, &pair->node);
    ASSERT(added);
    atomic_store_explicit(&b->pair_count, (uint32_t)b->pairs.count, memory_order_release);
    rt_mutex_unlock(&b->m);
}

int vol_batch_find_pair(struct vol_batch *b, const void *key, size_t key_len,
                        struct bytes_writer *ret_value)
{
    if (atomic_load_explicit(&b->pair_count, memory_order_acquire) == 0) {
        return 0;
    }
    struct pair_key k = {key, key_len};
    int r = 0;
    bool locked = read_lock(b, &b->m);
    const struct vol_batch_pair *p =
        tree_entry(tree_find(&b->pairs, &k), struct vol_batch_pair, node);
    if (p) {
        r = p->op == INDEX_PUT ? 1 : -ENOENT;
    }
    if (r == 1) {
        bytes_put(ret_value, vol_batch_pair_value(p), p->value_len);
    }
    read_unlock(locked, &b->m);
    return r;
}

static int page_order(const void *a, const void *b)
{
    const struct vol_batch_page *x = *(struct vol_batch_page *const *)a;
    const struct vol_batch_page *y = *(struct vol_batch_page *const *)b;
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return x->page < y->page ? -1 : x->page > y->page;
}

int vol_batch_sort(struct vol_batch *b)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < VOL_BATCH_SHARDS; i++) {
        count += b->shards[i].count;
    }
    if (b->pages || count == 0) {
        return 0;
    }
    b->pages = malloc(count * sizeof(struct vol_batch_page *));
    if (!b->pages) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < VOL_BATCH_SHARDS; i++) {
        for (uint32_t k = 0; k < b->shards[i].count; k++) {
            b->pages[b->page_count++] = page_at(&b->shards[i], k);
        }
    }
    qsort(b->pages, b->page_count, sizeof(struct vol_batch_page *), page_order);
    return 0;
}
