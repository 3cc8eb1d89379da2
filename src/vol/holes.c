/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/holes.h"
#include "base/assert.h"
#include "base/tree.h"
#include "rt/sync.h"
#include "vol/vol_format.h"
#include <stdatomic.h>

struct hole {
    struct tree_node node;
    struct vol_hole h;
    unsigned doubts;
};

struct interval {
    struct tree_node node;
    uint64_t layer;
    uint64_t first;
    uint64_t end;
    uint64_t batch; /* with hole_first: whose it is */
    uint64_t hole_first;
    bool masks;
};

struct layer {
    struct tree_node node;
    uint64_t layer;
    uint64_t held;     /* holes in the set */
    uint64_t reserved; /* on their way */
};

struct vol_holes {
    struct rt_mutex m;
    struct tree holes;
    struct tree intervals;
    struct tree layers;
    _Atomic uint64_t count;
    _Atomic uint64_t done;    /* of those */
    _Atomic uint64_t put_off; /* of those that are not done */
};

struct key3 {
    uint64_t at[3];
};

static int compare_words(const uint64_t *a, const uint64_t *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (a[i] != b[i]) {
            return a[i] < b[i] ? -1 : 1;
        }
    }
    return 0;
}

static int hole_compare(const void *key, const struct tree_node *n)
{
    const struct vol_hole *h = &container_of(n, struct hole, node)->h;
    return compare_words(((const struct key3 *)key)->at,
                         (const uint64_t[]){h->layer, h->batch, h->first}, 3);
}

static int interval_compare(const void *key, const struct tree_node *n)
{
    const struct interval *i = container_of(n, struct interval, node);
    return compare_words(((const struct key3 *)key)->at, (const uint64_t[]){i->layer, i->first}, 2);
}

static int layer_compare(const void *key, const struct tree_node *n)
{
    return compare_words(key, &container_of(n, struct layer, node)->layer, 1);
}

int vol_holes_create(struct vol_holes **ret_holes)
{
    struct vol_holes *h = calloc(1, sizeof *h);
    if (!h) {
        return -ENOMEM;
    }
    rt_mutex_init(&h->m);
    h->holes = tree_make(hole_compare);
    h->intervals = tree_make(interval_compare);
    h->layers = tree_make(layer_compare);
    *ret_holes = h;
    return 0;
}

void vol_holes_destroy(struct vol_holes *h)
{
    if (!h) {
        return;
    }
    tree_for_each(&h->holes, struct hole, node, x) {
        tree_remove(&h->holes, &x->node);
        free(x);
    }
    tree_for_each(&h->intervals, struct interval, node, i) {
        tree_remove(&h->intervals, &i->node);
        free(i);
    }
    tree_for_each(&h->layers, struct layer, node, l) {
        tree_remove(&h->layers, &l->node);
        free(l);
    }
    rt_mutex_destroy(&h->m);
    free(h);
}

static struct interval *interval_at_or_before(struct vol_holes *h, uint64_t layer, uint64_t page)
{
    struct key3 key = {{layer, page, 0}};
    struct interval *i = tree_entry(tree_at_or_before(&h->intervals, &key), struct interval, node);
    return i && i->layer == layer ? i : NULL;
}

uint64_t vol_holes_cover(struct vol_holes *h, uint64_t layer, uint64_t page, uint64_t *ret_end,
                         bool *ret_masks)
{
    uint64_t batch = 0;
    *ret_end = UINT64_MAX;
    *ret_masks = false;
    if (atomic_load_explicit(&h->count, memory_order_acquire) == 0) {
        return 0;
    }
    rt_mutex_lock(&h->m);
    struct interval *i = interval_at_or_before(h, layer, page);
    if (i && page < i->end) {
        batch = i->batch;
        *ret_masks = i->masks;
        *ret_end = i->end;
    } else {
        struct key3 key = {{layer, page, 0}};
        i = tree_entry(tree_lower_bound(&h->intervals, &key), struct interval, node);
        *ret_end = i && i->layer == layer ? i->first : UINT64_MAX;
    }
    rt_mutex_unlock(&h->m);
    return batch;
}

static void interval_insert(struct vol_holes *h, struct interval *i)
{
    struct key3 key = {{i->layer, i->first, 0}};
    bool added = tree_insert(&h->intervals, &key, &i->node);
    ASSERT(added);
}

/*
 * Clears [first, end) of older intervals: those inside go, those that reach over are cut; one that
 * reaches over on both sides leaves its tail in *spare, which is then used.
 */
static void intervals_clear(struct vol_holes *h, const struct vol_hole *hole,
                            struct interval **spare)
{
    for (;;) {
        struct interval *i =
            hole->end > 0 ? interval_at_or_before(h, hole->layer, hole->end - 1) : NULL;
        if (!i || i->end <= hole->first) {
            return;
        }
        if (i->end > hole->end) {
            struct interval *tail = take(*spare);
            *tail = *i;
            tail->first = hole->end;
            i->end = hole->end;
            interval_insert(h, tail);
        }
        if (i->first < hole->first) {
            i->end = hole->first;
            return;
        }
        tree_remove(&h->intervals, &i->node);
        free(i);
    }
}

