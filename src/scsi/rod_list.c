/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/rod_list.h"
#include "base/bytes.h"
#include "base/endian.h"
#include "scsi/sense.h"

static bool fail(struct scsi_copy_error *e, uint16_t asc)
{
    *e = (struct scsi_copy_error){.asc = asc};
    return false;
}

static bool fail_field(struct scsi_copy_error *e, size_t byte, int bit)
{
    *e = (struct scsi_copy_error){.asc = SCSI_ASC_INVALID_FIELD_IN_PARAMETERS,
                                  .points = true,
                                  .byte = (uint16_t)byte,
                                  .bit = bit};
    return false;
}

/* The same block twice is refused, in either command. */
static bool are_apart(const struct scsi_rod_range *a, const struct scsi_rod_range *b)
{
    return a->blocks == 0 || b->blocks == 0 ||
           (a->lba < b->lba ? b->lba - a->lba >= a->blocks : a->lba - b->lba >= b->blocks);
}

static bool decode_ranges(struct bytes_reader *in, uint32_t bytes, size_t at,
                          struct scsi_rod_list *ret, struct scsi_copy_error *e)
{
    uint32_t count = bytes / SCSI_ROD_RANGE_BYTES;
    if (count == 0) {
        return fail_field(e, at - 2, 7);
    }
    if (count > SCSI_ROD_RANGES_MAX) {
        return fail(e, SCSI_ASC_TOO_MANY_SEGMENTS);
    }
    ret->blocks = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *p = bytes_take(in, SCSI_ROD_RANGE_BYTES);
        struct scsi_rod_range *r = &ret->ranges[i];
        if (!p) {
            return fail(e, SCSI_ASC_PARAMETER_LIST_LENGTH);
        }
        *r = (struct scsi_rod_range){.lba = be64_load(p), .blocks = be32_load(p + 8)};
        for (uint32_t k = 0; k < i; k++) {
            if (!are_apart(&ret->ranges[k], r)) {
                return fail_field(e, at + (size_t)i * SCSI_ROD_RANGE_BYTES, 7);
            }
        }
        ret->blocks += r->blocks;
    }
    ret->range_count = count;
    return true;
}

/* The list's own length, which may be less than what came, and what it has to be at least. */
static const uint8_t *begin(struct bytes_reader *in, size_t header, struct scsi_copy_error *e)
{
    const uint8_t *p = bytes_take(in, header);
    if (!p) {
        fail(e, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return NULL;
    }
    size_t ranges = be16_load(p + header - 2);
    if (be16_load(p) + (size_t)2 < header + ranges) {
        fail_field(e, 0, 7);
        return NULL;
    }
    return p;
}

bool scsi_rod_populate_decode(const void *bytes, size_t len, struct scsi_rod_list *ret_list,
                              struct scsi_copy_error *ret_error)
{
    struct bytes_reader in = bytes_reader_of(bytes, len);
    const uint8_t *p = begin(&in, SCSI_ROD_POPULATE_HEADER, ret_error);
    if (!p) {
        return false;
    }
    uint32_t timeout = be32_load(p + 4);
    uint32_t type = be32_load(p + 8);
    if (timeout > SCSI_ROD_TIMEOUT_MAX_S) {
        return fail_field(ret_error, 4, 7);
    }
    bool typed = p[2] & 0x02; /* RTV */
    if (typed && type != SCSI_ROD_SNAPSHOT && type != SCSI_ROD_SNAPSHOT_ANY) {
        return fail_field(ret_error, 8, 7);
    }
    ret_list->immed = p[2] & 0x01;
    ret_list->delete_token = false;
    ret_list->timeout_s = timeout ? timeout : SCSI_ROD_TIMEOUT_S;
    ret_list->offset = 0;
    return decode_ranges(&in, be16_load(p + 14), SCSI_ROD_POPULATE_HEADER, ret_list, ret_error);
}

bool scsi_rod_write_decode(const void *bytes, size_t len, struct scsi_rod_list *ret_list,
                           struct scsi_copy_error *ret_error)
{
    struct bytes_reader in = bytes_reader_of(bytes, len);
    const uint8_t *p = begin(&in, SCSI_ROD_WRITE_HEADER, ret_error);
    if (!p) {
        return false;
    }
    ret_list->immed = p[2] & 0x01;
    ret_list->delete_token = p[2] & 0x02;
    ret_list->timeout_s = 0;
    ret_list->offset = be64_load(p + 8);
    memcpy(ret_list->token, p + 16, sizeof ret_list->token);
    return decode_ranges(&in, be16_load(p + 534), SCSI_ROD_WRITE_HEADER, ret_list, ret_error);
}
