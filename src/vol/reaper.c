/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reaper: deletes the objects of dead segments by I7. A segment may go when
 *
 *     its number is below the replay position of a stored manifest,     so no replay reads it;
 *     its live count is 0 in the index of that manifest,                so no reader who opens that
 * manifest finds it referred to; delete_after_ms have passed since both became true here. so
 * readers of older manifests and reads under way are done.
 *
 * Views hold blocks and batches, never segments: a reader that still comes with an old place finds
 * no object and resolves anew (read.c). That the object is gone is recorded in some later batch,
 * which never comes into being for that alone; until then the key with count 0 stays, and an opener
 * just deletes again.
 */
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "vol/record.h"
#include "vol/vol_priv.h"
#include <inttypes.h>

#define DELETES_AT_ONCE 64u
#define GONE_PER_BATCH 4096u
#define RETRY_MS 60000u

void vol_manifest_stored(void *arg, uint64_t replay_from)
{
    struct vol *v = arg;
    uint64_t have = atomic_load(&v->replay_from);
    while (have < replay_from &&
           !atomic_compare_exchange_weak(&v->replay_from, &have, replay_from)) {
    }
    rt_event_set(&v->reaping);
}

static bool is_dead(const struct vol_segment *s, uint64_t replay_from)
{
    return s->state == VOL_SEGMENT_LIVE && s->live == 0 && s->seq < replay_from &&
           s->zero_seq < replay_from;
}

/* Gathers what is due; *ret_next: when the next one will be. */
static size_t collect_due(struct vol *v, uint64_t *ret_due, uint64_t *ret_next)
{
    uint64_t now = rt_now_ns();
    uint64_t replay_from = atomic_load(&v->replay_from);
    size_t count = 0;
    *ret_next = RT_FOREVER;
    rt_mutex_lock(&v->segs.m);
    for (size_t i = 0; i < v->segs.at.len; i++) {
        struct vol_segment *s = &v->segs.at.at[i];
        if (!is_dead(s, replay_from)) {
            continue;
        }
        if (s->deletable_ns == 0) {
            s->deletable_ns = now + v->opt.delete_after_ms * NS_PER_MS;
        }
        if (s->deletable_ns > now) {
            *ret_next = MIN_OF(*ret_next, s->deletable_ns);
        } else if (count < DELETES_AT_ONCE) {
            ret_due[count++] = s->seq;
        } else {
            *ret_next = now;
        }
    }
    rt_mutex_unlock(&v->segs.m);
    return count;
}

static void note_deleted(struct vol *v, uint64_t seq, int r)
{
    if (r < 0 && r != -ECANCELED) {
        msg_warn("vol", "segment %016" PRIx64 " cannot be deleted: %s", seq, err_text(r));
    }
    rt_mutex_lock(&v->segs.m);
    struct vol_segment *s = vol_segments_find(&v->segs, seq);
    if (s && r < 0) {
        s->deletable_ns = rt_now_ns() + RETRY_MS * NS_PER_MS;
    } else if (s) {
        s->state = VOL_SEGMENT_DELETED;
        atomic_fetch_add(&v->segs.deleted, 1);
    }
    rt_mutex_unlock(&v->segs.m);
}

void vol_reaper(void *arg)
{
    struct vol *v = arg;
    uint64_t due[DELETES_AT_ONCE];
    int results[DELETES_AT_ONCE];
    uint64_t next = RT_FOREVER;
    for (;;) {
        int r = rt_event_wait(&v->reaping, next);
        if (r < 0 && r != -ETIMEDOUT) {
            return;
        }
        rt_event_reset(&v->reaping);
        if (vol_is_fenced(v)) {
            return;
        }
        size_t count = collect_due(v, due, &next);
        log_segments_remove(v->frames, due, count, results);
        for (size_t i = 0; i < count; i++) {
            note_deleted(v, due[i], results[i]);
        }
    }
}

void vol_gone_records(struct vol *v, struct bytes_writer *w)
{
    if (atomic_load(&v->segs.deleted) == 0) {
        return;
    }
    uint32_t count = 0;
    uint32_t noted = 0;
    rt_mutex_lock(&v->segs.m);
    for (size_t i = 0; i < v->segs.at.len && count < GONE_PER_BATCH; i++) {
        const struct vol_segment *s = &v->segs.at.at[i];
        if (s->state == VOL_SEGMENT_DELETED) {
            vol_record_encode(&(struct vol_record){.kind = VOL_RECORD_GONE, .seq = s->seq}, w);
            count++;
        }
    }
    /* Without memory for them the records are made anew. */
    for (size_t i = 0; !w->failed && noted < count; i++) {
        struct vol_segment *s = &v->segs.at.at[i];
        if (s->state == VOL_SEGMENT_DELETED) {
            s->state = VOL_SEGMENT_NOTED;
            noted++;
        }
    }
    atomic_fetch_sub(&v->segs.deleted, noted);
    rt_mutex_unlock(&v->segs.m);
}
