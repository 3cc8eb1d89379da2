/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted block of entries with prefix compression and restart points: raw bytes of data and index
 * units. Pure.
 *
 *     struct sst_block_iter it;
 *     r = sst_block_open(&it, raw, len);              // keeps raw
 *     r = sst_block_seek(&it, key, key_len);          // 1 = it stands at the first entry >= key, 0
 * = there is none while (r == 1) { use(it.key, it.value); r = sst_block_next(&it); } if (r < 0) {
 * corrupt }
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/vec.h"
#include "index/index.h"
#include "index/sst_format.h"
#include <stdbool.h>

/* What memtables, blocks and merges hand around. Points into memory of its source. */
struct index_entry {
    const uint8_t *key;
    const uint8_t *value;
    uint32_t key_len;
    uint32_t value_len;
    bool deleted; /* a tombstone; no value */
};

/* <0, 0, >0 in byte order; a prefix sorts first. */
int index_key_compare(const void *a, size_t a_len, const void *b, size_t b_len);

struct sst_block_writer {
    struct bytes_writer raw;
    VEC(uint32_t) restarts;
    uint32_t restart_interval;
    uint32_t since_restart;
    uint32_t entries;
    uint32_t last_key_len;
    uint8_t last_key[INDEX_KEY_MAX];
};

void sst_block_writer_free(struct sst_block_writer *w);
/* Keys come in rising order. 0 or -ENOMEM. */
MUST int sst_block_add(struct sst_block_writer *w, const struct index_entry *e);
/* The size of the block when finished now, and at most when e were added. */
size_t sst_block_size(const struct sst_block_writer *w);
size_t sst_block_size_with(const struct sst_block_writer *w, const struct index_entry *e);
/* Appends the restart points; raw is the block then. */
MUST int sst_block_finish(struct sst_block_writer *w);
/* Empty again, memory kept. */
void sst_block_reset(struct sst_block_writer *w);

struct sst_block_iter {
    const uint8_t *raw;
    uint32_t entries_end; /* where the restart points begin */
    uint32_t restart_count;
    uint32_t pos; /* of the next entry */
    const uint8_t *value;
    uint32_t value_len;
    uint32_t key_len;
    bool deleted;
    uint8_t key[INDEX_KEY_MAX];
};

/* 0, or -EBADMSG. */
MUST int sst_block_open(struct sst_block_iter *it, const void *raw, size_t len);
/* 1 = at an entry, 0 = at the end, -EBADMSG. */
MUST int sst_block_first(struct sst_block_iter *it);
MUST int sst_block_next(struct sst_block_iter *it);
MUST int sst_block_seek(struct sst_block_iter *it, const void *key, size_t key_len);
struct index_entry sst_block_entry(const struct sst_block_iter *it);
