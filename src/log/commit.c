/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storing one segment.
 *
 *     seal -> [attempt: PUT -> stored | taken -> compare -> ours: stored
 *                |                             |         \-> not ours: FENCED
 *                |                             \-> gone or unknown: again
 *                \-> failed: pause, again]
 *
 * The bytes are sealed once, before the first attempt, and every attempt sends the same (I1). It
 * goes on for as long as the writer lives: a full, read-only or absent store only delays (an
 * outage). An attempt that takes longer than three times what such PUTs take is joined by a second
 * one (I3); the first answer counts. log_commit() returns when no attempt is under way any more,
 * for they read the caller's blocks; but the prefix moves, and flushes are answered, with the first
 * good answer.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/time.h"
#include "log/log_priv.h"
#include "rt/offload.h"
#include <inttypes.h>
#include <string.h>

#define OFFLOAD_BYTES (256u << 10)
#define BACKOFF_FIRST_NS (20 * NS_PER_MS)
#define BACKOFF_MAX_NS (5 * NS_PER_S)
#define NO_MEMORY_PAUSE_NS (100 * NS_PER_MS)
#define ATTEMPTS_AT_ONCE 2

struct seal_job {
    struct log *l;
    struct segment_header header;
    struct log_compression compression;
    struct log_batch *batch;
    struct segment_sealed sealed;
};

static int seal_run(void *arg)
{
    struct seal_job *j = arg;
    struct log_batch *batches[1] = {j->batch};
    struct segment_options opt = {
        .compression = j->compression, .effort = &j->l->effort, .keys = j->l->keys};
    return segment_seal(&j->header, &opt, batches, 1, &j->sealed);
}

/* Pauses, unless the log is abandoned meanwhile. */
static void rest(struct log *l, uint64_t ns)
{
    uint64_t until = rt_now_ns() + ns / 2 + rt_random() % (ns / 2 + 1);
    int r = 0;
    rt_mutex_lock(&l->m);
    while (!l->fenced && r == 0) {
        r = rt_waitq_wait(&l->quit_q, &l->m, until);
    }
    rt_mutex_unlock(&l->m);
}

/* Seals until it works: a number that was given out is not given up (I1). ERR_FENCED when the log
 * is. */
static int seal(struct seal_job *j)
{
    uint64_t bytes = j->batch->records_len;
    for (uint32_t i = 0; i < j->batch->frame_count; i++) {
        bytes += j->batch->frames[i].count * (uint64_t)LOG_BLOCK_BYTES;
    }
    for (;;) {
        j->header.stored_through = log_stored_through(j->l);
        rt_random_bytes(j->header.salt, sizeof j->header.salt);
        j->compression = log_compression_get(j->l);
        bool heavy = bytes > OFFLOAD_BYTES ||
                     (j->compression.codec == LOG_CODEC_ZSTD && j->batch->frame_count > 0);
        int r = heavy ? rt_offload(RT_OFFLOAD_CPU, seal_run, j) : seal_run(j);
        if (r == 0) {
            return 0;
        }
        ASSERT(r != -EFBIG); /* the volume bounds its batches */
        if (log_is_fenced(j->l)) {
            return ERR_FENCED;
        }
        msg_warn_paced("log", "sealing a batch: %s; trying again", err_text(r));
        rest(j->l, NO_MEMORY_PAUSE_NS);
    }
}

/* One segment on its way. On the stack of log_commit(), which outlives every attempt. */
struct flight {
    struct log *l;
    struct seal_job *job;
    uint64_t seq;
    char name[OBJ_NAME_SIZE];
    const struct segment_sealed *sealed;
    struct rt_mutex m;
    struct rt_waitq q;
    unsigned running; /* attempts */
    bool stored;
    bool taken_by_other;
    int last_error; /* of an attempt that decided nothing; 0 = none yet */
};

static void decide(struct flight *f, int r)
{
    rt_mutex_lock(&f->m);
    if (r == 0) {
        f->stored = true;
    } else if (r == ERR_FENCED) {
        f->taken_by_other = true;
    } else {
        f->last_error = r;
    }
    rt_mutex_unlock(&f->m);
    if (r == 0) {
        log_stored(f->l, f->seq);
    } else if (r == ERR_FENCED) {
        log_fenced(f->l);
    }
}

/* The number is taken: by an earlier attempt of ours, or by a rival (I3). */
static int look_who(struct flight *f)
{
    if (log_test_rules.any_412_is_ours) {
        return 0;
    }
    int r = log_compare(f->l->store, f->seq, f->sealed);
    if (r < 0) {
        return r;
    }
    return r == 1 ? 0 : ERR_FENCED;
}

