/* SPDX-License-Identifier: Apache-2.0 */
#include "vol/segments.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "vol/vol_format.h"
#include <inttypes.h>
#include <string.h>

void vol_segments_init(struct vol_segments *s)
{
    memset(s, 0, sizeof *s);
    rt_mutex_init(&s->m);
}

void vol_segments_destroy(struct vol_segments *s)
{
    vec_free(&s->at);
    rt_mutex_destroy(&s->m);
}

/* The first with at least this seq. */
static size_t lower_bound(const struct vol_segments *s, uint64_t seq)
{
    size_t low = 0;
    size_t high = s->at.len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->at.at[mid].seq < seq) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct vol_segment *vol_segments_find(struct vol_segments *s, uint64_t seq)
{
    size_t i = lower_bound(s, seq);
    return i < s->at.len && s->at.at[i].seq == seq ? &s->at.at[i] : NULL;
}

static uint64_t known(uint64_t live)
{
    return live == VOL_LIVE_UNKNOWN ? 0 : live;
}

static int add_locked(struct vol_segments *s, uint64_t seq, uint64_t live)
{
    size_t i = lower_bound(s, seq);
    int r = vec_reserve(&s->at, s->at.len + 1);
    if (r < 0) {
        return r;
    }
    memmove(&s->at.at[i + 1], &s->at.at[i], (s->at.len - i) * sizeof s->at.at[0]);
    s->at.at[i] = (struct vol_segment){.seq = seq, .live = live};
    s->at.len++;
    atomic_fetch_add(&s->live_blocks, known(live));
    return 0;
}

int vol_segments_add(struct vol_segments *s, uint64_t seq, uint64_t live,
                     const struct log_salt *salt)
{
    rt_mutex_lock(&s->m);
    int r = vol_segments_find(s, seq) ? 0 : add_locked(s, seq, live);
    if (r == 0) {
        vol_segments_find(s, seq)->salt = *salt;
    }
    rt_mutex_unlock(&s->m);
    return r;
}

void vol_segments_salt_set(struct vol_segments *s, uint64_t seq, const struct log_salt *salt)
{
    rt_mutex_lock(&s->m);
    struct vol_segment *seg = vol_segments_find(s, seq);
    ASSERT(seg);
    seg->salt = *salt;
    rt_mutex_unlock(&s->m);
}

int vol_segments_salt(struct vol_segments *s, uint64_t seq, struct log_salt *ret_salt)
{
    rt_mutex_lock(&s->m);
    const struct vol_segment *seg = vol_segments_find(s, seq);
    if (seg) {
        *ret_salt = seg->salt;
    }
    rt_mutex_unlock(&s->m);
    return seg ? 0 : -ENOENT;
}

static int change_locked(struct vol_segments *s, const struct vol_segment_change *change,
                         bool *ret_first)
{
    uint64_t seq = change->seq;
    int64_t blocks = change->blocks;
    struct vol_segment *seg = vol_segments_find(s, seq);
    *ret_first = !seg || !seg->changed;
    if (!seg) {
        int r = add_locked(s, seq, 0);
        if (r < 0) {
            return r;
        }
        seg = vol_segments_find(s, seq);
    }
    seg->changed = true;
    if (seg->live == VOL_LIVE_UNKNOWN) {
        return 0;
    }
    if (blocks < 0 && seg->live < (uint64_t)-blocks) {
        msg_error("vol", "segment %016" PRIx64 " has %" PRIu64 " live blocks and loses %" PRId64,
                  seq, seg->live, -blocks);
        atomic_fetch_sub(&s->live_blocks, seg->live);
        seg->live = VOL_LIVE_UNKNOWN;
        return ERR_CORRUPT_INDEX;
    }
    seg->live += (uint64_t)blocks;
    atomic_fetch_add(&s->live_blocks, (uint64_t)blocks);
    if (seg->live == 0) {
        seg->zero_seq = MAX_OF(seg->zero_seq, change->by_seq);
    }
    return 0;
}

int vol_segments_change(struct vol_segments *s, const struct vol_segment_change *change,
                        bool *ret_first)
{
    rt_mutex_lock(&s->m);
    int r = change_locked(s, change, ret_first);
    rt_mutex_unlock(&s->m);
    return r;
}

void vol_segments_remove(struct vol_segments *s, uint64_t seq)
{
    rt_mutex_lock(&s->m);
    size_t i = lower_bound(s, seq);
    if (i < s->at.len && s->at.at[i].seq == seq) {
        atomic_fetch_sub(&s->live_blocks, known(s->at.at[i].live));
        memmove(&s->at.at[i], &s->at.at[i + 1], (s->at.len - i - 1) * sizeof s->at.at[0]);
        s->at.len--;
    }
    rt_mutex_unlock(&s->m);
}

void vol_segments_exchange(struct vol_segments *s, struct vol_segments *other)
{
    rt_mutex_lock(&s->m);
    struct vol_segment *at = s->at.at;
    size_t len = s->at.len;
    size_t cap = s->at.cap;
    s->at.at = other->at.at;
    s->at.len = other->at.len;
    s->at.cap = other->at.cap;
    other->at.at = at;
    other->at.len = len;
    other->at.cap = cap;
    uint64_t live = atomic_load(&other->live_blocks);
    atomic_store(&other->live_blocks, atomic_exchange(&s->live_blocks, live));
    rt_mutex_unlock(&s->m);
}
