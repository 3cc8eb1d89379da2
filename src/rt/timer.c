/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/timer.h"
#include "base/assert.h"
#include <stddef.h>

static bool is_before(const struct rt_timer *a, const struct rt_timer *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->seq < b->seq;
}

/* Joins two roots, each NULL or without siblings. */
static struct rt_timer *meld(struct rt_timer *a, struct rt_timer *b)
{
    if (!a || !b) {
        return a ? a : b;
    }
    if (is_before(b, a)) {
        struct rt_timer *t = a;
        a = b;
        b = t;
    }
    b->next = a->child;
    if (a->child) {
        a->child->prev = b;
    }
    b->prev = a;
    a->child = b;
    return a;
}

/* Joins a list of siblings into one root: pairwise from left to right, then from right to left. */
static struct rt_timer *meld_siblings(struct rt_timer *first)
{
    struct rt_timer *pairs = NULL;
    while (first) {
        struct rt_timer *a = first;
        struct rt_timer *b = a->next;
        first = b ? b->next : NULL;
        a->next = NULL;
        a->prev = NULL;
        if (b) {
            b->next = NULL;
            b->prev = NULL;
        }
        struct rt_timer *joined = meld(a, b);
        joined->next = pairs;
        pairs = joined;
    }
    struct rt_timer *root = NULL;
    while (pairs) {
        struct rt_timer *t = pairs;
        pairs = t->next;
        t->next = NULL;
        root = meld(root, t);
    }
    return root;
}

void rt_timers_add(struct rt_timers *h, struct rt_timer *t, uint64_t deadline_ns)
{
    ASSERT(!t->linked);
    *t = (struct rt_timer){.deadline_ns = deadline_ns, .seq = h->seq++, .linked = true};
    h->root = meld(h->root, t);
}

void rt_timers_remove(struct rt_timers *h, struct rt_timer *t)
{
    if (!t->linked) {
        return;
    }
    t->linked = false;
    struct rt_timer *below = meld_siblings(t->child);
    if (h->root == t) {
        h->root = below;
        return;
    }
    if (t->prev->child == t) {
        t->prev->child = t->next;
    } else {
        t->prev->next = t->next;
    }
    if (t->next) {
        t->next->prev = t->prev;
    }
    h->root = meld(h->root, below);
}
