/* SPDX-License-Identifier: Apache-2.0 */
/* VERIFY (SBC-3 5.27) and WRITE AND VERIFY (5.34). */
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include "scsi/vpd.h"

#define CHUNK_BYTES (1u << 20)

enum bytchk {
    BYTCHK_MEDIUM = 0,  /* it can be read */
    BYTCHK_COMPARE = 1, /* equals data-out */
    BYTCHK_SAME = 3,    /* every block equals the one of data-out */
};

static unsigned bytchk_of(const struct scsi_task *t)
{
    return (t->cdb[1] >> 1) & 3;
}

static bool verify_check(struct scsi_task *t)
{
    scsi_range_load(t);
    if (!scsi_protect_check(t)) {
        return false;
    }
    if (bytchk_of(t) == 2) {
        scsi_fail_cdb(t, 1, 2);
        return false;
    }
    return scsi_range_check(t);
}

void scsi_verify_parse(struct scsi_task *t)
{
    if (!verify_check(t)) {
        return;
    }
    switch (bytchk_of(t)) {
    case BYTCHK_MEDIUM:
        t->dir = SCSI_DIR_NONE;
        break;
    case BYTCHK_COMPARE:
        if (scsi_limit_check(t, SCSI_TRANSFER_MAX_BYTES >> t->lu->block_shift)) {
            t->data_len = scsi_length(t);
        }
        break;
    default:
        t->data_len = t->blocks ? t->lu->block_bytes : 0;
        break;
    }
}

/* The offset at which blocks differ from the first block of data-out; len when none does. */
static uint64_t compare_same(const struct scsi_task *t, const struct rt_chain *medium)
{
    uint32_t block = t->lu->block_bytes;
    for (uint64_t off = 0; off < medium->len; off += block) {
        uint64_t same = scsi_compare(medium, off, &t->data_out, block);
        if (same != block) {
            return off + same;
        }
    }
    return medium->len;
}

/* Reads len bytes of the medium by pieces and compares. ret_same: how far it went well. */
static int verify_medium(struct scsi_task *t, unsigned bytchk, uint64_t len, uint64_t *ret_same)
{
    uint64_t done = 0;
    while (done < len && !scsi_task_is_aborted(t)) {
        struct rt_chain medium = {0};
        uint32_t part = (uint32_t)MIN_OF(len - done, CHUNK_BYTES);
        int r = dev_read(t->lu->dev, scsi_offset(t) + done, part, &medium);
        if (r < 0) {
            return r;
        }
        uint64_t same = part;
        if (bytchk == BYTCHK_COMPARE) {
            same = scsi_compare(&t->data_out, done, &medium, part);
        } else if (bytchk == BYTCHK_SAME) {
            same = compare_same(t, &medium);
        }
        rt_chain_free(&medium);
        done += same;
        if (same != part) {
            break;
        }
        rt_yield(); /* it may have been done without a wait: the unit may be one large hole */
    }
    *ret_same = done;
    return 0;
}

static void verify(struct scsi_task *t, unsigned bytchk, uint64_t len)
{
    uint64_t same;
    int r = verify_medium(t, bytchk, len, &same);
    if (r < 0) {
        scsi_fail_errno(t, r);
    } else if (same < len) {
        scsi_fail_miscompare(t, same);
    }
}

void scsi_verify_run(struct scsi_task *t)
{
    unsigned bytchk = bytchk_of(t);
    uint64_t len = scsi_length(t);
    if (bytchk == BYTCHK_COMPARE) {
        len = scsi_whole_blocks(t);
    } else if (bytchk == BYTCHK_SAME && t->data_out.len < t->data_len) {
        len = 0;
    }
    verify(t, bytchk, len);
}

void scsi_write_verify_parse(struct scsi_task *t)
{
    if (verify_check(t) && scsi_limit_check(t, SCSI_TRANSFER_MAX_BYTES >> t->lu->block_shift)) {
        if (bytchk_of(t) == BYTCHK_SAME) {
            scsi_fail_cdb(t, 1, 2);
            return;
        }
        t->data_len = scsi_length(t);
    }
}

/* To the medium, and back: the write is durable before it is looked at. */
void scsi_write_verify_run(struct scsi_task *t)
{
    uint64_t len = scsi_whole_blocks(t);
    if (len == 0 || !scsi_loss_check(t)) {
        return;
    }
    int r = scsi_write_data(t, len, DEV_FUA);
    if (r < 0) {
        scsi_fail_errno(t, r);
        return;
    }
    verify(t, bytchk_of(t), len);
}
