/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counted buffers and their free lists.
 *
 * CLASSES. Multiples of 4 KiB up to 24 KiB, powers of two from 32 KiB to 2 MiB, cut from chunks
 * (buf_chunk.c). A size that would waste more than a quarter of its class, or is larger, is
 * allocated for itself: header and data are one piece of memory, malloc below 64 KiB, a mapping of
 * its own above, so that what is given back really goes back.
 *
 * LISTS. Each thread keeps up to CACHE_BYTES of each class (at least one buffer); half a list at a
 * time goes to or comes from the chunks, which have a mutex, so that buffers made on one thread and
 * freed on another go round cheaply. What lists and chunks hold is counted as RT_MEM_OTHER.
 * rt_buf_trim() empties the caller's lists and lets idle chunks go; other threads notice the new
 * generation at their next call.
 *
 * Under AddressSanitizer there are no lists: a buffer used after its end is then found.
 */
#include "rt/buf.h"
#include "base/assert.h"
#include "rt/buf_priv.h"
#include "rt/ctx.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HEADER_SIZE ((uint32_t)sizeof(struct buf_block))
#define CLASS_NONE BUF_CLASSES
#define CACHE_BYTES (512u << 10)
#define MAP_MIN (64u << 10) /* from here on what is allocated for itself is a mapping */
#define LISTS_USED (!RT_ASAN)

_Alignas(4096) const uint8_t rt_zeros[65536] = {0};

struct free_list {
    struct buf_block *first;
    uint32_t count;
};

static struct {
    _Atomic uint32_t generation;
    pthread_once_t once;
    pthread_key_t key;
} shared = {.once = PTHREAD_ONCE_INIT};

struct cache {
    struct free_list lists[BUF_CLASSES];
    uint32_t generation;
    bool registered;
};

static _Thread_local struct cache cache_here;

/* The class for len, or CLASS_NONE. */
static uint32_t class_of(size_t len)
{
    if (len > BUF_CHUNK_BYTES) {
        return CLASS_NONE;
    }
    uint32_t k = (uint32_t)((len - 1) / BUF_CLASS_STEP_BYTES);
    if (k >= BUF_CLASS_STEPS) {
        uint32_t up = 64u - (uint32_t)__builtin_clzll(len - 1); /* log2, rounded up */
        k = BUF_CLASS_STEPS + MAX_OF(up, 15u) - 15u;
    }
    size_t size = buf_class_bytes(k);
    return len > size - size / 4 ? k : CLASS_NONE;
}

static void push(struct free_list *l, struct buf_block *b)
{
    b->next = l->first;
    l->first = b;
    l->count++;
}

static struct buf_block *pop(struct free_list *l)
{
    struct buf_block *b = l->first;
    if (b) {
        l->first = b->next;
        l->count--;
    }
    return b;
}

/* A buffer for itself. */
static struct buf_block *block_new(size_t cap)
{
    size_t size = HEADER_SIZE + cap;
    uint8_t *base;
    uint8_t *at;
    if (cap >= MAP_MIN) {
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) {
            return NULL;
        }
        at = base;
    } else {
        base = malloc(size + 48);
        if (!base) {
            return NULL;
        }
        at = base + (-(uintptr_t)base & 63);
    }
    struct buf_block *b = (struct buf_block *)(void *)at;
    b->base = base;
    b->chunk = NULL;
    b->buf.data = at + HEADER_SIZE;
    b->buf.cap = (uint32_t)cap;
    b->buf.klass = CLASS_NONE;
    return b;
}

static void block_delete(struct buf_block *b)
{
    if (b->buf.cap >= MAP_MIN) {
        (void)munmap(b->base, HEADER_SIZE + (size_t)b->buf.cap);
    } else {
        free(b->base);
    }
}

static void cache_empty(void *arg)
{
    struct cache *c = arg;
    for (uint32_t k = 0; k < BUF_CLASSES; k++) {
        buf_chunks_give(c->lists[k].first);
        c->lists[k] = (struct free_list){0};
    }
}

static void make_key(void)
{
    int r = pthread_key_create(&shared.key, cache_empty);
    ASSERT(r == 0);
}

