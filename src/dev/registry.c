/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of devices and targets: loading, looking up, listing. Changes are in change.c.
 *
 * INVARIANTS, under g->m:
 *   1. a device is in the tree exactly while its record is in the volume and it is not gone;
 *   2. an iSCSI device's target is in the tree of targets, and counts it in info.luns;
 *   3. the tree holds one reference of each of its devices.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/vec.h"
#include "dev/access.h"
#include "dev/dev_priv.h"
#include "dev/hold.h"
#include "dev/overwrite.h"
#include "dev/paths.h"
#include "dev/record.h"
#include "dev/reservation.h"
#include "dev/witness.h"
#include "rt/rt.h"
#include <stdio.h>

static int compare_keys(const struct dev_key *a, const struct dev_key *b)
{
    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }
    int c = strcmp(a->name, b->name);
    if (c != 0) {
        return c;
    }
    return a->lun < b->lun ? -1 : a->lun > b->lun;
}

struct dev_key dev_key_of(const struct dev_info *info)
{
    return (struct dev_key){.kind = info->kind, .lun = info->lun, .name = info->name};
}

static int compare_device(const void *key, const struct tree_node *n)
{
    struct dev_key have = dev_key_of(&container_of(n, struct dev, node)->id);
    return compare_keys(key, &have);
}

static int compare_target(const void *key, const struct tree_node *n)
{
    return strcmp(key, container_of(n, struct dev_target, node)->info.iqn);
}

struct dev *dev_tree_find(struct dev_registry *g, const struct dev_key *key)
{
    return tree_entry(tree_find(&g->devices, key), struct dev, node);
}

struct dev *dev_tree_by_uuid(struct dev_registry *g, const struct uuid *uuid)
{
    tree_for_each(&g->devices, struct dev, node, d) {
        if (uuid_equal(&d->id.uuid, uuid)) {
            return d;
        }
    }
    return NULL;
}

struct dev *dev_tree_from(struct dev_registry *g, const struct dev_key *key)
{
    return tree_entry(tree_lower_bound(&g->devices, key), struct dev, node);
}

struct dev_target *dev_target_lookup(struct dev_registry *g, const char *iqn)
{
    return tree_entry(tree_find(&g->targets, iqn), struct dev_target, node);
}

int dev_new(struct dev_registry *g, const struct dev_info *info, struct dev **ret_dev)
{
    struct dev *d = calloc(1, sizeof *d);
    if (!d) {
        return -ENOMEM;
    }
    int r = vol_file_open(g->v, info->inode, &d->file);
    if (r < 0) {
        free(d);
        return r;
    }
    d->registry = g;
    d->id = *info;
    atomic_init(&d->refs, 1);
    atomic_init(&d->gone, false);
    atomic_init(&d->write_cache, info->write_cache);
    atomic_init(&d->read_only, info->read_only);
    atomic_init(&d->ejected, info->ejected);
    atomic_init(&d->sanitize, info->sanitize);
    d->sanitize_ause = info->sanitize_ause;
    d->overwrites = info->overwrite;
    atomic_init(&d->saved_modes, info->saved_modes);
    for (unsigned i = 0; i < DEV_THRESHOLDS; i++) {
        atomic_init(&d->saved_thresholds[i], info->saved_thresholds[i]);
    }
    atomic_init(&d->size_bytes, vol_file_size(d->file));
    dev_ranges_init(&d->ranges);
    dev_loss_init(d);
    rt_mutex_init(&d->m);
    list_init(&d->watches);
    *ret_dev = d;
    return 0;
}

