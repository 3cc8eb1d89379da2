/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page maps: where the blocks of one page of one layer are. Pure functions over small values; no
 * state, no waiting.
 *
 *     struct vol_map map;
 *     r = vol_map_decode(value, value_len, &map);
 *     const struct vol_run *run = vol_map_find(&map, block);        // NULL: nothing here, look in
 * the layer below vol_map_merge(&map, &delta, &merged, &changes);               // delta's runs
 * win; changes: live references
 *
 * Runs are in rising order and do not overlap; blocks that no run covers are absent. The batch of a
 * map is the number of the batch that last changed it, against which range holes are compared.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "vol/vol.h"
#include "vol/vol_format.h"
#include <stdint.h>

struct vol_run {
    uint64_t seq; /* DATA only, as are offset, len_bytes, frame_block and frame_blocks */
    uint32_t offset;
    uint32_t len_bytes;
    uint8_t first; /* block of the page */
    uint8_t count;
    uint8_t kind;         /* enum vol_run_kind */
    uint8_t frame_block;  /* block of the frame at which the run starts */
    uint8_t frame_blocks; /* blocks in the whole frame */
};

struct vol_map {
    uint64_t batch;
    uint32_t count;
    struct vol_run runs[VOL_PAGE_BLOCKS];
};

/* Changes of live block references, one entry a segment. */
struct vol_map_changes {
    uint32_t count;
    struct {
        uint64_t seq;
        int32_t blocks;
    } at[2 * VOL_PAGE_BLOCKS];
};

/* 0 or ERR_CORRUPT_RECORD; ERR_FORMAT_TOO_NEW. */
MUST int vol_map_decode(const void *value, size_t len, struct vol_map *ret_map);
void vol_map_encode(const struct vol_map *map, struct bytes_writer *w);
/* The run that covers the block, or NULL. */
const struct vol_run *vol_map_find(const struct vol_map *map, unsigned block);
/*
 * Lays delta over old (an empty map when there was none, or when a range hole hides it: drop that
 * one's references with vol_map_drop() first). Runs of delta may be of kind NONE. The result has
 * delta's batch number; a result with count 0 is not kept. Adds to *changes.
 */
void vol_map_merge(const struct vol_map *old, const struct vol_map *delta, struct vol_map *ret_map,
                   struct vol_map_changes *changes);
/* The references that go when the map goes. Adds to *changes. */
void vol_map_drop(const struct vol_map *map, struct vol_map_changes *changes);
/* Covers every block that no run of map covers with a BAD run. */
void vol_map_spoil(struct vol_map *map);
