/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-ahead: a file's readers that go forward are noticed, and what they will want next is
 * fetched.
 *
 *                 next            due              end
 *     ------------|===============|================|------------>    a stream
 *       has read     is fetched, or on its way        a read here starts the next job
 *
 * S1. A stream is a place where reads went on where the one before had ended. Only reads that
 * missed memory, and those that reach a stream's `due`, come here: what memory answers costs one
 * look at `active`. The third read in a row starts the first job; random reads start none.
 *
 * S2. Each job fetches `window` bytes, from the stream's end on, and the window grows fourfold up
 * to v->ahead_bytes: 512 KiB and 2 MiB cost two requests, and the third is a large one. A job ends
 * early where a segment does, so that a segment, once the window covers it, comes by one request.
 *
 * S3. Frames that wait to be read have a queue of their own in the cache, at most a quarter of it;
 * the streams that started the last jobs share half of that. What was fetched and is not there any
 * more when it is wanted shows that it was not enough: the window is halved. Bytes on their way are
 * bounded by v->ahead_room.
 *
 * S4. A job belongs to v->idle and holds a reference of the file. When its reader stops, or closes
 * the file, nothing follows.
 */
#include "base/assert.h"
#include "vol/vol_priv.h"

#define WINDOW_FIRST (512u << 10)
#define SCORE_MIN 2u
#define WINDOW_GROWTH 4u
#define NEAR_BYTES (4u << 20) /* reads of a stream that overtook each other */

struct job {
    struct vol_file *f;
    unsigned stream;
    uint64_t id; /* of the stream, which may be another's by now */
    uint64_t from;
    uint64_t end;
    struct log_location last; /* the frame that was looked at last */
    uint64_t last_wanted;     /* its segment, or that of an earlier one that is wanted */
    VEC(struct vol_want) wants;
};

static uint64_t page_up(uint64_t off)
{
    return (off + VOL_PAGE_BYTES - 1) / VOL_PAGE_BYTES * VOL_PAGE_BYTES;
}

/* With the mutex held: when the next job is due, for those who look without it. */
static void tell(struct vol_ahead *a, unsigned k)
{
    const struct vol_stream *s = &a->streams[k];
    uint64_t margin = MIN_OF(s->window / 2, s->end - s->next);
    bool runs = s->score >= SCORE_MIN && s->end > s->next;
    atomic_store_explicit(&a->due[k], runs ? s->end - margin : UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&a->due_end[k], runs ? s->end : 0, memory_order_relaxed);
    uint32_t active = 0;
    for (unsigned i = 0; i < VOL_STREAMS; i++) {
        active += atomic_load_explicit(&a->due_end[i], memory_order_relaxed) > 0;
    }
    atomic_store_explicit(&a->active, active, memory_order_relaxed);
}

static bool is_of(const struct vol_stream *s, uint64_t off)
{
    if (s->used == 0) {
        return false;
    }
    uint64_t back = s->score < SCORE_MIN ? VOL_PAGE_BYTES : NEAR_BYTES;
    uint64_t front = s->score < SCORE_MIN ? s->next : MAX_OF(s->next, s->end) + VOL_PAGE_BYTES;
    return off + back >= s->next && off <= front;
}

/* The stream that the read goes on with, or else a new one in the place of the oldest. */
static unsigned stream_of(struct vol_file *f, uint64_t off, uint64_t end)
{
    struct vol_ahead *a = &f->ahead;
    unsigned oldest = 0;
    for (unsigned k = 0; k < VOL_STREAMS; k++) {
        if (is_of(&a->streams[k], off)) {
            return k;
        }
        oldest = a->streams[k].used < a->streams[oldest].used ? k : oldest;
    }
    uint64_t id = atomic_fetch_add(&f->v->ahead_last_id, 1) + 1;
    a->streams[oldest] = (struct vol_stream){.id = id, .window = WINDOW_FIRST};
    a->streams[oldest].next = page_up(end);
    a->streams[oldest].end = page_up(end);
    tell(a, oldest);
    return oldest;
}

/* What one of those who have read ahead of late may have; the stream is one of them now. */
static uint64_t window_max(struct vol *v, uint64_t id)
{
    uint64_t recent[VOL_AHEAD_RECENT];
    uint64_t streams = 0;
    atomic_store(&v->ahead_recent[atomic_fetch_add(&v->ahead_turn, 1) % VOL_AHEAD_RECENT], id);
    for (unsigned i = 0; i < VOL_AHEAD_RECENT; i++) {
        recent[i] = atomic_load(&v->ahead_recent[i]);
        bool first = recent[i] != 0;
        for (unsigned k = 0; k < i && first; k++) {
            first = recent[k] != recent[i];
        }
        streams += first;
    }
    uint64_t most = MIN_OF(v->ahead_bytes, v->ahead_share / MAX_OF(streams, 1u));
    return MAX_OF(most / VOL_PAGE_BYTES, 1u) * VOL_PAGE_BYTES;
}

