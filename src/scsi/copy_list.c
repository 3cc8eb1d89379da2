/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi/copy_list.h"
#include "base/bytes.h"
#include "base/endian.h"
#include "scsi/sense.h"

static bool fail(struct scsi_copy_error *e, uint16_t asc)
{
    *e = (struct scsi_copy_error){.asc = asc};
    return false;
}

static bool fail_at(struct scsi_copy_error *e, uint16_t asc, size_t byte, int bit)
{
    *e = (struct scsi_copy_error){.asc = asc, .points = true, .byte = (uint16_t)byte, .bit = bit};
    return false;
}

static bool fail_field(struct scsi_copy_error *e, size_t byte, int bit)
{
    return fail_at(e, SCSI_ASC_INVALID_FIELD_IN_PARAMETERS, byte, bit);
}

/* Identification descriptor CSCD, SPC-4 6.4.5.2, where LU ID TYPE is ignored; at: where it begins.
 */
static bool decode_cscd(const uint8_t *p, size_t at, struct scsi_copy_cscd *ret,
                        struct scsi_copy_error *e)
{
    if (p[0] != SCSI_COPY_TYPE_CSCD) {
        return fail_at(e, SCSI_ASC_UNSUPPORTED_CSCD, at, 7);
    }
    if (p[7] > SCSI_COPY_DESIGNATOR_MAX) {
        return fail_field(e, at + 7, 7);
    }
    *ret = (struct scsi_copy_cscd){.null = p[1] & 0x20,
                                   .peripheral = p[1] & 0x1f,
                                   .code_set = p[4] & 0x0f,
                                   .association = p[5] >> 4 & 3,
                                   .designator_type = p[5] & 0x0f,
                                   .designator_len = p[7],
                                   .block_bytes = be24_load(p + 29)};
    memcpy(ret->designator, p + 8, sizeof ret->designator);
    return true;
}

/* Block device to block device, SPC-4 6.4.6.5. */
static bool decode_segment(const uint8_t *p, size_t at, struct scsi_copy_segment *ret,
                           struct scsi_copy_error *e)
{
    if (p[1] & 0xfc) {
        return fail_field(e, at + 1, 7); /* FCO, which we do not know, among them */
    }
    *ret = (struct scsi_copy_segment){.src = be16_load(p + 4),
                                      .dst = be16_load(p + 6),
                                      .of_dst = p[1] & 0x02,
                                      .blocks = be16_load(p + 10),
                                      .src_lba = be64_load(p + 12),
                                      .dst_lba = be64_load(p + 20)};
    return true;
}

static bool decode_segments(struct bytes_reader *in, const uint8_t *begin,
                            struct scsi_copy_list *ret, struct scsi_copy_error *e)
{
    while (bytes_left(in) > 0) {
        size_t at = (size_t)(in->at - begin);
        const uint8_t *header = bytes_take(in, 4);
        if (!header) {
            return fail(e, SCSI_ASC_PARAMETER_LIST_LENGTH);
        }
        if (ret->segment_count == SCSI_COPY_SEGMENTS_MAX) {
            return fail(e, SCSI_ASC_TOO_MANY_SEGMENTS);
        }
        if (header[0] != SCSI_COPY_TYPE_BLOCKS) {
            return fail_at(e, SCSI_ASC_UNSUPPORTED_SEGMENT, at, 7);
        }
        if (be16_load(header + 2) != SCSI_COPY_SEGMENT_BYTES - 4) {
            return fail_field(e, at + 2, 7);
        }
        if (!bytes_take(in, SCSI_COPY_SEGMENT_BYTES - 4)) {
            return fail(e, SCSI_ASC_PARAMETER_LIST_LENGTH);
        }
        if (!decode_segment(header, at, &ret->segments[ret->segment_count++], e)) {
            return false;
        }
    }
    return true;
}

static bool check_usage(const struct scsi_copy_list *list, size_t id_at, struct scsi_copy_error *e)
{
    if (list->usage == 1) {
        return fail_field(e, 1, 4);
    }
    if (list->usage == SCSI_COPY_NO_ID && list->id != 0) {
        return fail_field(e, id_at, 7);
    }
    return true;
}

