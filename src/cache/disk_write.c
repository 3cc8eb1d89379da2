/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer: one fiber that takes what was put, many frames at a time, and appends it to the
 * region that is being filled; a full region gets its directory and end mark, and the oldest one is
 * overwritten. An entry is in the index only after its write has returned. A write that fails is
 * forgotten, and nothing is written for a while.
 */
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "cache/disk_priv.h"
#include <errno.h>
#include <string.h>

#define CHUNK_FRAMES 256u

/* What one write takes to the disk: entries that lie one behind the other. */
struct chunk {
    struct cache_disk *d;
    uint32_t base; /* in the region */
    uint32_t len;
    uint32_t count;
    struct cache_disk_frame frames[CHUNK_FRAMES];
};

static int chunk_job(void *arg)
{
    const struct chunk *c = arg;
    struct cache_disk *d = c->d;
    uint64_t first = d->number * (d->region_bytes / DISK_UNIT);
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct cache_disk_frame *fr = &c->frames[i];
        uint32_t all = (uint32_t)disk_entry_bytes(fr->len);
        struct disk_mark m = {.kind = DISK_KIND_ENTRY,
                              .small = fr->len,
                              .x = fr->object,
                              .y = fr->offset,
                              .z = first + (c->base + at) / DISK_UNIT};
        disk_mark_encode(&m, d->file_id, d->staging + at);
        memcpy(d->staging + at + DISK_MARK_BYTES, fr->bytes, fr->len);
        memset(d->staging + at + DISK_MARK_BYTES + fr->len, 0, all - DISK_MARK_BYTES - fr->len);
        at += all;
    }
    return d->io.write(d->io.arg, d->staging, c->len, disk_region_at(d, d->number) + c->base);
}

static int chunk_flush(struct chunk *c)
{
    struct cache_disk *d = c->d;
    if (c->count == 0) {
        return 0;
    }
    int r = vec_reserve(&d->directory.records, d->directory.records.len + c->count);
    if (r == 0) {
        r = disk_call(d, chunk_job, c);
    }
    if (r < 0) {
        return r;
    }
    uint32_t at = c->base / DISK_UNIT;
    uint64_t first = d->number * (d->region_bytes / DISK_UNIT);
    rt_mutex_lock(&d->m);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct cache_disk_frame *fr = &c->frames[i];
        d->directory.records.at[d->directory.records.len++] =
            (struct disk_record){fr->object, fr->offset, at, fr->len};
        disk_index_put(&d->index, disk_hash(fr->object, fr->offset), first + at, disk_tail(d));
        at += (uint32_t)(disk_entry_bytes(fr->len) / DISK_UNIT);
    }
    d->region_count[d->number % d->regions] += c->count;
    d->counts.written_bytes += c->len;
    d->fill = c->base + c->len;
    rt_mutex_unlock(&d->m);
    c->base += c->len;
    c->len = 0;
    c->count = 0;
    return 0;
}

static int region_end_job(void *arg)
{
    struct cache_disk *d = arg;
    uint32_t count = (uint32_t)d->directory.records.len;
    size_t len = (size_t)count * DISK_RECORD_BYTES;
    auto_free uint8_t *bytes = malloc(MAX_OF(len, 1u));
    if (bytes == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct disk_record *rec = &d->directory.records.at[i];
        uint8_t *p = bytes + (size_t)i * DISK_RECORD_BYTES;
        le64_store(p + DISK_RECORD_AT_OBJECT, rec->object);
        le64_store(p + DISK_RECORD_AT_OFFSET, rec->offset);
        le32_store(p + DISK_RECORD_AT_PLACE, rec->place);
        le32_store(p + DISK_RECORD_AT_LEN, rec->len);
    }
    uint8_t mark[DISK_MARK_BYTES];
    struct disk_mark m = {.kind = DISK_KIND_END,
                          .small = count,
                          .x = d->number,
                          .y = d->fill,
                          .z = crc32c(0, bytes, len)};
    disk_mark_encode(&m, d->file_id, mark);
    uint64_t at = disk_region_at(d, d->number);
    int r = d->io.write(d->io.arg, bytes, len, at + d->fill);
    return r < 0
               ? r
               : d->io.write(d->io.arg, mark, sizeof mark, at + d->region_bytes - DISK_MARK_BYTES);
}

static int region_begin_job(void *arg)
{
    struct cache_disk *d = arg;
    uint8_t mark[DISK_MARK_BYTES];
    struct disk_mark m = {.kind = DISK_KIND_REGION, .x = d->number};
    disk_mark_encode(&m, d->file_id, mark);
    return d->io.write(d->io.arg, mark, sizeof mark, disk_region_at(d, d->number));
}

/* The oldest region goes; from here on nothing in it is found. */
static int region_turn(struct cache_disk *d)
{
    int r = 0;
    if (d->begun) {
        r = d->fill < d->region_bytes ? disk_call(d, region_end_job, d) : 0;
        if (r < 0) {
            return r;
        }
    }
    if (d->begun || d->number == 0) {
        rt_mutex_lock(&d->m);
        d->number++;
        d->begun = false;
        d->fill = DISK_MARK_BYTES;
        uint32_t *count = &d->region_count[d->number % d->regions];
        d->counts.evictions += *count;
        *count = 0;
        d->directory.records.len = 0;
        rt_mutex_unlock(&d->m);
    }
    r = disk_call(d, region_begin_job, d);
    d->begun = r == 0;
    return r;
}

