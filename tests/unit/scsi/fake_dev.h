/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices in plain memory, for the tests of what stands on dev: included by one test file, it takes
 * the place of dev. A target with up to 8 LUNs, which another one may share (fake_add_other()).
 * Blocks of 4 KiB have a kind; only the first FAKE_BYTES of a device hold data. While fake_gate is
 * set, reads and writes wait for it.
 */
#pragma once
#include "../fake_paths.h"
#include "base/assert.h"
#include "base/err.h"
#include "dev/access.h"
#include "dev/dev.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include <stdio.h>
#include <string.h>

#ifndef FAKE_BYTES
#define FAKE_BYTES (8u << 20)
#endif
#define FAKE_BLOCK 4096u
#define FAKE_LUNS 8
#define FAKE_IQN "iqn.2024-01.net.zerofs:test"
#define FAKE_OTHER_IQN "iqn.2024-01.net.zerofs:the-other"

struct dev {
    struct dev_info info;
    unsigned refs;
    bool gone;
    struct rt_mutex m;
    struct list watches;
    uint8_t *data;
    uint8_t kinds[FAKE_BYTES / FAKE_BLOCK];
    unsigned flushes;
    unsigned fua_writes;
    unsigned atomic_writes;
    int prevents;
    unsigned locked; /* range locks held */
    int fail;        /* what the next I/O returns instead */
    _Atomic(struct dev_keep *) keep;
    uint8_t *stored; /* reservations; what dev_reservations_store() does by fake_store_* */
    size_t stored_len;
    unsigned stores;
};

struct dev_registry {
    struct rt_mutex m;
    struct dev *luns[FAKE_LUNS];
    uint64_t generation;
    bool deleted;
    struct dev_access *rules;
    struct dev_access *other_rules;
};

extern struct rt_event *fake_gate;
struct rt_event *fake_gate;

static inline struct dev *fake_dev_new(uint32_t lun, uint64_t size)
{
    struct dev *d = calloc(1, sizeof *d);
    ASSERT(d);
    d->data = calloc(1, FAKE_BYTES);
    ASSERT(d->data);
    d->refs = 1;
    d->info = (struct dev_info){.kind = DEV_ISCSI,
                                .name = FAKE_IQN,
                                .lun = lun,
                                .size_bytes = size,
                                .write_cache = true,
                                .logical_block_bytes = 512,
                                .physical_block_bytes = 4096};
    for (size_t i = 0; i < sizeof d->info.uuid.bytes; i++) {
        d->info.uuid.bytes[i] = (uint8_t)(0x10 * (lun + 1) + i);
    }
    memset(d->kinds, VOL_EXTENT_HOLE, sizeof d->kinds);
    rt_mutex_init(&d->m);
    list_init(&d->watches);
    return d;
}

static inline void fake_add(struct dev_registry *g, uint32_t lun, uint64_t size)
{
    for (size_t i = 0; i < FAKE_LUNS; i++) {
        if (!g->luns[i]) {
            g->luns[i] = fake_dev_new(lun, size);
            g->generation++;
            return;
        }
    }
}

/* A LUN of the other target; its number is none of the first one's. */
static inline void fake_add_other(struct dev_registry *g, uint32_t lun, uint64_t size)
{
    fake_add(g, lun, size);
    for (size_t i = 0; i < FAKE_LUNS; i++) {
        if (g->luns[i] && g->luns[i]->info.lun == lun) {
            memcpy(g->luns[i]->info.name, FAKE_OTHER_IQN, sizeof FAKE_OTHER_IQN);
        }
    }
}

static inline struct dev *fake_lun(struct dev_registry *g, uint32_t lun)
{
    for (size_t i = 0; i < FAKE_LUNS; i++) {
        if (g->luns[i] && g->luns[i]->info.lun == lun) {
            return g->luns[i];
        }
    }
    return NULL;
}

static inline void fake_tell(struct dev *d, enum dev_event event)
{
    rt_mutex_lock(&d->m);
    list_for_each(&d->watches, struct dev_watch, link, w) {
        w->fn(w, event);
    }
    rt_mutex_unlock(&d->m);
}

static inline void fake_remove(struct dev_registry *g, uint32_t lun)
{
    struct dev *d = fake_lun(g, lun);
    for (size_t i = 0; i < FAKE_LUNS; i++) {
        if (g->luns[i] == d) {
            g->luns[i] = NULL;
        }
    }
    g->generation++;
    d->gone = true;
    fake_tell(d, DEV_EVENT_REMOVED);
    dev_unref(d);
}

