/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counted buffers and their free lists.
 *
 * CLASSES. Powers of two from 4 KiB to 2 MiB. A size that would waste more than a quarter of its
 * class, or is larger, is allocated exactly. Header and data are one piece of memory: malloc below
 * 64 KiB, a mapping of its own above, so that what is given back really goes back.
 *
 * LISTS. Each thread keeps up to CACHE_BYTES of each class (at least one buffer); half a list at a
 * time goes to or comes from a shared list under a mutex, which holds up to SHARED_BYTES of each
 * class, so that buffers made on one thread and freed on another go round cheaply. What all lists
 * hold is counted as RT_MEM_OTHER. rt_buf_trim() empties the shared lists and the caller's; other
 * threads notice the new generation at their next call.
 *
 * Under AddressSanitizer there are no lists: a buffer used after its end is then found.
 */
#include "rt/buf.h"
#include "base/assert.h"
#include "rt/ctx.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HEADER_SIZE 64u
#define CLASS_SHIFT_MIN 12u
#define CLASSES 10u
#define CLASS_NONE CLASSES
#define CACHE_BYTES (512u << 10)
#define SHARED_BYTES (4u << 20)
#define MAP_MIN (64u << 10) /* from here on a buffer is a mapping */
#define LISTS_USED (!RT_ASAN)

_Static_assert(sizeof(struct rt_buf) + sizeof(void *) <= HEADER_SIZE, "the header has room");

_Alignas(4096) const uint8_t rt_zeros[65536] = {0};

/* What stands in front of the data. */
struct block {
    struct rt_buf buf;
    void *base; /* what was allocated; while free: the next free block */
};

struct free_list {
    struct block *first;
    uint32_t count;
};

struct free_node {
    struct block *next;
};

static struct {
    pthread_mutex_t m;
    struct free_list lists[CLASSES];
    _Atomic uint32_t generation;
    pthread_once_t once;
    pthread_key_t key;
} shared = {.m = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

struct cache {
    struct free_list lists[CLASSES];
    uint32_t generation;
    bool registered;
};

static _Thread_local struct cache cache_here;

static uint32_t class_size(uint32_t klass)
{
    return 1u << (CLASS_SHIFT_MIN + klass);
}

/* The class for len, or CLASS_NONE. */
static uint32_t class_of(size_t len)
{
    for (uint32_t k = 0; k < CLASSES; k++) {
        size_t size = class_size(k);
        if (len <= size) {
            return len > size - size / 4 ? k : CLASS_NONE;
        }
    }
    return CLASS_NONE;
}

/* The link of a free block lies in its data. */
static struct free_node *node_of(struct block *b)
{
    return (struct free_node *)(void *)b->buf.data;
}

static void push(struct free_list *l, struct block *b)
{
    node_of(b)->next = l->first;
    l->first = b;
    l->count++;
}

static struct block *pop(struct free_list *l)
{
    struct block *b = l->first;
    if (b) {
        l->first = node_of(b)->next;
        l->count--;
    }
    return b;
}

static struct block *block_new(size_t cap, uint32_t klass)
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
    struct block *b = (struct block *)(void *)at;
    b->base = base;
    b->buf.data = at + HEADER_SIZE;
    b->buf.cap = (uint32_t)cap;
    b->buf.klass = klass;
    return b;
}

static void block_delete(struct block *b)
{
    if (b->buf.cap >= MAP_MIN) {
        (void)munmap(b->base, HEADER_SIZE + (size_t)b->buf.cap);
    } else {
        free(b->base);
    }
}

static void list_delete(struct free_list *l, uint32_t klass)
{
    struct block *b;
    rt_mem_add(RT_MEM_OTHER, -(int64_t)l->count * class_size(klass));
    while ((b = pop(l))) {
        block_delete(b);
    }
}

