/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the log (I4): replay, then a fence at the first missing slot.
 *
 *     slot has a segment of the log epoch          apply it, next slot
 *     slot has a fence of a later epoch            that is the log epoch now, go on where it says
 *     slot has our fence, or a fence put there now done: we write from its resume position on
 *     slot has a fence of our epoch or later       ERR_FENCED: a faster opener
 *     a segment of the log epoch by another opening than that epoch's, anything else
 *                                                  ERR_LOG_ORDER
 *     slot is empty                                try to put our fence there; if it was taken
 * meanwhile, look again
 *
 * WHY A DEAD ZONE. A writer of the old epoch may have sent up to 63 segments past its oldest
 * unstored one (I2), and some of them may arrive hours later. All of them lie in the 63 slots after
 * the fence, where nobody ever looks again.
 *
 * LOST DATA IS NOTICED (I8). Before the fence is put, the headers of the slots in the dead zone are
 * read. One of the log epoch that says that the empty slot was stored proves that a committed
 * segment is gone. Then nothing is created and the open is refused, unless the slot is there by now
 * (its writer is alive). A caller that has been overtaken by another opener may see the same, since
 * that one deletes: it looks at the manifests before it believes it.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "log/log_priv.h"
#include "rt/offload.h"
#include "rt/sync.h"
#include <inttypes.h>
#include <string.h>

typedef int (*apply_fn)(void *arg, const struct log_replayed *b);

struct replay {
    const struct log_open_options *opt;
    struct log_home home;
    apply_fn apply;
    void *arg;
    uint64_t seq;       /* the slot to look at */
    uint64_t log_epoch; /* at seq */
    struct uuid writer; /* the open id that all segments of that epoch have, once it is known */
    bool has_writer;
    uint64_t last_seq;
    struct segment_sealed fence; /* ours, for the slot fence_seq */
    uint64_t fence_seq;
    bool has_fence;
};

/* Gives the code for a log whose slots contradict each other, naming the object. */
static int out_of_order(const struct replay *p, const struct segment_header *h)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(h->seq, name);
    msg_error("log", "%s: %s: it is of epoch %" PRIu64 " and the log there of %" PRIu64, name,
              err_text(ERR_LOG_ORDER), h->epoch, p->log_epoch);
    return ERR_LOG_ORDER;
}

static int of_another_opening(const struct segment_header *h)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(h->seq, name);
    msg_error("log", "%s: %s: another opening than that of its epoch wrote it", name,
              err_text(ERR_LOG_ORDER));
    return ERR_LOG_ORDER;
}

static int gap(const struct replay *p, uint64_t known_through)
{
    char name[OBJ_NAME_SIZE];
    log_segment_name(p->seq, name);
    msg_error("log", "%s: %s: it is not there, but everything up to %016" PRIx64 " was stored",
              name, err_text(ERR_LOG_GAP), known_through);
    return ERR_LOG_GAP;
}