struct dev *dev_ref(struct dev *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void dev_unref(struct dev *d)
{
    if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    ASSERT(d->attached == 0);
    struct dev_keep *kept = dev_kept(d);
    if (kept) {
        kept->free(kept);
    }
    bytes_writer_free(&d->reservation);
    free(d->overwrite);
    vol_file_close(d->file);
    dev_ranges_destroy(&d->ranges);
    dev_loss_destroy(d);
    rt_mutex_destroy(&d->m);
    free(d);
}

void dev_tree_add(struct dev_registry *g, struct dev *d)
{
    struct dev_key key = dev_key_of(&d->id);
    bool added = tree_insert(&g->devices, &key, &d->node);
    ASSERT(added);
    if (d->id.kind == DEV_ISCSI) {
        struct dev_target *t = dev_target_lookup(g, d->id.name);
        ASSERT(t != NULL);
        t->info.luns++;
        t->generation = ++g->generation;
    }
}

void dev_tree_remove(struct dev_registry *g, struct dev *d)
{
    tree_remove(&g->devices, &d->node);
    if (d->id.kind == DEV_ISCSI) {
        struct dev_target *t = dev_target_lookup(g, d->id.name);
        ASSERT(t != NULL && t->info.luns > 0);
        t->info.luns--;
        t->generation = ++g->generation;
    }
}

struct loading {
    struct dev_registry *g;
    VEC(struct dev_info) devices;
};

/* A record that does not decode costs that device, not the server; a later version's record is not
 * for us to skip. */
static int bad_record(int r, const void *key, size_t key_len)
{
    int shown = key_len > 1 ? (int)MIN_OF(key_len - 1, 255) : 0;
    msg_error("dev", "the record of \"%.*s\" cannot be used: %s", shown, (const char *)key + 1,
              err_text(r));
    return r == ERR_CORRUPT_RECORD ? 0 : r;
}

static int load_target(void *arg, const void *key, size_t key_len, const void *value,
                       size_t value_len)
{
    struct loading *l = arg;
    struct dev_target *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    int r = dev_target_decode(&(struct dev_record_bytes){key, key_len, value, value_len}, &t->info);
    if (r < 0) {
        free(t);
        return bad_record(r, key, key_len);
    }
    t->generation = ++l->g->generation;
    if (!tree_insert(&l->g->targets, t->info.iqn, &t->node)) {
        free(t);
    }
    return 0;
}

static int load_device(void *arg, const void *key, size_t key_len, const void *value,
                       size_t value_len)
{
    struct loading *l = arg;
    struct dev_info info;
    int r = dev_record_decode(&(struct dev_record_bytes){key, key_len, value, value_len}, &info);
    if (r < 0) {
        return bad_record(r, key, key_len);
    }
    if (info.kind == DEV_ISCSI && !dev_target_lookup(l->g, info.name)) {
        msg_error("dev", "LUN %u of \"%s\" has no target", info.lun, info.name);
        return 0;
    }
    return vec_push(&l->devices, info);
}

static int load(struct loading *l) WAITS
{
    const uint8_t targets = DEV_KEY_TARGET;
    const uint8_t devices = DEV_KEY_DEVICE;
    int r = vol_scan(l->g->v, &targets, 1, load_target, l);
    if (r < 0) {
        return r;
    }
    r = dev_access_load(l->g);
    if (r < 0) {
        return r;
    }
    r = dev_paths_load(l->g);
    if (r < 0) {
        return r;
    }
    r = vol_scan(l->g->v, &devices, 1, load_device, l);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < l->devices.len; i++) {
        struct dev *d;
        r = dev_new(l->g, &l->devices.at[i], &d);
        if (r == -ENOENT || r == ERR_CORRUPT_RECORD) {
            msg_error("dev", "device \"%s\" has lost its inode %llu: %s", l->devices.at[i].name,
                      (unsigned long long)l->devices.at[i].inode, err_text(r));
            continue;
        }
        if (r < 0) {
            return r;
        }
        dev_tree_add(l->g, d);
    }
    return 0;
}

/* Who only reads leaves it to others. */
static int resume_sanitizing(struct dev_registry *g)
{
    int r = 0;
    tree_for_each(&g->devices, struct dev, node, d) {
        if (r >= 0 && dev_sanitize_state(d, NULL) == DEV_SANITIZING && !vol_is_read_only(g->v)) {
            r = dev_sanitize_resume(d);
        }
    }
    return r;
}

