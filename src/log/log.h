/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: numbered segment objects, each created put-if-absent. A segment's creation is the commit
 * of the batches in it and the fence against rivals. Data (frames) and the records that refer to it
 * travel in one object.
 *
 * A batch is a list of frames plus opaque record bytes (the volume's deltas and metadata). Records
 * name a frame by its index in the batch; the segment's directory says where it is.
 *
 * Life of a segment number, of one live writer:
 *
 *     log_reserve()  ->  log_commit(): seal -> PUT ... PUT again ... -> stored  ->  joins the
 * stored prefix
 *                                                    \-> 412 and not ours -> FENCED, for ever
 *
 * Invariants I1, I2, I3, I4 (fence), I5, I8 and I12 of docs/ARCHITECTURE.md live here; each has its
 * assert or check named by number.
 */
#pragma once
#include "base/attr.h"
#include "base/uuid.h"
#include "crypt/crypt.h"
#include "obj/obj.h"
#include "rt/buf.h"
#include <stdbool.h>
#include <stdint.h>

#define LOG_WINDOW 64 /* format constant: no writer sends seq >= oldest unstored + 64 (I2) */
#define LOG_BLOCK_BYTES 4096u
#define LOG_FRAME_BLOCKS_MAX 8u

/* How a frame is stored: numbers of docs/FORMAT.md. Every version reads all of them. */
enum log_codec {
    LOG_CODEC_NONE = 0,
    LOG_CODEC_LZ4 = 1,
    LOG_CODEC_ZSTD = 2,
    LOG_CODECS,
};

#define LOG_ZSTD_LEVEL_MIN 1
#define LOG_ZSTD_LEVEL_MAX 19
#define LOG_COMPRESSION_TEXT 16

/* What frames are sealed with from now on. */
struct log_compression {
    enum log_codec codec;
    uint8_t level; /* zstd's, LOG_ZSTD_LEVEL_MIN to _MAX; else 0 */
};

/* "none", "lz4", "zstd-1" to "zstd-19": 0 or -EINVAL. And back. */
MUST int log_compression_parse(const char *text, struct log_compression *ret_c);
void log_compression_text(struct log_compression c, char ret_text[LOG_COMPRESSION_TEXT]);

/* What has to be known of a segment to open its frames, besides the keys of the volume. */
struct log_salt {
    uint8_t bytes[CRYPT_SALT_BYTES];
    enum crypt_cipher cipher; /* CRYPT_NONE: the segment is not encrypted, the bytes are zero */
};

/* Where a frame lies: what page maps hold. len_bytes counts the frame's own header. */
struct log_location {
    uint64_t seq;
    uint32_t offset;
    uint32_t len_bytes;
};

/* One frame: count contiguous blocks of a page of a layer. */
struct log_frame {
    uint64_t layer;
    uint64_t page;
    uint8_t first_block;
    uint8_t count;
    const uint8_t *blocks[LOG_FRAME_BLOCKS_MAX]; /* in: count pointers to 4 KiB, held by the caller
                                                    until log_commit() returns */
    uint32_t offset;                             /* out, set by sealing, before the PUT */
    uint32_t len_bytes;                          /* out */
};

struct log_batch {
    uint64_t number; /* batches are numbered by the volume, rising */
    struct log_frame *frames;
    uint32_t frame_count;
    const uint8_t *records;
    uint32_t records_len;
    /* Called once, when the places of the frames are fixed and the PUT is about to start; does not
     * wait. May be NULL. */
    void (*sealed)(struct log_batch *b, uint64_t seq);
    void *arg;
    struct log_salt salt; /* out, with the places of the frames */
};

struct log;

struct log_options {
    struct obj_store *store; /* not owned */
    struct uuid volume;
    const struct crypt_keys *keys; /* NULL: nothing is encrypted; not owned */
    uint64_t epoch;
    struct uuid open_id;
    uint64_t first_seq; /* as log_open() found */
    struct log_compression compression;
};

/* A writer. Only after log_open() and the manifest's recheck (I4). */
MUST int log_create(const struct log_options *opt, struct log **ret_log);
/* All commits have returned. Accepts NULL. */
void log_destroy(struct log *l);

/*
 * The next segment number, in the order of the calls: 0; waits while the window is full (I2);
 * ERR_FENCED. What is reserved must be committed: there are no gaps.
 */
MUST int log_reserve(struct log *l, uint64_t *ret_seq) WAITS;
/*
 * Seals the batch into segment seq and stores it: returns 0 when this segment is stored (not yet:
 * the prefix). Sends the same bytes again for as long as it takes (I3). ERR_FENCED when a rival
 * holds the number. Not ended by cancellation; log_abandon() ends it.
 */
MUST int log_commit(struct log *l, uint64_t seq, struct log_batch *b) WAITS;
/* Waits until every segment up to seq is stored: 0, ERR_FENCED, -ETIMEDOUT, -ECANCELED. */
MUST int log_wait_stored(struct log *l, uint64_t seq, uint64_t deadline_ns) WAITS;
/* The last seq of the stored prefix. */
uint64_t log_stored_through(const struct log *l);
/* Segments that have a number and are not known to be stored. */
unsigned log_in_flight(const struct log *l);
bool log_is_fenced(const struct log *l);
/* Marks the writer as fenced from outside (a manifest said so), or gives up at shutdown: commits
 * under way return ERR_FENCED. */
void log_abandon(struct log *l);
/* The smoothed round trip of one PUT in nanoseconds; 0 before the first. And the upload rate in
 * bytes per second. */
uint64_t log_round_trip_ns(const struct log *l);
uint64_t log_upload_rate(const struct log *l); /* 0 until large segments were stored */
void log_compression_set(struct log *l, struct log_compression c);
struct log_compression log_compression_get(const struct log *l);

/* What replay hands out, in order; valid during the call. frames[].blocks are NULL; offset and
 * len_bytes are set. */
struct log_replayed {
    uint64_t seq;
    uint64_t number;
    const struct log_frame *frames;
    uint32_t frame_count;
    const uint8_t *records;
    uint32_t records_len;
    uint64_t epoch; /* of the segment: the log's epoch from here on, which manifests record */
    struct log_salt salt;
};

struct log_open_options {
    struct obj_store *store;
    struct uuid volume;
    const struct crypt_keys *keys; /* NULL: an encrypted segment is an error; else a plain one is */
    uint64_t epoch;                /* ours: of the manifest we created */
    struct uuid open_id;
    uint64_t replay_from; /* first seq to replay, from the manifest */
    uint64_t log_epoch;   /* the log's epoch at replay_from, from the manifest */
    /* The open id of that epoch's writer, when the manifest is his; NULL = not known. Segments of
     * one epoch are all of one opening. */
    const struct uuid *log_writer;
    bool read_only; /* stop at the first missing slot, create nothing */
    uint64_t
        closed_through; /* of a cleanly closed volume, the last seq (I8); 0 = not closed cleanly */
};

struct log_open_result {
    uint64_t next_seq;  /* the first number that the new writer uses */
    uint64_t last_seq;  /* the last replayed, replay_from - 1 if none */
    uint64_t fence_seq; /* where our fence lies */
};

/*
 * Replays and fences (I4, I8): calls apply() for each batch from replay_from on; creates the fence
 * at the first missing slot. 0; apply's error; ERR_FENCED when a fence of our epoch or a later one
 * is met; ERR_LOG_GAP, ERR_LOG_ORDER, ERR_CORRUPT_SEGMENT with the object named in the log.
 */
MUST int log_open(const struct log_open_options *opt,
                  int (*apply)(void *arg, const struct log_replayed *b) WAITS, void *arg,
                  struct log_open_result *ret_result) WAITS;

/*
 * Reading frames. The keys of segments are made when they are needed and the last LOG_FRAME_KEYS
 * kept, so that opening a frame costs no more than that.
 */
struct log_frames;

#define LOG_FRAME_KEYS 512u

struct log_frames_options {
    struct obj_store *store; /* not owned */
    struct uuid volume;
    const struct crypt_keys *keys; /* NULL: not encrypted; not owned */
    /* The salt of a segment: 0, -ENOENT, ... Does not wait. Only called with keys. */
    int (*salt)(void *arg, uint64_t seq, struct log_salt *ret_salt);
    void *arg;
};

MUST int log_frames_create(const struct log_frames_options *opt, struct log_frames **ret_frames);
void log_frames_destroy(struct log_frames *f); /* accepts NULL */

/*
 * Reads and decodes one frame: a piece of count * 4096 bytes with a reference of its own, accounted
 * to RT_MEM_BLOCK_CACHE. 0, ERR_CORRUPT_FRAME (named in the log; read twice before), or what the
 * store or salt() gives.
 */
MUST int log_frame_read(struct log_frames *f, enum obj_class c, const struct log_location *at,
                        unsigned count, struct rt_piece *ret_piece) WAITS;

/*
 * The two steps of it, for those who have the bytes of many frames at once, from wherever. decode:
 * unit is the at->len_bytes of the frame as stored; 0, -ENOMEM, -EINVAL, what salt() gives,
 * -EBADMSG or -ENOTSUP when these bytes are not that frame (nothing is said). reread: after that,
 * says so and reads the frame once more, alone; results as log_frame_read().
 */
MUST int log_frame_decode(struct log_frames *f, const struct log_location *at, unsigned count,
                          const uint8_t *unit, struct rt_piece *ret_piece);
MUST int log_frame_reread(struct log_frames *f, enum obj_class c, const struct log_location *at,
                          unsigned count, struct rt_piece *ret_piece) WAITS;

/* each() for every frame of a stored segment, by its directory: 0, -ENOENT, ERR_CORRUPT_SEGMENT,
 * what the store says. */
MUST int log_segment_scan(struct log_frames *f, uint64_t seq,
                          void (*each)(void *arg, const struct log_frame *frame), void *arg) WAITS;
void log_segment_name(uint64_t seq, char ret_name[OBJ_NAME_SIZE]);
/* Deletes a segment: 0, also when there was none; -EPERM for a fence (I5); ERR_CORRUPT_SEGMENT when
 * its header is not authentic. */
MUST int log_segment_remove(struct log_frames *f, uint64_t seq) WAITS;
/* The same for several, with as few requests as the store has for it: the result of each. */
void log_segments_remove(struct log_frames *f, const uint64_t *seqs, size_t count, int *ret_results)
    WAITS;
