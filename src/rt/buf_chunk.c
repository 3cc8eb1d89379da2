/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks of 2 MiB, each cut into blocks of one class.
 *
 *     system --new--> PARTIAL (in the list of its class) <--> FULL
 *       ^                |  all blocks free
 *       |                v
 *       '--surplus---- IDLE (memory only; becomes a chunk of any class) --> PARTIAL
 *
 * Memory that was touched once stays for the next one who needs it, in whatever sizes: a page fault
 * and the zeroing of the page cost more than what is done with the bytes. So that this stays within
 * bounds, at most rt_buf_idle_max() of chunks are idle.
 *
 * WARMING. The first touch of memory is dear, under a hypervisor many times dearer than the
 * zeroing: a server touches its pool at the start, step by step and on no core (rt_buf_warm()).
 *
 * HUGE PAGES. All but the first chunk of a class ask for them: with small pages, each block of a
 * large cache costs a walk through the page tables. A small process stays small.
 *
 * All that is mapped and in no buffer counts as RT_MEM_OTHER.
 */
#include "base/assert.h"
#include "base/list.h"
#include "rt/buf_priv.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define IDLE_BYTES_DEFAULT BUF_CHUNK_BYTES

struct buf_chunk {
    struct list link;
    uint8_t *memory;
    struct buf_block *free;
    uint32_t klass;
    uint32_t free_count;
    struct buf_block blocks[];
};

/* Lies in the memory itself. */
struct idle {
    struct idle *next;
};

static struct {
    pthread_mutex_t m;
    bool ready;
    struct list partial[BUF_CLASSES];
    uint32_t chunks[BUF_CLASSES];
    struct idle *idle;
    uint64_t idle_bytes;
    uint64_t idle_max;
    uint64_t mapped_bytes; /* of all chunks */
} shared = {.m = PTHREAD_MUTEX_INITIALIZER, .idle_max = IDLE_BYTES_DEFAULT};