int dev_registry_open(struct vol *v, const char *witness, struct dev_registry **ret_registry)
{
    struct dev_registry *g = calloc(1, sizeof *g);
    if (!g) {
        return -ENOMEM;
    }
    g->v = v;
    g->devices = tree_make(compare_device);
    g->targets = tree_make(compare_target);
    rt_lock_init(&g->change, RT_RANK_REGISTRY);
    rt_mutex_init(&g->m);
    list_init(&g->orphans);
    rt_event_init(&g->marking);
    g->witness = dev_witness_open(witness);
    struct loading l = {.g = g};
    int r = load(&l);
    vec_free(&l.devices);
    if (r >= 0) {
        r = dev_loss_open(g);
    }
    if (r >= 0) {
        r = dev_reservation_open(g);
    }
    if (r >= 0) {
        r = dev_hold_open(g);
    }
    if (r >= 0) {
        r = dev_overwrite_open(g);
    }
    if (r >= 0) {
        r = rt_group_create(&g->work);
    }
    if (r >= 0) {
        r = rt_group_spawn(g->work, "dev tender", dev_loss_tender, g);
    }
    if (r >= 0) {
        r = resume_sanitizing(g);
    }
    if (r < 0) {
        dev_registry_close(g);
        return r;
    }
    *ret_registry = g;
    return 0;
}

void dev_registry_close(struct dev_registry *g)
{
    if (!g) {
        return;
    }
    if (g->work) {
        rt_group_cancel(g->work);
        rt_group_wait(g->work);
        rt_group_destroy(g->work);
        dev_loss_close(g);
    }
    dev_hold_close(g);
    tree_for_each(&g->devices, struct dev, node, d) {
        tree_remove(&g->devices, &d->node);
        ASSERT(atomic_load(&d->refs) == 1);
        dev_unref(d);
    }
    tree_for_each(&g->targets, struct dev_target, node, t) {
        tree_remove(&g->targets, &t->node);
        dev_access_unref(t->access);
        dev_paths_unref(t->paths);
        free(t);
    }
    dev_access_unref(g->discovery);
    dev_groups_unref(g->groups);
    dev_witness_close(g->witness);
    rt_event_destroy(&g->marking);
    rt_lock_destroy(&g->change);
    rt_mutex_destroy(&g->m);
    free(g);
}

static int find(struct dev_registry *g, const struct dev_key *key, struct dev **ret_dev)
{
    rt_mutex_lock(&g->m);
    struct dev *d = dev_tree_find(g, key);
    if (d) {
        *ret_dev = dev_ref(d);
    }
    rt_mutex_unlock(&g->m);
    return d ? 0 : -ENOENT;
}

static bool is_nbd(const struct tree_node *n)
{
    return n && container_of(n, struct dev, node)->id.kind == DEV_NBD;
}

int dev_find_nbd(struct dev_registry *g, const char *name, struct dev **ret_dev)
{
    if (name[0]) {
        return find(g, &(struct dev_key){.kind = DEV_NBD, .name = name}, ret_dev);
    }
    rt_mutex_lock(&g->m);
    struct tree_node *first = tree_first(&g->devices); /* NBD devices come first */
    bool only = is_nbd(first) && !is_nbd(tree_next(first));
    if (only) {
        *ret_dev = dev_ref(container_of(first, struct dev, node));
    }
    rt_mutex_unlock(&g->m);
    return only ? 0 : -ENOENT;
}

int dev_find_lun(struct dev_registry *g, const char *iqn, uint32_t lun, struct dev **ret_dev)
{
    return find(g, &(struct dev_key){.kind = DEV_ISCSI, .name = iqn, .lun = lun}, ret_dev);
}

void dev_info(struct dev *d, struct dev_info *ret_info)
{
    *ret_info = d->id;
    ret_info->size_bytes = dev_size(d);
    ret_info->write_cache = atomic_load(&d->write_cache);
    ret_info->read_only = atomic_load(&d->read_only);
    ret_info->ejected = atomic_load(&d->ejected);
    ret_info->sanitize = dev_sanitize_state(d, NULL);
    ret_info->sanitize_ause = d->sanitize_ause;
    ret_info->overwrite = d->overwrites;
    ret_info->saved_modes = atomic_load(&d->saved_modes);
    for (unsigned i = 0; i < DEV_THRESHOLDS; i++) {
        ret_info->saved_thresholds[i] = atomic_load(&d->saved_thresholds[i]);
    }
    rt_mutex_lock(&d->m);
    ret_info->attached = d->attached;
    rt_mutex_unlock(&d->m);
}

