/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of vol know of each other. Flow, top down:
 *
 *     write.c zero.c copy.c txn.c make blocks, take dirty space, enter the open batch
 *     read.c extents.c scan.c     take a view, look at its batches, then below
 *     fetch.c                     frames that are not in memory, from disk cache and store
 *     ahead.c                     what readers that go forward will want
 *     commit.c                    rotation, the committer, the flush
 *     seal.c                      batch -> frames and records
 *     apply.c stage.c backref.c   records -> page maps, live counts, index
 *     scrub.c                     segments that held data of one file
 *     walker.c reaper.c           range holes and dead segments come to their end
 *     open.c                      I4, replay, close
 *     reload.c                    readers beside a writer elsewhere
 *
 * LOCKS. v->m guards the list of batches, which batch is open, and files. Inside it only the
 * mutexes of the view slots are taken. Nothing else nests. No mutex is held across a WAITS.
 */
#pragma once
#include "base/list.h"
#include "base/time.h"
#include "base/uuid.h"
#include "cache/cache.h"
#include "index/index.h"
#include "log/log.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "vol/batch.h"
#include "vol/holes.h"
#include "vol/key.h"
#include "vol/map_cache.h"
#include "vol/segments.h"
#include "vol/superblock.h"
#include "vol/vol.h"

/* Batches that are not applied, the open one included: beyond it, rotation waits. */
#define VOL_BATCHES_MAX 64u
#define VOL_FLUSHES_PER_TRIP 8u
/*
 * When the open batch is large enough. Small, where many PUTs at once are faster than one, and for
 * those who flush again and again: a flush then finds little that is not on its way. Otherwise a
 * batch may grow to seven sixteenths of what may be dirty: bursts are taken in at the speed of
 * memory, sealing does not compete with them for the processors, and what is overwritten meanwhile
 * is never uploaded. A flush waits the longer for that by no more than a batch's age.
 */
#define VOL_ROTATE_IDLE_BYTES (4u << 20)
#define VOL_ROTATE_BUSY_BYTES (16u << 20)
/* So many flushes in a row within that time, each of less than that, make a habit; one of more ends
 * it, or a while without. */
#define VOL_FLUSH_HABIT_COUNT 4u
#define VOL_FLUSH_HABIT_NS (2 * NS_PER_S)
#define VOL_FLUSH_HABIT_BYTES (64u << 20)
#define VOL_FLUSH_HABIT_LASTS_NS (10 * NS_PER_S)
/* However slow the store: so much may be dirty. And a request is split into parts of at most a
 * quarter of it. */
#define VOL_DIRTY_FLOOR_BYTES (8u << 20)
#define VOL_DIRTY_SECONDS 8u

/*
 * What a reader sees above the index: the batches that are not applied, newest first; the first is
 * the open one. Immutable; replaced whole. A layer is added below before it is removed above: a
 * batch leaves the view after the index has taken it.
 */
struct vol_view {
    _Atomic uint32_t refs;
    uint32_t count;
    struct vol_batch *batches[VOL_BATCHES_MAX + 1];
};

/* Each core has a slot of its own, so that taking the view costs no shared line but the count. */
struct vol_view_slot {
    struct rt_mutex m;
    struct vol_view *view;
} __attribute__((aligned(64)));

#define VOL_STREAMS 8u
#define VOL_STREAM_JOBS_MAX 4u
#define VOL_AHEAD_RECENT 16u

/* ahead.c */
struct vol_stream {
    uint64_t id;
    uint64_t next;   /* where the next read is expected */
    uint64_t end;    /* so far it is fetched, or on its way */
    uint64_t window; /* what the next job fetches */
    uint64_t used;   /* by the clock of notes; 0 = free */
    uint32_t score;  /* reads in a row */
    uint32_t jobs;   /* under way */
};

struct vol_ahead {
    _Atomic uint32_t active;               /* streams that have something due */
    _Atomic uint64_t due[VOL_STREAMS];     /* a read that reaches this is told, */
    _Atomic uint64_t due_end[VOL_STREAMS]; /* if it begins before that */
    struct rt_mutex m;                     /* guards all below */
    struct vol_stream streams[VOL_STREAMS];
    uint64_t clock;
};

struct vol_file {
    struct list link;
    struct vol *v;
    uint64_t inode;
    uint32_t refs; /* guarded by v->m */
    uint32_t layer_count;
    bool gone; /* open for reading only, and deleted by a writer elsewhere */
    _Atomic uint64_t size;
    uint64_t layers[VOL_LAYERS_MAX]; /* top first */
    struct vol_ahead ahead;
};

/* reload.c */
struct vol_reload {
    struct rt_mutex m; /* guards all but the turn */
    struct rt_waitq q;
    uint32_t inside;
    bool closed;
    _Atomic uint64_t turn; /* of states */
};

