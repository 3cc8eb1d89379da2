/* SPDX-License-Identifier: Apache-2.0 */
#include "index/version.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t cache_ids;

static void count_up(_Atomic uint32_t *refs)
{
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

static bool count_down(_Atomic uint32_t *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

int sst_create(const struct index_home *home, const struct sst_meta *meta, struct sst **ret_sst)
{
    struct sst *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    int r = sst_key_init(home, &(struct sst_name){meta->epoch, meta->counter}, meta->salt,
                         meta->cipher, &s->key);
    if (r < 0) {
        free(s);
        return r;
    }
    s->refs = 1;
    s->cache_id = atomic_fetch_add_explicit(&cache_ids, 1, memory_order_relaxed);
    s->meta = *meta;
    rt_mem_add(RT_MEM_INDEX_CACHE, (int64_t)(sizeof *s + meta->smallest_len + meta->largest_len));
    *ret_sst = s;
    return 0;
}

struct sst *sst_ref(struct sst *s)
{
    count_up(&s->refs);
    return s;
}

void sst_unref(struct sst *s)
{
    if (count_down(&s->refs)) {
        int64_t bytes = (int64_t)(sizeof *s + s->meta.smallest_len + s->meta.largest_len);
        rt_mem_add(RT_MEM_INDEX_CACHE, -bytes);
        sst_meta_free(&s->meta);
        sst_key_wipe(&s->key);
        free(s);
    }
}

int sst_compare_key(const struct sst *s, const void *key, size_t key_len)
{
    if (index_key_compare(key, key_len, s->meta.smallest, s->meta.smallest_len) < 0) {
        return -1;
    }
    return index_key_compare(key, key_len, s->meta.largest, s->meta.largest_len) > 0;
}

bool sst_overlaps(const struct sst *a, const struct sst *b)
{
    return index_key_compare(a->meta.smallest, a->meta.smallest_len, b->meta.largest,
                             b->meta.largest_len) <= 0 &&
           index_key_compare(b->meta.smallest, b->meta.smallest_len, a->meta.largest,
                             a->meta.largest_len) <= 0;
}

int sst_list_push(struct sst_list *l, struct sst *s)
{
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): the elements are pointers */
    int r = vec_push(&l->v, s);
    if (r == 0) {
        (void)sst_ref(s);
    }
    return r;
}

void sst_list_free(struct sst_list *l)
{
    for (size_t i = 0; i < l->v.len; i++) {
        sst_unref(l->v.at[i]);
    }
    vec_free(&l->v);
}

bool sst_list_has(const struct sst_list *l, const struct sst *s)
{
    for (size_t i = 0; i < l->v.len; i++) {
        if (l->v.at[i] == s) {
            return true;
        }
    }
    return false;
}

size_t sst_run_find(struct sst *const *ssts, size_t count, const void *key, size_t key_len)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct sst_meta *m = &ssts[mid]->meta;
        if (index_key_compare(m->largest, m->largest_len, key, key_len) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

uint64_t sst_list_bytes(const struct sst_list *l)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < l->v.len; i++) {
        sum += l->v.at[i]->meta.size_bytes;
    }
    return sum;
}

int version_create(struct version **ret_version)
{
    struct version *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return -ENOMEM;
    }
    v->refs = 1;
    *ret_version = v;
    return 0;
}

struct version *version_ref(struct version *v)
{
    count_up(&v->refs);
    return v;
}

void version_unref(struct version *v)
{
    if (v == NULL || !count_down(&v->refs)) {
        return;
    }
    for (unsigned i = 0; i < INDEX_LEVELS; i++) {
        sst_list_free(&v->levels[i]);
    }
    free(v);
}

unsigned version_run_count(const struct version *v)
{
    const struct sst_list *l = &v->levels[0];
    unsigned runs = 0;
    for (size_t i = 0; i < l->v.len; i++) {
        runs += i == 0 || l->v.at[i]->meta.run != l->v.at[i - 1]->meta.run;
    }
    return runs;
}

