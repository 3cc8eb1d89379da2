/* SPDX-License-Identifier: Apache-2.0 */
/* A command's way: begin, turn, run, end. */
#include "base/assert.h"
#include "base/endian.h"
#include "scsi/medium.h"
#include "scsi/scsi_priv.h"
#include "scsi/sense.h"

static void chain_free(struct rt_chain *c)
{
    if (c->count > 0 || c->heap) {
        rt_chain_free(c);
    }
}

void scsi_task_init(struct scsi_task *t, struct scsi_nexus *n, uint64_t lun_raw, const uint8_t *cdb,
                    size_t cdb_len)
{
    ASSERT(cdb_len <= SCSI_CDB_MAX);
    t->nexus = n;
    t->lun_raw = lun_raw;
    memcpy(t->cdb, cdb, cdb_len);
    t->cdb_len = (uint16_t)cdb_len;
    t->attr = SCSI_ATTR_SIMPLE;
    t->tag = 0;
    t->transport_read = false;
    t->transport_write = false;
    t->edtl = 0;
    t->lu = NULL;
    t->dir = SCSI_DIR_NONE;
    t->data_len = 0;
    t->out_wanted = 0;
    t->takes_space = false;
    t->ended = false;
    rt_chain_init(&t->data_out);
    t->space = (struct vol_space){0};
    t->on_abort = NULL;
    t->transport_arg = NULL;
    t->way = NULL;
    t->status = SCSI_GOOD;
    t->sense_len = 0;
    rt_chain_init(&t->data_in);
    t->in_total = 0;
    t->aborted = false;
    t->by_set = false;
    t->by_other = false;
    t->abort_id = 0;
    t->send_aborted = false;
    t->tells_loss = false;
    t->command = NULL;
    t->itl = NULL;
    list_init(&t->lu_link);
    list_init(&t->order_link);
    t->order = 0;
    t->lba = 0;
    t->blocks = 0;
    t->begun_ns = 0;
    atomic_store_explicit(&t->state, SCSI_TASK_NEW, memory_order_relaxed);
    t->awaited = false;
    t->by_reset = false;
    t->tas = false;
    t->turned = false;
    t->is_guest = false;
}

bool scsi_task_is_aborted(const struct scsi_task *t)
{
    return atomic_load_explicit(&t->state, memory_order_acquire) == SCSI_TASK_ABORTING;
}

/* A status other than GOOD may mean something for others (QErr), and for later commands. */
static void ended_badly(struct scsi_task *t)
{
    uint32_t mode = scsi_lu_mode(t->lu);
    if (t->status != SCSI_CHECK_CONDITION) {
        scsi_attention_status(t);
    } else if (mode & SCSI_MODE_QERR) {
        struct scsi_taskset_filter f = {.except = t};
        f.nexus = mode & SCSI_MODE_QERR_NEXUS ? t->nexus->id : 0;
        scsi_taskset_abort(t->lu, &f, t->nexus);
    }
}

/* The result is there: from here on it is too late to abort, or it was in time. */
static void finish(struct scsi_task *t)
{
    unsigned state = SCSI_TASK_ENTERED;
    if (unlikely(!t->itl)) {
        return;
    }
    if (likely(atomic_compare_exchange_strong(&t->state, &state, SCSI_TASK_DONE)) ||
        state == SCSI_TASK_DONE) {
        if (unlikely(t->status != SCSI_GOOD)) {
            ended_badly(t);
        }
        return;
    }
    t->aborted = true;
    scsi_fail_status(t, SCSI_TASK_ABORTED);
    if (unlikely(t->tells_loss)) {
        scsi_task_untold(t);
    }
    if (!t->by_other) {
        return;
    }
    if (t->tas) {
        t->send_aborted = true;
    } else if (!t->by_reset) {
        scsi_attention_add(t->itl, SCSI_UA_COMMANDS_CLEARED);
    }
}

/*
 * By a reservation of either kind. A RESERVE(6) lets nobody have or ask for persistent
 * reservations, not even who holds it (SPC-2 5.5.1).
 */
static bool is_refused(const struct scsi_task *t, const struct scsi_command *c)
{
    uint64_t holder = atomic_load_explicit(&t->lu->reserved_by, memory_order_relaxed);
    unsigned access = c ? c->access : SCSI_ACCESS_UNSAID;
    if (unlikely(holder != 0)) {
        bool other = holder != t->nexus->id && !(c && (c->flags & SCSI_CMD_RESERVED_OK));
        if (other || access == SCSI_ACCESS_PERSISTENT) {
            return true;
        }
    }
    uint32_t refuses = atomic_load_explicit(&t->itl->refuses, memory_order_acquire);
    if (likely(!(refuses & 1u << access))) {
        return false;
    }
    bool starts = (t->cdb[4] & 0xf1) == 0x01; /* START, no POWER CONDITION */
    return access != SCSI_ACCESS_START_STOP || !starts;
}

