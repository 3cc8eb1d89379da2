/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O. Each call holds the range lock of its pages while it works in the volume, so that what
 * overlaps runs in the order of its arrival; a call that asks for durability flushes after it has
 * let go of the range. Who holds a range may wait for dirty space; so who has space and would have
 * to wait for a range gives it back, and takes some anew when he holds the range: else all space
 * could be held by those who wait for one that waits for space. Bounds are looked at again under
 * the lock: a shrink may have been waited for.
 *
 * Zeroes that stay allocated are work for each page: a long range of them is done in steps, each
 * with the lock of its own part alone, and the next one when the volume has digested the last. So
 * who overlaps waits for a step and not for terabytes (he comes before or after the zeroes of his
 * place, as requests at the same time may), and dirty space is left to others.
 */
#include "base/err.h"
#include "dev/dev_priv.h"

#define ZERO_STEP_BYTES (256ull << 20)
#define COPY_STEP_BYTES (16ull << 20)

bool dev_is_ejected(const struct dev *d)
{
    return atomic_load_explicit(&d->ejected, memory_order_acquire);
}

static int check(const struct dev *d, uint64_t off, uint64_t len)
{
    if (unlikely(atomic_load_explicit(&d->gone, memory_order_acquire))) {
        return -ENODEV;
    }
    if (unlikely(dev_is_ejected(d))) {
        return -ENOMEDIUM;
    }
    if (unlikely(dev_sanitize_state(d, NULL) != DEV_SANITIZED_NOT)) {
        return -EINPROGRESS;
    }
    uint64_t size = atomic_load_explicit(&d->size_bytes, memory_order_acquire);
    return unlikely(len == 0 || off > size || len > size - off) ? -EINVAL : 0;
}

bool dev_is_read_only(const struct dev *d)
{
    return atomic_load_explicit(&d->read_only, memory_order_relaxed);
}

static int check_changeable(const struct dev *d)
{
    return unlikely(dev_is_read_only(d)) ? ERR_READ_ONLY : 0;
}

/* The pages of a range that is inside. */
static int range_of_bytes(const struct dev *d, struct dev_range *ret, uint64_t off, uint64_t len,
                          bool exclusive)
{
    int r = check(d, off, len);
    if (likely(r == 0)) {
        ret->first_page = off / VOL_PAGE_BYTES;
        ret->last_page = (off + len - 1) / VOL_PAGE_BYTES;
        ret->exclusive = exclusive;
    }
    return r;
}

/* The range is locked; it stays so if what it is about is still there. */
static int check_locked(struct dev *d, struct dev_range *range, uint64_t off, uint64_t len)
{
    int r = check(d, off, len);
    if (unlikely(r < 0)) {
        dev_ranges_unlock(&d->ranges, range);
    }
    return r;
}

int dev_range_lock(struct dev *d, struct dev_range *ret_range, uint64_t off, uint64_t len,
                   bool exclusive)
{
    int r = range_of_bytes(d, ret_range, off, len, exclusive);
    if (unlikely(r < 0)) {
        return r;
    }
    r = dev_ranges_lock(&d->ranges, ret_range);
    return unlikely(r < 0) ? r : check_locked(d, ret_range, off, len);
}

int dev_range_lock_all(struct dev *d, struct dev_range *ranges, size_t count, uint64_t end)
{
    int r = check(d, 0, end);
    if (r == 0) {
        r = dev_ranges_lock_all(&d->ranges, ranges, count);
    }
    if (r < 0) {
        return r;
    }
    r = check(d, 0, end);
    while (r < 0 && count > 0) {
        dev_ranges_unlock(&d->ranges, &ranges[--count]);
    }
    return r;
}

