/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests: one at a time, each put-if-absent under the next number.
 *
 *     lock -> next version and manifest -> PUT, again and again -> stored: version, head, view ->
 * unlock
 *                                              |
 *                                              |-> another manifest has the number: FENCED, for
 *                                              |   ever
 *                                              '-> broken off, stored or not: STOPPED
 *
 * I9: the name is free or ours. A PUT whose answer was lost is sent again and then finds its own
 * object: the same bytes mean that it was stored (the salt makes them ours alone). Any other bytes
 * there are a rival's claim of the volume. A PUT that was broken off may be stored all the same,
 * and nobody knows: no other manifest of ours may ask for its number then, or ours would look like
 * a rival's. So the manifest in doubt is the last one of this process. It comes to that only at an
 * unclean close, or when the claim of an opener fails.
 *
 * I6: replay_from is the segment after the last one of the memtables that are in SSTs; it never
 * goes back.
 */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/msg.h"
#include "index/index_priv.h"
#include <errno.h>
#include <string.h>

#define COMPARE_BYTES (256u << 10)
#define SAY_EVERY_MS 60000
#define BACKOFF_FIRST_MS 50u
#define BACKOFF_MAX_MS 5000u
#define NEWEST_NAMES 16u
#define READ_TRIES 8u
#define LOOKS 4u

void index_fence(struct index *ix)
{
    int expected = 0;
    if (!atomic_compare_exchange_strong(&ix->fenced, &expected, ERR_FENCED)) {
        return;
    }
    rt_mutex_lock(&ix->m);
    rt_waitq_wake_all(&ix->q);
    rt_mutex_unlock(&ix->m);
    if (ix->opt.fenced != NULL) {
        ix->opt.fenced(ix->opt.arg);
    }
}

/* What was sent last may be stored or not: no other manifest is written. */
static void stop(struct index *ix)
{
    int expected = 0;
    if (atomic_compare_exchange_strong(&ix->fenced, &expected, -ECANCELED)) {
        rt_mutex_lock(&ix->m);
        rt_waitq_wake_all(&ix->q);
        rt_mutex_unlock(&ix->m);
    }
}

struct compare_place {
    struct obj_store *store;
    enum obj_class class;
    const char *name;
};

/* Where an object differs from ours, and what is there. */
struct difference {
    uint64_t off;
    ssize_t len;
    uint32_t crc;
};

/* 1 = the same, 0 = not: *ret_at says where; or the store's error. */
static int compare_once(const struct compare_place *p, const struct rt_chain *body, uint8_t *buf,
                        struct difference *ret_at) WAITS
{
    /* Reads on past the end of ours: a longer object is another one. */
    for (uint64_t off = 0; off <= body->len; off += COMPARE_BYTES) {
        size_t want = (size_t)MIN_OF(body->len - off, (uint64_t)COMPARE_BYTES);
        ssize_t got = obj_get(p->store, p->class, p->name, off, buf, COMPARE_BYTES);
        if (got < 0) {
            return (int)got;
        }
        rt_chain_copy_out(body, off, buf + COMPARE_BYTES, want);
        if ((size_t)got != want || memcmp(buf, buf + COMPARE_BYTES, want) != 0) {
            *ret_at = (struct difference){off, got, crc32c(0, buf, (size_t)got)};
            return 0;
        }
    }
    return 1;
}

/* "Another one" is a rival's, and ends the writer. So it takes two looks that saw the same: bytes
 * that were spoiled on their way are nobody's. */
int index_object_equals(struct obj_store *store, enum obj_class c, const char *name,
                        const struct rt_chain *body) WAITS
{
    auto_free uint8_t *buf = malloc(2 * COMPARE_BYTES);
    struct compare_place place = {store, c, name};
    struct difference before = {.len = -1};
    if (buf == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < LOOKS; i++) {
        struct difference now = {0};
        int r = compare_once(&place, body, buf, &now);
        if (r != 0) {
            return r;
        }
        if (now.off == before.off && now.len == before.len && now.crc == before.crc) {
            return 0;
        }
        before = now;
    }
    return -EBADMSG;
}

static bool is_hopeless(int r)
{
    return r == -EROFS || r == -EACCES || r == -EPERM || r == -ENOSPC || r == -EDQUOT ||
           r == -EINVAL || r == -ENOENT || r == -ENOTSUP;
}

