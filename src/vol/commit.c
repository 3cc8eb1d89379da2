/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the open batch to the store: rotation, the committer, the commits, the applier, the flush.
 *
 *     writers --vol_rotate()--> [closed batches] --committer: all left, log_reserve()--> commit
 * fiber: seal, log_commit()
 *                                                                                            |
 *     view without the batch  <--vol_applier: prefix stored, vol_apply()---------------------+
 *
 * W1. The successor of a batch opens only after the batch is closed and every core's view shows the
 * successor. So who enters the successor completes after all who are in the batch before it, and
 * whoever reads afterwards sees both: batch order is a true order. W2. Batches get their segment
 * numbers in their order; a number that was reserved is committed. W3. Batches are applied in their
 * order, each after the whole prefix up to it is stored (I6). W4. A fenced volume rotates and
 * applies nothing more; whoever waits for a batch is told.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

static void put_old_view(struct vol *v, struct vol_view *old)
{
    for (unsigned i = 0; old && i < v->slot_count; i++) {
        vol_view_put(old);
    }
}

/* With v->m held (or alone): `fresh` becomes the open batch (W1). */
static struct vol_view *batch_install(struct vol *v, struct vol_batch *fresh, struct vol_view *view)
{
    struct vol_view *old = NULL;
    fresh->number = v->next_number++;
    list_push_back(&v->batches, &fresh->link);
    v->batch_count++;
    v->open = fresh;
    vol_view_publish(v, view, &old);
    vol_batch_open(fresh);
    return old;
}

int vol_batches_start(struct vol *v)
{
    struct vol_batch *fresh;
    int r = vol_batch_create(&fresh);
    if (r < 0) {
        return r;
    }
    struct vol_view *view = malloc(sizeof *view);
    if (!view) {
        vol_batch_unref(fresh);
        return -ENOMEM;
    }
    rt_mutex_lock(&v->m);
    (void)batch_install(v, fresh, view);
    rt_mutex_unlock(&v->m);
    return 0;
}

static bool may_rotate(const struct vol *v, struct vol_batch *expected)
{
    return v->open == expected && atomic_load(&expected->touched) && !atomic_load(&v->fenced) &&
           v->batch_count < VOL_BATCHES_MAX;
}

static bool rotate_with(struct vol *v, struct vol_batch *expected, struct vol_batch *fresh,
                        struct vol_view *view)
{
    struct vol_view *old = NULL;
    rt_mutex_lock(&v->m);
    bool rotates = may_rotate(v, expected);
    if (rotates) {
        atomic_fetch_add(&v->in_flight, 1);
        atomic_fetch_add(&v->rotations, 1);
        vol_batch_close(expected);
        v->rotated_bytes += atomic_load_explicit(&expected->charged, memory_order_relaxed);
        old = batch_install(v, fresh, view);
        rt_waitq_wake_all(&v->commit_q);
    }
    bool blocked = !rotates && v->open == expected && atomic_load(&expected->touched);
    rt_mutex_unlock(&v->m);
    put_old_view(v, old);
    if (!rotates) {
        vol_batch_unref(fresh);
        free(view);
    }
    return !blocked;
}

bool vol_rotate(struct vol *v, struct vol_batch *expected)
{
    struct vol_batch *fresh;
    rt_mutex_lock(&v->m);
    bool rotates = may_rotate(v, expected);
    bool blocked = !rotates && v->open == expected && atomic_load(&expected->touched);
    rt_mutex_unlock(&v->m);
    if (!rotates || vol_batch_create(&fresh) < 0) {
        return !blocked && !rotates;
    }
    struct vol_view *view = malloc(sizeof *view);
    if (!view) {
        vol_batch_unref(fresh);
        return false;
    }
    return rotate_with(v, expected, fresh, view);
}

