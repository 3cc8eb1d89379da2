/* SPDX-License-Identifier: Apache-2.0 */
/* Stored reservations within dev: their keys, loading, and what a deletion takes along. */
#pragma once
#include "dev/dev_priv.h"

#define DEV_KEY_RESERVATION 0x43
#define DEV_RESERVATION_KEY_BYTES 18

void dev_reservation_key(const struct uuid *device, unsigned piece,
                         uint8_t ret_key[DEV_RESERVATION_KEY_BYTES]);
/* Devices are loaded: gives each its own; deletes what belongs to none. */
MUST int dev_reservation_open(struct dev_registry *g) WAITS;
MUST int dev_reservation_delete(struct vol_txn *t, const struct uuid *device, unsigned count);
