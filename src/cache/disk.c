/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ONE FILE, WRITTEN ROUND AND ROUND
 *
 *     header | region | region | region | ...          regions are numbered, from 1, for ever:
 *                       ^ number n, being filled       region n lies in slot n mod count
 *
 * Entries are appended (disk_write.c); the next region overwrites the oldest. An entry that is read
 * when its end is near is appended anew, once whoever read it has found it right: so what is used
 * stays. A place is a number of units since the first region of all, so that one comparison with
 * the tail tells what is gone, and the index need not be cleaned.
 *
 * As long as there are regions that were never filled, everything that is put is taken in. From
 * then on each entry pushes out another, and only what is put a second time is worth that: the
 * first time it is noted and passed by (disk_filter.h). So whoever reads a device from end to end
 * writes nothing here, however large it is, and what was in use before is still there afterwards;
 * what comes into use costs one request more. What was noted is forgotten after as many other
 * misses as the cache has room for, by half to four times, for entries of 4 to 32 KiB.
 *
 * D1. Nothing here is needed: it can be lost, torn, stale or foreign at any time. An entry's mark
 * says for which key, place and file it was written; whoever asked checks the bytes themselves.
 * There is no fsync but of an emptied file, which is to stay empty. Nor is anything written again
 * that was not checked: a new mark would make a spoilt entry look like a fresh one.
 *
 * D2. A put never waits: what the writer cannot take is dropped. A get waits for a time at most,
 * and the disk's calls run on threads of their own; one that hangs keeps its buffer until it comes
 * back, and read_room bounds those.
 *
 * D3. After some failures in a row the disk is left alone for a while. Each change is said once.
 *
 * D4. What is in the file belongs to one volume and one history of it: disk_load.c.
 *
 * The file is all that is on the disk. In RAM there are the index, of a fixed size, what is
 * pending, the writer's staging, and the directory of one region.
 */
#include "cache/disk.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/msg.h"
#include "base/time.h"
#include "cache/disk_priv.h"
#include "rt/offload.h"
#include <errno.h>
#include <string.h>

#define REGION_MIN (1u << 20)
#define REGION_MAX (64u << 20)
#define REGIONS_WANTED 64u
#define OPEN_WAIT_MS 2000
#define CLOSE_WAIT_MS 1000
#define RETRY_MS 30000u
#define SLOW_MS 100u
#define SLOW_NS_PER_BYTE 50u /* on top of slow_ms */
#define BAD_READS_MAX 3u
#define PUT_WAIT_MS 1000
#define ROOM_MIN (1u << 20)
#define FILTER_PART 9u /* of index_bytes */

struct want {
    struct cache_disk_frame *frame;
    uint64_t place;
    uint32_t at; /* in the buffer */
};

/* A read under way: of the fiber that runs it, and of the one that waits, if it still does. */
struct job {
    struct cache_disk *d;
    _Atomic uint32_t refs;
    struct rt_event done;
    struct rt_buf *buf;
    uint32_t bytes;
    uint64_t room; /* of read_room */
    int result;
    uint64_t file_id;
    uint32_t count;
    struct want wants[]; /* by place; frames are not looked at by the reading fiber */
};

uint64_t disk_hash(uint64_t object, uint64_t offset)
{
    return hash_pair(object, offset);
}

int disk_call(struct cache_disk *d, int (*fn)(void *arg), void *arg)
{
    if (d->io.pause != NULL) {
        d->io.pause(d->io.arg);
    }
    return rt_offload(RT_OFFLOAD_CACHE, fn, arg);
}

uint64_t disk_tail(const struct cache_disk *d)
{
    uint64_t oldest = d->number >= d->regions ? d->number - d->regions + 1 : 1;
    return oldest * (d->region_bytes / DISK_UNIT);
}

void disk_items_free(struct cache_disk *d, struct list *items)
{
    for (struct list *n; (n = list_pop_front(items)) != NULL;) {
        struct disk_item *it = container_of(n, struct disk_item, link);
        rt_credits_give(&d->write_room, it->room);
        rt_buf_unref(it->buf);
        free(it);
    }
}

