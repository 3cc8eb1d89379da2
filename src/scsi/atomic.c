/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COMPARE AND WRITE (SBC-3 5.2) and ORWRITE(16) (5.7): reading, looking and writing as one, under
 * an exclusive lock of the range, against every other I/O to the device.
 *
 * WRITE ATOMIC(16) (SBC-4 4.29, 5.42): a write that every read sees whole or not at all, and that
 * is there whole or not at all after whatever happened: range lock and batch (I12) see to that. It
 * has no boundaries: what fits into one is atomic as a whole.
 */
#include "base/endian.h"
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include "scsi/vpd.h"

static bool is_fua(const struct scsi_task *t)
{
    return t->cdb[1] & 0x08;
}

void scsi_compare_write_parse(struct scsi_task *t)
{
    scsi_range_load(t);
    t->blocks = t->cdb[13];
    if (!scsi_protect_check(t) || !scsi_range_check(t)) {
        return;
    }
    if (t->blocks > SCSI_COMPARE_WRITE_MAX) {
        scsi_fail_cdb(t, 13, 7);
        return;
    }
    t->data_len = 2 * scsi_length(t);
    (void)scsi_exact_check(t, 13); /* half a comparison is none */
}

/* 0, 1 with the offset at which the medium differs, or an error. */
static int compare_then_write(struct scsi_task *t, const struct rt_chain *after, uint64_t *ret_same)
{
    uint32_t len = (uint32_t)scsi_length(t);
    struct dev *d = t->lu->dev;
    struct dev_range range;
    int r = dev_range_lock_spaced(d, &range, scsi_offset(t), len, &t->space);
    if (r < 0) {
        return r;
    }
    struct rt_chain medium = {0};
    r = dev_read_locked(d, scsi_offset(t), len, &medium);
    if (r >= 0) {
        *ret_same = scsi_compare(&t->data_out, 0, &medium, len);
        r = *ret_same < len ? 1 : 0;
    }
    rt_chain_free(&medium);
    if (r == 0) {
        r = dev_write_locked(d, scsi_offset(t), after, t->space.bytes ? &t->space : NULL);
    }
    dev_range_unlock(d, &range);
    return r;
}

void scsi_compare_write_run(struct scsi_task *t)
{
    uint64_t len = scsi_length(t);
    if (len == 0 || (is_fua(t) && !scsi_loss_check(t))) {
        return;
    }
    if (t->data_out.len < 2 * len) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_COMMAND_IU);
        return;
    }
    uint64_t same = 0;
    struct rt_chain after = {0};
    int r = rt_chain_add_range(&after, &t->data_out, len, len);
    if (r >= 0) {
        r = compare_then_write(t, &after, &same);
    }
    rt_chain_free(&after);
    if (r == 0 && is_fua(t)) {
        r = dev_flush(t->lu->dev);
    }
    if (r < 0) {
        scsi_fail_errno(t, r);
    } else if (r == 1) {
        scsi_fail_miscompare(t, same);
    }
}

void scsi_orwrite_parse(struct scsi_task *t)
{
    scsi_range_load(t);
    if (scsi_protect_check(t) && scsi_range_check(t) &&
        scsi_limit_check(t, SCSI_TRANSFER_MAX_BYTES >> t->lu->block_shift)) {
        t->data_len = scsi_length(t);
    }
}

/* A buffer of medium OR data-out. */
static int or_into(const struct rt_chain *medium, const struct rt_chain *out, struct rt_buf **ret)
{
    struct rt_buf *b;
    int r = rt_buf_alloc(medium->len, RT_MEM_DIRTY, &b);
    if (r < 0) {
        return r;
    }
    rt_chain_copy_out(medium, 0, b->data, medium->len);
    const struct rt_piece *piece = rt_chain_pieces(out);
    uint64_t at = 0;
    while (at < medium->len) {
        uint32_t len = (uint32_t)MIN_OF(piece->len, medium->len - at);
        for (uint32_t i = 0; i < len; i++) {
            b->data[at + i] |= piece->data[i];
        }
        at += len;
        piece++;
    }
    *ret = b;
    return 0;
}

static int orwrite_locked(struct scsi_task *t, uint32_t len)
{
    struct dev *d = t->lu->dev;
    struct rt_chain medium = {0};
    struct rt_chain result = {0};
    struct rt_buf *b = NULL;
    int r = dev_read_locked(d, scsi_offset(t), len, &medium);
    if (r >= 0) {
        r = or_into(&medium, &t->data_out, &b);
    }
    if (r >= 0) {
        r = rt_chain_add(&result, b, b->data, len);
    }
    if (r >= 0) {
        r = dev_write_locked(d, scsi_offset(t), &result, t->space.bytes ? &t->space : NULL);
    }
    rt_chain_free(&result);
    rt_chain_free(&medium);
    rt_buf_unref(b);
    return r;
}

void scsi_orwrite_run(struct scsi_task *t)
{
    uint32_t len = (uint32_t)scsi_whole_blocks(t);
    if (len == 0 || (is_fua(t) && !scsi_loss_check(t))) {
        return;
    }
    struct dev_range range;
    int r = dev_range_lock_spaced(t->lu->dev, &range, scsi_offset(t), len, &t->space);
    if (r >= 0) {
        r = orwrite_locked(t, len);
        dev_range_unlock(t->lu->dev, &range);
    }
    if (r >= 0 && is_fua(t)) {
        r = dev_flush(t->lu->dev);
    }
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
}

uint32_t scsi_atomic_blocks(const struct scsi_lu *lu)
{
    return (uint32_t)MIN_OF(dev_atomic_max(lu->dev) >> lu->block_shift, UINT16_MAX);
}

void scsi_write_atomic_parse(struct scsi_task *t)
{
    t->lba = be64_load(t->cdb + 2);
    t->blocks = be16_load(t->cdb + 12);
    if (!scsi_protect_check(t) || !scsi_range_check(t)) {
        return;
    }
    if (be16_load(t->cdb + 10) != 0) {
        scsi_fail_cdb(t, 10, 7); /* ATOMIC BOUNDARY */
        return;
    }
    if (t->blocks > scsi_atomic_blocks(t->lu)) {
        scsi_fail_cdb(t, 12, 7);
        return;
    }
    t->data_len = scsi_length(t);
    (void)scsi_exact_check(t, 12); /* a part of it would not be all of it */
}

void scsi_write_atomic_run(struct scsi_task *t)
{
    uint64_t len = scsi_length(t);
    if (len == 0 || (is_fua(t) && !scsi_loss_check(t))) {
        return;
    }
    if (t->data_out.len < len) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_COMMAND_IU);
        return;
    }
    int r = scsi_write_data(t, len, DEV_ATOMIC | (is_fua(t) ? DEV_FUA : 0));
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
}
