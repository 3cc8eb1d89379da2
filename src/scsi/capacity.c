/* SPDX-License-Identifier: Apache-2.0 */
/* READ CAPACITY (SBC-3 5.15, 5.16) and GET LBA STATUS (5.6). */
#include "base/endian.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

#define EXTENTS_MAX 64
#define EXTENTS_ROUNDS                                                                             \
    16 /* how often one command asks on: what it says may cover less than the unit */

void scsi_read_capacity10_run(struct scsi_task *t)
{
    t->data_len = 8;
    struct rt_buf *b = scsi_reply_begin(t, 8);
    if (!b) {
        return;
    }
    uint64_t last = scsi_lu_blocks(t->lu) - 1;
    be32_store(b->data, (uint32_t)MIN_OF(last, UINT32_MAX));
    be32_store(b->data + 4, t->lu->block_bytes);
    scsi_reply_end(t, b, 8);
}

void scsi_read_capacity16_run(struct scsi_task *t)
{
    struct rt_buf *b = scsi_reply_begin(t, 32);
    if (!b) {
        return;
    }
    be64_store(b->data, scsi_lu_blocks(t->lu) - 1);
    be32_store(b->data + 8, t->lu->block_bytes);
    b->data[13] = (uint8_t)t->lu->physical_shift;
    b->data[14] = 0xc0; /* LBPME, LBPRZ */
    scsi_reply_end(t, b, 32);
}

void scsi_get_lba_status_parse(struct scsi_task *t)
{
    t->lba = be64_load(t->cdb + 2);
    if (t->lba >= scsi_lu_blocks(t->lu)) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
    } else if (t->data_len > 0 && t->data_len < 24) {
        scsi_fail_cdb(t, 10, 7);
    }
}

static uint8_t status_of(enum vol_extent_kind kind)
{
    switch (kind) {
    case VOL_EXTENT_HOLE:
        return 1; /* deallocated */
    case VOL_EXTENT_ANCHORED:
        return 2;
    case VOL_EXTENT_DATA:
    case VOL_EXTENT_ZERO:
        break;
    }
    return 0; /* mapped, or unknown */
}

struct status_list {
    uint8_t *data;
    size_t count;
    size_t max;
};

/* Appends a descriptor, or lengthens the last one when the status is the same. False: no room. */
static bool put_status(struct status_list *l, uint64_t lba, uint64_t blocks, uint8_t status)
{
    uint8_t *last = l->count ? l->data + 8 + 16 * (l->count - 1) : NULL;
    while (blocks > 0) {
        uint64_t room = last && last[12] == status ? UINT32_MAX - be32_load(last + 8) : 0;
        if (room == 0) {
            if (l->count == l->max) {
                return false;
            }
            last = l->data + 8 + 16 * l->count++;
            be64_store(last, lba);
            last[12] = status;
            room = UINT32_MAX;
        }
        uint32_t part = (uint32_t)MIN_OF(room, blocks);
        be32_store(last + 8, be32_load(last + 8) + part);
        lba += part;
        blocks -= part;
    }
    return true;
}

void scsi_get_lba_status_run(struct scsi_task *t)
{
    struct scsi_lu *lu = t->lu;
    struct status_list list = {.max = EXTENTS_MAX};
    list.max = MIN_OF(list.max, t->data_len < 24 ? 1 : (t->data_len - 8) / 16);
    struct rt_buf *b = scsi_reply_begin(t, 8 + 16 * EXTENTS_MAX);
    if (!b) {
        return;
    }
    list.data = b->data;
    uint64_t off = t->lba << lu->block_shift;
    uint64_t end = scsi_lu_blocks(lu) << lu->block_shift;
    bool room = true;
    for (int rounds = 0; room && off < end && rounds < EXTENTS_ROUNDS; rounds++) {
        struct vol_extent ext[16];
        int n = dev_extents(lu->dev, off, end - off, ext, ARRAY_LEN(ext));
        if (n <= 0) {
            rt_buf_unref(b);
            scsi_fail_errno(t, n < 0 ? n : -EIO);
            return;
        }
        for (int i = 0; i < n && room; i++) {
            room = put_status(&list, ext[i].off >> lu->block_shift, ext[i].len >> lu->block_shift,
                              status_of(ext[i].kind));
            off = ext[i].off + ext[i].len;
        }
    }
    size_t len = 8 + 16 * list.count;
    be32_store(b->data, (uint32_t)(len - 4));
    scsi_reply_end(t, b, len);
}
