/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the registry: each is one transaction under the change lock, then RAM, then a flush.
 * When the flush fails, the change stands in memory as it stands in the open batch, and the caller
 * is told that it is not durable.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/time.h"
#include "dev/access.h"
#include "dev/dev_priv.h"
#include "dev/overwrite.h"
#include "dev/paths.h"
#include "dev/record.h"
#include "dev/reservation.h"
#include "rt/rt.h"
#include <stdio.h>

static int put_device(struct vol_txn *t, const struct dev_info *info)
{
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    size_t key_len = dev_record_key(info, key);
    return vol_txn_put(t, key, key_len, value, dev_record_value(info, value));
}

static int put_target(struct vol_txn *t, const struct dev_target_info *info)
{
    uint8_t key[DEV_KEY_MAX];
    uint8_t value[DEV_VALUE_MAX];
    size_t key_len = dev_target_key(info->iqn, key);
    return vol_txn_put(t, key, key_len, value, dev_target_value(info, value));
}

static int check_size(uint64_t size, uint32_t block)
{
    return size == 0 || size % block != 0 || size > VOL_SIZE_MAX ? -EINVAL : 0;
}

/* 512 and 4096 are what initiators know; a physical block holds whole logical ones. */
static int check_blocks(const struct dev_info *info)
{
    uint32_t logical = info->logical_block_bytes;
    uint32_t physical = info->physical_block_bytes;
    bool known = (logical == 512 || logical == 4096) && (physical == 512 || physical == 4096);
    return known && physical >= logical ? 0 : -EINVAL;
}

