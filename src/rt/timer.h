/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers of one core: an intrusive pairing heap, ordered by deadline, then by order of insertion.
 * Nothing is allocated. Private to rt.
 */
#pragma once
#include "base/attr.h"
#include <stdbool.h>
#include <stdint.h>

struct rt_timer {
    uint64_t deadline_ns;
    uint64_t seq;
    struct rt_timer *child; /* first of those below */
    struct rt_timer *next;  /* right sibling */
    struct rt_timer *prev;  /* left sibling, or the parent of a first child; NULL for the root */
    bool linked;
};

struct rt_timers {
    struct rt_timer *root;
    uint64_t seq;
};

void rt_timers_add(struct rt_timers *h, struct rt_timer *t, uint64_t deadline_ns);
/* Does nothing for a timer that is not in the heap. */
void rt_timers_remove(struct rt_timers *h, struct rt_timer *t);
/* The earliest, or NULL. */
static inline struct rt_timer *rt_timers_first(const struct rt_timers *h)
{
    return h->root;
}
