/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live block references of each segment, and the salt that its frames are opened with: kept in RAM,
 * written to the index by apply in the same step as the maps they count.
 *
 * S1. The count of a segment rises only in the batch stored in it (and by moves), so one that is at
 * 0 stays at 0. S2. zero_seq is the segment whose batch brought the count to 0: an index that holds
 * that batch knows it (I7). S3. A segment whose object is deleted stays here, marked, until a batch
 * has recorded that it is gone. S4. A count that would have fallen below 0 is VOL_LIVE_UNKNOWN from
 * then on, here and in the index, for ever: such a segment is never deleted, for nobody knows who
 * refers to it.
 *
 * Only apply changes counts; readers of totals and the reaper take the mutex.
 */
#pragma once
#include "base/attr.h"
#include "base/vec.h"
#include "log/log.h"
#include "rt/sync.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum vol_segment_state {
    VOL_SEGMENT_LIVE,
    VOL_SEGMENT_DELETED, /* the object is gone, the record of it not yet in a batch */
    VOL_SEGMENT_NOTED,   /* in a batch */
};

struct vol_segment {
    uint64_t seq;
    uint64_t live; /* or VOL_LIVE_UNKNOWN */
    uint64_t zero_seq;
    struct log_salt salt; /* set by the batch stored in it, never changed */
    uint8_t state;
    bool changed;          /* in this batch */
    uint64_t deletable_ns; /* when the reaper may delete it; 0 = not a candidate yet */
};
_Static_assert(sizeof(struct vol_segment) == 72, "docs/ARCHITECTURE.md says what a TiB costs");

struct vol_segments {
    struct rt_mutex m;
    VEC(struct vol_segment) at; /* by rising seq */
    _Atomic uint64_t live_blocks;
    _Atomic uint32_t deleted; /* segments in state DELETED */
};

void vol_segments_init(struct vol_segments *s);
void vol_segments_destroy(struct vol_segments *s);
/* Adds a segment that is not there yet (seq is higher than all, or it came from the index in
 * order): 0 or -ENOMEM. */
MUST int vol_segments_add(struct vol_segments *s, uint64_t seq, uint64_t live,
                          const struct log_salt *salt);
/* Of a segment that is there. */
void vol_segments_salt_set(struct vol_segments *s, uint64_t seq, const struct log_salt *salt);
/* 0, or -ENOENT when there is no such segment (any more). */
MUST int vol_segments_salt(struct vol_segments *s, uint64_t seq, struct log_salt *ret_salt);
struct vol_segment_change {
    uint64_t seq;
    int64_t blocks;
    uint64_t by_seq; /* the segment of the batch that does it */
};
/* Adds blocks to the count, and marks the segment as changed; *ret_first: it was not marked yet. 0,
 * -ENOMEM; ERR_CORRUPT_INDEX when the count would fall below 0 (S4). */
MUST int vol_segments_change(struct vol_segments *s, const struct vol_segment_change *change,
                             bool *ret_first);
/* What s holds changes place with what the other holds, which nobody else uses. */
void vol_segments_exchange(struct vol_segments *s, struct vol_segments *other);
/* Takes the segment out. */
void vol_segments_remove(struct vol_segments *s, uint64_t seq);
/* With the mutex held: the segment or NULL; not to be kept across its release. */
struct vol_segment *vol_segments_find(struct vol_segments *s, uint64_t seq);
