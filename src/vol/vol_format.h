/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes that the volume keeps: superblock, keys of the index, records of a batch.
 * docs/FORMAT.md has the layouts in full; numbers here are never changed and never given a second
 * meaning.
 */
#pragma once
#include <stdint.h>

#define VOL_SUPERBLOCK_NAME "superblock"
#define VOL_SUPERBLOCK_BYTES 512u
#define VOL_SUPERBLOCK_MAGIC "ZEROFSSB"
#define VOL_SUPERBLOCK_MAGIC_LEN 8
#define VOL_FORMAT_VERSION 1u
#define VOL_KEYS_PREFIX "keys/"
/* Feature bits that this version knows. */
#define VOL_FEATURES_COMPATIBLE 0ull
#define VOL_FEATURES_READ_ONLY_COMPATIBLE 0ull
#define VOL_FEATURE_ENCRYPTED 1ull
#define VOL_FEATURES_INCOMPATIBLE VOL_FEATURE_ENCRYPTED

/* First byte of an index key; numbers in keys are big-endian. */
enum vol_key_kind {
    VOL_KEY_COUNTERS = 0x01,   /* -> next id */
    VOL_KEY_INODE = 0x02,      /* be64 inode -> attributes and layers */
    VOL_KEY_PAGE = 0x03,       /* be64 layer, be64 page -> page map */
    VOL_KEY_HOLE = 0x04,       /* be64 layer, be64 batch, be64 first page -> range hole */
    VOL_KEY_SEGMENT = 0x05,    /* be64 seq -> live block references */
    VOL_KEY_BACKREF = 0x06,    /* be64 seq, be32 frame offset, be64 layer, be64 page -> 1 */
    VOL_KEY_CHECKPOINT = 0x07, /* reserved */
};
#define VOL_KEY_SIZE 32 /* more than any of vol's own keys */

/* A record of a batch: varint kind, varint length, body. An unknown kind is ERR_FORMAT_TOO_NEW. */
enum vol_record_kind {
    VOL_RECORD_PAGE = 1,
    VOL_RECORD_HOLE = 2,
    VOL_RECORD_PUT = 3,
    VOL_RECORD_DELETE = 4,
    VOL_RECORD_REAP = 5,
    VOL_RECORD_GONE = 6,
    VOL_RECORD_COPY = 7, /* PAGE with runs that are STORED */
};

/* Kinds of a run, in page maps and in PAGE records. */
enum vol_run_kind {
    VOL_RUN_DATA = 0,
    VOL_RUN_ZERO = 1,     /* allocated, reads as zeros */
    VOL_RUN_HOLE = 2,     /* masks the layers below */
    VOL_RUN_ANCHORED = 3, /* as ZERO, anchored (SBC-4) */
    VOL_RUN_BAD = 4,      /* maps only: what was here is lost */
    VOL_RUN_NONE = 5,   /* records only: nothing is here any more; the layers below show through */
    VOL_RUN_STORED = 6, /* records only: data in a frame of an earlier segment */
};

/* Live count of a segment whose count went wrong: it is never deleted. */
#define VOL_LIVE_UNKNOWN UINT64_MAX
#define VOL_MAP_VERSION 1u
#define VOL_INODE_VERSION 1u
#define VOL_HOLE_MASKS 1u /* flag of a range hole: hides the layers below as well */