static struct cache *cache_get(void)
{
    struct cache *c = &cache_here;
    uint32_t generation = atomic_load_explicit(&shared.generation, memory_order_relaxed);
    if (unlikely(!c->registered)) {
        (void)pthread_once(&shared.once, make_key);
        (void)pthread_setspecific(shared.key, c);
        c->registered = true;
        c->generation = generation;
    }
    if (unlikely(c->generation != generation)) {
        c->generation = generation;
        cache_empty(c);
    }
    return c;
}

/* How many buffers of the class a list holds. */
static uint32_t list_max(uint32_t klass)
{
    return MAX_OF(CACHE_BYTES / buf_class_bytes(klass), 1u);
}

static void cache_fill(struct free_list *l, uint32_t klass)
{
    l->first = buf_chunks_take(klass, (list_max(klass) + 1) / 2);
    for (const struct buf_block *b = l->first; b; b = b->next) {
        l->count++;
    }
}

/* Gives half of the list back: those that have lain longest are the colder half, but to find them
 * costs a walk; the warm ones go. */
static void cache_spill(struct free_list *l)
{
    struct free_list rest = {0};
    uint32_t count = (l->count + 1) / 2;
    while (count-- > 0) {
        push(&rest, pop(l));
    }
    buf_chunks_give(rest.first);
}

static struct buf_block *block_take(uint32_t klass)
{
    struct free_list *l = &cache_get()->lists[klass];
    if (!l->first) {
        cache_fill(l, klass);
    }
    struct buf_block *b = pop(l);
    if (b) {
        rt_mem_add(RT_MEM_OTHER, -(int64_t)b->buf.cap);
    }
    return b;
}

static void block_give(struct buf_block *b)
{
    if (!b->chunk) {
        block_delete(b);
        return;
    }
    uint32_t klass = b->buf.klass;
    struct free_list *l = &cache_get()->lists[klass];
    rt_mem_add(RT_MEM_OTHER, b->buf.cap);
    push(l, b);
    if (l->count > list_max(klass)) {
        cache_spill(l);
    }
}

int rt_buf_alloc(size_t len, enum rt_mem owner, struct rt_buf **ret_buf)
{
    ASSERT(len > 0 && len <= 1u << 30);
    uint32_t klass = class_of(len);
    bool classed = klass != CLASS_NONE;
    struct buf_block *b = classed && LISTS_USED ? block_take(klass)
                                                : block_new(classed ? buf_class_bytes(klass) : len);
    if (!b) {
        return -ENOMEM;
    }
    atomic_store_explicit(&b->buf.refs, 1, memory_order_relaxed);
    atomic_store_explicit(&b->buf.owner, owner, memory_order_relaxed);
    buf_sums_init(&b->buf);
    rt_mem_add(owner, b->buf.cap);
    *ret_buf = &b->buf;
    return 0;
}

struct rt_buf *rt_buf_ref(struct rt_buf *b)
{
    uint32_t refs = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    ASSERT(refs > 0 && refs < UINT32_MAX / 2);
    return b;
}

void rt_buf_unref(struct rt_buf *b)
{
    if (!b) {
        return;
    }
    /* The only holder need not pay for an atomic decrement. */
    if (atomic_load_explicit(&b->refs, memory_order_acquire) != 1) {
        uint32_t refs = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
        ASSERT(refs > 0);
        if (refs != 1) {
            return;
        }
    }
    atomic_store_explicit(&b->refs, 0, memory_order_relaxed);
    buf_sums_drop(b);
    enum rt_mem owner = (enum rt_mem)atomic_load_explicit(&b->owner, memory_order_relaxed);
    rt_mem_add(owner, -(int64_t)b->cap);
    block_give(container_of(b, struct buf_block, buf));
}

void rt_buf_reown(struct rt_buf *b, enum rt_mem owner)
{
    if (atomic_load_explicit(&b->owner, memory_order_relaxed) == (uint32_t)owner) {
        return;
    }
    uint32_t old = atomic_exchange_explicit(&b->owner, owner, memory_order_relaxed);
    rt_mem_add((enum rt_mem)old, -(int64_t)b->cap);
    rt_mem_add(owner, b->cap);
}

void rt_buf_trim(void)
{
    atomic_fetch_add(&shared.generation, 1);
    (void)cache_get();
    buf_chunks_trim();
    (void)malloc_trim(0);
}

bool rt_buf_warm(uint64_t total_bytes)
{
    return LISTS_USED && buf_chunks_warm(total_bytes);
}
