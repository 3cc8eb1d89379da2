/* SPDX-License-Identifier: Apache-2.0 */
/* Logical units, and the views that nexuses have of them. */
#include "base/assert.h"
#include "base/msg.h"
#include "scsi/mode.h"
#include "scsi/pr_priv.h"
#include "scsi/sense.h"
#include <stdio.h>

static uint32_t log2_of(uint32_t power)
{
    return power ? (uint32_t)__builtin_ctz(power) : 0;
}

int scsi_lu_create(struct scsi_target *t, uint32_t lun, struct dev *d, struct scsi_lu **ret_lu)
{
    struct scsi_lu *lu = aligned_alloc(64, sizeof *lu);
    if (!lu) {
        return -ENOMEM;
    }
    memset(lu, 0, sizeof *lu);
    struct dev_info info;
    dev_info(d, &info);
    lu->pr = scsi_pr_of(d);
    if (!lu->pr) {
        free(lu);
        return -ENOMEM;
    }
    lu->target = t;
    lu->dev = dev_ref(d);
    lu->lun = lun;
    lu->counted_ns = rt_turn_ns();
    lu->uuid = info.uuid;
    lu->block_bytes = info.logical_block_bytes;
    lu->block_shift = log2_of(info.logical_block_bytes);
    lu->removable = info.removable;
    lu->same_to_end = info.same_to_end;
    lu->physical_shift = 0;
    if (info.physical_block_bytes > info.logical_block_bytes) {
        lu->physical_shift = log2_of(info.physical_block_bytes) - lu->block_shift;
    }
    atomic_init(&lu->refs, 1);
    atomic_init(&lu->mode, info.saved_modes & SCSI_MODE_BITS);
    for (int i = 0; i < SCSI_RESOURCES; i++) {
        atomic_init(&lu->thresholds[i], info.saved_thresholds[i] & SCSI_THRESHOLD_BITS);
    }
    atomic_init(&lu->ordered_oldest, UINT64_MAX);
    list_init(&lu->ordered);
    rt_mutex_init(&lu->m);
    list_init(&lu->views);
    list_init(&lu->wishes);
    lu->shard_tasks_max = SCSI_SHARD_TASKS_MAX;
    for (size_t i = 0; i < SCSI_SHARDS; i++) {
        rt_mutex_init(&lu->shards[i].m);
        list_init(&lu->shards[i].tasks);
    }
    *ret_lu = lu;
    return 0;
}

struct scsi_lu *scsi_lu_ref(struct scsi_lu *lu)
{
    atomic_fetch_add(&lu->refs, 1);
    return lu;
}

void scsi_lu_unref(struct scsi_lu *lu)
{
    if (!lu || atomic_fetch_sub(&lu->refs, 1) != 1) {
        return;
    }
    ASSERT(list_is_empty(&lu->views));
    for (size_t i = 0; i < SCSI_SHARDS; i++) {
        ASSERT(list_is_empty(&lu->shards[i].tasks));
        rt_mutex_destroy(&lu->shards[i].m);
    }
    rt_mutex_destroy(&lu->m);
    dev_unref(lu->dev);
    free(lu);
}

bool scsi_lu_writable(struct scsi_task *t)
{
    if (unlikely(dev_is_read_only(t->lu->dev) || t->itl->read_only)) {
        scsi_fail(t, SCSI_KEY_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED);
        return false;
    }
    if (unlikely(scsi_lu_mode(t->lu) & SCSI_MODE_SWP)) {
        scsi_fail(t, SCSI_KEY_DATA_PROTECT, SCSI_ASC_SOFTWARE_WRITE_PROTECTED);
        return false;
    }
    return true;
}

void scsi_lu_attention(struct scsi_lu *lu, enum scsi_ua ua, const struct scsi_nexus *except)
{
    rt_mutex_lock(&lu->m);
    list_for_each(&lu->views, struct scsi_itl, lu_link, itl) {
        if (itl->nexus != except) {
            scsi_attention_add(itl, ua);
        }
    }
    rt_mutex_unlock(&lu->m);
}

