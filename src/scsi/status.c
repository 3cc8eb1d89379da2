/* SPDX-License-Identifier: Apache-2.0 */
/* The small commands of SPC-4 and SBC-3: readiness, sense, start and stop, diagnostics. */
#include "base/endian.h"
#include "base/err.h"
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

void scsi_test_unit_ready_run(struct scsi_task *t)
{
    if (t->lu && dev_is_gone(t->lu->dev)) {
        scsi_fail_errno(t, -ENODEV);
    }
}

/* What the unit would answer with (SPC-4 6.39): attentions are told and gone, states stay. */
static void poll_unit(struct scsi_itl *itl, struct scsi_sense *ret_sense)
{
    if (scsi_attention_next(itl, true, ret_sense) ||
        scsi_alua_sense(atomic_load(&itl->access), ret_sense)) {
        return;
    }
    if (dev_sanitize_state(itl->lu->dev, NULL) != DEV_SANITIZED_NOT) {
        scsi_sanitize_sense(itl->lu, ret_sense);
    } else if (dev_is_ejected(itl->lu->dev)) {
        *ret_sense =
            (struct scsi_sense){.key = SCSI_KEY_NOT_READY, .asc = SCSI_ASC_MEDIUM_NOT_PRESENT};
    }
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
        poll_unit(t->itl, &s);
    } else if (scsi_lun_decode(t->lun_raw) != SCSI_WLUN_REPORT_LUNS) {
        s.key = SCSI_KEY_ILLEGAL_REQUEST;
        s.asc = SCSI_ASC_LUN_NOT_SUPPORTED;
    }
    scsi_reply_end(t, b, scsi_sense_build(descriptor, &s, b->data));
}

enum {
    START = 0x01,
    LOEJ = 0x02,
    NO_FLUSH = 0x04,
};

void scsi_start_stop_parse(struct scsi_task *t)
{
    if (t->cdb[4] >> 4) {
        scsi_fail_cdb(t, 4, 7); /* POWER CONDITION: there are none */
    } else if ((t->cdb[4] & LOEJ) && !t->lu->removable) {
        scsi_fail_cdb(t, 4, 1);
    } else if ((t->cdb[4] & LOEJ) && t->itl->read_only) {
        scsi_fail(t, SCSI_KEY_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED);
    }
}

/* The medium goes in or out: for all, and others are told when it is in. */
static int load_or_eject(struct scsi_task *t, bool in) WAITS
{
    struct scsi_lu *lu = t->lu;
    uint64_t nobody = 0;
    if (!atomic_compare_exchange_strong(&lu->loading, &nobody, t->nexus->id)) {
        return -EAGAIN; /* another one is at it */
    }
    int r = dev_medium_set(lu->target->host->registry, lu->dev, in, false);
    atomic_store(&lu->loading, 0);
    return r;
}

/* A disk without a motor: stopping it only makes sure of what was written (SBC-3 5.25, NO_FLUSH).
 */
void scsi_start_stop_run(struct scsi_task *t)
{
    bool start = t->cdb[4] & START;
    bool loads = t->cdb[4] & LOEJ;
    bool out = dev_is_ejected(t->lu->dev);
    if (loads && dev_is_prevented(t->lu->dev)) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_REMOVAL_PREVENTED);
        return;
    }
    if (out && !loads) {
        scsi_fail_errno(t, -ENOMEDIUM);
        return;
    }
    int r = 0;
    if (!start && !out && !(t->cdb[4] & NO_FLUSH)) {
        if (!scsi_loss_check(t)) {
            return;
        }
        r = dev_flush(t->lu->dev);
    }
    if (r == 0 && loads) {
        r = load_or_eject(t, start);
    }
    if (r == ERR_IN_USE) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_REMOVAL_PREVENTED);
    } else if (r < 0) {
        scsi_fail_errno(t, r);
    }
}

/* The one diagnostic page: the list of those there are, which is itself (SPC-4 7.2.7). */
#define DIAGNOSTIC_PAGE_LEN 4

void scsi_send_diagnostic_parse(struct scsi_task *t)
{
    bool self_test = t->cdb[1] & 0x04;
    bool page_format = t->cdb[1] & 0x10;
    unsigned code = t->cdb[1] >> 5;
    if (code != 0) {
        scsi_fail_cdb(t, 1, 7); /* background and extended self-tests */
    } else if (t->data_len != 0 && (self_test || !page_format)) {
        scsi_fail_cdb(t, 3, 7);
    } else if (!self_test && (t->cdb[1] & 0x03)) {
        scsi_fail_cdb(t, 1, 1);
    }
    if (t->data_len == 0) {
        t->dir = SCSI_DIR_NONE;
    }
}

void scsi_send_diagnostic_run(struct scsi_task *t)
{
    uint8_t page[DIAGNOSTIC_PAGE_LEN];
    if (t->data_len == 0) {
        return;
    }
    if (scsi_parameters(t, page, sizeof page) < sizeof page) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    } else if (page[0] != 0x00) {
        scsi_fail_parameter(t, 0, 7);
    } else if (be16_load(page + 2) != 0) {
        scsi_fail_parameter(t, 2, 7);
    }
}

void scsi_receive_diagnostic_parse(struct scsi_task *t)
{
    bool by_code = t->cdb[1] & 0x01; /* PCV */
    if (by_code && t->cdb[2] != 0x00) {
        scsi_fail_cdb(t, 2, 7);
    }
}

void scsi_receive_diagnostic_run(struct scsi_task *t)
{
    struct rt_buf *b = scsi_reply_begin(t, DIAGNOSTIC_PAGE_LEN + 1);
    if (b) {
        be16_store(b->data + 2, 1); /* page 00h */
        scsi_reply_end(t, b, DIAGNOSTIC_PAGE_LEN + 1);
    }
}

/* Each nexus for itself (SPC-4 6.17). Who may only read by his map keeps nobody's medium in. */
void scsi_prevent_allow_parse(struct scsi_task *t)
{
    if (t->cdb[4] & 0x02) {
        scsi_fail_cdb(t, 4, 1);
    } else if ((t->cdb[4] & 0x01) && t->itl->read_only) {
        scsi_fail(t, SCSI_KEY_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED);
    }
}

/* Where the medium cannot be removed, there is nothing to prevent. */
void scsi_prevent_allow_run(struct scsi_task *t)
{
    if (t->lu->removable) {
        scsi_itl_prevent(t->itl, t->cdb[4] & 0x01);
    }
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
