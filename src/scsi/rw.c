/* SPDX-License-Identifier: Apache-2.0 */
/* READ, WRITE, SYNCHRONIZE CACHE, PRE-FETCH (SBC-3 5.10 to 5.13, 5.30 to 5.33, 5.26, 5.8). */
#include "base/endian.h"
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include "scsi/vpd.h"

#define READ_10 0x28
#define READ_16 0x88

static bool fua_of(const struct scsi_task *t)
{
    return t->command->cdb_len != 6 && (t->cdb[1] & 0x08);
}

/* The checks READ and WRITE share; data_len when all is well. */
static void rw_parse(struct scsi_task *t)
{
    scsi_range_load(t);
    if (scsi_protect_check(t) && scsi_range_check(t) &&
        scsi_limit_check(t, SCSI_TRANSFER_MAX_BYTES >> t->lu->block_shift)) {
        t->data_len = scsi_length(t);
    }
}

void scsi_read_parse(struct scsi_task *t)
{
    rw_parse(t);
}

void scsi_read_run(struct scsi_task *t)
{
    struct dev *d = t->lu->dev;
    uint64_t sent = MIN_OF(t->data_len, scsi_task_in_limit(t));
    int r = 0;
    if (unlikely(fua_of(t))) {
        r = dev_flush(d); /* what is read has to be on the medium */
    }
    if (r >= 0 && sent > 0) {
        r = dev_read(d, scsi_offset(t), (uint32_t)sent, &t->data_in);
    }
    if (unlikely(r < 0)) {
        scsi_fail_errno(t, r);
        return;
    }
    t->in_total = t->data_len;
}

bool scsi_read_ready(struct scsi_task *t)
{
    uint64_t sent = MIN_OF(t->data_len, scsi_task_in_limit(t));
    if (fua_of(t) || sent > VOL_PAGE_BYTES) {
        return false;
    }
    if (likely(sent > 0)) {
        struct vol_ready r = {.off = scsi_offset(t), .len = (uint32_t)sent};
        dev_read_ready(t->lu->dev, &r, 1);
        if (r.result < 0) {
            return false;
        }
        t->data_in = r.data;
    }
    t->in_total = t->data_len;
    return true;
}

void scsi_hint_reads(struct scsi_nexus *n, uint64_t lun_raw, const uint8_t *const *cdbs,
                     size_t count)
{
    uint64_t offs[VOL_HINTS_MAX];
    size_t found = 0;
    uint32_t lun = scsi_lun_decode(lun_raw);
    struct scsi_itl *itl = lun <= DEV_LUN_MAX ? scsi_nexus_find(n, lun) : NULL;
    for (size_t i = 0; i < count && itl && found < ARRAY_LEN(offs); i++) {
        const uint8_t *cdb = cdbs[i];
        if (cdb[0] == READ_10) {
            offs[found++] = (uint64_t)be32_load(cdb + 2) << itl->lu->block_shift;
        } else if (cdb[0] == READ_16) {
            offs[found++] = be64_load(cdb + 2) << itl->lu->block_shift;
        }
    }
    if (found > 0) {
        dev_hint_reads(itl->lu->dev, offs, found);
    }
}

void scsi_write_parse(struct scsi_task *t)
{
    rw_parse(t);
}

int scsi_write_data(struct scsi_task *t, uint64_t len, unsigned flags)
{
    struct dev *d = t->lu->dev;
    struct vol_space *space = t->space.bytes > 0 ? &t->space : NULL;
    if (likely(len == t->data_out.len)) {
        return dev_write(d, scsi_offset(t), &t->data_out, flags, space);
    }
    struct rt_chain cut = {0};
    int r = rt_chain_add_range(&cut, &t->data_out, 0, len);
    if (r >= 0) {
        r = dev_write(d, scsi_offset(t), &cut, flags, space);
    }
    rt_chain_free(&cut);
    return r;
}

void scsi_write_run(struct scsi_task *t)
{
    uint64_t len = scsi_whole_blocks(t);
    if (unlikely(len == 0 || (fua_of(t) && !scsi_loss_check(t)))) {
        return;
    }
    int r = scsi_write_data(t, len, fua_of(t) ? DEV_FUA : 0);
    if (unlikely(r < 0)) {
        scsi_fail_errno(t, r);
    }
}

void scsi_sync_parse(struct scsi_task *t)
{
    scsi_range_load(t);
    (void)scsi_range_check(t);
}

/* IMMED or not, GOOD means that it is done: an early GOOD would have nowhere to tell an error. */
void scsi_sync_run(struct scsi_task *t)
{
    if (!scsi_loss_check(t)) {
        return;
    }
    int r = dev_flush(t->lu->dev);
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
}

void scsi_prefetch_parse(struct scsi_task *t)
{
    scsi_range_load(t);
    (void)scsi_range_check(t);
}

void scsi_prefetch_run(struct scsi_task *t)
{
    uint64_t len = scsi_length(t);
    if (t->blocks == 0) {
        len = dev_size(t->lu->dev) - scsi_offset(t);
    }
    int r = 0;
    if (len > 0) {
        r = dev_prefetch(t->lu->dev, scsi_offset(t), len);
    }
    if (r < 0) {
        scsi_fail_errno(t, r);
    } else if (len <= SCSI_TRANSFER_MAX_BYTES) {
        t->status = SCSI_CONDITION_MET; /* all of it is in the cache; GOOD: perhaps not */
    }
}
