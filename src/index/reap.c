/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deleting what no manifest names any more.
 *
 * WHO IS DEAD. An SST that a compaction merged away, or that was stored and never got into a
 * manifest; a manifest that has a successor. Never the first manifest of an epoch (I5): it is what
 * a stalled opener's claim must meet. Each stays for the grace period, so that readers elsewhere
 * that still go by an older manifest find it; an SST besides for as long as a view here holds it
 * (I7).
 *
 * WHO DELETES. The reaper, a fiber that exists only while something waits for its end. A writer
 * that is fenced deletes nothing more. What a process leaves behind at its end, the sweeper of the
 * next one finds: it lists the SSTs of older epochs and the manifests from `swept_through` on. That
 * mark moves up when all that was found below our epoch's first manifest is gone, so that the first
 * manifests of the past are not read again by every opener.
 */
#include "base/err.h"
#include "base/msg.h"
#include "index/index_priv.h"
#include <errno.h>
#include <string.h>

#define DELETES_AT_ONCE 64u
#define POSTPONE_MS 30000u
#define PAGE_NAMES 1000u

struct index_dead {
    struct list link;
    struct sst *sst; /* NULL = only the name is known */
    uint64_t number; /* of a manifest; UINT64_MAX = it is an SST */
    uint64_t epoch;
    uint64_t counter;
    uint64_t due_ns;
    bool swept; /* counted in sweep_pending */
};

static void add_dead(struct index *ix, const struct index_dead *proto)
{
    struct index_dead *d = malloc(sizeof *d);
    if (d == NULL) {
        return; /* the next opener sweeps it */
    }
    *d = *proto;
    d->due_ns = rt_after_ms(ix->opt.delete_after_ms);
    if (d->sst != NULL) {
        (void)sst_ref(d->sst);
    }
    rt_mutex_lock(&ix->m);
    ix->sweep_pending += d->swept;
    list_push_back(&ix->dead, &d->link);
    rt_mutex_unlock(&ix->m);
}

static void free_dead(struct index_dead *d)
{
    if (d->sst != NULL) {
        sst_unref(d->sst);
    }
    free(d);
}

void index_reap_sst(struct index *ix, struct sst *s)
{
    struct index_dead d = {
        .sst = s, .number = UINT64_MAX, .epoch = s->meta.epoch, .counter = s->meta.counter};
    add_dead(ix, &d);
}

void index_reap_manifest(struct index *ix, uint64_t number)
{
    struct index_dead d = {.number = number};
    add_dead(ix, &d);
}

void index_reap_free(struct index *ix)
{
    list_for_each(&ix->dead, struct index_dead, link, d) {
        list_remove(&d->link);
        free_dead(d);
    }
}

/* The first that is due, taken out; else NULL, and when the next one will be (RT_FOREVER: nothing
 * waits). */
static struct index_dead *take_due(struct index *ix, uint64_t *ret_next_ns)
{
    uint64_t now = rt_now_ns();
    struct index_dead *due = NULL;
    *ret_next_ns = RT_FOREVER;
    list_for_each(&ix->dead, struct index_dead, link, d) {
        if (d->due_ns <= now && d->sst != NULL && atomic_load(&d->sst->refs) > 1) {
            d->due_ns =
                now + MIN_OF(ix->opt.delete_after_ms, (uint64_t)POSTPONE_MS) * 1000000ull + 1;
        }
        if (d->due_ns <= now) {
            due = d;
            break;
        }
        *ret_next_ns = MIN_OF(*ret_next_ns, d->due_ns);
    }
    if (due != NULL) {
        list_remove(&due->link);
    }
    return due;
}

/* What was swept is gone: manifests written from now on say so. */
static void note_swept(struct index *ix)
{
    ix->sweep_pending--;
    if (ix->sweep_pending == 0 && ix->sweep_complete) {
        ix->swept_through = ix->epoch_first;
    }
}