void vol_fence(struct vol *v)
{
    if (atomic_exchange(&v->fenced, true)) {
        return;
    }
    if (!atomic_load(&v->failed) && !v->abandoned) {
        msg_error("vol", "another writer has taken over: nothing more is acknowledged");
    }
    log_abandon(v->log);
    rt_credits_resize(&v->dirty, UINT64_MAX);
    rt_mutex_lock(&v->m);
    list_for_each(&v->batches, struct vol_batch, link, b) {
        rt_event_set(&b->reserved);
        rt_event_set(&b->applied);
    }
    rt_waitq_wake_all(&v->commit_q);
    rt_waitq_wake_all(&v->apply_q);
    rt_waitq_wake_all(&v->room_q);
    rt_waitq_wake_all(&v->drained_q);
    rt_mutex_unlock(&v->m);
    rt_mutex_lock(&v->hole_m);
    rt_waitq_wake_all(&v->hole_q);
    rt_mutex_unlock(&v->hole_m);
    if (v->on_fenced && !v->abandoned &&
        rt_spawn("vol fenced", v->on_fenced, v->on_fenced_arg) < 0) {
        v->on_fenced(v->on_fenced_arg); /* no fiber is left, and it has to be told */
    }
}

int vol_heed(struct vol *v, int r)
{
    if (unlikely(r == ERR_FENCED) && v->log && !atomic_load(&v->fenced)) {
        vol_fence(v);
    }
    return r;
}

/* One batch: seal, PUT. Runs on a fiber of its own, several at a time. */
struct commit {
    struct vol *v;
    struct vol_batch *b;
};

static int seal_until_good(struct vol *v, struct vol_batch *b) WAITS
{
    for (;;) {
        int r = vol_seal(v, b);
        if (r == 0 || atomic_load(&v->fenced)) {
            return r;
        }
        msg_warn("vol", "batch %" PRIu64 " cannot be sealed: %s; trying again", b->number,
                 err_text(r));
        rt_shield();
        (void)rt_sleep_ms(100);
        rt_unshield();
    }
}

static void rotate_after_commit(struct vol *v)
{
    struct vol_view *view = vol_view_get(v);
    struct vol_batch *b = view->batches[0];
    uint64_t charged = atomic_load(&b->charged);
    bool scarce = rt_credits_used(&v->dirty) > v->dirty.total / 4 * 3;
    if (charged >= vol_rotate_bytes(v) || (scarce && charged > 0)) {
        (void)vol_rotate(v, b);
    }
    vol_view_put(view);
}

/*
 * A batch is applied as soon as one attempt has stored it. Another that is slow may read its blocks
 * for longer: the dirty space goes back when both have come to an end.
 */
static void space_give(struct vol *v, struct vol_batch *b)
{
    if (atomic_fetch_sub(&b->space_holders, 1) == 1) {
        vol_dirty_give(v, atomic_load(&b->charged));
    }
}

struct sealing {
    struct log_batch log;
    struct vol_batch *batch;
};

/* Before the first attempt: the applier does not wait for log_commit() to return. */
static void note_salt(struct log_batch *lb, uint64_t seq)
{
    (void)seq;
    container_of(lb, struct sealing, log)->batch->salt = lb->salt;
}

static void commit_batch(struct vol *v, struct vol_batch *b)
{
    int r = seal_until_good(v, b);
    if (r == 0) {
        struct sealing s = {
            .log = {.number = b->number,
                    .frames = b->frames,
                    .frame_count = b->frame_count,
                    .records = b->records.data,
                    .records_len = (uint32_t)b->records.len,
                    .sealed = note_salt},
            .batch = b,
        };
        r = log_commit(v->log, b->seq, &s.log);
    }
    bool last = atomic_fetch_sub(&v->in_flight, 1) == 1;
    if (r < 0) {
        if (r != ERR_FENCED) {
            msg_error("vol", "segment %016" PRIx64 " was not stored: %s; the volume stops", b->seq,
                      err_text(r));
            atomic_store(&v->failed, true);
        }
        vol_fence(v);
        return;
    }
    atomic_fetch_add(&v->segments_stored, 1);
    space_give(v, b);
    vol_dirty_adapt(v);
    if (last) {
        rotate_after_commit(v);
    }
}

static void commit_fiber(void *arg)
{
    struct commit c = *(struct commit *)arg;
    free(arg);
    commit_batch(c.v, c.b);
    vol_batch_unref(c.b);
}

