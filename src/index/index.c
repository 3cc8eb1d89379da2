/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an index.
 *
 *     index_load() --> index_claim() --> index_recheck() --> running --> index_close()
 *      reads only       one manifest      writable from       flushes, compactions,
 *                                         here on             deletions in fibers of their own
 *
 * The fibers belong to two groups: workers (flusher, compactor), which a clean close lets come to
 * their end, and reapers, which may be cut short at any time.
 */
#include "index/index.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "index/index_priv.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOAD_TRIES 8u
#define MEMTABLE_BYTES_DEFAULT (32ull << 20)
#define DELETE_AFTER_DEFAULT_MS 600000u
#define SEGMENTS_MAX_DEFAULT 1000u

int index_format(struct obj_store *store, const struct uuid *volume, const struct crypt_keys *keys)
    WAITS
{
    struct manifest m = {.first_of_epoch = true, .replay_from = 1};
    struct bytes_writer out = {0};
    struct rt_chain body = {0};
    char name[OBJ_NAME_SIZE];
    rt_random_bytes(m.salt, sizeof m.salt);
    manifest_name(0, name);
    int r = manifest_encode(&(struct index_home){*volume, keys}, &m, &out);
    if (r == 0) {
        r = rt_chain_add(&body, NULL, out.data, (uint32_t)out.len);
    }
    if (r == 0) {
        r = obj_put(store, OBJ_INDEX, name, &body);
    }
    if (r == -EEXIST) { /* perhaps by an attempt of this very call, whose reply was lost */
        int same = index_object_equals(store, OBJ_INDEX, name, &body);
        r = same < 0 ? same : same == 1 ? 0 : -EEXIST;
    }
    rt_chain_free(&body);
    bytes_writer_free(&out);
    return r;
}

/* The newest manifest. One that goes between listing and reading has been replaced: look again. */
static int read_newest(const struct index_options *opt, struct manifest *ret_m) WAITS
{
    int r = -ENOENT;
    for (unsigned tries = 0; r == -ENOENT && tries < LOAD_TRIES; tries++) {
        uint64_t number;
        r = index_manifest_newest(opt->store, &number);
        if (r == 0) {
            struct index_home home = index_home(opt);
            r = index_manifest_read(opt->store, &home, number, ret_m);
        }
    }
    if (r == 0 && !opt->read_only && (ret_m->features_ro_compat & ~MANIFEST_RO_COMPAT_KNOWN) != 0) {
        manifest_free(ret_m);
        return ERR_FORMAT_TOO_NEW;
    }
    return r;
}

static void set_defaults(struct index_options *opt)
{
    opt->memtable_bytes = opt->memtable_bytes ? opt->memtable_bytes : MEMTABLE_BYTES_DEFAULT;
    opt->delete_after_ms = opt->delete_after_ms ? opt->delete_after_ms : DELETE_AFTER_DEFAULT_MS;
    opt->segments_max = opt->segments_max ? opt->segments_max : SEGMENTS_MAX_DEFAULT;
    opt->sst_bytes = opt->sst_bytes ? opt->sst_bytes : SST_TARGET_BYTES;
}

static void index_init(struct index *ix, const struct index_options *opt)
{
    ix->opt = *opt;
    set_defaults(&ix->opt);
    rt_mutex_init(&ix->m);
    rt_waitq_init(&ix->q);
    rt_lock_init(&ix->manifest_lock, RT_RANK_MANIFEST);
    list_init(&ix->dead);
    for (unsigned i = 0; i < INDEX_SLOTS; i++) {
        rt_mutex_init(&ix->slots[i].m);
    }
}

