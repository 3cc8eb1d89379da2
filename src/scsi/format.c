/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FORMAT UNIT (SBC-3 5.3): the unit is as new, all of it deallocated and zero. There are no defects
 * and no protection information; a pattern is one of zeroes.
 */
#include "base/endian.h"
#include "scsi/medium.h"
#include "scsi/rod.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

#define LIST_MAX 8192

enum {
    CDB_FMTPINFO = 0xc0,
    CDB_LONGLIST = 0x20,
    CDB_FMTDATA = 0x10,
    CDB_CMPLST = 0x08,
    CDB_FORMAT = 0x07,
    LIST_FOV = 0x80,
    LIST_NEEDS_FOV = 0x78, /* DPRY, DCRT, STPF, IP */
    LIST_IP = 0x08,
};

void scsi_format_parse(struct scsi_task *t)
{
    uint8_t flags = t->cdb[1];
    if (flags & CDB_FMTPINFO) {
        scsi_fail_cdb(t, 1, 7);
        return;
    }
    if (!(flags & CDB_FMTDATA)) {
        if (flags & (CDB_LONGLIST | CDB_CMPLST | CDB_FORMAT)) {
            scsi_fail_cdb(t, 1, 4);
        }
        t->dir = SCSI_DIR_NONE;
        return;
    }
    /* The list itself says how long it is. */
    size_t header = flags & CDB_LONGLIST ? 8 : 4;
    t->data_len = t->transport_write ? MIN_OF(t->edtl, LIST_MAX) : 0;
    if (t->data_len < header) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
}

/* The initialization pattern descriptor at that place: the unit becomes zeroes, whatever it says.
 */
static bool check_pattern(struct scsi_task *t, const uint8_t *list, size_t len, size_t at)
{
    if (len < at + 4) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    size_t bytes = be16_load(list + at + 2);
    uint8_t type = list[at + 1];
    if (list[at]) {
        scsi_fail_parameter(t, (unsigned)at, 7); /* IP MODIFIER is obsolete; SI: no overwriting */
    } else if (type > 1) {
        scsi_fail_parameter(t, (unsigned)at + 1, 7);
    } else if (type == 0 ? bytes != 0 : bytes == 0 || bytes > t->lu->block_bytes) {
        scsi_fail_parameter(t, (unsigned)at + 2, 7);
    } else if (len < at + 4 + bytes) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    } else {
        for (size_t i = 0; i < bytes; i++) {
            if (list[at + 4 + i]) {
                scsi_fail_parameter(t, (unsigned)(at + 4 + i), -1);
                break;
            }
        }
    }
    return t->status == SCSI_GOOD;
}

static bool check_list(struct scsi_task *t, const uint8_t *list, size_t len)
{
    bool is_long = t->cdb[1] & CDB_LONGLIST;
    size_t header = is_long ? 8 : 4;
    if (len < header) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    uint32_t defects = is_long ? be32_load(list + 4) : be16_load(list + 2);
    if (list[0] & 0x07) {
        scsi_fail_parameter(t, 0, 2); /* PROTECTION FIELD USAGE */
    } else if (!(list[1] & LIST_FOV) && (list[1] & LIST_NEEDS_FOV)) {
        scsi_fail_parameter(t, 1, 7);
    } else if (is_long && list[3]) {
        scsi_fail_parameter(t, 3, 7); /* protection intervals */
    } else if (defects != 0) {
        scsi_fail_parameter(t, is_long ? 4 : 2, 7);
    }
    if (t->status != SCSI_GOOD) {
        return false;
    }
    return !(list[1] & LIST_IP) || check_pattern(t, list, len, header);
}

/* The first bytes of the list, as far as they can matter. */
static bool take_list(struct scsi_task *t) WAITS
{
    struct rt_buf *b;
    int r = rt_buf_alloc(LIST_MAX, RT_MEM_OTHER, &b);
    if (r < 0) {
        scsi_fail_errno(t, r);
        return false;
    }
    bool good = check_list(t, b->data, scsi_parameters(t, b->data, LIST_MAX));
    rt_buf_unref(b);
    return good;
}

/* IMMED or not, GOOD means that it is done; it is one record, however large the unit. */
void scsi_format_run(struct scsi_task *t)
{
    if ((t->cdb[1] & CDB_FMTDATA) && !take_list(t)) {
        return;
    }
    if (!scsi_loss_check(t)) {
        return;
    }
    struct dev *d = t->lu->dev;
    int r = dev_zero(d, 0, scsi_lu_blocks(t->lu) << t->lu->block_shift, DEV_FUA);
    if (r < 0) {
        scsi_fail_errno(t, r);
        return;
    }
    scsi_rods_revoke(t->nexus->target->host->rods, &t->lu->uuid);
}