static bool region_has_room(const struct chunk *c, uint32_t bytes)
{
    const struct cache_disk *d = c->d;
    if (!d->begun) {
        return false;
    }
    uint64_t records = (d->directory.records.len + c->count + 1) * DISK_RECORD_BYTES;
    return (uint64_t)c->base + c->len + bytes + records + DISK_MARK_BYTES <= d->region_bytes;
}

static int frame_add(struct chunk *c, const struct cache_disk_frame *fr)
{
    uint32_t bytes = (uint32_t)disk_entry_bytes(fr->len);
    int r = 0;
    if (c->count == CHUNK_FRAMES || c->len + bytes > DISK_STAGING_BYTES) {
        r = chunk_flush(c);
    }
    if (r == 0 && !region_has_room(c, bytes)) {
        r = chunk_flush(c);
        if (r == 0) {
            r = region_turn(c->d);
            c->base = c->d->fill;
        }
    }
    if (r == 0) {
        c->frames[c->count++] = *fr;
        c->len += bytes;
    }
    return r;
}

static int items_write(struct cache_disk *d, struct list *items)
{
    auto_free struct chunk *c = malloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    c->d = d;
    c->base = d->fill;
    c->len = 0;
    c->count = 0;
    list_for_each(items, struct disk_item, link, it) {
        for (uint32_t i = 0; i < it->count; i++) {
            int r = frame_add(c, &it->frames[i]);
            if (r < 0) {
                return r;
            }
        }
    }
    return chunk_flush(c);
}

static void note_dropped(struct cache_disk *d, const struct list *items)
{
    rt_mutex_lock(&d->m);
    list_for_each(items, struct disk_item, link, it) {
        d->counts.dropped += it->count;
    }
    rt_mutex_unlock(&d->m);
}

static void note_result(struct cache_disk *d, int r)
{
    if (r == -ECANCELED) {
        return; /* it was closed before it was loaded */
    }
    bool tell = d->told_write != (r < 0);
    rt_mutex_lock(&d->m);
    d->unusable = r < 0;
    d->told_write = r < 0;
    d->counts.errors += r < 0;
    d->retry_ns = rt_now_ns() + d->opt.retry_ms * NS_PER_MS;
    rt_mutex_unlock(&d->m);
    if (r < 0 && tell) {
        msg_warn("cache", "the disk cache cannot be written: %s; going on without", err_text(r));
    } else if (tell) {
        msg_info("cache", "the disk cache is written again");
    }
}

static int load(struct cache_disk *d)
{
    rt_mutex_lock(&d->m);
    d->loaded = false;
    rt_mutex_unlock(&d->m);
    int r = disk_load(d);
    rt_mutex_lock(&d->m);
    d->loaded = r == 0;
    rt_mutex_unlock(&d->m);
    return r;
}

static void write_or_drop(struct cache_disk *d, struct list *items)
{
    if (d->opt.adopt || (d->unusable && rt_now_ns() < d->retry_ns)) {
        return;
    }
    int r = d->loaded ? 0 : load(d);
    if (r == 0) {
        r = items_write(d, items);
    }
    if (r == -ESTALE) {
        r = load(d); /* the file was removed: another one */
        if (r == 0) {
            r = items_write(d, items);
        }
    }
    note_result(d, r);
}

struct cut {
    struct cache_disk *d;
    bool was_open; /* out: and what was open is empty now */
};

/*
 * First the file that is open, which holds the frames: its path may lead to another one by now, or
 * to none. Then that other one, which may have frames of an earlier opening. What is open and
 * cannot be cut stays open: else the next try would find the other one, and be content.
 */
static int cut_job(void *arg)
{
    struct cut *c = arg;
    const struct cache_disk_io *io = &c->d->io;
    int r = io->cut(io->arg);
    c->was_open = r == 0;
    if (r < 0 && r != -EBADF) {
        return r;
    }
    r = io->open(io->arg);
    if (r < 0) {
        return c->was_open ? 0 : r; /* all that this server has written is gone */
    }
    return io->cut(io->arg);
}

/* All that were asked for up to that one. Without its header the file is begun anew. */
static void clear(struct cache_disk *d, uint64_t upto)
{
    struct cut c = {.d = d};
    int r = disk_call(d, cut_job, &c);
    if (r < 0) {
        msg_warn("cache", "the disk cache cannot be emptied: %s", err_text(r));
    }
    if ((r == 0 || c.was_open) && !d->opt.adopt) {
        note_result(d, load(d));
    }
    rt_mutex_lock(&d->m);
    d->cleared_well = r == 0 ? upto : d->cleared_well;
    d->clear_result = r;
    d->cleared = upto;
    rt_waitq_wake_all(&d->clear_q);
    rt_mutex_unlock(&d->m);
}

void disk_writer(void *arg)
{
    struct cache_disk *d = arg;
    int r = load(d);
    if (r < 0) {
        note_result(d, r);
    }
    rt_event_set(&d->ready);
    bool stop = false;
    while (!stop) {
        struct list items;
        list_init(&items);
        rt_mutex_lock(&d->m);
        while (list_is_empty(&d->queue) && !d->stop && !disk_is_clearing(d) &&
               rt_waitq_wait(&d->more, &d->m, RT_FOREVER) == 0) {
        }
        for (struct list *n; (n = list_pop_front(&d->queue)) != NULL;) {
            list_push_back(&items, n);
        }
        stop = d->stop;
        uint64_t clears = d->clears;
        bool is_clearing = disk_is_clearing(d);
        rt_mutex_unlock(&d->m);
        if (is_clearing) {
            note_dropped(d, &items);
            clear(d, clears);
        } else if (!list_is_empty(&items) && (!stop || (d->loaded && rt_now_ns() < d->stop_ns))) {
            write_or_drop(d, &items);
        }
        disk_items_free(d, &items);
    }
}