/* Whether a stands before b in a level. */
static bool stands_before(unsigned level, const struct sst *a, const struct sst *b)
{
    if (level == 0 && a->meta.run != b->meta.run) {
        return a->meta.run > b->meta.run;
    }
    return index_key_compare(a->meta.smallest, a->meta.smallest_len, b->meta.smallest,
                             b->meta.smallest_len) < 0;
}

/* Merges two lists in the order of the level, leaving out those of `remove`. */
static int merge_level(unsigned level, const struct sst_list *old, const struct sst_list *add,
                       const struct sst_list *remove, struct sst_list *to)
{
    size_t i = 0;
    size_t k = 0;
    size_t add_len = add == NULL ? 0 : add->v.len;
    while (i < old->v.len || k < add_len) {
        bool from_add =
            i == old->v.len || (k < add_len && stands_before(level, add->v.at[k], old->v.at[i]));
        struct sst *s = from_add ? add->v.at[k++] : old->v.at[i++];
        if (!from_add && remove != NULL && sst_list_has(remove, s)) {
            continue;
        }
        int r = sst_list_push(to, s);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int version_edit(const struct version *v, const struct sst_list *remove, const struct sst_list *add,
                 unsigned add_level, struct version **ret_version)
{
    struct version *fresh;
    int r = version_create(&fresh);
    for (unsigned i = 0; r == 0 && i < INDEX_LEVELS; i++) {
        r = merge_level(i, &v->levels[i], i == add_level ? add : NULL, remove, &fresh->levels[i]);
        if (r < 0) {
            version_unref(fresh);
        }
    }
    if (r < 0) {
        return r;
    }
    *ret_version = fresh;
    return 0;
}

int version_to_manifest(const struct version *v, struct manifest *m)
{
    for (unsigned i = 0; i < INDEX_LEVELS; i++) {
        const struct sst_list *l = &v->levels[i];
        for (size_t k = 0; k < l->v.len; k++) {
            struct manifest_sst s = {.meta = l->v.at[k]->meta, .level = (uint8_t)i};
            int r = vec_push(&m->ssts, s);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

void manifest_drop_ssts(struct manifest *m)
{
    vec_free(&m->ssts);
}

int version_from_manifest(const struct index_home *home, struct manifest *m,
                          struct version **ret_version)
{
    struct version *v;
    int r = version_create(&v);
    for (size_t i = 0; r == 0 && i < m->ssts.len; i++) {
        struct manifest_sst *from = &m->ssts.at[i];
        struct sst *s = NULL;
        r = sst_create(home, &from->meta, &s);
        if (r == 0) {
            from->meta.smallest = NULL;
            r = sst_list_push(&v->levels[from->level], s);
            sst_unref(s);
        }
        if (r < 0) {
            version_unref(v);
        }
    }
    if (r < 0) {
        return r;
    }
    manifest_free(m);
    *ret_version = v;
    return 0;
}

int view_create(struct version *v, struct memtable *const *mem, size_t count,
                struct view **ret_view)
{
    struct view *w = malloc(sizeof *w + count * sizeof(struct memtable *));
    if (w == NULL) {
        return -ENOMEM;
    }
    w->refs = 1;
    w->mem_count = (uint32_t)count;
    w->version = version_ref(v);
    for (size_t i = 0; i < count; i++) {
        w->mem[i] = memtable_ref(mem[i]);
    }
    *ret_view = w;
    return 0;
}

struct view *view_ref(struct view *v)
{
    count_up(&v->refs);
    return v;
}

void view_unref(struct view *v)
{
    if (v == NULL || !count_down(&v->refs)) {
        return;
    }
    for (uint32_t i = 0; i < v->mem_count; i++) {
        memtable_unref(v->mem[i]);
    }
    version_unref(v->version);
    free(v);
}
