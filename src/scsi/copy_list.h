/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parameter list of EXTENDED COPY(LID1) (SPC-4 6.4): pure decoder. Of the descriptors there
 * are two that we know: E4h, a logical unit by its identification, and 02h, from blocks to blocks.
 *
 *     struct scsi_copy_error e;
 *     if (!scsi_copy_list_decode(bytes, len, list, &e)) { ILLEGAL REQUEST, e.asc, e.byte, e.bit }
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits that RECEIVE COPY OPERATING PARAMETERS and VPD page 8Fh announce. */
#define SCSI_COPY_CSCDS_MAX 16u
#define SCSI_COPY_SEGMENTS_MAX 64u
#define SCSI_COPY_CSCD_BYTES 32u
#define SCSI_COPY_SEGMENT_BYTES 28u /* of a descriptor 02h */
#define SCSI_COPY_HEADER_BYTES 16u
#define SCSI_COPY_HEADER4_BYTES 48u /* of EXTENDED COPY(LID4) */
#define SCSI_COPY_DESCRIPTORS_MAX                                                                  \
    (SCSI_COPY_CSCDS_MAX * SCSI_COPY_CSCD_BYTES + SCSI_COPY_SEGMENTS_MAX * SCSI_COPY_SEGMENT_BYTES)
#define SCSI_COPY_LIST_MAX (SCSI_COPY_HEADER4_BYTES + SCSI_COPY_DESCRIPTORS_MAX)
#define SCSI_COPY_SEGMENT_DATA_MAX (256u << 20) /* more than 65535 blocks of 4 KiB are */
#define SCSI_COPY_TYPE_BLOCKS 0x02
#define SCSI_COPY_TYPE_CSCD 0xe4
#define SCSI_COPY_CSCD_SELF 0xffff /* the unit that the command was sent to */
#define SCSI_COPY_DESIGNATOR_MAX 20u

enum scsi_copy_usage { /* LIST ID USAGE, SPC-4 table 125 */
    SCSI_COPY_HOLD = 0,
    SCSI_COPY_DISCARD = 2,
    SCSI_COPY_NO_ID = 3,
};

struct scsi_copy_cscd {
    bool null; /* stands for no unit at all: obsolete, and so refused */
    uint8_t peripheral;
    uint8_t code_set;
    uint8_t association;
    uint8_t designator_type;
    uint8_t designator_len;
    uint8_t designator[SCSI_COPY_DESIGNATOR_MAX];
    uint32_t block_bytes; /* 0: whatever the unit has */
};

struct scsi_copy_segment {
    uint16_t src; /* index of a CSCD, or SCSI_COPY_CSCD_SELF */
    uint16_t dst;
    bool of_dst; /* DC: blocks are the destination's */
    uint16_t blocks;
    uint64_t src_lba;
    uint64_t dst_lba;
};

struct scsi_copy_list {
    uint32_t id;
    uint8_t usage; /* enum scsi_copy_usage */
    bool immed;
    uint16_t cscd_count;
    uint16_t segment_count;
    struct scsi_copy_cscd cscds[SCSI_COPY_CSCDS_MAX];
    struct scsi_copy_segment segments[SCSI_COPY_SEGMENTS_MAX];
};

struct scsi_copy_error {
    uint16_t asc;
    bool points; /* at this byte of the list, and its bit unless that is -1 */
    uint16_t byte;
    int bit;
};

/* Of EXTENDED COPY(LID1), and of (LID4). False: ret_error says why. */
MUST bool scsi_copy_list_decode(const void *bytes, size_t len, struct scsi_copy_list *ret_list,
                                struct scsi_copy_error *ret_error);
MUST bool scsi_copy_list4_decode(const void *bytes, size_t len, struct scsi_copy_list *ret_list,
                                 struct scsi_copy_error *ret_error);
