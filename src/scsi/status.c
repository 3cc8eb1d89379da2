/* SPDX-License-Identifier: Apache-2.0 */
/* The small commands of SPC-4 and SBC-3: readiness, sense, start and stop, diagnostics, logs. */
#include "base/endian.h"
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

void scsi_test_unit_ready_run(struct scsi_task *t)
{
    if (t->lu && dev_is_gone(t->lu->dev)) {
        scsi_fail_errno(t, -ENODEV);
    }
}

void scsi_nothing_run(struct scsi_task *t)
{
    (void)t;
}

void scsi_request_sense_run(struct scsi_task *t)
{
    bool descriptor = t->cdb[1] & 0x01;
    struct rt_buf *b = scsi_reply_begin(t, SCSI_SENSE_MAX);
    if (!b) {
        return;
    }
    struct scsi_sense s = {.key = SCSI_KEY_NO_SENSE, .asc = SCSI_ASC_NONE};
    if (t->itl) {
        (void)scsi_attention_next(t->itl, true, &s);
    } else if (scsi_lun_decode(t->lun_raw) != SCSI_WLUN_REPORT_LUNS) {
        s.key = SCSI_KEY_ILLEGAL_REQUEST;
        s.asc = SCSI_ASC_LUN_NOT_SUPPORTED;
    }
    scsi_reply_end(t, b, scsi_sense_build(descriptor, &s, b->data));
}

void scsi_start_stop_parse(struct scsi_task *t)
{
    if (t->cdb[4] >> 4) {
        scsi_fail_cdb(t, 4, 7); /* POWER CONDITION: there are none */
    } else if (t->cdb[4] & 0x02) {
        scsi_fail_cdb(t, 4, 1); /* LOEJ: the medium is not removable */
    }
}

/* A disk without a motor: stopping it only makes sure of what was written (SBC-3 5.25, NO_FLUSH).
 */
void scsi_start_stop_run(struct scsi_task *t)
{
    bool start = t->cdb[4] & 0x01;
    bool no_flush = t->cdb[4] & 0x04;
    if (start || no_flush || !scsi_loss_check(t)) {
        return;
    }
    int r = dev_flush(t->lu->dev);
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
}

void scsi_send_diagnostic_parse(struct scsi_task *t)
{
    bool self_test = t->cdb[1] & 0x04;
    unsigned code = t->cdb[1] >> 5;
    if (code != 0) {
        scsi_fail_cdb(t, 1, 7); /* background and extended self-tests */
    } else if (t->data_len != 0) {
        scsi_fail_cdb(t, 3, 7); /* no diagnostic pages */
    } else if (!self_test && (t->cdb[1] & 0x03)) {
        scsi_fail_cdb(t, 1, 1);
    }
    t->dir = SCSI_DIR_NONE;
}

/* READ DEFECT DATA (SBC-3 5.17, 5.18): the lists that were asked for, which are empty. */
void scsi_read_defects_run(struct scsi_task *t)
{
    bool ten = t->command->cdb_len == 10;
    struct rt_buf *b = scsi_reply_begin(t, 8);
    if (!b) {
        return;
    }
    b->data[1] = t->cdb[ten ? 2 : 1] & 0x1f; /* PLISTV, GLISTV, format */
    scsi_reply_end(t, b, ten ? 4 : 8);
}

void scsi_log_sense_parse(struct scsi_task *t)
{
    uint8_t subpage = t->cdb[3];
    if (t->cdb[1] & 0x01) {
        scsi_fail_cdb(t, 1, 0); /* SP: parameters are not saved */
    } else if ((t->cdb[2] & 0x3f) != 0) {
        scsi_fail_cdb(t, 2, 5);
    } else if (subpage != 0x00 && subpage != 0xff) {
        scsi_fail_cdb(t, 3, 7);
    } else if (be16_load(t->cdb + 5) != 0) {
        scsi_fail_cdb(t, 5, 7);
    }
}

/* Supported log pages, and with subpages: SPC-4 7.3.17, 7.3.18. */
void scsi_log_sense_run(struct scsi_task *t)
{
    bool subpages = t->cdb[3] == 0xff;
    struct rt_buf *b = scsi_reply_begin(t, 16);
    if (!b) {
        return;
    }
    size_t len = 5; /* page 00h */
    if (subpages) {
        static const uint8_t list[] = {0x00, 0x00, 0x00, 0xff};
        b->data[0] = 0x40; /* SPF */
        b->data[1] = 0xff;
        memcpy(b->data + 4, list, sizeof list);
        len = 4 + sizeof list;
    }
    be16_store(b->data + 2, (uint16_t)(len - 4));
    scsi_reply_end(t, b, len);
}