static void destroy(struct cache_disk *d)
{
    if (d->io.close != NULL) {
        d->io.close(d->io.arg);
    }
    rt_group_destroy(d->group);
    disk_items_free(d, &d->queue);
    rt_mem_add(RT_MEM_DISK_CACHE, -(int64_t)(d->opt.index_bytes + DISK_STAGING_BYTES));
    disk_index_destroy(&d->index);
    disk_filter_destroy(&d->filter);
    vec_free(&d->directory.records);
    free(d->staging);
    free(d->region_count);
    rt_event_destroy(&d->ready);
    rt_credits_destroy(&d->read_room);
    rt_credits_destroy(&d->write_room);
    rt_mutex_destroy(&d->m);
    free(d);
}

static void set_geometry(struct cache_disk *d)
{
    d->region_bytes = REGION_MIN;
    while (d->region_bytes < REGION_MAX &&
           d->opt.bytes / (d->region_bytes * 2ull) >= REGIONS_WANTED) {
        d->region_bytes *= 2;
    }
    d->regions = (d->opt.bytes - DISK_HEADER_BYTES) / d->region_bytes;
    d->fill = d->region_bytes;
    d->opt.retry_ms = d->opt.retry_ms ? d->opt.retry_ms : RETRY_MS;
    d->opt.slow_ms = d->opt.slow_ms ? d->opt.slow_ms : SLOW_MS;
}

static int create(const struct cache_disk_options *opt, struct cache_disk **ret_disk)
{
    struct cache_disk *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return -ENOMEM;
    }
    d->opt = *opt;
    d->opt.dir = NULL;
    d->opt.io = NULL;
    set_geometry(d);
    rt_mutex_init(&d->m);
    rt_waitq_init(&d->more);
    rt_waitq_init(&d->clear_q);
    list_init(&d->queue);
    rt_event_init(&d->ready);
    rt_credits_init(&d->read_room, MAX_OF(opt->pending_bytes, ROOM_MIN));
    rt_credits_init(&d->write_room, MAX_OF(opt->pending_bytes, ROOM_MIN));
    rt_mem_add(RT_MEM_DISK_CACHE, (int64_t)(d->opt.index_bytes + DISK_STAGING_BYTES));
    d->staging = malloc(DISK_STAGING_BYTES);
    d->region_count = calloc(d->regions, sizeof *d->region_count);
    uint64_t ram = opt->adopt ? 0 : opt->index_bytes;
    int r = disk_index_create(ram - ram / FILTER_PART, &d->index);
    if (r == 0) {
        r = disk_filter_create(ram / FILTER_PART, &d->filter);
    }
    if (r == 0) {
        r = d->staging != NULL && d->region_count != NULL ? rt_group_create(&d->group) : -ENOMEM;
    }
    if (r == 0 && opt->io != NULL) {
        d->io = *opt->io;
    } else if (r == 0) {
        r = disk_file_create(opt->dir, &d->io);
    }
    if (r < 0) {
        destroy(d);
        return r;
    }
    *ret_disk = d;
    return 0;
}

int cache_disk_open(const struct cache_disk_options *opt, struct cache_disk **ret_disk)
{
    struct cache_disk *d;
    if (opt->bytes < CACHE_DISK_BYTES_MIN) {
        return -EINVAL;
    }
    int r = create(opt, &d);
    if (r < 0) {
        return r;
    }
    r = rt_group_spawn(d->group, "disk cache", disk_writer, d);
    if (r < 0) {
        destroy(d);
        return r;
    }
    /* A large cache, or a slow disk, goes on loading while the volume is in use. */
    r = rt_event_wait(&d->ready, rt_after_ms(OPEN_WAIT_MS));
    *ret_disk = d;
    if (r == -ECANCELED) {
        cache_disk_close(d);
        return r;
    }
    return 0;
}

void cache_disk_close(struct cache_disk *d)
{
    if (d == NULL) {
        return;
    }
    rt_mutex_lock(&d->m);
    d->stop = true;
    d->stop_ns = rt_after_ms(CLOSE_WAIT_MS);
    rt_waitq_wake_all(&d->more);
    rt_mutex_unlock(&d->m);
    rt_group_wait(d->group);
    destroy(d);
}

static struct job *job_create(struct cache_disk *d, uint32_t count)
{
    struct job *j = calloc(1, sizeof *j + count * sizeof j->wants[0]);
    if (j != NULL) {
        j->d = d;
        atomic_init(&j->refs, 2);
        rt_event_init(&j->done);
    }
    return j;
}

static void job_unref(struct job *j)
{
    if (atomic_fetch_sub(&j->refs, 1) == 1) {
        rt_event_destroy(&j->done);
        rt_buf_unref(j->buf);
        free(j);
    }
}

