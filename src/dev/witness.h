/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness: a small file in the cache folder, shared with the page cache, that says of each
 * device in which batch its youngest unflushed change was. It outlives the death of the process
 * (kill -9), not that of the machine: a file from before the last boot is not believed. With it a
 * start after a crash knows exactly whether a device has lost anything (loss.c).
 */
#pragma once
#include "base/attr.h"
#include "base/uuid.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DEV_WITNESS_SLOTS 4096u

struct dev_witness;

/* Whose changes, and since which opening. */
struct dev_witness_scope {
    struct uuid volume;
    uint64_t epoch;
};

/* NULL when there is no path, or the file cannot be had: said in the log, and the start after a
 * crash fears the worst. */
struct dev_witness *dev_witness_open(const char *path);
void dev_witness_close(struct dev_witness *w); /* accepts NULL */
/* True when the file, as the last server left it, shows that no change of the device made in that
 * scope was later than the batch `stored`. */
bool dev_witness_clears(const struct dev_witness *w, const struct dev_witness_scope *scope,
                        const struct uuid *device, uint64_t stored);
/* Forgets what the last server left; from now on slots belong to the scope. */
void dev_witness_begin(struct dev_witness *w, const struct dev_witness_scope *scope);
/* The device's word: the batch of its youngest change. NULL when all slots are taken. */
_Atomic uint64_t *dev_witness_slot(struct dev_witness *w, const struct uuid *device);