int index_put_object(struct index *ix, enum obj_class c, const char *name,
                     const struct rt_chain *body, bool give_up) WAITS
{
    uint64_t backoff_ms = BACKOFF_FIRST_MS;
    uint64_t say_after_ns = 0;
    for (;;) {
        int r = obj_put(ix->opt.store, c, name, body);
        if (r == -EEXIST) {
            r = index_object_equals(ix->opt.store, c, name, body);
            if (r >= 0) {
                return r == 1 ? 0 : -EEXIST;
            }
        }
        if (r == 0 || r == -ECANCELED || (give_up && is_hopeless(r))) {
            return r;
        }
        if (index_fenced(ix) < 0) {
            return index_fenced(ix);
        }
        if (rt_now_ns() >= say_after_ns && obj_away_ms(ix->opt.store) == 0) { /* or it is told */
            msg_warn("index", "PUT %s failed: %s; trying again", name, err_name(r));
            say_after_ns = rt_after_ms(SAY_EVERY_MS);
        }
        r = rt_sleep_ms(backoff_ms);
        if (r < 0) {
            return r;
        }
        backoff_ms = MIN_OF(backoff_ms * 2, (uint64_t)BACKOFF_MAX_MS);
    }
}

/* 1 = there is a manifest of that number, 0 = there is none, or the store's error. */
static int manifest_exists(struct obj_store *store, uint64_t number) WAITS
{
    uint8_t byte;
    char name[OBJ_NAME_SIZE];
    manifest_name(number, name);
    ssize_t n = obj_get(store, OBJ_INDEX, name, 0, &byte, 1);
    return n >= 0 ? 1 : n == -ENOENT ? 0 : (int)n;
}

/*
 * A listing has nothing but the connection to vouch for it, and a store may show old ones. Numbers
 * are given without gaps, so the newest is the one whose successor is not there: that is asked for.
 */
static int newest_from(struct obj_store *store, uint64_t *number) WAITS
{
    int r = 1;
    while (r == 1 && *number < UINT64_MAX) {
        r = manifest_exists(store, *number + 1);
        *number += r == 1;
    }
    return r < 0 ? r : 0;
}

int index_manifest_newest(struct obj_store *store, uint64_t *ret_number) WAITS
{
    struct obj_names names = {0};
    int r = obj_list(store, OBJ_INDEX, MANIFEST_PREFIX, "", NEWEST_NAMES, &names);
    if (r < 0) {
        return r;
    }
    r = ERR_NOT_A_VOLUME;
    for (size_t i = 0; r != 0 && i < names.names.len; i++) {
        if (manifest_name_parse(names.names.at[i], ret_number) == 0) {
            r = 0;
        }
    }
    obj_names_free(&names);
    return r < 0 ? r : newest_from(store, ret_number);
}

int index_manifest_read(struct obj_store *store, const struct index_home *home, uint64_t number,
                        struct manifest *ret_m) WAITS
{
    char name[OBJ_NAME_SIZE];
    manifest_name(number, name);
    int r = -EBADMSG;
    for (unsigned tries = 0; r == -EBADMSG && tries < 2; tries++) {
        struct rt_buf *buf;
        size_t len;
        if (tries > 0) {
            obj_tell_spoilt(name);
        }
        r = obj_get_all(store, OBJ_INDEX, name, MANIFEST_SIZE_MAX, &buf, &len);
        if (r < 0) {
            return r == -EFBIG ? ERR_CORRUPT_MANIFEST : r;
        }
        r = manifest_decode(home, buf->data, len, ret_m);
        rt_buf_unref(buf);
        if (r == 0 && ret_m->number != number) {
            manifest_free(ret_m);
            r = -EBADMSG;
        }
    }
    if (r == -EBADMSG) {
        msg_error("index", "%s is corrupt or belongs to another volume", name);
        return ERR_CORRUPT_MANIFEST;
    }
    if (r == -ENOTSUP) {
        msg_error("index", "%s was written by a later version of this program", name);
        return ERR_FORMAT_TOO_NEW;
    }
    return r;
}

/* Whether the manifest behind that number is the claim of a later epoch: that one is never deleted,
 * whatever its writer has swept away since (I5). */
static bool is_overtaken(struct index *ix, uint64_t number, uint64_t epoch) WAITS
{
    struct manifest next;
    if (manifest_exists(ix->opt.store, number + 1) != 1 ||
        index_manifest_read(ix->opt.store, &(struct index_home){ix->opt.volume, ix->opt.keys},
                            number + 1, &next) < 0) {
        return false;
    }
    bool later = next.epoch > epoch;
    manifest_free(&next);
    return later;
}

int index_sst_missing(struct index *ix) WAITS
{
    rt_mutex_lock(&ix->m);
    uint64_t number = ix->head.number;
    uint64_t epoch = ix->head.epoch;
    rt_mutex_unlock(&ix->m);
    int r = manifest_exists(ix->opt.store, number);
    if (r == 1) {
        return ERR_CORRUPT_INDEX;
    }
    if (r == 0 && is_overtaken(ix, number, epoch)) {
        msg_error("index", "another writer has taken over, and has deleted what was read here");
        index_fence(ix);
        return ERR_FENCED;
    }
    return r == 0 || r == -ESTALE ? -EIO : r;
}

