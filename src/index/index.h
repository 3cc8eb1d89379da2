/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: an ordered map from keys to values, bytes to bytes. An LSM tree: memtable -> SST
 * objects -> manifest, with compaction. It holds only batches of the stored prefix (I6), applied in
 * order; its manifest says from where the log is to be replayed.
 *
 *     r = index_load(&opt, &ix);                  // newest manifest, nothing created
 *     r = index_claim(ix, &open_id, owner);       // next manifest: epoch + 1 (I4)
 *     ... log_open(): index_apply() for each batch ...
 *     r = index_recheck(ix);                      // LIST again: still the newest?
 *     ... run: index_apply(), index_get(), index_scan() ...
 *     r = index_close(ix, clean, last_seq);       // flush, closing manifest
 *
 * Keys are 1 to 1024 bytes, values 0 to 64 KiB. Values and keys are copied.
 */
#pragma once
#include "base/attr.h"
#include "base/bytes.h"
#include "base/uuid.h"
#include "crypt/crypt.h"
#include "obj/obj.h"
#include <stdbool.h>
#include <stdint.h>

#define INDEX_KEY_MAX 1024
#define INDEX_VALUE_MAX 65536
#define INDEX_OWNER_SIZE 256

struct index;

struct index_options {
    struct obj_store *store; /* not owned */
    struct uuid volume;
    const struct crypt_keys *keys; /* NULL: nothing is encrypted; not owned */
    uint64_t memtable_bytes;       /* size at which a memtable is flushed */
    uint64_t cache_bytes;          /* for decoded blocks and filters */
    uint64_t delete_after_ms; /* grace before an unused SST or manifest is deleted (I7: 10 minutes);
                                 0 = default */
    uint64_t sst_bytes;       /* size at which an SST is full; 0 = 16 MiB */
    uint32_t segments_max;    /* flush at the latest after so many applied segments; 0 = 1000 */
    bool read_only;
    /* Called on a fiber after a manifest with this replay position is stored (I7). Does not wait
     * long. May be NULL. */
    void (*manifest_stored)(void *arg, uint64_t replay_from);
    /* Called once, on a fiber, when another writer turns out to have taken over. Does not wait. May
     * be NULL. */
    void (*fenced)(void *arg);
    void *arg;
};

/* What the newest manifest says. */
struct index_manifest_info {
    uint64_t number;
    uint64_t epoch;
    struct uuid open_id;
    char owner[INDEX_OWNER_SIZE];
    uint64_t replay_from;
    uint64_t log_epoch;
    bool clean;              /* closed cleanly */
    uint64_t closed_through; /* then: the last seq */
    uint64_t last_batch;     /* number of the last batch in the SSTs */
};

/* Writes manifest number 0 of a new volume: 0, -EEXIST. */
MUST int index_format(struct obj_store *store, const struct uuid *volume,
                      const struct crypt_keys *keys) WAITS;
/* Reads the newest manifest and opens its SSTs: 0, ERR_NOT_A_VOLUME, ERR_CORRUPT_MANIFEST, ... */
MUST int index_load(const struct index_options *opt, struct index **ret_index) WAITS;
void index_manifest(const struct index *ix, struct index_manifest_info *ret_info);
/* Creates the next manifest with epoch + 1: 0, or ERR_LOST_OPEN_RACE (load anew). ret_epoch is
 * ours. */
MUST int index_claim(struct index *ix, const struct uuid *open_id, const char *owner,
                     uint64_t *ret_epoch) WAITS;
/* 0, or ERR_LOST_OPEN_RACE when ours is not the newest any more. Until it has given 0, nothing is
 * deleted and no manifest written. */
MUST int index_recheck(struct index *ix) WAITS;
/* From where the newest manifest there is now has the log replayed; it may be another's. */
MUST int index_replay_newest(struct index *ix, uint64_t *ret_replay_from) WAITS;

enum index_op {
    INDEX_PUT,
    INDEX_DELETE,
};

struct index_write {
    enum index_op op;
    const void *key;
    const void *value;
    uint32_t key_len;
    uint32_t value_len;
};

/*
 * After ERR_FENCED was given once, every call but the close gives it.
 *
 * Puts the writes of one batch (segment seq, batch number) into the memtable, whole. Batches come
 * in order, one at a time. Waits only while too many memtables are unflushed (back-pressure of the
 * applier, not of requests). A memtable holds whole batches only. -ENOMEM and -ECANCELED: nothing
 * of the batch was applied; it may be given again.
 */
MUST int index_apply(struct index *ix, uint64_t seq, uint64_t batch, uint64_t log_epoch,
                     const struct index_write *w, size_t count) WAITS;

/*
 * The value of the key, appended to *ret_value: 0, or -ENOENT. Suspends only when a block has to be
 * fetched. index_get_cached() is the same without ever suspending: -EAGAIN when a block is not in
 * memory. Both give ERR_CORRUPT_INDEX (the object is named in the log), and with read_only -ESTALE
 * when a writer elsewhere has deleted an SST of the manifest that was loaded: load anew.
 */
MUST int index_get(struct index *ix, const void *key, size_t key_len,
                   struct bytes_writer *ret_value) WAITS;
MUST int index_get_cached(struct index *ix, const void *key, size_t key_len,
                          struct bytes_writer *ret_value);

/* Keys from `from` on, and before `to`; to_len 0 = to the end. */
struct index_range {
    const void *from;
    size_t from_len;
    const void *to;
    size_t to_len;
};

/*
 * Calls each() for the keys of the range in order. Each key is shown as of some moment during the
 * scan. each() may wait, and ends the scan by a result other than 0, which is returned. key and
 * value are valid during the call. The range's bytes live until index_scan() returns.
 */
MUST int index_scan(struct index *ix, const struct index_range *range,
                    int (*each)(void *arg, const void *key, size_t key_len, const void *value,
                                size_t value_len) WAITS,
                    void *arg) WAITS;

/* Flushes the memtable now and waits for its manifest (checkpoints, close, tests). Not between two
 * batches of one segment. */
MUST int index_flush(struct index *ix) WAITS;
/* True while unmerged runs or unflushed memtables are so many that rotation should slow down. */
bool index_is_strained(const struct index *ix);
/* Ends background work; with clean, flushes and writes a closing manifest that says so with
 * last_seq, after which replay begins: nothing that is not applied lies up to there. Frees in any
 * case. */
MUST int index_close(struct index *ix, bool clean, uint64_t last_seq) WAITS;

struct index_counts {
    uint64_t memtable_bytes;
    uint64_t sst_count;
    uint64_t sst_bytes;
    uint64_t flushes;
    uint64_t compactions;
    uint64_t manifest_number;
    uint64_t replay_from;
    uint64_t cache_hits;
    uint64_t cache_misses;
};
void index_counts(const struct index *ix, struct index_counts *ret_counts);