static inline struct dev_registry *fake_registry(void)
{
    struct dev_registry *g = calloc(1, sizeof *g);
    ASSERT(g);
    rt_mutex_init(&g->m);
    g->generation = 1;
    return g;
}

static inline void fake_registry_free(struct dev_registry *g)
{
    for (size_t i = 0; i < FAKE_LUNS; i++) {
        if (g->luns[i]) {
            ASSERT(g->luns[i]->refs == 1);
            ASSERT(list_is_empty(&g->luns[i]->watches));
            ASSERT(g->luns[i]->locked == 0);
            dev_unref(g->luns[i]);
        }
    }
    rt_mutex_destroy(&g->m);
    free(g);
}

int dev_target_find(struct dev_registry *g, const char *iqn, struct dev_target_info *ret_info)
{
    bool other = strcmp(iqn, FAKE_OTHER_IQN) == 0;
    if (g->deleted || (!other && strcmp(iqn, FAKE_IQN) != 0)) {
        return -ENOENT;
    }
    memset(ret_info, 0, sizeof *ret_info);
    snprintf(ret_info->iqn, sizeof ret_info->iqn, "%s", iqn);
    ret_info->uuid.bytes[0] = other ? 2 : 1;
    return 0;
}

int dev_access_get(struct dev_registry *g, const char *iqn, struct dev_access **ret_access)
{
    bool other = strcmp(iqn, FAKE_OTHER_IQN) == 0;
    *ret_access = dev_access_ref(other ? g->other_rules : g->rules);
    return 0;
}

uint64_t dev_target_generation(struct dev_registry *g, const char *iqn)
{
    (void)iqn;
    return g->deleted ? 0 : g->generation;
}

size_t dev_lun_list(struct dev_registry *g, const char *iqn, uint32_t *ret_luns, size_t max)
{
    size_t n = 0;
    for (uint32_t lun = 0; lun <= DEV_LUN_MAX && n < max; lun++) {
        struct dev *d = fake_lun(g, lun);
        if (d && strcmp(d->info.name, iqn) == 0) {
            ret_luns[n++] = lun;
        }
    }
    return n;
}

int dev_find_lun(struct dev_registry *g, const char *iqn, uint32_t lun, struct dev **ret_dev)
{
    struct dev *d = fake_lun(g, lun);
    if (!d || strcmp(d->info.name, iqn) != 0) {
        return -ENOENT;
    }
    *ret_dev = dev_ref(d);
    return 0;
}

struct dev *dev_ref(struct dev *d)
{
    rt_mutex_lock(&d->m);
    d->refs++;
    rt_mutex_unlock(&d->m);
    return d;
}

void dev_unref(struct dev *d)
{
    if (!d) {
        return;
    }
    rt_mutex_lock(&d->m);
    bool last = --d->refs == 0;
    rt_mutex_unlock(&d->m);
    if (last) {
        struct dev_keep *kept = dev_kept(d);
        if (kept) {
            kept->free(kept);
        }
        free(d->stored);
        rt_mutex_destroy(&d->m);
        free(d->data);
        free(d);
    }
}

void dev_info(struct dev *d, struct dev_info *ret_info)
{
    rt_mutex_lock(&d->m);
    *ret_info = d->info;
    rt_mutex_unlock(&d->m);
}

uint64_t dev_atomic_max(const struct dev *d)
{
    (void)d;
    return 64u << 10;
}

uint64_t dev_size(const struct dev *d)
{
    return d->info.size_bytes;
}

bool dev_is_gone(const struct dev *d)
{
    return d->gone;
}

static struct dev_usage fake_usage;

void dev_usage(const struct dev *d, struct dev_usage *ret_usage)
{
    (void)d;
    *ret_usage = fake_usage;
}

static bool fake_encrypted;

bool dev_is_encrypted(const struct dev *d)
{
    (void)d;
    return fake_encrypted;
}

struct vol *dev_volume(const struct dev *d)
{
    (void)d;
    return NULL;
}

int vol_space_take(struct vol *v, uint64_t payload_bytes, uint64_t deadline_ns,
                   struct vol_space *ret_space)
{
    (void)v;
    (void)deadline_ns;
    ret_space->bytes = payload_bytes;
    return 0;
}

void vol_space_release(struct vol *v, struct vol_space *space)
{
    (void)v;
    space->bytes = 0;
}

struct dev_keep *dev_kept(struct dev *d)
{
    return atomic_load(&d->keep);
}

struct dev_keep *dev_keep(struct dev *d, struct dev_keep *k)
{
    struct dev_keep *had = NULL;
    return atomic_compare_exchange_strong(&d->keep, &had, k) ? k : had;
}