static struct layer *layer_find(struct vol_holes *h, uint64_t layer)
{
    return tree_entry(tree_find(&h->layers, &layer), struct layer, node);
}

static struct layer *layer_get(struct vol_holes *h, uint64_t layer)
{
    struct layer *l = layer_find(h, layer);
    if (!l) {
        l = calloc(1, sizeof *l);
        if (!l) {
            return NULL;
        }
        l->layer = layer;
        bool added = tree_insert(&h->layers, &layer, &l->node);
        ASSERT(added);
    }
    return l;
}

static void layer_put(struct vol_holes *h, struct layer *l)
{
    if (l->held == 0 && l->reserved == 0) {
        tree_remove(&h->layers, &l->node);
        free(l);
    }
}

static bool is_done(const struct vol_hole *hole)
{
    return hole->done_upto >= hole->end;
}

static void put_off_until(struct vol_holes *h, struct hole *x, uint64_t again_ns)
{
    atomic_fetch_sub_explicit(&h->put_off, x->h.again_ns != 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->put_off, again_ns != 0, memory_order_relaxed);
    x->h.again_ns = again_ns;
}

static void hole_remove(struct vol_holes *h, struct hole *x)
{
    atomic_fetch_sub_explicit(&h->done, is_done(&x->h), memory_order_relaxed);
    put_off_until(h, x, 0);
    struct layer *l = layer_find(h, x->h.layer);
    tree_remove(&h->holes, &x->node);
    l->held--;
    layer_put(h, l);
    free(x);
    atomic_store_explicit(&h->count, h->holes.count, memory_order_release);
}

/* H3. The holes of a layer lie together in the tree, at most VOL_HOLES_MAX of them. */
static int covered_remove(struct vol_holes *h, const struct vol_hole *hole,
                          struct vol_hole_list *covered)
{
    struct key3 key = {{hole->layer, 0, 0}};
    struct tree_node *n = tree_lower_bound(&h->holes, &key);
    while (n) {
        struct hole *x = container_of(n, struct hole, node);
        if (x->h.layer != hole->layer) {
            return 0;
        }
        n = tree_next(n);
        if (x->h.first < hole->first || x->h.end > hole->end) {
            continue;
        }
        int r = vec_push(&covered->holes, x->h);
        if (r < 0) {
            return r;
        }
        hole_remove(h, x);
    }
    return 0;
}

static int add_locked(struct vol_holes *h, const struct vol_hole *hole,
                      struct vol_hole_list *covered, struct interval **spares)
{
    struct hole *x = malloc(sizeof *x);
    struct layer *l = x ? layer_get(h, hole->layer) : NULL;
    if (!l) {
        free(x);
        return -ENOMEM;
    }
    l->held++; /* before others go, so that l stays */
    int r = covered_remove(h, hole, covered);
    if (r < 0) {
        l->held--;
        free(x);
        return r;
    }
    x->h = *hole;
    x->doubts = 0;
    struct key3 key = {{hole->layer, hole->batch, hole->first}};
    bool added = tree_insert(&h->holes, &key, &x->node);
    ASSERT(added);
    atomic_fetch_add_explicit(&h->done, is_done(hole), memory_order_relaxed);
    intervals_clear(h, hole, &spares[0]);
    struct interval *i = take(spares[1]);
    *i = (struct interval){.layer = hole->layer,
                           .first = hole->first,
                           .end = hole->end,
                           .batch = hole->batch,
                           .hole_first = hole->first,
                           .masks = hole->flags & VOL_HOLE_MASKS};
    interval_insert(h, i);
    atomic_store_explicit(&h->count, h->holes.count, memory_order_release);
    return 0;
}

int vol_holes_add(struct vol_holes *h, const struct vol_hole *hole,
                  struct vol_hole_list *ret_covered)
{
    struct interval *spares[2] = {malloc(sizeof(struct interval)), malloc(sizeof(struct interval))};
    int r = -ENOMEM;
    if (spares[0] && spares[1]) {
        rt_mutex_lock(&h->m);
        r = add_locked(h, hole, ret_covered, spares);
        rt_mutex_unlock(&h->m);
    }
    free(spares[0]);
    free(spares[1]);
    return r;
}

static struct hole *hole_find(struct vol_holes *h, uint64_t layer, uint64_t batch, uint64_t first)
{
    struct key3 key = {{layer, batch, first}};
    return tree_entry(tree_find(&h->holes, &key), struct hole, node);
}