/* With the mutex held: true when a job is to be started. */
static bool stream_note(struct vol_file *f, uint64_t off, uint64_t end, bool missed, struct job *j)
{
    struct vol_ahead *a = &f->ahead;
    unsigned k = stream_of(f, off, end);
    struct vol_stream *s = &a->streams[k];
    uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
    bool goes_on = s->used > 0 && page_up(end) > s->next;
    s->used = ++a->clock;
    s->score += goes_on && s->score < SCORE_MIN;
    if (missed && s->score >= SCORE_MIN && s->jobs == 0 && page_up(end) < s->end) {
        s->window = MAX_OF(s->window / 2, WINDOW_FIRST); /* S3 */
        s->end = page_up(end);
    }
    s->next = MAX_OF(s->next, page_up(end));
    s->end = MAX_OF(s->end, s->next);
    bool due = s->score >= SCORE_MIN && s->end - s->next <= s->window / 2 && s->end < size &&
               s->jobs < VOL_STREAM_JOBS_MAX;
    if (due) {
        j->stream = k;
        j->id = s->id;
        j->from = s->end;
        uint64_t most = window_max(f->v, s->id);
        j->end = MIN_OF(s->end + MIN_OF(s->window, most), page_up(size));
        s->end = j->end;
        s->window = MIN_OF(s->window * WINDOW_GROWTH, most);
        s->jobs++;
    }
    tell(a, k);
    return due;
}

/* The job ends at `end` and not where it was to, unless another has begun there. True when so. */
static bool job_cut(struct job *j, uint64_t end)
{
    struct vol_ahead *a = &j->f->ahead;
    rt_mutex_lock(&a->m);
    struct vol_stream *s = &a->streams[j->stream];
    bool cut = s->id == j->id && s->end == j->end && s->next <= end;
    if (cut) {
        s->end = end;
        tell(a, j->stream);
    }
    rt_mutex_unlock(&a->m);
    return cut;
}

static int want_add(struct job *j, const struct vol_run *run)
{
    if (j->last.seq == run->seq && j->last.offset == run->offset) {
        return 0;
    }
    j->last = (struct log_location){run->seq, run->offset, run->len_bytes};
    if (cache_has(j->f->v->cache, run->seq, run->offset)) {
        return 0;
    }
    struct vol_want w = {.at = {run->seq, run->offset, run->len_bytes},
                         .blocks = run->frame_blocks};
    j->last_wanted = run->seq;
    return vec_push(&j->wants, w);
}

/* One page's frames. 1: the page begins a segment, and there is enough without it. */
static int page_add(struct job *j, uint64_t off)
{
    struct vol_source sources[VOL_PAGE_BLOCKS];
    unsigned mask = (1u << VOL_PAGE_BLOCKS) - 1;
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS; k++) {
        sources[k].slot.buf = NULL;
    }
    int r = vol_resolve(j->f, off / VOL_PAGE_BYTES, mask, sources);
    size_t before = j->wants.len;
    uint64_t seq = j->last_wanted;
    for (unsigned k = 0; r == 0 && k < VOL_PAGE_BLOCKS; k++) {
        const struct vol_source *s = &sources[k];
        if (s->slot.kind != VOL_RUN_DATA || s->slot.buf) {
            continue;
        }
        if (before > 0 && s->run.seq != seq && off - j->from >= (j->end - j->from) / 2 &&
            job_cut(j, off)) {
            j->wants.len = before;
            r = 1;
            break;
        }
        r = want_add(j, &s->run);
    }
    if (r >= 0) {
        vol_sources_drop(sources, mask);
    }
    return r;
}

static void job_run(void *arg)
{
    struct job *j = arg;
    struct vol_file *f = j->f;
    int r = 0;
    for (uint64_t off = j->from; r == 0 && off < j->end; off += VOL_PAGE_BYTES) {
        r = page_add(j, off);
    }
    if (r >= 0 && j->wants.len > 0) {
        /* Who wants what did not come asks for it himself, and hears of the error. */
        (void)!vol_fetch(f->v, OBJ_PREFETCH, j->wants.at, (uint32_t)j->wants.len);
        for (size_t i = 0; i < j->wants.len; i++) {
            rt_buf_unref(j->wants.at[i].piece.buf);
        }
    }
    rt_mutex_lock(&f->ahead.m);
    struct vol_stream *s = &f->ahead.streams[j->stream];
    s->jobs -= s->id == j->id;
    rt_mutex_unlock(&f->ahead.m);
    vec_free(&j->wants);
    free(j);
    vol_file_close(f);
}

void vol_ahead_note(struct vol_file *f, uint64_t off, uint64_t end, bool missed)
{
    struct vol *v = f->v;
    struct job *j = calloc(1, sizeof *j);
    if (!j || v->ahead_bytes == 0) {
        free(j);
        return;
    }
    rt_mutex_lock(&f->ahead.m);
    bool due = stream_note(f, off, end, missed, j);
    rt_mutex_unlock(&f->ahead.m);
    if (!due) {
        free(j);
        return;
    }
    j->f = f;
    rt_mutex_lock(&v->m);
    f->refs++;
    rt_mutex_unlock(&v->m);
    /* At once: what the job claims, the reads that come next find claimed. */
    if (rt_group_spawn_now(v->idle, "read ahead", job_run, j) < 0) {
        rt_mutex_lock(&f->ahead.m);
        struct vol_stream *s = &f->ahead.streams[j->stream];
        s->jobs -= s->id == j->id;
        rt_mutex_unlock(&f->ahead.m);
        free(j);
        vol_file_close(f);
    }
}