size_t dev_reservations_loaded(const struct dev *d, const void **ret_value)
{
    *ret_value = d->stored;
    return d->stored_len;
}

/* While it is set, storing waits for it. */
extern struct rt_event *fake_store_gate;
struct rt_event *fake_store_gate;
static int fake_store_fail;    /* what storing gives */
static bool fake_store_enters; /* although it fails */

int dev_reservations_store(struct dev *d, const void *value, size_t len, bool *ret_entered)
{
    *ret_entered = !fake_store_fail || fake_store_enters;
    if (*ret_entered && (len > 0 || d->stored_len > 0)) {
        free(d->stored);
        d->stored = malloc(len + 1);
        ASSERT(d->stored);
        if (len > 0) {
            memcpy(d->stored, value, len);
        }
        d->stored_len = len;
        d->stores++;
    }
    if (fake_store_gate) {
        int r = rt_event_wait(fake_store_gate, RT_FOREVER);
        return r < 0 ? r : fake_store_fail;
    }
    return fake_store_fail;
}

static int fake_loss; /* what the next dev_check_loss() gives */

int dev_check_loss(struct dev *d, struct dev_watch *w)
{
    (void)d;
    (void)w;
    int r = fake_loss;
    fake_loss = 0;
    return r;
}

static unsigned fake_heard;   /* calls of dev_loss_heard() */
static unsigned fake_unheard; /* and of dev_loss_unheard() */

void dev_loss_heard(struct dev *d, struct dev_watch *w)
{
    (void)d;
    (void)w;
    fake_heard++;
}

void dev_loss_unheard(struct dev *d, struct dev_watch *w)
{
    (void)d;
    (void)w;
    fake_unheard++;
}

int dev_attach(struct dev *d, const char *who, const char *nexus, struct dev_watch *w)
{
    w->nexus = nexus;
    (void)who;
    rt_mutex_lock(&d->m);
    list_push_back(&d->watches, &w->link);
    rt_mutex_unlock(&d->m);
    return 0;
}

void dev_detach(struct dev *d, struct dev_watch *w)
{
    rt_mutex_lock(&d->m);
    list_remove(&w->link);
    rt_mutex_unlock(&d->m);
}

bool dev_is_read_only(const struct dev *d)
{
    return d->info.read_only;
}

bool dev_is_ejected(const struct dev *d)
{
    return d->info.ejected;
}

enum dev_sanitize dev_sanitize_state(const struct dev *d, uint32_t *ret_progress)
{
    if (ret_progress) {
        *ret_progress = 0x1234;
    }
    return d->info.sanitize;
}

static struct dev_sanitize_options fake_sanitize; /* what was asked for last */
static uint8_t fake_pattern[4096];

int dev_sanitize_start(struct dev_registry *g, struct dev *d,
                       const struct dev_sanitize_options *opt)
{
    (void)g;
    if (d->info.sanitize == DEV_SANITIZING) {
        return ERR_IN_USE;
    }
    if (d->info.sanitize == DEV_SANITIZE_FAILED && !d->info.sanitize_ause && opt->ause) {
        return -EPERM;
    }
    fake_sanitize = *opt;
    if (opt->passes > 0) {
        memcpy(fake_pattern, opt->pattern, opt->pattern_bytes);
    }
    d->info.sanitize = DEV_SANITIZING;
    d->info.sanitize_ause = opt->ause;
    return 0;
}

int dev_sanitize_wait(struct dev *d)
{
    d->info.sanitize = DEV_SANITIZED_NOT;
    return 0;
}

int dev_sanitize_exit(struct dev_registry *g, struct dev *d)
{
    (void)g;
    if (d->info.sanitize == DEV_SANITIZING) {
        return ERR_IN_USE;
    }
    if (d->info.sanitize == DEV_SANITIZE_FAILED && !d->info.sanitize_ause) {
        return -EPERM;
    }
    d->info.sanitize = DEV_SANITIZED_NOT;
    return 0;
}

bool dev_is_prevented(const struct dev *d)
{
    return d->prevents > 0;
}

void dev_prevent(struct dev *d, bool more)
{
    d->prevents += more ? 1 : -1;
}

int dev_medium_set(struct dev_registry *g, struct dev *d, bool in, bool force)
{
    (void)g;
    if (d->prevents > 0 && !force) {
        return ERR_IN_USE;
    }
    if (d->info.ejected == in) {
        d->info.ejected = !in;
        fake_tell(d, DEV_EVENT_MEDIUM);
    }
    return 0;
}

