/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last part of a sanitizing that overwrites: the pattern on the whole medium, once or several
 * times. docs/FORMAT.md "Overwriting" has the record, which says what is to be written and how far
 * that is.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "dev/dev.h"

#define DEV_KEY_OVERWRITE 0x44
#define DEV_OVERWRITE_KEY_BYTES 17
#define DEV_OVERWRITE_PASSES_MAX 31
#define DEV_OVERWRITE_PATTERN_MAX 4096

struct dev_overwrite {
    bool invert;
    uint8_t passes;    /* 1 to 31 */
    uint8_t pass;      /* the one that is under way; 0: what there was is being removed */
    uint64_t done;     /* bytes of that pass */
    uint16_t len;      /* of the pattern */
    uint8_t pattern[]; /* again and again in each logical block */
};

void dev_overwrite_key(const struct uuid *device, uint8_t ret_key[DEV_OVERWRITE_KEY_BYTES]);
void dev_overwrite_encode(const struct dev_overwrite *o, struct bytes_writer *w);
/* 0, ERR_CORRUPT_RECORD, -ENOTSUP for a later version's, -ENOMEM; to be freed. */
MUST int dev_overwrite_decode(const void *value, size_t len, struct dev_overwrite **ret);
/* *ret is NULL when nothing is to be overwritten. */
MUST int dev_overwrite_new(const struct dev_sanitize_options *opt, uint32_t block_bytes,
                           struct dev_overwrite **ret);

struct dev;
struct dev_registry;
struct vol_txn;
/* Those there are, to their devices: at an opening. */
MUST int dev_overwrite_open(struct dev_registry *g) WAITS;
/* The device's record becomes that one, or goes (NULL). */
MUST int dev_overwrite_put(struct vol_txn *t, const struct dev *d, const struct dev_overwrite *o);
/*
 * All that is left of the passes. What was there before has been removed, and nobody else changes
 * the device. 0, -ENODEV, -ECANCELED, and what the volume says.
 */
MUST int dev_overwrite_run(struct dev *d) WAITS;
