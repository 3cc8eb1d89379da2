/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction, in levels. Level 0 holds the runs that flushes made, which overlap; each level below
 * is one run, eight times the size of the one above.
 *
 *     level 0   run run run run        INDEX_RUNS_COMPACT runs: the oldest go into level 1, with
 * what they overlap there level 1   [ ][ ][ ][ ]           over its size: one SST, in turn, goes
 * into level 2, with what it overlaps there level 2   [ ][ ][ ][ ][ ][ ]...
 *
 * RIGHT ALONGSIDE EVERYTHING ELSE. A compaction works on the SSTs of one version; flushes meanwhile
 * only add newer runs to level 0, and there is one compactor, so the SSTs it takes out are still
 * there when it commits. It takes the oldest runs of level 0, so that what stays above is newer
 * than what goes below.
 *
 * TOMBSTONES go when no level below the output overlaps the keys of the inputs: there is nothing
 * left for them to hide.
 *
 * The compactor is a fiber that exists only while there is something to do. One that fails leaves
 * the SSTs as they are; the next flush gives it another try.
 */
#include "base/err.h"
#include "base/msg.h"
#include "index/index_priv.h"
#include "index/merge.h"
#include "rt/offload.h"
#include <errno.h>
#include <string.h>

#define RUNS_AT_ONCE 8u
#define LEVEL_FACTOR 8u
#define LEVEL_1_MEMTABLES 4u

struct plan {
    struct version *v;  /* holds what the slices point to */
    struct sst **upper; /* slice of a level */
    size_t upper_count;
    struct sst **lower; /* slice of the next level */
    size_t lower_count;
    unsigned level; /* of upper */
    bool drop_tombstones;
    const struct sst_meta *smallest; /* those with the ends of the upper range */
    const struct sst_meta *largest;
};

static void find_range(struct plan *p)
{
    p->smallest = &p->upper[0]->meta;
    p->largest = &p->upper[0]->meta;
    for (size_t i = 1; i < p->upper_count; i++) {
        const struct sst_meta *m = &p->upper[i]->meta;
        if (index_key_compare(m->smallest, m->smallest_len, p->smallest->smallest,
                              p->smallest->smallest_len) < 0) {
            p->smallest = m;
        }
        if (index_key_compare(m->largest, m->largest_len, p->largest->largest,
                              p->largest->largest_len) > 0) {
            p->largest = m;
        }
    }
}

/* The slice of a level that overlaps the range: its start, and its length. */
static size_t find_overlap(const struct plan *p, unsigned level, size_t *ret_count)
{
    const struct sst_list *l = &p->v->levels[level];
    size_t from = sst_run_find(l->v.at, l->v.len, p->smallest->smallest, p->smallest->smallest_len);
    size_t n = 0;
    while (from + n < l->v.len) {
        const struct sst_meta *m = &l->v.at[from + n]->meta;
        if (index_key_compare(m->smallest, m->smallest_len, p->largest->largest,
                              p->largest->largest_len) > 0) {
            break;
        }
        n++;
    }
    *ret_count = n;
    return from;
}

static void complete_plan(struct plan *p)
{
    find_range(p);
    size_t from = find_overlap(p, p->level + 1, &p->lower_count);
    p->lower = p->lower_count > 0 ? p->v->levels[p->level + 1].v.at + from : NULL;
    /* The slice below may reach further than the range above it. */
    struct plan whole = *p;
    p->drop_tombstones = true;
    if (p->lower_count > 0) {
        const struct sst_meta *first = &p->lower[0]->meta;
        const struct sst_meta *last = &p->lower[p->lower_count - 1]->meta;
        if (index_key_compare(first->smallest, first->smallest_len, whole.smallest->smallest,
                              whole.smallest->smallest_len) < 0) {
            whole.smallest = first;
        }
        if (index_key_compare(last->largest, last->largest_len, whole.largest->largest,
                              whole.largest->largest_len) > 0) {
            whole.largest = last;
        }
    }
    for (unsigned level = p->level + 2; level < INDEX_LEVELS; level++) {
        size_t n;
        (void)find_overlap(&whole, level, &n);
        p->drop_tombstones = p->drop_tombstones && n == 0;
    }
}