int dev_range_lock_spaced(struct dev *d, struct dev_range *ret_range, uint64_t off, uint64_t len,
                          struct vol_space *space)
{
    int r = range_of_bytes(d, ret_range, off, len, true);
    if (unlikely(r < 0)) {
        return r;
    }
    if (unlikely(dev_ranges_try(&d->ranges, ret_range, 1) == 0)) {
        if (space) {
            vol_space_release(d->registry->v, space);
        }
        r = dev_ranges_lock(&d->ranges, ret_range);
        if (unlikely(r < 0)) {
            return r;
        }
    }
    return check_locked(d, ret_range, off, len);
}

void dev_range_unlock(struct dev *d, struct dev_range *range)
{
    dev_ranges_unlock(&d->ranges, range);
}

/* Keeps the file open without excluding any I/O. */
static int gate_enter(struct dev *d, struct dev_range *range, uint64_t off, uint64_t len) WAITS
{
    *range = (struct dev_range){.first_page = DEV_RANGE_GATE, .last_page = DEV_RANGE_GATE};
    int r = dev_ranges_lock(&d->ranges, range);
    if (r < 0) {
        return r;
    }
    r = check(d, off, len);
    if (r < 0) {
        dev_ranges_unlock(&d->ranges, range);
    }
    return r;
}

static int settle(struct dev *d, int r, unsigned flags) WAITS
{
    bool durable = flags & DEV_FUA || !atomic_load_explicit(&d->write_cache, memory_order_relaxed);
    if (unlikely(r < 0)) {
        return r;
    }
    return unlikely(durable) ? vol_flush(d->registry->v) : dev_loss_change(d);
}

int dev_read(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    if (unlikely(len > DEV_IO_MAX)) {
        return -EINVAL;
    }
    struct dev_range range;
    int r = dev_range_lock(d, &range, off, len, false);
    if (unlikely(r < 0)) {
        return r;
    }
    r = vol_read(d->file, off, len, ret_data);
    dev_ranges_unlock(&d->ranges, &range);
    return r;
}

/* A range for any read, one that makes no sense included: check() comes afterwards. */
static struct dev_range range_of(const struct vol_ready *r)
{
    uint64_t first = r->off / VOL_PAGE_BYTES;
    uint64_t more = (r->off % VOL_PAGE_BYTES + (r->len ? r->len - 1 : 0)) / VOL_PAGE_BYTES;
    return (struct dev_range){.first_page = first, .last_page = first + more};
}

static void read_some(struct dev *d, struct vol_ready *reads, size_t count)
{
    struct dev_range ranges[VOL_READY_MAX];
    size_t good = 0;
    for (size_t i = 0; i < count; i++) {
        ranges[i] = range_of(&reads[i]);
    }
    if (dev_ranges_try(&d->ranges, ranges, count) == 0) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bool may = ranges[i].blockers == 0 && check(d, reads[i].off, reads[i].len) == 0;
        reads[i].result = may ? 0 : -EAGAIN;
        good += may;
    }
    if (likely(good > 0)) {
        vol_read_ready(d->file, reads, count);
    }
    dev_ranges_let_go(&d->ranges, ranges, count);
}

void dev_read_ready(struct dev *d, struct vol_ready *reads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        reads[i].result = -EAGAIN;
    }
    for (size_t i = 0; i < count; i += VOL_READY_MAX) {
        read_some(d, &reads[i], MIN_OF(count - i, (size_t)VOL_READY_MAX));
    }
}

int dev_write(struct dev *d, uint64_t off, const struct rt_chain *data, unsigned flags,
              struct vol_space *space)
{
    if (unlikely(data->len > DEV_IO_MAX)) {
        return -EINVAL;
    }
    struct dev_range range;
    int r = check_changeable(d);
    if (likely(r >= 0)) {
        r = dev_range_lock_spaced(d, &range, off, data->len, space);
    }
    if (unlikely(r < 0)) {
        return r;
    }
    space = space && space->bytes > 0 ? space : NULL;
    if (unlikely(flags & DEV_ATOMIC)) {
        r = vol_write_atomic(d->file, off, data, space);
    } else {
        r = vol_write(d->file, off, data, space);
    }
    dev_ranges_unlock(&d->ranges, &range);
    return settle(d, r, flags);
}