struct vol {
    struct obj_store *store;
    struct uuid uuid;
    struct vol_options opt;
    char *owner;
    struct log *log;
    struct log_frames *frames;
    struct index *ix;
    struct cache *cache;
    struct cache_disk *disk; /* NULL = none */
    struct vol_map_cache *maps;
    struct vol_holes *holes;
    struct vol_segments segs;
    bool has_backrefs; /* some run was copied; apply's own */
    struct rt_credits dirty;
    _Atomic uint64_t used_bytes;    /* Q1 in space.c */
    _Atomic uint64_t settled_bytes; /* of that, what is stored */
    struct rt_credits fetch_room;   /* bytes of frames as stored, under way for reads */
    struct rt_credits ahead_room;   /* and for prefetches */
    uint64_t ahead_bytes;           /* the largest window of a stream */
    uint64_t ahead_share;           /* all windows together */
    _Atomic uint64_t ahead_recent[VOL_AHEAD_RECENT]; /* streams that started the last jobs */
    _Atomic uint32_t ahead_turn;
    _Atomic uint64_t ahead_last_id; /* of a stream */
    uint64_t dirty_configured;
    _Atomic uint64_t dirty_limit; /* that, or less for a slow store */
    bool is_far;                  /* the store: many PUTs at once are faster than one */
    uint64_t part_bytes;          /* the largest part of a request that enters at once */
    struct uuid opened_before;    /* open id of the opening before this one */
    uint64_t prefault_bytes;      /* of buffers */
    uint64_t epoch;
    uint64_t log_epoch; /* of the last applied segment */

    struct rt_mutex m;
    struct list batches; /* oldest first; the open one is last */
    uint32_t batch_count;
    struct vol_batch *open;
    uint64_t next_number;
    _Atomic uint64_t entered_number;            /* the youngest batch with something in it */
    uint64_t replayed_number;                   /* the last one when the volume was opened */
    struct rt_waitq commit_q;                   /* the committer: a batch was rotated */
    struct rt_waitq apply_q;                    /* the applier: a batch was reserved */
    struct rt_waitq room_q;                     /* rotations: a batch has gone */
    struct rt_waitq drained_q;                  /* close: no batch but the open one is left */
    uint64_t flush_turns[VOL_FLUSHES_PER_TRIP]; /* times of the last flush rotations */
    unsigned flush_turn;
    uint64_t small_flushes;          /* one after the other */
    uint64_t rotated_bytes;          /* what the batches held that were rotated */
    uint64_t flushed_bytes;          /* that, and the open batch, at the last flush */
    _Atomic uint64_t habit_until_ns; /* somebody flushes again and again */
    struct list files;
    struct vol_view_slot *slots;
    unsigned slot_count;

    struct rt_lock txn_lock;  /* RT_RANK_VOLUME: commits of transactions */
    _Atomic uint64_t next_id; /* of inodes and layers */

    struct rt_group *work; /* committer, commits, applier: end when drained or fenced */
    struct rt_group *idle; /* ager, walker, reaper: end when told */
    struct rt_event aging;
    struct rt_event walking;
    struct rt_event reaping;
    struct rt_mutex hole_m;
    struct rt_waitq hole_q; /* discards that wait for a range hole to go (H4) */
    uint64_t
        hole_until_ns; /* so long a full volume is waited for; 0: none has, since the last step */
    _Atomic uint64_t replay_from;    /* of the newest stored manifest */
    _Atomic uint64_t applied_number; /* the last batch in the index */
    _Atomic uint64_t applied_seq;

    struct vol_reload reload; /* of a volume that is open for reading only */
    _Atomic bool fenced;
    _Atomic bool failed; /* apply came to a stop; said in the log */
    bool abandoned;      /* vol_abandon(): ends as if fenced, without a word */
    void (*on_fenced)(void *arg);
    void *on_fenced_arg;

    _Atomic uint32_t in_flight; /* batches rotated and not stored */
    _Atomic uint64_t flushes;
    _Atomic uint64_t rotations;
    _Atomic uint64_t segments_stored;
    _Atomic uint64_t bad_pages;
};

/* view.c */
struct vol_view *vol_view_get(struct vol *v);
void vol_view_put(struct vol_view *view);
/* Makes a view of the list of batches. v->m is held, or nobody else is there yet; *ret_old has to
 * be put slot by slot, without v->m. */
void vol_view_publish(struct vol *v, struct vol_view *fresh, struct vol_view **ret_old);
MUST int vol_view_slots_create(struct vol *v);
void vol_view_slots_free(struct vol *v);

struct vol_entry {
    struct vol_view *view;
    struct vol_batch *batch;
};
/* Enters the open batch: nothing waits until vol_leave(). */
void vol_enter(struct vol *v, struct vol_entry *ret_entry);
/* charged: the dirty space that goes over to the batch. Rotates when the batch is large enough. */
void vol_leave(struct vol *v, struct vol_entry *e, uint64_t charged);

