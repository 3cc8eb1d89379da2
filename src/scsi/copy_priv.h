/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of third-party copies know of each other. */
#pragma once
#include "scsi/copy_list.h"
#include "scsi/scsi_priv.h"

/* Service actions of 83h, as their results name them too. */
enum scsi_copy_action {
    SCSI_COPY_LID1 = 0x00,
    SCSI_COPY_LID4 = 0x01,
    SCSI_COPY_POPULATE = 0x10,
    SCSI_COPY_WRITE = 0x11,
    SCSI_COPY_ABORT = 0x1c,
};

/* copy_reach.c */
/* A unit that a copy reads or writes, held. */
struct scsi_copy_unit {
    struct scsi_target *target; /* of a unit on another target */
    struct scsi_lu *lu;         /* NULL: not looked for yet */
    struct scsi_itl *itl;       /* this nexus' view of it, or NULL */
    struct scsi_task *guest;    /* the copy in that unit's task set, unless it was sent there */
    bool read_only;             /* for this initiator */
};
/* 0, -ENOENT: the initiator sees none of that identification; -ENOMEM; -EAGAIN: its task set is
 * full. */
MUST int scsi_copy_reach(struct scsi_task *t, const struct scsi_copy_cscd *cscd,
                         struct scsi_copy_unit *ret_unit) WAITS;
/* The one the command was sent to. */
void scsi_copy_reach_self(struct scsi_task *t, struct scsi_copy_unit *ret_unit);
/* A reservation of another nexus, or a lack of one, keeps the initiator from that, now. */
bool scsi_copy_refused(const struct scsi_task *t, const struct scsi_copy_unit *unit,
                       enum scsi_access access);
void scsi_copy_unit_release(struct scsi_copy_unit *unit); /* accepts an empty one */

/* copy_task.c */
/* The copy of t comes into the unit's task set as well, under a tag that no command has: 0,
 * -ENOMEM, -EAGAIN. */
MUST int scsi_copy_guest_enter(struct scsi_task *t, struct scsi_copy_unit *unit);
void scsi_copy_guest_leave(struct scsi_copy_unit *unit); /* accepts one without a guest */

/* copy_status.c */
#define SCSI_COPY_IDS_MAX 64u
#define SCSI_COPIES_MAX 2048u       /* in the background, in all */
#define SCSI_COPIES_OF_ONE_MAX 128u /* ... of a nexus */
#define SCSI_COPY_SENSE_MAX 64u

enum scsi_copy_state { /* COPY MANAGER STATUS, SPC-4 table 364; and that there is nothing */
    SCSI_COPY_UNDER_WAY = 0,
    SCSI_COPY_DONE = 1,
    SCSI_COPY_FAILED = 2,
    SCSI_COPY_FREE,
};

/* What is known of a copy by its list identifier. */
struct scsi_copy_result {
    enum scsi_copy_state state;
    uint32_t id;
    uint8_t action; /* enum scsi_copy_action */
    bool background;
    bool stop;      /* COPY OPERATION ABORT wants it to end */
    bool in_blocks; /* done is in blocks of the unit, else in bytes */
    uint16_t segments;
    uint64_t done;
    uint64_t number; /* in the order of arrival */
    bool has_rod;
    uint64_t rod; /* number of the token it has made */
    uint8_t status;
    uint8_t sense_len;
    uint8_t sense[SCSI_COPY_SENSE_MAX];
};

/* Of a view: its nexus' core alone touches it. */
struct scsi_copies {
    uint64_t numbers;
    struct scsi_copy_result results[SCSI_COPY_IDS_MAX];
};

/*
 * A place for the result of the command's copy, under that list identifier; it stays until
 * scsi_copy_settle(). False: the task has failed.
 */
MUST bool scsi_copy_claim(struct scsi_task *t, uint32_t id, struct scsi_copy_result **ret_result);
/* The task has its status; accepts NULL. */
void scsi_copy_settle(struct scsi_task *t, struct scsi_copy_result *result);
struct scsi_copy_result *scsi_copy_find(struct scsi_itl *itl, uint32_t id);
/* False: the copy is to end, and the task has failed: it is aborted, or stopped, or its unit is
 * hidden from it by now. result may be NULL. */
bool scsi_copy_goes_on(struct scsi_task *t, const struct scsi_copy_result *result);
/* Fails the task by what is wrong with its parameter list. */
void scsi_copy_fail_list(struct scsi_task *t, const struct scsi_copy_error *e);

/*
 * Carries a copy out: fn(task, arg), whose status is then the result's. In the background the
 * command has ended well when this returns, and another task stands in its place. fn frees arg.
 */
struct scsi_copy_work {
    void (*fn)(struct scsi_task *t, struct scsi_copy_result *result, void *arg) WAITS;
    void (*drop)(void *arg); /* instead of fn: it could not begin */
    void *arg;
    struct scsi_copy_result *result; /* NULL: nobody asks */
    bool background;
};
void scsi_copy_do(struct scsi_task *t, const struct scsi_copy_work *work) WAITS;

/* copy_vpd.c: page 8Fh; its length. */
size_t scsi_copy_vpd_put(const struct scsi_lu *lu, uint8_t *p);
/* What descriptors of copies are known. */
#define SCSI_COPY_TYPES                                                                            \
    {                                                                                              \
        SCSI_COPY_TYPE_BLOCKS, SCSI_COPY_TYPE_CSCD                                                 \
    }
