/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pending range holes: records that hide every page map of a range that is older than the hole,
 * until the walker has deleted those maps. In RAM two views of the same set:
 *
 *     holes       one for each key in the index: (layer, batch, first page) -> range, progress
 *     intervals   disjoint; each says which hole is the newest over its pages: what reads ask
 *
 * A hole that hides the layers below as well (VOL_HOLE_MASKS) stays when it is walked, for what is
 * below is not touched by that: it is *done* then, and goes with its layer, or when a newer one
 * covers it.
 *
 * H1. A page map is hidden if and only if the interval over its page has a higher batch than the
 * map. H2. A reader asks here before it looks up the map: a hole leaves only after its hidden maps
 * have left index and cache, so a reader that finds no hole finds no hidden map either. H3. Only
 * apply changes the set, in batch order; a newer hole that covers an older one whole takes its
 * place. H4. At most VOL_HOLES_MAX are there in a layer, counting those in batches that are not
 * applied yet; but one more for each shrinking, and one for the deletion of the layer.
 */
#pragma once
#include "base/attr.h"
#include "base/vec.h"
#include <stdbool.h>
#include <stdint.h>

#define VOL_HOLES_MAX 4096

struct vol_holes;

struct vol_hole {
    uint64_t layer;
    uint64_t batch;
    uint64_t first; /* pages */
    uint64_t end;
    uint64_t done_upto;
    uint64_t flags;
    uint64_t again_ns; /* the walker cannot get on with it, and tries again then; 0 = it can */
};

struct vol_hole_list {
    VEC(struct vol_hole) holes;
};

MUST int vol_holes_create(struct vol_holes **ret_holes);
void vol_holes_destroy(struct vol_holes *h); /* accepts NULL */

/*
 * The newest hole over the page: its batch, 0 = none. *ret_end: the page up to which this holds
 * (the answer may go on beyond it). *ret_masks: the layers below are hidden too.
 */
uint64_t vol_holes_cover(struct vol_holes *h, uint64_t layer, uint64_t page, uint64_t *ret_end,
                         bool *ret_masks);

/* Adds a hole of a batch (or of the index, at open); appends the older ones that it takes the place
 * of to *ret_covered. 0 or -ENOMEM. */
MUST int vol_holes_add(struct vol_holes *h, const struct vol_hole *hole,
                       struct vol_hole_list *ret_covered);
/* True, with the hole as it is, when it is still pending. */
MUST bool vol_holes_find(struct vol_holes *h, uint64_t layer, uint64_t batch, uint64_t first,
                         struct vol_hole *ret_hole);
/* Progress; done_upto at the end takes the hole out, or makes it done. */
void vol_holes_advance(struct vol_holes *h, const struct vol_hole *hole, uint64_t done_upto);
/* The first hole after `after` (NULL = the first) that is not done: false when there is none. */
MUST bool vol_holes_next(struct vol_holes *h, const struct vol_hole *after,
                         struct vol_hole *ret_hole);
uint64_t vol_holes_count(const struct vol_holes *h);
/* Those that are not done; and of these, those that the walker can get on with. */
uint64_t vol_holes_pending(const struct vol_holes *h);
uint64_t vol_holes_due(struct vol_holes *h);
/* The walker cannot get on with the hole, if it is still there, and leaves it alone until then. */
void vol_holes_put_off(struct vol_holes *h, const struct vol_hole *hole, uint64_t until_ns);
/* How often this was said of the hole, with this time, since the walker got on with it last. */
MUST unsigned vol_holes_doubt(struct vol_holes *h, const struct vol_hole *hole);

/* H4: room for one more hole of the layer in a batch; handed back by the number of holes that were
 * swallowed, or by applying it. 1, 0 = full, -ENOMEM. */
MUST int vol_holes_reserve(struct vol_holes *h, uint64_t layer);
/* Beyond the limit, for those that must not wait: 0, -ENOMEM. */
MUST int vol_holes_reserve_more(struct vol_holes *h, uint64_t layer);
void vol_holes_unreserve(struct vol_holes *h, uint64_t layer, int count);
