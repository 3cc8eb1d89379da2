/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks: where the buffers of the size classes lie. The face of buf_chunk.c for buf.c.
 */
#pragma once
#include "rt/buf.h"
#include <stdbool.h>

#define BUF_CLASSES 13u
#define BUF_CHUNK_BYTES (2u << 20) /* the largest class, and a huge page */

struct buf_chunk;

/* A buffer and where it belongs. Each has a line of its own: its count is touched by many. */
struct buf_block {
    struct rt_buf buf;
    struct buf_block *next;  /* while free */
    struct buf_chunk *chunk; /* NULL: allocated for itself */
    void *base;              /* what was allocated then */
} __attribute__((aligned(64)));

/* 4, 8, 12, 16, 20, 24 KiB: frames of so many blocks; then 32 KiB to 2 MiB, doubling. */
#define BUF_CLASS_STEP_BYTES 4096u
#define BUF_CLASS_STEPS 6u

static inline uint32_t buf_class_bytes(uint32_t klass)
{
    return klass < BUF_CLASS_STEPS ? (klass + 1) * BUF_CLASS_STEP_BYTES
                                   : 32768u << (klass - BUF_CLASS_STEPS);
}

/* Up to `want` free blocks of a class, linked by next, at least one; NULL without memory. */
struct buf_block *buf_chunks_take(uint32_t klass, uint32_t want);
/* Gives blocks back that are linked by next. */
void buf_chunks_give(struct buf_block *first);
/* Maps and touches one more chunk, idle: false when there are total_bytes, or none can be had. */
bool buf_chunks_warm(uint64_t total_bytes);
/* Gives idle chunks back to the system. */
void buf_chunks_trim(void);

/* The buffer's sums, of whom nothing is known before the first call of rt_piece_crc32c(). */
static inline void buf_sums_init(struct rt_buf *b)
{
    atomic_store_explicit(&b->sum, 0, memory_order_relaxed);
    atomic_store_explicit(&b->sums, NULL, memory_order_relaxed);
}
void buf_sums_free(struct rt_buf *b);
static inline void buf_sums_drop(struct rt_buf *b)
{
    if (unlikely(atomic_load_explicit(&b->sums, memory_order_relaxed))) {
        buf_sums_free(b);
    }
}
