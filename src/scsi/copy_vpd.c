/* SPDX-License-Identifier: Apache-2.0 */
/* Third-party copy VPD page (SPC-4 7.8.17, SBC-3 6.5.8). */
#include "base/endian.h"
#include "scsi/copy_priv.h"
#include "scsi/rod.h"

enum descriptor { /* SPC-4 table 612 */
    BLOCK_ROD_LIMITS = 0x0000,
    COMMANDS = 0x0001,
    PARAMETERS = 0x0004,
    DESCRIPTORS = 0x0008,
    CSCD_IDS = 0x000c,
    ROD_FEATURES = 0x0106,
    ROD_TYPES = 0x0108,
    OPERATIONS = 0x8001,
};

enum { /* of a ROD type descriptor */
    TOKEN_OUT = 0x01,
    TOKEN_IN = 0x02,
};

/* A descriptor with len bytes after its header, padded. */
static uint8_t *descriptor(uint8_t **at, enum descriptor type, uint16_t len)
{
    uint8_t *p = *at;
    len = (uint16_t)((len + 3) & ~3);
    be16_store(p, (uint16_t)type);
    be16_store(p + 2, len);
    *at = p + 4 + len;
    return p + 4;
}

static void put_limits(const struct scsi_lu *lu, uint8_t **at)
{
    uint8_t *d = descriptor(at, BLOCK_ROD_LIMITS, 32);
    be16_store(d + 6, SCSI_ROD_RANGES_MAX);
    be32_store(d + 8, SCSI_ROD_TIMEOUT_MAX_S);
    be32_store(d + 12, SCSI_ROD_TIMEOUT_S);
    be64_store(d + 16, SCSI_ROD_BYTES_MAX >> lu->block_shift);
    be64_store(d + 24, SCSI_ROD_BYTES_OPTIMAL >> lu->block_shift);
}

static void put_commands(uint8_t **at)
{
    static const uint8_t commands[] = {0x83,
                                       5,
                                       SCSI_COPY_LID1,
                                       SCSI_COPY_LID4,
                                       SCSI_COPY_POPULATE,
                                       SCSI_COPY_WRITE,
                                       SCSI_COPY_ABORT,
                                       0x84,
                                       6,
                                       0x00,
                                       0x03,
                                       0x04,
                                       0x05,
                                       0x07,
                                       0x08};
    uint8_t *d = descriptor(at, COMMANDS, 1 + sizeof commands);
    d[0] = sizeof commands;
    memcpy(d + 1, commands, sizeof commands);
}

static void put_lists(uint8_t **at)
{
    static const uint8_t types[] = SCSI_COPY_TYPES;
    uint8_t *d = descriptor(at, PARAMETERS, 28);
    be16_store(d + 4, SCSI_COPY_CSCDS_MAX);
    be16_store(d + 6, SCSI_COPY_SEGMENTS_MAX);
    be32_store(d + 8, SCSI_COPY_DESCRIPTORS_MAX);

    d = descriptor(at, DESCRIPTORS, 1 + sizeof types);
    d[0] = sizeof types;
    memcpy(d + 1, types, sizeof types);

    d = descriptor(at, CSCD_IDS, 4);
    be16_store(d, 2);
    be16_store(d + 2, SCSI_COPY_CSCD_SELF);
}

/* Of other copy managers' tokens nothing is known (REMOTE TOKENS 0). */
static void put_features(uint8_t **at)
{
    uint8_t *d = descriptor(at, ROD_FEATURES, 92);
    be32_store(d + 12, 1);                      /* a token's shortest life, s */
    be32_store(d + 16, UINT32_MAX);             /* and its longest, while it is used */
    be32_store(d + 20, SCSI_ROD_TIMEOUT_MAX_S); /* without being used */
    be16_store(d + 42, 48);
    uint8_t *block = d + 44; /* of block devices: format and type 0 */
    be16_store(block + 2, 44);
    be64_store(block + 8, SCSI_ROD_BYTES_MAX);
    be64_store(block + 16, SCSI_ROD_BYTES_OPTIMAL);
    be64_store(block + 24, SCSI_ROD_BYTES_OPTIMAL);
    be64_store(block + 32, SCSI_ROD_BYTES_OPTIMAL);
}

static void put_types(uint8_t **at)
{
    static const struct {
        uint32_t type;
        uint8_t ways;
        uint8_t preference;
    } types[] = {
        {SCSI_ROD_SNAPSHOT, TOKEN_IN | TOKEN_OUT, 1},
        {SCSI_ROD_SNAPSHOT_ANY, TOKEN_OUT, 2},
        {SCSI_ROD_ZERO, TOKEN_IN, 3},
    };
    uint8_t *d = descriptor(at, ROD_TYPES, 4 + 64 * ARRAY_LEN(types));
    be16_store(d + 2, 64 * ARRAY_LEN(types));
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        uint8_t *p = d + 4 + 64 * i;
        be32_store(p, types[i].type);
        p[4] = types[i].ways;
        be16_store(p + 6, types[i].preference);
    }
}

size_t scsi_copy_vpd_put(const struct scsi_lu *lu, uint8_t *p)
{
    uint8_t *at = p + 4;
    put_limits(lu, &at);
    put_commands(&at);
    put_lists(&at);
    put_features(&at);
    put_types(&at);
    uint8_t *d = descriptor(&at, OPERATIONS, 32);
    be32_store(d, SCSI_COPIES_MAX);
    be32_store(d + 4, SCSI_COPY_IDS_MAX);
    be32_store(d + 8, SCSI_COPY_SEGMENT_DATA_MAX);
    d[12] = 9;
    return (size_t)(at - p);
}
