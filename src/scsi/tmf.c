/* SPDX-License-Identifier: Apache-2.0 */
/* Task management (SAM-5 7, RFC 7143 §11.5, RFC 7144 §4). */
#include "base/msg.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

static enum scsi_tmf_response answer(int r)
{
    return r < 0 ? SCSI_TMF_REJECTED : SCSI_TMF_COMPLETE;
}

static enum scsi_tmf_response abort_task(struct scsi_nexus *n, struct scsi_lu *lu, uint64_t tag)
{
    struct scsi_taskset_filter one = {.nexus = n->id, .by_tag = true, .tag = tag};
    if (scsi_taskset_abort(lu, &one, n) == 0) {
        return SCSI_TMF_NO_TASK;
    }
    return answer(scsi_taskset_wait(lu, &one));
}

static enum scsi_tmf_response abort_set(struct scsi_nexus *n, struct scsi_lu *lu, bool of_all)
{
    struct scsi_taskset_filter f = {.nexus = of_all ? 0 : n->id, .whole = true};
    scsi_taskset_abort(lu, &f, n);
    return answer(scsi_taskset_wait(lu, &f));
}

/* The tasks first: TAS counts as it was, and the reset takes it back. */
static void reset_begin(struct scsi_nexus *n, struct scsi_lu *lu, enum scsi_ua ua)
{
    struct scsi_taskset_filter all = {.whole = true, .reset = true};
    scsi_taskset_abort(lu, &all, n);
    scsi_lu_reset(lu, ua);
}

static enum scsi_tmf_response reset_lu(struct scsi_nexus *n, struct scsi_lu *lu)
{
    struct scsi_taskset_filter all = {0};
    reset_begin(n, lu, SCSI_UA_LU_RESET);
    return answer(scsi_taskset_wait(lu, &all));
}

static void drop_nexuses(struct scsi_target *t)
{
    rt_mutex_lock(&t->m);
    list_for_each(&t->nexuses, struct scsi_nexus, link, n) {
        if (n->opt.dropped) {
            n->opt.dropped(n->opt.arg);
        }
    }
    rt_mutex_unlock(&t->m);
}

/* The nexus' view of the unit, or NULL. */
static const struct scsi_itl *view_of(const struct scsi_nexus *n, const struct scsi_lu *lu,
                                      size_t likely_at)
{
    if (likely_at < n->itl_count && n->itls[likely_at]->lu == lu) {
        return n->itls[likely_at];
    }
    for (size_t i = 0; i < n->itl_count; i++) {
        if (n->itls[i]->lu == lu) {
            return n->itls[i];
        }
    }
    return NULL;
}

/* Leaves the units that the nexus sees: a map keeps others' units out of its reach. */
static void keep_known(const struct scsi_nexus *n, struct scsi_table *table)
{
    size_t kept = 0;
    for (size_t i = 0; i < table->count; i++) {
        if (view_of(n, table->lus[i], i)) {
            table->lus[kept++] = table->lus[i];
        } else {
            scsi_lu_unref(table->lus[i]);
        }
    }
    table->count = kept;
}

/* Puts the units first that the nexus may write to; how many. */
static size_t sort_governed(const struct scsi_nexus *n, struct scsi_table *table)
{
    size_t governed = 0;
    for (size_t i = 0; i < table->count; i++) {
        struct scsi_lu *lu = table->lus[i];
        const struct scsi_itl *itl = view_of(n, lu, i);
        if (itl && !itl->read_only) {
            table->lus[i] = table->lus[governed];
            table->lus[governed++] = lu;
        }
    }
    return governed;
}

/* Hard reset of all units of the target that the initiator knows (RFC 7143 §11.5.1); a cold one,
 * which ends all sessions, is for who knows them all. Of a unit that its map lets it read only, it
 * loses its own tasks, and nobody else does. The function's own task is in no task set, so nothing
 * waits for itself. */
static enum scsi_tmf_response reset_target(struct scsi_nexus *n, bool cold)
{
    struct scsi_target *t = n->target;
    struct scsi_table *table;
    scsi_nexus_refresh(n);
    int r = scsi_target_table(t, n->generation, &table);
    if (r < 0) {
        return SCSI_TMF_REJECTED;
    }
    size_t all_units = table->count;
    keep_known(n, table);
    size_t governed = sort_governed(n, table);
    if (cold && governed < all_units) {
        scsi_table_free(table);
        return SCSI_TMF_NOT_AUTHORIZED;
    }
    msg_info("scsi", "%s: %s reset by %s", t->iqn, cold ? "cold" : "warm", n->initiator);
    struct scsi_taskset_filter all = {0};
    struct scsi_taskset_filter mine = {.nexus = n->id, .whole = true};
    for (size_t i = 0; i < governed; i++) {
        reset_begin(n, table->lus[i], SCSI_UA_TARGET_RESET);
    }
    for (size_t i = governed; i < table->count; i++) {
        scsi_taskset_abort(table->lus[i], &mine, n);
    }
    for (size_t i = 0; i < table->count && r >= 0; i++) {
        r = scsi_taskset_wait(table->lus[i], i < governed ? &all : &mine);
    }
    scsi_table_free(table);
    if (cold) {
        drop_nexuses(t);
    }
    return answer(r);
}