/* The oldest runs of level 0. */
static void plan_top(struct plan *p)
{
    const struct sst_list *top = &p->v->levels[0];
    size_t from = top->v.len;
    for (unsigned runs = 0; runs < RUNS_AT_ONCE && from > 0; runs++) {
        uint64_t run = top->v.at[from - 1]->meta.run;
        while (from > 0 && top->v.at[from - 1]->meta.run == run) {
            from--;
        }
    }
    p->level = 0;
    p->upper = top->v.at + from;
    p->upper_count = top->v.len - from;
}

/* One SST of the level: the one after the last turn's, so that all get theirs. */
static void plan_level(const struct index *ix, struct plan *p, unsigned level)
{
    const struct sst_list *l = &p->v->levels[level];
    const struct bytes_writer *after = &ix->compact_after[level];
    size_t at = after->len > 0 ? sst_run_find(l->v.at, l->v.len, after->data, after->len) : 0;
    p->level = level;
    p->upper = &l->v.at[at < l->v.len ? at : 0];
    p->upper_count = 1;
}

static bool make_plan(const struct index *ix, struct plan *p)
{
    if (version_run_count(p->v) >= INDEX_RUNS_COMPACT) {
        plan_top(p);
        complete_plan(p);
        return true;
    }
    uint64_t limit = ix->opt.memtable_bytes * LEVEL_1_MEMTABLES;
    for (unsigned level = 1; level + 1 < INDEX_LEVELS; level++, limit *= LEVEL_FACTOR) {
        if (sst_list_bytes(&p->v->levels[level]) > limit) {
            plan_level(ix, p, level);
            complete_plan(p);
            return true;
        }
    }
    return false;
}

static bool is_stopped(struct index *ix)
{
    rt_mutex_lock(&ix->m);
    bool stopped = ix->closing || index_fenced(ix) < 0 || rt_cancelled();
    rt_mutex_unlock(&ix->m);
    return stopped;
}

static int add_inputs(struct merge *m, const struct plan *p)
{
    int r = merge_init(m, p->upper_count + 1);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < p->upper_count;) {
        size_t n = 1;
        while (i + n < p->upper_count && p->upper[i + n]->meta.run == p->upper[i]->meta.run) {
            n++;
        }
        merge_add(m, p->upper + i, n);
        i += n;
    }
    if (p->lower_count > 0) {
        merge_add(m, p->lower, p->lower_count);
    }
    m->drop_tombstones = p->drop_tombstones;
    return 0;
}

/* Stores what the writer holds, if anything, and frees it. */
static int finish_output(struct index *ix, struct merge *m, struct sst_list *made) WAITS
{
    int r = 0;
    if (sst_writer_entries(m->w) > 0) {
        struct sst *s;
        r = index_sst_store(ix, OBJ_COMPACT, m->w, &s);
        if (r == 0) {
            r = sst_list_push(made, s);
            sst_unref(s);
        }
    }
    sst_writer_free(m->w);
    m->w = NULL;
    return r;
}

/* One turn: 0 = go on, 1 = done. */
static int turn(struct index *ix, struct merge *m, struct sst_list *made) WAITS
{
    if (is_stopped(ix)) {
        return -ECANCELED;
    }
    int r = m->w == NULL ? index_sst_begin(ix, &m->w) : 0;
    if (r < 0) {
        return r;
    }
    r = rt_offload(RT_OFFLOAD_CPU, merge_step, m);
    if (r == MERGE_NEED) {
        return merge_fill(m, ix->opt.store, OBJ_COMPACT);
    }
    if (r == -EBADMSG) {
        return merge_refill(m, ix->opt.store, OBJ_COMPACT);
    }
    if (r == MERGE_FULL) {
        return finish_output(ix, m, made);
    }
    if (r == MERGE_DONE) {
        r = finish_output(ix, m, made);
        return r < 0 ? r : 1;
    }
    return r == MERGE_AGAIN ? 0 : r;
}