/* space.c */
uint64_t vol_cost(uint64_t off, uint64_t len);
/* Takes dirty space, 0 deadline errors as rt_credits_take(); a full pool makes the open batch
 * rotate. ERR_FENCED. */
MUST int vol_dirty_take(struct vol *v, uint64_t bytes, uint64_t deadline_ns) WAITS;
void vol_dirty_give(struct vol *v, uint64_t bytes);
void vol_dirty_adapt(struct vol *v);
/* What a batch was charged, and that it has been applied: what the quota counts (Q1). */
void vol_usage_charge(struct vol *v, uint64_t charged);
void vol_usage_settle(struct vol *v, uint64_t charged);
/* 0, -EROFS, -EIO, ERR_FENCED. */
MUST int vol_may_write(struct vol *v);
/* The same for what needs space: also -ENOSPC, after what is on its way has come to its end (Q2);
 * -ECANCELED. space: what the caller holds, or NULL; it is released before any wait, for what gives
 * space back needs some. */
MUST int vol_may_grow(struct vol *v, struct vol_space *space) WAITS;
/* The quota is used up, with what is on its way. */
bool vol_is_full(const struct vol *v);
MUST int vol_may_read(struct vol *v);

/* How large the open batch may grow. */
uint64_t vol_rotate_bytes(const struct vol *v);

/* commit.c */
MUST int vol_batches_start(struct vol *v);
/* Rotates if `expected` is still open and holds something. False when there is no room for another
 * batch now. */
bool vol_rotate(struct vol *v, struct vol_batch *expected);
/* Waits until all that has entered is applied: 1; 0 when there is nothing to wait for; ERR_FENCED,
 * -ECANCELED. */
MUST int vol_settle(struct vol *v) WAITS;
void vol_committer(void *arg) WAITS;
void vol_applier(void *arg) WAITS;
void vol_ager(void *arg) WAITS;
void vol_fence(struct vol *v);
/* Passes r on; when the index has found out that a rival took over, the whole volume knows now. */
int vol_heed(struct vol *v, int r);
/* Waits until all batches are applied: 0, ERR_FENCED. */
MUST int vol_drain(struct vol *v) WAITS;

/* seal.c */
MUST int vol_seal(struct vol *v, struct vol_batch *b) WAITS;
/* The blocks of a frame of the batch as one piece with a reference of its own: 0 or -ENOMEM. For
 * all frames in their order: *at, 0 at first, says where in the batch the last one was. */
MUST int vol_frame_piece(const struct vol_batch *b, const struct log_frame *f, uint32_t *at,
                         struct rt_piece *ret_piece);

/* apply.c */
struct vol_apply_in {
    uint64_t seq;
    uint64_t number;
    uint64_t epoch;
    const struct log_frame *frames;
    const uint8_t *records;
    uint32_t frame_count;
    uint32_t records_len;
    const struct log_salt *salt;
};
MUST int vol_apply(struct vol *v, const struct vol_apply_in *in) WAITS;

/* maps.c */
/* The page's map as the index has it, count 0 for none. */
MUST int vol_map_load(struct vol *v, uint64_t layer, uint64_t page, struct vol_map *ret_map) WAITS;
/* The same from memory: -EAGAIN when it would have to be fetched. */
MUST int vol_map_peek(struct vol *v, uint64_t layer, uint64_t page, struct vol_map *ret_map);

struct vol_place {
    uint64_t layer;
    uint64_t page;
};
/* Fetches the maps of these places, many at a time, into the cache of decoded maps. */
void vol_maps_warm(struct vol *v, const struct vol_place *places, size_t count) WAITS;

/* read.c */
struct vol_source {
    struct vol_slot slot; /* kind; DATA in RAM has buf */
    struct vol_run run;   /* DATA on the store, when slot.buf is NULL */
};
/* Where each block of mask is: fills sources[block]; references of buffers are the caller's. Blocks
 * that are nowhere are VOL_RUN_HOLE. */
MUST int vol_resolve(struct vol_file *f, uint64_t page, unsigned mask,
                     struct vol_source sources[VOL_PAGE_BLOCKS]) WAITS;
void vol_sources_drop(struct vol_source sources[VOL_PAGE_BLOCKS], unsigned mask);
struct vol_page_part {
    uint64_t page;
    unsigned mask;
    uint64_t layer; /* set with -EAGAIN */
};
/* R1, one step of the above without a wait. -EAGAIN: the map of part->layer has to be fetched. */
MUST int vol_resolve_in(const struct vol_view *view, struct vol_file *f, struct vol_page_part *part,
                        struct vol_source sources[VOL_PAGE_BLOCKS]);
