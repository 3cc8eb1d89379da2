/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block devices in RAM in place of dev and vol, so that scsi and iscsi are tested without a volume.
 * Defines the functions that those two rooms call; a test includes it once and links no dev.
 *
 * Targets are "iqn.2024-01.test:disk0" and so on, each with LUN 0 of RAM_BYTES, all on the same
 * memory.
 */
#pragma once
#include "../fake_paths.h"
#include "dev/access.h"
#include "dev/dev.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef RAM_BYTES
#define RAM_BYTES (64ull << 20)
#endif
#define RAM_IQN "iqn.2024-01.test:disk0"

static struct {
    uint8_t *bytes;
    unsigned targets;
    _Atomic bool stalled; /* reads and writes wait */
    struct rt_event go;
    _Atomic unsigned waiting;
    _Atomic uint64_t space_held;
    struct dev_access *rules[2]; /* of discovery, of every target */
    _Atomic(struct dev_keep *) keep;
} ram;

static void ram_init(unsigned targets)
{
    ram.bytes = calloc(1, RAM_BYTES);
    ram.targets = targets;
    rt_event_init(&ram.go);
}

static void ram_free(void)
{
    struct dev_keep *kept = atomic_load(&ram.keep);
    if (kept) {
        kept->free(kept);
    }
    rt_event_destroy(&ram.go);
    dev_access_unref(ram.rules[0]);
    dev_access_unref(ram.rules[1]);
    free(ram.bytes);
    memset(&ram, 0, sizeof ram);
}

__attribute__((unused)) static void ram_stall(bool on)
{
    atomic_store(&ram.stalled, on);
    if (on) {
        rt_event_reset(&ram.go);
    } else {
        rt_event_set(&ram.go);
    }
}

static int ram_wait(void)
{
    if (!atomic_load(&ram.stalled)) {
        return 0;
    }
    atomic_fetch_add(&ram.waiting, 1);
    int r = rt_event_wait(&ram.go, RT_FOREVER);
    atomic_fetch_sub(&ram.waiting, 1);
    return r;
}

static int ram_index(const char *iqn)
{
    unsigned i;
    if (sscanf(iqn, "iqn.2024-01.test:disk%u", &i) != 1 || i >= ram.targets) {
        return -ENOENT;
    }
    return (int)i;
}

static void ram_target_info(unsigned i, struct dev_target_info *ret)
{
    *ret = (struct dev_target_info){.luns = 1};
    (void)snprintf(ret->iqn, sizeof ret->iqn, "iqn.2024-01.test:disk%u", i);
    ret->uuid.bytes[0] = (uint8_t)(i + 1);
}

int dev_target_find(struct dev_registry *g, const char *iqn, struct dev_target_info *ret_info)
{
    (void)g;
    int i = ram_index(iqn);
    if (i >= 0) {
        ram_target_info((unsigned)i, ret_info);
    }
    return i < 0 ? i : 0;
}

void dev_targets_watch(struct dev_registry *g, void (*fn)(void *arg), void *arg)
{
    (void)g;
    (void)fn;
    (void)arg;
}

size_t dev_target_list(struct dev_registry *g, const char *after, struct dev_target_info *ret,
                       size_t max)
{
    (void)g;
    unsigned first = after[0] ? (unsigned)ram_index(after) + 1 : 0;
    size_t n = 0;
    for (unsigned i = first; i < ram.targets && n < max; i++) {
        ram_target_info(i, &ret[n++]);
    }
    return n;
}

int dev_access_get(struct dev_registry *g, const char *iqn, struct dev_access **ret_access)
{
    (void)g;
    if (*iqn && ram_index(iqn) < 0) {
        return -ENOENT;
    }
    *ret_access = dev_access_ref(ram.rules[*iqn ? 1 : 0]);
    return 0;
}

uint64_t dev_target_generation(struct dev_registry *g, const char *iqn)
{
    (void)g;
    return ram_index(iqn) >= 0 ? 1 : 0;
}

int dev_find_lun(struct dev_registry *g, const char *iqn, uint32_t lun, struct dev **ret_dev)
{
    (void)g;
    if (ram_index(iqn) < 0 || lun != 0) {
        return -ENOENT;
    }
    *ret_dev = (struct dev *)&ram;
    return 0;
}

size_t dev_lun_list(struct dev_registry *g, const char *iqn, uint32_t *ret_luns, size_t max)
{
    (void)g;
    if (ram_index(iqn) < 0 || max == 0) {
        return 0;
    }
    ret_luns[0] = 0;
    return 1;
}

