/* SPDX-License-Identifier: Apache-2.0 */
/* The host and its targets: what the registry knows of an IQN, as SCSI shows it. */
#include "base/assert.h"
#include "scsi/rod.h"
#include "scsi/scsi_priv.h"
#include <stdio.h>

int scsi_host_create(struct dev_registry *reg, struct scsi_host **ret_host)
{
    struct scsi_host *h = calloc(1, sizeof *h);
    if (!h) {
        return -ENOMEM;
    }
    int r = scsi_rods_create(reg, &h->rods);
    if (r < 0) {
        free(h);
        return r;
    }
    h->registry = reg;
    rt_mutex_init(&h->m);
    list_init(&h->targets);
    *ret_host = h;
    return 0;
}

void scsi_host_guard(struct scsi_host *h,
                     bool (*admits)(void *arg, const char *iqn, const char *initiator), void *arg)
{
    h->admits = admits;
    h->admits_arg = arg;
}

void scsi_host_destroy(struct scsi_host *h)
{
    if (!h) {
        return;
    }
    ASSERT(list_is_empty(&h->targets));
    scsi_rods_destroy(h->rods);
    rt_mutex_destroy(&h->m);
    free(h);
}

static struct scsi_target *find_locked(struct scsi_host *h, const struct dev_target_info *info)
{
    list_for_each(&h->targets, struct scsi_target, link, t) {
        if (strcmp(t->iqn, info->iqn) == 0 && uuid_equal(&t->uuid, &info->uuid)) {
            t->refs++;
            return t;
        }
    }
    return NULL;
}

int scsi_target_get(struct scsi_host *h, const char *iqn, struct scsi_target **ret_target)
{
    struct dev_target_info info;
    int r = dev_target_find(h->registry, iqn, &info);
    if (r < 0) {
        return r;
    }
    struct scsi_target *t = calloc(1, sizeof *t);
    if (!t) {
        return -ENOMEM;
    }
    t->host = h;
    t->refs = 1;
    snprintf(t->iqn, sizeof t->iqn, "%s", info.iqn);
    t->uuid = info.uuid;
    rt_mutex_init(&t->m);
    list_init(&t->nexuses);
    scsi_bell_init(&t->bell);

    rt_mutex_lock(&h->m);
    struct scsi_target *old = find_locked(h, &info);
    if (!old) {
        list_push_back(&h->targets, &t->link);
    }
    rt_mutex_unlock(&h->m);
    if (old) {
        scsi_bell_destroy(&t->bell);
        rt_mutex_destroy(&t->m);
        free(t);
    }
    *ret_target = old ? old : t;
    return 0;
}

void scsi_target_put(struct scsi_target *t)
{
    if (!t) {
        return;
    }
    struct scsi_host *h = t->host;
    rt_mutex_lock(&h->m);
    bool last = --t->refs == 0;
    if (last) {
        list_remove(&t->link);
    }
    rt_mutex_unlock(&h->m);
    if (last) {
        ASSERT(list_is_empty(&t->nexuses));
        scsi_table_free(t->table);
        scsi_bell_destroy(&t->bell);
        rt_mutex_destroy(&t->m);
        free(t);
    }
}

const char *scsi_target_iqn(const struct scsi_target *t)
{
    return t->iqn;
}

unsigned scsi_target_sessions(const struct scsi_target *t)
{
    struct scsi_target *m = (struct scsi_target *)(uintptr_t)t; /* only its mutex is touched */
    rt_mutex_lock(&m->m);
    unsigned n = m->sessions;
    rt_mutex_unlock(&m->m);
    return n;
}

size_t scsi_target_ports(const struct scsi_target *t, uint16_t ret_ports[DEV_TAGS_MAX])
{
    struct dev_path paths[DEV_TAGS_MAX];
    size_t count = dev_path_list(t->host->registry, t->iqn, NULL, paths, NULL);
    for (size_t i = 0; i < count; i++) {
        ret_ports[i] = paths[i].tag;
    }
    return count;
}

/* The unit of the lowest LUN from that one on, with a reference; or NULL. */
static struct scsi_lu *next_lu(struct scsi_target *t, uint32_t from)
{
    struct scsi_lu *found = NULL;
    rt_mutex_lock(&t->m);
    for (size_t i = 0; t->table && i < t->table->count && !found; i++) {
        if (t->table->lus[i]->lun >= from) {
            found = scsi_lu_ref(t->table->lus[i]);
        }
    }
    rt_mutex_unlock(&t->m);
    return found;
}

static void look_at_paths(struct scsi_target *t)
{
    struct scsi_lu *lu;
    for (uint32_t lun = 0; (lu = next_lu(t, lun)) != NULL; lun++) {
        lun = lu->lun;
        scsi_alua_look(lu);
        scsi_lu_unref(lu);
    }
}

