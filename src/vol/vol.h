/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The volume: inodes whose data are stacks of layers of pages, and keyed metadata, on a log with an
 * index. One volume serves every device and, later, the file tree.
 *
 *     r = vol_format(store, &(struct vol_format_options){0});            // once: superblock,
 * manifest 0 r = vol_open(&(struct vol_options){.store = store, .owner = host}, &v); r =
 * vol_txn_begin(v, &t); r = vol_txn_inode_create(t, 10ull << 30, &inode); r = vol_txn_commit(t); //
 * in a batch; durable with the next flush r = vol_file_open(v, inode, &f); r = vol_write(f, off,
 * &data, NULL);                                // in a batch, visible to every read from now on r =
 * vol_flush(v);                                                  // everything before is on the
 * store vol_file_close(f); r = vol_close(v);
 *
 * A write enters the one open batch and touches neither store nor index; batches are rotated,
 * sealed into segments, stored, and applied to the index in order. docs/ARCHITECTURE.md "Write
 * path" is the design; invariants I6, I7, I11, I12 and back-pressure R are kept here. Block 4 KiB,
 * page 8 blocks. Offsets and lengths may be any byte; aligned 4 KiB is the fast case.
 *
 * Exclusion: overlapping reads and writes of one file are ordered by the caller (dev's range locks,
 * fs later). A sub-block write reads the block first, and the caller's range lock covers whole
 * pages for it.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/uuid.h"
#include "cache/disk.h"
#include "crypt/wrap.h"
#include "log/log.h"
#include "obj/obj.h"
#include "rt/buf.h"
#include <stdbool.h>
#include <stdint.h>

#define VOL_BLOCK_BYTES 4096u
#define VOL_PAGE_BLOCKS 8u
#define VOL_PAGE_BYTES (VOL_BLOCK_BYTES * VOL_PAGE_BLOCKS)
#define VOL_LAYERS_MAX 8u
#define VOL_SIZE_MAX (1ull << 60)

struct vol;
struct vol_file;
struct vol_txn;

struct vol_format_options {
    struct uuid uuid;                  /* all zero = a random one */
    const struct crypt_access *access; /* what will open it; NULL: it is not encrypted */
};

/* Creates superblock, key object and first manifest: 0, ERR_PREFIX_NOT_EMPTY, -EEXIST when there is
 * a volume already. */
MUST int vol_format(struct obj_store *store, const struct vol_format_options *opt) WAITS;
/* 0 when there is a volume, ERR_NOT_A_VOLUME when not, ERR_CORRUPT_SUPERBLOCK, ERR_FORMAT_TOO_NEW.
 */
MUST int vol_probe(struct obj_store *store) WAITS;

/*
 * The keys of the volume, to be given back by crypt_keys_unref(); NULL when it is not encrypted.
 * Nothing is written; but key objects that an interrupted change of the password has left are
 * removed by whoever may open. ERR_WRONG_PASSWORD; ERR_IS_ENCRYPTED without access,
 * ERR_NOT_ENCRYPTED with it; ERR_CORRUPT_KEY; as vol_probe(), ERR_NOT_A_VOLUME also for a format
 * that was interrupted before it had made a key. It may take a second of CPU, on another thread.
 */
MUST int vol_keys_load(struct obj_store *store, const struct crypt_access *access,
                       struct crypt_keys **ret_keys) WAITS;
/*
 * From now on this opens the volume, and what opened it before does not. Only a key object is
 * written: the volume may be open, here or elsewhere. 0; ERR_NOT_ENCRYPTED; ERR_KEY_IN_DOUBT when
 * the store failed in between: either one opens it. After another error the old one does.
 */
MUST int vol_keys_change(struct obj_store *store, struct crypt_keys *keys,
                         const struct crypt_access *access) WAITS;