/* Also of a half-built index. */
static void index_free(struct index *ix)
{
    index_reap_free(ix);
    for (unsigned i = 0; i < INDEX_SLOTS; i++) {
        view_unref(ix->slots[i].view);
        rt_mutex_destroy(&ix->slots[i].m);
    }
    memtable_unref(ix->active);
    for (size_t i = 0; i < ix->frozen.len; i++) {
        memtable_unref(ix->frozen.at[i].mt);
    }
    vec_free(&ix->frozen);
    version_unref(ix->version);
    for (unsigned i = 0; i < INDEX_LEVELS; i++) {
        bytes_writer_free(&ix->compact_after[i]);
    }
    rt_group_destroy(ix->workers);
    rt_group_destroy(ix->reapers);
    cache_destroy(ix->cache);
    rt_lock_destroy(&ix->manifest_lock);
    rt_mutex_destroy(&ix->m);
    free(ix);
}

/* Everything that needs memory. The SSTs of m move to the version. */
static int index_build(struct index *ix, struct manifest *m)
{
    struct view *view = NULL;
    uint64_t generation = 0;
    int r = cache_create(ix->opt.cache_bytes, RT_MEM_INDEX_CACHE, &ix->cache);
    if (r == 0) {
        r = rt_group_create(&ix->workers);
    }
    if (r == 0) {
        r = rt_group_create(&ix->reapers);
    }
    if (r == 0) {
        r = memtable_create(ix->opt.memtable_bytes, &ix->active);
    }
    if (r == 0) {
        struct index_home home = index_home(&ix->opt);
        r = version_from_manifest(&home, m, &ix->version);
    }
    if (r == 0) {
        r = index_view_make(ix, &view, &generation);
    }
    if (r < 0) {
        return r;
    }
    index_view_publish(ix, view, generation);
    ix->reads = (struct sst_source){ix->opt.store, ix->cache, OBJ_INDEX};
    ix->head = *m;
    ix->applied_seq = m->replay_from - 1;
    ix->applied_batch = m->last_batch;
    ix->applied_log_epoch = m->log_epoch;
    ix->swept_through = m->swept_through;
    return 0;
}

int index_load(const struct index_options *opt, struct index **ret_index) WAITS
{
    struct manifest m = {0};
    void *memory = NULL;
    int r = read_newest(opt, &m);
    if (r < 0) {
        return r;
    }
    if (posix_memalign(&memory, 64, sizeof(struct index)) != 0) {
        manifest_free(&m);
        return -ENOMEM;
    }
    struct index *ix = memset(memory, 0, sizeof *ix);
    index_init(ix, opt);
    r = index_build(ix, &m);
    if (r < 0) {
        manifest_free(&m);
        index_free(ix);
        return r;
    }
    *ret_index = ix;
    return 0;
}

void index_manifest(const struct index *ix, struct index_manifest_info *ret_info)
{
    struct rt_mutex *m = (struct rt_mutex *)&ix->m;
    rt_mutex_lock(m);
    const struct manifest *h = &ix->head;
    *ret_info = (struct index_manifest_info){.number = h->number,
                                             .epoch = h->epoch,
                                             .open_id = h->open_id,
                                             .replay_from = h->replay_from,
                                             .log_epoch = h->log_epoch,
                                             .clean = h->clean,
                                             .closed_through = h->closed_through,
                                             .last_batch = h->last_batch};
    memcpy(ret_info->owner, h->owner, sizeof h->owner);
    rt_mutex_unlock(m);
}

int index_claim(struct index *ix, const struct uuid *open_id, const char *owner,
                uint64_t *ret_epoch) WAITS
{
    struct manifest head = ix->head;
    ASSERT(!ix->opt.read_only);
    head.epoch++;
    head.open_id = *open_id;
    head.clean = false;
    head.closed_through = 0;
    (void)snprintf(head.owner, sizeof head.owner, "%s", owner);
    struct index_edit edit = {.head = &head, .give_up = true};
    int r = index_commit(ix, &edit);
    if (r < 0) {
        return r;
    }
    ix->epoch_first = ix->head.number;
    *ret_epoch = ix->head.epoch;
    return 0;
}

