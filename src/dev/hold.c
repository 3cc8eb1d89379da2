/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds: data that no device has, or has any more. A hold is a device in no tree, so that nobody
 * finds it, attaches to it or lists it; copies go to it and from it.
 *
 * H1. Its inode comes into being, and goes, in one transaction with a record (docs/FORMAT.md
 *     "Holds"). So what a crash leaves behind has a record, and the next opening for writing
 *     deletes whatever has one: a hold never outlives the registry that made it.
 * H2. It is in nobody's write cache: copies into it mark no loss.
 * H3. When its deletion fails it is tried again: what it refers to stays as long as it does, and
 *     whoever wants that removed (sanitize.c) waits for it.
 */
#include "dev/hold.h"
#include "base/assert.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/vec.h"
#include "rt/rt.h"
#include <stdlib.h>

#define VERSION 1u
#define FILL_STEP_BYTES (16ull << 20)
#define RETRY_MS 1000u

static void key_of(uint64_t inode, uint8_t ret_key[DEV_HOLD_KEY_BYTES])
{
    ret_key[0] = DEV_KEY_HOLD;
    be64_store(ret_key + 1, inode);
}

static int commit_new(struct dev_registry *g, struct dev_info *info) WAITS
{
    static const uint8_t value = VERSION;
    uint8_t key[DEV_HOLD_KEY_BYTES];
    struct vol_txn *t;
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    r = vol_txn_inode_create(t, info->size_bytes, &info->inode);
    if (r >= 0) {
        key_of(info->inode, key);
        r = vol_txn_put(t, key, sizeof key, &value, sizeof value);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

/* The record alone, when its inode is not there. */
static int commit_gone(struct dev_registry *g, uint64_t inode, bool with_inode) WAITS
{
    uint8_t key[DEV_HOLD_KEY_BYTES];
    struct vol_txn *t;
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    key_of(inode, key);
    r = vol_txn_delete(t, key, sizeof key);
    if (r >= 0 && with_inode) {
        r = vol_txn_inode_delete(t, inode);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

int dev_hold_create(struct dev_registry *g, uint64_t size_bytes, struct dev **ret_dev)
{
    struct dev_info info = {
        .size_bytes = size_bytes, .logical_block_bytes = 512, .physical_block_bytes = 4096};
    if (size_bytes == 0 || size_bytes > VOL_SIZE_MAX) {
        return -EINVAL;
    }
    int r = commit_new(g, &info);
    if (r < 0) {
        return r;
    }
    r = dev_new(g, &info, ret_dev);
    if (r < 0) {
        rt_shield();
        (void)!commit_gone(g, info.inode, true);
        rt_unshield();
        return r;
    }
    (*ret_dev)->is_hold = true;
    return 0;
}

static int delete_record(struct dev_registry *g, uint64_t inode) WAITS
{
    rt_shield();
    int r = commit_gone(g, inode, true);
    if (r == -ENOENT) {
        r = commit_gone(g, inode, false);
    }
    rt_unshield();
    return r;
}

static struct dev *next_orphan(struct dev_registry *g)
{
    rt_mutex_lock(&g->m);
    struct list *first = list_pop_front(&g->orphans);
    g->adopts = first != NULL;
    rt_mutex_unlock(&g->m);
    return first ? container_of(first, struct dev, orphan_link) : NULL;
}

static void keep_orphan(struct dev *d)
{
    struct dev_registry *g = d->registry;
    rt_mutex_lock(&g->m);
    list_push_back(&g->orphans, &d->orphan_link);
    rt_mutex_unlock(&g->m);
}

/* Until there are none, or the registry closes. */
static void adopt(void *arg)
{
    struct dev_registry *g = arg;
    struct dev *d;
    while ((d = next_orphan(g)) != NULL) {
        int r = rt_sleep_ms(RETRY_MS);
        r = r == 0 ? delete_record(g, d->id.inode) : r;
        if (r == 0) {
            dev_unref(d);
            continue;
        }
        keep_orphan(d);
        if (r == -ECANCELED || vol_is_fenced(g->v)) {
            return; /* and nobody else tries any more */
        }
    }
}

static void orphan(struct dev *d)
{
    struct dev_registry *g = d->registry;
    rt_mutex_lock(&g->m);
    bool first = !g->adopts;
    g->adopts = true;
    list_push_back(&g->orphans, &d->orphan_link);
    rt_mutex_unlock(&g->m);
    if (first && rt_group_spawn(g->work, "dev hold", adopt, g) < 0) {
        rt_mutex_lock(&g->m);
        g->adopts = false; /* the next one tries it */
        rt_mutex_unlock(&g->m);
    }
}

void dev_hold_close(struct dev_registry *g)
{
    struct dev *d;
    while ((d = next_orphan(g)) != NULL) {
        dev_unref(d);
    }
}

void dev_hold_destroy(struct dev *d)
{
    if (!d) {
        return;
    }
    ASSERT(d->is_hold && atomic_load(&d->refs) == 1);
    vol_file_close(take(d->file));
    int r = delete_record(d->registry, d->id.inode);
    if (r < 0) {
        msg_debug("dev", "hold %llu is left for now: %s", (unsigned long long)d->id.inode,
                  err_text(r));
        orphan(d);
        return;
    }
    dev_unref(d);
}

static int compare_ranges(const void *a, const void *b)
{
    uint64_t x = ((const struct dev_range *)a)->first_page;
    uint64_t y = ((const struct dev_range *)b)->first_page;
    return (x > y) - (x < y);
}

/*
 * What is to be locked, as the pages of all pieces, each page once.
 */
static size_t plan_locks(const struct dev_fill *f, struct dev_range *ret)
{
    size_t count = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct dev_piece *p = &f->pieces[i];
        ret[count++] = (struct dev_range){.first_page = p->src_off / VOL_PAGE_BYTES,
                                          .last_page = (p->src_off + p->len - 1) / VOL_PAGE_BYTES};
    }
    qsort(ret, count, sizeof *ret, compare_ranges);
    size_t kept = 0;
    for (size_t i = 1; i < count; i++) {
        if (ret[i].first_page <= ret[kept].last_page) {
            ret[kept].last_page = MAX_OF(ret[kept].last_page, ret[i].last_page);
        } else {
            ret[++kept] = ret[i];
        }
    }
    return kept + 1;
}

static int fill_piece(const struct dev_fill *f, const struct dev_piece *p) WAITS
{
    for (uint64_t done = 0; done < p->len;) {
        uint64_t len = MIN_OF(p->len - done, FILL_STEP_BYTES);
        if (!f->may_go_on(f->arg)) {
            return -ECANCELED;
        }
        int r = vol_copy(f->src->file, p->src_off + done, f->hold->file, p->hold_off + done, len);
        if (r < 0) {
            return r;
        }
        done += len;
        rt_yield(); /* it may have been done without a wait */
    }
    return 0;
}

static bool is_sound(const struct dev_fill *f)
{
    uint64_t size = dev_size(f->src);
    for (size_t i = 0; i < f->count; i++) {
        const struct dev_piece *p = &f->pieces[i];
        if (p->len == 0 || p->src_off > size || p->len > size - p->src_off) {
            return false;
        }
    }
    return f->hold->is_hold && !f->src->is_hold;
}

int dev_hold_fill(const struct dev_fill *f)
{
    if (f->count == 0) {
        return 0;
    }
    if (!is_sound(f)) {
        return -EINVAL;
    }
    auto_free struct dev_range *ranges = calloc(f->count, sizeof *ranges);
    if (!ranges) {
        return -ENOMEM;
    }
    uint64_t end = 0;
    for (size_t i = 0; i < f->count; i++) {
        end = MAX_OF(end, f->pieces[i].src_off + f->pieces[i].len);
    }
    size_t count = plan_locks(f, ranges);
    int r = dev_range_lock_all(f->src, ranges, count, end);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < f->count && r == 0; i++) {
        r = fill_piece(f, &f->pieces[i]);
    }
    while (count > 0) {
        dev_range_unlock(f->src, &ranges[--count]);
    }
    return r;
}

struct inode {
    uint64_t number;
};

struct leftovers {
    VEC(struct inode) inodes;
};

static int load(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct leftovers *all = arg;
    (void)value;
    (void)value_len;
    if (key_len != DEV_HOLD_KEY_BYTES) {
        return 0;
    }
    struct inode i = {be64_load((const uint8_t *)key + 1)};
    return vec_push(&all->inodes, i);
}

int dev_hold_open(struct dev_registry *g)
{
    const uint8_t prefix = DEV_KEY_HOLD;
    struct leftovers all = {0};
    int r = vol_epoch(g->v) != 0 ? vol_scan(g->v, &prefix, 1, load, &all) : 0;
    for (size_t i = 0; i < all.inodes.len && r >= 0; i++) {
        r = delete_record(g, all.inodes.at[i].number);
    }
    vec_free(&all.inodes);
    return r;
}
