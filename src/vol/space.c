/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty space: what batches may hold before they are applied. Each request takes what it may need
 * at worst before it enters (back-pressure R) and leaves what it used with its batch, which gives
 * it back when it has been applied.
 *
 * The limit is the smaller of the configured one and 8 s of the measured upload rate, so that a
 * flush never stands behind minutes of bulk; it does not fall below a floor, and a part of a
 * request that enters at once is at most a quarter of the floor.
 *
 * The quota (max_size_bytes):
 * Q1. used_bytes is what is stored and live as of the last applied batch, and what the batches
 * after it were charged: each byte is counted once, also while its batch is being applied.
 * Q2. What overwrites counts in full until it is applied. So nobody is refused before all that is
 * on its way is applied and the volume is full all the same. What range holes give back is waited
 * for as well, though not for ever: that may be minutes. While the volume is full the walker does
 * not wait for company, so mostly it is one round. As long as it gets nowhere, and nothing new is
 * discarded, only the first writer waits.
 */
#include "base/err.h"
#include "vol/vol_priv.h"

uint64_t vol_cost(uint64_t off, uint64_t len)
{
    uint64_t blocks = (off + len + VOL_BLOCK_BYTES - 1) / VOL_BLOCK_BYTES - off / VOL_BLOCK_BYTES;
    uint64_t pages = (off + len + VOL_PAGE_BYTES - 1) / VOL_PAGE_BYTES - off / VOL_PAGE_BYTES;
    return blocks * VOL_BLOCK_BYTES + pages * VOL_PAGE_COST;
}

int vol_may_read(struct vol *v)
{
    if (unlikely(atomic_load_explicit(&v->fenced, memory_order_relaxed))) {
        return ERR_FENCED;
    }
    return 0;
}

void vol_usage(const struct vol *v, uint64_t *ret_used_bytes, uint64_t *ret_max_bytes)
{
    *ret_used_bytes = v->opt.read_only ? atomic_load(&v->segs.live_blocks) * VOL_BLOCK_BYTES
                                       : atomic_load(&v->used_bytes);
    *ret_max_bytes = v->opt.max_size_bytes;
}

void vol_usage_charge(struct vol *v, uint64_t charged)
{
    atomic_fetch_add_explicit(&v->used_bytes, charged, memory_order_relaxed);
}

void vol_usage_settle(struct vol *v, uint64_t charged)
{
    uint64_t live = atomic_load(&v->segs.live_blocks) * VOL_BLOCK_BYTES;
    uint64_t before = atomic_exchange(&v->settled_bytes, live);
    atomic_fetch_add(&v->used_bytes, live - before - charged);
}

int vol_may_write(struct vol *v)
{
    if (unlikely(atomic_load_explicit(&v->fenced, memory_order_relaxed))) {
        return ERR_FENCED;
    }
    if (unlikely(v->opt.read_only)) {
        return -EROFS;
    }
    if (unlikely(atomic_load_explicit(&v->failed, memory_order_relaxed))) {
        return -EIO;
    }
    return 0;
}

#define HOLES_MS 10000u

bool vol_is_full(const struct vol *v)
{
    uint64_t max = v->opt.max_size_bytes;
    return max > 0 && atomic_load_explicit(&v->used_bytes, memory_order_relaxed) >= max;
}

/*
 * Until some maps that range holes hide have gone: 0, -ETIMEDOUT, -ECANCELED. Where none go, only
 * who comes first waits for all of that time; who comes after it has passed, not at all.
 */
static int await_walker(struct vol *v, uint64_t deadline_ns) WAITS
{
    int r = 0;
    rt_mutex_lock(&v->hole_m);
    bool again = true;
    while (again && vol_holes_due(v->holes) > 0 && !atomic_load(&v->fenced)) {
        v->hole_until_ns = v->hole_until_ns ? v->hole_until_ns : rt_after_ms(HOLES_MS);
        uint64_t until_ns = v->hole_until_ns;
        r = rt_waitq_wait(&v->hole_q, &v->hole_m, MIN_OF(deadline_ns, until_ns));
        /* The time began anew meanwhile. */
        again = r == -ETIMEDOUT && until_ns < deadline_ns && v->hole_until_ns != until_ns;
        r = again ? 0 : r;
    }
    rt_mutex_unlock(&v->hole_m);
    return r;
}