/* Objects that are deleted together. */
struct grave {
    struct index_dead *at[DELETES_AT_ONCE];
    char *names[DELETES_AT_ONCE];
    size_t count;
};

static char *name_of(const struct index_dead *d)
{
    char name[OBJ_NAME_SIZE];
    if (d->number != UINT64_MAX) {
        manifest_name(d->number, name);
    } else {
        sst_name(d->epoch, d->counter, name);
    }
    return strdup(name);
}

static int bury(struct index *ix, struct grave *g) WAITS
{
    int r = 0;
    for (size_t i = 0; i < g->count; i++) {
        g->names[i] = name_of(g->at[i]);
        r = g->names[i] != NULL ? r : -ENOMEM;
    }
    if (r == 0) {
        r = obj_remove_many(ix->opt.store, OBJ_COLLECT, (const char *const *)g->names, g->count);
    }
    for (size_t i = 0; i < g->count; i++) {
        struct index_dead *d = g->at[i];
        rt_mutex_lock(&ix->m);
        if (r == 0 && d->swept) {
            note_swept(ix);
        }
        if (r < 0) {
            d->due_ns = rt_after_ms(POSTPONE_MS);
            list_push_back(&ix->dead, &d->link);
        }
        rt_mutex_unlock(&ix->m);
        if (r == 0) {
            msg_debug("index", "deleted %s", g->names[i]);
            free_dead(d);
        }
        free(g->names[i]);
    }
    return r;
}

/* Takes out what is due, at most as much as one grave holds; else *ret_next_ns: when to look again.
 */
static void gather_due(struct index *ix, struct grave *g, uint64_t *ret_next_ns)
{
    struct index_dead *d = take_due(ix, ret_next_ns);
    g->count = 0;
    while (d != NULL) {
        g->at[g->count++] = d;
        d = g->count < DELETES_AT_ONCE ? take_due(ix, ret_next_ns) : NULL;
    }
}

static void reaper(void *arg) WAITS
{
    struct index *ix = arg;
    int r = 0;
    for (;;) {
        struct grave g;
        uint64_t next_ns = RT_FOREVER;
        rt_mutex_lock(&ix->m);
        bool ends = r == -ECANCELED || index_fenced(ix) < 0;
        if (!ends) {
            gather_due(ix, &g, &next_ns);
            ends = g.count == 0 && next_ns == RT_FOREVER;
        }
        if (ends) {
            ix->reaper_runs = false;
            rt_mutex_unlock(&ix->m);
            return;
        }
        rt_mutex_unlock(&ix->m);
        r = g.count > 0 ? bury(ix, &g) : rt_sleep_until(next_ns);
    }
}

void index_reap_kick(struct index *ix)
{
    rt_mutex_lock(&ix->m);
    bool start = ix->writable && !ix->closing && !ix->reaper_runs && !list_is_empty(&ix->dead);
    ix->reaper_runs |= start;
    rt_mutex_unlock(&ix->m);
    if (start && rt_group_spawn(ix->reapers, "index-reap", reaper, ix) < 0) {
        rt_mutex_lock(&ix->m);
        ix->reaper_runs = false;
        rt_mutex_unlock(&ix->m);
    }
}

/* Calls one() for each name of the prefix after `after`, until it gives other than 0. */
static int each_name(struct index *ix, const char *prefix, const char *after,
                     int (*one)(struct index *ix, const char *name, void *arg) WAITS, void *arg)
    WAITS
{
    char last[OBJ_NAME_SIZE];
    struct obj_names names = {.more = true};
    int r = 0;
    memcpy(last, after, strlen(after) + 1);
    while (r == 0 && names.more) {
        names = (struct obj_names){0};
        r = obj_list(ix->opt.store, OBJ_COLLECT, prefix, last, PAGE_NAMES, &names);
        if (r < 0) {
            return r;
        }
        for (size_t i = 0; r == 0 && i < names.names.len; i++) {
            memcpy(last, names.names.at[i], strlen(names.names.at[i]) + 1);
            r = rt_cancelled() ? -ECANCELED : one(ix, last, arg);
        }
        obj_names_free(&names);
    }
    return r;
}