/* What speaks against a command before its CDB is looked at: true when it may go on. */
static bool admit(struct scsi_task *t, const struct scsi_command *c, uint32_t lun)
{
    unsigned flags = c ? c->flags : 0;
    if (!t->itl) {
        bool answers =
            lun == SCSI_WLUN_REPORT_LUNS ? flags & SCSI_CMD_WLUN : flags & SCSI_CMD_NO_LU;
        if (!answers) {
            bool known = lun == SCSI_WLUN_REPORT_LUNS;
            scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST,
                      known ? SCSI_ASC_INVALID_OPCODE : SCSI_ASC_LUN_NOT_SUPPORTED);
        }
        return answers;
    }
    struct scsi_sense attention;
    if (unlikely(atomic_load_explicit(&t->itl->ua, memory_order_relaxed) != 0) &&
        !(flags & SCSI_CMD_UA_OK) &&
        scsi_attention_next(t->itl, !(scsi_lu_mode(t->lu) & SCSI_MODE_UA_STAYS), &attention)) {
        scsi_fail_sense(t, &attention);
        return false;
    }
    unsigned access = atomic_load_explicit(&t->itl->access, memory_order_acquire);
    if (unlikely(access > DEV_PATH_NON_OPTIMIZED) && c && !scsi_alua_lets(access, c)) {
        (void)scsi_alua_sense(access, &attention);
        scsi_fail_sense(t, &attention);
        return false;
    }
    if (unlikely(is_refused(t, c))) {
        scsi_fail_status(t, SCSI_RESERVATION_CONFLICT);
        return false;
    }
    if (unlikely(dev_sanitize_state(t->lu->dev, NULL) != DEV_SANITIZED_NOT) &&
        !(flags & (SCSI_CMD_UA_OK | SCSI_CMD_SANITIZING))) {
        struct scsi_sense s;
        scsi_sanitize_sense(t->lu, &s);
        scsi_fail_sense(t, &s);
        return false;
    }
    if (unlikely(flags & (SCSI_CMD_MEDIUM | SCSI_CMD_LOADED)) && dev_is_ejected(t->lu->dev)) {
        scsi_fail(t, SCSI_KEY_NOT_READY, SCSI_ASC_MEDIUM_NOT_PRESENT);
        return false;
    }
    return true;
}

static uint64_t cdb_length_field(const struct scsi_task *t, const struct scsi_command *c)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < c->len_size; i++) {
        v = v << 8 | t->cdb[c->len_at + i];
    }
    return v;
}

/* The CDB itself: true when the command is to be run. */
static bool examine(struct scsi_task *t, const struct scsi_command *c)
{
    if (unlikely(c->flags & SCSI_CMD_ENCRYPTED) && !scsi_command_is_offered(c, t->lu)) {
        scsi_fail_cdb(t, 1, 4); /* as any other service action that is not there */
        return false;
    }
    if (unlikely(t->cdb[c->cdb_len - 1] & 0x04)) {
        scsi_fail_cdb(t, c->cdb_len - 1u, 2); /* NACA; INQUIRY says NORMACA = 0 */
        return false;
    }
    if (unlikely(t->attr == SCSI_ATTR_ACA)) {
        scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_MESSAGE);
        return false;
    }
    t->command = c;
    t->dir = c->dir;
    t->data_len = cdb_length_field(t, c);
    if (t->lu && (c->flags & SCSI_CMD_WRITES) && !scsi_lu_writable(t)) {
        return false;
    }
    if (t->lu && (c->flags & SCSI_CMD_GOVERNS) && t->itl->read_only) {
        scsi_fail(t, SCSI_KEY_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED);
        return false;
    }
    if (c->parse) {
        c->parse(t);
    }
    return t->status == SCSI_GOOD;
}