int vol_may_grow(struct vol *v, struct vol_space *space)
{
    int r = vol_may_write(v);
    uint64_t deadline_ns = 0;
    while (r == 0 && unlikely(vol_is_full(v))) {
        if (space) {
            vol_space_release(v, space); /* the walker needs some */
        }
        bool holes = vol_holes_due(v->holes) > 0;
        int waited = vol_settle(v);
        if (waited < 0) {
            return waited;
        }
        /* Where others have filled it again meanwhile, theirs may be overwrites too. */
        bool for_good = waited == 0 || atomic_load(&v->settled_bytes) >= v->opt.max_size_bytes;
        if (for_good && vol_is_full(v)) {
            deadline_ns = deadline_ns ? deadline_ns : rt_after_ms(HOLES_MS);
            holes = holes || vol_holes_due(v->holes) > 0;
            r = holes ? await_walker(v, deadline_ns) : -ENOSPC;
        }
        r = r == 0 ? vol_may_write(v) : r == -ETIMEDOUT ? -ENOSPC : r;
    }
    return r;
}

/* Whoever waits for space waits for the open batch too, when nothing else is on its way. */
static void make_room(struct vol *v)
{
    if (atomic_load(&v->in_flight) > 0) {
        return;
    }
    struct vol_view *view = vol_view_get(v);
    (void)vol_rotate(v, view->batches[0]);
    vol_view_put(view);
}

int vol_dirty_take(struct vol *v, uint64_t bytes, uint64_t deadline_ns)
{
    if (unlikely(!rt_credits_try(&v->dirty, bytes))) {
        make_room(v);
        int r = rt_credits_take(&v->dirty, bytes, deadline_ns);
        if (r < 0) {
            return r;
        }
    }
    if (unlikely(atomic_load_explicit(&v->fenced, memory_order_relaxed))) {
        vol_dirty_give(v, bytes);
        return ERR_FENCED;
    }
    return 0;
}

void vol_dirty_give(struct vol *v, uint64_t bytes)
{
    if (bytes > 0) {
        rt_credits_give(&v->dirty, bytes);
    }
}

void vol_dirty_adapt(struct vol *v)
{
    if (atomic_load(&v->fenced)) {
        return;
    }
    uint64_t rate = log_upload_rate(v->log);
    uint64_t limit = v->dirty_configured;
    if (rate > 0 && rate < limit / VOL_DIRTY_SECONDS) {
        limit =
            MAX_OF(rate * VOL_DIRTY_SECONDS, MIN_OF(v->dirty_configured, VOL_DIRTY_FLOOR_BYTES));
    }
    atomic_store_explicit(&v->dirty_limit, limit, memory_order_relaxed);
    rt_credits_resize(&v->dirty, limit);
    if (atomic_load(&v->fenced)) {
        rt_credits_resize(&v->dirty, UINT64_MAX); /* the fence came in between: nobody waits */
    }
}

/*
 * Of a store that is near, seven sixteenths of the space: two batches are sealed and stored side by
 * side, so that neither processor nor disk waits for the other, and a third one has begun; and the
 * larger a batch, the more of it is overwritten before it is stored.
 */
uint64_t vol_rotate_bytes(const struct vol *v)
{
    bool idle = atomic_load_explicit(&v->in_flight, memory_order_relaxed) == 0;
    uint64_t least =
        MIN_OF(idle ? VOL_ROTATE_IDLE_BYTES : VOL_ROTATE_BUSY_BYTES, v->dirty_configured / 4);
    uint64_t most = atomic_load_explicit(&v->dirty_limit, memory_order_relaxed) / 16 * 7;
    if (v->is_far || most <= least ||
        rt_turn_ns() < atomic_load_explicit(&v->habit_until_ns, memory_order_relaxed)) {
        return least;
    }
    return most;
}

/* At any alignment. */
static uint64_t worst_cost(const struct vol *v, uint64_t payload)
{
    return vol_cost(VOL_BLOCK_BYTES - 1, MIN_OF(payload, v->part_bytes));
}

int vol_space_take(struct vol *v, uint64_t payload_bytes, uint64_t deadline_ns,
                   struct vol_space *ret_space)
{
    uint64_t cost = worst_cost(v, payload_bytes);
    int r = vol_dirty_take(v, cost, deadline_ns);
    if (r < 0) {
        return r;
    }
    ret_space->bytes = cost;
    return 0;
}

bool vol_space_try(struct vol *v, uint64_t payload_bytes, struct vol_space *ret_space)
{
    uint64_t cost = worst_cost(v, payload_bytes);
    if (!rt_credits_try(&v->dirty, cost)) {
        return false;
    }
    ret_space->bytes = cost;
    return true;
}

void vol_space_release(struct vol *v, struct vol_space *space)
{
    vol_dirty_give(v, space->bytes);
    space->bytes = 0;
}
