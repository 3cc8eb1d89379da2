/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the disk cache's entries are: a table of fixed size in RAM, from the hash of a key to a
 * place (in units, from 1 on, rising for ever). Buckets of eight; a full one loses its oldest. It
 * remembers 16 bits of the hash: what is found is a guess, which the entry's own mark settles.
 * Places below the tail are gone, without anybody clearing them. The caller has a mutex.
 */
#pragma once
#include "base/attr.h"
#include <stdint.h>

struct disk_index {
    uint64_t *slots;
    uint64_t buckets; /* a power of two */
};

MUST int disk_index_create(uint64_t bytes, struct disk_index *ret_index);
void disk_index_destroy(struct disk_index *x);
void disk_index_clear(struct disk_index *x);
/* 0 when there is none. */
uint64_t disk_index_find(const struct disk_index *x, uint64_t hash, uint64_t tail);
void disk_index_put(struct disk_index *x, uint64_t hash, uint64_t place, uint64_t tail);
/* Takes it out if it still says this place. */
void disk_index_drop(struct disk_index *x, uint64_t hash, uint64_t place);
