/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flush: rotate the open batch, wait until the log's prefix holds it. Writers go on meanwhile
 * in the next batch.
 *
 * Flushes are paced: at most VOL_FLUSHES_PER_TRIP of them rotate in one round trip of the store. A
 * lone flush goes at once; under many, one waits a fraction of a round trip and shares its batch
 * with all that come meanwhile.
 *
 * They gather: those that came in one turn share a batch, and while others are on their way to a
 * store that is far, a flush lets a small part of the round trip pass before it rotates. Whose
 * flushes are acknowledged together mostly come again together, so those who flush side by side
 * fall into step: one request to the store for all of them, and hardly any more waiting.
 */
#include "base/err.h"
#include "base/time.h"
#include "vol/vol_priv.h"

#define TRIP_MAX_NS NS_PER_S
#define STRAINED_GAP_NS (20 * NS_PER_MS)
/* Of the round trip, for others to come; where it is less than a timer can tell, none. */
#define GATHER_PART 32u
#define GATHER_MIN_NS (NS_PER_MS / 2)
#define GATHER_MAX_NS (2 * NS_PER_MS)
#define MEMORY_PAUSE_MS 10u

/* The batch whose storing makes everything before durable, with a reference; NULL when there is
 * nothing. *ret_open: it is still open. */
static struct vol_batch *flush_target(struct vol *v, bool *ret_open)
{
    struct vol_batch *b = NULL;
    *ret_open = false;
    rt_mutex_lock(&v->m);
    if (atomic_load(&v->open->touched)) {
        b = v->open;
        *ret_open = true;
    } else if (v->open->link.prev != &v->batches) {
        b = container_of(v->open->link.prev, struct vol_batch, link);
    }
    if (b) {
        (void)vol_batch_ref(b);
    }
    rt_mutex_unlock(&v->m);
    return b;
}

/* With v->m held: whether somebody flushes again and again, for whom batches are kept small. */
static void note_habit(struct vol *v, uint64_t now, uint64_t before)
{
    uint64_t bytes =
        v->rotated_bytes + atomic_load_explicit(&v->open->charged, memory_order_relaxed);
    bool small = bytes - v->flushed_bytes < VOL_FLUSH_HABIT_BYTES;
    v->flushed_bytes = bytes;
    v->small_flushes = small ? v->small_flushes + 1 : 0;
    if (!small) {
        atomic_store_explicit(&v->habit_until_ns, 0, memory_order_relaxed);
    } else if (v->small_flushes >= VOL_FLUSH_HABIT_COUNT && now - before < VOL_FLUSH_HABIT_NS) {
        atomic_store_explicit(&v->habit_until_ns, now + VOL_FLUSH_HABIT_LASTS_NS,
                              memory_order_relaxed);
    }
}

/* When this flush may rotate; 0 = now, and the turn is taken. */
static uint64_t flush_turn(struct vol *v)
{
    uint64_t now = rt_now_ns();
    uint64_t trip = MIN_OF(log_round_trip_ns(v->log), TRIP_MAX_NS);
    bool strained = index_is_strained(v->ix);
    rt_mutex_lock(&v->m);
    uint64_t due = v->flush_turns[v->flush_turn] + trip;
    unsigned last = (v->flush_turn + VOL_FLUSHES_PER_TRIP - 1) % VOL_FLUSHES_PER_TRIP;
    if (strained) {
        due = MAX_OF(due, v->flush_turns[last] + STRAINED_GAP_NS);
    }
    bool turn = v->flush_turns[v->flush_turn] == 0 || due <= now;
    if (turn) {
        unsigned before = (v->flush_turn + VOL_FLUSHES_PER_TRIP - (VOL_FLUSH_HABIT_COUNT - 1)) %
                          VOL_FLUSHES_PER_TRIP;
        note_habit(v, now, v->flush_turns[before]);
        v->flush_turns[v->flush_turn] = now;
        v->flush_turn = (v->flush_turn + 1) % VOL_FLUSHES_PER_TRIP;
    }
    rt_mutex_unlock(&v->m);
    return turn ? 0 : due;
}

static bool is_open(struct vol *v, const struct vol_batch *b)
{
    rt_mutex_lock(&v->m);
    bool open = v->open == b;
    rt_mutex_unlock(&v->m);
    return open;
}

/* The batch could not be rotated: for want of room for another one, or of memory, whose end nobody
 * tells. */
static int wait_for_room(struct vol *v, struct vol_batch *b)
{
    int r = 0;
    rt_mutex_lock(&v->m);
    bool room = v->batch_count < VOL_BATCHES_MAX;
    while (r == 0 && v->batch_count >= VOL_BATCHES_MAX && !atomic_load(&v->fenced)) {
        r = rt_waitq_wait(&v->room_q, &v->m, RT_FOREVER);
    }
    rt_mutex_unlock(&v->m);
    if (room) {
        r = rt_event_wait(&b->reserved, rt_after_ms(MEMORY_PAUSE_MS));
    }
    return r == -ETIMEDOUT ? 0 : r;
}

/* Lets others enter the batch first. Whoever is cancelled rotates it all the same: it may be
 * waited for by others. */
static void gather(struct vol *v, struct vol_batch *b) WAITS
{
    rt_yield();
    uint64_t ns = MIN_OF(log_round_trip_ns(v->log) / GATHER_PART, GATHER_MAX_NS);
    if (ns >= GATHER_MIN_NS && atomic_load(&v->in_flight) > 0 && is_open(v, b)) {
        (void)!rt_event_wait(&b->reserved, rt_now_ns() + ns);
    }
}

/* Until the batch is closed, by whomever. */
static int flush_close(struct vol *v, struct vol_batch *b)
{
    gather(v, b);
    while (is_open(v, b)) {
        uint64_t due = flush_turn(v);
        int r;
        if (due > 0) {
            r = rt_event_wait(&b->reserved, due);
            if (r == -ETIMEDOUT) {
                continue;
            }
        } else {
            r = vol_rotate(v, b) ? 0 : wait_for_room(v, b);
        }
        if (r < 0) {
            return r;
        }
        if (atomic_load(&v->fenced)) {
            return ERR_FENCED;
        }
    }
    return 0;
}

static int flush_wait(struct vol *v, struct vol_batch *b)
{
    int r = rt_event_wait(&b->reserved, RT_FOREVER);
    if (r < 0) {
        return r;
    }
    /* Set by the fence as well, and then perhaps without a number (W4). */
    rt_mutex_lock(&v->m);
    uint64_t seq = b->seq;
    rt_mutex_unlock(&v->m);
    return seq == 0 ? ERR_FENCED : log_wait_stored(v->log, seq, RT_FOREVER);
}

int vol_flush(struct vol *v)
{
    int r = vol_may_read(v);
    if (r < 0 || v->opt.read_only) {
        return r;
    }
    atomic_fetch_add(&v->flushes, 1);
    bool open;
    struct vol_batch *b = flush_target(v, &open);
    if (!b) {
        return 0;
    }
    r = open ? flush_close(v, b) : 0;
    if (r == 0) {
        r = flush_wait(v, b);
    }
    vol_batch_unref(b);
    return r;
}