static int merge_inputs(struct index *ix, const struct plan *p, struct sst_list *made) WAITS
{
    struct merge m;
    int r = add_inputs(&m, p);
    while (r == 0) {
        r = turn(ix, &m, made);
    }
    if (m.inputs != NULL) {
        merge_free(&m);
    }
    sst_writer_free(m.w);
    return r < 0 ? r : 0;
}

static bool is_move(const struct plan *p)
{
    return p->level > 0 && p->lower_count == 0 &&
           !(p->drop_tombstones && p->upper[0]->meta.tombstones > 0);
}

static int push_all(struct sst_list *l, struct sst *const *ssts, size_t count)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = sst_list_push(l, ssts[i]);
    }
    return r;
}

/* The next turn of the level starts above the largest key of this one. */
static int note_turn(struct index *ix, const struct plan *p)
{
    struct bytes_writer *after = &ix->compact_after[p->level];
    if (p->level == 0) {
        return 0;
    }
    after->len = 0;
    bytes_put(after, p->largest->largest, p->largest->largest_len);
    bytes_put_u8(after, 0);
    return after->failed ? -ENOMEM : 0;
}

static int run_plan(struct index *ix, const struct plan *p) WAITS
{
    struct sst_list gone = {0};
    struct sst_list made = {0};
    bool move = is_move(p);
    int r = push_all(&gone, p->upper, p->upper_count);
    if (r == 0) {
        r = push_all(&gone, p->lower, p->lower_count);
    }
    if (r == 0) {
        r = note_turn(ix, p);
    }
    if (r == 0) {
        r = move ? push_all(&made, p->upper, p->upper_count) : merge_inputs(ix, p, &made);
    }
    if (r == 0) {
        struct index_edit edit = {
            .add = &made, .add_level = p->level + 1, .remove = &gone, .retire = !move};
        r = index_commit(ix, &edit);
    }
    if (r < 0 && !move && r != ERR_FENCED && r != -ECANCELED) {
        for (size_t i = 0; i < made.v.len; i++) {
            index_reap_sst(ix, made.v.at[i]);
        }
    }
    sst_list_free(&gone);
    sst_list_free(&made);
    return r;
}

/* With what to do, or false when there is nothing, and then the compactor is no more. */
static bool next_plan(struct index *ix, int last, struct plan *ret_plan)
{
    *ret_plan = (struct plan){0};
    rt_mutex_lock(&ix->m);
    ix->compact_failed |= last < 0;
    ret_plan->v = version_ref(ix->version);
    bool more = !ix->closing && !ix->compact_failed && index_fenced(ix) == 0 && !rt_cancelled() &&
                make_plan(ix, ret_plan);
    if (!more) {
        ix->compactor_runs = false;
        rt_waitq_wake_all(&ix->q);
    }
    rt_mutex_unlock(&ix->m);
    if (!more) {
        version_unref(ret_plan->v);
    }
    return more;
}

static void compactor(void *arg) WAITS
{
    struct index *ix = arg;
    struct plan p;
    int r = 0;
    while (next_plan(ix, r, &p)) {
        r = run_plan(ix, &p);
        version_unref(p.v);
        if (r == 0) {
            rt_mutex_lock(&ix->m);
            ix->compactions++;
            rt_mutex_unlock(&ix->m);
            index_reap_kick(ix);
        } else if (r != ERR_FENCED && r != -ECANCELED) {
            msg_warn("index", "compaction of level %u failed: %s", p.level, err_name(r));
        }
    }
}

void index_compact_kick(struct index *ix)
{
    rt_mutex_lock(&ix->m);
    bool start = ix->writable && !ix->closing && !ix->compactor_runs && !ix->compact_failed;
    ix->compactor_runs |= start;
    rt_mutex_unlock(&ix->m);
    if (start && rt_group_spawn(ix->workers, "index-compact", compactor, ix) < 0) {
        rt_mutex_lock(&ix->m);
        ix->compactor_runs = false;
        rt_mutex_unlock(&ix->m);
    }
}
