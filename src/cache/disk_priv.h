/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the disk cache know of each other. */
#pragma once
#include "base/list.h"
#include "base/vec.h"
#include "cache/disk.h"
#include "cache/disk_filter.h"
#include "cache/disk_format.h"
#include "cache/disk_index.h"
#include "rt/rt.h"
#include "rt/sync.h"

#define DISK_STAGING_BYTES (1u << 20)
#define DISK_ENTRY_BYTES_MAX (DISK_STAGING_BYTES / 4)

struct disk_record {
    uint64_t object;
    uint64_t offset;
    uint32_t place; /* in the region, in units */
    uint32_t len;
};

struct disk_records {
    VEC(struct disk_record) records;
};

struct cache_disk {
    struct cache_disk_options opt; /* dir and io are not valid any more */
    struct cache_disk_io io;
    uint32_t region_bytes;
    uint64_t regions;

    struct rt_mutex m; /* guards all down to the writer's own */
    struct rt_waitq more;
    struct list queue; /* of disk_item */
    bool stop;
    uint64_t stop_ns; /* then: what is pending is dropped from this time on */
    bool loaded;      /* the index is as the file */
    bool unusable;    /* cannot be opened or written */
    bool told_write;
    uint64_t retry_ns; /* not before: open or write again */
    struct disk_index index;
    struct disk_filter filter;
    uint64_t number;        /* of the region that is being filled; 0 = none yet */
    uint32_t fill;          /* where its next entry goes */
    bool begun;             /* its mark is written */
    uint32_t *region_count; /* entries by region slot */
    uint64_t file_id;
    bool told_read;
    uint32_t bad_reads;     /* in a row */
    uint64_t read_again_ns; /* not before */
    struct cache_disk_counts counts;
    uint64_t clears;       /* asked for, so far */
    uint64_t cleared;      /* of these; between the two nothing is taken in, nor read */
    uint64_t cleared_well; /* the last of them that was a success, which is one for all before it */
    int clear_result;      /* of the last one */
    struct rt_waitq clear_q;

    struct rt_credits read_room;  /* bytes of reads under way, given up ones included */
    struct rt_credits write_room; /* bytes of buffers that wait to be written */
    struct rt_event ready;        /* loaded, or found unusable */
    struct rt_group *group;

    uint8_t *staging;              /* from here on: the writer's own */
    struct disk_records directory; /* of the region that is being filled */
};

/* Frames that wait to be written. */
struct disk_item {
    struct list link;
    struct rt_buf *buf;
    uint64_t room; /* of write_room */
    uint64_t era;
    uint32_t count;
    struct cache_disk_frame frames[];
};

/* disk_file.c */
MUST int disk_file_create(const char *dir, struct cache_disk_io *ret_io);

/* disk.c */
/* Runs a blocking call on its thread, after the disk's own pause. */
MUST int disk_call(struct cache_disk *d, int (*fn)(void *arg), void *arg) WAITS;
uint64_t disk_hash(uint64_t object, uint64_t offset);
/* With d->m: the first place, in units, that is not overwritten. */
uint64_t disk_tail(const struct cache_disk *d);
void disk_items_free(struct cache_disk *d, struct list *items);

/* disk_load.c */
/* Opens the file and fills the index from it, or empties both: 0 or -errno; -ECANCELED: it is being
 * closed, and the file is as it was. */
MUST int disk_load(struct cache_disk *d) WAITS;

/* disk_write.c */
/* With d->m. */
static inline bool disk_is_clearing(const struct cache_disk *d)
{
    return d->clears != d->cleared;
}

void disk_writer(void *arg) WAITS;

/* disk_mark.c */
struct disk_mark {
    uint32_t kind;
    uint32_t small;
    uint64_t x;
    uint64_t y;
    uint64_t z;
};
void disk_mark_encode(const struct disk_mark *m, uint64_t file_id, uint8_t *out);
/* False when these bytes are no mark of that kind in this file. */
bool disk_mark_decode(const uint8_t *p, uint32_t kind, uint64_t file_id, struct disk_mark *ret_m);

static inline uint64_t disk_entry_bytes(uint32_t len)
{
    return DISK_MARK_BYTES + ((uint64_t)len + DISK_UNIT - 1) / DISK_UNIT * DISK_UNIT;
}

/* Where in the file a region, or a place, is. */
static inline uint64_t disk_region_at(const struct cache_disk *d, uint64_t number)
{
    return DISK_HEADER_BYTES + number % d->regions * d->region_bytes;
}

static inline uint64_t disk_place_at(const struct cache_disk *d, uint64_t place)
{
    uint64_t per = d->region_bytes / DISK_UNIT;
    return disk_region_at(d, place / per) + place % per * DISK_UNIT;
}
