/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Range locks of one device, in pages, shared or exclusive.
 *
 * Fair: a range waits exactly for the earlier ones, held or waiting, that it conflicts with. So
 * overlapping I/O runs in the order of its arrival, nothing starves, and there is no deadlock among
 * holders of one range each.
 *
 * A range of any length is one entry. Ranges within one stripe (1 MiB) sit in the list of their
 * stripe's slot, so that many small ones need not look at each other; longer ones sit in a list of
 * their own, which everybody looks at.
 */
#pragma once
#include "base/attr.h"
#include "dev/dev.h"
#include "rt/sync.h"

#define DEV_RANGE_SLOTS 32u
#define DEV_RANGE_STRIPE_PAGES 32u
/* A page no byte of a device is in: held shared by what needs the device, but no range of it. */
#define DEV_RANGE_GATE (UINT64_MAX - 1)

struct dev_ranges {
    struct rt_mutex m;
    uint64_t arrivals;
    uint32_t waiting;
    uint32_t shorts;
    struct list slots[DEV_RANGE_SLOTS];
    struct list longs;
};

void dev_ranges_init(struct dev_ranges *s);
void dev_ranges_destroy(struct dev_ranges *s); /* asserts that nothing is held */
/* Fields first_page, last_page, exclusive are set by the caller. 0, or -ECANCELED. */
MUST int dev_ranges_lock(struct dev_ranges *s, struct dev_range *r) WAITS;
/*
 * Several that do not conflict with each other, as if they were one: who has one of them and then
 * waits for another may wait for somebody who came in between, wants both, and waits for him.
 */
MUST int dev_ranges_lock_all(struct dev_ranges *s, struct dev_range *ranges, size_t count) WAITS;
void dev_ranges_unlock(struct dev_ranges *s, struct dev_range *r);
/* Takes those that need not wait; the others have blockers and are in no list. How many it took. */
size_t dev_ranges_try(struct dev_ranges *s, struct dev_range *ranges, size_t count);
/* Gives back those that dev_ranges_try() took. */
void dev_ranges_let_go(struct dev_ranges *s, struct dev_range *ranges, size_t count);
