/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads slots ahead of a replay. How far ahead grows with what was taken, so that a log with
 * nothing to replay costs a few requests and a long one keeps LOG_WINDOW under way. A slot that was
 * read as missing is only a hint: it may have been filled since, and asking for the same number
 * again reads it anew.
 */
#include "base/assert.h"
#include "log/log_priv.h"

#define AHEAD_FIRST 4

struct fetch_entry {
    struct log_fetch *f;
    uint64_t seq;
    bool used;
    bool done;
    int result;
    struct log_slot slot;
};

struct log_fetch {
    struct log_home home;
    uint64_t ahead;
    struct rt_group *group;
    struct rt_mutex m; /* done, result, slot */
    struct rt_waitq q;
    struct fetch_entry entries[LOG_WINDOW]; /* seq at seq % LOG_WINDOW */
};

int log_fetch_create(const struct log_home *home, struct log_fetch **ret_fetch)
{
    struct log_fetch *f = calloc(1, sizeof *f);
    if (!f) {
        return -ENOMEM;
    }
    int r = rt_group_create(&f->group);
    if (r < 0) {
        free(f);
        return r;
    }
    f->home = *home;
    f->ahead = AHEAD_FIRST;
    rt_mutex_init(&f->m);
    rt_waitq_init(&f->q);
    *ret_fetch = f;
    return 0;
}

static void load(void *arg)
{
    struct fetch_entry *e = arg;
    struct log_fetch *f = e->f;
    struct log_slot slot = {0};
    int r = log_slot_read(&f->home, e->seq, &slot);
    rt_mutex_lock(&f->m);
    e->slot = slot;
    e->result = r;
    e->done = true;
    rt_waitq_wake_all(&f->q);
    rt_mutex_unlock(&f->m);
}

static void wait_done(struct fetch_entry *e)
{
    struct log_fetch *f = e->f;
    rt_shield();
    rt_mutex_lock(&f->m);
    while (!e->done) {
        int r = rt_waitq_wait(&f->q, &f->m, RT_FOREVER);
        ASSERT(r == 0);
    }
    rt_mutex_unlock(&f->m);
    rt_unshield();
}

/* Empties the entry, waiting for its load. */
static void drop(struct fetch_entry *e)
{
    if (e->used) {
        wait_done(e);
        log_slot_free(&e->slot);
        e->used = false;
    }
}

/* Starts the load of seq unless it is there or under way. Without a fiber for it: here and now, if
 * need be. */
static void start(struct log_fetch *f, uint64_t seq, bool needed)
{
    struct fetch_entry *e = &f->entries[seq % LOG_WINDOW];
    if (e->used && e->seq == seq) {
        return;
    }
    drop(e);
    *e = (struct fetch_entry){.f = f, .seq = seq, .used = true};
    if (rt_group_spawn(f->group, "replay fetch", load, e) == 0) {
        return;
    }
    if (needed) {
        load(e);
    } else {
        e->used = false;
    }
}

int log_fetch_take(struct log_fetch *f, uint64_t seq, struct log_slot *ret_slot)
{
    start(f, seq, true);
    for (uint64_t i = 1; i < f->ahead; i++) {
        start(f, seq + i, false);
    }
    f->ahead = MIN_OF(f->ahead * 2, (uint64_t)LOG_WINDOW);
    struct fetch_entry *e = &f->entries[seq % LOG_WINDOW];
    wait_done(e);
    e->used = false;
    if (e->result < 0) {
        return e->result;
    }
    *ret_slot = e->slot;
    return 0;
}

void log_fetch_destroy(struct log_fetch *f)
{
    if (!f) {
        return;
    }
    rt_group_cancel(f->group);
    rt_group_wait(f->group);
    for (size_t i = 0; i < LOG_WINDOW; i++) {
        drop(&f->entries[i]);
    }
    rt_group_destroy(f->group);
    rt_mutex_destroy(&f->m);
    free(f);
}
