/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/disk_filter.h"
#include <errno.h>
#include <stdlib.h>

#define TAG_SHIFT 48

int disk_filter_create(uint64_t bytes, struct disk_filter *ret_filter)
{
    uint64_t count = 1;
    while (count * 2 * sizeof(uint16_t) <= bytes) {
        count *= 2;
    }
    uint16_t *slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        return -ENOMEM;
    }
    *ret_filter = (struct disk_filter){slots, count};
    return 0;
}

void disk_filter_destroy(struct disk_filter *f)
{
    free(f->slots);
    f->slots = NULL;
}

bool disk_filter_pass(struct disk_filter *f, uint64_t hash)
{
    uint16_t *slot = &f->slots[hash & (f->count - 1)];
    uint16_t tag = (uint16_t)(hash >> TAG_SHIFT | 1); /* 0 is an empty slot */
    bool known = *slot == tag;
    *slot = known ? 0 : tag;
    return known;
}
