/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loss records: who may have lost unflushed changes of a device, in the volume's metadata. Pure
 * codec; docs/FORMAT.md "Loss records" has the bytes. What is done with them is in loss.c.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/uuid.h"
#include "base/vec.h"
#include <stdbool.h>

#define DEV_KEY_LOSS 0x42
#define DEV_LOSS_KEY_BYTES 17
#define DEV_LOSS_NEXUSES_MAX 128u

struct dev_loss_nexus {
    char *name;
    bool active;       /* attached while there may be unflushed changes */
    bool owed;         /* has to be told of a loss */
    bool alone;        /* nobody else may be told in its place */
    bool told;         /* not stored: it has heard of a loss since the opening */
    uint32_t telling;  /* not stored: attachments that are told of this debt, and have not heard */
    uint64_t until_ns; /* not stored: alone from then on; 0 = nobody has asked yet */
};

struct dev_loss_record {
    uint64_t epoch; /* of the opening that wrote it */
    VEC(struct dev_loss_nexus) nexuses;
};

void dev_loss_key(const struct uuid *device, uint8_t ret_key[DEV_LOSS_KEY_BYTES]);
/* It says something about a loss, and so is written. */
bool dev_loss_is_stored(const struct dev_loss_nexus *n);
/* Only nexuses that are active or owed are written. */
void dev_loss_encode(const struct dev_loss_record *rec, struct bytes_writer *ret_value);
/* 0, ERR_CORRUPT_RECORD, -ENOTSUP for a later version, -ENOMEM. */
MUST int dev_loss_decode(const void *value, size_t len, struct dev_loss_record *ret_record);
void dev_loss_record_free(struct dev_loss_record *rec);
