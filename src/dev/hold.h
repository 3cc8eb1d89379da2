/* SPDX-License-Identifier: Apache-2.0 */
/* Holds within dev: what an earlier opening has left of them. */
#pragma once
#include "dev/dev_priv.h"

#define DEV_KEY_HOLD 0x4c
#define DEV_HOLD_KEY_BYTES 9

/* Deletes them, if the volume is open for writing. */
MUST int dev_hold_open(struct dev_registry *g) WAITS;
/* Those whose deletion has failed are left to the next opening. */
void dev_hold_close(struct dev_registry *g);