static int by_place(const void *a, const void *b)
{
    const struct want *x = a;
    const struct want *y = b;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Entries that lie one behind the other come by one call. */
static int read_job(void *arg)
{
    struct job *j = arg;
    struct cache_disk *d = j->d;
    for (uint32_t i = 0; i < j->count;) {
        uint32_t from = j->wants[i].at;
        uint64_t place = j->wants[i].place;
        uint32_t end = j->bytes;
        for (i++; i < j->count; i++) {
            end = j->wants[i].at;
            if (disk_place_at(d, j->wants[i].place) != disk_place_at(d, place) + end - from) {
                break;
            }
            end = j->bytes;
        }
        ssize_t n = d->io.read(d->io.arg, j->buf->data + from, end - from, disk_place_at(d, place));
        if (n < 0) {
            return (int)n;
        }
        memset(j->buf->data + from + n, 0, end - from - (size_t)n);
    }
    return 0;
}

static void reader(void *arg)
{
    struct job *j = arg;
    struct cache_disk *d = j->d;
    j->result = disk_call(d, read_job, j);
    rt_credits_give(&d->read_room, j->room);
    rt_event_set(&j->done);
    job_unref(j);
}

/* Looks the frames up; what is found is set down in the job. */
static void look_up(struct cache_disk *d, struct job *j, struct cache_disk_frame *frames,
                    uint32_t count)
{
    rt_mutex_lock(&d->m);
    bool asleep = !d->loaded || disk_is_clearing(d) || rt_now_ns() < d->read_again_ns;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t hash = disk_hash(frames[i].object, frames[i].offset);
        uint64_t place = asleep ? 0 : disk_index_find(&d->index, hash, disk_tail(d));
        frames[i].bytes = NULL;
        frames[i].old = false;
        frames[i].era = d->clears;
        if (place != 0) {
            j->wants[j->count++] = (struct want){.frame = &frames[i], .place = place};
            j->bytes += (uint32_t)disk_entry_bytes(frames[i].len);
        }
    }
    j->file_id = d->file_id;
    rt_mutex_unlock(&d->m);
}

static void note_read(struct cache_disk *d, int r)
{
    bool tell = false;
    rt_mutex_lock(&d->m);
    d->bad_reads = r < 0 ? d->bad_reads + 1 : 0;
    d->counts.timeouts += r == -ETIMEDOUT;
    d->counts.errors += r < 0 && r != -ETIMEDOUT;
    if (d->bad_reads >= BAD_READS_MAX) {
        d->read_again_ns = rt_now_ns() + d->opt.retry_ms * NS_PER_MS;
        d->bad_reads = BAD_READS_MAX - 1; /* the next one has one try */
        tell = !d->told_read;
        d->told_read = true;
    } else if (r == 0 && d->told_read) {
        d->told_read = false;
        tell = true;
    }
    rt_mutex_unlock(&d->m);
    if (tell && r < 0) {
        msg_warn("cache", "the disk cache %s: %s; going on without",
                 r == -ETIMEDOUT ? "is slow" : "cannot be read", err_text(r));
    } else if (tell) {
        msg_info("cache", "the disk cache is read again");
    }
}

/* Runs the read for as long as it may take: 0 or -errno. */
static int run(struct cache_disk *d, struct job *j)
{
    uint32_t at = 0;
    qsort(j->wants, j->count, sizeof(struct want), by_place);
    for (uint32_t i = 0; i < j->count; i++) {
        j->wants[i].at = at;
        at += (uint32_t)disk_entry_bytes(j->wants[i].frame->len);
    }
    j->room = MIN_OF(j->bytes, d->read_room.total);
    int r = rt_credits_take(&d->read_room, j->room, rt_after_ms(d->opt.slow_ms));
    j->room = r < 0 ? 0 : j->room;
    if (r == 0) {
        r = rt_buf_alloc(j->bytes, RT_MEM_DISK_CACHE, &j->buf);
    }
    if (r == 0) {
        r = rt_group_spawn(d->group, "disk read", reader, j);
    }
    if (r < 0) {
        rt_credits_give(&d->read_room, j->room);
        job_unref(j); /* the reader's */
        return -ECANCELED;
    }
    uint64_t limit = d->opt.slow_ms * NS_PER_MS + (uint64_t)j->bytes * SLOW_NS_PER_BYTE;
    r = rt_event_wait(&j->done, rt_now_ns() + limit);
    r = r == 0 ? j->result : r;
    if (r != -ECANCELED) {
        note_read(d, r);
    }
    return r;
}

