/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of a batch. Pure.
 *
 *     struct bytes_reader r = bytes_reader_of(records, len);
 *     struct vol_record rec;
 *     while ((got = vol_record_next(&r, &rec)) > 0) { ... }          // 1, 0 at the end, or an
 * error
 *
 * Order in a batch: HOLE before PAGE and COPY, then the others: what apply relies on.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "vol/vol.h"
#include "vol/vol_format.h"
#include <stdint.h>

struct vol_record_run {
    uint8_t first;
    uint8_t count;
    uint8_t kind;        /* enum vol_run_kind but BAD */
    uint8_t frame_block; /* DATA and STORED */
    uint32_t frame;      /* DATA only: index in the batch */
    /* STORED only, as in struct vol_run. */
    uint64_t seq;
    uint32_t offset;
    uint32_t len_bytes;
    uint8_t frame_blocks;
};

struct vol_record {
    enum vol_record_kind kind;
    uint64_t layer; /* PAGE, COPY, HOLE, REAP; never 0 */
    /* PAGE, COPY: the page. HOLE, REAP: the hole's first page. */
    uint64_t page;
    uint64_t count;      /* HOLE: pages */
    uint64_t flags;      /* HOLE */
    uint64_t hole_batch; /* REAP: the hole's batch */
    uint64_t from;       /* REAP: the pages from <= page < upto are walked */
    uint64_t upto;
    uint64_t seq; /* GONE */
    uint32_t run_count;
    struct vol_record_run runs[VOL_PAGE_BLOCKS]; /* PAGE, COPY; rising, not overlapping */
    const uint8_t *key;                          /* PUT, DELETE: inside the reader's bytes */
    const uint8_t *value;                        /* PUT */
    uint32_t key_len;
    uint32_t value_len;
};

void vol_record_encode(const struct vol_record *rec, struct bytes_writer *w);
/* 1, 0 at the end of the bytes, ERR_CORRUPT_RECORD, ERR_FORMAT_TOO_NEW. */
MUST int vol_record_next(struct bytes_reader *r, struct vol_record *ret_rec);
