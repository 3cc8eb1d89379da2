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
 * to v->ahead_bytes: 512 KiB and 2 MiB cost two requests, and the third is a large one. A job
 * begins with what the read that starts it lacks, which then costs no request of its own. A job
 * that would end within a segment ends where that begins, or where it ends if that is near, so that
 * a segment, once the window covers it, comes by one request, and a larger one by as few as can be.
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
#define PAGE_MASK ((1u << VOL_PAGE_BLOCKS) - 1)
#define MORE_PART 4u          /* of a job: by so much it may grow to end where a segment does */
#define NEAR_BYTES (4u << 20) /* reads of a stream that overtook each other */

struct job {
    struct vol_file *f;
    unsigned stream;
    uint64_t id; /* of the stream, which may be another's by now */
    uint64_t from;
    uint64_t end;
    uint64_t next_window;     /* of the job after it */
    struct log_location last; /* the frame that was looked at last */
    uint64_t last_wanted;     /* its segment, or that of an earlier one that is wanted */
    uint64_t segment_at;      /* where that segment begins; 0: where the job does */
    size_t segment_wants;     /* wants before that */
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

/* What the stream's next job fetches; from `lacks` on nothing was, for the read that is noted. */
static void job_plan(struct vol *v, struct vol_stream *s, uint64_t lacks, struct job *j)
{
    uint64_t size = atomic_load_explicit(&j->f->size, memory_order_relaxed);
    uint64_t most = window_max(v, s->id);
    uint64_t window = MIN_OF(s->window, most);
    j->id = s->id;
    j->from = MIN_OF(lacks, s->end);
    j->end = MAX_OF(j->from + window, s->end + MIN_OF(window, WINDOW_FIRST));
    j->end = MIN_OF(j->end, page_up(size));
    s->end = j->end;
    s->window = MIN_OF(s->window * WINDOW_GROWTH, most);
    j->next_window = s->window;
    s->jobs++;
}

/* With the mutex held: true when a job is to be started. */
static bool stream_note(struct vol_file *f, uint64_t off, uint64_t end, bool missed, struct job *j)
{
    struct vol_ahead *a = &f->ahead;
    unsigned k = stream_of(f, off, end);
    struct vol_stream *s = &a->streams[k];
    uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
    bool goes_on = s->used > 0 && page_up(end) > s->next;
    uint64_t lacks = MAX_OF(off / VOL_PAGE_BYTES * VOL_PAGE_BYTES, s->end);
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
        j->f = f;
        j->stream = k;
        job_plan(f->v, s, lacks, j);
    }
    tell(a, k);
    return due;
}

/* The job ends at `end` and not where it was to, unless another has begun there. True when so. */
static bool job_end_set(struct job *j, uint64_t end)
{
    struct vol_ahead *a = &j->f->ahead;
    rt_mutex_lock(&a->m);
    struct vol_stream *s = &a->streams[j->stream];
    bool may = s->id == j->id && s->end == j->end && s->next <= end;
    if (may) {
        s->end = end;
        tell(a, j->stream);
    }
    rt_mutex_unlock(&a->m);
    return may;
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

static bool is_stored(const struct vol_source *s)
{
    return s->slot.kind == VOL_RUN_DATA && !s->slot.buf;
}

static int page_resolve(const struct job *j, uint64_t off, struct vol_source *sources)
{
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS; k++) {
        sources[k].slot.buf = NULL;
    }
    return vol_resolve(j->f, off / VOL_PAGE_BYTES, PAGE_MASK, sources);
}

/* One page's frames. goes_on: if some are of the segment that was wanted last; 1: none is. */
static int page_add(struct job *j, uint64_t off, bool goes_on)
{
    struct vol_source sources[VOL_PAGE_BLOCKS];
    int r = page_resolve(j, off, sources);
    if (r < 0) {
        return r;
    }
    size_t before = j->wants.len;
    uint64_t seq = j->last_wanted;
    bool found = !goes_on;
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS && !found; k++) {
        found = is_stored(&sources[k]) && sources[k].run.seq == seq;
    }
    for (unsigned k = 0; k < VOL_PAGE_BLOCKS && found && r == 0; k++) {
        if (is_stored(&sources[k]) && before > 0 && sources[k].run.seq != seq) {
            j->segment_at = off;
            j->segment_wants = before;
        }
        r = is_stored(&sources[k]) ? want_add(j, &sources[k].run) : 0;
    }
    vol_sources_drop(sources, PAGE_MASK);
    return found ? r : 1;
}

/* A job that ends within a segment takes a little more when that is all of it, and else leaves it
 * to the next one. */
static void job_end_find(struct job *j)
{
    uint64_t size = atomic_load_explicit(&j->f->size, memory_order_relaxed);
    uint64_t limit = MIN_OF(j->end + (j->end - j->from) / MORE_PART, page_up(size));
    uint64_t segment_at = j->segment_at;
    size_t segment_wants = j->segment_wants;
    size_t wants = j->wants.len;
    uint64_t end = j->end;
    int r = 0;
    while (r == 0 && end < limit) {
        r = page_add(j, end, true);
        end += r == 0 ? VOL_PAGE_BYTES : 0;
    }
    bool over = r == 1 || end >= size;
    if (over && end > j->end && job_end_set(j, end)) {
        return;
    }
    j->wants.len = wants;
    if (r >= 0 && !over && segment_at > 0 && job_end_set(j, segment_at)) {
        j->wants.len = segment_wants;
    }
}

/* The next job finds the index's blocks in memory, however far it looks: one that waits for them is
 * overtaken by its reader, who then asks for every piece. */
static void index_warm(void *arg)
{
    struct job *j = arg;
    uint64_t step = page_up(j->next_window / MORE_PART);
    uint64_t size = atomic_load_explicit(&j->f->size, memory_order_relaxed);
    struct vol_source sources[VOL_PAGE_BLOCKS];
    int r = 0;
    for (unsigned i = 1; i <= MORE_PART + 1 && r == 0; i++) {
        uint64_t at = j->end + i * step;
        r = at < size ? page_resolve(j, at, sources) : 1;
        if (r == 0) {
            vol_sources_drop(sources, PAGE_MASK);
        }
    }
    vol_file_close(j->f);
    free(j);
}

/* While the job's own data come. Without memory for it, the next job waits. */
static void index_warm_start(const struct job *j)
{
    struct vol *v = j->f->v;
    struct job *next = calloc(1, sizeof *next);
    if (!next) {
        return;
    }
    *next = (struct job){.f = j->f, .end = j->end, .next_window = j->next_window};
    rt_mutex_lock(&v->m);
    j->f->refs++;
    rt_mutex_unlock(&v->m);
    if (rt_group_spawn(v->idle, "index ahead", index_warm, next) < 0) {
        free(next);
        vol_file_close(j->f);
    }
}

static void job_run(void *arg)
{
    struct job *j = arg;
    struct vol_file *f = j->f;
    int r = 0;
    for (uint64_t off = j->from; r == 0 && off < j->end; off += VOL_PAGE_BYTES) {
        r = page_add(j, off, false);
    }
    if (r == 0 && j->wants.len > 0) {
        job_end_find(j);
        index_warm_start(j);
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