/* References first, infos after: the mutexes do not nest. */
#define LIST_STEP 16u

size_t dev_list(struct dev_registry *g, enum dev_kind kind, const struct dev_info *after,
                struct dev_info *ret, size_t max)
{
    size_t n = 0;
    struct dev_key from = {.kind = kind, .name = ""};
    char name[DEV_NAME_MAX + 1] = "";
    if (after) {
        memcpy(name, after->name, sizeof name);
        from = (struct dev_key){.kind = kind, .name = name, .lun = after->lun + 1};
    }
    while (n < max) {
        struct dev *step[LIST_STEP];
        size_t count = 0;
        rt_mutex_lock(&g->m);
        struct dev *d = dev_tree_from(g, &from);
        while (d && d->id.kind == kind && count < LIST_STEP && n + count < max) {
            step[count++] = dev_ref(d);
            d = tree_entry(tree_next(&d->node), struct dev, node);
        }
        rt_mutex_unlock(&g->m);
        if (count == 0) {
            break;
        }
        for (size_t i = 0; i < count; i++) {
            dev_info(step[i], &ret[n++]);
            dev_unref(step[i]);
        }
        from = (struct dev_key){.kind = kind, .name = ret[n - 1].name, .lun = ret[n - 1].lun + 1};
    }
    return n;
}

size_t dev_lun_list(struct dev_registry *g, const char *iqn, uint32_t *ret_luns, size_t max)
{
    size_t n = 0;
    rt_mutex_lock(&g->m);
    struct dev *d = dev_tree_from(g, &(struct dev_key){.kind = DEV_ISCSI, .name = iqn});
    while (d && n < max && strcmp(d->id.name, iqn) == 0) {
        ret_luns[n++] = d->id.lun;
        d = tree_entry(tree_next(&d->node), struct dev, node);
    }
    rt_mutex_unlock(&g->m);
    return n;
}

int dev_target_find(struct dev_registry *g, const char *iqn, struct dev_target_info *ret_info)
{
    rt_mutex_lock(&g->m);
    struct dev_target *t = dev_target_lookup(g, iqn);
    if (t) {
        *ret_info = t->info;
    }
    rt_mutex_unlock(&g->m);
    return t ? 0 : -ENOENT;
}

size_t dev_target_list(struct dev_registry *g, const char *after, struct dev_target_info *ret,
                       size_t max)
{
    size_t n = 0;
    rt_mutex_lock(&g->m);
    struct tree_node *at = tree_lower_bound(&g->targets, after);
    for (; at && n < max; at = tree_next(at)) {
        struct dev_target *t = container_of(at, struct dev_target, node);
        if (strcmp(t->info.iqn, after) != 0) {
            ret[n++] = t->info;
        }
    }
    rt_mutex_unlock(&g->m);
    return n;
}

uint64_t dev_target_generation(struct dev_registry *g, const char *iqn)
{
    rt_mutex_lock(&g->m);
    struct dev_target *t = dev_target_lookup(g, iqn);
    uint64_t generation = t ? t->generation : 0;
    rt_mutex_unlock(&g->m);
    return generation;
}

uint64_t dev_size(const struct dev *d)
{
    return atomic_load_explicit(&d->size_bytes, memory_order_acquire);
}

bool dev_is_gone(const struct dev *d)
{
    return atomic_load_explicit(&d->gone, memory_order_acquire);
}

void dev_usage(const struct dev *d, struct dev_usage *ret_usage)
{
    vol_usage(d->registry->v, &ret_usage->used_bytes, &ret_usage->max_bytes);
}

struct vol *dev_volume(const struct dev *d)
{
    return d->registry->v;
}

bool dev_is_encrypted(const struct dev *d)
{
    return vol_keys(d->registry->v) != NULL;
}
