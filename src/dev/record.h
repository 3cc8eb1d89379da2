/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of devices and targets in the volume's metadata: pure codec. docs/FORMAT.md "Device
 * records" has the bytes.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "dev/dev.h"

#define DEV_KEY_DEVICE 0x40
#define DEV_KEY_TARGET 0x41
#define DEV_KEY_MAX (2 + DEV_NAME_MAX + 1 + 4)
#define DEV_VALUE_MAX (64 + DEV_MOVED_MAX)
#define DEV_RECORD_VERSION 5  /* 1 without what an older reader must not ignore */
#define DEV_TARGET_RULED 2    /* of a target that has an access record */
#define DEV_TARGET_CONFINED 3 /* that is not reached through all portal groups; 4: both */

/* Each gives the length. */
size_t dev_record_key(const struct dev_info *info, uint8_t ret_key[DEV_KEY_MAX]);
size_t dev_record_value(const struct dev_info *info, uint8_t ret_value[DEV_VALUE_MAX]);
size_t dev_target_key(const char *iqn, uint8_t ret_key[DEV_KEY_MAX]);
size_t dev_target_value(const struct dev_target_info *info, uint8_t ret_value[DEV_VALUE_MAX]);

struct dev_record_bytes {
    const void *key;
    size_t key_len;
    const void *value;
    size_t value_len;
};
/* 0, ERR_CORRUPT_RECORD, or -ENOTSUP for a record of a later version. Size and clients are not part
 * of it. */
MUST int dev_record_decode(const struct dev_record_bytes *in, struct dev_info *ret_info);
MUST int dev_target_decode(const struct dev_record_bytes *in, struct dev_target_info *ret_info);
