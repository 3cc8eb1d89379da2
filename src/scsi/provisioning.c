/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UNMAP (SBC-3 5.28) and WRITE SAME (5.41, 5.42): ranges that need no data. What is unmapped reads
 * as zeros (LBPRZ = 1), whole volume blocks of it are given back, and any length is done at once.
 */
#include "base/endian.h"
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include "scsi/vpd.h"

#define UNMAP_HEADER 8
#define UNMAP_DESCRIPTOR 16
#define PATTERN_BYTES (64u << 10)
#define CHUNK_BYTES (1u << 20)

void scsi_unmap_parse(struct scsi_task *t)
{
    if (t->data_len != 0 && t->data_len < UNMAP_HEADER) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
}

static void load_descriptor(struct scsi_task *t, size_t i)
{
    uint8_t d[UNMAP_DESCRIPTOR];
    rt_chain_copy_out(&t->data_out, UNMAP_HEADER + i * UNMAP_DESCRIPTOR, d, sizeof d);
    t->lba = be64_load(d);
    t->blocks = be32_load(d + 8);
}

/* The count of descriptors, all within the unit; false when the task has failed. */
static bool unmap_check(struct scsi_task *t, size_t *ret_count)
{
    uint8_t header[UNMAP_HEADER];
    if (scsi_parameters(t, header, sizeof header) < sizeof header) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    size_t bytes = be16_load(header + 2);
    if (bytes > t->data_out.len - UNMAP_HEADER) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    size_t count = bytes / UNMAP_DESCRIPTOR;
    if (count > SCSI_UNMAP_DESCRIPTORS_MAX) {
        scsi_fail_parameter(t, 2, 7);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        load_descriptor(t, i);
        if (!scsi_range_check(t)) {
            return false;
        }
    }
    *ret_count = count;
    return true;
}

void scsi_unmap_run(struct scsi_task *t)
{
    size_t count;
    if (t->data_len == 0 || !unmap_check(t, &count)) {
        return;
    }
    unsigned flags = t->cdb[1] & 0x01 ? DEV_ANCHOR : 0;
    for (size_t i = 0; i < count; i++) {
        load_descriptor(t, i);
        if (t->blocks == 0) {
            continue;
        }
        int r = dev_zero(t->lu->dev, scsi_offset(t), scsi_length(t), flags);
        if (r < 0) {
            scsi_fail_errno(t, r);
            return;
        }
    }
}

static bool no_data_out(const struct scsi_task *t)
{
    return t->command->cdb_len == 16 && (t->cdb[1] & 0x01); /* NDOB */
}

/* WSNZ: no blocks is no length, or all up to the end, which there has to be something of. */
static bool same_length(struct scsi_task *t)
{
    if (t->lu->same_to_end) {
        uint64_t left = scsi_lu_blocks(t->lu) - t->lba;
        if (t->blocks == 0 && left == 0) {
            scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
        }
        t->blocks = t->blocks ? t->blocks : left;
        return left > 0;
    }
    if (t->blocks == 0) {
        scsi_fail_cdb(t, t->command->cdb_len == 10 ? 7 : 10, 7);
        return false;
    }
    return scsi_limit_check(t, SCSI_WRITE_SAME_MAX);
}

void scsi_write_same_parse(struct scsi_task *t)
{
    bool unmap = t->cdb[1] & 0x08;
    bool anchor = t->cdb[1] & 0x10;
    scsi_range_load(t);
    if (!scsi_protect_check(t)) {
        return;
    }
    if (anchor && !unmap) {
        scsi_fail_cdb(t, 1, 4);
        return;
    }
    if (t->cdb[1] & 0x06) {
        scsi_fail_cdb(t, 1, 2); /* PBDATA, LBDATA: obsolete */
        return;
    }
    if (!scsi_range_check(t) || !same_length(t)) {
        return;
    }
    if (no_data_out(t)) {
        t->dir = SCSI_DIR_NONE;
        return;
    }
    t->data_len = t->lu->block_bytes;
    (void)scsi_exact_check(t, t->command->cdb_len == 10 ? 7 : 10);
}

static bool is_zero(const struct rt_chain *c)
{
    const struct rt_piece *piece = rt_chain_pieces(c);
    for (uint32_t i = 0; i < c->count; i++) {
        for (uint32_t done = 0; done < piece[i].len;) {
            uint32_t part = (uint32_t)MIN_OF(piece[i].len - done, sizeof rt_zeros);
            if (memcmp(piece[i].data + done, rt_zeros, part) != 0) {
                return false;
            }
            done += part;
        }
    }
    return true;
}

/* A buffer full of the block that data-out holds. */
static int pattern_of(const struct scsi_task *t, struct rt_buf **ret_buf)
{
    uint32_t block = t->lu->block_bytes;
    struct rt_buf *b;
    int r = rt_buf_alloc(PATTERN_BYTES, RT_MEM_DIRTY, &b);
    if (r < 0) {
        return r;
    }
    rt_chain_copy_out(&t->data_out, 0, b->data, block);
    for (uint32_t at = block; at < PATTERN_BYTES; at += block) {
        memcpy(b->data + at, b->data, block);
    }
    *ret_buf = b;
    return 0;
}

static int write_chunk(struct scsi_task *t, struct rt_buf *pattern, uint64_t off, uint64_t len)
{
    struct rt_chain chunk = {0};
    int r = 0;
    for (uint64_t done = 0; done < len && r >= 0; done += PATTERN_BYTES) {
        uint32_t part = (uint32_t)MIN_OF(len - done, PATTERN_BYTES);
        r = rt_chain_add(&chunk, pattern, pattern->data, part);
    }
    if (r >= 0) {
        r = dev_write(t->lu->dev, off, &chunk, 0, NULL);
    }
    rt_chain_free(&chunk);
    return r;
}

/* The block again and again, in bounded writes. */
static int write_pattern(struct scsi_task *t)
{
    struct rt_buf *pattern;
    int r = pattern_of(t, &pattern);
    if (r < 0) {
        return r;
    }
    uint64_t len = scsi_length(t);
    for (uint64_t done = 0; done < len && r >= 0 && !scsi_task_is_aborted(t);) {
        uint64_t part = MIN_OF(len - done, CHUNK_BYTES);
        r = write_chunk(t, pattern, scsi_offset(t) + done, part);
        done += part;
    }
    rt_buf_unref(pattern);
    return r;
}

void scsi_write_same_run(struct scsi_task *t)
{
    bool unmap = t->cdb[1] & 0x08;
    bool anchor = t->cdb[1] & 0x10;
    int r;
    if (!no_data_out(t) && t->data_out.len < t->data_len) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_COMMAND_IU);
        return;
    }
    /* This one block's space is not what the writes take: give it back, or they may wait for it. */
    vol_space_release(dev_volume(t->lu->dev), &t->space);
    if (no_data_out(t) || is_zero(&t->data_out)) {
        unsigned flags = anchor ? DEV_ANCHOR : 0;
        if (!unmap) {
            flags = DEV_NO_HOLE;
        }
        r = dev_zero(t->lu->dev, scsi_offset(t), scsi_length(t), flags);
    } else {
        r = write_pattern(t);
    }
    if (r < 0) {
        scsi_fail_errno(t, r);
    }
}