/* I_T nexus loss without losing the connection, SAM-5 6.3.4. */
static enum scsi_tmf_response reset_nexus(struct scsi_nexus *n)
{
    struct scsi_table *table;
    int r = scsi_target_table(n->target, n->generation, &table);
    if (r < 0) {
        return SCSI_TMF_REJECTED;
    }
    scsi_nexus_abort_all(n);
    for (size_t i = 0; i < n->itl_count; i++) {
        uint64_t self = n->id;
        atomic_compare_exchange_strong(&n->itls[i]->lu->reserved_by, &self, 0);
        scsi_attention_add(n->itls[i], SCSI_UA_NEXUS_LOSS);
    }
    struct scsi_taskset_filter mine = {.nexus = n->id};
    for (size_t i = 0; i < table->count && r >= 0; i++) {
        r = scsi_taskset_wait(table->lus[i], &mine);
    }
    scsi_table_free(table);
    return answer(r);
}

static enum scsi_tmf_response query_set(struct scsi_nexus *n, struct scsi_lu *lu, bool by_tag,
                                        uint64_t tag)
{
    struct scsi_taskset_filter f = {.nexus = n->id, .by_tag = by_tag, .tag = tag};
    return scsi_taskset_count(lu, &f) > 0 ? SCSI_TMF_SUCCEEDED : SCSI_TMF_COMPLETE;
}

/* Additional response information of SAM-5 7.11: the sense that a command would end with. */
static enum scsi_tmf_response query_event(struct scsi_itl *itl, uint8_t ret_extra[3])
{
    struct scsi_sense s;
    if (!scsi_attention_next(itl, false, &s)) {
        return SCSI_TMF_COMPLETE;
    }
    unsigned depth = scsi_attention_count(itl) > 1 ? 2 : 1;
    ret_extra[0] = (uint8_t)(depth << 4 | s.key);
    ret_extra[1] = (uint8_t)(s.asc >> 8);
    ret_extra[2] = (uint8_t)s.asc;
    return SCSI_TMF_SUCCEEDED;
}

static enum scsi_tmf_response of_unit(struct scsi_itl *itl, enum scsi_tmf function, uint64_t tag,
                                      uint8_t ret_extra[3])
{
    struct scsi_nexus *n = itl->nexus;
    bool governs = function == SCSI_TMF_CLEAR_TASK_SET || function == SCSI_TMF_LU_RESET;
    if (governs && itl->read_only) {
        return SCSI_TMF_NOT_AUTHORIZED; /* who may only read does not end others' commands */
    }
    /* The view may go while this waits; the unit may not. */
    struct scsi_lu *lu = scsi_lu_ref(itl->lu);
    enum scsi_tmf_response r = SCSI_TMF_NOT_SUPPORTED;
    if (function == SCSI_TMF_ABORT_TASK) {
        r = abort_task(n, lu, tag);
    } else if (function == SCSI_TMF_ABORT_TASK_SET) {
        r = abort_set(n, lu, false);
    } else if (function == SCSI_TMF_CLEAR_TASK_SET) {
        r = abort_set(n, lu, true);
    } else if (function == SCSI_TMF_LU_RESET) {
        r = reset_lu(n, lu);
    } else if (function == SCSI_TMF_QUERY_TASK) {
        r = query_set(n, lu, true, tag);
    } else if (function == SCSI_TMF_QUERY_TASK_SET) {
        r = query_set(n, lu, false, 0);
    } else if (function == SCSI_TMF_QUERY_ASYNC_EVENT) {
        r = query_event(itl, ret_extra);
    }
    scsi_lu_unref(lu);
    return r;
}

enum scsi_tmf_response scsi_tmf(struct scsi_nexus *n, enum scsi_tmf function, uint64_t lun_raw,
                                uint64_t ref_tag, uint8_t ret_extra[3])
{
    memset(ret_extra, 0, 3);
    switch (function) {
    case SCSI_TMF_WARM_RESET:
        return reset_target(n, false);
    case SCSI_TMF_COLD_RESET:
        return reset_target(n, true);
    case SCSI_TMF_NEXUS_RESET:
        return reset_nexus(n);
    case SCSI_TMF_TASK_REASSIGN:
        return SCSI_TMF_NO_REASSIGN;
    case SCSI_TMF_CLEAR_ACA:
        return SCSI_TMF_NOT_SUPPORTED;
    case SCSI_TMF_ABORT_TASK:
    case SCSI_TMF_ABORT_TASK_SET:
    case SCSI_TMF_CLEAR_TASK_SET:
    case SCSI_TMF_LU_RESET:
    case SCSI_TMF_QUERY_TASK:
    case SCSI_TMF_QUERY_TASK_SET:
    case SCSI_TMF_QUERY_ASYNC_EVENT:
        break;
    default:
        return SCSI_TMF_NOT_SUPPORTED;
    }
    scsi_nexus_refresh(n);
    uint32_t lun = scsi_lun_decode(lun_raw);
    struct scsi_itl *itl = lun <= DEV_LUN_MAX ? scsi_nexus_find(n, lun) : NULL;
    return itl ? of_unit(itl, function, ref_tag, ret_extra) : SCSI_TMF_NO_LUN;
}