static int attempt(struct flight *f)
{
    struct log *l = f->l;
    uint64_t from = rt_now_ns();
    rt_mutex_lock(&l->m);
    log_estimate_start(&l->estimate, from);
    rt_mutex_unlock(&l->m);

    int r = obj_put(l->store, OBJ_COMMIT, f->name, &f->sealed->body);

    uint64_t now = rt_now_ns();
    rt_mutex_lock(&l->m);
    if (r == 0 || r == -EEXIST) {
        log_estimate_end(&l->estimate, now, now - from, f->sealed->body.len);
    } else {
        log_estimate_failed(&l->estimate);
    }
    rt_mutex_unlock(&l->m);
    return r == -EEXIST ? look_who(f) : r;
}

static void attempt_fiber(void *arg)
{
    struct flight *f = arg;
    decide(f, attempt(f));
    rt_mutex_lock(&f->m);
    f->running--;
    rt_waitq_wake_all(&f->q);
    rt_mutex_unlock(&f->m);
}

/* Starts an attempt beside this fiber; where there is no fiber for it, makes it here. */
static void launch(struct flight *f)
{
    rt_mutex_lock(&f->m);
    f->running++;
    bool alone = f->running == 1;
    rt_mutex_unlock(&f->m);
    if (rt_spawn("commit", attempt_fiber, f) == 0) {
        return;
    }
    if (alone) {
        attempt_fiber(f);
        return;
    }
    rt_mutex_lock(&f->m);
    f->running--;
    rt_mutex_unlock(&f->m);
}

static uint64_t hedge_after(struct flight *f)
{
    rt_mutex_lock(&f->l->m);
    uint64_t ns = log_estimate_hedge_ns(&f->l->estimate, f->sealed->body.len);
    rt_mutex_unlock(&f->l->m);
    return ns;
}

static bool is_decided(const struct flight *f)
{
    return f->stored || f->taken_by_other;
}

/*
 * Waits until the attempts under way have ended, or one decided and none reads the blocks any more;
 * starts a second one when the first is slow.
 */
static void watch(struct flight *f)
{
    uint64_t hedge_ns = hedge_after(f);
    uint64_t deadline = hedge_ns == RT_FOREVER ? RT_FOREVER : rt_now_ns() + hedge_ns;
    rt_mutex_lock(&f->m);
    while (f->running > 0) {
        int r = rt_waitq_wait(&f->q, &f->m, is_decided(f) ? RT_FOREVER : deadline);
        if (r != -ETIMEDOUT || is_decided(f)) {
            continue;
        }
        deadline = RT_FOREVER;
        if (f->running > 0 && f->running < ATTEMPTS_AT_ONCE) {
            rt_mutex_unlock(&f->m);
            msg_debug("log", "%s: slow, sent a second time", f->name);
            launch(f);
            rt_mutex_lock(&f->m);
        }
    }
    rt_mutex_unlock(&f->m);
}

static int store(struct flight *f)
{
    uint64_t backoff = BACKOFF_FIRST_NS;
    for (;;) {
        if (log_is_fenced(f->l)) {
            return ERR_FENCED;
        }
        if (log_test_rules.fresh_bytes_on_resend && f->last_error != 0) {
            segment_sealed_free(&f->job->sealed);
            if (seal(f->job) < 0) {
                return ERR_FENCED;
            }
        }
        launch(f);
        watch(f);
        if (f->stored) {
            return 0;
        }
        if (f->taken_by_other) {
            return ERR_FENCED;
        }
        msg_debug("log", "%s: %s; trying again", f->name, err_name(f->last_error));
        rest(f->l, backoff);
        backoff = MIN_OF(backoff * 2, BACKOFF_MAX_NS);
    }
}

int log_commit(struct log *l, uint64_t seq, struct log_batch *b)
{
    struct seal_job j = {
        .l = l,
        .header = {.kind = SEGMENT_DATA,
                   .volume = l->volume,
                   .seq = seq,
                   .epoch = l->epoch,
                   .open_id = l->open_id},
        .batch = b,
    };
    rt_shield();
    int r = seal(&j);
    if (r == 0) {
        if (b->sealed) {
            b->sealed(b, seq);
        }
        struct flight f = {.l = l, .job = &j, .seq = seq, .sealed = &j.sealed};
        log_segment_name(seq, f.name);
        rt_mutex_init(&f.m);
        rt_waitq_init(&f.q);
        r = store(&f);
        rt_mutex_destroy(&f.m);
        segment_sealed_free(&j.sealed);
    }
    rt_unshield();
    return r;
}