int index_recheck(struct index *ix) WAITS
{
    uint64_t newest;
    int r = index_manifest_newest(ix->opt.store, &newest);
    if (r < 0) {
        return r;
    }
    if (newest != ix->head.number) {
        return ERR_LOST_OPEN_RACE;
    }
    rt_mutex_lock(&ix->m);
    ix->writable = true;
    rt_mutex_unlock(&ix->m);
    index_flush_kick(ix);
    index_compact_kick(ix);
    index_sweep_start(ix);
    return 0;
}

int index_replay_newest(struct index *ix, uint64_t *ret_replay_from) WAITS
{
    struct manifest m = {0};
    int r = read_newest(&ix->opt, &m);
    if (r == 0) {
        *ret_replay_from = m.replay_from;
        manifest_free(&m);
    }
    return r;
}

bool index_is_strained(const struct index *ix)
{
    struct rt_mutex *m = (struct rt_mutex *)&ix->m;
    rt_mutex_lock(m);
    bool strained =
        ix->writable &&
        (ix->frozen.len >= INDEX_FROZEN_MAX ||
         (version_run_count(ix->version) >= INDEX_RUNS_STRAINED && !ix->compact_failed));
    rt_mutex_unlock(m);
    return strained;
}

/* Lets the workers end by themselves: 0, or -ECANCELED. */
static int wait_workers(struct index *ix) WAITS
{
    int r = 0;
    rt_mutex_lock(&ix->m);
    ix->closing = true;
    rt_waitq_wake_all(&ix->q);
    while (r == 0 && (ix->flusher_runs || ix->compactor_runs)) {
        r = rt_waitq_wait(&ix->q, &ix->m, RT_FOREVER);
    }
    rt_mutex_unlock(&ix->m);
    return r;
}

static int close_cleanly(struct index *ix, uint64_t last_seq) WAITS
{
    int r = index_flush(ix);
    if (r == 0) {
        r = wait_workers(ix);
    }
    if (r < 0) {
        return r;
    }
    struct manifest head = ix->head;
    head.clean = true;
    head.closed_through = last_seq;
    /* All up to there is in SSTs, or a fence and the dead numbers after it: nobody has to step over
     * the openings that wrote nothing. */
    head.replay_from = MAX_OF(head.replay_from, last_seq + 1);
    struct index_edit edit = {.head = &head};
    return index_commit(ix, &edit);
}

int index_close(struct index *ix, bool clean, uint64_t last_seq) WAITS
{
    rt_group_cancel(ix->reapers);
    int r = index_fenced(ix);
    if (r == -ECANCELED && !clean) {
        r = 0;
    }
    if (r == 0 && clean && ix->writable) {
        r = close_cleanly(ix, last_seq);
    }
    rt_mutex_lock(&ix->m);
    ix->closing = true;
    rt_waitq_wake_all(&ix->q);
    rt_mutex_unlock(&ix->m);
    rt_group_cancel(ix->workers);
    rt_group_wait(ix->workers);
    rt_group_wait(ix->reapers);
    index_free(ix);
    return r;
}

void index_counts(const struct index *ix, struct index_counts *ret_counts)
{
    struct rt_mutex *m = (struct rt_mutex *)&ix->m;
    struct cache_counts cached;
    cache_counts(ix->cache, &cached);
    rt_mutex_lock(m);
    struct index_counts c = {.memtable_bytes = memtable_bytes(ix->active),
                             .flushes = ix->flushes,
                             .compactions = ix->compactions,
                             .manifest_number = ix->head.number,
                             .replay_from = ix->head.replay_from,
                             .cache_hits = cached.hits,
                             .cache_misses = cached.misses};
    for (size_t i = 0; i < ix->frozen.len; i++) {
        c.memtable_bytes += memtable_bytes(ix->frozen.at[i].mt);
    }
    for (unsigned i = 0; i < INDEX_LEVELS; i++) {
        c.sst_count += ix->version->levels[i].v.len;
        c.sst_bytes += sst_list_bytes(&ix->version->levels[i]);
    }
    rt_mutex_unlock(m);
    *ret_counts = c;
}
