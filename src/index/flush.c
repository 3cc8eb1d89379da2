/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frozen memtables become SSTs of level 0, oldest first, one manifest each. The flusher is a fiber
 * that exists only while there is something to flush. Whatever fails is tried again for as long as
 * it takes; SSTs of a try that came to nothing are deleted like any other that no manifest names.
 */
#include "base/err.h"
#include "base/msg.h"
#include "index/index_priv.h"
#include "rt/offload.h"
#include <errno.h>

#define STEP_ENTRIES 16384u /* of one offloaded job, so that others get their turn */
#define RETRY_MS 1000u

int index_sst_begin(struct index *ix, struct sst_writer **ret_w)
{
    uint8_t salt[SST_SALT_SIZE];
    struct sst_id id = {.volume = ix->opt.volume, .keys = ix->opt.keys};
    rt_mutex_lock(&ix->m);
    id.epoch = ix->head.epoch;
    id.counter = ix->sst_counter++;
    rt_mutex_unlock(&ix->m);
    rt_random_bytes(salt, sizeof salt);
    return sst_writer_create(&id, salt, ix->opt.sst_bytes, ret_w);
}

struct finish_job {
    struct sst_writer *w;
    struct sst_meta meta;
};

static int finish_step(void *arg)
{
    struct finish_job *j = arg;
    return sst_writer_finish(j->w, &j->meta);
}

int index_sst_store(struct index *ix, enum obj_class c, struct sst_writer *w, struct sst **ret_sst)
    WAITS
{
    struct finish_job job = {.w = w};
    char name[OBJ_NAME_SIZE];
    int r = rt_offload(RT_OFFLOAD_CPU, finish_step, &job);
    if (r < 0) {
        return r;
    }
    sst_name(job.meta.epoch, job.meta.counter, name);
    r = index_put_object(ix, c, name, sst_writer_body(w), false);
    if (r == 0) {
        struct index_home home = index_home(&ix->opt);
        r = sst_create(&home, &job.meta, ret_sst);
    }
    if (r < 0) {
        sst_meta_free(&job.meta);
    }
    if (r == -EEXIST) {
        msg_error("index", "%s was written by another process", name);
        index_fence(ix);
        return ERR_FENCED;
    }
    return r;
}

struct flush_job {
    struct sst_writer *w;
    const struct memtable_node *node; /* the next to write */
};

/* 1 = call again, 0 = the SST is full or the memtable at its end. */
static int flush_step(void *arg)
{
    struct flush_job *j = arg;
    for (unsigned i = 0; i < STEP_ENTRIES; i++) {
        if (j->node == NULL || sst_writer_is_full(j->w)) {
            return 0;
        }
        struct index_entry e = memtable_entry(j->node);
        int r = sst_writer_add(j->w, &e);
        if (r < 0) {
            return r;
        }
        j->node = memtable_next(j->node);
    }
    return 1;
}

/* The next SST of the memtable, stored and appended to `made`. */
static int flush_sst(struct index *ix, const struct memtable_node **node, struct sst_list *made)
    WAITS
{
    struct flush_job job = {.node = *node};
    struct sst *s = NULL;
    int r = index_sst_begin(ix, &job.w);
    if (r < 0) {
        return r;
    }
    do {
        r = rt_offload(RT_OFFLOAD_CPU, flush_step, &job);
    } while (r == 1);
    if (r == 0) {
        r = index_sst_store(ix, OBJ_INDEX, job.w, &s);
    }
    if (r == 0) {
        r = sst_list_push(made, s);
        sst_unref(s);
    }
    sst_writer_free(job.w);
    *node = job.node;
    return r;
}

static int flush_one(struct index *ix, const struct index_frozen *f) WAITS
{
    struct sst_list made = {0};
    const struct memtable_node *node = memtable_seek(f->mt, "", 0);
    int r = 0;
    while (r == 0 && node != NULL) {
        r = flush_sst(ix, &node, &made);
    }
    if (r == 0) {
        struct index_edit edit = {.add = &made, .flushed = f};
        r = index_commit(ix, &edit);
    }
    if (r < 0 && r != ERR_FENCED && r != -ECANCELED) {
        for (size_t i = 0; i < made.v.len; i++) {
            index_reap_sst(ix, made.v.at[i]);
        }
    }
    sst_list_free(&made);
    if (r == 0 && ix->opt.manifest_stored != NULL) {
        ix->opt.manifest_stored(ix->opt.arg, f->last_seq + 1);
    }
    return r;
}

static bool next_frozen(struct index *ix, struct index_frozen *ret_f)
{
    rt_mutex_lock(&ix->m);
    bool more = ix->frozen.len > 0 && index_fenced(ix) == 0 && !rt_cancelled();
    if (more) {
        *ret_f = ix->frozen.at[0];
        ix->compact_failed = false;
    } else {
        ix->flusher_runs = false;
        rt_waitq_wake_all(&ix->q);
    }
    rt_mutex_unlock(&ix->m);
    return more;
}

static void flusher(void *arg) WAITS
{
    struct index *ix = arg;
    struct index_frozen f;
    while (next_frozen(ix, &f)) {
        int r = flush_one(ix, &f);
        if (r == 0) {
            index_compact_kick(ix);
            index_reap_kick(ix);
        } else if (r != ERR_FENCED && r != -ECANCELED) {
            msg_warn("index", "flushing the memtable failed: %s; trying again", err_name(r));
            (void)rt_sleep_ms(RETRY_MS);
        }
    }
}

/* True when the caller is to start the flusher. */
static bool claim_flusher(struct index *ix)
{
    rt_mutex_lock(&ix->m);
    bool start = ix->writable && !ix->flusher_runs && ix->frozen.len > 0;
    ix->flusher_runs |= start;
    rt_mutex_unlock(&ix->m);
    return start;
}

void index_flush_kick(struct index *ix)
{
    if (claim_flusher(ix) && rt_group_spawn(ix->workers, "index-flush", flusher, ix) < 0) {
        /* No fiber to be had: the next batch asks again, and index_flush_help() does. */
        rt_mutex_lock(&ix->m);
        ix->flusher_runs = false;
        rt_waitq_wake_all(&ix->q);
        rt_mutex_unlock(&ix->m);
    }
}

void index_flush_help(struct index *ix) WAITS
{
    if (claim_flusher(ix) && rt_group_spawn(ix->workers, "index-flush", flusher, ix) < 0) {
        flusher(ix);
    }
}

int index_flush(struct index *ix) WAITS
{
    int r = index_fenced(ix);
    if (r == 0) {
        r = index_freeze(ix);
    }
    if (r < 0) {
        return r;
    }
    index_flush_kick(ix);
    rt_mutex_lock(&ix->m);
    uint64_t want = ix->frozen_total;
    while (r == 0 && ix->flushed_total < want) {
        r = ix->writable ? index_flush_wait(ix) : -EROFS;
    }
    rt_mutex_unlock(&ix->m);
    return r;
}