static void *system_take(bool huge)
{
    size_t len = 2 * (size_t)BUF_CHUNK_BYTES;
    uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    size_t before = -(uintptr_t)p & (BUF_CHUNK_BYTES - 1);
    if (before > 0) {
        (void)munmap(p, before);
    }
    if (before < BUF_CHUNK_BYTES) {
        (void)munmap(p + before + BUF_CHUNK_BYTES, BUF_CHUNK_BYTES - before);
    }
    p += before;
    /* Hints: without huge pages all is well, but slower. */
    (void)madvise(p, BUF_CHUNK_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    rt_mem_add(RT_MEM_OTHER, BUF_CHUNK_BYTES);
    return p;
}

/* With m held. */
static void count_mapped(bool more)
{
    shared.mapped_bytes += more ? BUF_CHUNK_BYTES : -(uint64_t)BUF_CHUNK_BYTES;
}

static void system_give(struct idle *first)
{
    while (first) {
        struct idle *next = first->next;
        (void)munmap(first, BUF_CHUNK_BYTES);
        rt_mem_add(RT_MEM_OTHER, -(int64_t)BUF_CHUNK_BYTES);
        first = next;
    }
}

/* With m held. */
static void *idle_take(void)
{
    struct idle *i = shared.idle;
    if (i) {
        shared.idle = i->next;
        shared.idle_bytes -= BUF_CHUNK_BYTES;
    }
    return i;
}

/* With m held: keeps the memory, or adds it to the surplus. */
static void idle_give(void *memory, struct idle **surplus)
{
    struct idle *i = memory;
    bool room = shared.idle_bytes + BUF_CHUNK_BYTES <= shared.idle_max;
    struct idle **to = room ? &shared.idle : surplus;
    i->next = *to;
    *to = i;
    if (room) {
        shared.idle_bytes += BUF_CHUNK_BYTES;
    } else {
        count_mapped(false);
    }
}

static void *chunk_memory(uint32_t klass)
{
    (void)pthread_mutex_lock(&shared.m);
    bool huge = shared.chunks[klass] > 0;
    void *memory = idle_take();
    (void)pthread_mutex_unlock(&shared.m);
    if (memory) {
        return memory;
    }
    memory = system_take(huge);
    if (memory) {
        (void)pthread_mutex_lock(&shared.m);
        count_mapped(true);
        (void)pthread_mutex_unlock(&shared.m);
    }
    return memory;
}

static struct buf_chunk *chunk_make(uint32_t klass)
{
    uint32_t size = buf_class_bytes(klass);
    uint32_t count = BUF_CHUNK_BYTES / size;
    struct buf_chunk *c = aligned_alloc(64, sizeof *c + count * sizeof c->blocks[0]);
    if (!c) {
        return NULL;
    }
    c->memory = chunk_memory(klass);
    if (!c->memory) {
        free(c);
        return NULL;
    }
    c->klass = klass;
    c->free_count = count;
    c->free = NULL;
    for (uint32_t i = count; i-- > 0;) {
        struct buf_block *b = &c->blocks[i];
        b->buf.data = c->memory + (size_t)i * size;
        b->buf.cap = size;
        b->buf.klass = klass;
        atomic_init(&b->buf.refs, 0);
        atomic_init(&b->buf.owner, RT_MEM_OTHER);
        b->chunk = c;
        b->base = NULL;
        b->next = c->free;
        c->free = b;
    }
    return c;
}

/* With m held. */
static void make_ready(void)
{
    for (uint32_t k = 0; k < BUF_CLASSES && !shared.ready; k++) {
        list_init(&shared.partial[k]);
    }
    shared.ready = true;
}

/* With m held: moves up to `want` blocks of partial chunks to *ret_first. */
static void take_some(uint32_t klass, uint32_t want, struct buf_block **ret_first)
{
    struct list *partial = &shared.partial[klass];
    while (want > 0 && !list_is_empty(partial)) {
        struct buf_chunk *c = container_of(partial->next, struct buf_chunk, link);
        struct buf_block *b = c->free;
        c->free = b->next;
        if (--c->free_count == 0) {
            list_remove(&c->link);
        }
        b->next = *ret_first;
        *ret_first = b;
        want--;
    }
}

struct buf_block *buf_chunks_take(uint32_t klass, uint32_t want)
{
    struct buf_block *first = NULL;
    (void)pthread_mutex_lock(&shared.m);
    make_ready();
    take_some(klass, want, &first);
    (void)pthread_mutex_unlock(&shared.m);
    if (first) {
        return first;
    }
    struct buf_chunk *c = chunk_make(klass);
    if (!c) {
        return NULL;
    }
    (void)pthread_mutex_lock(&shared.m);
    shared.chunks[klass]++;
    list_push_front(&shared.partial[klass], &c->link);
    take_some(klass, want, &first);
    (void)pthread_mutex_unlock(&shared.m);
    return first;
}

/* With m held. True when the chunk has no block in use any more and has left its class. */
static bool block_return(struct buf_block *b)
{
    struct buf_chunk *c = b->chunk;
    b->next = c->free;
    c->free = b;
    if (c->free_count++ == 0) {
        list_push_front(&shared.partial[c->klass], &c->link);
    }
    if (c->free_count < BUF_CHUNK_BYTES / b->buf.cap) {
        return false;
    }
    list_remove(&c->link);
    shared.chunks[c->klass]--;
    return true;
}

void buf_chunks_give(struct buf_block *first)
{
    struct idle *surplus = NULL;
    struct buf_chunk *gone = NULL; /* linked by memory, which the idle list has now */
    (void)pthread_mutex_lock(&shared.m);
    while (first) {
        struct buf_block *b = first;
        first = b->next;
        struct buf_chunk *c = b->chunk;
        if (block_return(b)) {
            idle_give(c->memory, &surplus);
            c->memory = (uint8_t *)gone;
            gone = c;
        }
    }
    (void)pthread_mutex_unlock(&shared.m);
    system_give(surplus);
    while (gone) {
        struct buf_chunk *next = (struct buf_chunk *)(void *)gone->memory;
        free(gone);
        gone = next;
    }
}

void buf_chunks_trim(void)
{
    (void)pthread_mutex_lock(&shared.m);
    struct idle *all = shared.idle;
    shared.idle = NULL;
    shared.mapped_bytes -= shared.idle_bytes;
    shared.idle_bytes = 0;
    (void)pthread_mutex_unlock(&shared.m);
    system_give(all);
}

void rt_buf_idle_max(uint64_t bytes)
{
    (void)pthread_mutex_lock(&shared.m);
    shared.idle_max = bytes;
    (void)pthread_mutex_unlock(&shared.m);
}

bool buf_chunks_warm(uint64_t total_bytes)
{
    (void)pthread_mutex_lock(&shared.m);
    bool room = shared.mapped_bytes + BUF_CHUNK_BYTES <= total_bytes &&
                shared.idle_bytes + BUF_CHUNK_BYTES <= shared.idle_max;
    (void)pthread_mutex_unlock(&shared.m);
    uint8_t *memory = room ? system_take(true) : NULL;
    if (!memory) {
        return false;
    }
    for (size_t at = 0; at < BUF_CHUNK_BYTES; at += 4096) {
        *(volatile uint8_t *)(memory + at) = 0;
    }
    struct idle *surplus = NULL;
    (void)pthread_mutex_lock(&shared.m);
    count_mapped(true);
    idle_give(memory, &surplus);
    (void)pthread_mutex_unlock(&shared.m);
    bool kept = surplus == NULL;
    system_give(surplus);
    return kept;
}
