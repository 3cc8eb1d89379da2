/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a segment, and nothing else. docs/FORMAT.md, "Segments", is the text to this. All
 * integers are little-endian, offsets count from the start of the object.
 *
 *     header | frames and records of each batch | directory | footer
 */
#pragma once

#define SEGMENT_VERSION 1
#define SEGMENT_BYTES_MAX (1u << 30)

enum segment_kind {
    SEGMENT_DATA = 1,
    SEGMENT_FENCE = 2,
};

#define SEGMENT_SALT_BYTES 32
#define SEGMENT_DIGEST_BYTES 32

#define SEGMENT_MAGIC_LEN 8
#define SEGMENT_TAG_BYTES 16

/* Header. */
#define SEGMENT_HEADER_MAGIC "ZEROFSLG"
#define SEGMENT_HEADER_BYTES 160
enum {
    SEGMENT_HEADER_AT_MAGIC = 0,
    SEGMENT_HEADER_AT_VERSION = 8,         /* 2 */
    SEGMENT_HEADER_AT_KIND = 10,           /* 1 */
    SEGMENT_HEADER_AT_ENCRYPTION = 11,     /* 1, enum crypt_cipher */
    SEGMENT_HEADER_AT_INCOMPATIBLE = 12,   /* 4, feature bits */
    SEGMENT_HEADER_AT_COMPATIBLE = 16,     /* 4, feature bits */
    SEGMENT_HEADER_AT_KEY_ID = 20,         /* 4 */
    SEGMENT_HEADER_AT_VOLUME = 24,         /* 16 */
    SEGMENT_HEADER_AT_SEQ = 40,            /* 8 */
    SEGMENT_HEADER_AT_EPOCH = 48,          /* 8 */
    SEGMENT_HEADER_AT_OPEN_ID = 56,        /* 16 */
    SEGMENT_HEADER_AT_STORED_THROUGH = 72, /* 8 */
    SEGMENT_HEADER_AT_RESUME = 80,         /* 8, of a fence; else 0 */
    SEGMENT_HEADER_AT_SALT = 88,           /* 32 */
    SEGMENT_HEADER_AT_TAG = 120,           /* 16, over the bytes before; zero without encryption */
    SEGMENT_HEADER_AT_RESERVED = 136,      /* 20, zero */
    SEGMENT_HEADER_AT_CRC = 156,           /* 4 */
};

/* Unit: what stands before the stored bytes of a frame, a record block, the directory. With
 * encryption the stored bytes end with the tag, and there is no checksum. */
#define SEGMENT_UNIT_BYTES 16
enum segment_unit {
    SEGMENT_UNIT_FRAME = 1,
    SEGMENT_UNIT_RECORDS = 2,
    SEGMENT_UNIT_DIRECTORY = 3,
};
enum {
    SEGMENT_UNIT_AT_CRC = 0,        /* 4, over the place and all that follows; or zero */
    SEGMENT_UNIT_AT_KIND = 4,       /* 1 */
    SEGMENT_UNIT_AT_CODEC = 5,      /* 1 */
    SEGMENT_UNIT_AT_KEY_ID = 6,     /* 2 */
    SEGMENT_UNIT_AT_STORED_LEN = 8, /* 4, without these 16 */
    SEGMENT_UNIT_AT_RAW_LEN = 12,   /* 4 */
};

/* Place: goes into every checksum and tag; itself not stored. */
#define SEGMENT_PLACE_BYTES 32
enum {
    SEGMENT_PLACE_AT_VOLUME = 0,  /* 16 */
    SEGMENT_PLACE_AT_SEQ = 16,    /* 8 */
    SEGMENT_PLACE_AT_OFFSET = 24, /* 4 */
    SEGMENT_PLACE_AT_LEN = 28,    /* 4, with the 16 bytes of the unit */
};

/* Directory: batch entries, then the frame entries of all batches in order. */
#define SEGMENT_BATCH_BYTES 32
enum {
    SEGMENT_BATCH_AT_NUMBER = 0,       /* 8 */
    SEGMENT_BATCH_AT_RECORDS = 8,      /* 4, offset; 0 when there are none */
    SEGMENT_BATCH_AT_RECORDS_LEN = 12, /* 4, with the 16 bytes of the unit */
    SEGMENT_BATCH_AT_RECORDS_CRC = 16, /* 4 */
    SEGMENT_BATCH_AT_FRAME_COUNT = 20, /* 4 */
    SEGMENT_BATCH_AT_RESERVED = 24,    /* 8, zero */
};
#define SEGMENT_FRAME_BYTES 32
enum {
    SEGMENT_FRAME_AT_LAYER = 0,     /* 8 */
    SEGMENT_FRAME_AT_PAGE = 8,      /* 8 */
    SEGMENT_FRAME_AT_OFFSET = 16,   /* 4 */
    SEGMENT_FRAME_AT_LEN = 20,      /* 4, with the 16 bytes of the unit */
    SEGMENT_FRAME_AT_CRC = 24,      /* 4 */
    SEGMENT_FRAME_AT_FIRST = 28,    /* 1 */
    SEGMENT_FRAME_AT_COUNT = 29,    /* 1 */
    SEGMENT_FRAME_AT_RESERVED = 30, /* 2, zero */
};

/* Footer. */
/* The bytes that the directory's tag covers besides. */
#define SEGMENT_FOOTER_SEALED_AT 8
#define SEGMENT_FOOTER_SEALED_BYTES 32
#define SEGMENT_FOOTER_MAGIC "ZEROFSLF"
#define SEGMENT_FOOTER_BYTES 80
enum {
    SEGMENT_FOOTER_AT_MAGIC = 0,
    SEGMENT_FOOTER_AT_DIRECTORY = 8,      /* 4, offset */
    SEGMENT_FOOTER_AT_DIRECTORY_LEN = 12, /* 4, with the 16 bytes of the unit; 0 in a fence */
    SEGMENT_FOOTER_AT_BATCH_COUNT = 16,   /* 4 */
    SEGMENT_FOOTER_AT_FRAME_COUNT = 20,   /* 4 */
    SEGMENT_FOOTER_AT_OBJECT_LEN = 24,    /* 8 */
    SEGMENT_FOOTER_AT_SEQ = 32,           /* 8 */
    SEGMENT_FOOTER_AT_DIGEST = 40,        /* 32, SHA-256 */
    SEGMENT_FOOTER_AT_RESERVED = 72,      /* 4, zero */
    SEGMENT_FOOTER_AT_CRC = 76,           /* 4 */
};
