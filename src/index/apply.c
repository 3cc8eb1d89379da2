/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling the active memtable.
 *
 * THE TOKEN. Either one batch is being put into the active memtable, or it is being frozen and
 * replaced, never both: `filling`. A freeze gives the token back only when every reader sees the
 * new memtable; only then the next batch goes there.
 *
 * READERS see a batch come in write by write, on other cores in any case, and on this one because a
 * large batch gives way to others now and then. Whoever needs all of it at once sees it elsewhere
 * until this has returned, as vol's readers do in the batch itself.
 *
 * I6: A memtable holds whole batches, and is frozen only between segments when an applier does it,
 * so that its replay position is the segment after its last one. index_flush() freezes at once; its
 * callers do not call it between two batches of one segment.
 */
#include "base/assert.h"
#include "base/err.h"
#include "index/index_priv.h"
#include <errno.h>

/* How far ahead memory is asked for. */
#define HINT_STEPS 4u
/* After so many puts, others on this core go first. */
#define PUTS_PER_TURN 128u

int index_fill_begin(struct index *ix) WAITS
{
    while (ix->filling) {
        int r = rt_waitq_wait(&ix->q, &ix->m, RT_FOREVER);
        if (r < 0) {
            return r;
        }
    }
    ix->filling = true;
    return 0;
}

void index_fill_end(struct index *ix)
{
    ix->filling = false;
    rt_waitq_wake_all(&ix->q);
}

/* With m held and the token: puts `fresh` in place of the active memtable. */
static int swap_active(struct index *ix, struct memtable *fresh, struct view **ret_view,
                       uint64_t *ret_generation)
{
    struct index_frozen f = {.mt = ix->active,
                             .last_seq = ix->applied_seq,
                             .last_batch = ix->applied_batch,
                             .log_epoch = ix->applied_log_epoch};
    int r = vec_push(&ix->frozen, f);
    if (r < 0) {
        return r;
    }
    ix->active = fresh;
    r = index_view_make(ix, ret_view, ret_generation);
    if (r < 0) {
        ix->active = f.mt;
        ix->frozen.len--;
        return r;
    }
    ix->active_batches = 0;
    ix->active_segments = 0;
    ix->frozen_total++;
    return 0;
}

int index_freeze(struct index *ix) WAITS
{
    struct memtable *fresh;
    struct view *view = NULL;
    uint64_t generation = 0;
    int r = memtable_create(ix->opt.memtable_bytes, &fresh);
    if (r < 0) {
        return r;
    }
    rt_mutex_lock(&ix->m);
    r = index_fill_begin(ix);
    if (r == 0) {
        bool swap = ix->active_batches > 0;
        if (swap) {
            r = swap_active(ix, fresh, &view, &generation);
        }
        rt_mutex_unlock(&ix->m);
        if (view != NULL) {
            index_view_publish(ix, view, generation);
            fresh = NULL;
        }
        rt_mutex_lock(&ix->m);
        index_fill_end(ix);
    }
    rt_mutex_unlock(&ix->m);
    memtable_unref(fresh);
    return r;
}

static bool active_is_full(const struct index *ix, uint64_t seq)
{
    return ix->active_batches > 0 && seq != ix->applied_seq &&
           (memtable_bytes(ix->active) >= ix->opt.memtable_bytes ||
            ix->active_segments >= ix->opt.segments_max);
}

/*
 * The flusher is started here again if there was no fiber for it when it was to start. Those who
 * hold the fibers may be waiting for just this flush: without one the caller does it itself.
 */
int index_flush_wait(struct index *ix) WAITS
{
    int r = index_fenced(ix);
    if (r < 0 || ix->closing) {
        return r < 0 ? r : -ECANCELED;
    }
    if (!ix->flusher_runs) {
        rt_mutex_unlock(&ix->m);
        index_flush_help(ix);
        rt_mutex_lock(&ix->m);
        if (!ix->flusher_runs) {
            return rt_cancelled() ? -ECANCELED : index_fenced(ix);
        }
    }
    return rt_waitq_wait(&ix->q, &ix->m, RT_FOREVER);
}

/* Before a batch of segment seq: freezes a full memtable, waiting while too many are unflushed. */
static int make_room(struct index *ix, uint64_t seq) WAITS
{
    int r = 0;
    rt_mutex_lock(&ix->m);
    bool full = active_is_full(ix, seq);
    while (full && r == 0 && ix->writable && !ix->closing && ix->frozen.len >= INDEX_FROZEN_MAX) {
        r = index_flush_wait(ix);
    }
    rt_mutex_unlock(&ix->m);
    if (r < 0 || !full) {
        return r;
    }
    r = index_freeze(ix);
    if (r == 0) {
        index_flush_kick(ix);
    }
    return r;
}

static void note_applied(struct index *ix, uint64_t seq, uint64_t batch, uint64_t log_epoch)
{
    ix->active_segments += ix->active_batches == 0 || seq != ix->applied_seq;
    ix->active_batches++;
    ix->applied_seq = seq;
    ix->applied_batch = batch;
    ix->applied_log_epoch = log_epoch;
}

/* With the token, and memory for all of it. */
static void put_all(struct memtable *mt, const struct index_write *w, size_t count) WAITS
{
    for (size_t i = 0; i < count; i++) {
        if (i + 2 * HINT_STEPS < count) {
            memtable_hint(mt, &w[i + 2 * HINT_STEPS], false);
            memtable_hint(mt, &w[i + HINT_STEPS], true);
        }
        memtable_put(mt, &w[i]);
        if (i % PUTS_PER_TURN == PUTS_PER_TURN - 1) {
            rt_yield();
        }
    }
}

int index_apply(struct index *ix, uint64_t seq, uint64_t batch, uint64_t log_epoch,
                const struct index_write *w, size_t count) WAITS
{
    int r = index_fenced(ix);
    if (r < 0) {
        return r;
    }
    r = make_room(ix, seq);
    if (r < 0) {
        return r;
    }
    rt_mutex_lock(&ix->m);
    ASSERT(seq >= ix->applied_seq);
    r = index_fill_begin(ix);
    struct memtable *mt = ix->active;
    rt_mutex_unlock(&ix->m);
    if (r < 0) {
        return r;
    }
    r = memtable_reserve(mt, w, count);
    if (r == 0) {
        put_all(mt, w, count);
    }
    rt_mutex_lock(&ix->m);
    if (r == 0) {
        note_applied(ix, seq, batch, log_epoch);
    }
    index_fill_end(ix);
    rt_mutex_unlock(&ix->m);
    return r;
}
