/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parameter lists of POPULATE TOKEN (SBC-3 5.11) and WRITE USING TOKEN (SBC-3 5.54): pure
 * codec.
 */
#pragma once
#include "base/attr.h"
#include "scsi/copy_list.h"

#define SCSI_ROD_TOKEN_BYTES 512u
#define SCSI_ROD_TOKEN_LENGTH 0x1f8u /* as its field says it: without the first 8 bytes */
#define SCSI_ROD_RANGES_MAX 64u
#define SCSI_ROD_RANGE_BYTES 16u
#define SCSI_ROD_POPULATE_HEADER 16u
#define SCSI_ROD_WRITE_HEADER 536u
#define SCSI_ROD_LIST_MAX 16384u /* more than SCSI_ROD_RANGES_MAX, so that they can be told */
#define SCSI_ROD_TIMEOUT_MAX_S 600u
#define SCSI_ROD_TIMEOUT_S 60u

/* ROD types, SPC-4 table 112 and SBC-3 table 9. */
#define SCSI_ROD_SNAPSHOT 0x00800000u     /* point in time copy, default */
#define SCSI_ROD_SNAPSHOT_ANY 0x0080ffffu /* point in time copy of any kind */
#define SCSI_ROD_ZERO 0xffff0001u         /* block device zero */

struct scsi_rod_range {
    uint64_t lba;
    uint32_t blocks;
};

struct scsi_rod_list {
    bool immed;
    bool delete_token;
    uint32_t timeout_s; /* as it is to be */
    uint64_t offset;    /* into what the token stands for, in blocks */
    uint8_t token[SCSI_ROD_TOKEN_BYTES];
    uint32_t range_count;
    struct scsi_rod_range ranges[SCSI_ROD_RANGES_MAX];
    uint64_t blocks; /* of all ranges */
};

/* False: ret_error says why. Ranges that overlap each other are refused. */
MUST bool scsi_rod_populate_decode(const void *bytes, size_t len, struct scsi_rod_list *ret_list,
                                   struct scsi_copy_error *ret_error);
MUST bool scsi_rod_write_decode(const void *bytes, size_t len, struct scsi_rod_list *ret_list,
                                struct scsi_copy_error *ret_error);