struct dev *dev_ref(struct dev *d)
{
    return d;
}

struct dev_keep *dev_kept(struct dev *d)
{
    (void)d;
    return atomic_load(&ram.keep);
}

struct dev_keep *dev_keep(struct dev *d, struct dev_keep *k)
{
    struct dev_keep *had = NULL;
    (void)d;
    return atomic_compare_exchange_strong(&ram.keep, &had, k) ? k : had;
}

size_t dev_reservations_loaded(const struct dev *d, const void **ret_value)
{
    (void)d;
    *ret_value = NULL;
    return 0;
}

int dev_reservations_store(struct dev *d, const void *value, size_t len, bool *ret_entered)
{
    (void)d;
    (void)value;
    (void)len;
    *ret_entered = true;
    return 0;
}

void dev_unref(struct dev *d)
{
    (void)d;
}

void dev_info(struct dev *d, struct dev_info *ret_info)
{
    (void)d;
    *ret_info = (struct dev_info){.kind = DEV_ISCSI,
                                  .name = RAM_IQN,
                                  .size_bytes = RAM_BYTES,
                                  .write_cache = true,
                                  .logical_block_bytes = 512,
                                  .physical_block_bytes = 4096};
    ret_info->uuid.bytes[0] = 7;
}

uint64_t dev_atomic_max(const struct dev *d)
{
    (void)d;
    return 64u << 10;
}

uint64_t dev_size(const struct dev *d)
{
    (void)d;
    return RAM_BYTES;
}

bool dev_is_gone(const struct dev *d)
{
    (void)d;
    return false;
}

void dev_usage(const struct dev *d, struct dev_usage *ret_usage)
{
    (void)d;
    *ret_usage = (struct dev_usage){0};
}

bool dev_is_encrypted(const struct dev *d)
{
    (void)d;
    return false;
}

struct vol *dev_volume(const struct dev *d)
{
    (void)d;
    return NULL;
}

int dev_check_loss(struct dev *d, struct dev_watch *w)
{
    (void)d;
    (void)w;
    return 0;
}

void dev_loss_heard(struct dev *d, struct dev_watch *w)
{
    (void)d;
    (void)w;
}

void dev_loss_unheard(struct dev *d, struct dev_watch *w)
{
    (void)d;
    (void)w;
}

int dev_attach(struct dev *d, const char *who, const char *nexus, struct dev_watch *w)
{
    w->nexus = nexus;
    (void)d;
    (void)who;
    list_init(&w->link);
    return 0;
}

void dev_detach(struct dev *d, struct dev_watch *w)
{
    (void)d;
    (void)w;
}

bool dev_is_ejected(const struct dev *d)
{
    (void)d;
    return false;
}

enum dev_sanitize dev_sanitize_state(const struct dev *d, uint32_t *ret_progress)
{
    (void)d;
    (void)ret_progress;
    return DEV_SANITIZED_NOT;
}

int dev_sanitize_start(struct dev_registry *g, struct dev *d,
                       const struct dev_sanitize_options *opt)
{
    (void)g;
    (void)d;
    (void)opt;
    return -EIO;
}

int dev_sanitize_wait(struct dev *d)
{
    (void)d;
    return 0;
}

int dev_sanitize_exit(struct dev_registry *g, struct dev *d)
{
    (void)g;
    (void)d;
    return 0;
}

bool dev_is_prevented(const struct dev *d)
{
    (void)d;
    return false;
}

void dev_prevent(struct dev *d, bool more)
{
    (void)d;
    (void)more;
}

int dev_medium_set(struct dev_registry *g, struct dev *d, bool in, bool force)
{
    (void)g;
    (void)d;
    (void)in;
    (void)force;
    return -EINVAL;
}

bool dev_is_read_only(const struct dev *d)
{
    (void)d;
    return false;
}

int dev_saved_threshold_set(struct dev_registry *g, struct dev *d, unsigned which,
                            uint64_t threshold)
{
    (void)g;
    (void)d;
    (void)which;
    (void)threshold;
    return 0;
}

int dev_saved_modes_set(struct dev_registry *g, struct dev *d, uint8_t modes)
{
    (void)g;
    (void)d;
    (void)modes;
    return 0;
}

int dev_write_cache_set(struct dev_registry *g, struct dev *d, bool on)
{
    (void)g;
    (void)d;
    (void)on;
    return 0;
}

