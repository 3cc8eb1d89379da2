/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the file to the index. The file is believed only if the opening that wrote it is the one
 * right before ours, and nothing in it is of an object that was not stored then: so it is of this
 * volume and of its present history (a store that was put back to an earlier state will give the
 * same numbers to other objects). Else it is emptied, which a new file id does at once.
 *
 * Who closes it before all is read hands it on as it is.
 *
 * Full regions are read from their directories. The one that was being filled is walked entry by
 * entry; its bytes are not read.
 */
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/msg.h"
#include "cache/disk_priv.h"
#include <errno.h>
#include <string.h>

#define SLOTS_PER_CALL 32u

struct load {
    struct cache_disk *d;
    uint8_t header[DISK_HEADER_BYTES];
    bool mine; /* the header says that the file goes on where it ended */
    uint64_t limit;
    bool given_up;     /* it is closed before it was read: the next opening reads it */
    uint64_t *numbers; /* of the region in each slot, 0 = none */
    uint64_t slot;     /* the next one whose number is to be read */
    uint64_t newest;
};

/* One region. */
struct region_load {
    struct cache_disk *d;
    uint64_t number;
    uint32_t fill; /* out: where it ends; the region's length when it is complete */
    struct disk_records found;
};

static int open_job(void *arg)
{
    struct load *l = arg;
    struct cache_disk *d = l->d;
    int r = d->io.open(d->io.arg);
    if (r < 0) {
        return r;
    }
    const uint8_t *h = l->header;
    ssize_t n = d->io.read(d->io.arg, l->header, sizeof l->header, 0);
    l->mine = n == (ssize_t)sizeof l->header && le64_load(h + DISK_HEADER_AT_MAGIC) == DISK_MAGIC &&
              le32_load(h + DISK_HEADER_AT_CRC) == crc32c(0, h, DISK_HEADER_AT_CRC) &&
              le32_load(h + DISK_HEADER_AT_VERSION) == DISK_VERSION &&
              le32_load(h + DISK_HEADER_AT_REGION_BYTES) == d->region_bytes &&
              le64_load(h + DISK_HEADER_AT_REGIONS) == d->regions &&
              memcmp(h + DISK_HEADER_AT_VOLUME, &d->opt.volume, sizeof d->opt.volume) == 0 &&
              memcmp(h + DISK_HEADER_AT_OPEN_ID, &d->opt.before, sizeof d->opt.before) == 0;
    l->limit = l->mine ? le64_load(h + DISK_HEADER_AT_LIMIT) : 0;
    l->limit = MIN_OF(l->limit, d->opt.last);
    return 0;
}

static int header_job(void *arg)
{
    struct load *l = arg;
    struct cache_disk *d = l->d;
    uint8_t *h = l->header;
    memset(h, 0, sizeof l->header);
    le64_store(h + DISK_HEADER_AT_MAGIC, DISK_MAGIC);
    le32_store(h + DISK_HEADER_AT_VERSION, DISK_VERSION);
    le32_store(h + DISK_HEADER_AT_REGION_BYTES, d->region_bytes);
    le64_store(h + DISK_HEADER_AT_REGIONS, d->regions);
    memcpy(h + DISK_HEADER_AT_VOLUME, &d->opt.volume, sizeof d->opt.volume);
    memcpy(h + DISK_HEADER_AT_OPEN_ID, &d->opt.open_id, sizeof d->opt.open_id);
    le64_store(h + DISK_HEADER_AT_FILE_ID, d->file_id);
    le64_store(h + DISK_HEADER_AT_LIMIT, d->opt.adopt || l->given_up ? l->limit : UINT64_MAX);
    le32_store(h + DISK_HEADER_AT_CRC, crc32c(0, h, DISK_HEADER_AT_CRC));
    if (!l->mine) {
        int r = d->io.cut(d->io.arg);
        if (r < 0) {
            return r;
        }
    }
    return d->io.write(d->io.arg, h, sizeof l->header, 0);
}