uint64_t dev_atomic_max(const struct dev *d)
{
    return vol_atomic_max(d->registry->v);
}

static int zero_part(struct dev *d, uint64_t off, uint64_t len, enum vol_zero_kind kind) WAITS
{
    struct dev_range range;
    int r = dev_range_lock(d, &range, off, len, true);
    if (r < 0) {
        return r;
    }
    r = vol_zero(d->file, off, len, kind);
    dev_ranges_unlock(&d->ranges, &range);
    return r;
}

int dev_zero(struct dev *d, uint64_t off, uint64_t len, unsigned flags)
{
    enum vol_zero_kind kind = flags & DEV_ANCHOR    ? VOL_ANCHORED
                              : flags & DEV_NO_HOLE ? VOL_ZEROED
                                                    : VOL_HOLE;
    int r = check_changeable(d);
    if (r == 0) {
        r = check(d, off, len);
    }
    for (uint64_t end = off + len; r == 0 && off < end;) {
        uint64_t step = kind == VOL_HOLE ? len : ZERO_STEP_BYTES - off % ZERO_STEP_BYTES;
        step = MIN_OF(step, end - off);
        r = zero_part(d, off, step, kind);
        off += step;
        if (off < end && r == 0) {
            r = vol_zero_pace(d->registry->v);
        }
    }
    return settle(d, r, flags);
}

int dev_discard(struct dev *d, uint64_t off, uint64_t len, unsigned flags)
{
    struct dev_range range;
    int r = check_changeable(d);
    if (r >= 0) {
        r = dev_range_lock(d, &range, off, len, true);
    }
    if (r < 0) {
        return r;
    }
    r = vol_discard(d->file, off, len);
    dev_ranges_unlock(&d->ranges, &range);
    return settle(d, r, flags);
}

/* Both ranges of a step. */
struct copy_ranges {
    struct dev_range both[2]; /* the source's, the destination's */
    bool joined;              /* they share a page: the first one covers both */
};

static bool shares_page(const struct dev_copy *c, uint64_t len)
{
    uint64_t src = c->src_off / VOL_PAGE_BYTES;
    uint64_t dst = c->dst_off / VOL_PAGE_BYTES;
    return c->src == c->dst && src <= (c->dst_off + len - 1) / VOL_PAGE_BYTES &&
           dst <= (c->src_off + len - 1) / VOL_PAGE_BYTES;
}

/* In one order for all copies, so that none waits for another one that waits for it. */
static bool source_first(const struct dev_copy *c)
{
    return c->src < c->dst;
}

/* Both at once: between the one and the other somebody could come who wants all in between. */
static int copy_lock_within(const struct dev_copy *c, uint64_t len, struct copy_ranges *ret) WAITS
{
    ret->both[0] = (struct dev_range){.first_page = c->src_off / VOL_PAGE_BYTES,
                                      .last_page = (c->src_off + len - 1) / VOL_PAGE_BYTES};
    ret->both[1] = (struct dev_range){.first_page = c->dst_off / VOL_PAGE_BYTES,
                                      .last_page = (c->dst_off + len - 1) / VOL_PAGE_BYTES,
                                      .exclusive = true};
    return dev_range_lock_all(c->src, ret->both, 2, MAX_OF(c->src_off, c->dst_off) + len);
}

static int copy_lock(const struct dev_copy *c, uint64_t len, struct copy_ranges *ret) WAITS
{
    ret->joined = shares_page(c, len);
    if (ret->joined) {
        uint64_t from = MIN_OF(c->src_off, c->dst_off);
        uint64_t end = MAX_OF(c->src_off, c->dst_off) + len;
        return dev_range_lock(c->src, &ret->both[0], from, end - from, true);
    }
    int r;
    if (c->src == c->dst) {
        return copy_lock_within(c, len, ret);
    }
    if (source_first(c)) {
        r = dev_range_lock(c->src, &ret->both[0], c->src_off, len, false);
        if (r == 0 && (r = dev_range_lock(c->dst, &ret->both[1], c->dst_off, len, true)) < 0) {
            dev_range_unlock(c->src, &ret->both[0]);
        }
        return r;
    }
    r = dev_range_lock(c->dst, &ret->both[1], c->dst_off, len, true);
    if (r == 0 && (r = dev_range_lock(c->src, &ret->both[0], c->src_off, len, false)) < 0) {
        dev_range_unlock(c->dst, &ret->both[1]);
    }
    return r;
}