/* 0 = go on, 1 = all below are swept. */
static int sweep_manifest(struct index *ix, const char *name, void *arg) WAITS
{
    (void)arg;
    uint64_t number;
    struct manifest m;
    if (manifest_name_parse(name, &number) < 0) {
        return 0;
    }
    if (number < ix->swept_through) {
        return 1;
    }
    struct index_home home = index_home(&ix->opt);
    int r = index_manifest_read(ix->opt.store, &home, number, &m);
    if (r < 0) {
        return r == -ECANCELED ? r : 0; /* what cannot be read is not deleted */
    }
    if (!m.first_of_epoch) { /* I5 */
        struct index_dead d = {.number = number, .swept = true};
        add_dead(ix, &d);
    }
    manifest_free(&m);
    return 0;
}

struct known_sst {
    uint64_t epoch;
    uint64_t counter;
};

struct known_ssts {
    VEC(struct known_sst) v;
    uint64_t epoch; /* ours: not swept */
};

static int compare_known(const void *a, const void *b)
{
    const struct known_sst *x = a;
    const struct known_sst *y = b;
    if (x->epoch != y->epoch) {
        return x->epoch < y->epoch ? -1 : 1;
    }
    return (x->counter > y->counter) - (x->counter < y->counter);
}

static int sweep_sst(struct index *ix, const char *name, void *arg) WAITS
{
    const struct known_ssts *known = arg;
    struct known_sst k;
    if (sst_name_parse(name, &k.epoch, &k.counter) < 0 || k.epoch >= known->epoch ||
        (known->v.len > 0 &&
         bsearch(&k, known->v.at, known->v.len, sizeof k, compare_known) != NULL)) {
        return 0;
    }
    struct index_dead d = {.number = UINT64_MAX, .epoch = k.epoch, .counter = k.counter};
    add_dead(ix, &d);
    return 0;
}

static int list_known(struct index *ix, struct known_ssts *known)
{
    struct view *view = index_view_take(ix);
    int r = 0;
    for (unsigned level = 0; level < INDEX_LEVELS; level++) {
        const struct sst_list *l = &view->version->levels[level];
        for (size_t i = 0; r == 0 && i < l->v.len; i++) {
            struct known_sst k = {l->v.at[i]->meta.epoch, l->v.at[i]->meta.counter};
            r = vec_push(&known->v, k);
        }
    }
    view_unref(view);
    if (r == 0 && known->v.len > 0) {
        qsort(known->v.at, known->v.len, sizeof known->v.at[0], compare_known);
    }
    return r;
}

static void sweeper(void *arg) WAITS
{
    struct index *ix = arg;
    struct known_ssts known = {.epoch = ix->head.epoch};
    char ours[OBJ_NAME_SIZE];
    manifest_name(ix->epoch_first, ours);
    int r = list_known(ix, &known);
    if (r == 0) {
        r = each_name(ix, SST_PREFIX, "", sweep_sst, &known);
    }
    vec_free(&known.v);
    if (r == 0) {
        r = each_name(ix, MANIFEST_PREFIX, ours, sweep_manifest, NULL);
    }
    if (r < 0) {
        msg_debug("index", "looking for unused objects failed: %s", err_name(r));
    } else {
        rt_mutex_lock(&ix->m);
        ix->sweep_complete = true;
        ix->sweep_pending++;
        note_swept(ix);
        rt_mutex_unlock(&ix->m);
    }
    index_reap_kick(ix);
}

void index_sweep_start(struct index *ix)
{
    if (rt_group_spawn(ix->reapers, "index-sweep", sweeper, ix) < 0) {
        msg_debug("index", "no fiber for the sweep: left to the next start");
    }
}