/* The target after that one (NULL: the first), with a reference; NULL: there is none. */
static struct scsi_target *next_target(struct scsi_host *h, const struct scsi_target *after)
{
    struct scsi_target *found = NULL;
    bool passed = !after;
    rt_mutex_lock(&h->m);
    list_for_each(&h->targets, struct scsi_target, link, t) {
        if (passed && !found) {
            found = t;
            found->refs++;
        }
        passed = passed || t == after;
    }
    rt_mutex_unlock(&h->m);
    return found;
}

void scsi_paths_changed(struct scsi_host *h, const char *iqn)
{
    struct scsi_target *t = next_target(h, NULL);
    while (t) {
        if (!iqn || strcmp(t->iqn, iqn) == 0) {
            look_at_paths(t);
        }
        struct scsi_target *next = next_target(h, t);
        scsi_target_put(t);
        t = next;
    }
}

void scsi_table_free(struct scsi_table *table)
{
    if (!table) {
        return;
    }
    for (size_t i = 0; i < table->count; i++) {
        scsi_lu_unref(table->lus[i]);
    }
    free(table);
}

static struct scsi_table *table_alloc(size_t count, uint64_t generation)
{
    struct scsi_table *table = calloc(1, sizeof *table + count * sizeof(struct scsi_lu *));
    if (table) {
        table->generation = generation;
    }
    return table;
}

static struct scsi_table *table_copy(const struct scsi_table *from)
{
    struct scsi_table *copy = table_alloc(from->count, from->generation);
    if (copy) {
        copy->count = from->count;
        for (size_t i = 0; i < from->count; i++) {
            copy->lus[i] = scsi_lu_ref(from->lus[i]);
        }
    }
    return copy;
}

/* The LU of that LUN and device in the current table, with a reference, or NULL. */
static struct scsi_lu *table_lookup(struct scsi_target *t, uint32_t lun, const struct dev *d)
{
    struct scsi_lu *found = NULL;
    rt_mutex_lock(&t->m);
    for (size_t i = 0; t->table && i < t->table->count && !found; i++) {
        struct scsi_lu *lu = t->table->lus[i];
        if (lu->lun == lun && lu->dev == d) {
            found = scsi_lu_ref(lu);
        }
    }
    rt_mutex_unlock(&t->m);
    return found;
}

/* The target's LUNs as the registry has them now. */
static int table_build(struct scsi_target *t, uint64_t generation, struct scsi_table **ret_table)
{
    const size_t max = DEV_LUN_MAX + 1;
    auto_free uint32_t *luns = malloc(max * sizeof *luns);
    if (!luns) {
        return -ENOMEM;
    }
    size_t count = 0;
    if (generation != 0) {
        count = dev_lun_list(t->host->registry, t->iqn, luns, max);
    }
    struct scsi_table *table = table_alloc(count, generation);
    if (!table) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        struct dev *d;
        int r = dev_find_lun(t->host->registry, t->iqn, luns[i], &d);
        if (r < 0) {
            continue; /* removed in between; the generation moves once more */
        }
        struct scsi_lu *lu = table_lookup(t, luns[i], d);
        r = lu ? 0 : scsi_lu_create(t, luns[i], d, &lu);
        dev_unref(d);
        if (r < 0) {
            scsi_table_free(table);
            return r;
        }
        table->lus[table->count++] = lu;
    }
    *ret_table = table;
    return 0;
}

/*
 * Makes the table the target's, unless a newer one is. Two nexuses may have built one of the same
 * generation at the same time, with different LU objects for a new LUN: the first to come here
 * wins, and the other takes its objects.
 */
static void table_publish(struct scsi_target *t, struct scsi_table *table)
{
    rt_mutex_lock(&t->m);
    if (!t->table || t->table->generation < table->generation || table->generation == 0) {
        struct scsi_table *old = t->table;
        t->table = table;
        table = old;
    }
    rt_mutex_unlock(&t->m);
    scsi_table_free(table);
}

int scsi_target_table(struct scsi_target *t, uint64_t generation, struct scsi_table **ret_copy)
{
    rt_mutex_lock(&t->m);
    bool stale = !t->table || t->table->generation != generation;
    rt_mutex_unlock(&t->m);
    if (stale) {
        struct scsi_table *table;
        int r = table_build(t, generation, &table);
        if (r < 0) {
            return r;
        }
        table_publish(t, table);
    }
    rt_mutex_lock(&t->m);
    struct scsi_table *copy = table_copy(t->table);
    rt_mutex_unlock(&t->m);
    if (!copy) {
        return -ENOMEM;
    }
    *ret_copy = copy;
    return 0;
}