struct vol_options {
    struct obj_store *store; /* not owned; closed by the caller after vol_close() */
    struct crypt_keys *keys; /* see vol_keys_load(); the volume takes a reference of its own */
    const char *owner;       /* who opens; recorded in the manifest */
    bool takeover;  /* open even if another owner did not close it: ERR_OPEN_ELSEWHERE otherwise */
    bool read_only; /* create nothing; no writes; a writer elsewhere is followed when need be */
    bool prefault;  /* let the system back the memory of buffers at once: for a server */
    struct log_compression compression;
    uint64_t memory_bytes;    /* for everything the volume keeps in RAM; 0 = 256 MiB */
    uint64_t dirty_bytes;     /* limit of not yet applied data; 0 = a fifth of memory_bytes */
    uint64_t max_size_bytes;  /* quota over what is stored; 0 = none */
    uint64_t delete_after_ms; /* I7's grace; 0 = 10 minutes */
    uint64_t rotate_after_ms; /* age at which an open batch is rotated; 0 = 1000 */
    uint64_t memtable_bytes;  /* 0 = chosen from memory_bytes */
    uint32_t segments_max;    /* see index_options; 0 = default */
    const char *disk_dir;     /* the disk cache's folder; NULL = none */
    uint64_t disk_bytes;      /* 0 = none */
    bool disk_adopt;          /* only hand the disk cache on to the next opening */
    const struct cache_disk_io *disk_io; /* instead of a file in disk_dir (tests, simulator) */
};

/* Loads, claims, replays, fences, rechecks. 0, ERR_OPEN_ELSEWHERE (owner named in the log),
 * ERR_IS_ENCRYPTED, ERR_NOT_ENCRYPTED, or what obj, log and index say. */
MUST int vol_open(const struct vol_options *opt, struct vol **ret_vol) WAITS;
/* Flushes, writes the closing manifest, frees. The first error is returned; the volume is freed in
 * any case. All files are closed. */
MUST int vol_close(struct vol *v) WAITS;
/* Drops everything in memory without writing, as kill -9 would: for a drain that ran out of time.
 */
void vol_abandon(struct vol *v) WAITS;
/* Compression of what is sealed from now on. */
void vol_compression_set(struct vol *v, struct log_compression c);
struct log_compression vol_compression(const struct vol *v);
void vol_uuid(const struct vol *v, struct uuid *ret_uuid);
/* The volume's own reference, good as long as it is open; NULL when it is not encrypted. */
const struct crypt_keys *vol_keys(const struct vol *v);
/* Of this opening: each one has a higher epoch than those before it. 0 when opened for reading. */
uint64_t vol_epoch(const struct vol *v);
/* The youngest batch that has something in it: a change that was made is in this one, or earlier.
 */
uint64_t vol_batch_now(const struct vol *v);
/* The last batch that was replayed when the volume was opened. */
uint64_t vol_batch_replayed(const struct vol *v);
bool vol_is_fenced(const struct vol *v);
bool vol_is_read_only(const struct vol *v);
/* Fenced not by another writer, but by an error that it cannot go on from: said in the log. */
bool vol_has_failed(const struct vol *v);
/* Called once, on some fiber, when the volume finds itself fenced: does not wait, nor close the
 * volume. */
void vol_on_fenced(struct vol *v, void (*fn)(void *arg), void *arg);

/*
 * Everything that was written, discarded or committed before the call is durable when it returns 0:
 * ERR_FENCED, -ECANCELED. Stops nobody: the open batch is rotated (at most 8 such rotations per
 * round trip; later calls share one), and writers go on. Nothing to do costs nothing.
 */
MUST int vol_flush(struct vol *v) WAITS;

/* Files: an open inode. Opening the same inode again gives the same object with one more reference.
 */
MUST int vol_file_open(struct vol *v, uint64_t inode, struct vol_file **ret_file) WAITS;
void vol_file_close(struct vol_file *f); /* accepts NULL */
uint64_t vol_file_size(const struct vol_file *f);
uint64_t vol_file_inode(const struct vol_file *f);
struct vol *vol_file_volume(const struct vol_file *f);

/*
 * Dirty space held ahead (an iSCSI target sends R2T only then). take: 0, -ECANCELED, -ETIMEDOUT;
 * bytes of payload, at most 32 MiB. What a write did not use is given back by release.
 */
struct vol_space {
    uint64_t bytes;
};
MUST int vol_space_take(struct vol *v, uint64_t payload_bytes, uint64_t deadline_ns,
                        struct vol_space *ret_space) WAITS;
MUST bool vol_space_try(struct vol *v, uint64_t payload_bytes, struct vol_space *ret_space);
void vol_space_release(struct vol *v,
                       struct vol_space *space); /* leaves it empty; an empty one is fine */

/*
 * Appends len bytes from off to *ret_data, by reference; holes as pieces marked is_hole. 0, -EINVAL
 * past the end, ERR_CORRUPT_*, ERR_BAD_PAGE, the store's error. On an error the chain holds nothing
 * new, and one that was empty needs not be freed. Served from memory, it does not suspend.
 */
