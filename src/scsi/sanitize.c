/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SANITIZE (SBC-4 5.40, 4.11): BLOCK ERASE removes every segment of the store that ever held a
 * block of the unit (dev_sanitize_start()). CRYPTOGRAPHIC ERASE does the same, and is there when
 * the volume is encrypted: the key of a segment is made from the volume's and from the salt in the
 * segment, which go with it, while blocks of other units are sealed anew with new keys. The key of
 * the volume stays. OVERWRITE does the same first, for nothing is ever overwritten where it lies,
 * and then writes its pattern as often as it says. EXIT FAILURE MODE.
 */
#include "base/endian.h"
#include "base/err.h"
#include "scsi/command.h"
#include "scsi/medium.h"
#include "scsi/rod.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

#define LIST_HEADER 4u

enum {
    ACTION_OVERWRITE = 0x01,
    IMMED = 0x80,
    ZNR = 0x40,
    AUSE = 0x20,
    LIST_INVERT = 0x80,
    LIST_TEST = 0x60,
    LIST_COUNT = 0x1f,
};

static bool overwrites(const struct scsi_task *t)
{
    return (t->cdb[1] & 0x1f) == ACTION_OVERWRITE;
}

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
    if (t->cdb[1] & ZNR) {
        scsi_fail_cdb(t, 1, 6);
        return;
    }
    for (unsigned i = 2; i < 7; i++) {
        if (t->cdb[i]) {
            scsi_fail_cdb(t, i, 7);
            return;
        }
    }
    uint64_t least = overwrites(t) ? LIST_HEADER + 1 : 0;
    uint64_t most = overwrites(t) ? LIST_HEADER + t->lu->block_bytes : 0;
    if (t->data_len < least || t->data_len > most) {
        scsi_fail_cdb(t, 7, 7);
    } else if (!overwrites(t)) {
        t->dir = SCSI_DIR_NONE;
    }
}

static void fail_state(struct scsi_task *t)
{
    struct scsi_sense s;
    scsi_sanitize_sense(t->lu, &s);
    scsi_fail_sense(t, &s);
}

/*
 * The parameter list of OVERWRITE; the pattern stays where it is. That no count of passes is an
 * error is all that the standard says: INVALID FIELD IN CDB is what initiators expect, and it is
 * looked for first.
 */
static bool overwrite_load(struct scsi_task *t, const uint8_t *list, size_t len,
                           struct dev_sanitize_options *opt)
{
    if (len < LIST_HEADER) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    opt->invert = list[0] & LIST_INVERT;
    opt->passes = list[0] & LIST_COUNT;
    opt->pattern_bytes = be16_load(list + 2);
    opt->pattern = list + LIST_HEADER;
    if (opt->passes == 0) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
    } else if (list[0] & LIST_TEST) {
        scsi_fail_parameter(t, 0, 6);
    } else if (opt->pattern_bytes == 0 || opt->pattern_bytes > t->lu->block_bytes) {
        scsi_fail_parameter(t, 2, 7);
    } else if (opt->pattern_bytes > len - LIST_HEADER) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    } else {
        return true;
    }
    return false;
}

/* 0; or what is wrong, or 1 when the task has failed already. */
static int start(struct scsi_task *t) WAITS
{
    struct dev_sanitize_options opt = {.ause = t->cdb[1] & AUSE};
    struct dev_registry *g = t->lu->target->host->registry;
    if (!overwrites(t)) {
        return dev_sanitize_start(g, t->lu->dev, &opt);
    }
    size_t cap = LIST_HEADER + t->lu->block_bytes;
    struct rt_buf *b;
    int r = rt_buf_alloc(cap, RT_MEM_OTHER, &b);
    if (r < 0) {
        return r;
    }
    bool good = overwrite_load(t, b->data, scsi_parameters(t, b->data, cap), &opt);
    r = good ? dev_sanitize_start(g, t->lu->dev, &opt) : 1;
    rt_buf_unref(b);
    return r;
}

/* A command that is aborted ends; what it has begun goes on. */
void scsi_sanitize_run(struct scsi_task *t)
{
    struct dev *d = t->lu->dev;
    int r = start(t);
    if (r == 1) {
        return;
    }
    if (r == ERR_IN_USE) {
        fail_state(t);
        return;
    }
    if (r == -EPERM) { /* a failure that may not be left does not become one that may */
        scsi_fail_cdb(t, 1, 5);
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
    int r = dev_sanitize_exit(t->lu->target->host->registry, t->lu->dev);
    if (r == ERR_IN_USE) {
        fail_state(t);
    } else if (r == -EPERM) {
        scsi_fail_cdb(t, 1, 4);
    } else if (r < 0) {
        scsi_fail_errno(t, r);
    }
}