void scsi_itl_prevent(struct scsi_itl *itl, bool prevents)
{
    if (atomic_exchange(&itl->prevents, prevents) != prevents) {
        dev_prevent(itl->lu->dev, prevents);
    }
}

static void allow_removal(struct scsi_lu *lu)
{
    rt_mutex_lock(&lu->m);
    list_for_each(&lu->views, struct scsi_itl, lu_link, itl) {
        scsi_itl_prevent(itl, false);
    }
    rt_mutex_unlock(&lu->m);
}

void scsi_lu_reset(struct scsi_lu *lu, enum scsi_ua ua)
{
    allow_removal(lu);
    atomic_store(&lu->reserved_by, 0);
    struct scsi_mode saved = scsi_mode_saved(lu);
    atomic_store(&lu->mode, saved.bits);
    for (int i = 0; i < SCSI_RESOURCES; i++) {
        scsi_threshold_set(lu, (enum scsi_resource)i, saved.thresholds[i]);
    }
    scsi_lu_attention(lu, ua, NULL);
}

/* On whatever core the change happens. */
static void watch_event(struct dev_watch *w, enum dev_event event)
{
    struct scsi_itl *itl = container_of(w, struct scsi_itl, watch);
    switch (event) {
    case DEV_EVENT_RESIZED:
        scsi_attention_add(itl, SCSI_UA_CAPACITY_CHANGED);
        atomic_store(&itl->is_resized, true);
        if (itl->nexus->opt.news) {
            itl->nexus->opt.news(itl->nexus->opt.arg);
        }
        break;
    case DEV_EVENT_SETTINGS:
        if (atomic_load(&itl->lu->mode_selecting) != itl->nexus->id) {
            scsi_attention_add(itl, SCSI_UA_MODE_CHANGED);
        }
        break;
    case DEV_EVENT_MEDIUM:
        if (!dev_is_ejected(itl->lu->dev) && atomic_load(&itl->lu->loading) != itl->nexus->id) {
            scsi_attention_add(itl, SCSI_UA_MEDIUM_CHANGED);
        }
        break;
    case DEV_EVENT_REMOVED: /* I/O gives -ENODEV, and the target's LUN list has changed */
        break;
    }
}

int scsi_itl_create(struct scsi_nexus *n, struct scsi_lu *lu, uint32_t lun,
                    struct scsi_itl **ret_itl)
{
    struct scsi_itl *itl = calloc(1, sizeof *itl);
    if (!itl) {
        return -ENOMEM;
    }
    itl->nexus = n;
    itl->lu = scsi_lu_ref(lu);
    itl->lun = lun;
    itl->shard = &lu->shards[n->id % SCSI_SHARDS];
    atomic_init(&itl->ua, 1u << SCSI_UA_POWER_ON);
    list_init(&itl->watch.link);
    itl->watch.fn = watch_event;
    char who[sizeof itl->watch.who];
    snprintf(who, sizeof who, "iscsi %.100s", n->initiator);
    int r = dev_attach(lu->dev, who, n->name, &itl->watch);
    if (r < 0) {
        /* Deleted at this moment: the list of LUNs says so soon. */
        msg_debug("scsi", "LUN %u of %s is going away", lu->lun, n->target->iqn);
    }
    itl->attached = r >= 0;
    scsi_pr_attach(itl);
    scsi_alua_attach(itl);
    *ret_itl = itl;
    return 0;
}

void scsi_itl_destroy(struct scsi_itl *itl)
{
    ASSERT(itl->tasks == 0);
    struct scsi_lu *lu = itl->lu;
    if (itl->attached) {
        dev_detach(lu->dev, &itl->watch);
    }
    scsi_pr_detach(itl);
    scsi_itl_prevent(itl, false);
    rt_mutex_lock(&lu->m);
    list_remove(&itl->lu_link);
    scsi_stats_merge(&lu->past, &itl->stats);
    rt_mutex_unlock(&lu->m);
    uint64_t id = itl->nexus->id;
    atomic_compare_exchange_strong(&lu->reserved_by, &id, 0);
    free(itl->copies);
    free(itl);
    scsi_lu_unref(lu);
}