MUST int vol_read(struct vol_file *f, uint64_t off, uint32_t len, struct rt_chain *ret_data) WAITS;
/*
 * Writes the chain at off. Pieces with a buffer may be kept by reference (a part of at least half
 * of its buffer), others are copied. space: held by the caller, or NULL to wait for it here. 0,
 * -EINVAL past the end, -ENOSPC (quota), ERR_FENCED, -ECANCELED.
 */
MUST int vol_write(struct vol_file *f, uint64_t off, const struct rt_chain *data,
                   struct vol_space *space) WAITS;
/* vol_write() over what is data already: it takes no room but its own, so the quota is not asked.
 */
MUST int vol_write_again(struct vol_file *f, uint64_t off, const struct rt_chain *data) WAITS;
/*
 * vol_write(), whole or not at all: whatever fails, and whatever a crash leaves, for all of it
 * enters one batch (I12). At most vol_atomic_max() bytes, a power of two, or else -EINVAL.
 */
MUST int vol_write_atomic(struct vol_file *f, uint64_t off, const struct rt_chain *data,
                          struct vol_space *space) WAITS;
uint64_t vol_atomic_max(const struct vol *v);

enum vol_zero_kind {
    VOL_HOLE,     /* gives the space back */
    VOL_ZEROED,   /* reads as zeros, stays allocated (zero-allocated run, no data stored) */
    VOL_ANCHORED, /* SBC-4 anchored: as VOL_ZEROED, reported so */
};
/* Makes the range read as zeros: any length at once; bytes at unaligned edges are overwritten with
 * zeros. Results as vol_write(). */
MUST int vol_zero(struct vol_file *f, uint64_t off, uint64_t len, enum vol_zero_kind kind) WAITS;
/* Between parts of a long vol_zero() that stays allocated: waits until what was written before is
 * in the index, so that such a caller never holds the dirty space that others wait for. */
MUST int vol_zero_pace(struct vol *v) WAITS;
/*
 * Removes what a file once held from the store: all segments that hold some of it, which is there
 * in no map any more, for the caller has made the file a hole, keeps changes of it away, and has it
 * open. Others who have live blocks there are given to rewrite(), one page after the other (seq: a
 * segment), which is to call vol_rewrite() with their file while it holds the page. progress: done
 * of so much. 0, -ECANCELED (also when stop() says so), ERR_FENCED, and what the store says; may be
 * done again.
 */
struct vol_scrub {
    struct vol_file *file;
    int (*rewrite)(void *arg, uint64_t layer, uint64_t page, uint64_t seq) WAITS;
    bool (*stop)(void *arg);
    void (*progress)(void *arg, uint64_t done, uint64_t of);
    void *arg;
};
MUST int vol_scrub(struct vol *v, const struct vol_scrub *opt) WAITS;
/* Writes the blocks anew that the page of the file has in that segment. */
MUST int vol_rewrite(struct vol_file *f, uint64_t page, uint64_t seq) WAITS;
bool vol_file_has_layer(const struct vol_file *f, uint64_t layer);
/* Gives back what whole blocks of the range allow; the edges are left alone. */
MUST int vol_discard(struct vol_file *f, uint64_t off, uint64_t len) WAITS;

/*
 * Makes len bytes of dst from dst_off on those of src from src_off on; both are files of one
 * volume. What lies in whole blocks of the store, at places that differ by whole blocks, is not
 * moved: dst refers to it from now on. The two ranges do not overlap, and the caller keeps changes
 * away from both. Results as vol_read() and vol_write(); after an error a part may be done.
 */
MUST int vol_copy(struct vol_file *src, uint64_t src_off, struct vol_file *dst, uint64_t dst_off,
                  uint64_t len) WAITS;

enum vol_extent_kind {
    VOL_EXTENT_DATA,
    VOL_EXTENT_ZERO, /* allocated, reads as zeros */
    VOL_EXTENT_HOLE,
    VOL_EXTENT_ANCHORED,
};
struct vol_extent {
    uint64_t off;
    uint64_t len;
    enum vol_extent_kind kind;
};
/*
 * The extents from off on, neighbours of one kind joined, at most max of them and not beyond off +
 * len; the number, which may cover less than len (the caller asks on). The work of one call is
 * bounded: a long hole is one step.
 */
