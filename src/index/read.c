/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views and look-ups.
 *
 * Every reader starts by taking a reference to the view in the slot of its core: one short mutex
 * that only this core's readers use. A change makes a new view under ix->m, numbers it, and then
 * puts it into each slot that has none with a higher number; two changes that publish at the same
 * time may therefore do so in any order.
 */
#include "base/err.h"
#include "index/index_priv.h"
#include "index/sst_filter.h"
#include <errno.h>

struct view *index_view_take(struct index *ix)
{
    struct index_slot *s = &ix->slots[rt_core_self() % INDEX_SLOTS];
    rt_mutex_lock(&s->m);
    struct view *v = view_ref(s->view);
    rt_mutex_unlock(&s->m);
    return v;
}

int index_view_make(struct index *ix, struct view **ret_view, uint64_t *ret_generation)
{
    size_t count = ix->frozen.len + 1;
    auto_free struct memtable **mem = calloc(count, sizeof(struct memtable *));
    if (mem == NULL) {
        return -ENOMEM;
    }
    mem[0] = ix->active;
    for (size_t i = 0; i < ix->frozen.len; i++) {
        mem[i + 1] = ix->frozen.at[ix->frozen.len - 1 - i].mt;
    }
    int r = view_create(ix->version, mem, count, ret_view);
    if (r == 0) {
        *ret_generation = ++ix->view_generation;
    }
    return r;
}

void index_view_publish(struct index *ix, struct view *view, uint64_t generation)
{
    for (unsigned i = 0; i < INDEX_SLOTS; i++) {
        struct index_slot *s = &ix->slots[i];
        struct view *old = NULL;
        rt_mutex_lock(&s->m);
        if (s->view == NULL || s->generation < generation) {
            old = s->view;
            s->view = view_ref(view);
            s->generation = generation;
        }
        rt_mutex_unlock(&s->m);
        view_unref(old);
    }
    view_unref(view);
}

/* How one SST is asked: sst_get() or sst_get_cached(); everything here waits only if that does. */
struct asking {
    int (*ask)(const struct sst_source *src, const struct sst *s, const struct sst_query *q);
    struct sst_query q;
};

/* Newest first: enum sst_found, or an error. */
static int find_in_version(struct index *ix, const struct version *v, struct asking *a)
{
    struct sst_query *q = &a->q;
    int r = SST_NONE;
    q->hash = sst_filter_hash(q->key, q->key_len);
    const struct sst_list *top = &v->levels[0];
    for (size_t i = 0; r == SST_NONE && i < top->v.len; i++) {
        if (sst_compare_key(top->v.at[i], q->key, q->key_len) == 0) {
            r = a->ask(&ix->reads, top->v.at[i], q);
        }
    }
    for (unsigned level = 1; r == SST_NONE && level < INDEX_LEVELS; level++) {
        const struct sst_list *l = &v->levels[level];
        size_t at = sst_run_find(l->v.at, l->v.len, q->key, q->key_len);
        if (at < l->v.len && sst_compare_key(l->v.at[at], q->key, q->key_len) == 0) {
            r = a->ask(&ix->reads, l->v.at[at], q);
        }
    }
    return r;
}

static int find(struct index *ix, struct asking *a)
{
    const struct sst_query *q = &a->q;
    struct index_entry e;
    int r = index_fenced(ix);
    if (r < 0) {
        return r;
    }
    struct view *v = index_view_take(ix);
    bool hit = false;
    for (uint32_t i = 0; !hit && i < v->mem_count; i++) {
        hit = memtable_get(v->mem[i], q->key, q->key_len, &e);
    }
    if (hit && !e.deleted) {
        bytes_put(q->ret_value, e.value, e.value_len);
    }
    if (hit) {
        r = e.deleted ? SST_DELETED : SST_FOUND;
    } else {
        r = find_in_version(ix, v->version, a);
    }
    view_unref(v);
    if (r == SST_NONE || r == SST_DELETED) {
        return -ENOENT;
    }
    return r < 0 ? r : (q->ret_value->failed ? -ENOMEM : 0);
}

int index_get(struct index *ix, const void *key, size_t key_len, struct bytes_writer *ret_value)
    WAITS
{
    struct asking a = {sst_get, {.key = key, .key_len = key_len, .ret_value = ret_value}};
    int r = find(ix, &a);
    return r == -ESTALE && !ix->opt.read_only ? index_sst_missing(ix) : r;
}

int index_get_cached(struct index *ix, const void *key, size_t key_len,
                     struct bytes_writer *ret_value)
{
    struct asking a = {sst_get_cached, {.key = key, .key_len = key_len, .ret_value = ret_value}};
    return find(ix, &a);
}