/* How long the parts are, that follow the header. */
struct parts {
    uint32_t cscds;
    uint32_t segments;
    uint32_t inlined;
};

static bool decode_parts(struct bytes_reader *in, const uint8_t *begin, const struct parts *parts,
                         struct scsi_copy_list *ret, struct scsi_copy_error *e)
{
    if (parts->inlined > 0) {
        return fail(e, SCSI_ASC_INLINE_DATA_LENGTH);
    }
    if (parts->segments > SCSI_COPY_DESCRIPTORS_MAX ||
        parts->cscds + parts->segments > SCSI_COPY_DESCRIPTORS_MAX ||
        parts->cscds + parts->segments > bytes_left(in) ||
        parts->cscds % SCSI_COPY_CSCD_BYTES != 0) {
        return fail(e, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
    uint32_t cscds = parts->cscds / SCSI_COPY_CSCD_BYTES;
    if (cscds > SCSI_COPY_CSCDS_MAX) {
        return fail(e, SCSI_ASC_TOO_MANY_CSCDS);
    }
    for (; ret->cscd_count < cscds; ret->cscd_count++) {
        size_t at = (size_t)(in->at - begin);
        const uint8_t *cscd = bytes_take(in, SCSI_COPY_CSCD_BYTES);
        if (!cscd || !decode_cscd(cscd, at, &ret->cscds[ret->cscd_count], e)) {
            return false;
        }
    }
    struct bytes_reader segments = bytes_reader_of(in->at, parts->segments);
    return decode_segments(&segments, begin, ret, e);
}

bool scsi_copy_list_decode(const void *bytes, size_t len, struct scsi_copy_list *ret_list,
                           struct scsi_copy_error *ret_error)
{
    struct bytes_reader in = bytes_reader_of(bytes, len);
    const uint8_t *p = bytes_take(&in, SCSI_COPY_HEADER_BYTES);
    if (!p) {
        return fail(ret_error, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
    ret_list->cscd_count = 0;
    ret_list->segment_count = 0;
    ret_list->immed = false;
    ret_list->id = p[0];
    ret_list->usage = p[1] >> 3 & 3;
    struct parts parts = {be16_load(p + 2), be32_load(p + 8), be32_load(p + 12)};
    return check_usage(ret_list, 0, ret_error) && decode_parts(&in, p, &parts, ret_list, ret_error);
}

/* SPC-4 6.4.4: the header is an extended CSCD descriptor of no CSCD. */
static bool check_header4(const uint8_t *p, const struct scsi_copy_list *list,
                          struct scsi_copy_error *e)
{
    if (p[0] != 1) {
        return fail_field(e, 0, 7); /* PARAMETER LIST FORMAT */
    }
    if (be16_load(p + 2) != SCSI_COPY_CSCD_BYTES) {
        return fail_field(e, 2, 7);
    }
    if (p[15] & 0x02) {
        return fail_field(e, 15, 1); /* G_SENSE: GOOD comes without sense data */
    }
    if (p[16] != 0xff) {
        return fail_field(e, 16, 7);
    }
    if (list->immed && list->usage == SCSI_COPY_NO_ID) {
        return fail_field(e, 15, 0); /* nobody could ask what became of it */
    }
    return check_usage(list, 20, e);
}

bool scsi_copy_list4_decode(const void *bytes, size_t len, struct scsi_copy_list *ret_list,
                            struct scsi_copy_error *ret_error)
{
    struct bytes_reader in = bytes_reader_of(bytes, len);
    const uint8_t *p = bytes_take(&in, SCSI_COPY_HEADER4_BYTES);
    if (!p) {
        return fail(ret_error, SCSI_ASC_PARAMETER_LIST_LENGTH);
    }
    ret_list->cscd_count = 0;
    ret_list->segment_count = 0;
    ret_list->usage = p[1] >> 3 & 3;
    ret_list->immed = p[15] & 0x01;
    ret_list->id = be32_load(p + 20);
    struct parts parts = {be16_load(p + 42), be16_load(p + 44), be16_load(p + 46)};
    return check_header4(p, ret_list, ret_error) &&
           decode_parts(&in, p, &parts, ret_list, ret_error);
}
