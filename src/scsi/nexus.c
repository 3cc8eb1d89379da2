/* SPDX-License-Identifier: Apache-2.0 */
/* I_T nexuses: their views of the target's logical units, from login to nexus loss. */
#include "base/assert.h"
#include "base/endian.h"
#include "dev/access.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        uint32_t at = n->itls[mid]->lun;
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

/* A view to be. */
struct view {
    uint32_t lun;
    bool read_only;
    struct scsi_lu *lu;
};

static size_t table_index(const struct scsi_table *table, uint32_t lun)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (table->lus[mid]->lun < lun) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < table->count && table->lus[low]->lun == lun ? low : SIZE_MAX;
}

static int compare_views(const void *a, const void *b)
{
    uint32_t x = ((const struct view *)a)->lun;
    uint32_t y = ((const struct view *)b)->lun;
    return (x > y) - (x < y);
}

/* What the maps show to the initiator; taken: a bit for each LUN, then one for each unit. Of two
 * maps of one number, or of one unit, the one that names the initiator in full wins. */
static size_t mapped_views(const struct scsi_nexus *n, const struct scsi_table *table,
                           const struct dev_access *rules, uint8_t *taken, struct view *ret_views)
{
    size_t count = 0;
    for (size_t i = 0; i < 2 * rules->map_count; i++) {
        const struct dev_map *m = &rules->maps[i % rules->map_count];
        bool exact = strcmp(m->initiator, n->initiator) == 0;
        bool first_round = i < rules->map_count;
        size_t at = table_index(table, m->device);
        if (exact != first_round || at == SIZE_MAX || taken[m->lun] ||
            taken[DEV_LUN_MAX + 1 + at] || !dev_pattern_match(m->initiator, n->initiator)) {
            continue;
        }
        taken[m->lun] = taken[DEV_LUN_MAX + 1 + at] = 1;
        ret_views[count++] =
            (struct view){.lun = m->lun, .read_only = m->read_only, .lu = table->lus[at]};
    }
    qsort(ret_views, count, sizeof *ret_views, compare_views);
    return count;
}

/* What the nexus' initiator is to see of the target: at most table->count views. */
static int plan_views(const struct scsi_nexus *n, const struct scsi_target *t,
                      const struct scsi_table *table, struct view *ret_views, size_t *ret_count)
{
    struct dev_access *rules = NULL;
    int r = dev_access_get(t->host->registry, t->iqn, &rules);
    if (r < 0 || !rules || rules->map_count == 0) {
        for (size_t i = 0; i < table->count; i++) {
            ret_views[i] = (struct view){.lun = table->lus[i]->lun, .lu = table->lus[i]};
        }
        *ret_count = table->count;
        dev_access_unref(rules);
        return 0;
    }
    auto_free uint8_t *taken = calloc(1, DEV_LUN_MAX + 1 + table->count);
    if (taken) {
        *ret_count = mapped_views(n, table, rules, taken, ret_views);
    }
    dev_access_unref(rules);
    return taken ? 0 : -ENOMEM;
}

int scsi_nexus_shown(const struct scsi_nexus *n, const struct scsi_target *t,
                     const struct scsi_table *table, const struct scsi_lu *lu, bool *ret_read_only)
{
    size_t count = 0;
    auto_free struct view *views = calloc(table->count + 1, sizeof *views);
    int r = views ? plan_views(n, t, table, views, &count) : -ENOMEM;
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < count; i++) {
        if (views[i].lu == lu) {
            *ret_read_only = views[i].read_only;
            return 0;
        }
    }
    return -ENOENT;
}

/* The view that stays, or NULL. */
static struct scsi_itl *keep(const struct scsi_nexus *n, const struct view *v)
{
    struct scsi_itl *itl = scsi_nexus_find(n, v->lun);
    return itl && itl->lu == v->lu ? itl : NULL;
}

static int make_itls(struct scsi_nexus *n, const struct view *views, size_t count,
                     struct scsi_itl **ret_itls)
{
    for (size_t i = 0; i < count; i++) {
        ret_itls[i] = keep(n, &views[i]);
        int r = ret_itls[i] ? 0 : scsi_itl_create(n, views[i].lu, views[i].lun, &ret_itls[i]);
        if (r < 0) {
            for (size_t k = 0; k < i; k++) {
                if (!keep(n, &views[k])) {
                    scsi_itl_destroy(ret_itls[k]);
                }
            }
            return r;
        }
    }
    return 0;
}

