/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoded page maps in RAM, over the index: what the hot read path asks. Bounded in bytes; sharded;
 * an absent map is cached too.
 *
 * C1. An entry says what the index says. Apply changes the entry (or drops it) after the index took
 * the batch, in the order of batches. C2. A reader that loads a map from the index takes the
 * shard's ticket before, and the map enters only if the ticket is still good: apply has changed
 * nothing in that shard meanwhile. So an old map never replaces a newer one.
 */
#pragma once
#include "base/attr.h"
#include "vol/page_map.h"
#include <stdbool.h>

struct vol_map_cache;

MUST int vol_map_cache_create(uint64_t capacity_bytes, struct vol_map_cache **ret_cache);
void vol_map_cache_destroy(struct vol_map_cache *c); /* accepts NULL */

/* Work on many pages says some steps before which ones come: first their bucket, then the entry. */
void vol_map_cache_hint(struct vol_map_cache *c, uint64_t layer, uint64_t page, bool entry);
/* True on a hit; the map of a page that has none has count 0. */
MUST bool vol_map_cache_get(struct vol_map_cache *c, uint64_t layer, uint64_t page,
                            struct vol_map *ret_map);
uint64_t vol_map_cache_ticket(struct vol_map_cache *c, uint64_t layer, uint64_t page);
void vol_map_cache_offer(struct vol_map_cache *c, uint64_t layer, uint64_t page, uint64_t ticket,
                         const struct vol_map *map);
/* Apply: the page's map is this one now; count 0 = there is none. */
void vol_map_cache_set(struct vol_map_cache *c, uint64_t layer, uint64_t page,
                       const struct vol_map *map);
uint64_t vol_map_cache_bytes(struct vol_map_cache *c);