int dev_saved_threshold_set(struct dev_registry *g, struct dev *d, unsigned which,
                            uint64_t threshold)
{
    (void)g;
    rt_mutex_lock(&d->m);
    bool differs = d->info.saved_thresholds[which] != threshold;
    d->info.saved_thresholds[which] = threshold;
    rt_mutex_unlock(&d->m);
    if (differs) {
        fake_tell(d, DEV_EVENT_SETTINGS);
    }
    return 0;
}

int dev_saved_modes_set(struct dev_registry *g, struct dev *d, uint8_t modes)
{
    (void)g;
    rt_mutex_lock(&d->m);
    d->info.saved_modes = modes;
    rt_mutex_unlock(&d->m);
    fake_tell(d, DEV_EVENT_SETTINGS);
    return 0;
}

int dev_write_cache_set(struct dev_registry *g, struct dev *d, bool on)
{
    (void)g;
    rt_mutex_lock(&d->m);
    d->info.write_cache = on;
    rt_mutex_unlock(&d->m);
    fake_tell(d, DEV_EVENT_SETTINGS);
    return 0;
}

static inline int fake_start(struct dev *d, uint64_t off, uint64_t len)
{
    if (fake_gate) {
        (void)!rt_event_wait(fake_gate, RT_FOREVER);
    }
    if (d->fail) {
        return d->fail;
    }
    if (d->gone) {
        return -ENODEV;
    }
    return off > d->info.size_bytes || len > d->info.size_bytes - off ? -EINVAL : 0;
}

static inline void fake_mark(struct dev *d, uint64_t off, uint64_t len, enum vol_extent_kind kind)
{
    bool whole = kind == VOL_EXTENT_DATA;
    uint64_t first = whole ? off / FAKE_BLOCK : (off + FAKE_BLOCK - 1) / FAKE_BLOCK;
    uint64_t end = whole ? (off + len + FAKE_BLOCK - 1) / FAKE_BLOCK : (off + len) / FAKE_BLOCK;
    for (uint64_t i = first; i < end && i < ARRAY_LEN(d->kinds); i++) {
        d->kinds[i] = (uint8_t)kind;
    }
}

int dev_read_locked(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    struct rt_buf *b;
    int r = rt_buf_alloc(len, RT_MEM_OTHER, &b);
    if (r < 0) {
        return r;
    }
    memset(b->data, 0, len);
    if (off < FAKE_BYTES) {
        memcpy(b->data, d->data + off, MIN_OF(len, FAKE_BYTES - off));
    }
    /* In pieces, as a real read gives them. */
    for (uint32_t at = 0; at < len && r >= 0; at += 1000) {
        struct rt_buf *piece;
        uint32_t n = MIN_OF(1000u, len - at);
        r = rt_buf_alloc(n, RT_MEM_OTHER, &piece);
        if (r >= 0) {
            memcpy(piece->data, b->data + at, n);
            r = rt_chain_add(ret_data, piece, piece->data, n);
            rt_buf_unref(piece);
        }
    }
    rt_buf_unref(b);
    return r;
}

int dev_read(struct dev *d, uint64_t off, uint32_t len, struct rt_chain *ret_data)
{
    int r = fake_start(d, off, len);
    return r < 0 ? r : dev_read_locked(d, off, len, ret_data);
}

void dev_read_ready(struct dev *d, struct vol_ready *reads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool ready = !fake_gate && fake_start(d, reads[i].off, reads[i].len) == 0;
        reads[i].result =
            ready ? dev_read_locked(d, reads[i].off, reads[i].len, &reads[i].data) : -EAGAIN;
    }
}

void dev_hint_reads(struct dev *d, const uint64_t *offs, size_t count)
{
    (void)d;
    (void)offs;
    (void)count;
}

int dev_write_locked(struct dev *d, uint64_t off, const struct rt_chain *data,
                     struct vol_space *space)
{
    (void)space;
    if (off < FAKE_BYTES) {
        rt_chain_copy_out(data, 0, d->data + off, MIN_OF(data->len, FAKE_BYTES - off));
    }
    fake_mark(d, off, data->len, VOL_EXTENT_DATA);
    return 0;
}

int dev_write(struct dev *d, uint64_t off, const struct rt_chain *data, unsigned flags,
              struct vol_space *space)
{
    int r = fake_start(d, off, data->len);
    if (r < 0) {
        return r;
    }
    d->fua_writes += (flags & DEV_FUA) != 0;
    d->atomic_writes += (flags & DEV_ATOMIC) != 0;
    return dev_write_locked(d, off, data, space);
}