static void set_read_only(struct scsi_itl *itl, bool read_only)
{
    if (itl->read_only != read_only) {
        itl->read_only = read_only;
        scsi_attention_add(itl, SCSI_UA_MODE_CHANGED);
    }
}

/* The views are the nexus' from now on: those that are gone retire, the others hear of it. */
static void replace_itls(struct scsi_nexus *n, struct scsi_itl **itls, size_t count)
{
    struct scsi_itl **old_itls = n->itls;
    size_t old_count = n->itl_count;
    bool changed = count != old_count;
    for (size_t i = 0; i < count && !changed; i++) {
        changed = itls[i] != old_itls[i];
    }
    n->itls = itls;
    n->itl_count = count;
    n->luns_changed |= changed && n->generation != UINT64_MAX;
    for (size_t i = 0; i < old_count; i++) {
        if (scsi_nexus_find(n, old_itls[i]->lun) != old_itls[i]) {
            retire(n, old_itls[i]);
        } else if (changed) {
            scsi_attention_add(old_itls[i], SCSI_UA_LUNS_CHANGED);
        }
    }
    free(old_itls);
}

/* Takes over the views that stay, makes those that are new, and retires the rest. */
static int adopt(struct scsi_nexus *n, const struct scsi_table *table)
{
    size_t count = 0;
    auto_free struct view *views = calloc(table->count + 1, sizeof *views);
    struct scsi_itl **itls = calloc(table->count + 1, sizeof(struct scsi_itl *));
    int r = views && itls ? plan_views(n, n->target, table, views, &count) : -ENOMEM;
    if (r >= 0) {
        r = make_itls(n, views, count, itls);
    }
    if (r < 0) {
        free(itls);
        return r;
    }
    for (size_t i = 0; i < count; i++) {
        bool fresh = !keep(n, &views[i]);
        if (fresh) {
            itls[i]->read_only = views[i].read_only;
        } else {
            set_read_only(itls[i], views[i].read_only);
        }
    }
    replace_itls(n, itls, count);
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
    snprintf(n->address, sizeof n->address, "%s", opt->address ? opt->address : "");
    n->opt.address = n->address;
    snprintf(n->identity, sizeof n->identity, "%s,i,0x%02x%02x%02x%02x%02x%02x", n->initiator,
             opt->isid[0], opt->isid[1], opt->isid[2], opt->isid[3], opt->isid[4], opt->isid[5]);
    snprintf(n->name, sizeof n->name, opt->tpgt == DEV_TAG_DEFAULT ? "%s" : "%s,t,0x%04x",
             n->identity, opt->tpgt);
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
    struct scsi_taskset_filter mine = {.nexus = n->id, .whole = true};
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
    if (n->copies) {
        rt_group_cancel(n->copies);
    }
    n->closing = true;
    rt_shield();
    uint64_t rings = scsi_bell_rings(&t->bell);
    while (n->tasks > 0) {
        int r = scsi_bell_wait(&t->bell, rings);
        ASSERT(r >= 0); /* shielded: nothing cancels it */
        rings = scsi_bell_rings(&t->bell);
    }
    rt_unshield();
    if (n->copies) {
        rt_group_wait(n->copies);
        rt_group_destroy(n->copies);
    }
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
        *ret_lun_raw = n->itl_count > 0 ? scsi_lun_encode(n->itls[0]->lun) : 0;
        *ret_len = scsi_sense_build(false, &s, ret_sense);
        return true;
    }
    for (size_t i = 0; i < n->itl_count; i++) {
        if (atomic_exchange(&n->itls[i]->is_resized, false)) {
            scsi_attention_sense(SCSI_UA_CAPACITY_CHANGED, &s);
            *ret_lun_raw = scsi_lun_encode(n->itls[i]->lun);
            *ret_len = scsi_sense_build(false, &s, ret_sense);
            return true;
        }
    }
    return false;
}

void scsi_nexus_cleared(struct scsi_nexus *n, uint64_t lun_raw)
{
    struct scsi_itl *itl = scsi_nexus_find(n, scsi_lun_decode(lun_raw));
    if (itl) {
        scsi_attention_add(itl, SCSI_UA_PROTOCOL_CLEARED);
    }
}

const char *scsi_nexus_initiator(const struct scsi_nexus *n)
{
    return n->initiator;
}

struct scsi_target *scsi_nexus_target(const struct scsi_nexus *n)
{
    return n->target;
}