static void copy_unlock(const struct dev_copy *c, struct copy_ranges *ranges)
{
    dev_range_unlock(c->src, &ranges->both[0]);
    if (!ranges->joined) {
        dev_range_unlock(c->dst, &ranges->both[1]);
    }
}

int dev_copy(const struct dev_copy *copy, unsigned flags, uint64_t *ret_done)
{
    struct dev_copy c = *copy;
    *ret_done = 0;
    if (c.src->registry != c.dst->registry || c.src_off > UINT64_MAX - c.len ||
        c.dst_off > UINT64_MAX - c.len ||
        (c.src == c.dst && c.src_off < c.dst_off + c.len && c.dst_off < c.src_off + c.len)) {
        return -EINVAL;
    }
    int r = check_changeable(c.dst);
    if (r == 0) {
        r = check(c.src, c.src_off, c.len);
    }
    if (r == 0) {
        r = check(c.dst, c.dst_off, c.len);
    }
    while (r == 0 && *ret_done < copy->len) {
        uint64_t len = MIN_OF(copy->len - *ret_done, COPY_STEP_BYTES);
        struct copy_ranges ranges;
        r = copy_lock(&c, len, &ranges);
        if (r < 0) {
            break;
        }
        r = vol_copy(c.src->file, c.src_off, c.dst->file, c.dst_off, len);
        copy_unlock(&c, &ranges);
        c.src_off += len;
        c.dst_off += len;
        *ret_done += r == 0 ? len : 0;
    }
    return copy->dst->is_hold ? r : settle(copy->dst, r, flags);
}

int dev_flush(struct dev *d)
{
    return dev_is_gone(d) ? -ENODEV : vol_flush(d->registry->v);
}

int dev_extents(struct dev *d, uint64_t off, uint64_t len, struct vol_extent *ret_extents,
                size_t max)
{
    struct dev_range gate;
    int r = gate_enter(d, &gate, off, len);
    if (r < 0) {
        return r;
    }
    r = vol_extents(d->file, off, len, ret_extents, max);
    dev_ranges_unlock(&d->ranges, &gate);
    return r;
}

int dev_prefetch(struct dev *d, uint64_t off, uint64_t len)
{
    struct dev_range gate;
    int r = gate_enter(d, &gate, off, len);
    if (r < 0) {
        return r;
    }
    r = vol_prefetch(d->file, off, len);
    dev_ranges_unlock(&d->ranges, &gate);
    return r;
}

void dev_hint_reads(struct dev *d, const uint64_t *offs, size_t count)
{
    struct dev_range gate = {.first_page = DEV_RANGE_GATE, .last_page = DEV_RANGE_GATE};
    if (dev_ranges_try(&d->ranges, &gate, 1) == 0) {
        return;
    }
    if (check(d, 0, 1) == 0) {
        vol_hint_reads(d->file, offs, count);
    }
    dev_ranges_unlock(&d->ranges, &gate);
}

int dev_read_locked(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    int r = len > DEV_IO_MAX ? -EINVAL : check(d, off, len);
    return r < 0 ? r : vol_read(d->file, off, len, ret_data);
}

int dev_write_locked(struct dev *d, uint64_t off, const struct rt_chain *data,
                     struct vol_space *space)
{
    int r = data->len > DEV_IO_MAX ? -EINVAL : check(d, off, data->len);
    if (r >= 0) {
        r = check_changeable(d);
    }
    if (r < 0) {
        return r;
    }
    r = vol_write(d->file, off, data, space);
    return settle(d, r, 0);
}
