/* SPDX-License-Identifier: Apache-2.0 */
/* I_T nexuses: their views of the target's logical units, from login to nexus loss. */
#include "base/assert.h"
#include "base/endian.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include <stdio.h>

uint32_t scsi_lun_decode(uint64_t lun_raw)
{
    uint32_t first = (uint32_t)(lun_raw >> 48);
    if ((lun_raw & 0xffffffffffffull) != 0) {
        return UINT32_MAX; /* further levels of addressing */
    }
    switch (first >> 14) {
    case 0: /* peripheral device addressing, SAM-5 4.7.7.2; bus 0 only */
        return first <= 0xff ? first : UINT32_MAX;
    case 1: /* flat space addressing, 4.7.7.3 */
        return first & 0x3fff;
    default:
        return first == SCSI_WLUN_REPORT_LUNS ? first : UINT32_MAX;
    }
}

uint64_t scsi_lun_encode(uint32_t lun)
{
    if (lun == SCSI_WLUN_REPORT_LUNS || lun <= 0xff) {
        return (uint64_t)lun << 48;
    }
    return (uint64_t)(0x4000u | lun) << 48;
}

struct scsi_itl *scsi_nexus_find(const struct scsi_nexus *n, uint32_t lun)
{
    size_t low = 0;
    size_t high = n->itl_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        uint32_t at = n->itls[mid]->lu->lun;
        if (at == lun) {
            return n->itls[mid];
        }
        if (at < lun) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

static void retire(struct scsi_nexus *n, struct scsi_itl *itl)
{
    if (itl->tasks == 0) {
        scsi_itl_destroy(itl);
        return;
    }
    itl->gone = true;
    list_push_back(&n->gone_itls, &itl->gone_link);
}

/* Takes over the views that stay, makes those that are new, and retires the rest. */
static int adopt(struct scsi_nexus *n, const struct scsi_table *table)
{
    struct scsi_itl **itls = calloc(table->count + 1, sizeof(struct scsi_itl *));
    if (!itls) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < table->count; i++) {
        struct scsi_itl *old = scsi_nexus_find(n, table->lus[i]->lun);
        if (old && old->lu == table->lus[i]) {
            itls[i] = old;
            continue;
        }
        int r = scsi_itl_create(n, table->lus[i], &itls[i]);
        if (r < 0) {
            for (size_t k = 0; k < i; k++) {
                if (scsi_nexus_find(n, itls[k]->lu->lun) != itls[k]) {
                    scsi_itl_destroy(itls[k]);
                }
            }
            free(itls);
            return r;
        }
    }
    struct scsi_itl **old_itls = n->itls;
    size_t old_count = n->itl_count;
    n->itls = itls;
    n->itl_count = table->count;
    n->luns_changed = n->generation != UINT64_MAX;
    for (size_t i = 0; i < old_count; i++) {
        if (scsi_nexus_find(n, old_itls[i]->lu->lun) == old_itls[i]) {
            scsi_attention_add(old_itls[i], SCSI_UA_LUNS_CHANGED);
        } else {
            retire(n, old_itls[i]);
        }
    }
    free(old_itls);
    return 0;
}

void scsi_nexus_refresh(struct scsi_nexus *n)
{
    uint64_t generation = dev_target_generation(n->target->host->registry, n->target->iqn);
    n->checked_ns = rt_turn_ns();
    if (likely(generation == n->generation)) {
        return;
    }
    struct scsi_table *table;
    int r = scsi_target_table(n->target, generation, &table);
    if (r < 0) {
        return; /* out of memory: the next command tries again */
    }
    r = adopt(n, table);
    if (r >= 0) {
        n->generation = table->generation;
    }
    scsi_table_free(table);
    if (generation == 0 && !n->dropping && n->opt.dropped) {
        n->dropping = true;
        n->opt.dropped(n->opt.arg);
    }
}

