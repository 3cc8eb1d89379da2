/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the disk cache's file, and nothing else. docs/FORMAT.md, "Disk cache", is the text
 * to this. All integers are little-endian.
 *
 *     header | region | region | ...
 *     region = mark | entries (mark, bytes, padding) ... | directory | mark
 */
#pragma once

#define DISK_VERSION 1
#define DISK_MAGIC 0x434453464f52455aull /* ZEROFSDC */
#define DISK_HEADER_BYTES 4096u
enum {
    DISK_HEADER_AT_MAGIC = 0,         /* 8 */
    DISK_HEADER_AT_VERSION = 8,       /* 4 */
    DISK_HEADER_AT_REGION_BYTES = 12, /* 4 */
    DISK_HEADER_AT_REGIONS = 16,      /* 8 */
    DISK_HEADER_AT_VOLUME = 24,       /* 16 */
    DISK_HEADER_AT_OPEN_ID = 40,      /* 16 */
    DISK_HEADER_AT_FILE_ID = 56,      /* 8 */
    DISK_HEADER_AT_LIMIT = 64,        /* 8 */
    DISK_HEADER_AT_CRC = 72,          /* 4, over all before */
};

/* Everything in a region starts at a multiple of it. */
#define DISK_UNIT 64u
/* Mark: what stands before a region, an entry, and at a region's end. */
#define DISK_MARK_BYTES 64u
enum {
    DISK_MARK_AT_KIND = 0,     /* 4 */
    DISK_MARK_AT_SMALL = 4,    /* 4; entry: length of its bytes; end: entries in the directory */
    DISK_MARK_AT_X = 8,        /* 8; region, end: number of the region; entry: object */
    DISK_MARK_AT_Y = 16,       /* 8; entry: offset; end: directory's place in the region */
    DISK_MARK_AT_Z = 24,       /* 8; entry: its place in units; end: CRC of the directory */
    DISK_MARK_AT_FILE_ID = 32, /* 8 */
    DISK_MARK_AT_RESERVED = 40,
    DISK_MARK_AT_CRC = 60, /* 4, over all before */
};
#define DISK_KIND_REGION 0x4752465au
#define DISK_KIND_ENTRY 0x4e45465au
#define DISK_KIND_END 0x444e465au

/* Directory: one record an entry. */
#define DISK_RECORD_BYTES 24u
enum {
    DISK_RECORD_AT_OBJECT = 0, /* 8 */
    DISK_RECORD_AT_OFFSET = 8, /* 8 */
    DISK_RECORD_AT_PLACE = 16, /* 4, in the region, in units */
    DISK_RECORD_AT_LEN = 20,   /* 4 */
};