MUST int vol_extents(struct vol_file *f, uint64_t off, uint64_t len, struct vol_extent *ret_extents,
                     size_t max) WAITS;
#define VOL_HINTS_MAX 32u
/* Reads of these offsets follow at once: what they need in memory comes into the processor's
 * caches. Never waits. */
void vol_hint_reads(struct vol_file *f, const uint64_t *offs, size_t count);
/*
 * Reads that are served from memory, without a wait. The caller sets off, len and an empty chain,
 * and result to 0, or to -EAGAIN for a read that is to be passed over. Afterwards result is 0 and
 * data is there, or -EAGAIN: vol_read() will tell. Only those within one page have a chance.
 */
#define VOL_READY_MAX 16u
#define VOL_READY_HINTS_MIN 3u
struct vol_ready {
    uint64_t off;
    uint32_t len;
    int result;
    struct rt_chain data;
};
void vol_read_ready(struct vol_file *f, struct vol_ready *reads, size_t count);
/* Brings the range into the cache, as far as the cache likes. */
MUST int vol_prefetch(struct vol_file *f, uint64_t off, uint64_t len) WAITS;

/*
 * Transactions over metadata: all of it enters one batch, or nothing. Keys and values are copied.
 * After commit or abort the object is gone. Keys' first byte is the kind; kinds below 0x40 are
 * vol's own, dev's are 0x40 to 0x5f, fs's above.
 */
MUST int vol_txn_begin(struct vol *v, struct vol_txn **ret_txn);
MUST int vol_txn_put(struct vol_txn *t, const void *key, size_t key_len, const void *value,
                     size_t value_len);
MUST int vol_txn_delete(struct vol_txn *t, const void *key, size_t key_len);
/* A fresh inode (numbers are never used again) with one empty layer. */
MUST int vol_txn_inode_create(struct vol_txn *t, uint64_t size, uint64_t *ret_inode);
/* Shrinking gives the tail back in the same batch; open files see the new size at commit. */
MUST int vol_txn_inode_resize(struct vol_txn *t, uint64_t inode, uint64_t size);
/* The inode's space comes back in the background. No file of it is open. */
MUST int vol_txn_inode_delete(struct vol_txn *t, uint64_t inode);
MUST int vol_txn_commit(struct vol_txn *t) WAITS;
void vol_txn_abort(struct vol_txn *t); /* accepts NULL */

/* Metadata as of now, batches that are not applied yet included: 0 or -ENOENT; scan as
 * index_scan(). In a volume that is open for reading only each() asks the volume nothing. */
MUST int vol_get(struct vol *v, const void *key, size_t key_len, struct bytes_writer *ret_value)
    WAITS;
MUST int vol_scan(struct vol *v, const void *prefix, size_t prefix_len,
                  int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                              size_t value_len) WAITS,
                  void *arg) WAITS;

/* What the cache of decoded frames may take from now on. */
void vol_cache_resize(struct vol *v, uint64_t bytes);

struct vol_counts {
    uint64_t dirty_bytes;
    uint64_t dirty_limit_bytes;
    uint64_t undurable_bytes;    /* of dirty_bytes: what a crash now would lose */
    uint64_t batches_open;       /* open, sealing, stored and not yet applied */
    uint64_t segments_in_flight; /* have a number and are not known to be stored */
    uint64_t segments_stored;
    uint64_t segments_live;
    uint64_t live_blocks;
    uint64_t range_holes;
    uint64_t bad_pages;
    uint64_t flushes;
    uint64_t rotations;
    uint64_t stored_through;
    uint64_t cache_hits;
    uint64_t cache_misses;
    uint64_t cache_bytes;
    uint64_t cache_capacity_bytes;
    uint64_t cache_evictions;
    uint64_t ahead_used;   /* frames read ahead that were then read */
    uint64_t ahead_wasted; /* and that were evicted unread */
    bool disk_cache;       /* there is one */
    struct cache_disk_counts disk;
};
void vol_counts(const struct vol *v, struct vol_counts *ret_counts);
/* What the quota counts: what is live, and what is on its way; and the quota, 0 = none. */
void vol_usage(const struct vol *v, uint64_t *ret_used_bytes, uint64_t *ret_max_bytes);
/*
 * Counts every live reference of every segment anew and compares with the kept counts (after a
 * flush): 0, or ERR_CORRUPT_INDEX with each difference in the log. Tests and `zerofs` maintenance.
 */
MUST int vol_recount(struct vol *v) WAITS;