int scsi_nexus_create(struct scsi_target *t, const struct scsi_nexus_options *opt,
                      struct scsi_nexus **ret_nexus)
{
    struct scsi_nexus *n = calloc(1, sizeof *n);
    if (!n) {
        return -ENOMEM;
    }
    n->target = t;
    n->opt = *opt;
    list_init(&n->gone_itls);
    snprintf(n->initiator, sizeof n->initiator, "%s", opt->initiator_name);
    n->opt.initiator_name = n->initiator;
    snprintf(n->identity, sizeof n->identity, "%s,i,0x%02x%02x%02x%02x%02x%02x", n->initiator,
             opt->isid[0], opt->isid[1], opt->isid[2], opt->isid[3], opt->isid[4], opt->isid[5]);
    n->id = 1 + atomic_fetch_add(&t->host->nexus_ids, 1);
    n->generation = UINT64_MAX;
    scsi_nexus_refresh(n);
    if (n->generation == UINT64_MAX) {
        free(n->itls);
        free(n);
        return -ENOMEM;
    }
    rt_mutex_lock(&t->host->m);
    t->refs++;
    rt_mutex_unlock(&t->host->m);
    rt_mutex_lock(&t->m);
    list_push_back(&t->nexuses, &n->link);
    t->sessions++;
    rt_mutex_unlock(&t->m);
    *ret_nexus = n;
    return 0;
}

void scsi_nexus_abort_all(struct scsi_nexus *n)
{
    struct scsi_taskset_filter mine = {.nexus = n, .whole = true};
    for (size_t i = 0; i < n->itl_count; i++) {
        scsi_taskset_abort(n->itls[i]->lu, &mine, n);
    }
    list_for_each(&n->gone_itls, struct scsi_itl, gone_link, itl) {
        scsi_taskset_abort(itl->lu, &mine, n);
    }
}

void scsi_nexus_destroy(struct scsi_nexus *n)
{
    struct scsi_target *t = n->target;
    rt_mutex_lock(&t->m);
    list_remove(&n->link);
    t->sessions--;
    rt_mutex_unlock(&t->m);

    scsi_nexus_abort_all(n);
    n->closing = true;
    rt_shield();
    uint64_t rings = scsi_bell_rings(&t->bell);
    while (n->tasks > 0) {
        int r = scsi_bell_wait(&t->bell, rings);
        ASSERT(r >= 0); /* shielded: nothing cancels it */
        rings = scsi_bell_rings(&t->bell);
    }
    rt_unshield();
    for (size_t i = 0; i < n->itl_count; i++) {
        scsi_itl_destroy(n->itls[i]);
    }
    free(n->itls);
    free(n);
    scsi_target_put(t);
}

bool scsi_nexus_news(struct scsi_nexus *n, uint64_t *ret_lun_raw, uint8_t ret_sense[SCSI_SENSE_MAX],
                     size_t *ret_len)
{
    struct scsi_sense s;
    scsi_nexus_refresh(n);
    if (n->luns_changed) {
        n->luns_changed = false;
        scsi_attention_sense(SCSI_UA_LUNS_CHANGED, &s);
        *ret_lun_raw = n->itl_count > 0 ? scsi_lun_encode(n->itls[0]->lu->lun) : 0;
        *ret_len = scsi_sense_build(false, &s, ret_sense);
        return true;
    }
    for (size_t i = 0; i < n->itl_count; i++) {
        if (atomic_exchange(&n->itls[i]->is_resized, false)) {
            scsi_attention_sense(SCSI_UA_CAPACITY_CHANGED, &s);
            *ret_lun_raw = scsi_lun_encode(n->itls[i]->lu->lun);
            *ret_len = scsi_sense_build(false, &s, ret_sense);
            return true;
        }
    }
    return false;
}

const char *scsi_nexus_initiator(const struct scsi_nexus *n)
{
    return n->initiator;
}

struct scsi_target *scsi_nexus_target(const struct scsi_nexus *n)
{
    return n->target;
}
