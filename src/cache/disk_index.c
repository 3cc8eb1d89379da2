/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/disk_index.h"
#include <errno.h>
#include <string.h>

#define WAYS 8u
#define PLACE_BITS 48
#define PLACE_MASK ((1ull << PLACE_BITS) - 1)

int disk_index_create(uint64_t bytes, struct disk_index *ret_index)
{
    uint64_t buckets = 1;
    while (buckets * 2 * WAYS * sizeof(uint64_t) <= bytes) {
        buckets *= 2;
    }
    /* Zeros of the system's own: what is never used takes no memory. */
    uint64_t *slots = calloc(buckets * WAYS, sizeof *slots);
    if (slots == NULL) {
        return -ENOMEM;
    }
    *ret_index = (struct disk_index){slots, buckets};
    return 0;
}

void disk_index_destroy(struct disk_index *x)
{
    free(x->slots);
    x->slots = NULL;
}

void disk_index_clear(struct disk_index *x)
{
    memset(x->slots, 0, x->buckets * WAYS * sizeof *x->slots);
}

/* Buckets by the low bits, tags from the high ones. */
static uint64_t *bucket_of(const struct disk_index *x, uint64_t hash)
{
    return &x->slots[(hash & (x->buckets - 1)) * WAYS];
}

static uint64_t tag_of(uint64_t hash)
{
    return hash >> PLACE_BITS << PLACE_BITS;
}

/* The live slot with the hash's tag, the newest if there are several; NULL for none. */
static uint64_t *slot_find(const struct disk_index *x, uint64_t hash, uint64_t tail)
{
    uint64_t *b = bucket_of(x, hash);
    uint64_t tag = tag_of(hash);
    uint64_t *found = NULL;
    for (unsigned i = 0; i < WAYS; i++) {
        uint64_t place = b[i] & PLACE_MASK;
        if (place != 0 && place >= tail && (b[i] & ~PLACE_MASK) == tag &&
            (found == NULL || place > (*found & PLACE_MASK))) {
            found = &b[i];
        }
    }
    return found;
}

uint64_t disk_index_find(const struct disk_index *x, uint64_t hash, uint64_t tail)
{
    const uint64_t *s = slot_find(x, hash, tail);
    return s != NULL ? *s & PLACE_MASK : 0;
}

void disk_index_put(struct disk_index *x, uint64_t hash, uint64_t place, uint64_t tail)
{
    uint64_t *s = slot_find(x, hash, tail);
    if (s == NULL) {
        uint64_t *b = bucket_of(x, hash);
        s = b;
        for (unsigned i = 1; i < WAYS; i++) {
            s = (b[i] & PLACE_MASK) < (*s & PLACE_MASK) ? &b[i] : s;
        }
    }
    *s = tag_of(hash) | (place & PLACE_MASK);
}

void disk_index_drop(struct disk_index *x, uint64_t hash, uint64_t place)
{
    uint64_t *s = slot_find(x, hash, place);
    if (s != NULL && (*s & PLACE_MASK) == place) {
        *s = 0;
    }
}