static void cache_empty(void *arg)
{
    struct cache *c = arg;
    for (uint32_t k = 0; k < CLASSES; k++) {
        list_delete(&c->lists[k], k);
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

/* How many buffers of the class a list of so many bytes holds. */
static uint32_t list_max(uint32_t klass, uint32_t bytes)
{
    return MAX_OF(bytes / class_size(klass), 1u);
}

static void cache_fill(struct free_list *l, uint32_t klass)
{
    uint32_t want = (list_max(klass, CACHE_BYTES) + 1) / 2;
    struct block *b;
    (void)pthread_mutex_lock(&shared.m);
    while (want-- > 0 && (b = pop(&shared.lists[klass]))) {
        push(l, b);
    }
    (void)pthread_mutex_unlock(&shared.m);
}

/* Moves half of the list to the shared one, and what has no room there to the system. */
static void cache_spill(struct free_list *l, uint32_t klass)
{
    struct free_list rest = {0};
    uint32_t count = (l->count + 1) / 2;
    (void)pthread_mutex_lock(&shared.m);
    while (count-- > 0) {
        struct block *b = pop(l);
        bool room = shared.lists[klass].count < list_max(klass, SHARED_BYTES);
        push(room ? &shared.lists[klass] : &rest, b);
    }
    (void)pthread_mutex_unlock(&shared.m);
    list_delete(&rest, klass);
}

static struct block *block_take(uint32_t klass)
{
    if (!LISTS_USED || klass == CLASS_NONE) {
        return NULL;
    }
    struct free_list *l = &cache_get()->lists[klass];
    if (!l->first) {
        cache_fill(l, klass);
    }
    struct block *b = pop(l);
    if (b) {
        rt_mem_add(RT_MEM_OTHER, -(int64_t)b->buf.cap);
    }
    return b;
}

static void block_give(struct block *b)
{
    uint32_t klass = b->buf.klass;
    if (!LISTS_USED || klass == CLASS_NONE) {
        block_delete(b);
        return;
    }
    struct free_list *l = &cache_get()->lists[klass];
    rt_mem_add(RT_MEM_OTHER, b->buf.cap);
    push(l, b);
    if (l->count > list_max(klass, CACHE_BYTES)) {
        cache_spill(l, klass);
    }
}

int rt_buf_alloc(size_t len, enum rt_mem owner, struct rt_buf **ret_buf)
{
    ASSERT(len > 0 && len <= 1u << 30);
    uint32_t klass = class_of(len);
    struct block *b = block_take(klass);
    if (!b) {
        b = block_new(klass == CLASS_NONE ? len : class_size(klass), klass);
        if (!b) {
            return -ENOMEM;
        }
    }
    atomic_store_explicit(&b->buf.refs, 1, memory_order_relaxed);
    atomic_store_explicit(&b->buf.owner, owner, memory_order_relaxed);
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
    enum rt_mem owner = (enum rt_mem)atomic_load_explicit(&b->owner, memory_order_relaxed);
    rt_mem_add(owner, -(int64_t)b->cap);
    block_give(container_of(b, struct block, buf));
}

void rt_buf_reown(struct rt_buf *b, enum rt_mem owner)
{
    uint32_t old = atomic_exchange_explicit(&b->owner, owner, memory_order_relaxed);
    rt_mem_add((enum rt_mem)old, -(int64_t)b->cap);
    rt_mem_add(owner, b->cap);
}

void rt_buf_trim(void)
{
    struct free_list taken[CLASSES];
    atomic_fetch_add(&shared.generation, 1);
    (void)pthread_mutex_lock(&shared.m);
    for (uint32_t k = 0; k < CLASSES; k++) {
        taken[k] = shared.lists[k];
        shared.lists[k] = (struct free_list){0};
    }
    (void)pthread_mutex_unlock(&shared.m);
    for (uint32_t k = 0; k < CLASSES; k++) {
        list_delete(&taken[k], k);
    }
    (void)cache_get();
    (void)malloc_trim(0);
}