/* The entry must say of itself what the index says of it. */
static bool want_check(const struct job *j, const struct want *w)
{
    struct disk_mark m;
    const uint8_t *p = j->buf->data + w->at;
    return disk_mark_decode(p, DISK_KIND_ENTRY, j->file_id, &m) && m.x == w->frame->object &&
           m.y == w->frame->offset && m.small == w->frame->len && m.z == w->place;
}

/* The entry is not good; unless the file was emptied meanwhile, which is nobody's fault. */
static void drop(struct cache_disk *d, const struct want *w, uint64_t file_id)
{
    uint64_t hash = disk_hash(w->frame->object, w->frame->offset);
    rt_mutex_lock(&d->m);
    if (d->file_id == file_id && !disk_is_clearing(d)) {
        d->counts.corrupt += w->place >= disk_tail(d);
        disk_index_drop(&d->index, hash, w->place);
    }
    rt_mutex_unlock(&d->m);
}

/* Three quarters of the cache have been written after it. */
static bool is_old(struct cache_disk *d, uint64_t place)
{
    uint64_t per = d->region_bytes / DISK_UNIT;
    rt_mutex_lock(&d->m);
    bool old = place + d->regions * per * 3 / 4 < d->number * per;
    rt_mutex_unlock(&d->m);
    return old;
}

uint32_t cache_disk_read(struct cache_disk *d, struct cache_disk_frame *frames, uint32_t count,
                         struct rt_buf **ret_buf)
{
    uint32_t found = 0;
    struct job *j = job_create(d, count);
    if (j == NULL) {
        for (uint32_t i = 0; i < count; i++) {
            frames[i].bytes = NULL;
        }
        return 0;
    }
    look_up(d, j, frames, count);
    int r = -ENOENT;
    if (j->count > 0) {
        r = run(d, j);
    } else {
        job_unref(j);
    }
    for (uint32_t i = 0; i < j->count; i++) {
        struct want *w = &j->wants[i];
        if (r == 0 && want_check(j, w)) {
            w->frame->bytes = j->buf->data + w->at + DISK_MARK_BYTES;
            w->frame->old = is_old(d, w->place);
            found++;
        } else if (r != -ETIMEDOUT && r != -ECANCELED) {
            drop(d, w, j->file_id);
        }
    }
    rt_mutex_lock(&d->m);
    d->counts.hits += found;
    d->counts.misses += count - found;
    d->counts.read_bytes += found > 0 ? j->bytes : 0;
    rt_mutex_unlock(&d->m);
    if (found > 0) {
        *ret_buf = rt_buf_ref(j->buf);
    }
    job_unref(j);
    return found;
}

/* With d->m: whether the frame is worth an entry. One that is there is not. */
static bool is_wanted(struct cache_disk *d, const struct cache_disk_frame *fr)
{
    uint64_t hash = disk_hash(fr->object, fr->offset);
    if (disk_index_find(&d->index, hash, disk_tail(d)) != 0) {
        return false;
    }
    bool full = d->number >= d->regions;
    bool wanted = !full || disk_filter_pass(&d->filter, hash);
    d->counts.passed_by += !wanted;
    return wanted;
}

/* An item of the frames that are worth writing; with `again`, also of what is there. NULL: none. */
static struct disk_item *item_create(struct cache_disk *d, const struct cache_disk_frame *frames,
                                     uint32_t count, bool again)
{
    struct disk_item *it = calloc(1, sizeof *it + count * sizeof it->frames[0]);
    if (it == NULL) {
        return NULL;
    }
    rt_mutex_lock(&d->m);
    bool asleep = d->stop || disk_is_clearing(d) || (d->unusable && rt_now_ns() < d->retry_ns);
    it->era = d->clears;
    for (uint32_t i = 0; i < count && !asleep; i++) {
        const struct cache_disk_frame *fr = &frames[i];
        if (fr->bytes != NULL && fr->era == it->era &&
            disk_entry_bytes(fr->len) <= DISK_ENTRY_BYTES_MAX && (again || is_wanted(d, fr))) {
            it->frames[it->count++] = *fr;
        }
    }
    d->counts.dropped += asleep ? count : 0;
    rt_mutex_unlock(&d->m);
    if (it->count == 0) {
        free(it);
        return NULL;
    }
    return it;
}