static void look_up(struct scsi_task *t, const struct scsi_command *c, uint32_t lun)
{
    struct scsi_nexus *n = t->nexus;
    bool hot =
        c && (c->flags & SCSI_CMD_MEDIUM) && rt_turn_ns() - n->checked_ns < SCSI_LUNS_RECHECK_NS;
    if (unlikely(!hot)) {
        scsi_nexus_refresh(n);
    }
    t->itl = lun <= DEV_LUN_MAX ? scsi_nexus_find(n, lun) : NULL;
    if (likely(t->itl)) {
        t->lu = t->itl->lu;
        if (unlikely(!scsi_taskset_enter(t))) {
            /* BUSY for who has no command in the set: SAM-5 5.3.1. */
            scsi_fail_status(t, t->itl->tasks > 1 ? SCSI_TASK_SET_FULL : SCSI_BUSY);
        }
        scsi_stats_begin(t);
        if (unlikely(!hot)) {
            scsi_threshold_check(t->lu);
        }
    }
}

void scsi_task_begin(struct scsi_task *t)
{
    bool action_bad;
    const struct scsi_command *c = scsi_command_find(t->cdb, t->cdb_len, &action_bad);
    uint32_t lun = scsi_lun_decode(t->lun_raw);
    t->nexus->tasks++;
    look_up(t, c, lun);
    bool goes_on = t->status == SCSI_GOOD && admit(t, c, lun);
    if (goes_on && !c) {
        if (action_bad) {
            scsi_fail_cdb(t, 1, 4);
        } else {
            scsi_fail(t, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
        }
        goes_on = false;
    }
    goes_on = goes_on && examine(t, c);
    if (goes_on && (c->flags & SCSI_CMD_QUICK) && (!t->lu || scsi_taskset_is_free(t))) {
        c->run(t);
        goes_on = false;
    }
    if (!goes_on) {
        t->ended = true;
        t->dir = SCSI_DIR_NONE;
        t->data_len = 0;
        finish(t);
        return;
    }
    if (t->dir == SCSI_DIR_OUT) {
        t->out_wanted = t->transport_write ? MIN_OF(t->data_len, t->edtl) : 0;
        t->takes_space = (c->flags & SCSI_CMD_SPACE) && t->out_wanted > 0;
    }
}

void scsi_task_turn(struct scsi_task *t)
{
    if (t->turned || t->ended || !t->lu) {
        return;
    }
    t->turned = true;
    scsi_taskset_turn(t);
}

int scsi_task_take_space(struct scsi_task *t, uint64_t deadline_ns)
{
    ASSERT(t->takes_space && t->space.bytes == 0);
    return vol_space_take(dev_volume(t->lu->dev), t->out_wanted, deadline_ns, &t->space);
}

void scsi_task_run(struct scsi_task *t)
{
    if (t->ended) {
        return;
    }
    scsi_task_turn(t);
    if (likely(!scsi_task_is_aborted(t))) {
        t->command->run(t);
    }
    t->ended = true;
    finish(t);
}

bool scsi_task_run_ready(struct scsi_task *t)
{
    if (t->ended) {
        return true;
    }
    if (t->command->run != scsi_read_run || !scsi_taskset_is_free(t) || scsi_task_is_aborted(t) ||
        !scsi_read_ready(t)) {
        return false;
    }
    t->ended = true;
    finish(t);
    return true;
}

void scsi_task_end(struct scsi_task *t)
{
    struct scsi_nexus *n = t->nexus;
    if (unlikely(t->tells_loss)) {
        scsi_task_untold(t);
    }
    if (likely(t->lu)) {
        scsi_stats_end(t);
    }
    chain_free(&t->data_in);
    chain_free(&t->data_out);
    if (t->lu) {
        if (t->space.bytes > 0) {
            vol_space_release(dev_volume(t->lu->dev), &t->space);
        }
        scsi_taskset_leave(t);
    }
    n->tasks--;
    if (unlikely(n->closing)) {
        scsi_bell_ring(&n->target->bell);
    }
}

/*
 * SPDTL, what the command itself would move, against EDTL. A command that failed before it moved
 * anything leaves all of EDTL over.
 */
void scsi_task_residual(const struct scsi_task *t, uint64_t *ret_count, bool *ret_under,
                        bool *ret_over)
{
    uint64_t expected = t->transport_read || t->transport_write ? t->edtl : 0;
    uint64_t wanted = 0;
    if (t->dir == SCSI_DIR_IN) {
        wanted = t->in_total;
    } else if (t->dir == SCSI_DIR_OUT) {
        wanted = t->data_len;
    }
    bool matching = (t->dir == SCSI_DIR_IN && t->transport_read) ||
                    (t->dir == SCSI_DIR_OUT && t->transport_write);
    uint64_t movable = matching ? expected : 0;
    *ret_over = wanted > movable;
    *ret_under = !*ret_over && wanted < expected;
    *ret_count = *ret_over ? wanted - movable : expected - wanted;
}
