/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the disk cache was offered lately and did not take: a table of fixed size in RAM, which
 * holds 15 bits of a hash in the slot that other bits of it choose. Whatever is noted overwrites
 * what its slot had, so a miss is forgotten after about as many others as there are slots: nothing
 * is counted, aged or cleared. Once in 32,768 times a key is taken for another, which costs a
 * write. The caller has a mutex.
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stdint.h>

struct disk_filter {
    uint16_t *slots;
    uint64_t count; /* a power of two */
};

MUST int disk_filter_create(uint64_t bytes, struct disk_filter *ret_filter);
void disk_filter_destroy(struct disk_filter *f);
/* True when it is remembered, and then is no more; else it is from now on. */
bool disk_filter_pass(struct disk_filter *f, uint64_t hash);
