/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock: what a volume is and which features it uses. */
#pragma once
#include "base/attr.h"
#include "base/uuid.h"
#include "obj/obj.h"
#include "vol/vol_format.h"
#include <stdbool.h>
#include <stdint.h>

struct vol_superblock {
    struct uuid uuid;
    uint64_t compatible; /* feature bits; compatible ones may be ignored */
    uint64_t read_only_compatible;
    uint64_t incompatible;
};

void vol_superblock_encode(const struct vol_superblock *sb, uint8_t out[VOL_SUPERBLOCK_BYTES]);
/* 0, ERR_CORRUPT_SUPERBLOCK; ERR_FORMAT_TOO_NEW, also for features that forbid what is wanted.
 * Pure. */
MUST int vol_superblock_decode(const void *bytes, size_t len, bool read_only,
                               struct vol_superblock *ret_sb);
/* As above, or ERR_NOT_A_VOLUME, or the store's error. */
MUST int vol_superblock_read(struct obj_store *store, bool read_only, struct vol_superblock *ret_sb)
    WAITS;