int dev_read(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    (void)d;
    int r = ram_wait();
    if (r < 0) {
        return r;
    }
    struct rt_buf *b;
    r = rt_buf_alloc(len, RT_MEM_BLOCK_CACHE, &b);
    if (r < 0) {
        return r;
    }
    memcpy(b->data, ram.bytes + off, len);
    r = rt_chain_add(ret_data, b, b->data, len);
    rt_buf_unref(b);
    return r;
}

void dev_read_ready(struct dev *d, struct vol_ready *reads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool ready = !atomic_load(&ram.stalled);
        reads[i].result = ready ? dev_read(d, reads[i].off, reads[i].len, &reads[i].data) : -EAGAIN;
    }
}

void dev_hint_reads(struct dev *d, const uint64_t *offs, size_t count)
{
    (void)d;
    (void)offs;
    (void)count;
}

int dev_write(struct dev *d, uint64_t off, const struct rt_chain *data, unsigned flags,
              struct vol_space *space)
{
    (void)d;
    (void)flags;
    (void)space;
    int r = ram_wait();
    if (r < 0) {
        return r;
    }
    rt_chain_copy_out(data, 0, ram.bytes + off, data->len);
    return 0;
}

int dev_read_locked(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    return dev_read(d, off, len, ret_data);
}

int dev_write_locked(struct dev *d, uint64_t off, const struct rt_chain *data,
                     struct vol_space *space)
{
    return dev_write(d, off, data, 0, space);
}

int dev_zero(struct dev *d, uint64_t off, uint64_t len, unsigned flags)
{
    (void)d;
    (void)flags;
    memset(ram.bytes + off, 0, len);
    return 0;
}

int dev_discard(struct dev *d, uint64_t off, uint64_t len, unsigned flags)
{
    return dev_zero(d, off, len, flags);
}

/* Nobody copies here. */
int dev_copy(const struct dev_copy *c, unsigned flags, uint64_t *ret_done)
{
    (void)flags;
    if (c->src == c->dst && c->src_off + c->len <= RAM_BYTES && c->dst_off + c->len <= RAM_BYTES) {
        memmove(ram.bytes + c->dst_off, ram.bytes + c->src_off, c->len);
    }
    *ret_done = c->len;
    return 0;
}

/* Holds hold nothing. */
int dev_hold_create(struct dev_registry *g, uint64_t size_bytes, struct dev **ret_dev)
{
    (void)g;
    (void)size_bytes;
    void *hold = malloc(1);
    if (!hold) {
        return -ENOMEM;
    }
    *ret_dev = hold;
    return 0;
}

void dev_hold_destroy(struct dev *d)
{
    free(d);
}

int dev_hold_fill(const struct dev_fill *f)
{
    return f->may_go_on(f->arg) ? 0 : -ECANCELED;
}

size_t dev_list(struct dev_registry *g, enum dev_kind kind, const struct dev_info *after,
                struct dev_info *ret, size_t max)
{
    (void)g;
    (void)kind;
    (void)after;
    (void)ret;
    (void)max;
    return 0;
}

int dev_flush(struct dev *d)
{
    (void)d;
    return 0;
}

int dev_extents(struct dev *d, uint64_t off, uint64_t len, struct vol_extent *ret_extents,
                size_t max)
{
    (void)d;
    (void)max;
    ret_extents[0] = (struct vol_extent){.off = off, .len = len, .kind = VOL_EXTENT_DATA};
    return 1;
}

int dev_prefetch(struct dev *d, uint64_t off, uint64_t len)
{
    (void)d;
    (void)off;
    (void)len;
    return 0;
}

int dev_range_lock(struct dev *d, struct dev_range *ret_range, uint64_t off, uint64_t len,
                   bool exclusive)
{
    (void)d;
    (void)off;
    (void)len;
    ret_range->exclusive = exclusive;
    return 0;
}

int dev_range_lock_spaced(struct dev *d, struct dev_range *ret_range, uint64_t off, uint64_t len,
                          struct vol_space *space)
{
    (void)space;
    return dev_range_lock(d, ret_range, off, len, true);
}

void dev_range_unlock(struct dev *d, struct dev_range *range)
{
    (void)d;
    (void)range;
}

int vol_space_take(struct vol *v, uint64_t payload_bytes, uint64_t deadline_ns,
                   struct vol_space *ret_space)
{
    (void)v;
    (void)deadline_ns;
    int r = ram_wait();
    if (r < 0) {
        return r;
    }
    ret_space->bytes = payload_bytes;
    atomic_fetch_add(&ram.space_held, payload_bytes);
    return 0;
}

void vol_space_release(struct vol *v, struct vol_space *space)
{
    (void)v;
    atomic_fetch_sub(&ram.space_held, space->bytes);
    space->bytes = 0;
}