/* On the cores in turn; without a fiber for it, the committer does it itself, one after the other.
 */
static void commit_start(struct vol *v, struct vol_batch *b)
{
    struct commit *c = malloc(sizeof *c);
    if (c) {
        *c = (struct commit){v, vol_batch_ref(b)};
        unsigned core = (unsigned)(b->number % rt_core_count());
        if (rt_group_spawn_on(v->work, core, "vol commit", commit_fiber, c) == 0) {
            return;
        }
        vol_batch_unref(c->b);
        free(c);
    }
    commit_batch(v, b);
}

/* The oldest batch that is closed and has no number yet, with a reference; waits for one. NULL when
 * the volume ends. */
static struct vol_batch *next_closed(struct vol *v)
{
    struct vol_batch *found = NULL;
    rt_mutex_lock(&v->m);
    while (!found && !atomic_load(&v->fenced)) {
        list_for_each(&v->batches, struct vol_batch, link, b) {
            if (b != v->open && b->seq == 0) {
                found = vol_batch_ref(b);
                break;
            }
        }
        if (!found && rt_waitq_wait(&v->commit_q, &v->m, RT_FOREVER) < 0) {
            break;
        }
    }
    rt_mutex_unlock(&v->m);
    return found;
}

static int reserve(struct vol *v, struct vol_batch *b)
{
    vol_batch_wait_left(b);
    atomic_store_explicit(&b->sealed, true, memory_order_release);
    uint64_t seq;
    int r = log_reserve(v->log, &seq);
    if (r < 0) {
        return r;
    }
    rt_mutex_lock(&v->m);
    b->seq = seq;
    rt_waitq_wake_all(&v->apply_q);
    rt_mutex_unlock(&v->m);
    rt_event_set(&b->reserved);
    return 0;
}

void vol_committer(void *arg)
{
    struct vol *v = arg;
    for (;;) {
        struct vol_batch *b = next_closed(v);
        if (!b) {
            return;
        }
        int r = reserve(v, b);
        if (r == 0) {
            commit_start(v, b);
        }
        vol_batch_unref(b);
        if (r < 0) {
            if (r != -ECANCELED) {
                if (r != ERR_FENCED) {
                    msg_error("vol", "no number for a batch: %s; the volume stops", err_text(r));
                    atomic_store(&v->failed, true);
                }
                vol_fence(v);
            }
            return;
        }
    }
}

/* The oldest batch once it has its number, with a reference; NULL when the volume ends. */
static struct vol_batch *next_reserved(struct vol *v)
{
    struct vol_batch *found = NULL;
    rt_mutex_lock(&v->m);
    while (!found && !atomic_load(&v->fenced)) {
        struct vol_batch *b = container_of(v->batches.next, struct vol_batch, link);
        if (b->seq != 0) {
            found = vol_batch_ref(b);
        } else if (rt_waitq_wait(&v->apply_q, &v->m, RT_FOREVER) < 0) {
            break;
        }
    }
    rt_mutex_unlock(&v->m);
    return found;
}

/* The index has the batch: it leaves the view, and what it held goes back. */
static void batch_retire(struct vol *v, struct vol_batch *b)
{
    struct vol_view *view;
    while (!(view = malloc(sizeof *view))) {
        rt_shield();
        (void)rt_sleep_ms(10);
        rt_unshield();
    }
    struct vol_view *old;
    rt_mutex_lock(&v->m);
    list_remove(&b->link);
    v->batch_count--;
    vol_view_publish(v, view, &old);
    rt_waitq_wake_all(&v->room_q);
    if (v->batch_count == 1) {
        rt_waitq_wake_all(&v->drained_q);
    }
    rt_mutex_unlock(&v->m);
    put_old_view(v, old);
    vol_usage_settle(v, atomic_load(&b->charged));
    rt_event_set(&b->applied);
    space_give(v, b);
    vol_batch_unref(b); /* the list's */
}

