/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The task set of a logical unit (SAM-5 8), shared by all nexuses and kept in shards.
 *
 * ORDER. Each ORDERED task takes the next number of its LU on entering; every other task notes,
 * under its shard's mutex, the number given out last. Call both t->order. Then
 *
 *   T1  a task that is not ORDERED goes on when no ORDERED task with a number <= its order is left;
 *   T2  an ORDERED task goes on when it is the oldest ORDERED one, and no task of a smaller order
 *       is left in any shard;
 *   T3  HEAD OF QUEUE goes on at once.
 *
 * A number is given out before the shards are looked through, so a task that T2 overlooked has seen
 * the number and waits by T1. All waits are for smaller orders: there is no circle. Where no
 * ORDERED task is, the cost is one load on entering, one before running, one on leaving.
 *
 * ABORT. State of a task, changed by compare-and-swap alone:
 *
 *     NEW ──enter──> ENTERED ──result there──> DONE
 *                       └──────aborted───────> ABORTING      (it goes on to its end, unsent)
 *
 * ROOM. A shard takes only so many tasks. One more is turned away: it is in no list, so that nobody
 * can abort it or wait for it, and DONE from the beginning.
 */
#include "base/assert.h"
#include "scsi/pr_priv.h"
#include "scsi/scsi_priv.h"

void scsi_bell_init(struct scsi_bell *b)
{
    rt_mutex_init(&b->m);
    rt_waitq_init(&b->q);
    b->rings = 0;
}

void scsi_bell_destroy(struct scsi_bell *b)
{
    rt_mutex_destroy(&b->m);
}

void scsi_bell_ring(struct scsi_bell *b)
{
    rt_mutex_lock(&b->m);
    b->rings++;
    rt_waitq_wake_all(&b->q);
    rt_mutex_unlock(&b->m);
}

uint64_t scsi_bell_rings(struct scsi_bell *b)
{
    rt_mutex_lock(&b->m);
    uint64_t rings = b->rings;
    rt_mutex_unlock(&b->m);
    return rings;
}

int scsi_bell_wait(struct scsi_bell *b, uint64_t rings)
{
    int r = 0;
    rt_mutex_lock(&b->m);
    while (b->rings == rings && r >= 0) {
        r = rt_waitq_wait(&b->q, &b->m, RT_FOREVER);
    }
    rt_mutex_unlock(&b->m);
    return r;
}

static void order_enter(struct scsi_task *t)
{
    struct scsi_lu *lu = t->lu;
    struct scsi_bell *bell = &lu->target->bell;
    rt_mutex_lock(&bell->m);
    t->order = 1 + atomic_fetch_add(&lu->ordered_gen, 1);
    if (list_is_empty(&lu->ordered)) {
        atomic_store(&lu->ordered_oldest, t->order);
    }
    list_push_back(&lu->ordered, &t->order_link);
    rt_mutex_unlock(&bell->m);
}

static void order_leave(struct scsi_task *t)
{
    struct scsi_lu *lu = t->lu;
    struct scsi_bell *bell = &lu->target->bell;
    rt_mutex_lock(&bell->m);
    list_remove(&t->order_link);
    uint64_t oldest = UINT64_MAX;
    if (!list_is_empty(&lu->ordered)) {
        oldest = container_of(lu->ordered.next, struct scsi_task, order_link)->order;
    }
    atomic_store(&lu->ordered_oldest, oldest);
    rt_mutex_unlock(&bell->m);
}

/* A guest may stand in a unit of which its nexus has no view. */
static struct scsi_shard *shard_of(const struct scsi_task *t)
{
    return likely(t->itl) ? t->itl->shard : &t->lu->shards[t->nexus->id % SCSI_SHARDS];
}

bool scsi_taskset_enter(struct scsi_task *t)
{
    struct scsi_shard *shard = shard_of(t);
    if (likely(t->itl)) {
        t->itl->tasks++;
    }
    if (unlikely(t->attr == SCSI_ATTR_ORDERED)) {
        order_enter(t);
    }
    rt_mutex_lock(&shard->m);
    if (likely(t->attr != SCSI_ATTR_ORDERED)) {
        t->order = atomic_load(&t->lu->ordered_gen);
    }
    bool full = shard->count >= t->lu->shard_tasks_max;
    atomic_store_explicit(&t->state, full ? SCSI_TASK_DONE : SCSI_TASK_ENTERED,
                          memory_order_relaxed);
    if (likely(!full)) {
        list_push_back(&shard->tasks, &t->lu_link);
        shard->count++;
    }
    rt_mutex_unlock(&shard->m);
    return !full;
}

void scsi_taskset_leave(struct scsi_task *t)
{
    struct scsi_itl *itl = t->itl;
    struct scsi_lu *lu = t->lu;
    struct scsi_shard *shard = shard_of(t);
    rt_mutex_lock(&shard->m);
    shard->count -= !list_is_empty(&t->lu_link);
    list_remove(&t->lu_link);
    bool awaited = t->awaited;
    rt_mutex_unlock(&shard->m);
    if (unlikely(t->attr == SCSI_ATTR_ORDERED)) {
        order_leave(t);
        awaited = true;
    }
    if (unlikely(awaited || atomic_load(&lu->ordered_oldest) != UINT64_MAX)) {
        scsi_bell_ring(&lu->target->bell);
    }
    if (unlikely(!itl)) {
        return;
    }
    itl->tasks--;
    if (unlikely(itl->gone) && itl->tasks == 0) {
        list_remove(&itl->gone_link);
        scsi_itl_destroy(itl);
    }
}

