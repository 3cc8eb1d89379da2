/* SPDX-License-Identifier: Apache-2.0 */
/* Unit attention conditions (SAM-5 5.14): for each nexus and LU a set, reported one at a time. */
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

static const uint16_t asc_of[SCSI_UA_COUNT] = {
    [SCSI_UA_POWER_ON] = SCSI_ASC_POWER_ON,
    [SCSI_UA_TARGET_RESET] = SCSI_ASC_BUS_RESET,
    [SCSI_UA_LU_RESET] = SCSI_ASC_DEVICE_RESET,
    [SCSI_UA_NEXUS_LOSS] = SCSI_ASC_NEXUS_LOSS,
    [SCSI_UA_COMMANDS_CLEARED] = SCSI_ASC_COMMANDS_CLEARED,
    [SCSI_UA_PROTOCOL_CLEARED] = SCSI_ASC_CLEARED_BY_PROTOCOL,
    [SCSI_UA_LUNS_CHANGED] = SCSI_ASC_LUNS_CHANGED,
    [SCSI_UA_MODE_CHANGED] = SCSI_ASC_MODE_CHANGED,
    [SCSI_UA_LOG_CHANGED] = SCSI_ASC_LOG_CHANGED,
    [SCSI_UA_RESERVATIONS_PREEMPTED] = SCSI_ASC_RESERVATIONS_PREEMPTED,
    [SCSI_UA_RESERVATIONS_RELEASED] = SCSI_ASC_RESERVATIONS_RELEASED,
    [SCSI_UA_REGISTRATIONS_PREEMPTED] = SCSI_ASC_REGISTRATIONS_PREEMPTED,
    [SCSI_UA_ACCESS_STATE_CHANGED] = SCSI_ASC_ACCESS_STATE_CHANGED,
    [SCSI_UA_CAPACITY_CHANGED] = SCSI_ASC_CAPACITY_CHANGED,
    [SCSI_UA_MEDIUM_CHANGED] = SCSI_ASC_MEDIUM_CHANGED,
    [SCSI_UA_AVAILABLE_LOW] = SCSI_ASC_SOFT_THRESHOLD,
    [SCSI_UA_USED_HIGH] = SCSI_ASC_SOFT_THRESHOLD,
    [SCSI_UA_PREVIOUS_BUSY] = SCSI_ASC_PREVIOUS_BUSY,
    [SCSI_UA_PREVIOUS_FULL] = SCSI_ASC_PREVIOUS_FULL,
    [SCSI_UA_PREVIOUS_CONFLICT] = SCSI_ASC_PREVIOUS_CONFLICT,
};

void scsi_attention_sense(enum scsi_ua ua, struct scsi_sense *ret_sense)
{
    *ret_sense = (struct scsi_sense){.key = SCSI_KEY_UNIT_ATTENTION, .asc = asc_of[ua]};
    if (ua == SCSI_UA_AVAILABLE_LOW || ua == SCSI_UA_USED_HIGH) {
        ret_sense->has_info = true; /* where the threshold stands in its mode page */
        ret_sense->info = SCSI_THRESHOLD_AT(ua - SCSI_UA_AVAILABLE_LOW);
    }
}

bool scsi_attention_next(struct scsi_itl *itl, bool clear, struct scsi_sense *ret_sense)
{
    uint32_t set = atomic_load(&itl->ua);
    if (set == 0) {
        return false;
    }
    unsigned first = (unsigned)__builtin_ctz(set);
    if (clear) {
        atomic_fetch_and(&itl->ua, ~(1u << first));
    }
    scsi_attention_sense((enum scsi_ua)first, ret_sense);
    return true;
}

void scsi_attention_status(const struct scsi_task *t)
{
    if (!(scsi_lu_mode(t->lu) & SCSI_MODE_UA_STATUS)) {
        return;
    }
    if (t->status == SCSI_BUSY) {
        scsi_attention_add(t->itl, SCSI_UA_PREVIOUS_BUSY);
    } else if (t->status == SCSI_TASK_SET_FULL) {
        scsi_attention_add(t->itl, SCSI_UA_PREVIOUS_FULL);
    } else if (t->status == SCSI_RESERVATION_CONFLICT) {
        scsi_attention_add(t->itl, SCSI_UA_PREVIOUS_CONFLICT);
    }
}

unsigned scsi_attention_count(const struct scsi_itl *itl)
{
    return (unsigned)__builtin_popcount(atomic_load(&itl->ua));
}
