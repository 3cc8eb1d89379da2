/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INVARIANTS, under s->m:
 *   1. a range is in exactly one list from its arrival to its unlock (or the end of a cancelled
 * wait);
 *   2. blockers of a range = the number of earlier ranges in the lists that conflict with it;
 *   3. a range is held when its blockers are 0, and waits otherwise; `waiting` counts the latter.
 * So an unlock has work to do only when somebody waits.
 */
#include "dev/range.h"
#include "base/assert.h"
#include "rt/rt.h"

void dev_ranges_init(struct dev_ranges *s)
{
    rt_mutex_init(&s->m);
    s->arrivals = 0;
    s->waiting = 0;
    s->shorts = 0;
    list_init(&s->longs);
    for (unsigned i = 0; i < DEV_RANGE_SLOTS; i++) {
        list_init(&s->slots[i]);
    }
}

void dev_ranges_destroy(struct dev_ranges *s)
{
    ASSERT(s->shorts == 0 && list_is_empty(&s->longs));
    rt_mutex_destroy(&s->m);
}

static bool is_short(const struct dev_range *r)
{
    return r->first_page / DEV_RANGE_STRIPE_PAGES == r->last_page / DEV_RANGE_STRIPE_PAGES;
}

static struct list *slot_of(struct dev_ranges *s, const struct dev_range *r)
{
    return &s->slots[r->first_page / DEV_RANGE_STRIPE_PAGES % DEV_RANGE_SLOTS];
}

static bool conflict(const struct dev_range *a, const struct dev_range *b)
{
    return (a->exclusive || b->exclusive) && a->first_page <= b->last_page &&
           b->first_page <= a->last_page;
}

static uint32_t count_in(const struct list *l, const struct dev_range *r)
{
    uint32_t n = 0;
    for (const struct list *at = l->next; at != l; at = at->next) {
        n += conflict(container_of(at, struct dev_range, link), r);
    }
    return n;
}

/* All that are in the lists now came before r. */
static uint32_t count_earlier(const struct dev_ranges *s, const struct list *slot,
                              const struct dev_range *r)
{
    uint32_t n = count_in(&s->longs, r);
    if (slot) {
        return n + count_in(slot, r);
    }
    for (unsigned i = 0; s->shorts > 0 && i < DEV_RANGE_SLOTS; i++) {
        n += count_in(&s->slots[i], r);
    }
    return n;
}

static void release_in(struct dev_ranges *s, struct list *l, const struct dev_range *gone)
{
    for (struct list *at = l->next; at != l; at = at->next) {
        struct dev_range *r = container_of(at, struct dev_range, link);
        if (r->arrival < gone->arrival || !conflict(r, gone)) {
            continue;
        }
        ASSERT(r->blockers > 0);
        if (--r->blockers == 0) {
            s->waiting--;
            rt_waitq_wake_all(r->priv);
        }
    }
}

/* Takes r out of its list and lets go of those that waited for it. */
static void drop(struct dev_ranges *s, struct dev_range *r)
{
    bool in_slot = is_short(r);
    r->link.prev->next = r->link.next;
    r->link.next->prev = r->link.prev;
    s->shorts -= in_slot;
    if (likely(s->waiting == 0)) {
        return;
    }
    release_in(s, &s->longs, r);
    if (in_slot) {
        release_in(s, slot_of(s, r), r);
        return;
    }
    for (unsigned i = 0; i < DEV_RANGE_SLOTS; i++) {
        release_in(s, &s->slots[i], r);
    }
}

static int wait_for_it(struct dev_ranges *s, struct dev_range *r) WAITS
{
    struct rt_waitq q;
    rt_waitq_init(&q);
    r->priv = &q;
    s->waiting++;
    int result = 0;
    while (r->blockers > 0 && result == 0) {
        result = rt_waitq_wait(&q, &s->m, RT_FOREVER);
    }
    r->priv = NULL;
    if (r->blockers == 0) {
        return 0; /* it may have been cancelled in the same moment; it holds the range */
    }
    s->waiting--;
    r->blockers = 0;
    drop(s, r);
    return result;
}

static void enter(struct dev_ranges *s, struct list *slot, struct dev_range *r)
{
    r->arrival = ++s->arrivals;
    r->blockers = 0;
    list_push_back(slot ? slot : &s->longs, &r->link);
    s->shorts += slot != NULL;
}

int dev_ranges_lock(struct dev_ranges *s, struct dev_range *r)
{
    ASSERT(r->first_page <= r->last_page);
    struct list *slot = is_short(r) ? slot_of(s, r) : NULL;
    r->priv = NULL;
    rt_mutex_lock(&s->m);
    uint32_t blockers = count_earlier(s, slot, r);
    enter(s, slot, r);
    r->blockers = blockers;
    int result = 0;
    if (unlikely(r->blockers > 0)) {
        result = wait_for_it(s, r);
    }
    rt_mutex_unlock(&s->m);
    return result;
}

static bool any_waits(const struct dev_range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].blockers > 0) {
            return true;
        }
    }
    return false;
}

int dev_ranges_lock_all(struct dev_ranges *s, struct dev_range *ranges, size_t count)
{
    struct rt_waitq q;
    int result = 0;
    rt_waitq_init(&q);
    rt_mutex_lock(&s->m);
    for (size_t i = 0; i < count; i++) {
        struct dev_range *r = &ranges[i];
        struct list *slot = is_short(r) ? slot_of(s, r) : NULL;
        uint32_t blockers = count_earlier(s, slot, r);
        enter(s, slot, r);
        r->blockers = blockers;
        r->priv = &q;
        s->waiting += blockers > 0;
    }
    while (any_waits(ranges, count) && result == 0) {
        result = rt_waitq_wait(&q, &s->m, RT_FOREVER);
    }
    bool held = !any_waits(ranges, count);
    for (size_t i = 0; i < count; i++) {
        ranges[i].priv = NULL;
        if (!held) {
            s->waiting -= ranges[i].blockers > 0;
            ranges[i].blockers = 0;
            drop(s, &ranges[i]);
        }
    }
    rt_mutex_unlock(&s->m);
    return held ? 0 : result;
}

size_t dev_ranges_try(struct dev_ranges *s, struct dev_range *ranges, size_t count)
{
    size_t held = 0;
    rt_mutex_lock(&s->m);
    for (size_t i = 0; i < count; i++) {
        struct dev_range *r = &ranges[i];
        struct list *slot = is_short(r) ? slot_of(s, r) : NULL;
        r->priv = NULL;
        r->blockers = count_earlier(s, slot, r);
        if (likely(r->blockers == 0)) {
            enter(s, slot, r);
            held++;
        }
    }
    rt_mutex_unlock(&s->m);
    return held;
}

void dev_ranges_let_go(struct dev_ranges *s, struct dev_range *ranges, size_t count)
{
    rt_mutex_lock(&s->m);
    for (size_t i = 0; i < count; i++) {
        if (likely(ranges[i].blockers == 0)) {
            drop(s, &ranges[i]);
        }
    }
    rt_mutex_unlock(&s->m);
}

void dev_ranges_unlock(struct dev_ranges *s, struct dev_range *r)
{
    rt_mutex_lock(&s->m);
    ASSERT(r->blockers == 0);
    drop(s, r);
    rt_mutex_unlock(&s->m);
}