bool vol_holes_find(struct vol_holes *h, uint64_t layer, uint64_t batch, uint64_t first,
                    struct vol_hole *ret_hole)
{
    rt_mutex_lock(&h->m);
    struct hole *x = hole_find(h, layer, batch, first);
    if (x) {
        *ret_hole = x->h;
    }
    rt_mutex_unlock(&h->m);
    return x != NULL;
}

/* Takes the intervals out that are still this hole's. */
static void intervals_release(struct vol_holes *h, const struct vol_hole *hole)
{
    struct key3 key = {{hole->layer, hole->first, 0}};
    struct tree_node *n = tree_lower_bound(&h->intervals, &key);
    while (n) {
        struct interval *i = container_of(n, struct interval, node);
        if (i->layer != hole->layer || i->first >= hole->end) {
            return;
        }
        n = tree_next(n);
        if (i->batch == hole->batch && i->hole_first == hole->first) {
            tree_remove(&h->intervals, &i->node);
            free(i);
        }
    }
}

void vol_holes_advance(struct vol_holes *h, const struct vol_hole *hole, uint64_t done_upto)
{
    rt_mutex_lock(&h->m);
    struct hole *x = hole_find(h, hole->layer, hole->batch, hole->first);
    if (x && done_upto >= x->h.end && !(x->h.flags & VOL_HOLE_MASKS)) {
        intervals_release(h, &x->h);
        hole_remove(h, x);
    } else if (x && !is_done(&x->h)) {
        put_off_until(h, x, 0);
        x->doubts = 0;
        x->h.done_upto = MAX_OF(x->h.done_upto, done_upto);
        atomic_fetch_add_explicit(&h->done, is_done(&x->h), memory_order_relaxed);
    }
    rt_mutex_unlock(&h->m);
}

void vol_holes_put_off(struct vol_holes *h, const struct vol_hole *hole, uint64_t until_ns)
{
    rt_mutex_lock(&h->m);
    struct hole *x = hole_find(h, hole->layer, hole->batch, hole->first);
    if (x && !is_done(&x->h)) {
        put_off_until(h, x, until_ns);
    }
    rt_mutex_unlock(&h->m);
}

unsigned vol_holes_doubt(struct vol_holes *h, const struct vol_hole *hole)
{
    rt_mutex_lock(&h->m);
    struct hole *x = hole_find(h, hole->layer, hole->batch, hole->first);
    unsigned doubts = x ? ++x->doubts : 0;
    rt_mutex_unlock(&h->m);
    return doubts;
}

bool vol_holes_next(struct vol_holes *h, const struct vol_hole *after, struct vol_hole *ret_hole)
{
    struct key3 key = {{0, 0, 0}};
    if (after) {
        key = (struct key3){{after->layer, after->batch, after->first + 1}};
    }
    rt_mutex_lock(&h->m);
    struct hole *x = tree_entry(tree_lower_bound(&h->holes, &key), struct hole, node);
    while (x && is_done(&x->h)) {
        x = tree_entry(tree_next(&x->node), struct hole, node);
    }
    if (x) {
        *ret_hole = x->h;
    }
    rt_mutex_unlock(&h->m);
    return x != NULL;
}

uint64_t vol_holes_count(const struct vol_holes *h)
{
    return atomic_load_explicit(&h->count, memory_order_relaxed);
}

uint64_t vol_holes_pending(const struct vol_holes *h)
{
    uint64_t done = atomic_load_explicit(&h->done, memory_order_relaxed);
    uint64_t count = vol_holes_count(h);
    return count > done ? count - done : 0;
}

/* While one takes the place of another the counters do not fit together, and 0 here is believed. */
uint64_t vol_holes_due(struct vol_holes *h)
{
    rt_mutex_lock(&h->m);
    uint64_t put_off = atomic_load_explicit(&h->put_off, memory_order_relaxed);
    uint64_t pending = vol_holes_pending(h);
    rt_mutex_unlock(&h->m);
    return pending > put_off ? pending - put_off : 0;
}

static int reserve(struct vol_holes *h, uint64_t layer, uint64_t limit)
{
    rt_mutex_lock(&h->m);
    struct layer *l = layer_get(h, layer);
    bool room = l && l->held + l->reserved < limit;
    if (room) {
        l->reserved++;
    }
    rt_mutex_unlock(&h->m);
    return l ? room : -ENOMEM;
}

int vol_holes_reserve(struct vol_holes *h, uint64_t layer)
{
    return reserve(h, layer, VOL_HOLES_MAX);
}

int vol_holes_reserve_more(struct vol_holes *h, uint64_t layer)
{
    int r = reserve(h, layer, UINT64_MAX);
    return r < 0 ? r : 0;
}

void vol_holes_unreserve(struct vol_holes *h, uint64_t layer, int count)
{
    rt_mutex_lock(&h->m);
    struct layer *l = layer_find(h, layer);
    if (l && count > 0) {
        l->reserved -= MIN_OF(l->reserved, (uint64_t)count);
        layer_put(h, l);
    }
    rt_mutex_unlock(&h->m);
}
