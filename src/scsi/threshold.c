/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thresholds of logical block provisioning (SBC-3 4.7.3.7): how much is used of what all units
 * share, and who asked to be told when it is much. Counts are in threshold sets of 2^exponent
 * blocks, VPD page B2h.
 *
 * An enabled threshold is looked at when commands come, 50 ms apart or so; all nexuses are told
 * once when it is reached, and again when it was left in between. Without a limit
 * (filesystem.max_size_gb) as much is available as can be counted.
 */
#include "scsi/scsi_priv.h"

#define SET_BYTES_LOG2 20 /* 1 MiB, unless the unit is so large that its sets cannot be counted */

unsigned scsi_threshold_exponent(const struct scsi_lu *lu)
{
    unsigned exponent = SET_BYTES_LOG2 - lu->block_shift;
    while (scsi_lu_blocks(lu) >> exponent > UINT32_MAX) {
        exponent++;
    }
    return exponent;
}

void scsi_threshold_counts(const struct scsi_lu *lu, struct scsi_space *ret_space)
{
    struct dev_usage u;
    dev_usage(lu->dev, &u);
    unsigned shift = scsi_threshold_exponent(lu) + lu->block_shift;
    uint64_t available = u.max_bytes > u.used_bytes ? u.max_bytes - u.used_bytes : 0;
    uint64_t used = (u.used_bytes >> shift) + ((u.used_bytes & ((1ull << shift) - 1)) != 0);
    ret_space->limited = u.max_bytes != 0;
    ret_space->count[SCSI_AVAILABLE] =
        ret_space->limited ? (uint32_t)MIN_OF(available >> shift, UINT32_MAX) : UINT32_MAX;
    ret_space->count[SCSI_USED] = (uint32_t)MIN_OF(used, UINT32_MAX);
}

static bool is_reached(const struct scsi_space *s, enum scsi_resource resource, uint32_t count)
{
    return resource == SCSI_AVAILABLE ? s->limited && s->count[SCSI_AVAILABLE] <= count
                                      : s->count[SCSI_USED] >= count;
}

void scsi_threshold_check(struct scsi_lu *lu)
{
    static const enum scsi_ua attentions[] = {SCSI_UA_AVAILABLE_LOW, SCSI_UA_USED_HIGH};
    uint64_t wanted[SCSI_RESOURCES];
    bool any = false;
    for (int i = 0; i < SCSI_RESOURCES; i++) {
        wanted[i] = atomic_load_explicit(&lu->thresholds[i], memory_order_relaxed);
        any |= (wanted[i] & SCSI_THRESHOLD_ENABLED) != 0;
    }
    if (likely(!any)) {
        return;
    }
    struct scsi_space s;
    scsi_threshold_counts(lu, &s);
    for (int i = 0; i < SCSI_RESOURCES; i++) {
        bool reached = (wanted[i] & SCSI_THRESHOLD_ENABLED) &&
                       is_reached(&s, (enum scsi_resource)i, (uint32_t)wanted[i]);
        bool before = atomic_exchange(&lu->reached[i], reached);
        if (reached && !before) {
            scsi_lu_attention(lu, attentions[i], NULL);
        }
    }
}

void scsi_threshold_set(struct scsi_lu *lu, enum scsi_resource resource, uint64_t threshold)
{
    if (atomic_exchange(&lu->thresholds[resource], threshold) != threshold) {
        atomic_store(&lu->reached[resource], false);
    }
}