int dev_zero(struct dev *d, uint64_t off, uint64_t len, unsigned flags)
{
    int r = fake_start(d, off, len);
    if (r < 0) {
        return r;
    }
    if (off < FAKE_BYTES) {
        memset(d->data + off, 0, MIN_OF(len, FAKE_BYTES - off));
    }
    enum vol_extent_kind kind = flags & DEV_ANCHOR ? VOL_EXTENT_ANCHORED : VOL_EXTENT_HOLE;
    fake_mark(d, off, len, flags & DEV_NO_HOLE ? VOL_EXTENT_ZERO : kind);
    return 0;
}

static void (*fake_copied)(void); /* called after each copy */

int dev_copy(const struct dev_copy *c, unsigned flags, uint64_t *ret_done)
{
    *ret_done = 0;
    int r = fake_start(c->src, c->src_off, c->len);
    if (r == 0) {
        r = fake_start(c->dst, c->dst_off, c->len);
    }
    if (r < 0) {
        return r;
    }
    c->dst->fua_writes += (flags & DEV_FUA) != 0;
    if (c->src_off + c->len <= FAKE_BYTES && c->dst_off + c->len <= FAKE_BYTES) {
        memmove(c->dst->data + c->dst_off, c->src->data + c->src_off, c->len);
    }
    *ret_done = c->len;
    if (fake_copied) {
        fake_copied();
    }
    return 0;
}

static unsigned fake_holds; /* there are */
static int fake_hold_fail;  /* what making one gives */

int dev_hold_create(struct dev_registry *g, uint64_t size_bytes, struct dev **ret_dev)
{
    (void)g;
    ASSERT(size_bytes > 0 && size_bytes <= FAKE_BYTES);
    if (fake_hold_fail) {
        return fake_hold_fail;
    }
    *ret_dev = fake_dev_new(0, size_bytes);
    free((*ret_dev)->data); /* there may be many */
    (*ret_dev)->data = calloc(1, size_bytes);
    fake_holds++;
    return 0;
}

void dev_hold_destroy(struct dev *d)
{
    fake_holds -= d != NULL;
    dev_unref(d);
}

int dev_hold_fill(const struct dev_fill *f)
{
    int r = 0;
    for (size_t i = 0; i < f->count && r == 0; i++) {
        const struct dev_piece *p = &f->pieces[i];
        uint64_t done;
        r = f->may_go_on(f->arg)
                ? dev_copy(&(struct dev_copy){f->src, p->src_off, f->hold, p->hold_off, p->len}, 0,
                           &done)
                : -ECANCELED;
    }
    return r;
}

size_t dev_list(struct dev_registry *g, enum dev_kind kind, const struct dev_info *after,
                struct dev_info *ret, size_t max)
{
    size_t n = 0;
    (void)kind;
    for (uint32_t lun = after ? after->lun + 1 : 0; lun <= DEV_LUN_MAX && n < max; lun++) {
        struct dev *d = fake_lun(g, lun);
        if (d) {
            dev_info(d, &ret[n++]);
        }
    }
    return n;
}

int dev_flush(struct dev *d)
{
    d->flushes++;
    return d->fail;
}

int dev_extents(struct dev *d, uint64_t off, uint64_t len, struct vol_extent *ret_extents,
                size_t max)
{
    size_t n = 0;
    uint64_t end = off + len;
    while (off < end && n < max) {
        uint64_t block = off / FAKE_BLOCK;
        bool inside = block < ARRAY_LEN(d->kinds);
        enum vol_extent_kind kind = inside ? d->kinds[block] : VOL_EXTENT_HOLE;
        uint64_t step = inside ? FAKE_BLOCK - off % FAKE_BLOCK : end - off;
        step = MIN_OF(step, end - off);
        if (n > 0 && ret_extents[n - 1].kind == kind) {
            ret_extents[n - 1].len += step;
        } else {
            ret_extents[n++] = (struct vol_extent){.off = off, .len = step, .kind = kind};
        }
        off += step;
    }
    return (int)n;
}

int dev_prefetch(struct dev *d, uint64_t off, uint64_t len)
{
    return fake_start(d, off, len);
}

int dev_range_lock(struct dev *d, struct dev_range *ret_range, uint64_t off, uint64_t len,
                   bool exclusive)
{
    (void)ret_range;
    ASSERT(exclusive && d->locked == 0);
    int r = fake_start(d, off, len);
    d->locked += r >= 0;
    return r;
}

int dev_range_lock_spaced(struct dev *d, struct dev_range *ret_range, uint64_t off, uint64_t len,
                          struct vol_space *space)
{
    (void)space;
    return dev_range_lock(d, ret_range, off, len, true);
}

void dev_range_unlock(struct dev *d, struct dev_range *range)
{
    (void)range;
    d->locked--;
}
