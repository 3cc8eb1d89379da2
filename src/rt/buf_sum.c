/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the blocks of a buffer sum up to (CRC32C), once somebody has asked.
 *
 * Blocks are found by where they begin in the buffer: those that begin in the same 4 KiB share a
 * cell, which says for which of them it speaks. A cell is 0, or the CRC with the place in its 4 KiB
 * plus one above it. The cell of a buffer of one block is in its header; the cells of others are
 * allocated when the first is wanted; when that fails, the bytes are read each time.
 *
 * S1. Bytes that are asked about do not change until the buffer is freed (buf.h), so two threads
 * that fill the same cell write what is right, and either is.
 * S2. The cells go with the buffer's last reference, so those of its next user are empty.
 */
#include "base/attr.h"
#include "base/crc32c.h"
#include "rt/buf_priv.h"
#include <stdlib.h>

#define BLOCK CRC32C_BLOCK_BYTES
#define PLACE_SHIFT 32

static size_t cell_count(const struct rt_buf *b)
{
    return b->cap / BLOCK;
}

static int64_t cells_bytes(const struct rt_buf *b)
{
    return (int64_t)(cell_count(b) * sizeof(uint64_t));
}

void buf_sums_free(struct rt_buf *b)
{
    free(atomic_load_explicit(&b->sums, memory_order_acquire));
    rt_mem_add(RT_MEM_OTHER, -cells_bytes(b));
}

static _Atomic uint64_t *cells_of(struct rt_buf *b)
{
    if (cell_count(b) <= 1) {
        return &b->sum;
    }
    _Atomic uint64_t *cells = atomic_load_explicit(&b->sums, memory_order_acquire);
    if (likely(cells)) {
        return cells;
    }
    _Atomic uint64_t *fresh = calloc(cell_count(b), sizeof *fresh);
    if (!fresh) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&b->sums, &cells, fresh)) {
        free(fresh);
        return cells;
    }
    rt_mem_add(RT_MEM_OTHER, cells_bytes(b));
    return fresh;
}

static uint32_t block_sum(_Atomic uint64_t *cells, size_t at, const uint8_t *block)
{
    _Atomic uint64_t *cell = &cells[at / BLOCK];
    uint64_t place = at % BLOCK + 1;
    uint64_t known = atomic_load_explicit(cell, memory_order_relaxed);
    if (known >> PLACE_SHIFT == place) {
        return (uint32_t)known;
    }
    uint32_t crc = crc32c(0, block, BLOCK);
    atomic_store_explicit(cell, place << PLACE_SHIFT | crc, memory_order_relaxed);
    return crc;
}

/* Of a piece that lies in its buffer, NULL otherwise. */
static _Atomic uint64_t *cells_for(const struct rt_piece *p)
{
    if (!p->buf || p->len < BLOCK || p->len > p->buf->cap ||
        (uintptr_t)p->data - (uintptr_t)p->buf->data > p->buf->cap - p->len) {
        return NULL;
    }
    return cells_of(p->buf);
}

static bool is_zeros(const uint8_t *p)
{
    return (uintptr_t)p - (uintptr_t)rt_zeros < sizeof rt_zeros;
}

static uint32_t zeros_sum(void)
{
    static _Atomic uint64_t sum;
    return block_sum(&sum, 0, rt_zeros);
}

uint32_t rt_piece_crc32c(uint32_t crc, const struct rt_piece *p)
{
    bool zeros = is_zeros(p->data);
    _Atomic uint64_t *cells = zeros ? NULL : cells_for(p);
    uint32_t done = 0;
    if (zeros || cells) {
        for (; p->len - done >= BLOCK; done += BLOCK) {
            const uint8_t *block = p->data + done;
            crc = crc32c_join_block(
                crc, zeros ? zeros_sum() : block_sum(cells, (size_t)(block - p->buf->data), block));
        }
    }
    return crc32c(crc, p->data + done, p->len - done);
}
