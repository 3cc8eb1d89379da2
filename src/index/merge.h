/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging runs of SSTs into new ones with bounded memory: each run is read through a window, the
 * merging itself is CPU work on an offload thread. It stops whenever it needs bytes, and is called
 * again when its fiber has fetched them.
 *
 *     r = rt_offload(RT_OFFLOAD_CPU, merge_step, m);
 *     MERGE_NEED:  merge_fill(m, store, class)      MERGE_FULL:  store m->w, set the next one
 * MERGE_AGAIN, MERGE_DONE
 */
#pragma once
#include "base/attr.h"
#include "index/sst_block.h"
#include "index/sst_writer.h"
#include "index/version.h"
#include "obj/obj.h"
#include <stdbool.h>

enum merge_result {
    MERGE_DONE,
    MERGE_AGAIN, /* others may want the thread */
    MERGE_FULL,  /* the writer is */
    MERGE_NEED,  /* bytes of input `need` */
};

/* One sorted run. ssts are kept by the caller, with references. */
struct merge_input {
    struct sst *const *ssts;
    size_t count;
    size_t at;
    uint64_t off; /* of the next unit of ssts[at] */
    uint8_t *window;
    size_t window_cap;
    uint64_t window_off;
    size_t window_len;
    bool fetched_again; /* this window, because it did not check */
    bool valid;
    uint8_t *raw;
    size_t raw_cap;
    struct sst_block_iter it;
};

struct merge {
    struct merge_input *inputs; /* newest first */
    size_t count;
    size_t need;
    bool drop_tombstones;
    struct sst_writer *w;
};

/* Room for `max` inputs: 0 or -ENOMEM. */
MUST int merge_init(struct merge *m, size_t max);
void merge_add(struct merge *m, struct sst *const *ssts, size_t count);
void merge_free(struct merge *m); /* not the writer */
/* For rt_offload(): enum merge_result, -EBADMSG (input `need` does not decode), -ENOMEM. */
MUST int merge_step(void *merge);
/* Fetches bytes for input `need`: 0, ERR_CORRUPT_INDEX, or the store's error. */
MUST int merge_fill(struct merge *m, struct obj_store *store, enum obj_class c) WAITS;
/* After -EBADMSG: fetches the window once more. ERR_CORRUPT_INDEX when that was done already. */
MUST int merge_refill(struct merge *m, struct obj_store *store, enum obj_class c) WAITS;