/* Runs of level 0 are numbered here, where their order is decided. */
static void number_run(const struct version *v, const struct index_edit *edit)
{
    if (edit->add == NULL || edit->add_level != 0) {
        return;
    }
    const struct sst_list *top = &v->levels[0];
    uint64_t run = top->v.len > 0 ? top->v.at[0]->meta.run + 1 : 1;
    for (size_t i = 0; i < edit->add->v.len; i++) {
        edit->add->v.at[i]->meta.run = run;
    }
}

static void next_head(const struct index *ix, const struct index_edit *edit, struct manifest *m)
{
    *m = edit->head != NULL ? *edit->head : ix->head;
    m->number = ix->head.number + 1;
    m->first_of_epoch = m->epoch != ix->head.epoch;
    if (edit->head == NULL) {
        m->clean = false;
        m->closed_through = 0;
    }
    if (edit->flushed != NULL) {
        ASSERT(edit->flushed->last_seq + 1 >= m->replay_from); /* I6 */
        m->replay_from = edit->flushed->last_seq + 1;
        m->log_epoch = edit->flushed->log_epoch;
        m->last_batch = edit->flushed->last_batch;
    }
    m->swept_through = MAX_OF(m->swept_through, ix->swept_through);
    rt_random_bytes(m->salt, sizeof m->salt);
}

static int store_manifest(struct index *ix, const struct manifest *m, const struct version *v,
                          bool give_up) WAITS
{
    struct manifest full = *m;
    struct bytes_writer out = {0};
    struct rt_chain body = {0};
    char name[OBJ_NAME_SIZE];
    full.ssts.at = NULL;
    full.ssts.len = 0;
    full.ssts.cap = 0;
    int r = version_to_manifest(v, &full);
    if (r == 0) {
        struct index_home home = index_home(&ix->opt);
        r = manifest_encode(&home, &full, &out);
    }
    manifest_drop_ssts(&full);
    if (r == 0) {
        r = rt_chain_add(&body, NULL, out.data, (uint32_t)out.len);
    }
    if (r == 0) {
        manifest_name(m->number, name);
        r = index_put_object(ix, OBJ_INDEX, name, &body, give_up);
        if (r < 0 && r != -EEXIST) {
            stop(ix);
        }
    }
    rt_chain_free(&body);
    bytes_writer_free(&out);
    return r;
}

/* The manifest is stored: makes it what this process goes by. */
static void install(struct index *ix, const struct index_edit *edit, const struct manifest *m,
                    struct version *v) WAITS
{
    struct view *view;
    uint64_t generation;
    struct memtable *flushed = NULL;
    rt_mutex_lock(&ix->m);
    struct version *old = ix->version;
    ix->version = v;
    ix->head = *m;
    if (edit->flushed != NULL) {
        flushed = ix->frozen.at[0].mt;
        ix->frozen.len--;
        memmove(ix->frozen.at, ix->frozen.at + 1, ix->frozen.len * sizeof ix->frozen.at[0]);
        ix->flushed_total++;
        ix->flushes++;
    }
    while (index_view_make(ix, &view, &generation) < 0) {
        /* What is stored cannot be taken back. Readers go on with the old view, which is as good.
         */
        rt_mutex_unlock(&ix->m);
        rt_yield();
        rt_mutex_lock(&ix->m);
    }
    rt_mutex_unlock(&ix->m);
    index_view_publish(ix, view, generation);
    memtable_unref(flushed);
    version_unref(old);
    rt_mutex_lock(&ix->m);
    rt_waitq_wake_all(&ix->q);
    rt_mutex_unlock(&ix->m);
}

static int commit_locked(struct index *ix, const struct index_edit *edit) WAITS
{
    struct version *v;
    struct manifest m;
    int r = index_fenced(ix);
    if (r < 0) {
        return r;
    }
    number_run(ix->version, edit);
    next_head(ix, edit, &m);
    r = version_edit(ix->version, edit->remove, edit->add, edit->add_level, &v);
    if (r < 0) {
        return r;
    }
    r = store_manifest(ix, &m, v, edit->give_up);
    if (r < 0) {
        version_unref(v);
        return r;
    }
    uint64_t before = ix->head.number;
    /* I5. And what stood before a claim is the sweeper's. */
    bool keep = ix->head.first_of_epoch || m.first_of_epoch;
    install(ix, edit, &m, v);
    if (!keep) {
        index_reap_manifest(ix, before);
    }
    return 0;
}

int index_commit(struct index *ix, const struct index_edit *edit) WAITS
{
    rt_lock_take(&ix->manifest_lock);
    int r = commit_locked(ix, edit);
    rt_lock_release(&ix->manifest_lock);
    if (r == -EEXIST && edit->head != NULL && edit->give_up) {
        return ERR_LOST_OPEN_RACE;
    }
    if (r == -EEXIST) {
        msg_error("index", "another writer has written the next manifest");
        index_fence(ix);
        return ERR_FENCED;
    }
    if (r == 0 && edit->retire) {
        for (size_t i = 0; i < edit->remove->v.len; i++) {
            index_reap_sst(ix, edit->remove->v.at[i]);
        }
    }
    return r;
}
