/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of EXTENDED COPY know of each other. */
#pragma once
#include "scsi/copy_list.h"
#include "scsi/scsi_priv.h"

/* copy_reach.c */
/* A unit that a copy reads or writes, held. */
struct scsi_copy_unit {
    struct scsi_target *target; /* of a unit on another target */
    struct scsi_lu *lu;         /* NULL: not looked for yet */
    bool read_only;             /* for this initiator */
    bool viewed;                /* this nexus has a view of it */
};
/* 0, -ENOENT: the initiator sees none of that identification; -ENOMEM. */
MUST int scsi_copy_reach(struct scsi_task *t, const struct scsi_copy_cscd *cscd,
                         struct scsi_copy_unit *ret_unit) WAITS;
/* The one the command was sent to. */
void scsi_copy_reach_self(struct scsi_task *t, struct scsi_copy_unit *ret_unit);
/* A reservation of another nexus, or a lack of one, keeps the initiator from that, now. */
bool scsi_copy_refused(const struct scsi_task *t, const struct scsi_copy_unit *unit,
                       enum scsi_access access);
void scsi_copy_unit_release(struct scsi_copy_unit *unit); /* accepts an empty one */

/* copy_status.c */
#define SCSI_COPY_IDS_MAX 16u
#define SCSI_COPIES_MAX 2048u /* in all */

enum scsi_copy_state { /* COPY MANAGER STATUS, SPC-4 table 364; and that there is nothing */
    SCSI_COPY_UNDER_WAY = 0,
    SCSI_COPY_DONE = 1,
    SCSI_COPY_FAILED = 2,
    SCSI_COPY_FREE,
};

/* What is known of a copy by its list identifier. */
struct scsi_copy_result {
    enum scsi_copy_state state;
    uint8_t id;
    uint16_t segments;
    uint64_t bytes;
    uint64_t number; /* in the order of arrival */
    uint16_t sense_len;
    uint8_t sense[SCSI_SENSE_MAX];
};

/* Of a view: its nexus' core alone touches it. */
struct scsi_copies {
    uint64_t numbers;
    struct scsi_copy_result results[SCSI_COPY_IDS_MAX];
};

/*
 * A place for the command's result, NULL when it wants none; it stays until scsi_copy_settle().
 * False: the task has failed.
 */
MUST bool scsi_copy_claim(struct scsi_task *t, const struct scsi_copy_list *list,
                          struct scsi_copy_result **ret_result);
/* The task has its status. */
void scsi_copy_settle(const struct scsi_task *t, struct scsi_copy_result *result);
/* VPD page 8Fh; its length. */
size_t scsi_copy_vpd_put(uint8_t *p);