/* Some of the numbers: of a large file on a slow disk, all of them take minutes. */
static int numbers_job(void *arg)
{
    struct load *l = arg;
    struct cache_disk *d = l->d;
    uint64_t end = MIN_OF(d->regions, l->slot + SLOTS_PER_CALL);
    for (; l->slot < end; l->slot++) {
        uint64_t i = l->slot;
        uint8_t bytes[DISK_MARK_BYTES];
        struct disk_mark m;
        ssize_t n = d->io.read(d->io.arg, bytes, sizeof bytes, disk_region_at(d, i));
        if (n < 0) {
            return (int)n;
        }
        if (n == (ssize_t)sizeof bytes &&
            disk_mark_decode(bytes, DISK_KIND_REGION, d->file_id, &m) && m.x > 0 &&
            m.x % d->regions == i) {
            l->numbers[i] = m.x;
            l->newest = MAX_OF(l->newest, m.x);
        }
    }
    return 0;
}

/* The directory's records, if all of them are possible; else none. */
static void directory_decode(struct region_load *g, const uint8_t *p, const struct disk_mark *end)
{
    for (uint32_t i = 0; i < end->small; i++, p += DISK_RECORD_BYTES) {
        struct disk_record rec = {.object = le64_load(p + DISK_RECORD_AT_OBJECT),
                                  .offset = le64_load(p + DISK_RECORD_AT_OFFSET),
                                  .place = le32_load(p + DISK_RECORD_AT_PLACE),
                                  .len = le32_load(p + DISK_RECORD_AT_LEN)};
        uint64_t at = (uint64_t)rec.place * DISK_UNIT;
        if (at < DISK_MARK_BYTES || at + disk_entry_bytes(rec.len) > end->y ||
            vec_push(&g->found.records, rec) < 0) {
            g->found.records.len = 0;
            return;
        }
    }
}

/* True when the region has its end mark and so needs no walk. */
static bool directory_read(struct region_load *g)
{
    struct cache_disk *d = g->d;
    uint8_t bytes[DISK_MARK_BYTES];
    struct disk_mark end;
    uint64_t at = disk_region_at(d, g->number);
    uint64_t room = d->region_bytes - DISK_MARK_BYTES;
    ssize_t n = d->io.read(d->io.arg, bytes, sizeof bytes, at + room);
    if (n != (ssize_t)sizeof bytes || !disk_mark_decode(bytes, DISK_KIND_END, d->file_id, &end) ||
        end.x != g->number || end.y > room || end.small > (room - end.y) / DISK_RECORD_BYTES) {
        return false;
    }
    size_t len = (size_t)end.small * DISK_RECORD_BYTES;
    auto_free uint8_t *records = malloc(MAX_OF(len, 1u));
    if (records != NULL && d->io.read(d->io.arg, records, len, at + end.y) == (ssize_t)len &&
        crc32c(0, records, len) == end.z) {
        directory_decode(g, records, &end);
    }
    return true;
}

static void entries_walk(struct region_load *g)
{
    struct cache_disk *d = g->d;
    uint64_t first = g->number * (d->region_bytes / DISK_UNIT);
    uint64_t at = DISK_MARK_BYTES;
    while (at + DISK_MARK_BYTES <= d->region_bytes) {
        uint8_t bytes[DISK_MARK_BYTES];
        struct disk_mark m;
        ssize_t n = d->io.read(d->io.arg, bytes, sizeof bytes, disk_region_at(d, g->number) + at);
        if (n != (ssize_t)sizeof bytes ||
            !disk_mark_decode(bytes, DISK_KIND_ENTRY, d->file_id, &m) ||
            m.z != first + at / DISK_UNIT || at + disk_entry_bytes(m.small) > d->region_bytes) {
            break;
        }
        struct disk_record rec = {m.x, m.y, (uint32_t)(at / DISK_UNIT), m.small};
        if (vec_push(&g->found.records, rec) < 0) {
            break;
        }
        at += disk_entry_bytes(m.small);
    }
    g->fill = (uint32_t)at;
}

static int region_job(void *arg)
{
    struct region_load *g = arg;
    g->fill = g->d->region_bytes;
    if (!directory_read(g)) {
        entries_walk(g);
    }
    return 0;
}

