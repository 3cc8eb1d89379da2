/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cache of bytes as they lie in objects, on a local disk: what is encrypted stays encrypted.
 * Keyed by (object, offset), of one volume. It is never asked whether it is right: whoever reads
 * from it checks what he gets as if it came from the store, and drops what does not stand up.
 *
 *     r = cache_disk_open(&(struct cache_disk_options){.dir = dir, .bytes = 10ull << 30, ...}, &d);
 *     struct cache_disk_frame fr = {seq, offset, len};
 *     uint32_t found = cache_disk_read(d, &fr, 1, &buf);    // fr.bytes, or NULL: ask the store
 *     cache_disk_keep(d, buf, &fr);                         // they are right; or cache_disk_drop()
 *     rt_buf_unref(buf);
 *     fr.era = cache_disk_era(d);                           // before the store is asked
 *     cache_disk_put(d, buf_of_the_store, &fr, 1);          // at once; written some time later
 *     cache_disk_close(d);
 *
 * No failure of the disk is a failure of the cache: a disk that is full, broken, slow or gone is
 * gone around, which is said once, and tried again later. disk.c tells how.
 */
#pragma once
#include "base/attr.h"
#include "base/uuid.h"
#include "rt/buf.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cache_disk;

/*
 * The disk itself. open, read, write, cut and close block and run on offload threads, several at a
 * time.
 */
struct cache_disk_io {
    /* Opens the file anew, making what is missing; also when it is open: 0 or -errno. */
    int (*open)(void *arg);
    ssize_t (*read)(void *arg, void *dst, size_t len, uint64_t off);
    /* 0, -errno; -ESTALE: the file has been removed. */
    int (*write)(void *arg, const void *src, size_t len, uint64_t off);
    /* Makes it empty, also after a power loss. 0, -errno; -EBADF: none is open. */
    int (*cut)(void *arg);
    void (*close)(void *arg);
    void (*pause)(void *arg) WAITS; /* before each call, on the fiber that wants it; or NULL */
    void *arg;
};

struct cache_disk_options {
    const char *dir;        /* the file's folder; not used with io */
    uint64_t bytes;         /* all that it may take on disk; at least CACHE_DISK_BYTES_MIN */
    uint64_t index_bytes;   /* in RAM, what is missed is remembered in a part of it */
    uint64_t pending_bytes; /* what waits to be written */
    struct uuid volume;
    struct uuid before;  /* the opening before this one: its cache is kept, any other is emptied */
    struct uuid open_id; /* this opening */
    uint64_t last;       /* no object with a higher number was stored before this opening */
    bool adopt;          /* only hand the cache on to the next opening */
    const struct cache_disk_io *io; /* copied; NULL = a file in dir */
    uint64_t retry_ms;              /* how long a bad disk is left alone; 0 = 30 s */
    uint64_t slow_ms;               /* how long a read is waited for; 0 = 100 ms */
};

#define CACHE_DISK_BYTES_MIN (8ull << 20)

/* 0, -EINVAL (too small), -ENOMEM. A disk that is bad now may be good later. */
MUST int cache_disk_open(const struct cache_disk_options *opt, struct cache_disk **ret_disk) WAITS;
/* Writes what is pending, for a moment at most. Accepts NULL. */
void cache_disk_close(struct cache_disk *d) WAITS;

/* Where there is no disk cache any more: empties the file in dir that an earlier one of the volume
 * has left. 0, also when there is none, or -errno. */
MUST int cache_disk_forget(const char *dir, const struct uuid *volume) WAITS;

struct cache_disk_frame {
    uint64_t object;
    uint64_t offset;
    uint32_t len;         /* at most a mebibyte */
    const uint8_t *bytes; /* out: in the buffer; NULL when they are not to be had */
    bool old;             /* out: it will be overwritten soon, unless it is kept */
    uint64_t era;         /* cache_disk_era() before the bytes were asked for; out, when read */
};

/* Reads what is there of the frames: how many. *ret_buf, when there are any, holds their bytes and
 * has one reference. */
uint32_t cache_disk_read(struct cache_disk *d, struct cache_disk_frame *frames, uint32_t count,
                         struct rt_buf **ret_buf) WAITS;
/* What was read, into this buffer, has been checked and is right: if it is old, it lives on. */
void cache_disk_keep(struct cache_disk *d, struct rt_buf *buf,
                     const struct cache_disk_frame *frame);
/* Takes the frames in, whose bytes lie in buf; or does not, when the disk cannot keep up, or when
 * the cache is full and it was not asked for them lately. Never waits. */
void cache_disk_put(struct cache_disk *d, struct rt_buf *buf, const struct cache_disk_frame *frames,
                    uint32_t count);
/* The same for those who have time: waits for a moment until the disk has caught up. */
void cache_disk_put_wait(struct cache_disk *d, struct rt_buf *buf,
                         const struct cache_disk_frame *frames, uint32_t count) WAITS;
/* What was read is not what it should be: it was no hit after all. */
void cache_disk_drop(struct cache_disk *d, const struct cache_disk_frame *frame);

/* Nothing of what it holds, or of what was asked for before this, is to be found afterwards,
 * neither in the file that was in use nor in the one that its path leads to, if that can be opened
 * (if none was in use, it must be); it begins anew. 0, -ETIMEDOUT (it is done as soon as the disk
 * answers), or the disk's error. */
MUST int cache_disk_clear(struct cache_disk *d) WAITS;
/* How often it was cleared: what was asked for in an earlier era is not taken in. */
uint64_t cache_disk_era(struct cache_disk *d);

struct cache_disk_counts {
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions; /* entries */
    uint64_t dropped;   /* of cache_disk_put(): the disk could not keep up, or was being cleared */
    uint64_t passed_by; /* of cache_disk_put(): missed once, and there was no room to spare */
    uint64_t corrupt;
    uint64_t errors;
    uint64_t timeouts;
    uint64_t entries;
    uint64_t used_bytes;
    uint64_t capacity_bytes;
    uint64_t read_bytes;
    uint64_t written_bytes;
    bool bypassed;
};
void cache_disk_counts(struct cache_disk *d, struct cache_disk_counts *ret_counts);
