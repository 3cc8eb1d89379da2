/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's state: which numbers are given out, which are stored, and who waits.
 *
 *         base                     next_seq          base + 64
 *          |  numbers given out, some stored |  may be given out  |
 *     -----+---------------------------------+--------------------+--> seq
 *     stored prefix                                              (I2)
 *
 * A number is given out (log_reserve), sealed and sent (log_commit, in commit.c), and becomes
 * stored in any order. base moves over the stored ones: what lies below it is the stored prefix,
 * and only a move of base wakes a flush (I12).
 *
 * FENCED is for ever: a rival holds one of our numbers, or the owner gave up. Then every call says
 * ERR_FENCED, also a flush whose segments are stored: a fenced writer acknowledges nothing more.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "log/log_priv.h"
#include <inttypes.h>
#include <stdio.h>

struct log_test_rules log_test_rules;

int log_create(const struct log_options *opt, struct log **ret_log)
{
    struct log *l = calloc(1, sizeof *l);
    if (!l) {
        return -ENOMEM;
    }
    l->store = opt->store;
    l->volume = opt->volume;
    l->keys = opt->keys;
    l->epoch = opt->epoch;
    l->open_id = opt->open_id;
    log_compression_set(l, opt->compression);
    l->next_seq = opt->first_seq;
    l->base = opt->first_seq;
    rt_mutex_init(&l->m);
    rt_waitq_init(&l->window_q);
    rt_waitq_init(&l->quit_q);
    for (size_t i = 0; i < LOG_WINDOW; i++) {
        rt_waitq_init(&l->stored_q[i]);
    }
    *ret_log = l;
    return 0;
}

void log_destroy(struct log *l)
{
    if (!l) {
        return;
    }
    rt_mutex_destroy(&l->m);
    free(l);
}

static uint64_t window_end(const struct log *l)
{
    return log_test_rules.no_window ? l->base + LOG_WINDOW : l->base + log_window();
}

int log_reserve(struct log *l, uint64_t *ret_seq)
{
    int r = 0;
    rt_shield(); /* who has a ticket must come to its turn */
    rt_mutex_lock(&l->m);
    uint64_t ticket = l->tickets++;
    while (!l->fenced && (ticket != l->turn || l->next_seq >= window_end(l))) {
        r = rt_waitq_wait(&l->window_q, &l->m, RT_FOREVER);
        ASSERT(r == 0);
    }
    if (l->fenced) {
        r = ERR_FENCED;
    } else {
        *ret_seq = l->next_seq++;
        ASSERT(l->next_seq <= l->base + LOG_WINDOW); /* I2 */
        l->turn++;
        rt_waitq_wake_all(&l->window_q);
    }
    rt_mutex_unlock(&l->m);
    rt_unshield();
    return r;
}

void log_stored(struct log *l, uint64_t seq)
{
    rt_mutex_lock(&l->m);
    if (seq < l->base) { /* a second attempt that was also answered */
        rt_mutex_unlock(&l->m);
        return;
    }
    ASSERT(seq < l->next_seq && seq - l->base < LOG_WINDOW);
    l->stored_ahead |= 1ull << (seq - l->base);
    while (l->stored_ahead & 1) {
        rt_waitq_wake_all(&l->stored_q[l->base % LOG_WINDOW]);
        l->base++;
        l->stored_ahead >>= 1;
    }
    rt_waitq_wake_all(&l->window_q);
    if (log_test_rules.ack_alone) {
        rt_waitq_wake_all(&l->stored_q[seq % LOG_WINDOW]);
    }
    rt_mutex_unlock(&l->m);
}

static void fence_locked(struct log *l)
{
    l->fenced = true;
    rt_waitq_wake_all(&l->window_q);
    rt_waitq_wake_all(&l->quit_q);
    for (size_t i = 0; i < LOG_WINDOW; i++) {
        rt_waitq_wake_all(&l->stored_q[i]);
    }
}

void log_fenced(struct log *l)
{
    rt_mutex_lock(&l->m);
    bool first = !l->fenced;
    fence_locked(l);
    rt_mutex_unlock(&l->m);
    if (first) {
        msg_error("log", "%s; epoch %" PRIu64 " ends here", err_text(ERR_FENCED), l->epoch);
    }
}

void log_abandon(struct log *l)
{
    rt_mutex_lock(&l->m);
    fence_locked(l);
    rt_mutex_unlock(&l->m);
}

static bool is_stored_locked(const struct log *l, uint64_t seq)
{
    if (log_test_rules.ack_alone && seq >= l->base) {
        return (l->stored_ahead >> (seq - l->base) & 1) != 0;
    }
    return seq < l->base;
}

int log_wait_stored(struct log *l, uint64_t seq, uint64_t deadline_ns)
{
    int r = 0;
    rt_mutex_lock(&l->m);
    ASSERT(seq < l->next_seq); /* only what was reserved can become stored */
    while (!l->fenced && r == 0 && !is_stored_locked(l, seq)) {
        r = rt_waitq_wait(&l->stored_q[seq % LOG_WINDOW], &l->m, deadline_ns);
    }
    if (l->fenced) {
        r = ERR_FENCED;
    } else if (is_stored_locked(l, seq)) {
        r = 0;
    }
    rt_mutex_unlock(&l->m);
    return r;
}

/* The mutex is the only part that reading changes. */
static struct log *lockable(const struct log *l)
{
    return (struct log *)(uintptr_t)l;
}

unsigned log_in_flight(const struct log *l)
{
    rt_mutex_lock(&lockable(l)->m);
    unsigned count =
        (unsigned)(l->next_seq - l->base) - (unsigned)__builtin_popcountll(l->stored_ahead);
    rt_mutex_unlock(&lockable(l)->m);
    return count;
}

uint64_t log_stored_through(const struct log *l)
{
    rt_mutex_lock(&lockable(l)->m);
    uint64_t seq = l->base - 1;
    rt_mutex_unlock(&lockable(l)->m);
    return seq;
}

bool log_is_fenced(const struct log *l)
{
    rt_mutex_lock(&lockable(l)->m);
    bool fenced = l->fenced;
    rt_mutex_unlock(&lockable(l)->m);
    return fenced;
}

uint64_t log_round_trip_ns(const struct log *l)
{
    rt_mutex_lock(&lockable(l)->m);
    uint64_t ns = l->estimate.round_trip_ns;
    rt_mutex_unlock(&lockable(l)->m);
    return ns;
}

uint64_t log_upload_rate(const struct log *l)
{
    rt_mutex_lock(&lockable(l)->m);
    uint64_t rate = l->estimate.rate;
    rt_mutex_unlock(&lockable(l)->m);
    return rate;
}

void log_compression_set(struct log *l, struct log_compression c)
{
    atomic_store(&l->compression, (uint32_t)c.codec | (uint32_t)c.level << 8);
}

struct log_compression log_compression_get(const struct log *l)
{
    uint32_t both = atomic_load(&l->compression);
    return (struct log_compression){.codec = (enum log_codec)(both & 0xff),
                                    .level = (uint8_t)(both >> 8)};
}

void log_segment_name(uint64_t seq, char ret_name[OBJ_NAME_SIZE])
{
    (void)snprintf(ret_name, OBJ_NAME_SIZE, "segments/%016" PRIx64, seq);
}