static int apply_batches(struct replay *p, const struct log_slot *s)
{
    for (size_t i = 0; i < s->directory.batches.len; i++) {
        const struct segment_batch *b = &s->directory.batches.at[i];
        struct log_replayed out = {
            .seq = s->header.seq,
            .epoch = s->header.epoch,
            .number = b->number,
            .frames = s->directory.frames.at + b->frame_first,
            .frame_count = b->frame_count,
            .salt = segment_salt(&s->header),
        };
        const uint8_t *unit = b->records_len > 0 ? s->buf->data + (b->records_at - s->from) : NULL;
        out.records = segment_records_of(&s->key, b, unit, &out.records_len);
        int r = p->apply(p->arg, &out);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Results of looking at a slot. */
enum {
    STEP_ON = 0,
    STEP_DONE = 1,
};

static bool is_our_fence(const struct replay *p, const struct log_slot *s)
{
    return p->has_fence && p->fence_seq == s->header.seq &&
           memcmp(p->fence.header, s->header_bytes, SEGMENT_HEADER_BYTES) == 0;
}

static int step_fence(struct replay *p, const struct log_slot *s)
{
    if (is_our_fence(p, s)) {
        return STEP_DONE;
    }
    if (!p->opt->read_only && s->header.epoch >= p->opt->epoch) {
        msg_error("log", "%s: its epoch is %" PRIu64 ", ours %" PRIu64, err_text(ERR_FENCED),
                  s->header.epoch, p->opt->epoch);
        return ERR_FENCED;
    }
    if (s->header.epoch <= p->log_epoch) {
        return out_of_order(p, &s->header);
    }
    p->log_epoch = s->header.epoch;
    p->writer = s->header.open_id;
    p->has_writer = true;
    p->seq = s->header.resume;
    return STEP_ON;
}

static int step_data(struct replay *p, const struct log_slot *s)
{
    if (s->header.epoch != p->log_epoch) {
        return out_of_order(p, &s->header);
    }
    /* Of the same epoch and number, by another opening: from a copy of the store that went its own
     * way. It is authentic, and yet none of this log. */
    if (p->has_writer && !uuid_equal(&p->writer, &s->header.open_id)) {
        return of_another_opening(&s->header);
    }
    p->writer = s->header.open_id;
    p->has_writer = true;
    int r = apply_batches(p, s);
    if (r < 0) {
        return r;
    }
    p->last_seq = p->seq;
    p->seq++;
    return STEP_ON;
}

/* The search for segments that know of the missing slot (I8): some fibers share the slots after it.
 */
#define SCAN_FIBERS 16

struct scan {
    const struct replay *p;
    _Atomic uint64_t next; /* how far after the missing slot */
    _Atomic int error;
    _Atomic uint64_t known_through; /* 0: nobody knows of it */
};

static void scan_run(void *arg)
{
    struct scan *s = arg;
    for (;;) {
        uint64_t i = atomic_fetch_add(&s->next, 1);
        if (i >= log_window()) {
            return;
        }
        const struct replay *p = s->p;
        struct segment_header h;
        int r = log_header_read(&p->home, OBJ_INDEX, p->seq + i, &h);
        if (r < 0) {
            if (r != -ENOENT) {
                atomic_store(&s->error, r);
            }
            continue;
        }
        if (h.kind == SEGMENT_DATA && h.epoch == p->log_epoch && h.stored_through >= p->seq) {
            atomic_store(&s->known_through, h.stored_through);
        }
    }
}

/* 0 when no segment knows of the missing slot, else the prefix that one knows, or the store's
 * error. */
static int scan_dead_zone(const struct replay *p, uint64_t *ret_known_through)
{
    struct scan s = {.p = p, .next = 1};
    struct rt_group *g;
    int r = rt_group_create(&g);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < SCAN_FIBERS; i++) {
        if (rt_group_spawn(g, "gap scan", scan_run, &s) < 0) {
            break;
        }
    }
    scan_run(&s);
    rt_group_wait(g);
    rt_group_destroy(g);
    *ret_known_through = atomic_load(&s.known_through);
    return atomic_load(&s.error);
}

/* STEP_DONE: the slot is missing and nothing says that it ever was there. STEP_ON: look again. */
static int check_gap(const struct replay *p)
{
    uint64_t known;
    int r = scan_dead_zone(p, &known);
    if (r < 0 || known == 0 || log_test_rules.no_gap_check) {
        return r < 0 ? r : STEP_DONE;
    }
    struct segment_header h;
    r = log_header_read(&p->home, OBJ_INDEX, p->seq, &h);
    if (r == -ENOENT) {
        return gap(p, known);
    }
    return r < 0 ? r : STEP_ON;
}

static int seal_fence(struct replay *p)
{
    if (p->has_fence && p->fence_seq == p->seq) {
        return 0; /* an attempt whose end is unknown: the same bytes again (I1) */
    }
    if (p->has_fence) {
        segment_sealed_free(&p->fence);
        p->has_fence = false;
    }
    struct segment_header h = {
        .kind = SEGMENT_FENCE,
        .volume = p->opt->volume,
        .seq = p->seq,
        .epoch = p->opt->epoch,
        .open_id = p->opt->open_id,
        .stored_through = p->last_seq,
        .resume = p->seq + (log_test_rules.no_dead_zone ? 1 : log_window()),
    };
    rt_random_bytes(h.salt, sizeof h.salt);
    int r = segment_seal(&h, &(struct segment_options){.keys = p->opt->keys}, NULL, 0, &p->fence);
    if (r == 0) {
        p->has_fence = true;
        p->fence_seq = p->seq;
    }
    return r;
}

static int step_missing(struct replay *p)
{
    if (p->opt->closed_through >= p->seq) {
        return gap(p, p->opt->closed_through);
    }
    if (p->opt->read_only) {
        return STEP_DONE;
    }
    int r = check_gap(p);
    if (r != STEP_DONE) {
        return r;
    }
    r = seal_fence(p);
    if (r < 0) {
        return r;
    }
    char name[OBJ_NAME_SIZE];
    log_segment_name(p->seq, name);
    r = obj_put(p->opt->store, OBJ_INDEX, name, &p->fence.body);
    if (r == 0) {
        return STEP_DONE;
    }
    /* Unknown or taken: what is there now decides. Taken may be by an attempt of our own. */
    return r == -EEXIST || r == -ETIMEDOUT ? STEP_ON : r;
}

static int step(struct replay *p, struct log_fetch *f)
{
    struct log_slot s;
    int r = log_fetch_take(f, p->seq, &s);
    if (r < 0) {
        return r;
    }
    if (s.missing) {
        r = step_missing(p);
    } else if (s.header.kind == SEGMENT_FENCE) {
        r = step_fence(p, &s);
    } else {
        r = step_data(p, &s);
    }
    log_slot_free(&s);
    return r;
}

int log_open(const struct log_open_options *opt, apply_fn apply, void *arg,
             struct log_open_result *ret_result)
{
    struct replay p = {
        .opt = opt,
        .home = {opt->store, opt->volume, opt->keys},
        .apply = apply,
        .arg = arg,
        .seq = opt->replay_from,
        .log_epoch = opt->log_epoch,
        .last_seq = opt->replay_from - 1,
    };
    ASSERT(opt->replay_from > 0);
    if (opt->log_writer) {
        p.writer = *opt->log_writer;
        p.has_writer = true;
    }
    int r = rt_offload(RT_OFFLOAD_CPU, segment_prepare, NULL);
    if (r < 0) {
        return r;
    }
    struct log_fetch *f;
    r = log_fetch_create(&p.home, &f);
    if (r < 0) {
        return r;
    }
    do {
        r = rt_cancelled() ? -ECANCELED : step(&p, f);
    } while (r == STEP_ON);
    log_fetch_destroy(f);
    if (p.has_fence) {
        segment_sealed_free(&p.fence);
    }
    if (r < 0) {
        return r;
    }
    *ret_result = (struct log_open_result){
        .next_seq = opt->read_only ? p.seq : p.seq + log_window(),
        .last_seq = p.last_seq,
        .fence_seq = opt->read_only ? 0 : p.seq,
    };
    return 0;
}
