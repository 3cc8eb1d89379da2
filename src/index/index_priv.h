/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of an open index, and what its files offer each other.
 *
 *     apply.c    the memtable being filled, freezing
 *     read.c     views, look-ups            scan.c     range reads
 *     flush.c    frozen memtables to SSTs   compact.c  SSTs to fewer SSTs
 *     commit.c   manifests                  reap.c     deletion of what is not used any more
 *     index.c    life cycle
 */
#pragma once
#include "base/list.h"
#include "cache/cache.h"
#include "index/index.h"
#include "index/manifest.h"
#include "index/sst.h"
#include "index/version.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include <stdatomic.h>

#define INDEX_FROZEN_MAX 2u   /* unflushed memtables besides the active one, before appliers wait */
#define INDEX_RUNS_COMPACT 4u /* runs of level 0 that start a compaction */
#define INDEX_RUNS_STRAINED 12u /* and from which on rotation should slow down */
#define INDEX_SLOTS 16u         /* copies of the view's pointer, by core */

/* A memtable that gets no more writes, and where the log stood when it was frozen. */
struct index_frozen {
    struct memtable *mt;
    uint64_t last_seq;
    uint64_t last_batch;
    uint64_t log_epoch;
};

struct index_slot {
    struct rt_mutex m;
    struct view *view;
    uint64_t generation;
} __attribute__((aligned(64)));

struct index {
    struct index_options opt;
    struct cache *cache;
    struct sst_source reads;
    struct index_slot slots[INDEX_SLOTS];
    _Atomic int fenced; /* 0, or for ever ERR_FENCED, or -ECANCELED: a manifest in doubt */

    struct rt_lock manifest_lock; /* one manifest at a time; guards changes of head and version */
    struct rt_group *workers;     /* flusher, compactor */
    struct rt_group *reapers;     /* sweeper, reaper */

    struct rt_mutex m; /* guards all below */
    struct rt_waitq q; /* any change of it that somebody may wait for */
    bool writable;     /* rechecked: manifests may be written, objects deleted */
    bool closing;
    bool filling; /* the token of who changes the active memtable */
    bool flusher_runs;
    bool compactor_runs;
    bool compact_failed; /* until the next flush */
    bool reaper_runs;
    struct memtable *active;
    uint64_t active_batches;
    uint64_t active_segments;
    uint64_t applied_seq;
    uint64_t applied_batch;
    uint64_t applied_log_epoch;
    VEC(struct index_frozen) frozen; /* oldest first */
    uint64_t frozen_total;           /* ever frozen, and ever flushed */
    uint64_t flushed_total;
    uint64_t view_generation;
    struct version *version;
    struct manifest head; /* the newest manifest, without its list of SSTs */
    uint64_t sst_counter;
    struct list dead;       /* struct index_dead: reap.c */
    uint64_t epoch_first;   /* number of our epoch's first manifest */
    uint64_t swept_through; /* for the next manifests */
    uint64_t sweep_pending; /* swept manifests that are not deleted yet */
    bool sweep_complete;
    uint64_t flushes;
    uint64_t compactions;
    struct bytes_writer
        compact_after[INDEX_LEVELS]; /* where the next turn of a level starts; compactor only */
};

static inline int index_fenced(const struct index *ix)
{
    return atomic_load_explicit(&ix->fenced, memory_order_acquire);
}

/* apply.c */
/* Takes the token of the active memtable, with m held: 0 or -ECANCELED. Given back by
 * index_fill_end(), m held. */
MUST int index_fill_begin(struct index *ix) WAITS;
void index_fill_end(struct index *ix);
/* Freezes the active memtable if any batch is in it: 0, -ENOMEM, -ECANCELED. */
MUST int index_freeze(struct index *ix) WAITS;

/* With m held: waits for the flusher to get on: 0, ERR_FENCED, -ECANCELED. */
MUST int index_flush_wait(struct index *ix) WAITS;

/* read.c */
struct view *index_view_take(struct index *ix);
/* With m held: a view of what there is now: 0 or -ENOMEM. */
MUST int index_view_make(struct index *ix, struct view **ret_view, uint64_t *ret_generation);
/* Without m: shows it to the readers, unless they have a later one. Takes over the reference. */
void index_view_publish(struct index *ix, struct view *view, uint64_t generation);

/* commit.c */
struct index_edit {
    const struct sst_list *add; /* to add_level; may be NULL */
    unsigned add_level;
    const struct sst_list *remove;      /* may be NULL */
    bool retire;                        /* what is removed is to be deleted (not merely moved) */
    const struct index_frozen *flushed; /* the oldest frozen memtable is in `add`; may be NULL */
    const struct manifest *head;        /* replaces the head's fields (claim, close); may be NULL */
    bool give_up;                       /* on errors that trying again does not mend */
};
/* Writes the next manifest and makes it current: 0, ERR_FENCED, -ECANCELED, -ENOMEM. */
MUST int index_commit(struct index *ix, const struct index_edit *edit) WAITS;
/* Whether the object holds exactly these bytes: 1, 0, -ENOENT, or the store's error. */
MUST int index_object_equals(struct obj_store *store, enum obj_class c, const char *name,
                             const struct rt_chain *body) WAITS;
/*
 * What it is that an SST of a writer is not there (-ESTALE): the index is damaged, for his own do
 * not go while he reads them; but when the newest manifest is not there either, the store is not
 * the one that it was, which may pass: -EIO; or, where a later epoch has begun behind it, this one
 * was overtaken long ago: ERR_FENCED.
 */
MUST int index_sst_missing(struct index *ix) WAITS;
/* Creates an object for as long as it takes; ERR_FENCED when another one has the name. */
MUST int index_put_object(struct index *ix, enum obj_class c, const char *name,
                          const struct rt_chain *body, bool give_up) WAITS;
void index_fence(struct index *ix);
/* The newest manifest's number: 0, ERR_NOT_A_VOLUME, or the store's error. */
MUST int index_manifest_newest(struct obj_store *store, uint64_t *ret_number) WAITS;
MUST int index_manifest_read(struct obj_store *store, const struct index_home *home,
                             uint64_t number, struct manifest *ret_m) WAITS;
static inline struct index_home index_home(const struct index_options *opt)
{
    return (struct index_home){opt->volume, opt->keys};
}

/* flush.c */
void index_flush_kick(struct index *ix);
/* The same, and where there is no fiber for the flusher, the caller's is it. */
void index_flush_help(struct index *ix) WAITS;
/* Stores the SST of a finished writer and opens it: 0, ERR_FENCED, -ECANCELED, -ENOMEM. */
MUST int index_sst_store(struct index *ix, enum obj_class c, struct sst_writer *w,
                         struct sst **ret_sst) WAITS;
MUST int index_sst_begin(struct index *ix, struct sst_writer **ret_w);

/* compact.c */
void index_compact_kick(struct index *ix);

/* reap.c */
void index_reap_sst(struct index *ix, struct sst *s);
void index_reap_manifest(struct index *ix, uint64_t number);
void index_reap_kick(struct index *ix);
/* Starts the search for what earlier writers left behind. */
void index_sweep_start(struct index *ix);
void index_reap_free(struct index *ix);