static bool older_left(struct scsi_lu *lu, const struct scsi_task *t)
{
    bool found = false;
    for (size_t i = 0; i < SCSI_SHARDS && !found; i++) {
        rt_mutex_lock(&lu->shards[i].m);
        list_for_each(&lu->shards[i].tasks, struct scsi_task, lu_link, other) {
            if (other->order < t->order) {
                found = true;
                break;
            }
        }
        rt_mutex_unlock(&lu->shards[i].m);
    }
    return found;
}

static bool may_go(const struct scsi_task *t)
{
    uint64_t oldest = atomic_load(&t->lu->ordered_oldest);
    if (t->attr != SCSI_ATTR_ORDERED) {
        return oldest > t->order;
    }
    return oldest == t->order && !older_left(t->lu, t);
}

bool scsi_taskset_is_free(const struct scsi_task *t)
{
    return t->attr == SCSI_ATTR_HEAD ||
           (t->attr != SCSI_ATTR_ORDERED && atomic_load(&t->lu->ordered_oldest) > t->order);
}

void scsi_taskset_turn(struct scsi_task *t)
{
    if (likely(scsi_taskset_is_free(t))) {
        return;
    }
    struct scsi_bell *bell = &t->lu->target->bell;
    for (;;) {
        uint64_t rings = scsi_bell_rings(bell);
        if (scsi_task_is_aborted(t) || may_go(t)) {
            return;
        }
        if (scsi_bell_wait(bell, rings) < 0) {
            /* Its fiber is cancelled: nobody is left to hear of it, and it must not overtake. */
            unsigned entered = SCSI_TASK_ENTERED;
            atomic_compare_exchange_strong(&t->state, &entered, SCSI_TASK_ABORTING);
            return;
        }
    }
}

static bool matches(const struct scsi_taskset_filter *f, const struct scsi_task *t)
{
    if (unlikely(f->guests_of)) {
        return t->is_guest && scsi_pr_is_of(t->nexus, f->guests_of) && t != f->except;
    }
    return (!f->nexus || t->nexus->id == f->nexus) && (!f->by_tag || t->tag == f->tag) &&
           t != f->except;
}

struct abort {
    const struct scsi_taskset_filter *filter;
    const struct scsi_nexus *by;
    uint64_t id;
};

/* Under the shard's mutex. Who comes first decides how the task is aborted. */
static void abort_one(struct scsi_task *t, const struct abort *a)
{
    t->awaited = true;
    unsigned entered = SCSI_TASK_ENTERED;
    if (atomic_load(&t->state) == SCSI_TASK_ENTERED) {
        t->by_other = a->by && t->nexus != a->by;
        t->by_reset = a->filter->reset;
        t->tas = scsi_lu_mode(t->lu) & SCSI_MODE_TAS;
        t->by_set = a->filter->whole;
        t->abort_id = a->id;
    }
    if (atomic_compare_exchange_strong(&t->state, &entered, SCSI_TASK_ABORTING) && t->on_abort) {
        t->on_abort(t);
    }
}

void scsi_task_give_up(struct scsi_task *t)
{
    static const struct scsi_taskset_filter alone;
    struct abort a = {.filter = &alone, .by = t->nexus};
    if (!t->itl) {
        return; /* in no task set */
    }
    rt_mutex_lock(&t->itl->shard->m);
    if (!list_is_empty(&t->lu_link)) {
        abort_one(t, &a);
    }
    rt_mutex_unlock(&t->itl->shard->m);
    scsi_attention_add(t->itl, SCSI_UA_PROTOCOL_CLEARED);
    scsi_bell_ring(&t->lu->target->bell); /* it may wait for its turn */
}

unsigned scsi_taskset_abort(struct scsi_lu *lu, const struct scsi_taskset_filter *f,
                            const struct scsi_nexus *by)
{
    struct abort a = {.filter = f, .by = by};
    a.id = 1 + atomic_fetch_add(&lu->target->host->abort_ids, 1);
    unsigned count = 0;
    for (size_t i = 0; i < SCSI_SHARDS; i++) {
        rt_mutex_lock(&lu->shards[i].m);
        list_for_each(&lu->shards[i].tasks, struct scsi_task, lu_link, t) {
            if (matches(f, t)) {
                abort_one(t, &a);
                count++;
            }
        }
        rt_mutex_unlock(&lu->shards[i].m);
    }
    if (count > 0) {
        scsi_bell_ring(&lu->target->bell); /* some may wait for their turn */
    }
    return count;
}

static unsigned count_tasks(struct scsi_lu *lu, const struct scsi_taskset_filter *f, bool awaited)
{
    unsigned count = 0;
    for (size_t i = 0; i < SCSI_SHARDS; i++) {
        rt_mutex_lock(&lu->shards[i].m);
        list_for_each(&lu->shards[i].tasks, struct scsi_task, lu_link, t) {
            count += matches(f, t) && (!awaited || t->awaited);
        }
        rt_mutex_unlock(&lu->shards[i].m);
    }
    return count;
}

unsigned scsi_taskset_count(struct scsi_lu *lu, const struct scsi_taskset_filter *f)
{
    return count_tasks(lu, f, false);
}

int scsi_taskset_wait(struct scsi_lu *lu, const struct scsi_taskset_filter *f)
{
    struct scsi_bell *bell = &lu->target->bell;
    for (;;) {
        uint64_t rings = scsi_bell_rings(bell);
        if (count_tasks(lu, f, true) == 0) {
            return 0;
        }
        int r = scsi_bell_wait(bell, rings);
        if (r < 0) {
            return r;
        }
    }
}
