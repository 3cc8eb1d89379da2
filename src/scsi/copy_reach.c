/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which logical unit an identification stands for, seen from an I_T nexus. It is one that the
 * nexus sees under some LUN; or one of another target, if the initiator could log in there from
 * where it is, through the portal group that it came by, and would see it. Either has to be in an
 * access state in which that port group carries out reads and writes. A target that wants its
 * initiators to prove who they are has not been shown that by a login to this one, so its units are
 * out of reach. Reservations hold here as if the initiator had sent the commands itself, and
 * whoever holds a RESERVE(6) of a unit without a view in this nexus is somebody else.
 */
#include "dev/access.h"
#include "scsi/copy_priv.h"
#include "scsi/pr_priv.h"
#include "scsi/sense.h"
#include "scsi/vpd.h"

#define LIST_STEP 4u

enum { /* SPC-4 7.8.6 */
    CODE_BINARY = 1,
    OF_LU = 0,
    TYPE_NAA = 3,
};

static void take_view(struct scsi_itl *itl, struct scsi_copy_unit *ret)
{
    *ret = (struct scsi_copy_unit){
        .lu = scsi_lu_ref(itl->lu), .read_only = itl->read_only, .itl = itl};
}

void scsi_copy_reach_self(struct scsi_task *t, struct scsi_copy_unit *ret_unit)
{
    take_view(t->itl, ret_unit);
}

bool scsi_copy_refused(const struct scsi_task *t, const struct scsi_copy_unit *unit,
                       enum scsi_access access)
{
    uint64_t holder = atomic_load(&unit->lu->reserved_by);
    bool reserved = holder != 0 && holder != t->nexus->id;
    return reserved || scsi_pr_refused(unit->lu->pr, t->nexus) & 1u << access;
}

void scsi_copy_unit_release(struct scsi_copy_unit *unit)
{
    scsi_copy_guest_leave(unit);
    scsi_lu_unref(unit->lu);
    scsi_target_put(unit->target);
    *unit = (struct scsi_copy_unit){0};
}

static bool is_naa_of(const struct uuid *u, const struct scsi_copy_cscd *cscd)
{
    uint8_t naa[SCSI_NAA_BYTES];
    scsi_naa_put(u, naa);
    return memcmp(naa, cscd->designator, sizeof naa) == 0;
}

static bool may_log_in(const struct scsi_nexus *n, const char *iqn)
{
    struct dev_access *rules;
    struct scsi_host *h = n->target->host;
    if (!dev_target_is_reached(h->registry, iqn, n->opt.tpgt) ||
        dev_access_get(h->registry, iqn, &rules) < 0) {
        return false;
    }
    bool may =
        !dev_access_authenticates(rules) && dev_access_allows(rules, n->initiator, n->address);
    dev_access_unref(rules);
    return may && (!h->admits || h->admits(h->admits_arg, iqn, n->initiator));
}

/* Through the port that the nexus came by. */
static bool is_accessible(const struct scsi_nexus *n, struct scsi_lu *lu)
{
    struct dev_path paths[DEV_TAGS_MAX];
    struct scsi_sense unused;
    bool blocked = false;
    scsi_alua_look(lu); /* of a target without sessions nobody has told it */
    size_t count = scsi_alua_paths(lu, paths);
    for (size_t i = 0; i < count; i++) {
        blocked |= paths[i].tag == n->opt.tpgt && scsi_alua_sense(paths[i].state, &unused);
    }
    return !blocked;
}

/* The unit of that device, if the target shows it to the initiator. */
static int take_shown(const struct scsi_nexus *n, struct scsi_target *target,
                      const struct dev_info *info, struct scsi_copy_unit *ret)
{
    struct scsi_table *table;
    uint64_t generation = dev_target_generation(n->target->host->registry, target->iqn);
    int r = scsi_target_table(target, generation, &table);
    if (r < 0) {
        return r;
    }
    struct scsi_lu *lu = NULL;
    for (size_t i = 0; i < table->count; i++) {
        lu = uuid_equal(&table->lus[i]->uuid, &info->uuid) ? table->lus[i] : lu;
    }
    bool read_only = false;
    r = lu ? scsi_nexus_shown(n, target, table, lu, &read_only) : -ENOENT;
    if (r >= 0) {
        *ret = (struct scsi_copy_unit){.lu = scsi_lu_ref(lu), .read_only = read_only};
    }
    scsi_table_free(table);
    return r;
}

static int reach_other(const struct scsi_nexus *n, const struct dev_info *info,
                       struct scsi_copy_unit *ret) WAITS
{
    struct scsi_target *target;
    if (!may_log_in(n, info->name)) {
        return -ENOENT;
    }
    int r = scsi_target_get(n->target->host, info->name, &target);
    if (r < 0) {
        return r;
    }
    r = take_shown(n, target, info, ret);
    if (r < 0) {
        scsi_target_put(target);
        return r;
    }
    ret->target = target;
    return 0;
}

static int search_others(const struct scsi_nexus *n, const struct scsi_copy_cscd *cscd,
                         struct scsi_copy_unit *ret) WAITS
{
    struct dev_info infos[LIST_STEP];
    struct dev_info last;
    const struct dev_info *after = NULL;
    for (;;) {
        size_t count =
            dev_list(n->target->host->registry, DEV_ISCSI, after, infos, ARRAY_LEN(infos));
        for (size_t i = 0; i < count; i++) {
            bool other = strcmp(infos[i].name, n->target->iqn) != 0;
            if (!other || !is_naa_of(&infos[i].uuid, cscd)) {
                continue;
            }
            int r = reach_other(n, &infos[i], ret);
            if (r != -ENOENT) {
                return r;
            }
        }
        if (count < ARRAY_LEN(infos)) {
            return -ENOENT;
        }
        last = infos[count - 1];
        after = &last;
    }
}

static int find(struct scsi_task *t, const struct scsi_copy_cscd *cscd,
                struct scsi_copy_unit *ret_unit) WAITS
{
    const struct scsi_nexus *n = t->nexus;
    if (cscd->null || cscd->association != OF_LU || cscd->designator_type != TYPE_NAA ||
        cscd->code_set != CODE_BINARY || cscd->designator_len != SCSI_NAA_BYTES) {
        return -ENOENT;
    }
    for (size_t i = 0; i < n->itl_count; i++) {
        if (is_naa_of(&n->itls[i]->lu->uuid, cscd)) {
            take_view(n->itls[i], ret_unit);
            return 0;
        }
    }
    return search_others(n, cscd, ret_unit);
}

int scsi_copy_reach(struct scsi_task *t, const struct scsi_copy_cscd *cscd,
                    struct scsi_copy_unit *ret_unit)
{
    int r = find(t, cscd, ret_unit);
    if (r < 0) {
        return r;
    }
    r = is_accessible(t->nexus, ret_unit->lu) ? scsi_copy_guest_enter(t, ret_unit) : -ENOENT;
    if (r < 0) {
        scsi_copy_unit_release(ret_unit);
    }
    return r;
}