static struct uuid fresh_uuid(void)
{
    struct uuid u;
    rt_random_bytes(u.bytes, sizeof u.bytes);
    u.bytes[6] = (uint8_t)((u.bytes[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
    u.bytes[8] = (uint8_t)((u.bytes[8] & 0x3f) | 0x80);
    return u;
}

/* The info of a device to be, with a checked name. */
static int plan_device(const struct dev_create_options *opt, struct dev_info *ret_info)
{
    char why[128];
    struct dev_info info = {
        .kind = opt->kind,
        .lun = opt->kind == DEV_ISCSI ? opt->lun : 0,
        .uuid = fresh_uuid(),
        .size_bytes = opt->size_bytes,
        .created_ns = time_wall_ns(),
        .write_cache = !opt->write_cache_off,
        .read_only = opt->read_only,
        .removable = opt->removable && opt->kind == DEV_ISCSI,
        .same_to_end = opt->same_to_end && opt->kind == DEV_ISCSI,
        .logical_block_bytes = opt->logical_block_bytes ? opt->logical_block_bytes : 512,
        .physical_block_bytes = opt->physical_block_bytes ? opt->physical_block_bytes : 4096,
    };
    int r = opt->kind == DEV_NBD ? dev_name_check(opt->name, why, sizeof why)
                                 : dev_iqn_check(opt->name, info.name, why, sizeof why);
    if (r < 0) {
        return r;
    }
    if (opt->kind == DEV_NBD) {
        snprintf(info.name, sizeof info.name, "%s", opt->name);
    }
    if (info.lun > DEV_LUN_MAX || check_blocks(&info) < 0) {
        return -EINVAL;
    }
    *ret_info = info;
    return check_size(opt->size_bytes, info.logical_block_bytes);
}

static int plan_target(const char *iqn, struct dev_target **ret_target)
{
    char why[128];
    struct dev_target *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    int r = dev_iqn_check(iqn, t->info.iqn, why, sizeof why);
    if (r < 0) {
        free(t);
        return r;
    }
    t->info.uuid = fresh_uuid();
    t->info.created_ns = time_wall_ns();
    *ret_target = t;
    return 0;
}

/* Room for the names: the device's is free; its target is there, or is not when it is to be made
 * along. */
static int check_free(struct dev_registry *g, const struct dev_info *device, const char *new_iqn)
{
    int r = 0;
    rt_mutex_lock(&g->m);
    if (new_iqn && dev_target_lookup(g, new_iqn)) {
        r = -EEXIST;
    } else if (device && !new_iqn && device->kind == DEV_ISCSI &&
               !dev_target_lookup(g, device->name)) {
        r = -ENOENT;
    } else if (device) {
        struct dev_key key = dev_key_of(device);
        r = dev_tree_find(g, &key) ? -EEXIST : 0;
    }
    rt_mutex_unlock(&g->m);
    return r;
}

/* One transaction: inode and record of the device, record of the target; each may be missing. */
static int commit_new(struct dev_registry *g, struct dev_info *device,
                      const struct dev_target_info *target) WAITS
{
    struct vol_txn *t;
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    if (target) {
        r = put_target(t, target);
    }
    if (r >= 0 && device) {
        r = vol_txn_inode_create(t, device->size_bytes, &device->inode);
    }
    if (r >= 0 && device) {
        r = put_device(t, device);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

void dev_targets_watch(struct dev_registry *g, void (*fn)(void *arg), void *arg)
{
    rt_lock_take(&g->change);
    g->targets_changed = fn;
    g->targets_arg = arg;
    rt_lock_release(&g->change);
}

/* With the change lock. */
static void tell_targets(struct dev_registry *g)
{
    if (g->targets_changed) {
        g->targets_changed(g->targets_arg);
    }
}

static void add_target(struct dev_registry *g, struct dev_target *t)
{
    rt_mutex_lock(&g->m);
    t->generation = ++g->generation;
    bool added = tree_insert(&g->targets, t->info.iqn, &t->node);
    ASSERT(added);
    rt_mutex_unlock(&g->m);
    tell_targets(g);
}

/* The device is in the volume already: it is not given up for want of memory or of patience. */
static int add_device(struct dev_registry *g, const struct dev_info *info) WAITS
{
    struct dev *d;
    int r;
    rt_shield();
    while ((r = dev_new(g, info, &d)) == -ENOMEM) {
        (void)rt_sleep_ms(20);
    }
    rt_unshield();
    if (r < 0) {
        return r;
    }
    rt_mutex_lock(&g->m);
    dev_tree_add(g, d);
    rt_mutex_unlock(&g->m);
    return 0;
}

/* With the change lock. target, if any, is taken over when this returns 0 or later than its commit.
 */
static int create_locked(struct dev_registry *g, struct dev_info *device,
                         struct dev_target **target) WAITS
{
    struct dev_target *made = *target;
    int r = check_free(g, device, made ? made->info.iqn : NULL);
    if (r < 0) {
        return r;
    }
    r = commit_new(g, device, made ? &made->info : NULL);
    if (r < 0) {
        return r;
    }
    if (made) {
        add_target(g, take(*target));
    }
    if (device) {
        r = add_device(g, device);
        if (r < 0) {
            return r;
        }
    }
    return vol_flush(g->v);
}

static int create(struct dev_registry *g, struct dev_info *device, struct dev_target *target) WAITS
{
    auto_free struct dev_target *owned = target;
    rt_lock_take(&g->change);
    int r = create_locked(g, device, &owned);
    rt_lock_release(&g->change);
    return r;
}

int dev_create(struct dev_registry *g, const struct dev_create_options *opt,
               struct dev_info *ret_info)
{
    struct dev_info info;
    int r = plan_device(opt, &info);
    if (r < 0) {
        return r;
    }
    r = create(g, &info, NULL);
    if (r < 0) {
        return r;
    }
    *ret_info = info;
    return 0;
}

int dev_target_create(struct dev_registry *g, const char *iqn, struct dev_target_info *ret_info)
{
    struct dev_target *t;
    int r = plan_target(iqn, &t);
    if (r < 0) {
        return r;
    }
    struct dev_target_info info = t->info;
    r = create(g, NULL, t);
    if (r < 0) {
        return r;
    }
    *ret_info = info;
    return 0;
}

int dev_target_create_with_lun(struct dev_registry *g, const struct dev_create_options *lun,
                               struct dev_info *ret_info)
{
    struct dev_info info;
    int r = lun->kind == DEV_ISCSI ? plan_device(lun, &info) : -EINVAL;
    if (r < 0) {
        return r;
    }
    struct dev_target *t;
    r = plan_target(lun->name, &t);
    if (r < 0) {
        return r;
    }
    r = create(g, &info, t);
    if (r < 0) {
        return r;
    }
    *ret_info = info;
    return 0;
}

static int move_locked(struct dev_registry *g, const struct dev_target_info *moved) WAITS
{
    struct vol_txn *t;
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    r = put_target(t, moved);
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    r = vol_txn_commit(t);
    if (r < 0) {
        return r;
    }
    rt_mutex_lock(&g->m);
    struct dev_target *target = dev_target_lookup(g, moved->iqn);
    memcpy(target->info.moved_to, moved->moved_to, sizeof moved->moved_to);
    target->info.moved_for_good = moved->moved_for_good;
    rt_mutex_unlock(&g->m);
    return vol_flush(g->v);
}

int dev_target_move(struct dev_registry *g, const char *iqn, const char *to, bool for_good)
{
    struct dev_target_info info;
    size_t len = strlen(to);
    if (len > DEV_MOVED_MAX) {
        return -EINVAL;
    }
    rt_lock_take(&g->change);
    int r = dev_target_find(g, iqn, &info);
    if (r >= 0) {
        memset(info.moved_to, 0, sizeof info.moved_to);
        memcpy(info.moved_to, to, len);
        info.moved_for_good = for_good && len > 0;
        r = move_locked(g, &info);
    }
    rt_lock_release(&g->change);
    return r;
}

static int commit_size(struct dev_registry *g, struct dev *d, uint64_t size) WAITS
{
    struct vol_txn *t;
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    r = vol_txn_inode_resize(t, d->id.inode, size);
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    r = vol_txn_commit(t);
    if (r >= 0) {
        atomic_store_explicit(&d->size_bytes, size, memory_order_release);
    }
    return r;
}

/* I/O beyond the new end is waited for; what comes later finds the new size. */
static int shrink_to(struct dev_registry *g, struct dev *d, uint64_t size) WAITS
{
    struct dev_range tail = {
        .first_page = size / VOL_PAGE_BYTES, .last_page = UINT64_MAX, .exclusive = true};
    int r = dev_ranges_lock(&d->ranges, &tail);
    if (r < 0) {
        return r;
    }
    r = commit_size(g, d, size);
    dev_ranges_unlock(&d->ranges, &tail);
    return r;
}

static int resize_locked(struct dev_registry *g, struct dev *d, uint64_t size, bool shrink) WAITS
{
    uint64_t old = dev_size(d);
    if (dev_is_gone(d)) {
        return -ENODEV;
    }
    if (size < old && !shrink) {
        return -EINVAL;
    }
    if (size == old) {
        return 0;
    }
    if (size < old && dev_sanitize_state(d, NULL) == DEV_SANITIZING) {
        return ERR_IN_USE; /* it would be waited for, and with it all other changes */
    }
    int r = size < old ? shrink_to(g, d, size) : commit_size(g, d, size);
    if (r < 0) {
        return r;
    }
    r = vol_flush(g->v);
    dev_notify(d, DEV_EVENT_RESIZED);
    return r;
}

int dev_resize(struct dev_registry *g, struct dev *d, uint64_t size_bytes, bool shrink)
{
    int r = check_size(size_bytes, d->id.logical_block_bytes);
    if (r < 0) {
        return r;
    }
    rt_lock_take(&g->change);
    r = resize_locked(g, d, size_bytes, shrink);
    rt_lock_release(&g->change);
    return r;
}

enum setting {
    SETTING_WRITE_CACHE,
    SETTING_READ_ONLY,
    SETTING_SAVED_MODES,
    SETTING_SAVED_THRESHOLD, /* the first, and so on */
    SETTING_SAVED_THRESHOLD_LAST = SETTING_SAVED_THRESHOLD + DEV_THRESHOLDS - 1,
    SETTING_EJECTED,
    SETTING_SANITIZE, /* enum dev_sanitize, and these */
};

#define SANITIZE_AUSE 0x80u
#define SANITIZE_OVERWRITE 0x40u
#define SANITIZE_STATE 0x3fu

/* False when it is so already. */
static bool change_info(struct dev_info *info, enum setting what, uint64_t value)
{
    struct dev_info before = *info;
    unsigned which = what - SETTING_SAVED_THRESHOLD;
    switch (what) {
    case SETTING_WRITE_CACHE:
        info->write_cache = value;
        return info->write_cache != before.write_cache;
    case SETTING_READ_ONLY:
        info->read_only = value;
        return info->read_only != before.read_only;
    case SETTING_SAVED_MODES:
        info->saved_modes = (uint8_t)value;
        return info->saved_modes != before.saved_modes;
    case SETTING_SAVED_THRESHOLD:
    case SETTING_SAVED_THRESHOLD_LAST:
        info->saved_thresholds[which] = value;
        return value != before.saved_thresholds[which];
    case SETTING_EJECTED:
        info->ejected = value;
        return info->ejected != before.ejected;
    case SETTING_SANITIZE:
        info->sanitize = value & SANITIZE_STATE;
        info->sanitize_ause = value & SANITIZE_AUSE;
        info->overwrite = value & SANITIZE_OVERWRITE;
        return true;
    }
    return false;
}

/* What is to be overwritten is decided and forgotten together with the state. */
static int enter_change(struct dev_registry *g, struct dev *d, enum setting what,
                        const struct dev_info *info, const struct dev_overwrite *overwrite) WAITS
{
    struct vol_txn *t;
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    r = put_device(t, info);
    if (r >= 0 && what == SETTING_SANITIZE && (overwrite || d->overwrites)) {
        r = dev_overwrite_put(t, d, overwrite);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

static int may_sanitize(const struct dev_info *info, uint64_t value)
{
    if ((value & SANITIZE_STATE) != DEV_SANITIZING) {
        return 0;
    }
    if (info->sanitize == DEV_SANITIZING) {
        return ERR_IN_USE;
    }
    bool confined = info->sanitize == DEV_SANITIZE_FAILED && !info->sanitize_ause;
    return confined && (value & SANITIZE_AUSE) ? -EPERM : 0;
}

/* overwrite: where it was taken over, *overwrite is NULL afterwards. */
static int change_locked(struct dev_registry *g, struct dev *d, enum setting what, uint64_t value,
                         struct dev_overwrite **overwrite) WAITS
{
    if (dev_is_gone(d)) {
        return -ENODEV;
    }
    struct dev_info info;
    dev_info(d, &info);
    int r = what == SETTING_SANITIZE ? may_sanitize(&info, value) : 0;
    if (r < 0 || !change_info(&info, what, value)) {
        return r;
    }
    r = enter_change(g, d, what, &info, *overwrite);
    if (r < 0) {
        return r;
    }
    atomic_store(&d->write_cache, info.write_cache);
    atomic_store(&d->read_only, info.read_only);
    atomic_store(&d->saved_modes, info.saved_modes);
    for (unsigned i = 0; i < DEV_THRESHOLDS; i++) {
        atomic_store(&d->saved_thresholds[i], info.saved_thresholds[i]);
    }
    atomic_store(&d->ejected, info.ejected);
    if (what != SETTING_SANITIZE) {
        r = vol_flush(g->v); /* also covers what was written while the cache was on */
        dev_notify(d, what == SETTING_EJECTED ? DEV_EVENT_MEDIUM : DEV_EVENT_SETTINGS);
        return r;
    }
    d->sanitize_ause = info.sanitize_ause;
    d->overwrites = info.overwrite;
    free(d->overwrite);
    d->overwrite = take(*overwrite);
    if (info.sanitize != DEV_SANITIZED_NOT) {
        atomic_store(&d->sanitize, (uint8_t)info.sanitize);
    }
    r = vol_flush(g->v);
    atomic_store(&d->sanitize, (uint8_t)info.sanitize);
    return r;
}

static int change(struct dev_registry *g, struct dev *d, enum setting what, uint64_t value) WAITS
{
    struct dev_overwrite *none = NULL;
    rt_lock_take(&g->change);
    int r = change_locked(g, d, what, value, &none);
    rt_lock_release(&g->change);
    return r;
}

int dev_write_cache_set(struct dev_registry *g, struct dev *d, bool on)
{
    return change(g, d, SETTING_WRITE_CACHE, on);
}

int dev_read_only_set(struct dev_registry *g, struct dev *d, bool on)
{
    return change(g, d, SETTING_READ_ONLY, on);
}

int dev_medium_set(struct dev_registry *g, struct dev *d, bool in, bool force)
{
    if (!d->id.removable) {
        return -EINVAL;
    }
    if (!force && dev_is_prevented(d)) {
        return ERR_IN_USE;
    }
    return change(g, d, SETTING_EJECTED, !in);
}

int dev_sanitize_set(struct dev_registry *g, struct dev *d, enum dev_sanitize state, bool ause,
                     struct dev_overwrite *overwrite)
{
    unsigned value = state | (ause ? SANITIZE_AUSE : 0) | (overwrite ? SANITIZE_OVERWRITE : 0);
    rt_lock_take(&g->change);
    int r = change_locked(g, d, SETTING_SANITIZE, value, &overwrite);
    rt_lock_release(&g->change);
    free(overwrite);
    return r;
}

/* What it leaves is the failure that there is when its turn has come. */
int dev_sanitize_exit(struct dev_registry *g, struct dev *d)
{
    struct dev_overwrite *none = NULL;
    int r = 0;
    rt_lock_take(&g->change);
    enum dev_sanitize state = dev_sanitize_state(d, NULL);
    if (state == DEV_SANITIZING) {
        r = ERR_IN_USE;
    } else if (state == DEV_SANITIZE_FAILED && !d->sanitize_ause) {
        r = -EPERM;
    } else if (state == DEV_SANITIZE_FAILED) {
        r = change_locked(g, d, SETTING_SANITIZE, DEV_SANITIZED_NOT, &none);
    }
    rt_lock_release(&g->change);
    return r;
}

void dev_prevent(struct dev *d, bool more)
{
    uint32_t before = atomic_fetch_add(&d->prevents, more ? 1 : UINT32_MAX);
    ASSERT(more || before > 0);
}

bool dev_is_prevented(const struct dev *d)
{
    return atomic_load(&d->prevents) > 0;
}

int dev_saved_threshold_set(struct dev_registry *g, struct dev *d, unsigned which,
                            uint64_t threshold)
{
    ASSERT(which < DEV_THRESHOLDS);
    return change(g, d, (enum setting)(SETTING_SAVED_THRESHOLD + which), threshold);
}

int dev_saved_modes_set(struct dev_registry *g, struct dev *d, uint8_t modes)
{
    return change(g, d, SETTING_SAVED_MODES, modes);
}

/*
 * Deleting. The devices that go (one, or the LUNs of a target) are claimed first: from then on
 * nobody attaches. Then their I/O is waited for, the files are closed and one transaction takes
 * inodes and records away. If that fails, all is put back.
 */
static int claim(struct dev *d, bool force)
{
    rt_mutex_lock(&d->m);
    int r = dev_is_gone(d) ? -ENODEV : d->attached > 0 && !force ? ERR_IN_USE : 0;
    if (r == 0) {
        atomic_store_explicit(&d->gone, true, memory_order_release);
    }
    rt_mutex_unlock(&d->m);
    return r;
}

static void close_file(struct dev *d) WAITS
{
    struct dev_range all = {.first_page = 0, .last_page = UINT64_MAX, .exclusive = true};
    rt_shield();
    int r = dev_ranges_lock(&d->ranges, &all);
    rt_unshield();
    ASSERT(r == 0);
    vol_file_close(d->file);
    d->file = NULL;
    dev_ranges_unlock(&d->ranges, &all);
}

/* After a failed deletion. A file that cannot be opened again leaves the device gone until the next
 * start. */
static void put_back(struct dev_registry *g, struct dev *d) WAITS
{
    rt_shield(); /* perhaps it failed because the caller is cancelled */
    if (d->file || vol_file_open(g->v, d->id.inode, &d->file) >= 0) {
        atomic_store_explicit(&d->gone, false, memory_order_release);
        dev_sanitize_go_on(d);
    }
    rt_unshield();
}

static int commit_deletion(struct dev_registry *g, struct dev *const *devices, size_t count,
                           const char *iqn) WAITS
{
    struct vol_txn *t;
    uint8_t key[DEV_KEY_MAX];
    int r = vol_txn_begin(g->v, &t);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < count && r >= 0; i++) {
        r = vol_txn_delete(t, key, dev_record_key(&devices[i]->id, key));
        if (r >= 0) {
            r = vol_txn_inode_delete(t, devices[i]->id.inode);
        }
        if (r >= 0 && devices[i]->loss.recorded) {
            dev_loss_key(&devices[i]->id.uuid, key);
            r = vol_txn_delete(t, key, DEV_LOSS_KEY_BYTES);
        }
        if (r >= 0 && devices[i]->overwrites) {
            r = dev_overwrite_put(t, devices[i], NULL);
        }
        if (r >= 0) {
            r = dev_reservation_delete(t, &devices[i]->id.uuid, devices[i]->reservation_pieces);
        }
    }
    if (r >= 0 && iqn) {
        r = vol_txn_delete(t, key, dev_target_key(iqn, key));
    }
    if (r >= 0 && iqn) {
        r = dev_access_delete(g, t, iqn);
    }
    if (r >= 0 && iqn) {
        r = dev_paths_delete(g, t, iqn);
    }
    if (r < 0) {
        vol_txn_abort(t);
        return r;
    }
    return vol_txn_commit(t);
}

/* With the change lock; the caller holds a reference of each device. */
static int delete_devices(struct dev_registry *g, struct dev **devices, size_t count,
                          const char *iqn, bool force) WAITS
{
    int r = 0;
    size_t claimed = 0;
    while (claimed < count && r >= 0) {
        r = claim(devices[claimed], force);
        claimed += r >= 0;
    }
    for (size_t i = 0; i < count && r >= 0; i++) {
        close_file(devices[i]);
    }
    if (r >= 0) {
        r = commit_deletion(g, devices, count, iqn);
    }
    if (r < 0) {
        for (size_t i = 0; i < claimed; i++) {
            put_back(g, devices[i]);
        }
        return r;
    }
    struct dev_target *t = NULL;
    rt_mutex_lock(&g->m);
    for (size_t i = 0; i < count; i++) {
        dev_tree_remove(g, devices[i]);
    }
    if (iqn) {
        t = dev_target_lookup(g, iqn);
        tree_remove(&g->targets, &t->node);
    }
    rt_mutex_unlock(&g->m);
    if (t) {
        dev_access_unref(t->access);
        dev_paths_unref(t->paths);
        tell_targets(g);
    }
    free(t);
    for (size_t i = 0; i < count; i++) {
        dev_notify(devices[i], DEV_EVENT_REMOVED);
        dev_unref(devices[i]); /* the tree's */
    }
    return vol_flush(g->v);
}

int dev_delete(struct dev_registry *g, struct dev *d, bool force)
{
    rt_lock_take(&g->change);
    int r = delete_devices(g, &d, 1, NULL, force);
    rt_lock_release(&g->change);
    return r;
}

static int target_delete_locked(struct dev_registry *g, const char *iqn, bool force) WAITS
{
    rt_mutex_lock(&g->m);
    struct dev_target *t = dev_target_lookup(g, iqn);
    size_t count = t ? t->info.luns : 0;
    rt_mutex_unlock(&g->m);
    if (!t) {
        return -ENOENT;
    }
    auto_free struct dev **devices = calloc(count + 1, sizeof(struct dev *));
    if (!devices) {
        return -ENOMEM;
    }
    rt_mutex_lock(&g->m); /* the number has not changed: we hold the change lock */
    struct dev *d = dev_tree_from(g, &(struct dev_key){.kind = DEV_ISCSI, .name = iqn});
    for (size_t i = 0; i < count; i++) {
        devices[i] = dev_ref(d);
        d = tree_entry(tree_next(&d->node), struct dev, node);
    }
    rt_mutex_unlock(&g->m);
    int r = delete_devices(g, devices, count, iqn, force);
    for (size_t i = 0; i < count; i++) {
        dev_unref(devices[i]);
    }
    return r;
}

int dev_target_delete(struct dev_registry *g, const char *iqn, bool force)
{
    rt_lock_take(&g->change);
    int r = target_delete_locked(g, iqn, force);
    rt_lock_release(&g->change);
    return r;
}
