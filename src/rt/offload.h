/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that would hold up a core runs on offload threads: heavy CPU work and blocking system calls.
 * The kinds have threads of their own, so that a slow read of the store never stands in the way of
 * a commit. An offloaded job never waits for another job and calls nothing marked WAITS.
 *
 *     int r = rt_offload(RT_OFFLOAD_CPU, compress_job, &job);      // WAITS; gives the job's result
 *
 * Under sim the job runs in place after a random virtual delay.
 */
#pragma once
#include "base/attr.h"

enum rt_offload_kind {
    RT_OFFLOAD_CPU,    /* compression, hashing of large batches */
    RT_OFFLOAD_COMMIT, /* blocking calls for commits and the index's own objects */
    RT_OFFLOAD_CACHE,  /* blocking calls to the cache's disk, which may hang */
    RT_OFFLOAD_IO,     /* every other blocking call */
    RT_OFFLOAD_KINDS,
};

/*
 * Runs fn(arg) on a thread of that kind and gives its result. Jobs of a kind start in the order
 * given. Not ended by cancellation: the job owns what arg points to until it is done.
 */
MUST int rt_offload(enum rt_offload_kind kind, int (*fn)(void *arg), void *arg) WAITS;