static uint64_t room_of(struct cache_disk *d, const struct rt_buf *buf)
{
    return MIN_OF(buf->cap, d->write_room.total);
}

/* Takes the item; taken: there is room for it. What was cleared since it was made stays out. */
static void append(struct cache_disk *d, struct disk_item *it, struct rt_buf *buf, bool taken)
{
    rt_mutex_lock(&d->m);
    bool goes = taken && it->era == d->clears;
    if (goes) {
        it->room = room_of(d, buf);
        it->buf = rt_buf_ref(buf);
        list_push_back(&d->queue, &it->link);
        rt_waitq_wake_one(&d->more);
    } else {
        d->counts.dropped += it->count;
    }
    rt_mutex_unlock(&d->m);
    if (!goes) {
        rt_credits_give(&d->write_room, taken ? room_of(d, buf) : 0);
        free(it);
    }
}

static void put(struct cache_disk *d, struct rt_buf *buf, const struct cache_disk_frame *frames,
                uint32_t count, bool again)
{
    struct disk_item *it = item_create(d, frames, count, again);
    if (it != NULL) {
        append(d, it, buf, rt_credits_try(&d->write_room, room_of(d, buf)));
    }
}

void cache_disk_keep(struct cache_disk *d, struct rt_buf *buf, const struct cache_disk_frame *frame)
{
    if (frame->old) {
        put(d, buf, frame, 1, true);
    }
}

void cache_disk_put(struct cache_disk *d, struct rt_buf *buf, const struct cache_disk_frame *frames,
                    uint32_t count)
{
    put(d, buf, frames, count, false);
}

void cache_disk_put_wait(struct cache_disk *d, struct rt_buf *buf,
                         const struct cache_disk_frame *frames, uint32_t count)
{
    struct disk_item *it = item_create(d, frames, count, false);
    if (it != NULL) {
        uint64_t until = rt_after_ms(PUT_WAIT_MS);
        append(d, it, buf, rt_credits_take(&d->write_room, room_of(d, buf), until) == 0);
    }
}

void cache_disk_drop(struct cache_disk *d, const struct cache_disk_frame *frame)
{
    uint64_t hash = disk_hash(frame->object, frame->offset);
    rt_mutex_lock(&d->m);
    uint64_t place = disk_index_find(&d->index, hash, disk_tail(d));
    d->counts.corrupt++;
    d->counts.hits--; /* as which cache_disk_read() had counted it */
    d->counts.misses++;
    if (place != 0) {
        disk_index_drop(&d->index, hash, place);
    }
    rt_mutex_unlock(&d->m);
}

void cache_disk_counts(struct cache_disk *d, struct cache_disk_counts *ret_counts)
{
    rt_mutex_lock(&d->m);
    struct cache_disk_counts c = d->counts;
    uint64_t live = MIN_OF(d->number, d->regions);
    c.capacity_bytes = DISK_HEADER_BYTES + d->regions * d->region_bytes;
    c.used_bytes = live == 0 ? 0 : DISK_HEADER_BYTES + (live - 1) * d->region_bytes + d->fill;
    for (uint64_t i = 0; i < d->regions; i++) {
        c.entries += d->region_count[i];
    }
    c.bypassed = d->unusable || !d->loaded || d->told_read;
    rt_mutex_unlock(&d->m);
    *ret_counts = c;
}

uint64_t cache_disk_era(struct cache_disk *d)
{
    rt_mutex_lock(&d->m);
    uint64_t era = d->clears;
    rt_mutex_unlock(&d->m);
    return era;
}

#define CLEAR_WAIT_MS 30000u

/*
 * The writer does it, between two writes: what waits to be written is dropped, and so is what
 * somebody has read, or asked for, before this and puts later.
 */
int cache_disk_clear(struct cache_disk *d)
{
    uint64_t until = rt_after_ms(CLEAR_WAIT_MS);
    int r = 0;
    rt_mutex_lock(&d->m);
    uint64_t mine = ++d->clears;
    rt_waitq_wake_all(&d->more);
    while (r == 0 && d->cleared < mine) {
        r = rt_waitq_wait(&d->clear_q, &d->m, until);
    }
    if (d->cleared_well >= mine) {
        r = 0;
    } else if (d->cleared >= mine) {
        r = d->clear_result;
    }
    rt_mutex_unlock(&d->m);
    return r;
}