/* With d->m. 0; -ESTALE, all is to go, and who clears does not wait for the rest; -ECANCELED. */
static int go_on(const struct cache_disk *d)
{
    if (disk_is_clearing(d)) {
        return -ESTALE;
    }
    return d->stop ? -ECANCELED : 0;
}

/* As go_on(); -ESTALE also when there is something of an object that cannot be. */
static int region_take(struct region_load *g, uint64_t limit)
{
    struct cache_disk *d = g->d;
    uint64_t first = g->number * (d->region_bytes / DISK_UNIT);
    rt_mutex_lock(&d->m);
    int r = go_on(d);
    for (size_t i = 0; i < g->found.records.len && r == 0; i++) {
        const struct disk_record *rec = &g->found.records.at[i];
        r = rec->object > limit ? -ESTALE : 0;
        disk_index_put(&d->index, disk_hash(rec->object, rec->offset), first + rec->place, 1);
    }
    d->region_count[g->number % d->regions] = (uint32_t)g->found.records.len;
    rt_mutex_unlock(&d->m);
    return r;
}

static int load_numbers(struct load *l)
{
    struct cache_disk *d = l->d;
    int r = 0;
    while (r == 0 && l->slot < d->regions) {
        rt_mutex_lock(&d->m);
        r = go_on(d);
        rt_mutex_unlock(&d->m);
        if (r == 0) {
            r = disk_call(d, numbers_job, l);
        }
    }
    return r;
}

static int load_regions(struct load *l)
{
    struct cache_disk *d = l->d;
    int r = load_numbers(l);
    uint64_t from = l->newest >= d->regions ? l->newest - d->regions + 1 : 1;
    rt_mutex_lock(&d->m);
    d->number = l->newest;
    d->begun = l->newest > 0;
    d->fill = d->region_bytes;
    rt_mutex_unlock(&d->m);
    for (uint64_t n = from; r == 0 && n <= l->newest; n++) {
        struct region_load g = {.d = d, .number = n};
        if (l->numbers[n % d->regions] != n) {
            continue;
        }
        r = disk_call(d, region_job, &g);
        if (r == 0) {
            r = region_take(&g, l->limit);
        }
        if (n == l->newest) {
            rt_mutex_lock(&d->m);
            d->fill = g.fill;
            rt_mutex_unlock(&d->m);
            vec_free(&d->directory.records);
            d->directory = g.found;
        } else {
            vec_free(&g.found.records);
        }
    }
    return r;
}

static void make_empty(struct load *l)
{
    struct cache_disk *d = l->d;
    l->mine = false;
    d->directory.records.len = 0;
    rt_mutex_lock(&d->m);
    rt_random_bytes(&d->file_id, sizeof d->file_id);
    disk_index_clear(&d->index);
    memset(d->region_count, 0, d->regions * sizeof *d->region_count);
    d->number = 0;
    d->begun = false;
    d->fill = d->region_bytes;
    rt_mutex_unlock(&d->m);
}

int disk_load(struct cache_disk *d)
{
    auto_free struct load *l = calloc(1, sizeof *l);
    auto_free uint64_t *numbers = calloc(d->regions, sizeof *numbers);
    if (l == NULL || numbers == NULL) {
        return -ENOMEM;
    }
    l->d = d;
    l->numbers = numbers;
    int r = disk_call(d, open_job, l);
    if (r < 0 || (d->opt.adopt && !l->mine)) {
        return r;
    }
    rt_mutex_lock(&d->m);
    d->file_id = le64_load(l->header + DISK_HEADER_AT_FILE_ID);
    rt_mutex_unlock(&d->m);
    if (!d->opt.adopt) {
        r = l->mine ? load_regions(l) : -ESTALE;
        l->given_up = r == -ECANCELED;
        if (r < 0 && !l->given_up) {
            make_empty(l);
        }
    }
    r = disk_call(d, header_job, l);
    if (r == 0 && l->given_up) {
        r = -ECANCELED;
    } else if (r == 0) {
        /* A file that is opened again in this life is one that it has written. */
        d->opt.before = d->opt.open_id;
        d->opt.last = UINT64_MAX;
    }
    return r;
}
