/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SANITIZE (SBC-4 5.40, 4.11): BLOCK ERASE removes every segment of the store that ever held a
 * block of the unit (dev_sanitize_start()). CRYPTOGRAPHIC ERASE does the same, and is there when
 * the volume is encrypted: the key of a segment is made from the volume's and from the salt in the
 * segment, which go with it, while blocks of other units are sealed anew with new keys. The key of
 * the volume stays. EXIT FAILURE MODE; OVERWRITE is not there, for nothing is ever overwritten
 * where it lies.
 */
#include "base/endian.h"
#include "base/err.h"
#include "scsi/command.h"
#include "scsi/medium.h"
#include "scsi/rod.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

enum {
    IMMED = 0x80,
    AUSE = 0x20,
};

void scsi_sanitize_sense(const struct scsi_lu *lu, struct scsi_sense *ret_sense)
{
    uint32_t progress;
    if (dev_sanitize_state(lu->dev, &progress) == DEV_SANITIZE_FAILED) {
        *ret_sense =
            (struct scsi_sense){.key = SCSI_KEY_MEDIUM_ERROR, .asc = SCSI_ASC_SANITIZE_FAILED};
        return;
    }
    *ret_sense = (struct scsi_sense){.key = SCSI_KEY_NOT_READY,
                                     .asc = SCSI_ASC_SANITIZE_IN_PROGRESS,
                                     .has_progress = true,
                                     .progress = (uint16_t)progress};
}

void scsi_sanitize_parse(struct scsi_task *t)
{
    if (t->cdb[1] & 0x40) {
        scsi_fail_cdb(t, 1, 6);
        return;
    }
    for (unsigned i = 2; i < 7; i++) {
        if (t->cdb[i]) {
            scsi_fail_cdb(t, i, 7);
            return;
        }
    }
    if (t->data_len != 0) {
        scsi_fail_cdb(t, 7, 7);
        return;
    }
    t->dir = SCSI_DIR_NONE;
}

static void fail_state(struct scsi_task *t)
{
    struct scsi_sense s;
    scsi_sanitize_sense(t->lu, &s);
    scsi_fail_sense(t, &s);
}

/* A command that is aborted ends; what it has begun goes on. */
void scsi_sanitize_run(struct scsi_task *t)
{
    struct dev *d = t->lu->dev;
    struct dev_registry *g = t->lu->target->host->registry;
    int r = dev_sanitize_start(g, d, t->cdb[1] & AUSE);
    if (r == ERR_IN_USE) {
        fail_state(t);
        return;
    }
    if (r == 0) { /* tokens hold what is to be erased; from now on none is made */
        scsi_rods_revoke(t->nexus->target->host->rods, &t->lu->uuid);
    }
    if (r == 0 && !(t->cdb[1] & IMMED)) {
        r = dev_sanitize_wait(d);
    }
    if (r < 0) {
        scsi_fail_errno(t, r);
    } else if (dev_sanitize_state(d, NULL) == DEV_SANITIZE_FAILED) {
        fail_state(t);
    }
}

void scsi_sanitize_exit_run(struct scsi_task *t)
{
    struct dev *d = t->lu->dev;
    if (dev_sanitize_state(d, NULL) == DEV_SANITIZING) {
        fail_state(t);
        return;
    }
    int r = dev_sanitize_exit(t->lu->target->host->registry, d);
    if (r == -EPERM) {
        scsi_fail_cdb(t, 1, 4);
    } else if (r < 0) {
        scsi_fail_errno(t, r);
    }
}
