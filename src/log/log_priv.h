/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once
#include "log/log.h"
#include "log/segment.h"
#include "log/test_rules.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include <stdatomic.h>

/* Latencies of PUTs, smoothed (estimate.c). Under the log's mutex. */
#define LOG_LATENCIES 128

struct log_estimate {
    uint64_t round_trip_ns;            /* smoothed, of small segments */
    uint64_t rate;                     /* bytes per second, of large ones */
    uint32_t excess_us[LOG_LATENCIES]; /* latency beyond what the length explains, a ring */
    uint32_t excess_count;
    uint64_t p99_ns; /* of excess; 0 = not known */
    uint32_t in_flight;
    uint64_t busy_since_ns; /* with in_flight > 0 */
    uint64_t busy_ns;
    uint64_t busy_bytes;
};

void log_estimate_start(struct log_estimate *e, uint64_t now_ns);
void log_estimate_end(struct log_estimate *e, uint64_t now_ns, uint64_t took_ns, uint64_t len);
/* The PUT failed: its time says nothing. */
void log_estimate_failed(struct log_estimate *e);
/* After how long a PUT of len bytes is sent again; RT_FOREVER while nothing is known. */
uint64_t log_estimate_hedge_ns(const struct log_estimate *e, uint64_t len);

struct log {
    struct obj_store *store;
    struct uuid volume;
    const struct crypt_keys *keys;
    uint64_t epoch;
    struct uuid open_id;
    _Atomic uint32_t compression; /* codec, level << 8 */
    struct codec_effort effort;

    struct rt_mutex m;                    /* guards all below */
    struct rt_waitq window_q;             /* waits in log_reserve() */
    struct rt_waitq stored_q[LOG_WINDOW]; /* waits for seq, at seq % LOG_WINDOW */
    struct rt_waitq quit_q;               /* pauses between attempts */
    uint64_t next_seq;                    /* the next to be reserved */
    uint64_t tickets;      /* given to callers of log_reserve(), who get numbers in that order */
    uint64_t turn;         /* the ticket whose turn it is */
    uint64_t base;         /* oldest that is not stored */
    uint64_t stored_ahead; /* bit i: base + i is stored (bit 0 never is, outside of log_stored()) */
    bool fenced;
    struct log_estimate estimate;
};

/* Segment seq is stored: moves the prefix on and wakes who waits for it. */
void log_stored(struct log *l, uint64_t seq);
/* A rival holds a number of ours: nothing is acknowledged from now on. */
void log_fenced(struct log *l);

/* A volume's log, for those who read it. */
struct log_home {
    struct obj_store *store;
    struct uuid volume;
    const struct crypt_keys *keys;
};

/* What is in a slot of the log, as far as replay needs it. */
struct log_slot {
    bool missing;
    struct segment_header header;
    struct segment_key key;
    uint8_t header_bytes[SEGMENT_HEADER_BYTES];
    struct segment_footer footer;
    struct rt_buf *buf; /* bytes of the object from `from` to its end */
    uint64_t from;
    uint64_t len; /* of the object */
    struct segment_directory directory;
};

/*
 * Reads the suffix of segment seq that holds its records, directory and footer, and checks all of
 * it but the frames, once more when that fails. The records are opened. 0 (look at missing),
 * ERR_CORRUPT_SEGMENT, ERR_FORMAT_TOO_NEW, or the store's error.
 */
MUST int log_slot_read(const struct log_home *home, uint64_t seq, struct log_slot *ret_slot) WAITS;
void log_slot_free(struct log_slot *s);
/* Only the header, authenticated as the slot's: 0, -ENOENT, else as above. */
MUST int log_header_read(const struct log_home *home, enum obj_class c, uint64_t seq,
                         struct segment_header *ret_h) WAITS;
/* Says in the log what is wrong with a segment; gives the code for it. */
MUST int log_slot_bad(uint64_t seq, int r, const char *why);

/* Compares what is stored at seq with ours: 1 = the same object, 0 = another, as two looks say;
 * -ENOENT, -EBADMSG when each look saw something else, or the store's error (I3). */
MUST int log_compare(struct obj_store *store, uint64_t seq, const struct segment_sealed *ours)
    WAITS;

/* Reads slots ahead of a replay, LOG_WINDOW at a time (fetch.c). */
struct log_fetch;
MUST int log_fetch_create(const struct log_home *home, struct log_fetch **ret_fetch);
/* The slot seq; its owner is the caller. Slots are asked for in rising order; numbers may be left
 * out. */
MUST int log_fetch_take(struct log_fetch *f, uint64_t seq, struct log_slot *ret_slot) WAITS;
void log_fetch_destroy(struct log_fetch *f) WAITS;