/* True when s goes on where `blocks` blocks from a on end. */
bool vol_source_joins(const struct vol_source *a, uint32_t blocks, const struct vol_source *s);
/* One block as it reads now, into dst; past the file's size too. */
MUST int vol_block_read(struct vol_file *f, uint64_t block, uint8_t *dst) WAITS;

/* fetch.c */
/* A frame that is wanted in memory. */
struct vol_want {
    struct log_location at;
    uint32_t blocks;             /* of the whole frame */
    int result;                  /* out */
    struct rt_piece piece;       /* out, with a reference; buf is NULL after an error */
    struct cache_flight *flight; /* fetch.c's own */
    bool as_read;                /* fetch.c's own: the bytes that were fetched first were good */
};
/*
 * Brings frames into memory, in one step: single-flight with all others who want them, neighbours
 * of one segment by one request. 0, or the first error; every want has its own result.
 */
MUST int vol_fetch(struct vol *v, enum obj_class class, struct vol_want *wants, uint32_t count)
    WAITS;

/* extents.c */
/* The first page in [from, upto) of which anything is known in any layer; upto if none. */
MUST int vol_next_page(struct vol_file *f, uint64_t from, uint64_t upto, uint64_t *ret_page) WAITS;

/* ahead.c */
/* A read of [off, end) has missed memory, or is due. Does not wait. */
void vol_ahead_note(struct vol_file *f, uint64_t off, uint64_t end, bool missed);
/* True when a read has to be told of, though memory answers it. */
static inline bool vol_ahead_due(const struct vol_file *f, uint64_t off, uint64_t end)
{
    const struct vol_ahead *a = &f->ahead;
    if (likely(atomic_load_explicit(&a->active, memory_order_relaxed) == 0)) {
        return false;
    }
    for (unsigned k = 0; k < VOL_STREAMS; k++) {
        if (end > atomic_load_explicit(&a->due[k], memory_order_relaxed) &&
            off < atomic_load_explicit(&a->due_end[k], memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* write.c */
struct vol_edge {
    uint64_t block;
    struct rt_buf *buf; /* NULL: no such edge */
};
/* Reads the block and overlays zeros on [from, upto) of it. */
MUST int vol_edge_zero(struct vol_file *f, uint64_t block, unsigned from, unsigned upto,
                       struct rt_buf **ret_buf) WAITS;

/* zero.c */
/* In an entered batch: puts a kind into whole blocks [first, end). *ret_charged: what it costs. */
MUST int vol_zero_put(struct vol_file *f, struct vol_batch *b, uint64_t first, uint64_t end,
                      uint32_t kind);
uint64_t vol_zero_cost(uint64_t first, uint64_t end);
/* The kind of slot that takes data away from the file's top layer. */
uint32_t vol_hole_kind(const struct vol_file *f);

/* A range hole into an entered batch; room for it in the layer was reserved (H4). */
MUST int vol_range_hole_put(struct vol *v, struct vol_batch *b, const struct vol_batch_hole *hole);

/* H4: waits while the layer has as many range holes pending as it may. */
MUST int vol_range_hole_reserve(struct vol *v, uint64_t layer) WAITS;

/* file.c */
/* With txn_lock held. */
MUST int vol_file_open_locked(struct vol *v, uint64_t inode, struct vol_file **ret_file) WAITS;
/* The open file's size, if there is one. */
void vol_file_resize(struct vol *v, uint64_t inode, uint64_t size);
MUST int vol_inode_read(struct vol *v, uint64_t inode, struct vol_inode *ret_inode) WAITS;

/* open.c */
/* Index, holes, segments and what the log has beyond, into a volume that has none of it. */
MUST int vol_state_load(struct vol *v) WAITS;
/* True for errors of those who were overtaken by another while they opened. */
bool vol_open_again(const struct vol_options *opt, int r);
uint64_t vol_maps_bytes(const struct vol *v);

/* reload.c */
void vol_reload_init(struct vol_reload *l);
void vol_reload_destroy(struct vol_reload *l);
/*
 * Of a volume that is open for reading only: fn() inside one state of it, and again in a newer one
 * while it gives -ESTALE. Not from inside.
 */
MUST int vol_reading(struct vol *v, int (*fn)(void *arg), void *arg) WAITS;
/* Around what does not wait, of any volume; false: not now. */
MUST bool vol_reading_try(struct vol *v);
void vol_reading_end(struct vol *v);

/* walker.c, reaper.c */
void vol_walker(void *arg) WAITS;
/* What the hole hides cannot be given back now: for some minutes nobody waits for it. */
void vol_hole_put_off(struct vol *v, const struct vol_hole *hole);
void vol_reaper(void *arg) WAITS;
void vol_manifest_stored(void *arg, uint64_t replay_from);
/* Records of deleted segments for a batch that is being sealed. */
void vol_gone_records(struct vol *v, struct bytes_writer *w);