/* A large batch lets others on its core go first now and then. */
static void cache_blocks(struct vol *v, const struct vol_batch *b) WAITS
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < b->frame_count; i++) {
        if (i % 16 == 15) {
            rt_yield();
        }
        const struct log_frame *f = &b->frames[i];
        struct rt_piece piece;
        if (i + 8 < b->frame_count) {
            cache_hint(v->cache, b->seq, f[8].offset, CACHE_HINT_BUCKET);
        }
        if (vol_frame_piece(b, f, &at, &piece) == 0) {
            cache_put(v->cache, b->seq, f->offset, &piece);
            rt_buf_unref(piece.buf);
        }
    }
}

static int apply_batch(struct vol *v, struct vol_batch *b)
{
    int r = log_wait_stored(v->log, b->seq, RT_FOREVER);
    if (r < 0) {
        return r;
    }
    ASSERT(log_stored_through(v->log) >= b->seq); /* I6 */
    cache_blocks(v, b);
    return vol_apply(v, &(struct vol_apply_in){
                            .seq = b->seq,
                            .number = b->number,
                            .epoch = v->epoch,
                            .salt = &b->salt,
                            .frames = b->frames,
                            .frame_count = b->frame_count,
                            .records = b->records.data,
                            .records_len = (uint32_t)b->records.len,
                        });
}

void vol_applier(void *arg)
{
    struct vol *v = arg;
    for (;;) {
        struct vol_batch *b = next_reserved(v);
        if (!b) {
            return;
        }
        int r = apply_batch(v, b);
        if (r == 0) {
            batch_retire(v, b);
        }
        vol_batch_unref(b);
        if (r == -ECANCELED) {
            return;
        }
        if (r < 0) {
            if (r != ERR_FENCED) {
                msg_error("vol", "a stored batch cannot be applied: %s; the volume stops",
                          err_text(r));
                atomic_store(&v->failed, true);
            }
            vol_fence(v);
            return;
        }
    }
}

/* The youngest batch that holds something, if it is not applied: with a reference. */
static struct vol_batch *youngest(struct vol *v)
{
    uint64_t number = atomic_load(&v->entered_number);
    struct vol_batch *found = NULL;
    rt_mutex_lock(&v->m);
    list_for_each(&v->batches, struct vol_batch, link, b) {
        if (b->number == number) {
            found = vol_batch_ref(b);
        }
    }
    rt_mutex_unlock(&v->m);
    return found;
}

int vol_settle(struct vol *v)
{
    struct vol_batch *b = youngest(v);
    if (!b) {
        return 0;
    }
    (void)vol_rotate(v, b); /* without room for another batch, its age does */
    int r = rt_event_wait(&b->applied, RT_FOREVER);
    vol_batch_unref(b);
    if (r < 0) {
        return r;
    }
    return atomic_load(&v->fenced) ? ERR_FENCED : 1;
}

/* A batch does not grow older than rotate_after_ms: the timer runs only while the open batch holds
 * something. */
void vol_ager(void *arg)
{
    struct vol *v = arg;
    while (rt_event_wait(&v->aging, RT_FOREVER) == 0) {
        rt_event_reset(&v->aging);
        struct vol_view *view = vol_view_get(v);
        struct vol_batch *b = vol_batch_ref(view->batches[0]);
        vol_view_put(view);
        int r = 0;
        if (atomic_load(&b->touched)) {
            r = rt_sleep_until(atomic_load(&b->touched_ns) + v->opt.rotate_after_ms * NS_PER_MS);
            while (r == 0 && !vol_rotate(v, b) && !atomic_load(&v->fenced)) {
                r = rt_sleep_ms(10);
            }
        }
        vol_batch_unref(b);
        if (r < 0) {
            return;
        }
    }
}

int vol_drain(struct vol *v)
{
    int r = 0;
    rt_shield();
    rt_mutex_lock(&v->m);
    while (r == 0 && v->batch_count > 1 && !atomic_load(&v->fenced)) {
        r = rt_waitq_wait(&v->drained_q, &v->m, RT_FOREVER);
    }
    rt_mutex_unlock(&v->m);
    rt_unshield();
    return atomic_load(&v->fenced) ? ERR_FENCED : r;
}
