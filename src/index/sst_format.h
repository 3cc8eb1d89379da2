/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of an SST object (docs/FORMAT.md, "SSTs"): header, data units, filter unit, index unit,
 * footer. Keys stand only inside units, which is what encryption covers.
 */
#pragma once
#include <stdint.h>

#define SST_MAGIC                                                                                  \
    {                                                                                              \
        'Z', 'F', 'S', '-', 'S', 'S', 'T', '1'                                                     \
    }
#define SST_VERSION 1
#define SST_SALT_SIZE 32
#define SST_HEADER_SIZE 96
#define SST_FOOTER_SIZE 64
#define SST_UNIT_HEADER_SIZE 16
#define SST_UNIT_RAW_MAX (32u << 20)
#define SST_TAG_SIZE 16u /* ends the payload of an encrypted unit */

/* A data block is closed before it would grow past this; a single larger entry has a block of its
 * own. */
#define SST_BLOCK_BYTES 16384u
#define SST_RESTART_INTERVAL 16u

enum sst_unit_kind {
    SST_UNIT_DATA = 1,
    SST_UNIT_FILTER = 2,
    SST_UNIT_INDEX = 3,
};

enum sst_codec {
    SST_CODEC_NONE = 0,
    SST_CODEC_LZ4 = 1,
    SST_CODEC_ZSTD = 2, /* reserved */
};

#define SST_FILTER_LINE_SIZE 64u
#define SST_FILTER_TRAILER_SIZE 8u
#define SST_FILTER_VERSION 1
#define SST_FILTER_PROBES 6u
#define SST_FILTER_BITS_PER_KEY 10u
