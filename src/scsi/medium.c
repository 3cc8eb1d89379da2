/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/medium.h"
#include "base/endian.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

static unsigned length_at(const struct scsi_task *t)
{
    switch (t->command->cdb_len) {
    case 6:
        return 4;
    case 10:
        return 7;
    case 12:
        return 6;
    default:
        return 10;
    }
}

void scsi_range_load(struct scsi_task *t)
{
    const uint8_t *cdb = t->cdb;
    switch (t->command->cdb_len) {
    case 6:
        t->lba = be24_load(cdb + 1) & 0x1fffff;
        t->blocks = cdb[4] ? cdb[4] : 256;
        break;
    case 10:
        t->lba = be32_load(cdb + 2);
        t->blocks = be16_load(cdb + 7);
        break;
    case 12:
        t->lba = be32_load(cdb + 2);
        t->blocks = be32_load(cdb + 6);
        break;
    default:
        t->lba = be64_load(cdb + 2);
        t->blocks = be32_load(cdb + 10);
        break;
    }
}

bool scsi_range_check(struct scsi_task *t)
{
    uint64_t capacity = scsi_lu_blocks(t->lu);
    if (unlikely(t->lba > capacity || t->blocks > capacity - t->lba)) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
        return false;
    }
    return true;
}

bool scsi_protect_check(struct scsi_task *t)
{
    if (unlikely(t->command->cdb_len != 6 && (t->cdb[1] & 0xe0))) {
        scsi_fail_cdb(t, 1, 7);
        return false;
    }
    return true;
}

bool scsi_limit_check(struct scsi_task *t, uint64_t blocks_max)
{
    if (unlikely(t->blocks > blocks_max)) {
        scsi_fail_cdb(t, length_at(t), 7);
        return false;
    }
    return true;
}

bool scsi_exact_check(struct scsi_task *t, unsigned byte)
{
    uint64_t expected = t->transport_write ? t->edtl : 0;
    if (expected != t->data_len) {
        scsi_fail_cdb(t, byte, 7);
        return false;
    }
    return true;
}

uint64_t scsi_offset(const struct scsi_task *t)
{
    return t->lba << t->lu->block_shift;
}

uint64_t scsi_length(const struct scsi_task *t)
{
    return t->blocks << t->lu->block_shift;
}

uint64_t scsi_whole_blocks(const struct scsi_task *t)
{
    uint64_t came = MIN_OF(t->data_out.len, t->data_len);
    return came & ~(uint64_t)(t->lu->block_bytes - 1);
}

struct cursor {
    const struct rt_piece *piece;
    uint32_t at;
};

static struct cursor cursor_at(const struct rt_chain *c, uint64_t off)
{
    struct cursor k = {.piece = rt_chain_pieces(c)};
    while (off >= k.piece->len) {
        off -= k.piece->len;
        k.piece++;
    }
    k.at = (uint32_t)off;
    return k;
}

static void cursor_step(struct cursor *k, uint32_t len)
{
    k->at += len;
    if (k->at == k->piece->len) {
        k->piece++;
        k->at = 0;
    }
}

uint64_t scsi_compare(const struct rt_chain *a, uint64_t off, const struct rt_chain *b,
                      uint64_t len)
{
    if (len == 0) {
        return 0;
    }
    struct cursor ka = cursor_at(a, off);
    struct cursor kb = cursor_at(b, 0);
    uint64_t done = 0;
    while (done < len) {
        uint32_t step = MIN_OF(ka.piece->len - ka.at, kb.piece->len - kb.at);
        step = (uint32_t)MIN_OF(step, len - done);
        const uint8_t *pa = ka.piece->data + ka.at;
        const uint8_t *pb = kb.piece->data + kb.at;
        if (memcmp(pa, pb, step) != 0) {
            uint32_t i = 0;
            while (pa[i] == pb[i]) {
                i++;
            }
            return done + i;
        }
        done += step;
        cursor_step(&ka, step);
        cursor_step(&kb, step);
    }
    return len;
}
