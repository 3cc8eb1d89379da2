/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata as of now: the pairs of the batches that are not applied, newest first, over the index.
 * The overlay is looked at first: a batch leaves it only after the index has taken its pairs, so
 * nothing is missed in between.
 */
#include "base/err.h"
#include "vol/vol_priv.h"

struct getting {
    struct vol *v;
    const void *key;
    size_t key_len;
    struct bytes_writer *value;
};

static int get_inside(void *arg)
{
    const struct getting *g = arg;
    return index_get(g->v->ix, g->key, g->key_len, g->value);
}

int vol_get(struct vol *v, const void *key, size_t key_len, struct bytes_writer *ret_value)
{
    int r = vol_may_read(v);
    if (r < 0) {
        return r;
    }
    if (v->opt.read_only) {
        struct getting g = {v, key, key_len, ret_value};
        return vol_reading(v, get_inside, &g);
    }
    struct vol_view *view = vol_view_get(v);
    for (uint32_t i = 0; i < view->count && r == 0; i++) {
        r = vol_batch_find_pair(view->batches[i], key, key_len, ret_value);
    }
    vol_view_put(view);
    if (r == 0) {
        r = vol_heed(v, index_get(v->ix, key, key_len, ret_value));
    }
    if (r > 0) {
        r = 0;
    }
    return r == 0 && ret_value->failed ? -ENOMEM : r;
}

/* The overlay's pairs under the prefix, copied: newest of each key, in order. */
struct overlay {
    VEC(struct vol_batch_pair *) pairs;
    size_t next;
    int (*each)(void *arg, const void *key, size_t key_len, const void *value, size_t value_len);
    void *arg;
};

static void overlay_free(struct overlay *o)
{
    for (size_t i = 0; i < o->pairs.len; i++) {
        free(o->pairs.at[i]);
    }
    vec_free(&o->pairs);
}

static bool has_prefix(const struct vol_batch_pair *p, const void *prefix, size_t len)
{
    return p->key_len >= len && memcmp(p->bytes, prefix, len) == 0;
}

static int overlay_add(struct overlay *o, const struct vol_batch_pair *p)
{
    struct vol_batch_pair *copy;
    int r = vol_batch_pair_create(p->op, p->bytes, p->key_len, vol_batch_pair_value(p),
                                  p->value_len, &copy);
    if (r < 0) {
        return r;
    }
    r = vec_push(&o->pairs, copy);
    if (r < 0) {
        free(copy);
    }
    return r;
}

static int overlay_take(struct overlay *o, struct vol_batch *b, const void *prefix,
                        size_t prefix_len)
{
    int r = 0;
    if (atomic_load(&b->pair_count) == 0) {
        return 0;
    }
    rt_mutex_lock(&b->m);
    tree_for_each(&b->pairs, struct vol_batch_pair, node, p) {
        if (r == 0 && has_prefix(p, prefix, prefix_len)) {
            r = overlay_add(o, p);
        }
    }
    rt_mutex_unlock(&b->m);
    return r;
}

/* Batches come newest first and the sort is stable, by merging: the first of equal keys stays. */
static void overlay_sort(struct overlay *o)
{
    struct vol_batch_pair **at = o->pairs.at;
    size_t kept = 0;
    for (size_t i = 0; i < o->pairs.len; i++) {
        struct vol_batch_pair *p = at[i];
        size_t low = 0;
        size_t high = kept;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            int c = vol_key_compare(at[mid]->bytes, at[mid]->key_len, p->bytes, p->key_len);
            if (c < 0) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        if (low < kept &&
            vol_key_compare(at[low]->bytes, at[low]->key_len, p->bytes, p->key_len) == 0) {
            free(p);
            continue;
        }
        memmove(&at[low + 1], &at[low], (kept - low) * sizeof(struct vol_batch_pair *));
        at[low] = p;
        kept++;
    }
    o->pairs.len = kept;
}

static int overlay_emit(struct overlay *o)
{
    const struct vol_batch_pair *p = o->pairs.at[o->next++];
    if (p->op == INDEX_DELETE) {
        return 0;
    }
    return o->each(o->arg, p->bytes, p->key_len, vol_batch_pair_value(p), p->value_len);
}

static int merge_each(void *arg, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct overlay *o = arg;
    while (o->next < o->pairs.len) {
        const struct vol_batch_pair *p = o->pairs.at[o->next];
        int c = vol_key_compare(p->bytes, p->key_len, key, key_len);
        if (c > 0) {
            break;
        }
        int r = overlay_emit(o);
        if (r != 0 || c == 0) {
            return r;
        }
    }
    return o->each(o->arg, key, key_len, value, value_len);
}

/* The first key after all that start with the prefix: length 0 = to the end. */
static size_t prefix_end(const void *prefix, size_t len, uint8_t *ret_end)
{
    memcpy(ret_end, prefix, len);
    while (len > 0 && ret_end[len - 1] == 0xff) {
        len--;
    }
    if (len > 0) {
        ret_end[len - 1]++;
    }
    return len;
}

/* Read only: no batches, and each key is shown once though the state may be replaced on the way. */
struct scanning {
    struct vol *v;
    const struct overlay *to;
    const uint8_t *end;
    size_t end_len;
    size_t from_len;
    uint8_t from[INDEX_KEY_MAX + 1];
};

static int scan_each(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct scanning *s = arg;
    int r = s->to->each(s->to->arg, key, key_len, value, value_len);
    memcpy(s->from, key, key_len);
    s->from[key_len] = 0;
    s->from_len = key_len + 1;
    return r;
}

static int scan_inside(void *arg)
{
    struct scanning *s = arg;
    return index_scan(s->v->ix, &(struct index_range){s->from, s->from_len, s->end, s->end_len},
                      scan_each, s);
}

int vol_scan(struct vol *v, const void *prefix, size_t prefix_len,
             int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                         size_t value_len),
             void *arg)
{
    struct overlay o = {.each = each, .arg = arg};
    uint8_t end[INDEX_KEY_MAX];
    int r = vol_may_read(v);
    if (r < 0 || prefix_len == 0 || prefix_len > sizeof end) {
        return r < 0 ? r : -EINVAL;
    }
    size_t end_len = prefix_end(prefix, prefix_len, end);
    if (v->opt.read_only) {
        struct scanning s = {
            .v = v, .to = &o, .end = end, .end_len = end_len, .from_len = prefix_len};
        memcpy(s.from, prefix, prefix_len);
        return vol_reading(v, scan_inside, &s);
    }
    struct vol_view *view = vol_view_get(v);
    for (uint32_t i = 0; i < view->count && r == 0; i++) {
        r = overlay_take(&o, view->batches[i], prefix, prefix_len);
    }
    vol_view_put(view);
    if (r == 0) {
        overlay_sort(&o);
        r = index_scan(v->ix, &(struct index_range){prefix, prefix_len, end, end_len}, merge_each,
                       &o);
    }
    r = vol_heed(v, r);
    while (r == 0 && o.next < o.pairs.len) {
        r = overlay_emit(&o);
    }
    overlay_free(&o);
    return r;
}
